//! The plan as text: every tensor with its place, every step with its operands and its cost, then the totals.

use std::fmt::Write;

use lrpc_ir::ops::{Op, Source};
use lrpc_ir::plan::{Buffer, BufferId, KernelCall, Place, Plan, Step};

use super::statistics::{PlanStatistics, statistics};

/// The text of a plan. The same plan always gives the same text.
///
/// A place is `@12` for offset 12 of the arena, `@prepared+12`, `@input`, `@weight`, `@literal`, or `=%x` for the bytes
/// of another tensor.
pub fn print_plan(plan: &Plan) -> String {
    let mut out = String::new();
    let numbers = statistics(plan);
    write_plan(&mut out, plan, 0);
    write_totals(&mut out, &numbers);
    out
}

/// `bytes` in the largest binary unit in which it is at least one.
pub(super) fn size(bytes: usize) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in UNITS {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

fn write_plan(out: &mut String, plan: &Plan, indent: usize) {
    let pad = " ".repeat(indent);
    let dims: Vec<String> = plan.dims.iter().map(|(name, size)| format!(" {name}={size}")).collect();
    let precision = match plan.precision {
        lrpc_ir::plan::Precision::F32 => "f32",
        lrpc_ir::plan::Precision::F64 => "f64",
    };
    let _ = writeln!(out, "{pad}plan {precision}{}", dims.concat());
    for weight in &plan.weights {
        let sidecar = if weight.sidecar { " in sidecar" } else { "" };
        let _ = writeln!(out, "{pad}weight {}{sidecar}", typed(plan, weight.buffer));
    }
    for input in &plan.inputs {
        let _ = writeln!(out, "{pad}input {}", typed(plan, input.buffer));
    }
    for (title, steps) in [("prepare", &plan.prepare), ("steps", &plan.steps)] {
        if !steps.is_empty() {
            let _ = writeln!(out, "{pad}{title}");
        }
        for (at, step) in steps.iter().enumerate() {
            write_step(out, plan, at, step, indent + 2);
        }
    }
    for (name, id) in &plan.results {
        let _ = writeln!(out, "{pad}result \"{name}\" = {}", typed(plan, *id));
    }
    for line in &plan.ledger {
        let names = |ids: &[BufferId]| ids.iter().map(|&id| reference(plan, id)).collect::<Vec<_>>().join(", ");
        let absorbed: String =
            line.absorbed.iter().map(|&(kind, id)| format!(" {}={}", kind.name(), reference(plan, id))).collect();
        let (input, output) = (names(&line.input), names(&line.output));
        let _ = writeln!(out, "{pad}ledger \"{}\" {} in={input} out={output}{absorbed}", line.site, line.rule);
    }
}

fn write_step(out: &mut String, plan: &Plan, at: usize, step: &Step, indent: usize) {
    let pad = " ".repeat(indent);
    let list = |ids: &[BufferId], show: &dyn Fn(&Plan, BufferId) -> String| {
        ids.iter().map(|&id| show(plan, id)).collect::<Vec<_>>().join(", ")
    };
    let outputs = list(&step.outputs, &typed);
    let inputs = list(&step.inputs, &reference);
    let _ = write!(out, "{pad}{at}: {outputs} = {} {inputs}", call_name(&step.call));
    let _ = write!(out, "  # \"{}\" {} flop, {} moved", step.label, step.cost.flops, size(step.cost.bytes as usize));
    if !step.frees.is_empty() {
        let _ = write!(out, ", frees {}", list(&step.frees, &|plan, id| format!("%{}", plan.buffer(id).name)));
    }
    out.push('\n');
    match &step.call {
        KernelCall::Fused(graph) => {
            for node in graph.order() {
                if !matches!(graph.node(node).op, Op::Source(Source::Input(_))) {
                    let _ = writeln!(out, "{pad}     {}", lrpc_ir::text::print_node(graph, node));
                }
            }
        }
        KernelCall::Loop { body, .. } | KernelCall::While { body, .. } => write_plan(out, body, indent + 4),
        KernelCall::Op(_) | KernelCall::Sum | KernelCall::SumOfAbsolutes => {}
    }
}

fn call_name(call: &KernelCall) -> String {
    match call {
        KernelCall::Op(op) => {
            let attributes = op.attributes();
            if attributes.0.is_empty() { op.mnemonic().into() } else { format!("{} {attributes}", op.mnemonic()) }
        }
        KernelCall::Fused(_) => "fused".into(),
        KernelCall::Sum => "sum".into(),
        KernelCall::SumOfAbsolutes => "sum_of_absolutes".into(),
        KernelCall::Loop { trips, reverse, carried, scanned, .. } => {
            let reverse = if *reverse { ", reverse=true" } else { "" };
            format!("loop {{trips={trips}{reverse}, carried={carried}, scanned={scanned}}}")
        }
        KernelCall::While { carried, .. } => format!("while {{carried={carried}}}"),
    }
}

/// The buffer's name, and whose bytes it shows.
fn reference(plan: &Plan, id: BufferId) -> String {
    let buffer = plan.buffer(id);
    match buffer.place {
        Place::Alias(root) => format!("%{}=%{}", buffer.name, plan.buffer(root).name),
        _ => format!("%{}", buffer.name),
    }
}

fn typed(plan: &Plan, id: BufferId) -> String {
    let buffer = plan.buffer(id);
    let shape: Vec<String> = buffer.shape.iter().map(ToString::to_string).collect();
    format!("%{} : {}[{}] {}", buffer.name, buffer.dtype, shape.join(", "), place(plan, buffer))
}

fn place(plan: &Plan, buffer: &Buffer) -> String {
    match &buffer.place {
        Place::Input(_) => "@input".into(),
        Place::Weight(_) => "@weight".into(),
        Place::Constant(_) => "@literal".into(),
        Place::Prepared(offset) => format!("@prepared+{offset}"),
        Place::Arena(offset) => format!("@{offset}"),
        Place::Alias(root) => format!("=%{}", plan.buffer(*root).name),
    }
}

fn write_totals(out: &mut String, numbers: &PlanStatistics) {
    let PlanStatistics { steps, fused_steps, prepare_steps, .. } = numbers;
    let _ = writeln!(out, "steps {steps} ({fused_steps} fused), prepare {prepare_steps}");
    let _ = writeln!(out, "work {} flop, {} moved", numbers.cost.flops, size(numbers.cost.bytes as usize));
    let _ = writeln!(
        out,
        "memory arena {} (lower bound {}), prepared {}, weights {}, inputs {}, results {}",
        size(numbers.arena_bytes),
        size(numbers.lower_bound),
        size(numbers.prepared_bytes),
        size(numbers.weight_bytes),
        size(numbers.input_bytes),
        size(numbers.result_bytes),
    );
    if let Some(step) = numbers.peak_step {
        let alive: Vec<String> =
            numbers.alive_at_peak.iter().map(|(name, bytes)| format!("%{name} {}", size(*bytes))).collect();
        let _ = writeln!(out, "peak at step {step}: {}", alive.join(", "));
    }
}
