//! Products with a parameter that is computed from the signal.

use lrpc_ir::Diagnostic;

use super::{EPS, RuleDef, STABILISER};
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Flow, Site};

const DOC: &str = "
# Formula
For y = p·x, where p is a function of the signal that x carries and x none of p's: R_p = 0 and R_x = R; for a contraction
s = R / S(y), R_x = x ⊙ VJP_x(s).

# Conserves?
Exactly, a contraction up to the stabiliser's share.

# Use when
Selective scans: with Δ, Ā, B̄ and C held the state is linear in its input.

# Parameters
`eps`, `stabiliser`: stabiliser of a contraction's denominator.

# Reference
Rezaei Jafari et al. 2024 (MambaLRP), section 4.

# Example graph
%R.x = %R.y: no node
";

pub(super) const RULE: RuleDef =
    RuleDef { name: "Selective", doc: DOC, parameters: &[EPS, STABILISER], classes: &["bilinear"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let Some(held) = site.held else {
        return Err(Diagnostic::new("neither factor is computed from the signal of the other")
            .help("use Half for products of two signals"));
    };
    site.flows_past(b, held)
}

#[cfg(test)]
mod tests {
    use crate::testing::{apply_rule, check_rule};

    #[test]
    fn selective() {
        check_rule(
            "selective",
            "Selective",
            "",
            r#"
        input %u : f32[N, 4]
        weight @w : f32[4, 4]
        forward
          %b = dot %u, @w {contract=1x0} : f32[N, 4] from "/project"
          %y = mul %u, %b : f32[N, 4] from "/mul"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn two_signals_have_no_parameter() {
        let body = r#"
        input %x : f32[N, 3]
        input %z : f32[N, 3]
        forward
        %y = mul %x, %z : f32[N, 3] from "/mul"
        result "output/y" = %y
        "#;
        let error = apply_rule("Selective", "", body).unwrap_err().to_string();
        assert!(error.contains("neither factor is computed from the signal of the other (at /mul)"), "{error}");
    }
}
