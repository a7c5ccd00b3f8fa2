//! Relevance of a choice: a choice by the same dimension.
//!
//! Each branch holds the forward nodes of its own whose values it reads, and what the walk over it has made. Once a plan is
//! made and one branch stands in the node's place, these are the forward region's own nodes.

use lrpc_ir::graph::Value;
use lrpc_ir::ops::Control;
use lrpc_ir::{Absorbed, DType, Diagnostic, Op};

use super::super::builder::{Built, RelevanceBuilder};
use super::super::site::{Arrival, Carrier};
use super::super::walk::Walk;
use super::body::{Walked, zeros};
use super::{Inner, Nested, Outcome, Sent, join};
use crate::nested::{Draft, assemble};

/// What both branches give.
struct Given {
    /// The operands that something goes to in any branch.
    sent: Vec<(usize, Carrier)>,
    /// The captured constants that are made of requested weights.
    weights: Vec<(Value, Carrier)>,
    absorbed: Vec<Absorbed>,
}

impl Walk<'_> {
    pub(super) fn pass_cond(
        &self,
        b: &mut RelevanceBuilder,
        nested: &Nested,
        control: &Control,
        ports: &[Option<Arrival>],
    ) -> Built<Outcome> {
        let Control::Cond { choice, .. } = control else { return Err(Diagnostic::new("a choice without branches")) };
        let seeds: Vec<Option<Carrier>> = ports.iter().map(|port| port.map(|arrival| arrival.carrier)).collect();
        let walked = nested.bodies.iter().map(|inner| self.walk_body(inner, &seeds)).collect::<Built<Vec<_>>>()?;
        let given = Given::of(&nested.bodies, &walked);
        let mut drafts = Vec::new();
        let mut cut_off = Vec::new();
        for (inner, mut walked) in nested.bodies.iter().zip(walked) {
            let results = self.results_of_branch(b, inner, &mut walked, &given)?;
            cut_off.append(&mut walked.cut_off);
            let bound: Vec<Value> = walked.seeds.iter().flatten().copied().collect();
            drafts.push((walked.opened, bound, results));
        }
        let drafts: Vec<Draft> =
            drafts.iter().map(|(opened, bound, results)| opened.draft(bound, results.clone())).collect();
        let (bodies, captured) = assemble(b.graph_mut(), &drafts)?;
        let mut operands: Vec<Value> = ports.iter().flatten().map(|arrival| arrival.value).collect();
        for value in captured {
            operands.push(b.activation(value)?);
        }
        let Ok([then_branch, else_branch]) = <[_; 2]>::try_from(bodies) else {
            return Err(Diagnostic::new("a choice without branches"));
        };
        let (then_branch, else_branch) = (Box::new(then_branch), Box::new(else_branch));
        let chosen = Control::Cond { choice: choice.clone(), then_branch, else_branch };
        let names = given.names(b, nested);
        let node = b.several(Op::Control(chosen), &operands, &names)?;
        let at = |port: usize| Value { node, port: port as u32 };
        let sent = given.sent.iter().enumerate();
        let sent: Vec<Sent> =
            sent.map(|(port, &(slot, carrier))| Sent { slot, arrival: Arrival { carrier, value: at(port) } }).collect();
        let weights = given.weights.iter().enumerate();
        let weights: Vec<(Value, Arrival)> = weights
            .map(|(place, &(constant, carrier))| (constant, Arrival { carrier, value: at(sent.len() + place) }))
            .collect();
        let absorbed = given.absorbed.iter().enumerate();
        let absorbed = absorbed.map(|(place, &kind)| (kind, at(sent.len() + weights.len() + place))).collect();
        Ok(Outcome { sent, weights, absorbed, cut_off })
    }

    /// The results of one branch, zeros where it has nothing to give.
    fn results_of_branch(
        &self,
        outer: &RelevanceBuilder,
        inner: &Inner,
        walked: &mut Walked,
        given: &Given,
    ) -> Built<Vec<(String, Value)>> {
        let mut results = Vec::new();
        let ends: Vec<(usize, Value, Option<Arrival>)> =
            inner.ends.iter().zip(&walked.ends).map(|(&(slot, input), end)| (slot, input, *end)).collect();
        let (weights, absorbed) = (walked.weights.clone(), walked.absorbed.clone());
        let mut b = walked.builder(inner, "Cond");
        for &(slot, carrier) in &given.sent {
            let Some(&(_, input, end)) = ends.iter().find(|(of, ..)| *of == slot) else { continue };
            results.push(match end {
                Some(arrival) if carrier == Carrier::Relevance => self.as_relevance(&mut b, input, arrival)?,
                Some(arrival) => arrival.value,
                None => zeros(&mut b, input)?,
            });
        }
        for (constant, _) in &given.weights {
            let share = weights.iter().find(|(of, _)| of == constant).map(|(_, arrival)| arrival.value);
            let ty = outer.ty(*constant);
            results.push(share.map_or_else(|| b.filled(0.0, ty.dtype, &ty.shape), Ok)?);
        }
        for kind in &given.absorbed {
            let sum = absorbed.iter().find(|(of, _)| of == kind).map(|(_, sum)| *sum);
            results.push(sum.map_or_else(|| b.filled(0.0, DType::F64, &[]), Ok)?);
        }
        Ok(results.into_iter().enumerate().map(|(place, value)| (place.to_string(), value)).collect())
    }
}

impl Given {
    fn of(bodies: &[Inner], walked: &[Walked]) -> Given {
        let mut given = Given { sent: Vec::new(), weights: Vec::new(), absorbed: Vec::new() };
        for (inner, walked) in bodies.iter().zip(walked) {
            for ((slot, _), end) in inner.ends.iter().zip(&walked.ends) {
                let Some(arrival) = end else { continue };
                match given.sent.iter_mut().find(|(of, _)| of == slot) {
                    Some((_, carrier)) => *carrier = join(Some(*carrier), Some(arrival.carrier)).unwrap_or(*carrier),
                    None => given.sent.push((*slot, arrival.carrier)),
                }
            }
            // A request decides how relevance of weights travels, in both branches alike.
            for (constant, arrival) in &walked.weights {
                if given.weights.iter().all(|(of, _)| of != constant) {
                    given.weights.push((*constant, arrival.carrier));
                }
            }
            let kinds = walked.absorbed.iter().map(|(kind, _)| *kind);
            given.absorbed.extend(kinds.filter(|kind| !given.absorbed.contains(kind)).collect::<Vec<_>>());
        }
        given
    }

    fn names(&self, b: &RelevanceBuilder, nested: &Nested) -> Vec<String> {
        let operands = b.graph().operands(nested.node);
        let sent = self.sent.iter().map(|(slot, carrier)| {
            let name = operands.get(*slot).map_or("", |operand| b.graph().name(*operand));
            format!("{}.{name}", carrier.letter())
        });
        let node = b.graph().name(nested.node.into());
        let weights = self
            .weights
            .iter()
            .map(|(constant, carrier)| format!("{}.{}", carrier.letter(), b.graph().name(*constant)));
        sent.chain(weights).chain(self.absorbed.iter().map(|kind| format!("{}.{node}", kind.name()))).collect()
    }
}
