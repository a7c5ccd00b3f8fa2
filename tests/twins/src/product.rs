//! Products of activations, element by element, all factors already broadcast to the output's shape.

use crate::additive::{Split, absolute_ratio};
use crate::share::{sign, stabilise};
use ndarray::{Array2, ArrayD};

/// `Half` (uniform): each of the k factors gets `R / k` (AttnLRP; k = 2 there).
pub fn half(factors: usize, relevance: &ArrayD<f64>) -> Vec<ArrayD<f64>> {
    vec![relevance / factors as f64; factors]
}

/// `Gate`: all of the relevance goes to the factor at `signal`, nothing to the others (Arras et al. 2017). A bounded gate
/// (the output of a sigmoid or hard sigmoid) times a signal is treated so as well.
pub fn gate(factors: usize, signal: usize, relevance: &ArrayD<f64>) -> Vec<ArrayD<f64>> {
    assert!(signal < factors);
    (0..factors).map(|k| if k == signal { relevance.clone() } else { relevance * 0.0 }).collect()
}

/// `AbsRatio`: `R_k = |a_k| / S(Σ|a|) · R` (DynamicLRP).
pub fn absolute(factors: &[ArrayD<f64>], relevance: &ArrayD<f64>, epsilon: f64) -> Split {
    absolute_ratio(factors, relevance, epsilon)
}

/// The coefficient form of `Half`: factor k gets `g · Π_{l≠k} a_l / K`, so that `a_k ⊙ g_k = R / K`.
pub fn half_coefficients(factors: &[ArrayD<f64>], coefficient: &ArrayD<f64>) -> Vec<ArrayD<f64>> {
    (0..factors.len())
        .map(|k| {
            let others = factors.iter().enumerate().filter(|&(l, _)| l != k);
            others.fold(coefficient / factors.len() as f64, |product, (_, factor)| product * factor)
        })
        .collect()
}

/// `ValuePath` (CP-LRP, Ali et al. 2022): with the attention weights `a` constant, `y_ic = Σ_j a_ij v_jc` is linear in `v`:
/// `R_jc = Σ_i a_ij v_jc / S(y_ic) · R_ic`. Also what the stabiliser absorbs.
pub fn value_path(a: &Array2<f64>, v: &Array2<f64>, relevance: &Array2<f64>, epsilon: f64) -> (Array2<f64>, f64) {
    let (mut to_v, mut lost) = (Array2::zeros(v.dim()), 0.0);
    for i in 0..a.nrows() {
        for c in 0..v.ncols() {
            let y: f64 = (0..a.ncols()).map(|j| a[[i, j]] * v[[j, c]]).sum();
            let denominator = stabilise(y, epsilon);
            if denominator == 0.0 {
                lost += relevance[[i, c]];
                continue;
            }
            lost += epsilon * sign(y) / denominator * relevance[[i, c]];
            for j in 0..a.ncols() {
                to_v[[j, c]] += a[[i, j]] * v[[j, c]] / denominator * relevance[[i, c]];
            }
        }
    }
    (to_v, lost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, values};
    use ndarray::array;

    #[test]
    fn parts_by_hand() {
        let r = array![6.0].into_dyn();
        assert_eq!(half(3, &r), vec![array![2.0].into_dyn(); 3]);
        assert_eq!(gate(2, 1, &r), [array![0.0].into_dyn(), array![6.0].into_dyn()]);
        let split = absolute(&[array![-1.0].into_dyn(), array![2.0].into_dyn()], &r, 0.0);
        assert_eq!(split.operands, [array![2.0].into_dyn(), array![4.0].into_dyn()]);
    }

    #[test]
    fn both_forms_of_half_agree() {
        let factors = [values(&[4], 1.0), values(&[4], 2.0), values(&[4], 3.0)];
        let g = values(&[4], 4.0);
        let relevance = &g * &factors[0] * &factors[1] * &factors[2];
        let parts = half(3, &relevance);
        for ((factor, coefficient), part) in factors.iter().zip(half_coefficients(&factors, &g)).zip(parts) {
            assert_close(&(factor * &coefficient), &part);
        }
    }
}
