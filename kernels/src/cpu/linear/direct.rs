//! Convolution with one input channel per group, without matrix products: a plane is a sum of shifted planes.

use rayon::prelude::*;

use super::convolution::Sizes;
use crate::cpu::real::Real;

/// Each output plane is the sum of its one input plane, shifted and weighted by every tap.
pub(super) fn forward<T: Real>(sizes: &Sizes, x: &[T], weight: &[T], bias: Option<&[T]>, output: &mut [T]) {
    let (taps, plane) = (sizes.spatial.taps(), sizes.spatial.input());
    let channels = sizes.groups * sizes.outputs;
    let stride = sizes.spatial.0[2].stride as usize;
    output.par_chunks_mut(sizes.spatial.output()).enumerate().for_each(|(index, output)| {
        let (sample, channel) = (index / channels, index % channels);
        let source = sample * sizes.groups + channel / sizes.outputs;
        let x = &x[source * plane..(source + 1) * plane];
        output.fill(bias.map_or(T::ZERO, |bias| bias[channel]));
        for tap in 0..taps {
            let factor = weight[channel * taps + tap];
            sizes.spatial.runs(sizes.spatial.tap(tap), 0..output.len(), |window, place, count| {
                let output = &mut output[window..window + count];
                if stride == 1 {
                    let x = &x[place..place + count];
                    output.iter_mut().zip(x).for_each(|(slot, value)| *slot += factor * *value);
                } else {
                    let x = x[place..].iter().step_by(stride);
                    output.iter_mut().zip(x).for_each(|(slot, value)| *slot += factor * *value);
                }
            });
        }
    });
}

/// The adjoint of [`forward`]: each output plane gathers from all planes that read it.
pub(super) fn transpose<T: Real>(sizes: &Sizes, x: &[T], weight: &[T], bias: Option<&[T]>, output: &mut [T]) {
    let (taps, windows) = (sizes.spatial.taps(), sizes.spatial.output());
    let stride = sizes.spatial.0[2].stride as usize;
    output.par_chunks_mut(sizes.spatial.input()).enumerate().for_each(|(index, output)| {
        let group = index % sizes.groups;
        output.fill(bias.map_or(T::ZERO, |bias| bias[group]));
        for (source, tap) in (0..sizes.outputs).flat_map(|source| (0..taps).map(move |tap| (source, tap))) {
            let x = &x[(index * sizes.outputs + source) * windows..][..windows];
            let factor = weight[(group * sizes.outputs + source) * taps + tap];
            sizes.spatial.runs(sizes.spatial.tap(tap), 0..windows, |window, place, count| {
                let x = &x[window..window + count];
                let output = output[place..].iter_mut().step_by(stride);
                output.zip(x).for_each(|(slot, value)| *slot += factor * *value);
            });
        }
    });
}
