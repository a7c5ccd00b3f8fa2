//! Softmax and normalisations. Statistics of `f32` are accumulated in `f64`.

use lrpc_ir::ops::Normalize;
use rayon::prelude::*;

use super::real::Real;
use super::view::{View, ViewMut, around, ensure, for_real, number};
use crate::error::RunErrorKind;

/// One normalisation.
pub(super) fn run(op: &Normalize, inputs: &[View<'_>], output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    let (x, parameters) = inputs.split_first().ok_or_else(|| RunErrorKind::plan("a normalisation has an operand"))?;
    ensure(x.shape == output.shape && x.dtype == output.dtype, "a normalisation keeps type and shape")?;
    let expected = match op {
        Normalize::Softmax { .. } | Normalize::LogSoftmax { .. } => 0,
        Normalize::RmsNorm { .. } => 1,
        Normalize::LayerNorm { .. } | Normalize::GroupNorm { .. } => 2,
        Normalize::BatchNorm { .. } => 4,
    };
    ensure(parameters.len() == expected, "the parameters of a normalisation")?;
    for_real!(output.dtype, op.mnemonic(), T => {
        let parameters = parameters.iter().map(View::values::<T>).collect::<Result<Vec<_>, _>>()?;
        run_real::<T>(op, x.shape, x.values()?, &parameters, output.values()?)
    })
}

fn run_real<T: Real>(
    op: &Normalize,
    shape: &[usize],
    x: &[T],
    parameters: &[&[T]],
    output: &mut [T],
) -> Result<(), RunErrorKind> {
    if output.is_empty() {
        return Ok(());
    }
    match op {
        Normalize::Softmax { axis, safe: false } => {
            softmax(around(shape, *axis)?, x, output, |x, max, sum| T::of((x - max).exp().wide() / sum))
        }
        Normalize::Softmax { axis, safe: true } => softmax(around(shape, *axis)?, x, output, |x, max, sum| {
            let share = (x - max).exp().wide() / sum;
            if share.is_nan() { T::ZERO } else { T::of(share) }
        }),
        Normalize::LogSoftmax { axis } => {
            softmax(around(shape, *axis)?, x, output, |x, max, sum| T::of((x - max).wide() - sum.ln()))
        }
        Normalize::LayerNorm { axis, eps } => {
            let row = shape.get(*axis..).unwrap_or_default().iter().product();
            ensure(parameters.iter().all(|values| values.len() == row), "parameters of the normalised axes")?;
            rows(x, row, output, |_, x, output| {
                let (mean, scale) = moments(x, eps.0);
                for (((slot, x), scale_by), bias) in output.iter_mut().zip(x).zip(parameters[0]).zip(parameters[1]) {
                    *slot = T::of((x.wide() - mean) * scale) * *scale_by + *bias;
                }
            });
        }
        Normalize::RmsNorm { axis, eps } => {
            let row = shape.get(*axis..).unwrap_or_default().iter().product();
            ensure(parameters[0].len() == row, "parameters of the normalised axes")?;
            rows(x, row, output, |_, x, output| {
                let squares = sum(x, |x| x * x);
                let scale = 1.0 / (squares / row as f64 + eps.0).sqrt();
                for ((slot, x), scale_by) in output.iter_mut().zip(x).zip(parameters[0]) {
                    *slot = T::of(x.wide() * scale) * *scale_by;
                }
            });
        }
        Normalize::GroupNorm { groups, eps } => {
            let (_, channels, plane) = around(shape, 1)?;
            let groups = usize::try_from(number(groups)?).unwrap_or(0);
            ensure(groups > 0 && channels.is_multiple_of(groups), "groups that divide the channels")?;
            ensure(parameters.iter().all(|values| values.len() == channels), "one parameter per channel")?;
            let size = channels / groups;
            rows(x, size * plane, output, |row, x, output| {
                let (mean, scale) = moments(x, eps.0);
                let first = row % groups * size;
                for (channel, (x, output)) in x.chunks(plane).zip(output.chunks_mut(plane)).enumerate() {
                    let (scale_by, bias) = (parameters[0][first + channel], parameters[1][first + channel]);
                    for (slot, x) in output.iter_mut().zip(x) {
                        *slot = T::of((x.wide() - mean) * scale) * scale_by + bias;
                    }
                }
            });
        }
        Normalize::BatchNorm { eps } => {
            let (_, channels, plane) = around(shape, 1)?;
            ensure(parameters.iter().all(|values| values.len() == channels), "one parameter per channel")?;
            let [scale, bias, mean, variance] = parameters else { return Ok(()) };
            rows(x, plane, output, |row, x, output| {
                let channel = row % channels;
                let factor = scale[channel].wide() / (variance[channel].wide() + eps.0).sqrt();
                for (slot, x) in output.iter_mut().zip(x) {
                    *slot = T::of((x.wide() - mean[channel].wide()) * factor + bias[channel].wide());
                }
            });
        }
    }
    Ok(())
}

/// Runs `each(index, x, output)` over rows of `row` elements.
fn rows<T: Real>(x: &[T], row: usize, output: &mut [T], each: impl Fn(usize, &[T], &mut [T]) + Sync) {
    let pairs = output.par_chunks_mut(row).zip(x.par_chunks(row));
    pairs.enumerate().for_each(|(index, (output, x))| each(index, x, output));
}

/// A sum in eight interleaved partial sums.
fn sum<T: Real>(x: &[T], term: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0.0; 8];
    for block in x.chunks(8) {
        for (lane, x) in lanes.iter_mut().zip(block) {
            *lane += term(x.wide());
        }
    }
    lanes.iter().sum()
}

/// Mean and `1/√(variance + eps)`.
fn moments<T: Real>(x: &[T], eps: f64) -> (f64, f64) {
    let mean = sum(x, |x| x) / x.len() as f64;
    let variance = sum(x, |x| (x - mean) * (x - mean)) / x.len() as f64;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// `finish(x, max, Σ e^(x − max))` for every element along an axis of `length` elements that are `inner` apart.
fn softmax<T: Real>(
    (_, length, inner): (usize, usize, usize),
    x: &[T],
    output: &mut [T],
    finish: impl Fn(T, T, f64) -> T + Sync,
) {
    rows(x, length * inner, output, |_, x, output| {
        let mut largest = x[..inner].to_vec();
        for row in x.chunks(inner) {
            largest.iter_mut().zip(row).for_each(|(max, x)| {
                if *x > *max || x.is_nan() {
                    *max = *x;
                }
            });
        }
        let mut sums = vec![0.0; inner];
        for row in x.chunks(inner) {
            for ((sum, x), max) in sums.iter_mut().zip(row).zip(&largest) {
                *sum += (*x - *max).exp().wide();
            }
        }
        for (row, output) in x.chunks(inner).zip(output.chunks_mut(inner)) {
            for (((slot, x), max), sum) in output.iter_mut().zip(row).zip(&largest).zip(&sums) {
                *slot = finish(*x, *max, *sum);
            }
        }
    });
}
