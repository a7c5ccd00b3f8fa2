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
use super::paths::{check_output, composite_files};
use super::run::{number, totals};
use crate::compile::Compiled;
use crate::data::image::{
    ChannelOrder, Channels, Filter, Layout, LoadedImage, MAX_SIDE, Preprocess, Resize, read_image,
};
use crate::data::{DataError, Tensor};
use crate::error::{Error, Status};
use crate::explain::{ImageInput, Labels, best_classes, image_input};
use crate::graph_file::ModelWeights;
use crate::manifest::absorbed_totals;
use crate::render::{HeatmapOptions, Scale, png_bytes, render_heatmap, write_png};
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
    /// The picture to write, PNG; `-` for standard output
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
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SIDE)))]
    resize: Option<u32>,
    /// Height and width for the model where it leaves them open, as `224x224` or `224`; default: those of the image, after
    /// --resize if that is given
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
    #[arg(long, value_name = "P", value_parser = percentile)]
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
    check_picture(arguments)?;
    if arguments.compile.rules.len() > 1 || arguments.compile.target.len() > 1 {
        let message = "one picture shows one composite and one target";
        return Err(Diagnostic::request(message).help("give --rules and --target once, or use compile and run").into());
    }
    let labels = arguments.labels.as_deref().map(Labels::read).transpose()?.unwrap_or_default();
    let compiled = compile_printing(&arguments.model, &arguments.compile.options(), &[])?;
    let input = find_input(&compiled.graph, arguments)?;
    check_sizes(&input, arguments)?;
    let image = read_image(&arguments.image, &preprocess(&input, arguments))?;
    let outcome = execute(&compiled, &input, &image, arguments)?;
    let relevance = relevance_of(&outcome, &input)?;
    let story = Story::of(&compiled, &outcome, &input, &labels, arguments);
    let options = HeatmapOptions {
        scale: arguments.percentile.map_or(Scale::Maximum, Scale::Percentile),
        layout: input.layout,
        caption: story.caption(),
        ..HeatmapOptions::default()
    };
    let picture = render_heatmap(&image.picture, relevance, &options)?;
    match output::is_stdout(&arguments.output) {
        true => output::data(&png_bytes(&picture).map_err(Error::Output)?)?,
        false => write_png(&arguments.output, &picture)?,
    }
    story.report(&outcome, arguments)?;
    Ok(Status::Good)
}

/// The picture's name must say what it is, and be no file that is read.
fn check_picture(arguments: &Arguments) -> Result<(), Error> {
    let path = &arguments.output;
    let is_png = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
    if !is_png && !output::is_stdout(path) {
        return Err(DataError::UnknownFormat { path: path.clone(), expected: ".png" }.into());
    }
    let labels = arguments.labels.iter().map(|path| ("the labels", path.as_path()));
    let inputs = [("the image", arguments.image.as_path()), ("the model", arguments.model.as_path())];
    let inputs: Vec<_> = inputs.into_iter().chain(labels).chain(composite_files(&arguments.compile.rules)).collect();
    check_output(path, &inputs)
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

/// The sizes that are asked for, against those that the model fixes.
fn check_sizes(input: &ImageInput, arguments: &Arguments) -> Result<(), Error> {
    let sides = [input.size.0, input.size.1];
    if let Some((height, width)) = arguments.crop
        && sides.iter().zip([height, width]).any(|(fixed, asked)| fixed.is_some_and(|fixed| fixed != asked))
    {
        let [fixed_height, fixed_width] = sides.map(|side| side.map_or("any".into(), |side| side.to_string()));
        let message = format!("--crop {height}x{width}: the model reads {fixed_height}x{fixed_width} pixels");
        return Err(Diagnostic::request(message).help("leave --crop out").into());
    }
    let wanted = arguments.crop.map_or(sides, |(height, width)| [Some(height), Some(width)]);
    let [Some(height), Some(width)] = wanted else { return Ok(()) };
    let least = height.min(width);
    if let Some(pixels) = arguments.resize.filter(|pixels| *pixels < least) {
        let message = format!("--resize {pixels}: less than the {height}x{width} pixels to cut out");
        return Err(Diagnostic::request(message).help(format!("give at least --resize {least}")).into());
    }
    Ok(())
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
        // Cheap beside the run itself, and needed to say where relevance is lost.
        audit: true,
        strategy: Strategy::Store,
        wanted: Wanted::All,
        threads: arguments.execution.threads(),
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
    absorbed: BTreeMap<&'static str, f64>,
    /// Whether it is a gradient that arrives, of which nothing is conserved.
    is_gradient: bool,
}

impl Story {
    fn of(
        compiled: &Compiled,
        outcome: &RunOutcome,
        input: &ImageInput,
        labels: &Labels,
        arguments: &Arguments,
    ) -> Story {
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
            arrived: outcome.arrived.get(&format!("relevance/{}", input.name)).copied().unwrap_or_default(),
            absorbed: absorbed_totals(&outcome.ledger),
            is_gradient: outcome.ledger.is_empty() && outcome.seeds.iter().all(|seed| seed.is_coefficient),
        }
    }

    fn caption(&self) -> String {
        let Story { target, rules, seed, arrived, .. } = self;
        let flow = match self.is_gradient {
            true => "Gradient".into(),
            false => format!("Relevance: {seed:.4} started, {arrived:.4} arrived"),
        };
        let lost = self.lost().map_or(String::new(), |lost| format!("\n{lost}"));
        format!("Explained: {target}\nRules: {rules}\n{flow}{lost}")
    }

    /// Where relevance went, if more than half of it did not arrive.
    fn lost(&self) -> Option<String> {
        let Story { seed, arrived, .. } = self;
        let lost = seed - arrived;
        if self.is_gradient || lost.abs() <= 0.5 * seed.abs() {
            return None;
        }
        let absorbed: Vec<String> =
            self.absorbed.iter().map(|(kind, sum)| format!("by {kind} {}", number(*sum))).collect();
        let absorbed = if absorbed.is_empty() { "nothing".into() } else { absorbed.join(", ") };
        Some(format!("{lost:.4} of {seed:.4} did not arrive; absorbed: {absorbed}"))
    }

    fn report(&self, outcome: &RunOutcome, arguments: &Arguments) -> Result<(), Error> {
        if arguments.format == Format::Json {
            let classes: Vec<_> =
                self.classes.iter().map(|(class, score)| json!({ "class": class, "score": score })).collect();
            let value = json!({ "explained": self.target, "rules": self.rules, "best": classes, "seed": self.seed,
                                "arrived": outcome.arrived, "absorbed": self.absorbed,
                                "gradient": self.is_gradient, "picture": arguments.output.to_string_lossy() });
            return output::report(&format!("{value}\n"), !output::is_stdout(&arguments.output));
        }
        output::message(&format!("explained: {}", self.target));
        for (class, score) in &self.classes {
            output::message(&format!("  {score:>10.4}  {class}"));
        }
        match self.is_gradient {
            true => output::message(&format!("gradient {:>14}  sum over the image", number(self.arrived))),
            false => totals(outcome),
        }
        if let Some(lost) = self.lost() {
            output::message(&lost);
            output::message("  help: the parameter bias=exclude, or another composite, may let more of it arrive");
        }
        if !output::is_stdout(&arguments.output) {
            output::message(&format!("wrote {}", arguments.output.display()));
        }
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

/// A number above 0 and at most 100.
fn percentile(text: &str) -> Result<f64, String> {
    let number = text.trim().parse::<f64>().ok().filter(|percentile| *percentile > 0.0 && *percentile <= 100.0);
    number.ok_or_else(|| format!("a percentile of {text} is impossible; give one above 0 and at most 100"))
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
