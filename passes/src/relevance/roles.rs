//! The place that an operation has in the network, as composites select by it.

use lrpc_ir::graph::{Graph, NodeId, Value};
use lrpc_ir::ops::{Binary, Elementwise, Function, Movement, Op, Source};

/// A role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A linear map that reads a graph input, seen through movement.
    First,
    /// A linear map that makes the explained output, seen through movement.
    Head,
    /// An addition of a constant.
    Bias,
    /// An addition of two activations.
    Residual,
    /// A product of a signal and the output of a sigmoid or hard-sigmoid.
    Gate,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 5] = [Role::First, Role::Head, Role::Bias, Role::Residual, Role::Gate];

    /// The word in composites.
    pub fn name(self) -> &'static str {
        match self {
            Role::First => "first",
            Role::Head => "head",
            Role::Bias => "bias",
            Role::Residual => "residual",
            Role::Gate => "gate",
        }
    }

    /// The role of that name.
    pub fn from_name(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// The roles of `node`, given which operands are active and which value is explained.
pub fn roles_of(graph: &Graph, node: NodeId, active: &[bool], explained: &[Value]) -> Vec<Role> {
    let mut roles = Vec::new();
    let actives = active.iter().filter(|&&operand| operand).count();
    match &graph.node(node).op {
        Op::Linear(_) => {
            let operands = graph.operands(node);
            let reads_input = |(operand, &active): (&Value, &bool)| active && is_graph_input(graph, *operand);
            if operands.iter().zip(active).any(reads_input) {
                roles.push(Role::First);
            }
            if explained.iter().any(|&value| through_movement(graph, value).node == node) {
                roles.push(Role::Head);
            }
        }
        Op::Elementwise(Elementwise::Binary(Binary::Add | Binary::Sub)) => {
            roles.push(if actives > 1 { Role::Residual } else { Role::Bias });
        }
        Op::Elementwise(Elementwise::Binary(Binary::Mul)) if actives > 1 && bounded_gate(graph, node).is_some() => {
            roles.push(Role::Gate);
        }
        _ => {}
    }
    roles
}

fn is_graph_input(graph: &Graph, value: Value) -> bool {
    matches!(graph.node(through_movement(graph, value).node).op, Op::Source(Source::Input(_)))
}

/// The value before all movement of a single tensor, casts included.
fn through_movement(graph: &Graph, mut value: Value) -> Value {
    loop {
        let moves = match &graph.node(value.node).op {
            Op::Movement(Movement::Concat { .. }) => false,
            Op::Movement(_) | Op::Elementwise(Elementwise::Cast(_)) => true,
            _ => false,
        };
        match graph.operand(value.node, 0) {
            Some(operand) if moves => value = operand,
            _ => return value,
        }
    }
}

/// Which factor of a product is its gate: the one that alone is the output of a sigmoid or hard-sigmoid, seen through
/// movement (RULES.md section 4).
pub fn bounded_gate(graph: &Graph, node: NodeId) -> Option<usize> {
    let is_gate = |slot: usize| {
        let source = graph.operand(node, slot).map(|operand| through_movement(graph, operand));
        let op = source.map(|source| &graph.node(source.node).op);
        matches!(op, Some(Op::Elementwise(Elementwise::Unary(unary)))
            if matches!(unary.function, Function::Sigmoid | Function::HardSigmoid))
    };
    if graph.node(node).op != Op::Elementwise(Elementwise::Binary(Binary::Mul)) {
        return None;
    }
    match (is_gate(0), is_gate(1)) {
        (true, false) => Some(0),
        (false, true) => Some(1),
        _ => None,
    }
}
