//! Which operations of a model have a rule.

use std::collections::BTreeMap;
use std::path::Path;

use lrpc_ir::{Diagnostic, DiagnosticKind, Diagnostics, Graph};
use lrpc_passes::compile::{self, Options};
use lrpc_passes::relevance::Survey;
use lrpc_passes::relevance::composite::Composite;

use crate::compile::{composites, import_model};
use crate::error::Error;
use crate::onnx::{Findings, ImportError, ImportOptions, ModelFile, Operator};

/// Operations of one kind that are treated alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// The primitive's word in the text format; domain, operator and opset where it is not supported.
    pub op: String,
    /// The relevance class; empty where the operator is not supported.
    pub class: String,
    /// The composite.
    pub composite: String,
    /// What is done.
    pub treatment: Treatment,
}

/// What is done with an operation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Treatment {
    /// No rule, or no lowering: why.
    Missing(String),
    /// This rule serves it.
    Rule(String),
    /// Nothing flows through it: why.
    Nothing(String),
}

/// The operations of a model between targets and requested tensors.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    /// How many there are of each kind.
    pub kinds: BTreeMap<Kind, usize>,
    /// The nodes of the ONNX model, where some of them have no lowering, so that rules were not asked for.
    pub model_nodes: Option<usize>,
    /// Why this is not the coverage of what was asked for.
    pub note: Option<String>,
    /// Entries of the user's own composites that chose no rule.
    pub warnings: Vec<Diagnostic>,
}

impl Coverage {
    /// How many operations pass nothing on.
    pub fn opaque(&self) -> usize {
        let is_opaque = |kind: &&Kind| matches!(kind.treatment, Treatment::Nothing(_));
        self.kinds.iter().filter(|(kind, _)| is_opaque(kind)).map(|(_, count)| count).sum()
    }

    /// How many operations are served, and how many there are; nodes of the model where some have no lowering.
    pub fn served(&self) -> (usize, usize) {
        let missing = |kind: &Kind| matches!(kind.treatment, Treatment::Missing(_));
        let count = |wanted: bool| self.kinds.iter().filter(|(kind, _)| missing(kind) == wanted).map(|(_, n)| n).sum();
        let (served, missing): (usize, usize) = (count(false), count(true));
        match self.model_nodes {
            // Nodes of subgraphs are among the missing, and not among those of the model.
            Some(nodes) => (nodes.saturating_sub(missing), nodes.max(missing)),
            None => (served, served + missing),
        }
    }

    fn add(&mut self, op: &str, class: &str, composite: &str, treatment: Treatment) {
        let kind = Kind { op: op.into(), class: class.into(), composite: composite.into(), treatment };
        *self.kinds.entry(kind).or_insert(0) += 1;
    }

    /// The operators that have no lowering.
    fn of_unsupported(path: &Path, import: &ImportOptions, findings: &Findings) -> Result<Coverage, Error> {
        let file = ModelFile::open_with(path, &import.limits, import.weights).map_err(ImportError::from)?;
        let mut coverage = Coverage { model_nodes: Some(file.graph().node.len()), ..Coverage::default() };
        let mut first: BTreeMap<(&Option<Operator>, &str), &str> = BTreeMap::new();
        for finding in &findings.0 {
            let node = *first.entry((&finding.operator, &finding.reason)).or_insert(&finding.node);
            let op = finding.operator.as_ref().map_or_else(|| finding.node.clone(), ToString::to_string);
            let reason = format!("not supported: {}; the first is {node}", finding.reason);
            coverage.add(&op, "", "", Treatment::Missing(reason));
        }
        Ok(coverage)
    }
}

/// What the composites that `rules` names (see [`crate::CompileOptions::rules`]) have for the model at `path`, imported with
/// `options`.
///
/// # Errors
/// A model that is refused for another reason than unsupported operators, and unknown composites.
pub fn coverage(path: &Path, rules: &[String], import: &ImportOptions) -> Result<Coverage, Error> {
    let composites = composites(rules)?;
    let mut coverage = Coverage::default();
    let graph = match import_model(path, import) {
        Ok(imported) => imported.graph,
        Err(Error::Import(ImportError::Graph { findings, .. })) if findings.all_unsupported() => {
            return Coverage::of_unsupported(path, import, &findings);
        }
        Err(error) => return Err(error),
    };
    let is_auto = composites.is_empty();
    let survey = |composites: Vec<Composite>| survey_outputs(&graph, &composites);
    let survey = match survey(composites) {
        Err(findings) if is_auto && findings.0.iter().all(|one| one.kind == DiagnosticKind::NoRule) => {
            coverage.note = Some(format!("--rules auto: {findings}; this is the coverage of `epsilon`"));
            survey(vec![Composite::named("epsilon")?])?
        }
        other => other?,
    };
    coverage.warnings = survey.warnings;
    for (place, treatments) in survey.places {
        treatments.into_iter().for_each(|one| coverage.add(&place.op, place.class, &place.composite, one));
    }
    Ok(coverage)
}

/// What operations of one ONNX node have in common.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    site: String,
    op: String,
    class: &'static str,
    composite: String,
}

/// What is done between the inputs and any output.
#[derive(Default)]
struct Surveyed {
    places: BTreeMap<Place, Vec<Treatment>>,
    warnings: Vec<Diagnostic>,
}

/// Asks for the rules between the inputs and each floating-point output. An operation that several outputs depend on counts
/// once.
fn survey_outputs(graph: &Graph, composites: &[Composite]) -> Result<Surveyed, Diagnostics> {
    let floats = graph.results.iter().filter(|result| graph.ty(result.value).dtype.is_float());
    let mut targets: Vec<Vec<String>> =
        floats.filter_map(|result| Some(vec![result.name.strip_prefix("output/")?.to_string()])).collect();
    if targets.len() <= 1 {
        targets = vec![Vec::new()];
    }
    let (mut all, mut refused) = (Surveyed::default(), None);
    let mut any = false;
    for targets in targets {
        let options = Options { composites: composites.to_vec(), targets, ..Options::default() };
        match compile::survey(&mut graph.clone(), &options) {
            Ok(survey) => {
                any = true;
                all.add(survey);
            }
            // An output may depend on none of the inputs; all of them cannot.
            Err(findings) => refused = refused.or(Some(findings)),
        }
    }
    match refused {
        Some(findings) if !any => Err(findings),
        _ => Ok(all),
    }
}

impl Surveyed {
    fn add(&mut self, survey: Survey) {
        let mut own: BTreeMap<Place, Vec<Treatment>> = BTreeMap::new();
        for one in survey.applications {
            let place = Place { site: one.site, op: one.op, class: one.class, composite: one.composite };
            own.entry(place).or_default().push(one.rule.map_or_else(Treatment::Nothing, Treatment::Rule));
        }
        for one in survey.missing {
            let site = one.finding.node.clone().unwrap_or_default();
            let place = Place { site, op: one.op, class: one.class, composite: String::new() };
            own.entry(place).or_default().push(Treatment::Missing(one.finding.message));
        }
        for (place, mut treatments) in own {
            treatments.sort();
            let known = self.places.entry(place).or_default();
            // What passes nothing on from one output may serve another.
            known.iter_mut().zip(&treatments).for_each(|(known, own)| *known = own.clone().min(known.clone()));
            known.extend(treatments.into_iter().skip(known.len()));
        }
        let new = survey.warnings.into_iter().filter(|one| !self.warnings.contains(one)).collect::<Vec<_>>();
        self.warnings.extend(new);
    }
}
