//! What it takes to explain a decision about an image: the input that takes the image, names of classes, the best ones.

use std::collections::BTreeMap;
use std::path::Path;

use lrpc_ir::{Diagnostic, Dim, Graph, Value};
use serde_json::Value as Json;

use crate::data::Tensor;
use crate::data::image::{Channels, Layout};

/// The largest file of labels that is read, in bytes.
const MAX_LABEL_BYTES: u64 = 1 << 24;

/// The input of a graph that takes an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInput {
    /// Its ONNX name.
    pub name: String,
    /// How many channels it has.
    pub channels: Channels,
    /// The order of its axes.
    pub layout: Layout,
    /// Height and width where the model fixes them.
    pub size: (Option<u32>, Option<u32>),
}

/// Finds the input that takes an image: floating-point, four axes, one or three channels. `layout` and `channels` say
/// what the model leaves open.
///
/// # Errors
/// No such input, or several.
pub fn image_input(
    graph: &Graph,
    layout: Option<Layout>,
    channels: Option<Channels>,
) -> Result<ImageInput, Diagnostic> {
    let candidates = image_inputs(graph, layout, channels);
    match candidates.as_slice() {
        [one] => Ok(one.clone()),
        [] => {
            let inputs: Vec<String> =
                graph.inputs().iter().map(|&input| format!("{} : {}", graph.name(input), graph.ty(input))).collect();
            let message = "the model has no input that takes an image: four axes, one or three channels";
            Err(Diagnostic::request(message).help(format!("its inputs are {}", inputs.join(", "))))
        }
        several => {
            let names: Vec<&str> = several.iter().map(|input| input.name.as_str()).collect();
            let message = format!("several inputs could take the image: {}", names.join(", "));
            Err(Diagnostic::request(message).help("give all inputs with --inputs instead of --image"))
        }
    }
}

/// All inputs that could take an image, by the rules of [`image_input`].
pub fn image_inputs(graph: &Graph, layout: Option<Layout>, channels: Option<Channels>) -> Vec<ImageInput> {
    graph.inputs().into_iter().filter_map(|input| as_image(graph, input, layout, channels)).collect()
}

fn as_image(graph: &Graph, input: Value, layout: Option<Layout>, channels: Option<Channels>) -> Option<ImageInput> {
    let ty = graph.ty(input);
    let [_, second, third, fourth] = ty.shape.as_slice() else { return None };
    if !ty.dtype.is_float() {
        return None;
    }
    let count = |dim: &Dim| dim.known().and_then(|size| Channels::of_count(usize::try_from(size).ok()?));
    let fits = |dim: &Dim| match (count(dim), channels) {
        (Some(found), Some(asked)) => (found == asked).then_some(found),
        (found, asked) => found.or(asked.filter(|_| dim.known().is_none())),
    };
    let pixels = |dim: &Dim| dim.known().and_then(|size| u32::try_from(size).ok());
    let name = graph.name(input).to_string();
    let first = |channels| ImageInput {
        name: name.clone(),
        channels,
        layout: Layout::Nchw,
        size: (pixels(third), pixels(fourth)),
    };
    let last = |channels| ImageInput {
        name: name.clone(),
        channels,
        layout: Layout::Nhwc,
        size: (pixels(second), pixels(third)),
    };
    match layout {
        Some(Layout::Nchw) => fits(second).map(first),
        Some(Layout::Nhwc) => fits(fourth).map(last),
        None => fits(second).map(first).or_else(|| fits(fourth).map(last)),
    }
}

/// Names of classes by index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<usize, String>);

impl Labels {
    /// Reads a JSON list, a JSON map from index to name (or to a list that ends in the name), or one name on each line.
    ///
    /// # Errors
    /// A file that cannot be read or is in no such form.
    pub fn read(path: &Path) -> Result<Labels, Diagnostic> {
        let wrong = |why: &dyn std::fmt::Display| Diagnostic::new(format!("--labels {}: {why}", path.display()));
        let size = std::fs::metadata(path).map_err(|error| wrong(&error))?.len();
        if size > MAX_LABEL_BYTES {
            return Err(wrong(&format!("it has {size} bytes, the limit is {MAX_LABEL_BYTES}")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
        if !text.trim_start().starts_with(['{', '[']) {
            return Ok(Labels(text.lines().map(|line| line.trim().to_string()).enumerate().collect()));
        }
        let json: Json = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
        let labels = match &json {
            Json::Array(names) => names.iter().enumerate().map(|(at, name)| Some((at, label(name)?))).collect(),
            Json::Object(entries) => {
                entries.iter().map(|(index, name)| Some((index.trim().parse().ok()?, label(name)?))).collect()
            }
            _ => None,
        };
        labels.map(Labels).ok_or_else(|| wrong(&"write a list of names, or a map from index to name"))
    }

    /// `8`, or `8 (name)`.
    pub fn describe(&self, class: usize) -> String {
        match self.0.get(&class) {
            Some(name) => format!("{class} ({name})"),
            None => class.to_string(),
        }
    }
}

fn label(json: &Json) -> Option<String> {
    match json {
        Json::String(name) => Some(name.clone()),
        Json::Array(parts) => parts.last()?.as_str().map(str::to_string),
        _ => None,
    }
}

/// The `count` largest elements of a tensor with one row of scores, largest first; `None` for other shapes.
pub fn best_classes(scores: &Tensor, count: usize) -> Option<Vec<(usize, f64)>> {
    let classes = match scores.shape() {
        [classes] | [1, classes] => *classes,
        _ => return None,
    };
    let mut ranked: Vec<(usize, f64)> = scores.to_f64().into_iter().enumerate().take(classes).collect();
    // The sort is stable: of equal scores the first comes first, as for the seed.
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked.truncate(count);
    Some(ranked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lrpc_ir::text;

    fn input(ty: &str, layout: Option<Layout>) -> Option<ImageInput> {
        let text = format!("lrpc 1\ninput %x : {ty}\nforward\n  %y = relu %x : {ty}\nresult \"output/y\" = %y\n");
        image_input(&text::parse(&text).unwrap(), layout, None).ok()
    }

    #[test]
    fn image_inputs_are_recognised() {
        let found = input("f32[N, 3, 224, W]", None).unwrap();
        assert_eq!((found.layout, found.channels, found.size), (Layout::Nchw, Channels::Colour, (Some(224), None)));
        let found = input("f32[1, 28, 28, 1]", None).unwrap();
        assert_eq!((found.layout, found.channels, found.size), (Layout::Nhwc, Channels::Grey, (Some(28), Some(28))));
        assert!(input("f32[1, 28, 28, 1]", Some(Layout::Nchw)).is_none());
        assert!(input("f32[1, 5, 28, 28]", None).is_none() && input("i64[1, 3, 28, 28]", None).is_none());
    }

    #[test]
    fn labels_are_read_in_every_form() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["cat\ndog\n", "[\"cat\", \"dog\"]", "{\"1\": [\"n02\", \"dog\"], \"0\": \"cat\"}"] {
            let path = folder.path().join("labels");
            std::fs::write(&path, text).unwrap();
            let labels = Labels::read(&path).unwrap();
            assert_eq!((labels.describe(1), labels.describe(7)), ("1 (dog)".into(), "7".into()), "{text}");
        }
        let path = folder.path().join("bad");
        std::fs::write(&path, "{\"a\": 1}").unwrap();
        assert!(Labels::read(&path).is_err() && Labels::read(&folder.path().join("none")).is_err());
    }

    #[test]
    fn classes_are_ranked() {
        let scores = Tensor::from_slice(&[1, 4], &[0.5f32, 2.0, -1.0, 2.0]).unwrap();
        assert_eq!(best_classes(&scores, 3).unwrap(), [(1, 2.0), (3, 2.0), (0, 0.5)]);
        assert!(best_classes(&Tensor::from_slice(&[2, 2], &[0f32; 4]).unwrap(), 1).is_none());
    }
}
