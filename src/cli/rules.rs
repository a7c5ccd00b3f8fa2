//! `lrpc rules`: the rule book, as the code states it.

use std::fmt::Write as _;

use clap::Args;
use lrpc_ir::Diagnostic;
use lrpc_passes::names::suggestion;
use lrpc_passes::relevance::composite::{COMPOSITES, Composite};
use lrpc_passes::rules::{self, RULES, RuleDef};
use serde_json::{Value, json};

use super::flags::Format;
use super::output;
use crate::compile::{composite_file, composites};
use crate::error::{Error, Status};
use crate::render::{Align, LINE, Table, wrap};

/// Show the rules and composites that come with the program
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// One rule or composite, in full; a file that ends in .toml is read as a composite, with what it inherits
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
            Format::Text => rule_text(rule),
            Format::Json => format!("{}\n", rule_json(rule)),
        });
    }
    if let Some((name, toml)) = COMPOSITES.iter().find(|(candidate, _)| *candidate == name) {
        let composite = Composite::named(name)?;
        return Ok(match format {
            Format::Text => format!(
                "{}\nThe file, from which a composite of your own may start:\n\n{toml}",
                composite_text(&composite)
            ),
            Format::Json => format!("{}\n", composite_json(&composite)),
        });
    }
    if composite_file(name).is_some() {
        let files = composites(&[name.to_string()])?;
        return Ok(match format {
            Format::Text => files.iter().map(composite_text).collect(),
            Format::Json => files.iter().map(|composite| format!("{}\n", composite_json(composite))).collect(),
        });
    }
    let names = RULES.iter().map(|rule| rule.name).chain(COMPOSITES.iter().map(|(name, _)| *name));
    let error = Diagnostic::request(format!("there is no rule or composite `{name}`"));
    Err(error.help(suggestion(name, names)).into())
}

fn rule_text(rule: &RuleDef) -> String {
    let mut text = wrap(&format!("{}, serves {}", rule.name, rule.classes.join(", ")), LINE).join("\n");
    text.push('\n');
    for (heading, body) in rule.sections() {
        let _ = writeln!(text, "\n{heading}");
        wrap(body, LINE - 2).iter().for_each(|line| text.push_str(&format!("  {line}\n")));
    }
    let mut table = Table::new(&[("parameter", Align::Left), ("default", Align::Left), ("meaning", Align::Left)]);
    for parameter in rule.parameters {
        table.row([parameter.name.to_string(), (parameter.default)().to_string(), parameter.doc.to_string()]);
    }
    if !table.is_empty() {
        let _ = write!(text, "\n{}", table.fitted(LINE));
    }
    text
}

fn composite_text(composite: &Composite) -> String {
    let mut text = format!("{}, carried as {}\n", composite.name, composite.carrier.name());
    let mut paragraph =
        |words: &str| wrap(words, LINE - 2).iter().for_each(|line| text.push_str(&format!("  {line}\n")));
    paragraph(&composite.doc);
    let parameters: Vec<String> = composite.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if !parameters.is_empty() {
        paragraph(&format!("Parameters: {}", parameters.join(", ")));
    }
    let columns = ["entry", "selects", "rule", "with"].map(|name| (name, Align::Left));
    let mut table = Table::new(&columns);
    for entry in composite.entries() {
        table.row([format!("{} {}", entry.of, entry.number), entry.selects, entry.rule, entry.with]);
    }
    let _ = write!(text, "\n{}", table.fitted(LINE));
    text
}

fn rule_list(format: Format) -> String {
    if format == Format::Json {
        return format!("{}\n", Value::from(RULES.iter().map(rule_json).collect::<Vec<_>>()));
    }
    let mut table = Table::new(&[("rule", Align::Left), ("serves", Align::Left), ("use when", Align::Left)]);
    for rule in RULES {
        table.row([rule.name.to_string(), rule.classes.join(", "), rule.section("Use when").replace('\n', " ")]);
    }
    table.fitted(LINE).to_string()
}

fn composite_list(format: Format) -> Result<String, Error> {
    let composites = COMPOSITES.iter().map(|(name, _)| Composite::named(name));
    let composites = composites.collect::<Result<Vec<_>, _>>()?;
    if format == Format::Json {
        return Ok(format!("{}\n", Value::from(composites.iter().map(composite_json).collect::<Vec<_>>())));
    }
    let columns = ["composite", "carrier", "what it is"].map(|name| (name, Align::Left));
    let mut table = Table::new(&columns);
    for composite in &composites {
        table.row([composite.signature(), composite.carrier.name().to_string(), composite.doc.clone()]);
    }
    Ok(table.fitted(LINE).to_string())
}

fn rule_json(rule: &RuleDef) -> Value {
    let parameters = rule.parameters.iter().map(|parameter| {
        json!({ "name": parameter.name, "default": (parameter.default)().to_string(), "doc": parameter.doc })
    });
    let sections: serde_json::Map<String, Value> =
        rule.sections().into_iter().map(|(heading, body)| (heading.to_string(), body.into())).collect();
    json!({ "name": rule.name, "classes": rule.classes, "doc": rule.doc.trim(), "sections": sections,
            "parameters": parameters.collect::<Vec<_>>() })
}

fn composite_json(composite: &Composite) -> Value {
    let parameters: std::collections::BTreeMap<&str, String> =
        composite.parameters.iter().map(|(name, value)| (name.as_str(), value.to_string())).collect();
    let entries = composite.entries().into_iter().map(|entry| {
        json!({ "of": entry.of, "number": entry.number, "selects": entry.selects, "rule": entry.rule,
                "with": entry.with })
    });
    json!({ "name": composite.name, "doc": composite.doc, "carrier": composite.carrier.name(),
            "parameters": parameters, "entries": entries.collect::<Vec<_>>() })
}
