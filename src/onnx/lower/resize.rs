//! Interpolation.

use lrpc_ir::ops::pool::{Coordinates, Rounding};
use lrpc_ir::ops::{Binary, Interpolation, Pool, Resize};
use lrpc_ir::types::{DType, Float};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid, unsupported};
use super::sample::{scale, shift};
use super::site::{Site, axis};
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("Upsample", 7, |site| {
        let scales = site.floats("scales")?;
        simple(site, scales)
    }),
    OpDef::new("Upsample", 9, |site| {
        let scales = site.constant(1)?;
        simple(site, scales)
    }),
    OpDef::new("Resize", 10, |site| {
        let scales = site.constant(1)?;
        simple(site, scales)
    }),
    OpDef::new("Resize", 11, resize),
];

fn interpolation(site: &mut Site) -> Lowered<Interpolation> {
    match site.word_or("mode", "nearest")?.as_str() {
        "nearest" => Ok(Interpolation::Nearest),
        "linear" | "bilinear" => Ok(Interpolation::Linear),
        "cubic" => Ok(Interpolation::Cubic),
        other => invalid(format!("mode is {other:?}")),
    }
}

/// The operators before opset 11: the place `x/scale`. The specification does not say which element is nearest; as in
/// onnxruntime it is the one before where an axis grows, and the one behind where it shrinks.
fn simple(site: &mut Site, scales: Option<Vec<f64>>) -> Lowered {
    let Some(scales) = scales else { return invalid("the scales are missing") };
    let interpolation = interpolation(site)?;
    let op = |rounding| Resize {
        interpolation,
        coordinates: Coordinates::Asymmetric,
        rounding,
        cubic: Float(-0.75),
        exclude_outside: false,
        antialias: false,
        region: Vec::new(),
        scales: Vec::new(),
        spatial: Vec::new(),
    };
    let x = site.input(0)?;
    let shrinks = |scale: &f64| *scale < 1.0;
    if interpolation != Interpolation::Nearest || !scales.iter().any(shrinks) {
        let result = finish(site, x, op(Rounding::Floor), Target::Scales(scales))?;
        return site.output(0, result);
    }
    let part = |shrinking: bool| scales.iter().map(move |scale| if (*scale < 1.0) == shrinking { *scale } else { 1.0 });
    let smaller = finish(site, x, op(Rounding::Ceil), Target::Scales(part(true).collect()))?;
    let result = if scales.iter().any(|scale| *scale > 1.0) {
        finish(site, smaller, op(Rounding::Floor), Target::Scales(part(false).collect()))?
    } else {
        smaller
    };
    site.output(0, result)
}

/// What the node states about the result's size, for all axes of the input.
enum Target {
    Scales(Vec<f64>),
    Sizes(Vec<Dim>),
    /// Both, where the sizes are rounded and all axes have one scale.
    Kept(Vec<f64>, Vec<Dim>),
}

fn resize(site: &mut Site) -> Lowered {
    let coordinates = match site.word_or("coordinate_transformation_mode", "half_pixel")?.as_str() {
        "half_pixel" => Coordinates::HalfPixel,
        "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "align_corners" => Coordinates::AlignCorners,
        "asymmetric" => Coordinates::Asymmetric,
        "tf_crop_and_resize" => Coordinates::CropAndResize,
        other => return unsupported(format!("coordinate_transformation_mode is {other:?}")),
    };
    let rounding = match site.word_or("nearest_mode", "round_prefer_floor")?.as_str() {
        "round_prefer_floor" => Rounding::PreferFloor,
        "round_prefer_ceil" => Rounding::PreferCeil,
        "floor" => Rounding::Floor,
        "ceil" => Rounding::Ceil,
        other => return invalid(format!("nearest_mode is {other:?}")),
    };
    let interpolation = interpolation(site)?;
    let cubic = Float(site.float_or("cubic_coeff_a", -0.75)?);
    let (nearest, spreads) = (interpolation == Interpolation::Nearest, site.flag("antialias", false)?);
    let exclude_outside = site.flag("exclude_outside", false)?;
    let region = if coordinates == Coordinates::CropAndResize { region(site)? } else { Vec::new() };
    // What a mode does not read is set to its default, so that equal operations are written alike.
    let op = Resize {
        interpolation,
        coordinates,
        rounding: if nearest { rounding } else { Rounding::PreferFloor },
        cubic: if interpolation == Interpolation::Cubic { cubic } else { Float(-0.75) },
        exclude_outside: exclude_outside && (interpolation == Interpolation::Cubic || (spreads && !nearest)),
        antialias: spreads && !nearest,
        region,
        scales: Vec::new(),
        spatial: Vec::new(),
    };
    let beside = site.float_or("extrapolation_value", 0.0)?;
    let target = target(site)?;
    let x = site.input(0)?;
    let mut result = finish(site, x, op.clone(), target)?;
    if coordinates == Coordinates::CropAndResize && beside != 0.0 {
        // The weights of a place inside sum to 1, those of a place outside to 0.
        let ones = site.filled(site.ty(x), 1.0)?;
        let target = self::target(site)?;
        let inside = finish(site, ones, op, target)?;
        let outside = scale(site, inside, -beside)?;
        let outside = shift(site, outside, beside)?;
        result = site.binary(Binary::Add, result, outside)?;
    }
    site.output(0, result)
}

/// The axes that the node is about.
fn axes(site: &mut Site) -> Lowered<Vec<usize>> {
    let rank = site.input_type(0)?.rank();
    match site.ints("axes")? {
        Some(axes) => axes.into_iter().map(|value| axis(value, rank)).collect(),
        None => Ok((0..rank).collect()),
    }
}

/// The region of interest: the starts of all axes, then the ends.
fn region(site: &mut Site) -> Lowered<Vec<Float>> {
    let rank = site.input_type(0)?.rank();
    let axes = axes(site)?;
    let stated = site.constant(1)?.unwrap_or_default();
    if stated.len() != axes.len().saturating_mul(2) {
        return invalid(format!("the region has {} ends for {} axes", stated.len(), axes.len()));
    }
    let (mut starts, mut ends) = (vec![Float(0.0); rank], vec![Float(1.0); rank]);
    let (first, last) = stated.split_at(axes.len());
    for ((axis, first), last) in axes.into_iter().zip(first).zip(last) {
        if let (Some(start), Some(end)) = (starts.get_mut(axis), ends.get_mut(axis)) {
            (*start, *end) = (Float(*first), Float(*last));
        }
    }
    starts.append(&mut ends);
    Ok(starts)
}

/// The stated scales or sizes, with those of axes that the node does not name.
fn target(site: &mut Site) -> Lowered<Target> {
    let shape = site.input_type(0)?.shape;
    let axes = axes(site)?;
    let policy = site.word_or("keep_aspect_ratio_policy", "stretch")?;
    let scales = if site.has_input(2) { site.constant(2)?.filter(|scales| !scales.is_empty()) } else { None };
    let sizes = if policy == "stretch" {
        site.integers(3)?.map(|sizes| site.measure_all(&sizes)).transpose()?
    } else {
        site.sizes(3)?
    };
    let sizes = sizes.filter(|sizes| !sizes.is_empty());
    match (scales, sizes) {
        (Some(scales), None) if scales.len() == axes.len() => {
            let mut all = vec![1.0; shape.len()];
            for (axis, scale) in axes.into_iter().zip(scales) {
                all.iter_mut().skip(axis).take(1).for_each(|slot| *slot = scale);
            }
            Ok(Target::Scales(all))
        }
        (None, Some(sizes)) if sizes.len() == axes.len() => {
            if policy != "stretch" {
                return kept_ratio(&shape, &axes, &sizes, &policy);
            }
            let mut all = shape;
            for (axis, size) in axes.into_iter().zip(sizes) {
                all.iter_mut().skip(axis).take(1).for_each(|slot| *slot = size.clone());
            }
            Ok(Target::Sizes(all))
        }
        (None, None) | (Some(_), Some(_)) => invalid("it needs either scales or sizes"),
        _ => invalid("scales or sizes do not fit the axes"),
    }
}

/// One scale for all axes: the smallest or largest that the sizes ask for.
fn kept_ratio(shape: &[Dim], axes: &[usize], sizes: &[Dim], policy: &str) -> Lowered<Target> {
    let ratio = |(axis, size): (&usize, &Dim)| Some(size.known()? as f64 / shape.get(*axis)?.known()? as f64);
    let Some(ratios) = axes.iter().zip(sizes).map(ratio).collect::<Option<Vec<f64>>>() else {
        return unsupported("one scale for all axes of which some are symbolic");
    };
    let scale = match policy {
        "not_larger" => ratios.into_iter().fold(f64::INFINITY, f64::min),
        "not_smaller" => ratios.into_iter().fold(0.0, f64::max),
        other => return invalid(format!("keep_aspect_ratio_policy is {other:?}")),
    };
    let (mut scales, mut all) = (vec![1.0; shape.len()], shape.to_vec());
    for axis in axes {
        if let (Some(slot), Some(size)) = (scales.get_mut(*axis), all.get_mut(*axis)) {
            *slot = scale;
            // Halves go up.
            *size = Dim::Known((size.known().unwrap_or(0) as f64 * scale + 0.5) as i64);
        }
    }
    Ok(Target::Kept(scales, all))
}

/// Resizes `x`. Where more than its spatial axes change, all of its axes are made spatial ones.
fn finish(site: &mut Site, x: Value, op: Resize, target: Target) -> Lowered<Value> {
    let ty = site.ty(x);
    let (scales, sizes) = match target {
        Target::Scales(scales) => {
            if scales.len() != ty.rank() {
                return invalid(format!("{} scales for {ty}", scales.len()));
            }
            let sizes = ty.shape.iter().zip(&scales).map(|(size, scale)| scaled(size, *scale));
            let sizes = sizes.collect::<Lowered<Vec<Dim>>>()?;
            (scales, sizes)
        }
        Target::Sizes(sizes) => (Vec::new(), sizes),
        Target::Kept(scales, sizes) => (scales, sizes),
    };
    let kept = |axis: usize| {
        let whole = [op.region.get(axis), op.region.get(ty.rank().saturating_add(axis))];
        sizes.get(axis) == ty.shape.get(axis)
            && scales.get(axis).is_none_or(|scale| *scale == 1.0)
            && matches!(whole, [None, None] | [Some(Float(0.0)), Some(Float(1.0))])
    };
    let first = if ty.rank() > 2 && kept(0) && kept(1) { 2 } else { 0 };
    let (ends, rank) = (op.region.clone(), ty.rank());
    let region = ends.iter().enumerate().filter(|(at, _)| at.checked_rem(rank).is_some_and(|axis| axis >= first));
    let op = Resize {
        region: region.map(|(_, end)| *end).collect(),
        scales: scales.into_iter().skip(first).map(Float).collect(),
        spatial: sizes.iter().skip(first).cloned().collect(),
        ..op
    };
    // Other element types are interpolated as numbers that hold all of theirs, and cut off.
    let number = if ty.dtype.is_float() { x } else { site.cast(x, DType::F64)? };
    let wide = if first == 2 { ty.shape.clone() } else { [vec![Dim::Known(1); 2], ty.shape.clone()].concat() };
    let spread = site.reshape(number, wide)?;
    let found = site.emit(Op::Pool(Pool::Resize(op)), &[spread])?;
    let found = site.reshape(found, sizes)?;
    site.cast(found, ty.dtype)
}

/// `⌊size·scale⌋`.
fn scaled(size: &Dim, scale: f64) -> Lowered<Dim> {
    const LARGEST: f64 = (1_u64 << f64::MANTISSA_DIGITS) as f64;
    if !(scale > 0.0 && scale < LARGEST) {
        return invalid(format!("a scale is {scale}"));
    }
    if scale.fract() == 0.0 {
        return Ok(size.mul(&Dim::Known(scale as i64))?);
    }
    match size.known() {
        Some(size) if (size as f64) * scale < LARGEST => Ok(Dim::Known(((size as f64) * scale).floor() as i64)),
        Some(_) => invalid("the result's size overflows"),
        None if (1.0 / scale).fract() == 0.0 => Ok(size.floor_div(&Dim::Known((1.0 / scale) as i64))?),
        None => unsupported(format!("a symbolic axis is scaled by {scale}")),
    }
}
