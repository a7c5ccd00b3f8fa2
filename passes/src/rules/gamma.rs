//! γ rule for linear maps, generalised to inputs and outputs of any sign.

use lrpc_ir::Diagnostic;
use lrpc_ir::graph::Value;
use lrpc_ir::ops::{Compare, Elementwise, Op};

use super::shares::{self, Part};
use super::{BIAS, EPS, ParameterDef, RuleDef, STABILISER};
use crate::adjoint::elementwise::mask;
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::composite::Parameter;
use crate::relevance::site::{Flow, LinearSite, Site};
use crate::relevance::stabiliser::StabiliserMode;
use crate::relevance::support::Support;

const DOC: &str = "
# Formula
With c_ij = x_i·w_ij: where z_j > 0, D_j = z_j + γ(P_j + b_j⁺) and positive contributions count 1 + γ times; where
z_j < 0, D_j = z_j + γ(N_j + b_j⁻) and negative ones do; where z_j = 0 nothing flows. With s = R / S(D) and t = s where
z > 0, −s where z < 0: R_x = x ⊙ VJP_W((1 + γ/2)s) + |x| ⊙ VJP_{|W|}((γ/2)t); for non-negative inputs positive and negative
weights are walked apart. Where no input is negative and all relevance is proven to be that of outputs above 0, because a
ReLU alone reads them and nothing below puts relevance on zeros, with W' = W + γW⁺ and b' = b + γb⁺: s = R / S(xW' + b'),
R_x = x ⊙ VJP_{W'}(s).

# Conserves?
Up to the bias' share Σ (b + γ·b^±)·s, the stabiliser's, and the relevance of outputs with z = 0, which is booked with
the stabiliser.

# Use when
Lower and middle layers: between ε (γ → 0) and z⁺ (γ → ∞).

# Parameters
`gamma`: γ; 0 boosts nothing, as the ε rule. `eps`, `stabiliser`: stabiliser of the denominator. `bias`: `include`,
`exclude` or `operand`.

# Reference
Montavon et al. 2019, section 10.2.1; any sign: Andéol et al. 2021.

# Example graph
%above.y = greater %p.y, %const.y; %D.y = add %p.y, %boost.y; %s.y = ratio %R.y, %S.y; %R.x = add %R.x.y, %R.x.y.1
";

const GAMMA: ParameterDef =
    ParameterDef { name: "gamma", doc: "how much the favoured sign is boosted", default: || Parameter::Number(0.25) };

pub(super) const RULE: RuleDef =
    RuleDef { name: "Gamma", doc: DOC, parameters: &[GAMMA, EPS, STABILISER, BIAS], classes: &["linear"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let gamma = site.number("gamma")?;
    if !(0.0..f64::INFINITY).contains(&gamma) {
        return Err(Diagnostic::request(format!("γ is a number from 0 on, not {gamma}")));
    }
    let linear = site.linear(b)?;
    let site = &shares::behind_bias(b, site, &linear)?;
    let bias = shares::bias_in(b, site, &linear)?;
    // The proof is about the output, which holds the bias, and about elements that relevance arrives at: a stabiliser that
    // takes all others into account sees another denominator there.
    let by_element = site.stabiliser()?.mode != StabiliserMode::Relative;
    let judged = by_element && (bias.is_some() || linear.bias.is_none());
    let flow = if judged && site.support == Support::Positive && b.is_nonnegative(linear.input) {
        folded(b, site, &linear, gamma)?
    } else {
        by_sign(b, site, &linear, bias, gamma)?
    };
    site.flows(b, |_, _| Ok(flow))
}

/// Where all relevance is that of positive outputs, and no input is negative: the positive contributions are those of
/// positive weights, so that boosting is adding γW⁺ to W.
fn folded(b: &mut RelevanceBuilder, site: &Site, linear: &LinearSite, gamma: f64) -> Built<Flow> {
    let boosted = |b: &mut RelevanceBuilder, x: Value, hint: &str| {
        let positive = Part::Positive.of(b, x, hint)?;
        let boost = b.scale(positive, gamma, hint)?;
        b.add(x, boost, hint)
    };
    let weight = boosted(b, linear.weight, "W")?;
    let bias = match linear.bias {
        Some(bias) => {
            let bias = boosted(b, bias, "b")?;
            Some(linear.bias_like_output(b, bias)?)
        }
        None => None,
    };
    let x = b.activation(linear.input)?;
    let sum = linear.forward(b, x, weight, "D")?;
    let denominator = shares::with_bias(b, sum, bias)?;
    let relevance = site.relevance(b)?;
    let s = b.quotient(relevance, denominator, site.stabiliser()?, "s")?;
    shares::absorb_bias(b, bias, s)?;
    Ok(Flow::Times(linear.transpose(b, s, weight, "t")?))
}

fn by_sign(b: &mut RelevanceBuilder, site: &Site, linear: &LinearSite, bias: Option<Value>, gamma: f64) -> Built<Flow> {
    let relevance = site.relevance(b)?;
    let z = if bias.is_some() { b.activation(linear.output)? } else { linear.output_without_bias(b)? };
    let ty = b.ty(z);
    let zero = b.filled(0.0, ty.dtype, &ty.shape)?;
    let compare = |b: &mut RelevanceBuilder, compare, hint: &str| {
        b.op(Op::Elementwise(Elementwise::Compare(compare)), &[z, zero], hint)
    };
    let above = compare(b, Compare::Greater, "above")?;
    let level = compare(b, Compare::Equal, "level")?;

    let stays = mask(b, level, relevance, true)?;
    b.absorb(lrpc_ir::Absorbed::Stabiliser, stays);
    let flowing = mask(b, level, relevance, false)?;
    let stabiliser = site.stabiliser()?;
    if gamma == 0.0 {
        let s = b.quotient(flowing, z, stabiliser, "s")?;
        shares::absorb_bias(b, bias, s)?;
        return Ok(Flow::Times(linear.transpose(b, s, linear.weight, "t")?));
    }

    let pick = |b: &mut RelevanceBuilder, positive, negative, hint: &str| {
        b.op(Op::Elementwise(Elementwise::Where), &[above, positive, negative], hint)
    };

    let (positive, negative) = both_parts(b, linear)?;
    let favoured = pick(b, positive, negative, "favoured")?;
    let boosted_bias = match bias {
        Some(bias) => {
            let (up, down) = (Part::Positive.of(b, bias, "b")?, Part::Negative.of(b, bias, "b")?);
            let favoured = pick(b, up, down, "b")?;
            Some(b.scale(favoured, gamma, "b")?)
        }
        None => None,
    };
    let boost = b.scale(favoured, gamma, "boost")?;
    let boost = shares::with_bias(b, boost, boosted_bias)?;
    let denominator = b.add(z, boost, "D")?;

    let s = b.quotient(flowing, denominator, stabiliser, "s")?;
    if let (Some(bias), Some(boosted)) = (bias, boosted_bias) {
        let whole = b.add(bias, boosted, "b")?;
        shares::absorb_bias(b, Some(whole), s)?;
    }
    if b.is_nonnegative(linear.input) {
        let boosted = b.scale(s, 1.0 + gamma, "s")?;
        let (up, down) = (pick(b, boosted, s, "up")?, pick(b, s, boosted, "down")?);
        return shares::weighted_by_sign_of_weights(b, linear, up, down);
    }
    let signed = b.scale(s, 1.0 + gamma / 2.0, "half")?;
    let sized = b.scale(s, gamma / 2.0, "half")?;
    let other = b.scale(sized, -1.0, "half")?;
    let sized = pick(b, sized, other, "half")?;
    Ok(Flow::Relevance(shares::signed_and_sized(b, linear, signed, sized)?))
}

/// `P` and `N`, each exact enough where the output has its sign, whatever the number of contributions: there the favoured
/// part and its bias are at least as large as the other one, which the difference is taken from.
fn both_parts(b: &mut RelevanceBuilder, linear: &LinearSite) -> Built<(Value, Value)> {
    let x = b.activation(linear.input)?;
    let z = linear.output_without_bias(b)?;
    if b.is_nonnegative(linear.input) {
        let weight = b.positive(linear.weight, "Wpos")?;
        let positive = linear.forward(b, x, weight, "P")?;
        return Ok((positive, b.sub(z, positive, "N")?));
    }
    let (size, weight) = (b.magnitude(x, "xabs")?, b.magnitude(linear.weight, "Wabs")?);
    let all = linear.forward(b, size, weight, "A")?;
    let (positive, negative) = (b.add(z, all, "P")?, b.sub(z, all, "N")?);
    Ok((b.scale(positive, 0.5, "P")?, b.scale(negative, 0.5, "N")?))
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn gamma() {
        check_rule(
            "gamma",
            "Gamma",
            "",
            r#"
        input %x : f32[N, 8, 4, 4]
        weight @w : f32[8, 8, 3, 3]
        weight @b : f32[8]
        forward
          %y = conv %x, @w, @b {pad=1} : f32[N, 8, 4, 4] from "/conv"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn gamma_between_relus() {
        check_rule(
            "gamma_between_relus",
            "Gamma",
            "",
            r#"
        input %x : f32[N, 8, 4, 4]
        weight @w : f32[8, 8, 3, 3]
        weight @b : f32[8]
        forward
          %h = relu %x : f32[N, 8, 4, 4] from "/before"
          %z = conv %h, @w, @b {pad=1} : f32[N, 8, 4, 4] from "/conv"
          %y = relu %z : f32[N, 8, 4, 4] from "/after"
        result "output/y" = %y
        "#,
        );
    }
}
