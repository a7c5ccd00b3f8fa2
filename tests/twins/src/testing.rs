//! Small helpers of this crate's own tests.

use ndarray::{Array1, ArrayD, IxDyn};

/// Deterministic values in (−1, 1) without a random number generator.
pub fn values(shape: &[usize], seed: f64) -> ArrayD<f64> {
    let mut step = 0.0;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        step += 1.0;
        ((step * 12.9898 + seed * 78.233).sin() * 43758.5453).rem_euclid(1.0) * 2.0 - 1.0
    })
}

/// The same, as a vector.
pub fn vector(length: usize, seed: f64) -> Array1<f64> {
    values(&[length], seed).iter().copied().collect()
}

/// Asserts that two sequences agree element by element to 1e-12.
pub fn assert_close<'a>(actual: impl IntoIterator<Item = &'a f64>, expected: impl IntoIterator<Item = &'a f64>) {
    let actual: Vec<f64> = actual.into_iter().copied().collect();
    let expected: Vec<f64> = expected.into_iter().copied().collect();
    assert_eq!(actual.len(), expected.len());
    for (a, e) in actual.iter().zip(&expected) {
        assert!((a - e).abs() <= 1e-12 * (1.0 + e.abs()), "{actual:?} is not {expected:?}");
    }
}
