//! The gradient of a smoothed ReLU.

use lrpc_ir::ops::{Function, Unary};
use lrpc_ir::{Absorbed, Diagnostic};

use super::deconv_net::absorb_beside;
use super::{ParameterDef, RuleDef};
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::composite::Parameter;
use crate::relevance::site::{Carrier, Flow, Site};

const DOC: &str = "
# Formula
R_x = R ⊙ sigmoid(βx), the slope of softplus(βx)/β; where a coefficient travels g_x = g ⊙ sigmoid(βx).

# Conserves?
No, by definition: R ⊙ sigmoid(−βx) is in the ledger as the rule's own.

# Use when
The ReLUs of a network whose other operations pass the gradient, where it shall not jump at kinks.

# Parameters
`beta`: β.

# Reference
Dombrowski et al. 2019, section 4.

# Example graph
%slope.y = sigmoid %sharp.y; %part.y = mul %g.y, %slope.y
";

const BETA: ParameterDef =
    ParameterDef { name: "beta", doc: "how sharp the bend at 0 is", default: || Parameter::Number(10.0) };

pub(super) const RULE: RuleDef =
    RuleDef { name: "BetaSmooth", doc: DOC, parameters: &[BETA], classes: &["elementwise"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let beta = site.number("beta")?;
    if !(beta > 0.0 && beta.is_finite()) {
        return Err(Diagnostic::request(format!("β is a number above 0, not {beta}")));
    }
    let x = b.activation(site.operands[0])?;
    let sigmoid = |b: &mut RelevanceBuilder, factor: f64| -> Built<_> {
        let sharp = b.scale(x, factor, "sharp")?;
        let slope = b.unary(Unary::plain(Function::Sigmoid), sharp, "slope")?;
        b.mul(site.arrival.value, slope, "part")
    };
    let (sent, dropped) = (sigmoid(b, beta)?, sigmoid(b, -beta)?);
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
    fn beta_smooth() {
        check_rule(
            "beta_smooth",
            "BetaSmooth",
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
