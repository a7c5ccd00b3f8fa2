use crate::support::*;

#[test]
fn reductions_over_any_axes() {
    let shape = [3usize, 4, 5, 6];
    for axes in [vec![], vec![0], vec![3], vec![1, 2], vec![0, 2], vec![1, 3], vec![0, 1, 2, 3]] {
        let kept: Vec<usize> = (0..4).filter(|axis| !axes.contains(axis)).collect();
        let result: Vec<usize> = kept.iter().map(|&axis| shape[axis]).collect();
        for (kind, start) in
            [("sum", 0.0), ("mean", 0.0), ("max", f64::NEG_INFINITY), ("min", f64::INFINITY), ("product", 1.0)]
        {
            check(
                &format!(
                    "input %x : f32[3, 4, 5, 6]\nforward\n  %y = reduce_{kind} %x {{axes={axes:?}}} : f32{result:?}\nresult \"y\" = %y\n"
                ),
                |v| {
                    let mut out = vec![start; result.iter().product()];
                    for index in indices(&shape) {
                        let place = flat(&result, &kept.iter().map(|&axis| index[axis]).collect::<Vec<_>>());
                        let x = v[0][flat(&shape, &index)];
                        out[place] = match kind {
                            "max" => out[place].max(x),
                            "min" => out[place].min(x),
                            "product" => out[place] * x,
                            _ => out[place] + x,
                        };
                    }
                    let count = axes.iter().map(|&axis: &usize| shape[axis]).product::<usize>() as f64;
                    if kind == "mean" { out.iter().map(|sum| sum / count).collect() } else { out }
                },
            );
        }
    }
}

#[test]
fn long_rows_and_wide_blocks() {
    for (shape, axes, rows) in [([5usize, 1000], "[1]", true), ([300, 700], "[0]", false)] {
        let length = if rows { shape[0] } else { shape[1] };
        check(
            &format!(
                "input %x : f32{shape:?}\nforward\n  %y = reduce_sum %x {{axes={axes}}} : f32[{length}]\nresult \"y\" = %y\n"
            ),
            |v| {
                let mut out = vec![0.0; length];
                indices(&shape).iter().for_each(|i| out[if rows { i[0] } else { i[1] }] += v[0][flat(&shape, i)]);
                out
            },
        );
    }
}

#[test]
fn nothing_reduces_to_the_neutral_element() {
    check("input %x : f32[2, 0]\nforward\n  %y = reduce_sum %x {axes=[1]} : f32[2]\nresult \"y\" = %y\n", |_| {
        vec![0.0; 2]
    });
    check("input %x : f32[2, 0]\nforward\n  %y = reduce_max %x {axes=[1]} : f32[2]\nresult \"y\" = %y\n", |_| {
        vec![f64::NEG_INFINITY; 2]
    });
}

#[test]
fn running_sums() {
    for (exclusive, reverse) in [(false, false), (true, false), (false, true), (true, true)] {
        check(
            &format!("input %x : f32[2, 5, 3]\nforward\n  %y = cumulative_sum %x {{axis=1, exclusive={exclusive}, reverse={reverse}}} : f32[2, 5, 3]\nresult \"y\" = %y\n")
                .replace(", exclusive=false", "").replace(", reverse=false", ""),
            |v| {
                let sum = |i: &Vec<usize>| {
                    let within = |j: usize| if reverse { j > i[1] || (!exclusive && j == i[1]) } else { j < i[1] || (!exclusive && j == i[1]) };
                    (0..5).filter(|&j| within(j)).map(|j| v[0][(i[0] * 5 + j) * 3 + i[2]]).sum()
                };
                indices(&[2, 5, 3]).iter().map(sum).collect()
            },
        );
    }
}
