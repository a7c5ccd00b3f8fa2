//! Composites that run the model several times (docs/baselines.md).
//!
//! The graph stays a program for one run. Between a tensor `x` and its users stands what the run's step makes of it: `x`
//! itself at step −1, the default; `x` with noise, a point of the path from the baseline to `x`, or `x` without a window
//! at the steps from 0 on. The relevance region holds what one step contributes, and the graph's `repeat` lines say
//! which steps are summed. All composites of a graph share the perturbed tensors, since those are `x` at step −1.

mod independence;
mod maker;
mod occlusion;
mod settings;

use std::collections::HashMap;

use lrpc_ir::graph::{Graph, GraphResult, Origin, Region, Repeat, Value};
use lrpc_ir::ops::{Compare, Op, Reduce, ReduceKind, Source};
use lrpc_ir::{DType, Diagnostic, Dim, TensorType};
use serde::Deserialize;

use super::active::active_values;
use super::builder::{Built, RelevanceBuilder};
use super::composite::Composite;
use super::seed::Seed;
use maker::Maker;
use occlusion::Windows;
use settings::{Baseline, Settings};

/// What a composite does several times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sampling {
    /// Its rules on the tensor with noise; the mean (SmoothGrad).
    Noise,
    /// Its rules on the way from a baseline to the tensor (integrated gradients).
    Path,
    /// The forward pass without one window of the tensor after the other.
    Occlusion,
    /// Nothing: relevance is drawn, independent of the model.
    Random,
}

impl Sampling {
    /// Whether the composite's rules are applied.
    pub fn applies_rules(self) -> bool {
        matches!(self, Sampling::Noise | Sampling::Path)
    }

    /// The word by which nodes are marked as made by it.
    fn name(self) -> &'static str {
        match self {
            Sampling::Noise => "SmoothGrad",
            Sampling::Path => "IntegratedGradients",
            Sampling::Occlusion => "Occlusion",
            Sampling::Random => "Random",
        }
    }
}

/// The perturbed tensors of a graph.
#[derive(Debug)]
pub(super) struct Samples {
    /// The requested tensors.
    tensors: Vec<Value>,
    /// What the model reads in their place; the same where no composite perturbs.
    read: Vec<Value>,
    /// The shape of a step: one axis where each sample of a batch has a step of its own.
    shape: Vec<Dim>,
    /// One for each composite.
    uses: Vec<Option<Use>>,
}

/// How one composite samples.
#[derive(Debug)]
struct Use {
    sampling: Sampling,
    step: Option<Value>,
    count: Dim,
    baselines: Vec<Value>,
    windows: Vec<Windows>,
    seed: i64,
    results: Vec<String>,
}

/// What one composite explains in one walk: the names of its parts, and its results so far.
pub(super) struct Explained<'a> {
    /// Composite and target, where there are several.
    pub parts: &'a [String],
    /// Where relevance starts.
    pub seed: &'a Seed,
    /// How many results the graph had before the walk.
    pub before: usize,
}

impl Samples {
    /// Lets the users of every requested tensor read what the composites' steps make of it.
    ///
    /// # Errors
    /// Parameters without a meaning, and requested tensors of which one depends on another.
    pub(super) fn insert(
        graph: &mut Graph,
        composites: &[Composite],
        tensors: &[Value],
        explained: &[Value],
    ) -> Built<Samples> {
        let perturbs = |composite: &&Composite| composite.sampling.is_some_and(|one| one != Sampling::Random);
        let mut samples = Samples { tensors: tensors.to_vec(), read: tensors.to_vec(), shape: vec![], uses: vec![] };
        if let Some(composite) = composites.iter().find(perturbs) {
            check_independent_tensors(graph, tensors, composite)?;
            samples.shape = independence::samples(graph, tensors, explained).into_iter().collect();
        }
        let users: Vec<Vec<_>> = tensors.iter().map(|&tensor| graph.users(tensor)).collect();
        let several = composites.len() > 1;
        for composite in composites {
            let made = match composite.sampling {
                None => None,
                Some(sampling) => Some(samples.perturb(graph, composite, sampling, several)?),
            };
            samples.uses.push(made);
        }
        for (users, (&tensor, &read)) in users.into_iter().zip(samples.tensors.iter().zip(&samples.read)) {
            for (user, slot) in users.into_iter().filter(|_| tensor != read) {
                if graph.node(user).region == Region::Forward {
                    graph.set_operand(user, slot, read);
                }
            }
        }
        Ok(samples)
    }

    /// The tensors that stand for the requested ones.
    pub(super) fn read(&self) -> &[Value] {
        &self.read
    }

    fn perturb(&mut self, graph: &mut Graph, composite: &Composite, sampling: Sampling, several: bool) -> Built<Use> {
        let settings = Settings::of(composite);
        let prefix = if several { format!("{}.", composite.name) } else { String::new() };
        let mut made = Use {
            sampling,
            step: None,
            count: Dim::Known(0),
            baselines: Vec::new(),
            windows: Vec::new(),
            seed: 0,
            results: Vec::new(),
        };
        if matches!(sampling, Sampling::Noise | Sampling::Random) {
            made.seed = settings.seed()?;
        }
        if sampling == Sampling::Random {
            return Ok(made);
        }
        let step = self.step(graph, &format!("{prefix}step"))?;
        made.step = Some(step);
        for place in 0..self.tensors.len() {
            let Some(&x) = self.read.get(place) else { continue };
            let Some(&tensor) = self.tensors.get(place) else { continue };
            let name = graph.name(tensor).to_string();
            let mut m = Maker::new(graph, &format!("{prefix}{name}"), sampling.name());
            let moved = match sampling {
                Sampling::Noise => {
                    made.count = Dim::Known(settings.count("samples", 20)?);
                    noisy(&mut m, x, step, settings.share("noise", 0.1)?, (made.seed, place as i64))?
                }
                Sampling::Path => {
                    let steps = settings.count("steps", 32)?;
                    // One more, at the baseline, tells what the sum should come to.
                    made.count = Dim::Known(steps.saturating_add(1));
                    let baseline = m.baseline(x, &settings.baseline()?, &name)?;
                    made.baselines.push(baseline);
                    on_the_path(&mut m, (x, baseline), step, steps, settings.points()?)?
                }
                _ => {
                    let windows = Windows::plan(m.graph(), tensor, &self.shape, &settings, made.count.clone())?;
                    made.count = made.count.add(&windows.count()?).map_err(overflow)?;
                    let baseline = m.baseline(x, &Baseline::Number(settings.number("baseline", 0.0)?), &name)?;
                    let (occluded, windows) = windows.occlude(&mut m, x, baseline, step)?;
                    made.windows.push(windows);
                    occluded
                }
            };
            let clean = m.below_zero(step)?;
            let clean = m.spread(clean, x)?;
            let read = m.choose(clean, x, moved, "perturbed")?;
            if let Some(slot) = self.read.get_mut(place) {
                *slot = read;
            }
        }
        Ok(made)
    }

    /// The input that holds the step; −1 unless it is given.
    fn step(&self, graph: &mut Graph, name: &str) -> Built<Value> {
        let ty = TensorType::new(DType::I64, self.shape.clone());
        let literal = lrpc_ir::ops::Literal::filled(ty.clone(), -1.0);
        let origin = Origin { from: None, by: Some("sampling".into()) };
        let default = graph.fresh_name("clean");
        let default = graph.add(Region::Prepare, Op::Source(Source::Constant(literal)), &[], &default, origin)?;
        let name = graph.fresh_name(name);
        Ok(graph.add(Region::Header, Op::Source(Source::Input(ty)), &[default], &name, Origin::default())?)
    }

    /// Turns the results of the composite at `place` into what one step contributes, under the names of the requested
    /// tensors.
    ///
    /// # Errors
    /// Nodes that cannot be made.
    pub(super) fn contribute(
        &mut self,
        graph: &mut Graph,
        promises: &mut HashMap<Value, Value>,
        place: usize,
        explained: &Explained<'_>,
    ) -> Built<()> {
        let found = self.take_results(graph, explained.before);
        let Some(Some(mut used)) = self.uses.get_mut(place).map(Option::take) else {
            graph.results.extend(found.into_iter().map(|(_, name, value)| GraphResult { name, value }));
            return Ok(());
        };
        let prefix: String = explained.parts.iter().map(|part| format!("{part}.")).collect();
        let path: String = explained.parts.iter().map(|part| format!("{part}/")).collect();
        let nonnegative = Default::default();
        let mut b = RelevanceBuilder::new(graph, promises, &nonnegative, &prefix);
        let made = match used.sampling {
            Sampling::Noise => self.mean(&mut b, &used, found)?,
            Sampling::Path => self.integral(&mut b, &used, found, (explained.seed, &path))?,
            Sampling::Occlusion => self.drops(&mut b, &used, explained.seed, &path)?,
            Sampling::Random => self.drawn(&mut b, &used, &path)?,
        };
        if used.step.is_some() {
            used.results.extend(made.iter().map(|(name, _)| name.clone()));
        }
        graph.results.extend(made.into_iter().map(|(name, value)| GraphResult { name, value }));
        if let Some(slot) = self.uses.get_mut(place) {
            *slot = Some(used);
        }
        Ok(())
    }

    /// Writes the graph's `repeat` lines.
    pub(super) fn finish(self, graph: &mut Graph) {
        for used in self.uses.into_iter().flatten() {
            if let Some(step) = used.step.filter(|_| !used.results.is_empty()) {
                let step = graph.name(step).to_string();
                graph.repeats.push(Repeat { step, count: used.count, results: used.results });
            }
        }
    }

    /// The results behind the first `before`, by place of the requested tensor and under its name.
    fn take_results(&self, graph: &mut Graph, before: usize) -> Vec<(Option<usize>, String, Value)> {
        let new = graph.results.split_off(before.min(graph.results.len()));
        let renamed = |result: GraphResult| {
            let stands_for = self.read.iter().zip(&self.tensors).enumerate().find_map(|(place, (&read, &tensor))| {
                let path = result.name.strip_suffix(graph.name(read))?.strip_suffix("relevance/")?;
                (path.is_empty() || path.ends_with('/'))
                    .then(|| (place, format!("{path}relevance/{}", graph.name(tensor))))
            });
            match stands_for {
                Some((place, name)) => (Some(place), name, result.value),
                None => (None, result.name, result.value),
            }
        };
        new.into_iter().map(renamed).collect()
    }

    /// `R/n`, for the mean of `n` samples.
    fn mean(&self, b: &mut RelevanceBuilder, used: &Use, found: Vec<Found>) -> Built<Vec<(String, Value)>> {
        let count = used.count.known().unwrap_or(1);
        let scaled = found.into_iter().map(|(place, name, value)| {
            self.begin(b, place, used.sampling);
            Ok((name, b.scale(value, 1.0 / count as f64, "R")?))
        });
        scaled.collect()
    }

    /// `(x − x₀)·g/n` at each of the `n` points, and how far the sum is from `f(x) − f(x₀)`.
    fn integral(
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
            let drop = self.drop(b, seed)?;
            let dtype = b.ty(drop).dtype;
            let at_baseline = self.where_step(b, Compare::Equal, step, points, dtype)?;
            let expected = b.weigh(drop, at_baseline, "expected")?;
            results.push((format!("{path}completeness"), b.sub(arrived, expected, "completeness")?));
        }
        Ok(results)
    }

    /// What the explained output loses with each window, spread over it.
    fn drops(&self, b: &mut RelevanceBuilder, used: &Use, seed: &Seed, path: &str) -> Built<Vec<(String, Value)>> {
        let drop = self.drop(b, seed)?;
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
    fn drawn(&self, b: &mut RelevanceBuilder, used: &Use, path: &str) -> Built<Vec<(String, Value)>> {
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
    fn drop(&self, b: &mut RelevanceBuilder, seed: &Seed) -> Built<Value> {
        let mut explained: Option<Value> = None;
        for start in &seed.starts {
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
        use lrpc_ir::ops::Elementwise;
        let bound = b.filled(bound as f64, DType::I64, &self.shape)?;
        let holds = b.op(Op::Elementwise(Elementwise::Compare(compare)), &[step, bound], "holds")?;
        b.op(Op::Elementwise(Elementwise::Cast(dtype)), &[holds], "holds")
    }
}

/// A result of a walk: the place of its tensor among the requested ones, its name, its value.
type Found = (Option<usize>, String, Value);

/// Requested tensors that depend on each other are not perturbed together: what one changes, the other would change again.
fn check_independent_tensors(graph: &Graph, tensors: &[Value], composite: &Composite) -> Built<()> {
    let order = graph.order();
    for &tensor in tensors {
        let others: Vec<Value> = tensors.iter().copied().filter(|&other| other != tensor).collect();
        if !others.is_empty() && active_values(graph, &order, &others).contains(&tensor) {
            let (name, of) = (graph.name(tensor), &composite.name);
            let message = format!("`{name}` depends on another requested tensor, and `{of}` changes both");
            return Err(Diagnostic::request(message).help("compile a graph for each of them: --wrt with one name"));
        }
    }
    Ok(())
}

/// `x + σ·noise`, with `σ` a share of the sample's range.
fn noisy(m: &mut Maker, x: Value, step: Value, share: f64, (seed, stream): (i64, i64)) -> Built<Value> {
    let ty = m.ty(x);
    let sample: Vec<usize> = (m.ty(step).rank()..ty.rank()).collect();
    let highest = m.reduce(ReduceKind::Max, x, &sample, "highest")?;
    let lowest = m.reduce(ReduceKind::Min, x, &sample, "lowest")?;
    let range = m.sub(highest, lowest, "range")?;
    let deviation = m.scale(range, share, "sigma")?;
    let deviation = m.broadcast(deviation, &ty.shape)?;
    let noise = m.op(Op::Source(Source::Noise { seed, stream, ty }), &[step], "noise")?;
    let noise = m.mul(noise, deviation, "noise")?;
    m.add(x, noise, "noisy")
}

/// `x₀ + α·(x − x₀)` with `α = (step + offset)/n`; the baseline itself from step `n` on.
fn on_the_path(m: &mut Maker, (x, baseline): (Value, Value), step: Value, steps: i64, offset: f64) -> Built<Value> {
    let dtype = m.ty(x).dtype;
    let place = m.cast(step, dtype, "place")?;
    let place = m.shift(place, offset, "place")?;
    let alpha = m.scale(place, 1.0 / steps as f64, "alpha")?;
    let alpha = m.spread(alpha, x)?;
    let distance = m.sub(x, baseline, "distance")?;
    let way = m.mul(distance, alpha, "way")?;
    let point = m.add(baseline, way, "point")?;
    let end = m.integers(steps, step)?;
    let is_end = m.compare(Compare::GreaterOrEqual, step, end, "is_end")?;
    let is_end = m.spread(is_end, x)?;
    m.choose(is_end, baseline, point, "point")
}

/// What a perturbed tensor stands for; any other value itself.
pub(super) fn unperturbed(graph: &Graph, mut value: Value) -> Value {
    let by = |value: Value| graph.node(value.node).origin.by.clone();
    let perturbs = |sampling: &Sampling| by(value).as_deref() == Some(sampling.name());
    let is_choice = matches!(graph.node(value.node).op, Op::Elementwise(lrpc_ir::ops::Elementwise::Where));
    if is_choice && [Sampling::Noise, Sampling::Path, Sampling::Occlusion].iter().any(perturbs) {
        if let Some(clean) = graph.operand(value.node, 1) {
            value = unperturbed(graph, clean);
        }
    }
    value
}

fn overflow(error: lrpc_ir::DimError) -> Diagnostic {
    Diagnostic::new(error.to_string())
}
