//! Places: one arena for what lives while a plan runs, one memory for what is prepared, aliases for views.
//!
//! Two packings are tried and the smaller one taken: best fit in order of time, and largest block first.

use std::collections::BTreeMap;

use lrpc_ir::ops::WeightPlace;
use lrpc_ir::plan::{ALIGNMENT, Buffer, BufferId, Place, Plan, PlanInput, PlanLedgerLine, PlanWeight, Precision, Step};
use lrpc_ir::{Bindings, Diagnostic};

use super::cost;
use super::liveness::{Block, Section};
use super::program::{Kind, Program, TensorId};
use super::schedule::Order;

/// The most blocks for which the packing by size, whose time grows with their square, is tried.
const MAX_BLOCKS_BY_SIZE: usize = 3000;

/// The plan of a program in this order.
pub(super) fn allocate(
    program: Program,
    order: Order,
    dims: &Bindings,
    precision: Precision,
) -> Result<Plan, Diagnostic> {
    let prepare = place_section(&program, true, &order.prepare)?;
    let run = place_section(&program, false, &order.run)?;
    let mut plan = Plan {
        dims: dims.clone(),
        precision,
        arena_bytes: run.bytes,
        prepared_bytes: prepare.bytes,
        ..Plan::default()
    };
    let mut places: Vec<Option<Place>> = vec![None; program.tensors.len()];
    for (tensor, offset) in prepare.offsets {
        places[tensor] = Some(Place::Prepared(offset));
    }
    for (tensor, offset) in run.offsets {
        places[tensor] = Some(Place::Arena(offset));
    }
    add_buffers(&mut plan, &program, places)?;
    let mut items: Vec<Option<_>> = program.items.into_iter().map(Some).collect();
    let mut steps = |order: Vec<usize>, mut frees: Vec<Vec<BufferId>>| -> Vec<Step> {
        let taken = order.into_iter().enumerate().filter_map(|(at, item)| items[item].take().map(|item| (at, item)));
        let step = |(at, item): (usize, super::program::Item)| {
            let (inputs, outputs) = (ids(&item.inputs), ids(&item.outputs));
            let cost = cost::cost(&item.call, &inputs, &outputs, &plan.buffers);
            Step { call: item.call, inputs, outputs, label: item.label, cost, frees: std::mem::take(&mut frees[at]) }
        };
        taken.map(step).collect()
    };
    let (prepare_steps, run_steps) = (steps(order.prepare, prepare.frees), steps(order.run, run.frees));
    plan.prepare = prepare_steps;
    plan.steps = run_steps;
    plan.results = program.results.iter().map(|(name, tensor)| (name.clone(), id(*tensor))).collect();
    let line = |line: &super::program::SumLine| PlanLedgerLine {
        site: line.site.clone(),
        rule: line.rule.clone(),
        input: ids(&line.input),
        output: ids(&line.output),
        scale: ids(&line.scale),
        absorbed: line.absorbed.iter().map(|&(kind, tensor)| (kind, id(tensor))).collect(),
    };
    plan.ledger = program.ledger.iter().map(line).collect();
    Ok(plan)
}

fn id(tensor: TensorId) -> BufferId {
    BufferId(tensor as u32)
}

fn ids(tensors: &[TensorId]) -> Vec<BufferId> {
    tensors.iter().map(|&tensor| id(tensor)).collect()
}

/// One buffer for each tensor, with the inputs and weights that they show.
fn add_buffers(plan: &mut Plan, program: &Program, mut places: Vec<Option<Place>>) -> Result<(), Diagnostic> {
    if u32::try_from(program.tensors.len()).is_err() {
        return Err(Diagnostic::new("the graph has too many tensors"));
    }
    for &tensor in &program.inputs {
        let content = &program.tensors[tensor];
        places[tensor] = Some(Place::Input(plan.inputs.len()));
        plan.inputs.push(PlanInput { name: content.name.clone(), dtype: content.declared, buffer: id(tensor) });
    }
    for (tensor, content) in program.tensors.iter().enumerate() {
        let place = match (&content.kind, places[tensor].take()) {
            (Kind::Weight(place), _) => {
                let sidecar = *place == WeightPlace::Sidecar;
                let (name, dtype) = (content.name.clone(), content.declared);
                plan.weights.push(PlanWeight { name, dtype, buffer: id(tensor), sidecar });
                Place::Weight(plan.weights.len() - 1)
            }
            (Kind::Constant(literal), _) => Place::Constant(literal.clone()),
            (Kind::View(root), _) => Place::Alias(id(*root)),
            (_, Some(place)) => place,
            (_, None) => {
                return Err(Diagnostic::new("internal error: a tensor has no writer").at(content.name.as_str()));
            }
        };
        let (name, shape) = (content.name.clone(), content.shape.clone());
        plan.buffers.push(Buffer { name, dtype: content.dtype, shape, place });
    }
    Ok(())
}

/// Where the tensors of a section lie, and which die at each of its steps.
struct Placed {
    offsets: Vec<(TensorId, usize)>,
    frees: Vec<Vec<BufferId>>,
    bytes: usize,
}

fn place_section(program: &Program, prepare: bool, order: &[usize]) -> Result<Placed, Diagnostic> {
    let section = Section::new(program, prepare);
    let mut place_of = vec![0; program.items.len()];
    section.items.iter().enumerate().for_each(|(place, &item)| place_of[item] = place);
    let places: Vec<usize> = order.iter().map(|&item| place_of[item]).collect();
    let blocks = section.blocks(&places);
    let (offsets, bytes) = pack(&blocks).ok_or_else(|| {
        Diagnostic::new("the plan needs more memory than can be addressed").help("give smaller sizes with --dim")
    })?;
    let mut frees = vec![Vec::new(); order.len()];
    let mut placed = Vec::new();
    for (block, offset) in blocks.iter().zip(offsets) {
        placed.extend(block.tensors.iter().map(|&tensor| (tensor, offset)));
        if let (Some(at), Some(&last)) = (frees.get_mut(block.end), block.tensors.last()) {
            at.push(id(last));
        }
    }
    Ok(Placed { offsets: placed, frees, bytes })
}

/// Offsets for blocks that come in order of their start, and the size of all; none if that cannot be addressed.
fn pack(blocks: &[Block]) -> Option<(Vec<usize>, usize)> {
    let mut sizes = Vec::with_capacity(blocks.len());
    let mut sum = 0usize;
    for block in blocks {
        let size = block.bytes.checked_next_multiple_of(ALIGNMENT)?;
        sum = sum.checked_add(size).filter(|&sum| isize::try_from(sum).is_ok())?;
        sizes.push(size);
    }
    let by_time = best_fit(blocks, &sizes);
    if blocks.len() > MAX_BLOCKS_BY_SIZE || by_time.1 == bound(blocks, &sizes) {
        return Some(by_time);
    }
    let by_size = largest_first(blocks, &sizes);
    Some(if by_size.1 < by_time.1 { by_size } else { by_time })
}

/// No packing is smaller: the largest sum of sizes that live at once.
fn bound(blocks: &[Block], sizes: &[usize]) -> usize {
    let aligned: Vec<Block> =
        blocks.iter().zip(sizes).map(|(block, &bytes)| Block { bytes, ..block.clone() }).collect();
    super::liveness::peak(&aligned, blocks.iter().map(|block| block.start + 1).max().unwrap_or(0))
}

/// In order of time, each block in the smallest gap that holds it.
fn best_fit(blocks: &[Block], sizes: &[usize]) -> (Vec<usize>, usize) {
    let mut gaps: BTreeMap<usize, usize> = BTreeMap::new();
    let mut ends: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut offsets = vec![0; blocks.len()];
    let mut top = 0usize;
    for (at, block) in blocks.iter().enumerate() {
        while let Some(entry) = ends.first_entry().filter(|entry| *entry.key() < block.start) {
            for ended in entry.remove() {
                release(&mut gaps, offsets[ended], sizes[ended]);
            }
        }
        let size = sizes[at];
        let fitting = gaps.iter().filter(|(_, gap)| **gap >= size).min_by_key(|(offset, gap)| (**gap, **offset));
        let (offset, gap) = match fitting.map(|(offset, gap)| (*offset, *gap)) {
            Some(found) => found,
            None => match gaps.last_key_value() {
                // The last gap grows where it touches the end.
                Some((&offset, &gap)) if offset + gap == top => (offset, gap),
                _ => (top, 0),
            },
        };
        gaps.remove(&offset);
        if gap > size {
            gaps.insert(offset + size, gap - size);
        }
        top = top.max(offset + size);
        offsets[at] = offset;
        ends.entry(block.end).or_default().push(at);
    }
    (offsets, top)
}

/// Adds a gap and joins it with its neighbours.
fn release(gaps: &mut BTreeMap<usize, usize>, offset: usize, size: usize) {
    if size == 0 {
        return;
    }
    let (mut offset, mut size) = (offset, size);
    if let Some(after) = gaps.remove(&(offset + size)) {
        size += after;
    }
    if let Some((&before, &gap)) = gaps.range(..offset).next_back()
        && before + gap == offset
    {
        gaps.remove(&before);
        (offset, size) = (before, gap + size);
    }
    gaps.insert(offset, size);
}

/// Largest block first, each at the lowest offset that is free for its whole life.
fn largest_first(blocks: &[Block], sizes: &[usize]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    order.sort_by_key(|&at| (std::cmp::Reverse(sizes[at]), at));
    let mut offsets = vec![0; blocks.len()];
    // Ascending by offset.
    let mut placed: Vec<usize> = Vec::with_capacity(blocks.len());
    let mut top = 0;
    for at in order {
        let block = &blocks[at];
        let mut offset = 0;
        for &other in &placed {
            let together = blocks[other].start <= block.end && block.start <= blocks[other].end;
            if together && sizes[other] > 0 {
                if offset + sizes[at] <= offsets[other] {
                    break;
                }
                offset = offset.max(offsets[other] + sizes[other]);
            }
        }
        offsets[at] = offset;
        top = top.max(offset + sizes[at]);
        let slot = placed.partition_point(|&other| offsets[other] <= offset);
        placed.insert(slot, at);
    }
    (offsets, top)
}
