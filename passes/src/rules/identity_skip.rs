//! Residual additions whose identity branch is told from the computed one.

use lrpc_ir::graph::{Graph, Value};
use lrpc_ir::ops::{Binary, Elementwise, Op};
use lrpc_ir::{Absorbed, Diagnostic};

use super::{EPS, ParameterDef, RuleDef, STABILISER, absolute_ratio};
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::composite::Parameter;
use crate::relevance::roles::through_movement;
use crate::relevance::site::{Flow, Site};

const DOC: &str = "
# Formula
For y = x + f(x), where one operand is, seen through movement, what the other one is computed from: R_f = R, R_x = 0;
with `to=skip` R_x = R, R_f = 0. Where neither operand is computed from the other, as beside a projection, the shares of
`AbsRatio`.

# Conserves?
Exactly along an identity, else as `AbsRatio`; a constant's share is in the ledger as bias.

# Use when
Comparison with results that ignore identity shortcuts, or that follow nothing else.

# Parameters
`to`: `block` gives all to what the block computed, `skip` all to the shortcut. `eps`, `stabiliser`: stabiliser
of the shares where there is no identity.

# Reference
Otsuki et al. 2024: LRP for ResNet without relevance splitting, in whose reference code identity shortcuts take nothing
and projections share by absolute ratio.

# Example graph
%R.f = %R.y: no node
";

const TO: ParameterDef =
    ParameterDef { name: "to", doc: "`block` or `skip`: what takes all", default: || Parameter::Word("block".into()) };

pub(super) const RULE: RuleDef =
    RuleDef { name: "IdentitySkip", doc: DOC, parameters: &[EPS, STABILISER, TO], classes: &["additive"], emit };

/// How far a block is followed back to what it is computed from, in nodes: a bound on work, not on meaning.
const WINDOW: usize = 256;

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let to_block = match site.word("to")? {
        "block" => true,
        "skip" => false,
        other => return Err(Diagnostic::request(format!("`to` is `block` or `skip`, not `{other}`"))),
    };
    let Some(skip) = identity_operand(b.graph(), site) else { return absolute_ratio::by_size(b, site) };
    let taker = if to_block { 1 - skip } else { skip };
    let relevance = site.relevance(b)?;
    if !site.active[taker] {
        b.absorb(Absorbed::Bias, relevance);
    }
    site.flows(b, |_, slot| Ok(if slot == taker { Flow::Relevance(relevance) } else { Flow::None }))
}

/// The operand of an addition that the other one is computed from.
fn identity_operand(graph: &Graph, site: &Site) -> Option<usize> {
    if !matches!(site.op, Op::Elementwise(Elementwise::Binary(Binary::Add | Binary::Sub))) {
        return None;
    }
    let [first, second] = site.operands[..] else { return None };
    let origins = [first, second].map(|operand| through_movement(graph, operand));
    match [is_computed_from(graph, second, origins[0]), is_computed_from(graph, first, origins[1])] {
        [true, false] => Some(0),
        [false, true] => Some(1),
        _ => None,
    }
}

fn is_computed_from(graph: &Graph, value: Value, origin: Value) -> bool {
    let mut open = std::collections::VecDeque::from([value]);
    let mut seen = std::collections::HashSet::new();
    while let Some(next) = open.pop_front() {
        if next == origin {
            return true;
        }
        if seen.len() < WINDOW && seen.insert(next) {
            open.extend(graph.operands(next.node));
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn identity_skip() {
        check_rule(
            "identity_skip",
            "IdentitySkip",
            "",
            r#"
        input %x : f32[N, 3]
        forward
          %f = tanh %x : f32[N, 3] from "/tanh"
          %y = add %x, %f : f32[N, 3] from "/add"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn identity_skip_projection() {
        check_rule(
            "identity_skip_projection",
            "IdentitySkip",
            "to = 'skip'",
            r#"
        input %x : f32[N, 3]
        forward
          %f = tanh %x : f32[N, 3] from "/tanh"
          %g = erf %x : f32[N, 3] from "/erf"
          %y = add %g, %f : f32[N, 3] from "/add"
        result "output/y" = %y
        "#,
        );
    }
}
