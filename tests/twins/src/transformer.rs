//! A small decoder as a *modified function*, whose gradient is what AttnLRP and its relatives call a coefficient.
//!
//! In the efficient form of AttnLRP and CP-LRP (Achtibat et al. 2024) relevance is `R = x ⊙ ∂F̃/∂x` at `x = x₀`, where `F̃`
//! is the network with parts of it held at what they are at `x₀`. A `Pair` carries a value at `x` beside that at `x₀`, so
//! that `F̃` can be written down as a network is, and the derivative is taken by finite differences.

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayD, Axis, s};

use crate::elementwise::{gelu, silu};

/// The added constant of the norms' variances.
pub const EPSILON: f64 = 1e-5;

/// What is held at the reference beside the deviations of norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Attention weights; otherwise both attention products are halved.
    pub weights: bool,
    /// The activated branch of a gated product; otherwise the product is halved.
    pub gates: bool,
}

/// The network's form. Its heads are two; its attention is masked by what the weight `mask` adds to scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// Root-mean-square norms instead of layer norms.
    pub rms: bool,
    /// Both heads of queries share one of keys and values.
    pub grouped: bool,
    /// `(silu(x·gate) ⊙ x·up)·down` instead of `gelu(x·up)·down`.
    pub gated: bool,
    /// Number of blocks.
    pub blocks: usize,
}

/// Weights by name, that of block `b` ending in `b`: `gain`, `offset`, `wq`, `bq`, `wk`, `bk`, `wv`, `bv`, `wo`, `bo`,
/// `gain_mlp`, `offset_mlp`, `wgate`, `wup`, `wdown`; `mask`, `head` and `head_bias`.
pub type Weights = BTreeMap<String, ArrayD<f64>>;

/// A value at `x` and at the reference.
#[derive(Debug, Clone)]
struct Pair {
    now: Array2<f64>,
    then: Array2<f64>,
}

impl Pair {
    fn map(&self, f: impl Fn(&Array2<f64>) -> Array2<f64>) -> Pair {
        Pair { now: f(&self.now), then: f(&self.then) }
    }

    fn plus(&self, other: &Pair) -> Pair {
        Pair { now: &self.now + &other.now, then: &self.then + &other.then }
    }

    /// A product of activations, half of its change from either.
    fn halved(&self, other: &Pair, product: impl Fn(&Array2<f64>, &Array2<f64>) -> Array2<f64>) -> Pair {
        let now = (product(&self.now, &other.then) + product(&self.then, &other.now)) / 2.0;
        Pair { now, then: product(&self.then, &other.then) }
    }

    /// `u · f(u₀)/u₀`.
    fn activated(&self, f: fn(f64) -> f64) -> Pair {
        let then = self.then.mapv(f);
        Pair { now: &self.now * &(&then / &self.then), then }
    }

    /// Weighed by constants.
    fn weighed(&self, shares: &Array2<f64>) -> Pair {
        self.map(|values| shares.dot(values))
    }
}

fn softmax(scores: &Array2<f64>) -> Array2<f64> {
    let mut shares = scores.clone();
    for mut row in shares.rows_mut() {
        let largest = row.fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        row.mapv_inplace(|score| (score - largest).exp());
        let sum = row.sum();
        row /= sum;
    }
    shares
}

/// One evaluation.
struct Network<'a> {
    form: Form,
    held: Held,
    weights: &'a Weights,
}

impl Network<'_> {
    /// A vector is a row.
    fn weight(&self, name: &str) -> Array2<f64> {
        let array = &self.weights[name];
        let columns = array.shape().last().copied().unwrap_or(1);
        let values: Vec<f64> = array.iter().copied().collect();
        Array2::from_shape_fn((values.len() / columns, columns), |(row, column)| values[row * columns + column])
    }

    fn linear(&self, x: &Pair, weight: &str, bias: &str) -> Pair {
        let (weight, bias) = (self.weight(weight), self.weight(bias));
        x.map(|x| x.dot(&weight) + &bias)
    }

    fn norm(&self, x: &Pair, suffix: &str) -> Pair {
        let centre = |x: &Array2<f64>| {
            let mean = x.sum_axis(Axis(1)).insert_axis(Axis(1)) / x.ncols() as f64;
            if self.form.rms { x.clone() } else { x - &mean }
        };
        let then = centre(&x.then);
        let squares = then.mapv(|value| value * value).sum_axis(Axis(1)).insert_axis(Axis(1));
        let deviation = (squares / then.ncols() as f64 + EPSILON).mapv(f64::sqrt);
        let gain = self.weight(&format!("gain{suffix}"));
        let scaled = x.map(|x| &centre(x) / &deviation * &gain);
        if self.form.rms {
            return scaled;
        }
        let offset = self.weight(&format!("offset{suffix}"));
        scaled.map(|scaled| scaled + &offset)
    }

    fn attention(&self, x: &Pair, b: usize) -> Pair {
        let [q, k, v] = ["q", "k", "v"].map(|name| self.linear(x, &format!("w{name}{b}"), &format!("b{name}{b}")));
        let (width, mask) = (q.now.ncols() / 2, self.weight("mask"));
        let heads = [0, 1].map(|head| {
            let cut = |pair: &Pair, head: usize| {
                pair.map(|all| all.slice(s![.., head * width..(head + 1) * width]).to_owned())
            };
            let shared = if self.form.grouped { 0 } else { head };
            let (q, k, v) = (cut(&q, head), cut(&k, shared), cut(&v, shared));
            let scores = q.halved(&k, |q, k| q.dot(&k.t()) / (width as f64).sqrt());
            let shares = scores.map(|scores| softmax(&(scores + &mask)));
            if self.held.weights {
                return v.weighed(&shares.then);
            }
            shares.halved(&v, |shares, v| shares.dot(v))
        });
        let join = |a: &Array2<f64>, b: &Array2<f64>| {
            let mut joined = Array2::zeros((a.nrows(), 2 * width));
            joined.slice_mut(s![.., ..width]).assign(a);
            joined.slice_mut(s![.., width..]).assign(b);
            joined
        };
        let joined = Pair { now: join(&heads[0].now, &heads[1].now), then: join(&heads[0].then, &heads[1].then) };
        self.linear(&joined, &format!("wo{b}"), &format!("bo{b}"))
    }

    fn mlp(&self, x: &Pair, b: usize) -> Pair {
        let times = |x: &Pair, name: &str| {
            let weight = self.weight(&format!("w{name}{b}"));
            x.map(|x| x.dot(&weight))
        };
        let up = times(x, "up");
        if !self.form.gated {
            return times(&up.activated(gelu), "down");
        }
        let open = times(x, "gate").activated(silu);
        let product = if self.held.gates {
            Pair { now: &open.then * &up.now, then: &open.then * &up.then }
        } else {
            open.halved(&up, |open, up| open * up)
        };
        times(&product, "down")
    }

    fn scores(&self, x: Pair) -> Array2<f64> {
        let mut x = x;
        for b in 0..self.form.blocks {
            x = x.plus(&self.attention(&self.norm(&x, &b.to_string()), b));
            x = x.plus(&self.mlp(&self.norm(&x, &format!("_mlp{b}")), b));
        }
        let last = x.map(|x| x.slice(s![-1.., ..]).to_owned());
        self.linear(&last, "head", "head_bias").now
    }
}

/// The modified function at the embeddings `x` `[S, D]` with reference `x0`: the scores `[1, classes]` of the last row.
/// At `x = x0` it is the network itself.
pub fn frozen(x: &Array2<f64>, x0: &Array2<f64>, form: Form, held: Held, weights: &Weights) -> Array2<f64> {
    Network { form, held, weights }.scores(Pair { now: x.clone(), then: x0.clone() })
}

/// The gradient `[S, D]` of the score of `class` at `x0`, by differences of fourth order.
pub fn coefficient(x0: &Array2<f64>, class: usize, form: Form, held: Held, weights: &Weights) -> Array2<f64> {
    const STEP: f64 = 1e-3;
    let mut result = Array2::zeros(x0.raw_dim());
    for (at, value) in x0.indexed_iter() {
        let moved = |by: f64| {
            let mut x = x0.clone();
            x[at] = value + by * STEP;
            frozen(&x, x0, form, held, weights)[[0, class]]
        };
        result[at] = (8.0 * (moved(1.0) - moved(-1.0)) - (moved(2.0) - moved(-2.0))) / (12.0 * STEP);
    }
    result
}
