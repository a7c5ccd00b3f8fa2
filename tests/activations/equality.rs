//! Every snapshot of the pass holds a graph before and after it: both are run on the same numbers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use lrpc_ir::plan::Precision;
use lrpc_ir::{Graph, Value, text};
use lrpc_kernels::{Executor, Options, Tensor, WeightSource};
use lrpc_passes::bind;

/// Zeros, both signs, kinks and their neighbourhoods, the threshold of a guard, and what is large but overflows no
/// exponential of a square in f32.
const NUMBERS: [f64; 48] = [
    0.0, -0.0, 1e-30, -1e-30, 1e-6, -1e-6, 1e-3, -1e-3, 0.1, -0.1, 0.25, -0.25, 0.5, -0.5, 0.75, -0.75, 1.0, -1.0,
    1.25, -1.25, 1.5, -1.5, 2.0, -2.0, 2.5, -2.5, 2.999, -2.999, 3.0, -3.0, 3.001, -3.001, 4.0, -4.0, 5.5, -5.5, 7.0,
    -7.0, 10.0, -10.0, 15.0, -15.0, 19.99, 20.0, 20.01, 25.0, -25.0, 30.0,
];

struct NoWeights;

impl WeightSource for NoWeights {
    fn weight(&self, name: &str, _sidecar: bool) -> Result<Cow<'_, [u8]>, String> {
        Err(format!("the graph has no {name}"))
    }
}

fn columns(graph: &Graph, input: Value) -> usize {
    graph.ty(input).shape[1].known().unwrap().try_into().unwrap()
}

fn run(graph: &Graph, precision: Precision) -> Vec<f64> {
    let rows = graph.inputs().first().map_or(0, |input| NUMBERS.len() / columns(graph, *input));
    let dims = [("N".to_string(), rows as i64)].into();
    let request = bind::Request { precision, dims, ..bind::Request::default() };
    let plan = bind::bind(graph, &request).unwrap_or_else(|error| panic!("{error}\n{}", text::print(graph)));
    let mut executor = Executor::new(Arc::new(plan), &NoWeights, Options { threads: 1, ..Options::default() }).unwrap();
    let mut inputs = BTreeMap::new();
    for (nth, input) in graph.inputs().into_iter().enumerate() {
        let mut numbers = NUMBERS;
        numbers.rotate_left(nth);
        let shape = [rows, columns(graph, input)];
        let tensor = match precision {
            Precision::F64 => Tensor::from_values(&shape, &numbers),
            _ => Tensor::from_values(&shape, &numbers.map(|number| number as f32)),
        };
        inputs.insert(graph.name(input).to_string(), tensor.unwrap());
    }
    let outcome = executor.run(&inputs, None).unwrap_or_else(|error| panic!("{error}\n{}", text::print(graph)));
    outcome.results["output/y"].to_f64()
}

/// The graphs of a snapshot, before and after.
fn graphs(snapshot: &str) -> [Graph; 2] {
    let mut texts = snapshot.split("lrpc 1\n").skip(1).map(|rest| {
        let body = rest.lines().take_while(|line| !line.is_empty() && !line.starts_with("refused "));
        format!("lrpc 1\n{}\n", body.collect::<Vec<_>>().join("\n"))
    });
    [(); 2].map(|()| text::parse(&texts.next().unwrap()).unwrap_or_else(|error| panic!("{error}\n{snapshot}")))
}

#[test]
fn what_is_recognised_computes_what_was_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots/passes/recognise_activations");
    let mut remade = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let [before, after] = graphs(&text);
        // In f64 the constants' rounding to f32 is what is left, as much as it is in f32; the guard of softplus, which
        // ends at 20, is smaller.
        for precision in [Precision::F64, Precision::F32] {
            let (written, recognised) = (run(&before, precision), run(&after, precision));
            assert_eq!(written.len(), NUMBERS.len());
            for (at, (written, recognised)) in written.iter().zip(&recognised).enumerate() {
                let error = (written - recognised).abs();
                // What is recognised does not round to half precision on the way.
                let rounds = precision == Precision::F32 && ["f16", "bf16"].iter().any(|half| text.contains(half));
                let tolerance = if rounds { f64::from(f32::EPSILON) * 8192.0 } else { 2e-6 };
                let (what, x) = (path.display(), NUMBERS[at]);
                assert!(
                    error <= tolerance * (1.0 + written.abs()),
                    "{what} {precision:?} at {x}: {written} is now {recognised}"
                );
            }
        }
        remade += usize::from(before != after);
    }
    assert!(remade >= 40, "only {remade} spellings");
}
