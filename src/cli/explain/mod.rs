//! `lrpc explain`: model and input in, picture out: compile and run in one step.
//!
//! An image becomes a PNG ([`image`]); token ids, and whatever else a model reads, become text and HTML ([`tokens`]).

mod image;
mod story;
mod tokens;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use lrpc_ir::{Bindings, Diagnostic, Graph, text};
use lrpc_passes::bind::{Strategy, Wanted};

use super::compile::compile_printing;
use super::flags::{CompileFlags, ExecutionFlags, Format, PrecisionFlag};
use super::inputs::InputFlags;
use super::output::{self, ProgressReport};
use super::paths::{check_output, composite_files};
use super::tokens::{ReduceFlag, TokenFlags, reduce_of};
use crate::compile::Compiled;
use crate::data::{DataError, Tensor};
use crate::error::{Error, Status};
use crate::explain::Labels;
use crate::graph_file::ModelWeights;
use crate::session::{RunOptions, RunOutcome, Session};
use story::Story;

/// Show which pixels of an image, or which tokens of a text, made a model decide
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").args(["image", "inputs", "input"]).required(true).multiple(true)))]
pub(super) struct Arguments {
    /// The ONNX model
    model: PathBuf,
    /// The image, PNG or JPEG
    #[arg(long, value_name = "FILE", conflicts_with_all = ["inputs", "input", "tokens"])]
    image: Option<PathBuf>,
    #[command(flatten)]
    inputs: InputFlags,
    #[command(flatten)]
    tokens: TokenFlags,
    /// The picture to write; `-` for standard output. PNG for an image, heat.png unless another name is given; HTML for
    /// other inputs, if a name is given
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    compile: CompileFlags,
    /// How numbers become one: `tokens=sum` or `tokens=abs` over the hidden axis of an embedding, `channels=sum` or
    /// `channels=abs` over those of an image. Default: sum
    #[arg(long, value_name = "WHAT=HOW")]
    reduce: Vec<ReduceFlag>,
    #[command(flatten)]
    image_flags: image::ImageFlags,
    /// Names of classes: a JSON map or list, or one name on each line
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Type of computation
    #[arg(long, default_value = "f32")]
    precision: PrecisionFlag,
    #[command(flatten)]
    execution: ExecutionFlags,
    /// Form of the report
    #[arg(long, default_value = "text")]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> Result<Status, Error> {
    arguments.execution.check_device()?;
    if reduce_of(&arguments.reduce)? == Default::default() && !arguments.reduce.is_empty() {
        let message = "a picture needs one number for each token or pixel";
        return Err(Diagnostic::request(message).help("reduce by sum or abs, or use compile and run").into());
    }
    match &arguments.image {
        Some(path) => image::run(arguments, path),
        None => tokens::run(arguments),
    }
}

fn labels(arguments: &Arguments) -> Result<Labels, Error> {
    Ok(arguments.labels.as_deref().map(Labels::read).transpose()?.unwrap_or_default())
}

/// The picture's name must say what it is, and be no file that is read.
fn check_output_name(path: &Path, expected: &'static str, arguments: &Arguments) -> Result<(), Error> {
    let named_so =
        path.extension().is_some_and(|extension| expected[1..].eq_ignore_ascii_case(&extension.to_string_lossy()));
    if !named_so && !output::is_stdout(path) {
        return Err(DataError::UnknownFormat { path: path.to_path_buf(), expected }.into());
    }
    let labels = arguments.labels.iter().map(|path| ("the labels", path.as_path()));
    let images = arguments.image.iter().map(|path| ("the image", path.as_path()));
    let inputs = images.chain([("the model", arguments.model.as_path())]).chain(labels);
    let inputs = inputs.chain(arguments.inputs.files()).chain(arguments.tokens.files());
    let inputs: Vec<_> = inputs.chain(composite_files(&arguments.compile.rules)).collect();
    check_output(path, &inputs)
}

/// Compiles the model.
fn compile(arguments: &Arguments) -> Result<Compiled, Error> {
    compile_printing(&arguments.model, &arguments.compile.options()?, &[])
}

/// Runs what a graph file would hold.
fn execute(
    compiled: &Compiled,
    inputs: &BTreeMap<String, Tensor>,
    token_ids: bool,
    arguments: &Arguments,
) -> Result<(Graph, RunOutcome), Error> {
    let graph = text::parse(&text::print(&compiled.graph)).map_err(|error| {
        Diagnostic::new(format!("the graph does not read back: {error}")).of_kind(lrpc_ir::DiagnosticKind::Bug)
    })?;
    let weights = ModelWeights::locate(&graph, &compiled.file, &arguments.model)?;
    let options = RunOptions {
        precision: arguments.precision.precision(),
        // Cheap beside the run itself, and needed to say where relevance is lost.
        audit: true,
        strategy: Strategy::Store,
        wanted: Wanted::All,
        token_ids,
        threads: arguments.execution.threads(),
        memory_limit: arguments.execution.memory_limit(),
        steps_at_once: arguments.execution.steps_at_once,
    };
    let mut session = Session::new(&graph, &weights, options);
    let mut progress = ProgressReport::new();
    let mut on_step = |step: lrpc_kernels::Progress<'_>| progress.step(step);
    let outcome = session.run(inputs, &[], &Bindings::new(), Some(&mut on_step))?;
    Ok((graph, outcome))
}
