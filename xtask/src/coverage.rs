//! Writes `docs/coverage.md`: models node by node, forward, ledger and relevance; conformance.
//!
//! A model is an ONNX file in a folder with `inputs.npz` and `outputs.npz`. Expected relevance is in a folder of the same
//! name with `COMPOSITE.npz`, or `COMPOSITE.torchscript.npz` for `model.torchscript.onnx`, and `ledger.json`, which has an
//! entry for each of these files with its target and how far single precision is off.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use lrpc::coverage::{Coverage, Treatment, coverage};
use lrpc::data::Tensor;
use lrpc::onnx::{ImportOptions, Limits, ModelFile, Treatment as Operator, operator_table};
use lrpc::{CompileOptions, RunOptions};
use serde_json::Value;

use crate::conformance;
use crate::ledger::judged;
use crate::models::{explain, folders, models, name, tensors};

const HEAD: &str = include_str!("coverage_head.md");
/// The composites that relevance is compared under.
const COMPOSITES: [&str; 3] = ["epsilon", "attnlrp", "epsilon-plus-flat"];
/// The heading of the models that expected relevance belongs to.
pub(crate) const ARCHITECTURES: &str = "Architectures";
/// How far a ledger may be open in single precision, as a share of its scale.
const LEDGER: f64 = 1e-5;

/// Folders to measure.
#[derive(Debug, Default)]
pub(crate) struct Folders<'a> {
    /// Folders of folders of models, each with a heading.
    pub models: Vec<(&'a str, &'a Path)>,
    /// The folder of expected relevance.
    pub expected: Option<&'a Path>,
    /// The folder of conformance cases.
    pub conformance: Option<&'a Path>,
}

/// A row of the table, and what is wrong with it.
#[derive(Default)]
struct Row {
    cells: Vec<String>,
    faults: Vec<String>,
}

impl Row {
    fn number(&mut self, what: &str, outcome: Result<f64, String>, most: f64) {
        match outcome {
            // NaN is off.
            Ok(error) if error <= most => self.cells.push(format!("{error:.0e}")),
            Ok(error) => {
                self.cells.push(format!("{error:.0e} !"));
                self.faults.push(format!("{what}: {error:.1e}"));
            }
            Err(reason) => {
                self.cells.push("!".into());
                self.faults.push(format!("{what}: {}", reason.lines().next().unwrap_or_default()));
            }
        }
    }
}

/// The document, and everything in it that is not as it should be.
///
/// # Errors
/// Folders that cannot be read.
pub(crate) fn markdown(measured: &Folders<'_>) -> Result<(String, Vec<String>), String> {
    let (mut out, mut faults) = (String::from(HEAD), Vec::new());
    let mut opaque: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (heading, root) in &measured.models {
        let columns = COMPOSITES.join(" | ");
        let _ = writeln!(
            out,
            "\n## {heading}\n\n| model | file | nodes | path | served | opaque | forward | ledger | {columns} |"
        );
        let _ = writeln!(out, "|---|---|--:|--:|--:|--:|--:|--:|{}", "--:|".repeat(COMPOSITES.len()));
        let (mut served, mut all) = (0, 0);
        for folder in folders(root)? {
            for model in models(&folder)? {
                let label = format!("{}/{}", name(&folder), name(&model));
                let mut row = Row::default();
                match coverage(&model, &["epsilon".into()], &ImportOptions::default()) {
                    Ok(found) => {
                        let (own, path) = found.served();
                        (served, all) = (served + own, all + path);
                        add_counts(&mut row, &model, &found);
                        add_opaque(&mut opaque, &found);
                    }
                    Err(error) => row.faults.push(error.to_string().lines().take(2).collect()),
                }
                // Expected relevance is of these models, at toy width.
                let expected = measured.expected.filter(|_| *heading == ARCHITECTURES);
                add_errors(&mut row, &folder, &model, expected);
                row.cells.resize(6 + COMPOSITES.len(), "!".into());
                let _ = writeln!(out, "| {} | {} | {} |", name(&folder), name(&model), row.cells.join(" | "));
                faults.extend(row.faults.into_iter().map(|fault| format!("{label}: {fault}")));
            }
        }
        let _ = writeln!(out, "\n{served} of {all} operations are served.");
    }
    add_reasons(&mut out, opaque);
    if let Some(folder) = measured.conformance {
        let found = conformance::run(folder, "*")?;
        let _ = writeln!(out, "\n## Conformance\n\nONNX's own backend tests (onnx {}):\n", found.onnx);
        conformance::report::summary(&found).lines().for_each(|line| out.push_str(&format!("* {line}\n")));
        out.push_str("\n`tests/conformance/misses.txt` lists the misses with their reasons.\n");
    }
    add_operators(&mut out);
    Ok((out, faults))
}

/// Nodes of the file, operations on the path, those that are served, those that pass nothing on.
fn add_counts(row: &mut Row, model: &Path, found: &Coverage) {
    let nodes = ModelFile::open(model, &Limits::default()).map_or(0, |file| file.graph().node.len());
    let (served, all) = found.served();
    if served < all {
        row.faults.push(format!("{served} of {all} operations are served"));
    }
    let percent = 100.0 * served as f64 / all.max(1) as f64;
    row.cells = vec![nodes.to_string(), all.to_string(), format!("{percent:.2} %"), found.opaque().to_string()];
}

fn add_opaque(opaque: &mut BTreeMap<(String, String), usize>, found: &Coverage) {
    for (kind, count) in &found.kinds {
        if let Treatment::Nothing(reason) = &kind.treatment {
            *opaque.entry((kind.op.clone(), reason.clone())).or_default() += count;
        }
    }
}

fn add_reasons(out: &mut String, opaque: BTreeMap<(String, String), usize>) {
    if opaque.is_empty() {
        return;
    }
    out.push_str("\n## Operations that pass nothing on\n\n| operation | count | reason |\n|---|--:|---|\n");
    for ((op, reason), count) in opaque {
        let _ = writeln!(out, "| {op} | {count} | {reason} |");
    }
}

fn add_operators(out: &mut String) {
    let table: Vec<_> =
        operator_table().into_iter().filter(|one| one.domain.is_empty() && !one.versions.is_empty()).collect();
    let refused = table.iter().filter(|one| matches!(one.treatment, Operator::Refused(_) | Operator::Unknown)).count();
    let (served, all) = (table.len() - refused, table.len());
    let _ = writeln!(
        out,
        "\n## Operators\n\nOf the {all} operators of `ai.onnx`, {served} are read; {refused} are refused with a"
    );
    out.push_str("reason each ([operators.md](operators.md)).\n");
}

/// Errors of the outputs, of the ledger and of relevance.
fn add_errors(row: &mut Row, folder: &Path, model: &Path, expected: Option<&Path>) {
    let Ok(inputs) = tensors(&folder.join("inputs.npz")) else {
        return row.faults.push("there are no inputs".into());
    };
    let options =
        |rules: &str, targets| CompileOptions { rules: vec![rules.into()], targets, ..CompileOptions::default() };
    let run = RunOptions { audit: true, ..RunOptions::default() };
    let outcome = explain(model, &options("epsilon", Vec::new()), &inputs, run);
    let outputs = tensors(&folder.join("outputs.npz")).unwrap_or_default();
    let forward = outcome.as_ref().map_err(Clone::clone).and_then(|outcome| {
        let outputs = outputs.iter().filter(|(_, tensor)| tensor.dtype().is_float());
        let errors = outputs.map(|(name, tensor)| difference(&outcome.results, &format!("output/{name}"), tensor));
        worst(errors)
    });
    let most = forward_tolerance(model);
    row.number("forward", forward, most);
    let ledger = outcome.as_ref().map_err(Clone::clone).map(|outcome| {
        let [line, total, _] = judged(outcome);
        if line <= total { total } else { line }
    });
    row.number("ledger", ledger, LEDGER);
    let suffix = match name(model).as_str() {
        "model.onnx" => "",
        "model.torchscript.onnx" => ".torchscript",
        _ => return row.cells.extend(COMPOSITES.map(|_| "–".to_string())),
    };
    for composite in COMPOSITES {
        let key = format!("{composite}{suffix}");
        let files = expected.map(|root| root.join(name(folder)));
        let file = files.as_ref().map(|files| files.join(format!("{key}.npz"))).filter(|file| file.exists());
        let Some((files, file)) = files.as_ref().zip(file) else {
            row.cells.push("–".into());
            continue;
        };
        let outcome = expectation(files, &key).and_then(|(targets, tolerance)| {
            let outcome = explain(model, &options(composite, targets), &inputs, RunOptions::default())?;
            let wanted = tensors(&file)?;
            let relevance = wanted.iter().filter(|(name, _)| name.starts_with("relevance/"));
            let error = worst(relevance.map(|(name, tensor)| difference(&outcome.results, name, tensor)))?;
            Ok((error, tolerance))
        });
        let most = outcome.as_ref().map_or(0.0, |(_, tolerance)| *tolerance);
        row.number(composite, outcome.map(|(error, _)| error), most);
    }
}

/// How far outputs may be from ONNX Runtime's, as a share of the largest. ONNX Runtime rounds to half precision after every
/// operation, and networks of published depth add up more roundings.
fn forward_tolerance(model: &Path) -> f64 {
    let path = model.to_string_lossy();
    match () {
        () if path.contains("fp16") => 2e-3,
        () if path.contains("deep") => 1e-4,
        () => 1e-5,
    }
}

/// The target of expected relevance, unless it is the default one, and how far relevance may be off.
fn expectation(folder: &Path, key: &str) -> Result<(Vec<String>, f64), String> {
    let path = folder.join("ledger.json");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let list: Value = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let entry = &list[key];
    let target = match entry["target"].as_array().map(Vec::as_slice) {
        Some([one]) => {
            let indices = one.as_array().into_iter().flatten().map(Value::to_string).collect::<Vec<_>>().join(",");
            vec![format!("{}[{indices}]", entry["output"].as_str().unwrap_or_default())]
        }
        _ => Vec::new(),
    };
    Ok((target, (5.0 * entry["f32_max_rel_dev"].as_f64().unwrap_or_default()).max(1e-5)))
}

/// The largest of the errors.
fn worst(errors: impl Iterator<Item = Result<f64, String>>) -> Result<f64, String> {
    // NaN counts as the worst.
    errors.into_iter().try_fold(0.0, |worst, error| error.map(|error| if error <= worst { worst } else { error }))
}

/// The largest difference as a share of the largest expected number.
fn difference(results: &BTreeMap<String, Tensor>, name: &str, expected: &Tensor) -> Result<f64, String> {
    let found = results.get(name).ok_or_else(|| format!("{name} is not among the results"))?;
    if found.shape() != expected.shape() {
        return Err(format!("{name} has the shape {:?}, not {:?}", found.shape(), expected.shape()));
    }
    let (found, expected) = (found.to_f64(), expected.to_f64());
    let largest = expected.iter().fold(1e-30, |largest: f64, value| largest.max(value.abs()));
    worst(found.iter().zip(&expected).map(|(a, b)| Ok((a - b).abs() / largest)))
}
