//! Functions of one number, their derivatives and secants, over whole slices.
//!
//! Formulas are those of [`Function`]'s documentation, written so that no intermediate overflows and nothing cancels:
//! `1 + erf(x)` is `erfc(−x)`, `ln(1 + eˣ)` is `max(x, 0) + ln1p(e^−|x|)`, and products `x·g(x)` have `g(x)` as secant
//! instead of a quotient.

use lrpc_ir::ops::{Function, Unary};

use super::real::Real;
use crate::error::RunErrorKind;

/// `√(2/π)`, the inner factor of the tanh approximation of GELU.
const GELU_INNER: f64 = 0.797_884_560_802_865_4;
/// The cubic coefficient of the tanh approximation of GELU.
const GELU_CUBIC: f64 = 0.044_715;
/// `1/√(2π)`, the density of the normal distribution at 0.
const NORMAL_PEAK: f64 = 0.398_942_280_401_432_7;

#[inline(always)]
pub(super) fn map<T: Copy, U>(x: &[T], y: &mut [U], f: impl Fn(T) -> U) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = f(*x);
    }
}

#[inline(always)]
fn choose<T>(condition: bool, yes: T, no: T) -> T {
    if condition { yes } else { no }
}

/// `1/(1 + e⁻ˣ)`.
#[inline(always)]
fn sigmoid<T: Real>(x: T) -> T {
    let e = (-x.abs()).exp();
    choose(x < T::ZERO, e, T::ONE) / (T::ONE + e)
}

/// `ln(1 + eˣ)`.
#[inline(always)]
fn softplus<T: Real>(x: T) -> T {
    choose(x < T::ZERO, T::ZERO, x) + (-x.abs()).exp().ln_1p()
}

/// `tanh(softplus(x))`.
#[inline(always)]
fn mish_gate<T: Real>(x: T) -> T {
    let e = (-x.abs()).exp();
    let two = T::of(2.0);
    if x < T::ZERO {
        let n = e * (e + two);
        n / (n + two)
    } else {
        let n = T::ONE + two * e;
        n / (n + two * e * e)
    }
}

/// The normal distribution's cumulative function.
#[inline(always)]
fn normal_cumulative<T: Real>(x: T) -> T {
    T::of(0.5) * (x * T::of(-std::f64::consts::FRAC_1_SQRT_2)).erfc()
}

/// What `GeluTanh` multiplies `x` with: `(1 + tanh u)/2 = sigmoid(2u)`.
#[inline(always)]
fn gelu_tanh_gate<T: Real>(x: T) -> T {
    sigmoid(T::of(2.0 * GELU_INNER) * (x + T::of(GELU_CUBIC) * x * x * x))
}

#[inline(always)]
fn clamp<T: Real>(x: T, low: T, high: T) -> T {
    let raised = choose(x < low, low, x);
    choose(raised > high, high, raised)
}

#[inline(always)]
fn sign<T: Real>(x: T) -> T {
    choose(x > T::ZERO, T::ONE, choose(x < T::ZERO, -T::ONE, x * T::ZERO))
}

/// `sg(x)`: 1 where `x ≥ 0` (−0 included), else −1.
#[inline(always)]
fn side<T: Real>(x: T) -> T {
    choose(x < T::ZERO, -T::ONE, T::ONE)
}

fn parameters<T: Real>(unary: &Unary) -> (T, T) {
    (T::of(unary.parameters[0].0), T::of(unary.parameters[1].0))
}

fn unsupported(what: &str, function: Function) -> RunErrorKind {
    RunErrorKind::Unsupported { call: format!("{what}{}", function.name()) }
}

/// `y = f(x)`.
pub(super) fn value<T: Real>(unary: &Unary, x: &[T], y: &mut [T]) -> Result<(), RunErrorKind> {
    let (p, q) = parameters::<T>(unary);
    let (zero, one) = (T::ZERO, T::ONE);
    match unary.function {
        Function::Relu | Function::Positive => map(x, y, |x| choose(x < zero, zero, x)),
        Function::Negative => map(x, y, |x| choose(x > zero, zero, x)),
        Function::LeakyRelu => map(x, y, |x| choose(x < zero, p * x, x)),
        Function::Elu => map(x, y, |x| if x < zero { p * x.exp_m1() } else { x }),
        Function::Selu => map(x, y, |x| if x < zero { q * p * x.exp_m1() } else { q * x }),
        Function::Celu => map(x, y, |x| if x < zero { p * (x / p).exp_m1() } else { x }),
        Function::ThresholdedRelu => map(x, y, |x| choose(x <= p, zero, x)),
        Function::Sigmoid => map(x, y, sigmoid),
        Function::HardSigmoid => map(x, y, |x| clamp(p * x + q, zero, one)),
        Function::HardSwish => map(x, y, |x| x * clamp(x / T::of(6.0) + T::of(0.5), zero, one)),
        Function::Swish => map(x, y, |x| x * sigmoid(p * x)),
        Function::Mish => map(x, y, |x| x * mish_gate(x)),
        Function::Gelu => map(x, y, |x| x * normal_cumulative(x)),
        Function::GeluTanh => map(x, y, |x| x * gelu_tanh_gate(x)),
        Function::Tanh => map(x, y, T::tanh),
        Function::Softplus => map(x, y, softplus),
        Function::Softsign => map(x, y, |x| x / (one + x.abs())),
        Function::Erf => map(x, y, T::erf),
        Function::Exp => map(x, y, T::exp),
        Function::Log => map(x, y, T::ln),
        Function::Sqrt => map(x, y, T::sqrt),
        Function::Reciprocal => map(x, y, |x| one / x),
        Function::Pow => power(p, x, y),
        Function::Abs => map(x, y, T::abs),
        Function::Neg => map(x, y, |x| -x),
        Function::Sign => map(x, y, sign),
        Function::Floor => map(x, y, T::floor),
        Function::Ceil => map(x, y, T::ceil),
        Function::Round => map(x, y, T::round_ties_even),
        Function::Sin => map(x, y, T::sin),
        Function::Cos => map(x, y, T::cos),
        Function::Tan => map(x, y, T::tan),
        Function::Asin => map(x, y, T::asin),
        Function::Acos => map(x, y, T::acos),
        Function::Atan => map(x, y, T::atan),
        Function::Sinh => map(x, y, T::sinh),
        Function::Cosh => map(x, y, T::cosh),
        Function::Asinh => map(x, y, T::asinh),
        Function::Acosh => map(x, y, T::acosh),
        Function::Atanh => map(x, y, T::atanh),
        Function::Shrink => map(x, y, |x| choose(x < -p, x + q, choose(x > p, x - q, x * zero))),
        Function::Clip => map(x, y, |x| clamp(x, p, q)),
        Function::Scale => map(x, y, |x| p * x),
        Function::Shift => map(x, y, |x| x + p),
        Function::Stabilise => map(x, y, |x| x + p * side(x)),
        Function::Stabiliser => map(x, y, |x| p * side(x)),
        Function::StopGradient => y.copy_from_slice(x),
        Function::Not | Function::IsNan => return Err(unsupported("the number-valued ", unary.function)),
    }
    Ok(())
}

fn power<T: Real>(p: T, x: &[T], y: &mut [T]) {
    if p == T::of(2.0) {
        map(x, y, |x| x * x);
    } else if p == T::ONE {
        map(x, y, |x| x);
    } else if p == -T::ONE {
        map(x, y, |x| T::ONE / x);
    } else {
        map(x, y, |x| x.powf(p));
    }
}

/// `y = f'(x)`; at a kink the side that autograd frameworks take.
pub(super) fn derivative<T: Real>(unary: &Unary, x: &[T], y: &mut [T]) -> Result<(), RunErrorKind> {
    let (p, q) = parameters::<T>(unary);
    let (zero, one, half) = (T::ZERO, T::ONE, T::of(0.5));
    let step = |condition: bool| choose(condition, one, zero);
    match unary.function {
        Function::Relu | Function::Positive => map(x, y, |x| step(x > zero)),
        Function::Negative => map(x, y, |x| step(x < zero)),
        Function::LeakyRelu => map(x, y, |x| choose(x > zero, one, p)),
        Function::Elu => map(x, y, |x| if x > zero { one } else { p * x.exp() }),
        Function::Selu => map(x, y, |x| if x > zero { q } else { q * p * x.exp() }),
        Function::Celu => map(x, y, |x| if x > zero { one } else { (x / p).exp() }),
        Function::ThresholdedRelu => map(x, y, |x| step(x > p)),
        Function::Sigmoid => map(x, y, |x| sigmoid(x) * sigmoid(-x)),
        Function::HardSigmoid => map(x, y, |x| choose(p * x + q > zero && p * x + q < one, p, zero)),
        Function::HardSwish => map(x, y, |x| {
            let inner = choose(x < T::of(3.0), x / T::of(3.0) + half, one);
            choose(x > T::of(-3.0), inner, zero)
        }),
        Function::Swish => map(x, y, |x| {
            let s = sigmoid(p * x);
            s + p * x * s * sigmoid(-p * x)
        }),
        Function::Mish => map(x, y, |x| {
            let gate = mish_gate(x);
            gate + x * (one - gate * gate) * sigmoid(x)
        }),
        Function::Gelu => {
            map(x, y, |x| normal_cumulative(x) + x * T::of(NORMAL_PEAK) * (-half * x * x).exp());
        }
        Function::GeluTanh => map(x, y, |x| {
            let gate = gelu_tanh_gate(x);
            let slope = T::of(2.0 * GELU_INNER) * (one + T::of(3.0 * GELU_CUBIC) * x * x);
            gate + x * gate * (one - gate) * slope
        }),
        Function::Tanh => map(x, y, |x| {
            let e = (T::of(-2.0) * x.abs()).exp();
            T::of(4.0) * e / ((one + e) * (one + e))
        }),
        Function::Softplus => map(x, y, sigmoid),
        Function::Softsign => map(x, y, |x| {
            let d = one + x.abs();
            one / (d * d)
        }),
        Function::Erf => map(x, y, |x| T::of(std::f64::consts::FRAC_2_SQRT_PI) * (-x * x).exp()),
        Function::Exp => map(x, y, T::exp),
        Function::Log => map(x, y, |x| one / x),
        Function::Sqrt => map(x, y, |x| half / x.sqrt()),
        Function::Reciprocal => map(x, y, |x| -one / (x * x)),
        Function::Pow => map(x, y, |x| choose(p == zero, zero, p * x.powf(p - one))),
        Function::Abs => map(x, y, sign),
        Function::Neg => y.fill(-one),
        Function::Sin => map(x, y, T::cos),
        Function::Cos => map(x, y, |x| -x.sin()),
        Function::Tan => map(x, y, |x| one / (x.cos() * x.cos())),
        Function::Asin => map(x, y, |x| one / ((one - x) * (one + x)).sqrt()),
        Function::Acos => map(x, y, |x| -one / ((one - x) * (one + x)).sqrt()),
        Function::Atan => map(x, y, |x| one / (one + x * x)),
        Function::Sinh => map(x, y, T::cosh),
        Function::Cosh => map(x, y, T::sinh),
        Function::Asinh => map(x, y, |x| one / (one + x * x).sqrt()),
        Function::Acosh => map(x, y, |x| one / ((x - one) * (x + one)).sqrt()),
        Function::Atanh => map(x, y, |x| one / ((one - x) * (one + x))),
        Function::Shrink => map(x, y, |x| step(x.abs() > p)),
        Function::Clip => map(x, y, |x| step(x >= p && x <= q)),
        Function::Scale => y.fill(p),
        Function::Shift | Function::Stabilise => y.fill(one),
        Function::Sign | Function::Floor | Function::Ceil | Function::Round => y.fill(zero),
        Function::Stabiliser | Function::StopGradient => y.fill(zero),
        Function::Not | Function::IsNan => return Err(unsupported("derivative of ", unary.function)),
    }
    Ok(())
}

/// `y = f(x)/x`, and `f'(0)` where `x = 0`.
pub(super) fn secant<T: Real>(unary: &Unary, x: &[T], y: &mut [T]) -> Result<(), RunErrorKind> {
    let (p, q) = parameters::<T>(unary);
    let (zero, one) = (T::ZERO, T::ONE);
    match unary.function {
        Function::Relu | Function::Positive => map(x, y, |x| choose(x > zero, one, zero)),
        Function::Negative => map(x, y, |x| choose(x < zero, one, zero)),
        Function::LeakyRelu => map(x, y, |x| choose(x > zero, one, p)),
        Function::HardSwish => map(x, y, |x| clamp(x / T::of(6.0) + T::of(0.5), zero, one)),
        Function::Swish => map(x, y, |x| sigmoid(p * x)),
        Function::Mish => map(x, y, mish_gate),
        Function::Gelu => map(x, y, normal_cumulative),
        Function::GeluTanh => map(x, y, gelu_tanh_gate),
        Function::Softsign => map(x, y, |x| one / (one + x.abs())),
        Function::Abs => map(x, y, sign),
        // `sinh x = 2 sinh(x/2) cosh(x/2)`, whose factors do not overflow before the quotient does.
        Function::Sinh => map(x, y, |x| {
            let half = T::of(0.5) * x;
            choose(half == zero, one, half.sinh() / half) * half.cosh()
        }),
        Function::Neg => y.fill(-one),
        Function::Scale => y.fill(p),
        Function::Pow if p == one => y.fill(one),
        Function::Pow if p == T::of(2.0) => y.copy_from_slice(x),
        Function::Clip => map(x, y, |x| choose(x >= p && x <= q, one, clamp(x, p, q) / x)),
        _ => {
            value(unary, x, y)?;
            let mut at_zero = [zero];
            derivative(unary, &[zero], &mut at_zero)?;
            for (y, x) in y.iter_mut().zip(x) {
                *y = choose(*x == zero, at_zero[0], *y / *x);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINTS: [f64; 17] =
        [-90.3, -20.3, -6.4, -3.2, -2.9, -1.1, -0.3, -1e-5, -1e-20, 1e-20, 1e-5, 0.3, 1.1, 2.9, 3.2, 6.4, 20.3];

    /// Parameters with which the function is smooth at the test points.
    fn sample(function: Function) -> Unary {
        match function {
            Function::HardSigmoid => Unary::with2(function, 0.2, 0.5),
            Function::Clip => Unary::with2(function, -2.0, 6.0),
            Function::Pow => Unary::with(function, 3.0),
            Function::Stabilise | Function::Stabiliser => Unary::with(function, 1e-6),
            Function::Swish => Unary::with(function, 1.0),
            _ => Unary::with2(function, 0.7, 1.1),
        }
    }

    fn each_function() -> impl Iterator<Item = Unary> {
        // What is held constant has a value without its slope.
        let without = [Function::Not, Function::IsNan, Function::StopGradient];
        Function::all().filter(move |function| !without.contains(function)).map(sample)
    }

    type Kernel<T> = fn(&Unary, &[T], &mut [T]) -> Result<(), RunErrorKind>;

    fn one(f: Kernel<f64>, unary: &Unary, x: f64) -> f64 {
        let mut y = [f64::NAN];
        f(unary, &[x], &mut y).unwrap();
        y[0]
    }

    #[test]
    fn derivatives_are_central_differences() {
        for unary in each_function() {
            for x in POINTS.into_iter().filter(|x| x.abs() > 0.2) {
                let h = 1e-6 * x.abs();
                let difference = (one(value, &unary, x + h) - one(value, &unary, x - h)) / (2.0 * h);
                let slope = one(derivative, &unary, x);
                let bad = (difference - slope).abs() > 1e-5 * (1.0 + slope.abs());
                assert!(!bad || slope.is_nan(), "{unary:?} at {x}: {slope} against {difference}");
            }
        }
    }

    #[test]
    fn secants_times_x_are_values() {
        for unary in each_function() {
            for x in POINTS {
                let (product, expected) = (one(secant, &unary, x) * x, one(value, &unary, x));
                let bad = (product - expected).abs() > 1e-12 * expected.abs();
                assert!(!bad || expected.is_nan(), "{unary:?} at {x}: {product} against {expected}");
            }
        }
    }

    #[test]
    fn secants_have_their_limit_at_zero() {
        for unary in each_function() {
            let at_zero = one(secant, &unary, 0.0);
            let from_below = one(secant, &unary, -0.0);
            assert!(at_zero == from_below || at_zero.is_nan() && from_below.is_nan(), "{unary:?}");
            if unary.function.vanishes_at_zero(unary.parameters) && unary.function != Function::ThresholdedRelu {
                let near = [one(secant, &unary, 1e-20), one(secant, &unary, -1e-20)];
                let limit = near.iter().any(|near| (near - at_zero).abs() < 1e-9)
                    || unary.function == Function::Abs
                    || unary.function == Function::Sign;
                assert!(limit, "{unary:?}: {at_zero} against {near:?}");
            }
        }
    }

    #[test]
    fn single_precision_follows_double() {
        for unary in each_function() {
            for (what, wide, narrow) in [
                ("value", value::<f64> as Kernel<f64>, value::<f32> as Kernel<f32>),
                ("derivative", derivative::<f64>, derivative::<f32>),
                ("secant", secant::<f64>, secant::<f32>),
            ] {
                for x in POINTS.map(|x| x as f32) {
                    let (mut exact, mut found) = ([0f64], [0f32]);
                    wide(&unary, &[f64::from(x)], &mut exact).unwrap();
                    narrow(&unary, &[x], &mut found).unwrap();
                    // Where the function itself leaves single precision, its quotient by x may.
                    let overflow = one(value::<f64>, &unary, f64::from(x)).abs();
                    let scale = exact[0].abs().max(f64::from(f32::MIN_POSITIVE));
                    let error = (f64::from(found[0]) - exact[0]).abs() / scale;
                    // A difference of nearly equal numbers has no digits left.
                    if unary.function == Function::Shrink && exact[0].abs() < 1e-6 {
                        continue;
                    }
                    // A factor of 90 in the exponent costs as much in the result.
                    let bad = error > 3e-5 && exact[0].abs() > 1e-30 && exact[0].abs().max(overflow) < 1e38;
                    assert!(!bad, "{what} of {unary:?} at {x}: {} against {}", found[0], exact[0]);
                }
            }
        }
    }

    #[test]
    fn nan_passes_through() {
        for unary in each_function().filter(|unary| unary.function != Function::Stabiliser) {
            assert!(one(value, &unary, f64::NAN).is_nan(), "{unary:?}");
        }
    }
}
