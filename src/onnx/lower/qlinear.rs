//! Operators on quantised tensors that ONNX Runtime's quantiser and optimiser write (domain `com.microsoft`).

use lrpc_ir::ops::{Binary, Function, Movement, Normalize, Reduce, ReduceKind};
use lrpc_ir::types::DType;
use lrpc_ir::{Op, Value};

use super::finding::{Lowered, invalid, unsupported};
use super::linear::multiply;
use super::pool::average;
use super::quantize::{Quantised, dynamically_quantised, requantised, rows_and_columns, summand};
use super::site::{Site, axis};
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::microsoft("DynamicQuantizeMatMul", dynamic_quantize_mat_mul),
    OpDef::microsoft("MatMulIntegerToFloat", mat_mul_integer_to_float),
    OpDef::microsoft("QGemm", q_gemm),
    OpDef::microsoft("QLinearAdd", |site| of_two(site, Binary::Add)),
    OpDef::microsoft("QLinearMul", |site| of_two(site, Binary::Mul)),
    OpDef::microsoft("QLinearSigmoid", sigmoid),
    OpDef::microsoft("QLinearLeakyRelu", leaky_relu),
    OpDef::microsoft("QLinearSoftmax", softmax),
    OpDef::microsoft("QLinearAveragePool", average_pool),
    OpDef::microsoft("QLinearGlobalAveragePool", global_average_pool),
    OpDef::microsoft("QLinearConcat", concat),
    // The same as those of `ai.onnx`, and for 16-bit integers before these were in it.
    OpDef::microsoft("QuantizeLinear", super::quantize::quantize_linear),
    OpDef::microsoft("DequantizeLinear", super::quantize::dequantize_linear),
];

/// The product of `a`, a tensor of numbers, and `b`, with a bias that may be input `bias`: one linear map, in `f32`.
fn product(site: &mut Site, a: Value, b: Value, bias: usize) -> Lowered {
    let product = multiply(site, a, b)?;
    let mut result = site.cast(product, DType::F32)?;
    if let Some(bias) = site.optional_input(bias)? {
        result = site.binary(Binary::Add, result, bias)?;
    }
    site.output(0, result)
}

fn dynamic_quantize_mat_mul(site: &mut Site) -> Lowered {
    let (x, columns) = (site.input(0)?, site.input_type(1)?.rank().saturating_sub(1));
    let a = dynamically_quantised(site, x)?.dequantised(site, 0, DType::F64)?;
    let b = Quantised::read(site, 1)?.dequantised(site, columns, DType::F64)?;
    product(site, a, b, 4)
}

fn mat_mul_integer_to_float(site: &mut Site) -> Lowered {
    let (rows, columns) = rows_and_columns(site, 0, 1)?;
    let a = Quantised { q: site.input(0)?, scale: site.input(2)?, zero: site.optional_input(4)? };
    let b = Quantised { q: site.input(1)?, scale: site.input(3)?, zero: site.optional_input(5)? };
    let (a, b) = (a.dequantised(site, rows, DType::F64)?, b.dequantised(site, columns, DType::F64)?);
    product(site, a, b, 6)
}

/// `alpha·A·B + C`, quantised if the result's scale is given.
fn q_gemm(site: &mut Site) -> Lowered {
    let (a, b) = (Quantised::read(site, 0)?, Quantised::read(site, 3)?);
    let (left, right) = (site.flag("transA", false)?, site.flag("transB", false)?);
    let alpha = site.float_or("alpha", 1.0)?;
    if site.ty(a.q).rank() != 2 || site.ty(b.q).rank() != 2 {
        return invalid("an operand is no matrix");
    }
    let mut x = a.dequantised(site, 0, DType::F64)?;
    let mut weight = b.dequantised(site, usize::from(!right), DType::F64)?;
    if left {
        x = site.transpose(x, vec![1, 0])?;
    }
    if right {
        weight = site.transpose(weight, vec![1, 0])?;
    }
    let mut result = multiply(site, x, weight)?;
    if let Some(c) = site.optional_input(6)? {
        let c = summand(site, c, [a.scale, b.scale])?;
        result = site.binary(Binary::Add, result, c)?;
    }
    if alpha != 1.0 {
        result = site.unary(Function::Scale, [alpha, 0.0], result)?;
    }
    let result = if site.has_input(7) { requantised(site, result, 7)? } else { site.cast(result, DType::F32)? };
    site.output(0, result)
}

/// The numbers of the quantised tensor at input `at`, which has one scale.
fn numbers(site: &mut Site, at: usize) -> Lowered<Value> {
    Quantised::read(site, at)?.dequantised(site, 0, DType::F32)
}

/// Lets the output be `x`, quantised as inputs `at` and `at + 1` tell.
fn finish(site: &mut Site, x: Value, at: usize) -> Lowered {
    let result = requantised(site, x, at)?;
    site.output(0, result)
}

fn of_two(site: &mut Site, op: Binary) -> Lowered {
    let (a, b) = (numbers(site, 0)?, numbers(site, 3)?);
    let result = site.binary(op, a, b)?;
    finish(site, result, 6)
}

fn sigmoid(site: &mut Site) -> Lowered {
    let x = numbers(site, 0)?;
    let result = site.unary(Function::Sigmoid, [0.0; 2], x)?;
    finish(site, result, 3)
}

fn leaky_relu(site: &mut Site) -> Lowered {
    let x = numbers(site, 0)?;
    let alpha = site.float_or("alpha", 0.01)?;
    let result = site.unary(Function::LeakyRelu, [alpha, 0.0], x)?;
    finish(site, result, 3)
}

/// `opset` tells the version of the softmax that is quantised: before 13 all axes from `axis` on count as one.
fn softmax(site: &mut Site) -> Lowered {
    let x = numbers(site, 0)?;
    let (rank, opset) = (site.ty(x).rank(), site.int_or("opset", 13)?);
    let along = axis(site.int_or("axis", if opset < 13 { 1 } else { -1 })?, rank)?;
    if opset < 13 && along != rank.saturating_sub(1) {
        return unsupported("a softmax over several axes at once");
    }
    let result = site.emit(Op::Normalize(Normalize::Softmax { axis: along, safe: false }), &[x])?;
    finish(site, result, 3)
}

/// The numbers with channels before places, and the permutation that undoes that.
fn channels_first(site: &mut Site) -> Lowered<(Value, Option<Vec<usize>>)> {
    let x = numbers(site, 0)?;
    let rank = site.ty(x).rank();
    if !site.flag("channels_last", false)? || rank < 3 {
        return Ok((x, None));
    }
    let last = rank.saturating_sub(1);
    let to_front: Vec<usize> = [0, last].into_iter().chain(1..last).collect();
    let back: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
    Ok((site.transpose(x, to_front)?, Some(back)))
}

fn average_pool(site: &mut Site) -> Lowered {
    let (x, back) = channels_first(site)?;
    let result = average(site, x)?;
    let result = back.map_or(Ok(result), |back| site.transpose(result, back))?;
    finish(site, result, 3)
}

fn global_average_pool(site: &mut Site) -> Lowered {
    let (x, back) = channels_first(site)?;
    let axes = (2..site.ty(x).rank()).collect();
    let result = site.emit(Op::Reduce(Reduce { kind: ReduceKind::Mean, axes, keep: true }), &[x])?;
    let result = back.map_or(Ok(result), |back| site.transpose(result, back))?;
    finish(site, result, 3)
}

/// Inputs are the result's scale and zero point, and then three for each operand.
fn concat(site: &mut Site) -> Lowered {
    let Some(stated) = site.int("axis")? else { return invalid("axis is missing") };
    let parts = (2..site.input_count()).step_by(3).map(|at| numbers(site, at)).collect::<Lowered<Vec<Value>>>()?;
    let Some(&first) = parts.first() else { return invalid("there are no operands") };
    let along = axis(stated, site.ty(first).rank())?;
    let result = site.emit(Op::Movement(Movement::Concat { axis: along }), &parts)?;
    finish(site, result, 0)
}
