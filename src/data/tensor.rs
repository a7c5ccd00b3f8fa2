//! Tensors as they stand in files: a data type, a shape and little-endian bytes.

use std::fmt;

use half::{bf16, f16};

/// Element type of a [`Tensor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an IEEE 754 single precision number.
    BF16,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
    /// Signed 8-bit integer.
    I8,
    /// Signed 16-bit integer.
    I16,
    /// Signed 32-bit integer.
    I32,
    /// Signed 64-bit integer.
    I64,
    /// Unsigned 8-bit integer.
    U8,
    /// Unsigned 16-bit integer.
    U16,
    /// Unsigned 32-bit integer.
    U32,
    /// Unsigned 64-bit integer.
    U64,
    /// One byte, 0 or 1.
    Bool,
}

impl DType {
    /// Size of one element in bytes.
    pub const fn size(self) -> usize {
        match self {
            DType::I8 | DType::U8 | DType::Bool => 1,
            DType::F16 | DType::BF16 | DType::I16 | DType::U16 => 2,
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::F64 | DType::I64 | DType::U64 => 8,
        }
    }

    /// The name that graphs and messages use: `f32`, `i64`, `bool`, ….
    pub const fn name(self) -> &'static str {
        match self {
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::I8 => "i8",
            DType::I16 => "i16",
            DType::I32 => "i32",
            DType::I64 => "i64",
            DType::U8 => "u8",
            DType::U16 => "u16",
            DType::U32 => "u32",
            DType::U64 => "u64",
            DType::Bool => "bool",
        }
    }

    /// Whether elements are floating-point numbers.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a tensor could not be made or read as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The number of bytes that the shape asks for does not fit in the address space.
    #[error("a tensor {dtype}{shape:?} is larger than any memory")]
    TooLarge {
        /// Element type.
        dtype: DType,
        /// Shape as given.
        shape: Vec<usize>,
    },
    /// The data has another length than type and shape ask for.
    #[error("a tensor {dtype}{shape:?} takes {expected} bytes, but {found} are given")]
    Length {
        /// Element type.
        dtype: DType,
        /// Shape as given.
        shape: Vec<usize>,
        /// Bytes that type and shape ask for.
        expected: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// A boolean that is neither 0 nor 1.
    #[error("element {index} of a bool tensor is the byte {byte}; only 0 and 1 are allowed")]
    NotBool {
        /// Position in the flat data.
        index: usize,
        /// The byte found there.
        byte: u8,
    },
    /// Elements were asked for as another type than they have.
    #[error("the tensor holds {found}, not {expected}")]
    DType {
        /// Type that was asked for.
        expected: DType,
        /// Type of the tensor.
        found: DType,
    },
}

/// A dense tensor in C order with little-endian elements. Type, shape and length always agree.
#[derive(Clone, PartialEq, Eq)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    /// A tensor of little-endian `bytes` in C order.
    ///
    /// # Errors
    /// The length does not fit type and shape, the size overflows, or a boolean is neither 0 nor 1.
    pub fn new(dtype: DType, shape: Vec<usize>, bytes: Vec<u8>) -> Result<Tensor, TensorError> {
        let expected = byte_count(dtype, &shape)?;
        if bytes.len() != expected {
            return Err(TensorError::Length { dtype, shape, expected, found: bytes.len() });
        }
        if dtype == DType::Bool
            && let Some((index, &byte)) = bytes.iter().enumerate().find(|(_, byte)| **byte > 1)
        {
            return Err(TensorError::NotBool { index, byte });
        }
        Ok(Tensor { dtype, shape, bytes })
    }

    /// A tensor of the given elements in C order.
    ///
    /// # Errors
    /// The number of elements does not fit the shape.
    pub fn from_slice<T: Element>(shape: &[usize], elements: &[T]) -> Result<Tensor, TensorError> {
        let mut bytes = Vec::with_capacity(std::mem::size_of_val(elements));
        for element in elements {
            element.append_to(&mut bytes);
        }
        Tensor::new(T::DTYPE, shape.to_vec(), bytes)
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Size along each axis; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements in C order, little-endian.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The elements in C order, little-endian, without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The elements as what they are.
    ///
    /// # Errors
    /// The tensor holds another type than `T`.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>, TensorError> {
        if self.dtype != T::DTYPE {
            return Err(TensorError::DType { expected: T::DTYPE, found: self.dtype });
        }
        Ok(self.decode())
    }

    /// The elements converted to f64: exact for every type but i64 and u64 beyond 2⁵³, which round to nearest.
    pub fn to_f64(&self) -> Vec<f64> {
        match self.dtype {
            DType::F16 => self.decode::<f16>().into_iter().map(f64::from).collect(),
            DType::BF16 => self.decode::<bf16>().into_iter().map(f64::from).collect(),
            DType::F32 => self.decode::<f32>().into_iter().map(f64::from).collect(),
            DType::F64 => self.decode(),
            DType::I8 => self.decode::<i8>().into_iter().map(f64::from).collect(),
            DType::I16 => self.decode::<i16>().into_iter().map(f64::from).collect(),
            DType::I32 => self.decode::<i32>().into_iter().map(f64::from).collect(),
            DType::I64 => self.decode::<i64>().into_iter().map(|x| x as f64).collect(),
            DType::U8 | DType::Bool => self.bytes.iter().map(|x| f64::from(*x)).collect(),
            DType::U16 => self.decode::<u16>().into_iter().map(f64::from).collect(),
            DType::U32 => self.decode::<u32>().into_iter().map(f64::from).collect(),
            DType::U64 => self.decode::<u64>().into_iter().map(|x| x as f64).collect(),
        }
    }

    /// The elements converted to f32, rounded to nearest where they do not fit.
    pub fn to_f32(&self) -> Vec<f32> {
        match self.dtype {
            DType::F32 => self.decode(),
            _ => self.to_f64().into_iter().map(|x| x as f32).collect(),
        }
    }

    /// Flat position and value of the first element that is NaN or infinite; `None` for integers.
    pub fn first_non_finite(&self) -> Option<(usize, f64)> {
        match self.dtype {
            DType::F16 => first_non_finite(&self.decode::<f16>()),
            DType::BF16 => first_non_finite(&self.decode::<bf16>()),
            DType::F32 => first_non_finite(&self.decode::<f32>()),
            DType::F64 => first_non_finite(&self.decode::<f64>()),
            _ => None,
        }
    }

    /// The position along each axis of the element at `flat` in C order.
    pub fn index_of(&self, flat: usize) -> Vec<usize> {
        let mut rest = flat;
        let mut index: Vec<usize> = self
            .shape
            .iter()
            .rev()
            .map(|&size| {
                let position = rest % size.max(1);
                rest /= size.max(1);
                position
            })
            .collect();
        index.reverse();
        index
    }

    fn decode<T: Element>(&self) -> Vec<T> {
        self.bytes.chunks_exact(T::DTYPE.size()).filter_map(T::from_bytes).collect()
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor {}{:?}", self.dtype, self.shape)
    }
}

fn first_non_finite<T: Copy + Into<f64>>(elements: &[T]) -> Option<(usize, f64)> {
    elements.iter().map(|x| (*x).into()).enumerate().find(|(_, x): &(usize, f64)| !x.is_finite())
}

/// Bytes that a tensor takes. Axes of size 0 are counted as 1 while checking for overflow, so that no product of a
/// part of the axes can overflow either.
pub(crate) fn byte_count(dtype: DType, shape: &[usize]) -> Result<usize, TensorError> {
    let bound = shape.iter().try_fold(dtype.size(), |bytes, &size| bytes.checked_mul(size.max(1)));
    match bound {
        Some(bytes) if isize::try_from(bytes).is_ok() => Ok(if shape.contains(&0) { 0 } else { bytes }),
        _ => Err(TensorError::TooLarge { dtype, shape: shape.to_vec() }),
    }
}

/// A Rust type that is the element of a [`Tensor`].
pub trait Element: Copy + sealed::Sealed {
    /// The element type it stands for.
    const DTYPE: DType;
    /// Appends the little-endian bytes.
    fn append_to(self, bytes: &mut Vec<u8>);
    /// The element that the little-endian bytes stand for; `None` if there are more or fewer than one element has.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! element {
    ($($rust:ty => $dtype:ident),*) => {$(
        impl sealed::Sealed for $rust {}
        impl Element for $rust {
            const DTYPE: DType = DType::$dtype;
            fn append_to(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }
            fn from_bytes(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self::from_le_bytes)
            }
        }
    )*};
}

element!(f16 => F16, bf16 => BF16, f32 => F32, f64 => F64, i8 => I8, i16 => I16, i32 => I32, i64 => I64,
    u8 => U8, u16 => U16, u32 => U32, u64 => U64);

impl sealed::Sealed for bool {}
impl Element for bool {
    const DTYPE: DType = DType::Bool;
    fn append_to(self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(self));
    }
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_back_as_they_were() {
        let tensor = Tensor::from_slice(&[2, 2], &[1.5f32, -0.0, f32::MAX, 3.0]).unwrap();
        assert_eq!(tensor.to_vec::<f32>().unwrap()[1].to_bits(), (-0.0f32).to_bits());
        assert_eq!(tensor.to_f64(), [1.5, 0.0, f64::from(f32::MAX), 3.0]);
        assert_eq!(tensor.to_vec::<i32>(), Err(TensorError::DType { expected: DType::I32, found: DType::F32 }));
        assert_eq!(Tensor::from_slice(&[2], &[true, false]).unwrap().to_vec::<bool>().unwrap(), [true, false]);
        assert_eq!(Tensor::from_slice(&[], &[-7i64]).unwrap().to_f64(), [-7.0]);
        assert_eq!(Tensor::from_slice(&[1], &[bf16::from_f32(0.5)]).unwrap().to_f32(), [0.5]);
    }

    #[test]
    fn shape_and_length_must_agree() {
        assert_eq!(
            Tensor::new(DType::F32, vec![3], vec![0; 8]).unwrap_err().to_string(),
            "a tensor f32[3] takes 12 bytes, but 8 are given"
        );
        assert!(matches!(Tensor::new(DType::F64, vec![usize::MAX, 2], vec![]), Err(TensorError::TooLarge { .. })));
        assert!(
            matches!(Tensor::new(DType::U8, vec![0, usize::MAX, 2], vec![]), Err(TensorError::TooLarge { .. })),
            "an empty tensor must not have axes whose product overflows"
        );
        assert_eq!(Tensor::new(DType::Bool, vec![2], vec![1, 2]), Err(TensorError::NotBool { index: 1, byte: 2 }));
        assert!(Tensor::new(DType::F32, vec![0, 5], vec![]).unwrap().is_empty());
    }

    #[test]
    fn non_finite_elements_are_found_with_their_position() {
        let tensor = Tensor::from_slice(&[2, 3], &[0f32, 1.0, 2.0, 3.0, f32::NEG_INFINITY, 5.0]).unwrap();
        assert_eq!(tensor.first_non_finite(), Some((4, f64::NEG_INFINITY)));
        assert_eq!(tensor.index_of(4), [1, 1]);
        assert_eq!(Tensor::from_slice(&[1], &[i32::MAX]).unwrap().first_non_finite(), None);
    }
}
