//! A recurrent layer and its relevance by the ε rule, step by step.

use ndarray::{Array1, Array2};

use crate::additive::signed_ratio;
use crate::linear::Dense;
use crate::rules::{BiasPolicy, epsilon};

/// `h_t = tanh((x_t·W + b) + h_(t−1)·U)`.
pub struct Recurrent {
    /// `[steps, features]`.
    pub x: Array2<f64>,
    /// `h_0`, `[units]`.
    pub first: Array1<f64>,
    /// `W`, `[features, units]`.
    pub input: Array2<f64>,
    /// `U`, `[units, units]`.
    pub state: Array2<f64>,
    /// `b`, `[units]`.
    pub bias: Array1<f64>,
}

/// Relevance of what a recurrent layer reads, and what was absorbed.
pub struct Explained {
    /// `[steps, features]`.
    pub x: Array2<f64>,
    /// `[units]`.
    pub first: Array1<f64>,
    /// By the biases of all steps.
    pub bias: f64,
    /// By all stabilisers.
    pub stabiliser: f64,
}

impl Recurrent {
    /// The last state.
    pub fn last(&self) -> Array1<f64> {
        self.states().pop().unwrap_or_else(|| self.first.clone())
    }

    /// `h_0, h_1, …`
    fn states(&self) -> Vec<Array1<f64>> {
        let mut states = vec![self.first.clone()];
        for x in self.x.rows() {
            let before = &states[states.len() - 1];
            states.push((x.dot(&self.input) + &self.bias + before.dot(&self.state)).mapv(f64::tanh));
        }
        states
    }

    /// What becomes of the relevance of the last state: tanh passes it on, the sum shares it in proportion, either
    /// linear map gives it to its input.
    pub fn relevance(&self, relevance: &Array1<f64>, eps: f64) -> Explained {
        let states = self.states();
        let mut explained =
            Explained { x: Array2::zeros(self.x.dim()), first: relevance.clone(), bias: 0.0, stabiliser: 0.0 };
        for (step, x) in self.x.rows().into_iter().enumerate().rev() {
            let before = &states[step];
            let (enters, stays) = (x.dot(&self.input) + &self.bias, before.dot(&self.state));
            let parts = signed_ratio(&[enters.into_dyn(), stays.into_dyn()], &explained.first.clone().into_dyn(), eps);
            let flat = |part: usize| Array1::from_iter(parts.operands[part].iter().copied());
            let (input, state) = (dense(&self.input, &self.bias), dense(&self.state, &(&self.bias * 0.0)));
            let to_x = epsilon(&input, &x.to_owned(), &flat(0), eps, BiasPolicy::Include);
            let to_state = epsilon(&state, before, &flat(1), eps, BiasPolicy::Include);
            explained.x.row_mut(step).assign(&to_x.input);
            explained.first = to_state.input;
            explained.bias += to_x.bias + to_state.bias;
            explained.stabiliser += parts.stabiliser + to_x.stabiliser + to_state.stabiliser;
        }
        explained
    }
}

fn dense(weight: &Array2<f64>, bias: &Array1<f64>) -> Dense {
    let mut dense = Dense::empty(weight.nrows(), &[weight.ncols()]);
    for ((i, j), &value) in weight.indexed_iter() {
        dense.connect(i, j, value);
    }
    dense.bias.assign(bias);
    dense
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn one_unit_by_hand() {
        let layer = Recurrent {
            x: array![[2.0], [1.0]],
            first: array![0.5],
            input: array![[0.25]],
            state: array![[0.5]],
            bias: array![0.25],
        };
        let first: f64 = (0.5f64 + 0.25 + 0.25).tanh();
        let explained = layer.relevance(&array![1.0], 0.0);
        let sum = 0.25 + 0.25 + 0.5 * first;
        assert!((explained.x[[1, 0]] - 0.25 / sum).abs() < 1e-15);
        assert!((explained.x[[0, 0]] - 0.5 * first / sum * 0.5).abs() < 1e-15);
        assert!((explained.first[0] - 0.5 * first / sum * 0.25).abs() < 1e-15);
        assert!((explained.bias - 0.25 / sum - 0.5 * first / sum * 0.25).abs() < 1e-15);
        assert_eq!(explained.stabiliser, 0.0);
        assert!((layer.last()[0] - sum.tanh()).abs() < 1e-15);
    }
}
