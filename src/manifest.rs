//! The manifest of a result: from what, how and with which totals it was made.

use std::collections::BTreeMap;

use lrpc_ir::Graph;
use lrpc_ir::plan::Precision;
use lrpc_kernels::LedgerSums;
use serde_json::{Value, json};

use crate::data::Tensor;
use crate::graph_file::sha256;
use crate::inputs::{SeedIndex, is_seed_index};
use crate::onnx::{ModelFile, Weights};
use crate::reduce::Reduce;
use crate::session::{RunOutcome, SeedTotal};

/// What a manifest says beside the outcome itself.
#[derive(Debug)]
pub struct Provenance<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// SHA-256 of its text.
    pub graph_hash: &'a str,
    /// The model with the weights, where there is one.
    pub model: Option<&'a ModelFile>,
    /// The inputs as they were given.
    pub inputs: &'a BTreeMap<String, Tensor>,
    /// Floating-point type of computation.
    pub precision: Precision,
    /// The device.
    pub device: &'a str,
    /// What was reduced before it was written.
    pub reduce: Reduce,
    /// The indices that were given in place of the compiled ones.
    pub indices: &'a [SeedIndex],
}

/// The manifest as JSON. Equal runs give equal manifests: it holds no time and no path.
pub fn manifest(from: &Provenance<'_>, outcome: &RunOutcome) -> Value {
    let model = from.model.map(|file| {
        let weights = match file.values() {
            Weights::Stored => format!("sha256:{}", file.weights_hash()),
            random => random.to_string(),
        };
        json!({ "structure": format!("sha256:{}", file.structure_hash()), "weights": weights })
    });
    let inputs: BTreeMap<&str, Value> =
        from.inputs.iter().map(|(name, tensor)| (name.as_str(), input_entry(tensor))).collect();
    let rules: Vec<Value> = from
        .graph
        .composites
        .iter()
        .map(|one| json!({ "rules": one.rules, "carrier": one.carrier, "because": one.because }))
        .collect();
    let mut value = json!({
        "lrpc": env!("CARGO_PKG_VERSION"),
        "model": model,
        "graph": format!("sha256:{}", from.graph_hash),
        "inputs": inputs,
        "rules": rules,
        "dims": outcome.dims,
        "precision": precision_name(from.precision),
        "device": from.device,
        "seed": outcome.seeds.iter().map(seed_entry).collect::<Vec<_>>(),
        "arrived": outcome.arrived,
    });
    if !outcome.ledger.is_empty()
        && let Some(entries) = value.as_object_mut()
    {
        entries.insert("absorbed".into(), json!(absorbed_totals(&outcome.ledger)));
        entries.insert("ledger_lines".into(), json!(outcome.ledger.len()));
    }
    if !from.graph.conditions.is_empty()
        && let Some(entries) = value.as_object_mut()
    {
        entries.insert("conditions".into(), json!(conditions_used(from)));
    }
    let inputs = from.graph.inputs().into_iter().filter(|&input| is_seed_index(from.graph, input));
    let only = inputs.map(|input| from.graph.name(input)).next().unwrap_or_default();
    let given = from.indices.iter().map(|index| (index.name.as_deref().unwrap_or(only), &index.indices[..]));
    let given: BTreeMap<&str, &[i64]> = given.collect();
    if !given.is_empty()
        && let Some(entries) = value.as_object_mut()
    {
        entries.insert("index".into(), json!(given));
    }
    let reduced = [("tokens", from.reduce.tokens), ("channels", from.reduce.channels), ("places", from.reduce.places)];
    let reduced: BTreeMap<&str, &str> =
        reduced.into_iter().filter_map(|(axis, reduction)| Some((axis, reduction?.name()))).collect();
    if !reduced.is_empty()
        && let Some(entries) = value.as_object_mut()
    {
        entries.insert("reduce".into(), json!(reduced));
    }
    value
}

/// The conditions with the indices that were given when running in place of the compiled ones.
pub fn conditions_used(from: &Provenance<'_>) -> Vec<String> {
    let conditions = &from.graph.conditions;
    let given = |input: &str| -> Option<Vec<i64>> {
        let seeds = || from.graph.inputs().into_iter().filter(|&input| is_seed_index(from.graph, input));
        let is_only = seeds().count() == 1 && seeds().any(|seed| from.graph.name(seed) == input);
        let fits = |index: &&SeedIndex| index.name.as_deref().map_or(is_only, |name| name == input);
        let by_index = from.indices.iter().rfind(fits).map(|index| index.indices.clone());
        by_index.or_else(|| Some(from.inputs.get(input)?.to_f64().into_iter().map(|index| index as i64).collect()))
    };
    let used = |(number, text): (usize, &String)| {
        let input = if conditions.len() > 1 { format!("condition.c{number}") } else { "condition".into() };
        let masks = text.split('&').enumerate().map(|(place, mask)| {
            let name = if place == 0 { input.clone() } else { format!("{input}.{place}") };
            match given(&name).zip(mask.rsplit_once('=')) {
                Some((indices, (before, _))) => {
                    let indices: Vec<String> = indices.iter().map(i64::to_string).collect();
                    format!("{}={}", before.trim(), indices.join(","))
                }
                None => mask.trim().to_string(),
            }
        });
        masks.collect::<Vec<_>>().join(" & ")
    };
    conditions.iter().enumerate().map(used).collect()
}

/// The name of the type on the command line.
pub fn precision_name(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "f32",
        Precision::F64 => "f64",
    }
}

fn input_entry(tensor: &Tensor) -> Value {
    let hash = sha256(tensor.bytes());
    json!({ "dtype": tensor.dtype().name(), "shape": tensor.shape(), "sha256": hash })
}

fn seed_entry(seed: &SeedTotal) -> Value {
    json!({ "name": seed.name, "coefficient": seed.is_coefficient, "sum": seed.sum })
}

/// What was absorbed in all, by kind.
pub fn absorbed_totals(ledger: &[LedgerSums]) -> BTreeMap<&'static str, f64> {
    let mut totals = BTreeMap::new();
    for (kind, sum) in ledger.iter().flat_map(|line| &line.absorbed) {
        *totals.entry(kind.name()).or_insert(0.0) += sum;
    }
    totals
}
