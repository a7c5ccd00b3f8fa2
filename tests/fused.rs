//! Operators that only ONNX Runtime defines, functions of a model's own, and roundings, against onnxruntime.
//!
//! `tests/data/fused/generate.py` makes the models and runs them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation fails the test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lrpc::compile::{CompileOptions, compile_model};
use lrpc::data::{Tensor, TensorFile};
use lrpc::graph_file::ModelWeights;
use lrpc::onnx::{ImportOptions, import};
use lrpc::session::{RunOptions, Session};
use lrpc_ir::verify;

/// The models, with what files hold of them.
fn cases() -> Vec<(PathBuf, BTreeMap<String, Tensor>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fused");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut models: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|found| found == "onnx")).collect();
    models.sort();
    assert!(models.len() > 12, "{} models", models.len());
    let read = |path: PathBuf| {
        let tensors = TensorFile::read(&path.with_extension("npz"), 1 << 20).unwrap().tensors;
        (path, tensors)
    };
    models.into_iter().map(read).collect()
}

fn named(tensors: &BTreeMap<String, Tensor>, prefix: &str) -> BTreeMap<String, Tensor> {
    let own =
        tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?.to_string(), tensor.clone())));
    own.collect()
}

#[test]
fn every_model_computes_what_onnxruntime_does() {
    for (path, tensors) in cases() {
        let imported = import(&path, &ImportOptions::default()).unwrap_or_else(|error| panic!("{error}"));
        verify::verify(&imported.graph).unwrap();
        let weights = ModelWeights::locate(&imported.graph, &imported.file, &path).unwrap();
        let mut session = Session::new(&imported.graph, &weights, RunOptions::default());
        let outcome = session.run(&named(&tensors, "input/"), &[], &BTreeMap::new(), None);
        let results = outcome.unwrap_or_else(|error| panic!("{}: {error}", path.display())).results;
        for (name, expected) in named(&tensors, "output/") {
            let found = &results[&format!("output/{name}")];
            let what = format!("{} {name}", path.display());
            assert_eq!((found.shape(), found.dtype()), (expected.shape(), expected.dtype()), "{what}");
            let exact = path.ends_with("roundings.onnx");
            for (found, expected) in found.to_f64().into_iter().zip(expected.to_f64()) {
                let far = if exact { 0.0 } else { 2e-6 * (1.0 + expected.abs()) };
                assert!(found == expected || (found - expected).abs() <= far, "{what}: {found} against {expected}");
            }
        }
    }
}

#[test]
fn every_model_is_explained() {
    for (path, tensors) in cases().into_iter().filter(|(path, _)| !path.ends_with("roundings.onnx")) {
        let options = CompileOptions { rules: vec!["epsilon".into()], ..CompileOptions::default() };
        let compiled = compile_model(&path, &options).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let weights = ModelWeights::locate(&compiled.graph, &compiled.file, &path).unwrap();
        let options = RunOptions { audit: true, ..RunOptions::default() };
        let mut session = Session::new(&compiled.graph, &weights, options);
        let outcome = session.run(&named(&tensors, "input/"), &[], &BTreeMap::new(), None);
        let outcome = outcome.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(!outcome.ledger.is_empty() && !outcome.arrived.is_empty(), "{}", path.display());
        for line in &outcome.ledger {
            let absorbed: f64 = line.absorbed.iter().map(|(_, sum)| sum).sum();
            let miss = (line.input - line.output - absorbed).abs();
            assert!(miss <= 1e-5 * line.scale.max(1e-20), "{} {}: {miss:e}", path.display(), line.site);
        }
    }
}
