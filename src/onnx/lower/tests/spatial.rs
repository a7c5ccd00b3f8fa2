//! Operators over space and signals, as they are lowered.

use super::*;

fn floats_of(name: &str, values: &[f32]) -> AttributeProto {
    let ty = Some(AttributeType::Floats.into());
    AttributeProto { name: Some(name.into()), floats: values.to_vec(), r#type: ty, ..Default::default() }
}

fn text(onnx: Onnx) -> String {
    let imported = onnx.import().unwrap_or_else(|error| panic!("{error}"));
    lrpc_ir::text::print(&imported.graph)
}

// Windows.

#[test]
fn places_of_maxima_count_through_the_whole_tensor() {
    let pool = |order| {
        Onnx::new(&["x N 3 6 8"], &["y N 3 3 4", "i64:i N 3 3 4"]).node(
            "y i = MaxPool x",
            &[ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2]), int("storage_order", order)],
        )
    };
    pool(0).check_lowering("max_pool_places");
    assert!(text(pool(1)).contains("mod"));
}

#[test]
fn unpooling_puts_elements_back() {
    let unpool = |strides: &[i64]| {
        Onnx::new(&["x 1 1 2 2", "i64:i 1 1 2 2"], &["y 1 1 ? ?"])
            .node("y = MaxUnpool x i", &[ints("kernel_shape", &[2, 2]), ints("strides", strides)])
    };
    unpool(&[2, 2]).check_lowering("max_unpool");
    assert!(text(unpool(&[1, 1])).contains("clip"));
}

#[test]
fn a_local_response_is_divided_by_its_neighbours() {
    Onnx::new(&["x N 5 H W"], &["y N 5 H W"]).node("y = LRN x", &[int("size", 3)]).check_lowering("lrn");
}

#[test]
fn columns_are_a_transposed_convolution() {
    Onnx::new(&["x N 8 9"], &["y N 2 4 4"])
        .longs("image", &[4, 4])
        .longs("block", &[2, 2])
        .node("y = Col2Im x image block", &[])
        .check_lowering("col2im");
}

#[test]
fn integers_of_eight_bits_are_pooled_as_numbers() {
    let mut onnx = Onnx::new(&["x 1 1 4"], &["y 1 1 3"]).node("y = MaxPool x", &[ints("kernel_shape", &[2])]);
    for info in onnx.graph.input.iter_mut().chain(&mut onnx.graph.output) {
        let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_mut().unwrap().value.as_mut() else {
            panic!()
        };
        tensor.elem_type = Some(DataType::Int8.into());
    }
    let found = onnx.forward();
    assert!(
        found.starts_with(
            "%y.cast = cast %x : f64[1, 1, 4]\n%y.pool = pool %y.cast {kind=max, window=[2]} : f64[1, 1, 3]"
        )
    );
    assert!(found.lines().any(|line| line.starts_with("%y = quantize %y.pool")));
}

// Interpolation.

#[test]
fn batch_and_channels_are_resized_as_places() {
    let resize = Onnx::new(&["x 2 3 4"], &["y 2 6 8"]).longs("sizes", &[2, 6, 8]).node("y = Resize x - - sizes", &[]);
    assert_eq!(
        resize.forward(),
        "%y.reshape = reshape %x : f32[1, 1, 2, 3, 4]\n\
         %y.resize = resize %y.reshape {mode=nearest, coordinates=half_pixel} : f32[1, 1, 2, 6, 8]\n\
         %y = reshape %y.resize : f32[2, 6, 8]"
    );
}

#[test]
fn regions_and_spread_weights_are_attributes() {
    let region = |beside: f32| {
        Onnx::new(&["x 1 1 4 4"], &["y 1 1 2 2"])
            .longs("sizes", &[2, 2])
            .floats("roi", &[4])
            .node(
                "y = Resize x roi - sizes",
                &[
                    word("mode", "linear"),
                    word("coordinate_transformation_mode", "tf_crop_and_resize"),
                    ints("axes", &[2, 3]),
                    float("extrapolation_value", beside),
                    int("antialias", 1),
                ],
            )
            .forward()
    };
    assert_eq!(
        region(0.0),
        "%y = resize %x {mode=linear, coordinates=crop_and_resize, antialias=true, region=[0, 1, 2, 3]} : f32[1, 1, 2, 2]"
    );
    assert!(region(5.0).contains("shift"));
    let kept = Onnx::new(&["x 1 1 3 6"], &["y 1 1 ? ?"])
        .longs("sizes", &[7, 8])
        .node("y = Resize x - - sizes", &[ints("axes", &[2, 3]), word("keep_aspect_ratio_policy", "not_larger")]);
    assert!(kept.forward().ends_with("scales=[1.3333333333333333, 1.3333333333333333]} : f32[1, 1, 4, 8]"));
}

#[test]
fn before_opset_11_shrinking_takes_the_element_behind() {
    let old = Onnx::new(&["x 1 1 4 4"], &["y 1 1 8 2"])
        .opset(10)
        .node("s = Constant", &[floats_of("value_floats", &[1.0, 1.0, 2.0, 0.5])])
        .node("y = Resize x s", &[]);
    let found = old.forward();
    assert!(found.contains("rounding=ceil, scales=[1, 0.5]") && found.contains("rounding=floor, scales=[2, 1]"));
}

// Samples and regions.

#[test]
fn a_grid_is_read_by_gathers() {
    let sample = |mode, beside| {
        Onnx::new(&["x N 3 H W", "g N 5 6 2"], &["y N 3 5 6"])
            .opset(20)
            .node("y = GridSample x g", &[word("mode", mode), word("padding_mode", beside)])
    };
    sample("nearest", "zeros").check_lowering("grid_sample_nearest");
    sample("linear", "border").check_lowering("grid_sample_linear_border");
    for (mode, gathers) in [("nearest", 1), ("linear", 4), ("cubic", 16)] {
        let found = text(sample(mode, "reflection"));
        assert_eq!(found.matches(" = gather ").count(), gathers, "{mode}");
    }
}

#[test]
fn a_grid_is_a_linear_map_of_theta() {
    Onnx::new(&["t N 2 3"], &["y N 4 5 2"])
        .opset(20)
        .longs("size", &[1, 3, 4, 5])
        .node("y = AffineGrid t size", &[])
        .check_lowering("affine_grid");
}

#[test]
fn a_deformable_convolution_samples_and_contracts() {
    Onnx::new(&["x N 4 5 6", "o N 16 3 4"], &["y N 6 3 4"])
        .opset(19)
        .floats("w", &[6, 2, 2, 2])
        .floats("b", &[6])
        .node("y = DeformConv x w o b", &[int("group", 2), int("offset_group", 2), ints("dilations", &[2, 2])])
        .check_lowering("deformable_conv");
}

#[test]
fn regions_are_sampled_or_masked() {
    let align = |samples| {
        Onnx::new(&["x N 3 6 7", "r 4 4", "i64:b 4"], &["y 4 3 2 2"]).node(
            "y = RoiAlign x r b",
            &[int("output_height", 2), int("output_width", 2), int("sampling_ratio", samples)],
        )
    };
    align(2).check_lowering("roi_align");
    assert!(text(align(0)).contains("dim "));
    Onnx::new(&["x N 3 6 7", "r 4 5"], &["y 4 3 2 2"])
        .node("y = MaxRoiPool x r", &[ints("pooled_shape", &[2, 2])])
        .check_lowering("max_roi_pool");
}

// Signals.

#[test]
fn a_fourier_transform_is_a_contraction() {
    Onnx::new(&["x N S 1"], &["y N ? 2"]).opset(20).node("y = DFT x", &[int("onesided", 1)]).check_lowering("dft");
    let inverse = Onnx::new(&["x 2 4 2"], &["y 2 6 1"]).node("y = DFT x", &[int("onesided", 1), int("inverse", 1)]);
    assert!(text(inverse).contains(": f32[2, 6, 1]"));
}

#[test]
fn a_spectrogram_is_a_convolution() {
    Onnx::new(&["x N S 1"], &["y N ? 5 2"])
        .floats("w", &[8])
        .longs("step", &[3])
        .node("y = STFT x step w", &[])
        .check_lowering("stft");
}

#[test]
fn windows_and_filters_are_counted_out() {
    Onnx::new(&[], &["y 10"]).longs("n", &[10]).node("y = HannWindow n", &[]).check_lowering("hann_window");
    let edge = |value| AttributeProto { name: Some("value_float".into()), ..float("value_float", value) };
    Onnx::new(&[], &["y 9 4"])
        .longs("bins", &[4])
        .longs("length", &[16])
        .longs("rate", &[8192])
        .node("low = Constant", &[edge(0.0)])
        .node("high = Constant", &[edge(4096.0)])
        .node("y = MelWeightMatrix bins length rate low high", &[])
        .check_lowering("mel_weight_matrix");
}

// Losses, statistics, counts.

#[test]
fn a_loss_picks_the_logarithm_of_its_class() {
    Onnx::new(&["x N 5 D", "i64:t N D", "w 5"], &["y"])
        .node("y = SoftmaxCrossEntropyLoss x t w", &[int("ignore_index", -1)])
        .check_lowering("cross_entropy");
}

#[test]
fn a_batch_normalises_itself_as_a_group() {
    Onnx::new(&["x N 3 H"], &["y N 3 H", "m 3", "v 3"])
        .floats("s", &[3])
        .floats("b", &[3])
        .floats("mean", &[3])
        .floats("var", &[3])
        .node("y m v = BatchNormalization x s b mean var", &[int("training_mode", 1)])
        .check_lowering("batch_norm_training");
}

#[test]
fn terms_are_compared_and_counted() {
    Onnx::new(&["i64:x N 6"], &["y N 4"])
        .node(
            "y = TfIdfVectorizer x",
            &[
                word("mode", "TF"),
                int("min_gram_length", 1),
                int("max_gram_length", 2),
                int("max_skip_count", 1),
                ints("ngram_counts", &[0, 2]),
                ints("ngram_indexes", &[0, 1, 2, 3]),
                ints("pool_int64s", &[2, 3, 5, 4, 5, 6]),
            ],
        )
        .check_lowering("terms");
}

// Padding.

#[test]
fn padding_beyond_the_tensor_repeats_it() {
    let pad = |mode, pads: &[i64]| {
        Onnx::new(&["x 3"], &["y ?"]).opset(19).longs("p", pads).node("y = Pad x p", &[word("mode", mode)]).forward()
    };
    assert!(pad("wrap", &[7, 0]).contains("%y.concat = concat %x, %x, %x {axis=0} : f32[9]"));
    assert!(pad("reflect", &[5, 0]).ends_with(": f32[8]"));
    assert_eq!(pad("edge", &[-1, -1]), "%y = slice %x {start=[1]} : f32[1]");
    let centred = Onnx::new(&["x 5 3"], &["y 2 6"]).longs("s", &[2, 6]).node("y = CenterCropPad x s", &[]);
    assert_eq!(centred.forward(), "%y = pad %x {before=[-1, 1]} : f32[2, 6]");
}

#[test]
fn padding_with_a_computed_number_masks() {
    let pad = Onnx::new(&["x 3", "v"], &["y 5"]).longs("p", &[1, 1]).node("y = Pad x p v", &[]);
    assert!(pad.forward().contains("where"));
}
