//! Normalisations: layer, instance, group and batch norm, softmax, and the rules for them.
//!
//! A normalisation is described by two functions of an element's index: the group whose statistics it shares, and the
//! position of its gain and bias.

use crate::share::{Shared, sign, stabilise};
use ndarray::{Array1, ArrayD, Axis, Dimension, IxDyn};
use std::collections::BTreeMap;

/// Which elements share their mean and variance, and which gain and bias they take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Norm {
    /// Over all axes from this one on; gain and bias run over those axes, flat (ONNX `LayerNormalization`).
    Layer {
        /// First normalised axis.
        axis: usize,
    },
    /// Over the spatial axes of `[n, channels, spatial…]`; gain and bias per channel (ONNX `InstanceNormalization`).
    Instance,
    /// Over groups of channels and the spatial axes; gain and bias per channel (ONNX `GroupNormalization`, opset 21).
    Group {
        /// Number of groups.
        groups: usize,
    },
}

impl Norm {
    fn group(&self, at: &[usize], shape: &[usize]) -> Vec<usize> {
        match self {
            Norm::Layer { axis } => at[..*axis].to_vec(),
            Norm::Instance => at[..2].to_vec(),
            Norm::Group { groups } => vec![at[0], at[1] / (shape[1] / groups)],
        }
    }

    fn parameter(&self, at: &[usize], shape: &[usize]) -> usize {
        match self {
            Norm::Layer { axis } => crate::window::ravel(&at[*axis..], &shape[*axis..]),
            Norm::Instance | Norm::Group { .. } => at[1],
        }
    }
}

/// The constants of a normalisation.
#[derive(Debug, Clone, PartialEq)]
pub struct Affine {
    /// Gain.
    pub gain: Array1<f64>,
    /// Bias.
    pub bias: Array1<f64>,
    /// Added to the variance.
    pub epsilon: f64,
}

/// Per element: its group, its gain, its bias, and `1/σ` and mean of its group.
struct Element {
    at: Vec<usize>,
    group: Vec<usize>,
    gain: f64,
    bias: f64,
    mean: f64,
    inverse_deviation: f64,
}

fn elements(x: &ArrayD<f64>, norm: &Norm, affine: &Affine) -> Vec<Element> {
    let shape = x.shape().to_vec();
    let mut groups: BTreeMap<Vec<usize>, Vec<f64>> = BTreeMap::new();
    for (at, &value) in x.indexed_iter() {
        groups.entry(norm.group(at.slice(), &shape)).or_default().push(value);
    }
    let statistics = |values: &[f64]| {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
        (mean, 1.0 / (variance + affine.epsilon).sqrt())
    };
    let element = |at: Vec<usize>| {
        let group = norm.group(&at, &shape);
        let parameter = norm.parameter(&at, &shape);
        let (mean, inverse_deviation) = statistics(&groups[&group]);
        let (gain, bias) = (affine.gain[parameter], affine.bias[parameter]);
        Element { at, group, gain, bias, mean, inverse_deviation }
    };
    x.indexed_iter().map(|(at, _)| element(at.slice().to_vec())).collect()
}

/// `y = (x − mean) / σ · gain + bias`, with `σ = sqrt(variance + epsilon)`.
pub fn normalise(x: &ArrayD<f64>, norm: &Norm, affine: &Affine) -> ArrayD<f64> {
    let mut y = x.clone();
    for e in elements(x, norm, affine) {
        let value = &mut y[IxDyn(&e.at)];
        *value = (*value - e.mean) * e.inverse_deviation * e.gain + e.bias;
    }
    y
}

/// `NormEpsilon` (LXT): the deviation is frozen, mean and bias belong to the linear part.
///
/// With `q = R / S(y)`, `u = q · gain / σ`: `R_x = x ⊙ (u − mean(u))`; the bias absorbs `Σ q·b`, the stabiliser
/// `Σ q·ε·sg(y)`.
pub fn norm_epsilon(x: &ArrayD<f64>, norm: &Norm, affine: &Affine, relevance: &ArrayD<f64>, stabiliser: f64) -> Shared {
    let y = normalise(x, norm, affine);
    let all = elements(x, norm, affine);
    let mut shared = Shared { input: Array1::zeros(x.len()), bias: 0.0, stabiliser: 0.0 };
    let mut u = Vec::new();
    let mut sums: BTreeMap<Vec<usize>, (f64, f64)> = BTreeMap::new();
    for e in &all {
        let (z, r) = (y[IxDyn(&e.at)], relevance[IxDyn(&e.at)]);
        let denominator = stabilise(z, stabiliser);
        let q = if denominator == 0.0 { 0.0 } else { r / denominator };
        shared.stabiliser += if denominator == 0.0 { r } else { q * stabiliser * sign(z) };
        shared.bias += q * e.bias;
        u.push(q * e.gain * e.inverse_deviation);
        let sum = sums.entry(e.group.clone()).or_default();
        *sum = (sum.0 + q * e.gain * e.inverse_deviation, sum.1 + 1.0);
    }
    for (i, e) in all.iter().enumerate() {
        let (sum, count) = sums[&e.group];
        shared.input[i] = x[IxDyn(&e.at)] * (u[i] - sum / count);
    }
    shared
}

/// `NormIdentity` (DynamicLRP): the relevance itself, whatever the statistics.
pub fn norm_identity(relevance: &ArrayD<f64>) -> ArrayD<f64> {
    relevance.clone()
}

/// The affine map of a batch norm at inference, per channel: `y = x · scale + shift`.
pub fn batch_norm_affine(
    gain: &Array1<f64>,
    bias: &Array1<f64>,
    mean: &Array1<f64>,
    variance: &Array1<f64>,
    epsilon: f64,
) -> (Array1<f64>, Array1<f64>) {
    let scale = gain / &variance.mapv(|v| (v + epsilon).sqrt());
    let shift = bias - &(mean * &scale);
    (scale, shift)
}

/// Softmax over one axis.
pub fn softmax(x: &ArrayD<f64>, axis: usize) -> ArrayD<f64> {
    let mut y = x.clone();
    for mut lane in y.lanes_mut(Axis(axis)) {
        let largest = lane.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        lane.mapv_inplace(|value| (value - largest).exp());
        let sum = lane.sum();
        lane.mapv_inplace(|value| value / sum);
    }
    y
}

/// AttnLRP's softmax rule (proposition 3.1): `R_x = x ⊙ (R − s · ΣR)` over the axis, `x` taken as 0 where it is −∞.
/// It does not conserve relevance.
pub fn attention_softmax(x: &ArrayD<f64>, axis: usize, relevance: &ArrayD<f64>) -> ArrayD<f64> {
    let s = softmax(x, axis);
    let total = relevance.sum_axis(Axis(axis)).insert_axis(Axis(axis));
    let x = x.mapv(|value| if value == f64::NEG_INFINITY { 0.0 } else { value });
    x * (relevance - &(s * &total))
}

/// AttnLRP's softmax with the bias of its expansion shared equally: along each lane `s_j = Σ_i J_ji x_i + b_j` with
/// `J_ji = s_j (δ_ij − s_i)`, and `R_i = Σ_j (J_ji x_i + b_j/n) R_j / s_j` over the `n` elements that are not −∞.
pub fn softmax_with_bias(x: &ArrayD<f64>, axis: usize, relevance: &ArrayD<f64>) -> ArrayD<f64> {
    let s = softmax(x, axis);
    let mut result = ArrayD::zeros(x.raw_dim());
    let lanes = x.lanes(Axis(axis)).into_iter().zip(s.lanes(Axis(axis))).zip(relevance.lanes(Axis(axis)));
    for (((x, s), r), mut to) in lanes.zip(result.lanes_mut(Axis(axis))) {
        let open: Vec<usize> = (0..x.len()).filter(|&i| x[i] > f64::NEG_INFINITY).collect();
        for &j in &open {
            let jacobian = |i: usize| s[j] * (f64::from(u8::from(i == j)) - s[i]);
            let bias = s[j] - open.iter().map(|&i| jacobian(i) * x[i]).sum::<f64>();
            for &i in &open {
                to[i] += (jacobian(i) * x[i] + bias / open.len() as f64) * r[j] / s[j];
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elementwise::gradient;
    use crate::testing::{assert_close, values, vector};
    use ndarray::array;

    fn cases() -> [(Norm, ArrayD<f64>, Affine); 3] {
        let affine = |n, seed| Affine { gain: vector(n, seed), bias: vector(n, seed + 1.0), epsilon: 1e-5 };
        [
            (Norm::Layer { axis: 1 }, values(&[3, 5], 1.0), affine(5, 2.0)),
            (Norm::Instance, values(&[2, 3, 4], 3.0), affine(3, 4.0)),
            (Norm::Group { groups: 2 }, values(&[2, 4, 3], 5.0), affine(4, 6.0)),
        ]
    }

    #[test]
    fn a_softmax_with_its_bias_conserves() {
        let x = array![[1.0, f64::NEG_INFINITY, -2.0], [0.5, 0.25, 3.0]].into_dyn();
        let r = array![[2.0, 0.0, -1.0], [1.0, 4.0, 0.5]].into_dyn();
        let to_x = softmax_with_bias(&x, 1, &r);
        assert_close(&to_x.sum_axis(Axis(1)), &r.sum_axis(Axis(1)));
        assert_eq!(to_x[[0, 1]], 0.0);
        // Two equal scores a: t = a(R − ΣR/2), and each takes half of what is left.
        let to_x = softmax_with_bias(&array![[3.0, 3.0]].into_dyn(), 1, &array![[4.0, 0.0]].into_dyn());
        assert_close(&to_x, &[3.0 * 2.0 + 2.0, 3.0 * -2.0 + 2.0]);
    }

    #[test]
    fn layer_norm_by_hand() {
        let affine = Affine { gain: array![2.0, 1.0], bias: array![0.0, 3.0], epsilon: 0.0 };
        let y = normalise(&array![[1.0, 5.0]].into_dyn(), &Norm::Layer { axis: 1 }, &affine);
        assert_close(&y, &[-2.0, 4.0]);
        // y = [−2, 4], R = [1, 8]: q = [−1/2, 2], u = q·gain/σ = [−1/2, 1], mean ¼, R_x = [1·(−¾), 5·¾]; bias 2·3.
        let relevance = array![[1.0, 8.0]].into_dyn();
        let shared = norm_epsilon(&array![[1.0, 5.0]].into_dyn(), &Norm::Layer { axis: 1 }, &affine, &relevance, 0.0);
        assert_close(&shared.input, &[-0.75, 3.75]);
        assert_close(&[shared.bias], &[6.0]);
    }

    #[test]
    fn norm_epsilon_conserves() {
        for (norm, x, affine) in cases() {
            let r = values(x.shape(), 9.0);
            assert_close(&[norm_epsilon(&x, &norm, &affine, &r, 1e-2).total()], &[r.sum()]);
        }
    }

    #[test]
    fn norm_epsilon_is_input_times_the_gradient_with_the_deviation_frozen() {
        for (norm, x, affine) in cases() {
            let g = values(x.shape(), 8.0);
            let frozen = |at: &ArrayD<f64>| {
                let parts = elements(at, &norm, &affine);
                let held = elements(&x, &norm, &affine);
                let y = parts.iter().zip(&held).map(|(e, h)| {
                    ((at[IxDyn(&e.at)] - e.mean) * h.inverse_deviation * h.gain + h.bias) * g[IxDyn(&e.at)]
                });
                y.sum()
            };
            let shared = norm_epsilon(&x, &norm, &affine, &(&normalise(&x, &norm, &affine) * &g), 0.0);
            let expected = &x * &gradient(frozen, &x, 1e-4);
            for (a, e) in shared.input.iter().zip(&expected) {
                assert!((a - e).abs() < 1e-8, "{a} {e}");
            }
        }
    }

    #[test]
    fn batch_norm_by_hand() {
        let (scale, shift) = batch_norm_affine(&array![4.0], &array![1.0], &array![3.0], &array![3.0], 1.0);
        assert_eq!((scale, shift), (array![2.0], array![-5.0]));
    }

    #[test]
    fn softmax_rule_is_input_times_gradient_of_the_relevant_sum() {
        let x = values(&[2, 4], 1.0);
        let g = values(&[2, 4], 2.0);
        let relevance = softmax(&x, 1) * &g;
        let expected = &x * &gradient(|at| (softmax(at, 1) * &g).sum(), &x, 1e-4);
        for (a, e) in attention_softmax(&x, 1, &relevance).iter().zip(&expected) {
            assert!((a - e).abs() < 1e-8, "{a} {e}");
        }
    }

    #[test]
    fn masked_softmax_is_finite() {
        let x = array![1.0, f64::NEG_INFINITY].into_dyn();
        assert_eq!(attention_softmax(&x, 0, &array![3.0, 0.0].into_dyn()), array![0.0, 0.0].into_dyn());
    }
}
