//! Data that comes in and goes out: tensors in npy, npz and safetensors files, images as network inputs.
//!
//! Everything read here is untrusted: sizes are checked before memory is taken, and every error names the file, the
//! entry and the reason. Everything written is there whole or not at all, and equal content gives equal bytes. This
//! module knows no graph and no model.

mod atomic;
mod error;
pub mod image;
pub mod npy;
pub mod npz;
pub mod safetensors;
mod tensor;
mod tensor_file;

pub use atomic::{WriteSeek, check_folder, write_atomically};
pub use error::{DataError, FormatError};
pub use image::{LoadedImage, Preprocess, read_image};
pub use tensor::{DType, Element, Tensor, TensorError};
pub use tensor_file::{Format, MANIFEST, TensorFile, read_tensor};
