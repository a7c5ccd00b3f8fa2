//! α-β rule for linear maps.

use lrpc_ir::Diagnostic;

use super::shares::{self, Part};
use super::{BIAS, EPS, ParameterDef, RuleDef, STABILISER};
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::composite::Parameter;
use crate::relevance::site::{Flow, Site};

const DOC: &str = "
# Formula
s₁ = R / S(P + b⁺), s₂ = R / S(N + b⁻): positive contributions receive α·s₁, negative ones −β·s₂, with α − β = 1:
R_x = x ⊙ VJP_W((αs₁ − βs₂)/2) + |x| ⊙ VJP_{|W|}((αs₁ + βs₂)/2); for non-negative inputs
R_x = x ⊙ (VJP_{W⁺}(αs₁) − VJP_{W⁻}(βs₂)).

# Conserves?
Up to the bias' shares Σ α·b⁺·s₁ − Σ β·b⁻·s₂ and the stabilisers'; all are in the ledger. Where an output has no
negative contribution, its −β·R is lost with the stabiliser.

# Use when
Convolutions, where evidence against shall be shown beside evidence for.

# Parameters
`alpha`: α. `beta`: β = α − 1. `eps`, `stabiliser`: stabiliser of both denominators. `bias`: `include`, `exclude` or
`operand`.

# Reference
Bach et al. 2015, eq. 60.

# Example graph
%s.y = ratio %R.y, %S.y; %s.y.1 = ratio %R.y, %S.y.1; %t.y = conv_transpose %half.y, @w; %t.y.1 = conv_transpose %half.y.1,
%Wabs.y; %R.x.y = weigh %p.x, %t.y; %R.x.y.1 = weigh %xabs.y, %t.y.1; %R.x = add %R.x.y, %R.x.y.1
";

const ALPHA: ParameterDef =
    ParameterDef { name: "alpha", doc: "weight of positive contributions", default: || Parameter::Number(2.0) };
const BETA: ParameterDef =
    ParameterDef { name: "beta", doc: "weight of negative contributions", default: || Parameter::Number(1.0) };

pub(super) const RULE: RuleDef = RuleDef {
    name: "AlphaBeta",
    doc: DOC,
    parameters: &[ALPHA, BETA, EPS, STABILISER, BIAS],
    classes: &["linear"],
    emit,
};

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let (alpha, beta, stabiliser) = (site.number("alpha")?, site.number("beta")?, site.stabiliser()?);
    if (alpha - beta - 1.0).abs() > 1e-9 || beta < 0.0 {
        return Err(Diagnostic::request(format!("α − β must be 1 with β ≥ 0, not α = {alpha}, β = {beta}")));
    }
    let linear = site.linear(b)?;
    let site = &shares::behind_bias(b, site, &linear)?;
    let bias = shares::bias_in(b, site, &linear)?;
    let relevance = site.relevance(b)?;
    let signal = |b: &mut RelevanceBuilder, part: Part, weight: f64| {
        let bias = shares::part_of_bias(b, bias, part)?;
        let share = shares::contributions(b, &linear, part)?;
        let denominator = shares::with_bias(b, share, bias)?;
        // Scaled before the division, so that the booked shares hold the weight as well.
        let weighted = b.scale(relevance, weight, "R")?;
        let s = b.quotient(weighted, denominator, stabiliser, "s")?;
        shares::absorb_bias(b, bias, s)?;
        Ok::<_, Diagnostic>(s)
    };
    let positive = signal(b, Part::Positive, alpha)?;
    if beta == 0.0 {
        let flow = shares::weighted(b, &linear, Part::Positive, positive)?;
        return site.flows(b, |_, _| Ok(flow));
    }
    let negative = signal(b, Part::Negative, -beta)?;
    let flow = shares::weighted_by_sign(b, &linear, positive, negative)?;
    site.flows(b, |_, _| Ok(flow))
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn alpha_beta() {
        check_rule(
            "alpha_beta",
            "AlphaBeta",
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
    fn alpha_beta_after_relu() {
        check_rule(
            "alpha_beta_after_relu",
            "AlphaBeta",
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
