//! Stabilised division, in which every rule that divides relevance ends.

use lrpc_ir::graph::Value;
use lrpc_ir::ops::{Binary, Compare, Elementwise, Function, Op, ReduceKind, Unary};
use lrpc_ir::{Absorbed, Diagnostic};

use super::builder::{Built, RelevanceBuilder};

/// What a denominator `z` becomes before relevance is divided by it: `S(z)` (docs/rule-book.md section 1).
///
/// `sg(z)` is +1 where `z ≥ 0`, −0 included, else −1. With ε = 0 every mode is `S(z) = z`, and 0 is the quotient where
/// `S(z) = 0`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stabiliser {
    /// How ε enters.
    pub mode: StabiliserMode,
    /// ε, a number from 0 on.
    pub eps: f64,
}

/// How ε enters a stabilised denominator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StabiliserMode {
    /// `S(z) = z + ε·sg(z)` (Bach et al. 2015, eq. 58).
    Absolute,
    /// `S(z) = z + ε·rms(z)·sg(z)`, the root of the mean square over all axes but the first, which counts samples: so no
    /// sample depends on its neighbours in a batch. A vector's elements are samples of their own.
    /// Where all denominators of a sample are near 0 they stay so.
    Relative,
    /// `S(z) = sg(z)·max(|z|, ε)`: denominators that are large enough stay as they are.
    Clip,
}

impl StabiliserMode {
    /// The mode of that name: `absolute`, `relative` or `clip`.
    ///
    /// # Errors
    /// Any other name.
    pub fn from_name(name: &str) -> Result<StabiliserMode, Diagnostic> {
        match name {
            "absolute" => Ok(StabiliserMode::Absolute),
            "relative" => Ok(StabiliserMode::Relative),
            "clip" => Ok(StabiliserMode::Clip),
            other => {
                Err(Diagnostic::request(format!("`stabiliser` is `absolute`, `relative` or `clip`, not `{other}`")))
            }
        }
    }
}

impl From<f64> for Stabiliser {
    fn from(eps: f64) -> Stabiliser {
        Stabiliser { mode: StabiliserMode::Absolute, eps }
    }
}

/// `R / S(z)` and where the rest of `R` stays.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quotient {
    /// `R / S(z)`, and 0 where `S(z) = 0`.
    pub value: Value,
    /// `(S(z) − z) ⊙ R / S(z)`, where ε is not 0.
    pub added: Option<Value>,
    /// `R` where the quotient is 0, where that can be.
    pub lost: Option<Value>,
}

impl RelevanceBuilder<'_> {
    /// `R / S(z)`, and 0 where `S(z) = 0`.
    ///
    /// The stabiliser's share `(S(z) − z) / S(z) ⊙ R` and the `R` that meets a denominator of 0 are booked as absorbed.
    pub fn quotient(
        &mut self,
        relevance: Value,
        z: Value,
        stabiliser: impl Into<Stabiliser>,
        hint: &str,
    ) -> Built<Value> {
        let quotient = self.divide(relevance, z, stabiliser.into(), hint)?;
        for share in [quotient.added, quotient.lost].into_iter().flatten() {
            self.absorb(Absorbed::Stabiliser, share);
        }
        Ok(quotient.value)
    }

    /// As [`RelevanceBuilder::quotient`], without booking what stays behind.
    pub(crate) fn divide(&mut self, relevance: Value, z: Value, stabiliser: Stabiliser, hint: &str) -> Built<Quotient> {
        let Stabiliser { mode, eps } = stabiliser;
        if !(0.0..f64::INFINITY).contains(&eps) {
            return Err(Diagnostic::request(format!("ε is a number from 0 on, not {eps}")));
        }
        if eps == 0.0 {
            let value = self.binary(Binary::Ratio, relevance, z, hint)?;
            let lost = self.where_zero(value, relevance)?;
            return Ok(Quotient { value, added: None, lost: Some(lost) });
        }
        match mode {
            StabiliserMode::Absolute => {
                let stabilised = self.unary(Unary::with(Function::Stabilise, eps), z, "S")?;
                let value = self.binary(Binary::Ratio, relevance, stabilised, hint)?;
                let added = self.unary(Unary::with(Function::Stabiliser, eps), z, "eps")?;
                let added = self.mul(added, value, "e")?;
                Ok(Quotient { value, added: Some(added), lost: None })
            }
            StabiliserMode::Relative => {
                let size = self.root_mean_square(z)?;
                let size = self.scale(size, eps, "eps")?;
                let (stabilised, added) = self.away_from_zero(z, size)?;
                // A sample whose denominators are all 0 has nothing to scale ε by.
                let value = self.binary(Binary::Ratio, relevance, stabilised, hint)?;
                let added = self.mul(added, value, "e")?;
                let lost = self.where_zero(value, relevance)?;
                Ok(Quotient { value, added: Some(added), lost: Some(lost) })
            }
            StabiliserMode::Clip => {
                let size = self.magnitude(z, "zabs")?;
                let size = self.scale(size, -1.0, "eps")?;
                let size = self.unary(Unary::with(Function::Shift, eps), size, "eps")?;
                let missing = self.positive(size, "eps")?;
                let (stabilised, added) = self.away_from_zero(z, missing)?;
                let value = self.binary(Binary::Ratio, relevance, stabilised, hint)?;
                let added = self.mul(added, value, "e")?;
                Ok(Quotient { value, added: Some(added), lost: None })
            }
        }
    }

    /// `z + size·sg(z)` and `size·sg(z)`.
    fn away_from_zero(&mut self, z: Value, size: Value) -> Built<(Value, Value)> {
        let sign = self.unary(Unary::with(Function::Stabiliser, 1.0), z, "sign")?;
        let added = self.mul(sign, size, "eps")?;
        Ok((self.add(z, added, "S")?, added))
    }

    /// The root of the mean square of each sample, copied to the shape of `z`.
    fn root_mean_square(&mut self, z: Value) -> Built<Value> {
        let axes: Vec<usize> = (1..self.ty(z).rank()).collect();
        if axes.is_empty() {
            return self.magnitude(z, "rms");
        }
        let square = self.mul(z, z, "rms")?;
        let mean = self.spread(ReduceKind::Mean, square, &axes, "rms")?;
        self.unary(Unary::plain(Function::Sqrt), mean, "rms")
    }

    /// `value` where `z = 0`, and 0 elsewhere.
    pub(crate) fn where_zero(&mut self, z: Value, value: Value) -> Built<Value> {
        let ty = self.ty(z);
        let zero = self.filled(0.0, ty.dtype, &ty.shape)?;
        let mask = self.op(Op::Elementwise(Elementwise::Compare(Compare::Equal)), &[z, zero], "zero")?;
        self.op(Op::Elementwise(Elementwise::Where), &[mask, value, zero], "e")
    }
}
