//! Parts of tensors.

use lrpc_ir::ops::{Binary, Compare, Movement, Select, Source};
use lrpc_ir::types::{DType, TensorType};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid};
use super::known::{Known, dim};
use super::number::Number;
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

fn slice_by_inputs(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    if site.known_inputs(1..5) {
        let ranges = slice_inputs(site, &site.ty(x))?;
        return slice(site, x, ranges);
    }
    let (Some(starts), Some(ends)) = (site.integers(1)?, site.integers(2)?) else {
        return invalid("starts or ends are missing");
    };
    let axes = site.numbers(3)?.unwrap_or((0_i64..).take(starts.len()).collect());
    let steps = site.integers(4)?.unwrap_or(vec![1.into(); starts.len()]);
    if [ends.len(), axes.len(), steps.len()].iter().any(|count| *count != starts.len()) {
        return invalid("starts, ends, axes and steps differ in length");
    }
    let mut result = x;
    for (((start, end), at), step) in starts.iter().zip(&ends).zip(axes).zip(&steps) {
        let axis = axis(at, site.ty(x).rank())?;
        result = slice_axis(site, result, axis, [start, end, step])?;
    }
    site.output(0, result)
}

/// A slice along one axis, of which data decides something.
fn slice_axis(site: &mut Site, x: Value, axis: usize, [start, end, step]: [&Number; 3]) -> Lowered<Value> {
    let ty = site.ty(x);
    let size = ty.shape.get(axis).cloned().unwrap_or(Dim::Known(0));
    let stated = step.size().and_then(Dim::known);
    if let (Some(start), Some(end), Some(step)) = (start.size(), end.size(), stated) {
        let range = range(axis, &size, start, end, step)?;
        return sliced(site, x, vec![range]);
    }
    let (zero, one) = (Number::from(0), Number::from(1));
    let size = Number::Size(size);
    let last = site.combine(Binary::Sub, &size, &one)?;
    // Going forward, a start lies in 0..=size and so does an end; going back, in 0..=size−1 and −1..=size−1.
    let forward = (Compare::Greater, step, &zero);
    let low_end = site.choose(forward, &zero, &Number::from(-1))?;
    let high = site.choose(forward, &size, &last)?;
    let start = placed(site, start, &size, &zero, &high)?;
    let end = placed(site, end, &size, &low_end, &high)?;
    let (ahead, behind) = (site.combine(Binary::Sub, &end, &start)?, site.combine(Binary::Sub, &start, &end)?);
    let distance = site.choose(forward, &ahead, &behind)?;
    let back = site.combine(Binary::Sub, &zero, step)?;
    let stride = site.choose(forward, step, &back)?;
    let count = site.steps(&distance, &stride)?;
    let count = site.measure(&count)?;
    let start = site.combine(Binary::Max, &start, &zero)?;
    if let Some(step) = stated {
        if step == 0 {
            return invalid("a step is 0");
        }
        let start = site.measure(&start)?;
        return sliced(site, x, vec![Range { axis, start, step, count }]);
    }
    let places = TensorType::new(DType::I64, vec![count]);
    let places = site.emit(Op::Source(Source::Iota { axis: 0, ty: places }), &[])?;
    let (start, step) = (site.number_value(&start)?, site.number_value(step)?);
    let places = site.binary(Binary::Mul, places, step)?;
    let index = site.binary(Binary::Add, places, start)?;
    site.emit(Op::Select(Select::Gather { axis, batch: 0 }), &[x, index])
}

/// A bound of a slice as a place between `low` and `high`; negative ones count from the end.
fn placed(site: &mut Site, bound: &Number, size: &Number, low: &Number, high: &Number) -> Lowered<Number> {
    if let (Some(bound), Some(size), Some(low), Some(high)) = (bound.size(), size.size(), low.size(), high.size()) {
        return Ok(bounded(bound, size, low, high)?.into());
    }
    let counted = site.combine(Binary::Add, bound, size)?;
    let place = site.choose((Compare::Less, bound, &0.into()), &counted, bound)?;
    let place = site.combine(Binary::Max, &place, low)?;
    site.combine(Binary::Min, &place, high)
}

fn slice_inputs(site: &Site, ty: &TensorType) -> Lowered<Vec<Range>> {
    ranges(ty, site.sizes(1)?, site.sizes(2)?, site.numbers(3)?, site.numbers(4)?)
}

fn fold_slice(site: &mut Site) -> Lowered<Option<Known>> {
    let Some(mut known) = site.known(0).cloned() else { return Ok(None) };
    if !site.known_inputs(1..5) {
        return Ok(None);
    }
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
    let result = sliced(site, x, ranges)?;
    site.output(0, result)
}

fn sliced(site: &mut Site, x: Value, ranges: Vec<Range>) -> Lowered<Value> {
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
    if whole { Ok(x) } else { site.emit(Op::Movement(Movement::Slice { starts, steps, shape }), &[x]) }
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
        None => match site.integers(1)? {
            Some(sizes) => site.measure_all(&sizes)?,
            None => equal_parts(&length, parts)?,
        },
    };
    let total = sizes.iter().try_fold(Dim::Known(0), |total, size| total.add(size))?;
    if sizes.len() != parts || !total.may_equal(&length) {
        return invalid(format!("parts of {sizes:?} do not make {length} in {parts} outputs"));
    }
    // That the parts make the whole is checked once all sizes are known.
    let whole = if total == length { None } else { Some(site.input(0)?) };
    let whole = whole.map(|x| site.conform_axis(x, axis, &total)).transpose()?;
    let ty = whole.map_or(ty, |x| site.ty(x));
    let known = site.known(0).cloned();
    let mut start = Dim::Known(0);
    for (index, size) in sizes.into_iter().enumerate() {
        let end = start.add(&size)?;
        if let Some(part) = known.as_ref().and_then(|known| known.take(axis, &places(&start, &end)?)) {
            site.output_known(index, part);
        } else {
            let x = whole.map_or_else(|| site.input(0), Ok)?;
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
