//! What an interpolation reads, and with which weights.

use super::pool::{Coordinates, Interpolation, Resize, Rounding};

/// For each output place along spatial axis `axis` the input places that it reads and their weights, as the ONNX
/// specification of Resize defines them. Places outside of the input are moved to its edge, and equal places are merged.
///
/// `input` and `output` are the axis lengths of the forward operation. An empty input axis has no taps.
pub fn resize_taps(resize: &Resize, axis: usize, input: usize, output: usize) -> Vec<Vec<(usize, f64)>> {
    if input == 0 {
        return vec![Vec::new(); output];
    }
    let stated = resize.scales.get(axis).map(|scale| scale.0).filter(|scale| *scale > 0.0);
    let scale = stated.unwrap_or(output as f64 / input as f64);
    let axes = resize.region.len() / 2;
    let end = |at: usize| resize.region.get(at).map_or(0.0, |end| end.0);
    let ends = (end(axis), end(axes + axis));
    let crops = resize.coordinates == Coordinates::CropAndResize;
    let taps = |place: usize| {
        let position = source_position(resize.coordinates, place as f64, scale, [input, output], ends);
        if crops && !(0.0..=input as f64 - 1.0).contains(&position) {
            return Vec::new();
        }
        taps_at(resize, position, scale, input)
    };
    (0..output).map(taps).collect()
}

/// The place in the input, as a real number, of place `x` of the output. Where corners are aligned the result is as long
/// as the input times the scale, which need not be whole (the cases of ONNX's backend tests; onnxruntime rounds it down).
fn source_position(
    coordinates: Coordinates,
    x: f64,
    scale: f64,
    [input, output]: [usize; 2],
    (start, end): (f64, f64),
) -> f64 {
    let half_pixel = (x + 0.5) / scale - 0.5;
    let (input, output) = (input as f64, output as f64);
    let length = scale * input;
    match coordinates {
        Coordinates::HalfPixel => half_pixel,
        Coordinates::PytorchHalfPixel if output <= 1.0 => 0.0,
        Coordinates::PytorchHalfPixel => half_pixel,
        Coordinates::HalfPixelSymmetric => {
            let adjustment = output / (scale * input);
            input / 2.0 * (1.0 - adjustment) + half_pixel
        }
        Coordinates::AlignCorners if output <= 1.0 => 0.0,
        Coordinates::AlignCorners => x * (input - 1.0) / (length - 1.0),
        Coordinates::Asymmetric => x / scale,
        Coordinates::CropAndResize if output <= 1.0 => (start + (end - start) / 2.0) * (input - 1.0),
        Coordinates::CropAndResize => start * (input - 1.0) + x * (end - start) * (input - 1.0) / (length - 1.0),
    }
}

fn taps_at(resize: &Resize, position: f64, scale: f64, input: usize) -> Vec<(usize, f64)> {
    if resize.interpolation == Interpolation::Nearest {
        let nearest = match resize.rounding {
            Rounding::PreferFloor => (position - 0.5).ceil(),
            Rounding::PreferCeil => (position + 0.5).floor(),
            Rounding::Floor => position.floor(),
            Rounding::Ceil => position.ceil(),
        };
        return vec![(inside(nearest, input), 1.0)];
    }
    let (start, weights) = kernel(resize, position, if resize.antialias { scale.min(1.0) } else { 1.0 });
    let is_inside = |place: f64| place >= 0.0 && place < input as f64;
    let places = weights.into_iter().enumerate().map(|(step, weight)| (start + step as f64, weight));
    let kept: Vec<(f64, f64)> = places.filter(|(place, _)| !resize.exclude_outside || is_inside(*place)).collect();
    let total: f64 = if resize.exclude_outside { kept.iter().map(|(_, weight)| weight).sum() } else { 1.0 };
    let mut taps: Vec<(usize, f64)> = Vec::with_capacity(kept.len());
    for (place, weight) in kept {
        let (place, weight) = (inside(place, input), weight / total);
        match taps.last_mut() {
            _ if weight == 0.0 => {}
            Some((last, sum)) if *last == place => *sum += weight,
            _ => taps.push((place, weight)),
        }
    }
    taps
}

/// The first place that is read around a position, and the weights from there on, which sum to 1. `narrowing` below 1
/// spreads the weights over as many times more places.
fn kernel(resize: &Resize, position: f64, narrowing: f64) -> (f64, Vec<f64>) {
    let first = position.floor();
    let fraction = position - first;
    let cubic = resize.interpolation == Interpolation::Cubic;
    if narrowing == 1.0 {
        let weights =
            if cubic { cubic_weights(resize.cubic.0, fraction).to_vec() } else { vec![1.0 - fraction, fraction] };
        return (if cubic { first - 1.0 } else { first }, weights);
    }
    let reach = if cubic { 2.0 } else { 1.0 } / narrowing;
    let (start, end) = ((position - reach).ceil(), (position + reach).floor());
    let weight = |place: f64| {
        let distance = (place - position).abs() * narrowing;
        if cubic { cubic_weight(resize.cubic.0, distance) } else { (1.0 - distance).max(0.0) }
    };
    let count = (end - start) as usize + 1;
    let weights: Vec<f64> = (0..count).map(|step| weight(start + step as f64)).collect();
    let total: f64 = weights.iter().sum();
    (start, weights.into_iter().map(|weight| weight / total).collect())
}

/// The nearest place inside of the input.
fn inside(place: f64, input: usize) -> usize {
    place.clamp(0.0, input as f64 - 1.0) as usize
}

/// Weights of the four places around a position `fraction` after the second.
fn cubic_weights(a: f64, fraction: f64) -> [f64; 4] {
    [1.0 + fraction, fraction, 1.0 - fraction, 2.0 - fraction].map(|distance| cubic_weight(a, distance))
}

/// The weight of a place at that distance (Keys 1981, with coefficient `a`).
fn cubic_weight(a: f64, x: f64) -> f64 {
    match x {
        x if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
        x if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Float;

    fn resize(interpolation: Interpolation, coordinates: Coordinates) -> Resize {
        Resize {
            interpolation,
            coordinates,
            rounding: Rounding::PreferFloor,
            cubic: Float(-0.75),
            exclude_outside: false,
            antialias: false,
            region: Vec::new(),
            scales: Vec::new(),
            spatial: Vec::new(),
        }
    }

    /// Interpolates `x` to `output` elements.
    fn apply(resize: &Resize, x: &[f64], output: usize) -> Vec<f64> {
        let taps = resize_taps(resize, 0, x.len(), output);
        taps.iter().map(|taps| taps.iter().map(|(place, weight)| x[*place] * weight).sum()).collect()
    }

    #[track_caller]
    fn check(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} against {expected:?}");
    }

    #[test]
    fn linear_examples_of_the_specification() {
        let half = resize(Interpolation::Linear, Coordinates::HalfPixel);
        check(&apply(&half, &[1.0, 2.0], 4), &[1.0, 1.25, 1.75, 2.0]);
        let corners = resize(Interpolation::Linear, Coordinates::AlignCorners);
        check(&apply(&corners, &[1.0, 2.0], 4), &[1.0, 4.0 / 3.0, 5.0 / 3.0, 2.0]);
        let stated = Resize { scales: vec![Float(0.6)], ..half };
        check(&apply(&stated, &[1.0, 2.0, 3.0, 4.0], 2), &[1.333_333_3, 3.0]);
    }

    #[test]
    fn spread_weights_and_regions_of_the_specification() {
        let half = resize(Interpolation::Linear, Coordinates::HalfPixel);
        let spread = Resize { antialias: true, scales: vec![Float(0.6)], ..half };
        check(&apply(&spread, &[1.0, 2.0, 3.0, 4.0], 2), &[1.375, 3.0]);
        let crop = Resize {
            region: vec![Float(0.5), Float(1.5)],
            ..resize(Interpolation::Linear, Coordinates::CropAndResize)
        };
        check(&apply(&crop, &[1.0, 2.0, 3.0], 3), &[2.0, 3.0, 0.0]);
        check(&apply(&crop, &[1.0, 2.0, 3.0], 1), &[3.0]);
        let corners = Resize { scales: vec![Float(0.6)], ..resize(Interpolation::Linear, Coordinates::AlignCorners) };
        check(&apply(&corners, &[1.0, 2.0, 3.0, 4.0], 2), &[1.0, 22.0 / 7.0]);
    }

    #[test]
    fn cubic_weights_sum_to_one_and_hit_the_elements() {
        let half = resize(Interpolation::Cubic, Coordinates::HalfPixel);
        let sums =
            resize_taps(&half, 0, 5, 8).iter().map(|taps| taps.iter().map(|tap| tap.1).sum()).collect::<Vec<f64>>();
        check(&sums, &[1.0; 8]);
    }

    #[test]
    fn nearest_rounds_as_told() {
        let x = [10.0, 20.0, 30.0];
        for (rounding, expected) in [
            (Rounding::Floor, [10.0, 10.0, 20.0, 20.0, 30.0, 30.0]),
            (Rounding::Ceil, [10.0, 20.0, 20.0, 30.0, 30.0, 30.0]),
            (Rounding::PreferFloor, [10.0, 10.0, 20.0, 20.0, 30.0, 30.0]),
            (Rounding::PreferCeil, [10.0, 20.0, 20.0, 30.0, 30.0, 30.0]),
        ] {
            let resize = Resize { rounding, ..resize(Interpolation::Nearest, Coordinates::Asymmetric) };
            check(&apply(&resize, &x, 6), &expected);
        }
    }

    #[test]
    fn taps_outside_may_be_left_out() {
        let resize = Resize { exclude_outside: true, ..resize(Interpolation::Linear, Coordinates::HalfPixel) };
        assert_eq!(resize_taps(&resize, 0, 2, 4)[0], [(0, 1.0)]);
        assert_eq!(resize_taps(&resize, 0, 0, 2), vec![Vec::new(); 2]);
    }
}
