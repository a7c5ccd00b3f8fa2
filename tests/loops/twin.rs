//! A loop against its naïve twin.

use lrpc_ir::Absorbed;
use lrpc_twins::recurrent::Recurrent;
use ndarray::{Array1, Array2, ArrayD, Axis, Ix2};

use crate::equality::RECURRENT;
use crate::network::{explain, run};
use crate::numbers::Random;

fn close(found: f64, expected: f64, what: &str) {
    assert!((found - expected).abs() <= 1e-10 * expected.abs().max(1.0), "{what}: {found}, {expected}");
}

#[test]
fn a_recurrent_layer() {
    let graph = explain(&RECURRENT.looped(), "epsilon", RECURRENT.explained);
    for (seed, steps) in [(1, 1), (2, 3), (3, 8)] {
        let tensors = RECURRENT.tensors(steps, &mut Random::new(seed));
        let outcome = run(&graph, &tensors, &[("T", steps as i64)]);
        let single = |value: f64| f64::from(value as f32);
        let matrix = |name: &str| tensors[name].mapv(single).into_dimensionality::<Ix2>().unwrap();
        let (mut bias, mut stabiliser) = (0.0, 0.0);
        for sample in 0..2 {
            let x = tensors["x"].index_axis(Axis(1), sample).to_owned().into_dimensionality::<Ix2>().unwrap();
            let first = tensors["first"].index_axis(Axis(0), sample).mapv(f64::tanh).iter().copied().collect();
            let b: Array1<f64> = tensors["b"].iter().map(|&value| single(value)).collect();
            let layer = Recurrent { x, first, input: matrix("w"), state: matrix("u"), bias: b };
            let y = layer.last().mapv(|last| last.max(0.0));
            // The largest of equals is the first.
            let largest = y.iter().enumerate().fold(0, |best, (at, value)| if *value > y[best] { at } else { best });
            let relevance = Array1::from_shape_fn(y.len(), |at| if at == largest { y[at] } else { 0.0 });
            let expected = layer.relevance(&relevance, 1e-6);
            let of = |name: &str, axis: usize| -> ArrayD<f64> {
                outcome.relevance(name).index_axis(Axis(axis), sample).to_owned()
            };
            let found: Array2<f64> = of("x", 1).into_dimensionality().unwrap();
            for (at, value) in expected.x.indexed_iter() {
                close(found[at], *value, "x");
            }
            for (found, expected) in of("first", 0).iter().zip(&expected.first) {
                close(*found, *expected, "first");
            }
            (bias, stabiliser) = (bias + expected.bias, stabiliser + expected.stabiliser);
        }
        let line = outcome.ledger.iter().find(|line| line.rule == "Loop").unwrap();
        let of = |kind: Absorbed| line.absorbed.iter().filter(|(of, _)| *of == kind).map(|(_, sum)| sum).sum::<f64>();
        close(of(Absorbed::Bias), bias, "bias");
        close(of(Absorbed::Stabiliser), stabiliser, "stabiliser");
    }
}
