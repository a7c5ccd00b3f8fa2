//! Sums for the ledger: in `f64`, in a tree whose shape depends on the number of elements alone.

use rayon::prelude::*;

use super::real::Real;
use super::view::{View, ViewMut, ensure, for_real, operands};
use crate::error::RunErrorKind;

/// Elements of one leaf of the tree.
const LEAF: usize = 4096;

/// The sum of the operand's elements, or of their absolute values, into one `f64`.
pub(super) fn sum(absolute: bool, inputs: &[View<'_>], output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    let [x] = operands(inputs)?;
    let total = for_real!(x.dtype, "sum", T => Ok(tree::<T>(x.values()?, absolute)))?;
    let output = output.values::<f64>()?;
    ensure(output.len() == 1, "a sum into one number")?;
    output[0] = total;
    Ok(())
}

fn tree<T: Real>(x: &[T], absolute: bool) -> f64 {
    let mut sums: Vec<f64> = x.par_chunks(LEAF).map(|leaf| sum_leaf(leaf, absolute)).collect();
    while sums.len() > 1 {
        sums = sums.chunks(2).map(|pair| pair.iter().sum()).collect();
    }
    sums.first().copied().unwrap_or(0.0)
}

fn sum_leaf<T: Real>(leaf: &[T], absolute: bool) -> f64 {
    let mut lanes = [0.0; 8];
    for block in leaf.chunks(8) {
        for (lane, x) in lanes.iter_mut().zip(block) {
            *lane += if absolute { x.wide().abs() } else { x.wide() };
        }
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact_where_naive_ones_are_not() {
        let x: Vec<f32> = (0..100_003).map(|i| if i % 2 == 0 { 1e7 } else { -1e7 }).chain([0.25]).collect();
        assert_eq!(tree(&x, false), 1e7 + 0.25);
        assert_eq!(tree(&x, true), 1e7 * 100_003.0 + 0.25);
        assert_eq!(tree::<f64>(&[], false), 0.0);
    }
}
