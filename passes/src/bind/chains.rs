//! The published statistics of promises (Lee & Arias 2025, arXiv 2512.07010), from the graph alone.
//!
//! The paper's words over this graph: the computation graph's *operations* `V` are the differentiable operations of the
//! forward region. An operation is *promise-generating* if a rule reads, for its sake, a forward value that the
//! operation's own derivative does not save (see [`super::saved`]) and that does not follow from what it saves. The
//! *arg node* of a missing value is the first operation on the way to the inputs whose result follows from what it
//! saves itself; inputs and weights are arg nodes too. *Interior nodes* lie between. Another promise-generating operation
//! on the way ends the chain as well: its own promise goes on from there, so that no node belongs to two chains. The
//! *depth* `d` of a promise-generating operation is the number of edges to the farthest end of its chains, `δ = Σ d`,
//! and the *density* is `ρ = |V_P| / |V|`.
//!
//! The published table counts the edge to the arg node itself: VGG16 has 32 promises, no interior node and `δ = 32`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lrpc_ir::graph::Region;
use lrpc_ir::{Graph, NodeId, Op, Value};

use super::rewrite;
use super::saved::Autograd;
use crate::relevance::builder::site_name;

/// The statistics of a graph's promises in the words of DynamicLRP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PromiseStatistics {
    /// Promise nodes of the graph: forward values that rules read, each once.
    pub promises: usize,
    /// Promise-generating operations, `|V_P|`.
    pub origins: usize,
    /// Operations between promise-generating operations and the ends of their chains, each counted once.
    pub interior: usize,
    /// `δ`: the sum of the depths of all promise-generating operations.
    pub delta: usize,
    /// Differentiable operations of the forward region, `|V|`.
    pub operations: usize,
}

impl PromiseStatistics {
    /// `ρ = |V_P| / |V|`, and 0 for a graph without operations.
    pub fn rho(&self) -> f64 {
        if self.operations == 0 { 0.0 } else { self.origins as f64 / self.operations as f64 }
    }
}

/// The statistics of what results (not the ledger) need.
pub(super) fn statistics(graph: &Graph) -> PromiseStatistics {
    let order = rewrite::topological(graph, &[]);
    let autograd = Autograd::new(graph);
    let is_operation = |node: &NodeId| {
        let content = graph.node(*node);
        let results = (0..content.types().len() as u32).map(|port| Value { node: *node, port });
        content.region == Region::Forward
            && !matches!(content.op, Op::Source(_))
            && results.into_iter().any(|value| autograd.is_differentiable(value))
    };
    let operations: Vec<NodeId> = order.iter().copied().filter(is_operation).collect();
    let missing = missing(graph, &autograd, &order, &operations);
    let is_end = |node: NodeId| autograd.is_retrievable(node) || missing.contains_key(&node);
    let depths = depths(graph, &autograd, &operations, &is_end);
    let depth = |value: &Value| depths.get(&value.node).copied().unwrap_or(1);
    let delta = missing.values().filter_map(|values| values.iter().map(depth).max()).sum();
    let is_inner = |node: NodeId| depths.contains_key(&node) && !is_end(node);
    let interior = interior(graph, &missing, &is_inner);
    PromiseStatistics {
        promises: order.iter().filter(|&&node| graph.node(node).op == Op::Promise).count(),
        origins: missing.len(),
        interior,
        delta,
        operations: operations.len(),
    }
}

/// The promise-generating operations, and the values that they miss: operands, since a result follows from them.
fn missing(
    graph: &Graph,
    autograd: &Autograd,
    order: &[NodeId],
    operations: &[NodeId],
) -> BTreeMap<NodeId, BTreeSet<Value>> {
    let mut at_site: HashMap<String, Vec<NodeId>> = HashMap::new();
    for &node in operations {
        at_site.entry(site_name(graph, node.into())).or_default().push(node);
    }
    let mut missing: BTreeMap<NodeId, BTreeSet<Value>> = BTreeMap::new();
    for &promise in order.iter().filter(|&&node| graph.node(node).op == Op::Promise) {
        let Some(value) = graph.operand(promise, 0) else { continue };
        let users = graph.users(promise.into()).into_iter().map(|(user, _)| graph.node(user));
        let sites: BTreeSet<&str> = users.filter_map(|user| user.origin.from.as_deref()).collect();
        for &node in sites.iter().filter_map(|site| at_site.get(*site)).flatten() {
            let operands = graph.operands(node);
            if value.node == node && !autograd.is_retrievable(node) {
                let differentiable = operands.into_iter().filter(|&operand| autograd.is_differentiable(operand));
                missing.entry(node).or_default().extend(differentiable);
            } else if operands.contains(&value) && !autograd.saved_by(node).contains(&value) {
                missing.entry(node).or_default().insert(value);
            }
        }
    }
    missing
}

/// For each operation the number of edges from its user to the farthest end of the chains behind it: 1 if it is an end
/// itself.
fn depths(
    graph: &Graph,
    autograd: &Autograd,
    operations: &[NodeId],
    is_end: &dyn Fn(NodeId) -> bool,
) -> HashMap<NodeId, usize> {
    let mut depths: HashMap<NodeId, usize> = HashMap::with_capacity(operations.len());
    for &node in operations {
        let depth = if is_end(node) {
            1
        } else {
            let operands = graph.operands(node).into_iter().filter(|&operand| autograd.is_differentiable(operand));
            // What is no operation is an input or a weight.
            1 + operands.map(|operand| depths.get(&operand.node).copied().unwrap_or(1)).max().unwrap_or(0)
        };
        depths.insert(node, depth);
    }
    depths
}

/// The number of operations on the way from missing values to the ends of their chains.
fn interior(graph: &Graph, missing: &BTreeMap<NodeId, BTreeSet<Value>>, is_inner: &dyn Fn(NodeId) -> bool) -> usize {
    let mut seen = BTreeSet::new();
    let mut stack: Vec<NodeId> = missing.values().flatten().map(|value| value.node).collect();
    while let Some(node) = stack.pop() {
        if is_inner(node) && seen.insert(node) {
            stack.extend(graph.operands(node).into_iter().map(|operand| operand.node));
        }
    }
    seen.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "lrpc 1\nweight @w : f32[4, 4]\ninput %x : f32[2, 4]\nforward\n";

    #[track_caller]
    fn check(body: &str, expected: PromiseStatistics) {
        let graph = lrpc_ir::text::parse(&format!("{HEADER}{body}")).unwrap();
        lrpc_ir::verify::verify(&graph).unwrap();
        assert_eq!(statistics(&graph), expected);
    }

    #[test]
    fn a_sum_misses_its_operands() {
        // The sum saves nothing: both operands are missing. A contraction gives its own result back, the scaling does
        // not and is interior, the relu before it is the arg node.
        check(
            "  %a = dot %x, @w {contract=1x0} : f32[2, 4] from \"a\"\n  %b = relu %a : f32[2, 4] from \"b\"\n\
             \x20 %c = scale %b {by=2} : f32[2, 4] from \"c\"\n  %y = add %a, %c : f32[2, 4] from \"y\"\n\
             relevance\n  %p.a = promise %a : f32[2, 4]\n  %p.c = promise %c : f32[2, 4]\n\
             \x20 %r = mul %p.a, %p.c : f32[2, 4] from \"y\" by Ratio\nresult \"y\" = %y\nresult \"r\" = %r\n",
            PromiseStatistics { promises: 2, origins: 1, interior: 1, delta: 2, operations: 4 },
        );
    }

    #[test]
    fn a_chain_ends_where_another_promise_begins() {
        check(
            "  %a = add %x, %x : f32[2, 4] from \"a\"\n  %d = dot %a, @w {contract=1x0} : f32[2, 4] from \"d\"\n\
             \x20 %y = add %a, %d : f32[2, 4] from \"y\"\nrelevance\n  %p.a = promise %a : f32[2, 4]\n  %p.x = promise %x : f32[2, 4]\n\
             \x20 %r = mul %p.a, %p.x : f32[2, 4] from \"y\" by Ratio\n\
             \x20 %s = mul %p.x, %r : f32[2, 4] from \"a\" by Ratio\nresult \"y\" = %y\nresult \"r\" = %s\n",
            PromiseStatistics { promises: 2, origins: 2, interior: 0, delta: 2, operations: 3 },
        );
    }

    #[test]
    fn what_an_operation_saves_is_no_promise_of_the_paper() {
        check(
            "  %a = dot %x, @w {contract=1x0} : f32[2, 4] from \"a\"\nrelevance\n  %p.a = promise %a : f32[2, 4]\n\
             \x20 %p.x = promise %x : f32[2, 4]\n  %r = mul %p.x, %p.x : f32[2, 4] from \"a\" by Epsilon\n\
             \x20 %s = mul %p.a, %r : f32[2, 4] from \"a\" by Epsilon\nresult \"y\" = %a\nresult \"r\" = %s\n",
            PromiseStatistics { promises: 2, operations: 1, ..PromiseStatistics::default() },
        );
    }
}
