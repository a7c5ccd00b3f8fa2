//! Splits a computed bias off its linear map: what depends on the input is an operand of an addition, not a bias. So is
//! whatever is added to a product of two activations, which is no linear map.
//!
//! Before: `%y = dot %x, @w, %b`. After: `%z = dot %x, @w`, `%b.all = broadcast %b`, `%y = add %z, %b.all`.

use lrpc_ir::graph::{Graph, NodeId};
use lrpc_ir::ops::{Binary, Elementwise, Linear, Movement, Op};
use lrpc_ir::{Diagnostic, Diagnostics, Dim};

use crate::manager::{Context, PassDef};

pub(super) const PASS: PassDef =
    PassDef { name: "split_bias", doc: "makes a computed bias an addition of its own", run: split_bias };

fn split_bias(graph: &mut Graph, context: &mut Context) -> Result<(), Diagnostics> {
    for node in graph.order() {
        let is_computed = |slot: usize| graph.operand(node, slot).is_some_and(|operand| !graph.is_constant(operand));
        // A product of two activations is bilinear; a bias beside it is an addition of its own.
        let computed = is_computed(2) || (graph.operand(node, 2).is_some() && is_computed(0) && is_computed(1));
        if let Op::Linear(op) = graph.node(node).op.clone()
            && computed
        {
            split(graph, node, op)?;
            context.patched(PASS.name, graph, node.into());
        }
    }
    Ok(())
}

fn split(graph: &mut Graph, node: NodeId, op: Linear) -> Result<(), Diagnostic> {
    let operands = graph.operands(node);
    let [x, weight, mut bias] = operands[..] else { return Ok(()) };
    let (name, region) = (graph.name(node.into()).to_string(), graph.node(node).region);
    let (shape, origin) = (graph.node(node).types()[0].shape.clone(), graph.node(node).origin.made_by(PASS.name));
    let add = |graph: &mut Graph, op, operands: &[_], what: &str| {
        let name = graph.fresh_name(&format!("{name}.{what}"));
        graph.add(region, op, operands, &name, origin.clone())
    };
    if !matches!(op, Linear::Dot(_)) {
        // One number per channel, as a column of the result.
        let mut column = vec![Dim::Known(1); shape.len() - 1];
        column[0] = shape[1].clone();
        bias = add(graph, Op::Movement(Movement::Reshape { shape: column }), &[bias], "bias")?;
    }
    let bias = add(graph, Op::Movement(Movement::Broadcast { shape }), &[bias], "bias")?;
    let linear = add(graph, Op::Linear(op), &[x, weight], "product")?;
    graph.set_op(node, Op::Elementwise(Elementwise::Binary(Binary::Add)), &[linear, bias])?;
    graph.set_place(node, region, origin);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::check_pass;

    #[test]
    fn split_bias_of_a_product_of_activations() {
        check_pass(
            "split_bias_of_a_product_of_activations",
            PASS,
            r#"
        input %x : f32[N, 3]
        input %z : f32[3, 5]
        weight @b : f32[5]
        forward
        %y = dot %x, %z, @b {contract=1x0} : f32[N, 5] from "/gemm"
        result "output/y" = %y
        "#,
            &[],
        );
    }

    #[test]
    fn split_bias() {
        check_pass(
            "split_bias",
            PASS,
            r#"
        input %x : f32[1, 3]
        input %c : f32[5]
        weight @w : f32[3, 5]
        weight @v : f32[4, 1, 3]
        forward
        %h = relu %c : f32[5] from "/relu"
        %z = dot %x, @w, %h {contract=1x0} : f32[1, 5] from "/addmm"
        %k = reshape %z : f32[1, 1, 5] from "/reshape"
        %b = slice %h {start=[0]} : f32[4] from "/slice"
        %y = conv %k, @v, %b {pad=1} : f32[1, 4, 5] from "/conv"
        result "output/y" = %y
        "#,
            &[],
        );
    }
}
