//! Models and graphs that are refused: with the right status, the cause in words, no panic, and nothing written.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{Place, mnist, repository};

/// What the message must hold, for each file whose status is not 3 or whose cause one could mistake for another.
const WORDS: [(&str, i32, &[&str]); 20] = [
    ("truncated.onnx", 3, &["cut off or damaged"]),
    ("wrong_magic.onnx", 3, &["not an ONNX model"]),
    ("empty.onnx", 3, &["empty"]),
    ("no_graph.onnx", 3, &["no graph"]),
    ("external_missing.onnx", 3, &["nowhere.bin", "cannot be read"]),
    ("external_absolute.onnx", 3, &["absolute path"]),
    ("external_parent/model.onnx", 3, &["../weights.bin", "out of the model's folder"]),
    ("external_parent_inside.onnx", 3, &["out of the model's folder"]),
    ("external_beyond_end.onnx", 3, &["8 to 24", "which has 16"]),
    ("cycle.onnx", 3, &["cycle"]),
    ("conv_channels.onnx", 3, &["Conv", "expected [5]"]),
    ("matmul_shape.onnx", 3, &["MatMul", "f32[1, 2]", "f32[3, 4]"]),
    ("dims_overflow.onnx", 3, &["more elements than can be counted"]),
    ("dims_huge.onnx", 3, &["4398046511104 bytes"]),
    ("unknown_operators.onnx", 4, &["Frobnicate ×2", "2 errors"]),
    ("undefined_input.onnx", 3, &["ghost"]),
    ("opset_from_the_future.onnx", 3, &["opset 9999", "1 to"]),
    ("opset_too_old.onnx", 4, &["opset 3"]),
    ("no_outputs.onnx", 3, &["no floating-point output"]),
    ("deep_nesting.onnx", 6, &["levels of nesting"]),
];

#[test]
fn every_broken_model() {
    let folder = repository("tests/data/broken");
    let listed = std::fs::read_to_string(folder.join("broken.json")).unwrap();
    let listed: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&listed).unwrap();
    assert!(WORDS.iter().all(|(name, ..)| listed.contains_key(*name)));
    let place = Place::new();
    for name in listed.keys() {
        let known = WORDS.iter().find(|(known, ..)| known == name);
        let (status, words) = known.map_or((3, &[][..]), |(_, status, words)| (*status, *words));
        let answer = place.compile(&folder.join(name), "m.graph", &[]);
        assert_eq!(answer.status, status, "{name}: {}", answer.stderr);
        assert!(answer.stderr.starts_with("error: "), "{name}: {}", answer.stderr);
        answer.says(words);
    }
    assert!(place.files().is_empty());
}

/// The name of external data in `external_missing.onnx`, replaced by another of the same length.
fn with_external_data(place: &Place, name: &str) {
    let model = std::fs::read(repository("tests/data/broken/external_missing.onnx")).unwrap();
    let at = model.windows(11).position(|bytes| bytes == b"nowhere.bin").unwrap();
    let mut model = model;
    model[at..at + 11].copy_from_slice(name.as_bytes());
    std::fs::write(place.path("model.onnx"), model).unwrap();
}

#[cfg(unix)]
#[test]
fn external_data_behind_links() {
    let place = Place::new();
    let outside = Place::new();
    std::fs::write(outside.path("secret"), [0u8; 64]).unwrap();
    with_external_data(&place, "weights.dat");
    std::os::unix::fs::symlink(outside.path("secret"), place.path("weights.dat")).unwrap();
    place.compile(&place.path("model.onnx"), "m.graph", &[]).status(3).says(&["weights.dat", "refused", "link"]);
    std::fs::remove_file(place.path("weights.dat")).unwrap();
    std::fs::hard_link(outside.path("secret"), place.path("weights.dat")).unwrap();
    place.compile(&place.path("model.onnx"), "m.graph", &[]).status(3).says(&["weights.dat", "refused", "link"]);
    assert_eq!(place.files(), ["model.onnx", "weights.dat"]);
}

#[test]
fn a_large_hostile_file_is_refused_at_once() {
    let place = Place::new();
    // A graph (field 7 of the model) of 40 million empty nodes (field 1 of the graph).
    let nodes = [0x0a, 0x00].repeat(20_000_000);
    let mut model = vec![0x3a];
    let mut length = nodes.len();
    while length >= 0x80 {
        model.push((length % 0x80) as u8 | 0x80);
        length /= 0x80;
    }
    model.push(length as u8);
    model.extend(nodes);
    std::fs::write(place.path("bomb.onnx"), model).unwrap();
    let started = Instant::now();
    place.compile(&place.path("bomb.onnx"), "m.graph", &[]).status(6).says(&["bomb.onnx", "more than"]);
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(place.files(), ["bomb.onnx"]);
}

#[test]
fn what_is_no_model() {
    let place = Place::new();
    place.compile(Path::new("none.onnx"), "m.graph", &[]).status(3).says(&["none.onnx", "No such file"]);
    place.compile(&place.path("."), "m.graph", &[]).status(3).says(&["not a regular file"]);
    let image = repository("examples/mnist/digit_3.png");
    place.compile(&image, "m.graph", &[]).status(3).says(&["digit_3.png"]);
    assert!(place.files().is_empty());
}

#[test]
fn graphs_that_are_damaged() {
    let place = Place::new();
    place.compile(&mnist(), "m.graph", &[]).good();
    let text = std::fs::read_to_string(place.path("m.graph")).unwrap();
    for (broken, words) in [
        (text.replacen("lrpc 1", "lrpc 9", 1), &["line 1", "newer version"][..]),
        (text.replacen("relu %conv1_1 :", "rely %conv1_1 :", 1), &["rely"]),
        (text.replacen("relu %conv1_1 :", "relu %conv1_9 :", 1), &["conv1_9"]),
        (text.replacen("f32[N, 16, 28, 28]", "f32[N, 16, 28, 29]", 1), &["invariant 1", "conv1_1"]),
        (text[..text.len() / 2].to_string(), &["m.graph"]),
        (String::new(), &["not a relevance graph"]),
    ] {
        std::fs::write(place.path("m.graph"), broken).unwrap();
        place.run(&[]).status(3).says(words);
        place.lrpc(&["inspect", "m.graph"]).status(3).says(&["m.graph"]);
    }
    std::fs::write(place.path("m.graph"), [0xff; 10]).unwrap();
    place.run(&[]).status(3).says(&["no text"]);
}

#[test]
fn a_model_that_changed_since() {
    let place = Place::new();
    let model = std::fs::read(mnist()).unwrap();
    std::fs::write(place.path("model.onnx"), &model).unwrap();
    place.compile(&place.path("model.onnx"), "m.graph", &[]).good();
    place.write("x.npz", &[("input", crate::support::digits(&[1]))]);
    let at = model.windows(7).position(|bytes| bytes == b"relu1_1").unwrap();
    let mut changed = model;
    changed[at] = b'R';
    std::fs::write(place.path("model.onnx"), &changed).unwrap();
    place.run(&[]).status(3).says(&["another model", "structure", "compile it again"]);
}
