//! Choice of elements by their value or their place.

use lrpc_ir::ops::{Binary, Compare, Elementwise, Literal, Movement, Select, Source};
use lrpc_ir::types::{DType, Float, TensorType};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid, unsupported};
use super::gather::{count_from_end, elements_at};
use super::known::Known;
use super::site::{Site, axis};
use super::table::OpDef;
use lrpc_ir::ops::source::LiteralValues;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("ArgMax", 1, |site| extreme(site, |axis| Select::ArgMax { axis })),
    OpDef::new("ArgMin", 1, |site| extreme(site, |axis| Select::ArgMin { axis })),
    OpDef::new("TopK", 10, top_k),
    OpDef::new("OneHot", 9, one_hot),
    OpDef::new("NonZero", 9, non_zero).folding(fold_non_zero),
    OpDef::new("Trilu", 14, triangle),
];

fn extreme(site: &mut Site, op: fn(usize) -> Select) -> Lowered {
    if site.flag("select_last_index", false)? {
        return unsupported("select_last_index, the last of equals");
    }
    let x = site.input(0)?;
    let mut shape = site.ty(x).shape;
    let along = axis(site.int_or("axis", 0)?, shape.len())?;
    let mut result = site.emit(Op::Select(op(along)), &[x])?;
    if site.flag("keepdims", true)? {
        if let Some(size) = shape.get_mut(along) {
            *size = Dim::Known(1);
        }
        result = site.reshape(result, shape)?;
    }
    site.output(0, result)
}

/// The indices of the best, and the elements there.
fn top_k(site: &mut Site) -> Lowered {
    // Without the attribute any order is allowed; the sorted one is among them.
    site.ignore("sorted");
    let x = site.input(0)?;
    let along = axis(site.int_or("axis", -1)?, site.ty(x).rank())?;
    let Some(count) = site.sizes(1)?.and_then(|sizes| <[Dim; 1]>::try_from(sizes).ok()) else {
        return invalid("the number of elements is not one number");
    };
    let [count] = count;
    let op = Select::TopK { axis: along, count, largest: site.flag("largest", true)? };
    let index = site.emit(Op::Select(op), &[x])?;
    let values = elements_at(site, x, index, along)?;
    site.output(0, values)?;
    site.output(1, index)
}

/// The second of two values at the index along a new axis, the first elsewhere.
fn one_hot(site: &mut Site) -> Lowered {
    let (index, values) = (site.input(0)?, site.input(2)?);
    let Some(depth) = site.sizes(1)?.and_then(|sizes| sizes.into_iter().next()) else {
        return invalid("the depth is missing");
    };
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

/// The indices of all elements of a vector of ones, which exporters write for `0, 1, 2, …`.
fn non_zero(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let ty = site.ty(x);
    let holds = match &site.lowering.graph.node(x.node).op {
        Op::Source(Source::Constant(Literal { values, .. })) => match values {
            LiteralValues::Integers(values) => matches!(values.as_slice(), [value] if *value != 0),
            LiteralValues::Floats(values) => matches!(values.as_slice(), [Float(value)] if *value != 0.0),
        },
        _ => false,
    };
    let [length] = ty.shape.as_slice() else { return unsupported("how many elements are not 0 depends on the data") };
    if !holds {
        return unsupported("how many elements are not 0 depends on the data");
    }
    let ty = TensorType::new(DType::I64, vec![Dim::Known(1), length.clone()]);
    let result = site.emit(Op::Source(Source::Iota { axis: 1, ty }), &[])?;
    site.output(0, result)
}

fn fold_non_zero(site: &mut Site) -> Lowered<Option<Known>> {
    let Some((known, values)) = site.known(0).and_then(|known| Some((known.clone(), known.numbers()?))) else {
        return Ok(None);
    };
    let places: Vec<usize> = (0..values.len()).filter(|place| values.get(*place) != Some(&0)).collect();
    let mut stride = values.len();
    let mut elements = Vec::with_capacity(places.len());
    for size in &known.shape {
        stride = stride.checked_div(*size).unwrap_or(0);
        for place in &places {
            let coordinate = place.checked_div(stride).and_then(|place| place.checked_rem(*size)).unwrap_or(0);
            elements.push(super::known::dim(coordinate));
        }
    }
    if elements.len() > Known::MAX_ELEMENTS {
        return Ok(None);
    }
    Ok(Some(Known { dtype: DType::I64, shape: vec![known.shape.len(), places.len()], elements }))
}

/// The elements on one side of a diagonal of the last two axes, and zeros on the other. The diagonal `k` lies `k` places
/// above the main one.
fn triangle(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let ty = site.ty(x);
    let upper = site.flag("upper", true)?;
    let diagonal = match site.sizes(1)?.as_deref() {
        None => Dim::Known(0),
        Some([diagonal]) => diagonal.clone(),
        Some(_) => return invalid("the diagonal is not one number"),
    };
    let [.., rows, columns] = ty.shape.as_slice() else { return invalid(format!("{ty} has no last two axes")) };
    let kept = on_side(site, [rows, columns], &diagonal, upper)?;
    let kept = site.broadcast(kept, &ty.shape)?;
    let result = if ty.dtype == DType::Bool {
        site.binary(Binary::And, kept, x)?
    } else {
        let zero = site.filled(ty, 0.0)?;
        site.emit(Op::Elementwise(Elementwise::Where), &[kept, x, zero])?
    };
    site.output(0, result)
}

/// Of a matrix of that many rows and columns: whether a place is on the diagonal or on the side asked for.
pub(super) fn on_side(site: &mut Site, sizes: [&Dim; 2], diagonal: &Dim, upper: bool) -> Lowered<Value> {
    let ty = TensorType::new(DType::I64, sizes.map(Dim::clone).to_vec());
    let row = site.emit(Op::Source(Source::Iota { axis: 0, ty: ty.clone() }), &[])?;
    let column = site.emit(Op::Source(Source::Iota { axis: 1, ty }), &[])?;
    let row = if *diagonal == Dim::Known(0) {
        row
    } else {
        let diagonal = site.size(diagonal)?;
        site.binary(Binary::Add, row, diagonal)?
    };
    let side = if upper { Compare::GreaterOrEqual } else { Compare::LessOrEqual };
    site.emit(Op::Elementwise(Elementwise::Compare(side)), &[column, row])
}
