//! Conditions: against relevance that starts at the masked tensor, and by what the masks of all channels must add up to.

use lrpc_ir::Bindings;
use lrpc_ir::plan::Precision;
use lrpc_passes::bind;
use lrpc_passes::relevance::composite::Composite;
use lrpc_passes::relevance::site::Carrier;
use ndarray::{ArrayD, Axis};

use crate::check::{assert_close, assert_closes, largest};
use crate::funnel::{Explanation, Outcome, Tensors, explain, run, run_sized};
use crate::numbers::{Random, Style};

/// A network with a skip around its masked tensor `%a`, and the part of it up to `%a`.
const FIRST: &str = "weight @w : f32[4, 2, 3, 3]\nweight @b : f32[4]\n\
                     input %x : f32[2, 2, 4, 4]\nforward\n\
                     %h = conv %x, @w, @b {pad=1} : f32[2, 4, 4, 4] from \"/first\"\n%a = relu %h : f32[2, 4, 4, 4] from \"/relu\"\n";

fn network() -> String {
    format!(
        "weight @v : f32[4, 4, 3, 3]\nweight @u : f32[64, 3]\n{FIRST}%c = conv %a, @v {{pad=1}} : f32[2, 4, 4, 4] from \"/second\"\n%d = tanh %c : f32[2, 4, 4, 4] from \"/tanh\"\n\
         %s = add %a, %d : f32[2, 4, 4, 4] from \"/add\"\n%f = reshape %s : f32[2, 64] from \"/flat\"\n\
         %y = dot %f, @u {{contract=1x0}} : f32[2, 3] from \"/fc\"\nresult \"output/y\" = %y\n"
    )
}

fn numbers(seed: u64) -> Tensors {
    let random = &mut Random::new(seed);
    let shapes: [(&str, &[usize]); 5] =
        [("w", &[4, 2, 3, 3]), ("b", &[4]), ("v", &[4, 4, 3, 3]), ("u", &[64, 3]), ("x", &[2, 2, 4, 4])];
    shapes.iter().map(|(name, shape)| (name.to_string(), random.tensor(shape, Style::Fine))).collect()
}

fn explained(composite: &str, conditions: &[&str], carrier: Option<Carrier>, tensors: &Tensors) -> Outcome {
    let mut explanation = Explanation::of(Composite::named(composite).unwrap(), &["x", "a"]);
    explanation.conditions = conditions.iter().map(ToString::to_string).collect();
    explanation.carrier = carrier;
    run(&explain(&network(), &explanation), tensors, Precision::F64)
}

/// Relevance of `x` where that of `a` is given.
fn from_given(composite: &str, relevance: &ArrayD<f64>, tensors: &Tensors) -> ArrayD<f64> {
    let mut explanation = Explanation::of(Composite::named(composite).unwrap(), &["x"]);
    explanation.targets = vec!["a:given".into()];
    explanation.unit_seed = true;
    let graph = explain(&format!("{FIRST}result \"output/a\" = %a\n"), &explanation);
    let mut tensors = tensors.clone();
    tensors.insert("target".into(), relevance.clone());
    run(&graph, &tensors, Precision::F64).relevance("x").clone()
}

/// Everything but the places along `axis` set to zero.
fn only(relevance: &ArrayD<f64>, axis: usize, places: &[usize]) -> ArrayD<f64> {
    let mut masked = relevance.clone();
    for (at, mut slice) in masked.axis_iter_mut(Axis(axis)).enumerate() {
        if !places.contains(&at) {
            slice.fill(0.0);
        }
    }
    masked
}

#[test]
fn what_passes_is_what_starts_at_the_tensor_masked() {
    let cases: [(&str, usize, &[usize]); 5] = [
        ("a:channel=2", 1, &[2]),
        ("a:channel=0,3", 1, &[0, 3]),
        ("a:channel=1-3", 1, &[1, 2, 3]),
        ("a:unit=-1", 3, &[3]),
        ("a:axis2=1,1", 2, &[1]),
    ];
    for composite in ["epsilon", "epsilon-plus-flat", "gamma"] {
        let tensors = numbers(11);
        let all = explained(composite, &[], None, &tensors);
        let texts: Vec<&str> = cases.iter().map(|(text, ..)| *text).chain(["none"]).collect();
        let outcome = explained(composite, &texts, None, &tensors);
        for (number, (text, axis, places)) in cases.iter().enumerate() {
            let passed = only(all.relevance("a"), *axis, places);
            let expected = from_given(composite, &passed, &tensors);
            let scale = largest(&expected);
            let (a, x) = (
                &outcome.results[&format!("c{number}/relevance/a")],
                &outcome.results[&format!("c{number}/relevance/x")],
            );
            assert_close(a, &passed, 1e-12 * scale.max(1.0), text);
            assert_close(x, &expected, 1e-10 * scale, &format!("{composite} {text}"));
            assert!(scale > 0.0);
        }
        assert_eq!(&outcome.results["c5/relevance/x"], all.relevance("x"), "{composite}: none is no condition");
    }
}

#[test]
fn all_channels_together_are_the_whole_relevance() {
    let texts = ["a:channel=0", "a:channel=1", "a:channel=2", "a:channel=3"];
    for (composite, carrier) in [
        ("epsilon", None),
        ("attnlrp", Some(Carrier::Relevance)),
        ("attnlrp", Some(Carrier::Coefficient)),
        ("relp", None),
        ("gradient", None),
    ] {
        let tensors = numbers(13);
        let all = explained(composite, &[], carrier, &tensors);
        let parts = explained(composite, &texts, carrier, &tensors);
        let sum = (0..4).map(|n| parts.results[&format!("c{n}/relevance/x")].clone()).reduce(|a, b| a + b).unwrap();
        assert_close(&sum, all.relevance("x"), 1e-10 * largest(&sum), composite);
        let lines = parts.ledger.iter().filter(|line| line.rule == "Condition");
        assert_eq!(lines.clone().count(), if composite == "gradient" { 0 } else { 4 });
        for line in &parts.ledger {
            assert_closes(line, 1e-10, composite);
        }
        for line in lines {
            assert!(line.site.ends_with(" a") && line.absorbed[0].1.abs() > 0.0, "{line:?}");
        }
    }
}

#[test]
fn masks_of_one_condition_all_apply() {
    let tensors = numbers(17);
    let [both, first] =
        [["a:channel=1 & x:axis3=2"], ["a:channel=1"]].map(|text| explained("epsilon", &text, None, &tensors));
    let expected = only(first.relevance("x"), 3, &[2]);
    assert_close(both.relevance("x"), &expected, 1e-12, "two tensors");
    let corner = explained("epsilon", &["a:axis2=0 & a:axis3=0"], None, &tensors);
    let expected = only(&only(explained("epsilon", &[], None, &tensors).relevance("a"), 2, &[0]), 3, &[0]);
    assert_close(corner.relevance("a"), &expected, 1e-12, "one tensor twice");
}

#[test]
fn one_graph_serves_every_channel_and_every_sample_its_own() {
    let mut tensors = numbers(19);
    let wanted = explained("epsilon", &["a:channel=3", "a:channel=1"], None, &tensors);
    tensors.insert("condition".into(), ndarray::array![3.0, 1.0].into_dyn());
    let given = explained("epsilon", &["a:channel=0"], None, &tensors);
    for (sample, number) in [(0, 0), (1, 1)] {
        let expected = wanted.results[&format!("c{number}/relevance/x")].index_axis(Axis(0), sample).to_owned();
        let found = given.relevance("x").index_axis(Axis(0), sample).to_owned();
        assert_close(&found, &expected, 1e-12 * largest(&expected), "one index for each sample");
    }
}

#[test]
fn places_on_a_symbolic_axis_are_checked_when_sizes_are_known() {
    let body = "weight @w : f32[3, 3]\ninput %x : f32[N, S, 3]\nforward\n\
                %h = dot %x, @w {contract=2x0} : f32[N, S, 3] from \"/fc\"\n%y = tanh %h : f32[N, S, 3] from \"/tanh\"\nresult \"output/y\" = %y\n";
    let random = &mut Random::new(23);
    let tensors = Tensors::from([
        ("w".to_string(), random.away_from_zero(&[3, 3])),
        ("x".to_string(), random.away_from_zero(&[1, 4, 3])),
        ("target".to_string(), ArrayD::from_elem(ndarray::IxDyn(&[1, 4, 3]), 1.0)),
    ]);
    let dims = Bindings::from([("N".to_string(), 1), ("S".to_string(), 4)]);
    let graph = |condition: &str| {
        let mut explanation = Explanation::of(Composite::named("epsilon").unwrap(), &["x"]);
        explanation.targets = vec!["y:given".into()];
        explanation.conditions = vec![condition.into()];
        explain(body, &explanation)
    };
    let all = run_sized(&graph("none"), &tensors, Precision::F64, &dims);
    for (condition, places) in [("h:token=-1", &[3][..]), ("h:token=0,2-3", &[0, 2, 3])] {
        let outcome = run_sized(&graph(condition), &tensors, Precision::F64, &dims);
        assert_close(outcome.relevance("x"), &only(all.relevance("x"), 1, places), 1e-12, condition);
    }
    let request = bind::Request { dims, ..bind::Request::default() };
    for condition in ["h:token=4", "h:token=-5", "h:token=2-4"] {
        let error = bind::bind(&graph(condition), &request).unwrap_err().to_string();
        assert!(error.contains(&format!("condition {condition}")), "{error}");
    }
}
