//! Padding.

use lrpc_ir::ops::{Elementwise, Movement};
use lrpc_ir::types::{DType, Float};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid, unsupported};
use super::site::{Site, axis};
use super::table::OpDef;

/// The most copies of a tensor that a pad consists of.
const MAX_TURNS: usize = 1 << 10;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("Pad", 1, |site| pad(site, "paddings")),
    OpDef::new("Pad", 2, |site| pad(site, "pads")),
    OpDef::new("CenterCropPad", 18, centre),
];

fn pad(site: &mut Site, attribute: &'static str) -> Lowered {
    let x = site.input(0)?;
    let rank = site.ty(x).rank();
    let mode = site.word_or("mode", "constant")?;
    let attribute = site.ints(attribute)?.map(|pads| pads.into_iter().map(Dim::Known).collect());
    // A number that is known, or the scalar that is computed.
    let stated = site.float("value")?;
    let (filler, computed) = match site.has_input(2) {
        true => match site.constant(2) {
            Ok(values) => (values.and_then(|values| values.first().copied()).unwrap_or(0.0), None),
            Err(_) => (0.0, Some(site.input(2)?)),
        },
        false => (stated.unwrap_or(0.0), None),
    };
    let listed: Vec<Dim> = match attribute {
        Some(pads) => pads,
        None => site.sizes(1)?.unwrap_or_default(),
    };
    let axes = match site.numbers(3)? {
        Some(axes) => axes.into_iter().map(|value| axis(value, rank)).collect::<Lowered<Vec<usize>>>()?,
        None => (0..rank).collect(),
    };
    if listed.len() != axes.len().saturating_mul(2) {
        return invalid(format!("{} pads for {} axes", listed.len(), axes.len()));
    }
    let (mut before, mut after) = (vec![Dim::Known(0); rank], vec![Dim::Known(0); rank]);
    let (first, last) = listed.split_at(axes.len());
    for ((axis, first), last) in axes.into_iter().zip(first).zip(last) {
        if let (Some(before), Some(after)) = (before.get_mut(axis), after.get_mut(axis)) {
            (*before, *after) = (first.clone(), last.clone());
        }
    }
    let result = if mode == "constant" {
        let padded = pad_constant(site, x, before.clone(), &after, filler)?;
        match computed {
            Some(filler) => fill(site, [x, padded], before, &after, filler)?,
            None => padded,
        }
    } else {
        let mut padded = crop(site, x, &mut before, &mut after)?;
        for (axis, (before, after)) in before.iter().zip(&after).enumerate() {
            padded = pad_widely(site, padded, axis, [before, after], &mode)?;
        }
        padded
    };
    site.output(0, result)
}

fn pad_constant(site: &mut Site, x: Value, before: Vec<Dim>, after: &[Dim], filler: f64) -> Lowered<Value> {
    let mut shape = site.ty(x).shape;
    for ((size, first), last) in shape.iter_mut().zip(&before).zip(after) {
        *size = size.add(first)?.add(last)?;
    }
    if shape == site.ty(x).shape && before.iter().all(|size| *size == Dim::Known(0)) {
        return Ok(x);
    }
    let steps = vec![1; before.len()];
    site.emit(Op::Movement(Movement::Pad { before, steps, value: Float(filler), shape }), &[x])
}

/// Puts the computed `filler` where the operand has no element.
fn fill(site: &mut Site, [x, padded]: [Value; 2], before: Vec<Dim>, after: &[Dim], filler: Value) -> Lowered<Value> {
    let filler = site.reshape(filler, Vec::new())?;
    let whole = site.filled(site.ty(x).with_dtype(DType::I32), 1.0)?;
    let held = pad_constant(site, whole, before, after, 0.0)?;
    let held = site.cast(held, DType::Bool)?;
    site.elementwise(Elementwise::Where, &[held, padded, filler])
}

/// Takes off what negative pads crop, and sets these to 0.
fn crop(site: &mut Site, x: Value, before: &mut [Dim], after: &mut [Dim]) -> Lowered<Value> {
    let negative = |pad: &mut Dim| {
        let cropped = if pad.known().is_some_and(|pad| pad < 0) { pad.clone() } else { Dim::Known(0) };
        if cropped != Dim::Known(0) {
            *pad = Dim::Known(0);
        }
        cropped
    };
    let first: Vec<Dim> = before.iter_mut().map(negative).collect();
    let last: Vec<Dim> = after.iter_mut().map(negative).collect();
    pad_constant(site, x, first, &last, 0.0)
}

/// Crops or pads axes with zeros, half on each side; an odd place is taken off or added behind.
fn centre(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let ty = site.ty(x);
    let axes = match site.ints("axes")? {
        Some(axes) => axes.into_iter().map(|value| axis(value, ty.rank())).collect::<Lowered<Vec<usize>>>()?,
        None => (0..ty.rank()).collect(),
    };
    let Some(sizes) = site.sizes(1)? else { return invalid("the shape is missing") };
    if sizes.len() != axes.len() {
        return invalid(format!("{} sizes for {} axes", sizes.len(), axes.len()));
    }
    let (mut before, mut after) = (vec![Dim::Known(0); ty.rank()], vec![Dim::Known(0); ty.rank()]);
    let (zero, two) = (Dim::Known(0), Dim::Known(2));
    for (axis, size) in axes.into_iter().zip(sizes) {
        let (Some(first), Some(last), Some(held)) = (before.get_mut(axis), after.get_mut(axis), ty.shape.get(axis))
        else {
            continue;
        };
        let missing = size.sub(held)?;
        let added = missing.floor_div(&two)?.maximum(&zero)?;
        let cropped = missing.ceil_div(&two)?.minimum(&zero)?;
        *first = added.add(&cropped)?;
        *last = missing.sub(first)?;
    }
    let result = pad_constant(site, x, before, &after, 0.0)?;
    site.output(0, result)
}

/// As [`pad_copies`], also wider than the tensor.
fn pad_widely(site: &mut Site, x: Value, axis: usize, pads: [&Dim; 2], mode: &str) -> Lowered<Value> {
    let size = site.ty(x).shape.get(axis).and_then(Dim::known).filter(|size| *size > 0);
    let (Some(size), [Some(mut before), Some(mut after)]) = (size, pads.map(Dim::known)) else {
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
                padded = pad_copies(site, padded, axis, [&Dim::Known(first), &Dim::Known(last)], mode)?;
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
    pad_copies(site, padded, axis, [&Dim::Known(before), &Dim::Known(after)], mode)
}

/// Padding with copies of the tensor's own elements, as slices beside it.
fn pad_copies(site: &mut Site, x: Value, axis: usize, pads: [&Dim; 2], mode: &str) -> Lowered<Value> {
    let ty = site.ty(x);
    let size = ty.shape.get(axis).cloned().unwrap_or(Dim::Known(0));
    let (zero, one) = (Dim::Known(0), Dim::Known(1));
    if pads.iter().any(|pad| pad.known().is_none_or(|pad| pad < 0)) {
        return unsupported(format!("mode {mode} with pads that are negative or symbolic"));
    }
    let last = size.sub(&one)?;
    let mut parts = Vec::new();
    for (side, count) in pads.into_iter().enumerate() {
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
