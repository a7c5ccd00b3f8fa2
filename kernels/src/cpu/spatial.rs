//! Sliding windows over up to three spatial axes, shared by convolution and pooling.

use std::ops::Range;

use super::view::ensure;
use crate::error::RunErrorKind;

/// The number of spatial axes that kernels work with; fewer are led by axes of length 1.
pub(super) const AXES: usize = 3;

/// One spatial axis: window place `o` of tap `k` is input place `o·stride + k·dilation − pad`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    pub input: usize,
    pub output: usize,
    pub taps: usize,
    pub stride: i64,
    pub pad: i64,
    pub dilation: i64,
}

impl Axis {
    const UNIT: Axis = Axis { input: 1, output: 1, taps: 1, stride: 1, pad: 0, dilation: 1 };

    /// The input place of a tap, if it lies inside.
    pub fn place(&self, output: usize, tap: usize) -> Option<usize> {
        let place = output as i64 * self.stride + self.offset(tap);
        usize::try_from(place).ok().filter(|&place| place < self.input)
    }

    /// The input place of a tap of window 0.
    pub fn offset(&self, tap: usize) -> i64 {
        tap as i64 * self.dilation - self.pad
    }

    /// The windows whose tap lies inside of the input.
    pub fn inside(&self, tap: usize) -> Range<usize> {
        let offset = self.offset(tap);
        let first = if offset >= 0 { 0 } else { (-offset + self.stride - 1) / self.stride };
        let last = self.input as i64 - 1 - offset;
        let end = if last < 0 { 0 } else { last / self.stride + 1 };
        let end = end.min(self.output as i64);
        first.min(end) as usize..end as usize
    }

    /// The taps of a window that lie inside of the input.
    pub fn taps_inside(&self, output: usize) -> Range<usize> {
        let origin = output as i64 * self.stride - self.pad;
        let first = if origin >= 0 { 0 } else { (-origin + self.dilation - 1) / self.dilation };
        let last = self.input as i64 - 1 - origin;
        let end = if last < 0 { 0 } else { last / self.dilation + 1 };
        let end = end.min(self.taps as i64);
        first.min(end) as usize..end as usize
    }
}

/// All spatial axes, outermost first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spatial(pub [Axis; AXES]);

impl Spatial {
    /// From one list per attribute; `input` and `output` are the axis lengths of the forward operation.
    pub fn new(
        input: &[usize],
        output: &[usize],
        taps: &[usize],
        strides: &[i64],
        pads: &[i64],
        dilations: &[i64],
    ) -> Result<Spatial, RunErrorKind> {
        let axes = input.len();
        let equal = [output.len(), taps.len(), strides.len(), pads.len(), dilations.len()] == [axes; 5];
        ensure(equal, "one stride, pad, dilation and size for each spatial axis")?;
        if axes > AXES {
            return Err(RunErrorKind::Unsupported { call: format!("windows over {axes} spatial axes") });
        }
        // The bounds keep every place that is computed inside of i64.
        let small = |value: i64, least: i64| (least..1 << 31).contains(&value);
        let bounded = strides.iter().chain(dilations).all(|&value| small(value, 1))
            && pads.iter().all(|&value| small(value, -(1 << 31)))
            && input.iter().chain(output).chain(taps).all(|&value| value < 1 << 31);
        ensure(bounded, "strides, pads and dilations within 31 bits")?;
        let mut all = [Axis::UNIT; AXES];
        for (axis, slot) in all[AXES - axes..].iter_mut().enumerate() {
            *slot = Axis {
                input: input[axis],
                output: output[axis],
                taps: taps[axis],
                stride: strides[axis],
                pad: pads[axis],
                dilation: dilations[axis],
            };
        }
        Ok(Spatial(all))
    }

    /// Elements of an input plane.
    pub fn input(&self) -> usize {
        self.0.iter().map(|axis| axis.input).product()
    }

    /// Elements of an output plane.
    pub fn output(&self) -> usize {
        self.0.iter().map(|axis| axis.output).product()
    }

    /// Taps of a window.
    pub fn taps(&self) -> usize {
        self.0.iter().map(|axis| axis.taps).product()
    }

    /// A tap's index per axis.
    pub fn tap(&self, flat: usize) -> [usize; AXES] {
        let [_, y, x] = self.0;
        [flat / (y.taps * x.taps), flat / x.taps % y.taps, flat % x.taps]
    }

    /// Whether windows are single elements that tile the input in order.
    pub fn is_pointwise(&self) -> bool {
        let plain = |axis: &Axis| axis.taps == 1 && axis.stride == 1 && axis.pad == 0 && axis.input == axis.output;
        self.0.iter().all(plain)
    }

    /// Calls `visit(output, input, count)` for each run of neighbouring windows whose tap lies inside of the input:
    /// `count` windows from the flat place `output` on read the places `input`, `input + stride`, … of the last axis.
    /// Only windows of the flat range `range` are visited.
    #[inline]
    pub fn runs(&self, tap: [usize; AXES], range: Range<usize>, mut visit: impl FnMut(usize, usize, usize)) {
        let [z, y, x] = self.0;
        let inside = x.inside(tap[2]);
        if range.is_empty() || inside.is_empty() {
            return;
        }
        for row in range.start / x.output..range.end.div_ceil(x.output) {
            let (Some(place_z), Some(place_y)) = (z.place(row / y.output, tap[0]), y.place(row % y.output, tap[1]))
            else {
                continue;
            };
            let row_start = row * x.output;
            let first = inside.start.max(range.start.saturating_sub(row_start));
            let end = inside.end.min(range.end.saturating_sub(row_start));
            if first < end {
                let place_x = (first as i64 * x.stride + x.offset(tap[2])) as usize;
                visit(row_start + first, (place_z * y.input + place_y) * x.input + place_x, end - first);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_agree_with_places() {
        for (input, taps, stride, pad, dilation) in
            [(5, 3, 1, 1, 1), (7, 3, 2, 0, 2), (1, 4, 3, 5, 1), (6, 2, 1, -2, 1), (3, 5, 2, 9, 3), (0, 1, 1, 0, 1)]
        {
            let axis = Axis { input, output: 9, taps, stride, pad, dilation };
            for tap in 0..taps {
                let inside: Vec<usize> = (0..9).filter(|&output| axis.place(output, tap).is_some()).collect();
                assert_eq!(axis.inside(tap).collect::<Vec<_>>(), inside, "{axis:?} tap {tap}");
            }
            for output in 0..9 {
                let inside: Vec<usize> = (0..taps).filter(|&tap| axis.place(output, tap).is_some()).collect();
                assert_eq!(axis.taps_inside(output).collect::<Vec<_>>(), inside, "{axis:?} window {output}");
            }
        }
    }
}
