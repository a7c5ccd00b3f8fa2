//! What a name on the command line stands for: a tensor, a node's output, a module's output, or all that fit a pattern.
//!
//! The first of these that fits is meant: a tensor of exactly that name; a node of exactly that name, for its outputs; a
//! module, for what it gives to the rest of the model. Names with `*` and `?` are patterns for tensors, or for nodes where
//! no tensor fits. Modules are what exporters write into the names of nodes: `features.28` is the module of the node
//! `/features/features.28/Conv`, and the last part, here `Conv`, is no module.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use lrpc_ir::ops::{Op, Source};
use lrpc_ir::{Diagnostic, Graph, Value};
use lrpc_passes::names::matches;

use crate::onnx::Imported;
use crate::onnx::proto::NodeProto;

/// The most names that a finding lists.
const LISTED: usize = 5;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// ONNX names of tensors, and their values.
    pub tensors: Vec<(String, Value)>,
    /// Whether a pattern found them, rather than a name.
    pub by_pattern: bool,
}

/// Finds what `name` stands for. `flag` is where it was given, for messages.
///
/// # Errors
/// Names that stand for nothing, or for several modules.
pub fn find(imported: &Imported, flag: &str, name: &str) -> Result<Found, Diagnostic> {
    if let Some(&value) = imported.values.get(name) {
        return Ok(Found { tensors: vec![(name.to_string(), value)], by_pattern: false });
    }
    let nodes = &imported.file.graph().node;
    let is_pattern = name.contains(['*', '?']);
    if is_pattern {
        let tensors = activations(imported).filter(|(tensor, _)| matches(name, tensor));
        let tensors: Vec<(String, Value)> = tensors.map(|(tensor, value)| (tensor.to_string(), value)).collect();
        if !tensors.is_empty() {
            return Ok(Found { tensors, by_pattern: true });
        }
    }
    let of_nodes = |fits: &dyn Fn(&NodeProto) -> bool| {
        let outputs = nodes.iter().filter(|node| fits(node)).flat_map(|node| &node.output);
        computed(imported, outputs.map(String::as_str))
    };
    let tensors = of_nodes(&|node| match is_pattern {
        true => matches(name, node.name()),
        false => node.name() == name,
    });
    if !tensors.is_empty() {
        return Ok(Found { tensors, by_pattern: is_pattern });
    }
    let tensors = if is_pattern { Vec::new() } else { of_module(imported, flag, name)? };
    match tensors.is_empty() {
        true => Err(unknown(imported, flag, name)),
        false => Ok(Found { tensors, by_pattern: false }),
    }
}

/// Whether `value` is computed from something, or given: no weight and no literal.
pub fn is_activation(graph: &Graph, value: Value) -> bool {
    let source = matches!(&graph.node(value.node).op, Op::Source(source) if !matches!(source, Source::Input(_)));
    !source && graph.ty(value).dtype.is_float()
}

/// Whether `value` is a floating-point weight, which may have relevance of its own.
pub fn is_weight(graph: &Graph, value: Value) -> bool {
    matches!(&graph.node(value.node).op, Op::Source(Source::Weight(..))) && graph.ty(value).dtype.is_float()
}

fn activations(imported: &Imported) -> impl Iterator<Item = (&str, Value)> {
    let values = imported.values.iter().map(|(name, &value)| (name.as_str(), value));
    values.filter(|(_, value)| is_activation(&imported.graph, *value))
}

/// The floating-point tensors among `names` that the model computes.
fn computed<'a>(imported: &Imported, names: impl Iterator<Item = &'a str>) -> Vec<(String, Value)> {
    let values = names.filter_map(|name| Some((name.to_string(), *imported.values.get(name)?)));
    values.filter(|(_, value)| is_activation(&imported.graph, *value)).collect()
}

/// The module that a node's name holds: the parts of the name up to and with `parts`, of which the last names the node.
fn module<'n>(node: &'n NodeProto, parts: &[&str]) -> Option<Vec<&'n str>> {
    let path: Vec<&str> = node.name().split('/').filter(|part| !part.is_empty()).collect();
    let (_, scopes) = path.split_last()?;
    let start = scopes.windows(parts.len().max(1)).position(|window| window == parts)?;
    scopes.get(..start.checked_add(parts.len())?).map(<[&str]>::to_vec)
}

/// What the module gives to the rest of the model.
fn of_module(imported: &Imported, flag: &str, name: &str) -> Result<Vec<(String, Value)>, Diagnostic> {
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty()).collect();
    let file = imported.file.graph();
    let mut made: BTreeMap<Vec<&str>, Vec<&str>> = BTreeMap::new();
    let mut used_outside: HashSet<&str> = file.output.iter().map(|output| output.name()).collect();
    for node in &file.node {
        match module(node, &parts) {
            Some(path) => made.entry(path).or_default().extend(node.output.iter().map(String::as_str)),
            None => used_outside.extend(node.input.iter().map(String::as_str)),
        }
    }
    if made.len() > 1 {
        let paths: Vec<String> = made.keys().map(|path| format!("/{}", path.join("/"))).collect();
        let message = format!("{flag} {name}: {} modules are called so: {}", paths.len(), listed(&paths));
        return Err(Diagnostic::request(message).help("write more of the path, or a pattern with `*` for all of them"));
    }
    let made = made.into_values().flatten().filter(|output| used_outside.contains(output));
    Ok(computed(imported, made))
}

fn listed(names: &[String]) -> String {
    let more = if names.len() > LISTED { ", …" } else { "" };
    format!("{}{more}", names.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join(", "))
}

/// Whether a graph that the node holds has a node or a tensor of that name.
fn holds(node: &NodeProto, name: &str) -> bool {
    let graphs =
        node.attribute.iter().flat_map(|attribute| attribute.g.as_deref().into_iter().chain(&attribute.graphs));
    let mut nodes = graphs.flat_map(|graph| &graph.node);
    nodes.any(|inner| inner.name() == name || inner.output.iter().any(|output| output == name) || holds(inner, name))
}

/// Nothing is called so. Shown are names that hold the last part of the one that was given, or else those that begin like
/// it.
fn unknown(imported: &Imported, flag: &str, name: &str) -> Diagnostic {
    if let Some(holder) = imported.file.graph().node.iter().find(|node| holds(node, name)) {
        let (op, outputs) = (holder.op_type(), listed(&holder.output));
        return Diagnostic::request(format!("{flag} {name}: it is computed inside a {op}, again in every run"))
            .at(holder.name())
            .help(format!("relevance is given outside of it; its results are {outputs}"));
    }
    let message =
        format!("{flag} {name}: the model computes no tensor of that name, and has no node or module called so");
    let nodes = imported.file.graph().node.iter().map(|node| node.name());
    let known = |value: Value| is_activation(&imported.graph, value) || is_weight(&imported.graph, value);
    let tensors = imported.values.iter().filter(|(_, value)| known(**value)).map(|(name, _)| name.as_str());
    let names: BTreeSet<&str> = tensors.chain(nodes).filter(|name| !name.is_empty()).collect();
    let last = name.rsplit(['/', '.', '*', '?']).find(|part| !part.is_empty()).unwrap_or(name).to_lowercase();
    let holds: Vec<&str> = names.iter().copied().filter(|name| name.to_lowercase().contains(&last)).collect();
    let common = |other: &str| name.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
    let most = names.iter().map(|other| common(other)).max().filter(|&most| most > 1);
    let begin: Vec<&str> = names.iter().copied().filter(|other| Some(common(other)) == most).collect();
    let shown = |names: Vec<&str>| names.into_iter().take(LISTED).collect::<Vec<_>>().join(", ");
    Diagnostic::request(message).help(match (holds.is_empty(), begin.is_empty()) {
        (false, _) => format!("similar names: {}", shown(holds)),
        (true, false) => format!("similar names: {}", shown(begin)),
        (true, true) => {
            format!("some that it computes: {}", shown(activations(imported).map(|(name, _)| name).collect()))
        }
    })
}

#[cfg(test)]
mod tests {
    use lrpc_ir::DType;
    use prost::Message as _;

    use super::*;
    use crate::onnx::proto::tensor_shape_proto::{Dimension, dimension};
    use crate::onnx::proto::{
        GraphProto, ModelProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
    };
    use crate::onnx::{ImportOptions, import};

    fn value(name: &str) -> ValueInfoProto {
        let size = Dimension { value: Some(dimension::Value::DimValue(4)), ..Default::default() };
        let tensor = type_proto::Tensor { elem_type: Some(1), shape: Some(TensorShapeProto { dim: vec![size] }) };
        let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
        ValueInfoProto { name: Some(name.into()), r#type: Some(ty), ..Default::default() }
    }

    /// Three layers of two nodes each, and a second output that reads the first of them.
    fn layers() -> Imported {
        let node = |op: &str, name: &str, input: &str, output: &str| NodeProto {
            op_type: Some(op.into()),
            name: Some(name.into()),
            input: vec![input.into()],
            output: vec![output.into()],
            ..Default::default()
        };
        let mut nodes = Vec::new();
        let mut last = "x".to_string();
        for layer in 0..3 {
            let [path, inner] = ["act", "norm"].map(|part| format!("/layers/layers.{layer}/{part}"));
            nodes.push(node("Tanh", &format!("{inner}/Tanh"), &last, &format!("{inner}/Tanh_output_0")));
            last = format!("{path}/Relu_output_0");
            nodes.push(node("Relu", &format!("{path}/Relu"), &format!("{inner}/Tanh_output_0"), &last));
        }
        nodes.push(node("Exp", "/head/Exp", &last, "y"));
        nodes.push(node("Exp", "/other/Exp", "/layers/layers.0/act/Relu_output_0", "u"));
        let output = ["y", "u"].map(value).to_vec();
        let graph = GraphProto { node: nodes, input: vec![value("x")], output, ..Default::default() };
        let opset = OperatorSetIdProto { domain: None, version: Some(17) };
        let model =
            ModelProto { ir_version: Some(8), opset_import: vec![opset], graph: Some(graph), ..Default::default() };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        std::fs::write(&path, model.encode_to_vec()).unwrap();
        import(&path, &ImportOptions::default()).unwrap()
    }

    #[test]
    fn the_first_kind_that_fits_is_meant() {
        let imported = layers();
        assert_eq!(imported.graph.ty(imported.values["y"]).dtype, DType::F32);
        let names = |name: &str| -> Result<Vec<String>, String> {
            let found =
                find(&imported, "--wrt", name).map_err(|finding| format!("{} {:?}", finding.message, finding.help))?;
            Ok(found.tensors.into_iter().map(|(tensor, _)| tensor).collect())
        };
        let relu = |layer: usize| format!("/layers/layers.{layer}/act/Relu_output_0");
        assert_eq!(names(&relu(1)).unwrap(), [relu(1)]);
        assert_eq!(names("/layers/layers.1/act/Relu").unwrap(), [relu(1)]);
        assert_eq!(names("layers.1").unwrap(), [relu(1)]);
        assert_eq!(names("/layers/layers.1/").unwrap(), [relu(1)]);
        assert_eq!(names("layers.1/norm").unwrap(), ["/layers/layers.1/norm/Tanh_output_0"]);
        // The whole stack gives its last tensor, and the one that is read beside it.
        assert_eq!(names("layers").unwrap(), [relu(0), relu(2)]);
        assert_eq!(names("*/Relu_output_0").unwrap(), [relu(0), relu(1), relu(2)]);
        assert_eq!(names("*/Relu").unwrap(), [relu(0), relu(1), relu(2)]);
        assert!(names("act").unwrap_err().contains("3 modules are called so: /layers/layers.0/act"));
        assert!(names("layers.4").unwrap_err().contains("has no node or module called so"));
        assert!(names("Relu").unwrap_err().contains("similar names: /layers/layers.0/act/Relu"));
    }

    #[test]
    fn modules_are_parts_of_the_names_of_nodes() {
        let node = |name: &str| NodeProto { name: Some(name.into()), ..NodeProto::default() };
        let found = |name: &str, parts: &[&str]| module(&node(name), parts).map(|path| path.join("/"));
        let name = "/features/features.28/conv/Conv";
        assert_eq!(found(name, &["features.28"]).unwrap(), "features/features.28");
        assert_eq!(found(name, &["features.28", "conv"]).unwrap(), "features/features.28/conv");
        assert_eq!(found(name, &["features"]).unwrap(), "features");
        for parts in [&["Conv"][..], &["features.2"], &["conv", "features.28"], &[]] {
            assert!(found(name, parts).is_none_or(|path| path.is_empty()), "{parts:?}");
        }
    }
}
