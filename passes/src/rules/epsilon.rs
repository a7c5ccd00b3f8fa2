//! ε rule for linear maps; LRP-0 at ε = 0.

use super::{BIAS, EPS, RuleDef, shares};
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Flow, Site};

const DOC: &str = "
# Formula
s = R / S(z), R_x = x ⊙ VJP_W(s), with z = xW + b and S(z) = z + ε·sg(z). At ε = 0 this is LRP-0, with 0/0 = 0.

# Conserves?
Up to the bias' share Σ b·s and the stabiliser's Σ ε·sg(z)·s; both are in the ledger.

# Use when
Dense layers, and every linear map of a network that is to be explained close to its function.

# Parameters
`eps`: ε. `bias`: `include` keeps the bias in z, `exclude` takes z = xW, `operand`
first shares R between xW and b by their sizes.

# Reference
Bach et al. 2015, eq. 58; Montavon et al. 2019, section 10.2.

# Example graph
%s.y = div %R.y, %S.y; %t.y = dot %s.y, @w {contract=1x1}; %R.x = weigh %p.x, %t.y
";

pub(super) const RULE: RuleDef =
    RuleDef { name: "Epsilon", doc: DOC, parameters: &[EPS, BIAS], classes: &["linear"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let linear = site.linear(b)?;
    let site = &shares::behind_bias(b, site, &linear)?;
    let eps = site.number("eps")?;
    let bias = shares::bias_in(b, site, &linear)?;
    let s = if bias.is_some() || linear.bias.is_none() {
        site.signal(b, eps)?
    } else {
        let relevance = site.relevance(b)?;
        let z = linear.output_without_bias(b)?;
        b.quotient(relevance, z, eps, "s")?
    };
    shares::absorb_bias(b, bias, s)?;
    let back = linear.transpose(b, s, linear.weight, "t")?;
    site.flows(b, |_, _| Ok(Flow::Times(back)))
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
