//! `lrpc opt`: graph in, graph out, one pass at a time.

use std::path::{Path, PathBuf};

use clap::Args;
use lrpc_ir::{Graph, text};
use lrpc_passes::canonicalise;
use lrpc_passes::manager::{self, Context, PassDef};

use super::compile::{check_passes, print_if_asked};
use super::flags::Format;
use super::output;
use super::passes;
use super::paths::check_output;
use crate::compile::{graph_text, import_model};
use crate::error::{Error, Status};
use crate::graph_file::load_graph;
use crate::onnx::ImportOptions;

/// Run passes over a graph, for those who write passes and rules
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A graph file, or an ONNX model to import
    input: PathBuf,
    /// The passes in order, by name; empty runs none. Default: canonicalisation
    #[arg(long, value_name = "PASS,…", value_delimiter = ',')]
    pass_pipeline: Option<Vec<String>>,
    /// Show the graph after this pass, or after `all`, on standard error
    #[arg(long, value_name = "PASS")]
    print_after: Vec<String>,
    /// The graph to write; default: standard output
    #[arg(short, long, value_name = "GRAPH")]
    output: Option<PathBuf>,
    /// Tell how often each pass fired and on what, and which near misses it left and why, on standard error
    #[arg(long)]
    explain_passes: bool,
    /// Form of what `--explain-passes` tells
    #[arg(long, default_value = "text")]
    format: Format,
    /// Check all invariants after every pass
    #[arg(long)]
    verify: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<Status, Error> {
    let pipeline = pipeline(arguments.pass_pipeline.as_deref())?;
    check_passes(&arguments.print_after)?;
    if let Some(output) = &arguments.output {
        check_output(output, &[("the input", &arguments.input)])?;
    }
    let (mut graph, is_model) = read(&arguments.input)?;
    // Results keep their names, as when compiling.
    let pinned = graph.results.iter().map(|result| result.value).collect();
    let mut context = Context { pinned, ..Context::default() };
    let mut show = |pass: &PassDef, graph: &Graph| print_if_asked(&arguments.print_after, pass, graph);
    manager::run(&mut graph, &pipeline, &mut context, arguments.verify, &mut show)?;
    if arguments.explain_passes {
        match arguments.format {
            Format::Text => passes::explain(&context.patches, &context.refusals),
            Format::Json => output::message(&passes::json(&context.patches, &context.refusals).to_string()),
        }
    }
    let printed = match is_model {
        true => graph_text(&graph, arguments.output.as_deref().filter(|path| !output::is_stdout(path))),
        false => text::print(&graph),
    };
    output::text(arguments.output.as_deref(), &printed)?;
    Ok(Status::Good)
}

fn pipeline(names: Option<&[String]>) -> Result<Vec<PassDef>, Error> {
    let Some(names) = names else { return Ok(canonicalise::PIPELINE.to_vec()) };
    let mut passes = Vec::new();
    let names: Vec<&str> = names.iter().map(|name| name.trim()).collect();
    // Nothing at all is one empty name, and runs no pass.
    if names == [""] {
        return Ok(passes);
    }
    for name in names {
        match canonicalise::find(name) {
            Some(pass) => passes.push(pass),
            None => {
                let passes = canonicalise::PIPELINE.iter().chain(canonicalise::FOR_TARGETS);
                let known: Vec<&str> = passes.map(|pass| pass.name).collect();
                return Err(lrpc_ir::Diagnostic::request(format!("there is no pass `{name}`"))
                    .help(format!("the passes are {}", known.join(", ")))
                    .into());
            }
        }
    }
    Ok(passes)
}

/// The graph, and whether it was imported from a model.
fn read(path: &Path) -> Result<(Graph, bool), Error> {
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx")) {
        return Ok((import_model(path, &ImportOptions::default())?.graph, true));
    }
    Ok((load_graph(path)?.graph, false))
}
