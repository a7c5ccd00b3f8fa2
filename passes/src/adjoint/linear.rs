//! Transposes of contraction and convolution.

use lrpc_ir::graph::Value;
use lrpc_ir::ops::linear::{Dot, Geometry, Linear};
use lrpc_ir::ops::{Movement, Op};
use lrpc_ir::{Diagnostic, Dim, TensorType};

use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::Site;
use crate::relevance::weights::Term;

/// VJP with respect to operand `slot`.
pub(super) fn vjp(b: &mut RelevanceBuilder, site: &Site, op: &Linear, slot: usize, cotangent: Value) -> Built<Value> {
    if slot > 1 {
        return Err(Diagnostic::new("an active bias has to be an addition of its own"));
    }
    let other = b.activation(site.operands[1 - slot])?;
    let ty = b.ty(site.operands[slot]);
    transpose(b, op, slot, &ty, other, cotangent, "t")
}

/// VJP of `op` with respect to its operand `slot` of type `ty`, where `other` is the other operand. It is noted, so that
/// the relevance of the other operand can be told from it.
pub(crate) fn transpose(
    b: &mut RelevanceBuilder,
    op: &Linear,
    slot: usize,
    ty: &TensorType,
    other: Value,
    cotangent: Value,
    hint: &str,
) -> Built<Value> {
    let result = product(b, op, slot, ty, other, cotangent, hint)?;
    b.record(Term { op: op.clone(), slot, weight: other, signal: cotangent, result });
    Ok(result)
}

/// As [`transpose`], without a note.
pub(crate) fn product(
    b: &mut RelevanceBuilder,
    op: &Linear,
    slot: usize,
    ty: &TensorType,
    other: Value,
    cotangent: Value,
    hint: &str,
) -> Built<Value> {
    match (op, slot) {
        (Linear::Dot(dot), 0) => transpose_left(b, dot, ty, other, cotangent, hint),
        (Linear::Dot(dot), _) => transpose_right(b, dot, ty, other, cotangent, hint),
        (Linear::Conv(geometry), 0) => {
            let op = Linear::ConvTranspose(onto(geometry, ty));
            b.op(Op::Linear(op), &[cotangent, other], hint)
        }
        (Linear::ConvTranspose(geometry), 0) => {
            b.op(Op::Linear(Linear::Conv(onto(geometry, ty))), &[cotangent, other], hint)
        }
        // The adjoint reads what the convolution writes: input and cotangent change places.
        (Linear::Conv(geometry), _) => kernel(b, geometry, ty, other, cotangent, hint),
        (Linear::ConvTranspose(geometry), _) => kernel(b, geometry, ty, cotangent, other, hint),
    }
}

/// VJP of a convolution from `wide` `[N, C, …]` to `narrow` `[N, O, …]` with respect to its kernel `[O, C/groups, …]`.
///
/// It is a convolution again, in which samples are channels: tap `k` meets output place `p` at input place
/// `p·stride + k·dilation − pad`, so that the result's places are taps and stride and dilation change roles.
fn kernel(
    b: &mut RelevanceBuilder,
    geometry: &Geometry,
    ty: &TensorType,
    wide: Value,
    narrow: Value,
    hint: &str,
) -> Built<Value> {
    let groups = Dim::Known(geometry.groups);
    let shape = b.ty(wide).shape;
    let (samples, channels, places) = match shape.as_slice() {
        [samples, channels, places @ ..] => (samples.clone(), channels.floor_div(&groups)?, places.to_vec()),
        _ => return Err(Diagnostic::new("a convolution has samples and channels")),
    };
    let spatial = places.len();
    let behind = |from: usize| from..from + spatial;
    // [N, G, C/G, …] → [C/G, G·N, …]
    let split: Vec<Dim> =
        [samples.clone(), groups.clone(), channels.clone()].into_iter().chain(places.clone()).collect();
    let split = b.reshape(wide, &split, hint)?;
    let perm = [2, 1, 0].into_iter().chain(behind(3)).collect();
    let turned = b.op(Op::Movement(Movement::Transpose { perm }), &[split], hint)?;
    let merged: Vec<Dim> = [channels, groups.mul(&samples)?].into_iter().chain(places).collect();
    let input = b.reshape(turned, &merged, hint)?;
    let swap: Vec<usize> = [1, 0].into_iter().chain(behind(2)).collect();
    let taps = b.op(Op::Movement(Movement::Transpose { perm: swap.clone() }), &[narrow], hint)?;
    let windows =
        Geometry { strides: geometry.dilations.clone(), dilations: geometry.strides.clone(), ..onto(geometry, ty) };
    let product = b.op(Op::Linear(Linear::Conv(windows)), &[input, taps], hint)?;
    b.op(Op::Movement(Movement::Transpose { perm: swap }), &[product], hint)
}

/// The same windows, with the forward operand's spatial sizes as result.
fn onto(geometry: &Geometry, ty: &TensorType) -> Geometry {
    Geometry { spatial: ty.shape.get(2..).unwrap_or_default().to_vec(), ..geometry.clone() }
}

/// `y[batch, left free, right free]`; the result for the left operand comes as `[batch, left free, contracted]`.
fn transpose_left(
    b: &mut RelevanceBuilder,
    dot: &Dot,
    ty: &TensorType,
    right: Value,
    cotangent: Value,
    hint: &str,
) -> Built<Value> {
    let right_rank = b.ty(right).rank();
    let (left_free, right_free) = (dot.left_free(ty.rank()), dot.right_free(right_rank));
    let batches = dot.batch.len();
    let first_right = batches + left_free.len();
    let adjoint = Dot {
        batch: dot.batch.iter().enumerate().map(|(at, pair)| (at, pair.1)).collect(),
        contract: right_free.iter().enumerate().map(|(at, &axis)| (first_right + at, axis)).collect(),
    };
    // The right operand's contracted axes come out in its own order.
    let mut contracted = dot.contract.clone();
    contracted.sort_by_key(|pair| pair.1);
    let axes: Vec<usize> = dot.batch.iter().chain(&[]).map(|pair| pair.0).chain(left_free).collect();
    let axes: Vec<usize> = axes.into_iter().chain(contracted.iter().map(|pair| pair.0)).collect();
    let product = b.op(Op::Linear(Linear::Dot(adjoint)), &[cotangent, right], hint)?;
    permute_to(b, product, &axes, hint)
}

/// The result for the right operand comes as `[batch, contracted, right free]`.
fn transpose_right(
    b: &mut RelevanceBuilder,
    dot: &Dot,
    ty: &TensorType,
    left: Value,
    cotangent: Value,
    hint: &str,
) -> Built<Value> {
    let left_rank = b.ty(left).rank();
    let left_free = dot.left_free(left_rank);
    let batches = dot.batch.len();
    let adjoint = Dot {
        batch: dot.batch.iter().enumerate().map(|(at, pair)| (pair.0, at)).collect(),
        contract: left_free.iter().enumerate().map(|(at, &axis)| (axis, batches + at)).collect(),
    };
    let mut contracted = dot.contract.clone();
    contracted.sort_by_key(|pair| pair.0);
    let axes: Vec<usize> = dot.batch.iter().map(|pair| pair.1).chain(contracted.iter().map(|pair| pair.1)).collect();
    let axes: Vec<usize> = axes.into_iter().chain(dot.right_free(ty.rank())).collect();
    let product = b.op(Op::Linear(Linear::Dot(adjoint)), &[left, cotangent], hint)?;
    permute_to(b, product, &axes, hint)
}

/// Brings a tensor whose axis `i` is axis `axes[i]` of the wanted one into order.
fn permute_to(b: &mut RelevanceBuilder, x: Value, axes: &[usize], hint: &str) -> Built<Value> {
    let mut perm = vec![0; axes.len()];
    for (at, &axis) in axes.iter().enumerate() {
        perm[axis] = at;
    }
    if perm.iter().enumerate().all(|(at, &axis)| at == axis) {
        return Ok(x);
    }
    b.op(Op::Movement(Movement::Transpose { perm }), &[x], hint)
}
