//! `Loop` and `Scan`.

use std::collections::HashSet;

use lrpc_ir::ops::{Compare, Control, Elementwise, Movement};
use lrpc_ir::types::{DType, TensorType};
use lrpc_ir::{Dim, Graph, NodeId, Op, Value};

use super::finding::{Lowered, Refusal, invalid, unsupported};
use super::known::Known;
use super::lowering::Slot;
use super::nested::{Given, Looped, Made, values_of, written_out};
use super::site::{Site, axis};
use super::table::OpDef;
use crate::onnx::proto::GraphProto;

pub(super) const OPERATORS: &[OpDef] =
    &[OpDef::new("Loop", 1, loop_), OpDef::new("Scan", 8, scan_batches), OpDef::new("Scan", 9, scan)];

/// The most runs of a body that are written out one by one.
const MAX_WRITTEN_OUT: i64 = 1024;

/// A `Loop` node.
struct Loop<'m> {
    body: &'m GraphProto,
    /// Number of carried values.
    carried: usize,
    /// Number of stacks.
    stacks: usize,
}

/// What is known of the number of runs.
enum Most {
    Size(Dim),
    Unlimited,
    /// Computed when the model runs.
    Data(Value),
}

/// A loop whose condition always holds is counted. One whose values change their shapes, or whose body needs the
/// position as a number, is written out if it is known to end soon. Where data decides how often it runs, that is
/// counted first.
fn loop_(site: &mut Site) -> Lowered {
    let body = site.graph_attribute("body")?;
    let carried = site.input_count().saturating_sub(2);
    let given = body.output.len().checked_sub(carried.saturating_add(1));
    let Some(stacks) = given.filter(|_| body.input.len() == carried.saturating_add(2)) else {
        return invalid("the body's inputs and outputs are not those of the loop");
    };
    if site.node.output.len() > carried.saturating_add(stacks) {
        return invalid("the node has more outputs than its body");
    }
    let spec = Loop { body, carried, stacks };
    let (most, starts) = (most(site)?, starts(site)?);
    if starts == Some(false) {
        return counted(site, &spec, Dim::Known(0), true).map(|_| ());
    }
    let reason = match (&most, starts) {
        (Most::Size(trips), Some(_)) => match counted(site, &spec, trips.clone(), false) {
            Ok(true) => return Ok(()),
            Ok(false) => None,
            Err(Refusal::Unsupported(reason)) => Some(reason),
            Err(refusal) => return Err(refusal),
        },
        _ => None,
    };
    let limit = match &most {
        Most::Size(trips) => trips.known(),
        Most::Unlimited => Some(i64::MAX),
        Most::Data(_) => None,
    };
    if let Some(limit) = limit.filter(|_| starts.is_some())
        && one_by_one(site, &spec, limit)?
    {
        return Ok(());
    }
    if let Some(reason) = reason {
        return unsupported(reason);
    }
    let trips = count(site, &spec, most)?;
    counted(site, &spec, trips, true).map(|_| ())
}

/// Which carried values the condition depends on, in this run or a later one.
fn deciding(body: &Graph, goes_on: Value, inputs: &[Value], last: &[Value]) -> Vec<bool> {
    let mut wanted = vec![false; inputs.len()];
    loop {
        let reached = body.post_order(std::iter::once(goes_on).chain(chosen(last, &wanted)));
        let reached: HashSet<NodeId> = reached.into_iter().collect();
        let more: Vec<bool> = inputs.iter().map(|input| reached.contains(&input.node)).collect();
        if more == wanted {
            return wanted;
        }
        wanted = more;
    }
}

fn chosen(values: &[Value], wanted: &[bool]) -> Vec<Value> {
    values.iter().zip(wanted).filter(|(_, wanted)| **wanted).map(|(value, _)| *value).collect()
}

/// How often a loop runs whose end depends on data.
fn count<'m>(site: &mut Site<'_, 'm>, spec: &Loop<'m>, most: Most) -> Lowered<Dim> {
    let mut most = match most {
        Most::Size(size) => site.size(&size)?,
        Most::Unlimited => site.size(&Dim::Known(i64::MAX))?,
        Most::Data(value) => {
            let value = site.cast(value, DType::I64)?;
            site.reshape(value, Vec::new())?
        }
    };
    if let Some(starts) = site.optional_input(1)? {
        let (starts, none) = (site.reshape(starts, Vec::new())?, site.size(&Dim::Known(0))?);
        most = site.elementwise(Elementwise::Where, &[starts, most, none])?;
    }
    let first = (0..spec.carried).map(|place| site.input(place.saturating_add(2))).collect::<Lowered<Vec<Value>>>()?;
    let types: Vec<TensorType> = first.iter().map(|value| site.ty(*value)).collect();
    let (body, wanted, captured) = site.nested(|site| {
        let position = site.nested_input(TensorType::new(DType::I64, Vec::new()), "position")?;
        let inputs = types.iter().map(|ty| site.nested_input(ty.clone(), "carried"));
        let inputs = inputs.collect::<Lowered<Vec<Value>>>()?;
        let slots = inputs.iter().map(|value| Slot::Value(*value, None)).collect();
        let values = values_of(&one_run(site, spec, Slot::Value(position, None), slots, 0)?)?;
        let Some((goes_on, values)) = values.split_first() else { return invalid("the body gives nothing") };
        let goes_on = site.reshape(*goes_on, Vec::new())?;
        let settle = |(value, ty): (&Value, &TensorType)| site.settled(*value, ty);
        let last = values.iter().zip(&types).map(settle).collect::<Lowered<Vec<Value>>>()?;
        let graph = &mut site.lowering.graph;
        let wanted = deciding(graph, goes_on, &inputs, &last);
        let unwanted = inputs.iter().zip(&wanted).filter(|(_, wanted)| !**wanted);
        unwanted.for_each(|(input, _)| graph.remove(input.node));
        site.return_from_body("goes_on", &[goes_on]);
        site.return_from_body("carried", &chosen(&last, &wanted));
        Ok(wanted)
    })?;
    let first = chosen(&first, &wanted);
    let carried = first.len();
    let operands: Vec<Value> = std::iter::once(most).chain(first).chain(captured).collect();
    let count = Op::Control(Control::While { carried, body: Box::new(body) });
    let count = site.emit(count, &operands)?;
    site.lowering.measure(count)
}

fn most(site: &mut Site) -> Lowered<Most> {
    if !site.has_input(0) {
        return Ok(Most::Unlimited);
    }
    site.input_type(0)?;
    match site.known(0).map(|known| known.elements.as_slice()) {
        Some([Dim::Known(most)]) => Ok(Most::Size(Dim::Known((*most).max(0)))),
        Some([most]) if most.as_symbol().is_some() => Ok(Most::Size(most.clone())),
        Some([most]) => Ok(Most::Size(most.maximum(&Dim::Known(0))?)),
        Some(_) => invalid("the number of runs is not one number"),
        None => site.input(0).map(Most::Data),
    }
}

/// Whether the condition holds before the first run; `None` where that is computed when the model runs.
fn starts(site: &mut Site) -> Lowered<Option<bool>> {
    if !site.has_input(1) {
        return Ok(Some(true));
    }
    site.input_type(1)?;
    Ok(match site.known(1).and_then(Known::numbers).as_deref() {
        Some([holds]) => Some(*holds != 0),
        _ => None,
    })
}

/// A counted loop, if the condition that the body gives always holds, or holds before each of these runs.
fn counted<'m>(site: &mut Site<'_, 'm>, spec: &Loop<'m>, trips: Dim, holds: bool) -> Lowered<bool> {
    let first = (0..spec.carried).map(|place| site.input(place.saturating_add(2))).collect::<Lowered<Vec<Value>>>()?;
    let wanted: Vec<usize> =
        (0..spec.stacks).filter(|place| site.has_output(spec.carried.saturating_add(*place))).collect();
    let mut goes_on = true;
    let looped = Looped { trips, reverse: false, carried: &first, scanned: &[] };
    let results = site.looped(&looped, |site, given| {
        let carried = given.carried.iter().map(|value| Slot::Value(*value, None)).collect();
        let slots = one_run(site, spec, Slot::Value(given.position, None), carried, 1)?;
        goes_on = holds || matches!(slots.first(), Some(Slot::Known(known)) if known.numbers() == Some(vec![1]));
        let values = values_of(slots.get(1..).unwrap_or_default())?;
        let Some((carried, stacks)) = values.split_at_checked(spec.carried) else {
            return invalid("the body gives too little");
        };
        let stacked = wanted.iter().filter_map(|place| stacks.get(*place).copied()).collect();
        Ok(Made { carried: carried.to_vec(), stacked })
    })?;
    if goes_on {
        let places = (0..spec.carried).chain(wanted.iter().map(|place| spec.carried.saturating_add(*place)));
        for (place, value) in places.zip(results) {
            site.output(place, value)?;
        }
    }
    Ok(goes_on)
}

/// The body once, where the condition holds before it.
fn one_run<'m>(
    site: &mut Site<'_, 'm>,
    spec: &Loop<'m>,
    position: Slot<'m>,
    carried: Vec<Slot<'m>>,
    values: usize,
) -> Lowered<Vec<Slot<'m>>> {
    let holds = Slot::Known(Known::scalar(DType::Bool, Dim::Known(1)));
    let slots = [position, holds].into_iter().chain(carried);
    let inputs = spec.body.input.iter().map(|input| input.name()).zip(slots).collect();
    written_out(site, spec.body, "body", inputs, values)
}

/// Writes the runs out one after the other; false if the end is not known or far.
fn one_by_one<'m>(site: &mut Site<'_, 'm>, spec: &Loop<'m>, limit: i64) -> Lowered<bool> {
    let slots = (0..spec.carried).map(|place| site.slot(place.saturating_add(2)));
    let mut carried = slots.collect::<Lowered<Vec<Slot>>>()?;
    let mut rows: Vec<Vec<Value>> = vec![Vec::new(); spec.stacks];
    for turn in 0..limit {
        if turn >= MAX_WRITTEN_OUT || (turn == 0 && limit > MAX_WRITTEN_OUT && limit < i64::from(i32::MAX)) {
            return Ok(false);
        }
        let position = Slot::Known(Known::scalar(DType::I64, Dim::Known(turn)));
        let mut slots = one_run(site, spec, position, carried, spec.carried.saturating_add(1))?;
        let stacks = values_of(&slots.split_off(spec.carried.saturating_add(1)))?;
        for (rows, value) in rows.iter_mut().zip(stacks) {
            let shape = [&[Dim::Known(1)], site.ty(value).shape.as_slice()].concat();
            rows.push(site.reshape(value, shape)?);
        }
        carried = slots.split_off(1);
        match slots.first() {
            Some(Slot::Known(known)) if known.numbers() == Some(vec![1]) => {}
            Some(Slot::Known(known)) if known.numbers() == Some(vec![0]) => break,
            _ => return Ok(false),
        }
    }
    for (place, slot) in carried.into_iter().enumerate() {
        let slot =
            if let Slot::Tensor(_) = slot { Slot::Value(site.input(place.saturating_add(2))?, None) } else { slot };
        site.output_slot(place, slot)?;
    }
    for (place, rows) in rows.iter().enumerate() {
        let place = place.saturating_add(spec.carried);
        match rows.as_slice() {
            _ if !site.has_output(place) => {}
            [] => return unsupported("it does not run, so that the shapes of its stacks are not known"),
            [single] => site.output(place, *single)?,
            rows => {
                let stack = site.emit(Op::Movement(Movement::Concat { axis: 0 }), rows)?;
                site.output(place, stack)?;
            }
        }
    }
    Ok(true)
}

/// A `Scan` node.
struct Scan<'m> {
    body: &'m GraphProto,
    /// Number of carried values.
    carried: usize,
    /// Number of scanned inputs.
    scanned: usize,
    /// Number of stacks.
    stacks: usize,
}

impl<'m> Scan<'m> {
    /// `offset` inputs stand before the carried ones.
    fn read(site: &mut Site<'_, 'm>, offset: usize) -> Lowered<Scan<'m>> {
        let body = site.graph_attribute("body")?;
        let inputs = site.input_count().saturating_sub(offset);
        let scanned = site.int("num_scan_inputs")?.and_then(|count| usize::try_from(count).ok());
        let carried = scanned.and_then(|scanned| inputs.checked_sub(scanned));
        let stacks = carried.and_then(|carried| body.output.len().checked_sub(carried));
        match (scanned, carried, stacks) {
            (Some(scanned), Some(carried), Some(stacks)) if scanned > 0 && body.input.len() == inputs => {
                Ok(Scan { body, carried, scanned, stacks })
            }
            _ => invalid("the body's inputs and outputs are not those of the scan"),
        }
    }

    /// One number for each of `count` tensors.
    fn list(site: &mut Site, name: &'static str, count: usize) -> Lowered<Vec<i64>> {
        let list = site.ints(name)?.unwrap_or(vec![0; count]);
        if list.len() == count { Ok(list) } else { invalid(format!("{name} has {} entries for {count}", list.len())) }
    }

    fn reversed(site: &mut Site, name: &'static str, count: usize) -> Lowered<Vec<bool>> {
        let directions = Scan::list(site, name, count)?;
        match directions.iter().find(|direction| !(0..=1).contains(*direction)) {
            Some(other) => invalid(format!("{name} holds {other}")),
            None => Ok(directions.iter().map(|direction| *direction == 1).collect()),
        }
    }

    /// One run of the body.
    fn run(&self, site: &mut Site<'_, 'm>, given: &Given) -> Lowered<Made> {
        let slots = given.carried.iter().chain(&given.slices).map(|value| Slot::Value(*value, None));
        let inputs = self.body.input.iter().map(|input| input.name()).zip(slots).collect();
        let mut carried = values_of(&written_out(site, self.body, "body", inputs, 0)?)?;
        let stacked = carried.split_off(self.carried.min(carried.len()));
        Ok(Made { carried, stacked })
    }
}

/// The length of the first axis.
fn length(site: &Site, value: Option<&Value>) -> Lowered<Dim> {
    let length = value.and_then(|value| site.ty(*value).shape.first().cloned());
    length.map_or_else(|| invalid("what is scanned has no axis"), Ok)
}

/// The axes of a tensor of that rank with axis `from` brought to place `to`.
fn moved(rank: usize, from: usize, to: usize) -> Vec<usize> {
    let mut perm: Vec<usize> = (0..rank).filter(|axis| *axis != from).collect();
    perm.insert(to.min(perm.len()), from);
    perm
}

fn scan(site: &mut Site) -> Lowered {
    let spec = Scan::read(site, 0)?;
    let axes = Scan::list(site, "scan_input_axes", spec.scanned)?;
    let directions = Scan::reversed(site, "scan_input_directions", spec.scanned)?;
    let result_axes = Scan::list(site, "scan_output_axes", spec.stacks)?;
    let result_directions = Scan::reversed(site, "scan_output_directions", spec.stacks)?;
    let first = (0..spec.carried).map(|place| site.input(place)).collect::<Lowered<Vec<Value>>>()?;
    let reverse = directions.iter().all(|reversed| *reversed);
    let mut scanned = Vec::with_capacity(spec.scanned);
    for (place, (along, reversed)) in axes.iter().zip(&directions).enumerate() {
        let value = site.input(spec.carried.saturating_add(place))?;
        let rank = site.ty(value).rank();
        let value = site.transpose(value, moved(rank, axis(*along, rank)?, 0))?;
        scanned.push(if *reversed == reverse { value } else { site.flipped(value)? });
    }
    let looped = Looped { trips: length(site, scanned.first())?, reverse, carried: &first, scanned: &scanned };
    let mut results = site.looped(&looped, |site, given| spec.run(site, given))?;
    let stacks = results.split_off(spec.carried.min(results.len()));
    for (place, value) in results.into_iter().enumerate() {
        site.output(place, value)?;
    }
    let places = result_axes.iter().zip(result_directions).zip(stacks);
    for (place, ((along, reversed), stack)) in places.enumerate() {
        let stack = if reversed == reverse { stack } else { site.flipped(stack)? };
        let rank = site.ty(stack).rank();
        let stack = site.transpose(stack, moved(rank, 0, axis(*along, rank)?))?;
        site.output(spec.carried.saturating_add(place), stack)?;
    }
    Ok(())
}

/// Up to opset 8 the first axis of everything is a batch, and each of its elements has a loop of its own.
fn scan_batches(site: &mut Site) -> Lowered {
    let spec = Scan::read(site, 1)?;
    let directions = Scan::reversed(site, "directions", spec.scanned)?;
    let lengths = site.optional_input(0)?;
    if lengths.is_some() && directions.contains(&true) {
        return unsupported("sequences of their own lengths, walked from the end");
    }
    let reverse = directions.iter().all(|reversed| *reversed);
    let inputs = 1..site.input_count();
    let mut outer = inputs.map(|place| site.input(place)).collect::<Lowered<Vec<Value>>>()?;
    outer.extend(lengths);
    let batch = Looped { trips: length(site, outer.first())?, reverse: false, carried: &[], scanned: &outer };
    let results = site.looped(&batch, |site, given| {
        let mut slices = given.slices.clone();
        let length_of = if lengths.is_some() { slices.pop() } else { None };
        let mut scanned = slices.split_off(spec.carried.min(slices.len()));
        for (value, reversed) in scanned.iter_mut().zip(&directions) {
            *value = if *reversed == reverse { *value } else { site.flipped(*value)? };
        }
        let trips = length(site, scanned.first())?;
        let looped = Looped { trips, reverse, carried: &slices, scanned: &scanned };
        let mut stacked = site.looped(&looped, |site, given| {
            let made = spec.run(site, given)?;
            match length_of {
                Some(length) => until(site, length, given, made),
                None => Ok(made),
            }
        })?;
        for stack in stacked.iter_mut().skip(spec.carried).filter(|_| reverse) {
            *stack = site.flipped(*stack)?;
        }
        Ok(Made { carried: Vec::new(), stacked })
    })?;
    for (place, value) in results.into_iter().enumerate() {
        site.output(place, value)?;
    }
    Ok(())
}

/// What a run makes where its position lies before `length`; else nothing changes and zeros are stacked.
fn until(site: &mut Site, length: Value, given: &Given, made: Made) -> Lowered<Made> {
    let length = site.lowering.capture(length)?;
    let length = site.cast(length, DType::I64)?;
    let is_before = site.elementwise(Elementwise::Compare(Compare::Less), &[given.position, length])?;
    let mut choose = |value: &Value, other: Option<Value>| {
        let ty = site.ty(*value);
        let other = other.map_or_else(|| site.filled(ty, 0.0), Ok)?;
        site.elementwise(Elementwise::Where, &[is_before, *value, other])
    };
    let carried = made.carried.iter().zip(&given.carried).map(|(value, before)| choose(value, Some(*before)));
    let carried = carried.collect::<Lowered<Vec<Value>>>()?;
    let stacked = made.stacked.iter().map(|value| choose(value, None)).collect::<Lowered<Vec<Value>>>()?;
    Ok(Made { carried, stacked })
}
