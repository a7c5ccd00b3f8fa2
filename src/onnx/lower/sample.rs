//! Reading between the elements of a tensor, at places that the data tell.
//!
//! A sample is a sum of gathered elements, each times the weight that its distance gives it. So relevance takes the way
//! of gathers and products: all of it goes to the elements where the places are constant.

use lrpc_ir::ops::{
    Binary, Compare, Dot, Elementwise, Function, Geometry, Linear, Movement, Reduce, ReduceKind, Select, Source,
};
use lrpc_ir::types::{DType, TensorType, product};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid, unsupported};
use super::linear::spatial;
use super::site::Site;
use super::table::OpDef;
use super::window::Windows;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("GridSample", 16, grid_sample),
    OpDef::new("AffineGrid", 20, affine_grid),
    OpDef::new("DeformConv", 19, deformable_conv),
];

/// How elements around a place are weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weighing {
    /// The nearest element; of two the one at an even place.
    Nearest,
    /// The two nearest, by distance.
    Linear,
    /// The four nearest (Keys' cubic convolution with −0.75).
    Cubic,
}

/// What stands beside the elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beside {
    /// Zeros.
    Zeros,
    /// The element at the edge.
    Edge,
    /// The elements mirrored, at the first and last element or, unless `corners`, half a place beyond them.
    Mirror { corners: bool },
}

/// An element that is read: its place along an axis (`i64`), and its weight where that is not 1.
#[derive(Debug, Clone, Copy)]
struct Tap {
    place: Value,
    weight: Option<Value>,
}

// Arithmetic on places.

/// `x·size`.
pub(super) fn times(site: &mut Site, x: Value, size: &Dim) -> Lowered<Value> {
    let length = real(site, size, x)?;
    site.binary(Binary::Mul, x, length)
}

/// A size as a number of the element type of `like`.
fn real(site: &mut Site, size: &Dim, like: Value) -> Lowered<Value> {
    let dtype = site.ty(like).dtype;
    match size.known() {
        Some(number) => site.filled(TensorType::new(dtype, Vec::new()), number as f64),
        None => {
            let size = site.size(size)?;
            site.cast(size, dtype)
        }
    }
}

pub(super) fn shift(site: &mut Site, x: Value, by: f64) -> Lowered<Value> {
    if by == 0.0 { Ok(x) } else { site.unary(Function::Shift, [by, 0.0], x) }
}

pub(super) fn scale(site: &mut Site, x: Value, by: f64) -> Lowered<Value> {
    if by == 1.0 { Ok(x) } else { site.unary(Function::Scale, [by, 0.0], x) }
}

/// `x` brought to `0 … size − 1`.
pub(super) fn clamp(site: &mut Site, x: Value, size: &Dim) -> Lowered<Value> {
    let last = size.sub(&Dim::Known(1))?;
    if let Some(last) = last.known() {
        return site.unary(Function::Clip, [0.0, last as f64], x);
    }
    let last = real(site, &last, x)?;
    let below = site.binary(Binary::Min, x, last)?;
    site.unary(Function::Clip, [0.0, f64::INFINITY], below)
}

/// 1 where `low ≤ x ≤ size − 1 + beyond`, else 0.
pub(super) fn is_inside(site: &mut Site, x: Value, size: &Dim, low: f64, beyond: f64) -> Lowered<Value> {
    let dtype = site.ty(x).dtype;
    let inside = between(site, x, size, low, beyond)?;
    site.cast(inside, dtype)
}

fn between(site: &mut Site, x: Value, size: &Dim, low: f64, beyond: f64) -> Lowered<Value> {
    let first = site.filled(TensorType::new(site.ty(x).dtype, Vec::new()), low)?;
    let last = real(site, &size.sub(&Dim::Known(1))?, x)?;
    let last = shift(site, last, beyond)?;
    let above = site.elementwise(Elementwise::Compare(Compare::GreaterOrEqual), &[x, first])?;
    let below = site.elementwise(Elementwise::Compare(Compare::LessOrEqual), &[x, last])?;
    site.binary(Binary::And, above, below)
}

/// `x` mirrored at both ends until it lies between them.
fn mirror(site: &mut Site, x: Value, size: &Dim, corners: bool) -> Lowered<Value> {
    let start = if corners { 0.0 } else { -0.5 };
    let width = if corners { size.sub(&Dim::Known(1))? } else { size.clone() };
    let width = real(site, &width.maximum(&Dim::Known(1))?, x)?;
    let from_start = shift(site, x, -start)?;
    let distance = site.unary(Function::Abs, [0.0; 2], from_start)?;
    let period = scale(site, width, 2.0)?;
    let turns = site.binary(Binary::Div, distance, period)?;
    let turns = site.unary(Function::Floor, [0.0; 2], turns)?;
    let whole = site.binary(Binary::Mul, turns, period)?;
    let rest = site.binary(Binary::Sub, distance, whole)?;
    let back = site.binary(Binary::Sub, period, rest)?;
    let nearer = site.binary(Binary::Min, rest, back)?;
    shift(site, nearer, start)
}

// Taps.

/// The places along an axis of `size` elements that are read around the positions `x`, which are numbers of places.
fn taps(site: &mut Site, x: Value, size: &Dim, weighing: Weighing, beside: Beside) -> Lowered<Vec<Tap>> {
    let mut x = x;
    if weighing == Weighing::Nearest {
        x = site.unary(Function::Round, [0.0; 2], x)?;
    }
    // Of the four nearest elements each is looked up for itself.
    if weighing != Weighing::Cubic || beside != Beside::Edge {
        x = brought_inside(site, x, size, beside)?;
    }
    if weighing == Weighing::Nearest {
        return Ok(vec![tap(site, x, None, size, beside)?]);
    }
    let first = site.unary(Function::Floor, [0.0; 2], x)?;
    let fraction = site.binary(Binary::Sub, x, first)?;
    let rest = scale(site, fraction, -1.0)?;
    let rest = shift(site, rest, 1.0)?;
    let weights = match weighing {
        Weighing::Cubic => {
            let (before, behind) = (shift(site, fraction, 1.0)?, shift(site, rest, 1.0)?);
            vec![far(site, before)?, near(site, fraction)?, near(site, rest)?, far(site, behind)?]
        }
        Weighing::Nearest | Weighing::Linear => vec![rest, fraction],
    };
    let start = if weighing == Weighing::Cubic { -1.0 } else { 0.0 };
    let mut taps = Vec::new();
    for (step, weight) in weights.into_iter().enumerate() {
        let place = shift(site, first, start + step as f64)?;
        taps.push(tap(site, place, Some(weight), size, beside)?);
    }
    Ok(taps)
}

/// Positions that are beyond the ends, brought inside.
fn brought_inside(site: &mut Site, x: Value, size: &Dim, beside: Beside) -> Lowered<Value> {
    let (inside, moved) = match beside {
        Beside::Zeros => return Ok(x),
        Beside::Edge => (between(site, x, size, -0.5, 0.5)?, clamp(site, x, size)?),
        Beside::Mirror { corners } => {
            let beyond = if corners { 0.0 } else { 0.5 };
            (between(site, x, size, -beyond, beyond)?, mirror(site, x, size, corners)?)
        }
    };
    site.elementwise(Elementwise::Where, &[inside, x, moved])
}

fn tap(site: &mut Site, place: Value, weight: Option<Value>, size: &Dim, beside: Beside) -> Lowered<Tap> {
    let (place, weight) = match beside {
        Beside::Zeros => {
            let inside = is_inside(site, place, size, 0.0, 0.0)?;
            let weight = match weight {
                Some(weight) => site.binary(Binary::Mul, weight, inside)?,
                None => inside,
            };
            (place, Some(weight))
        }
        Beside::Edge => (place, weight),
        Beside::Mirror { corners } => (mirror(site, place, size, corners)?, weight),
    };
    let place = clamp(site, place, size)?;
    Ok(Tap { place: site.cast(place, DType::I64)?, weight })
}

/// Keys' weight at a distance of up to 1: `(1.25·x − 2.25)·x² + 1`.
fn near(site: &mut Site, x: Value) -> Lowered<Value> {
    let square = site.binary(Binary::Mul, x, x)?;
    let slope = scale(site, x, 1.25)?;
    let slope = shift(site, slope, -2.25)?;
    let product = site.binary(Binary::Mul, slope, square)?;
    shift(site, product, 1.0)
}

/// Keys' weight at a distance between 1 and 2: `((−0.75·x + 3.75)·x − 6)·x + 3`.
fn far(site: &mut Site, x: Value) -> Lowered<Value> {
    let mut sum = scale(site, x, -0.75)?;
    for (constant, more) in [(3.75, true), (-6.0, true), (3.0, false)] {
        sum = shift(site, sum, constant)?;
        if more {
            sum = site.binary(Binary::Mul, sum, x)?;
        }
    }
    Ok(sum)
}

/// Samples `[N, C, P]` of `x` `[N, C, …]` at positions `[N, P]` along each of its spatial axes.
fn sample(site: &mut Site, x: Value, positions: &[Value], weighing: Weighing, beside: Beside) -> Lowered<Value> {
    let ty = site.ty(x);
    let sizes = spatial(site, x)?;
    let (Some(batch), Some(channels)) = (ty.shape.first(), ty.shape.get(1)) else {
        return invalid(format!("{ty} has no batch and no channels"));
    };
    let flat = site.reshape(x, vec![batch.clone(), channels.clone(), product(&sizes)?])?;
    let mut axes = Vec::new();
    for (position, size) in positions.iter().zip(&sizes) {
        axes.push(taps(site, *position, size, weighing, beside)?);
    }
    let mut parts = Vec::new();
    for chosen in combinations(&axes) {
        let (place, weight) = corner(site, &chosen, &sizes)?;
        let mut part = site.emit(Op::Select(Select::Gather { axis: 2, batch: 1 }), &[flat, place])?;
        if let Some(weight) = weight {
            let mut shape = site.ty(weight).shape;
            shape.insert(1, Dim::Known(1));
            let weight = site.reshape(weight, shape)?;
            part = site.binary(Binary::Mul, part, weight)?;
        }
        parts.push(part);
    }
    sum_of(site, &parts)
}

/// The sum of tensors of one shape, as one operation.
fn sum_of(site: &mut Site, parts: &[Value]) -> Lowered<Value> {
    let Some((first, others)) = parts.split_first() else { return invalid("there is nothing to read") };
    if others.is_empty() {
        return Ok(*first);
    }
    let row = [vec![Dim::Known(1)], site.ty(*first).shape].concat();
    let rows = parts.iter().map(|part| site.reshape(*part, row.clone())).collect::<Lowered<Vec<Value>>>()?;
    let all = site.emit(Op::Movement(Movement::Concat { axis: 0 }), &rows)?;
    site.emit(Op::Reduce(Reduce { kind: ReduceKind::Sum, axes: vec![0], keep: false }), &[all])
}

/// One tap of each axis, in every combination.
fn combinations(axes: &[Vec<Tap>]) -> Vec<Vec<Tap>> {
    let mut all = vec![Vec::new()];
    for taps in axes {
        all = all.iter().flat_map(|head| taps.iter().map(|tap| [head.as_slice(), &[*tap]].concat())).collect();
    }
    all
}

/// The place in row-major order, and the weight, of an element that is read.
fn corner(site: &mut Site, taps: &[Tap], sizes: &[Dim]) -> Lowered<(Value, Option<Value>)> {
    let mut found: Option<(Value, Option<Value>)> = None;
    for (tap, size) in taps.iter().zip(sizes) {
        found = Some(match found {
            None => (tap.place, tap.weight),
            Some((place, weight)) => {
                let size = site.size(size)?;
                let row = site.binary(Binary::Mul, place, size)?;
                let place = site.binary(Binary::Add, row, tap.place)?;
                let weight = match (weight, tap.weight) {
                    (Some(a), Some(b)) => Some(site.binary(Binary::Mul, a, b)?),
                    (a, b) => a.or(b),
                };
                (place, weight)
            }
        });
    }
    found.map_or_else(|| invalid("there are no spatial axes"), Ok)
}

// Operators.

fn grid_sample(site: &mut Site) -> Lowered {
    let (x, grid) = (site.input(0)?, site.input(1)?);
    let sizes = spatial(site, x)?;
    let (of_x, of_grid) = (site.ty(x), site.ty(grid));
    let weighing = match site.word_or("mode", "linear")?.as_str() {
        "nearest" => Weighing::Nearest,
        "linear" | "bilinear" => Weighing::Linear,
        "cubic" | "bicubic" => Weighing::Cubic,
        other => return invalid(format!("mode is {other:?}")),
    };
    let corners = site.flag("align_corners", false)?;
    let beside = match site.word_or("padding_mode", "zeros")?.as_str() {
        "zeros" => Beside::Zeros,
        "border" => Beside::Edge,
        "reflection" => Beside::Mirror { corners },
        other => return invalid(format!("padding_mode is {other:?}")),
    };
    let [batch, places @ .., last] = of_grid.shape.as_slice() else {
        return invalid(format!("the grid {of_grid} has no places"));
    };
    if places.len() != sizes.len() || *last != super::known::dim(sizes.len()) {
        return invalid(format!("the grid {of_grid} does not fit {of_x}"));
    }
    let grid = site.cast(grid, of_x.dtype)?;
    let rows = site.reshape(grid, vec![batch.clone(), product(places)?, last.clone()])?;
    let mut positions = Vec::new();
    // The grid names the last axis first.
    for (size, at) in sizes.iter().zip((0..sizes.len()).rev()) {
        let row = column(site, rows, at)?;
        positions.push(from_unit(site, row, size, corners)?);
    }
    let found = sample(site, x, &positions, weighing, beside)?;
    let shape = of_x.shape.iter().take(2).chain(places).cloned().collect();
    let result = site.reshape(found, shape)?;
    site.output(0, result)
}

/// Element `at` of the last axis, which goes.
pub(super) fn column(site: &mut Site, x: Value, at: usize) -> Lowered<Value> {
    let ty = site.ty(x);
    let last = ty.rank().saturating_sub(1);
    let slice = Movement::slice_axis(&ty, last, super::known::dim(at), Dim::Known(1));
    let part = site.emit(Op::Movement(slice), &[x])?;
    site.reshape(part, ty.shape.into_iter().take(last).collect())
}

/// From `−1 … 1` to places: the ends are the first and last element or, unless `corners`, half a place beyond them.
fn from_unit(site: &mut Site, x: Value, size: &Dim, corners: bool) -> Lowered<Value> {
    let from_start = shift(site, x, 1.0)?;
    if corners {
        let half = scale(site, from_start, 0.5)?;
        return times(site, half, &size.sub(&Dim::Known(1))?);
    }
    let doubled = times(site, from_start, size)?;
    let doubled = shift(site, doubled, -1.0)?;
    scale(site, doubled, 0.5)
}

/// `theta·(x, y, …, 1)` at every place of an image whose axes run from −1 to 1.
fn affine_grid(site: &mut Site) -> Lowered {
    let theta = site.input(0)?;
    let ty = site.ty(theta);
    let corners = site.flag("align_corners", false)?;
    let Some(sizes) = site.integers(1)? else { return invalid("the size is missing") };
    let sizes = site.measure_all(&sizes)?;
    let Some((batch, sizes)) = sizes.split_first().and_then(|(batch, rest)| Some((batch, rest.get(1..)?))) else {
        return invalid("the size has no spatial axes");
    };
    if !matches!(sizes.len(), 2 | 3) || ty.rank() != 3 {
        return invalid(format!("the size has {} spatial axes, and theta is {ty}", sizes.len()));
    }
    let places = TensorType::new(ty.dtype, [sizes, &[Dim::Known(1)]].concat());
    let mut columns = Vec::new();
    for (axis, size) in sizes.iter().enumerate().rev() {
        let place = site.emit(Op::Source(Source::Iota { axis, ty: places.clone() }), &[])?;
        columns.push(to_unit(site, place, size, corners)?);
    }
    columns.push(site.filled(places, 1.0)?);
    let base = site.emit(Op::Movement(Movement::Concat { axis: sizes.len() }), &columns)?;
    let dot = Dot { batch: Vec::new(), contract: vec![(2, sizes.len())] };
    // [N, axes, places…], whose second axis goes to the end.
    let found = site.emit(Op::Linear(Linear::Dot(dot)), &[theta, base])?;
    let last = sizes.len().saturating_add(1);
    let grid = site.transpose(found, [0].into_iter().chain(2..=last).chain([1]).collect())?;
    let result = if ty.shape.first() == Some(batch) {
        grid
    } else {
        let mut shape = site.ty(grid).shape;
        shape.iter_mut().take(1).for_each(|size| *size = batch.clone());
        site.reshape(grid, shape)?
    };
    site.output(0, result)
}

/// From places to `−1 … 1`.
fn to_unit(site: &mut Site, place: Value, size: &Dim, corners: bool) -> Lowered<Value> {
    let doubled = scale(site, place, 2.0)?;
    let (doubled, width) =
        if corners { (doubled, size.sub(&Dim::Known(1))?) } else { (shift(site, doubled, 1.0)?, size.clone()) };
    let width = real(site, &width, doubled)?;
    let part = site.binary(Binary::Div, doubled, width)?;
    shift(site, part, -1.0)
}

/// A convolution whose taps read beside their places, by the offsets that the data tell.
fn deformable_conv(site: &mut Site) -> Lowered {
    let (x, weight, offset) = (site.input(0)?, site.input(1)?, site.input(2)?);
    let (of_x, of_weight, of_offset) = (site.ty(x), site.ty(weight), site.ty(offset));
    let sizes = spatial(site, x)?;
    let kernel = spatial(site, weight)?;
    let groups = site.int_or("group", 1)?;
    let parts = site.int_or("offset_group", 1)?;
    if groups < 1 || parts < 1 || kernel.len() != sizes.len() || of_offset.rank() != of_x.rank() {
        return invalid(format!("{groups} groups, {parts} offset groups, {of_x}, {of_weight} and {of_offset}"));
    }
    site.ignore("kernel_shape");
    let windows = Windows::read(site, &sizes, kernel.clone())?;
    let counts = windows.counts(&sizes, false)?;
    let (taps, places) = (product(&kernel)?, product(&counts)?);
    let (batch, channels) = (of_x.shape[0].clone(), of_x.shape[1].clone());
    let rows = batch.mul(&Dim::Known(parts))?;
    let all = taps.mul(&places)?;
    let axes = super::known::dim(sizes.len());
    let offset = site.reshape(offset, vec![rows.clone(), taps.clone(), axes, places.clone()])?;
    let offset = site.transpose(offset, vec![0, 1, 3, 2])?;
    let mut positions = Vec::new();
    for axis in 0..sizes.len() {
        let moved = column(site, offset, axis)?;
        let moved = site.reshape(moved, vec![rows.clone(), all.clone()])?;
        let place = regular_places(site, &windows, &counts, axis, of_x.dtype)?;
        positions.push(site.binary(Binary::Add, moved, place)?);
    }
    let grouped = [vec![rows.clone(), channels.floor_div(&Dim::Known(parts))?], sizes].concat();
    let grouped = site.reshape(x, grouped)?;
    let mut found = sample(site, grouped, &positions, Weighing::Linear, Beside::Zeros)?;
    if let Some(mask) = site.optional_input(4)? {
        let mask = site.reshape(mask, vec![rows, Dim::Known(1), all])?;
        found = site.binary(Binary::Mul, found, mask)?;
    }
    // What a tap reads is a channel of its own.
    let found = site.reshape(found, vec![batch.clone(), channels.mul(&taps)?, places.clone()])?;
    let (outputs, inputs) = (of_weight.shape[0].clone(), of_weight.shape[1].mul(&taps)?);
    let weight = site.reshape(weight, vec![outputs.clone(), inputs, Dim::Known(1)])?;
    let geometry =
        Geometry { strides: vec![1], pads: vec![Dim::Known(0)], dilations: vec![1], groups, spatial: vec![places] };
    let operands: Vec<Value> = [found, weight].into_iter().chain(site.optional_input(3)?).collect();
    let result = site.emit(Op::Linear(Linear::Conv(geometry)), &operands)?;
    let result = site.reshape(result, [vec![batch, outputs], counts].concat())?;
    site.output(0, result)
}

/// The place along `axis` that each tap of each window reads without an offset, `[taps·windows]`.
fn regular_places(site: &mut Site, windows: &Windows, counts: &[Dim], axis: usize, dtype: DType) -> Lowered<Value> {
    let shape = [windows.kernel.as_slice(), counts].concat();
    let length = product(&shape)?;
    let ty = TensorType::new(dtype, shape);
    let [Some(stride), Some(dilation), Some(before)] = [
        windows.strides.get(axis).copied(),
        windows.dilations.get(axis).copied(),
        windows.before.get(axis).and_then(Dim::known),
    ] else {
        return unsupported("padding of symbolic width");
    };
    let tap = site.emit(Op::Source(Source::Iota { axis, ty: ty.clone() }), &[])?;
    let window = site.emit(Op::Source(Source::Iota { axis: counts.len().saturating_add(axis), ty }), &[])?;
    let (tap, window) = (scale(site, tap, dilation as f64)?, scale(site, window, stride as f64)?);
    let place = site.binary(Binary::Add, tap, window)?;
    let place = shift(site, place, -(before as f64))?;
    site.reshape(place, vec![length])
}
