//! The linear map with all weights 1: which inputs an output sees, and how many.
//!
//! As all weights are equal, its products are sums over channels and windows.

use lrpc_ir::graph::Value;
use lrpc_ir::ops::{Dot, Geometry, Linear, Movement, Op, Pool, PoolKind, Reduce, ReduceKind, Window};
use lrpc_ir::types::product;
use lrpc_ir::{Diagnostic, Dim};

use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::LinearSite;

/// The linear map with every weight 1.
pub(super) enum UnitMap<'a> {
    Dot { dot: &'a Dot, linear: &'a LinearSite },
    Windows { window: Window, transposed: bool, groups: i64, linear: &'a LinearSite },
}

impl<'a> UnitMap<'a> {
    /// That of a site.
    pub(super) fn of(b: &RelevanceBuilder, linear: &'a LinearSite) -> Built<UnitMap<'a>> {
        let windows = |geometry: &Geometry, transposed| {
            let axes = geometry.spatial.len();
            let window = Window {
                size: b.graph().ty(linear.weight).shape[2..].to_vec(),
                strides: geometry.strides.clone(),
                pads: geometry.pads.clone(),
                pads_after: vec![Dim::Known(0); axes],
                dilations: geometry.dilations.clone(),
                spatial: geometry.spatial.clone(),
            };
            UnitMap::Windows { window, transposed, groups: geometry.groups, linear }
        };
        Ok(match linear.op() {
            Linear::Dot(dot) => UnitMap::Dot { dot, linear },
            Linear::Conv(geometry) => windows(geometry, false),
            Linear::ConvTranspose(geometry) => windows(geometry, true),
        })
    }

    /// Whether there may be outputs that see no input: windows over padding alone.
    pub(super) fn may_see_nothing(&self) -> bool {
        matches!(self, UnitMap::Windows { .. })
    }

    /// How many inputs each output sees: the taps of its window that lie inside the input, times the channels of its group.
    pub(super) fn count(&self, b: &mut RelevanceBuilder) -> Built<Value> {
        match self {
            UnitMap::Dot { dot, linear } => {
                let weight = b.ty(linear.weight);
                let side = |pair: &(usize, usize)| if linear.input_is_left() { pair.1 } else { pair.0 };
                let lengths: Vec<Dim> = dot.contract.iter().map(|pair| weight.shape[side(pair)].clone()).collect();
                let Dim::Known(count) = product(&lengths)? else {
                    return Err(Diagnostic::new(
                        "counting the inputs of an output needs a contraction of known length",
                    ));
                };
                let y = b.ty(linear.output);
                b.filled(count as f64, y.dtype, &y.shape)
            }
            UnitMap::Windows { window, transposed, groups, linear } => {
                let (x, y) = (b.ty(linear.input), b.ty(linear.output));
                let mut ones = vec![Dim::Known(1), Dim::Known(1)];
                ones.extend_from_slice(&x.shape[2..]);
                let ones = b.filled(1.0, x.dtype, &ones)?;
                let inside = windows(b, window, *transposed, &y.shape[2..], ones, "D")?;
                let Some(channels) = x.shape[1].known() else {
                    return Err(Diagnostic::new("counting the inputs of an output needs a known number of channels"));
                };
                let count = b.scale(inside, (channels / (*groups).max(1)) as f64, "D")?;
                b.broadcast(count, &y.shape, "D")
            }
        }
    }

    /// `VJP_1(s)`.
    pub(super) fn transpose(&self, b: &mut RelevanceBuilder, s: Value) -> Built<Value> {
        match self {
            UnitMap::Dot { dot, linear } => dot_transpose(b, dot, linear, s),
            UnitMap::Windows { window, transposed, groups, linear } => {
                let (x, y) = (b.ty(linear.input), b.ty(linear.output));
                let groups = Dim::Known(*groups);
                let per_group = y.shape[1].floor_div(&groups)?;
                let mut grouped = vec![y.shape[0].clone(), groups.clone(), per_group];
                grouped.extend_from_slice(&y.shape[2..]);
                let s = b.reshape(s, &grouped, "s")?;
                let sum = Reduce { kind: ReduceKind::Sum, axes: vec![2], keep: false };
                let sum = b.op(Op::Reduce(sum), &[s], "sum")?;
                let back = windows(b, window, !*transposed, &x.shape[2..], sum, "t")?;
                let per_group = x.shape[1].floor_div(&groups)?;
                let mut column = vec![x.shape[0].clone(), groups.clone(), Dim::Known(1)];
                column.extend_from_slice(&x.shape[2..]);
                let column = b.reshape(back, &column, "t")?;
                let mut copies = vec![x.shape[0].clone(), groups, per_group];
                copies.extend_from_slice(&x.shape[2..]);
                let copies = b.broadcast(column, &copies, "t")?;
                b.reshape(copies, &x.shape, "part")
            }
        }
    }
}

/// Sums over windows, or their transpose, with result sizes `spatial`.
fn windows(
    b: &mut RelevanceBuilder,
    window: &Window,
    transposed: bool,
    spatial: &[Dim],
    x: Value,
    hint: &str,
) -> Built<Value> {
    let window = Window { spatial: spatial.to_vec(), ..window.clone() };
    let op =
        if transposed { Pool::WindowTranspose(PoolKind::Sum, window) } else { Pool::Window(PoolKind::Sum, window) };
    b.op(Op::Pool(op), &[x], hint)
}

/// The transpose of a contraction with ones: a sum over the weight's free axes, copied along the contracted ones.
fn dot_transpose(b: &mut RelevanceBuilder, dot: &Dot, linear: &LinearSite, s: Value) -> Built<Value> {
    let (x, weight) = (b.ty(linear.input), b.ty(linear.weight));
    let (left, right) = if linear.input_is_left() { (&x, &weight) } else { (&weight, &x) };
    let batches = dot.batch.len();
    let (left_free, right_free) = (dot.left_free(left.rank()), dot.right_free(right.rank()));
    let left_axes: Vec<usize> = (batches..batches + left_free.len()).collect();
    let right_axes: Vec<usize> = (batches + left_free.len()..batches + left_free.len() + right_free.len()).collect();
    let (summed, free) = if linear.input_is_left() { (right_axes, left_free) } else { (left_axes, right_free) };
    let sum = b.op(Op::Reduce(Reduce { kind: ReduceKind::Sum, axes: summed, keep: false }), &[s], "sum")?;
    // What is left are the input's batch and free axes in this order; the contracted ones are missing.
    let side = |pair: &(usize, usize)| if linear.input_is_left() { pair.0 } else { pair.1 };
    let present: Vec<usize> = dot.batch.iter().map(side).chain(free).collect();
    let mut perm: Vec<usize> = (0..present.len()).collect();
    perm.sort_by_key(|&at| present[at]);
    let ordered = b.op(Op::Movement(Movement::Transpose { perm }), &[sum], "t")?;
    let mut column = x.shape.clone();
    dot.contract.iter().for_each(|pair| column[side(pair)] = Dim::Known(1));
    let column = b.reshape(ordered, &column, "t")?;
    b.broadcast(column, &x.shape, "part")
}
