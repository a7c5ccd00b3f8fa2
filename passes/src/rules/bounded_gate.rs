//! Products of a signal and a bounded gate.

use super::RuleDef;
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::roles::bounded_gate;
use crate::relevance::site::{Flow, Site};
use lrpc_ir::Diagnostic;

const DOC: &str = "
# Formula
Where exactly one factor is the output of a sigmoid or hard-sigmoid, seen through movement, it takes nothing: R_signal =
R, R_gate = 0.

# Conserves?
Exactly.

# Use when
Squeeze-excite, gated linear units, recurrent cells.

# Parameters
None.

# Reference
Arras et al. 2017, section 3.3.

# Example graph
%R.signal = %R.y: no node
";

pub(super) const RULE: RuleDef =
    RuleDef { name: "BoundedGate", doc: DOC, parameters: &[], classes: &["bilinear"], in_ledger: true, emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let Some(gate) = bounded_gate(b.graph(), site.node) else {
        return Err(Diagnostic::new("neither factor alone is a sigmoid or hard-sigmoid")
            .help("use Half for products of two signals"));
    };
    let signal = 1 - gate;
    let flow = match site.arrival.carrier {
        crate::relevance::site::Carrier::Relevance => Flow::Relevance(site.arrival.value),
        crate::relevance::site::Carrier::Coefficient => {
            let factor = b.activation(site.operands[gate])?;
            Flow::Times(b.mul(site.arrival.value, factor, "part")?)
        }
    };
    site.flows(b, |_, slot| Ok(if slot == signal { flow } else { Flow::None }))
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
