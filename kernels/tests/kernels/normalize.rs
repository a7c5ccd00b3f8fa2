use crate::support::*;

const SHAPE: [usize; 3] = [3, 4, 5];

#[test]
fn softmax_along_any_axis() {
    for axis in 0..3 {
        for (name, log) in [("softmax", false), ("log_softmax", true)] {
            check(
                &format!(
                    "input %x : f32{SHAPE:?}\nforward\n  %y = {name} %x {{axis={axis}}} : f32{SHAPE:?}\nresult \"y\" = %y\n"
                ),
                |v| {
                    let value = |index: &Vec<usize>| {
                        let at = |i: usize| {
                            let mut other = index.clone();
                            other[axis] = i;
                            v[0][flat(&SHAPE, &other)].exp()
                        };
                        let share = at(index[axis]) / (0..SHAPE[axis]).map(at).sum::<f64>();
                        if log { share.ln() } else { share }
                    };
                    indices(&SHAPE).iter().map(value).collect()
                },
            );
        }
    }
}

#[test]
fn masked_places_get_nothing() {
    let graph = parse("input %x : f32[2, 3]\nforward\n  %y = softmax %x {axis=1} : f32[2, 3]\nresult \"y\" = %y\n");
    let low = f64::NEG_INFINITY;
    let inputs = [("x".into(), tensor(lrpc_ir::DType::F32, &[2, 3], &[low, 80.0, 80.0, 1000.0, low, low]))].into();
    check_on(&graph, &inputs, |_| vec![0.0, 0.5, 0.5, 1.0, 0.0, 0.0]);
}

/// `(x − mean)/√(mean of squares about it + eps)` over rows of `row` elements; without the mean where `centred` is false.
fn normalized(x: &[f64], row: usize, centred: bool, eps: f64) -> Vec<f64> {
    x.chunks(row)
        .flat_map(|x| {
            let mean = if centred { x.iter().sum::<f64>() / row as f64 } else { 0.0 };
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / row as f64;
            x.iter().map(move |x| (x - mean) / (variance + eps).sqrt()).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn layer_and_rms_norm() {
    check(
        "input %x : f32[3, 4, 5]\ninput %s : f32[4, 5]\ninput %b : f32[4, 5]\nforward\n  %y = layer_norm %x, %s, %b {axis=1, eps=0.01} : f32[3, 4, 5]\nresult \"y\" = %y\n",
        |v| {
            normalized(&v[0], 20, true, 0.01).iter().enumerate().map(|(i, x)| x * v[1][i % 20] + v[2][i % 20]).collect()
        },
    );
    check(
        "input %x : f32[6, 7]\ninput %s : f32[7]\nforward\n  %y = rms_norm %x, %s {axis=1, eps=0.01} : f32[6, 7]\nresult \"y\" = %y\n",
        |v| normalized(&v[0], 7, false, 0.01).iter().enumerate().map(|(i, x)| x * v[1][i % 7]).collect(),
    );
}

#[test]
fn group_and_batch_norm() {
    check(
        "input %x : f32[2, 6, 3, 3]\ninput %s : f32[6]\ninput %b : f32[6]\nforward\n  %y = group_norm %x, %s, %b {groups=3, eps=0.01} : f32[2, 6, 3, 3]\nresult \"y\" = %y\n",
        |v| {
            let channel = |i: usize| i / 9 % 6;
            normalized(&v[0], 18, true, 0.01)
                .iter()
                .enumerate()
                .map(|(i, x)| x * v[1][channel(i)] + v[2][channel(i)])
                .collect()
        },
    );
    let graph = parse(
        "input %x : f32[2, 3, 4]\ninput %s : f32[3]\ninput %b : f32[3]\ninput %m : f32[3]\ninput %v : f32[3]\nforward\n  %y = batch_norm %x, %s, %b, %m, %v {eps=0.01} : f32[2, 3, 4]\nresult \"y\" = %y\n",
    );
    let mut inputs = noisy_inputs(&graph);
    inputs.insert("v".into(), tensor(lrpc_ir::DType::F32, &[3], &[0.5, 2.0, 1.0]));
    check_on(&graph, &inputs, |v| {
        let value = |(i, x): (usize, &f64)| {
            let c = i / 4 % 3;
            (x - v[3][c]) / (v[4][c] + 0.01).sqrt() * v[1][c] + v[2][c]
        };
        v[0].iter().enumerate().map(value).collect()
    });
}
