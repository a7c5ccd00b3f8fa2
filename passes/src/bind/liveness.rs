//! When tensors live, for an order of items: the basis of scheduling and of placing.

use lrpc_ir::graph::Region;
use lrpc_ir::plan::KernelCall;

use super::program::{Item, Kind, Program, TensorId};

/// The items that run once per load, or those that run for every input, with who writes and reads what.
pub(super) struct Section<'a> {
    pub(super) program: &'a Program,
    /// Positions in [`Program::items`], ascending by rank.
    pub(super) items: Vec<usize>,
    /// For each tensor the place in `items` of its writer.
    pub(super) writer: Vec<Option<usize>>,
    /// For each root the places in `items` of its readers, each once.
    pub(super) readers: Vec<Vec<usize>>,
    /// For each root whether somebody reads it when the section is over.
    pub(super) kept: Vec<bool>,
}

/// A range of memory with a lifetime: the tensors that follow each other in it, all of one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) bytes: usize,
    /// Position in the order at which it is first written.
    pub(super) start: usize,
    /// Position at which it is last read or written; `usize::MAX` if it is kept.
    pub(super) end: usize,
    /// The roots that lie in it, in order of time.
    pub(super) tensors: Vec<TensorId>,
}

impl<'a> Section<'a> {
    pub(super) fn new(program: &'a Program, prepare: bool) -> Section<'a> {
        let count = program.tensors.len();
        let mut items: Vec<usize> =
            (0..program.items.len()).filter(|&at| (program.items[at].region == Region::Prepare) == prepare).collect();
        items.sort_by_key(|&at| (program.items[at].rank, at));
        let mut section = Section {
            program,
            items,
            writer: vec![None; count],
            readers: vec![Vec::new(); count],
            kept: vec![false; count],
        };
        for place in 0..section.items.len() {
            let item = section.item(place);
            for &output in &item.outputs {
                section.writer[output] = Some(place);
            }
            for &input in &item.inputs {
                let readers = &mut section.readers[program.root(input)];
                if readers.last() != Some(&place) {
                    readers.push(place);
                }
            }
        }
        for tensor in program.returned() {
            section.kept[program.root(tensor)] = true;
        }
        if prepare {
            for item in program.items.iter().filter(|item| item.region != Region::Prepare) {
                item.inputs.iter().for_each(|&input| section.kept[program.root(input)] = true);
            }
        }
        section
    }

    pub(super) fn item(&self, place: usize) -> &'a Item {
        &self.program.items[self.items[place]]
    }

    /// The roots that an item reads and this section wrote, each once.
    pub(super) fn reads(&self, place: usize) -> Vec<TensorId> {
        let mut roots: Vec<TensorId> = self.item(place).inputs.iter().map(|&input| self.program.root(input)).collect();
        roots.sort_unstable();
        roots.dedup();
        roots.retain(|&root| self.writer[root].is_some());
        roots
    }

    /// The blocks of memory for an order of places, ascending by start. A result of a fused call takes the block of an
    /// operand of the same shape and element type that dies there.
    pub(super) fn blocks(&self, order: &[usize]) -> Vec<Block> {
        let mut position = vec![0; order.len()];
        order.iter().enumerate().for_each(|(at, &place)| position[place] = at);
        let end_of = |root: TensorId| match self.kept[root] {
            true => usize::MAX,
            false => {
                let written = self.writer[root].map(|place| position[place]);
                self.readers[root].iter().map(|&place| position[place]).chain(written).max().unwrap_or(0)
            }
        };
        let mut blocks: Vec<Block> = Vec::new();
        let mut block_of: Vec<Option<usize>> = vec![None; self.program.tensors.len()];
        for (at, &place) in order.iter().enumerate() {
            let item = self.item(place);
            for &output in &item.outputs {
                let end = end_of(output);
                let taken = self.in_place(item, output, |root| {
                    block_of[root]
                        .filter(|&block| blocks[block].end == at && blocks[block].tensors.last() == Some(&root))
                });
                let block = match taken {
                    Some(block) => {
                        blocks[block].end = end;
                        blocks[block].tensors.push(output);
                        block
                    }
                    None => {
                        let bytes = self.program.tensors[output].bytes();
                        blocks.push(Block { bytes, start: at, end, tensors: vec![output] });
                        blocks.len() - 1
                    }
                };
                block_of[output] = Some(block);
            }
        }
        blocks
    }

    /// The block that `output` may be written over. `dying` gives a root's block if it ends with this item.
    fn in_place(&self, item: &Item, output: TensorId, dying: impl Fn(TensorId) -> Option<usize>) -> Option<usize> {
        if !matches!(item.call, KernelCall::Fused(_)) {
            return None;
        }
        let tensors = &self.program.tensors;
        let alike = |input: TensorId| {
            tensors[input].shape == tensors[output].shape && tensors[input].dtype == tensors[output].dtype
        };
        let candidates = item.inputs.iter().copied().filter(|&input| alike(input));
        candidates.into_iter().find_map(|input| {
            let root = self.program.root(input);
            // The same bytes under two shapes are read in two orders: they must not change in between.
            let once = item.inputs.iter().filter(|&&other| self.program.root(other) == root).count() == 1;
            let computed = tensors[root].kind == Kind::Computed && tensors[root].bytes() == tensors[output].bytes();
            if once && computed { dying(root) } else { None }
        })
    }
}

/// The largest sum of bytes that live at one position.
pub(super) fn peak(blocks: &[Block], positions: usize) -> usize {
    let mut change = vec![0i128; positions + 2];
    for block in blocks {
        change[block.start.min(positions)] += block.bytes as i128;
        change[block.end.saturating_add(1).min(positions + 1)] -= block.bytes as i128;
    }
    let live = change.iter().scan(0i128, |live, change| {
        *live += change;
        Some(*live)
    });
    live.max().and_then(|peak| usize::try_from(peak).ok()).unwrap_or(0)
}
