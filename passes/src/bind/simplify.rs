//! Removes what changes no bit: equal computations, operations that do nothing, chains of movement, dead nodes.
//!
//! | before | after |
//! |---|---|
//! | the same operation on the same operands, twice | once |
//! | `reshape`, `broadcast`, `transpose`, `slice`, `pad`, `concat`, `cast` to what is there already | its operand |
//! | `scale x {by=1}`, `mul x, 1`, `div x, 1`, `ratio x, 1`, `weigh x, 1`, `shift x {by=-0.0}`, `neg (neg x)` | `x` |
//! | `reshape (reshape x)`, `transpose (transpose x)`, `broadcast (broadcast x)` | one |
//! | `broadcast` or `transpose` that leaves the row-major order of elements as it is | `reshape` |
//! | movement of a constant that is the same everywhere | the constant in the new shape |
//!
//! `x + 0` is not among them: it turns −0 into 0.

use std::collections::HashMap;

use lrpc_ir::ops::source::LiteralValues;
use lrpc_ir::ops::{Binary, Elementwise, Function, Literal, Movement, Source, Unary};
use lrpc_ir::{Diagnostic, Dim, Float, Graph, Op, TensorType, Value};

use super::rewrite::{self, Outcome, Rewritten, copy, rewrite};

/// The simplified graph, without dead nodes.
pub(super) fn simplify(graph: &Graph) -> Result<Rewritten, Diagnostic> {
    let mut order = rewrite::topological(graph, &graph.inputs());
    // Operands lie in no later region. What both regions compute is thus met in the forward region first.
    order.sort_by_key(|&node| graph.node(node).region);
    let mut seen: HashMap<(Op, Vec<Value>), Value> = HashMap::with_capacity(order.len());
    let mut simplified = rewrite(graph, &order, |to, node, operands| {
        let content = graph.node(node);
        let (mut op, mut operands) = (content.op.clone(), operands.to_vec());
        while let Some((simpler, fewer)) = simpler(to, &op, &operands) {
            (op, operands) = (simpler, fewer);
        }
        if let Some(same) = unchanged(to, &op, &operands) {
            return Ok(Outcome::Value(same));
        }
        if content.types().len() != 1 || matches!(op, Op::Source(Source::Input(_) | Source::Weight(..))) {
            return copy(to, graph, node, op, &operands).map(Outcome::Node);
        }
        let key = key(&op, &operands);
        // No region reads from a later one.
        let reachable = |value: &Value| to.node(value.node).region <= content.region;
        if let Some(&same) = seen.get(&key).filter(|value| reachable(value)) {
            return Ok(Outcome::Value(same));
        }
        let new = copy(to, graph, node, op, &operands)?;
        seen.insert(key, new.into());
        Ok(Outcome::Node(new))
    })?;
    simplified.graph.remove_dead();
    Ok(simplified)
}

/// Equal keys give equal bits: sums and products do not depend on the order of their two operands.
fn key(op: &Op, operands: &[Value]) -> (Op, Vec<Value>) {
    let mut operands = operands.to_vec();
    let commutes = [Binary::Add, Binary::Mul, Binary::And, Binary::Or, Binary::Xor];
    if matches!(op, Op::Elementwise(Elementwise::Binary(binary)) if commutes.contains(binary)) {
        operands.sort();
    }
    (op.clone(), operands)
}

/// The operand that the operation gives back bit by bit.
fn unchanged(graph: &Graph, op: &Op, operands: &[Value]) -> Option<Value> {
    let x = *operands.first()?;
    let ty = graph.ty(x);
    let one = |slot: usize| operands.get(slot).is_some_and(|&operand| is_filled_with(graph, operand, 1.0));
    let same = match op {
        Op::Movement(movement) => is_idle(movement, ty, operands.len()),
        Op::Elementwise(elementwise) => match elementwise {
            Elementwise::Cast(dtype) => *dtype == ty.dtype,
            // Relevance has been kept from passing it.
            Elementwise::Unary(Unary { function: Function::StopGradient, .. }) => true,
            Elementwise::Unary(Unary { function: Function::Scale, parameters }) => {
                ty.dtype.is_float() && parameters[0] == Float(1.0)
            }
            Elementwise::Unary(Unary { function: Function::Shift, parameters }) => {
                ty.dtype.is_float() && parameters[0] == Float(-0.0)
            }
            Elementwise::Unary(Unary { function: Function::Neg, .. }) => {
                let inner = graph.node(x.node);
                let negation = Op::Elementwise(Elementwise::Unary(Unary::plain(Function::Neg)));
                return if inner.op == negation { graph.operand(x.node, 0) } else { None };
            }
            Elementwise::Binary(Binary::Mul) if one(0) => return operands.get(1).copied(),
            Elementwise::Binary(Binary::Mul | Binary::Div | Binary::Ratio | Binary::Weigh) => one(1),
            _ => false,
        },
        _ => false,
    };
    same.then_some(x)
}

fn is_idle(movement: &Movement, ty: &TensorType, operands: usize) -> bool {
    let at_zero = |places: &[Dim], steps: &[i64], shape: &[Dim]| {
        shape == ty.shape && places.iter().all(|place| *place == Dim::Known(0)) && steps.iter().all(|&step| step == 1)
    };
    match movement {
        Movement::Reshape { shape } | Movement::Broadcast { shape } => *shape == ty.shape,
        Movement::Transpose { perm } => perm.iter().enumerate().all(|(axis, &from)| axis == from),
        Movement::Slice { starts, steps, shape } => at_zero(starts, steps, shape),
        Movement::Pad { before, steps, shape, .. } => at_zero(before, steps, shape),
        Movement::Concat { .. } => operands == 1,
    }
}

/// One step towards a simpler form of a movement. Every step shortens a chain or reaches a reshape or a constant.
fn simpler(graph: &Graph, op: &Op, operands: &[Value]) -> Option<(Op, Vec<Value>)> {
    let (Op::Movement(movement), [x]) = (op, operands) else { return None };
    let ty = graph.ty(*x);
    let result = op.infer(&[ty]).ok()?.pop()?;
    let inner = graph.node(x.node);
    if let Op::Source(Source::Constant(literal)) = &inner.op
        && literal.len() == 1
        && !matches!(movement, Movement::Pad { .. })
    {
        let literal = Literal { ty: result, values: literal.values.clone() };
        return Some((Op::Source(Source::Constant(literal)), Vec::new()));
    }
    match movement {
        Movement::Broadcast { .. } if ty.elements() == result.elements() && ty.elements() != Ok(Dim::Known(0)) => {
            return Some((Op::Movement(Movement::Reshape { shape: result.shape }), operands.to_vec()));
        }
        Movement::Transpose { perm } if keeps_order(perm, ty) => {
            return Some((Op::Movement(Movement::Reshape { shape: result.shape }), operands.to_vec()));
        }
        _ => {}
    }
    let Op::Movement(before) = &inner.op else { return None };
    let movement = match (movement, before) {
        (Movement::Reshape { .. }, Movement::Reshape { .. })
        | (Movement::Broadcast { .. }, Movement::Broadcast { .. }) => movement.clone(),
        (Movement::Transpose { perm }, Movement::Transpose { perm: first }) => {
            Movement::Transpose { perm: perm.iter().map(|&axis| first.get(axis).copied()).collect::<Option<_>>()? }
        }
        _ => return None,
    };
    Some((Op::Movement(movement), graph.operands(x.node)))
}

/// Whether a transpose moves axes of length 1 alone.
fn keeps_order(perm: &[usize], ty: &TensorType) -> bool {
    let long: Vec<usize> = perm.iter().copied().filter(|&axis| ty.shape.get(axis) != Some(&Dim::Known(1))).collect();
    long.is_sorted() && !perm.is_sorted()
}

fn is_filled_with(graph: &Graph, value: Value, number: f64) -> bool {
    let Op::Source(Source::Constant(literal)) = &graph.node(value.node).op else { return false };
    matches!(&literal.values, LiteralValues::Floats(values) if values.as_slice() == [Float(number)])
}
