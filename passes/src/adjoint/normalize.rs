//! Derivatives of softmax and normalisations, and the statistics that their rules need.

use lrpc_ir::graph::Value;
use lrpc_ir::ops::{Function, Normalize, ReduceKind, Unary};
use lrpc_ir::types::product;
use lrpc_ir::{Diagnostic, Dim};

use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::Site;

/// VJP with respect to the input.
pub(super) fn vjp(
    b: &mut RelevanceBuilder,
    site: &Site,
    op: &Normalize,
    slot: usize,
    cotangent: Value,
) -> Built<Value> {
    if slot != 0 {
        return Err(Diagnostic::new("an active scale or bias of a normalisation has no rule"));
    }
    match op {
        Normalize::Softmax { axis, .. } => {
            // s ⊙ (g − Σ g s).
            let s = b.activation(site.output)?;
            let weighted = b.mul(cotangent, s, "t")?;
            let sum = b.spread(ReduceKind::Sum, weighted, &[*axis], "sum")?;
            let centred = b.sub(cotangent, sum, "t")?;
            b.mul(s, centred, "t")
        }
        Normalize::LogSoftmax { axis } => {
            // g − softmax·Σ g, with softmax = e^y.
            let y = b.activation(site.output)?;
            let s = b.unary(Unary::plain(Function::Exp), y, "s")?;
            let sum = b.spread(ReduceKind::Sum, cotangent, &[*axis], "sum")?;
            let share = b.mul(s, sum, "t")?;
            b.sub(cotangent, share, "t")
        }
        Normalize::BatchNorm { .. } => Err(Diagnostic::new("batch norm is folded before rules are applied")),
        Normalize::LayerNorm { .. } | Normalize::RmsNorm { .. } | Normalize::GroupNorm { .. } => {
            let norm = Statistics::of(b, site, op)?;
            let u = norm.frozen(b, cotangent)?;
            // The deviation moves with x: − x̂·mean(u·x̂), where u already holds 1/σ.
            let product = b.mul(u, norm.standardised, "t")?;
            let mean = b.spread(ReduceKind::Mean, product, &[norm.axis()], "mean")?;
            let turn = b.mul(norm.standardised, mean, "t")?;
            let moved = if norm.centred { centre(b, u, norm.axis())? } else { u };
            let difference = b.sub(moved, turn, "t")?;
            norm.back(b, difference)
        }
    }
}

/// `x − mean(x)` along one axis.
pub(crate) fn centre(b: &mut RelevanceBuilder, x: Value, axis: usize) -> Built<Value> {
    let mean = b.spread(ReduceKind::Mean, x, &[axis], "mean")?;
    b.sub(x, mean, "u")
}

/// A normalisation's statistics. Tensors have the shape `[…, elements]`, where one row is normalised together.
pub(crate) struct Statistics {
    rows: Vec<Dim>,
    shape: Vec<Dim>,
    scale: Option<Value>,
    /// `1/σ`, copied to rows.
    reciprocal: Value,
    /// `(x − mean)/σ`, or `x/σ` for RMS norm.
    pub standardised: Value,
    /// Whether the mean is taken off.
    pub centred: bool,
}

impl Statistics {
    /// The statistics of the site's input, computed from its promise.
    pub fn of(b: &mut RelevanceBuilder, site: &Site, op: &Normalize) -> Built<Statistics> {
        let shape = b.ty(site.operands[0]).shape;
        let (rows, eps, centred) = match op {
            Normalize::LayerNorm { axis, eps } => (rows_from(&shape, *axis)?, eps.0, true),
            Normalize::RmsNorm { axis, eps } => (rows_from(&shape, *axis)?, eps.0, false),
            Normalize::GroupNorm { groups, eps } => {
                let members = product(&shape[1..])?.floor_div(groups)?;
                (vec![shape[0].clone(), groups.clone(), members], eps.0, true)
            }
            other => return Err(Diagnostic::new(format!("`{}` has no deviation", other.mnemonic()))),
        };
        let axis = rows.len() - 1;
        let x = b.activation(site.operands[0])?;
        let x = b.reshape(x, &rows, "x")?;
        let deviation = if centred { centre(b, x, axis)? } else { x };
        let square = b.mul(deviation, deviation, "square")?;
        let variance = b.reduce(ReduceKind::Mean, square, &[axis], "variance")?;
        let variance = b.unary(Unary::with(Function::Shift, eps), variance, "variance")?;
        let sigma = b.unary(Unary::plain(Function::Sqrt), variance, "sigma")?;
        let reciprocal = b.unary(Unary::plain(Function::Reciprocal), sigma, "r")?;
        let reciprocal = b.broadcast(reciprocal, &rows, "r")?;
        let standardised = b.mul(deviation, reciprocal, "standardised")?;
        let scale = match site.operands.get(1) {
            Some(&scale) => Some(parameter(b, op, scale, &shape)?),
            None => None,
        };
        Ok(Statistics { rows, shape, scale, reciprocal, standardised, centred })
    }

    /// The axis of the rows' elements.
    pub fn axis(&self) -> usize {
        self.rows.len() - 1
    }

    /// `cotangent·w·r` in rows: the VJP with mean and deviation held.
    pub fn frozen(&self, b: &mut RelevanceBuilder, cotangent: Value) -> Built<Value> {
        let scaled = match self.scale {
            Some(scale) => b.mul(cotangent, scale, "u")?,
            None => cotangent,
        };
        let rows = b.reshape(scaled, &self.rows, "u")?;
        b.mul(rows, self.reciprocal, "u")
    }

    /// From rows back to the input's shape.
    pub fn back(&self, b: &mut RelevanceBuilder, rows: Value) -> Built<Value> {
        b.reshape(rows, &self.shape, "t")
    }
}

/// A scale or bias copied to the input's shape.
pub(crate) fn parameter(b: &mut RelevanceBuilder, op: &Normalize, value: Value, shape: &[Dim]) -> Built<Value> {
    let value = b.activation(value)?;
    match op {
        Normalize::GroupNorm { .. } | Normalize::BatchNorm { .. } => b.per_channel(value, shape, "w"),
        _ => b.broadcast(value, shape, "w"),
    }
}

fn rows_from(shape: &[Dim], axis: usize) -> Built<Vec<Dim>> {
    let mut rows = shape[..axis].to_vec();
    rows.push(product(&shape[axis..])?);
    Ok(rows)
}
