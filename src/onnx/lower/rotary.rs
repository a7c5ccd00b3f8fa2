//! Rotary position embedding, as the products that it stands for.

use lrpc_ir::ops::{Binary, Movement, Select, Source};
use lrpc_ir::types::{DType, TensorType};
use lrpc_ir::{Dim, Op, Value};

use super::attention::heads;
use super::finding::{Lowered, invalid};
use super::site::{Site, axis};
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] = &[OpDef::new("RotaryEmbedding", 23, rotary_embedding)];

fn rotary_embedding(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let positions = site.optional_input(3)?;
    embed(site, x, [1, 2], positions)
}

/// Pairs of elements, turned by the angle whose cosine and sine the caches hold for the position. `caches` are their
/// inputs.
pub(super) fn embed(site: &mut Site, x: Value, caches: [usize; 2], positions: Option<Value>) -> Lowered {
    let shape = site.ty(x).shape;
    let apart = heads(site, x, "num_heads")?;
    let size = site.ty(apart).shape.last().cloned().unwrap_or(Dim::Known(0));
    let turned = match site.int_or("rotary_embedding_dim", 0)? {
        0 => size.clone(),
        turned => Dim::Known(turned),
    };
    let (cos, sin) = (angles(site, caches[0], positions)?, angles(site, caches[1], positions)?);
    let interleaved = site.flag("interleaved", false)?;
    let moving = part(site, apart, 3, Dim::Known(0), &turned)?;
    let moved = rotate(site, moving, [cos, sin], interleaved)?;
    let result = if turned == size {
        moved
    } else {
        let rest = size.sub(&turned)?;
        let rest = part(site, apart, 3, turned, &rest)?;
        site.emit(Op::Movement(Movement::Concat { axis: 3 }), &[moved, rest])?
    };
    let result = if shape.len() == 3 { site.transpose(result, vec![0, 2, 1, 3])? } else { result };
    let result = site.reshape(result, shape)?;
    site.output(0, result)
}

/// The positions of every place of `x`, from an input that holds them, or that of the first place alone.
pub(super) fn positions_of(site: &mut Site, x: Value, input: usize) -> Lowered<Value> {
    let positions = site.input(input)?;
    let shape = site.ty(x).shape;
    let (Some(batch), Some(length)) = (shape.first(), shape.get(shape.len().saturating_sub(2))) else {
        return invalid("the input has neither three nor four axes");
    };
    if site.ty(positions).rank() == 2 {
        return Ok(positions);
    }
    let ty = TensorType::new(DType::I64, vec![batch.clone(), length.clone()]);
    let place = site.emit(Op::Source(Source::Iota { axis: 1, ty }), &[])?;
    site.binary(Binary::Add, place, positions)
}

/// A cache at the positions, as `[batch, 1, sequence, pairs]`.
fn angles(site: &mut Site, input: usize, positions: Option<Value>) -> Lowered<Value> {
    let cache = site.input(input)?;
    let rows = match positions {
        Some(positions) => site.emit(Op::Select(Select::Gather { axis: 0, batch: 0 }), &[cache, positions])?,
        None => cache,
    };
    let shape = site.ty(rows).shape;
    let [batch, sequence, pairs] = shape.as_slice() else {
        return invalid(format!("the cache at the positions is {}, expected three axes", site.ty(rows)));
    };
    site.reshape(rows, vec![batch.clone(), Dim::Known(1), sequence.clone(), pairs.clone()])
}

fn part(site: &mut Site, x: Value, along: usize, start: Dim, length: &Dim) -> Lowered<Value> {
    let ty = site.ty(x);
    if ty.shape.get(along) == Some(length) {
        return Ok(x);
    }
    site.emit(Op::Movement(Movement::slice_axis(&ty, along, start, length.clone())), &[x])
}

/// `(a·cos − b·sin, a·sin + b·cos)` for the pairs (a, b), which are neighbours or lie half the size apart.
fn rotate(site: &mut Site, x: Value, [cos, sin]: [Value; 2], interleaved: bool) -> Lowered<Value> {
    let shape = site.ty(x).shape;
    let last = axis(-1, shape.len())?;
    let size = shape.get(last).cloned().unwrap_or(Dim::Known(0));
    let half = size.floor_div(&Dim::Known(2))?;
    let outer = shape.iter().take(last).cloned();
    let (pairs, along) = match interleaved {
        true => (outer.chain([half, Dim::Known(2)]).collect::<Vec<Dim>>(), 4),
        false => (outer.chain([Dim::Known(2), half]).collect(), 3),
    };
    let apart = site.reshape(x, pairs.clone())?;
    let mut one = pairs;
    one.remove(along);
    let mut side = |place| {
        let half = part(site, apart, along, Dim::Known(place), &Dim::Known(1))?;
        site.reshape(half, one.clone())
    };
    let (a, b) = (side(0)?, side(1)?);
    let mut product = |x, angle| site.binary(Binary::Mul, x, angle);
    let (a_cos, b_sin, a_sin, b_cos) = (product(a, cos)?, product(b, sin)?, product(a, sin)?, product(b, cos)?);
    let (first, second) = (site.binary(Binary::Sub, a_cos, b_sin)?, site.binary(Binary::Add, a_sin, b_cos)?);
    let mut kept = site.ty(first).shape;
    kept.insert(along, Dim::Known(1));
    let (first, second) = (site.reshape(first, kept.clone())?, site.reshape(second, kept)?);
    let joined = site.emit(Op::Movement(Movement::Concat { axis: along }), &[first, second])?;
    site.reshape(joined, shape)
}
