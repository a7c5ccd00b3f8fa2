//! Recognised activations: the same numbers as what they take the place of, and as many as a model has.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod counts;
mod equality;
#[path = "../shared/mod.rs"]
mod shared;
