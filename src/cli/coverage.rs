//! `lrpc coverage`: which rule serves which operation, and what has none.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::flags::{Format, WeightFlags};
use super::output;
use crate::compile::composites;
use crate::coverage::{Coverage, Treatment, coverage};
use crate::error::{Error, Status};
use crate::render::{Align, Table};

/// Show which operations of models have a rule; exit status 1 below 100 %
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// ONNX models
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// Rules as for `compile`
    #[arg(long, value_name = "NAME|FILE.toml|auto", default_value = "auto")]
    rules: Vec<String>,
    #[command(flatten)]
    weights: WeightFlags,
    /// Form of the report
    #[arg(long, default_value = "text")]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> Result<Status, Error> {
    // Rules that are not there are told once and not for each model.
    composites(&arguments.rules)?;
    let import = arguments.weights.import();
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
        None => format!("{served} of {all} operations served ({percent:.1} %)"),
    };
    format!("{}\n{note}{table}{total}\n", model.display())
}

fn report_json(model: &Path, coverage: &Coverage) -> Value {
    let kinds = coverage.kinds.iter().map(|(kind, count)| {
        let (rule, note) = words(&kind.treatment);
        let missing = matches!(kind.treatment, Treatment::Missing(_));
        json!({ "op": kind.op, "count": count, "class": kind.class, "composite": kind.composite,
                "rule": (!missing && rule != "-").then_some(rule), "note": note, "missing": missing })
    });
    let (served, all) = coverage.served();
    json!({ "model": model.to_string_lossy(), "served": served, "operations": all, "note": coverage.note,
            "warnings": output::warnings_json(&coverage.warnings),
            "rules_asked": coverage.model_nodes.is_none(), "kinds": kinds.collect::<Vec<_>>() })
}
