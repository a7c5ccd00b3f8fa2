//! `lrpc coverage`: which rule serves which operation, and what has none.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::flags::{Format, ImportFlags};
use super::output;
use crate::compile::composites;
use crate::coverage::{Coverage, Treatment, coverage};
use crate::error::{Error, Status};
use crate::onnx::{OperatorEntry, operator_table};
use crate::render::{Align, Table};

/// Show which operations of models have a rule; exit status 1 below 100 %
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// ONNX models
    #[arg(required_unless_present = "ops")]
    models: Vec<PathBuf>,
    /// Rules as for `compile`
    #[arg(long, value_name = "NAME|FILE.toml|auto", default_value = "auto")]
    rules: Vec<String>,
    #[command(flatten)]
    import: ImportFlags,
    /// Show what becomes of every operator of ONNX instead
    #[arg(long, conflicts_with = "models")]
    ops: bool,
    /// Form of the report
    #[arg(long, default_value = "text")]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> Result<Status, Error> {
    if arguments.ops {
        return operators(arguments.format);
    }
    // Rules that are not there are told once and not for each model.
    composites(&arguments.rules)?;
    let import = arguments.import.options()?;
    let mut status = Status::Good;
    let mut reports = Vec::new();
    for model in &arguments.models {
        // A model that is refused does not keep the others from being looked at.
        match coverage(model, &arguments.rules, &import) {
            Ok(found) => {
                let (served, all) = found.served();
                if (served < all || found.note.is_some()) && status == Status::Good {
                    status = Status::Finding;
                }
                output::warnings(&found.warnings);
                match arguments.format {
                    Format::Text => output::data(text(model, &found).as_bytes())?,
                    Format::Json => reports.push(report_json(model, &found)),
                }
            }
            Err(error) => {
                output::error(&error);
                output::message(&format!("  model {}: not looked at", model.display()));
                status = worse(status, error.status());
                reports.push(json!({ "model": model.to_string_lossy(), "error": error.to_string() }));
            }
        }
    }
    if arguments.format == Format::Json {
        output::data(format!("{}\n", Value::from(reports)).as_bytes())?;
    }
    Ok(status)
}

/// What becomes of every operator of ONNX.
fn operators(format: Format) -> Result<Status, Error> {
    let table = operator_table();
    let text = match format {
        Format::Text => operators_text(&table),
        Format::Json => format!("{}\n", Value::from(table.iter().map(operator_json).collect::<Vec<_>>())),
    };
    output::data(text.as_bytes())?;
    Ok(Status::Good)
}

fn operators_text(table: &[OperatorEntry]) -> String {
    let left = ["operator", "from", "treatment", "relevance", ""].map(|name| (name, Align::Left));
    let mut shown = Table::new(&left);
    for one in table {
        let name = if one.domain.is_empty() { one.name.clone() } else { format!("{}.{}", one.domain, one.name) };
        let from = one.treatment.since().map(|since| since.to_string()).unwrap_or_default();
        let reason = one.treatment.reason().unwrap_or_default().to_string();
        shown.row([name, from, one.treatment.word().into(), one.classes.join(", "), reason]);
    }
    shown.to_string()
}

fn operator_json(one: &OperatorEntry) -> Value {
    let domain = if one.domain.is_empty() { "ai.onnx" } else { &one.domain };
    json!({ "operator": one.name, "domain": domain, "versions": one.versions, "treatment": one.treatment.word(),
            "since": one.treatment.since(), "reason": one.treatment.reason(), "classes": one.classes })
}

/// The graver of two: statuses are ordered by number, but a refused file comes before a model without rules.
fn worse(one: Status, other: Status) -> Status {
    if one as u8 >= other as u8 { one } else { other }
}

fn words(treatment: &Treatment) -> (String, String) {
    match treatment {
        Treatment::Rule(rule) => (rule.clone(), String::new()),
        Treatment::Nothing(reason) => ("-".into(), format!("nothing flows: {reason}")),
        Treatment::Missing(reason) => ("MISSING".into(), reason.clone()),
    }
}

fn text(model: &Path, coverage: &Coverage) -> String {
    let columns = [
        ("operation", Align::Left),
        ("count", Align::Right),
        ("class", Align::Left),
        ("rule", Align::Left),
        ("", Align::Left),
    ];
    let mut table = Table::new(&columns);
    for (kind, count) in &coverage.kinds {
        let (rule, note) = words(&kind.treatment);
        table.row([kind.op.clone(), count.to_string(), kind.class.clone(), rule, note]);
    }
    let (served, all) = coverage.served();
    let percent = if all == 0 { 100.0 } else { 100.0 * served as f64 / all as f64 };
    let note = coverage.note.as_ref().map_or(String::new(), |note| format!("{note}\n"));
    let total = match coverage.model_nodes {
        Some(_) => format!("{served} of {all} nodes of the model are supported ({percent:.1} %)"),
        None => format!("{served} of {all} operations served ({percent:.1} %){}", opaque(coverage)),
    };
    format!("{}\n{note}{table}{total}\n", model.display())
}

/// How many operations pass nothing on, where there are such.
fn opaque(coverage: &Coverage) -> String {
    match coverage.opaque() {
        0 => String::new(),
        count => format!(", {count} of them pass nothing on"),
    }
}

fn report_json(model: &Path, coverage: &Coverage) -> Value {
    let kinds = coverage.kinds.iter().map(|(kind, count)| {
        let (rule, note) = words(&kind.treatment);
        let missing = matches!(kind.treatment, Treatment::Missing(_));
        json!({ "op": kind.op, "count": count, "class": kind.class, "composite": kind.composite,
                "rule": (!missing && rule != "-").then_some(rule), "note": note, "missing": missing })
    });
    let (served, all) = coverage.served();
    json!({ "model": model.to_string_lossy(), "served": served, "operations": all, "opaque": coverage.opaque(), "note": coverage.note,
            "warnings": output::warnings_json(&coverage.warnings),
            "rules_asked": coverage.model_nodes.is_none(), "kinds": kinds.collect::<Vec<_>>() })
}
