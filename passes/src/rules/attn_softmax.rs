//! AttnLRP's rule for softmax.

use lrpc_ir::graph::{Graph, Value};
use lrpc_ir::ops::{Binary, Compare, Elementwise, Function, Movement, Normalize, Op, ReduceKind, Unary};
use lrpc_ir::{Absorbed, Diagnostic, Dim};

use super::RuleDef;
use crate::adjoint;
use crate::adjoint::elementwise::mask;
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Carrier, Flow, Site};

const DOC: &str = "
# Formula
With s = softmax(x) along its axis: R_x = x ⊙ (R − s·ΣR), and 0 where x is masked: where what was added to it, or what
stands in its place, is below −2²⁴, so that f32 has no fractions left there. A log-softmax is the logarithm behind a
softmax and passes R through. As coefficient it is the plain VJP.

# Conserves?
No, by definition: the Taylor expansion leaves R ⊙ (1 − (x − x̄)) with the expected x̄ = Σ s·x, 0 standing for x where it
is masked; that is in the ledger as the rule's own.

# Use when
Softmax in attention and at the head of a classifier.

# Parameters
None.

# Reference
Achtibat et al. 2024, proposition 3.1.

# Example graph
%sum.y = reduce_sum %R.y {axes=[1], keep=true}; %part.y = mul %p.y, %sum.y.1; %t.y = sub %R.y, %part.y;
%R.x = weigh %p.x, %t.y
";

/// From here on downwards a summand is a mask: f32 has no digits for fractions of a logit there.
const MASKED: f64 = -16_777_216.0;

pub(super) const RULE: RuleDef =
    RuleDef { name: "AttnSoftmax", doc: DOC, parameters: &[], classes: &["softmax", "log_softmax"], emit };

/// The linear part of a softmax's expansion at its input.
pub(super) struct Expansion {
    pub(super) axis: usize,
    is_log: bool,
    /// `R`.
    pub(super) relevance: Value,
    /// `s`.
    pub(super) softmax: Value,
    /// `R − s·ΣR`, and 0 where `x` is masked.
    pub(super) formula: Value,
    /// Where `x` is masked, if it can be.
    masked: Option<Value>,
}

impl Expansion {
    pub(super) fn of(b: &mut RelevanceBuilder, site: &Site) -> Built<Expansion> {
        let (axis, is_log) = match &site.op {
            Op::Normalize(Normalize::Softmax { axis, .. }) => (*axis, false),
            Op::Normalize(Normalize::LogSoftmax { axis }) => (*axis, true),
            other => return Err(Diagnostic::new(format!("`{}` is no softmax", other.mnemonic()))),
        };
        let relevance = site.relevance(b)?;
        let y = b.activation(site.output)?;
        let softmax = if is_log { b.unary(Unary::plain(Function::Exp), y, "softmax")? } else { y };
        let sum = b.spread(ReduceKind::Sum, relevance, &[axis], "sum")?;
        let share = b.mul(softmax, sum, "part")?;
        let masked = masked(b, site)?;
        let formula = b.sub(relevance, share, "t")?;
        let formula = unmasked(b, masked, formula)?;
        Ok(Expansion { axis, is_log, relevance, softmax, formula, masked })
    }
}

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let expansion = Expansion::of(b, site)?;
    let back = match site.arrival.carrier {
        Carrier::Coefficient if !expansion.is_log => {
            let back = adjoint::vjp(b, site, 0, site.arrival.value)?;
            unmasked(b, expansion.masked, back)?
        }
        _ => expansion.formula,
    };
    let rest = remainder(b, site, &expansion)?;
    b.absorb(Absorbed::Rule, rest);
    site.flows(b, |_, _| Ok(Flow::Times(back)))
}

/// `value`, and 0 where it is masked.
fn unmasked(b: &mut RelevanceBuilder, masked: Option<Value>, value: Value) -> Built<Value> {
    match masked {
        Some(masked) => mask(b, masked, value, false),
        None => Ok(value),
    }
}

/// `R ⊙ (1 − (x − x̄))`. As `Σ s = 1`, both may be counted from the largest, so that nothing large cancels.
fn remainder(b: &mut RelevanceBuilder, site: &Site, expansion: &Expansion) -> Built<Value> {
    let Expansion { axis, relevance, softmax, masked, .. } = *expansion;
    let x = b.activation(site.operands[0])?;
    let x = unmasked(b, masked, x)?;
    let largest = b.spread(ReduceKind::Max, x, &[axis], "max")?;
    let below = b.sub(x, largest, "below")?;
    let weighted = b.weigh(below, softmax, "mean")?;
    let mean = b.spread(ReduceKind::Sum, weighted, &[axis], "mean")?;
    let by_mean = b.mul(mean, relevance, "rest")?;
    let by_itself = b.weigh(below, relevance, "rest")?;
    let rest = b.add(relevance, by_mean, "rest")?;
    b.sub(rest, by_itself, "rest")
}

/// Where the operand is masked, if something is added to it or chosen in its place.
pub(super) fn masked(b: &mut RelevanceBuilder, site: &Site) -> Built<Option<Value>> {
    let x = site.operands[0];
    let op = b.graph().node(x.node).op.clone();
    let operands = b.graph().operands(x.node);
    let shape = b.ty(x).shape;
    match (op, operands.as_slice()) {
        (Op::Elementwise(Elementwise::Binary(Binary::Add)), &[first, second]) => {
            // What is copied is smaller than the sum; where neither or both are, the sum itself tells.
            let copied = [first, second].map(|operand| copied(b.graph(), operand));
            let summand = match copied {
                [Some(small), None] | [None, Some(small)] => small,
                _ => x,
            };
            below(b, summand, &shape).map(Some)
        }
        (Op::Elementwise(Elementwise::Where), &[condition, first, second]) => {
            let is_filling = |&slot: &usize| is_copy_of_a_constant(b.graph(), [first, second][slot]);
            let Some(slot) = [0, 1].into_iter().find(is_filling) else { return below(b, x, &shape).map(Some) };
            let filling = copied(b.graph(), [first, second][slot]).unwrap_or([first, second][slot]);
            let low = below(b, filling, &shape)?;
            let condition = b.activation(condition)?;
            let chosen = match slot {
                0 => condition,
                _ => b.unary(Unary::plain(Function::Not), condition, "mask")?,
            };
            b.binary(Binary::And, chosen, low, "mask").map(Some)
        }
        _ => Ok(None),
    }
}

fn copied(graph: &Graph, value: Value) -> Option<Value> {
    matches!(graph.node(value.node).op, Op::Movement(Movement::Broadcast { .. }))
        .then(|| graph.operand(value.node, 0))?
}

fn is_copy_of_a_constant(graph: &Graph, value: Value) -> bool {
    graph.is_constant(copied(graph, value).unwrap_or(value))
}

/// Where `value`, copied to `shape`, is that of a mask.
fn below(b: &mut RelevanceBuilder, value: Value, shape: &[Dim]) -> Built<Value> {
    let value = b.activation(value)?;
    let ty = b.ty(value);
    let bound = b.filled(MASKED, ty.dtype, &ty.shape)?;
    let low = b.op(Op::Elementwise(Elementwise::Compare(Compare::LessOrEqual)), &[value, bound], "mask")?;
    b.broadcast(low, shape, "mask")
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn attn_softmax() {
        check_rule(
            "attn_softmax",
            "AttnSoftmax",
            "",
            r#"
        input %x : f32[N, 3]
        forward
        %y = softmax %x {axis=1} : f32[N, 3] from "/softmax"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn attn_softmax_behind_a_mask() {
        check_rule(
            "attn_softmax_behind_a_mask",
            "AttnSoftmax",
            "",
            r#"
        input %x : f32[2, 3]
        weight @mask : f32[3]
        forward
        %wide = broadcast @mask : f32[2, 3]
        %scores = add %x, %wide : f32[2, 3] from "/scores"
        %y = softmax %scores {axis=1} : f32[2, 3] from "/softmax"
        result "output/y" = %y
        "#,
        );
    }
}
