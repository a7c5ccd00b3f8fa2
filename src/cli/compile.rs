//! `lrpc compile`: a model becomes a relevance graph.

use std::path::PathBuf;

use clap::Args;
use lrpc_ir::{Graph, text};
use lrpc_passes::canonicalise;
use lrpc_passes::compile::APPLY_RULES;
use lrpc_passes::manager::PassDef;
use serde_json::json;

use super::flags::{CompileFlags, Format};
use super::output;
use super::passes;
use super::paths::{check_output, composite_files};
use crate::compile::{CompileOptions, Compiled, compile_forward, compile_observed, graph_text, write_graph};
use crate::error::{Error, Status};

/// How many names a note lists.
const SHOWN_NAMES: usize = 5;

/// Compile an ONNX model into a relevance graph
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The ONNX model
    model: PathBuf,
    /// The graph file to write; `-` for standard output
    #[arg(short, long, value_name = "GRAPH")]
    output: PathBuf,
    #[command(flatten)]
    compile: CompileFlags,
    /// Compile the model's outputs alone: a graph without relevance, of a model of any type
    #[arg(long, conflicts_with_all = ["rules", "target", "wrt", "condition", "carrier", "outputs", "seed"])]
    forward: bool,
    /// Show the graph after this pass, or after `all`, on standard error
    #[arg(long, value_name = "PASS")]
    print_after: Vec<String>,
    /// Tell how often each pass fired and on what, and which near misses it left and why
    #[arg(long)]
    explain_passes: bool,
    /// Form of the report
    #[arg(long, default_value = "text")]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> Result<Status, Error> {
    check_passes(&arguments.print_after)?;
    let inputs: Vec<_> =
        composite_files(&arguments.compile.rules).chain([("the model", arguments.model.as_path())]).collect();
    check_output(&arguments.output, &inputs)?;
    let options = arguments.compile.options()?;
    let compiled = if arguments.forward {
        let mut show = |pass: &PassDef, graph: &Graph| print_if_asked(&arguments.print_after, pass, graph);
        compile_forward(&arguments.model, &options, &mut show)?
    } else {
        compile_printing(&arguments.model, &options, &arguments.print_after)?
    };
    if output::is_stdout(&arguments.output) {
        output::data(graph_text(&compiled.graph, None).as_bytes())?;
    } else {
        write_graph(&compiled.graph, &arguments.output)?;
    }
    if arguments.explain_passes {
        passes::explain(&compiled.report.patches, &compiled.report.refusals);
    }
    match arguments.format {
        Format::Text => report(&compiled),
        Format::Json => {
            output::report(&format!("{}\n", report_json(&compiled)), !output::is_stdout(&arguments.output))?;
        }
    }
    Ok(Status::Good)
}

/// Compiles, and shows the graph after the passes named in `print_after`.
pub(super) fn compile_printing(
    model: &std::path::Path,
    options: &CompileOptions,
    print_after: &[String],
) -> Result<Compiled, Error> {
    let mut show = |pass: &PassDef, graph: &Graph| print_if_asked(print_after, pass, graph);
    let compiled = compile_observed(model, options, &mut show)?;
    if let Some(chosen) = &compiled.report.chosen {
        output::message(&format!("rules: {chosen} (chosen by --rules auto)"));
    }
    output::warnings(&compiled.report.warnings);
    if let Some(note) = left_out(&compiled.report.left_out) {
        output::message(&note);
    }
    Ok(compiled)
}

/// What is told of tensors that patterns found and that are no tensors of their own.
fn left_out(names: &[String]) -> Option<String> {
    let shown: Vec<&str> = names.iter().take(SHOWN_NAMES).map(String::as_str).collect();
    let more = if names.len() > shown.len() { ", …" } else { "" };
    (!names.is_empty()).then(|| {
        format!(
            "note: left out are {} tensors that are within operations explained as one, or depend on no tensor explained: {}{more}",
            names.len(),
            shown.join(", ")
        )
    })
}

pub(super) fn print_if_asked(print_after: &[String], pass: &PassDef, graph: &Graph) {
    if print_after.iter().any(|name| name == pass.name || name == "all") {
        output::message(&format!("# after {}\n{}", pass.name, text::print(graph)));
    }
}

/// # Errors
/// Names of passes that do not exist.
pub(super) fn check_passes(names: &[String]) -> Result<(), Error> {
    let forward = canonicalise::PIPELINE.iter().chain(canonicalise::FOR_TARGETS);
    let known: Vec<&str> = forward.map(|pass| pass.name).chain([APPLY_RULES.name]).collect();
    match names.iter().find(|name| *name != "all" && !known.contains(&name.as_str())) {
        Some(name) => Err(lrpc_ir::Diagnostic::request(format!("there is no pass `{name}`"))
            .help(format!("the passes are {}; `all` means each of them", known.join(", ")))
            .into()),
        None => Ok(()),
    }
}

fn report(compiled: &Compiled) {
    let Compiled { graph, report, .. } = compiled;
    let applied = report.applications.iter().filter(|application| application.rule.is_ok()).count();
    let nodes = graph.len();
    output::message(&match report.composites.as_slice() {
        [] => format!("compiled without relevance: {nodes} nodes"),
        composites => format!("compiled with {}: {nodes} nodes, {applied} rule applications", composites.join(", ")),
    });
    for (condition, masks) in graph.conditions.iter().zip(&report.masks).filter(|(_, masks)| !masks.is_empty()) {
        output::message(&format!("condition {condition}: {masks}"));
    }
    let results: Vec<&str> = graph.results.iter().map(|result| result.name.as_str()).collect();
    output::message(&format!("results: {}", results.join(", ")));
}

fn report_json(compiled: &Compiled) -> String {
    let Compiled { graph, report, file } = compiled;
    let applications = report.applications.iter().map(|one| {
        let (rule, reason) = (one.rule.as_ref().ok(), one.rule.as_ref().err());
        let entry = one.entry.as_ref().map(|entry| json!({ "name": entry.name, "text": entry.text }));
        json!({ "composite": one.composite, "site": one.site, "op": one.op, "class": one.class, "rule": rule,
                "entry": entry, "nothing_flows": reason })
    });
    let value = json!({
        "composites": report.composites,
        "chosen": report.chosen,
        "warnings": output::warnings_json(&report.warnings),
        "nodes": graph.len(),
        "model": { "bytes": file.size(), "structure": format!("sha256:{}", file.structure_hash()) },
        "conditions": graph.conditions,
        "masks": report.masks,
        "left_out": report.left_out,
        "results": graph.results.iter().map(|result| result.name.as_str()).collect::<Vec<_>>(),
        "applications": applications.collect::<Vec<_>>(),
        "passes": passes::json(&report.patches, &report.refusals),
    });
    value.to_string()
}
