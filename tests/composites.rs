//! Every composite on whole models: it compiles, gives finite relevance for every explained tensor, and its ledger closes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed expectation fails the test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lrpc::compile::{CompileOptions, compile_model};
use lrpc::data::{Tensor, TensorFile};
use lrpc::graph_file::ModelWeights;
use lrpc::session::{RunOptions, RunOutcome, Session};
use lrpc_ir::plan::Precision;
use lrpc_passes::relevance::composite::{COMPOSITES, Composite};

const MAX_BYTES: u64 = 1 << 26;

/// Composites with choices of their own, beside the ones that come with the program.
const CHOICES: [&str; 8] = [
    "epsilon(add=AbsRatio, norm=NormIdentity, softmax=Stop, half=all)",
    "epsilon(add=Symmetric, softmax=BiasRedistributed)",
    "epsilon(add=IdentitySkip, softmax=Identity)",
    "epsilon-plus(add=AbsRatio)",
    "epsilon(bias=operand)",
    "dynamiclrp(conv_gamma=100, linear_gamma=1)",
    "dynamiclrp(conv_gamma=0.25)",
    "beta-smooth(beta=2)",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A network with residual additions, one with average pooling and dense blocks, a plain one, one that attends.
fn networks() -> Vec<(PathBuf, PathBuf)> {
    let of = |name: &str| {
        let folder = root().join("tests/data/models").join(name);
        (folder.join("model.onnx"), folder.join("inputs.npz"))
    };
    ["vgg", "resnet", "densenet", "mobilenet", "unet"].map(of).into()
}

fn explain(model: &Path, inputs: &Path, rules: &str, target: Option<&str>) -> RunOutcome {
    let targets = target.map(str::to_string).into_iter().collect();
    let options = CompileOptions { rules: vec![rules.into()], targets, verify: true, ..Default::default() };
    let compiled =
        compile_model(model, &options).unwrap_or_else(|error| panic!("{} {rules}: {error}", model.display()));
    let weights = ModelWeights::locate(&compiled.graph, &compiled.file, model).unwrap();
    let options = RunOptions { precision: Precision::F64, audit: true, ..Default::default() };
    let inputs: BTreeMap<String, Tensor> = TensorFile::read(inputs, MAX_BYTES).unwrap().tensors;
    let outcome = Session::new(&compiled.graph, &weights, options).run(&inputs, &[], &BTreeMap::new(), None);
    outcome.unwrap_or_else(|error| panic!("{} {rules}: {error}", model.display()))
}

fn check(model: &Path, inputs: &Path, rules: &str) {
    // Of a classifier there is no reconstruction error.
    let target = if rules == "autoencoder" { first_output(model) } else { None };
    let outcome = explain(model, inputs, rules, target.as_deref());
    let mut seen = 0;
    for (name, tensor) in outcome.results.iter().filter(|(name, _)| name.starts_with("relevance/")) {
        let values = tensor.to_f64();
        assert!(values.iter().all(|value| value.is_finite()), "{} {rules} {name}", model.display());
        assert!(values.iter().any(|value| *value != 0.0), "{} {rules} {name}: all is zero", model.display());
        seen += 1;
    }
    assert!(seen > 0, "{} {rules}", model.display());
    assert_eq!(outcome.ledger.is_empty(), !Composite::named(rules).unwrap().ledger, "{} {rules}", model.display());
    for line in &outcome.ledger {
        let absorbed: f64 = line.absorbed.iter().map(|(_, value)| value).sum();
        let rest = (line.input - line.output - absorbed).abs();
        assert!(rest <= 1e-11 * line.scale, "{} {rules} {}: {line:?}", model.display(), line.site);
    }
}

fn first_output(model: &Path) -> Option<String> {
    let imported = lrpc::onnx::import(model, &Default::default()).unwrap();
    imported.graph.results.first().map(|result| result.name.trim_start_matches("output/").to_string())
}

#[test]
fn every_composite_explains_every_network() {
    for (model, inputs) in networks() {
        for rules in COMPOSITES.iter().map(|(name, _)| *name).chain(CHOICES) {
            check(&model, &inputs, rules);
        }
    }
}

/// Without a target `autoencoder` explains the reconstruction error: all of it arrives or is in the ledger.
#[test]
fn an_autoencoder_explains_its_error() {
    let folder = root().join("tests/data/models/autoencoder");
    let (model, inputs) = (folder.join("model.onnx"), folder.join("inputs.npz"));
    let x = TensorFile::read(&inputs, MAX_BYTES).unwrap().tensors["x"].to_f64();
    let named = explain(&model, &inputs, "autoencoder", Some("reconstruction(decoded, x)"));
    let outcome = explain(&model, &inputs, "autoencoder", None);
    assert_eq!(outcome.results["relevance/x"].to_f64(), named.results["relevance/x"].to_f64());
    let decoded = outcome.results["output/decoded"].to_f64();
    let error: f64 = x.iter().zip(&decoded).map(|(x, decoded)| (x - decoded).powi(2)).sum();
    let arrived: f64 = outcome.results["relevance/x"].to_f64().iter().sum();
    let absorbed: f64 = outcome.ledger.iter().flat_map(|line| &line.absorbed).map(|(_, sum)| sum).sum();
    assert!(error > 0.1 && (error - arrived - absorbed).abs() <= 1e-9 * error, "{error} {arrived} {absorbed}");
    // Its gradient is that of the sum of squares, with the input that is compared held.
    let gradient = explain(&model, &inputs, "gradient", Some("reconstruction(decoded, x)"));
    assert!(gradient.results["relevance/x"].to_f64().iter().any(|value| *value != 0.0));
    let carried = explain(&model, &inputs, "attnlrp", Some("reconstruction(decoded, x)"));
    let total: f64 = carried.results["relevance/x"].to_f64().iter().sum::<f64>()
        + carried.ledger.iter().flat_map(|line| &line.absorbed).map(|(_, sum)| sum).sum::<f64>();
    assert!((error - total).abs() <= 1e-9 * error, "{error} {total}");
}
