//! Loops, scans, conditionals and recurrent networks.

use super::{Onnx, float, int, ints, word};
use crate::onnx::proto::AttributeProto;
use crate::onnx::proto::attribute_proto::AttributeType;

/// A graph as an attribute.
fn graph(name: &str, onnx: Onnx) -> AttributeProto {
    let (ty, g) = (Some(AttributeType::Graph.into()), Some(Box::new(onnx.graph)));
    AttributeProto { name: Some(name.into()), g, r#type: ty, ..Default::default() }
}

fn words(name: &str, values: &[&'static str]) -> AttributeProto {
    let strings = values.iter().map(|value| value.as_bytes().into()).collect();
    AttributeProto {
        name: Some(name.into()),
        strings,
        r#type: Some(AttributeType::Strings.into()),
        ..Default::default()
    }
}

/// `h' = h·w + b` with its states stacked; `w` is captured, `b` is the body's own.
fn recurrence() -> Onnx {
    Onnx::new(&["i64:t", "c", "h 1 9"], &["c", "next 1 9", "row 1 9"])
        .floats("b", &[9, 9])
        .node("p = MatMul h w", &[])
        .node("next = MatMul p b", &[])
        .node("row = Relu next", &[])
}

#[test]
fn a_loop_is_counted() {
    Onnx::new(&["x T 4", "h 1 9"], &["last 1 9", "all T 1 9"])
        .floats("w", &[9, 9])
        .longs("zero", &[0])
        .node("shape = Shape x", &[])
        .node("most = Gather shape zero", &[])
        .node("last all = Loop most - h", &[graph("body", recurrence())])
        .check_lowering("loop_counted");
}

#[test]
fn a_loop_that_grows_is_written_out() {
    let body = || Onnx::new(&["i64:t", "c", "h 1 2"], &["c", "next 1 2"]).node("next = Concat h x", &[int("axis", 0)]);
    Onnx::new(&["x 1 2"], &["y 4 2"])
        .longs("most", &[3])
        .node("y = Loop most - x", &[graph("body", body())])
        .check_lowering("loop_that_grows");
    let symbolic = Onnx::new(&["x 1 2", "z T"], &["y 4 2"])
        .node("most = Shape z", &[])
        .node("y = Loop most - x", &[graph("body", body())]);
    assert_eq!(symbolic.unsupported(), "/loop: what is f32[1, 2] first is f32[2, 2] then");
}

#[test]
fn a_body_that_needs_its_position_is_written_out() {
    // It goes on while the position is below 1, that is twice.
    let body = Onnx::new(&["i64:t", "c", "h 4"], &["go", "next 2"])
        .longs("one", &[1])
        .longs("two", &[2])
        .node("end = Add t two", &[])
        .node("go = Less t one", &[])
        .node("begin = Reshape t one", &[])
        .node("end2 = Add begin one", &[])
        .node("part = Slice h begin end2", &[])
        .node("next = Add h part", &[]);
    Onnx::new(&["x 4"], &["y 4"]).node("y = Loop - - x", &[graph("body", body)]).check_lowering("loop_written_out");
}

#[test]
fn loops_lie_in_loops_and_capture_from_outside_of_both() {
    let inner = Onnx::new(&["i64:u", "d", "g 2"], &["d", "g2 2"]).node("s = Mul g w", &[]).node("g2 = Add s h", &[]);
    let outer = Onnx::new(&["i64:t", "c", "h 2"], &["c", "h2 2"])
        .longs("three", &[3])
        .node("h2 = Loop three - h", &[graph("body", inner)]);
    Onnx::new(&["x 2", "w 2", "z T"], &["y 2"])
        .node("most = Shape z", &[])
        .node("y = Loop most - x", &[graph("body", outer)])
        .check_lowering("loop_in_loop");
}

#[test]
fn a_choice_inside_of_a_loop_computes_both() {
    let branch = |operator: &str| Onnx::new(&[], &["r 2"]).node(&format!("r = {operator} h"), &[]);
    let body = Onnx::new(&["i64:t", "c", "h 2"], &["c", "next 2"])
        .longs("two", &[2])
        .node("half = Mod t two", &[])
        .node("odd = Cast half", &[int("to", 9)])
        .node("next = If odd", &[graph("then_branch", branch("Relu")), graph("else_branch", branch("Neg"))]);
    Onnx::new(&["x 2", "z T"], &["y 2"])
        .node("most = Shape z", &[])
        .node("y = Loop most - x", &[graph("body", body)])
        .check_lowering("if_in_loop");
}

#[test]
fn data_chooses_a_branch() {
    let branch = |weight: &str| Onnx::new(&[], &["r N 2"]).node(&format!("r = MatMul x {weight}"), &[]);
    Onnx::new(&["x N 2", "s"], &["y N 2"])
        .floats("v", &[2, 2])
        .floats("w", &[2, 2])
        .node("c = IsNaN s", &[])
        .node("y = If c", &[graph("then_branch", branch("v")), graph("else_branch", branch("w"))])
        .check_lowering("if_of_data");
}

#[test]
fn an_axis_that_should_be_1_is_dropped() {
    let then_branch = Onnx::new(&[], &["r N"]).node("r = Squeeze x one", &[]);
    let else_branch = Onnx::new(&[], &["r N M"]).node("r = Identity x", &[]);
    Onnx::new(&["x N M"], &["y N"])
        .longs("one", &[1])
        .node("shape = Shape x", &[])
        .node("last = Gather shape one", &[])
        .node("c = Equal last one", &[])
        .node("y = If c", &[graph("then_branch", then_branch), graph("else_branch", else_branch)])
        .check_lowering("if_of_ranks");
}

#[test]
fn data_ends_a_loop() {
    // Halves until the sum is small; what is only stacked does not count.
    let body = Onnx::new(&["i64:t", "c", "h 2", "n 2"], &["go", "half 2", "more 2", "row 2"])
        .node("half = Mul h w", &[])
        .node("more = Add n h", &[])
        .node("sum = ReduceSum half", &[int("keepdims", 0)])
        .node("go = Greater sum limit", &[])
        .node("row = Relu more", &[]);
    Onnx::new(&["x 2", "w 2", "limit"], &["y 2", "z 2", "all T 2"])
        .node("y z all = Loop - - x x", &[graph("body", body)])
        .check_lowering("loop_of_data");
}

#[test]
fn a_scan_has_axes_and_directions() {
    let body = Onnx::new(&["h 2", "a 2", "b 2"], &["h2 2", "s 2"])
        .node("t = Mul h a", &[])
        .node("h2 = Add t b", &[])
        .node("s = Relu h2", &[]);
    Onnx::new(&["h 2", "x 2 T", "z T 2"], &["last 2", "all 2 T"])
        .node(
            "last all = Scan h x z",
            &[
                graph("body", body),
                int("num_scan_inputs", 2),
                ints("scan_input_axes", &[1, 0]),
                ints("scan_input_directions", &[0, 1]),
                ints("scan_output_axes", &[-1]),
                ints("scan_output_directions", &[1]),
            ],
        )
        .check_lowering("scan");
}

#[test]
fn the_first_scan_had_a_batch() {
    let body = Onnx::new(&["h 2", "a 2"], &["h2 2", "h2 2"]).node("h2 = Add h a", &[]);
    Onnx::new(&["i64:n B", "h B 2", "x B T 2"], &["last B 2", "all B T 2"])
        .opset(8)
        .node("last all = Scan n h x", &[graph("body", body), int("num_scan_inputs", 1)])
        .check_lowering("scan_of_batches");
}

fn recurrent(inputs: &str, gates: i64) -> Onnx {
    Onnx::new(&["x T N 3", "i64:n N"], &["all T 1 N 2", "last 1 N 2"])
        .floats("w", &[1, 2 * gates, 3])
        .floats("r", &[1, 2 * gates, 2])
        .floats("b", &[1, 4 * gates])
        .floats("p", &[1, 6])
        .node(&format!("all last = {inputs}"), &[])
}

#[test]
fn an_lstm_is_one_linear_map_for_each_gate() {
    recurrent("LSTM x w r b", 4).check_lowering("lstm");
}

#[test]
fn an_lstm_with_all_it_can_have() {
    let mut onnx = recurrent("LSTM x w r b n - - p", 4);
    let names = ["HardSigmoid", "ScaledTanh", "Softsign"];
    onnx.graph.node[0].attribute = vec![
        int("input_forget", 1),
        float("clip", 0.5),
        word("direction", "reverse"),
        words("activations", &names),
        AttributeProto { floats: vec![0.25, 2.0], ..floats("activation_alpha") },
        AttributeProto { floats: vec![0.5, 3.0], ..floats("activation_beta") },
    ];
    onnx.check_lowering("lstm_with_everything");
}

fn floats(name: &str) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(AttributeType::Floats.into()), ..Default::default() }
}

#[test]
fn the_update_gate_of_a_gru_has_a_gate_beside_it() {
    recurrent("GRU x w r b", 3).check_lowering("gru");
    let mut onnx = recurrent("GRU x w r b", 3);
    onnx.graph.node[0].attribute = vec![int("linear_before_reset", 1)];
    onnx.check_lowering("gru_reset_after");
}

#[test]
fn a_plain_recurrent_network_in_both_directions() {
    Onnx::new(&["x N T 3", "h N 2 2"], &["all N T 2 2", "last N 2 2"])
        .opset(22)
        .floats("w", &[2, 2, 3])
        .floats("r", &[2, 2, 2])
        .node("all last = RNN x w r - - h", &[word("direction", "bidirectional"), int("layout", 1)])
        .check_lowering("rnn");
}

#[test]
fn what_a_recurrent_network_cannot_have() {
    let with = |attribute: AttributeProto| {
        let mut onnx = recurrent("RNN x w r b", 1);
        onnx.graph.node[0].attribute = vec![attribute];
        onnx
    };
    assert_eq!(with(words("activations", &["Sine"])).unsupported(), "/rnn: the activation \"Sine\"");
    assert_eq!(
        with(words("activations", &["Affine"])).unsupported(),
        "/rnn: the activation \"Affine\" without alpha and beta"
    );
    assert_eq!(with(words("activations", &["Tanh", "Tanh"])).invalid(), "/rnn: it has 2 activations where 1 belong");
    assert_eq!(with(word("direction", "sideways")).invalid(), "/rnn: its direction is \"sideways\"");
}

#[test]
fn attention_with_a_graph_of_its_own() {
    let modifier = Onnx::new(&["scores B H L S"], &["capped B H L S"])
        .node("bounded = Tanh scores", &[])
        .node("capped = Mul bounded limit", &[]);
    Onnx::new(&["q B 4 L 16", "k B 2 S 16", "v B 2 S 8", "limit"], &["y B 4 L 8"])
        .node("y = ai.onnx.preview.FlexAttention q k v", &[graph("score_mod", modifier)])
        .check_lowering("flex_attention");
    let unlike =
        Onnx::new(&["weights B H L S"], &["total B H L"]).node("total = ReduceSum weights -", &[int("keepdims", 0)]);
    let onnx = Onnx::new(&["q 1 2 3 4", "k 1 2 3 4", "v 1 2 3 4"], &["y 1 2 3 4"])
        .node("y = ai.onnx.preview.FlexAttention q k v", &[graph("prob_mod", unlike)]);
    assert_eq!(onnx.unsupported(), "/flexattention: what is f32[1, 2, 3, 3] first is f32[] then");
}

#[test]
fn a_body_asks_for_what_stands_outside() {
    let body = Onnx::new(&["i64:t", "c", "h 4"], &["c", "next 4"])
        .node("up = Unsqueeze h axes", &[])
        .node("next = ReduceSum up zero", &[int("keepdims", 0)]);
    let onnx = Onnx::new(&["x 4", "i64:axes 1", "i64:most"], &["y 4"])
        .longs("zero", &[0])
        .node("y = Loop most - x", &[graph("body", body)]);
    let refused = onnx.unsupported();
    assert!(
        refused.ends_with("is computed when the model runs; fix it when compiling with --given axes=FILE"),
        "{refused}"
    );
}
