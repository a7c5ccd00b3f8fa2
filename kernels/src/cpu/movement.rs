//! Movement of elements. Elements are moved as unsigned integers of their size, so that every bit stays.

use lrpc_ir::ops::Movement;
use rayon::prelude::*;

use super::source::copy;
use super::source::literal_bytes;
use super::view::{View, ViewMut, all_numbers, around, count, ensure, for_size, operands, row_major};
use crate::error::RunErrorKind;
use crate::memory::Plain;

/// Elements that one task moves.
const TASK: usize = 1 << 15;

/// Moves the operands' elements to the result.
pub(super) fn run(op: &Movement, inputs: &[View<'_>], output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    ensure(inputs.iter().all(|input| input.dtype == output.dtype), "movement keeps the element type")?;
    match op {
        Movement::Reshape { .. } => {
            let [x] = operands(inputs)?;
            copy(x, output)
        }
        Movement::Transpose { perm } => {
            let [x] = operands(inputs)?;
            let strides = row_major(x.shape);
            let moved = perm.iter().map(|&axis| strides.get(axis).map(|&stride| stride as isize));
            let moved = moved.collect::<Option<Vec<isize>>>().ok_or_else(|| RunErrorKind::plan("a permuted axis"))?;
            gather(x, 0, &moved, output)
        }
        Movement::Broadcast { .. } => {
            let [x] = operands(inputs)?;
            let new = output.shape.len().checked_sub(x.shape.len());
            let new = new.ok_or_else(|| RunErrorKind::plan("a broadcast drops no axes"))?;
            let mut strides = vec![0; output.shape.len()];
            for (axis, stride) in row_major(x.shape).into_iter().enumerate() {
                ensure(x.shape[axis] == 1 || x.shape[axis] == output.shape[axis + new], "shapes that broadcast")?;
                strides[axis + new] = if x.shape[axis] == 1 { 0 } else { stride as isize };
            }
            gather(x, 0, &strides, output)
        }
        Movement::Slice { starts, steps, .. } => {
            let [x] = operands(inputs)?;
            let starts = all_numbers(starts)?;
            let rank = x.shape.len();
            ensure([starts.len(), steps.len(), output.shape.len()] == [rank; 3], "a start and a step per axis")?;
            slice(x, &starts, steps, output)
        }
        Movement::Pad { before, steps, value, .. } => {
            let [x] = operands(inputs)?;
            let before = all_numbers(before)?;
            let rank = x.shape.len();
            ensure([before.len(), steps.len(), output.shape.len()] == [rank; 3], "a place and a step per axis")?;
            let filler = lrpc_ir::ops::Literal::scalar(output.dtype, value.0);
            let filler = literal_bytes(&filler, output.dtype, 1)?;
            let filler = View { dtype: output.dtype, shape: &[], bytes: filler.as_slice() };
            for_size!(output.dtype, T => {
                let filler = filler.values::<T>()?[0];
                let shape = output.shape;
                pad::<T>(x.values()?, x.shape, &before, steps, filler, shape, output.values()?)
            })
        }
        Movement::Concat { axis } => concat(*axis, inputs, output),
    }
}

fn gather(x: &View<'_>, start: isize, strides: &[isize], output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    let shape = output.shape;
    for_size!(output.dtype, T => gather_strided::<T>(x.values()?, start, strides, shape, output.values()?))
}

/// Element `i` of the row-major `output` of shape `shape` is `source[start + Σ i·strides]`.
///
/// # Errors
/// Places outside of `source`.
pub(super) fn gather_strided<T: Plain>(
    source: &[T],
    start: isize,
    strides: &[isize],
    shape: &[usize],
    output: &mut [T],
) -> Result<(), RunErrorKind> {
    ensure(strides.len() == shape.len() && count(shape) == output.len(), "a gather that fills its result")?;
    if output.is_empty() {
        return Ok(());
    }
    let reach = |towards: fn(isize) -> bool| {
        let moves = shape.iter().zip(strides).filter(|(_, stride)| towards(**stride));
        moves.map(|(length, stride)| (*length as isize - 1) * stride).sum::<isize>() + start
    };
    let (lowest, highest) = (reach(|stride| stride < 0), reach(|stride| stride > 0));
    ensure(lowest >= 0 && (highest as usize) < source.len(), "a gather inside of its operand")?;
    let axes = merge(shape, strides);
    match axes.as_slice() {
        [outer @ .., rows, columns] if rows.1 == 1 && columns.1 != 1 && rows.0 > 1 => {
            let matrix = rows.0 * columns.0;
            output.par_chunks_mut(matrix).enumerate().for_each(|(index, output)| {
                transpose_blocked(source, place(start, outer, index), columns.1, columns.0, output);
            });
        }
        [outer @ .., inner] => {
            let rows = (TASK / inner.0).max(1);
            output.par_chunks_mut(rows * inner.0).enumerate().for_each(|(task, output)| {
                for (row, output) in output.chunks_mut(inner.0).enumerate() {
                    read_row(source, place(start, outer, task * rows + row), inner.1, output);
                }
            });
        }
        [] => output.fill(source[start as usize]),
    }
    Ok(())
}

/// Axes as (length, stride) without those of length 1, neighbours that move together merged.
fn merge(shape: &[usize], strides: &[isize]) -> Vec<(usize, isize)> {
    let mut axes: Vec<(usize, isize)> = Vec::with_capacity(shape.len());
    for (&length, &stride) in shape.iter().zip(strides) {
        match axes.last_mut() {
            _ if length == 1 => {}
            Some((outer, outer_stride)) if *outer_stride == stride * length as isize => {
                *outer *= length;
                *outer_stride = stride;
            }
            _ => axes.push((length, stride)),
        }
    }
    axes
}

/// Where the flat index over `axes` starts.
fn place(start: isize, axes: &[(usize, isize)], mut index: usize) -> isize {
    let mut place = start;
    for (length, stride) in axes.iter().rev() {
        place += (index % length) as isize * stride;
        index /= length;
    }
    place
}

fn read_row<T: Plain>(source: &[T], start: isize, stride: isize, output: &mut [T]) {
    match stride {
        0 => output.fill(source[start as usize]),
        1 => output.copy_from_slice(&source[start as usize..start as usize + output.len()]),
        _ => {
            let mut place = start;
            for slot in output {
                *slot = source[place as usize];
                place += stride;
            }
        }
    }
}

/// Rows of `output` have `columns` elements, `stride` apart in the source, and start next to each other there: square
/// blocks keep both sides in the cache.
fn transpose_blocked<T: Plain>(source: &[T], start: isize, stride: isize, columns: usize, output: &mut [T]) {
    const SIDE: usize = 16;
    let rows = output.len() / columns;
    for first_row in (0..rows).step_by(SIDE) {
        for first_column in (0..columns).step_by(SIDE) {
            for row in first_row..(first_row + SIDE).min(rows) {
                for column in first_column..(first_column + SIDE).min(columns) {
                    let place = start + row as isize + column as isize * stride;
                    output[row * columns + column] = source[place as usize];
                }
            }
        }
    }
}

fn slice(x: &View<'_>, starts: &[i64], steps: &[i64], output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    if output.bytes.is_empty() {
        return Ok(());
    }
    let mut first = 0;
    let mut strides = Vec::with_capacity(x.shape.len());
    for (axis, stride) in row_major(x.shape).into_iter().enumerate() {
        let last =
            (output.shape[axis] as i64 - 1).checked_mul(steps[axis]).and_then(|way| way.checked_add(starts[axis]));
        let inside = |place: i64| usize::try_from(place).is_ok_and(|place| place < x.shape[axis]);
        ensure(inside(starts[axis]) && last.is_some_and(inside), "a slice inside of its operand")?;
        first += starts[axis] as isize * stride as isize;
        // An axis of length 1 may have any step; it does not move.
        let step = if output.shape[axis] == 1 { 0 } else { steps[axis] as isize };
        strides.push(step * stride as isize);
    }
    gather(x, first, &strides, output)
}

/// The source index that lands at `place` along an axis, if any.
fn landing(place: usize, before: i64, step: i64, length: usize) -> Option<usize> {
    let way = (place as i64).checked_sub(before)?;
    let index = way.checked_div(step)?;
    let index = usize::try_from(index).ok().filter(|&index| index < length)?;
    (way.checked_rem(step) == Some(0)).then_some(index)
}

fn pad<T: Plain>(
    x: &[T],
    from: &[usize],
    before: &[i64],
    steps: &[i64],
    filler: T,
    to: &[usize],
    output: &mut [T],
) -> Result<(), RunErrorKind> {
    let Some((&row, outer)) = to.split_last() else {
        output.copy_from_slice(x);
        return Ok(());
    };
    let inner = outer.len();
    let (before_inner, step_inner, length) = (before[inner], steps[inner], from[inner]);
    // Where each element of a row comes from is the same for all rows.
    let sources: Vec<Option<usize>> = (0..row).map(|place| landing(place, before_inner, step_inner, length)).collect();
    let strides = row_major(from);
    let plain = step_inner == 1;
    let run = sources.iter().position(Option::is_some).map(|first| {
        let count = sources.iter().flatten().count();
        (first, sources[first].unwrap_or(0), count)
    });
    let rows = (TASK / row.max(1)).max(1);
    output.par_chunks_mut((rows * row).max(1)).enumerate().for_each(|(task, output)| {
        for (index, output) in output.chunks_mut(row).enumerate() {
            output.fill(filler);
            let mut rest = task * rows + index;
            let mut start = Some(0);
            for axis in (0..inner).rev() {
                let source = landing(rest % to[axis], before[axis], steps[axis], from[axis]);
                start = start.zip(source).map(|(start, source)| start + source * strides[axis]);
                rest /= to[axis];
            }
            let Some(start) = start else { continue };
            match run {
                Some((first, source, count)) if plain => {
                    output[first..first + count].copy_from_slice(&x[start + source..start + source + count]);
                }
                _ => {
                    for (slot, source) in output.iter_mut().zip(&sources) {
                        if let Some(source) = source {
                            *slot = x[start + source];
                        }
                    }
                }
            }
        }
    });
    Ok(())
}

fn concat(axis: usize, inputs: &[View<'_>], output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    let (outer, _, inner) = around(output.shape, axis)?;
    let size = output.dtype.size();
    let mut rows = Vec::with_capacity(inputs.len());
    for input in inputs {
        let (before, length, after) = around(input.shape, axis)?;
        ensure((before, after) == (outer, inner), "operands that continue each other")?;
        rows.push(length * after * size);
    }
    let whole: usize = rows.iter().sum();
    ensure(whole * outer == output.bytes.len(), "operands that fill the result")?;
    if whole == 0 {
        return Ok(());
    }
    output.bytes.par_chunks_mut(whole).enumerate().for_each(|(index, output)| {
        let mut filled = 0;
        for (input, row) in inputs.iter().zip(&rows) {
            output[filled..filled + row].copy_from_slice(&input.bytes[index * row..(index + 1) * row]);
            filled += row;
        }
    });
    Ok(())
}
