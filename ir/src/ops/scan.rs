//! Cumulative operations.

use super::{arity, expect_axis, expect_numbers};
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
}

impl Scan {
    /// The word in the text format.
    pub fn mnemonic(&self) -> &'static str {
        "cumulative_sum"
    }

    pub(super) fn write_attributes(&self, attributes: &mut Attributes) {
        let Scan::CumulativeSum { axis, exclusive, reverse } = self;
        attributes.integer("axis", *axis as i64);
        attributes.flag("exclusive", *exclusive);
        attributes.flag("reverse", *reverse);
    }

    pub(super) fn read(word: &str, reader: &mut AttributeReader) -> Result<Option<Scan>, String> {
        if word != "cumulative_sum" {
            return Ok(None);
        }
        Ok(Some(Scan::CumulativeSum {
            axis: reader.axis("axis")?,
            exclusive: reader.flag("exclusive")?,
            reverse: reader.flag("reverse")?,
        }))
    }

    pub(super) fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, String> {
        let Scan::CumulativeSum { axis, .. } = self;
        let [x] = arity(operands)?;
        expect_axis(*axis, x.rank())?;
        expect_numbers(x).map(|()| x.clone())
    }
}
