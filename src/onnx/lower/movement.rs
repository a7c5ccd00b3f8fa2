//! Movement of elements: other shapes, other places, copies. Slices and padding have files of their own.

use lrpc_ir::ops::{Binary, Compare, Movement, Select, Source};
use lrpc_ir::types::{DType, TensorType, product};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid};
use super::known::Known;
use super::number::Number;
use super::site::{Site, axis};
use super::sizes::{broadcast_shape, same_size};
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("Reshape", 5, reshape).folding(|site| refold(site, reshaped)),
    OpDef::new("Flatten", 1, |site| reshape_to(site, flattened)),
    OpDef::new("Squeeze", 1, |site| reshape_to(site, squeezed)).folding(|site| refold(site, squeezed)),
    OpDef::new("Unsqueeze", 1, |site| reshape_to(site, unsqueezed)).folding(|site| refold(site, unsqueezed)),
    OpDef::new("Transpose", 1, transpose).folding(fold_transpose),
    OpDef::new("Concat", 4, concat).folding(fold_concat),
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
    let Some(stated) = site.integers(1)? else { return invalid("the shape is missing") };
    let keep_zero = site.flag("allowzero", false)?;
    let mut shape = Vec::with_capacity(stated.len());
    let mut open = None;
    for (axis, size) in stated.into_iter().enumerate() {
        let kept = ty.shape.get(axis).filter(|_| !keep_zero).cloned();
        shape.push(match (size.size().and_then(Dim::known), kept) {
            (Some(0), Some(kept)) => Number::Size(kept),
            (Some(0), None) if !keep_zero => {
                return invalid(format!("axis {axis} is kept, which {ty} does not have"));
            }
            (Some(-1), _) if open.replace(axis).is_some() => return invalid("two axes take what is left"),
            (Some(-1), _) => Number::from(1),
            (Some(length), _) if length < 0 => return invalid(format!("axis {axis} has the length {length}")),
            (None, Some(kept)) if size.size().is_none() => {
                site.choose((Compare::Equal, &size, &0.into()), &kept.into(), &size)?
            }
            _ => size,
        });
    }
    let mut unknown = shape.iter().enumerate().filter(|(_, size)| size.size().is_none()).map(|(axis, _)| axis);
    let elements = product(&ty.shape)?;
    match (unknown.next(), unknown.next(), open) {
        // One length follows from the others, wherever it is known from.
        (Some(axis), None, None) => {
            let others = others(&shape, axis)?;
            if let Some(size) = shape.get_mut(axis).filter(|_| others != Dim::Known(0)) {
                *size = elements.floor_div(&others)?.into();
            }
        }
        (Some(_), Some(_), None) => shape = what_is_left(site, &elements, shape)?,
        _ => {}
    }
    let mut shape = site.measure_all(&shape)?;
    if let Some(axis) = open {
        let others = product(&shape)?;
        if others == Dim::Known(0) {
            return invalid("one axis takes what is left, and another is 0");
        }
        if let Some(size) = shape.get_mut(axis) {
            *size = elements.floor_div(&others)?;
        }
    }
    Ok(shape)
}

/// The product of all sizes but that of `axis`, none of which data decides.
fn others(shape: &[Number], axis: usize) -> Lowered<Dim> {
    let others = shape.iter().enumerate().filter(|(other, _)| *other != axis).filter_map(|(_, size)| size.size());
    Ok(product(&others.cloned().collect::<Vec<Dim>>())?)
}

/// The shape with what is left of the elements in the place of a −1 that data decides.
fn what_is_left(site: &mut Site, elements: &Dim, shape: Vec<Number>) -> Lowered<Vec<Number>> {
    let (open, one) = (Number::from(-1), Number::from(1));
    let mut others = one.clone();
    for size in &shape {
        let factor =
            if size.size().is_some() { size.clone() } else { site.choose((Compare::Equal, size, &open), &one, size)? };
        others = site.combine(Binary::Mul, &others, &factor)?;
    }
    let others = site.combine(Binary::Max, &others, &one)?;
    let left = site.combine(Binary::Div, &elements.clone().into(), &others)?;
    let filled = shape.into_iter().map(|size| match size {
        Number::Size(_) => Ok(size),
        Number::Data(_) => site.choose((Compare::Equal, &size, &open), &left, &size),
    });
    filled.collect()
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
    let is_one = |axis: &usize| ty.shape.get(*axis).is_some_and(|size| size.may_equal(&Dim::Known(1)));
    if let Some(axis) = dropped.iter().find(|axis| !is_one(axis)) {
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

fn fold_transpose(site: &mut Site) -> Lowered<Option<Known>> {
    let Some(known) = site.known(0).cloned() else { return Ok(None) };
    let perm = permutation(site, known.shape.len())?;
    Ok(known.transposed(&perm))
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
    let operands = aligned(site, axis)?;
    let result = match operands.as_slice() {
        [single] => *single,
        _ => site.emit(Op::Movement(Movement::Concat { axis }), &operands)?,
    };
    site.output(0, result)
}

/// The operands, with one size for every axis but `along`.
fn aligned(site: &mut Site, along: usize) -> Lowered<Vec<Value>> {
    let mut operands = site.all_inputs()?;
    let mut shape = operands.first().map(|first| site.ty(*first).shape).unwrap_or_default();
    for operand in &operands {
        for (size, other) in shape.iter_mut().zip(&site.ty(*operand).shape) {
            *size = same_size(size, other).unwrap_or_else(|| size.clone());
        }
    }
    for operand in &mut operands {
        for (axis, size) in shape.iter().enumerate().filter(|(axis, _)| *axis != along) {
            *operand = site.conform_axis(*operand, axis, size)?;
        }
    }
    Ok(operands)
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

// Copies.

fn expand(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let Some(wanted) = site.integers(1)? else { return invalid("the shape is missing") };
    let mut own = site.ty(x).shape;
    let new = wanted.len().saturating_sub(own.len());
    own.splice(0..0, std::iter::repeat_n(Dim::Known(1), new));
    let mut result = site.reshape(x, own.clone())?;
    let before = own.len().saturating_sub(wanted.len());
    let mut shape = own.clone();
    for (axis, length) in wanted.iter().enumerate() {
        let axis = axis.saturating_add(before);
        let Some(size) = own.get(axis) else { continue };
        let target = match (size, length) {
            (Dim::Known(1), _) => site.measure(length)?,
            // An axis of another length is what the shape says, or the shape says 1.
            (Dim::Known(_), Number::Data(_)) => size.clone(),
            (_, Number::Size(length)) => {
                match broadcast_shape(std::slice::from_ref(size), std::slice::from_ref(length))?.pop() {
                    Some(length) => length,
                    None => continue,
                }
            }
            // Whether elements are copied or the axis stays is decided with the sizes.
            (_, Number::Data(_)) => {
                let longer = site.combine(Binary::Max, &size.clone().into(), length)?;
                let longer = site.measure(&longer)?;
                result = copied(site, result, axis, &longer)?;
                longer
            }
        };
        shape.iter_mut().skip(axis).take(1).for_each(|slot| *slot = target.clone());
    }
    let result = site.broadcast(result, &shape)?;
    site.output(0, result)
}

/// An axis of length 1 or `length`, in that length.
fn copied(site: &mut Site, x: Value, axis: usize, length: &Dim) -> Lowered<Value> {
    let Some(size) = site.ty(x).shape.get(axis).cloned() else { return Ok(x) };
    let ty = TensorType::new(DType::I64, vec![length.clone()]);
    let place = site.emit(Op::Source(Source::Iota { axis: 0, ty }), &[])?;
    let last = site.size(&size.sub(&Dim::Known(1))?)?;
    let index = site.binary(Binary::Min, place, last)?;
    site.emit(Op::Select(Select::Gather { axis, batch: 0 }), &[x, index])
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
    let Some(repeats) = site.integers(1)? else { return invalid("the repeats are missing") };
    let repeats = site.measure_all(&repeats)?;
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
