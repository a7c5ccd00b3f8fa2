//! Whole models through the front door, against onnxruntime's outputs and an independent evaluation in f64.
//!
//! `tests/data/generate.py` makes the models and `tests/data/evaluator/` computes what is expected of them, operator by
//! operator, without any of the compiler's code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed expectation fails the test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lrpc::compile::{CompileOptions, compile_model};
use lrpc::data::{Tensor, TensorFile};
use lrpc::graph_file::ModelWeights;
use lrpc::session::{RunOptions, RunOutcome, Session};
use lrpc_ir::plan::Precision;
use lrpc_ir::{text, verify};
use lrpc_passes::bind::Strategy;

const MAX_BYTES: u64 = 1 << 26;

fn models(is_network: bool) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models");
    let mut found: Vec<PathBuf> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.join("relevance").is_dir() == is_network);
    found.sort();
    assert!(found.len() > 15, "{} holds {} models", root.display(), found.len());
    found
}

fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    TensorFile::read(path, MAX_BYTES).unwrap_or_else(|error| panic!("{error}")).tensors
}

/// Compiles, checks that the printed graph reads back, and runs.
fn explain(model: &Path, rules: &str, precision: Precision) -> RunOutcome {
    explain_kept(model, rules, precision, Strategy::Store)
}

fn explain_kept(model: &Path, rules: &str, precision: Precision, strategy: Strategy) -> RunOutcome {
    let path = model.join("model.onnx");
    let options = CompileOptions { rules: vec![rules.into()], all_outputs: true, verify: true, ..Default::default() };
    let compiled = compile_model(&path, &options).unwrap_or_else(|error| panic!("{}: {error}", model.display()));
    let printed = text::print(&compiled.graph);
    let graph = text::parse(&printed).unwrap_or_else(|error| panic!("{}: {error}", model.display()));
    assert!(graph == compiled.graph, "{}: the printed graph is another", model.display());
    verify::verify(&graph).unwrap();
    let weights = ModelWeights::locate(&graph, &compiled.file, &path).unwrap();
    let options = RunOptions { precision, audit: true, strategy, ..Default::default() };
    let mut session = Session::new(&graph, &weights, options);
    let inputs = tensors(&model.join("inputs.npz"));
    let outcome = session.run(&inputs, &[], &BTreeMap::new(), None);
    outcome.unwrap_or_else(|error| panic!("{} {rules}: {error}", model.display()))
}

/// How far f64 may be off: `exact`, but `rounded` where an activation was recognised whose constants are rounded to f32 in the
/// model (by up to 3e-8 of themselves) and exact here. Swish has none.
fn tolerance_f64(model: &Path, exact: f64, rounded: f64) -> f64 {
    let options = CompileOptions { rules: vec!["epsilon".into()], ..Default::default() };
    let compiled = compile_model(&model.join("model.onnx"), &options).unwrap();
    let mut recognised = compiled.report.patches.iter().filter(|patch| patch.pass == "recognise_activations");
    if recognised.any(|patch| patch.op != "swish") { rounded } else { exact }
}

/// The largest difference as a share of the largest expected number.
fn deviation(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.shape(), expected.shape());
    let (found, expected) = (found.to_f64(), expected.to_f64());
    let largest = expected.iter().fold(1e-30, |largest: f64, value| largest.max(value.abs()));
    found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / largest
}

fn check_outputs(model: &Path, outcome: &RunOutcome, file: &str, tolerance: f64) {
    let expected = tensors(&model.join(file));
    assert!(!expected.is_empty());
    for (name, wanted) in &expected {
        let found =
            outcome.results.get(&format!("output/{name}")).unwrap_or_else(|| panic!("{}: no {name}", model.display()));
        let error = deviation(found, wanted);
        assert!(error <= tolerance, "{} {file} {name}: {error:e}", model.display());
    }
}

fn check_ledger(model: &Path, rules: &str, outcome: &RunOutcome, tolerance: f64) {
    for line in &outcome.ledger {
        let absorbed: f64 = line.absorbed.iter().map(|(_, value)| value).sum();
        let loss = (line.input - line.output - absorbed).abs() / line.scale.max(1e-30);
        assert!(loss <= tolerance, "{} {rules} {}: {loss:e}", model.display(), line.site);
    }
}

#[test]
fn operators_equal_onnxruntime_and_the_f64_evaluation() {
    let mut count = 0;
    for model in models(false) {
        // Operators are run for their outputs alone; whether relevance passes them is a question of its own.
        let path = model.join("model.onnx");
        for (precision, file, tolerance) in
            [(Precision::F32, "outputs.npz", 1e-5), (Precision::F64, "outputs_f64.npz", 1e-10)]
        {
            let outcome = forward(&path, &tensors(&model.join("inputs.npz")), precision);
            check_outputs(&model, &outcome, file, tolerance);
        }
        count += 1;
    }
    assert!(count > 150, "only {count} operators");
}

/// Runs the imported graph without any relevance.
fn forward(path: &Path, inputs: &BTreeMap<String, Tensor>, precision: Precision) -> RunOutcome {
    let imported =
        lrpc::onnx::import(path, &Default::default()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let weights = ModelWeights::locate(&imported.graph, &imported.file, path).unwrap();
    let mut session = Session::new(&imported.graph, &weights, RunOptions { precision, ..Default::default() });
    let outcome = session.run(inputs, &[], &BTreeMap::new(), None);
    outcome.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Operators that are made of many primitives, by the beginnings of their names.
const COMPOSED: [&str; 14] = [
    "affine_grid",
    "center_crop",
    "col2im",
    "cross_entropy",
    "deformable_conv",
    "dft",
    "global_lp_pool",
    "grid_sample",
    "likelihood",
    "lrn",
    "max_pool_places",
    "max_unpool",
    "roi_align",
    "stft",
];

/// The inputs in double precision, each number moved by `by` times another one that depends on its place alone.
fn moved(inputs: &BTreeMap<String, Tensor>, by: f64) -> BTreeMap<String, Tensor> {
    let move_one = |(place, x): (usize, f64)| x + by * (((place * 7919 + 13) % 101) as f64 / 101.0 - 0.5);
    let move_all = |tensor: &Tensor| match tensor.dtype().is_float() {
        true => {
            let values: Vec<f64> = tensor.to_f64().into_iter().enumerate().map(move_one).collect();
            Tensor::from_slice(tensor.shape(), &values).unwrap()
        }
        false => tensor.clone(),
    };
    inputs.iter().map(|(name, tensor)| (name.clone(), move_all(tensor))).collect()
}

/// The sum of the elements that are explained by default: the largest of each row of the batch where `of` has its largest.
fn explained(outputs: &Tensor, of: &Tensor) -> f64 {
    let rows = of.shape().first().copied().unwrap_or(1);
    let row = of.len() / rows;
    let largest = |row: &[f64]| (0..row.len()).reduce(|a, b| if row[b] > row[a] { b } else { a }).unwrap();
    outputs.to_f64().chunks(row).zip(of.to_f64().chunks(row)).map(|(values, of)| values[largest(of)]).sum()
}

#[test]
fn gradients_of_composed_operators_are_finite_differences_and_their_ledgers_close() {
    let mut count = 0;
    for model in models(false) {
        let name = model.file_name().unwrap().to_str().unwrap().trim_start_matches("op_").to_string();
        if !COMPOSED.iter().any(|start| name.starts_with(start)) {
            continue;
        }
        let path = model.join("model.onnx");
        let inputs = tensors(&model.join("inputs.npz"));
        let outcome = explain(&model, "gradient", Precision::F64);
        let imported = lrpc::onnx::import(&path, &Default::default()).unwrap();
        let first = &imported.graph.results[0].name;
        let (step, base) = (1e-6, &outcome.results[first]);
        let at = |by: f64| explained(&forward(&path, &moved(&inputs, by), Precision::F64).results[first], base);
        let slope = (at(step) - at(-step)) / (2.0 * step);
        let by_gradient = |(name, tensor): (&String, &Tensor)| -> f64 {
            let Some(gradient) = outcome.results.get(&format!("relevance/{name}")) else { return 0.0 };
            let direction = moved(&BTreeMap::from([(name.clone(), tensor.clone())]), 1.0);
            let moves = direction[name].to_f64().into_iter().zip(tensor.to_f64()).map(|(there, here)| there - here);
            moves.zip(gradient.to_f64()).map(|(a, b)| a * b).sum()
        };
        let expected: f64 = inputs.iter().map(by_gradient).sum();
        let scale = expected.abs().max(slope.abs()).max(1e-3);
        assert!((slope - expected).abs() <= 1e-6 * scale, "{name}: {slope} by differences, {expected} by gradient");
        check_ledger(&model, "epsilon", &explain(&model, "epsilon", Precision::F64), 1e-9);
        count += 1;
    }
    assert!(count > 40, "only {count} operators");
}

#[test]
fn networks_equal_onnxruntime_and_the_f64_evaluation() {
    for model in models(true) {
        check_outputs(&model, &explain(&model, "epsilon", Precision::F32), "outputs.npz", 1e-5);
        let tolerance = tolerance_f64(&model, 1e-10, 1e-8);
        check_outputs(&model, &explain(&model, "epsilon", Precision::F64), "outputs_f64.npz", tolerance);
    }
}

/// Along several axes an index is merged to one, where an entry outside of its axis must not land on another slice.
#[test]
fn indices_outside_of_one_of_several_axes_are_refused() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models/op_gather_nd_elements");
    let path = model.join("model.onnx");
    let imported = lrpc::onnx::import(&path, &Default::default()).unwrap();
    let weights = ModelWeights::locate(&imported.graph, &imported.file, &path).unwrap();
    let mut session = Session::new(&imported.graph, &weights, RunOptions::default());
    let mut inputs = tensors(&model.join("inputs.npz"));
    assert_eq!(inputs["x0"].shape(), [4, 3, 2]);
    for (index, fits) in [([3, 2, -2], true), ([0, 3, 0], false), ([-5, 2, 1], false), ([0, 0, -3], false)] {
        let rows: Vec<i64> = [index, [0, 0, 0], [1, 1, 1]].concat();
        inputs.insert("x1".into(), Tensor::from_slice(&[3, 3], &rows).unwrap());
        let outcome = session.run(&inputs, &[], &BTreeMap::new(), None);
        assert_eq!(outcome.is_ok(), fits, "{index:?}");
    }
}

/// Compiled once, run at three bindings of batch and sequence each.
#[test]
fn symbolic_axes_take_any_length() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/dynamic");
    let mut runs = 0;
    for entry in std::fs::read_dir(root).unwrap() {
        let model = entry.unwrap().path();
        let path = model.join("model.onnx");
        let options = CompileOptions { rules: vec!["gradient".into()], verify: true, ..Default::default() };
        let compiled = compile_model(&path, &options).unwrap_or_else(|error| panic!("{}: {error}", model.display()));
        let graph = text::parse(&text::print(&compiled.graph)).unwrap();
        assert!(graph == compiled.graph, "{}: the printed graph is another", model.display());
        let weights = ModelWeights::locate(&graph, &compiled.file, &path).unwrap();
        let mut session = Session::new(&graph, &weights, RunOptions::default());
        for binding in 0..3 {
            let inputs = tensors(&model.join(format!("inputs_{binding}.npz")));
            let outcome = session.run(&inputs, &[], &BTreeMap::new(), None);
            let outcome = outcome.unwrap_or_else(|error| panic!("{} {binding}: {error}", model.display()));
            check_outputs(&model, &outcome, &format!("outputs_{binding}.npz"), 1e-5);
            for (name, relevance) in outcome.results.iter().filter(|(name, _)| !name.starts_with("output/")) {
                assert!(relevance.to_f64().iter().all(|x| x.is_finite()), "{} {name}", model.display());
            }
            runs += 1;
        }
    }
    assert_eq!(runs, 12);
}

/// The composite that a file of expected relevance is for.
fn rules_of(file: &str) -> String {
    match file {
        "epsilon-gamma-box" => "epsilon-gamma-box(low=-4, high=4)".into(),
        "epsilon-plus-without-bias" => "epsilon-plus(bias=exclude)".into(),
        other => other.into(),
    }
}

#[test]
fn relevance_equals_the_independent_evaluation_and_every_ledger_closes() {
    let mut count = 0;
    for model in models(true) {
        let exact = tolerance_f64(&model, 1e-9, 1e-7);
        for entry in std::fs::read_dir(model.join("relevance")).unwrap() {
            let file = entry.unwrap().path();
            let rules = rules_of(file.file_stem().unwrap().to_str().unwrap());
            let expected = tensors(&file);
            for (precision, tolerance, ledger) in [(Precision::F64, exact, 1e-12), (Precision::F32, 1e-4, 1e-5)] {
                let outcome = explain(&model, &rules, precision);
                for (name, wanted) in &expected {
                    let error = deviation(&outcome.results[name], wanted);
                    assert!(error <= tolerance, "{} {rules} {precision:?}: {error:e}", model.display());
                }
                check_ledger(&model, &rules, &outcome, ledger);
            }
            count += expected.len();
        }
    }
    assert!(count > 100, "only {count} arrays");
}

#[test]
fn lrp_0_without_biases_is_input_times_gradient() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models/vgg_nobias");
    let (zero, product) =
        (explain(&model, "lrp-0", Precision::F64), explain(&model, "input-x-gradient", Precision::F64));
    let mut compared = 0;
    for (name, found) in zero.results.iter().filter(|(name, _)| name.starts_with("relevance/")) {
        assert!(deviation(found, &product.results[name]) <= 1e-10);
        compared += 1;
    }
    assert_eq!(compared, 1);
}

#[test]
fn keeping_changes_no_bit() {
    let mut count = 0;
    for model in models(true) {
        for rules in ["epsilon", "epsilon-plus-flat", "gradient"] {
            let stored = explain(&model, rules, Precision::F32);
            let recomputed = explain_kept(&model, rules, Precision::F32, Strategy::Recompute);
            for (name, tensor) in &stored.results {
                let bits = |tensor: &Tensor| tensor.to_f64().iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(tensor), bits(&recomputed.results[name]), "{} {rules} {name}", model.display());
            }
            assert_eq!(stored.ledger, recomputed.ledger, "{} {rules}", model.display());
            count += 1;
        }
    }
    assert!(count > 40, "only {count} runs");
}
