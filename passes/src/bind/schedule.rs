//! The order of execution: the best of a few topological orders by the memory that lives at once.
//!
//! Candidates: the graph's own order (post-order from the results); a greedy one that always takes the ready item that
//! adds the least memory; a depth-first one from the results that walks the operand with the larger need first. Ties go
//! to the earlier candidate, so that the order is the graph's own where nothing is gained.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

use super::liveness::{Section, peak};
use super::program::{Program, TensorId};

/// The orders of both sections, as positions in [`Program::items`].
pub(super) struct Order {
    pub(super) prepare: Vec<usize>,
    pub(super) run: Vec<usize>,
}

/// The best order found.
pub(super) fn schedule(program: &Program) -> Order {
    let best = |prepare| {
        let section = Section::new(program, prepare);
        let best = best_order(&section);
        best.into_iter().map(|place| section.items[place]).collect()
    };
    Order { prepare: best(true), run: best(false) }
}

fn best_order(section: &Section) -> Vec<usize> {
    let candidates = [in_order(section), greedy(section), depth_first(section)];
    let cost = |order: &Vec<usize>| peak(&section.blocks(order), order.len());
    candidates.into_iter().min_by_key(cost).unwrap_or_default()
}

/// For each place the places that it waits for.
fn waits(section: &Section) -> Vec<Vec<usize>> {
    let mut place_of = HashMap::with_capacity(section.items.len());
    place_of.extend(section.items.iter().enumerate().map(|(place, &item)| (item, place)));
    let writers = |place| {
        let mut writers: Vec<usize> =
            section.reads(place).into_iter().filter_map(|root| section.writer[root]).collect();
        writers.extend(section.item(place).after.iter().filter_map(|item| place_of.get(item)));
        writers.sort_unstable();
        writers.dedup();
        writers
    };
    (0..section.items.len()).map(writers).collect()
}

fn followers(waits: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut followers = vec![Vec::new(); waits.len()];
    for (place, writers) in waits.iter().enumerate() {
        writers.iter().for_each(|&writer| followers[writer].push(place));
    }
    followers
}

/// The topological order that is nearest to the graph's own, as places.
pub(super) fn in_order(section: &Section) -> Vec<usize> {
    let waits = waits(section);
    let followers = followers(&waits);
    let mut left: Vec<usize> = waits.iter().map(Vec::len).collect();
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..left.len()).filter(|&place| left[place] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(left.len());
    while let Some(Reverse(place)) = ready.pop() {
        order.push(place);
        for &follower in &followers[place] {
            left[follower] -= 1;
            if left[follower] == 0 {
                ready.push(Reverse(follower));
            }
        }
    }
    order
}

/// Always the ready item that adds the least memory, the earlier one on ties.
fn greedy(section: &Section) -> Vec<usize> {
    let waits = waits(section);
    let followers = followers(&waits);
    let mut state = Greedy {
        section,
        left: waits.iter().map(Vec::len).collect(),
        readers_left: section.readers.iter().map(Vec::len).collect(),
        done: vec![false; waits.len()],
        ready: BTreeSet::new(),
        growth: vec![0; waits.len()],
    };
    (0..waits.len()).filter(|&place| waits[place].is_empty()).for_each(|place| state.enqueue(place));
    let mut order = Vec::with_capacity(waits.len());
    while let Some((_, place)) = state.ready.pop_first() {
        order.push(place);
        state.done[place] = true;
        for root in section.reads(place) {
            state.readers_left[root] -= 1;
            if state.readers_left[root] == 1 {
                state.last_reader(root);
            }
        }
        for &follower in &followers[place] {
            state.left[follower] -= 1;
            if state.left[follower] == 0 {
                state.enqueue(follower);
            }
        }
    }
    order
}

struct Greedy<'a> {
    section: &'a Section<'a>,
    left: Vec<usize>,
    readers_left: Vec<usize>,
    done: Vec<bool>,
    ready: BTreeSet<(i128, usize)>,
    /// The key under which a ready place is queued.
    growth: Vec<i128>,
}

impl Greedy<'_> {
    /// Bytes that the item adds, less those that it sets free.
    fn growth(&self, place: usize) -> i128 {
        let tensors = &self.section.program.tensors;
        let added: i128 = self.section.item(place).outputs.iter().map(|&output| tensors[output].bytes() as i128).sum();
        let dies = |root: &TensorId| self.readers_left[*root] == 1 && !self.section.kept[*root];
        let freed = self.section.reads(place).into_iter().filter(dies).map(|root| tensors[root].bytes() as i128);
        added - freed.sum::<i128>()
    }

    fn enqueue(&mut self, place: usize) {
        self.growth[place] = self.growth(place);
        self.ready.insert((self.growth[place], place));
    }

    /// The one reader that is left now frees the tensor: its key changes if it is queued.
    fn last_reader(&mut self, root: TensorId) {
        let reader = self.section.readers[root].iter().copied().find(|&place| !self.done[place]);
        if let Some(place) = reader
            && self.ready.remove(&(self.growth[place], place))
        {
            self.enqueue(place);
        }
    }
}

/// Post-order from the items that nobody waits for, in the graph's order; of an item's operands the one whose own
/// computation needs more memory comes first.
fn depth_first(section: &Section) -> Vec<usize> {
    let waits = waits(section);
    let needs = needs(section, &waits);
    let followers = followers(&waits);
    let mut order = Vec::with_capacity(waits.len());
    let mut seen = vec![false; waits.len()];
    for root in (0..waits.len()).filter(|&place| followers[place].is_empty()) {
        let mut stack = vec![(root, false)];
        while let Some((place, expanded)) = stack.pop() {
            if expanded {
                order.push(place);
            } else if !std::mem::replace(&mut seen[place], true) {
                stack.push((place, true));
                let mut operands: Vec<usize> = waits[place].iter().copied().filter(|&writer| !seen[writer]).collect();
                // The last one pushed is walked first.
                operands.sort_by_key(|&writer| (needs[writer], Reverse(writer)));
                stack.extend(operands.into_iter().map(|writer| (writer, false)));
            }
        }
    }
    order
}

/// An estimate of the memory that computing each item takes, as if nothing were shared (Sethi and Ullman's numbering,
/// with bytes in place of registers), less what is left of it.
fn needs(section: &Section, waits: &[Vec<usize>]) -> Vec<i128> {
    let tensors = &section.program.tensors;
    let output_bytes = |place: usize| -> i128 {
        section.item(place).outputs.iter().map(|&output| tensors[output].bytes() as i128).sum()
    };
    let mut total = vec![0i128; waits.len()];
    for place in in_order(section) {
        let mut operands: Vec<usize> = waits[place].clone();
        operands.sort_by_key(|&writer| Reverse(total[writer] - output_bytes(writer)));
        let (mut held, mut most) = (0i128, 0i128);
        for writer in operands {
            most = most.max(held + total[writer]);
            held += output_bytes(writer);
        }
        total[place] = most.max(held + output_bytes(place));
    }
    (0..waits.len()).map(|place| total[place] - output_bytes(place)).collect()
}
