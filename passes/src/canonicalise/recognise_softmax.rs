//! Recognises softmax and its logarithm that are written out.
//!
//! Before: `%e = exp (%x − max %x)`, `%s = reduce_sum %e`, `%y = div %e, %s`. After: `%y = softmax %x`. The largest element
//! need not be taken off, and the division may be a product with a reciprocal. `log (softmax %x)` and `%x − log Σ exp %x`
//! become `log_softmax %x`.

use lrpc_ir::graph::{Graph, NodeId, Value};
use lrpc_ir::ops::{Binary, Function, Normalize, Op, ReduceKind};
use lrpc_ir::{Diagnostic, Diagnostics};

use crate::manager::{Context, PassDef};
use crate::pattern::{Found, Rows, asked_for, binary, either_order, reduced, same, shifted, unary, uncast};

pub(super) const PASS: PassDef = PassDef {
    name: "recognise_softmax",
    doc: "raises exp(x)/Σ exp(x) to softmax, and its logarithm to log_softmax",
    run: recognise_softmax,
};

fn recognise_softmax(graph: &mut Graph, context: &mut Context) -> Result<(), Diagnostics> {
    for node in graph.order() {
        let found = match quotient(graph, node) {
            Found::Nothing => logarithm(graph, context, node),
            found => found,
        };
        match found {
            Found::Pattern((x, op)) => replace(graph, context, node, x, op)?,
            Found::NearMiss(reason) => context.refused(PASS.name, graph, node.into(), reason),
            Found::Nothing => {}
        }
    }
    Ok(())
}

/// `eˣ/Σ eˣ`: `x` and the operation.
fn quotient(graph: &Graph, node: NodeId) -> Found<(Value, Normalize)> {
    let value = Value::from(node);
    let mut candidates: Vec<(Value, Value, Rows<'_>)> = Vec::new();
    if let Some([terms, divisor]) = binary(graph, value, Binary::Div) {
        let mut rows = Rows::new(graph);
        let divisor = rows.peel(divisor);
        candidates.push((terms, divisor, rows));
    }
    for [terms, factor] in either_order(graph, value, Binary::Mul) {
        let mut rows = Rows::new(graph);
        let factor = rows.peel(factor);
        if let Some((divisor, _)) = unary(graph, factor, Function::Reciprocal) {
            let divisor = rows.peel(divisor);
            candidates.push((terms, divisor, rows));
        }
    }
    for (terms, divisor, rows) in candidates {
        let Some((x, _)) = unary(graph, uncast(graph, terms), Function::Exp) else { continue };
        let sums = |value: Value| reduced(graph, value, ReduceKind::Sum).filter(|(of, _)| same(graph, *of, terms));
        match sums(divisor) {
            Some((_, axes)) if rows.meet(terms, &axes) => return along(graph, x, &axes, softmax),
            Some(_) => return Found::NearMiss("its sums meet other rows than those they are taken over"),
            None => {}
        }
        if shifted(graph, divisor).is_some_and(|(sum, _)| sums(Rows::new(graph).peel(sum)).is_some()) {
            return Found::NearMiss("something is added to its sum");
        }
    }
    Found::Nothing
}

fn softmax(axis: usize) -> Normalize {
    Normalize::Softmax { axis, safe: false }
}

fn log_softmax(axis: usize) -> Normalize {
    Normalize::LogSoftmax { axis }
}

/// The operation on `x`, whose largest element need not be taken off, along the one axis of `axes`.
fn along(graph: &Graph, x: Value, axes: &[usize], op: fn(usize) -> Normalize) -> Found<(Value, Normalize)> {
    match axes {
        [axis] => Found::Pattern((without_largest(graph, x, axes).unwrap_or(x), op(*axis))),
        _ => Found::NearMiss("its sums run over several axes"),
    }
}

/// `x − max(x)` over `axes`: the value `x`.
fn without_largest(graph: &Graph, value: Value, axes: &[usize]) -> Option<Value> {
    let [x, largest] = binary(graph, uncast(graph, value), Binary::Sub)?;
    let mut rows = Rows::new(graph);
    let largest = rows.peel(largest);
    let (of, found) = reduced(graph, largest, ReduceKind::Max)?;
    (same(graph, of, x) && found == axes && rows.meet(x, axes)).then_some(x)
}

/// `log(softmax(x))`, and `x − log Σ eˣ`: `x` and the operation.
fn logarithm(graph: &Graph, context: &Context, node: NodeId) -> Found<(Value, Normalize)> {
    let value = Value::from(node);
    if let Some((shares, _)) = unary(graph, value, Function::Log) {
        return match &graph.node(shares.node).op {
            Op::Normalize(Normalize::Softmax { .. }) if !context.is_private(graph, shares) => {
                Found::NearMiss("the softmax is used elsewhere")
            }
            Op::Normalize(Normalize::Softmax { safe: true, .. }) => {
                Found::NearMiss("the softmax is 0 where it would not be a number")
            }
            Op::Normalize(Normalize::Softmax { axis, .. }) => match graph.operand(shares.node, 0) {
                Some(x) => Found::Pattern((x, log_softmax(*axis))),
                None => Found::Nothing,
            },
            _ => Found::Nothing,
        };
    }
    let Some([x, total]) = binary(graph, value, Binary::Sub) else { return Found::Nothing };
    let mut rows = Rows::new(graph);
    let total = rows.peel(total);
    let Some((sum, _)) = unary(graph, total, Function::Log) else { return Found::Nothing };
    let Some((terms, axes)) = reduced(graph, rows.peel(sum), ReduceKind::Sum) else { return Found::Nothing };
    match unary(graph, uncast(graph, terms), Function::Exp) {
        Some((of, _)) if same(graph, of, x) && rows.meet(x, &axes) => along(graph, x, &axes, log_softmax),
        _ => Found::Nothing,
    }
}

fn replace(graph: &mut Graph, context: &mut Context, node: NodeId, x: Value, op: Normalize) -> Result<(), Diagnostic> {
    let result = Value::from(node);
    if let Some(inside) = asked_for(graph, context, result, x) {
        let reason = format!("%{} inside of it is asked for", graph.name(inside));
        context.refused(PASS.name, graph, result, &reason);
        return Ok(());
    }
    if graph.ty(x) != graph.ty(result) {
        context.refused(PASS.name, graph, result, "its exponentials are of another element type");
        return Ok(());
    }
    let (region, origin) = (graph.node(node).region, graph.node(node).origin.made_by(PASS.name));
    graph.set_op(node, Op::Normalize(op), &[x])?;
    graph.set_place(node, region, origin);
    context.patched(PASS.name, graph, result);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::check_pass;

    #[test]
    fn recognise_softmax() {
        check_pass(
            "recognise_softmax",
            PASS,
            r#"
        input %x : f32[N, 5]
        forward
        %m = reduce_max %x {axes=[1], keep=true} : f32[N, 1] from "/max"
        %m.all = broadcast %m : f32[N, 5]
        %z = sub %x, %m.all : f32[N, 5] from "/sub"
        %e = exp %z : f32[N, 5] from "/exp"
        %s = reduce_sum %e {axes=[1], keep=true} : f32[N, 1] from "/sum"
        %s.all = broadcast %s : f32[N, 5]
        %p = div %e, %s.all : f32[N, 5] from "/div"
        %f = exp %p : f32[N, 5] from "/exp2"
        %t = reduce_sum %f {axes=[1]} : f32[N] from "/sum2"
        %i = reciprocal %t : f32[N] from "/reciprocal"
        %i.column = reshape %i : f32[N, 1]
        %i.all = broadcast %i.column : f32[N, 5]
        %y = mul %i.all, %f : f32[N, 5] from "/mul"
        result "output/y" = %y
        "#,
            &[],
        );
    }

    #[test]
    fn recognise_softmax_logarithm() {
        check_pass(
            "recognise_softmax_logarithm",
            PASS,
            r#"
        input %x : f32[N, 5]
        forward
        %p = softmax %x {axis=1} : f32[N, 5] from "/softmax"
        %l = log %p : f32[N, 5] from "/log"
        %e = exp %l : f32[N, 5] from "/exp"
        %s = reduce_sum %e {axes=[1], keep=true} : f32[N, 1] from "/sum"
        %t = log %s : f32[N, 1] from "/log2"
        %t.all = broadcast %t : f32[N, 5]
        %y = sub %l, %t.all : f32[N, 5] from "/sub"
        result "output/y" = %y
        "#,
            &[],
        );
    }

    #[test]
    fn recognise_softmax_near_misses() {
        check_pass(
            "recognise_softmax_near_misses",
            PASS,
            r#"
        input %x : f32[4, 4]
        forward
        %e = exp %x : f32[4, 4]
        %s = reduce_sum %e {axes=[1]} : f32[4]
        %turned = broadcast %s : f32[4, 4]
        %a = div %e, %turned : f32[4, 4]
        %s.column = reshape %s : f32[4, 1]
        %guarded = shift %s.column {by=1e-6} : f32[4, 1]
        %guarded.all = broadcast %guarded : f32[4, 4]
        %b = div %e, %guarded.all : f32[4, 4]
        %t = reduce_sum %e {axes=[0, 1], keep=true} : f32[1, 1]
        %t.all = broadcast %t : f32[4, 4]
        %c = div %e, %t.all : f32[4, 4]
        %asked = broadcast %s.column : f32[4, 4]
        %d = div %e, %asked : f32[4, 4]
        %p = softmax %x {axis=1} : f32[4, 4]
        %l = log %p : f32[4, 4]
        %safe = softmax %x {axis=1, safe=true} : f32[4, 4]
        %m = log %safe : f32[4, 4]
        result "output/a" = %a
        result "output/b" = %b
        result "output/c" = %c
        result "output/d" = %d
        result "output/p" = %p
        result "output/l" = %l
        result "output/m" = %m
        "#,
            &["asked"],
        );
    }
}
