//! Composites that run the model several times (docs/baselines.md).
//!
//! The graph stays a program for one run. Between a tensor `x` and its users stands what the run's step makes of it: `x`
//! itself at step −1, the default; `x` with noise, a point of the path from the baseline to `x`, or `x` without a window
//! at the steps from 0 on. The relevance region holds what one step contributes, and the graph's `repeat` lines say
//! which steps are summed. All composites of a graph share the perturbed tensors, since those are `x` at step −1.

mod contribution;
mod independence;
mod maker;
mod occlusion;
mod settings;

use std::collections::HashMap;

use lrpc_ir::graph::{Graph, GraphResult, Origin, Region, Repeat, Value};
use lrpc_ir::ops::{Compare, Elementwise, Literal, Op, ReduceKind, Source};
use lrpc_ir::{DType, Diagnostic, Dim, TensorType};
use serde::Deserialize;

use super::Request;
use super::active::active_values;
use super::builder::{Built, RelevanceBuilder};
use super::composite::Composite;
use super::seed::Seed;
use contribution::Found;
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
    /// Parameters without a meaning, requested weights, and requested tensors of which one depends on another.
    pub(super) fn insert(graph: &mut Graph, request: &Request, explained: &[Value]) -> Built<Samples> {
        let Request { composites, wrt, silent, weights, .. } = request;
        let tensors: Vec<Value> = wrt.iter().copied().filter(|tensor| !silent.contains(tensor)).collect();
        let perturbs = |composite: &&Composite| composite.sampling.is_some_and(|one| one != Sampling::Random);
        let mut samples = Samples { read: tensors.clone(), tensors, shape: vec![], uses: vec![] };
        let tensors = samples.tensors.clone();
        if let Some(composite) = composites.iter().find(perturbs) {
            if let Some(&weight) = weights.first() {
                let (of, weight) = (&composite.name, graph.name(weight));
                let message = format!("`{of}` perturbs tensors and explains no weights, such as `{weight}`");
                return Err(Diagnostic::request(message).help("ask for weights in a graph of their own"));
            }
            check_independent_tensors(graph, &tensors, composite)?;
            samples.shape = independence::samples(graph, &tensors, explained).into_iter().collect();
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

    /// What the model reads in the place of each of these tensors.
    pub(super) fn read(&self, tensors: &[Value]) -> Vec<Value> {
        let place = |tensor: &Value| self.tensors.iter().position(|known| known == tensor);
        let read = |tensor: &Value| place(tensor).and_then(|place| self.read.get(place)).copied();
        tensors.iter().map(|tensor| read(tensor).unwrap_or(*tensor)).collect()
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
        let literal = Literal::filled(ty.clone(), -1.0);
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
    fn take_results(&self, graph: &mut Graph, before: usize) -> Vec<Found> {
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
}

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
pub(super) fn unperturbed(graph: &Graph, value: Value) -> Value {
    let node = graph.node(value.node);
    let by_sampling = [Sampling::Noise, Sampling::Path, Sampling::Occlusion]
        .iter()
        .any(|sampling| node.origin.by.as_deref() == Some(sampling.name()));
    let is_choice = matches!(node.op, Op::Elementwise(Elementwise::Where));
    match graph.operand(value.node, 1).filter(|_| by_sampling && is_choice) {
        Some(clean) => unperturbed(graph, clean),
        None => value,
    }
}

fn overflow(error: lrpc_ir::DimError) -> Diagnostic {
    Diagnostic::new(error.to_string())
}

#[cfg(test)]
mod tests {
    use crate::testing::check_sampling;

    const DENSE: &str = r#"
        input %x : f32[N, 3]
        weight @w : f32[3, 2]
        forward
        %h = tanh %x : f32[N, 3]
        %y = dot %h, @w {contract=1x0} : f32[N, 2]
        result "output/y" = %y
        "#;

    #[test]
    fn smoothgrad() {
        check_sampling("smoothgrad", &["smoothgrad"], DENSE);
    }

    #[test]
    fn integrated_gradients() {
        check_sampling("integrated_gradients", &["integrated-gradients(steps=8, baseline=given)"], DENSE);
    }

    #[test]
    fn occlusion() {
        check_sampling("occlusion", &["occlusion(window=2, stride=1)"], DENSE);
    }

    #[test]
    fn random() {
        check_sampling("random", &["random(seed=3)"], DENSE);
    }

    #[test]
    fn beside_relevance() {
        check_sampling("epsilon_and_smoothgrad", &["epsilon", "smoothgrad(samples=5)"], DENSE);
    }
}
