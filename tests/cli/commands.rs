//! The commands that show things: inspect, coverage, rules, plan, opt, doctor.

use lrpc::onnx::proto;
use prost::Message as _;

use crate::support::{Place, mnist, repository};

#[test]
fn inspect_shows_the_file_itself() {
    let place = Place::compiled(&[]);
    let text = std::fs::read_to_string(place.path("m.graph")).unwrap();
    assert_eq!(place.lrpc(&["inspect", "m.graph"]).good().text(), text);
    let json = place.lrpc(&["inspect", "m.graph", "--format", "json"]).good().json();
    assert_eq!(json["results"]["output/logits"], "logits");
    let dot = place.lrpc(&["inspect", "m.graph", "--format", "dot"]).good().text();
    assert!(dot.starts_with("digraph relevance {") && dot.contains("\"relu1_1\" -> \"conv1_2\""), "{dot}");
}

#[test]
fn inspect_shows_parts() {
    let place = Place::compiled(&[]);
    let inspect = |flags: &[&str]| place.lrpc(&[&["inspect", "m.graph"], flags].concat());
    let node = inspect(&["--node", "relu1_1"]).good().text();
    assert!(node.starts_with("%relu1_1 = relu %conv1_1") && node.contains("users\n  %conv1_2 = conv"), "{node}");
    inspect(&["--node", "relu9"]).status(2).says(&["no value `relu9`"]);
    let promises = inspect(&["--promises", "--dim", "N=2"]).good().text();
    assert!(promises.contains("480 B  stored  saved") && promises.contains("%fc1 "), "{promises}");
    assert!(promises.contains("density ρ") && promises.contains("\nrecompute"), "{promises}");
    let open = inspect(&["--promises"]).good().text();
    assert!(open.contains("%relu3    f32[N, 60]") && open.contains("--dim"), "{open}");
    let json = inspect(&["--promises", "--dim", "N=2", "--format", "json"]).good().json();
    let strategies = [&json["strategies"][0], &json["strategies"][1]];
    assert!(strategies[1]["kept_bytes"].as_u64() < strategies[0]["kept_bytes"].as_u64(), "{json}");
    assert_eq!(json["statistics"]["promises"].as_u64(), Some(json["promises"].as_array().unwrap().len() as u64));
    let stats = inspect(&["--stats", "--format", "json"]).good().json();
    assert_eq!(stats["operations"]["relu"]["forward"], 5);
    let plan = inspect(&["--plan", "--dim", "N=1"]).good().text();
    assert!(plan.starts_with("plan f32 N=1\n"), "{plan}");
    inspect(&["--plan"]).status(2).says(&["--dim N=SIZE"]);
    inspect(&["--plan", "--stats"]).status(2);
    for view in [&["--node", "relu1_1"][..], &["--promises"], &["--stats"], &["--plan"], &["--rules"]] {
        inspect(&[view, &["--format", "dot"]].concat()).status(2).says(&["--format dot", view[0]]);
    }
}

#[test]
fn plan_tells_memory_and_work() {
    let place = Place::compiled(&[]);
    let plan = |n: &str| place.lrpc(&["plan", "m.graph", "--format", "json", "--dim", n]).good().json();
    let (one, four) = (plan("N=1"), plan("N=4"));
    // The first convolution: 16 channels of 28 by 28 places, 9 products each.
    let again = place.lrpc(&["plan", "m.graph", "--format", "json", "--dim", "N=1", "--keep", "recompute"]);
    assert!(again.good().json()["flops"].as_u64() > one["flops"].as_u64());
    assert!(one["flops"].as_u64().unwrap() > 16 * 28 * 28 * 9 * 2);
    let ratio = four["arena_bytes"].as_f64().unwrap() / one["arena_bytes"].as_f64().unwrap();
    assert!((3.5..=4.0).contains(&ratio), "{ratio}");
    assert_eq!(one["weight_bytes"], four["weight_bytes"]);
    assert!(place.lrpc(&["plan", "m.graph", "--dim", "N=1"]).good().text().contains("peak "));
}

#[test]
fn coverage_counts_and_finds() {
    let place = Place::new();
    let model = mnist();
    let model = model.to_str().unwrap();
    let answer = place.lrpc(&["coverage", model]).good();
    assert!(answer.text().contains("14 of 14 operations served (100.0 %)"), "{}", answer.text());
    let toml = "name = 'mine'\ndoc = ''\n[[rule]]\nclass = ['linear', 'elementwise']\nuse = 'Gradient'\n";
    std::fs::write(place.path("mine.toml"), toml).unwrap();
    let json = place.lrpc(&["coverage", model, "--rules", "mine.toml", "--format", "json"]).status(1).json();
    assert_eq!((json[0]["served"].as_u64(), json[0]["operations"].as_u64()), (Some(11), Some(14)));
    let unknown = repository("tests/data/broken/unknown_operators.onnx");
    let text = place.lrpc(&["coverage", unknown.to_str().unwrap()]).status(1).text();
    assert!(text.contains("Frobnicate") && text.contains("1 of 4 nodes"), "{text}");
    let unknown = unknown.to_str().unwrap();
    let answer = place.lrpc(&["coverage", "none.onnx", unknown, model]).status(3).says(&["model none.onnx"]);
    assert!(answer.text().contains("Frobnicate") && answer.text().contains("14 of 14"), "{}", answer.text());
    let json = place.lrpc(&["coverage", "none.onnx", model, "--format", "json"]).status(3).json();
    assert!(json[0]["error"].is_string() && json[1]["served"] == 14, "{json}");
}

/// A file that holds a model of these nodes, from `x` to `y`, both f32[1, 4, 4].
fn model_of(nodes: Vec<proto::NodeProto>) -> Vec<u8> {
    let dim = |size| proto::tensor_shape_proto::Dimension {
        value: Some(proto::tensor_shape_proto::dimension::Value::DimValue(size)),
        ..Default::default()
    };
    let shape = proto::TensorShapeProto { dim: [1, 4, 4].map(dim).to_vec() };
    let tensor = proto::type_proto::Tensor { elem_type: Some(1), shape: Some(shape) };
    let ty = proto::TypeProto { value: Some(proto::type_proto::Value::TensorType(tensor)), ..Default::default() };
    let value =
        |name: &str| proto::ValueInfoProto { name: Some(name.into()), r#type: Some(ty.clone()), ..Default::default() };
    let graph =
        proto::GraphProto { node: nodes, input: vec![value("x")], output: vec![value("y")], ..Default::default() };
    let opset = proto::OperatorSetIdProto { version: Some(17), ..Default::default() };
    let model =
        proto::ModelProto { ir_version: Some(8), opset_import: vec![opset], graph: Some(graph), ..Default::default() };
    model.encode_to_vec()
}

fn node(operator: &str, inputs: &[&str], output: &str) -> proto::NodeProto {
    let input = inputs.iter().map(|name| name.to_string()).collect();
    proto::NodeProto { op_type: Some(operator.into()), input, output: vec![output.into()], ..Default::default() }
}

#[test]
fn coverage_of_attention_is_shown_under_some_composite() {
    let place = Place::new();
    let nodes = vec![node("MatMul", &["x", "x"], "s"), node("Softmax", &["s"], "p"), node("MatMul", &["p", "x"], "y")];
    std::fs::write(place.path("attention.onnx"), model_of(nodes)).unwrap();
    let answer = place.lrpc(&["coverage", "attention.onnx"]);
    let has_composite = lrpc_passes::relevance::composite::COMPOSITES.iter().any(|(name, _)| *name == "attnlrp");
    assert!(answer.text().contains(" of 3 operations served"), "{}{}", answer.stderr, answer.text());
    assert_eq!(answer.text().contains("this is the coverage of `epsilon`"), !has_composite);
    assert!(has_composite || answer.status == 1, "{}", answer.status);
}

#[test]
fn operators_without_lowering_are_grouped_and_counted_against_all() {
    let place = Place::new();
    let mut nodes = vec![node("Relu", &["x"], "a")];
    nodes.extend(["b", "c", "y"].map(|output| node("Frobnicate", &["a"], output)));
    std::fs::write(place.path("m.onnx"), model_of(nodes)).unwrap();
    let text = place.lrpc(&["coverage", "m.onnx"]).status(1).text();
    assert!(text.contains("1 of 4 nodes of the model are supported (25.0 %)"), "{text}");
    let answer = place.compile(&place.path("m.onnx"), "m.graph", &[]).status(4);
    assert_eq!(answer.says(&["Frobnicate ×3", "at b of ", "the first"]).stderr.matches("error: ").count(), 1);
}

/// A chain of softmaxes over these values, from `x` to `y`.
fn chain(values: &[&str]) -> Vec<u8> {
    model_of(values.windows(2).map(|pair| node("Softmax", &[pair[0]], pair[1])).collect())
}

#[test]
fn one_more_layer_changes_its_own_lines_and_its_neighbours() {
    let place = Place::new();
    let lines = |name: &str, values: &[&str]| {
        std::fs::write(place.path(name), chain(values)).unwrap();
        place.compile(&place.path(name), "g.graph", &["--rules", "epsilon"]).good();
        std::fs::read_to_string(place.path("g.graph")).unwrap().lines().map(str::to_string).collect::<Vec<_>>()
    };
    let before = lines("before.onnx", &["x", "a", "b", "d", "e", "y"]);
    let after = lines("after.onnx", &["x", "a", "b", "c", "d", "e", "y"]);
    // `c` is the new value, `b` what it reads and `d` what reads it.
    let near = |line: &str| {
        let names = line.split(|c: char| !c.is_ascii_alphanumeric());
        line.starts_with("model ") || names.into_iter().any(|name| ["b", "c", "d"].contains(&name))
    };
    for (one, other) in [(&before, &after), (&after, &before)] {
        for line in one.iter().filter(|line| !other.contains(line)) {
            assert!(near(line), "{line}");
        }
    }
    assert!(after.len() > before.len() && before.iter().filter(|line| after.contains(line)).count() > before.len() / 2);
}

#[test]
fn opt_runs_passes_over_text() {
    let place = Place::new();
    let model = mnist();
    let imported = place.lrpc(&["opt", model.to_str().unwrap(), "--pass-pipeline="]).good().text();
    std::fs::write(place.path("a.graph"), &imported).unwrap();
    let pipeline = "--pass-pipeline=remove_identities,merge_bias";
    let answer = place.lrpc(&["opt", "a.graph", pipeline, "--verify", "--print-after=merge_bias"]).good();
    assert!(lrpc_ir::text::parse(&answer.text()).is_ok() && answer.stderr.starts_with("# after merge_bias\n"));
    place.lrpc(&["opt", "a.graph", "-o", "b.graph"]).good();
    assert_eq!(place.files(), ["a.graph", "b.graph"]);
    place.lrpc(&["opt", "a.graph", "--pass-pipeline=remove_identities, merge_bias"]).good();
    place.lrpc(&["opt", "a.graph", "--pass-pipeline=merge_bias,,"]).status(2).says(&["no pass ``"]);
    place.lrpc(&["opt", "a.graph", "--pass-pipeline=nonsense"]).status(2).says(&["nonsense", "merge_bias"]);
}

#[test]
fn opt_explains_its_passes() {
    let place = Place::new();
    let model = repository("tests/data/models/activations_nodes/model.onnx");
    let opt = |flags: &[&str]| place.lrpc(&[&["opt", model.to_str().unwrap(), "--explain-passes"], flags].concat());
    let answer = opt(&[]).good().says(&["recognise_activations: 1 elu, 3 gelu, 2 gelu_tanh, 1 hard_swish"]);
    assert!(lrpc_ir::text::parse(&answer.text()).is_ok());
    let answer = opt(&["--pass-pipeline=recognise_activations", "--format", "json"]).good();
    let told: serde_json::Value = serde_json::from_str(&answer.stderr).unwrap();
    assert_eq!(told["fired"]["recognise_activations"]["gelu"], 3);
    assert_eq!(told["patches"].as_array().unwrap().len(), 12);
    assert_eq!(told["refusals"], serde_json::json!([]));
}

#[test]
fn doctor_and_help_are_good_and_mistakes_are_usage() {
    let place = Place::new();
    assert!(place.lrpc(&["doctor"]).good().text().contains("cores"));
    assert_eq!(place.lrpc(&["doctor", "--format", "json"]).good().json()["devices"], serde_json::json!(["cpu"]));
    assert!(place.lrpc(&["--help"]).good().text().contains("Exit status"));
    assert!(place.lrpc(&["--version"]).good().text().starts_with("lrpc "));
    place.lrpc(&[]).status(2);
    place.lrpc(&["frobnicate"]).status(2).says(&["frobnicate"]);
    place.lrpc(&["run", "m.graph"]).status(2).says(&["--output"]);
}

#[test]
fn a_device_that_is_not_there_is_told_before_anything_else() {
    let place = Place::compiled(&[]);
    place.run(&["--device", "cuda:0"]).status(7).says(&["`cuda:0`", "--device cpu"]);
}

#[test]
fn coverage_tells_what_becomes_of_every_operator() {
    let place = Place::new();
    let text = place.lrpc(&["coverage", "--ops"]).good().text();
    assert!(text.contains("SequenceAt") && text.contains("sequences of tensors are not supported"), "{text}");
    let json = place.lrpc(&["coverage", "--ops", "--format", "json"]).good().json();
    let find = |name: &str| json.as_array().unwrap().iter().find(|one| one["operator"] == name).unwrap().clone();
    assert_eq!(find("Softmax")["treatment"], "lowered");
    assert_eq!((&find("Relu")["domain"], &find("Relu")["classes"][0]), (&"ai.onnx".into(), &"elementwise".into()));
    place.lrpc(&["coverage", "--ops", "model.onnx"]).status(2);
    place.lrpc(&["coverage"]).status(2);
}
