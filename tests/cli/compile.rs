//! `lrpc compile`.

use lrpc::data::Tensor;

use crate::support::{Place, mnist, repository};

#[test]
fn the_same_model_gives_the_same_bytes() {
    let place = Place::new();
    place.compile(&mnist(), "a.graph", &[]).good().says(&["epsilon-plus-flat", "chosen by --rules auto"]);
    place.compile(&mnist(), "b.graph", &["--verify"]).good();
    let text = std::fs::read_to_string(place.path("a.graph")).unwrap();
    assert_eq!(text, std::fs::read_to_string(place.path("b.graph")).unwrap());
    assert!(text.starts_with("lrpc 1\nmodel "), "{}", &text[..40]);
    assert!(lrpc_ir::text::parse(&text).is_ok());
    assert_eq!(place.files(), ["a.graph", "b.graph"]);
}

#[test]
fn the_graph_goes_to_standard_output_and_messages_do_not() {
    let place = Place::new();
    let answer = place.compile(&mnist(), "-", &["--rules", "epsilon"]).good();
    assert!(lrpc_ir::text::parse(&answer.text()).is_ok());
    assert!(place.files().is_empty());
}

#[test]
fn a_tensor_asked_for_twice_is_one() {
    let place = Place::new();
    place.compile(&mnist(), "once.graph", &["--wrt", "input"]).good();
    place.compile(&mnist(), "m.graph", &["--wrt", "input", "--wrt", "input", "--wrt", "in*"]).good();
    let text = |name: &str| std::fs::read_to_string(place.path(name)).unwrap();
    assert_eq!(text("once.graph"), text("m.graph"));
}

#[test]
fn the_report_is_json_when_asked() {
    let place = Place::new();
    let report = place.compile(&mnist(), "m.graph", &["--rules", "epsilon(eps=1e-3)", "--format", "json"]).json();
    assert_eq!(report["composites"][0], "epsilon(bias=include, eps=0.001)");
    assert_eq!(report["results"], serde_json::json!(["output/logits", "relevance/input"]));
    assert_eq!(report["applications"].as_array().unwrap().len(), 14);
}

#[test]
fn passes_are_shown_and_explained() {
    let place = Place::new();
    let answer = place.compile(&mnist(), "m.graph", &["--print-after", "apply_rules", "--explain-passes"]).good();
    assert!(answer.stderr.contains("# after apply_rules\nlrpc 1\n"), "{}", answer.stderr);
    place.compile(&mnist(), "m.graph", &["--print-after", "nonsense"]).status(2).says(&["`nonsense`", "merge_bias"]);
}

#[test]
fn what_passes_did_and_left_is_told() {
    let place = Place::new();
    let model = repository("tests/data/models/mobilenet/model.onnx");
    let flags = ["--rules", "epsilon", "--explain-passes"];
    let answer = place.compile(&model, "m.graph", &flags).good();
    let answer = answer.says(&["recognise_activations: 1 swish\n  swish mul_", "fold_batch_norm: "]);
    answer.says(&["left as it is: ", "is no function of what the sigmoid reads: a gate"]);
    let report = place.compile(&model, "m.graph", &["--rules", "epsilon", "--format", "json"]).good().json();
    assert_eq!(report["passes"]["fired"]["recognise_activations"]["swish"], 1);
    let refusals = report["passes"]["refusals"].as_array().unwrap();
    let gates = refusals.iter().filter(|refusal| refusal["pass"] == "recognise_activations");
    assert!(
        gates.clone().count() > 0 && gates.clone().all(|gate| gate["reason"].as_str().unwrap().ends_with("a gate"))
    );
}

#[test]
fn several_composites_and_targets_stand_side_by_side() {
    let place = Place::new();
    let flags =
        ["--rules", "epsilon", "--rules", "gradient", "--target", "logits[:,1]", "--target", "logits[:,2]-logits[:,3]"];
    let report = place.compile(&mnist(), "m.graph", &[&flags[..], &["--format", "json"]].concat()).good().json();
    let results: Vec<&str> = report["results"].as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
    assert!(results.contains(&"epsilon/t0/relevance/input") && results.contains(&"gradient/t1/relevance/input"));
}

#[test]
fn tensors_are_asked_for_by_pattern() {
    let place = Place::new();
    let report =
        place.compile(&mnist(), "m.graph", &["--wrt", "input", "--wrt", "pool?", "--format", "json"]).good().json();
    let wanted = ["output/logits", "relevance/input", "relevance/pool1", "relevance/pool2"];
    assert_eq!(report["results"], serde_json::json!(wanted));
}

#[test]
fn requests_that_do_not_fit_are_usage_errors() {
    let place = Place::new();
    for (flags, words) in [
        (["--rules", "nonsense"], ["no composite `nonsense`", "epsilon-plus-flat"]),
        (["--rules", "epsilon(gama=1)"], ["no parameter `gama`", "eps"]),
        (["--rules", "none.toml"], ["none.toml", "cannot be read"]),
        (["--target", "logit[0]"], ["no output is called so", "logits"]),
        (["--target", "logits[0]"], ["1 indices for 2 axes", "--target"]),
        (["--target", "logits[0,10]"], ["index 10 is outside", "axis 1"]),
        (["--wrt", "relu9"], ["--wrt relu9", "relu"]),
        (["--wrt", "conv1_1.weight"], ["at conv1_1", "relevance that no weight carries"]),
        (["--seed", "two"], ["two", "--seed"]),
    ] {
        place.compile(&mnist(), "m.graph", &flags).status(2).says(&words);
    }
    assert!(place.files().is_empty());
}

#[test]
fn operations_without_a_rule_are_all_listed() {
    let place = Place::new();
    let toml = "name = 'mine'\ndoc = 'linear maps only'\n[[rule]]\nclass = 'linear'\nuse = 'Epsilon'\n";
    std::fs::write(place.path("mine.toml"), toml).unwrap();
    let answer = place.compile(&mnist(), "m.graph", &["--rules", "mine.toml"]).status(4);
    let answer = answer.says(&["at relu1_1", "at pool2", "at flatten", "no rule for `relu`", "8 errors", "help:"]);
    assert_eq!(answer.stderr.matches("error: ").count(), 8);
    assert_eq!(place.files(), ["mine.toml"]);
}

#[test]
fn a_composite_of_ones_own_is_used() {
    let place = Place::new();
    let toml = "name = 'mine'\ndoc = 'plain'\nextends = 'epsilon'\n[[rule]]\nname = 'conv1_*'\nuse = 'WSquare'\n";
    std::fs::write(place.path("mine.toml"), toml).unwrap();
    place.compile(&mnist(), "m.graph", &["--rules", "mine.toml"]).good();
    let rules = place.lrpc(&["inspect", "m.graph", "--rules"]).good().text();
    assert_eq!(rules.matches("conv     WSquare").count(), 2, "{rules}");
}

#[test]
fn models_of_several_operators_compile() {
    let place = Place::new();
    for name in ["vgg", "densenet_opset13"] {
        let model = repository(&format!("tests/data/models/{name}/model.onnx"));
        place.compile(&model, "m.graph", &["--verify", "--rules", "epsilon"]).good();
    }
}

#[test]
fn weights_that_are_elsewhere_are_made_up() {
    let place = Place::new();
    let model = repository("tests/data/broken/external_missing.onnx");
    place.compile(&model, "m.graph", &[]).status(3).says(&["nowhere.bin", "cannot be read"]);
    place.compile(&model, "m.graph", &["--weights", "random"]).status(2).says(&["random:SEED"]);
    place.compile(&model, "m.graph", &["--weights", "random:7"]).good();
    place.write("x.npz", &[("x", Tensor::from_slice(&[1, 2], &[1.0_f32, -0.5]).unwrap())]);
    let model = model.to_str().unwrap();
    let outcome = |seed: &str| {
        place.run(&["--model", model, "--weights", seed, "--audit"]).good();
        assert_eq!(place.manifest("r.npz")["model"]["weights"], seed);
        place.read("r.npz").tensors["output/y"].to_f64()
    };
    place.run(&["--model", model]).status(3).says(&["nowhere.bin"]);
    let first = outcome("random:7");
    assert!(first.iter().all(|y| y.is_finite() && y.abs() < 10.0), "{first:?}");
    assert_eq!(first, outcome("random:7"));
    assert_ne!(first, outcome("random:8"));
    let table = place.lrpc(&["coverage", model, "--weights", "random:7"]).good();
    assert!(table.text().contains("dot"), "{}", table.text());
}

#[test]
fn outputs_alone_are_compiled_and_run_without_rules() {
    let place = Place::new();
    let answer = place.compile(&mnist(), "m.graph", &["--forward"]).good();
    answer.says(&["compiled without relevance", "results: output/logits"]);
    let text = std::fs::read_to_string(place.path("m.graph")).unwrap();
    assert!(!text.contains("\nrelevance\n") && !text.contains("\nrules "), "{text}");
    let input = lrpc::data::Tensor::from_slice(&[1, 1, 28, 28], &[0.5f32; 784]).unwrap();
    place.write("x.npz", &[("input", input)]);
    place.run(&[]).good();
    let outputs = place.read("r.npz").tensors;
    assert_eq!(outputs.keys().collect::<Vec<_>>(), ["output/logits"]);
    place.compile(&mnist(), "m.graph", &["--rules", "epsilon"]).good();
    place.run(&[]).good();
    assert_eq!(outputs["output/logits"], place.read("r.npz").tensors["output/logits"]);
    place.compile(&mnist(), "m.graph", &["--forward", "--rules", "epsilon"]).status(2).says(&["--forward"]);
}
