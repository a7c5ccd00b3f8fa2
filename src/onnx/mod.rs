//! The ONNX front end: everything in this workspace that knows what an ONNX file is.
//!
//! [`ModelFile::open`] maps a file, bounds it with a scan of its wire format, decodes its structure and locates its
//! tensors without copying them. What happens in which file:
//!
//! * `map` the memory map · `wire` the scan that runs before anything is allocated, over the table in `schema`
//! * `proto` the generated messages · `file` opening, versions, the index of weights
//! * `functions` the model's functions in the place of their calls
//! * `tensor` one tensor's type, shape and bytes · `external` data in other files, confined to the model's folder
//! * `hash` what identifies a model: its structure, its weights
//! * `operators` the table of all operators, with what becomes of each
//! * [`lower`] from the decoded graph to the forward region of an [`lrpc_ir::Graph`]: see [`import`]
//!
//! Invariants: no allocation is made from a length that the file claims before the scan has bounded it; no tensor is
//! reachable whose bytes do not match its type and shape; no file outside the model's folder is opened.

mod error;
mod external;
mod file;
mod functions;
mod hash;
pub mod lower;
mod map;
mod operators;
pub mod proto;
mod random;
mod schema;
mod tensor;
#[cfg(test)]
mod tests;
mod wire;

pub use error::{ModelError, ModelErrorReason, TensorError};
pub use file::{ModelFile, NEWEST_IR, NEWEST_OPSET, OLDEST_IR, OLDEST_OPSET};
pub use lower::{Finding, FindingKind, Findings, ImportError, ImportOptions, Imported, Operator, import};
pub use operators::{OperatorEntry, Treatment, operator_table};
pub use random::Weights;
pub use tensor::{TensorRef, element_type};
pub use wire::Limits;
