//! Gathers, scatters, ranks, contractions by equation, attention.

use super::{Onnx, int, word};

#[test]
fn one_index_per_element_is_a_batched_gather() {
    Onnx::new(&["x N 5", "i64:i N 2"], &["y N 2"])
        .node("y = GatherElements x i", &[int("axis", 1)])
        .check_lowering("gather_elements");
}

#[test]
fn indices_along_several_axes_become_one() {
    Onnx::new(&["x N S 4", "i64:i B 2"], &["y B 4"]).node("y = GatherND x i", &[]).check_lowering("gather_nd");
}

#[test]
fn places_that_are_hit_take_the_update() {
    Onnx::new(&["x 5 3", "i64:i 2 1", "u 2 3"], &["y 5 3"])
        .node("y = ScatterND x i u", &[])
        .check_lowering("scatter_nd");
}

#[test]
fn updates_that_do_not_cover_the_other_axes() {
    let scatter = |reduction| {
        Onnx::new(&["x 5 3", "i64:i 2 2", "u 2 2"], &["y 5 3"])
            .node("y = ScatterElements x i u", &[word("reduction", reduction)])
    };
    scatter("add").check_lowering("scatter_elements_add");
    scatter("max").check_lowering("scatter_elements_max");
    assert_eq!(scatter("mean").unsupported(), "/scatterelements: the reduction \"mean\"");
}

#[test]
fn the_best_elements_are_gathered() {
    Onnx::new(&["x N 5"], &["y N 2"]).longs("k", &[2]).node("y places = TopK x k", &[]).check_lowering("top_k");
}

#[test]
fn a_triangle_of_symbolic_size() {
    Onnx::new(&["x S S"], &["y S S"]).longs("k", &[1]).node("y = Trilu x k", &[]).check_lowering("trilu");
}

#[test]
fn how_many_elements_are_not_zero_depends_on_data() {
    let onnx = Onnx::new(&["x 4"], &["y 4"]).node("i = NonZero x", &[]).node("y = Cast i", &[int("to", 1)]);
    assert_eq!(onnx.unsupported(), "/nonzero: how many elements are not 0 depends on the data");
}

#[test]
fn an_equation_is_a_contraction_or_a_product() {
    let einsum = |equation| {
        Onnx::new(&["a B S 2 4", "b B T 2 4"], &["y B 2 S T"]).node("y = Einsum a b", &[word("equation", equation)])
    };
    einsum("bshd,bthd->bhst").check_lowering("einsum_contraction");
    let product = Onnx::new(&["a B S", "b S"], &["y S B"]).node("y = Einsum a b", &[word("equation", "bs,s->sb")]);
    product.check_lowering("einsum_product");
    assert!(einsum("bshd,bthd->bhsx").invalid().contains("asks for an axis that no operand has"));
    assert!(einsum("bsh,bthd->bhst").invalid().contains("is not for f32[B, S, 2, 4]"));
}

#[test]
fn attention_is_its_structure() {
    Onnx::new(&["q N S 16", "k N S 8", "v N S 8"], &["y N S 16"])
        .opset(23)
        .node("y = Attention q k v", &[int("q_num_heads", 4), int("kv_num_heads", 2), int("is_causal", 1)])
        .check_lowering("attention");
}

#[test]
fn rotary_embedding_turns_pairs() {
    Onnx::new(&["x N 2 S 4", "i64:p N S"], &["y N 2 S 4"])
        .opset(23)
        .floats("cos", &[9, 2])
        .floats("sin", &[9, 2])
        .node("y = RotaryEmbedding x cos sin p", &[])
        .check_lowering("rotary_embedding");
}
