//! Inputs of a model on the command line.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use lrpc_ir::Diagnostic;

use super::flags;
use super::paths::Input;
use crate::data::{Format, Tensor, TensorFile, read_tensor};
use crate::error::Error;

/// What a model reads.
#[derive(Debug, Args)]
pub(super) struct InputFlags {
    /// Inputs by ONNX name, in an npz or safetensors file
    #[arg(long, value_name = "FILE")]
    inputs: Option<PathBuf>,
    /// One input: a file with one tensor
    #[arg(long = "input", value_name = "NAME=FILE", value_parser = flags::named_file)]
    input: Vec<(String, PathBuf)>,
}

impl InputFlags {
    /// What is read.
    pub(super) fn files(&self) -> impl Iterator<Item = Input<'_>> {
        let inputs = self.inputs.iter().chain(self.input.iter().map(|(_, path)| path));
        inputs.map(|path| ("an input", path.as_path()))
    }

    /// The tensors by ONNX name, of at most `memory_limit` bytes.
    ///
    /// # Errors
    /// Files that are refused, and names that are given twice.
    pub(super) fn read(&self, memory_limit: Option<u64>) -> Result<BTreeMap<String, Tensor>, Error> {
        let limit = memory_limit.unwrap_or(u64::MAX);
        let mut inputs = BTreeMap::new();
        if let Some(path) = &self.inputs {
            if Format::of(path)? == Format::Npy {
                let message = format!("--inputs {}: an npy file holds no names", path.display());
                return Err(Diagnostic::request(message).help("give it as --input NAME=FILE").into());
            }
            inputs = TensorFile::read(path, limit)?.tensors;
        }
        for (name, path) in &self.input {
            if inputs.insert(name.clone(), read_tensor(path, limit)?).is_some() {
                return Err(Diagnostic::request(format!("input `{name}` is given twice")).into());
            }
        }
        Ok(inputs)
    }
}
