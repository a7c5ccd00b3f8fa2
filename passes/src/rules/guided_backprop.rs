//! Guided backpropagation's rule for ReLU.

use lrpc_ir::Absorbed;
use lrpc_ir::ops::{Compare, Elementwise, Op};

use super::RuleDef;
use super::deconv_net::absorb_beside;
use crate::adjoint::elementwise::mask;
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Carrier, Flow, Site};

const DOC: &str = "
# Formula
R_x = R⁺ where x > 0, else 0; where a coefficient travels g_x = g⁺ there.

# Conserves?
No, by definition: what it drops is in the ledger as the rule's own.

# Use when
The ReLUs of a network whose other operations pass the gradient.

# Parameters
None.

# Reference
Springenberg et al. 2015, section 3.4.

# Example graph
%open.y = greater %p.x, %const.y; %masked.y = where %open.y, %part.y, %const.y
";

pub(super) const RULE: RuleDef =
    RuleDef { name: "GuidedBackprop", doc: DOC, parameters: &[], classes: &["elementwise"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let x = b.activation(site.operands[0])?;
    let ty = b.ty(x);
    let zero = b.filled(0.0, ty.dtype, &ty.shape)?;
    let open = b.op(Op::Elementwise(Elementwise::Compare(Compare::Greater)), &[x, zero], "open")?;
    let positive = b.positive(site.arrival.value, "part")?;
    let negative = b.negative(site.arrival.value, "dropped")?;
    let sent = mask(b, open, positive, true)?;
    let shut = mask(b, open, positive, false)?;
    let dropped = b.add(negative, shut, "dropped")?;
    if site.arrival.carrier == Carrier::Relevance {
        b.absorb(Absorbed::Rule, dropped);
        return site.flows(b, |_, _| Ok(Flow::Relevance(sent)));
    }
    absorb_beside(b, site, sent, dropped)?;
    site.flows(b, |_, _| Ok(Flow::Times(sent)))
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn guided_backprop() {
        check_rule(
            "guided_backprop",
            "GuidedBackprop",
            "",
            r#"
        input %x : f32[N, 3]
        forward
          %y = relu %x : f32[N, 3] from "/relu"
        result "output/y" = %y
        "#,
        );
    }
}
