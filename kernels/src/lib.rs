//! Execution of plans.
//!
//! # Reading order
//! [`tensor`] is what goes in and comes out, [`weights`] where weights come from, [`error`] what can go wrong, [`cpu`]
//! the backend that runs everywhere.
//!
//! # Invariants of the crate, absences included
//! `kernels` know no rule and no model graph: only [`lrpc_ir::Plan`]s, and the small graphs of fused calls. Nothing here
//! prints or does I/O. The same plan and inputs give the same bits for every number of threads: work is cut into pieces
//! by shapes alone, and every sum has one order. A batch row's numbers do not depend on other rows' content. `unsafe`
//! stands in [`memory`] (bytes as numbers) and in the matrix product only, each time with its proof.

#[cfg(target_endian = "big")]
compile_error!("weights and tensors are little-endian in memory");

pub mod cpu;
pub mod error;
pub mod memory;
pub mod tensor;
pub mod weights;

pub use cpu::{CheckFinite, Executor, LedgerSums, LedgerTotal, Options, Outcome, Progress};
pub use error::{RunError, RunErrorKind};
pub use tensor::Tensor;
pub use weights::WeightSource;
