//! Groups element-wise operations into regions that run as one kernel call.
//!
//! # What a group is
//! Element-wise nodes of one result shape and one region of the graph. Broadcasts of their operands belong to the group
//! that reads them: the call reads the operand before the broadcast by strides. A value of the group that somebody else
//! needs is one of its results. What is grouped does not depend on how promises are kept: groups never reach from
//! `forward` into `relevance`.
//!
//! # Why no path leaves a group and comes back
//! Every node has a level. An edge between two nodes that are not in one group goes to a higher level, and all nodes of
//! a group share one. A path that leaves a group therefore only climbs. A node joins a group only if all its operands
//! outside of the group lie lower; a group moves up into another one only if nobody else reads from it.

use std::collections::{BTreeSet, HashMap};

use lrpc_ir::ops::{Movement, Source};
use lrpc_ir::{Graph, NodeId, Op, Value};

use super::rewrite;

/// The most element-wise nodes in a group: what an interpreter keeps in flight stays in the first-level cache.
const MAX_NODES: usize = 32;
/// The most operands from outside of a group.
const MAX_INPUTS: usize = 12;

/// The groups of a graph.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Which group a node is in.
    of: HashMap<NodeId, usize>,
    /// The groups; what was merged into another one is empty.
    groups: Vec<Group>,
}

/// One group.
#[derive(Debug, Default)]
struct Group {
    level: usize,
    members: Vec<NodeId>,
    inputs: BTreeSet<Value>,
}

impl Groups {
    /// The group that the node is in.
    pub(super) fn of(&self, node: NodeId) -> Option<usize> {
        self.of.get(&node).copied()
    }

    /// The members of a group, in ascending order of identity.
    pub(super) fn members(&self, group: usize) -> &[NodeId] {
        self.groups.get(group).map_or(&[], |group| &group.members)
    }
}

/// Whether nodes of this operation are computed by fused calls.
pub(super) fn is_fusible(op: &Op) -> bool {
    matches!(op, Op::Elementwise(_))
}

/// The value that a fused call reads where an operand is `value`: broadcasts are looked through.
pub(super) fn leaf(graph: &Graph, value: Value) -> Value {
    match &graph.node(value.node).op {
        Op::Movement(Movement::Broadcast { .. }) => graph.operand(value.node, 0).unwrap_or(value),
        _ => value,
    }
}

/// Whether a fused call holds the value as a literal of its own: a constant that is the same everywhere.
pub(super) fn is_inline(graph: &Graph, value: Value) -> bool {
    matches!(&graph.node(value.node).op, Op::Source(Source::Constant(literal)) if literal.len() == 1)
}

/// Groups the element-wise nodes of `graph`.
pub(super) fn fuse(graph: &Graph) -> Groups {
    let order = rewrite::topological(graph, &graph.inputs());
    let mut fuser = Fuser { graph, groups: Groups::default(), levels: HashMap::with_capacity(order.len()) };
    for node in order {
        if is_fusible(&graph.node(node).op) && !is_view(graph, node) {
            fuser.place(node);
        } else {
            let level = graph.operands(node).iter().map(|operand| fuser.level(operand.node) + 1).max();
            fuser.levels.insert(node, level.unwrap_or(0));
        }
    }
    let mut groups = fuser.groups;
    groups.groups.iter_mut().for_each(|group| group.members.sort());
    groups
}

/// Whether the node shows its operand's bytes under another type. A widening cast of a float weight or input does,
/// since narrow floats are stored widened.
pub(super) fn is_view(graph: &Graph, node: NodeId) -> bool {
    use lrpc_ir::DType::{Bf16, F16, F32};
    use lrpc_ir::ops::Elementwise;
    match &graph.node(node).op {
        Op::Movement(Movement::Reshape { .. }) => true,
        Op::Elementwise(Elementwise::Cast(F32)) => graph.operand(node, 0).is_some_and(|operand| {
            matches!(graph.ty(operand).dtype, F16 | Bf16)
                && matches!(graph.node(operand.node).op, Op::Source(Source::Input(_) | Source::Weight(..)))
        }),
        _ => false,
    }
}

struct Fuser<'a> {
    graph: &'a Graph,
    groups: Groups,
    /// The levels of nodes outside of groups.
    levels: HashMap<NodeId, usize>,
}

impl Fuser<'_> {
    fn level(&self, node: NodeId) -> usize {
        match self.groups.of(node) {
            Some(group) => self.groups.groups[group].level,
            None => self.levels.get(&node).copied().unwrap_or(0),
        }
    }

    /// Puts a node into the highest group among its operands' where that is possible, else into a new one, and then
    /// takes in the operands' other groups that nobody else reads.
    fn place(&mut self, node: NodeId) {
        let graph = self.graph;
        let operands = graph.operands(node);
        let inputs: BTreeSet<Value> =
            operands.iter().filter(|&&value| !is_inline(graph, value)).map(|&value| leaf(graph, value)).collect();
        let mut candidates: Vec<usize> = operands.iter().filter_map(|operand| self.partner(node, *operand)).collect();
        candidates.sort_by_key(|&group| (std::cmp::Reverse(self.groups.groups[group].level), group));
        candidates.dedup();
        let level = inputs.iter().map(|input| self.level(input.node) + 1).max().unwrap_or(0);
        let home = self.groups.groups.len();
        self.groups.groups.push(Group { level, members: vec![node], inputs });
        self.groups.of.insert(node, home);
        let Some((&first, others)) = candidates.split_first() else { return };
        if self.joins(node, home, first, others) {
            self.groups.groups[home].level = self.groups.groups[first].level;
            self.merge(first, home);
        }
        for &group in &candidates {
            if !self.groups.groups[group].members.is_empty() && self.is_read_by(group, home) && self.fits(group, home) {
                self.merge(group, home);
            }
        }
    }

    /// The operand's group, if it may be one with the node's.
    fn partner(&self, node: NodeId, operand: Value) -> Option<usize> {
        let (a, b) = (self.graph.node(node), self.graph.node(operand.node));
        let same_shape = a.types().first()?.shape == b.types().first()?.shape;
        self.groups.of(operand.node).filter(|_| same_shape && a.region == b.region)
    }

    /// Whether `node`, alone in `home`, may go down to the level of `group`: everything else that it reads lies lower,
    /// or will be taken into the group as well.
    fn joins(&self, node: NodeId, home: usize, group: usize, others: &[usize]) -> bool {
        let level = self.groups.groups[group].level;
        let lower = |input: &Value| self.groups.of(input.node) == Some(group) || self.level(input.node) < level;
        let graph = self.graph;
        debug_assert_eq!(self.groups.of(node), Some(home), "a node stands in its home");
        // Groups of the same level as the target would have to be merged too; they stay apart.
        let apart = others.iter().all(|&other| self.groups.groups[other].level < level);
        let operands = graph.operands(node);
        let reads = operands.iter().filter(|&&value| !is_inline(graph, value)).map(|&value| leaf(graph, value));
        apart && reads.into_iter().all(|value| lower(&value)) && self.fits(group, home)
    }

    /// Whether all that read from `group` outside of it are in `home`.
    fn is_read_by(&self, group: usize, home: usize) -> bool {
        let values = self.groups.groups[group].members.iter().map(|&member| Value::from(member));
        values.flat_map(|value| self.graph.users(value)).all(|(user, _)| {
            let of = self.groups.of(user);
            of == Some(group) || of == Some(home)
        })
    }

    /// Whether both together stay within the limits.
    fn fits(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.groups.groups[a], &self.groups.groups[b]);
        let members: BTreeSet<NodeId> = a.members.iter().chain(&b.members).copied().collect();
        let inputs: BTreeSet<Value> =
            a.inputs.iter().chain(&b.inputs).filter(|value| !members.contains(&value.node)).copied().collect();
        members.len() <= MAX_NODES && inputs.len() <= MAX_INPUTS
    }

    fn merge(&mut self, from: usize, into: usize) {
        let Group { members, inputs, .. } = std::mem::take(&mut self.groups.groups[from]);
        self.groups.of.extend(members.iter().map(|&member| (member, into)));
        let target = &mut self.groups.groups[into];
        target.members.extend(members);
        let inside: BTreeSet<NodeId> = target.members.iter().copied().collect();
        target.inputs.extend(inputs);
        target.inputs.retain(|value| !inside.contains(&value.node));
    }
}
