//! Fused regions, interpreted block by block: each operation of the region is one loop over a block that stays in the
//! cache, so that only the region's operands and results travel to memory.
//!
//! All values are computed at the shape of the results. That is right because broadcasts are aligned at the last axis:
//! an element of a small value and all its copies depend on the same elements of the operands.

use lrpc_ir::ops::{Elementwise, Movement, Source};
use lrpc_ir::plan::Precision;
use lrpc_ir::{DType, Dim, Graph, Op, Value};
use rayon::prelude::*;
use std::collections::BTreeMap;

use super::arena::Operand;
use super::elementwise::evaluate;
use super::source::{counter, literal_bytes};
use super::view::{View, ViewMut, all_numbers, count, ensure, for_size, row_major};
use crate::error::RunErrorKind;
use crate::memory::{AlignedBytes, Plain};

/// Elements that each operation computes at a time.
const BLOCK: usize = 1024;
/// Blocks that one task computes.
const BLOCKS_PER_TASK: usize = 16;

/// A fused region, ready to run.
pub(crate) struct Program {
    elements: usize,
    registers: usize,
    /// Filled once per task.
    uniform: Vec<Load>,
    instructions: Vec<Instruction>,
    results: Vec<(Slot, DType)>,
}

enum Instruction {
    Load(Load),
    Compute { op: Elementwise, operands: Vec<(Slot, DType)>, register: usize, dtype: DType },
}

/// Where a block of a value lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Register(usize),
    /// An operand that has the results' shape and is not overwritten.
    Operand(usize),
}

/// Brings a block of an operand or literal into a register.
struct Load {
    from: Origin,
    dtype: DType,
    /// Length and distance of each axis of the results' shape that matters, outermost first.
    axes: Vec<(usize, usize)>,
    register: usize,
}

enum Origin {
    Operand(usize),
    Literal(AlignedBytes),
}

/// What a value of the region is, while it is compiled.
struct Builder<'g> {
    graph: &'g Graph,
    shape: Vec<usize>,
    precision: Precision,
    in_place: &'g [bool],
    slots: BTreeMap<Value, Slot>,
    program: Program,
    /// Number of uses that are still to come, per register; a register without any is free.
    pending: Vec<usize>,
    uses: BTreeMap<Value, usize>,
}

impl Program {
    /// Compiles `graph`; `in_place` says which operands share their bytes with a result.
    pub fn compile(graph: &Graph, precision: Precision, in_place: &[bool]) -> Result<Program, RunErrorKind> {
        let first = graph.results.first().ok_or_else(|| RunErrorKind::plan("a fused region without results"))?;
        let shape = shape_of(&graph.ty(first.value).shape)?;
        let mut program =
            Program { elements: count(&shape), registers: 0, uniform: vec![], instructions: vec![], results: vec![] };
        if program.elements == 0 {
            let dtypes = graph.results.iter().map(|result| precision.storage(graph.ty(result.value).dtype));
            program.results = dtypes.map(|dtype| (Slot::Register(0), dtype)).collect();
            return Ok(program);
        }
        let order = graph.order();
        let mut uses: BTreeMap<Value, usize> = BTreeMap::new();
        for node in &order {
            graph.operands(*node).into_iter().for_each(|operand| *uses.entry(operand).or_default() += 1);
        }
        graph.results.iter().for_each(|result| *uses.entry(result.value).or_default() += 1);
        let slots = BTreeMap::new();
        let mut builder = Builder { graph, shape, precision, in_place, slots, program, pending: vec![], uses };
        for (position, input) in graph.inputs().into_iter().enumerate() {
            builder.operand(position, input)?;
        }
        for node in order {
            builder.node(node.into())?;
        }
        for result in &graph.results {
            let dtype = builder.dtype(result.value);
            let slot = builder.slot(result.value)?;
            builder.program.results.push((slot, dtype));
        }
        builder.program.registers = builder.pending.len();
        Ok(builder.program)
    }

    /// The number of elements of each result.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// Runs the region.
    pub fn run(&self, inputs: &[Operand<'_>], outputs: &mut [ViewMut<'_>]) -> Result<(), RunErrorKind> {
        let right = |output: &ViewMut<'_>, dtype: DType| {
            output.dtype == dtype && output.bytes.len() == self.elements * dtype.size()
        };
        let fits = outputs.len() == self.results.len()
            && outputs.iter().zip(&self.results).all(|(output, (_, dtype))| right(output, *dtype));
        ensure(fits, "results of a fused region have its shape and type")?;
        let tasks = self.tasks(outputs);
        tasks.into_par_iter().enumerate().try_for_each(|(task, mut chunks)| {
            let mut registers = Registers::new(self.registers)?;
            self.uniform.iter().try_for_each(|load| self.load(load, inputs, &chunks, 0, 0..BLOCK, &mut registers))?;
            let start = task * BLOCK * BLOCKS_PER_TASK;
            let end = (start + BLOCK * BLOCKS_PER_TASK).min(self.elements);
            for block in (start..end).step_by(BLOCK) {
                self.block(inputs, &mut chunks, start, block..(block + BLOCK).min(end), &mut registers)?;
            }
            Ok(())
        })
    }

    /// The results' bytes, cut into what each task writes.
    fn tasks<'a>(&self, outputs: &'a mut [ViewMut<'_>]) -> Vec<Vec<&'a mut [u8]>> {
        let elements = BLOCK * BLOCKS_PER_TASK;
        let mut tasks: Vec<Vec<&mut [u8]>> = Vec::new();
        tasks.resize_with(self.elements.div_ceil(elements), Vec::new);
        for output in outputs {
            let bytes = elements * output.dtype.size();
            tasks.iter_mut().zip(output.bytes.chunks_mut(bytes)).for_each(|(task, chunk)| task.push(chunk));
        }
        tasks
    }

    fn block(
        &self,
        inputs: &[Operand<'_>],
        chunks: &mut [&mut [u8]],
        start: usize,
        block: std::ops::Range<usize>,
        registers: &mut Registers,
    ) -> Result<(), RunErrorKind> {
        let length = block.len();
        for instruction in &self.instructions {
            match instruction {
                Instruction::Load(load) => self.load(load, inputs, chunks, start, block.clone(), registers)?,
                Instruction::Compute { op, operands, register, dtype } => {
                    let mut target = registers.take(*register);
                    let views = operands.iter().map(|(slot, dtype)| registers.view(*slot, *dtype, inputs, &block));
                    let views = views.collect::<Result<Vec<View<'_>>, _>>()?;
                    let bytes = &mut target.as_mut_slice()[..length * dtype.size()];
                    evaluate(op, &views, &mut ViewMut { dtype: *dtype, shape: &[], bytes })?;
                    registers.put(*register, target);
                }
            }
        }
        for ((slot, dtype), chunk) in self.results.iter().zip(chunks) {
            let view = registers.view(*slot, *dtype, inputs, &block)?;
            let size = dtype.size();
            chunk[(block.start - start) * size..(block.end - start) * size].copy_from_slice(view.bytes);
        }
        Ok(())
    }

    fn load(
        &self,
        load: &Load,
        inputs: &[Operand<'_>],
        chunks: &[&mut [u8]],
        start: usize,
        block: std::ops::Range<usize>,
        registers: &mut Registers,
    ) -> Result<(), RunErrorKind> {
        let size = load.dtype.size();
        let target = &mut registers.0[load.register].as_mut_slice()[..block.len() * size];
        let bytes = match &load.from {
            Origin::Literal(bytes) => bytes.as_slice(),
            Origin::Operand(position) => match inputs.get(*position) {
                Some(Operand::Separate(view)) if view.dtype == load.dtype => view.bytes,
                Some(Operand::InPlace(output)) => {
                    target.copy_from_slice(&chunks[*output][(block.start - start) * size..(block.end - start) * size]);
                    return Ok(());
                }
                _ => return Err(RunErrorKind::plan("operands of a fused region differ from its inputs")),
            },
        };
        let source = View { dtype: load.dtype, shape: &[], bytes };
        let mut target = ViewMut { dtype: load.dtype, shape: &[], bytes: target };
        for_size!(load.dtype, T => {
            let (source, target): (&[T], &mut [T]) = (source.values()?, target.values()?);
            let last = load.axes.iter().map(|(length, stride)| (length - 1) * stride).sum::<usize>();
            ensure(last < source.len(), "operands of a fused region broadcast to its shape")?;
            read_strided(source, &load.axes, block.start, target);
            Ok(())
        })
    }
}

/// Elements `start..` of the tensor that `axes` describe over `source`.
fn read_strided<T: Plain>(source: &[T], axes: &[(usize, usize)], start: usize, target: &mut [T]) {
    let Some(((length, stride), outer)) = axes.split_last() else {
        return target.fill(source[0]);
    };
    let (mut place, mut filled) = (start, 0);
    while filled < target.len() {
        let within = place % length;
        let run = (length - within).min(target.len() - filled);
        let mut offset = within * stride;
        let mut rest = place / length;
        for (length, stride) in outer.iter().rev() {
            offset += rest % length * stride;
            rest /= length;
        }
        let target = &mut target[filled..filled + run];
        match stride {
            0 => target.fill(source[offset]),
            1 => target.copy_from_slice(&source[offset..offset + run]),
            _ => {
                target.iter_mut().zip(source[offset..].iter().step_by(*stride)).for_each(|(slot, value)| *slot = *value)
            }
        }
        place += run;
        filled += run;
    }
}

/// Blocks of intermediate values.
struct Registers(Vec<AlignedBytes>);

impl Registers {
    fn new(count: usize) -> Result<Registers, RunErrorKind> {
        let registers: Option<Vec<AlignedBytes>> =
            (0..count).map(|_| AlignedBytes::zeroed(BLOCK * size_of::<f64>())).collect();
        registers.map(Registers).ok_or_else(|| RunErrorKind::plan("no memory for the blocks of a fused region"))
    }

    fn take(&mut self, register: usize) -> AlignedBytes {
        std::mem::take(&mut self.0[register])
    }

    fn put(&mut self, register: usize, bytes: AlignedBytes) {
        self.0[register] = bytes;
    }

    fn view<'a>(
        &'a self,
        slot: Slot,
        dtype: DType,
        inputs: &[Operand<'a>],
        block: &std::ops::Range<usize>,
    ) -> Result<View<'a>, RunErrorKind> {
        let size = dtype.size();
        let bytes = match slot {
            Slot::Register(register) => self.0[register].as_slice().get(..block.len() * size),
            Slot::Operand(position) => match inputs.get(position) {
                Some(Operand::Separate(view)) if view.dtype == dtype => {
                    view.bytes.get(block.start * size..block.end * size)
                }
                _ => None,
            },
        };
        let bytes = bytes.ok_or_else(|| RunErrorKind::plan("operands of a fused region differ from its inputs"))?;
        Ok(View { dtype, shape: &[], bytes })
    }
}

fn shape_of(dims: &[Dim]) -> Result<Vec<usize>, RunErrorKind> {
    let sizes = all_numbers(dims)?;
    sizes.into_iter().map(|size| usize::try_from(size).map_err(|_| RunErrorKind::plan("a negative axis"))).collect()
}

impl Builder<'_> {
    fn dtype(&self, value: Value) -> DType {
        self.precision.storage(self.graph.ty(value).dtype)
    }

    fn slot(&self, value: Value) -> Result<Slot, RunErrorKind> {
        let slot = self.slots.get(&value).copied();
        slot.ok_or_else(|| RunErrorKind::plan(format!("%{} of a fused region has no value", self.graph.name(value))))
    }

    /// A register that nothing needs any more, or a new one; it stays taken for `uses` uses.
    fn register(&mut self, uses: usize) -> usize {
        match self.pending.iter().position(|&pending| pending == 0) {
            Some(free) => {
                self.pending[free] = uses;
                free
            }
            None => {
                self.pending.push(uses);
                self.pending.len() - 1
            }
        }
    }

    fn uses(&self, value: Value) -> usize {
        self.uses.get(&value).copied().unwrap_or(0)
    }

    fn operand(&mut self, position: usize, input: Value) -> Result<(), RunErrorKind> {
        let shape = shape_of(&self.graph.ty(input).shape)?;
        let copied = self.in_place.get(position).copied().unwrap_or(false);
        if shape == self.shape && !copied {
            self.slots.insert(input, Slot::Operand(position));
            return Ok(());
        }
        let strides = row_major(&shape);
        self.leaf(input, Origin::Operand(position), &shape, &strides)
    }

    /// A value that is read with strides; where all its elements are one, it is read once per task.
    fn leaf(&mut self, value: Value, from: Origin, shape: &[usize], strides: &[usize]) -> Result<(), RunErrorKind> {
        if self.uses(value) == 0 {
            return Ok(());
        }
        let axes = broadcast_axes(shape, strides, &self.shape)?;
        let dtype = self.dtype(value);
        // An operand that shares a result's memory is read block by block, before the block is written.
        let in_place = matches!(&from, Origin::Operand(at) if self.in_place.get(*at).copied().unwrap_or(false));
        let uniform = axes.is_empty() && !in_place;
        let register = if uniform {
            // What is filled once per task needs a register that nothing else ever writes.
            self.pending.push(usize::MAX);
            self.pending.len() - 1
        } else {
            self.register(self.uses(value))
        };
        if uniform {
            self.program.uniform.push(Load { from, dtype, axes, register });
        } else {
            self.program.instructions.push(Instruction::Load(Load { from, dtype, axes, register }));
        }
        self.slots.insert(value, Slot::Register(register));
        Ok(())
    }

    fn node(&mut self, value: Value) -> Result<(), RunErrorKind> {
        let node = self.graph.node(value.node);
        let operands = self.graph.operands(value.node);
        match &node.op {
            Op::Source(Source::Input(_)) => Ok(()),
            Op::Source(Source::Constant(literal)) => {
                let shape = shape_of(&literal.ty.shape)?;
                // One element is enough where all are equal.
                let (elements, strides) =
                    if literal.len() == 1 { (1, vec![0; shape.len()]) } else { (count(&shape), row_major(&shape)) };
                let bytes = literal_bytes(literal, self.dtype(value), elements)?;
                self.leaf(value, Origin::Literal(bytes), &shape, &strides)
            }
            Op::Source(Source::Iota { axis, ty }) => {
                let shape = shape_of(&ty.shape)?;
                let strides: Vec<usize> = (0..shape.len()).map(|other| usize::from(other == *axis)).collect();
                let length = shape.get(*axis).copied().unwrap_or(0);
                self.leaf(value, Origin::Literal(counter(self.dtype(value), length)?), &shape, &strides)
            }
            Op::Movement(Movement::Broadcast { .. }) | Op::Promise => self.rename(value, &operands),
            Op::Elementwise(op) => self.compute(value, op, &operands),
            other => Err(RunErrorKind::Unsupported { call: format!("{} in a fused region", other.mnemonic()) }),
        }
    }

    /// `value` is its operand under another name: its uses are uses of the operand's register.
    fn rename(&mut self, value: Value, operands: &[Value]) -> Result<(), RunErrorKind> {
        let [operand] = operands else { return Err(RunErrorKind::plan("a broadcast has one operand")) };
        let slot = self.slot(*operand)?;
        if let Slot::Register(register) = slot {
            self.pending[register] = self.pending[register].saturating_add(self.uses(value));
        }
        self.release(slot);
        self.slots.insert(value, slot);
        Ok(())
    }

    fn release(&mut self, slot: Slot) {
        if let Slot::Register(register) = slot
            && self.pending[register] != usize::MAX
        {
            self.pending[register] = self.pending[register].saturating_sub(1);
        }
    }

    fn compute(&mut self, value: Value, op: &Elementwise, operands: &[Value]) -> Result<(), RunErrorKind> {
        let slots = operands.iter().map(|&operand| Ok((self.slot(operand)?, self.dtype(operand))));
        let slots = slots.collect::<Result<Vec<_>, RunErrorKind>>()?;
        // The result's register is chosen while the operands' are still taken: an operation never overwrites what it
        // reads.
        let register = self.register(self.uses(value).max(1));
        slots.iter().for_each(|(slot, _)| self.release(*slot));
        let dtype = self.dtype(value);
        self.program.instructions.push(Instruction::Compute { op: op.clone(), operands: slots, register, dtype });
        self.slots.insert(value, Slot::Register(register));
        Ok(())
    }
}

/// The axes of `target` with the distance by which each moves in a tensor of `shape` and `strides` that broadcasts to
/// it; axes that move together are one, and where nothing moves there are none.
fn broadcast_axes(shape: &[usize], strides: &[usize], target: &[usize]) -> Result<Vec<(usize, usize)>, RunErrorKind> {
    let new = target.len().checked_sub(shape.len());
    let new = new.ok_or_else(|| RunErrorKind::plan("an operand of a fused region has too many axes"))?;
    let mut axes: Vec<(usize, usize)> = Vec::with_capacity(target.len());
    for (axis, &length) in target.iter().enumerate().rev() {
        let stride = match axis.checked_sub(new) {
            Some(axis) if shape[axis] == length => strides[axis],
            Some(axis) if shape[axis] != 1 => return Err(RunErrorKind::plan("an operand does not broadcast")),
            _ => 0,
        };
        match axes.last_mut() {
            _ if length == 1 => {}
            Some((inner, moved)) if stride == *moved * *inner => *inner *= length,
            _ => axes.push((length, stride)),
        }
    }
    axes.reverse();
    if axes.iter().all(|(_, stride)| *stride == 0) {
        axes.clear();
    }
    Ok(axes)
}
