//! Values without operands, and what is known of shapes.

use lrpc_ir::ops::{Binary, Compare, Function, Literal, Source};
use lrpc_ir::types::{DType, Float, TensorType, product};
use lrpc_ir::{Dim, Op};

use super::elementwise::alias;
use super::finding::{Lowered, invalid, unsupported};
use super::known::Known;
use super::lowering::Keep;
use super::number::Number;
use super::site::Site;
use super::table::OpDef;
use lrpc_ir::ops::source::LiteralValues;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("Constant", 1, constant),
    OpDef::new("ConstantOfShape", 9, constant_of_shape),
    OpDef::new("Shape", 1, never).folding(shape),
    OpDef::new("Size", 1, never).folding(size),
    OpDef::new("Range", 11, range).folding(fold_range),
    OpDef::new("Identity", 1, |site| alias(site, 0)),
    OpDef::new("Dropout", 7, dropout),
];

/// The lowering of what is always evaluated.
fn never(_: &mut Site) -> Lowered {
    unsupported("its shape is not known")
}

fn constant(site: &mut Site) -> Lowered {
    for name in ["value", "value_float", "value_floats", "value_int", "value_ints"] {
        site.ignore(name);
    }
    let Some(tensor) = site.lowering.file.constant(site.node) else {
        return unsupported("text, sparse tensors and unusual element types as constants");
    };
    match site.node.output.first() {
        Some(name) => site.lowering.define_tensor(name, tensor, Keep::Inline),
        None => return invalid("it has no output"),
    }
    Ok(())
}

fn constant_of_shape(site: &mut Site) -> Lowered {
    let Some(shape) = site.integers(0)? else { return invalid("input 0 is missing") };
    let shape = site.measure_all(&shape)?;
    let value = site.tensor_attribute("value")?;
    let dtype = value.as_ref().map_or(DType::F32, |value| value.dtype());
    let floats = value.as_ref().map_or(Some(vec![0.0]), |value| value.floats());
    let values = floats.map(|values| LiteralValues::Floats(values.into_iter().map(Float).collect()));
    let integers = || value.as_ref().and_then(|value| value.integers()).map(LiteralValues::Integers);
    let Some(values) = values.or_else(integers) else { return unsupported("the value is beyond 64 bits") };
    if let LiteralValues::Integers(values) = &values
        && let (Some(sizes), [value]) = (usizes(&shape), values.as_slice())
        && let Some(known) = Known::build(dtype, sizes, |_| Some(Dim::Known(*value)))
    {
        site.output_known(0, known);
        return Ok(());
    }
    let literal = Literal { ty: TensorType::new(dtype, shape), values };
    if literal.len() != 1 {
        return invalid("the value is not one element");
    }
    let result = site.literal(literal)?;
    site.output(0, result)
}

fn usizes(shape: &[Dim]) -> Option<Vec<usize>> {
    shape.iter().map(|size| usize::try_from(size.known()?).ok()).collect()
}

fn shape(site: &mut Site) -> Lowered<Option<Known>> {
    let ty = site.input_type(0)?;
    let rank = i64::try_from(ty.rank()).unwrap_or(i64::MAX);
    let mut bound = |name, default| -> Lowered<usize> {
        let value = site.int_or(name, default)?;
        let counted = if value < 0 { value.saturating_add(rank) } else { value };
        Ok(usize::try_from(counted.clamp(0, rank)).unwrap_or_default())
    };
    let (start, end) = (bound("start", 0)?, bound("end", rank)?);
    Ok(Some(Known::vector(ty.shape.get(start..end).unwrap_or_default().to_vec())))
}

fn size(site: &mut Site) -> Lowered<Option<Known>> {
    let elements = product(&site.input_type(0)?.shape)?;
    Ok(Some(Known::scalar(DType::I64, elements)))
}

/// Start, limit and step, if they are known and the step is a number.
fn bounds(site: &Site) -> Option<(Dim, Dim, i64)> {
    let single = |index| match site.known(index)?.elements.as_slice() {
        [element] => Some(element.clone()),
        _ => None,
    };
    Some((single(0)?, single(1)?, single(2)?.known()?))
}

fn count(start: &Dim, limit: &Dim, step: i64) -> Lowered<Dim> {
    let distance = if step > 0 { limit.sub(start)? } else { start.sub(limit)? };
    let Ok(step) = i64::try_from(step.unsigned_abs()) else { return invalid("the step is too large") };
    let count = distance.ceil_div(&Dim::Known(step))?;
    Ok(if let Dim::Known(count) = count { Dim::Known(count.max(0)) } else { count })
}

fn fold_range(site: &mut Site) -> Lowered<Option<Known>> {
    // The precision of floating-point ranges.
    site.ignore("stash_type");
    let Some((start, limit, step)) = bounds(site).filter(|(_, _, step)| *step != 0) else { return Ok(None) };
    let Some(length) = usizes(&[count(&start, &limit, step)?]) else { return Ok(None) };
    let element = |place: usize| {
        let offset = i64::try_from(place).ok()?.checked_mul(step)?;
        start.add(&Dim::Known(offset)).ok()
    };
    Ok(Known::build(site.input_type(0)?.dtype, length, element))
}

fn range(site: &mut Site) -> Lowered {
    let dtype = site.input_type(0)?.dtype;
    if dtype.is_float() {
        return range_of_floats(site, dtype);
    }
    let Some((start, limit, step)) = bounds(site) else { return range_of_data(site, dtype) };
    if step == 0 {
        return invalid("the step is 0");
    }
    let ty = TensorType::new(dtype, vec![count(&start, &limit, step)?]);
    let mut result = site.emit(Op::Source(Source::Iota { axis: 0, ty }), &[])?;
    if step != 1 {
        result = site.unary(Function::Scale, [step as f64, 0.0], result)?;
    }
    if start != Dim::Known(0) {
        let start = site.size(&start)?;
        let start = site.cast(start, dtype)?;
        result = site.binary(Binary::Add, result, start)?;
    }
    site.output(0, result)
}

fn range_of_floats(site: &mut Site, dtype: DType) -> Lowered {
    site.ignore("stash_type");
    let [Some(start), Some(limit), Some(step)] = [0, 1, 2].map(|index| site.constant_scalar(index)) else {
        return range_of_data(site, dtype);
    };
    let length = ((limit - start) / step).ceil().max(0.0);
    if !length.is_finite() || length > f64::from(u32::MAX) {
        return invalid("the range has no end");
    }
    let ty = TensorType::new(dtype, vec![Dim::Known(length as i64)]);
    let steps = site.emit(Op::Source(Source::Iota { axis: 0, ty }), &[])?;
    let scaled = site.unary(Function::Scale, [step, 0.0], steps)?;
    let result = site.unary(Function::Shift, [start, 0.0], scaled)?;
    site.output(0, result)
}

/// A range whose length a run computes: `⌈(limit − start) / step⌉` elements.
fn range_of_data(site: &mut Site, dtype: DType) -> Lowered {
    let mut scalar = |index| {
        let value = site.input(index)?;
        site.reshape(value, Vec::new())
    };
    let (start, limit, step) = (scalar(0)?, scalar(1)?, scalar(2)?);
    let count = if dtype.is_float() {
        let [from, to, by] = [start, limit, step].map(|value| site.cast(value, DType::F64));
        let distance = site.binary(Binary::Sub, to?, from?)?;
        let steps = site.binary(Binary::Div, distance, by?)?;
        let steps = site.unary(Function::Ceil, [0.0, 0.0], steps)?;
        let steps = Number::Data(site.cast(steps, DType::I64)?);
        site.combine(Binary::Max, &steps, &0.into())?
    } else {
        let [from, to, by] = [start, limit, step].map(|value| site.cast(value, DType::I64).map(Number::Data));
        let (from, to, by, zero) = (from?, to?, by?, Number::from(0));
        let forward = (Compare::Greater, &by, &zero);
        let (ahead, behind) = (site.combine(Binary::Sub, &to, &from)?, site.combine(Binary::Sub, &from, &to)?);
        let back = site.combine(Binary::Sub, &zero, &by)?;
        let distance = site.choose(forward, &ahead, &behind)?;
        let stride = site.choose(forward, &by, &back)?;
        site.steps(&distance, &stride)?
    };
    let ty = TensorType::new(dtype, vec![site.measure(&count)?]);
    let places = site.emit(Op::Source(Source::Iota { axis: 0, ty }), &[])?;
    let scaled = site.binary(Binary::Mul, places, step)?;
    let result = site.binary(Binary::Add, scaled, start)?;
    site.output(0, result)
}

/// In inference nothing is dropped, nor is it at a ratio of 0.
fn dropout(site: &mut Site) -> Lowered {
    site.ignore("ratio");
    site.ignore("seed");
    if site.has_input(2) {
        let trains = site.numbers(2)?.is_some_and(|flags| flags != [0]);
        let ratio = if trains { site.constant(1)?.unwrap_or(vec![0.5]) } else { vec![0.0] };
        if ratio != [0.0] {
            return unsupported("training_mode is set, and it drops at random: export the model in inference mode");
        }
    }
    if site.has_output(1) {
        let ty = site.input_type(0)?.with_dtype(DType::Bool);
        let mask = site.filled(ty, 1.0)?;
        site.output(1, mask)?;
    }
    alias(site, 0)
}
