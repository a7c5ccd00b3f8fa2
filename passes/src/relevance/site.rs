//! A site: one operation of the forward graph that relevance passes, as a rule sees it.

use std::collections::BTreeMap;

use lrpc_ir::graph::{NodeId, Value};
use lrpc_ir::ops::{Class, Geometry, Linear, Op};
use lrpc_ir::{Diagnostic, Dim, TensorType};

use super::builder::{Built, RelevanceBuilder};
use super::composite::Parameter;
use super::roles::Gates;
use super::stabiliser::{Stabiliser, StabiliserMode};
use super::support::Support;
use crate::adjoint;

/// How relevance travels (docs/rule-book.md section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// As `R`.
    Relevance,
    /// As `g` with `R = a ⊙ g`.
    Coefficient,
}

impl Carrier {
    /// The word of the text format.
    pub fn name(self) -> &'static str {
        match self {
            Carrier::Relevance => "relevance",
            Carrier::Coefficient => "coefficient",
        }
    }

    /// The prefix of names: `R` or `g`.
    pub fn letter(self) -> &'static str {
        match self {
            Carrier::Relevance => "R",
            Carrier::Coefficient => "g",
        }
    }
}

/// What a rule sends to one operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// `R = a ⊙ t`: the proof that it may travel as a coefficient.
    Times(Value),
    /// `R`.
    Relevance(Value),
    /// Nothing: an index, a shape, a mask, a constant, or by the rule's definition.
    None,
}

/// Relevance as it arrives at a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// How it travels.
    pub carrier: Carrier,
    /// The tensor, of the value's shape.
    pub value: Value,
}

/// One operation that a rule is applied to.
#[derive(Debug, Clone)]
pub struct Site {
    /// The forward node.
    pub node: NodeId,
    /// Its operation.
    pub op: Op,
    /// Its operands.
    pub operands: Vec<Value>,
    /// Which of them are active.
    pub active: Vec<bool>,
    /// Its relevance class.
    pub class: Class,
    /// The result that relevance arrives at.
    pub output: Value,
    /// What arrives.
    pub arrival: Arrival,
    /// Where what arrives may differ from 0.
    pub support: Support,
    /// For a product, how many factors each of its first two operands stands for: 1, or those of the product that it is.
    pub factors: [usize; 2],
    /// The operand of a product that is a function of the other one's signal: see [`super::selective`].
    pub held: Option<usize>,
    /// Which operand of a product or quotient is a gate.
    pub gates: Gates,
    /// What is added to what a linear map gives and takes no relevance: a part of its bias. The output is the sum.
    pub addend: Option<Value>,
    /// The rule's parameters, defaults filled in.
    pub parameters: BTreeMap<String, Parameter>,
}

impl Site {
    /// A constant computation, with `arrival` at its result.
    pub(crate) fn of_constant(
        node: NodeId,
        op: Op,
        operands: Vec<Value>,
        active: Vec<bool>,
        output: Value,
        arrival: Arrival,
    ) -> Site {
        let class = op.class(&active);
        Site {
            node,
            op,
            operands,
            active,
            class,
            output,
            arrival,
            support: Support::Anywhere,
            factors: [1, 1],
            held: None,
            gates: Gates::default(),
            addend: None,
            parameters: BTreeMap::new(),
        }
    }

    /// `R` of the output.
    pub fn relevance(&self, b: &mut RelevanceBuilder) -> Built<Value> {
        match self.arrival.carrier {
            Carrier::Relevance => Ok(self.arrival.value),
            Carrier::Coefficient => {
                let y = b.activation(self.output)?;
                b.weigh(y, self.arrival.value, "R")
            }
        }
    }

    /// `g` of the output. Where `R` arrives, it is divided by the activation with `R/0 = 0`, and what is lost there is
    /// booked as stabiliser.
    pub fn coefficient(&self, b: &mut RelevanceBuilder) -> Built<Value> {
        match self.arrival.carrier {
            Carrier::Coefficient => Ok(self.arrival.value),
            Carrier::Relevance => {
                let y = b.activation(self.output)?;
                b.quotient(self.arrival.value, y, 0.0, "g")
            }
        }
    }

    /// `s` with `R = S(y) ⊙ s`: what linear rules send back. A coefficient is just that at ε = 0.
    pub fn signal(&self, b: &mut RelevanceBuilder, stabiliser: impl Into<Stabiliser>) -> Built<Value> {
        let stabiliser = stabiliser.into();
        if self.arrival.carrier == Carrier::Coefficient && stabiliser.eps == 0.0 {
            return Ok(self.arrival.value);
        }
        let relevance = self.relevance(b)?;
        let y = b.activation(self.output)?;
        b.quotient(relevance, y, stabiliser, "s")
    }

    /// The stabiliser that the rule's parameters `eps` and `stabiliser` describe.
    pub fn stabiliser(&self) -> Built<Stabiliser> {
        Ok(Stabiliser { mode: StabiliserMode::from_name(self.word("stabiliser")?)?, eps: self.number("eps")? })
    }

    /// A flow for every operand: what `flow` gives for active ones, nothing for the others.
    pub fn flows(
        &self,
        b: &mut RelevanceBuilder,
        mut flow: impl FnMut(&mut RelevanceBuilder, usize) -> Built<Flow>,
    ) -> Built<Vec<Flow>> {
        let slots = self.active.iter().enumerate();
        slots.map(|(slot, &active)| if active { flow(b, slot) } else { Ok(Flow::None) }).collect()
    }

    /// All of it to the other one of two factors: the operand at `silent` is held constant and takes nothing.
    pub fn flows_beside(&self, b: &mut RelevanceBuilder, silent: usize) -> Built<Vec<Flow>> {
        let flow = match self.arrival.carrier {
            Carrier::Relevance => Flow::Relevance(self.arrival.value),
            Carrier::Coefficient => Flow::Times(adjoint::vjp(b, self, 1 - silent, self.arrival.value)?),
        };
        self.flows(b, |_, slot| Ok(if slot == silent { Flow::None } else { flow }))
    }

    /// As [`Site::flows_beside`], also for a contraction, whose other factor shares with its stabiliser.
    pub fn flows_past(&self, b: &mut RelevanceBuilder, held: usize) -> Built<Vec<Flow>> {
        if !matches!(self.op, Op::Linear(_)) {
            return self.flows_beside(b, held);
        }
        let s = self.signal(b, self.stabiliser()?)?;
        let back = adjoint::vjp(b, self, 1 - held, s)?;
        self.flows(b, |_, slot| Ok(if slot == held { Flow::None } else { Flow::Times(back) }))
    }

    /// A number among the rule's parameters.
    pub fn number(&self, name: &str) -> Built<f64> {
        match self.parameters.get(name) {
            Some(Parameter::Number(value)) => Ok(*value),
            other => Err(self.wrong_parameter(name, "a number", other)),
        }
    }

    /// A word among the rule's parameters.
    pub fn word(&self, name: &str) -> Built<&str> {
        match self.parameters.get(name) {
            Some(Parameter::Word(word)) => Ok(word),
            other => Err(self.wrong_parameter(name, "a word", other)),
        }
    }

    fn wrong_parameter(&self, name: &str, wanted: &str, found: Option<&Parameter>) -> Diagnostic {
        let found = found.map_or("nothing".into(), ToString::to_string);
        Diagnostic::request(format!("rule parameter `{name}` must be {wanted}, not {found}"))
    }

    /// The site as a linear map with a weight.
    ///
    /// # Errors
    /// A site of another class.
    pub fn linear(&self, b: &mut RelevanceBuilder) -> Built<LinearSite> {
        let (Class::Linear { input, weight, bias }, Op::Linear(op)) = (self.class, &self.op) else {
            return Err(Diagnostic::new("the rule needs a linear map with a weight"));
        };
        let operand = |slot: usize| {
            self.operands.get(slot).copied().ok_or_else(|| Diagnostic::new("the linear map lacks an operand"))
        };
        let weight_value = operand(weight)?;
        let mut site = LinearSite {
            op: op.clone(),
            slot: input,
            input: operand(input)?,
            weight: b.activation(weight_value)?,
            bias: match bias {
                Some(slot) => Some(b.activation(operand(slot)?)?),
                None => None,
            },
            output: self.output,
        };
        if let Some(addend) = self.addend {
            let addend = b.activation(addend)?;
            site.bias = Some(match site.bias {
                Some(bias) => {
                    let bias = site.bias_like_output(b, bias)?;
                    b.add(bias, addend, "b")?
                }
                None => addend,
            });
        }
        Ok(site)
    }
}

/// A linear map `y = x·W + b`, whatever its operation: rules are written once for contraction, convolution and the rest.
#[derive(Debug, Clone)]
pub struct LinearSite {
    op: Linear,
    slot: usize,
    /// The forward value `x`.
    pub input: Value,
    /// `W`, ready for use in the relevance region.
    pub weight: Value,
    /// `b`, ready for use in the relevance region: one number per channel or feature, or of the output's shape where it is
    /// computed when the model runs.
    pub bias: Option<Value>,
    /// The forward value `y`.
    pub output: Value,
}

impl LinearSite {
    /// `x·W` without bias.
    pub fn forward(&self, b: &mut RelevanceBuilder, x: Value, weight: Value, hint: &str) -> Built<Value> {
        let operands = if self.slot == 0 { [x, weight] } else { [weight, x] };
        // The batch axis may differ from the site's, as for constant inputs of one sample.
        b.op(Op::Linear(self.op.clone()), &operands, hint)
    }

    /// `VJP_x(cotangent)` under the given weight.
    pub fn transpose(&self, b: &mut RelevanceBuilder, cotangent: Value, weight: Value, hint: &str) -> Built<Value> {
        let x = b.ty(self.input);
        adjoint::linear::transpose(b, &self.op, self.slot, &x, weight, cotangent, hint)
    }

    /// The shape of an input with length 1 along every axis that the map leaves as it is: samples of a convolution, free
    /// axes of a contraction. What is the same along them need not be computed more than once.
    pub fn one_sample(&self, b: &RelevanceBuilder) -> Vec<Dim> {
        let mut shape = b.graph().ty(self.input).shape.clone();
        let free = match &self.op {
            Linear::Conv(_) | Linear::ConvTranspose(_) => vec![0],
            Linear::Dot(dot) if self.slot == 0 => dot.left_free(shape.len()),
            Linear::Dot(dot) => dot.right_free(shape.len()),
        };
        for axis in free {
            if let Some(length) = shape.get_mut(axis) {
                *length = Dim::Known(1);
            }
        }
        shape
    }

    /// The bias copied to the output's shape.
    pub fn bias_like_output(&self, b: &mut RelevanceBuilder, bias: Value) -> Built<Value> {
        let shape = b.ty(self.output).shape;
        if b.ty(bias).shape == shape {
            return Ok(bias);
        }
        match self.op {
            Linear::Dot(_) => b.broadcast(bias, &shape, "b"),
            Linear::Conv(_) | Linear::ConvTranspose(_) => b.per_channel(bias, &shape, "b"),
        }
    }

    /// `z₀ = x·W`, the output without its bias.
    pub fn output_without_bias(&self, b: &mut RelevanceBuilder) -> Built<Value> {
        let y = b.activation(self.output)?;
        match self.bias {
            None => Ok(y),
            Some(bias) => {
                let bias = self.bias_like_output(b, bias)?;
                b.sub(y, bias, "z")
            }
        }
    }

    /// The least number of products `x_i·w_ij` that make one output, if it is a number. At the edges of an image windows
    /// see fewer inputs than elsewhere.
    pub fn contributions(&self, b: &RelevanceBuilder) -> Option<i64> {
        let (x, y, weight) = (b.graph().ty(self.input), b.graph().ty(self.output), b.graph().ty(self.weight));
        let length = |axis: usize| weight.shape.get(axis).and_then(Dim::known);
        let counts: Vec<Option<i64>> = match &self.op {
            Linear::Dot(dot) => {
                let side = |pair: &(usize, usize)| if self.slot == 0 { pair.1 } else { pair.0 };
                dot.contract.iter().map(|pair| length(side(pair))).collect()
            }
            Linear::Conv(geometry) => {
                let taps = (0..geometry.spatial.len()).map(|axis| {
                    let edge = Edge::of(geometry, axis, weight, x, y)?;
                    Some((edge.taps - edge.taps_outside()).max(1))
                });
                taps.chain([length(1)]).collect()
            }
            Linear::ConvTranspose(geometry) => {
                let taps = (0..geometry.spatial.len()).map(|axis| {
                    let edge = Edge::of(geometry, axis, weight, y, x)?;
                    // Each output place is reached by one tap of every stride.
                    Some((edge.taps_at_edge() / edge.stride).max(1))
                });
                let channels = length(0).map(|channels| channels / geometry.groups.max(1));
                taps.chain([channels]).collect()
            }
        };
        counts.into_iter().try_fold(1i64, |product, count| product.checked_mul(count?))
    }

    /// The operation.
    pub fn op(&self) -> &Linear {
        &self.op
    }

    /// Whether the first axis of the input becomes that of the output, element by element.
    pub fn keeps_first_axis(&self) -> bool {
        match &self.op {
            Linear::Dot(dot) if self.slot == 0 => match dot.batch.first() {
                Some(pair) => pair.0 == 0,
                None => dot.contract.iter().all(|pair| pair.0 != 0),
            },
            Linear::Dot(dot) => dot.batch.first().is_some_and(|pair| pair.1 == 0),
            Linear::Conv(_) | Linear::ConvTranspose(_) => true,
        }
    }

    /// Whether the active operand is the left one.
    pub fn input_is_left(&self) -> bool {
        self.slot == 0
    }
}

/// How the windows of a convolution lie over the edges of an axis.
struct Edge {
    taps: i64,
    stride: i64,
    dilation: i64,
    /// Places before the first element that the first window covers.
    before: i64,
    /// Places behind the last element that the last window covers.
    after: i64,
}

impl Edge {
    /// Spatial axis `axis` of a convolution from `wide` to `narrow`. Where a length is a symbol, both edges count as equal.
    fn of(
        geometry: &Geometry,
        axis: usize,
        weight: &TensorType,
        wide: &TensorType,
        narrow: &TensorType,
    ) -> Option<Edge> {
        let known = |dims: &[Dim], axis: usize| dims.get(axis).and_then(Dim::known);
        let taps = known(&weight.shape, axis + 2)?;
        let (stride, dilation) = (*geometry.strides.get(axis)?, *geometry.dilations.get(axis)?);
        let before = known(&geometry.pads, axis)?.max(0);
        let reach = taps.checked_sub(1)?.checked_mul(dilation)?;
        let after = match (known(&wide.shape, axis + 2), known(&narrow.shape, axis + 2)) {
            (Some(wide), Some(narrow)) => {
                let last = narrow.checked_sub(1)?.checked_mul(stride)?.checked_sub(before)?;
                last.checked_add(reach)?.checked_add(1)?.checked_sub(wide)?.max(0)
            }
            _ => before,
        };
        Some(Edge { taps, stride, dilation, before, after })
    }

    /// Taps that a window loses over the farther edge.
    fn taps_outside(&self) -> i64 {
        let places = self.before.max(self.after);
        places / self.dilation + i64::from(places % self.dilation != 0)
    }

    /// Taps that stand over the nearer edge or beyond it.
    fn taps_at_edge(&self) -> i64 {
        (self.before.min(self.after) / self.dilation).saturating_add(1).min(self.taps)
    }
}
