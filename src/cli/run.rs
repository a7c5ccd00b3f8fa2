//! `lrpc run`: a relevance graph and inputs become outputs and relevance.

use std::path::{Path, PathBuf};

use clap::Args;
use lrpc_ir::{Diagnostic, Graph};
use serde_json::json;

use super::audit;
use super::flags::{self, BindFlags, ExecutionFlags, Format, WeightFlags};
use super::inputs::InputFlags;
use super::output::{self, ProgressReport};
use super::paths::check_output;
use super::tokens::{ReduceFlag, TokenFlags, reduce_of};
use crate::attribution::{self, groups_json, prefix_of};
use crate::data::{Format as FileFormat, TensorFile};
use crate::error::{Error, Status};
use crate::graph_file::{LoadedGraph, ModelWeights, load_graph, needs_weights};
use crate::inputs::SeedIndex;
use crate::manifest::{Provenance, conditions_used, manifest};
use crate::onnx::ModelFile;
use crate::render::explanation::Group;
use crate::session::{RunOptions, RunOutcome, Session};

/// Run a relevance graph on inputs
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The graph file
    graph: PathBuf,
    #[command(flatten)]
    inputs: InputFlags,
    /// Indices to explain instead of the compiled ones: `3` for all rows, `3,5` one for each, `NAME=3,5` where the graph
    /// has several index inputs, as `condition=12`
    #[arg(long, value_name = "[NAME=]INDEX", value_parser = flags::seed_index, allow_hyphen_values = true)]
    index: Vec<SeedIndex>,
    /// The results, npz or safetensors; `-` writes npz to standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The ONNX model, if it is not where the graph file says
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    #[command(flatten)]
    weights: WeightFlags,
    #[command(flatten)]
    bind: BindFlags,
    /// What is reduced before it is written: `tokens=sum` or `tokens=abs` for embeddings over the hidden axis,
    /// `channels=sum` or `channels=abs` for images, `places=sum` or `places=abs` for intermediate tensors `[N, C, …]` over all
    /// axes behind the channels; `none` for neither, the default
    #[arg(long, value_name = "WHAT=HOW")]
    reduce: Vec<ReduceFlag>,
    #[command(flatten)]
    tokens: TokenFlags,
    #[command(flatten)]
    execution: ExecutionFlags,
    /// Form of the report
    #[arg(long, default_value = "text")]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> Result<Status, Error> {
    arguments.execution.check_device()?;
    let format = match output::is_stdout(&arguments.output) {
        true => FileFormat::Npz,
        false => file_format(&arguments.output)?,
    };
    check_output(&arguments.output, &files_read(arguments))?;
    let loaded = load_graph(&arguments.graph)?;
    if let Some(path) = loaded.model_path() {
        check_output(&arguments.output, &[("the model", &path)])?;
    }
    let model = open_model(&loaded, arguments)?;
    let weights = match &model {
        Some(file) => ModelWeights::locate(&loaded.graph, file, &loaded.path)?,
        None => ModelWeights::default(),
    };
    let inputs = arguments.inputs.read(arguments.execution.memory_limit())?;
    let reduce = reduce_of(&arguments.reduce)?;
    let shown = arguments.tokens.options(reduce, &[])?;
    let options = RunOptions { token_ids: shown.is_some(), ..arguments.execution.options(&arguments.bind) };
    let mut session = Session::new(&loaded.graph, &weights, options);
    let mut progress = ProgressReport::new();
    let mut on_step = |step: lrpc_kernels::Progress<'_>| progress.step(step);
    let outcome = session.run(&inputs, &arguments.index, &arguments.bind.dims(), Some(&mut on_step));
    drop(progress);
    let mut outcome = outcome?;
    let groups = shown.map(|options| attribution::groups(&loaded.graph, &outcome, &options)).transpose()?;
    reduce.apply(&loaded.graph, &mut outcome.results)?;
    let provenance = Provenance {
        graph: &loaded.graph,
        graph_hash: &loaded.hash,
        model: model.as_ref(),
        inputs: &inputs,
        precision: arguments.bind.precision(),
        device: &arguments.execution.device,
        reduce,
        indices: &arguments.index,
    };
    write_results(arguments, format, &provenance, &outcome)?;
    report(arguments, &provenance, &outcome, groups)
}

/// What the command line names to be read.
fn files_read(arguments: &Arguments) -> Vec<(&str, &Path)> {
    let inputs = arguments.inputs.files().chain(arguments.tokens.files());
    let model = arguments.model.iter().map(|path| ("the model", path.as_path()));
    inputs.chain(model).chain([("the graph", arguments.graph.as_path())]).collect()
}

/// The format of a result file.
fn file_format(path: &Path) -> Result<FileFormat, Error> {
    match FileFormat::of(path)? {
        FileFormat::Npy => {
            let message = format!("{}: results are several tensors, which npy does not hold", path.display());
            Err(Diagnostic::request(message).help("choose a name that ends in .npz or .safetensors").into())
        }
        format => Ok(format),
    }
}

fn open_model(loaded: &LoadedGraph, arguments: &Arguments) -> Result<Option<ModelFile>, Error> {
    let model = arguments.model.as_deref();
    if needs_weights(&loaded.graph) || model.is_some() {
        return loaded.open_model(model, &arguments.weights.import()).map(Some);
    }
    Ok(None)
}

fn write_results(
    arguments: &Arguments,
    format: FileFormat,
    provenance: &Provenance<'_>,
    outcome: &RunOutcome,
) -> Result<(), Error> {
    let file =
        TensorFile { tensors: outcome.results.clone(), manifest: Some(manifest(provenance, outcome).to_string()) };
    if output::is_stdout(&arguments.output) {
        return output::data(&file.to_bytes(format).map_err(Error::Output)?);
    }
    Ok(file.write(&arguments.output)?)
}

fn report(
    arguments: &Arguments,
    provenance: &Provenance<'_>,
    outcome: &RunOutcome,
    groups: Option<Vec<Group>>,
) -> Result<Status, Error> {
    let closing =
        arguments.bind.audit.then(|| audit::Audit::of(&outcome.ledger, &outcome.totals, arguments.bind.precision()));
    // Where the results take standard output, the report goes to where messages go.
    let show = |text: &str| output::report(text, !output::is_stdout(&arguments.output));
    match arguments.format {
        Format::Text => {
            conditions(provenance);
            totals(provenance.graph, outcome);
            if let Some(groups) = groups {
                let to_stdout = !output::is_stdout(&arguments.output);
                show(&arguments.tokens.color.text(groups, "relevance", to_stdout))?;
            }
            if let Some(audit) = &closing {
                show(&audit.table())?;
            }
        }
        Format::Json => {
            let mut value = json!({ "manifest": manifest(provenance, outcome) });
            if let (Some(audit), Some(entries)) = (&closing, value.as_object_mut()) {
                entries.insert("audit".into(), audit.json());
            }
            if let (Some(groups), Some(entries)) = (&groups, value.as_object_mut()) {
                entries.insert("tokens".into(), groups_json(groups));
            }
            show(&format!("{value}\n"))?;
        }
    }
    match &closing {
        Some(audit) if !audit.closes() => {
            output::message(&audit.verdict());
            Ok(Status::Finding)
        }
        _ => Ok(Status::Good),
    }
}

/// The conditions that were used, by the names that results have them under, on standard error.
fn conditions(provenance: &Provenance<'_>) {
    let conditions = conditions_used(provenance);
    for (number, text) in conditions.iter().enumerate() {
        let label = if conditions.len() > 1 { format!(" c{number}") } else { String::new() };
        output::message(&format!("condition{label}  {text}"));
    }
}

/// What started and what arrived, on standard error; where no ledger is kept, what the results sum to.
pub(super) fn totals(graph: &Graph, outcome: &RunOutcome) {
    outcome.notes.iter().for_each(|note| output::message(&format!("note: {note}")));
    for seed in outcome.seeds.iter().filter(|_| !graph.ledger.is_empty()) {
        let what = if seed.is_coefficient { " (coefficient)" } else { "" };
        output::message(&format!("seed     {:>14}  {}{what}", number(seed.sum), seed.name));
    }
    for (name, sum) in &outcome.arrived {
        let word = if has_ledger(graph, name) { "arrived" } else { "sum    " };
        output::message(&format!("{word}  {:>14}  {name}{}", number(*sum), sum_note(graph, outcome, name)));
    }
    for (name, miss) in &outcome.completeness {
        output::message(&format!("misses   {:>14}  {name}: the sum against f(x) − f(baseline)", number(*miss)));
    }
}

/// Whether the ledger says where the relevance went that did not arrive at this result.
fn has_ledger(graph: &Graph, result: &str) -> bool {
    let part = prefix_of(result).replace('/', ".");
    let mut totals = graph.ledger.iter().filter(|line| line.is_total());
    totals.any(|line| line.site.strip_suffix("total").is_some_and(|site| site.trim_end() == part))
}

/// What is told of the sum of a result: how far it is from complete, or that its composite conserves nothing.
pub(super) fn sum_note(graph: &Graph, outcome: &RunOutcome, result: &str) -> String {
    if has_ledger(graph, result) {
        return String::new();
    }
    let prefix = prefix_of(result);
    let is_own = |(name, _): &(&String, &f64)| name.rsplit_once('/').map_or("", |(path, _)| path) == prefix;
    if let Some((_, miss)) = outcome.completeness.iter().find(is_own) {
        return format!(" (misses f(x) − f(baseline) by {})", number(*miss));
    }
    let composite = match graph.composites.as_slice() {
        [only] => only.rules.split('(').next(),
        _ => prefix.split('/').next(),
    };
    composite.filter(|name| !name.is_empty()).map_or(String::new(), |name| format!(" ({name} conserves nothing)"))
}

/// Six significant digits.
pub(super) fn number(value: f64) -> String {
    // Zero has no sign for whoever reads it.
    let value = value + 0.0;
    if value != 0.0 && (value.abs() < 1e-3 || value.abs() >= 1e7) {
        format!("{value:.5e}")
    } else {
        format!("{value:.6}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_has_no_sign() {
        assert_eq!([number(-0.0), number(0.0), number(-1.0)], ["0.000000", "0.000000", "-1.000000"]);
    }

    #[test]
    fn npy_cannot_hold_results() {
        assert_eq!(file_format(Path::new("a.npy")).unwrap_err().status(), Status::Usage);
        assert_eq!(file_format(Path::new("a.csv")).unwrap_err().status(), Status::Usage);
        assert_eq!(file_format(Path::new("a.npz")).unwrap(), FileFormat::Npz);
    }
}
