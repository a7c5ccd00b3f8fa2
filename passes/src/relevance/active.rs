//! Which values are active, and which nodes relevance passes (docs/rule-book.md section 1).

use std::collections::HashSet;

use lrpc_ir::graph::{Graph, NodeId, Value};
use lrpc_ir::ops::{Elementwise, Normalize, Op, Select};

/// Whether operand `slot` of `op` is data, that is: can carry relevance, unlike an index, a condition or a parameter.
pub fn is_data(op: &Op, slot: usize) -> bool {
    match op {
        Op::Select(Select::Gather { .. } | Select::ScatterAdd { .. }) => slot == 0,
        Op::Elementwise(Elementwise::Where) => slot > 0,
        Op::Normalize(Normalize::BatchNorm { .. }) => slot == 0,
        _ => true,
    }
}

/// The values that depend on a requested tensor through data operands, `order` being operands before users.
pub fn active_values(graph: &Graph, order: &[NodeId], requested: &[Value]) -> HashSet<Value> {
    let mut active: HashSet<Value> = requested.iter().copied().collect();
    for &node in order {
        let content = graph.node(node);
        let reached = graph
            .operands(node)
            .into_iter()
            .enumerate()
            .any(|(slot, operand)| is_data(&content.op, slot) && active.contains(&operand));
        if reached {
            for (port, ty) in content.types().iter().enumerate() {
                if ty.dtype.is_float() {
                    active.insert(Value { node, port: port as u32 });
                }
            }
        }
    }
    active
}

/// The values that depend on a requested tensor in any way, through indices, conditions and step functions too, `order`
/// being operands before users. All others are constant.
pub fn dependent_values(graph: &Graph, order: &[NodeId], requested: &[Value]) -> HashSet<Value> {
    let mut dependent: HashSet<Value> = requested.iter().copied().collect();
    for &node in order {
        if graph.operands(node).iter().any(|operand| dependent.contains(operand)) {
            let ports = 0..graph.node(node).types().len() as u32;
            dependent.extend(ports.map(|port| Value { node, port }));
        }
    }
    dependent
}

/// Which operands of `node` are active data.
pub fn active_operands(graph: &Graph, node: NodeId, active: &HashSet<Value>) -> Vec<bool> {
    let op = &graph.node(node).op;
    let operands = graph.operands(node).into_iter().enumerate();
    operands.map(|(slot, operand)| is_data(op, slot) && active.contains(&operand)).collect()
}
