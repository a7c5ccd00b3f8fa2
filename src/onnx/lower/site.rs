//! One ONNX node on its way into the graph: its attributes and inputs, checked, and what is built in its place.

use std::collections::BTreeSet;

use lrpc_ir::ops::{Binary, Elementwise, Function, Literal, Movement, Source, Unary};
use lrpc_ir::types::{DType, TensorType};
use lrpc_ir::{Dim, Graph, Op, Origin, Region, Value};

use super::evaluate::evaluate;
use super::finding::{Lowered, Refusal, invalid, unsupported};
use super::known::Known;
use super::lowering::{Lowering, Slot};
use super::number::way_out;
use super::sizes::broadcast_shape;
use super::structure::node_name;
use crate::onnx::proto::attribute_proto::AttributeType;
use crate::onnx::proto::{AttributeProto, GraphProto, NodeProto};
use crate::onnx::tensor::TensorRef;

/// A node that is being lowered.
pub(super) struct Site<'s, 'm> {
    pub node: &'m NodeProto,
    /// The version of the node's domain.
    pub opset: i64,
    pub lowering: &'s mut Lowering<'m>,
    origin: Origin,
    /// The attributes that were asked for; others are not supported.
    read: BTreeSet<&'static str>,
    /// The values that were built in this node's place.
    built: Vec<Value>,
}

impl<'s, 'm> Site<'s, 'm> {
    pub(super) fn new(lowering: &'s mut Lowering<'m>, node: &'m NodeProto, opset: i64) -> Self {
        let origin = Origin::from(&scope(node));
        Site { node, opset, lowering, origin, read: BTreeSet::new(), built: Vec::new() }
    }

    // Attributes.

    fn attribute(&mut self, name: &'static str, ty: AttributeType) -> Lowered<Option<&'m AttributeProto>> {
        self.read.insert(name);
        let Some(attribute) = self.node.attribute.iter().find(|attribute| attribute.name() == name) else {
            return Ok(None);
        };
        if !attribute.ref_attr_name().is_empty() {
            return invalid(format!("attribute {name} refers to a function's attribute outside of a function"));
        }
        if attribute.r#type() != ty && attribute.r#type() != AttributeType::Undefined {
            return invalid(format!("attribute {name} has the wrong type"));
        }
        Ok(Some(attribute))
    }

    /// Lets an attribute be, because it changes nothing.
    pub(super) fn ignore(&mut self, name: &'static str) {
        self.read.insert(name);
    }

    pub(super) fn int_or(&mut self, name: &'static str, default: i64) -> Lowered<i64> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    pub(super) fn int(&mut self, name: &'static str) -> Lowered<Option<i64>> {
        Ok(self.attribute(name, AttributeType::Int)?.map(|attribute| attribute.i()))
    }

    pub(super) fn flag(&mut self, name: &'static str, default: bool) -> Lowered<bool> {
        Ok(self.int_or(name, default.into())? != 0)
    }

    pub(super) fn ints(&mut self, name: &'static str) -> Lowered<Option<Vec<i64>>> {
        Ok(self.attribute(name, AttributeType::Ints)?.map(|attribute| attribute.ints.clone()))
    }

    /// A number; the default is given in single precision, as ONNX defines it.
    pub(super) fn float_or(&mut self, name: &'static str, default: f32) -> Lowered<f64> {
        Ok(self.float(name)?.unwrap_or(default.into()))
    }

    pub(super) fn float(&mut self, name: &'static str) -> Lowered<Option<f64>> {
        Ok(self.attribute(name, AttributeType::Float)?.map(|attribute| attribute.f().into()))
    }

    pub(super) fn floats(&mut self, name: &'static str) -> Lowered<Option<Vec<f64>>> {
        let attribute = self.attribute(name, AttributeType::Floats)?;
        Ok(attribute.map(|attribute| attribute.floats.iter().map(|value| (*value).into()).collect()))
    }

    pub(super) fn word_or(&mut self, name: &'static str, default: &str) -> Lowered<String> {
        let attribute = self.attribute(name, AttributeType::String)?;
        Ok(attribute.map_or(default.to_string(), |attribute| String::from_utf8_lossy(attribute.s()).into_owned()))
    }

    pub(super) fn words(&mut self, name: &'static str) -> Lowered<Option<Vec<String>>> {
        let attribute = self.attribute(name, AttributeType::Strings)?;
        let word = |word: &bytes::Bytes| String::from_utf8_lossy(word).into_owned();
        Ok(attribute.map(|attribute| attribute.strings.iter().map(word).collect()))
    }

    pub(super) fn tensor_attribute(&mut self, name: &'static str) -> Lowered<Option<TensorRef<'m>>> {
        let Some(attribute) = self.attribute(name, AttributeType::Tensor)? else { return Ok(None) };
        match attribute.t.as_deref().and_then(|tensor| self.lowering.file.tensor(tensor)) {
            Some(tensor) => Ok(Some(tensor)),
            None => unsupported(format!("attribute {name} has an element type that is not supported")),
        }
    }

    pub(super) fn graph_attribute(&mut self, name: &'static str) -> Lowered<&'m GraphProto> {
        match self.attribute(name, AttributeType::Graph)?.and_then(|attribute| attribute.g.as_deref()) {
            Some(graph) => Ok(graph),
            None => invalid(format!("attribute {name} is missing")),
        }
    }

    // Inputs.

    fn input_name(&self, index: usize) -> Option<&'m str> {
        self.node.input.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    pub(super) fn has_input(&self, index: usize) -> bool {
        self.input_name(index).is_some()
    }

    pub(super) fn input_count(&self) -> usize {
        self.node.input.len()
    }

    fn required(&self, index: usize) -> Lowered<&'m str> {
        match self.input_name(index) {
            Some(name) => Ok(name),
            None => invalid(format!("input {index} is missing")),
        }
    }

    /// The value of input `index`.
    pub(super) fn input(&mut self, index: usize) -> Lowered<Value> {
        let name = self.required(index)?;
        self.lowering.value(name)
    }

    pub(super) fn optional_input(&mut self, index: usize) -> Lowered<Option<Value>> {
        if self.has_input(index) { self.input(index).map(Some) } else { Ok(None) }
    }

    /// All inputs of a variadic operator.
    pub(super) fn all_inputs(&mut self) -> Lowered<Vec<Value>> {
        (0..self.input_count()).map(|index| self.input(index)).collect()
    }

    /// The type of input `index`, which need not be in the graph.
    pub(super) fn input_type(&self, index: usize) -> Lowered<TensorType> {
        self.lowering.ty(self.required(index)?)
    }

    /// The elements of input `index`, if they are known integers.
    pub(super) fn known(&self, index: usize) -> Option<&Known> {
        self.lowering.known(self.input_name(index)?)
    }

    /// The elements of the optional input `index`, which must be integers that are known at import.
    pub(super) fn sizes(&self, index: usize) -> Lowered<Option<Vec<Dim>>> {
        let Some(name) = self.input_name(index) else { return Ok(None) };
        self.lowering.ty(name)?;
        match self.lowering.known(name) {
            Some(known) => Ok(Some(known.elements.clone())),
            None => self.unknown(index, name),
        }
    }

    /// As [`Site::sizes`], and none may be symbolic.
    pub(super) fn numbers(&self, index: usize) -> Lowered<Option<Vec<i64>>> {
        let Some(sizes) = self.sizes(index)? else { return Ok(None) };
        match sizes.iter().map(Dim::known).collect::<Option<Vec<i64>>>() {
            Some(numbers) => Ok(Some(numbers)),
            None => unsupported(format!("input {index} depends on symbolic dimensions")),
        }
    }

    /// The elements of the optional floating-point input `index`, which must be a constant.
    pub(super) fn constant(&self, index: usize) -> Lowered<Option<Vec<f64>>> {
        let Some(name) = self.input_name(index) else { return Ok(None) };
        self.lowering.ty(name)?;
        match self.constant_of(name) {
            Some(values) => Ok(Some(values)),
            None => self.unknown(index, name),
        }
    }

    /// Refuses an input that has to be known.
    fn unknown<T>(&self, index: usize, name: &str) -> Lowered<T> {
        let way_out = way_out(&self.lowering.inputs_behind_name(name));
        unsupported(format!("input {index} ({name:?}) is computed when the model runs{way_out}"))
    }

    /// The single element of input `index`, if it is a constant of one element.
    pub(super) fn constant_scalar(&self, index: usize) -> Option<f64> {
        let name = self.input_name(index)?;
        if self.lowering.tensor(name).is_some_and(|tensor| tensor.elements() != 1) {
            return None;
        }
        match self.constant_of(name)?.as_slice() {
            [single] => Some(*single),
            _ => None,
        }
    }

    fn constant_of(&self, name: &str) -> Option<Vec<f64>> {
        if let Some(known) = self.lowering.known(name) {
            return known.numbers()?.into_iter().map(exact).collect();
        }
        if let Some(tensor) = self.lowering.tensor(name) {
            return tensor.floats();
        }
        match self.lowering.slot(name)? {
            Slot::Value(value, _) => evaluate(self.lowering, *value),
            _ => None,
        }
    }

    /// The elements of the floating-point input `index`, if they are few and constant.
    pub(super) fn small_constant(&self, index: usize) -> Option<Vec<f64>> {
        let name = self.input_name(index)?;
        let ty = self.lowering.ty(name).ok().filter(|ty| ty.dtype.is_float())?;
        let count = ty.elements().ok()?.known()?;
        if usize::try_from(count).is_ok_and(|count| count <= Known::MAX_ELEMENTS) {
            self.constant_of(name)
        } else {
            None
        }
    }

    // Building.

    /// Adds an operation, named after the node's first output until it becomes an output itself.
    pub(super) fn emit(&mut self, op: Op, operands: &[Value]) -> Lowered<Value> {
        let name = self.name_of(op.mnemonic());
        let operands = &self.meet(&op, operands)?;
        let value = self.lowering.add(op, operands, &name, &self.origin)?;
        self.built.push(value);
        Ok(value)
    }

    /// As [`Site::emit`], for an operation with several results.
    pub(super) fn emit_many(&mut self, op: Op, operands: &[Value], results: usize) -> Lowered<Vec<Value>> {
        let graph = &mut self.lowering.graph;
        let base = name_of(self.node, op.mnemonic());
        let names: Vec<String> = (0..results).map(|port| format!("{base}.{port}")).collect();
        let names = graph.fresh_names(names.iter().map(String::as_str));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let node = graph.add_many(Region::Forward, op, operands, &names, self.origin.clone())?;
        let values: Vec<Value> = (0..results as u32).map(|port| Value { node, port }).collect();
        self.built.extend(&values);
        Ok(values)
    }

    /// What `build` makes in a nested graph: the graph, what `build` gives, and the captured values.
    pub(super) fn nested<T>(&mut self, build: impl FnOnce(&mut Self) -> Lowered<T>) -> Lowered<(Graph, T, Vec<Value>)> {
        let built = std::mem::take(&mut self.built);
        self.lowering.enter();
        let made = build(self);
        let (graph, captured) = self.lowering.leave();
        self.built = built;
        Ok((graph, made?, captured))
    }

    /// An input of the nested graph that is being made.
    pub(super) fn nested_input(&mut self, ty: TensorType, name: &str) -> Lowered<Value> {
        let name = self.lowering.graph.fresh_name(name);
        let input = Op::Source(Source::Input(ty));
        Ok(self.lowering.graph.add(Region::Header, input, &[], &name, Origin::default())?)
    }

    /// Where what is built here comes from.
    pub(super) fn origin(&self) -> Origin {
        self.origin.clone()
    }

    pub(super) fn name_of(&self, part: &str) -> String {
        name_of(self.node, part)
    }

    pub(super) fn ty(&self, value: Value) -> TensorType {
        self.lowering.graph.ty(value).clone()
    }

    pub(super) fn literal(&mut self, literal: Literal) -> Lowered<Value> {
        self.emit(Op::Source(Source::Constant(literal)), &[])
    }

    /// An `i64` scalar that is `size`.
    pub(super) fn size(&mut self, size: &Dim) -> Lowered<Value> {
        let value = self.lowering.add_size(size, &self.name_of("size"), &self.origin.clone())?;
        self.built.push(value);
        Ok(value)
    }

    /// A tensor whose elements all are `value`.
    pub(super) fn filled(&mut self, ty: TensorType, value: f64) -> Lowered<Value> {
        self.literal(Literal::filled(ty, value))
    }

    pub(super) fn unary(&mut self, function: Function, parameters: [f64; 2], x: Value) -> Lowered<Value> {
        let unary = Unary::with2(function, parameters[0], parameters[1]);
        self.emit(Op::Elementwise(Elementwise::Unary(unary)), &[x])
    }

    /// An element-wise operation on operands that are broadcast to one shape.
    pub(super) fn elementwise(&mut self, op: Elementwise, operands: &[Value]) -> Lowered<Value> {
        let operands = self.broadcast_all(operands)?;
        self.emit(Op::Elementwise(op), &operands)
    }

    pub(super) fn binary(&mut self, op: Binary, a: Value, b: Value) -> Lowered<Value> {
        self.elementwise(Elementwise::Binary(op), &[a, b])
    }

    pub(super) fn cast(&mut self, x: Value, dtype: DType) -> Lowered<Value> {
        if self.ty(x).dtype == dtype { Ok(x) } else { self.emit(Op::Elementwise(Elementwise::Cast(dtype)), &[x]) }
    }

    pub(super) fn reshape(&mut self, x: Value, shape: Vec<Dim>) -> Lowered<Value> {
        if self.ty(x).shape == shape { Ok(x) } else { self.emit(Op::Movement(Movement::Reshape { shape }), &[x]) }
    }

    pub(super) fn transpose(&mut self, x: Value, perm: Vec<usize>) -> Lowered<Value> {
        if perm.iter().copied().eq(0..self.ty(x).rank()) {
            return Ok(x);
        }
        self.emit(Op::Movement(Movement::Transpose { perm }), &[x])
    }

    pub(super) fn broadcast(&mut self, x: Value, shape: &[Dim]) -> Lowered<Value> {
        let x = self.conform(x, shape)?;
        if self.ty(x).shape == shape {
            return Ok(x);
        }
        self.emit(Op::Movement(Movement::Broadcast { shape: shape.to_vec() }), &[x])
    }

    pub(super) fn broadcast_all(&mut self, operands: &[Value]) -> Lowered<Vec<Value>> {
        let mut shape = Vec::new();
        for operand in operands {
            shape = broadcast_shape(&shape, &self.ty(*operand).shape)?;
        }
        operands.iter().map(|operand| self.broadcast(*operand, &shape)).collect()
    }

    // Outputs.

    pub(super) fn has_output(&self, index: usize) -> bool {
        self.node.output.get(index).is_some_and(|name| !name.is_empty())
    }

    /// Lets output `index` be `value`. What was built here takes the output's name; anything else has its own.
    pub(super) fn output(&mut self, index: usize, value: Value) -> Lowered {
        let Some(name) = self.node.output.get(index).filter(|name| !name.is_empty()) else { return Ok(()) };
        if let Some(at) = self.built.iter().position(|built| *built == value) {
            self.built.remove(at);
            // The names of nested graphs are their own, and bodies are written out more than once.
            let graph = &mut self.lowering.graph;
            let own = if self.lowering.path.is_empty() { name.clone() } else { graph.fresh_name(name) };
            graph.rename(value, &own);
        }
        self.lowering.define(name, Slot::Value(value, None));
        Ok(())
    }

    /// Lets output `index` be what stands in a slot.
    pub(super) fn output_slot(&mut self, index: usize, slot: Slot<'m>) -> Lowered {
        match slot {
            Slot::Value(value, _) => self.output(index, value),
            Slot::Known(known) => {
                self.output_known(index, known);
                Ok(())
            }
            Slot::Tensor(_) | Slot::Refused => Err(Refusal::Follows),
        }
    }

    /// Lets output `index` be integers that need no node.
    pub(super) fn output_known(&mut self, index: usize, known: Known) {
        if let Some(name) = self.node.output.get(index).filter(|name| !name.is_empty()) {
            self.lowering.define(name, Slot::Known(known));
        }
    }

    /// Refuses a node with an attribute that nothing has asked for.
    pub(super) fn check_attributes(&self) -> Lowered {
        match self.node.attribute.iter().find(|attribute| !self.read.contains(attribute.name())) {
            Some(attribute) => unsupported(format!("the attribute {} is not known", attribute.name())),
            None => Ok(()),
        }
    }
}

fn name_of(node: &NodeProto, part: &str) -> String {
    let output = node.output.iter().find(|name| !name.is_empty()).map_or("unnamed", String::as_str);
    format!("{output}.{part}")
}

/// An axis that may count from the end.
pub(super) fn axis(axis: i64, rank: usize) -> Lowered<usize> {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let counted = if axis < 0 { axis.saturating_add(signed) } else { axis };
    match usize::try_from(counted) {
        Ok(index) if index < rank => Ok(index),
        _ => invalid(format!("axis {axis} is outside of rank {rank}")),
    }
}

/// An integer as a floating-point number, if it is one.
fn exact(value: i64) -> Option<f64> {
    let float = value as f64;
    (value.unsigned_abs() <= 1 << f64::MANTISSA_DIGITS).then_some(float)
}

/// Where a node comes from, for reports: its module and operation where the exporter tells and the node's own name
/// is only a number in a row, else its name.
fn scope(node: &NodeProto) -> String {
    let scopes = node.metadata_props.iter().find(|property| property.key() == "pkg.torch.onnx.name_scopes");
    let numbered = node.name().is_empty() || node.name().starts_with("node_");
    match scopes.map(|property| scope_path(property.value())) {
        Some(path) if numbered && !path.is_empty() => path,
        _ => node_name(node),
    }
}

/// `['', 'features', 'features.0', 'conv2d']` → `features.0/conv2d`: each scope repeats the one around it.
fn scope_path(list: &str) -> String {
    let scopes: Vec<&str> = list
        .trim_matches(['[', ']'])
        .split(',')
        .map(|scope| scope.trim().trim_matches(['\'', '"']))
        .filter(|scope| !scope.is_empty())
        .collect();
    let repeated = |scope: &str, next: Option<&&str>| {
        next.is_some_and(|next| next.strip_prefix(scope).is_some_and(|rest| rest.starts_with('.')))
    };
    let kept = scopes.iter().enumerate().filter(|(place, scope)| !repeated(scope, scopes.get(place + 1)));
    kept.map(|(_, scope)| *scope).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_that_repeat_their_parent_are_left_out() {
        assert_eq!(scope_path("['', 'features', 'features.0', 'features.0.2', 'silu']"), "features.0.2/silu");
        assert_eq!(scope_path("['', 'view']"), "view");
        assert_eq!(scope_path("[]"), "");
    }
}
