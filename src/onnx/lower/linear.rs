//! Contraction and convolution.

use lrpc_ir::ops::{Binary, Dot, Function, Geometry, Linear};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid};
use super::site::Site;
use super::sizes::broadcast_shape;
use super::table::OpDef;
use super::window::{self, AutoPad, Windows};

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("Conv", 1, conv),
    OpDef::new("ConvTranspose", 1, conv_transpose),
    OpDef::new("Gemm", 7, gemm),
    OpDef::new("MatMul", 1, mat_mul),
];

/// The spatial axes of an input `[N, C, …]`.
pub(super) fn spatial(site: &Site, x: Value) -> Lowered<Vec<Dim>> {
    let ty = site.ty(x);
    match ty.shape.get(2..) {
        Some(sizes) if !sizes.is_empty() => Ok(sizes.to_vec()),
        _ => invalid(format!("the input {ty} has no spatial axes")),
    }
}

/// The size of a kernel, which the weight tells and the attribute `kernel_shape` may repeat.
fn kernel(site: &mut Site, weight: Value) -> Lowered<Vec<Dim>> {
    let sizes = spatial(site, weight)?;
    if let Some(stated) = site.ints("kernel_shape")? {
        let differs = |(size, stated): (&Dim, &i64)| size.known().is_some_and(|size| size != *stated);
        if stated.len() != sizes.len() || sizes.iter().zip(&stated).any(differs) {
            return invalid(format!("kernel_shape is {stated:?}, and the weight is {}", site.ty(weight)));
        }
    }
    Ok(sizes)
}

fn groups(site: &mut Site) -> Lowered<i64> {
    match site.int_or("group", 1)? {
        groups if groups >= 1 => Ok(groups),
        groups => invalid(format!("group is {groups}")),
    }
}

fn operands(site: &mut Site) -> Lowered<Vec<Value>> {
    let mut operands = vec![site.input(0)?, site.input(1)?];
    operands.extend(site.optional_input(2)?);
    Ok(operands)
}

fn conv(site: &mut Site) -> Lowered {
    let operands = operands(site)?;
    let result = convolve(site, &operands)?;
    site.output(0, result)
}

/// The convolution of an input with a weight, and with a bias if there is one, as the node's attributes state it.
pub(super) fn convolve(site: &mut Site, operands: &[Value]) -> Lowered<Value> {
    let &[x, weight, ..] = operands else { return invalid("a convolution has an input and a weight") };
    let sizes = spatial(site, x)?;
    let kernel = kernel(site, weight)?;
    let windows = Windows::read(site, &sizes, kernel)?;
    let geometry = Geometry {
        spatial: windows.counts(&sizes, false)?,
        strides: windows.strides,
        pads: windows.before,
        dilations: windows.dilations,
        groups: groups(site)?,
    };
    site.emit(Op::Linear(Linear::Conv(geometry)), operands)
}

/// `output = stride·(input − 1) + output_padding + span − before − after` (ONNX, `ConvTranspose`), solved for the output
/// or, where that is stated, for the padding.
fn conv_transpose(site: &mut Site) -> Lowered {
    let operands = operands(site)?;
    let sizes = spatial(site, operands[0])?;
    let axes = sizes.len();
    let kernel = kernel(site, operands[1])?;
    if kernel.len() != axes {
        return invalid(format!("a kernel of {} axes on an input with {axes} spatial axes", kernel.len()));
    }
    let strides = window::positive(site, "strides", axes)?;
    let dilations = window::positive(site, "dilations", axes)?;
    let auto = window::auto_pad(site)?;
    let (before, after) = window::pads(site, axes)?;
    let windows = Windows { kernel, strides, dilations, before, after };
    let full = full_sizes(site, &windows, &sizes)?;
    let (pads, spatial) = match target_sizes(site, &windows, &sizes, auto)? {
        Some(target) => (pads_for(&full, &target, auto == AutoPad::SameUpper)?, target),
        None if auto == AutoPad::Valid => (vec![Dim::Known(0); axes], full),
        None => {
            let padding = windows.before.iter().zip(&windows.after);
            let cut = full.iter().zip(padding).map(|(size, (before, after))| size.sub(before)?.sub(after));
            (windows.before.clone(), cut.collect::<Result<Vec<Dim>, _>>()?)
        }
    };
    let (strides, dilations) = (windows.strides, windows.dilations);
    let geometry = Geometry { strides, pads, dilations, groups: groups(site)?, spatial };
    let result = site.emit(Op::Linear(Linear::ConvTranspose(geometry)), &operands)?;
    site.output(0, result)
}

/// The result's sizes before padding is taken off.
fn full_sizes(site: &mut Site, windows: &Windows, sizes: &[Dim]) -> Lowered<Vec<Dim>> {
    let extra = site.ints("output_padding")?.unwrap_or(vec![0; sizes.len()]);
    if extra.len() != sizes.len() || extra.iter().any(|size| *size < 0) {
        return invalid(format!("output_padding is {extra:?}"));
    }
    let steps = sizes.iter().zip(&windows.strides);
    let rest = windows.spans()?.into_iter().zip(extra);
    let full = steps.zip(rest).map(|((size, stride), (span, extra))| {
        size.sub(&Dim::Known(1))?.mul(&Dim::Known(*stride))?.add(&span)?.add(&Dim::Known(extra))
    });
    Ok(full.collect::<Result<Vec<Dim>, _>>()?)
}

/// The result's sizes, where the node states them rather than the padding.
fn target_sizes(site: &mut Site, windows: &Windows, sizes: &[Dim], auto: AutoPad) -> Lowered<Option<Vec<Dim>>> {
    match site.ints("output_shape")? {
        Some(stated) if stated.len() == sizes.len() => Ok(Some(stated.into_iter().map(Dim::Known).collect())),
        Some(stated) => invalid(format!("output_shape is {stated:?} for {} spatial axes", sizes.len())),
        None if matches!(auto, AutoPad::SameUpper | AutoPad::SameLower) => {
            let scaled = sizes.iter().zip(&windows.strides).map(|(size, stride)| size.mul(&Dim::Known(*stride)));
            Ok(Some(scaled.collect::<Result<_, _>>()?))
        }
        None => Ok(None),
    }
}

/// The padding before each axis that leaves the sizes `target` of `full`; an odd place is after if `upper`.
fn pads_for(full: &[Dim], target: &[Dim], upper: bool) -> Lowered<Vec<Dim>> {
    let before = full.iter().zip(target).map(|(full, target)| {
        let total = full.sub(target)?;
        let half = total.floor_div(&Dim::Known(2))?;
        if upper { Ok(half) } else { total.sub(&half) }
    });
    Ok(before.collect::<Result<_, lrpc_ir::DimError>>()?)
}

/// `alpha·A·B + beta·C`. `alpha` goes to B and `beta` to C, so that what is left is one linear map with a bias.
pub(super) fn gemm_value(site: &mut Site) -> Lowered<Value> {
    let (a, mut b) = (site.input(0)?, site.input(1)?);
    let alpha = site.float_or("alpha", 1.0)?;
    let beta = site.float_or("beta", 1.0)?;
    let (left, right) = (site.flag("transA", false)?, site.flag("transB", false)?);
    if site.ty(a).rank() != 2 || site.ty(b).rank() != 2 {
        return invalid(format!("operands {} and {} are no matrices", site.ty(a), site.ty(b)));
    }
    if alpha != 1.0 {
        b = site.unary(Function::Scale, [alpha, 0.0], b)?;
    }
    let contract = vec![(usize::from(!left), usize::from(right))];
    let dot = Op::Linear(Linear::Dot(Dot { batch: vec![], contract }));
    let columns = site.ty(b).shape[usize::from(!right)].clone();
    let Some(mut c) = site.optional_input(2)? else {
        return site.emit(dot, &[a, b]);
    };
    if beta != 1.0 {
        c = site.unary(Function::Scale, [beta, 0.0], c)?;
    }
    let shape = site.ty(c).shape;
    let per_row = shape.len() == 2 && shape[0] != Dim::Known(1);
    if per_row || shape.len() > 2 {
        let product = site.emit(dot, &[a, b])?;
        let wanted = site.ty(product).shape;
        let c = site.broadcast(c, &wanted)?;
        return site.binary(Binary::Add, product, c);
    }
    let flat = site.reshape(c, shape.last().cloned().into_iter().collect())?;
    let bias = site.broadcast(flat, &[columns])?;
    site.emit(dot, &[a, b, bias])
}

fn gemm(site: &mut Site) -> Lowered {
    let result = gemm_value(site)?;
    site.output(0, result)
}

fn mat_mul(site: &mut Site) -> Lowered {
    let (a, b) = (site.input(0)?, site.input(1)?);
    let result = multiply(site, a, b)?;
    site.output(0, result)
}

/// `numpy.matmul`: the last two axes are matrices, the others are broadcast.
pub(super) fn multiply(site: &mut Site, mut a: Value, mut b: Value) -> Lowered<Value> {
    let (left, right) = (site.ty(a).shape, site.ty(b).shape);
    let (rows, columns) = (left.len(), right.len());
    if rows == 0 || columns == 0 {
        return invalid("an operand is a scalar");
    }
    if columns <= 2 || rows == 1 {
        // One operand is a plain matrix or vector: all other axes of the other are free.
        let contract = vec![(rows - 1, columns.saturating_sub(2))];
        return site.emit(Op::Linear(Linear::Dot(Dot { batch: vec![], contract })), &[a, b]);
    }
    let outer = broadcast_shape(&left[..rows - 2], &right[..columns - 2])?;
    let with_outer = |matrix: &[Dim]| [outer.as_slice(), matrix].concat();
    a = site.broadcast(a, &with_outer(&left[rows - 2..]))?;
    b = site.broadcast(b, &with_outer(&right[columns - 2..]))?;
    let batch: Vec<(usize, usize)> = (0..outer.len()).map(|axis| (axis, axis)).collect();
    let contract = vec![(outer.len() + 1, outer.len())];
    site.emit(Op::Linear(Linear::Dot(Dot { batch, contract })), &[a, b])
}
