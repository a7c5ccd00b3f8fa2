//! Values without operands: literals and counters; and noise.

use lrpc_ir::DType;
use lrpc_ir::ops::source::LiteralValues;
use lrpc_ir::ops::{Literal, Source};
use rayon::prelude::*;

use super::elementwise::cast;
use super::noise;
use super::view::{View, ViewMut, around, ensure, for_size, operands};
use crate::error::RunErrorKind;
use crate::memory::{AlignedBytes, Plain, bytes_of};

/// The source as a step of its own; a graph input with a default is a copy of it.
pub(super) fn run(op: &Source, inputs: &[View<'_>], output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    match op {
        Source::Constant(literal) => {
            let bytes = literal_bytes(literal, output.dtype, output.bytes.len() / output.dtype.size())?;
            output.bytes.copy_from_slice(bytes.as_slice());
            Ok(())
        }
        Source::Iota { axis, .. } => {
            let (_, length, inner) = around(output.shape, *axis)?;
            let steps = counter(output.dtype, length)?;
            for_size!(output.dtype, T => {
                let steps = View { dtype: output.dtype, shape: &[], bytes: steps.as_slice() };
                spread::<T>(steps.values()?, inner, output.values()?);
                Ok(())
            })
        }
        Source::Input(_) => {
            let [default] = operands(inputs)?;
            copy(default, output)
        }
        &Source::Noise { seed, stream, .. } => {
            let [step] = operands(inputs)?;
            noise::run(seed, stream, step.values()?, output)
        }
        Source::Size(_) => Err(RunErrorKind::plan("a size is a literal once a plan is made")),
        Source::Weight(..) => Err(RunErrorKind::plan("a weight is a buffer, not a step")),
    }
}

fn spread<T: Plain>(steps: &[T], inner: usize, output: &mut [T]) {
    if inner > 0 {
        for (row, step) in output.chunks_mut(inner).zip(steps.iter().cycle()) {
            row.fill(*step);
        }
    }
}

/// The same elements at another place.
pub(super) fn copy(x: &View<'_>, output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    ensure(x.dtype == output.dtype && x.bytes.len() == output.bytes.len(), "a copy of one type and size")?;
    output
        .bytes
        .par_chunks_mut(1 << 18)
        .zip(x.bytes.par_chunks(1 << 18))
        .for_each(|(to, from)| to.copy_from_slice(from));
    Ok(())
}

fn no_memory() -> RunErrorKind {
    RunErrorKind::plan("no memory for a literal")
}

/// `0, 1, …, length − 1`.
pub(super) fn counter(dtype: DType, length: usize) -> Result<AlignedBytes, RunErrorKind> {
    let steps: Vec<i64> = (0..i64::try_from(length).unwrap_or(i64::MAX)).collect();
    converted(DType::I64, bytes_of(&steps), dtype)
}

fn converted(from: DType, bytes: &[u8], to: DType) -> Result<AlignedBytes, RunErrorKind> {
    let mut out = AlignedBytes::zeroed(bytes.len() / from.size() * to.size()).ok_or_else(no_memory)?;
    let mut target = ViewMut { dtype: to, shape: &[], bytes: out.as_mut_slice() };
    cast(&View { dtype: from, shape: &[], bytes }, &mut target)?;
    Ok(out)
}

/// The literal's `elements` elements in storage type `dtype`; one listed element fills all places.
pub(super) fn literal_bytes(literal: &Literal, dtype: DType, elements: usize) -> Result<AlignedBytes, RunErrorKind> {
    let listed = match &literal.values {
        LiteralValues::Integers(values) => converted(DType::I64, bytes_of(values), dtype)?,
        LiteralValues::Floats(values) => {
            let values: Vec<f64> = values.iter().map(|value| value.0).collect();
            converted(DType::F64, bytes_of(&values), dtype)?
        }
    };
    if literal.len() == elements {
        return Ok(listed);
    }
    ensure(literal.len() == 1, "a literal that fills its shape")?;
    let bytes = elements.checked_mul(dtype.size()).and_then(AlignedBytes::zeroed);
    let mut filled = bytes.ok_or_else(no_memory)?;
    filled.as_mut_slice().chunks_exact_mut(dtype.size()).for_each(|slot| slot.copy_from_slice(listed.as_slice()));
    Ok(filled)
}
