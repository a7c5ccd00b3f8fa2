//! `lrpc explain`: model and image in, picture out: compile and run in one step.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use lrpc_ir::{Bindings, Diagnostic, Graph, text};
use lrpc_passes::bind::{Strategy, Wanted};
use serde_json::json;

use super::compile::compile_printing;
use super::flags::{CompileFlags, ExecutionFlags, Format, PrecisionFlag};
use super::output::{self, ProgressReport};
use super::run::totals;
use crate::compile::Compiled;
use crate::data::Tensor;
use crate::data::image::{ChannelOrder, Channels, Filter, Layout, LoadedImage, Preprocess, Resize, read_image};
use crate::error::{Error, Status};
use crate::explain::{ImageInput, Labels, best_classes, image_input};
use crate::graph_file::ModelWeights;
use crate::render::{HeatmapOptions, Scale, render_heatmap, write_png};
use crate::session::{RunOptions, RunOutcome, Session};

/// How many of the best classes are shown.
const SHOWN_CLASSES: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ChannelsFlag {
    /// As the model declares.
    Auto,
    /// One channel of luma.
    Grey,
    /// Three channels.
    Colour,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LayoutFlag {
    /// As the model declares.
    Auto,
    /// Channels before height and width.
    Nchw,
    /// Channels last.
    Nhwc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FilterFlag {
    /// Cubic.
    Bicubic,
    /// Linear.
    Bilinear,
}

/// Show which pixels of an image made a model decide
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The ONNX model
    model: PathBuf,
    /// The image, PNG or JPEG
    #[arg(long, value_name = "FILE")]
    image: PathBuf,
    /// The picture to write, PNG
    #[arg(short, long, value_name = "FILE", default_value = "heat.png")]
    output: PathBuf,
    #[command(flatten)]
    compile: CompileFlags,
    /// Subtracted from every channel after scaling: one number, or one for each channel
    #[arg(long, value_name = "M,…", value_delimiter = ',', default_value = "0", allow_hyphen_values = true)]
    mean: Vec<f64>,
    /// Divisor of every channel after that
    #[arg(long, value_name = "S,…", value_delimiter = ',', default_value = "1")]
    std: Vec<f64>,
    /// Factor on values 0 to 255; default: 1/255
    #[arg(long, value_name = "FACTOR")]
    scale: Option<f64>,
    /// Bring the shorter side to this many pixels and cut the middle out; default: resize to the model's size exactly
    #[arg(long, value_name = "PIXELS")]
    resize: Option<u32>,
    /// Height and width for the model where it leaves them open, as `224x224` or `224`; default: the image's
    #[arg(long, value_name = "HxW", value_parser = size)]
    crop: Option<(u32, u32)>,
    /// Interpolation when resizing
    #[arg(long, default_value = "bicubic")]
    filter: FilterFlag,
    /// Channels of the model's input
    #[arg(long, default_value = "auto")]
    channels: ChannelsFlag,
    /// Axes of the model's input
    #[arg(long, default_value = "auto")]
    layout: LayoutFlag,
    /// The model reads blue before green before red
    #[arg(long)]
    bgr: bool,
    /// Names of classes: a JSON map or list, or one name on each line
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Give this percentile of |R| the full colour instead of the largest
    #[arg(long, value_name = "P")]
    percentile: Option<f64>,
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
    if arguments.compile.rules.len() > 1 || arguments.compile.target.len() > 1 {
        let message = "one picture shows one composite and one target";
        return Err(Diagnostic::request(message).help("give --rules and --target once, or use compile and run").into());
    }
    let labels = arguments.labels.as_deref().map(Labels::read).transpose()?.unwrap_or_default();
    let compiled = compile_printing(&arguments.model, &arguments.compile.options(), &[])?;
    let input = find_input(&compiled.graph, arguments)?;
    let image = read_image(&arguments.image, &preprocess(&input, arguments))?;
    let outcome = execute(&compiled, &input, &image, arguments)?;
    let relevance = relevance_of(&outcome, &input)?;
    let story = Story::of(&compiled, &outcome, &labels, arguments);
    let options = HeatmapOptions {
        scale: arguments.percentile.map_or(Scale::Maximum, Scale::Percentile),
        layout: input.layout,
        caption: story.caption(),
        ..HeatmapOptions::default()
    };
    let picture = render_heatmap(&image.picture, relevance, &options)?;
    write_png(&arguments.output, &picture)?;
    story.report(&outcome, arguments)?;
    Ok(Status::Good)
}

fn find_input(graph: &Graph, arguments: &Arguments) -> Result<ImageInput, Error> {
    let layout = match arguments.layout {
        LayoutFlag::Auto => None,
        LayoutFlag::Nchw => Some(Layout::Nchw),
        LayoutFlag::Nhwc => Some(Layout::Nhwc),
    };
    let channels = match arguments.channels {
        ChannelsFlag::Auto => None,
        ChannelsFlag::Grey => Some(Channels::Grey),
        ChannelsFlag::Colour => Some(Channels::Colour),
    };
    Ok(image_input(graph, layout, channels)?)
}

fn preprocess(input: &ImageInput, arguments: &Arguments) -> Preprocess {
    let crop = arguments.crop;
    let height = input.size.0.or(crop.map(|(height, _)| height));
    let width = input.size.1.or(crop.map(|(_, width)| width));
    Preprocess {
        // Where the model leaves one side open, the other gives it too.
        size: match (height, width) {
            (Some(height), Some(width)) => Some((height, width)),
            (Some(side), None) | (None, Some(side)) => Some((side, side)),
            (None, None) => None,
        },
        resize: arguments.resize.map_or(Resize::Exact, Resize::ShortSide),
        filter: match arguments.filter {
            FilterFlag::Bicubic => Filter::Bicubic,
            FilterFlag::Bilinear => Filter::Bilinear,
        },
        scale: arguments.scale.unwrap_or(1.0 / 255.0),
        mean: arguments.mean.clone(),
        std: arguments.std.clone(),
        layout: input.layout,
        order: if arguments.bgr { ChannelOrder::Bgr } else { ChannelOrder::Rgb },
        ..Preprocess::new(input.channels, None)
    }
}

fn execute(
    compiled: &Compiled,
    input: &ImageInput,
    image: &LoadedImage,
    arguments: &Arguments,
) -> Result<RunOutcome, Error> {
    // What runs is what a graph file would hold.
    let graph = text::parse(&text::print(&compiled.graph)).map_err(|error| {
        Diagnostic::new(format!("the graph does not read back: {error}")).of_kind(lrpc_ir::DiagnosticKind::Bug)
    })?;
    let weights = ModelWeights::locate(&graph, &compiled.file, &arguments.model)?;
    let options = RunOptions {
        precision: arguments.precision.precision(),
        audit: false,
        strategy: Strategy::Store,
        wanted: Wanted::All,
        threads: arguments.execution.threads,
        memory_limit: arguments.execution.memory_limit(),
    };
    let mut session = Session::new(&graph, &weights, options);
    let inputs = BTreeMap::from([(input.name.clone(), image.tensor.clone())]);
    let mut progress = ProgressReport::new();
    let mut on_step = |step: lrpc_kernels::Progress<'_>| progress.step(step);
    session.run(&inputs, &[], &Bindings::new(), Some(&mut on_step))
}

fn relevance_of<'a>(outcome: &'a RunOutcome, input: &ImageInput) -> Result<&'a Tensor, Error> {
    let name = format!("relevance/{}", input.name);
    outcome.results.get(&name).ok_or_else(|| {
        let message = format!("the image goes into `{}`, and --wrt asks for other tensors", input.name);
        Diagnostic::request(message).help(format!("add --wrt {}", input.name)).into()
    })
}

/// What is told beside the picture.
struct Story {
    target: String,
    rules: String,
    classes: Vec<(String, f64)>,
    seed: f64,
    arrived: f64,
}

impl Story {
    fn of(compiled: &Compiled, outcome: &RunOutcome, labels: &Labels, arguments: &Arguments) -> Story {
        let outputs = compiled.graph.results.iter().filter(|result| result.name.starts_with("output/"));
        let mut scores = outputs.filter_map(|result| best_classes(outcome.results.get(&result.name)?, SHOWN_CLASSES));
        let best = scores.next().unwrap_or_default();
        let target = match (arguments.compile.target.first(), best.first()) {
            (Some(target), _) => match class_of(target) {
                Some(class) => format!("class {} ({target})", labels.describe(class)),
                None => target.clone(),
            },
            (None, Some((class, score))) => format!("class {}, score {score:.4}", labels.describe(*class)),
            (None, None) => "the largest element of the output".into(),
        };
        Story {
            target,
            rules: compiled.report.composites.join(", "),
            classes: best.into_iter().map(|(class, score)| (labels.describe(class), score)).collect(),
            seed: outcome.seeds.iter().map(|seed| seed.sum).sum(),
            arrived: outcome.arrived.values().sum(),
        }
    }

    fn caption(&self) -> String {
        let Story { target, rules, seed, arrived, .. } = self;
        format!("Explained: {target}\nRules: {rules}\nRelevance: {seed:.4} started, {arrived:.4} arrived")
    }

    fn report(&self, outcome: &RunOutcome, arguments: &Arguments) -> Result<(), Error> {
        if arguments.format == Format::Json {
            let classes: Vec<_> =
                self.classes.iter().map(|(class, score)| json!({ "class": class, "score": score })).collect();
            let value = json!({ "explained": self.target, "rules": self.rules, "best": classes, "seed": self.seed,
                                "arrived": outcome.arrived, "picture": arguments.output.to_string_lossy() });
            return output::data(format!("{value}\n").as_bytes());
        }
        output::message(&format!("explained: {}", self.target));
        for (class, score) in &self.classes {
            output::message(&format!("  {score:>10.4}  {class}"));
        }
        totals(outcome);
        output::message(&format!("wrote {}", arguments.output.display()));
        Ok(())
    }
}

/// The class of a target that names one element, as `logits[0, 8]` or `logits[:, 8]` do.
fn class_of(target: &str) -> Option<usize> {
    // A sum or contrast has several brackets and names several classes.
    let (_, inside) = target.strip_suffix(']')?.split_once('[').filter(|(_, inside)| !inside.contains('['))?;
    inside.rsplit(',').next()?.trim().parse().ok()
}

/// `224` or `224x224`.
fn size(text: &str) -> Result<(u32, u32), String> {
    let number = |text: &str| text.trim().parse::<u32>().ok().filter(|pixels| *pixels > 0);
    let both = match text.split_once('x') {
        Some((height, width)) => number(height).zip(number(width)),
        None => number(text).map(|side| (side, side)),
    };
    both.ok_or_else(|| format!("`{text}` is no size; write it as 224x224"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_classes_are_read() {
        assert_eq!(size("224"), Ok((224, 224)));
        assert_eq!(size("32x64"), Ok((32, 64)));
        assert!(size("0").is_err() && size("ax4").is_err());
        assert_eq!(class_of("logits[0, 8]"), Some(8));
        assert_eq!(class_of("logits:argmax"), None);
        assert_eq!(class_of("a[0,8]-a[0,3]"), None);
    }
}
