//! Tensors as files hold them, and as plans take them.

use lrpc_ir::DType;
use lrpc_kernels as kernels;

use crate::data;

/// Position of the first NaN. Infinities pass: masks hold them.
pub fn first_nan(tensor: &data::Tensor) -> Option<usize> {
    tensor.first_non_finite()?;
    tensor.to_f64().iter().position(|value| value.is_nan())
}

/// The element type in files as that of the graph.
fn dtype_of(dtype: data::DType) -> DType {
    DType::from_name(dtype.name()).unwrap_or(DType::Bool)
}

/// The tensor in the element type `wanted`, and what was changed on the way, in words. Narrower integers and floating-point
/// numbers are widened; `f64` for `f32` is rounded, or left with `keep_f64`.
///
/// # Errors
/// Any other pair of types.
pub fn to_kernel(
    tensor: &data::Tensor,
    wanted: DType,
    keep_f64: bool,
) -> Result<(kernels::Tensor, Option<String>), String> {
    let given = dtype_of(tensor.dtype());
    let make = |dtype, bytes: &[u8]| kernels::Tensor::new(dtype, tensor.shape(), bytes);
    if given == wanted {
        return Ok((make(given, tensor.bytes())?, None));
    }
    if given == DType::F64 && wanted == DType::F32 {
        if keep_f64 {
            return Ok((make(given, tensor.bytes())?, None));
        }
        let bytes: Vec<u8> = tensor.to_f32().iter().flat_map(|value| value.to_le_bytes()).collect();
        return Ok((make(wanted, &bytes)?, Some("f64 rounded to f32".into())));
    }
    if wanted == DType::F32 && matches!(given, DType::F16 | DType::Bf16) {
        let bytes: Vec<u8> = tensor.to_f32().iter().flat_map(|value| value.to_le_bytes()).collect();
        return Ok((make(wanted, &bytes)?, Some(format!("{given} widened to f32"))));
    }
    if wanted == DType::F64 && given.is_float() {
        let bytes: Vec<u8> = tensor.to_f64().iter().flat_map(|value| value.to_le_bytes()).collect();
        return Ok((make(wanted, &bytes)?, None));
    }
    if widens(given, wanted) {
        // Integers of up to 32 bits are exact in `f64`.
        let mut bytes = Vec::new();
        for value in tensor.to_f64() {
            bytes.extend((value as i64).to_le_bytes().iter().take(wanted.size()));
        }
        return Ok((make(wanted, &bytes)?, None));
    }
    Err(format!("holds {given}, expected {wanted}"))
}

/// Whether every integer of the type `from` is one of the type `to`. Those of 64 bits widen to nothing.
fn widens(from: DType, to: DType) -> bool {
    let signed = |dtype| matches!(dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64);
    from.is_integer() && to.is_integer() && from.size() < to.size() && (signed(to) || !signed(from))
}

/// A result as it stands in files, in the element type that the model declares: half precision is rounded to.
///
/// # Errors
/// An element type that files do not have, which is none that results have.
pub fn to_data(tensor: &kernels::Tensor, declared: DType) -> Result<data::Tensor, data::TensorError> {
    let halves = |round: fn(f64) -> u16, dtype| {
        let bytes = tensor.to_f64().into_iter().flat_map(|value| round(value).to_le_bytes()).collect();
        data::Tensor::new(dtype, tensor.shape().to_vec(), bytes)
    };
    match declared {
        DType::F16 => return halves(|value| half::f16::from_f64(value).to_bits(), data::DType::F16),
        DType::Bf16 => return halves(|value| half::bf16::from_f64(value).to_bits(), data::DType::BF16),
        _ => {}
    }
    let dtype = match tensor.dtype() {
        DType::Bool => data::DType::Bool,
        DType::I8 => data::DType::I8,
        DType::I16 => data::DType::I16,
        DType::I32 => data::DType::I32,
        DType::I64 => data::DType::I64,
        DType::U8 => data::DType::U8,
        DType::U16 => data::DType::U16,
        DType::U32 => data::DType::U32,
        DType::U64 => data::DType::U64,
        DType::F16 => data::DType::F16,
        DType::Bf16 => data::DType::BF16,
        DType::F32 => data::DType::F32,
        DType::F64 => data::DType::F64,
    };
    data::Tensor::new(dtype, tensor.shape().to_vec(), tensor.bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given<T: data::Element>(values: &[T]) -> data::Tensor {
        data::Tensor::from_slice(&[values.len()], values).unwrap()
    }

    #[test]
    fn what_loses_nothing_is_accepted() {
        let (tensor, note) = to_kernel(&given(&[-3i16, 7]), DType::I64, false).unwrap();
        assert_eq!((tensor.values::<i64>().unwrap(), note), (&[-3i64, 7][..], None));
        let (tensor, _) = to_kernel(&given(&[200u8]), DType::I16, false).unwrap();
        assert_eq!(tensor.values::<i16>().unwrap(), [200]);
        // The smallest denormal of half precision is an ordinary number of single precision.
        let halves = [half::f16::from_f32(0.5), half::f16::from_bits(1)];
        let (tensor, note) = to_kernel(&given(&halves), DType::F32, false).unwrap();
        assert_eq!(tensor.values::<f32>().unwrap(), [0.5, 2f32.powi(-24)]);
        assert_eq!(note.as_deref(), Some("f16 widened to f32"));
    }

    #[test]
    fn double_precision_is_rounded_and_said_or_kept() {
        let (tensor, note) = to_kernel(&given(&[0.1f64]), DType::F32, false).unwrap();
        assert_eq!((tensor.values::<f32>().unwrap(), note.is_some()), (&[0.1f32][..], true));
        let (tensor, note) = to_kernel(&given(&[0.1f64]), DType::F32, true).unwrap();
        assert_eq!((tensor.values::<f64>().unwrap(), note.is_none()), (&[0.1f64][..], true));
    }

    #[test]
    fn what_would_lose_is_refused() {
        for (tensor, wanted) in [
            (given(&[1i64]), DType::I32),
            (given(&[1i8]), DType::U16),
            (given(&[1u64]), DType::I64),
            (given(&[1i64]), DType::F32),
            (given(&[1f32]), DType::I64),
            (given(&[true]), DType::F32),
            (given(&[1f32]), DType::F16),
        ] {
            assert!(to_kernel(&tensor, wanted, false).is_err(), "{tensor:?} {wanted}");
        }
    }

    #[test]
    fn only_nan_is_found() {
        assert_eq!(first_nan(&given(&[1.0, f64::INFINITY])), None);
        assert_eq!(first_nan(&given(&[f64::INFINITY, f64::NAN])), Some(1));
    }
}
