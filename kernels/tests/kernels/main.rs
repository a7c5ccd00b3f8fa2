//! Every kernel through the crate's front door, against loops in `f64` that are written here from the definitions.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod adjoint;
mod control;
mod executor;
mod fused;
mod linear;
mod movement;
mod normalize;
mod pool;
mod reduce;
mod select;
mod support;
