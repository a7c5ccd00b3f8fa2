//! ε rule for linear maps; LRP-0 at ε = 0.

use lrpc_ir::Absorbed;
use lrpc_ir::ops::Binary;

use super::unit_map::UnitMap;
use super::{BIAS_OR_REDISTRIBUTE, EPS, RuleDef, STABILISER, shares};
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Flow, LinearSite, Site};

const DOC: &str = "
# Formula
s = R / S(z), R_x = x ⊙ VJP_W(s), with z = xW + b and S(z) = z + ε·sg(z). At ε = 0 this is LRP-0, with 0/0 = 0. Under
`bias=redistribute` what bias and stabiliser would absorb goes back in equal parts to the n inputs that an output sees (of
a convolution those inside the image): R_i = Σ_j (x_i·w_ij + (b_j + S(z_j) − z_j)/n_j)·s_j.

# Conserves?
Up to the bias' share Σ b·s and the stabiliser's Σ (S(z) − z)·s; both are in the ledger. Under `bias=redistribute` exactly,
but for outputs that see no input, and those with z = 0 at ε = 0; it puts relevance where x = 0.

# Use when
Dense layers, and every linear map of a network that is to be explained close to its function.

# Parameters
`eps`, `stabiliser`: stabiliser of the denominator. `bias`: `include` keeps the bias in z, `exclude` takes z = xW,
`redistribute` as above, `operand` first shares R between xW and b by their sizes.

# Reference
Bach et al. 2015, eq. 58; Montavon et al. 2019, section 10.2; redistribution: Arras et al. 2017, eq. 2 with δ = 1.

# Example graph
%s.y = ratio %R.y, %S.y; %t.y = dot %s.y, @w {contract=1x1}; %R.x = weigh %p.x, %t.y
";

pub(super) const RULE: RuleDef = RuleDef {
    name: "Epsilon",
    doc: DOC,
    parameters: &[EPS, STABILISER, BIAS_OR_REDISTRIBUTE],
    classes: &["linear"],
    emit,
};

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let linear = site.linear(b)?;
    if site.word("bias")? == "redistribute" {
        return redistributed(b, site, &linear);
    }
    let site = &shares::behind_bias(b, site, &linear)?;
    let stabiliser = site.stabiliser()?;
    let bias = shares::bias_in(b, site, &linear)?;
    let s = if bias.is_some() || linear.bias.is_none() {
        site.signal(b, stabiliser)?
    } else {
        let relevance = site.relevance(b)?;
        let z = linear.output_without_bias(b)?;
        b.quotient(relevance, z, stabiliser, "s")?
    };
    shares::absorb_bias(b, bias, s)?;
    let back = linear.transpose(b, s, linear.weight, "t")?;
    site.flows(b, |_, _| Ok(Flow::Times(back)))
}

/// The shares of bias and stabiliser in equal parts on top of each input's own.
fn redistributed(b: &mut RelevanceBuilder, site: &Site, linear: &LinearSite) -> Built<Vec<Flow>> {
    let (relevance, z) = (site.relevance(b)?, b.activation(linear.output)?);
    let quotient = b.divide(relevance, z, site.stabiliser()?, "s")?;
    if let Some(lost) = quotient.lost {
        b.absorb(Absorbed::Stabiliser, lost);
    }
    let s = quotient.value;
    let mut spread = Vec::from_iter(quotient.added.map(|share| (Absorbed::Stabiliser, share)));
    if let Some(bias) = linear.bias {
        let bias = linear.bias_like_output(b, bias)?;
        spread.push((Absorbed::Bias, b.mul(bias, s, "b")?));
    }
    let back = linear.transpose(b, s, linear.weight, "t")?;
    let map = UnitMap::of(b, linear)?;
    let count = map.count(b)?;
    let mut sum = None;
    for &(kind, share) in &spread {
        if map.may_see_nothing() {
            let stays = b.where_zero(count, share)?;
            b.absorb(kind, stays);
        }
        sum = Some(sum.map_or(Ok(share), |sum| b.add(sum, share, "e"))?);
    }
    let Some(sum) = sum else { return site.flows(b, |_, _| Ok(Flow::Times(back))) };
    let each = b.binary(Binary::Ratio, sum, count, "each")?;
    let equal = map.transpose(b, each)?;
    let x = b.activation(linear.input)?;
    let own = b.weigh(x, back, "part")?;
    let result = b.add(own, equal, "part")?;
    site.flows(b, |_, _| Ok(Flow::Relevance(result)))
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn epsilon_dot() {
        check_rule(
            "epsilon_dot",
            "Epsilon",
            "",
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
    fn epsilon_conv_without_bias() {
        check_rule(
            "epsilon_conv_without_bias",
            "Epsilon",
            "bias = 'exclude'",
            r#"
        input %x : f32[N, 2, 4, 4]
        weight @w : f32[8, 2, 3, 3]
        weight @b : f32[8]
        forward
          %y = conv %x, @w, @b {pad=1} : f32[N, 8, 4, 4] from "/conv"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn epsilon_redistribute() {
        check_rule(
            "epsilon_redistribute",
            "Epsilon",
            "bias = 'redistribute', stabiliser = 'clip'",
            r#"
        input %x : f32[N, 2, 4, 4]
        weight @w : f32[8, 2, 3, 3]
        weight @b : f32[8]
        forward
          %y = conv %x, @w, @b {pad=1} : f32[N, 8, 4, 4] from "/conv"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn epsilon_relative() {
        check_rule(
            "epsilon_relative",
            "Epsilon",
            "eps = 0.01, stabiliser = 'relative'",
            r#"
        input %x : f32[N, 3]
        weight @w : f32[3, 5]
        forward
          %y = dot %x, @w {contract=1x0} : f32[N, 5] from "/fc"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn lrp_0() {
        check_rule(
            "lrp_0",
            "Epsilon",
            "eps = 0.0",
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
}
