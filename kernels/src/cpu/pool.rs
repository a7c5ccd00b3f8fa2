//! Sliding windows and interpolation with their adjoints; every task owns whole planes.

use lrpc_ir::DType;
use lrpc_ir::ops::taps::resize_taps;
use lrpc_ir::ops::{Pool, PoolKind, Resize, Window};
use rayon::prelude::*;

use super::real::Real;
use super::spatial::{AXES, Axis, Spatial};
use super::view::{View, ViewMut, all_numbers, ensure, for_real, operands};
use crate::error::RunErrorKind;

/// One pooling operation.
pub(super) fn run(op: &Pool, inputs: &[View<'_>], output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    if let Pool::WindowArgMax(window) = op {
        let [x] = operands(inputs)?;
        ensure(output.dtype == DType::I64, "places as i64")?;
        let windows = Windows::new(PoolKind::Max, window, x.shape, output.shape)?;
        return for_real!(x.dtype, op.mnemonic(), T => {
            windows.winners::<T>(x.values()?, output.values()?);
            Ok(())
        });
    }
    for_real!(output.dtype, op.mnemonic(), T => match op {
        Pool::Window(kind, window) => {
            let [x] = operands(inputs)?;
            let windows = Windows::new(*kind, window, x.shape, output.shape)?;
            windows.forward::<T>(x.values()?, output.values()?);
            Ok(())
        }
        Pool::WindowTranspose(PoolKind::Max, window) => {
            let [x, cotangent] = operands(inputs)?;
            ensure(x.shape == output.shape, "the forward operand has the result's shape")?;
            let windows = Windows::new(PoolKind::Max, window, output.shape, cotangent.shape)?;
            windows.to_winners::<T>(x.values()?, cotangent.values()?, output.values()?);
            Ok(())
        }
        Pool::WindowTranspose(kind, window) => {
            let [cotangent] = operands(inputs)?;
            let windows = Windows::new(*kind, window, output.shape, cotangent.shape)?;
            windows.spread::<T>(cotangent.values()?, output.values()?);
            Ok(())
        }
        Pool::WindowArgMax(_) => Err(RunErrorKind::plan("places are integers")),
        Pool::Resize(resize) => {
            let [x] = operands(inputs)?;
            interpolate::<T>(resize, false, x, output)
        }
        Pool::ResizeTranspose(resize) => {
            let [x] = operands(inputs)?;
            interpolate::<T>(resize, true, x, output)
        }
    })
}

/// Windows over planes.
struct Windows {
    kind: PoolKind,
    spatial: Spatial,
    /// Per axis and window: the first place inside of the input, and how many taps lie inside.
    inside: [Vec<(usize, usize)>; AXES],
    /// Per axis: places after the last element that count as padding.
    after: [i64; AXES],
}

impl Windows {
    fn new(kind: PoolKind, window: &Window, wide: &[usize], narrow: &[usize]) -> Result<Windows, RunErrorKind> {
        let ([n, c, input @ ..], [narrow_n, narrow_c, output @ ..]) = (wide, narrow) else {
            return Err(RunErrorKind::plan("a pooling operation has a batch and a channel axis"));
        };
        ensure((n, c) == (narrow_n, narrow_c), "pooling keeps batch and channels")?;
        let taps = all_numbers(&window.size)?;
        let taps: Option<Vec<usize>> = taps.into_iter().map(|size| usize::try_from(size).ok()).collect();
        let taps = taps.ok_or_else(|| RunErrorKind::plan("a window of negative size"))?;
        let pads = all_numbers(&window.pads)?;
        let spatial = Spatial::new(input, output, &taps, &window.strides, &pads, &window.dilations)?;
        let pads_after = all_numbers(&window.pads_after)?;
        ensure(pads_after.len() <= AXES, "one pad for each spatial axis")?;
        let mut after = [0; AXES];
        after[AXES - pads_after.len()..].copy_from_slice(&pads_after);
        let inside = spatial.0.map(|axis| {
            let of_window = |window| {
                let taps = axis.taps_inside(window);
                let first = window as i64 * axis.stride + axis.offset(taps.start);
                (usize::try_from(first).unwrap_or(0), taps.len())
            };
            (0..axis.output).map(of_window).collect()
        });
        Ok(Windows { kind, spatial, inside, after })
    }

    /// Calls `visit` with the flat place of every element inside of the window, in row-major order.
    #[inline(always)]
    fn places(&self, window: [usize; AXES], mut visit: impl FnMut(usize)) {
        let [z, y, x] = self.spatial.0;
        let [(first_z, taps_z), (first_y, taps_y), (first_x, taps_x)] =
            [self.inside[0][window[0]], self.inside[1][window[1]], self.inside[2][window[2]]];
        for tap_z in 0..taps_z {
            let place_z = first_z + tap_z * z.dilation as usize;
            for tap_y in 0..taps_y {
                let place_y = first_y + tap_y * y.dilation as usize;
                let row = (place_z * y.input + place_y) * x.input + first_x;
                for tap_x in 0..taps_x {
                    visit(row + tap_x * x.dilation as usize);
                }
            }
        }
    }

    /// What a window's sum is divided by.
    fn divisor(&self, window: [usize; AXES]) -> usize {
        let count = |(axis, &window): (usize, &usize)| {
            let bounds = &self.spatial.0[axis];
            match self.kind {
                PoolKind::Average => self.inside[axis][window].1,
                _ => padded(bounds, self.after[axis]).taps_inside(window).len(),
            }
        };
        match self.kind {
            PoolKind::Sum | PoolKind::Max => 1,
            // A window without any place has sum 0, whatever it is divided by.
            PoolKind::Average | PoolKind::AverageWithPadding => {
                window.iter().enumerate().map(count).product::<usize>().max(1)
            }
        }
    }

    fn each_window(&self, mut visit: impl FnMut(usize, [usize; AXES])) {
        let [z, y, x] = self.spatial.0;
        let mut flat = 0;
        for window_z in 0..z.output {
            for window_y in 0..y.output {
                for window_x in 0..x.output {
                    visit(flat, [window_z, window_y, window_x]);
                    flat += 1;
                }
            }
        }
    }

    fn forward<T: Real>(&self, x: &[T], output: &mut [T]) {
        let (plane, windows) = (self.spatial.input(), self.spatial.output());
        output.par_chunks_mut(windows.max(1)).enumerate().for_each(|(index, output)| {
            let x = &x[index * plane..(index + 1) * plane];
            self.each_window(|flat, window| {
                output[flat] = if self.kind == PoolKind::Max {
                    let mut best = T::NEG_INFINITY;
                    self.places(window, |place| {
                        let value = x[place];
                        if value > best || value.is_nan() {
                            best = value;
                        }
                    });
                    best
                } else {
                    let mut sum = T::ZERO;
                    self.places(window, |place| sum += x[place]);
                    sum / T::of(self.divisor(window) as f64)
                };
            });
        });
    }

    /// Each cotangent goes to its window's first largest element.
    fn to_winners<T: Real>(&self, x: &[T], cotangent: &[T], output: &mut [T]) {
        let (plane, windows) = (self.spatial.input(), self.spatial.output());
        output.par_chunks_mut(plane.max(1)).enumerate().for_each(|(index, output)| {
            let x = &x[index * plane..(index + 1) * plane];
            let cotangent = &cotangent[index * windows..(index + 1) * windows];
            output.fill(T::ZERO);
            self.each_window(|flat, window| {
                if let Some(winner) = self.winner(x, window) {
                    output[winner] += cotangent[flat];
                }
            });
        });
    }

    /// The place of a window's first largest element.
    #[inline(always)]
    fn winner<T: Real>(&self, x: &[T], window: [usize; AXES]) -> Option<usize> {
        let mut winner: Option<usize> = None;
        self.places(window, |place| {
            let better = winner.is_none_or(|best| x[place] > x[best] || (x[place].is_nan() && !x[best].is_nan()));
            if better {
                winner = Some(place);
            }
        });
        winner
    }

    /// The place of each window's first largest element; 0 where a window holds none.
    fn winners<T: Real>(&self, x: &[T], output: &mut [i64]) {
        let (plane, windows) = (self.spatial.input(), self.spatial.output());
        output.par_chunks_mut(windows.max(1)).enumerate().for_each(|(index, output)| {
            let x = &x[index * plane..(index + 1) * plane];
            self.each_window(|flat, window| {
                output[flat] = self.winner(x, window).map_or(0, |place| place as i64);
            });
        });
    }

    /// Each cotangent, divided as the forward sum is, goes to all elements of its window.
    fn spread<T: Real>(&self, cotangent: &[T], output: &mut [T]) {
        let (plane, windows) = (self.spatial.input(), self.spatial.output());
        output.par_chunks_mut(plane.max(1)).enumerate().for_each(|(index, output)| {
            let cotangent = &cotangent[index * windows..(index + 1) * windows];
            output.fill(T::ZERO);
            self.each_window(|flat, window| {
                let share = cotangent[flat] / T::of(self.divisor(window) as f64);
                self.places(window, |place| output[place] += share);
            });
        });
    }
}

/// The axis with its padding counted as part of the input.
fn padded(axis: &Axis, after: i64) -> Axis {
    let input = (axis.input as i64).saturating_add(axis.pad).saturating_add(after);
    Axis { input: usize::try_from(input).unwrap_or(0), pad: 0, ..*axis }
}

/// Interpolation along one axis after the other; the adjoint takes the axes in the opposite order.
fn interpolate<T: Real>(
    resize: &Resize,
    adjoint: bool,
    x: &View<'_>,
    output: &mut ViewMut<'_>,
) -> Result<(), RunErrorKind> {
    let rank = x.shape.len();
    ensure(rank >= 2 && output.shape.len() == rank && x.shape[..2] == output.shape[..2], "a resize of spatial axes")?;
    if output.bytes.is_empty() {
        return Ok(());
    }
    let mut shape = x.shape.to_vec();
    let mut current = x.values::<T>()?.to_vec();
    let axes: Vec<usize> = if adjoint { (2..rank).rev().collect() } else { (2..rank).collect() };
    for axis in axes {
        let (from, to) = (shape[axis], output.shape[axis]);
        let (wide, narrow) = if adjoint { (to, from) } else { (from, to) };
        let taps = resize_taps(resize, axis - 2, wide, narrow);
        let taps: Vec<Vec<(usize, T)>> = taps
            .into_iter()
            .map(|taps| taps.into_iter().map(|(place, weight)| (place, T::of(weight))).collect())
            .collect();
        let taps = if adjoint { turned(&taps, to) } else { taps };
        let inner: usize = shape[axis + 1..].iter().product();
        shape[axis] = to;
        let mut next = vec![T::ZERO; shape.iter().product()];
        next.par_chunks_mut((to * inner).max(1)).enumerate().for_each(|(index, next)| {
            let current = &current[index * from * inner..(index + 1) * from * inner];
            for (row, taps) in next.chunks_mut(inner.max(1)).zip(&taps) {
                for (place, weight) in taps {
                    let source = &current[place * inner..(place + 1) * inner];
                    row.iter_mut().zip(source).for_each(|(slot, value)| *slot += *weight * *value);
                }
            }
        });
        current = next;
    }
    output.values::<T>()?.copy_from_slice(&current);
    Ok(())
}

/// The taps of the adjoint: for each input place the outputs that read it.
fn turned<T: Real>(taps: &[Vec<(usize, T)>], places: usize) -> Vec<Vec<(usize, T)>> {
    let mut turned = vec![Vec::new(); places];
    for (output, taps) in taps.iter().enumerate() {
        for (place, weight) in taps {
            turned[*place].push((output, *weight));
        }
    }
    turned
}
