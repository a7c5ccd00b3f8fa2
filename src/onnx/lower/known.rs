//! Integer tensors whose elements are known at import, perhaps as expressions over symbolic dimensions.
//!
//! Exporters compute shapes with tensors. Where every operand is known, such arithmetic is evaluated here and leaves
//! no nodes behind.

use lrpc_ir::dim::Dim;
use lrpc_ir::types::{DType, TensorType};

/// A tensor of integers or truth values (0 and 1) in row-major order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub elements: Vec<Dim>,
}

impl Known {
    /// The most elements that are evaluated.
    pub(super) const MAX_ELEMENTS: usize = 64;

    pub(super) fn scalar(dtype: DType, value: Dim) -> Known {
        Known { dtype, shape: vec![], elements: vec![value] }
    }

    pub(super) fn vector(elements: Vec<Dim>) -> Known {
        Known { dtype: DType::I64, shape: vec![elements.len()], elements }
    }

    /// A tensor of `shape` with its elements by place; `None` if it is too large, or an element has no value.
    pub(super) fn build(dtype: DType, shape: Vec<usize>, element: impl FnMut(usize) -> Option<Dim>) -> Option<Known> {
        let count = shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size))?;
        if count > Self::MAX_ELEMENTS {
            return None;
        }
        let elements = (0..count).map(element).collect::<Option<Vec<Dim>>>()?;
        Some(Known { dtype, shape, elements })
    }

    pub(super) fn ty(&self) -> TensorType {
        TensorType::new(self.dtype, self.shape.iter().map(|size| dim(*size)).collect())
    }

    /// The elements as numbers, if all are.
    pub(super) fn numbers(&self) -> Option<Vec<i64>> {
        self.elements.iter().map(Dim::known).collect()
    }

    /// The same elements under another shape.
    pub(super) fn reshaped(&self, shape: Vec<usize>) -> Option<Known> {
        let count = shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size))?;
        (count == self.elements.len()).then(|| Known { shape, ..self.clone() })
    }

    /// The element-wise combination of tensors after broadcasting.
    pub(super) fn combine(operands: &[&Known], dtype: DType, f: impl Fn(&[&Dim]) -> Option<Dim>) -> Option<Known> {
        let rank = operands.iter().map(|operand| operand.shape.len()).max()?;
        let mut shape = vec![1; rank];
        for operand in operands {
            for (size, own) in shape.iter_mut().rev().zip(operand.shape.iter().rev()) {
                if *size == 1 {
                    *size = *own;
                } else if *own != 1 && own != size {
                    return None;
                }
            }
        }
        Known::build(dtype, shape.clone(), |place| {
            let elements = operands.iter().map(|operand| operand.elements.get(operand.place_in(&shape, place)?));
            f(&elements.collect::<Option<Vec<_>>>()?)
        })
    }

    /// The place in this tensor that is copied to `place` of a tensor of `shape` by broadcasting.
    fn place_in(&self, shape: &[usize], mut place: usize) -> Option<usize> {
        let (mut own, mut stride) = (0_usize, 1_usize);
        let sizes = self.shape.iter().rev().copied().chain(std::iter::repeat(1));
        for (size, own_size) in shape.iter().rev().zip(sizes) {
            let index = place.checked_rem(*size)?;
            place = place.checked_div(*size)?;
            if own_size != 1 {
                own = own.checked_add(index.checked_mul(stride)?)?;
                stride = stride.checked_mul(own_size)?;
            }
        }
        Some(own)
    }

    /// The copy of this tensor that has the shape `shape`.
    pub(super) fn broadcast(&self, shape: &[usize]) -> Option<Known> {
        let filler = Known::build(self.dtype, shape.to_vec(), |_| Some(Dim::Known(0)))?;
        Known::combine(&[self, &filler], self.dtype, |elements| elements.first().map(|element| (*element).clone()))
    }

    /// The tensor whose axis `i` is axis `perm[i]` of this one.
    pub(super) fn transposed(&self, perm: &[usize]) -> Option<Known> {
        let shape = perm.iter().map(|axis| self.shape.get(*axis).copied()).collect::<Option<Vec<usize>>>()?;
        Known::build(self.dtype, shape.clone(), |mut place| {
            let mut coordinates = vec![0; self.shape.len()];
            for (axis, size) in perm.iter().zip(&shape).rev() {
                *coordinates.get_mut(*axis)? = place.checked_rem(*size)?;
                place = place.checked_div(*size)?;
            }
            let own = coordinates
                .iter()
                .zip(&self.shape)
                .try_fold(0_usize, |own, (coordinate, size)| own.checked_mul(*size)?.checked_add(*coordinate))?;
            self.elements.get(own).cloned()
        })
    }

    /// Slices along `axis` at the given places, in their order.
    pub(super) fn take(&self, axis: usize, places: &[usize]) -> Option<Known> {
        let size = *self.shape.get(axis)?;
        let inner: usize = self.shape.get(axis.checked_add(1)?..)?.iter().product();
        let mut shape = self.shape.clone();
        *shape.get_mut(axis)? = places.len();
        let row = inner.checked_mul(places.len())?;
        Known::build(self.dtype, shape, |place| {
            let (outer, rest) = (place.checked_div(row)?, place.checked_rem(row)?);
            let (nth, offset) = (rest.checked_div(inner)?, rest.checked_rem(inner)?);
            let from = places.get(nth).filter(|from| **from < size)?;
            let start = outer.checked_mul(size)?.checked_add(*from)?.checked_mul(inner)?;
            self.elements.get(start.checked_add(offset)?).cloned()
        })
    }
}

/// A size as a dimension.
pub(super) fn dim(size: usize) -> Dim {
    Dim::Known(i64::try_from(size).unwrap_or(i64::MAX))
}
