//! From a graph as text to numbers: rules, text and back, binding and execution, as the program does it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use lrpc_ir::plan::Precision;
use lrpc_ir::{Bindings, Diagnostics, Graph, text, verify};
use lrpc_kernels::{Executor, LedgerSums, LedgerTotal, Options, RunError, Tensor, WeightSource};
use lrpc_passes::relevance::composite::Composite;
use lrpc_passes::relevance::condition::Condition;
use lrpc_passes::relevance::site::Carrier;
use lrpc_passes::relevance::target::Target;
use lrpc_passes::relevance::{Request, generate};
use lrpc_passes::{bind, canonicalise, manager};
use ndarray::{ArrayD, IxDyn};

/// The numbers of inputs and weights, by name.
pub type Tensors = BTreeMap<String, ArrayD<f64>>;

/// What is explained, and how.
pub struct Explanation {
    /// Composites.
    pub composites: Vec<Composite>,
    /// Targets; none means the default of output `y`.
    pub targets: Vec<String>,
    /// Names of the values whose relevance is asked for.
    pub tensors: Vec<String>,
    /// Names of the weights whose relevance is asked for.
    pub weights: Vec<String>,
    /// Conditions, on values by their names.
    pub conditions: Vec<String>,
    /// Replaces the composites' carrier.
    pub carrier: Option<Carrier>,
    /// Whether seeds are 1.
    pub unit_seed: bool,
}

impl Explanation {
    /// The default target of output `y` under one composite.
    pub fn of(composite: Composite, tensors: &[&str]) -> Explanation {
        Explanation {
            composites: vec![composite],
            targets: Vec::new(),
            tensors: tensors.iter().map(ToString::to_string).collect(),
            weights: Vec::new(),
            conditions: Vec::new(),
            carrier: None,
            unit_seed: false,
        }
    }
}

/// What came out.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Results by name.
    pub results: BTreeMap<String, ArrayD<f64>>,
    /// The ledger's sums.
    pub ledger: Vec<LedgerSums>,
    /// What started and arrived.
    pub totals: Vec<LedgerTotal>,
}

impl Outcome {
    /// The relevance of a value.
    pub fn relevance(&self, name: &str) -> &ArrayD<f64> {
        &self.results[&format!("relevance/{name}")]
    }
}

/// A verified graph from its text behind the first line.
pub fn read(body: &str) -> Graph {
    let graph = text::parse(&format!("lrpc 1\n{body}")).unwrap_or_else(|error| panic!("{error}\n{body}"));
    verify::verify(&graph).unwrap_or_else(|error| panic!("{error}"));
    graph
}

/// The relevance graph, which has been to text and back.
pub fn explain(body: &str, explanation: &Explanation) -> Graph {
    try_explain(body, explanation).unwrap_or_else(|error| panic!("{error}\n{body}"))
}

/// As [`explain`], or why the composites do not serve the graph.
pub fn try_explain(body: &str, explanation: &Explanation) -> Result<Graph, Diagnostics> {
    let mut graph = read(body);
    let outputs: Vec<String> =
        graph.results.iter().filter_map(|result| result.name.strip_prefix("output/").map(str::to_string)).collect();
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let targets = match &explanation.targets[..] {
        [] => vec![Target::default_of("y")],
        targets => targets.iter().flat_map(|target| Target::parse(target, &outputs).unwrap()).collect(),
    };
    let find = |name: &String| graph.find(name).unwrap();
    let mut value = |name: &str| Ok(graph.find(name).unwrap());
    let conditions = explanation.conditions.iter().map(|text| Condition::parse(text, &mut value).unwrap()).collect();
    let request = Request {
        composites: explanation.composites.clone(),
        conditions,
        weights: explanation.weights.iter().map(find).collect(),
        targets,
        wrt: explanation.tensors.iter().map(find).collect(),
        carrier: explanation.carrier,
        unit_seed: explanation.unit_seed,
        ..Request::default()
    };
    generate(&mut graph, &request)?;
    let mut context = manager::Context::default();
    manager::run(&mut graph, canonicalise::AFTER_RULES, &mut context, true, &mut |_, _| ()).unwrap();
    let printed = text::print(&graph);
    let parsed = text::parse(&printed).unwrap();
    assert_eq!(parsed, graph, "{printed}");
    Ok(parsed)
}

struct Weights<'a>(&'a Tensors);

impl WeightSource for Weights<'_> {
    fn weight(&self, name: &str, _sidecar: bool) -> Result<Cow<'_, [u8]>, String> {
        let values = self.0.get(name).ok_or_else(|| format!("the test gives no {name}"))?;
        Ok(values.iter().flat_map(|&value| (value as f32).to_le_bytes()).collect::<Vec<u8>>().into())
    }
}

/// Runs a graph with its ledger. `tensors` holds weights (`f32`) and inputs (`f32` and `i64`); an input that has a default
/// is given where `tensors` names it.
pub fn run(graph: &Graph, tensors: &Tensors, precision: Precision) -> Outcome {
    run_bound(graph, tensors, bind::Request { precision, ..bind::Request::default() })
}

/// As [`run`], at these sizes of symbols.
pub fn run_sized(graph: &Graph, tensors: &Tensors, precision: Precision, dims: &Bindings) -> Outcome {
    run_bound(graph, tensors, bind::Request { precision, dims: dims.clone(), ..bind::Request::default() })
}

/// As [`run`], with promises kept in this way.
pub fn run_kept(graph: &Graph, tensors: &Tensors, precision: Precision, strategy: bind::Strategy) -> Outcome {
    run_bound(graph, tensors, bind::Request { precision, strategy, ..bind::Request::default() })
}

/// As [`run`], or why the run ended.
pub fn try_run(graph: &Graph, tensors: &Tensors, precision: Precision) -> Result<Outcome, RunError> {
    try_run_bound(graph, tensors, bind::Request { precision, ..bind::Request::default() })
}

fn run_bound(graph: &Graph, tensors: &Tensors, request: bind::Request) -> Outcome {
    try_run_bound(graph, tensors, request).unwrap_or_else(|error| panic!("{error}\n{}", text::print(graph)))
}

fn try_run_bound(graph: &Graph, tensors: &Tensors, request: bind::Request) -> Result<Outcome, RunError> {
    let given = graph.inputs().into_iter().map(|input| graph.name(input).to_string());
    let given = given.filter(|name| tensors.contains_key(name)).collect();
    let precision = request.precision;
    let request = bind::Request { audit: true, given, ..request };
    let plan = bind::bind(graph, &request).unwrap_or_else(|error| panic!("{error}\n{}", text::print(graph)));
    let weights = Weights(tensors);
    let options = Options { threads: 1, ..Options::default() };
    let mut executor = Executor::new(Arc::new(plan), &weights, options).unwrap();
    let mut inputs = BTreeMap::new();
    for input in graph.inputs() {
        let Some(values) = tensors.get(graph.name(input)) else { continue };
        let tensor = if !graph.ty(input).dtype.is_float() {
            Tensor::from_values(values.shape(), &values.iter().map(|&value| value as i64).collect::<Vec<_>>())
        } else if precision == Precision::F64 {
            Tensor::from_values(values.shape(), &values.iter().copied().collect::<Vec<f64>>())
        } else {
            Tensor::from_values(values.shape(), &values.iter().map(|&value| value as f32).collect::<Vec<_>>())
        };
        inputs.insert(graph.name(input).to_string(), tensor.unwrap());
    }
    let outcome = executor.run(&inputs, None)?;
    let array = |tensor: &Tensor| ArrayD::from_shape_vec(IxDyn(tensor.shape()), tensor.to_f64()).unwrap();
    let results = outcome.results.iter().map(|(name, tensor)| (name.clone(), array(tensor))).collect();
    Ok(Outcome { results, ledger: outcome.ledger, totals: outcome.totals })
}
