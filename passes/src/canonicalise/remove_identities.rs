//! Removes operations that return their operand.
//!
//! Before: `%b = reshape %a : T` with `%a : T`. After: every use of `%b` uses `%a`.

use std::collections::HashMap;

use lrpc_ir::graph::{Graph, NodeId, Value};
use lrpc_ir::ops::{Elementwise, Function, Movement, Op};
use lrpc_ir::{Diagnostics, Dim};

use crate::manager::{Context, PassDef};

pub(super) const PASS: PassDef = PassDef {
    name: "remove_identities",
    doc: "removes movements that move nothing, casts to the same type and factors of 1",
    run: remove_identities,
};

fn remove_identities(graph: &mut Graph, context: &mut Context) -> Result<(), Diagnostics> {
    let mut replaced = HashMap::new();
    for node in graph.order() {
        let value = Value::from(node);
        let Some(operand) = graph.operand(node, 0).filter(|_| is_identity(graph, node)) else { continue };
        if context.pinned.contains(&value) {
            context.refused(PASS.name, graph, value, "somebody asked for it");
            continue;
        }
        context.patched(PASS.name, graph, value);
        graph.replace_operands(value, operand);
        replaced.insert(value, operand);
        merge_promises(graph, operand, &mut replaced);
    }
    graph.replace_roots(&replaced);
    // A reshape of a reshape, seen from the later one.
    for node in graph.order() {
        let Op::Movement(Movement::Reshape { shape }) = graph.node(node).op.clone() else { continue };
        let Some(inner) = graph.operand(node, 0).filter(|inner| context.is_private(graph, *inner)) else { continue };
        let Some(source) = graph.operand(inner.node, 0) else { continue };
        // Where sizes are equal only once they are known, the reshape is what checks it.
        let checks_nothing = graph.ty(source).elements() == graph.ty(inner).elements();
        if checks_nothing && matches!(graph.node(inner.node).op, Op::Movement(Movement::Reshape { .. })) {
            context.patched(PASS.name, graph, inner);
            graph
                .set_op(node, Op::Movement(Movement::Reshape { shape }), &[source])
                .map_err(lrpc_ir::Diagnostic::from)?;
        }
    }
    Ok(())
}

/// A value is promised once, also where it takes the place of another that had a promise of its own.
fn merge_promises(graph: &mut Graph, value: Value, replaced: &mut HashMap<Value, Value>) {
    let users = graph.users(value).into_iter().map(|(user, _)| user);
    let promises: Vec<NodeId> = users.filter(|&user| graph.node(user).op == Op::Promise).collect();
    if let Some((&first, others)) = promises.split_first() {
        for &other in others {
            graph.replace_operands(other.into(), first.into());
            replaced.insert(other.into(), first.into());
        }
    }
}

fn is_identity(graph: &Graph, node: NodeId) -> bool {
    let content = graph.node(node);
    let Some(operand) = graph.operand(node, 0) else { return false };
    let same = graph.ty(operand) == &content.types()[0];
    let zero = |places: &[Dim]| places.iter().all(|place| *place == Dim::Known(0));
    match &content.op {
        Op::Movement(Movement::Reshape { .. } | Movement::Broadcast { .. }) => same,
        Op::Movement(Movement::Transpose { perm }) => perm.iter().enumerate().all(|(at, &axis)| at == axis),
        Op::Movement(Movement::Slice { starts, steps, .. }) => {
            same && zero(starts) && steps.iter().all(|&step| step == 1)
        }
        Op::Movement(Movement::Pad { before, steps, .. }) => {
            same && zero(before) && steps.iter().all(|&step| step == 1)
        }
        Op::Movement(Movement::Concat { .. }) => graph.operands(node).len() == 1,
        Op::Elementwise(Elementwise::Cast(_)) => same,
        Op::Elementwise(Elementwise::Unary(unary)) => match unary.function {
            Function::Scale => unary.parameters[0].0 == 1.0,
            Function::Shift => unary.parameters[0].0 == 0.0,
            Function::Clip => unary.parameters[0].0 == f64::NEG_INFINITY && unary.parameters[1].0 == f64::INFINITY,
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::check_pass;

    #[test]
    fn remove_identities() {
        check_pass(
            "remove_identities",
            PASS,
            r#"
        input %x : f32[N, 3]
        forward
        %a = reshape %x : f32[N, 3]
        %b = reshape %a : f32[N, 3, 1]
        %c = reshape %b : f32[3*N]
        %d = transpose %c {perm=[0]} : f32[3*N]
        %e = scale %d {by=1} : f32[3*N]
        %y = relu %e : f32[3*N]
        result "output/y" = %y
        "#,
            &["d"],
        );
    }
}
