//! The state of an import: the graph so far, and what each ONNX name stands for.

use std::collections::{BTreeMap, HashMap};

use lrpc_ir::ops::source::LiteralValues;
use lrpc_ir::ops::{Elementwise, Literal, Movement, Source, WeightPlace};
use lrpc_ir::types::{DType, Float, TensorType};
use lrpc_ir::{Dim, Graph, Measure, NodeId, Op, Origin, Region, Value};

use super::finding::{Lowered, Refusal, invalid, unsupported};
use super::known::Known;
use super::number::way_out;
use crate::onnx::file::ModelFile;
use crate::onnx::tensor::TensorRef;

/// What an ONNX name stands for.
#[derive(Debug, Clone)]
pub(super) enum Slot<'m> {
    /// A value of the graph, and its elements where they are known.
    Value(Value, Option<Known>),
    /// Integers that no node computes yet.
    Known(Known),
    /// A tensor of the model file that nothing uses yet.
    Tensor(Box<Stored<'m>>),
    /// The node that makes it is refused.
    Refused,
}

/// A tensor of the model file.
#[derive(Debug, Clone)]
pub(super) struct Stored<'m> {
    tensor: TensorRef<'m>,
    keep: Keep,
    /// Its elements if they are few integers.
    known: Option<Known>,
    /// Its name among the weights of the file.
    weight: String,
}

/// How a tensor of the file comes into the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// By reference, whatever its size: it is a parameter. A floating-point number without axes is written all the same:
    /// exporters keep the constants of formulas so.
    Reference,
    /// Written in the graph if it is small: it is a constant of the program.
    Inline,
}

/// What the names of one graph stand for.
#[derive(Debug, Default)]
struct Scope<'m> {
    slots: HashMap<&'m str, Slot<'m>>,
    /// The tensors of the file among the graph's values.
    stored: HashMap<Value, TensorRef<'m>>,
    /// What values of the graph around this one are in it.
    captured: HashMap<Value, Value>,
    /// Those that are inputs of this one, in the order of the inputs.
    inputs: Vec<(Value, Value)>,
    /// The symbols of values that were measured.
    measured: HashMap<Value, Dim>,
    /// Integer arithmetic on sizes, so that the same size is computed once and is one symbol.
    shared: HashMap<(Op, Vec<Value>), Value>,
}

/// The inputs of the last graph that decide a value of the first one; none where a loop decides it too. An input of a nested graph stands for a value of
/// the next one, unless it changes from run to run.
fn inputs_behind<'s, 'm: 's>(levels: impl Iterator<Item = (&'s Graph, &'s Scope<'m>)>, value: Value) -> Vec<String> {
    let (mut wanted, mut names) = (vec![value], Vec::new());
    for (graph, scope) in levels {
        let measured = graph.measured_by(wanted.iter().copied());
        let measures = graph.measures.iter().filter(|measure| measured.contains(&measure.symbol));
        wanted.extend(measures.map(|measure| measure.value));
        let is_input = |node: &NodeId| matches!(graph.node(*node).op, Op::Source(Source::Input(_)));
        let inputs: Vec<NodeId> = graph.post_order(wanted).into_iter().filter(is_input).collect();
        names = inputs.iter().map(|node| graph.name((*node).into()).to_string()).collect();
        let captured = |(outer, inner): &(Value, Value)| inputs.contains(&inner.node).then_some(*outer);
        wanted = scope.inputs.iter().filter_map(captured).collect();
        // Which run of a body it is, and what a loop carries, cannot be given.
        if wanted.len() < inputs.len() {
            wanted.clear();
        }
    }
    names
}

/// The graph so far.
pub(super) struct Lowering<'m> {
    pub file: &'m ModelFile,
    /// The main graph, or the nested one that is being made.
    pub graph: Graph,
    /// What the names of weights begin with: empty in the main graph.
    pub path: String,
    /// How many nodes of nested graphs have been lowered.
    pub nested_nodes: usize,
    scope: Scope<'m>,
    /// The graphs around the current one, the main graph first.
    outer: Vec<(Graph, Scope<'m>)>,
}

impl<'m> Lowering<'m> {
    pub(super) fn new(file: &'m ModelFile) -> Self {
        let (graph, scope) = (Graph::new(), Scope::default());
        Self { file, graph, path: String::new(), nested_nodes: 0, scope, outer: Vec::new() }
    }

    // Nested graphs.

    /// Whether the current graph is a nested one.
    pub(super) fn is_nested(&self) -> bool {
        !self.outer.is_empty()
    }

    /// Begins a nested graph.
    pub(super) fn enter(&mut self) {
        let outer = (std::mem::take(&mut self.graph), std::mem::take(&mut self.scope));
        self.outer.push(outer);
    }

    /// Ends the nested graph: the graph, and the values around it that its last inputs stand for.
    pub(super) fn leave(&mut self) -> (Graph, Vec<Value>) {
        let (graph, scope) = self.outer.pop().unwrap_or_default();
        let mut nested = std::mem::replace(&mut self.graph, graph);
        let inputs = std::mem::replace(&mut self.scope, scope).inputs;
        nested.remove_dead();
        let mut captured = Vec::with_capacity(inputs.len());
        for (outer, inner) in inputs {
            if nested.users(inner).is_empty() && !nested.is_returned(inner) {
                nested.remove(inner.node);
            } else {
                captured.push(outer);
            }
        }
        (nested, captured)
    }

    /// What a value of the graph around this one is in this one: a copy of a constant, or an input.
    pub(super) fn capture(&mut self, value: Value) -> Lowered<Value> {
        if let Some(inner) = self.scope.captured.get(&value) {
            return Ok(*inner);
        }
        let Some((graph, scope)) = self.outer.last() else { return invalid("it captures values outside of a body") };
        let (op, ty, name) =
            (graph.node(value.node).op.clone(), graph.ty(value).clone(), graph.name(value).to_string());
        let stored = scope.stored.get(&value).cloned();
        let inner = if matches!(op, Op::Source(Source::Constant(_) | Source::Size(_))) {
            self.add(op, &[], &name, &Origin::default())?
        } else {
            let name = self.graph.fresh_name(&name);
            let input = Op::Source(Source::Input(ty));
            let inner = self.graph.add(Region::Header, input, &[], &name, Origin::default())?;
            self.scope.inputs.push((value, inner));
            inner
        };
        self.scope.captured.insert(value, inner);
        self.scope.stored.extend(stored.map(|stored| (inner, stored)));
        Ok(inner)
    }

    /// What `make` gives in the graph around this one, captured.
    fn outside(&mut self, make: &mut dyn FnMut(&mut Self) -> Lowered<Value>) -> Lowered<Value> {
        let Some((graph, scope)) = self.outer.pop() else { return make(self) };
        let nested = (std::mem::replace(&mut self.graph, graph), std::mem::replace(&mut self.scope, scope));
        let made = make(self);
        self.outer.push((std::mem::replace(&mut self.graph, nested.0), std::mem::replace(&mut self.scope, nested.1)));
        self.capture(made?)
    }

    // Names.

    /// Lets `name` stand for a tensor of the file.
    pub(super) fn define_tensor(&mut self, name: &'m str, tensor: TensorRef<'m>, keep: Keep) {
        let (known, weight) = (known_tensor(&tensor), format!("{}{name}", self.path));
        self.define(name, Slot::Tensor(Box::new(Stored { tensor, keep, known, weight })));
    }

    pub(super) fn define(&mut self, name: &'m str, slot: Slot<'m>) {
        self.scope.slots.insert(name, slot);
    }

    /// Lets `name` stand for what it stood for before.
    pub(super) fn restore(&mut self, name: &'m str, slot: Option<Slot<'m>>) {
        match slot {
            Some(slot) => self.scope.slots.insert(name, slot),
            None => self.scope.slots.remove(name),
        };
    }

    /// What `name` stands for in the current graph.
    pub(super) fn slot(&self, name: &str) -> Option<&Slot<'m>> {
        self.scope.slots.get(name)
    }

    /// What `name` stands for in the current graph or the nearest one around it, with that graph and its tensors.
    fn find(&self, name: &str) -> Option<(&Graph, &Scope<'m>, &Slot<'m>)> {
        self.levels().find_map(|(graph, scope)| Some((graph, scope, scope.slots.get(name)?)))
    }

    /// The names that stand for values, with these values.
    pub(super) fn values(&self) -> BTreeMap<String, Value> {
        let value = |slot: &Slot| if let Slot::Value(value, _) = slot { Some(*value) } else { None };
        self.scope.slots.iter().filter_map(|(name, slot)| Some(((*name).to_string(), value(slot)?))).collect()
    }

    /// The elements of `name`, if they are integers that are known.
    pub(super) fn known(&self, name: &str) -> Option<&Known> {
        match self.find(name)?.2 {
            Slot::Known(known) => Some(known),
            Slot::Value(_, known) => known.as_ref(),
            Slot::Tensor(stored) => stored.known.as_ref(),
            Slot::Refused => None,
        }
    }

    /// The model's inputs that a value of the current graph depends on, through sizes that are measured too.
    pub(super) fn inputs_behind(&self, value: Value) -> Vec<String> {
        inputs_behind(self.levels(), value)
    }

    /// The model's inputs that what `name` stands for depends on.
    pub(super) fn inputs_behind_name(&self, name: &str) -> Vec<String> {
        let mut levels = self.levels();
        while let Some((graph, scope)) = levels.next() {
            if let Some(slot) = scope.slots.get(name) {
                let Slot::Value(value, _) = slot else { return Vec::new() };
                return inputs_behind(std::iter::once((graph, scope)).chain(levels), *value);
            }
        }
        Vec::new()
    }

    /// The current graph and those around it, the main graph last.
    fn levels(&self) -> impl Iterator<Item = (&Graph, &Scope<'m>)> {
        std::iter::once((&self.graph, &self.scope)).chain(self.outer.iter().rev().map(|(graph, scope)| (graph, scope)))
    }

    /// The tensor of the file that `name` stands for.
    pub(super) fn tensor(&self, name: &str) -> Option<TensorRef<'m>> {
        match self.find(name)? {
            (_, _, Slot::Tensor(stored)) => Some(stored.tensor.clone()),
            (_, scope, Slot::Value(value, _)) => scope.stored.get(value).cloned(),
            _ => None,
        }
    }

    /// The tensor of the file that a value of the current graph is.
    pub(super) fn tensor_of(&self, value: Value) -> Option<&TensorRef<'m>> {
        self.scope.stored.get(&value)
    }

    /// The type of `name`.
    pub(super) fn ty(&self, name: &str) -> Lowered<TensorType> {
        match self.find(name) {
            Some((graph, _, Slot::Value(value, _))) => Ok(graph.ty(*value).clone()),
            Some((_, _, Slot::Known(known))) => Ok(known.ty()),
            Some((_, _, Slot::Tensor(stored))) => tensor_type(&stored.tensor),
            Some((_, _, Slot::Refused)) => Err(Refusal::Follows),
            None => invalid(format!("it reads {name:?}, which is not defined")),
        }
    }

    /// The value that `name` stands for; it is added to the graph if nothing has used it before.
    pub(super) fn value(&mut self, name: &'m str) -> Lowered<Value> {
        let (value, known) = match self.scope.slots.get(name).cloned() {
            Some(Slot::Value(value, _)) => return Ok(value),
            Some(Slot::Refused) => return Err(Refusal::Follows),
            Some(Slot::Known(known)) => (self.add_known(&known, name)?, Some(known)),
            Some(Slot::Tensor(stored)) => (self.add_tensor(&stored, name)?, stored.known),
            None if self.is_nested() => {
                let known = self.known(name).cloned();
                match known {
                    Some(known) => (self.add_known(&known, name)?, Some(known)),
                    None => (self.outside(&mut |outer| outer.value(name))?, None),
                }
            }
            None => return invalid(format!("it reads {name:?}, which is not defined")),
        };
        self.define(name, Slot::Value(value, known));
        Ok(value)
    }

    /// Adds an operation to the forward region.
    pub(super) fn add(&mut self, op: Op, operands: &[Value], name: &str, origin: &Origin) -> Lowered<Value> {
        let name = self.graph.fresh_name(name);
        let value = self.graph.add(Region::Forward, op, operands, &name, origin.clone())?;
        match self.graph.ty(value).shape.iter().filter_map(Dim::known).find(|size| *size < 0) {
            Some(size) => invalid(format!("an axis of the result has the length {size}")),
            None => Ok(value),
        }
    }

    /// Adds an `i64` scalar.
    pub(super) fn add_size(&mut self, size: &Dim, name: &str, origin: &Origin) -> Lowered<Value> {
        let source = match size {
            Dim::Known(value) => Source::Constant(Literal {
                ty: TensorType::new(DType::I64, Vec::new()),
                values: LiteralValues::Integers(vec![*value]),
            }),
            symbolic => Source::Size(symbolic.clone()),
        };
        self.add(Op::Source(source), &[], name, origin)
    }

    /// As [`Lowering::add`]; what is there already is not added again.
    pub(super) fn add_shared(&mut self, op: Op, operands: &[Value], name: &str, origin: &Origin) -> Lowered<Value> {
        let key = (op, operands.to_vec());
        if let Some(&value) = self.scope.shared.get(&key) {
            return Ok(value);
        }
        let value = self.add(key.0.clone(), operands, name, origin)?;
        self.scope.shared.insert(key, value);
        Ok(value)
    }

    /// As [`Lowering::measure_as`], under the value's own name.
    pub(super) fn measure(&mut self, value: Value) -> Lowered<Dim> {
        let name = self.graph.name(value).to_string();
        self.measure_as(value, &name)
    }

    /// The number that `value` will hold, an `i64` or `bool` scalar: a symbol called `base`, or so if that is taken, which
    /// a run computes from its inputs.
    ///
    /// # Errors
    /// Inside of nested graphs, whose sizes are known before they run.
    pub(super) fn measure_as(&mut self, value: Value, base: &str) -> Lowered<Dim> {
        if let Some(size) = self.scope.measured.get(&value) {
            return Ok(size.clone());
        }
        if self.is_nested() {
            let way_out = way_out(&self.inputs_behind(value));
            return unsupported(format!("inside of a loop or a branch a size depends on data{way_out}"));
        }
        let is_taken = |name: &str| {
            self.graph.measures.iter().any(|measure| measure.symbol == name)
                || self.graph.input_symbols().contains(name)
        };
        let mut symbol = base.to_string();
        let mut count = 0_u32;
        while is_taken(&symbol) {
            count = count.saturating_add(1);
            symbol = format!("{base}.{count}");
        }
        let size = Dim::symbol(&symbol);
        self.graph.measures.push(Measure { symbol, value });
        self.scope.measured.insert(value, size.clone());
        Ok(size)
    }

    fn add_tensor(&mut self, stored: &Stored<'m>, name: &str) -> Lowered<Value> {
        let number = stored.tensor.dims().is_empty() && stored.tensor.dtype().is_float();
        let literal = if stored.keep == Keep::Reference && !number { None } else { literal(&stored.tensor)? };
        let value = match literal {
            Some(literal) => self.add(Op::Source(Source::Constant(literal)), &[], name, &Origin::default())?,
            None => self.weight(stored)?,
        };
        self.scope.stored.insert(value, stored.tensor.clone());
        Ok(value)
    }

    /// A weight, which stands in the main graph whoever uses it.
    fn weight(&mut self, stored: &Stored<'m>) -> Lowered<Value> {
        if self.is_nested() {
            return self.outside(&mut |outer| outer.weight(stored));
        }
        if let Some(value) = self.graph.find(&stored.weight)
            && matches!(self.graph.node(value.node).op, Op::Source(Source::Weight(..)))
        {
            return Ok(value);
        }
        if self.file.weight(&stored.weight).is_none() {
            return unsupported("it uses a large constant inside nested graphs of very long names");
        }
        let source = Source::Weight(WeightPlace::Model, tensor_type(&stored.tensor)?);
        Ok(self.graph.add(Region::Header, Op::Source(source), &[], &stored.weight, Origin::default())?)
    }

    /// Adds integers to the graph.
    fn add_known(&mut self, known: &Known, name: &str) -> Lowered<Value> {
        let origin = Origin::default();
        if let Some(values) = known.numbers() {
            let literal = Literal { ty: known.ty(), values: LiteralValues::Integers(values) };
            return self.add(Op::Source(Source::Constant(literal)), &[], name, &origin);
        }
        let mut parts = Vec::with_capacity(known.elements.len());
        for element in &known.elements {
            let size = self.add_size(element, &format!("{name}.size"), &origin)?;
            let row = Movement::Reshape { shape: vec![Dim::Known(1)] };
            parts.push(self.add(Op::Movement(row), &[size], &format!("{name}.size"), &origin)?);
        }
        let mut value = match parts.as_slice() {
            [single] => *single,
            _ => self.add(Op::Movement(Movement::Concat { axis: 0 }), &parts, &format!("{name}.sizes"), &origin)?,
        };
        if known.shape.len() != 1 {
            let shape = known.ty().shape;
            value = self.add(Op::Movement(Movement::Reshape { shape }), &[value], name, &origin)?;
        }
        if known.dtype != DType::I64 {
            value = self.add(Op::Elementwise(Elementwise::Cast(known.dtype)), &[value], name, &origin)?;
        }
        self.graph.rename(value, name);
        Ok(value)
    }
}

fn tensor_type(tensor: &TensorRef) -> Lowered<TensorType> {
    let dims = tensor.dims().iter().map(|size| i64::try_from(*size).map(Dim::Known)).collect::<Result<_, _>>();
    match dims {
        Ok(dims) => Ok(TensorType::new(tensor.dtype(), dims)),
        Err(_) => invalid(format!("a tensor of shape {:?} cannot be addressed", tensor.dims())),
    }
}

/// The elements of a tensor that is small enough to be written in the graph.
fn literal(tensor: &TensorRef) -> Lowered<Option<Literal>> {
    if tensor.elements() > Literal::MAX_ELEMENTS as u64 {
        return Ok(None);
    }
    let ty = tensor_type(tensor)?;
    let floats = tensor.floats().map(|values| LiteralValues::Floats(values.into_iter().map(Float).collect()));
    let values = floats.or_else(|| tensor.integers().map(LiteralValues::Integers));
    Ok(values.map(|values| Literal { ty, values }))
}

fn known_tensor(tensor: &TensorRef) -> Option<Known> {
    if tensor.dtype().is_float() || tensor.elements() > Known::MAX_ELEMENTS as u64 {
        return None;
    }
    let elements = tensor.integers()?.into_iter().map(Dim::Known).collect();
    let shape = tensor.dims().iter().map(|size| usize::try_from(*size)).collect::<Result<_, _>>().ok()?;
    Some(Known { dtype: tensor.dtype(), shape, elements })
}
