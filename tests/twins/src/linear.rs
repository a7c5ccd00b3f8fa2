//! Linear maps: convolution, transposed convolution and contraction, as explicit matrices and by direct loops.

use crate::window::{Window, prepend, ravel};
use ndarray::{Array1, Array2, ArrayD, Dimension, IxDyn, indices};

/// A linear map of one sample as an explicit matrix: `z_j = Σ_i x_i · w_ij + b_j`.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    /// `[n_in, n_out]`.
    pub weight: Array2<f64>,
    /// Which input reaches which output by the map's structure, whatever the value of the weight. `[n_in, n_out]`.
    pub connected: Array2<bool>,
    /// `[n_out]`, zero where there is none.
    pub bias: Array1<f64>,
    /// Shape of one sample's output.
    pub output_shape: Vec<usize>,
}

impl Dense {
    /// A map without any connection.
    pub fn empty(n_in: usize, output_shape: &[usize]) -> Dense {
        let n_out = output_shape.iter().product();
        Dense {
            weight: Array2::zeros((n_in, n_out)),
            connected: Array2::from_elem((n_in, n_out), false),
            bias: Array1::zeros(n_out),
            output_shape: output_shape.to_vec(),
        }
    }

    /// Adds `weight` to the connection from input `i` to output `j`.
    pub fn connect(&mut self, i: usize, j: usize, weight: f64) {
        self.weight[[i, j]] += weight;
        self.connected[[i, j]] = true;
    }

    /// The same map with a bias per output channel (axis 0 of the output).
    pub fn with_channel_bias(mut self, bias: &Array1<f64>) -> Dense {
        let per_channel: usize = self.output_shape[1..].iter().product();
        self.bias = Array1::from_shape_fn(self.weight.ncols(), |j| bias[j / per_channel]);
        self
    }

    /// `xW + b` for one flat sample.
    pub fn forward(&self, x: &Array1<f64>) -> Array1<f64> {
        x.dot(&self.weight) + &self.bias
    }
}

/// Stride, padding, dilation and groups of a convolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geometry {
    /// Stride per axis.
    pub strides: Vec<usize>,
    /// Padding: all beginnings, then all ends.
    pub pads: Vec<usize>,
    /// Dilation per axis.
    pub dilations: Vec<usize>,
    /// Number of groups.
    pub groups: usize,
}

impl Geometry {
    /// Stride 1, no padding, dilation 1, one group.
    pub fn plain(rank: usize) -> Geometry {
        Geometry { strides: vec![1; rank], pads: vec![0; 2 * rank], dilations: vec![1; rank], groups: 1 }
    }

    fn window(&self, kernel: &[usize]) -> Window {
        Window {
            kernel: kernel.to_vec(),
            strides: self.strides.clone(),
            pads: self.pads.clone(),
            dilations: self.dilations.clone(),
            ceil_mode: false,
        }
    }
}

/// The matrix of a convolution (ONNX `Conv`) on one sample.
///
/// `weight` is `[out_channels, in_channels / groups, kernel…]`, `input_shape` is `[in_channels, spatial…]`.
pub fn dense_of_conv(weight: &ArrayD<f64>, input_shape: &[usize], geometry: &Geometry) -> Dense {
    let (out_channels, group_inputs) = (weight.shape()[0], weight.shape()[1]);
    assert_eq!(group_inputs * geometry.groups, input_shape[0]);
    let spatial = &input_shape[1..];
    let window = geometry.window(&weight.shape()[2..]);
    let output_spatial = window.output_size(spatial);
    let output_shape = prepend(out_channels, &output_spatial);
    let mut dense = Dense::empty(input_shape.iter().product(), &output_shape);
    for position in indices(IxDyn(&output_spatial)) {
        let position = position.slice().to_vec();
        for cell in window.cells(&position, spatial) {
            let Some(at) = cell.input else { continue };
            for m in 0..out_channels {
                let group = m / (out_channels / geometry.groups);
                for c in 0..group_inputs {
                    let from = ravel(&prepend(group * group_inputs + c, &at), input_shape);
                    let to = ravel(&prepend(m, &position), &output_shape);
                    let index = prepend(m, &prepend(c, &cell.kernel));
                    dense.connect(from, to, weight[IxDyn(&index)]);
                }
            }
        }
    }
    dense
}

/// The matrix of a transposed convolution (ONNX `ConvTranspose`) on one sample.
///
/// `weight` is `[in_channels, out_channels / groups, kernel…]`. Input cell `p` adds `w[k]` to the output at
/// `p · stride + k · dilation − pad`; the output has `(size − 1) · stride + (kernel − 1) · dilation + 1 − pads + output_padding`
/// cells per axis.
pub fn dense_of_conv_transpose(
    weight: &ArrayD<f64>,
    input_shape: &[usize],
    geometry: &Geometry,
    output_padding: &[usize],
) -> Dense {
    let (in_channels, group_outputs) = (weight.shape()[0], weight.shape()[1]);
    assert_eq!(in_channels, input_shape[0]);
    let (spatial, kernel) = (&input_shape[1..], &weight.shape()[2..]);
    let rank = spatial.len();
    let output_spatial: Vec<usize> = (0..rank)
        .map(|axis| {
            let reach =
                (spatial[axis] - 1) * geometry.strides[axis] + (kernel[axis] - 1) * geometry.dilations[axis] + 1;
            reach + output_padding[axis] - geometry.pads[axis] - geometry.pads[axis + rank]
        })
        .collect();
    let output_shape = prepend(group_outputs * geometry.groups, &output_spatial);
    let mut dense = Dense::empty(input_shape.iter().product(), &output_shape);
    for (index, &value) in weight.indexed_iter() {
        let index = index.slice().to_vec();
        let group = index[0] / (in_channels / geometry.groups);
        for position in indices(IxDyn(spatial)) {
            let landing: Option<Vec<usize>> = (0..rank)
                .map(|axis| {
                    let at = position[axis] * geometry.strides[axis] + index[axis + 2] * geometry.dilations[axis];
                    at.checked_sub(geometry.pads[axis]).filter(|&at| at < output_spatial[axis])
                })
                .collect();
            let Some(landing) = landing else { continue };
            let from = ravel(&prepend(index[0], position.slice()), input_shape);
            let to = ravel(&prepend(group * group_outputs + index[1], &landing), &output_shape);
            dense.connect(from, to, value);
        }
    }
    dense
}

/// The matrix of a contraction with a constant `[n_in, n_out]` matrix, with every input connected to every output.
pub fn dense_of_dot(weight: &Array2<f64>) -> Dense {
    Dense {
        weight: weight.clone(),
        connected: Array2::from_elem(weight.dim(), true),
        bias: Array1::zeros(weight.ncols()),
        output_shape: vec![weight.ncols()],
    }
}

/// The diagonal matrix of a multiplication by one constant per input (a batch norm, a scale).
pub fn dense_of_scale(scale: &Array1<f64>, shape: &[usize]) -> Dense {
    let mut dense = Dense::empty(scale.len(), shape);
    for (i, &value) in scale.iter().enumerate() {
        dense.connect(i, i, value);
    }
    dense
}

/// The matrix of a mean over the given axes of one sample; reduced axes are kept with size 1.
pub fn dense_of_mean(input_shape: &[usize], axes: &[usize]) -> Dense {
    let output_shape: Vec<usize> =
        input_shape.iter().enumerate().map(|(axis, &size)| if axes.contains(&axis) { 1 } else { size }).collect();
    let count: usize = axes.iter().map(|&axis| input_shape[axis]).product();
    let mut dense = Dense::empty(input_shape.iter().product(), &output_shape);
    for index in indices(IxDyn(input_shape)) {
        let from = index.slice().to_vec();
        let to: Vec<usize> = from.iter().enumerate().map(|(k, &i)| if axes.contains(&k) { 0 } else { i }).collect();
        dense.connect(ravel(&from, input_shape), ravel(&to, &output_shape), 1.0 / count as f64);
    }
    dense
}

/// Convolution by direct loops over a batch, `[n, channels, spatial…]`: what the matrices are held against.
pub fn conv(x: &ArrayD<f64>, weight: &ArrayD<f64>, bias: &Array1<f64>, geometry: &Geometry) -> ArrayD<f64> {
    let (out_channels, group_inputs) = (weight.shape()[0], weight.shape()[1]);
    let (spatial, kernel) = (&x.shape()[2..], &weight.shape()[2..]);
    let output_spatial = geometry.window(kernel).output_size(spatial);
    let shape = prepend(x.shape()[0], &prepend(out_channels, &output_spatial));
    ArrayD::from_shape_fn(IxDyn(&shape), |at| {
        let group = at[1] / (out_channels / geometry.groups);
        let mut sum = bias[at[1]];
        for offset in indices(IxDyn(kernel)) {
            let source: Option<Vec<usize>> = (0..spatial.len())
                .map(|axis| {
                    let padded = at[axis + 2] * geometry.strides[axis] + offset[axis] * geometry.dilations[axis];
                    padded.checked_sub(geometry.pads[axis]).filter(|&p| p < spatial[axis])
                })
                .collect();
            let Some(source) = source else { continue };
            let offset = offset.slice().to_vec();
            for c in 0..group_inputs {
                let from = prepend(at[0], &prepend(group * group_inputs + c, &source));
                let index = prepend(at[1], &prepend(c, &offset));
                sum += x[IxDyn(&from)] * weight[IxDyn(&index)];
            }
        }
        sum
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, values, vector};
    use ndarray::array;

    fn flat(x: &ArrayD<f64>) -> Array1<f64> {
        x.iter().copied().collect()
    }

    #[test]
    fn convolution_by_hand() {
        let weight = array![[[1.0, 2.0]]].into_dyn();
        let dense = dense_of_conv(&weight, &[1, 3], &Geometry { pads: vec![1, 0], ..Geometry::plain(1) });
        assert_eq!(dense.weight, array![[2.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.0, 0.0, 2.0]]);
        assert_eq!(dense.connected, array![[true, true, false], [false, true, true], [false, false, true]]);
    }

    #[test]
    fn matrix_and_direct_loops_agree() {
        let geometry = Geometry { strides: vec![2, 1], pads: vec![1, 0, 2, 1], dilations: vec![1, 2], groups: 2 };
        let (x, weight, bias) = (values(&[1, 4, 5, 6], 1.0), values(&[6, 2, 3, 2], 2.0), vector(6, 3.0));
        let dense = dense_of_conv(&weight, &[4, 5, 6], &geometry).with_channel_bias(&bias);
        let direct = conv(&x, &weight, &bias, &geometry);
        assert_eq!(direct.shape()[1..], dense.output_shape);
        assert_close(&dense.forward(&flat(&x)), &direct);
    }

    #[test]
    fn transposed_convolution_by_hand() {
        let weight = array![[[1.0, 2.0, 3.0]]].into_dyn();
        let geometry = Geometry { strides: vec![2], pads: vec![1, 1], ..Geometry::plain(1) };
        let dense = dense_of_conv_transpose(&weight, &[1, 2], &geometry, &[1]);
        assert_eq!(dense.weight, array![[2.0, 3.0, 0.0, 0.0], [0.0, 1.0, 2.0, 3.0]]);
    }

    #[test]
    fn transposed_convolution_is_the_transpose_of_convolution() {
        let geometry = Geometry { strides: vec![2, 3], pads: vec![1, 0, 0, 2], dilations: vec![2, 1], groups: 2 };
        let weight = values(&[4, 3, 3, 2], 5.0);
        let forward = dense_of_conv(&weight, &[6, 8, 7], &geometry);
        let reached = [(forward.output_shape[1] - 1) * 2 + 5 - 1, (forward.output_shape[2] - 1) * 3 + 2 - 2];
        let padding = [8 - reached[0], 7 - reached[1]];
        let back = dense_of_conv_transpose(&weight, &forward.output_shape, &geometry, &padding);
        assert_eq!(back.output_shape, [6, 8, 7]);
        assert_eq!(back.weight, forward.weight.t());
    }

    #[test]
    fn mean_by_hand() {
        let dense = dense_of_mean(&[2, 2], &[1]);
        assert_eq!(dense.weight, array![[0.5, 0.0], [0.5, 0.0], [0.0, 0.5], [0.0, 0.5]]);
        assert_eq!(dense.output_shape, [2, 1]);
    }
}
