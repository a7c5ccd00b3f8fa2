//! Items over tensors: what a graph is once its kernel calls are chosen and before they have an order and places.

use std::collections::{BTreeMap, HashMap, HashSet};

use lrpc_ir::graph::{Origin, Region};
use lrpc_ir::ops::{Control, Literal, Movement, Source, WeightPlace};
use lrpc_ir::plan::{KernelCall, Precision};
use lrpc_ir::{Absorbed, Bindings, DType, Diagnostic, DiagnosticKind, Graph, NodeId, Op, Value};

use super::Strategy;
use super::fuse::{self, Groups};
use super::rewrite;

/// A tensor, by position in [`Program::tensors`].
pub(super) type TensorId = usize;

/// A tensor of a program.
#[derive(Debug, Clone)]
pub(super) struct Tensor {
    pub(super) name: String,
    /// The declared element type.
    pub(super) declared: DType,
    /// The element type in memory.
    pub(super) dtype: DType,
    pub(super) shape: Vec<usize>,
    pub(super) kind: Kind,
}

/// Where a tensor's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Input,
    Weight(WeightPlace),
    Constant(Literal),
    /// Written by an item.
    Computed,
    /// The bytes of another tensor, which is no view itself.
    View(TensorId),
}

impl Tensor {
    /// Size in bytes; `concretise` has checked that it can be addressed.
    pub(super) fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.size()
    }
}

/// One kernel call without a place in the order.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) call: KernelCall,
    pub(super) inputs: Vec<TensorId>,
    pub(super) outputs: Vec<TensorId>,
    pub(super) label: String,
    /// The region that it belongs to: `prepare` runs once per load.
    pub(super) region: Region,
    /// Place in the graph's own order: the node's, and which of what belongs to it.
    pub(super) rank: (usize, Beside),
    /// Items that it waits for although it reads nothing of theirs, by position in [`Program::items`].
    pub(super) after: Vec<usize>,
}

/// The order of the items that belong to one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Beside {
    /// A replay of what the node reads.
    Replay,
    /// The node's own call.
    Call,
    /// A sum over what it writes.
    Sum,
}

/// A line of the ledger over tensors of one `f64`.
#[derive(Debug, Clone)]
pub(super) struct SumLine {
    pub(super) site: String,
    pub(super) rule: String,
    pub(super) input: Vec<TensorId>,
    pub(super) output: Vec<TensorId>,
    pub(super) scale: Vec<TensorId>,
    pub(super) absorbed: Vec<(Absorbed, TensorId)>,
}

/// Tensors, and the items that compute them.
#[derive(Debug, Clone, Default)]
pub(super) struct Program {
    pub(super) tensors: Vec<Tensor>,
    pub(super) items: Vec<Item>,
    /// Graph inputs in order.
    pub(super) inputs: Vec<TensorId>,
    pub(super) results: Vec<(String, TensorId)>,
    pub(super) ledger: Vec<SumLine>,
    /// The tensors of graph values.
    pub(super) values: HashMap<Value, TensorId>,
}

impl Program {
    /// The tensor that holds the bytes.
    pub(super) fn root(&self, tensor: TensorId) -> TensorId {
        match self.tensors[tensor].kind {
            Kind::View(root) => root,
            _ => tensor,
        }
    }

    /// The tensors that results and ledger name.
    pub(super) fn returned(&self) -> impl Iterator<Item = TensorId> {
        let ledger = self.ledger.iter().flat_map(|line| {
            let absorbed = line.absorbed.iter().map(|(_, sum)| sum);
            line.input.iter().chain(&line.output).chain(&line.scale).chain(absorbed)
        });
        self.results.iter().map(|(_, tensor)| tensor).chain(ledger).copied()
    }

    /// Removes the items at the positions where `dead` holds.
    pub(super) fn remove_items(&mut self, dead: &[bool]) {
        let mut count = 0;
        let place = |&dead: &bool| (!dead).then(|| (count, count += 1).0);
        let places: Vec<Option<usize>> = dead.iter().map(place).collect();
        let mut at = 0;
        self.items.retain(|_| (places.get(at).copied().flatten().is_some(), at += 1).0);
        for item in &mut self.items {
            item.after = item.after.iter().filter_map(|&other| places.get(other).copied().flatten()).collect();
        }
    }

    /// Removes the tensors that nothing names.
    pub(super) fn compact(&mut self) {
        let mut used = vec![false; self.tensors.len()];
        let by_items = self.items.iter().flat_map(|item| item.inputs.iter().chain(&item.outputs)).copied();
        for tensor in by_items.chain(self.inputs.iter().copied()).chain(self.returned()) {
            used[tensor] = true;
            used[self.root(tensor)] = true;
        }
        let mut places = vec![0; used.len()];
        let mut count = 0;
        for (place, used) in places.iter_mut().zip(&used) {
            (*place, count) = (count, count + usize::from(*used));
        }
        let move_all = |tensors: &mut Vec<TensorId>| tensors.iter_mut().for_each(|tensor| *tensor = places[*tensor]);
        let mut at = 0;
        self.tensors.retain(|_| (used[at], at += 1).0);
        for tensor in &mut self.tensors {
            if let Kind::View(root) = &mut tensor.kind {
                *root = places[*root];
            }
        }
        self.values.retain(|_, tensor| used[*tensor]);
        self.values.values_mut().for_each(|tensor| *tensor = places[*tensor]);
        move_all(&mut self.inputs);
        self.results.iter_mut().for_each(|(_, tensor)| *tensor = places[*tensor]);
        for item in &mut self.items {
            move_all(&mut item.inputs);
            move_all(&mut item.outputs);
        }
        for line in &mut self.ledger {
            [&mut line.input, &mut line.output, &mut line.scale].into_iter().for_each(move_all);
            line.absorbed.iter_mut().for_each(|(_, sum)| *sum = places[*sum]);
        }
    }
}

/// The program of a graph whose element-wise nodes are grouped.
pub(super) fn lower(
    graph: &Graph,
    groups: &Groups,
    dims: &Bindings,
    precision: Precision,
) -> Result<Program, Diagnostic> {
    let returned: HashSet<Value> = rewrite::roots(graph).collect();
    let mut lowering = Lowering { graph, groups, precision, returned, program: Program::default() };
    for input in graph.inputs() {
        let tensor = lowering.tensor(input)?;
        lowering.program.inputs.push(tensor);
    }
    for (place, node) in graph.ids().collect::<Vec<_>>().into_iter().enumerate() {
        match groups.of(node) {
            Some(group) if groups.members(group).last() == Some(&node) => lowering.fused(group, place)?,
            Some(_) => {}
            None if lowering.is_computed(node) => lowering.single(node, place, dims)?,
            None => {}
        }
    }
    for value in rewrite::roots(graph) {
        lowering.tensor(value)?;
    }
    let mut program = lowering.program;
    for result in &graph.results {
        let tensor = program.values[&result.value];
        program.results.push((result.name.clone(), tensor));
    }
    Ok(program)
}

struct Lowering<'a> {
    graph: &'a Graph,
    groups: &'a Groups,
    precision: Precision,
    returned: HashSet<Value>,
    program: Program,
}

impl Lowering<'_> {
    /// Whether the node outside of groups is a kernel call.
    fn is_computed(&self, node: NodeId) -> bool {
        match &self.graph.node(node).op {
            Op::Source(Source::Iota { .. } | Source::Noise { .. }) => true,
            Op::Source(_) => false,
            // A broadcast that only fused calls read is read by strides.
            Op::Movement(Movement::Broadcast { .. }) => {
                let value = Value::from(node);
                self.returned.contains(&value)
                    || self.graph.users(value).iter().any(|(user, _)| self.groups.of(*user).is_none())
            }
            _ => !fuse::is_view(self.graph, node),
        }
    }

    fn tensor(&mut self, value: Value) -> Result<TensorId, Diagnostic> {
        if let Some(&tensor) = self.program.values.get(&value) {
            return Ok(tensor);
        }
        let graph = self.graph;
        let node = graph.node(value.node);
        let kind = match &node.op {
            Op::Source(Source::Input(_)) => Kind::Input,
            Op::Source(Source::Weight(place, _)) => Kind::Weight(*place),
            Op::Source(Source::Constant(literal)) => Kind::Constant(literal.clone()),
            _ if fuse::is_view(graph, value.node) => {
                let operand = graph.operand(value.node, 0).ok_or_else(|| self.internal(value.node))?;
                let shown = self.tensor(operand)?;
                Kind::View(self.program.root(shown))
            }
            _ => Kind::Computed,
        };
        let ty = graph.ty(value);
        let shape = ty
            .bound_shape(&Bindings::new())
            .map_err(|error| Diagnostic::new(error.to_string()).at(rewrite::label(graph, value.node)))?;
        let (declared, dtype) = (ty.dtype, self.precision.storage(ty.dtype));
        let tensor = self.program.tensors.len();
        self.program.tensors.push(Tensor { name: graph.name(value).into(), declared, dtype, shape, kind });
        self.program.values.insert(value, tensor);
        Ok(tensor)
    }

    fn tensors(&mut self, values: impl IntoIterator<Item = Value>) -> Result<Vec<TensorId>, Diagnostic> {
        values.into_iter().map(|value| self.tensor(value)).collect()
    }

    fn internal(&self, node: NodeId) -> Diagnostic {
        Diagnostic::new("internal error: a node lacks an operand").at(rewrite::label(self.graph, node))
    }

    /// One kernel call for one node.
    fn single(&mut self, node: NodeId, place: usize, dims: &Bindings) -> Result<(), Diagnostic> {
        let graph = self.graph;
        let content = graph.node(node);
        let label = rewrite::label(graph, node);
        let call = match &content.op {
            Op::Control(control) => nested(control, dims, self.precision).map_err(|error| error.at(label.clone()))?,
            op => KernelCall::Op(op.clone()),
        };
        let inputs = self.tensors(graph.operands(node))?;
        let mut outputs = self.tensors((0..content.types().len() as u32).map(|port| Value { node, port }))?;
        if call.body().is_some() {
            outputs.push(self.workspace(&call, node)?);
        }
        let (region, rank) = (content.region, (place, Beside::Call));
        self.program.items.push(Item { call, inputs, outputs, label, region, rank, after: Vec::new() });
        Ok(())
    }

    /// The working memory of a loop.
    fn workspace(&mut self, call: &KernelCall, node: NodeId) -> Result<TensorId, Diagnostic> {
        let workspace = call.workspace().ok_or_else(|| {
            Diagnostic::new("the loop needs more memory than can be addressed").at(rewrite::label(self.graph, node))
        })?;
        let name = format!("{}.workspace", self.graph.name(node.into()));
        let (dtype, shape, kind) = (DType::U8, vec![workspace.bytes], Kind::Computed);
        self.program.tensors.push(Tensor { name, declared: dtype, dtype, shape, kind });
        Ok(self.program.tensors.len() - 1)
    }

    /// One kernel call for a group.
    fn fused(&mut self, group: usize, place: usize) -> Result<(), Diagnostic> {
        let (graph, members) = (self.graph, self.groups.members(group));
        let Some(&last) = members.last() else { return Ok(()) };
        let (body, inputs) = fused_body(graph, members)
            .map_err(|error| Diagnostic::new(format!("internal error: {error}")).at(rewrite::label(graph, last)))?;
        let needed_outside = |value: Value| {
            self.returned.contains(&value)
                || graph.users(value).iter().any(|(user, _)| self.groups.of(*user) != Some(group))
        };
        let outputs: Vec<Value> =
            members.iter().map(|&node| node.into()).filter(|&value| needed_outside(value)).collect();
        let mut body = body;
        for &output in &outputs {
            let name = graph.name(output);
            let value = body.find(name).ok_or_else(|| self.internal(output.node))?;
            body.results.push(lrpc_ir::GraphResult { name: name.into(), value });
        }
        let inputs = self.tensors(inputs)?;
        let outputs = self.tensors(outputs)?;
        let (region, rank) = (graph.node(last).region, (place, Beside::Call));
        let label = rewrite::label(graph, last);
        let call = KernelCall::Fused(Box::new(body));
        self.program.items.push(Item { call, inputs, outputs, label, region, rank, after: Vec::new() });
        Ok(())
    }
}

/// The graph of a fused call without its results, and the outer values that are its inputs. Values keep their names.
fn fused_body(graph: &Graph, members: &[NodeId]) -> Result<(Graph, Vec<Value>), lrpc_ir::GraphError> {
    let mut body = Graph::new();
    let mut inputs = Vec::new();
    let mut inside: BTreeMap<Value, Value> = BTreeMap::new();
    let own: HashSet<NodeId> = members.iter().copied().collect();
    let operands: Vec<Vec<Value>> = members.iter().map(|&node| graph.operands(node)).collect();
    let outer = operands.iter().flatten().filter(|value| !own.contains(&value.node)).copied();
    for value in outer {
        let read = if fuse::is_inline(graph, value) { continue } else { fuse::leaf(graph, value) };
        if let std::collections::btree_map::Entry::Vacant(entry) = inside.entry(read) {
            let op = Op::Source(Source::Input(graph.ty(read).clone()));
            entry.insert(body.add(Region::Header, op, &[], graph.name(read), Origin::default())?);
            inputs.push(read);
        }
    }
    for (&node, operands) in members.iter().zip(&operands) {
        for &value in operands {
            if inside.contains_key(&value) {
                continue;
            }
            // What is neither a member nor an input by now is a broadcast of an input, or a literal.
            let op = graph.node(value.node).op.clone();
            let read: Vec<Value> = if fuse::is_inline(graph, value) {
                Vec::new()
            } else {
                inside.get(&fuse::leaf(graph, value)).copied().into_iter().collect()
            };
            let copy = body.add(Region::Forward, op, &read, graph.name(value), Origin::default())?;
            inside.insert(value, copy);
        }
        let content = graph.node(node);
        let read: Vec<Value> = operands.iter().filter_map(|value| inside.get(value).copied()).collect();
        let copy =
            body.add(Region::Forward, content.op.clone(), &read, graph.name(node.into()), content.origin.clone())?;
        inside.insert(node.into(), copy);
    }
    Ok((body, inputs))
}

/// The call of a nested graph: plans with arenas of their own.
fn nested(control: &Control, dims: &Bindings, precision: Precision) -> Result<KernelCall, Diagnostic> {
    let plan = |body: &Graph| {
        let delivered = super::keep::deliver(body)?.graph;
        super::plan_concrete(&delivered, Strategy::Store, dims, precision).map(Box::new)
    };
    let internal = |what: &str| Diagnostic::new(format!("internal error: {what}")).of_kind(DiagnosticKind::Bug);
    Ok(match control {
        Control::Loop { trips, reverse, carried, scanned, body } => {
            let trips = trips.known().and_then(|trips| usize::try_from(trips).ok());
            let trips = trips.ok_or_else(|| internal("the number of positions is not bound"))?;
            let (reverse, carried, scanned) = (*reverse, *carried, *scanned);
            KernelCall::Loop { trips, reverse, carried, scanned, body: plan(body)? }
        }
        Control::While { carried, body } => KernelCall::While { carried: *carried, body: plan(body)? },
        Control::Cond { .. } => return Err(internal("no branch is taken")),
    })
}
