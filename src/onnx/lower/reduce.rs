//! Reductions over axes.

use lrpc_ir::Value;
use lrpc_ir::ops::{Binary, Function, Reduce, ReduceKind};
use lrpc_ir::types::DType;
use lrpc_ir::{Dim, Op};

use super::finding::Lowered;
use super::known::Known;
use super::site::{Site, axis};
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("ReduceSum", 1, |site| plain(site, ReduceKind::Sum)).folding(|site| fold(site, Dim::add)),
    OpDef::new("ReduceMean", 1, |site| plain(site, ReduceKind::Mean)),
    OpDef::new("ReduceMax", 1, |site| plain(site, ReduceKind::Max)).folding(|site| fold(site, Dim::maximum)),
    OpDef::new("ReduceMin", 1, |site| plain(site, ReduceKind::Min)).folding(|site| fold(site, Dim::minimum)),
    OpDef::new("ReduceProd", 1, |site| plain(site, ReduceKind::Product)).folding(|site| fold(site, Dim::mul)),
    OpDef::new("ReduceL1", 1, norm_1),
    OpDef::new("ReduceL2", 1, norm_2),
    OpDef::new("ReduceSumSquare", 1, sum_of_squares),
    OpDef::new("ReduceLogSum", 1, log_of_sum),
    OpDef::new("ReduceLogSumExp", 1, log_of_sum_of_exponentials),
    OpDef::new("GlobalAveragePool", 1, |site| global(site, ReduceKind::Mean)),
    OpDef::new("GlobalMaxPool", 1, |site| global(site, ReduceKind::Max)),
];

/// The axes of a reduction, ascending: an attribute, from opset 13 (`ReduceSum`) or 18 on an input. `None` where an empty
/// list means that nothing is reduced.
fn axes(site: &mut Site, rank: usize) -> Lowered<Option<Vec<usize>>> {
    let attribute = site.ints("axes")?;
    let noop = site.flag("noop_with_empty_axes", false)?;
    let stated = if attribute.is_some() { attribute } else { site.numbers(1)? };
    let listed = stated.unwrap_or_default();
    if listed.is_empty() {
        return Ok(if noop { None } else { Some((0..rank).collect()) });
    }
    let mut axes = listed.into_iter().map(|value| axis(value, rank)).collect::<Lowered<Vec<usize>>>()?;
    axes.sort_unstable();
    axes.dedup();
    Ok(Some(axes))
}

/// Reduces `x` by `kind` over the node's axes.
fn reduce(site: &mut Site, x: Value, kind: ReduceKind) -> Lowered<Value> {
    let keep = site.flag("keepdims", true)?;
    match axes(site, site.ty(x).rank())? {
        None => Ok(x),
        // Over no axes at all, which only a scalar has.
        Some(axes) if axes.is_empty() => Ok(x),
        Some(axes) => site.emit(Op::Reduce(Reduce { kind, axes, keep }), &[x]),
    }
}

fn plain(site: &mut Site, kind: ReduceKind) -> Lowered {
    let x = site.input(0)?;
    let dtype = site.ty(x).dtype;
    // The mean of integers is rounded towards zero.
    let wide = kind == ReduceKind::Mean && !dtype.is_float();
    let x = if wide { site.cast(x, DType::F64)? } else { x };
    let result = reduce(site, x, kind)?;
    let result = site.cast(result, dtype)?;
    site.output(0, result)
}

/// A reduction of known integers to one.
fn fold(site: &mut Site, combine: fn(&Dim, &Dim) -> Result<Dim, lrpc_ir::DimError>) -> Lowered<Option<Known>> {
    let Some(known) = site.known(0).cloned() else { return Ok(None) };
    let keep = site.flag("keepdims", true)?;
    let whole = axes(site, known.shape.len())?.is_some_and(|axes| axes.len() == known.shape.len());
    let Some((first, rest)) = known.elements.split_first().filter(|_| whole) else { return Ok(None) };
    let result = rest.iter().try_fold(first.clone(), |total, element| combine(&total, element))?;
    let shape = if keep { vec![1; known.shape.len()] } else { vec![] };
    Ok(Some(Known { dtype: known.dtype, shape, elements: vec![result] }))
}

fn global(site: &mut Site, kind: ReduceKind) -> Lowered {
    let x = site.input(0)?;
    let spatial = super::linear::spatial(site, x)?;
    let axes = (2..spatial.len().saturating_add(2)).collect();
    let result = site.emit(Op::Reduce(Reduce { kind, axes, keep: true }), &[x])?;
    site.output(0, result)
}

fn norm_1(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let magnitude = site.unary(Function::Abs, [0.0; 2], x)?;
    let result = reduce(site, magnitude, ReduceKind::Sum)?;
    site.output(0, result)
}

fn norm_2(site: &mut Site) -> Lowered {
    let sum = squares(site)?;
    let result = site.unary(Function::Sqrt, [0.0; 2], sum)?;
    site.output(0, result)
}

fn sum_of_squares(site: &mut Site) -> Lowered {
    let sum = squares(site)?;
    site.output(0, sum)
}

fn squares(site: &mut Site) -> Lowered<Value> {
    let x = site.input(0)?;
    let square = site.binary(Binary::Mul, x, x)?;
    reduce(site, square, ReduceKind::Sum)
}

fn log_of_sum(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let sum = reduce(site, x, ReduceKind::Sum)?;
    let result = site.unary(Function::Log, [0.0; 2], sum)?;
    site.output(0, result)
}

/// `m + ln Σ e^(x − m)` with the largest element m, so that nothing overflows.
fn log_of_sum_of_exponentials(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let keep = site.flag("keepdims", true)?;
    let Some(axes) = axes(site, site.ty(x).rank())? else { return site.output(0, x) };
    let over = |kind, keep| Op::Reduce(Reduce { kind, axes: axes.clone(), keep });
    let largest = site.emit(over(ReduceKind::Max, true), &[x])?;
    let difference = site.binary(Binary::Sub, x, largest)?;
    let exponential = site.unary(Function::Exp, [0.0; 2], difference)?;
    let sum = site.emit(over(ReduceKind::Sum, keep), &[exponential])?;
    let logarithm = site.unary(Function::Log, [0.0; 2], sum)?;
    let shape = site.ty(logarithm).shape;
    let largest = site.reshape(largest, shape)?;
    let result = site.binary(Binary::Add, logarithm, largest)?;
    site.output(0, result)
}
