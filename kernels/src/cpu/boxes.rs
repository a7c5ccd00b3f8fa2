//! Choice of boxes that do not overlap.

use lrpc_ir::DType;
use rayon::prelude::*;

use super::real::Real;
use super::view::{View, ViewMut, ensure, for_real, operands};
use crate::error::RunErrorKind;

/// For each sample and class the boxes that are chosen, best first, and −1 behind them.
pub(super) fn run(inputs: &[View<'_>], output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    let [corners, scores, most, overlap, least] = operands(inputs)?;
    let &[samples, classes, boxes] = output.shape else { return Err(RunErrorKind::plan("scores have three axes")) };
    let fits = corners.shape == [samples, boxes, 4] && scores.shape == output.shape && output.dtype == DType::I64;
    ensure(fits && corners.dtype == scores.dtype && overlap.dtype == scores.dtype, "boxes with their scores")?;
    let most = most.values::<i64>()?.first().copied().unwrap_or(0);
    let most = usize::try_from(most).unwrap_or(0).min(boxes);
    for_real!(scores.dtype, "non_max_suppression", T => {
        let (corners, scores): (&[T], &[T]) = (corners.values()?, scores.values()?);
        let limit = |view: &View<'_>| view.values::<T>().map(|values| values.first().copied().unwrap_or(T::ZERO));
        let (overlap, least) = (limit(overlap)?, limit(least)?);
        let rows = output.values::<i64>()?.par_chunks_mut(boxes.max(1)).zip(scores.par_chunks(boxes.max(1)));
        rows.enumerate().for_each(|(row, (chosen, scores))| {
            let first = row / classes.max(1) * boxes * 4;
            choose(&corners[first..first + boxes * 4], scores, [overlap, least], &mut chosen[..], most);
        });
        Ok(())
    })
}

/// Goes through the boxes from the best score down; a box that overlaps a chosen one by more than the limit is left out. Of
/// equal scores the first box comes first.
fn choose<T: Real>(corners: &[T], scores: &[T], [overlap, least]: [T; 2], chosen: &mut [i64], most: usize) {
    chosen.fill(-1);
    let mut order: Vec<usize> = (0..scores.len()).filter(|&place| scores[place] > least).collect();
    order.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap_or(std::cmp::Ordering::Equal));
    let of = |place: usize| Rectangle::new(&corners[place * 4..place * 4 + 4]);
    let mut kept: Vec<Rectangle<T>> = Vec::with_capacity(most);
    for place in order {
        if kept.len() >= most {
            return;
        }
        let candidate = of(place);
        let suppressed = kept.iter().any(|other| candidate.overlap(other) > overlap);
        if !suppressed {
            chosen[kept.len()] = place as i64;
            kept.push(candidate);
        }
    }
}

struct Rectangle<T> {
    low: [T; 2],
    high: [T; 2],
}

impl<T: Real> Rectangle<T> {
    /// From any two corners that lie across.
    fn new(corners: &[T]) -> Rectangle<T> {
        let ordered = |a: T, b: T| if a < b { (a, b) } else { (b, a) };
        let ((top, bottom), (left, right)) = (ordered(corners[0], corners[2]), ordered(corners[1], corners[3]));
        Rectangle { low: [top, left], high: [bottom, right] }
    }

    fn area(&self) -> T {
        (self.high[0] - self.low[0]) * (self.high[1] - self.low[1])
    }

    /// The common area over the area of both together; 0 where there is none.
    fn overlap(&self, other: &Rectangle<T>) -> T {
        let common = |axis: usize| {
            let (a, b) = (self.low[axis], other.low[axis]);
            let low = if a > b { a } else { b };
            let (a, b) = (self.high[axis], other.high[axis]);
            (if a < b { a } else { b }) - low
        };
        let (height, width) = (common(0), common(1));
        let is_empty = !(height > T::ZERO && width > T::ZERO);
        if is_empty { T::ZERO } else { height * width / (self.area() + other.area() - height * width) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_overlapping_boxes_is_chosen() {
        // Two boxes that overlap by a third, one apart, one inside of the first, given by its other corners.
        let corners = [0.0, 0.0, 1.0, 1.0, 0.0, 0.5, 1.0, 1.5, 3.0, 3.0, 4.0, 4.0, 1.0, 1.0, 0.1, 0.1_f64];
        let pick = |scores: [f64; 4], limits, most| {
            let mut chosen = [9; 4];
            choose(&corners, &scores, limits, &mut chosen, most);
            chosen
        };
        assert_eq!(pick([0.9, 0.8, 0.7, 0.95], [0.5, 0.0], 4), [3, 1, 2, -1]);
        assert_eq!(pick([0.9, 0.8, 0.7, 0.1], [0.3, 0.0], 4), [0, 2, -1, -1]);
        assert_eq!(pick([0.9, 0.8, 0.7, 0.1], [0.5, 0.75], 4), [0, 1, -1, -1]);
        assert_eq!(pick([0.5; 4], [1.0, 0.0], 2), [0, 1, -1, -1]);
    }
}
