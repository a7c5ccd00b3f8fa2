//! A graph as a drawing for Graphviz: one cluster for each region.

use std::fmt::Write as _;

use lrpc_ir::graph::Region;
use lrpc_ir::ops::{Op, Source};
use lrpc_ir::{Graph, NodeId};

/// The drawing. Weights are left out: every linear map has some, and they hide what flows.
pub(super) fn print(graph: &Graph) -> String {
    let is_weight = |node: NodeId| matches!(graph.node(node).op, Op::Source(Source::Weight(..)));
    let order: Vec<NodeId> = graph.order().into_iter().filter(|&node| !is_weight(node)).collect();
    let mut out = String::from("digraph relevance {\n  rankdir=TB;\n  node [shape=box, fontname=monospace];\n");
    for region in [Region::Header, Region::Prepare, Region::Forward, Region::Relevance] {
        let _ = writeln!(out, "  subgraph \"cluster_{0}\" {{\n    label=\"{0}\";", region.name());
        for &node in order.iter().filter(|&&node| graph.node(node).region == region) {
            let content = graph.node(node);
            let types: Vec<String> = content.types().iter().map(ToString::to_string).collect();
            let label = format!("{} = {}\n{}", graph.name(node.into()), content.op.mnemonic(), types.join(", "));
            let _ = writeln!(out, "    {} [label={}];", quoted(graph.name(node.into())), quoted(&label));
        }
        out.push_str("  }\n");
    }
    for &node in &order {
        for operand in graph.operands(node).into_iter().filter(|operand| !is_weight(operand.node)) {
            let (from, to) = (graph.name(operand.node.into()), graph.name(node.into()));
            let style = if matches!(graph.node(node).op, Op::Promise) { " [style=dashed]" } else { "" };
            let _ = writeln!(out, "  {} -> {}{style};", quoted(from), quoted(to));
        }
    }
    for result in &graph.results {
        let to = quoted(&format!("result {}", result.name));
        let _ = writeln!(out, "  {to} [shape=oval];\n  {} -> {to};", quoted(graph.name(result.value.node.into())));
    }
    out.push_str("}\n");
    out
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
