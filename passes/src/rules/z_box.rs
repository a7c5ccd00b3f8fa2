//! z^B rule for linear maps on a bounded input.

use lrpc_ir::graph::Value;
use lrpc_ir::ops::{Linear, ReduceKind};
use lrpc_ir::{Diagnostic, Dim};

use super::shares::Part;
use super::{EPS, ParameterDef, RuleDef};
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::composite::Parameter;
use crate::relevance::site::{Flow, LinearSite, Site};

const DOC: &str = "
# Formula
With l ≤ x ≤ h: D = z₀ − lW⁺ − hW⁻, s = R / S(D), R_x = x ⊙ VJP_W(s) − l ⊙ VJP_{W⁺}(s) − h ⊙ VJP_{W⁻}(s). The bias
cancels.

# Conserves?
Up to the stabiliser's share. It puts relevance where x = 0.

# Use when
First layers whose input lies in a box, such as pixels.

# Parameters
`low`, `high`: the box; numbers, lists with one number per channel, or `auto` for each sample's minimum and maximum.
`eps`: stabiliser of the denominator.

# Reference
Montavon et al. 2017, eq. 18.

# Example graph
%D.y = sub %z.y, %box.y; %s.y = div %R.y, %S.y; %R.x.y = sub %first.y, %second.y
";

const LOW: ParameterDef =
    ParameterDef { name: "low", doc: "lower end of the box", default: || Parameter::Word("auto".into()) };
const HIGH: ParameterDef =
    ParameterDef { name: "high", doc: "upper end of the box", default: || Parameter::Word("auto".into()) };

pub(super) const RULE: RuleDef =
    RuleDef { name: "ZBox", doc: DOC, parameters: &[LOW, HIGH, EPS], classes: &["linear"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    if let (Ok(low), Ok(high)) = (site.number("low"), site.number("high"))
        && (low.is_nan() || high.is_nan() || low > high)
    {
        return Err(Diagnostic::request(format!("the box from {low} to {high} is empty")));
    }
    let linear = site.linear(b)?;
    let low = bound(b, site, &linear, "low", ReduceKind::Min)?;
    let high = bound(b, site, &linear, "high", ReduceKind::Max)?;
    let (positive, negative) = (Part::Positive.of(b, linear.weight, "W")?, Part::Negative.of(b, linear.weight, "W")?);
    let y = b.ty(linear.output).shape;
    let response = |b: &mut RelevanceBuilder, bound: Value, weight: Value| {
        let response = linear.forward(b, bound, weight, "box")?;
        b.broadcast(response, &y, "box")
    };
    let (least, most) = (response(b, low, positive)?, response(b, high, negative)?);
    let z = linear.output_without_bias(b)?;
    let above = b.sub(z, least, "D")?;
    let denominator = b.sub(above, most, "D")?;

    let relevance = site.relevance(b)?;
    let s = b.quotient(relevance, denominator, site.number("eps")?, "s")?;
    let x = b.activation(linear.input)?;
    let term = |b: &mut RelevanceBuilder, factor: Value, weight: Value| {
        let back = linear.transpose(b, s, weight, "t")?;
        let shape = b.ty(back).shape;
        let factor = b.broadcast(factor, &shape, "box")?;
        b.weigh(factor, back, "part")
    };
    let whole = term(b, x, linear.weight)?;
    let (lower, upper) = (term(b, low, positive)?, term(b, high, negative)?);
    let result = b.sub(whole, lower, "part")?;
    let result = b.sub(result, upper, "part")?;
    site.flows(b, |_, _| Ok(Flow::Relevance(result)))
}

/// One end of the box as an input of the linear map: of one sample if it is constant, else of all.
fn bound(b: &mut RelevanceBuilder, site: &Site, linear: &LinearSite, name: &str, extreme: ReduceKind) -> Built<Value> {
    let x = b.ty(linear.input);
    let mut one_sample = x.shape.clone();
    if let (Linear::Conv(_) | Linear::ConvTranspose(_), Some(batch)) = (linear.op(), one_sample.first_mut()) {
        *batch = Dim::Known(1);
    }
    match site.parameters.get(name) {
        Some(Parameter::Number(value)) => b.filled(*value, x.dtype, &one_sample),
        Some(Parameter::Numbers(values)) => {
            if x.shape.get(1) != Some(&Dim::Known(values.len() as i64)) {
                return Err(Diagnostic::request(format!("`{name}` has {} numbers, not one per channel", values.len())));
            }
            let channels = b.listed(values, x.dtype)?;
            b.per_channel(channels, &one_sample, "box")
        }
        Some(Parameter::Word(word)) if word == "auto" => {
            let axes: Vec<usize> = (1..x.rank()).collect();
            let value = b.activation(linear.input)?;
            b.spread(extreme, value, &axes, "box")
        }
        other => Err(Diagnostic::request(format!(
            "`{name}` is a number, a list or `auto`, not {}",
            other.map_or("nothing".into(), ToString::to_string)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn z_box() {
        check_rule(
            "z_box",
            "ZBox",
            "low = -1.0, high = [1.0, 2.0]",
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

    #[test]
    fn z_box_auto() {
        check_rule(
            "z_box_auto",
            "ZBox",
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
