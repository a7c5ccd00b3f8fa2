//! Keeps promises: decides how each promised forward value reaches the relevance region.
//!
//! Under `store` a promise is its forward value: the value stays alive until its last use, which liveness sees by
//! itself once the promise node is gone.

use lrpc_ir::{Diagnostic, Graph, Op};

use super::Strategy;
use super::rewrite::{self, Outcome, copy, rewrite};

/// The graph without promise nodes.
pub(super) fn keep(graph: &Graph, strategy: Strategy) -> Result<Graph, Diagnostic> {
    if strategy != Strategy::Store {
        return Err(Diagnostic::request(format!("promises cannot be kept by `{}`", strategy.name()))
            .help("keep them with --keep store"));
    }
    let order = rewrite::topological(graph, &graph.inputs());
    rewrite(graph, &order, |to, node, operands| match (&graph.node(node).op, operands) {
        (Op::Promise, [value]) => Ok(Outcome::Value(*value)),
        (op, operands) => copy(to, graph, node, op.clone(), operands).map(Outcome::Node),
    })
}
