//! Pooling: averages as explicit matrices, maxima with their winners.

use crate::linear::Dense;
use crate::share::{sign, stabilise};
use crate::window::{Window, prepend, ravel};
use ndarray::{Array1, Dimension, IxDyn, indices};

/// The matrix of average pooling (ONNX `AveragePool`) on one sample of shape `[channels, spatial…]`.
///
/// The divisor counts the cells inside the input, or with `count_include_pad` also those in its padding; cells that hang
/// over the padded end never count.
pub fn dense_of_average_pool(input_shape: &[usize], window: &Window, count_include_pad: bool) -> Dense {
    let spatial = &input_shape[1..];
    let output_spatial = window.output_size(spatial);
    let output_shape = prepend(input_shape[0], &output_spatial);
    let mut dense = Dense::empty(input_shape.iter().product(), &output_shape);
    for position in indices(IxDyn(&output_spatial)) {
        let position = position.slice().to_vec();
        let cells = window.cells(&position, spatial);
        let counted = cells.iter().filter(|cell| cell.input.is_some() || count_include_pad && cell.in_padded_input);
        let weight = 1.0 / counted.count() as f64;
        for at in cells.iter().filter_map(|cell| cell.input.as_ref()) {
            for channel in 0..input_shape[0] {
                let from = ravel(&prepend(channel, at), input_shape);
                let to = ravel(&prepend(channel, &position), &output_shape);
                dense.connect(from, to, weight);
            }
        }
    }
    dense
}

/// For every output of max pooling, in row-major order, the flat index of the first largest input under its window.
pub fn max_pool_winners(x: &Array1<f64>, input_shape: &[usize], window: &Window) -> Vec<usize> {
    let spatial = &input_shape[1..];
    let output_shape = prepend(input_shape[0], &window.output_size(spatial));
    let mut winners = Vec::new();
    for position in indices(IxDyn(&output_shape)) {
        let position = position.slice().to_vec();
        let mut winner: Option<usize> = None;
        for cell in window.cells(&position[1..], spatial) {
            let Some(at) = cell.input else { continue };
            let candidate = ravel(&prepend(position[0], &at), input_shape);
            if winner.is_none_or(|best| x[candidate] > x[best]) {
                winner = Some(candidate);
            }
        }
        winners.extend(winner);
    }
    winners
}

/// Max pooling (ONNX `MaxPool`), flat.
pub fn max_pool(x: &Array1<f64>, input_shape: &[usize], window: &Window) -> Array1<f64> {
    max_pool_winners(x, input_shape, window).iter().map(|&winner| x[winner]).collect()
}

/// For every output of a window operation, in row-major order, the flat indices of all inputs under its window.
fn members(input_shape: &[usize], window: &Window) -> Vec<Vec<usize>> {
    let spatial = &input_shape[1..];
    let output_shape = prepend(input_shape[0], &window.output_size(spatial));
    let under = |position: IxDyn| -> Vec<usize> {
        let position = position.slice().to_vec();
        let cells = window.cells(&position[1..], spatial).into_iter().filter_map(|cell| cell.input);
        cells.map(|at| ravel(&prepend(position[0], &at), input_shape)).collect()
    };
    indices(IxDyn(&output_shape)).into_iter().map(under).collect()
}

/// Equal shares: each of the k inputs under a window takes `R/k`.
pub fn uniform_relevance(input_shape: &[usize], window: &Window, relevance: &Array1<f64>) -> Array1<f64> {
    let mut to_input = Array1::zeros(input_shape.iter().product::<usize>());
    for (under, &r) in members(input_shape, window).iter().zip(relevance) {
        under.iter().for_each(|&at| to_input[at] += r / under.len() as f64);
    }
    to_input
}

/// Shares in proportion, `x_i / S(Σ x) · R`, and what the stabiliser absorbed.
pub fn proportional_relevance(
    x: &Array1<f64>,
    input_shape: &[usize],
    window: &Window,
    relevance: &Array1<f64>,
    epsilon: f64,
) -> (Array1<f64>, f64) {
    let (mut to_input, mut lost) = (Array1::zeros(x.len()), 0.0);
    for (under, &r) in members(input_shape, window).iter().zip(relevance) {
        let sum: f64 = under.iter().map(|&at| x[at]).sum();
        let denominator = stabilise(sum, epsilon);
        if denominator == 0.0 {
            lost += r;
            continue;
        }
        under.iter().for_each(|&at| to_input[at] += x[at] / denominator * r);
        lost += epsilon * sign(sum) / denominator * r;
    }
    (to_input, lost)
}

/// Winner takes all: each output's relevance goes to the first largest input under its window.
pub fn max_pool_relevance(
    x: &Array1<f64>,
    input_shape: &[usize],
    window: &Window,
    relevance: &Array1<f64>,
) -> Array1<f64> {
    route(x.len(), &max_pool_winners(x, input_shape, window), relevance)
}

/// Sends each element of `relevance` to the input named for it; the inverse of any selection or movement.
pub fn route(n_in: usize, winners: &[usize], relevance: &Array1<f64>) -> Array1<f64> {
    assert_eq!(winners.len(), relevance.len());
    let mut to_input = Array1::zeros(n_in);
    for (&winner, &r) in winners.iter().zip(relevance) {
        to_input[winner] += r;
    }
    to_input
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_by_hand() {
        let (window, r) = (Window::new(&[2]), Array1::from_vec(vec![4.0, 6.0]));
        assert_eq!(uniform_relevance(&[1, 3], &window, &r).to_vec(), [2.0, 5.0, 3.0]);
        let x = Array1::from_vec(vec![1.0, 3.0, 0.0]);
        let (to_x, lost) = proportional_relevance(&x, &[1, 3], &window, &r, 0.0);
        assert_eq!((to_x.to_vec(), lost), (vec![1.0, 3.0 + 6.0, 0.0], 0.0));
    }
    use crate::rules::{BiasPolicy, epsilon};
    use crate::testing::{assert_close, vector};
    use ndarray::array;

    #[test]
    fn divisor_of_the_average() {
        let window = Window { strides: vec![2], pads: vec![1, 0], ceil_mode: true, ..Window::new(&[2]) };
        let without = dense_of_average_pool(&[1, 4], &window, false);
        assert_eq!(without.weight, array![[1.0, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 1.0]]);
        let with = dense_of_average_pool(&[1, 4], &window, true);
        assert_eq!(with.weight, array![[0.5, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 1.0]]);
    }

    #[test]
    fn average_conserves() {
        let window = Window { pads: vec![1, 1, 1, 1], dilations: vec![1, 2], ..Window::new(&[2, 2]) };
        let map = dense_of_average_pool(&[2, 4, 4], &window, true);
        let r = vector(map.bias.len(), 2.0);
        let shared = epsilon(&map, &vector(32, 1.0), &r, 1e-6, BiasPolicy::Include);
        assert_close(&[shared.total()], &[r.sum()]);
    }

    #[test]
    fn first_wins_on_ties_and_overlaps_add() {
        let (x, window) = (array![1.0, 5.0, 5.0, -1.0, -2.0], Window::new(&[2]));
        assert_eq!(max_pool_winners(&x, &[1, 5], &window), [1, 1, 2, 3]);
        let r = max_pool_relevance(&x, &[1, 5], &window, &array![1.0, 2.0, 4.0, 8.0]);
        assert_eq!(r, array![0.0, 3.0, 4.0, 8.0, 0.0]);
    }

    #[test]
    fn padding_never_wins() {
        let window = Window { pads: vec![1, 1], strides: vec![2], ..Window::new(&[2]) };
        assert_eq!(max_pool(&array![-3.0, -1.0], &[1, 2], &window), array![-3.0, -1.0]);
    }
}
