//! The geometry of sliding windows, shared by convolution and pooling.
//!
//! Follows the ONNX operator specification: `pads` lists all beginnings, then all ends.

use ndarray::{Dimension, IxDyn, indices};

/// One input cell under a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Position inside the kernel.
    pub kernel: Vec<usize>,
    /// Spatial position in the input, `None` in the padding.
    pub input: Option<Vec<usize>>,
    /// Whether the position lies in the input or its padding (and not beyond it, as `ceil_mode` allows).
    pub in_padded_input: bool,
}

/// Kernel size, stride, padding and dilation along every spatial axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Kernel size per axis.
    pub kernel: Vec<usize>,
    /// Stride per axis.
    pub strides: Vec<usize>,
    /// Padding: all beginnings, then all ends.
    pub pads: Vec<usize>,
    /// Dilation per axis.
    pub dilations: Vec<usize>,
    /// Whether a window may hang over the end.
    pub ceil_mode: bool,
}

impl Window {
    /// A window with stride 1, dilation 1, no padding, no overhang.
    pub fn new(kernel: &[usize]) -> Window {
        let rank = kernel.len();
        Window {
            kernel: kernel.to_vec(),
            strides: vec![1; rank],
            pads: vec![0; 2 * rank],
            dilations: vec![1; rank],
            ceil_mode: false,
        }
    }

    /// Number of windows per axis over an input of this spatial size.
    ///
    /// With `ceil_mode`, a window that would start in the padding at the end is dropped (as ONNX Runtime and torch do).
    pub fn output_size(&self, spatial: &[usize]) -> Vec<usize> {
        (0..spatial.len())
            .map(|axis| {
                let padded = spatial[axis] + self.pads[axis] + self.pads[axis + spatial.len()];
                let room = padded - (self.dilations[axis] * (self.kernel[axis] - 1) + 1);
                let stride = self.strides[axis];
                if !self.ceil_mode {
                    return room / stride + 1;
                }
                let count = room.div_ceil(stride) + 1;
                let starts_in_end_padding = (count - 1) * stride >= spatial[axis] + self.pads[axis];
                count - usize::from(starts_in_end_padding)
            })
            .collect()
    }

    /// All cells under the window at this output position, in row-major order of the kernel.
    pub fn cells(&self, output: &[usize], spatial: &[usize]) -> Vec<Cell> {
        let rank = spatial.len();
        let mut cells = Vec::new();
        for offset in indices(IxDyn(&self.kernel)) {
            let mut position = Vec::new();
            let mut inside = true;
            let mut in_padded_input = true;
            for axis in 0..rank {
                let padded = output[axis] * self.strides[axis] + offset[axis] * self.dilations[axis];
                inside &= padded >= self.pads[axis] && padded < self.pads[axis] + spatial[axis];
                in_padded_input &= padded < self.pads[axis] + spatial[axis] + self.pads[axis + rank];
                position.push(padded.wrapping_sub(self.pads[axis]));
            }
            let input = inside.then_some(position);
            cells.push(Cell { kernel: offset.slice().to_vec(), input, in_padded_input });
        }
        cells
    }
}

/// Row-major position of a multi-index.
pub fn ravel(index: &[usize], shape: &[usize]) -> usize {
    assert_eq!(index.len(), shape.len());
    index.iter().zip(shape).fold(0, |flat, (&i, &size)| flat * size + i)
}

/// `[head, tail…]`.
pub fn prepend(head: usize, tail: &[usize]) -> Vec<usize> {
    std::iter::once(head).chain(tail.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_the_formula() {
        let mut window = Window::new(&[3]);
        window.strides = vec![2];
        window.pads = vec![1, 0];
        assert_eq!(window.output_size(&[6]), [3]);
        window.ceil_mode = true;
        assert_eq!(window.output_size(&[6]), [3]);
        assert_eq!(window.output_size(&[7]), [4]);
    }

    #[test]
    fn a_window_that_starts_in_the_end_padding_is_dropped() {
        let window = Window { strides: vec![2], pads: vec![0, 1], ceil_mode: true, ..Window::new(&[1]) };
        assert_eq!(window.output_size(&[2]), [1]);
    }

    #[test]
    fn cells_know_padding_and_overhang() {
        let window = Window { strides: vec![2], pads: vec![1, 0], ceil_mode: true, ..Window::new(&[2]) };
        let first = window.cells(&[0], &[4]);
        assert_eq!((first[0].input.clone(), first[1].input.clone()), (None, Some(vec![0])));
        assert!(first[0].in_padded_input);
        let last = window.cells(&[2], &[4]);
        assert_eq!(last[0].input, Some(vec![3]));
        assert!(last[1].input.is_none() && !last[1].in_padded_input);
    }

    #[test]
    fn ravel_is_row_major() {
        assert_eq!(ravel(&[1, 2, 3], &[2, 3, 4]), 23);
    }
}
