//! Transposes of contraction and convolution.

use lrpc_ir::graph::Value;
use lrpc_ir::ops::linear::{Dot, Geometry, Linear};
use lrpc_ir::ops::{Movement, Op};
use lrpc_ir::{Diagnostic, TensorType};

use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::Site;

/// VJP with respect to operand `slot`.
pub(super) fn vjp(b: &mut RelevanceBuilder, site: &Site, op: &Linear, slot: usize, cotangent: Value) -> Built<Value> {
    if slot > 1 {
        return Err(Diagnostic::new("an active bias has to be an addition of its own"));
    }
    let other = b.activation(site.operands[1 - slot])?;
    let ty = b.ty(site.operands[slot]);
    transpose(b, op, slot, &ty, other, cotangent, "t")
}

/// VJP of `op` with respect to its operand `slot` of type `ty`, where `other` is the other operand.
pub(crate) fn transpose(
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
        _ => Err(Diagnostic::new("a convolution with an active kernel has no rule")
            .help("name the kernel's source with --wrt only where it is a contraction")),
    }
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
