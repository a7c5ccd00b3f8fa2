//! What is told of a run: figures, misses, operators.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Case, Conformance, Outcome, Ran};

/// How many passed, of how many, and how many of them with values given when compiling: of the cases as they are, or of those
/// with constants as inputs.
fn passed(found: &Conformance, runtime: bool) -> [usize; 3] {
    let outcomes = found.outcomes.iter().filter(|ran| ran.case.has_runtime_constants() == runtime);
    let (passed, missed): (Vec<&Ran>, Vec<&Ran>) = outcomes.partition(|ran| ran.outcome == Outcome::Passed);
    let given = passed.iter().filter(|ran| !ran.given.is_empty()).count();
    [passed.len(), passed.len() + missed.len(), given]
}

/// The figures.
pub fn summary(found: &Conformance) -> String {
    let mut out = String::new();
    for (what, runtime) in [("cases", false), ("cases with constants as run-time inputs", true)] {
        let [passed, all, given] = passed(found, runtime);
        let percent = 100.0 * passed as f64 / all.max(1) as f64;
        let _ = writeln!(
            out,
            "{what}: {passed} of {all} ({percent:.2} %), {given} of them with inputs given when compiling"
        );
    }
    let count = |wanted: fn(&Outcome) -> bool| found.outcomes.iter().filter(|ran| wanted(&ran.outcome)).count();
    let wrong = count(|outcome| matches!(outcome, Outcome::Wrong(_)));
    let panicked = count(|outcome| matches!(outcome, Outcome::Panicked(_)));
    let _ = writeln!(out, "wrong answers: {wrong}, panics: {panicked}");
    let foreign: Vec<String> = found.foreign.iter().map(|(ty, count)| format!("{ty} {count}")).collect();
    let _ = writeln!(out, "of other types: {} ({})", found.foreign.values().sum::<usize>(), foreign.join(", "));
    out
}

/// The operator that a case is a miss of: the one that is refused, or the only one of the model.
fn blamed(case: &Case, outcome: &Outcome) -> String {
    match (outcome, case.operators.as_slice()) {
        (Outcome::Refused { operator: Some(operator), .. }, _) | (_, [operator]) => operator.clone(),
        (_, operators) => format!("({})", operators.join(" ")),
    }
}

/// The misses by operator and reason, the most frequent first.
pub fn by_operator(found: &Conformance) -> String {
    let mut groups: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for Ran { case, outcome, .. } in &found.outcomes {
        if let Some(reason) = outcome.reason() {
            groups.entry((blamed(case, outcome), reason)).or_default().push(&case.name);
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(key, names)| (std::cmp::Reverse(names.len()), key.clone()));
    let line = |((operator, reason), names): ((String, String), Vec<&str>)| {
        format!("{:4}  {operator}: {reason}; {}\n", names.len(), names.first().copied().unwrap_or_default())
    };
    groups.into_iter().map(line).collect()
}

/// The list of misses as it is checked in: the figures, then a line `CASE  REASON` for each, in the order of names.
pub fn misses(found: &Conformance) -> String {
    let head = format!(
        "Backend tests of onnx {} that are missed, and why. README.md tells how this is written.\n",
        found.onnx
    );
    let figures: String = summary(found).lines().map(|line| format!("# {line}\n")).collect();
    let line = |ran: &Ran| Some(format!("{}  {}\n", ran.case.name, ran.outcome.reason()?));
    let lines: String = found.outcomes.iter().filter_map(line).collect();
    format!("# {head}{figures}\n{lines}")
}

/// Everything, for programs.
pub fn json(found: &Conformance) -> Value {
    let cases = found.outcomes.iter().map(|Ran { case, outcome, given }| {
        json!({ "name": case.name, "operators": case.operators, "passed": *outcome == Outcome::Passed,
                "wrong": matches!(outcome, Outcome::Wrong(_) | Outcome::Panicked(_)), "reason": outcome.reason(), "given": given })
    });
    json!({ "onnx": found.onnx, "foreign": found.foreign, "cases": cases.collect::<Vec<_>>() })
}
