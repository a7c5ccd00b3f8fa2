//! Integers that stand for numbers.

use super::{Onnx, int, ints};

#[test]
fn one_scale_for_each_channel() {
    Onnx::new(&["x N 3 4"], &["y N 3 4"])
        .opset(17)
        .floats("s", &[3])
        .node("q = QuantizeLinear x s", &[int("axis", 1)])
        .node("y = DequantizeLinear q s", &[int("axis", -2)])
        .check_lowering("quantize_per_channel");
}

#[test]
fn one_scale_for_each_block() {
    Onnx::new(&["x 2 5"], &["y 2 5"])
        .opset(21)
        .floats("s", &[2, 3])
        .node("q = QuantizeLinear x s", &[int("axis", 1), int("block_size", 2), int("output_dtype", 3)])
        .node("y = DequantizeLinear q s", &[int("axis", 1), int("block_size", 2)])
        .check_lowering("quantize_blocks");
}

#[test]
fn scales_from_the_data_are_held() {
    Onnx::new(&["x N 3", "w 3 4"], &["y N 4"])
        .node("q s z = DynamicQuantizeLinear x", &[])
        .node("v t u = DynamicQuantizeLinear w", &[])
        .node("i = MatMulInteger q v z u", &[])
        .node("f = Cast i", &[int("to", 1)])
        .node("st = Mul s t", &[])
        .node("y = Mul f st", &[])
        .check_lowering("dynamic_quantize");
}

#[test]
fn the_largest_integer_is_that_of_the_largest_number() {
    Onnx::new(&["x N 3 4 4", "s"], &["y N 3 2 2"])
        .node("q = QuantizeLinear x s", &[])
        .node("m = MaxPool q", &[ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])])
        .node("y = DequantizeLinear m s", &[])
        .check_lowering("max_pool_of_integers");
}

#[test]
fn what_is_no_quantisation() {
    let quantize = |opset, attributes: &[_]| {
        let scale = ["x 4 5", "s 2 5"];
        Onnx::new(&scale, &["y 4 5"])
            .opset(opset)
            .node("q = QuantizeLinear x s", attributes)
            .node("y = Cast q", &[int("to", 1)])
    };
    let four_bits = quantize(21, &[int("axis", 0), int("block_size", 2), int("output_dtype", 21)]);
    assert!(four_bits.unsupported().contains("element type number 21"));
    assert!(quantize(21, &[int("axis", 0), int("block_size", -2)]).invalid().contains("block_size is -2"));
    assert!(quantize(21, &[int("axis", 5)]).invalid().contains("axis 5"));
}
