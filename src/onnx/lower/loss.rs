//! Losses of classifiers.

use lrpc_ir::ops::{Binary, Compare, Elementwise, Function, Normalize, Reduce, ReduceKind, Select};
use lrpc_ir::types::{DType, TensorType};
use lrpc_ir::{Op, Value};

use super::finding::{Lowered, invalid};
use super::gather::elements_at;
use super::site::Site;
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("NegativeLogLikelihoodLoss", 12, |site| {
        let x = site.input(0)?;
        let loss = negative_log_likelihood(site, x)?;
        site.output(0, loss)
    }),
    OpDef::new("SoftmaxCrossEntropyLoss", 12, |site| {
        let x = site.input(0)?;
        let logarithms = site.emit(Op::Normalize(Normalize::LogSoftmax { axis: 1 }), &[x])?;
        let loss = negative_log_likelihood(site, logarithms)?;
        site.output(0, loss)?;
        site.output(1, logarithms)
    }),
];

/// `−w[t]·x[n, t, …]` for the class `t` of each place, and its sum or mean weighted by `w`. Places whose class is
/// `ignore_index` count for nothing.
fn negative_log_likelihood(site: &mut Site, x: Value) -> Lowered<Value> {
    let (ty, mut target) = (site.ty(x), site.input(1)?);
    let places = site.ty(target).shape;
    if ty.rank() < 2 || ty.rank() != places.len().saturating_add(1) {
        return invalid(format!("scores {ty} and {} classes do not belong together", site.ty(target)));
    }
    let mut weights = None;
    if let Some(ignored) = site.int("ignore_index")? {
        let dtype = site.ty(target).dtype;
        let (ignored, zero) = (scalar(site, dtype, ignored)?, scalar(site, dtype, 0)?);
        let skipped = site.elementwise(Elementwise::Compare(Compare::Equal), &[target, ignored])?;
        target = site.elementwise(Elementwise::Where, &[skipped, zero, target])?;
        let counted = site.unary(Function::Not, [0.0; 2], skipped)?;
        weights = Some(site.cast(counted, ty.dtype)?);
    }
    if let Some(classes) = site.optional_input(2)? {
        let chosen = site.emit(Op::Select(Select::Gather { axis: 0, batch: 0 }), &[classes, target])?;
        weights = Some(match weights {
            Some(counted) => site.binary(Binary::Mul, counted, chosen)?,
            None => chosen,
        });
    }
    let mut column = places.clone();
    column.insert(1, 1.into());
    let index = site.reshape(target, column)?;
    let chosen = elements_at(site, x, index, 1)?;
    let chosen = site.reshape(chosen, places)?;
    let mut loss = site.unary(Function::Neg, [0.0; 2], chosen)?;
    if let Some(weights) = weights {
        loss = site.binary(Binary::Mul, loss, weights)?;
    }
    match (site.word_or("reduction", "mean")?.as_str(), weights) {
        ("none", _) => Ok(loss),
        ("sum", _) => over_all(site, loss, ReduceKind::Sum),
        ("mean", None) => over_all(site, loss, ReduceKind::Mean),
        ("mean", Some(weights)) => {
            let (sum, total) = (over_all(site, loss, ReduceKind::Sum)?, over_all(site, weights, ReduceKind::Sum)?);
            site.binary(Binary::Div, sum, total)
        }
        (other, _) => invalid(format!("reduction is {other:?}")),
    }
}

fn scalar(site: &mut Site, dtype: DType, value: i64) -> Lowered<Value> {
    site.filled(TensorType::new(dtype, Vec::new()), value as f64)
}

fn over_all(site: &mut Site, x: Value, kind: ReduceKind) -> Lowered<Value> {
    let axes = (0..site.ty(x).rank()).collect();
    site.emit(Op::Reduce(Reduce { kind, axes, keep: false }), &[x])
}
