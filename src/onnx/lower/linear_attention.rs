//! Recurrent layers that carry a state of matrices or of past values: linear attention and causal convolution.

use lrpc_ir::ops::{Binary, Dot, Function, Geometry, Linear, Movement};
use lrpc_ir::types::TensorType;
use lrpc_ir::{Dim, Op, Value};

use super::attention::{heads, join_heads, repeat_heads};
use super::finding::{Lowered, invalid, unsupported};
use super::site::Site;
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] =
    &[OpDef::new("LinearAttention", 27, linear_attention), OpDef::new("CausalConvWithState", 27, causal_convolution)];

/// The most steps that are written out.
const MAX_STEPS: i64 = 256;

/// Queries, keys, values, decays and rates as `[batch, heads, steps, …]`.
struct Sequence {
    queries: Value,
    keys: Value,
    values: Value,
    decay: Option<Value>,
    rate: Option<Value>,
}

/// `S ← exp(g)·S + k ⊗ u`, `y = scale·Sᵀq`, with `u = v` or, under a delta rule, `β·(v − Sᵀk)` (ONNX, `LinearAttention`).
fn linear_attention(site: &mut Site) -> Lowered {
    // How many steps are computed at once elsewhere.
    site.ignore("chunk_size");
    let (sequence, groups) = sequence(site)?;
    let [batch, _, steps, size] = axes(site, sequence.queries)?;
    let [_, heads, _, value_size] = axes(site, sequence.values)?;
    let Some(count) = steps.known().filter(|count| (0..=MAX_STEPS).contains(count)) else {
        return unsupported(format!("{steps} steps; up to {MAX_STEPS} are written out"));
    };
    let scale = match (site.float_or("scale", 0.0)?, size.known()) {
        (0.0, Some(size)) => 1.0 / (size as f64).sqrt(),
        (0.0, None) => return unsupported("heads of symbolic size without a scale"),
        (scale, _) => scale,
    };
    let mut state = match site.optional_input(3)? {
        Some(state) => state,
        None => {
            let shape = vec![batch, heads, size, value_size];
            let dtype = site.ty(sequence.queries).dtype;
            site.filled(TensorType::new(dtype, shape), 0.0)?
        }
    };
    let mut outputs = Vec::new();
    for place in 0..count {
        state = step(site, &sequence, place, state)?;
        let query = at(site, sequence.queries, place)?;
        let seen = repeat_heads(site, state, &groups)?;
        let product = Dot { batch: vec![(0, 0), (1, 1)], contract: vec![(3, 2)] };
        let output = site.emit(Op::Linear(Linear::Dot(product)), &[query, seen])?;
        outputs.push(site.unary(Function::Scale, [scale, 0.0], output)?);
    }
    let whole = match outputs.as_slice() {
        [] => return invalid("there are no steps"),
        [single] => *single,
        _ => site.emit(Op::Movement(Movement::Concat { axis: 2 }), &outputs)?,
    };
    let result = join_heads(site, whole)?;
    site.output(0, result)?;
    site.output(1, state)
}

/// The operands, and the number of query heads.
fn sequence(site: &mut Site) -> Lowered<(Sequence, Dim)> {
    let (queries, keys, values) = (site.input(0)?, site.input(1)?, site.input(2)?);
    let queries = heads(site, queries, "q_num_heads")?;
    let (keys, values) = (heads(site, keys, "kv_num_heads")?, heads(site, values, "kv_num_heads")?);
    let rule = site.word_or("update_rule", "gated_delta")?;
    let (gated, delta) = match rule.as_str() {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return invalid(format!("update_rule is {other:?}")),
    };
    let (decay, rate) = (site.optional_input(4)?, site.optional_input(5)?);
    if decay.is_some() != gated || rate.is_some() != delta {
        return invalid(format!("decay and beta do not fit the update rule {rule:?}"));
    }
    let decay = decay.map(|decay| heads(site, decay, "kv_num_heads")).transpose()?;
    // One rate for each head, or one for all.
    let rate = match rate {
        Some(rate) => {
            let apart = site.ty(rate).shape.into_iter().chain([Dim::Known(1)]).collect();
            let apart = site.reshape(rate, apart)?;
            Some(site.transpose(apart, vec![0, 2, 1, 3])?)
        }
        None => None,
    };
    let [_, count, _, _] = axes(site, queries)?;
    Ok((Sequence { queries, keys, values, decay, rate }, count))
}

fn axes(site: &Site, x: Value) -> Lowered<[Dim; 4]> {
    match <[Dim; 4]>::try_from(site.ty(x).shape) {
        Ok(axes) => Ok(axes),
        Err(_) => invalid(format!("{} has not four axes", site.ty(x))),
    }
}

/// One step of a sequence, as `[batch, heads, 1, …]`.
fn at(site: &mut Site, x: Value, place: i64) -> Lowered<Value> {
    let slice = Movement::slice_axis(&site.ty(x), 2, Dim::Known(place), Dim::Known(1));
    site.emit(Op::Movement(slice), &[x])
}

/// The state after a step.
fn step(site: &mut Site, sequence: &Sequence, place: i64, mut state: Value) -> Lowered<Value> {
    let (key, mut value) = (at(site, sequence.keys, place)?, at(site, sequence.values, place)?);
    if let Some(decay) = sequence.decay {
        let decay = at(site, decay, place)?;
        let factor = site.unary(Function::Exp, [0.0; 2], decay)?;
        let factor = site.transpose(factor, vec![0, 1, 3, 2])?;
        state = site.binary(Binary::Mul, state, factor)?;
    }
    if let Some(rate) = sequence.rate {
        let recall = Dot { batch: vec![(0, 0), (1, 1)], contract: vec![(3, 2)] };
        let recalled = site.emit(Op::Linear(Linear::Dot(recall)), &[key, state])?;
        let error = site.binary(Binary::Sub, value, recalled)?;
        let rate = at(site, rate, place)?;
        value = site.binary(Binary::Mul, rate, error)?;
    }
    let outer = Dot { batch: vec![(0, 0), (1, 1)], contract: vec![(2, 2)] };
    let written = site.emit(Op::Linear(Linear::Dot(outer)), &[key, value])?;
    site.binary(Binary::Add, state, written)
}

/// A convolution of every channel with its own kernel over the past and present values.
fn causal_convolution(site: &mut Site) -> Lowered {
    let (x, weight) = (site.input(0)?, site.input(1)?);
    let (ty, kernel) = (site.ty(x), site.ty(weight).shape);
    let ([batch, channels, length], [_, _, taps]) = (ty.shape.as_slice(), kernel.as_slice()) else {
        return invalid(format!("the input {ty} or the weight {} has not three axes", site.ty(weight)));
    };
    let Some(groups) = channels.known() else { return unsupported("a symbolic number of channels") };
    let past = taps.sub(&Dim::Known(1))?;
    let before = match site.optional_input(3)? {
        Some(state) => state,
        None => {
            let shape = vec![batch.clone(), channels.clone(), past.clone()];
            site.filled(ty.with_shape(shape), 0.0)?
        }
    };
    let whole = site.emit(Op::Movement(Movement::Concat { axis: 2 }), &[before, x])?;
    let mut operands = vec![whole, weight];
    operands.extend(site.optional_input(2)?);
    let geometry = Geometry {
        strides: vec![1],
        pads: vec![Dim::Known(0)],
        dilations: vec![1],
        groups,
        spatial: vec![length.clone()],
    };
    let convolved = site.emit(Op::Linear(Linear::Conv(geometry)), &operands)?;
    let result = match site.word_or("activation", "none")?.as_str() {
        "none" => convolved,
        "silu" | "swish" => site.unary(Function::Swish, [1.0, 0.0], convolved)?,
        other => return invalid(format!("activation is {other:?}")),
    };
    site.output(0, result)?;
    let last = Movement::slice_axis(&site.ty(whole), 2, length.clone(), past);
    let state = site.emit(Op::Movement(last), &[whole])?;
    site.output(1, state)
}
