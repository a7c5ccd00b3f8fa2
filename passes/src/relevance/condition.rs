//! Conditions: relevance at a named tensor is masked, so that only given channels, tokens or units pass
//! (concept relevance propagation, Achtibat et al. 2023, section 4.1; docs/conditions.md).
//!
//! A condition's structure (tensors and axes, how many indices) is fixed when compiling. The indices are `i64` inputs of
//! the graph whose defaults are what the condition says, so that one graph serves every channel.

use std::collections::{HashMap, HashSet};

use lrpc_ir::graph::{Graph, Origin, Region, Value};
use lrpc_ir::ops::source::{Literal, LiteralValues};
use lrpc_ir::ops::{Binary, Elementwise, Linear, Movement, Op, Pool, Reduce, ReduceKind, Select, Source};
use lrpc_ir::{DType, Diagnostic, Dim, TensorType};

/// The most indices that one mask lets pass.
const MAX_INDICES: i64 = 4096;

/// What relevance is restricted to in one pass: every mask applies. Without masks it is unconditional.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The text that it was read from.
    pub text: String,
    pub(super) masks: Vec<Mask>,
}

/// At one tensor, the places along one axis that relevance passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mask {
    tensor: Value,
    axis: MaskAxis,
    ranges: Vec<Range>,
    /// The indices as they were written.
    indices: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MaskAxis {
    Channel,
    Token,
    At(usize),
    Last,
}

/// Adjacent places: the first, which counts from the end where it is negative, and how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: i64,
    count: i64,
}

impl Condition {
    /// Reads `features.28:channel=12`, `encoder:token=0 & encoder:unit=3,7-9`, `none`. `find` says which value a tensor's
    /// name stands for.
    ///
    /// # Errors
    /// Text that is not in this form, and what `find` returns.
    pub fn parse(text: &str, find: &mut dyn FnMut(&str) -> Result<Value, Diagnostic>) -> Result<Condition, Diagnostic> {
        let text = text.trim().to_string();
        let wrong = |why: String| {
            Diagnostic::request(format!("--condition '{text}': {why}")).help(
                "write TENSOR:channel=12, :token=5, :unit=3,7 or :axis2=0-9, several joined by `&`; or none for all relevance",
            )
        };
        if text == "none" {
            return Ok(Condition { text, masks: Vec::new() });
        }
        let mut masks = Vec::new();
        for part in text.split('&') {
            let read = part.rsplit_once(':').and_then(|(name, which)| Some((name.trim(), which.split_once('=')?)));
            let Some((name, (axis, indices))) = read else {
                return Err(wrong(format!("`{}` names no axis with its indices", part.trim())));
            };
            let axis = mask_axis(axis.trim()).ok_or_else(|| wrong(format!("there is no axis `{}`", axis.trim())))?;
            let ranges: Option<Vec<Range>> = indices.split(',').map(range).collect();
            let ranges = ranges.ok_or_else(|| wrong(format!("`{indices}` is no list of indices")))?;
            let count = ranges.iter().try_fold(0i64, |sum, range| sum.checked_add(range.count));
            if count.is_none_or(|count| count > MAX_INDICES) {
                return Err(wrong(format!("more than {MAX_INDICES} indices")));
            }
            let tensor = find(name).map_err(|finding| Diagnostic {
                message: format!("--condition '{text}': {}", finding.message),
                ..finding
            })?;
            masks.push(Mask { tensor, axis, ranges, indices: indices.trim().to_string() });
        }
        Ok(Condition { text, masks })
    }

    /// The values that it masks.
    pub fn tensors(&self) -> impl Iterator<Item = Value> {
        self.masks.iter().map(|mask| mask.tensor)
    }

    /// The condition with `find(value)` in place of every masked value.
    ///
    /// # Errors
    /// The first that `find` returns.
    pub(crate) fn map_tensors(
        &self,
        mut find: impl FnMut(Value) -> Result<Value, Diagnostic>,
    ) -> Result<Condition, Diagnostic> {
        let masks = self.masks.iter().map(|mask| Ok(Mask { tensor: find(mask.tensor)?, ..mask.clone() }));
        Ok(Condition { text: self.text.clone(), masks: masks.collect::<Result<_, Diagnostic>>()? })
    }

    /// Makes the masks' nodes: for every masked value a tensor of its shape, 1 where relevance passes and 0 elsewhere.
    /// `input_name` is the name of the index input; that of a second mask has a number behind it.
    ///
    /// # Errors
    /// Axes and indices that the tensors do not have.
    pub fn build(
        &self,
        graph: &mut Graph,
        prefix: &str,
        input_name: &str,
    ) -> Result<HashMap<Value, Value>, Diagnostic> {
        let mut masks: HashMap<Value, Value> = HashMap::new();
        for (place, mask) in self.masks.iter().enumerate() {
            let input = if place == 0 { input_name.to_string() } else { format!("{input_name}.{place}") };
            let mut maker = Maker { graph, condition: self, prefix };
            let made = maker.mask(mask, &input)?;
            let both = match masks.get(&mask.tensor) {
                Some(&other) => {
                    let product = Op::Elementwise(Elementwise::Binary(Binary::Mul));
                    maker.add(Region::Relevance, product, &[other, made], "mask")?
                }
                None => made,
            };
            masks.insert(mask.tensor, both);
        }
        Ok(masks)
    }

    /// What each mask is about, as `axis 1 of f32[N, 32, 14, 14], 32 places`.
    ///
    /// # Errors
    /// Axes that the tensors do not have, or of which a word does not say which one is meant.
    pub fn describe(&self, graph: &Graph) -> Result<String, Diagnostic> {
        let one = |mask: &Mask| {
            let ty = graph.ty(mask.tensor);
            let (axis, size) = self.axis_of(mask, graph)?;
            Ok(format!("axis {axis} of {ty}, {size} places"))
        };
        Ok(self.masks.iter().map(one).collect::<Result<Vec<_>, Diagnostic>>()?.join("; "))
    }

    /// The axis that a mask restricts, and its size.
    fn axis_of(&self, mask: &Mask, graph: &Graph) -> Result<(usize, Dim), Diagnostic> {
        let (ty, name) = (graph.ty(mask.tensor), graph.name(mask.tensor));
        let Mask { indices, .. } = mask;
        let axis = match (mask.axis, ty.rank()) {
            (MaskAxis::At(axis), _) => axis,
            (MaskAxis::Last, rank) => rank.saturating_sub(1),
            (MaskAxis::Channel, 3) if !is_from_windows(graph, mask.tensor) => {
                let why = format!("`{name}` : {ty} has no axis of channels for certain: axis 1 may count tokens");
                return Err(self.error(why).help(format!(
                    "write {name}:unit={indices} for the last axis, or {name}:axis1={indices} for axis 1"
                )));
            }
            (MaskAxis::Token, rank) if rank > 3 || is_from_windows(graph, mask.tensor) => {
                let why = format!("`{name}` : {ty} has no axis of tokens: axis 1 counts channels");
                return Err(self.error(why).help(format!(
                    "write {name}:channel={indices} for axis 1, or another axis by its number, as {name}:axis2={indices}"
                )));
            }
            (MaskAxis::Channel | MaskAxis::Token, _) => 1,
        };
        match ty.shape.get(axis) {
            Some(size) => Ok((axis, size.clone())),
            None => Err(self.error(format!("`{name}` : {ty} has no axis {axis}"))),
        }
    }

    /// A finding about the condition.
    pub(super) fn error(&self, why: impl std::fmt::Display) -> Diagnostic {
        Diagnostic::request(format!("--condition '{}': {why}", self.text))
    }
}

fn mask_axis(name: &str) -> Option<MaskAxis> {
    match name {
        "channel" => Some(MaskAxis::Channel),
        "token" => Some(MaskAxis::Token),
        "unit" => Some(MaskAxis::Last),
        _ => name.strip_prefix("axis")?.parse().ok().map(MaskAxis::At),
    }
}

/// Whether `value` is made by convolutions, pooling or interpolation, which have channels along axis 1, with nothing but
/// elementwise operations behind them.
fn is_from_windows(graph: &Graph, value: Value) -> bool {
    let shape = &graph.ty(value).shape;
    let (mut open, mut seen, mut found) = (vec![value], HashSet::new(), false);
    while let Some(value) = open.pop() {
        // Biases and scales have other shapes, or are brought to this one.
        if graph.ty(value).shape != *shape || !seen.insert(value) {
            continue;
        }
        match graph.node(value.node).op {
            Op::Elementwise(_) => open.extend((0..).map_while(|place| graph.operand(value.node, place))),
            Op::Linear(Linear::Conv(_) | Linear::ConvTranspose(_)) | Op::Pool(Pool::Window(..) | Pool::Resize(_)) => {
                found = true;
            }
            Op::Movement(Movement::Broadcast { .. }) => {}
            _ => return false,
        }
    }
    found
}

/// `12`, `-1`, `0-9`.
fn range(text: &str) -> Option<Range> {
    let text = text.trim();
    if let Ok(first) = text.parse() {
        return Some(Range { first, count: 1 });
    }
    let (first, last) = text.split_once('-')?;
    let (first, last): (i64, i64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let count = last.checked_sub(first)?.checked_add(1)?;
    (first >= 0 && count >= 1).then_some(Range { first, count })
}

struct Maker<'a> {
    graph: &'a mut Graph,
    condition: &'a Condition,
    prefix: &'a str,
}

impl Maker<'_> {
    fn add(&mut self, region: Region, op: Op, operands: &[Value], name: &str) -> Result<Value, Diagnostic> {
        let name = self.graph.fresh_name(&format!("{}{name}", self.prefix));
        self.place(region, op, operands, &name)
    }

    fn place(&mut self, region: Region, op: Op, operands: &[Value], name: &str) -> Result<Value, Diagnostic> {
        // Errors about sizes that are known only later name the condition by this origin.
        let from = Some(format!("condition {}", self.condition.text).into());
        Ok(self.graph.add(region, op, operands, name, Origin { from, by: Some("condition".into()) })?)
    }

    fn mask(&mut self, mask: &Mask, input_name: &str) -> Result<Value, Diagnostic> {
        let ty = self.graph.ty(mask.tensor).clone();
        let (axis, depth) = self.condition.axis_of(mask, self.graph)?;
        // The first axis counts the samples of a batch, each of which may have indices of its own.
        let rows: Vec<Dim> = if axis == 0 { Vec::new() } else { ty.shape.iter().take(1).cloned().collect() };
        let count: i64 = mask.ranges.iter().map(|range| range.count).sum();
        let mut shape = rows.clone();
        shape.extend((count > 1).then_some(Dim::Known(count)));
        let default = self.default_indices(mask, axis, &depth, &shape)?;
        let input = Op::Source(Source::Input(TensorType::new(DType::I64, shape)));
        let name = self.graph.fresh_name(input_name);
        let index = self.place(Region::Header, input, &[default], &name)?;
        let dtype = ty.dtype.of_relevance();
        let one_hot = Op::Select(Select::OneHot { depth: depth.clone(), dtype });
        let mut passes = self.add(Region::Relevance, one_hot, &[index], "mask")?;
        if count > 1 {
            // A place that is named twice passes once.
            let union = Reduce { kind: ReduceKind::Max, axes: vec![rows.len()], keep: false };
            passes = self.add(Region::Relevance, Op::Reduce(union), &[passes], "mask")?;
        }
        let mut aligned = vec![Dim::Known(1); ty.rank()];
        for (slot, size) in [(0, rows.first()), (axis, Some(&depth))] {
            if let (Some(place), Some(size)) = (aligned.get_mut(slot), size) {
                *place = size.clone();
            }
        }
        let aligned = Op::Movement(Movement::Reshape { shape: aligned });
        let aligned = self.add(Region::Relevance, aligned, &[passes], "mask")?;
        self.add(Region::Relevance, Op::Movement(Movement::Broadcast { shape: ty.shape }), &[aligned], "mask")
    }

    /// The indices that the condition names, of the given shape. Those beyond an axis are refused: here, or when sizes
    /// are bound.
    fn default_indices(&mut self, mask: &Mask, axis: usize, depth: &Dim, shape: &[Dim]) -> Result<Value, Diagnostic> {
        let mut starts = Vec::new();
        for range in &mask.ranges {
            let first = if range.first < 0 { depth.add(&range.first.into())? } else { range.first.into() };
            if let (Some(start), Some(size)) = (first.known(), depth.known())
                && (start < 0 || start.checked_add(range.count).is_none_or(|end| end > size))
            {
                let last = range.first.saturating_add(range.count).saturating_sub(1);
                return Err(self
                    .condition
                    .error(format!("index {last} is outside of axis {axis} with {size} elements")));
            }
            starts.push((first, range.count));
        }
        if let ([(Dim::Known(start), 1)], Some(_)) = (starts.as_slice(), depth.known()) {
            let ty = TensorType::new(DType::I64, shape.to_vec());
            let literal = Literal { ty, values: LiteralValues::Integers(vec![*start]) };
            return self.add(Region::Prepare, Op::Source(Source::Constant(literal)), &[], "index");
        }
        // Slices of 0, 1, 2, …: where a size is known only when running, a slice beyond it is refused there.
        let places = TensorType::new(DType::I64, vec![depth.clone()]);
        let iota = Op::Source(Source::Iota { axis: 0, ty: places.clone() });
        let iota = self.add(Region::Prepare, iota, &[], "places")?;
        let mut parts = Vec::new();
        for (start, count) in starts {
            let slice = Movement::slice_axis(&places, 0, start, count.into());
            parts.push(self.add(Region::Prepare, Op::Movement(slice), &[iota], "index")?);
        }
        let mut indices = match parts.as_slice() {
            [one] => *one,
            _ => self.add(Region::Prepare, Op::Movement(Movement::Concat { axis: 0 }), &parts, "index")?,
        };
        if shape.is_empty() {
            let scalar = Op::Movement(Movement::Reshape { shape: Vec::new() });
            indices = self.add(Region::Prepare, scalar, &[indices], "index")?;
        } else if self.graph.ty(indices).shape != shape {
            let copies = Op::Movement(Movement::Broadcast { shape: shape.to_vec() });
            indices = self.add(Region::Prepare, copies, &[indices], "index")?;
        }
        Ok(indices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::check_condition;
    use lrpc_ir::text;

    const GRAPH: &str = "lrpc 1\ninput %x : f32[N, 4, 6, 6]\ninput %s : f32[N, S, 8]\nforward\n  \
                         %y = exp %x : f32[N, 4, 6, 6]\nresult \"output/y\" = %y\n";

    fn read(condition: &str) -> Result<String, String> {
        let mut graph = text::parse(GRAPH).unwrap();
        let known = graph.clone();
        let mut find = |name: &str| known.find(name).ok_or_else(|| Diagnostic::request(format!("no {name}")));
        let condition = Condition::parse(condition, &mut find).map_err(|error| error.to_string())?;
        condition.build(&mut graph, "", "condition").map_err(|error| error.to_string())?;
        let inputs = graph.inputs().into_iter().skip(2);
        Ok(inputs.map(|input| graph.ty(input).to_string()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn indices_are_inputs_for_every_sample() {
        for (condition, inputs) in [
            ("x:channel=3", "i64[N]"),
            ("x:channel=0-2", "i64[N, 3]"),
            ("x:channel = 1, -1", "i64[N, 2]"),
            ("s:token=-1 & x:axis3=0", "i64[N] i64[N]"),
            ("s:token=1", "i64[N]"),
            ("s:unit=7", "i64[N]"),
            ("s:axis0=1", "i64[]"),
            ("s:axis0=0-1", "i64[2]"),
            ("none", ""),
        ] {
            assert_eq!(read(condition).unwrap(), inputs, "{condition}");
        }
    }

    #[test]
    fn other_text_is_refused() {
        for (condition, words) in [
            ("x", "names no axis"),
            ("x:channel", "names no axis"),
            ("x:color=1", "no axis `color`"),
            ("s:channel=5", "`s` : f32[N, S, 8] has no axis of channels for certain"),
            ("s:channel=5", "s:unit=5 for the last axis, or s:axis1=5"),
            ("x:token=0", "`x` : f32[N, 4, 6, 6] has no axis of tokens: axis 1 counts channels"),
            ("x:token=0", "x:channel=0"),
            ("x:axis4=1", "`x` : f32[N, 4, 6, 6] has no axis 4"),
            ("x:channel=a", "no list of indices"),
            ("x:channel=3-1", "no list of indices"),
            ("x:channel=0-9999999999999", "more than 4096"),
            ("x:channel=4", "index 4 is outside of axis 1 with 4 elements"),
            ("x:channel=2-4", "index 4 is outside of axis 1"),
            ("x:channel=-5", "index -5 is outside of axis 1"),
            ("z:channel=1", "no z"),
        ] {
            let error = read(condition).unwrap_err();
            assert!(error.contains(words) && error.contains(&format!("--condition '{condition}'")), "{error}");
        }
    }

    #[test]
    fn channels_of_one_dimensional_convolutions_are_known() {
        let graph = text::parse(
            "lrpc 1\ninput %x : f32[N, 2, 9]\nweight @w : f32[4, 2, 1]\nweight @v : f32[4, 9]\nforward\n  \
             %y = conv %x, @w : f32[N, 4, 9]\n  %r = relu %y : f32[N, 4, 9]\n  \
             %z = add %r, %y : f32[N, 4, 9]\nresult \"output/z\" = %z\n",
        )
        .unwrap();
        let mut find = |name: &str| graph.find(name).ok_or_else(|| Diagnostic::request(format!("no {name}")));
        let mut described = |text: &str| Condition::parse(text, &mut find).unwrap().describe(&graph);
        for name in ["y", "r", "z"] {
            let channel = described(&format!("{name}:channel=1")).unwrap();
            assert_eq!(channel, "axis 1 of f32[N, 4, 9], 4 places");
            let refused = described(&format!("{name}:token=1")).unwrap_err().to_string();
            assert!(refused.contains("axis 1 counts channels"), "{refused}");
        }
        assert!(described("x:channel=0").is_err());
        assert_eq!(
            described("x:token=0 & y:unit=1").unwrap(),
            "axis 1 of f32[N, 2, 9], 2 places; axis 2 of f32[N, 4, 9], 9 places"
        );
    }

    const NETWORK: &str = r#"
        input %x : f32[N, 2, 4, 4]
        weight @w : f32[8, 2, 3, 3]
        weight @v : f32[3, 8, 1, 1]
        forward
          %h = conv %x, @w {pad=1} : f32[N, 8, 4, 4] from "/conv"
          %a = relu %h : f32[N, 8, 4, 4] from "/relu"
          %y = conv %a, @v : f32[N, 3, 4, 4] from "/head"
        result "output/y" = %y
        "#;

    #[test]
    fn condition_channel() {
        check_condition("condition_channel", "epsilon", &["a:channel=5", "none"], NETWORK);
    }

    #[test]
    fn condition_two_tensors() {
        check_condition("condition_two_tensors", "relp", &["a:channel=1,4-6 & x:axis2=-1"], NETWORK);
    }
}
