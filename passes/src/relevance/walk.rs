//! One walk against the forward order: rules are chosen, applied, and their ledger is written.

use std::collections::{HashMap, HashSet};

use lrpc_ir::graph::{Graph, GraphResult, LedgerLine, NodeId, Value};
use lrpc_ir::ops::{Binary, Class, Elementwise, Op};
use lrpc_ir::{Absorbed, Diagnostic, DiagnosticKind, Diagnostics};

use super::builder::{Built, RelevanceBuilder, site_name};
use super::composite::{Choice, Composite, Quantity, SeedKind};
use super::roles::{self, Role};
use super::seed::{self, Start};
use super::selective::Selections;
use super::selector::Subject;
use super::site::{Arrival, Carrier, Flow, Site};
use super::support::{self, Support, Supports};
use super::weights::{Applied, Weights};
use super::{Application, Missing, Request, Survey, active};

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

/// A node on the way, with its rule.
pub(super) struct Step {
    node: NodeId,
    output: Value,
    active: Vec<bool>,
    class: Class,
    factors: [usize; 2],
    held: Option<usize>,
    addend: Option<Value>,
    choice: Choice,
    /// Its place among the applications that are told.
    told: usize,
}

/// Chains of products of one kind whose factors share relevance evenly, however the chain is bracketed.
#[derive(Default)]
struct Chains {
    /// The number of factors of every product in a chain.
    factors: HashMap<NodeId, usize>,
}

impl Chains {
    /// The number of factors that each operand of `node` stands for. Nodes are visited in forward order.
    fn visit(&mut self, graph: &Graph, node: NodeId, choice: &Choice, active: &[bool]) -> [usize; 2] {
        let op = &graph.node(node).op;
        let product = matches!(op, Op::Linear(_) | Op::Elementwise(Elementwise::Binary(Binary::Mul)));
        if !product || active.iter().filter(|&&operand| operand).count() != 2 {
            return [1, 1];
        }
        let is_gate = || !roles::is_one_signal(graph, node);
        if !choice.rule.shares_evenly(&choice.parameters, is_gate) {
            return [1, 1];
        }
        let factors = [0, 1].map(|slot| {
            let before = graph.operand(node, slot).map(|operand| roles::maker(graph, operand));
            let chained = before.filter(|&maker| graph.node(maker).op.mnemonic() == op.mnemonic());
            chained.and_then(|maker| self.factors.get(&maker).copied()).unwrap_or(1)
        });
        self.factors.insert(node, factors[0].saturating_add(factors[1]));
        factors
    }
}

impl Walk<'_> {
    pub(super) fn run(
        &self,
        graph: &mut Graph,
        promises: &mut HashMap<Value, Value>,
        seed: &seed::Seed,
    ) -> Result<Survey, Diagnostics> {
        let explained: Vec<Value> = seed.starts.iter().map(|start| start.output).collect();
        let (steps, mut survey) = self.choose(graph, &explained)?;
        if !survey.missing.is_empty() {
            return Err(Diagnostics(survey.missing.into_iter().map(|missing| missing.finding).collect()));
        }
        let prefix: String = self.parts.iter().map(|part| format!("{part}.")).collect();
        let mut b = RelevanceBuilder::new(graph, promises, self.nonnegative, &prefix);
        let mut arrivals: HashMap<Value, Vec<Arrival>> = HashMap::new();
        let mut supports = Supports::default();
        let mut started = Vec::new();
        for start in &seed.starts {
            b.begin(start.output, "seed");
            let arrival = self.start(&mut b, start)?;
            // R = y ⊙ g, but for seeds of 1 and relevance that the target states.
            let product = !self.request.unit_seed && start.relevance.is_none();
            supports.note(start.output, if product { Support::Nonzero } else { Support::Anywhere });
            started.push((start.output, arrival));
            arrivals.entry(start.output).or_default().push(arrival);
        }
        let mut relevance = HashMap::new();
        let mut passed = HashSet::new();
        for step in steps.into_iter().rev() {
            let parts = arrivals.get(&step.output).map_or(0, Vec::len);
            let support = supports.of_sum(step.output, parts);
            let Some(arrival) = self.arrive(&mut b, step.output, &mut arrivals, &mut relevance)? else {
                survey.cut_off(step.told);
                continue;
            };
            passed.insert(step.output);
            self.apply(&mut b, step, (arrival, support), &mut arrivals, &mut supports).map_err(Diagnostics::from)?;
        }
        self.results(&mut b, &mut arrivals, &mut relevance)?;
        self.book_dead_ends(&mut b, &mut arrivals)?;
        // A tensor that is requested twice is inserted once.
        let ends = self.wrt.iter().chain(&self.request.wrt).copied().filter(|&value| passed.insert(value));
        let ends: Vec<(Value, Arrival)> =
            ends.filter_map(|value| Some((value, relevance.get(&value).copied()?))).collect();
        self.close(&mut b, &started, &ends)?;
        Ok(survey)
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

    /// The rules for all nodes between the explained outputs and the requested tensors, in forward order.
    pub(super) fn choose(&self, graph: &Graph, explained: &[Value]) -> Result<(Vec<Step>, Survey), Diagnostics> {
        let active = active::active_values(graph, self.order, self.wrt);
        let dependent = active::dependent_values(graph, self.order, self.wrt);
        if let Some(&output) = explained.iter().find(|output| !active.contains(output)) {
            let names: Vec<&str> = self.wrt.iter().map(|&value| graph.name(value)).collect();
            let message = format!("`{}` does not depend on {}", graph.name(output), names.join(", "));
            return Err(Diagnostic::request(message).help("name other tensors with --wrt or another --target").into());
        }
        let needed: HashSet<NodeId> = graph.post_order(explained.iter().copied()).into_iter().collect();
        self.check_conditions(graph, &active, &needed)?;
        let (mut steps, mut survey) = (Vec::new(), Survey::default());
        let (mut chains, mut selections) = (Chains::default(), Selections::default());
        for &node in self.order.iter().filter(|node| needed.contains(node)) {
            let operands = active::active_operands(graph, node, &active);
            if !operands.contains(&true) {
                continue;
            }
            let mut subject = subject(graph, node, &operands, explained);
            let held = selections.visit(graph, node, &operands);
            subject.roles.extend(held.map(|_| Role::Selective));
            let class = subject.class;
            let mut record = |rule, entry| {
                let (op, site, part) = (subject.op.to_string(), subject.name.clone(), String::new());
                let (composite, class) = (self.composite.name.clone(), class.name());
                survey.applications.push(Application { composite, site, op, class, rule, entry, part });
            };
            if let Class::Opaque(reason) = class {
                record(Err(reason.to_string()), None);
                continue;
            }
            if self.composite.has_own_entries() {
                survey.subjects.push(subject.clone());
            }
            let written_out = self.composite.ledger && roles::is_softmax_written_out(graph, node);
            let finding = match self.composite.choose(&subject) {
                Ok(Some(_)) if written_out => Diagnostic::new("a softmax written out as exp / Σ exp has no rule")
                    .of_kind(DiagnosticKind::NoRule)
                    .at(&subject.name)
                    .help("export it as one Softmax"),
                Ok(Some(choice)) => {
                    record(Ok(choice.rule.name.to_string()), Some(choice.entry.clone()));
                    let told = survey.applications.len().saturating_sub(1);
                    let factors = chains.visit(graph, node, &choice, &operands);
                    let (output, addend) = (node.into(), None);
                    let step = Step { node, output, active: operands, class, factors, held, addend, choice, told };
                    if !self.becomes_bias(graph, &dependent, &step, &mut steps) {
                        steps.push(step);
                    }
                    continue;
                }
                Ok(None) => no_rule(&subject, &self.composite.name),
                Err(finding) => finding,
            };
            survey.missing.push(Missing { op: subject.op.to_string(), class: class.name(), finding });
        }
        Ok((steps, survey))
    }

    /// Whether `sum` adds a constant, a value that is not among the `dependent` ones, to what a linear map gives, nothing
    /// else reads that, and its rule treats constants as a bias: then the two are one linear map with that bias.
    fn becomes_bias(&self, graph: &Graph, dependent: &HashSet<Value>, sum: &Step, steps: &mut [Step]) -> bool {
        let adds = graph.node(sum.node).op == Op::Elementwise(Elementwise::Binary(Binary::Add));
        if !adds || !self.composite.ledger || !sum.choice.rule.treats_constant_as_bias() {
            return false;
        }
        let operands = graph.operands(sum.node);
        let (map, addend) = match (&operands[..], &sum.active[..]) {
            (&[map, addend], [true, false]) | (&[addend, map], [false, true]) => (map, addend),
            _ => return false,
        };
        let bias = |step: &Step| step.choice.parameters.get("bias").cloned();
        let read_elsewhere = graph.users(map).len() != 1
            || graph.results.iter().any(|result| result.value == map)
            || self.wrt.contains(&map)
            || self.request.between.contains(&map)
            || self.masks.contains_key(&map);
        // Constants of the file have been merged where they have the form of a bias.
        let computed = !graph.is_constant(addend) && !dependent.contains(&addend);
        let is_linear = |step: &&mut Step| step.output == map && matches!(step.class, Class::Linear { .. });
        let step = steps.iter_mut().rev().find(is_linear);
        match step.filter(|step| !read_elsewhere && computed && bias(step) == bias(sum)) {
            Some(step) => {
                (step.output, step.addend) = (sum.output, Some(addend));
                true
            }
            None => false,
        }
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
    fn arrive(
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

    fn as_relevance(&self, b: &mut RelevanceBuilder, value: Value, arrival: Arrival) -> Built<Value> {
        match arrival.carrier {
            Carrier::Relevance => Ok(arrival.value),
            Carrier::Coefficient => self.to_relevance(b, value, arrival.value),
        }
    }

    /// # Errors
    /// Conditions on tensors that no relevance passes.
    fn check_conditions(
        &self,
        graph: &Graph,
        active: &HashSet<Value>,
        needed: &HashSet<NodeId>,
    ) -> Result<(), Diagnostics> {
        let conditions = self.request.conditions.iter();
        let astray = conditions.flat_map(|condition| condition.tensors().map(move |tensor| (condition, tensor)));
        let astray = astray.filter(|(_, tensor)| !active.contains(tensor) || !needed.contains(&tensor.node));
        let findings: Vec<Diagnostic> = astray
            .map(|(condition, tensor)| {
                let name = graph.name(tensor);
                condition
                    .error(format!("`{name}` does not lie between the target and the requested tensors"))
                    .help("name a tensor on the way, another --target, or tensors before it with --wrt")
            })
            .collect();
        if findings.is_empty() { Ok(()) } else { Err(Diagnostics(findings)) }
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
        step: Step,
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
            active: step.active,
            class: step.class,
            factors: step.factors,
            held: step.held,
            addend: step.addend,
            output: step.output,
            arrival,
            support,
            parameters: step.choice.parameters,
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
    fn book_dead_ends(&self, b: &mut RelevanceBuilder, arrivals: &mut HashMap<Value, Vec<Arrival>>) -> Built<()> {
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

    fn write_ledger(&self, b: &mut RelevanceBuilder, line: LedgerLine) {
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

/// What selectors see of `node`, given which operands are active and which values are explained.
fn subject(graph: &Graph, node: NodeId, operands: &[bool], explained: &[Value]) -> Subject {
    let op = &graph.node(node).op;
    Subject {
        op: op.mnemonic(),
        family: op.family(),
        class: op.class(operands),
        name: site_name(graph, node.into()),
        roles: roles::roles_of(graph, node, operands, explained),
        weight: graph.operands(node).into_iter().any(|operand| graph.constant_source(operand).is_some()),
        active: operands.iter().filter(|&&operand| operand).count(),
    }
}

fn no_rule(subject: &Subject, composite: &str) -> Diagnostic {
    let class = subject.class.name();
    Diagnostic::new(format!("composite `{composite}` has no rule for `{}` (class {class})", subject.op))
        .of_kind(DiagnosticKind::NoRule)
        .at(&subject.name)
        .help("choose another composite, or name a rule for it in a composite file of your own")
}
