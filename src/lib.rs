//! `lrpc`: ONNX models to relevance graphs.
