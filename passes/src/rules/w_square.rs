//! w² rule for linear maps.

use lrpc_ir::Absorbed;
use lrpc_ir::ops::Linear;

use super::{BIAS, EPS, RuleDef, shares};
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Flow, LinearSite, Site};

const DOC: &str = "
# Formula
R_x = VJP_{W²}(R / S(Σ W² + b²)): the input does not enter.

# Conserves?
Up to the bias' share Σ b²·s and the stabiliser's; both are in the ledger. It puts relevance where x = 0.

# Use when
First layers whose input domain is unbounded.

# Parameters
`eps`: stabiliser of the denominator. `bias`: `include` or `exclude`.

# Reference
Montavon et al. 2017, eq. 12.

# Example graph
%W2.y = mul @w, @w; %D.y = conv %const.y, %W2.y; %s.y = div %R.y, %S.y; %R.x.y = conv_transpose %s.y, %W2.y
";

pub(super) const RULE: RuleDef =
    RuleDef { name: "WSquare", doc: DOC, parameters: &[EPS, BIAS], classes: &["linear"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let linear = site.linear(b)?;
    let square = b.mul(linear.weight, linear.weight, "W2")?;
    let sum = constant_response(b, &linear, 1.0, square)?;
    let bias = match shares::bias_in(b, site, &linear)? {
        Some(bias) => Some(b.mul(bias, bias, "b2")?),
        None => None,
    };
    let denominator = shares::with_bias(b, sum, bias)?;
    let relevance = site.relevance(b)?;
    let s = b.quotient(relevance, denominator, site.number("eps")?, "s")?;
    if let Some(bias) = bias {
        let share = b.mul(bias, s, "b")?;
        b.absorb(Absorbed::Bias, share);
    }
    let result = linear.transpose(b, s, square, "part")?;
    site.flows(b, |_, _| Ok(Flow::Relevance(result)))
}

/// What the map gives for an input that is `value` everywhere, copied to the output's shape. It depends on weights
/// alone, so it is computed for one sample in `prepare`.
pub(super) fn constant_response(
    b: &mut RelevanceBuilder,
    linear: &LinearSite,
    value: f64,
    weight: lrpc_ir::Value,
) -> Built<lrpc_ir::Value> {
    let (x, y) = (b.ty(linear.input), b.ty(linear.output));
    let mut shape = x.shape.clone();
    if let (Linear::Conv(_) | Linear::ConvTranspose(_), Some(batch)) = (linear.op(), shape.first_mut()) {
        *batch = 1.into();
    }
    let constant = b.filled(value, x.dtype, &shape)?;
    let response = linear.forward(b, constant, weight, "D")?;
    b.broadcast(response, &y.shape, "D")
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn w_square() {
        check_rule(
            "w_square",
            "WSquare",
            "",
            r#"
        input %x : f32[N, 2, 4, 4]
        weight @w : f32[8, 2, 3, 3]
        weight @b : f32[8]
        forward
          %y = conv %x, @w, @b {pad=1} : f32[N, 8, 4, 4] from "/conv"
        result "output/y" = %y
        "#,
        );
    }
}
