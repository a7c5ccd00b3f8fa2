//! Relevance of a loop: a loop in the other direction.
//!
//! It carries the relevance of what the forward loop carries, the sums over all runs of what captured values and requested
//! weights get, and the sums of what was absorbed. It scans the tapes and sequences that its body needs to run the forward body again,
//! and the relevance of the stacks; it stacks the relevance of the scanned sequences.

use lrpc_ir::graph::Value;
use lrpc_ir::ops::{Control, Op};
use lrpc_ir::{Absorbed, DType, Diagnostic, TensorType};

use super::super::builder::{Built, RelevanceBuilder};
use super::super::site::{Arrival, Carrier};
use super::super::walk::Walk;
use super::body::{Walked, add, zeros};
use super::{Inner, Nested, Outcome, Sent, join};
use crate::nested::{assemble, reached_inputs};

/// What the reversed loop carries.
enum Carried {
    /// The relevance of a carried value.
    State { slot: usize, carrier: Carrier },
    /// The relevance of a captured value, summed over the runs.
    Captured { slot: usize, carrier: Carrier },
    /// The relevance of a captured constant that is made of requested weights, summed over the runs.
    Weight { constant: Value, carrier: Carrier },
    /// What was absorbed, summed over the runs.
    Absorbed(Absorbed),
}

/// The reversed body as far as it is made: inputs and results in the order of the loop's operands and results.
#[derive(Default)]
struct Reversed {
    carried: Vec<Carried>,
    inputs: Vec<Value>,
    results: Vec<Value>,
    stacks: Vec<Sent>,
}

impl Walk<'_> {
    pub(super) fn pass_loop(
        &self,
        b: &mut RelevanceBuilder,
        nested: &Nested,
        control: &Control,
        ports: &[Option<Arrival>],
    ) -> Built<Outcome> {
        let (Control::Loop { trips, reverse, carried, scanned, .. }, Some(inner)) = (control, nested.bodies.first())
        else {
            return Err(Diagnostic::new("a loop without a body"));
        };
        let (carried, scanned) = (*carried, *scanned);
        let (mut walked, carriers) = self.settle(inner, carried, ports)?;
        let reversed = self.reverse_body(&mut walked, inner, &carriers, carried, scanned)?;
        let mut operands = self.initial(b, nested, &reversed, ports)?;
        let mut bound: Vec<Value> = walked.opened.bound.first().copied().into_iter().collect();
        bound.extend(&reversed.inputs);
        let mut sequences = 0;
        // What the forward body was given, as far as it is read.
        let roots = reversed.results.iter().copied().chain(reversed.stacks.iter().map(|sent| sent.arrival.value));
        let reached = reached_inputs(&walked.opened.graph, roots);
        for (place, &input) in
            inner.opened.bound.iter().enumerate().skip(1).filter(|(_, input)| reached.contains(input))
        {
            let slot = place - 1;
            let sequence =
                if slot < carried { tape(inner, nested, carried, input)? } else { operand(b, nested, slot)? };
            operands.push(b.activation(sequence)?);
            bound.push(input);
            sequences += 1;
        }
        for (port, seed) in walked.seeds.iter().enumerate().skip(carried) {
            if let (Some(seed), Some(Some(arrival))) = (seed, ports.get(port)) {
                operands.push(arrival.value);
                bound.push(*seed);
                sequences += 1;
            }
        }
        let stacks = reversed.stacks.iter().map(|sent| sent.arrival.value);
        let results = reversed.results.iter().copied().chain(stacks);
        let results = results.enumerate().map(|(place, value)| (place.to_string(), value)).collect();
        let draft = walked.opened.draft(&bound, results);
        let (mut bodies, captured) = assemble(b.graph_mut(), &[draft])?;
        for value in captured {
            operands.push(b.activation(value)?);
        }
        let Some(body) = bodies.pop() else { return Err(Diagnostic::new("a loop without a body")) };
        let (trips, reverse) = (trips.clone(), !reverse);
        let carried = reversed.carried.len();
        let looped = Control::Loop { trips, reverse, carried, scanned: sequences, body: Box::new(body) };
        let names = self.names(b, nested, &reversed);
        let node = b.several(Op::Control(looped), &operands, &names)?;
        Ok(outcome(node, reversed, walked.cut_off))
    }

    /// Walks over the body until what each carried value gets travels in one way through all runs: as nothing where
    /// nothing arrives in any, as a coefficient where it does in all, else as relevance.
    fn settle(
        &self,
        inner: &Inner,
        carried: usize,
        ports: &[Option<Arrival>],
    ) -> Built<(Walked, Vec<Option<Carrier>>)> {
        let mut carriers: Vec<Option<Carrier>> = ports.iter().map(|port| port.map(|arrival| arrival.carrier)).collect();
        loop {
            let walked = self.walk_body(inner, &carriers)?;
            let before = carriers.clone();
            for ((slot, _), end) in inner.ends.iter().zip(&walked.ends) {
                if let (true, Some(carrier)) = (*slot < carried, carriers.get_mut(*slot)) {
                    *carrier = join(*carrier, end.map(|arrival| arrival.carrier));
                }
            }
            if carriers == before {
                return Ok((walked, carriers));
            }
        }
    }

    /// The results of the reversed body, and the inputs that it carries.
    fn reverse_body(
        &self,
        walked: &mut Walked,
        inner: &Inner,
        carriers: &[Option<Carrier>],
        carried: usize,
        scanned: usize,
    ) -> Built<Reversed> {
        let mut reversed = Reversed::default();
        let ends: Vec<(usize, Value, Option<Arrival>)> =
            inner.ends.iter().zip(&walked.ends).map(|(&(slot, input), end)| (slot, input, *end)).collect();
        for (slot, carrier) in carriers.iter().enumerate().take(carried) {
            let (Some(carrier), Some(seed)) = (*carrier, walked.seeds.get(slot).copied().flatten()) else { continue };
            let end = ends.iter().find(|(of, ..)| *of == slot).and_then(|(_, input, end)| Some((*input, (*end)?)));
            let mut b = walked.builder(inner, "Loop");
            let result = match end {
                Some((input, arrival)) if carrier == Carrier::Relevance => self.as_relevance(&mut b, input, arrival)?,
                Some((_, arrival)) => arrival.value,
                None => zeros(&mut b, seed)?,
            };
            reversed.push(Carried::State { slot, carrier }, seed, result);
        }
        for &(slot, input, end) in &ends {
            let Some(arrival) = end else { continue };
            if slot >= carried + scanned {
                let name = format!("{}.{}", arrival.carrier.letter(), walked.opened.graph.name(input));
                let total = walked.input(walked.opened.graph.ty(arrival.value).clone(), &name)?;
                let result = add(&mut walked.builder(inner, "Loop"), total, arrival.value, &name)?;
                reversed.push(Carried::Captured { slot, carrier: arrival.carrier }, total, result);
            } else if slot >= carried {
                reversed.stacks.push(Sent { slot, arrival });
            }
        }
        for (constant, arrival) in walked.weights.clone() {
            let ty = walked.opened.graph.ty(arrival.value).clone();
            let total = walked.input(ty, arrival.carrier.letter())?;
            let result = add(&mut walked.builder(inner, "Loop"), total, arrival.value, arrival.carrier.letter())?;
            reversed.push(Carried::Weight { constant, carrier: arrival.carrier }, total, result);
        }
        for (kind, sum) in walked.absorbed.clone() {
            let total = walked.input(number(), kind.name())?;
            let result = add(&mut walked.builder(inner, "ledger"), total, sum, kind.name())?;
            reversed.push(Carried::Absorbed(kind), total, result);
        }
        Ok(reversed)
    }

    /// What the reversed loop begins with.
    fn initial(
        &self,
        b: &mut RelevanceBuilder,
        nested: &Nested,
        reversed: &Reversed,
        ports: &[Option<Arrival>],
    ) -> Built<Vec<Value>> {
        let mut initial = Vec::new();
        for one in &reversed.carried {
            initial.push(match *one {
                Carried::State { slot, carrier } => {
                    let port = Value { node: nested.node, port: slot as u32 };
                    match ports.get(slot).copied().flatten() {
                        Some(arrival) if carrier == Carrier::Relevance => self.as_relevance(b, port, arrival)?,
                        Some(arrival) => arrival.value,
                        None => zeros(b, port)?,
                    }
                }
                Carried::Captured { slot, .. } => {
                    let operand = operand(b, nested, slot)?;
                    zeros(b, operand)?
                }
                Carried::Weight { constant, .. } => zeros(b, constant)?,
                Carried::Absorbed(_) => b.filled(0.0, DType::F64, &[])?,
            });
        }
        Ok(initial)
    }

    /// The names of the reversed loop's results.
    fn names(&self, b: &RelevanceBuilder, nested: &Nested, reversed: &Reversed) -> Vec<String> {
        let operands = b.graph().operands(nested.node);
        let of = |slot: usize, carrier: Carrier| {
            let name = operands.get(slot).map_or("", |operand| b.graph().name(*operand));
            format!("{}.{name}", carrier.letter())
        };
        let node = b.graph().name(nested.node.into());
        let carried = reversed.carried.iter().map(|one| match *one {
            Carried::State { slot, carrier } | Carried::Captured { slot, carrier } => of(slot, carrier),
            Carried::Weight { constant, carrier } => {
                format!("{}.{}", carrier.letter(), b.graph().name(constant))
            }
            Carried::Absorbed(kind) => format!("{}.{node}", kind.name()),
        });
        carried.chain(reversed.stacks.iter().map(|sent| of(sent.slot, sent.arrival.carrier))).collect()
    }
}

impl Reversed {
    fn push(&mut self, carried: Carried, input: Value, result: Value) {
        self.carried.push(carried);
        self.inputs.push(input);
        self.results.push(result);
    }
}

fn outcome(node: lrpc_ir::NodeId, reversed: Reversed, cut_off: Vec<usize>) -> Outcome {
    let mut outcome = Outcome { sent: Vec::new(), weights: Vec::new(), absorbed: Vec::new(), cut_off };
    let count = reversed.carried.len();
    for (port, one) in reversed.carried.into_iter().enumerate() {
        let value = Value { node, port: port as u32 };
        match one {
            Carried::State { slot, carrier } | Carried::Captured { slot, carrier } => {
                outcome.sent.push(Sent { slot, arrival: Arrival { carrier, value } });
            }
            Carried::Weight { constant, carrier } => outcome.weights.push((constant, Arrival { carrier, value })),
            Carried::Absorbed(kind) => outcome.absorbed.push((kind, value)),
        }
    }
    for (place, sent) in reversed.stacks.into_iter().enumerate() {
        let value = Value { node, port: (count + place) as u32 };
        outcome.sent.push(Sent { slot: sent.slot, arrival: Arrival { carrier: sent.arrival.carrier, value } });
    }
    outcome
}

fn number() -> TensorType {
    TensorType::new(DType::F64, Vec::new())
}

/// The operand of the forward node at `slot`.
fn operand(b: &RelevanceBuilder, nested: &Nested, slot: usize) -> Built<Value> {
    b.graph().operand(nested.node, slot).ok_or_else(|| Diagnostic::new("an operand of a loop is missing"))
}

/// The result of the forward loop that stacks what it carries as `input`.
fn tape(inner: &Inner, nested: &Nested, carried: usize, input: Value) -> Built<Value> {
    let results = &inner.opened.graph.results;
    let port = results.iter().skip(carried).position(|result| result.value == input);
    let port = port.ok_or_else(|| Diagnostic::new("a loop does not stack what it carries"))?;
    Ok(Value { node: nested.node, port: (carried + port) as u32 })
}
