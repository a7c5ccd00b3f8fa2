//! Moves work that depends on weights and literals alone into `prepare`, where it runs once per load.
//!
//! A broadcast only copies and costs nothing fused into its user: it moves only where other work that moves needs it, or
//! a linear map takes it as weight or bias.

use std::collections::HashSet;

use lrpc_ir::graph::{Graph, NodeId, Region};
use lrpc_ir::ops::{Movement, Op, Source};
use lrpc_ir::{Diagnostics, Value};

use crate::manager::{Context, PassDef};

pub(super) const PASS: PassDef =
    PassDef { name: "hoist_prepare", doc: "moves weight-only work into the prepare region", run: hoist_prepare };

fn hoist_prepare(graph: &mut Graph, context: &mut Context) -> Result<(), Diagnostics> {
    let order = graph.order();
    let mut constant: HashSet<NodeId> = HashSet::new();
    for &node in order.iter().filter(|&&node| !matches!(graph.node(node).op, Op::Source(Source::Input(_)))) {
        let known = |operand: &Value| constant.contains(&operand.node) || graph.is_constant(*operand);
        if graph.operands(node).iter().all(known) {
            constant.insert(node);
        }
    }
    // Against the order, so that a broadcast sees whether its users have moved.
    for node in order.into_iter().rev() {
        if graph.node(node).region != Region::Forward || !constant.contains(&node) {
            continue;
        }
        let copies = matches!(graph.node(node).op, Op::Movement(Movement::Broadcast { .. }));
        let wanted = |(user, slot): (NodeId, usize)| {
            let user = graph.node(user);
            user.region == Region::Prepare || (matches!(user.op, Op::Linear(_)) && slot > 0)
        };
        if !copies || graph.users(node.into()).into_iter().any(wanted) {
            let origin = graph.node(node).origin.clone();
            context.patched(PASS.name, graph, node.into());
            graph.set_place(node, Region::Prepare, origin);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::check_pass;

    #[test]
    fn hoist_prepare() {
        check_pass(
            "hoist_prepare",
            PASS,
            r#"
        input %x : f32[N, 3]
        weight @w : f16[3]
        forward
        %w.f32 = cast @w : f32[3]
        %w.size = abs %w.f32 : f32[3]
        %w.all = broadcast %w.size : f32[N, 3]
        %y = mul %x, %w.all : f32[N, 3]
        result "output/y" = %y
        "#,
            &[],
        );
    }
}
