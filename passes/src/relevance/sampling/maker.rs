//! Makes the nodes that perturb a tensor. What depends on weights, literals and sizes alone lands in `prepare`.

use lrpc_ir::graph::{Graph, Origin, Region, Value};
use lrpc_ir::ops::{Binary, Compare, Elementwise, Function, Literal, Movement, Op, Reduce, ReduceKind, Source, Unary};
use lrpc_ir::{DType, Dim, TensorType};

use super::settings::Baseline;
use crate::relevance::builder::Built;

pub(super) struct Maker<'a> {
    graph: &'a mut Graph,
    subject: String,
    by: &'static str,
}

impl<'a> Maker<'a> {
    /// A maker of nodes around the tensor called `subject`.
    pub(super) fn new(graph: &'a mut Graph, subject: &str, by: &'static str) -> Maker<'a> {
        Maker { graph, subject: subject.into(), by }
    }

    pub(super) fn graph(&self) -> &Graph {
        self.graph
    }

    pub(super) fn ty(&self, value: Value) -> TensorType {
        self.graph.ty(value).clone()
    }

    pub(super) fn op(&mut self, op: Op, operands: &[Value], hint: &str) -> Built<Value> {
        let constant = operands.iter().all(|&operand| self.graph.is_constant(operand));
        let region = if constant { Region::Prepare } else { Region::Forward };
        let name = self.graph.fresh_name(&format!("{hint}.{}", self.subject));
        let origin = Origin { from: Some(self.subject.as_str().into()), by: Some(self.by.into()) };
        Ok(self.graph.add(region, op, operands, &name, origin)?)
    }

    fn binary(&mut self, binary: Binary, a: Value, b: Value, hint: &str) -> Built<Value> {
        self.op(Op::Elementwise(Elementwise::Binary(binary)), &[a, b], hint)
    }

    pub(super) fn add(&mut self, a: Value, b: Value, hint: &str) -> Built<Value> {
        self.binary(Binary::Add, a, b, hint)
    }

    pub(super) fn sub(&mut self, a: Value, b: Value, hint: &str) -> Built<Value> {
        self.binary(Binary::Sub, a, b, hint)
    }

    pub(super) fn mul(&mut self, a: Value, b: Value, hint: &str) -> Built<Value> {
        self.binary(Binary::Mul, a, b, hint)
    }

    pub(super) fn div(&mut self, a: Value, b: Value, hint: &str) -> Built<Value> {
        self.binary(Binary::Div, a, b, hint)
    }

    pub(super) fn remainder(&mut self, a: Value, b: Value, hint: &str) -> Built<Value> {
        self.binary(Binary::Mod, a, b, hint)
    }

    pub(super) fn both(&mut self, a: Value, b: Value) -> Built<Value> {
        self.binary(Binary::And, a, b, "inside")
    }

    pub(super) fn scale(&mut self, x: Value, factor: f64, hint: &str) -> Built<Value> {
        self.op(Op::Elementwise(Elementwise::Unary(Unary::with(Function::Scale, factor))), &[x], hint)
    }

    pub(super) fn shift(&mut self, x: Value, by: f64, hint: &str) -> Built<Value> {
        if by == 0.0 {
            return Ok(x);
        }
        self.op(Op::Elementwise(Elementwise::Unary(Unary::with(Function::Shift, by))), &[x], hint)
    }

    pub(super) fn reciprocal(&mut self, x: Value, hint: &str) -> Built<Value> {
        self.op(Op::Elementwise(Elementwise::Unary(Unary::plain(Function::Reciprocal))), &[x], hint)
    }

    pub(super) fn cast(&mut self, x: Value, dtype: DType, hint: &str) -> Built<Value> {
        self.op(Op::Elementwise(Elementwise::Cast(dtype)), &[x], hint)
    }

    pub(super) fn compare(&mut self, compare: Compare, a: Value, b: Value, hint: &str) -> Built<Value> {
        self.op(Op::Elementwise(Elementwise::Compare(compare)), &[a, b], hint)
    }

    /// `a` where the condition holds, else `b`.
    pub(super) fn choose(&mut self, condition: Value, a: Value, b: Value, hint: &str) -> Built<Value> {
        self.op(Op::Elementwise(Elementwise::Where), &[condition, a, b], hint)
    }

    pub(super) fn reduce(&mut self, kind: ReduceKind, x: Value, axes: &[usize], hint: &str) -> Built<Value> {
        self.op(Op::Reduce(Reduce { kind, axes: axes.to_vec(), keep: true }), &[x], hint)
    }

    pub(super) fn reshape(&mut self, x: Value, shape: &[Dim]) -> Built<Value> {
        if self.ty(x).shape == shape {
            return Ok(x);
        }
        self.op(Op::Movement(Movement::Reshape { shape: shape.to_vec() }), &[x], "each")
    }

    pub(super) fn broadcast(&mut self, x: Value, shape: &[Dim]) -> Built<Value> {
        if self.ty(x).shape == shape {
            return Ok(x);
        }
        self.op(Op::Movement(Movement::Broadcast { shape: shape.to_vec() }), &[x], "each")
    }

    /// One element for each step, copied to the shape of `like`, whose first axes are the step's.
    pub(super) fn spread(&mut self, x: Value, like: Value) -> Built<Value> {
        let shape = self.ty(like).shape;
        let mut column = self.ty(x).shape;
        column.resize(shape.len(), Dim::Known(1));
        let column = self.reshape(x, &column)?;
        self.broadcast(column, &shape)
    }

    /// The integer `value`, in the shape of `like`.
    pub(super) fn integers(&mut self, value: i64, like: Value) -> Built<Value> {
        let literal = Literal::filled(TensorType::new(DType::I64, self.ty(like).shape), value as f64);
        self.op(Op::Source(Source::Constant(literal)), &[], "const")
    }

    /// A size, in the shape of `like`.
    pub(super) fn sizes(&mut self, size: &Dim, like: Value) -> Built<Value> {
        if let Some(size) = size.known() {
            return self.integers(size, like);
        }
        let value = self.op(Op::Source(Source::Size(size.clone())), &[], "size")?;
        let shape = self.ty(like).shape;
        self.broadcast(value, &shape)
    }

    /// Whether the step is below zero: the run is the clean one.
    pub(super) fn below_zero(&mut self, step: Value) -> Built<Value> {
        let zero = self.integers(0, step)?;
        self.compare(Compare::Less, step, zero, "is_clean")
    }

    /// What stands for the absence of `x`.
    pub(super) fn baseline(&mut self, x: Value, baseline: &Baseline, name: &str) -> Built<Value> {
        let ty = self.ty(x);
        match *baseline {
            Baseline::Number(value) => {
                self.op(Op::Source(Source::Constant(Literal::filled(ty, value))), &[], "baseline")
            }
            Baseline::Given => {
                let name = self.graph.fresh_name(&format!("baseline.{name}"));
                Ok(self.graph.add(Region::Header, Op::Source(Source::Input(ty)), &[], &name, Origin::default())?)
            }
        }
    }
}
