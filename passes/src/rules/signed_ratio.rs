//! Signed ratio for additions and other linear maps without parameters.

use lrpc_ir::Absorbed;
use lrpc_ir::graph::Value;

use super::{BIAS_OR_REDISTRIBUTE, EPS, RuleDef, STABILISER, absolute_ratio, shares};
use crate::adjoint;
use crate::relevance::active::is_data;
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Flow, Site};

const DOC: &str = "
# Formula
s = R / S(y), R_x = x ⊙ VJP(s): for y = a + b the shares a/S(y) and b/S(y); likewise for sums, means, average pooling,
resizing, cumulative sums and what is added at the places of an index.

# Conserves?
Up to the stabiliser's share and that of added constants, which is in the ledger as bias.

# Use when
Residual additions, bias additions, pooling by average.

# Parameters
`eps`, `stabiliser`: stabiliser of the denominator. `bias`: `include` lets an added constant take its share, `exclude` leaves it
out, `redistribute` gives its share and the stabiliser's to the active operand: under both R_x = R;
with `operand` sizes count, as in `AbsRatio`.

# Reference
Anders et al. 2021 (zennit's Norm); Achtibat et al. 2024, eq. 8.

# Example graph
%s.y = ratio %R.y, %S.y; %R.a = weigh %p.a, %s.y; %R.b = weigh %p.b, %s.y
";

pub(super) const RULE: RuleDef = RuleDef {
    name: "SignedRatio",
    doc: DOC,
    parameters: &[EPS, STABILISER, BIAS_OR_REDISTRIBUTE],
    classes: &["additive"],
    emit,
};

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    if shares::leaves_constant_out(site)? {
        let relevance = site.relevance(b)?;
        return site.flows(b, |_, _| Ok(Flow::Relevance(relevance)));
    }
    if shares::adds_constant(site) && site.word("bias")? == "operand" {
        return absolute_ratio::by_size(b, site);
    }
    let s = site.signal(b, site.stabiliser()?)?;
    for slot in 0..site.operands.len() {
        if !site.active[slot] && is_data(&site.op, slot) {
            let share = share_of(b, site, slot, s)?;
            b.absorb(Absorbed::Bias, share);
        }
    }
    site.flows(b, |b, slot| Ok(Flow::Times(adjoint::vjp(b, site, slot, s)?)))
}

/// What a constant operand takes.
fn share_of(b: &mut RelevanceBuilder, site: &Site, slot: usize, s: Value) -> Built<Value> {
    let constant = b.activation(site.operands[slot])?;
    let back = adjoint::vjp(b, site, slot, s)?;
    b.weigh(constant, back, "b")
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn signed_ratio_add() {
        check_rule(
            "signed_ratio_add",
            "SignedRatio",
            "",
            r#"
        input %x : f32[N, 3]
        input %z : f32[N, 3]
        forward
          %y = add %x, %z : f32[N, 3] from "/add"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn signed_ratio_scatter() {
        check_rule(
            "signed_ratio_scatter",
            "SignedRatio",
            "",
            r#"
        input %x : f32[4, 3]
        input %i : i64[4]
        forward
          %y = scatter_add %x, %i {axis=0} : f32[5, 3] from "/scatter"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn signed_ratio_mean() {
        check_rule(
            "signed_ratio_mean",
            "SignedRatio",
            "",
            r#"
        input %x : f32[N, 2, 4]
        forward
          %y = reduce_mean %x {axes=[1]} : f32[N, 4] from "/mean"
        result "output/y" = %y
        "#,
        );
    }
}
