//! What a step costs: floating-point operations and bytes moved, from shapes alone.
//!
//! A contraction of sizes M, N, K counts 2·M·N·K operations, a convolution two for each tap of each result element; an
//! element-wise operation counts one for each element, whatever its function. Movement and choice count none. A loop
//! counts one iteration, a conditional its dearer branch.

use lrpc_ir::Op;
use lrpc_ir::graph::Graph;
use lrpc_ir::ops::{Dot, Interpolation, Linear, Pool, Resize, Select, Window};
use lrpc_ir::plan::{Buffer, BufferId, Cost, KernelCall, Plan, Step};

use super::fuse;

/// The cost of a call over these buffers.
pub(super) fn cost(call: &KernelCall, inputs: &[BufferId], outputs: &[BufferId], buffers: &[Buffer]) -> Cost {
    let at = |ids: &[BufferId], slot: usize| ids.get(slot).and_then(|id| buffers.get(id.0 as usize));
    let elements = |ids: &[BufferId], slot: usize| at(ids, slot).map_or(0, |buffer| buffer.elements() as u64);
    let traffic = |ids: &[BufferId]| {
        let mut distinct = ids.to_vec();
        distinct.sort();
        distinct.dedup();
        (0..distinct.len())
            .filter_map(|slot| at(&distinct, slot))
            .fold(0u64, |sum, buffer| sum.saturating_add(buffer.bytes() as u64))
    };
    let bytes = traffic(inputs).saturating_add(traffic(outputs));
    match call {
        KernelCall::Op(op) => {
            let operands: Vec<&Buffer> = (0..inputs.len()).filter_map(|slot| at(inputs, slot)).collect();
            let flops = op_flops(op, &operands, elements(outputs, 0));
            // A gather reads no more of its table than it gives back.
            let gathered = matches!(op, Op::Select(Select::Gather { .. }));
            let bytes = if gathered {
                traffic(outputs).saturating_mul(2).saturating_add(traffic(inputs.get(1..).unwrap_or_default()))
            } else {
                bytes
            };
            Cost { flops, bytes }
        }
        KernelCall::Fused(graph) => Cost { flops: elements(outputs, 0).saturating_mul(fused_nodes(graph)), bytes },
        KernelCall::Sum | KernelCall::SumOfAbsolutes => Cost { flops: elements(inputs, 0), bytes },
        KernelCall::Loop { trips, body, .. } => {
            let (once, trips) = (total(body), *trips as u64);
            Cost { flops: once.flops.saturating_mul(trips), bytes: once.bytes.saturating_mul(trips) }
        }
        // How often it runs is not known; one run is counted.
        KernelCall::While { body, .. } => total(body),
    }
}

/// The cost of one run of a plan, without what runs once per load.
pub(super) fn total(plan: &Plan) -> Cost {
    sum(&plan.steps)
}

/// The cost of some steps.
pub(super) fn sum(steps: &[Step]) -> Cost {
    steps.iter().fold(Cost::default(), |sum, step| Cost {
        flops: sum.flops.saturating_add(step.cost.flops),
        bytes: sum.bytes.saturating_add(step.cost.bytes),
    })
}

fn fused_nodes(graph: &Graph) -> u64 {
    graph.ids().filter(|&node| fuse::is_fusible(&graph.node(node).op)).count() as u64
}

fn op_flops(op: &Op, operands: &[&Buffer], result: u64) -> u64 {
    let operand = operands.first().map_or(0, |buffer| buffer.elements() as u64);
    match op {
        Op::Linear(linear) => {
            let biases = if operands.len() > 2 { result } else { 0 };
            products(linear, operands, result).saturating_mul(2).saturating_add(biases)
        }
        Op::Reduce(_) | Op::Scan(_) => operand,
        Op::Normalize(_) => operand.saturating_mul(5),
        Op::Pool(Pool::Window(_, window) | Pool::WindowArgMax(window)) => result.saturating_mul(taps(window)),
        Op::Pool(Pool::WindowTranspose(_, window)) => operand.saturating_mul(taps(window)),
        Op::Pool(Pool::Resize(resize)) => result.saturating_mul(resize_flops(resize)),
        Op::Pool(Pool::ResizeTranspose(resize)) => operand.saturating_mul(resize_flops(resize)),
        Op::Elementwise(_) => result,
        Op::Select(Select::Gather { .. } | Select::OneHot { .. }) => 0,
        Op::Select(_) => operand,
        Op::Movement(_) | Op::Source(_) | Op::Promise | Op::Control(_) => 0,
    }
}

/// The number of multiplications of a linear map.
fn products(linear: &Linear, operands: &[&Buffer], result: u64) -> u64 {
    let [x, weight, ..] = operands else { return 0 };
    match linear {
        Linear::Dot(Dot { contract, .. }) => {
            let summed: u64 =
                contract.iter().filter_map(|&(left, _)| x.shape.get(left)).map(|&size| size as u64).product();
            result.saturating_mul(summed)
        }
        // Each result element of a convolution, and each operand element of its adjoint, meets one filter.
        Linear::Conv(_) => result.saturating_mul(filter_elements(weight)),
        Linear::ConvTranspose(_) => (x.elements() as u64).saturating_mul(filter_elements(weight)),
    }
}

fn filter_elements(weight: &Buffer) -> u64 {
    weight.shape.iter().skip(1).map(|&size| size as u64).product()
}

fn taps(window: &Window) -> u64 {
    window.size.iter().filter_map(|size| size.known()).map(i64::unsigned_abs).fold(1, u64::saturating_mul)
}

fn resize_flops(resize: &Resize) -> u64 {
    let taps: u64 = match resize.interpolation {
        Interpolation::Nearest => return 0,
        Interpolation::Linear => 2,
        Interpolation::Cubic => 4,
    };
    taps.saturating_pow(resize.spatial.len() as u32).saturating_mul(2)
}
