//! Graph files and the models that they belong to.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use lrpc_ir::ops::{Op, Source};
use lrpc_ir::{DType, Graph, TensorType, text, verify};
use lrpc_kernels::{RunError, RunErrorKind, WeightSource};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, GraphFileError};
use crate::machine;
use crate::onnx::{ImportOptions, ModelError, ModelFile, TensorRef};

/// The largest graph file that is read, in bytes.
const MAX_GRAPH_BYTES: u64 = 1 << 30;

/// How every graph file begins.
const GRAPH_START: &[u8] = b"lrpc ";

/// A graph that was read from its file.
#[derive(Debug)]
pub struct LoadedGraph {
    /// The graph, verified.
    pub graph: Graph,
    /// SHA-256 of its text, in hexadecimal.
    pub hash: String,
    /// The file.
    pub path: PathBuf,
}

/// Reads and verifies the graph file at `path`.
///
/// # Errors
/// A file that cannot be read, is not in the format, or breaks an invariant.
pub fn load_graph(path: &Path) -> Result<LoadedGraph, Error> {
    let load = || -> Result<LoadedGraph, GraphFileError> {
        if looks_like_model(path)? {
            return Err(GraphFileError::IsModel);
        }
        let size = std::fs::metadata(path)?.len();
        if size > MAX_GRAPH_BYTES {
            let reason = format!("it has {size} bytes, the limit is {MAX_GRAPH_BYTES}");
            return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, reason).into());
        }
        let content = std::fs::read(path)?;
        let content = String::from_utf8(content)
            .map_err(|_| std::io::Error::new(std::io::ErrorKind::InvalidData, "it is no text, so no graph file"))?;
        let graph = text::parse(&content)?;
        verify::verify(&graph)?;
        Ok(LoadedGraph { graph, hash: sha256(content.as_bytes()), path: path.to_path_buf() })
    };
    load().map_err(|reason| Error::GraphFile { path: path.to_path_buf(), reason })
}

/// Whether the file is named like an ONNX model or begins like one: with field 1, the version.
fn looks_like_model(path: &Path) -> std::io::Result<bool> {
    let start = first_bytes(path)?;
    let named_so = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"));
    Ok(!start.starts_with(GRAPH_START) && (named_so || start.first() == Some(&0x08)))
}

/// Whether the file begins like a graph file.
pub fn looks_like_graph(path: &Path) -> bool {
    first_bytes(path).is_ok_and(|start| start.starts_with(GRAPH_START))
}

fn first_bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut start = Vec::new();
    std::fs::File::open(path)?.take(GRAPH_START.len() as u64).read_to_end(&mut start)?;
    Ok(start)
}

impl LoadedGraph {
    /// Where the graph file says that its model is, if it names one.
    pub fn model_path(&self) -> Option<PathBuf> {
        self.graph.model.as_ref().map(|reference| self.stated_path(&reference.path))
    }

    fn stated_path(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }

    /// Opens the model that the graph was compiled from: at `model` if given, else where the graph file says, seen from
    /// its folder. Size and structure must be those of the model that was compiled.
    ///
    /// # Errors
    /// A model that is not there, is refused, or is another one.
    pub fn open_model(&self, model: Option<&Path>, import: &ImportOptions) -> Result<ModelFile, Error> {
        let refuse = |reason| Error::GraphFile { path: self.path.clone(), reason };
        let reference = self.graph.model.as_ref().ok_or_else(|| refuse(GraphFileError::NoModel))?;
        let path = match model {
            Some(path) => path.to_path_buf(),
            None => self.stated_path(&reference.path),
        };
        if model.is_none() && !path.exists() {
            return Err(refuse(GraphFileError::ModelMissing { model: path }));
        }
        let opened = ModelFile::open_with(&path, &import.limits, import.weights);
        let file = opened.map_err(|error: ModelError| Error::Import(error.into()))?;
        let structure = file.structure_hash();
        let difference = if file.size() != reference.bytes {
            format!("it has {} bytes, the graph's model had {}", file.size(), reference.bytes)
        } else if structure != reference.structure {
            format!("its structure is sha256:{structure}, the graph's model had sha256:{}", reference.structure)
        } else {
            return Ok(file);
        };
        Err(refuse(GraphFileError::OtherModel { model: path, difference }))
    }
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The weights of a graph, where they lie in the model file.
#[derive(Debug, Default)]
pub struct ModelWeights {
    bytes: BTreeMap<String, Bytes>,
}

impl ModelWeights {
    /// Finds every weight of `graph` in `file`.
    ///
    /// # Errors
    /// A weight that is not there, or of another type or shape; weights that are made up and need more memory than the
    /// machine has. `path` is the graph's, for the error.
    pub fn locate(graph: &Graph, file: &ModelFile, path: &Path) -> Result<ModelWeights, Error> {
        let mut bytes = BTreeMap::new();
        let sizes = graph.weights().into_keys().filter_map(|name| Some(file.weight(name)?.made_up()));
        let needed = sizes.fold(0, u64::saturating_add);
        let limit = machine::default_memory_limit().unwrap_or(u64::MAX);
        if needed > limit {
            let kind = RunErrorKind::Memory { needed, limit };
            return Err(RunError { kind, step: None, operands: Vec::new() }.into());
        }
        for (name, value) in graph.weights() {
            let found = file.weight(name).ok_or_else(|| "there is none of that name".to_string());
            let fits = found.and_then(|tensor| check_type(graph.ty(value), &tensor).map(|()| tensor));
            let tensor = fits.map_err(|difference| Error::GraphFile {
                path: path.to_path_buf(),
                reason: GraphFileError::Weight { name: name.into(), model: file.path().to_path_buf(), difference },
            })?;
            bytes.insert(name.to_string(), tensor.bytes());
        }
        Ok(ModelWeights { bytes })
    }
}

fn check_type(declared: &TensorType, found: &TensorRef) -> Result<(), String> {
    let same_shape = declared.rank() == found.dims().len()
        && declared.shape.iter().zip(found.dims()).all(|(dim, &size)| dim.known() == i64::try_from(size).ok());
    let dtype: DType = found.dtype();
    if dtype == declared.dtype && same_shape {
        return Ok(());
    }
    Err(format!("the graph states {declared}, the model has {dtype}{:?}", found.dims()))
}

impl WeightSource for ModelWeights {
    fn weight(&self, name: &str, sidecar: bool) -> Result<Cow<'_, [u8]>, String> {
        if sidecar {
            return Err("it lies in a sidecar file, which this version does not read".into());
        }
        let bytes = self.bytes.get(name).ok_or("the model has none of that name")?;
        Ok(Cow::Borrowed(bytes))
    }
}

/// Whether the graph needs a model's weights.
pub fn needs_weights(graph: &Graph) -> bool {
    graph.ids().any(|node| matches!(graph.node(node).op, Op::Source(Source::Weight(..))))
}
