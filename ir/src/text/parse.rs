//! Text to graph.

use thiserror::Error;

use super::lexer::Cursor;
use crate::attribute::{Attribute, Attributes};
use crate::dim::Dim;
use crate::graph::{
    Absorbed, Chosen, CompositeUse, EntryUse, Graph, GraphResult, LedgerLine, Measure, ModelReference, NamedNode,
    Origin, Region, Repeat, RuleChoice, Value,
};
use crate::ops::source::LiteralValues;
use crate::ops::{Control, Literal, Op, Source, WeightPlace};
use crate::types::{DType, TensorType};

/// How deep graphs may nest.
const MAX_NESTING: usize = 16;

/// Why a text is not a graph, and where.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}, column {column}: {message}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// Reads a graph. The result's names, operands and acyclicity are right; the verifier checks the rest.
///
/// # Errors
/// The first line that is not in the format.
pub fn parse(text: &str) -> Result<Graph, ParseError> {
    let lines: Vec<&str> = text.lines().collect();
    let mut parser = Parser { lines, at: 0 };
    let mut first = parser.cursor();
    if !(first.take_word("lrpc") && first.take_word("1") && first.at_end()) {
        return Err(parser.error(1, "expected `lrpc 1`: not a relevance graph, or of a newer version"));
    }
    parser.at = 1;
    let graph = parser.graph(0, false)?;
    if graph.is_cyclic() {
        return Err(ParseError { line: 1, column: 1, message: "the graph has a cycle".into() });
    }
    Ok(graph)
}

struct Parser<'a> {
    lines: Vec<&'a str>,
    at: usize,
}

/// What a graph's lines give before names are resolved. Numbers are lines.
#[derive(Default)]
struct Parts {
    nodes: Vec<NamedNode>,
    node_lines: Vec<usize>,
    measures: Vec<(usize, String, String)>,
    results: Vec<(usize, String, String)>,
    ledger: Vec<(usize, NamedLedgerLine)>,
}

struct NamedLedgerLine {
    site: String,
    rule: String,
    entries: Vec<(String, String)>,
}

impl<'a> Parser<'a> {
    fn cursor(&self) -> Cursor<'a> {
        Cursor::new(self.lines.get(self.at).copied().unwrap_or(""))
    }

    fn error(&self, column: usize, message: impl Into<String>) -> ParseError {
        ParseError { line: self.at + 1, column, message: message.into() }
    }

    /// Runs `read` on the current line, which it must use up.
    fn whole_line<T>(&mut self, read: impl FnOnce(&mut Cursor<'a>) -> Result<T, String>) -> Result<T, ParseError> {
        let mut cursor = self.cursor();
        let value = read(&mut cursor).and_then(|value| cursor.end().map(|()| value));
        let value = value.map_err(|message| self.error(cursor.column(), message))?;
        self.at += 1;
        Ok(value)
    }

    fn graph(&mut self, depth: usize, nested: bool) -> Result<Graph, ParseError> {
        if depth > MAX_NESTING {
            return Err(self.error(1, format!("graphs nest deeper than {MAX_NESTING}")));
        }
        let mut graph = Graph::new();
        let mut parts = Parts::default();
        let mut region = Region::Header;
        let mut ended = false;
        while self.at < self.lines.len() {
            let mut cursor = self.cursor();
            match cursor.peek() {
                None => self.at += 1,
                Some('%') => self.node(region, depth, &mut parts)?,
                Some(_) => {
                    let word = cursor.word().map_err(|message| self.error(cursor.column(), message))?;
                    if word == "end" && nested {
                        self.at += 1;
                        ended = true;
                        break;
                    }
                    self.statement(word, &mut region, &mut graph, &mut parts)?;
                }
            }
        }
        if nested && !ended {
            return Err(self.error(1, "a nested graph needs `end`"));
        }
        self.resolve(graph, parts)
    }

    fn statement(
        &mut self,
        word: &str,
        region: &mut Region,
        graph: &mut Graph,
        parts: &mut Parts,
    ) -> Result<(), ParseError> {
        let line = self.at;
        let skip = move |cursor: &mut Cursor<'a>| cursor.word().map(|_| ());
        match word {
            "prepare" | "forward" | "relevance" => {
                self.whole_line(skip)?;
                *region = match word {
                    "prepare" => Region::Prepare,
                    "forward" => Region::Forward,
                    _ => Region::Relevance,
                };
            }
            "model" => graph.model = Some(self.whole_line(|cursor| skip(cursor).and_then(|()| model(cursor)))?),
            "rules" => {
                graph.composites.push(composite(self.lines[line]).ok_or_else(|| self.error(1, "expected carrier=…"))?);
                self.at += 1;
            }
            "entry" => graph.entries.push(self.whole_line(|cursor| {
                skip(cursor)?;
                Ok(EntryUse { name: cursor.string()?, text: cursor.string()? })
            })?),
            "choice" => graph.choices.push(self.whole_line(|cursor| skip(cursor).and_then(|()| choice(cursor)))?),
            "repeat" => graph.repeats.push(self.whole_line(|cursor| skip(cursor).and_then(|()| repeat(cursor)))?),
            "condition" => {
                graph.conditions.push(self.whole_line(|cursor| skip(cursor).and_then(|()| cursor.string()))?)
            }
            "dim" => {
                let (symbol, value) = self.whole_line(|cursor| skip(cursor).and_then(|()| measure(cursor)))?;
                parts.measures.push((line, symbol, value));
            }
            "weight" | "input" => {
                let node = self.whole_line(|cursor| {
                    skip(cursor)?;
                    if word == "weight" { weight(cursor) } else { input(cursor) }
                })?;
                parts.nodes.push(node);
                parts.node_lines.push(line);
            }
            "ledger" => {
                let entry = self.whole_line(|cursor| skip(cursor).and_then(|()| ledger(cursor)))?;
                parts.ledger.push((line, entry));
            }
            "result" => {
                let (name, value) = self.whole_line(|cursor| {
                    skip(cursor)?;
                    let name = cursor.string()?;
                    cursor.expect("=")?;
                    Ok((name, cursor.value()?))
                })?;
                parts.results.push((line, name, value));
            }
            other => return Err(self.error(1, format!("unknown word `{other}`"))),
        }
        Ok(())
    }

    fn node(&mut self, region: Region, depth: usize, parts: &mut Parts) -> Result<(), ParseError> {
        let line = self.at;
        if region == Region::Header {
            return Err(self.error(1, "a node needs a region: prepare, forward or relevance"));
        }
        let NodeLine { names, mnemonic, literal, operands, attributes, types, origin } = self.whole_line(node_line)?;
        let wrong = |message: String| ParseError { line: line + 1, column: 1, message };
        if names.len() != types.len() {
            return Err(wrong(format!("{} results but {} types", names.len(), types.len())));
        }
        let op = match mnemonic.as_str() {
            "const" => literal_of(literal, types.first()).map_err(wrong)?,
            word if Control::is_control(word) => {
                let bodies = self.bodies(depth)?;
                Op::Control(Control::read(word, attributes, bodies).map_err(wrong)?)
            }
            _ => Op::read(&mnemonic, attributes, &types).map_err(wrong)?,
        };
        let results = names.into_iter().zip(types).collect();
        parts.nodes.push(NamedNode { op, region, origin, results, operands });
        parts.node_lines.push(line);
        Ok(())
    }

    fn bodies(&mut self, depth: usize) -> Result<Vec<(String, Graph)>, ParseError> {
        let mut bodies = Vec::new();
        loop {
            let mut cursor = self.cursor();
            let word = ["body", "then", "else"].into_iter().find(|word| cursor.take_word(word));
            let Some(word) = word else { return Ok(bodies) };
            self.at += 1;
            bodies.push((word.to_string(), self.graph(depth + 1, true)?));
        }
    }

    fn resolve(&self, mut graph: Graph, parts: Parts) -> Result<Graph, ParseError> {
        let lines = parts.node_lines;
        let at = |line: usize, message: String| ParseError { line: line + 1, column: 1, message };
        graph.add_named(parts.nodes).map_err(|error| at(lines.get(error.place).copied().unwrap_or(0), error.reason))?;
        let find = |graph: &Graph, line: usize, name: &str| {
            graph.find(name).ok_or_else(|| at(line, format!("%{name} is not defined")))
        };
        for (line, symbol, value) in parts.measures {
            let value = find(&graph, line, &value)?;
            graph.measures.push(Measure { symbol, value });
        }
        for (line, name, value) in parts.results {
            let value = find(&graph, line, &value)?;
            graph.results.push(GraphResult { name, value });
        }
        for (line, entry) in parts.ledger {
            let mut ledger =
                LedgerLine { site: entry.site, rule: entry.rule, input: vec![], output: vec![], absorbed: vec![] };
            for (key, name) in entry.entries {
                let value: Value = find(&graph, line, &name)?;
                match key.as_str() {
                    "in" => ledger.input.push(value),
                    "out" => ledger.output.push(value),
                    "bias" => ledger.absorbed.push((Absorbed::Bias, value)),
                    "stabiliser" => ledger.absorbed.push((Absorbed::Stabiliser, value)),
                    "rule" => ledger.absorbed.push((Absorbed::Rule, value)),
                    other => return Err(at(line, format!("unknown ledger entry `{other}`"))),
                }
            }
            graph.ledger.push(ledger);
        }
        Ok(graph)
    }
}

struct NodeLine {
    names: Vec<String>,
    mnemonic: String,
    literal: Vec<Attribute>,
    operands: Vec<String>,
    attributes: Attributes,
    types: Vec<TensorType>,
    origin: Origin,
}

fn node_line(cursor: &mut Cursor) -> Result<NodeLine, String> {
    let names = cursor.values()?;
    cursor.expect("=")?;
    let mnemonic = cursor.word()?.to_string();
    let literal = if mnemonic == "const" { cursor.literal()? } else { Vec::new() };
    let operands = if matches!(cursor.peek(), Some('%' | '@')) { cursor.values()? } else { Vec::new() };
    let attributes = cursor.attributes()?;
    cursor.expect(":")?;
    let mut types = vec![cursor.ty()?];
    while cursor.take(",") {
        types.push(cursor.ty()?);
    }
    let from = if cursor.take_word("from") { Some(cursor.string()?.into()) } else { None };
    let by = if cursor.take_word("by") { Some(cursor.word()?.into()) } else { None };
    Ok(NodeLine { names, mnemonic, literal, operands, attributes, types, origin: Origin { from, by } })
}

fn literal_of(items: Vec<Attribute>, ty: Option<&TensorType>) -> Result<Op, String> {
    let ty = ty.ok_or("a literal has a type")?.clone();
    let float = |item: &Attribute| item.number().ok_or_else(|| format!("{item} is not a number"));
    let integer = |item: &Attribute| match item {
        Attribute::Dim(Dim::Known(value)) => Ok(*value),
        other => Err(format!("{other} is not an integer")),
    };
    let values = if ty.dtype.is_float() {
        LiteralValues::Floats(items.iter().map(float).collect::<Result<_, _>>()?)
    } else {
        LiteralValues::Integers(items.iter().map(integer).collect::<Result<_, _>>()?)
    };
    if ty.dtype == DType::Bool && items.iter().any(|item| !matches!(integer(item), Ok(0 | 1))) {
        return Err("truth values are 0 or 1".into());
    }
    Ok(Op::Source(Source::Constant(Literal { ty, values })))
}

fn model(cursor: &mut Cursor) -> Result<ModelReference, String> {
    let path = cursor.string()?;
    cursor.expect("bytes=")?;
    let bytes = cursor.word()?.parse().map_err(|_| "bytes= needs a number")?;
    cursor.expect("structure=sha256:")?;
    Ok(ModelReference { path, bytes, structure: cursor.word()?.to_string() })
}

/// `rules TEXT carrier=WORD [because STRING]`; the text may hold spaces.
fn composite(line: &str) -> Option<CompositeUse> {
    let (rules, rest) = line.trim().strip_prefix("rules")?.rsplit_once(" carrier=")?;
    let (carrier, because) = match rest.split_once(" because ") {
        Some((carrier, because)) => (carrier, Some(Cursor::new(because).string().ok()?)),
        None => (rest, None),
    };
    Some(CompositeUse { rules: rules.trim().into(), carrier: carrier.trim().into(), because })
}

fn choice(cursor: &mut Cursor) -> Result<RuleChoice, String> {
    let (site, op, word) = (cursor.string()?, cursor.word()?.to_string(), cursor.word()?.to_string());
    let chosen = if word == "nothing" {
        cursor.expect("=")?;
        Chosen::Nothing(cursor.string()?)
    } else {
        cursor.expect("entry=")?;
        Chosen::Rule { rule: word, entry: cursor.string()? }
    };
    Ok(RuleChoice { site, op, chosen })
}

fn repeat(cursor: &mut Cursor) -> Result<Repeat, String> {
    let step = cursor.value()?;
    cursor.expect("count=")?;
    let count = cursor.dim()?;
    let mut results = vec![cursor.string()?];
    while !cursor.at_end() {
        results.push(cursor.string()?);
    }
    Ok(Repeat { step, count, results })
}

fn measure(cursor: &mut Cursor) -> Result<(String, String), String> {
    let dim = cursor.dim()?;
    let symbol = dim.as_symbol().ok_or_else(|| format!("{dim} is no symbol"))?;
    cursor.expect("=")?;
    Ok((symbol.to_string(), cursor.value()?))
}

fn weight(cursor: &mut Cursor) -> Result<NamedNode, String> {
    let name = cursor.value()?;
    cursor.expect(":")?;
    let ty = cursor.ty()?;
    let place = if cursor.take_word("in") {
        cursor.expect("sidecar")?;
        WeightPlace::Sidecar
    } else {
        WeightPlace::Model
    };
    Ok(header_node(Source::Weight(place, ty.clone()), name, ty, Vec::new()))
}

fn input(cursor: &mut Cursor) -> Result<NamedNode, String> {
    let name = cursor.value()?;
    cursor.expect(":")?;
    let ty = cursor.ty()?;
    let operands = if cursor.take("=") { vec![cursor.value()?] } else { Vec::new() };
    Ok(header_node(Source::Input(ty.clone()), name, ty, operands))
}

fn header_node(source: Source, name: String, ty: TensorType, operands: Vec<String>) -> NamedNode {
    NamedNode {
        op: Op::Source(source),
        region: Region::Header,
        origin: Origin::default(),
        results: vec![(name, ty)],
        operands,
    }
}

fn ledger(cursor: &mut Cursor) -> Result<NamedLedgerLine, String> {
    let site = cursor.string()?;
    let rule = cursor.word()?.to_string();
    let mut entries = Vec::new();
    while !cursor.at_end() {
        let key = cursor.word()?.to_string();
        cursor.expect("=")?;
        entries.push((key, cursor.value()?));
    }
    Ok(NamedLedgerLine { site, rule, entries })
}
