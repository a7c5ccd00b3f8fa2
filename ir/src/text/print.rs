//! Graph to text.

use std::fmt::Write;

use super::{is_bare, quoted, symbol};
use crate::graph::{Chosen, Graph, LedgerLine, NodeId, Region, RuleChoice, Value};
use crate::ops::source::LiteralValues;
use crate::ops::{Control, Literal, Op, Source, WeightPlace};

/// The canonical text: the file format.
pub fn print(graph: &Graph) -> String {
    annotated(graph, &|_| None)
}

/// The canonical text with a comment behind each node for which `comment` has one. It parses to the same graph.
pub fn annotated(graph: &Graph, comment: &dyn Fn(NodeId) -> Option<String>) -> String {
    let mut out = String::from("lrpc 1\n");
    if let Some(model) = &graph.model {
        let line =
            format!("model {} bytes={} structure=sha256:{}\n", quoted(&model.path), model.bytes, model.structure);
        out.push_str(&line);
    }
    for composite in &graph.composites {
        out.push_str(&format!("rules {} carrier={}", composite.rules, composite.carrier));
        if let Some(because) = &composite.because {
            out.push_str(&format!(" because {}", quoted(because)));
        }
        out.push('\n');
    }
    for entry in &graph.entries {
        out.push_str(&format!("entry {} {}\n", quoted(&entry.name), quoted(&entry.text)));
    }
    for repeat in &graph.repeats {
        let results: Vec<String> = repeat.results.iter().map(|name| quoted(name)).collect();
        out.push_str(&format!("repeat {} count={} {}\n", named('%', &repeat.step), repeat.count, results.join(" ")));
    }
    for condition in &graph.conditions {
        out.push_str(&format!("condition {}\n", quoted(condition)));
    }
    for measure in &graph.measures {
        out.push_str(&format!("dim {} = {}\n", symbol(&measure.symbol), value(graph, measure.value)));
    }
    Printer { graph, comment, indent: 0, out }.body()
}

/// One node as its line of the canonical text.
pub fn print_node(graph: &Graph, node: NodeId) -> String {
    let mut printer = Printer { graph, comment: &|_| None, indent: 0, out: String::new() };
    printer.node(node);
    printer.out.trim_end().into()
}

/// The value's name with its sigil: `@` for weights, `%` for all others.
pub fn value(graph: &Graph, value: Value) -> String {
    let sigil = if matches!(graph.node(value.node).op, Op::Source(Source::Weight(..))) { '@' } else { '%' };
    named(sigil, graph.name(value))
}

fn named(sigil: char, name: &str) -> String {
    if !name.is_empty() && name.chars().all(is_bare) {
        format!("{sigil}{name}")
    } else {
        format!("{sigil}{}", quoted(name))
    }
}

struct Printer<'a> {
    graph: &'a Graph,
    comment: &'a dyn Fn(NodeId) -> Option<String>,
    indent: usize,
    out: String,
}

impl Printer<'_> {
    fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{:width$}{text}", "", width = self.indent);
    }

    fn value(&self, at: Value) -> String {
        value(self.graph, at)
    }

    fn values(&self, values: &[Value]) -> String {
        values.iter().map(|&at| self.value(at)).collect::<Vec<_>>().join(", ")
    }

    /// Weights, inputs, regions, choices of rules, ledger and results.
    fn body(mut self) -> String {
        for (_, weight) in self.graph.weights() {
            if let Op::Source(Source::Weight(place, ty)) = &self.graph.node(weight.node).op {
                let sidecar = if *place == WeightPlace::Sidecar { " in sidecar" } else { "" };
                self.line(&format!("weight {} : {ty}{sidecar}", self.value(weight)));
            }
        }
        for input in self.graph.inputs() {
            let default = self.graph.operand(input.node, 0);
            let default = default.map_or(String::new(), |default| format!(" = {}", self.value(default)));
            self.line(&format!("input {} : {}{default}", self.value(input), self.graph.ty(input)));
        }
        let mut region = Region::Header;
        for node in self.graph.order() {
            let place = self.graph.node(node).region;
            if place == Region::Header {
                continue;
            }
            if place != region {
                region = place;
                self.line(region.name());
            }
            self.indent += 2;
            self.node(node);
            self.indent -= 2;
        }
        for choice in &self.graph.choices {
            self.choice(choice);
        }
        for line in &self.graph.ledger {
            self.ledger(line);
        }
        for result in &self.graph.results {
            self.line(&format!("result {} = {}", quoted(&result.name), self.value(result.value)));
        }
        self.out
    }

    fn node(&mut self, node: NodeId) {
        let content = self.graph.node(node);
        let results: Vec<Value> = (0..content.types().len() as u32).map(|port| Value { node, port }).collect();
        let mut text = format!("{} = {}", self.values(&results), content.op.mnemonic());
        if let Op::Source(Source::Constant(literal)) = &content.op {
            let _ = write!(text, " {}", elements(literal));
        }
        let operands = self.graph.operands(node);
        if !operands.is_empty() {
            let _ = write!(text, " {}", self.values(&operands));
        }
        let attributes = content.op.attributes();
        if !attributes.0.is_empty() {
            let _ = write!(text, " {attributes}");
        }
        let types: Vec<String> = content.types().iter().map(ToString::to_string).collect();
        let _ = write!(text, " : {}", types.join(", "));
        if let Some(from) = &content.origin.from {
            let _ = write!(text, " from {}", quoted(from));
        }
        if let Some(by) = &content.origin.by {
            let _ = write!(text, " by {by}");
        }
        if let Some(comment) = (self.comment)(node) {
            let _ = write!(text, "  # {comment}");
        }
        self.line(&text);
        if let Op::Control(control) = &content.op {
            self.bodies(control);
        }
    }

    fn bodies(&mut self, control: &Control) {
        for (name, body) in control.bodies() {
            let indent = self.indent + 2;
            self.out.push_str(&format!("{:indent$}{name}\n", ""));
            let out = std::mem::take(&mut self.out);
            self.out = Printer { graph: body, comment: &|_| None, indent: indent + 2, out }.body();
            self.out.push_str(&format!("{:indent$}end\n", ""));
        }
    }

    fn choice(&mut self, choice: &RuleChoice) {
        let chosen = match &choice.chosen {
            Chosen::Rule { rule, entry } => format!("{rule} entry={}", quoted(entry)),
            Chosen::Nothing(reason) => format!("nothing={}", quoted(reason)),
        };
        self.line(&format!("choice {} {} {chosen}", quoted(&choice.site), choice.op));
    }

    fn ledger(&mut self, line: &LedgerLine) {
        let mut text = format!("ledger {} {}", quoted(&line.site), line.rule);
        let mut entry = |key: &str, at: Value| {
            let _ = write!(text, " {key}={}", value(self.graph, at));
        };
        line.input.iter().for_each(|&at| entry("in", at));
        line.output.iter().for_each(|&at| entry("out", at));
        line.absorbed.iter().for_each(|&(kind, at)| entry(kind.name(), at));
        self.line(&text);
    }
}

fn elements(literal: &Literal) -> String {
    let items: Vec<String> = match &literal.values {
        LiteralValues::Integers(values) => values.iter().map(ToString::to_string).collect(),
        LiteralValues::Floats(values) => values.iter().map(ToString::to_string).collect(),
    };
    if items.len() == 1 { items.concat() } else { format!("[{}]", items.join(", ")) }
}
