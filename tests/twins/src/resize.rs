//! Resizing as an explicit matrix, from the ONNX `Resize` specification.

use crate::linear::Dense;
use crate::window::ravel;
use ndarray::{Array2, Dimension, IxDyn, indices};

/// Where an output cell lies on the input axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coordinates {
    /// `(x + 0.5) / scale − 0.5`
    HalfPixel,
    /// As half pixel, around the centre of the input when `size · scale` is no integer.
    HalfPixelSymmetric,
    /// As half pixel, 0 for an output of one cell.
    PytorchHalfPixel,
    /// Corners meet corners: `x · (in − 1) / (out − 1)`
    AlignCorners,
    /// `x / scale`
    Asymmetric,
}

/// Which neighbour is nearest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nearest {
    /// Halves go down.
    RoundPreferFloor,
    /// Halves go up.
    RoundPreferCeil,
    /// Always down.
    Floor,
    /// Always up.
    Ceil,
}

/// How output cells mix input cells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Interpolation {
    /// One neighbour.
    Nearest(Nearest),
    /// Two neighbours per axis.
    Linear,
    /// Four neighbours per axis.
    Cubic {
        /// Coefficient of the kernel, −0.75 by default.
        a: f64,
        /// Whether cells outside the input get weight 0 and the rest is scaled to 1.
        exclude_outside: bool,
    },
}

/// Position on the input axis of output cell `x`.
pub fn coordinate(mode: Coordinates, x: usize, scale: f64, size_in: usize, size_out: usize) -> f64 {
    let half_pixel = (x as f64 + 0.5) / scale - 0.5;
    match mode {
        Coordinates::HalfPixel => half_pixel,
        Coordinates::HalfPixelSymmetric => {
            let adjustment = size_out as f64 / (size_in as f64 * scale);
            size_in as f64 / 2.0 * (1.0 - adjustment) + half_pixel
        }
        Coordinates::PytorchHalfPixel if size_out > 1 => half_pixel,
        Coordinates::PytorchHalfPixel => 0.0,
        Coordinates::AlignCorners if size_out > 1 => x as f64 * (size_in - 1) as f64 / (size_out - 1) as f64,
        Coordinates::AlignCorners => 0.0,
        Coordinates::Asymmetric => x as f64 / scale,
    }
}

fn nearest(mode: Nearest, at: f64) -> f64 {
    match mode {
        Nearest::RoundPreferFloor => (at - 0.5).ceil(),
        Nearest::RoundPreferCeil => (at + 0.5).floor(),
        Nearest::Floor => at.floor(),
        Nearest::Ceil => at.ceil(),
    }
}

fn cubic_weight(distance: f64, a: f64) -> f64 {
    let d = distance.abs();
    if d <= 1.0 {
        (a + 2.0) * d.powi(3) - (a + 3.0) * d.powi(2) + 1.0
    } else if d < 2.0 {
        a * d.powi(3) - 5.0 * a * d.powi(2) + 8.0 * a * d - 4.0 * a
    } else {
        0.0
    }
}

/// Neighbours of a position and their weights, before anything outside the input is dealt with.
fn taps(interpolation: Interpolation, at: f64) -> Vec<(f64, f64)> {
    let base = at.floor();
    match interpolation {
        Interpolation::Nearest(mode) => vec![(nearest(mode, at), 1.0)],
        Interpolation::Linear => vec![(base, 1.0 - (at - base)), (base + 1.0, at - base)],
        Interpolation::Cubic { a, .. } => {
            (-1..=2).map(|k| base + f64::from(k)).map(|cell| (cell, cubic_weight(at - cell, a))).collect()
        }
    }
}

/// The matrix `[size_in, size_out]` of one axis. `scale` is output per input; cells outside take the edge's value.
pub fn axis_matrix(
    size_in: usize,
    size_out: usize,
    scale: f64,
    mode: Coordinates,
    interpolation: Interpolation,
) -> Array2<f64> {
    let mut matrix = Array2::zeros((size_in, size_out));
    let last = (size_in - 1) as f64;
    for x in 0..size_out {
        let mut taps = taps(interpolation, coordinate(mode, x, scale, size_in, size_out));
        if let Interpolation::Cubic { exclude_outside: true, .. } = interpolation {
            taps.retain(|&(cell, _)| cell >= 0.0 && cell <= last);
            let sum: f64 = taps.iter().map(|&(_, weight)| weight).sum();
            taps.iter_mut().for_each(|(_, weight)| *weight /= sum);
        }
        for (cell, weight) in taps {
            matrix[[cell.clamp(0.0, last) as usize, x]] += weight;
        }
    }
    matrix
}

/// The matrix of a resize over all axes of one sample: the product of one matrix per axis.
///
/// An input cell counts as connected where its weight is not 0.
pub fn dense_of_resize(
    input_shape: &[usize],
    output_shape: &[usize],
    scales: &[f64],
    mode: Coordinates,
    interpolation: Interpolation,
) -> Dense {
    let axes: Vec<Array2<f64>> = (0..input_shape.len())
        .map(|axis| {
            if scales[axis] == 1.0 && input_shape[axis] == output_shape[axis] {
                return Array2::eye(input_shape[axis]);
            }
            axis_matrix(input_shape[axis], output_shape[axis], scales[axis], mode, interpolation)
        })
        .collect();
    let mut dense = Dense::empty(input_shape.iter().product(), output_shape);
    for to in indices(IxDyn(output_shape)) {
        for from in indices(IxDyn(input_shape)) {
            let weight: f64 = axes.iter().enumerate().map(|(axis, matrix)| matrix[[from[axis], to[axis]]]).product();
            if weight != 0.0 {
                let (from, to) = (from.slice().to_vec(), to.slice().to_vec());
                dense.connect(ravel(&from, input_shape), ravel(&to, output_shape), weight);
            }
        }
    }
    dense
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_close;
    use ndarray::{Axis, array};

    #[test]
    fn linear_by_hand() {
        let half = axis_matrix(2, 4, 2.0, Coordinates::HalfPixel, Interpolation::Linear);
        assert_close(&half, &array![[1.0, 0.75, 0.25, 0.0], [0.0, 0.25, 0.75, 1.0]]);
        let corners = axis_matrix(2, 3, 1.5, Coordinates::AlignCorners, Interpolation::Linear);
        assert_close(&corners, &array![[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]]);
        let asymmetric = axis_matrix(2, 4, 2.0, Coordinates::Asymmetric, Interpolation::Linear);
        assert_close(&asymmetric, &array![[1.0, 0.5, 0.0, 0.0], [0.0, 0.5, 1.0, 1.0]]);
    }

    #[test]
    fn nearest_by_hand() {
        let chosen = |mode| {
            let matrix = axis_matrix(2, 4, 2.0, Coordinates::Asymmetric, Interpolation::Nearest(mode));
            matrix.row(1).to_vec()
        };
        assert_eq!(chosen(Nearest::Floor), [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(chosen(Nearest::Ceil), [0.0, 1.0, 1.0, 1.0]);
        assert_eq!(chosen(Nearest::RoundPreferFloor), [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(chosen(Nearest::RoundPreferCeil), [0.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn symmetric_half_pixel_keeps_the_centre() {
        // 4 cells scaled by 0.7 give 2: half pixel would sit left of the centre of the input.
        let at = |x| coordinate(Coordinates::HalfPixelSymmetric, x, 0.7, 4, 2);
        assert_close(&[at(0) + at(1)], &[3.0]);
        assert_eq!(coordinate(Coordinates::PytorchHalfPixel, 0, 0.25, 4, 1), 0.0);
    }

    #[test]
    fn every_column_sums_to_one() {
        for exclude_outside in [false, true] {
            let cubic = Interpolation::Cubic { a: -0.75, exclude_outside };
            let map = dense_of_resize(&[2, 4, 3], &[2, 8, 5], &[1.0, 2.0, 5.0 / 3.0], Coordinates::HalfPixel, cubic);
            assert_close(&map.weight.sum_axis(Axis(0)), &ndarray::Array1::ones(80));
        }
    }

    #[test]
    fn cubic_kernel_by_hand() {
        assert_close(&[cubic_weight(0.5, -0.75), cubic_weight(1.5, -0.75)], &[0.59375, -0.09375]);
    }
}
