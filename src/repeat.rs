//! Runs that are repeated: results that are sums over many steps of one graph (docs/baselines.md).

use std::collections::{BTreeMap, BTreeSet};

use lrpc_ir::graph::{GraphResult, Repeat};
use lrpc_ir::{Bindings, DType, Diagnostic, DiagnosticKind, Dim, Graph};
use lrpc_kernels::{RunErrorKind, Tensor};
use lrpc_passes::bind::Wanted;
use lrpc_passes::names::matches;

use crate::error::Error;
use crate::graph_file::ModelWeights;
use crate::runner::{OnProgress, Runner};
use crate::session::RunOptions;

/// Prefix of the results that are added to hold what inputs with a default have in the first run.
const HELD: &str = "held/";
/// The most samples that a run of several steps takes, unless it is said; the samples of one step are never parted.
const SAMPLES_AT_ONCE: usize = 8;

/// The results of one `repeat` line.
pub(crate) struct Repeated<'w> {
    repeat: Repeat,
    runner: Runner<'w>,
    /// The symbol that counts samples, where several steps may run at once.
    samples: Option<String>,
    /// The inputs, by name, whose first axis counts samples.
    batched: BTreeSet<String>,
    at_once: Option<usize>,
}

/// Takes the results that are sums over steps out of `graph`. What is left gives all other results that are wanted, and
/// what the inputs with defaults have.
pub(crate) fn take_repeated<'w>(
    graph: &mut Graph,
    weights: &'w ModelWeights,
    options: &mut RunOptions,
) -> Vec<Repeated<'w>> {
    let all: Vec<String> = graph.results.iter().map(|result| result.name.clone()).collect();
    let (wanted, is_known): (Vec<String>, bool) = match &options.wanted {
        Wanted::All => (all, true),
        Wanted::Matching(patterns) => (
            all.iter().filter(|name| patterns.iter().any(|pattern| matches(pattern, name))).cloned().collect(),
            patterns.iter().all(|pattern| all.iter().any(|name| matches(pattern, name))),
        ),
    };
    // A pattern that nothing fits is refused when the graph is bound.
    if graph.repeats.is_empty() || !is_known {
        return Vec::new();
    }
    let whole = graph.clone();
    graph.repeats.clear();
    graph.results.retain(|result| wanted.contains(&result.name));
    let mut repeated = Vec::new();
    options.wanted = Wanted::All;
    for repeat in &whole.repeats {
        graph.results.retain(|result| !repeat.results.contains(&result.name));
        let mut part = whole.clone();
        part.repeats.clear();
        part.ledger.clear();
        part.results.retain(|result| repeat.results.contains(&result.name) && wanted.contains(&result.name));
        if !part.results.is_empty() {
            repeated.push(Repeated::new(repeat.clone(), part, weights, options));
        }
    }
    if !repeated.is_empty() {
        hold_defaults(graph, &whole);
    }
    repeated
}

/// Adds the defaults of inputs to the results: those that a run computes, steps excepted.
fn hold_defaults(graph: &mut Graph, whole: &Graph) {
    for input in whole.inputs() {
        let name = whole.name(input);
        let is_step = whole.repeats.iter().any(|repeat| repeat.step == name);
        if let Some(value) = whole.operand(input.node, 0).filter(|&value| !is_step && !whole.is_constant(value)) {
            graph.results.push(GraphResult { name: format!("{HELD}{name}"), value });
        }
    }
}

/// Takes what [`take_repeated`] has added out of the results of the first run, by the names of inputs.
pub(crate) fn take_held(results: &mut BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    let names: Vec<String> = results.keys().filter(|name| name.starts_with(HELD)).cloned().collect();
    let take = |name: String| Some((name.strip_prefix(HELD)?.to_string(), results.remove(&name)?));
    names.into_iter().filter_map(take).collect()
}

impl<'w> Repeated<'w> {
    fn new(repeat: Repeat, graph: Graph, weights: &'w ModelWeights, options: &RunOptions) -> Repeated<'w> {
        let step = graph.find(&repeat.step).and_then(|step| graph.ty(step).shape.first().cloned());
        let samples = step.and_then(|axis| axis.as_symbol().map(str::to_string));
        let counts_samples = |dim: &Dim| samples.is_some() && dim.as_symbol() == samples.as_deref();
        let mentions = |dim: &Dim| {
            let mut used = BTreeSet::new();
            dim.symbols(&mut used);
            samples.as_ref().is_some_and(|symbol| used.contains(symbol))
        };
        let mut batched = BTreeSet::new();
        let mut is_batch = true;
        for input in graph.inputs() {
            let shape = &graph.ty(input).shape;
            match shape.split_first() {
                Some((first, rest)) if counts_samples(first) && !rest.iter().any(mentions) => {
                    batched.insert(graph.name(input).to_string());
                }
                _ => is_batch = is_batch && !shape.iter().any(mentions),
            }
        }
        let options = RunOptions { audit: false, ..options.clone() };
        let at_once = options.steps_at_once;
        let runner = Runner::new(graph, weights, options);
        // Sizes that depend on data may differ from step to step.
        let samples = samples.filter(|_| is_batch && !runner.has_measures());
        Repeated { repeat, runner, samples, batched, at_once }
    }

    /// The sums over all steps. `inputs` are what is given, `held` what inputs with defaults had in the first run.
    ///
    /// Steps are summed in ascending order in `f64`. How many run at once does not depend on the number of threads.
    ///
    /// # Errors
    /// As for any run.
    pub(crate) fn run(
        &mut self,
        inputs: &BTreeMap<String, Tensor>,
        held: &BTreeMap<String, Tensor>,
        dims: &Bindings,
        mut progress: OnProgress<'_>,
    ) -> Result<BTreeMap<String, Tensor>, Error> {
        let count = self.repeat.count.eval(dims).map_err(|error| Diagnostic::new(error.to_string()))?;
        let mut given = held.clone();
        given.extend(inputs.iter().map(|(name, tensor)| (name.clone(), tensor.clone())));
        let rows = self.samples.as_ref().and_then(|symbol| dims.get(symbol)).copied();
        let rows_of_step = rows.and_then(|rows| usize::try_from(rows).ok());
        let mut at_once = match (rows_of_step, self.at_once) {
            (None, _) => 1,
            (Some(_), Some(steps)) => steps.max(1),
            (Some(rows), None) => (SAMPLES_AT_ONCE / rows.max(1)).max(1),
        };
        let mut sums = BTreeMap::new();
        let mut first = 0;
        while first < count {
            let steps = at_once.min(usize::try_from(count - first).unwrap_or(usize::MAX));
            let found =
                match self.run_steps(&given, dims, (first, steps), progress.as_mut().map(|call| &mut **call as _)) {
                    Err(error) if steps > 1 && is_memory(&error) => {
                        at_once = steps / 2;
                        continue;
                    }
                    found => found?,
                };
            for (name, tensor) in found {
                add(&mut sums, name, &tensor, steps)?;
            }
            first += steps as i64;
        }
        self.runner.release();
        sums.into_iter().map(|(name, sum)| Ok((name, sum.tensor().map_err(bug)?))).collect()
    }

    /// Runs `steps` steps from `first` on at once: the samples at one step after those at the one before.
    fn run_steps(
        &mut self,
        given: &BTreeMap<String, Tensor>,
        dims: &Bindings,
        (first, steps): (i64, usize),
        progress: OnProgress<'_>,
    ) -> Result<BTreeMap<String, Tensor>, Error> {
        let mut dims = dims.clone();
        let mut inputs = BTreeMap::new();
        for (name, tensor) in given {
            let tensor = if self.batched.contains(name) { copies(tensor, steps).map_err(bug)? } else { tensor.clone() };
            inputs.insert(name.clone(), tensor);
        }
        if let Some(rows) = self.samples.as_ref().and_then(|symbol| dims.get_mut(symbol)) {
            let copies = i64::try_from(steps).ok().and_then(|steps| rows.checked_mul(steps));
            *rows = copies.ok_or_else(|| Diagnostic::request("more samples than can be counted"))?;
        }
        let shape = self.runner.shape_of(&self.repeat.step, &dims)?;
        let rows = shape.iter().product::<usize>() / steps.max(1);
        let values: Vec<i64> = (first..).take(steps).flat_map(|step| std::iter::repeat_n(step, rows)).collect();
        inputs.insert(self.repeat.step.clone(), Tensor::from_values(&shape, &values).map_err(bug)?);
        let dims = self.runner.measure(&inputs, &dims)?;
        Ok(self.runner.run_bound(&inputs, &dims, progress)?.results)
    }

    /// How many plans were made.
    pub(crate) fn plans_made(&self) -> usize {
        self.runner.plans_made()
    }
}

/// The sum of a result over steps, in the shape that one step has.
struct Sum {
    dtype: DType,
    shape: Vec<usize>,
    values: Vec<f64>,
}

impl Sum {
    fn tensor(&self) -> Result<Tensor, String> {
        match self.dtype {
            DType::F64 => Tensor::from_values(&self.shape, &self.values),
            _ => Tensor::from_values(&self.shape, &self.values.iter().map(|&value| value as f32).collect::<Vec<_>>()),
        }
    }
}

/// Adds the `steps` steps that stand in `tensor` one after the other.
fn add(sums: &mut BTreeMap<String, Sum>, name: String, tensor: &Tensor, steps: usize) -> Result<(), Diagnostic> {
    let found = tensor.to_f64();
    let mut shape = tensor.shape().to_vec();
    if let Some(rows) = shape.first_mut().filter(|_| steps > 1) {
        *rows /= steps;
    }
    let length = found.len() / steps.max(1);
    let sum = sums.entry(name.clone()).or_insert_with(|| Sum {
        dtype: tensor.dtype(),
        shape: shape.clone(),
        values: vec![0.0; length],
    });
    if sum.shape != shape || length * steps != found.len() {
        let message = format!("`{name}` has the shape {:?} at one step and {shape:?} at another", sum.shape);
        let help = "its size depends on data that the composite changes; choose a composite that runs the model once";
        return Err(Diagnostic::request(message).help(help));
    }
    for step in found.chunks(length.max(1)) {
        sum.values.iter_mut().zip(step).for_each(|(sum, value)| *sum += value);
    }
    Ok(())
}

/// `count` copies along the first axis.
fn copies(tensor: &Tensor, count: usize) -> Result<Tensor, String> {
    if count == 1 {
        return Ok(tensor.clone());
    }
    let mut shape = tensor.shape().to_vec();
    let too_many = || "more samples than can be counted".to_string();
    if let Some(rows) = shape.first_mut() {
        *rows = rows.checked_mul(count).ok_or_else(too_many)?;
    }
    tensor.bytes().len().checked_mul(count).ok_or_else(too_many)?;
    Tensor::new(tensor.dtype(), &shape, &tensor.bytes().repeat(count))
}

fn is_memory(error: &Error) -> bool {
    let Error::Run(error) = error else { return false };
    matches!(error.kind, RunErrorKind::Memory { .. } | RunErrorKind::OutOfMemory { .. })
}

fn bug(reason: String) -> Error {
    Diagnostic::new(reason).of_kind(DiagnosticKind::Bug).into()
}
