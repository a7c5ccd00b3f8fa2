//! Element-wise operators.

use lrpc_ir::ops::{Binary, Compare, Elementwise, Function};
use lrpc_ir::types::{DType, TensorType};
use lrpc_ir::{Dim, DimError, Value};

use super::finding::{Lowered, invalid, unsupported};
use super::known::Known;
use super::site::Site;
use super::table::OpDef;
use crate::onnx::tensor::element_type;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("Relu", 6, |site| plain(site, Function::Relu)),
    OpDef::new("LeakyRelu", 6, |site| one(site, Function::LeakyRelu, ("alpha", 0.01))),
    OpDef::new("Elu", 6, |site| one(site, Function::Elu, ("alpha", 1.0))),
    OpDef::new("Selu", 6, |site| two(site, Function::Selu, [("alpha", 1.673_263_2), ("gamma", 1.050_701)])),
    OpDef::new("Celu", 12, |site| one(site, Function::Celu, ("alpha", 1.0))),
    OpDef::new("ThresholdedRelu", 10, |site| one(site, Function::ThresholdedRelu, ("alpha", 1.0))),
    OpDef::new("Sigmoid", 6, |site| plain(site, Function::Sigmoid)),
    OpDef::new("HardSigmoid", 6, |site| two(site, Function::HardSigmoid, [("alpha", 0.2), ("beta", 0.5)])),
    OpDef::new("HardSwish", 14, |site| plain(site, Function::HardSwish)),
    OpDef::new("Swish", 24, |site| one(site, Function::Swish, ("alpha", 1.0))),
    OpDef::new("Mish", 18, |site| plain(site, Function::Mish)),
    OpDef::new("Gelu", 20, gelu),
    OpDef::new("Tanh", 6, |site| plain(site, Function::Tanh)),
    OpDef::new("Softplus", 1, |site| plain(site, Function::Softplus)),
    OpDef::new("Softsign", 1, |site| plain(site, Function::Softsign)),
    OpDef::new("Erf", 9, |site| plain(site, Function::Erf)),
    OpDef::new("Exp", 6, |site| plain(site, Function::Exp)),
    OpDef::new("Log", 6, |site| plain(site, Function::Log)),
    OpDef::new("Sqrt", 6, |site| plain(site, Function::Sqrt)),
    OpDef::new("Reciprocal", 6, |site| plain(site, Function::Reciprocal)),
    OpDef::new("Abs", 6, |site| plain(site, Function::Abs)).folding(|site| fold_1(site, magnitude)),
    OpDef::new("Neg", 6, |site| plain(site, Function::Neg)).folding(|site| fold_1(site, |x| Dim::Known(0).sub(x))),
    OpDef::new("Sign", 9, |site| plain(site, Function::Sign)),
    OpDef::new("Floor", 6, |site| plain(site, Function::Floor)),
    OpDef::new("Ceil", 6, |site| plain(site, Function::Ceil)),
    OpDef::new("Round", 11, |site| plain(site, Function::Round)),
    OpDef::new("Sin", 7, |site| plain(site, Function::Sin)),
    OpDef::new("Cos", 7, |site| plain(site, Function::Cos)),
    OpDef::new("Tan", 7, |site| plain(site, Function::Tan)),
    OpDef::new("Asin", 7, |site| plain(site, Function::Asin)),
    OpDef::new("Acos", 7, |site| plain(site, Function::Acos)),
    OpDef::new("Atan", 7, |site| plain(site, Function::Atan)),
    OpDef::new("Sinh", 9, |site| plain(site, Function::Sinh)),
    OpDef::new("Cosh", 9, |site| plain(site, Function::Cosh)),
    OpDef::new("Asinh", 9, |site| plain(site, Function::Asinh)),
    OpDef::new("Acosh", 9, |site| plain(site, Function::Acosh)),
    OpDef::new("Atanh", 9, |site| plain(site, Function::Atanh)),
    OpDef::new("Shrink", 9, |site| two(site, Function::Shrink, [("lambd", 0.5), ("bias", 0.0)])),
    OpDef::new("SwiGLU", 28, swiglu),
    OpDef::new("Not", 1, |site| plain(site, Function::Not)).folding(|site| fold_1(site, |x| Dim::Known(1).sub(x))),
    OpDef::new("IsNaN", 9, |site| plain(site, Function::IsNan)),
    OpDef::new("IsInf", 10, is_infinite),
    OpDef::new("Clip", 6, clip_by_attributes),
    OpDef::new("Clip", 11, clip_by_inputs),
    OpDef::new("Add", 7, |site| binary(site, Binary::Add)).folding(|site| fold_2(site, Dim::add)),
    OpDef::new("Sub", 7, |site| binary(site, Binary::Sub)).folding(|site| fold_2(site, Dim::sub)),
    OpDef::new("Mul", 7, |site| binary(site, Binary::Mul)).folding(|site| fold_2(site, Dim::mul)),
    OpDef::new("Div", 7, |site| binary(site, Binary::Div)).folding(|site| fold_2(site, divide)),
    OpDef::new("Mod", 10, modulo).folding(fold_modulo),
    OpDef::new("Pow", 7, pow),
    OpDef::new("PRelu", 7, prelu),
    OpDef::new("And", 7, |site| binary(site, Binary::And)).folding(|site| fold_2(site, Dim::mul)),
    OpDef::new("Or", 7, |site| binary(site, Binary::Or)).folding(|site| fold_2(site, Dim::maximum)),
    OpDef::new("Xor", 7, |site| binary(site, Binary::Xor)),
    OpDef::new("Min", 6, |site| variadic(site, Binary::Min)).folding(|site| fold_all(site, Dim::minimum)),
    OpDef::new("Max", 6, |site| variadic(site, Binary::Max)).folding(|site| fold_all(site, Dim::maximum)),
    OpDef::new("Sum", 6, |site| variadic(site, Binary::Add)).folding(|site| fold_all(site, Dim::add)),
    OpDef::new("Mean", 6, mean),
    OpDef::new("Equal", 7, |site| compare(site, Compare::Equal)).folding(|site| decide(site, |sign| sign == 0)),
    OpDef::new("Less", 7, |site| compare(site, Compare::Less)).folding(|site| decide(site, |sign| sign < 0)),
    OpDef::new("LessOrEqual", 12, |site| compare(site, Compare::LessOrEqual))
        .folding(|site| decide(site, |sign| sign <= 0)),
    OpDef::new("Greater", 7, |site| compare(site, Compare::Greater)).folding(|site| decide(site, |sign| sign > 0)),
    OpDef::new("GreaterOrEqual", 12, |site| compare(site, Compare::GreaterOrEqual))
        .folding(|site| decide(site, |sign| sign >= 0)),
    OpDef::new("Where", 9, select).folding(fold_select),
    OpDef::new("Cast", 6, cast).folding(fold_cast),
    OpDef::new("CastLike", 15, cast_like),
];

/// The name of an attribute and its default.
type Parameter = (&'static str, f32);

fn plain(site: &mut Site, function: Function) -> Lowered {
    let x = site.input(0)?;
    let result = site.unary(function, [0.0; 2], x)?;
    site.output(0, result)
}

fn one(site: &mut Site, function: Function, (name, default): Parameter) -> Lowered {
    let x = site.input(0)?;
    let parameter = site.float_or(name, default)?;
    let result = site.unary(function, [parameter, 0.0], x)?;
    site.output(0, result)
}

fn two(site: &mut Site, function: Function, [first, second]: [Parameter; 2]) -> Lowered {
    let x = site.input(0)?;
    let parameters = [site.float_or(first.0, first.1)?, site.float_or(second.0, second.1)?];
    let result = site.unary(function, parameters, x)?;
    site.output(0, result)
}

/// `swish(a)·b`.
fn swiglu(site: &mut Site) -> Lowered {
    let (gate, x) = (site.input(0)?, site.input(1)?);
    let parameter = site.float_or("alpha", 1.0)?;
    let gate = site.unary(Function::Swish, [parameter, 0.0], gate)?;
    let result = site.binary(Binary::Mul, gate, x)?;
    site.output(0, result)
}

fn gelu(site: &mut Site) -> Lowered {
    match site.word_or("approximate", "none")?.as_str() {
        "none" => plain(site, Function::Gelu),
        "tanh" => plain(site, Function::GeluTanh),
        other => invalid(format!("approximate is {other:?}")),
    }
}

fn clip(site: &mut Site, x: Value, low: Option<f64>, high: Option<f64>) -> Lowered<Value> {
    match (low, high) {
        (None, None) => Ok(x),
        _ => site.unary(Function::Clip, [low.unwrap_or(f64::NEG_INFINITY), high.unwrap_or(f64::INFINITY)], x),
    }
}

fn clip_by_attributes(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    // The defaults are the largest numbers of single precision, which stand for no limit.
    let low = site.float("min")?.filter(|low| *low > f64::from(f32::MIN));
    let high = site.float("max")?.filter(|high| *high < f64::from(f32::MAX));
    let result = clip(site, x, low, high)?;
    site.output(0, result)
}

/// Limits that are constants become parameters; others stay operands.
fn clip_by_inputs(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let is_float = site.ty(x).dtype.is_float();
    let limits = [1, 2].map(|index| site.constant_scalar(index).filter(|_| is_float));
    let mut result = clip(site, x, limits[0], limits[1])?;
    for (index, op) in [(1, Binary::Max), (2, Binary::Min)] {
        if site.has_input(index) && limits[index - 1].is_none() {
            let limit = site.input(index)?;
            result = site.binary(op, result, limit)?;
        }
    }
    site.output(0, result)
}

fn binary(site: &mut Site, op: Binary) -> Lowered {
    let (a, b) = (site.input(0)?, site.input(1)?);
    let result = site.binary(op, a, b)?;
    site.output(0, result)
}

fn modulo(site: &mut Site) -> Lowered {
    let op = if site.flag("fmod", false)? { Binary::Fmod } else { Binary::Mod };
    binary(site, op)
}

/// A magnitude that equals infinity, or one of the two infinities.
fn is_infinite(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let (negative, positive) = (site.flag("detect_negative", true)?, site.flag("detect_positive", true)?);
    let ty = site.ty(x);
    let result = match (negative, positive) {
        (false, false) => site.filled(ty.with_dtype(DType::Bool), 0.0)?,
        (both, _) => {
            let x = if both && positive { site.unary(Function::Abs, [0.0; 2], x)? } else { x };
            let limit = if positive { f64::INFINITY } else { f64::NEG_INFINITY };
            let limit = site.filled(TensorType::new(ty.dtype, Vec::new()), limit)?;
            site.elementwise(Elementwise::Compare(Compare::Equal), &[x, limit])?
        }
    };
    site.output(0, result)
}

/// A constant exponent makes a function of one tensor. A power of integers is computed in double precision where the
/// exponent is no integer.
fn pow(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let dtype = site.ty(x).dtype;
    let result = match site.constant_scalar(1) {
        Some(exponent) if dtype.is_float() && site.input_type(1)?.rank() <= site.ty(x).rank() => {
            site.unary(Function::Pow, [exponent, 0.0], x)?
        }
        _ => {
            let exponent = site.input(1)?;
            let wide = dtype.is_integer() && site.ty(exponent).dtype.is_float();
            let common = if wide { DType::F64 } else { dtype };
            let (x, exponent) = (site.cast(x, common)?, site.cast(exponent, common)?);
            let power = site.binary(Binary::Pow, x, exponent)?;
            site.cast(power, dtype)?
        }
    };
    site.output(0, result)
}

fn prelu(site: &mut Site) -> Lowered {
    let (x, slope) = (site.input(0)?, site.input(1)?);
    let shape = site.ty(x).shape;
    let slope = site.broadcast(slope, &shape)?;
    let result = site.binary(Binary::Prelu, x, slope)?;
    site.output(0, result)
}

fn chain(site: &mut Site, op: Binary) -> Lowered<Value> {
    let inputs = site.all_inputs()?;
    joined(site, op, &inputs)
}

fn joined(site: &mut Site, op: Binary, inputs: &[Value]) -> Lowered<Value> {
    let Some((first, rest)) = inputs.split_first() else { return invalid("there are no inputs") };
    rest.iter().try_fold(*first, |total, next| site.binary(op, total, *next))
}

fn variadic(site: &mut Site, op: Binary) -> Lowered {
    let result = chain(site, op)?;
    site.output(0, result)
}

fn mean(site: &mut Site) -> Lowered {
    let mut inputs = site.all_inputs()?;
    let share = 1.0 / inputs.len().max(1) as f64;
    // Shares of the operands are summed, so that what rules divide by is the mean and not the sum.
    if inputs.len() > 1 {
        for input in &mut inputs {
            *input = site.unary(Function::Scale, [share, 0.0], *input)?;
        }
    }
    let result = joined(site, Binary::Add, &inputs)?;
    site.output(0, result)
}

fn compare(site: &mut Site, op: Compare) -> Lowered {
    let (a, b) = (site.input(0)?, site.input(1)?);
    let result = site.elementwise(Elementwise::Compare(op), &[a, b])?;
    site.output(0, result)
}

fn select(site: &mut Site) -> Lowered {
    let operands = [site.input(0)?, site.input(1)?, site.input(2)?];
    let result = site.elementwise(Elementwise::Where, &operands)?;
    site.output(0, result)
}

fn target(site: &mut Site) -> Lowered<DType> {
    // These concern element types of eight bits and less, which are refused.
    site.ignore("saturate");
    site.ignore("round_mode");
    let number = site.int("to")?.and_then(|number| i32::try_from(number).ok());
    match number.and_then(element_type) {
        Some(dtype) => Ok(dtype),
        None => unsupported(format!("a cast to element type number {}", number.unwrap_or_default())),
    }
}

fn cast(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let dtype = target(site)?;
    let result = site.cast(x, dtype)?;
    site.output(0, result)
}

fn cast_like(site: &mut Site) -> Lowered {
    site.ignore("saturate");
    site.ignore("round_mode");
    let x = site.input(0)?;
    let dtype = site.input_type(1)?.dtype;
    let result = site.cast(x, dtype)?;
    site.output(0, result)
}

// Evaluation of known integers.

/// All inputs, if all are known.
fn known_inputs(site: &Site) -> Option<Vec<Known>> {
    (0..site.input_count()).map(|index| site.known(index).cloned()).collect()
}

/// Where an element has no value (it overflows, say), nothing is evaluated, and the nodes stay.
fn fold_1(site: &mut Site, f: fn(&Dim) -> Result<Dim, DimError>) -> Lowered<Option<Known>> {
    let Some(inputs) = known_inputs(site) else { return Ok(None) };
    let [x] = inputs.as_slice() else { return Ok(None) };
    Ok(Known::combine(&[x], x.dtype, |elements| f(elements.first()?).ok()))
}

fn fold_2(site: &mut Site, f: fn(&Dim, &Dim) -> Result<Dim, DimError>) -> Lowered<Option<Known>> {
    if site.input_count() == 2 { fold_all(site, f) } else { Ok(None) }
}

fn fold_all(site: &mut Site, f: fn(&Dim, &Dim) -> Result<Dim, DimError>) -> Lowered<Option<Known>> {
    let Some(inputs) = known_inputs(site) else { return Ok(None) };
    let operands: Vec<&Known> = inputs.iter().collect();
    let Some(dtype) = inputs.first().map(|input| input.dtype) else { return Ok(None) };
    Ok(Known::combine(&operands, dtype, |elements| {
        let (first, rest) = elements.split_first()?;
        rest.iter().try_fold((*first).clone(), |total, next| f(&total, next).ok())
    }))
}

/// Integers are divided towards zero. A symbolic size is not negative, so that its floor is the same.
fn divide(a: &Dim, b: &Dim) -> Result<Dim, DimError> {
    match (a.known(), b.known()) {
        (_, Some(0)) => Err(DimError::DivisionByZero),
        (Some(a), Some(b)) => a.checked_div(b).map(Dim::Known).ok_or(DimError::Overflow),
        _ => a.floor_div(b),
    }
}

/// What is left of a division, with the sign of the divisor or, with `fmod`, of the dividend.
fn fold_modulo(site: &mut Site) -> Lowered<Option<Known>> {
    if site.flag("fmod", false)? {
        return fold_2(site, |a, b| a.sub(&divide(a, b)?.mul(b)?));
    }
    fold_2(site, |a, b| a.sub(&a.floor_div(b)?.mul(b)?))
}

fn magnitude(x: &Dim) -> Result<Dim, DimError> {
    x.maximum(&Dim::Known(0).sub(x)?)
}

/// A comparison that is decided by the difference of the operands, or by a symbolic size not being negative. `holds` is
/// asked about the difference's sign.
fn decide(site: &mut Site, holds: fn(i64) -> bool) -> Lowered<Option<Known>> {
    let Some(inputs) = known_inputs(site) else { return Ok(None) };
    let operands: Vec<&Known> = inputs.iter().collect();
    Ok(Known::combine(&operands, DType::Bool, |elements| {
        let [a, b] = elements else { return None };
        let sign = match (a.sub(b).ok()?, a.known(), b.known()) {
            (Dim::Known(difference), ..) => difference.signum(),
            (_, None, Some(b)) if b < 0 => 1,
            (_, Some(a), None) if a < 0 => -1,
            _ => return None,
        };
        Some(Dim::Known(holds(sign).into()))
    }))
}

fn fold_select(site: &mut Site) -> Lowered<Option<Known>> {
    let Some(inputs) = known_inputs(site) else { return Ok(None) };
    let operands: Vec<&Known> = inputs.iter().collect();
    let Some(dtype) = inputs.get(1).map(|input| input.dtype) else { return Ok(None) };
    Ok(Known::combine(&operands, dtype, |elements| {
        let [condition, a, b] = elements else { return None };
        condition.known().map(|condition| if condition != 0 { (*a).clone() } else { (*b).clone() })
    }))
}

/// A cast between integers that changes no value, or one of small constants that a shape may be computed from.
fn fold_cast(site: &mut Site) -> Lowered<Option<Known>> {
    let dtype = target(site)?;
    let Some(known) = site.known(0).cloned().or_else(|| truncated(site, dtype)) else { return Ok(None) };
    let fits = |value: i64| match dtype {
        DType::I64 => true,
        DType::I32 => i32::try_from(value).is_ok(),
        DType::Bool => (0..=1).contains(&value),
        _ => false,
    };
    let same = known.elements.iter().all(|element| element.known().map_or(dtype != DType::Bool, fits));
    let whole = matches!(dtype, DType::I64 | DType::I32 | DType::Bool);
    Ok((same && whole).then_some(Known { dtype, ..known }))
}

/// Floating-point constants as integers, which are rounded towards zero.
fn truncated(site: &Site, dtype: DType) -> Option<Known> {
    let values = site.small_constant(0).filter(|_| dtype.is_integer())?;
    let whole = |x: f64| (x.abs() < 1e15).then_some(Dim::Known(x as i64));
    let shape = site.input_type(0).ok()?.shape;
    let shape = shape.iter().map(|size| usize::try_from(size.known()?).ok()).collect::<Option<Vec<usize>>>()?;
    Known::build(dtype, shape, |place| values.get(place).copied().and_then(whole))
}

/// The same value under another name.
pub(super) fn alias(site: &mut Site, index: usize) -> Lowered {
    if let Some(known) = site.known(index).cloned() {
        site.output_known(0, known);
        return Ok(());
    }
    let value: Value = site.input(index)?;
    site.output(0, value)
}
