//! The matrix product, single-threaded, over strided views: callers cut work into pieces and run those in parallel, so
//! that the same plan gives the same bits for every number of threads.

#![allow(unsafe_code, reason = "the product works on raw pointers; bounds are checked before each call")]

use std::marker::PhantomData;

use super::real::Real;
use crate::error::RunErrorKind;

/// A matrix to read: element `(r, c)` is `data[r·row_stride + c·column_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    pub data: &'a [T],
    pub rows: usize,
    pub columns: usize,
    pub row_stride: usize,
    pub column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// A matrix whose rows follow each other.
    pub fn rows_of(data: &'a [T], rows: usize, columns: usize) -> Matrix<'a, T> {
        Matrix { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// The same elements with rows and columns exchanged.
    pub fn transposed(self) -> Matrix<'a, T> {
        Matrix {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// The block of the given rows and columns (start, count).
    pub fn block(self, rows: (usize, usize), columns: (usize, usize)) -> Option<Matrix<'a, T>> {
        let inside = rows.0 + rows.1 <= self.rows && columns.0 + columns.1 <= self.columns;
        let start = rows.0 * self.row_stride + columns.0 * self.column_stride;
        let data = if rows.1 == 0 || columns.1 == 0 { &[] } else { self.data.get(start..)? };
        inside.then_some(Matrix { data, rows: rows.1, columns: columns.1, ..self })
    }

    fn fits(&self) -> bool {
        last(self.rows, self.columns, self.row_stride, self.column_stride).is_none_or(|last| last < self.data.len())
    }
}

/// The place of the last element, `None` where there is none.
fn last(rows: usize, columns: usize, row_stride: usize, column_stride: usize) -> Option<usize> {
    Some(rows.checked_sub(1)? * row_stride + columns.checked_sub(1)? * column_stride)
}

/// A row-major tensor that several tasks write at once, each to places of its own.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a, T> {
    pointer: *mut T,
    length: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: the pointer comes from an exclusive borrow that lives as long as `'a`; whoever writes through it promises, in
// `Shared::block`, that no two tasks touch the same places.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T: Real> Shared<'a, T> {
    /// Shares `data` between tasks.
    pub fn new(data: &'a mut [T]) -> Shared<'a, T> {
        Shared { pointer: data.as_mut_ptr(), length: data.len(), owner: PhantomData }
    }

    /// A block of rows of `columns` neighbouring elements, the first at `start`, one every `row_stride` elements.
    ///
    /// # Safety
    /// While the block lives, nobody else may hold a block that touches its elements.
    pub unsafe fn block(
        &self,
        start: usize,
        rows: usize,
        columns: usize,
        row_stride: usize,
    ) -> Result<Block<'a, T>, RunErrorKind> {
        let end = last(rows, columns, row_stride, 1).map_or(start, |last| start + last + 1);
        if end > self.length || (rows > 1 && row_stride < columns) {
            return Err(RunErrorKind::plan("a block lies outside of its result"));
        }
        // SAFETY: `start <= end <= length`, so the pointer stays inside (or one past the end of) the allocation.
        let pointer = unsafe { self.pointer.add(start) };
        Ok(Block { pointer, rows, columns, row_stride, owner: PhantomData })
    }
}

/// Rows of a result that one task writes.
pub(crate) struct Block<'a, T> {
    pointer: *mut T,
    rows: usize,
    columns: usize,
    row_stride: usize,
    owner: PhantomData<&'a mut T>,
}

impl<T: Real> Block<'_, T> {
    /// One row.
    pub fn row(&mut self, row: usize) -> &mut [T] {
        let columns = if row < self.rows { self.columns } else { 0 };
        let start = if columns > 0 { row * self.row_stride } else { 0 };
        // SAFETY: `Shared::block` checked that all rows lie inside of the allocation, whose elements nobody else
        // touches; the borrow of `self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.add(start), columns) }
    }

    /// Every row becomes a copy of `values`.
    pub fn fill_rows(&mut self, values: &[T]) {
        (0..self.rows).for_each(|row| self.row(row).copy_from_slice(values));
    }

    /// `self = a·b`, or `self += a·b` where `accumulate` holds.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn product(&mut self, a: Matrix<'_, T>, b: Matrix<'_, T>, accumulate: bool) -> Result<(), RunErrorKind> {
        let fit = a.rows == self.rows && b.columns == self.columns && a.columns == b.rows && a.fits() && b.fits();
        if !fit {
            return Err(RunErrorKind::plan("matrices do not fit each other"));
        }
        if self.rows == 0 || self.columns == 0 {
            return Ok(());
        }
        if a.columns == 0 {
            if !accumulate {
                (0..self.rows).for_each(|row| self.row(row).fill(T::ZERO));
            }
            return Ok(());
        }
        // SAFETY: `fits` holds for both operands, which are non-empty shared slices, so every element that the product
        // reads lies inside of them. The block's places lie inside of its allocation (`Shared::block`) and belong to
        // this task alone, so they alias neither operand. All sizes are at most those of slices, hence fit `isize`.
        unsafe {
            gemm::gemm(
                self.rows,
                self.columns,
                a.columns,
                self.pointer,
                1,
                self.row_stride as isize,
                accumulate,
                a.data.as_ptr(),
                a.column_stride as isize,
                a.row_stride as isize,
                b.data.as_ptr(),
                b.column_stride as isize,
                b.row_stride as isize,
                T::ONE,
                T::ONE,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
        Ok(())
    }
}
