//! ⟨A x, y⟩ = ⟨x, Aᵀ y⟩ in `f64`.

use lrpc_ir::plan::Precision;

use crate::support::*;

/// `forward` and `adjoint` are operations with attributes, over `x` and `y`; `weight` is the shape of a shared operand.
#[track_caller]
fn check_adjoint(x: &[usize], y: &[usize], weight: Option<&[usize]>, forward: &str, adjoint: &str) {
    let extra = weight.map_or(String::new(), |shape| format!("input %w : f32{shape:?}\n"));
    let parse_one = |from: &[usize], to: &[usize], op: &str| {
        parse(&format!("input %x : f32{from:?}\n{extra}forward\n  %y = {op} : f32{to:?}\nresult \"y\" = %y\n"))
    };
    let (there, back) = (parse_one(x, y, forward), parse_one(y, x, adjoint));
    let (there_in, back_in) = (noisy_inputs(&there), noisy_inputs(&back));
    let image = run_graph(&there, &there_in, Precision::F64, 2).to_f64();
    let coimage = run_graph(&back, &back_in, Precision::F64, 2).to_f64();
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (left, right) = (product(&image, &back_in["x"].to_f64()), product(&there_in["x"].to_f64(), &coimage));
    let scale = product(&image, &image).sqrt() * product(&back_in["x"].to_f64(), &back_in["x"].to_f64()).sqrt();
    assert!((left - right).abs() <= 1e-12 * scale, "{forward}: {left} against {right}");
    assert!(scale > 0.0);
}

#[test]
fn convolutions() {
    for (x, y, weight, attributes) in [
        (vec![2, 4, 9, 8], vec![2, 6, 5, 3], vec![6, 2, 3, 2], "{stride=[2, 3], pad=[1, 0], groups=2}"),
        (vec![1, 3, 40, 33], vec![1, 5, 38, 29], vec![5, 3, 2, 3], "{dilation=2}"),
        (vec![1, 5, 9, 9], vec![1, 5, 5, 5], vec![5, 1, 5, 5], "{stride=2, pad=2, groups=5}"),
        (vec![3, 8, 12], vec![3, 4, 12], vec![4, 8, 1], "{}"),
        (vec![1, 2, 4, 5, 6], vec![1, 3, 4, 3, 2], vec![3, 2, 3, 3, 3], "{stride=[1, 2, 3], pad=1}"),
    ] {
        let (forward, adjoint) = (format!("conv %x, %w {attributes}"), format!("conv_transpose %x, %w {attributes}"));
        check_adjoint(&x, &y, Some(&weight), &forward.replace(" {}", ""), &adjoint.replace(" {}", ""));
    }
}

#[test]
fn pooling() {
    for kind in ["sum", "average", "average_with_padding"] {
        let attributes = format!("kind={kind}, window=[3, 2], stride=[2, 1], pad=[1, 0]");
        check_adjoint(
            &[2, 3, 8, 7],
            &[2, 3, 4, 6],
            None,
            &format!("pool %x {{{attributes}}}"),
            &format!("pool_transpose %x {{{attributes}}}"),
        );
    }
}

#[test]
fn resizing() {
    for mode in ["nearest", "linear", "cubic"] {
        for coordinates in ["half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "align_corners", "asymmetric"] {
            for exclude in ["", ", exclude_outside=true"] {
                for to in [[1usize, 2, 9, 4], [1, 2, 3, 11], [1, 2, 1, 1]] {
                    let attributes = format!("mode={mode}, coordinates={coordinates}{exclude}");
                    let (forward, adjoint) =
                        (format!("resize %x {{{attributes}}}"), format!("resize_transpose %x {{{attributes}}}"));
                    check_adjoint(&[1, 2, 5, 6], &to, None, &forward, &adjoint);
                }
            }
        }
    }
}

#[test]
fn slices_and_pads() {
    check_adjoint(
        &[7, 6],
        &[3, 5],
        None,
        "slice %x {start=[6, 0], step=[-2, 1]}",
        "pad %x {before=[6, 0], step=[-2, 1]}",
    );
}
