//! From the text of a graph to a plan in which every value has a place of its own, and runs of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use lrpc_ir::ops::{Control, Source};
use lrpc_ir::plan::{ALIGNMENT, Buffer, BufferId, KernelCall, Place, PlanInput, PlanWeight, Precision, Step};
use lrpc_ir::{Bindings, DType, Graph, Op, Plan, Value, text};
use lrpc_kernels::{Executor, Options, Outcome, RunError, Tensor, WeightSource};

/// No weights at all.
pub struct NoWeights;

impl WeightSource for NoWeights {
    fn weight(&self, name: &str, _: bool) -> Result<Cow<'_, [u8]>, String> {
        Err(format!("there is no weight {name}"))
    }
}

/// Weights by name.
pub struct Weights(pub BTreeMap<String, Vec<u8>>);

impl WeightSource for Weights {
    fn weight(&self, name: &str, _: bool) -> Result<Cow<'_, [u8]>, String> {
        self.0
            .get(name)
            .map(|bytes| Cow::Borrowed(bytes.as_slice()))
            .ok_or_else(|| format!("there is no weight {name}"))
    }
}

pub fn parse(body: &str) -> Graph {
    text::parse(&format!("lrpc 1\n{body}")).unwrap()
}

/// One step for each node, one place for each value.
pub fn plan_of(graph: &Graph, precision: Precision) -> Plan {
    let mut plan = Plan { precision, ..Plan::default() };
    let mut buffers: BTreeMap<Value, BufferId> = BTreeMap::new();
    for node in graph.inputs().into_iter().map(|input| input.node).chain(graph.order()) {
        if buffers.contains_key(&Value::from(node)) {
            continue;
        }
        let content = graph.node(node);
        let call = call_of(&content.op, precision);
        let first = plan.buffers.len() as u32;
        for (port, ty) in content.types().iter().enumerate() {
            let value = Value { node, port: port as u32 };
            let id = BufferId(plan.buffers.len() as u32);
            let (dtype, shape) = (precision.storage(ty.dtype), ty.bound_shape(&Bindings::new()).unwrap());
            let name = graph.name(value).to_string();
            let place = match &content.op {
                Op::Source(Source::Input(_)) => {
                    plan.inputs.push(PlanInput { name: name.clone(), dtype: ty.dtype, buffer: id });
                    Place::Input(plan.inputs.len() - 1)
                }
                Op::Source(Source::Weight(..)) => {
                    plan.weights.push(PlanWeight { name: name.clone(), dtype: ty.dtype, buffer: id, sidecar: false });
                    Place::Weight(plan.weights.len() - 1)
                }
                Op::Source(Source::Constant(literal)) => Place::Constant(literal.clone()),
                _ => arena(&mut plan, shape.iter().product::<usize>() * dtype.size()),
            };
            plan.buffers.push(Buffer { name, dtype, shape, place });
            buffers.insert(value, id);
        }
        if !matches!(content.op, Op::Source(Source::Input(_) | Source::Weight(..) | Source::Constant(_))) {
            if let Some(workspace) = call.workspace() {
                let place = arena(&mut plan, workspace.bytes);
                let (name, shape) = ("workspace".into(), vec![workspace.bytes]);
                plan.buffers.push(Buffer { name, dtype: DType::U8, shape, place });
            }
            let inputs = graph.operands(node).into_iter().map(|operand| buffers[&operand]).collect();
            let outputs = (first..plan.buffers.len() as u32).map(BufferId).collect();
            plan.steps.push(step(call, inputs, outputs, graph.name(node.into())));
        }
    }
    plan.results = graph.results.iter().map(|result| (result.name.clone(), buffers[&result.value])).collect();
    plan
}

fn arena(plan: &mut Plan, bytes: usize) -> Place {
    plan.arena_bytes += bytes.next_multiple_of(ALIGNMENT);
    Place::Arena(plan.arena_bytes - bytes.next_multiple_of(ALIGNMENT))
}

fn call_of(op: &Op, precision: Precision) -> KernelCall {
    match op {
        Op::Control(Control::Loop { trips, reverse, carried, scanned, body }) => KernelCall::Loop {
            trips: trips.known().unwrap() as usize,
            reverse: *reverse,
            carried: *carried,
            scanned: *scanned,
            body: Box::new(plan_of(body, precision)),
        },
        Op::Control(Control::While { carried, body }) => {
            KernelCall::While { carried: *carried, body: Box::new(plan_of(body, precision)) }
        }
        op => KernelCall::Op(op.clone()),
    }
}

pub fn step(call: KernelCall, inputs: Vec<BufferId>, outputs: Vec<BufferId>, label: &str) -> Step {
    Step { call, inputs, outputs, label: label.into(), cost: Default::default(), frees: Vec::new() }
}

/// Runs a plan with the given number of threads.
pub fn run_plan(plan: Plan, inputs: &BTreeMap<String, Tensor>, options: Options) -> Result<Outcome, RunError> {
    Executor::new(Arc::new(plan), &NoWeights, options)?.run(inputs, None)
}

/// Numbers without a pattern, in ±2, some of them zeros of both signs.
pub fn noise(seed: u64, count: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            match state % 16 {
                0 => 0.0,
                1 => -0.0,
                _ => ((state >> 20) as f64 / (1u64 << 44) as f64) * 4.0 - 2.0,
            }
        })
        .collect()
}

/// A tensor of the declared type with these values.
pub fn tensor(dtype: DType, shape: &[usize], values: &[f64]) -> Tensor {
    match dtype {
        DType::F32 => Tensor::from_values(shape, &values.iter().map(|&x| x as f32).collect::<Vec<_>>()),
        DType::F64 => Tensor::from_values(shape, values),
        DType::I64 => Tensor::from_values(shape, &values.iter().map(|&x| x as i64).collect::<Vec<_>>()),
        DType::I32 => Tensor::from_values(shape, &values.iter().map(|&x| x as i32).collect::<Vec<_>>()),
        DType::Bool => Tensor::from_bools(shape, &values.iter().map(|&x| x != 0.0).collect::<Vec<_>>()),
        other => panic!("no test needs {other}"),
    }
    .unwrap()
}

/// Inputs of a graph with noise in them.
pub fn noisy_inputs(graph: &Graph) -> BTreeMap<String, Tensor> {
    let mut inputs = BTreeMap::new();
    for (seed, value) in graph.inputs().into_iter().enumerate() {
        let ty = graph.ty(value);
        let shape = ty.bound_shape(&Bindings::new()).unwrap();
        let values = noise(seed as u64 + 1, shape.iter().product());
        inputs.insert(graph.name(value).to_string(), tensor(ty.dtype, &shape, &values));
    }
    inputs
}

/// The result `y` of a graph over `inputs` as `f64`, run in `precision`.
pub fn run_graph(graph: &Graph, inputs: &BTreeMap<String, Tensor>, precision: Precision, threads: usize) -> Tensor {
    let options = Options { threads, check_finite: lrpc_kernels::CheckFinite::Off, ..Options::default() };
    run_plan(plan_of(graph, precision), inputs, options).unwrap().results["y"].clone()
}

/// Runs `body`, whose floating-point inputs are `f32`, in both precisions and with one, two and three threads, on noise;
/// compares with what `expected` makes of the inputs.
#[track_caller]
pub fn check(body: &str, expected: impl Fn(&[Vec<f64>]) -> Vec<f64>) {
    let graph = parse(body);
    let inputs = noisy_inputs(&graph);
    check_on(&graph, &inputs, expected);
}

/// As [`check`], on the given inputs.
#[track_caller]
pub fn check_on(graph: &Graph, inputs: &BTreeMap<String, Tensor>, expected: impl Fn(&[Vec<f64>]) -> Vec<f64>) {
    let names = graph.inputs().into_iter().map(|value| graph.name(value).to_string());
    let values: Vec<Vec<f64>> = names.map(|name| inputs[&name].to_f64()).collect();
    let expected = expected(&values);
    for (precision, tolerance) in [(Precision::F64, 1e-12), (Precision::F32, 1e-5)] {
        let found = run_graph(graph, inputs, precision, 1);
        close(&found.to_f64(), &expected, tolerance);
        for threads in [2, 3] {
            let again = run_graph(graph, inputs, precision, threads);
            assert!(again.bytes() == found.bytes(), "{threads} threads give other bits than one");
        }
    }
}

/// Compares on the scale of the largest expected number; infinities and NaN must be equal.
#[track_caller]
pub fn close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "number of elements");
    let scale = expected.iter().filter(|x| x.is_finite()).fold(1.0f64, |scale, x| scale.max(x.abs()));
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        let equal = found == expected || (found.is_nan() && expected.is_nan());
        assert!(
            equal || (found - expected).abs() <= tolerance * scale,
            "element {place}: {found}, expected {expected}"
        );
    }
}

/// All indices of a shape in row-major order.
pub fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    shape.iter().fold(vec![vec![]], |all, &size| {
        all.into_iter().flat_map(|index| (0..size).map(move |i| [index.clone(), vec![i]].concat())).collect()
    })
}

/// The flat place of an index.
pub fn flat(shape: &[usize], index: &[usize]) -> usize {
    shape.iter().zip(index).fold(0, |place, (size, index)| place * size + index)
}
