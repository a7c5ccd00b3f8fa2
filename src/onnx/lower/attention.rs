//! Attention and rotary position embedding, as the operations that they stand for.

use lrpc_ir::ops::{Binary, Dot, Elementwise, Function, Linear, Movement, Normalize, Select};
use lrpc_ir::types::{DType, TensorType};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid, unsupported};
use super::select::on_side;
use super::site::{Site, axis};
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] =
    &[OpDef::new("Attention", 23, attention), OpDef::new("RotaryEmbedding", 23, rotary_embedding)];

/// Queries, keys or values as `[batch, heads, sequence, size]`; three axes hold all heads in the last one.
fn heads(site: &mut Site, x: Value, count: &'static str) -> Lowered<Value> {
    let shape = site.ty(x).shape;
    match shape.as_slice() {
        [_, _, _, _] => {
            site.ignore(count);
            Ok(x)
        }
        [batch, sequence, all] => {
            let Some(heads) = site.int(count)?.filter(|heads| *heads > 0).map(Dim::Known) else {
                return invalid(format!("{count} is missing"));
            };
            let parts = vec![batch.clone(), sequence.clone(), heads.clone(), all.floor_div(&heads)?];
            let parts = site.reshape(x, parts)?;
            site.transpose(parts, vec![0, 2, 1, 3])
        }
        _ => invalid(format!("{} has neither three nor four axes", site.ty(x))),
    }
}

/// The past before the present along the sequence, which is also an output.
fn with_past(site: &mut Site, x: Value, input: usize, output: usize) -> Lowered<Value> {
    let whole = match site.optional_input(input)? {
        Some(past) => site.emit(Op::Movement(Movement::Concat { axis: 2 }), &[past, x])?,
        None => x,
    };
    site.output(output, whole)?;
    Ok(whole)
}

/// Every head of keys or values as often as there are groups of query heads.
fn repeat_heads(site: &mut Site, x: Value, wanted: &Dim) -> Lowered<Value> {
    let shape = site.ty(x).shape;
    let [batch, heads, sequence, size] = shape.as_slice() else { return invalid("heads have four axes") };
    if heads == wanted {
        return Ok(x);
    }
    let copies = wanted.floor_div(heads)?;
    if copies.mul(heads)? != *wanted {
        return invalid(format!("{wanted} query heads do not share {heads} heads of keys and values"));
    }
    let of = |copies: Dim| vec![batch.clone(), heads.clone(), copies, sequence.clone(), size.clone()];
    let apart = site.reshape(x, of(Dim::Known(1)))?;
    let copied = site.broadcast(apart, &of(copies))?;
    site.reshape(copied, vec![batch.clone(), wanted.clone(), sequence.clone(), size.clone()])
}

/// `softmax(cap(scale·Q·Kᵀ) + mask)·V` with `cap(x) = c·tanh(x/c)` (ONNX, `Attention`).
fn attention(site: &mut Site) -> Lowered {
    let queries = site.input(0)?;
    let joined = site.ty(queries).rank() == 3;
    let (keys, values) = (site.input(1)?, site.input(2)?);
    let queries = heads(site, queries, "q_num_heads")?;
    let keys = heads(site, keys, "kv_num_heads")?;
    let values = heads(site, values, "kv_num_heads")?;
    let keys = with_past(site, keys, 4, 1)?;
    let values = with_past(site, values, 5, 2)?;
    if site.has_input(6) {
        return unsupported("nonpad_kv_seqlen, a number of keys per sample");
    }
    let [_, count, _, _] = site.ty(queries).shape.try_into().unwrap_or([const { Dim::Known(0) }; 4]);
    let (keys, values) = (repeat_heads(site, keys, &count)?, repeat_heads(site, values, &count)?);
    let weights = weights(site, queries, keys)?;
    let product = Dot { batch: vec![(0, 0), (1, 1)], contract: vec![(3, 2)] };
    let mut result = site.emit(Op::Linear(Linear::Dot(product)), &[weights, values])?;
    if joined {
        result = site.transpose(result, vec![0, 2, 1, 3])?;
        let shape = site.ty(result).shape;
        let [batch, sequence, heads, size] = shape.as_slice() else { return invalid("heads have four axes") };
        result = site.reshape(result, vec![batch.clone(), sequence.clone(), heads.mul(size)?])?;
    }
    site.output(0, result)
}

/// The attention weights, and the stage of them that the fourth output asks for.
fn weights(site: &mut Site, queries: Value, keys: Value) -> Lowered<Value> {
    // The precision of the softmax.
    site.ignore("softmax_precision");
    let stage = site.int_or("qk_matmul_output_mode", 0)?;
    let size = site.ty(queries).shape.last().and_then(Dim::known);
    let scale = match (site.float("scale")?, size) {
        (Some(scale), _) => scale,
        (None, Some(size)) => 1.0 / (size as f64).sqrt(),
        (None, None) => return unsupported("heads of symbolic size without a scale"),
    };
    let product = Dot { batch: vec![(0, 0), (1, 1)], contract: vec![(3, 3)] };
    let scores = site.emit(Op::Linear(Linear::Dot(product)), &[queries, keys])?;
    let scores = site.unary(Function::Scale, [scale, 0.0], scores)?;
    let cap = site.float_or("softcap", 0.0)?;
    let capped = if cap == 0.0 {
        scores
    } else {
        let small = site.unary(Function::Scale, [1.0 / cap, 0.0], scores)?;
        let bounded = site.unary(Function::Tanh, [0.0; 2], small)?;
        site.unary(Function::Scale, [cap, 0.0], bounded)?
    };
    let masked = mask(site, capped)?;
    let weights = site.emit(Op::Normalize(Normalize::Softmax { axis: 3 }), &[masked])?;
    let stages = [scores, capped, masked, weights];
    if let Some(asked) = usize::try_from(stage).ok().and_then(|stage| stages.get(stage)) {
        site.output(3, *asked)?;
    }
    Ok(weights)
}

/// The scores with −∞ where no attention is allowed.
fn mask(site: &mut Site, mut scores: Value) -> Lowered<Value> {
    let ty = site.ty(scores);
    let no_score = TensorType::new(ty.dtype, Vec::new());
    if site.flag("is_causal", false)? {
        let [_, _, rows, columns] = ty.shape.as_slice() else { return invalid("scores have four axes") };
        let past = match site.has_input(4) {
            true => site.input_type(4)?.shape.get(2).cloned().unwrap_or(Dim::Known(0)),
            false => Dim::Known(0),
        };
        let earlier = on_side(site, [rows, columns], &past, false)?;
        let never = site.filled(no_score.clone(), f64::NEG_INFINITY)?;
        scores = site.elementwise(Elementwise::Where, &[earlier, scores, never])?;
    }
    let Some(mask) = site.optional_input(3)? else { return Ok(scores) };
    if site.ty(mask).dtype == DType::Bool {
        let never = site.filled(no_score, f64::NEG_INFINITY)?;
        return site.elementwise(Elementwise::Where, &[mask, scores, never]);
    }
    site.binary(Binary::Add, scores, mask)
}

/// Pairs of elements, turned by the angle whose cosine and sine the caches hold for the position.
fn rotary_embedding(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let shape = site.ty(x).shape;
    let apart = heads(site, x, "num_heads")?;
    let size = site.ty(apart).shape.last().cloned().unwrap_or(Dim::Known(0));
    let turned = match site.int_or("rotary_embedding_dim", 0)? {
        0 => size.clone(),
        turned => Dim::Known(turned),
    };
    let (cos, sin) = (angles(site, 1)?, angles(site, 2)?);
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

/// A cache at the positions, as `[batch, 1, sequence, pairs]`.
fn angles(site: &mut Site, input: usize) -> Lowered<Value> {
    let cache = site.input(input)?;
    let rows = match site.optional_input(3)? {
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
