//! `lrpc run`: a relevance graph and inputs become outputs and relevance.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use lrpc_ir::Diagnostic;
use serde_json::json;

use super::audit;
use super::flags::{self, BindFlags, ExecutionFlags, Format};
use super::output::{self, ProgressReport};
use super::paths::check_output;
use crate::data::{Format as FileFormat, Tensor, TensorFile, read_tensor};
use crate::error::{Error, Status};
use crate::graph_file::{LoadedGraph, ModelWeights, load_graph, needs_weights};
use crate::inputs::SeedIndex;
use crate::manifest::{Provenance, manifest};
use crate::onnx::{Limits, ModelFile};
use crate::session::{RunOutcome, Session};

/// Run a relevance graph on inputs
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The graph file
    graph: PathBuf,
    /// Inputs by ONNX name, in an npz or safetensors file
    #[arg(long, value_name = "FILE")]
    inputs: Option<PathBuf>,
    /// One input: a file with one tensor
    #[arg(long = "input", value_name = "NAME=FILE", value_parser = flags::named_file)]
    input: Vec<(String, PathBuf)>,
    /// Indices to explain instead of the compiled ones: `3` for all rows, `3,5` one for each, `NAME=3,5` where the graph
    /// has several index inputs
    #[arg(long, value_name = "[NAME=]INDEX", value_parser = flags::seed_index, allow_hyphen_values = true)]
    index: Vec<SeedIndex>,
    /// The results, npz or safetensors; `-` writes npz to standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The ONNX model, if it is not where the graph file says
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    #[command(flatten)]
    bind: BindFlags,
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
    let model = open_model(&loaded, arguments.model.as_deref())?;
    let weights = match &model {
        Some(file) => ModelWeights::locate(&loaded.graph, file, &loaded.path)?,
        None => ModelWeights::default(),
    };
    let inputs = read_inputs(arguments)?;
    let mut session = Session::new(&loaded.graph, &weights, arguments.execution.options(&arguments.bind));
    let mut progress = ProgressReport::new();
    let mut on_step = |step: lrpc_kernels::Progress<'_>| progress.step(step);
    let outcome = session.run(&inputs, &arguments.index, &arguments.bind.dims(), Some(&mut on_step));
    drop(progress);
    let outcome = outcome?;
    let provenance = Provenance {
        graph: &loaded.graph,
        graph_hash: &loaded.hash,
        model: model.as_ref(),
        inputs: &inputs,
        precision: arguments.bind.precision(),
        device: &arguments.execution.device,
    };
    write_results(arguments, format, &provenance, &outcome)?;
    report(arguments, &provenance, &outcome)
}

/// What the command line names to be read.
fn files_read(arguments: &Arguments) -> Vec<(&str, &Path)> {
    let inputs = arguments.inputs.iter().chain(arguments.input.iter().map(|(_, path)| path));
    let inputs = inputs.map(|path| ("an input", path.as_path()));
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

fn open_model(loaded: &LoadedGraph, model: Option<&Path>) -> Result<Option<ModelFile>, Error> {
    if needs_weights(&loaded.graph) || model.is_some() {
        return loaded.open_model(model, &Limits::default()).map(Some);
    }
    Ok(None)
}

fn read_inputs(arguments: &Arguments) -> Result<BTreeMap<String, Tensor>, Error> {
    let limit = arguments.execution.memory_limit().unwrap_or(u64::MAX);
    let mut inputs = BTreeMap::new();
    if let Some(path) = &arguments.inputs {
        if FileFormat::of(path)? == FileFormat::Npy {
            let message = format!("--inputs {}: an npy file holds no names", path.display());
            return Err(Diagnostic::request(message).help("give it as --input NAME=FILE").into());
        }
        inputs = TensorFile::read(path, limit)?.tensors;
    }
    for (name, path) in &arguments.input {
        if inputs.insert(name.clone(), read_tensor(path, limit)?).is_some() {
            return Err(Diagnostic::request(format!("input `{name}` is given twice")).into());
        }
    }
    Ok(inputs)
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

fn report(arguments: &Arguments, provenance: &Provenance<'_>, outcome: &RunOutcome) -> Result<Status, Error> {
    let closing = arguments.bind.audit.then(|| audit::Audit::of(&outcome.ledger, arguments.bind.precision()));
    // Where the results take standard output, the report goes to where messages go.
    let show = |text: &str| output::report(text, !output::is_stdout(&arguments.output));
    match arguments.format {
        Format::Text => {
            totals(outcome);
            if let Some(audit) = &closing {
                show(&audit.table())?;
            }
        }
        Format::Json => {
            let mut value = json!({ "manifest": manifest(provenance, outcome) });
            if let (Some(audit), Some(entries)) = (&closing, value.as_object_mut()) {
                entries.insert("audit".into(), audit.json());
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

/// What started and what arrived, on standard error.
pub(super) fn totals(outcome: &RunOutcome) {
    outcome.notes.iter().for_each(|note| output::message(&format!("note: {note}")));
    for seed in &outcome.seeds {
        let what = if seed.is_coefficient { " (coefficient)" } else { "" };
        output::message(&format!("seed     {:>14}  {}{what}", number(seed.sum), seed.name));
    }
    for (name, sum) in &outcome.arrived {
        output::message(&format!("arrived  {:>14}  {name}", number(*sum)));
    }
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
