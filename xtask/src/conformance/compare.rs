//! Whether a tensor is what it should be.

use lrpc::data::{DType, Tensor};

/// How far a number `found` may be from `expected`: `absolute + relative · |expected|`.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// As a share of the expected number.
    pub relative: f64,
    /// Whatever the number.
    pub absolute: f64,
}

/// How `found` differs from `expected`; `None` where it does not. Type and shape have to be the same, NaN and infinity
/// stand at the same places, integers are equal.
pub fn difference(found: &Tensor, expected: &Tensor, tolerance: Tolerance) -> Option<String> {
    if found.dtype() != expected.dtype() {
        return Some(format!("holds {}, not {}", found.dtype(), expected.dtype()));
    }
    if found.shape() != expected.shape() {
        return Some(format!("has the shape {:?}, not {:?}", found.shape(), expected.shape()));
    }
    if !found.dtype().is_float() {
        let size = found.dtype().size();
        let mut pairs = found.bytes().chunks(size).zip(expected.bytes().chunks(size));
        let at = pairs.position(|(found, expected)| found != expected)?;
        return Some(told(found, expected, at));
    }
    // As ONNX's own runner has it: two units in the last place of bfloat16.
    let least = if found.dtype() == DType::BF16 { 2f64.powi(-6) } else { 0.0 };
    let tolerance = Tolerance { relative: tolerance.relative.max(least), ..tolerance };
    let near = |found: f64, expected: f64| {
        let is_near = (found - expected).abs() <= tolerance.absolute + tolerance.relative * expected.abs();
        (found.is_nan() && expected.is_nan()) || found == expected || (is_near && expected.is_finite())
    };
    let at = found.to_f64().into_iter().zip(expected.to_f64()).position(|(found, expected)| !near(found, expected))?;
    Some(told(found, expected, at))
}

fn told(found: &Tensor, expected: &Tensor, at: usize) -> String {
    let (values, wanted) = (found.to_f64(), expected.to_f64());
    let number = |values: &[f64]| values.get(at).copied().unwrap_or(f64::NAN);
    format!("is {} at {:?}, not {}", number(&values), found.index_of(at), number(&wanted))
}
