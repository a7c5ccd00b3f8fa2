//! The relevance that a run gave, as what people look at: one number for each token, with its name, and maps.
//!
//! Which integers an embedding belongs to is found on the graph: its index descends from them. Every position is shown,
//! padding too: that an input is a mask cannot be known from a graph, and padding that a model ignores has relevance 0,
//! hence no colour.

use std::collections::BTreeMap;

use lrpc_ir::{Diagnostic, DiagnosticKind, Graph};
use lrpc_passes::embedding::{Embedding, embeddings};

use crate::data::image::Layout;
use crate::data::{Tensor, TensorError};
use crate::explain::image_inputs;
use crate::reduce::{Reduce, Reduction, is_relevance_of, reduce_axes, reduce_embedding};
use crate::render::explanation::{Block, Content, Group, Map, Token};
use crate::session::RunOutcome;
use crate::tokens::{TokenFile, TokenName, unnamed};

/// The most tokens that are shown.
const MAX_TOKENS: usize = 1 << 16;
/// The most samples that are shown.
const MAX_SAMPLES: usize = 1 << 8;

/// What names tokens, and how their relevance is summed.
#[derive(Debug)]
pub struct TokenOptions {
    /// Files that name tokens: for the model input of that name, or for every one that it fits.
    pub files: Vec<(Option<String>, TokenFile)>,
    /// The reductions over the hidden axis and over channels; sums where none is given.
    pub reduce: Reduce,
    /// The targets as they were asked for, to name the results that belong to them; none where they are not known.
    pub targets: Vec<String>,
}

/// Finds the relevance of embeddings and of floating-point inputs among the results of a run of `graph`, one group for
/// each composite, target and sample.
///
/// # Errors
/// Token files that do not fit, names of inputs that index no embedding, and more than can be shown.
pub fn groups(graph: &Graph, outcome: &RunOutcome, options: &TokenOptions) -> Result<Vec<Group>, Diagnostic> {
    let embeddings = embeddings(graph);
    check_inputs(graph, &embeddings, &options.files)?;
    // Results are in the order in which they are asked for; blocks stand in the order of the model's inputs.
    let mut found: Vec<(String, Vec<(usize, Samples)>)> = Vec::new();
    for result in graph.results.iter().filter(|result| outcome.arrived.contains_key(&result.name)) {
        let Some(tensor) = outcome.results.get(&result.name) else { continue };
        let prefix = prefix_of(&result.name);
        let embedding = embeddings.iter().find(|one| is_relevance_of(&result.name, graph.name(one.output)));
        let (place, samples) = match embedding {
            Some(embedding) => (place_of(graph, embedding), tokens(graph, embedding, tensor, outcome, options)?),
            None => (
                0,
                maps(graph, &result.name, tensor, options.reduce.channels.unwrap_or(Reduction::Sum)).map_err(bug)?,
            ),
        };
        match found.iter_mut().find(|(other, _)| *other == prefix) {
            Some((_, blocks)) => blocks.push((place, samples)),
            None => found.push((prefix, vec![(place, samples)])),
        }
    }
    let mut groups = Vec::new();
    for (prefix, mut blocks) in found {
        blocks.sort_by_key(|(place, _)| *place);
        let blocks: Vec<Samples> = blocks.into_iter().map(|(_, samples)| samples).collect();
        groups.extend(by_sample(&label_of(&prefix, &options.targets, &graph.conditions), blocks));
    }
    limit(&groups)?;
    Ok(groups)
}

/// The blocks of one tensor, one for each sample.
type Samples = Vec<Block>;

fn bug(error: TensorError) -> Diagnostic {
    Diagnostic::new(error.to_string()).of_kind(DiagnosticKind::Bug)
}

fn check_inputs(
    graph: &Graph,
    embeddings: &[Embedding],
    files: &[(Option<String>, TokenFile)],
) -> Result<(), Diagnostic> {
    let inputs: Vec<&str> = embeddings.iter().map(|embedding| graph.name(embedding.input)).collect();
    if inputs.is_empty() && !files.is_empty() {
        return Err(Diagnostic::request("--tokens: the model has no embedding").help("leave --tokens out"));
    }
    match files.iter().filter_map(|(name, _)| name.as_deref()).find(|name| !inputs.contains(name)) {
        Some(name) => Err(Diagnostic::request(format!("--tokens {name}=…: no embedding is indexed by `{name}`"))
            .help(format!("the inputs that index embeddings: {}", inputs.join(", ")))),
        None => Ok(()),
    }
}

fn limit(groups: &[Group]) -> Result<(), Diagnostic> {
    let tokens = |block: &Block| match &block.content {
        Content::Tokens(tokens) => tokens.len(),
        Content::Map(_) => 0,
    };
    let count: usize = groups.iter().flat_map(|group| &group.blocks).map(tokens).sum();
    if count <= MAX_TOKENS && groups.len() <= MAX_SAMPLES {
        return Ok(());
    }
    let message = format!("{count} tokens in {} samples are more than can be shown", groups.len());
    Err(Diagnostic::request(message)
        .help(format!("give at most {MAX_TOKENS} tokens and {MAX_SAMPLES} samples at once")))
}

/// Where the embedding's input stands among the inputs of the model, behind those without an embedding.
fn place_of(graph: &Graph, embedding: &Embedding) -> usize {
    1 + graph.inputs().iter().position(|&input| input == embedding.input).unwrap_or(0)
}

/// Composite and target of a result: what stands before `relevance/`.
pub fn prefix_of(result: &str) -> String {
    let prefix =
        if result.starts_with("relevance/") { Some("") } else { result.split_once("/relevance/").map(|p| p.0) };
    prefix.unwrap_or_default().to_string()
}

/// `epsilon, logits[0, 8], h:unit=3` for `epsilon/t0/c0`, where the targets are known; a condition alone has no prefix.
fn label_of(prefix: &str, targets: &[String], conditions: &[String]) -> String {
    let numbered = |part: &str, letter: char, texts: &[String]| {
        let number = part.strip_prefix(letter).and_then(|number| number.parse::<usize>().ok());
        number.and_then(|number| texts.get(number)).cloned()
    };
    let name = |part: &str| numbered(part, 't', targets).or_else(|| numbered(part, 'c', conditions));
    let parts = prefix.split('/').filter(|part| !part.is_empty());
    let mut label: Vec<String> = parts.map(|part| name(part).unwrap_or_else(|| part.to_string())).collect();
    if let [condition] = conditions {
        label.push(condition.clone());
    }
    label.join(", ")
}

/// The relevance results of a run of `graph` that count as the end of its way: those of inputs and embeddings, or all
/// where there are none. What arrives at tensors before them is the same relevance once more.
pub fn ends<'a>(graph: &Graph, outcome: &'a RunOutcome) -> Vec<&'a str> {
    let inputs = graph.inputs().into_iter().chain(embeddings(graph).into_iter().map(|one| one.output));
    let names: Vec<&str> = inputs.map(|value| graph.name(value)).collect();
    let all = || outcome.arrived.keys().map(String::as_str);
    let ends: Vec<&str> = all().filter(|result| names.iter().any(|name| is_relevance_of(result, name))).collect();
    if ends.is_empty() { all().collect() } else { ends }
}

fn by_sample(label: &str, tensors: Vec<Samples>) -> Vec<Group> {
    let count = tensors.iter().map(Vec::len).max().unwrap_or(0);
    let mut groups: Vec<Group> = (0..count)
        .map(|sample| {
            let parts = [label.to_string(), if count > 1 { format!("sample {sample}") } else { String::new() }];
            let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            Group { label: parts.join(", "), blocks: Vec::new() }
        })
        .collect();
    for samples in tensors {
        for (group, block) in groups.iter_mut().zip(samples) {
            group.blocks.push(block);
        }
    }
    groups
}

/// One block of tokens for each sample: rows of the index are samples where it has several axes.
fn tokens(
    graph: &Graph,
    embedding: &Embedding,
    relevance: &Tensor,
    outcome: &RunOutcome,
    options: &TokenOptions,
) -> Result<Samples, Diagnostic> {
    let reduction = options.reduce.tokens.unwrap_or(Reduction::Sum);
    let reduced = reduce_embedding(graph, embedding, relevance, reduction).map_err(bug)?;
    let (count, length) = match reduced.shape() {
        [] => (1, 1),
        [length] => (1, *length),
        [count, rest @ ..] => (*count, rest.iter().product()),
    };
    let name = graph.name(embedding.output);
    let ids = outcome.token_ids.get(name).map(Tensor::to_f64).unwrap_or_default();
    let samples: Vec<Vec<i64>> = (0..count)
        .map(|sample| (0..length).map(|at| ids.get(sample * length + at).map_or(-1, |&id| id as i64)).collect())
        .collect();
    let names = token_names(graph, embedding, &samples, outcome, options)?;
    let input = graph.name(embedding.input);
    let label = if name == input { name.to_string() } else { format!("{input} ({name})") };
    let values = reduced.to_f64();
    let mut blocks = Vec::new();
    for (sample, (names, ids)) in names.into_iter().zip(samples).enumerate() {
        let values = values.get(sample * length..(sample + 1) * length).unwrap_or_default();
        let named = names.into_iter().zip(ids).zip(values);
        let tokens: Vec<Token> = named
            .map(|((TokenName { text, starts_word }, id), &value)| Token { text, starts_word, id, value })
            .collect();
        blocks.push(Block { label: label.clone(), sum: values.iter().sum(), content: Content::Tokens(tokens) });
    }
    Ok(blocks)
}

/// The names of an embedding's tokens: from the file that was given for its input, else from the one for all. A
/// vocabulary with more tokens than the table has rows is another table's, unless this is the largest table.
fn token_names(
    graph: &Graph,
    embedding: &Embedding,
    samples: &[Vec<i64>],
    outcome: &RunOutcome,
    options: &TokenOptions,
) -> Result<Vec<Vec<TokenName>>, Diagnostic> {
    let rows_of = |one: &Embedding| one.rows.eval(&outcome.dims).ok().and_then(|rows| usize::try_from(rows).ok());
    let rows = rows_of(embedding);
    let input = graph.name(embedding.input);
    let own = options.files.iter().find(|(name, _)| name.as_deref() == Some(input));
    if let Some((_, file)) = own {
        return file.names(samples, rows);
    }
    let Some((_, file)) = options.files.iter().find(|(name, _)| name.is_none()) else { return Ok(unnamed(samples)) };
    let largest = embeddings(graph).iter().filter_map(rows_of).max();
    match file.vocabulary_len() {
        Some(length) if rows < largest && rows.is_some_and(|rows| rows < length) => Ok(unnamed(samples)),
        _ => file.names(samples, rows),
    }
}

/// One map for each sample: channels of images are summed, else the last axis is the columns.
fn maps(graph: &Graph, result: &str, relevance: &Tensor, reduction: Reduction) -> Result<Samples, TensorError> {
    let image = image_inputs(graph, None, None).into_iter().find(|image| is_relevance_of(result, &image.name));
    let reduced = match image.map(|image| image.layout) {
        Some(Layout::Nchw) => reduce_axes(relevance, 1..2, reduction)?,
        Some(Layout::Nhwc) => reduce_axes(relevance, 3..4, reduction)?,
        None => relevance.clone(),
    };
    let (count, shape) = match reduced.shape() {
        [count, shape @ ..] if !shape.is_empty() => (*count, shape),
        shape => (1, shape),
    };
    let length: usize = shape.iter().product();
    let columns = shape.last().copied().unwrap_or(1);
    let label = result.rsplit_once("relevance/").map_or(result, |(_, name)| name);
    let values = reduced.to_f64();
    let sample = |sample: usize| {
        let values = values.get(sample * length..(sample + 1) * length).unwrap_or_default().to_vec();
        Block { label: label.into(), sum: values.iter().sum(), content: Content::Map(Map { columns, values }) }
    };
    Ok((0..count).map(sample).collect())
}

/// The names of all tokens and their numbers, for programs.
pub fn groups_json(groups: &[Group]) -> serde_json::Value {
    let token = |token: &Token| serde_json::json!({ "token": token.text, "id": token.id, "relevance": token.value });
    let block = |block: &Block| {
        let mut entry = BTreeMap::from([("tensor", serde_json::json!(block.label)), ("sum", block.sum.into())]);
        match &block.content {
            Content::Tokens(tokens) => entry.insert("tokens", tokens.iter().map(token).collect()),
            Content::Map(map) => entry.insert("shape", serde_json::json!([map.rows(), map.columns])),
        };
        serde_json::json!(entry)
    };
    let group = |group: &Group| serde_json::json!({ "label": group.label, "tensors": group.blocks.iter().map(block).collect::<Vec<_>>() });
    groups.iter().map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_named_by_composite_and_target() {
        let targets = ["logits[0, 1]".to_string(), "logits[0, 0]".to_string()];
        let conditions = ["h:unit=3".to_string(), "none".to_string()];
        let label = |result: &str| label_of(&prefix_of(result), &targets, &conditions);
        assert_eq!(label("t0/c1/relevance/words"), "logits[0, 1], none");
        assert_eq!(label_of("", &targets, &conditions[..1]), "h:unit=3");
        assert_eq!(label("relevance/words"), "");
        assert_eq!(label("epsilon/t1/relevance/a/b"), "epsilon, logits[0, 0]");
        assert_eq!(label("t9/relevance/words"), "t9");
    }

    #[test]
    fn what_cannot_be_shown_is_refused() {
        let token = Token { text: "a".into(), starts_word: true, id: 0, value: 0.0 };
        let group = |count: usize| {
            let content = Content::Tokens(vec![token.clone(); count]);
            Group { label: String::new(), blocks: vec![Block { label: String::new(), sum: 0.0, content }] }
        };
        assert!(limit(&[group(MAX_TOKENS)]).is_ok() && limit(&vec![group(1); MAX_SAMPLES]).is_ok());
        assert!(limit(&[group(MAX_TOKENS), group(1)]).unwrap_err().message.contains("65537 tokens"));
        assert!(limit(&vec![group(1); MAX_SAMPLES + 1]).is_err());
    }
}
