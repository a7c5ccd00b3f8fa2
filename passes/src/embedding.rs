//! Embeddings: where a model turns integers into vectors.
//!
//! An embedding is a gather from a constant table whose index descends from an integer input of the model through
//! movement, casts and addition of constants only. Tables of positions, whose index is computed from sizes alone, are
//! none.

use std::collections::{HashMap, HashSet};

use lrpc_ir::ops::{Binary, Elementwise, Op, Select, Source};
use lrpc_ir::{Dim, Graph, Value};

/// An embedding of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embedding {
    /// The vectors: the table's axes before `axis`, those of the index, the table's axes behind `axis`.
    pub output: Value,
    /// What the table is indexed with.
    pub index: Value,
    /// The model input that the index descends from; the first where it is a composition of several.
    pub input: Value,
    /// The table's axis that the index chooses along.
    pub axis: usize,
    /// The table's length along that axis.
    pub rows: Dim,
}

/// The embeddings of `graph`, before or after rules have been applied to it, in forward order.
pub fn embeddings(graph: &Graph) -> Vec<Embedding> {
    let (mut constants, mut indices) = (HashSet::new(), HashMap::new());
    let mut found = Vec::new();
    for node in graph.order() {
        let (value, operands) = (Value::from(node), graph.operands(node));
        let is_constant = |operand: &Value| constants.contains(operand);
        let input = operands.iter().find_map(|operand| indices.get(operand).copied());
        match &graph.node(node).op {
            Op::Source(Source::Input(ty)) => {
                // An input with a default is an index of a seed, which the compiler made.
                if !ty.dtype.is_float() && operands.is_empty() {
                    indices.insert(value, value);
                }
                continue;
            }
            Op::Movement(_) | Op::Elementwise(Elementwise::Cast(_)) => {
                if let Some(&input) = operands.first().and_then(|operand| indices.get(operand)) {
                    indices.insert(value, input);
                }
            }
            Op::Elementwise(Elementwise::Binary(Binary::Add)) => {
                if let Some(input) = input
                    && operands.iter().all(|operand| indices.contains_key(operand) || is_constant(operand))
                {
                    indices.insert(value, input);
                }
            }
            &Op::Select(Select::Gather { axis, batch: 0 }) => {
                if let [table, index] = operands[..]
                    && is_constant(&table)
                    && graph.ty(table).rank() > 1
                    && graph.ty(table).dtype.is_float()
                    && let Some(&input) = indices.get(&index)
                    && let Some(rows) = graph.ty(table).shape.get(axis).cloned()
                {
                    found.push(Embedding { output: value, index, input, axis, rows });
                }
            }
            _ => {}
        }
        if operands.iter().all(is_constant) {
            constants.insert(value);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use lrpc_ir::text;

    fn found(graph: &str) -> Vec<String> {
        let graph = text::parse(graph).unwrap();
        let describe = |one: &Embedding| format!("{} of {}", graph.name(one.output), graph.name(one.input));
        embeddings(&graph).iter().map(describe).collect()
    }

    #[test]
    fn an_index_descends_from_an_integer_input() {
        let text = "lrpc 1\nweight @table : f32[7, 3]\ninput %ids : i64[N, S]\n\
                    input %target : i64[N] = %ids.max\nforward\n  \
                    %flat = reshape %ids : i64[N*S]\n  %a = gather @table, %flat {axis=0} : f32[N*S, 3]\n  \
                    %ids.max = argmax %ids {axis=1} : i64[N]\n  %b = gather @table, %ids.max {axis=0} : f32[N, 3]\n  \
                    %c = gather %a, %ids.max {axis=0} : f32[N, 3]\n  \
                    %d = gather @table, %target {axis=0} : f32[N, 3]\n\
                    result \"output/a\" = %a\nresult \"output/b\" = %b\nresult \"output/c\" = %c\n\
                    result \"output/d\" = %d\n";
        assert_eq!(found(text), ["a of ids"]);
    }
}
