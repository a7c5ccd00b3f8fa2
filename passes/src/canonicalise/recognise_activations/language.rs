//! The language in which a window is stated: functions of one unknown number, as terms that egg can compare.
//!
//! Division is a factor [`Term::Reciprocal`], subtraction a factor −1, a whole power a product: the fewer spellings there
//! are, the fewer rewrites are needed. `(clamp low high u)` is `min(max(u, low), high)`; `(select u t a b)` is `a` where
//! `u` exceeds `t` and `b` where it is less, and either of them where it is equal: rewrites must hold for both.

use std::fmt;
use std::str::FromStr;

use egg::{Analysis, DidMerge, EGraph, Id, define_language, merge_option};

/// A constant, compared by its bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number(pub f64);

impl Number {
    fn key(self) -> i64 {
        // The order of the bits is the order of the numbers, once those of negative ones are turned.
        let bits = (self.0 + 0.0).to_bits() as i64;
        if bits < 0 { bits ^ i64::MAX } else { bits }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Number) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Number) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl std::hash::Hash for Number {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for Number {
    type Err = std::num::ParseFloatError;

    fn from_str(text: &str) -> Result<Number, Self::Err> {
        text.parse().map(Number)
    }
}

define_language! {
    /// A function of the unknown `x`.
    pub(super) enum Term {
        Constant(Number),
        "x" = Unknown,
        "+" = Add([Id; 2]),
        "*" = Mul([Id; 2]),
        "reciprocal" = Reciprocal(Id),
        "exp" = Exp(Id),
        "log" = Log(Id),
        "erf" = Erf(Id),
        "tanh" = Tanh(Id),
        "sigmoid" = Sigmoid(Id),
        "softplus" = Softplus(Id),
        "abs" = Abs(Id),
        "clamp" = Clamp([Id; 3]),
        "select" = Select([Id; 4]),
        // `u` where positive, else `a·(exp(b·u) − 1)`, written `(elu a b u)`.
        "elu" = Elu([Id; 3]),
    }
}

/// Constant folding. Constants that differ by rounding alone are one, or products of them would never come to an end.
#[derive(Debug, Clone)]
pub(super) struct Constants {
    known: Vec<f64>,
}

/// How far computed constants may lie apart and be the same: far above the rounding of a few operations in f64, far
/// below that of f32.
const ROUNDING: f64 = 1e-10;

/// Numbers that activations are made of. A constant that is one of them up to the rounding of its element type is that
/// number.
const NAMED: [f64; 14] = [
    0.5,
    1.0,
    2.0,
    3.0,
    6.0,
    1.0 / 6.0,
    std::f64::consts::SQRT_2,
    std::f64::consts::FRAC_1_SQRT_2,
    SQRT_2_OVER_PI,
    2.0 * SQRT_2_OVER_PI,
    GELU_CUBIC,
    GELU_CUBIC * SQRT_2_OVER_PI,
    2.0 * GELU_CUBIC * SQRT_2_OVER_PI,
    1.702,
];

/// `√(2/π)`, the inner factor of the tanh approximation of GELU.
pub(super) const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
/// The cubic coefficient of the tanh approximation of GELU.
pub(super) const GELU_CUBIC: f64 = 0.044_715;

/// `value`, or the named constant that it is a rounding of. `epsilon` is the relative spacing of its element type: a
/// constant that was rounded to that type is off by half of it, one that was computed in that type by about one.
pub(super) fn named(value: f64, epsilon: f64) -> f64 {
    let near = |named: &f64| (value.abs() - named).abs() <= 1.5 * epsilon * named.log2().floor().exp2();
    NAMED.into_iter().find(near).map_or(value, |named| named.copysign(value))
}

impl Default for Constants {
    fn default() -> Constants {
        Constants { known: NAMED.to_vec() }
    }
}

impl Constants {
    /// `value`, or the constant in use that it is up to rounding.
    pub(super) fn shared(&mut self, value: f64) -> f64 {
        let near =
            |known: &f64| value == *known || (known.is_finite() && (value - known).abs() <= ROUNDING * known.abs());
        match self.known.iter().find(|known| near(known)) {
            Some(known) => *known,
            None => {
                self.known.push(value);
                value
            }
        }
    }
}

impl Analysis<Term> for Constants {
    type Data = Option<Number>;

    fn make(graph: &mut EGraph<Term, Constants>, term: &Term, _: Id) -> Option<Number> {
        let constant = |id: &Id| graph[*id].data.map(|number| number.0);
        let value = match term {
            Term::Constant(number) => number.0,
            Term::Add([a, b]) => constant(a)? + constant(b)?,
            Term::Mul([a, b]) => constant(a)? * constant(b)?,
            Term::Reciprocal(a) => 1.0 / constant(a).filter(|value| *value != 0.0)?,
            _ => return None,
        };
        Some(Number(graph.analysis.shared(value)))
    }

    fn merge(&mut self, to: &mut Option<Number>, from: Option<Number>) -> DidMerge {
        merge_option(to, from, |_, _| DidMerge(false, false))
    }

    fn modify(graph: &mut EGraph<Term, Constants>, id: Id) {
        if let Some(number) = graph[id].data {
            let constant = graph.add(Term::Constant(number));
            graph.union(id, constant);
            // A constant is no product: 1 = 2 · ½ would give every term endless factors.
            graph[id].nodes.retain(|term| matches!(term, Term::Constant(_)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_known_within_the_rounding_of_their_type_only() {
        let (single, half) = (f64::from(f32::EPSILON), 2f64.powi(-10));
        assert_eq!(named(f64::from(std::f32::consts::SQRT_2), single), std::f64::consts::SQRT_2);
        assert_eq!(named(-f64::from(std::f32::consts::FRAC_1_SQRT_2), single), -std::f64::consts::FRAC_1_SQRT_2);
        assert_eq!(named(0.797_851_562_5, half), SQRT_2_OVER_PI);
        assert_eq!(named(0.797_851_562_5, single), 0.797_851_562_5);
        let off = std::f64::consts::SQRT_2 * (1.0 + 2.0 * single);
        assert_eq!(named(off, single), off);
    }

    #[test]
    fn numbers_are_ordered_as_numbers() {
        let mut numbers = [Number(2.0), Number(-1.0), Number(0.0), Number(-3.0), Number(1.0)];
        numbers.sort();
        assert_eq!(numbers.map(|number| number.0), [-3.0, -1.0, 0.0, 1.0, 2.0]);
        assert_eq!(Number(0.0), Number(-0.0));
    }
}
