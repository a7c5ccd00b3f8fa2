//! The relevance backend tests: every case under `tests/relevance/cases`, in f64 and in f32 (README.md there).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed expectation fails the test")]

mod model;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use lrpc::compile::{CompileOptions, Compiled, compile_model};
use lrpc::data::Tensor;
use lrpc::graph_file::ModelWeights;
use lrpc::session::{RunOptions, RunOutcome, Session};
use lrpc_ir::Absorbed;
use lrpc_ir::plan::Precision;
use serde_json::Value;

use model::{entries, list, number, onnx_bytes, tensor, tensors, text};

const VERSION: i64 = 1;
/// Largest difference as a share of the scale, which [`Case::scale`] gives.
const TOLERANCES: [(Precision, f64); 2] = [(Precision::F64, 1e-9), (Precision::F32, 1e-5)];

/// One model at one opset under one composite.
struct Case<'c> {
    name: String,
    operator: &'c str,
    opset: i64,
    model: &'c Value,
    explanation: &'c Value,
}

/// What became of a case.
enum Outcome {
    Passed,
    /// The compiler says that it cannot serve it.
    Refused(String),
    Failed(String),
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/relevance")
}

fn files() -> Vec<Value> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder().join("cases")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: &PathBuf| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    paths.iter().map(read).collect()
}

fn cases(files: &[Value]) -> Vec<Case<'_>> {
    let mut found = Vec::new();
    for file in files {
        assert_eq!(file["version"].as_i64(), Some(VERSION));
        let operator = text(&file["operator"]);
        for model in list(&file["models"]) {
            for opset in list(&model["opsets"]).iter().map(|opset| opset.as_i64().unwrap()) {
                for explanation in list(&model["explanations"]) {
                    let rules = text(&explanation["rules"]);
                    let name = format!("{operator}/{}/opset{opset}/{rules}", text(&model["name"]));
                    found.push(Case { name, operator, opset, model, explanation });
                }
            }
        }
    }
    found
}

impl Case<'_> {
    fn run(&self, path: &Path) -> Outcome {
        std::fs::write(path, onnx_bytes(&self.model["graph"], self.opset)).unwrap();
        let mut options = CompileOptions {
            rules: vec![text(&self.explanation["rules"]).into()],
            targets: list(&self.model["graph"]["outputs"])
                .iter()
                .take(1)
                .map(|y| format!("{}:given", text(y)))
                .collect(),
            all_outputs: true,
            unit_seed: self.model["start"] == "relevance",
            verify: true,
            ..Default::default()
        };
        if let Some(explained) = self.model["explained"].as_array() {
            options.wrt = explained.iter().map(|name| text(name).into()).collect();
        }
        let compiled = match compile_model(path, &options) {
            Ok(compiled) => compiled,
            Err(error) => {
                let reason = error.to_string().replace('\n', "; ").replace(&path.display().to_string(), "");
                return Outcome::Refused(reason);
            }
        };
        for (precision, tolerance) in TOLERANCES {
            let found = match self.execute(&compiled, path, precision) {
                Ok(found) => found,
                Err(error) => return Outcome::Failed(format!("{precision:?}: {error}")),
            };
            let tolerance = match (precision, self.model["tolerance_f32"].as_f64()) {
                (Precision::F32, Some(own)) => own,
                _ => tolerance,
            };
            if let Err(reason) = self.compare(&found, tolerance) {
                return Outcome::Failed(format!("{precision:?}: {reason}"));
            }
        }
        Outcome::Passed
    }

    fn execute(&self, compiled: &Compiled, path: &Path, precision: Precision) -> Result<RunOutcome, String> {
        let weights = ModelWeights::locate(&compiled.graph, &compiled.file, path).map_err(|error| error.to_string())?;
        let options = RunOptions { precision, audit: true, threads: 1, ..Default::default() };
        let mut inputs = tensors(&self.model["graph"]["inputs"]);
        let (_, seed) = entries(&self.model["seed"]).next().unwrap();
        inputs.insert("target".into(), tensor(seed));
        let mut session = Session::new(&compiled.graph, &weights, options);
        session.run(&inputs, &[], &BTreeMap::new(), None).map_err(|error| error.to_string().replace('\n', "; "))
    }

    /// What differences are measured by: the largest expected relevance of any tensor, or what started.
    fn scale(&self) -> f64 {
        let expected = self.expected().flat_map(|(_, tensor)| list(&tensor["data"]));
        let largest = expected.map(|value| number(value).abs()).fold(0.0, f64::max);
        let started = self.explanation["ledger"]["started"].as_f64().unwrap_or(0.0);
        largest.max(started.abs()).max(1e-3)
    }

    fn expected(&self) -> impl Iterator<Item = (&String, &Value)> {
        entries(&self.explanation["relevance"]).chain(entries(&self.explanation["gradient"]))
    }

    fn compare(&self, found: &RunOutcome, tolerance: f64) -> Result<(), String> {
        for (name, expected) in entries(&self.model["output"]) {
            same(found, &format!("output/{name}"), expected, tolerance, 1e-3)?;
        }
        let scale = self.scale();
        for (name, expected) in self.expected() {
            same(found, &format!("relevance/{name}"), expected, tolerance, scale)?;
        }
        let ledger = &self.explanation["ledger"];
        if ledger.is_null() {
            return Ok(());
        }
        let total = found.totals.first().ok_or("there is no ledger")?;
        let arrived: f64 = entries(&ledger["arrived"]).map(|(_, value)| number(value)).sum();
        let absorbed = |kind| total.absorbed.get(&kind).copied().unwrap_or(0.0);
        let terms = [
            ("started", total.started, number(&ledger["started"])),
            ("arrived", total.arrived, arrived),
            ("bias", absorbed(Absorbed::Bias), number(&ledger["bias"])),
            ("stabiliser", absorbed(Absorbed::Stabiliser), number(&ledger["stabiliser"])),
            ("rule", absorbed(Absorbed::Rule), number(&ledger["rule"])),
        ];
        // Sums over elements have their size for a scale.
        let scale = terms.iter().fold(scale, |scale, (_, _, expected)| scale.max(expected.abs()));
        for (term, found, expected) in terms {
            let miss = (found - expected).abs();
            if miss.is_nan() || miss > 4.0 * tolerance * scale {
                return Err(format!("ledger: {term} is {found}, expected {expected}; all: {terms:?}"));
            }
        }
        Ok(())
    }
}

/// Compares a result element by element; an error names the worst.
fn same(found: &RunOutcome, name: &str, expected: &Value, tolerance: f64, scale: f64) -> Result<(), String> {
    let result: &Tensor = found.results.get(name).ok_or_else(|| format!("there is no {name}"))?;
    let wanted: Vec<f64> = list(&expected["data"]).iter().map(number).collect();
    let shape: Vec<usize> = list(&expected["shape"]).iter().map(|size| size.as_u64().unwrap() as usize).collect();
    if result.shape() != shape {
        return Err(format!("{name} has the shape {:?}, expected {shape:?}", result.shape()));
    }
    let scale = wanted.iter().filter(|value| value.is_finite()).fold(scale, |scale, value| scale.max(value.abs()));
    let values = result.to_f64();
    let miss = |(a, b): (&f64, &f64)| if a == b { 0.0 } else { (a - b).abs() };
    let misses = values.iter().zip(&wanted).map(miss).enumerate();
    let worst = misses.max_by(|(_, a), (_, b)| a.total_cmp(b));
    match worst {
        Some((at, miss)) if miss.is_nan() || miss > tolerance * scale => {
            let (index, a, b) = (result.index_of(at), values[at], wanted[at]);
            Err(format!("{name}{index:?} is {a}, expected {b} (off by {:.1e} of {scale:.3})", miss / scale))
        }
        _ => Ok(()),
    }
}

/// All cases, on all cores.
fn outcomes(cases: &[Case]) -> Vec<Outcome> {
    let scratch = tempfile::tempdir().unwrap();
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Outcome)>> = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let (next, done, scratch) = (&next, &done, scratch.path());
            scope.spawn(move || {
                let path = scratch.join(format!("{worker}.onnx"));
                while let Some((at, case)) = next_case(next, cases) {
                    let outcome = case.run(&path);
                    done.lock().unwrap().push((at, outcome));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

fn next_case<'c, 'a>(next: &AtomicUsize, cases: &'c [Case<'a>]) -> Option<(usize, &'c Case<'a>)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    cases.get(at).map(|case| (at, case))
}

/// Names of cases, or what they begin with, each with the word `refused` or `differs` before it: what the compiler does
/// not serve yet, and where it is known to give other numbers.
fn not_served() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(folder().join("not_served.txt")).unwrap();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(' ').map(|(word, name)| (word.into(), name.into())).unwrap()).collect()
}

fn is_listed(case: &Case, name: &str) -> bool {
    case.name == name || case.name.starts_with(&format!("{name}/"))
}

#[test]
fn every_case_is_as_expected() {
    let files = files();
    let mut cases = cases(&files);
    if let Ok(wanted) = std::env::var("RELEVANCE_CASES") {
        cases.retain(|case| case.name.starts_with(&wanted));
    } else {
        assert!(cases.len() >= 1000, "only {} cases", cases.len());
    }
    let list = not_served();
    let mut findings = Vec::new();
    let mut passed = 0;
    for (case, outcome) in cases.iter().zip(outcomes(&cases)) {
        let listed = list.iter().find(|(_, name)| is_listed(case, name)).map(|(word, _)| word.as_str());
        match outcome {
            Outcome::Passed if listed.is_some() => {
                findings.push(format!("{} passes: take it off not_served.txt", case.name));
            }
            Outcome::Passed => passed += 1,
            Outcome::Refused(_) if listed == Some("refused") => {}
            Outcome::Failed(_) if listed == Some("differs") => {}
            Outcome::Refused(reason) => findings.push(format!("{} is refused: {reason}", case.name)),
            Outcome::Failed(reason) => findings.push(format!("{}: {reason}", case.name)),
        }
    }
    let stale = list.iter().filter(|(_, name)| !cases.iter().any(|case| is_listed(case, name)));
    if std::env::var_os("RELEVANCE_CASES").is_none() {
        findings.extend(stale.map(|(_, name)| format!("not_served.txt names {name}, which is no case")));
    }
    assert!(findings.is_empty(), "{passed} of {} cases pass\n{}", cases.len(), findings.join("\n"));
}

/// A case is found by its name: names are unique, and files are named after their operators.
#[test]
fn names_are_unique() {
    let files = files();
    let cases = cases(&files);
    let mut names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    for operator in cases.iter().map(|case| case.operator) {
        assert!(folder().join(format!("cases/{operator}.json")).is_file(), "{operator}");
    }
}
