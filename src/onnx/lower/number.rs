//! Integers that decide sizes: expressions over sizes where they are known at import, scalars of the graph where data
//! decides them. Arithmetic on the former leaves no nodes.

use lrpc_ir::ops::source::LiteralValues;
use lrpc_ir::ops::{Binary, Compare, Elementwise, Function, Literal, Movement, Source};
use lrpc_ir::types::{DType, TensorType};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, unsupported};
use super::known::Known;
use super::site::Site;

/// An integer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Number {
    /// An expression over sizes.
    Size(Dim),
    /// An `i64` scalar that is computed when the model runs.
    Data(Value),
}

impl Number {
    /// The expression, if it is one.
    pub(super) fn size(&self) -> Option<&Dim> {
        if let Number::Size(size) = self { Some(size) } else { None }
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Number {
        Number::Size(Dim::Known(value))
    }
}

impl From<Dim> for Number {
    fn from(size: Dim) -> Number {
        Number::Size(size)
    }
}

/// What to do where something that depends on these inputs of the model has to be known at import.
pub(super) fn way_out(inputs: &[String]) -> String {
    let given: Vec<String> = inputs.iter().map(|name| format!("--given {name}=FILE")).collect();
    if given.is_empty() { String::new() } else { format!("; fix it when compiling with {}", given.join(" ")) }
}

/// How many operations are followed back from a value.
const DEPTH: u32 = 16;

impl Site<'_, '_> {
    /// The elements of the optional input `index`, rounded down if they are no integers.
    ///
    /// # Errors
    /// A number of elements that is not known.
    pub(super) fn integers(&mut self, index: usize) -> Lowered<Option<Vec<Number>>> {
        if !self.has_input(index) {
            return Ok(None);
        }
        if let Some(known) = self.known(index) {
            return Ok(Some(known.elements.iter().cloned().map(Number::Size).collect()));
        }
        let value = self.input(index)?;
        match self.elements_of(value, DEPTH)? {
            Some(numbers) => Ok(Some(numbers)),
            None => unsupported(format!(
                "input {index} has {} elements, a number that decides how many axes there are{}",
                self.ty(value),
                self.way_out(value)
            )),
        }
    }

    /// Whether those of the inputs that are there have known elements.
    pub(super) fn known_inputs(&self, mut inputs: std::ops::Range<usize>) -> bool {
        inputs.all(|index| !self.has_input(index) || self.known(index).is_some())
    }

    /// The single element of the optional input `index`.
    pub(super) fn integer(&mut self, index: usize) -> Lowered<Option<Number>> {
        match self.integers(index)?.as_deref() {
            None => Ok(None),
            Some([one]) => Ok(Some(one.clone())),
            Some(many) => super::finding::invalid(format!("input {index} has {} elements, expected one", many.len())),
        }
    }

    /// The elements of a value, if they are few.
    fn elements_of(&mut self, value: Value, depth: u32) -> Lowered<Option<Vec<Number>>> {
        let ty = self.ty(value);
        let count = ty.elements()?.known().and_then(|count| usize::try_from(count).ok());
        let Some(count) = count.filter(|count| *count <= Known::MAX_ELEMENTS) else { return Ok(None) };
        if let Some(depth) = depth.checked_sub(1)
            && let Some(found) = self.look_through(value, count, depth)?
        {
            return Ok(Some(found));
        }
        let flat = self.share_reshape(value, vec![Dim::Known(i64::try_from(count).unwrap_or(i64::MAX))])?;
        let mut numbers = Vec::with_capacity(count);
        for place in 0_i64.. {
            if numbers.len() == count {
                break;
            }
            let part = Movement::slice_axis(&self.ty(flat), 0, Dim::Known(place), Dim::Known(1));
            let part = if count == 1 { flat } else { self.share(Op::Movement(part), &[flat])? };
            let scalar = self.share_reshape(part, Vec::new())?;
            numbers.push(Number::Data(self.share_cast(scalar, DType::I64)?));
        }
        Ok(Some(numbers))
    }

    /// The elements of what puts known and unknown ones together.
    fn look_through(&mut self, value: Value, count: usize, depth: u32) -> Lowered<Option<Vec<Number>>> {
        let graph = &self.lowering.graph;
        let ty = graph.ty(value).clone();
        if ty.dtype.is_float() {
            return Ok(None);
        }
        let operands = graph.operands(value.node);
        Ok(match &graph.node(value.node).op {
            Op::Source(Source::Size(size)) => Some(vec![Number::Size(size.clone())]),
            Op::Source(Source::Constant(Literal { values: LiteralValues::Integers(values), .. })) => {
                let all = values.iter().map(|value| Number::from(*value));
                Some(if values.len() == 1 { all.cycle().take(count).collect() } else { all.collect() })
            }
            Op::Movement(Movement::Reshape { .. }) | Op::Elementwise(Elementwise::Cast(DType::I64 | DType::I32)) => {
                match operands.first() {
                    Some(&operand) if !self.ty(operand).dtype.is_float() => self.elements_of(operand, depth)?,
                    _ => None,
                }
            }
            Op::Movement(Movement::Concat { axis: 0 }) if ty.rank() == 1 => {
                let mut all = Vec::new();
                for operand in operands {
                    match self.elements_of(operand, depth)? {
                        Some(part) => all.extend(part),
                        None => return Ok(None),
                    }
                }
                Some(all)
            }
            _ => None,
        }
        .filter(|numbers| numbers.len() == count))
    }

    /// What to do where a value that depends on graph inputs has to be known at import; empty if it depends on none.
    pub(super) fn way_out(&self, value: Value) -> String {
        way_out(&self.lowering.inputs_behind(value))
    }

    // Building.

    fn share(&mut self, op: Op, operands: &[Value]) -> Lowered<Value> {
        let name = self.name_of(op.mnemonic());
        let origin = self.origin();
        self.lowering.add_shared(op, operands, &name, &origin)
    }

    fn share_reshape(&mut self, x: Value, shape: Vec<Dim>) -> Lowered<Value> {
        if self.ty(x).shape == shape { Ok(x) } else { self.share(Op::Movement(Movement::Reshape { shape }), &[x]) }
    }

    fn share_cast(&mut self, x: Value, dtype: DType) -> Lowered<Value> {
        if self.ty(x).dtype == dtype {
            return Ok(x);
        }
        let floor = Elementwise::Unary(lrpc_ir::ops::Unary::plain(Function::Floor));
        let x = if self.ty(x).dtype.is_float() { self.share(Op::Elementwise(floor), &[x])? } else { x };
        self.share(Op::Elementwise(Elementwise::Cast(dtype)), &[x])
    }

    /// The number as an `i64` scalar.
    pub(super) fn number_value(&mut self, number: &Number) -> Lowered<Value> {
        let source = match number {
            Number::Data(value) => return Ok(*value),
            Number::Size(Dim::Known(value)) => Source::Constant(Literal {
                ty: TensorType::new(DType::I64, Vec::new()),
                values: LiteralValues::Integers(vec![*value]),
            }),
            Number::Size(size) => Source::Size(size.clone()),
        };
        self.share(Op::Source(source), &[])
    }

    /// The number as a size, which a run computes where data decides it.
    ///
    /// # Errors
    /// In nested graphs, where data decides it.
    pub(super) fn measure(&mut self, number: &Number) -> Lowered<Dim> {
        match number {
            Number::Size(size) => Ok(size.clone()),
            Number::Data(value) => {
                let name = self.name_of("size");
                self.lowering.measure_as(*value, &name)
            }
        }
    }

    /// All numbers as sizes.
    pub(super) fn measure_all(&mut self, numbers: &[Number]) -> Lowered<Vec<Dim>> {
        numbers.iter().map(|number| self.measure(number)).collect()
    }

    /// Sum, difference, product, quotient (of numbers that are not negative), maximum or minimum.
    pub(super) fn combine(&mut self, op: Binary, a: &Number, b: &Number) -> Lowered<Number> {
        if let (Number::Size(a), Number::Size(b)) = (a, b) {
            let found = match op {
                Binary::Add => Some(a.add(b)),
                Binary::Sub => Some(a.sub(b)),
                Binary::Mul => Some(a.mul(b)),
                Binary::Div => Some(a.floor_div(b)),
                Binary::Max => Some(a.maximum(b)),
                Binary::Min => Some(a.minimum(b)),
                _ => None,
            };
            if let Some(found) = found {
                return Ok(Number::Size(found?));
            }
        }
        let (a, b) = (self.number_value(a)?, self.number_value(b)?);
        Ok(Number::Data(self.share(Op::Elementwise(Elementwise::Binary(op)), &[a, b])?))
    }

    /// `then` where `a` and `b` compare so, else `otherwise`.
    pub(super) fn choose(
        &mut self,
        (compare, a, b): (Compare, &Number, &Number),
        then: &Number,
        otherwise: &Number,
    ) -> Lowered<Number> {
        if let (Some(Dim::Known(a)), Some(Dim::Known(b))) = (a.size(), b.size()) {
            let holds = match compare {
                Compare::Less => a < b,
                Compare::Greater => a > b,
                Compare::Equal => a == b,
                Compare::LessOrEqual => a <= b,
                Compare::GreaterOrEqual => a >= b,
            };
            return Ok(if holds { then.clone() } else { otherwise.clone() });
        }
        if then == otherwise {
            return Ok(then.clone());
        }
        let (a, b) = (self.number_value(a)?, self.number_value(b)?);
        let holds = self.share(Op::Elementwise(Elementwise::Compare(compare)), &[a, b])?;
        let (then, otherwise) = (self.number_value(then)?, self.number_value(otherwise)?);
        Ok(Number::Data(self.share(Op::Elementwise(Elementwise::Where), &[holds, then, otherwise])?))
    }

    /// `⌈distance / step⌉`, or 0 where the distance is negative. The step is positive; one of 0 gives −1, which is no
    /// size.
    pub(super) fn steps(&mut self, distance: &Number, step: &Number) -> Lowered<Number> {
        let (stated, one) = (step, Number::from(1));
        let step = &self.combine(Binary::Max, step, &one)?;
        let distance = self.combine(Binary::Max, distance, &0.into())?;
        let less = self.combine(Binary::Sub, step, &1.into())?;
        let reach = self.combine(Binary::Add, &distance, &less)?;
        let steps = self.combine(Binary::Div, &reach, step)?;
        self.choose((Compare::Less, stated, &one), &Number::from(-1), &steps)
    }
}
