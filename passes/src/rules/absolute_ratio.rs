//! Absolute ratio for additions, sums and products.

use lrpc_ir::graph::Value;
use lrpc_ir::ops::{Binary, Elementwise, Op};
use lrpc_ir::{Absorbed, Class};

use super::{BIAS_OR_REDISTRIBUTE, EPS, RuleDef, STABILISER, shares};
use crate::adjoint;
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Flow, Site};

const DOC: &str = "
# Formula
For two operands s = R / S(|a| + |b|), R_a = |a| ⊙ s, R_b = |b| ⊙ s; for sums, means, pooling and resizing
s = R / S(f(|x|)), R_x = |x| ⊙ VJP(s). A divisor counts with |1/b|.

# Conserves?
Up to the stabiliser's share and that of constants, which is in the ledger as bias.

# Use when
Residual additions whose signed shares grow without bound where operands cancel.

# Parameters
`eps`, `stabiliser`: stabiliser of the denominator. `bias`: `include` and `operand` let an added constant take its share, `exclude` leaves it
out, `redistribute` gives its share and the stabiliser's to the active operand: under both R_x = R.

# Reference
Otsuki et al. 2024 (ratio split); Lee & Arias 2025.

# Example graph
%D.y = add %size.y, %size.y.1; %s.y = ratio %R.y, %S.y; %R.x.y = mul %size.y, %s.y
";

pub(super) const RULE: RuleDef = RuleDef {
    name: "AbsRatio",
    doc: DOC,
    parameters: &[EPS, STABILISER, BIAS_OR_REDISTRIBUTE],
    classes: &["additive", "bilinear"],
    emit,
};

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    if shares::leaves_constant_out(site)? {
        let relevance = site.relevance(b)?;
        return site.flows(b, |_, _| Ok(Flow::Relevance(relevance)));
    }
    by_size(b, site)
}

/// Shares by absolute value, a constant's booked as bias.
pub(super) fn by_size(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let stabiliser = site.stabiliser()?;
    let relevance = site.relevance(b)?;
    match &site.op {
        Op::Elementwise(Elementwise::Binary(binary)) => {
            let sizes = [size_of(b, site, 0, *binary)?, size_of(b, site, 1, *binary)?];
            let denominator = b.add(sizes[0], sizes[1], "D")?;
            let s = b.quotient(relevance, denominator, stabiliser, "s")?;
            // A mask of −∞ takes nothing where nothing arrives.
            let shares = [b.weigh(sizes[0], s, "part")?, b.weigh(sizes[1], s, "part")?];
            for (slot, share) in shares.into_iter().enumerate() {
                if !site.active[slot] {
                    b.absorb(Absorbed::Bias, share);
                }
            }
            site.flows(b, |_, slot| Ok(Flow::Relevance(shares[slot])))
        }
        _ if site.class == Class::Additive => {
            let x = b.activation(site.operands[0])?;
            let size = b.magnitude(x, "size")?;
            let mut operands = vec![size];
            for &index in site.operands.iter().skip(1) {
                operands.push(b.activation(index)?);
            }
            let denominator = b.op(site.op.clone(), &operands, "D")?;
            let s = b.quotient(relevance, denominator, stabiliser, "s")?;
            let back = adjoint::vjp(b, site, 0, s)?;
            let share = b.weigh(size, back, "part")?;
            site.flows(b, |_, _| Ok(Flow::Relevance(share)))
        }
        other => Err(lrpc_ir::Diagnostic::new(format!("AbsRatio does not serve `{}`", other.mnemonic()))),
    }
}

fn size_of(b: &mut RelevanceBuilder, site: &Site, slot: usize, binary: Binary) -> Built<Value> {
    let operand = b.activation(site.operands[slot])?;
    let size = b.magnitude(operand, "size")?;
    if binary == Binary::Div && slot == 1 {
        return b.unary(lrpc_ir::ops::Unary::plain(lrpc_ir::ops::Function::Reciprocal), size, "size");
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn absolute_ratio_add() {
        check_rule(
            "absolute_ratio_add",
            "AbsRatio",
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
}
