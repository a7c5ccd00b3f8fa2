//! What recognisers share: numbers, casts and copies seen through, squares and means, and what a pattern would swallow.

pub(crate) mod norm;

use lrpc_ir::graph::{Graph, Origin, Region, Value};
use lrpc_ir::ops::source::LiteralValues;
use lrpc_ir::ops::{Binary, Elementwise, Function, Literal, Movement, Op, Reduce, ReduceKind, Source, Unary};
use lrpc_ir::types::product;
use lrpc_ir::{Diagnostic, Dim, TensorType};

use crate::manager::Context;

/// What a recogniser found.
#[derive(Debug)]
pub(crate) enum Found<T> {
    /// The pattern.
    Pattern(T),
    /// Something that looks like it, and why it is not.
    NearMiss(&'static str),
    /// Something else.
    Nothing,
}

/// How far a search for one number, or for what a pattern would swallow, goes: a bound on work, not on meaning.
const DEPTH: usize = 16;

/// The one operand and the parameters of a function of one tensor.
pub(crate) fn unary(graph: &Graph, value: Value, function: Function) -> Option<(Value, [f64; 2])> {
    match &graph.node(value.node).op {
        Op::Elementwise(Elementwise::Unary(unary)) if unary.function == function => {
            Some((graph.operand(value.node, 0)?, unary.parameters.map(|parameter| parameter.0)))
        }
        _ => None,
    }
}

/// The operands of a function of two tensors.
pub(crate) fn binary(graph: &Graph, value: Value, function: Binary) -> Option<[Value; 2]> {
    if graph.node(value.node).op != Op::Elementwise(Elementwise::Binary(function)) {
        return None;
    }
    Some([graph.operand(value.node, 0)?, graph.operand(value.node, 1)?])
}

/// The operands of a function of two tensors that may change places, in both orders.
pub(crate) fn either_order(graph: &Graph, value: Value, function: Binary) -> Vec<[Value; 2]> {
    binary(graph, value, function).map_or(Vec::new(), |[a, b]| vec![[a, b], [b, a]])
}

/// `base^exponent`, whether the exponent is a parameter or a constant tensor.
pub(crate) fn power(graph: &Graph, value: Value) -> Option<(Value, f64)> {
    if let Some((base, [exponent, _])) = unary(graph, value, Function::Pow) {
        return Some((base, exponent));
    }
    let [base, exponent] = binary(graph, value, Binary::Pow)?;
    Some((base, number(graph, exponent)?))
}

/// The one number that every element of `value` is, if literals alone say so.
pub(crate) fn number(graph: &Graph, value: Value) -> Option<f64> {
    number_within(graph, value, DEPTH)
}

fn number_within(graph: &Graph, value: Value, depth: usize) -> Option<f64> {
    let depth = depth.checked_sub(1)?;
    let operand = |slot| number_within(graph, graph.operand(value.node, slot)?, depth);
    match &graph.node(value.node).op {
        Op::Source(Source::Constant(literal)) => match &literal.values {
            LiteralValues::Floats(values) => one_of(values.iter().map(|value| value.0)),
            LiteralValues::Integers(values) => one_of(values.iter().map(|&value| value as f64)),
        },
        Op::Movement(Movement::Broadcast { .. } | Movement::Reshape { .. }) => operand(0),
        Op::Elementwise(Elementwise::Cast(dtype)) if dtype.is_float() => operand(0),
        Op::Elementwise(Elementwise::Unary(Unary { function, parameters: [by, _] })) => {
            let x = operand(0)?;
            match function {
                Function::Sqrt => Some(x.sqrt()),
                Function::Reciprocal => Some(x.recip()),
                Function::Neg => Some(-x),
                Function::Exp => Some(x.exp()),
                Function::Pow => Some(x.powf(by.0)),
                Function::Scale => Some(x * by.0),
                Function::Shift => Some(x + by.0),
                _ => None,
            }
        }
        Op::Elementwise(Elementwise::Binary(function)) if graph.ty(value).dtype.is_float() => {
            let (a, b) = (operand(0)?, operand(1)?);
            match function {
                Binary::Add => Some(a + b),
                Binary::Sub => Some(a - b),
                Binary::Mul => Some(a * b),
                Binary::Div => Some(a / b),
                Binary::Pow => Some(a.powf(b)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The number that all of at least one number are.
fn one_of(mut numbers: impl Iterator<Item = f64>) -> Option<f64> {
    let first = numbers.next()?;
    numbers.all(|number| number == first).then_some(first)
}

/// The value before casts between floating-point types, which are the identity up to rounding.
pub(crate) fn uncast(graph: &Graph, mut value: Value) -> Value {
    while let Op::Elementwise(Elementwise::Cast(dtype)) = &graph.node(value.node).op {
        match graph.operand(value.node, 0) {
            Some(operand) if dtype.is_float() && graph.ty(operand).dtype.is_float() => value = operand,
            _ => break,
        }
    }
    value
}

/// Whether two values are the same up to casts between floating-point types.
pub(crate) fn same(graph: &Graph, a: Value, b: Value) -> bool {
    uncast(graph, a) == uncast(graph, b)
}

/// What `value` is the square of: `x²`, `x·x`.
pub(crate) fn square_of(graph: &Graph, value: Value) -> Option<Value> {
    let value = uncast(graph, value);
    if let Some((base, 2.0)) = power(graph, value) {
        return Some(base);
    }
    let [a, b] = binary(graph, value, Binary::Mul)?;
    same(graph, a, b).then_some(a)
}

/// A statistic of rows, followed back from where it is copied to every element.
///
/// On the way from the reduction to the copies stand element-wise operations and reshapes, which keep the order of rows;
/// so the statistic of a row meets that row wherever what is copied has the shape of the reduction with its axes kept.
#[derive(Debug, Clone)]
pub(crate) struct Rows<'g> {
    graph: &'g Graph,
    copied: Vec<Value>,
}

impl<'g> Rows<'g> {
    pub(crate) fn new(graph: &'g Graph) -> Rows<'g> {
        Rows { graph, copied: Vec::new() }
    }

    /// The value before copies, reshapes and casts.
    pub(crate) fn peel(&mut self, mut value: Value) -> Value {
        loop {
            let before = uncast(self.graph, value);
            let operand = self.graph.operand(before.node, 0);
            match (&self.graph.node(before.node).op, operand) {
                (Op::Movement(Movement::Broadcast { .. }), Some(operand)) => {
                    self.copied.push(operand);
                    value = operand;
                }
                (Op::Movement(Movement::Reshape { .. }), Some(operand)) => value = operand,
                _ => return before,
            }
        }
    }

    /// Whether every copy that was seen gives a row of `x` its own statistic over `axes`.
    pub(crate) fn meet(&self, x: Value, axes: &[usize]) -> bool {
        let kept = kept_shape(&self.graph.ty(x).shape, axes);
        self.copied.iter().all(|&copied| self.graph.ty(copied).shape == kept)
    }
}

/// `shape` with `axes` of length 1.
pub(crate) fn kept_shape(shape: &[Dim], axes: &[usize]) -> Vec<Dim> {
    let kept = |(axis, dim): (usize, &Dim)| if axes.contains(&axis) { Dim::Known(1) } else { dim.clone() };
    shape.iter().enumerate().map(kept).collect()
}

/// What `value` reduces, by sum or maximum, and along which axes.
pub(crate) fn reduced(graph: &Graph, value: Value, kind: ReduceKind) -> Option<(Value, Vec<usize>)> {
    match &graph.node(value.node).op {
        Op::Reduce(Reduce { kind: found, axes, .. }) if *found == kind => {
            Some((graph.operand(value.node, 0)?, axes.clone()))
        }
        _ => None,
    }
}

/// What `value` is the mean of, and along which axes: a mean, or a sum times one over the number of its terms. A sum
/// that is divided by anything else is a near miss. Copies on the way are noted in `rows`.
pub(crate) fn mean_of(graph: &Graph, value: Value, rows: &mut Rows<'_>) -> Found<(Value, Vec<usize>)> {
    let value = uncast(graph, value);
    if let Some(mean) = reduced(graph, value, ReduceKind::Mean) {
        return Found::Pattern(mean);
    }
    let Some((sum, by)) = scaled(graph, value) else { return Found::Nothing };
    let Some((x, axes)) = reduced(graph, rows.peel(sum), ReduceKind::Sum) else { return Found::Nothing };
    let terms: Vec<Dim> = axes.iter().filter_map(|&axis| graph.ty(x).shape.get(axis).cloned()).collect();
    match product(&terms) {
        Ok(Dim::Known(terms)) if (by * terms as f64 - 1.0).abs() < 1e-6 => Found::Pattern((x, axes)),
        _ => Found::NearMiss("its sum of squares is not divided by the number of elements"),
    }
}

/// `value` as a tensor times one number.
pub(crate) fn scaled(graph: &Graph, value: Value) -> Option<(Value, f64)> {
    if let Some((x, [by, _])) = unary(graph, value, Function::Scale) {
        return Some((x, by));
    }
    if let Some([x, by]) = binary(graph, value, Binary::Div) {
        return Some((x, number(graph, by)?.recip()));
    }
    either_order(graph, value, Binary::Mul).into_iter().find_map(|[x, by]| Some((x, number(graph, by)?)))
}

/// `value` as a tensor plus one number.
pub(crate) fn shifted(graph: &Graph, value: Value) -> Option<(Value, f64)> {
    if let Some((x, [by, _])) = unary(graph, value, Function::Shift) {
        return Some((x, by));
    }
    either_order(graph, value, Binary::Add).into_iter().find_map(|[x, by]| Some((x, number(graph, by)?)))
}

/// The first value between `root` and `leaf` that somebody asked for, so that no pattern may swallow it.
pub(crate) fn asked_for(graph: &Graph, context: &Context, root: Value, leaf: Value) -> Option<Value> {
    let mut open = graph.operands(root.node);
    let mut seen = Vec::new();
    while let Some(value) = open.pop() {
        if value == leaf || seen.contains(&value) || graph.is_constant(value) {
            continue;
        }
        if context.pinned.contains(&value) {
            return Some(value);
        }
        seen.push(value);
        if !same(graph, value, leaf) {
            open.extend(graph.operands(value.node));
        }
    }
    None
}

/// A literal of `ty`, all of whose elements are `value`, as a constant of the graph.
pub(crate) fn filled(graph: &mut Graph, name: &str, ty: TensorType, value: f64) -> Result<Value, Diagnostic> {
    let name = graph.fresh_name(name);
    let literal = Op::Source(Source::Constant(Literal::filled(ty, value)));
    Ok(graph.add(Region::Prepare, literal, &[], &name, Origin::default())?)
}
