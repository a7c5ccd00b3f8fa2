//! Naïve f64 twins of the operations and relevance rules, written straight from the papers.
//!
//! A twin is slow on purpose: every linear map is an explicit matrix, every rule walks its contributions
//! `c_ij = x_i · w_ij` one by one. Nothing here is shared with the code under test: this crate must not depend on any
//! other crate of the workspace, and Cargo enforces it.
//!
//! | module | what |
//! |---|---|
//! | [`linear`] | convolution, transposed convolution, contraction as explicit matrices; their direct forward |
//! | [`rules`] | ε, z⁺, αβ, γ, w², flat, z^B and gradient over an explicit matrix |
//! | [`window`] | the geometry of sliding windows |
//! | [`pool`] | average pooling as a matrix, max pooling with its winner |
//! | [`resize`] | nearest, linear and cubic resizing as a matrix |
//! | [`additive`] | sums of several operands by signed or absolute ratio, undoing of broadcasts |
//! | [`product`] | products of activations: half, gate, absolute ratio |
//! | [`normalize`] | layer, instance, group and batch norm, softmax, `NormEpsilon` |
//! | [`elementwise`] | activation functions, central differences |
//! | [`transformer`] | a decoder with parts of it held, its gradient by differences: AttnLRP, CP-LRP, RelP |
//! | [`recurrent`] | a recurrent layer under the ε rule |
//! | [`scan`] | a selective scan under MambaLRP |
//! | [`share`] | the stabiliser and the split of relevance among contributions |
//!
//! Conventions: arrays are f64 in row-major order; `input_shape` and `output_shape` are `[channels, spatial…]` of one
//! sample; relevance absorbed by something is returned beside what flows on, so that
//! `ΣR = ΣR_x + bias + stabiliser` can be asserted by the caller. Wrong shapes panic: the callers are tests.

pub mod additive;
pub mod elementwise;
pub mod linear;
pub mod normalize;
pub mod pool;
pub mod product;
pub mod recurrent;
pub mod resize;
pub mod rules;
pub mod scan;
pub mod share;
pub mod transformer;
pub mod window;

#[cfg(test)]
mod testing;
