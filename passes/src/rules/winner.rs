//! Winner-takes-all rule for maxima, minima and selections.

use lrpc_ir::Absorbed;
use lrpc_ir::ops::{Elementwise, Op};

use super::RuleDef;
use crate::adjoint;
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Carrier, Flow, Site};

const DOC: &str = "
# Formula
Relevance goes to the element that was taken: the largest of a window (the first of equals), the larger operand, the
branch that a condition chose.

# Conserves?
Exactly, but for what constants win; that is in the ledger as bias.

# Use when
Max pooling, maxima and minima, where.

# Parameters
None.

# Reference
Montavon et al. 2019, section 10.3; docs/rule-book.md section 4.

# Example graph
%R.x.y = pool_transpose %p.x, %R.y {kind=max, window=[2, 2], stride=2}
";

pub(super) const RULE: RuleDef = RuleDef { name: "Winner", doc: DOC, parameters: &[], classes: &["select"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    // The condition of a `where` takes nothing.
    let first = usize::from(site.op == Op::Elementwise(Elementwise::Where));
    for slot in first..site.operands.len() {
        if !site.active[slot] {
            let relevance = site.relevance(b)?;
            let share = adjoint::vjp(b, site, slot, relevance)?;
            b.absorb(Absorbed::Bias, share);
        }
    }
    let arrival = site.arrival;
    site.flows(b, |b, slot| {
        let back = adjoint::vjp(b, site, slot, arrival.value)?;
        Ok(match arrival.carrier {
            Carrier::Relevance => Flow::Relevance(back),
            Carrier::Coefficient => Flow::Times(back),
        })
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn winner_pool() {
        check_rule(
            "winner_pool",
            "Winner",
            "",
            r#"
        input %x : f32[N, 2, 4, 4]
        forward
          %y = pool %x {kind=max, window=[2, 2], stride=2} : f32[N, 2, 2, 2] from "/pool"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn winner_reduce() {
        check_rule(
            "winner_reduce",
            "Winner",
            "",
            r#"
        input %x : f32[N, 2, 4]
        forward
          %y = reduce_max %x {axes=[1]} : f32[N, 4] from "/max"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn winner_of_two() {
        check_rule(
            "winner_of_two",
            "Winner",
            "",
            r#"
        input %x : f32[N, 2]
        input %z : f32[N, 2]
        forward
          %y = max %x, %z : f32[N, 2] from "/max"
        result "output/y" = %y
        "#,
        );
    }
}
