//! Movement of elements: reshape, transpose, slice, pad, concat, broadcast.

use super::{arity, expect_axes, expect_axis, map_all};
use crate::attribute::{AttributeReader, Attributes};
use crate::dim::{Dim, DimError};
use crate::types::{Float, TensorType};

/// An operation that only moves elements.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Movement {
    /// The same elements in row-major order under another shape. That the numbers of elements are equal is checked once
    /// all sizes are known, where symbols leave it open.
    Reshape {
        /// The result's shape.
        shape: Vec<Dim>,
    },
    /// Axis `i` of the result is axis `perm[i]` of the operand.
    Transpose {
        /// The permutation.
        perm: Vec<usize>,
    },
    /// Element `i` of the result is element `start + i·step` of the operand, per axis; steps may be negative.
    Slice {
        /// First element per axis.
        starts: Vec<Dim>,
        /// Step per axis, not zero.
        steps: Vec<i64>,
        /// The result's shape.
        shape: Vec<Dim>,
    },
    /// Adjoint of [`Movement::Slice`]: element `i` of the operand lands at `before + i·step` of the result; places that
    /// nothing reaches hold `value`, elements that fall outside are dropped.
    Pad {
        /// Place of the first element per axis; negative crops.
        before: Vec<Dim>,
        /// Step per axis, not zero.
        steps: Vec<i64>,
        /// What fills the rest.
        value: Float,
        /// The result's shape.
        shape: Vec<Dim>,
    },
    /// The operands one after the other along `axis`.
    Concat {
        /// The axis.
        axis: usize,
    },
    /// Copies along axes of length 1 and along new leading axes, aligned at the last axis.
    Broadcast {
        /// The result's shape.
        shape: Vec<Dim>,
    },
}

impl Movement {
    /// A slice of `axis` alone: elements `start..start+length` of a tensor of type `ty`.
    pub fn slice_axis(ty: &TensorType, axis: usize, start: Dim, length: Dim) -> Movement {
        let mut starts = vec![Dim::Known(0); ty.rank()];
        let mut shape = ty.shape.clone();
        if let (Some(first), Some(size)) = (starts.get_mut(axis), shape.get_mut(axis)) {
            *first = start;
            *size = length;
        }
        Movement::Slice { starts, steps: vec![1; ty.rank()], shape }
    }

    /// The axes of a broadcast to `shape` along which the operand of shape `from` is copied: new leading axes, and axes
    /// of length 1 that grow.
    pub fn broadcast_axes(from: &[Dim], shape: &[Dim]) -> Vec<usize> {
        let new = shape.len().saturating_sub(from.len());
        (0..shape.len()).filter(|&axis| axis < new || from.get(axis - new) != shape.get(axis)).collect()
    }

    /// The word in the text format.
    pub fn mnemonic(&self) -> &'static str {
        match self {
            Movement::Reshape { .. } => "reshape",
            Movement::Transpose { .. } => "transpose",
            Movement::Slice { .. } => "slice",
            Movement::Pad { .. } => "pad",
            Movement::Concat { .. } => "concat",
            Movement::Broadcast { .. } => "broadcast",
        }
    }

    pub(super) fn write_attributes(&self, attributes: &mut Attributes) {
        match self {
            Movement::Reshape { .. } | Movement::Broadcast { .. } => {}
            Movement::Transpose { perm } => attributes.axes("perm", perm),
            Movement::Slice { starts, steps, .. } => {
                attributes.dims("start", starts);
                attributes.per_axis("step", &steps.iter().map(|&step| step.into()).collect::<Vec<_>>(), 1);
            }
            Movement::Pad { before, steps, value, .. } => {
                attributes.dims("before", before);
                attributes.per_axis("step", &steps.iter().map(|&step| step.into()).collect::<Vec<_>>(), 1);
                if *value != Float(0.0) {
                    attributes.float("value", *value);
                }
            }
            Movement::Concat { axis } => attributes.integer("axis", *axis as i64),
        }
    }

    pub(super) fn read(
        word: &str,
        reader: &mut AttributeReader,
        result: &TensorType,
    ) -> Result<Option<Movement>, String> {
        let shape = result.shape.clone();
        let rank = shape.len();
        Ok(Some(match word {
            "reshape" => Movement::Reshape { shape },
            "broadcast" => Movement::Broadcast { shape },
            "transpose" => Movement::Transpose { perm: reader.axes("perm")? },
            "slice" => Movement::Slice {
                starts: reader.dims("start")?,
                steps: reader.integer_per_axis("step", rank, 1)?,
                shape,
            },
            "pad" => Movement::Pad {
                before: reader.dims("before")?,
                steps: reader.integer_per_axis("step", rank, 1)?,
                value: reader.float_or("value", Some(0.0))?,
                shape,
            },
            "concat" => Movement::Concat { axis: reader.axis("axis")? },
            _ => return Ok(None),
        }))
    }

    pub(super) fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, String> {
        match self {
            Movement::Concat { axis } => infer_concat(*axis, operands),
            Movement::Reshape { shape } => {
                let [x] = arity(operands)?;
                let result = x.with_shape(shape.clone());
                let (from, to) = (x.elements(), result.elements());
                match (from.map_err(|error| error.to_string())?, to.map_err(|error| error.to_string())?) {
                    (from, to) if from.may_equal(&to) => Ok(result),
                    (from, to) => Err(format!("{from} elements do not fill {to}")),
                }
            }
            Movement::Broadcast { shape } => {
                let [x] = arity(operands)?;
                let offset = shape.len().checked_sub(x.rank()).ok_or("cannot drop axes")?;
                for (axis, dim) in x.shape.iter().enumerate() {
                    if *dim != Dim::Known(1) && Some(dim) != shape.get(axis + offset) {
                        return Err(format!("axis {axis} of {x} does not broadcast to {shape:?}"));
                    }
                }
                Ok(x.with_shape(shape.clone()))
            }
            Movement::Transpose { perm } => {
                let [x] = arity(operands)?;
                if perm.len() != x.rank() {
                    return Err(format!("permutes {} axes of rank {}", perm.len(), x.rank()));
                }
                expect_axes(perm, x.rank())?;
                Ok(x.with_shape(perm.iter().map(|&axis| x.shape[axis].clone()).collect()))
            }
            Movement::Slice { starts, steps, shape } => {
                let [x] = arity(operands)?;
                check_steps(x, starts, steps, shape)?;
                check_slice(x, starts, steps, shape)?;
                Ok(x.with_shape(shape.clone()))
            }
            Movement::Pad { before, steps, shape, .. } => {
                let [x] = arity(operands)?;
                check_steps(x, before, steps, shape)?;
                Ok(x.with_shape(shape.clone()))
            }
        }
    }

    pub(super) fn map_dims(&self, map: &mut dyn FnMut(&Dim) -> Result<Dim, DimError>) -> Result<Movement, DimError> {
        Ok(match self {
            Movement::Reshape { shape } => Movement::Reshape { shape: map_all(shape, map)? },
            Movement::Broadcast { shape } => Movement::Broadcast { shape: map_all(shape, map)? },
            Movement::Slice { starts, steps, shape } => {
                Movement::Slice { starts: map_all(starts, map)?, steps: steps.clone(), shape: map_all(shape, map)? }
            }
            Movement::Pad { before, steps, value, shape } => Movement::Pad {
                before: map_all(before, map)?,
                steps: steps.clone(),
                value: *value,
                shape: map_all(shape, map)?,
            },
            Movement::Transpose { .. } | Movement::Concat { .. } => self.clone(),
        })
    }
}

fn infer_concat(axis: usize, operands: &[&TensorType]) -> Result<TensorType, String> {
    let (first, rest) = operands.split_first().ok_or("takes at least one operand")?;
    expect_axis(axis, first.rank())?;
    let mut length = first.shape[axis].clone();
    for other in rest {
        let aligned = other.rank() == first.rank()
            && other.dtype == first.dtype
            && (0..first.rank())
                .all(|other_axis| other_axis == axis || first.shape[other_axis] == other.shape[other_axis]);
        if !aligned {
            return Err(format!("operands differ beside axis {axis}: {first} and {other}"));
        }
        length = length.add(&other.shape[axis]).map_err(|error| error.to_string())?;
    }
    let mut shape = first.shape.clone();
    shape[axis] = length;
    Ok(first.with_shape(shape))
}

fn check_steps(x: &TensorType, places: &[Dim], steps: &[i64], shape: &[Dim]) -> Result<(), String> {
    if [places.len(), steps.len(), shape.len()].iter().any(|&count| count != x.rank()) {
        return Err(format!("needs a place, a step and a size for each axis of {x}"));
    }
    if steps.contains(&0) { Err("a step must not be zero".into()) } else { Ok(()) }
}

/// A slice whose numbers are all known must stay inside its operand.
fn check_slice(x: &TensorType, starts: &[Dim], steps: &[i64], shape: &[Dim]) -> Result<(), String> {
    for (axis, dim) in x.shape.iter().enumerate() {
        let (Some(size), Some(start), Some(count)) = (dim.known(), starts[axis].known(), shape[axis].known()) else {
            continue;
        };
        let last = (count - 1).checked_mul(steps[axis]).and_then(|distance| start.checked_add(distance));
        let inside = |place: i64| (0..size).contains(&place);
        if count < 0 || (count > 0 && !(inside(start) && last.is_some_and(inside))) {
            return Err(format!("takes {count} elements from {start} of axis {axis} of {x}"));
        }
    }
    Ok(())
}
