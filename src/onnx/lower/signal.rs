//! Signals: Fourier transforms, window functions, mel filters.
//!
//! A Fourier transform is a linear map whose weights are cosines and sines; they are made in the graph by counting, so
//! that the number of samples may be symbolic. Sums are taken in double precision: the terms of a bin that is nearly 0
//! cancel each other.

use lrpc_ir::ops::source::LiteralValues;
use lrpc_ir::ops::{Binary, Compare, Dot, Elementwise, Function, Geometry, Linear, Literal, Movement, Source};
use lrpc_ir::types::{DType, Float, TensorType};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid, unsupported};
use super::site::{Site, axis};
use super::table::OpDef;
use crate::onnx::tensor::element_type;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("DFT", 17, |site| {
        let along = site.int_or("axis", 1)?;
        dft(site, along)
    }),
    OpDef::new("DFT", 20, |site| {
        let along = match site.numbers(2)?.as_deref() {
            None => -2,
            Some([along]) => *along,
            Some(_) => return invalid("the axis is not one number"),
        };
        dft(site, along)
    }),
    OpDef::new("STFT", 17, stft),
    OpDef::new("HannWindow", 17, |site| window(site, hann)),
    OpDef::new("HammingWindow", 17, |site| window(site, hamming)),
    OpDef::new("BlackmanWindow", 17, |site| window(site, blackman)),
    OpDef::new("MelWeightMatrix", 17, mel),
];

// Fourier transforms.

/// A transform between `samples` numbers in and `bins` numbers out, of the period `length`.
struct Transform {
    bins: Dim,
    samples: Dim,
    length: Dim,
    /// Real numbers in: one part rather than two.
    real: bool,
    inverse: bool,
}

impl Transform {
    /// Cosines and sines of `2π·bin·sample/length`, each `[bins, samples]`.
    fn waves(&self, site: &mut Site, dtype: DType) -> Lowered<[Value; 2]> {
        let shape = vec![self.bins.clone(), self.samples.clone()];
        let ty = TensorType::new(DType::I64, shape);
        let bin = site.emit(Op::Source(Source::Iota { axis: 0, ty: ty.clone() }), &[])?;
        let sample = site.emit(Op::Source(Source::Iota { axis: 1, ty }), &[])?;
        let product = site.binary(Binary::Mul, bin, sample)?;
        let length = site.size(&self.length)?;
        // Whole turns are taken off while the numbers are exact.
        let part = site.binary(Binary::Mod, product, length)?;
        let part = site.cast(part, dtype)?;
        let turn = site.unary(Function::Scale, [std::f64::consts::TAU, 0.0], part)?;
        let length = site.cast(length, dtype)?;
        let angle = site.binary(Binary::Div, turn, length)?;
        Ok([site.unary(Function::Cos, [0.0; 2], angle)?, site.unary(Function::Sin, [0.0; 2], angle)?])
    }

    /// The weights `[bins, 2, parts, samples]` from the parts of a sample to real and imaginary part of a bin:
    /// `e^(∓iφ) = cos φ ∓ i·sin φ`.
    fn weights(&self, site: &mut Site, dtype: DType) -> Lowered<Value> {
        let [cos, sin] = self.waves(site, dtype)?;
        let negated = site.unary(Function::Neg, [0.0; 2], sin)?;
        let (sin, negated) = if self.inverse { (negated, sin) } else { (sin, negated) };
        let rows = if self.real { vec![vec![cos], vec![negated]] } else { vec![vec![cos, sin], vec![negated, cos]] };
        let mut planes = Vec::new();
        for row in rows {
            planes.push(self.stack(site, &row)?);
        }
        site.emit(Op::Movement(Movement::Concat { axis: 1 }), &planes)
    }

    /// Tables `[bins, samples]` beside each other: `[bins, 1, tables, samples]`.
    fn stack(&self, site: &mut Site, tables: &[Value]) -> Lowered<Value> {
        let one = Dim::Known(1);
        let shape = vec![self.bins.clone(), one.clone(), one, self.samples.clone()];
        let tables = tables.iter().map(|table| site.reshape(*table, shape.clone())).collect::<Lowered<Vec<Value>>>()?;
        match tables.as_slice() {
            [single] => Ok(*single),
            _ => site.emit(Op::Movement(Movement::Concat { axis: 2 }), &tables),
        }
    }

    /// The weights `[bins, 1, 2, samples]` from the first half of a spectrum to the real signal that it belongs to: what is
    /// left out mirrors what is there, so that all bins but the first and, for an even length, the last count twice.
    fn weights_of_half(&self, site: &mut Site, dtype: DType) -> Lowered<Value> {
        let [cos, sin] = self.waves(site, dtype)?;
        let ty = TensorType::new(DType::I64, vec![self.samples.clone()]);
        let place = site.emit(Op::Source(Source::Iota { axis: 0, ty }), &[])?;
        let (zero, length) = (site.size(&Dim::Known(0))?, site.size(&self.length)?);
        let twice = site.unary(Function::Scale, [2.0, 0.0], place)?;
        let first = site.elementwise(Elementwise::Compare(Compare::Equal), &[place, zero])?;
        let last = site.elementwise(Elementwise::Compare(Compare::Equal), &[twice, length])?;
        let single = site.binary(Binary::Or, first, last)?;
        let single = site.cast(single, dtype)?;
        let single = site.unary(Function::Neg, [0.0; 2], single)?;
        let count = site.unary(Function::Shift, [2.0, 0.0], single)?;
        let negated = site.unary(Function::Neg, [0.0; 2], sin)?;
        let (cos, sin) = (site.binary(Binary::Mul, cos, count)?, site.binary(Binary::Mul, negated, count)?);
        self.stack(site, &[cos, sin])
    }
}

/// Whether the last axis of a signal holds real numbers rather than real and imaginary parts.
fn is_real(ty: &TensorType) -> Lowered<bool> {
    match ty.shape.last() {
        Some(Dim::Known(1)) => Ok(true),
        Some(Dim::Known(2)) => Ok(false),
        _ => unsupported(format!("the last axis of {ty} should hold one part or two of each number")),
    }
}

fn half_of(length: &Dim) -> Lowered<Dim> {
    Ok(length.floor_div(&Dim::Known(2))?.add(&Dim::Known(1))?)
}

/// The optional input `index`, which is one integer.
fn one_size(site: &mut Site, index: usize) -> Lowered<Option<Dim>> {
    match site.integer(index)? {
        Some(number) => site.measure(&number).map(Some),
        None => Ok(None),
    }
}

/// The transform along one axis of `[…, n, …, parts]`.
fn dft(site: &mut Site, along: i64) -> Lowered {
    let x = site.input(0)?;
    let dtype = site.ty(x).dtype;
    let x = site.cast(x, DType::F64)?;
    let ty = site.ty(x);
    let rank = ty.rank();
    let along = axis(along, rank)?;
    let last = rank.saturating_sub(1);
    if along == last {
        return invalid("the transformed axis is that of real and imaginary part");
    }
    let (inverse, half) = (site.flag("inverse", false)?, site.flag("onesided", false)?);
    let real = is_real(&ty)?;
    let held = ty.shape.get(along).cloned().unwrap_or(Dim::Known(0));
    let length = match one_size(site, 1)? {
        Some(length) => length,
        None if inverse && half => held.sub(&Dim::Known(1))?.mul(&Dim::Known(2))?,
        None => held,
    };
    let samples = if inverse && half { half_of(&length)? } else { length.clone() };
    let bins = if half && !inverse { half_of(&length)? } else { length.clone() };
    if inverse && half && real {
        return unsupported("half a spectrum without imaginary parts");
    }
    let transform = Transform { bins, samples, length, real, inverse };
    // What is too long is cut off, what is missing is 0.
    let mut shape = ty.shape.clone();
    shape.iter_mut().skip(along).take(1).for_each(|size| *size = transform.samples.clone());
    let fitted = if shape == ty.shape {
        x
    } else {
        let (before, steps) = (vec![Dim::Known(0); rank], vec![1; rank]);
        site.emit(Op::Movement(Movement::Pad { before, steps, value: Float(0.0), shape }), &[x])?
    };
    let weights =
        if inverse && half { transform.weights_of_half(site, ty.dtype)? } else { transform.weights(site, ty.dtype)? };
    let dot = Dot { batch: Vec::new(), contract: vec![(along, 3), (last, 2)] };
    let mut result = site.emit(Op::Linear(Linear::Dot(dot)), &[fitted, weights])?;
    // The bins stand behind all other axes.
    let others = last.saturating_sub(1);
    let perm = (0..along).chain([others]).chain(along..others).chain([last]).collect();
    result = site.transpose(result, perm)?;
    if inverse {
        let length = site.size(&transform.length)?;
        let length = site.cast(length, ty.dtype)?;
        result = site.binary(Binary::Div, result, length)?;
    }
    let result = site.cast(result, dtype)?;
    site.output(0, result)
}

/// Transforms of windows of a signal `[N, samples, parts]`, as a convolution over the samples: `[N, frames, bins, 2]`.
fn stft(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let dtype = site.ty(x).dtype;
    let x = site.cast(x, DType::F64)?;
    let ty = site.ty(x);
    let (real, half) = (is_real(&ty)?, site.flag("onesided", true)?);
    let [batch, samples, parts] = ty.shape.as_slice() else {
        return invalid(format!("the signal {ty} should be [batch, samples, parts]"));
    };
    let stride = match site.numbers(1)?.as_deref() {
        Some([stride]) if *stride >= 1 => *stride,
        other => return invalid(format!("frame_step is {other:?}")),
    };
    let window = site.optional_input(2)?;
    let held = window.and_then(|window| site.ty(window).shape.first().cloned());
    let length = match (one_size(site, 3)?, held) {
        (Some(length), _) | (None, Some(length)) => length,
        (None, None) => samples.clone(),
    };
    let bins = if half { half_of(&length)? } else { length.clone() };
    let transform =
        Transform { bins: bins.clone(), samples: length.clone(), length: length.clone(), real, inverse: false };
    let mut weights = transform.weights(site, ty.dtype)?;
    if let Some(window) = window {
        let window = site.cast(window, DType::F64)?;
        weights = site.binary(Binary::Mul, weights, window)?;
    }
    let outputs = bins.mul(&Dim::Known(2))?;
    let weights = site.reshape(weights, vec![outputs, parts.clone(), length.clone()])?;
    let frames = samples.sub(&length)?.floor_div(&Dim::Known(stride))?.add(&Dim::Known(1))?;
    let geometry = Geometry {
        strides: vec![stride],
        pads: vec![Dim::Known(0)],
        dilations: vec![1],
        groups: 1,
        spatial: vec![frames.clone()],
    };
    let channels = site.transpose(x, vec![0, 2, 1])?;
    let found = site.emit(Op::Linear(Linear::Conv(geometry)), &[channels, weights])?;
    let found = site.reshape(found, vec![batch.clone(), bins, Dim::Known(2), frames])?;
    let result = site.transpose(found, vec![0, 3, 1, 2])?;
    let result = site.cast(result, dtype)?;
    site.output(0, result)
}

// Window functions.

/// A function of the angle `2π·n/N`.
fn window(site: &mut Site, function: fn(&mut Site, Value) -> Lowered<Value>) -> Lowered {
    let Some(size) = one_size(site, 0)? else { return invalid("the size is missing") };
    let wanted = output_type(site)?;
    let dtype = if wanted == DType::F64 { DType::F64 } else { DType::F32 };
    let period = if site.flag("periodic", true)? { size.clone() } else { size.sub(&Dim::Known(1))? };
    let place = site.emit(Op::Source(Source::Iota { axis: 0, ty: TensorType::new(dtype, vec![size]) }), &[])?;
    let turn = site.unary(Function::Scale, [std::f64::consts::TAU, 0.0], place)?;
    let period = site.size(&period)?;
    let period = site.cast(period, dtype)?;
    let angle = site.binary(Binary::Div, turn, period)?;
    let result = function(site, angle)?;
    let result = site.cast(result, wanted)?;
    site.output(0, result)
}

fn output_type(site: &mut Site) -> Lowered<DType> {
    let number = site.int_or("output_datatype", 1)?;
    match i32::try_from(number).ok().and_then(element_type) {
        Some(dtype) => Ok(dtype),
        None => unsupported(format!("output_datatype is {number}")),
    }
}

/// `sin²(φ/2)`.
fn hann(site: &mut Site, angle: Value) -> Lowered<Value> {
    let half = site.unary(Function::Scale, [0.5, 0.0], angle)?;
    let sine = site.unary(Function::Sin, [0.0; 2], half)?;
    site.binary(Binary::Mul, sine, sine)
}

/// `25/46 − 21/46·cos φ`.
fn hamming(site: &mut Site, angle: Value) -> Lowered<Value> {
    let cosine = site.unary(Function::Cos, [0.0; 2], angle)?;
    let scaled = site.unary(Function::Scale, [-21.0 / 46.0, 0.0], cosine)?;
    site.unary(Function::Shift, [25.0 / 46.0, 0.0], scaled)
}

/// `0.42 − ½·cos φ + 0.08·cos 2φ`.
fn blackman(site: &mut Site, angle: Value) -> Lowered<Value> {
    let first = site.unary(Function::Cos, [0.0; 2], angle)?;
    let first = site.unary(Function::Scale, [-0.5, 0.0], first)?;
    let double = site.unary(Function::Scale, [2.0, 0.0], angle)?;
    let second = site.unary(Function::Cos, [0.0; 2], double)?;
    let second = site.unary(Function::Scale, [0.08, 0.0], second)?;
    let sum = site.binary(Binary::Add, first, second)?;
    site.unary(Function::Shift, [0.42, 0.0], sum)
}

// Mel filters.

/// The most mel filters; a spectrogram has about a hundred.
const MAX_FILTERS: i64 = 1 << 12;

/// Triangles over the bins of a spectrum, `[bins, filters]`. Filter `i` rises from edge `i` to edge `i + 1`, where it is
/// 1, and falls to edge `i + 2`.
fn mel(site: &mut Site) -> Lowered {
    let integer = |site: &Site, index| match site.numbers(index)?.as_deref() {
        Some([number]) => Ok(*number),
        _ => invalid(format!("input {index} is not one number")),
    };
    let (filters, length, rate) = (integer(site, 0)?, integer(site, 1)?, integer(site, 2)?);
    let edge = |site: &Site, index| match site.constant(index)?.as_deref() {
        Some([edge]) => Ok(*edge),
        _ => invalid(format!("input {index} is not one number")),
    };
    let (low, high) = (edge(site, 3)?, edge(site, 4)?);
    if !(1..=MAX_FILTERS).contains(&filters) || length < 1 || rate < 1 {
        return invalid(format!("{filters} filters over {length} samples at the rate {rate}"));
    }
    let wanted = output_type(site)?;
    let dtype = if wanted == DType::F64 { DType::F64 } else { DType::F32 };
    let edges = mel_edges(filters, [length as f64, rate as f64], [low, high]);
    let bins = length.div_euclid(2).saturating_add(1);
    let ty = TensorType::new(dtype, vec![Dim::Known(bins), Dim::Known(filters)]);
    let place = site.emit(Op::Source(Source::Iota { axis: 0, ty }), &[])?;
    let edge = |site: &mut Site, skip: usize| {
        let values: Vec<Float> =
            edges.iter().skip(skip).take(edges.len().saturating_sub(2)).map(|e| Float(*e)).collect();
        numbers(site, dtype, &values)
    };
    let (left, centre, right) = (edge(site, 0)?, edge(site, 1)?, edge(site, 2)?);
    let rising = slope(site, [place, left], [centre, left])?;
    let falling = slope(site, [right, place], [right, centre])?;
    // Beyond its feet a slope is negative; the lower of both is the triangle.
    let lower = site.binary(Binary::Min, rising, falling)?;
    let triangle = site.unary(Function::Clip, [0.0, f64::INFINITY], lower)?;
    let peak = site.elementwise(Elementwise::Compare(Compare::Equal), &[place, centre])?;
    let one = site.filled(TensorType::new(dtype, Vec::new()), 1.0)?;
    let result = site.elementwise(Elementwise::Where, &[peak, one, triangle])?;
    let result = site.cast(result, wanted)?;
    site.output(0, result)
}

/// `(a − b)/max(c − d, 1)`: edges are whole, so that a slope of no width is met at its peak alone.
fn slope(site: &mut Site, [a, b]: [Value; 2], [c, d]: [Value; 2]) -> Lowered<Value> {
    let rise = site.binary(Binary::Sub, a, b)?;
    let width = site.binary(Binary::Sub, c, d)?;
    let width = site.unary(Function::Clip, [1.0, f64::INFINITY], width)?;
    site.binary(Binary::Div, rise, width)
}

/// Bins at equal distances on the mel scale `2595·log₁₀(1 + f/700)`.
fn mel_edges(filters: i64, [length, rate]: [f64; 2], [low, high]: [f64; 2]) -> Vec<f64> {
    let to_mel = |frequency: f64| 2595.0 * (frequency / 700.0).ln_1p() / std::f64::consts::LN_10;
    let count = filters.saturating_add(2);
    let step = (to_mel(high) - to_mel(low)) / count as f64;
    let edge = |at: i64| {
        let frequency = 700.0 * ((at as f64 * step + to_mel(low)) / 2595.0 * std::f64::consts::LN_10).exp_m1();
        ((length + 1.0) * frequency / rate).floor()
    };
    (0..count).map(edge).collect()
}

/// A vector of any length, in literals of the size that is written in a graph.
fn numbers(site: &mut Site, dtype: DType, values: &[Float]) -> Lowered<Value> {
    let mut parts = Vec::new();
    for part in values.chunks(Literal::MAX_ELEMENTS) {
        let ty = TensorType::new(dtype, vec![super::known::dim(part.len())]);
        parts.push(site.literal(Literal { ty, values: LiteralValues::Floats(part.to_vec()) })?);
    }
    match parts.as_slice() {
        [single] => Ok(*single),
        _ => site.emit(Op::Movement(Movement::Concat { axis: 0 }), &parts),
    }
}
