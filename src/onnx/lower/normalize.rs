//! Softmax and normalisations.

use lrpc_ir::ops::{Binary, Function, Normalize, Pool, PoolKind, Reduce, ReduceKind, Window};
use lrpc_ir::types::{Float, TensorType, product};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid, unsupported};
use super::site::{Site, axis};
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("Softmax", 1, |site| flattened(site, softmax)),
    OpDef::new("Softmax", 13, |site| along_axis(site, softmax)),
    OpDef::new("LogSoftmax", 1, |site| flattened(site, log_softmax)),
    OpDef::new("LogSoftmax", 13, |site| along_axis(site, log_softmax)),
    OpDef::new("LRN", 1, local_response),
    OpDef::new("InstanceNormalization", 6, instance_norm),
    OpDef::new("GroupNormalization", 18, group_norm_of_groups),
    OpDef::new("GroupNormalization", 21, group_norm),
    // Older models have it from ONNX Runtime, in the same domain.
    OpDef::new("LayerNormalization", 1, layer_norm),
    OpDef::new("RMSNormalization", 23, rms_norm),
    OpDef::new("LpNormalization", 1, lp_norm),
    OpDef::new("MeanVarianceNormalization", 9, mean_variance),
];

/// An operation along one axis.
type Along = fn(&mut Site, Value, usize) -> Lowered<Value>;

fn softmax(site: &mut Site, x: Value, axis: usize) -> Lowered<Value> {
    site.emit(Op::Normalize(Normalize::Softmax { axis, safe: false }), &[x])
}

fn log_softmax(site: &mut Site, x: Value, axis: usize) -> Lowered<Value> {
    site.emit(Op::Normalize(Normalize::LogSoftmax { axis }), &[x])
}

fn along_axis(site: &mut Site, op: Along) -> Lowered {
    let x = site.input(0)?;
    let along = axis(site.int_or("axis", -1)?, site.ty(x).rank())?;
    let result = op(site, x, along)?;
    site.output(0, result)
}

/// Before opset 13 all axes from `axis` on count as one.
fn flattened(site: &mut Site, op: Along) -> Lowered {
    let x = site.input(0)?;
    let shape = site.ty(x).shape;
    let along = axis(site.int_or("axis", 1)?, shape.len())?;
    let (outer, inner) = shape.split_at(along);
    let result = if inner.len() == 1 {
        op(site, x, along)?
    } else {
        let flat = site.reshape(x, vec![product(outer)?, product(inner)?])?;
        let normalised = op(site, flat, 1)?;
        site.reshape(normalised, shape)?
    };
    site.output(0, result)
}

/// A parameter, in the element type of `x`, which newer versions of the operators do not ask for.
pub(super) fn parameter(site: &mut Site, index: usize, x: Value) -> Lowered<Value> {
    let value = site.input(index)?;
    let dtype = site.ty(x).dtype;
    site.cast(value, dtype)
}

pub(super) fn eps(site: &mut Site) -> Lowered<Float> {
    Ok(Float(site.float_or("epsilon", 1e-5)?))
}

pub(super) fn channels(site: &Site, x: Value) -> Lowered<Dim> {
    let ty = site.ty(x);
    match ty.shape.get(1) {
        Some(channels) => Ok(channels.clone()),
        None => invalid(format!("the input {ty} has no channel axis")),
    }
}

fn instance_norm(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let operands = [x, parameter(site, 1, x)?, parameter(site, 2, x)?];
    let op = Normalize::GroupNorm { groups: channels(site, x)?, eps: eps(site)? };
    let result = site.emit(Op::Normalize(op), &operands)?;
    site.output(0, result)
}

fn groups(site: &mut Site) -> Lowered<i64> {
    single_precision(site)?;
    match site.int("num_groups")? {
        Some(groups) if groups >= 1 => Ok(groups),
        groups => invalid(format!("num_groups is {groups:?}")),
    }
}

/// The attribute that sets the precision of intermediate results.
fn single_precision(site: &mut Site) -> Lowered {
    match site.int_or("stash_type", 1)? {
        1 => Ok(()),
        other => unsupported(format!("stash_type is {other}")),
    }
}

fn group_norm(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    channels(site, x)?;
    let operands = [x, parameter(site, 1, x)?, parameter(site, 2, x)?];
    let op = Normalize::GroupNorm { groups: Dim::Known(groups(site)?), eps: eps(site)? };
    let result = site.emit(Op::Normalize(op), &operands)?;
    site.output(0, result)
}

/// Before opset 21 scale and bias have one element per group.
fn group_norm_of_groups(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let count = Dim::Known(groups(site)?);
    let channels = channels(site, x)?;
    let each = channels.floor_div(&count)?;
    let mut operands = vec![x];
    for index in 1..3 {
        let per_group = parameter(site, index, x)?;
        let column = site.reshape(per_group, vec![count.clone(), Dim::Known(1)])?;
        let copies = site.broadcast(column, &[count.clone(), each.clone()])?;
        operands.push(site.reshape(copies, vec![channels.clone()])?);
    }
    let op = Normalize::GroupNorm { groups: count, eps: eps(site)? };
    let result = site.emit(Op::Normalize(op), &operands)?;
    site.output(0, result)
}

/// The first normalised axis, and the shape that a parameter has.
fn normalised(site: &mut Site, x: Value) -> Lowered<(usize, Vec<Dim>)> {
    single_precision(site)?;
    let shape = site.ty(x).shape;
    let first = axis(site.int_or("axis", -1)?, shape.len())?;
    Ok((first, shape.into_iter().skip(first).collect()))
}

pub(super) fn layer_norm(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let (axis, shape) = normalised(site, x)?;
    let scale = parameter(site, 1, x)?;
    let scale = site.broadcast(scale, &shape)?;
    let bias = match site.has_input(2) {
        true => parameter(site, 2, x)?,
        false => site.filled(TensorType::new(site.ty(x).dtype, shape.clone()), 0.0)?,
    };
    let bias = site.broadcast(bias, &shape)?;
    let eps = eps(site)?;
    let op = Normalize::LayerNorm { axis, eps };
    let result = site.emit(Op::Normalize(op), &[x, scale, bias])?;
    site.output(0, result)?;
    if site.has_output(1) || site.has_output(2) { statistics(site, x, axis, eps) } else { Ok(()) }
}

/// The mean and `1/√(variance + eps)` over the axes from `axis` on, as the layer norm's further outputs.
fn statistics(site: &mut Site, x: Value, axis: usize, eps: Float) -> Lowered {
    let axes: Vec<usize> = (axis..site.ty(x).rank()).collect();
    let mean = |site: &mut Site, x| {
        site.emit(Op::Reduce(Reduce { kind: ReduceKind::Mean, axes: axes.clone(), keep: true }), &[x])
    };
    let average = mean(site, x)?;
    site.output(1, average)?;
    let difference = site.binary(Binary::Sub, x, average)?;
    let square = site.binary(Binary::Mul, difference, difference)?;
    let variance = mean(site, square)?;
    let variance = site.unary(Function::Shift, [eps.0, 0.0], variance)?;
    let deviation = site.unary(Function::Sqrt, [0.0; 2], variance)?;
    let reciprocal = site.unary(Function::Reciprocal, [0.0; 2], deviation)?;
    site.output(2, reciprocal)
}

/// `x/(bias + alpha/size·Σ x²)^beta`, with the sum over `size` neighbouring channels.
fn local_response(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let ty = site.ty(x);
    let count = channels(site, x)?;
    let Some(size) = site.int("size")?.filter(|size| *size >= 1) else { return invalid("size is missing or below 1") };
    let (alpha, beta) = (site.float_or("alpha", 1e-4)?, site.float_or("beta", 0.75)?);
    let bias = site.float_or("bias", 1.0)?;
    let (Some(batch), Some(places)) = (ty.shape.first(), ty.shape.get(2..)) else {
        return invalid(format!("the input {ty} has no channels"));
    };
    let places = product(places)?;
    let square = site.binary(Binary::Mul, x, x)?;
    let plane = site.reshape(square, vec![batch.clone(), Dim::Known(1), count.clone(), places.clone()])?;
    let before = size.saturating_sub(1).div_euclid(2);
    let zero = Dim::Known(0);
    let window = Window {
        size: vec![Dim::Known(size), Dim::Known(1)],
        strides: vec![1; 2],
        pads: vec![Dim::Known(before), zero.clone()],
        pads_after: vec![zero.clone(), zero],
        dilations: vec![1; 2],
        spatial: vec![count, places],
    };
    let sum = site.emit(Op::Pool(Pool::Window(PoolKind::Sum, window)), &[plane])?;
    let sum = site.reshape(sum, ty.shape)?;
    let scaled = site.unary(Function::Scale, [alpha / size as f64, 0.0], sum)?;
    let shifted = site.unary(Function::Shift, [bias, 0.0], scaled)?;
    let divisor = site.unary(Function::Pow, [beta, 0.0], shifted)?;
    let result = site.binary(Binary::Div, x, divisor)?;
    site.output(0, result)
}

/// The layer norm of `x` over its last axis, with the inputs `parameters` as scale and bias.
pub(super) fn normalised_last(site: &mut Site, x: Value, parameters: [usize; 2]) -> Lowered<Value> {
    let ty = site.ty(x);
    let last = axis(-1, ty.rank())?;
    let scale = parameter(site, parameters[0], x)?;
    let bias = match site.has_input(parameters[1]) {
        true => parameter(site, parameters[1], x)?,
        false => site.filled(ty.with_shape(ty.shape.iter().skip(last).cloned().collect()), 0.0)?,
    };
    let eps = Float(site.float_or("epsilon", 1e-12)?);
    site.emit(Op::Normalize(Normalize::LayerNorm { axis: last, eps }), &[x, scale, bias])
}

pub(super) fn rms_norm(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let (axis, shape) = normalised(site, x)?;
    let scale = parameter(site, 1, x)?;
    let scale = site.broadcast(scale, &shape)?;
    let op = Normalize::RmsNorm { axis, eps: eps(site)? };
    let result = site.emit(Op::Normalize(op), &[x, scale])?;
    site.output(0, result)
}

/// `x / ‖x‖`. Where the norm is 0 the result is: the smallest normal number stands below the fraction.
fn lp_norm(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let ty = site.ty(x);
    let along = axis(site.int_or("axis", -1)?, ty.rank())?;
    let sum = |site: &mut Site, x| {
        site.emit(Op::Reduce(Reduce { kind: ReduceKind::Sum, axes: vec![along], keep: true }), &[x])
    };
    let norm = match site.int_or("p", 2)? {
        1 => {
            let magnitude = site.unary(Function::Abs, [0.0; 2], x)?;
            sum(site, magnitude)?
        }
        2 => {
            let square = site.binary(Binary::Mul, x, x)?;
            let sum = sum(site, square)?;
            site.unary(Function::Sqrt, [0.0; 2], sum)?
        }
        other => return invalid(format!("p is {other}")),
    };
    let norm = site.unary(Function::Clip, [f32::MIN_POSITIVE.into(), f64::INFINITY], norm)?;
    let result = site.binary(Binary::Div, x, norm)?;
    site.output(0, result)
}

/// `(x − mean) / (√(mean(x²) − mean(x)²) + 1e-9)`, the specification's formula.
fn mean_variance(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let rank = site.ty(x).rank();
    let axes = site.ints("axes")?.unwrap_or(vec![0, 2, 3]);
    let mut axes = axes.into_iter().map(|value| axis(value, rank)).collect::<Lowered<Vec<usize>>>()?;
    axes.sort_unstable();
    let mean = |site: &mut Site, x| {
        site.emit(Op::Reduce(Reduce { kind: ReduceKind::Mean, axes: axes.clone(), keep: true }), &[x])
    };
    let average = mean(site, x)?;
    let centred = site.binary(Binary::Sub, x, average)?;
    // The mean of squares of what is divided, not that of squares less the square of the mean: the same number, rounded
    // less, and seen to be what normalises.
    let square = site.binary(Binary::Mul, centred, centred)?;
    let variance = mean(site, square)?;
    let deviation = site.unary(Function::Sqrt, [0.0; 2], variance)?;
    let deviation = site.unary(Function::Shift, [1e-9, 0.0], deviation)?;
    let result = site.binary(Binary::Div, centred, deviation)?;
    site.output(0, result)
}
