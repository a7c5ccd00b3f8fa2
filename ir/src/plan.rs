//! Plans: what binding hands to execution. A plan is data: printable, costed, testable without running.
//!
//! Every dimension in a plan is a number. Buffers have one place each; a step reads and writes buffers. Nothing in a
//! plan depends on the number of threads.

use std::ops::Range;

use crate::dim::Bindings;
use crate::graph::{Absorbed, Graph};
use crate::ops::{Literal, Op};
use crate::types::DType;

/// Places in the arena start at multiples of this many bytes.
pub const ALIGNMENT: usize = 64;

/// The floating-point type that `f32`, `f16` and `bf16` values are computed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Double precision throughout, the reference of the tests.
    F64,
}

impl Precision {
    /// The element type in which a value declared as `dtype` is stored while a plan runs.
    pub fn storage(self, dtype: DType) -> DType {
        match (self, dtype) {
            (Precision::F32, DType::F16 | DType::Bf16) => DType::F32,
            (Precision::F64, DType::F16 | DType::Bf16 | DType::F32) => DType::F64,
            _ => dtype,
        }
    }
}

/// A buffer of a plan, by position in [`Plan::buffers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub u32);

/// Where a buffer's bytes lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Given by the caller; position in [`Plan::inputs`].
    Input(usize),
    /// A weight's own bytes, converted to the storage type if it differs; position in [`Plan::weights`].
    Weight(usize),
    /// Written by a prepare step, kept as long as the plan; offset in bytes into the prepared memory.
    Prepared(usize),
    /// In the arena, at this offset in bytes.
    Arena(usize),
    /// The same bytes as another buffer, under another shape.
    Alias(BufferId),
    /// A literal.
    Constant(Literal),
}

/// A tensor of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buffer {
    /// Name of the value, without sigil.
    pub name: String,
    /// Element type in memory.
    pub dtype: DType,
    /// Axis lengths.
    pub shape: Vec<usize>,
    /// Where it lies.
    pub place: Place,
}

impl Buffer {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.elements() * self.dtype.size()
    }
}

/// What one step computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelCall {
    /// One primitive whose dimensions are all numbers.
    Op(Op),
    /// A region of element-wise operations and broadcasts, computed block by block. The graph's inputs are the step's
    /// inputs, its results the step's outputs; every result has the same shape, and an input has that shape or
    /// broadcasts to it.
    Fused(Box<Graph>),
    /// The sum of all elements in f64, into a buffer of one `f64`.
    Sum,
    /// As [`KernelCall::Sum`], of the absolute values.
    SumOfAbsolutes,
    /// A nested plan, run once for each position; its inputs and results are those of [`Control::Loop`]'s body. The step's
    /// last result is working memory ([`KernelCall::workspace`]).
    ///
    /// [`Control::Loop`]: crate::ops::Control::Loop
    Loop {
        /// Number of positions.
        trips: usize,
        /// Whether the positions are walked from the last to the first.
        reverse: bool,
        /// Number of carried values.
        carried: usize,
        /// Number of scanned tensors.
        scanned: usize,
        /// The body's plan.
        body: Box<Plan>,
    },
    /// Counts the runs of a nested plan; its inputs and results are those of [`Control::While`]'s body. The step's last
    /// result is working memory ([`KernelCall::workspace`]).
    ///
    /// [`Control::While`]: crate::ops::Control::While
    While {
        /// Number of carried values.
        carried: usize,
        /// The body's plan.
        body: Box<Plan>,
    },
}

/// How the working memory of a loop, which is the last result of its step, is divided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Bytes of the nested plan's arena, which comes first.
    pub arena: usize,
    /// Bytes of each carried value's further places, one after the other.
    pub copies: Vec<usize>,
    /// Bytes in all.
    pub bytes: usize,
}

impl Workspace {
    /// The arena, then each copy, as ranges; all begin at multiples of [`ALIGNMENT`].
    pub fn parts(&self) -> Vec<Range<usize>> {
        let mut start = 0;
        let sizes = std::iter::once(self.arena).chain(self.copies.iter().copied());
        sizes.map(|size| (start..start + size, start += size.next_multiple_of(ALIGNMENT)).0).collect()
    }
}

impl KernelCall {
    /// The nested plan.
    pub fn body(&self) -> Option<&Plan> {
        match self {
            KernelCall::Loop { body, .. } | KernelCall::While { body, .. } => Some(body),
            _ => None,
        }
    }

    /// The working memory of a call over a nested plan: a run reads carried values from one place and writes them to
    /// another, and the results of a [`KernelCall::Loop`] are one of these. `None` for all other calls, and where it
    /// cannot be addressed.
    pub fn workspace(&self) -> Option<Workspace> {
        let (carried, times, body) = match self {
            KernelCall::Loop { carried, body, .. } => (*carried, 1, body),
            KernelCall::While { carried, body } => (*carried, 2, body),
            _ => return None,
        };
        let own: Vec<usize> =
            body.inputs.iter().skip(1).take(carried).map(|input| body.buffer(input.buffer).bytes()).collect();
        let copies: Vec<usize> = own.iter().copied().cycle().take(own.len() * times).collect();
        let arena = body.arena_bytes;
        let bytes = std::iter::once(&arena).chain(&copies).try_fold(0usize, |sum, size| {
            size.checked_next_multiple_of(ALIGNMENT).and_then(|size| sum.checked_add(size))
        })?;
        Some(Workspace { arena, copies, bytes })
    }
}

impl Step {
    /// Whether the result at `output` may lie where the operand at `input` lies. A fused region reads a block of every
    /// operand before it writes that block of its results, so it may overwrite an operand that has the result's shape
    /// and element type; every other call reads operands after it began to write.
    pub fn may_run_in_place(&self, plan: &Plan, input: usize, output: usize) -> bool {
        let (Some(input), Some(output)) = (self.inputs.get(input), self.outputs.get(output)) else { return false };
        let (input, output) = (plan.buffer(*input), plan.buffer(*output));
        let fused = matches!(self.call, KernelCall::Fused(_));
        fused && input.dtype == output.dtype && input.shape == output.shape
    }
}

/// Arithmetic and traffic of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes read and written.
    pub bytes: u64,
}

/// One kernel call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is computed.
    pub call: KernelCall,
    /// The operands in order.
    pub inputs: Vec<BufferId>,
    /// The results in order.
    pub outputs: Vec<BufferId>,
    /// ONNX name of what the step belongs to, for errors and profiles.
    pub label: String,
    /// What it costs.
    pub cost: Cost,
    /// Arena buffers that nobody reads after this step.
    pub frees: Vec<BufferId>,
}

/// A caller-given tensor of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanInput {
    /// The ONNX input's name.
    pub name: String,
    /// Declared element type.
    pub dtype: DType,
    /// The buffer that it fills.
    pub buffer: BufferId,
}

/// A weight of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanWeight {
    /// The initializer's name.
    pub name: String,
    /// Element type in the file.
    pub dtype: DType,
    /// The buffer that shows it.
    pub buffer: BufferId,
    /// Whether it lies in the sidecar.
    pub sidecar: bool,
}

/// One line of the ledger, as buffers of one `f64` each; every list is to be summed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanLedgerLine {
    /// ONNX name of the operation.
    pub site: String,
    /// The rule.
    pub rule: String,
    /// Sums of what came in.
    pub input: Vec<BufferId>,
    /// Sums of what went out.
    pub output: Vec<BufferId>,
    /// Sums of the absolute values of all that came in and went out: the scale on which the line closes.
    pub scale: Vec<BufferId>,
    /// Sums of what was absorbed.
    pub absorbed: Vec<(Absorbed, BufferId)>,
}

/// Calls over buffers, in order of execution.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The values of the symbols.
    pub dims: Bindings,
    /// Floating-point type of computation.
    pub precision: Precision,
    /// Every tensor.
    pub buffers: Vec<Buffer>,
    /// What the caller gives.
    pub inputs: Vec<PlanInput>,
    /// Which weights are used.
    pub weights: Vec<PlanWeight>,
    /// Run once per load.
    pub prepare: Vec<Step>,
    /// Run for every input.
    pub steps: Vec<Step>,
    /// What is returned, by name.
    pub results: Vec<(String, BufferId)>,
    /// The ledger's lines; empty without audit.
    pub ledger: Vec<PlanLedgerLine>,
    /// Size of the arena in bytes.
    pub arena_bytes: usize,
    /// Size of the prepared memory in bytes.
    pub prepared_bytes: usize,
}

impl Plan {
    /// The buffer.
    pub fn buffer(&self, id: BufferId) -> &Buffer {
        &self.buffers[id.0 as usize]
    }
}
