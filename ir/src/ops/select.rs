//! Choice of elements by index or by value.

use super::{Class, arity, expect_axis, expect_numbers};
use crate::attribute::{AttributeReader, Attributes};
use crate::dim::{Dim, DimError};
use crate::types::{DType, TensorType};

/// An operation that chooses elements.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Select {
    /// Slices of operand 0 along `axis`, chosen by the integers of operand 1: the index shape replaces the axis.
    /// Negative indices count from the end.
    Gather {
        /// The axis.
        axis: usize,
    },
    /// Adjoint of [`Select::Gather`]: slices of operand 0 are added at the places that operand 1 names, in a result of
    /// zeros with length `size` along `axis`.
    ScatterAdd {
        /// The axis.
        axis: usize,
        /// The result's length along the axis.
        size: Dim,
    },
    /// The index (`i64`) of the largest element along `axis`, which vanishes; the first wins.
    ArgMax {
        /// The axis.
        axis: usize,
    },
    /// The index (`i64`) of the smallest element along `axis`, which vanishes; the first wins.
    ArgMin {
        /// The axis.
        axis: usize,
    },
    /// 1 at the index and 0 elsewhere along a new last axis; an index outside gives zeros only.
    OneHot {
        /// Length of the new axis.
        depth: Dim,
        /// The result's element type.
        dtype: DType,
    },
}

impl Select {
    /// The word in the text format.
    pub fn mnemonic(&self) -> &'static str {
        match self {
            Select::Gather { .. } => "gather",
            Select::ScatterAdd { .. } => "scatter_add",
            Select::ArgMax { .. } => "argmax",
            Select::ArgMin { .. } => "argmin",
            Select::OneHot { .. } => "one_hot",
        }
    }

    pub(super) fn write_attributes(&self, attributes: &mut Attributes) {
        match self {
            Select::Gather { axis }
            | Select::ScatterAdd { axis, .. }
            | Select::ArgMax { axis }
            | Select::ArgMin { axis } => attributes.integer("axis", *axis as i64),
            Select::OneHot { .. } => {}
        }
    }

    pub(super) fn read(
        word: &str,
        reader: &mut AttributeReader,
        result: &TensorType,
    ) -> Result<Option<Select>, String> {
        Ok(Some(match word {
            "gather" => Select::Gather { axis: reader.axis("axis")? },
            "scatter_add" => {
                let axis = reader.axis("axis")?;
                expect_axis(axis, result.rank())?;
                Select::ScatterAdd { axis, size: result.shape[axis].clone() }
            }
            "argmax" => Select::ArgMax { axis: reader.axis("axis")? },
            "argmin" => Select::ArgMin { axis: reader.axis("axis")? },
            "one_hot" => {
                let depth = result.shape.last().cloned().ok_or("a one_hot has at least one axis")?;
                Select::OneHot { depth, dtype: result.dtype }
            }
            _ => return Ok(None),
        }))
    }

    pub(super) fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, String> {
        match self {
            Select::Gather { axis } => {
                let [x, index] = arity(operands)?;
                expect_axis(*axis, x.rank())?;
                expect_index(index)?;
                let mut shape = x.shape.clone();
                shape.splice(*axis..*axis + 1, index.shape.iter().cloned());
                Ok(x.with_shape(shape))
            }
            Select::ScatterAdd { axis, size } => {
                let [x, index] = arity(operands)?;
                expect_index(index)?;
                expect_numbers(x)?;
                let end = axis + index.rank();
                if x.shape.get(*axis..end) != Some(index.shape.as_slice()) {
                    return Err(format!("axes {axis}..{end} of {x} are not those of the index {index}"));
                }
                let mut shape = x.shape.clone();
                shape.splice(*axis..end, [size.clone()]);
                Ok(x.with_shape(shape))
            }
            Select::ArgMax { axis } | Select::ArgMin { axis } => {
                let [x] = arity(operands)?;
                expect_axis(*axis, x.rank())?;
                let mut shape = x.shape.clone();
                shape.remove(*axis);
                Ok(TensorType::new(DType::I64, shape))
            }
            Select::OneHot { depth, dtype } => {
                let [index] = arity(operands)?;
                expect_index(index)?;
                let mut shape = index.shape.clone();
                shape.push(depth.clone());
                Ok(TensorType::new(*dtype, shape))
            }
        }
    }

    pub(super) fn class(&self) -> Class {
        match self {
            Select::Gather { .. } => Class::Movement,
            Select::ScatterAdd { .. } => Class::Movement,
            Select::ArgMax { .. } | Select::ArgMin { .. } => Class::Opaque("an index carries nothing"),
            Select::OneHot { .. } => Class::Opaque("an index carries nothing"),
        }
    }

    pub(super) fn map_dims(&self, map: &mut dyn FnMut(&Dim) -> Result<Dim, DimError>) -> Result<Select, DimError> {
        Ok(match self {
            Select::ScatterAdd { axis, size } => Select::ScatterAdd { axis: *axis, size: map(size)? },
            Select::OneHot { depth, dtype } => Select::OneHot { depth: map(depth)?, dtype: *dtype },
            Select::Gather { .. } | Select::ArgMax { .. } | Select::ArgMin { .. } => self.clone(),
        })
    }
}

fn expect_index(index: &TensorType) -> Result<(), String> {
    if matches!(index.dtype, DType::I64 | DType::I32) {
        Ok(())
    } else {
        Err(format!("an index is i64 or i32, not {}", index.dtype))
    }
}
