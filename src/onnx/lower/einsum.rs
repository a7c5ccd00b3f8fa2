//! Einstein summation, as contractions, products and sums.

use lrpc_ir::ops::{Binary, Compare, Dot, Elementwise, Linear, Reduce, ReduceKind, Source};
use lrpc_ir::types::{DType, TensorType};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid};
use super::site::Site;
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] = &[OpDef::new("Einsum", 12, einsum)];

/// The name of an axis: a letter, or the place from the right of one that an ellipsis stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Ellipsis(usize),
    Letter(char),
}

/// An operand and the names of its axes.
struct Term {
    value: Value,
    labels: Vec<Label>,
}

fn einsum(site: &mut Site) -> Lowered {
    let equation = site.word_or("equation", "")?.replace(' ', "");
    let operands = site.all_inputs()?;
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation.as_str(), None),
    };
    let texts: Vec<&str> = left.split(',').collect();
    if texts.len() != operands.len() {
        return invalid(format!("the equation {equation:?} is for another number of operands"));
    }
    let mut terms = Vec::with_capacity(operands.len());
    for (text, value) in texts.into_iter().zip(operands) {
        let rank = site.ty(value).rank();
        let hidden = rank.saturating_sub(text.chars().filter(|letter| *letter != '.').count());
        let labels = labels(text, hidden)?;
        if labels.len() != rank {
            return invalid(format!("the term {text:?} is not for {}", site.ty(value)));
        }
        terms.push(diagonal(site, Term { value, labels })?);
    }
    let widest = terms.iter().flat_map(|term| &term.labels).filter(|label| matches!(label, Label::Ellipsis(_))).max();
    let copies = match widest {
        Some(Label::Ellipsis(place)) => place.saturating_add(1),
        _ => 0,
    };
    let wanted = match right {
        Some(text) => labels(text, if text.contains("...") { copies } else { 0 })?,
        None => implicit(&terms),
    };
    drop_copies(site, &mut terms)?;
    let mut terms = terms.into_iter();
    let Some(mut whole) = terms.next() else { return invalid("there are no operands") };
    let mut rest: Vec<Term> = terms.collect();
    while !rest.is_empty() {
        let next = rest.remove(0);
        let needed = |label: &Label| wanted.contains(label) || rest.iter().any(|term| term.labels.contains(label));
        whole = pair(site, whole, next, needed)?;
    }
    let whole = sum_out(site, whole, |label| wanted.contains(label))?;
    let place = |label: &Label| whole.labels.iter().position(|own| own == label);
    let Some(perm) = wanted.iter().map(place).collect::<Option<Vec<usize>>>() else {
        return invalid(format!("the equation {equation:?} asks for an axis that no operand has"));
    };
    let result = site.transpose(whole.value, perm)?;
    site.output(0, result)
}

/// The labels of `text`, whose ellipsis stands for `hidden` axes.
fn labels(text: &str, hidden: usize) -> Lowered<Vec<Label>> {
    let (before, after) = text.split_once("...").unwrap_or((text, ""));
    let copies = if text.contains("...") { hidden } else { 0 };
    let before = before.chars().map(Label::Letter);
    let labels: Vec<Label> =
        before.chain((0..copies).rev().map(Label::Ellipsis)).chain(after.chars().map(Label::Letter)).collect();
    match labels.iter().find(|label| matches!(label, Label::Letter(letter) if !letter.is_ascii_alphabetic())) {
        Some(label) => invalid(format!("{label:?} of the term {text:?} names no axis")),
        None => Ok(labels),
    }
}

/// Without an arrow: what the ellipses stand for, then the letters that occur once, in alphabetical order.
fn implicit(terms: &[Term]) -> Vec<Label> {
    let all: Vec<Label> = terms.iter().flat_map(|term| term.labels.iter().copied()).collect();
    let once = |label: &Label| all.iter().filter(|other| *other == label).count() == 1;
    let mut letters: Vec<Label> = all.iter().copied().filter(|l| matches!(l, Label::Letter(_)) && once(l)).collect();
    letters.sort_unstable();
    let mut hidden: Vec<Label> = all.iter().copied().filter(|label| matches!(label, Label::Ellipsis(_))).collect();
    hidden.sort_unstable();
    hidden.dedup();
    hidden.into_iter().rev().chain(letters).collect()
}

/// An operand whose axes have names of their own: of two with one name the diagonal is taken.
fn diagonal(site: &mut Site, mut term: Term) -> Lowered<Term> {
    let repeated = |labels: &[Label]| {
        (0..labels.len()).find_map(|second| {
            let label = labels.get(second)?;
            let first = labels.iter().position(|other| other == label)?;
            (first < second).then_some((first, second))
        })
    };
    while let Some((first, second)) = repeated(&term.labels) {
        let ty = site.ty(term.value);
        let places = ty.with_dtype(DType::I64);
        let row = site.emit(Op::Source(Source::Iota { axis: first, ty: places.clone() }), &[])?;
        let column = site.emit(Op::Source(Source::Iota { axis: second, ty: places }), &[])?;
        let on = site.emit(Op::Elementwise(Elementwise::Compare(Compare::Equal)), &[row, column])?;
        let zero = site.filled(ty, 0.0)?;
        let kept = site.emit(Op::Elementwise(Elementwise::Where), &[on, term.value, zero])?;
        term.value =
            site.emit(Op::Reduce(Reduce { kind: ReduceKind::Sum, axes: vec![second], keep: false }), &[kept])?;
        term.labels.remove(second);
    }
    Ok(term)
}

/// Takes away axes of length 1 that are longer in another operand: there they are copied.
fn drop_copies(site: &mut Site, terms: &mut [Term]) -> Lowered {
    let one = Dim::Known(1);
    let mut longer = Vec::new();
    for term in terms.iter() {
        let shape = site.ty(term.value).shape;
        longer.extend(term.labels.iter().zip(shape).filter(|(_, size)| *size != one).map(|(label, _)| *label));
    }
    for term in terms {
        let shape = site.ty(term.value).shape;
        let axes = term.labels.iter().copied().zip(shape);
        let kept: Vec<(Label, Dim)> = axes.filter(|(label, size)| *size != one || !longer.contains(label)).collect();
        term.value = site.reshape(term.value, kept.iter().map(|(_, size)| size.clone()).collect())?;
        term.labels = kept.into_iter().map(|(label, _)| label).collect();
    }
    Ok(())
}

fn sum_out(site: &mut Site, term: Term, needed: impl Fn(&Label) -> bool) -> Lowered<Term> {
    let axes: Vec<usize> =
        term.labels.iter().enumerate().filter(|(_, label)| !needed(label)).map(|(axis, _)| axis).collect();
    if axes.is_empty() {
        return Ok(term);
    }
    let value = site.emit(Op::Reduce(Reduce { kind: ReduceKind::Sum, axes, keep: false }), &[term.value])?;
    Ok(Term { value, labels: term.labels.into_iter().filter(|label| needed(label)).collect() })
}

/// Two operands become one: axes that both have and nobody needs any more are contracted.
fn pair(site: &mut Site, a: Term, b: Term, needed: impl Fn(&Label) -> bool) -> Lowered<Term> {
    let a = sum_out(site, a, |label| b.labels.contains(label) || needed(label))?;
    let b = sum_out(site, b, |label| a.labels.contains(label) || needed(label))?;
    let common = a.labels.iter().enumerate().filter_map(|(left, label)| {
        let right = b.labels.iter().position(|other| other == label)?;
        Some((*label, (left, right)))
    });
    let (kept, summed): (Vec<_>, Vec<_>) = common.partition(|(label, _)| needed(label));
    let axes = |pairs: Vec<(Label, (usize, usize))>| pairs.into_iter().map(|(_, axes)| axes).collect::<Vec<_>>();
    let shared: Vec<Label> = kept.iter().map(|(label, _)| *label).collect();
    let outside = |labels: &[Label], other: &[Label]| -> Vec<Label> {
        labels.iter().copied().filter(|label| !other.contains(label)).collect()
    };
    let (left, right) = (outside(&a.labels, &b.labels), outside(&b.labels, &a.labels));
    let labels = [shared, left, right].concat();
    let value = if summed.is_empty() {
        let (a, b) = (spread(site, a, &labels)?, spread(site, b, &labels)?);
        site.binary(Binary::Mul, a, b)?
    } else {
        let dot = Dot { batch: axes(kept), contract: axes(summed) };
        site.emit(Op::Linear(Linear::Dot(dot)), &[a.value, b.value])?
    };
    Ok(Term { value, labels })
}

/// The operand with its axes in the order of `labels`, and of length 1 where it has none.
fn spread(site: &mut Site, term: Term, labels: &[Label]) -> Lowered<Value> {
    let TensorType { shape, .. } = site.ty(term.value);
    let places: Vec<Option<usize>> =
        labels.iter().map(|label| term.labels.iter().position(|own| own == label)).collect();
    let ordered = site.transpose(term.value, places.iter().copied().flatten().collect())?;
    let size = |place: &Option<usize>| place.and_then(|place| shape.get(place)).cloned().unwrap_or(Dim::Known(1));
    site.reshape(ordered, places.iter().map(size).collect())
}
