//! How many patterns the models of the shared zoo have, exported in two ways.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lrpc::data::Tensor;
use lrpc::graph_file::ModelWeights;
use lrpc::onnx::{ImportOptions, import};
use lrpc::session::{RunOptions, Session};

use crate::models::tensors;
use crate::shared::shared;
use crate::{canonical, canonicalise, counts, listed};

/// What every model of a folder has, and single models that differ from their folder: a mask that hides nothing, or
/// attention on constants, is evaluated by one exporter and not by the other. Whether softmax is guarded is the exporter's
/// choice too, and not counted.
#[rustfmt::skip]
const MODELS: &[(&str, &str)] = &[
    ("zoo/tiny/bert_base", "2 attention, 5 layer_norm, 2 masked, 2 of queries and keys, 2 softmax"),
    ("zoo/tiny/bloom", "2 attention, 6 layer_norm, 2 masked, 2 of queries and keys, 2 softmax"),
    ("zoo/tiny/clip", "4 attention, 11 layer_norm, 2 masked, 4 of queries and keys, 4 softmax"),
    ("zoo/tiny/convnext", "10 layer_norm"),
    ("zoo/tiny/deberta_v3", "2 attention, 6 layer_norm, 2 masked, 2 of queries and keys, 2 softmax"),
    ("zoo/tiny/deplot", "6 attention, 6 masked, 6 of queries and keys, 12 rms_norm, 6 softmax"),
    ("zoo/tiny/detr", "5 attention, 11 layer_norm, 4 masked, 5 of queries and keys, 5 softmax"),
    ("zoo/tiny/detr/model.torchscript.onnx", "5 attention, 11 layer_norm, 4 masked, 5 of queries and keys, 6 softmax"),
    ("zoo/tiny/dinov2", "2 attention, 5 layer_norm, 2 masked, 2 of queries and keys, 2 softmax"),
    ("zoo/tiny/dinov2/model.torchscript.onnx", "2 attention, 5 layer_norm, 2 of queries and keys, 2 softmax"),
    ("zoo/tiny/distilbert", "2 attention, 5 layer_norm, 2 masked, 2 of queries and keys, 2 softmax"),
    ("zoo/tiny/flan_t5_large", "6 attention, 6 masked, 6 of queries and keys, 12 rms_norm, 6 softmax"),
    ("zoo/tiny/gemma_3_270m", "2 attention, 2 grouped, 2 masked, 2 of queries and keys, 13 rms_norm, 2 rotary, 2 softmax"),
    ("zoo/tiny/gpt2", "2 attention, 5 layer_norm, 2 masked, 2 of queries and keys, 2 softmax"),
    ("zoo/tiny/llama_3_2_1b", "2 attention, 2 grouped, 2 masked, 2 of queries and keys, 5 rms_norm, 2 rotary, 2 softmax"),
    ("zoo/tiny/mamba2", "5 rms_norm"),
    ("zoo/tiny/mamba_130m", "3 rms_norm"),
    ("zoo/tiny/mlp_mixer", "5 layer_norm"),
    ("zoo/tiny/modernbert", "4 attention, 10 layer_norm, 4 masked, 4 of queries and keys, 4 rotary, 4 softmax"),
    ("zoo/tiny/moe_dense", "2 attention, 2 softmax"),
    ("zoo/tiny/phi3", "2 attention, 2 grouped, 2 masked, 2 of queries and keys, 5 rms_norm, 2 rotary, 2 softmax"),
    ("zoo/tiny/qwen3_0_6b", "2 attention, 2 grouped, 2 masked, 2 of queries and keys, 9 rms_norm, 2 rotary, 2 softmax"),
    ("zoo/tiny/roberta_large", "2 attention, 5 layer_norm, 2 masked, 2 of queries and keys, 2 softmax"),
    ("zoo/tiny/sd_unet_block", "2 attention, 4 group_norm, 3 layer_norm, 2 of queries and keys, 2 softmax"),
    ("zoo/tiny/siglip2_so400m", "5 attention, 11 layer_norm, 2 masked, 5 of queries and keys, 5 softmax"),
    ("zoo/tiny/siglip2_so400m/model.torchscript.onnx", "5 attention, 11 layer_norm, 5 of queries and keys, 5 softmax"),
    ("zoo/tiny/swin_tv", "4 attention, 11 layer_norm, 4 masked, 4 of queries and keys, 4 softmax"),
    ("zoo/tiny/unet", "5 group_norm"),
    ("zoo/tiny/vit_b_16", "2 attention, 5 layer_norm, 2 of queries and keys, 2 softmax"),
    ("zoo/tiny/wav2vec2_xls_r_300m", "2 attention, 13 layer_norm, 2 masked, 2 of queries and keys, 2 softmax"),
    ("zoo/tiny/wav2vec2_xls_r_300m/model.torchscript.onnx", "2 attention, 13 layer_norm, 2 of queries and keys, 2 softmax"),
    ("zoo/tiny/whisper_small", "6 attention, 12 layer_norm, 2 masked, 6 of queries and keys, 6 softmax"),
    ("cases/tiny_bert", "2 attention, 5 layer_norm, 2 masked, 2 of queries and keys, 2 softmax"),
    ("cases/tiny_gpt2", "2 attention, 5 layer_norm, 2 masked, 2 of queries and keys, 2 softmax"),
    ("cases/tiny_llama", "2 attention, 2 grouped, 2 masked, 2 of queries and keys, 5 rms_norm, 2 rotary, 2 softmax"),
    ("cases/tiny_roberta", "2 attention, 5 layer_norm, 2 masked, 2 of queries and keys, 2 softmax"),
    ("cases/tiny_t5", "6 attention, 6 masked, 6 of queries and keys, 12 rms_norm, 6 softmax"),
    ("cases/tiny_vit", "2 attention, 5 layer_norm, 2 of queries and keys, 2 softmax"),
];

fn models(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "onnx"));
    files.sort();
    files
}

#[test]
fn every_model_has_the_patterns_of_its_architecture() {
    let Some(shared) = shared() else { return };
    let table: BTreeMap<&str, &str> = MODELS.iter().copied().collect();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (folder, expected) in MODELS.iter().filter(|(name, _)| !name.ends_with(".onnx")) {
        for path in models(&shared.join(folder)) {
            let name = path.strip_prefix(&shared).unwrap().display().to_string();
            let expected = table.get(name.as_str()).unwrap_or(expected);
            let mut found = counts(&canonical(&path).unwrap_or_else(|error| panic!("{error}")));
            found.remove("safe softmax");
            if found != listed(expected) {
                wrong.push(format!("{name}: {found:?}, expected {expected}"));
            }
            count += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 60, "only {count} models");
}

/// Tolerance as a share of the largest number.
const TOLERANCE: f64 = 1e-5;

#[test]
fn canonical_graphs_give_the_numbers_of_onnxruntime() {
    let Some(shared) = shared() else { return };
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (folder, _) in MODELS.iter().filter(|(name, _)| name.starts_with("zoo") && !name.ends_with(".onnx")) {
        let folder = shared.join(folder);
        let found = outputs(&folder.join("model.onnx"), &folder.join("inputs.npz"));
        for (name, expected) in tensors(&folder.join("outputs.npz")) {
            let (found, expected) = (found[&format!("output/{name}")].to_f64(), expected.to_f64());
            let largest = expected.iter().fold(1e-6, |largest: f64, value| largest.max(value.abs()));
            let error = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / largest;
            if found.len() != expected.len() || error.is_nan() || error > TOLERANCE {
                wrong.push(format!("{} {name}: {error:e}", folder.display()));
            }
            count += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 25, "only {count} outputs");
}

fn outputs(path: &Path, inputs: &Path) -> BTreeMap<String, Tensor> {
    let imported = import(path, &ImportOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    let mut graph = imported.graph;
    canonicalise(&mut graph);
    let weights = ModelWeights::locate(&graph, &imported.file, path).unwrap();
    let mut session = Session::new(&graph, &weights, RunOptions::default());
    let outcome = session.run(&tensors(inputs), &[], &BTreeMap::new(), None);
    outcome.unwrap_or_else(|error| panic!("{}: {error}", path.display())).results
}
