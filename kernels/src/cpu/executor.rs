//! Holds the memory of a plan and runs its steps.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use lrpc_ir::graph::{Absorbed, LedgerLine};
use lrpc_ir::plan::{BufferId, Place, Plan, PlanInput, Step};

use super::arena::{Memory, Running, roots};
use super::blame;
use super::control::{self, Compiled, compile};
use super::finite::{Content, content};
use super::source::literal_bytes;
use crate::error::{RunError, RunErrorKind};
use crate::memory::AlignedBytes;
use crate::tensor::{Tensor, byte_count};
use crate::weights::{WeightBytes, WeightSource, load};

/// When numbers are checked for NaN and infinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CheckFinite {
    /// The results and the ledger's sums; where one is not finite, the run is repeated to find the operation that is to
    /// blame. What a `where` masks away is not.
    #[default]
    Results,
    /// What every step writes: NaN anywhere, and infinity where no operand of the step holds one. Masks that hold −∞ may
    /// be reported where they are made.
    EveryStep,
    /// Nothing.
    Off,
}

/// How a plan is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Number of threads; 0 means one per core. The numbers that come out do not depend on it.
    pub threads: usize,
    /// The most bytes that arena, prepared memory, weights and literals may take together. What single kernels take for
    /// a moment (windows of a convolution, rearranged operands) is not among them.
    pub memory_limit: Option<u64>,
    /// What is checked for NaN and infinity.
    pub check_finite: CheckFinite,
}

/// What a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Steps that are done.
    pub done: usize,
    /// Steps in all.
    pub total: usize,
    /// ONNX name of the operation that comes next.
    pub label: &'a str,
}

/// The sums of one line of the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerSums {
    /// ONNX name of the operation.
    pub site: String,
    /// The rule.
    pub rule: String,
    /// What came in.
    pub input: f64,
    /// What went out.
    pub output: f64,
    /// Sum of the absolute values of all that came in and went out: the scale on which the line closes.
    pub scale: f64,
    /// What was absorbed, term by term.
    pub absorbed: Vec<(Absorbed, f64)>,
}

/// What one composite made of one target.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerTotal {
    /// Composite and target, where there are several; then `total`.
    pub name: String,
    /// What started at the explained outputs.
    pub started: f64,
    /// What arrived at requested tensors and went no further.
    pub arrived: f64,
    /// What the lines absorbed.
    pub absorbed: BTreeMap<Absorbed, f64>,
    /// The scale on which the total closes: the largest of the scales of its lines and its own.
    pub scale: f64,
    /// Its lines among all of the ledger.
    pub lines: Range<usize>,
}

/// What a run gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The results by name.
    pub results: BTreeMap<String, Tensor>,
    /// The ledger, in the plan's order; empty without audit.
    pub ledger: Vec<LedgerSums>,
    /// The totals of the ledger, one for each composite and target; empty without audit.
    pub totals: Vec<LedgerTotal>,
}

/// A plan with its memory, ready to run.
pub struct Executor<'w> {
    plan: Arc<Plan>,
    memory: Memory<'w>,
    arena: AlignedBytes,
    calls: Vec<Compiled>,
    pool: rayon::ThreadPool,
    check_finite: CheckFinite,
}

/// Called before each step.
type OnProgress<'a> = Option<&'a mut (dyn FnMut(Progress<'_>) + Send)>;

impl<'w> Executor<'w> {
    /// Takes memory, reads the weights and runs what depends on them alone.
    ///
    /// # Errors
    /// A memory limit that is too low (found before anything is allocated), weights that cannot be read, and whatever the
    /// prepare steps meet.
    pub fn new(plan: Arc<Plan>, weights: &'w dyn WeightSource, options: Options) -> Result<Executor<'w>, RunError> {
        check_ids(&plan)?;
        let needed = memory_needed(&plan)?;
        if let Some(limit) = options.memory_limit.filter(|limit| needed > *limit) {
            return Err(RunErrorKind::Memory { needed, limit }.into());
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(options.threads)
            .build()
            .map_err(|error| RunErrorKind::Threads { threads: options.threads, reason: error.to_string() })?;
        let take = |bytes| AlignedBytes::zeroed(bytes).ok_or(RunErrorKind::OutOfMemory { needed });
        let memory = Memory {
            roots: roots(&plan)?,
            weights: read_weights(&plan, weights)?,
            constants: constants(&plan)?,
            prepared: take(plan.prepared_bytes)?,
        };
        let (arena, check_finite) = (take(plan.arena_bytes)?, options.check_finite);
        let calls = compile(&plan, &memory, &plan.steps)?;
        let mut executor = Executor { plan, memory, arena, calls, pool, check_finite };
        let (plan, blame) = (executor.plan.clone(), Blame::at_steps(check_finite));
        let mut prepare = compile(&plan, &executor.memory, &plan.prepare)?;
        let Executor { memory, arena, calls, pool, .. } = &mut executor;
        let mut running = Running { memory, arena: arena.as_mut_slice(), inputs: &[] };
        pool.install(|| {
            run_steps(&plan, &plan.prepare, &mut prepare, &mut running, blame, None)?;
            control::prepare(&plan.steps, calls, blame)
        })?;
        Ok(executor)
    }

    /// Bytes that the executor holds: arena, prepared memory, and weights that could not be used where they lie.
    pub fn memory_bytes(&self) -> usize {
        let weights: usize = self.memory.weights.iter().map(WeightBytes::owned).sum();
        let nested = |step: &Step| step.call.body().map_or(0, nested_bytes);
        let nested: usize = self.plan.steps.iter().map(nested).sum();
        weights + self.plan.arena_bytes + self.plan.prepared_bytes + nested
    }

    /// Runs the plan on `inputs`, by ONNX name; names that the plan does not use are ignored. `progress` is called before
    /// each step.
    ///
    /// # Errors
    /// Inputs that are missing, of the wrong type or shape, or hold NaN; indices out of range; and numbers that are not
    /// finite, as far as they are checked.
    pub fn run(&mut self, inputs: &BTreeMap<String, Tensor>, progress: OnProgress<'_>) -> Result<Outcome, RunError> {
        let Executor { plan, memory, arena, calls, pool, check_finite } = self;
        pool.install(|| {
            let given = plan.inputs.iter().map(|input| input_bytes(plan, input, inputs, *check_finite));
            let given = given.collect::<Result<Vec<WeightBytes<'_>>, RunErrorKind>>()?;
            let given: Vec<&[u8]> = given.iter().map(WeightBytes::as_slice).collect();
            let mut running = Running { memory, arena: arena.as_mut_slice(), inputs: &given };
            run_steps(plan, &plan.steps, calls, &mut running, Blame::at_steps(*check_finite), progress)?;
            if *check_finite != CheckFinite::Off
                && let Some((id, found)) = worst_result(plan, &running)
            {
                return Err(blame::find(plan, calls, &mut running, id, found));
            }
            let (ledger, totals) = ledger(plan, &running)?;
            Ok(Outcome { results: results(plan, &running)?, ledger, totals })
        })
    }
}

/// Which numbers end a run.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Blame {
    nan: bool,
    /// Only where no operand holds one.
    infinity: bool,
}

impl Blame {
    fn at_steps(check: CheckFinite) -> Blame {
        let every = check == CheckFinite::EveryStep;
        Blame { nan: every, infinity: every }
    }
}

pub(super) fn run_steps(
    plan: &Plan,
    steps: &[Step],
    calls: &mut [Compiled],
    running: &mut Running<'_, '_>,
    blame: Blame,
    mut progress: OnProgress<'_>,
) -> Result<(), RunError> {
    for (done, (step, call)) in steps.iter().zip(calls).enumerate() {
        if let Some(progress) = &mut progress {
            progress(Progress { done, total: steps.len(), label: &step.label });
        }
        let before = if blame.infinity { contents(plan, running, &step.inputs) } else { Content::default() };
        run_step(plan, step, call, running, blame, &mut |_, _, _| Ok(()))?;
        if blame.nan || blame.infinity {
            for output in &step.outputs {
                let found = contents(plan, running, &[*output]);
                let blamed = Content {
                    nan: found.nan && blame.nan,
                    infinity: found.infinity && blame.infinity && !before.infinity,
                };
                if let Some(what) = blamed.worst() {
                    let value = plan.buffer(*output).name.clone();
                    return Err(at_step(plan, step, RunErrorKind::Numeric { what, value }));
                }
            }
        }
        if cfg!(debug_assertions) {
            step.frees.iter().for_each(|freed| running.poison(*freed));
        }
    }
    Ok(())
}

/// Runs one step; `watch` sees a nested plan after each run of it.
pub(super) fn run_step(
    plan: &Plan,
    step: &Step,
    call: &mut Compiled,
    running: &mut Running<'_, '_>,
    blame: Blame,
    watch: control::Watch<'_>,
) -> Result<(), RunError> {
    if super::only_renames(step)
        && let ([from], [to]) = (step.inputs.as_slice(), step.outputs.as_slice())
        && running.memory.roots[from.0 as usize] == running.memory.roots[to.0 as usize]
    {
        return Ok(());
    }
    let (operands, mut outputs) = running.borrow(plan, step).map_err(|kind| at_step(plan, step, kind))?;
    let outcome = match call {
        Compiled::Nested(nested) => control::run(step, nested, &operands, &mut outputs, blame, watch),
        Compiled::Fused(program) => program.run(&operands, &mut outputs).map_err(RunError::from),
        Compiled::Plain => super::call(step, &operands, &mut outputs).map_err(RunError::from),
    };
    // What a nested step is to blame for bears its name already.
    outcome.map_err(|error| if error.step.is_some() { error } else { at_step(plan, step, error.kind) })
}

pub(super) fn at_step(plan: &Plan, step: &Step, kind: RunErrorKind) -> RunError {
    let describe = |id: &BufferId| format!("{}{:?}", plan.buffer(*id).dtype, plan.buffer(*id).shape);
    RunError { kind, step: Some(step.label.clone()), operands: step.inputs.iter().map(describe).collect() }
}

pub(super) fn contents(plan: &Plan, running: &Running<'_, '_>, buffers: &[BufferId]) -> Content {
    let look = |id: &BufferId| content(plan.buffer(*id).dtype, running.read(*id).unwrap_or_default());
    buffers.iter().map(look).fold(Content::default(), Content::join)
}

/// The first result, or sum of the ledger, that is not finite; one that holds NaN before all others.
fn worst_result(plan: &Plan, running: &Running<'_, '_>) -> Option<(BufferId, Content)> {
    let sums = plan.ledger.iter().flat_map(|line| {
        let absorbed = line.absorbed.iter().map(|(_, id)| id);
        line.input.iter().chain(&line.output).chain(absorbed)
    });
    let all = plan.results.iter().map(|(_, id)| id).chain(sums);
    let look = |id: &BufferId| (*id, contents(plan, running, &[*id]));
    let bad: Vec<(BufferId, Content)> = all.map(look).filter(|(_, found)| found.worst().is_some()).collect();
    bad.iter().find(|(_, found)| found.nan).or(bad.first()).copied()
}

pub(super) fn check_ids(plan: &Plan) -> Result<(), RunErrorKind> {
    let steps = plan.prepare.iter().chain(&plan.steps);
    let of_steps = steps.flat_map(|step| step.inputs.iter().chain(&step.outputs).chain(&step.frees));
    let of_inputs =
        plan.inputs.iter().map(|input| &input.buffer).chain(plan.weights.iter().map(|weight| &weight.buffer));
    let of_ledger = plan.ledger.iter().flat_map(|line| {
        let absorbed = line.absorbed.iter().map(|(_, id)| id);
        line.input.iter().chain(&line.output).chain(&line.scale).chain(absorbed)
    });
    let of_results = plan.results.iter().map(|(_, id)| id);
    let mut all = of_steps.chain(of_inputs).chain(of_ledger).chain(of_results);
    match all.find(|id| id.0 as usize >= plan.buffers.len()) {
        Some(id) => Err(RunErrorKind::plan(format!("there is no buffer {}", id.0))),
        None => Ok(()),
    }
}

/// Bytes of arena, prepared memory, weights and literals.
fn memory_needed(plan: &Plan) -> Result<u64, RunErrorKind> {
    let mut needed = plan.arena_bytes as u64;
    let mut add = |bytes: Option<usize>| {
        let sum = bytes.and_then(|bytes| needed.checked_add(bytes as u64));
        sum.map(|sum| needed = sum).ok_or_else(|| RunErrorKind::plan("more bytes than can be counted"))
    };
    add(Some(plan.prepared_bytes))?;
    let constants = plan.buffers.iter().filter(|buffer| matches!(buffer.place, Place::Constant(_)));
    for buffer in plan.weights.iter().map(|weight| plan.buffer(weight.buffer)).chain(constants) {
        add(byte_count(buffer.dtype, &buffer.shape))?;
    }
    // The arena of a nested plan lies in that of its step.
    for body in plan.prepare.iter().chain(&plan.steps).filter_map(|step| step.call.body()) {
        let own = memory_needed(body)?.saturating_sub(body.arena_bytes as u64);
        add(usize::try_from(own).ok())?;
    }
    Ok(needed)
}

/// Bytes that a nested plan holds apart from its arena.
fn nested_bytes(plan: &Plan) -> usize {
    plan.prepared_bytes + plan.steps.iter().filter_map(|step| step.call.body()).map(nested_bytes).sum::<usize>()
}

fn read_weights<'w>(plan: &Plan, source: &'w dyn WeightSource) -> Result<Vec<WeightBytes<'w>>, RunErrorKind> {
    let read = |weight: &lrpc_ir::plan::PlanWeight| {
        let buffer = plan.buffer(weight.buffer);
        let bytes = source.weight(&weight.name, weight.sidecar);
        let loaded = bytes.and_then(|bytes| load(bytes, weight.dtype, buffer.dtype, buffer.elements()));
        loaded.map_err(|reason| RunErrorKind::Weight { name: weight.name.clone(), reason })
    };
    plan.weights.iter().map(read).collect()
}

pub(super) fn constants(plan: &Plan) -> Result<Vec<AlignedBytes>, RunErrorKind> {
    let mut constants = Vec::new();
    for buffer in &plan.buffers {
        if let Place::Constant(literal) = &buffer.place {
            constants.push(literal_bytes(literal, buffer.dtype, buffer.elements())?);
        }
    }
    Ok(constants)
}

/// An input's bytes in their storage type.
fn input_bytes<'a>(
    plan: &Plan,
    input: &PlanInput,
    given: &'a BTreeMap<String, Tensor>,
    check_finite: CheckFinite,
) -> Result<WeightBytes<'a>, RunErrorKind> {
    let buffer = plan.buffer(input.buffer);
    let fail = |reason: String| RunErrorKind::Input { name: input.name.clone(), reason };
    let tensor = given.get(&input.name).ok_or_else(|| fail("is missing".into()))?;
    if tensor.shape() != buffer.shape {
        return Err(fail(format!("has shape {:?}, expected {:?}", tensor.shape(), buffer.shape)));
    }
    if tensor.dtype() != input.dtype && tensor.dtype() != buffer.dtype {
        return Err(fail(format!("holds {}, expected {}", tensor.dtype(), input.dtype)));
    }
    let bytes = load(Cow::Borrowed(tensor.bytes()), tensor.dtype(), buffer.dtype, buffer.elements()).map_err(fail)?;
    if check_finite != CheckFinite::Off && content(buffer.dtype, bytes.as_slice()).nan {
        return Err(fail("holds NaN".into()));
    }
    Ok(bytes)
}

fn results(plan: &Plan, running: &Running<'_, '_>) -> Result<BTreeMap<String, Tensor>, RunErrorKind> {
    let mut results = BTreeMap::new();
    for (name, id) in &plan.results {
        let buffer = plan.buffer(*id);
        let bytes = running.read(*id).unwrap_or_default();
        let tensor = Tensor::new(buffer.dtype, &buffer.shape, bytes).map_err(RunErrorKind::Plan)?;
        results.insert(name.clone(), tensor);
    }
    Ok(results)
}

/// The ledger's lines, and the totals that the plan has between them.
fn ledger(plan: &Plan, running: &Running<'_, '_>) -> Result<(Vec<LedgerSums>, Vec<LedgerTotal>), RunErrorKind> {
    let number = |id: &BufferId| {
        let bytes = running.read(*id).and_then(|bytes| bytes.try_into().ok()).map(f64::from_ne_bytes);
        bytes.ok_or_else(|| RunErrorKind::plan(format!("{} is no sum", plan.buffer(*id).name)))
    };
    let sum = |ids: &[BufferId]| ids.iter().map(number).sum::<Result<f64, RunErrorKind>>();
    let line_of = |line: &lrpc_ir::plan::PlanLedgerLine| {
        Ok(LedgerSums {
            site: line.site.clone(),
            rule: line.rule.clone(),
            input: sum(&line.input)?,
            output: sum(&line.output)?,
            scale: sum(&line.scale)?,
            absorbed: line.absorbed.iter().map(|(kind, id)| Ok((*kind, number(id)?))).collect::<Result<_, _>>()?,
        })
    };
    let (mut lines, mut totals) = (Vec::new(), Vec::<LedgerTotal>::new());
    for line in &plan.ledger {
        let sums = line_of(line)?;
        if line.rule == LedgerLine::TOTAL {
            let first = totals.last().map_or(0, |total| total.lines.end);
            totals.push(total_of(sums, &lines, first..lines.len()));
        } else {
            lines.push(sums);
        }
    }
    Ok((lines, totals))
}

fn total_of(own: LedgerSums, all: &[LedgerSums], lines: Range<usize>) -> LedgerTotal {
    let (mut absorbed, mut scale) = (BTreeMap::new(), own.scale);
    for line in all.get(lines.clone()).unwrap_or_default() {
        // NaN stays.
        scale = if line.scale <= scale { scale } else { line.scale };
        for (kind, sum) in &line.absorbed {
            *absorbed.entry(*kind).or_insert(0.0) += sum;
        }
    }
    LedgerTotal { name: own.site, started: own.input, arrived: own.output, absorbed, scale, lines }
}
