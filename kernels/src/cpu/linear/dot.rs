//! Batched contraction as matrix products.

use lrpc_ir::ops::Dot;
use rayon::prelude::*;

use super::{Bias, tile, write_tile};
use crate::cpu::gemm::{Matrix, Shared};
use crate::cpu::movement::gather_strided;
use crate::cpu::real::Real;
use crate::cpu::view::{View, ViewMut, count, ensure, row_major};
use crate::error::RunErrorKind;

/// Depth after which a partial sum of the matrix-vector product is added to the result.
const DEPTH: usize = 256;
/// Columns that one task of the matrix-vector product computes.
const COLUMNS: usize = 1024;

/// An operand as a list of equally strided matrices.
struct Side<'a, T: Real> {
    data: std::borrow::Cow<'a, [T]>,
    /// Where the matrix of each batch index starts.
    starts: Vec<usize>,
    free: (usize, usize),
    contract: (usize, usize),
}

impl<'a, T: Real> Side<'a, T> {
    fn new(view: &View<'a>, batch: &[usize], free: &[usize], contract: &[usize]) -> Result<Side<'a, T>, RunErrorKind> {
        let data = view.values::<T>()?;
        let inside = batch.iter().chain(free).chain(contract).all(|&axis| axis < view.shape.len());
        ensure(inside, "axes of a contraction exist")?;
        let strides = row_major(view.shape);
        if let (Some(free), Some(contract)) =
            (collapse(view.shape, &strides, free), collapse(view.shape, &strides, contract))
        {
            return Ok(Side { data: data.into(), starts: offsets(view.shape, &strides, batch), free, contract });
        }
        let order: Vec<usize> = batch.iter().chain(free).chain(contract).copied().collect();
        let shape: Vec<usize> = order.iter().map(|&axis| view.shape[axis]).collect();
        let from: Vec<isize> = order.iter().map(|&axis| strides[axis] as isize).collect();
        let mut copy = vec![T::ZERO; data.len()];
        gather_strided(data, 0, &from, &shape, &mut copy)?;
        let size = |axes: &[usize]| axes.iter().map(|&axis| view.shape[axis]).product::<usize>();
        let (rows, columns) = (size(free), size(contract));
        let starts = (0..size(batch)).map(|index| index * rows * columns).collect();
        Ok(Side { data: copy.into(), starts, free: (rows, columns), contract: (columns, 1) })
    }

    /// The matrix of a batch index: one row per free index, one column per contracted index.
    fn matrix(&self, index: usize) -> Result<Matrix<'_, T>, RunErrorKind> {
        let data = self.starts.get(index).and_then(|&start| self.data.get(start..));
        let data = data.ok_or_else(|| RunErrorKind::plan("a batch index outside of an operand"))?;
        let ((rows, row_stride), (columns, column_stride)) = (self.free, self.contract);
        Ok(Matrix { data, rows, columns, row_stride, column_stride })
    }
}

/// Axes as one of a length and a distance, if their elements are evenly spaced.
fn collapse(shape: &[usize], strides: &[usize], axes: &[usize]) -> Option<(usize, usize)> {
    let mut merged = (1, 1);
    for &axis in axes.iter().rev().filter(|&&axis| shape[axis] != 1) {
        let (length, stride) = (shape[axis], strides[axis]);
        merged = match merged {
            (1, _) => (length, stride),
            (inner, distance) if stride == inner * distance => (inner * length, distance),
            _ => return None,
        };
    }
    Some(merged)
}

/// Where each index over `axes` starts, in row-major order of these axes.
fn offsets(shape: &[usize], strides: &[usize], axes: &[usize]) -> Vec<usize> {
    axes.iter().fold(vec![0], |starts, &axis| {
        starts.iter().flat_map(|start| (0..shape[axis]).map(move |index| start + index * strides[axis])).collect()
    })
}

/// The contraction of `a` and `b`.
pub(super) fn run<T: Real>(
    dot: &Dot,
    a: &View<'_>,
    b: &View<'_>,
    bias: Option<&[T]>,
    output: &mut ViewMut<'_>,
) -> Result<(), RunErrorKind> {
    let (left, right): (Vec<usize>, Vec<usize>) = dot.batch.iter().copied().unzip();
    let (left_contract, right_contract): (Vec<usize>, Vec<usize>) = dot.contract.iter().copied().unzip();
    let a = Side::<T>::new(a, &left, &dot.left_free(a.shape.len()), &left_contract)?;
    let b = Side::<T>::new(b, &right, &dot.right_free(b.shape.len()), &right_contract)?;
    let (rows, columns, batch) = (a.free.0, b.free.0, a.starts.len());
    let fits = batch == b.starts.len()
        && a.contract.0 == b.contract.0
        && count(output.shape) == batch * rows * columns
        && bias.is_none_or(|bias| bias.len() == columns);
    ensure(fits, "operands of a contraction fit each other")?;
    let output = output.values::<T>()?;
    if output.is_empty() {
        return Ok(());
    }
    if rows == 1 || (columns == 1 && bias.is_none()) {
        return output.par_chunks_mut(rows * columns).enumerate().try_for_each(|(index, out)| {
            let (a, b) = (a.matrix(index)?, b.matrix(index)?);
            if rows == 1 {
                vector_product(a, b, bias, out)
            } else {
                vector_product(b, a, None, out)
            }
            Ok(())
        });
    }
    let (tall, wide) = tile(rows, columns, batch);
    let (down, across) = (rows.div_ceil(tall), columns.div_ceil(wide));
    let shared = Shared::new(output);
    (0..batch * down * across).into_par_iter().try_for_each(|task| {
        let (index, row, column) = (task / (down * across), task / across % down * tall, task % across * wide);
        let (tall, wide) = (tall.min(rows - row), wide.min(columns - column));
        let (a, b) = (a.matrix(index)?, b.matrix(index)?.transposed());
        let blocks = a.block((row, tall), (0, a.columns)).zip(b.block((0, b.rows), (column, wide)));
        let (a, b) = blocks.ok_or_else(|| RunErrorKind::plan("a tile lies outside of its matrix"))?;
        let bias = bias.and_then(|bias| bias.get(column..column + wide)).map_or(Bias::None, Bias::PerColumn);
        write_tile(&shared, (index * rows + row) * columns + column, columns, a, b, bias)
    })
}

/// `out = a·bᵀ` for a matrix `a` of one row; `b` has one row per element of `out`. The larger operand is read once, in
/// its own order.
fn vector_product<T: Real>(a: Matrix<'_, T>, b: Matrix<'_, T>, bias: Option<&[T]>, out: &mut [T]) {
    let vector: Vec<T> = (0..a.columns).map(|depth| a.data[depth * a.column_stride]).collect();
    out.par_chunks_mut(COLUMNS).enumerate().for_each(|(task, out)| {
        let first = task * COLUMNS;
        match bias.and_then(|bias| bias.get(first..first + out.len())) {
            Some(bias) => out.copy_from_slice(bias),
            None => out.fill(T::ZERO),
        }
        if b.column_stride == 1 {
            for (row, out) in out.iter_mut().enumerate() {
                let row = &b.data[(first + row) * b.row_stride..][..vector.len()];
                let pieces = vector.chunks(DEPTH).zip(row.chunks(DEPTH));
                pieces.for_each(|(vector, row)| *out += inner_product(vector, row));
            }
            return;
        }
        for (piece, vector) in vector.chunks(DEPTH).enumerate() {
            add_columns(vector, b, first * b.row_stride + piece * DEPTH * b.column_stride, out);
        }
    });
}

/// A sum of products in sixteen interleaved partial sums, which the compiler turns into vector registers.
fn inner_product<T: Real>(a: &[T], b: &[T]) -> T {
    let (a_blocks, a_rest) = a.as_chunks::<16>();
    let (b_blocks, b_rest) = b.as_chunks::<16>();
    let mut sums = [T::ZERO; 16];
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += *a * *b;
        }
    }
    let rest = a_rest.iter().zip(b_rest).fold(T::ZERO, |sum, (a, b)| sum + *a * *b);
    sums.iter().fold(rest, |sum, lane| sum + *lane)
}

/// Adds `Σ vector[d]·b[·, d]` to `out`, where neighbours of one column of `b` are `b.column_stride` apart.
fn add_columns<T: Real>(vector: &[T], b: Matrix<'_, T>, start: usize, out: &mut [T]) {
    let mut sums = [T::ZERO; COLUMNS];
    for (depth, factor) in vector.iter().enumerate() {
        let values = &b.data[start + depth * b.column_stride..];
        if b.row_stride == 1 {
            for (sum, value) in sums.iter_mut().zip(&values[..out.len()]) {
                *sum += *factor * *value;
            }
        } else {
            for (sum, value) in sums[..out.len()].iter_mut().zip(values.iter().step_by(b.row_stride.max(1))) {
                *sum += *factor * *value;
            }
        }
    }
    out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
}
