//! Half rule for products of two activations.

use lrpc_ir::Diagnostic;
use lrpc_ir::graph::Value;
use lrpc_ir::ops::{Binary, Elementwise, Op};

use super::{EPS, RuleDef, STABILISER};
use crate::adjoint;
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Carrier, Flow, Site};

const DOC: &str = "
# Formula
Element-wise: R_a = R_b = R/2. Contraction: s = R / S(2z), R_a = a ⊙ VJP_a(s), R_b = b ⊙ VJP_b(s). As coefficient the
VJP times ½; for a quotient +½·g/b and +½·g·a/b². An operand that is itself such a product of n factors takes n of k
shares, so that each of the k factors of a chain receives R/k however the chain is bracketed.

# Conserves?
Element-wise exactly, a contraction up to the stabiliser's share.

# Use when
Attention products, products of two signals without a gate.

# Parameters
`eps`, `stabiliser`: stabiliser of a contraction's denominator.

# Reference
Achtibat et al. 2024, eq. 13 and 14 (uniform rule).

# Example graph
%R.x.y = scale %R.y {by=0.5}
";

pub(super) const RULE: RuleDef =
    RuleDef { name: "Half", doc: DOC, parameters: &[EPS, STABILISER], classes: &["bilinear"], emit };

pub(super) fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    match (&site.op, site.arrival.carrier) {
        (Op::Elementwise(_), Carrier::Relevance) => {
            site.flows(b, |b, slot| Ok(Flow::Relevance(b.scale(site.arrival.value, share(site, slot), "part")?)))
        }
        (Op::Elementwise(Elementwise::Binary(binary)), Carrier::Coefficient) => {
            site.flows(b, |b, slot| Ok(Flow::Times(half_coefficient(b, site, *binary, slot)?)))
        }
        (Op::Linear(_), _) => {
            let s = contraction_signal(b, site)?;
            site.flows(b, |b, slot| {
                let back = adjoint::vjp(b, site, slot, s)?;
                Ok(Flow::Times(b.scale(back, site.factors[slot] as f64, "part")?))
            })
        }
        (other, _) => Err(Diagnostic::new(format!("Half does not serve `{}`", other.mnemonic()))),
    }
}

fn half_coefficient(b: &mut RelevanceBuilder, site: &Site, binary: Binary, slot: usize) -> Built<Value> {
    let back = adjoint::vjp(b, site, slot, site.arrival.value)?;
    // A divisor's derivative has the opposite sign of its share.
    let sign = if binary == Binary::Div && slot == 1 { -1.0 } else { 1.0 };
    b.scale(back, sign * share(site, slot), "part")
}

/// The part of all factors that an operand stands for.
fn share(site: &Site, slot: usize) -> f64 {
    site.factors[slot] as f64 / count(site)
}

fn count(site: &Site) -> f64 {
    (site.factors[0] + site.factors[1]) as f64
}

/// `R / S(k·z)`, or `g/k`, for `k` factors.
fn contraction_signal(b: &mut RelevanceBuilder, site: &Site) -> Built<Value> {
    let stabiliser = site.stabiliser()?;
    if site.arrival.carrier == Carrier::Coefficient && stabiliser.eps == 0.0 {
        return b.scale(site.arrival.value, 1.0 / count(site), "s");
    }
    let relevance = site.relevance(b)?;
    let z = b.activation(site.output)?;
    let multiple = b.scale(z, count(site), "z")?;
    b.quotient(relevance, multiple, stabiliser, "s")
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn half_mul() {
        check_rule(
            "half_mul",
            "Half",
            "",
            r#"
        input %x : f32[N, 3]
        input %z : f32[N, 3]
        forward
          %y = mul %x, %z : f32[N, 3] from "/mul"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn half_dot() {
        check_rule(
            "half_dot",
            "Half",
            "",
            r#"
        input %x : f32[N, 3, 4]
        input %z : f32[N, 4, 5]
        forward
          %y = dot %x, %z {batch=0x0, contract=2x1} : f32[N, 3, 5] from "/matmul"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn half_of_a_chain() {
        check_rule(
            "half_of_a_chain",
            "Half",
            "",
            r#"
        input %x : f32[N, 3]
        input %z : f32[N, 3]
        input %u : f32[N, 1]
        forward
          %xz = mul %x, %z : f32[N, 3] from "/mul"
          %wide = broadcast %u : f32[N, 3] from "/wide"
          %y = mul %wide, %xz : f32[N, 3] from "/mul2"
        result "output/y" = %y
        "#,
        );
    }
}
