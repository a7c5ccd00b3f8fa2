//! Choice of elements by index or by value.

use lrpc_ir::DType;
use lrpc_ir::ops::Select;
use rayon::prelude::*;

use super::boxes;
use super::view::{View, ViewMut, around, count, ensure, for_number, operands, row_major};
use crate::error::RunErrorKind;
use crate::memory::Plain;

/// Chooses elements of the operands.
pub(super) fn run(op: &Select, inputs: &[View<'_>], output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    match op {
        Select::Gather { axis, batch } => {
            let [x, index] = operands(inputs)?;
            gather(&Choice::read(x.shape, *axis, *batch, index)?, x, output)
        }
        Select::ScatterAdd { axis, batch, .. } => {
            let [x, index] = operands(inputs)?;
            let choice = Choice::read(output.shape, *axis, *batch, index)?;
            ensure(x.len() == choice.chosen() && x.dtype == output.dtype, "slices that fit the result")?;
            for_number!(x.dtype, op.mnemonic(), T => {
                scatter_add::<T>(&choice, x.values()?, output.values()?);
                Ok(())
            })
        }
        Select::ArgMax { axis } | Select::ArgMin { axis } => {
            let [x] = operands(inputs)?;
            let (outer, length, inner) = around(x.shape, *axis)?;
            ensure(output.dtype == DType::I64 && count(output.shape) == outer * inner, "indices as i64")?;
            if length == 0 && !output.bytes.is_empty() {
                return Err(RunErrorKind::Index { index: 0, size: 0 });
            }
            let largest = matches!(op, Select::ArgMax { .. });
            for_number!(x.dtype, op.mnemonic(), T => {
                winners::<T>(x.values()?, length, inner, largest, output.values()?);
                Ok(())
            })
        }
        Select::TopK { axis, largest, .. } => {
            let [x] = operands(inputs)?;
            let (outer, length, inner) = around(x.shape, *axis)?;
            let (_, count, _) = around(output.shape, *axis)?;
            ensure(output.dtype == DType::I64 && count <= length, "indices as i64")?;
            ensure(output.bytes.len() == outer * count * inner * size_of::<i64>(), "one row of indices per row")?;
            for_number!(x.dtype, op.mnemonic(), T => {
                best::<T>(x.values()?, [length, count, inner], *largest, output.values()?);
                Ok(())
            })
        }
        Select::NonZero { .. } => {
            let [x] = operands(inputs)?;
            ensure(output.dtype == DType::I64, "places as i64")?;
            for_number!(x.dtype, op.mnemonic(), T => non_zero::<T>(x.values()?, x.shape, output.values()?))
        }
        Select::LexSort => {
            let [x] = operands(inputs)?;
            let [rows, columns] = *x.shape else { return Err(RunErrorKind::plan("rows of a matrix")) };
            ensure(output.dtype == DType::I64 && count(output.shape) == rows, "places as i64")?;
            for_number!(x.dtype, op.mnemonic(), T => {
                sort_rows::<T>(x.values()?, columns, output.values()?);
                Ok(())
            })
        }
        Select::NonMaxSuppression => boxes::run(inputs, output),
        Select::OneHot { .. } => {
            let [index] = operands(inputs)?;
            let depth = *output.shape.last().ok_or_else(|| RunErrorKind::plan("a one_hot has an axis"))?;
            let index = raw_indices(index)?;
            ensure(count(output.shape) == index.len() * depth, "one row per index")?;
            for_number!(output.dtype, op.mnemonic(), T => {
                let output = output.values::<T>()?;
                output.fill(T::default());
                for (row, index) in index.iter().enumerate() {
                    if let Some(place) = usize::try_from(*index).ok().filter(|&place| place < depth) {
                        output[row * depth + place] = 1 as T;
                    }
                }
                Ok(())
            })
        }
    }
}

fn raw_indices(index: &View<'_>) -> Result<Vec<i64>, RunErrorKind> {
    match index.dtype {
        DType::I64 => Ok(index.values::<i64>()?.to_vec()),
        DType::I32 => Ok(index.values::<i32>()?.iter().map(|&index| index.into()).collect()),
        other => Err(RunErrorKind::dtype("index", other)),
    }
}

/// The indices along an axis of length `size`; negative ones count from its end.
fn indices(index: &View<'_>, size: usize) -> Result<Vec<usize>, RunErrorKind> {
    let length = size as i64;
    let resolve = |index: i64| {
        let place = if index < 0 { index.checked_add(length) } else { Some(index) };
        let place = place.and_then(|place| usize::try_from(place).ok()).filter(|&place| place < size);
        place.ok_or(RunErrorKind::Index { index, size })
    };
    raw_indices(index)?.into_iter().map(resolve).collect()
}

/// Which slices of a tensor an index names: `outer` blocks of `size` slices of `inner` elements, of which consecutive
/// ones share a row of `picks` indices.
struct Choice {
    outer: usize,
    size: usize,
    inner: usize,
    picks: usize,
    indices: Vec<usize>,
}

impl Choice {
    /// The choice along `axis` of a tensor of shape `shape`, whose first `batch` axes are the index's.
    fn read(shape: &[usize], axis: usize, batch: usize, index: &View<'_>) -> Result<Choice, RunErrorKind> {
        let (outer, size, inner) = around(shape, axis)?;
        let common = index.shape.split_at_checked(batch).filter(|(common, _)| shape.get(..batch) == Some(common));
        let (_, picks) = common.ok_or_else(|| RunErrorKind::plan("an index of the same batch"))?;
        Ok(Choice { outer, size, inner, picks: count(picks), indices: indices(index, size)? })
    }

    /// The number of elements that are chosen.
    fn chosen(&self) -> usize {
        self.outer * self.picks * self.inner
    }

    /// The indices into block `outer`.
    fn of(&self, outer: usize) -> &[usize] {
        let rows = self.indices.len() / self.picks;
        let row = outer / (self.outer / rows);
        &self.indices[row * self.picks..(row + 1) * self.picks]
    }
}

fn gather(choice: &Choice, x: &View<'_>, output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    let bytes = choice.inner * x.dtype.size();
    ensure(
        x.dtype == output.dtype && output.bytes.len() == choice.chosen() * x.dtype.size(),
        "slices that fill the result",
    )?;
    if output.bytes.is_empty() {
        return Ok(());
    }
    output.bytes.par_chunks_mut(bytes).enumerate().for_each(|(slice, output)| {
        let (outer, pick) = (slice / choice.picks, slice % choice.picks);
        let source = outer * choice.size + choice.of(outer)[pick];
        output.copy_from_slice(&x.bytes[source * bytes..(source + 1) * bytes]);
    });
    Ok(())
}

/// Numbers that can be added; integers wrap.
trait Summand: Plain + PartialOrd {
    fn plus(self, other: Self) -> Self;
    fn is_nan(self) -> bool;
}

macro_rules! summand {
    ($($number:ident $add:expr, $nan:expr;)*) => {$(
        impl Summand for $number {
            #[inline(always)]
            fn plus(self, other: $number) -> $number { $add(self, other) }
            #[inline(always)]
            fn is_nan(self) -> bool { $nan(self) }
        }
    )*};
}

summand! {
    f32 |a, b| a + b, f32::is_nan;
    f64 |a, b| a + b, f64::is_nan;
    i8 i8::wrapping_add, |_| false;
    i16 i16::wrapping_add, |_| false;
    i32 i32::wrapping_add, |_| false;
    i64 i64::wrapping_add, |_| false;
    u8 u8::wrapping_add, |_| false;
    u16 u16::wrapping_add, |_| false;
    u32 u32::wrapping_add, |_| false;
    u64 u64::wrapping_add, |_| false;
}

/// Slices are added in the order of the index, so that sums of equal indices have one order.
fn scatter_add<T: Summand>(choice: &Choice, x: &[T], output: &mut [T]) {
    let Choice { size, inner, picks, .. } = *choice;
    output.fill(T::default());
    if output.is_empty() || picks == 0 {
        return;
    }
    output.par_chunks_mut(size * inner).enumerate().for_each(|(outer, output)| {
        for (pick, place) in choice.of(outer).iter().enumerate() {
            let source = (outer * picks + pick) * inner;
            let target = &mut output[place * inner..(place + 1) * inner];
            target.iter_mut().zip(&x[source..source + inner]).for_each(|(slot, value)| *slot = slot.plus(*value));
        }
    });
}

/// The indices of the `count` best elements of each column, best first; NaN counts as the largest number.
fn best<T: Summand>(x: &[T], [length, count, inner]: [usize; 3], largest: bool, output: &mut [i64]) {
    if output.is_empty() {
        return;
    }
    output.par_chunks_mut(count * inner).enumerate().for_each(|(outer, output)| {
        let mut order: Vec<usize> = Vec::with_capacity(length);
        for column in 0..inner {
            let element = |place: usize| x[(outer * length + place) * inner + column];
            let ascending = |a: &usize, b: &usize| {
                let (a, b) = (element(*a), element(*b));
                a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
            };
            order.clear();
            order.extend(0..length);
            // The sort is stable, so that of equals the first stays first.
            order.sort_by(|a, b| if largest { ascending(b, a) } else { ascending(a, b) });
            for (rank, place) in order.iter().take(count).enumerate() {
                output[rank * inner + column] = *place as i64;
            }
        }
    });
}

/// The places of what is not zero, one row of `output` for each axis.
fn non_zero<T: Summand>(x: &[T], shape: &[usize], output: &mut [i64]) -> Result<(), RunErrorKind> {
    let is_there = |value: &T| *value != T::default();
    let found = x.iter().filter(|value| is_there(value)).count();
    ensure(found * shape.len() == output.len(), "as many elements that are not zero as were counted")?;
    if output.is_empty() {
        return Ok(());
    }
    let strides = row_major(shape);
    for ((row, stride), length) in output.chunks_exact_mut(found).zip(strides).zip(shape) {
        let places = x.iter().enumerate().filter(|(_, value)| is_there(value)).map(|(place, _)| place);
        row.iter_mut().zip(places).for_each(|(slot, place)| *slot = (place / stride % length) as i64);
    }
    Ok(())
}

/// The places of rows of that many columns in ascending order; NaN counts as the largest number.
fn sort_rows<T: Summand>(x: &[T], columns: usize, output: &mut [i64]) {
    output.iter_mut().enumerate().for_each(|(place, slot)| *slot = place as i64);
    let row = |place: i64| &x[place as usize * columns..(place as usize + 1) * columns];
    let ascending = |(a, b): (&T, &T)| a.partial_cmp(b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()));
    // The sort is stable, so that of equals the first stays first.
    output.sort_by(|&a, &b| {
        let mut pairs = row(a).iter().zip(row(b)).map(ascending);
        pairs.find(|order| order.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
    });
}

/// The first largest (or smallest) element's index; NaN wins over numbers, as in NumPy.
fn winners<T: Summand>(x: &[T], length: usize, inner: usize, largest: bool, output: &mut [i64]) {
    if inner == 0 {
        return;
    }
    output.par_chunks_mut(inner).enumerate().for_each(|(outer, output)| {
        for (column, slot) in output.iter_mut().enumerate() {
            let element = |place: usize| x[(outer * length + place) * inner + column];
            let (mut best, mut winner) = (element(0), 0);
            for place in 1..length {
                let value = element(place);
                let better = if largest { value > best } else { value < best };
                if (better || value.is_nan()) && !best.is_nan() {
                    (best, winner) = (value, place);
                }
            }
            *slot = winner as i64;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_what_is_not_zero() {
        let mut places = [0; 6];
        non_zero(&[0.0f32, -1.0, f32::NAN, 0.0, -0.0, 5.0], &[3, 2], &mut places).unwrap();
        assert_eq!(places, [0, 1, 2, 1, 0, 1]);
        assert!(non_zero(&[1u8, 0], &[2], &mut places).is_err());
        non_zero::<i64>(&[], &[0, 4], &mut []).unwrap();
    }

    #[test]
    fn rows_are_sorted_by_their_first_difference() {
        let mut places = [0; 4];
        sort_rows(&[2i64, 1, 1, 9, 2, 0, 1, 9], 2, &mut places);
        assert_eq!(places, [1, 3, 2, 0]);
        sort_rows(&[f32::NAN, 1.0, f32::NEG_INFINITY, 1.0], 1, &mut places);
        assert_eq!(places, [2, 1, 3, 0]);
        sort_rows::<f64>(&[], 0, &mut places);
        assert_eq!(places, [0, 1, 2, 3]);
    }
}
