//! One walk over a nested graph.

use std::collections::HashMap;

use lrpc_ir::graph::{Origin, Region, Value};
use lrpc_ir::ops::{Binary, Elementwise, Op, Reduce, ReduceKind, Source};
use lrpc_ir::{Absorbed, DType, TensorType};

use super::super::builder::{Built, RelevanceBuilder};
use super::super::site::{Arrival, Carrier};
use super::super::walk::{State, Walk};
use super::Inner;
use crate::nested::Opened;

/// A nested graph with the nodes that a walk has made.
pub(super) struct Walked {
    pub(super) opened: Opened,
    promises: HashMap<Value, Value>,
    /// The inputs that hold what arrives at the results, where something does.
    pub(super) seeds: Vec<Option<Value>>,
    /// What arrived at each of [`Inner::ends`].
    pub(super) ends: Vec<Option<Arrival>>,
    /// What arrived at requested weights, each with the outer value that it is.
    pub(super) weights: Vec<(Value, Arrival)>,
    /// What was absorbed of each kind, summed in f64.
    pub(super) absorbed: Vec<(Absorbed, Value)>,
    pub(super) cut_off: Vec<usize>,
}

impl Walked {
    /// A builder of further nodes in the nested graph, made by `rule`.
    pub(super) fn builder<'b>(&'b mut self, inner: &'b Inner, rule: &str) -> RelevanceBuilder<'b> {
        let result = self.opened.graph.results.first().map(|result| result.value);
        let mut b = RelevanceBuilder::new(&mut self.opened.graph, &mut self.promises, &inner.nonnegative, "");
        result.into_iter().for_each(|result| b.begin(result, rule));
        b
    }

    /// An input of the nested graph.
    pub(super) fn input(&mut self, ty: TensorType, name: &str) -> Built<Value> {
        let graph = &mut self.opened.graph;
        let name = graph.fresh_name(name);
        Ok(graph.add(Region::Header, Op::Source(Source::Input(ty)), &[], &name, Origin::default())?)
    }
}

impl Walk<'_> {
    /// Walks over a nested graph, from the results that something arrives at (`seeds`, one for each result) to its active
    /// inputs.
    pub(super) fn walk_body(&self, inner: &Inner, seeds: &[Option<Carrier>]) -> Built<Walked> {
        let opened = inner.opened.clone();
        let mut walked = Walked {
            opened,
            promises: HashMap::new(),
            seeds: Vec::new(),
            ends: Vec::new(),
            weights: Vec::new(),
            absorbed: Vec::new(),
            cut_off: Vec::new(),
        };
        let mut state = State::default();
        for (result, carrier) in inner.opened.graph.results.iter().zip(seeds) {
            let Some(carrier) = *carrier else {
                walked.seeds.push(None);
                continue;
            };
            let (ty, name) = (of_relevance(inner.opened.graph.ty(result.value)), inner.opened.graph.name(result.value));
            let value = walked.input(ty, &format!("{}.{name}", carrier.letter()))?;
            walked.seeds.push(Some(value));
            state.arrivals.entry(result.value).or_default().push(Arrival { carrier, value });
        }
        let walk = self.inside(inner);
        let mut b = RelevanceBuilder::new(&mut walked.opened.graph, &mut walked.promises, &inner.nonnegative, "");
        walk.walk_over(&mut b, &inner.passages, &mut state)?;
        for &(_, input) in &inner.ends {
            walked.ends.push(walk.arrive(&mut b, input, &mut state.arrivals, &mut state.relevance)?);
        }
        for weight in inner.weights.requested() {
            let outer = inner.opened.constants.get(inner.opened.graph.name(weight)).copied();
            let arrival = walk.arrive(&mut b, weight, &mut state.arrivals, &mut state.relevance)?;
            walked.weights.extend(outer.zip(arrival));
        }
        walk.book_dead_ends(&mut b, &mut state.arrivals)?;
        walked.absorbed = absorbed_in_all(&mut walked.builder(inner, "ledger"))?;
        walked.cut_off = state.cut_off;
        Ok(walked)
    }
}

/// What the ledger of the nested graph absorbs, one number for each kind; the ledger is taken away.
fn absorbed_in_all(b: &mut RelevanceBuilder) -> Built<Vec<(Absorbed, Value)>> {
    let lines = std::mem::take(&mut b.graph_mut().ledger);
    let mut sums: Vec<(Absorbed, Value)> = Vec::new();
    for kind in [Absorbed::Bias, Absorbed::Stabiliser, Absorbed::Rule] {
        let terms = lines.iter().flat_map(|line| &line.absorbed).filter(|(of, _)| *of == kind);
        let mut sum: Option<Value> = None;
        for &(_, term) in terms {
            let number = in_all(b, term, kind.name())?;
            sum = Some(match sum {
                None => number,
                Some(sum) => add(b, sum, number, kind.name())?,
            });
        }
        sums.extend(sum.map(|sum| (kind, sum)));
    }
    Ok(sums)
}

/// The sum of all elements, in f64.
fn in_all(b: &mut RelevanceBuilder, value: Value, name: &str) -> Built<Value> {
    let (dtype, rank) = (b.ty(value).dtype, b.ty(value).rank());
    let mut sum = value;
    if dtype != DType::F64 {
        sum = b.named(Op::Elementwise(Elementwise::Cast(DType::F64)), &[sum], name)?;
    }
    if rank > 0 {
        let reduce = Reduce { kind: ReduceKind::Sum, axes: (0..rank).collect(), keep: false };
        sum = b.named(Op::Reduce(reduce), &[sum], name)?;
    }
    Ok(sum)
}

/// `a + b`, called `name`.
pub(super) fn add(b: &mut RelevanceBuilder, left: Value, right: Value, name: &str) -> Built<Value> {
    b.named(Op::Elementwise(Elementwise::Binary(Binary::Add)), &[left, right], name)
}

/// The type of the relevance of a value: that of the value, but for quantised integers.
fn of_relevance(ty: &TensorType) -> TensorType {
    let dtype = if ty.dtype.is_float() { ty.dtype } else { DType::F32 };
    TensorType::new(dtype, ty.shape.clone())
}

/// Relevance of zero for `value`.
pub(super) fn zeros(b: &mut RelevanceBuilder, value: Value) -> Built<Value> {
    let ty = of_relevance(&b.ty(value));
    b.filled(0.0, ty.dtype, &ty.shape)
}
