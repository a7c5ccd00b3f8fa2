//! Convolution and its adjoint as matrix products.
//!
//! For one sample and one group the windows are the columns of a matrix with one row per (channel, tap). The forward
//! operation multiplies the weight with it; the adjoint computes such a matrix from weight and cotangent, and adds each
//! row to the places that its tap reads. The matrix exists in blocks only, each as large as a part of the cache.

use lrpc_ir::ops::Geometry;
use rayon::prelude::*;

use super::{Bias, direct, tile, write_tile};
use crate::cpu::gemm::{Matrix, Shared};
use crate::cpu::real::Real;
use crate::cpu::spatial::Spatial;
use crate::cpu::view::{View, ViewMut, all_numbers, ensure};
use crate::error::RunErrorKind;

/// Windows that are laid out at a time.
const WINDOWS: usize = 512;
/// Rows (channel, tap) that are laid out at a time.
const ROWS: usize = 256;
/// Below this number of tasks the work is cut more finely.
const TASKS: usize = 8;

/// Sizes of a convolution; `inputs` and `outputs` are channels per group on the side that windows slide over, and on
/// the side with one element per window.
pub(super) struct Sizes {
    pub spatial: Spatial,
    pub batch: usize,
    pub groups: usize,
    pub inputs: usize,
    pub outputs: usize,
}

impl Sizes {
    /// `wide` has the elements that windows slide over, `narrow` one element per window.
    fn new(geometry: &Geometry, wide: &[usize], narrow: &[usize], weight: &[usize]) -> Result<Sizes, RunErrorKind> {
        let ([batch, wide_channels, input @ ..], [narrow_batch, narrow_channels, output @ ..]) = (wide, narrow) else {
            return Err(RunErrorKind::plan("a convolution has a batch and a channel axis"));
        };
        let [rows, inputs, taps @ ..] = weight else {
            return Err(RunErrorKind::plan("a convolution's weight has two channel axes"));
        };
        let groups = usize::try_from(geometry.groups).unwrap_or(0).max(1);
        let fits = batch == narrow_batch
            && rows == narrow_channels
            && inputs.checked_mul(groups) == Some(*wide_channels)
            && narrow_channels.is_multiple_of(groups);
        ensure(fits, "operands of a convolution fit each other")?;
        let pads = all_numbers(&geometry.pads)?;
        let spatial = Spatial::new(input, output, taps, &geometry.strides, &pads, &geometry.dilations)?;
        Ok(Sizes { spatial, batch: *batch, groups, inputs: *inputs, outputs: rows / groups })
    }

    /// Rows (channel, tap) of the matrix of windows.
    fn depth(&self) -> usize {
        self.inputs * self.spatial.taps()
    }

    /// A group's weight: one row per output channel, one column per (channel, tap).
    fn weight<'a, T>(&self, weight: &'a [T], group: usize) -> Matrix<'a, T> {
        let size = self.outputs * self.depth();
        Matrix::rows_of(&weight[group * size..(group + 1) * size], self.outputs, self.depth())
    }
}

fn outside() -> RunErrorKind {
    RunErrorKind::plan("a block lies outside of its matrix")
}

/// `y[n, o, w] = b[o] + Σ weight[o, c, t] · x[n, c, place(w, t)]`.
pub(super) fn forward<T: Real>(
    geometry: &Geometry,
    x: &View<'_>,
    weight: &View<'_>,
    bias: Option<&[T]>,
    output: &mut ViewMut<'_>,
) -> Result<(), RunErrorKind> {
    let sizes = Sizes::new(geometry, x.shape, output.shape, weight.shape)?;
    ensure(bias.is_none_or(|bias| bias.len() == sizes.groups * sizes.outputs), "one bias per channel")?;
    let (x, weight, output) = (x.values::<T>()?, weight.values::<T>()?, output.values::<T>()?);
    if output.is_empty() {
        return Ok(());
    }
    if sizes.groups > 1 && sizes.inputs == 1 {
        direct::forward(&sizes, x, weight, bias, output);
        return Ok(());
    }
    if sizes.spatial.is_pointwise() {
        return pointwise(&sizes, sizes.inputs, sizes.outputs, |group| sizes.weight(weight, group), x, bias, output);
    }
    if sizes.batch * sizes.groups * sizes.spatial.output().div_ceil(WINDOWS) < TASKS
        && sizes.spatial.output() <= WINDOWS
    {
        return forward_small(&sizes, x, weight, bias, output);
    }
    forward_blocks(&sizes, x, weight, bias, output)
}

/// A product with each group's matrix at every place: windows of one element.
fn pointwise<'w, T: Real>(
    sizes: &Sizes,
    from: usize,
    to: usize,
    matrix: impl Fn(usize) -> Matrix<'w, T> + Sync,
    x: &[T],
    bias: Option<&[T]>,
    output: &mut [T],
) -> Result<(), RunErrorKind> {
    let places = sizes.spatial.output();
    let (tall, wide) = tile(to, places, sizes.batch * sizes.groups);
    let (down, across) = (to.div_ceil(tall), places.div_ceil(wide));
    let shared = Shared::new(output);
    (0..sizes.batch * sizes.groups * down * across).into_par_iter().try_for_each(|task| {
        let (plane, row, column) = (task / (down * across), task / across % down * tall, task % across * wide);
        let (tall, wide) = (tall.min(to - row), wide.min(places - column));
        let group = plane % sizes.groups;
        let planes = &x[plane * from * places..(plane + 1) * from * places];
        let a = matrix(group).block((row, tall), (0, from)).ok_or_else(outside)?;
        let b = Matrix::rows_of(planes, from, places).block((0, from), (column, wide)).ok_or_else(outside)?;
        let channel = group * to + row;
        let bias = bias.map_or(Bias::None, |bias| Bias::PerRow(&bias[channel..channel + tall]));
        write_tile(&shared, (plane * to + row) * places + column, places, a, b, bias)
    })
}

/// Few windows and few samples: all windows of a sample are laid out once, then tiles of channels are computed.
fn forward_small<T: Real>(
    sizes: &Sizes,
    x: &[T],
    weight: &[T],
    bias: Option<&[T]>,
    output: &mut [T],
) -> Result<(), RunErrorKind> {
    let (windows, depth, plane) = (sizes.spatial.output(), sizes.depth(), sizes.spatial.input());
    let mut columns = vec![T::ZERO; sizes.groups * depth * windows];
    let tall = tile(sizes.outputs, windows, sizes.groups).0;
    let down = sizes.outputs.div_ceil(tall);
    let channels = sizes.groups * sizes.outputs;
    for (sample, output) in output.chunks_mut(channels * windows).enumerate() {
        let x = &x[sample * sizes.groups * sizes.inputs * plane..];
        columns.par_chunks_mut(windows).enumerate().for_each(|(row, columns)| {
            let channel = row / sizes.spatial.taps();
            lay_out(sizes, &x[channel * plane..(channel + 1) * plane], row % sizes.spatial.taps(), 0, columns);
        });
        let shared = Shared::new(output);
        (0..sizes.groups * down).into_par_iter().try_for_each(|task| {
            let (group, row) = (task / down, task % down * tall);
            let tall = tall.min(sizes.outputs - row);
            let a = sizes.weight(weight, group).block((row, tall), (0, depth)).ok_or_else(outside)?;
            let b = Matrix::rows_of(&columns[group * depth * windows..(group + 1) * depth * windows], depth, windows);
            let channel = group * sizes.outputs + row;
            let bias = bias.map_or(Bias::None, |bias| Bias::PerRow(&bias[channel..channel + tall]));
            write_tile(&shared, channel * windows, windows, a, b, bias)
        })?;
    }
    Ok(())
}

/// Many windows: each task computes a block of windows of one sample and group.
#[allow(unsafe_code, reason = "blocks of windows are written in parallel")]
fn forward_blocks<T: Real>(
    sizes: &Sizes,
    x: &[T],
    weight: &[T],
    bias: Option<&[T]>,
    output: &mut [T],
) -> Result<(), RunErrorKind> {
    let (windows, depth, plane) = (sizes.spatial.output(), sizes.depth(), sizes.spatial.input());
    let wide = windows.div_ceil(TASKS).next_multiple_of(16).clamp(128, WINDOWS);
    let across = windows.div_ceil(wide);
    let shared = Shared::new(output);
    (0..sizes.batch * sizes.groups * across).into_par_iter().try_for_each_init(Vec::new, |columns, task| {
        let (planes, first) = (task / across, task % across * wide);
        let (group, wide) = (planes % sizes.groups, wide.min(windows - first));
        let x = &x[planes * sizes.inputs * plane..(planes + 1) * sizes.inputs * plane];
        // SAFETY: the tasks are a partition of the samples, groups and windows, so that no two blocks share an element.
        let mut block =
            unsafe { shared.block(planes * sizes.outputs * windows + first, sizes.outputs, wide, windows)? };
        if let Some(bias) = bias {
            let bias = &bias[group * sizes.outputs..(group + 1) * sizes.outputs];
            bias.iter().enumerate().for_each(|(row, bias)| block.row(row).fill(*bias));
        }
        let weight = sizes.weight(weight, group);
        for start in (0..depth.max(1)).step_by(ROWS) {
            let rows = ROWS.min(depth - start);
            columns.resize(rows * wide, T::ZERO);
            for (row, columns) in columns.chunks_mut(wide).enumerate() {
                let (channel, tap) = ((start + row) / sizes.spatial.taps(), (start + row) % sizes.spatial.taps());
                lay_out(sizes, &x[channel * plane..(channel + 1) * plane], tap, first, columns);
            }
            let a = weight.block((0, sizes.outputs), (start, rows)).ok_or_else(outside)?;
            block.product(a, Matrix::rows_of(columns, rows, wide), bias.is_some() || start > 0)?;
        }
        Ok(())
    })
}

/// What one tap reads from a plane, for the windows from `first` on.
fn lay_out<T: Real>(sizes: &Sizes, plane: &[T], tap: usize, first: usize, columns: &mut [T]) {
    let stride = sizes.spatial.0[2].stride as usize;
    columns.fill(T::ZERO);
    sizes.spatial.runs(sizes.spatial.tap(tap), first..first + columns.len(), |window, place, count| {
        let columns = &mut columns[window - first..window - first + count];
        if stride == 1 {
            columns.copy_from_slice(&plane[place..place + count]);
        } else {
            columns.iter_mut().zip(plane[place..].iter().step_by(stride)).for_each(|(slot, value)| *slot = *value);
        }
    });
}

/// The adjoint of [`forward`]: `y[n, c, i] = b[c] + Σ weight[o, c, t] · x[n, o, w]` over all `place(w, t) = i`.
pub(super) fn transpose<T: Real>(
    geometry: &Geometry,
    x: &View<'_>,
    weight: &View<'_>,
    bias: Option<&[T]>,
    output: &mut ViewMut<'_>,
) -> Result<(), RunErrorKind> {
    let sizes = Sizes::new(geometry, output.shape, x.shape, weight.shape)?;
    ensure(bias.is_none_or(|bias| bias.len() == sizes.groups * sizes.inputs), "one bias per channel")?;
    let (x, weight, output) = (x.values::<T>()?, weight.values::<T>()?, output.values::<T>()?);
    if output.is_empty() {
        return Ok(());
    }
    if sizes.groups > 1 && sizes.inputs == 1 {
        direct::transpose(&sizes, x, weight, bias, output);
        return Ok(());
    }
    if sizes.spatial.is_pointwise() {
        let matrix = |group| sizes.weight(weight, group).transposed();
        return pointwise(&sizes, sizes.outputs, sizes.inputs, matrix, x, bias, output);
    }
    transpose_blocks(&sizes, x, weight, bias, output)
}

/// Each task computes some channels of one sample and group, block of windows by block of windows.
fn transpose_blocks<T: Real>(
    sizes: &Sizes,
    x: &[T],
    weight: &[T],
    bias: Option<&[T]>,
    output: &mut [T],
) -> Result<(), RunErrorKind> {
    let (windows, plane, taps) = (sizes.spatial.output(), sizes.spatial.input(), sizes.spatial.taps());
    let pieces = TASKS.div_ceil(sizes.batch * sizes.groups);
    let channels = sizes.inputs.div_ceil(pieces).clamp(1, (2 * ROWS).div_ceil(taps.max(1)));
    let tasks: Vec<(usize, usize, &mut [T])> = output
        .chunks_mut(sizes.inputs * plane)
        .enumerate()
        .flat_map(|(planes, group)| {
            let parts = group.chunks_mut(channels * plane).enumerate();
            parts.map(move |(part, output)| (planes, part * channels, output))
        })
        .collect();
    tasks.into_par_iter().try_for_each_init(Vec::new, |columns: &mut Vec<T>, (planes, first_channel, output)| {
        let (group, channels) = (planes % sizes.groups, output.len() / plane);
        for (channel, plane) in output.chunks_mut(plane).enumerate() {
            plane.fill(bias.map_or(T::ZERO, |bias| bias[group * sizes.inputs + first_channel + channel]));
        }
        let rows = channels * taps;
        let weight = sizes.weight(weight, group).block((0, sizes.outputs), (first_channel * taps, rows));
        let weight = weight.ok_or_else(outside)?.transposed();
        let x = &x[planes * sizes.outputs * windows..(planes + 1) * sizes.outputs * windows];
        let x = Matrix::rows_of(x, sizes.outputs, windows);
        for first in (0..windows).step_by(WINDOWS) {
            let wide = WINDOWS.min(windows - first);
            columns.resize(rows * wide, T::ZERO);
            let x = x.block((0, sizes.outputs), (first, wide)).ok_or_else(outside)?;
            write_tile(&Shared::new(columns), 0, wide, weight, x, Bias::None)?;
            for (row, columns) in columns.chunks(wide).enumerate() {
                let plane = &mut output[row / taps * plane..(row / taps + 1) * plane];
                add_back(sizes, columns, row % taps, first, plane);
            }
        }
        Ok(())
    })
}

/// Adds what one tap of the windows from `first` on gives to the places that it reads.
fn add_back<T: Real>(sizes: &Sizes, columns: &[T], tap: usize, first: usize, plane: &mut [T]) {
    let stride = sizes.spatial.0[2].stride as usize;
    sizes.spatial.runs(sizes.spatial.tap(tap), first..first + columns.len(), |window, place, count| {
        let columns = &columns[window - first..window - first + count];
        if stride == 1 {
            plane[place..place + count].iter_mut().zip(columns).for_each(|(slot, value)| *slot += *value);
        } else {
            plane[place..].iter_mut().step_by(stride).zip(columns).for_each(|(slot, value)| *slot += *value);
        }
    });
}
