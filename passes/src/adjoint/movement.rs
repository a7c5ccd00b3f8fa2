//! Inverse index maps: the transposes of movements. Copies are summed, places that were dropped hold zero.

use lrpc_ir::graph::Value;
use lrpc_ir::ops::{Elementwise, Movement, Op, Reduce, ReduceKind, Select};
use lrpc_ir::{Diagnostic, Dim, Float};

use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::Site;

/// Whether the operation moves elements and [`adjoint`] knows the way back.
pub fn has_adjoint(op: &Op) -> bool {
    matches!(
        op,
        Op::Movement(_)
            | Op::Select(Select::Gather { .. } | Select::ScatterAdd { .. })
            | Op::Elementwise(Elementwise::Cast(_))
    )
}

/// The transpose with respect to operand `slot`, applied to `cotangent`.
pub fn adjoint(b: &mut RelevanceBuilder, site: &Site, slot: usize, cotangent: Value) -> Built<Value> {
    let ty = b.ty(site.operands[slot]);
    let hint = "t";
    match &site.op {
        Op::Elementwise(Elementwise::Cast(_)) => b.cast(cotangent, ty.dtype.of_relevance(), hint),
        Op::Movement(Movement::Reshape { .. }) => b.reshape(cotangent, &ty.shape, hint),
        Op::Movement(Movement::Transpose { perm }) => {
            let mut inverse = vec![0; perm.len()];
            for (at, &axis) in perm.iter().enumerate() {
                inverse[axis] = at;
            }
            b.op(Op::Movement(Movement::Transpose { perm: inverse }), &[cotangent], hint)
        }
        Op::Movement(Movement::Slice { starts, steps, .. }) => {
            let pad = Movement::Pad {
                before: starts.clone(),
                steps: steps.clone(),
                value: Float(0.0),
                shape: ty.shape.clone(),
            };
            b.op(Op::Movement(pad), &[cotangent], hint)
        }
        Op::Movement(Movement::Pad { before, steps, .. }) => unpad(b, before, steps, &ty.shape, cotangent),
        Op::Movement(Movement::Concat { axis }) => {
            let start = concat_start(b, site, *axis, slot)?;
            let slice = Movement::slice_axis(&b.ty(cotangent), *axis, start, ty.shape[*axis].clone());
            b.op(Op::Movement(slice), &[cotangent], hint)
        }
        Op::Movement(Movement::Broadcast { shape }) => {
            let axes = Movement::broadcast_axes(&ty.shape, shape);
            let sum = b.op(Op::Reduce(Reduce { kind: ReduceKind::Sum, axes, keep: false }), &[cotangent], hint)?;
            b.reshape(sum, &ty.shape, hint)
        }
        Op::Select(Select::Gather { axis, batch }) => {
            let index = b.activation(site.operands[1])?;
            let size = ty.shape[*axis].clone();
            let scatter = Select::ScatterAdd { axis: *axis, batch: *batch, size, unique_indices: false };
            b.op(Op::Select(scatter), &[cotangent, index], hint)
        }
        Op::Select(Select::ScatterAdd { axis, batch, .. }) => {
            let index = b.activation(site.operands[1])?;
            b.op(Op::Select(Select::Gather { axis: *axis, batch: *batch }), &[cotangent, index], hint)
        }
        other => Err(Diagnostic::new(format!("`{}` is not a movement", other.mnemonic()))),
    }
}

/// Where operand `slot` of a concatenation begins along its axis.
pub(crate) fn concat_start(b: &RelevanceBuilder, site: &Site, axis: usize, slot: usize) -> Built<Dim> {
    let lengths = site.operands[..slot].iter().map(|&operand| b.graph().ty(operand).shape[axis].clone());
    Ok(lengths.into_iter().try_fold(Dim::Known(0), |start, length| start.add(&length))?)
}

/// The transpose of a pad: a slice, or another pad where the forward one crops.
fn unpad(b: &mut RelevanceBuilder, before: &[Dim], steps: &[i64], shape: &[Dim], cotangent: Value) -> Built<Value> {
    let padded = b.ty(cotangent).shape;
    let inside = |axis: usize| -> Built<bool> {
        let after = padded[axis].sub(&before[axis])?.sub(&shape[axis])?;
        let spread = steps[axis] != 1;
        Ok(before[axis].known().is_none_or(|place| place >= 0)
            && (spread || after.known().is_none_or(|rest| rest >= 0)))
    };
    if (0..shape.len()).map(inside).collect::<Built<Vec<_>>>()?.into_iter().all(|inside| inside) {
        let slice = Movement::Slice { starts: before.to_vec(), steps: steps.to_vec(), shape: shape.to_vec() };
        return b.op(Op::Movement(slice), &[cotangent], "t");
    }
    if steps.iter().any(|&step| step != 1) {
        return Err(Diagnostic::new("a pad that crops and spreads at once has no rule"));
    }
    let back = before.iter().map(|place| place.mul(&Dim::Known(-1))).collect::<Result<Vec<_>, _>>()?;
    let pad = Movement::Pad { before: back, steps: steps.to_vec(), value: Float(0.0), shape: shape.to_vec() };
    b.op(Op::Movement(pad), &[cotangent], "t")
}
