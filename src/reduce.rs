//! Reduction of relevance to one number for each token or pixel.
//!
//! Reductions are made on the results of a run, in f64, so that one relevance graph serves them all and the ledger, and
//! what is reported to have arrived, stay those of the relevance itself.

use std::collections::BTreeMap;
use std::ops::Range;

use lrpc_ir::{Diagnostic, DiagnosticKind, Graph};
use lrpc_passes::embedding::{Embedding, embeddings};

use crate::data::image::Layout;
use crate::data::{DType, Tensor, TensorError};
use crate::explain::image_inputs;

/// How numbers become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    /// Their signed sum.
    Sum,
    /// The sum of their absolute values.
    Abs,
}

impl Reduction {
    /// The name on the command line and in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Reduction::Sum => "sum",
            Reduction::Abs => "abs",
        }
    }
}

/// What is reduced; `None` leaves the relevance as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reduce {
    /// Relevance of an embedding, over the hidden axis.
    pub tokens: Option<Reduction>,
    /// Relevance of an image, over its channels.
    pub channels: Option<Reduction>,
    /// Relevance of other tensors `[N, C, …]`, over all axes behind the channels.
    pub places: Option<Reduction>,
}

impl Reduce {
    /// Reduces the relevance of embeddings and images among `results`, which a run of `graph` gave.
    ///
    /// # Errors
    /// A reduction that no result is for.
    pub fn apply(&self, graph: &Graph, results: &mut BTreeMap<String, Tensor>) -> Result<(), Diagnostic> {
        if let Some(reduction) = self.tokens {
            let embeddings = embeddings(graph);
            let mut reduce = |name: &str, tensor: &Tensor| {
                let embedding = embeddings.iter().find(|one| is_relevance_of(name, graph.name(one.output)))?;
                Some(reduce_embedding(graph, embedding, tensor, reduction))
            };
            apply_to(results, "tokens", "the relevance of an embedding", &mut reduce)?;
        }
        if let Some(reduction) = self.channels {
            let images = image_inputs(graph, None, None);
            let mut reduce = |name: &str, tensor: &Tensor| {
                let image = images.iter().find(|one| is_relevance_of(name, &one.name))?;
                let axis = if image.layout == Layout::Nchw { 1 } else { 3 };
                Some(reduce_axes(tensor, axis..axis + 1, reduction))
            };
            apply_to(results, "channels", "the relevance of an image", &mut reduce)?;
        }
        if let Some(reduction) = self.places {
            let images = image_inputs(graph, None, None).into_iter().map(|image| image.name);
            let embeddings = embeddings(graph).into_iter().map(|one| graph.name(one.output).to_string());
            let others: Vec<String> = images.chain(embeddings).collect();
            let weights = graph.weights();
            let mut reduce = |name: &str, tensor: &Tensor| {
                let (_, inner) = name.rsplit_once("relevance/").filter(|_| !name.starts_with("output/"))?;
                let apart = weights.contains_key(inner) || others.iter().any(|other| is_relevance_of(name, other));
                let rank = tensor.shape().len();
                (!apart && rank > 2).then(|| reduce_axes(tensor, 2..rank, reduction))
            };
            apply_to(results, "places", "the relevance of an intermediate tensor [N, C, …]", &mut reduce)?;
        }
        Ok(())
    }
}

/// A reduced result; `None` for one that is not to be reduced.
type Reduced = Option<Result<Tensor, TensorError>>;

fn apply_to(
    results: &mut BTreeMap<String, Tensor>,
    flag: &str,
    what: &str,
    reduce: &mut dyn FnMut(&str, &Tensor) -> Reduced,
) -> Result<(), Diagnostic> {
    let mut found = false;
    for (name, tensor) in results.iter_mut() {
        let Some(reduced) = reduce(name, tensor) else { continue };
        *tensor = reduced
            .map_err(|error| Diagnostic::new(format!("reducing {name}: {error}")).of_kind(DiagnosticKind::Bug))?;
        found = true;
    }
    if found {
        return Ok(());
    }
    Err(Diagnostic::request(format!("--reduce {flag}: no result is {what}")).help("leave it out"))
}

/// Whether a result of that name is the relevance of `tensor`: `relevance/tensor`, or behind the names of composite
/// and target.
pub fn is_relevance_of(result: &str, tensor: &str) -> bool {
    let prefix = result.strip_suffix(tensor).and_then(|rest| rest.strip_suffix("relevance/"));
    prefix.is_some_and(|prefix| prefix.is_empty() || (prefix.ends_with('/') && !prefix.starts_with("output/")))
}

/// The relevance of an embedding's output, reduced to the shape of its index.
///
/// # Errors
/// The reduced tensor cannot be made, which its size prevents only where that of `relevance` does.
pub fn reduce_embedding(
    graph: &Graph,
    embedding: &Embedding,
    relevance: &Tensor,
    reduction: Reduction,
) -> Result<Tensor, TensorError> {
    let behind = embedding.axis + graph.ty(embedding.index).rank();
    let rows = reduce_axes(relevance, behind..relevance.shape().len(), reduction)?;
    reduce_axes(&rows, 0..embedding.axis, reduction)
}

/// Reduces adjacent axes, which vanish; those that the tensor does not have are left out.
///
/// # Errors
/// As [`reduce_embedding`].
pub fn reduce_axes(tensor: &Tensor, axes: Range<usize>, reduction: Reduction) -> Result<Tensor, TensorError> {
    let shape = tensor.shape();
    let (start, end) = (axes.start.min(shape.len()), axes.end.min(shape.len()));
    if start >= end {
        return Ok(tensor.clone());
    }
    let (outer, rest) = shape.split_at(start);
    let (reduced, inner) = rest.split_at(end - start);
    let (count, width) = (reduced.iter().product::<usize>(), inner.iter().product::<usize>());
    let mut sums = vec![0.0; outer.iter().product::<usize>().saturating_mul(width)];
    for (flat, value) in tensor.to_f64().into_iter().enumerate() {
        let (row, column) = (flat / (count * width).max(1), flat % width.max(1));
        if let Some(sum) = sums.get_mut(row * width + column) {
            *sum += if reduction == Reduction::Abs { value.abs() } else { value };
        }
    }
    let shape = [outer, inner].concat();
    match tensor.dtype() {
        DType::F64 => Tensor::from_slice(&shape, &sums),
        _ => Tensor::from_slice(&shape, &sums.iter().map(|&sum| sum as f32).collect::<Vec<f32>>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lrpc_ir::text;

    fn tensor(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor::from_slice(shape, values).unwrap()
    }

    #[test]
    fn adjacent_axes_are_reduced() {
        let x = tensor(&[2, 3, 2], &[1., 2., -3., 4., 5., -6., 7., 8., -9., 10., 11., 12.]);
        let sum = |axes| reduce_axes(&x, axes, Reduction::Sum).unwrap();
        assert_eq!(sum(1..2), tensor(&[2, 2], &[3., 0., 9., 30.]));
        assert_eq!(sum(2..3), tensor(&[2, 3], &[3., 1., -1., 15., 1., 23.]));
        assert_eq!(sum(0..3), tensor(&[], &[42.]));
        assert_eq!(sum(3..7), x);
        assert_eq!(reduce_axes(&x, 1..3, Reduction::Abs).unwrap(), tensor(&[2], &[21., 57.]));
        let empty = tensor(&[0, 3], &[]);
        assert_eq!(reduce_axes(&empty, 1..2, Reduction::Sum).unwrap(), tensor(&[0], &[]));
        assert_eq!(reduce_axes(&empty, 0..1, Reduction::Sum).unwrap(), tensor(&[3], &[0.; 3]));
    }

    #[test]
    fn results_are_told_by_the_tensor_behind_them() {
        assert!(is_relevance_of("relevance/words", "words") && is_relevance_of("epsilon/t0/relevance/a/b", "a/b"));
        assert!(!is_relevance_of("relevance/a/words", "words") && !is_relevance_of("output/relevance/words", "words"));
        assert!(!is_relevance_of("irrelevance/words", "words"));
    }

    #[test]
    fn an_embedding_is_reduced_to_its_index() {
        let graph = text::parse(
            "lrpc 1\nweight @table : f32[2, 7, 3]\ninput %ids : i64[N, S]\nforward\n  \
             %e = gather @table, %ids {axis=1} : f32[2, N, S, 3]\nresult \"output/y\" = %e\n",
        )
        .unwrap();
        let mut results = BTreeMap::from([("relevance/e".to_string(), tensor(&[2, 1, 2, 3], &[1.; 12]))]);
        let reduce = Reduce { tokens: Some(Reduction::Sum), ..Reduce::default() };
        reduce.apply(&graph, &mut results).unwrap();
        assert_eq!(results["relevance/e"], tensor(&[1, 2], &[6.; 2]));
        let channels = Reduce { channels: Some(Reduction::Abs), ..Reduce::default() };
        assert!(channels.apply(&graph, &mut results).unwrap_err().message.contains("--reduce channels"));
    }
}
