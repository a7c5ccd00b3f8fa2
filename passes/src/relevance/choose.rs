//! Which rules a walk applies: every operation between the explained outputs and the requested tensors gets one.

use std::collections::{HashMap, HashSet};

use lrpc_ir::graph::{Graph, NodeId, Value};
use lrpc_ir::ops::{Binary, Class, Elementwise, Op};
use lrpc_ir::{Diagnostic, DiagnosticKind, Diagnostics};

use super::builder::site_name;
use super::composite::Choice;
use super::nested::{Flat, Nested, Seen};
use super::roles::{self, Role};
use super::selector::Subject;
use super::walk::{State, Walk};
use super::{Application, Missing, Survey, active};

/// A node on the way, with its rule.
pub(super) struct Step {
    pub(super) node: NodeId,
    pub(super) output: Value,
    pub(super) active: Vec<bool>,
    pub(super) class: Class,
    pub(super) factors: [usize; 2],
    pub(super) held: Option<usize>,
    pub(super) gates: roles::Gates,
    pub(super) addend: Option<Value>,
    pub(super) choice: Choice,
    /// Its place among the applications that are told.
    pub(super) told: usize,
}

/// What stands on the way.
pub(super) enum Passage {
    /// A node with its rule.
    Rule(Step),
    /// A node that holds graphs.
    Nested(Nested),
}

impl Passage {
    /// Nothing arrives here.
    pub(super) fn cut_off(&self, state: &mut State) {
        match self {
            Passage::Rule(step) => state.cut_off.push(step.told),
            Passage::Nested(nested) => nested.passages().for_each(|passage| passage.cut_off(state)),
        }
    }
}

/// Chains of products of one kind whose factors share relevance evenly, however the chain is bracketed.
#[derive(Default)]
struct Chains {
    /// The number of factors of every product in a chain.
    factors: HashMap<NodeId, usize>,
}

impl Chains {
    /// The number of factors that each operand of `node` stands for. Nodes are visited in forward order.
    fn visit(
        &mut self,
        graph: &Graph,
        node: NodeId,
        choice: &Choice,
        active: &[bool],
        gates: roles::Gates,
    ) -> [usize; 2] {
        let op = &graph.node(node).op;
        let is_even = choice.rule.shares_evenly(&choice.parameters, || !gates.one_signal);
        if !product_of_two(graph, node, active) || !is_even {
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
    /// The rules for all nodes between the explained outputs and the requested tensors, in forward order.
    pub(super) fn choose(&self, graph: &Graph, explained: &[Value]) -> Result<(Vec<Passage>, Survey), Diagnostics> {
        let active = active::active_values(graph, self.order, self.wrt);
        if let Some(&output) = explained.iter().find(|output| !active.contains(output)) {
            let names: Vec<&str> = self.wrt.iter().map(|&value| graph.name(value)).collect();
            let message = format!("`{}` does not depend on {}", graph.name(output), names.join(", "));
            return Err(Diagnostic::request(message).help("name other tensors with --wrt or another --target").into());
        }
        let needed: HashSet<NodeId> = graph.post_order(explained.iter().copied()).into_iter().collect();
        self.check_conditions(graph, &active, &needed)?;
        let flat = Flat::of(graph, self.order, explained, self.wrt).map_err(Diagnostic::from)?;
        let mut survey = Survey::default();
        let passages = self.passages(graph, explained, &flat.seen(), &mut survey)?;
        Ok((passages, survey))
    }

    /// As [`Walk::choose`], for a graph that predicates see as `seen`. What is found is added to `survey`.
    pub(super) fn passages(
        &self,
        graph: &Graph,
        roots: &[Value],
        seen: &Seen,
        survey: &mut Survey,
    ) -> Result<Vec<Passage>, Diagnostics> {
        let active = active::active_values(graph, self.order, self.wrt);
        let local = active::dependent_values(graph, self.order, self.wrt);
        let dependent = |value: Value| local.contains(&value) || seen.depends(value);
        let needed: HashSet<NodeId> = graph.post_order(roots.iter().copied()).into_iter().collect();
        let (mut passages, mut chains) = (Vec::new(), Chains::default());
        for &node in self.order.iter().filter(|node| needed.contains(node)) {
            let operands = active::active_operands(graph, node, &active);
            if !operands.contains(&true) && !is_active(graph, node, &active) {
                continue;
            }
            let (around, place) = seen.around(graph, node);
            let gates = roles::Gates::of(around, place, &operands);
            let mut subject = subject(graph, node, &operands);
            subject.roles = roles::roles_of(around, place, &operands, seen.explained());
            subject.weight |= around.operands(place).into_iter().any(|value| around.constant_source(value).is_some());
            let held = seen.parameter(graph, node).filter(|_| product_of_two(graph, node, &operands));
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
            if let Op::Control(_) = graph.node(node).op {
                passages.push(Passage::Nested(self.choose_nested(graph, node, &operands, seen, survey)?));
                continue;
            }
            if self.composite.has_own_entries() {
                survey.subjects.push(subject.clone());
            }
            let written_out = self.composite.ledger && roles::is_softmax_written_out(around, place);
            let finding = match self.composite.choose(&subject) {
                Ok(Some(_)) if written_out => Diagnostic::new("a softmax written out as exp / Σ exp has no rule")
                    .of_kind(DiagnosticKind::NoRule)
                    .at(&subject.name)
                    .help("export it as one Softmax"),
                Ok(Some(choice)) => {
                    record(Ok(choice.rule.name.to_string()), Some(choice.entry.clone()));
                    let told = survey.applications.len().saturating_sub(1);
                    let factors = chains.visit(graph, node, &choice, &operands, gates);
                    let (output, addend) = (node.into(), None);
                    let step =
                        Step { node, output, active: operands, class, factors, held, gates, addend, choice, told };
                    if !self.becomes_bias(graph, dependent, &step, &mut passages) {
                        passages.push(Passage::Rule(step));
                    }
                    continue;
                }
                Ok(None) => no_rule(&subject, &self.composite.name),
                Err(finding) => finding,
            };
            survey.missing.push(Missing { op: subject.op.to_string(), class: class.name(), finding });
        }
        Ok(passages)
    }

    /// Whether `sum` adds a constant, a value that is not `dependent`, to what a linear map gives, nothing
    /// else reads that, and its rule treats constants as a bias: then the two are one linear map with that bias.
    fn becomes_bias(
        &self,
        graph: &Graph,
        dependent: impl Fn(Value) -> bool,
        sum: &Step,
        before: &mut [Passage],
    ) -> bool {
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
        let is_independent = !dependent(addend);
        let step = before.iter_mut().rev().find_map(|passage| match passage {
            Passage::Rule(step) if step.output == map && matches!(step.class, Class::Linear { .. }) => Some(step),
            _ => None,
        });
        match step.filter(|step| !read_elsewhere && is_independent && bias(step) == bias(sum)) {
            Some(step) => {
                (step.output, step.addend) = (sum.output, Some(addend));
                true
            }
            None => false,
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
}

/// What selectors see of `node` itself, given which operands are active.
fn subject(graph: &Graph, node: NodeId, operands: &[bool]) -> Subject {
    let op = &graph.node(node).op;
    Subject {
        op: op.mnemonic(),
        family: op.family(),
        class: op.class(operands),
        name: site_name(graph, node.into()),
        roles: Vec::new(),
        weight: graph.operands(node).into_iter().any(|operand| graph.constant_source(operand).is_some()),
        active: operands.iter().filter(|&&operand| operand).count(),
    }
}

/// Whether the node multiplies two active operands.
fn product_of_two(graph: &Graph, node: NodeId, active: &[bool]) -> bool {
    let op = &graph.node(node).op;
    let product = matches!(op, Op::Linear(_) | Op::Elementwise(Elementwise::Binary(Binary::Mul)));
    product && active.iter().filter(|&&operand| operand).count() == 2
}

/// Whether a node without active operands has active results, as a loop may that carries on from a constant.
fn is_active(graph: &Graph, node: NodeId, active: &HashSet<Value>) -> bool {
    let Op::Control(_) = graph.node(node).op else { return false };
    (0..graph.node(node).types().len() as u32).any(|port| active.contains(&Value { node, port }))
}

fn no_rule(subject: &Subject, composite: &str) -> Diagnostic {
    let class = subject.class.name();
    Diagnostic::new(format!("composite `{composite}` has no rule for `{}` (class {class})", subject.op))
        .of_kind(DiagnosticKind::NoRule)
        .at(&subject.name)
        .help("choose another composite, or name a rule for it in a composite file of your own")
}
