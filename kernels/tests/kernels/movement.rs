use crate::support::*;

#[test]
fn transposes() {
    for (shape, perm) in [
        (vec![3, 4, 5], vec![2, 0, 1]),
        (vec![33, 50], vec![1, 0]),
        (vec![2, 3, 4, 5], vec![0, 3, 1, 2]),
        (vec![2, 17, 19], vec![0, 2, 1]),
        (vec![1, 6, 1], vec![2, 1, 0]),
        (vec![], vec![]),
        (vec![0, 3], vec![1, 0]),
    ] {
        let moved: Vec<usize> = perm.iter().map(|&axis: &usize| shape[axis]).collect();
        let (x, y) = (format!("{shape:?}"), format!("{moved:?}"));
        check(
            &format!("input %x : f32{x}\nforward\n  %y = transpose %x {{perm={perm:?}}} : f32{y}\nresult \"y\" = %y\n"),
            |v| {
                let source = |index: &Vec<usize>| {
                    let mut from = vec![0; shape.len()];
                    perm.iter().zip(index).for_each(|(&axis, &i)| from[axis] = i);
                    v[0][flat(&shape, &from)]
                };
                indices(&moved).iter().map(source).collect()
            },
        );
    }
}

#[test]
fn broadcasts() {
    check("input %x : f32[3, 1, 4]\nforward\n  %y = broadcast %x : f32[2, 3, 5, 4]\nresult \"y\" = %y\n", |v| {
        indices(&[2, 3, 5, 4]).iter().map(|i| v[0][i[1] * 4 + i[3]]).collect()
    });
    check("input %x : f32[]\nforward\n  %y = broadcast %x : f32[7, 2]\nresult \"y\" = %y\n", |v| vec![v[0][0]; 14]);
}

#[test]
fn slices_with_steps_of_both_signs() {
    check(
        "input %x : f32[7, 9]\nforward\n  %y = slice %x {start=[6, 1], step=[-2, 3]} : f32[4, 3]\nresult \"y\" = %y\n",
        |v| indices(&[4, 3]).iter().map(|i| v[0][(6 - 2 * i[0]) * 9 + 1 + 3 * i[1]]).collect(),
    );
    check("input %x : f32[4]\nforward\n  %y = slice %x {start=[0]} : f32[0]\nresult \"y\" = %y\n", |_| vec![]);
}

#[test]
fn pads_are_adjoints_of_slices_and_crop() {
    for (before, steps, shape) in [
        ([1i64, 2], [1i64, 1], [6usize, 9]),
        ([-1, -2], [1, 1], [3, 4]),
        ([5, 0], [-2, 3], [6, 14]),
        ([-3, 8], [2, -4], [5, 9]),
    ] {
        check(
            &format!(
                "input %x : f32[4, 5]\nforward\n  %y = pad %x {{before={before:?}, step={steps:?}, value=0.5}} : f32{shape:?}\nresult \"y\" = %y\n"
            ),
            |v| {
                let mut out = vec![0.5; shape.iter().product()];
                for i in indices(&[4, 5]) {
                    let place: Vec<i64> = (0..2).map(|axis| before[axis] + i[axis] as i64 * steps[axis]).collect();
                    if place.iter().zip(shape).all(|(&place, size)| (0..size as i64).contains(&place)) {
                        out[place[0] as usize * shape[1] + place[1] as usize] = v[0][i[0] * 5 + i[1]];
                    }
                }
                out
            },
        );
    }
}

#[test]
fn concatenations() {
    check(
        "input %a : f32[2, 1, 3]\ninput %b : f32[2, 0, 3]\ninput %c : f32[2, 4, 3]\nforward\n  %y = concat %a, %b, %c {axis=1} : f32[2, 5, 3]\nresult \"y\" = %y\n",
        |v| {
            let pick =
                |i: &Vec<usize>| if i[1] == 0 { v[0][i[0] * 3 + i[2]] } else { v[2][(i[0] * 4 + i[1] - 1) * 3 + i[2]] };
            indices(&[2, 5, 3]).iter().map(pick).collect()
        },
    );
}

#[test]
fn reshapes_copy_where_places_differ() {
    check("input %x : f32[3, 4]\nforward\n  %y = reshape %x : f32[2, 6]\nresult \"y\" = %y\n", |v| v[0].clone());
}

#[test]
fn movement_serves_every_element_type() {
    let graph =
        parse("input %x : i64[2, 3]\nforward\n  %y = transpose %x {perm=[1, 0]} : i64[3, 2]\nresult \"y\" = %y\n");
    let inputs = [("x".to_string(), tensor(lrpc_ir::DType::I64, &[2, 3], &[1.0, -2.0, 3.0, 4.0, 5.0, 6.0]))].into();
    check_on(&graph, &inputs, |_| vec![1.0, 4.0, -2.0, 5.0, 3.0, 6.0]);
    let graph =
        parse("input %x : bool[3]\nforward\n  %y = slice %x {start=[2], step=-1} : bool[3]\nresult \"y\" = %y\n");
    let inputs = [("x".to_string(), tensor(lrpc_ir::DType::Bool, &[3], &[1.0, 0.0, 0.0]))].into();
    check_on(&graph, &inputs, |_| vec![0.0, 0.0, 1.0]);
}
