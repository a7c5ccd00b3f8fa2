//! A report of a graph's promises: what each is, who reads it, and how every strategy keeps it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lrpc_ir::graph::Region;
use lrpc_ir::plan::{Buffer, BufferId, Cost, KernelCall, Place};
use lrpc_ir::{Diagnostic, Graph, NodeId, Op};

use super::chains::{self, PromiseStatistics};
use super::keep::{self, Decisions, Keeping};
use super::program::{Beside, Item, Kind, Program, Tensor, TensorId};
use super::replay::copied_call;
use super::statistics::statistics;
use super::{Request, Strategy, concrete, cost, finish, narrow, program_of, rewrite, simplify, slice};

/// The strategies that a report compares.
const STRATEGIES: [Strategy; 2] = [Strategy::Store, Strategy::Recompute];

/// What [`promises`] finds.
#[derive(Debug, Clone, PartialEq)]
pub struct PromiseReport {
    /// The published statistics.
    pub statistics: PromiseStatistics,
    /// Every promise, in the graph's order.
    pub promises: Vec<PromiseUse>,
    /// What each strategy takes; empty as long as a dimension has no size.
    pub strategies: Vec<StrategySummary>,
}

/// A promise.
#[derive(Debug, Clone, PartialEq)]
pub struct PromiseUse {
    /// Name of the promised value.
    pub value: String,
    /// ONNX name of the operation that computes it.
    pub from: String,
    /// Its type.
    pub ty: String,
    /// The rules that read it.
    pub rules: BTreeSet<String>,
    /// How it is delivered; none as long as a dimension has no size.
    pub delivery: Option<Delivery>,
}

/// How a promised value reaches the relevance region at given sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Size in bytes, in the type of computation.
    pub bytes: usize,
    /// How it is kept under each strategy, by the strategy's name.
    pub kept: BTreeMap<&'static str, Keeping>,
    /// What computing it again takes, where a strategy does.
    pub replay: Option<Chain>,
}

/// The chain of calls that computes a value again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// The tensors that it starts from, without weights.
    pub from: BTreeSet<String>,
    /// The number of kernel calls.
    pub calls: usize,
    /// Their arithmetic and traffic.
    pub cost: Cost,
}

/// What keeping takes under one strategy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrategySummary {
    /// The strategy's name.
    pub strategy: &'static str,
    /// Bytes of the forward tensors that stay alive into the relevance region, returned outputs included.
    pub kept_bytes: usize,
    /// Bytes of the forward tensors that the relevance region reads and that are computed again.
    pub recomputed_bytes: usize,
    /// Calls that are made again.
    pub replays: usize,
    /// Their arithmetic and traffic.
    pub replay_cost: Cost,
    /// Arithmetic and traffic of the whole plan.
    pub cost: Cost,
    /// Size of the plan's arena in bytes.
    pub arena_bytes: usize,
    /// The largest sum of bytes that live at one step.
    pub peak_bytes: usize,
}

/// Reports the promises that the wanted results of `graph` need. The ledger's are left out. Sizes in bytes and
/// everything that follows from them are there if `request` gives every dimension a size, or none needs one.
///
/// # Errors
/// As [`super::bind`], except that sizes may be missing altogether.
pub fn promises(graph: &Graph, request: &Request) -> Result<PromiseReport, Diagnostic> {
    let request = &Request { audit: false, ..request.clone() };
    let sliced = slice::slice(graph, request)?;
    let published = chains::statistics(&sliced);
    if request.dims.is_empty() && !sliced.symbols().is_empty() {
        let promises = promise_nodes(&sliced).into_iter().map(|node| describe(&sliced, node)).collect();
        return Ok(PromiseReport { statistics: published, promises, strategies: Vec::new() });
    }
    let concrete = concrete(graph, request)?;
    let delivered = keep::deliver(&concrete)?;
    let simplified = simplify::simplify(narrow::narrowed(&delivered.graph, request.precision)?.as_ref())?;
    let program = program_of(&simplified.graph, &request.dims, request.precision)?;
    let mut all = Vec::new();
    for strategy in STRATEGIES {
        all.push((strategy, keep::decide(&program, &simplified.graph, strategy)?));
    }
    let chains = Chains::new(&program);
    let mut promises = Vec::new();
    for node in promise_nodes(&concrete) {
        let value = concrete.operand(node, 0).and_then(|value| delivered.values.get(&value));
        let value = value.and_then(|value| simplified.values.get(value));
        let root = value.and_then(|value| program.values.get(value)).map(|&tensor| program.root(tensor));
        let mut delivery = Delivery { bytes: bytes(&concrete, node, request), kept: BTreeMap::new(), replay: None };
        for (strategy, decisions) in &all {
            let kept = keeping(&program, decisions, root);
            delivery.kept.insert(strategy.name(), kept);
            if let (Keeping::Recomputed, Some(root)) = (kept, root) {
                delivery.replay = Some(chains.chain(root, &decisions.resident)?);
            }
        }
        promises.push(PromiseUse { delivery: Some(delivery), ..describe(&concrete, node) });
    }
    let strategies = all
        .iter()
        .map(|(strategy, decisions)| summary(program.clone(), *strategy, decisions, request))
        .collect::<Result<_, _>>()?;
    Ok(PromiseReport { statistics: published, promises, strategies })
}

fn promise_nodes(graph: &Graph) -> Vec<NodeId> {
    let order = rewrite::topological(graph, &[]);
    order.into_iter().filter(|&node| graph.node(node).op == Op::Promise).collect()
}

/// A promise without its delivery.
fn describe(graph: &Graph, promise: NodeId) -> PromiseUse {
    let promised = graph.operand(promise, 0).unwrap_or(promise.into());
    let users = graph.users(promise.into()).into_iter().map(|(user, _)| graph.node(user));
    PromiseUse {
        value: graph.name(promised).into(),
        from: rewrite::label(graph, promised.node),
        ty: graph.ty(promised).to_string(),
        rules: users.filter_map(|user| user.origin.by.as_deref().map(str::to_string)).collect(),
        delivery: None,
    }
}

fn bytes(graph: &Graph, node: NodeId, request: &Request) -> usize {
    let ty = graph.ty(node.into());
    let elements = ty.elements().ok().and_then(|elements| elements.known()).unwrap_or(0);
    usize::try_from(elements).unwrap_or(0).saturating_mul(request.precision.storage(ty.dtype).size())
}

/// How the promise of the tensor with this root is kept.
fn keeping(program: &Program, decisions: &Decisions, root: Option<TensorId>) -> Keeping {
    let Some(root) = root else { return Keeping::Unread };
    match (decisions.crossing.get(&root), &program.tensors[root].kind) {
        (Some(keeping), _) => *keeping,
        (None, Kind::Computed) => Keeping::Unread,
        (None, _) => Keeping::Given,
    }
}

fn summary(
    program: Program,
    strategy: Strategy,
    decisions: &Decisions,
    request: &Request,
) -> Result<StrategySummary, Diagnostic> {
    let size = |program: &Program, roots: &mut dyn Iterator<Item = TensorId>| {
        roots.fold(0usize, |sum, root| sum.saturating_add(program.tensors[root].bytes()))
    };
    let again = decisions.crossing.iter().filter(|(_, keeping)| **keeping == Keeping::Recomputed);
    let recomputed_bytes = size(&program, &mut again.map(|(root, _)| *root));
    let program = keep::keep(program, decisions)?;
    let kept_bytes = size(&program, &mut keep::crossing(&program).into_iter());
    let chains = Chains::new(&program);
    let replays: Vec<&Item> = program.items.iter().filter(|item| item.rank.1 == Beside::Replay).collect();
    let costs = replays.iter().map(|item| chains.cost(&item.call, &item.inputs, &item.outputs));
    let (count, replay_cost) = (replays.len(), costs.fold(Cost::default(), add));
    let numbers = statistics(&finish(program, &request.dims, request.precision)?);
    Ok(StrategySummary {
        strategy: strategy.name(),
        kept_bytes,
        recomputed_bytes,
        replays: count,
        replay_cost,
        cost: numbers.cost,
        arena_bytes: numbers.arena_bytes,
        peak_bytes: numbers.lower_bound,
    })
}

fn add(a: Cost, b: Cost) -> Cost {
    Cost { flops: a.flops.saturating_add(b.flops), bytes: a.bytes.saturating_add(b.bytes) }
}

/// Who writes the tensors of a program, and what that costs.
struct Chains<'a> {
    program: &'a Program,
    /// For each tensor that a forward item writes, the item and which of its results it is.
    writers: HashMap<TensorId, (usize, usize)>,
    buffers: Vec<Buffer>,
}

impl<'a> Chains<'a> {
    fn new(program: &'a Program) -> Chains<'a> {
        let mut writers = HashMap::new();
        for (at, item) in program.items.iter().enumerate().filter(|(_, item)| item.region == Region::Forward) {
            writers.extend(item.outputs.iter().enumerate().map(|(place, &output)| (output, (at, place))));
        }
        // Costs depend on sizes alone.
        let buffer = |tensor: &Tensor| Buffer {
            name: String::new(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            place: Place::Arena(0),
        };
        Chains { program, writers, buffers: program.tensors.iter().map(buffer).collect() }
    }

    fn cost(&self, call: &KernelCall, inputs: &[TensorId], outputs: &[TensorId]) -> Cost {
        let ids = |tensors: &[TensorId]| tensors.iter().map(|&tensor| BufferId(tensor as u32)).collect::<Vec<_>>();
        cost::cost(call, &ids(inputs), &ids(outputs), &self.buffers)
    }

    /// The chain that computes `root` again.
    fn chain(&self, root: TensorId, resident: &BTreeSet<TensorId>) -> Result<Chain, Diagnostic> {
        let program = self.program;
        let mut chain = Chain::default();
        let mut seen = BTreeSet::from([root]);
        let mut stack = vec![root];
        while let Some(tensor) = stack.pop() {
            let Some(&(at, place)) = self.writers.get(&tensor) else { continue };
            let item = &program.items[at];
            let (call, inputs) = copied_call(program, item, &[place], resident)?;
            chain.calls += 1;
            chain.cost = add(chain.cost, self.cost(&call, &inputs, &[tensor]));
            for read in inputs.into_iter().map(|input| program.root(input)) {
                let is_computed = self.writers.contains_key(&read);
                if is_computed && !resident.contains(&read) {
                    stack.extend(seen.insert(read).then_some(read));
                } else if is_computed || program.tensors[read].kind == Kind::Input {
                    chain.from.insert(program.tensors[read].name.clone());
                }
            }
        }
        Ok(chain)
    }
}
