//! Loops: a nested plan runs once for each position, in working memory that its step lends it.
//!
//! A run reads carried values from one half of their memory and writes them to the other; the last run writes the step's
//! results. Slices of scanned tensors and captured values are read where they lie, what is stacked goes to its place.

use lrpc_ir::plan::{KernelCall, Plan, Step};

use super::arena::{Memory, Operand, Running, carve, roots};
use super::executor::{Blame, at_step, check_ids, constants, run_steps};
use super::fused::Program;
use super::view::{View, ViewMut};
use crate::error::{RunError, RunErrorKind};
use crate::memory::{AlignedBytes, bytes_of, numbers};

/// What a step needs beside its operands.
pub(super) enum Compiled {
    /// Nothing.
    Plain,
    /// A fused region.
    Fused(Program),
    /// A nested plan.
    Nested(Nested),
}

/// What a nested plan holds between two runs.
pub(super) struct Nested {
    memory: Memory<'static>,
    calls: Vec<Compiled>,
}

/// Sees a nested plan after each run of it.
pub(super) type Watch<'a> = &'a mut dyn FnMut(&Plan, &mut [Compiled], &mut Running<'_, '_>) -> Result<(), RunError>;

/// What the steps of a plan need.
pub(super) fn compile(plan: &Plan, memory: &Memory<'_>, steps: &[Step]) -> Result<Vec<Compiled>, RunError> {
    let root = |id: &lrpc_ir::plan::BufferId| &memory.roots[id.0 as usize];
    let compile = |step: &Step| match &step.call {
        KernelCall::Fused(graph) => {
            let shared = |input| step.outputs.iter().any(|output| root(output) == root(input));
            let in_place: Vec<bool> = step.inputs.iter().map(shared).collect();
            let program = Program::compile(graph, plan.precision, &in_place);
            program.map(Compiled::Fused).map_err(|kind| at_step(plan, step, kind))
        }
        KernelCall::Loop { body, .. } | KernelCall::While { body, .. } => Nested::new(body).map(Compiled::Nested),
        KernelCall::Op(_) | KernelCall::Sum | KernelCall::SumOfAbsolutes => Ok(Compiled::Plain),
    };
    steps.iter().map(compile).collect()
}

/// Runs what depends on literals alone in the nested plans of these steps.
pub(super) fn prepare(steps: &[Step], calls: &mut [Compiled], blame: Blame) -> Result<(), RunError> {
    for (step, call) in steps.iter().zip(calls) {
        if let (Some(body), Compiled::Nested(nested)) = (step.call.body(), call) {
            let mut own = compile(body, &nested.memory, &body.prepare)?;
            let mut running = Running { memory: &mut nested.memory, arena: &mut [], inputs: &[] };
            run_steps(body, &body.prepare, &mut own, &mut running, blame, None)?;
            prepare(&body.steps, &mut nested.calls, blame)?;
        }
    }
    Ok(())
}

impl Nested {
    fn new(body: &Plan) -> Result<Nested, RunError> {
        check_ids(body)?;
        if !body.weights.is_empty() || !body.ledger.is_empty() {
            return Err(RunErrorKind::plan("a nested plan with weights or a ledger of its own").into());
        }
        let prepared = AlignedBytes::zeroed(body.prepared_bytes);
        let prepared = prepared.ok_or(RunErrorKind::OutOfMemory { needed: body.prepared_bytes as u64 })?;
        let memory = Memory { roots: roots(body)?, weights: Vec::new(), constants: constants(body)?, prepared };
        let calls = compile(body, &memory, &body.steps)?;
        Ok(Nested { memory, calls })
    }
}

/// Runs a loop, or counts its runs. The last result is the working memory.
pub(super) fn run(
    step: &Step,
    nested: &mut Nested,
    operands: &[Operand<'_>],
    outputs: &mut [ViewMut<'_>],
    blame: Blame,
    watch: Watch<'_>,
) -> Result<(), RunError> {
    let broken = |what: &str| RunError::from(RunErrorKind::plan(format!("a loop {what}")));
    let operands = operands.iter().map(bytes).collect::<Option<Vec<&[u8]>>>();
    let operands = operands.ok_or_else(|| broken("overwrites its operands"))?;
    let workspace = step.call.workspace().ok_or_else(|| broken("without working memory"))?;
    let (memory, results) = outputs.split_last_mut().ok_or_else(|| broken("without results"))?;
    if memory.bytes.len() != workspace.bytes {
        return Err(broken("with working memory of another size"));
    }
    let (mut parts, _) = carve(memory.bytes, &workspace.parts()).ok_or_else(|| broken("with broken memory"))?;
    let copies = parts.split_off(1);
    let arena = parts.pop().ok_or_else(|| broken("without an arena"))?;
    let body = step.call.body().ok_or_else(|| broken("without a nested plan"))?;
    let runs = Runs { body, nested, arena, blame, watch };
    match &step.call {
        KernelCall::Loop { trips, reverse, carried, scanned, .. } => {
            let split = results.split_at_mut_checked(*carried);
            let (last, stacks) = split.ok_or_else(|| broken("with too few results"))?;
            let mut halves = [last.iter_mut().map(|result| &mut *result.bytes).collect(), copies];
            let stacks: Vec<&mut [u8]> = stacks.iter_mut().map(|stack| &mut *stack.bytes).collect();
            runs.walk([*trips, *scanned], *reverse, &operands, &mut halves, stacks)
        }
        KernelCall::While { carried, .. } => {
            let (mut first, [count]) = (copies, results) else { return Err(broken("with more than a count")) };
            let second = first.split_off((*carried).min(first.len()));
            let found = runs.count(&operands, &mut [first, second])?;
            count.values::<i64>()?.fill(found);
            Ok(())
        }
        _ => Err(broken("without a nested plan")),
    }
}

fn bytes<'a>(operand: &Operand<'a>) -> Option<&'a [u8]> {
    match operand {
        Operand::Separate(View { bytes, .. }) => Some(bytes),
        Operand::InPlace(_) => None,
    }
}

/// The runs of a nested plan.
struct Runs<'a, 'w> {
    body: &'a Plan,
    nested: &'a mut Nested,
    arena: &'a mut [u8],
    blame: Blame,
    watch: Watch<'w>,
}

/// Both places of each carried value.
type Halves<'a> = [Vec<&'a mut [u8]>; 2];

impl Runs<'_, '_> {
    /// Runs once for each position. The last values go to the first half.
    fn walk(
        mut self,
        [trips, scanned]: [usize; 2],
        reverse: bool,
        operands: &[&[u8]],
        halves: &mut Halves<'_>,
        mut stacks: Vec<&mut [u8]>,
    ) -> Result<(), RunError> {
        let carried = halves[0].len();
        let split = operands.split_at_checked(carried);
        let split = split.and_then(|(initial, rest)| Some((initial, rest.split_at_checked(scanned)?)));
        let (initial, (sequences, captured)) = split.ok_or_else(|| RunErrorKind::plan("a loop lacks operands"))?;
        if trips == 0 {
            halves[0].iter_mut().zip(initial).try_for_each(|(to, from)| put(Some(to), from))?;
        }
        for turn in 0..trips {
            let left = trips - 1 - turn;
            let position = if reverse { left } else { turn };
            let counter = [position as i64];
            let [front, back] = &mut *halves;
            let (to, from) = if left % 2 == 0 { (front, &*back) } else { (back, &*front) };
            let mut inputs: Vec<&[u8]> = vec![bytes_of(&counter)];
            match turn {
                0 => inputs.extend(initial),
                _ => inputs.extend(from.iter().map(|value| &**value)),
            }
            for sequence in sequences {
                let size = sequence.len() / trips;
                inputs.extend(sequence.get(position * size..(position + 1) * size));
            }
            inputs.extend(captured);
            self.once(&inputs, |place, bytes| match place.checked_sub(carried) {
                None => put(to.get_mut(place).map(|to| &mut **to), bytes),
                Some(stack) => {
                    let range = position * bytes.len()..(position + 1) * bytes.len();
                    put(stacks.get_mut(stack).and_then(|stack| stack.get_mut(range)), bytes)
                }
            })?;
        }
        Ok(())
    }

    /// Runs until the first result is false, at most as often as the first operand says; how often that was.
    fn count(mut self, operands: &[&[u8]], halves: &mut Halves<'_>) -> Result<i64, RunError> {
        let carried = halves[0].len();
        let lacks = || RunErrorKind::plan("a loop lacks operands");
        let (limit, values) = operands.split_first().ok_or_else(lacks)?;
        let (initial, captured) = values.split_at_checked(carried).ok_or_else(lacks)?;
        let limit = numbers::<i64>(limit).and_then(|limit| limit.first()).copied().ok_or_else(lacks)?;
        let (mut done, mut go_on) = (0i64, limit > 0);
        while go_on {
            let counter = [done];
            let [front, back] = &mut *halves;
            let (to, from) = if done % 2 == 0 { (front, &*back) } else { (back, &*front) };
            let mut inputs: Vec<&[u8]> = vec![bytes_of(&counter)];
            match done {
                0 => inputs.extend(initial),
                _ => inputs.extend(from.iter().map(|value| &**value)),
            }
            inputs.extend(captured);
            let mut holds = false;
            self.once(&inputs, |place, bytes| match place.checked_sub(1) {
                None => (holds = bytes.iter().any(|byte| *byte != 0), Ok(())).1,
                Some(place) => put(to.get_mut(place).map(|to| &mut **to), bytes),
            })?;
            done += 1;
            go_on = holds && done < limit;
        }
        Ok(done)
    }

    /// Runs once and hands over each result.
    fn once(
        &mut self,
        inputs: &[&[u8]],
        mut take: impl FnMut(usize, &[u8]) -> Result<(), RunErrorKind>,
    ) -> Result<(), RunError> {
        let Nested { memory, calls } = &mut *self.nested;
        if inputs.len() != self.body.inputs.len() {
            return Err(RunErrorKind::plan("a loop's operands are not its body's inputs").into());
        }
        let mut running = Running { memory, arena: &mut *self.arena, inputs };
        run_steps(self.body, &self.body.steps, calls, &mut running, self.blame, None)?;
        (self.watch)(self.body, calls, &mut running)?;
        for (place, (_, id)) in self.body.results.iter().enumerate() {
            let bytes = running.read(*id).ok_or_else(|| RunErrorKind::plan("a loop's result has no bytes"))?;
            take(place, bytes)?;
        }
        Ok(())
    }
}

/// Copies `from` to its place, which has its size.
fn put(to: Option<&mut [u8]>, from: &[u8]) -> Result<(), RunErrorKind> {
    let to = to.filter(|to| to.len() == from.len());
    to.map(|to| to.copy_from_slice(from)).ok_or_else(|| RunErrorKind::plan("a loop gives what has no place"))
}
