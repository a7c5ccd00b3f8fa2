//! Square ratio for additions.

use lrpc_ir::graph::Value;
use lrpc_ir::ops::{Binary, Elementwise, Op};
use lrpc_ir::{Absorbed, Diagnostic};

use super::{EPS, RuleDef, STABILISER};
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Flow, Site};

const DOC: &str = "
# Formula
For y = a ± b: s = R / S(a² + b²), R_a = a² ⊙ s, R_b = b² ⊙ s.

# Conserves?
Up to the stabiliser's share and that of an added constant, which is in the ledger as bias.

# Use when
Residual additions in which the larger branch shall take nearly everything.

# Parameters
`eps`, `stabiliser`: stabiliser of the denominator.

# Reference
Made up for docs/writing-a-rule.md.

# Example graph
%D.y = add %square.y, %square.y.1; %s.y = ratio %R.y, %S.y; %R.x = mul %square.y, %s.y
";

pub(super) const RULE: RuleDef =
    RuleDef { name: "SquareRatio", doc: DOC, parameters: &[EPS, STABILISER], classes: &["additive"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    if !matches!(site.op, Op::Elementwise(Elementwise::Binary(Binary::Add | Binary::Sub))) {
        let message = format!("SquareRatio does not serve `{}`", site.op.mnemonic());
        return Err(Diagnostic::new(message).help("it is for additions; SignedRatio serves sums and means"));
    }
    let squares = [square(b, site.operands[0])?, square(b, site.operands[1])?];
    let denominator = b.add(squares[0], squares[1], "D")?;
    let relevance = site.relevance(b)?;
    let s = b.quotient(relevance, denominator, site.stabiliser()?, "s")?;
    let shares = [b.mul(squares[0], s, "part")?, b.mul(squares[1], s, "part")?];
    for (slot, share) in shares.into_iter().enumerate() {
        if !site.active[slot] {
            b.absorb(Absorbed::Bias, share);
        }
    }
    site.flows(b, |_, slot| Ok(Flow::Relevance(shares[slot])))
}

fn square(b: &mut RelevanceBuilder, operand: Value) -> Built<Value> {
    let a = b.activation(operand)?;
    b.mul(a, a, "square")
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn square_ratio() {
        check_rule(
            "square_ratio",
            "SquareRatio",
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
}
