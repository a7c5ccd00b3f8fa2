//! Windows that are taken out of a tensor one after the other (Zeiler and Fergus 2014).

use std::collections::{HashSet, VecDeque};

use lrpc_ir::graph::{Graph, Value};
use lrpc_ir::ops::{Compare, Elementwise, Linear, Literal, Movement, Normalize, Op, ReduceKind, Source};
use lrpc_ir::types::product;
use lrpc_ir::{DType, Diagnostic, Dim, TensorType};

use super::maker::Maker;
use super::overflow;
use super::settings::Settings;
use crate::embedding::embeddings;
use crate::relevance::builder::{Built, RelevanceBuilder};

/// The length of a window where a convolution reads the tensor.
const CONVOLVED_WINDOW: i64 = 8;
/// How many operations are looked through for a convolution.
const MAX_SEEN: usize = 32;

/// The windows of one tensor.
#[derive(Debug)]
pub(super) struct Windows {
    axes: Vec<WindowAxis>,
    /// The axes that no window has, apart from the samples': each window takes all of them.
    whole: Vec<usize>,
    /// The first step that belongs to this tensor.
    first: Dim,
    /// 1 inside of the step's window, else 0, once it is made.
    mask: Option<Value>,
    /// By axis of the window: 1 over how many windows cover each place.
    shares: Vec<Value>,
}

/// One axis of a window.
#[derive(Debug)]
struct WindowAxis {
    axis: usize,
    length: Dim,
    window: i64,
    stride: i64,
    count: Dim,
}

impl Windows {
    /// The windows of `tensor`, whose first axes are `samples`; `first` is the first step that belongs to it.
    pub(super) fn plan(
        graph: &Graph,
        tensor: Value,
        samples: &[Dim],
        settings: &Settings,
        first: Dim,
    ) -> Built<Windows> {
        let ty = graph.ty(tensor);
        let convolved = convolved_axes(graph, tensor);
        let axes = match settings.axes(samples.len(), ty.rank())? {
            Some(axes) => axes,
            None => convolved.clone().unwrap_or_else(|| default_axes(graph, tensor)),
        };
        let default = if convolved.is_some() { CONVOLVED_WINDOW } else { 1 };
        let window = settings.counts("window", axes.len())?.unwrap_or_else(|| vec![default; axes.len()]);
        let stride = settings.counts("stride", axes.len())?.unwrap_or_else(|| window.clone());
        let whole = (samples.len()..ty.rank()).filter(|axis| !axes.contains(axis)).collect();
        let mut made = Vec::new();
        for ((&axis, window), stride) in axes.iter().zip(window).zip(stride) {
            if stride > window {
                let message = format!("a stride of {stride} leaves places between windows of {window}");
                return Err(Diagnostic::request(message).help("give a stride of at most the window's length"));
            }
            let length = ty.shape.get(axis).cloned().unwrap_or(Dim::Known(1));
            // One window, and as many more as it takes to reach the end.
            let beyond = length.sub(&window.into()).and_then(|rest| rest.maximum(&Dim::Known(0)));
            let more = beyond.and_then(|beyond| beyond.ceil_div(&stride.into()));
            let count = more.and_then(|more| more.add(&Dim::Known(1))).map_err(overflow)?;
            made.push(WindowAxis { axis, length, window, stride, count });
        }
        Ok(Windows { axes: made, whole, first, mask: None, shares: Vec::new() })
    }

    /// How many windows there are.
    pub(super) fn count(&self) -> Built<Dim> {
        let counts: Vec<Dim> = self.axes.iter().map(|axis| axis.count.clone()).collect();
        product(&counts).map_err(overflow)
    }

    /// `x` with the step's window at `baseline`.
    pub(super) fn occlude(mut self, m: &mut Maker, x: Value, baseline: Value, step: Value) -> Built<(Value, Windows)> {
        let first = m.sizes(&self.first, step)?;
        let mut place = m.sub(step, first, "window")?;
        let (zero, count) = (m.integers(0, step)?, m.sizes(&self.count()?, step)?);
        let from = m.compare(Compare::GreaterOrEqual, place, zero, "inside")?;
        let until = m.compare(Compare::Less, place, count, "inside")?;
        let own = m.both(from, until)?;
        let mut inside = m.spread(own, x)?;
        let shape = m.ty(x).shape;
        // The last axis counts fastest.
        for (at, axis) in self.axes.iter().enumerate().rev() {
            let counts = m.sizes(&axis.count, step)?;
            let along = if at == 0 { place } else { m.remainder(place, counts, "window")? };
            if at > 0 {
                place = m.div(place, counts, "window")?;
            }
            let covered = axis.covered(m, along)?;
            let mut column = m.ty(step).shape;
            column.resize(shape.len(), Dim::Known(1));
            if let Some(slot) = column.get_mut(axis.axis) {
                *slot = axis.length.clone();
            }
            let covered = m.reshape(covered, &column)?;
            let covered = m.broadcast(covered, &shape)?;
            inside = m.both(inside, covered)?;
        }
        let dtype = m.ty(x).dtype;
        for axis in &self.axes {
            let share = axis.share(m, dtype)?;
            self.shares.push(share);
        }
        if let Some(share) = self.share_of_whole_axes(m, &shape, dtype)? {
            self.shares.push(share);
        }
        let occluded = m.choose(inside, baseline, x, "occluded")?;
        self.mask = Some(m.cast(inside, dtype, "mask")?);
        Ok((occluded, self))
    }

    /// One over the number of elements at each place that a window takes whole.
    fn share_of_whole_axes(&self, m: &mut Maker, shape: &[Dim], dtype: DType) -> Built<Option<Value>> {
        let sizes: Vec<Dim> = self.whole.iter().filter_map(|&axis| shape.get(axis).cloned()).collect();
        if sizes.is_empty() {
            return Ok(None);
        }
        let literal = Literal::scalar(DType::I64, 0.0);
        let scalar = m.op(Op::Source(Source::Constant(literal)), &[], "const")?;
        let elements = m.sizes(&product(&sizes).map_err(overflow)?, scalar)?;
        let elements = m.cast(elements, dtype, "elements")?;
        m.reciprocal(elements, "share").map(Some)
    }

    /// `drop` inside of the window, shared among the windows that cover a place and the elements that stand there.
    pub(super) fn share(&self, b: &mut RelevanceBuilder, drop: Value, ty: &TensorType) -> Built<Value> {
        let Some(mask) = self.mask else { return b.filled(0.0, ty.dtype, &ty.shape) };
        let mask = b.activation(mask)?;
        let mut relevance = b.weigh(drop, mask, "drop")?;
        let axes = self.axes.iter().map(|axis| Some(axis.axis)).chain([None]);
        for (&share, axis) in self.shares.iter().zip(axes) {
            let mut column = vec![Dim::Known(1); ty.rank()];
            if let Some((axis, slot)) = axis.and_then(|axis| Some((axis, column.get_mut(axis)?))) {
                *slot = ty.shape.get(axis).cloned().unwrap_or(Dim::Known(1));
            }
            let column = b.reshape(share, &column, "share")?;
            let column = b.broadcast(column, &ty.shape, "share")?;
            relevance = b.mul(relevance, column, "R")?;
        }
        Ok(relevance)
    }
}

impl WindowAxis {
    /// Which places along the axis the window number `along` covers: one row of truth values for each of its elements.
    fn covered(&self, m: &mut Maker, along: Value) -> Built<Value> {
        let mut column = m.ty(along).shape;
        column.push(Dim::Known(1));
        let mut shape = m.ty(along).shape;
        shape.push(self.length.clone());
        let stride = m.integers(self.stride, along)?;
        let start = m.mul(along, stride, "start")?;
        let start = m.reshape(start, &column)?;
        let start = m.broadcast(start, &shape)?;
        let counter = TensorType::new(DType::I64, vec![self.length.clone()]);
        let places = m.op(Op::Source(Source::Iota { axis: 0, ty: counter }), &[], "places")?;
        let places = m.broadcast(places, &shape)?;
        let behind = m.sub(places, start, "behind")?;
        let (zero, window) = (m.integers(0, behind)?, m.integers(self.window, behind)?);
        let from = m.compare(Compare::GreaterOrEqual, behind, zero, "inside")?;
        let until = m.compare(Compare::Less, behind, window, "inside")?;
        m.both(from, until)
    }

    /// One over the number of windows that cover each place along the axis.
    fn share(&self, m: &mut Maker, dtype: DType) -> Built<Value> {
        let counter = TensorType::new(DType::I64, vec![self.count.clone()]);
        let all = m.op(Op::Source(Source::Iota { axis: 0, ty: counter }), &[], "windows")?;
        let covered = self.covered(m, all)?;
        let covered = m.cast(covered, dtype, "covered")?;
        let cover = m.reduce(ReduceKind::Sum, covered, &[0], "cover")?;
        let cover = m.reshape(cover, std::slice::from_ref(&self.length))?;
        m.reciprocal(cover, "share")
    }
}

/// The axes of positions where no convolution tells them: those between samples and features, and of a table its columns.
fn default_axes(graph: &Graph, tensor: Value) -> Vec<usize> {
    let rank = graph.ty(tensor).rank();
    let is_embedding = embeddings(graph).iter().any(|embedding| embedding.output == tensor);
    match rank {
        _ if is_embedding && rank > 1 => (usize::from(rank > 2)..rank - 1).collect(),
        0 => Vec::new(),
        1 => vec![0],
        2 | 3 => vec![1],
        _ => (2..rank).collect(),
    }
}

/// The axes of `tensor` that a convolution slides over, if one reads it through element-wise work and movement.
fn convolved_axes(graph: &Graph, tensor: Value) -> Option<Vec<usize>> {
    let mut open = VecDeque::from([(tensor, (0..graph.ty(tensor).rank()).collect::<Vec<usize>>())]);
    let mut seen = HashSet::new();
    while let Some((value, axes)) = open.pop_front() {
        for (user, slot) in graph.users(value) {
            if slot == 0 && matches!(&graph.node(user).op, Op::Linear(Linear::Conv(_) | Linear::ConvTranspose(_))) {
                let mut spatial = axes.get(2..).unwrap_or_default().to_vec();
                spatial.sort_unstable();
                return Some(spatial).filter(|axes| !axes.is_empty());
            }
            let below = match &graph.node(user).op {
                Op::Elementwise(Elementwise::Unary(_) | Elementwise::Binary(_) | Elementwise::Cast(_))
                | Op::Normalize(Normalize::BatchNorm { .. })
                | Op::Movement(Movement::Pad { .. } | Movement::Slice { .. }) => axes.clone(),
                Op::Movement(Movement::Transpose { perm }) => {
                    perm.iter().filter_map(|&axis| axes.get(axis).copied()).collect()
                }
                _ => continue,
            };
            if seen.len() < MAX_SEEN && seen.insert(user) {
                open.push_back((user.into(), below));
            }
        }
    }
    None
}
