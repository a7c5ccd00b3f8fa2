//! Interpolation.

use lrpc_ir::ops::pool::{Coordinates, Rounding};
use lrpc_ir::ops::{Interpolation, Pool, Resize};
use lrpc_ir::types::Float;
use lrpc_ir::{Dim, Op};

use super::finding::{Lowered, invalid, unsupported};
use super::linear::spatial;
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

/// The operators before opset 11: `x/scale`, rounded down.
fn simple(site: &mut Site, scales: Option<Vec<f64>>) -> Lowered {
    let Some(scales) = scales else { return invalid("the scales are missing") };
    let interpolation = interpolation(site)?;
    if interpolation == Interpolation::Nearest && scales.iter().any(|scale| *scale < 1.0) {
        return unsupported("before opset 11 it is not defined how the nearest element is rounded when shrinking");
    }
    let op = Resize {
        interpolation,
        coordinates: Coordinates::Asymmetric,
        rounding: Rounding::Floor,
        cubic: Float(-0.75),
        exclude_outside: false,
        scales: Vec::new(),
        spatial: Vec::new(),
    };
    finish(site, op, Target::Scales(scales))
}

/// What the node states about the result's size, for all axes of the input.
enum Target {
    Scales(Vec<f64>),
    Sizes(Vec<Dim>),
}

fn resize(site: &mut Site) -> Lowered {
    // It fills places outside of the region of interest, which only one mode has that is refused.
    site.ignore("extrapolation_value");
    if site.flag("antialias", false)? {
        return unsupported("antialias");
    }
    let policy = site.word_or("keep_aspect_ratio_policy", "stretch")?;
    if policy != "stretch" {
        return unsupported(format!("keep_aspect_ratio_policy is {policy:?}"));
    }
    let coordinates = match site.word_or("coordinate_transformation_mode", "half_pixel")?.as_str() {
        "half_pixel" => Coordinates::HalfPixel,
        "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "align_corners" => Coordinates::AlignCorners,
        "asymmetric" => Coordinates::Asymmetric,
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
    let exclude_outside = site.flag("exclude_outside", false)?;
    // What a mode does not read is set to its default, so that equal operations are written alike.
    let op = Resize {
        interpolation,
        coordinates,
        rounding: if interpolation == Interpolation::Nearest { rounding } else { Rounding::PreferFloor },
        cubic: if interpolation == Interpolation::Cubic { cubic } else { Float(-0.75) },
        exclude_outside: exclude_outside && interpolation == Interpolation::Cubic,
        scales: Vec::new(),
        spatial: Vec::new(),
    };
    let target = target(site)?;
    finish(site, op, target)
}

/// The stated scales or sizes, with those of axes that the node does not name.
fn target(site: &mut Site) -> Lowered<Target> {
    let shape = site.input_type(0)?.shape;
    let axes = match site.ints("axes")? {
        Some(axes) => axes.into_iter().map(|value| axis(value, shape.len())).collect::<Lowered<Vec<usize>>>()?,
        None => (0..shape.len()).collect(),
    };
    let scales = if site.has_input(2) { site.constant(2)?.filter(|scales| !scales.is_empty()) } else { None };
    let sizes = site.integers(3)?.filter(|sizes| !sizes.is_empty());
    let sizes = sizes.map(|sizes| site.measure_all(&sizes)).transpose()?;
    match (scales, sizes) {
        (Some(scales), None) if scales.len() == axes.len() => {
            let mut all = vec![1.0; shape.len()];
            for (axis, scale) in axes.into_iter().zip(scales) {
                all.iter_mut().skip(axis).take(1).for_each(|slot| *slot = scale);
            }
            Ok(Target::Scales(all))
        }
        (None, Some(sizes)) if sizes.len() == axes.len() => {
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

fn finish(site: &mut Site, op: Resize, target: Target) -> Lowered {
    let x = site.input(0)?;
    let ty = site.ty(x);
    let spatial = spatial(site, x)?;
    let (scales, sizes) = match target {
        Target::Scales(scales) => {
            if scales.len() != ty.rank() || scales.iter().take(2).any(|scale| *scale != 1.0) {
                return unsupported(format!("scales {scales:?}: batch and channels can not be resized"));
            }
            let scales: Vec<f64> = scales.into_iter().skip(2).collect();
            let sizes = spatial.iter().zip(&scales).map(|(size, scale)| scaled(size, *scale));
            let sizes = sizes.collect::<Lowered<Vec<Dim>>>()?;
            (scales.into_iter().map(Float).collect(), sizes)
        }
        Target::Sizes(sizes) => {
            if sizes.get(..2) != ty.shape.get(..2) {
                return unsupported(format!("sizes {sizes:?}: batch and channels can not be resized"));
            }
            (Vec::new(), sizes.into_iter().skip(2).collect())
        }
    };
    let result = site.emit(Op::Pool(Pool::Resize(Resize { scales, spatial: sizes, ..op })), &[x])?;
    site.output(0, result)
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
