//! Choice of slices by index, and the other way round.
//!
//! Every operator here becomes one `gather` or `scatter_add`: what is chosen along several axes is chosen along one,
//! to which they are merged.

use lrpc_ir::ops::{Binary, Compare, Elementwise, Movement, Select};
use lrpc_ir::types::{DType, Float, TensorType, product};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid, unsupported};
use super::known::Known;
use super::site::{Site, axis};
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("Gather", 1, gather).folding(fold_gather),
    OpDef::new("GatherElements", 11, gather_elements),
    OpDef::new("GatherND", 11, gather_nd),
    OpDef::new("ScatterElements", 11, scatter_elements),
    OpDef::new("ScatterND", 11, scatter_nd),
];

/// One known index is a slice; others stay a gather.
fn gather(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let ty = site.ty(x);
    let along = axis(site.int_or("axis", 0)?, ty.rank())?;
    let single = site.known(1).filter(|known| known.shape.is_empty()).and_then(|known| known.elements.first());
    let size = ty.shape.get(along).cloned().unwrap_or(Dim::Known(0));
    let result = match single.and_then(Dim::known) {
        Some(index) => {
            let start = if index < 0 { size.add(&Dim::Known(index))? } else { Dim::Known(index) };
            let slice = Movement::slice_axis(&ty, along, start, Dim::Known(1));
            let part = site.emit(Op::Movement(slice), &[x])?;
            let shape = ty.shape.iter().enumerate().filter(|(axis, _)| *axis != along).map(|(_, size)| size.clone());
            site.reshape(part, shape.collect())?
        }
        None => {
            let index = site.input(1)?;
            site.emit(Op::Select(Select::Gather { axis: along, batch: 0 }), &[x, index])?
        }
    };
    site.output(0, result)
}

fn fold_gather(site: &mut Site) -> Lowered<Option<Known>> {
    let (Some(known), Some(index)) = (site.known(0).cloned(), site.known(1).cloned()) else { return Ok(None) };
    let along = axis(site.int_or("axis", 0)?, known.shape.len())?;
    let (Some(&size), Some(indices)) = (known.shape.get(along), index.numbers()) else { return Ok(None) };
    let place = |index: i64| {
        let counted = if index < 0 { index.checked_add(i64::try_from(size).ok()?)? } else { index };
        usize::try_from(counted).ok()
    };
    let Some(places) = indices.into_iter().map(place).collect::<Option<Vec<usize>>>() else { return Ok(None) };
    let mut shape = known.shape.clone();
    shape.splice(along..=along, index.shape);
    Ok(known.take(along, &places).and_then(|taken| taken.reshaped(shape)))
}

// One index per element.

/// `y[…, i, …] = x[…, index[…, i, …], …]`: all axes but one are walked together.
fn gather_elements(site: &mut Site) -> Lowered {
    let (x, index) = (site.input(0)?, site.input(1)?);
    let along = axis(site.int_or("axis", 0)?, site.ty(x).rank())?;
    let result = elements_at(site, x, index, along)?;
    site.output(0, result)
}

/// The elements of `x` at the places along `along` that `index`, of the same rank, names.
pub(super) fn elements_at(site: &mut Site, x: Value, index: Value, along: usize) -> Lowered<Value> {
    let (mut ty, places) = (site.ty(x), site.ty(index));
    if ty.rank() != places.rank() {
        return invalid(format!("the index {places} has not the rank of the data {ty}"));
    }
    let mut x = x;
    for (axis, size) in places.shape.iter().enumerate() {
        if axis != along && ty.shape.get(axis) != Some(size) {
            let part = Movement::slice_axis(&ty, axis, Dim::Known(0), size.clone());
            x = site.emit(Op::Movement(part), &[x])?;
            ty = site.ty(x);
        }
    }
    let (to_end, back) = to_end(ty.rank(), along);
    let (x, index) = (site.transpose(x, to_end.clone())?, site.transpose(index, to_end)?);
    let last = ty.rank().saturating_sub(1);
    let chosen = site.emit(Op::Select(Select::Gather { axis: last, batch: last }), &[x, index])?;
    site.transpose(chosen, back)
}

/// The permutation that makes axis `along` the last one, and the one that undoes it.
fn to_end(rank: usize, along: usize) -> (Vec<usize>, Vec<usize>) {
    let there: Vec<usize> = (0..rank).filter(|axis| *axis != along).chain([along]).collect();
    let last = rank.saturating_sub(1);
    let back = (0..rank).map(|axis| match axis.cmp(&along) {
        std::cmp::Ordering::Less => axis,
        std::cmp::Ordering::Equal => last,
        std::cmp::Ordering::Greater => axis.saturating_sub(1),
    });
    (there, back.collect())
}

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

// One index per slice.

fn gather_nd(site: &mut Site) -> Lowered {
    let (x, index) = (site.input(0)?, site.input(1)?);
    let batch = usize::try_from(site.int_or("batch_dims", 0)?).unwrap_or(usize::MAX);
    let (x, index) = merge_axes(site, x, index, batch)?;
    let result = site.emit(Op::Select(Select::Gather { axis: batch, batch }), &[x, index])?;
    site.output(0, result)
}

fn scatter_nd(site: &mut Site) -> Lowered {
    let (data, index, updates) = (site.input(0)?, site.input(1)?, site.input(2)?);
    let whole = site.ty(data).shape;
    let (data, index) = merge_axes(site, data, index, 0)?;
    let Some(size) = site.ty(data).shape.first().cloned() else { return invalid("the data is a scalar") };
    let unique_indices = site.word_or("reduction", "none")? == "none";
    let scatter = Op::Select(Select::ScatterAdd { axis: 0, batch: 0, size, unique_indices });
    let merged =
        merge(site, data, updates, index, |site, updates, index| site.emit(scatter.clone(), &[updates, index]))?;
    let result = site.reshape(merged, whole)?;
    site.output(0, result)
}

/// The operand with the axes behind the first `batch` that the index's last axis names merged to one, and the index
/// into that, without its last axis.
fn merge_axes(site: &mut Site, x: Value, index: Value, batch: usize) -> Lowered<(Value, Value)> {
    let (ty, places) = (site.ty(x), site.ty(index));
    let Some((Dim::Known(count), rest)) = places.shape.split_last() else {
        return unsupported(format!("the last axis of the index {places} has no fixed length"));
    };
    let end = usize::try_from(*count).ok().and_then(|count| batch.checked_add(count));
    let merged = end.and_then(|end| ty.shape.get(batch..end)).filter(|axes| !axes.is_empty());
    let (Some(axes), Some(end)) = (merged, end) else {
        return invalid(format!("the index {places} names axes that {ty} does not have"));
    };
    let outer = ty.shape.iter().take(batch).cloned();
    let shape = outer.chain([product(axes)?]).chain(ty.shape.iter().skip(end).cloned()).collect();
    let index = site.cast(index, DType::I64)?;
    let merged = match axes {
        [_] => site.reshape(index, rest.to_vec())?,
        _ => flat_index(site, index, axes)?,
    };
    Ok((site.reshape(x, shape)?, merged))
}

/// The row-major place of each tuple of the index in a tensor with these axes. An entry outside of its axis leads
/// outside of the tensor, where reading is an error.
fn flat_index(site: &mut Site, index: Value, axes: &[Dim]) -> Lowered<Value> {
    let ty = site.ty(index);
    let last = ty.rank().saturating_sub(1);
    let total = site.size(&product(axes)?)?;
    let mut flat = None;
    for (place, size) in (0_i64..).zip(axes) {
        let part = Movement::slice_axis(&ty, last, Dim::Known(place), Dim::Known(1));
        let part = site.emit(Op::Movement(part), &[index])?;
        let part = site.reshape(part, ty.shape.iter().take(last).cloned().collect())?;
        let size = site.size(size)?;
        let part = inside(site, part, size, total)?;
        flat = Some(match flat {
            None => part,
            Some(flat) => {
                let row = site.binary(Binary::Mul, flat, size)?;
                site.binary(Binary::Add, row, part)?
            }
        });
    }
    flat.map_or_else(|| invalid("the index names no axis"), Ok)
}

/// The index as a place along an axis of that size; `beyond` where there is none.
fn inside(site: &mut Site, index: Value, size: Value, beyond: Value) -> Lowered<Value> {
    let place = count_from_end(site, index, size)?;
    let zero = site.size(&Dim::Known(0))?;
    let above = site.elementwise(Elementwise::Compare(Compare::GreaterOrEqual), &[place, zero])?;
    let below = site.elementwise(Elementwise::Compare(Compare::Less), &[place, size])?;
    let fits = site.binary(Binary::And, above, below)?;
    site.elementwise(Elementwise::Where, &[fits, place, beyond])
}

/// The index with `size` added where it is negative.
pub(super) fn count_from_end(site: &mut Site, index: Value, size: Value) -> Lowered<Value> {
    let zero = site.size(&Dim::Known(0))?;
    let negative = site.elementwise(Elementwise::Compare(Compare::Less), &[index, zero])?;
    let counted = site.binary(Binary::Add, index, size)?;
    site.elementwise(Elementwise::Where, &[negative, counted, index])
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
