//! Changing how many results a node has.

use super::{EdgeRef, Graph, GraphError, NodeId, Outgoing, Use, Value, index};
use crate::ops::Op;

impl Graph {
    /// Replaces operation, operands and results of `node`. A result keeps its users under its name; those of other names
    /// are new, and what is not named any more has no users.
    ///
    /// # Errors
    /// Operands that do not fit, another number of results than of names, names that other nodes have, and results that
    /// are used and not named.
    pub fn set_results(&mut self, node: NodeId, op: Op, operands: &[Value], names: &[&str]) -> Result<(), GraphError> {
        let types = self.infer(&op, operands, names.first().copied().unwrap_or_default())?;
        let taken = |name: &&&str| self.find(name).is_some_and(|value| value.node != node);
        let twice = names.iter().enumerate().any(|(place, name)| names[..place].contains(name));
        if let Some(name) = names.iter().find(taken) {
            return Err(GraphError::Duplicate((*name).into()));
        }
        if twice || types.len() != names.len() {
            return Err(GraphError::Duplicate(names.join(", ")));
        }
        let old = self.node(node).names.clone();
        let moved: Vec<Option<u32>> =
            old.iter().map(|old| names.iter().position(|name| **name == **old).map(|port| port as u32)).collect();
        for (port, place) in moved.iter().enumerate() {
            let value = Value { node, port: port as u32 };
            if place.is_none() && (!self.users(value).is_empty() || self.is_returned(value)) {
                let reason = format!("its result %{} is used", self.name(value));
                return Err(GraphError::Type { name: self.name(value).into(), mnemonic: op.mnemonic(), reason });
            }
        }
        let port_now = |port: u32| moved.get(port as usize).copied().flatten().unwrap_or(port);
        let uses: Vec<_> = self
            .nodes
            .edges_directed(index(node), Outgoing)
            .map(|edge| (edge.id(), edge.target(), *edge.weight()))
            .collect();
        for (edge, user, Use { slot, port }) in uses {
            self.nodes.remove_edge(edge);
            self.nodes.add_edge(index(node), user, Use { slot, port: port_now(port) });
        }
        let renumber = |value: &mut Value| {
            if value.node == node {
                value.port = port_now(value.port);
            }
        };
        self.results.iter_mut().for_each(|result| renumber(&mut result.value));
        self.measures.iter_mut().for_each(|measure| renumber(&mut measure.value));
        for line in &mut self.ledger {
            line.input.iter_mut().for_each(renumber);
            line.output.iter_mut().for_each(renumber);
            line.absorbed.iter_mut().for_each(|(_, value)| renumber(value));
        }
        for name in &old {
            self.names.remove(name);
        }
        for (port, name) in names.iter().enumerate() {
            self.names.insert((*name).into(), Value { node, port: port as u32 });
        }
        let content = &mut self.nodes[index(node)];
        content.names = names.iter().map(|&name| name.into()).collect();
        content.types = types.clone();
        self.set_op(node, op, operands)
    }
}
