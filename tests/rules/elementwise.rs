//! The identity rule: in both carriers, for every function and for products with constants.

use lrpc_passes::relevance::site::Carrier;
use lrpc_twins::elementwise as functions;
use ndarray::ArrayD;

use crate::check::{Count, Expected, Site, assert_close, largest};
use crate::funnel::Tensors;
use crate::numbers::{Random, Style};

/// A node's text behind `%y =`, with the function that it computes and whether the function is 0 at 0.
type Function = (&'static str, fn(f64) -> f64, bool);

const FUNCTIONS: &[Function] = &[
    ("relu %x", functions::relu, true),
    ("leaky_relu %x {alpha=0.25}", |x| functions::leaky_relu(x, 0.25), true),
    ("elu %x {alpha=0.5}", |x| functions::elu(x, 0.5), true),
    ("selu %x {alpha=1.5, gamma=1.25}", |x| functions::selu(x, 1.5, 1.25), true),
    ("celu %x {alpha=0.5}", |x| functions::celu(x, 0.5), true),
    ("thresholded_relu %x {alpha=0.25}", |x| if x > 0.25 { x } else { 0.0 }, true),
    ("sigmoid %x", functions::sigmoid, false),
    ("hard_sigmoid %x {alpha=0.2, beta=0.5}", |x| functions::hard_sigmoid(x, 0.2, 0.5), false),
    ("hard_swish %x", functions::hard_swish, true),
    ("swish %x", functions::silu, true),
    ("swish %x {beta=1.5}", |x| x * functions::sigmoid(1.5 * x), true),
    ("mish %x", functions::mish, true),
    ("gelu %x", functions::gelu, true),
    ("gelu_tanh %x", functions::gelu_tanh, true),
    ("tanh %x", f64::tanh, true),
    ("softplus %x", functions::softplus, false),
    ("softsign %x", functions::softsign, true),
    ("erf %x", functions::erf, true),
    ("exp %x", f64::exp, false),
    ("pow_by %x {exponent=2}", |x| x * x, true),
    ("pow_by %x {exponent=3}", |x| x * x * x, true),
    ("abs %x", f64::abs, true),
    ("neg %x", |x| -x, true),
    ("sin %x", f64::sin, true),
    ("cos %x", f64::cos, false),
    ("tan %x", f64::tan, true),
    ("atan %x", f64::atan, true),
    ("sinh %x", f64::sinh, true),
    ("cosh %x", f64::cosh, false),
    ("asinh %x", f64::asinh, true),
    ("shrink %x {limit=0.25, by=0.125}", |x| if x.abs() <= 0.25 { 0.0 } else { x - 0.125_f64.copysign(x) }, true),
    ("clip %x {low=-0.5, high=0.5}", |x| functions::clip(x, -0.5, 0.5), true),
    ("clip %x {low=0.25, high=0.5}", |x| functions::clip(x, 0.25, 0.5), false),
    ("scale %x {by=-1.5}", |x| -1.5 * x, true),
    ("shift %x {by=0.5}", |x| x + 0.5, false),
    ("mul %x, @c", |x| 0.75 * x, true),
    ("mul @c, %x", |x| 0.75 * x, true),
    ("div %x, @c", |x| x / 0.75, true),
    ("prelu %x, @c", |x| functions::leaky_relu(x, 0.75), true),
];

fn site(op: &str, x: &ArrayD<f64>) -> Site {
    let shape = x.shape();
    let mut tensors = Tensors::from([("x".to_string(), x.clone())]);
    let mut header = format!("input %x : f32{shape:?}\n");
    if op.contains("@c") {
        header += &format!("weight @c : f32{shape:?}");
        tensors.insert("c".into(), ArrayD::from_elem(shape, 0.75));
    }
    Site {
        rule: "Identity",
        with: String::new(),
        header,
        forward: format!("%y = {op} : f32{shape:?} from \"/site\""),
        shape: shape.to_vec(),
        explained: vec!["x"],
        tensors,
    }
}

#[test]
pub fn identity() {
    let mut count = Count::default();
    for (seed, (op, f, vanishes)) in FUNCTIONS.iter().enumerate() {
        let random = &mut Random::new(seed as u64);
        let x = random.tensor(&[2, 7], Style::Coarse);
        site(op, &x).check(random, &mut count, |r| Expected {
            relevance: vec![functions::identity(r)],
            bias: 0.0,
            stabiliser: 0.0,
        });
        if *vanishes {
            let (double, single) = site(op, &x).coefficients(random);
            let g = double.relevance("y");
            let mut expected = g.clone();
            expected.zip_mut_with(&x, |g, &x| *g *= functions::coefficient_factor(f, x));
            // At 0 the factor is a slope: at a kink that of either side, and by differences it has few digits.
            let mut found = double.relevance("x").clone();
            let mut found_single = single.relevance("x").clone();
            for (at, &x) in x.indexed_iter().filter(|(_, x)| **x == 0.0) {
                let slope = found[&at] / g[&at];
                let sides = [f(1e-6) / 1e-6, f(-1e-6) / -1e-6];
                assert!(g[&at] == 0.0 || sides.iter().any(|side| (side - slope).abs() < 1e-4), "{op} at {x}: {slope}");
                (found[&at], found_single[&at]) = (expected[&at], expected[&at]);
            }
            assert_close(&found, &expected, 1e-9 * largest(&expected), op);
            assert_close(&found_single, &expected, 1e-5 * largest(&expected), op);
        } else {
            // Only R can say what reaches x = 0.
            let x = random.away_from_zero(&[2, 7]);
            site(op, &x).check_carried(random, &mut count, Carrier::Coefficient, |r| Expected {
                relevance: vec![r.clone()],
                bias: 0.0,
                stabiliser: 0.0,
            });
        }
    }
    count.suffices(FUNCTIONS.len());
}

#[test]
fn the_functions_are_all_that_pass_relevance_near_zero() {
    let tested: std::collections::BTreeSet<&str> =
        FUNCTIONS.iter().filter_map(|(op, _, _)| op.split_whitespace().next()).collect();
    // Not defined everywhere near 0, steps, what is held, and the signs that only rules make.
    let others = ["log", "sqrt", "reciprocal", "asin", "acos", "acosh", "atanh", "stop_gradient"];
    let others = others.into_iter().chain(["positive", "negative", "stabilise", "stabiliser"]).collect::<Vec<_>>();
    for function in lrpc_ir::ops::Function::all().filter(|function| !function.is_step()) {
        assert!(tested.contains(function.name()) || others.contains(&function.name()), "{}", function.name());
    }
}

#[test]
fn functions_of_positive_numbers_pass_relevance() {
    let mut count = Count::default();
    for (seed, op) in
        ["log %x", "sqrt %x", "reciprocal %x", "pow_by %x {exponent=0.5}", "div @c, %x"].iter().enumerate()
    {
        let random = &mut Random::new(seed as u64);
        let x = random.away_from_zero(&[2, 5]).mapv(f64::abs);
        for carrier in [Carrier::Relevance, Carrier::Coefficient] {
            site(op, &x).check_carried(random, &mut count, carrier, |r| Expected {
                relevance: vec![r.clone()],
                bias: 0.0,
                stabiliser: 0.0,
            });
        }
    }
    count.suffices(10);
}
