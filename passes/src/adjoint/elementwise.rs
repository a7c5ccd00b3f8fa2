//! Derivatives of element-wise operations.

use lrpc_ir::graph::Value;
use lrpc_ir::ops::{Binary, Compare, Elementwise, Function, Op, Unary};
use lrpc_ir::{DType, Diagnostic, TensorType};

use super::movement;
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::Site;

/// VJP with respect to operand `slot`.
pub(super) fn vjp(
    b: &mut RelevanceBuilder,
    site: &Site,
    op: &Elementwise,
    slot: usize,
    cotangent: Value,
) -> Built<Value> {
    match op {
        Elementwise::Unary(Unary { function: Function::Scale, parameters }) => b.scale(cotangent, parameters[0].0, "t"),
        Elementwise::Unary(Unary { function: Function::Neg, .. }) => b.scale(cotangent, -1.0, "t"),
        Elementwise::Unary(Unary { function: Function::Shift, .. }) => Ok(cotangent),
        Elementwise::Unary(unary) => {
            let x = b.activation(site.operands[0])?;
            let slope = b.op(Op::Elementwise(Elementwise::Derivative(*unary)), &[x], "slope")?;
            b.mul(cotangent, slope, "t")
        }
        Elementwise::Binary(binary) => binary_vjp(b, site, *binary, slot, cotangent),
        Elementwise::Where => {
            let condition = b.activation(site.operands[0])?;
            mask(b, condition, cotangent, slot == 1)
        }
        Elementwise::Cast(_) => movement::adjoint(b, site, slot, cotangent),
        Elementwise::Narrow(_) => Ok(cotangent),
        Elementwise::Quantize => quantize_vjp(b, site, cotangent),
        Elementwise::Dequantize => {
            let scale = b.activation(site.operands[1])?;
            let product = b.mul(cotangent, scale, "t")?;
            b.cast(product, DType::F32, "t")
        }
        Elementwise::Derivative(_) | Elementwise::Secant(_) | Elementwise::Compare(_) | Elementwise::BitCast { .. } => {
            Err(Diagnostic::new(format!("`{}` has no derivative", op.mnemonic())))
        }
    }
}

fn binary_vjp(b: &mut RelevanceBuilder, site: &Site, binary: Binary, slot: usize, cotangent: Value) -> Built<Value> {
    let other = |b: &mut RelevanceBuilder| b.activation(site.operands[1 - slot]);
    match (binary, slot) {
        (Binary::Add, _) | (Binary::Sub, 0) => Ok(cotangent),
        // Between its jumps a remainder goes up with the dividend.
        (Binary::Mod | Binary::Fmod, 0) => Ok(cotangent),
        (Binary::Sub, _) => b.scale(cotangent, -1.0, "t"),
        (Binary::Mul, _) => {
            let other = other(b)?;
            b.mul(cotangent, other, "t")
        }
        (Binary::Div, 0) => {
            let other = other(b)?;
            b.binary(Binary::Div, cotangent, other, "t")
        }
        (Binary::Div, _) => {
            // d(a/b)/db = −(a/b)/b.
            let (y, divisor) = (b.activation(site.output)?, b.activation(site.operands[1])?);
            let slope = b.binary(Binary::Div, y, divisor, "slope")?;
            let product = b.mul(cotangent, slope, "t")?;
            b.scale(product, -1.0, "t")
        }
        (Binary::Min | Binary::Max, _) => {
            let won = wins(b, site, binary)?;
            mask(b, won, cotangent, slot == 0)
        }
        (Binary::Prelu, 0) => {
            let slope = prelu_slope(b, site)?;
            b.mul(cotangent, slope, "t")
        }
        (Binary::Pow, 0) => pow_slope(b, site, cotangent),
        _ => Err(Diagnostic::new(format!("`{}` has no derivative there", site.op.mnemonic()))),
    }
}

/// The slope of what is rounded, `1/scale`, and 0 where the integer is the least or the greatest and the number lies
/// beyond it.
fn quantize_vjp(b: &mut RelevanceBuilder, site: &Site, cotangent: Value) -> Built<Value> {
    let operands = site.operands.iter().map(|&operand| b.activation(operand)).collect::<Built<Vec<_>>>()?;
    let &[x, scale, zero] = &operands[..] else { return Err(Diagnostic::new("`quantize` has three operands")) };
    let q = b.activation(site.output)?;
    let stood_for = b.op(Op::Elementwise(Elementwise::Dequantize), &[q, scale, zero], "rounded")?;
    let off = b.sub(x, stood_for, "off")?;
    let off = b.magnitude(off, "off")?;
    // Half a step, and what the division may round.
    let half = b.scale(scale, 0.501, "half")?;
    let inside = b.op(Op::Elementwise(Elementwise::Compare(Compare::LessOrEqual)), &[off, half], "inside")?;
    let dtype = b.ty(x).dtype;
    let cotangent = b.cast(cotangent, dtype, "t")?;
    let slope = b.binary(Binary::Div, cotangent, scale, "t")?;
    mask(b, inside, slope, true)
}

/// `f(x)/x = f'(x)` of a PReLU.
pub(crate) fn prelu_slope(b: &mut RelevanceBuilder, site: &Site) -> Built<Value> {
    let (x, slope) = (b.activation(site.operands[0])?, b.activation(site.operands[1])?);
    b.binary(Binary::PreluSlope, x, slope, "slope")
}

/// `g·p·x^(p − 1)`.
fn pow_slope(b: &mut RelevanceBuilder, site: &Site, cotangent: Value) -> Built<Value> {
    let (x, exponent) = (b.activation(site.operands[0])?, b.activation(site.operands[1])?);
    let lower = b.unary(Unary::with(Function::Shift, -1.0), exponent, "exponent")?;
    let power = b.binary(Binary::Pow, x, lower, "power")?;
    let slope = b.mul(power, exponent, "slope")?;
    b.mul(cotangent, slope, "t")
}

/// Where the first operand is the minimum or maximum; it wins ties.
pub(crate) fn wins(b: &mut RelevanceBuilder, site: &Site, binary: Binary) -> Built<Value> {
    let (first, second) = (b.activation(site.operands[0])?, b.activation(site.operands[1])?);
    let compare = if binary == Binary::Max { Compare::GreaterOrEqual } else { Compare::LessOrEqual };
    b.op(Op::Elementwise(Elementwise::Compare(compare)), &[first, second], "won")
}

/// `value` where `condition` is `side`, and 0 elsewhere.
pub(crate) fn mask(b: &mut RelevanceBuilder, condition: Value, value: Value, side: bool) -> Built<Value> {
    let TensorType { dtype, shape } = b.ty(value);
    let zero = b.filled(0.0, dtype, &shape)?;
    let operands = if side { [condition, value, zero] } else { [condition, zero, value] };
    b.op(Op::Elementwise(Elementwise::Where), &operands, "masked")
}
