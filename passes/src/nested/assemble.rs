//! Nested graphs made anew from opened ones.

use std::collections::{HashMap, HashSet};

use lrpc_ir::graph::{Graph, GraphError, GraphResult, NodeId, Origin, Region, Value};
use lrpc_ir::ops::{Op, Source};

use super::Opened;

/// A nested graph to be made.
pub(crate) struct Draft<'a> {
    /// Where its nodes are taken from.
    pub(crate) opened: &'a Opened,
    /// Its inputs before the captured ones.
    pub(crate) bound: &'a [Value],
    /// Its results.
    pub(crate) results: Vec<(String, Value)>,
}

/// Makes the nested graphs of one node, and says which outer values they capture. Only what results need is in them;
/// promises are what they promise.
pub(crate) fn assemble(outer: &mut Graph, drafts: &[Draft]) -> Result<(Vec<Graph>, Vec<Value>), GraphError> {
    let mut captured: Vec<Value> = Vec::new();
    let mut places: Vec<Vec<(Value, Value)>> = Vec::new();
    for draft in drafts {
        let found = draft.captures(outer)?;
        for &(_, value) in &found {
            if !captured.contains(&value) {
                captured.push(value);
            }
        }
        places.push(found);
    }
    let bodies = drafts.iter().zip(&places).map(|(draft, places)| draft.build(outer, &captured, places));
    Ok((bodies.collect::<Result<Vec<_>, _>>()?, captured))
}

/// The inputs that `roots` depend on.
pub(crate) fn reached_inputs(graph: &Graph, roots: impl IntoIterator<Item = Value>) -> HashSet<Value> {
    let is_input = |node: &NodeId| matches!(graph.node(*node).op, Op::Source(Source::Input(_)));
    graph.post_order(roots).into_iter().filter(is_input).map(Value::from).collect()
}

/// Whether the node is not computed in the nested graph: an input, a weight, or computed from weights alone.
fn comes_from_outside(graph: &Graph, node: NodeId) -> bool {
    match graph.node(node).op {
        Op::Source(Source::Input(_) | Source::Weight(..)) => true,
        Op::Source(_) => false,
        _ => graph.node(node).region == Region::Prepare,
    }
}

impl Draft<'_> {
    /// What is computed in the nested graph, operands before users, and what that and the results read from outside.
    fn needed(&self) -> (Vec<NodeId>, Vec<Value>) {
        let graph = &self.opened.graph;
        let (mut inside, mut outside) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        let mut stack: Vec<(Value, bool)> = self.results.iter().rev().map(|(_, value)| (*value, false)).collect();
        while let Some((value, expanded)) = stack.pop() {
            if expanded {
                inside.push(value.node);
            } else if comes_from_outside(graph, value.node) {
                if !outside.contains(&value) {
                    outside.push(value);
                }
            } else if seen.insert(value.node) {
                stack.push((value, true));
                stack.extend(graph.operands(value.node).into_iter().rev().map(|operand| (operand, false)));
            }
        }
        (inside, outside)
    }

    /// What is read from outside and not bound, with the outer values. Computations on constants move outside.
    fn captures(&self, outer: &mut Graph) -> Result<Vec<(Value, Value)>, GraphError> {
        let mut moved = HashMap::new();
        let (_, outside) = self.needed();
        let free = outside.into_iter().filter(|value| !self.bound.contains(value));
        let found = free.map(|value| {
            let known = self.opened.captured.iter().find(|(input, _)| *input == value).map(|(_, outer)| *outer);
            Ok((value, known.map_or_else(|| self.move_out(outer, value, &mut moved), Ok)?))
        });
        found.collect()
    }

    /// Computes a constant in the outer graph's `prepare`.
    fn move_out(
        &self,
        outer: &mut Graph,
        value: Value,
        moved: &mut HashMap<Value, Value>,
    ) -> Result<Value, GraphError> {
        let graph = &self.opened.graph;
        for node in graph.post_order([value]) {
            let content = graph.node(node);
            if moved.contains_key(&node.into()) {
                continue;
            }
            if matches!(content.op, Op::Source(Source::Weight(..) | Source::Input(_))) {
                let known = self.opened.constants.get(graph.name(node.into())).copied();
                let missing = || GraphError::Duplicate(graph.name(node.into()).into());
                moved.insert(node.into(), known.ok_or_else(missing)?);
                continue;
            }
            let operands: Vec<Value> = graph.operands(node).iter().filter_map(|old| moved.get(old).copied()).collect();
            let names: Vec<String> = content.names().iter().map(|name| outer.fresh_name(name)).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let copy =
                outer.add_many(Region::Prepare, content.op.clone(), &operands, &names, content.origin.clone())?;
            let ports = 0..content.types().len() as u32;
            moved.extend(ports.map(|port| (Value { node, port }, Value { node: copy, port })));
        }
        moved.get(&value).copied().ok_or_else(|| GraphError::Duplicate(graph.name(value).into()))
    }

    /// The graph, whose captured inputs are `captured`; `places` says which of its values each of them is.
    fn build(&self, outer: &Graph, captured: &[Value], places: &[(Value, Value)]) -> Result<Graph, GraphError> {
        let graph = &self.opened.graph;
        let (mut made, mut map) = (Graph::new(), HashMap::new());
        let input = |made: &mut Graph, name: &str, of: &Graph, value: Value| {
            let name = made.fresh_name(name);
            let op = Op::Source(Source::Input(of.ty(value).clone()));
            made.add(Region::Header, op, &[], &name, Origin::default())
        };
        for &value in self.bound {
            map.insert(value, input(&mut made, graph.name(value), graph, value)?);
        }
        for &value in captured {
            let own = places.iter().filter(|(_, outer)| *outer == value).map(|(own, _)| *own);
            let own: Vec<Value> = own.collect();
            let new = match own.first() {
                Some(&first) => input(&mut made, graph.name(first), graph, first)?,
                None => input(&mut made, outer.name(value), outer, value)?,
            };
            map.extend(own.into_iter().map(|own| (own, new)));
        }
        for node in self.needed().0 {
            let content = graph.node(node);
            let operands: Vec<Value> = graph.operands(node).iter().filter_map(|old| map.get(old).copied()).collect();
            if content.op == Op::Promise {
                map.extend(operands.first().map(|&promised| (Value::from(node), promised)));
                continue;
            }
            let names: Vec<String> = content.names().iter().map(|name| made.fresh_name(name)).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let copy = made.add_many(content.region, content.op.clone(), &operands, &names, content.origin.clone())?;
            let ports = 0..content.types().len() as u32;
            map.extend(ports.map(|port| (Value { node, port }, Value { node: copy, port })));
        }
        for (name, value) in &self.results {
            let missing = || GraphError::Duplicate(graph.name(*value).into());
            let value = map.get(value).copied().ok_or_else(missing)?;
            made.results.push(GraphResult { name: name.clone(), value });
        }
        Ok(made)
    }
}
