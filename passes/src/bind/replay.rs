//! Replays: forward calls repeated in the relevance region, so that what they write need not stay alive in between.
//!
//! | region | before | after |
//! |---|---|---|
//! | forward | `a = f(x)`, `b = g(a)`, `y = h(b)` | the same |
//! | relevance | `r = k(b, q)` | `a' = f(x)`, `b' = g(a')`, `r = k(b', q)` |
//!
//! Here `x` is resident, an *arg node* in the words of DynamicLRP, and `a`, `b` are the forward chain. A chain begins at
//! the nearest resident tensors. No call is replayed twice: chains share what they have in common.
//!
//! A replay is a copy of the forward call, or, of a fused call, of the part between resident values and the values
//! that are needed: every operation is the one of the forward region, and its bits are the same.
//!
//! A replay waits for the last forward use of what it replaces and for the other operands of its first user, so that no
//! order of steps computes it long before it is needed.

use std::collections::{BTreeSet, HashMap};

use lrpc_ir::Diagnostic;
use lrpc_ir::graph::Region;
use lrpc_ir::plan::KernelCall;

use super::liveness::Section;
use super::part::{From, part};
use super::program::{Beside, Item, Kind, Program, Tensor, TensorId};
use super::schedule;

/// The program in which the relevance region reads copies of `recomputed` (root tensors of the forward region) that
/// are computed from `resident` ones.
pub(super) fn replay(
    program: Program,
    recomputed: &BTreeSet<TensorId>,
    resident: &BTreeSet<TensorId>,
) -> Result<Program, Diagnostic> {
    let order = execution_order(&program);
    let mut replay = Replay::new(program, resident);
    let mut needed = recomputed.clone();
    for &item in order.iter().rev() {
        if replay.program.items[item].region == Region::Forward {
            replay.repeat(item, &mut needed)?;
        }
    }
    replay.redirect();
    replay.place(&order);
    let mut program = replay.program;
    remove_dead(&mut program)?;
    program.compact();
    Ok(program)
}

/// The items that run for every input, operands before users.
pub(super) fn execution_order(program: &Program) -> Vec<usize> {
    let section = Section::new(program, false);
    schedule::in_order(&section).into_iter().map(|place| section.items[place]).collect()
}

/// The copy of a forward item's call that computes the results at the places `wanted`, and what it reads. Calls that
/// are not fused are copied whole.
pub(super) fn copied_call(
    program: &Program,
    item: &Item,
    wanted: &[usize],
    resident: &BTreeSet<TensorId>,
) -> Result<(KernelCall, Vec<TensorId>), Diagnostic> {
    let KernelCall::Fused(body) = &item.call else { return Ok((item.call.clone(), item.inputs.clone())) };
    let is_stop = |place: &usize| resident.contains(&program.root(item.outputs[*place]));
    let stops: Vec<usize> = (0..item.outputs.len()).filter(is_stop).collect();
    let part = part(body, wanted, &stops)
        .map_err(|error| Diagnostic::new(format!("internal error: {error}")).at(item.label.as_str()))?;
    let read = |from: &From| match *from {
        From::Operand(place) => item.inputs[place],
        From::Result(place) => item.outputs[place],
    };
    let inputs = part.inputs.iter().map(read).collect();
    Ok((KernelCall::Fused(Box::new(part.body)), inputs))
}

struct Replay<'a> {
    program: Program,
    resident: &'a BTreeSet<TensorId>,
    /// The tensors that forward items write.
    forward: BTreeSet<TensorId>,
    /// What stands for a forward tensor in the relevance region.
    copies: HashMap<TensorId, TensorId>,
    /// Positions of the items that were added, users before operands, each with the item that it repeats.
    replays: Vec<(usize, usize)>,
}

impl<'a> Replay<'a> {
    fn new(program: Program, resident: &'a BTreeSet<TensorId>) -> Replay<'a> {
        let forward = program.items.iter().filter(|item| item.region == Region::Forward);
        let forward = forward.flat_map(|item| item.outputs.iter().copied()).collect();
        Replay { program, resident, forward, copies: HashMap::new(), replays: Vec::new() }
    }

    /// Repeats the item if one of its results is needed, and marks what the copy reads as needed.
    fn repeat(&mut self, at: usize, needed: &mut BTreeSet<TensorId>) -> Result<(), Diagnostic> {
        let item = &self.program.items[at];
        let is_wanted = |place: &usize| needed.contains(&item.outputs[*place]);
        let wanted: Vec<usize> = (0..item.outputs.len()).filter(is_wanted).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let (call, inputs) = copied_call(&self.program, item, &wanted, self.resident)?;
        let originals: Vec<TensorId> = match call {
            KernelCall::Fused(_) => wanted.iter().map(|&place| item.outputs[place]).collect(),
            _ => item.outputs.clone(),
        };
        let (label, rank) = (item.label.clone(), item.rank);
        let roots = inputs.iter().map(|&input| self.program.root(input));
        needed.extend(roots.filter(|root| self.forward.contains(root) && !self.resident.contains(root)));
        let outputs = originals.into_iter().map(|original| self.copy_of(original)).collect();
        let region = Region::Relevance;
        self.program.items.push(Item { call, inputs, outputs, label, region, rank, after: Vec::new() });
        self.replays.push((self.program.items.len() - 1, at));
        Ok(())
    }

    /// The tensor that replays write, or show, in place of `original`.
    fn copy_of(&mut self, original: TensorId) -> TensorId {
        if let Some(&copy) = self.copies.get(&original) {
            return copy;
        }
        let tensor = self.program.tensors[original].clone();
        let kind = match tensor.kind {
            Kind::View(root) => Kind::View(self.copy_of(root)),
            kind => kind,
        };
        self.program.tensors.push(Tensor { name: format!("replay.{}", tensor.name), kind, ..tensor });
        let copy = self.program.tensors.len() - 1;
        self.copies.insert(original, copy);
        copy
    }

    /// Lets the relevance region read the copies.
    fn redirect(&mut self) {
        for at in 0..self.program.items.len() {
            if self.program.items[at].region != Region::Relevance {
                continue;
            }
            for slot in 0..self.program.items[at].inputs.len() {
                let input = self.program.items[at].inputs[slot];
                let root = self.program.root(input);
                let copied = self.copies.contains_key(&root) && !self.resident.contains(&root);
                if copied {
                    self.program.items[at].inputs[slot] = self.copy_of(input);
                }
            }
        }
    }

    /// Gives every replay its place right before its first user, in the order of all items without replays.
    fn place(&mut self, order: &[usize]) {
        let mut position: HashMap<usize, usize> = order.iter().enumerate().map(|(at, &item)| (item, at)).collect();
        let (mut readers, mut writers) = (HashMap::<TensorId, Vec<usize>>::new(), HashMap::new());
        for (at, item) in self.program.items.iter().enumerate() {
            let mut roots: Vec<TensorId> = item.inputs.iter().map(|&input| self.program.root(input)).collect();
            roots.sort_unstable();
            roots.dedup();
            roots.into_iter().for_each(|root| readers.entry(root).or_default().push(at));
            writers.extend(item.outputs.iter().map(|&output| (output, at)));
        }
        let first_replay = self.program.items.len() - self.replays.len();
        let readers_of = |tensors: &[TensorId]| -> Vec<usize> {
            tensors.iter().filter_map(|tensor| readers.get(tensor)).flatten().copied().collect()
        };
        // What an item waits for apart from replays.
        let operands_of = |program: &Program, at: usize| -> Vec<usize> {
            let roots = program.items[at].inputs.iter().map(|&input| program.root(input));
            roots.filter_map(|root| writers.get(&root).copied()).filter(|&writer| writer < first_replay).collect()
        };
        for &(replay, original) in &self.replays {
            let users = readers_of(&self.program.items[replay].outputs);
            let first = users.into_iter().min_by_key(|user| (position.get(user).copied(), *user));
            let Some(first) = first else { continue };
            position.insert(replay, position.get(&first).copied().unwrap_or_default());
            let mut after = match first < first_replay {
                true => operands_of(&self.program, first),
                false => self.program.items[first].after.clone(),
            };
            let is_forward = |reader: &usize| self.program.items[*reader].region == Region::Forward;
            after.extend(readers_of(&self.program.items[original].outputs).into_iter().filter(is_forward));
            after.sort_unstable();
            after.dedup();
            let rank = (self.program.items[first].rank.0, Beside::Replay);
            let item = &mut self.program.items[replay];
            (item.rank, item.after) = (rank, after);
        }
    }
}

/// Removes forward items that nobody reads from any more, and results of fused forward calls that nobody reads.
fn remove_dead(program: &mut Program) -> Result<(), Diagnostic> {
    let mut live: BTreeSet<TensorId> = program.returned().map(|tensor| program.root(tensor)).collect();
    let mut dead = vec![false; program.items.len()];
    for at in execution_order(program).into_iter().rev() {
        let item = &program.items[at];
        if item.region == Region::Forward {
            let is_live = |place: &usize| live.contains(&item.outputs[*place]);
            let wanted: Vec<usize> = (0..item.outputs.len()).filter(is_live).collect();
            dead[at] = wanted.is_empty();
            if matches!(item.call, KernelCall::Fused(_)) && !wanted.is_empty() && wanted.len() < item.outputs.len() {
                let (call, inputs) = copied_call(program, item, &wanted, &BTreeSet::new())?;
                let outputs = wanted.iter().map(|&place| item.outputs[place]).collect();
                let item = &mut program.items[at];
                (item.call, item.inputs, item.outputs) = (call, inputs, outputs);
            }
        }
        if !dead[at] {
            live.extend(program.items[at].inputs.iter().map(|&input| program.root(input)));
        }
    }
    program.remove_items(&dead);
    Ok(())
}
