//! Binding: from a relevance graph and sizes to a [`Plan`].
//!
//! Data flows one way, one file per step: `slice` keeps what is wanted, `branches` takes one of two, `concretise` turns
//! dimensions into numbers, `keep` delivers promises, `narrow` lets casts to half precision round, `simplify` removes
//! what changes no bit, `fuse` groups element-wise operations, `program`
//! turns the graph into items over tensors, `audit` adds the ledger's sums, `keep` decides which promised tensors stay
//! alive, `replay` lets the others be computed again, `schedule` orders the items, `allocate` gives every tensor its
//! place. Kernel calls are chosen before anything is kept, so that every strategy gives the same bits. `cost` counts
//! work, `print` and `statistics` show a plan, `promises` and `chains` show what promises take, and `verify` checks a
//! plan without running it.
//!
//! Binding is deterministic: the same graph and request give the same plan, byte for byte.

mod allocate;
mod audit;
mod branches;
mod chains;
mod concretise;
mod cost;
mod fuse;
mod keep;
mod liveness;
mod narrow;
mod part;
mod print;
mod program;
mod promises;
mod replay;
mod rewrite;
mod saved;
mod schedule;
mod simplify;
mod slice;
mod statistics;
mod verify;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use lrpc_ir::plan::{Plan, Precision};
use lrpc_ir::{Bindings, Diagnostic, DiagnosticKind, Graph};

pub use chains::PromiseStatistics;
pub use keep::Keeping;
pub use print::print_plan;
use program::Program;
pub use promises::{Chain, Delivery, PromiseReport, PromiseUse, StrategySummary, promises};
pub use statistics::{PlanStatistics, statistics};
pub use verify::{PlanError, verify_plan};

/// What a plan is made for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// The sizes of symbolic dimensions.
    pub dims: Bindings,
    /// Which results are returned.
    pub wanted: Wanted,
    /// Whether the ledger is summed.
    pub audit: bool,
    /// How promises are kept.
    pub strategy: Strategy,
    /// The floating-point type of computation.
    pub precision: Precision,
    /// Names of inputs whose value the caller provides although they have a default. Inputs without a default are
    /// always provided.
    pub given: BTreeSet<String>,
}

/// Which results of a graph are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Wanted {
    /// All.
    #[default]
    All,
    /// Those whose name matches one of these patterns, in which `*` stands for any characters and `?` for one.
    Matching(Vec<String>),
}

/// How promises are kept: what is stored and what is computed again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Every promised value stays in memory until its last use.
    #[default]
    Store,
    /// Only what automatic differentiation would have saved stays in memory.
    Recompute,
    /// Least recomputation and traffic at low memory.
    Balanced,
    /// At most this many bytes.
    Budget(u64),
}

impl Strategy {
    /// The strategy's name on the command line, without its size.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::Store => "store",
            Strategy::Recompute => "recompute",
            Strategy::Balanced => "balanced",
            Strategy::Budget(_) => "budget",
        }
    }
}

/// The plan for `request`. `graph` satisfies the verifier's invariants.
///
/// # Errors
/// Dimensions without a size, sizes for which the graph has no meaning or no memory can be addressed, patterns and
/// names that match nothing, a strategy that is not available, and nested graphs whose results have no fixed size.
pub fn bind(graph: &Graph, request: &Request) -> Result<Plan, Diagnostic> {
    let concrete = concrete(graph, request)?;
    let plan = plan_concrete(&keep::deliver(&concrete)?.graph, request.strategy, &request.dims, request.precision)?;
    if cfg!(debug_assertions) {
        verify_plan(&plan).map_err(|error| {
            Diagnostic::new(format!("internal error: the plan is wrong: {error}")).of_kind(DiagnosticKind::Bug)
        })?;
    }
    Ok(plan)
}

/// What is wanted of `graph`, with a number for every dimension.
fn concrete(graph: &Graph, request: &Request) -> Result<Graph, Diagnostic> {
    let sliced = slice::slice(graph, request)?;
    concretise::check_names(&sliced, &request.dims)?;
    let taken = branches::take_branches(&sliced, &request.dims)?;
    concretise::concretise(taken.as_ref().unwrap_or(&sliced), &request.dims)
}

/// The plan of a graph without symbols and promises: the part of binding that nested graphs share.
fn plan_concrete(graph: &Graph, strategy: Strategy, dims: &Bindings, precision: Precision) -> Result<Plan, Diagnostic> {
    let simplified = simplify::simplify(narrow::narrowed(graph, precision)?.as_ref())?.graph;
    let program = program_of(&simplified, dims, precision)?;
    let decisions = keep::decide(&program, &simplified, strategy)?;
    finish(keep::keep(program, &decisions)?, dims, precision)
}

/// The kernel calls of a simplified graph, which no strategy changes.
fn program_of(graph: &Graph, dims: &Bindings, precision: Precision) -> Result<Program, Diagnostic> {
    let groups = fuse::fuse(graph);
    let mut program = program::lower(graph, &groups, dims, precision)?;
    audit::add_sums(&mut program, graph);
    Ok(program)
}

/// Order and places.
fn finish(program: Program, dims: &Bindings, precision: Precision) -> Result<Plan, Diagnostic> {
    let order = schedule::schedule(&program);
    allocate::allocate(program, order, dims, precision)
}
