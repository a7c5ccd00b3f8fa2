//! Findings about a model or a request: the user's side of errors. They are collected and reported all at once.

use std::fmt;

/// Whose side a finding is on, which decides the exit status of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiagnosticKind {
    /// The model or an input is at fault.
    #[default]
    Model,
    /// The request does not fit the model: a target, a tensor or a size that it does not have.
    Request,
    /// An operation has no rule.
    NoRule,
    /// The compiler is at fault.
    Bug,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whose side it is on.
    pub kind: DiagnosticKind,
    /// What is wrong.
    pub message: String,
    /// The ONNX node or value that it is about.
    pub node: Option<String>,
    /// Which flag or rule settles it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A finding about the whole model.
    pub fn new(message: impl Into<String>) -> Diagnostic {
        Diagnostic { kind: DiagnosticKind::Model, message: message.into(), node: None, help: None }
    }

    /// A finding about what was asked for.
    pub fn request(message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(message).of_kind(DiagnosticKind::Request)
    }

    /// The finding, on another side.
    pub fn of_kind(mut self, kind: DiagnosticKind) -> Diagnostic {
        self.kind = kind;
        self
    }

    /// The finding, about a node.
    pub fn at(mut self, node: impl Into<String>) -> Diagnostic {
        self.node = Some(node.into());
        self
    }

    /// The finding, with the way out.
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(node) = &self.node {
            write!(f, " (at {node})")?;
        }
        if let Some(help) = &self.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

impl From<crate::graph::GraphError> for Diagnostic {
    fn from(error: crate::graph::GraphError) -> Diagnostic {
        Diagnostic::new(error.to_string())
    }
}

impl From<crate::dim::DimError> for Diagnostic {
    fn from(error: crate::dim::DimError) -> Diagnostic {
        Diagnostic::new(error.to_string())
    }
}

/// Several findings, never none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Diagnostics {
        Diagnostics(vec![diagnostic])
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            write!(f, "{}{diagnostic}", if index > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}
