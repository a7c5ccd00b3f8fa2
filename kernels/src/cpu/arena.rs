//! Where the buffers of a plan lie while it runs, and the borrows that a step gets.
//!
//! A step reads some ranges of a memory and writes others. [`carve`] splits one exclusive borrow of the memory into
//! exclusive borrows of the written ranges and shared borrows of what lies between them, in safe code: a plan whose
//! operands overlap is an error, never a data race.

use std::ops::Range;

use lrpc_ir::plan::{Buffer, BufferId, Place, Plan, Step};

use super::view::{View, ViewMut};
use crate::error::RunErrorKind;
use crate::memory::AlignedBytes;
use crate::weights::WeightBytes;

/// Where a buffer's bytes lie once aliases are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Root {
    Input(usize),
    Weight(usize),
    Constant(usize),
    Prepared(Range<usize>),
    Arena(Range<usize>),
}

/// An operand of a step.
#[derive(Clone, Copy)]
pub(crate) enum Operand<'a> {
    /// To be read.
    Separate(View<'a>),
    /// The same bytes as the output at this position.
    InPlace(usize),
}

/// What a plan's buffers refer to as long as there is the plan.
pub(crate) struct Memory<'w> {
    pub roots: Vec<Root>,
    pub weights: Vec<WeightBytes<'w>>,
    pub constants: Vec<AlignedBytes>,
    pub prepared: AlignedBytes,
}

/// Everything that a plan's buffers refer to while it runs.
pub(crate) struct Running<'a, 'w> {
    pub memory: &'a mut Memory<'w>,
    pub arena: &'a mut [u8],
    /// What the caller gave, in the order of [`Plan::inputs`].
    pub inputs: &'a [&'a [u8]],
}

/// The root of every buffer of `plan`; constants are numbered in the order of the buffers.
pub(crate) fn roots(plan: &Plan) -> Result<Vec<Root>, RunErrorKind> {
    let mut constants = 0;
    let mut roots = Vec::with_capacity(plan.buffers.len());
    for buffer in &plan.buffers {
        bytes_of(buffer)?;
        let root = match &buffer.place {
            Place::Alias(_) => Root::Constant(usize::MAX),
            Place::Input(position) => {
                let given = plan.inputs.get(*position).map(|input| input.buffer);
                Root::Input(same_size(plan, buffer, given).map(|()| *position)?)
            }
            Place::Weight(position) => {
                let given = plan.weights.get(*position).map(|weight| weight.buffer);
                Root::Weight(same_size(plan, buffer, given).map(|()| *position)?)
            }
            Place::Constant(_) => {
                constants += 1;
                Root::Constant(constants - 1)
            }
            Place::Prepared(offset) => Root::Prepared(range_of(buffer, *offset, plan.prepared_bytes)?),
            Place::Arena(offset) => Root::Arena(range_of(buffer, *offset, plan.arena_bytes)?),
        };
        roots.push(root);
    }
    for (position, buffer) in plan.buffers.iter().enumerate() {
        if let Place::Alias(_) = buffer.place {
            roots[position] = roots[follow(plan, buffer)?].clone();
        }
    }
    Ok(roots)
}

/// Checks that a buffer shows all of what the caller gives.
fn same_size(plan: &Plan, buffer: &Buffer, given: Option<BufferId>) -> Result<(), RunErrorKind> {
    let given = given.and_then(|id| plan.buffers.get(id.0 as usize)).map(bytes_of).transpose()?;
    let same = given == Some(bytes_of(buffer)?);
    if same { Ok(()) } else { Err(RunErrorKind::plan(format!("buffer {} is not what is given", buffer.name))) }
}

fn bytes_of(buffer: &Buffer) -> Result<usize, RunErrorKind> {
    let bytes = crate::tensor::byte_count(buffer.dtype, &buffer.shape);
    bytes.ok_or_else(|| RunErrorKind::plan(format!("buffer {} has more bytes than can be counted", buffer.name)))
}

fn range_of(buffer: &Buffer, offset: usize, size: usize) -> Result<Range<usize>, RunErrorKind> {
    match offset.checked_add(bytes_of(buffer)?) {
        Some(end) if end <= size && offset.is_multiple_of(buffer.dtype.size()) => Ok(offset..end),
        _ => Err(RunErrorKind::plan(format!("buffer {} lies outside of its memory or is not aligned", buffer.name))),
    }
}

/// The position of the buffer that `alias` shows in the end.
fn follow(plan: &Plan, alias: &Buffer) -> Result<usize, RunErrorKind> {
    let mut buffer = alias;
    let mut position = 0;
    for _ in 0..=plan.buffers.len() {
        let Place::Alias(BufferId(target)) = buffer.place else {
            if bytes_of(buffer)? == bytes_of(alias)? && buffer.dtype.size() == alias.dtype.size() {
                return Ok(position);
            }
            return Err(RunErrorKind::plan(format!("alias {} differs in size", alias.name)));
        };
        position = target as usize;
        buffer =
            plan.buffers.get(position).ok_or_else(|| RunErrorKind::plan(format!("{} has no target", alias.name)))?;
    }
    Err(RunErrorKind::plan(format!("the aliases of {} form a cycle", alias.name)))
}

/// Shared borrows of the parts of a memory that nobody writes.
pub(super) struct Gaps<'a>(Vec<(usize, &'a [u8])>);

impl<'a> Gaps<'a> {
    fn get(&self, range: &Range<usize>) -> Option<&'a [u8]> {
        if range.is_empty() {
            return Some(&[]);
        }
        let at = self.0.partition_point(|(start, _)| *start <= range.start).checked_sub(1)?;
        let (start, bytes) = self.0.get(at)?;
        bytes.get(range.start - start..range.end - start)
    }
}

/// Splits `memory` into the ranges of `outputs`, in their order, and what lies between; `None` where outputs overlap.
pub(super) fn carve<'a>(memory: &'a mut [u8], outputs: &[Range<usize>]) -> Option<(Vec<&'a mut [u8]>, Gaps<'a>)> {
    let mut order: Vec<usize> = (0..outputs.len()).collect();
    order.sort_by_key(|&position| (outputs[position].start, outputs[position].end));
    let mut pieces: Vec<(usize, &mut [u8])> = Vec::with_capacity(outputs.len());
    let mut gaps = Vec::with_capacity(outputs.len() + 1);
    let (mut rest, mut start) = (memory, 0);
    for position in order {
        let range = &outputs[position];
        let (gap, after) = rest.split_at_mut_checked(range.start.checked_sub(start)?)?;
        let (piece, after) = after.split_at_mut_checked(range.len())?;
        gaps.push((start, &*gap));
        pieces.push((position, piece));
        (rest, start) = (after, range.end);
    }
    gaps.push((start, &*rest));
    pieces.sort_by_key(|(position, _)| *position);
    Some((pieces.into_iter().map(|(_, piece)| piece).collect(), Gaps(gaps)))
}

impl Running<'_, '_> {
    /// The operands and results of `step`.
    pub fn borrow<'a>(
        &'a mut self,
        plan: &'a Plan,
        step: &Step,
    ) -> Result<(Vec<Operand<'a>>, Vec<ViewMut<'a>>), RunErrorKind> {
        let Running { memory: Memory { roots, weights, constants, prepared }, arena, inputs } = self;
        let (mut in_arena, mut in_prepared) = (Vec::new(), Vec::new());
        for output in &step.outputs {
            match &roots[output.0 as usize] {
                Root::Arena(range) => in_arena.push(range.clone()),
                Root::Prepared(range) => in_prepared.push(range.clone()),
                _ => {
                    return Err(RunErrorKind::plan(format!(
                        "`{}` writes to {}",
                        step.label,
                        plan.buffer(*output).name
                    )));
                }
            }
        }
        let overlap = || RunErrorKind::plan(format!("the outputs of `{}` overlap", step.label));
        let (arena, arena_gaps) = carve(arena, &in_arena).ok_or_else(overlap)?;
        let (prepared, prepared_gaps) = carve(prepared.as_mut_slice(), &in_prepared).ok_or_else(overlap)?;
        let mut operands = Vec::with_capacity(step.inputs.len());
        for id in &step.inputs {
            let buffer = plan.buffer(*id);
            let bytes = match &roots[id.0 as usize] {
                Root::Input(position) => inputs.get(*position).copied(),
                Root::Weight(position) => weights.get(*position).map(WeightBytes::as_slice),
                Root::Constant(position) => constants.get(*position).map(AlignedBytes::as_slice),
                Root::Prepared(range) => prepared_gaps.get(range),
                Root::Arena(range) => arena_gaps.get(range),
            };
            operands.push(match bytes {
                Some(bytes) => Operand::Separate(View { dtype: buffer.dtype, shape: &buffer.shape, bytes }),
                None => Operand::InPlace(in_place(plan, roots, step, *id)?),
            });
        }
        let (mut arena, mut prepared) = (arena.into_iter(), prepared.into_iter());
        let mut outputs = Vec::with_capacity(step.outputs.len());
        for id in &step.outputs {
            let buffer = plan.buffer(*id);
            let next = if let Root::Arena(_) = &roots[id.0 as usize] { arena.next() } else { prepared.next() };
            let bytes = next.ok_or_else(overlap)?;
            outputs.push(ViewMut { dtype: buffer.dtype, shape: &buffer.shape, bytes });
        }
        Ok((operands, outputs))
    }

    /// The bytes of a buffer.
    pub fn read(&self, id: BufferId) -> Option<&[u8]> {
        let Memory { roots, weights, constants, prepared } = &*self.memory;
        match roots.get(id.0 as usize)? {
            Root::Input(position) => self.inputs.get(*position).copied(),
            Root::Weight(position) => weights.get(*position).map(WeightBytes::as_slice),
            Root::Constant(position) => constants.get(*position).map(AlignedBytes::as_slice),
            Root::Prepared(range) => prepared.as_slice().get(range.clone()),
            Root::Arena(range) => self.arena.get(range.clone()),
        }
    }

    /// A buffer to be read.
    pub fn view<'a>(&'a self, plan: &'a Plan, id: BufferId) -> Option<View<'a>> {
        let buffer = plan.buffer(id);
        self.read(id).map(|bytes| View { dtype: buffer.dtype, shape: &buffer.shape, bytes })
    }

    /// Fills an arena buffer with a pattern that reads as NaN, so that a wrong lifetime shows.
    pub fn poison(&mut self, id: BufferId) {
        if let Some(Root::Arena(range)) = self.memory.roots.get(id.0 as usize)
            && let Some(bytes) = self.arena.get_mut(range.clone())
        {
            bytes.fill(0xFF);
        }
    }
}

/// The output whose bytes the operand shares, if [`Step::may_run_in_place`] allows it there.
fn in_place(plan: &Plan, roots: &[Root], step: &Step, operand: BufferId) -> Result<usize, RunErrorKind> {
    let shared = |output: &BufferId| roots[output.0 as usize] == roots[operand.0 as usize];
    let input = step.inputs.iter().position(|input| *input == operand);
    match (input, step.outputs.iter().position(shared)) {
        (Some(input), Some(output)) if step.may_run_in_place(plan, input, output) => Ok(output),
        _ => {
            let name = &plan.buffer(operand).name;
            Err(RunErrorKind::plan(format!("`{}` overwrites its operand {name}, or has none", step.label)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_split_between_readers_and_writers() {
        let mut memory: Vec<u8> = (0..10).collect();
        let (outputs, gaps) = carve(&mut memory, &[6..8, 2..4]).unwrap();
        assert_eq!(outputs, [&[6, 7], &[2, 3]]);
        assert_eq!(gaps.get(&(0..2)), Some(&[0u8, 1][..]));
        assert_eq!(gaps.get(&(4..6)), Some(&[4u8, 5][..]));
        assert_eq!(gaps.get(&(9..10)), Some(&[9u8][..]));
        assert_eq!(gaps.get(&(1..3)), None);
        assert_eq!(gaps.get(&(2..4)), None);
        assert_eq!(gaps.get(&(3..3)), Some(&[][..]));
    }

    #[test]
    fn overlapping_outputs_are_refused() {
        let mut memory = vec![0u8; 10];
        assert!(carve(&mut memory, &[0..4, 3..5]).is_none());
        assert!(carve(&mut memory, &[0..1, 8..11]).is_none());
    }
}
