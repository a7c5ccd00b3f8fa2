//! Which operations of a model have a rule.

use std::collections::BTreeMap;
use std::path::Path;

use lrpc_passes::compile::{self, Options};

use crate::compile::composites;
use crate::error::Error;
use crate::onnx::{self, FindingKind, ImportError, ImportOptions, Limits};

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
}

impl Coverage {
    /// How many operations are served, and how many there are.
    pub fn served(&self) -> (usize, usize) {
        let missing = |kind: &Kind| matches!(kind.treatment, Treatment::Missing(_));
        let count = |wanted: bool| self.kinds.iter().filter(|(kind, _)| missing(kind) == wanted).map(|(_, n)| n).sum();
        let (served, missing): (usize, usize) = (count(false), count(true));
        (served, served + missing)
    }

    fn add(&mut self, op: &str, class: &str, composite: &str, treatment: Treatment) {
        let kind = Kind { op: op.into(), class: class.into(), composite: composite.into(), treatment };
        *self.kinds.entry(kind).or_insert(0) += 1;
    }
}

/// What the composites that `rules` names (see [`crate::CompileOptions::rules`]) have for the model at `path`.
///
/// # Errors
/// A model that is refused for another reason than unsupported operators, and unknown composites.
pub fn coverage(path: &Path, rules: &[String]) -> Result<Coverage, Error> {
    let composites = composites(rules)?;
    let mut coverage = Coverage::default();
    let mut imported = match onnx::import(path, &ImportOptions { limits: Limits::default() }) {
        Ok(imported) => imported,
        Err(ImportError::Graph { findings, .. }) if findings.all_unsupported() => {
            for finding in findings.0.iter().filter(|finding| finding.kind == FindingKind::Unsupported) {
                let op = finding.operator.as_ref().map_or_else(|| finding.node.clone(), ToString::to_string);
                coverage.add(&op, "", "", Treatment::Missing(format!("not supported: {}", finding.reason)));
            }
            return Ok(coverage);
        }
        Err(error) => return Err(error.into()),
    };
    let survey = compile::survey(&mut imported.graph, &Options { composites, ..Options::default() })?;
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
