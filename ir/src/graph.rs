//! The graph: operations as nodes, uses as edges, single static assignment.
//!
//! This is the one file that knows petgraph. Everybody else sees nodes, values, operands and users, always in a
//! deterministic order.

mod results;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use petgraph::Direction::{Incoming, Outgoing};
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;
use thiserror::Error;

pub use crate::choice::{Chosen, CompositeUse, EntryUse, RuleChoice};
pub use crate::ledger::{Absorbed, LedgerLine};
pub use crate::measure::Measure;
use crate::ops::{Movement, Op, Source};
pub use crate::repeat::Repeat;
use crate::types::TensorType;

/// A node of a [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

/// One result of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value {
    /// The node.
    pub node: NodeId,
    /// Which of its results.
    pub port: u32,
}

impl From<NodeId> for Value {
    /// The node's first result.
    fn from(node: NodeId) -> Value {
        Value { node, port: 0 }
    }
}

/// Where a node stands, in the order of execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Region {
    /// Inputs and weights.
    Header,
    /// Depends on weights and literals alone; run once per load.
    Prepare,
    /// The model's own computation.
    Forward,
    /// What the rules generate.
    Relevance,
}

impl Region {
    /// The region's word in the text format.
    pub fn name(self) -> &'static str {
        match self {
            Region::Header => "header",
            Region::Prepare => "prepare",
            Region::Forward => "forward",
            Region::Relevance => "relevance",
        }
    }
}

/// Where a node comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The ONNX node or name scope.
    pub from: Option<Arc<str>>,
    /// The rule or pass that made it.
    pub by: Option<Arc<str>>,
}

impl Origin {
    /// The origin of an imported node.
    pub fn from(scope: &str) -> Origin {
        Origin { from: Some(scope.into()), by: None }
    }

    /// The same ONNX scope, made by `by`.
    pub fn made_by(&self, by: &str) -> Origin {
        Origin { from: self.from.clone(), by: Some(by.into()) }
    }
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// Where it stands.
    pub region: Region,
    /// Where it comes from.
    pub origin: Origin,
    names: Vec<Arc<str>>,
    types: Vec<TensorType>,
}

impl Node {
    /// The types of its results.
    pub fn types(&self) -> &[TensorType] {
        &self.types
    }

    /// The names of its results.
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }
}

/// One use: which operand of the consumer, which result of the producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Use {
    slot: u32,
    port: u32,
}

/// The ONNX model that a graph was compiled from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelReference {
    /// Path relative to the graph file.
    pub path: String,
    /// Size of the model file in bytes.
    pub bytes: u64,
    /// SHA-256 of the model without its weights' payload, in hexadecimal.
    pub structure: String,
}

/// What the graph gives to its caller.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GraphResult {
    /// The name under which it is returned, e.g. `relevance/x`.
    pub name: String,
    /// The value.
    pub value: Value,
}

/// Why a node cannot be added or changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GraphError {
    /// The operation does not accept its operands.
    #[error("%{name} = {mnemonic}: {reason}")]
    Type {
        /// The result's name.
        name: String,
        /// The operation.
        mnemonic: &'static str,
        /// Why.
        reason: String,
    },
    /// The name is taken.
    #[error("the name %{0} is used twice")]
    Duplicate(String),
}

/// A tensor program in three regions. See the crate's manual for its invariants.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// The model that it was compiled from.
    pub model: Option<ModelReference>,
    /// The composites that made its relevance region.
    pub composites: Vec<CompositeUse>,
    /// The entries of these composites that chose rules.
    pub entries: Vec<EntryUse>,
    /// Which rule serves which operation.
    pub choices: Vec<RuleChoice>,
    /// Which results are sums over several runs.
    pub repeats: Vec<Repeat>,
    /// The conditions that relevance was restricted to, as they were asked for: the first is `c0`.
    pub conditions: Vec<String>,
    /// Sizes that depend on data, each after those that its value depends on.
    pub measures: Vec<Measure>,
    /// What it returns.
    pub results: Vec<GraphResult>,
    /// The ledger.
    pub ledger: Vec<LedgerLine>,
    nodes: StableDiGraph<Node, Use>,
    names: HashMap<Arc<str>, Value>,
}

impl Graph {
    /// A graph without nodes.
    pub fn new() -> Graph {
        Graph::default()
    }

    /// Adds an operation with one result called `name`; its type is inferred.
    ///
    /// # Errors
    /// Operands that do not fit, and a name that is taken.
    pub fn add(
        &mut self,
        region: Region,
        op: Op,
        operands: &[Value],
        name: &str,
        origin: Origin,
    ) -> Result<Value, GraphError> {
        self.add_many(region, op, operands, &[name], origin).map(Value::from)
    }

    /// Adds an operation with several results; their types are inferred.
    ///
    /// # Errors
    /// As [`Graph::add`].
    pub fn add_many(
        &mut self,
        region: Region,
        op: Op,
        operands: &[Value],
        names: &[&str],
        origin: Origin,
    ) -> Result<NodeId, GraphError> {
        let types = self.infer(&op, operands, names.first().copied().unwrap_or_default())?;
        if let Some(taken) = names.iter().find(|name| self.names.contains_key(**name)) {
            return Err(GraphError::Duplicate((*taken).into()));
        }
        if types.len() != names.len() || names.iter().collect::<BTreeSet<_>>().len() != names.len() {
            return Err(GraphError::Duplicate(names.join(", ")));
        }
        let names: Vec<Arc<str>> = names.iter().map(|&name| name.into()).collect();
        // The header's lines have no place for an origin.
        let header = matches!(op, Op::Source(Source::Input(_) | Source::Weight(..)));
        let (region, origin) = if header { (Region::Header, Origin::default()) } else { (region, origin) };
        let index = self.nodes.add_node(Node { op, region, origin, names: names.clone(), types });
        let node = NodeId(index.index() as u32);
        for (port, name) in names.into_iter().enumerate() {
            self.names.insert(name, Value { node, port: port as u32 });
        }
        self.connect(node, operands);
        Ok(node)
    }

    fn infer(&self, op: &Op, operands: &[Value], name: &str) -> Result<Vec<TensorType>, GraphError> {
        let types: Vec<&TensorType> = operands.iter().map(|&operand| self.ty(operand)).collect();
        op.infer(&types).map_err(|reason| GraphError::Type { name: name.into(), mnemonic: op.mnemonic(), reason })
    }

    fn connect(&mut self, node: NodeId, operands: &[Value]) {
        for (slot, operand) in operands.iter().enumerate() {
            self.nodes.add_edge(index(operand.node), index(node), Use { slot: slot as u32, port: operand.port });
        }
    }

    /// The node's content.
    pub fn node(&self, node: NodeId) -> &Node {
        &self.nodes[index(node)]
    }

    /// Whether the node exists (it may have been removed).
    pub fn contains(&self, node: NodeId) -> bool {
        self.nodes.contains_node(index(node))
    }

    /// The value's type.
    pub fn ty(&self, value: Value) -> &TensorType {
        &self.node(value.node).types[value.port as usize]
    }

    /// The value's name.
    pub fn name(&self, value: Value) -> &str {
        &self.node(value.node).names[value.port as usize]
    }

    /// The value called `name`.
    pub fn find(&self, name: &str) -> Option<Value> {
        self.names.get(name).copied()
    }

    /// `base`, or `base.1`, `base.2`, … if that is taken.
    pub fn fresh_name(&self, base: &str) -> String {
        if !self.names.contains_key(base) {
            return base.into();
        }
        let name = |count: u64| format!("{base}.{count}");
        let is_taken = |count: u64| self.names.contains_key(name(count).as_str());
        // A name is taken thousands of times where a model repeats itself: the first gap is searched for, not walked to.
        let (mut taken, mut free) = (0, 1);
        while is_taken(free) {
            (taken, free) = (free, free.saturating_mul(2));
        }
        while free - taken > 1 {
            let middle = taken + (free - taken) / 2;
            if is_taken(middle) { taken = middle } else { free = middle }
        }
        name(free)
    }

    /// Gives `value` another name; where that is taken, the two values exchange names.
    pub fn rename(&mut self, value: Value, name: &str) {
        let old: Arc<str> = self.node(value.node).names[value.port as usize].clone();
        let new: Arc<str> = name.into();
        if let Some(&other) = self.names.get(&new) {
            self.nodes[index(other.node)].names[other.port as usize] = old.clone();
            self.names.insert(old, other);
        } else {
            self.names.remove(&old);
        }
        self.nodes[index(value.node)].names[value.port as usize] = new.clone();
        self.names.insert(new, value);
    }

    /// The node's operands in order.
    pub fn operands(&self, node: NodeId) -> Vec<Value> {
        let mut operands: Vec<(u32, Value)> = self
            .nodes
            .edges_directed(index(node), Incoming)
            .map(|edge| (edge.weight().slot, Value { node: id(edge.source()), port: edge.weight().port }))
            .collect();
        operands.sort_by_key(|(slot, _)| *slot);
        operands.into_iter().map(|(_, value)| value).collect()
    }

    /// The operand at `slot`.
    pub fn operand(&self, node: NodeId, slot: usize) -> Option<Value> {
        let edge = self.nodes.edges_directed(index(node), Incoming).find(|edge| edge.weight().slot as usize == slot)?;
        Some(Value { node: id(edge.source()), port: edge.weight().port })
    }

    /// Every use of `value`: consumer and operand slot, in ascending order. Results and ledger lines are not uses.
    pub fn users(&self, value: Value) -> Vec<(NodeId, usize)> {
        let mut users: Vec<(NodeId, usize)> = self
            .nodes
            .edges_directed(index(value.node), Outgoing)
            .filter(|edge| edge.weight().port == value.port)
            .map(|edge| (id(edge.target()), edge.weight().slot as usize))
            .collect();
        users.sort();
        users
    }

    /// Whether a result, a size or a ledger line names `value`.
    pub fn is_returned(&self, value: Value) -> bool {
        self.roots().any(|root| root == value)
    }

    /// The values that sizes, results and ledger lines name.
    pub fn roots(&self) -> impl Iterator<Item = Value> {
        self.measures.iter().map(|measure| measure.value).chain(self.wanted())
    }

    /// The values that results and ledger lines name.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = Value> {
        self.results.iter().map(|result| result.value).chain(self.ledger_values())
    }

    fn ledger_values(&self) -> impl Iterator<Item = Value> {
        self.ledger.iter().flat_map(|line| {
            let absorbed = line.absorbed.iter().map(|(_, value)| *value);
            line.input.iter().chain(&line.output).copied().chain(absorbed)
        })
    }

    /// Replaces the operation and operands of `node`, keeping its names.
    ///
    /// # Errors
    /// Operands that do not fit, and a change of the number of results.
    pub fn set_op(&mut self, node: NodeId, op: Op, operands: &[Value]) -> Result<(), GraphError> {
        let name = self.node(node).names[0].to_string();
        let types = self.infer(&op, operands, &name)?;
        if types.len() != self.node(node).types.len() {
            let reason = "the number of results changes".into();
            return Err(GraphError::Type { name, mnemonic: op.mnemonic(), reason });
        }
        let edges: Vec<_> = self.nodes.edges_directed(index(node), Incoming).map(|edge| edge.id()).collect();
        for edge in edges {
            self.nodes.remove_edge(edge);
        }
        let content = &mut self.nodes[index(node)];
        content.op = op;
        content.types = types;
        self.connect(node, operands);
        Ok(())
    }

    /// Moves `node` to another region or origin.
    pub fn set_place(&mut self, node: NodeId, region: Region, origin: Origin) {
        let content = &mut self.nodes[index(node)];
        content.region = region;
        content.origin = origin;
    }

    /// Lets every use of `old` (operands, results, ledger) use `new` instead.
    pub fn replace_uses(&mut self, old: Value, new: Value) {
        self.replace_operands(old, new);
        self.replace_roots(&HashMap::from([(old, new)]));
    }

    /// Lets every operand that is `old` be `new` instead.
    pub fn replace_operands(&mut self, old: Value, new: Value) {
        let edges: Vec<_> = self
            .nodes
            .edges_directed(index(old.node), Outgoing)
            .filter(|edge| edge.weight().port == old.port)
            .map(|edge| (edge.id(), edge.target(), edge.weight().slot))
            .collect();
        for (edge, target, slot) in edges {
            self.nodes.remove_edge(edge);
            self.nodes.add_edge(index(new.node), target, Use { slot, port: new.port });
        }
    }

    /// Lets sizes, results and ledger lines that name a key name its value instead, and so on from that; no chain of
    /// replacements may come back to where it began.
    pub fn replace_roots(&mut self, replaced: &HashMap<Value, Value>) {
        let swap = |value: &mut Value| {
            while let Some(new) = replaced.get(value) {
                *value = *new;
            }
        };
        self.results.iter_mut().for_each(|result| swap(&mut result.value));
        self.measures.iter_mut().for_each(|measure| swap(&mut measure.value));
        for line in &mut self.ledger {
            line.input.iter_mut().for_each(swap);
            line.output.iter_mut().for_each(swap);
            line.absorbed.iter_mut().for_each(|(_, value)| swap(value));
        }
    }

    /// Lets operand `slot` of `node` be `new`. The caller keeps the types right.
    pub fn set_operand(&mut self, node: NodeId, slot: usize, new: Value) {
        let edge = self
            .nodes
            .edges_directed(index(node), Incoming)
            .find(|edge| edge.weight().slot as usize == slot)
            .map(|e| e.id());
        if let Some(edge) = edge {
            self.nodes.remove_edge(edge);
        }
        self.nodes.add_edge(index(new.node), index(node), Use { slot: slot as u32, port: new.port });
    }

    /// Removes a node that nobody uses.
    pub fn remove(&mut self, node: NodeId) {
        if let Some(content) = self.nodes.remove_node(index(node)) {
            for name in content.names {
                self.names.remove(&name);
            }
        }
    }

    /// Removes every size that nothing has, and every node that no result, size or ledger line needs. The model's inputs
    /// stay; those that the compiler made, which have defaults, do not.
    pub fn remove_dead(&mut self) {
        self.remove_unused_measures();
        let live: BTreeSet<NodeId> = self.order().into_iter().collect();
        let stays = |node: NodeId| self.is_input(node) && self.operand(node, 0).is_none();
        let dead: Vec<NodeId> = self.ids().filter(|&node| !live.contains(&node) && !stays(node)).collect();
        dead.into_iter().for_each(|node| self.remove(node));
    }

    /// Every node in ascending order of identity, which is the order of creation where nothing was removed.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.node_indices().map(id)
    }

    /// The number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.node_count()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn is_input(&self, node: NodeId) -> bool {
        matches!(self.node(node).op, Op::Source(Source::Input(_)))
    }

    /// Whether the value depends on weights and literals alone, as far as it has been moved to `prepare`.
    pub fn is_constant(&self, value: Value) -> bool {
        let node = self.node(value.node);
        node.region == Region::Prepare || matches!(node.op, Op::Source(Source::Weight(..)))
    }

    /// The constant that the value is, or copies through broadcasts.
    pub fn constant_source(&self, mut value: Value) -> Option<Value> {
        loop {
            if self.is_constant(value) {
                return Some(value);
            }
            match &self.node(value.node).op {
                Op::Movement(Movement::Broadcast { .. }) => value = self.operand(value.node, 0)?,
                _ => return None,
            }
        }
    }

    /// The graph inputs in order of creation.
    pub fn inputs(&self) -> Vec<Value> {
        self.ids().filter(|&node| self.is_input(node)).map(Value::from).collect()
    }

    /// The types of the inputs.
    pub fn input_types(&self) -> Vec<TensorType> {
        self.inputs().into_iter().map(|value| self.ty(value).clone()).collect()
    }

    /// The types of the results.
    pub fn result_types(&self) -> Vec<TensorType> {
        self.results.iter().map(|result| self.ty(result.value).clone()).collect()
    }

    /// The weights by name, in alphabetical order.
    pub fn weights(&self) -> BTreeMap<&str, Value> {
        let weights = self.ids().filter(|&node| matches!(self.node(node).op, Op::Source(Source::Weight(..))));
        weights.map(|node| (self.name(node.into()), Value::from(node))).collect()
    }

    /// The nodes that sizes, results and ledger need: operands before users, in post-order from them, with whole
    /// regions one after the other.
    pub fn order(&self) -> Vec<NodeId> {
        let mut order = self.post_order(self.roots());
        // The sort is stable: within a region the post-order stays. A default of an input reads a later region, but
        // an input is not computed, so the header may come first all the same.
        order.sort_by_key(|&node| self.node(node).region);
        order
    }

    /// `roots` and all that they depend on, operands before users, each node once.
    pub fn post_order(&self, roots: impl IntoIterator<Item = Value>) -> Vec<NodeId> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        let mut stack: Vec<(NodeId, bool)> = Vec::new();
        for root in roots {
            stack.push((root.node, false));
            while let Some((node, expanded)) = stack.pop() {
                if expanded {
                    order.push(node);
                } else if seen.insert(node) {
                    stack.push((node, true));
                    let operands = self.operands(node);
                    stack.extend(operands.iter().rev().map(|operand| (operand.node, false)));
                }
            }
        }
        order
    }

    /// Whether the graph has a cycle; only a parsed file can have one.
    pub fn is_cyclic(&self) -> bool {
        // petgraph's own test for cycles recurses, and a chain may be as long as a file says.
        petgraph::algo::toposort(&self.nodes, None).is_err()
    }

    /// Adds nodes whose operands are named rather than given, as a file does; see [`NamedNode`].
    ///
    /// # Errors
    /// Duplicate and unknown names. Types are taken as declared; the verifier checks them.
    pub fn add_named(&mut self, nodes: Vec<NamedNode>) -> Result<(), NamedNodeError> {
        let mut added = Vec::with_capacity(nodes.len());
        for (place, node) in nodes.into_iter().enumerate() {
            let names: Vec<Arc<str>> = node.results.iter().map(|(name, _)| name.as_str().into()).collect();
            let types = node.results.into_iter().map(|(_, ty)| ty).collect();
            let index = self.nodes.add_node(Node {
                op: node.op,
                region: node.region,
                origin: node.origin,
                names: names.clone(),
                types,
            });
            for (port, name) in names.into_iter().enumerate() {
                let value = Value { node: id(index), port: port as u32 };
                if self.names.insert(name.clone(), value).is_some() {
                    return Err(NamedNodeError { place, reason: format!("the name %{name} is used twice") });
                }
            }
            added.push((place, id(index), node.operands));
        }
        for (place, node, operands) in added {
            let resolve = |name: &String| {
                self.find(name).ok_or_else(|| NamedNodeError { place, reason: format!("%{name} is not defined") })
            };
            let operands = operands.iter().map(resolve).collect::<Result<Vec<_>, _>>()?;
            self.connect(node, &operands);
        }
        Ok(())
    }

    /// A node's content with operands and results by name, for comparison and printing.
    fn view(&self, node: NodeId) -> (&Node, Vec<&str>) {
        (self.node(node), self.operands(node).into_iter().map(|operand| self.name(operand)).collect())
    }

    fn named_ledger(&self) -> Vec<NamedLedgerLine<'_>> {
        let names = |values: &[Value]| values.iter().map(|&value| self.name(value)).collect::<Vec<_>>();
        let line_of = |line| {
            let LedgerLine { site, rule, input, output, absorbed }: &LedgerLine = line;
            let flows = [names(input), vec![""], names(output)].concat();
            let absorbed = absorbed.iter().map(|&(kind, value)| (kind, self.name(value))).collect();
            (site.as_str(), rule.as_str(), flows, absorbed)
        };
        self.ledger.iter().map(line_of).collect()
    }
}

/// Site, rule, inputs and outputs, absorbed terms, all by name.
type NamedLedgerLine<'a> = (&'a str, &'a str, Vec<&'a str>, Vec<(Absorbed, &'a str)>);

/// A node as a file states it.
#[derive(Debug, Clone)]
pub struct NamedNode {
    /// The operation.
    pub op: Op,
    /// Where it stands.
    pub region: Region,
    /// Where it comes from.
    pub origin: Origin,
    /// Names and declared types of its results.
    pub results: Vec<(String, TensorType)>,
    /// Names of its operands.
    pub operands: Vec<String>,
}

/// Which of the nodes given to [`Graph::add_named`] is wrong, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedNodeError {
    /// Place in the list.
    pub place: usize,
    /// Why.
    pub reason: String,
}

impl PartialEq for Graph {
    /// Structural: headers, nodes with names, operands, types, regions and origins, results and ledger.
    fn eq(&self, other: &Graph) -> bool {
        let results = |graph: &Graph| -> Vec<(String, String)> {
            graph.results.iter().map(|result| (result.name.clone(), graph.name(result.value).to_string())).collect()
        };
        let measures = |graph: &Graph| -> Vec<(String, String)> {
            let named = |measure: &Measure| (measure.symbol.clone(), graph.name(measure.value).to_string());
            graph.measures.iter().map(named).collect()
        };
        let inputs = |graph: &Graph| -> Vec<String> {
            graph.inputs().into_iter().map(|value| graph.name(value).to_string()).collect()
        };
        self.model == other.model
            && self.composites == other.composites
            && self.entries == other.entries
            && self.choices == other.choices
            && self.repeats == other.repeats
            && self.conditions == other.conditions
            && self.len() == other.len()
            && measures(self) == measures(other)
            && results(self) == results(other)
            && inputs(self) == inputs(other)
            && self.named_ledger() == other.named_ledger()
            && self.ids().all(|node| {
                let mirror = other.find(&self.node(node).names[0]);
                mirror.is_some_and(|mirror| self.view(node) == other.view(mirror.node))
            })
    }
}

impl Eq for Graph {}

impl Hash for Graph {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.len().hash(state);
        for result in &self.results {
            (&result.name, self.name(result.value)).hash(state);
        }
    }
}

fn index(node: NodeId) -> NodeIndex {
    NodeIndex::new(node.0 as usize)
}

fn id(index: NodeIndex) -> NodeId {
    NodeId(index.index() as u32)
}
