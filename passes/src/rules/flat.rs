//! Flat rule for linear maps.

use super::unit_map::UnitMap;
use super::{EPS, RuleDef, STABILISER};
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Flow, Site};

const DOC: &str = "
# Formula
Every weight and every input counts 1, without bias: R_x = VJP_1(R / S(n)), n the number of inputs inside an output's
window. As all weights are equal, the product is a sum over channels and windows.

# Conserves?
Up to the stabiliser's share. It puts relevance where x = 0.

# Use when
First layers, to spread relevance evenly over a receptive field.

# Parameters
`eps`, `stabiliser`: stabiliser of the denominator.

# Reference
Lapuschkin et al. 2019, supplement note 6; Kohlbrenner et al. 2020.

# Example graph
%D.y = pool %const.y {kind=sum, window=[3, 3]}; %s.y = ratio %R.y, %S.y; %sum.y = reduce_sum %s.y {axes=[1], keep=true};
%t.y = pool_transpose %sum.y {kind=sum, window=[3, 3]}; %R.x.y = broadcast %t.y
";

pub(super) const RULE: RuleDef =
    RuleDef { name: "Flat", doc: DOC, parameters: &[EPS, STABILISER], classes: &["linear"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let linear = site.linear(b)?;
    let map = UnitMap::of(b, &linear)?;
    let count = map.count(b)?;
    let relevance = site.relevance(b)?;
    let s = b.quotient(relevance, count, site.stabiliser()?, "s")?;
    let result = map.transpose(b, s)?;
    site.flows(b, |_, _| Ok(Flow::Relevance(result)))
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn flat_conv() {
        check_rule(
            "flat_conv",
            "Flat",
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
    fn flat_dot() {
        check_rule(
            "flat_dot",
            "Flat",
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
}
