//! A part of a fused call: some of its results, from its operands and from other results that need no computing.

use std::collections::{BTreeSet, HashMap};

use lrpc_ir::graph::{Origin, Region};
use lrpc_ir::ops::Source;
use lrpc_ir::{Graph, GraphError, GraphResult, NodeId, Op, Value};

/// A fused graph, and which operands or results of the whole call its inputs are.
pub(super) struct Part {
    pub(super) body: Graph,
    pub(super) inputs: Vec<From>,
}

/// What an input of a part is in the whole call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// The operand at this place.
    Operand(usize),
    /// The result at this place.
    Result(usize),
}

/// The part of `body` that computes the results at the places `wanted`. Results at the places `stops` are read instead
/// of computed, unless they are wanted. Values keep their names.
pub(super) fn part(body: &Graph, wanted: &[usize], stops: &[usize]) -> Result<Part, GraphError> {
    let value = |place: &usize| body.results.get(*place).map(|result| result.value);
    let wanted: Vec<&GraphResult> = wanted.iter().filter_map(|&place| body.results.get(place)).collect();
    let stops: HashMap<NodeId, usize> = stops
        .iter()
        .filter_map(|place| Some((value(place)?, *place)))
        .filter(|(stop, _)| wanted.iter().all(|result| result.value != *stop))
        .map(|(stop, place)| (stop.node, place))
        .collect();
    let needed = needed(body, &wanted, &stops);
    let (mut part, mut inputs, mut copies) = (Graph::new(), Vec::new(), HashMap::new());
    let operands: HashMap<NodeId, usize> =
        body.inputs().into_iter().enumerate().map(|(place, input)| (input.node, place)).collect();
    for node in body.ids().filter(|node| needed.contains(node)) {
        let content = body.node(node);
        let from = match (operands.get(&node), stops.get(&node)) {
            (Some(&place), _) => Some(From::Operand(place)),
            (None, Some(&place)) => Some(From::Result(place)),
            (None, None) => None,
        };
        let name = body.name(node.into());
        let copy = if let Some(from) = from {
            inputs.push(from);
            let op = Op::Source(Source::Input(body.ty(node.into()).clone()));
            part.add(Region::Header, op, &[], name, Origin::default())?
        } else {
            let read: Vec<Value> =
                body.operands(node).iter().filter_map(|operand| copies.get(&operand.node).copied()).collect();
            part.add(content.region, content.op.clone(), &read, name, content.origin.clone())?
        };
        copies.insert(node, copy);
    }
    for result in wanted {
        let copy = copies.get(&result.value.node).copied();
        part.results.extend(copy.map(|value| GraphResult { name: result.name.clone(), value }));
    }
    Ok(Part { body: part, inputs })
}

/// The nodes on which the wanted results depend, up to the stops.
fn needed(body: &Graph, wanted: &[&GraphResult], stops: &HashMap<NodeId, usize>) -> BTreeSet<NodeId> {
    let mut needed = BTreeSet::new();
    let mut stack: Vec<NodeId> = wanted.iter().map(|result| result.value.node).collect();
    while let Some(node) = stack.pop() {
        if needed.insert(node) && !stops.contains_key(&node) {
            stack.extend(body.operands(node).into_iter().map(|operand| operand.node));
        }
    }
    needed
}

#[cfg(test)]
mod tests {
    use super::*;
    use lrpc_ir::text;

    const BODY: &str = "lrpc 1\ninput %x : f32[4]\ninput %z : f32[4]\nforward\n  %a = neg %x : f32[4]\n\
                        \x20 %b = add %a, %z : f32[4]\n  %c = tanh %b : f32[4]\n  %d = mul %c, %a : f32[4]\n\
                        result \"a\" = %a\nresult \"b\" = %b\nresult \"d\" = %d\n";

    #[track_caller]
    fn check(wanted: &[usize], stops: &[usize], inputs: &[From], body: &str) {
        let part = part(&text::parse(BODY).unwrap(), wanted, stops).unwrap();
        assert_eq!(part.inputs, inputs);
        assert_eq!(text::print(&part.body), body);
    }

    #[test]
    fn a_part_holds_what_is_wanted() {
        let body = "lrpc 1\ninput %x : f32[4]\nforward\n  %a = neg %x : f32[4]\nresult \"a\" = %a\n";
        check(&[0], &[], &[From::Operand(0)], body);
    }

    #[test]
    fn a_part_begins_at_stops() {
        let body = "lrpc 1\ninput %a : f32[4]\ninput %b : f32[4]\nforward\n  %c = tanh %b : f32[4]\n\
                    \x20 %d = mul %c, %a : f32[4]\nresult \"d\" = %d\n";
        check(&[2], &[0, 1], &[From::Result(0), From::Result(1)], body);
        let body = "lrpc 1\ninput %z : f32[4]\ninput %a : f32[4]\nforward\n  %b = add %a, %z : f32[4]\n\
                    result \"b\" = %b\n";
        check(&[1], &[0, 1], &[From::Operand(1), From::Result(0)], body);
    }
}
