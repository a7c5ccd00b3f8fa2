//! AttnLRP's softmax with what its expansion leaves given back to the scores.

use lrpc_ir::ops::{Compare, Elementwise, Op, ReduceKind};

use super::{RuleDef, attn_softmax};
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Flow, Site};

const DOC: &str = "
# Formula
With s = softmax(x) along its axis, expanded at x: s_j = Σ_i J_ji·x_i + b_j, J_ji = s_j(δ_ij − s_i). The linear part gives
t_i = x_i(R_i − s_i·ΣR) as `AttnSoftmax` does; what is left of ΣR, Σ_j b_j·R_j/s_j = ΣR − Σt, goes in equal parts to the n
scores that are not masked (s > 0): R_i = t_i + (ΣR − Σt)/n. A log-softmax is the logarithm behind a softmax and passes R
through.

# Conserves?
Exactly.

# Use when
Softmax where relevance shall be conserved and still pass the scores.

# Parameters
None.

# Reference
Achtibat et al. 2024, section 3.1 (a bias shared equally among the inputs) with proposition 3.1.

# Example graph
%sent.y = reduce_sum %part.y {axes=[1], keep=true}; %each.y = div %left.y, %count.y; %R.x = add %part.y, %masked.y
";

pub(super) const RULE: RuleDef =
    RuleDef { name: "BiasRedistributed", doc: DOC, parameters: &[], classes: &["softmax", "log_softmax"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let expansion = attn_softmax::Expansion::of(b, site)?;
    let x = b.activation(site.operands[0])?;
    let linear = b.weigh(x, expansion.formula, "part")?;
    let left = b.sub(expansion.relevance, linear, "left")?;
    let left = b.spread(ReduceKind::Sum, left, &[expansion.axis], "left")?;

    let ty = b.ty(expansion.softmax);
    let (zero, one) = (b.filled(0.0, ty.dtype, &ty.shape)?, b.filled(1.0, ty.dtype, &ty.shape)?);
    let seen = b.op(Op::Elementwise(Elementwise::Compare(Compare::Greater)), &[expansion.softmax, zero], "seen")?;
    let counted = b.op(Op::Elementwise(Elementwise::Where), &[seen, one, zero], "counted")?;
    let count = b.spread(ReduceKind::Sum, counted, &[expansion.axis], "count")?;
    let each = b.binary(lrpc_ir::ops::Binary::Div, left, count, "each")?;
    let share = b.mul(each, counted, "share")?;
    let result = b.add(linear, share, "part")?;
    site.flows(b, |_, _| Ok(Flow::Relevance(result)))
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn bias_redistributed() {
        check_rule(
            "bias_redistributed",
            "BiasRedistributed",
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
