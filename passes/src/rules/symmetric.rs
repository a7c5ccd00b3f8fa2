//! Equal shares of an addition.

use lrpc_ir::Absorbed;
use lrpc_ir::ops::{Binary, Elementwise, Op};

use super::RuleDef;
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Flow, Site};

const DOC: &str = "
# Formula
For y = a ± b: R_a = R_b = R/2.

# Conserves?
Exactly; the half of a constant operand is in the ledger as bias.

# Use when
Residual additions whose two branches shall count alike.

# Parameters
None.

# Reference
Otsuki et al. 2024 (symmetric splitting).

# Example graph
%R.a = scale %R.y {by=0.5}
";

pub(super) const RULE: RuleDef = RuleDef { name: "Symmetric", doc: DOC, parameters: &[], classes: &["additive"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    if !matches!(site.op, Op::Elementwise(Elementwise::Binary(Binary::Add | Binary::Sub))) {
        let message = format!("`{}` has no two operands to share between", site.op.mnemonic());
        return Err(lrpc_ir::Diagnostic::new(message).help("use SignedRatio, AbsRatio or UniformPool"));
    }
    let relevance = site.relevance(b)?;
    let half = b.scale(relevance, 0.5, "part")?;
    for _ in site.active.iter().filter(|&&active| !active) {
        b.absorb(Absorbed::Bias, half);
    }
    site.flows(b, |_, _| Ok(Flow::Relevance(half)))
}

#[cfg(test)]
mod tests {
    use crate::testing::{apply_rule, check_rule};

    #[test]
    fn symmetric() {
        check_rule(
            "symmetric",
            "Symmetric",
            "",
            r#"
        input %x : f32[N, 3]
        input %z : f32[N, 3]
        forward
          %y = add %x, %z : f32[N, 3] from "/add"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn a_mean_has_no_two_operands() {
        let body = r#"
        input %x : f32[N, 3]
        forward
          %y = reduce_mean %x {axes=[1], keep=true} : f32[N, 1] from "/mean"
        result "output/y" = %y
        "#;
        let error = apply_rule("Symmetric", "", body).unwrap_err().to_string();
        assert!(error.contains("has no two operands to share between (at /mean)"), "{error}");
    }
}
