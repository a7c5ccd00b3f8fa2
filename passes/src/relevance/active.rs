//! Which values are active, and which nodes relevance passes (docs/rule-book.md section 1).

use std::collections::HashSet;

use lrpc_ir::graph::{Graph, NodeId, Value};
use lrpc_ir::ops::{Binary, Elementwise, Function, Normalize, Op, Pool, PoolKind, ReduceKind, Select, Unary};

/// Whether operand `slot` of `op` is data, that is: can carry relevance, unlike an index, a condition or a parameter.
pub fn is_data(op: &Op, slot: usize) -> bool {
    match op {
        Op::Select(Select::Gather { .. } | Select::ScatterAdd { .. }) => slot == 0,
        Op::Elementwise(Elementwise::Where) => slot > 0,
        Op::Elementwise(Elementwise::Quantize | Elementwise::Dequantize) => slot == 0,
        Op::Elementwise(Elementwise::Unary(Unary { function: Function::StopGradient, .. })) => false,
        Op::Normalize(Normalize::BatchNorm { .. }) => slot == 0,
        _ => true,
    }
}

/// Whether integers that `op` makes stand for the numbers that it reads, or are integers of its data operands: they carry
/// relevance as these do. A cast of a floating-point number is a step.
fn keeps_integers(graph: &Graph, node: NodeId, op: &Op) -> bool {
    let of_integers = || graph.operand(node, 0).is_some_and(|operand| graph.ty(operand).dtype.is_integer());
    match op {
        Op::Elementwise(Elementwise::Quantize | Elementwise::Where) => true,
        Op::Elementwise(Elementwise::Cast(dtype)) => dtype.is_integer() && of_integers(),
        Op::Elementwise(Elementwise::Binary(Binary::Min | Binary::Max)) => true,
        Op::Elementwise(Elementwise::Unary(unary)) => matches!(unary.function, Function::Relu | Function::Clip),
        Op::Movement(_) | Op::Select(Select::Gather { .. }) => true,
        Op::Select(Select::ScatterAdd { unique_indices, .. }) => *unique_indices,
        Op::Reduce(reduce) => matches!(reduce.kind, ReduceKind::Max | ReduceKind::Min),
        Op::Pool(Pool::Window(kind, _)) => *kind == PoolKind::Max,
        _ => false,
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
                if ty.dtype.is_float() || (ty.dtype.is_integer() && keeps_integers(graph, node, &content.op)) {
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
