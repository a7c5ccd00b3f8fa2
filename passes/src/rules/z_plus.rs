//! z⁺ rule for linear maps, generalised to inputs of any sign.

use super::shares::{self, Part};
use super::{BIAS, EPS, RuleDef, STABILISER};
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Flow, Site};

const DOC: &str = "
# Formula
D = P + b⁺ with P = x⁺W⁺ + x⁻W⁻, s = R / S(D), R_x = x⁺ ⊙ VJP_{W⁺}(s) + x⁻ ⊙ VJP_{W⁻}(s).

# Conserves?
Up to the bias' share Σ b⁺·s and the stabiliser's; both are in the ledger.

# Use when
Convolutions of image networks, where only supporting evidence shall be shown.

# Parameters
`eps`, `stabiliser`: stabiliser of the denominator. `bias`: `include`, `exclude` or `operand`.

# Reference
Montavon et al. 2017, eq. 16; for inputs of any sign as α-β rule with α = 1, β = 0 (Bach et al. 2015, eq. 60).

# Example graph
%P.y = conv %p.x, %Wpos.y; %D.y = add %P.y, %bpos.y; %s.y = ratio %R.y, %S.y; %t.y = conv_transpose %s.y, %Wpos.y;
%R.x = weigh %p.x, %t.y
";

pub(super) const RULE: RuleDef =
    RuleDef { name: "ZPlus", doc: DOC, parameters: &[EPS, STABILISER, BIAS], classes: &["linear"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let linear = site.linear(b)?;
    let site = &shares::behind_bias(b, site, &linear)?;
    let bias = shares::bias_in(b, site, &linear)?;
    let bias = shares::part_of_bias(b, bias, Part::Positive)?;
    let positive = shares::contributions(b, &linear, Part::Positive)?;
    let denominator = shares::with_bias(b, positive, bias)?;
    let relevance = site.relevance(b)?;
    let s = b.quotient(relevance, denominator, site.stabiliser()?, "s")?;
    shares::absorb_bias(b, bias, s)?;
    let flow = shares::weighted(b, &linear, Part::Positive, s)?;
    site.flows(b, |_, _| Ok(flow))
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn z_plus_few_contributions() {
        check_rule(
            "z_plus_few_contributions",
            "ZPlus",
            "",
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
    fn z_plus_any_sign() {
        check_rule(
            "z_plus_any_sign",
            "ZPlus",
            "",
            r#"
        input %x : f32[N, 8, 4, 4]
        weight @w : f32[8, 8, 3, 3]
        weight @b : f32[8]
        forward
          %y = conv %x, @w, @b {pad=1} : f32[N, 8, 4, 4] from "/conv"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn z_plus_after_relu() {
        check_rule(
            "z_plus_after_relu",
            "ZPlus",
            "",
            r#"
        input %x : f32[N, 4, 4, 4]
        weight @w : f32[8, 4, 3, 3]
        weight @b : f32[8]
        forward
          %h = relu %x : f32[N, 4, 4, 4] from "/relu"
          %y = conv %h, @w, @b {pad=1} : f32[N, 8, 4, 4] from "/conv"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn z_plus_with_an_addend() {
        check_rule(
            "z_plus_with_an_addend",
            "ZPlus",
            "",
            r#"
        input %x : f32[N, 40]
        input %t : i64[N, 5]
        weight @w : f32[40, 5]
        weight @b : f32[5]
        forward
          %h = dot %x, @w, @b {contract=1x0} : f32[N, 5] from "/fc"
          %step = cast %t : f32[N, 5] from "/step"
          %y = add %h, %step : f32[N, 5] from "/add"
        result "output/y" = %y
        "#,
        );
    }
}
