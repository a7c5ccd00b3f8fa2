//! Writes `docs/promises.md`: what the promises of a folder of models are and what keeping them takes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use lrpc::compile::{CompileOptions, compile_model};
use lrpc::data::TensorFile;
use lrpc::inputs::bind_inputs;
use lrpc::machine::bytes_in_words;
use lrpc_passes::bind::{self, PromiseReport, Request, Strategy};

/// The largest file of inputs that is read, in bytes.
const MAX_INPUT_BYTES: u64 = 1 << 30;

/// The composites that are reported, and what a reader should know of each.
const RULES: [(&str, &str); 2] = [
    ("epsilon", "Relevance is carried as `R`: rules read operands and results of almost every operation."),
    ("auto", "The composite that `lrpc compile` chooses for the architecture by itself."),
];

const HEAD: &str = include_str!("promises_head.md");

/// Writes the report on the models in `folders` to `target`. A model is a folder that holds `model.onnx` and, for the
/// sizes of its symbols, `inputs.npz`; it is called by the names of its folder and of the
/// folder of all.
pub(crate) fn generate(folders: &[&Path], target: &Path) -> Result<(), String> {
    let mut models = Vec::new();
    for folder in folders {
        let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        models.extend(paths.filter(|path| path.join("model.onnx").is_file()));
    }
    models.sort();
    let mut out = HEAD.to_string();
    for (rules, about) in RULES {
        let _ = write!(out, "\n## `{rules}`\n\n{about}\n\n{}", table(&models, rules));
    }
    std::fs::write(target, out).map_err(|error| format!("{}: {error}", target.display()))
}

fn table(models: &[PathBuf], rules: &str) -> String {
    let mut rows = String::from(
        "| model | promises | generating | interior | δ | ρ | operations | kept: store | kept: recompute | recomputed \
         | calls again | work | peak: store | peak: recompute |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    let mut refused: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for model in models {
        let name = name(model);
        match report(model, rules) {
            Ok(report) => rows.push_str(&row(&name, &report)),
            Err(reason) => refused.entry(reason).or_default().push(name),
        }
    }
    if !refused.is_empty() {
        rows.push_str("\nNot among them:\n\n");
    }
    for (reason, names) in refused {
        let _ = writeln!(rows, "* {}: {reason}", names.join(", "));
    }
    rows
}

/// The model's folder, and in parentheses the folder of all.
fn name(model: &Path) -> String {
    let words = |path: Option<&Path>| {
        path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    };
    format!("{} ({})", words(Some(model)), words(model.parent()))
}

fn row(name: &str, report: &PromiseReport) -> String {
    let numbers = &report.statistics;
    let of = |strategy: Strategy| report.strategies.iter().find(|summary| summary.strategy == strategy.name());
    let (Some(store), Some(recompute)) = (of(Strategy::Store), of(Strategy::Recompute)) else { return String::new() };
    let size = |bytes: usize| bytes_in_words(bytes as u64);
    let work = recompute.cost.flops as f64 / (store.cost.flops.max(1)) as f64;
    format!(
        "| {name} | {} | {} | {} | {} | {:.3} | {} | {} | {} | {} | {} | {work:.2} | {} | {} |\n",
        numbers.promises,
        numbers.origins,
        numbers.interior,
        numbers.delta,
        numbers.rho(),
        numbers.operations,
        size(store.kept_bytes),
        size(recompute.kept_bytes),
        size(recompute.recomputed_bytes),
        recompute.replays,
        size(store.peak_bytes),
        size(recompute.peak_bytes),
    )
}

/// The report on one model, or in a few words why there is none.
fn report(folder: &Path, rules: &str) -> Result<PromiseReport, String> {
    let options = CompileOptions { rules: vec![rules.into()], ..CompileOptions::default() };
    let path = folder.join("model.onnx");
    let place = format!("{}: ", path.display());
    let reason = |error: lrpc::Error| first_words(error.to_string().trim_start_matches(&place));
    let compiled = compile_model(&path, &options).map_err(reason)?;
    let inputs = folder.join("inputs.npz");
    let dims = if inputs.is_file() {
        let file = TensorFile::read(&inputs, MAX_INPUT_BYTES).map_err(|error| first_words(&error.to_string()))?;
        let bound = bind_inputs(&compiled.graph, &file.tensors, &[], &BTreeMap::new(), false);
        bound.map_err(|error| first_words(&error.to_string()))?.dims
    } else {
        BTreeMap::new()
    };
    let request = Request { dims, ..Request::default() };
    bind::promises(&compiled.graph, &request).map_err(|error| first_words(&error.to_string()))
}

/// The first clause of an error, so that models are grouped by it.
fn first_words(error: &str) -> String {
    let line = error.lines().next().unwrap_or_default();
    line.split([';', '(']).next().unwrap_or_default().trim().to_string()
}
