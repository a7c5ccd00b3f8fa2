//! Merges the guard that exporters put behind a softmax, against rows that are masked throughout.
//!
//! Before: `%p = softmax %x`, `%n = is_nan %p`, `%y = where %n, 0, %p`. After: `%y = softmax %x {safe=true}`, which is the
//! same number by number. What follows then sees that it reads a softmax.

use lrpc_ir::graph::{Graph, NodeId, Value};
use lrpc_ir::ops::{Elementwise, Function, Normalize, Op};
use lrpc_ir::{Diagnostic, Diagnostics};

use crate::manager::{Context, PassDef};
use crate::pattern::{asked_for, number, same, unary, uncast};

pub(super) const PASS: PassDef = PassDef {
    name: "merge_safe_softmax",
    doc: "merges the test for what is not a number into the softmax before it",
    run: merge_safe_softmax,
};

fn merge_safe_softmax(graph: &mut Graph, context: &mut Context) -> Result<(), Diagnostics> {
    for node in graph.order() {
        if let Some((guard, shares)) = guarded(graph, node) {
            match guard {
                Some(0.0) => merge(graph, context, node, shares)?,
                _ => context.refused(PASS.name, graph, node.into(), "what is not a number becomes something but 0"),
            }
        }
    }
    Ok(())
}

/// What stands in for what is not a number, and the guarded softmax.
fn guarded(graph: &Graph, node: NodeId) -> Option<(Option<f64>, Value)> {
    let operands = graph.operands(node);
    let [condition, a, b] = operands[..] else { return None };
    if graph.node(node).op != Op::Elementwise(Elementwise::Where) {
        return None;
    }
    let (tested, instead, shares) = match unary(graph, condition, Function::Not) {
        Some((condition, _)) => (unary(graph, condition, Function::IsNan)?.0, b, a),
        None => (unary(graph, condition, Function::IsNan)?.0, a, b),
    };
    let softmax = uncast(graph, shares);
    let is_softmax = matches!(graph.node(softmax.node).op, Op::Normalize(Normalize::Softmax { .. }));
    (is_softmax && same(graph, tested, softmax)).then(|| (number(graph, instead), softmax))
}

fn merge(graph: &mut Graph, context: &mut Context, node: NodeId, shares: Value) -> Result<(), Diagnostic> {
    let result = Value::from(node);
    let (Op::Normalize(Normalize::Softmax { axis, .. }), Some(x)) =
        (graph.node(shares.node).op.clone(), graph.operand(shares.node, 0))
    else {
        return Ok(());
    };
    if let Some(inside) = asked_for(graph, context, result, x) {
        let reason = format!("%{} inside of it is asked for", graph.name(inside));
        context.refused(PASS.name, graph, result, &reason);
        return Ok(());
    }
    let (region, origin) = (graph.node(node).region, graph.node(shares.node).origin.made_by(PASS.name));
    let softmax = Op::Normalize(Normalize::Softmax { axis, safe: true });
    let dtype = graph.ty(result).dtype;
    if graph.ty(x).dtype == dtype {
        graph.set_op(node, softmax, &[x])?;
    } else {
        let name = graph.fresh_name(&format!("{}.safe", graph.name(result)));
        let safe = graph.add(region, softmax, &[x], &name, origin.clone())?;
        graph.set_op(node, Op::Elementwise(Elementwise::Cast(dtype)), &[safe])?;
    }
    graph.set_place(node, region, origin);
    context.patched(PASS.name, graph, result);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::check_pass;

    #[test]
    fn merge_safe_softmax() {
        check_pass(
            "merge_safe_softmax",
            PASS,
            r#"
        input %x : f32[N, 5]
        prepare
        %zero = const 0 : f32[]
        forward
        %p = softmax %x {axis=1} : f32[N, 5] from "/softmax"
        %n = is_nan %p : bool[N, 5] from "/isnan"
        %zeros = broadcast %zero : f32[N, 5]
        %q = where %n, %zeros, %p : f32[N, 5] from "/where"
        %r = softmax %q {axis=1} : f32[N, 5] from "/softmax2"
        %half = cast %r : f16[N, 5] from "/cast"
        %m = is_nan %half : bool[N, 5] from "/isnan2"
        %k = not %m : bool[N, 5] from "/not"
        %none = const 0 : f16[N, 5]
        %y = where %k, %half, %none : f16[N, 5] from "/where2"
        result "output/y" = %y
        "#,
            &[],
        );
    }

    #[test]
    fn merge_safe_softmax_near_misses() {
        check_pass(
            "merge_safe_softmax_near_misses",
            PASS,
            r#"
        input %x : f32[N, 5]
        forward
        %p = softmax %x {axis=1} : f32[N, 5]
        %n = is_nan %p : bool[N, 5]
        %one = const 1 : f32[N, 5]
        %a = where %n, %one, %p : f32[N, 5]
        %q = softmax %x {axis=0} : f32[N, 5]
        %m = is_nan %q : bool[N, 5]
        %zero = const 0 : f32[N, 5]
        %b = where %m, %zero, %q : f32[N, 5]
        result "output/a" = %a
        result "output/b" = %b
        "#,
            &["q"],
        );
    }
}
