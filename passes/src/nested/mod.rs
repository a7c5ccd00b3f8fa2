//! Nested graphs as passes see them.
//!
//! A body knows of the outer graph by its captured inputs alone. What is captured may be a constant outside, and passes
//! see it as one: a body is [`open`]ed, whereupon captured literals stand in it themselves and other captured constants
//! as weights; it is changed like any graph; and it is [`close`]d, whereupon weights are captured inputs again, what
//! depends on constants alone has moved to the outer graph's `prepare`, so that no run of the body repeats it, and what
//! the body does not read any more is no operand any more.

mod assemble;
mod unused;

use std::collections::HashMap;

use lrpc_ir::graph::{Graph, GraphError, NodeId, Origin, Region, Value};
use lrpc_ir::ops::{Control, Op, Source, WeightPlace};

pub(crate) use assemble::{Draft, assemble, reached_inputs};
pub(crate) use unused::drop_unused;

/// The nodes that hold graphs, operands before users.
pub(crate) fn holders(graph: &Graph) -> Vec<NodeId> {
    let mut holders = graph.order();
    holders.retain(|&node| matches!(graph.node(node).op, Op::Control(_)));
    holders
}

/// The operand that the input of a nested graph at `place` is; `None` for the position.
pub(crate) fn operand_slot(control: &Control, place: usize) -> Option<usize> {
    match control {
        Control::Loop { .. } => place.checked_sub(1),
        Control::While { .. } => (place > 0).then_some(place),
        Control::Cond { .. } => Some(place),
    }
}

/// How many inputs of the nested graphs come before the captured ones: position, carried values, slices.
pub(crate) fn bound_inputs(control: &Control) -> usize {
    match control {
        Control::Loop { carried, scanned, .. } => 1 + carried + scanned,
        Control::While { carried, .. } => 1 + carried,
        Control::Cond { .. } => 0,
    }
}

/// How many operands come before the captured ones.
pub(crate) fn bound_operands(control: &Control) -> usize {
    match control {
        Control::Loop { carried, scanned, .. } => carried + scanned,
        Control::While { carried, .. } => 1 + carried,
        Control::Cond { .. } => 0,
    }
}

/// `control` over other nested graphs, as many as it has.
pub(crate) fn with_bodies(control: &Control, bodies: Vec<Graph>) -> Control {
    let mut changed = control.clone();
    for (place, body) in changed.bodies_mut().into_iter().zip(bodies) {
        *place = body;
    }
    changed
}

/// A nested graph with what it captures.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    /// The graph, in which captured constants are literals and weights.
    pub(crate) graph: Graph,
    /// Its inputs before the captured ones.
    pub(crate) bound: Vec<Value>,
    /// Its captured inputs that are no constants, each with the outer value that it is.
    pub(crate) captured: Vec<(Value, Value)>,
    /// The outer values that its weights are, by the weights' names.
    pub(crate) constants: HashMap<String, Value>,
}

impl Opened {
    /// `body` of the node in `outer` that holds `control` over `operands`.
    fn of(outer: &Graph, control: &Control, operands: &[Value], body: &Graph) -> Result<Opened, GraphError> {
        let mut graph = body.clone();
        let inputs = graph.inputs();
        let bound_count = bound_inputs(control).min(inputs.len());
        let (bound, free) = (inputs[..bound_count].to_vec(), &inputs[bound_count..]);
        let mut known: HashMap<Value, Value> = HashMap::new();
        let (mut captured, mut constants) = (Vec::new(), HashMap::new());
        for (place, &input) in free.iter().enumerate() {
            let operand = operand_slot(control, bound_count + place).and_then(|slot| operands.get(slot).copied());
            let Some(operand) = operand else { continue };
            if let Some(&same) = known.get(&operand) {
                graph.replace_uses(input, same);
                continue;
            }
            known.insert(operand, input);
            match &outer.node(operand.node).op {
                Op::Source(literal @ Source::Constant(_)) => {
                    graph.set_op(input.node, Op::Source(literal.clone()), &[])?;
                    graph.set_place(input.node, Region::Prepare, Origin::default());
                }
                _ if outer.is_constant(operand) => {
                    let weight = Source::Weight(WeightPlace::Model, graph.ty(input).clone());
                    graph.set_op(input.node, Op::Source(weight), &[])?;
                    constants.insert(graph.name(input).to_string(), operand);
                }
                _ => captured.push((input, operand)),
            }
        }
        Ok(Opened { graph, bound, captured, constants })
    }

    /// What the nested graph becomes with these inputs before the captured ones and these results.
    pub(crate) fn draft<'a>(&'a self, bound: &'a [Value], results: Vec<(String, Value)>) -> Draft<'a> {
        Draft { opened: self, bound, results }
    }

    /// The results by name.
    pub(crate) fn results(&self) -> Vec<(String, Value)> {
        self.graph.results.iter().map(|result| (result.name.clone(), result.value)).collect()
    }
}

/// The nested graphs of `node`, with captured constants in sight.
pub(crate) fn open(outer: &Graph, node: NodeId) -> Result<Vec<Opened>, GraphError> {
    let Op::Control(control) = &outer.node(node).op else { return Ok(Vec::new()) };
    let operands = outer.operands(node);
    control.bodies().into_iter().map(|(_, body)| Opened::of(outer, control, &operands, body)).collect()
}

/// Puts opened graphs back into `node`.
pub(crate) fn close(outer: &mut Graph, node: NodeId, opened: &[Opened]) -> Result<(), GraphError> {
    let Op::Control(control) = outer.node(node).op.clone() else { return Ok(()) };
    let drafts: Vec<Draft> = opened.iter().map(|body| body.draft(&body.bound, body.results())).collect();
    let (bodies, captured) = assemble(outer, &drafts)?;
    let mut operands = outer.operands(node);
    operands.truncate(bound_operands(&control));
    operands.extend(captured);
    outer.set_op(node, Op::Control(with_bodies(&control, bodies)), &operands)
}
