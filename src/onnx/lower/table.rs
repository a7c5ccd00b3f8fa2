//! The table of operators.

use super::finding::{Lowered, unsupported};
use super::known::Known;
use super::site::Site;
use super::{
    attention, batch_norm, bits, columns, control, determinant, einsum, elementwise, features, flex_attention, gather,
    linear, linear_attention, loops, loss, microsoft, movement, normalize, optional, pad, pool, qlinear, quantize,
    recurrent, reduce, refused, resize, roi, rotary, sample, scan, scatter, select, signal, slice, source, terms,
    unique,
};

/// An ONNX operator and how it becomes primitives.
#[derive(Debug)]
pub struct OpDef {
    /// The operator's name.
    pub name: &'static str,
    /// Its domain; empty for `ai.onnx`.
    pub domain: &'static str,
    /// The first version of the domain for which this lowering is right. It serves later versions up to the next entry
    /// of the same name.
    pub since: i64,
    /// Why no use of the operator is supported, if that is so.
    pub refused: Option<&'static str>,
    /// Evaluates the node where its integers are known.
    pub(super) fold: fn(&mut Site) -> Lowered<Option<Known>>,
    /// Builds primitives in the node's place.
    pub(super) lower: fn(&mut Site) -> Lowered,
}

impl OpDef {
    /// An operator of `ai.onnx`.
    pub(super) const fn new(name: &'static str, since: i64, lower: fn(&mut Site) -> Lowered) -> Self {
        Self { name, domain: "", since, refused: None, fold: |_| Ok(None), lower }
    }

    /// An operator of ONNX Runtime's own domain.
    pub(super) const fn microsoft(name: &'static str, lower: fn(&mut Site) -> Lowered) -> Self {
        Self { domain: "com.microsoft", ..Self::new(name, 1, lower) }
    }

    /// An operator that is known and refused.
    pub(super) const fn refused(domain: &'static str, name: &'static str, reason: &'static str) -> Self {
        Self { domain, refused: Some(reason), ..Self::new(name, 1, |_| Ok(())) }
    }

    /// The operator, evaluated at import where it can be.
    pub(super) const fn folding(self, fold: fn(&mut Site) -> Lowered<Option<Known>>) -> Self {
        Self { fold, ..self }
    }
}

/// Every operator, by family.
const OPERATORS: &[&[OpDef]] = &[
    source::OPERATORS,
    elementwise::OPERATORS,
    linear::OPERATORS,
    einsum::OPERATORS,
    attention::OPERATORS,
    flex_attention::OPERATORS,
    rotary::OPERATORS,
    microsoft::OPERATORS,
    reduce::OPERATORS,
    movement::OPERATORS,
    slice::OPERATORS,
    pad::OPERATORS,
    gather::OPERATORS,
    scatter::OPERATORS,
    bits::OPERATORS,
    determinant::OPERATORS,
    linear_attention::OPERATORS,
    optional::OPERATORS,
    refused::OPERATORS,
    select::OPERATORS,
    pool::OPERATORS,
    resize::OPERATORS,
    columns::OPERATORS,
    sample::OPERATORS,
    roi::OPERATORS,
    normalize::OPERATORS,
    batch_norm::OPERATORS,
    loss::OPERATORS,
    signal::OPERATORS,
    terms::OPERATORS,
    scan::OPERATORS,
    control::OPERATORS,
    loops::OPERATORS,
    recurrent::OPERATORS,
    unique::OPERATORS,
    features::OPERATORS,
    quantize::OPERATORS,
    qlinear::OPERATORS,
];

/// Every operator that can be lowered or is refused with a reason; one whose meaning has changed stands there once per meaning.
pub fn operators() -> impl Iterator<Item = &'static OpDef> {
    OPERATORS.iter().copied().flatten()
}

/// The lowering of an operator in a version of its domain.
pub(super) fn find(domain: &str, name: &str, opset: i64) -> Lowered<&'static OpDef> {
    let named = || operators().filter(|def| def.name == name && def.domain == domain);
    match named().filter(|def| def.since <= opset).max_by_key(|def| def.since) {
        Some(OpDef { refused: Some(reason), .. }) => unsupported(*reason),
        Some(def) => Ok(def),
        None => match named().map(|def| def.since).min() {
            Some(since) => unsupported(format!("the operator is supported from opset {since} on")),
            None => unsupported("no lowering is known for the operator"),
        },
    }
}
