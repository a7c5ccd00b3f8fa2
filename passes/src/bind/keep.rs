//! Keeps promises: decides how each promised forward value reaches the relevance region.
//!
//! Keeping has two halves. [`deliver`] replaces promise nodes by the values that they promise, before anything is
//! simplified or fused. [`keep`] then decides on items over tensors, once kernel calls are chosen: what stays alive, and
//! what is computed again by [`super::replay`]. A replayed call is a copy of the forward call, so that every strategy
//! gives the same bits.
//!
//! Under `store` every value stays alive until its last use, which liveness sees by itself. Under `recompute` only what
//! automatic differentiation would have saved does (see [`super::saved`]).

use std::collections::{BTreeMap, BTreeSet};

use lrpc_ir::graph::Region;
use lrpc_ir::ops::Movement;
use lrpc_ir::plan::KernelCall;
use lrpc_ir::{Diagnostic, Graph, Op, Value};

use super::Strategy;
use super::program::{Program, TensorId};
use super::replay;
use super::rewrite::{self, Outcome, Rewritten, copy, rewrite};
use super::saved::Autograd;

/// The graph in which promised values are used directly.
pub(super) fn deliver(graph: &Graph) -> Result<Rewritten, Diagnostic> {
    let order = rewrite::topological(graph, &graph.inputs());
    rewrite(graph, &order, |to, node, operands| match (&graph.node(node).op, operands) {
        (Op::Promise, [value]) => Ok(Outcome::Value(*value)),
        (op, operands) => copy(to, graph, node, op.clone(), operands).map(Outcome::Node),
    })
}

/// How a forward tensor reaches the relevance region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// It stays in memory until its last use, because the strategy stores everything.
    Stored,
    /// It stays in memory because automatic differentiation would have saved it.
    Saved,
    /// It stays in memory because it is returned to the caller.
    Returned,
    /// It stays in memory because it is an index or a mask.
    Index,
    /// It is computed again where it is used.
    Recomputed,
    /// It is an input or depends on weights alone: it is there anyway.
    Given,
    /// Nobody reads it at these sizes: another tensor says the same, or is enough.
    Unread,
}

impl Keeping {
    /// The word in reports.
    pub fn name(self) -> &'static str {
        match self {
            Keeping::Stored => "stored",
            Keeping::Saved => "saved",
            Keeping::Returned => "returned",
            Keeping::Index => "index",
            Keeping::Recomputed => "recomputed",
            Keeping::Given => "given",
            Keeping::Unread => "unread",
        }
    }
}

/// How each forward tensor that the relevance region reads is kept, and what any replay may read.
#[derive(Debug, Default)]
pub(super) struct Decisions {
    /// By root tensor.
    pub(super) crossing: BTreeMap<TensorId, Keeping>,
    /// Root tensors at which replays stop.
    pub(super) resident: BTreeSet<TensorId>,
}

/// Decides how the forward tensors of a program are kept. `graph` is what the program was made from.
pub(super) fn decide(program: &Program, graph: &Graph, strategy: Strategy) -> Result<Decisions, Diagnostic> {
    let crossing = crossing(program);
    match strategy {
        Strategy::Store => {
            let crossing = crossing.into_iter().map(|root| (root, Keeping::Stored)).collect();
            Ok(Decisions { crossing, resident: BTreeSet::new() })
        }
        Strategy::Recompute => {
            let resident = resident(program, graph);
            let keeping = |root: TensorId| resident.get(&root).copied().unwrap_or(Keeping::Recomputed);
            let crossing = crossing.into_iter().map(|root| (root, keeping(root))).collect();
            Ok(Decisions { crossing, resident: resident.into_keys().collect() })
        }
        Strategy::Balanced | Strategy::Budget(_) => {
            Err(Diagnostic::request(format!("promises cannot be kept by `{}`", strategy.name()))
                .help("keep them with --keep store or --keep recompute"))
        }
    }
}

/// Carries decisions out.
pub(super) fn keep(program: Program, decisions: &Decisions) -> Result<Program, Diagnostic> {
    let recomputed: BTreeSet<TensorId> = decisions
        .crossing
        .iter()
        .filter(|(_, keeping)| **keeping == Keeping::Recomputed)
        .map(|(root, _)| *root)
        .collect();
    if recomputed.is_empty() { Ok(program) } else { replay::replay(program, &recomputed, &decisions.resident) }
}

/// The root tensors that a forward call writes and a call of the relevance region reads.
pub(super) fn crossing(program: &Program) -> BTreeSet<TensorId> {
    let in_region = |region| program.items.iter().filter(move |item| item.region == region);
    let written: BTreeSet<TensorId> =
        in_region(Region::Forward).flat_map(|item| item.outputs.iter().copied()).collect();
    let read = in_region(Region::Relevance).flat_map(|item| item.inputs.iter().map(|&input| program.root(input)));
    read.filter(|root| written.contains(root)).collect()
}

/// The root tensors that need no replay, and why.
fn resident(program: &Program, graph: &Graph) -> BTreeMap<TensorId, Keeping> {
    let mut resident = BTreeMap::new();
    for item in program.items.iter().filter(|item| item.region == Region::Forward) {
        let is_control = matches!(item.call, KernelCall::Loop { .. } | KernelCall::While { .. });
        for &output in &item.outputs {
            if is_control {
                resident.insert(output, Keeping::Saved);
            } else if !program.tensors[output].declared.is_float() {
                resident.insert(output, Keeping::Index);
            }
        }
    }
    let autograd = Autograd::new(graph);
    let forward = graph.ids().filter(|&node| graph.node(node).region == Region::Forward);
    for value in forward.flat_map(|node| autograd.saved_by(node)) {
        if let Some(&tensor) = program.values.get(&base(graph, value)) {
            resident.entry(program.root(tensor)).or_insert(Keeping::Saved);
        }
    }
    for (_, tensor) in &program.results {
        resident.insert(program.root(*tensor), Keeping::Returned);
    }
    resident
}

/// Frameworks save the tensor that a transposed or expanded view shows, not the view.
fn base(graph: &Graph, mut value: Value) -> Value {
    while let Op::Movement(Movement::Transpose { .. } | Movement::Broadcast { .. } | Movement::Reshape { .. }) =
        graph.node(value.node).op
    {
        let Some(operand) = graph.operand(value.node, 0) else { break };
        value = operand;
    }
    value
}
