//! The rule that lets nothing through.

use lrpc_ir::{Absorbed, Class};

use super::RuleDef;
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Flow, Site};

const DOC: &str = "
# Formula
R_x = 0.

# Conserves?
No, by definition: all of R is in the ledger as the rule's own.

# Use when
The softmax of attention and of routing under CP-LRP; operations that an explanation shall not pass.

# Parameters
None.

# Reference
Ali et al. 2022 (attention weights as constants).

# Example graph
No node
";

pub(super) const RULE: RuleDef = RuleDef { name: "Stop", doc: DOC, parameters: &[], classes: &Class::NAMES, emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let relevance = site.relevance(b)?;
    b.absorb(Absorbed::Rule, relevance);
    site.flows(b, |_, _| Ok(Flow::None))
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn stop() {
        check_rule(
            "stop",
            "Stop",
            "",
            r#"
        input %x : f32[N, 3]
        forward
        %y = softmax %x {axis=1} : f32[N, 3] from "/softmax"
        result "output/y" = %y
        "#,
        );
    }
}
