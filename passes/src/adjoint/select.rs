//! Routing of a reduction's cotangent to the winner.

use lrpc_ir::graph::Value;
use lrpc_ir::ops::{Movement, Op, Reduce, ReduceKind, Select};
use lrpc_ir::types::product;

use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::Site;

/// The cotangent of a maximum or minimum, sent to the first element that attains it.
pub(super) fn reduce_winner(b: &mut RelevanceBuilder, site: &Site, op: &Reduce, cotangent: Value) -> Built<Value> {
    let ty = b.ty(site.operands[0]);
    let kept: Vec<usize> = (0..ty.rank()).filter(|axis| !op.axes.contains(axis)).collect();
    let perm: Vec<usize> = kept.iter().chain(&op.axes).copied().collect();
    let permuted: Vec<_> = perm.iter().map(|&axis| ty.shape[axis].clone()).collect();
    let outer = permuted[..kept.len()].to_vec();
    let length = product(&permuted[kept.len()..])?;
    let dtype = b.ty(cotangent).dtype;
    let x = b.activation(site.operands[0])?;
    let x = b.op(Op::Movement(Movement::Transpose { perm: perm.clone() }), &[x], "x")?;
    let rows: Vec<_> = outer.iter().cloned().chain([length.clone()]).collect();
    let x = b.reshape(x, &rows, "x")?;
    let axis = kept.len();
    let winner = if op.kind == ReduceKind::Max { Select::ArgMax { axis } } else { Select::ArgMin { axis } };
    let winner = b.op(Op::Select(winner), &[x], "winner")?;
    let mask = b.op(Op::Select(Select::OneHot { depth: length, dtype }), &[winner], "mask")?;
    let column: Vec<_> = outer.into_iter().chain([1.into()]).collect();
    let cotangent = b.reshape(cotangent, &column, "t")?;
    let copies = b.broadcast(cotangent, &rows, "t")?;
    let routed = b.weigh(copies, mask, "t")?;
    let routed = b.reshape(routed, &permuted, "t")?;
    let mut inverse = vec![0; perm.len()];
    perm.iter().enumerate().for_each(|(at, &axis)| inverse[axis] = at);
    b.op(Op::Movement(Movement::Transpose { perm: inverse }), &[routed], "t")
}
