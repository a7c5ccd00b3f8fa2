//! Cumulative operations. Running sums and products of `f32` are kept in `f64`.

use lrpc_ir::ops::Scan;
use rayon::prelude::*;

use super::view::{View, ViewMut, around, ensure, for_number, operands};
use crate::error::RunErrorKind;
use crate::memory::Plain;

/// Runs along the axis.
pub(super) fn run(op: &Scan, inputs: &[View<'_>], output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    let (Scan::CumulativeSum { axis, exclusive, reverse } | Scan::CumulativeProduct { axis, exclusive, reverse }) = op;
    let [x] = operands(inputs)?;
    ensure(x.dtype == output.dtype && x.shape == output.shape, "a cumulative operation keeps type and shape")?;
    let (_, length, inner) = around(x.shape, *axis)?;
    let along = Along { length, inner, exclusive: *exclusive, reverse: *reverse };
    for_number!(x.dtype, op.mnemonic(), T => {
        let (x, y): (&[T], &mut [T]) = (x.values()?, output.values()?);
        match op {
            Scan::CumulativeSum { .. } => along.fold(x, y, T::ZERO, T::plus),
            Scan::CumulativeProduct { .. } => along.fold(x, y, T::ONE, T::times),
        }
        Ok(())
    })
}

/// Numbers with what partial results are kept in.
trait Running: Plain {
    type Wide: Copy + Send + Sync;
    const ZERO: Self::Wide;
    const ONE: Self::Wide;
    fn plus(total: Self::Wide, x: Self) -> Self::Wide;
    fn times(total: Self::Wide, x: Self) -> Self::Wide;
    fn narrow(total: Self::Wide) -> Self;
}

macro_rules! running {
    ($($number:ident $wide:ident $zero:literal $one:literal $plus:expr, $times:expr;)*) => {$(
        impl Running for $number {
            type Wide = $wide;
            const ZERO: $wide = $zero;
            const ONE: $wide = $one;
            #[inline(always)]
            fn plus(total: $wide, x: $number) -> $wide { $plus(total, $wide::from(x)) }
            #[inline(always)]
            fn times(total: $wide, x: $number) -> $wide { $times(total, $wide::from(x)) }
            #[inline(always)]
            fn narrow(total: $wide) -> $number { total as $number }
        }
    )*};
}

running! {
    f32 f64 0.0 1.0 |a, b| a + b, |a, b| a * b;
    f64 f64 0.0 1.0 |a, b| a + b, |a, b| a * b;
    i8 i8 0 1 i8::wrapping_add, i8::wrapping_mul;
    i16 i16 0 1 i16::wrapping_add, i16::wrapping_mul;
    i32 i32 0 1 i32::wrapping_add, i32::wrapping_mul;
    i64 i64 0 1 i64::wrapping_add, i64::wrapping_mul;
    u8 u8 0 1 u8::wrapping_add, u8::wrapping_mul;
    u16 u16 0 1 u16::wrapping_add, u16::wrapping_mul;
    u32 u32 0 1 u32::wrapping_add, u32::wrapping_mul;
    u64 u64 0 1 u64::wrapping_add, u64::wrapping_mul;
}

struct Along {
    length: usize,
    inner: usize,
    exclusive: bool,
    reverse: bool,
}

impl Along {
    fn fold<T: Running>(&self, x: &[T], output: &mut [T], first: T::Wide, step: impl Fn(T::Wide, T) -> T::Wide + Sync) {
        let whole = (self.length * self.inner).max(1);
        output.par_chunks_mut(whole).zip(x.par_chunks(whole)).for_each(|(output, x)| {
            let mut totals = vec![first; self.inner];
            for place in 0..self.length {
                let row = if self.reverse { self.length - 1 - place } else { place };
                let row = row * self.inner..(row + 1) * self.inner;
                for ((slot, x), total) in output[row.clone()].iter_mut().zip(&x[row]).zip(&mut totals) {
                    let before = *total;
                    *total = step(before, *x);
                    *slot = T::narrow(if self.exclusive { before } else { *total });
                }
            }
        });
    }
}
