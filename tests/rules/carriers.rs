//! Both carriers: where they agree, what passing from one to the other books, and masks that hold −∞.

use lrpc_ir::Absorbed;
use lrpc_ir::plan::Precision;
use lrpc_passes::relevance::composite::Composite;
use lrpc_passes::relevance::site::Carrier;
use ndarray::ArrayD;

use crate::check::{absorbed, assert_close, assert_closes, largest, line_of};
use crate::funnel::{Explanation, Outcome, Tensors, explain, run};
use crate::generated::{Kind, network};
use crate::numbers::{Random, Style};

fn carried(body: &str, tensors: &Tensors, composite: &str, tensor: &str, carrier: Carrier) -> Outcome {
    let mut explanation = Explanation::of(Composite::named(composite).unwrap(), &[tensor]);
    explanation.carrier = Some(carrier);
    run(&explain(body, &explanation), tensors, Precision::F64)
}

#[test]
fn carriers_agree_where_nothing_stabilises() {
    for seed in 0..60 {
        let kind = if seed % 2 == 0 { Kind::Any } else { Kind::Homogeneous };
        let network = network(kind, seed);
        let [relevance, coefficient] = [Carrier::Relevance, Carrier::Coefficient]
            .map(|carrier| carried(&network.body, &network.tensors, "lrp-0", "x", carrier));
        let expected = coefficient.relevance("x");
        assert!(largest(expected) > 0.0, "seed {seed}");
        assert_close(relevance.relevance("x"), expected, 1e-12 * largest(expected), &format!("seed {seed}"));
    }
}

#[test]
fn a_coefficient_needs_no_ledger_of_its_own() {
    for seed in 0..20 {
        let network = network(Kind::Any, seed);
        let outcome = carried(&network.body, &network.tensors, "lrp-0", "x", Carrier::Coefficient);
        for line in &outcome.ledger {
            assert_closes(line, 1e-11, &network.body);
        }
    }
}

/// `cos` is not 0 at 0, so that only R passes it; the map below it must divide, and where its output is 0 what arrives is
/// lost and booked.
#[test]
fn division_by_zero_is_booked() {
    let body = "input %x : f32[1, 2]\nweight @w : f32[2, 3]\nweight @head : f32[3, 2]\nforward\n\
         %h = dot %x, @w {contract=1x0} : f32[1, 3] from \"/map\"\n\
         %c = cos %h : f32[1, 3] from \"/cos\"\n\
         %y = dot %c, @head {contract=1x0} : f32[1, 2] from \"/head\"\nresult \"output/y\" = %y\n";
    let array = |shape: &[usize], values: &[f64]| ArrayD::from_shape_vec(shape, values.to_vec()).unwrap();
    let tensors = Tensors::from([
        ("x".to_string(), array(&[1, 2], &[0.5, -0.25])),
        // The second output is exactly 0.
        ("w".to_string(), array(&[2, 3], &[1.0, 0.5, -0.5, 0.5, 1.0, -0.0])),
        ("head".to_string(), array(&[3, 2], &[1.0, 0.0, 2.0, 0.0, 1.0, 0.0])),
    ]);
    for carrier in [Carrier::Relevance, Carrier::Coefficient] {
        let mut explanation = Explanation::of(Composite::named("lrp-0").unwrap(), &["x"]);
        explanation.carrier = Some(carrier);
        for precision in [Precision::F64, Precision::F32] {
            let outcome = run(&explain(body, &explanation), &tensors, precision);
            let line = line_of(&outcome.ledger, "/map");
            // cos(0)·2 arrives there.
            assert!((absorbed(line, Absorbed::Stabiliser) - 2.0).abs() < 1e-6, "{line:?}");
            assert_closes(line, if precision == Precision::F64 { 1e-12 } else { 1e-6 }, "division by zero");
        }
    }
}

const BY_SUM: &str = "%m = add %x, @mask";
const BY_CHOICE: &str = "%zero = const 0 : f32[2, 4]\n%low = const -inf : f32[2, 4]\n\
     %on = equal @mask, %zero : bool[2, 4]\n%m = where %on, %x, %low";

/// Scores, masked by −∞ in one way or another, through a softmax that weighs values.
fn masked(mask: &str) -> String {
    format!(
        "input %x : f32[2, 4]\nweight @mask : f32[2, 4]\nweight @v : f32[4, 3]\nforward\n\
         {mask} : f32[2, 4] from \"/mask\"\n%p = softmax %m {{axis=1}} : f32[2, 4] from \"/softmax\"\n\
         %y = dot %p, @v {{contract=1x0}} : f32[2, 3] from \"/values\"\nresult \"output/y\" = %y\n"
    )
}

#[test]
fn masks_of_minus_infinity_carry_nothing() {
    let random = &mut Random::new(3);
    let mut mask = ArrayD::zeros(vec![2, 4]);
    (mask[[0, 1]], mask[[0, 3]], mask[[1, 0]]) = (f64::NEG_INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY);
    let mut x = random.tensor(&[2, 4], Style::Fine);
    // A masked score may be 0 of either sign or anything else.
    (x[[0, 1]], x[[0, 3]]) = (0.0, -0.0);
    let tensors = Tensors::from([
        ("x".to_string(), x.clone()),
        ("mask".to_string(), mask.clone()),
        ("v".to_string(), random.away_from_zero(&[4, 3])),
    ]);
    for text in [BY_CHOICE, BY_SUM] {
        for composite in ["gradient", "input-x-gradient"] {
            // The masked scores themselves hold −∞; their relevance is 0 there.
            for precision in [Precision::F64, Precision::F32] {
                let explanation = Explanation::of(Composite::named(composite).unwrap(), &["x", "m"]);
                let outcome = run(&explain(&masked(text), &explanation), &tensors, precision);
                for name in ["x", "m"] {
                    let relevance = outcome.relevance(name);
                    assert!(relevance.iter().all(|value| value.is_finite()), "{text}: {relevance}");
                    let off = relevance.iter().zip(&mask).filter(|(_, mask)| **mask != 0.0);
                    off.for_each(|(value, _)| assert_eq!(*value, 0.0, "{text} {composite}"));
                    assert!(largest(relevance) > 0.0, "{text} {composite}");
                }
            }
        }
    }
}

#[test]
fn a_masked_gradient_is_that_of_the_open_scores() {
    let random = &mut Random::new(5);
    let (x, v) = (random.away_from_zero(&[2, 4]), random.away_from_zero(&[4, 3]));
    let mut mask = ArrayD::zeros(vec![2, 4]);
    mask[[0, 2]] = f64::NEG_INFINITY;
    mask[[1, 2]] = f64::NEG_INFINITY;
    let keep = [0, 1, 3];
    let open = "input %x : f32[2, 3]\nweight @v : f32[3, 3]\nforward\n%p = softmax %x {axis=1} : f32[2, 3]\n\
         %y = dot %p, @v {contract=1x0} : f32[2, 3]\nresult \"output/y\" = %y\n";
    let explanation = Explanation::of(Composite::named("gradient").unwrap(), &["x"]);
    let select = |array: &ArrayD<f64>, axis: usize| array.select(ndarray::Axis(axis), &keep);
    let small = Tensors::from([("x".to_string(), select(&x, 1)), ("v".to_string(), select(&v, 0))]);
    let expected = run(&explain(open, &explanation), &small, Precision::F64);
    let tensors = Tensors::from([("x".to_string(), x.clone()), ("mask".into(), mask), ("v".into(), v.clone())]);
    let found = run(&explain(&masked(BY_SUM), &explanation), &tensors, Precision::F64);
    assert_close(&select(found.relevance("x"), 1), expected.relevance("x"), 1e-14, "masked softmax");
}
