//! Merges the addition of a constant into the linear map before it: one linear map with bias (docs/rule-book.md section 7).
//!
//! Before: `%z = dot %x, @w`, `%c = broadcast @b`, `%y = add %z, %c`. After: `%y = dot %x, @w, @b`. To a bias that the map
//! has already the constant is added in `prepare`.

use lrpc_ir::graph::{Graph, NodeId, Origin, Region, Value};
use lrpc_ir::ops::{Binary, Elementwise, Linear, Movement, Op};
use lrpc_ir::{Diagnostic, Diagnostics, Dim};

use crate::manager::{Context, PassDef};

pub(super) const PASS: PassDef =
    PassDef { name: "merge_bias", doc: "merges an added constant into the linear map before it", run: merge_bias };

fn merge_bias(graph: &mut Graph, context: &mut Context) -> Result<(), Diagnostics> {
    for node in graph.order() {
        let Some((linear, constant)) = linear_plus_constant(graph, node) else { continue };
        if !context.is_private(graph, linear) {
            context.kept_apart(PASS.name, graph, node.into(), linear);
            continue;
        }
        let Some(bias) = as_bias(graph, node, linear, constant)? else {
            context.refused(PASS.name, graph, node.into(), "the constant is not one number per output feature");
            continue;
        };
        let op = graph.node(linear.node).op.clone();
        let (origin, region) = (graph.node(linear.node).origin.made_by(PASS.name), graph.node(node).region);
        let mut operands = graph.operands(linear.node);
        match operands.get_mut(2) {
            Some(own) => *own = sum_of_biases(graph, node, [*own, bias])?,
            None => operands.push(bias),
        }
        graph.set_op(node, op, &operands).map_err(Diagnostic::from)?;
        graph.set_place(node, region, origin);
        context.patched(PASS.name, graph, node.into());
    }
    Ok(())
}

/// Both biases as one.
fn sum_of_biases(graph: &mut Graph, node: NodeId, biases: [Value; 2]) -> Result<Value, Diagnostic> {
    let name = graph.fresh_name(&format!("{}.bias", graph.name(node.into())));
    let sum = Op::Elementwise(Elementwise::Binary(Binary::Add));
    Ok(graph.add(Region::Prepare, sum, &biases, &name, Origin::default().made_by(PASS.name))?)
}

/// The linear map, without bias or with a constant one, and the constant that `node` adds to it.
fn linear_plus_constant(graph: &Graph, node: NodeId) -> Option<(Value, Value)> {
    if graph.node(node).op != Op::Elementwise(Elementwise::Binary(Binary::Add)) {
        return None;
    }
    let (a, b) = (graph.operand(node, 0)?, graph.operand(node, 1)?);
    [(a, b), (b, a)].into_iter().find(|&(linear, constant)| {
        // The right operand has to be the weight: the bias has its free axes, and a product of activations has no bias.
        let has_weight = graph.operand(linear.node, 1).is_some_and(|weight| graph.is_constant(weight));
        let is_linear = matches!(graph.node(linear.node).op, Op::Linear(_));
        let plain = graph.operand(linear.node, 2).is_none_or(|bias| graph.is_constant(bias));
        is_linear && plain && has_weight && graph.constant_source(constant).is_some()
    })
}

/// The constant under the shape of a bias, if it has one number per output feature.
fn as_bias(graph: &mut Graph, node: NodeId, linear: Value, constant: Value) -> Result<Option<Value>, Diagnostic> {
    let Some(source) = graph.constant_source(constant) else { return Ok(None) };
    let (Op::Linear(op), Some(weight)) = (graph.node(linear.node).op.clone(), graph.operand(linear.node, 1)) else {
        return Ok(None);
    };
    let result = graph.ty(linear).clone();
    let wanted = op.bias_shape(&result, graph.ty(weight));
    // The constant's axes, aligned at the result's last one, must be 1 wherever the bias has none.
    let shape = graph.ty(source).shape.clone();
    let Some(offset) = result.rank().checked_sub(shape.len()) else { return Ok(None) };
    let first = match op {
        Linear::Dot(_) => result.rank() - wanted.len(),
        Linear::Conv(_) | Linear::ConvTranspose(_) => 1,
    };
    let fits = shape.iter().enumerate().all(|(axis, dim)| match (axis + offset).checked_sub(first) {
        Some(at) if at < wanted.len() => *dim == wanted[at],
        _ => *dim == Dim::Known(1),
    });
    if !fits || offset > first {
        return Ok(None);
    }
    if shape == wanted {
        return Ok(Some(source));
    }
    let name = graph.fresh_name(&format!("{}.bias", graph.name(node.into())));
    let reshape = Op::Movement(Movement::Reshape { shape: wanted });
    let origin = Origin::default().made_by(PASS.name);
    Ok(Some(graph.add(Region::Prepare, reshape, &[source], &name, origin)?))
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::check_pass;

    #[test]
    fn merge_bias() {
        check_pass(
            "merge_bias",
            PASS,
            r#"
        input %x : f32[N, 3]
        weight @w : f32[3, 5]
        weight @b : f32[5]
        weight @v : f32[5, 5]
        weight @r : f32[1, 1]
        forward
        %z = dot %x, @w {contract=1x0} : f32[N, 5] from "/matmul"
        %b.all = broadcast @b : f32[N, 5]
        %h = add %b.all, %z : f32[N, 5] from "/add"
        %k = dot %h, @v {contract=1x0} : f32[N, 5] from "/matmul2"
        %r.all = broadcast @r : f32[N, 5]
        %y = add %k, %r.all : f32[N, 5] from "/add2"
        result "output/y" = %y
        "#,
            &[],
        );
    }

    #[test]
    fn merge_bias_into_another() {
        check_pass(
            "merge_bias_into_another",
            PASS,
            r#"
        input %x : f32[N, 3, 8]
        weight @w : f32[4, 3, 3]
        weight @b : f32[4]
        weight @c : f32[1, 4, 1]
        forward
        %z = conv %x, @w, @b : f32[N, 4, 6] from "/conv"
        %c.all = broadcast @c : f32[N, 4, 6]
        %y = add %z, %c.all : f32[N, 4, 6] from "/add"
        result "output/y" = %y
        "#,
            &[],
        );
    }

    #[test]
    fn merge_bias_conv() {
        check_pass(
            "merge_bias_conv",
            PASS,
            r#"
        input %x : f32[N, 3, 8]
        weight @w : f32[4, 3, 3]
        weight @b : f32[1, 4, 1]
        forward
        %z = conv %x, @w : f32[N, 4, 6] from "/conv"
        %b.all = broadcast @b : f32[N, 4, 6]
        %y = add %z, %b.all : f32[N, 4, 6] from "/add"
        result "output/y" = %y
        "#,
            &[],
        );
    }
}
