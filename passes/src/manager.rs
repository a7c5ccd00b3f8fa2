//! Named passes, run one after the other.

use std::collections::HashSet;

use lrpc_ir::graph::{Graph, GraphError, Value};
use lrpc_ir::{Diagnostic, DiagnosticKind, Diagnostics};

use crate::nested;

/// A pass over a graph.
#[derive(Debug, Clone, Copy)]
pub struct PassDef {
    /// A verb phrase; the name of its file and function, and on the command line.
    pub name: &'static str,
    /// One line on what it does.
    pub doc: &'static str,
    /// The pass. Every patch that fires is written to the context.
    pub run: fn(&mut Graph, &mut Context) -> Result<(), Diagnostics>,
}

/// What passes share: what must stay, and what they did.
#[derive(Debug, Default)]
pub struct Context {
    /// Values that no pattern may swallow, because somebody asked for them.
    pub pinned: HashSet<Value>,
    /// What fired.
    pub patches: Vec<Patch>,
    /// What looked like a pattern and was refused.
    pub refusals: Vec<Refusal>,
    /// Pinned results of linear maps that would else have been merged with what follows them.
    pub kept_apart: Vec<Value>,
}

/// A patch that fired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// The pass.
    pub pass: &'static str,
    /// The value that it remade.
    pub value: String,
    /// The operation that makes the value now: what was recognised, for a pass that recognises.
    pub op: &'static str,
}

/// A near miss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The pass.
    pub pass: &'static str,
    /// The value that it left.
    pub value: String,
    /// Why.
    pub reason: String,
}

impl Context {
    /// Notes that a patch of `pass` has remade `value`.
    pub fn patched(&mut self, pass: &'static str, graph: &Graph, value: Value) {
        let op = graph.node(value.node).op.mnemonic();
        self.patches.push(Patch { pass, value: graph.name(value).into(), op });
    }

    /// As [`Context::refused`], because the result of the linear map `map` has to stay.
    pub fn kept_apart(&mut self, pass: &'static str, graph: &Graph, value: Value, map: Value) {
        if self.pinned.contains(&map) && !self.kept_apart.contains(&map) {
            self.kept_apart.push(map);
        }
        self.refused(pass, graph, value, "the linear map's result is used elsewhere");
    }

    /// Notes why `pass` has left `value`.
    pub fn refused(&mut self, pass: &'static str, graph: &Graph, value: Value, reason: &str) {
        self.refusals.push(Refusal { pass, value: graph.name(value).into(), reason: reason.into() });
    }

    /// Whether `value` is seen by its one user alone, so that a pattern may swallow it.
    pub fn is_private(&self, graph: &Graph, value: Value) -> bool {
        graph.users(value).len() == 1
            && !self.pinned.contains(&value)
            && !graph.results.iter().any(|result| result.value == value)
            && !graph.measures.iter().any(|measure| measure.value == value)
    }
}

/// Runs `passes` in order, each on nested graphs first; `observe` sees the graph after each. In debug builds, and with `verify`, the verifier does too.
///
/// # Errors
/// What a pass returns. A broken invariant is a bug of the pass and is reported as such.
pub fn run(
    graph: &mut Graph,
    passes: &[PassDef],
    context: &mut Context,
    verify: bool,
    observe: &mut dyn FnMut(&PassDef, &Graph),
) -> Result<(), Diagnostics> {
    for pass in passes {
        run_everywhere(graph, pass, context)?;
        check(graph, pass.name, verify)?;
        observe(pass, graph);
    }
    Ok(())
}

/// Runs a pass on nested graphs, the innermost first, and on `graph`.
fn run_everywhere(graph: &mut Graph, pass: &PassDef, context: &mut Context) -> Result<(), Diagnostics> {
    let bug = |error: GraphError| Diagnostic::new(error.to_string()).of_kind(DiagnosticKind::Bug);
    for node in nested::holders(graph) {
        let mut opened = nested::open(graph, node).map_err(bug)?;
        for body in &mut opened {
            let pinned = body.graph.results.iter().map(|result| result.value).collect();
            let mut inner = Context { pinned, ..Context::default() };
            run_everywhere(&mut body.graph, pass, &mut inner)?;
            context.patches.extend(inner.patches);
            context.refusals.extend(inner.refusals);
        }
        nested::close(graph, node, &opened).map_err(bug)?;
    }
    (pass.run)(graph, context)?;
    graph.remove_dead();
    Ok(())
}

/// Verifies `graph` in debug builds and on request.
pub(crate) fn check(graph: &Graph, after: &str, verify: bool) -> Result<(), Diagnostics> {
    if !(verify || cfg!(debug_assertions)) {
        return Ok(());
    }
    lrpc_ir::verify::verify(graph).map_err(|error| {
        Diagnostic::new(format!("after the pass `{after}`: {error}"))
            .of_kind(DiagnosticKind::Bug)
            .help("this is a bug of lrpc; please report it")
            .into()
    })
}
