//! Reductions over axes. Sums of `f32` are accumulated in `f64`.

use lrpc_ir::ops::{Reduce, ReduceKind};
use rayon::prelude::*;

use super::view::{View, ViewMut, ensure, for_number, operands, row_major};
use crate::error::RunErrorKind;
use crate::memory::Plain;

/// Neighbouring results that are accumulated together.
const BLOCK: usize = 256;

/// Numbers with the arithmetic of reductions.
trait Reducible: Plain {
    /// What partial results are kept in.
    type Wide: Copy + Send + Sync;
    const ZERO: Self::Wide;
    const ONE: Self::Wide;
    const LOWEST: Self;
    const HIGHEST: Self;

    fn widen(self) -> Self::Wide;
    fn narrow(wide: Self::Wide) -> Self;
    fn add(a: Self::Wide, b: Self::Wide) -> Self::Wide;
    fn mul(a: Self::Wide, b: Self::Wide) -> Self::Wide;
    fn mean(sum: Self::Wide, count: usize) -> Self::Wide;
    fn is_nan(self) -> bool;
}

macro_rules! reducible_float {
    ($($number:ident)*) => {$(
        impl Reducible for $number {
            type Wide = f64;
            const ZERO: f64 = 0.0;
            const ONE: f64 = 1.0;
            const LOWEST: $number = $number::NEG_INFINITY;
            const HIGHEST: $number = $number::INFINITY;

            #[inline(always)]
            fn widen(self) -> f64 { self.into() }
            #[inline(always)]
            fn narrow(wide: f64) -> $number { wide as $number }
            #[inline(always)]
            fn add(a: f64, b: f64) -> f64 { a + b }
            #[inline(always)]
            fn mul(a: f64, b: f64) -> f64 { a * b }
            #[inline(always)]
            fn mean(sum: f64, count: usize) -> f64 { sum / count as f64 }
            #[inline(always)]
            fn is_nan(self) -> bool { $number::is_nan(self) }
        }
    )*};
}

macro_rules! reducible_integer {
    ($($number:ident)*) => {$(
        impl Reducible for $number {
            type Wide = $number;
            const ZERO: $number = 0;
            const ONE: $number = 1;
            const LOWEST: $number = $number::MIN;
            const HIGHEST: $number = $number::MAX;

            fn widen(self) -> $number { self }
            fn narrow(wide: $number) -> $number { wide }
            fn add(a: $number, b: $number) -> $number { a.wrapping_add(b) }
            fn mul(a: $number, b: $number) -> $number { a.wrapping_mul(b) }
            fn mean(sum: $number, count: usize) -> $number {
                $number::try_from(count).ok().and_then(|count| sum.checked_div(count)).unwrap_or(0)
            }
            fn is_nan(self) -> bool { false }
        }
    )*};
}

reducible_float!(f32 f64);
reducible_integer!(i8 i16 i32 i64 u8 u16 u32 u64);

/// Axes as (length, stride), without those of length 1 and with neighbours merged.
type Axes = Vec<(usize, usize)>;

/// Reduces the operand.
pub(super) fn run(op: &Reduce, inputs: &[View<'_>], output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    let [x] = operands(inputs)?;
    ensure(x.dtype == output.dtype && op.axes.iter().all(|&axis| axis < x.shape.len()), "a reduction over its axes")?;
    let (mut kept, mut reduced) = (Axes::new(), Axes::new());
    for (axis, stride) in row_major(x.shape).into_iter().enumerate() {
        let axes = if op.axes.contains(&axis) { &mut reduced } else { &mut kept };
        match axes.last_mut() {
            Some((length, outer)) if *outer == stride * x.shape[axis] => {
                (*length, *outer) = (*length * x.shape[axis], stride)
            }
            _ if x.shape[axis] == 1 => {}
            _ => axes.push((x.shape[axis], stride)),
        }
    }
    let kept_count: usize = kept.iter().map(|axis| axis.0).product();
    ensure(kept_count == output.bytes.len() / output.dtype.size(), "a reduction that fills its result")?;
    for_number!(x.dtype, op.mnemonic(), T => {
        reduce::<T>(op.kind, x.values()?, &kept, &reduced, output.values()?);
        Ok(())
    })
}

fn reduce<T: Reducible>(kind: ReduceKind, x: &[T], kept: &Axes, reduced: &Axes, output: &mut [T]) {
    let count: usize = reduced.iter().map(|axis| axis.0).product();
    match kind {
        ReduceKind::Sum => fold(x, kept, reduced, output, T::ZERO, |sum, x| T::add(sum, x.widen()), T::add, T::narrow),
        ReduceKind::Mean => {
            let finish = |sum| T::narrow(T::mean(sum, count));
            fold(x, kept, reduced, output, T::ZERO, |sum, x| T::add(sum, x.widen()), T::add, finish);
        }
        ReduceKind::Product => {
            fold(x, kept, reduced, output, T::ONE, |product, x| T::mul(product, x.widen()), T::mul, T::narrow);
        }
        ReduceKind::Max => {
            let larger = |best: T, x: T| if x > best || x.is_nan() { x } else { best };
            fold(x, kept, reduced, output, T::LOWEST, larger, larger, |best| best);
        }
        ReduceKind::Min => {
            let smaller = |best: T, x: T| if x < best || x.is_nan() { x } else { best };
            fold(x, kept, reduced, output, T::HIGHEST, smaller, smaller, |best| best);
        }
    }
}

/// Folds every result's elements in an order that depends on the shape alone.
#[allow(clippy::too_many_arguments, reason = "the three functions of a fold and its operands")]
fn fold<T: Plain, A: Copy + Send + Sync>(
    x: &[T],
    kept: &Axes,
    reduced: &Axes,
    output: &mut [T],
    first: A,
    step: impl Fn(A, T) -> A + Sync,
    join: impl Fn(A, A) -> A + Sync,
    finish: impl Fn(A) -> T + Sync,
) {
    let (outer, (length, stride)) = match kept.split_last() {
        Some((last, outer)) => (outer, *last),
        None => (&[][..], (1, 1)),
    };
    if output.is_empty() {
        return;
    }
    let starts = starts(reduced);
    let contiguous = reduced.last().filter(|axis| axis.1 == 1).map(|axis| axis.0);
    let runs = contiguous.map(|_| self::starts(&reduced[..reduced.len() - 1]));
    output.par_chunks_mut(length).enumerate().for_each(|(row, output)| {
        let origin = place(outer, row);
        output.par_chunks_mut(BLOCK).enumerate().for_each(|(block, output)| {
            let origin = origin + block * BLOCK * stride;
            if let (Some(run), Some(runs)) = (contiguous, &runs) {
                for (index, slot) in output.iter_mut().enumerate() {
                    let origin = origin + index * stride;
                    let folded = runs.iter().fold(first, |folded, start| {
                        join(folded, fold_run(&x[origin + start..origin + start + run], first, &step, &join))
                    });
                    *slot = finish(folded);
                }
                return;
            }
            let mut folded = [first; BLOCK];
            for start in &starts {
                let x = x[origin + start..].iter().step_by(stride.max(1));
                folded[..output.len()].iter_mut().zip(x).for_each(|(folded, x)| *folded = step(*folded, *x));
            }
            output.iter_mut().zip(folded).for_each(|(slot, folded)| *slot = finish(folded));
        });
    });
}

/// Folds neighbours in eight interleaved partial results, which vector registers hold.
#[inline(always)]
fn fold_run<T: Plain, A: Copy>(x: &[T], first: A, step: impl Fn(A, T) -> A, join: impl Fn(A, A) -> A) -> A {
    let (blocks, rest) = x.as_chunks::<8>();
    let mut lanes = [first; 8];
    for block in blocks {
        for (lane, x) in lanes.iter_mut().zip(block) {
            *lane = step(*lane, *x);
        }
    }
    let rest = rest.iter().fold(first, |folded, x| step(folded, *x));
    lanes.into_iter().fold(rest, join)
}

/// Where each index over `axes` starts.
fn starts(axes: &[(usize, usize)]) -> Vec<usize> {
    axes.iter().fold(vec![0], |starts, &(length, stride)| {
        starts.iter().flat_map(|start| (0..length).map(move |index| start + index * stride)).collect()
    })
}

fn place(axes: &[(usize, usize)], mut index: usize) -> usize {
    let mut place = 0;
    for (length, stride) in axes.iter().rev() {
        place += index % length * stride;
        index /= length;
    }
    place
}
