//! Contraction and convolution.

mod convolution;
mod direct;
mod dot;

use lrpc_ir::ops::Linear;

use super::gemm::{Matrix, Shared};
use super::real::Real;
use super::view::{View, ViewMut, for_real};
use crate::error::RunErrorKind;

/// A linear operation: `(x, weight)` or `(x, weight, bias)`.
pub(super) fn run(op: &Linear, inputs: &[View<'_>], output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    let (x, weight, bias) = match inputs {
        [x, weight] => (x, weight, None),
        [x, weight, bias] => (x, weight, Some(bias)),
        _ => return Err(RunErrorKind::plan("a linear operation has two or three operands")),
    };
    for_real!(output.dtype, op.mnemonic(), T => {
        let bias = bias.map(View::values::<T>).transpose()?;
        match op {
            Linear::Dot(dot) => dot::run::<T>(dot, x, weight, bias, output),
            Linear::Conv(geometry) => convolution::forward::<T>(geometry, x, weight, bias, output),
            Linear::ConvTranspose(geometry) => convolution::transpose::<T>(geometry, x, weight, bias, output),
        }
    })
}

/// What is added to a matrix product.
#[derive(Clone, Copy)]
enum Bias<'a, T> {
    None,
    PerColumn(&'a [T]),
    PerRow(&'a [T]),
}

/// Computes one tile of a result whose rows are `stride` elements apart.
///
/// Every caller partitions its result's rows and columns among tasks: two tiles of one result never overlap.
#[allow(unsafe_code, reason = "tiles are written in parallel")]
fn write_tile<T: Real>(
    shared: &Shared<'_, T>,
    start: usize,
    stride: usize,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    bias: Bias<'_, T>,
) -> Result<(), RunErrorKind> {
    // SAFETY: the callers' tasks are the cells of a partition of the result's rows and columns, so that no two blocks
    // that are alive at the same time share an element.
    let mut block = unsafe { shared.block(start, a.rows, b.columns, stride)? };
    match bias {
        Bias::None => {}
        Bias::PerColumn(bias) => block.fill_rows(bias),
        Bias::PerRow(bias) => bias.iter().enumerate().for_each(|(row, bias)| block.row(row).fill(*bias)),
    }
    block.product(a, b, !matches!(bias, Bias::None))
}

/// Rows and columns of the tiles that tasks compute: about eight tiles in all where the product is large enough. They
/// depend on the shape alone, so that they are the same for every number of threads.
fn tile(rows: usize, columns: usize, batch: usize) -> (usize, usize) {
    let (mut tall, mut wide) = (rows.min(1024), columns.min(1024));
    while batch * rows.div_ceil(tall) * columns.div_ceil(wide) < 8 && tall * wide > 64 * 64 {
        if tall > wide {
            tall = tall.div_ceil(2).next_multiple_of(16);
        } else {
            wide = wide.div_ceil(2).next_multiple_of(16);
        }
    }
    (tall, wide)
}
