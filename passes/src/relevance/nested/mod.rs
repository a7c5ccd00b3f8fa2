//! How relevance passes nodes that hold graphs (docs/loops.md).
//!
//! Rules are chosen inside a nested graph as outside, and the same walk is run over it, from the results that relevance
//! arrives at to the active inputs. What it makes stands in a nested graph of the relevance region, together with the
//! forward nodes whose values it reads: a `cond` becomes a `cond` of the same choice, a `loop` one in the other
//! direction, whose body reads from a tape what the forward body was given.

mod body;
mod cond;
mod flat;
mod looped;
mod tape;

use std::collections::{HashMap, HashSet};

use lrpc_ir::graph::{Graph, LedgerLine, NodeId, Value};
use lrpc_ir::ops::{Control, Op};
use lrpc_ir::{Absorbed, Diagnostic, Diagnostics};

use super::builder::{Built, RelevanceBuilder, site_name};
use super::choose::Passage;
use super::site::{Arrival, Carrier};
use super::walk::{State, Walk};
use super::weights::Weights;
use super::{Request, Survey, active};
use crate::nested::{Opened, open, operand_slot};
use crate::rules::shares::nonnegative_values;
pub(super) use flat::{Flat, Seen};
pub(super) use tape::add_tapes;

/// How deep nested graphs are explained. Each loop walks several times over its body, see `looped`.
const MAX_DEPTH: usize = 5;

/// A node that holds graphs, with the rules for what is in them.
pub(super) struct Nested {
    pub(super) node: NodeId,
    /// Which operands are active.
    active: Vec<bool>,
    bodies: Vec<Inner>,
}

/// A nested graph on the way.
struct Inner {
    opened: Opened,
    order: Vec<NodeId>,
    nonnegative: HashSet<Value>,
    /// Its active inputs, each with the operand that it is.
    ends: Vec<(usize, Value)>,
    passages: Vec<Passage>,
    request: Request,
    wrt: Vec<Value>,
    weights: Weights,
    masks: HashMap<Value, Value>,
}

/// What goes to an operand.
struct Sent {
    slot: usize,
    arrival: Arrival,
}

/// What came out of a node of the relevance region that holds graphs.
struct Outcome {
    sent: Vec<Sent>,
    /// What goes to captured constants that are made of requested weights.
    weights: Vec<(Value, Arrival)>,
    absorbed: Vec<(Absorbed, Value)>,
    /// Operations inside that nothing arrived at, by their places among what is told.
    cut_off: Vec<usize>,
}

impl Nested {
    /// What stands on the way in all its graphs.
    pub(super) fn passages(&self) -> impl Iterator<Item = &Passage> {
        self.bodies.iter().flat_map(|inner| &inner.passages)
    }
}

impl Walk<'_> {
    /// The rules for what is in the graphs of `node`.
    ///
    /// # Errors
    /// As [`Walk::choose`].
    pub(super) fn choose_nested(
        &self,
        graph: &Graph,
        node: NodeId,
        operands: &[bool],
        seen: &Seen,
        survey: &mut Survey,
    ) -> Result<Nested, Diagnostics> {
        let mut nested = Nested { node, active: operands.to_vec(), bodies: Vec::new() };
        let Op::Control(control) = &graph.node(node).op else { return Ok(nested) };
        if depth(control) > MAX_DEPTH {
            let message = format!("loops and branches nest deeper than {MAX_DEPTH} here");
            let site = site_name(graph, node.into());
            return Err(Diagnostic::new(message)
                .at(site)
                .help("relevance passes no more; name a target before it")
                .into());
        }
        let opened = open(graph, node).map_err(Diagnostic::from)?;
        let actives = active::active_inputs(control, operands);
        for (place, (opened, (body, wrt))) in opened.into_iter().zip(actives).enumerate() {
            let slots = body.inputs().into_iter().enumerate();
            let slots = slots.filter_map(|(place, input)| Some((operand_slot(control, place)?, input)));
            let ends = slots.filter(|(_, input)| wrt.contains(input)).collect();
            let order = opened.graph.order();
            let nonnegative = nonnegative_values(&opened.graph, &order);
            let constants = opened.constants.iter().filter(|(_, outer)| self.weights.reach(**outer));
            let requested: Vec<Value> = constants.filter_map(|(name, _)| opened.graph.find(name)).collect();
            let weights = Weights::of(&opened.graph, &order, &requested);
            let mut inner = Inner {
                opened,
                order,
                nonnegative,
                ends,
                passages: Vec::new(),
                request: Request { unit_seed: self.request.unit_seed, ..Request::default() },
                wrt,
                weights,
                masks: HashMap::new(),
            };
            let results: Vec<Value> = inner.opened.graph.results.iter().map(|result| result.value).collect();
            inner.passages =
                self.inside(&inner).passages(&inner.opened.graph, &results, &seen.inside(node, place), survey)?;
            nested.bodies.push(inner);
        }
        Ok(nested)
    }

    /// The walk over a nested graph.
    fn inside<'b>(&'b self, inner: &'b Inner) -> Walk<'b> {
        Walk {
            composite: self.composite,
            carrier: self.carrier,
            order: &inner.order,
            nonnegative: &inner.nonnegative,
            request: &inner.request,
            wrt: &inner.wrt,
            weights: &inner.weights,
            masks: &inner.masks,
            parts: Vec::new(),
        }
    }

    /// Lets relevance pass a node that holds graphs, and writes its line of the ledger.
    pub(super) fn pass_nested(&self, b: &mut RelevanceBuilder, nested: &Nested, state: &mut State) -> Built<()> {
        let node = nested.node;
        let mut ports = Vec::new();
        for port in 0..b.graph().node(node).types().len() as u32 {
            let value = Value { node, port };
            ports.push(self.arrive(b, value, &mut state.arrivals, &mut state.relevance)?);
            state.passed.insert(value);
        }
        if ports.iter().all(Option::is_none) {
            nested.passages().for_each(|passage| passage.cut_off(state));
            return Ok(());
        }
        let operands = b.graph().operands(node);
        let Op::Control(control) = b.graph().node(node).op.clone() else { return Ok(()) };
        let (rule, outcome) = match &control {
            Control::Loop { .. } => {
                b.begin(node.into(), "Loop");
                ("Loop", self.pass_loop(b, nested, &control, &ports)?)
            }
            Control::Cond { .. } => {
                b.begin(node.into(), "Cond");
                ("Cond", self.pass_cond(b, nested, &control, &ports)?)
            }
            Control::While { .. } => return Ok(()),
        };
        b.begin(node.into(), rule);
        let Outcome { sent, weights, mut absorbed, cut_off } = outcome;
        state.cut_off.extend(cut_off);
        let site = b.site_name(node.into());
        for (constant, arrival) in weights {
            let (weight, share) = self.weights.origin(b, constant, arrival).map_err(|error| error.at(&site))?;
            state.arrivals.entry(weight).or_default().push(share);
        }
        let (mut input, mut output) = (Vec::new(), Vec::new());
        for (port, arrival) in ports.iter().enumerate() {
            if let (Some(arrival), true) = (arrival, self.composite.ledger) {
                input.push(self.as_relevance(b, Value { node, port: port as u32 }, *arrival)?);
            }
        }
        for Sent { slot, arrival } in sent {
            let Some(&operand) = operands.get(slot) else { continue };
            let is_active = nested.active.get(slot) == Some(&true);
            if self.composite.ledger {
                let relevance = self.as_relevance(b, operand, arrival)?;
                // What is carried may begin as a constant, which then takes a share as every added constant does.
                match is_active {
                    true => output.push(relevance),
                    false => absorbed.push((Absorbed::Bias, relevance)),
                }
            }
            if is_active {
                state.arrivals.entry(operand).or_default().push(arrival);
            }
        }
        if self.composite.ledger {
            self.write_ledger(b, LedgerLine { site, rule: rule.into(), input, output, absorbed });
        }
        Ok(())
    }
}

/// How deep the graphs nest that a node holds.
fn depth(control: &Control) -> usize {
    let inner = |body: &Graph| {
        let holders = body.ids().filter_map(|node| match &body.node(node).op {
            Op::Control(control) => Some(depth(control)),
            _ => None,
        });
        holders.max().unwrap_or(0)
    };
    1 + control.bodies().into_iter().map(|(_, body)| inner(body)).max().unwrap_or(0)
}

/// What both carriers can be turned into; nothing becomes either.
fn join(one: Option<Carrier>, other: Option<Carrier>) -> Option<Carrier> {
    match (one, other) {
        (Some(Carrier::Relevance), _) | (_, Some(Carrier::Relevance)) => Some(Carrier::Relevance),
        (Some(Carrier::Coefficient), _) | (_, Some(Carrier::Coefficient)) => Some(Carrier::Coefficient),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::check_nested;

    /// An Elman network over a sequence, its state a graph input.
    const RECURRENT: &str = r#"
        input %x : f32[T, N, 3]
        input %h : f32[N, 2]
        weight @w : f32[3, 2]
        weight @u : f32[2, 2]
        weight @b : f32[2]
        forward
          %last, %all = loop %h, %x, @w, @u, @b {trips=T, carried=1, scanned=1} : f32[N, 2], f32[T, N, 2] from "/rnn"
            body
              input %i : i64[]
              input %h : f32[N, 2]
              input %x : f32[N, 3]
              input %w : f32[3, 2]
              input %u : f32[2, 2]
              input %b : f32[2]
              forward
                %a = dot %x, %w, %b {contract=1x0} : f32[N, 2] from "/rnn/in"
                %r = dot %h, %u {contract=1x0} : f32[N, 2] from "/rnn/state"
                %s = add %a, %r : f32[N, 2] from "/rnn/sum"
                %t = tanh %s : f32[N, 2] from "/rnn/tanh"
              result "h" = %t
              result "all" = %t
            end
        result "output/y" = %last
        "#;

    #[test]
    fn loop_epsilon() {
        check_nested("loop_epsilon", "epsilon", RECURRENT);
    }

    #[test]
    fn loop_attnlrp() {
        check_nested("loop_attnlrp", "attnlrp", RECURRENT);
    }

    /// A selective scan whose parameters are computed outside of the loop.
    #[test]
    fn loop_mamba() {
        check_nested(
            "loop_mamba",
            "mamba",
            r#"
        input %x : f32[T, N, 3]
        weight @w : f32[3, 3]
        prepare
          %zero = const 0 : f32[N, 3]
        forward
          %u = tanh %x : f32[T, N, 3] from "/u"
          %d = dot %u, @w {contract=2x0} : f32[T, N, 3] from "/delta"
          %a = exp %d : f32[T, N, 3] from "/decay"
          %i = mul %u, %d : f32[T, N, 3] from "/in"
          %last, %all = loop %zero, %a, %i {trips=T, carried=1, scanned=2} : f32[N, 3], f32[T, N, 3] from "/scan"
            body
              input %i : i64[]
              input %h : f32[N, 3]
              input %a : f32[N, 3]
              input %b : f32[N, 3]
              forward
                %ah = mul %a, %h : f32[N, 3] from "/scan/decay"
                %s = add %ah, %b : f32[N, 3] from "/scan/sum"
              result "h" = %s
              result "all" = %s
            end
          %first = reduce_sum %all {axes=[0]} : f32[N, 3] from "/sum"
        result "output/y" = %first
        "#,
        );
    }

    #[test]
    fn cond_epsilon() {
        check_nested(
            "cond_epsilon",
            "epsilon",
            r#"
        input %x : f32[N, 3]
        input %k : f32[C]
        weight @w : f32[3, 3]
        weight @b : f32[3]
        forward
          %y = cond %x, @w, @b {choice=C} : f32[N, 3] from "/if"
            then
              input %x : f32[N, 3]
              input %w : f32[3, 3]
              input %b : f32[3]
              forward
                %a = dot %x, %w, %b {contract=1x0} : f32[N, 3] from "/then/fc"
                %t = relu %a : f32[N, 3] from "/then/relu"
              result "y" = %t
            end
            else
              input %x : f32[N, 3]
              input %w : f32[3, 3]
              input %b : f32[3]
              forward
                %t = tanh %x : f32[N, 3] from "/else/tanh"
              result "y" = %t
            end
        result "output/y" = %y
        "#,
        );
    }
}
