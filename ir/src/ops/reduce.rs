//! Reductions over axes.

use super::{Class, arity, expect_axes, expect_numbers};
use crate::attribute::{AttributeReader, Attributes};
use crate::dim::Dim;
use crate::types::TensorType;

/// What a reduction computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReduceKind {
    /// Sum.
    Sum,
    /// Arithmetic mean.
    Mean,
    /// Largest element.
    Max,
    /// Smallest element.
    Min,
    /// Product.
    Product,
}

const KINDS: [(ReduceKind, &str); 5] = [
    (ReduceKind::Sum, "reduce_sum"),
    (ReduceKind::Mean, "reduce_mean"),
    (ReduceKind::Max, "reduce_max"),
    (ReduceKind::Min, "reduce_min"),
    (ReduceKind::Product, "reduce_product"),
];

/// A reduction over `axes`, which stay as axes of length 1 if `keep` holds and vanish otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reduce {
    /// What is computed.
    pub kind: ReduceKind,
    /// The axes, ascending.
    pub axes: Vec<usize>,
    /// Whether the axes stay with length 1.
    pub keep: bool,
}

impl Reduce {
    pub(super) fn mnemonics() -> impl Iterator<Item = &'static str> {
        KINDS.iter().map(|(_, name)| *name)
    }

    /// The word in the text format.
    pub fn mnemonic(&self) -> &'static str {
        KINDS.iter().find(|(kind, _)| *kind == self.kind).map_or("", |(_, name)| name)
    }

    pub(super) fn write_attributes(&self, attributes: &mut Attributes) {
        attributes.axes("axes", &self.axes);
        attributes.flag("keep", self.keep);
    }

    pub(super) fn read(word: &str, reader: &mut AttributeReader) -> Result<Option<Reduce>, String> {
        let Some((kind, _)) = KINDS.iter().find(|(_, name)| *name == word) else { return Ok(None) };
        Ok(Some(Reduce { kind: *kind, axes: reader.axes("axes")?, keep: reader.flag("keep")? }))
    }

    pub(super) fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, String> {
        let [x] = arity(operands)?;
        expect_axes(&self.axes, x.rank())?;
        // The largest and the smallest of truth values are "any" and "all"; their sum means nothing.
        if !matches!(self.kind, ReduceKind::Max | ReduceKind::Min) {
            expect_numbers(x)?;
        }
        let mut shape = Vec::with_capacity(x.rank());
        for (axis, dim) in x.shape.iter().enumerate() {
            match (self.axes.contains(&axis), self.keep) {
                (false, _) => shape.push(dim.clone()),
                (true, true) => shape.push(Dim::Known(1)),
                (true, false) => {}
            }
        }
        Ok(x.with_shape(shape))
    }

    pub(super) fn class(&self) -> Class {
        match self.kind {
            ReduceKind::Sum | ReduceKind::Mean => Class::Additive,
            ReduceKind::Max | ReduceKind::Min => Class::Select,
            ReduceKind::Product => Class::Named("reduce_product"),
        }
    }
}
