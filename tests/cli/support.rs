//! Running the program in a folder of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lrpc::data::{Tensor, TensorFile};
use tempfile::TempDir;

/// The example network: `input` f32[N, 1, 28, 28] → `logits` f32[N, 10].
pub fn mnist() -> PathBuf {
    repository("examples/mnist/mnist_cnn.onnx")
}

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A folder in which the program is run; gone with the test.
pub struct Place(TempDir);

/// What a run of the program gave.
pub struct Answer {
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    /// The answer, which must be good.
    pub fn good(self) -> Answer {
        self.status(0)
    }

    pub fn status(self, status: i32) -> Answer {
        assert_eq!(self.status, status, "{}", self.stderr);
        self
    }

    /// The answer, whose messages must hold these words and speak of no bug.
    pub fn says(self, words: &[&str]) -> Answer {
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in: {}", self.stderr);
        }
        assert!(!self.stderr.contains("bug of lrpc"), "{}", self.stderr);
        self
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Answer {
        let stderr = String::from_utf8(output.stderr).unwrap();
        // A process that a signal ended has no status.
        Answer { status: output.status.code().unwrap_or(-1), stdout: output.stdout, stderr }
    }
}

impl Place {
    pub fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    /// A place with the example network compiled under `flags` to `m.graph`.
    pub fn compiled(flags: &[&str]) -> Place {
        let place = Place::new();
        place.compile(&mnist(), "m.graph", flags).good();
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lrpc"));
        command.args(arguments).current_dir(self.0.path());
        command
    }

    pub fn lrpc(&self, arguments: &[&str]) -> Answer {
        self.command(arguments).output().unwrap().into()
    }

    pub fn compile(&self, model: &Path, graph: &str, flags: &[&str]) -> Answer {
        let model = model.to_str().unwrap();
        self.lrpc(&[&["compile", model, "-o", graph], flags].concat())
    }

    /// Runs `m.graph` on `x.npz`, into `r.npz`.
    pub fn run(&self, flags: &[&str]) -> Answer {
        self.lrpc(&[&["run", "m.graph", "--inputs", "x.npz", "-o", "r.npz"], flags].concat())
    }

    pub fn write(&self, name: &str, tensors: &[(&str, Tensor)]) {
        let tensors: BTreeMap<String, Tensor> =
            tensors.iter().map(|(name, tensor)| (name.to_string(), tensor.clone())).collect();
        TensorFile { tensors, manifest: None }.write(&self.path(name)).unwrap();
    }

    pub fn read(&self, name: &str) -> TensorFile {
        TensorFile::read(&self.path(name), 1 << 30).unwrap()
    }

    pub fn manifest(&self, name: &str) -> serde_json::Value {
        serde_json::from_str(&self.read(name).manifest.unwrap()).unwrap()
    }

    /// Names of all files, in order.
    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Digits for the example network: sample `n` is a pattern that depends on `n` and `seeds[n]`.
pub fn digits(seeds: &[u32]) -> Tensor {
    let pixel = |seed: u32, at: u32| ((at.wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(40_503)) >> 8) % 256;
    let pixels: Vec<f32> =
        seeds.iter().flat_map(|&seed| (0..784).map(move |at| pixel(seed, at) as f32 / 255.0)).collect();
    Tensor::from_slice(&[seeds.len(), 1, 28, 28], &pixels).unwrap()
}
