//! One tensor of a model file: element type, shape, and where its bytes are.

use bytes::Bytes;
use lrpc_ir::DType;

use super::error::TensorError;
use super::external::ExternalData;
use super::proto::TensorProto;
use super::proto::tensor_proto::{DataLocation, DataType};
use super::random::{Generator, Weights};

/// The element type with this number in `TensorProto.DataType`; `None` for those we cannot read (text, complex numbers,
/// and elements of less than a byte) and for undefined ones.
pub fn element_type(number: i32) -> Option<DType> {
    Some(match DataType::try_from(number).ok()? {
        DataType::Bool => DType::Bool,
        DataType::Uint8 => DType::U8,
        DataType::Uint16 => DType::U16,
        DataType::Uint32 => DType::U32,
        DataType::Uint64 => DType::U64,
        DataType::Int8 => DType::I8,
        DataType::Int16 => DType::I16,
        DataType::Int32 => DType::I32,
        DataType::Int64 => DType::I64,
        DataType::Float16 => DType::F16,
        DataType::Bfloat16 => DType::Bf16,
        DataType::Float => DType::F32,
        DataType::Double => DType::F64,
        _ => return None,
    })
}

/// A tensor of a model file. Its bytes stay where they are until [`TensorRef::bytes`] is called.
#[derive(Clone, Debug)]
pub struct TensorRef<'a> {
    dtype: DType,
    dims: Vec<u64>,
    data: Data<'a>,
}

/// Where the elements are: as they are in memory (perhaps unaligned), one number per element in a protobuf field, or
/// made up.
#[derive(Clone, Debug)]
enum Data<'a> {
    Dense(Bytes),
    Floats(&'a [f32]),
    Doubles(&'a [f64]),
    Ints(&'a [i32]),
    Longs(&'a [i64]),
    Unsigned(&'a [u64]),
    Random(Generator),
}

impl<'a> TensorRef<'a> {
    /// Locates the data of `tensor`; `None` if its element type is one that we cannot read.
    ///
    /// # Errors
    /// When shape, type and data do not fit together, or external data cannot be reached.
    pub(super) fn locate(tensor: &'a TensorProto, external: &ExternalData) -> Result<Option<Self>, TensorError> {
        let Some((dtype, dims, elements, size)) = header(tensor)? else { return Ok(None) };
        let data = if tensor.data_location == Some(DataLocation::External.into()) {
            Data::Dense(external.range(tensor, size)?)
        } else if let Some(raw) = &tensor.raw_data {
            Data::Dense(raw.clone())
        } else {
            typed(tensor, dtype)
        };
        data.check_length(elements, size)?;
        Ok(Some(Self { dtype, dims, data }))
    }

    /// As [`TensorRef::locate`], with random numbers for those that an initializer holds, or would hold if its external
    /// data were there; integers, and few numbers that are there, are as they are stored.
    ///
    /// # Errors
    /// As [`TensorRef::locate`].
    pub(super) fn locate_initializer(
        tensor: &'a TensorProto,
        external: &ExternalData,
        weights: Weights,
    ) -> Result<Option<Self>, TensorError> {
        let Weights::Random(seed) = weights else { return Self::locate(tensor, external) };
        let Some((dtype, dims, elements, _)) = header(tensor)? else { return Ok(None) };
        let missing = tensor.data_location == Some(DataLocation::External.into()) && !external.has(tensor);
        if !dtype.is_float() || (elements <= Weights::MAX_KEPT && !missing) {
            return Self::locate(tensor, external);
        }
        let data = Data::Random(Generator::new(seed, tensor.name(), &dims));
        Ok(Some(Self { dtype, dims, data }))
    }

    pub(super) fn scalar_f32(value: &'a f32) -> Self {
        Self { dtype: DType::F32, dims: vec![], data: Data::Floats(std::slice::from_ref(value)) }
    }

    pub(super) fn vector_f32(values: &'a [f32]) -> Self {
        Self { dtype: DType::F32, dims: vec![values.len() as u64], data: Data::Floats(values) }
    }

    pub(super) fn scalar_i64(value: &'a i64) -> Self {
        Self { dtype: DType::I64, dims: vec![], data: Data::Longs(std::slice::from_ref(value)) }
    }

    pub(super) fn vector_i64(values: &'a [i64]) -> Self {
        Self { dtype: DType::I64, dims: vec![values.len() as u64], data: Data::Longs(values) }
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The shape.
    pub fn dims(&self) -> &[u64] {
        &self.dims
    }

    /// The number of elements.
    pub fn elements(&self) -> u64 {
        element_count(&self.dims).unwrap_or(u64::MAX)
    }

    /// The bytes of memory that [`TensorRef::bytes`] takes where the elements are made up.
    pub fn made_up(&self) -> u64 {
        match self.data {
            Data::Random(_) => self.elements().saturating_mul(self.dtype.size() as u64),
            _ => 0,
        }
    }

    /// Whether the elements stand in a file as they stand in memory, so that [`TensorRef::bytes`] copies nothing.
    pub fn is_dense(&self) -> bool {
        matches!(self.data, Data::Dense(_))
    }

    /// The elements in row-major order, little-endian. Dense data are a view into the memory map and may be
    /// unaligned; others are converted.
    pub fn bytes(&self) -> Bytes {
        match &self.data {
            Data::Dense(bytes) => bytes.clone(),
            Data::Floats(values) => collect(values, |value| value.to_le_bytes()),
            Data::Doubles(values) => collect(values, |value| value.to_le_bytes()),
            Data::Longs(values) => collect(values, |value| value.to_le_bytes()),
            Data::Random(generator) => generator.bytes(self.dtype, self.elements()),
            Data::Unsigned(values) if self.dtype.size() == 4 => collect(values, |value| low_bytes::<4>(*value)),
            Data::Unsigned(values) => collect(values, |value| value.to_le_bytes()),
            Data::Ints(values) => match self.dtype.size() {
                1 => collect(values, |value| low_bytes::<1>(i64::from(*value).cast_unsigned())),
                2 => collect(values, |value| low_bytes::<2>(i64::from(*value).cast_unsigned())),
                _ => collect(values, |value| value.to_le_bytes()),
            },
        }
    }

    /// The elements as integers; `None` if the type is not an integer or bool, or a value is beyond `i64`.
    pub fn integers(&self) -> Option<Vec<i64>> {
        self.bytes().chunks_exact(self.dtype.size()).map(|chunk| integer(self.dtype, chunk)).collect()
    }

    /// The elements as floating-point numbers, none of them rounded; `None` if the type is not a floating-point one, and
    /// for more than a few that are made up, which decide nothing about the graph.
    pub fn floats(&self) -> Option<Vec<f64>> {
        if matches!(self.data, Data::Random(_)) && self.elements() > Weights::MAX_KEPT {
            return None;
        }
        self.bytes().chunks_exact(self.dtype.size()).map(|chunk| float(self.dtype, chunk)).collect()
    }
}

impl Data<'_> {
    fn check_length(&self, elements: u64, size: u64) -> Result<(), TensorError> {
        let (expected, found, unit) = match self {
            Self::Dense(bytes) => (size, bytes.len(), "bytes"),
            Self::Floats(values) => (elements, values.len(), "elements"),
            Self::Doubles(values) => (elements, values.len(), "elements"),
            Self::Ints(values) => (elements, values.len(), "elements"),
            Self::Longs(values) => (elements, values.len(), "elements"),
            Self::Unsigned(values) => (elements, values.len(), "elements"),
            Self::Random(_) => return Ok(()),
        };
        let found = found as u64;
        if expected == found { Ok(()) } else { Err(TensorError::Length { expected, found, unit }) }
    }
}

/// Element type, axes, number of elements and of bytes.
type Header = (DType, Vec<u64>, u64, u64);

/// What a tensor says of itself; `None` if the element type is one that we cannot read.
fn header(tensor: &TensorProto) -> Result<Option<Header>, TensorError> {
    let number = tensor.data_type.unwrap_or_default();
    if number == 0 || DataType::try_from(number).is_err() {
        return Err(TensorError::ElementType(number));
    }
    if tensor.segment.is_some() {
        return Err(TensorError::Storage("a segment of a larger tensor"));
    }
    let dims = checked_dims(&tensor.dims)?;
    let Some(dtype) = element_type(number) else { return Ok(None) };
    let overflow = || TensorError::Overflow(tensor.dims.clone());
    let elements = element_count(&dims).ok_or_else(overflow)?;
    let size = elements.checked_mul(dtype.size() as u64).ok_or_else(overflow)?;
    Ok(Some((dtype, dims, elements, size)))
}

/// The field that `onnx.proto` prescribes for each element type.
fn typed(tensor: &TensorProto, dtype: DType) -> Data<'_> {
    match dtype {
        DType::F32 => Data::Floats(&tensor.float_data),
        DType::F64 => Data::Doubles(&tensor.double_data),
        DType::I64 => Data::Longs(&tensor.int64_data),
        DType::U32 | DType::U64 => Data::Unsigned(&tensor.uint64_data),
        _ => Data::Ints(&tensor.int32_data),
    }
}

fn checked_dims(dims: &[i64]) -> Result<Vec<u64>, TensorError> {
    let checked: Result<Vec<u64>, _> = dims.iter().map(|dim| u64::try_from(*dim)).collect();
    checked.map_err(|_| TensorError::NegativeDim(dims.to_vec()))
}

/// The product of `dims`, unless it overflows. An overflow counts even where another dimension is 0.
fn element_count(dims: &[u64]) -> Option<u64> {
    let nonzero = dims.iter().filter(|dim| **dim != 0).try_fold(1_u64, |product, dim| product.checked_mul(*dim))?;
    Some(if dims.contains(&0) { 0 } else { nonzero })
}

fn collect<T, const N: usize>(values: &[T], bytes: impl Fn(&T) -> [u8; N]) -> Bytes {
    values.iter().flat_map(bytes).collect::<Vec<u8>>().into()
}

fn low_bytes<const N: usize>(value: u64) -> [u8; N] {
    let bytes = value.to_le_bytes();
    std::array::from_fn(|index| bytes.get(index).copied().unwrap_or_default())
}

fn integer(dtype: DType, chunk: &[u8]) -> Option<i64> {
    let mut wide = [0; 8];
    wide.get_mut(..chunk.len())?.copy_from_slice(chunk);
    let unsigned = u64::from_le_bytes(wide);
    let shift = u32::try_from(8_usize.checked_sub(chunk.len())?.checked_mul(8)?).ok()?;
    match dtype {
        DType::I8 | DType::I16 | DType::I32 | DType::I64 => {
            Some(unsigned.unbounded_shl(shift).cast_signed().unbounded_shr(shift))
        }
        DType::Bool | DType::U8 | DType::U16 | DType::U32 | DType::U64 => i64::try_from(unsigned).ok(),
        DType::F16 | DType::Bf16 | DType::F32 | DType::F64 => None,
    }
}

fn float(dtype: DType, chunk: &[u8]) -> Option<f64> {
    match dtype {
        DType::F16 => Some(half::f16::from_le_bytes(chunk.try_into().ok()?).to_f64()),
        DType::Bf16 => Some(half::bf16::from_le_bytes(chunk.try_into().ok()?).to_f64()),
        DType::F32 => Some(f32::from_le_bytes(chunk.try_into().ok()?).into()),
        DType::F64 => Some(f64::from_le_bytes(chunk.try_into().ok()?)),
        _ => None,
    }
}
