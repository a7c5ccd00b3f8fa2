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

/// Nothing is called so; names that hold the last part of the one that was given are shown.
fn unknown(imported: &Imported, flag: &str, name: &str) -> Diagnostic {
    let message =
        format!("{flag} {name}: the model computes no tensor of that name, and has no node or module called so");
    let last = name.rsplit(['/', '.', '*', '?']).find(|part| !part.is_empty()).unwrap_or(name).to_lowercase();
    let nodes = imported.file.graph().node.iter().map(|node| node.name());
    let names = || activations(imported).map(|(name, _)| name).chain(nodes.clone());
    let alike: BTreeSet<&str> = names().filter(|name| name.to_lowercase().contains(&last)).collect();
    let shown = |names: &mut dyn Iterator<Item = &str>| names.take(LISTED).collect::<Vec<_>>().join(", ");
    Diagnostic::request(message).help(match alike.is_empty() {
        true => format!("some that it computes: {}", shown(&mut names())),
        false => format!("similar names: {}", shown(&mut alike.into_iter())),
    })
}
