//! Movement of elements.

use lrpc_ir::ops::Movement;
use lrpc_ir::types::{Float, TensorType, product};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid, unsupported};
use super::known::{Known, dim};
use super::site::{Site, axis, broadcast_shape};
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("Reshape", 5, reshape).folding(|site| refold(site, reshaped)),
    OpDef::new("Flatten", 1, |site| reshape_to(site, flattened)),
    OpDef::new("Squeeze", 1, |site| reshape_to(site, squeezed)).folding(|site| refold(site, squeezed)),
    OpDef::new("Unsqueeze", 1, |site| reshape_to(site, unsqueezed)).folding(|site| refold(site, unsqueezed)),
    OpDef::new("Transpose", 1, transpose).folding(fold_transpose),
    OpDef::new("Concat", 4, concat).folding(fold_concat),
    OpDef::new("Split", 2, split),
    OpDef::new("Slice", 1, slice_by_attributes),
    OpDef::new("Slice", 10, slice_by_inputs).folding(fold_slice),
    OpDef::new("Pad", 2, pad),
    OpDef::new("Expand", 8, expand).folding(fold_expand),
    OpDef::new("Tile", 6, tile),
    OpDef::new("DepthToSpace", 1, depth_to_space),
    OpDef::new("SpaceToDepth", 1, space_to_depth),
];

// Other shapes for the same elements.

/// A function from the node and its operand's type to the result's shape.
type Shape = fn(&mut Site, &TensorType) -> Lowered<Vec<Dim>>;

fn reshape(site: &mut Site) -> Lowered {
    reshape_to(site, reshaped)
}

fn reshape_to(site: &mut Site, shape: Shape) -> Lowered {
    let x = site.input(0)?;
    let shape = shape(site, &site.ty(x))?;
    let result = site.reshape(x, shape)?;
    site.output(0, result)
}

/// Known integers under another shape.
fn refold(site: &mut Site, shape: Shape) -> Lowered<Option<Known>> {
    let Some(known) = site.known(0).cloned() else { return Ok(None) };
    let shape = shape(site, &known.ty())?;
    let sizes: Option<Vec<usize>> = shape.iter().map(|size| usize::try_from(size.known()?).ok()).collect();
    Ok(sizes.and_then(|sizes| known.reshaped(sizes)))
}

/// 0 keeps an axis, −1 takes what is left.
fn reshaped(site: &mut Site, ty: &TensorType) -> Lowered<Vec<Dim>> {
    let Some(mut shape) = site.sizes(1)? else { return invalid("the shape is missing") };
    let keep_zero = site.flag("allowzero", false)?;
    let mut open = None;
    for (axis, size) in shape.iter_mut().enumerate() {
        match size.known() {
            Some(0) if !keep_zero => match ty.shape.get(axis) {
                Some(kept) => *size = kept.clone(),
                None => return invalid(format!("axis {axis} is kept, which {ty} does not have")),
            },
            Some(-1) if open.replace(axis).is_some() => return invalid("two axes take what is left"),
            Some(-1) => *size = Dim::Known(1),
            Some(length) if length < 0 => return invalid(format!("axis {axis} has the length {length}")),
            _ => {}
        }
    }
    if let Some(axis) = open {
        let (elements, others) = (product(&ty.shape)?, product(&shape)?);
        if others == Dim::Known(0) {
            return invalid("one axis takes what is left, and another is 0");
        }
        if let Some(size) = shape.get_mut(axis) {
            *size = elements.floor_div(&others)?;
        }
    }
    Ok(shape)
}

fn flattened(site: &mut Site, ty: &TensorType) -> Lowered<Vec<Dim>> {
    let at = site.int_or("axis", 1)?;
    let last = i64::try_from(ty.rank()).unwrap_or(i64::MAX);
    let at = if at == last { ty.rank() } else { axis(at, ty.rank())? };
    let (outer, inner) = ty.shape.split_at(at);
    Ok(vec![product(outer)?, product(inner)?])
}

/// The attribute `axes`, or from opset 13 on the input.
fn axes(site: &mut Site) -> Lowered<Option<Vec<i64>>> {
    let attribute = site.ints("axes")?;
    if attribute.is_some() { Ok(attribute) } else { site.numbers(1) }
}

fn squeezed(site: &mut Site, ty: &TensorType) -> Lowered<Vec<Dim>> {
    let dropped = match axes(site)? {
        Some(listed) => listed.into_iter().map(|value| axis(value, ty.rank())).collect::<Lowered<Vec<usize>>>()?,
        None => (0..ty.rank()).filter(|axis| ty.shape.get(*axis) == Some(&Dim::Known(1))).collect(),
    };
    if let Some(axis) = dropped.iter().find(|axis| ty.shape.get(**axis) != Some(&Dim::Known(1))) {
        return invalid(format!("axis {axis} of {ty} is not of length 1"));
    }
    let kept = ty.shape.iter().enumerate().filter(|(axis, _)| !dropped.contains(axis));
    Ok(kept.map(|(_, size)| size.clone()).collect())
}

fn unsqueezed(site: &mut Site, ty: &TensorType) -> Lowered<Vec<Dim>> {
    let Some(listed) = axes(site)? else { return invalid("the axes are missing") };
    let rank = ty.rank().saturating_add(listed.len());
    let mut added = listed.into_iter().map(|value| axis(value, rank)).collect::<Lowered<Vec<usize>>>()?;
    added.sort_unstable();
    if added.windows(2).any(|pair| pair.first() == pair.last()) {
        return invalid("an axis is named twice");
    }
    let mut shape = ty.shape.clone();
    for axis in added {
        shape.insert(axis, Dim::Known(1));
    }
    Ok(shape)
}

// Other places.

fn permutation(site: &mut Site, rank: usize) -> Lowered<Vec<usize>> {
    match site.ints("perm")? {
        Some(perm) => perm.into_iter().map(|value| axis(value, rank)).collect(),
        None => Ok((0..rank).rev().collect()),
    }
}

fn transpose(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let perm = permutation(site, site.ty(x).rank())?;
    let result = site.transpose(x, perm)?;
    site.output(0, result)
}

/// Of known integers only vectors are transposed, which changes nothing.
fn fold_transpose(site: &mut Site) -> Lowered<Option<Known>> {
    let Some(known) = site.known(0).filter(|known| known.shape.len() < 2).cloned() else { return Ok(None) };
    permutation(site, known.shape.len())?;
    Ok(Some(known))
}

fn concat_axis(site: &mut Site, rank: usize) -> Lowered<usize> {
    match site.int("axis")? {
        Some(value) => axis(value, rank),
        None => invalid("the axis is missing"),
    }
}

fn concat(site: &mut Site) -> Lowered {
    let rank = site.input_type(0)?.rank();
    let axis = concat_axis(site, rank)?;
    let operands = site.all_inputs()?;
    let result = match operands.as_slice() {
        [single] => *single,
        _ => site.emit(Op::Movement(Movement::Concat { axis }), &operands)?,
    };
    site.output(0, result)
}

/// Vectors of known integers one after the other.
fn fold_concat(site: &mut Site) -> Lowered<Option<Known>> {
    let inputs: Option<Vec<Known>> = (0..site.input_count()).map(|index| site.known(index).cloned()).collect();
    let Some(inputs) = inputs.filter(|inputs| inputs.iter().all(|input| input.shape.len() == 1)) else {
        return Ok(None);
    };
    let Some(dtype) = inputs.first().map(|input| input.dtype) else { return Ok(None) };
    concat_axis(site, 1)?;
    let elements: Vec<Dim> = inputs.into_iter().flat_map(|input| input.elements).collect();
    if elements.len() > Known::MAX_ELEMENTS {
        return Ok(None);
    }
    Ok(Some(Known { dtype, ..Known::vector(elements) }))
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
        let places = places(&start, &end);
        if let Some(part) = known.as_ref().and_then(|known| known.take(axis, &places?)) {
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
    Some((usize::try_from(start.known()?).ok()?..usize::try_from(end.known()?).ok()?).collect())
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

// Slices.

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

/// Negative bounds count from the end, and bounds beyond an end stop there. Of symbolic axes and bounds it is assumed
/// that a negative bound does not reach beyond the start, that an axis is not empty, and that a symbolic bound lies
/// inside; where that is not so, binding refuses a slice that leaves its operand.
fn range(axis: usize, size: &Dim, start: &Dim, end: &Dim, step: i64) -> Lowered<Range> {
    let (zero, one) = (Dim::Known(0), Dim::Known(1));
    let bounded = |bound: &Dim, low: &Dim, high: &Dim| -> Lowered<Dim> {
        match (bound.known(), size.known()) {
            (Some(value), Some(_)) => {
                let from_start = if value < 0 { size.add(bound).unwrap_or(low.clone()) } else { bound.clone() };
                Ok(from_start.maximum(low)?.minimum(high)?)
            }
            // Exporters write "from the end" as the lowest and "to the end" as the highest number.
            (Some(value), None) if value <= i64::from(i32::MIN) => Ok(low.clone()),
            (Some(value), None) if value >= i64::from(i32::MAX) => Ok(high.clone()),
            (Some(value), None) if value < 0 => Ok(size.add(bound)?),
            (Some(value), None) if value > 1 => Ok(bound.minimum(high)?),
            _ => Ok(bound.clone()),
        }
    };
    let last = size.sub(&one)?;
    let (start, distance) = match step {
        0 => return invalid("a step is 0"),
        1.. => {
            let (start, end) = (bounded(start, &zero, size)?, bounded(end, &zero, size)?);
            let distance = end.sub(&start)?;
            (start, distance)
        }
        _ => {
            let start = bounded(start, &zero, &last)?;
            let end = match end.known() {
                // The place before the first cannot be written but as a bound below the lowest.
                Some(value) if value < 0 && size.known().is_none_or(|size| value.saturating_add(size) < 0) => {
                    if size.known().is_none() && value > i64::from(i32::MIN) { size.add(end)? } else { Dim::Known(-1) }
                }
                _ => bounded(end, &Dim::Known(-1), &last)?,
            };
            let distance = start.sub(&end)?;
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

// Padding.

fn pad(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let rank = site.ty(x).rank();
    let mode = site.word_or("mode", "constant")?;
    let attribute = site.ints("pads")?.map(|pads| pads.into_iter().map(Dim::Known).collect());
    let filler = match site.float("value")? {
        Some(value) => value,
        None => site.constant(2)?.and_then(|values| values.first().copied()).unwrap_or(0.0),
    };
    let listed: Vec<Dim> = match attribute {
        Some(pads) => pads,
        None => site.sizes(1)?.unwrap_or_default(),
    };
    let axes = match site.numbers(3)? {
        Some(axes) => axes.into_iter().map(|value| axis(value, rank)).collect::<Lowered<Vec<usize>>>()?,
        None => (0..rank).collect(),
    };
    if listed.len() != axes.len().saturating_mul(2) {
        return invalid(format!("{} pads for {} axes", listed.len(), axes.len()));
    }
    let (mut before, mut after) = (vec![Dim::Known(0); rank], vec![Dim::Known(0); rank]);
    let (first, last) = listed.split_at(axes.len());
    for ((axis, first), last) in axes.into_iter().zip(first).zip(last) {
        if let (Some(before), Some(after)) = (before.get_mut(axis), after.get_mut(axis)) {
            (*before, *after) = (first.clone(), last.clone());
        }
    }
    let result = if mode == "constant" {
        pad_constant(site, x, before, &after, filler)?
    } else {
        let mut padded = x;
        for (axis, (before, after)) in before.iter().zip(&after).enumerate() {
            padded = pad_copies(site, padded, axis, [before, after], &mode)?;
        }
        padded
    };
    site.output(0, result)
}

fn pad_constant(site: &mut Site, x: Value, before: Vec<Dim>, after: &[Dim], filler: f64) -> Lowered<Value> {
    let mut shape = site.ty(x).shape;
    for ((size, first), last) in shape.iter_mut().zip(&before).zip(after) {
        *size = size.add(first)?.add(last)?;
    }
    if shape == site.ty(x).shape && before.iter().all(|size| *size == Dim::Known(0)) {
        return Ok(x);
    }
    let steps = vec![1; before.len()];
    site.emit(Op::Movement(Movement::Pad { before, steps, value: Float(filler), shape }), &[x])
}

/// Padding with copies of the tensor's own elements, as slices beside it.
fn pad_copies(site: &mut Site, x: Value, axis: usize, pads: [&Dim; 2], mode: &str) -> Lowered<Value> {
    let ty = site.ty(x);
    let size = ty.shape.get(axis).cloned().unwrap_or(Dim::Known(0));
    let (zero, one) = (Dim::Known(0), Dim::Known(1));
    if pads.iter().any(|pad| pad.known().is_none_or(|pad| pad < 0)) {
        return unsupported(format!("mode {mode} with pads that are negative or symbolic"));
    }
    let last = size.sub(&one)?;
    let mut parts = Vec::new();
    for (side, count) in pads.into_iter().enumerate() {
        if side == 1 {
            parts.push(x);
        }
        if *count == zero {
            continue;
        }
        let (start, step) = match (mode, side) {
            ("reflect", 0) => (count.clone(), -1),
            ("reflect", _) => (last.sub(&one)?, -1),
            ("wrap", 0) => (size.sub(count)?, 1),
            ("wrap", _) => (zero.clone(), 1),
            ("edge", 0) => (zero.clone(), 0),
            ("edge", _) => (last.clone(), 0),
            _ => return invalid(format!("mode is {mode:?}")),
        };
        parts.push(copy_of(site, x, axis, start, step, count)?);
    }
    if parts.len() == 1 { Ok(x) } else { site.emit(Op::Movement(Movement::Concat { axis }), &parts) }
}

/// `count` elements along `axis` from `start` on; with the step 0 the same one again and again.
fn copy_of(site: &mut Site, x: Value, axis: usize, start: Dim, step: i64, count: &Dim) -> Lowered<Value> {
    let ty = site.ty(x);
    let taken = if step == 0 { Dim::Known(1) } else { count.clone() };
    let mut op = Movement::slice_axis(&ty, axis, start, taken);
    if let Movement::Slice { steps, .. } = &mut op
        && let Some(slot) = steps.get_mut(axis)
        && step != 0
    {
        *slot = step;
    }
    let part = site.emit(Op::Movement(op), &[x])?;
    let mut shape = ty.shape;
    if let Some(size) = shape.get_mut(axis) {
        *size = count.clone();
    }
    site.broadcast(part, &shape)
}

// Copies.

fn expand(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let Some(shape) = site.sizes(1)? else { return invalid("the shape is missing") };
    let shape = broadcast_shape(&site.ty(x).shape, &shape)?;
    let result = site.broadcast(x, &shape)?;
    site.output(0, result)
}

fn fold_expand(site: &mut Site) -> Lowered<Option<Known>> {
    let (Some(known), Some(shape)) = (site.known(0), site.known(1).and_then(Known::numbers)) else { return Ok(None) };
    let Ok(shape) = shape.into_iter().map(usize::try_from).collect::<Result<Vec<usize>, _>>() else {
        return Ok(None);
    };
    Ok(known.broadcast(&shape))
}

/// Each axis is preceded by a new one, along which it is copied, and both become one.
fn tile(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let sizes = site.ty(x).shape;
    let Some(repeats) = site.sizes(1)? else { return invalid("the repeats are missing") };
    if repeats.len() != sizes.len() {
        return invalid(format!("{} repeats for {} axes", repeats.len(), sizes.len()));
    }
    let pairs = || repeats.iter().zip(&sizes);
    let apart = pairs().flat_map(|(_, size)| [Dim::Known(1), size.clone()]).collect();
    let copied: Vec<Dim> = pairs().flat_map(|(count, size)| [count.clone(), size.clone()]).collect();
    let joined = pairs().map(|(count, size)| count.mul(size)).collect::<Result<Vec<Dim>, _>>()?;
    let result = if joined == sizes {
        x
    } else {
        let apart = site.reshape(x, apart)?;
        let copied = site.broadcast(apart, &copied)?;
        site.reshape(copied, joined)?
    };
    site.output(0, result)
}

// Blocks.

/// The operand, its shape `[N, C, H, W]` and the block's side.
fn blocks(site: &mut Site) -> Lowered<(Value, [Dim; 4], Dim)> {
    let x = site.input(0)?;
    let ty = site.ty(x);
    let Ok(shape) = <[Dim; 4]>::try_from(ty.shape.clone()) else {
        return invalid(format!("the input is {ty}, expected four axes"));
    };
    match site.int("blocksize")? {
        Some(side) if side > 0 => Ok((x, shape, Dim::Known(side))),
        side => invalid(format!("blocksize is {side:?}")),
    }
}

fn depth_to_space(site: &mut Site) -> Lowered {
    let (x, [n, c, h, w], side) = blocks(site)?;
    let depth = c.floor_div(&side.mul(&side)?)?;
    let (parts, perm) = match site.word_or("mode", "DCR")?.as_str() {
        "DCR" => (vec![n.clone(), side.clone(), side.clone(), depth.clone(), h.clone(), w.clone()], [0, 3, 4, 1, 5, 2]),
        "CRD" => (vec![n.clone(), depth.clone(), side.clone(), side.clone(), h.clone(), w.clone()], [0, 1, 4, 2, 5, 3]),
        other => return invalid(format!("mode is {other:?}")),
    };
    let parts = site.reshape(x, parts)?;
    let moved = site.transpose(parts, perm.to_vec())?;
    let result = site.reshape(moved, vec![n, depth, h.mul(&side)?, w.mul(&side)?])?;
    site.output(0, result)
}

fn space_to_depth(site: &mut Site) -> Lowered {
    let (x, [n, c, h, w], side) = blocks(site)?;
    let (rows, columns) = (h.floor_div(&side)?, w.floor_div(&side)?);
    let parts = vec![n.clone(), c.clone(), rows.clone(), side.clone(), columns.clone(), side.clone()];
    let parts = site.reshape(x, parts)?;
    let perm = match site.word_or("mode", "DCR")?.as_str() {
        "DCR" => [0, 3, 5, 1, 2, 4],
        "CRD" => [0, 1, 3, 5, 2, 4],
        other => return invalid(format!("mode is {other:?}")),
    };
    let moved = site.transpose(parts, perm.to_vec())?;
    let result = site.reshape(moved, vec![n, c.mul(&side)?.mul(&side)?, rows, columns])?;
    site.output(0, result)
}
