//! Runs the backend tests of ONNX that `tests/conformance/cases.py` has written into a folder.

pub mod case;
mod compare;
pub mod report;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

pub use case::{Case, Outcome, Ran};

/// The cases of a folder, and what became of them.
#[derive(Debug, Default)]
pub struct Conformance {
    /// The version of onnx that the cases are of.
    pub onnx: String,
    /// Cases that were run, in the order of their names.
    pub outcomes: Vec<Ran>,
    /// How many cases are of types that are not supported, by type; a case counts for the first of its types.
    pub foreign: BTreeMap<String, usize>,
}

/// Runs the cases in `folder` whose name matches `only`, on all processors.
///
/// # Errors
/// A folder without list, and a list that cannot be read.
pub fn run(folder: &Path, only: &str) -> Result<Conformance, String> {
    let path = folder.join("cases.json");
    let text = std::fs::read_to_string(&path).map_err(|error| {
        format!("{}: {error}; write it with `python3 tests/conformance/cases.py FOLDER`", path.display())
    })?;
    let list: Value = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut found = Conformance { onnx: list["onnx"].as_str().unwrap_or_default().into(), ..Conformance::default() };
    let mut cases = Vec::new();
    for entry in list["cases"].as_array().into_iter().flatten() {
        let case = Case::of(entry).ok_or_else(|| format!("{}: an entry is not complete: {entry}", path.display()))?;
        if let Some(ty) = case.foreign.first() {
            *found.foreign.entry(ty.clone()).or_default() += 1;
            continue;
        }
        let runtime = entry["runtime"].as_bool().unwrap_or_default().then(|| case.with_runtime_constants());
        let wanted = |case: &Case| lrpc_passes::names::matches(only, &case.name);
        cases.extend([Some(case), runtime].into_iter().flatten().filter(wanted));
    }
    found.outcomes = in_parallel(folder, cases);
    Ok(found)
}

/// The outcomes of all cases, in their order.
fn in_parallel(folder: &Path, cases: Vec<Case>) -> Vec<Ran> {
    // A panic is an outcome here, and no message.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(at) else { break };
                    let outcome = case.run(folder);
                    outcomes.lock().unwrap_or_else(PoisonError::into_inner).insert(at, outcome);
                }
            });
        }
    });
    std::panic::set_hook(hook);
    let outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    let ran = |(case, (outcome, given))| Ran { case, outcome, given };
    cases.into_iter().zip(outcomes.into_values()).map(ran).collect()
}
