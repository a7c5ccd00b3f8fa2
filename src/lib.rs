//! `lrpc`: ONNX models to relevance graphs.

pub mod data;
pub mod onnx;
pub mod render;
