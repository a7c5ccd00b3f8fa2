//! Recognisers: what they make of a graph computes the same numbers, and finds as many patterns as a model has.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod frozen;
mod models;
#[path = "../shared/mod.rs"]
mod shared;
mod snapshots;
mod zoo;

use std::collections::BTreeMap;
use std::path::Path;

use lrpc::onnx::{ImportOptions, import};
use lrpc_ir::{Graph, Op};
use lrpc_passes::{attention, canonicalise, manager};

/// How often each pattern is there: operations by their word, `attention`, and attentions with a feature.
type Counts = BTreeMap<String, usize>;

/// What is counted.
const COUNTED: [&str; 6] = ["layer_norm", "rms_norm", "group_norm", "softmax", "log_softmax", "is_nan"];

fn counts(graph: &Graph) -> Counts {
    let mut counts = Counts::new();
    let mut count = |name: &str, times: usize| {
        if times > 0 {
            *counts.entry(name.to_string()).or_default() += times;
        }
    };
    for node in graph.order() {
        let op = &graph.node(node).op;
        let word = op.mnemonic();
        if COUNTED.contains(&word) {
            count(word, 1);
        }
        let safe = op.attributes().to_string().contains("safe=true");
        count("safe softmax", usize::from(matches!(op, Op::Normalize(_)) && safe));
    }
    for attention in attention::attentions(graph) {
        count("attention", 1);
        let Some(scores) = attention.scores else { continue };
        count("of queries and keys", 1);
        count("masked", usize::from(!scores.masks.is_empty()));
        count("rotary", usize::from(scores.rotary));
        count("grouped", usize::from(scores.shared_by != lrpc_ir::Dim::Known(1)));
    }
    counts
}

/// Counts written as `3 rms_norm, 1 attention`.
fn listed(text: &str) -> Counts {
    let count = |item: &str| {
        let (times, name) = item.trim().split_once(' ').unwrap();
        (name.to_string(), times.parse().unwrap())
    };
    text.split(',').filter(|item| !item.trim().is_empty()).map(count).collect()
}

fn canonicalise(graph: &mut Graph) -> manager::Context {
    let pinned = graph.results.iter().map(|result| result.value).collect();
    let mut context = manager::Context { pinned, ..Default::default() };
    manager::run(graph, canonicalise::PIPELINE, &mut context, true, &mut |_, _| ()).unwrap();
    context
}

/// The canonical graph of a model, or why it is not imported.
fn canonical(path: &Path) -> Result<Graph, String> {
    let imported = import(path, &ImportOptions::default()).map_err(|error| error.to_string())?;
    let mut graph = imported.graph;
    canonicalise(&mut graph);
    Ok(graph)
}
