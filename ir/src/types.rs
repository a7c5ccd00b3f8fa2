//! Element types, tensor types and floating-point attributes.

use std::fmt;
use std::hash::{Hash, Hasher};

use crate::dim::{Bindings, Dim, DimError};

/// The element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// Truth value, one byte.
    Bool,
    /// Signed 8 bits.
    I8,
    /// Signed 16 bits.
    I16,
    /// Signed 32 bits.
    I32,
    /// Signed 64 bits.
    I64,
    /// Unsigned 8 bits.
    U8,
    /// Unsigned 16 bits.
    U16,
    /// Unsigned 32 bits.
    U32,
    /// Unsigned 64 bits.
    U64,
    /// IEEE half precision.
    F16,
    /// Brain floating point.
    Bf16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
}

/// Every element type with its name in the text format and its size in bytes.
const DTYPES: [(DType, &str, usize); 13] = [
    (DType::Bool, "bool", 1),
    (DType::I8, "i8", 1),
    (DType::I16, "i16", 2),
    (DType::I32, "i32", 4),
    (DType::I64, "i64", 8),
    (DType::U8, "u8", 1),
    (DType::U16, "u16", 2),
    (DType::U32, "u32", 4),
    (DType::U64, "u64", 8),
    (DType::F16, "f16", 2),
    (DType::Bf16, "bf16", 2),
    (DType::F32, "f32", 4),
    (DType::F64, "f64", 8),
];

impl DType {
    /// The name in the text format: `f32`, `i64`, `bool`, …
    pub fn name(self) -> &'static str {
        DTYPES.iter().find(|(dtype, _, _)| *dtype == self).map_or("", |(_, name, _)| name)
    }

    /// The element type of that name.
    pub fn from_name(name: &str) -> Option<DType> {
        DTYPES.iter().find(|(_, candidate, _)| *candidate == name).map(|(dtype, _, _)| *dtype)
    }

    /// Bytes per element.
    pub fn size(self) -> usize {
        DTYPES.iter().find(|(dtype, _, _)| *dtype == self).map_or(0, |(_, _, size)| *size)
    }

    /// Whether elements are floating-point numbers.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F16 | DType::Bf16 | DType::F32 | DType::F64)
    }

    /// The element type of relevance of elements of this type: their own, and `f32` of integers that stand for numbers.
    pub fn of_relevance(self) -> DType {
        if self.is_float() { self } else { DType::F32 }
    }

    /// Whether elements are integers (not truth values).
    pub fn is_integer(self) -> bool {
        !self.is_float() && self != DType::Bool
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `dtype[dims]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// The element type.
    pub dtype: DType,
    /// The axis lengths, outermost first; empty for a scalar.
    pub shape: Vec<Dim>,
}

impl TensorType {
    /// A type of the given element type and axis lengths.
    pub fn new(dtype: DType, shape: Vec<Dim>) -> TensorType {
        TensorType { dtype, shape }
    }

    /// A type of single-precision elements with known axis lengths; short for tests.
    pub fn f32(shape: &[i64]) -> TensorType {
        TensorType::new(DType::F32, shape.iter().map(|&size| Dim::Known(size)).collect())
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The same shape with another element type.
    pub fn with_dtype(&self, dtype: DType) -> TensorType {
        TensorType::new(dtype, self.shape.clone())
    }

    /// The same element type with another shape.
    pub fn with_shape(&self, shape: Vec<Dim>) -> TensorType {
        TensorType::new(self.dtype, shape)
    }

    /// The number of elements as an expression.
    pub fn elements(&self) -> Result<Dim, DimError> {
        product(&self.shape)
    }

    /// The axis lengths under `bindings`.
    ///
    /// # Errors
    /// A symbol without a value, a negative axis length, and a number of elements beyond `i64`.
    pub fn bound_shape(&self, bindings: &Bindings) -> Result<Vec<usize>, DimError> {
        let mut elements = 1i64;
        let mut shape = Vec::with_capacity(self.shape.len());
        for dim in &self.shape {
            let value = dim.eval(bindings)?;
            elements = elements.checked_mul(value.max(1)).ok_or(DimError::Overflow)?;
            shape.push(usize::try_from(value).map_err(|_| DimError::Overflow)?);
        }
        Ok(shape)
    }
}

/// The product of axis lengths.
pub fn product(shape: &[Dim]) -> Result<Dim, DimError> {
    shape.iter().try_fold(Dim::Known(1), |sum, dim| sum.mul(dim))
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (axis, dim) in self.shape.iter().enumerate() {
            write!(f, "{}{dim}", if axis > 0 { ", " } else { "" })?;
        }
        f.write_str("]")
    }
}

/// A floating-point attribute, compared and hashed by its bits so that operations can be.
#[derive(Clone, Copy)]
pub struct Float(pub f64);

impl Float {
    /// Equal numbers have equal bits; there is one NaN, and two zeros.
    fn bits(self) -> u64 {
        if self.0.is_nan() { f64::NAN.to_bits() } else { self.0.to_bits() }
    }
}

impl PartialEq for Float {
    fn eq(&self, other: &Float) -> bool {
        self.bits() == other.bits()
    }
}

impl Eq for Float {}

impl Hash for Float {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bits().hash(state);
    }
}

impl fmt::Display for Float {
    /// The shortest decimal that reads back as the same number; `inf`, `-inf` and `nan` by name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            value if value.is_nan() => f.write_str("nan"),
            value if value.is_infinite() => f.write_str(if value > 0.0 { "inf" } else { "-inf" }),
            value if value == value.trunc() && value.abs() < 1e15 && value.to_bits() != (-0.0f64).to_bits() => {
                write!(f, "{}", value as i64)
            }
            value => write!(f, "{value:?}"),
        }
    }
}

impl fmt::Debug for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl From<f64> for Float {
    fn from(value: f64) -> Float {
        Float(value)
    }
}
