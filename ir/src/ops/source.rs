//! Values that come from outside: graph inputs, weights, literals, counters, noise.

use crate::attribute::{AttributeReader, Attributes};
use crate::dim::{Dim, DimError};
use crate::types::{DType, Float, TensorType};

/// Where a weight's bytes lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeightPlace {
    /// In the ONNX model (or its external data), under the weight's name.
    Model,
    /// In the sidecar file beside the graph.
    Sidecar,
}

/// A value that is not computed from tensors.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// A graph input. Its optional operand is the default that applies when no value is given.
    Input(TensorType),
    /// A weight, referenced by the name of its value.
    Weight(WeightPlace, TensorType),
    /// At most 64 elements written in the graph.
    Constant(Literal),
    /// `0, 1, 2, …` along one axis, equal along all others.
    Iota {
        /// The axis that counts.
        axis: usize,
        /// The result's type.
        ty: TensorType,
    },
    /// A symbolic dimension as an `i64` scalar. Once its symbols have values it is a [`Source::Constant`].
    Size(Dim),
    /// Numbers drawn from the standard normal distribution, the same on every machine: a function of the seed, the stream,
    /// the step (the operand, `i64`) and the place behind the step's axes alone.
    Noise {
        /// Chooses all numbers anew.
        seed: i64,
        /// Tells apart tensors of one graph.
        stream: i64,
        /// The result's type; the step's axes are its first ones.
        ty: TensorType,
    },
}

/// A small tensor written in the graph: either one element that fills the shape, or all elements in row-major order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Literal {
    /// The tensor's type.
    pub ty: TensorType,
    /// Its elements.
    pub values: LiteralValues,
}

/// The elements of a literal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LiteralValues {
    /// Integers and truth values (0 or 1).
    Integers(Vec<i64>),
    /// Floating-point numbers.
    Floats(Vec<Float>),
}

impl Literal {
    /// The most elements that a literal may list.
    pub const MAX_ELEMENTS: usize = 64;

    /// A scalar.
    pub fn scalar(dtype: DType, value: f64) -> Literal {
        Literal::filled(TensorType::new(dtype, Vec::new()), value)
    }

    /// A tensor whose elements all are `value`.
    pub fn filled(ty: TensorType, value: f64) -> Literal {
        let values = if ty.dtype.is_float() {
            LiteralValues::Floats(vec![Float(value)])
        } else {
            LiteralValues::Integers(vec![value as i64])
        };
        Literal { ty, values }
    }

    /// The number of elements that are listed.
    pub fn len(&self) -> usize {
        match &self.values {
            LiteralValues::Integers(values) => values.len(),
            LiteralValues::Floats(values) => values.len(),
        }
    }

    /// Whether nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn check(&self) -> Result<(), String> {
        let listed = self.len();
        let total = self.ty.elements().map_err(|error| error.to_string())?;
        if listed > Self::MAX_ELEMENTS {
            return Err(format!("lists {listed} elements; at most {} are written inline", Self::MAX_ELEMENTS));
        }
        if listed != 1 && total != Dim::Known(listed as i64) {
            return Err(format!("lists {listed} elements for shape {:?}", self.ty.shape));
        }
        match (&self.values, self.ty.dtype.is_float()) {
            (LiteralValues::Floats(_), true) | (LiteralValues::Integers(_), false) => Ok(()),
            _ => Err(format!("elements do not fit dtype {}", self.ty.dtype)),
        }
    }
}

impl Source {
    /// The word in the text format. Inputs and weights stand in the header and have none in a region.
    pub fn mnemonic(&self) -> &'static str {
        match self {
            Source::Input(_) => "input",
            Source::Weight(..) => "weight",
            Source::Constant(_) => "const",
            Source::Iota { .. } => "iota",
            Source::Size(_) => "size",
            Source::Noise { .. } => "noise",
        }
    }

    pub(super) fn write_attributes(&self, attributes: &mut Attributes) {
        match self {
            Source::Iota { axis, .. } => attributes.integer("axis", *axis as i64),
            Source::Size(size) => attributes.dim("value", size),
            Source::Noise { seed, stream, .. } => {
                attributes.integer_unless("seed", *seed, 0);
                attributes.integer_unless("stream", *stream, 0);
            }
            Source::Input(_) | Source::Weight(..) | Source::Constant(_) => {}
        }
    }

    pub(super) fn read(
        word: &str,
        reader: &mut AttributeReader,
        result: &TensorType,
    ) -> Result<Option<Source>, String> {
        Ok(match word {
            "iota" => Some(Source::Iota { axis: reader.axis("axis")?, ty: result.clone() }),
            "size" => Some(Source::Size(reader.dim("value")?)),
            "noise" => Some(Source::Noise {
                seed: reader.integer_or("seed", Some(0))?,
                stream: reader.integer_or("stream", Some(0))?,
                ty: result.clone(),
            }),
            _ => None,
        })
    }

    pub(super) fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, String> {
        match (self, operands) {
            (Source::Input(ty), []) => Ok(ty.clone()),
            (Source::Input(ty), [default]) if *default == ty => Ok(ty.clone()),
            (Source::Input(ty), [default]) => Err(format!("default has type {default}, expected {ty}")),
            (Source::Weight(_, ty), []) => Ok(ty.clone()),
            (Source::Constant(literal), []) => literal.check().map(|()| literal.ty.clone()),
            (Source::Iota { axis, ty }, []) => super::expect_axis(*axis, ty.rank()).map(|()| ty.clone()),
            (Source::Size(_), []) => Ok(TensorType::new(DType::I64, Vec::new())),
            (Source::Noise { ty, .. }, [step]) => {
                super::expect_floats(ty)?;
                if step.dtype != DType::I64 || !ty.shape.starts_with(&step.shape) {
                    return Err(format!("the step is i64 over the first axes of {ty}, not {step}"));
                }
                Ok(ty.clone())
            }
            (Source::Noise { .. }, _) => Err("takes one operand, the step".into()),
            _ => Err("takes no operands".into()),
        }
    }

    pub(super) fn map_dims(&self, map: &mut dyn FnMut(&Dim) -> Result<Dim, DimError>) -> Result<Source, DimError> {
        if let Source::Size(size) = self {
            return Ok(match map(size)? {
                Dim::Known(value) => Source::Constant(Literal {
                    ty: TensorType::new(DType::I64, Vec::new()),
                    values: LiteralValues::Integers(vec![value]),
                }),
                size => Source::Size(size),
            });
        }
        let mut ty_of = |ty: &TensorType| Ok(ty.with_shape(super::map_all(&ty.shape, map)?));
        Ok(match self {
            Source::Input(ty) => Source::Input(ty_of(ty)?),
            Source::Weight(place, ty) => Source::Weight(*place, ty_of(ty)?),
            Source::Constant(literal) => {
                Source::Constant(Literal { ty: ty_of(&literal.ty)?, values: literal.values.clone() })
            }
            Source::Iota { axis, ty } => Source::Iota { axis: *axis, ty: ty_of(ty)? },
            Source::Noise { seed, stream, ty } => Source::Noise { seed: *seed, stream: *stream, ty: ty_of(ty)? },
            Source::Size(_) => self.clone(),
        })
    }
}
