//! Normalisations that pass relevance on unchanged.

use super::RuleDef;
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Flow, Site};

const DOC: &str = "
# Formula
R_x = R.

# Conserves?
Exactly. On layer, group and instance norm it puts relevance where x ≈ 0, and rules that divide by x below it may make very
large numbers of that; on RMS norm it is what `NormEpsilon` gives at ε = 0.

# Use when
Results shall be comparable to those of DynamicLRP.

# Parameters
None.

# Reference
Lee & Arias 2025 (arXiv 2512.07010).

# Example graph
%R.x = %R.y: no node
";

pub(super) const RULE: RuleDef =
    RuleDef { name: "NormIdentity", doc: DOC, parameters: &[], classes: &["normalize"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let relevance = site.relevance(b)?;
    site.flows(b, |_, slot| Ok(if slot == 0 { Flow::Relevance(relevance) } else { Flow::None }))
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn norm_identity() {
        check_rule(
            "norm_identity",
            "NormIdentity",
            "",
            r#"
        input %x : f32[N, 4]
        weight @w : f32[4]
        weight @b : f32[4]
        forward
          %y = layer_norm %x, @w, @b {axis=1, eps=1e-5} : f32[N, 4] from "/norm"
        result "output/y" = %y
        "#,
        );
    }
}
