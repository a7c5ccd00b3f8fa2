//! Tensors that a caller gives and receives.

use lrpc_ir::DType;

use crate::memory::{AlignedBytes, Plain, bytes_of, numbers};

/// A dense tensor in row-major order, in the machine's byte order.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    bytes: AlignedBytes,
}

impl Tensor {
    /// A tensor over a copy of `bytes`.
    ///
    /// # Errors
    /// A number of bytes that does not fit the shape, and exhausted memory.
    pub fn new(dtype: DType, shape: &[usize], bytes: &[u8]) -> Result<Tensor, String> {
        if byte_count(dtype, shape) != Some(bytes.len()) {
            return Err(format!("{} bytes do not fill {dtype}{shape:?}", bytes.len()));
        }
        let bytes = AlignedBytes::copy_of(bytes).ok_or_else(|| format!("no memory for {dtype}{shape:?}"))?;
        Ok(Tensor { dtype, shape: shape.to_vec(), bytes })
    }

    /// A tensor of the given numbers.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn from_values<T: Plain>(shape: &[usize], values: &[T]) -> Result<Tensor, String> {
        Tensor::new(T::DTYPE, shape, bytes_of(values))
    }

    /// A tensor of truth values.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn from_bools(shape: &[usize], values: &[bool]) -> Result<Tensor, String> {
        let bytes: Vec<u8> = values.iter().map(|&value| value.into()).collect();
        Tensor::new(DType::Bool, shape, &bytes)
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The axis lengths.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The bytes, aligned to 64.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// The elements, if they have this type (`u8` reads truth values too).
    pub fn values<T: Plain>(&self) -> Option<&[T]> {
        let truth = self.dtype == DType::Bool && T::DTYPE == DType::U8;
        if T::DTYPE == self.dtype || truth { numbers(self.bytes()) } else { None }
    }

    /// The elements as `f64`, whatever their type; integers beyond 2⁵³ round.
    pub fn to_f64(&self) -> Vec<f64> {
        crate::cpu::to_f64(self.dtype, self.bytes())
    }
}

/// The size of a tensor in bytes, or `None` where it overflows.
pub(crate) fn byte_count(dtype: DType, shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(dtype.size(), |product, &size| product.checked_mul(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_checked() {
        assert!(Tensor::from_values(&[2, 3], &[0f32; 6]).is_ok());
        assert!(Tensor::from_values(&[2, 3], &[0f32; 5]).is_err());
        assert!(Tensor::from_values::<f32>(&[usize::MAX, 3], &[]).is_err());
        assert_eq!(Tensor::from_values(&[], &[7i64]).unwrap().values::<i64>(), Some(&[7i64][..]));
        assert_eq!(Tensor::from_values(&[], &[7i64]).unwrap().values::<f64>(), None);
        assert_eq!(Tensor::from_bools(&[2], &[true, false]).unwrap().to_f64(), [1.0, 0.0]);
    }
}
