//! What the rules for linear maps have in common: the positive and negative contributions, and the bias policy.
//!
//! With `c_ij = x_i·w_ij`: `z₀ = Σ c`, `P = Σ c⁺`, `N = Σ c⁻`, `A = Σ |c|`, so that `P = (A + z₀)/2` and
//! `N = (z₀ − A)/2` (docs/rule-book.md section 1): one product more than the forward gives both.

use std::collections::HashSet;

use lrpc_ir::graph::{Graph, NodeId, Value};
use lrpc_ir::ops::{Binary, Elementwise, Function, Movement, Normalize, Op, Pool, ReduceKind};
use lrpc_ir::{Absorbed, Diagnostic, Dim};

use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::composite::Parameter;
use crate::relevance::site::{Arrival, Carrier, Flow, LinearSite, Site};

/// Below this many contributions per output, `(A ± z₀)/2` cancels in f32 (docs/rule-book.md section 3): clamps are used.
const FEW_CONTRIBUTIONS: i64 = 32;

/// Which contributions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Positive,
    Negative,
}

impl Part {
    /// The elements of that sign, zero elsewhere.
    pub(super) fn of(self, b: &mut RelevanceBuilder, x: Value, hint: &str) -> Built<Value> {
        match self {
            Part::Positive => b.positive(x, &format!("{hint}pos")),
            Part::Negative => b.negative(x, &format!("{hint}neg")),
        }
    }

    fn other(self) -> Part {
        match self {
            Part::Positive => Part::Negative,
            Part::Negative => Part::Positive,
        }
    }

    fn letter(self) -> &'static str {
        match self {
            Part::Positive => "P",
            Part::Negative => "N",
        }
    }
}

/// `P` or `N` of the site.
pub(super) fn contributions(b: &mut RelevanceBuilder, linear: &LinearSite, part: Part) -> Built<Value> {
    let x = b.activation(linear.input)?;
    let letter = part.letter();
    if b.is_nonnegative(linear.input) {
        let weight = part.of(b, linear.weight, "W")?;
        return linear.forward(b, x, weight, letter);
    }
    if has_few_contributions(b, linear) {
        let (x_positive, x_negative) = (b.positive(x, "xpos")?, b.negative(x, "xneg")?);
        let (same, other) = (part.of(b, linear.weight, "W")?, part.other().of(b, linear.weight, "W")?);
        let first = linear.forward(b, x_positive, same, letter)?;
        let second = linear.forward(b, x_negative, other, letter)?;
        return b.add(first, second, letter);
    }
    let (size, weight) = (b.magnitude(x, "xabs")?, b.magnitude(linear.weight, "Wabs")?);
    let all = linear.forward(b, size, weight, "A")?;
    let z = linear.output_without_bias(b)?;
    let twice = match part {
        Part::Positive => b.add(z, all, letter)?,
        Part::Negative => b.sub(z, all, letter)?,
    };
    b.scale(twice, 0.5, letter)
}

/// `x⁺ ⊙ VJP_{W⁺}(s) + x⁻ ⊙ VJP_{W⁻}(s)`: the positive contributions weighted by `s`, or likewise the negative ones.
pub(super) fn weighted(b: &mut RelevanceBuilder, linear: &LinearSite, part: Part, s: Value) -> Built<Flow> {
    if b.is_nonnegative(linear.input) {
        let weight = part.of(b, linear.weight, "W")?;
        return Ok(Flow::Times(linear.transpose(b, s, weight, "t")?));
    }
    Ok(Flow::Relevance(weighted_clamps(b, linear, part, s)?))
}

fn weighted_clamps(b: &mut RelevanceBuilder, linear: &LinearSite, part: Part, s: Value) -> Built<Value> {
    let x = b.activation(linear.input)?;
    let (same, other) = (part.of(b, linear.weight, "W")?, part.other().of(b, linear.weight, "W")?);
    let (x_positive, x_negative) = (b.positive(x, "xpos")?, b.negative(x, "xneg")?);
    let (up, down) = (linear.transpose(b, s, same, "t")?, linear.transpose(b, s, other, "t")?);
    let (first, second) = (b.weigh(x_positive, up, "part")?, b.weigh(x_negative, down, "part")?);
    b.add(first, second, "part")
}

/// Positive contributions weighted by `up`, negative ones by `down`.
///
/// With enough contributions of any sign this is `x ⊙ VJP_W((up + down)/2) + |x| ⊙ VJP_{|W|}((up − down)/2)`. The halves
/// cancel where one sign is next to absent and its signal therefore large, as happens for few contributions: there the
/// clamps stay.
pub(super) fn weighted_by_sign(b: &mut RelevanceBuilder, linear: &LinearSite, up: Value, down: Value) -> Built<Flow> {
    if b.is_nonnegative(linear.input) {
        return weighted_by_sign_of_weights(b, linear, up, down);
    }
    if has_few_contributions(b, linear) {
        let first = weighted_clamps(b, linear, Part::Positive, up)?;
        let second = weighted_clamps(b, linear, Part::Negative, down)?;
        return Ok(Flow::Relevance(b.add(first, second, "part")?));
    }
    let (sum, difference) = (b.add(up, down, "half")?, b.sub(up, down, "half")?);
    let (sum, difference) = (b.scale(sum, 0.5, "half")?, b.scale(difference, 0.5, "half")?);
    Ok(Flow::Relevance(signed_and_sized(b, linear, sum, difference)?))
}

/// Contributions of positive weights weighted by `up`, those of negative ones by `down`, for inputs that are not negative:
/// `x ⊙ (VJP_{W⁺}(up) + VJP_{W⁻}(down))`.
pub(super) fn weighted_by_sign_of_weights(
    b: &mut RelevanceBuilder,
    linear: &LinearSite,
    up: Value,
    down: Value,
) -> Built<Flow> {
    let (positive, negative) = (b.positive(linear.weight, "Wpos")?, b.negative(linear.weight, "Wneg")?);
    let (first, second) = (linear.transpose(b, up, positive, "t")?, linear.transpose(b, down, negative, "t")?);
    Ok(Flow::Times(b.add(first, second, "t")?))
}

pub(super) fn has_few_contributions(b: &RelevanceBuilder, linear: &LinearSite) -> bool {
    linear.contributions(b).is_none_or(|count| count < FEW_CONTRIBUTIONS)
}

/// `x ⊙ VJP_W(signed) + |x| ⊙ VJP_{|W|}(sized)`.
pub(super) fn signed_and_sized(
    b: &mut RelevanceBuilder,
    linear: &LinearSite,
    signed: Value,
    sized: Value,
) -> Built<Value> {
    let x = b.activation(linear.input)?;
    let size = b.magnitude(x, "xabs")?;
    let weight = b.magnitude(linear.weight, "Wabs")?;
    let signed = linear.transpose(b, signed, linear.weight, "t")?;
    let sized = linear.transpose(b, sized, weight, "t")?;
    let (first, second) = (b.weigh(x, signed, "part")?, b.weigh(size, sized, "part")?);
    b.add(first, second, "part")
}

/// The site behind the addition of its bias, where the bias is an operand of one: `R_z₀ = |z₀|·s` and `|b|·s` absorbed, with
/// `s = R/S(|z₀| + |b|)`. For other policies the site as it is.
pub(super) fn behind_bias(b: &mut RelevanceBuilder, site: &Site, linear: &LinearSite) -> Built<Site> {
    let mut behind = site.clone();
    if site.word("bias")? != "operand" {
        return Ok(behind);
    }
    behind.parameters.insert("bias".into(), Parameter::Word("exclude".into()));
    let Some(bias) = linear.bias else { return Ok(behind) };
    let relevance = site.relevance(b)?;
    let z = linear.output_without_bias(b)?;
    let z = b.magnitude(z, "size")?;
    let bias = linear.bias_like_output(b, bias)?;
    let bias = b.magnitude(bias, "size")?;
    let denominator = b.add(z, bias, "D")?;
    let s = b.quotient(relevance, denominator, site.stabiliser()?, "s")?;
    absorb_bias(b, Some(bias), s)?;
    let value = b.mul(z, s, "R")?;
    behind.arrival = Arrival { carrier: Carrier::Relevance, value };
    Ok(behind)
}

/// The bias copied to the output's shape, if it takes part.
pub(super) fn bias_in(b: &mut RelevanceBuilder, site: &Site, linear: &LinearSite) -> Built<Option<Value>> {
    match (site.word("bias")?, linear.bias) {
        ("include", Some(bias)) => linear.bias_like_output(b, bias).map(Some),
        ("include" | "exclude", _) => Ok(None),
        // Rules that know this policy have gone behind the addition before they ask.
        ("operand", _) => Err(Diagnostic::request("`bias` is `include` or `exclude` for this rule, not `operand`")),
        (other, _) => Err(Diagnostic::request(format!("`bias` is `include`, `exclude` or `operand`, not `{other}`"))),
    }
}

/// Whether the parameter `bias` leaves nothing to the constant of a sum of one active operand and a constant, so that all
/// of R goes to the other one.
pub(super) fn leaves_constant_out(site: &Site) -> Built<bool> {
    match site.word("bias")? {
        "include" | "operand" => Ok(false),
        "exclude" | "redistribute" => Ok(adds_constant(site)),
        other => {
            let message = format!("`bias` is `include`, `exclude`, `redistribute` or `operand`, not `{other}`");
            Err(Diagnostic::request(message))
        }
    }
}

/// Whether the site is a sum of one active operand and a constant.
pub(super) fn adds_constant(site: &Site) -> bool {
    let lone = site.operands.len() == 2 && site.active.contains(&true) && site.active.contains(&false);
    lone && matches!(site.op, Op::Elementwise(Elementwise::Binary(Binary::Add | Binary::Sub)))
}

/// An input of the linear map that holds the parameter `name`: a number everywhere, or a list with one per channel. With
/// length 1 along axes that the map leaves as they are.
pub(super) fn constant_input(
    b: &mut RelevanceBuilder,
    linear: &LinearSite,
    name: &str,
    value: &Parameter,
) -> Built<Value> {
    let x = b.ty(linear.input);
    let mut one_sample = linear.one_sample(b);
    match value {
        Parameter::Number(value) if value.is_finite() => b.filled(*value, x.dtype, &one_sample),
        Parameter::Numbers(values) => {
            if x.shape.get(1) != Some(&Dim::Known(values.len() as i64)) {
                return Err(Diagnostic::request(format!("`{name}` has {} numbers, not one per channel", values.len())));
            }
            let channels = b.listed(values, x.dtype)?;
            let mut column = vec![Dim::Known(1); one_sample.len().saturating_sub(1)];
            column[0].clone_from(&x.shape[1]);
            one_sample[1].clone_from(&x.shape[1]);
            let column = b.reshape(channels, &column, name)?;
            b.broadcast_once(column, &one_sample, name)
        }
        other => Err(Diagnostic::request(format!("`{name}` is a number or a list, not {other}"))),
    }
}

/// What the map gives for an input that is 1 everywhere, copied to the output's shape. It depends on weights alone, so it
/// is computed for one sample in `prepare`.
pub(super) fn response_to_ones(b: &mut RelevanceBuilder, linear: &LinearSite, weight: Value) -> Built<Value> {
    let (x, y) = (b.ty(linear.input), b.ty(linear.output));
    let one_sample = linear.one_sample(b);
    let ones = b.filled(1.0, x.dtype, &one_sample)?;
    let response = linear.forward(b, ones, weight, "D")?;
    b.broadcast(response, &y.shape, "D")
}

/// `contributions + bias`, where a bias takes part.
pub(super) fn with_bias(b: &mut RelevanceBuilder, contributions: Value, bias: Option<Value>) -> Built<Value> {
    match bias {
        Some(bias) => b.add(contributions, bias, "D"),
        None => Ok(contributions),
    }
}

/// One sign of a bias that takes part.
pub(super) fn part_of_bias(b: &mut RelevanceBuilder, bias: Option<Value>, part: Part) -> Built<Option<Value>> {
    bias.map(|bias| part.of(b, bias, "b")).transpose()
}

/// Books `bias ⊙ s` where a bias takes part.
pub(super) fn absorb_bias(b: &mut RelevanceBuilder, bias: Option<Value>, s: Value) -> Built<()> {
    if let Some(bias) = bias {
        let share = b.mul(bias, s, "b")?;
        b.absorb(Absorbed::Bias, share);
    }
    Ok(())
}

/// The values among `order` (operands before users) that are proven to hold no negative element: made by an operation
/// that cannot give one, or by one that keeps the sign of such values.
pub(crate) fn nonnegative_values(graph: &Graph, order: &[NodeId]) -> HashSet<Value> {
    let mut known = HashSet::new();
    for &node in order {
        let all = || graph.operands(node).iter().all(|operand| known.contains(operand));
        let proven = match &graph.node(node).op {
            Op::Elementwise(Elementwise::Unary(unary)) => match unary.function {
                Function::Relu | Function::Sigmoid | Function::HardSigmoid | Function::Exp | Function::Abs => true,
                Function::Softplus | Function::Positive | Function::Sqrt => true,
                // Where the lower bound is above the upper one, the upper one is all that comes out.
                Function::Clip => unary.parameters[0].0 >= 0.0 && unary.parameters[1].0 >= 0.0,
                _ => false,
            },
            Op::Elementwise(Elementwise::Binary(Binary::Add | Binary::Mul | Binary::Min | Binary::Max)) => all(),
            Op::Movement(Movement::Pad { value, .. }) => value.0 >= 0.0 && all(),
            Op::Movement(_) | Op::Pool(Pool::Window(..)) => all(),
            Op::Reduce(reduce) => reduce.kind != ReduceKind::Product && all(),
            Op::Normalize(Normalize::Softmax { .. }) => true,
            _ => false,
        };
        if proven {
            known.insert(node.into());
        }
    }
    known
}
