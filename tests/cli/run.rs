//! `lrpc run`: what comes out, and that it is the same under all circumstances.

use lrpc::data::Tensor;

use crate::support::{Place, digits, mnist};

#[test]
fn results_hold_outputs_relevance_and_a_manifest() {
    let place = Place::compiled(&["--rules", "epsilon"]);
    place.write("x.npz", &[("input", digits(&[1, 2]))]);
    place.run(&[]).good().says(&["seed", "R.logits", "arrived", "relevance/input"]);
    let results = place.read("r.npz");
    assert_eq!(results.tensors["output/logits"].shape(), [2, 10]);
    assert_eq!(results.tensors["relevance/input"].shape(), [2, 1, 28, 28]);
    let manifest = place.manifest("r.npz");
    let arrived: f64 = results.tensors["relevance/input"].to_f64().iter().sum();
    assert_eq!(manifest["arrived"]["relevance/input"], arrived);
    assert_eq!(manifest["dims"]["N"], 2);
    for field in [&manifest["graph"], &manifest["model"]["weights"], &manifest["model"]["structure"]] {
        assert_eq!(field.as_str().map(str::len), Some("sha256:".len() + 64));
    }
    let rows: f64 = results.tensors["output/logits"]
        .to_f64()
        .chunks(10)
        .map(|row| row.iter().copied().fold(f64::MIN, f64::max))
        .sum();
    assert_eq!(manifest["seed"][0]["sum"], rows);
}

#[test]
fn the_ledger_closes_and_is_shown() {
    let place = Place::compiled(&[]);
    place.write("x.npz", &[("input", digits(&[3]))]);
    let table = place.run(&["--audit"]).good().text();
    assert!(table.starts_with("site ") && table.contains("ZPlus") && table.contains("absorbed in all: bias"));
    let report = place.run(&["--audit", "--format", "json", "--precision", "f64"]).good().json();
    assert_eq!(report["audit"]["closes"], true);
    assert_eq!(report["audit"]["tolerance"], 1e-9);
    assert_eq!(report["audit"]["lines"].as_array().unwrap().len(), 14);
    assert!(report["manifest"]["absorbed"]["bias"].is_number());
    let total = &report["audit"]["totals"][0];
    assert_eq!(total["name"], "total");
    assert_eq!(total["lines"], 14);
    assert_eq!(total["closes"], true);
    let [started, arrived] = ["started", "arrived"].map(|key| total[key].as_f64().unwrap());
    let absorbed: f64 = total["absorbed"].as_object().unwrap().values().map(|sum| sum.as_f64().unwrap()).sum();
    assert!((started - arrived - absorbed).abs() <= 1e-12 * total["scale"].as_f64().unwrap());
}

#[test]
fn double_precision_agrees_with_single() {
    let place = Place::compiled(&["--rules", "epsilon"]);
    place.write("x.npz", &[("input", digits(&[4]))]);
    place.run(&[]).good();
    let single = place.read("r.npz").tensors["relevance/input"].to_f64();
    place.run(&["--precision", "f64"]).good();
    let double = place.read("r.npz").tensors["relevance/input"].to_vec::<f64>().unwrap();
    let largest = double.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    let worst = single.iter().zip(&double).fold(0.0f64, |worst, (a, b)| worst.max((a - b).abs()));
    assert!(largest > 0.0 && worst <= 1e-4 * largest, "{worst} of {largest}");
}

#[test]
fn threads_and_repetition_change_no_bit() {
    let place = Place::compiled(&[]);
    place.write("x.npz", &[("input", digits(&[5, 6, 7]))]);
    let runs = [["--threads", "1"], ["--threads", "2"], ["--threads", "2"]].map(|flags| {
        place.run(&flags).good();
        std::fs::read(place.path("r.npz")).unwrap()
    });
    assert!(runs[0] == runs[1] && runs[1] == runs[2]);
}

#[test]
fn more_threads_than_are_of_use_are_not_started() {
    let place = Place::compiled(&[]);
    place.write("x.npz", &[("input", digits(&[5]))]);
    place.run(&[]).good();
    let expected = std::fs::read(place.path("r.npz")).unwrap();
    place.run(&["--threads", "100000"]).good().says(&["instead of 100000", "4 for each core"]);
    assert!(std::fs::read(place.path("r.npz")).unwrap() == expected);
}

#[test]
fn models_are_told_from_graphs() {
    let place = Place::new();
    let model = mnist();
    let model = model.to_str().unwrap();
    let inspect = [["inspect", model].to_vec(), vec!["plan", model], vec!["run", model, "-o", "r.npz"]];
    for arguments in inspect {
        place.lrpc(&arguments).status(3).says(&["this is an ONNX model; compile it first"]);
    }
    place.compile(&mnist(), "m.graph", &[]).good();
    place.compile(&place.path("m.graph"), "n.graph", &[]).status(3).says(&["this is a relevance graph"]);
    let image = crate::support::repository("examples/mnist/digit_3.png");
    let answer = place.lrpc(&["explain", "m.graph", "--image", image.to_str().unwrap()]);
    answer.status(3).says(&["this is a relevance graph"]);
}

#[test]
fn a_sample_does_not_feel_its_neighbours() {
    let place = Place::compiled(&[]);
    let first = |seeds: &[u32]| {
        place.write("x.npz", &[("input", digits(seeds))]);
        place.run(&[]).good();
        let relevance = place.read("r.npz").tensors["relevance/input"].clone();
        relevance.bytes()[..784 * 4].to_vec()
    };
    assert!(first(&[8, 9]) == first(&[8, 10]));
}

#[test]
fn an_index_given_when_running_is_a_target_given_when_compiling() {
    let place = Place::compiled(&["--rules", "epsilon"]);
    place.write("x.npz", &[("input", digits(&[11, 12]))]);
    place.compile(&mnist(), "three.graph", &["--rules", "epsilon", "--target", "logits[:,3]"]).good();
    place.lrpc(&["run", "three.graph", "--inputs", "x.npz", "-o", "three.npz"]).good();
    let wanted = place.read("three.npz").tensors["relevance/input"].clone();
    for index in ["3", "target=3", "3,3"] {
        place.run(&["--index", index]).good();
        assert!(place.read("r.npz").tensors["relevance/input"] == wanted, "--index {index}");
    }
    place.write("x.npz", &[("input", digits(&[11, 12])), ("target", Tensor::from_slice(&[2], &[3i64, 3]).unwrap())]);
    place.run(&[]).good();
    assert!(place.read("r.npz").tensors["relevance/input"] == wanted, "an input called target");
}

#[test]
fn indices_are_checked() {
    let place = Place::compiled(&[]);
    place.write("x.npz", &[("input", digits(&[1, 2]))]);
    place.run(&["--index", "10"]).status(2).says(&["10 is outside of 0 to 9"]);
    place.run(&["--index", "1,2,3"]).status(2).says(&["3 indices for 2 rows"]);
    place.run(&["--index", "class=1"]).status(2).says(&["no index input has that name", "target"]);
    place.write("x.npz", &[("input", digits(&[1])), ("target", Tensor::from_slice(&[1], &[-1i64]).unwrap())]);
    place.run(&[]).status(3).says(&["`target`", "-1 is outside"]);
}

#[test]
fn only_what_is_wanted_is_returned() {
    let place = Place::compiled(&[]);
    place.write("x.npz", &[("input", digits(&[1]))]);
    place.run(&["--want", "relevance/*"]).good();
    assert_eq!(place.read("r.npz").tensors.keys().collect::<Vec<_>>(), ["relevance/input"]);
    place.run(&["--want", "gradient/*"]).status(2).says(&["no result `gradient/*`", "output/logits, relevance/input"]);
}

#[test]
fn results_are_written_as_safetensors_too() {
    let place = Place::compiled(&[]);
    place.write("x.safetensors", &[("input", digits(&[1]))]);
    place.lrpc(&["run", "m.graph", "--inputs", "x.safetensors", "-o", "r.safetensors"]).good();
    assert_eq!(place.read("r.safetensors").tensors.len(), 2);
    assert_eq!(place.manifest("r.safetensors")["device"], "cpu");
}

#[test]
fn the_model_is_found_from_the_graph_or_named() {
    let place = Place::new();
    std::fs::create_dir(place.path("sub")).unwrap();
    std::fs::copy(mnist(), place.path("model.onnx")).unwrap();
    place.compile(&place.path("model.onnx"), "sub/m.graph", &[]).good();
    assert!(std::fs::read_to_string(place.path("sub/m.graph")).unwrap().contains("model \"../model.onnx\""));
    place.write("x.npz", &[("input", digits(&[1]))]);
    let run = ["run", "sub/m.graph", "--inputs", "x.npz", "-o", "r.npz"];
    place.lrpc(&run).good();
    std::fs::rename(place.path("model.onnx"), place.path("moved.onnx")).unwrap();
    place.lrpc(&run).status(3).says(&["its model is not at", "model.onnx", "--model"]);
    place.lrpc(&[&run[..], &["--model", "moved.onnx"]].concat()).good();
    let other = crate::support::repository("tests/data/models/vgg/model.onnx");
    let answer = place.lrpc(&[&run[..], &["--model", other.to_str().unwrap()]].concat());
    answer.status(3).says(&["another model", "bytes", "--model"]);
}

#[test]
fn no_samples_give_no_relevance() {
    let place = Place::compiled(&["--rules", "epsilon"]);
    place.write("x.npz", &[("input", digits(&[]))]);
    place.run(&["--audit"]).good();
    assert_eq!(place.read("r.npz").tensors["relevance/input"].shape(), [0, 1, 28, 28]);
}
