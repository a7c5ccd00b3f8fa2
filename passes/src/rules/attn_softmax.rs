//! AttnLRP's rule for softmax.

use lrpc_ir::graph::Value;
use lrpc_ir::ops::{Function, Normalize, Op, ReduceKind, Unary};
use lrpc_ir::{Absorbed, Diagnostic};

use super::RuleDef;
use crate::adjoint;
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Carrier, Flow, Site};

const DOC: &str = "
# Formula
With s = softmax(x) along its axis: R_x = x ⊙ (R − s·ΣR), and 0 where x is masked. A log-softmax is the logarithm behind a
softmax and passes R through. As coefficient it is the plain VJP.

# Conserves?
No, by definition: what the Taylor expansion leaves, R − x ⊙ (R − s·ΣR), is in the ledger as the rule's own.

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
    /// `R − s·ΣR`.
    pub(super) formula: Value,
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
        let formula = b.sub(relevance, share, "t")?;
        Ok(Expansion { axis, is_log, relevance, softmax, formula })
    }
}

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let Expansion { is_log, relevance, formula, .. } = Expansion::of(b, site)?;
    let back = match site.arrival.carrier {
        Carrier::Coefficient if !is_log => adjoint::vjp(b, site, 0, site.arrival.value)?,
        _ => formula,
    };
    let x = b.activation(site.operands[0])?;
    // The formula's own term, so that the ledger proves the coefficient.
    let sent = b.weigh(x, formula, "part")?;
    let rest = b.sub(relevance, sent, "rest")?;
    b.absorb(Absorbed::Rule, rest);
    site.flows(b, |_, _| Ok(Flow::Times(back)))
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
}
