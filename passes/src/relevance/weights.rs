//! Relevance of weights: the contributions behind the relevance of activations, summed the other way.
//!
//! Every rule for a linear map sends `R_x = Σ_k X_k ⊙ VJP_x(s_k; W_k)`: the contributions
//! `c_ij = Σ_k X_k,i · W_k,ij · s_k,j`, summed over `j`. The weight's relevance is the same contributions, summed over
//! samples and places instead: `R_W = Σ_k W_k ⊙ VJP_w(s_k; X_k)`. What a bias absorbs is its relevance, element by element.
//!
//! Rules know nothing of this. The builder records every transposed product that a rule makes, with `s_k` and `W_k`;
//! `X_k` is read off the nodes between the product and what the rule sends, in which it is linear.

use std::collections::{HashMap, HashSet};

use lrpc_ir::graph::{Graph, NodeId, Value};
use lrpc_ir::ops::{Binary, Class, Elementwise, Function, Linear, Op, Reduce, ReduceKind, Unary};
use lrpc_ir::{Absorbed, Diagnostic};

use super::builder::{Built, RelevanceBuilder};
use super::composite::Quantity;
use super::site::{Arrival, Carrier, Flow, Site};
use crate::adjoint;
use crate::rules::RuleDef;

/// A transposed product `VJP_x(signal; weight)` that a rule has made.
#[derive(Debug, Clone)]
pub(crate) struct Term {
    pub(crate) op: Linear,
    /// The operand that it is the product for.
    pub(crate) slot: usize,
    pub(crate) weight: Value,
    pub(crate) signal: Value,
    pub(crate) result: Value,
}

/// The weights that relevance is asked for.
#[derive(Debug, Default)]
pub(super) struct Weights {
    requested: HashSet<Value>,
    /// All values that depend on them.
    dependent: HashSet<Value>,
}

/// What a rule did at a site.
pub(super) struct Applied<'a> {
    pub(super) rule: &'static RuleDef,
    pub(super) flows: &'a [Flow],
    pub(super) absorbed: &'a [(Absorbed, Value)],
    pub(super) terms: &'a [Term],
}

impl Weights {
    /// `order` are the graph's nodes, operands before users.
    pub(super) fn of(graph: &Graph, order: &[NodeId], requested: &[Value]) -> Weights {
        let mut dependent: HashSet<Value> = requested.iter().copied().collect();
        for &node in order.iter().filter(|_| !requested.is_empty()) {
            if graph.operands(node).iter().any(|operand| dependent.contains(operand)) {
                let ports = 0..graph.node(node).types().len() as u32;
                dependent.extend(ports.map(|port| Value { node, port }));
            }
        }
        Weights { requested: requested.iter().copied().collect(), dependent }
    }

    /// Whether operand `slot` of the site is a constant made of requested weights.
    fn concerns(&self, site: &Site, slot: usize) -> bool {
        let is_active = site.active.get(slot).copied().unwrap_or(true);
        !is_active && site.operands.get(slot).is_some_and(|operand| self.dependent.contains(operand))
    }

    /// Whether `value` depends on a requested weight.
    pub(super) fn reach(&self, value: Value) -> bool {
        self.dependent.contains(&value)
    }

    /// The requested weights, in order.
    pub(super) fn requested(&self) -> Vec<Value> {
        let mut requested: Vec<Value> = self.requested.iter().copied().collect();
        requested.sort_unstable();
        requested
    }

    /// What the requested weights among the site's operands get: the weight and its relevance, or its gradient where
    /// `quantity` is the coefficient.
    ///
    /// # Errors
    /// Operations and rules for which a weight's relevance is not defined, and weights that are merged with others.
    pub(super) fn at(
        &self,
        b: &mut RelevanceBuilder,
        site: &Site,
        applied: &Applied,
        quantity: Quantity,
    ) -> Built<Vec<(Value, Arrival)>> {
        let mut found = Vec::new();
        for slot in (0..site.operands.len()).filter(|&slot| self.concerns(site, slot)) {
            let carrier = match quantity {
                Quantity::Relevance => Carrier::Relevance,
                Quantity::Coefficient => Carrier::Coefficient,
            };
            let value = share(b, site, slot, applied, carrier)?;
            found.push(self.origin(b, site.operands[slot], Arrival { carrier, value })?);
        }
        Ok(found)
    }

    /// From a constant operand back to the weight that it is made of.
    pub(super) fn origin(&self, b: &mut RelevanceBuilder, operand: Value, arrival: Arrival) -> Built<(Value, Arrival)> {
        let (mut value, mut arrival) = (operand, arrival);
        while !self.requested.contains(&value) {
            let node = value.node;
            let operands = b.graph().operands(node);
            let slots: Vec<usize> =
                (0..operands.len()).filter(|&slot| self.dependent.contains(&operands[slot])).collect();
            let op = b.graph().node(node).op.clone();
            let slot = match slots.as_slice() {
                [slot] if moves(&op) || scales(&op, *slot) => *slot,
                _ => return Err(merged(b.graph(), value, &op)),
            };
            if moves(&op) || arrival.carrier == Carrier::Coefficient {
                let active = (0..operands.len()).map(|at| at == slot).collect();
                let site = Site::of_constant(node, op, operands.clone(), active, value, arrival);
                arrival.value = adjoint::vjp(b, &site, slot, arrival.value)?;
            }
            value = operands[slot];
        }
        Ok((value, arrival))
    }
}

/// Whether the operation only moves elements.
fn moves(op: &Op) -> bool {
    matches!(op, Op::Movement(_)) && adjoint::movement::has_adjoint(op)
}

/// Whether the operation multiplies operand `slot` by a constant: what is relevant then stays where it is.
fn scales(op: &Op, slot: usize) -> bool {
    match op {
        Op::Elementwise(Elementwise::Binary(Binary::Mul)) => true,
        Op::Elementwise(Elementwise::Binary(Binary::Div)) => slot == 0,
        Op::Elementwise(Elementwise::Unary(unary)) => matches!(unary.function, Function::Scale | Function::Neg),
        _ => false,
    }
}

fn merged(graph: &Graph, value: Value, op: &Op) -> Diagnostic {
    let message =
        format!("the weight is merged with other constants: `{}` = {} of several", graph.name(value), op.mnemonic());
    Diagnostic::request(message).help("ask for the other weight of the layer, or for the tensor that it makes")
}

/// What operand `slot` of the site, a constant, gets.
fn share(b: &mut RelevanceBuilder, site: &Site, slot: usize, applied: &Applied, carrier: Carrier) -> Built<Value> {
    let known = is_weight_of_linear(site, slot) || bias_slot(site) == Some(slot) || is_factor_or_addend(&site.op);
    if !known {
        let what = format!("`{}` (class {})", site.op.mnemonic(), site.class.name());
        return Err(Diagnostic::request(format!("no relevance of weights is defined for operand {slot} of {what}"))
            .help("it is defined for kernels, matrices, biases, and constants that multiply or are added"));
    }
    if applied.rule.name == "Gradient" {
        return gradient(b, site, slot, carrier);
    }
    if carrier == Carrier::Coefficient {
        return Err(Diagnostic::request(format!(
            "the rule {} gives a weight relevance and no gradient",
            applied.rule.name
        )));
    }
    match site.class {
        Class::Linear { input, weight, .. } if slot == weight => of_weight(b, site, input, weight, applied),
        _ if matches!(site.op, Op::Elementwise(Elementwise::Binary(Binary::Mul))) => site.relevance(b),
        _ => of_bias(b, site, slot, applied),
    }
}

fn is_weight_of_linear(site: &Site, slot: usize) -> bool {
    matches!(site.class, Class::Linear { weight, .. } if weight == slot)
}

fn bias_slot(site: &Site) -> Option<usize> {
    match site.class {
        Class::Linear { bias, .. } => bias,
        _ => None,
    }
}

fn is_factor_or_addend(op: &Op) -> bool {
    matches!(op, Op::Elementwise(Elementwise::Binary(Binary::Mul | Binary::Add | Binary::Sub)))
}

/// The gradient, or the weight times its gradient.
fn gradient(b: &mut RelevanceBuilder, site: &Site, slot: usize, carrier: Carrier) -> Built<Value> {
    let g = site.coefficient(b)?;
    let gradient = match bias_slot(site) == Some(slot) {
        true => sum_like_bias(b, site, slot, g)?,
        false => adjoint::vjp(b, site, slot, g)?,
    };
    match carrier {
        Carrier::Coefficient => Ok(gradient),
        Carrier::Relevance => {
            let weight = b.activation(site.operands[slot])?;
            b.weigh(weight, gradient, "R")
        }
    }
}

/// What the site's bias, or a constant addend, has absorbed.
fn of_bias(b: &mut RelevanceBuilder, site: &Site, slot: usize, applied: &Applied) -> Built<Value> {
    if site.addend.is_some() {
        return Err(Diagnostic::request(
            "the bias is shared with a value that is added behind the map when the model runs",
        )
        .help("ask for the weight of the map alone"));
    }
    let mut sum: Option<Value> = None;
    for &(_, share) in applied.absorbed.iter().filter(|(kind, _)| *kind == Absorbed::Bias) {
        sum = Some(match sum {
            Some(sum) => b.add(sum, share, "b")?,
            None => share,
        });
    }
    match sum {
        Some(share) => sum_like_bias(b, site, slot, share),
        // The rule leaves it out.
        None => {
            let ty = b.ty(site.operands[slot]);
            b.filled(0.0, ty.dtype, &ty.shape)
        }
    }
}

/// A tensor of the output's shape, summed to the shape of the bias at `slot`.
fn sum_like_bias(b: &mut RelevanceBuilder, site: &Site, slot: usize, x: Value) -> Built<Value> {
    let (bias, rank) = (b.ty(site.operands[slot]), b.ty(x).rank());
    let axes: Vec<usize> = match &site.op {
        Op::Linear(Linear::Conv(_) | Linear::ConvTranspose(_)) => (0..rank).filter(|&axis| axis != 1).collect(),
        _ => (0..rank.saturating_sub(bias.rank())).collect(),
    };
    let sum = match axes.is_empty() {
        true => x,
        false => b.op(Op::Reduce(Reduce { kind: ReduceKind::Sum, axes, keep: false }), &[x], "t")?,
    };
    if b.ty(sum).shape == bias.shape {
        return Ok(sum);
    }
    Err(Diagnostic::new(format!("what the bias absorbed is {}, the bias {bias}", b.ty(sum))))
}

/// `Σ_k W_k ⊙ VJP_w(s_k; X_k)`.
fn of_weight(b: &mut RelevanceBuilder, site: &Site, input: usize, weight: usize, applied: &Applied) -> Built<Value> {
    let ty = b.ty(site.operands[weight]);
    let (sent, factor) = match applied.flows.get(input) {
        Some(Flow::Times(t)) => (*t, Some(b.activation(site.operands[input])?)),
        Some(Flow::Relevance(relevance)) => (*relevance, None),
        _ => return b.filled(0.0, ty.dtype, &ty.shape),
    };
    let mut factors = Factors { rule: applied.rule, terms: applied.terms, reaches: HashMap::new() };
    let mut sum: Option<Value> = None;
    for (term, factor) in factors.find(b, sent, factor)? {
        let Some(term) = applied.terms.get(term).filter(|term| term.slot == input) else { continue };
        let x = match factor {
            Some(factor) => factor,
            None => {
                let x = b.ty(site.operands[input]);
                b.filled(1.0, x.dtype, &x.shape)?
            }
        };
        let gradient = adjoint::linear::product(b, &term.op, weight, &ty, x, term.signal, "t")?;
        let part = b.weigh(term.weight, gradient, "part")?;
        sum = Some(match sum {
            Some(sum) => b.add(sum, part, "part")?,
            None => part,
        });
    }
    match sum {
        Some(sum) => Ok(sum),
        None => b.filled(0.0, ty.dtype, &ty.shape),
    }
}

/// Walks from what a rule sends back to the products that it is made of.
struct Factors<'a> {
    rule: &'a RuleDef,
    terms: &'a [Term],
    reaches: HashMap<Value, bool>,
}

/// A factor; `None` is 1.
type Factor = Option<Value>;

impl Factors<'_> {
    /// For each product, by its place among the terms, what it is multiplied by in `sent`, times `factor`.
    fn find(&mut self, b: &mut RelevanceBuilder, sent: Value, factor: Factor) -> Built<Vec<(usize, Factor)>> {
        let mut found = Vec::new();
        let mut open = vec![(sent, factor)];
        while let Some((value, factor)) = open.pop() {
            if let Some(term) = self.terms.iter().position(|term| term.result == value) {
                found.push((term, factor));
                continue;
            }
            let operands = b.graph().operands(value.node);
            let carries: Vec<bool> = operands.iter().map(|&operand| self.reaches(b, operand)).collect();
            let op = b.graph().node(value.node).op.clone();
            match (&op, operands.as_slice(), carries.as_slice()) {
                (Op::Elementwise(Elementwise::Binary(Binary::Add)), &[left, right], [true, true]) => {
                    open.extend([(left, factor), (right, factor)]);
                }
                (Op::Elementwise(Elementwise::Binary(Binary::Sub)), &[left, right], [true, true]) => {
                    let negative = scaled(b, factor, -1.0, right)?;
                    open.extend([(left, factor), (right, negative)]);
                }
                (Op::Elementwise(Elementwise::Binary(Binary::Mul | Binary::Weigh)), &[left, right], [one, other])
                    if one != other =>
                {
                    let (product, by) = if *one { (left, right) } else { (right, left) };
                    open.push((product, Some(times(b, factor, by)?)));
                }
                (Op::Elementwise(Elementwise::Unary(unary)), &[x], [true]) => {
                    let Some(number) = multiple(unary) else { return Err(self.not_carried()) };
                    open.push((x, scaled(b, factor, number, x)?));
                }
                _ => return Err(self.not_carried()),
            }
        }
        Ok(found)
    }

    /// Whether `value` is made of a product by linear operations.
    fn reaches(&mut self, b: &RelevanceBuilder, value: Value) -> bool {
        if let Some(&known) = self.reaches.get(&value) {
            return known;
        }
        let is_linear = b.made_here(value)
            && matches!(
                &b.graph().node(value.node).op,
                Op::Elementwise(Elementwise::Binary(Binary::Add | Binary::Sub | Binary::Mul | Binary::Weigh))
                    | Op::Elementwise(Elementwise::Unary(_))
            );
        // A rule chains a handful of operations, so that this depth is small.
        let known = self.terms.iter().any(|term| term.result == value)
            || (is_linear && b.graph().operands(value.node).into_iter().any(|operand| self.reaches(b, operand)));
        self.reaches.insert(value, known);
        known
    }

    fn not_carried(&self) -> Diagnostic {
        let rule = self.rule.name;
        Diagnostic::request(format!("the rule {rule} sends relevance that no weight carries"))
            .help("choose a rule that weighs contributions by the weights, such as Epsilon or Gamma, for this layer")
    }
}

/// The number that a function multiplies by, if it is one that does.
fn multiple(unary: &Unary) -> Option<f64> {
    match unary.function {
        Function::Neg => Some(-1.0),
        Function::Scale => Some(unary.parameters[0].0),
        _ => None,
    }
}

fn scaled(b: &mut RelevanceBuilder, factor: Factor, number: f64, like: Value) -> Built<Factor> {
    match factor {
        Some(factor) => b.scale(factor, number, "X").map(Some),
        None => {
            let ty = b.ty(like);
            b.filled(number, ty.dtype, &ty.shape).map(Some)
        }
    }
}

fn times(b: &mut RelevanceBuilder, factor: Factor, by: Value) -> Built<Value> {
    match factor {
        Some(factor) => b.weigh(by, factor, "X"),
        None => Ok(by),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::check_weights;

    #[test]
    fn weights_epsilon_dot() {
        check_weights(
            "weights_epsilon_dot",
            "epsilon",
            &["w", "b"],
            r#"
        input %x : f32[N, 3]
        weight @w : f32[3, 5]
        weight @b : f32[5]
        forward
          %y = dot %x, @w, @b {contract=1x0} : f32[N, 5] from "/fc"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn weights_of_a_scaled_kernel() {
        check_weights(
            "weights_of_a_scaled_kernel",
            "epsilon-plus",
            &["w"],
            r#"
        input %x : f32[N, 2, 4, 4]
        weight @w : f32[8, 2, 3, 3]
        weight @scale : f32[8, 2, 3, 3]
        prepare
          %k = mul @w, @scale : f32[8, 2, 3, 3]
        forward
          %y = conv %x, %k {pad=1, stride=2} : f32[N, 8, 2, 2] from "/conv"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn weights_gradient() {
        check_weights(
            "weights_gradient",
            "gradient",
            &["w", "b"],
            r#"
        input %x : f32[N, 4, 6]
        weight @w : f32[4, 2, 3]
        weight @b : f32[4]
        forward
          %h = conv %x, @w, @b {groups=2, dilation=2} : f32[N, 4, 2] from "/conv"
          %y = relu %h : f32[N, 4, 2] from "/relu"
        result "output/y" = %y
        "#,
        );
    }
}
