//! Which values are active, and which nodes relevance passes (docs/rule-book.md section 1).

use std::collections::HashSet;

use lrpc_ir::graph::{Graph, NodeId, Value};
use lrpc_ir::ops::{Binary, Control, Elementwise, Function, Normalize, Op, Pool, PoolKind, ReduceKind, Select, Unary};

use crate::nested::operand_slot;

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
        if let Op::Control(control) = &content.op {
            let operands = active_operands(graph, node, &active);
            let ports = active_results(control, &operands).into_iter().enumerate().filter(|(_, active)| *active);
            active.extend(ports.map(|(port, _)| Value { node, port: port as u32 }));
            continue;
        }
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

/// Which results of a node that holds graphs are active, given its active operands.
fn active_results(control: &Control, operands: &[bool]) -> Vec<bool> {
    let mut results: Vec<bool> = Vec::new();
    for (body, inputs) in active_inputs(control, operands) {
        let active = active_values(body, &body.order(), &inputs);
        let of_body: Vec<bool> = body.results.iter().map(|result| active.contains(&result.value)).collect();
        results = match results.is_empty() {
            true => of_body,
            false => results.iter().zip(of_body).map(|(one, other)| *one || other).collect(),
        };
    }
    // A number of runs carries nothing.
    if matches!(control, Control::While { .. }) { vec![false] } else { results }
}

/// The active inputs of each nested graph, given the node's active operands: what is carried is active if it is so in any
/// run of the body.
pub(crate) fn active_inputs<'a>(control: &'a Control, operands: &[bool]) -> Vec<(&'a Graph, Vec<Value>)> {
    let carried = match control {
        Control::Loop { carried, .. } => *carried,
        Control::While { .. } | Control::Cond { .. } => 0,
    };
    let of_body = |body: &'a Graph| {
        let mut flags = operands.to_vec();
        let order = body.order();
        loop {
            let is_active = |place: usize| operand_slot(control, place).and_then(|slot| flags.get(slot).copied());
            let inputs = body.inputs().into_iter().enumerate();
            let inputs: Vec<Value> =
                inputs.filter(|(place, _)| is_active(*place) == Some(true)).map(|(_, input)| input).collect();
            let active = active_values(body, &order, &inputs);
            let known = flags.clone();
            for (flag, result) in flags.iter_mut().zip(&body.results).take(carried) {
                *flag |= active.contains(&result.value);
            }
            if flags == known {
                return (body, inputs);
            }
        }
    };
    control.bodies().into_iter().map(|(_, body)| of_body(body)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_is_active_if_any_run_makes_it_so() {
        let text = "lrpc 1\ninput %x : f32[T, 2]\ninput %a : f32[2]\ninput %b : f32[2]\ninput %c : f32[2]\nforward\n  \
                    %l.a, %l.b, %l.c = loop %a, %b, %c, %x {trips=T, carried=3, scanned=1} : f32[2], f32[2], f32[2]\n    body\n      \
                    input %i : i64[]\n      input %a : f32[2]\n      input %b : f32[2]\n      input %c : f32[2]\n      \
                    input %x : f32[2]\n      forward\n        %n = neg %c : f32[2]\n      result \"a\" = %x\n      \
                    result \"b\" = %a\n      result \"c\" = %n\n    end\nresult \"a\" = %l.a\nresult \"b\" = %l.b\nresult \"c\" = %l.c\n";
        let graph = lrpc_ir::text::parse(text).unwrap();
        lrpc_ir::verify::verify(&graph).unwrap();
        let x = graph.find("x").unwrap();
        let active = active_values(&graph, &graph.order(), &[x]);
        let is_active = |name: &str| active.contains(&graph.find(name).unwrap());
        assert_eq!(["l.a", "l.b", "l.c"].map(is_active), [true, true, false]);
    }
}
