//! An image explained: the input prepared, the relevance drawn beside it.

use std::collections::BTreeMap;
use std::path::Path;

use clap::{Args, ValueEnum};
use lrpc_ir::{Diagnostic, Graph};

use super::{Arguments, Story, check_output_name, compile, execute, labels};
use crate::cli::flags::{CompileFlags, Format};
use crate::cli::output;
use crate::cli::tokens::reduce_of;
use crate::data::Tensor;
use crate::data::image::{ChannelOrder, Channels, Filter, Layout, MAX_SIDE, Preprocess, Resize, read_image};
use crate::error::{Error, Status};
use crate::explain::{ImageInput, image_input};
use crate::reduce::{Reduction, reduce_axes};
use crate::render::{HeatmapOptions, Scale, png_bytes, render_heatmap, write_png};
use crate::session::RunOutcome;

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

/// How an image becomes the model's input, and how it is drawn.
#[derive(Debug, Args)]
pub(super) struct ImageFlags {
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
    /// Give this percentile of |R| the full colour instead of the largest
    #[arg(long, value_name = "P", value_parser = percentile)]
    percentile: Option<f64>,
}

/// Where the picture goes unless another name is given.
const DEFAULT_OUTPUT: &str = "heat.png";

pub(super) fn run(arguments: &Arguments, path: &Path) -> Result<Status, Error> {
    let output = arguments.output.as_deref().unwrap_or(Path::new(DEFAULT_OUTPUT));
    check_output_name(output, ".png", arguments)?;
    let CompileFlags { rules, target, condition, .. } = &arguments.compile;
    if [rules, target, condition].iter().any(|given| given.len() > 1) {
        let message = "one picture shows one composite, one target and one condition";
        let help = "give --rules, --target and --condition once, or use compile and run";
        return Err(Diagnostic::request(message).help(help).into());
    }
    let labels = labels(arguments)?;
    let flags = &arguments.image_flags;
    let compiled = compile(arguments)?;
    let input = find_input(&compiled.graph, flags)?;
    check_sizes(&input, flags)?;
    let image = read_image(path, &preprocess(&input, flags))?;
    let inputs = BTreeMap::from([(input.name.clone(), image.tensor.clone())]);
    let (_, outcome) = execute(&compiled, &inputs, false, arguments)?;
    let result = format!("relevance/{}", input.name);
    let relevance = relevance_of(&outcome, &input, reduce_of(&arguments.reduce)?.channels)?;
    let story = Story::of(&compiled, &outcome, &[result.as_str()], &labels, &arguments.compile.target);
    let options = HeatmapOptions {
        scale: flags.percentile.map_or(Scale::Maximum, Scale::Percentile),
        layout: input.layout,
        caption: story.caption(),
        ..HeatmapOptions::default()
    };
    let picture = render_heatmap(&image.picture, &relevance, &options)?;
    let to_stdout = output::is_stdout(output);
    match to_stdout {
        true => output::data(&png_bytes(&picture).map_err(Error::Output)?)?,
        false => write_png(output, &picture)?,
    }
    if arguments.format == Format::Json {
        let mut value = story.json(&outcome);
        value["picture"] = output.to_string_lossy().into();
        output::report(&format!("{value}\n"), !to_stdout)?;
        return Ok(Status::Good);
    }
    story.tell(&compiled.graph, &outcome);
    if !to_stdout {
        output::message(&format!("wrote {}", output.display()));
    }
    Ok(Status::Good)
}

fn find_input(graph: &Graph, arguments: &ImageFlags) -> Result<ImageInput, Error> {
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
fn check_sizes(input: &ImageInput, arguments: &ImageFlags) -> Result<(), Error> {
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

fn preprocess(input: &ImageInput, arguments: &ImageFlags) -> Preprocess {
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

/// The relevance of the image, its channels reduced; the sum is left to the picture, which adds them up.
fn relevance_of(outcome: &RunOutcome, input: &ImageInput, reduction: Option<Reduction>) -> Result<Tensor, Error> {
    let name = format!("relevance/{}", input.name);
    let relevance = outcome.results.get(&name).ok_or_else(|| {
        let message = format!("the image goes into `{}`, and --wrt asks for other tensors", input.name);
        Diagnostic::request(message).help(format!("add --wrt {}", input.name))
    })?;
    let axis = if input.layout == Layout::Nchw { 1 } else { 3 };
    let reduced = match reduction {
        Some(Reduction::Abs) => reduce_axes(relevance, axis..axis + 1, Reduction::Abs),
        _ => return Ok(relevance.clone()),
    };
    let reduced = reduced.and_then(|map| reduce_axes(&map, 0..1, Reduction::Sum));
    reduced.map_err(|error| Diagnostic::new(error.to_string()).of_kind(lrpc_ir::DiagnosticKind::Bug).into())
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
    fn sizes_are_read() {
        assert_eq!(size("224"), Ok((224, 224)));
        assert_eq!(size("32x64"), Ok((32, 64)));
        assert!(size("0").is_err() && size("ax4").is_err());
    }
}
