//! Moves work that depends on weights and literals alone into `prepare`, where it runs once per load.
//!
//! Broadcasts stay where they are used: they only copy, and fused into their user they cost nothing.

use lrpc_ir::graph::{Graph, Region};
use lrpc_ir::ops::{Movement, Op, Source};
use lrpc_ir::{Diagnostics, Value};

use crate::manager::{Context, PassDef};

pub(super) const PASS: PassDef =
    PassDef { name: "hoist_prepare", doc: "moves weight-only work into the prepare region", run: hoist_prepare };

fn hoist_prepare(graph: &mut Graph, context: &mut Context) -> Result<(), Diagnostics> {
    for node in graph.order() {
        let content = graph.node(node);
        let stays = matches!(content.op, Op::Movement(Movement::Broadcast { .. }) | Op::Source(Source::Input(_)));
        if content.region != Region::Forward || stays {
            continue;
        }
        let constant = |operand: &Value| {
            let source = graph.node(operand.node);
            source.region == Region::Prepare || matches!(source.op, Op::Source(Source::Weight(..)))
        };
        if graph.operands(node).iter().all(constant) {
            let origin = content.origin.clone();
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
