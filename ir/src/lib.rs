//! The language of `lrpc`: graphs of primitive operations, symbolic shapes, a text format, a verifier, and plans.
//!
//! # Reading order
//! [`dim`] and [`types`] are the types of values, [`ops`] the closed set of primitives, [`graph`] puts them together,
//! [`text`] is the file format, [`verify`] holds the invariants, [`plan`] is what binding hands to execution.
//!
//! # Regions
//! A graph is read from top to bottom: header (inputs, weights), `prepare` (depends on weights alone), `forward`,
//! `relevance`. Relevance reaches forward tensors through `promise` nodes only.
//!
//! # Invariants of the crate, absences included
//! `ir` knows no ONNX, no relevance rule and no device. It does no I/O. petgraph is visible in `graph.rs` only. Nothing
//! is broadcast implicitly. All arithmetic on dimensions is checked.

pub mod attribute;
pub mod choice;
pub mod diagnostic;
pub mod dim;
pub mod graph;
mod ledger;
pub mod measure;
pub mod ops;
pub mod plan;
pub mod repeat;
pub mod text;
pub mod types;
pub mod verify;

pub use diagnostic::{Diagnostic, DiagnosticKind, Diagnostics};
pub use dim::{Bindings, Dim, DimError};
pub use graph::{
    Absorbed, Chosen, CompositeUse, EntryUse, Graph, GraphError, GraphResult, LedgerLine, Measure, ModelReference,
    Node, NodeId, Origin, Region, Repeat, RuleChoice, Value,
};
pub use ops::{Class, Op};
pub use plan::Plan;
pub use types::{DType, Float, TensorType};
