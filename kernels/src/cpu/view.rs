//! Tensors as kernels see them: borrowed bytes with type and shape.

use lrpc_ir::{DType, Dim};

use crate::error::RunErrorKind;
use crate::memory::{Plain, numbers, numbers_mut};

/// A tensor to read.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub dtype: DType,
    pub shape: &'a [usize],
    pub bytes: &'a [u8],
}

/// A tensor to write.
pub(crate) struct ViewMut<'a> {
    pub dtype: DType,
    pub shape: &'a [usize],
    pub bytes: &'a mut [u8],
}

impl<'a> View<'a> {
    /// The elements as numbers of the same size; the caller chooses `T` by `dtype`.
    pub fn values<T: Plain>(&self) -> Result<&'a [T], RunErrorKind> {
        let fits = size_of::<T>() == self.dtype.size();
        let values = if fits { numbers(self.bytes) } else { None };
        values.ok_or_else(|| RunErrorKind::plan(format!("{} elements read as {}", self.dtype, T::DTYPE)))
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }
}

impl ViewMut<'_> {
    /// As [`View::values`], to be written.
    pub fn values<T: Plain>(&mut self) -> Result<&mut [T], RunErrorKind> {
        let fits = size_of::<T>() == self.dtype.size();
        let values = if fits { numbers_mut(self.bytes) } else { None };
        values.ok_or_else(|| RunErrorKind::plan(format!("{} elements written as {}", self.dtype, T::DTYPE)))
    }
}

/// The operands as an array of the expected length.
pub(crate) fn operands<'s, 'a, const N: usize>(inputs: &'s [View<'a>]) -> Result<&'s [View<'a>; N], RunErrorKind> {
    inputs.try_into().map_err(|_| RunErrorKind::plan(format!("{} operands where {N} belong", inputs.len())))
}

/// A dimension of a plan, which is a number.
pub(crate) fn number(dim: &Dim) -> Result<i64, RunErrorKind> {
    dim.known().ok_or_else(|| RunErrorKind::plan(format!("the dimension {dim} is not a number")))
}

/// Dimensions of a plan, which are numbers.
pub(crate) fn all_numbers(dims: &[Dim]) -> Result<Vec<i64>, RunErrorKind> {
    dims.iter().map(number).collect()
}

/// Checks what an operation relies on.
pub(crate) fn ensure(holds: bool, what: &str) -> Result<(), RunErrorKind> {
    if holds { Ok(()) } else { Err(RunErrorKind::plan(what)) }
}

/// The product of axis lengths; buffers exist, so it fits.
pub(crate) fn count(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// Distance in elements between neighbours along each axis of a row-major tensor.
pub(crate) fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// The lengths before, of, and after `axis`, multiplied up.
pub(crate) fn around(shape: &[usize], axis: usize) -> Result<(usize, usize, usize), RunErrorKind> {
    let length = *shape.get(axis).ok_or_else(|| RunErrorKind::plan(format!("axis {axis} of shape {shape:?}")))?;
    Ok((count(&shape[..axis]), length, count(&shape[axis + 1..])))
}

/// Runs `$body` with `$T` standing for `f32` or `f64`.
macro_rules! for_real {
    ($dtype:expr, $call:expr, $T:ident => $body:expr) => {
        match $dtype {
            lrpc_ir::DType::F32 => {
                type $T = f32;
                $body
            }
            lrpc_ir::DType::F64 => {
                type $T = f64;
                $body
            }
            other => Err($crate::error::RunErrorKind::dtype($call, other)),
        }
    };
}

/// Runs `$body` with `$T` standing for the number type of `$dtype`; truth values count as `u8`.
macro_rules! for_number {
    ($dtype:expr, $call:expr, $T:ident => $body:expr) => {
        for_number!(@ $dtype, $call, $T => $body;
            F32 f32, F64 f64, I8 i8, I16 i16, I32 i32, I64 i64, U8 u8, U16 u16, U32 u32, U64 u64, Bool u8)
    };
    (@ $dtype:expr, $call:expr, $T:ident => $body:expr; $($name:ident $number:ident),*) => {
        match $dtype {
            $(lrpc_ir::DType::$name => {
                type $T = $number;
                $body
            })*
            other => Err($crate::error::RunErrorKind::dtype($call, other)),
        }
    };
}

/// Runs `$body` with `$T` standing for the unsigned integer of the same size: to move elements their size is enough.
macro_rules! for_size {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype.size() {
            1 => {
                type $T = u8;
                $body
            }
            2 => {
                type $T = u16;
                $body
            }
            4 => {
                type $T = u32;
                $body
            }
            _ => {
                type $T = u64;
                $body
            }
        }
    };
}

pub(crate) use {for_number, for_real, for_size};
