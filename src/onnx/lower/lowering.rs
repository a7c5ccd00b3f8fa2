//! The state of an import: the graph so far, and what each ONNX name stands for.

use std::collections::{BTreeMap, HashMap};

use lrpc_ir::ops::source::LiteralValues;
use lrpc_ir::ops::{Elementwise, Literal, Movement, Source, WeightPlace};
use lrpc_ir::types::{DType, Float, TensorType};
use lrpc_ir::{Dim, Graph, Measure, Op, Origin, Region, Value};

use super::finding::{Lowered, Refusal, invalid, unsupported};
use super::known::Known;
use crate::onnx::file::ModelFile;
use crate::onnx::tensor::TensorRef;

/// What an ONNX name stands for.
#[derive(Debug, Clone)]
pub(super) enum Slot<'m> {
    /// A value of the graph, and its elements where they are known.
    Value(Value, Option<Known>),
    /// Integers that no node computes yet.
    Known(Known),
    /// A tensor of the model file that nothing uses yet, and its elements if they are few integers.
    Tensor(TensorRef<'m>, Keep, Option<Known>),
    /// The node that makes it is refused.
    Refused,
}

/// How a tensor of the file comes into the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// By reference, whatever its size: it is a parameter. A floating-point number without axes is written all the same:
    /// exporters keep the constants of formulas so.
    Reference,
    /// Written in the graph if it is small: it is a constant of the program.
    Inline,
    /// Written in the graph, or refused: it is defined inside a branch, and a reference is to a name of the main graph.
    InlineOnly,
}

/// The graph so far.
pub(super) struct Lowering<'m> {
    pub file: &'m ModelFile,
    pub graph: Graph,
    /// How many branches of conditionals the current node is in.
    pub depth: u32,
    /// Whether the graph is a nested one, in which no size may depend on data.
    pub nested: bool,
    slots: HashMap<&'m str, Slot<'m>>,
    /// The symbols of values that were measured.
    measured: HashMap<Value, Dim>,
    /// Integer arithmetic on sizes, so that the same size is computed once and is one symbol.
    shared: HashMap<(Op, Vec<Value>), Value>,
}

impl<'m> Lowering<'m> {
    pub(super) fn new(file: &'m ModelFile) -> Self {
        Self {
            file,
            graph: Graph::new(),
            depth: 0,
            nested: false,
            slots: HashMap::new(),
            measured: HashMap::new(),
            shared: HashMap::new(),
        }
    }

    /// Lets `name` stand for a tensor of the file.
    pub(super) fn define_tensor(&mut self, name: &'m str, tensor: TensorRef<'m>, keep: Keep) {
        let keep = if self.depth > 0 { Keep::InlineOnly } else { keep };
        let known = known_tensor(&tensor);
        self.slots.insert(name, Slot::Tensor(tensor, keep, known));
    }

    pub(super) fn define(&mut self, name: &'m str, slot: Slot<'m>) {
        self.slots.insert(name, slot);
    }

    /// Lets `name` stand for what it stood for before.
    pub(super) fn restore(&mut self, name: &'m str, slot: Option<Slot<'m>>) {
        match slot {
            Some(slot) => self.slots.insert(name, slot),
            None => self.slots.remove(name),
        };
    }

    pub(super) fn slot(&self, name: &str) -> Option<&Slot<'m>> {
        self.slots.get(name)
    }

    /// The names that stand for values, with these values.
    pub(super) fn values(&self) -> BTreeMap<String, Value> {
        let value = |slot: &Slot| if let Slot::Value(value, _) = slot { Some(*value) } else { None };
        self.slots.iter().filter_map(|(name, slot)| Some(((*name).to_string(), value(slot)?))).collect()
    }

    /// The elements of `name`, if they are integers that are known.
    pub(super) fn known(&self, name: &str) -> Option<&Known> {
        match self.slots.get(name)? {
            Slot::Known(known) => Some(known),
            Slot::Value(_, known) | Slot::Tensor(_, _, known) => known.as_ref(),
            Slot::Refused => None,
        }
    }

    /// The tensor of the file that `name` stands for.
    pub(super) fn tensor(&self, name: &str) -> Option<TensorRef<'m>> {
        match self.slots.get(name)? {
            Slot::Tensor(tensor, ..) => Some(tensor.clone()),
            // A tensor that is in use already is found again under its name.
            Slot::Value(value, _)
                if matches!(self.graph.node(value.node).op, Op::Source(Source::Weight(..) | Source::Constant(_))) =>
            {
                self.file.weight(self.graph.name(*value))
            }
            _ => None,
        }
    }

    /// The type of `name`.
    pub(super) fn ty(&self, name: &str) -> Lowered<TensorType> {
        match self.slots.get(name) {
            Some(Slot::Value(value, _)) => Ok(self.graph.ty(*value).clone()),
            Some(Slot::Known(known)) => Ok(known.ty()),
            Some(Slot::Tensor(tensor, ..)) => tensor_type(tensor),
            Some(Slot::Refused) => Err(Refusal::Follows),
            None => invalid(format!("it reads {name:?}, which is not defined")),
        }
    }

    /// The value that `name` stands for; it is added to the graph if nothing has used it before.
    pub(super) fn value(&mut self, name: &'m str) -> Lowered<Value> {
        let (value, known) = match self.slots.get(name).cloned() {
            Some(Slot::Value(value, _)) => return Ok(value),
            Some(Slot::Refused) => return Err(Refusal::Follows),
            Some(Slot::Known(known)) => (self.add_known(&known, name)?, Some(known)),
            Some(Slot::Tensor(tensor, keep, known)) => (self.add_tensor(&tensor, keep, name)?, known),
            None => return invalid(format!("it reads {name:?}, which is not defined")),
        };
        self.slots.insert(name, Slot::Value(value, known));
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
        if let Some(&value) = self.shared.get(&key) {
            return Ok(value);
        }
        let value = self.add(key.0.clone(), operands, name, origin)?;
        self.shared.insert(key, value);
        Ok(value)
    }

    /// The number that `value` will hold, an `i64` or `bool` scalar: a symbol that a run computes from its inputs.
    ///
    /// # Errors
    /// Inside of nested graphs, whose sizes are known before they run.
    pub(super) fn measure(&mut self, value: Value) -> Lowered<Dim> {
        if let Some(size) = self.measured.get(&value) {
            return Ok(size.clone());
        }
        if self.nested {
            return unsupported("inside of a loop or a branch a size depends on data");
        }
        let base = self.graph.name(value).to_string();
        let is_taken = |name: &str| {
            self.graph.measures.iter().any(|measure| measure.symbol == name)
                || self.graph.input_symbols().contains(name)
        };
        let mut symbol = base.clone();
        let mut count = 0_u32;
        while is_taken(&symbol) {
            count = count.saturating_add(1);
            symbol = format!("{base}.{count}");
        }
        let size = Dim::symbol(&symbol);
        self.graph.measures.push(Measure { symbol, value });
        self.measured.insert(value, size.clone());
        Ok(size)
    }

    fn add_tensor(&mut self, tensor: &TensorRef, keep: Keep, name: &str) -> Lowered<Value> {
        let number = tensor.dims().is_empty() && tensor.dtype().is_float();
        let literal = if keep == Keep::Reference && !number { None } else { literal(tensor)? };
        let source = match literal {
            Some(literal) => return self.add(Op::Source(Source::Constant(literal)), &[], name, &Origin::default()),
            None if keep == Keep::InlineOnly => {
                return unsupported("it uses a large constant that is defined inside a branch");
            }
            None => Source::Weight(WeightPlace::Model, tensor_type(tensor)?),
        };
        Ok(self.graph.add(Region::Header, Op::Source(source), &[], name, Origin::default())?)
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
