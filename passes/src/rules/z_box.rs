//! z^B rule for linear maps on a bounded input.

use lrpc_ir::graph::Value;
use lrpc_ir::ops::{Linear, ReduceKind};
use lrpc_ir::{Diagnostic, Dim};

use super::shares::{self, Part};
use super::{EPS, ParameterDef, RuleDef, STABILISER};
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::composite::Parameter;
use crate::relevance::site::{Flow, LinearSite, Site};

const DOC: &str = "
# Formula
With l ≤ x ≤ h: D = z₀ − lW⁺ − hW⁻, s = R / S(D), R_x = x ⊙ VJP_W(s) − l ⊙ VJP_{W⁺}(s) − h ⊙ VJP_{W⁻}(s). The bias
cancels. Where l and h are given as numbers, B = l ⊙ W⁺ + h ⊙ W⁻ depends on weights alone: R_x = x ⊙ VJP_W(s) − VJP_B(s).

# Conserves?
Up to the stabiliser's share. It puts relevance where x = 0.

# Use when
First layers whose input lies in a box, such as pixels.

# Parameters
`low`, `high`: the box; finite numbers, lists with one number per channel, or `auto` for each sample's minimum and maximum.
`eps`, `stabiliser`: stabiliser of the denominator.

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
    RuleDef { name: "ZBox", doc: DOC, parameters: &[LOW, HIGH, EPS, STABILISER], classes: &["linear"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    if let (Ok(low), Ok(high)) = (site.number("low"), site.number("high"))
        && (low.is_nan() || high.is_nan() || low > high)
    {
        return Err(Diagnostic::request(format!("the box from {low} to {high} is empty")));
    }
    let linear = site.linear(b)?;
    let (low, high) = (Bound::of(site, "low")?, Bound::of(site, "high")?);
    let (positive, negative) = (Part::Positive.of(b, linear.weight, "W")?, Part::Negative.of(b, linear.weight, "W")?);
    let z = linear.output_without_bias(b)?;
    let relevance = site.relevance(b)?;
    let folded = match (low.times(b, &linear, positive)?, high.times(b, &linear, negative)?) {
        (Some(lower), Some(upper)) => Some(b.add(lower, upper, "Wbox")?),
        _ => None,
    };
    let x = b.activation(linear.input)?;
    if let Some(weight) = folded {
        let response = shares::response_to_ones(b, &linear, weight)?;
        let denominator = b.sub(z, response, "D")?;
        let s = b.quotient(relevance, denominator, site.stabiliser()?, "s")?;
        let whole = linear.transpose(b, s, linear.weight, "t")?;
        let whole = b.weigh(x, whole, "part")?;
        let edges = linear.transpose(b, s, weight, "box")?;
        let result = b.sub(whole, edges, "part")?;
        return site.flows(b, |_, _| Ok(Flow::Relevance(result)));
    }
    let (low, high) = (low.input(b, &linear, ReduceKind::Min)?, high.input(b, &linear, ReduceKind::Max)?);
    let (least, most) = (low.response(b, &linear, positive)?, high.response(b, &linear, negative)?);
    let above = b.sub(z, least, "D")?;
    let denominator = b.sub(above, most, "D")?;
    let s = b.quotient(relevance, denominator, site.stabiliser()?, "s")?;
    let term = |b: &mut RelevanceBuilder, factor: Value, weight: Value| {
        let back = linear.transpose(b, s, weight, "t")?;
        let shape = b.ty(back).shape;
        let factor = b.broadcast(factor, &shape, "box")?;
        b.weigh(factor, back, "part")
    };
    let whole = term(b, x, linear.weight)?;
    let (lower, upper) = (term(b, low.value, positive)?, term(b, high.value, negative)?);
    let result = b.sub(whole, lower, "part")?;
    let result = b.sub(result, upper, "part")?;
    site.flows(b, |_, _| Ok(Flow::Relevance(result)))
}

/// One end of the box.
enum Bound<'a> {
    /// The same for all samples.
    Given(&'static str, &'a Parameter),
    /// The least or largest element of each sample.
    Sample,
}

/// One end of the box as an input of the linear map.
struct BoundInput {
    value: Value,
    /// The one number per element of the first axis that it copies, if it does.
    per_sample: Option<Value>,
}

impl Bound<'_> {
    fn of<'a>(site: &'a Site, name: &'static str) -> Built<Bound<'a>> {
        match site.parameters.get(name) {
            Some(Parameter::Word(word)) if word == "auto" => Ok(Bound::Sample),
            Some(given @ (Parameter::Number(_) | Parameter::Numbers(_))) => Ok(Bound::Given(name, given)),
            other => Err(Diagnostic::request(format!(
                "`{name}` is a number, a list or `auto`, not {}",
                other.map_or("nothing".into(), ToString::to_string)
            ))),
        }
    }

    /// `weight`, every element multiplied by the bound of the input that it meets, where that is known by the weight alone.
    fn times(&self, b: &mut RelevanceBuilder, linear: &LinearSite, weight: Value) -> Built<Option<Value>> {
        let Bound::Given(name, given) = self else { return Ok(None) };
        let values = match given {
            Parameter::Number(value) => return b.scale(weight, *value, "Wbox").map(Some),
            Parameter::Numbers(values) => values,
            Parameter::Word(_) => return Ok(None),
        };
        let axis = match linear.op() {
            Linear::Conv(geometry) if geometry.groups == 1 => 1,
            Linear::ConvTranspose(_) => 0,
            _ => return Ok(None),
        };
        let ty = b.ty(weight);
        if ty.shape.get(axis) != Some(&Dim::Known(values.len() as i64)) {
            return Err(Diagnostic::request(format!("`{name}` has {} numbers, not one per channel", values.len())));
        }
        let mut column = vec![Dim::Known(1); ty.shape.len()];
        column[axis].clone_from(&ty.shape[axis]);
        let values = b.listed(values, ty.dtype)?;
        let values = b.reshape(values, &column, "box")?;
        let values = b.broadcast_once(values, &ty.shape, "box")?;
        b.mul(values, weight, "Wbox").map(Some)
    }

    fn input(&self, b: &mut RelevanceBuilder, linear: &LinearSite, extreme: ReduceKind) -> Built<BoundInput> {
        match self {
            Bound::Given(name, given) => {
                Ok(BoundInput { value: shares::constant_input(b, linear, name, given)?, per_sample: None })
            }
            Bound::Sample => {
                let x = b.activation(linear.input)?;
                let axes: Vec<usize> = (1..b.ty(x).rank()).collect();
                let least = b.reduce(extreme, x, &axes, "box")?;
                let shape = b.ty(x).shape;
                Ok(BoundInput { value: b.broadcast(least, &shape, "box")?, per_sample: Some(least) })
            }
        }
    }
}

impl BoundInput {
    /// What the map gives for the bound. Where the first axis of the input becomes that of the output, a bound per sample
    /// is a factor of what the map gives for ones, which depends on weights alone.
    fn response(&self, b: &mut RelevanceBuilder, linear: &LinearSite, weight: Value) -> Built<Value> {
        let y = b.ty(linear.output).shape;
        let Some(number) = self.per_sample.filter(|_| linear.keeps_first_axis()) else {
            let response = linear.forward(b, self.value, weight, "box")?;
            return b.broadcast(response, &y, "box");
        };
        let mut column = vec![Dim::Known(1); y.len()];
        if let (Some(first), Some(samples)) = (column.first_mut(), y.first()) {
            first.clone_from(samples);
        }
        let column = b.reshape(number, &column, "box")?;
        let column = b.broadcast(column, &y, "box")?;
        let ones = shares::response_to_ones(b, linear, weight)?;
        b.mul(column, ones, "box")
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
