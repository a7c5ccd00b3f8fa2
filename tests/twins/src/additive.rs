//! Sums of several operands: relevance by signed or absolute ratio, and the undoing of broadcasts.
//!
//! `contributions` holds what each operand adds to the sum, already broadcast to the output's shape: for `a − b` that is
//! `[a, −b]`, for a mean of k operands each divided by k.

use crate::share::{sign, stabilise};
use ndarray::{ArrayD, Axis, IxDyn};

/// Relevance per operand, and what the stabiliser absorbed.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// One array per operand, in the output's shape.
    pub operands: Vec<ArrayD<f64>>,
    /// Relevance absorbed by the stabiliser, and by sums that are exactly 0 without one.
    pub stabiliser: f64,
}

/// `R_k = c_k / S(Σc) · R` (zennit's `Norm`, LXT).
pub fn signed_ratio(contributions: &[ArrayD<f64>], relevance: &ArrayD<f64>, epsilon: f64) -> Split {
    ratio(contributions, contributions, relevance, epsilon)
}

/// `R_k = |c_k| / S(Σ|c|) · R` (DynamicLRP; Otsuki et al. 2024).
pub fn absolute_ratio(contributions: &[ArrayD<f64>], relevance: &ArrayD<f64>, epsilon: f64) -> Split {
    let magnitudes: Vec<ArrayD<f64>> = contributions.iter().map(|c| c.mapv(f64::abs)).collect();
    ratio(contributions, &magnitudes, relevance, epsilon)
}

/// `R_k = R / K` for each of the K operands (Otsuki et al. 2024, symmetric splitting).
pub fn symmetric(operands: usize, relevance: &ArrayD<f64>) -> Vec<ArrayD<f64>> {
    (0..operands).map(|_| relevance.mapv(|r| r / operands as f64)).collect()
}

fn ratio(operands: &[ArrayD<f64>], parts: &[ArrayD<f64>], relevance: &ArrayD<f64>, epsilon: f64) -> Split {
    let mut split = Split { operands: vec![ArrayD::zeros(relevance.raw_dim()); operands.len()], stabiliser: 0.0 };
    for (at, &r) in relevance.indexed_iter() {
        let sum: f64 = parts.iter().map(|part| part[&at]).sum();
        let denominator = stabilise(sum, epsilon);
        if denominator == 0.0 {
            split.stabiliser += r;
            continue;
        }
        for (operand, part) in split.operands.iter_mut().zip(parts) {
            operand[&at] = part[&at] / denominator * r;
        }
        split.stabiliser += epsilon * sign(sum) / denominator * r;
    }
    split
}

/// Sums an array back to the shape it was broadcast from, by the rules of numpy and ONNX.
pub fn unbroadcast(array: &ArrayD<f64>, shape: &[usize]) -> ArrayD<f64> {
    let mut sum = array.clone();
    while sum.ndim() > shape.len() {
        sum = sum.sum_axis(Axis(0));
    }
    for (axis, &size) in shape.iter().enumerate() {
        if size == 1 {
            sum = sum.sum_axis(Axis(axis)).insert_axis(Axis(axis));
        }
    }
    assert_eq!(sum.shape(), shape);
    sum
}

/// Repeats an array to a larger shape, by the rules of numpy and ONNX.
pub fn broadcast(array: &ArrayD<f64>, shape: &[usize]) -> ArrayD<f64> {
    let missing = shape.len() - array.ndim();
    ArrayD::from_shape_fn(IxDyn(shape), |at| {
        let from: Vec<usize> =
            array.shape().iter().enumerate().map(|(k, &size)| if size == 1 { 0 } else { at[missing + k] }).collect();
        array[IxDyn(&from)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, values};
    use ndarray::array;

    #[test]
    fn ratios_by_hand() {
        let operands = [array![3.0].into_dyn(), array![-1.0].into_dyn()];
        let r = array![8.0].into_dyn();
        let signed = signed_ratio(&operands, &r, 0.0);
        assert_eq!((signed.operands[0][[0]], signed.operands[1][[0]]), (12.0, -4.0));
        let absolute = absolute_ratio(&operands, &r, 0.0);
        assert_eq!((absolute.operands[0][[0]], absolute.operands[1][[0]]), (6.0, 2.0));
    }

    #[test]
    fn three_operands_conserve() {
        let operands = [values(&[2, 3], 1.0), values(&[2, 3], 2.0), values(&[2, 3], 3.0)];
        let r = values(&[2, 3], 4.0);
        for split in [signed_ratio(&operands, &r, 1e-3), absolute_ratio(&operands, &r, 1e-3)] {
            let total: f64 = split.operands.iter().map(|part| part.sum()).sum::<f64>() + split.stabiliser;
            assert_close(&[total], &[r.sum()]);
        }
    }

    #[test]
    fn a_sum_of_zero_is_booked() {
        let operands = [array![2.0].into_dyn(), array![-2.0].into_dyn()];
        let split = signed_ratio(&operands, &array![5.0].into_dyn(), 0.0);
        assert_eq!((split.operands[0][[0]], split.stabiliser), (0.0, 5.0));
    }

    #[test]
    fn unbroadcast_undoes_broadcast() {
        let small = values(&[3, 1], 1.0);
        let large = broadcast(&small, &[2, 3, 4]);
        assert_eq!(large.shape(), [2, 3, 4]);
        assert_close(&unbroadcast(&large, &[3, 1]), &(&small * 8.0));
    }
}
