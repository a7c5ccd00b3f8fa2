//! Every graph that a pass is tested on computes the same before and after it, in f64 on random numbers.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lrpc_ir::plan::Precision;
use lrpc_ir::{Bindings, DType, Graph, TensorType, text};
use lrpc_kernels::{CheckFinite, Executor, Options, Tensor, WeightSource};
use lrpc_passes::bind;

/// Which numbers inputs hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Numbers {
    /// From −2 to 2.
    Plain,
    /// The same, but every other element −∞, and whole rows.
    Masked,
}

/// Numbers from −2 to 2, by a linear congruence of Knuth's.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from((self.0 >> 40) as u32) / f64::from(1u32 << 24) * 4.0 - 2.0
    }

    fn many(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.next()).collect()
    }
}

/// Weights by name, the same for the graph before and after. All are positive where a variance may be among them.
struct Weights(BTreeMap<String, (DType, Vec<f64>)>);

impl WeightSource for Weights {
    fn weight(&self, name: &str, _sidecar: bool) -> Result<Cow<'_, [u8]>, String> {
        let (dtype, values) = self.0.get(name).ok_or_else(|| format!("there is no {name}"))?;
        let bytes: Vec<u8> = match dtype {
            DType::F16 => values.iter().flat_map(|&value| half::f16::from_f64(value).to_le_bytes()).collect(),
            DType::I8 => values.iter().flat_map(|&value| ((value * 50.0) as i8).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|&value| (value as f32).to_le_bytes()).collect(),
        };
        Ok(bytes.into())
    }
}

/// A size for each symbol of the inputs and weights.
fn sizes(graph: &Graph) -> Bindings {
    let mut symbols = BTreeSet::new();
    for value in graph.inputs().into_iter().chain(graph.weights().into_values()) {
        graph.ty(value).shape.iter().for_each(|dim| dim.symbols(&mut symbols));
    }
    symbols.into_iter().zip([4, 3, 5, 2]).collect()
}

fn shape(ty: &TensorType, sizes: &Bindings) -> Vec<usize> {
    ty.bound_shape(sizes).unwrap()
}

fn input(ty: &TensorType, sizes: &Bindings, numbers: Numbers, random: &mut Random) -> Tensor {
    let shape = shape(ty, sizes);
    let count = shape.iter().product();
    if ty.dtype == DType::Bool {
        let values: Vec<bool> = random.many(count).into_iter().map(|value| value > 0.0).collect();
        return Tensor::from_bools(&shape, &values).unwrap();
    }
    if !ty.dtype.is_float() {
        return Tensor::from_values(&shape, &vec![1i64; count]).unwrap();
    }
    let row = shape.last().copied().unwrap_or(1).max(1);
    let masked = |at: usize| numbers == Numbers::Masked && (at % 2 == 1 || (at / row) % 2 == 1);
    let values = random.many(count).into_iter().enumerate();
    let values: Vec<f64> = values.map(|(at, value)| if masked(at) { f64::NEG_INFINITY } else { value }).collect();
    Tensor::from_values(&shape, &values).unwrap()
}

fn run(graph: &Graph, weights: &Weights, inputs: &BTreeMap<String, Tensor>) -> BTreeMap<String, Vec<f64>> {
    let request = bind::Request { precision: Precision::F64, dims: sizes(graph), ..bind::Request::default() };
    let plan = bind::bind(graph, &request).unwrap_or_else(|error| panic!("{error}\n{}", text::print(graph)));
    // Rows that are masked throughout are not numbers where nothing guards them.
    let options = Options { threads: 1, check_finite: CheckFinite::Off, ..Options::default() };
    let mut executor = Executor::new(Arc::new(plan), weights, options).unwrap();
    let outcome = executor.run(inputs, None).unwrap_or_else(|error| panic!("{error}\n{}", text::print(graph)));
    outcome.results.iter().map(|(name, tensor)| (name.clone(), tensor.to_f64())).collect()
}

/// Before and after, from a snapshot.
fn graphs(path: &Path) -> (Graph, Graph) {
    let body = std::fs::read_to_string(path).unwrap();
    let (_, body) = body.split_once("before\n").unwrap();
    let (before, after) = body.split_once("\nafter\n").unwrap();
    let parse = |part: &str| {
        let lines: Vec<&str> = part.lines().filter(|line| !line.starts_with("refused ")).collect();
        text::parse(&(lines.join("\n") + "\n")).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    (parse(before), parse(after))
}

fn check(path: &Path, numbers: Numbers) {
    let (before, after) = graphs(path);
    let (mut random, sizes) = (Random(7), sizes(&before));
    let weight = |(name, value)| {
        let ty: &TensorType = before.ty(value);
        let count = shape(ty, &sizes).iter().product();
        let values = random.many(count).into_iter().map(|value| value.abs() + 0.1).collect();
        (String::from(name), (ty.dtype, values))
    };
    let weights = Weights(before.weights().into_iter().map(weight).collect());
    let inputs = before.inputs().into_iter();
    let inputs: BTreeMap<String, Tensor> = inputs
        .map(|value| (before.name(value).into(), input(before.ty(value), &sizes, numbers, &mut random)))
        .collect();
    let (expected, found) = (run(&before, &weights, &inputs), run(&after, &weights, &inputs));
    assert_eq!(expected.len(), found.len(), "{}", path.display());
    for (name, expected) in expected {
        let largest = expected.iter().filter(|value| value.is_finite()).fold(1e-3, |a: f64, b| a.max(b.abs()));
        for (a, b) in expected.iter().zip(&found[&name]) {
            let same = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-7 * largest;
            assert!(same, "{} {numbers:?} {name}: {a} became {b}", path.display());
        }
    }
}

fn snapshots() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots/passes");
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.is_file());
    found.sort();
    found
}

#[test]
fn every_pass_keeps_the_numbers_of_the_graphs_that_it_is_tested_on() {
    let paths = snapshots();
    assert!(paths.len() > 20, "only {} snapshots", paths.len());
    paths.iter().for_each(|path| check(path, Numbers::Plain));
}

#[test]
fn passes_over_softmax_keep_rows_that_are_masked_in_part_and_throughout() {
    let is_softmax = |path: &&PathBuf| path.file_stem().unwrap().to_str().unwrap().contains("softmax");
    let paths = snapshots();
    let paths: Vec<&PathBuf> = paths.iter().filter(is_softmax).collect();
    assert!(paths.len() > 3, "only {} snapshots", paths.len());
    paths.into_iter().for_each(|path| check(path, Numbers::Masked));
}
