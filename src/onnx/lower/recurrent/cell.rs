//! One step of a recurrent cell.

use lrpc_ir::ops::{Binary, Dot, Function, Linear, Movement};
use lrpc_ir::{Dim, Op, Value};

use super::super::finding::{Lowered, Refusal, invalid};
use super::super::site::Site;
use super::activation::Activation;
use super::sum;

/// The kinds of cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell {
    /// `h' = f([x, h]·W)`.
    Plain,
    /// Gates z (how much stays), r (what is reset) and the candidate.
    Gru {
        /// Whether the reset gate is applied after the hidden state's linear map.
        reset_after: bool,
    },
    /// Gates i, o, f and the candidate, over a memory.
    Lstm {
        /// Whether the forget gate is `1 − i`.
        coupled: bool,
    },
}

impl Cell {
    /// The names of its activations, one for all gates first.
    pub(super) fn activations(self) -> &'static [&'static str] {
        match self {
            Cell::Plain => &["Tanh"],
            Cell::Gru { .. } => &["Sigmoid", "Tanh"],
            Cell::Lstm { .. } => &["Sigmoid", "Tanh", "Tanh"],
        }
    }

    fn gates(self) -> usize {
        match self {
            Cell::Plain => 1,
            Cell::Gru { .. } => 3,
            Cell::Lstm { .. } => 4,
        }
    }

    pub(super) fn has_memory(self) -> bool {
        matches!(self, Cell::Lstm { .. })
    }

    /// Whether input and hidden state of the gate at `place` have linear maps of their own.
    fn is_apart(self, place: usize) -> bool {
        self == Cell::Gru { reset_after: true } && place == 2
    }
}

/// A linear map with its bias.
#[derive(Debug, Clone, Copy)]
struct Map {
    weight: Value,
    bias: Option<Value>,
}

/// The linear maps of a direction.
#[derive(Debug, Clone)]
pub(super) struct Weights {
    /// One for each gate on `[x, h]`; on `x` where the hidden state's is apart.
    gates: Vec<Map>,
    /// The candidate's on `[x, h]` that sees the hidden state alone, where that is apart.
    apart: Option<Map>,
    /// The memory's weights in the gates i, o, f.
    peepholes: Vec<Value>,
}

/// What is carried.
pub(super) struct State {
    pub(super) hidden: Value,
    pub(super) memory: Option<Value>,
}

/// Part `place` of the first axis, under another shape.
pub(super) fn part(site: &mut Site, x: Value, place: usize, shape: Vec<Dim>) -> Lowered<Value> {
    let ty = site.ty(x);
    let start = super::super::known::dim(place);
    let whole = ty.shape.first() == Some(&Dim::Known(1)) && place == 0;
    let slice = Op::Movement(Movement::slice_axis(&ty, 0, start, Dim::Known(1)));
    let row = if whole { x } else { site.emit(slice, &[x])? };
    site.reshape(row, shape)
}

/// Rows `place·size` to `(place + 1)·size`.
fn rows(site: &mut Site, x: Value, place: usize, size: &Dim) -> Lowered<Value> {
    let ty = site.ty(x);
    if ty.shape.first() == Some(size) && place == 0 {
        return Ok(x);
    }
    let start = size.mul(&super::super::known::dim(place))?;
    site.emit(Op::Movement(Movement::slice_axis(&ty, 0, start, size.clone())), &[x])
}

impl Weights {
    /// The weights of a direction: `[W_gate, R_gate]` for each gate, with the sum of both biases.
    pub(super) fn read(site: &mut Site, cell: Cell, direction: usize, hidden: &Dim) -> Lowered<Weights> {
        let mut of_direction = |index: usize| -> Lowered<Option<Value>> {
            let Some(value) = site.optional_input(index)? else { return Ok(None) };
            let shape = site.ty(value).shape.get(1..).map(<[Dim]>::to_vec);
            let shape = shape.map_or_else(|| invalid(format!("input {index} is a scalar")), Ok)?;
            part(site, value, direction, shape).map(Some)
        };
        let (Some(input), Some(recurrence)) = (of_direction(1)?, of_direction(2)?) else {
            return invalid("its weights are missing");
        };
        let bias = of_direction(3)?;
        let peepholes = if cell.has_memory() { of_direction(7)? } else { None };
        let mut weights = Weights { gates: Vec::new(), apart: None, peepholes: Vec::new() };
        for gate in 0..cell.gates() {
            let (x, h) = (rows(site, input, gate, hidden)?, rows(site, recurrence, gate, hidden)?);
            let mut biases = Vec::new();
            if let Some(bias) = bias {
                biases.push(rows(site, bias, gate, hidden)?);
                biases.push(rows(site, bias, gate.saturating_add(cell.gates()), hidden)?);
            }
            let (first, second) = (biases.first().copied(), biases.get(1).copied());
            if cell.is_apart(gate) {
                weights.gates.push(Map { weight: x, bias: first });
                // The input has a part in it, of weight 0, so that a first state that is constant makes no constant of it
                // and the gate before it a factor like any other.
                let zero = site.ty(x);
                let zero = site.filled(zero, 0.0)?;
                weights.apart = Some(Map { weight: join(site, zero, h)?, bias: second });
            } else {
                let bias = first.map(|first| sum(site, first, second)).transpose()?;
                weights.gates.push(Map { weight: join(site, x, h)?, bias });
            }
        }
        for place in (0..3).take_while(|_| peepholes.is_some()) {
            weights.peepholes.extend(peepholes.map(|all| rows(site, all, place, hidden)).transpose()?);
        }
        Ok(weights)
    }

    /// The same in the nested graph that is being made.
    pub(super) fn captured(&self, site: &mut Site) -> Lowered<Weights> {
        let mut value = |value: Value| site.lowering.capture(value);
        let mut map = |map: &Map| -> Lowered<Map> {
            Ok(Map { weight: value(map.weight)?, bias: map.bias.map(&mut value).transpose()? })
        };
        let gates = self.gates.iter().map(&mut map).collect::<Lowered<Vec<Map>>>()?;
        let apart = self.apart.as_ref().map(&mut map).transpose()?;
        let peepholes = self.peepholes.iter().map(|weight| site.lowering.capture(*weight)).collect::<Lowered<_>>()?;
        Ok(Weights { gates, apart, peepholes })
    }

    fn gate(&self, site: &mut Site, place: usize, x: Value) -> Lowered<Value> {
        self.gates.get(place).ok_or(Refusal::Follows).and_then(|map| map.apply(site, x))
    }

    /// The part of a gate that sees the memory, where there are peepholes.
    fn peephole(&self, site: &mut Site, place: usize, gate: Value, memory: Value) -> Lowered<Value> {
        let Some(weight) = self.peepholes.get(place) else { return Ok(gate) };
        let seen = site.binary(Binary::Mul, memory, *weight)?;
        site.binary(Binary::Add, gate, seen)
    }
}

impl Map {
    fn apply(&self, site: &mut Site, x: Value) -> Lowered<Value> {
        let dot = Op::Linear(Linear::Dot(Dot { batch: vec![], contract: vec![(1, 1)] }));
        let operands: Vec<Value> = [x, self.weight].into_iter().chain(self.bias).collect();
        site.emit(dot, &operands)
    }
}

/// One step of the cell.
pub(super) fn step(
    site: &mut Site,
    cell: Cell,
    weights: &Weights,
    activations: &[Activation],
    clip: Option<f64>,
    x: Value,
    state: &State,
) -> Lowered<State> {
    let step = Step { weights, clip };
    match (cell, activations, state.memory) {
        (Cell::Plain, [f], _) => {
            let joined = join(site, x, state.hidden)?;
            let z = weights.gate(site, 0, joined)?;
            let hidden = step.activated(site, *f, z)?.0;
            Ok(State { hidden, memory: None })
        }
        (Cell::Gru { .. }, [f, g], _) => step.gru(site, [*f, *g], x, state.hidden),
        (Cell::Lstm { coupled }, [f, g, h], Some(memory)) => {
            step.lstm(site, coupled, [*f, *g, *h], x, state.hidden, memory)
        }
        _ => Err(Refusal::Follows),
    }
}

fn join(site: &mut Site, x: Value, hidden: Value) -> Lowered<Value> {
    site.emit(Op::Movement(Movement::Concat { axis: 1 }), &[x, hidden])
}

struct Step<'a> {
    weights: &'a Weights,
    clip: Option<f64>,
}

impl Step<'_> {
    /// The function of `x` kept within the limits; and what that is.
    fn activated(&self, site: &mut Site, f: Activation, x: Value) -> Lowered<(Value, Value)> {
        let x = match self.clip {
            Some(limit) => site.unary(Function::Clip, [-limit, limit], x)?,
            None => x,
        };
        Ok((f.apply(site, x)?, x))
    }

    /// `h' = (1 − z)·n + z·h` with `n = g(x·W + (r·h)·R)`, or `n = g(x·W + r·(h·R))` where the reset comes after.
    fn gru(&self, site: &mut Site, [f, g]: [Activation; 2], x: Value, hidden: Value) -> Lowered<State> {
        let joined = join(site, x, hidden)?;
        let (z, r) = (self.weights.gate(site, 0, joined)?, self.weights.gate(site, 1, joined)?);
        let (z, before) = self.activated(site, f, z)?;
        let (r, _) = self.activated(site, f, r)?;
        let candidate = match &self.weights.apart {
            Some(map) => {
                let seen = map.apply(site, joined)?;
                let kept = site.binary(Binary::Mul, r, seen)?;
                let new = self.weights.gate(site, 2, x)?;
                site.binary(Binary::Add, new, kept)?
            }
            None => {
                let kept = site.binary(Binary::Mul, r, hidden)?;
                let joined = join(site, x, kept)?;
                self.weights.gate(site, 2, joined)?
            }
        };
        let (candidate, _) = self.activated(site, g, candidate)?;
        let open = f.complement(site, before, z)?;
        let new = site.binary(Binary::Mul, open, candidate)?;
        let old = site.binary(Binary::Mul, z, hidden)?;
        let hidden = site.binary(Binary::Add, new, old)?;
        Ok(State { hidden, memory: None })
    }

    /// `c' = f·c + i·g(…)`, `h' = o·h(c')`; gates stand in the order i, o, f, candidate.
    fn lstm(
        &self,
        site: &mut Site,
        coupled: bool,
        [f, g, h]: [Activation; 3],
        x: Value,
        hidden: Value,
        memory: Value,
    ) -> Lowered<State> {
        let weights = self.weights;
        let joined = join(site, x, hidden)?;
        let input = weights.gate(site, 0, joined)?;
        let input = weights.peephole(site, 0, input, memory)?;
        let (input, before) = self.activated(site, f, input)?;
        let forget = if coupled {
            f.complement(site, before, input)?
        } else {
            let forget = weights.gate(site, 2, joined)?;
            let forget = weights.peephole(site, 2, forget, memory)?;
            self.activated(site, f, forget)?.0
        };
        let candidate = weights.gate(site, 3, joined)?;
        let (candidate, _) = self.activated(site, g, candidate)?;
        let old = site.binary(Binary::Mul, forget, memory)?;
        let new = site.binary(Binary::Mul, input, candidate)?;
        let memory = site.binary(Binary::Add, old, new)?;
        let output = weights.gate(site, 1, joined)?;
        let output = weights.peephole(site, 1, output, memory)?;
        let (output, _) = self.activated(site, f, output)?;
        let shown = h.apply(site, memory)?;
        let hidden = site.binary(Binary::Mul, output, shown)?;
        Ok(State { hidden, memory: Some(memory) })
    }
}
