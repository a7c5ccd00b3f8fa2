//! Cumulative operations.

use super::{Class, arity, expect_axis, expect_numbers};
use crate::attribute::{AttributeReader, Attributes};
use crate::types::TensorType;

/// A cumulative operation along an axis.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scan {
    /// Running sums. The adjoint of a cumulative sum is the one in the other direction.
    CumulativeSum {
        /// The axis.
        axis: usize,
        /// Whether an element is left out of its own sum.
        exclusive: bool,
        /// Whether sums run from the end.
        reverse: bool,
    },
    /// Running products.
    CumulativeProduct {
        /// The axis.
        axis: usize,
        /// Whether an element is left out of its own product.
        exclusive: bool,
        /// Whether products run from the end.
        reverse: bool,
    },
}

impl Scan {
    /// The word in the text format.
    pub fn mnemonic(&self) -> &'static str {
        match self {
            Scan::CumulativeSum { .. } => "cumulative_sum",
            Scan::CumulativeProduct { .. } => "cumulative_product",
        }
    }

    /// The axis along which it runs.
    pub fn axis(&self) -> usize {
        match self {
            Scan::CumulativeSum { axis, .. } | Scan::CumulativeProduct { axis, .. } => *axis,
        }
    }

    pub(super) fn write_attributes(&self, attributes: &mut Attributes) {
        let (Scan::CumulativeSum { axis, exclusive, reverse } | Scan::CumulativeProduct { axis, exclusive, reverse }) =
            self;
        attributes.integer("axis", *axis as i64);
        attributes.flag("exclusive", *exclusive);
        attributes.flag("reverse", *reverse);
    }

    pub(super) fn read(word: &str, reader: &mut AttributeReader) -> Result<Option<Scan>, String> {
        if word != "cumulative_sum" && word != "cumulative_product" {
            return Ok(None);
        }
        let (axis, exclusive, reverse) = (reader.axis("axis")?, reader.flag("exclusive")?, reader.flag("reverse")?);
        Ok(Some(match word {
            "cumulative_sum" => Scan::CumulativeSum { axis, exclusive, reverse },
            _ => Scan::CumulativeProduct { axis, exclusive, reverse },
        }))
    }

    pub(super) fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, String> {
        let [x] = arity(operands)?;
        expect_axis(self.axis(), x.rank())?;
        expect_numbers(x).map(|()| x.clone())
    }

    pub(super) fn class(&self) -> Class {
        match self {
            Scan::CumulativeSum { .. } => Class::Additive,
            Scan::CumulativeProduct { .. } => Class::Named("cumulative_product"),
        }
    }
}
