//! The verifier of plans. A plan that passes it satisfies these invariants, its nested plans included:
//!
//! 1. Every buffer that is named exists; an alias shows a buffer that is no alias and has the same bytes.
//! 2. Buffers lie inside their memory, at multiples of the alignment.
//! 3. A step reads what is given, or what was written before and is neither freed nor overwritten.
//! 4. A step writes arena memory, a prepare step prepared memory; nothing is written twice.
//! 5. What a step writes overlaps nothing that lives, but for a fused call's result in the very place of an operand of
//!    the same shape and element type, which dies thereby.
//! 6. What a step frees lives until then.
//! 7. Results and ledger sums live at the end.
//! 8. A call's results have the shapes that follow from its operands'.

use std::collections::{BTreeMap, BTreeSet};

use lrpc_ir::graph::Graph;
use lrpc_ir::plan::{ALIGNMENT, Buffer, BufferId, KernelCall, Place, Plan, Step};
use lrpc_ir::{Dim, TensorType};
use thiserror::Error;

/// A broken invariant of a plan, which is a bug of the compiler.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("plan invariant {invariant}: {message}")]
pub struct PlanError {
    /// Its number in the module's documentation.
    pub invariant: u8,
    /// What is wrong, with the step and the buffers concerned.
    pub message: String,
}

/// Checks all invariants without running anything.
///
/// # Errors
/// The first that is broken.
pub fn verify_plan(plan: &Plan) -> Result<(), PlanError> {
    check_buffers(plan)?;
    let mut memory = Memory {
        plan,
        written: vec![false; plan.buffers.len()],
        alive: BTreeSet::new(),
        used: [BTreeMap::new(), BTreeMap::new()],
    };
    for (prepare, steps) in [(true, &plan.prepare), (false, &plan.steps)] {
        for step in steps {
            memory.run(step, prepare)?;
            check_call(plan, step)?;
        }
    }
    let line_sums = plan.ledger.iter().flat_map(|line| {
        let absorbed = line.absorbed.iter().map(|(_, sum)| sum);
        line.input.iter().chain(&line.output).chain(&line.scale).chain(absorbed)
    });
    for &id in plan.results.iter().map(|(_, id)| id).chain(line_sums) {
        if !memory.is_readable(id)? {
            return fail(7, format!("%{} does not live at the end", plan.buffer(id).name));
        }
    }
    Ok(())
}

fn fail<T>(invariant: u8, message: String) -> Result<T, PlanError> {
    Err(PlanError { invariant, message })
}

fn existing(plan: &Plan, id: BufferId) -> Result<&Buffer, PlanError> {
    plan.buffers
        .get(id.0 as usize)
        .ok_or_else(|| PlanError { invariant: 1, message: format!("there is no buffer {}", id.0) })
}

/// Invariants 1 and 2.
fn check_buffers(plan: &Plan) -> Result<(), PlanError> {
    for buffer in &plan.buffers {
        let (offset, memory) = match &buffer.place {
            Place::Alias(shown) => {
                let shown = existing(plan, *shown)?;
                if matches!(shown.place, Place::Alias(_)) || shown.bytes() != buffer.bytes() {
                    return fail(1, format!("%{} is no alias of %{}", buffer.name, shown.name));
                }
                continue;
            }
            Place::Input(at) if *at >= plan.inputs.len() => return fail(1, format!("%{} is no input", buffer.name)),
            Place::Weight(at) if *at >= plan.weights.len() => return fail(1, format!("%{} is no weight", buffer.name)),
            Place::Input(_) | Place::Weight(_) | Place::Constant(_) => continue,
            Place::Prepared(offset) => (*offset, plan.prepared_bytes),
            Place::Arena(offset) => (*offset, plan.arena_bytes),
        };
        let inside = offset.checked_add(buffer.bytes()).is_some_and(|end| end <= memory);
        if !inside || offset % ALIGNMENT != 0 {
            return fail(2, format!("%{} lies at {offset} of {memory} bytes", buffer.name));
        }
    }
    Ok(())
}

/// The state of both memories between two steps.
struct Memory<'a> {
    plan: &'a Plan,
    written: Vec<bool>,
    alive: BTreeSet<BufferId>,
    /// Offset → (end, buffer) of what lives in the arena, and in the prepared memory; empty buffers are left out.
    used: [BTreeMap<usize, (usize, BufferId)>; 2],
}

impl Memory<'_> {
    fn root(&self, id: BufferId) -> Result<BufferId, PlanError> {
        match existing(self.plan, id)?.place {
            Place::Alias(root) => Ok(root),
            _ => Ok(id),
        }
    }

    fn is_readable(&self, id: BufferId) -> Result<bool, PlanError> {
        let root = self.root(id)?;
        let given = matches!(existing(self.plan, root)?.place, Place::Input(_) | Place::Weight(_) | Place::Constant(_));
        Ok(given || self.alive.contains(&root))
    }

    fn run(&mut self, step: &Step, prepare: bool) -> Result<(), PlanError> {
        for &input in &step.inputs {
            if !self.is_readable(input)? {
                return fail(3, format!("\"{}\" reads %{} at a wrong time", step.label, self.plan.buffer(input).name));
            }
        }
        self.overwrite(step)?;
        for &output in &step.outputs {
            self.write(step, output, prepare)?;
        }
        for &freed in &step.frees {
            existing(self.plan, freed)?;
            if !self.alive.remove(&freed) {
                return fail(6, format!("\"{}\" frees %{}", step.label, self.plan.buffer(freed).name));
            }
            self.forget(freed);
        }
        Ok(())
    }

    fn slot(&self, id: BufferId) -> Option<(usize, usize)> {
        match self.plan.buffers.get(id.0 as usize)?.place {
            Place::Arena(offset) => Some((0, offset)),
            Place::Prepared(offset) => Some((1, offset)),
            _ => None,
        }
    }

    fn forget(&mut self, id: BufferId) {
        if let Some((memory, offset)) = self.slot(id)
            && self.used[memory].get(&offset).is_some_and(|(_, owner)| *owner == id)
        {
            self.used[memory].remove(&offset);
        }
    }

    /// Operands in whose place a fused call writes die.
    fn overwrite(&mut self, step: &Step) -> Result<(), PlanError> {
        if !matches!(step.call, KernelCall::Fused(_)) {
            return Ok(());
        }
        for &output in &step.outputs {
            let result = existing(self.plan, output)?;
            for &input in &step.inputs {
                let operand = existing(self.plan, input)?;
                let root = self.root(input)?;
                let alike = operand.shape == result.shape && operand.dtype == result.dtype;
                let mut readers = step.inputs.iter().filter(|&&other| self.root(other) == Ok(root));
                let once = readers.next().is_some() && readers.next().is_none();
                // An empty tensor has no place that could be written over.
                let alike = alike && operand.bytes() > 0;
                if alike && once && self.slot(root) == self.slot(output) && self.alive.remove(&root) {
                    self.forget(root);
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, step: &Step, output: BufferId, prepare: bool) -> Result<(), PlanError> {
        let buffer = existing(self.plan, output)?;
        let place = self.slot(output).filter(|(memory, _)| (*memory == 1) == prepare);
        let first = !std::mem::replace(&mut self.written[output.0 as usize], true);
        let Some((memory, offset)) = place.filter(|_| first) else {
            return fail(4, format!("\"{}\" writes %{}", step.label, buffer.name));
        };
        let end = offset + buffer.bytes();
        if end > offset {
            if let Some((_, (other_end, other))) = self.used[memory].range(..end).next_back()
                && *other_end > offset
            {
                let other = &self.plan.buffer(*other).name;
                return fail(5, format!("\"{}\" writes %{} over %{other}", step.label, buffer.name));
            }
            self.used[memory].insert(offset, (end, output));
        }
        self.alive.insert(output);
        Ok(())
    }
}

/// Invariant 8.
fn check_call(plan: &Plan, step: &Step) -> Result<(), PlanError> {
    let ty = |id: &BufferId| {
        let buffer = plan.buffer(*id);
        TensorType::new(buffer.dtype, buffer.shape.iter().map(|&size| Dim::Known(size as i64)).collect())
    };
    let operands: Vec<TensorType> = step.inputs.iter().map(ty).collect();
    let results: Vec<Vec<Dim>> = step.outputs.iter().map(|id| ty(id).shape).collect();
    let shapes = |types: &[TensorType]| -> Vec<Vec<Dim>> { types.iter().map(|ty| ty.shape.clone()).collect() };
    let expected = match &step.call {
        KernelCall::Op(op) => op
            .infer(&operands.iter().collect::<Vec<_>>())
            .map(|types| shapes(&types))
            .map_err(|reason| PlanError { invariant: 8, message: format!("\"{}\": {reason}", step.label) })?,
        KernelCall::Fused(graph) => {
            check_fused(graph, &shapes(&operands), &step.label)?;
            shapes(&graph.result_types())
        }
        KernelCall::Sum | KernelCall::SumOfAbsolutes => vec![Vec::new()],
        KernelCall::Loop { trips, carried, scanned, body, .. } => {
            verify_plan(body)?;
            let slice = |(place, mut shape): (usize, Vec<Dim>)| {
                let is_scanned = (*carried..carried + scanned).contains(&place);
                (shape.drain(..usize::from(is_scanned && !shape.is_empty())).count(), shape).1
            };
            check_nested(body, shapes(&operands).into_iter().enumerate().map(slice), step)?;
            let given = body.results.iter().map(|(_, id)| ty_of(body, *id)).enumerate();
            let stack = |shape: Vec<Dim>| std::iter::once(Dim::Known(*trips as i64)).chain(shape).collect();
            let given = given.map(|(place, shape)| if place < *carried { shape } else { stack(shape) });
            given.chain(workspace(&step.call)).collect()
        }
        KernelCall::While { body, .. } => {
            verify_plan(body)?;
            check_nested(body, shapes(&operands).into_iter().skip(1), step)?;
            std::iter::once(Vec::new()).chain(workspace(&step.call)).collect()
        }
    };
    if expected == results {
        Ok(())
    } else {
        fail(8, format!("\"{}\" gives {expected:?} into {results:?}", step.label))
    }
}

fn ty_of(plan: &Plan, id: BufferId) -> Vec<Dim> {
    plan.buffer(id).shape.iter().map(|&size| Dim::Known(size as i64)).collect()
}

/// The shape of a loop's working memory.
fn workspace(call: &KernelCall) -> Option<Vec<Dim>> {
    call.workspace().map(|workspace| vec![Dim::Known(workspace.bytes as i64)])
}

/// A nested plan takes the position and what its step reads, and holds no weights.
fn check_nested(body: &Plan, operands: impl Iterator<Item = Vec<Dim>>, step: &Step) -> Result<(), PlanError> {
    let inputs: Vec<Vec<Dim>> = body.inputs.iter().map(|input| ty_of(body, input.buffer)).collect();
    let expected: Vec<Vec<Dim>> = std::iter::once(Vec::new()).chain(operands).collect();
    if inputs == expected && body.weights.is_empty() {
        Ok(())
    } else {
        fail(8, format!("\"{}\" gives {expected:?} to a nested plan over {inputs:?}", step.label))
    }
}

/// A fused graph reads its step's operands, and all its results have one shape to which the operands broadcast.
fn check_fused(graph: &Graph, operands: &[Vec<Dim>], label: &str) -> Result<(), PlanError> {
    let inputs: Vec<Vec<Dim>> = graph.input_types().into_iter().map(|ty| ty.shape).collect();
    let results = graph.result_types();
    let one_shape = results.windows(2).all(|pair| pair[0].shape == pair[1].shape) && !results.is_empty();
    if inputs == operands && one_shape { Ok(()) } else { fail(8, format!("\"{label}\" does not fit its fused graph")) }
}
