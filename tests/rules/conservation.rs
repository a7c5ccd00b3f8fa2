//! Whole networks: every line of the ledger closes, and LRP-0 is input×gradient where it must be.

use lrpc_ir::plan::Precision;
use lrpc_passes::relevance::composite::Composite;

use crate::check::{assert_close, assert_closes, largest};
use crate::funnel::{Explanation, explain, run};
use crate::generated::{Kind, network};
use crate::transformers::{decoder, forms};

const COMPOSITES: [&str; 7] = [
    "epsilon",
    "lrp-0",
    "epsilon-plus",
    "epsilon-plus-flat",
    "epsilon-alpha2-beta1",
    "epsilon-gamma-box(low=-1, high=1)",
    "gamma",
];

#[test]
fn every_line_of_the_ledger_closes() {
    for seed in 0..30 {
        let network = network(Kind::Any, seed);
        for name in COMPOSITES {
            let explanation = Explanation::of(Composite::named(name).unwrap(), &["x"]);
            let graph = explain(&network.body, &explanation);
            for (precision, tolerance) in [(Precision::F64, 1e-11), (Precision::F32, 1e-5)] {
                let outcome = run(&graph, &network.tensors, precision);
                assert!(outcome.ledger.len() > 3);
                for line in &outcome.ledger {
                    let what = format!("{name}, seed {seed}, {precision:?}\n{}", network.body);
                    assert_closes(line, tolerance, &what);
                }
            }
        }
    }
}

#[test]
fn every_line_of_the_ledger_closes_on_decoders() {
    for (seed, form) in (0..).zip(forms()) {
        for mask in [f64::NEG_INFINITY, f64::from(-3.4e38f32)] {
            let network = decoder(form, mask, seed);
            for name in ["epsilon", "attnlrp", "cp-lrp", "relp", "vit"] {
                let graph = explain(&network.body, &Explanation::of(Composite::named(name).unwrap(), &["x"]));
                for (precision, tolerance) in [(Precision::F64, 1e-11), (Precision::F32, 1e-5)] {
                    let what = format!("{name}, seed {seed}, mask {mask}, {precision:?}\n{}", network.body);
                    let outcome = run(&graph, &network.tensors, precision);
                    for (result, values) in &outcome.results {
                        assert!(values.iter().all(|value| value.is_finite()), "{result}: {what}");
                    }
                    assert!(outcome.ledger.len() > 3, "{what}");
                    for line in &outcome.ledger {
                        assert_closes(line, tolerance, &what);
                    }
                }
            }
        }
    }
}

/// What leaves the seed is what arrives at the input and at the sinks that the ledger names.
#[test]
fn totals_are_accounted_for() {
    for seed in 0..20 {
        let network = network(Kind::Any, seed);
        let graph = explain(&network.body, &Explanation::of(Composite::named("epsilon").unwrap(), &["x"]));
        let outcome = run(&graph, &network.tensors, Precision::F64);
        let explained: f64 = outcome.results["output/y"]
            .rows()
            .into_iter()
            .map(|row| row.iter().copied().fold(f64::MIN, f64::max))
            .sum();
        let absorbed: f64 = outcome.ledger.iter().flat_map(|line| &line.absorbed).map(|(_, sum)| sum).sum();
        let scale: f64 = outcome.ledger.iter().map(|line| line.scale).sum();
        let rest = explained - outcome.relevance("x").sum() - absorbed;
        assert!(rest.abs() <= 1e-11 * scale, "seed {seed}: {rest} of {scale}");
    }
}

#[test]
fn lrp_0_without_biases_is_input_times_gradient() {
    for seed in 0..30 {
        let network = network(Kind::Homogeneous, seed);
        let outcomes = ["lrp-0", "input-x-gradient"].map(|name| {
            let explanation = Explanation::of(Composite::named(name).unwrap(), &["x"]);
            run(&explain(&network.body, &explanation), &network.tensors, Precision::F64)
        });
        let expected = outcomes[1].relevance("x");
        assert!(largest(expected) > 0.0, "seed {seed}");
        assert_close(outcomes[0].relevance("x"), expected, 1e-10 * largest(expected), &format!("seed {seed}"));
    }
}
