//! Updates of a copy of the data at places that an index names.
//!
//! Without a reduction, and with addition, that is one `scatter_add`: what is named along several axes is named along one,
//! to which they are merged. A product, a smallest or a largest of updates and data is computed over all updates with a
//! neutral number in place of those that are for another place, so that the winner, or every factor, is known.

use lrpc_ir::ops::{Binary, Compare, Elementwise, Movement, Reduce, ReduceKind, Select, Source};
use lrpc_ir::types::{DType, Float, TensorType, product};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid, unsupported};
use super::gather::{count_from_end, merge_axes, to_end};
use super::site::{Site, axis};
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("Scatter", 9, scatter_elements),
    OpDef::new("ScatterElements", 11, scatter_elements),
    OpDef::new("ScatterND", 11, scatter_nd),
    OpDef::new("TensorScatter", 24, tensor_scatter),
];

/// As `y[…, index[…, i, …], …] = updates[…, i, …]`, in a copy of the data.
fn scatter_elements(site: &mut Site) -> Lowered {
    let (data, index, updates) = (site.input(0)?, site.input(1)?, site.input(2)?);
    let ty = site.ty(data);
    let along = axis(site.int_or("axis", 0)?, ty.rank())?;
    let (to_end, back) = to_end(ty.rank(), along);
    let data = site.transpose(data, to_end.clone())?;
    let (index, updates) = (site.transpose(index, to_end.clone())?, site.transpose(updates, to_end)?);
    let whole = site.ty(data).shape;
    let Some(size) = whole.last().cloned() else { return invalid("the data is a scalar") };
    let batch = ty.rank().saturating_sub(1);
    let unique_indices = site.word_or("reduction", "none")? == "none";
    let scatter = Op::Select(Select::ScatterAdd { axis: batch, batch, size, unique_indices });
    if let Some(combine) = combination(site)? {
        let merged = combined(site, data, updates, index, batch, combine)?;
        let result = site.transpose(merged, back)?;
        return site.output(0, result);
    }
    let merged = merge(site, data, updates, index, |site, updates, index| {
        let placed = site.emit(scatter.clone(), &[updates, index])?;
        // What the index does not reach along the other axes stays as it is.
        let (before, steps) = (vec![Dim::Known(0); whole.len()], vec![1; whole.len()]);
        let pad = Movement::Pad { before, steps, value: Float(0.0), shape: whole.clone() };
        if site.ty(placed).shape == whole { Ok(placed) } else { site.emit(Op::Movement(pad), &[placed]) }
    })?;
    let result = site.transpose(merged, back)?;
    site.output(0, result)
}

fn scatter_nd(site: &mut Site) -> Lowered {
    let (data, index, updates) = (site.input(0)?, site.input(1)?, site.input(2)?);
    let whole = site.ty(data).shape;
    let (data, index) = merge_axes(site, data, index, 0)?;
    let Some(size) = site.ty(data).shape.first().cloned() else { return invalid("the data is a scalar") };
    let unique_indices = site.word_or("reduction", "none")? == "none";
    let scatter = Op::Select(Select::ScatterAdd { axis: 0, batch: 0, size, unique_indices });
    if let Some(combine) = combination(site)? {
        let places = vec![product(&site.ty(index).shape)?];
        let rest = site.ty(data).shape.into_iter().skip(1);
        let updates = site.reshape(updates, places.iter().cloned().chain(rest).collect())?;
        let index = site.reshape(index, places)?;
        let merged = combined(site, data, updates, index, 0, combine)?;
        let result = site.reshape(merged, whole)?;
        return site.output(0, result);
    }
    let merged =
        merge(site, data, updates, index, |site, updates, index| site.emit(scatter.clone(), &[updates, index]))?;
    let result = site.reshape(merged, whole)?;
    site.output(0, result)
}

/// The data with updates in it: `scatter` adds values to zeros at the places of the index. Without a reduction the
/// specification asks for places that differ, so that each sum has one summand.
fn merge(
    site: &mut Site,
    data: Value,
    updates: Value,
    index: Value,
    scatter: impl Fn(&mut Site, Value, Value) -> Lowered<Value>,
) -> Lowered<Value> {
    let ty = site.ty(data);
    let number = if ty.dtype == DType::Bool { DType::I32 } else { ty.dtype };
    let updates = site.cast(updates, number)?;
    let sums = scatter(site, updates, index)?;
    match site.word_or("reduction", "none")?.as_str() {
        "none" => {}
        "add" if ty.dtype != DType::Bool => return site.binary(Binary::Add, data, sums),
        other => return unsupported(format!("the reduction {other:?}")),
    }
    let ones = site.ty(updates).with_dtype(DType::I32);
    let ones = site.filled(ones, 1.0)?;
    let counts = scatter(site, ones, index)?;
    let zero = site.filled(TensorType::new(DType::I32, Vec::new()), 0.0)?;
    let hit = site.elementwise(Elementwise::Compare(Compare::Greater), &[counts, zero])?;
    let sums = site.cast(sums, ty.dtype)?;
    site.emit(Op::Elementwise(Elementwise::Where), &[hit, sums, data])
}

/// How data and updates are combined, where that is no sum: the reduction over updates, and what joins it to the data.
fn combination(site: &mut Site) -> Lowered<Option<(ReduceKind, Binary)>> {
    Ok(match site.word_or("reduction", "none")?.as_str() {
        "mul" => Some((ReduceKind::Product, Binary::Mul)),
        "max" => Some((ReduceKind::Max, Binary::Max)),
        "min" => Some((ReduceKind::Min, Binary::Min)),
        _ => None,
    })
}

/// The number that changes nothing. Integers of 64 bits without sign have none that a literal can hold.
fn neutral(dtype: DType, kind: ReduceKind) -> Option<f64> {
    Some(match kind {
        ReduceKind::Product => 1.0,
        _ if dtype == DType::Bool => return None,
        ReduceKind::Max if dtype.is_float() => f64::NEG_INFINITY,
        ReduceKind::Min if dtype.is_float() => f64::INFINITY,
        ReduceKind::Max => match dtype {
            DType::I8 => f64::from(i8::MIN),
            DType::I16 => f64::from(i16::MIN),
            DType::I32 => f64::from(i32::MIN),
            DType::I64 => i64::MIN as f64,
            _ => 0.0,
        },
        _ => match dtype {
            DType::I8 => f64::from(i8::MAX),
            DType::I16 => f64::from(i16::MAX),
            DType::I32 => f64::from(i32::MAX),
            DType::I64 => i64::MAX as f64,
            DType::U8 => f64::from(u8::MAX),
            DType::U16 => f64::from(u16::MAX),
            DType::U32 => f64::from(u32::MAX),
            _ => return None,
        },
    })
}

/// The data `[batch…, size, …]` combined with updates `[batch…, picks, …]` at the places that `index`, `[batch…, picks]`,
/// names. An index that is shorter than the data along a batch axis reaches its first part.
fn combined(
    site: &mut Site,
    data: Value,
    updates: Value,
    index: Value,
    batch: usize,
    (kind, join): (ReduceKind, Binary),
) -> Lowered<Value> {
    let (ty, places) = (site.ty(data), site.ty(index));
    let Some(neutral) = neutral(ty.dtype, kind) else {
        return unsupported(format!("a reduction of {}", ty.dtype));
    };
    let Some(size) = ty.shape.get(batch).cloned() else { return invalid("the data is a scalar") };
    let picks = places.shape.get(batch).cloned().unwrap_or(Dim::Known(1));
    let inner: Vec<Dim> = ty.shape.iter().skip(batch.saturating_add(1)).cloned().collect();
    let outer: Vec<Dim> = places.shape.iter().take(batch).cloned().collect();
    let ones = inner.iter().map(|_| Dim::Known(1));
    let of =
        |middle: [Dim; 2], inner: Vec<Dim>| -> Vec<Dim> { outer.iter().cloned().chain(middle).chain(inner).collect() };
    let index = site.cast(index, DType::I64)?;
    let length = site.size(&size)?;
    let index = count_from_end(site, index, length)?;
    let index = site.reshape(index, of([picks.clone(), Dim::Known(1)], ones.collect()))?;
    let whole = of([picks.clone(), size], inner.clone());
    let place = TensorType::new(DType::I64, whole.clone());
    let place = site.emit(Op::Source(Source::Iota { axis: batch.saturating_add(1), ty: place }), &[])?;
    let hit = site.elementwise(Elementwise::Compare(Compare::Equal), &[index, place])?;
    let updates = site.reshape(updates, of([picks, Dim::Known(1)], inner))?;
    let other = site.filled(TensorType::new(ty.dtype, Vec::new()), neutral)?;
    let chosen = site.elementwise(Elementwise::Where, &[hit, updates, other])?;
    let mut reduced = site.emit(Op::Reduce(Reduce { kind, axes: vec![batch], keep: false }), &[chosen])?;
    if site.ty(reduced).shape != ty.shape {
        let (before, steps) = (vec![Dim::Known(0); ty.rank()], vec![1; ty.rank()]);
        let pad = Movement::Pad { before, steps, value: Float(neutral), shape: ty.shape.clone() };
        reduced = site.emit(Op::Movement(pad), &[reduced])?;
    }
    site.binary(join, data, reduced)
}

/// A cache along whose axis the updates of each sample start at a place of its own, and go on from the beginning where
/// the cache is circular.
fn tensor_scatter(site: &mut Site) -> Lowered {
    let (cache, updates) = (site.input(0)?, site.input(1)?);
    let ty = site.ty(cache);
    let along = axis(site.int_or("axis", -2)?, ty.rank())?;
    if along == 0 {
        return invalid("axis is that of the batch");
    }
    let circular = match site.word_or("mode", "linear")?.as_str() {
        "linear" => false,
        "circular" => true,
        other => return invalid(format!("mode is {other:?}")),
    };
    let perm: Vec<usize> = [0, along].into_iter().chain((1..ty.rank()).filter(|axis| *axis != along)).collect();
    let back = (0..ty.rank()).map(|axis| perm.iter().position(|from| *from == axis).unwrap_or(axis)).collect();
    let (cache, updates) = (site.transpose(cache, perm.clone())?, site.transpose(updates, perm)?);
    let sizes = |value, site: &Site| -> [Dim; 2] {
        let shape = site.ty(value).shape;
        [0, 1].map(|axis| shape.get(axis).cloned().unwrap_or(Dim::Known(0)))
    };
    let [samples, steps] = sizes(updates, site);
    let [_, size] = sizes(cache, site);
    let places = TensorType::new(DType::I64, vec![samples.clone(), steps]);
    let mut index = site.emit(Op::Source(Source::Iota { axis: 1, ty: places }), &[])?;
    if let Some(start) = site.optional_input(2)? {
        let start = site.cast(start, DType::I64)?;
        let start = site.reshape(start, vec![samples, Dim::Known(1)])?;
        index = site.binary(Binary::Add, index, start)?;
        if circular {
            let length = site.size(&size)?;
            index = site.binary(Binary::Mod, index, length)?;
        }
    }
    let scatter = Op::Select(Select::ScatterAdd { axis: 1, batch: 1, size, unique_indices: true });
    let merged =
        merge(site, cache, updates, index, |site, updates, index| site.emit(scatter.clone(), &[updates, index]))?;
    let result = site.transpose(merged, back)?;
    site.output(0, result)
}
