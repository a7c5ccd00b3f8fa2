//! Graphs inside nodes: bodies that are lowered where they stand, and loops around what is lowered in them.

use lrpc_ir::graph::GraphResult;
use lrpc_ir::ops::{Control, Movement};
use lrpc_ir::types::{DType, TensorType};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, Refusal, invalid, unsupported};
use super::lowering::{Keep, Slot};
use super::site::Site;
use super::structure;
use crate::onnx::file::weight_path;
use crate::onnx::proto::GraphProto;

/// The most nodes of nested graphs that are lowered, each as often as it is written out.
const MAX_NESTED_NODES: usize = 1 << 17;

/// A loop that is to be made.
pub(super) struct Looped<'v> {
    pub trips: Dim,
    pub reverse: bool,
    /// The first values of what is carried.
    pub carried: &'v [Value],
    /// Tensors of which each run sees one slice along the first axis.
    pub scanned: &'v [Value],
}

/// What a run of a loop's body gets.
pub(super) struct Given {
    /// Which slice it is, `i64[]`.
    pub position: Value,
    pub carried: Vec<Value>,
    pub slices: Vec<Value>,
}

/// What a run of a loop's body gives.
pub(super) struct Made {
    pub carried: Vec<Value>,
    /// What is stacked along a new first axis.
    pub stacked: Vec<Value>,
}

impl<'m> Site<'_, 'm> {
    /// A loop around what `build` makes: the last carried values, then the stacks.
    pub(super) fn looped(
        &mut self,
        spec: &Looped<'_>,
        build: impl FnOnce(&mut Self, &Given) -> Lowered<Made>,
    ) -> Lowered<Vec<Value>> {
        let carried: Vec<TensorType> = spec.carried.iter().map(|value| self.ty(*value)).collect();
        let mut operands = spec.carried.to_vec();
        let mut slices = Vec::with_capacity(spec.scanned.len());
        for value in spec.scanned {
            let ty = self.ty(*value);
            let Some((_, rest)) = ty.shape.split_first() else { return invalid("a scalar cannot be scanned") };
            let whole = ty.with_shape([&[spec.trips.clone()], rest].concat());
            operands.push(self.settled(*value, &whole)?);
            slices.push(ty.with_shape(rest.to_vec()));
        }
        let (body, stacks, captured) = self.nested(|site| {
            let position = site.nested_input(TensorType::new(DType::I64, Vec::new()), "position")?;
            let mut inputs = |types: &[TensorType], name: &str| -> Lowered<Vec<Value>> {
                types.iter().map(|ty| site.nested_input(ty.clone(), name)).collect()
            };
            let given = Given { position, carried: inputs(&carried, "carried")?, slices: inputs(&slices, "slice")? };
            let made = build(site, &given)?;
            let settle = |(value, ty): (&Value, &TensorType)| site.settled(*value, ty);
            let last = made.carried.iter().zip(&carried).map(settle).collect::<Lowered<Vec<Value>>>()?;
            site.return_from_body("carried", &last);
            site.return_from_body("stack", &made.stacked);
            Ok(made.stacked.len())
        })?;
        let (count, scanned) = (carried.len(), slices.len());
        let (trips, reverse, body) = (spec.trips.clone(), spec.reverse, Box::new(body));
        operands.extend(captured);
        let op = Op::Control(Control::Loop { trips, reverse, carried: count, scanned, body });
        self.emit_many(op, &operands, count.saturating_add(stacks))
    }

    /// Lets these values be results of the nested graph.
    pub(super) fn return_from_body(&mut self, name: &str, values: &[Value]) {
        let results = values.iter().enumerate();
        let results = results.map(|(place, value)| GraphResult { name: format!("{name}.{place}"), value: *value });
        self.lowering.graph.results.extend(results);
    }

    /// The value under the shape of `ty`. Sizes that are equal for all one can tell are left to binding.
    pub(super) fn settled(&mut self, value: Value, ty: &TensorType) -> Lowered<Value> {
        let found = self.ty(value);
        let differ = |(a, b): (&Dim, &Dim)| a.sub(b).is_ok_and(|difference| difference.known().is_some_and(|d| d != 0));
        if found.dtype != ty.dtype {
            return invalid(format!("a value changes from {ty} to {found}"));
        }
        if found.rank() != ty.rank() || found.shape.iter().zip(&ty.shape).any(differ) {
            return unsupported(format!("what is {ty} first is {found} then"));
        }
        self.reshape(value, ty.shape.clone())
    }

    /// The tensor with its first axis in the opposite order.
    pub(super) fn flipped(&mut self, value: Value) -> Lowered<Value> {
        let shape = self.ty(value).shape;
        let (mut starts, mut steps) = (vec![Dim::Known(0); shape.len()], vec![1; shape.len()]);
        if let (Some(start), Some(step), Some(size)) = (starts.first_mut(), steps.first_mut(), shape.first()) {
            (*start, *step) = (size.sub(&Dim::Known(1))?, -1);
        }
        self.emit(Op::Movement(Movement::Slice { starts, steps, shape }), &[value])
    }

    /// What the input stands for, for a body that is written out.
    pub(super) fn slot(&mut self, index: usize) -> Lowered<Slot<'m>> {
        let Some(name) = self.node.input.get(index) else { return invalid(format!("input {index} is missing")) };
        match self.lowering.slot(name) {
            Some(slot @ (Slot::Known(_) | Slot::Tensor(_) | Slot::Value(..))) => Ok(slot.clone()),
            _ => self.input(index).map(|value| Slot::Value(value, None)),
        }
    }
}

/// Lowers the graph in `attribute` of the node in the current graph, where `inputs` stand for its inputs: what its
/// outputs stand for. Those from place `values` on are values.
pub(super) fn written_out<'m>(
    site: &mut Site<'_, 'm>,
    graph: &'m GraphProto,
    attribute: &str,
    inputs: Vec<(&'m str, Slot<'m>)>,
    values: usize,
) -> Lowered<Vec<Slot<'m>>> {
    let lowering = &mut *site.lowering;
    lowering.nested_nodes = lowering.nested_nodes.saturating_add(graph.node.len());
    if lowering.nested_nodes > MAX_NESTED_NODES {
        return unsupported(format!("its graphs, written out, have more than {MAX_NESTED_NODES} nodes"));
    }
    if !graph.sparse_initializer.is_empty() {
        return unsupported(format!("its {attribute} has sparse initializers"));
    }
    let initializers = graph.initializer.iter().map(|tensor| tensor.name());
    let made = graph.node.iter().flat_map(|node| &node.output).map(String::as_str);
    let names: Vec<&str> = initializers.chain(inputs.iter().map(|(name, _)| *name)).chain(made).collect();
    let before: Vec<Option<Slot>> = names.iter().map(|name| lowering.slot(name).cloned()).collect();
    let path = format!("{}{}", lowering.path, weight_path(site.node, attribute));
    let outer = std::mem::replace(&mut lowering.path, path);
    let outcome = lower_all(site, graph, attribute, inputs, values);
    site.lowering.path = outer;
    // The graph's names end with it.
    for (name, slot) in names.into_iter().zip(before) {
        site.lowering.restore(name, slot);
    }
    outcome
}

fn lower_all<'m>(
    site: &mut Site<'_, 'm>,
    graph: &'m GraphProto,
    attribute: &str,
    inputs: Vec<(&'m str, Slot<'m>)>,
    values: usize,
) -> Lowered<Vec<Slot<'m>>> {
    let lowering = &mut *site.lowering;
    for (name, slot) in inputs {
        lowering.define(name, slot);
    }
    for tensor in &graph.initializer {
        match lowering.file.tensor(tensor) {
            Some(data) => lowering.define_tensor(tensor.name(), data, Keep::Inline),
            None => return unsupported(format!("an initializer of its {attribute} has an unusual element type")),
        }
    }
    let used = structure::used_names(graph);
    for node in &graph.node {
        super::lower_node(lowering, node, &used)
            .map_err(|refusal| inside(refusal, attribute, &structure::node_name(node)))?;
    }
    let slot = |(place, name): (usize, &'m str)| match lowering.slot(name) {
        Some(slot @ (Slot::Known(_) | Slot::Value(..))) if place < values => Ok(slot.clone()),
        _ => lowering.value(name).map(|value| Slot::Value(value, None)),
    };
    graph.output.iter().map(|output| output.name()).enumerate().map(slot).collect()
}

/// Findings are about nodes of the main graph; one inside a node is named in the reason.
fn inside(refusal: Refusal, attribute: &str, node: &str) -> Refusal {
    let named = |reason: String| format!("in its {attribute}, {node:?}: {reason}");
    match refusal {
        Refusal::Unsupported(reason) => Refusal::Unsupported(named(reason)),
        Refusal::Invalid(reason) => Refusal::Invalid(named(reason)),
        Refusal::Follows => Refusal::Follows,
    }
}

/// The slots that are values.
pub(super) fn values_of(slots: &[Slot<'_>]) -> Lowered<Vec<Value>> {
    let value = |slot: &Slot<'_>| if let Slot::Value(value, _) = slot { Ok(*value) } else { Err(Refusal::Follows) };
    slots.iter().map(value).collect()
}
