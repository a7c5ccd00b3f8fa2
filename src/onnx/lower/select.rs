//! Choice of elements by their value or their place.

use lrpc_ir::ops::{Binary, Compare, Elementwise, Movement, Select, Source};
use lrpc_ir::types::{DType, TensorType, product};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid, unsupported};
use super::gather::{count_from_end, elements_at};
use super::number::Number;
use super::site::{Site, axis};
use super::table::OpDef;
use crate::onnx::tensor::element_type;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("ArgMax", 1, |site| extreme(site, |axis| Select::ArgMax { axis })),
    OpDef::new("ArgMin", 1, |site| extreme(site, |axis| Select::ArgMin { axis })),
    OpDef::new("Hardmax", 1, |site| hardmax(site, true)),
    OpDef::new("Hardmax", 13, |site| hardmax(site, false)),
    OpDef::new("TopK", 1, top_k),
    OpDef::new("OneHot", 9, one_hot),
    OpDef::new("Trilu", 14, triangle),
    OpDef::new("EyeLike", 9, eye_like),
];

fn extreme(site: &mut Site, op: fn(usize) -> Select) -> Lowered {
    let last = site.flag("select_last_index", false)?;
    let x = site.input(0)?;
    let mut shape = site.ty(x).shape;
    let along = axis(site.int_or("axis", 0)?, shape.len())?;
    let result = if last { last_of_equals(site, x, along, op)? } else { site.emit(Op::Select(op(along)), &[x])? };
    let mut result = result;
    if site.flag("keepdims", true)? {
        if let Some(size) = shape.get_mut(along) {
            *size = Dim::Known(1);
        }
        result = site.reshape(result, shape)?;
    }
    site.output(0, result)
}

/// The first from the end, counted from the start.
fn last_of_equals(site: &mut Site, x: Value, along: usize, op: fn(usize) -> Select) -> Lowered<Value> {
    let shape = site.ty(x).shape;
    let Some(last) = shape.get(along).map(|size| size.sub(&Dim::Known(1))).transpose()? else { return Ok(x) };
    let at = |axis: usize| axis == along;
    let starts = (0..shape.len()).map(|axis| if at(axis) { last.clone() } else { Dim::Known(0) }).collect();
    let steps = (0..shape.len()).map(|axis| if at(axis) { -1 } else { 1 }).collect();
    let turned = site.emit(Op::Movement(Movement::Slice { starts, steps, shape }), &[x])?;
    let place = site.emit(Op::Select(op(along)), &[turned])?;
    let last = site.size(&last)?;
    site.binary(Binary::Sub, last, place)
}

/// 1 at the first largest element along the axis, 0 elsewhere. Before opset 13 all axes from `axis` on count as one.
fn hardmax(site: &mut Site, flattened: bool) -> Lowered {
    let x = site.input(0)?;
    let ty = site.ty(x);
    let along = axis(site.int_or("axis", if flattened { 1 } else { -1 })?, ty.rank())?;
    let (flat, along) = if flattened {
        let (outer, inner) = ty.shape.split_at(along);
        (site.reshape(x, vec![product(outer)?, product(inner)?])?, 1)
    } else {
        (x, along)
    };
    let shape = site.ty(flat).shape;
    let depth = shape.get(along).cloned().unwrap_or(Dim::Known(0));
    let winner = site.emit(Op::Select(Select::ArgMax { axis: along }), &[flat])?;
    let hot = site.emit(Op::Select(Select::OneHot { depth, dtype: ty.dtype }), &[winner])?;
    let last = shape.len().saturating_sub(1);
    let result = site.transpose(hot, (0..along).chain([last]).chain(along..last).collect())?;
    let result = site.reshape(result, ty.shape)?;
    site.output(0, result)
}

/// Ones on a diagonal, in the shape of the input.
fn eye_like(site: &mut Site) -> Lowered {
    let ty = site.input_type(0)?;
    let number = site.int("dtype")?.and_then(|number| i32::try_from(number).ok());
    let dtype = match number.map(element_type) {
        None => ty.dtype,
        Some(Some(dtype)) => dtype,
        Some(None) => return unsupported(format!("element type number {}", number.unwrap_or_default())),
    };
    let shift = site.int_or("k", 0)?;
    let places = TensorType::new(DType::I64, ty.shape);
    let row = site.emit(Op::Source(Source::Iota { axis: 0, ty: places.clone() }), &[])?;
    let column = site.emit(Op::Source(Source::Iota { axis: 1, ty: places }), &[])?;
    let shift = site.size(&Dim::Known(shift))?;
    let row = site.binary(Binary::Add, row, shift)?;
    let on = site.emit(Op::Elementwise(Elementwise::Compare(Compare::Equal)), &[row, column])?;
    let result = site.cast(on, dtype)?;
    site.output(0, result)
}

/// The indices of the best, and the elements there.
fn top_k(site: &mut Site) -> Lowered {
    // Without the attribute any order is allowed; the sorted one is among them.
    site.ignore("sorted");
    let x = site.input(0)?;
    let along = axis(site.int_or("axis", -1)?, site.ty(x).rank())?;
    let stated = site.int("k")?.filter(|_| site.opset < 10).map(Number::from);
    let Some(count) = (if stated.is_some() { stated } else { site.integer(1)? }) else {
        return invalid("the number of elements is missing");
    };
    let count = site.measure(&count)?;
    let op = Select::TopK { axis: along, count, largest: site.flag("largest", true)? };
    let index = site.emit(Op::Select(op), &[x])?;
    let values = elements_at(site, x, index, along)?;
    site.output(0, values)?;
    site.output(1, index)
}

/// The second of two values at the index along a new axis, the first elsewhere.
fn one_hot(site: &mut Site) -> Lowered {
    let (index, values) = (site.input(0)?, site.input(2)?);
    let stated = site.constant_scalar(1).filter(|depth| depth.trunc() == *depth && depth.abs() < 1e15);
    let depth = match stated {
        Some(depth) => Some(Number::from(depth as i64)),
        None => site.integer(1)?,
    };
    let Some(depth) = depth else { return invalid("the depth is missing") };
    let depth = site.measure(&depth)?;
    let rank = site.ty(index).rank();
    let along = axis(site.int_or("axis", -1)?, rank.saturating_add(1))?;
    let index = site.cast(index, DType::I64)?;
    let size = site.size(&depth)?;
    let index = count_from_end(site, index, size)?;
    let hot = site.emit(Op::Select(Select::OneHot { depth, dtype: DType::Bool }), &[index])?;
    let perm = (0..along).chain([rank]).chain(along..rank).collect();
    let hot = site.transpose(hot, perm)?;
    let ty = site.ty(values);
    let mut value = |place| {
        let part = Movement::slice_axis(&ty, 0, Dim::Known(place), Dim::Known(1));
        let part = site.emit(Op::Movement(part), &[values])?;
        site.reshape(part, Vec::new())
    };
    let (off, on) = (value(0)?, value(1)?);
    let result = site.elementwise(Elementwise::Where, &[hot, on, off])?;
    site.output(0, result)
}

/// The elements on one side of a diagonal of the last two axes, and zeros on the other. The diagonal `k` lies `k` places
/// above the main one.
fn triangle(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let ty = site.ty(x);
    let upper = site.flag("upper", true)?;
    let diagonal = match site.optional_input(1)? {
        None => None,
        Some(diagonal) if site.ty(diagonal).elements()? == Dim::Known(1) => {
            let at = site.known(1).and_then(|known| known.elements.first().cloned());
            let value = if let Some(at) = &at { site.size(at)? } else { site.reshape(diagonal, Vec::new())? };
            Some(value).filter(|_| at != Some(Dim::Known(0)))
        }
        Some(_) => return invalid("the diagonal is not one number"),
    };
    let [.., rows, columns] = ty.shape.as_slice() else { return invalid(format!("{ty} has no last two axes")) };
    let kept = on_side(site, [rows, columns], diagonal, upper)?;
    let kept = site.broadcast(kept, &ty.shape)?;
    let result = if ty.dtype == DType::Bool {
        site.binary(Binary::And, kept, x)?
    } else {
        let zero = site.filled(ty, 0.0)?;
        site.emit(Op::Elementwise(Elementwise::Where), &[kept, x, zero])?
    };
    site.output(0, result)
}

/// Of a matrix of that many rows and columns: whether a place is on the diagonal or on the side asked for. The diagonal
/// is an `i64` scalar, 0 where there is none.
pub(super) fn on_side(site: &mut Site, sizes: [&Dim; 2], diagonal: Option<Value>, upper: bool) -> Lowered<Value> {
    let ty = TensorType::new(DType::I64, sizes.map(Dim::clone).to_vec());
    let row = site.emit(Op::Source(Source::Iota { axis: 0, ty: ty.clone() }), &[])?;
    let column = site.emit(Op::Source(Source::Iota { axis: 1, ty }), &[])?;
    let row = match diagonal {
        None => row,
        Some(diagonal) => site.binary(Binary::Add, row, diagonal)?,
    };
    let side = if upper { Compare::GreaterOrEqual } else { Compare::LessOrEqual };
    site.emit(Op::Elementwise(Elementwise::Compare(side)), &[column, row])
}
