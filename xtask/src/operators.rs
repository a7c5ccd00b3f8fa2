//! Writes `docs/operators.md`: every operator and what becomes of it.

use std::fmt::Write as _;

use lrpc::onnx::{OperatorEntry, Treatment, operator_table};

const HEAD: &str = "# Operators

What becomes of every operator of ONNX, written from the code by `INSTA_UPDATE=always cargo test --test tidy` (or
`cargo run -p lrpc-xtask -- operators`); a test fails where this file is stale. `lrpc coverage --ops` prints the same.

*Versions* are those in which the definition changed, *from* is the first one that is read. An operator *evaluated at
import* leaves no operation. *Relevance* names the classes of the operations that an operator becomes; rules serve classes
([rules.md](rules.md)). Where it is empty no relevance
passes, as through comparisons and integers; `?` says that no model of one such node was looked at. Uses that are refused
while the operator is not are told when a model has them; `tests/conformance/misses.txt` lists those that ONNX's own tests
meet.
";

/// The document.
pub(crate) fn markdown() -> String {
    let mut out = String::from(HEAD);
    let table = operator_table();
    let mut domains: Vec<&str> = table.iter().map(|one| one.domain.as_str()).collect();
    domains.dedup();
    for domain in domains {
        let name = if domain.is_empty() { "ai.onnx" } else { domain };
        let own: Vec<&OperatorEntry> = table.iter().filter(|one| one.domain == domain).collect();
        let _ = writeln!(out, "\n## {name}\n\n{}\n", counts(&own));
        out.push_str("| operator | versions | from | treatment | relevance | note |\n|---|---|--:|---|---|---|\n");
        own.into_iter().for_each(|operator| row(&mut out, operator));
    }
    out
}

fn counts(operators: &[&OperatorEntry]) -> String {
    let count = |wanted: fn(&Treatment) -> bool| operators.iter().filter(|one| wanted(&one.treatment)).count();
    let (lowered, evaluated, refused) = (
        count(|treatment| matches!(treatment, Treatment::Lowered(_))),
        count(|treatment| matches!(treatment, Treatment::Evaluated(_))),
        count(|treatment| matches!(treatment, Treatment::Refused(_))),
    );
    format!("{} operators: {lowered} lowered, {evaluated} evaluated at import, {refused} refused.", operators.len())
}

fn row(out: &mut String, operator: &OperatorEntry) {
    let versions: Vec<String> = operator.versions.iter().map(i64::to_string).collect();
    let from = operator.treatment.since().map(|since| since.to_string()).unwrap_or_default();
    let note = operator.treatment.reason().unwrap_or_default();
    let (name, word) = (&operator.name, operator.treatment.word());
    let (versions, classes) = (versions.join(", "), operator.classes.join(", "));
    let _ = writeln!(out, "| {name} | {versions} | {from} | {word} | {classes} | {note} |");
}
