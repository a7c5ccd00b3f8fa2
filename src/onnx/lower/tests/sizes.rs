//! Sizes that data decides, and sizes that are equal but not as expressions.

use std::collections::BTreeMap;

use lrpc_ir::Bindings;

use super::{Onnx, int, ints};
use crate::compile::{CompileOptions, compile_forward, compile_model};
use crate::data::Tensor;
use crate::graph_file::ModelWeights;
use crate::session::{RunOptions, RunOutcome, Session};

// What comes out.

#[test]
fn shapes_that_depend_on_data() {
    let one = Onnx::new(&["x 2 3", "i64:s 1"], &["y ?"]).node("y = Reshape x s", &[]);
    assert_eq!(one.forward(), "%y = reshape %x : f32[6]", "a single length follows from the others");
    Onnx::new(&["x N 12", "i64:s 3"], &["y ? ? ?"]).node("y = Reshape x s", &[]).check_lowering("reshape_of_data");
    Onnx::new(&["x N 1", "i64:s 2"], &["y ? ?"]).node("y = Expand x s", &[]).check_lowering("expand_of_data");
    Onnx::new(&["x N 4", "i64:p 4"], &["y ? ?"]).node("y = Pad x p", &[]).check_lowering("pad_of_data");
}

#[test]
fn slices_that_depend_on_data() {
    let slice = || Onnx::new(&["x N 4", "i64:a 1", "i64:b 1", "i64:c 1"], &["y ? 4"]).longs("axes", &[0]);
    slice().node("y = Slice x a b axes", &[]).check_lowering("slice_of_data");
    slice().node("y = Slice x a b axes c", &[]).check_lowering("slice_with_steps_of_data");
}

#[test]
fn as_many_elements_as_the_data_says() {
    Onnx::new(&["x N 4"], &["i64:i 2 ?"]).node("i = NonZero x", &[]).check_lowering("non_zero");
    Onnx::new(&["x N 4", "c N"], &["y ? 4"])
        .node("b = Cast c", &[int("to", 9)])
        .node("y = Compress x b", &[int("axis", 0)])
        .check_lowering("compress");
    Onnx::new(&["x N 4"], &["y ? 4", "i64:i ?", "i64:j N", "i64:k ?"])
        .node("y i j k = Unique x", &[int("axis", 0), int("sorted", 0)])
        .check_lowering("unique");
    Onnx::new(&["i64:a", "i64:b", "i64:c"], &["i64:y ?"]).node("y = Range a b c", &[]).check_lowering("range_of_data");
}

#[test]
fn equal_numbers_are_one_size() {
    let graph = Onnx::new(&["x N 4", "z N 4", "i64:k 1"], &["y N ?"])
        .node("a i = TopK x k", &[])
        .node("b j = TopK z k", &[])
        .node("y = Add a b", &[])
        .import()
        .unwrap()
        .graph;
    assert_eq!(graph.measures.len(), 1, "{}", lrpc_ir::text::print(&graph));
}

#[test]
fn sizes_that_may_be_equal_meet_in_a_reshape() {
    let add = Onnx::new(&["x N 3", "z M 3"], &["y N 3"]).node("y = Add x z", &[]);
    assert_eq!(add.forward(), "%y.reshape = reshape %z : f32[N, 3]\n%y = add %x, %y.reshape : f32[N, 3]");
    let number = Onnx::new(&["x N K", "z 2 3"], &["y 2 3"]).node("y = Add x z", &[]);
    let expected = "%y.reshape = reshape %x : f32[2, K]\n%y.reshape.1 = reshape %y.reshape : f32[2, 3]\n\
                    %y = add %y.reshape.1, %z : f32[2, 3]";
    assert_eq!(number.forward(), expected, "each size is checked alone");
    let product = Onnx::new(&["x N S"], &["y N 5"]).floats("w", &[4, 5]).node("y = MatMul x w", &[]);
    assert_eq!(
        product.forward(),
        "%y.reshape = reshape %x : f32[N, 4]\n%y = dot %y.reshape, @w {contract=1x0} : f32[N, 5]"
    );
    let concat = Onnx::new(&["x N 3", "z 2 3"], &["y 2 6"]).node("y = Concat x z", &[int("axis", 1)]);
    assert_eq!(
        concat.forward(),
        "%y.reshape = reshape %x : f32[2, 3]\n%y = concat %y.reshape, %z {axis=1} : f32[2, 6]"
    );
    let never =
        Onnx::new(&["x N 3"], &["y N 3"]).node("p = Pad x", &[ints("pads", &[1, 0, 0, 0])]).node("y = Add x p", &[]);
    assert_eq!(never.invalid(), "/add: the shapes [N, 3] and [N+1, 3] do not broadcast");
}

#[test]
fn what_decides_structure_can_be_given() {
    let model = || Onnx::new(&["x 2 3", "i64:axis"], &["y 2 3"]).node("y = CumSum x axis", &[]);
    let refused = model().unsupported();
    assert!(
        refused.contains("is computed when the model runs; fix it when compiling with --given axis=FILE"),
        "{refused}"
    );
    let import = |tensor: Tensor| {
        let (_folder, path) = model().saved();
        let given = BTreeMap::from([("axis".to_string(), tensor)]);
        crate::onnx::import(&path, &super::ImportOptions { given, ..Default::default() })
    };
    let graph = import(Tensor::from_slice(&[], &[1i64]).unwrap()).unwrap().graph;
    assert_eq!(graph.inputs().len(), 1);
    assert!(lrpc_ir::text::print(&graph).contains("cumulative_sum %x {axis=1}"));
    for wrong in [Tensor::from_slice(&[2], &[1i64, 0]), Tensor::from_slice(&[], &[1f32])] {
        let error = import(wrong.unwrap()).unwrap_err().to_string();
        assert!(error.contains("--given axis: the model declares i64[]; given is"), "{error}");
    }
}

// What it computes.

fn tensor(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_slice(shape, values).unwrap()
}

fn longs(values: &[i64]) -> Tensor {
    Tensor::from_slice(&[values.len()], values).unwrap()
}

/// Runs the forward program of a model on one list of inputs after the other.
fn run_all(model: Onnx, runs: &[&[(&str, Tensor)]]) -> Vec<Result<RunOutcome, String>> {
    let (_folder, path) = model.saved();
    let compiled = compile_forward(&path, &CompileOptions::default(), &mut |_, _| ()).unwrap();
    let weights = ModelWeights::locate(&compiled.graph, &compiled.file, &path).unwrap();
    let options = RunOptions { memory_limit: Some(1 << 24), ..RunOptions::default() };
    let mut session = Session::new(&compiled.graph, &weights, options);
    let mut run = |inputs: &&[(&str, Tensor)]| {
        let inputs = inputs.iter().map(|(name, tensor)| (name.to_string(), tensor.clone())).collect();
        session.run(&inputs, &[], &Bindings::new(), None).map_err(|error| error.to_string())
    };
    runs.iter().map(&mut run).collect()
}

fn numbers(outcome: &Result<RunOutcome, String>, name: &str) -> (Vec<usize>, Vec<f64>) {
    let found = &outcome.as_ref().unwrap_or_else(|error| panic!("{error}")).results[&format!("output/{name}")];
    (found.shape().to_vec(), found.to_f64())
}

/// The sum of the rows that are positive in sum, times a matrix: relevance is input times weight where a row is taken.
#[test]
fn relevance_of_as_many_rows_as_the_data_says() {
    let model = Onnx::new(&["x N 3"], &["y 1 2"])
        .longs("last", &[1])
        .longs("flat", &[-1])
        .longs("first", &[0])
        .floats("zero", &[1])
        .floats("w", &[3, 2])
        .node("s = ReduceSum x last", &[int("keepdims", 0)])
        .node("p = Greater s zero", &[])
        .node("i = NonZero p", &[])
        .node("f = Reshape i flat", &[])
        .node("r = Gather x f", &[])
        .node("m = MatMul r w", &[])
        .node("y = ReduceSum m first", &[int("keepdims", 1)]);
    let (_folder, path) = model.saved();
    let options = CompileOptions {
        rules: vec!["epsilon(eps=0)".into()],
        targets: vec!["y[:, 1]".into()],
        ..CompileOptions::default()
    };
    let compiled = compile_model(&path, &options).unwrap();
    lrpc_ir::verify::verify(&compiled.graph).unwrap();
    assert_eq!(compiled.graph.measures.len(), 1);
    let weights = ModelWeights::locate(&compiled.graph, &compiled.file, &path).unwrap();
    let mut session = Session::new(&compiled.graph, &weights, RunOptions { audit: true, ..RunOptions::default() });
    for rows in [vec![1.0, -2.0, 3.0], vec![1.0, 2.0, 3.0, -4.0, 1.0, 2.0, 0.5, 0.25, -0.5], vec![-1.0; 6], vec![]] {
        let x = tensor(&[rows.len() / 3, 3], &rows);
        let outcome = session.run(&[("x".to_string(), x)].into(), &[], &Bindings::new(), None).unwrap();
        let taken = |row: &[f32]| if row.iter().sum::<f32>() > 0.0 { 1.0 } else { 0.0 };
        let expected: Vec<f64> = rows
            .chunks(3)
            .flat_map(|row| (0..3).map(|at| f64::from(row[at]) * (2 * at + 1) as f64 * taken(row)))
            .collect();
        assert_eq!(outcome.results["relevance/x"].to_f64(), expected);
        let count = rows.chunks(3).map(taken).sum::<f64>() as i64;
        assert!(outcome.dims.values().any(|size| *size == count), "{:?}", outcome.dims);
        let total = expected.iter().sum::<f64>();
        assert!((outcome.results["output/y"].to_f64().last().unwrap() - total).abs() < 1e-6);
    }
}

#[test]
fn one_program_serves_every_size() {
    let reshape = Onnx::new(&["x N 12", "i64:s 3"], &["y ? ? ?"]).node("y = Reshape x s", &[]);
    let x = || ("x", tensor(&[2, 12], &[1.0; 24]));
    let shapes: [&[i64]; 4] = [&[2, 3, 4], &[0, -1, 6], &[-1, 1, 1], &[4, 4, 4]];
    let runs: Vec<[(&str, Tensor); 2]> = shapes.iter().map(|shape| [x(), ("s", longs(shape))]).collect();
    let found = run_all(reshape, &runs.iter().map(|run| &run[..]).collect::<Vec<_>>());
    assert_eq!(numbers(&found[0], "y").0, [2, 3, 4]);
    assert_eq!(numbers(&found[1], "y").0, [2, 2, 6]);
    assert_eq!(numbers(&found[2], "y").0, [24, 1, 1]);
    let error = found[3].as_ref().unwrap_err();
    assert!(error.contains("24 elements do not fill 64") && error.contains("/reshape"), "{error}");
}

#[test]
fn slices_and_pads_of_data() {
    let slice = Onnx::new(&["x N", "i64:a 1", "i64:b 1", "i64:c 1"], &["y ?"])
        .longs("axes", &[0])
        .node("y = Slice x a b axes c", &[]);
    let x = || ("x", tensor(&[5], &[0.0, 1.0, 2.0, 3.0, 4.0]));
    let bounds = [(-3, 99, 1), (4, i64::MIN, -2), (3, 1, 1), (-99, 2, 1), (i64::MAX, -99, -1), (0, 5, 0)];
    let runs: Vec<[(&str, Tensor); 4]> =
        bounds.iter().map(|&(a, b, c)| [x(), ("a", longs(&[a])), ("b", longs(&[b])), ("c", longs(&[c]))]).collect();
    let found = run_all(slice, &runs.iter().map(|run| &run[..]).collect::<Vec<_>>());
    let expected = [vec![2.0, 3.0, 4.0], vec![4.0, 2.0, 0.0], vec![], vec![0.0, 1.0], vec![4.0, 3.0, 2.0, 1.0, 0.0]];
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(numbers(found, "y").1, expected);
    }
    assert!(found[5].as_ref().unwrap_err().contains("the inputs make the size"), "{:?}", found[5]);
    let pad = Onnx::new(&["x N", "i64:p 2"], &["y ?"]).node("y = Pad x p", &[super::word("mode", "reflect")]);
    let runs: Vec<[(&str, Tensor); 2]> =
        [[2, 1], [-1, 2], [0, -5], [0, -6]].iter().map(|p| [x(), ("p", longs(p))]).collect();
    let found = run_all(pad, &runs.iter().map(|run| &run[..]).collect::<Vec<_>>());
    assert_eq!(numbers(&found[0], "y").1, [2.0, 1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 3.0]);
    assert_eq!(numbers(&found[1], "y").1, [1.0, 2.0, 3.0, 4.0, 3.0, 2.0]);
    assert_eq!(numbers(&found[2], "y").0, [0]);
    assert!(found[3].is_err(), "{:?}", found[3]);
}

#[test]
fn numbers_that_are_no_sizes_are_refused() {
    let filled = Onnx::new(&["i64:s 2"], &["y ? ?"]).node("y = ConstantOfShape s", &[]);
    let sizes: [[i64; 2]; 5] = [[2, 3], [-1, 3], [i64::MAX, 3], [1 << 39, 1 << 39], [1 << 20, 1 << 10]];
    let runs: Vec<[(&str, Tensor); 1]> = sizes.iter().map(|size| [("s", longs(size))]).collect();
    let found = run_all(filled, &runs.iter().map(|run| &run[..]).collect::<Vec<_>>());
    assert_eq!(numbers(&found[0], "y"), (vec![2, 3], vec![0.0; 6]));
    let error = |at: usize| found[at].as_ref().unwrap_err();
    assert!(error(1).contains("the inputs make the size `y.size` -1"), "{}", error(1));
    assert!(error(2).contains(&format!("the inputs make the size `y.size` {}", i64::MAX)), "{}", error(2));
    assert!(error(3).contains("overflows 64 bits"), "{}", error(3));
    assert!(error(4).contains("bytes of memory"), "{}", error(4));
}

#[test]
fn sizes_that_do_not_fit_name_their_inputs() {
    let add = Onnx::new(&["x N 3", "z M 3"], &["y N 3"]).node("y = Add x z", &[]);
    let three = || ("x", tensor(&[3, 3], &[1.0; 9]));
    let found =
        run_all(add, &[&[three(), ("z", tensor(&[3, 3], &[2.0; 9]))], &[three(), ("z", tensor(&[2, 3], &[2.0; 6]))]]);
    assert_eq!(numbers(&found[0], "y").1, [3.0; 9]);
    let error = found[1].as_ref().unwrap_err();
    for words in ["6 elements do not fill 9", "/add", "M=2 (axis 0 of input `z`)", "N=3 (axis 0 of input `x`)"] {
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn what_decides_a_number_of_axes_is_asked_for() {
    let onnx = Onnx::new(&["x 2 3", "i64:end 1"], &["y 6"])
        .longs("zero", &[0])
        .longs("all", &[-1])
        .node("shape = Shape x", &[])
        .node("part = Slice shape zero end", &[])
        .node("wanted = Concat part all", &[int("axis", 0)])
        .node("y = Reshape x wanted", &[]);
    let refused = onnx.unsupported();
    assert!(refused.contains("a number that decides how many axes there are"), "{refused}");
    assert!(refused.ends_with("; fix it when compiling with --given end=FILE"), "{refused}");
}
