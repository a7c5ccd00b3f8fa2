//! Recognises `x·sigmoid(x)`, which exporters write as two operations, as one activation.
//!
//! Before: `%s = sigmoid %x`, `%y = mul %x, %s`. After: `%y = swish %x`. Unrecognised, a product rule would split the
//! relevance between the signal and its own gate.

use lrpc_ir::graph::{Graph, NodeId, Value};
use lrpc_ir::ops::{Binary, Elementwise, Function, Op, Unary};
use lrpc_ir::{Diagnostic, Diagnostics};

use crate::manager::{Context, PassDef};

pub(super) const PASS: PassDef =
    PassDef { name: "recognise_swish", doc: "raises x·sigmoid(x) to swish", run: recognise_swish };

fn recognise_swish(graph: &mut Graph, context: &mut Context) -> Result<(), Diagnostics> {
    for node in graph.order() {
        let Some((x, gate)) = gated(graph, node) else { continue };
        if !context.is_private(graph, gate) {
            context.refused(PASS.name, graph, node.into(), "the sigmoid is used elsewhere");
            continue;
        }
        let swish = Op::Elementwise(Elementwise::Unary(Unary::with(Function::Swish, 1.0)));
        let origin = graph.node(node).origin.made_by(PASS.name);
        let region = graph.node(node).region;
        graph.set_op(node, swish, &[x]).map_err(Diagnostic::from)?;
        graph.set_place(node, region, origin);
        context.patched(PASS.name, graph, node.into());
    }
    Ok(())
}

/// `x` and `sigmoid(x)`, if `node` multiplies them.
fn gated(graph: &Graph, node: NodeId) -> Option<(Value, Value)> {
    if graph.node(node).op != Op::Elementwise(Elementwise::Binary(Binary::Mul)) {
        return None;
    }
    let (a, b) = (graph.operand(node, 0)?, graph.operand(node, 1)?);
    [(a, b), (b, a)].into_iter().find(|&(x, gate)| {
        let sigmoid = Op::Elementwise(Elementwise::Unary(Unary::plain(Function::Sigmoid)));
        graph.node(gate.node).op == sigmoid && graph.operand(gate.node, 0) == Some(x)
    })
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::check_pass;

    #[test]
    fn recognise_swish() {
        check_pass(
            "recognise_swish",
            PASS,
            r#"
        input %x : f32[N, 3]
        forward
        %s = sigmoid %x : f32[N, 3] from "/sigmoid"
        %h = mul %s, %x : f32[N, 3] from "/mul"
        %t = sigmoid %h : f32[N, 3] from "/sigmoid2"
        %u = mul %h, %t : f32[N, 3] from "/mul2"
        %y = add %t, %u : f32[N, 3] from "/add"
        result "output/y" = %y
        "#,
            &[],
        );
    }
}
