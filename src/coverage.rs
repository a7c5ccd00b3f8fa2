//! Which operations of a model have a rule.

use std::collections::BTreeMap;
use std::path::Path;

use lrpc_ir::{Diagnostic, DiagnosticKind};
use lrpc_passes::compile::{self, Options};
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

/// What the composites that `rules` names (see [`crate::CompileOptions::rules`]) have for the model at `path`.
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
    let survey = |composites| compile::survey(&mut graph.clone(), &Options { composites, ..Options::default() });
    let survey = match survey(composites) {
        Err(findings) if is_auto && findings.0.iter().all(|one| one.kind == DiagnosticKind::NoRule) => {
            coverage.note = Some(format!("--rules auto: {findings}; this is the coverage of `epsilon`"));
            survey(vec![Composite::named("epsilon")?])?
        }
        other => other?,
    };
    coverage.warnings = survey.warnings;
    for one in survey.applications {
        let treatment = match one.rule {
            Ok(rule) => Treatment::Rule(rule),
            Err(reason) => Treatment::Nothing(reason),
        };
        coverage.add(&one.op, one.class, &one.composite, treatment);
    }
    for one in survey.missing {
        coverage.add(&one.op, one.class, "", Treatment::Missing(one.finding.message));
    }
    Ok(coverage)
}
