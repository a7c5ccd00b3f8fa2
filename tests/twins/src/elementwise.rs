//! Activation functions by their definitions, the identity rule's factor, and derivatives by central differences.

use ndarray::ArrayD;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI, PI};

/// `max(x, 0)`.
pub fn relu(x: f64) -> f64 {
    x.max(0.0)
}

/// `x` for positive `x`, `slope · x` below; also PReLU.
pub fn leaky_relu(x: f64, slope: f64) -> f64 {
    if x >= 0.0 { x } else { slope * x }
}

/// `x` for positive `x`, `alpha · (eˣ − 1)` below.
pub fn elu(x: f64, alpha: f64) -> f64 {
    if x >= 0.0 { x } else { alpha * x.exp_m1() }
}

/// `gamma · elu(x, alpha)`.
pub fn selu(x: f64, alpha: f64, gamma: f64) -> f64 {
    gamma * elu(x, alpha)
}

/// `max(0, x) + min(0, alpha · (e^(x/alpha) − 1))`.
pub fn celu(x: f64, alpha: f64) -> f64 {
    x.max(0.0) + (alpha * (x / alpha).exp_m1()).min(0.0)
}

/// `1 / (1 + e⁻ˣ)`.
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `min(1, max(0, alpha · x + beta))`.
pub fn hard_sigmoid(x: f64, alpha: f64, beta: f64) -> f64 {
    (alpha * x + beta).clamp(0.0, 1.0)
}

/// `x · hard_sigmoid(x, 1/6, 1/2)`.
pub fn hard_swish(x: f64) -> f64 {
    x * hard_sigmoid(x, 1.0 / 6.0, 0.5)
}

/// `x · sigmoid(x)`.
pub fn silu(x: f64) -> f64 {
    x * sigmoid(x)
}

/// `ln(1 + eˣ)`.
pub fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `x / (1 + |x|)`.
pub fn softsign(x: f64) -> f64 {
    x / (1.0 + x.abs())
}

/// `x · tanh(softplus(x))`.
pub fn mish(x: f64) -> f64 {
    x * softplus(x).tanh()
}

/// `x` limited to `[low, high]`; ReLU6 is `clip(x, 0, 6)`.
pub fn clip(x: f64, low: f64, high: f64) -> f64 {
    x.max(low).min(high)
}

/// The error function, by the series `2/√π · e^(−x²) · Σ 2ⁿ x^(2n+1) / (1·3·…·(2n+1))`, whose terms have one sign.
pub fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 * sum.abs() {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    2.0 / PI.sqrt() * (-x * x).exp() * sum
}

/// `x · Φ(x)`, the exact form.
pub fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x * FRAC_1_SQRT_2))
}

/// GELU by tanh.
pub fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + (FRAC_2_PI.sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

/// Relevance through an activation: unchanged.
pub fn identity(relevance: &ArrayD<f64>) -> ArrayD<f64> {
    relevance.clone()
}

/// What DeconvNet sends through a ReLU (Zeiler & Fergus 2014): the positive part, whatever the input was.
pub fn deconv_net(signal: &ArrayD<f64>) -> ArrayD<f64> {
    signal.mapv(|r| if r > 0.0 { r } else { 0.0 })
}

/// What guided backpropagation sends through a ReLU (Springenberg et al. 2015): the positive part where the input was.
pub fn guided_backprop(x: &ArrayD<f64>, signal: &ArrayD<f64>) -> ArrayD<f64> {
    let mut sent = deconv_net(signal);
    sent.zip_mut_with(x, |r, &x| {
        if x <= 0.0 {
            *r = 0.0;
        }
    });
    sent
}

/// What goes through a ReLU with the slope of softplus(βx)/β (Dombrowski et al. 2019).
pub fn beta_smooth(x: &ArrayD<f64>, signal: &ArrayD<f64>, beta: f64) -> ArrayD<f64> {
    let mut sent = signal.clone();
    sent.zip_mut_with(x, |r, &x| *r *= sigmoid(beta * x));
    sent
}

/// The coefficient form of the identity rule: `f(x)/x`, and `f'(0)` at 0 for a function with `f(0) = 0`.
pub fn coefficient_factor(f: impl Fn(f64) -> f64, x: f64) -> f64 {
    if x == 0.0 { central_difference(f, 0.0, 1e-5) } else { f(x) / x }
}

/// `(f(x + h) − f(x − h)) / 2h`.
pub fn central_difference(f: impl Fn(f64) -> f64, x: f64, h: f64) -> f64 {
    (f(x + h) - f(x - h)) / (2.0 * h)
}

/// The gradient of a scalar function of an array, element by element by central differences.
pub fn gradient(f: impl Fn(&ArrayD<f64>) -> f64, x: &ArrayD<f64>, h: f64) -> ArrayD<f64> {
    let mut result = ArrayD::zeros(x.raw_dim());
    for (at, &value) in x.indexed_iter() {
        let moved = |to: f64| {
            let mut x = x.clone();
            x[&at] = to;
            f(&x)
        };
        result[&at] = central_difference(moved, value, h);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_close;
    use ndarray::array;

    #[test]
    fn error_function_at_known_points() {
        let known = [0.0, 0.5204998778130465, 0.8427007929497149, -0.9953222650189527, 0.9999779095030014];
        assert_close(&[erf(0.0), erf(0.5), erf(1.0), erf(-2.0), erf(3.0)], &known);
        assert!((erf(5.9) - 1.0).abs() < 1e-15 && erf(-7.0) == -1.0);
    }

    #[test]
    fn functions_at_known_points() {
        assert_close(&[sigmoid(0.0), hard_swish(1.0), softplus(0.0)], &[0.5, 4.0 / 6.0, 2f64.ln()]);
        assert_close(&[gelu(1.0), gelu(-1.0)], &[0.8413447460685429, -0.15865525393145707]);
        assert_close(&[silu(1.0), mish(0.0), softsign(-1.0)], &[1.0 / (1.0 + (-1f64).exp()), 0.0, -0.5]);
        assert_close(&[elu(-1.0, 2.0), celu(-2.0, 2.0)], &[2.0 * (-1f64).exp_m1(), 2.0 * (-1f64).exp_m1()]);
        assert_close(&[leaky_relu(-2.0, 0.1), clip(7.0, 0.0, 6.0), selu(1.0, 1.6, 1.05)], &[-0.2, 6.0, 1.05]);
        assert!((gelu_tanh(0.7) - gelu(0.7)).abs() < 1e-3);
    }

    #[test]
    fn differences_match_derivatives() {
        assert!((central_difference(sigmoid, 0.3, 1e-5) - sigmoid(0.3) * (1.0 - sigmoid(0.3))).abs() < 1e-10);
        assert!((coefficient_factor(silu, 0.0) - 0.5).abs() < 1e-10);
        assert_close(&[coefficient_factor(relu, -2.0), coefficient_factor(relu, 2.0)], &[0.0, 1.0]);
        let slope = gradient(|x| x.iter().map(|v| v * v).sum(), &array![1.0, -3.0].into_dyn(), 1e-4);
        for (a, e) in slope.iter().zip([2.0, -6.0]) {
            assert!((a - e).abs() < 1e-8);
        }
    }
}
