//! Choice of as many elements as the data says.

use lrpc_ir::ops::{
    Binary, Compare, Elementwise, Function, Literal, Movement, Reduce, ReduceKind, Scan, Select, Source,
};
use lrpc_ir::types::{DType, TensorType, product};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid};
use super::gather::merge_axes;
use super::known::Known;
use super::site::{Site, axis};
use super::table::OpDef;
use lrpc_ir::ops::source::LiteralValues;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("NonZero", 9, non_zero).folding(fold_non_zero),
    OpDef::new("Compress", 9, compress),
    OpDef::new("Unique", 11, unique),
    OpDef::new("NonMaxSuppression", 10, non_max_suppression),
];

fn non_zero(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let result = places(site, x)?;
    site.output(0, result)
}

/// The places of what is not zero, one row for each axis. Those of a vector of ones, which exporters write for
/// `0, 1, 2, …`, are known.
fn places(site: &mut Site, x: Value) -> Lowered<Value> {
    let ty = site.ty(x);
    let is_filled = match &site.lowering.graph.node(x.node).op {
        Op::Source(Source::Constant(Literal { values, .. })) => match values {
            LiteralValues::Integers(values) => matches!(values.as_slice(), [value] if *value != 0),
            LiteralValues::Floats(values) => matches!(values.as_slice(), [value] if value.0 != 0.0),
        },
        _ => false,
    };
    if let ([length], true) = (ty.shape.as_slice(), is_filled) {
        let ty = TensorType::new(DType::I64, vec![Dim::Known(1), length.clone()]);
        return site.emit(Op::Source(Source::Iota { axis: 1, ty }), &[]);
    }
    let there = site.cast(x, DType::Bool)?;
    let mut count = site.cast(there, DType::I64)?;
    if ty.rank() > 0 {
        let sum = Reduce { kind: ReduceKind::Sum, axes: (0..ty.rank()).collect(), keep: false };
        count = site.emit(Op::Reduce(sum), &[count])?;
    }
    let count = site.lowering.measure(count)?;
    site.emit(Op::Select(Select::NonZero { count }), &[there])
}

/// Sample, class and number of every box that is chosen, one row each.
fn non_max_suppression(site: &mut Site) -> Lowered {
    let (boxes, scores) = (site.input(0)?, site.input(1)?);
    let dtype = site.ty(scores).dtype;
    let boxes = if site.flag("center_point_box", false)? { corners(site, boxes)? } else { boxes };
    let mut limit = |index: usize, dtype: DType, default: f64| match site.optional_input(index)? {
        Some(limit) => {
            let limit = site.cast(limit, dtype)?;
            site.reshape(limit, Vec::new())
        }
        None => site.filled(TensorType::new(dtype, Vec::new()), default),
    };
    let (most, overlap) = (limit(2, DType::I64, 0.0)?, limit(3, dtype, 0.0)?);
    let least = limit(4, dtype, f64::NEG_INFINITY)?;
    let chosen = site.emit(Op::Select(Select::NonMaxSuppression), &[boxes, scores, most, overlap, least])?;
    let zero = site.filled(TensorType::new(DType::I64, Vec::new()), 0.0)?;
    let there = site.elementwise(Elementwise::Compare(Compare::GreaterOrEqual), &[chosen, zero])?;
    let places = places(site, there)?;
    let rows = site.transpose(places, vec![1, 0])?;
    let (flat, at) = merge_axes(site, chosen, rows, 0)?;
    let numbers = site.emit(Op::Select(Select::Gather { axis: 0, batch: 0 }), &[flat, at])?;
    let column = site.ty(numbers).shape.into_iter().chain([Dim::Known(1)]).collect();
    let numbers = site.reshape(numbers, column)?;
    let first = Movement::slice_axis(&site.ty(rows), 1, Dim::Known(0), Dim::Known(2));
    let first = site.emit(Op::Movement(first), &[rows])?;
    let result = site.emit(Op::Movement(Movement::Concat { axis: 1 }), &[first, numbers])?;
    site.output(0, result)
}

/// Two corners of boxes that are given by their centre and sizes, as x, y, width, height.
fn corners(site: &mut Site, boxes: Value) -> Lowered<Value> {
    let part = |site: &mut Site, place| {
        let part = Movement::slice_axis(&site.ty(boxes), 2, Dim::Known(place), Dim::Known(1));
        site.emit(Op::Movement(part), &[boxes])
    };
    let mut found = Vec::with_capacity(4);
    for (op, axis) in [(Binary::Sub, 1), (Binary::Sub, 0), (Binary::Add, 1), (Binary::Add, 0)] {
        let (centre, size) = (part(site, axis)?, part(site, axis + 2)?);
        let half = site.unary(Function::Scale, [0.5, 0.0], size)?;
        found.push(site.binary(op, centre, half)?);
    }
    site.emit(Op::Movement(Movement::Concat { axis: 2 }), &found)
}

/// The places of what holds in a vector.
fn places_in_vector(site: &mut Site, x: Value) -> Lowered<Value> {
    let places = places(site, x)?;
    let count = site.ty(places).shape.into_iter().skip(1).collect();
    site.reshape(places, count)
}

fn fold_non_zero(site: &mut Site) -> Lowered<Option<Known>> {
    let Some((known, values)) = site.known(0).and_then(|known| Some((known.clone(), known.numbers()?))) else {
        return Ok(None);
    };
    let places: Vec<usize> = (0..values.len()).filter(|place| values.get(*place) != Some(&0)).collect();
    let mut stride = values.len();
    let mut elements = Vec::with_capacity(places.len());
    for size in &known.shape {
        stride = stride.checked_div(*size).unwrap_or(0);
        for place in &places {
            let coordinate = place.checked_div(stride).and_then(|place| place.checked_rem(*size)).unwrap_or(0);
            elements.push(super::known::dim(coordinate));
        }
    }
    if elements.len() > Known::MAX_ELEMENTS {
        return Ok(None);
    }
    Ok(Some(Known { dtype: DType::I64, shape: vec![known.shape.len(), places.len()], elements }))
}

/// The slices along an axis, or the elements, where the condition holds.
fn compress(site: &mut Site) -> Lowered {
    let (mut x, condition) = (site.input(0)?, site.input(1)?);
    let ty = site.ty(x);
    let along = match site.int("axis")? {
        Some(value) => axis(value, ty.rank())?,
        None => {
            x = site.reshape(x, vec![product(&ty.shape)?])?;
            0
        }
    };
    if site.ty(condition).rank() != 1 {
        return invalid(format!("the condition is {}, expected one axis", site.ty(condition)));
    }
    let places = places_in_vector(site, condition)?;
    let result = site.emit(Op::Select(Select::Gather { axis: along, batch: 0 }), &[x, places])?;
    site.output(0, result)
}

/// Elements, or slices along an axis, without those that are there already: what is taken is the first of equals. They
/// are found side by side once sorted.
fn unique(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let is_sorted = site.flag("sorted", true)?;
    let (x, along) = match site.int("axis")? {
        Some(value) => (x, axis(value, site.ty(x).rank())?),
        None => {
            let elements = product(&site.ty(x).shape)?;
            (site.reshape(x, vec![elements])?, 0)
        }
    };
    let Groups { mut firsts, mut group, order } = groups(site, x, along)?;
    let count = site.ty(firsts).shape.first().cloned().unwrap_or(Dim::Known(0));
    let length = site.ty(order).shape.first().cloned().unwrap_or(Dim::Known(0));
    if !is_sorted {
        let by_place = Select::TopK { axis: 0, count: count.clone(), largest: false };
        let by_place = site.emit(Op::Select(by_place), &[firsts])?;
        firsts = pick(site, firsts, by_place)?;
        let ranks = counter(site, &count)?;
        let rank = scatter(site, ranks, by_place, count.clone(), true)?;
        group = pick(site, rank, group)?;
    }
    let chosen = site.emit(Op::Select(Select::Gather { axis: along, batch: 0 }), &[x, firsts])?;
    site.output(0, chosen)?;
    site.output(1, firsts)?;
    if site.has_output(2) {
        let inverse = scatter(site, group, order, length.clone(), true)?;
        site.output(2, inverse)?;
    }
    if site.has_output(3) {
        let ones = site.filled(TensorType::new(DType::I64, vec![length]), 1.0)?;
        let counts = scatter(site, ones, group, count, false)?;
        site.output(3, counts)?;
    }
    Ok(())
}

/// Slices, sorted, in groups of equals.
struct Groups {
    /// The place of each group's first slice.
    firsts: Value,
    /// The group of each slice in the sorted order.
    group: Value,
    /// The place of each slice in the sorted order.
    order: Value,
}

fn groups(site: &mut Site, x: Value, along: usize) -> Lowered<Groups> {
    let rank = site.ty(x).rank();
    let rows = site.transpose(x, [along].into_iter().chain((0..rank).filter(|axis| *axis != along)).collect())?;
    let shape = site.ty(rows).shape;
    let length = shape.first().cloned().unwrap_or(Dim::Known(1));
    let rows = site.reshape(rows, vec![length.clone(), product(shape.get(1..).unwrap_or_default())?])?;
    let order = site.emit(Op::Select(Select::LexSort), &[rows])?;
    let sorted = pick(site, rows, order)?;
    let place = counter(site, &length)?;
    let zero = site.size(&Dim::Known(0))?;
    let before = site.unary(Function::Shift, [-1.0, 0.0], place)?;
    let before = site.binary(Binary::Max, before, zero)?;
    let before = pick(site, sorted, before)?;
    let same = site.emit(Op::Elementwise(Elementwise::Compare(Compare::Equal)), &[sorted, before])?;
    let same = site.emit(Op::Reduce(Reduce { kind: ReduceKind::Min, axes: vec![1], keep: false }), &[same])?;
    let differs = site.unary(Function::Not, [0.0, 0.0], same)?;
    let is_first = site.elementwise(Elementwise::Compare(Compare::Equal), &[place, zero])?;
    let starts = site.binary(Binary::Or, is_first, differs)?;
    let number = site.cast(starts, DType::I64)?;
    let scan = Scan::CumulativeSum { axis: 0, exclusive: false, reverse: false };
    let number = site.emit(Op::Scan(scan), &[number])?;
    let group = site.unary(Function::Shift, [-1.0, 0.0], number)?;
    let starts = places_in_vector(site, starts)?;
    Ok(Groups { firsts: pick(site, order, starts)?, group, order })
}

fn counter(site: &mut Site, length: &Dim) -> Lowered<Value> {
    let ty = TensorType::new(DType::I64, vec![length.clone()]);
    site.emit(Op::Source(Source::Iota { axis: 0, ty }), &[])
}

/// Slices along the first axis.
fn pick(site: &mut Site, x: Value, index: Value) -> Lowered<Value> {
    site.emit(Op::Select(Select::Gather { axis: 0, batch: 0 }), &[x, index])
}

fn scatter(site: &mut Site, x: Value, index: Value, size: Dim, unique_indices: bool) -> Lowered<Value> {
    site.emit(Op::Select(Select::ScatterAdd { axis: 0, batch: 0, size, unique_indices }), &[x, index])
}
