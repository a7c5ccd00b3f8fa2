//! Finds the operation that made a number that is not finite, from where such a number is seen.
//!
//! The steps run once more; what each reads and writes is looked through. From the tensor that is not finite the way leads
//! back over operands that are not either, to a step that made NaN or infinity of finite numbers. What a `where` masks
//! away is never on that way.

use std::collections::HashMap;

use lrpc_ir::ops::source::LiteralValues;
use lrpc_ir::plan::{BufferId, KernelCall, Place, Plan, Step};
use lrpc_ir::{Graph, GraphResult, NodeId, Op};

use super::arena::{Operand, Running};
use super::control::Compiled;
use super::executor::{Blame, at_step, contents, run_step};
use super::finite::{Content, content};
use super::fused::Program;
use super::view::ViewMut;
use crate::error::{RunError, RunErrorKind};
use crate::memory::AlignedBytes;

/// What a step read and wrote.
struct Seen {
    inputs: Vec<Content>,
}

/// Where a number that is not finite comes from.
enum Source {
    /// Made by the step at this place, of finite numbers.
    Step(usize),
    /// Given under this name: an input, a weight, or a constant of the graph.
    Given(&'static str, String),
}

/// The error for a number that is not finite in `start`.
pub(super) fn find(
    plan: &Plan,
    calls: &mut [Compiled],
    running: &mut Running<'_, '_>,
    start: BufferId,
    found: Content,
) -> RunError {
    let mut search = Search { plan, calls };
    match search.error(running, start, found) {
        Ok(error) | Err(error) => error,
    }
}

struct Search<'a> {
    plan: &'a Plan,
    calls: &'a mut [Compiled],
}

impl Search<'_> {
    fn error(&mut self, running: &mut Running<'_, '_>, start: BufferId, found: Content) -> Result<RunError, RunError> {
        let seen = self.replay(running)?;
        let producers = self.producers();
        let trace = Trace { plan: self.plan, seen: &seen, producers: &producers };
        let (source, nan) = match trace.origin(start, found.nan) {
            Some(at) if found.nan => match trace.infinity_behind(at) {
                Some(before) => (Source::Step(before), false),
                None => (Source::Step(at), true),
            },
            Some(at) => (Source::Step(at), false),
            None => (trace.outside(start, found.nan), found.nan),
        };
        let what = if nan { "NaN" } else { "infinity" };
        match source {
            Source::Step(at) => self.at(running, at, nan, what),
            Source::Given(given, name) => Ok(RunErrorKind::NotFinite { given, name, what }.into()),
        }
    }

    /// Runs all steps and looks at what they read.
    fn replay(&mut self, running: &mut Running<'_, '_>) -> Result<Vec<Seen>, RunError> {
        let mut seen = Vec::with_capacity(self.plan.steps.len());
        for place in 0..self.plan.steps.len() {
            let Some(step) = self.plan.steps.get(place) else { break };
            let look = |id: &BufferId| contents(self.plan, running, &[*id]);
            seen.push(Seen { inputs: step.inputs.iter().map(look).collect() });
            self.run(running, place)?;
        }
        Ok(seen)
    }

    fn run(&mut self, running: &mut Running<'_, '_>, place: usize) -> Result<(), RunError> {
        let (Some(step), Some(call)) = (self.plan.steps.get(place), self.calls.get_mut(place)) else { return Ok(()) };
        run_step(self.plan, step, call, running, Blame::default(), &mut |_, _, _| Ok(()))
    }

    /// Runs the nested plan of the step at `place` until it gives such a number, and looks for the nested step.
    fn within(&mut self, running: &mut Running<'_, '_>, place: usize, nan: bool) -> Result<(), RunError> {
        let (Some(step), Some(call)) = (self.plan.steps.get(place), self.calls.get_mut(place)) else { return Ok(()) };
        run_step(self.plan, step, call, running, Blame::default(), &mut |body, calls, running| {
            let look = |(_, id): &(String, BufferId)| (*id, contents(body, running, &[*id]));
            let is_bad = |(_, found): &(BufferId, Content)| if nan { found.nan } else { found.infinity };
            match body.results.iter().map(look).find(is_bad) {
                Some((id, found)) => Err(find(body, calls, running, id, Content { nan, ..found })),
                None => Ok(()),
            }
        })
    }

    /// The step that writes each buffer.
    fn producers(&self) -> HashMap<BufferId, usize> {
        let steps = self.plan.steps.iter().enumerate();
        steps.flat_map(|(place, step)| step.outputs.iter().map(move |&id| (id, place))).collect()
    }

    /// The error that names the step at `place`; of a fused one the operation, of a loop the step in it.
    fn at(
        &mut self,
        running: &mut Running<'_, '_>,
        place: usize,
        nan: bool,
        what: &'static str,
    ) -> Result<RunError, RunError> {
        for before in 0..place {
            self.run(running, before)?;
        }
        let Some(step) = self.plan.steps.get(place) else {
            return Err(RunErrorKind::plan("a step that is not there").into());
        };
        let named = match &step.call {
            KernelCall::Fused(graph) => {
                self.inside(running, step, graph, nan).map_err(|kind| at_step(self.plan, step, kind))?
            }
            KernelCall::Loop { .. } => {
                self.within(running, place, nan)?;
                None
            }
            _ => None,
        };
        let value = |id: &BufferId| self.plan.buffer(*id).name.clone();
        let value =
            named.as_ref().map_or_else(|| step.outputs.first().map(value).unwrap_or_default(), |named| named.0.clone());
        let error = at_step(self.plan, step, RunErrorKind::Numeric { what, value });
        Ok(RunError { step: named.map(|named| named.1).or(error.step), ..error })
    }

    /// Name and ONNX name of the operation of a fused step that made the number.
    fn inside(
        &self,
        running: &Running<'_, '_>,
        step: &Step,
        graph: &Graph,
        nan: bool,
    ) -> Result<Option<(String, String)>, RunErrorKind> {
        let mut bad: HashMap<NodeId, bool> = HashMap::new();
        for node in graph.order().into_iter().filter(|&node| !matches!(graph.node(node).op, Op::Source(_))) {
            let found = self.value_of(running, step, graph, node)?;
            bad.insert(node, if nan { found.nan } else { found.infinity });
        }
        let is_bad = |node: NodeId| bad.get(&node).copied().unwrap_or(false);
        let Some(mut at) = graph.results.iter().map(|result| result.value.node).find(|&node| is_bad(node)) else {
            return Ok(None);
        };
        while let Some(before) = graph.operands(at).into_iter().map(|value| value.node).find(|&node| is_bad(node)) {
            at = before;
        }
        let label = graph.node(at).origin.from.as_deref().unwrap_or(&step.label).to_string();
        Ok(Some((graph.name(at.into()).to_string(), label)))
    }

    /// What one value of a fused step holds.
    fn value_of(
        &self,
        running: &Running<'_, '_>,
        step: &Step,
        graph: &Graph,
        node: NodeId,
    ) -> Result<Content, RunErrorKind> {
        let mut part = graph.clone();
        let name = graph.name(node.into()).to_string();
        part.results = vec![GraphResult { name, value: node.into() }];
        let program = Program::compile(&part, self.plan.precision, &[])?;
        let dtype = self.plan.precision.storage(graph.ty(node.into()).dtype);
        let operands = step.inputs.iter().map(|id| running.view(self.plan, *id).map(Operand::Separate));
        let operands = operands.collect::<Option<Vec<Operand<'_>>>>();
        let operands = operands.ok_or_else(|| RunErrorKind::plan("operands of a fused region have no bytes"))?;
        let size = program.elements().saturating_mul(dtype.size());
        let mut bytes = AlignedBytes::zeroed(size).ok_or(RunErrorKind::OutOfMemory { needed: size as u64 })?;
        program.run(&operands, &mut [ViewMut { dtype, shape: &[], bytes: bytes.as_mut_slice() }])?;
        Ok(content(dtype, bytes.as_slice()))
    }
}

struct Trace<'a> {
    plan: &'a Plan,
    seen: &'a [Seen],
    producers: &'a HashMap<BufferId, usize>,
}

impl Trace<'_> {
    /// The step that made what is in `id` of operands without such; `None` where it comes from outside of the steps.
    fn origin(&self, id: BufferId, nan: bool) -> Option<usize> {
        let mut id = self.base(id);
        loop {
            let at = *self.producers.get(&id)?;
            match self.operand(at, nan) {
                None if !nan && self.has_infinite_literal(at) => return None,
                None => return Some(at),
                Some(operand) => id = self.base(operand),
            }
        }
    }

    /// Whether an infinity that the step gives is one of its literals, as in a mask.
    fn has_infinite_literal(&self, at: usize) -> bool {
        let Some(KernelCall::Fused(graph)) = self.plan.steps.get(at).map(|step| &step.call) else { return false };
        graph.ids().any(|node| match &graph.node(node).op {
            Op::Source(lrpc_ir::ops::Source::Constant(literal)) => match &literal.values {
                LiteralValues::Floats(values) => values.iter().any(|value| value.0.is_infinite()),
                LiteralValues::Integers(_) => false,
            },
            _ => false,
        })
    }

    /// The first operand of a step that holds such.
    fn operand(&self, at: usize, nan: bool) -> Option<BufferId> {
        let (step, seen) = (self.plan.steps.get(at)?, self.seen.get(at)?);
        let is_bad = |found: &Content| if nan { found.nan } else { found.infinity };
        step.inputs.iter().zip(&seen.inputs).find(|(_, found)| is_bad(found)).map(|(id, _)| *id)
    }

    /// A step that made infinity of finite numbers, from which the step at `at` made NaN. Masks that hold −∞ are literals.
    fn infinity_behind(&self, at: usize) -> Option<usize> {
        let (step, seen) = (self.plan.steps.get(at)?, self.seen.get(at)?);
        let infinite = step.inputs.iter().zip(&seen.inputs).filter(|(_, found)| found.infinity);
        infinite.filter_map(|(id, _)| self.origin(*id, false)).min()
    }

    /// What lies at the end of the way where no step is to blame.
    fn outside(&self, id: BufferId, nan: bool) -> Source {
        let mut id = self.base(id);
        while let Some(operand) = self.producers.get(&id).and_then(|&at| self.operand(at, nan)) {
            id = self.base(operand);
        }
        let buffer = self.plan.buffer(id);
        match buffer.place {
            Place::Input(_) => Source::Given("input", buffer.name.clone()),
            Place::Weight(_) => Source::Given("weight", buffer.name.clone()),
            _ => Source::Given("constant", buffer.name.clone()),
        }
    }

    /// The buffer that an alias shows.
    fn base(&self, mut id: BufferId) -> BufferId {
        // A cycle of aliases was refused when memory was taken.
        while let Place::Alias(shown) = self.plan.buffer(id).place {
            id = shown;
        }
        id
    }
}
