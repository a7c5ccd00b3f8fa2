//! z^B rule for linear maps on a bounded input.

use lrpc_ir::Diagnostic;
use lrpc_ir::graph::Value;
use lrpc_ir::ops::ReduceKind;

use super::shares::{self, Part};
use super::{EPS, ParameterDef, RuleDef, STABILISER};
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::composite::Parameter;
use crate::relevance::site::{Flow, LinearSite, Site};

const DOC: &str = "
# Formula
With l ≤ x ≤ h: D = z₀ − lW⁺ − hW⁻, s = R / S(D), R_x = x ⊙ VJP_W(s) − l ⊙ VJP_{W⁺}(s) − h ⊙ VJP_{W⁻}(s). The bias
cancels. Written as R_x = (x − l) ⊙ VJP_{W⁺}(s) + (x − h) ⊙ VJP_{W⁻}(s), which does not cancel where x lies on an edge of
the box; D likewise where l and h are each sample's or contributions are few, else lW⁺ + hW⁻ depends on weights alone.

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
%D.y = sub %z.y, %box.y; %s.y = ratio %R.y, %S.y; %part.y = weigh %distance.y, %t.y; %R.x = add %part.y, %part.y.1
";

const LOW: ParameterDef =
    ParameterDef { name: "low", doc: "lower end of the box", default: || Parameter::Word("auto".into()) };
const HIGH: ParameterDef =
    ParameterDef { name: "high", doc: "upper end of the box", default: || Parameter::Word("auto".into()) };

pub(super) const RULE: RuleDef =
    RuleDef { name: "ZBox", doc: DOC, parameters: &[LOW, HIGH, EPS, STABILISER], classes: &["linear"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    check_box(site)?;
    let linear = site.linear(b)?;
    let (low, high) = (Bound::of(site, "low")?, Bound::of(site, "high")?);
    let (positive, negative) = (Part::Positive.of(b, linear.weight, "W")?, Part::Negative.of(b, linear.weight, "W")?);
    let above = low.distance(b, &linear, ReduceKind::Min)?;
    let below = high.distance(b, &linear, ReduceKind::Max)?;
    let denominator = match (low.response(b, &linear, positive)?, high.response(b, &linear, negative)?) {
        (Some(least), Some(most)) if !shares::has_few_contributions(b, &linear) => {
            let z = linear.output_without_bias(b)?;
            let z = b.sub(z, least, "D")?;
            b.sub(z, most, "D")?
        }
        _ => {
            let (first, second) = (linear.forward(b, above, positive, "D")?, linear.forward(b, below, negative, "D")?);
            b.add(first, second, "D")?
        }
    };
    let relevance = site.relevance(b)?;
    let s = b.quotient(relevance, denominator, site.stabiliser()?, "s")?;
    let (up, down) = (linear.transpose(b, s, positive, "t")?, linear.transpose(b, s, negative, "t")?);
    let (first, second) = (b.weigh(above, up, "part")?, b.weigh(below, down, "part")?);
    let result = b.add(first, second, "part")?;
    site.flows(b, |_, _| Ok(Flow::Relevance(result)))
}

/// # Errors
/// Boxes that hold nothing, and such of which one end alone is given, which a sample may lie outside of as a whole.
fn check_box(site: &Site) -> Built<()> {
    let numbers = |name: &str| match site.parameters.get(name) {
        Some(Parameter::Number(number)) => Some(vec![*number]),
        Some(Parameter::Numbers(numbers)) => Some(numbers.clone()),
        _ => None,
    };
    let (lows, highs) = match (numbers("low"), numbers("high")) {
        (Some(lows), Some(highs)) => (lows, highs),
        (None, None) => return Ok(()),
        _ => {
            return Err(Diagnostic::request("one end of the box is given, the other is each sample's")
                .help("give `low` and `high`, or neither"));
        }
    };
    for at in 0..lows.len().max(highs.len()) {
        let end = |ends: &[f64]| ends.get(at).or(ends.first()).copied().unwrap_or(f64::NAN);
        let (low, high) = (end(&lows), end(&highs));
        if low > high || low.is_nan() || high.is_nan() {
            return Err(Diagnostic::request(format!("the box from {low} to {high} is empty")));
        }
    }
    Ok(())
}

/// One end of the box.
enum Bound<'a> {
    /// The same for all samples.
    Given(&'static str, &'a Parameter),
    /// The least or largest element of each sample.
    Sample,
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

    /// `x` less the bound.
    fn distance(&self, b: &mut RelevanceBuilder, linear: &LinearSite, extreme: ReduceKind) -> Built<Value> {
        let x = b.activation(linear.input)?;
        let ty = b.ty(x);
        let bound = match self {
            Bound::Given(name, given) => shares::constant_input(b, linear, name, given)?,
            Bound::Sample => b.reduce(extreme, x, &Vec::from_iter(1..ty.rank()), "box")?,
        };
        let bound = b.broadcast(bound, &ty.shape, "box")?;
        b.sub(x, bound, "distance")
    }

    /// What the map gives for the bound, where that depends on weights alone.
    fn response(&self, b: &mut RelevanceBuilder, linear: &LinearSite, weight: Value) -> Built<Option<Value>> {
        let Bound::Given(name, given) = self else { return Ok(None) };
        let bound = shares::constant_input(b, linear, name, given)?;
        let response = linear.forward(b, bound, weight, "box")?;
        let y = b.ty(linear.output).shape;
        b.broadcast(response, &y, "box").map(Some)
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
