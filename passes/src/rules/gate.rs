//! Gated products whose activated branch is held constant.

use lrpc_ir::Diagnostic;

use super::RuleDef;
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Flow, Site};

const DOC: &str = "
# Formula
For y = f(u) · v, where f(u) alone is the output of an activation or comes from a softmax, seen through movement and
constant factors: R_v = R, R_u = 0. Of two such operands the sigmoid is held.

# Conserves?
Exactly.

# Use when
Gated feed-forward blocks (SwiGLU, GEGLU) under CP-LRP.

# Parameters
None.

# Reference
Ali et al. 2022; Arras et al. 2017, section 3.3.

# Example graph
%R.v = %R.y: no node
";

pub(super) const RULE: RuleDef = RuleDef { name: "Gate", doc: DOC, parameters: &[], classes: &["bilinear"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let Some(gate) = site.gates.activated else {
        return Err(Diagnostic::new("neither factor alone is activated").help("use Half for products of two signals"));
    };
    site.flows_beside(b, gate)
}

#[cfg(test)]
mod tests {
    use crate::testing::{apply_rule, check_rule};

    #[test]
    fn gate() {
        check_rule(
            "gate",
            "Gate",
            "",
            r#"
        input %u : f32[N, 3]
        input %v : f32[N, 3]
        forward
          %open = swish %u : f32[N, 3] from "/act"
          %y = mul %open, %v : f32[N, 3] from "/mul"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn two_signals_have_no_gate() {
        let body = r#"
        input %x : f32[N, 3]
        input %z : f32[N, 3]
        forward
        %y = mul %x, %z : f32[N, 3] from "/mul"
        result "output/y" = %y
        "#;
        let error = apply_rule("Gate", "", body).unwrap_err().to_string();
        assert_eq!(error, "neither factor alone is activated (at /mul); use Half for products of two signals");
    }
}
