//! Pooling windows.

use lrpc_ir::ops::{
    Binary, Elementwise, Function, Movement, Pool, PoolKind, Reduce, ReduceKind, Select, Source, Window,
};
use lrpc_ir::types::{DType, Float, TensorType, product};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid};
use super::linear::spatial;
use super::quantize::whole;
use super::site::Site;
use super::table::OpDef;
use super::window::{self, Windows};

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("MaxPool", 1, max_pool),
    OpDef::new("MaxUnpool", 9, max_unpool),
    OpDef::new("AveragePool", 1, average_pool),
    OpDef::new("LpPool", 2, lp_pool),
    OpDef::new("GlobalLpPool", 2, global_lp_pool),
];

fn kernel(site: &mut Site) -> Lowered<Vec<i64>> {
    let Some(kernel) = site.ints("kernel_shape")? else { return invalid("kernel_shape is missing") };
    if kernel.iter().any(|size| *size < 1) {
        return invalid(format!("kernel_shape is {kernel:?}"));
    }
    Ok(kernel)
}

/// The windows that the node states over `x`.
fn windows(site: &mut Site, x: Value) -> Lowered<Window> {
    let sizes = spatial(site, x)?;
    let kernel = kernel(site)?;
    let ceil = site.flag("ceil_mode", false)?;
    let windows = Windows::read(site, &sizes, kernel.into_iter().map(Dim::Known).collect())?;
    let spatial = windows.counts(&sizes, ceil)?;
    Ok(Window {
        spatial,
        size: windows.kernel,
        strides: windows.strides,
        pads: windows.before,
        pads_after: windows.after,
        dilations: windows.dilations,
    })
}

/// Pools `x` by windows as the node states them.
fn pool(site: &mut Site, x: Value, kind: PoolKind) -> Lowered<Value> {
    let dtype = site.ty(x).dtype;
    if dtype.is_integer() {
        let numbers = site.cast(x, DType::F64)?;
        let pooled = pool(site, numbers, kind)?;
        return whole(site, pooled, dtype);
    }
    let window = windows(site, x)?;
    emit(site, x, kind, window)
}

fn emit(site: &mut Site, x: Value, kind: PoolKind, window: Window) -> Lowered<Value> {
    site.emit(Op::Pool(Pool::Window(kind, without_end(window, kind))), &[x])
}

/// The window as operations of that kind are written: elsewhere nothing depends on the padding behind the input, so that
/// equal operations are written alike.
fn without_end(window: Window, kind: PoolKind) -> Window {
    if kind == PoolKind::AverageWithPadding {
        return window;
    }
    Window { pads_after: vec![Dim::Known(0); window.pads_after.len()], ..window }
}

fn max_pool(site: &mut Site) -> Lowered {
    let by_column = site.flag("storage_order", false)?;
    let x = site.input(0)?;
    let dtype = site.ty(x).dtype;
    let number = if dtype.is_float() { x } else { site.cast(x, DType::F64)? };
    let window = windows(site, number)?;
    let result = emit(site, number, PoolKind::Max, window.clone())?;
    // Integers of a quantised tensor carry relevance, which a cast would not.
    let result = if dtype.is_float() { result } else { whole(site, result, dtype)? };
    site.output(0, result)?;
    if !site.has_output(1) {
        return Ok(());
    }
    let op = Pool::WindowArgMax(without_end(window, PoolKind::Max));
    let places = site.emit(Op::Pool(op), &[number])?;
    let indices = in_whole_tensor(site, x, places, by_column)?;
    site.output(1, indices)
}

/// Places in planes of `x` as places in all of `x`. With `by_column` the first spatial axis of a plane counts fastest.
fn in_whole_tensor(site: &mut Site, x: Value, places: Value, by_column: bool) -> Lowered<Value> {
    let (shape, sizes) = (site.ty(x).shape, spatial(site, x)?);
    let places = if by_column { by_columns(site, places, &sizes)? } else { places };
    let (batch, channels) = (shape[0].clone(), shape[1].clone());
    let ones = vec![Dim::Known(1); sizes.len()];
    let plane = TensorType::new(DType::I64, vec![batch.mul(&channels)?]);
    let plane = site.emit(Op::Source(Source::Iota { axis: 0, ty: plane }), &[])?;
    let plane = site.reshape(plane, [vec![batch, channels], ones].concat())?;
    let area = site.size(&product(&sizes)?)?;
    let start = site.binary(Binary::Mul, plane, area)?;
    site.binary(Binary::Add, start, places)
}

/// Row-major places in a plane, as places where the first axis counts fastest.
fn by_columns(site: &mut Site, places: Value, sizes: &[Dim]) -> Lowered<Value> {
    let mut rest = places;
    let mut sum: Option<Value> = None;
    for (axis, size) in sizes.iter().enumerate().rev() {
        let length = site.size(size)?;
        let coordinate = site.binary(Binary::Mod, rest, length)?;
        rest = site.binary(Binary::Div, rest, length)?;
        let stride = site.size(&product(sizes.get(..axis).unwrap_or_default())?)?;
        let part = site.binary(Binary::Mul, coordinate, stride)?;
        sum = Some(match sum {
            None => part,
            Some(sum) => site.binary(Binary::Add, sum, part)?,
        });
    }
    sum.map_or_else(|| invalid("there are no spatial axes"), Ok)
}

/// Elements at their places in a tensor of zeros, whose size is that of the pooling's operand. Windows that overlap may
/// name a place several times, with equal elements, whose mean is taken.
fn max_unpool(site: &mut Site) -> Lowered {
    let (x, index) = (site.input(0)?, site.input(1)?);
    let (ty, sizes) = (site.ty(x), spatial(site, x)?);
    if site.ty(index).shape != ty.shape {
        return invalid(format!("{ty} and {} do not belong together", site.ty(index)));
    }
    let kernel = kernel(site)?;
    if kernel.len() != sizes.len() {
        return invalid(format!("kernel_shape is {kernel:?}, and the input is {ty}"));
    }
    let strides = window::positive(site, "strides", sizes.len())?;
    let (before, after) = window::pads(site, sizes.len())?;
    let mut shape = ty.shape.iter().take(2).cloned().collect::<Vec<Dim>>();
    let apart = kernel.iter().zip(&strides).all(|(taps, stride)| taps <= stride);
    let padding = before.iter().zip(&after);
    for (((size, taps), stride), (before, after)) in sizes.iter().zip(kernel).zip(strides).zip(padding) {
        let last = size.sub(&Dim::Known(1))?.mul(&Dim::Known(stride))?;
        shape.push(last.add(&Dim::Known(taps))?.sub(before)?.sub(after)?);
    }
    let flat = vec![product(&ty.shape)?];
    let (x, index) = (site.reshape(x, flat.clone())?, site.reshape(index, flat.clone())?);
    let size = product(&shape)?;
    let scatter = Op::Select(Select::ScatterAdd { axis: 0, batch: 0, size, unique_indices: apart });
    let mut elements = site.emit(scatter.clone(), &[x, index])?;
    if !apart {
        let ones = site.filled(TensorType::new(ty.dtype, flat), 1.0)?;
        let counts = site.emit(scatter, &[ones, index])?;
        let counts = site.unary(Function::Clip, [1.0, f64::INFINITY], counts)?;
        elements = site.binary(Binary::Div, elements, counts)?;
    }
    let mut result = site.reshape(elements, shape.clone())?;
    if let Some(stated) = site.integers(2)?
        && let stated = site.measure_all(&stated)?
        && stated != shape
    {
        let (before, steps) = (vec![Dim::Known(0); shape.len()], vec![1; shape.len()]);
        let pad = Movement::Pad { before, steps, value: Float(0.0), shape: stated };
        result = site.emit(Op::Movement(pad), &[result])?;
    }
    site.output(0, result)
}

fn average_pool(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let result = average(site, x)?;
    site.output(0, result)
}

/// The average of each window of `x`.
pub(super) fn average(site: &mut Site, x: Value) -> Lowered<Value> {
    let padded = site.flag("count_include_pad", false)?;
    pool(site, x, if padded { PoolKind::AverageWithPadding } else { PoolKind::Average })
}

/// `(Σ |x|^p)^(1/p)`, where `sum` makes the sum.
fn norm(site: &mut Site, sum: impl Fn(&mut Site, Value) -> Lowered<Value>) -> Lowered {
    let x = site.input(0)?;
    let result = match site.int_or("p", 2)? {
        1 => {
            let magnitude = site.unary(Function::Abs, [0.0; 2], x)?;
            sum(site, magnitude)?
        }
        2 => {
            let square = site.elementwise(Elementwise::Binary(Binary::Mul), &[x, x])?;
            let sum = sum(site, square)?;
            site.unary(Function::Sqrt, [0.0; 2], sum)?
        }
        p if p > 2 => {
            let magnitude = site.unary(Function::Abs, [0.0; 2], x)?;
            let power = site.unary(Function::Pow, [p as f64, 0.0], magnitude)?;
            let sum = sum(site, power)?;
            site.unary(Function::Pow, [1.0 / p as f64, 0.0], sum)?
        }
        p => return invalid(format!("p is {p}")),
    };
    site.output(0, result)
}

fn lp_pool(site: &mut Site) -> Lowered {
    norm(site, |site, x| pool(site, x, PoolKind::Sum))
}

fn global_lp_pool(site: &mut Site) -> Lowered {
    norm(site, |site, x| {
        let axes = (2..spatial(site, x)?.len().saturating_add(2)).collect();
        site.emit(Op::Reduce(Reduce { kind: ReduceKind::Sum, axes, keep: true }), &[x])
    })
}
