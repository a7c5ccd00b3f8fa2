//! γ rule for linear maps, generalised to inputs and outputs of any sign.

use lrpc_ir::Diagnostic;
use lrpc_ir::ops::{Compare, Elementwise, Op};

use super::shares::{self, Part};
use super::{BIAS, EPS, ParameterDef, RuleDef};
use crate::adjoint::elementwise::mask;
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::composite::Parameter;
use crate::relevance::site::{Flow, Site};

const DOC: &str = "
# Formula
With c_ij = x_i·w_ij: where z_j > 0, D_j = z_j + γ(P_j + b_j⁺) and positive contributions count 1 + γ times; where
z_j < 0, D_j = z_j + γ(N_j + b_j⁻) and negative ones do; where z_j = 0 nothing flows. With s = R / S(D) and t = s where
z > 0, −s where z < 0: R_x = x ⊙ VJP_W((1 + γ/2)s) + |x| ⊙ VJP_{|W|}((γ/2)t); for non-negative inputs and few
contributions positive and negative weights are walked apart.

# Conserves?
Up to the bias' share Σ (b + γ·b^±)·s, the stabiliser's, and the relevance of outputs with z = 0, which is booked with
the stabiliser.

# Use when
Lower and middle layers: between ε (γ → 0) and z⁺ (γ → ∞).

# Parameters
`gamma`: γ; 0 boosts nothing, as the ε rule. `eps`: stabiliser of the denominator. `bias`: `include` or `exclude`.

# Reference
Montavon et al. 2019, section 10.2.1; any sign: Andéol et al. 2021.

# Example graph
%above.y = greater %p.y, %const.y; %D.y = add %p.y, %boost.y; %s.y = div %R.y, %S.y; %R.x = add %R.x.y, %R.x.y.1
";

const GAMMA: ParameterDef =
    ParameterDef { name: "gamma", doc: "how much the favoured sign is boosted", default: || Parameter::Number(0.25) };

pub(super) const RULE: RuleDef =
    RuleDef { name: "Gamma", doc: DOC, parameters: &[GAMMA, EPS, BIAS], classes: &["linear"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let (gamma, eps) = (site.number("gamma")?, site.number("eps")?);
    if !(0.0..f64::INFINITY).contains(&gamma) {
        return Err(Diagnostic::request(format!("γ is a number from 0 on, not {gamma}")));
    }
    let linear = site.linear(b)?;
    let site = &shares::behind_bias(b, site, &linear)?;
    let relevance = site.relevance(b)?;
    let bias = shares::bias_in(b, site, &linear)?;
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
    if gamma == 0.0 {
        let s = b.quotient(flowing, z, eps, "s")?;
        shares::absorb_bias(b, bias, s)?;
        let back = linear.transpose(b, s, linear.weight, "t")?;
        return site.flows(b, |_, _| Ok(Flow::Times(back)));
    }

    let pick = |b: &mut RelevanceBuilder, positive, negative, hint: &str| {
        b.op(Op::Elementwise(Elementwise::Where), &[above, positive, negative], hint)
    };
    let positive = shares::contributions(b, &linear, Part::Positive)?;
    let negative = shares::contributions(b, &linear, Part::Negative)?;
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

    let s = b.quotient(flowing, denominator, eps, "s")?;
    if let (Some(bias), Some(boosted)) = (bias, boosted_bias) {
        let whole = b.add(bias, boosted, "b")?;
        shares::absorb_bias(b, Some(whole), s)?;
    }
    let boosted = b.scale(s, 1.0 + gamma, "s")?;
    let up = b.op(Op::Elementwise(Elementwise::Where), &[above, boosted, s], "up")?;
    let down = b.op(Op::Elementwise(Elementwise::Where), &[above, s, boosted], "down")?;
    let result = shares::weighted_by_sign(b, &linear, up, down)?;
    site.flows(b, |_, _| Ok(Flow::Relevance(result)))
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
}
