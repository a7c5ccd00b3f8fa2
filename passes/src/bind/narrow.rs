//! Lets casts to half precision round. Narrow types are stored widened, so that a cast to one would change nothing.
//!
//! | before | after |
//! |---|---|
//! | `cast x : f16` in the program | `cast (narrow x {to=f16}) : f16` |
//!
//! Casts that rules make are left alone: they carry relevance, which no model rounds. In double precision nothing rounds.

use std::borrow::Cow;

use lrpc_ir::graph::Region;
use lrpc_ir::ops::Elementwise;
use lrpc_ir::plan::Precision;
use lrpc_ir::{DType, Diagnostic, Graph, NodeId, Op};

use super::rewrite;

/// The graph with rounding casts; nodes keep their ids.
pub(super) fn narrowed(graph: &Graph, precision: Precision) -> Result<Cow<'_, Graph>, Diagnostic> {
    let casts: Vec<NodeId> = graph.ids().filter(|&node| precision == Precision::F32 && rounds(graph, node)).collect();
    if casts.is_empty() {
        return Ok(Cow::Borrowed(graph));
    }
    let mut graph = graph.clone();
    for node in casts {
        let label = rewrite::label(&graph, node);
        let failed = |error: &dyn std::fmt::Display| Diagnostic::new(error.to_string()).at(label.clone());
        let Some(mut x) = graph.operand(node, 0) else { continue };
        let op = graph.node(node).op.clone();
        let Op::Elementwise(Elementwise::Cast(dtype)) = op else { continue };
        let wide = (!graph.ty(x).dtype.is_float()).then_some(Elementwise::Cast(DType::F32));
        for step in wide.into_iter().chain([Elementwise::Narrow(dtype)]) {
            let (region, origin) = (graph.node(node).region, graph.node(node).origin.clone());
            let name = graph.fresh_name(&format!("{}.rounded", graph.name(node.into())));
            let added = graph.add(region, Op::Elementwise(step), &[x], &name, origin);
            x = added.map_err(|error| failed(&error))?;
        }
        graph.set_op(node, op, &[x]).map_err(|error| failed(&error))?;
    }
    Ok(Cow::Owned(graph))
}

/// Whether the node is a cast of the program that loses digits.
fn rounds(graph: &Graph, node: NodeId) -> bool {
    let content = graph.node(node);
    let Op::Elementwise(Elementwise::Cast(dtype @ (DType::F16 | DType::Bf16))) = &content.op else { return false };
    let from = graph.operand(node, 0).map(|x| graph.ty(x).dtype);
    content.region != Region::Relevance && from.is_some_and(|from| from != *dtype && from != DType::Bool)
}
