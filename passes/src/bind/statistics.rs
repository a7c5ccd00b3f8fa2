//! What a plan will take before anything runs: memory, work, and how tight the arena is.

use std::collections::BTreeSet;

use lrpc_ir::plan::{BufferId, Cost, KernelCall, Place, Plan, Step};

use super::cost;

/// Memory in bytes and work of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlanStatistics {
    /// Size of the arena.
    pub arena_bytes: usize,
    /// The largest sum of bytes that live at one step: no arena for this order of steps is smaller.
    pub lower_bound: usize,
    /// The step at which that sum is reached.
    pub peak_step: Option<usize>,
    /// What lives in the arena at that step, with its size, largest first.
    pub alive_at_peak: Vec<(String, usize)>,
    /// Size of the prepared memory.
    pub prepared_bytes: usize,
    /// Size of the weights that are used, in the element type of computation.
    pub weight_bytes: usize,
    /// Size of the inputs.
    pub input_bytes: usize,
    /// Size of the results.
    pub result_bytes: usize,
    /// Steps that run once per load.
    pub prepare_steps: usize,
    /// Steps that run for every input.
    pub steps: usize,
    /// How many of those are fused calls.
    pub fused_steps: usize,
    /// Work of the steps that run for every input.
    pub cost: Cost,
    /// Work of the steps that run once per load.
    pub prepare_cost: Cost,
}

/// The statistics of a plan.
pub fn statistics(plan: &Plan) -> PlanStatistics {
    let mut live = Live { plan, buffers: BTreeSet::new(), bytes: 0 };
    let mut peak: (usize, Option<usize>, Vec<BufferId>) = (0, None, Vec::new());
    for (at, step) in plan.steps.iter().enumerate() {
        live.write(step);
        if live.bytes > peak.0 {
            peak = (live.bytes, Some(at), live.buffers.iter().copied().collect());
        }
        step.frees.iter().for_each(|id| live.remove(*id));
    }
    let mut alive_at_peak: Vec<(String, usize)> = peak.2.iter().map(|id| sized(plan, *id)).collect();
    alive_at_peak.sort_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
    let bytes = |ids: &mut dyn Iterator<Item = BufferId>| {
        ids.fold(0usize, |sum, id| sum.saturating_add(plan.buffer(id).bytes()))
    };
    PlanStatistics {
        arena_bytes: plan.arena_bytes,
        lower_bound: peak.0,
        peak_step: peak.1,
        alive_at_peak,
        prepared_bytes: plan.prepared_bytes,
        weight_bytes: bytes(&mut plan.weights.iter().map(|weight| weight.buffer)),
        input_bytes: bytes(&mut plan.inputs.iter().map(|input| input.buffer)),
        result_bytes: bytes(&mut plan.results.iter().map(|(_, buffer)| *buffer)),
        prepare_steps: plan.prepare.len(),
        steps: plan.steps.len(),
        fused_steps: plan.steps.iter().filter(|step| matches!(step.call, KernelCall::Fused(_))).count(),
        cost: cost::total(plan),
        prepare_cost: cost::sum(&plan.prepare),
    }
}

fn sized(plan: &Plan, id: BufferId) -> (String, usize) {
    (plan.buffer(id).name.clone(), plan.buffer(id).bytes())
}

/// The arena buffers that live between two steps.
struct Live<'a> {
    plan: &'a Plan,
    buffers: BTreeSet<BufferId>,
    bytes: usize,
}

impl Live<'_> {
    /// Adds a step's results; an operand in whose place one is written goes.
    fn write(&mut self, step: &Step) {
        for &output in &step.outputs {
            let place = &self.plan.buffer(output).place;
            let taken: Vec<BufferId> = step.inputs.iter().map(|&input| self.root(input)).collect();
            for root in taken {
                if matches!(place, Place::Arena(_)) && self.plan.buffer(root).place == *place && root != output {
                    self.remove(root);
                }
            }
            if self.buffers.insert(output) {
                self.bytes += self.plan.buffer(output).bytes();
            }
        }
    }

    fn root(&self, id: BufferId) -> BufferId {
        match self.plan.buffer(id).place {
            Place::Alias(root) => root,
            _ => id,
        }
    }

    fn remove(&mut self, id: BufferId) {
        if self.buffers.remove(&id) {
            self.bytes -= self.plan.buffer(id).bytes();
        }
    }
}
