//! What one step contributes to the relevance of a tensor.

use lrpc_ir::graph::Value;
use lrpc_ir::ops::{Compare, Elementwise, Op, Reduce, ReduceKind, Source};
use lrpc_ir::{DType, Diagnostic, Dim};

use super::{Samples, Sampling, Use};
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::seed::Seed;

/// A result of a walk: the place of its tensor among the requested ones, its name, its value.
pub(super) type Found = (Option<usize>, String, Value);

impl Samples {
    /// `R/n`, for the mean of `n` samples.
    pub(super) fn mean(&self, b: &mut RelevanceBuilder, used: &Use, found: Vec<Found>) -> Built<Vec<(String, Value)>> {
        let count = used.count.known().unwrap_or(1);
        let scaled = found.into_iter().map(|(place, name, value)| {
            self.begin(b, place, used.sampling);
            Ok((name, b.scale(value, 1.0 / count as f64, "R")?))
        });
        scaled.collect()
    }

    /// `(x − x₀)·g/n` at each of the `n` points, and how far the sum is from `f(x) − f(x₀)`.
    pub(super) fn integral(
        &self,
        b: &mut RelevanceBuilder,
        used: &Use,
        found: Vec<Found>,
        (seed, path): (&Seed, &str),
    ) -> Built<Vec<(String, Value)>> {
        let (Some(step), Some(points)) = (used.step, used.count.known().map(|count| count - 1)) else {
            return Ok(Vec::new());
        };
        let mut results = Vec::new();
        let mut sum: Option<Value> = None;
        for (place, name, g) in found {
            self.begin(b, place, used.sampling);
            let ends = place.and_then(|place| Some((*self.tensors.get(place)?, *used.baselines.get(place)?)));
            let Some((x, baseline)) = ends else { continue };
            let (x, baseline) = (b.activation(x)?, b.activation(baseline)?);
            let distance = b.sub(x, baseline, "distance")?;
            let product = b.weigh(distance, g, "product")?;
            let ty = b.ty(product);
            let weight = self.where_step(b, Compare::Less, step, points, ty.dtype)?;
            let weight = b.scale(weight, 1.0 / points as f64, "weight")?;
            let weight = self.spread(b, weight, &ty.shape)?;
            let contribution = b.mul(product, weight, "R")?;
            let part = self.per_sample(b, contribution)?;
            sum = Some(match sum {
                Some(sum) => b.add(sum, part, "arrived")?,
                None => part,
            });
            results.push((name, contribution));
        }
        if let Some(arrived) = sum {
            let drop = self.drop(b, seed, used.sampling)?;
            let dtype = b.ty(drop).dtype;
            let at_baseline = self.where_step(b, Compare::Equal, step, points, dtype)?;
            let expected = b.weigh(drop, at_baseline, "expected")?;
            results.push((format!("{path}completeness"), b.sub(arrived, expected, "completeness")?));
        }
        Ok(results)
    }

    /// What the explained output loses with each window, spread over it.
    pub(super) fn drops(
        &self,
        b: &mut RelevanceBuilder,
        used: &Use,
        seed: &Seed,
        path: &str,
    ) -> Built<Vec<(String, Value)>> {
        let drop = self.drop(b, seed, used.sampling)?;
        let mut results = Vec::new();
        for (place, (&tensor, windows)) in self.tensors.iter().zip(&used.windows).enumerate() {
            self.begin(b, Some(place), used.sampling);
            let ty = b.ty(tensor);
            let drop = self.spread(b, drop, &ty.shape)?;
            let name = format!("{path}relevance/{}", b.graph().name(tensor));
            results.push((name, windows.share(b, drop, &ty)?));
        }
        Ok(results)
    }

    /// Numbers of a normal distribution.
    pub(super) fn drawn(&self, b: &mut RelevanceBuilder, used: &Use, path: &str) -> Built<Vec<(String, Value)>> {
        let mut results = Vec::new();
        for (place, &tensor) in self.tensors.iter().enumerate() {
            self.begin(b, Some(place), used.sampling);
            let step = b.filled(0.0, DType::I64, &[])?;
            let noise = Source::Noise { seed: used.seed, stream: place as i64, ty: b.ty(tensor) };
            let name = format!("{path}relevance/{}", b.graph().name(tensor));
            results.push((name, b.op(Op::Source(noise), &[step], "R")?));
        }
        Ok(results)
    }

    fn begin(&self, b: &mut RelevanceBuilder, place: Option<usize>, sampling: Sampling) {
        if let Some(&tensor) = place.and_then(|place| self.tensors.get(place)) {
            b.begin(tensor, sampling.name());
        }
    }

    /// `f(x) − f(x′)` of each sample: `x′` is what this run reads. What `f(x)` is comes from the run at step −1.
    fn drop(&self, b: &mut RelevanceBuilder, seed: &Seed, sampling: Sampling) -> Built<Value> {
        let mut explained: Option<Value> = None;
        for start in &seed.starts {
            b.begin(start.output, sampling.name());
            let picked = match start.relevance {
                Some(relevance) => relevance,
                None => {
                    let y = b.activation(start.output)?;
                    b.weigh(y, start.coefficient, "picked")?
                }
            };
            let picked = self.per_sample(b, picked)?;
            explained = Some(match explained {
                Some(sum) => b.add(sum, picked, "explained")?,
                None => picked,
            });
        }
        let explained = explained.ok_or_else(|| Diagnostic::new("nothing is explained"))?;
        let ty = b.ty(explained);
        let reference = b.named(Op::Source(Source::Input(ty)), &[explained], "reference")?;
        let reference = b.activation(reference)?;
        b.sub(reference, explained, "drop")
    }

    /// The sum over all axes behind those of the step.
    fn per_sample(&self, b: &mut RelevanceBuilder, x: Value) -> Built<Value> {
        let axes: Vec<usize> = (self.shape.len()..b.ty(x).rank()).collect();
        if axes.is_empty() {
            return Ok(x);
        }
        b.op(Op::Reduce(Reduce { kind: ReduceKind::Sum, axes, keep: false }), &[x], "sum")
    }

    /// A number for each step, copied to `shape`.
    fn spread(&self, b: &mut RelevanceBuilder, x: Value, shape: &[Dim]) -> Built<Value> {
        let mut column = self.shape.clone();
        column.resize(shape.len(), Dim::Known(1));
        let column = b.reshape(x, &column, "each")?;
        b.broadcast(column, shape, "each")
    }

    /// 1 where the step compares so with `bound`, else 0.
    fn where_step(
        &self,
        b: &mut RelevanceBuilder,
        compare: Compare,
        step: Value,
        bound: i64,
        dtype: DType,
    ) -> Built<Value> {
        let bound = b.filled(bound as f64, DType::I64, &self.shape)?;
        let holds = b.op(Op::Elementwise(Elementwise::Compare(compare)), &[step, bound], "holds")?;
        b.op(Op::Elementwise(Elementwise::Cast(dtype)), &[holds], "holds")
    }
}
