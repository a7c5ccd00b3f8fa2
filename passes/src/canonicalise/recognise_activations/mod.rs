//! Recognises activations that exporters write as several operations: GELU and its tanh approximation, swish, mish,
//! hard-swish, hard-sigmoid, sigmoid, softplus with its guard, exponential linear units.
//!
//! Before: `%s = sigmoid %x`, `%y = mul %x, %s`. After: `%y = swish %x`. Unrecognised, a product rule would split the
//! relevance between the signal and its own gate.
//!
//! [`window`] cuts out what is computed from one tensor around an operation that such patterns are made with, [`term`]
//! states it as a term in one unknown, [`rules`] says which terms are equal, and [`targets`] what is looked for. Nothing
//! is extracted: a root is remade if its class of equal terms holds an activation of the leaf. The search is bounded by
//! iterations and terms, never by time, so that every run finds the same.

mod language;
mod rules;
mod targets;
mod term;
#[cfg(test)]
mod tests;
mod window;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use egg::{EGraph, Runner, SimpleScheduler};
use lrpc_ir::graph::Graph;
use lrpc_ir::ops::{Binary, Elementwise, Function, Movement, Op, Unary};
use lrpc_ir::{Diagnostic, Diagnostics, NodeId, Value};

use crate::manager::{Context, PassDef};
use language::{Constants, Term};
use targets::Found;
use window::{Places, Window};

pub(super) const PASS: PassDef = PassDef {
    name: "recognise_activations",
    doc: "raises activations that are written out (GELU, swish, mish, softplus, …) to one operation",
    run: recognise_activations,
};

/// Rounds of rewriting; the longest spelling takes twelve until nothing new is found.
const MOST_ROUNDS: usize = 20;
/// Terms of one window; those of the longest spelling are about 150.
const MOST_TERMS: usize = 2_000;

fn recognise_activations(graph: &mut Graph, context: &mut Context) -> Result<(), Diagnostics> {
    recognise(graph, context, rules::compiled()?)
}

/// The pass under a choice of rewrites.
fn recognise(graph: &mut Graph, context: &mut Context, rules: &[rules::Compiled]) -> Result<(), Diagnostics> {
    let order = graph.order();
    let places: Places = order.iter().enumerate().map(|(place, &node)| (node, place)).collect();
    let mut search = Search { rules, targets: targets::compiled()?, tried: BTreeSet::new(), refused: HashMap::new() };
    for node in order {
        if !graph.contains(node) || !is_anchor(graph, node) {
            continue;
        }
        match search.best(graph, context, &places, node.into()) {
            Some(activation) => {
                search.refused.remove(&activation.root);
                activation.write(graph, context)?;
            }
            None => search.note_gate(graph, &places, node),
        }
    }
    let mut refused: Vec<(Value, String)> =
        search.refused.into_iter().filter(|(root, _)| graph.contains(root.node)).collect();
    refused.sort_by_key(|(root, _)| places.get(&root.node).copied());
    for (root, reason) in refused {
        context.refused(PASS.name, graph, root, &reason);
    }
    Ok(())
}

/// The terms with everything that the rewrites make of them, within bounds that depend on nothing but the terms.
fn saturated(terms: EGraph<Term, Constants>, rules: &[rules::Compiled]) -> Runner<Term, Constants> {
    Runner::default()
        .with_egraph(terms)
        .with_scheduler(SimpleScheduler)
        .with_iter_limit(MOST_ROUNDS)
        .with_node_limit(MOST_TERMS)
        .with_time_limit(Duration::MAX)
        .run(rules)
}

/// Whether activations are made with this operation.
fn is_anchor(graph: &Graph, node: NodeId) -> bool {
    match &graph.node(node).op {
        Op::Elementwise(Elementwise::Unary(unary)) => matches!(
            unary.function,
            Function::Erf
                | Function::Tanh
                | Function::Sigmoid
                | Function::HardSigmoid
                | Function::Softplus
                | Function::Exp
                | Function::Clip
                | Function::Relu
        ),
        Op::Elementwise(Elementwise::Binary(Binary::Min | Binary::Max)) => true,
        _ => false,
    }
}

/// A root that is an activation of a leaf.
#[derive(Debug, Clone)]
struct Activation {
    leaf: Value,
    root: Value,
    function: Unary,
    /// What the activation takes the place of, besides the root.
    inner: BTreeSet<Value>,
}

impl Activation {
    fn write(self, graph: &mut Graph, context: &mut Context) -> Result<(), Diagnostics> {
        let node = self.root.node;
        let origin = graph.node(node).origin.made_by(PASS.name);
        let region = graph.node(node).region;
        graph
            .set_op(node, Op::Elementwise(Elementwise::Unary(self.function)), &[self.leaf])
            .map_err(Diagnostic::from)?;
        graph.set_place(node, region, origin);
        // Later windows must not see users that are gone.
        let mut inner: Vec<Value> = self.inner.into_iter().collect();
        while let Some(at) = inner.iter().position(|&value| graph.users(value).is_empty()) {
            graph.remove(inner.swap_remove(at).node);
        }
        context.patched(PASS.name, graph, self.root);
        Ok(())
    }
}

struct Search<'r> {
    rules: &'r [rules::Compiled],
    targets: &'static [targets::Compiled],
    /// Windows that were searched already from another anchor.
    tried: BTreeSet<Window>,
    /// Why a root was left.
    refused: HashMap<Value, String>,
}

impl Search<'_> {
    /// The activation that `anchor` has part in: the one that takes in most.
    fn best(&mut self, graph: &Graph, context: &Context, places: &Places, anchor: Value) -> Option<Activation> {
        let place = |activation: &Activation| places.get(&activation.root.node).copied();
        let mut best: Option<Activation> = None;
        for window in window::around(graph, places, anchor) {
            if !self.tried.insert(window.clone()) {
                continue;
            }
            let found = self.outermost(graph, context, &window);
            best = match (best, found) {
                (Some(best), Some(found)) if place(&found) < place(&best) => Some(best),
                (best, found) => found.or(best),
            };
        }
        best
    }

    /// The outermost root of `window` that is an activation and may be remade.
    fn outermost(&mut self, graph: &Graph, context: &Context, window: &Window) -> Option<Activation> {
        let stated = term::state(graph, window);
        let runner = saturated(stated.terms, self.rules);
        for &(root, id) in stated.roots.iter().rev() {
            let reason = match targets::find(self.targets, &runner.egraph, id) {
                None => continue,
                Some(Found::Near(reason)) => reason,
                Some(Found::Function(function)) => match activation(graph, context, window.leaf, root, function) {
                    None => continue,
                    Some(Ok(activation)) => return Some(activation),
                    Some(Err(reason)) => reason,
                },
            };
            self.refused.entry(root).or_insert(reason);
        }
        None
    }

    /// Notes that a bounded function is a factor of another tensor, if `node` is one and belongs to no activation.
    fn note_gate(&mut self, graph: &Graph, places: &Places, node: NodeId) {
        let Op::Elementwise(Elementwise::Unary(unary)) = &graph.node(node).op else { return };
        if !matches!(unary.function, Function::Erf | Function::Tanh | Function::Sigmoid | Function::HardSigmoid) {
            return;
        }
        let broadcast = |user: &NodeId| matches!(graph.node(*user).op, Op::Movement(Movement::Broadcast { .. }));
        let users = graph.users(node.into());
        let copies = users.iter().filter(|(user, _)| broadcast(user));
        let users_of_copies = copies.flat_map(|&(copy, _)| graph.users(copy.into()));
        for (user, slot) in users.iter().copied().chain(users_of_copies) {
            let is_product = graph.node(user).op == Op::Elementwise(Elementwise::Binary(Binary::Mul));
            let Some(other) = graph.operand(user, 1 - slot.min(1)).filter(|_| is_product) else { continue };
            if window::scalar(graph, other).is_none() && !window::share_leaf(graph, places, node.into(), other) {
                let (gate, other) = (unary.function.name(), graph.name(other));
                let reason = format!("%{other} is no function of what the {gate} reads: a gate");
                self.refused.entry(user.into()).or_insert(reason);
            }
        }
    }
}

/// `root` as an activation of `leaf`, or why it has to stay; `None` where nothing would be gained.
fn activation(
    graph: &Graph,
    context: &Context,
    leaf: Value,
    root: Value,
    function: Unary,
) -> Option<Result<Activation, String>> {
    let op = Op::Elementwise(Elementwise::Unary(function));
    if graph.node(root.node).op == op || matches!(graph.node(root.node).op, Op::Elementwise(Elementwise::Cast(_))) {
        return None;
    }
    let mut inner = window::cone(graph, leaf, root, &BTreeSet::new())?;
    inner.remove(&root);
    let name = function.function.name();
    if graph.ty(leaf) != graph.ty(root) {
        return Some(Err(format!("it is {name} of %{}, but of type {}", graph.name(leaf), graph.ty(root))));
    }
    let is_inside = |user: NodeId| user == root.node || inner.contains(&user.into());
    let kept = inner.iter().find_map(|&value| {
        let why = if context.pinned.contains(&value) {
            "somebody asked for it"
        } else if graph.is_returned(value) {
            "it is a result"
        } else if !graph.users(value).into_iter().all(|(user, _)| is_inside(user)) {
            "it is used elsewhere"
        } else {
            return None;
        };
        Some(format!("it is {name} of %{}, but would swallow %{}: {why}", graph.name(leaf), graph.name(value)))
    });
    Some(match kept {
        Some(reason) => Err(reason),
        None => Ok(Activation { leaf, root, function, inner }),
    })
}
