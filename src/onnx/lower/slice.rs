//! Parts of tensors.

use lrpc_ir::ops::Movement;
use lrpc_ir::types::TensorType;
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid};
use super::known::{Known, dim};
use super::site::{Site, axis};
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("Slice", 1, slice_by_attributes),
    OpDef::new("Slice", 10, slice_by_inputs).folding(fold_slice),
    OpDef::new("Split", 2, split),
];

/// What a slice takes along one axis.
struct Range {
    axis: usize,
    start: Dim,
    step: i64,
    count: Dim,
}

fn slice_by_attributes(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let dims = |values: Option<Vec<i64>>| values.map(|values| values.into_iter().map(Dim::Known).collect::<Vec<_>>());
    let (starts, ends) = (dims(site.ints("starts")?), dims(site.ints("ends")?));
    let axes = site.ints("axes")?;
    let ranges = ranges(&site.ty(x), starts, ends, axes, None)?;
    slice(site, x, ranges)
}

fn slice_inputs(site: &Site, ty: &TensorType) -> Lowered<Vec<Range>> {
    ranges(ty, site.sizes(1)?, site.sizes(2)?, site.numbers(3)?, site.numbers(4)?)
}

fn slice_by_inputs(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let ranges = slice_inputs(site, &site.ty(x))?;
    slice(site, x, ranges)
}

fn fold_slice(site: &mut Site) -> Lowered<Option<Known>> {
    let Some(mut known) = site.known(0).cloned() else { return Ok(None) };
    for range in slice_inputs(site, &known.ty())? {
        let (Some(start), Some(count)) = (range.start.known(), range.count.known()) else { return Ok(None) };
        if usize::try_from(count).is_ok_and(|count| count > Known::MAX_ELEMENTS) {
            return Ok(None);
        }
        let place = |nth: i64| usize::try_from(nth.checked_mul(range.step)?.checked_add(start)?).ok();
        let Some(places) = (0..count).map(place).collect::<Option<Vec<usize>>>() else { return Ok(None) };
        match known.take(range.axis, &places) {
            Some(taken) => known = taken,
            None => return Ok(None),
        }
    }
    Ok(Some(known))
}

fn ranges(
    ty: &TensorType,
    starts: Option<Vec<Dim>>,
    ends: Option<Vec<Dim>>,
    axes: Option<Vec<i64>>,
    steps: Option<Vec<i64>>,
) -> Lowered<Vec<Range>> {
    let (Some(starts), Some(ends)) = (starts, ends) else { return invalid("starts or ends are missing") };
    let axes = axes.unwrap_or((0_i64..).take(starts.len()).collect());
    let steps = steps.unwrap_or(vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()].iter().any(|count| *count != starts.len()) {
        return invalid("starts, ends, axes and steps differ in length");
    }
    let mut ranges = Vec::with_capacity(starts.len());
    for (((start, end), at), step) in starts.iter().zip(&ends).zip(axes).zip(steps) {
        let axis = axis(at, ty.rank())?;
        let size = ty.shape.get(axis).cloned().unwrap_or(Dim::Known(0));
        if ranges.iter().any(|range: &Range| range.axis == axis) {
            return invalid(format!("axis {axis} is sliced twice"));
        }
        ranges.push(range(axis, &size, start, end, step)?);
    }
    Ok(ranges)
}

fn range(axis: usize, size: &Dim, start: &Dim, end: &Dim, step: i64) -> Lowered<Range> {
    let zero = Dim::Known(0);
    let (start, distance) = match step {
        0 => return invalid("a step is 0"),
        1.. => {
            let start = bounded(start, size, &zero, size)?;
            let distance = bounded(end, size, &zero, size)?.sub(&start)?;
            (start, distance)
        }
        _ => {
            let last = size.sub(&Dim::Known(1))?;
            let start = bounded(start, size, &zero, &last)?;
            let distance = start.sub(&bounded(end, size, &Dim::Known(-1), &last)?)?;
            (start, distance)
        }
    };
    let Ok(stride) = i64::try_from(step.unsigned_abs()) else { return invalid("a step is too large") };
    let count = match distance.ceil_div(&Dim::Known(stride))? {
        Dim::Known(count) => Dim::Known(count.max(0)),
        symbolic => symbolic,
    };
    // What takes nothing may begin anywhere.
    let start = if count == zero { zero } else { start };
    Ok(Range { axis, start, step, count })
}

/// A bound of a slice as a place between `low` and `high`. Negative bounds count from the end, and bounds beyond an end
/// stop there. Of symbolic axes and bounds it is assumed that a negative bound does not reach beyond the start, that
/// an axis is not empty, and that a symbolic bound lies inside; where that is not so, binding refuses a slice that
/// leaves its operand.
fn bounded(bound: &Dim, size: &Dim, low: &Dim, high: &Dim) -> Lowered<Dim> {
    match (bound.known(), size.known()) {
        (Some(value), Some(_)) => {
            // What overflows lies below the lowest place.
            let place = if value < 0 { size.add(bound).unwrap_or(low.clone()) } else { bound.clone() };
            Ok(place.maximum(low)?.minimum(high)?)
        }
        // Exporters write "from the start" as the lowest and "to the end" as the highest number.
        (Some(value), None) if value <= i64::from(i32::MIN) => Ok(low.clone()),
        (Some(value), None) if value >= i64::from(i32::MAX) => Ok(high.clone()),
        (Some(value), None) if value < 0 => Ok(size.add(bound)?),
        (Some(value), None) if value > 1 => Ok(bound.minimum(high)?),
        (None, _) if bound.is_negated() => Ok(size.add(bound)?),
        _ => Ok(match bound.sub(high)? {
            Dim::Known(beyond) if beyond > 0 => high.clone(),
            _ => bound.clone(),
        }),
    }
}

fn slice(site: &mut Site, x: Value, ranges: Vec<Range>) -> Lowered {
    let ty = site.ty(x);
    let (mut starts, mut steps, mut shape) = (vec![Dim::Known(0); ty.rank()], vec![1; ty.rank()], ty.shape.clone());
    for range in ranges {
        if let (Some(start), Some(step), Some(size)) =
            (starts.get_mut(range.axis), steps.get_mut(range.axis), shape.get_mut(range.axis))
        {
            (*start, *step, *size) = (range.start, range.step, range.count);
        }
    }
    let whole = shape == ty.shape && steps.iter().all(|step| *step == 1);
    let result = if whole { x } else { site.emit(Op::Movement(Movement::Slice { starts, steps, shape }), &[x])? };
    site.output(0, result)
}

fn split(site: &mut Site) -> Lowered {
    let ty = site.input_type(0)?;
    let axis = axis(site.int_or("axis", 0)?, ty.rank())?;
    let length = ty.shape.get(axis).cloned().unwrap_or(Dim::Known(0));
    let attribute = site.ints("split")?.map(|sizes| sizes.into_iter().map(Dim::Known).collect());
    let parts = site.node.output.len();
    if site.int("num_outputs")?.is_some_and(|count| usize::try_from(count) != Ok(parts)) {
        return invalid("num_outputs is not the number of outputs");
    }
    let sizes: Vec<Dim> = match attribute {
        Some(sizes) => sizes,
        None => match site.sizes(1)? {
            Some(sizes) => sizes,
            None => equal_parts(&length, parts)?,
        },
    };
    let total = sizes.iter().try_fold(Dim::Known(0), |total, size| total.add(size))?;
    if sizes.len() != parts || total != length {
        return invalid(format!("parts of {sizes:?} do not make {length} in {parts} outputs"));
    }
    let known = site.known(0).cloned();
    let mut start = Dim::Known(0);
    for (index, size) in sizes.into_iter().enumerate() {
        let end = start.add(&size)?;
        if let Some(part) = known.as_ref().and_then(|known| known.take(axis, &places(&start, &end)?)) {
            site.output_known(index, part);
        } else {
            let x = site.input(0)?;
            let part = site.emit(Op::Movement(Movement::slice_axis(&ty, axis, start, size)), &[x])?;
            site.output(index, part)?;
        }
        start = end;
    }
    Ok(())
}

fn places(start: &Dim, end: &Dim) -> Option<Vec<usize>> {
    let (start, end) = (usize::try_from(start.known()?).ok()?, usize::try_from(end.known()?).ok()?);
    (end.saturating_sub(start) <= Known::MAX_ELEMENTS).then(|| (start..end).collect())
}

/// Equal parts; the last one is smaller where the length does not divide.
fn equal_parts(length: &Dim, parts: usize) -> Lowered<Vec<Dim>> {
    let size = length.ceil_div(&dim(parts))?;
    let mut sizes = vec![size; parts];
    let before = sizes.iter().skip(1).try_fold(Dim::Known(0), |total, size| total.add(size))?;
    if let Some(last) = sizes.last_mut() {
        *last = length.sub(&before)?;
    }
    Ok(sizes)
}
