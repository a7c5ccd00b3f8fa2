//! Shares of a window in proportion to its elements.

use lrpc_ir::ops::{PoolKind, ReduceKind};

use super::uniform_pool::alike;
use super::{EPS, RuleDef, STABILISER};
use crate::adjoint;
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Flow, Site};

const DOC: &str = "
# Formula
s = R / S(Σ x) with the sum over each window or along the axes of a reduction, R_x = x ⊙ (sum of s over the windows that x
is in): what `SignedRatio` does on average pooling, here for maxima too.

# Conserves?
Up to the stabiliser's share, which is in the ledger.

# Use when
Max pooling of non-negative activations, as if it were pooling by average; with both signs a sum may cancel.

# Parameters
`eps`, `stabiliser`: stabiliser of the denominator.

# Reference
Otsuki et al. 2024 (max pooling treated as average pooling); docs/rule-book.md section 4.

# Example graph
%D.y = pool %p.x {kind=sum, window=[2, 2], stride=2}; %s.y = ratio %R.y, %S.y; %R.x = weigh %p.x, %t.y
";

pub(super) const RULE: RuleDef = RuleDef {
    name: "ProportionalPool",
    doc: DOC,
    parameters: &[EPS, STABILISER],
    classes: &["additive", "select"],
    emit,
};

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let stabiliser = site.stabiliser()?;
    let sum = Site { op: alike(&site.op, PoolKind::Sum, ReduceKind::Sum)?, ..site.clone() };
    let relevance = site.relevance(b)?;
    let x = b.activation(site.operands[0])?;
    let denominator = b.op(sum.op.clone(), &[x], "D")?;
    let s = b.quotient(relevance, denominator, stabiliser, "s")?;
    let back = adjoint::vjp(b, &sum, 0, s)?;
    site.flows(b, |_, _| Ok(Flow::Times(back)))
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn proportional_pool() {
        check_rule(
            "proportional_pool",
            "ProportionalPool",
            "",
            r#"
        input %x : f32[N, 2, 4, 4]
        forward
          %y = pool %x {kind=max, window=[2, 2], stride=2} : f32[N, 2, 2, 2] from "/pool"
        result "output/y" = %y
        "#,
        );
    }
}
