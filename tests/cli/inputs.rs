//! Inputs that do not fit are refused with what was expected and what was given.

use lrpc::data::Tensor;

use crate::support::{Place, digits};

fn refused(tensors: &[(&str, Tensor)], status: i32, words: &[&str]) {
    let place = Place::compiled(&[]);
    place.write("x.npz", tensors);
    place.run(&[]).status(status).says(words);
    assert_eq!(place.files(), ["m.graph", "x.npz"]);
}

#[test]
fn names() {
    refused(&[("imput", digits(&[1]))], 2, &["no input `imput`", "input `input` : f32[N, 1, 28, 28] is missing"]);
    refused(&[("input", digits(&[1])), ("extra", digits(&[1]))], 2, &["no input `extra`", "input : f32[N, 1, 28, 28]"]);
}

#[test]
fn shapes() {
    let shaped = |shape: &[usize]| Tensor::from_slice(shape, &vec![0f32; shape.iter().product()]).unwrap();
    refused(&[("input", shaped(&[1, 3, 28, 28]))], 3, &["axis 1 has length 3, expected 1", "f32[N, 1, 28, 28]"]);
    refused(&[("input", shaped(&[28, 28]))], 3, &["[28, 28]", "2 axes", "expected are 4"]);
}

#[test]
fn element_types() {
    let integers = Tensor::from_slice(&[1, 1, 28, 28], &[0i32; 784]).unwrap();
    refused(&[("input", integers)], 3, &["holds i32, expected f32"]);
}

#[test]
fn double_precision_is_rounded_and_said() {
    let place = Place::compiled(&[]);
    let wide: Vec<f64> = digits(&[1]).to_f64();
    place.write("x.npz", &[("input", Tensor::from_slice(&[1, 1, 28, 28], &wide).unwrap())]);
    place.run(&[]).good().says(&["note: input `input`: f64 rounded to f32"]);
    assert!(!place.run(&["--precision", "f64"]).good().stderr.contains("note"));
}

#[test]
fn nan_is_named_with_its_place() {
    let mut pixels = digits(&[1]).to_f32();
    pixels[28 * 3 + 5] = f32::NAN;
    let broken = Tensor::from_slice(&[1, 1, 28, 28], &pixels).unwrap();
    refused(&[("input", broken)], 5, &["`input` holds NaN at [0, 0, 3, 5]"]);
}

#[test]
fn infinity_that_comes_out_is_named() {
    let pixels = vec![f32::MAX; 784];
    let large = Tensor::from_slice(&[1, 1, 28, 28], &pixels).unwrap();
    let place = Place::compiled(&["--rules", "epsilon"]);
    place.write("x.npz", &[("input", large)]);
    let answer = place.run(&[]).status(5);
    assert!(answer.stderr.contains("conv1_1") || answer.stderr.contains("conv1_2"), "{}", answer.stderr);
    assert_eq!(place.files(), ["m.graph", "x.npz"]);
}

#[test]
fn sizes_given_twice_must_agree() {
    let place = Place::compiled(&[]);
    place.write("x.npz", &[("input", digits(&[1, 2]))]);
    place.run(&["--dim", "N=2"]).good();
    place.run(&["--dim", "N=3"]).status(3).says(&["`N` has two sizes", "--dim N=3", "axis 0 of input `input` is 2"]);
    place.run(&["--dim", "M=3"]).status(2).says(&["no dimension `M`", "N"]);
    place.run(&["--dim", "N"]).status(2).says(&["NAME=SIZE"]);
}

#[test]
fn files() {
    let place = Place::compiled(&[]);
    let npy = place.path("x.npy");
    let run = |flags: &[&str]| place.lrpc(&[&["run", "m.graph", "-o", "r.npz"], flags].concat());
    run(&[]).status(2).says(&["`input`", "is missing", "--input input=FILE"]);
    run(&["--inputs", "x.npz"]).status(3).says(&["x.npz", "cannot be read"]);
    run(&["--inputs", "x.csv"]).status(2).says(&["x.csv", ".npz"]);
    std::fs::write(place.path("x.npz"), "no archive").unwrap();
    run(&["--inputs", "x.npz"]).status(3).says(&["x.npz: no npz"]);
    let file = lrpc::data::TensorFile { tensors: [("".into(), digits(&[1]))].into(), manifest: None };
    file.write(&npy).unwrap();
    run(&["--input", "input=x.npy"]).good();
    run(&["--inputs", "x.npy"]).status(2).says(&["an npy file holds no names"]);
    run(&["--input", "input=x.npy", "--input", "input=x.npy"]).status(2).says(&["given twice"]);
}
