//! Gives every dimension its number, and checks that the graph has a meaning at these sizes.

use std::collections::BTreeSet;

use lrpc_ir::ops::{Control, Linear, Movement, Pool, Select, Source};
use lrpc_ir::{Bindings, Diagnostic, Dim, DimError, Graph, NodeId, Op, Value};

use super::branches;
use super::rewrite::{self, Outcome, copy, rewrite};

/// The widest element type, for limits that hold whatever the precision is.
const WIDEST: i64 = 8;

/// The graph with every dimension a number; inputs that are not given are their defaults. Only what results and ledger
/// need is in it.
pub(super) fn concretise(graph: &Graph, dims: &Bindings) -> Result<Graph, Diagnostic> {
    let needed = rewrite::topological(graph, &[]);
    let reached: BTreeSet<NodeId> = needed.iter().copied().collect();
    let provided = |input: &Value| reached.contains(&input.node) && graph.operand(input.node, 0).is_none();
    let inputs: Vec<Value> = graph.inputs().into_iter().filter(provided).collect();
    concretise_nodes(graph, &rewrite::topological(graph, &inputs), dims)
}

fn concretise_nodes(graph: &Graph, order: &[NodeId], dims: &Bindings) -> Result<Graph, Diagnostic> {
    rewrite(graph, order, |to, node, operands| {
        let content = graph.node(node);
        if let (Op::Source(Source::Input(_)), Some(default)) = (&content.op, operands.first()) {
            return Ok(Outcome::Value(*default));
        }
        let op = bind_op(graph, node, dims)?;
        let new = copy(to, graph, node, op, operands).map_err(|error| with_sizes(error, graph, node, dims))?;
        check_sizes(to, new).and_then(|()| check_fit(to, new)).map_err(|error| with_sizes(error, graph, node, dims))?;
        Ok(Outcome::Node(new))
    })
    .map(|rewritten| rewritten.graph)
}

/// A size for a dimension that the graph does not have is a slip of the pen.
pub(super) fn check_names(graph: &Graph, dims: &Bindings) -> Result<(), Diagnostic> {
    let known = graph.symbols();
    let list = || if known.is_empty() { "none".into() } else { known.iter().cloned().collect::<Vec<_>>().join(", ") };
    match dims.keys().find(|name| !known.contains(*name)) {
        Some(name) => Err(Diagnostic::request(format!("the graph has no dimension `{name}`"))
            .help(format!("its symbolic dimensions: {}", list()))),
        None => Ok(()),
    }
}

fn bind_op(graph: &Graph, node: NodeId, dims: &Bindings) -> Result<Op, Diagnostic> {
    let number = |dim: &Dim| dim.eval(dims).map(Dim::Known);
    let label = || rewrite::label(graph, node);
    let op = match &graph.node(node).op {
        Op::Control(control) => return bind_bodies(control, dims).map(Op::Control).map_err(|error| error.at(label())),
        op => op.map_dims(&mut |dim| number(dim)),
    };
    op.map_err(|error| match error {
        DimError::Unbound(_) => missing(graph, dims),
        other => Diagnostic::new(other.to_string()).at(label()),
    })
}

fn bind_bodies(control: &Control, dims: &Bindings) -> Result<Control, Diagnostic> {
    let bound = |body: &Graph| {
        let taken = branches::take_branches(body, dims)?;
        let body = taken.as_ref().unwrap_or(body);
        concretise_nodes(body, &rewrite::topological(body, &body.inputs()), dims)
    };
    let mut control = control.clone();
    match &mut control {
        Control::Loop { trips, .. } => {
            *trips = trips.eval(dims).map(Dim::Known).map_err(|error| Diagnostic::new(format!("{trips}: {error}")))?;
        }
        Control::While { .. } | Control::Cond { .. } => {}
    }
    for body in control.bodies_mut() {
        *body = bound(body)?;
    }
    Ok(control)
}

/// Names all dimensions without a size at once.
fn missing(graph: &Graph, dims: &Bindings) -> Diagnostic {
    let names: Vec<String> = graph.symbols().into_iter().filter(|name| !dims.contains_key(name)).collect();
    let flags: Vec<String> = names.iter().map(|name| format!("--dim {name}=SIZE")).collect();
    let is_measured = |name: &&String| graph.measures.iter().any(|measure| measure.symbol == **name);
    let measured: Vec<&str> = names.iter().filter(is_measured).map(String::as_str).collect();
    let data = match measured.as_slice() {
        [] => String::new(),
        measured => format!("; a run computes {} from its inputs", measured.join(", ")),
    };
    let message = format!("no size is known for: {}", names.join(", "));
    Diagnostic::request(message).help(format!("give {}{data}", flags.join(" ")))
}

/// Adds to what is wrong at `node` the sizes, each with the input that has it, and how large a size may be where the node
/// tells.
fn with_sizes(diagnostic: Diagnostic, graph: &Graph, node: NodeId, dims: &Bindings) -> Diagnostic {
    if dims.is_empty() || diagnostic.help.is_some() {
        return diagnostic;
    }
    let inputs = graph.inputs();
    let axis_of = |name: &str| {
        inputs.iter().find_map(|&input| {
            let axis = graph.ty(input).shape.iter().position(|dim| dim.as_symbol() == Some(name))?;
            Some(format!(" (axis {axis} of input `{}`)", graph.name(input)))
        })
    };
    let shown = |(name, size): (&String, &i64)| format!("{name}={size}{}", axis_of(name).unwrap_or_default());
    let sizes: Vec<String> = dims.iter().map(shown).collect();
    let most = most_taken(graph, node).into_iter().map(|(name, most)| format!("; {name} is at most {most}"));
    let most: String = most.collect();
    let help = format!("the sizes are {}{most}; give inputs of other sizes, or other --dim", sizes.join(", "));
    diagnostic.help(help)
}

/// The symbols of which a slice takes as many elements from an axis of known length, with the most that are there.
fn most_taken(graph: &Graph, node: NodeId) -> Vec<(String, i64)> {
    let (Op::Movement(Movement::Slice { starts, steps, shape }), Some(from)) =
        (&graph.node(node).op, graph.operand(node, 0))
    else {
        return Vec::new();
    };
    let axes = shape.iter().zip(&graph.ty(from).shape).zip(starts.iter().zip(steps));
    let most = |((taken, whole), (start, &step)): ((&Dim, &Dim), (&Dim, &i64))| {
        let start = start.known().filter(|_| step == 1)?;
        Some((taken.as_symbol()?.to_string(), whole.known()?.checked_sub(start)?))
    };
    axes.filter_map(most).collect()
}

/// Sizes are not negative, and every tensor can be addressed.
fn check_sizes(graph: &Graph, node: NodeId) -> Result<(), Diagnostic> {
    for ty in graph.node(node).types() {
        let mut bytes = WIDEST;
        for (axis, dim) in ty.shape.iter().enumerate() {
            let Some(size) = dim.known() else {
                let message = format!("axis {axis} of {ty} has a size that depends on the data");
                return Err(Diagnostic::new(message).at(rewrite::label(graph, node)));
            };
            if size < 0 {
                let message = format!("axis {axis} of {ty} would have a negative length");
                return Err(Diagnostic::new(message).at(rewrite::label(graph, node)));
            }
            bytes = bytes.checked_mul(size.max(1)).ok_or_else(|| {
                Diagnostic::new(format!("{ty} has more elements than can be addressed")).at(rewrite::label(graph, node))
            })?;
        }
    }
    Ok(())
}

/// What type inference leaves open while sizes are symbols: windows fit, and a winner exists.
fn check_fit(graph: &Graph, node: NodeId) -> Result<(), Diagnostic> {
    let content = graph.node(node);
    let fail = |message: String| Err(Diagnostic::new(message).at(rewrite::label(graph, node)));
    let empty = |dim: &Dim| dim.known().is_some_and(|size| size < 1);
    let spatial = match &content.op {
        Op::Linear(Linear::Conv(geometry) | Linear::ConvTranspose(geometry)) => &geometry.spatial,
        Op::Pool(Pool::Window(_, window) | Pool::WindowTranspose(_, window)) => {
            if window.size.iter().any(empty) {
                return fail(format!("the window {:?} is empty", window.size));
            }
            &window.spatial
        }
        Op::Pool(Pool::Resize(resize) | Pool::ResizeTranspose(resize)) => &resize.spatial,
        Op::Select(Select::ArgMax { axis } | Select::ArgMin { axis }) => {
            return winners(graph, node, std::slice::from_ref(axis)).or_else(fail);
        }
        _ => return Ok(()),
    };
    match spatial.iter().position(empty) {
        Some(axis) => fail(format!("nothing is left along spatial axis {axis}: the input is smaller than the window")),
        None => Ok(()),
    }
}

fn winners(graph: &Graph, node: NodeId, axes: &[usize]) -> Result<(), String> {
    let Some(operand) = graph.operand(node, 0) else { return Ok(()) };
    let ty = graph.ty(operand);
    match axes.iter().find(|&&axis| ty.shape.get(axis) == Some(&Dim::Known(0))) {
        Some(axis) => Err(format!("axis {axis} of {ty} has no element to choose")),
        None => Ok(()),
    }
}
