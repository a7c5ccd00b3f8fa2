//! Recurrent networks: one loop for each direction, one linear map on `[x, h]` for each gate.
//!
//! A sequence that is shorter than the others keeps its state from its end on; walked from the end, until its last
//! element is reached.

mod activation;
mod cell;

use lrpc_ir::ops::{Binary, Compare, Elementwise, Movement};
use lrpc_ir::types::{DType, TensorType};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid, unsupported};
use super::nested::{Given, Looped, Made};
use super::site::Site;
use super::table::OpDef;
use activation::Activation;
use cell::{Cell, State, Weights};

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("RNN", 7, |site| recurrent(site, Cell::Plain)),
    OpDef::new("GRU", 7, gru),
    OpDef::new("LSTM", 7, lstm),
];

fn gru(site: &mut Site) -> Lowered {
    let reset_after = site.flag("linear_before_reset", false)?;
    recurrent(site, Cell::Gru { reset_after })
}

fn lstm(site: &mut Site) -> Lowered {
    let coupled = site.flag("input_forget", false)?;
    recurrent(site, Cell::Lstm { coupled })
}

/// What all directions share.
struct Network {
    cell: Cell,
    /// `[time, batch, input]`.
    x: Value,
    /// How long each sequence is, `i64[batch, 1]`, where they are not all alike.
    lengths: Option<Value>,
    time: Dim,
    batch: Dim,
    hidden: Dim,
    batch_first: bool,
    clip: Option<f64>,
}

/// What a direction gives.
struct Direction {
    /// Every hidden state, `[time, batch, hidden]`.
    all: Option<Value>,
    /// The last hidden state, and the last memory of an LSTM: `[batch, hidden]`.
    last: Vec<Value>,
}

fn recurrent(site: &mut Site, cell: Cell) -> Lowered {
    let network = network(site, cell)?;
    let reversed: &[bool] = match site.word_or("direction", "forward")?.as_str() {
        "forward" => &[false],
        "reverse" => &[true],
        "bidirectional" => &[false, true],
        other => return invalid(format!("its direction is {other:?}")),
    };
    let mut activations = activation::read(site, cell, reversed.len())?.into_iter();
    let mut directions = Vec::with_capacity(reversed.len());
    for (place, reverse) in reversed.iter().enumerate() {
        let own: Vec<Activation> = activations.by_ref().take(cell.activations().len()).collect();
        directions.push(network.direct(site, place, *reverse, &own)?);
    }
    network.outputs(site, &directions)
}

fn network(site: &mut Site, cell: Cell) -> Lowered<Network> {
    // Whether all hidden states are wanted; the outputs tell.
    site.ignore("output_sequence");
    let batch_first = site.flag("layout", false)?;
    let mut x = site.input(0)?;
    if site.ty(x).rank() != 3 {
        return invalid(format!("its input {} has not three axes", site.ty(x)));
    }
    if batch_first {
        x = site.transpose(x, vec![1, 0, 2])?;
    }
    let shape = site.ty(x).shape;
    let (time, batch) = (shape[0].clone(), shape[1].clone());
    let recurrence = site.input_type(2)?;
    let Some(hidden) = recurrence.shape.get(2).cloned() else {
        return invalid(format!("its recurrence weight is {recurrence}"));
    };
    if let Some(stated) = site.int("hidden_size")?
        && hidden.known().is_some_and(|hidden| hidden != stated)
    {
        return invalid(format!("its hidden_size is {stated}, and its recurrence weight is {recurrence}"));
    }
    let clip = site.float("clip")?;
    let lengths = lengths(site, &time, &batch)?;
    Ok(Network { cell, x, lengths, time, batch, hidden, batch_first, clip })
}

/// The lengths of the sequences, unless they are known to be all of it.
fn lengths(site: &mut Site, time: &Dim, batch: &Dim) -> Lowered<Option<Value>> {
    if !site.has_input(4) {
        return Ok(None);
    }
    if site.known(4).is_some_and(|known| known.elements.iter().all(|length| length == time)) {
        return Ok(None);
    }
    let lengths = site.input(4)?;
    let lengths = site.cast(lengths, DType::I64)?;
    site.reshape(lengths, vec![batch.clone(), Dim::Known(1)]).map(Some)
}

impl Network {
    fn direct(&self, site: &mut Site, place: usize, reverse: bool, activations: &[Activation]) -> Lowered<Direction> {
        let weights = Weights::read(site, self.cell, place, &self.hidden)?;
        let mut first = vec![self.first(site, 5, place)?];
        if self.cell.has_memory() {
            first.push(self.first(site, 6, place)?);
        }
        let wanted = site.has_output(0);
        let looped = Looped { trips: self.time.clone(), reverse, carried: &first, scanned: &[self.x] };
        let mut last = site.looped(&looped, |site, given| {
            let weights = weights.captured(site)?;
            let state = State { hidden: given.carried[0], memory: given.carried.get(1).copied() };
            let x = given.slices[0];
            let made = cell::step(site, self.cell, &weights, activations, self.clip, x, &state)?;
            let new = std::iter::once(made.hidden).chain(made.memory).collect();
            self.masked(site, given, new, wanted)
        })?;
        let all = last.split_off(first.len()).pop();
        Ok(Direction { all, last })
    }

    /// The first state at input `index` of a direction, zeros where there is none.
    fn first(&self, site: &mut Site, index: usize, place: usize) -> Lowered<Value> {
        let shape = vec![self.batch.clone(), self.hidden.clone()];
        match site.optional_input(index)? {
            Some(states) => {
                let states = if self.batch_first { site.transpose(states, vec![1, 0, 2])? } else { states };
                cell::part(site, states, place, shape)
            }
            None => {
                let dtype = site.ty(self.x).dtype;
                site.filled(TensorType::new(dtype, shape), 0.0)
            }
        }
    }

    /// What a run gives: past the end of a sequence its state stays, and its hidden state counts as zero.
    fn masked(&self, site: &mut Site, given: &Given, new: Vec<Value>, wanted: bool) -> Lowered<Made> {
        let hidden = new.first().copied().filter(|_| wanted);
        let Some(lengths) = self.lengths else {
            return Ok(Made { carried: new, stacked: hidden.into_iter().collect() });
        };
        let lengths = site.lowering.capture(lengths)?;
        let inside = site.elementwise(Elementwise::Compare(Compare::Less), &[given.position, lengths])?;
        let choose = |(new, old): (&Value, &Value)| site.elementwise(Elementwise::Where, &[inside, *new, *old]);
        let carried = new.iter().zip(&given.carried).map(choose).collect::<Lowered<Vec<Value>>>()?;
        let mut stacked = Vec::new();
        if let Some(hidden) = hidden {
            let zero = site.ty(hidden);
            let zero = site.filled(zero, 0.0)?;
            stacked.push(site.elementwise(Elementwise::Where, &[inside, hidden, zero])?);
        }
        Ok(Made { carried, stacked })
    }

    fn outputs(&self, site: &mut Site, directions: &[Direction]) -> Lowered {
        if site.has_output(0) {
            let all = directions.iter().filter_map(|direction| direction.all);
            let shape = [&self.time, &Dim::Known(1), &self.batch, &self.hidden].map(Dim::clone);
            let joined = joined(site, all, shape.to_vec(), 1)?;
            let perm = if self.batch_first { vec![2, 0, 1, 3] } else { vec![0, 1, 2, 3] };
            let joined = site.transpose(joined, perm)?;
            site.output(0, joined)?;
        }
        for index in 1..site.node.output.len() {
            let last = directions.iter().filter_map(|direction| direction.last.get(index.saturating_sub(1)).copied());
            if site.has_output(index) {
                let shape = [&Dim::Known(1), &self.batch, &self.hidden].map(Dim::clone);
                let joined = joined(site, last, shape.to_vec(), 0)?;
                let perm = if self.batch_first { vec![1, 0, 2] } else { vec![0, 1, 2] };
                let joined = site.transpose(joined, perm)?;
                site.output(index, joined)?;
            }
        }
        Ok(())
    }
}

/// The parts, each under `shape`, along `axis`.
fn joined(site: &mut Site, parts: impl Iterator<Item = Value>, shape: Vec<Dim>, axis: usize) -> Lowered<Value> {
    let parts: Vec<Value> = parts.map(|part| site.reshape(part, shape.clone())).collect::<Lowered<_>>()?;
    match parts.as_slice() {
        [] => unsupported("an output that this operator does not have"),
        [single] => Ok(*single),
        parts => site.emit(Op::Movement(Movement::Concat { axis }), parts),
    }
}

/// Sum, after broadcasting, of what there is.
fn sum(site: &mut Site, a: Value, b: Option<Value>) -> Lowered<Value> {
    b.map_or(Ok(a), |b| site.binary(Binary::Add, a, b))
}
