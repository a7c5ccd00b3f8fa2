//! One walk against the forward order: rules are applied, and their ledger is written.

use std::collections::{HashMap, HashSet};

use lrpc_ir::graph::{Graph, GraphResult, LedgerLine, NodeId, Value};
use lrpc_ir::ops::{Binary, Class, Elementwise, Op};
use lrpc_ir::{Absorbed, Diagnostic, Diagnostics};

use super::builder::{Built, RelevanceBuilder};
use super::choose::{Passage, Step};
use super::composite::{Composite, Quantity, SeedKind};
use super::seed::{self, Start};
use super::site::{Arrival, Carrier, Flow, Site};
use super::support::{self, Support, Supports};
use super::weights::{Applied, Weights};
use super::{Request, Survey};

/// One walk: one composite, one target, one condition.
pub(super) struct Walk<'a> {
    pub(super) composite: &'a Composite,
    pub(super) carrier: Carrier,
    pub(super) order: &'a [NodeId],
    pub(super) nonnegative: &'a HashSet<Value>,
    pub(super) request: &'a Request,
    /// The requested tensors, each as the graph reads it: perturbed, where a composite does so.
    pub(super) wrt: &'a [Value],
    pub(super) weights: &'a Weights,
    /// The condition's masks, by the values that they are for.
    pub(super) masks: &'a HashMap<Value, Value>,
    /// Composite, target and condition, where there are several.
    pub(super) parts: Vec<String>,
}

/// Where a walk is.
#[derive(Default)]
pub(super) struct State {
    /// What was sent to each value and has not been passed on.
    pub(super) arrivals: HashMap<Value, Vec<Arrival>>,
    pub(super) supports: Supports,
    /// What each value has received in all.
    pub(super) relevance: HashMap<Value, Arrival>,
    /// The values whose relevance has been passed on.
    pub(super) passed: HashSet<Value>,
    /// The applications that nothing arrived at, by their places among those that are told.
    pub(super) cut_off: Vec<usize>,
}

impl Walk<'_> {
    pub(super) fn run(
        &self,
        graph: &mut Graph,
        promises: &mut HashMap<Value, Value>,
        seed: &seed::Seed,
    ) -> Result<Survey, Diagnostics> {
        let explained: Vec<Value> = seed.starts.iter().map(|start| start.output).collect();
        let (passages, mut survey) = self.choose(graph, &explained)?;
        if !survey.missing.is_empty() {
            return Err(Diagnostics(survey.missing.into_iter().map(|missing| missing.finding).collect()));
        }
        let prefix: String = self.parts.iter().map(|part| format!("{part}.")).collect();
        let mut b = RelevanceBuilder::new(graph, promises, self.nonnegative, &prefix);
        let mut state = State::default();
        let mut started = Vec::new();
        for start in &seed.starts {
            b.begin(start.output, "seed");
            let arrival = self.start(&mut b, start)?;
            // R = y ⊙ g, but for seeds of 1 and relevance that the target states.
            let product = !self.request.unit_seed && start.relevance.is_none();
            state.supports.note(start.output, if product { Support::Nonzero } else { Support::Anywhere });
            started.push((start.output, arrival));
            state.arrivals.entry(start.output).or_default().push(arrival);
        }
        self.walk_over(&mut b, &passages, &mut state)?;
        state.cut_off.iter().for_each(|&told| survey.cut_off(told));
        let State { mut arrivals, mut relevance, mut passed, .. } = state;
        self.results(&mut b, &mut arrivals, &mut relevance)?;
        self.book_dead_ends(&mut b, &mut arrivals)?;
        // A tensor that is requested twice is inserted once.
        let ends = self.wrt.iter().chain(&self.request.wrt).copied().filter(|&value| passed.insert(value));
        let ends: Vec<(Value, Arrival)> =
            ends.filter_map(|value| Some((value, relevance.get(&value).copied()?))).collect();
        self.close(&mut b, &started, &ends)?;
        Ok(survey)
    }

    /// Walks against the order of `passages`.
    pub(super) fn walk_over(&self, b: &mut RelevanceBuilder, passages: &[Passage], state: &mut State) -> Built<()> {
        for passage in passages.iter().rev() {
            match passage {
                Passage::Rule(step) => {
                    let parts = state.arrivals.get(&step.output).map_or(0, Vec::len);
                    let support = state.supports.of_sum(step.output, parts);
                    match self.arrive(b, step.output, &mut state.arrivals, &mut state.relevance)? {
                        Some(arrival) => {
                            state.passed.insert(step.output);
                            self.apply(b, step, (arrival, support), &mut state.arrivals, &mut state.supports)?;
                        }
                        None => passage.cut_off(state),
                    }
                }
                Passage::Nested(nested) => self.pass_nested(b, nested, state)?,
            }
        }
        Ok(())
    }

    /// Writes the line that closes the others: what started, and what arrived at requested tensors and was passed on by
    /// no rule.
    fn close(
        &self,
        b: &mut RelevanceBuilder,
        started: &[(Value, Arrival)],
        ends: &[(Value, Arrival)],
    ) -> Result<(), Diagnostics> {
        if !self.composite.ledger {
            return Ok(());
        }
        let mut relevance_of = |arrivals: &[(Value, Arrival)]| {
            let relevance = |&(value, arrival): &(Value, Arrival)| {
                b.begin(value, "result");
                self.as_relevance(b, value, arrival)
            };
            arrivals.iter().map(relevance).collect::<Built<Vec<Value>>>()
        };
        let (input, output) = (relevance_of(started)?, relevance_of(ends)?);
        let (site, rule, absorbed) = ("total".to_string(), LedgerLine::TOTAL.to_string(), Vec::new());
        self.write_ledger(b, LedgerLine { site, rule, input, output, absorbed });
        Ok(())
    }

    /// What starts at an explained output: `g`, or `R = y ⊙ g`, or a relevance that the target itself states.
    fn start(&self, b: &mut RelevanceBuilder, start: &Start) -> Built<Arrival> {
        let carrier = self.carrier;
        if let Some(relevance) = start.relevance {
            if self.request.unit_seed {
                return Err(Diagnostic::request("a reconstruction error is a seed of its own").help("leave --seed one"));
            }
            if carrier == Carrier::Relevance {
                return Ok(Arrival { carrier, value: relevance });
            }
            // Of a gradient it is the derivative that starts.
            let stated = self.composite.ledger || self.composite.seed == SeedKind::Value;
            if stated {
                let y = b.activation(start.output)?;
                let value = b.binary(Binary::Ratio, relevance, y, "g")?;
                return Ok(Arrival { carrier, value });
            }
            return Ok(Arrival { carrier, value: start.coefficient });
        }
        let at_one = carrier == Carrier::Coefficient && self.composite.seed != SeedKind::Value;
        if at_one || self.request.unit_seed {
            return Ok(Arrival { carrier, value: start.coefficient });
        }
        let y = b.activation(start.output)?;
        let name = format!("{}.{}", carrier.letter(), b.graph().name(start.output));
        let value = b.named(Op::Elementwise(Elementwise::Binary(Binary::Weigh)), &[y, start.coefficient], &name)?;
        Ok(Arrival { carrier, value })
    }

    /// The sum of what arrived at `value`, as one tensor.
    pub(super) fn arrive(
        &self,
        b: &mut RelevanceBuilder,
        value: Value,
        arrivals: &mut HashMap<Value, Vec<Arrival>>,
        relevance: &mut HashMap<Value, Arrival>,
    ) -> Built<Option<Arrival>> {
        let Some(parts) = arrivals.remove(&value) else { return Ok(None) };
        b.begin(value, "sum");
        let mixed = parts.iter().any(|part| part.carrier == Carrier::Relevance);
        let carrier = if mixed { Carrier::Relevance } else { Carrier::Coefficient };
        let mut sum: Option<Value> = None;
        for part in parts {
            let addend = if part.carrier == carrier { part.value } else { self.to_relevance(b, value, part.value)? };
            sum = Some(match sum {
                None => addend,
                Some(left) => {
                    let name = format!("{}.{}", carrier.letter(), b.graph().name(value));
                    b.named(Op::Elementwise(Elementwise::Binary(Binary::Add)), &[left, addend], &name)?
                }
            });
        }
        let Some(sum) = sum else { return Ok(None) };
        let arrival = self.pass(b, value, Arrival { carrier, value: sum })?;
        relevance.insert(value, arrival);
        Ok(Some(arrival))
    }

    /// What the condition lets pass of what arrived at `value`; the rest is absorbed there.
    fn pass(&self, b: &mut RelevanceBuilder, value: Value, arrival: Arrival) -> Built<Arrival> {
        let Some(&mask) = self.masks.get(&value) else { return Ok(arrival) };
        b.begin(value, "Condition");
        let name = b.graph().name(value).to_string();
        let weigh = Op::Elementwise(Elementwise::Binary(Binary::Weigh));
        let passed = b.named(weigh.clone(), &[arrival.value, mask], &format!("{}.{name}", arrival.carrier.letter()))?;
        let passed = Arrival { carrier: arrival.carrier, value: passed };
        if self.composite.ledger {
            let ty = b.ty(value);
            let one = b.filled(1.0, ty.dtype.of_relevance(), &ty.shape)?;
            let rest = b.sub(one, mask, "rest")?;
            let dropped = b.named(weigh, &[arrival.value, rest], &format!("dropped.{name}"))?;
            let [input, output, dropped] =
                [arrival.value, passed.value, dropped].map(|value| Arrival { value, ..arrival });
            let input = self.as_relevance(b, value, input)?;
            let output = self.as_relevance(b, value, output)?;
            let absorbed = vec![(Absorbed::Rule, self.as_relevance(b, value, dropped)?)];
            let (input, output) = (vec![input], vec![output]);
            self.write_ledger(b, LedgerLine { site: name, rule: "Condition".into(), input, output, absorbed });
        }
        Ok(passed)
    }

    pub(super) fn as_relevance(&self, b: &mut RelevanceBuilder, value: Value, arrival: Arrival) -> Built<Value> {
        match arrival.carrier {
            Carrier::Relevance => Ok(arrival.value),
            Carrier::Coefficient => self.to_relevance(b, value, arrival.value),
        }
    }

    fn to_relevance(&self, b: &mut RelevanceBuilder, value: Value, g: Value) -> Built<Value> {
        let a = b.activation(value)?;
        let name = format!("R.{}", b.graph().name(value));
        b.named(Op::Elementwise(Elementwise::Binary(Binary::Weigh)), &[a, g], &name)
    }

    /// Applies a rule, hands its flows on and writes its ledger line.
    fn apply(
        &self,
        b: &mut RelevanceBuilder,
        step: &Step,
        (arrival, support): (Arrival, Support),
        arrivals: &mut HashMap<Value, Vec<Arrival>>,
        supports: &mut Supports,
    ) -> Built<()> {
        let rule = step.choice.rule;
        b.begin(step.node.into(), rule.name);
        let name = b.site_name(step.node.into());
        let site = Site {
            node: step.node,
            op: b.graph().node(step.node).op.clone(),
            operands: b.graph().operands(step.node),
            active: step.active.clone(),
            class: step.class,
            factors: step.factors,
            held: step.held,
            gates: step.gates,
            addend: step.addend,
            output: step.output,
            arrival,
            support,
            parameters: step.choice.parameters.clone(),
        };
        let passing = match (self.composite.filter()?, site.class) {
            (Some(filter), Class::Linear { .. }) => Site { arrival: filter.pass(b, &site)?, ..site.clone() },
            _ => site.clone(),
        };
        let flows = (rule.emit)(b, &passing).map_err(|diagnostic| diagnostic.at(&name))?;
        let mut outputs = Vec::new();
        for (&operand, flow) in site.operands.iter().zip(&flows) {
            let sent = match *flow {
                Flow::None => continue,
                Flow::Relevance(value) => Arrival { carrier: Carrier::Relevance, value },
                Flow::Times(value) if self.carrier == Carrier::Coefficient => {
                    Arrival { carrier: Carrier::Coefficient, value }
                }
                Flow::Times(value) => {
                    let value = self.to_relevance(b, operand, value)?;
                    Arrival { carrier: Carrier::Relevance, value }
                }
            };
            if self.composite.ledger {
                outputs.push(self.as_relevance(b, operand, sent)?);
            }
            b.name_flow(sent.value, sent.carrier.letter(), operand);
            supports.note(operand, support::of_flow(&site, rule, *flow, self.nonnegative.contains(&operand)));
            arrivals.entry(operand).or_default().push(sent);
        }
        let absorbed = b.take_absorbed();
        let applied = Applied { rule, flows: &flows, absorbed: &absorbed, terms: &b.take_terms() };
        let weights = self.weights.at(b, &passing, &applied, self.composite.result);
        for (weight, share) in weights.map_err(|diagnostic| diagnostic.at(&name))? {
            b.name_flow(share.value, share.carrier.letter(), weight);
            arrivals.entry(weight).or_default().push(share);
        }
        // A second view of the same relevance has nothing to book.
        let _ = b.take_absorbed();
        if self.composite.ledger {
            let input = vec![site.relevance(b)?];
            self.write_ledger(b, LedgerLine { site: name, rule: rule.name.into(), input, output: outputs, absorbed });
        }
        Ok(())
    }

    /// What was sent to values that nothing flows on from, behind step functions, is absorbed there.
    pub(super) fn book_dead_ends(
        &self,
        b: &mut RelevanceBuilder,
        arrivals: &mut HashMap<Value, Vec<Arrival>>,
    ) -> Built<()> {
        for &node in self.order.iter().rev().filter(|_| self.composite.ledger) {
            let value = Value::from(node);
            let mut unused = HashMap::new();
            let Some(arrival) = self.arrive(b, value, arrivals, &mut unused)? else { continue };
            let lost = self.as_relevance(b, value, arrival)?;
            let site = b.site_name(value);
            let absorbed = vec![(Absorbed::Rule, lost)];
            let line = LedgerLine { site, rule: "Opaque".into(), input: vec![lost], output: Vec::new(), absorbed };
            self.write_ledger(b, line);
        }
        Ok(())
    }

    pub(super) fn write_ledger(&self, b: &mut RelevanceBuilder, line: LedgerLine) {
        let mut line = line;
        if !self.parts.is_empty() {
            line.site = format!("{} {}", self.parts.join("."), line.site);
        }
        b.graph_mut().ledger.push(line);
    }

    /// The results at the requested tensors.
    fn results(
        &self,
        b: &mut RelevanceBuilder,
        arrivals: &mut HashMap<Value, Vec<Arrival>>,
        relevance: &mut HashMap<Value, Arrival>,
    ) -> Built<()> {
        let Request { wrt, silent, between, weights, .. } = self.request;
        // What nobody asked for is walked to all the same, so that its ledger is whole.
        let (unasked, asked): (Vec<_>, Vec<_>) =
            wrt.iter().zip(self.wrt).partition(|(tensor, _)| silent.contains(tensor));
        for (_, &value) in unasked {
            self.arrive(b, value, arrivals, relevance)?;
        }
        for &value in asked.into_iter().map(|(_, value)| value).chain(between).chain(weights) {
            if !relevance.contains_key(&value) {
                self.arrive(b, value, arrivals, relevance)?;
            }
            b.begin(value, "result");
            let name = b.graph().name(value).to_string();
            let arrival = relevance.get(&value).copied();
            let result = match (self.composite.result, arrival) {
                (Quantity::Relevance, Some(Arrival { carrier: Carrier::Coefficient, value: g })) => {
                    self.to_relevance(b, value, g)?
                }
                (Quantity::Coefficient, Some(Arrival { carrier: Carrier::Relevance, .. })) => {
                    return Err(Diagnostic::request(format!("what arrives at `{name}` is no coefficient"))
                        .help("leave --carrier to the composite"));
                }
                (_, Some(arrival)) => arrival.value,
                // The explained output does not depend on the tensor, or a rule sends nothing its way.
                (_, None) => {
                    let ty = b.ty(value);
                    b.filled(0.0, ty.dtype.of_relevance(), &ty.shape)?
                }
            };
            let path: String = self.parts.iter().map(|part| format!("{part}/")).collect();
            b.graph_mut().results.push(GraphResult { name: format!("{path}relevance/{name}"), value: result });
            let _ = b.take_absorbed();
        }
        Ok(())
    }
}
