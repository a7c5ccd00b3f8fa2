//! Sizes that are equal for the caller, but not as expressions: `batch*seq` against `seq`, a number against a symbol.
//!
//! A reshape to the size that is wanted stands between them; it is checked once all sizes are known. Sizes that can never
//! be equal are refused here.

use lrpc_ir::ops::{Linear, Normalize};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid};
use super::site::Site;

impl Site<'_, '_> {
    /// The operand under sizes that `shape` has for the same axes, aligned at the last one. Axes of length 1 stay. Each
    /// size that is not the same expression is a reshape of its own, which is checked once all sizes are known.
    pub(super) fn conform(&mut self, x: Value, shape: &[Dim]) -> Lowered<Value> {
        let mut x = x;
        let mut own = self.ty(x).shape;
        let Some(before) = shape.len().checked_sub(own.len()) else { return Ok(x) };
        for (axis, wanted) in shape.iter().skip(before).enumerate() {
            let Some(size) = own.get_mut(axis).filter(|size| **size != Dim::Known(1) && *size != wanted) else {
                continue;
            };
            if !size.may_equal(wanted) {
                return invalid(format!("axis {axis} of {} is not {wanted}", self.ty(x)));
            }
            *size = wanted.clone();
            x = self.reshape(x, own.clone())?;
        }
        Ok(x)
    }

    /// As [`Site::conform`], for one axis.
    pub(super) fn conform_axis(&mut self, x: Value, axis: usize, size: &Dim) -> Lowered<Value> {
        let mut shape = self.ty(x).shape;
        match shape.get_mut(axis) {
            Some(slot) if slot != size && slot.may_equal(size) => *slot = size.clone(),
            _ => return Ok(x),
        }
        self.reshape(x, shape)
    }

    /// The operands, with one size on axes that the operation needs equal.
    pub(super) fn meet(&mut self, op: &Op, operands: &[Value]) -> Lowered<Vec<Value>> {
        let mut met = operands.to_vec();
        let shape =
            |site: &Site, place: usize| operands.get(place).map(|operand| site.ty(*operand).shape).unwrap_or_default();
        let pairs: Vec<(usize, usize, i64)> = match op {
            Op::Linear(Linear::Dot(dot)) => dot.batch.iter().chain(&dot.contract).map(|&(a, b)| (a, b, 1)).collect(),
            Op::Linear(Linear::Conv(geometry)) => vec![(1, 1, geometry.groups)],
            Op::Linear(Linear::ConvTranspose(_)) => vec![(1, 0, 1)],
            Op::Normalize(Normalize::LayerNorm { axis, .. } | Normalize::RmsNorm { axis, .. }) => {
                (0..shape(self, 1).len()).map(|place| (place.saturating_add(*axis), place, 1)).collect()
            }
            Op::Normalize(Normalize::GroupNorm { .. } | Normalize::BatchNorm { .. }) => vec![(1, 0, 1)],
            _ => return Ok(met),
        };
        for (left, right, factor) in pairs {
            let (Some(a), Some(b)) = (shape(self, 0).get(left).cloned(), shape(self, 1).get(right).cloned()) else {
                continue;
            };
            let b = b.mul(&Dim::Known(factor))?;
            let Some(same) = same_size(&a, &b).filter(|_| a != b) else { continue };
            if let Some(x) = met.first_mut() {
                *x = self.conform_axis(*x, left, &same)?;
            }
            if let Some(weight) = met.get_mut(1).filter(|_| factor == 1) {
                *weight = self.conform_axis(*weight, right, &same)?;
            }
        }
        Ok(met)
    }
}

/// The shape to which operands of these shapes are broadcast, aligned at the last axis.
pub(super) fn broadcast_shape(a: &[Dim], b: &[Dim]) -> Lowered<Vec<Dim>> {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let mut shape = long.to_vec();
    for (size, other) in shape.iter_mut().rev().zip(short.iter().rev()) {
        if *size == Dim::Known(1) {
            *size = other.clone();
        } else if *other != Dim::Known(1) {
            match same_size(size, other) {
                Some(same) => *size = same,
                None => return invalid(format!("the shapes {a:?} and {b:?} do not broadcast")),
            }
        }
    }
    Ok(shape)
}

/// The simpler of two sizes that are equal once symbols have values; `None` where they can never be.
pub(super) fn same_size(a: &Dim, b: &Dim) -> Option<Dim> {
    let rank = |size: &Dim| match (size.known(), size.as_symbol()) {
        (Some(_), _) => 0,
        (_, Some(_)) => 1,
        _ => 2,
    };
    let simpler = if rank(b) < rank(a) { b } else { a };
    a.may_equal(b).then(|| simpler.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_broadcast_from_the_last_axis() {
        let shape = |sizes: &[i64]| sizes.iter().map(|size| Dim::Known(*size)).collect::<Vec<_>>();
        assert_eq!(broadcast_shape(&shape(&[4, 1, 3]), &shape(&[5, 1])), Ok(shape(&[4, 5, 3])));
        assert!(broadcast_shape(&shape(&[2]), &shape(&[3])).is_err());
        let batch = [Dim::symbol("N"), Dim::Known(3)];
        assert_eq!(broadcast_shape(&batch, &shape(&[1])), Ok(batch.to_vec()));
        assert_eq!(broadcast_shape(&batch, &shape(&[2, 3])), Ok(shape(&[2, 3])), "N has to be 2");
        let next = [Dim::symbol("N").add(&Dim::Known(1)).unwrap_or(Dim::Known(0)), Dim::Known(3)];
        assert!(broadcast_shape(&batch, &next).is_err(), "N is never N + 1");
    }
}
