//! Pooling windows.

use lrpc_ir::ops::{Binary, Function, Pool, PoolKind, Window};
use lrpc_ir::types::DType;
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid};
use super::linear::spatial;
use super::quantize::whole;
use super::site::Site;
use super::table::OpDef;
use super::window::Windows;

pub(super) const OPERATORS: &[OpDef] =
    &[OpDef::new("MaxPool", 1, max_pool), OpDef::new("AveragePool", 1, average_pool), OpDef::new("LpPool", 2, lp_pool)];

/// Pools `x` by windows as the node states them.
fn pool(site: &mut Site, x: Value, kind: PoolKind) -> Lowered<Value> {
    let dtype = site.ty(x).dtype;
    if dtype.is_integer() {
        let numbers = site.cast(x, DType::F64)?;
        let pooled = pool(site, numbers, kind)?;
        return whole(site, pooled, dtype);
    }
    let sizes = spatial(site, x)?;
    let Some(kernel) = site.ints("kernel_shape")? else { return invalid("kernel_shape is missing") };
    if kernel.iter().any(|size| *size < 1) {
        return invalid(format!("kernel_shape is {kernel:?}"));
    }
    let ceil = site.flag("ceil_mode", false)?;
    let windows = Windows::read(site, &sizes, kernel.into_iter().map(Dim::Known).collect())?;
    let spatial = windows.counts(&sizes, ceil)?;
    // Elsewhere nothing depends on the padding behind the input, so that equal operations are written alike.
    let counted = kind == PoolKind::AverageWithPadding;
    let pads_after = if counted { windows.after } else { vec![Dim::Known(0); sizes.len()] };
    let window = Window {
        spatial,
        size: windows.kernel,
        strides: windows.strides,
        pads: windows.before,
        pads_after,
        dilations: windows.dilations,
    };
    site.emit(Op::Pool(Pool::Window(kind, window)), &[x])
}

fn max_pool(site: &mut Site) -> Lowered {
    // The order of the indices in the second output, which is not computed.
    site.ignore("storage_order");
    let x = site.input(0)?;
    let result = pool(site, x, PoolKind::Max)?;
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

/// `(Σ |x|^p)^(1/p)` over each window.
fn lp_pool(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let result = match site.int_or("p", 2)? {
        1 => {
            let magnitude = site.unary(Function::Abs, [0.0; 2], x)?;
            pool(site, magnitude, PoolKind::Sum)?
        }
        2 => {
            let square = site.binary(Binary::Mul, x, x)?;
            let sum = pool(site, square, PoolKind::Sum)?;
            site.unary(Function::Sqrt, [0.0; 2], sum)?
        }
        p if p > 2 => {
            let magnitude = site.unary(Function::Abs, [0.0; 2], x)?;
            let power = site.unary(Function::Pow, [p as f64, 0.0], magnitude)?;
            let sum = pool(site, power, PoolKind::Sum)?;
            site.unary(Function::Pow, [1.0 / p as f64, 0.0], sum)?
        }
        p => return invalid(format!("p is {p}")),
    };
    site.output(0, result)
}
