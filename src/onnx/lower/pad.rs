//! Padding.

use lrpc_ir::ops::Movement;
use lrpc_ir::types::Float;
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid, unsupported};
use super::site::{Site, axis};
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] = &[OpDef::new("Pad", 2, pad)];

fn pad(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let rank = site.ty(x).rank();
    let mode = site.word_or("mode", "constant")?;
    let attribute = site.ints("pads")?.map(|pads| pads.into_iter().map(Dim::Known).collect());
    let filler = match site.float("value")? {
        Some(value) => value,
        None => site.constant(2)?.and_then(|values| values.first().copied()).unwrap_or(0.0),
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
        pad_constant(site, x, before, &after, filler)?
    } else {
        let mut padded = x;
        for (axis, (before, after)) in before.iter().zip(&after).enumerate() {
            padded = pad_copies(site, padded, axis, [before, after], &mode)?;
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
