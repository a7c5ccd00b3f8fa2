//! The hand-sized examples of `docs/agreement.md`: what a peer makes of them, written out, and what the rules here do.

use lrpc_ir::Absorbed;
use lrpc_ir::plan::Precision;
use lrpc_passes::relevance::composite::Composite;
use ndarray::ArrayD;

use crate::funnel::{Explanation, Outcome, Tensors, explain, run};

fn tensors(given: &[(&str, &[usize], &[f64])]) -> Tensors {
    let array = |(name, shape, values): &(&str, &[usize], &[f64])| {
        (name.to_string(), ArrayD::from_shape_vec(shape.to_vec(), values.to_vec()).unwrap())
    };
    given.iter().map(array).collect()
}

fn under(composite: Composite, body: &str, tensors: &Tensors) -> Outcome {
    run(&explain(body, &Explanation::of(composite, &["x"])), tensors, Precision::F64)
}

fn named(composite: &str) -> Composite {
    Composite::named(composite).unwrap()
}

#[track_caller]
fn assert_near(found: impl IntoIterator<Item = f64>, expected: &[f64]) {
    let found: Vec<f64> = found.into_iter().collect();
    let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-6 * b.abs().max(1.0);
    assert!(found.len() == expected.len() && found.iter().zip(expected).all(near), "{found:?} is not {expected:?}");
}

const MAP: &str = "input %x : f32[1, 2]\nweight @w : f32[2, 1]\nforward\n\
    %y = dot %x, @w {contract=1x0} : f32[1, 1] from \"/map\"\nresult \"output/y\" = %y\n";

/// captum's α1β0 clamps weights and leaves the input's sign.
#[test]
fn positive_contributions_of_signed_inputs() {
    let (x, w) = ([2.0, -1.0], [1.0, 1.0]);
    let clamped: f64 = x.iter().zip(w).map(|(x, w): (&f64, f64)| x * w.max(0.0)).sum();
    let relevance: f64 = x.iter().zip(w).map(|(x, w)| x * w).sum();
    assert_near(x.iter().zip(w).map(|(x, w)| x * w.max(0.0) * relevance / clamped), &[2.0, -1.0]);
    let toml = "name = 'plus'\ndoc = ''\nextends = 'epsilon'\n[[rule]]\nclass = 'linear'\nuse = 'ZPlus'\n";
    let outcome = under(Composite::from_toml(toml).unwrap(), MAP, &tensors(&[("x", &[1, 2], &x), ("w", &[2, 1], &w)]));
    assert_near(outcome.relevance("x").iter().copied(), &[1.0, 0.0]);
}

/// DynamicLRP divides by 2z on every linear map under AttnLRP, and sends the other half to the weights.
#[test]
fn half_of_a_linear_map() {
    let (x, w) = ([2.0, 1.0], [1.0, 1.0]);
    let z = 3.0;
    assert_near(x.iter().zip(w).map(|(x, w)| x * w * z / (2.0 * z)), &[1.0, 0.5]);
    let given = tensors(&[("x", &[1, 2], &x), ("w", &[2, 1], &w)]);
    assert_near(under(named("attnlrp"), MAP, &given).relevance("x").iter().copied(), &[2.0, 1.0]);
}

/// DynamicLRP divides by the number of operands where it knows no rule, as for a choice among two.
#[test]
fn a_third_of_a_choice() {
    let body = "input %x : f32[1, 2]\ninput %c : f32[1, 2]\nforward\n\
        %zero = const 0 : f32[1, 2]\n%positive = greater %c, %zero : bool[1, 2]\n\
        %y = where %positive, %x, %c : f32[1, 2] from \"/choice\"\nresult \"output/y\" = %y\n";
    assert_near([3.0 / 3.0], &[1.0]);
    let given = tensors(&[("x", &[1, 2], &[3.0, 7.0]), ("c", &[1, 2], &[1.0, -1.0])]);
    assert_near(under(named("epsilon"), body, &given).relevance("x").iter().copied(), &[3.0, 0.0]);
}

/// zennit passes relevance through a batch norm that is not merged, also to values that its shift made large.
#[test]
fn a_shift_takes_its_share() {
    let body = "input %x : f32[1, 2]\nweight @w : f32[2, 1]\nweight @shift : f32[1, 1]\nforward\n\
        %h = dot %x, @w {contract=1x0} : f32[1, 1] from \"/map\"\n\
        %y = add %h, @shift : f32[1, 1] from \"/norm\"\nresult \"output/y\" = %y\n";
    let (x, h) = ([0.501, -0.5], 0.501 - 0.5);
    assert_near(x.iter().map(|x| x * 1.0 / h), &[501.0, -500.0]);
    let given = tensors(&[("x", &[1, 2], &x), ("w", &[2, 1], &[1.0, 1.0]), ("shift", &[1, 1], &[0.999])]);
    let outcome = under(named("lrp-0"), body, &given);
    assert_near(outcome.relevance("x").iter().copied(), &x);
    assert_near([outcome.totals[0].absorbed[&Absorbed::Bias]], &[0.999]);
}

/// zennit's canonizer leaves a batch norm with mean 0, variance 1 and its ε.
#[test]
fn what_a_merged_batch_norm_leaves() {
    let factor = |norms: i32| (1.0 + 1e-5f64).powf(-0.5).powi(norms);
    assert!((factor(1) - 0.999_995).abs() < 1e-9 && (factor(8) - 0.999_96).abs() < 1e-8);
}

/// LXT divides by x + 1e-10.
#[test]
fn the_secant_next_to_zero() {
    let body = "input %x : f32[1, 2]\nforward\n%y = gelu %x : f32[1, 2] from \"/gelu\"\nresult \"output/y\" = %y\n";
    let x = 1e-10;
    assert_near([0.5 * x / (x + 1e-10)], &[0.25]);
    let toml = "name = 'g'\ndoc = ''\nextends = 'attnlrp'\nresult = 'coefficient'\n";
    let outcome = under(Composite::from_toml(toml).unwrap(), body, &tensors(&[("x", &[1, 2], &[x, -1.0])]));
    assert_near([outcome.relevance("x")[[0, 0]]], &[0.5]);
}

/// What is added behind a linear map and takes no relevance is its bias, also where it is computed when the model runs.
#[test]
fn an_addend_is_a_bias() {
    let body = "input %x : f32[1, 2]\ninput %t : f32[1, 1]\nweight @w : f32[2, 1]\nforward\n\
        %h = dot %x, @w {contract=1x0} : f32[1, 1] from \"/map\"\n%u = tanh %t : f32[1, 1]\n\
        %y = add %h, %u : f32[1, 1] from \"/add\"\nresult \"output/y\" = %y\n";
    let t = 0.5f64;
    let (positive, bias) = (2.0, t.tanh());
    let y = positive - 1.0 + bias;
    let given = tensors(&[("x", &[1, 2], &[2.0, -1.0]), ("w", &[2, 1], &[1.0, 1.0]), ("t", &[1, 1], &[t])]);
    let toml =
        "name = 'plus'\ndoc = ''\nextends = 'lrp-0'\n[[rule]]\nclass = 'linear'\nuse = 'ZPlus'\nwith = { eps = 0.0 }\n";
    let outcome = under(Composite::from_toml(toml).unwrap(), body, &given);
    assert_near(outcome.relevance("x").iter().copied(), &[positive * y / (positive + bias), 0.0]);
    assert_near([outcome.totals[0].absorbed[&Absorbed::Bias]], &[bias * y / (positive + bias)]);
    // Where its rule is another one it is an addition of its own.
    let apart = Composite::from_toml(&format!("{toml}[[rule]]\nrole = 'bias'\nuse = 'AbsRatio'\n")).unwrap();
    let outcome = under(apart, body, &given);
    assert_near(outcome.relevance("x").iter().copied(), &[y / (1.0 + bias), 0.0]);
}
