//! Pooling of regions whose corners are data.

use lrpc_ir::ops::{Binary, Compare, Elementwise, Function, Movement, Reduce, ReduceKind, Select, Source};
use lrpc_ir::types::{DType, TensorType};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid, unsupported};
use super::number::Number;
use super::sample::{clamp, column, is_inside, scale, shift};
use super::site::Site;
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("RoiAlign", 10, |site| align(site, false)),
    OpDef::new("RoiAlign", 16, |site| {
        let half_pixel = match site.word_or("coordinate_transformation_mode", "half_pixel")?.as_str() {
            "half_pixel" => true,
            "output_half_pixel" => false,
            other => return invalid(format!("coordinate_transformation_mode is {other:?}")),
        };
        align(site, half_pixel)
    }),
    OpDef::new("MaxRoiPool", 1, max_pool),
];

/// The image `[N, C, H, W]` as its four sizes.
fn image(site: &Site, x: Value) -> Lowered<[Dim; 4]> {
    let ty = site.ty(x);
    <[Dim; 4]>::try_from(ty.shape.clone()).or_else(|_| invalid(format!("{ty} should be [N, C, H, W]")))
}

/// An element of each corner `[regions]`, times the scale of the image.
fn corner(site: &mut Site, regions: Value, at: usize, by: f64) -> Lowered<Value> {
    let corner = column(site, regions, at)?;
    scale(site, corner, by)
}

// Averages and maxima of samples.

/// Samples at regular places of each bin, bilinear; their average or, as the specification's reference has it, the largest
/// of the four products that make up each sample.
fn align(site: &mut Site, half_pixel: bool) -> Lowered {
    let (x, regions, owner) = (site.input(0)?, site.input(1)?, site.input(2)?);
    let [batch, channels, height, width] = image(site, x)?;
    let bins = [site.int_or("output_height", 1)?, site.int_or("output_width", 1)?];
    let samples = site.int_or("sampling_ratio", 0)?;
    let by = site.float_or("spatial_scale", 1.0)?;
    let average = match site.word_or("mode", "avg")?.as_str() {
        "avg" => true,
        "max" => false,
        other => return invalid(format!("mode is {other:?}")),
    };
    if bins.iter().any(|bins| *bins < 1) {
        return invalid(format!("{bins:?} bins"));
    }
    if samples < 1 && !average {
        return unsupported("mode max with sampling_ratio 0, as many samples as each region is large");
    }
    let regions = site.cast(regions, site.ty(x).dtype)?;
    let offset = if half_pixel { -0.5 } else { 0.0 };
    let mut axes = Vec::new();
    for (size, bins, at) in [(&height, bins[0], 1), (&width, bins[1], 0)] {
        let start = corner(site, regions, at, by)?;
        let end = corner(site, regions, at.saturating_add(2), by)?;
        let (start, end) = (shift(site, start, offset)?, shift(site, end, offset)?);
        let samples = Samples::new(site, [start, end], bins, samples, !half_pixel)?;
        let lines = line(site, &samples, size)?;
        axes.push((samples, lines));
    }
    let [(of_rows, rows), (of_columns, columns)] = axes.as_slice() else { return invalid("two axes") };
    let source = Pixels::new(site, x, owner, [&batch, &channels, &height, &width])?;
    let mut products = Vec::new();
    for row in rows {
        for column in columns {
            products.push(source.read(site, row, column)?);
        }
    }
    let (count, bins) = (site.ty(owner).shape, bins.map(Dim::Known));
    let cells = vec![bins[0].clone(), of_rows.each.clone(), bins[1].clone(), of_columns.each.clone(), channels];
    let shape = [count, cells].concat();
    let combine = if average { Binary::Add } else { Binary::Max };
    let (Some(first), rest) = (products.first().copied(), products.get(1..).unwrap_or_default()) else {
        return invalid("there is nothing to read");
    };
    let mut whole = first;
    for part in rest {
        whole = site.binary(combine, whole, *part)?;
    }
    let whole = site.reshape(whole, shape)?;
    let counts = of_rows.counts.zip(of_columns.counts);
    let kind = match (average, counts) {
        (false, _) => ReduceKind::Max,
        (true, None) => ReduceKind::Mean,
        (true, Some(_)) => ReduceKind::Sum,
    };
    let mut pooled = site.emit(Op::Reduce(Reduce { kind, axes: vec![2, 4], keep: false }), &[whole])?;
    if let Some((rows, columns)) = counts {
        let count = site.binary(Binary::Mul, rows, columns)?;
        let count = site.reshape(count, [site.ty(count).shape, vec![Dim::Known(1); 3]].concat())?;
        pooled = site.binary(Binary::Div, pooled, count)?;
    }
    let result = site.transpose(pooled, vec![0, 3, 1, 2])?;
    site.output(0, result)
}

/// The samples of each region along an axis.
struct Samples {
    /// `[regions, bins·each]`.
    positions: Value,
    /// How many there are in each bin.
    each: Dim,
    /// How many of these each region has, where they differ: `[regions]`, at least 1.
    counts: Option<Value>,
    /// 1 for each sample that its region has, and 0 for the others, `[regions, bins·each]`.
    shown: Option<Value>,
}

impl Samples {
    /// In the middle of equal parts of each bin: as many as are stated or, for 0, as a bin has places.
    fn new(site: &mut Site, [start, end]: [Value; 2], bins: i64, stated: i64, at_least_1: bool) -> Lowered<Samples> {
        let ty = site.ty(start);
        let mut extent = site.binary(Binary::Sub, end, start)?;
        if at_least_1 {
            extent = site.unary(Function::Clip, [1.0, f64::INFINITY], extent)?;
        }
        let width = scale(site, extent, 1.0 / bins as f64)?;
        let (each, wanted) = if stated > 0 {
            (Dim::Known(stated), None)
        } else {
            let places = site.unary(Function::Ceil, [0.0; 2], width)?;
            (most(site, places)?, Some(places))
        };
        let cells = TensorType::new(ty.dtype, vec![Dim::Known(bins), each.clone()]);
        let bin = site.emit(Op::Source(Source::Iota { axis: 0, ty: cells.clone() }), &[])?;
        let sample = site.emit(Op::Source(Source::Iota { axis: 1, ty: cells }), &[])?;
        let middle = shift(site, sample, 0.5)?;
        let per_region = [ty.shape.clone(), vec![Dim::Known(1); 2]].concat();
        let (mut counts, mut shown) = (None, None);
        let part = match wanted {
            None => scale(site, middle, 1.0 / stated as f64)?,
            Some(places) => {
                let count = site.unary(Function::Clip, [1.0, f64::INFINITY], places)?;
                counts = Some(count);
                let (count, places) =
                    (site.reshape(count, per_region.clone())?, site.reshape(places, per_region.clone())?);
                let has = site.elementwise(Elementwise::Compare(Compare::Less), &[sample, places])?;
                shown = Some(site.cast(has, ty.dtype)?);
                site.binary(Binary::Div, middle, count)?
            }
        };
        let place = site.binary(Binary::Add, part, bin)?;
        let (start, width) = (site.reshape(start, per_region.clone())?, site.reshape(width, per_region)?);
        let distance = site.binary(Binary::Mul, place, width)?;
        let positions = site.binary(Binary::Add, distance, start)?;
        let flat = [ty.shape, vec![Dim::Known(bins).mul(&each)?]].concat();
        let positions = site.reshape(positions, flat.clone())?;
        let shown = shown.map(|shown| site.reshape(shown, flat)).transpose()?;
        Ok(Samples { positions, each, counts, shown })
    }
}

/// The largest of some counts, at least 1, as a size that the data decide.
fn most(site: &mut Site, counts: Value) -> Lowered<Dim> {
    let one = site.filled(TensorType::new(site.ty(counts).dtype, vec![Dim::Known(1)]), 1.0)?;
    let all = site.emit(Op::Movement(Movement::Concat { axis: 0 }), &[counts, one])?;
    let largest = site.emit(Op::Reduce(Reduce { kind: ReduceKind::Max, axes: vec![0], keep: false }), &[all])?;
    let largest = site.cast(largest, DType::I64)?;
    site.measure(&Number::Data(largest))
}

/// The lower and the upper neighbour of positions, with their weights: 0 from one place outside of the image on.
fn line(site: &mut Site, samples: &Samples, size: &Dim) -> Lowered<[(Value, Value); 2]> {
    let mut inside = is_inside(site, samples.positions, size, -1.0, 1.0)?;
    if let Some(shown) = samples.shown {
        inside = site.binary(Binary::Mul, inside, shown)?;
    }
    let position = clamp(site, samples.positions, size)?;
    let low = site.unary(Function::Floor, [0.0; 2], position)?;
    let high = shift(site, low, 1.0)?;
    let high = clamp(site, high, size)?;
    let to_high = site.binary(Binary::Sub, position, low)?;
    let to_low = scale(site, to_high, -1.0)?;
    let to_low = shift(site, to_low, 1.0)?;
    let mut end = |place: Value, weight: Value| -> Lowered<(Value, Value)> {
        Ok((site.cast(place, DType::I64)?, site.binary(Binary::Mul, weight, inside)?))
    };
    Ok([end(low, to_low)?, end(high, to_high)?])
}

/// The pixels of the images that regions lie in.
struct Pixels {
    /// `[N·H·W, C]`.
    rows: Value,
    /// Where the image of each region begins, `[regions, 1, 1]`.
    first: Value,
    width: Value,
}

impl Pixels {
    fn new(site: &mut Site, x: Value, owner: Value, [batch, channels, height, width]: [&Dim; 4]) -> Lowered<Pixels> {
        let last = site.transpose(x, vec![0, 2, 3, 1])?;
        let area = height.mul(width)?;
        let rows = site.reshape(last, vec![batch.mul(&area)?, channels.clone()])?;
        let owner = site.cast(owner, DType::I64)?;
        let area = site.size(&area)?;
        let first = site.binary(Binary::Mul, owner, area)?;
        let shape = [site.ty(first).shape, vec![Dim::Known(1); 2]].concat();
        Ok(Pixels { rows, first: site.reshape(first, shape)?, width: site.size(width)? })
    }

    /// Each row with each column, weighed: `[regions, rows, columns, C]`.
    fn read(&self, site: &mut Site, row: &(Value, Value), column: &(Value, Value)) -> Lowered<Value> {
        let upright = |site: &mut Site, x: Value| {
            let shape = [site.ty(x).shape, vec![Dim::Known(1)]].concat();
            site.reshape(x, shape)
        };
        let flat = |site: &mut Site, x: Value| {
            let mut shape = site.ty(x).shape;
            shape.insert(1, Dim::Known(1));
            site.reshape(x, shape)
        };
        let (rows, columns) = (upright(site, row.0)?, flat(site, column.0)?);
        let start = site.binary(Binary::Mul, rows, self.width)?;
        let place = site.binary(Binary::Add, start, columns)?;
        let place = site.binary(Binary::Add, place, self.first)?;
        let pixels = site.emit(Op::Select(Select::Gather { axis: 0, batch: 0 }), &[self.rows, place])?;
        let (rows, columns) = (upright(site, row.1)?, flat(site, column.1)?);
        let weight = site.binary(Binary::Mul, rows, columns)?;
        let weight = upright(site, weight)?;
        site.binary(Binary::Mul, pixels, weight)
    }
}

// Maxima of whole bins.

/// The largest element of each bin of each region, whose corners are rounded to places; 0 for a bin outside of the image.
fn max_pool(site: &mut Site) -> Lowered {
    let (x, regions) = (site.input(0)?, site.input(1)?);
    let [_, channels, height, width] = image(site, x)?;
    let by = site.float_or("spatial_scale", 1.0)?;
    let Some([rows, columns]) = site.ints("pooled_shape")?.and_then(|shape| <[i64; 2]>::try_from(shape).ok()) else {
        return invalid("pooled_shape should be two numbers");
    };
    if rows < 1 || columns < 1 {
        return invalid(format!("pooled_shape is {rows} by {columns}"));
    }
    let owner = column(site, regions, 0)?;
    let owner = site.cast(owner, DType::I64)?;
    let count = site.ty(owner).shape;
    let (of_rows, of_columns) =
        (members(site, regions, [2, 4], by, rows, &height)?, members(site, regions, [1, 3], by, columns, &width)?);
    let images = site.emit(Op::Select(Select::Gather { axis: 0, batch: 0 }), &[x, owner])?;
    let one = Dim::Known(1);
    let shape = [count.clone(), vec![channels.clone(), height.clone(), one.clone(), width.clone()]].concat();
    let images = site.reshape(images, shape)?;
    let shape = [count.clone(), vec![one.clone(), one.clone(), Dim::Known(columns), width]].concat();
    let of_columns = site.reshape(of_columns, shape)?;
    // [regions, C, H, columns]
    let (across, any_column) = largest(site, images, of_columns)?;
    let across = site.transpose(across, vec![0, 1, 3, 2])?;
    let shape = [count.clone(), vec![channels, one.clone(), Dim::Known(columns), height.clone()]].concat();
    let across = site.reshape(across, shape)?;
    let shape = [count.clone(), vec![one.clone(), Dim::Known(rows), one.clone(), height]].concat();
    let of_rows = site.reshape(of_rows, shape)?;
    let (found, any_row) = largest(site, across, of_rows)?;
    let any_column = site.reshape(any_column, [count, vec![one.clone(), one, Dim::Known(columns)]].concat())?;
    let any = site.binary(Binary::And, any_row, any_column)?;
    let zero = site.filled(TensorType::new(site.ty(found).dtype, Vec::new()), 0.0)?;
    let result = site.elementwise(Elementwise::Where, &[any, found, zero])?;
    site.output(0, result)
}

/// Which of `size` places belong to each bin of each region, `[regions, bins, size]`.
fn members(
    site: &mut Site,
    regions: Value,
    [start, end]: [usize; 2],
    by: f64,
    bins: i64,
    size: &Dim,
) -> Lowered<Value> {
    let ends = [start, end].map(|at| {
        let corner = corner(site, regions, at, by)?;
        let corner = shift(site, corner, 0.5)?;
        site.unary(Function::Floor, [0.0; 2], corner)
    });
    let [start, end] = ends;
    let (start, end) = (start?, end?);
    let extent = site.binary(Binary::Sub, end, start)?;
    let extent = shift(site, extent, 1.0)?;
    let extent = site.unary(Function::Clip, [1.0, f64::INFINITY], extent)?;
    let ty = site.ty(extent);
    let of_region = [ty.shape.clone(), vec![Dim::Known(1); 2]].concat();
    let width = scale(site, extent, 1.0 / bins as f64)?;
    let (start, width) = (site.reshape(start, of_region.clone())?, site.reshape(width, of_region)?);
    let bin = TensorType::new(ty.dtype, vec![Dim::Known(bins), Dim::Known(1)]);
    let bin = site.emit(Op::Source(Source::Iota { axis: 0, ty: bin }), &[])?;
    let next = shift(site, bin, 1.0)?;
    let mut edge = |place: Value, rounding: Function| -> Lowered<Value> {
        let distance = site.binary(Binary::Mul, width, place)?;
        let distance = site.unary(rounding, [0.0; 2], distance)?;
        site.binary(Binary::Add, start, distance)
    };
    let (first, end) = (edge(bin, Function::Floor)?, edge(next, Function::Ceil)?);
    let place = TensorType::new(ty.dtype, vec![size.clone()]);
    let place = site.emit(Op::Source(Source::Iota { axis: 0, ty: place }), &[])?;
    let begun = site.elementwise(Elementwise::Compare(Compare::GreaterOrEqual), &[place, first])?;
    let ended = site.elementwise(Elementwise::Compare(Compare::Less), &[place, end])?;
    site.binary(Binary::And, begun, ended)
}

/// The largest elements along the last axis among those that the mask shows, and whether there is one.
fn largest(site: &mut Site, x: Value, mask: Value) -> Lowered<(Value, Value)> {
    let hidden = site.filled(TensorType::new(site.ty(x).dtype, Vec::new()), f64::NEG_INFINITY)?;
    let shown = site.elementwise(Elementwise::Where, &[mask, x, hidden])?;
    let last = site.ty(shown).rank().saturating_sub(1);
    let over = Op::Reduce(Reduce { kind: ReduceKind::Max, axes: vec![last], keep: false });
    let largest = site.emit(over.clone(), &[shown])?;
    let shown = site.cast(mask, DType::I32)?;
    let any = site.emit(over, &[shown])?;
    let zero = site.filled(TensorType::new(DType::I32, Vec::new()), 0.0)?;
    Ok((largest, site.elementwise(Elementwise::Compare(Compare::Greater), &[any, zero])?))
}
