//! Sliding windows and interpolation, with their adjoints.

use super::{Class, arity, expect_numbers, expect_shape, map_all, spatial_of};
use crate::attribute::{AttributeReader, Attributes};
use crate::dim::{Dim, DimError};
use crate::types::{Float, TensorType};

/// A pooling operation over the spatial axes of `[N, C, …]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pool {
    /// One number per window.
    Window(PoolKind, Window),
    /// Adjoint of the window operation, with the attributes of the forward one; the result has the forward operand's
    /// spatial sizes (`window.spatial`). Operands: for `Max` the forward operand and the cotangent (each element goes
    /// to the window's winner, the first of equals), otherwise the cotangent alone.
    WindowTranspose(PoolKind, Window),
    /// Interpolation along the spatial axes.
    Resize(Resize),
    /// Adjoint of [`Pool::Resize`]; `resize.spatial` are the forward operand's sizes.
    ResizeTranspose(Resize),
}

/// What is computed from a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// The largest element; places outside the input never win.
    Max,
    /// The sum of the elements inside the input.
    Sum,
    /// The sum divided by the number of places inside the input.
    Average,
    /// The sum divided by the number of places inside the input and its padding (`pads` and `pads_after`).
    AverageWithPadding,
}

const KINDS: [(PoolKind, &str); 4] = [
    (PoolKind::Max, "max"),
    (PoolKind::Sum, "sum"),
    (PoolKind::Average, "average"),
    (PoolKind::AverageWithPadding, "average_with_padding"),
];

/// Where the windows lie: window `o` covers places `o·stride + k·dilation − pad` for `k < size`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Window {
    /// Taps per spatial axis.
    pub size: Vec<Dim>,
    /// Step per spatial axis.
    pub strides: Vec<i64>,
    /// Places before the first element per spatial axis.
    pub pads: Vec<Dim>,
    /// Places after the last element per spatial axis; only `AverageWithPadding` depends on them.
    pub pads_after: Vec<Dim>,
    /// Distance between taps per spatial axis.
    pub dilations: Vec<i64>,
    /// Spatial sizes of the result.
    pub spatial: Vec<Dim>,
}

/// How a resize reads between elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interpolation {
    /// The nearest element.
    Nearest,
    /// Between the two nearest.
    Linear,
    /// Between the four nearest (Keys' cubic convolution).
    Cubic,
}

/// How an output place becomes an input place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coordinates {
    /// `(x + ½)/scale − ½`.
    HalfPixel,
    /// As `HalfPixel`, and 0 where the output has one element.
    PytorchHalfPixel,
    /// As `HalfPixel`, shifted for outputs whose size was rounded.
    HalfPixelSymmetric,
    /// `x·(in − 1)/(out − 1)`.
    AlignCorners,
    /// `x/scale`.
    Asymmetric,
}

/// How `Nearest` rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// Halves down.
    PreferFloor,
    /// Halves up.
    PreferCeil,
    /// Down.
    Floor,
    /// Up.
    Ceil,
}

/// Interpolation along every spatial axis in turn.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resize {
    /// Between elements.
    pub interpolation: Interpolation,
    /// From output places to input places.
    pub coordinates: Coordinates,
    /// For [`Interpolation::Nearest`].
    pub rounding: Rounding,
    /// Coefficient of [`Interpolation::Cubic`], usually −0.75.
    pub cubic: Float,
    /// Whether taps outside the input are left out and the rest renormalised.
    pub exclude_outside: bool,
    /// Output size over input size per spatial axis where the model states it, else empty: then the sizes' own ratio.
    pub scales: Vec<Float>,
    /// Spatial sizes of the result.
    pub spatial: Vec<Dim>,
}

const INTERPOLATIONS: [(Interpolation, &str); 3] =
    [(Interpolation::Nearest, "nearest"), (Interpolation::Linear, "linear"), (Interpolation::Cubic, "cubic")];
const COORDINATES: [(Coordinates, &str); 5] = [
    (Coordinates::HalfPixel, "half_pixel"),
    (Coordinates::PytorchHalfPixel, "pytorch_half_pixel"),
    (Coordinates::HalfPixelSymmetric, "half_pixel_symmetric"),
    (Coordinates::AlignCorners, "align_corners"),
    (Coordinates::Asymmetric, "asymmetric"),
];
const ROUNDINGS: [(Rounding, &str); 4] = [
    (Rounding::PreferFloor, "prefer_floor"),
    (Rounding::PreferCeil, "prefer_ceil"),
    (Rounding::Floor, "floor"),
    (Rounding::Ceil, "ceil"),
];

fn word_of<T: PartialEq>(table: &[(T, &'static str)], value: &T) -> &'static str {
    table.iter().find(|(candidate, _)| candidate == value).map_or("", |(_, word)| word)
}

fn value_of<T: Copy>(table: &[(T, &'static str)], word: &str) -> Result<T, String> {
    table
        .iter()
        .find(|(_, name)| *name == word)
        .map(|(value, _)| *value)
        .ok_or_else(|| format!("unknown word `{word}`"))
}

impl Window {
    fn write(&self, kind: PoolKind, attributes: &mut Attributes) {
        attributes.dims("window", &self.size);
        attributes.per_axis("stride", &known(&self.strides), 1);
        attributes.per_axis("pad", &self.pads, 0);
        if kind == PoolKind::AverageWithPadding {
            attributes.per_axis("pad_after", &self.pads_after, 0);
        }
        attributes.per_axis("dilation", &known(&self.dilations), 1);
    }

    fn read(reader: &mut AttributeReader, result: &TensorType) -> Result<Window, String> {
        let spatial = spatial_of(result);
        let axes = spatial.len();
        Ok(Window {
            size: reader.dims("window")?,
            strides: reader.integer_per_axis("stride", axes, 1)?,
            pads: reader.per_axis("pad", axes, 0)?,
            pads_after: reader.per_axis("pad_after", axes, 0)?,
            dilations: reader.integer_per_axis("dilation", axes, 1)?,
            spatial,
        })
    }

    fn infer(&self, x: &TensorType) -> Result<TensorType, String> {
        expect_numbers(x)?;
        let axes = self.spatial.len();
        let counts =
            [self.size.len(), self.strides.len(), self.pads.len(), self.pads_after.len(), self.dilations.len()];
        if x.rank() != axes + 2 || counts.iter().any(|&count| count != axes) {
            return Err(format!("needs window, stride, pad and dilation for each spatial axis of {x}"));
        }
        super::expect_steps(&self.strides, &self.dilations, &self.pads)?;
        super::expect_steps(&[], &[], &self.pads_after)?;
        Ok(spatial_result(x, &self.spatial))
    }

    fn map_dims(&self, map: &mut dyn FnMut(&Dim) -> Result<Dim, DimError>) -> Result<Window, DimError> {
        Ok(Window {
            size: map_all(&self.size, map)?,
            pads: map_all(&self.pads, map)?,
            pads_after: map_all(&self.pads_after, map)?,
            spatial: map_all(&self.spatial, map)?,
            ..self.clone()
        })
    }
}

impl Resize {
    fn write(&self, attributes: &mut Attributes) {
        attributes.word("mode", word_of(&INTERPOLATIONS, &self.interpolation));
        attributes.word("coordinates", word_of(&COORDINATES, &self.coordinates));
        if self.rounding != Rounding::PreferFloor {
            attributes.word("rounding", word_of(&ROUNDINGS, &self.rounding));
        }
        if self.cubic != Float(-0.75) {
            attributes.float("cubic", self.cubic);
        }
        attributes.flag("exclude_outside", self.exclude_outside);
        if !self.scales.is_empty() {
            let items = self.scales.iter().map(|&scale| crate::attribute::Attribute::Float(scale)).collect();
            attributes.0.push(("scales".into(), crate::attribute::Attribute::List(items)));
        }
    }

    fn read(reader: &mut AttributeReader, result: &TensorType) -> Result<Resize, String> {
        Ok(Resize {
            interpolation: value_of(&INTERPOLATIONS, &reader.word("mode")?)?,
            coordinates: value_of(&COORDINATES, &reader.word("coordinates")?)?,
            rounding: value_of(&ROUNDINGS, &reader.word_or("rounding", "prefer_floor")?)?,
            cubic: reader.float_or("cubic", Some(-0.75))?,
            exclude_outside: reader.flag("exclude_outside")?,
            scales: reader.floats_or_empty("scales")?,
            spatial: spatial_of(result),
        })
    }

    fn infer(&self, x: &TensorType) -> Result<TensorType, String> {
        expect_numbers(x)?;
        let axes = self.spatial.len();
        if x.rank() != axes + 2 || !(self.scales.is_empty() || self.scales.len() == axes) {
            return Err(format!("needs a size (and a scale) for each spatial axis of {x}"));
        }
        Ok(spatial_result(x, &self.spatial))
    }
}

fn known(values: &[i64]) -> Vec<Dim> {
    values.iter().map(|&value| Dim::Known(value)).collect()
}

fn spatial_result(x: &TensorType, spatial: &[Dim]) -> TensorType {
    x.with_shape(x.shape.iter().take(2).chain(spatial).cloned().collect())
}

impl Pool {
    /// The word in the text format.
    pub fn mnemonic(&self) -> &'static str {
        match self {
            Pool::Window(..) => "pool",
            Pool::WindowTranspose(..) => "pool_transpose",
            Pool::Resize(_) => "resize",
            Pool::ResizeTranspose(_) => "resize_transpose",
        }
    }

    pub(super) fn write_attributes(&self, attributes: &mut Attributes) {
        match self {
            Pool::Window(kind, window) | Pool::WindowTranspose(kind, window) => {
                attributes.word("kind", word_of(&KINDS, kind));
                window.write(*kind, attributes);
            }
            Pool::Resize(resize) | Pool::ResizeTranspose(resize) => resize.write(attributes),
        }
    }

    pub(super) fn read(word: &str, reader: &mut AttributeReader, result: &TensorType) -> Result<Option<Pool>, String> {
        Ok(match word {
            "pool" | "pool_transpose" => {
                let kind = value_of(&KINDS, &reader.word("kind")?)?;
                let window = Window::read(reader, result)?;
                Some(if word == "pool" { Pool::Window(kind, window) } else { Pool::WindowTranspose(kind, window) })
            }
            "resize" => Some(Pool::Resize(Resize::read(reader, result)?)),
            "resize_transpose" => Some(Pool::ResizeTranspose(Resize::read(reader, result)?)),
            _ => None,
        })
    }

    pub(super) fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, String> {
        match self {
            Pool::WindowTranspose(PoolKind::Max, window) => {
                let [x, cotangent] = arity(operands)?;
                if x.dtype != cotangent.dtype {
                    return Err(format!("the forward operand is {}, not {}", x.dtype, cotangent.dtype));
                }
                window.infer(cotangent)?;
                let result = spatial_result(cotangent, &window.spatial);
                expect_shape("the forward operand", &x.shape, &result.shape)?;
                Ok(result)
            }
            Pool::Window(_, window) | Pool::WindowTranspose(_, window) => {
                let [x] = arity(operands)?;
                window.infer(x)
            }
            Pool::Resize(resize) | Pool::ResizeTranspose(resize) => {
                let [x] = arity(operands)?;
                resize.infer(x)
            }
        }
    }

    pub(super) fn class(&self) -> Class {
        match self {
            Pool::Window(PoolKind::Max, _) => Class::Select,
            Pool::Window(..) | Pool::Resize(_) => Class::Additive,
            Pool::WindowTranspose(..) | Pool::ResizeTranspose(_) => Class::Opaque("belongs to the relevance region"),
        }
    }

    pub(super) fn map_dims(&self, map: &mut dyn FnMut(&Dim) -> Result<Dim, DimError>) -> Result<Pool, DimError> {
        let mut resized = |resize: &Resize| Ok(Resize { spatial: map_all(&resize.spatial, map)?, ..resize.clone() });
        Ok(match self {
            Pool::Resize(resize) => Pool::Resize(resized(resize)?),
            Pool::ResizeTranspose(resize) => Pool::ResizeTranspose(resized(resize)?),
            Pool::Window(kind, window) => Pool::Window(*kind, window.map_dims(map)?),
            Pool::WindowTranspose(kind, window) => Pool::WindowTranspose(*kind, window.map_dims(map)?),
        })
    }
}

/// For each output place along spatial axis `axis` the input places that it reads and their weights, as the ONNX
/// specification of Resize defines them. Places outside of the input are moved to its edge, and equal places are merged.
///
/// `input` and `output` are the axis lengths of the forward operation. An empty input axis has no taps.
pub fn resize_taps(resize: &Resize, axis: usize, input: usize, output: usize) -> Vec<Vec<(usize, f64)>> {
    if input == 0 {
        return vec![Vec::new(); output];
    }
    let stated = resize.scales.get(axis).map(|scale| scale.0).filter(|scale| *scale > 0.0);
    let scale = stated.unwrap_or(output as f64 / input as f64);
    let taps = |place: usize| {
        let position = source_position(resize.coordinates, place as f64, scale, input as f64, output as f64);
        taps_at(resize, position, input)
    };
    (0..output).map(taps).collect()
}

/// The place in the input, as a real number, of place `x` of the output.
fn source_position(coordinates: Coordinates, x: f64, scale: f64, input: f64, output: f64) -> f64 {
    let half_pixel = (x + 0.5) / scale - 0.5;
    match coordinates {
        Coordinates::HalfPixel => half_pixel,
        Coordinates::PytorchHalfPixel if output <= 1.0 => 0.0,
        Coordinates::PytorchHalfPixel => half_pixel,
        Coordinates::HalfPixelSymmetric => {
            let adjustment = output / (scale * input);
            input / 2.0 * (1.0 - adjustment) + half_pixel
        }
        Coordinates::AlignCorners if output <= 1.0 => 0.0,
        Coordinates::AlignCorners => x * (input - 1.0) / (output - 1.0),
        Coordinates::Asymmetric => x / scale,
    }
}

fn taps_at(resize: &Resize, position: f64, input: usize) -> Vec<(usize, f64)> {
    if resize.interpolation == Interpolation::Nearest {
        let nearest = match resize.rounding {
            Rounding::PreferFloor => (position - 0.5).ceil(),
            Rounding::PreferCeil => (position + 0.5).floor(),
            Rounding::Floor => position.floor(),
            Rounding::Ceil => position.ceil(),
        };
        return vec![(inside(nearest, input), 1.0)];
    }
    let first = position.floor();
    let fraction = position - first;
    let weights = match resize.interpolation {
        Interpolation::Cubic => cubic_weights(resize.cubic.0, fraction).to_vec(),
        Interpolation::Nearest | Interpolation::Linear => vec![1.0 - fraction, fraction],
    };
    let start = if resize.interpolation == Interpolation::Cubic { first - 1.0 } else { first };
    let is_inside = |place: f64| place >= 0.0 && place < input as f64;
    let places = weights.into_iter().enumerate().map(|(step, weight)| (start + step as f64, weight));
    let kept: Vec<(f64, f64)> = places.filter(|(place, _)| !resize.exclude_outside || is_inside(*place)).collect();
    let total: f64 = if resize.exclude_outside { kept.iter().map(|(_, weight)| weight).sum() } else { 1.0 };
    let mut taps: Vec<(usize, f64)> = Vec::with_capacity(kept.len());
    for (place, weight) in kept {
        let (place, weight) = (inside(place, input), weight / total);
        match taps.last_mut() {
            _ if weight == 0.0 => {}
            Some((last, sum)) if *last == place => *sum += weight,
            _ => taps.push((place, weight)),
        }
    }
    taps
}

/// The nearest place inside of the input.
fn inside(place: f64, input: usize) -> usize {
    place.clamp(0.0, input as f64 - 1.0) as usize
}

/// Weights of the four places around a position `fraction` after the second (Keys 1981, with coefficient `a`).
fn cubic_weights(a: f64, fraction: f64) -> [f64; 4] {
    let near = |x: f64| ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a;
    [far(1.0 + fraction), near(fraction), near(1.0 - fraction), far(2.0 - fraction)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resize(interpolation: Interpolation, coordinates: Coordinates) -> Resize {
        Resize {
            interpolation,
            coordinates,
            rounding: Rounding::PreferFloor,
            cubic: Float(-0.75),
            exclude_outside: false,
            scales: Vec::new(),
            spatial: Vec::new(),
        }
    }

    /// Interpolates `x` to `output` elements.
    fn apply(resize: &Resize, x: &[f64], output: usize) -> Vec<f64> {
        let taps = resize_taps(resize, 0, x.len(), output);
        taps.iter().map(|taps| taps.iter().map(|(place, weight)| x[*place] * weight).sum()).collect()
    }

    #[track_caller]
    fn check(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} against {expected:?}");
    }

    #[test]
    fn linear_examples_of_the_specification() {
        let half = resize(Interpolation::Linear, Coordinates::HalfPixel);
        check(&apply(&half, &[1.0, 2.0], 4), &[1.0, 1.25, 1.75, 2.0]);
        let corners = resize(Interpolation::Linear, Coordinates::AlignCorners);
        check(&apply(&corners, &[1.0, 2.0], 4), &[1.0, 4.0 / 3.0, 5.0 / 3.0, 2.0]);
        let stated = Resize { scales: vec![Float(0.6)], ..half };
        check(&apply(&stated, &[1.0, 2.0, 3.0, 4.0], 2), &[1.333_333_3, 3.0]);
    }

    #[test]
    fn cubic_weights_sum_to_one_and_hit_the_elements() {
        let half = resize(Interpolation::Cubic, Coordinates::HalfPixel);
        let sums =
            resize_taps(&half, 0, 5, 8).iter().map(|taps| taps.iter().map(|tap| tap.1).sum()).collect::<Vec<f64>>();
        check(&sums, &[1.0; 8]);
    }

    #[test]
    fn nearest_rounds_as_told() {
        let x = [10.0, 20.0, 30.0];
        for (rounding, expected) in [
            (Rounding::Floor, [10.0, 10.0, 20.0, 20.0, 30.0, 30.0]),
            (Rounding::Ceil, [10.0, 20.0, 20.0, 30.0, 30.0, 30.0]),
            (Rounding::PreferFloor, [10.0, 10.0, 20.0, 20.0, 30.0, 30.0]),
            (Rounding::PreferCeil, [10.0, 20.0, 20.0, 30.0, 30.0, 30.0]),
        ] {
            let resize = Resize { rounding, ..resize(Interpolation::Nearest, Coordinates::Asymmetric) };
            check(&apply(&resize, &x, 6), &expected);
        }
    }

    #[test]
    fn taps_outside_may_be_left_out() {
        let resize = Resize { exclude_outside: true, ..resize(Interpolation::Linear, Coordinates::HalfPixel) };
        assert_eq!(resize_taps(&resize, 0, 2, 4)[0], [(0, 1.0)]);
        assert_eq!(resize_taps(&resize, 0, 0, 2), vec![Vec::new(); 2]);
    }
}
