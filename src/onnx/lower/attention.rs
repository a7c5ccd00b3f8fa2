//! Attention, as the operations that it stands for.

use lrpc_ir::ops::{Binary, Compare, Dot, Elementwise, Function, Linear, Movement, Normalize, Source};
use lrpc_ir::types::{DType, Float, TensorType};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid, unsupported};
use super::site::Site;
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] = &[OpDef::new("Attention", 23, attention)];

/// Queries, keys or values as `[batch, heads, sequence, size]`; three axes hold all heads in the last one.
pub(super) fn heads(site: &mut Site, x: Value, count: &'static str) -> Lowered<Value> {
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
pub(super) fn repeat_heads(site: &mut Site, x: Value, wanted: &Dim) -> Lowered<Value> {
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

/// `[batch, heads, sequence, size]` with all heads in the last of three axes.
pub(super) fn join_heads(site: &mut Site, x: Value) -> Lowered<Value> {
    let moved = site.transpose(x, vec![0, 2, 1, 3])?;
    let shape = site.ty(moved).shape;
    let [batch, sequence, heads, size] = shape.as_slice() else { return invalid("heads have four axes") };
    site.reshape(moved, vec![batch.clone(), sequence.clone(), heads.mul(size)?])
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
    let [_, count, _, _] = site.ty(queries).shape.try_into().unwrap_or([const { Dim::Known(0) }; 4]);
    let (keys, values) = (repeat_heads(site, keys, &count)?, repeat_heads(site, values, &count)?);
    let weights = weights(site, queries, keys)?;
    let product = Dot { batch: vec![(0, 0), (1, 1)], contract: vec![(3, 2)] };
    let result = site.emit(Op::Linear(Linear::Dot(product)), &[weights, values])?;
    let result = if joined { join_heads(site, result)? } else { result };
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
    // A row in which nothing is allowed attends to nothing; a causal mask alone has no such row.
    let windows = [site.int_or("left_window_size", -1)?, site.int_or("right_window_size", -1)?];
    let safe = site.has_input(3) || site.has_input(6) || windows.iter().any(|size| *size >= 0);
    let weights = site.emit(Op::Normalize(Normalize::Softmax { axis: 3, safe }), &[masked])?;
    let stages = [scores, capped, masked, weights];
    if let Some(asked) = usize::try_from(stage).ok().and_then(|stage| stages.get(stage)) {
        site.output(3, *asked)?;
    }
    Ok(weights)
}

/// The scores with −∞ where no attention is allowed.
fn mask(site: &mut Site, mut scores: Value) -> Lowered<Value> {
    for allowed in allowed(site, scores)? {
        scores = only(site, allowed, scores)?;
    }
    let Some(mask) = site.optional_input(3)? else { return Ok(scores) };
    let mask = with_unseen_keys(site, mask, scores)?;
    if site.ty(mask).dtype == DType::Bool { only(site, mask, scores) } else { site.binary(Binary::Add, scores, mask) }
}

fn only(site: &mut Site, allowed: Value, scores: Value) -> Lowered<Value> {
    let never = TensorType::new(site.ty(scores).dtype, Vec::new());
    let never = site.filled(never, f64::NEG_INFINITY)?;
    site.elementwise(Elementwise::Where, &[allowed, scores, never])
}

/// Keys behind the end of a mask are not attended to.
fn with_unseen_keys(site: &mut Site, mask: Value, scores: Value) -> Lowered<Value> {
    let ty = site.ty(mask);
    let (Some(found), Some(wanted)) = (ty.shape.last().cloned(), site.ty(scores).shape.last().cloned()) else {
        return Ok(mask);
    };
    match (found.known(), wanted.known()) {
        (Some(found), Some(wanted)) if 1 < found && found < wanted => {}
        _ => return Ok(mask),
    }
    let value = Float(if ty.dtype == DType::Bool { 0.0 } else { f64::NEG_INFINITY });
    let mut shape = ty.shape;
    if let Some(last) = shape.last_mut() {
        *last = wanted;
    }
    let (before, steps) = (vec![Dim::Known(0); shape.len()], vec![1; shape.len()]);
    site.emit(Op::Movement(Movement::Pad { before, steps, value, shape }), &[mask])
}

/// Which keys each query may attend to, by its place: a query's own place among the keys is its number behind the past
/// or, with a cache of which each sample uses a part, before the end of that part.
fn allowed(site: &mut Site, scores: Value) -> Lowered<Vec<Value>> {
    let ty = site.ty(scores);
    let causal = site.flag("is_causal", false)?;
    let (left, right) = (site.int_or("left_window_size", -1)?, site.int_or("right_window_size", -1)?);
    let used = site.optional_input(6)?;
    if !causal && left < 0 && right < 0 && used.is_none() {
        return Ok(Vec::new());
    }
    let [batch, _, rows, columns] = ty.shape.as_slice() else { return invalid("scores have four axes") };
    let places = TensorType::new(DType::I64, vec![rows.clone(), columns.clone()]);
    let key = site.emit(Op::Source(Source::Iota { axis: 1, ty: places.clone() }), &[])?;
    let mut found = Vec::new();
    let used = match used {
        Some(used) => {
            let used = site.cast(used, DType::I64)?;
            let one = Dim::Known(1);
            let used = site.reshape(used, vec![batch.clone(), one.clone(), one.clone(), one])?;
            found.push(site.elementwise(Elementwise::Compare(Compare::Less), &[key, used])?);
            Some(used)
        }
        None => None,
    };
    if causal || left >= 0 || right >= 0 {
        let number = site.emit(Op::Source(Source::Iota { axis: 0, ty: places }), &[])?;
        let query = match used {
            Some(used) => {
                let count = site.size(rows)?;
                let first = site.binary(Binary::Sub, used, count)?;
                site.binary(Binary::Add, number, first)?
            }
            None if site.has_input(4) => {
                let past = site.input_type(4)?.shape.get(2).cloned().unwrap_or(Dim::Known(0));
                let past = site.size(&past)?;
                site.binary(Binary::Add, number, past)?
            }
            None => number,
        };
        found.extend(near(site, query, key, [(causal, 0), (right >= 0, right)])?);
        if left >= 0 {
            let left = site.size(&Dim::Known(left))?;
            let reach = site.binary(Binary::Add, key, left)?;
            found.push(site.elementwise(Elementwise::Compare(Compare::LessOrEqual), &[query, reach])?);
        }
    }
    Ok(found)
}

/// Keys at most so far behind the query, where that is asked for.
fn near(site: &mut Site, query: Value, key: Value, limits: [(bool, i64); 2]) -> Lowered<Vec<Value>> {
    let mut found = Vec::new();
    for (_, limit) in limits.into_iter().filter(|(asked, _)| *asked) {
        let reach = if limit == 0 {
            query
        } else {
            let limit = site.size(&Dim::Known(limit))?;
            site.binary(Binary::Add, query, limit)?
        };
        found.push(site.elementwise(Elementwise::Compare(Compare::LessOrEqual), &[key, reach])?);
    }
    Ok(found)
}
