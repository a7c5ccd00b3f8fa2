use crate::support::*;

/// A convolution straight from the definition, for any number of spatial axes.
struct Conv<'a> {
    x: &'a [usize],
    weight: &'a [usize],
    y: &'a [usize],
    stride: i64,
    pad: &'a [i64],
    dilation: i64,
    groups: usize,
}

impl Conv<'_> {
    /// Calls `visit(x place, weight place, y place)` for every product.
    fn each(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let (inputs, outputs) = (self.weight[1], self.weight[0] / self.groups);
        for y in indices(self.y) {
            for tap in indices(&self.weight[2..]) {
                let place =
                    |axis: usize| y[axis + 2] as i64 * self.stride + tap[axis] as i64 * self.dilation - self.pad[axis];
                let places: Vec<i64> = (0..tap.len()).map(place).collect();
                if places.iter().zip(&self.x[2..]).any(|(&place, &size)| place < 0 || place >= size as i64) {
                    continue;
                }
                for input in 0..inputs {
                    let mut x = vec![y[0], y[1] / outputs * inputs + input];
                    x.extend(places.iter().map(|&place| place as usize));
                    let weight = [vec![y[1], input], tap.clone()].concat();
                    visit(flat(self.x, &x), flat(self.weight, &weight), flat(self.y, &y));
                }
            }
        }
    }
}

fn dims(shape: &[usize]) -> String {
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[track_caller]
fn check_conv(conv: &Conv<'_>) {
    let (x, w, y) = (dims(conv.x), dims(conv.weight), dims(conv.y));
    let pads = conv.pad.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (stride, dilation, groups) = (conv.stride, conv.dilation, conv.groups);
    let attributes = format!("{{stride={stride}, pad=[{pads}], dilation={dilation}, groups={groups}}}");
    // Without and with a bias, which stands after the other operands.
    for bias in [false, true] {
        let name = if bias { ", %b" } else { "" };
        let declared = |channels: usize| if bias { format!("input %b : f32[{channels}]\n") } else { String::new() };
        let start = |values: &[Vec<f64>], shape: &[usize]| -> Vec<f64> {
            let plane: usize = shape[2..].iter().product();
            let of_place = |place: usize| values.get(2).map_or(0.0, |bias| bias[place / plane % shape[1]]);
            (0..shape.iter().product()).map(of_place).collect()
        };
        let operands = format!("input %x : f32[{x}]\ninput %w : f32[{w}]\n{}", declared(conv.y[1]));
        check(
            &format!("{operands}forward\n  %y = conv %x, %w{name} {attributes} : f32[{y}]\nresult \"y\" = %y\n"),
            |values| {
                let mut out = start(values, conv.y);
                conv.each(|x, w, y| out[y] += values[0][x] * values[1][w]);
                out
            },
        );
        let operands = format!("input %y : f32[{y}]\ninput %w : f32[{w}]\n{}", declared(conv.x[1]));
        check(
            &format!(
                "{operands}forward\n  %x = conv_transpose %y, %w{name} {attributes} : f32[{x}]\nresult \"y\" = %x\n"
            ),
            |values| {
                let mut out = start(values, conv.x);
                conv.each(|x, w, y| out[x] += values[0][y] * values[1][w]);
                out
            },
        );
    }
}

#[test]
fn convolutions_in_two_dimensions() {
    check_conv(&Conv {
        x: &[2, 3, 9, 7],
        weight: &[5, 3, 3, 3],
        y: &[2, 5, 9, 7],
        stride: 1,
        pad: &[1, 1],
        dilation: 1,
        groups: 1,
    });
    check_conv(&Conv {
        x: &[1, 4, 11, 8],
        weight: &[6, 2, 3, 2],
        y: &[1, 6, 5, 4],
        stride: 2,
        pad: &[0, 1],
        dilation: 2,
        groups: 2,
    });
    check_conv(&Conv {
        x: &[1, 2, 5, 5],
        weight: &[3, 2, 4, 4],
        y: &[1, 3, 4, 6],
        stride: 1,
        pad: &[1, 3],
        dilation: 1,
        groups: 1,
    });
}

#[test]
fn windows_of_one_element() {
    check_conv(&Conv {
        x: &[2, 7, 5, 3],
        weight: &[4, 7, 1, 1],
        y: &[2, 4, 5, 3],
        stride: 1,
        pad: &[0, 0],
        dilation: 1,
        groups: 1,
    });
    check_conv(&Conv {
        x: &[1, 6, 4, 4],
        weight: &[4, 3, 1, 1],
        y: &[1, 4, 2, 2],
        stride: 2,
        pad: &[0, 0],
        dilation: 1,
        groups: 2,
    });
}

#[test]
fn one_channel_per_group() {
    check_conv(&Conv {
        x: &[2, 5, 9, 6],
        weight: &[5, 1, 3, 3],
        y: &[2, 5, 5, 3],
        stride: 2,
        pad: &[1, 1],
        dilation: 1,
        groups: 5,
    });
    check_conv(&Conv {
        x: &[1, 3, 8, 8],
        weight: &[6, 1, 3, 3],
        y: &[1, 6, 8, 8],
        stride: 1,
        pad: &[2, 2],
        dilation: 2,
        groups: 3,
    });
}

#[test]
fn one_and_three_dimensions() {
    check_conv(&Conv {
        x: &[2, 3, 17],
        weight: &[4, 3, 5],
        y: &[2, 4, 6],
        stride: 3,
        pad: &[2],
        dilation: 1,
        groups: 1,
    });
    check_conv(&Conv {
        x: &[1, 2, 4, 5, 6],
        weight: &[3, 2, 3, 2, 2],
        y: &[1, 3, 4, 4, 5],
        stride: 1,
        pad: &[1, 0, 0],
        dilation: 1,
        groups: 1,
    });
}

#[test]
fn negative_pads_crop() {
    check_conv(&Conv {
        x: &[1, 2, 7, 7],
        weight: &[2, 2, 2, 2],
        y: &[1, 2, 4, 3],
        stride: 1,
        pad: &[-1, -2],
        dilation: 1,
        groups: 1,
    });
}

#[test]
fn more_windows_and_rows_than_one_block() {
    check_conv(&Conv {
        x: &[1, 40, 30, 31],
        weight: &[9, 40, 3, 3],
        y: &[1, 9, 30, 31],
        stride: 1,
        pad: &[1, 1],
        dilation: 1,
        groups: 1,
    });
    check_conv(&Conv {
        x: &[9, 3, 6, 6],
        weight: &[8, 3, 3, 3],
        y: &[9, 8, 4, 4],
        stride: 1,
        pad: &[0, 0],
        dilation: 1,
        groups: 1,
    });
}

/// `y[b, m, n] = Σ_k x[b, m, k]·w[b, k, n]` with the axes as given.
#[track_caller]
fn check_product(batch: usize, m: usize, k: usize, n: usize) {
    check(
        &format!(
            "input %x : f32[{batch}, {m}, {k}]\ninput %w : f32[{batch}, {k}, {n}]\nforward\n  %y = dot %x, %w {{batch=0x0, contract=2x1}} : f32[{batch}, {m}, {n}]\nresult \"y\" = %y\n"
        ),
        |values| {
            let each = indices(&[batch, m, n]);
            each.iter()
                .map(|i| {
                    (0..k).map(|d| values[0][(i[0] * m + i[1]) * k + d] * values[1][(i[0] * k + d) * n + i[2]]).sum()
                })
                .collect()
        },
    );
}

#[test]
fn matrix_products() {
    for (batch, m, k, n) in [
        (1, 5, 7, 3),
        (3, 1, 300, 10),
        (2, 70, 33, 129),
        (1, 1, 5, 600),
        (2, 9, 1, 1),
        (1, 200, 40, 90),
        (2, 3, 0, 4),
        (0, 2, 3, 4),
    ] {
        check_product(batch, m, k, n);
    }
}

#[test]
fn dense_layers_with_transposed_weight_and_bias() {
    for rows in [1, 3, 17] {
        check(
            &format!(
                "input %x : f32[{rows}, 37]\ninput %w : f32[300, 37]\ninput %b : f32[300]\nforward\n  %y = dot %x, %w, %b {{contract=1x1}} : f32[{rows}, 300]\nresult \"y\" = %y\n"
            ),
            |v| {
                indices(&[rows, 300])
                    .iter()
                    .map(|i| v[2][i[1]] + (0..37).map(|k| v[0][i[0] * 37 + k] * v[1][i[1] * 37 + k]).sum::<f64>())
                    .collect()
            },
        );
    }
}

#[test]
fn several_free_and_contracted_axes() {
    // y[b, i, l, j] = Σ_{c, d} x[i, c, b, l, d]·w[d, j, c, b]: no group of axes is evenly spaced.
    check(
        "input %x : f32[3, 2, 4, 5, 6]\ninput %w : f32[6, 7, 2, 4]\nforward\n  %y = dot %x, %w {batch=2x3, contract=[1x2, 4x0]} : f32[4, 3, 5, 7]\nresult \"y\" = %y\n",
        |v| {
            let term = |i: &[usize], c: usize, d: usize| {
                v[0][flat(&[3, 2, 4, 5, 6], &[i[1], c, i[0], i[2], d])] * v[1][flat(&[6, 7, 2, 4], &[d, i[3], c, i[0]])]
            };
            let each = indices(&[4, 3, 5, 7]);
            each.iter().map(|i| indices(&[2, 6]).iter().map(|s| term(i, s[0], s[1])).sum()).collect()
        },
    );
}

#[test]
fn rows_do_not_depend_on_other_rows() {
    let graph = parse(
        "input %x : f32[3, 2, 8, 8]\ninput %w : f32[5, 2, 3, 3]\nforward\n  %c = conv %x, %w : f32[3, 5, 6, 6]\n  %f = reshape %c : f32[3, 180]\n  %y = dot %f, %f {contract=1x1} : f32[3, 3]\nresult \"y\" = %c\n",
    );
    let mut inputs = noisy_inputs(&graph);
    let before = run_graph(&graph, &inputs, lrpc_ir::plan::Precision::F32, 2);
    let mut x = inputs["x"].to_f64();
    x[128..].iter_mut().for_each(|x| *x = *x * 1e20 + 7.0);
    inputs.insert("x".into(), tensor(lrpc_ir::DType::F32, &[3, 2, 8, 8], &x));
    let after = run_graph(&graph, &inputs, lrpc_ir::plan::Precision::F32, 2);
    assert_eq!(before.bytes()[..180 * 4], after.bytes()[..180 * 4]);
    assert_ne!(before.bytes()[180 * 4..], after.bytes()[180 * 4..]);
}
