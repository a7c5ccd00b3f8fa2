//! Imports whole models: the CNNs and transformers of the shared model zoo, exported in several ways.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod shared;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lrpc::data::{Tensor, TensorFile};
use lrpc::graph_file::ModelWeights;
use lrpc::onnx::{ImportError, ImportOptions, Imported, import};
use lrpc::session::{RunOptions, Session};
use lrpc_ir::{text, verify};

use shared::shared;

const ZOO: [&str; 7] =
    ["vgg16", "resnet50", "densenet121", "efficientnet_v2_m", "mobilenet_v2", "mobilenet_v3", "unet"];
const TRANSFORMERS: [&str; 21] = [
    "bert_base",
    "bloom",
    "clip",
    "deberta_v3",
    "deplot",
    "detr",
    "dinov2",
    "distilbert",
    "flan_t5_large",
    "gemma_3_270m",
    "gpt2",
    "llama_3_2_1b",
    "modernbert",
    "phi3",
    "qwen3_0_6b",
    "roberta_large",
    "siglip2_so400m",
    "swin_tv",
    "vit_b_16",
    "wav2vec2_xls_r_300m",
    "whisper_small",
];
const CASES: [&str; 3] = ["tiny_vgg", "tiny_vgg_nobias", "tiny_resnet_basic"];
const MODELS: [&str; 2] = ["mnist_vgg_cnn.onnx", "efficientnet_lite0_f16.onnx"];

fn onnx_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    files.sort();
    assert!(!files.is_empty(), "{} holds no model", folder.display());
    files
}

fn cnn_files(shared: &Path) -> Vec<PathBuf> {
    let zoo = ZOO.iter().map(|name| shared.join("zoo/tiny").join(name));
    let cases = CASES.iter().map(|name| shared.join("cases").join(name));
    let mut files: Vec<PathBuf> = zoo.chain(cases).flat_map(|folder| onnx_files(&folder)).collect();
    files.extend(MODELS.iter().map(|name| shared.join("models").join(name)));
    files
}

fn transformer_files(shared: &Path) -> Vec<PathBuf> {
    let tiny = TRANSFORMERS.iter().map(|name| shared.join("zoo/tiny").join(name));
    tiny.chain([shared.join("zoo/deep/flan_t5_large")]).flat_map(|folder| onnx_files(&folder)).collect()
}

fn import_file(path: &Path) -> Imported {
    import(path, &ImportOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_cnn_is_imported_with_the_shapes_that_it_declares() {
    let Some(shared) = shared() else { return };
    for path in cnn_files(&shared) {
        let imported = import_file(&path);
        verify::verify(&imported.graph).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let outputs = &imported.file.graph().output;
        assert_eq!(imported.graph.results.len(), outputs.len());
        for (result, output) in imported.graph.results.iter().zip(outputs) {
            assert_eq!(result.name, format!("output/{}", output.name()));
            assert_eq!(imported.graph.ty(result.value).to_string(), declared(output), "{}", path.display());
        }
        let weights = imported.graph.weights();
        assert!(weights.keys().all(|name| imported.file.weight(name).is_some()), "{}", path.display());
    }
}

/// The type of an output as the model declares it, in the notation of the graph.
fn declared(output: &lrpc::onnx::proto::ValueInfoProto) -> String {
    use lrpc::onnx::proto::{tensor_shape_proto::dimension::Value, type_proto};
    let Some(type_proto::Value::TensorType(tensor)) = output.r#type.as_ref().unwrap().value.as_ref() else {
        panic!("{} is no tensor", output.name())
    };
    let dims = tensor.shape.as_ref().unwrap().dim.iter().map(|dim| match dim.value.as_ref().unwrap() {
        Value::DimValue(size) => size.to_string(),
        Value::DimParam(name) => name.clone(),
    });
    assert_eq!(tensor.elem_type(), 1, "the networks give single precision");
    format!("f32[{}]", dims.collect::<Vec<_>>().join(", "))
}

#[test]
fn import_is_deterministic_and_survives_its_text() {
    let Some(shared) = shared() else { return };
    for path in cnn_files(&shared).into_iter().chain(transformer_files(&shared)) {
        let graph = import_file(&path).graph;
        let printed = text::print(&graph);
        assert_eq!(printed, text::print(&import_file(&path).graph), "{}", path.display());
        let parsed = text::parse(&printed).unwrap_or_else(|error| panic!("{}: {error}\n{printed}", path.display()));
        assert!(parsed == graph, "{} changes when it is printed and read", path.display());
    }
}

fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    TensorFile::read(path, 1 << 28).unwrap_or_else(|error| panic!("{error}")).tensors
}

/// How far a file's outputs may be from onnxruntime's, as a share of the largest. A number of half precision stands for
/// all within 5e-4 of it; onnxruntime rounds to it after every operation, and the kernels compute in single precision.
fn tolerance(path: &Path) -> f64 {
    let name = path.to_string_lossy();
    if name.contains("fp16") {
        2e-3
    } else if name.contains("deep") {
        1e-4
    } else {
        1e-5
    }
}

/// Every file of a folder computes what onnxruntime computes of `model.onnx`.
#[test]
fn every_transformer_equals_onnxruntime() {
    let Some(shared) = shared() else { return };
    for path in transformer_files(&shared) {
        let folder = path.parent().unwrap();
        let imported = import_file(&path);
        verify::verify(&imported.graph).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let weights = ModelWeights::locate(&imported.graph, &imported.file, &path).unwrap();
        let mut session = Session::new(&imported.graph, &weights, RunOptions::default());
        let mut inputs = tensors(&folder.join("inputs.npz"));
        inputs.retain(|name, _| imported.graph.find(name).is_some());
        let outcome = session.run(&inputs, &[], &BTreeMap::new(), None);
        let results = outcome.unwrap_or_else(|error| panic!("{}: {error}", path.display())).results;
        for (name, expected) in tensors(&folder.join("outputs.npz")) {
            let found = results.get(&format!("output/{name}")).unwrap_or_else(|| panic!("{}: {name}", path.display()));
            assert_eq!(found.shape(), expected.shape(), "{} {name}", path.display());
            let (found, expected) = (found.to_f64(), expected.to_f64());
            let largest = expected.iter().fold(1e-30, |largest: f64, value| largest.max(value.abs()));
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst <= tolerance(&path) * largest, "{} {name}: {:e}", path.display(), worst / largest);
        }
    }
}

/// Models of other kinds may be refused, but always with findings, and never as invalid.
#[test]
fn no_model_of_the_zoo_is_taken_for_invalid() {
    let Some(shared) = shared() else { return };
    let folders = std::fs::read_dir(shared.join("zoo/tiny")).unwrap().map(|entry| entry.unwrap().path());
    for path in folders.filter(|path| path.is_dir()).flat_map(|folder| onnx_files(&folder)) {
        match import(&path, &ImportOptions::default()) {
            Ok(imported) => {
                verify::verify(&imported.graph).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            }
            Err(ImportError::Graph { findings, .. }) => {
                assert!(findings.all_unsupported(), "{}\n{findings}", path.display());
            }
            Err(ImportError::File(error)) => panic!("{error}"),
        }
    }
}
