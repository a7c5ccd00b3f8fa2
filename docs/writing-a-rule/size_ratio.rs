//! Size ratio for linear maps.

use lrpc_ir::{Absorbed, Diagnostic};

use super::{EPS, ParameterDef, RuleDef, STABILISER};
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::composite::Parameter;
use crate::relevance::site::{Flow, Site};

const DOC: &str = "
# Formula
D = |x|·|W| + β|b|, s = R / S(D), R_x = |x| ⊙ VJP_{|W|}(s).

# Conserves?
Up to the bias' share Σ β|b|·s and the stabiliser's; both are in the ledger.

# Use when
No share shall have another sign than what it is a share of.

# Parameters
`beta`: β, from 0 (the bias takes nothing) to 1. `eps`, `stabiliser`: stabiliser of the denominator.

# Reference
Made up for docs/writing-a-rule.md.

# Example graph
%D.y = conv %xabs.y, %Wabs.y; %D.y.1 = add %D.y, %b.y.3; %s.y = ratio %R.y, %S.y; %R.x = weigh %xabs.y, %t.y
";

const BETA: ParameterDef =
    ParameterDef { name: "beta", doc: "how much of the bias counts", default: || Parameter::Number(1.0) };

pub(super) const RULE: RuleDef =
    RuleDef { name: "SizeRatio", doc: DOC, parameters: &[BETA, EPS, STABILISER], classes: &["linear"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let beta = site.number("beta")?;
    if !(0.0..=1.0).contains(&beta) {
        return Err(Diagnostic::request(format!("`beta` is a number from 0 to 1, not {beta}")));
    }
    let linear = site.linear(b)?;
    let x = b.activation(linear.input)?;
    let (x, weight) = (b.magnitude(x, "xabs")?, b.magnitude(linear.weight, "Wabs")?);
    let mut denominator = linear.forward(b, x, weight, "D")?;
    let mut bias = None;
    if let Some(raw) = linear.bias {
        let size = b.magnitude(raw, "b")?;
        let size = b.scale(size, beta, "b")?;
        let size = linear.bias_like_output(b, size)?;
        denominator = b.add(denominator, size, "D")?;
        bias = Some(size);
    }
    let relevance = site.relevance(b)?;
    let s = b.quotient(relevance, denominator, site.stabiliser()?, "s")?;
    if let Some(bias) = bias {
        let share = b.mul(bias, s, "b")?;
        b.absorb(Absorbed::Bias, share);
    }
    let back = linear.transpose(b, s, weight, "t")?;
    let share = b.weigh(x, back, "R")?;
    site.flows(b, |_, _| Ok(Flow::Relevance(share)))
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn size_ratio() {
        check_rule(
            "size_ratio",
            "SizeRatio",
            "beta = 0.5",
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
