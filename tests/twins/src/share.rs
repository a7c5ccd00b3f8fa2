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
/// with ε = 0) nothing flows and all of `R_j` is booked as absorbed by the stabiliser.
pub fn share(contributions: &Array2<f64>, bias: &Array1<f64>, relevance: &Array1<f64>, epsilon: f64) -> Shared {
    let (n_in, n_out) = contributions.dim();
    let mut shared = Shared { input: Array1::zeros(n_in), bias: 0.0, stabiliser: 0.0 };
    for j in 0..n_out {
        let sum: f64 = contributions.column(j).sum() + bias[j];
        let denominator = stabilise(sum, epsilon);
        if denominator == 0.0 {
            shared.stabiliser += relevance[j];
            continue;
        }
        for i in 0..n_in {
            shared.input[i] += contributions[[i, j]] / denominator * relevance[j];
        }
        shared.bias += bias[j] / denominator * relevance[j];
        shared.stabiliser += epsilon * sign(sum) / denominator * relevance[j];
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
    fn zero_over_zero_is_zero_and_booked() {
        let shared = share(&array![[1.0], [-1.0]], &array![0.0], &array![3.0], 0.0);
        assert_eq!(shared, Shared { input: array![0.0, 0.0], bias: 0.0, stabiliser: 3.0 });
        assert_eq!(divide(0.0, 0.0), 0.0);
    }
}
