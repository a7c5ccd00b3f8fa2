//! Quantisation: integers that stand for numbers, `(q − zero)·scale`.
//!
//! What computes with such integers becomes `dequantize`, the operation on numbers, and `quantize`, so that rules see
//! ordinary linear maps. Sums of products of integers are computed in `f64`, where they are exact.

use lrpc_ir::ops::{Binary, Compare, Elementwise, Function, Movement, Reduce, ReduceKind};
use lrpc_ir::types::{DType, TensorType};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid, unsupported};
use super::linear::{convolve, multiply};
use super::site::{Site, axis};
use super::table::OpDef;
use crate::onnx::tensor::element_type;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("QuantizeLinear", 10, quantize_linear),
    OpDef::new("DequantizeLinear", 10, dequantize_linear),
    OpDef::new("DynamicQuantizeLinear", 11, dynamic_quantize_linear),
    OpDef::new("MatMulInteger", 10, mat_mul_integer),
    OpDef::new("ConvInteger", 10, conv_integer),
    OpDef::new("QLinearMatMul", 10, qlinear_mat_mul),
    OpDef::new("QLinearConv", 10, qlinear_conv),
];

/// Integers, their scale and the integer that stands for 0 (0 itself if there is none).
#[derive(Debug, Clone, Copy)]
pub(super) struct Quantised {
    pub q: Value,
    pub scale: Value,
    pub zero: Option<Value>,
}

impl Quantised {
    /// Inputs `at`, `at + 1` and, where it is given, `at + 2`.
    pub(super) fn read(site: &mut Site, at: usize) -> Lowered<Quantised> {
        let [scale, zero] = [at.saturating_add(1), at.saturating_add(2)];
        Ok(Quantised { q: site.input(at)?, scale: site.input(scale)?, zero: site.optional_input(zero)? })
    }

    /// The numbers, in the element type `dtype`; parameters along one axis belong to `axis`.
    pub(super) fn dequantised(self, site: &mut Site, axis: usize, dtype: DType) -> Lowered<Value> {
        let shape = site.ty(self.q).shape;
        let scale = site.cast(self.scale, dtype)?;
        let scale = along(site, scale, &shape, axis, 0)?;
        let zero = zero_point(site, self.zero, self.q, axis, 0)?;
        site.emit(Op::Elementwise(Elementwise::Dequantize), &[self.q, scale, zero])
    }
}

/// The integers that stand for `x`, given inputs `at` (scale) and `at + 1` (zero point, whose type they have), each one
/// number or one per place of the last axis but one.
pub(super) fn requantised(site: &mut Site, x: Value, at: usize) -> Lowered<Value> {
    let scale = site.input(at)?;
    let Some(zero) = site.optional_input(at.saturating_add(1))? else {
        return unsupported("the zero point of the result, which tells its type, is missing");
    };
    let ty = site.ty(x);
    let scale = site.cast(scale, ty.dtype)?;
    let rows = ty.rank().saturating_sub(2);
    let scale = along(site, scale, &ty.shape, rows, 0)?;
    let zero = along(site, zero, &ty.shape, rows, 0)?;
    site.emit(Op::Elementwise(Elementwise::Quantize), &[x, scale, zero])
}

/// A parameter copied to `shape`: one number, one per place along `axis`, one per block of `block` places along it, or
/// one for all but an axis of length 1.
fn along(site: &mut Site, value: Value, shape: &[Dim], axis: usize, block: i64) -> Lowered<Value> {
    let own = site.ty(value).shape;
    if own.iter().all(|size| *size == Dim::Known(1)) {
        let single = site.reshape(value, vec![])?;
        return site.broadcast(single, shape);
    }
    if block > 0 {
        return along_blocks(site, value, shape, axis, block);
    }
    let value = match own.as_slice() {
        [count] if shape.len() != 1 => {
            let mut column = vec![Dim::Known(1); shape.len()];
            match column.get_mut(axis) {
                Some(slot) => *slot = count.clone(),
                None => return invalid(format!("axis {axis} is outside of rank {}", shape.len())),
            }
            site.reshape(value, column)?
        }
        _ => value,
    };
    site.broadcast(value, shape)
}

/// One number for every `block` places along `axis`; the last block may be shorter.
fn along_blocks(site: &mut Site, value: Value, shape: &[Dim], axis: usize, block: i64) -> Lowered<Value> {
    let own = site.ty(value).shape;
    let end = axis.saturating_add(1);
    let (Some(before), Some(blocks), Some(after)) = (own.get(..axis), own.get(axis), own.get(end..)) else {
        return invalid(format!("axis {axis} is outside of rank {}", own.len()));
    };
    let blocks = blocks.clone();
    let whole = blocks.mul(&Dim::Known(block))?;
    let with = |middle: &[Dim]| [before, middle, after].concat();
    let (column, copies, merged) =
        (with(&[blocks.clone(), Dim::Known(1)]), with(&[blocks, Dim::Known(block)]), with(&[whole]));
    let value = site.reshape(value, column)?;
    let value = site.broadcast(value, &copies)?;
    let value = site.reshape(value, merged)?;
    match shape.get(axis) {
        Some(size) if site.ty(value).shape.get(axis) != Some(size) => {
            let part = Movement::slice_axis(&site.ty(value), axis, Dim::Known(0), size.clone());
            site.emit(Op::Movement(part), &[value])
        }
        _ => Ok(value),
    }
}

/// The zero point copied to the shape of `q`.
fn zero_point(site: &mut Site, zero: Option<Value>, q: Value, axis: usize, block: i64) -> Lowered<Value> {
    let ty = site.ty(q);
    match zero {
        Some(zero) => along(site, zero, &ty.shape, axis, block),
        None => {
            let zero = site.filled(TensorType::new(ty.dtype, Vec::new()), 0.0)?;
            site.broadcast(zero, &ty.shape)
        }
    }
}

/// Axis and block size as the node states them. The axis is of no meaning where there is one parameter.
fn granularity(site: &mut Site, x: Value, scale: Value) -> Lowered<(usize, i64)> {
    let (stated, block) = (site.int_or("axis", 1)?, site.int_or("block_size", 0)?);
    if block < 0 {
        return invalid(format!("block_size is {block}"));
    }
    let single = site.ty(scale).shape.iter().all(|size| *size == Dim::Known(1));
    Ok((if single { 0 } else { axis(stated, site.ty(x).rank())? }, block))
}

/// The element type that the attribute `name` states by its number.
fn stated_type(site: &mut Site, name: &'static str) -> Lowered<Option<DType>> {
    match site.int_or(name, 0)? {
        0 => Ok(None),
        number => match i32::try_from(number).ok().and_then(element_type) {
            Some(dtype) => Ok(Some(dtype)),
            None => unsupported(format!(
                "element type number {number}: elements of less than a byte and 8-bit floats are not supported"
            )),
        },
    }
}

pub(super) fn quantize_linear(site: &mut Site) -> Lowered {
    // It concerns 8-bit floats alone.
    site.ignore("saturate");
    let (x, scale, zero) = (site.input(0)?, site.input(1)?, site.optional_input(2)?);
    let precision = stated_type(site, "precision")?.unwrap_or(site.ty(scale).dtype);
    let (axis, block) = granularity(site, x, scale)?;
    let stated = stated_type(site, "output_dtype")?;
    let dtype = zero.map(|zero| site.ty(zero).dtype).or(stated).unwrap_or(DType::U8);
    if !dtype.is_integer() {
        return unsupported(format!("quantisation to {dtype}"));
    }
    let shape = site.ty(x).shape;
    let (x, scale) = (site.cast(x, precision)?, site.cast(scale, precision)?);
    let scale = along(site, scale, &shape, axis, block)?;
    let zero = match zero {
        Some(zero) => along(site, zero, &shape, axis, block)?,
        None => {
            let zero = site.filled(TensorType::new(dtype, Vec::new()), 0.0)?;
            site.broadcast(zero, &shape)?
        }
    };
    let result = site.emit(Op::Elementwise(Elementwise::Quantize), &[x, scale, zero])?;
    site.output(0, result)
}

pub(super) fn dequantize_linear(site: &mut Site) -> Lowered {
    let (q, scale, zero) = (site.input(0)?, site.input(1)?, site.optional_input(2)?);
    let (axis, block) = granularity(site, q, scale)?;
    let stated = stated_type(site, "output_dtype")?;
    let shape = site.ty(q).shape;
    let scale = along(site, scale, &shape, axis, block)?;
    let zero = zero_point(site, zero, q, axis, block)?;
    let mut result = site.emit(Op::Elementwise(Elementwise::Dequantize), &[q, scale, zero])?;
    if let Some(dtype) = stated {
        result = site.cast(result, dtype)?;
    }
    site.output(0, result)
}

/// `x` as integers from 0 to 255 that reach from its least to its greatest element and have one for 0. Scale and zero
/// point are held constant: relevance passes the integers.
pub(super) fn dynamically_quantised(site: &mut Site, x: Value) -> Lowered<Quantised> {
    let ty = site.ty(x);
    let held = site.unary(Function::StopGradient, [0.0; 2], x)?;
    let scalar = TensorType::new(ty.dtype, Vec::new());
    let nothing = site.filled(scalar.clone(), 0.0)?;
    let axes: Vec<usize> = (0..ty.rank()).collect();
    let mut limit = |kind, op| {
        let limit = site.emit(Op::Reduce(Reduce { kind, axes: axes.clone(), keep: false }), &[held])?;
        site.binary(op, limit, nothing)
    };
    let (low, high) = (limit(ReduceKind::Min, Binary::Min)?, limit(ReduceKind::Max, Binary::Max)?);
    let range = site.binary(Binary::Sub, high, low)?;
    let steps = site.filled(scalar.clone(), 255.0)?;
    let scale = site.binary(Binary::Div, range, steps)?;
    // Where all elements are 0, any scale will do.
    let (one, empty) =
        (site.filled(scalar, 1.0)?, site.elementwise(Elementwise::Compare(Compare::Equal), &[range, nothing])?);
    let scale = site.elementwise(Elementwise::Where, &[empty, one, scale])?;
    let below = site.unary(Function::Neg, [0.0; 2], low)?;
    let first = site.filled(TensorType::new(DType::U8, Vec::new()), 0.0)?;
    let zero = site.emit(Op::Elementwise(Elementwise::Quantize), &[below, scale, first])?;
    let operands = [x, site.broadcast(scale, &ty.shape)?, site.broadcast(zero, &ty.shape)?];
    let q = site.emit(Op::Elementwise(Elementwise::Quantize), &operands)?;
    Ok(Quantised { q, scale, zero: Some(zero) })
}

fn dynamic_quantize_linear(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let Quantised { q, scale, zero } = dynamically_quantised(site, x)?;
    site.output(0, q)?;
    site.output(1, scale)?;
    zero.map_or(Ok(()), |zero| site.output(2, zero))
}

/// Input `at` less its zero point, which is input `at + 2`.
fn integers(site: &mut Site, at: usize, axis: usize) -> Lowered<Value> {
    let (q, zero) = (site.input(at)?, site.optional_input(at.saturating_add(2))?);
    let scale = site.filled(TensorType::new(DType::F64, Vec::new()), 1.0)?;
    Quantised { q, scale, zero }.dequantised(site, axis, DType::F64)
}

/// Whole numbers in `f64` as integers.
pub(super) fn whole(site: &mut Site, x: Value, dtype: DType) -> Lowered<Value> {
    let shape = site.ty(x).shape;
    let scale = site.filled(TensorType::new(DType::F64, Vec::new()), 1.0)?;
    let zero = site.filled(TensorType::new(dtype, Vec::new()), 0.0)?;
    let operands = [x, site.broadcast(scale, &shape)?, site.broadcast(zero, &shape)?];
    site.emit(Op::Elementwise(Elementwise::Quantize), &operands)
}

/// The axes of rows of a left operand and of columns of a right one, which parameters may belong to.
pub(super) fn rows_and_columns(site: &Site, a: usize, b: usize) -> Lowered<(usize, usize)> {
    let (left, right) = (site.input_type(a)?.rank(), site.input_type(b)?.rank());
    Ok((left.saturating_sub(2), right.saturating_sub(1)))
}

fn mat_mul_integer(site: &mut Site) -> Lowered {
    let (rows, columns) = rows_and_columns(site, 0, 1)?;
    let (a, b) = (integers(site, 0, rows)?, integers(site, 1, columns)?);
    let product = multiply(site, a, b)?;
    let result = whole(site, product, DType::I32)?;
    site.output(0, result)
}

fn conv_integer(site: &mut Site) -> Lowered {
    let operands = [integers(site, 0, 1)?, integers(site, 1, 0)?];
    let product = convolve(site, &operands)?;
    let result = whole(site, product, DType::I32)?;
    site.output(0, result)
}

fn qlinear_mat_mul(site: &mut Site) -> Lowered {
    let (rows, columns) = rows_and_columns(site, 0, 3)?;
    let a = Quantised::read(site, 0)?.dequantised(site, rows, DType::F64)?;
    let b = Quantised::read(site, 3)?.dequantised(site, columns, DType::F64)?;
    let product = multiply(site, a, b)?;
    let result = requantised(site, product, 6)?;
    site.output(0, result)
}

/// The bias counts in units of both scales' product.
fn qlinear_conv(site: &mut Site) -> Lowered {
    let (x, weight) = (Quantised::read(site, 0)?, Quantised::read(site, 3)?);
    let mut operands = vec![x.dequantised(site, 1, DType::F64)?, weight.dequantised(site, 0, DType::F64)?];
    if let Some(bias) = site.optional_input(8)? {
        operands.push(summand(site, bias, [x.scale, weight.scale])?);
    }
    let product = convolve(site, &operands)?;
    let result = requantised(site, product, 6)?;
    site.output(0, result)
}

/// What is added to products of integers with these scales: `q·a·b`.
pub(super) fn summand(site: &mut Site, q: Value, scales: [Value; 2]) -> Lowered<Value> {
    let mut factors = Vec::with_capacity(scales.len());
    for scale in scales {
        let wide = site.cast(scale, DType::F64)?;
        let single = site.ty(wide).shape.iter().all(|size| *size == Dim::Known(1));
        factors.push(if single { site.reshape(wide, vec![])? } else { wide });
    }
    let scale = match factors.as_slice() {
        &[a, b] => site.binary(Binary::Mul, a, b)?,
        _ => return invalid("two scales make a product"),
    };
    let last = site.ty(q).rank().saturating_sub(1);
    Quantised { q, scale, zero: None }.dequantised(site, last, DType::F64)
}
