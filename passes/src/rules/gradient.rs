//! The gradient, as a rule.

use super::RuleDef;
use crate::adjoint;
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Flow, Site};

const DOC: &str = "
# Formula
g_x = VJP(g): the chain rule.

# Conserves?
No: a gradient is no relevance, and input×gradient conserves only where the network is linear.

# Use when
Baselines: gradient and input×gradient.

# Parameters
None.

# Reference
Simonyan et al. 2014; Shrikumar et al. 2016.

# Example graph
%g.x = mul %g.y, %slope.y, with %slope.y = derivative %p.x {of=relu}
";

pub(super) const RULE: RuleDef = RuleDef {
    name: "Gradient",
    doc: DOC,
    parameters: &[],
    classes: &[
        "linear",
        "bilinear",
        "additive",
        "elementwise",
        "movement",
        "select",
        "normalize",
        "softmax",
        "log_softmax",
        "reduce_product",
    ],
    emit,
};

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let g = site.coefficient(b)?;
    site.flows(b, |b, slot| Ok(Flow::Times(adjoint::vjp(b, site, slot, g)?)))
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn gradient() {
        check_rule(
            "gradient",
            "Gradient",
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
}
