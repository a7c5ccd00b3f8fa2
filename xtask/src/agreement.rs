//! Writes a table of `docs/agreement.md`: relevance of other implementations, case by case and method by method.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use lrpc::data::Tensor;
use lrpc::{CompileOptions, RunOptions};
use serde_json::Value;

use crate::models::{explain, folders, name, tensors};

/// How far relevance may be off, as a share of the largest.
const TOLERANCE: f64 = 1e-4;
/// The lines of the document between which the table stands.
const MARKERS: [&str; 2] = ["<!-- agreement: begin -->", "<!-- agreement: end -->"];

/// An array of expectations, the composite that gives it, and the cases that have it; none means all.
struct Method {
    array: &'static str,
    rules: &'static str,
    cases: &'static [&'static str],
}

const fn method(array: &'static str, rules: &'static str) -> Method {
    Method { array, rules, cases: &[] }
}

/// A method of DynamicLRP. Its arrays of other cases hold faults of its own (docs/rule-book.md section 8).
const fn dynamic(array: &'static str, rules: &'static str) -> Method {
    Method { array, rules, cases: &["tiny_vgg", "tiny_vgg_nobias"] }
}

const METHODS: &[Method] = &[
    method("grad_x_input", "input-x-gradient"),
    method("zennit_epsilon", "epsilon"),
    method("zennit_epsilon_plus", "epsilon-plus"),
    method("zennit_epsilon_alpha2_beta1", "epsilon-alpha2-beta1"),
    method("zennit_epsilon_plus_flat", "epsilon-plus-flat"),
    method("zennit_epsilon_gamma_box", "epsilon-gamma-box(low=-4, high=4)"),
    method("zennit_gamma0.25_conv_epsilon_dense", "gamma(gamma=0.25)"),
    method("zennit_epsilon_plus_zerobias", "epsilon-plus(bias=exclude)"),
    method("captum_epsilon", "epsilon(eps=1e-9)"),
    method("lxt_attnlrp", "attnlrp"),
    method("lxt_cplrp", "cp-lrp"),
    dynamic("dyn_default", "dynamiclrp"),
    dynamic("dyn_gamma", "dynamiclrp(conv_gamma=100, linear_gamma=1)"),
    dynamic("dyn_gamma_conv0.25", "dynamiclrp(conv_gamma=0.25)"),
];

/// A folder of cases: models, inputs, and what others make of them.
struct Case {
    name: String,
    /// Model file, its target and the tensors that arrays belong to.
    exports: Vec<(String, String, BTreeMap<String, String>)>,
    inputs: BTreeMap<String, Tensor>,
    expected: BTreeMap<String, Tensor>,
}

/// Writes the table of all cases in `folder` into `document`. A case is a folder with `meta.json`, `inputs.npz`,
/// `expected.npz` and models.
///
/// # Errors
/// Files that cannot be read or do not have this form, and relevance that is off by more than the tolerance, after the
/// table is written.
pub(crate) fn generate(folder: &Path, document: &Path) -> Result<(), String> {
    let cases = folders(folder)?.iter().map(|folder| Case::read(folder)).collect::<Result<Vec<Case>, String>>()?;
    let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    let mut table = format!("| array | composite | {} |\n|---|---|{}\n", names.join(" | "), "--:|".repeat(names.len()));
    let mut failures = Vec::new();
    for method in METHODS {
        let _ = write!(table, "| {} | `{}` |", method.array, method.rules);
        for case in &cases {
            let cell = match case.error(folder, method) {
                Ok(None) => "–".to_string(),
                Ok(Some(error)) => {
                    // NaN is off.
                    let is_near = error <= TOLERANCE;
                    if !is_near {
                        failures.push(format!("{} {}: {error:.1e}", case.name, method.array));
                    }
                    format!("{error:.0e}")
                }
                Err(reason) => {
                    let reason = reason.lines().next().unwrap_or_default().to_string();
                    failures.push(format!("{} {}: {reason}", case.name, method.array));
                    "refused".to_string()
                }
            };
            let _ = write!(table, " {cell} |");
        }
        table.push('\n');
    }
    let text = std::fs::read_to_string(document).map_err(|error| format!("{}: {error}", document.display()))?;
    std::fs::write(document, between(&text, &table)?).map_err(|error| format!("{}: {error}", document.display()))?;
    if failures.is_empty() { Ok(()) } else { Err(format!("off by more than {TOLERANCE:e}:\n{}", failures.join("\n"))) }
}

/// The document with `table` between its markers.
fn between(text: &str, table: &str) -> Result<String, String> {
    let parts = text.split_once(MARKERS[0]).and_then(|(before, rest)| Some((before, rest.split_once(MARKERS[1])?.1)));
    let (before, after) = parts.ok_or_else(|| format!("the document lacks {} and {}", MARKERS[0], MARKERS[1]))?;
    Ok(format!("{before}{}\n\n{table}\n{}{after}", MARKERS[0], MARKERS[1]))
}

impl Case {
    fn read(folder: &Path) -> Result<Case, String> {
        let path = folder.join("meta.json");
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let meta: Value = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let exports = exports(&meta).ok_or_else(|| format!("{}: an export lacks its entries", path.display()))?;
        let (inputs, expected) = (tensors(&folder.join("inputs.npz"))?, tensors(&folder.join("expected.npz"))?);
        Ok(Case { name: name(folder), exports, inputs, expected })
    }

    /// The worst error over exports and parts of the array; `None` where the case has no such array.
    fn error(&self, root: &Path, method: &Method) -> Result<Option<f64>, String> {
        if !method.cases.is_empty() && !method.cases.contains(&self.name.as_str()) {
            return Ok(None);
        }
        let mut worst = None;
        for (array, expected) in &self.expected {
            let Some(part) = array.strip_prefix(method.array).filter(|part| part.is_empty() || part.starts_with("__"))
            else {
                continue;
            };
            for (file, target, tensors) in &self.exports {
                // Where an array has parts, its tensor's entry ends like it.
                let tensor = tensors.iter().find(|(entry, _)| entry.ends_with(part)).map(|(_, tensor)| tensor.clone());
                let tensor = tensor.ok_or_else(|| format!("{file} names no tensor for {array}"))?;
                let options = CompileOptions {
                    rules: vec![method.rules.into()],
                    targets: vec![target.clone()],
                    wrt: vec![tensor.clone()],
                    ..CompileOptions::default()
                };
                let model = root.join(&self.name).join(file);
                let outcome = explain(&model, &options, &self.inputs, RunOptions::default())?;
                let found = outcome.results.get(&format!("relevance/{tensor}"));
                let found = found.ok_or_else(|| format!("{file} gives no relevance of {tensor}"))?;
                let error = difference(found, expected)?;
                worst = Some(worst.map_or(error, |worst| if error <= worst { worst } else { error }));
            }
        }
        Ok(worst)
    }
}

/// A file, the target in it, and the names of its tensors by the names that the arrays use.
type Export = (String, String, BTreeMap<String, String>);

fn exports(meta: &Value) -> Option<Vec<Export>> {
    let indices: Vec<String> = meta["target_index"].as_array()?.iter().map(Value::to_string).collect();
    let export = |export: &Value| {
        let output = export["logits_tensor"].as_str().unwrap_or("logits");
        let tensors = export["relevance_tensor"].as_object()?.iter();
        let tensors = tensors.map(|(entry, tensor)| Some((entry.clone(), tensor.as_str()?.to_string())));
        let target = format!("{output}[{}]", indices.join(","));
        Some((export["file"].as_str()?.to_string(), target, tensors.collect::<Option<_>>()?))
    };
    meta["exports"].as_object()?.values().map(export).collect()
}

/// The largest difference as a share of the largest expected number.
fn difference(found: &Tensor, expected: &Tensor) -> Result<f64, String> {
    if found.shape() != expected.shape() {
        return Err(format!("relevance has the shape {:?}, not {:?}", found.shape(), expected.shape()));
    }
    let (found, expected) = (found.to_f64(), expected.to_f64());
    let largest = expected.iter().fold(f64::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
    let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    // NaN counts as the worst.
    Ok(worst.fold(0.0, |worst, error| if error <= worst { worst } else { error }) / largest)
}
