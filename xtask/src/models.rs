//! Models of a folder, compiled and run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lrpc::data::{Tensor, TensorFile};
use lrpc::{CompileOptions, ModelWeights, RunOptions, RunOutcome, Session, compile_model};

/// The largest file of inputs or expectations that is read, in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// The folders in `folder`, in order.
pub(crate) fn folders(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut folders = entries(folder)?;
    folders.retain(|path| path.is_dir());
    Ok(folders)
}

/// The ONNX models in `folder`, in order.
pub(crate) fn models(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut files = entries(folder)?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    Ok(files)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    Ok(paths)
}

/// The name of a file or folder without the way to it.
pub(crate) fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The tensors of an npz file.
pub(crate) fn tensors(path: &Path) -> Result<BTreeMap<String, Tensor>, String> {
    TensorFile::read(path, MAX_BYTES).map(|file| file.tensors).map_err(|error| error.to_string())
}

/// Compiles `model` and runs it on those of `inputs` that it has.
pub(crate) fn explain(
    model: &Path,
    options: &CompileOptions,
    inputs: &BTreeMap<String, Tensor>,
    run: RunOptions,
) -> Result<RunOutcome, String> {
    let compiled = compile_model(model, options).map_err(|error| error.to_string())?;
    let weights = ModelWeights::locate(&compiled.graph, &compiled.file, model).map_err(|error| error.to_string())?;
    let own: Vec<&str> = compiled.graph.inputs().into_iter().map(|input| compiled.graph.name(input)).collect();
    let mut inputs = inputs.clone();
    inputs.retain(|name, _| own.contains(&name.as_str()));
    let mut session = Session::new(&compiled.graph, &weights, run);
    session.run(&inputs, &[], &BTreeMap::new(), None).map_err(|error| error.to_string())
}
