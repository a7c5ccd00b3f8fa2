//! Copying a graph node by node, which is how the steps of binding change graphs.

use std::collections::HashMap;

use lrpc_ir::{Diagnostic, Graph, NodeId, Op, Value};

/// What a node of the old graph is in the new one.
pub(super) enum Outcome {
    /// A node with the same results.
    Node(NodeId),
    /// For nodes with one result: this value.
    Value(Value),
}

/// A changed graph, and what the values of the old one are in it.
pub(super) struct Rewritten {
    pub(super) graph: Graph,
    pub(super) values: HashMap<Value, Value>,
}

/// The nodes that are needed, operands before users: first `inputs`, then what results and ledger depend on.
pub(super) fn topological(graph: &Graph, inputs: &[Value]) -> Vec<NodeId> {
    graph.post_order(inputs.iter().copied().chain(roots(graph)))
}

/// The values that results and ledger name.
pub(super) fn roots(graph: &Graph) -> impl Iterator<Item = Value> {
    let ledger = graph.ledger.iter().flat_map(|line| {
        let absorbed = line.absorbed.iter().map(|(_, value)| *value);
        line.input.iter().chain(&line.output).copied().chain(absorbed)
    });
    graph.results.iter().map(|result| result.value).chain(ledger)
}

/// A new graph from the nodes in `order`. `visit` gets the new graph, the old node and its operands in the new graph,
/// and adds what it needs there.
pub(super) fn rewrite(
    from: &Graph,
    order: &[NodeId],
    mut visit: impl FnMut(&mut Graph, NodeId, &[Value]) -> Result<Outcome, Diagnostic>,
) -> Result<Rewritten, Diagnostic> {
    let mut to = Graph::new();
    to.model = from.model.clone();
    to.composites = from.composites.clone();
    let mut map: HashMap<Value, Value> = HashMap::with_capacity(order.len());
    let find = |map: &HashMap<Value, Value>, value: Value| {
        let missing = || Diagnostic::new("internal error: a value is used before it is computed").at(from.name(value));
        map.get(&value).copied().ok_or_else(missing)
    };
    for &node in order {
        let operands = from.operands(node);
        let operands = operands.into_iter().map(|value| find(&map, value)).collect::<Result<Vec<_>, _>>()?;
        match visit(&mut to, node, &operands)? {
            Outcome::Value(value) => {
                map.insert(node.into(), value);
            }
            Outcome::Node(new) => {
                let ports = 0..from.node(node).types().len() as u32;
                map.extend(ports.map(|port| (Value { node, port }, Value { node: new, port })));
            }
        }
    }
    to.results = from.results.clone();
    for result in &mut to.results {
        result.value = find(&map, result.value)?;
    }
    to.ledger = from.ledger.clone();
    for line in &mut to.ledger {
        let absorbed = line.absorbed.iter_mut().map(|(_, value)| value);
        for value in line.input.iter_mut().chain(&mut line.output).chain(absorbed) {
            *value = find(&map, *value)?;
        }
    }
    Ok(Rewritten { graph: to, values: map })
}

/// Adds `node` of the old graph to the new one, with this operation and these operands.
pub(super) fn copy(
    to: &mut Graph,
    from: &Graph,
    node: NodeId,
    op: Op,
    operands: &[Value],
) -> Result<NodeId, Diagnostic> {
    let content = from.node(node);
    let names: Vec<&str> = content.names().iter().map(AsRef::as_ref).collect();
    to.add_many(content.region, op, operands, &names, content.origin.clone())
        .map_err(|error| Diagnostic::new(error.to_string()).at(label(from, node)))
}

/// What messages call the node: its ONNX scope, or else its result.
pub(super) fn label(graph: &Graph, node: NodeId) -> String {
    let content = graph.node(node);
    content.origin.from.as_deref().unwrap_or_else(|| graph.name(node.into())).to_string()
}
