//! The relevance pass: rules turn the forward region into the relevance region.
//!
//! The pass walks the forward region once, against its order, over the nodes between the seed and the requested
//! tensors. What arrives at a value from several uses is summed; every value on the way has exactly one relevance. Where a
//! condition masks a value, only what its mask lets pass goes on.

pub(crate) mod active;
pub mod builder;
mod choose;
pub mod composite;
pub mod condition;
mod filter;
mod nested;
pub mod roles;
pub mod sampling;
pub mod seed;
pub mod selective;
pub mod selector;
pub mod site;
pub mod stabiliser;
pub mod support;
pub mod target;
mod unmatched;
mod walk;
pub(crate) mod weights;

use std::collections::{HashMap, HashSet};

use lrpc_ir::graph::{Chosen, CompositeUse, EntryUse, Graph, GraphResult, RuleChoice, Value};
use lrpc_ir::{Diagnostic, Diagnostics};

use crate::nested::drop_unused;
use crate::rules::shares::nonnegative_values;
use composite::Composite;
use condition::Condition;
use sampling::{Explained, Samples, Sampling};
use selector::Subject;
use site::Carrier;
use target::Target;
use walk::Walk;
use weights::Weights;

/// What is to be explained, and how.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The composites, each with results of its own.
    pub composites: Vec<Composite>,
    /// The targets, each with results of its own.
    pub targets: Vec<Target>,
    /// The conditions, each with results of its own; none means one result without any.
    pub conditions: Vec<Condition>,
    /// The tensors that relevance flows to.
    pub wrt: Vec<Value>,
    /// Those of them that are only walked to and are no results.
    pub silent: HashSet<Value>,
    /// Tensors on the way whose relevance is a result too; unlike `wrt` they make nothing active.
    pub between: Vec<Value>,
    /// The requested weights, each a second view of the relevance of the layers that it belongs to.
    pub weights: Vec<Value>,
    /// A carrier that replaces the composites'.
    pub carrier: Option<Carrier>,
    /// What seeds hold where `R` travels: the output itself (`R = y`), or 1.
    pub unit_seed: bool,
}

/// Which rule served which operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// The composite.
    pub composite: String,
    /// The forward operation's ONNX name.
    pub site: String,
    /// The operation's word in the text format.
    pub op: String,
    /// Its relevance class.
    pub class: &'static str,
    /// The rule; where nothing flows, the reason.
    pub rule: Result<String, String>,
    /// The entry that chose the rule.
    pub entry: Option<EntryUse>,
    /// Composite and target, where there are several: `epsilon.t0`.
    pub part: String,
}

/// What composites have for the operations between targets and requested tensors.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// The operations that a rule serves, and those that nothing flows through.
    pub applications: Vec<Application>,
    /// The operations without a rule, by their word in the text format and their relevance class.
    pub missing: Vec<Missing>,
    /// Entries of a user's own composites that chose nothing.
    pub warnings: Vec<Diagnostic>,
    /// What a user's own entries are compared with.
    subjects: Vec<Subject>,
}

impl Survey {
    /// The application at `place` has nothing to pass on: a rule behind it sends nothing its way.
    fn cut_off(&mut self, place: usize) {
        if let Some(application) = self.applications.get_mut(place) {
            application.rule = Err("nothing arrives".into());
            application.entry = None;
        }
    }
}

/// An operation without a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The operation's word in the text format.
    pub op: String,
    /// Its relevance class.
    pub class: &'static str,
    /// What is wrong and what settles it.
    pub finding: Diagnostic,
}

/// Asks every composite for its rules without generating anything.
///
/// # Errors
/// Targets that the graph does not have, and such that do not depend on the requested tensors.
pub fn survey(graph: &Graph, request: &Request) -> Result<Survey, Diagnostics> {
    let order = graph.order();
    let mut survey = Survey::default();
    for composite in request.composites.iter().filter(|composite| composite.applies_rules()) {
        let mut subjects = Vec::new();
        for target in &request.targets {
            let names: Vec<String> = target.explained().collect();
            let is_explained = |result: &&GraphResult| names.contains(&result.name);
            let explained: Vec<Value> = graph.results.iter().filter(is_explained).map(|result| result.value).collect();
            let walk = Walk {
                composite,
                carrier: request.carrier.unwrap_or(composite.carrier),
                order: &order,
                nonnegative: &HashSet::new(),
                request,
                wrt: &request.wrt,
                weights: &Weights::default(),
                masks: &HashMap::new(),
                parts: Vec::new(),
            };
            let (_, found) = walk.choose(graph, &explained)?;
            survey.applications.extend(found.applications);
            survey.missing.extend(found.missing);
            subjects.extend(found.subjects);
        }
        survey.warnings.extend(composite.unmatched(&subjects));
        survey.warnings.extend(without_first_layer(composite, &survey.applications));
    }
    Ok(survey)
}

/// A warning where a composite that comes with the program has a rule for the first layer, and none is one.
fn without_first_layer(composite: &Composite, applications: &[Application]) -> Option<Diagnostic> {
    let entries = composite.entries();
    let first = entries.iter().find(|entry| entry.selects.contains("role=first"))?;
    let of_first = |one: &&Application| one.composite == composite.name;
    let mut texts = applications.iter().filter(of_first).filter_map(|one| one.entry.as_ref());
    if composite.has_own_entries() || texts.any(|entry| entry.text.contains("role=first")) {
        return None;
    }
    let message = format!("`{}` has the rule {} for the first layer, and it is not used", composite.name, first.rule);
    Some(Diagnostic::request(message).help(
        "no linear map reads what is explained: something is computed in between; select the map by its name in a \
         composite of your own (docs/composites.md)",
    ))
}

/// Generates the relevance region of `graph`, its results and its ledger, and says which rules it applied.
///
/// # Errors
/// All operations that lie on the way and have no rule, at once; targets that do not fit; requested tensors that the
/// target does not depend on.
pub fn generate(graph: &mut Graph, request: &Request) -> Result<Survey, Diagnostics> {
    check_views(request)?;
    nested::add_tapes(graph).map_err(Diagnostic::from)?;
    let mut targets = request.targets.clone();
    let rows = seed::explain_rows(graph, &mut targets)?;
    let explained: Vec<String> = targets.iter().flat_map(Target::explained).collect();
    let explained = graph.results.iter().filter(|result| explained.contains(&result.name));
    let explained: Vec<Value> = explained.map(|result| result.value).collect();
    let mut samples = Samples::insert(graph, request, &explained)?;
    let read = samples.read(&request.wrt);
    let order = graph.order();
    let nonnegative = nonnegative_values(graph, &order);
    let weights = Weights::of(graph, &order, &request.weights);
    let mut promises = HashMap::new();
    let mut survey = Survey::default();
    // Composites share one index input per target and condition.
    let seeds = numbered(&targets, 't', "target", |target, prefix, input| target.build(graph, prefix, input))?;
    let mut masks = numbered(&request.conditions, 'c', "condition", |condition, prefix, input| {
        condition.build(graph, prefix, input)
    })?;
    if masks.is_empty() {
        masks.push((None, HashMap::new()));
    }
    graph.conditions = request.conditions.iter().map(|condition| condition.text.clone()).collect();
    for (place, composite) in request.composites.iter().enumerate() {
        let earlier = request.composites[..place].iter().filter(|other| other.name == composite.name).count();
        let label = if earlier == 0 { composite.name.clone() } else { format!("{}.{earlier}", composite.name) };
        let label = Some(label).filter(|_| request.composites.len() > 1);
        let carrier = request.carrier.unwrap_or(composite.carrier);
        let mut subjects = Vec::new();
        for (target, seed) in &seeds {
            let mut served = Survey::default();
            for (condition, masks) in &masks {
                let parts = [&label, target, condition].into_iter().flatten().cloned().collect();
                let nonnegative = &nonnegative;
                let (order, weights) = (&order[..], &weights);
                let wrt = &read[..];
                let walk = Walk { composite, carrier, order, nonnegative, request, wrt, weights, masks, parts };
                let before = graph.results.len();
                if composite.applies_rules() {
                    served = walk.run(graph, &mut promises, seed)?;
                }
                let explained = Explained { parts: &walk.parts, seed, before };
                samples.contribute(graph, &mut promises, place, &explained)?;
            }
            // Conditions change no rule.
            let part: Vec<&str> = [&label, target].into_iter().flatten().map(String::as_str).collect();
            let part = part.join(".");
            let applications = served.applications.into_iter();
            survey.applications.extend(applications.map(|one| Application { part: part.clone(), ..one }));
            subjects.extend(served.subjects);
        }
        survey.warnings.extend(composite.unmatched(&subjects));
        if composite.applies_rules() {
            survey.warnings.extend(without_first_layer(composite, &survey.applications));
        }
        let carrier = carrier.name().to_string();
        graph.composites.push(CompositeUse { rules: composite.signature(), carrier, because: None });
    }
    samples.finish(graph);
    graph.results.retain(|result| !rows.contains(&result.name));
    graph.remove_dead();
    drop_unused(graph).map_err(Diagnostic::from)?;
    Ok(survey)
}

/// Writes into `graph` which rule each operation got, and from which entry.
pub fn write_choices(graph: &mut Graph, applications: &[Application]) {
    let mut names: HashMap<&EntryUse, String> = HashMap::new();
    let mut taken: HashSet<String> = HashSet::new();
    for one in applications {
        let site = if one.part.is_empty() { one.site.clone() } else { format!("{} {}", one.part, one.site) };
        let chosen = match (&one.rule, &one.entry) {
            (Ok(rule), Some(entry)) => {
                let name = names.entry(entry).or_insert_with(|| {
                    let mut name = entry.name.clone();
                    // Two files may call their composite the same.
                    while !taken.insert(name.clone()) {
                        name.push('\'');
                    }
                    graph.entries.push(EntryUse { name: name.clone(), text: entry.text.clone() });
                    name
                });
                Chosen::Rule { rule: rule.clone(), entry: name.clone() }
            }
            (Ok(_), None) => continue,
            (Err(reason), _) => Chosen::Nothing(reason.clone()),
        };
        graph.choices.push(RuleChoice { site, op: one.op.clone(), chosen });
    }
}

/// # Errors
/// Conditions, weights and intermediate tensors under composites that give relevance to the tensors to explain alone.
fn check_views(request: &Request) -> Result<(), Diagnostic> {
    let Request { conditions, between, weights, .. } = request;
    let views = [
        ("conditions", conditions.iter().any(|condition| condition.tensors().next().is_some())),
        ("patterns of tensors", !between.is_empty()),
        ("weights", !weights.is_empty()),
    ];
    let alone = |composite: &&Composite| composite.sampling.is_some_and(|sampling| sampling != Sampling::Noise);
    let Some(composite) = request.composites.iter().find(alone) else { return Ok(()) };
    match views.iter().find(|(_, asked)| *asked) {
        Some((view, _)) => {
            let message =
                format!("`{}` gives relevance to the tensors to explain alone: it knows no {view}", composite.name);
            Err(Diagnostic::request(message).help("choose a composite of rules, or compile a graph for each"))
        }
        None => Ok(()),
    }
}

/// What is built for each item, with the item's label (`t0`, `t1`, …) where there are several. `build` gets the prefix of
/// the names that it makes, and the name of its index input.
fn numbered<T, U>(
    items: &[T],
    letter: char,
    input: &str,
    mut build: impl FnMut(&T, &str, &str) -> Result<U, Diagnostic>,
) -> Result<Vec<(Option<String>, U)>, Diagnostic> {
    let labelled = items.iter().enumerate().map(|(number, item)| match items.len() {
        1 => Ok((None, build(item, "", input)?)),
        _ => {
            let label = format!("{letter}{number}");
            let built = build(item, &format!("{label}."), &format!("{input}.{label}"))?;
            Ok((Some(label), built))
        }
    });
    labelled.collect()
}
