//! Choice of elements by index or by value.

use super::{Class, arity, expect_axis, expect_numbers};
use crate::attribute::{AttributeReader, Attributes};
use crate::dim::{Dim, DimError};
use crate::types::{DType, TensorType};

/// An operation that chooses elements.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Select {
    /// Slices of operand 0 along `axis`, chosen by the integers of operand 1. The first `batch` axes of both are walked
    /// together; the index's other axes replace the axis. Negative indices count from the end.
    Gather {
        /// The axis, not one of the batch axes.
        axis: usize,
        /// How many leading axes operand and index have in common.
        batch: usize,
    },
    /// Adjoint of [`Select::Gather`]: slices of operand 0 are added at the places that operand 1 names, in a result of
    /// zeros with length `size` along `axis`.
    ScatterAdd {
        /// The axis, not one of the batch axes.
        axis: usize,
        /// How many leading axes operand and index have in common.
        batch: usize,
        /// The result's length along the axis.
        size: Dim,
        /// Whether no place is named twice, so that every element of the result is one of operand 0 or 0.
        unique_indices: bool,
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
    /// The indices (`i64`) of the `count` largest or smallest elements along `axis`, best first; of equals the first.
    TopK {
        /// The axis.
        axis: usize,
        /// How many; the result's length along the axis.
        count: Dim,
        /// Whether the largest are wanted.
        largest: bool,
    },
    /// The places (`i64`) of the `count` elements that are not zero, in row-major order: one row for each axis. How many there
    /// are is counted beside it.
    NonZero {
        /// How many; the result's second axis.
        count: Dim,
    },
    /// The places (`i64`) of the rows of a matrix in ascending lexicographic order; of equals the first.
    LexSort,
    /// 1 at the index and 0 elsewhere along a new last axis; an index outside gives zeros only.
    OneHot {
        /// Length of the new axis.
        depth: Dim,
        /// The result's element type.
        dtype: DType,
    },
    /// The boxes that do not overlap, as `i64`: for each sample and class the boxes chosen from the best score down, then
    /// −1. Operands are two corners of each box that lie across, `[samples, boxes, 4]` as y, x, y, x; the scores,
    /// `[samples, classes, boxes]`; how many boxes are chosen at most, `i64[]`; by which share of their common area boxes
    /// may overlap; and which score a box has to be above.
    NonMaxSuppression,
}

impl Select {
    /// The word in the text format.
    pub fn mnemonic(&self) -> &'static str {
        match self {
            Select::Gather { .. } => "gather",
            Select::ScatterAdd { .. } => "scatter_add",
            Select::ArgMax { .. } => "argmax",
            Select::ArgMin { .. } => "argmin",
            Select::TopK { .. } => "top_k",
            Select::NonZero { .. } => "non_zero",
            Select::LexSort => "lex_sort",
            Select::OneHot { .. } => "one_hot",
            Select::NonMaxSuppression => "non_max_suppression",
        }
    }

    pub(super) fn write_attributes(&self, attributes: &mut Attributes) {
        match self {
            Select::Gather { axis, batch } => {
                attributes.integer("axis", *axis as i64);
                attributes.integer_unless("batch", *batch as i64, 0);
            }
            Select::ScatterAdd { axis, batch, unique_indices, .. } => {
                attributes.integer("axis", *axis as i64);
                attributes.integer_unless("batch", *batch as i64, 0);
                attributes.flag("unique_indices", *unique_indices);
            }
            Select::ArgMax { axis } | Select::ArgMin { axis } => attributes.integer("axis", *axis as i64),
            Select::TopK { axis, largest, .. } => {
                attributes.integer("axis", *axis as i64);
                attributes.flag("largest", *largest);
            }
            Select::OneHot { .. } | Select::NonZero { .. } | Select::LexSort | Select::NonMaxSuppression => {}
        }
    }

    pub(super) fn read(
        word: &str,
        reader: &mut AttributeReader,
        result: &TensorType,
    ) -> Result<Option<Select>, String> {
        Ok(Some(match word {
            "gather" => Select::Gather { axis: reader.axis("axis")?, batch: batch(reader)? },
            "scatter_add" => {
                let axis = reader.axis("axis")?;
                let (batch, unique_indices) = (batch(reader)?, reader.flag("unique_indices")?);
                Select::ScatterAdd { axis, batch, size: length(result, axis)?, unique_indices }
            }
            "top_k" => {
                let axis = reader.axis("axis")?;
                Select::TopK { axis, count: length(result, axis)?, largest: reader.flag("largest")? }
            }
            "non_zero" => Select::NonZero { count: length(result, 1)? },
            "lex_sort" => Select::LexSort,
            "non_max_suppression" => Select::NonMaxSuppression,
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
            Select::Gather { axis, batch } => {
                let [x, index] = arity(operands)?;
                expect_axis(*axis, x.rank())?;
                let chosen = expect_index(x, index, *batch, *axis)?;
                let mut shape = x.shape.clone();
                shape.splice(*axis..*axis + 1, chosen.iter().cloned());
                Ok(x.with_shape(shape))
            }
            Select::ScatterAdd { axis, batch, size, .. } => {
                let [x, index] = arity(operands)?;
                expect_numbers(x)?;
                let chosen = expect_index(x, index, *batch, *axis)?;
                let end = axis.checked_add(chosen.len()).ok_or("the axis is out of reach")?;
                if x.shape.get(*axis..end) != Some(chosen) {
                    return Err(format!("axes {axis}..{end} of {x} are not those of the index {index}"));
                }
                let mut shape = x.shape.clone();
                shape.splice(*axis..end, [size.clone()]);
                Ok(x.with_shape(shape))
            }
            Select::TopK { axis, count, .. } => {
                let [x] = arity(operands)?;
                expect_axis(*axis, x.rank())?;
                expect_numbers(x)?;
                if let (Some(count), Some(length)) = (count.known(), x.shape[*axis].known())
                    && !(0..=length).contains(&count)
                {
                    return Err(format!("takes the best {count} of {length} elements"));
                }
                let mut shape = x.shape.clone();
                shape[*axis] = count.clone();
                Ok(TensorType::new(DType::I64, shape))
            }
            Select::ArgMax { axis } | Select::ArgMin { axis } => {
                let [x] = arity(operands)?;
                expect_axis(*axis, x.rank())?;
                let mut shape = x.shape.clone();
                shape.remove(*axis);
                Ok(TensorType::new(DType::I64, shape))
            }
            Select::NonZero { count } => {
                let [x] = arity(operands)?;
                let most = x.elements().map_err(|error| error.to_string())?;
                if let (Some(count), Some(most)) = (count.known(), most.known())
                    && !(0..=most).contains(&count)
                {
                    return Err(format!("finds {count} of {most} elements"));
                }
                let rank = i64::try_from(x.rank()).unwrap_or(i64::MAX);
                Ok(TensorType::new(DType::I64, vec![Dim::Known(rank), count.clone()]))
            }
            Select::LexSort => {
                let [x] = arity(operands)?;
                match x.shape.as_slice() {
                    [rows, _] => Ok(TensorType::new(DType::I64, vec![rows.clone()])),
                    _ => Err(format!("takes a matrix, not {x}")),
                }
            }
            Select::NonMaxSuppression => {
                let [boxes, scores, most, overlap, least] = arity(operands)?;
                let [samples, _, count] = scores.shape.as_slice() else {
                    return Err(format!("scores have three axes, not {scores}"));
                };
                let wanted = [samples.clone(), count.clone(), Dim::Known(4)];
                super::expect_floats(scores)?;
                super::expect_shape("the operand with boxes", &boxes.shape, &wanted)?;
                let limits = [overlap, least].map(|limit| limit.dtype == scores.dtype && limit.rank() == 0);
                if boxes.dtype != scores.dtype || limits != [true; 2] || *most != TensorType::new(DType::I64, vec![]) {
                    return Err(format!("limits of {scores} are {most}, {overlap} and {least}"));
                }
                Ok(scores.with_dtype(DType::I64))
            }
            Select::OneHot { depth, dtype } => {
                let [index] = arity(operands)?;
                expect_integers(index)?;
                let mut shape = index.shape.clone();
                shape.push(depth.clone());
                Ok(TensorType::new(*dtype, shape))
            }
        }
    }

    pub(super) fn class(&self) -> Class {
        match self {
            Select::Gather { .. } | Select::ScatterAdd { unique_indices: true, .. } => Class::Movement,
            Select::ScatterAdd { .. } => Class::Additive,
            Select::ArgMax { .. }
            | Select::ArgMin { .. }
            | Select::TopK { .. }
            | Select::NonZero { .. }
            | Select::LexSort
            | Select::NonMaxSuppression
            | Select::OneHot { .. } => Class::Opaque("an index carries nothing"),
        }
    }

    pub(super) fn map_dims(&self, map: &mut dyn FnMut(&Dim) -> Result<Dim, DimError>) -> Result<Select, DimError> {
        Ok(match self {
            Select::ScatterAdd { axis, batch, size, unique_indices } => {
                let (axis, batch, unique_indices) = (*axis, *batch, *unique_indices);
                Select::ScatterAdd { axis, batch, size: map(size)?, unique_indices }
            }
            Select::TopK { axis, count, largest } => {
                Select::TopK { axis: *axis, count: map(count)?, largest: *largest }
            }
            Select::OneHot { depth, dtype } => Select::OneHot { depth: map(depth)?, dtype: *dtype },
            Select::NonZero { count } => Select::NonZero { count: map(count)? },
            Select::Gather { .. }
            | Select::ArgMax { .. }
            | Select::ArgMin { .. }
            | Select::LexSort
            | Select::NonMaxSuppression => self.clone(),
        })
    }
}

/// The attribute that says how many axes operand and index have in common.
fn batch(reader: &mut AttributeReader) -> Result<usize, String> {
    usize::try_from(reader.integer_or("batch", Some(0))?).map_err(|_| "`batch` is negative".into())
}

/// The result's length along `axis`.
fn length(result: &TensorType, axis: usize) -> Result<Dim, String> {
    expect_axis(axis, result.rank())?;
    Ok(result.shape[axis].clone())
}

fn expect_integers(index: &TensorType) -> Result<(), String> {
    if matches!(index.dtype, DType::I64 | DType::I32) {
        Ok(())
    } else {
        Err(format!("an index is i64 or i32, not {}", index.dtype))
    }
}

/// Checks the types of an index and of what it chooses from, and returns the index's axes behind the batch.
fn expect_index<'t>(x: &TensorType, index: &'t TensorType, batch: usize, axis: usize) -> Result<&'t [Dim], String> {
    expect_integers(index)?;
    let common = index.shape.split_at_checked(batch).filter(|(common, _)| x.shape.get(..batch) == Some(common));
    match common {
        Some((_, chosen)) if batch <= axis => Ok(chosen),
        Some(_) => Err(format!("axis {axis} is one of {batch} batch axes")),
        None => Err(format!("the first {batch} axes of {x} are not those of the index {index}")),
    }
}
