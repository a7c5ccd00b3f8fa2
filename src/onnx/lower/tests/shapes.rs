//! Arithmetic on shapes, which leaves no nodes.

use super::{Onnx, int};

#[test]
fn sizes_of_heads_are_kept_and_split() {
    let onnx = Onnx::new(&["x N S 12"], &["y N S 3 4"])
        .longs("heads", &[3, -1])
        .longs("first", &[0])
        .longs("second", &[1])
        .node("shape = Shape x", &[])
        .node("batch = Gather shape first", &[])
        .node("length = Gather shape second", &[])
        .node("target = Concat batch length heads", &[int("axis", 0)])
        .node("y = Reshape x target", &[]);
    assert_eq!(onnx.forward(), "%y = reshape %x : f32[N, S, 3, 4]");
}

#[test]
fn open_axes_are_decided_by_a_size_not_being_negative() {
    let onnx = Onnx::new(&["x 1 S"], &["y 3 S"])
        .longs("three", &[3])
        .longs("open", &[-1])
        .longs("one", &[1])
        .node("shape = Shape x", &[int("start", 1)])
        .node("wanted = Concat three shape", &[int("axis", 0)])
        .node("is_open = Equal wanted open", &[])
        .node("target = Where is_open one wanted", &[])
        .node("y = Expand x target", &[]);
    assert_eq!(onnx.forward(), "%y = broadcast %x : f32[3, S]");
}

#[test]
fn remainders_and_transposed_matrices() {
    // 7 mod −4 = −1, and with the sign of the dividend 3: together 2. The turned matrix is (2, 2), (8, 8).
    let onnx = Onnx::new(&["x 4 4"], &["y 2 8"])
        .longs("seven", &[7])
        .longs("minus", &[-4])
        .longs("rows", &[2, 2])
        .longs("flat", &[-1])
        .longs("parts", &[2, 8, 2, 8])
        .longs("third", &[2])
        .node("a = Mod seven minus", &[])
        .node("b = Mod seven minus", &[int("fmod", 1)])
        .node("two = Add a b", &[])
        .node("square = Reshape parts rows", &[])
        .node("turned = Transpose square", &[])
        .node("list = Reshape turned flat", &[])
        .node("eight = Gather list third", &[])
        .node("shape = Concat two eight", &[int("axis", 0)])
        .node("y = Reshape x shape", &[]);
    assert_eq!(onnx.forward(), "%y = reshape %x : f32[2, 8]");
}

#[test]
fn roots_of_sizes() {
    let onnx = Onnx::new(&["x 2 8"], &["y 4 4"])
        .longs("area", &[16])
        .node("real = Cast area", &[int("to", 1)])
        .node("root = Sqrt real", &[])
        .node("side = Cast root", &[int("to", 7)])
        .node("shape = Concat side side", &[int("axis", 0)])
        .node("y = Reshape x shape", &[]);
    assert_eq!(onnx.forward(), "%y = reshape %x : f32[4, 4]");
}

#[test]
fn a_size_as_data_is_a_scalar_of_the_graph() {
    let onnx = Onnx::new(&["x S 3"], &["y S 3"])
        .longs("first", &[0])
        .node("shape = Shape x", &[])
        .node("length = Gather shape first", &[])
        .node("real = Cast length", &[int("to", 1)])
        .node("y = Div x real", &[]);
    assert_eq!(
        onnx.forward(),
        "%length.size = size {value=S} : i64[]\n%length = reshape %length.size : i64[1]\n%real = cast %length : f32[1]\n\
         %y.broadcast = broadcast %real : f32[S, 3]\n%y = div %x, %y.broadcast : f32[S, 3]"
    );
}

#[test]
fn counting_begins_anywhere() {
    let onnx = Onnx::new(&["x S", "past P"], &["y S"])
        .longs("one", &[1])
        .node("from = Shape past", &[])
        .node("count = Shape x", &[])
        .node("to = Add from count", &[])
        .node("i = Range from to one", &[])
        .node("real = Cast i", &[int("to", 1)])
        .node("y = Mul x real", &[]);
    assert!(onnx.forward().contains("iota {axis=0} : i64[S]"));
}

#[test]
fn bounds_of_slices_may_be_sizes() {
    let slice = |from: &str, to: &str| {
        Onnx::new(&["x P 3", "past Q"], &["y ? 3"])
            .longs("zero", &[0])
            .longs("one", &[1])
            .longs("end", &[i64::MAX])
            .node("past_size = Shape past", &[])
            .node("back = Neg past_size", &[])
            .node("size = Shape x", &[int("end", 1)])
            .node("more = Add size one", &[])
            .node(&format!("y = Slice x {from} {to} zero"), &[])
            .forward()
    };
    assert_eq!(slice("back", "end"), "%y = slice %x {start=[P-Q, 0]} : f32[Q, 3]");
    assert_eq!(slice("one", "more"), "%y = slice %x {start=[1, 0]} : f32[P-1, 3]");
    assert_eq!(slice("zero", "past_size"), "%y = slice %x {start=[0, 0]} : f32[Q, 3]");
}
