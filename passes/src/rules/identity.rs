//! Identity rule for functions of one tensor.

use lrpc_ir::ops::{Binary, Elementwise, Op};
use lrpc_ir::{Absorbed, Diagnostic};

use super::RuleDef;
use super::attn_softmax::masked;
use crate::adjoint::elementwise::{mask, prelu_slope};
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Carrier, Flow, Site};

const DOC: &str = "
# Formula
R_x = R; as coefficient g_x = g ⊙ f(x)/x, whose value at 0 is f'(0) where f(0) = 0. Multiplying or dividing by a constant
is such a function of its active operand; quantisation and its inverse pass R on as it is. A softmax passes R on as well, element by element, but to
masked elements.

# Conserves?
Exactly, but for what masked elements of a softmax get, which is in the ledger as the rule's own.

# Use when
Activations, and products with constants; a softmax that shall keep relevance at the score of its own share.

# Parameters
None.

# Reference
Bach et al. 2015; as coefficient Achtibat et al. 2024, section 3.3.

# Example graph
%g.x = mul %g.y, %secant.y, with %secant.y = secant %p.x {of=relu}
";

pub(super) const RULE: RuleDef =
    RuleDef { name: "Identity", doc: DOC, parameters: &[], classes: &["elementwise", "softmax", "log_softmax"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    if matches!(site.op, Op::Normalize(_)) {
        return of_softmax(b, site);
    }
    if let Op::Elementwise(Elementwise::Quantize | Elementwise::Dequantize) = site.op {
        return through_integers(b, site);
    }
    if site.arrival.carrier == Carrier::Relevance {
        return site.flows(b, |_, _| Ok(Flow::Relevance(site.arrival.value)));
    }
    let g = site.arrival.value;
    match &site.op {
        Op::Elementwise(Elementwise::Unary(unary)) if unary.function.vanishes_at_zero(unary.parameters) => {
            let x = b.activation(site.operands[0])?;
            let secant = b.op(Op::Elementwise(Elementwise::Secant(*unary)), &[x], "secant")?;
            let coefficient = b.mul(g, secant, "part")?;
            site.flows(b, |_, _| Ok(Flow::Times(coefficient)))
        }
        Op::Elementwise(Elementwise::Binary(Binary::Mul | Binary::Div)) => constant_factor(b, site),
        Op::Elementwise(Elementwise::Binary(Binary::Prelu)) => {
            let slope = prelu_slope(b, site)?;
            let coefficient = b.mul(g, slope, "part")?;
            site.flows(b, |_, _| Ok(Flow::Times(coefficient)))
        }
        Op::Elementwise(_) => {
            // f(0) is not 0: only R can say what reaches x = 0.
            let relevance = site.relevance(b)?;
            site.flows(b, |_, _| Ok(Flow::Relevance(relevance)))
        }
        other => {
            Err(Diagnostic::new(format!("`{}` is neither an element-wise operation nor a softmax", other.mnemonic())))
        }
    }
}

/// `R` as it is; what a masked element gets stays here, as its score is none.
fn of_softmax(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let relevance = site.relevance(b)?;
    let Some(masked) = masked(b, site)? else {
        return site.flows(b, |_, _| Ok(Flow::Relevance(relevance)));
    };
    let lost = mask(b, masked, relevance, true)?;
    b.absorb(Absorbed::Rule, lost);
    let passed = mask(b, masked, relevance, false)?;
    site.flows(b, |_, _| Ok(Flow::Relevance(passed)))
}

/// `R` as it is. A coefficient of integers would not be one of the numbers that they stand for.
fn through_integers(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let relevance = site.relevance(b)?;
    let dtype = b.ty(site.operands[0]).dtype.of_relevance();
    let relevance = b.cast(relevance, dtype, "R")?;
    site.flows(b, |_, _| Ok(Flow::Relevance(relevance)))
}

/// `g·c` or `g/c` to an operand that a constant scales; a constant over `x` needs `R`.
fn constant_factor(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let divides = site.op == Op::Elementwise(Elementwise::Binary(Binary::Div));
    let slot = usize::from(!site.active[0]);
    if divides && slot == 1 {
        let relevance = site.relevance(b)?;
        return site.flows(b, |_, _| Ok(Flow::Relevance(relevance)));
    }
    let constant = b.activation(site.operands[1 - slot])?;
    let binary = if divides { Binary::Div } else { Binary::Mul };
    let coefficient = b.binary(binary, site.arrival.value, constant, "part")?;
    site.flows(b, |_, _| Ok(Flow::Times(coefficient)))
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn identity_of_integers() {
        check_rule(
            "identity_of_integers",
            "Identity",
            "",
            r#"
        input %x : f32[N, 3]
        weight @s : f32[1]
        forward
          %z = const 0 : u8[1]
          %s.all = broadcast @s : f32[N, 3]
          %z.all = broadcast %z : u8[N, 3]
          %q = quantize %x, %s.all, %z.all : u8[N, 3] from "/quantize"
          %y = dequantize %q, %s.all, %z.all : f32[N, 3] from "/dequantize"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn identity() {
        check_rule(
            "identity",
            "Identity",
            "",
            r#"
        input %x : f32[N, 3]
        forward
          %y = tanh %x : f32[N, 3] from "/tanh"
        result "output/y" = %y
        "#,
        );
    }
}
