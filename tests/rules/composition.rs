//! Several composites and targets in one graph, sums and contrasts, indices that are given when running.

use lrpc_ir::plan::Precision;
use lrpc_passes::relevance::composite::Composite;
use ndarray::{ArrayD, array};

use crate::check::{assert_close, largest};
use crate::funnel::{Explanation, Outcome, Tensors, explain, run};
use crate::generated::{Kind, Network, network};

const COMPOSITES: [&str; 4] = ["epsilon", "gradient", "epsilon-plus-flat", "input-x-gradient"];
const TARGETS: [&str; 4] = ["y:argmax", "y[:,1]-y[:,2]", "y[0,1]-u[1,0]", "y[:,0]+u[:,2]"];

/// A network with a second output `u`.
fn two_headed(seed: u64) -> Network {
    let mut network = network(Kind::Any, seed);
    network.body = network.body.replace(
        "result \"output/y\"",
        "%u = tanh %y : f32[2, 3] from \"/tanh\"\nresult \"output/u\" = %u\nresult \"output/y\"",
    );
    network
}

fn outcome(network: &Network, composites: &[&str], targets: &[&str], extra: &Tensors) -> Outcome {
    let mut explanation = Explanation::of(Composite::named(composites[0]).unwrap(), &["x"]);
    explanation.composites = composites.iter().map(|name| Composite::named(name).unwrap()).collect();
    explanation.targets = targets.iter().map(ToString::to_string).collect();
    let mut tensors = network.tensors.clone();
    tensors.extend(extra.clone());
    run(&explain(&network.body, &explanation), &tensors, Precision::F32)
}

fn alone(network: &Network, composite: &str, target: &str) -> ArrayD<f64> {
    outcome(network, &[composite], &[target], &Tensors::new()).relevance("x").clone()
}

#[test]
fn together_is_bit_for_bit_as_alone() {
    for seed in 0..6 {
        let network = two_headed(seed);
        let together = outcome(&network, &COMPOSITES, &TARGETS, &Tensors::new());
        assert_eq!(together.results.len(), 2 + COMPOSITES.len() * TARGETS.len());
        for composite in COMPOSITES {
            for (number, target) in TARGETS.iter().enumerate() {
                let name = format!("{composite}/t{number}/relevance/x");
                assert_eq!(together.results[&name], alone(&network, composite, target), "{name}, seed {seed}");
            }
        }
    }
}

/// Also where a product of products stands on the way, whose users an earlier target adds to.
#[test]
fn chains_of_products_are_the_same_for_every_target() {
    let body = "input %x : f32[2, 3]\ninput %b : f32[2, 3]\ninput %c : f32[2, 3]\nforward\n\
                %p = mul %x, %b : f32[2, 3] from \"/p\"\n%h = scale %p {by=0.5} : f32[2, 3] from \"/half\"\n\
                %y = mul %h, %c : f32[2, 3] from \"/y\"\nresult \"output/y\" = %y\n";
    let tensors: Tensors = [("x", 0.5), ("b", 2.0), ("c", -3.0)]
        .map(|(name, value)| (name.to_string(), ArrayD::from_elem(vec![2, 3], value)))
        .into();
    let composites = ["epsilon", "attnlrp"];
    let mut explanation = Explanation::of(Composite::named("epsilon").unwrap(), &["x", "b", "c"]);
    explanation.composites = composites.map(|name| Composite::named(name).unwrap()).into();
    explanation.targets = vec!["y".into(), "y".into()];
    let together = run(&explain(body, &explanation), &tensors, Precision::F32);
    // y = -1.5 at the first place of each row, of which each of three factors takes a third.
    let expected = array![[-0.5, 0.0, 0.0], [-0.5, 0.0, 0.0]].into_dyn();
    for composite in composites {
        for result in ["t0/relevance/x", "t0/relevance/c", "t1/relevance/x", "t1/relevance/b", "t1/relevance/c"] {
            let found = &together.results[&format!("{composite}/{result}")];
            assert_close(found, &expected, 1e-6, &format!("{composite} {result}"));
        }
    }
}

#[test]
fn only_what_is_several_is_named() {
    let network = two_headed(1);
    let names = |composites: &[&str], targets: &[&str]| -> Vec<String> {
        let outcome = outcome(&network, composites, targets, &Tensors::new());
        outcome.results.into_keys().filter(|name| name.contains("relevance/")).collect()
    };
    assert_eq!(names(&["epsilon"], &["y"]), ["relevance/x"]);
    assert_eq!(names(&["epsilon", "gradient"], &["y"]), ["epsilon/relevance/x", "gradient/relevance/x"]);
    assert_eq!(names(&["epsilon"], &["y", "u"]), ["t0/relevance/x", "t1/relevance/x"]);
}

#[test]
fn sums_and_contrasts_are_those_of_gradients() {
    for seed in 0..6 {
        let network = two_headed(seed);
        let of = |target: &str| alone(&network, "gradient", target);
        let cases = [
            (of("y[:,1]-y[:,2]"), &of("y[:,1]") - &of("y[:,2]")),
            (of("y[0,1]-u[1,0]"), &of("y[0,1]") - &of("u[1,0]")),
            (of("y[:,0]+u[:,2]"), &of("y[:,0]") + &of("u[:,2]")),
        ];
        for (found, expected) in cases {
            assert_close(&found, &expected, 1e-5 * largest(&expected), &format!("seed {seed}"));
        }
    }
}

#[test]
fn a_target_of_one_row_leaves_the_others_without_relevance() {
    let found = alone(&two_headed(2), "epsilon", "y[0,1]");
    assert!(found.index_axis(ndarray::Axis(0), 0).iter().any(|value| *value != 0.0));
    assert!(found.index_axis(ndarray::Axis(0), 1).iter().all(|value| *value == 0.0));
}

#[test]
fn an_index_may_be_given_when_running() {
    for seed in 0..4 {
        let network = two_headed(seed);
        for composite in ["epsilon", "gradient"] {
            for index in 0..3 {
                let given = Tensors::from([("target".to_string(), array![index as f64, index as f64].into_dyn())]);
                let expected = alone(&network, composite, &format!("y[:,{index}]"));
                for compiled in ["y:argmax", "y[:,0]"] {
                    let found = outcome(&network, &[composite], &[compiled], &given);
                    assert_eq!(*found.relevance("x"), expected, "{compiled} with {index}, seed {seed}");
                }
            }
        }
    }
}

#[test]
fn each_term_of_a_contrast_has_an_index() {
    let network = two_headed(3);
    let given = Tensors::from([
        ("target.t1".to_string(), array![2.0, 0.0].into_dyn()),
        ("target.t1.1".to_string(), array![0.0, 1.0].into_dyn()),
    ]);
    let found = outcome(&network, &["gradient"], &["y", "y[:,1]-y[:,2]"], &given).results["t1/relevance/x"].clone();
    let rows = [("y[:,2]-y[:,0]", 0), ("y[:,0]-y[:,1]", 1)];
    for (target, row) in rows {
        let expected = alone(&network, "gradient", target);
        let axis = ndarray::Axis(0);
        assert_eq!(found.index_axis(axis, row), expected.index_axis(axis, row), "row {row}");
    }
}
