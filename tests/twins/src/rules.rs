//! The rules for linear maps, each written as what its paper divides among the inputs.
//!
//! `x` is the flat input, `relevance` the flat relevance of the output, `c_ij = x_i · w_ij` a contribution. Every rule
//! but [`gradient`] ends in [`share`]: it differs in what it counts as a contribution.

use crate::linear::Dense;
use crate::share::{Shared, Stabiliser, share, sign, stabilise};
use ndarray::{Array1, Array2};

/// What becomes of the bias under the ε rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BiasPolicy {
    /// Inside the denominator; its share is absorbed.
    Include,
    /// Left out of the denominator.
    Exclude,
    /// Its share and the stabiliser's are spread evenly over the connected inputs (Bach et al. 2015, eq. 58-60).
    Redistribute,
}

fn contributions(map: &Dense, x: &Array1<f64>) -> Array2<f64> {
    Array2::from_shape_fn(map.weight.dim(), |(i, j)| x[i] * map.weight[[i, j]])
}

fn none(map: &Dense) -> Array1<f64> {
    Array1::zeros(map.bias.len())
}

fn positive(value: f64) -> f64 {
    value.max(0.0)
}

fn negative(value: f64) -> f64 {
    value.min(0.0)
}

/// ε rule: `R_i = Σ_j c_ij / S(z_j) · R_j` (Bach et al. 2015). With `epsilon = 0` it is LRP-0.
pub fn epsilon(
    map: &Dense,
    x: &Array1<f64>,
    relevance: &Array1<f64>,
    stabiliser: impl Into<Stabiliser>,
    bias: BiasPolicy,
) -> Shared {
    let c = contributions(map, x);
    match bias {
        BiasPolicy::Include => share(&c, &map.bias, relevance, stabiliser),
        BiasPolicy::Exclude => share(&c, &none(map), relevance, stabiliser),
        BiasPolicy::Redistribute => redistribute(map, &c, relevance, stabiliser.into()),
    }
}

/// `R_i = Σ_j (c_ij + (b_j + S(z_j) − z_j)/n_j) / S(z_j) · R_j` over the `n_j` inputs that are connected to output `j`
/// (Arras et al. 2017); an output without any leaves its relevance to bias and stabiliser.
fn redistribute(map: &Dense, c: &Array2<f64>, relevance: &Array1<f64>, stabiliser: Stabiliser) -> Shared {
    let z = Array1::from_shape_fn(map.bias.len(), |j| c.column(j).sum() + map.bias[j]);
    let added = stabiliser.added(&z);
    let mut shared = Shared { input: Array1::zeros(c.nrows()), bias: 0.0, stabiliser: 0.0 };
    for (j, &r) in relevance.iter().enumerate() {
        let denominator = z[j] + added[j];
        let inputs = map.connected.column(j).iter().filter(|&&connected| connected).count();
        if denominator == 0.0 {
            shared.stabiliser += r;
        } else if inputs == 0 {
            shared.bias += map.bias[j] / denominator * r;
            shared.stabiliser += added[j] / denominator * r;
        } else {
            for i in (0..c.nrows()).filter(|&i| map.connected[[i, j]]) {
                shared.input[i] += (c[[i, j]] + (map.bias[j] + added[j]) / inputs as f64) / denominator * r;
            }
        }
    }
    shared
}

/// Taylor expansion around a root point: shares among `(x_i − x₀_i) · w_ij` (Montavon et al. 2017, section 4).
pub fn taylor(
    map: &Dense,
    x: &Array1<f64>,
    relevance: &Array1<f64>,
    root: &Array1<f64>,
    stabiliser: impl Into<Stabiliser>,
) -> Shared {
    share(&contributions(map, &(x - root)), &none(map), relevance, stabiliser)
}

/// z⁺ rule for inputs of any sign: only positive contributions count, and the positive part of the bias.
pub fn z_plus(map: &Dense, x: &Array1<f64>, relevance: &Array1<f64>, stabiliser: impl Into<Stabiliser>) -> Shared {
    share(&contributions(map, x).mapv(positive), &map.bias.mapv(positive), relevance, stabiliser)
}

/// αβ rule: `α` times the share among positive contributions minus `β` times that among negative ones (Bach et al. 2015).
pub fn alpha_beta(
    map: &Dense,
    x: &Array1<f64>,
    relevance: &Array1<f64>,
    (alpha, beta): (f64, f64),
    stabiliser: impl Into<Stabiliser>,
) -> Shared {
    let (c, stabiliser) = (contributions(map, x), stabiliser.into());
    let nothing = Shared { input: Array1::zeros(x.len()), bias: 0.0, stabiliser: 0.0 };
    let up = share(&c.mapv(positive), &map.bias.mapv(positive), relevance, stabiliser);
    let down = share(&c.mapv(negative), &map.bias.mapv(negative), relevance, stabiliser);
    nothing.add_scaled(alpha, &up).add_scaled(-beta, &down)
}

/// γ rule for inputs of any sign (Andéol et al. 2021): the contributions that agree in sign with the output `z` (bias
/// included) count `1 + γ` times. An output of exactly 0 passes nothing on; its relevance is booked as stabiliser.
pub fn gamma(
    map: &Dense,
    x: &Array1<f64>,
    relevance: &Array1<f64>,
    gamma: f64,
    stabiliser: impl Into<Stabiliser>,
) -> Shared {
    let z = map.forward(x);
    let boosted = |value: f64, z: f64| {
        if z > 0.0 {
            value + gamma * positive(value)
        } else if z < 0.0 {
            value + gamma * negative(value)
        } else {
            0.0
        }
    };
    let c = contributions(map, x);
    let c = Array2::from_shape_fn(c.dim(), |(i, j)| boosted(c[[i, j]], z[j]));
    let bias = Array1::from_shape_fn(z.len(), |j| boosted(map.bias[j], z[j]));
    share(&c, &bias, relevance, stabiliser)
}

/// w² rule: shares by the square of the weight, whatever the input; the bias has its square too (Montavon et al. 2017).
pub fn w_square(map: &Dense, relevance: &Array1<f64>, stabiliser: impl Into<Stabiliser>) -> Shared {
    share(&map.weight.mapv(|w| w * w), &map.bias.mapv(|b| b * b), relevance, stabiliser)
}

/// Flat rule: equal shares for all connected inputs, nothing for the bias.
pub fn flat(map: &Dense, relevance: &Array1<f64>, stabiliser: impl Into<Stabiliser>) -> Shared {
    share(&map.connected.mapv(|connected| f64::from(u8::from(connected))), &none(map), relevance, stabiliser)
}

/// z^B rule for inputs within a box: contributions `x_i·w_ij − l_i·w_ij⁺ − h_i·w_ij⁻` (Montavon et al. 2017).
///
/// `low` and `high` have one element per input. The bias cancels.
pub fn z_box(
    map: &Dense,
    x: &Array1<f64>,
    relevance: &Array1<f64>,
    (low, high): (&Array1<f64>, &Array1<f64>),
    stabiliser: impl Into<Stabiliser>,
) -> Shared {
    let c = Array2::from_shape_fn(map.weight.dim(), |(i, j)| {
        let w = map.weight[[i, j]];
        x[i] * w - low[i] * positive(w) - high[i] * negative(w)
    });
    share(&c, &none(map), relevance, stabiliser)
}

/// The plain vector-Jacobian product `W g`: what travels under gradients and coefficients.
pub fn gradient(map: &Dense, cotangent: &Array1<f64>) -> Array1<f64> {
    map.weight.dot(cotangent)
}

/// ε with the bias as operand of an addition behind the map (DynamicLRP): first `R_z = |z|/S(|z| + |b|)·R`, then ε on `z`
/// without bias.
pub fn epsilon_of_operand(map: &Dense, x: &Array1<f64>, relevance: &Array1<f64>, stabiliser: f64) -> Shared {
    let z = map.forward(x) - &map.bias;
    let (mut to_z, mut bias, mut lost) = (Array1::zeros(z.len()), 0.0, 0.0);
    for j in 0..z.len() {
        let (size, other) = (z[j].abs(), map.bias[j].abs());
        let denominator = stabilise(size + other, stabiliser);
        if denominator == 0.0 {
            lost += relevance[j];
            continue;
        }
        to_z[j] = size / denominator * relevance[j];
        bias += other / denominator * relevance[j];
        lost += stabiliser / denominator * relevance[j];
    }
    let shared = epsilon(map, x, &to_z, stabiliser, BiasPolicy::Exclude);
    Shared { bias, stabiliser: shared.stabiliser + lost, ..shared }
}

/// Relevance that goes to two active matrices of a product `z = a b` under `Half` (AttnLRP, eq. 13 and 14):
/// `R_a = a ⊙ (R / S(2z)) bᵀ`, likewise for `b`. Returns both, and what the stabiliser absorbed.
pub fn half_matmul(
    a: &Array2<f64>,
    b: &Array2<f64>,
    relevance: &Array2<f64>,
    epsilon: f64,
) -> (Array2<f64>, Array2<f64>, f64) {
    let (mut to_a, mut to_b, mut stabiliser) = (Array2::zeros(a.dim()), Array2::zeros(b.dim()), 0.0);
    for ((i, j), &r) in relevance.indexed_iter() {
        let doubled: f64 = 2.0 * (0..b.nrows()).map(|k| a[[i, k]] * b[[k, j]]).sum::<f64>();
        let denominator = stabilise(doubled, epsilon);
        if denominator == 0.0 {
            stabiliser += r;
            continue;
        }
        for k in 0..b.nrows() {
            let part = a[[i, k]] * b[[k, j]] / denominator * r;
            to_a[[i, k]] += part;
            to_b[[k, j]] += part;
        }
        stabiliser += epsilon * sign(doubled) / denominator * r;
    }
    (to_a, to_b, stabiliser)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::{Geometry, dense_of_conv, dense_of_dot};
    use crate::testing::{assert_close, values, vector};
    use ndarray::{Ix2, array};

    /// Contributions 6 and −2, bias 1: z = 5.
    fn hand() -> (Dense, Array1<f64>, Array1<f64>) {
        let map = dense_of_dot(&array![[2.0], [-1.0]]);
        (Dense { bias: array![1.0], ..map }, array![3.0, 2.0], array![10.0])
    }

    #[test]
    fn epsilon_by_hand() {
        let (map, x, r) = hand();
        let included = epsilon(&map, &x, &r, 0.0, BiasPolicy::Include);
        assert_eq!(included, Shared { input: array![12.0, -4.0], bias: 2.0, stabiliser: 0.0 });
        let excluded = epsilon(&map, &x, &r, 0.0, BiasPolicy::Exclude);
        assert_eq!(excluded, Shared { input: array![15.0, -5.0], bias: 0.0, stabiliser: 0.0 });
        let redistributed = epsilon(&map, &x, &r, 1.0, BiasPolicy::Redistribute);
        assert_close(&redistributed.input, &array![7.0 / 6.0 * 10.0, -1.0 / 6.0 * 10.0]);
    }

    #[test]
    fn positive_and_negative_parts_by_hand() {
        let (map, x, r) = hand();
        assert_close(&z_plus(&map, &x, &r, 0.0).input, &array![60.0 / 7.0, 0.0]);
        let shared = alpha_beta(&map, &x, &r, (2.0, 1.0), 0.0);
        assert_close(&shared.input, &array![120.0 / 7.0, -10.0]);
        assert_close(&[shared.bias], &[20.0 / 7.0]);
    }

    #[test]
    fn gamma_by_hand() {
        let (map, x, r) = hand();
        let shared = gamma(&map, &x, &r, 1.0, 0.0);
        assert_close(&shared.input, &array![12.0 / 12.0 * 10.0, -2.0 / 12.0 * 10.0]);
        assert_close(&[shared.bias], &[2.0 / 12.0 * 10.0]);
        let negated = Dense { weight: -&map.weight, bias: -&map.bias, ..map };
        assert_eq!(gamma(&negated, &x, &r, 1.0, 0.0), shared);
    }

    #[test]
    fn taylor_by_hand() {
        let (map, x, r) = hand();
        let shared = taylor(&map, &x, &r, &array![1.0, 1.0], 0.0);
        assert_close(&shared.input, &array![4.0 / 3.0 * 10.0, -1.0 / 3.0 * 10.0]);
        assert_eq!(taylor(&map, &x, &r, &array![0.0, 0.0], 0.5), epsilon(&map, &x, &r, 0.5, BiasPolicy::Exclude));
    }

    #[test]
    fn gamma_passes_nothing_through_a_zero_output() {
        let map = dense_of_dot(&array![[1.0], [-1.0]]);
        let shared = gamma(&map, &array![2.0, 2.0], &array![7.0], 0.25, 1e-6);
        assert_eq!(shared, Shared { input: array![0.0, 0.0], bias: 0.0, stabiliser: 7.0 });
    }

    #[test]
    fn rules_of_the_first_layer_by_hand() {
        let (map, x, r) = hand();
        assert_close(&w_square(&map, &r, 0.0).input, &array![40.0 / 6.0, 10.0 / 6.0]);
        assert_close(&flat(&map, &r, 0.0).input, &array![5.0, 5.0]);
        let boxed = z_box(&map, &x, &r, (&array![-4.0, -4.0], &array![4.0, 4.0]), 0.0);
        assert_close(&boxed.input, &array![14.0 / 16.0 * 10.0, 2.0 / 16.0 * 10.0]);
    }

    #[test]
    fn flat_counts_connections_and_not_weights() {
        let map = dense_of_conv(&array![[[0.0, 3.0]]].into_dyn(), &[1, 2], &Geometry::plain(1));
        assert_close(&flat(&map, &array![8.0], 0.0).input, &array![4.0, 4.0]);
    }

    #[test]
    fn every_rule_conserves() {
        let geometry = Geometry { strides: vec![2, 1], pads: vec![1, 0, 1, 1], ..Geometry::plain(2) };
        let map = dense_of_conv(&values(&[3, 2, 3, 2], 1.0), &[2, 5, 4], &geometry).with_channel_bias(&vector(3, 2.0));
        let (x, r) = (vector(40, 3.0), vector(map.bias.len(), 4.0));
        let (low, high) = (Array1::from_elem(40, -2.0), Array1::from_elem(40, 2.0));
        let totals = [
            epsilon(&map, &x, &r, 1e-2, BiasPolicy::Include).total(),
            epsilon(&map, &x, &r, 1e-2, BiasPolicy::Exclude).total(),
            epsilon(&map, &x, &r, 1e-2, BiasPolicy::Redistribute).total(),
            z_plus(&map, &x, &r, 1e-2).total(),
            alpha_beta(&map, &x, &r, (2.0, 1.0), 1e-2).total(),
            gamma(&map, &x, &r, 0.25, 1e-2).total(),
            w_square(&map, &r, 1e-2).total(),
            flat(&map, &r, 1e-2).total(),
            z_box(&map, &x, &r, (&low, &high), 1e-2).total(),
        ];
        assert_close(&totals, &[r.sum(); 9]);
    }

    #[test]
    fn without_bias_and_epsilon_relevance_is_input_times_gradient() {
        let map = dense_of_dot(&values(&[5, 3], 1.0).into_dimensionality::<Ix2>().unwrap());
        let (x, g) = (vector(5, 2.0), vector(3, 3.0));
        let relevance = map.forward(&x) * &g;
        let shared = epsilon(&map, &x, &relevance, 0.0, BiasPolicy::Include);
        assert_close(&shared.input, &(&x * &gradient(&map, &g)));
    }

    #[test]
    fn half_matmul_by_hand() {
        let (to_a, to_b, lost) = half_matmul(&array![[1.0, 3.0]], &array![[2.0], [1.0]], &array![[10.0]], 0.0);
        assert_eq!((to_a, to_b, lost), (array![[2.0, 3.0]], array![[2.0], [3.0]], 0.0));
    }
}
