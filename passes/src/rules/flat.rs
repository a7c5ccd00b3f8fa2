//! Flat rule for linear maps.

use lrpc_ir::graph::Value;
use lrpc_ir::ops::{Dot, Geometry, Linear, Movement, Op, Pool, PoolKind, Reduce, ReduceKind, Window};
use lrpc_ir::types::product;
use lrpc_ir::{Diagnostic, Dim};

use super::{EPS, RuleDef};
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Flow, LinearSite, Site};

const DOC: &str = "
# Formula
Every weight and every input counts 1, without bias: R_x = VJP_1(R / S(n)), n the number of inputs inside an output's
window. As all weights are equal, the product is a sum over channels and windows.

# Conserves?
Up to the stabiliser's share. It puts relevance where x = 0.

# Use when
First layers, to spread relevance evenly over a receptive field.

# Parameters
`eps`: stabiliser of the denominator.

# Reference
Lapuschkin et al. 2019, supplement note 6; Kohlbrenner et al. 2020.

# Example graph
%D.y = pool %const.y {kind=sum, window=[3, 3]}; %s.y = div %R.y, %S.y; %sum.y = reduce_sum %s.y {axes=[1], keep=true};
%t.y = pool_transpose %sum.y {kind=sum, window=[3, 3]}; %R.x.y = broadcast %t.y
";

pub(super) const RULE: RuleDef = RuleDef { name: "Flat", doc: DOC, parameters: &[EPS], classes: &["linear"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let linear = site.linear(b)?;
    let map = UnitMap::of(b, &linear)?;
    let count = map.count(b)?;
    let relevance = site.relevance(b)?;
    let s = b.quotient(relevance, count, site.number("eps")?, "s")?;
    let result = map.transpose(b, s)?;
    site.flows(b, |_, _| Ok(Flow::Relevance(result)))
}

/// The linear map with every weight 1.
enum UnitMap<'a> {
    Dot { dot: &'a Dot, linear: &'a LinearSite },
    Windows { window: Window, transposed: bool, groups: i64, linear: &'a LinearSite },
}

impl<'a> UnitMap<'a> {
    fn of(b: &RelevanceBuilder, linear: &'a LinearSite) -> Built<UnitMap<'a>> {
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

    /// How many inputs each output sees.
    fn count(&self, b: &mut RelevanceBuilder) -> Built<Value> {
        match self {
            UnitMap::Dot { dot, linear } => {
                let weight = b.ty(linear.weight);
                let side = |pair: &(usize, usize)| if linear.input_is_left() { pair.1 } else { pair.0 };
                let lengths: Vec<Dim> = dot.contract.iter().map(|pair| weight.shape[side(pair)].clone()).collect();
                let Dim::Known(count) = product(&lengths)? else {
                    return Err(Diagnostic::new("the flat rule needs a contraction of known length"));
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
                    return Err(Diagnostic::new("the flat rule needs a known number of channels"));
                };
                let count = b.scale(inside, (channels / (*groups).max(1)) as f64, "D")?;
                b.broadcast(count, &y.shape, "D")
            }
        }
    }

    /// `VJP_1(s)`.
    fn transpose(&self, b: &mut RelevanceBuilder, s: Value) -> Built<Value> {
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

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn flat_conv() {
        check_rule(
            "flat_conv",
            "Flat",
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

    #[test]
    fn flat_dot() {
        check_rule(
            "flat_dot",
            "Flat",
            "",
            r#"
        input %x : f32[N, 3]
        weight @w : f32[3, 5]
        weight @b : f32[5]
        forward
          %y = dot %x, @w, @b {contract=1x0} : f32[N, 5] from "/fc"
        result "output/y" = %y
        "#,
        );
    }
}
