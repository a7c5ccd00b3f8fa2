//! Batch normalisation, with stored statistics and with those of the batch.

use lrpc_ir::ops::{Binary, Function, Normalize, Reduce, ReduceKind};
use lrpc_ir::types::{Float, TensorType, product};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid};
use super::normalize::{channels, eps, parameter};
use super::site::Site;
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("BatchNormalization", 7, of_any_place),
    OpDef::new("BatchNormalization", 9, stored),
    OpDef::new("BatchNormalization", 14, |site| {
        if site.flag("training_mode", false)? { of_batch(site) } else { stored(site) }
    }),
];

/// With `spatial` 0 every place has statistics of its own.
fn of_any_place(site: &mut Site) -> Lowered {
    if site.flag("spatial", true)? {
        return stored(site);
    }
    site.ignore("momentum");
    let x = site.input(0)?;
    let eps = eps(site)?;
    let mut parameters = Vec::new();
    for index in 1..5 {
        parameters.push(parameter(site, index, x)?);
    }
    let [scale, bias, mean, variance] = parameters.as_slice() else { return invalid("a parameter is missing") };
    let variance = site.unary(Function::Shift, [eps.0, 0.0], *variance)?;
    let deviation = site.unary(Function::Sqrt, [0.0; 2], variance)?;
    let factor = site.binary(Binary::Div, *scale, deviation)?;
    let moved = site.binary(Binary::Mul, *mean, factor)?;
    let constant = site.binary(Binary::Sub, *bias, moved)?;
    let scaled = site.binary(Binary::Mul, x, factor)?;
    let result = site.binary(Binary::Add, scaled, constant)?;
    site.output(0, result)
}

fn stored(site: &mut Site) -> Lowered {
    site.ignore("momentum");
    let x = site.input(0)?;
    channels(site, x)?;
    let mut operands = vec![x];
    for index in 1..5 {
        operands.push(parameter(site, index, x)?);
    }
    let eps = eps(site)?;
    let result = site.emit(Op::Normalize(Normalize::BatchNorm { eps }), &operands)?;
    site.output(0, result)
}

/// Each channel is normalised over the batch, as one group of a group norm in which samples are places; the statistics
/// move towards the batch's by `1 − momentum`.
fn of_batch(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let (ty, count) = (site.ty(x), channels(site, x)?);
    let eps: Float = eps(site)?;
    let momentum = site.float_or("momentum", 0.9)?;
    let (scale, bias) = (parameter(site, 1, x)?, parameter(site, 2, x)?);
    let perm: Vec<usize> = [1, 0].into_iter().chain(2..ty.rank()).collect();
    let turned = site.transpose(x, perm.clone())?;
    let shape = site.ty(turned).shape;
    let places = product(shape.get(1..).unwrap_or_default())?;
    let flat = site.reshape(turned, vec![Dim::Known(1), count.clone(), places])?;
    let op = Normalize::GroupNorm { groups: count, eps };
    let normalised = site.emit(Op::Normalize(op), &[flat, scale, bias])?;
    let normalised = site.reshape(normalised, shape)?;
    let result = site.transpose(normalised, perm)?;
    site.output(0, result)?;
    let mean = |site: &mut Site, x: Value| {
        let axes = vec![0, 2];
        site.emit(Op::Reduce(Reduce { kind: ReduceKind::Mean, axes, keep: false }), &[x])
    };
    if !site.has_output(1) && !site.has_output(2) {
        return Ok(());
    }
    let average = mean(site, flat)?;
    let wide = site.reshape(average, vec![Dim::Known(1), site.ty(average).shape[0].clone(), Dim::Known(1)])?;
    let difference = site.binary(Binary::Sub, flat, wide)?;
    let square = site.binary(Binary::Mul, difference, difference)?;
    let variance = mean(site, square)?;
    for (output, (index, found)) in [(3, average), (4, variance)].into_iter().enumerate() {
        let before = parameter(site, index, x)?;
        let result = towards(site, before, found, momentum)?;
        site.output(output.saturating_add(1), result)?;
    }
    Ok(())
}

/// `before·momentum + found·(1 − momentum)`.
fn towards(site: &mut Site, before: Value, found: Value, momentum: f64) -> Lowered<Value> {
    let kept = site.unary(Function::Scale, [momentum, 0.0], before)?;
    let new = site.unary(Function::Scale, [1.0 - momentum, 0.0], found)?;
    let shape: TensorType = site.ty(kept);
    let new = site.reshape(new, shape.shape)?;
    site.binary(Binary::Add, kept, new)
}
