//! The graph as predicates see it: without nested graphs.
//!
//! Roles, and which factor of a product is a parameter of a scan, are told by what stands around an operation. What
//! stands around one in a loop's body is mostly outside of it, or in the run before. So predicates are asked about a graph in
//! which every loop is two runs of its body: the second stands for all of them. A sequence gives its slices, and a stack
//! is copies of one. Both branches of a choice are there, the first gives the results.

use std::collections::{HashMap, HashSet};

use lrpc_ir::graph::{Graph, GraphError, NodeId, Origin, Region, Value};
use lrpc_ir::ops::{Control, Literal, Movement, Op, Source};
use lrpc_ir::{DType, Dim, TensorType};

use super::super::active::{active_values, dependent_values};
use super::super::selective::Selections;
use crate::nested::{bound_inputs, bound_operands};

/// Where the nodes of a graph are in the flat one.
#[derive(Debug, Default)]
struct Places {
    values: HashMap<Value, Value>,
    inside: HashMap<NodeId, Vec<Places>>,
}

/// A graph whose nested graphs stand in their nodes' places.
#[derive(Debug)]
pub(in crate::relevance) struct Flat {
    graph: Graph,
    places: Option<Places>,
    explained: Vec<Value>,
    parameters: HashMap<NodeId, usize>,
    dependent: HashSet<Value>,
}

/// One of the graphs that a [`Flat`] was made from.
#[derive(Debug, Clone, Copy)]
pub(in crate::relevance) struct Seen<'a> {
    flat: &'a Flat,
    places: Option<&'a Places>,
}

impl Flat {
    /// `order` are the nodes of `graph`, operands before users.
    pub(in crate::relevance) fn of(
        graph: &Graph,
        order: &[NodeId],
        explained: &[Value],
        requested: &[Value],
    ) -> Result<Flat, GraphError> {
        let nested = order.iter().any(|&node| matches!(graph.node(node).op, Op::Control(_)));
        let (mut flat, mut places) = (Graph::new(), None);
        if nested {
            places = Some(copy(&mut flat, graph, order, HashMap::new(), true)?);
        }
        let map = |value: &Value| match &places {
            Some(places) => places.values.get(value).copied(),
            None => Some(*value),
        };
        let requested: Vec<Value> = requested.iter().filter_map(map).collect();
        let explained: Vec<Value> = explained.iter().filter_map(map).collect();
        let all: Vec<NodeId> = flat.ids().collect();
        let (around, order) = if nested { (&flat, &all[..]) } else { (graph, order) };
        let parameters = Selections::of(around, order, &active_values(around, order, &requested));
        let dependent = dependent_values(around, order, &requested);
        Ok(Flat { graph: flat, places, explained, parameters, dependent })
    }

    pub(in crate::relevance) fn seen(&self) -> Seen<'_> {
        Seen { flat: self, places: self.places.as_ref() }
    }
}

impl<'a> Seen<'a> {
    /// The graph to ask about `node` of `graph`, and the node in it.
    pub(in crate::relevance) fn around<'b>(&self, graph: &'b Graph, node: NodeId) -> (&'b Graph, NodeId)
    where
        'a: 'b,
    {
        let place = self.places.and_then(|places| places.values.get(&node.into()));
        match place {
            Some(place) => (&self.flat.graph, place.node),
            None => (graph, node),
        }
    }

    /// The explained values, in the graph to ask.
    pub(in crate::relevance) fn explained(&self) -> &'a [Value] {
        &self.flat.explained
    }

    /// The operand of a product that is a parameter: see [`super::super::selective`].
    pub(in crate::relevance) fn parameter(&self, graph: &Graph, node: NodeId) -> Option<usize> {
        self.flat.parameters.get(&self.around(graph, node).1).copied()
    }

    /// Whether `value` depends on a requested tensor in any way: a captured one may where no relevance passes.
    pub(in crate::relevance) fn depends(&self, value: Value) -> bool {
        let place = match self.places {
            Some(places) => places.values.get(&value).copied(),
            None => Some(value),
        };
        place.is_some_and(|place| self.flat.dependent.contains(&place))
    }

    /// A nested graph of `node`.
    pub(super) fn inside(&self, node: NodeId, body: usize) -> Seen<'a> {
        let places = self.places.and_then(|places| places.inside.get(&node)?.get(body));
        Seen { flat: self.flat, places }
    }
}

/// Copies `graph` into `flat`. `places` says what inputs are. Where it `repeats`, loops run twice, else once.
fn copy(
    flat: &mut Graph,
    graph: &Graph,
    order: &[NodeId],
    values: HashMap<Value, Value>,
    repeats: bool,
) -> Result<Places, GraphError> {
    let mut places = Places { values, inside: HashMap::new() };
    for &node in order {
        if places.values.contains_key(&node.into()) {
            continue;
        }
        let content = graph.node(node);
        let operands = graph.operands(node);
        // The default of an input is computed later than the input.
        let operands: Vec<Value> = match content.op {
            Op::Source(Source::Input(_)) => Vec::new(),
            _ => operands.iter().filter_map(|value| places.values.get(value).copied()).collect(),
        };
        let results = match &content.op {
            Op::Control(control @ (Control::Loop { .. } | Control::Cond { .. })) => {
                let (inside, results) = expand(flat, control, &operands, repeats)?;
                places.inside.insert(node, inside);
                results
            }
            op => {
                let names: Vec<String> = content.names().iter().map(|name| flat.fresh_name(name)).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let new = flat.add_many(content.region, op.clone(), &operands, &names, content.origin.clone())?;
                (0..names.len() as u32).map(|port| Value { node: new, port }).collect()
            }
        };
        let ports = results.into_iter().enumerate();
        places.values.extend(ports.map(|(port, value)| (Value { node, port: port as u32 }, value)));
    }
    Ok(places)
}

/// The nested graphs of a node, and what its results are.
fn expand(
    flat: &mut Graph,
    control: &Control,
    operands: &[Value],
    repeats: bool,
) -> Result<(Vec<Places>, Vec<Value>), GraphError> {
    let Control::Loop { trips, carried, scanned, body, .. } = control else {
        let mut branches = Vec::new();
        for (_, branch) in control.bodies() {
            let inputs = branch.inputs().into_iter().zip(operands.iter().copied()).collect();
            branches.push(copy(flat, branch, &branch.order(), inputs, repeats)?);
        }
        let first = control.bodies().into_iter().next().zip(branches.first());
        let results = first.map_or(Vec::new(), |((_, branch), places)| results(branch, places));
        return Ok((branches, results));
    };
    let (order, inputs) = (body.order(), body.inputs());
    let mut state: Vec<Value> = operands.iter().take(*carried).copied().collect();
    let run = |flat: &mut Graph, state: &[Value], repeats: bool| -> Result<Places, GraphError> {
        let mut values = vec![position(flat)?];
        values.extend(state);
        for (&operand, &input) in operands.iter().skip(*carried).take(*scanned).zip(inputs.iter().skip(1 + carried)) {
            values.push(slice(flat, operand, trips, body.ty(input))?);
        }
        values.truncate(bound_inputs(control));
        values.extend(operands.iter().skip(bound_operands(control)));
        copy(flat, body, &order, inputs.iter().copied().zip(values).collect(), repeats)
    };
    let mut places = run(flat, &state, false)?;
    if repeats {
        state = results(body, &places).into_iter().take(*carried).collect();
        places = run(flat, &state, true)?;
    }
    let mut last = results(body, &places);
    for value in last.iter_mut().skip(*carried) {
        *value = stack(flat, *value, trips)?;
    }
    Ok((vec![places], last))
}

fn results(graph: &Graph, places: &Places) -> Vec<Value> {
    graph.results.iter().filter_map(|result| places.values.get(&result.value).copied()).collect()
}

fn add(flat: &mut Graph, op: Op, operands: &[Value], name: &str) -> Result<Value, GraphError> {
    let name = flat.fresh_name(name);
    flat.add(Region::Forward, op, operands, &name, Origin::default())
}

fn position(flat: &mut Graph) -> Result<Value, GraphError> {
    let literal = Literal::filled(TensorType::new(DType::I64, Vec::new()), 0.0);
    add(flat, Op::Source(Source::Constant(literal)), &[], "position")
}

/// One slice of a sequence.
fn slice(flat: &mut Graph, sequence: Value, trips: &Dim, ty: &TensorType) -> Result<Value, GraphError> {
    if trips.known() == Some(0) {
        return add(flat, Op::Source(Source::Input(ty.clone())), &[], "slice");
    }
    let one = Movement::slice_axis(flat.ty(sequence), 0, Dim::Known(0), Dim::Known(1));
    let one = add(flat, Op::Movement(one), &[sequence], "slice")?;
    add(flat, Op::Movement(Movement::Reshape { shape: ty.shape.clone() }), &[one], "slice")
}

/// A stack of copies of one value.
fn stack(flat: &mut Graph, value: Value, trips: &Dim) -> Result<Value, GraphError> {
    let mut shape = flat.ty(value).shape.clone();
    shape.insert(0, Dim::Known(1));
    let one = add(flat, Op::Movement(Movement::Reshape { shape: shape.clone() }), &[value], "stack")?;
    if let Some(first) = shape.first_mut() {
        first.clone_from(trips);
    }
    add(flat, Op::Movement(Movement::Broadcast { shape }), &[one], "stack")
}
