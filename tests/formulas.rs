//! Small models whose relevance is known by a formula: quantised ones, and mixtures of experts.
//!
//! `tests/data/quantised.py` and `tests/data/experts.py` make them, and compute relevance in f64 without any of the
//! compiler's code.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation fails the test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lrpc::compile::{CompileOptions, compile_model};
use lrpc::data::{Tensor, TensorFile};
use lrpc::graph_file::ModelWeights;
use lrpc::session::{RunOptions, RunOutcome, Session};
use lrpc_ir::text;

const MAX_BYTES: u64 = 1 << 26;

fn models(folder: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(folder);
    let mut found: Vec<PathBuf> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    assert!(found.len() > 2, "{} holds {} models", root.display(), found.len());
    found
}

fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    TensorFile::read(path, MAX_BYTES).unwrap_or_else(|error| panic!("{error}")).tensors
}

fn explain(model: &Path, rules: &str) -> RunOutcome {
    let path = model.join("model.onnx");
    let options = CompileOptions { rules: vec![rules.into()], all_outputs: true, verify: true, ..Default::default() };
    let compiled =
        compile_model(&path, &options).unwrap_or_else(|error| panic!("{} {rules}: {error}", model.display()));
    let graph = text::parse(&text::print(&compiled.graph)).unwrap();
    assert!(graph == compiled.graph, "{}: the printed graph is another", model.display());
    let weights = ModelWeights::locate(&graph, &compiled.file, &path).unwrap();
    let mut session = Session::new(&graph, &weights, RunOptions { audit: true, ..Default::default() });
    let outcome = session.run(&tensors(&model.join("inputs.npz")), &[], &BTreeMap::new(), None);
    outcome.unwrap_or_else(|error| panic!("{} {rules}: {error}", model.display()))
}

/// The largest difference as a share of the largest expected number.
fn deviation(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.shape(), expected.shape());
    let (found, expected) = (found.to_f64(), expected.to_f64());
    let largest = expected.iter().fold(1e-30, |largest: f64, value| largest.max(value.abs()));
    found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / largest
}

fn check(folder: &str, tolerance: f64) {
    for model in models(folder) {
        let outcome = explain(&model, "epsilon");
        let forward = deviation(&outcome.results["output/y"], &tensors(&model.join("outputs.npz"))["y"]);
        assert!(forward <= 2e-7, "{}: y is off by {forward:e}", model.display());
        let expected = &tensors(&model.join("relevance.npz"))["relevance/x"];
        let relevance = deviation(&outcome.results["relevance/x"], expected);
        assert!(relevance <= tolerance, "{}: relevance is off by {relevance:e}", model.display());
    }
}

/// One step of an integer is 1/255 of a range or more: whoever rounds another way is off by far more than this.
#[test]
fn quantised_models_equal_onnxruntime_and_the_formulas() {
    check("quantised", 1e-6);
}

/// The experts' additions have a stabiliser each, the formula has one.
#[test]
fn mixtures_of_experts_equal_onnxruntime_and_the_formulas() {
    check("experts", 5e-6);
}

#[test]
fn every_composite_serves_them_and_its_ledger_closes() {
    for model in ["quantised", "experts"].into_iter().flat_map(models) {
        for rules in ["attnlrp", "epsilon-plus-flat", "gamma", "dynamiclrp", "cp-lrp", "gradient", "input-x-gradient"] {
            let outcome = explain(&model, rules);
            let relevance = outcome.results["relevance/x"].to_f64();
            assert!(relevance.iter().all(|x| x.is_finite()), "{} {rules}", model.display());
            // Where the explained element is the largest that its integers hold, quantisation has no slope.
            let saturates = rules.contains("gradient") && model.ends_with("qlinear_conv");
            assert!(saturates != relevance.iter().any(|x| *x != 0.0), "{} {rules}", model.display());
            for line in &outcome.ledger {
                let absorbed: f64 = line.absorbed.iter().map(|(_, value)| value).sum();
                let loss = (line.input - line.output - absorbed).abs() / line.scale.max(1e-30);
                assert!(loss <= 1e-5, "{} {rules} {}: {loss:e}", model.display(), line.site);
            }
        }
    }
}

/// The slope of rounding is that of what is rounded: the gradient is the one of the numbers that integers stand for.
#[test]
fn gradients_pass_integers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/quantised");
    let gradient = explain(&root.join("pair_u8"), "gradient").results["relevance/x"].to_f64();
    // One row each of two has one largest element.
    assert_eq!(gradient.iter().filter(|slope| (**slope - 1.0).abs() < 1e-6).count(), 2);
    assert_eq!(gradient.iter().filter(|slope| **slope == 0.0).count(), gradient.len() - 2);
    // The scale that is computed from the input is held: y is linear in it.
    let of_dot = explain(&root.join("dynamic_dot"), "gradient").results["relevance/x"].to_f64();
    let in_one = explain(&root.join("dynamic_dot_in_one"), "gradient").results["relevance/x"].to_f64();
    assert!(of_dot.iter().zip(&in_one).all(|(a, b)| (a - b).abs() < 1e-6), "{of_dot:?} {in_one:?}");
}
