//! Merges nodes that compute the same value.
//!
//! Before: `%a = abs %x`, `%b = abs %x`. After: every use of `%b` uses `%a`.

use std::collections::HashMap;

use lrpc_ir::graph::{Graph, Region};
use lrpc_ir::ops::{Op, Source};
use lrpc_ir::{Diagnostics, TensorType, Value};

use crate::manager::{Context, PassDef};

pub(super) const PASS: PassDef =
    PassDef { name: "merge_equal", doc: "merges nodes that compute the same value", run: merge_equal };

/// What decides whether two nodes compute the same; only regions that may read each other are merged.
type Key = (Op, Vec<Value>, Vec<TensorType>, Region);

fn merge_equal(graph: &mut Graph, context: &mut Context) -> Result<(), Diagnostics> {
    let mut seen: HashMap<Key, Value> = HashMap::new();
    let mut replaced = HashMap::new();
    for node in graph.order() {
        let content = graph.node(node);
        if matches!(content.op, Op::Source(Source::Input(_) | Source::Weight(..)) | Op::Control(_)) {
            continue;
        }
        let value = Value::from(node);
        let key = (content.op.clone(), graph.operands(node), content.types().to_vec(), content.region);
        match seen.get(&key) {
            Some(_) if context.pinned.contains(&value) => {}
            Some(&first) => {
                context.patched(PASS.name, graph, value);
                graph.replace_operands(value, first);
                replaced.insert(value, first);
            }
            None => {
                seen.insert(key, value);
            }
        }
    }
    graph.replace_roots(&replaced);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::check_pass;

    #[test]
    fn merge_equal() {
        check_pass(
            "merge_equal",
            PASS,
            r#"
        input %x : f32[N, 3]
        forward
        %a = abs %x : f32[N, 3]
        %b = abs %x : f32[N, 3]
        %c = abs %x : f32[N, 3]
        %d = add %a, %b : f32[N, 3]
        %y = add %d, %c : f32[N, 3]
        result "output/y" = %y
        "#,
            &["c"],
        );
    }
}
