//! Counts of terms: how often each of a list of n-grams occurs among integers.

use lrpc_ir::ops::source::LiteralValues;
use lrpc_ir::ops::{Binary, Compare, Elementwise, Literal, Movement, Reduce, ReduceKind, Select};
use lrpc_ir::types::{DType, Float, TensorType};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid, unsupported};
use super::known::dim;
use super::site::Site;
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] = &[OpDef::new("TfIdfVectorizer", 9, vectorize)];

/// The most terms of a list, each of which is compared with every place.
const MAX_TERMS: usize = 1 << 14;

/// Terms of one length.
struct Grams {
    length: usize,
    /// One term after the other.
    elements: Vec<i64>,
    /// The place of each term in the result.
    places: Vec<i64>,
}

/// For each row the number of times that each term occurs, with up to `max_skip_count` elements left out between its
/// elements: the same number between all of them. Terms are integers.
fn vectorize(site: &mut Site) -> Lowered {
    site.ignore("pool_strings");
    let x = site.input(0)?;
    let grams = grams(site)?;
    let (skips, mode) = (site.int_or("max_skip_count", 0)?, site.word_or("mode", "TF")?);
    let weights = site.floats("weights")?;
    let ty = site.ty(x);
    let rows = match ty.shape.as_slice() {
        [length] => site.reshape(x, vec![Dim::Known(1), length.clone()])?,
        [_, _] => x,
        _ => return invalid(format!("the input {ty} is no vector and no matrix")),
    };
    let rows = site.cast(rows, DType::I64)?;
    let size = grams.iter().flat_map(|grams| &grams.places).max().copied().unwrap_or(-1).saturating_add(1);
    let mut sum = None;
    for grams in &grams {
        // A single element has nothing between its elements.
        let skips = if grams.length == 1 { 0 } else { skips };
        for skip in 0..=skips {
            let Some(found) = occurrences(site, rows, grams, skip.saturating_add(1), size)? else { break };
            sum = Some(match sum {
                None => found,
                Some(sum) => site.binary(Binary::Add, sum, found)?,
            });
        }
    }
    let shape = [ty.shape.iter().rev().skip(1).rev().cloned().collect(), vec![Dim::Known(size)]].concat();
    let counts = match sum {
        Some(sum) => site.reshape(sum, shape)?,
        None => site.filled(TensorType::new(DType::F32, shape), 0.0)?,
    };
    let result = weighed(site, counts, &mode, weights, &grams, size)?;
    site.output(0, result)
}

/// The terms by length, as far as they are counted.
fn grams(site: &mut Site) -> Lowered<Vec<Grams>> {
    let Some(pool) = site.ints("pool_int64s")? else { return unsupported("terms that are text") };
    let starts = site.ints("ngram_counts")?.unwrap_or_default();
    let places = site.ints("ngram_indexes")?.unwrap_or_default();
    let (shortest, longest) = (site.int_or("min_gram_length", 1)?, site.int_or("max_gram_length", 1)?);
    if places.len() > MAX_TERMS || starts.len() > MAX_TERMS || places.iter().any(|place| !(0..1 << 31).contains(place))
    {
        return unsupported(format!("a list of {} terms", places.len()));
    }
    let bound = |at: usize| match starts.get(at) {
        Some(start) => usize::try_from(*start).ok().filter(|start| *start <= pool.len()),
        None => Some(pool.len()),
    };
    let (mut found, mut rest) = (Vec::new(), places.as_slice());
    for length in 1..=starts.len() {
        let ends = (bound(length.saturating_sub(1)), bound(length));
        let elements = match ends {
            (Some(start), Some(end)) => pool.get(start..end),
            _ => None,
        };
        let Some(elements) = elements.filter(|elements| elements.len().checked_rem(length) == Some(0)) else {
            return invalid(format!("ngram_counts is {starts:?} for a list of {} elements", pool.len()));
        };
        let count = elements.len().checked_div(length).unwrap_or(0);
        let Some((own, others)) = rest.split_at_checked(count) else {
            return invalid("ngram_indexes has fewer elements than there are terms");
        };
        rest = others;
        let is_counted = i64::try_from(length).is_ok_and(|length| (shortest..=longest).contains(&length));
        if is_counted && count > 0 {
            found.push(Grams { length, elements: elements.to_vec(), places: own.to_vec() });
        }
    }
    Ok(found)
}

/// How often each term occurs whose elements are `step` apart, `[rows, size]`; `None` where the rows are known to be
/// too short.
fn occurrences(site: &mut Site, rows: Value, grams: &Grams, step: i64, size: i64) -> Lowered<Option<Value>> {
    let ty = site.ty(rows);
    let [batch, held] = ty.shape.as_slice() else { return invalid("the rows are no matrix") };
    let span = Dim::Known(step).mul(&dim(grams.length.saturating_sub(1)))?;
    let starts = held.sub(&span)?;
    if starts.known().is_some_and(|starts| starts < 1) {
        return Ok(None);
    }
    let starts = starts.maximum(&Dim::Known(0))?;
    let mut all = None;
    for at in 0..grams.length {
        let place = Dim::Known(step).mul(&dim(at))?;
        let part = Movement::slice_axis(&ty, 1, place, starts.clone());
        let part = site.emit(Op::Movement(part), &[rows])?;
        let part = site.reshape(part, vec![batch.clone(), starts.clone(), Dim::Known(1)])?;
        let wanted: Vec<i64> = grams.elements.chunks(grams.length).filter_map(|gram| gram.get(at)).copied().collect();
        let wanted = integers(site, &wanted)?;
        let equal = site.elementwise(Elementwise::Compare(Compare::Equal), &[part, wanted])?;
        all = Some(match all {
            None => equal,
            Some(all) => site.binary(Binary::And, all, equal)?,
        });
    }
    let Some(all) = all else { return Ok(None) };
    let ones = site.cast(all, DType::F32)?;
    let sum = Reduce { kind: ReduceKind::Sum, axes: vec![1], keep: false };
    let counts = site.emit(Op::Reduce(sum), &[ones])?;
    let places = integers(site, &grams.places)?;
    let scatter = Select::ScatterAdd { axis: 1, batch: 0, size: Dim::Known(size), unique_indices: false };
    site.emit(Op::Select(scatter), &[counts, places]).map(Some)
}

/// The counts, whether there is one, or the counts times the weights.
fn weighed(
    site: &mut Site,
    counts: Value,
    mode: &str,
    weights: Option<Vec<f64>>,
    grams: &[Grams],
    size: i64,
) -> Lowered<Value> {
    if mode == "TF" {
        return Ok(counts);
    }
    let counts = match mode {
        "TFIDF" => counts,
        "IDF" => {
            let zero = site.filled(TensorType::new(DType::F32, Vec::new()), 0.0)?;
            let any = site.elementwise(Elementwise::Compare(Compare::Greater), &[counts, zero])?;
            site.cast(any, DType::F32)?
        }
        other => return invalid(format!("mode is {other:?}")),
    };
    let Some(weights) = weights else { return Ok(counts) };
    let places = site.ints("ngram_indexes")?.unwrap_or_default();
    if places.len() != weights.len() || grams.is_empty() {
        return invalid(format!("{} weights for {} terms", weights.len(), places.len()));
    }
    let mut parts = Vec::new();
    for part in weights.chunks(Literal::MAX_ELEMENTS) {
        let ty = TensorType::new(DType::F32, vec![dim(part.len())]);
        let values = LiteralValues::Floats(part.iter().map(|weight| Float(*weight)).collect());
        parts.push(site.literal(Literal { ty, values })?);
    }
    let weights = joined(site, &parts)?;
    let places = integers(site, &places)?;
    let scatter = Select::ScatterAdd { axis: 0, batch: 0, size: Dim::Known(size), unique_indices: false };
    let weights = site.emit(Op::Select(scatter), &[weights, places])?;
    site.binary(Binary::Mul, counts, weights)
}

/// A vector of any length, in literals of the size that is written in a graph.
fn integers(site: &mut Site, values: &[i64]) -> Lowered<Value> {
    let mut parts = Vec::new();
    for part in values.chunks(Literal::MAX_ELEMENTS) {
        let ty = TensorType::new(DType::I64, vec![dim(part.len())]);
        parts.push(site.literal(Literal { ty, values: LiteralValues::Integers(part.to_vec()) })?);
    }
    joined(site, &parts)
}

fn joined(site: &mut Site, parts: &[Value]) -> Lowered<Value> {
    match parts {
        [single] => Ok(*single),
        _ => site.emit(Op::Movement(Movement::Concat { axis: 0 }), parts),
    }
}
