//! DeconvNet's rule for ReLU.

use lrpc_ir::Absorbed;

use super::RuleDef;
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Carrier, Flow, Site};

const DOC: &str = "
# Formula
R_x = R⁺, whatever x is; where a coefficient travels g_x = g⁺.

# Conserves?
No, by definition: what it drops is in the ledger as the rule's own.

# Use when
The ReLUs of a network whose other operations pass the gradient.

# Parameters
None.

# Reference
Zeiler & Fergus 2014, section 2.1.

# Example graph
%g.x = positive %g.y
";

pub(super) const RULE: RuleDef =
    RuleDef { name: "DeconvNet", doc: DOC, parameters: &[], classes: &["elementwise"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let positive = b.positive(site.arrival.value, "part")?;
    let dropped = b.negative(site.arrival.value, "dropped")?;
    if site.arrival.carrier == Carrier::Relevance {
        b.absorb(Absorbed::Rule, dropped);
        return site.flows(b, |_, _| Ok(Flow::Relevance(positive)));
    }
    absorb_beside(b, site, positive, dropped)?;
    site.flows(b, |_, _| Ok(Flow::Times(positive)))
}

/// Books what a coefficient `sent` leaves of `R = y ⊙ g` with `g = sent + dropped`: `y ⊙ dropped + (y − x) ⊙ sent`.
pub(super) fn absorb_beside(
    b: &mut RelevanceBuilder,
    site: &Site,
    sent: lrpc_ir::Value,
    dropped: lrpc_ir::Value,
) -> Built<()> {
    let (x, y) = (b.activation(site.operands[0])?, b.activation(site.output)?);
    let lost = b.weigh(y, dropped, "dropped")?;
    b.absorb(Absorbed::Rule, lost);
    let difference = b.sub(y, x, "difference")?;
    let turned = b.weigh(difference, sent, "dropped")?;
    b.absorb(Absorbed::Rule, turned);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn deconv_net() {
        check_rule(
            "deconv_net",
            "DeconvNet",
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
