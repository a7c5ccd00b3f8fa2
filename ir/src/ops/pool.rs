//! Sliding windows and interpolation, with their adjoints.

use super::{Class, arity, expect_numbers, expect_shape, map_all, spatial_of};
use crate::attribute::{Attribute, AttributeReader, Attributes};
use crate::dim::{Dim, DimError};
use crate::types::{DType, Float, TensorType};

/// A pooling operation over the spatial axes of `[N, C, …]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pool {
    /// One number per window.
    Window(PoolKind, Window),
    /// Adjoint of the window operation, with the attributes of the forward one; the result has the forward operand's
    /// spatial sizes (`window.spatial`). Operands: for `Max` the forward operand and the cotangent (each element goes
    /// to the window's winner, the first of equals), otherwise the cotangent alone.
    WindowTranspose(PoolKind, Window),
    /// The place (`i64`) of each window's largest element in its plane, in row-major order; the first of equals.
    WindowArgMax(Window),
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
    /// `start·(in − 1) + x·(end − start)·(in − 1)/(out − 1)`, or the region's middle where the output has one element;
    /// places outside of the input hold 0.
    CropAndResize,
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
    /// Whether the weights are spread over `1/scale` times as many places where the output is smaller, so that every
    /// element counts. Not for [`Interpolation::Nearest`].
    pub antialias: bool,
    /// Start and end, in units of the input, of the region that [`Coordinates::CropAndResize`] reads: of all spatial axes
    /// the starts, then the ends. Else empty.
    pub region: Vec<Float>,
    /// Output size over input size per spatial axis where the model states it, else empty: then the sizes' own ratio.
    pub scales: Vec<Float>,
    /// Spatial sizes of the result.
    pub spatial: Vec<Dim>,
}

const INTERPOLATIONS: [(Interpolation, &str); 3] =
    [(Interpolation::Nearest, "nearest"), (Interpolation::Linear, "linear"), (Interpolation::Cubic, "cubic")];
const COORDINATES: [(Coordinates, &str); 6] = [
    (Coordinates::HalfPixel, "half_pixel"),
    (Coordinates::PytorchHalfPixel, "pytorch_half_pixel"),
    (Coordinates::HalfPixelSymmetric, "half_pixel_symmetric"),
    (Coordinates::AlignCorners, "align_corners"),
    (Coordinates::Asymmetric, "asymmetric"),
    (Coordinates::CropAndResize, "crop_and_resize"),
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
        let places: Vec<Dim> = [&self.pads, &self.pads_after, &self.size].into_iter().flatten().cloned().collect();
        super::expect_steps(&self.strides, &self.dilations, &places)?;
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
        attributes.flag("antialias", self.antialias);
        for (name, list) in [("region", &self.region), ("scales", &self.scales)] {
            if !list.is_empty() {
                let items = list.iter().map(|&number| Attribute::Float(number)).collect();
                attributes.0.push((name.into(), Attribute::List(items)));
            }
        }
    }

    fn read(reader: &mut AttributeReader, result: &TensorType) -> Result<Resize, String> {
        Ok(Resize {
            interpolation: value_of(&INTERPOLATIONS, &reader.word("mode")?)?,
            coordinates: value_of(&COORDINATES, &reader.word("coordinates")?)?,
            rounding: value_of(&ROUNDINGS, &reader.word_or("rounding", "prefer_floor")?)?,
            cubic: reader.float_or("cubic", Some(-0.75))?,
            exclude_outside: reader.flag("exclude_outside")?,
            antialias: reader.flag("antialias")?,
            region: reader.floats_or_empty("region")?,
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
        let ends = if self.coordinates == Coordinates::CropAndResize { 2 * axes } else { 0 };
        if self.region.len() != ends {
            return Err(format!("needs {ends} ends of a region, not {}", self.region.len()));
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
            Pool::WindowArgMax(_) => "pool_argmax",
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
            Pool::WindowArgMax(window) => window.write(PoolKind::Max, attributes),
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
            "pool_argmax" => Some(Pool::WindowArgMax(Window::read(reader, result)?)),
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
            Pool::WindowArgMax(window) => {
                let [x] = arity(operands)?;
                window.infer(x).map(|result| result.with_dtype(DType::I64))
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
            Pool::WindowArgMax(_) => Class::Opaque("an index carries nothing"),
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
            Pool::WindowArgMax(window) => Pool::WindowArgMax(window.map_dims(map)?),
        })
    }
}
