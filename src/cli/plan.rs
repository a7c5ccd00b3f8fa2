//! `lrpc plan`: what a run will take, before anything runs.

use std::path::PathBuf;

use clap::Args;
use lrpc_ir::{Graph, Plan};
use lrpc_passes::bind::{self, PlanStatistics, Request, Strategy};
use serde_json::json;

use super::flags::{BindFlags, Format, dims_in_words};
use super::output;
use crate::error::{Error, Status};
use crate::graph_file::load_graph;
use crate::machine::bytes_in_words;
use crate::manifest::precision_name;

/// How many tensors are named at the peak.
const NAMED_AT_PEAK: usize = 8;

/// Show peak memory, work and traffic of a graph at given sizes
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The graph file
    graph: PathBuf,
    #[command(flatten)]
    bind: BindFlags,
    /// Form of the report
    #[arg(long, default_value = "text")]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> Result<Status, Error> {
    let loaded = load_graph(&arguments.graph)?;
    let plan = bound(&loaded.graph, &arguments.bind)?;
    let numbers = bind::statistics(&plan);
    let text = match arguments.format {
        Format::Text => text(&plan, &numbers, arguments.bind.keep),
        Format::Json => format!("{}\n", statistics_json(&plan, &numbers)),
    };
    output::data(text.as_bytes())?;
    Ok(Status::Good)
}

/// The plan of `graph` as the flags ask for it.
pub(super) fn bound(graph: &Graph, flags: &BindFlags) -> Result<Plan, Error> {
    Ok(bind::bind(graph, &request(flags))?)
}

/// What a graph is bound for, as the flags say.
pub(super) fn request(flags: &BindFlags) -> Request {
    Request {
        dims: flags.dims(),
        wanted: flags.wanted(),
        audit: flags.audit,
        strategy: flags.keep,
        precision: flags.precision(),
        ..Request::default()
    }
}

fn text(plan: &Plan, numbers: &PlanStatistics, keep: Strategy) -> String {
    let size = |bytes: usize| bytes_in_words(bytes as u64);
    let total = [numbers.arena_bytes, numbers.prepared_bytes, numbers.weight_bytes, numbers.input_bytes];
    let total = total.iter().fold(0usize, |sum, bytes| sum.saturating_add(*bytes));
    let dims = if plan.dims.is_empty() { "none".into() } else { dims_in_words(&plan.dims) };
    let mut lines = vec![
        format!("sizes      {dims}; computed in {}; promises: {}", precision_name(plan.precision), keep.name()),
        format!("memory     {} in all", size(total)),
        format!(
            "  arena    {} (no order of these steps needs less than {})",
            size(numbers.arena_bytes),
            size(numbers.lower_bound)
        ),
        format!("  prepared {}", size(numbers.prepared_bytes)),
        format!("  weights  {}", size(numbers.weight_bytes)),
        format!("  inputs   {}", size(numbers.input_bytes)),
        format!("results    {}", size(numbers.result_bytes)),
        format!(
            "steps      {} ({} fused), {} once per load",
            numbers.steps, numbers.fused_steps, numbers.prepare_steps
        ),
        format!("work       {} flop, {} moved", scaled(numbers.cost.flops), bytes_in_words(numbers.cost.bytes)),
        format!(
            "once       {} flop, {} moved",
            scaled(numbers.prepare_cost.flops),
            bytes_in_words(numbers.prepare_cost.bytes)
        ),
    ];
    if let Some(step) = numbers.peak_step.and_then(|at| plan.steps.get(at)) {
        lines.push(format!("peak       at {}, with alive:", step.label));
        let alive = numbers.alive_at_peak.iter().take(NAMED_AT_PEAK);
        lines.extend(alive.map(|(name, bytes)| format!("  {:>10}  %{name}", size(*bytes))));
        let more = numbers.alive_at_peak.len().saturating_sub(NAMED_AT_PEAK);
        if more > 0 {
            lines.push(format!("  and {more} smaller ones"));
        }
    }
    lines.join("\n") + "\n"
}

/// A count with three digits and a prefix: `12.3 G`.
pub(super) fn scaled(count: u64) -> String {
    let mut value = count as f64;
    let mut prefixes = ["", "k", "M", "G", "T", "P"].iter();
    let mut prefix = prefixes.next().copied().unwrap_or_default();
    for larger in prefixes {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        prefix = larger;
    }
    if prefix.is_empty() { count.to_string() } else { format!("{value:.2} {prefix}") }
}

pub(super) fn statistics_json(plan: &Plan, numbers: &PlanStatistics) -> serde_json::Value {
    let peak = numbers.peak_step.and_then(|at| plan.steps.get(at)).map(|step| {
        let alive: Vec<_> =
            numbers.alive_at_peak.iter().map(|(name, bytes)| json!({ "value": name, "bytes": bytes })).collect();
        json!({ "step": numbers.peak_step, "at": step.label, "alive": alive })
    });
    json!({
        "dims": plan.dims, "precision": precision_name(plan.precision),
        "arena_bytes": numbers.arena_bytes, "lower_bound": numbers.lower_bound, "prepared_bytes": numbers.prepared_bytes,
        "weight_bytes": numbers.weight_bytes, "input_bytes": numbers.input_bytes, "result_bytes": numbers.result_bytes,
        "steps": numbers.steps, "fused_steps": numbers.fused_steps, "prepare_steps": numbers.prepare_steps,
        "flops": numbers.cost.flops, "bytes_moved": numbers.cost.bytes,
        "prepare_flops": numbers.prepare_cost.flops, "prepare_bytes_moved": numbers.prepare_cost.bytes,
        "peak": peak,
    })
}
