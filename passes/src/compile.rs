//! From an imported forward graph to the relevance graph.

use std::collections::{HashMap, HashSet};

use lrpc_ir::graph::{Graph, GraphResult, Value};
use lrpc_ir::ops::{Linear, Op};
use lrpc_ir::{Diagnostic, Diagnostics, TensorType};

use crate::attention;
use crate::canonicalise;
use crate::embedding::embeddings;
use crate::manager::{self, Context, PassDef, Patch, Refusal};
use crate::relevance::active::active_values;
use crate::relevance::composite::{Composite, SeedKind};
use crate::relevance::condition::Condition;
use crate::relevance::site::Carrier;
use crate::relevance::target::Target;
use crate::relevance::{self, Application, Request, Survey, seed};

/// What to compile.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The composites; empty means the default for the graph (docs/rule-book.md section 6).
    pub composites: Vec<Composite>,
    /// The targets as text; empty means the largest element of each row of the first floating-point output.
    pub targets: Vec<String>,
    /// The tensors to explain; empty means every floating-point input and every embedding.
    pub wrt: Vec<Value>,
    /// Intermediate tensors that a pattern found. They change nothing of what rules see: those that canonicalisation makes
    /// part of something else, or that do not depend on the tensors to explain, are left out. Where `wrt` is empty, they are
    /// returned in place of what it stands for.
    pub parts: Vec<Value>,
    /// Weights whose relevance is asked for. Where `wrt` is empty, they are returned in place of what it stands for.
    pub weights: Vec<Value>,
    /// The conditions, each with results of its own.
    pub conditions: Vec<Condition>,
    /// A carrier that replaces the composites'.
    pub carrier: Option<Carrier>,
    /// Whether seeds are 1 instead of the output's value.
    pub unit_seed: bool,
    /// Whether every model output is a result although a target names one.
    pub all_outputs: bool,
    /// Whether the verifier runs after every pass, as it does in debug builds.
    pub verify: bool,
}

/// What compiling did.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The composites by signature.
    pub composites: Vec<String>,
    /// Whether the composite was chosen here rather than named.
    pub chosen: Option<String>,
    /// Which rule served which operation.
    pub applications: Vec<Application>,
    /// The patches that fired.
    pub patches: Vec<Patch>,
    /// The near misses.
    pub refusals: Vec<Refusal>,
    /// Entries of a user's own composites that chose no rule.
    pub warnings: Vec<Diagnostic>,
    /// Names of the tensors among [`Options::parts`] that are left out.
    pub left_out: Vec<String>,
    /// For each condition, which axes of which tensors it masks.
    pub masks: Vec<String>,
    /// Whether the results of all composites are gradients, or other coefficients, rather than relevance.
    pub is_gradient: bool,
}

/// The marker that `observe` gets after the rules have been applied.
pub const APPLY_RULES: PassDef = PassDef { name: "apply_rules", doc: "makes the relevance region", run: |_, _| Ok(()) };

/// Compiles `graph`, whose results are the model's outputs (`output/NAME`). `observe` sees it after every pass.
///
/// # Errors
/// Targets and tensors that do not exist or do not fit, and all operations without a rule.
pub fn compile(
    graph: &mut Graph,
    options: &Options,
    observe: &mut dyn FnMut(&PassDef, &Graph),
) -> Result<Report, Diagnostics> {
    let Canonical { request, chosen, left_out, mut context } = canonical(graph, options, observe)?;
    let apart = kept_apart(graph, &request, &context);
    let masks = request.conditions.iter().map(|condition| condition.describe(graph)).collect::<Result<_, _>>()?;
    let Survey { applications, warnings: found, .. } = relevance::generate(graph, &request)?;
    // A file that is given twice has the same faults.
    let mut warnings: Vec<Diagnostic> = Vec::new();
    found.into_iter().chain(apart).for_each(|one| {
        if !warnings.contains(&one) {
            warnings.push(one);
        }
    });
    relevance::write_choices(graph, &applications);
    if let (Some((_, why)), [composite]) = (&chosen, &mut graph.composites[..]) {
        composite.because = Some(why.to_string());
    }
    manager::check(graph, APPLY_RULES.name, options.verify)?;
    observe(&APPLY_RULES, graph);
    manager::run(graph, canonicalise::AFTER_RULES, &mut context, options.verify, observe)?;
    // Whatever is written or run has passed the verifier, in every build.
    manager::check(graph, "compile", true)?;
    Ok(Report {
        composites: request.composites.iter().map(Composite::signature).collect(),
        chosen: chosen.map(|(name, why)| format!("{name}: {why}")),
        applications,
        patches: context.patches,
        refusals: context.refusals,
        warnings,
        left_out,
        masks,
        is_gradient: request.composites.iter().all(Composite::gives_gradient),
    })
}

/// Compiles `graph`, whose results are the model's outputs (`output/NAME`), for its outputs alone: it is canonicalised as
/// [`compile`] does it, and no rule is asked for. The model may have inputs and outputs of any type. `observe` sees the
/// graph after every pass.
///
/// # Errors
/// A graph that is not valid.
pub fn forward(
    graph: &mut Graph,
    verify: bool,
    observe: &mut dyn FnMut(&PassDef, &Graph),
) -> Result<Report, Diagnostics> {
    manager::check(graph, "import", verify)?;
    let pinned = graph.results.iter().map(|result| result.value).collect();
    let mut context = Context { pinned, ..Context::default() };
    manager::run(graph, canonicalise::PIPELINE, &mut context, verify, observe)?;
    manager::check(graph, "compile", true)?;
    Ok(Report { patches: context.patches, refusals: context.refusals, ..Report::default() })
}

/// Canonicalises `graph` and asks the composites for their rules, without generating anything.
///
/// # Errors
/// As [`compile`], but operations without a rule, which are part of the survey.
pub fn survey(graph: &mut Graph, options: &Options) -> Result<Survey, Diagnostics> {
    let Canonical { request, .. } = canonical(graph, options, &mut |_, _| ())?;
    relevance::survey(graph, &request)
}

/// A warning for each tensor that is asked for between a linear map and what would else be merged into it.
fn kept_apart(graph: &Graph, request: &Request, context: &Context) -> Vec<Diagnostic> {
    let asked = |value: &&Value| {
        let conditions = request.conditions.iter().flat_map(Condition::tensors);
        request.wrt.iter().copied().chain(conditions).any(|tensor| tensor == **value)
    };
    let warning = |&value: &Value| {
        let name = graph.name(value);
        Diagnostic::request(format!("`{name}` is asked for, so what follows it is not merged into its linear map"))
            .help("rules see two operations there: other tensors' relevance is not what it is without it; name the tensor behind")
    };
    context.kept_apart.iter().filter(asked).map(warning).collect()
}

/// What rules are applied to, and with which.
struct Canonical {
    request: Request,
    /// The default composite's name, and why it was chosen.
    chosen: Option<(&'static str, &'static str)>,
    left_out: Vec<String>,
    context: Context,
}

fn canonical(
    graph: &mut Graph,
    options: &Options,
    observe: &mut dyn FnMut(&PassDef, &Graph),
) -> Result<Canonical, Diagnostics> {
    manager::check(graph, "import", options.verify)?;
    let asked = Asked::of(graph, options)?;
    let mut targets = targets_of(graph, options)?;
    let outputs: HashSet<Value> = graph.results.iter().map(|result| result.value).collect();
    let mut context = Context { pinned: asked.pinned().chain(outputs).collect(), ..Context::default() };
    manager::run(graph, canonicalise::PIPELINE, &mut context, options.verify, observe)?;
    let (asked, left_out) = asked.without_lost_parts(graph)?;
    let (composites, chosen) = match options.composites.is_empty() {
        true => {
            let (name, why) = default_composite(graph);
            (vec![Composite::named(name)?], Some((name, why)))
        }
        false => (options.composites.clone(), None),
    };
    seed::explain_rows(graph, &mut targets)?;
    if !options.targets.is_empty() && !options.all_outputs {
        let named: HashSet<String> = targets.iter().flat_map(Target::explained).collect();
        graph.results.retain(|result| named.contains(&result.name));
    }
    let everything =
        std::mem::replace(&mut context.pinned, asked.pinned().chain(asked.parts.iter().copied()).collect());
    manager::run(graph, canonicalise::FOR_TARGETS, &mut context, options.verify, observe)?;
    context.pinned = everything;
    let (carrier, unit_seed) = (options.carrier, options.unit_seed);
    let Found { wrt, silent, between, weights, conditions } = asked.still_there(graph)?;
    let request = Request { composites, targets, conditions, wrt, silent, between, weights, carrier, unit_seed };
    Ok(Canonical { request, chosen, left_out, context })
}

/// What is asked for, and the names by which it is found again once passes have changed the graph.
struct Asked {
    wrt: Vec<Value>,
    /// Whether nobody has named the tensors, so that one that nothing depends on may be left out.
    by_default: bool,
    parts: Vec<Value>,
    silent: HashSet<Value>,
    weights: Vec<Value>,
    conditions: Vec<Condition>,
    names: HashMap<Value, (String, TensorType)>,
}

/// What was asked for, by the values of the graph as it is now.
struct Found {
    wrt: Vec<Value>,
    silent: HashSet<Value>,
    between: Vec<Value>,
    weights: Vec<Value>,
    conditions: Vec<Condition>,
}

impl Asked {
    fn of(graph: &Graph, options: &Options) -> Result<Asked, Diagnostic> {
        let mut wrt = options.wrt.clone();
        let mut silent = HashSet::new();
        let by_default = wrt.is_empty();
        if by_default {
            wrt = default_tensors(graph)?;
            // What else is asked for is walked past on the way to them.
            let alone = options.weights.is_empty() && options.parts.is_empty();
            silent = wrt.iter().copied().filter(|_| !alone).collect();
        }
        let masked = options.conditions.iter().flat_map(Condition::tensors);
        let all = wrt.iter().chain(&options.parts).chain(&options.weights).copied().chain(masked);
        let names = all.map(|value| (value, (graph.name(value).to_string(), graph.ty(value).clone()))).collect();
        let (parts, weights, conditions) = (options.parts.clone(), options.weights.clone(), options.conditions.clone());
        Ok(Asked { wrt, by_default, parts, silent, weights, conditions, names })
    }

    /// What no pass may change. Weights are found again wherever they went.
    fn pinned(&self) -> impl Iterator<Item = Value> {
        self.wrt.iter().copied().chain(self.conditions.iter().flat_map(Condition::tensors))
    }

    /// The value that `value` was before passes ran, if the graph still computes it.
    fn find(&self, graph: &Graph, value: Value) -> Option<Value> {
        let (name, ty) = self.names.get(&value)?;
        graph.find(name).filter(|&found| graph.ty(found) == ty)
    }

    /// With only those parts that the graph still computes and that depend on the tensors; the names of the others.
    fn without_lost_parts(mut self, graph: &Graph) -> Result<(Asked, Vec<String>), Diagnostic> {
        if self.parts.is_empty() {
            return Ok((self, Vec::new()));
        }
        let sources: Vec<Value> = self.wrt.iter().filter_map(|&value| self.find(graph, value)).collect();
        let active = active_values(graph, &graph.order(), &sources);
        let mut left_out = Vec::new();
        let mut parts: Vec<Value> = Vec::new();
        for part in std::mem::take(&mut self.parts) {
            match self.find(graph, part).filter(|found| active.contains(found)) {
                Some(found) if parts.contains(&found) || (sources.contains(&found) && self.silent.is_empty()) => {}
                Some(found) => parts.push(found),
                None => left_out.extend(self.names.get(&part).map(|(name, _)| name.clone())),
            }
        }
        if parts.is_empty() && !self.silent.is_empty() && self.weights.is_empty() {
            let message = format!("no relevance arrives at {} alone", left_out.join(", "));
            return Err(
                Diagnostic::request(message).help("name one of them in full, without `*` and `?`, to keep it apart")
            );
        }
        // An input that a pattern finds is no longer silent.
        self.silent.retain(|value| !parts.contains(value));
        parts.retain(|value| !sources.contains(value));
        let names = parts.iter().map(|&value| (value, (graph.name(value).to_string(), graph.ty(value).clone())));
        self.names.extend(names.collect::<Vec<_>>());
        self.parts = parts;
        Ok((self, left_out))
    }

    /// Everything by the values that it has now.
    fn still_there(&self, graph: &Graph) -> Result<Found, Diagnostic> {
        let find = |value: Value| {
            self.find(graph, value).ok_or_else(|| {
                let name = self.names.get(&value).map_or("it", |(name, _)| name);
                Diagnostic::request(format!("`{name}`: nothing that is explained depends on it"))
                    .help("name another --target, or leave it out of --wrt and --condition")
            })
        };
        let found = |values: &[Value]| values.iter().map(|&value| find(value)).collect::<Result<Vec<Value>, _>>();
        let conditions = self.conditions.iter().map(|condition| condition.map_tensors(find));
        let conditions = conditions.collect::<Result<Vec<_>, _>>()?;
        let silent = self.silent.iter().filter_map(|&value| self.find(graph, value)).collect();
        let wrt = match self.by_default {
            true => self.wrt.iter().filter_map(|&value| self.find(graph, value)).collect(),
            false => found(&self.wrt)?,
        };
        let weights = found(&self.weights)?;
        let between = found(&self.parts)?;
        Ok(Found { wrt, silent, between, weights, conditions })
    }
}

fn output_name(result: &GraphResult) -> &str {
    result.name.strip_prefix("output/").unwrap_or(&result.name)
}

/// Every floating-point input and every embedding.
///
/// # Errors
/// The model has neither.
pub fn default_tensors(graph: &Graph) -> Result<Vec<Value>, Diagnostic> {
    let inputs = graph.inputs();
    let mut tensors: Vec<Value> = inputs.iter().copied().filter(|&value| graph.ty(value).dtype.is_float()).collect();
    tensors.extend(embeddings(graph).into_iter().map(|embedding| embedding.output));
    if tensors.is_empty() {
        return Err(Diagnostic::request("the model has no floating-point input and no embedding")
            .help("name the tensors to explain with --wrt, or compile the outputs alone with --forward"));
    }
    Ok(tensors)
}

fn targets_of(graph: &Graph, options: &Options) -> Result<Vec<Target>, Diagnostics> {
    let texts = &options.targets;
    let outputs: Vec<&GraphResult> = graph.results.iter().filter(|r| r.name.starts_with("output/")).collect();
    let names: Vec<&str> = outputs.iter().map(|result| output_name(result)).collect();
    if !texts.is_empty() {
        let read = texts.iter().map(|text| Target::parse(text, &names));
        return Ok(read.collect::<Result<Vec<_>, _>>()?.concat());
    }
    if options.composites.iter().any(|composite| composite.seed == SeedKind::Reconstruction) {
        return Ok(vec![reconstruction_of(graph, &outputs)?]);
    }
    let first = outputs.iter().find(|result| graph.ty(result.value).dtype.is_float());
    match first {
        Some(result) => Ok(vec![Target::default_of(output_name(result))]),
        None => Err(Diagnostic::new("the model has no floating-point output")
            .help("compile its outputs alone with --forward")
            .into()),
    }
}

/// The reconstruction error of the first output that has the type of an input.
fn reconstruction_of(graph: &Graph, outputs: &[&GraphResult]) -> Result<Target, Diagnostic> {
    let inputs = graph.inputs();
    let fits = |output: &&GraphResult| {
        let ty = graph.ty(output.value);
        let input = inputs.iter().find(|&&input| ty.dtype.is_float() && graph.ty(input) == ty)?;
        Some(Target::reconstruction(output_name(output), graph.name(*input)))
    };
    outputs.iter().find_map(fits).ok_or_else(|| {
        Diagnostic::request("no output has the type of an input, so that there is no reconstruction error")
            .help("name what is to be explained with --target")
    })
}

/// `attnlrp` where a softmax stands between two contractions of activations, `epsilon-plus-flat` where something
/// convolves, else `epsilon`; and why.
fn default_composite(graph: &Graph) -> (&'static str, &'static str) {
    let convolves = any(graph, &|op| matches!(op, Op::Linear(Linear::Conv(_) | Linear::ConvTranspose(_))));
    if attention::attentions(graph).iter().any(|attention| attention.scores.is_some()) {
        ("attnlrp", "the model weighs activations by a softmax of their products")
    } else if convolves {
        ("epsilon-plus-flat", "the model convolves")
    } else {
        ("epsilon", "the model neither attends nor convolves")
    }
}

/// Whether `test` holds for an operation of the graph, or of one that is nested in it.
fn any(graph: &Graph, test: &dyn Fn(&Op) -> bool) -> bool {
    let holds = |op: &Op| match op {
        Op::Control(control) => control.bodies().into_iter().any(|(_, body)| any(body, test)),
        op => test(op),
    };
    graph.order().iter().any(|&node| holds(&graph.node(node).op))
}
