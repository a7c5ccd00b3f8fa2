//! From an imported forward graph to the relevance graph.

use std::collections::HashSet;

use lrpc_ir::graph::{Graph, GraphResult, Value};
use lrpc_ir::ops::{Linear, Op};
use lrpc_ir::{Diagnostic, Diagnostics};

use crate::attention;
use crate::canonicalise;
use crate::embedding::embeddings;
use crate::manager::{self, Context, PassDef, Patch, Refusal};
use crate::relevance::composite::Composite;
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
    let Canonical { request, chosen, mut context } = canonical(graph, options, observe)?;
    let Survey { applications, warnings, .. } = relevance::generate(graph, &request)?;
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
    })
}

/// Canonicalises `graph` and asks the composites for their rules, without generating anything.
///
/// # Errors
/// As [`compile`], but operations without a rule, which are part of the survey.
pub fn survey(graph: &mut Graph, options: &Options) -> Result<Survey, Diagnostics> {
    let Canonical { request, .. } = canonical(graph, options, &mut |_, _| ())?;
    relevance::survey(graph, &request)
}

/// What rules are applied to, and with which.
struct Canonical {
    request: Request,
    /// The default composite's name, and why it was chosen.
    chosen: Option<(&'static str, &'static str)>,
    context: Context,
}

fn canonical(
    graph: &mut Graph,
    options: &Options,
    observe: &mut dyn FnMut(&PassDef, &Graph),
) -> Result<Canonical, Diagnostics> {
    manager::check(graph, "import", options.verify)?;
    let wrt = if options.wrt.is_empty() { default_tensors(graph)? } else { options.wrt.clone() };
    let mut targets = targets_of(graph, &options.targets)?;
    let outputs: HashSet<Value> = graph.results.iter().map(|result| result.value).collect();
    let mut context = Context { pinned: wrt.iter().copied().chain(outputs).collect(), ..Context::default() };
    manager::run(graph, canonicalise::PIPELINE, &mut context, options.verify, observe)?;
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
    let everything = std::mem::replace(&mut context.pinned, wrt.iter().copied().collect());
    manager::run(graph, canonicalise::FOR_TARGETS, &mut context, options.verify, observe)?;
    context.pinned = everything;
    let request = Request { composites, targets, wrt, carrier: options.carrier, unit_seed: options.unit_seed };
    Ok(Canonical { request, chosen, context })
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
            .help("name the tensors to explain with --wrt"));
    }
    Ok(tensors)
}

fn targets_of(graph: &Graph, texts: &[String]) -> Result<Vec<Target>, Diagnostics> {
    let outputs: Vec<&GraphResult> = graph.results.iter().filter(|r| r.name.starts_with("output/")).collect();
    let names: Vec<&str> = outputs.iter().map(|result| output_name(result)).collect();
    if !texts.is_empty() {
        let read = texts.iter().map(|text| Target::parse(text, &names));
        return Ok(read.collect::<Result<Vec<_>, _>>()?.concat());
    }
    let first = outputs.iter().find(|result| graph.ty(result.value).dtype.is_float());
    match first {
        Some(result) => Ok(vec![Target::default_of(output_name(result))]),
        None => Err(Diagnostic::new("the model has no floating-point output").into()),
    }
}

/// `attnlrp` where a softmax stands between two contractions of activations, `epsilon-plus-flat` where something
/// convolves, else `epsilon`; and why.
fn default_composite(graph: &Graph) -> (&'static str, &'static str) {
    let any = |test: &dyn Fn(&Op) -> bool| graph.order().iter().any(|&node| test(&graph.node(node).op));
    let convolves = any(&|op| matches!(op, Op::Linear(Linear::Conv(_) | Linear::ConvTranspose(_))));
    if attention::attentions(graph).iter().any(|attention| attention.scores.is_some()) {
        ("attnlrp", "the model weighs activations by a softmax of their products")
    } else if convolves {
        ("epsilon-plus-flat", "the model convolves")
    } else {
        ("epsilon", "the model neither attends nor convolves")
    }
}
