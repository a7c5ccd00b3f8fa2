use lrpc_ir::DType;

use crate::support::*;

const X: [usize; 4] = [2, 3, 7, 6];
const Y: [usize; 4] = [2, 3, 4, 3];
const ATTRIBUTES: &str = "window=[3, 2], stride=2, pad=1, dilation=[1, 2]";

/// The places inside of a window, in order.
fn places(y: &[usize]) -> Vec<usize> {
    let inside = |tap: &Vec<usize>| {
        let place = [(y[2] * 2 + tap[0]) as i64 - 1, (y[3] * 2 + tap[1] * 2) as i64 - 1];
        let inside = (0..7).contains(&place[0]) && (0..6).contains(&place[1]);
        inside.then(|| flat(&X, &[y[0], y[1], place[0] as usize, place[1] as usize]))
    };
    indices(&[3, 2]).iter().filter_map(inside).collect()
}

fn divisor(kind: &str, y: &[usize]) -> f64 {
    // With a pad of 1 before and 0 (rows) or 1 (columns) after.
    let padded = |tap: &&Vec<usize>| y[2] * 2 + tap[0] < 8 && y[3] * 2 + tap[1] * 2 < 8;
    match kind {
        "sum" => 1.0,
        "average" => places(y).len() as f64,
        _ => indices(&[3, 2]).iter().filter(padded).count() as f64,
    }
}

#[test]
fn windows() {
    for kind in ["max", "sum", "average", "average_with_padding"] {
        let after = if kind == "average_with_padding" { ", pad_after=[0, 1]" } else { "" };
        check(
            &format!(
                "input %x : f32{X:?}\nforward\n  %y = pool %x {{kind={kind}, {ATTRIBUTES}{after}}} : f32{Y:?}\nresult \"y\" = %y\n"
            ),
            |v| {
                let window = |y: &Vec<usize>| {
                    let values = places(y).into_iter().map(|place| v[0][place]);
                    if kind == "max" {
                        values.fold(f64::NEG_INFINITY, f64::max)
                    } else {
                        values.sum::<f64>() / divisor(kind, y)
                    }
                };
                indices(&Y).iter().map(window).collect()
            },
        );
    }
}

#[test]
fn places_of_maxima() {
    check(
        &format!(
            "input %x : f32{X:?}\nforward\n  %p = pool_argmax %x {{{ATTRIBUTES}}} : i64{Y:?}\n  %y = cast %p : f32{Y:?}\nresult \"y\" = %y\n"
        ),
        |v| {
            let first_largest = |y: &Vec<usize>| {
                let best =
                    places(y).into_iter().reduce(|best, place| if v[0][place] > v[0][best] { place } else { best });
                (best.unwrap_or(0) % (X[2] * X[3])) as f64
            };
            indices(&Y).iter().map(first_largest).collect()
        },
    );
}

#[test]
fn adjoints_of_windows() {
    for kind in ["sum", "average", "average_with_padding"] {
        let after = if kind == "average_with_padding" { ", pad_after=[0, 1]" } else { "" };
        check(
            &format!(
                "input %g : f32{Y:?}\nforward\n  %y = pool_transpose %g {{kind={kind}, {ATTRIBUTES}{after}}} : f32{X:?}\nresult \"y\" = %y\n"
            ),
            |v| {
                let mut out = vec![0.0; X.iter().product()];
                for (y, g) in indices(&Y).iter().zip(&v[0]) {
                    places(y).into_iter().for_each(|place| out[place] += g / divisor(kind, y));
                }
                out
            },
        );
    }
}

fn check_winners(x: impl Fn(f64) -> f64) {
    let graph = parse(&format!(
        "input %x : f32{X:?}\ninput %g : f32{Y:?}\nforward\n  %y = pool_transpose %x, %g {{kind=max, {ATTRIBUTES}}} : f32{X:?}\nresult \"y\" = %y\n"
    ));
    let mut inputs = noisy_inputs(&graph);
    let values: Vec<f64> = inputs["x"].to_f64().into_iter().map(x).collect();
    inputs.insert("x".into(), tensor(DType::F32, &X, &values));
    check_on(&graph, &inputs, |v| {
        let mut out = vec![0.0; X.iter().product()];
        for (y, g) in indices(&Y).iter().zip(&v[1]) {
            let places = places(y);
            let largest = places.iter().map(|&place| v[0][place]).fold(f64::NEG_INFINITY, f64::max);
            let winner = places.into_iter().find(|&place| v[0][place] == largest).unwrap();
            out[winner] += g;
        }
        out
    });
}

#[test]
fn the_first_of_equals_wins() {
    check_winners(|x| x);
    check_winners(f64::round);
    check_winners(|x| if x < 0.5 { f64::NEG_INFINITY } else { 0.0 * x });
}

#[test]
fn pooling_in_one_and_three_dimensions() {
    check(
        "input %x : f32[1, 2, 9]\nforward\n  %y = pool %x {kind=max, window=[3], stride=3} : f32[1, 2, 3]\nresult \"y\" = %y\n",
        |v| v[0].chunks(3).map(|window| window.iter().copied().fold(f64::NEG_INFINITY, f64::max)).collect(),
    );
    check(
        "input %x : f32[1, 1, 2, 2, 4]\nforward\n  %y = pool %x {kind=average, window=[2, 2, 2], stride=2} : f32[1, 1, 1, 1, 2]\nresult \"y\" = %y\n",
        |v| {
            let mean = |first: usize| (0..8).map(|i| v[0][i / 2 * 4 + i % 2 + first]).sum::<f64>() / 8.0;
            vec![mean(0), mean(2)]
        },
    );
}

#[test]
fn linear_resize_of_a_plane() {
    // Twice as many rows and columns, half-pixel centres: weights ¼ and ¾, edges repeated.
    check(
        "input %x : f32[1, 1, 2, 3]\nforward\n  %y = resize %x {mode=linear, coordinates=half_pixel} : f32[1, 1, 4, 6]\nresult \"y\" = %y\n",
        |v| {
            let taps = |place: usize, size: i64| {
                let near = place as i64 / 2;
                let other = if place.is_multiple_of(2) { near - 1 } else { near + 1 };
                [(near, 0.75), (other.clamp(0, size - 1), 0.25)]
            };
            let value = |i: &Vec<usize>| {
                taps(i[0], 2)
                    .iter()
                    .flat_map(|(r, p)| taps(i[1], 3).map(|(c, q)| p * q * v[0][(r * 3 + c) as usize]))
                    .sum()
            };
            indices(&[4, 6]).iter().map(value).collect()
        },
    );
}

#[test]
fn nearest_resize_repeats_elements() {
    check(
        "input %x : f32[1, 2, 3]\nforward\n  %y = resize %x {mode=nearest, coordinates=asymmetric, rounding=floor} : f32[1, 2, 6]\nresult \"y\" = %y\n",
        |v| v[0].iter().flat_map(|&x| [x, x]).collect(),
    );
}
