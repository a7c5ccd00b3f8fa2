//! Movement rule: the exact inverse index map.

use lrpc_ir::graph::Value;
use lrpc_ir::ops::{Elementwise, Movement, Op};
use lrpc_ir::{Absorbed, Float};

use super::RuleDef;
use crate::adjoint::movement;
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Arrival, Carrier, Flow, Site};

const DOC: &str = "
# Formula
Relevance takes the way back of the element that it belongs to; copies are summed, dropped elements receive 0.

# Conserves?
Exactly, but for what lands on constants that were moved in between (padding, concatenated constants); that is in the
ledger as bias. As coefficient a cast to fewer digits loses what it rounds; that is in the ledger as the rule's own.

# Use when
Reshape, transpose, slice, pad, concat, broadcast, gather, cast.

# Parameters
None.

# Reference
docs/rule-book.md section 5, movement.

# Example graph
%R.x.y = slice %R.y {start=[0, 8]}
";

pub(super) const RULE: RuleDef = RuleDef { name: "Movement", doc: DOC, parameters: &[], classes: &["movement"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let mut arrival = site.arrival;
    absorb_constants(b, site)?;
    if !b.graph().ty(site.operands[0]).dtype.is_float() {
        // The integers that a cast reads carry R: see the rule Identity.
        arrival = Arrival { carrier: Carrier::Relevance, value: site.relevance(b)? };
    }
    site.flows(b, |b, slot| {
        let back = movement::adjoint(b, site, slot, arrival.value)?;
        Ok(match arrival.carrier {
            Carrier::Relevance => Flow::Relevance(back),
            Carrier::Coefficient => Flow::Times(back),
        })
    })
}

/// What constants receive that the operation sets beside active elements, and what a cast rounds.
fn absorb_constants(b: &mut RelevanceBuilder, site: &Site) -> Built<()> {
    match &site.op {
        Op::Movement(Movement::Concat { .. }) => {
            for slot in 0..site.operands.len() {
                if !site.active[slot] {
                    let relevance = site.relevance(b)?;
                    let share = movement::adjoint(b, site, slot, relevance)?;
                    b.absorb(Absorbed::Bias, share);
                }
            }
        }
        Op::Elementwise(Elementwise::Cast(narrow)) if site.arrival.carrier == Carrier::Coefficient => {
            let wide = b.ty(site.operands[0]).dtype;
            if wide.is_float() && narrow.size() < wide.size() {
                let (x, y) = (b.activation(site.operands[0])?, b.activation(site.output)?);
                let (y, g) = (b.cast(y, wide, "y")?, b.cast(site.arrival.value, wide, "g")?);
                let rounding = b.sub(y, x, "rounding")?;
                let share = b.weigh(rounding, g, "e")?;
                b.absorb(Absorbed::Rule, share);
            }
        }
        Op::Movement(pad @ Movement::Pad { .. }) => {
            let relevance = site.relevance(b)?;
            let filling = filling_of(b, site, pad)?;
            let share = b.mul(filling, relevance, "b")?;
            b.absorb(Absorbed::Bias, share);
        }
        _ => {}
    }
    Ok(())
}

/// 1 where the pad fills, 0 where an element of its operand stands.
fn filling_of(b: &mut RelevanceBuilder, site: &Site, pad: &Movement) -> Built<Value> {
    let (ty, dtype) = (b.ty(site.operands[0]), b.ty(site.output).dtype.of_relevance());
    let zeros = b.filled(0.0, dtype, &ty.shape)?;
    let Movement::Pad { before, steps, shape, .. } = pad.clone() else { return Ok(zeros) };
    b.op(Op::Movement(Movement::Pad { before, steps, shape, value: Float(1.0) }), &[zeros], "filling")
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn movement_to_fewer_digits() {
        check_rule(
            "movement_to_fewer_digits",
            "Movement",
            "",
            r#"
        input %x : f32[N, 3]
        forward
          %y = cast %x : f16[N, 3] from "/cast"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn movement() {
        check_rule(
            "movement",
            "Movement",
            "",
            r#"
        input %x : f32[N, 3]
        weight @c : f32[1, 2]
        forward
          %c.all = broadcast @c : f32[N, 2]
          %both = concat %c.all, %x {axis=1} : f32[N, 5] from "/concat"
          %turned = transpose %both {perm=[1, 0]} : f32[5, N] from "/transpose"
          %y = pad %turned {before=[1, 0], value=2} : f32[7, N] from "/pad"
        result "output/y" = %y
        "#,
        );
    }
}
