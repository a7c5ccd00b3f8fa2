//! Vector-Jacobian products of the primitives, by family: the transposes that rules send relevance through.

pub mod elementwise;
pub mod linear;
pub mod movement;
pub mod normalize;
pub mod pool;
mod product;
pub mod select;

use lrpc_ir::graph::Value;
use lrpc_ir::ops::scan::Scan;
use lrpc_ir::ops::{Binary, Elementwise, Op, Reduce, ReduceKind, Source};
use lrpc_ir::{Diagnostic, Dim};

use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::Site;

/// `VJP` of the site's operation with respect to operand `slot`, applied to `cotangent`.
///
/// # Errors
/// An operation without a derivative.
pub fn vjp(b: &mut RelevanceBuilder, site: &Site, slot: usize, cotangent: Value) -> Built<Value> {
    let name = site.op.mnemonic();
    match &site.op {
        Op::Elementwise(op) => elementwise::vjp(b, site, op, slot, cotangent),
        Op::Linear(op) => linear::vjp(b, site, op, slot, cotangent),
        Op::Reduce(op) => reduce(b, site, op, cotangent),
        Op::Movement(_) | Op::Select(_) if movement::has_adjoint(&site.op) => {
            movement::adjoint(b, site, slot, cotangent)
        }
        Op::Pool(op) => pool::adjoint(b, site, op, cotangent),
        Op::Normalize(op) => normalize::vjp(b, site, op, slot, cotangent),
        Op::Scan(op) => scan(b, op, cotangent),
        Op::Movement(_) | Op::Select(_) | Op::Source(_) | Op::Promise | Op::Control(_) => {
            Err(Diagnostic::new(format!("`{name}` has no derivative")))
        }
    }
}

/// Transpose of a sum or mean: copies, divided by their number for a mean; of a maximum: to the first winner.
fn reduce(b: &mut RelevanceBuilder, site: &Site, op: &Reduce, cotangent: Value) -> Built<Value> {
    match op.kind {
        ReduceKind::Sum => spread_back(b, site, op, cotangent),
        ReduceKind::Mean => {
            let shape = b.ty(site.operands[0]).shape;
            let count = op.axes.iter().try_fold(Dim::Known(1), |product, &axis| product.mul(&shape[axis]))?;
            let copies = spread_back(b, site, op, cotangent)?;
            divide_by(b, copies, &count)
        }
        ReduceKind::Max | ReduceKind::Min => select::reduce_winner(b, site, op, cotangent),
        ReduceKind::Product => product::reduce(b, site, op, cotangent),
    }
}

/// The cotangent of a reduction, copied along the reduced axes.
pub(crate) fn spread_back(b: &mut RelevanceBuilder, site: &Site, op: &Reduce, cotangent: Value) -> Built<Value> {
    let shape = b.ty(site.operands[0]).shape;
    let mut kept = shape.clone();
    for &axis in &op.axes {
        kept[axis] = Dim::Known(1);
    }
    let kept = b.reshape(cotangent, &kept, "t")?;
    b.broadcast(kept, &shape, "t")
}

/// `x / count` for a count that may be symbolic.
fn divide_by(b: &mut RelevanceBuilder, x: Value, count: &Dim) -> Built<Value> {
    if let Dim::Known(count) = count {
        return b.scale(x, 1.0 / (*count as f64), "t");
    }
    let ty = b.ty(x);
    let count = b.op(Op::Source(Source::Size(count.clone())), &[], "count")?;
    let count = b.op(Op::Elementwise(Elementwise::Cast(ty.dtype)), &[count], "count")?;
    let count = b.broadcast(count, &ty.shape, "count")?;
    b.binary(Binary::Div, x, count, "t")
}

/// Transpose of a cumulative sum: the cumulative sum in the other direction.
fn scan(b: &mut RelevanceBuilder, op: &Scan, cotangent: Value) -> Built<Value> {
    match *op {
        Scan::CumulativeSum { axis, exclusive, reverse } => {
            b.op(Op::Scan(Scan::CumulativeSum { axis, exclusive, reverse: !reverse }), &[cotangent], "t")
        }
        Scan::CumulativeProduct { .. } => Err(Diagnostic::new("`cumulative_product` has no derivative here")),
    }
}
