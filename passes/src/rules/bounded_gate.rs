//! Products and quotients in which one operand only modulates.

use lrpc_ir::Diagnostic;

use super::{ParameterDef, RuleDef, half};
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::composite::Parameter;
use crate::relevance::site::{Flow, Site};

const DOC: &str = "
# Formula
R_signal = R, R_other = 0, where the other operand is the output of a sigmoid or hard-sigmoid and the signal is not; where
both are pointwise functions of one tensor (an activation spelled out); or where it is a statistic of the signal that
normalises it (its deviation is frozen). With `half=all` a sigmoid is a signal like any other: R/2 each, as by `Half`.

# Conserves?
Exactly.

# Use when
Squeeze-excite, gated linear units, recurrent cells; activations and normalisations that an exporter spelled out.

# Parameters
`half`: `gate` or `all`.

# Reference
Arras et al. 2017, section 3.3; frozen normalisers: Ali et al. 2022.

# Example graph
%R.signal = %R.y: no node
";

const HALF: ParameterDef = ParameterDef {
    name: "half",
    doc: "`gate`: the output of a sigmoid takes nothing; `all`: it takes its half",
    default: || Parameter::Word("gate".into()),
};

pub(super) const RULE: RuleDef =
    RuleDef { name: "BoundedGate", doc: DOC, parameters: &[HALF], classes: &["bilinear"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    match site.word("half")? {
        "all" if !site.gates.one_signal => return half::emit(b, site),
        "gate" | "all" => {}
        other => return Err(Diagnostic::request(format!("`half` is `gate` or `all`, not `{other}`"))),
    }
    let Some(silent) = site.gates.silent else {
        return Err(Diagnostic::new("neither factor alone is a sigmoid or hard-sigmoid")
            .help("use Half for products of two signals"));
    };
    site.flows_beside(b, silent)
}

#[cfg(test)]
mod tests {
    use crate::testing::{apply_rule, check_rule};

    #[test]
    fn bounded_gate() {
        check_rule(
            "bounded_gate",
            "BoundedGate",
            "",
            r#"
        input %x : f32[N, 3, 4]
        input %z : f32[N, 3]
        forward
        %g = sigmoid %z : f32[N, 3] from "/gate"
        %column = reshape %g : f32[N, 3, 1] from "/reshape"
        %g.all = broadcast %column : f32[N, 3, 4] from "/mul"
        %y = mul %g.all, %x : f32[N, 3, 4] from "/mul"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn bounded_gate_half() {
        check_rule(
            "bounded_gate_half",
            "BoundedGate",
            "half = 'all'",
            r#"
        input %x : f32[N, 3]
        input %z : f32[N, 3]
        forward
        %g = sigmoid %z : f32[N, 3] from "/gate"
        %y = mul %g, %x : f32[N, 3] from "/mul"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn two_signals_are_no_gate() {
        let body = r#"
        input %x : f32[N, 3]
        input %z : f32[N, 3]
        forward
        %y = mul %x, %z : f32[N, 3] from "/mul"
        result "output/y" = %y
        "#;
        let error = apply_rule("BoundedGate", "", body).unwrap_err().to_string();
        assert_eq!(
            error,
            "neither factor alone is a sigmoid or hard-sigmoid (at /mul); use Half for products of two signals"
        );
    }
}
