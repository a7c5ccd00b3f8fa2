//! Choice of slices by index.
//!
//! Every operator here becomes one `gather`: what is chosen along several axes is chosen along one, to which they are
//! merged.

use lrpc_ir::ops::{Binary, Compare, Elementwise, Function, Movement, Select, Source};
use lrpc_ir::types::{DType, TensorType, product};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid, unsupported};
use super::known::Known;
use super::site::{Site, axis};
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("Gather", 1, gather).folding(fold_gather),
    OpDef::new("GatherElements", 11, gather_elements),
    OpDef::new("GatherND", 11, gather_nd),
    OpDef::new("ReverseSequence", 10, reverse_sequence),
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
pub(super) fn to_end(rank: usize, along: usize) -> (Vec<usize>, Vec<usize>) {
    let there: Vec<usize> = (0..rank).filter(|axis| *axis != along).chain([along]).collect();
    let last = rank.saturating_sub(1);
    let back = (0..rank).map(|axis| match axis.cmp(&along) {
        std::cmp::Ordering::Less => axis,
        std::cmp::Ordering::Equal => last,
        std::cmp::Ordering::Greater => axis.saturating_sub(1),
    });
    (there, back.collect())
}

// One index per slice.

fn gather_nd(site: &mut Site) -> Lowered {
    let (x, index) = (site.input(0)?, site.input(1)?);
    let batch = usize::try_from(site.int_or("batch_dims", 0)?).unwrap_or(usize::MAX);
    let (x, index) = merge_axes(site, x, index, batch)?;
    let result = site.emit(Op::Select(Select::Gather { axis: batch, batch }), &[x, index])?;
    site.output(0, result)
}

/// The operand with the axes behind the first `batch` that the index's last axis names merged to one, and the index
/// into that, without its last axis.
pub(super) fn merge_axes(site: &mut Site, x: Value, index: Value, batch: usize) -> Lowered<(Value, Value)> {
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

/// Place t of a sequence is taken from place `length − 1 − t` as long as t lies in the sequence, and from t behind it.
fn reverse_sequence(site: &mut Site) -> Lowered {
    let (x, lengths) = (site.input(0)?, site.input(1)?);
    let rank = site.ty(x).rank();
    let batch = axis(site.int_or("batch_axis", 1)?, rank)?;
    let time = axis(site.int_or("time_axis", 0)?, rank)?;
    if batch.max(time) != 1 || batch == time {
        return invalid(format!("batch_axis is {batch} and time_axis {time}; one is 0, the other 1"));
    }
    let perm: Vec<usize> = [batch, time].into_iter().chain(2..rank).collect();
    let x = site.transpose(x, perm.clone())?;
    let [samples, steps] = [0, 1].map(|axis| site.ty(x).shape.get(axis).cloned().unwrap_or(Dim::Known(0)));
    let ty = TensorType::new(DType::I64, vec![samples.clone(), steps]);
    let place = site.emit(Op::Source(Source::Iota { axis: 1, ty }), &[])?;
    let lengths = site.cast(lengths, DType::I64)?;
    let lengths = site.reshape(lengths, vec![samples, Dim::Known(1)])?;
    let last = site.unary(Function::Shift, [-1.0, 0.0], lengths)?;
    let mirrored = site.binary(Binary::Sub, last, place)?;
    let inside = site.elementwise(Elementwise::Compare(Compare::Less), &[place, lengths])?;
    let index = site.elementwise(Elementwise::Where, &[inside, mirrored, place])?;
    let reversed = site.emit(Op::Select(Select::Gather { axis: 1, batch: 1 }), &[x, index])?;
    let result = site.transpose(reversed, perm)?;
    site.output(0, result)
}
