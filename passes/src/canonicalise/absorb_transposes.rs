//! Lets a contraction read its operands as they lie, instead of transposed copies of them.
//!
//! Before: `%t = transpose %k {perm=[0, 1, 3, 2]}`, `%s = dot %q, %t {contract=3x2}`. After: `%s = dot %q, %k {contract=3x3}`.
//! A constant factor or a cast that stands in between is applied before the axes are exchanged; a transpose between
//! reshapes that merge the outer axes and split them again is one transpose.

use lrpc_ir::graph::{Graph, NodeId, Value};
use lrpc_ir::ops::{Binary, Dot, Elementwise, Function, Linear, Movement, Op};
use lrpc_ir::{Diagnostic, Diagnostics};

use crate::manager::{Context, PassDef};
use crate::pattern::{either_order, number};

pub(super) const PASS: PassDef = PassDef {
    name: "absorb_transposes",
    doc: "lets contractions read what is transposed for them as it lies",
    run: absorb_transposes,
};

fn absorb_transposes(graph: &mut Graph, context: &mut Context) -> Result<(), Diagnostics> {
    for node in graph.order() {
        for slot in 0..2 {
            while absorb(graph, context, node, slot)? {}
        }
    }
    Ok(())
}

/// Whether operand `slot` of a contraction was read through one transpose.
fn absorb(graph: &mut Graph, context: &mut Context, node: NodeId, slot: usize) -> Result<bool, Diagnostic> {
    let Op::Linear(Linear::Dot(dot)) = graph.node(node).op.clone() else { return Ok(false) };
    let Some(operand) = graph.operand(node, slot) else { return Ok(false) };
    let pointwise = before_pointwise(graph, context, operand);
    let turned = pointwise.as_ref().map_or(operand, |pointwise| pointwise.1);
    let Some((source, perm)) = transposed(graph, context, turned) else { return Ok(false) };
    let Some(dot) = reading(&dot, slot, &perm) else {
        context.refused(PASS.name, graph, operand, "the result's axes would change places");
        return Ok(false);
    };
    let read = match pointwise {
        None => source,
        Some((op, _, factor)) => apply_before(graph, operand, source, op, factor)?,
    };
    let mut operands = graph.operands(node);
    operands[slot] = read;
    graph.set_op(node, Op::Linear(Linear::Dot(dot)), &operands)?;
    context.patched(PASS.name, graph, node.into());
    Ok(true)
}

/// The contraction that reads `source` where operand `slot` was `source` with its axes permuted. `None` if free axes do
/// not keep their order, which is the result's.
fn reading(dot: &Dot, slot: usize, perm: &[usize]) -> Option<Dot> {
    let map = |&(left, right): &(usize, usize)| match slot {
        0 => Some((*perm.get(left)?, right)),
        _ => Some((left, *perm.get(right)?)),
    };
    let batch = dot.batch.iter().map(map).collect::<Option<Vec<_>>>()?;
    let contract = dot.contract.iter().map(map).collect::<Option<Vec<_>>>()?;
    let free = if slot == 0 { dot.left_free(perm.len()) } else { dot.right_free(perm.len()) };
    let ordered = free.windows(2).all(|pair| perm[pair[0]] < perm[pair[1]]);
    ordered.then_some(Dot { batch, contract })
}

/// What `value` transposes, and its permutation.
fn transposed(graph: &Graph, context: &Context, value: Value) -> Option<(Value, Vec<usize>)> {
    if context.pinned.contains(&value) {
        return None;
    }
    if let Op::Movement(Movement::Transpose { perm }) = &graph.node(value.node).op {
        return Some((graph.operand(value.node, 0)?, perm.clone()));
    }
    let turned = reshaped(graph, value)?;
    let Op::Movement(Movement::Transpose { perm }) = &graph.node(turned.node).op else { return None };
    let merged = graph.operand(turned.node, 0)?;
    let source = reshaped(graph, merged)?;
    if context.pinned.contains(&turned) || context.pinned.contains(&merged) {
        return None;
    }
    let (from, rows) = (&graph.ty(source).shape, &graph.ty(merged).shape);
    let tail = rows.len().checked_sub(1)?;
    let outer = from.len().checked_sub(tail)?;
    let mut whole: Vec<usize> = (0..outer).collect();
    whole.extend(perm.iter().skip(1).filter_map(|&axis| (axis + outer).checked_sub(1)));
    let result = whole.iter().map(|&axis| from.get(axis).cloned()).collect::<Option<Vec<_>>>()?;
    let keeps = perm.first() == Some(&0) && from[outer..] == rows[1..] && graph.ty(value).shape == result;
    keeps.then_some((source, whole))
}

fn reshaped(graph: &Graph, value: Value) -> Option<Value> {
    matches!(graph.node(value.node).op, Op::Movement(Movement::Reshape { .. })).then(|| graph.operand(value.node, 0))?
}

/// A cast or a product with one number: the operation, what it is applied to, and the number where it is an operand.
fn before_pointwise(graph: &Graph, context: &Context, value: Value) -> Option<(Op, Value, Option<Value>)> {
    if !context.is_private(graph, value) || graph.is_constant(value) {
        return None;
    }
    let op = graph.node(value.node).op.clone();
    match &op {
        Op::Elementwise(Elementwise::Cast(_)) => Some((op.clone(), graph.operand(value.node, 0)?, None)),
        Op::Elementwise(Elementwise::Unary(unary)) if unary.function == Function::Scale => {
            Some((op.clone(), graph.operand(value.node, 0)?, None))
        }
        _ => either_order(graph, value, Binary::Mul).into_iter().find_map(|[x, factor]| {
            number(graph, factor)?;
            let factor = graph.constant_source(factor)?;
            let fits = graph.ty(factor).elements().ok() == Some(lrpc_ir::Dim::Known(1));
            fits.then_some((op.clone(), x, Some(factor)))
        }),
    }
}

/// The operation of `value` on `source`, whose axes are not exchanged yet.
fn apply_before(
    graph: &mut Graph,
    value: Value,
    source: Value,
    op: Op,
    factor: Option<Value>,
) -> Result<Value, Diagnostic> {
    let (region, origin) = (graph.node(value.node).region, graph.node(value.node).origin.made_by(PASS.name));
    let base = graph.name(value).trim_end_matches(".before").to_string();
    let mut operands = vec![source];
    if let Some(factor) = factor {
        let shape = graph.ty(source).shape.clone();
        let name = graph.fresh_name(&format!("{base}.factor"));
        let copies = Op::Movement(Movement::Broadcast { shape });
        operands.push(graph.add(region, copies, &[factor], &name, origin.clone())?);
    }
    let name = graph.fresh_name(&format!("{base}.before"));
    Ok(graph.add(region, op, &operands, &name, origin)?)
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::check_pass;

    #[test]
    fn absorb_transposes() {
        check_pass(
            "absorb_transposes",
            PASS,
            r#"
        input %q : f32[N, S, 2, 4]
        input %k : f32[N, S, 2, 4]
        prepare
        %c = const 0.5 : f32[]
        forward
        %q.t = transpose %q {perm=[0, 2, 1, 3]} : f32[N, 2, S, 4] from "/transpose"
        %c.all = broadcast %c : f32[N, 2, S, 4]
        %q.s = mul %q.t, %c.all : f32[N, 2, S, 4] from "/mul"
        %k.t = transpose %k {perm=[0, 2, 1, 3]} : f32[N, 2, S, 4] from "/transpose2"
        %k.u = transpose %k.t {perm=[0, 1, 3, 2]} : f32[N, 2, 4, S] from "/transpose3"
        %k.s = scale %k.u {by=0.5} : f32[N, 2, 4, S] from "/scale"
        %y = dot %q.s, %k.s {batch=[0x0, 1x1], contract=3x2} : f32[N, 2, S, S] from "/matmul"
        result "output/y" = %y
        "#,
            &[],
        );
    }

    #[test]
    fn absorb_transposes_between_reshapes() {
        check_pass(
            "absorb_transposes_between_reshapes",
            PASS,
            r#"
        input %q : f32[N, 2, S, 4]
        input %k : f32[N, 2, S, 4]
        forward
        %rows = reshape %k : f32[2*N, S, 4] from "/reshape"
        %turned = transpose %rows {perm=[0, 2, 1]} : f32[2*N, 4, S] from "/transpose"
        %k.t = reshape %turned : f32[N, 2, 4, S] from "/reshape2"
        %y = dot %q, %k.t {batch=[0x0, 1x1], contract=3x2} : f32[N, 2, S, S] from "/matmul"
        result "output/y" = %y
        "#,
            &[],
        );
    }

    #[test]
    fn absorb_transposes_near_misses() {
        check_pass(
            "absorb_transposes_near_misses",
            PASS,
            r#"
        input %x : f32[N, S, 4]
        weight @w : f32[4, 5]
        forward
        %t = transpose %x {perm=[1, 0, 2]} : f32[S, N, 4] from "/transpose"
        %a = dot %t, @w {contract=2x0} : f32[S, N, 5] from "/matmul"
        %asked = transpose %x {perm=[0, 2, 1]} : f32[N, 4, S] from "/transpose2"
        %b = dot %asked, @w {contract=1x0} : f32[N, S, 5] from "/matmul2"
        result "output/a" = %a
        result "output/b" = %b
        "#,
            &["asked"],
        );
    }
}
