//! Intermediate tensors by name, conditions and weights, through the program.

use lrpc::data::{Tensor, TensorFile};

use crate::support::{Place, digits, mnist, repository};

fn sum(tensor: &Tensor) -> f64 {
    tensor.to_f64().iter().sum()
}

/// The example network under `flags`, run on one digit under `run`.
fn explained(flags: &[&str], run: &[&str]) -> Place {
    let place = Place::compiled(flags);
    place.write("x.npz", &[("input", digits(&[3]))]);
    place.run(run).good();
    place
}

/// Sums of the relevance results, by what stands behind `relevance/` in their names.
fn sums(place: &Place) -> Vec<(String, f64)> {
    let results = place.read("r.npz").tensors;
    let relevance = results.iter().filter_map(|(name, tensor)| Some((name.strip_prefix("relevance/")?, tensor)));
    relevance.map(|(name, tensor)| (name.to_string(), sum(tensor))).collect()
}

#[test]
fn conditions_are_named_in_results_and_reports() {
    let flags = ["--rules", "epsilon", "--condition", "relu2_2:channel=5", "--condition", "none"];
    let place = Place::compiled(&flags);
    place.write("x.npz", &[("input", digits(&[3]))]);
    place.run(&["--audit"]).good().says(&[
        "condition c0  relu2_2:channel=5",
        "condition c1  none",
        "c0/relevance/input",
    ]);
    let manifest = place.manifest("r.npz");
    assert_eq!(manifest["conditions"], serde_json::json!(["relu2_2:channel=5", "none"]));
    let plain = explained(&["--rules", "epsilon"], &[]);
    let (both, all) = (place.read("r.npz").tensors, plain.read("r.npz").tensors);
    assert_eq!(both["c1/relevance/input"], all["relevance/input"]);
    let (part, whole) = (sum(&both["c0/relevance/input"]), sum(&all["relevance/input"]));
    assert!(part != 0.0 && part != whole, "{part} {whole}");
    assert!(plain.manifest("r.npz").get("conditions").is_none());
}

#[test]
fn one_graph_serves_all_channels() {
    let place = Place::compiled(&["--rules", "epsilon", "--condition", "relu2_2:channel=0"]);
    place.write("x.npz", &[("input", digits(&[3; 32]))]);
    place.run(&["--index", "condition=7", "--index", "target=3"]).good().says(&["condition  relu2_2:channel=7"]);
    assert_eq!(place.manifest("r.npz")["conditions"], serde_json::json!(["relu2_2:channel=7"]));
    let all: Vec<String> = (0..32).map(|channel| channel.to_string()).collect();
    place.run(&["--index", &format!("condition={}", all.join(","))]).good();
    let atlas = place.read("r.npz").tensors["relevance/input"].to_f64();
    assert_eq!(place.manifest("r.npz")["index"]["condition"].as_array().unwrap().len(), 32);
    let rows: Vec<f64> = atlas.chunks(784).map(|row| row.iter().sum()).collect();
    let whole = sums(&explained(&["--rules", "epsilon"], &[]))[0].1;
    let total: f64 = rows.iter().sum();
    assert!(rows.len() == 32 && (total - whole).abs() < 1e-3 * whole.abs(), "{total} {whole}");
    place.run(&["--index", "condition=32"]).status(2).says(&["32 is outside of 0 to 31"]);
    place.run(&["--index", "5"]).status(2).says(&["--index needs a name", "condition", "target"]);
}

#[test]
fn intermediate_tensors_conserve_relevance_along_the_chain() {
    let place = explained(&["--rules", "epsilon", "--wrt", "default", "--wrt", "*"], &["--audit", "--format", "json"]);
    let sums: std::collections::BTreeMap<String, f64> = sums(&place).into_iter().collect();
    let chain = [
        "logits", "relu3", "fc1", "flatten", "pool2", "relu2_2", "conv2_2", "relu2_1", "conv2_1", "pool1", "relu1_2",
        "conv1_2", "relu1_1", "conv1_1", "input",
    ];
    assert_eq!(sums.len(), chain.len(), "{sums:?}");
    let audit = place.run(&["--audit", "--format", "json"]).good().json();
    let lines = audit["audit"]["lines"].as_array().unwrap();
    // Each tensor has what started minus what was absorbed behind it.
    let mut left = sums["logits"];
    for pair in chain.windows(2) {
        let site = if pair[0] == "logits" { "fc2" } else { pair[0] };
        let line = lines.iter().find(|line| line["site"] == site).unwrap_or_else(|| panic!("{site}: {lines:?}"));
        let absorbed: f64 = line["absorbed"].as_object().unwrap().values().map(|sum| sum.as_f64().unwrap()).sum();
        left -= absorbed;
        assert!((left - sums[pair[1]]).abs() < 1e-4 * sums["logits"].abs(), "{site}: {left} {sums:?}");
    }
}

#[test]
fn patterns_leave_the_explanation_as_it_is() {
    let model = repository("examples/sentiment/sentiment.onnx");
    let place = Place::new();
    place
        .compile(&model, "all.graph", &["--wrt", "default", "--wrt", "*"])
        .good()
        .says(&["left out are", "0.down.product"]);
    place.compile(&model, "m.graph", &[]).good();
    place
        .compile(&model, "one.graph", &["--wrt", "*.residual1"])
        .good()
        .says(&["relevance/0.residual1", "relevance/1.residual1"]);
    let ids = TensorFile::read(&repository("examples/sentiment/praise.npy"), 1 << 20).unwrap().tensors;
    let ids = ids.values().next().unwrap().clone();
    let relevance = |graph: &str| {
        place.write("x.npz", &[("input_ids", ids.clone())]);
        place.lrpc(&["run", graph, "--inputs", "x.npz", "-o", "r.npz"]).good();
        place.read("r.npz").tensors
    };
    let (all, plain, one) = (relevance("all.graph"), relevance("m.graph"), relevance("one.graph"));
    assert_eq!(all["relevance/words"], plain["relevance/words"]);
    assert_eq!(all["relevance/0.residual1"], one["relevance/0.residual1"]);
    assert!(!all.contains_key("relevance/positions") && !one.contains_key("relevance/words"));
}

#[test]
fn weights_are_a_second_view() {
    let weights = ["fc1.weight", "fc1.bias", "conv2_1.weight", "conv1_1.bias"];
    let flags = weights.iter().flat_map(|name| ["--wrt", name]);
    let flags: Vec<&str> = ["--rules", "epsilon", "--wrt", "default", "--wrt", "flatten", "--wrt", "pool1"]
        .into_iter()
        .chain(flags)
        .collect();
    let place = explained(&flags, &[]);
    let sums: std::collections::BTreeMap<String, f64> = sums(&place).into_iter().collect();
    let plain = explained(&["--rules", "epsilon"], &[]);
    assert_eq!(place.read("r.npz").tensors["relevance/input"], plain.read("r.npz").tensors["relevance/input"]);
    for (weight, input) in [("fc1.weight", "flatten"), ("conv2_1.weight", "pool1")] {
        assert!((sums[weight] - sums[input]).abs() < 1e-4 * sums[input].abs(), "{sums:?}");
    }
    assert_eq!(place.read("r.npz").tensors["relevance/fc1.weight"].shape(), [60, 1568]);
    let place = explained(&["--rules", "epsilon", "--wrt", "fc1.weight"], &[]);
    assert_eq!(place.read("r.npz").tensors.keys().collect::<Vec<_>>(), ["output/logits", "relevance/fc1.weight"]);
}

#[test]
fn relevance_of_channels_is_a_reduction() {
    let place = explained(&["--rules", "epsilon", "--wrt", "default", "--wrt", "relu2_2"], &["--reduce", "places=sum"]);
    let results = place.read("r.npz").tensors;
    assert_eq!(results["relevance/relu2_2"].shape(), [1, 32]);
    assert_eq!(results["relevance/input"].shape(), [1, 1, 28, 28]);
    let whole = sums(&explained(&["--rules", "epsilon", "--wrt", "relu2_2"], &[]))[0].1;
    assert!((sum(&results["relevance/relu2_2"]) - whole).abs() < 1e-4 * whole.abs());
    place.run(&["--reduce", "places=sum", "--want", "relevance/input"]).status(2).says(&["--reduce places"]);
}

#[test]
fn pictures_tell_their_condition() {
    let place = Place::new();
    let (model, image) = (mnist(), repository("examples/mnist/digit_3.png"));
    let (model, image) = (model.to_str().unwrap(), image.to_str().unwrap());
    let flags = ["explain", model, "--image", image, "-o", "heat.png", "--condition", "relu2_2:channel=5"];
    let answer = place.lrpc(&flags).good().says(&["condition: relu2_2:channel=5"]);
    assert!(!answer.stderr.contains("did not arrive"), "{}", answer.stderr);
    place.lrpc(&[&flags[..], &["--condition", "none"]].concat()).status(2).says(&["one condition"]);
}

#[test]
fn the_axis_that_is_masked_is_told() {
    let place = Place::new();
    let flags = ["--condition", "relu2_2:channel=5"];
    let answer = place.compile(&mnist(), "m.graph", &flags).good();
    answer.says(&["condition relu2_2:channel=5: axis 1 of f32[N, 32, ", ", 32 places"]);
    place.write("x.npz", &[("pixels", digits(&[3]))]);
    place.run(&[]).says(&[
        "no input `pixels`",
        "its inputs are input : f32",
        "the graph's own indices are ",
        "condition : i64[N]",
    ]);
}

#[test]
fn what_is_not_there_is_refused_with_near_misses() {
    let place = Place::new();
    for (flags, words) in [
        (&["--condition", "relu9:channel=1"][..], &["relu9", "similar names: relu1_1"][..]),
        (&["--condition", "relu2_2:channel=32"], &["index 32 is outside of axis 1 with 32 elements"]),
        (&["--condition", "relu2_2:token=0"], &["axis 1 counts channels", "write relu2_2:channel=0"]),
        (&["--condition", "relu*:channel=1"], &["several tensors", "relu1_1, relu1_2"]),
        (&["--condition", "fc1.weight:unit=1"], &["no floating-point tensor that the model computes"]),
        (&["--wrt", "relu2_2", "--condition", "relu1_1:channel=1"], &["does not lie between"]),
        (&["--wrt", "conv1_1.wei"], &["similar names: conv1_1.weight"]),
        (&["--wrt", "zz*"], &["has no node or module", "some that it computes"]),
        (&["--wrt", "conv1_1.weight"], &["the rule Flat", "at conv1_1"]),
    ] {
        let answer = place.compile(&mnist(), "m.graph", flags);
        assert!([2, 3].contains(&answer.status), "{flags:?}: {}", answer.stderr);
        answer.says(words);
    }
    assert!(place.files().is_empty());
}
