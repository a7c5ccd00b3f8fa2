//! Writes `src/onnx/operators.txt`: the standard's operators, their versions, and the relevance classes they have here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lrpc::data::TensorFile;
use lrpc::onnx::lower::operators;
use lrpc::onnx::{ImportOptions, Imported, import};
use lrpc_ir::ops::{Op, Source};
use lrpc_ir::{Graph, Value};
use lrpc_passes::compile::{Options, survey};
use lrpc_passes::relevance::composite::Composite;
use serde_json::Value as Json;

use crate::conformance::case::{MAX_BYTES, asked_for};
use crate::models::{folders, models};

/// What the file says of itself.
const HEAD: &str = "# Operators of ONNX, versions in which their definition changed, relevance classes of the operations that they become.
# Written by `cargo run -p lrpc-xtask -- operators FOLDER` from the folder of conformance cases.
";

/// Classes of an operator by domain and name: those of every model whose one node it is.
type Classes = BTreeMap<(String, String), BTreeSet<&'static str>>;

/// The list, from the conformance cases in `folder` and the models of single operators in `models`.
///
/// # Errors
/// Folders that cannot be read.
pub(crate) fn list(folder: &Path, own: &Path) -> Result<String, String> {
    let path = folder.join("cases.json");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let cases: Json = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in folders(folder)?.iter().chain(&folders(own)?) {
        files.extend(models(folder)?.into_iter().filter(|model| model.ends_with("model.onnx")));
    }
    let mut classes = Classes::new();
    files.iter().for_each(|model| add_classes(&mut classes, model));
    let mut versions: BTreeMap<(String, String), Vec<i64>> = BTreeMap::new();
    for (name, schema) in cases["operators"].as_object().into_iter().flatten() {
        let numbers = schema.as_array().into_iter().flatten().filter_map(Json::as_i64).collect();
        versions.insert((String::new(), name.clone()), numbers);
    }
    operators().for_each(|def| {
        versions.entry((def.domain.to_string(), def.name.to_string())).or_default();
    });
    let mut out = String::from(HEAD);
    for (key, numbers) in versions {
        let found = classes.get(&key).map(|classes| classes.iter().copied().collect::<Vec<_>>()).unwrap_or_default();
        let numbers: Vec<String> = numbers.iter().map(i64::to_string).collect();
        let word = |words: String| if words.is_empty() { "-".to_string() } else { words };
        let name = if key.0.is_empty() { key.1 } else { format!("{}:{}", key.0, key.1) };
        out.push_str(&format!("{name} {} {}\n", word(numbers.join(",")), word(found.join(","))));
    }
    Ok(out)
}

/// The model, with the inputs of its case that import asks for.
fn imported(model: &Path) -> Option<Imported> {
    let inputs = TensorFile::read(&model.with_file_name("inputs.safetensors"), MAX_BYTES);
    let inputs = inputs.map(|file| file.tensors).unwrap_or_default();
    let mut options = ImportOptions::default();
    loop {
        let error = match import(model, &options) {
            Ok(imported) => return Some(imported),
            Err(error) => error.to_string(),
        };
        let known = options.given.len();
        options.given.extend(asked_for(&error, &inputs));
        if options.given.len() == known {
            return None;
        }
    }
}

/// Adds the classes of the only node of `model`. A model that is refused has none.
fn add_classes(classes: &mut Classes, model: &Path) {
    let Some(Imported { graph, file, .. }) = imported(model) else { return };
    let mut nodes = file.graph().node.iter().filter(|node| node.op_type() != "Constant");
    let node = match (nodes.next(), nodes.next()) {
        (Some(node), None) => Some(node),
        // A model of constants alone is of the operator that makes them.
        (None, None) => file.graph().node.first(),
        _ => None,
    };
    let Some(node) = node else { return };
    let domain = if node.domain() == "ai.onnx" { "" } else { node.domain() };
    let own = classes.entry((domain.to_string(), node.op_type().to_string())).or_default();
    let found = classes_of(&graph);
    // What is folded with one kind of input is an operation with another.
    own.extend(found);
    if own.len() > 1 {
        own.remove("folded");
        own.remove("none");
    }
}

/// The classes of a graph's operations over its floating-point inputs, together and one by one.
fn classes_of(graph: &Graph) -> BTreeSet<&'static str> {
    let is_source = |node| matches!(graph.node(node).op, Op::Source(_));
    let is_input = |value: Value| matches!(graph.node(value.node).op, Op::Source(Source::Input(_)));
    if graph.ids().all(is_source) && !graph.results.iter().any(|result| is_input(result.value)) {
        return BTreeSet::from(["folded"]);
    }
    let floats = graph.inputs().into_iter().filter(|input| graph.ty(*input).dtype.is_float());
    let requests = floats.map(|input| vec![input]).chain([Vec::new()]);
    let mut classes = BTreeSet::new();
    for wrt in requests {
        let Ok(epsilon) = Composite::named("epsilon") else { continue };
        let options = Options { composites: vec![epsilon], wrt, ..Options::default() };
        // Where nothing depends on an input there is nothing to survey.
        let Ok(found) = survey(&mut graph.clone(), &options) else { continue };
        classes.extend(found.applications.iter().map(|one| one.class));
        classes.extend(found.missing.iter().map(|one| one.class));
    }
    if classes.is_empty() {
        classes.insert("none");
    }
    classes
}
