//! Whole networks: every line of the ledger closes, and LRP-0 is input×gradient where it must be.

use lrpc_ir::plan::Precision;
use lrpc_passes::relevance::composite::Composite;

use crate::check::{assert_close, assert_closes, assert_total_closes, largest};
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
                let what = format!("{name}, seed {seed}, {precision:?}\n{}", network.body);
                for line in &outcome.ledger {
                    assert_closes(line, tolerance, &what);
                }
                outcome.totals.iter().for_each(|total| assert_total_closes(total, tolerance, &what));
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
                        assert!(line.scale < 1e6, "{line:?}: {what}");
                    }
                    outcome.totals.iter().for_each(|total| assert_total_closes(total, tolerance, &what));
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
        let [total] = &outcome.totals[..] else { panic!("{:?}", outcome.totals) };
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-12 * total.scale;
        assert!(near(total.started, explained) && near(total.arrived, outcome.relevance("x").sum()), "{total:?}");
        assert_total_closes(total, 1e-12, &network.body);
    }
}

/// Several composites and targets, and tensors on the way to others: each pair has a total of its own, and what a tensor
/// passes on is not counted there.
#[test]
fn totals_of_several_are_told_apart() {
    for seed in 0..10 {
        let network = network(Kind::Any, seed);
        let mut explanation = Explanation::of(Composite::named("epsilon").unwrap(), &["flat", "x"]);
        explanation.composites.extend(["gradient", "attnlrp"].map(|name| Composite::named(name).unwrap()));
        explanation.targets = vec!["y[:,0]".into(), "y[:,2]-y[:,1]".into()];
        let graph = explain(&network.body, &explanation);
        let outcome = run(&graph, &network.tensors, Precision::F64);
        let names: Vec<&str> = outcome.totals.iter().map(|total| total.name.as_str()).collect();
        assert_eq!(names, ["epsilon.t0 total", "epsilon.t1 total", "attnlrp.t0 total", "attnlrp.t1 total"]);
        let y = &outcome.results["output/y"];
        let seeds: [f64; 2] =
            [y.rows().into_iter().map(|row| row[0]).sum(), y.rows().into_iter().map(|row| row[2] - row[1]).sum()];
        for (place, total) in outcome.totals.iter().enumerate() {
            let (composite, target) = (["epsilon", "attnlrp"][place / 2], place % 2);
            let arrived = outcome.results[&format!("{composite}/t{target}/relevance/x")].sum();
            assert!((total.arrived - arrived).abs() <= 1e-12 * total.scale, "{total:?}, not {arrived}");
            assert!((total.started - seeds[target]).abs() <= 1e-12 * total.scale, "{total:?}, not {seeds:?}");
            assert!(total.lines.len() > 3);
            assert_total_closes(total, 1e-12, &network.body);
        }
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
