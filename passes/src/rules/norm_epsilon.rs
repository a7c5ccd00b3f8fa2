//! ε rule for normalisations with the deviation frozen.

use lrpc_ir::ops::{Normalize, Op};
use lrpc_ir::{Absorbed, Diagnostic, DiagnosticKind};

use super::{EPS, RuleDef, STABILISER};
use crate::adjoint::normalize::{Statistics, centre, parameter};
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Carrier, Flow, Site};

const DOC: &str = "
# Formula
With 1/σ = r held: q = R / S(y), u = q·w·r, R_x = x ⊙ (u − mean(u)). RMS norm has neither mean nor bias and scales every
element by itself: R_x = R, as coefficient g·w·r.

# Conserves?
RMS norm exactly; else up to the bias' share Σ b·q and the stabiliser's; both are in the ledger.

# Use when
Layer, instance, group and RMS norm.

# Parameters
`eps`, `stabiliser`: stabiliser of the denominator.

# Reference
Ali et al. 2022 (deviation as constant); Achtibat et al. 2024, section 3.3.

# Example graph
%s.y = ratio %R.y, %S.y; %u.y = mul %s.y, %w.y; %R.x = weigh %p.x, %g.y
";

pub(super) const RULE: RuleDef =
    RuleDef { name: "NormEpsilon", doc: DOC, parameters: &[EPS, STABILISER], classes: &["normalize"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let Op::Normalize(op) = &site.op else {
        return Err(Diagnostic::new(format!("`{}` is not a normalisation", site.op.mnemonic())));
    };
    if site.active.iter().skip(1).any(|&active| active) {
        return Err(
            Diagnostic::new("a computed scale or bias of a normalisation has no rule").of_kind(DiagnosticKind::NoRule)
        );
    }
    let by_itself = matches!(op, Normalize::RmsNorm { .. });
    if by_itself && site.arrival.carrier == Carrier::Relevance {
        return site.flows(b, |_, _| Ok(Flow::Relevance(site.arrival.value)));
    }
    let q = if by_itself { site.arrival.value } else { site.signal(b, site.stabiliser()?)? };
    if let (Some(&bias), false) = (site.operands.get(2), by_itself) {
        let shape = b.ty(site.operands[0]).shape;
        let bias = parameter(b, op, bias, &shape)?;
        let share = b.mul(bias, q, "b")?;
        b.absorb(Absorbed::Bias, share);
    }
    let norm = Statistics::of(b, site, op)?;
    let u = norm.frozen(b, q)?;
    let u = if norm.centred { centre(b, u, norm.axis())? } else { u };
    let back = norm.back(b, u)?;
    site.flows(b, |_, slot| Ok(if slot == 0 { Flow::Times(back) } else { Flow::None }))
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn norm_epsilon() {
        check_rule(
            "norm_epsilon",
            "NormEpsilon",
            "",
            r#"
        input %x : f32[N, 2, 4, 4]
        weight @s : f32[2]
        weight @b : f32[2]
        forward
          %y = group_norm %x, @s, @b {groups=2, eps=1e-5} : f32[N, 2, 4, 4] from "/norm"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn norm_epsilon_rms() {
        check_rule(
            "norm_epsilon_rms",
            "NormEpsilon",
            "",
            r#"
        input %x : f32[N, 4]
        weight @w : f32[4]
        forward
          %y = rms_norm %x, @w {axis=1, eps=1e-5} : f32[N, 4] from "/norm"
        result "output/y" = %y
        "#,
        );
    }
}
