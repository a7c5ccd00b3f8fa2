use std::sync::Arc;

use lrpc_ir::DType;
use lrpc_ir::plan::Precision;
use lrpc_kernels::{Executor, Options, RunErrorKind};

use crate::support::*;

#[test]
fn gathers_and_their_adjoints() {
    let graph = parse(
        "input %x : f32[2, 4, 3]\ninput %i : i64[2, 3]\nforward\n  %y = gather %x, %i {axis=1} : f32[2, 2, 3, 3]\nresult \"y\" = %y\n",
    );
    let index = [0.0, -1.0, 3.0, 3.0, -4.0, 1.0];
    let mut inputs = noisy_inputs(&graph);
    inputs.insert("i".into(), tensor(DType::I64, &[2, 3], &index));
    let row = |position: usize| (index[position] as i64).rem_euclid(4) as usize;
    check_on(&graph, &inputs, |v| {
        indices(&[2, 2, 3, 3]).iter().map(|i| v[0][(i[0] * 4 + row(i[1] * 3 + i[2])) * 3 + i[3]]).collect()
    });
    let graph = parse(
        "input %x : f32[2, 2, 3, 3]\ninput %i : i32[2, 3]\nforward\n  %y = scatter_add %x, %i {axis=1} : f32[2, 4, 3]\nresult \"y\" = %y\n",
    );
    let mut inputs = noisy_inputs(&graph);
    inputs.insert("i".into(), tensor(DType::I32, &[2, 3], &index));
    check_on(&graph, &inputs, |v| {
        let mut out = vec![0.0; 24];
        let each = indices(&[2, 2, 3, 3]);
        each.iter().zip(&v[0]).for_each(|(i, x)| out[(i[0] * 4 + row(i[1] * 3 + i[2])) * 3 + i[3]] += x);
        out
    });
}

/// The index's first axis is the operand's; rows of one block are chosen for all of its middle axis.
#[test]
fn batched_gathers_and_their_adjoints() {
    let graph = parse(
        "input %x : f32[2, 3, 4, 2]\ninput %i : i64[2, 3]\nforward\n  %y = gather %x, %i {axis=2, batch=1} : f32[2, 3, 3, 2]\nresult \"y\" = %y\n",
    );
    let index = [0.0, -1.0, 3.0, 2.0, 2.0, -4.0];
    let mut inputs = noisy_inputs(&graph);
    inputs.insert("i".into(), tensor(DType::I64, &[2, 3], &index));
    let place = |i: &[usize]| {
        let row = (index[i[0] * 3 + i[2]] as i64).rem_euclid(4) as usize;
        ((i[0] * 3 + i[1]) * 4 + row) * 2 + i[3]
    };
    check_on(&graph, &inputs, |v| indices(&[2, 3, 3, 2]).iter().map(|i| v[0][place(i)]).collect());
    let graph = parse(
        "input %x : f32[2, 3, 3, 2]\ninput %i : i64[2, 3]\nforward\n  %y = scatter_add %x, %i {axis=2, batch=1} : f32[2, 3, 4, 2]\nresult \"y\" = %y\n",
    );
    let mut inputs = noisy_inputs(&graph);
    inputs.insert("i".into(), tensor(DType::I64, &[2, 3], &index));
    check_on(&graph, &inputs, |v| {
        let mut out = vec![0.0; 48];
        indices(&[2, 3, 3, 2]).iter().zip(&v[0]).for_each(|(i, x)| out[place(i)] += x);
        out
    });
}

#[test]
fn the_best_come_first_and_of_equals_the_first() {
    let run = |largest: &str, expected: Vec<f64>| {
        let graph = parse(&format!(
            "input %x : f32[1, 5, 2]\nforward\n  %y = top_k %x {{axis=1{largest}}} : i64[1, 3, 2]\nresult \"y\" = %y\n"
        ));
        let x = [1.0, f64::NEG_INFINITY, 3.0, 0.0, 3.0, -0.0, -1.0, f64::INFINITY, 2.0, 5.0];
        let inputs = [("x".into(), tensor(DType::F32, &[1, 5, 2], &x))].into();
        check_on(&graph, &inputs, |_| expected.clone());
    };
    run(", largest=true", vec![1.0, 3.0, 2.0, 4.0, 4.0, 1.0]);
    run("", vec![3.0, 0.0, 0.0, 1.0, 4.0, 2.0]);
}

#[test]
fn indices_outside_are_named() {
    let graph = parse(
        "input %x : f32[4]\ninput %i : i64[2]\nforward\n  %y = gather %x, %i {axis=0} : f32[2]\nresult \"y\" = %y\n",
    );
    for bad in [4.0, -5.0] {
        let mut inputs = noisy_inputs(&graph);
        inputs.insert("i".into(), tensor(DType::I64, &[2], &[0.0, bad]));
        let plan = Arc::new(plan_of(&graph, Precision::F32));
        let error = Executor::new(plan, &NoWeights, Options::default()).unwrap().run(&inputs, None).unwrap_err();
        assert_eq!(error.kind, RunErrorKind::Index { index: bad as i64, size: 4 });
        assert_eq!(
            (error.step.as_deref(), error.operands.as_slice()),
            (Some("y"), &["f32[4]".into(), "i64[2]".into()][..])
        );
    }
}

#[test]
fn winners_are_the_first_of_equals() {
    let graph = parse("input %x : f32[2, 4]\nforward\n  %y = argmax %x {axis=1} : i64[2]\nresult \"y\" = %y\n");
    let inputs = [("x".into(), tensor(DType::F32, &[2, 4], &[1.0, 3.0, 3.0, -1.0, -0.0, 0.0, -2.0, 0.0]))].into();
    check_on(&graph, &inputs, |_| vec![1.0, 0.0]);
    let graph = parse("input %x : f32[3, 2]\nforward\n  %y = argmin %x {axis=0} : i64[2]\nresult \"y\" = %y\n");
    let infinite = f64::NEG_INFINITY;
    let inputs = [("x".into(), tensor(DType::F32, &[3, 2], &[1.0, infinite, -3.0, infinite, 0.0, 2.0]))].into();
    check_on(&graph, &inputs, |_| vec![1.0, 0.0]);
}

#[test]
fn one_hot_rows() {
    let graph = parse("input %i : i64[3]\nforward\n  %y = one_hot %i : f32[3, 4]\nresult \"y\" = %y\n");
    let inputs = [("i".into(), tensor(DType::I64, &[3], &[2.0, 4.0, -1.0]))].into();
    check_on(&graph, &inputs, |_| vec![0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
}
