//! `lrpc inspect`: what a graph file holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use lrpc_ir::graph::{Chosen, NodeId, Region, RuleChoice};
use lrpc_ir::{Diagnostic, Graph, text};
use lrpc_passes::bind;
use serde_json::{Value as Json, json};

use super::dot;
use super::flags::BindFlags;
use super::output;
use super::plan::{bound, request, statistics_json};
use super::promises;
use crate::error::{Error, Status};
use crate::graph_file::load_graph;
use crate::render::{Align, LINE, Table, wrap};

/// Form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// The graph's own language, or tables.
    Text,
    /// A drawing for Graphviz.
    Dot,
    /// For programs.
    Json,
}

/// Show a relevance graph, whole or in part
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The graph file
    graph: PathBuf,
    /// One value: its line, its operands and its users
    #[arg(long, value_name = "NAME", group = "part")]
    node: Option<String>,
    /// What of the forward region relevance needs, how each strategy keeps it, and what that takes
    #[arg(long, group = "part")]
    promises: bool,
    /// Numbers of nodes by region and operation
    #[arg(long, group = "part")]
    stats: bool,
    /// The plan at the sizes given by --dim
    #[arg(long, group = "part")]
    plan: bool,
    /// The composites, which rule each operation got and which entry chose it, and what rules absorb
    #[arg(long, group = "part")]
    rules: bool,
    #[command(flatten)]
    bind: BindFlags,
    /// Form of the answer
    #[arg(long, default_value = "text")]
    format: Form,
}

pub(super) fn run(arguments: &Arguments) -> Result<Status, Error> {
    if let (Form::Dot, Some(part)) = (arguments.format, part(arguments)) {
        let message = format!("--format dot draws the whole graph, and {part} asks for another view");
        return Err(Diagnostic::request(message).help(format!("leave {part} out, or choose text or json")).into());
    }
    if arguments.bind.audit && !arguments.plan && !arguments.promises {
        let message = "--audit changes the plan and the promises alone";
        return Err(Diagnostic::request(message).help("give it with --plan or --promises, or to `lrpc run`").into());
    }
    let graph = load_graph(&arguments.graph)?.graph;
    let answer = match arguments {
        Arguments { node: Some(name), .. } => one_node(&graph, name)?,
        Arguments { promises: true, .. } => {
            let report = bind::promises(&graph, &request(&arguments.bind))?;
            Answer { text: promises::text(&report), json: promises::json(&report) }
        }
        Arguments { stats: true, .. } => statistics(&graph),
        Arguments { rules: true, .. } => rules(&graph),
        Arguments { plan: true, .. } => {
            let plan = bound(&graph, &arguments.bind)?;
            Answer { text: bind::print_plan(&plan), json: statistics_json(&plan, &bind::statistics(&plan)) }
        }
        _ => whole(&graph),
    };
    let text = match arguments.format {
        Form::Text => answer.text,
        Form::Json => format!("{}\n", answer.json),
        Form::Dot => dot::print(&graph),
    };
    output::data(text.as_bytes())?;
    Ok(Status::Good)
}

/// The flag that asks for another view than the whole graph.
fn part(arguments: &Arguments) -> Option<&'static str> {
    let Arguments { node, promises, stats, plan, rules, .. } = arguments;
    let flags = [
        (node.is_some(), "--node"),
        (*promises, "--promises"),
        (*stats, "--stats"),
        (*plan, "--plan"),
        (*rules, "--rules"),
    ];
    flags.into_iter().find(|(given, _)| *given).map(|(_, flag)| flag)
}

/// An answer in both forms.
struct Answer {
    text: String,
    json: Json,
}

fn node_json(graph: &Graph, node: NodeId) -> Json {
    let content = graph.node(node);
    let operands: Vec<&str> = graph.operands(node).into_iter().map(|operand| graph.name(operand)).collect();
    let types: Vec<String> = content.types().iter().map(ToString::to_string).collect();
    let names: Vec<&str> = content.names().iter().map(AsRef::as_ref).collect();
    json!({
        "names": names, "op": content.op.mnemonic(), "attributes": content.op.attributes().to_string(),
        "operands": operands, "types": types, "region": content.region.name(),
        "from": content.origin.from.as_deref(), "by": content.origin.by.as_deref(),
    })
}

fn whole(graph: &Graph) -> Answer {
    let nodes: Vec<Json> = graph.order().into_iter().map(|node| node_json(graph, node)).collect();
    let model = graph.model.as_ref().map(
        |model| json!({ "path": model.path, "bytes": model.bytes, "structure": format!("sha256:{}", model.structure) }),
    );
    let results: BTreeMap<&str, &str> =
        graph.results.iter().map(|result| (result.name.as_str(), graph.name(result.value))).collect();
    let json = json!({ "model": model, "rules": composites_json(graph), "nodes": nodes, "results": results,
                       "ledger": ledger_json(graph) });
    Answer { text: text::print(graph), json }
}

fn one_node(graph: &Graph, wanted: &str) -> Result<Answer, Error> {
    let bare = wanted.trim_start_matches(['%', '@']);
    let value = graph.find(wanted).or_else(|| graph.find(bare)).ok_or_else(|| unknown_value(graph, bare))?;
    let mut text = format!("{}\n", text::print_node(graph, value.node));
    let mut lines = |title: &str, nodes: Vec<NodeId>| {
        if !nodes.is_empty() {
            let _ = writeln!(text, "{title}");
        }
        for node in nodes {
            let _ = writeln!(text, "  {}", text::print_node(graph, node));
        }
    };
    lines("operands", graph.operands(value.node).into_iter().map(|operand| operand.node).collect());
    let mut users: Vec<NodeId> = graph.users(value).into_iter().map(|(user, _)| user).collect();
    users.dedup();
    let user_names: Vec<&str> = users.iter().map(|&user| graph.name(user.into())).collect();
    let results: Vec<&str> =
        graph.results.iter().filter(|result| result.value == value).map(|result| result.name.as_str()).collect();
    let json = json!({ "node": node_json(graph, value.node), "users": user_names, "results": results });
    lines("users", users);
    results.iter().for_each(|result| text.push_str(&format!("result \"{result}\"\n")));
    Ok(Answer { text, json })
}

fn unknown_value(graph: &Graph, wanted: &str) -> Diagnostic {
    let order = graph.order();
    let names = order.iter().map(|&node| graph.name(node.into()));
    let alike: Vec<&str> = names.filter(|name| name.contains(wanted) || wanted.contains(name)).take(5).collect();
    let error = Diagnostic::request(format!("the graph has no value `{wanted}`"));
    if alike.is_empty() { error } else { error.help(format!("similar names: {}", alike.join(", "))) }
}

fn statistics(graph: &Graph) -> Answer {
    let mut counts: BTreeMap<&str, BTreeMap<Region, usize>> = BTreeMap::new();
    let mut totals: BTreeMap<Region, usize> = BTreeMap::new();
    for node in graph.order() {
        let content = graph.node(node);
        *counts.entry(content.op.mnemonic()).or_default().entry(content.region).or_insert(0) += 1;
        *totals.entry(content.region).or_insert(0) += 1;
    }
    let regions = [Region::Header, Region::Prepare, Region::Forward, Region::Relevance];
    let mut columns = vec![("operation", Align::Left)];
    columns.extend(regions.map(|region| (region.name(), Align::Right)));
    let mut table = Table::new(&columns);
    let row = |name: &str, of: &BTreeMap<Region, usize>| {
        let cells = regions.iter().map(|region| of.get(region).map_or(String::new(), ToString::to_string));
        std::iter::once(name.to_string()).chain(cells).collect::<Vec<_>>()
    };
    counts.iter().for_each(|(op, of)| table.row(row(op, of)));
    table.row(row("all", &totals));
    let by_name = |of: &BTreeMap<Region, usize>| -> BTreeMap<&str, usize> {
        of.iter().map(|(region, count)| (region.name(), *count)).collect()
    };
    let operations: BTreeMap<&str, _> = counts.iter().map(|(op, of)| (*op, by_name(of))).collect();
    let lines = graph.ledger.iter().filter(|line| !line.is_total()).count();
    let json = json!({ "operations": operations, "nodes": by_name(&totals), "ledger_lines": lines });
    Answer { text: format!("{table}{lines} ledger lines\n"), json }
}

fn composites_json(graph: &Graph) -> Vec<Json> {
    let composites = graph.composites.iter();
    composites.map(|one| json!({ "rules": one.rules, "carrier": one.carrier, "because": one.because })).collect()
}

fn ledger_json(graph: &Graph) -> Vec<Json> {
    let lines = graph.ledger.iter().filter(|line| !line.is_total());
    lines.map(|line| json!({ "site": line.site, "rule": line.rule })).collect()
}

/// The entry that chose a rule: `entry 1 of epsilon-plus: op=conv class=linear`.
fn why(graph: &Graph, name: &str) -> String {
    let (of, number) = name.rsplit_once(' ').unwrap_or((name, ""));
    let text = graph.entries.iter().find(|entry| entry.name == name).map_or("", |entry| entry.text.as_str());
    let selects = text.split(" → ").next().unwrap_or_default();
    format!("entry {number} of {of}: {selects}")
}

fn rules(graph: &Graph) -> Answer {
    let mut text = String::new();
    for composite in &graph.composites {
        for line in wrap(&format!("{} carrier={}", composite.rules, composite.carrier), LINE) {
            let _ = writeln!(text, "{line}");
        }
        if let Some(why) = &composite.because {
            let _ = writeln!(text, "  chosen by --rules auto: {why}");
        }
    }
    let left = |name| (name, Align::Left);
    let mut table = Table::new(&[left("operation"), left("op"), left("rule"), left("why")]);
    let mut choices = Vec::new();
    for RuleChoice { site, op, chosen } in &graph.choices {
        let (rule, why) = match chosen {
            Chosen::Rule { rule, entry } => (rule.as_str(), why(graph, entry)),
            Chosen::Nothing(reason) => ("-", format!("nothing flows: {reason}")),
        };
        choices.push(match chosen {
            Chosen::Rule { rule, entry } => {
                let text = graph.entries.iter().find(|one| one.name == *entry).map(|one| one.text.as_str());
                json!({ "site": site, "op": op, "rule": rule, "entry": entry, "text": text, "why": why })
            }
            Chosen::Nothing(reason) => json!({ "site": site, "op": op, "rule": null, "nothing_flows": reason }),
        });
        table.row([site.clone(), op.clone(), rule.to_string(), why]);
    }
    if !table.is_empty() {
        let _ = write!(text, "\n{}", table.fitted(LINE));
    }
    let absorbed = absorbed_by(graph);
    if !absorbed.is_empty() {
        let _ = write!(text, "\n{}", absorbed.fitted(LINE));
    }
    let json = json!({ "rules": composites_json(graph), "choices": choices, "ledger": ledger_json(graph) });
    Answer { text, json }
}

/// What each rule may absorb, and at how many operations.
fn absorbed_by(graph: &Graph) -> Table {
    let mut counts: BTreeMap<(&str, Vec<&str>), usize> = BTreeMap::new();
    for line in graph.ledger.iter().filter(|line| !line.is_total()) {
        let kinds: BTreeSet<&str> = line.absorbed.iter().map(|(kind, _)| kind.name()).collect();
        *counts.entry((&line.rule, kinds.into_iter().collect())).or_insert(0) += 1;
    }
    let mut table = Table::new(&[("rule", Align::Left), ("operations", Align::Right), ("absorbs", Align::Left)]);
    for ((rule, kinds), count) in counts {
        let kinds = if kinds.is_empty() { "nothing".into() } else { kinds.join(", ") };
        table.row([rule.to_string(), count.to_string(), kinds]);
    }
    table
}
