//! Targets of whole language models: explained at one token, the head and the last block compute one row, forward and
//! back, and the relevance is that of the whole output.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed expectation fails the test")]

mod shared;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lrpc::compile::{CompileOptions, Compiled, compile_model};
use lrpc::data::TensorFile;
use lrpc::graph_file::ModelWeights;
use lrpc::inputs::SeedIndex;
use lrpc::onnx::{ImportOptions, import};
use lrpc::session::{RunOptions, RunOutcome, Session};
use lrpc_ir::graph::{Graph, Region};
use lrpc_ir::ops::{Linear, Op};
use lrpc_ir::plan::Precision;
use lrpc_ir::types::product;
use lrpc_ir::{Bindings, NodeId};

use shared::shared;

const MAX_BYTES: u64 = 1 << 26;
const TARGET: &str = "logits[:, -1, :]:argmax";

/// Models of two blocks; the contractions with weights of one block, and those of them that keys and values need.
const MODELS: [(&str, usize, usize); 3] = [("gpt2", 4, 1), ("llama_3_2_1b", 7, 2), ("qwen3_0_6b", 7, 2)];
const FILES: [&str; 4] =
    ["model.onnx", "model.torchscript.onnx", "model.dynamic.onnx", "model.torchscript.dynamic.onnx"];

/// The files of a model, without those that the import refuses.
fn files(shared: &Path, name: &str) -> Vec<PathBuf> {
    let files = FILES.map(|file| shared.join("zoo/tiny").join(name).join(file));
    let is_read = |path: &PathBuf| path.exists() && import(path, &ImportOptions::default()).is_ok();
    files.into_iter().filter(is_read).collect()
}

fn compiled(model: &Path, rules: &str, targets: &[&str], all_outputs: bool) -> Compiled {
    let targets = targets.iter().map(ToString::to_string).collect();
    let options =
        CompileOptions { rules: vec![rules.into()], targets, all_outputs, verify: true, ..Default::default() };
    compile_model(model, &options).unwrap_or_else(|error| panic!("{}: {error}", model.display()))
}

fn run(model: &Path, compiled: &Compiled, index: Option<i64>) -> RunOutcome {
    let weights = ModelWeights::locate(&compiled.graph, &compiled.file, model).unwrap();
    let options = RunOptions { precision: Precision::F64, ..Default::default() };
    let mut session = Session::new(&compiled.graph, &weights, options);
    let inputs = TensorFile::read(&model.parent().unwrap().join("inputs.npz"), MAX_BYTES).unwrap().tensors;
    let index: Vec<SeedIndex> = index.map(|index| SeedIndex { name: None, indices: vec![index] }).into_iter().collect();
    let outcome = session.run(&inputs, &index, &Bindings::new(), None);
    outcome.unwrap_or_else(|error| panic!("{}: {error}", model.display()))
}

/// The sizes of symbols where each sample and each token counts: a batch of 1, seven of everything else.
fn sizes(graph: &Graph) -> Bindings {
    let types = graph.input_types();
    let first = types.first().and_then(|ty| ty.shape.first()).and_then(|dim| dim.as_symbol());
    let mut names = BTreeSet::new();
    types.iter().flat_map(|ty| &ty.shape).for_each(|dim| dim.symbols(&mut names));
    names.into_iter().map(|name| (name.clone(), if Some(name.as_str()) == first { 1 } else { 7 })).collect()
}

/// How many contractions with a weight compute one row, and how many compute several.
fn contractions(graph: &Graph, region: Region) -> (usize, usize) {
    let dims = sizes(graph);
    let with_weight = |node: &NodeId| {
        let content = graph.node(*node);
        let operands = graph.operands(*node);
        content.region == region
            && matches!(content.op, Op::Linear(Linear::Dot(_)))
            && operands.iter().any(|&operand| graph.is_constant(operand))
    };
    let rows = |node: NodeId| {
        let (_, before) = graph.node(node).types()[0].shape.split_last().unwrap();
        product(before).unwrap().eval(&dims).unwrap()
    };
    let (one, several): (Vec<i64>, Vec<i64>) =
        graph.order().into_iter().filter(with_weight).map(rows).partition(|&rows| rows == 1);
    (one.len(), several.len())
}

#[test]
fn language_models_compute_one_row_of_head_and_last_block() {
    let Some(shared) = shared() else { return };
    let mut count = 0;
    for (name, contracting, for_keys) in MODELS {
        for model in files(&shared, name) {
            // The head, and of the last block all but keys and values.
            let expected = (1 + contracting - for_keys, contracting + for_keys);
            let graph = compiled(&model, "gradient", &[TARGET], false).graph;
            for region in [Region::Forward, Region::Relevance] {
                assert_eq!(contractions(&graph, region), expected, "{} {region:?}", model.display());
            }
            let beside = compiled(&model, "gradient", &[TARGET], true).graph;
            assert_eq!(contractions(&beside, Region::Relevance), expected, "{} --outputs all", model.display());
            let (one, several) = contractions(&beside, Region::Forward);
            assert_eq!((one, several), (expected.0, 2 * contracting + 1), "{} --outputs all", model.display());
            count += 1;
        }
    }
    assert!(count >= 10, "only {count} files");
}

#[test]
fn their_relevance_is_that_of_the_whole_output() {
    let Some(shared) = shared() else { return };
    for (name, _, _) in MODELS {
        for model in files(&shared, name) {
            for rules in ["epsilon", "gradient"] {
                let what = format!("{} {rules}", model.display());
                let all = run(&model, &compiled(&model, rules, &[TARGET], true), None);
                let logits = &all.results["output/logits"];
                let row = all.results["output/logits[:, -1, :]"].to_f64();
                let tokens = logits.to_f64();
                assert_eq!(tokens.len() % row.len(), 0, "{what}");
                close(&row, &tokens[tokens.len() - row.len()..], &what);
                let best = (0..row.len()).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
                let flat = (tokens.len() - row.len() + best) as i64;
                let whole = run(&model, &compiled(&model, rules, &["logits"], false), Some(flat));
                let sliced = run(&model, &compiled(&model, rules, &[TARGET], false), None);
                assert_eq!(sliced.results["output/logits[:, -1, :]"].shape(), [1, row.len()], "{what}");
                let expected: BTreeMap<_, _> =
                    whole.results.iter().filter(|(name, _)| name.starts_with("relevance/")).collect();
                assert!(!expected.is_empty());
                for (name, expected) in expected {
                    close(&sliced.results[name].to_f64(), &expected.to_f64(), &what);
                    close(&all.results[name].to_f64(), &expected.to_f64(), &what);
                }
            }
        }
    }
}

fn close(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    let error = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(largest > 0.0 && error <= 1e-12 * largest, "{what}: {error:e} of {largest:e}");
}
