//! Cumulative operations. Running sums of `f32` are kept in `f64`.

use lrpc_ir::DType;
use lrpc_ir::ops::Scan;
use rayon::prelude::*;

use super::view::{View, ViewMut, around, ensure, operands};
use crate::error::RunErrorKind;
use crate::memory::Plain;

/// Runs along the axis.
pub(super) fn run(op: &Scan, inputs: &[View<'_>], output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    let Scan::CumulativeSum { axis, exclusive, reverse } = op;
    let [x] = operands(inputs)?;
    ensure(x.dtype == output.dtype && x.shape == output.shape, "a running sum keeps type and shape")?;
    let (_, length, inner) = around(x.shape, *axis)?;
    let along = Along { length, inner, exclusive: *exclusive, reverse: *reverse };
    match x.dtype {
        DType::F32 => {
            along.sums(x.values::<f32>()?, output.values()?, |sum: f64, x| sum + f64::from(x), |sum| sum as f32)
        }
        DType::F64 => along.sums(x.values::<f64>()?, output.values()?, |sum: f64, x| sum + x, |sum| sum),
        DType::I32 => along.sums(x.values::<i32>()?, output.values()?, i32::wrapping_add, |sum| sum),
        DType::I64 => along.sums(x.values::<i64>()?, output.values()?, i64::wrapping_add, |sum| sum),
        other => return Err(RunErrorKind::dtype(op.mnemonic(), other)),
    }
    Ok(())
}

struct Along {
    length: usize,
    inner: usize,
    exclusive: bool,
    reverse: bool,
}

impl Along {
    fn sums<T: Plain, A: Copy + Default + Send + Sync>(
        &self,
        x: &[T],
        output: &mut [T],
        add: impl Fn(A, T) -> A + Sync,
        narrow: impl Fn(A) -> T + Sync,
    ) {
        let whole = (self.length * self.inner).max(1);
        output.par_chunks_mut(whole).zip(x.par_chunks(whole)).for_each(|(output, x)| {
            let mut sums = vec![A::default(); self.inner];
            for step in 0..self.length {
                let row = if self.reverse { self.length - 1 - step } else { step };
                let row = row * self.inner..(row + 1) * self.inner;
                for ((slot, x), sum) in output[row.clone()].iter_mut().zip(&x[row]).zip(&mut sums) {
                    let before = *sum;
                    *sum = add(before, *x);
                    *slot = narrow(if self.exclusive { before } else { *sum });
                }
            }
        });
    }
}
