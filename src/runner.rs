//! One graph that is run again and again: plans are kept by sizes, memory for tensors is there for one plan at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lrpc_ir::plan::Plan;
use lrpc_ir::{Bindings, Diagnostic, Graph};
use lrpc_kernels::{CheckFinite, Executor, Options, Outcome, Progress, Tensor};
use lrpc_passes::bind::{self, Request};

use crate::error::Error;
use crate::graph_file::ModelWeights;
use crate::inputs::has_relevance;
use crate::measuring::Measuring;
use crate::session::RunOptions;

/// The part of a request that plans differ by within a session.
type PlanKey = (Bindings, BTreeSet<String>);

/// Called before each step of a plan.
pub(crate) type OnProgress<'a> = Option<&'a mut (dyn FnMut(Progress<'_>) + Send)>;

/// The most plans that a runner keeps. A plan holds no tensors, but a stream of samples may have any number of sizes.
const MAX_PLANS: usize = 64;

/// A graph with its plans.
pub(crate) struct Runner<'w> {
    graph: Graph,
    weights: &'w ModelWeights,
    options: RunOptions,
    check_finite: CheckFinite,
    measuring: Measuring<'w>,
    /// The one used last is the last.
    plans: Vec<(PlanKey, Arc<Plan>)>,
    planned: usize,
    current: Option<(PlanKey, Executor<'w>)>,
}

impl<'w> Runner<'w> {
    pub(crate) fn new(graph: Graph, weights: &'w ModelWeights, options: RunOptions) -> Runner<'w> {
        let check_finite = if has_relevance(&graph) { CheckFinite::Results } else { CheckFinite::Off };
        let measuring = Measuring::new(&graph, weights, &options);
        Runner { graph, weights, options, check_finite, measuring, plans: Vec::new(), planned: 0, current: None }
    }

    /// The sizes of all symbols: `dims`, and those that `inputs` decide.
    ///
    /// # Errors
    /// As for any run; numbers that are no sizes.
    pub(crate) fn measure(&mut self, inputs: &BTreeMap<String, Tensor>, dims: &Bindings) -> Result<Bindings, Error> {
        if !self.measuring.is_empty() {
            // Its memory would be taken beside that of the runs that measure.
            self.release();
        }
        self.measuring.measure(inputs, dims)
    }

    /// Whether sizes depend on data.
    pub(crate) fn has_measures(&self) -> bool {
        !self.measuring.is_empty()
    }

    /// Runs the graph on `inputs`, at sizes that are all known.
    ///
    /// # Errors
    /// Sizes for which the graph has no meaning, limits, and numbers that are not finite.
    pub(crate) fn run_bound(
        &mut self,
        inputs: &BTreeMap<String, Tensor>,
        dims: &Bindings,
        progress: OnProgress<'_>,
    ) -> Result<Outcome, Error> {
        let key = (dims.clone(), inputs.keys().cloned().collect());
        if let Some((_, executor)) = self.current.as_mut().filter(|(current, _)| *current == key) {
            return Ok(executor.run(inputs, progress)?);
        }
        // The old executor's memory goes before the new one's is taken.
        self.release();
        let plan = self.plan(&key)?;
        let options = Options {
            threads: self.options.threads,
            memory_limit: self.options.memory_limit,
            check_finite: self.check_finite,
        };
        let executor = Executor::new(plan, self.weights, options)?;
        let (_, executor) = self.current.insert((key, executor));
        Ok(executor.run(inputs, progress)?)
    }

    /// The shape of an input at these sizes.
    ///
    /// # Errors
    /// An input that the graph does not have, and sizes that are not known.
    pub(crate) fn shape_of(&self, input: &str, dims: &Bindings) -> Result<Vec<usize>, Error> {
        let found = self.graph.find(input).ok_or_else(|| Diagnostic::new(format!("there is no input `{input}`")))?;
        Ok(self.graph.ty(found).bound_shape(dims).map_err(|error| Diagnostic::new(error.to_string()))?)
    }

    /// Gives back the memory for tensors.
    pub(crate) fn release(&mut self) {
        self.current = None;
    }

    /// How many plans were made.
    pub(crate) fn plans_made(&self) -> usize {
        self.planned + self.measuring.plans_made()
    }

    fn plan(&mut self, key: &PlanKey) -> Result<Arc<Plan>, Error> {
        if let Some(at) = self.plans.iter().position(|(other, _)| other == key) {
            let found = self.plans.remove(at);
            let plan = found.1.clone();
            self.plans.push(found);
            return Ok(plan);
        }
        let (dims, given) = key.clone();
        let inputs = self.graph.inputs();
        let has_default = |name: &String| {
            inputs.iter().any(|&input| self.graph.name(input) == name && self.graph.operand(input.node, 0).is_some())
        };
        let request = Request {
            dims,
            wanted: self.options.wanted.clone(),
            audit: self.options.audit,
            strategy: self.options.strategy,
            precision: self.options.precision,
            given: given.into_iter().filter(has_default).collect(),
        };
        let plan = Arc::new(bind::bind(&self.graph, &request)?);
        self.planned += 1;
        if self.plans.len() >= MAX_PLANS {
            self.plans.remove(0);
        }
        self.plans.push((key.clone(), plan.clone()));
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::compile::{CompileOptions, compile_model};

    #[test]
    fn a_stream_of_sizes_keeps_a_bounded_number_of_plans() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/mnist/mnist_cnn.onnx");
        let compiled = compile_model(&model, &CompileOptions::default()).unwrap();
        let weights = ModelWeights::locate(&compiled.graph, &compiled.file, &model).unwrap();
        let mut runner = Runner::new(compiled.graph, &weights, RunOptions::default());
        let mut plan = |size: usize| {
            let key = (Bindings::from([("N".to_string(), size as i64)]), BTreeSet::from(["input".to_string()]));
            runner.plan(&key).unwrap();
            (runner.plans.len(), runner.plans_made())
        };
        (0..MAX_PLANS).for_each(|size| assert_eq!(plan(size + 1), (size + 1, size + 1)));
        assert_eq!(plan(1), (MAX_PLANS, MAX_PLANS));
        assert_eq!(plan(MAX_PLANS + 1), (MAX_PLANS, MAX_PLANS + 1));
        // The second one was used longest ago; the first is still there.
        assert_eq!(plan(1), (MAX_PLANS, MAX_PLANS + 1));
        assert_eq!(plan(2), (MAX_PLANS, MAX_PLANS + 2));
    }
}
