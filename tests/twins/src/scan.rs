//! A selective scan with an output gate, and its relevance by MambaLRP (Rezaei Jafari et al. 2024), written out.

use ndarray::{Array1, Array2};

use crate::elementwise::{silu, softplus};

/// `u = silu(x·W_u)`, `Δ = softplus(u·W_Δ)`, `h_t = e^(−Δ_t) ⊙ h_(t−1) + Δ_t ⊙ (u_t·W_b) ⊙ u_t` from 0,
/// `y_t = (u_t·W_c) ⊙ h_t + u_t/2`, `scores = (y ⊙ silu(x·W_z))·W_o`.
pub struct SelectiveScan {
    /// `[steps, width]`.
    pub x: Array2<f64>,
    /// `W_u`, `W_Δ`, `W_b`, `W_c`, `W_z`, each `[width, width]`.
    pub weights: [Array2<f64>; 5],
    /// `W_o`, `[width, scores]`.
    pub out: Array2<f64>,
}

impl SelectiveScan {
    /// Relevance of `x` for one score of one step, with `Δ`, its decay and the projections held, each activation passing
    /// relevance on, half of the gated product to either factor, and shares in proportion everywhere else.
    pub fn relevance(&self, step: usize, score: usize) -> Array2<f64> {
        let [to_u, to_delta, to_b, to_c, to_z] = &self.weights;
        let u_before = self.x.dot(to_u);
        let u = u_before.mapv(silu);
        let delta = u.dot(to_delta).mapv(softplus);
        let (b, c) = (u.dot(to_b), u.dot(to_c));
        let mut h = Array1::<f64>::zeros(self.x.ncols());
        for t in 0..=step {
            let enters = &delta.row(t) * &b.row(t) * u.row(t);
            h = delta.row(t).mapv(|delta| (-delta).exp()) * h + enters;
        }
        let y = &c.row(step) * &h + u.row(step).mapv(|u| u / 2.0);
        let z_before = self.x.row(step).dot(to_z);
        let gated = &y * &z_before.mapv(silu);
        let half = gated * self.out.column(score) / 2.0;

        let mut to_x = Array2::zeros(self.x.dim());
        let linear = |row: usize, before: &Array1<f64>, weight: &Array2<f64>, relevance: &Array1<f64>| -> Array1<f64> {
            &self.x.row(row) * &weight.dot(&(relevance / before))
        };
        let part = linear(step, &z_before, to_z, &half);
        to_x.row_mut(step).scaled_add(1.0, &part);
        // What each step adds to y, in proportion.
        let share = half / &y;
        for t in 0..=step {
            let mut reaches = &c.row(step) * &delta.row(t) * b.row(t);
            for later in t + 1..=step {
                reaches = reaches * delta.row(later).mapv(|delta| (-delta).exp());
            }
            if t == step {
                reaches += 0.5;
            }
            let to_u_row = &share * &reaches * u.row(t);
            let part = linear(t, &u_before.row(t).to_owned(), to_u, &to_u_row);
            to_x.row_mut(t).scaled_add(1.0, &part);
        }
        to_x
    }

    /// The score.
    pub fn score(&self, step: usize, score: usize) -> f64 {
        self.relevance(step, score).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    /// One step of width one: u = silu(2), y = u³·Δ + u/2 with unit weights.
    #[test]
    fn by_hand() {
        let one = || array![[1.0]];
        let scan = SelectiveScan { x: array![[2.0]], weights: [one(), one(), one(), one(), one()], out: one() };
        let u = silu(2.0);
        let y = u * (softplus(u) * u * u) + u / 2.0;
        assert!((scan.relevance(0, 0)[[0, 0]] - y * u).abs() < 1e-12);
        assert!((scan.score(0, 0) - y * u).abs() < 1e-12);
    }
}
