//! Keeps the wanted results, and the ledger where it is audited.
//!
//! Nodes that nobody wants fall away with the next copy of the graph, since only what is reachable is copied. The
//! default of an input that is given is cut off here, so that its computation is not reachable through it.

use lrpc_ir::graph::GraphResult;
use lrpc_ir::{Diagnostic, Graph};

use super::{Request, Wanted};
use crate::names::matches;
use crate::nested::{drop_unused, holders};

/// The graph with the wanted results alone.
pub(super) fn slice(graph: &Graph, request: &Request) -> Result<Graph, Diagnostic> {
    let mut sliced = graph.clone();
    sliced.results = wanted_results(graph, &request.wanted)?;
    if !request.audit {
        sliced.ledger.clear();
    }
    for name in &request.given {
        let input = graph.inputs().into_iter().find(|&input| graph.name(input) == name).ok_or_else(|| {
            let names: Vec<&str> = graph.inputs().into_iter().map(|input| graph.name(input)).collect();
            Diagnostic::request(format!("the graph has no input `{name}`"))
                .help(format!("its inputs are {}", names.join(", ")))
        })?;
        let op = graph.node(input.node).op.clone();
        sliced.set_op(input.node, op, &[]).map_err(|error| Diagnostic::new(error.to_string()))?;
    }
    sliced.remove_unused_measures();
    if !holders(&sliced).is_empty() {
        // Users that nobody wants would keep results of loops alive.
        sliced.remove_dead();
        drop_unused(&mut sliced).map_err(|error| Diagnostic::new(error.to_string()))?;
    }
    Ok(sliced)
}

fn wanted_results(graph: &Graph, wanted: &Wanted) -> Result<Vec<GraphResult>, Diagnostic> {
    let Wanted::Matching(patterns) = wanted else { return Ok(graph.results.clone()) };
    let names = || graph.results.iter().map(|result| result.name.as_str());
    if let Some(pattern) = patterns.iter().find(|pattern| !names().any(|name| matches(pattern, name))) {
        let known: Vec<&str> = names().collect();
        return Err(Diagnostic::request(format!("the graph has no result `{pattern}`"))
            .help(format!("its results are {}", known.join(", "))));
    }
    let is_wanted = |result: &&GraphResult| patterns.iter().any(|pattern| matches(pattern, &result.name));
    Ok(graph.results.iter().filter(is_wanted).cloned().collect())
}
