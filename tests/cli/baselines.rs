//! Composites that run the model several times.

use lrpc::data::{Tensor, TensorFile};

use crate::support::{Place, digits, mnist, repository};

fn numbers(file: &TensorFile, name: &str) -> Vec<f64> {
    file.tensors[name].to_f64()
}

#[test]
fn they_stand_beside_others_in_one_graph() {
    let rules = ["--rules", "epsilon-plus-flat", "--rules", "smoothgrad(samples=3)", "--rules", "occlusion"];
    let place = Place::compiled(&[&rules[..], &["--rules", "random", "--rules", "integrated-gradients"]].concat());
    place.write("x.npz", &[("input", digits(&[3, 8]))]);
    place.run(&[]).good().says(&["smoothgrad/relevance/input", "misses", "integrated-gradients/completeness"]).says(&[
        "epsilon-plus-flat/relevance/input\n",
        "occlusion/relevance/input (occlusion conserves nothing)",
        "random/relevance/input (random conserves nothing)",
        "integrated-gradients/relevance/input (misses f(x) − f(baseline) by ",
    ]);
    let together = place.read("r.npz");
    for (name, flags) in [("epsilon-plus-flat", "epsilon-plus-flat"), ("smoothgrad", "smoothgrad(samples=3)")] {
        place.compile(&mnist(), "m.graph", &["--rules", flags]).good();
        place.run(&["--threads", "1"]).good();
        let alone = place.read("r.npz");
        assert_eq!(alone.tensors["relevance/input"], together.tensors[&format!("{name}/relevance/input")], "{name}");
        assert_eq!(alone.tensors["output/logits"], together.tensors["output/logits"]);
    }
}

#[test]
fn more_steps_miss_less() {
    let place = Place::new();
    place.write("x.npz", &[("input", digits(&[1]))]);
    let miss = |steps: usize| {
        let rules = format!("integrated-gradients(steps={steps})");
        place.compile(&mnist(), "m.graph", &["--rules", &rules, "--target", "logits[:, 3]"]).good();
        place.run(&["--precision", "f64"]).good();
        let found = place.read("r.npz");
        (numbers(&found, "completeness")[0].abs(), numbers(&found, "relevance/input").iter().sum::<f64>())
    };
    let ((coarse, _), (fine, arrived)) = (miss(4), miss(128));
    assert!(fine < coarse / 4.0 && fine < 0.01 * arrived.abs(), "{coarse} {fine} {arrived}");
}

#[test]
fn an_image_is_explained_by_each() {
    let place = Place::new();
    let (model, image) = (mnist(), repository("examples/mnist/digit_3.png"));
    for rules in ["smoothgrad(samples=2)", "integrated-gradients(steps=8)", "occlusion(window=4)", "random"] {
        let flags = ["--image", image.to_str().unwrap(), "-o", "heat.png", "--rules", rules];
        let answer = place.lrpc(&[&["explain", model.to_str().unwrap()], &flags[..]].concat()).good();
        let answer = answer.says(&["explained: class 3", "wrote heat.png"]);
        assert!(!["arrive", "started", "seed "].iter().any(|word| answer.stderr.contains(word)), "{}", answer.stderr);
    }
}

#[test]
fn words_are_explained_where_they_become_vectors() {
    let place = Place::new();
    let example = |name: &str| repository(&format!("examples/sentiment/{name}"));
    place.compile(&example("sentiment.onnx"), "m.graph", &["--rules", "occlusion", "--rules", "gradient"]).good();
    let words = format!("input_ids={}", example("praise.npy").display());
    place.lrpc(&["run", "m.graph", "--input", &words, "-o", "r.npz", "--reduce", "tokens=sum"]).good();
    let found = place.read("r.npz");
    assert_eq!(found.tensors["occlusion/relevance/words"].shape(), [1, 14]);
    assert!(numbers(&found, "occlusion/relevance/words").iter().any(|drop| drop.abs() > 0.1));
}

#[test]
fn what_is_missing_or_meant_otherwise_is_told() {
    let place = Place::compiled(&["--rules", "integrated-gradients(baseline=given, steps=2)"]);
    place.write("x.npz", &[("input", digits(&[1]))]);
    place.run(&[]).status(2).says(&["input `baseline.input`", "is missing", "--input baseline.input=FILE"]);
    let zeros = Tensor::from_slice(&[1, 1, 28, 28], &[0f32; 784]).unwrap();
    place.write("x.npz", &[("input", digits(&[1])), ("baseline.input", zeros)]);
    place.run(&["--index", "3"]).good();
    place.run(&["--steps-at-once", "0"]).status(2).says(&["no whole number from 1 on"]);
    place.run(&["--want", "nothing"]).status(2).says(&["the graph has no result `nothing`"]);
    let flags = ["--rules", "smoothgrad", "--wrt", "input", "--wrt", "relu1_1"];
    place.compile(&mnist(), "n.graph", &flags).status(2).says(&["`relu1_1` depends on another requested tensor"]);
    let listed = place.lrpc(&["rules", "--composites"]).good().text();
    for name in ["integrated-gradients(", "occlusion(", "random(", "smoothgrad("] {
        assert!(listed.contains(name), "{listed}");
    }
}
