use std::collections::BTreeMap;
use std::sync::Arc;

use lrpc_ir::graph::Absorbed;
use lrpc_ir::plan::{Buffer, BufferId, KernelCall, Place, PlanLedgerLine, Precision};
use lrpc_ir::{DType, Plan};
use lrpc_kernels::{CheckFinite, Executor, Options, RunErrorKind, Tensor};

use crate::support::*;

const DENSE: &str = "input %x : f32[2, 3]\nweight @w : f32[4, 3]\nforward\n  %h = dot %x, @w {contract=1x1} : f32[2, 4]\n  %y = relu %h : f32[2, 4]\nresult \"y\" = %y\n";

fn dense_weights() -> Weights {
    let bytes = (0..12).flat_map(|i| (i as f32 - 5.0).to_le_bytes()).collect();
    Weights(BTreeMap::from([("w".to_string(), bytes)]))
}

fn dense_inputs() -> BTreeMap<String, Tensor> {
    BTreeMap::from([("x".to_string(), tensor(DType::F32, &[2, 3], &[1.0, 2.0, 3.0, -1.0, 0.0, 1.0]))])
}

#[test]
fn weights_are_read_and_widened() {
    let weights = dense_weights();
    for precision in [Precision::F32, Precision::F64] {
        let plan = Arc::new(plan_of(&parse(DENSE), precision));
        let mut executor = Executor::new(plan, &weights, Options::default()).unwrap();
        let expected = [0.0, 0.0, 14.0, 32.0, 2.0, 2.0, 2.0, 2.0];
        for _ in 0..2 {
            assert_eq!(executor.run(&dense_inputs(), None).unwrap().results["y"].to_f64(), expected);
        }
    }
}

#[test]
fn inputs_are_checked() {
    let weights = dense_weights();
    let mut executor =
        Executor::new(Arc::new(plan_of(&parse(DENSE), Precision::F32)), &weights, Options::default()).unwrap();
    let mut check = |input: Option<Tensor>, text: &str| {
        let inputs = input.map(|tensor| ("x".to_string(), tensor)).into_iter().collect();
        let error = executor.run(&inputs, None).unwrap_err();
        assert_eq!(error.to_string(), text);
    };
    check(None, "input `x`: is missing");
    check(Some(tensor(DType::F32, &[3, 2], &[0.0; 6])), "input `x`: has shape [3, 2], expected [2, 3]");
    check(Some(tensor(DType::I64, &[2, 3], &[0.0; 6])), "input `x`: holds i64, expected f32");
    check(Some(tensor(DType::F32, &[2, 3], &[0.0, f64::NAN, 0.0, 0.0, 0.0, 0.0])), "input `x`: holds NaN");
}

#[test]
fn weights_are_checked() {
    let error =
        Executor::new(Arc::new(plan_of(&parse(DENSE), Precision::F32)), &NoWeights, Options::default()).err().unwrap();
    assert_eq!(error.to_string(), "weight `w`: there is no weight w");
    let short = Weights(BTreeMap::from([("w".to_string(), vec![0; 44])]));
    let error =
        Executor::new(Arc::new(plan_of(&parse(DENSE), Precision::F32)), &short, Options::default()).err().unwrap();
    assert_eq!(error.to_string(), "weight `w`: 44 bytes do not hold 12 elements of f32");
}

#[test]
fn the_first_step_that_is_not_finite_is_named() {
    let text = "input %x : f32[2]\nforward\n  %a = log %x : f32[2]\n  %b = sub %a, %a : f32[2]\n  %y = exp %b : f32[2]\nresult \"y\" = %y\n";
    let plan = plan_of(&parse(text), Precision::F32);
    let run = |values: [f64; 2], check_finite| {
        let inputs = BTreeMap::from([("x".to_string(), tensor(DType::F32, &[2], &values))]);
        run_plan(plan.clone(), &inputs, Options { check_finite, ..Options::default() })
    };
    assert!(run([1.0, 2.0], CheckFinite::EveryStep).is_ok());
    assert!(run([1.0, 0.0], CheckFinite::Off).is_ok());
    let error = run([1.0, 0.0], CheckFinite::Results).unwrap_err();
    // The logarithm of zero is what became NaN.
    assert_eq!(error.to_string(), "infinity in `a`, at `a` (f32[2])");
    let error = run([1.0, 0.0], CheckFinite::EveryStep).unwrap_err();
    assert_eq!(error.to_string(), "infinity in `a`, at `a` (f32[2])");
}

#[test]
fn what_is_masked_away_is_not_blamed() {
    let text = "input %x : f32[2]\nforward\n  %a = log %x : f32[2]\n  %bad = is_nan %a : bool[2]\n  \
                %zero = const 0 : f32[2]\n  %b = where %bad, %zero, %a : f32[2]\n  %c = scale %b {by=1e38} : f32[2]\n  \
                %y = scale %c {by=10} : f32[2]\nresult \"y\" = %y\n";
    let run = |values: [f64; 2]| {
        let inputs = BTreeMap::from([("x".to_string(), tensor(DType::F32, &[2], &values))]);
        run_plan(plan_of(&parse(text), Precision::F32), &inputs, Options::default())
    };
    assert_eq!(run([-1.0, 1.0]).unwrap().results["y"].to_f64(), [0.0, 0.0]);
    let error = run([-1.0, 1e5]).unwrap_err();
    assert_eq!(error.to_string(), "infinity in `c`, at `c` (f32[2])");
}

#[test]
fn what_is_given_is_named_as_such() {
    let text = "input %x : f32[2]\nforward\n  %y = neg %x : f32[2]\nresult \"y\" = %y\n";
    let inputs = BTreeMap::from([("x".to_string(), tensor(DType::F32, &[2], &[1.0, f64::INFINITY]))]);
    let error = run_plan(plan_of(&parse(text), Precision::F32), &inputs, Options::default()).unwrap_err();
    assert_eq!(error.to_string(), "input `x` holds infinity");
    let bytes = (0..12).flat_map(|i| (if i == 7 { f32::NAN } else { 1.0 }).to_le_bytes()).collect();
    let weights = Weights(BTreeMap::from([("w".to_string(), bytes)]));
    let plan = Arc::new(plan_of(&parse(DENSE), Precision::F32));
    let error = Executor::new(plan, &weights, Options::default()).unwrap().run(&dense_inputs(), None).unwrap_err();
    assert_eq!(error.to_string(), "weight `w` holds NaN");
}

#[test]
fn infinite_results_are_blamed_on_the_step_that_made_them() {
    let text = "input %x : f32[2]\nforward\n  %a = scale %x {by=1e38} : f32[2]\n  %b = scale %a {by=10} : f32[2]\n  %y = neg %b : f32[2]\nresult \"y\" = %y\n";
    let inputs = BTreeMap::from([("x".to_string(), tensor(DType::F32, &[2], &[1.0, 2.0]))]);
    let error = run_plan(plan_of(&parse(text), Precision::F32), &inputs, Options::default()).unwrap_err();
    assert_eq!(error.to_string(), "infinity in `b`, at `b` (f32[2])");
    assert!(run_plan(plan_of(&parse(text), Precision::F64), &inputs, Options::default()).is_ok());
}

#[test]
fn memory_is_counted_before_it_is_taken() {
    let text = "input %x : f32[2]\nforward\n  %y = broadcast %x : f32[1099511627776, 2]\nresult \"y\" = %y\n";
    let plan = Arc::new(plan_of(&parse(text), Precision::F32));
    let options = Options { memory_limit: Some(1 << 30), ..Options::default() };
    let error = Executor::new(plan, &NoWeights, options).err().unwrap();
    assert_eq!(error.kind, RunErrorKind::Memory { needed: 8 << 40, limit: 1 << 30 });
}

#[test]
fn plans_that_contradict_themselves_are_refused() {
    let good = plan_of(
        &parse("input %x : f32[4]\nforward\n  %a = neg %x : f32[4]\n  %y = neg %a : f32[4]\nresult \"y\" = %y\n"),
        Precision::F32,
    );
    let check = |change: fn(&mut Plan)| {
        let mut plan = good.clone();
        change(&mut plan);
        let inputs = BTreeMap::from([("x".to_string(), tensor(DType::F32, &[4], &[0.0; 4]))]);
        let error = run_plan(plan, &inputs, Options::default()).unwrap_err();
        assert!(matches!(error.kind, RunErrorKind::Plan(_)), "{error}");
    };
    check(|plan| plan.arena_bytes = 64);
    check(|plan| plan.buffers[1].place = Place::Arena(1));
    check(|plan| plan.buffers[1].place = Place::Arena(72));
    check(|plan| plan.buffers[1].place = Place::Arena(64));
    check(|plan| plan.buffers[1].place = Place::Alias(BufferId(1)));
    check(|plan| plan.buffers[1].place = Place::Input(0));
    check(|plan| plan.buffers[0].place = Place::Input(1));
    check(|plan| plan.steps[0].outputs.clear());
    check(|plan| plan.steps[0].inputs.clear());
    check(|plan| plan.steps[0].inputs[0] = BufferId(9));
    check(|plan| plan.buffers[1].shape = vec![3]);
    check(|plan| plan.buffers[1].dtype = DType::F64);
}

#[test]
fn freed_buffers_do_not_survive() {
    let mut plan = plan_of(
        &parse("input %x : f32[4]\nforward\n  %a = neg %x : f32[4]\n  %y = neg %a : f32[4]\nresult \"y\" = %y\n"),
        Precision::F32,
    );
    plan.steps[0].frees = vec![BufferId(1)];
    let inputs = BTreeMap::from([("x".to_string(), tensor(DType::F32, &[4], &[1.0; 4]))]);
    let outcome = run_plan(plan, &inputs, Options { check_finite: CheckFinite::Off, ..Options::default() }).unwrap();
    assert!(outcome.results["y"].to_f64().iter().all(|y| y.is_nan() || !cfg!(debug_assertions)));
}

#[test]
fn the_ledger_adds_up() {
    let mut plan =
        plan_of(&parse("input %x : f32[3]\nforward\n  %y = neg %x : f32[3]\nresult \"y\" = %y\n"), Precision::F32);
    let mut add_sum = |call| {
        let id = BufferId(plan.buffers.len() as u32);
        let place = Place::Arena(plan.arena_bytes);
        plan.arena_bytes += 64;
        plan.buffers.push(Buffer { name: "sum".into(), dtype: DType::F64, shape: vec![], place });
        plan.steps.push(step(call, vec![BufferId(1)], vec![id], "audit"));
        id
    };
    let (sum, scale) = (add_sum(KernelCall::Sum), add_sum(KernelCall::SumOfAbsolutes));
    plan.ledger.push(PlanLedgerLine {
        site: "/fc".into(),
        rule: "Epsilon".into(),
        input: vec![sum, sum],
        output: vec![],
        scale: vec![scale],
        absorbed: vec![(Absorbed::Bias, sum)],
    });
    let inputs = BTreeMap::from([("x".to_string(), tensor(DType::F32, &[3], &[1.0, -2.5, 4.0]))]);
    let line = run_plan(plan, &inputs, Options::default()).unwrap().ledger.remove(0);
    assert_eq!((line.input, line.output, line.scale), (-5.0, 0.0, 7.5));
    assert_eq!(line.absorbed, [(Absorbed::Bias, -2.5)]);
}

#[test]
fn steps_are_announced() {
    let plan = plan_of(
        &parse("input %x : f32[1]\nforward\n  %a = neg %x : f32[1]\n  %y = neg %a : f32[1]\nresult \"y\" = %y\n"),
        Precision::F32,
    );
    let inputs = BTreeMap::from([("x".to_string(), tensor(DType::F32, &[1], &[1.0]))]);
    let mut seen = Vec::new();
    let mut note =
        |progress: lrpc_kernels::Progress<'_>| seen.push((progress.done, progress.total, progress.label.to_string()));
    Executor::new(Arc::new(plan), &NoWeights, Options::default()).unwrap().run(&inputs, Some(&mut note)).unwrap();
    assert_eq!(seen, [(0, 2, "a".into()), (1, 2, "y".into())]);
}

#[test]
fn prepared_values_are_computed_once() {
    let mut plan = plan_of(&parse(DENSE), Precision::F32);
    plan.prepare = vec![plan.steps[0].clone()];
    plan.prepare[0].call = KernelCall::Op(lrpc_ir::Op::Promise);
    plan.prepare[0].inputs = vec![plan.weights[0].buffer];
    let id = BufferId(plan.buffers.len() as u32);
    plan.buffers.push(Buffer {
        name: "copy".into(),
        place: Place::Prepared(0),
        ..plan.buffer(plan.weights[0].buffer).clone()
    });
    plan.prepared_bytes = 64;
    plan.prepare[0].outputs = vec![id];
    plan.steps[0].inputs[1] = id;
    let weights = dense_weights();
    let mut executor = Executor::new(Arc::new(plan), &weights, Options::default()).unwrap();
    assert_eq!(executor.run(&dense_inputs(), None).unwrap().results["y"].to_f64()[2..4], [14.0, 32.0]);
}
