//! Every kernel through the crate's front door, against loops in `f64` that are written here from the definitions.

mod adjoint;
mod executor;
mod fused;
mod linear;
mod movement;
mod normalize;
mod pool;
mod reduce;
mod select;
mod support;
