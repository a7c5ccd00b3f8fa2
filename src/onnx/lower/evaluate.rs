//! The elements of small floating-point constants, where a shape depends on them: exporters take square roots of sizes.

use lrpc_ir::ops::source::LiteralValues;
use lrpc_ir::ops::{Binary, Elementwise, Function, Movement, Source, Unary};
use lrpc_ir::types::DType;
use lrpc_ir::{Dim, Op, Value};

use super::known::Known;
use super::lowering::Lowering;

/// How many operations are followed back from a value.
const DEPTH: u32 = 32;

/// The elements of a value that is made of constants by arithmetic, every step rounded to its element type. `None` for
/// everything else and for more than [`Known::MAX_ELEMENTS`] elements.
pub(super) fn evaluate(lowering: &Lowering, value: Value) -> Option<Vec<f64>> {
    follow(lowering, value, DEPTH)
}

fn follow(lowering: &Lowering, value: Value, depth: u32) -> Option<Vec<f64>> {
    let graph = &lowering.graph;
    let ty = graph.ty(value);
    let count = ty.elements().ok().as_ref().and_then(Dim::known).and_then(|count| usize::try_from(count).ok())?;
    if count > Known::MAX_ELEMENTS {
        return None;
    }
    let depth = depth.checked_sub(1)?;
    let operand = |slot| follow(lowering, graph.operand(value.node, slot)?, depth);
    let found: Vec<f64> = match &graph.node(value.node).op {
        Op::Source(Source::Constant(literal)) => match &literal.values {
            LiteralValues::Floats(values) => values.iter().map(|value| value.0).collect(),
            LiteralValues::Integers(values) => values.iter().map(|value| *value as f64).collect(),
        },
        Op::Source(Source::Weight(..)) => {
            let tensor = lowering.tensor_of(value)?;
            let integers = || Some(tensor.integers()?.into_iter().map(|value| value as f64).collect());
            tensor.floats().or_else(integers)?
        }
        Op::Movement(Movement::Reshape { .. }) => operand(0)?,
        // Copies of one element.
        Op::Movement(Movement::Broadcast { .. }) => operand(0).filter(|values| values.len() == 1)?,
        Op::Elementwise(Elementwise::Cast(_)) if ty.dtype.is_float() => operand(0)?,
        Op::Elementwise(Elementwise::Unary(unary)) => {
            operand(0)?.into_iter().map(|x| apply(unary, x)).collect::<Option<_>>()?
        }
        Op::Elementwise(Elementwise::Binary(binary)) if ty.dtype.is_float() => {
            let pairs = operand(0)?.into_iter().zip(operand(1)?);
            pairs.map(|(a, b)| combine(*binary, a, b)).collect::<Option<_>>()?
        }
        _ => return None,
    };
    let round = |x: f64| match ty.dtype {
        DType::F32 => Some(f64::from(x as f32)),
        DType::F16 | DType::Bf16 => None,
        _ => Some(x),
    };
    let found = found.into_iter().map(round).collect::<Option<Vec<f64>>>()?;
    match found.as_slice() {
        [single] => Some(vec![*single; count]),
        _ => (found.len() == count).then_some(found),
    }
}

fn apply(unary: &Unary, x: f64) -> Option<f64> {
    let [first, second] = unary.parameters.map(|parameter| parameter.0);
    Some(match unary.function {
        Function::Sqrt => x.sqrt(),
        Function::Pow => x.powf(first),
        Function::Log => x.ln(),
        Function::Exp => x.exp(),
        Function::Floor => x.floor(),
        Function::Ceil => x.ceil(),
        Function::Round => x.round_ties_even(),
        Function::Neg => -x,
        Function::Abs => x.abs(),
        Function::Reciprocal => x.recip(),
        Function::Scale => x * first,
        Function::Shift => x + first,
        Function::Clip => x.max(first).min(second),
        _ => return None,
    })
}

fn combine(binary: Binary, a: f64, b: f64) -> Option<f64> {
    Some(match binary {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Pow => a.powf(b),
        Binary::Min => a.min(b),
        Binary::Max => a.max(b),
        _ => return None,
    })
}
