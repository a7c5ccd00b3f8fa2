//! `lrpc`: from any ONNX model to a relevance graph, and from a relevance graph to numbers.
//!
//! # Reading order
//! [`compile`] goes from a model to its relevance graph, with tensors found by [`names`], [`graph_file`] reads a graph and finds its model again,
//! [`session`] runs it on inputs that [`inputs`] has checked, [`manifest`] says where a result comes from. [`reduce`]
//! makes one number for each token of it, [`attribution`] a picture of that, with names from [`tokens`]. [`onnx`] is
//! the front end, [`data`] and [`render`] are files and pictures, [`error`] what can go wrong, and [`cli`] the program.
//!
//! # Invariants of the crate, absences included
//! Nothing but [`cli`] prints, reads flags or ends the process. Every failure is an [`Error`] with an exit status.

pub mod attribution;
pub mod cli;
pub mod compile;
pub mod convert;
pub mod coverage;
pub mod data;
pub mod error;
pub mod explain;
pub mod graph_file;
pub mod inputs;
pub mod machine;
pub mod manifest;
mod measuring;
pub mod names;
pub mod onnx;
pub mod reduce;
pub mod render;
mod repeat;
mod runner;
pub mod session;
pub mod tokens;

pub use compile::{CompileOptions, Compiled, compile_forward, compile_model};
pub use error::{Error, Status};
pub use graph_file::{LoadedGraph, ModelWeights, load_graph};
pub use session::{RunOptions, RunOutcome, Session};
