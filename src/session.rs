//! Running a relevance graph: inputs are bound, a plan is made or found again, and the executor runs it.

use std::collections::{BTreeMap, BTreeSet};

use lrpc_ir::graph::{GraphResult, Region};
use lrpc_ir::ops::{Binary, Elementwise, Op};
use lrpc_ir::plan::Precision;
use lrpc_ir::{Bindings, DType, Graph, NodeId};
use lrpc_kernels::{LedgerSums, LedgerTotal, Progress};
use lrpc_passes::bind::{Strategy, Wanted};
use lrpc_passes::embedding::embeddings;

use crate::convert::to_data;
use crate::data;
use crate::error::Error;
use crate::graph_file::ModelWeights;
use crate::inputs::{SeedIndex, bind_inputs};
use crate::repeat::{Repeated, take_held, take_repeated};
use crate::runner::Runner;

/// Prefix of the results that are added to report what starts at the outputs.
const SEED: &str = "seed/";
/// Prefix of the results that are added to report what embeddings are indexed with.
const TOKEN_IDS: &str = "token_ids/";

/// The last part of the names of results that tell by how much a sum over steps is incomplete.
const COMPLETENESS: &str = "completeness";

/// How graphs are run.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Floating-point type of computation.
    pub precision: Precision,
    /// Whether the ledger is summed.
    pub audit: bool,
    /// How promises are kept.
    pub strategy: Strategy,
    /// Which results are returned.
    pub wanted: Wanted,
    /// Whether what embeddings are indexed with is returned too.
    pub token_ids: bool,
    /// Number of threads; 0 means one per core.
    pub threads: usize,
    /// The most bytes that arena, prepared memory and weights may take.
    pub memory_limit: Option<u64>,
    /// How many steps of a repeated run are taken at once, where the graph allows it; by default as many as eight samples
    /// make.
    pub steps_at_once: Option<usize>,
}

/// What starts at an output.
#[derive(Debug, Clone, PartialEq)]
pub struct SeedTotal {
    /// The value's name in the graph: `R.logits`, or a coefficient's.
    pub name: String,
    /// Whether it is a coefficient and no relevance.
    pub is_coefficient: bool,
    /// The sum of its elements.
    pub sum: f64,
}

/// What a run gives.
#[derive(Debug, Clone)]
pub struct RunOutcome {
    /// Results by name: `output/…`, `relevance/…`.
    pub results: BTreeMap<String, data::Tensor>,
    /// What started.
    pub seeds: Vec<SeedTotal>,
    /// What arrived at each requested tensor: the sum of the result's elements.
    pub arrived: BTreeMap<String, f64>,
    /// By how much relevance that should sum to a difference of outputs misses it, by name of the result that tells: the
    /// farthest miss of a sample.
    pub completeness: BTreeMap<String, f64>,
    /// The ledger; empty without audit.
    pub ledger: Vec<LedgerSums>,
    /// The ledger's totals, one for each composite and target; empty without audit.
    pub totals: Vec<LedgerTotal>,
    /// What each embedding is indexed with, by the name of its output; empty unless it was asked for.
    pub token_ids: BTreeMap<String, data::Tensor>,
    /// The sizes of symbols, those that the inputs decide included.
    pub dims: Bindings,
    /// What was converted on the way in, in words.
    pub notes: Vec<String>,
}

/// A graph that is run again and again. Plans are kept by sizes, so that the second run of a shape plans nothing; memory
/// for tensors is there for one plan at a time.
pub struct Session<'w> {
    graph: Graph,
    keep_f64: bool,
    seeds: Vec<(String, bool)>,
    relevance: BTreeSet<String>,
    /// The element types of outputs that the model declares in half precision.
    declared: BTreeMap<String, DType>,
    /// The run that gives all results but those that are sums over steps.
    runner: Runner<'w>,
    repeated: Vec<Repeated<'w>>,
}

impl<'w> Session<'w> {
    /// A session over `graph`.
    pub fn new(graph: &Graph, weights: &'w ModelWeights, options: RunOptions) -> Session<'w> {
        let (whole, mut graph, mut options) = (graph.clone(), graph.clone(), options);
        let relevance = relevance_results(&graph);
        let repeated = take_repeated(&mut graph, weights, &mut options);
        let seeds = add_seed_results(&mut graph);
        let has_ids = options.token_ids && add_token_ids(&mut graph);
        if let Wanted::Matching(patterns) = &mut options.wanted {
            patterns.push(format!("{SEED}*"));
            // A pattern that nothing fits is an error.
            patterns.extend(has_ids.then(|| format!("{TOKEN_IDS}*")));
        }
        let keep_f64 = options.precision == Precision::F64;
        let runner = Runner::new(graph, weights, options);
        let declared = if keep_f64 { BTreeMap::new() } else { half_outputs(&whole) };
        Session { graph: whole, keep_f64, seeds, relevance, declared, runner, repeated }
    }

    /// Runs the graph on `inputs` by ONNX name. `dims` are sizes of symbols that no input tells; `progress` is called
    /// before each step.
    ///
    /// # Errors
    /// Inputs that do not fit, sizes for which the graph has no meaning, limits, and numbers that are not finite.
    pub fn run(
        &mut self,
        inputs: &BTreeMap<String, data::Tensor>,
        indices: &[SeedIndex],
        dims: &Bindings,
        mut progress: Option<&mut (dyn FnMut(Progress<'_>) + Send)>,
    ) -> Result<RunOutcome, Error> {
        let bound = bind_inputs(&self.graph, inputs, indices, dims, self.keep_f64)?;
        let measured = self.runner.measure(&bound.tensors, &bound.dims)?;
        let mut outcome =
            self.runner.run_bound(&bound.tensors, &measured, progress.as_mut().map(|call| &mut **call as _))?;
        let held = take_held(&mut outcome.results);
        let mut completeness = BTreeMap::new();
        for repeated in &mut self.repeated {
            self.runner.release();
            let call = progress.as_mut().map(|call| &mut **call as _);
            let sums = repeated.run(&bound.tensors, &held, &bound.dims, call)?;
            completeness.extend(sums.iter().filter_map(|(name, tensor)| Some((name.clone(), farthest(name, tensor)?))));
            outcome.results.extend(sums);
        }
        let mut seeds = Vec::new();
        for (name, is_coefficient) in &self.seeds {
            if let Some(tensor) = outcome.results.remove(&format!("{SEED}{name}")) {
                let sum = total(&tensor.to_f64());
                seeds.push(SeedTotal { name: name.clone(), is_coefficient: *is_coefficient, sum });
            }
        }
        let relevance = outcome.results.iter().filter(|(name, _)| self.relevance.contains(*name));
        let arrived = relevance.map(|(name, tensor)| (name.clone(), total(&tensor.to_f64()))).collect();
        let (mut results, mut token_ids) = (BTreeMap::new(), BTreeMap::new());
        for (name, tensor) in &outcome.results {
            let declared = self.declared.get(name).copied().unwrap_or(tensor.dtype());
            let tensor = to_data(tensor, declared).map_err(|error| {
                Error::from(lrpc_ir::Diagnostic::new(format!("{name}: {error}")).of_kind(lrpc_ir::DiagnosticKind::Bug))
            })?;
            match name.strip_prefix(TOKEN_IDS) {
                Some(name) => token_ids.insert(name.to_string(), tensor),
                None => results.insert(name.clone(), tensor),
            };
        }
        let (ledger, totals, dims, notes) = (outcome.ledger, outcome.totals, measured, bound.notes);
        Ok(RunOutcome { results, seeds, arrived, completeness, ledger, totals, token_ids, dims, notes })
    }

    /// How many plans were made so far: one for each combination of sizes and given inputs, unless more of them came
    /// than are kept.
    pub fn plans_made(&self) -> usize {
        self.runner.plans_made() + self.repeated.iter().map(Repeated::plans_made).sum::<usize>()
    }
}

/// The largest magnitude in a result that is a miss of completeness; `None` for other results.
fn farthest(name: &str, tensor: &lrpc_kernels::Tensor) -> Option<f64> {
    let tells = name == COMPLETENESS || name.strip_suffix(COMPLETENESS).is_some_and(|path| path.ends_with('/'));
    tells.then(|| tensor.to_f64().into_iter().fold(0.0, |most: f64, miss| most.max(miss.abs())))
}

/// The sum; that of nothing is zero, where [`Iterator::sum`] gives −0.
fn total(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |sum, value| sum + value)
}

/// The outputs that the model declares in half precision, which is stored widened while a plan runs.
fn half_outputs(graph: &Graph) -> BTreeMap<String, DType> {
    let outputs = graph.results.iter().filter(|result| result.name.starts_with("output/"));
    let typed = outputs.map(|result| (result.name.clone(), graph.ty(result.value).dtype));
    typed.filter(|(_, dtype)| matches!(dtype, DType::F16 | DType::Bf16)).collect()
}

/// Names of the results that are relevance or a coefficient: `relevance/x`, or behind the names of composite and
/// target. An output of the model may be called `relevance` too, but it is no value of the relevance region.
fn relevance_results(graph: &Graph) -> BTreeSet<String> {
    let is_relevance = |result: &&GraphResult| {
        let named = result.name.starts_with("relevance/") || result.name.contains("/relevance/");
        let made = graph.node(result.value.node).region == Region::Relevance;
        named && (made || !result.name.starts_with("output/"))
    };
    graph.results.iter().filter(is_relevance).map(|result| result.name.clone()).collect()
}

/// Adds the values that start at the outputs to the results; their names, and whether they are coefficients.
fn add_seed_results(graph: &mut Graph) -> Vec<(String, bool)> {
    let by_seed = |graph: &Graph, node: NodeId| graph.node(node).origin.by.as_deref() == Some("seed");
    let starts_here = |graph: &Graph, node: NodeId| {
        let used = graph.users(node.into());
        let passed_on = used.is_empty() || used.iter().any(|&(user, _)| !by_seed(graph, user));
        graph.node(node).region == Region::Relevance && graph.ty(node.into()).dtype.is_float() && passed_on
    };
    let order = graph.order();
    let starts: Vec<NodeId> =
        order.into_iter().filter(|&node| by_seed(graph, node) && starts_here(graph, node)).collect();
    let unit = graph.composites.iter().all(|composite| composite.carrier == "relevance");
    let mut seeds = Vec::new();
    for node in starts {
        if matches!(graph.node(node).op, Op::Promise) {
            continue;
        }
        // Where a coefficient starts, the ledger of the output's own operation may hold the relevance that it stands for.
        let weighed = if is_weigh(graph, node) { Some(node) } else { relevance_of_coefficient(graph, node) };
        let start = weighed.unwrap_or(node);
        let name = graph.name(start.into()).to_string();
        graph.results.push(GraphResult { name: format!("{SEED}{name}"), value: start.into() });
        seeds.push((name, weighed.is_none() && !unit));
    }
    seeds
}

/// Adds what embeddings are indexed with to the results; whether there is any.
fn add_token_ids(graph: &mut Graph) -> bool {
    let embeddings = embeddings(graph);
    for embedding in &embeddings {
        let name = format!("{TOKEN_IDS}{}", graph.name(embedding.output));
        graph.results.push(GraphResult { name, value: embedding.index });
    }
    !embeddings.is_empty()
}

fn is_weigh(graph: &Graph, node: NodeId) -> bool {
    matches!(graph.node(node).op, Op::Elementwise(Elementwise::Binary(Binary::Weigh)))
}

/// The node that makes `R = y ⊙ g` of the coefficient `g` at the model output `y`, if there is one.
fn relevance_of_coefficient(graph: &Graph, g: NodeId) -> Option<NodeId> {
    let is_output = |node: NodeId| {
        let promised = graph.operand(node, 0).filter(|_| matches!(graph.node(node).op, Op::Promise));
        graph.results.iter().any(|result| Some(result.value) == promised && result.name.starts_with("output/"))
    };
    let mut users = graph.users(g.into()).into_iter().map(|(user, _)| user);
    // Those of the seed itself start something of their own.
    let by_rule = |node: NodeId| graph.node(node).origin.by.as_deref() != Some("seed");
    users.find(|&user| {
        by_rule(user) && is_weigh(graph, user) && graph.operand(user, 0).is_some_and(|y| is_output(y.node))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::compile::{CompileOptions, compile_model};

    fn digits(count: usize) -> BTreeMap<String, data::Tensor> {
        let pixels: Vec<f32> = (0..count * 784).map(|at| (at % 7) as f32 / 7.0).collect();
        BTreeMap::from([("input".into(), data::Tensor::from_slice(&[count, 1, 28, 28], &pixels).unwrap())])
    }

    #[test]
    fn the_second_run_of_a_shape_plans_nothing() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/mnist/mnist_cnn.onnx");
        let compiled = compile_model(&model, &CompileOptions::default()).unwrap();
        let weights = ModelWeights::locate(&compiled.graph, &compiled.file, &model).unwrap();
        let mut session = Session::new(&compiled.graph, &weights, RunOptions::default());
        let mut run = |count: usize| {
            let outcome = session.run(&digits(count), &[], &Bindings::new(), None).unwrap();
            (outcome, session.plans_made())
        };
        let (first, plans) = run(1);
        assert_eq!((plans, run(2).1, run(3).1), (1, 2, 3));
        assert_eq!((run(1).1, run(3).1, run(2).1), (3, 3, 3));
        let (again, _) = run(1);
        assert_eq!(first.results, again.results);
        assert!(!first.results.keys().any(|name| name.starts_with(SEED)));
        assert_eq!(first.seeds.len(), 1);
        assert!(first.seeds.iter().all(|seed| seed.name == "R.logits" && !seed.is_coefficient));
    }

    #[test]
    fn an_output_called_relevance_is_none() {
        let results = ["output/relevance", "output/a/relevance/b"].map(|name| format!("result {name:?} = %y\n"));
        let relevance = ["relevance/x", "output/relevance/x"].map(|name| format!("result {name:?} = %r\n"));
        let graph = lrpc_ir::text::parse(&format!(
            "lrpc 1\ninput %x : f32[2]\nforward\n  %y = relu %x : f32[2]\n\
             relevance\n  %r = promise %y : f32[2]\n{}{}",
            results.concat(),
            relevance.concat()
        ));
        let found = relevance_results(&graph.unwrap());
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["output/relevance/x", "relevance/x"]);
    }

    #[test]
    fn nothing_sums_to_zero() {
        assert!(total(&[]).is_sign_positive() && total(&[1.0, 2.0]) == 3.0);
    }

    #[test]
    fn coefficients_are_told_from_relevance() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/mnist/mnist_cnn.onnx");
        let rules = vec!["epsilon".into(), "gradient".into()];
        let compiled = compile_model(&model, &CompileOptions { rules, ..CompileOptions::default() }).unwrap();
        let weights = ModelWeights::locate(&compiled.graph, &compiled.file, &model).unwrap();
        let mut session = Session::new(&compiled.graph, &weights, RunOptions::default());
        let outcome = session.run(&digits(3), &[], &Bindings::new(), None).unwrap();
        let coefficients: Vec<f64> =
            outcome.seeds.iter().filter(|seed| seed.is_coefficient).map(|seed| seed.sum).collect();
        assert_eq!(coefficients, [3.0], "one for each row: {:?}", outcome.seeds);
        assert_eq!(outcome.arrived.keys().collect::<Vec<_>>(), ["epsilon/relevance/input", "gradient/relevance/input"]);
    }
}
