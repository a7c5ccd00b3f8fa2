//! Padding.

use lrpc_ir::ops::{Binary, Elementwise, Movement};
use lrpc_ir::types::{DType, Float};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid, unsupported};
use super::number::Number;
use super::site::{Site, axis};
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] = &[OpDef::new("Pad", 2, pad), OpDef::new("CenterCropPad", 18, center_crop_pad)];

/// The most copies of a tensor that a pad consists of.
const MAX_TURNS: usize = 1 << 10;

/// How many places are added before and after each axis; negative numbers take some away.
type Pads = Vec<[Dim; 2]>;

fn pad(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let rank = site.ty(x).rank();
    let mode = site.word_or("mode", "constant")?;
    let attribute = site.ints("pads")?.map(|pads| pads.into_iter().map(Number::from).collect());
    let listed: Vec<Number> = match attribute {
        Some(pads) => pads,
        None => site.integers(1)?.unwrap_or_default(),
    };
    let axes = match site.numbers(3)? {
        Some(axes) => axes.into_iter().map(|value| axis(value, rank)).collect::<Lowered<Vec<usize>>>()?,
        None => (0..rank).collect(),
    };
    if listed.len() != axes.len().saturating_mul(2) {
        return invalid(format!("{} pads for {} axes", listed.len(), axes.len()));
    }
    // Sizes are never negative: what data decides is a number of places to add and one of places to take away.
    let (mut added, mut taken) =
        (vec![[Dim::Known(0), Dim::Known(0)]; rank], vec![[Dim::Known(0), Dim::Known(0)]; rank]);
    let (first, last) = listed.split_at(axes.len());
    for ((axis, first), last) in axes.into_iter().zip(first).zip(last) {
        for (side, pad) in [first, last].into_iter().enumerate() {
            let [more, less] = parts(site, pad)?;
            added.iter_mut().skip(axis).take(1).flatten().skip(side).take(1).for_each(|slot| *slot = more.clone());
            taken.iter_mut().skip(axis).take(1).flatten().skip(side).take(1).for_each(|slot| *slot = less.clone());
        }
    }
    let result = if mode == "constant" {
        let net = |(more, less): (&[Dim; 2], &[Dim; 2])| Ok([more[0].sub(&less[0])?, more[1].sub(&less[1])?]);
        let pads = added.iter().zip(&taken).map(net).collect::<Lowered<Pads>>()?;
        pad_constant(site, x, &pads)?
    } else {
        let mut padded = cropped(site, x, &taken)?;
        for (axis, pads) in added.iter().enumerate() {
            padded = pad_widely(site, padded, axis, pads, &mode)?;
        }
        padded
    };
    site.output(0, result)
}

/// Zeros around what is too small, and the middle of what is too large. Where an odd number is missing or too many, the
/// smaller part is before.
fn center_crop_pad(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let shape = site.ty(x).shape;
    let Some(wanted) = site.integers(1)? else { return invalid("the shape is missing") };
    let wanted = site.measure_all(&wanted)?;
    let axes = match site.ints("axes")? {
        Some(axes) => axes.into_iter().map(|value| axis(value, shape.len())).collect::<Lowered<Vec<usize>>>()?,
        None => (0..shape.len()).collect(),
    };
    if axes.len() != wanted.len() {
        return invalid(format!("{} sizes for {} axes", wanted.len(), axes.len()));
    }
    let (zero, two) = (Dim::Known(0), Dim::Known(2));
    let mut before = vec![zero.clone(); shape.len()];
    let mut result = shape.clone();
    for (axis, length) in axes.into_iter().zip(wanted) {
        let Some(size) = shape.get(axis) else { continue };
        let missing = length.sub(size)?.maximum(&zero)?.floor_div(&two)?;
        let too_many = size.sub(&length)?.maximum(&zero)?.floor_div(&two)?;
        let first = missing.sub(&too_many)?;
        before.iter_mut().skip(axis).take(1).for_each(|slot| *slot = first.clone());
        result.iter_mut().skip(axis).take(1).for_each(|slot| *slot = length.clone());
    }
    let steps = vec![1; before.len()];
    let pad = Movement::Pad { before, steps, value: Float(0.0), shape: result };
    let result = site.emit(Op::Movement(pad), &[x])?;
    site.output(0, result)
}

/// How many places a pad adds, and how many it takes away.
fn parts(site: &mut Site, pad: &Number) -> Lowered<[Dim; 2]> {
    match pad {
        Number::Size(Dim::Known(count)) if *count < 0 => Ok([Dim::Known(0), Dim::Known(0).sub(&Dim::Known(*count))?]),
        Number::Size(count) if count.is_negated() => Ok([Dim::Known(0), Dim::Known(0).sub(count)?]),
        Number::Size(count) => Ok([count.clone(), Dim::Known(0)]),
        Number::Data(_) => {
            let zero = Number::from(0);
            let negated = site.combine(Binary::Sub, &zero, pad)?;
            let (more, less) = (site.combine(Binary::Max, pad, &zero)?, site.combine(Binary::Max, &negated, &zero)?);
            Ok([site.measure(&more)?, site.measure(&less)?])
        }
    }
}

/// Without that many places before and after each axis.
fn cropped(site: &mut Site, x: Value, taken: &Pads) -> Lowered<Value> {
    if taken.iter().flatten().all(|count| *count == Dim::Known(0)) {
        return Ok(x);
    }
    let shape = site.ty(x).shape.into_iter().zip(taken).map(|(size, [first, last])| size.sub(first)?.sub(last));
    let shape = shape.collect::<Result<Vec<Dim>, _>>()?;
    let (starts, steps) = (taken.iter().map(|[first, _]| first.clone()).collect(), vec![1; taken.len()]);
    site.emit(Op::Movement(Movement::Slice { starts, steps, shape }), &[x])
}

/// Padding with one number, which may be computed when the model runs.
fn pad_constant(site: &mut Site, x: Value, pads: &Pads) -> Lowered<Value> {
    let filler = match site.float("value")? {
        Some(value) => Some(value),
        None if site.has_input(2) => site.constant_scalar(2),
        None => Some(0.0),
    };
    let from = site.ty(x);
    let sizes = from.shape.iter().zip(pads).map(|(size, [first, last])| size.add(first)?.add(last));
    let shape = sizes.collect::<Result<Vec<Dim>, _>>()?;
    if shape == from.shape && pads.iter().all(|[first, _]| *first == Dim::Known(0)) {
        return Ok(x);
    }
    let before: Vec<Dim> = pads.iter().map(|[first, _]| first.clone()).collect();
    let pad = |value| {
        let steps = vec![1; before.len()];
        Op::Movement(Movement::Pad { before: before.clone(), steps, value: Float(value), shape: shape.clone() })
    };
    if let Some(filler) = filler {
        return site.emit(pad(filler), &[x]);
    }
    let filler = site.input(2)?;
    let filler = site.reshape(filler, Vec::new())?;
    let filler = site.broadcast(filler, &shape)?;
    let ones = site.filled(from.with_dtype(DType::Bool), 1.0)?;
    let (padded, inside) = (site.emit(pad(0.0), &[x])?, site.emit(pad(0.0), &[ones])?);
    site.emit(Op::Elementwise(Elementwise::Where), &[inside, padded, filler])
}

/// As [`pad_copies`], also wider than the tensor.
fn pad_widely(site: &mut Site, x: Value, axis: usize, pads: &[Dim; 2], mode: &str) -> Lowered<Value> {
    let size = site.ty(x).shape.get(axis).and_then(Dim::known).filter(|size| *size > 0);
    let [before, after] = pads;
    let (Some(size), Some(mut before), Some(mut after)) = (size, before.known(), after.known()) else {
        return pad_copies(site, x, axis, pads, mode);
    };
    let mut padded = x;
    match mode {
        "reflect" if size == 1 => return pad_copies(site, x, axis, pads, "edge"),
        "reflect" => {
            // An end that was reached by whole reflections can be reflected at again.
            let most = size.saturating_sub(1);
            while before > most || after > most {
                let (first, last) = (before.min(most), after.min(most));
                padded = pad_copies(site, padded, axis, &[Dim::Known(first), Dim::Known(last)], mode)?;
                (before, after) = (before.saturating_sub(first), after.saturating_sub(last));
            }
        }
        "wrap" => {
            let turns = [before, after].map(|pad| usize::try_from(pad.div_euclid(size)).unwrap_or(0));
            (before, after) = (before.rem_euclid(size), after.rem_euclid(size));
            let copies = turns[0].saturating_add(turns[1]).saturating_add(1);
            if copies > MAX_TURNS {
                return unsupported(format!("a pad of {copies} copies of the tensor"));
            }
            if copies > 1 {
                padded = site.emit(Op::Movement(Movement::Concat { axis }), &vec![x; copies])?;
            }
        }
        _ => {}
    }
    pad_copies(site, padded, axis, &[Dim::Known(before), Dim::Known(after)], mode)
}

/// Padding with copies of the tensor's own elements, as slices beside it.
fn pad_copies(site: &mut Site, x: Value, axis: usize, pads: &[Dim; 2], mode: &str) -> Lowered<Value> {
    let ty = site.ty(x);
    let size = ty.shape.get(axis).cloned().unwrap_or(Dim::Known(0));
    let (zero, one) = (Dim::Known(0), Dim::Known(1));
    let last = size.sub(&one)?;
    let mut parts = Vec::new();
    for (side, count) in pads.iter().enumerate() {
        if side == 1 {
            parts.push(x);
        }
        if *count == zero {
            continue;
        }
        let (start, step) = match (mode, side) {
            ("reflect", 0) => (count.clone(), -1),
            ("reflect", _) => (last.sub(&one)?, -1),
            ("wrap", 0) => (size.sub(count)?, 1),
            ("wrap", _) => (zero.clone(), 1),
            ("edge", 0) => (zero.clone(), 0),
            ("edge", _) => (last.clone(), 0),
            _ => return invalid(format!("mode is {mode:?}")),
        };
        parts.push(copy_of(site, x, axis, start, step, count)?);
    }
    if parts.len() == 1 { Ok(x) } else { site.emit(Op::Movement(Movement::Concat { axis }), &parts) }
}

/// `count` elements along `axis` from `start` on; with the step 0 the same one again and again.
fn copy_of(site: &mut Site, x: Value, axis: usize, start: Dim, step: i64, count: &Dim) -> Lowered<Value> {
    let ty = site.ty(x);
    let taken = if step == 0 { Dim::Known(1) } else { count.clone() };
    let mut op = Movement::slice_axis(&ty, axis, start, taken);
    if let Movement::Slice { steps, .. } = &mut op
        && let Some(slot) = steps.get_mut(axis)
        && step != 0
    {
        *slot = step;
    }
    let part = site.emit(Op::Movement(op), &[x])?;
    let mut shape = ty.shape;
    if let Some(size) = shape.get_mut(axis) {
        *size = count.clone();
    }
    site.broadcast(part, &shape)
}
