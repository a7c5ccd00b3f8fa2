//! What import finds wrong with a model's graph.

use std::fmt;
use std::path::PathBuf;

use lrpc_ir::{Diagnostic, Diagnostics, DimError, GraphError};

use crate::onnx::error::ModelError;

/// Why a model cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file is refused.
    #[error(transparent)]
    File(#[from] ModelError),
    /// The file is read, and its graph cannot be lowered. All findings are reported at once.
    #[error("{}: the graph cannot be imported\n{findings}", file.display())]
    Graph {
        /// The model file.
        file: PathBuf,
        /// At least one.
        findings: Findings,
    },
}

/// Findings in the order of the graph's nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings(pub Vec<Finding>);

/// One thing that is wrong with a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Ours or the model's limitation.
    pub kind: FindingKind,
    /// The node's name, or what it makes if it has none; the name of a value that is no node's.
    pub node: String,
    /// The operator with domain and version; `None` where no operator is concerned.
    pub operator: Option<Operator>,
    /// What is wrong, as a clause.
    pub reason: String,
}

/// An operator as a model names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Operator {
    /// The operator.
    pub name: String,
    /// Its domain; empty for `ai.onnx`.
    pub domain: String,
    /// The version of the domain that the model imports.
    pub opset: Option<i64>,
}

/// Whose limitation a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingKind {
    /// The model is valid, but the operator or a use of it is not supported.
    Unsupported,
    /// The model contradicts itself or the ONNX specification.
    Invalid,
}

impl Findings {
    /// Whether every finding is about something that is not supported, none about an invalid model.
    pub fn all_unsupported(&self) -> bool {
        self.0.iter().all(|finding| finding.kind == FindingKind::Unsupported)
    }

    /// The findings as diagnostics.
    pub fn diagnostics(&self) -> Diagnostics {
        Diagnostics(self.0.iter().map(Finding::diagnostic).collect())
    }
}

impl Finding {
    fn diagnostic(&self) -> Diagnostic {
        let operator = self.operator.as_ref().map(ToString::to_string).unwrap_or_default();
        match self.kind {
            _ if operator.is_empty() => Diagnostic::new(self.reason.clone()),
            FindingKind::Unsupported => Diagnostic::new(format!("{operator} is not supported: {}", self.reason)),
            FindingKind::Invalid => Diagnostic::new(format!("{operator} is invalid: {}", self.reason)),
        }
        .at(self.node.clone())
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domain = if self.domain.is_empty() { "ai.onnx" } else { &self.domain };
        match self.opset {
            Some(opset) => write!(f, "{domain}.{} (opset {opset})", self.name),
            None => write!(f, "{domain}.{} (domain not imported)", self.name),
        }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.diagnostics().fmt(f)
    }
}

/// Why one node is not lowered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// See [`FindingKind::Unsupported`].
    Unsupported(String),
    /// See [`FindingKind::Invalid`].
    Invalid(String),
    /// An operand's node is refused, so that nothing can be said about this one.
    Follows,
}

/// The outcome of lowering a node or a part of it.
pub(super) type Lowered<T = ()> = Result<T, Refusal>;

/// A use of an operator that is not supported.
pub(super) fn unsupported<T>(reason: impl Into<String>) -> Lowered<T> {
    Err(Refusal::Unsupported(reason.into()))
}

/// A node that the specification does not allow.
pub(super) fn invalid<T>(reason: impl Into<String>) -> Lowered<T> {
    Err(Refusal::Invalid(reason.into()))
}

impl From<GraphError> for Refusal {
    fn from(error: GraphError) -> Self {
        match error {
            GraphError::Type { reason, .. } => Self::Invalid(reason),
            other => Self::Invalid(other.to_string()),
        }
    }
}

impl From<DimError> for Refusal {
    fn from(error: DimError) -> Self {
        Self::Invalid(error.to_string())
    }
}
