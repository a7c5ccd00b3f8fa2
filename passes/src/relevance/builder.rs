//! The one way for rules to make nodes.

use std::collections::{HashMap, HashSet};

use lrpc_ir::graph::{Graph, NodeId, Origin, Region, Value};
use lrpc_ir::ops::source::{Literal, LiteralValues, Source};
use lrpc_ir::ops::{Binary, Elementwise, Function, Movement, Op, Reduce, ReduceKind, Unary};
use lrpc_ir::{Absorbed, DType, Diagnostic, Dim, Float, TensorType};

use super::weights::Term;

/// What rules return when a node cannot be made.
pub type Built<T> = Result<T, Diagnostic>;

/// Makes the nodes of the relevance region. Nodes that depend on weights alone land in `prepare`.
pub struct RelevanceBuilder<'a> {
    graph: &'a mut Graph,
    promises: &'a mut HashMap<Value, Value>,
    prefix: String,
    origin: Origin,
    subject: String,
    absorbed: Vec<(Absorbed, Value)>,
    terms: Vec<Term>,
    named: HashSet<Value>,
    nonnegative: &'a HashSet<Value>,
}

impl<'a> RelevanceBuilder<'a> {
    /// A builder over `graph`. Names begin with `prefix`; `promises` is shared by all composites of a graph;
    /// `nonnegative` are the forward values proven to hold no negative element.
    pub fn new(
        graph: &'a mut Graph,
        promises: &'a mut HashMap<Value, Value>,
        nonnegative: &'a HashSet<Value>,
        prefix: &str,
    ) -> RelevanceBuilder<'a> {
        let origin = Origin::default();
        RelevanceBuilder {
            graph,
            promises,
            prefix: prefix.into(),
            origin,
            subject: String::new(),
            absorbed: Vec::new(),
            terms: Vec::new(),
            named: HashSet::new(),
            nonnegative,
        }
    }

    /// Begins an application of `rule` at the node that computes `output`.
    pub(crate) fn begin(&mut self, output: Value, rule: &str) {
        self.origin = self.graph.node(output.node).origin.made_by(rule);
        self.origin.from = Some(self.site_name(output).into());
        self.subject = self.graph.name(output).to_string();
    }

    /// The ONNX name of the node that computes `value`, or else the value's own.
    pub(crate) fn site_name(&self, value: Value) -> String {
        site_name(self.graph, value)
    }

    /// What the rule has absorbed since the last call.
    pub(crate) fn take_absorbed(&mut self) -> Vec<(Absorbed, Value)> {
        std::mem::take(&mut self.absorbed)
    }

    /// Notes a transposed product, for the relevance of the weight.
    pub(crate) fn record(&mut self, term: Term) {
        self.terms.push(term);
    }

    /// The transposed products that were made since the last call.
    pub(crate) fn take_terms(&mut self) -> Vec<Term> {
        std::mem::take(&mut self.terms)
    }

    /// Whether the rule at hand has made `value` for the relevance region.
    pub(crate) fn made_here(&self, value: Value) -> bool {
        let node = self.graph.node(value.node);
        node.region == Region::Relevance && node.origin == self.origin && node.op != Op::Promise
    }

    /// The graph as it stands.
    pub fn graph(&self) -> &Graph {
        self.graph
    }

    /// The graph, for bookkeeping beside nodes.
    pub(crate) fn graph_mut(&mut self) -> &mut Graph {
        self.graph
    }

    /// Whether the forward value is proven to hold no negative element.
    pub fn is_nonnegative(&self, value: Value) -> bool {
        self.nonnegative.contains(&value)
    }

    /// The value's type.
    pub fn ty(&self, value: Value) -> TensorType {
        self.graph.ty(value).clone()
    }

    /// The forward tensor `value`, delivered to the relevance region: a promise, made once per value. What depends on
    /// weights alone needs none.
    pub fn activation(&mut self, value: Value) -> Built<Value> {
        if self.graph.is_constant(value) || self.graph.node(value.node).region == Region::Relevance {
            return Ok(value);
        }
        if let Some(&promise) = self.promises.get(&value) {
            return Ok(promise);
        }
        if let Some(copies) = self.copies_of_a_constant(value)? {
            return Ok(copies);
        }
        let name = self.graph.fresh_name(&format!("p.{}", self.graph.name(value)));
        let promise = self.graph.add(Region::Relevance, Op::Promise, &[value], &name, Origin::default())?;
        self.promises.insert(value, promise);
        Ok(promise)
    }

    /// A forward broadcast of a constant, made again here: copying costs less than keeping.
    fn copies_of_a_constant(&mut self, value: Value) -> Built<Option<Value>> {
        let node = self.graph.node(value.node);
        let Op::Movement(broadcast @ Movement::Broadcast { .. }) = &node.op else { return Ok(None) };
        let Some(source) = self.graph.operand(value.node, 0) else { return Ok(None) };
        if !self.graph.is_constant(source) {
            return Ok(None);
        }
        self.op(Op::Movement(broadcast.clone()), &[source], "const").map(Some)
    }

    /// Gives the value that a rule sends to an operand its name, `R.x` or `g.x`, if the rule at hand made it.
    pub(crate) fn name_flow(&mut self, value: Value, letter: &str, operand: Value) {
        let wanted = format!("{}{letter}.{}", self.prefix, self.graph.name(operand));
        let fresh = self.made_here(value);
        let rest = self.graph.name(value).strip_prefix(&wanted);
        let named = rest.is_some_and(|rest| rest.trim_start_matches('.').chars().all(|c| c.is_ascii_digit()));
        // What goes to several operands keeps its first name.
        if fresh && !named && self.named.insert(value) {
            let wanted = self.graph.fresh_name(&wanted);
            self.graph.rename(value, &wanted);
        }
    }

    /// Any operation, called `hint` of the site's output.
    pub fn op(&mut self, op: Op, operands: &[Value], hint: &str) -> Built<Value> {
        let name = format!("{hint}.{}", self.subject);
        self.named(op, operands, &name)
    }

    /// Any operation, called exactly `name` behind the composite's prefix.
    pub fn named(&mut self, op: Op, operands: &[Value], name: &str) -> Built<Value> {
        // Broadcasts only copy: they stay where they are used, to be fused into their user.
        let copies = matches!(op, Op::Movement(Movement::Broadcast { .. }));
        let region = if !copies && operands.iter().all(|&operand| self.graph.is_constant(operand)) {
            Region::Prepare
        } else {
            Region::Relevance
        };
        let name = self.graph.fresh_name(&format!("{}{name}", self.prefix));
        Ok(self.graph.add(region, op, operands, &name, self.origin.clone())?)
    }

    /// A node of the relevance region with several results, whose names begin with the composite's prefix.
    pub(crate) fn several(&mut self, op: Op, operands: &[Value], names: &[String]) -> Built<NodeId> {
        let mut fresh: Vec<String> = Vec::new();
        for name in names {
            let mut name = self.graph.fresh_name(&format!("{}{name}", self.prefix));
            while fresh.contains(&name) {
                name = self.graph.fresh_name(&format!("{name}.{}", fresh.len()));
            }
            fresh.push(name);
        }
        let names: Vec<&str> = fresh.iter().map(String::as_str).collect();
        Ok(self.graph.add_many(Region::Relevance, op, operands, &names, self.origin.clone())?)
    }

    /// Books `value`, summed over all elements, as absorbed.
    pub fn absorb(&mut self, kind: Absorbed, value: Value) {
        self.absorbed.push((kind, value));
    }

    /// A function of one tensor.
    pub fn unary(&mut self, unary: Unary, x: Value, hint: &str) -> Built<Value> {
        self.op(Op::Elementwise(Elementwise::Unary(unary)), &[x], hint)
    }

    /// Arithmetic of two tensors of one shape.
    pub fn binary(&mut self, binary: Binary, a: Value, b: Value, hint: &str) -> Built<Value> {
        self.op(Op::Elementwise(Elementwise::Binary(binary)), &[a, b], hint)
    }

    /// `a + b`.
    pub fn add(&mut self, a: Value, b: Value, hint: &str) -> Built<Value> {
        self.binary(Binary::Add, a, b, hint)
    }

    /// `a − b`.
    pub fn sub(&mut self, a: Value, b: Value, hint: &str) -> Built<Value> {
        self.binary(Binary::Sub, a, b, hint)
    }

    /// `a · b`.
    pub fn mul(&mut self, a: Value, b: Value, hint: &str) -> Built<Value> {
        self.binary(Binary::Mul, a, b, hint)
    }

    /// `a · b`, and 0 where `b` is 0.
    pub fn weigh(&mut self, a: Value, b: Value, hint: &str) -> Built<Value> {
        self.binary(Binary::Weigh, a, b, hint)
    }

    /// `factor · x`.
    pub fn scale(&mut self, x: Value, factor: f64, hint: &str) -> Built<Value> {
        if factor == 1.0 { Ok(x) } else { self.unary(Unary::with(Function::Scale, factor), x, hint) }
    }

    /// `x⁺ = max(x, 0)`.
    pub fn positive(&mut self, x: Value, hint: &str) -> Built<Value> {
        self.unary(Unary::plain(Function::Positive), x, hint)
    }

    /// `x⁻ = min(x, 0)`.
    pub fn negative(&mut self, x: Value, hint: &str) -> Built<Value> {
        self.unary(Unary::plain(Function::Negative), x, hint)
    }

    /// `|x|`.
    pub fn magnitude(&mut self, x: Value, hint: &str) -> Built<Value> {
        self.unary(Unary::plain(Function::Abs), x, hint)
    }

    /// A tensor whose elements all are `value`.
    pub fn filled(&mut self, value: f64, dtype: DType, shape: &[Dim]) -> Built<Value> {
        let literal = Literal::filled(TensorType::new(dtype, shape.to_vec()), value);
        self.op(Op::Source(Source::Constant(literal)), &[], "const")
    }

    /// One number per element along a single axis.
    pub fn listed(&mut self, values: &[f64], dtype: DType) -> Built<Value> {
        let ty = TensorType::new(dtype, vec![Dim::Known(values.len() as i64)]);
        let values = LiteralValues::Floats(values.iter().map(|&value| Float(value)).collect());
        self.op(Op::Source(Source::Constant(Literal { ty, values })), &[], "const")
    }

    /// The same numbers in another element type.
    pub fn cast(&mut self, x: Value, dtype: DType, hint: &str) -> Built<Value> {
        if self.ty(x).dtype == dtype {
            return Ok(x);
        }
        self.op(Op::Elementwise(Elementwise::Cast(dtype)), &[x], hint)
    }

    /// The value under another shape of as many elements.
    pub fn reshape(&mut self, x: Value, shape: &[Dim], hint: &str) -> Built<Value> {
        if self.ty(x).shape == shape {
            return Ok(x);
        }
        self.op(Op::Movement(Movement::Reshape { shape: shape.to_vec() }), &[x], hint)
    }

    /// The value, copied to `shape` (axes aligned at the last one).
    pub fn broadcast(&mut self, x: Value, shape: &[Dim], hint: &str) -> Built<Value> {
        if self.ty(x).shape == shape {
            return Ok(x);
        }
        self.op(Op::Movement(Movement::Broadcast { shape: shape.to_vec() }), &[x], hint)
    }

    /// As [`RelevanceBuilder::broadcast`], but where `x` depends on weights alone the copies are made once, in `prepare`, for
    /// operations that belong there.
    pub fn broadcast_once(&mut self, x: Value, shape: &[Dim], hint: &str) -> Built<Value> {
        if self.ty(x).shape == shape || !self.graph.is_constant(x) {
            return self.broadcast(x, shape, hint);
        }
        let name = self.graph.fresh_name(&format!("{}{hint}.{}", self.prefix, self.subject));
        let op = Op::Movement(Movement::Broadcast { shape: shape.to_vec() });
        Ok(self.graph.add(Region::Prepare, op, &[x], &name, self.origin.clone())?)
    }

    /// A value per channel (`[C]`), copied to `[N, C, …]`.
    pub fn per_channel(&mut self, x: Value, shape: &[Dim], hint: &str) -> Built<Value> {
        let mut column = vec![Dim::Known(1); shape.len().saturating_sub(1)];
        if let (Some(slot), Some(channels)) = (column.first_mut(), shape.get(1)) {
            *slot = channels.clone();
        }
        let column = self.reshape(x, &column, hint)?;
        self.broadcast(column, shape, hint)
    }

    /// A reduction that keeps its axes with length 1.
    pub fn reduce(&mut self, kind: ReduceKind, x: Value, axes: &[usize], hint: &str) -> Built<Value> {
        self.op(Op::Reduce(Reduce { kind, axes: axes.to_vec(), keep: true }), &[x], hint)
    }

    /// A reduction that keeps its axes with length 1, copied back to the operand's shape.
    pub fn spread(&mut self, kind: ReduceKind, x: Value, axes: &[usize], hint: &str) -> Built<Value> {
        let reduced = self.reduce(kind, x, axes, hint)?;
        let shape = self.ty(x).shape;
        self.broadcast(reduced, &shape, hint)
    }
}

/// The ONNX name of the node that computes `value`, or else the value's own.
pub(crate) fn site_name(graph: &Graph, value: Value) -> String {
    graph.node(value.node).origin.from.as_deref().unwrap_or_else(|| graph.name(value)).to_string()
}
