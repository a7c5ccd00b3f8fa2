//! Functions, bits, sequences, recurrent layers, and what ONNX Runtime's optimiser fuses.

use super::{Onnx, float, int, ints, word};

#[test]
fn functions_keep_their_parameters() {
    let shrink = Onnx::new(&["x N"], &["y N"]).node("y = Shrink x", &[float("bias", 0.25)]);
    assert_eq!(shrink.forward(), "%y = shrink %x {limit=0.5, by=0.25} : f32[N]");
    let gated = Onnx::new(&["a N", "b N"], &["y N"]).opset(28).node("y = SwiGLU a b", &[float("alpha", 2.0)]);
    assert_eq!(gated.forward(), "%y.swish = swish %a {beta=2} : f32[N]\n%y = mul %y.swish, %b : f32[N]");
}

#[test]
fn integers_have_bits() {
    let onnx = Onnx::new(&["i64:a N", "i64:b N"], &["i64:y N", "z N"])
        .opset(26)
        .node("s = BitShift a b", &[word("direction", "LEFT")])
        .node("x = BitwiseXor s b", &[])
        .node("n = BitwiseNot x", &[])
        .node("y = BitwiseAnd n a", &[])
        .node("c = Cast y", &[int("to", 6)])
        .node("z = BitCast c", &[int("to", 1)]);
    assert_eq!(
        onnx.forward(),
        "%s = shift_left %a, %b : i64[N]\n%x = xor %s, %b : i64[N]\n%n = not %x : i64[N]\n%y = and %n, %a : i64[N]\n\
         %c = cast %y : i32[N]\n%z = bit_cast %c {from=i32} : f32[N]"
    );
}

#[test]
fn powers_of_integers_are_taken_in_double_precision() {
    let onnx = Onnx::new(&["i64:x N", "e N"], &["i64:y N"]).node("y = Pow x e", &[]);
    assert!(onnx.forward().contains("pow %y.cast, %y.cast.1 : f64[N]"));
    let whole = Onnx::new(&["i64:x N", "i64:e N"], &["i64:y N"]).node("y = Pow x e", &[]);
    assert_eq!(whole.forward(), "%y = pow %x, %e : i64[N]");
}

#[test]
fn the_last_of_equals_is_the_first_from_the_end() {
    Onnx::new(&["x N 5"], &["i64:y N 1"])
        .node("y = ArgMax x", &[int("axis", 1), int("select_last_index", 1)])
        .check_lowering("arg_max_of_last");
}

#[test]
fn sequences_are_turned_up_to_their_length() {
    Onnx::new(&["x S N 2", "i64:lengths N"], &["y S N 2"])
        .node("y = ReverseSequence x lengths", &[])
        .check_lowering("reverse_sequence");
    let onnx = Onnx::new(&["x S N", "i64:lengths N"], &["y S N"]);
    let onnx = onnx.node("y = ReverseSequence x lengths", &[int("time_axis", 1)]);
    assert_eq!(onnx.invalid(), "/reversesequence: batch_axis is 1 and time_axis 1; one is 0, the other 1");
}

#[test]
fn a_cache_goes_round() {
    Onnx::new(&["cache N 2 8 4", "u N 2 S 4", "i64:start N"], &["y N 2 8 4"])
        .opset(24)
        .node("y = TensorScatter cache u start", &[word("mode", "circular")])
        .check_lowering("tensor_scatter");
}

#[test]
fn one_at_the_largest() {
    Onnx::new(&["x N 3 4"], &["y N 3 4"]).node("y = Hardmax x", &[int("axis", 1)]).check_lowering("hardmax");
    Onnx::new(&["x R C"], &["y R C"]).node("y = EyeLike x", &[int("k", 1)]).check_lowering("eye_like");
}

#[test]
fn determinants_are_expanded() {
    Onnx::new(&["x N 2 2"], &["y N"]).node("y = Det x", &[]).check_lowering("det");
    let large = Onnx::new(&["x 5 5"], &["y"]).node("y = Det x", &[]);
    assert_eq!(large.unsupported(), "/det: the determinant of matrices of more than 4 rows");
}

#[test]
fn steps_of_linear_attention_are_written_out() {
    let heads = [int("q_num_heads", 2), int("kv_num_heads", 1)];
    Onnx::new(&["q N 2 6", "k N 2 3", "v N 2 4", "g N 2 1", "b N 2 1"], &["y N 2 8", "s N 1 3 4"])
        .opset(27)
        .node("y s = LinearAttention q k v - g b", &heads)
        .check_lowering("linear_attention");
    let long = Onnx::new(&["q N S 6", "k N S 6", "v N S 6"], &["y N S 6"]).opset(27);
    let long = long.node(
        "y = LinearAttention q k v",
        &[int("q_num_heads", 2), int("kv_num_heads", 2), word("update_rule", "linear")],
    );
    assert_eq!(long.unsupported(), "/linearattention: S steps; up to 256 are written out");
}

#[test]
fn a_causal_convolution_keeps_its_past() {
    Onnx::new(&["x N 3 S", "past N 3 2"], &["y N 3 S", "state N 3 2"])
        .opset(27)
        .floats("w", &[3, 1, 3])
        .node("y state = CausalConvWithState x w - past", &[word("activation", "silu")])
        .check_lowering("causal_conv");
}

#[test]
fn windows_and_used_parts_of_a_cache_mask_scores() {
    Onnx::new(&["q N 2 S 4", "k N 2 T 4", "v N 2 T 4", "i64:used N"], &["y N 2 S 4"])
        .opset(25)
        .node("y = Attention q k v - - - used", &[int("is_causal", 1), int("left_window_size", 3)])
        .check_lowering("attention_window");
}

#[test]
fn running_products() {
    let onnx = Onnx::new(&["x N 3"], &["y N 3"]).opset(26).longs("axis", &[1]).node("y = CumProd x axis", &[]);
    assert_eq!(onnx.forward(), "%y = cumulative_product %x {axis=1} : f32[N, 3]");
}

#[test]
fn random_operators_are_refused() {
    let onnx = Onnx::new(&["x N"], &["y N"]).node("y = RandomUniformLike x", &[]);
    assert!(onnx.unsupported().contains("it draws random numbers"));
}

#[test]
fn boxes_that_overlap_are_left_out() {
    Onnx::new(&["boxes N 7 4", "scores N 2 7"], &["i64:y ? 3"])
        .longs("most", &[3])
        .node("y = NonMaxSuppression boxes scores most", &[int("center_point_box", 1)])
        .check_lowering("non_max_suppression");
}

// ONNX Runtime's own.

#[test]
fn fused_operators_are_taken_apart() {
    Onnx::new(&["a N S 4", "b N S 4"], &["y N S S"])
        .node("y = com.microsoft.FusedMatMul a b", &[int("transB", 1), float("alpha", 0.5)])
        .check_lowering("microsoft_fused_mat_mul");
    Onnx::new(&["x N 2 4 4", "z N 3 4 4"], &["y N 3 4 4"])
        .floats("w", &[3, 2, 1, 1])
        .node("y = com.microsoft.FusedConv x w - z", &[word("activation", "Relu"), ints("kernel_shape", &[1, 1])])
        .check_lowering("microsoft_fused_conv");
    let gemm = Onnx::new(&["x N 4"], &["y N 2"]).floats("w", &[4, 2]);
    let gemm = gemm.node("y = com.microsoft.FusedGemm x w", &[word("activation", "Selu")]);
    assert_eq!(gemm.unsupported(), "/fusedgemm: the activation \"Selu\"");
}

#[test]
fn fused_normalisations_are_taken_apart() {
    Onnx::new(&["x N S 4", "skip N S 4"], &["y N S 4", "sum N S 4"])
        .floats("scale", &[4])
        .floats("bias", &[4])
        .node("y - - sum = com.microsoft.SkipLayerNormalization x skip scale bias", &[float("epsilon", 1e-5)])
        .check_lowering("microsoft_skip_layer_norm");
    Onnx::new(&["i64:ids N S", "i64:segments N S"], &["y N S 4"])
        .floats("words", &[9, 4])
        .floats("places", &[7, 4])
        .floats("kinds", &[2, 4])
        .floats("scale", &[4])
        .floats("bias", &[4])
        .node("y = com.microsoft.EmbedLayerNormalization ids segments words places kinds scale bias", &[])
        .check_lowering("microsoft_embed_layer_norm");
}

#[test]
fn rotary_embedding_of_one_start() {
    Onnx::new(&["x N 2 S 4", "i64:p 1"], &["y N 2 S 4"])
        .floats("cos", &[9, 2])
        .floats("sin", &[9, 2])
        .node("y = com.microsoft.RotaryEmbedding x p cos sin", &[])
        .check_lowering("microsoft_rotary_embedding");
}

#[test]
fn features_are_chosen_and_made_binary() {
    let onnx = Onnx::new(&["x N 4", "i64:places 2"], &["y N 2"])
        .node("chosen = ai.onnx.ml.ArrayFeatureExtractor x places", &[])
        .node("y = ai.onnx.ml.Binarizer chosen", &[float("threshold", 0.5)]);
    assert_eq!(
        onnx.forward(),
        "%chosen = gather %x, %places {axis=1} : f32[N, 2]\n%y.const = const 0.5 : f32[]\n\
         %y.broadcast = broadcast %y.const : f32[N, 2]\n\
         %y.greater = greater %chosen, %y.broadcast : bool[N, 2]\n%y = cast %y.greater : f32[N, 2]"
    );
}

#[test]
fn nothing_is_dropped_at_a_ratio_of_zero() {
    let dropout = |ratio: i64| {
        Onnx::new(&["x N"], &["y N"])
            .longs("trains", &[1])
            .longs("ratio", &[ratio])
            .node("r = Squeeze ratio", &[])
            .node("t = Squeeze trains", &[])
            .node("d = Dropout x r t", &[])
            .node("y = Relu d", &[])
    };
    assert_eq!(dropout(0).forward(), "%y = relu %x : f32[N]");
    assert!(dropout(1).unsupported().contains("it drops at random"));
    let open = Onnx::new(&["x N", "i64:t"], &["y N"]).node("y = Dropout x - t", &[]);
    assert!(open.unsupported().contains("--given t=FILE"));
}

#[test]
fn old_operators_are_read_where_they_have_not_changed() {
    let onnx = |operator: &str| Onnx::new(&["x N"], &["y N"]).opset(5).node(&format!("y = {operator} x"), &[]);
    assert_eq!(onnx("Softplus").forward(), "%y = softplus %x : f32[N]");
    assert!(onnx("Relu").unsupported().starts_with("/relu: its definition changed between opsets 5 and 7"));
}
