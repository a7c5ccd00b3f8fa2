//! The `lrpc` command.
fn main() {}
