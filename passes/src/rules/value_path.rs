//! Attention weights as constants.

use lrpc_ir::Diagnostic;

use super::{EPS, RuleDef, STABILISER};
use crate::attention::shares_slot;
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Flow, Site};

const DOC: &str = "
# Formula
For y = a·v with a from a softmax: R_a = 0 and, for a contraction, s = R / S(y), R_v = v ⊙ VJP_v(s); for a product of
elements R_v = R.

# Conserves?
Up to the stabiliser's share, which is in the ledger.

# Use when
The values of attention and of routing under CP-LRP.

# Parameters
`eps`, `stabiliser`: stabiliser of a contraction's denominator.

# Reference
Ali et al. 2022, section 3.2 (AH rule).

# Example graph
%s.y = ratio %R.y, %S.y; %t.y = dot %p.a, %s.y {contract=0x0}; %R.v = weigh %p.v, %t.y
";

pub(super) const RULE: RuleDef =
    RuleDef { name: "ValuePath", doc: DOC, parameters: &[EPS, STABILISER], classes: &["bilinear"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let Some(weights) = shares_slot(b.graph(), site.node) else {
        return Err(Diagnostic::new("no operand comes from a softmax").help("use Half for products of two signals"));
    };
    site.flows_past(b, weights)
}

#[cfg(test)]
mod tests {
    use crate::testing::{apply_rule, check_rule};

    #[test]
    fn value_path() {
        check_rule(
            "value_path",
            "ValuePath",
            "eps = 0.0",
            r#"
        input %q : f32[N, 3, 4]
        input %v : f32[N, 4, 5]
        forward
          %a = softmax %q {axis=2} : f32[N, 3, 4] from "/softmax"
          %y = dot %a, %v {batch=0x0, contract=2x1} : f32[N, 3, 5] from "/matmul"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn without_a_softmax_there_is_no_value_path() {
        let body = r#"
        input %x : f32[N, 3]
        input %z : f32[N, 3]
        forward
        %y = mul %x, %z : f32[N, 3] from "/mul"
        result "output/y" = %y
        "#;
        let error = apply_rule("ValuePath", "", body).unwrap_err().to_string();
        assert_eq!(error, "no operand comes from a softmax (at /mul); use Half for products of two signals");
    }
}
