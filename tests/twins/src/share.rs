//! The stabiliser, and the one thing that all rules do: split relevance among contributions in proportion.

use ndarray::{Array1, Array2, ArrayD};

/// Sign with `sg(0) = +1`.
pub fn sign(z: f64) -> f64 {
    if z >= 0.0 { 1.0 } else { -1.0 }
}

/// `S(z) = z + ε·sg(z)`.
pub fn stabilise(z: f64, epsilon: f64) -> f64 {
    z + epsilon * sign(z)
}

/// What a denominator becomes before it divides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stabiliser {
    /// `z + ε·sg(z)`.
    Absolute(f64),
    /// `z + ε·rms·sg(z)`, the root mean square over each of `samples` equal parts.
    Relative {
        /// ε.
        epsilon: f64,
        /// How many samples lie one behind the other.
        samples: usize,
    },
    /// `sg(z)·max(|z|, ε)`.
    Clip(f64),
}

impl From<f64> for Stabiliser {
    fn from(epsilon: f64) -> Stabiliser {
        Stabiliser::Absolute(epsilon)
    }
}

impl Stabiliser {
    /// `S(z) − z` of every denominator.
    pub fn added(self, z: &Array1<f64>) -> Array1<f64> {
        match self {
            Stabiliser::Absolute(epsilon) => z.mapv(|z| epsilon * sign(z)),
            Stabiliser::Clip(epsilon) => z.mapv(|z| sign(z) * z.abs().max(epsilon) - z),
            Stabiliser::Relative { epsilon, samples } => {
                let length = z.len() / samples;
                Array1::from_shape_fn(z.len(), |j| {
                    let first = j / length * length;
                    let squares: f64 = (first..first + length).map(|k| z[k] * z[k]).sum();
                    epsilon * (squares / length as f64).sqrt() * sign(z[j])
                })
            }
        }
    }
}

/// The relevance filter: the `max(1, ⌊fraction·n⌋)` largest of the `n` values stay, of equals the first; the others are 0.
pub fn filter(relevance: &[f64], fraction: (usize, usize)) -> Vec<f64> {
    let mut order: Vec<usize> = (0..relevance.len()).collect();
    order.sort_by(|&a, &b| relevance[b].total_cmp(&relevance[a]).then(a.cmp(&b)));
    let count = (relevance.len() * fraction.0 / fraction.1).max(1);
    let mut kept = vec![0.0; relevance.len()];
    order[..count].iter().for_each(|&at| kept[at] = relevance[at]);
    kept
}

/// Quotient with `0/0 = 0`; a number other than 0 divided by 0 is infinite, as it should be.
pub fn divide(numerator: f64, denominator: f64) -> f64 {
    if numerator == 0.0 { 0.0 } else { numerator / denominator }
}

/// What becomes of relevance at one operation: `ΣR = Σ input + bias + stabiliser`.
#[derive(Debug, Clone, PartialEq)]
pub struct Shared {
    /// Relevance of each input, flat, in row-major order.
    pub input: Array1<f64>,
    /// Relevance absorbed by the bias.
    pub bias: f64,
    /// Relevance absorbed by the stabiliser, and by denominators that are exactly 0 without one.
    pub stabiliser: f64,
}

impl Shared {
    /// `ΣR_x + bias + stabiliser`, which equals `ΣR` for every rule that conserves relevance.
    pub fn total(&self) -> f64 {
        self.input.sum() + self.bias + self.stabiliser
    }

    /// `self + factor · other`, term by term.
    pub fn add_scaled(&self, factor: f64, other: &Shared) -> Shared {
        Shared {
            input: &self.input + &(&other.input * factor),
            bias: self.bias + factor * other.bias,
            stabiliser: self.stabiliser + factor * other.stabiliser,
        }
    }
}

/// Gives each contribution its part: with `D_j = Σ_i n_ij + b_j`, `R_i = Σ_j n_ij / S(D_j) · R_j`.
///
/// `contributions` is `[n_in, n_out]`, `bias` and `relevance` are `[n_out]`. Where `S(D_j)` is exactly 0 (possible only
/// without a stabiliser) nothing flows and all of `R_j` is booked as absorbed by the stabiliser.
pub fn share(
    contributions: &Array2<f64>,
    bias: &Array1<f64>,
    relevance: &Array1<f64>,
    stabiliser: impl Into<Stabiliser>,
) -> Shared {
    let (n_in, n_out) = contributions.dim();
    let mut shared = Shared { input: Array1::zeros(n_in), bias: 0.0, stabiliser: 0.0 };
    let sums = Array1::from_shape_fn(n_out, |j| contributions.column(j).sum() + bias[j]);
    let added = stabiliser.into().added(&sums);
    for j in 0..n_out {
        let denominator = sums[j] + added[j];
        if denominator == 0.0 {
            shared.stabiliser += relevance[j];
            continue;
        }
        for i in 0..n_in {
            shared.input[i] += contributions[[i, j]] / denominator * relevance[j];
        }
        shared.bias += bias[j] / denominator * relevance[j];
        shared.stabiliser += added[j] / denominator * relevance[j];
    }
    shared
}

/// `Stop` (Ali et al. 2022, on attention weights): nothing goes on, all is absorbed.
pub fn stop(relevance: &ArrayD<f64>) -> ArrayD<f64> {
    ArrayD::zeros(relevance.raw_dim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn parts_are_in_proportion() {
        let shared = share(&array![[1.0], [2.0]], &array![1.0], &array![8.0], 0.0);
        assert_eq!(shared, Shared { input: array![2.0, 4.0], bias: 2.0, stabiliser: 0.0 });
    }

    #[test]
    fn stabiliser_follows_the_sign_and_counts_zero_as_positive() {
        assert_eq!([stabilise(2.0, 0.5), stabilise(-2.0, 0.5), stabilise(0.0, 0.5)], [2.5, -2.5, 0.5]);
        let shared = share(&array![[-2.0, 0.0]], &array![0.0, 0.0], &array![5.0, 3.0], 0.5);
        assert_eq!(shared, Shared { input: array![4.0], bias: 0.0, stabiliser: 4.0 });
    }

    #[test]
    fn stabilisers_by_hand() {
        let z = array![3.0, -0.25, 0.0, -0.0];
        assert_eq!(Stabiliser::Clip(0.5).added(&z), array![0.0, -0.25, 0.5, 0.5]);
        assert_eq!(
            Stabiliser::Relative { epsilon: 0.5, samples: 2 }.added(&array![3.0, -1.0, 0.0, 0.0]),
            array![0.5 * 5f64.sqrt(), -0.5 * 5f64.sqrt(), 0.0, 0.0]
        );
    }

    #[test]
    fn a_filter_keeps_the_first_of_equals() {
        assert_eq!(filter(&[1.0, -9.0, 2.0, 1.0, 1.0], (2, 5)), [1.0, 0.0, 2.0, 0.0, 0.0]);
        assert_eq!(filter(&[-1.0, -2.0], (1, 10)), [-1.0, 0.0]);
    }

    #[test]
    fn zero_over_zero_is_zero_and_booked() {
        let shared = share(&array![[1.0], [-1.0]], &array![0.0], &array![3.0], 0.0);
        assert_eq!(shared, Shared { input: array![0.0, 0.0], bias: 0.0, stabiliser: 3.0 });
        assert_eq!(divide(0.0, 0.0), 0.0);
    }
}
