//! `lrpc`: ONNX models to relevance graphs.

pub mod data;
