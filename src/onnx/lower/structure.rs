//! Checks of a graph's structure before any node is lowered: names, definitions, order.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::finding::{Finding, FindingKind, Operator};
use crate::onnx::file::{ModelFile, canonical_domain};
use crate::onnx::proto::{GraphProto, NodeProto};

/// The name by which findings and provenance speak of a node.
pub(super) fn node_name(node: &NodeProto) -> String {
    match (node.name(), node.output.iter().find(|name| !name.is_empty())) {
        ("", Some(output)) => output.clone(),
        ("", None) => format!("unnamed {}", node.op_type()),
        (name, _) => name.to_string(),
    }
}

/// The operator of a node, as findings name it.
pub(super) fn operator(file: &ModelFile, node: &NodeProto) -> Operator {
    Operator {
        name: node.op_type().to_string(),
        domain: canonical_domain(node.domain()).to_string(),
        opset: file.opset_of(node),
    }
}

/// Checks that every name is defined once and before it is used.
pub(super) fn check(file: &ModelFile) -> Vec<Finding> {
    let graph = file.graph();
    let mut findings = Vec::new();
    let producers = producers(file, &mut findings);
    let cyclic = cyclic_nodes(graph, &producers);
    let mut defined: HashSet<&str> = outer_names(graph).collect();
    for (index, node) in graph.node.iter().enumerate() {
        let mut report = |reason| findings.push(finding(file, node, reason));
        if cyclic.contains(&index) {
            report("it is part of a cycle".to_string());
        } else {
            for name in reads(node).into_iter().filter(|name| !defined.contains(name)) {
                report(match producers.get(name).and_then(|producer| graph.node.get(*producer)) {
                    Some(producer) => format!("it reads {name:?} before {:?} makes it", node_name(producer)),
                    None => format!("it reads {name:?}, which nothing defines"),
                });
            }
        }
        defined.extend(node.output.iter().map(String::as_str));
    }
    for output in graph.output.iter().filter(|output| !defined.contains(output.name())) {
        findings.push(Finding {
            kind: FindingKind::Invalid,
            node: output.name().to_string(),
            operator: None,
            reason: "nothing defines this graph output".into(),
        });
    }
    findings
}

/// Every name that a node, a graph output or a nested graph reads.
pub(super) fn used_names(graph: &GraphProto) -> HashSet<&str> {
    graph.node.iter().flat_map(reads).chain(graph.output.iter().map(|output| output.name())).collect()
}

fn finding(file: &ModelFile, node: &NodeProto, reason: String) -> Finding {
    Finding { kind: FindingKind::Invalid, node: node_name(node), operator: Some(operator(file, node)), reason }
}

fn outer_names(graph: &GraphProto) -> impl Iterator<Item = &str> {
    let inputs = graph.input.iter().map(|input| input.name());
    let weights = graph.initializer.iter().map(|tensor| tensor.name());
    let sparse = graph.sparse_initializer.iter().filter_map(|tensor| Some(tensor.values.as_ref()?.name()));
    inputs.chain(weights).chain(sparse)
}

/// Which node makes which name; names that are made twice are found.
fn producers<'m>(file: &'m ModelFile, findings: &mut Vec<Finding>) -> HashMap<&'m str, usize> {
    let graph = file.graph();
    let outer: HashSet<&str> = outer_names(graph).collect();
    let mut producers = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            if outer.contains(output.as_str()) || producers.insert(output.as_str(), index).is_some() {
                findings.push(finding(file, node, format!("it defines {output:?}, which is defined already")));
            }
        }
    }
    let mut inputs = BTreeSet::new();
    for input in graph.input.iter().filter(|input| !inputs.insert(input.name())) {
        findings.push(Finding {
            kind: FindingKind::Invalid,
            node: input.name().to_string(),
            operator: None,
            reason: "two graph inputs have this name".into(),
        });
    }
    producers
}

/// The names that a node reads: its inputs, and what nested graphs capture from outside.
fn reads(node: &NodeProto) -> Vec<&str> {
    let mut names: Vec<&str> = node.input.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    for graph in node.attribute.iter().flat_map(|attribute| attribute.g.as_deref().into_iter().chain(&attribute.graphs))
    {
        captures(graph, &mut names);
    }
    names
}

fn captures<'m>(graph: &'m GraphProto, into: &mut Vec<&'m str>) {
    let nodes = graph.node.iter().flat_map(|node| &node.output).map(String::as_str);
    let own: HashSet<&str> = outer_names(graph).chain(nodes).collect();
    into.extend(used_names(graph).into_iter().filter(|name| !own.contains(name)).collect::<BTreeSet<_>>());
}

/// The nodes on a cycle, or between two.
fn cyclic_nodes(graph: &GraphProto, producers: &HashMap<&str, usize>) -> BTreeSet<usize> {
    let mut successors: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut predecessors: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        for producer in reads(node).into_iter().filter_map(|name| producers.get(name)) {
            successors.entry(*producer).or_default().push(index);
            predecessors.entry(index).or_default().push(*producer);
        }
    }
    let all: BTreeSet<usize> = (0..graph.node.len()).collect();
    peel(peel(all, &predecessors, &successors), &successors, &predecessors)
}

/// `nodes` without those that nothing in `nodes` leads to by `before`, again and again.
fn peel(
    mut nodes: BTreeSet<usize>,
    before: &BTreeMap<usize, Vec<usize>>,
    after: &BTreeMap<usize, Vec<usize>>,
) -> BTreeSet<usize> {
    let inside = |nodes: &BTreeSet<usize>, node: &usize| {
        before.get(node).map_or(0, |list| list.iter().filter(|other| nodes.contains(other)).count())
    };
    let mut left: BTreeMap<usize, usize> = nodes.iter().map(|node| (*node, inside(&nodes, node))).collect();
    let mut ready: Vec<usize> = left.iter().filter(|(_, count)| **count == 0).map(|(node, _)| *node).collect();
    while let Some(node) = ready.pop() {
        nodes.remove(&node);
        for next in after.get(&node).into_iter().flatten() {
            if let Some(count) = left.get_mut(next) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    ready.push(*next);
                }
            }
        }
    }
    nodes
}
