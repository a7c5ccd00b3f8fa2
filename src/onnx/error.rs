//! What can be wrong with a model file.

use std::io;
use std::path::PathBuf;

use super::file::{NEWEST_IR, NEWEST_OPSET, OLDEST_IR, OLDEST_OPSET};

/// A model file that is refused, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", file.display())]
pub struct ModelError {
    /// The model file, as it was named.
    pub file: PathBuf,
    /// What is wrong with it.
    #[source]
    pub reason: ModelErrorReason,
}

/// Why a model file is refused.
#[derive(Debug, thiserror::Error)]
pub enum ModelErrorReason {
    /// The operating system does not give us the file.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The file has no bytes.
    #[error("the file is empty")]
    Empty,
    /// The file ends inside a field, or a length in it points beyond its end.
    #[error("the file is cut off or damaged: the field at byte {offset} extends beyond the end")]
    Truncated {
        /// Where the field begins.
        offset: usize,
    },
    /// The bytes are not those of an ONNX model.
    #[error("this is not an ONNX model: {why} at byte {offset}")]
    NotOnnx {
        /// Where it shows.
        offset: usize,
        /// What shows it.
        why: &'static str,
    },
    /// The file is of another format that is often met.
    #[error("this is {format}, not an ONNX model; export the model to ONNX first")]
    OtherFormat {
        /// The format's name with its article.
        format: &'static str,
    },
    /// The structure is larger or deeper than the limits allow.
    #[error("the model has more than {limit} {what}; if it is to be trusted, raise the limit")]
    TooComplex {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The protobuf decoder refuses the file.
    #[error("the file does not decode as an ONNX model: {0}")]
    Decode(#[from] prost::DecodeError),
    /// There is no graph.
    #[error("the model holds no graph")]
    NoGraph,
    /// The version of the file format is not one of ours.
    #[error("the model has IR version {found}; versions {OLDEST_IR} to {NEWEST_IR} can be read")]
    IrVersion {
        /// The version in the file.
        found: i64,
    },
    /// The model does not say which version of the ONNX operators it uses.
    #[error("the model imports no operator set")]
    NoOpset,
    /// The version of the ONNX operators is not one of ours.
    #[error(
        "the model uses opset {found} of ai.onnx; opsets {OLDEST_OPSET} to {NEWEST_OPSET} can be read: convert the \
         model with onnx.version_converter"
    )]
    Opset {
        /// The version in the file.
        found: i64,
    },
    /// One domain is imported in two versions.
    #[error("the model imports the operator domain {domain:?} twice, as versions {first} and {second}")]
    AmbiguousOpset {
        /// The domain.
        domain: String,
        /// One version.
        first: i64,
        /// The other.
        second: i64,
    },
    /// A tensor cannot be used.
    #[error("tensor {name:?}: {reason}")]
    Tensor {
        /// The initializer's name, or the node and attribute that hold the tensor.
        name: String,
        /// What is wrong with it.
        #[source]
        reason: TensorError,
    },
    /// A function of the model cannot be put in the place of its call.
    #[error("node {call:?} calls the function {name:?}, which is refused: {why}")]
    Function {
        /// The calling node.
        call: String,
        /// The function.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Two weights have one name.
    #[error("two tensors have the name {name:?}")]
    DuplicateTensor {
        /// The name.
        name: String,
    },
}

/// Why a tensor cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TensorError {
    /// The element type is missing or unknown.
    #[error("its element type is number {0}, which ONNX does not define")]
    ElementType(i32),
    /// A dimension is negative.
    #[error("its shape {0:?} has a negative dimension")]
    NegativeDim(Vec<i64>),
    /// The number of bytes does not fit into 64 bits.
    #[error("its shape {0:?} has more elements than can be counted")]
    Overflow(Vec<i64>),
    /// The data are not as long as type and shape say.
    #[error("type and shape ask for {expected} {unit}, and there are {found}")]
    Length {
        /// From type and shape.
        expected: u64,
        /// In the file.
        found: u64,
        /// Bytes or elements.
        unit: &'static str,
    },
    /// The data are stored in a form that we do not read.
    #[error("it is stored as {0}, which is not supported")]
    Storage(&'static str),
    /// The entry about external data is incomplete or malformed.
    #[error("its entry about external data is malformed: {0}")]
    ExternalEntry(String),
    /// External data outside the model's folder.
    #[error("its data are in {location:?}, which is refused: {why}; put the file itself into the model's folder")]
    ExternalRefused {
        /// As the model names it.
        location: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// External data that cannot be read.
    #[error("its data are in {location:?}, which cannot be read: {source}")]
    ExternalIo {
        /// As the model names it.
        location: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A range beyond the end of the file that holds it.
    #[error("its data are bytes {offset} to {end} of {location:?}, which has {size}")]
    ExternalRange {
        /// As the model names it.
        location: String,
        /// First byte.
        offset: u64,
        /// One past the last byte.
        end: u64,
        /// Bytes in the file.
        size: u64,
    },
}
