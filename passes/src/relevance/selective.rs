//! Products of a signal and a parameter that is computed from it: step sizes, decays, and the projections in and out of the
//! state of a selective scan.
//!
//! A *root* of a value is what it is made of by movement, constant factors, sums and products with parameters. In a product
//! one factor is a parameter if it is a function of a root of the other, and not the other way round. So `Δ`, `B` and `C`,
//! which are projections of `u`, are parameters beside `u` and beside the state `h = Ā·h + B̄·u`, whose root is `u`; a gate
//! `y · silu(z)` with `z` from elsewhere has none.

use std::collections::{HashMap, HashSet, VecDeque};

use lrpc_ir::graph::{Graph, NodeId, Value};
use lrpc_ir::ops::{Binary, Elementwise, Function, Linear, Op, ReduceKind, Select};

use super::active::active_operands;
use super::roles::maker;

/// How far a factor is followed back, in nodes: a bound on work, not on meaning.
const WINDOW: usize = 64;

/// The products seen so far that have a parameter. Nodes are visited in forward order.
#[derive(Debug, Default)]
pub struct Selections {
    parameters: HashMap<NodeId, usize>,
}

impl Selections {
    /// The products of the graph that have a parameter, each with the operand that is it. `order` are its nodes, operands
    /// before users.
    pub fn of(graph: &Graph, order: &[NodeId], active: &HashSet<Value>) -> HashMap<NodeId, usize> {
        let mut selections = Selections::default();
        for &node in order {
            selections.visit(graph, node, &active_operands(graph, node, active));
        }
        selections.parameters
    }

    /// The operand of `node` that is a parameter, if it is a product of two activations of which one is.
    pub fn visit(&mut self, graph: &Graph, node: NodeId, active: &[bool]) -> Option<usize> {
        let op = &graph.node(node).op;
        let multiplies = matches!(op, Op::Linear(Linear::Dot(_)) | Op::Elementwise(Elementwise::Binary(Binary::Mul)));
        if !multiplies || active.iter().filter(|&&operand| operand).count() != 2 {
            return None;
        }
        let operands = [graph.operand(node, 0)?, graph.operand(node, 1)?];
        let computed = |slot: usize| {
            let roots = self.roots(graph, operands[1 - slot]);
            self.is_function_of(graph, operands[slot], &roots)
        };
        let parameter = match [computed(0), computed(1)] {
            [true, false] => 0,
            [false, true] => 1,
            _ => return None,
        };
        self.parameters.insert(node, parameter);
        Some(parameter)
    }

    fn roots(&self, graph: &Graph, value: Value) -> HashSet<Value> {
        let mut roots = HashSet::new();
        self.walk(graph, value, |next, seen| {
            if combines(graph, next) || seen >= WINDOW {
                return true;
            }
            roots.insert(next);
            false
        });
        roots
    }

    fn is_function_of(&self, graph: &Graph, value: Value, roots: &HashSet<Value>) -> bool {
        let mut found = false;
        self.walk(graph, value, |next, _| {
            found |= roots.contains(&next);
            !found
        });
        found
    }

    /// Visits `value` and what carries signal to it, nearest first. `goes_on` says whether to look behind a value.
    fn walk(&self, graph: &Graph, value: Value, mut goes_on: impl FnMut(Value, usize) -> bool) {
        let mut open = VecDeque::from([value]);
        let mut seen = HashSet::new();
        while let Some(next) = open.pop_front() {
            if seen.len() > WINDOW || !seen.insert(next) || !goes_on(next, seen.len()) {
                continue;
            }
            if starts_state(graph, next) {
                continue;
            }
            let silent = self.parameters.get(&next.node);
            let operands = graph.operands(next.node).into_iter().enumerate();
            let carries = |slot: usize, operand: Value| silent != Some(&slot) && !graph.is_constant(operand);
            open.extend(operands.filter(|&(slot, operand)| carries(slot, operand)).map(|(_, operand)| operand));
        }
    }
}

/// Whether `value` is a constant times a decay, as the first step of a scan makes of its first state: no signal.
fn starts_state(graph: &Graph, value: Value) -> bool {
    if graph.node(value.node).op != Op::Elementwise(Elementwise::Binary(Binary::Mul)) {
        return false;
    }
    let is_decay = |operand: Value| {
        let op = &graph.node(maker(graph, operand)).op;
        matches!(op, Op::Elementwise(Elementwise::Unary(unary)) if unary.function == Function::Exp)
    };
    match graph.operands(value.node)[..] {
        [first, second] => {
            (graph.is_constant(first) && is_decay(second)) || (graph.is_constant(second) && is_decay(first))
        }
        _ => false,
    }
}

/// Whether `value` only moves, scales, adds or multiplies what it is made of.
fn combines(graph: &Graph, value: Value) -> bool {
    let constant = |slot: usize| graph.operand(value.node, slot).is_none_or(|operand| graph.is_constant(operand));
    match &graph.node(value.node).op {
        Op::Movement(_) | Op::Select(Select::Gather { .. } | Select::ScatterAdd { .. }) => true,
        Op::Elementwise(Elementwise::Cast(_) | Elementwise::Binary(Binary::Add | Binary::Sub | Binary::Mul)) => true,
        Op::Elementwise(Elementwise::Binary(Binary::Div)) => constant(1),
        Op::Elementwise(Elementwise::Unary(unary)) => {
            matches!(unary.function, Function::Scale | Function::Shift | Function::Neg)
        }
        Op::Reduce(reduce) => matches!(reduce.kind, ReduceKind::Sum | ReduceKind::Mean),
        Op::Scan(_) => true,
        // A contraction of two activations; one with a weight makes a new signal.
        Op::Linear(Linear::Dot(_)) => !constant(0) && !constant(1),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parameter of the product `%y`, where every input is active.
    #[track_caller]
    fn check(body: &str, expected: Option<usize>) {
        let text = format!(
            "lrpc 1\nweight @w : f32[4, 4]\nweight @zero : f32[2, 4]\ninput %x : f32[2, 4]\nforward\n%u = tanh %x : f32[2, 4]\n%b = dot %u, @w {{contract=1x0}} : f32[2, 4]\n{body}\nresult \"y\" = %y\n"
        );
        let graph = lrpc_ir::text::parse(&text).unwrap_or_else(|error| panic!("{error}"));
        let mut selections = Selections::default();
        let mut found = None;
        for node in graph.order() {
            let active: Vec<bool> = graph.operands(node).iter().map(|&operand| !graph.is_constant(operand)).collect();
            let parameter = selections.visit(&graph, node, &active);
            if graph.name(node.into()) == "y" {
                found = parameter;
            }
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn a_projection_of_the_signal_is_a_parameter() {
        check("%y = mul %u, %b : f32[2, 4]", Some(1));
        check("%d = softplus %b : f32[2, 4]\n%y = mul %d, %u : f32[2, 4]", Some(0));
        check("%z = dot %x, @w {contract=1x0} : f32[2, 4]\n%y = mul %u, %z : f32[2, 4]", None);
        check("%y = mul %u, %u : f32[2, 4]", None);
    }

    #[test]
    fn the_signal_is_seen_through_the_state() {
        let step = "%d = exp %b : f32[2, 4]\n%i = mul %u, %b : f32[2, 4]\n%a = mul %d, %i : f32[2, 4]\n%h = add %a, %i : f32[2, 4]\n";
        check(&format!("{step}%y = mul %d, %h : f32[2, 4]"), Some(0));
        let first = "%d = exp %b : f32[2, 4]\n%i = mul %u, %b : f32[2, 4]\n%a = mul %d, @zero : f32[2, 4]\n%h = add %a, %i : f32[2, 4]\n";
        check(&format!("{first}%y = mul %d, %h : f32[2, 4]"), Some(0));
        check(&format!("{step}%c = dot %u, @w {{contract=1x0}} : f32[2, 4]\n%y = mul %h, %c : f32[2, 4]"), Some(1));
        check(&format!("{step}%z = swish %x : f32[2, 4]\n%y = mul %h, %z : f32[2, 4]"), None);
    }
}
