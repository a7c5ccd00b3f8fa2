//! Patterns in whole models that are written as exporters write them: how many are found, and the same numbers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lrpc::data::{Tensor, TensorFile};
use lrpc::graph_file::ModelWeights;
use lrpc::onnx::{ImportOptions, import};
use lrpc::session::{RunOptions, Session};
use lrpc_ir::plan::Precision;

use crate::{canonicalise, counts, listed};

const BLOCK: &str = "2 layer_norm, 1 rms_norm, 1 softmax, 1 attention, 1 of queries and keys, 1 masked, 1 grouped";
const GROUPS: &str = "3 group_norm";
const SHARES: &str = "2 softmax, 1 log_softmax";

fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models").join(name)
}

pub fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    TensorFile::read(path, 1 << 24).unwrap().tensors
}

/// Whether two runs give the same.
fn same(found: &Tensor, expected: &Tensor, tolerance: f64) -> bool {
    let pairs = found.to_f64().into_iter().zip(expected.to_f64());
    found.shape() == expected.shape() && pairs.into_iter().all(|(a, b)| (a - b).abs() <= tolerance)
}

#[track_caller]
fn check(name: &str, expected: &str) {
    let folder = model(name);
    let path = folder.join("model.onnx");
    let imported = import(&path, &ImportOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    let mut graph = imported.graph;
    canonicalise(&mut graph);
    assert_eq!(counts(&graph), listed(expected), "{}", lrpc_ir::text::print(&graph));
    let weights = ModelWeights::locate(&graph, &imported.file, &path).unwrap();
    for (precision, file, tolerance) in
        [(Precision::F64, "outputs_f64.npz", 1e-9), (Precision::F32, "outputs.npz", 1e-5)]
    {
        let mut session = Session::new(&graph, &weights, RunOptions { precision, ..Default::default() });
        let outcome = session.run(&tensors(&folder.join("inputs.npz")), &[], &BTreeMap::new(), None).unwrap();
        for (output, wanted) in tensors(&folder.join(file)) {
            assert!(same(&outcome.results[&format!("output/{output}")], &wanted, tolerance), "{name} {precision:?}");
        }
    }
}

#[test]
fn a_block_in_the_functional_style() {
    check("pattern_block_functional", &format!("{BLOCK}, 1 safe softmax"));
}

#[test]
fn a_block_in_the_traced_style() {
    check("pattern_block_traced", BLOCK);
}

#[test]
fn group_norms_in_both_styles() {
    check("pattern_groups_functional", GROUPS);
    check("pattern_groups_traced", GROUPS);
}

#[test]
fn softmax_written_out_in_both_styles() {
    check("pattern_shares_functional", SHARES);
    check("pattern_shares_traced", SHARES);
}

#[test]
fn both_styles_are_one_model() {
    for name in ["block", "groups", "shares"] {
        let [functional, traced] = ["functional", "traced"].map(|style| {
            tensors(&model(&format!("pattern_{name}_{style}")).join("outputs_f64.npz")).remove("y").unwrap()
        });
        assert!(same(&functional, &traced, 1e-6), "{name}");
    }
}
