//! Drops what nobody reads: results of nodes that hold graphs, what their bodies carry, stack and compute for them alone,
//! and the operands of that.

use std::collections::HashSet;

use lrpc_ir::graph::{Graph, GraphError, NodeId, Value};
use lrpc_ir::ops::{Control, Op};

use super::{Opened, assemble, bound_inputs, bound_operands, holders, reached_inputs, with_bodies};

/// Drops unused results of nodes that hold graphs, and what is computed for them alone, in nested graphs too.
///
/// # Errors
/// None on a graph that the verifier accepts.
pub(crate) fn drop_unused(graph: &mut Graph) -> Result<(), GraphError> {
    for node in holders(graph).into_iter().rev() {
        shrink(graph, node)?;
    }
    graph.remove_dead();
    Ok(())
}

fn shrink(graph: &mut Graph, node: NodeId) -> Result<(), GraphError> {
    let Op::Control(control) = graph.node(node).op.clone() else { return Ok(()) };
    let ports = graph.node(node).types().len();
    let is_used = |port: &usize| {
        let value = Value { node, port: *port as u32 };
        !graph.users(value).is_empty() || graph.is_returned(value)
    };
    let used: Vec<usize> = (0..ports).filter(is_used).collect();
    if used.is_empty() {
        return Ok(());
    }
    let operands = graph.operands(node);
    let opened: Vec<Opened> =
        control.bodies().into_iter().map(|(_, body)| as_it_is(&control, &operands, body)).collect();
    let kept = Kept::of(&control, &opened, &used);
    let bounds: Vec<Vec<Value>> = opened.iter().map(|body| kept.bound(&body.bound)).collect();
    let drafts: Vec<_> =
        opened.iter().zip(&bounds).map(|(body, bound)| body.draft(bound, kept.results(body))).collect();
    let (mut bodies, captured) = assemble(graph, &drafts)?;
    bodies.iter_mut().try_for_each(drop_unused)?;
    let places = kept.inputs.iter().filter_map(|&place| match &control {
        // The place of the position is that of the limit.
        Control::While { .. } => Some(place),
        _ => place.checked_sub(1),
    });
    let mut shrunk: Vec<Value> = places.filter_map(|slot| operands.get(slot).copied()).collect();
    shrunk.extend(captured);
    let names: Vec<String> = graph.node(node).names().iter().map(ToString::to_string).collect();
    let names: Vec<&str> = kept.ports.iter().filter_map(|&port| names.get(port).map(String::as_str)).collect();
    graph.set_results(node, Op::Control(kept.control(with_bodies(&control, bodies))), &shrunk, &names)
}

/// The body with its constants out of sight: nothing is to move.
fn as_it_is(control: &Control, operands: &[Value], body: &Graph) -> Opened {
    let inputs = body.inputs();
    let (bound, free) = inputs.split_at(bound_inputs(control).min(inputs.len()));
    let captured = free.iter().copied().zip(operands.iter().skip(bound_operands(control)).copied()).collect();
    Opened { graph: body.clone(), bound: bound.to_vec(), captured, constants: Default::default() }
}

/// What stays of a node and its nested graphs, by place.
struct Kept {
    /// Inputs before the captured ones.
    inputs: Vec<usize>,
    /// Results of the nested graphs.
    results: Vec<usize>,
    /// Results of the node.
    ports: Vec<usize>,
    carried: usize,
    scanned: usize,
}

impl Kept {
    fn of(control: &Control, opened: &[Opened], used: &[usize]) -> Kept {
        let (carried, before) = match control {
            Control::Loop { carried, .. } => (*carried, 0),
            Control::While { carried, .. } => (*carried, 1),
            Control::Cond { .. } => (0, 0),
        };
        // What is carried is needed from outside, or by what is needed in the next run.
        let mut results: Vec<usize> = if before == 1 { vec![0] } else { used.to_vec() };
        let reached = loop {
            let roots = |body: &Opened| -> HashSet<Value> {
                let values = results.iter().filter_map(|&place| body.graph.results.get(place));
                reached_inputs(&body.graph, values.map(|result| result.value))
            };
            let reached: Vec<HashSet<Value>> = opened.iter().map(roots).collect();
            let known = results.len();
            for place in 0..carried {
                let is_read = opened
                    .iter()
                    .zip(&reached)
                    .any(|(body, reached)| body.bound.get(1 + place).is_some_and(|input| reached.contains(input)));
                if is_read && !results.contains(&(before + place)) {
                    results.push(before + place);
                }
            }
            if results.len() == known {
                break reached;
            }
        };
        results.sort_unstable();
        let is_carried = |place: &usize| results.contains(&(before + place - 1));
        let is_read = |place: usize| {
            let bodies = opened.iter().zip(&reached);
            bodies.into_iter().any(|(body, reached)| body.bound.get(place).is_some_and(|input| reached.contains(input)))
        };
        let all = bound_inputs(control);
        let inputs: Vec<usize> = (0..all)
            .filter(|place| match place {
                0 => true,
                place if *place <= carried => is_carried(place),
                place => is_read(*place),
            })
            .collect();
        let kept_carried = inputs.iter().filter(|&&place| (1..=carried).contains(&place)).count();
        let scanned = inputs.iter().filter(|&&place| place > carried).count();
        let ports = if before == 1 { vec![0] } else { results.clone() };
        Kept { inputs, results, ports, carried: kept_carried, scanned }
    }

    fn bound(&self, inputs: &[Value]) -> Vec<Value> {
        self.inputs.iter().filter_map(|&place| inputs.get(place).copied()).collect()
    }

    fn results(&self, body: &Opened) -> Vec<(String, Value)> {
        let all = body.results();
        self.results.iter().filter_map(|&place| all.get(place).cloned()).collect()
    }

    fn control(&self, control: Control) -> Control {
        let mut control = control;
        match &mut control {
            Control::Loop { carried, scanned, .. } => (*carried, *scanned) = (self.carried, self.scanned),
            Control::While { carried, .. } => *carried = self.carried,
            Control::Cond { .. } => {}
        }
        control
    }
}
