//! The safetensors format: a JSON header and the data of every tensor.
//!
//! The manifest lies in the metadata under the key `manifest`.

use std::collections::HashMap;
use std::io::Write;

use ::safetensors::tensor::{Dtype, TensorView};
use ::safetensors::{SafeTensors, serialize};

use super::error::FormatError;
use super::tensor::{DType, Tensor};
use super::tensor_file::{MANIFEST, TensorFile};

/// Reads every tensor of a file given by its bytes.
///
/// # Errors
/// The header is malformed, or a tensor has a type that is not read.
pub fn read_safetensors(bytes: &[u8]) -> Result<TensorFile, FormatError> {
    let malformed = |error: ::safetensors::SafeTensorError| FormatError::malformed(format!("no safetensors: {error}"));
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(malformed)?;
    let manifest = metadata.metadata().as_ref().and_then(|entries| entries.get(MANIFEST).cloned());
    let mut file = TensorFile { manifest, ..TensorFile::default() };
    for (name, view) in SafeTensors::deserialize(bytes).map_err(malformed)?.iter() {
        let dtype = from_dtype(view.dtype()).ok_or_else(|| {
            FormatError::malformed(format!("tensors of type {} are not read", view.dtype())).of_entry(name)
        })?;
        let tensor = Tensor::new(dtype, view.shape().to_vec(), view.data().to_vec())
            .map_err(|error| FormatError::malformed(error.to_string()).of_entry(name))?;
        file.tensors.insert(name.to_string(), tensor);
    }
    Ok(file)
}

/// Writes every tensor, and the manifest into the metadata.
///
/// # Errors
/// Writing fails.
pub fn write_safetensors(writer: &mut impl Write, file: &TensorFile) -> std::io::Result<()> {
    let views: Result<Vec<_>, _> = file
        .tensors
        .iter()
        .map(|(name, tensor)| {
            TensorView::new(to_dtype(tensor.dtype()), tensor.shape().to_vec(), tensor.bytes()).map(|view| (name, view))
        })
        .collect();
    let metadata = file.manifest.clone().map(|manifest| HashMap::from([(MANIFEST.to_string(), manifest)]));
    let bytes = views.and_then(|views| serialize(views, metadata)).map_err(std::io::Error::other)?;
    writer.write_all(&bytes)
}

fn from_dtype(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        Dtype::I8 => DType::I8,
        Dtype::I16 => DType::I16,
        Dtype::I32 => DType::I32,
        Dtype::I64 => DType::I64,
        Dtype::U8 => DType::U8,
        Dtype::U16 => DType::U16,
        Dtype::U32 => DType::U32,
        Dtype::U64 => DType::U64,
        Dtype::BOOL => DType::Bool,
        _ => return None,
    })
}

fn to_dtype(dtype: DType) -> Dtype {
    match dtype {
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::I8 => Dtype::I8,
        DType::I16 => Dtype::I16,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::U8 => Dtype::U8,
        DType::U16 => Dtype::U16,
        DType::U32 => Dtype::U32,
        DType::U64 => Dtype::U64,
        DType::Bool => Dtype::BOOL,
    }
}
