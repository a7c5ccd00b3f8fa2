//! w² rule for linear maps.

use super::{BIAS_IN_OR_OUT, EPS, RuleDef, STABILISER, shares};
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Flow, Site};

const DOC: &str = "
# Formula
R_x = VJP_{W²}(R / S(Σ W² + b²)): the input does not enter.

# Conserves?
Up to the bias' share Σ b²·s and the stabiliser's; both are in the ledger. It puts relevance where x = 0.

# Use when
First layers whose input domain is unbounded.

# Parameters
`eps`, `stabiliser`: stabiliser of the denominator. `bias`: `include` or `exclude`.

# Reference
Montavon et al. 2017, eq. 12.

# Example graph
%W2.y = mul @w, @w; %D.y = conv %const.y, %W2.y; %s.y = ratio %R.y, %S.y; %R.x.y = conv_transpose %s.y, %W2.y
";

pub(super) const RULE: RuleDef =
    RuleDef { name: "WSquare", doc: DOC, parameters: &[EPS, STABILISER, BIAS_IN_OR_OUT], classes: &["linear"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let linear = site.linear(b)?;
    let square = b.mul(linear.weight, linear.weight, "W2")?;
    let sum = shares::response_to_ones(b, &linear, square)?;
    let bias = match shares::bias_in(b, site, &linear)? {
        Some(bias) => Some(b.mul(bias, bias, "b2")?),
        None => None,
    };
    let denominator = shares::with_bias(b, sum, bias)?;
    let relevance = site.relevance(b)?;
    let s = b.quotient(relevance, denominator, site.stabiliser()?, "s")?;
    shares::absorb_bias(b, bias, s)?;
    let result = linear.transpose(b, s, square, "part")?;
    site.flows(b, |_, _| Ok(Flow::Relevance(result)))
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn w_square() {
        check_rule(
            "w_square",
            "WSquare",
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
}
