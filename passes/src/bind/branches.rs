//! Puts the branch that is taken in the place of each conditional; nothing of the other one is bound.

use std::collections::HashMap;

use lrpc_ir::graph::Region;
use lrpc_ir::ops::{Control, Source};
use lrpc_ir::{Bindings, Diagnostic, DiagnosticKind, Graph, NodeId, Op, Value};

use super::rewrite;

/// The graph without conditionals, those in bodies of loops apart, if it had one.
///
/// # Errors
/// A choice that is no number under `dims`, or neither 0 nor 1.
pub(super) fn take_branches(graph: &Graph, dims: &Bindings) -> Result<Option<Graph>, Diagnostic> {
    let is_cond = |graph: &Graph, node: NodeId| matches!(graph.node(node).op, Op::Control(Control::Cond { .. }));
    let mut conditionals: Vec<NodeId> = graph.ids().filter(|&node| is_cond(graph, node)).collect();
    if conditionals.is_empty() {
        return Ok(None);
    }
    let mut graph = graph.clone();
    while let Some(node) = conditionals.pop() {
        // A branch may hold conditionals of its own.
        conditionals.extend(take(&mut graph, node, dims)?.into_iter().filter(|&inner| is_cond(&graph, inner)));
    }
    graph.remove_dead();
    Ok(Some(graph))
}

/// Puts the branch of `node` in its place; the nodes that it adds.
fn take(graph: &mut Graph, node: NodeId, dims: &Bindings) -> Result<Vec<NodeId>, Diagnostic> {
    let label = rewrite::label(graph, node);
    let wrong = |message: String| Diagnostic::new(message).at(label.clone());
    let Op::Control(Control::Cond { choice, then_branch, else_branch }) = graph.node(node).op.clone() else {
        return Ok(Vec::new());
    };
    let branch = match choice.eval(dims).map_err(|error| wrong(format!("its choice {choice}: {error}")))? {
        1 => then_branch,
        0 => else_branch,
        other => return Err(wrong(format!("its choice {choice} is {other}, neither 0 nor 1"))),
    };
    let region = graph.node(node).region;
    let mut values: HashMap<Value, Value> = branch.inputs().into_iter().zip(graph.operands(node)).collect();
    let mut added = Vec::new();
    for inner in branch.order() {
        let content = branch.node(inner);
        let operands: Option<Vec<Value>> =
            branch.operands(inner).iter().map(|value| values.get(value).copied()).collect();
        match (&content.op, operands.as_deref()) {
            (Op::Source(Source::Input(_)), _) => continue,
            // What a branch of the relevance region computes again is at hand there.
            (Op::Promise, Some([value])) if region == Region::Relevance => {
                values.insert(inner.into(), *value);
                continue;
            }
            _ => {}
        }
        let names = graph.fresh_names(content.names().iter().map(AsRef::as_ref));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let operands = operands.ok_or_else(|| bug(&label, "a branch reads what it does not hold".into()))?;
        let new = graph
            .add_many(region, content.op.clone(), &operands, &names, content.origin.clone())
            .map_err(|error| bug(&label, error.to_string()))?;
        added.push(new);
        for port in 0..content.types().len() as u32 {
            values.insert(Value { node: inner, port }, Value { node: new, port });
        }
    }
    for (port, result) in branch.results.iter().enumerate() {
        let value = values.get(&result.value).copied();
        let value = value.ok_or_else(|| bug(&label, "a branch does not compute its result".into()))?;
        graph.replace_uses(Value { node, port: port as u32 }, value);
    }
    graph.remove(node);
    Ok(added)
}

fn bug(label: &str, message: String) -> Diagnostic {
    Diagnostic::new(format!("internal error: {message}")).at(label).of_kind(DiagnosticKind::Bug)
}
