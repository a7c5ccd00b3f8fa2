use std::collections::BTreeMap;

use lrpc_ir::plan::{Buffer, BufferId, KernelCall, Place, PlanInput, Precision};
use lrpc_ir::{Bindings, DType, Graph, Plan};
use lrpc_kernels::{CheckFinite, Options, RunErrorKind, Tensor};

use crate::support::*;

/// A plan of one fused step whose results are the graph's; inputs named in `in_place` are first copied to where the
/// result of that position is to lie.
fn fused_plan(graph: &Graph, precision: Precision, in_place: &[(usize, usize)]) -> Plan {
    let mut plan = Plan { precision, ..Plan::default() };
    let add = |plan: &mut Plan, value, place: Option<Place>| {
        let ty = graph.ty(value);
        let (dtype, shape) = (precision.storage(ty.dtype), ty.bound_shape(&Bindings::new()).unwrap());
        let buffer = Buffer {
            name: graph.name(value).into(),
            dtype,
            shape,
            place: place.unwrap_or(Place::Arena(plan.arena_bytes)),
        };
        if let Place::Arena(_) = buffer.place {
            plan.arena_bytes += buffer.bytes().next_multiple_of(64);
        }
        plan.buffers.push(buffer);
        BufferId(plan.buffers.len() as u32 - 1)
    };
    let outputs: Vec<BufferId> = graph.results.iter().map(|result| add(&mut plan, result.value, None)).collect();
    let mut inputs = Vec::new();
    for (position, input) in graph.inputs().into_iter().enumerate() {
        let id = add(&mut plan, input, Some(Place::Input(position)));
        plan.inputs.push(PlanInput { name: graph.name(input).into(), dtype: graph.ty(input).dtype, buffer: id });
        let shared = in_place.iter().find(|(which, _)| *which == position);
        inputs.push(match shared {
            None => id,
            Some((_, output)) => {
                let copy = add(&mut plan, input, Some(Place::Alias(outputs[*output])));
                plan.steps.push(step(KernelCall::Op(lrpc_ir::Op::Promise), vec![id], vec![copy], "copy"));
                copy
            }
        });
    }
    plan.steps.push(step(KernelCall::Fused(Box::new(graph.clone())), inputs, outputs.clone(), "fused"));
    plan.results = graph.results.iter().zip(outputs).map(|(result, id)| (result.name.clone(), id)).collect();
    plan
}

fn run(plan: Plan, inputs: &BTreeMap<String, Tensor>, threads: usize) -> BTreeMap<String, Tensor> {
    run_plan(plan, inputs, Options { threads, check_finite: CheckFinite::Off, memory_limit: None }).unwrap().results
}

/// A fused region must give the bits of its operations run one by one.
#[track_caller]
fn check_fused(body: &str) {
    let graph = parse(body);
    let inputs = noisy_inputs(&graph);
    for precision in [Precision::F32, Precision::F64] {
        let options = Options { threads: 1, check_finite: CheckFinite::Off, memory_limit: None };
        let expected = run_plan(plan_of(&graph, precision), &inputs, options).unwrap().results;
        for threads in [1, 3] {
            assert_eq!(run(fused_plan(&graph, precision, &[]), &inputs, threads), expected);
        }
    }
}

#[test]
fn regions_with_broadcasts() {
    check_fused(
        "input %x : f32[5, 6, 7, 301]\ninput %b : f32[6, 1, 1]\ninput %s : f32[]\ninput %r : f32[5, 1, 7, 1]\nforward\n  %e = exp %b : f32[6, 1, 1]\n  %eb = broadcast %e : f32[5, 6, 7, 301]\n  %sb = broadcast %s : f32[5, 6, 7, 301]\n  %rb = broadcast %r : f32[5, 6, 7, 301]\n  %a = mul %x, %eb : f32[5, 6, 7, 301]\n  %c = add %a, %sb : f32[5, 6, 7, 301]\n  %d = ratio %c, %rb : f32[5, 6, 7, 301]\n  %k = const 0.25 : f32[]\n  %kb = broadcast %k : f32[5, 6, 7, 301]\n  %y = max %d, %kb : f32[5, 6, 7, 301]\n  %m = greater %d, %kb : bool[5, 6, 7, 301]\n  %w = where %m, %x, %d : f32[5, 6, 7, 301]\nresult \"y\" = %y\nresult \"m\" = %m\nresult \"w\" = %w\n",
    );
}

#[test]
fn literals_counters_and_small_shapes() {
    check_fused(
        "input %x : f32[4, 3]\nforward\n  %k = const [1, 2, 3] : f32[3]\n  %kb = broadcast %k : f32[4, 3]\n  %i = iota {axis=0} : i64[4, 3]\n  %f = cast %i : f32[4, 3]\n  %a = mul %x, %kb : f32[4, 3]\n  %y = add %a, %f : f32[4, 3]\nresult \"y\" = %y\n",
    );
    check_fused("input %x : f32[]\nforward\n  %y = neg %x : f32[]\nresult \"y\" = %y\n");
    check_fused("input %x : f32[0, 3]\nforward\n  %y = neg %x : f32[0, 3]\nresult \"y\" = %y\n");
    check_fused(
        "input %x : f32[2, 1]\nforward\n  %a = abs %x : f32[2, 1]\n  %y = broadcast %a : f32[3, 2, 4]\nresult \"y\" = %y\nresult \"z\" = %y\n",
    );
}

#[test]
fn registers_are_reused_without_mixing_values() {
    let mut body = String::from("input %x : f32[2500]\ninput %z : f32[1]\nforward\n  %v0 = neg %x : f32[2500]\n");
    for i in 1..40 {
        let constant = format!("  %c{i} = const {i} : f32[]\n  %b{i} = broadcast %c{i} : f32[2500]\n");
        let older = i / 2;
        body += &format!(
            "{constant}  %u{i} = mul %v{}, %b{i} : f32[2500]\n  %v{i} = sub %u{i}, %v{older} : f32[2500]\n",
            i - 1
        );
    }
    body += "  %zb = broadcast %z : f32[2500]\n  %y = add %v39, %zb : f32[2500]\nresult \"y\" = %y\nresult \"half\" = %v20\n";
    check_fused(&body);
}

#[test]
fn regions_in_place() {
    let graph = parse(
        "input %a : f32[40000]\ninput %b : f32[40000]\nforward\n  %y = sub %a, %b : f32[40000]\n  %z = mul %b, %a : f32[40000]\nresult \"y\" = %y\nresult \"z\" = %z\n",
    );
    let inputs = noisy_inputs(&graph);
    let apart = run(fused_plan(&graph, Precision::F32, &[]), &inputs, 1);
    for shared in [&[(0, 0)][..], &[(1, 0)], &[(0, 1), (1, 0)]] {
        assert_eq!(run(fused_plan(&graph, Precision::F32, shared), &inputs, 2), apart);
    }
}

#[test]
fn other_steps_do_not_work_in_place() {
    let graph = parse("input %x : f32[8]\nforward\n  %y = relu %x : f32[8]\nresult \"y\" = %y\n");
    let mut plan = fused_plan(&graph, Precision::F32, &[(0, 0)]);
    plan.steps[1].call = KernelCall::Op(lrpc_ir::Op::Elementwise(lrpc_ir::ops::Elementwise::Unary(
        lrpc_ir::ops::Unary::plain(lrpc_ir::ops::Function::Relu),
    )));
    let error = run_plan(plan, &noisy_inputs(&graph), Options::default()).unwrap_err();
    assert!(matches!(error.kind, RunErrorKind::Plan(_)), "{error}");
}

#[test]
fn integers_and_truth_values() {
    let graph = parse(
        "input %a : i64[4]\ninput %b : i64[4]\nforward\n  %q = div %a, %b : i64[4]\n  %m = mod %a, %b : i64[4]\n  %f = fmod %a, %b : i64[4]\n  %s = add %q, %m : i64[4]\n  %y = sub %s, %f : i64[4]\nresult \"y\" = %y\n",
    );
    let inputs = [
        ("a".into(), tensor(DType::I64, &[4], &[7.0, -7.0, 7.0, 5.0])),
        ("b".into(), tensor(DType::I64, &[4], &[3.0, 3.0, -3.0, 0.0])),
    ]
    .into();
    check_on(&graph, &inputs, |_| vec![2.0 + 1.0 - 1.0, -2.0 + 2.0 + 1.0, -2.0 - 2.0 - 1.0, 0.0]);
    let graph = parse(
        "input %a : bool[4]\ninput %b : bool[4]\nforward\n  %o = or %a, %b : bool[4]\n  %x = xor %a, %b : bool[4]\n  %n = not %x : bool[4]\n  %y = and %o, %n : bool[4]\nresult \"y\" = %y\n",
    );
    let inputs = [
        ("a".into(), tensor(DType::Bool, &[4], &[0.0, 0.0, 1.0, 1.0])),
        ("b".into(), tensor(DType::Bool, &[4], &[0.0, 1.0, 0.0, 1.0])),
    ]
    .into();
    check_on(&graph, &inputs, |_| vec![0.0, 0.0, 0.0, 1.0]);
}

#[test]
fn coefficients_of_zero_carry_nothing() {
    let graph = parse(
        "input %a : f32[4]\ninput %b : f32[4]\nforward\n  %w = weigh %a, %b : f32[4]\n  %r = ratio %a, %b : f32[4]\n  %y = add %w, %r : f32[4]\nresult \"y\" = %y\n",
    );
    let low = f64::NEG_INFINITY;
    let inputs = [
        ("a".into(), tensor(DType::F32, &[4], &[low, low, 3.0, 0.0])),
        ("b".into(), tensor(DType::F32, &[4], &[0.0, -0.0, 2.0, 5.0])),
    ]
    .into();
    check_on(&graph, &inputs, |_| vec![0.0, 0.0, 7.5, 0.0]);
}

#[test]
fn casts() {
    let graph = parse(
        "input %x : f32[5]\nforward\n  %i = cast %x : i64[5]\n  %b = cast %x : bool[5]\n  %c = cast %b : i64[5]\n  %s = add %i, %c : i64[5]\n  %y = cast %s : f32[5]\nresult \"y\" = %y\n",
    );
    let inputs = [("x".into(), tensor(DType::F32, &[5], &[1.9, -1.9, 0.0, -0.0, 0.4]))].into();
    check_on(&graph, &inputs, |_| vec![2.0, 0.0, 0.0, 0.0, 1.0]);
}
