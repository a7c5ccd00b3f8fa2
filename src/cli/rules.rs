//! `lrpc rules`: the rule book, as the code states it.

use clap::Args;
use lrpc_ir::Diagnostic;
use lrpc_passes::relevance::composite::{COMPOSITES, Composite};
use lrpc_passes::rules::{self, RULES, RuleDef};
use serde_json::{Value, json};

use super::flags::Format;
use super::output;
use crate::error::{Error, Status};
use crate::render::{Align, Table};

/// Show the rules and composites that come with the program
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// One rule or composite, in full
    name: Option<String>,
    /// List composites instead of rules
    #[arg(long)]
    composites: bool,
    /// Form of the report
    #[arg(long, default_value = "text")]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> Result<Status, Error> {
    let text = match (&arguments.name, arguments.composites) {
        (Some(name), _) => one(name, arguments.format)?,
        (None, true) => composite_list(arguments.format)?,
        (None, false) => rule_list(arguments.format),
    };
    output::data(text.as_bytes())?;
    Ok(Status::Good)
}

fn one(name: &str, format: Format) -> Result<String, Error> {
    if let Some(rule) = rules::find(name) {
        return Ok(match format {
            Format::Text => format!("{}\n\n{}\n\n{}", rule.name, rule.doc.trim(), parameters(rule)),
            Format::Json => format!("{}\n", rule_json(rule)),
        });
    }
    if let Some((name, toml)) = COMPOSITES.iter().find(|(candidate, _)| *candidate == name) {
        return Ok(match format {
            Format::Text => toml.to_string(),
            Format::Json => format!("{}\n", composite_json(&Composite::named(name)?)),
        });
    }
    let names: Vec<&str> = RULES.iter().map(|rule| rule.name).chain(COMPOSITES.iter().map(|(name, _)| *name)).collect();
    Err(Diagnostic::request(format!("there is no rule or composite `{name}`"))
        .help(format!("there are {}", names.join(", ")))
        .into())
}

fn parameters(rule: &RuleDef) -> String {
    let mut table = Table::new(&[("parameter", Align::Left), ("default", Align::Left), ("meaning", Align::Left)]);
    for parameter in rule.parameters {
        table.row([parameter.name.to_string(), (parameter.default)().to_string(), parameter.doc.to_string()]);
    }
    if table.is_empty() { "no parameters\n".into() } else { table.to_string() }
}

/// When a rule is used: the first line under that heading of its documentation.
fn summary(rule: &RuleDef) -> &'static str {
    rule.doc.lines().skip_while(|line| *line != "# Use when").nth(1).unwrap_or_default()
}

fn rule_list(format: Format) -> String {
    if format == Format::Json {
        return format!("{}\n", Value::from(RULES.iter().map(rule_json).collect::<Vec<_>>()));
    }
    let mut table = Table::new(&[("rule", Align::Left), ("serves", Align::Left), ("use when", Align::Left)]);
    for rule in RULES {
        table.row([rule.name.to_string(), rule.classes.join(", "), summary(rule).to_string()]);
    }
    table.to_string()
}

fn composite_list(format: Format) -> Result<String, Error> {
    let composites = COMPOSITES.iter().map(|(name, _)| Composite::named(name));
    let composites = composites.collect::<Result<Vec<_>, _>>()?;
    if format == Format::Json {
        return Ok(format!("{}\n", Value::from(composites.iter().map(composite_json).collect::<Vec<_>>())));
    }
    let mut table = Table::new(&[("composite", Align::Left), ("carrier", Align::Left), ("", Align::Left)]);
    for composite in &composites {
        table.row([composite.signature(), composite.carrier.name().to_string(), composite.doc.clone()]);
    }
    Ok(table.to_string())
}

fn rule_json(rule: &RuleDef) -> Value {
    let parameters = rule.parameters.iter().map(|parameter| {
        json!({ "name": parameter.name, "default": (parameter.default)().to_string(), "doc": parameter.doc })
    });
    json!({ "name": rule.name, "classes": rule.classes, "doc": rule.doc.trim(),
            "parameters": parameters.collect::<Vec<_>>() })
}

fn composite_json(composite: &Composite) -> Value {
    let parameters: std::collections::BTreeMap<&str, String> =
        composite.parameters.iter().map(|(name, value)| (name.as_str(), value.to_string())).collect();
    json!({ "name": composite.name, "doc": composite.doc, "carrier": composite.carrier.name(), "parameters": parameters })
}
