//! How many activations a model has once it is canonicalised.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::shared::shared;
use lrpc::onnx::{ImportError, ImportOptions, import};
use lrpc_ir::ops::{Elementwise, Function, Op};
use lrpc_ir::{Graph, text};
use lrpc_passes::canonicalise::PIPELINE;
use lrpc_passes::manager::{self, Context};

/// The model after canonicalisation; `None` where it cannot be imported yet for want of operators.
fn canonical(model: &Path) -> Option<Graph> {
    let mut graph = match import(model, &ImportOptions::default()) {
        Ok(imported) => imported.graph,
        Err(ImportError::Graph { findings, .. }) if findings.all_unsupported() => return None,
        Err(error) => panic!("{}: {error}", model.display()),
    };
    let pinned = graph.results.iter().map(|result| result.value).collect();
    let mut context = Context { pinned, ..Context::default() };
    manager::run(&mut graph, PIPELINE, &mut context, true, &mut |_, _| ()).unwrap();
    Some(graph)
}

/// How often each function occurs.
fn functions(graph: &Graph) -> BTreeMap<Function, usize> {
    let mut counts = BTreeMap::new();
    for node in graph.order() {
        if let Op::Elementwise(Elementwise::Unary(unary)) = &graph.node(node).op {
            *counts.entry(unary.function).or_default() += 1;
        }
    }
    counts
}

#[track_caller]
fn check(model: &Path, graph: &Graph, expected: &[(Function, usize)]) {
    let found = functions(graph);
    for (function, count) in expected {
        let found = found.get(function).copied().unwrap_or_default();
        assert_eq!(found, *count, "{} in {}\n{}", function.name(), model.display(), text::print(graph));
    }
}

const ACTIVATIONS: [(Function, usize); 12] = [
    (Function::Gelu, 3),
    (Function::GeluTanh, 2),
    (Function::Swish, 3),
    (Function::Mish, 1),
    (Function::Softplus, 1),
    (Function::HardSwish, 1),
    (Function::Elu, 1),
    (Function::Erf, 0),
    (Function::Tanh, 0),
    (Function::Sigmoid, 0),
    (Function::Exp, 0),
    (Function::Clip, 0),
];

#[test]
fn both_ways_of_writing_give_the_same_activations() {
    for name in ["activations_initializers", "activations_nodes"] {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/models/{name}/model.onnx"));
        let graph = canonical(&model).unwrap();
        check(&model, &graph, &ACTIVATIONS);
        assert_eq!(text::print(&graph), text::print(&canonical(&model).unwrap()), "{name}: run twice");
    }
}

/// Activations of a folder's models: the anchors (`Erf`, `Tanh`, `Sigmoid`, …) that were counted in its ONNX files, less
/// those that belong to none (poolers, gates, recurrences).
type Expected = (&'static str, &'static [(Function, usize)]);

const ZOO: [Expected; 28] = [
    ("bert_base", &[(Function::Gelu, 2), (Function::Erf, 0), (Function::Tanh, 1)]),
    ("bloom", &[(Function::GeluTanh, 2), (Function::Tanh, 0)]),
    ("clip", &[(Function::Swish, 4), (Function::Sigmoid, 0)]),
    ("convnext", &[(Function::Gelu, 5), (Function::Erf, 0)]),
    ("deberta_v3", &[(Function::Gelu, 3), (Function::Erf, 0)]),
    ("deplot", &[(Function::GeluTanh, 4), (Function::Tanh, 0)]),
    ("detr", &[(Function::Swish, 0), (Function::Sigmoid, 1)]),
    ("dinov2", &[(Function::Gelu, 2), (Function::Erf, 0)]),
    ("distilbert", &[(Function::Gelu, 2), (Function::Erf, 0)]),
    ("efficientnet_v2_m", &[(Function::Swish, 21), (Function::Sigmoid, 5)]),
    ("flan_t5_large", &[(Function::GeluTanh, 4), (Function::Tanh, 0)]),
    ("gemma_3_270m", &[(Function::GeluTanh, 2), (Function::Tanh, 0)]),
    ("gpt2", &[(Function::GeluTanh, 2), (Function::Tanh, 0)]),
    ("llama_3_2_1b", &[(Function::Swish, 2), (Function::Sigmoid, 0)]),
    ("mamba2", &[(Function::Swish, 4), (Function::Softplus, 2), (Function::Sigmoid, 0)]),
    ("mamba_130m", &[(Function::Swish, 4), (Function::Softplus, 2), (Function::Sigmoid, 0)]),
    ("mlp_mixer", &[(Function::Gelu, 2), (Function::Mish, 2), (Function::Tanh, 0), (Function::Softplus, 0)]),
    ("mobilenet_v3", &[(Function::HardSwish, 11), (Function::HardSigmoid, 4)]),
    ("modernbert", &[(Function::Gelu, 5), (Function::Erf, 0)]),
    ("moe_dense", &[(Function::Swish, 2), (Function::Sigmoid, 0)]),
    ("phi3", &[(Function::Swish, 2), (Function::Sigmoid, 0)]),
    ("qwen3_0_6b", &[(Function::Swish, 2), (Function::Sigmoid, 0)]),
    ("roberta_large", &[(Function::Gelu, 2), (Function::Erf, 0), (Function::Tanh, 1)]),
    ("sd_unet_block", &[(Function::Gelu, 1), (Function::Swish, 5), (Function::Erf, 0), (Function::Sigmoid, 0)]),
    ("siglip2_so400m", &[(Function::GeluTanh, 5), (Function::Tanh, 0)]),
    ("swin_tv", &[(Function::Gelu, 4), (Function::Erf, 0)]),
    ("vit_b_16", &[(Function::Gelu, 2), (Function::Erf, 0)]),
    ("whisper_small", &[(Function::Gelu, 6), (Function::Erf, 0)]),
];

#[test]
#[allow(clippy::explicit_write, reason = "the harness would swallow what is printed")]
fn every_activation_of_the_zoo_is_recognised() {
    let Some(shared) = shared() else { return };
    let mut counted = 0;
    for (name, expected) in ZOO {
        let folder = std::fs::read_dir(shared.join("zoo/tiny").join(name)).unwrap();
        let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
        files.sort();
        for path in files {
            match canonical(&path) {
                Some(graph) => {
                    check(&path, &graph, expected);
                    counted += 1;
                }
                None => writeln!(std::io::stderr(), "NOT IMPORTED: {}", path.display()).unwrap(),
            }
        }
    }
    assert!(counted >= 20, "only {counted} models");
}
