//! What can go wrong at the front door, and the exit status that each kind has.

use std::io;
use std::path::{Path, PathBuf};

use lrpc_ir::{Diagnostic, DiagnosticKind, Diagnostics};
use lrpc_kernels::{RunError, RunErrorKind};

use crate::data::DataError;
use crate::onnx::{Finding, ImportError};

/// Exit statuses of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// All is well.
    Good = 0,
    /// The answer is a finding: coverage below 100 %, an audit that does not close.
    Finding = 1,
    /// The command line, or what it asks of the model, is wrong.
    Usage = 2,
    /// The model or an input is rejected.
    Rejected = 3,
    /// An operation has no rule or no kernel.
    Unsupported = 4,
    /// A number is NaN or infinite.
    Numeric = 5,
    /// A limit is reached: memory, space on the disk.
    Limit = 6,
    /// The device that was asked for is not there.
    Device = 7,
    /// The program is at fault.
    Bug = 70,
}

/// Why a graph file is refused.
#[derive(Debug, thiserror::Error)]
pub enum GraphFileError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The text is not in the format.
    #[error("{0}")]
    Parse(#[from] lrpc_ir::text::ParseError),
    /// The graph breaks an invariant.
    #[error("the graph is not valid: {0}")]
    Invalid(#[from] lrpc_ir::verify::VerifyError),
    /// The file is a model.
    #[error(
        "this is an ONNX model; compile it first: lrpc compile MODEL --output GRAPH, with --forward for its outputs alone"
    )]
    IsModel,
    /// The graph has weights and does not say of which model.
    #[error("the graph names no model; give one with --model PATH")]
    NoModel,
    /// The model is not where the graph file says.
    #[error("its model is not at {}; if it was moved, name it with --model PATH", model.display())]
    ModelMissing {
        /// Where it should be.
        model: PathBuf,
    },
    /// The model is another one.
    #[error(
        "the graph was compiled from another model than {}: {difference}; compile it again, or name the right model \
         with --model",
        model.display()
    )]
    OtherModel {
        /// The model that was found.
        model: PathBuf,
        /// What differs.
        difference: String,
    },
    /// The model has no weight of that name, type and shape.
    #[error("weight `{name}` of the graph is not in {}: {difference}", model.display())]
    Weight {
        /// The weight.
        name: String,
        /// The model.
        model: PathBuf,
        /// What differs.
        difference: String,
    },
}

/// Whatever the front door returns.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model cannot be imported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// Findings about a model or a request, all at once.
    #[error(transparent)]
    Findings(#[from] Diagnostics),
    /// The graph file is refused.
    #[error("{}: {reason}", path.display())]
    GraphFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: GraphFileError,
    },
    /// A tensor, an image or an output file.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Preparing or running a plan failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// An input holds NaN.
    #[error("input `{name}` holds NaN at {index:?}")]
    NotANumber {
        /// The ONNX input's name.
        name: String,
        /// Position along each axis.
        index: Vec<usize>,
    },
    /// The device is not there.
    #[error("device `{name}`: {reason}")]
    Device {
        /// As it was asked for.
        name: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// Standard output cannot be written to.
    #[error("standard output: {0}")]
    Output(io::Error),
    /// A heatmap cannot be drawn.
    #[error(transparent)]
    Heatmap(#[from] crate::render::HeatmapError),
}

impl From<Diagnostic> for Error {
    fn from(diagnostic: Diagnostic) -> Error {
        Error::Findings(diagnostic.into())
    }
}

impl Error {
    /// The exit status of the error.
    pub fn status(&self) -> Status {
        match self {
            Error::Import(ImportError::File(error)) => model_status(&error.reason),
            Error::Import(ImportError::Graph { findings, .. }) if findings.all_unsupported() => Status::Unsupported,
            Error::Import(ImportError::Graph { .. }) => Status::Rejected,
            Error::Findings(findings) => findings_status(findings),
            Error::Heatmap(crate::render::HeatmapError::Percentile(_)) => Status::Usage,
            Error::GraphFile { .. } | Error::Heatmap(_) => Status::Rejected,
            Error::Data(error) => data_status(error),
            Error::Run(error) => run_status(&error.kind),
            Error::NotANumber { .. } => Status::Numeric,
            Error::Device { .. } => Status::Device,
            Error::Output(error) => write_status(error),
        }
    }

    /// The error as findings: one for each thing that is wrong.
    pub fn findings(&self) -> Vec<Diagnostic> {
        match self {
            Error::Findings(findings) => findings.0.clone(),
            Error::Import(ImportError::Graph { file, findings }) => {
                let all = findings.diagnostics().0.into_iter().zip(&findings.0);
                grouped(all.collect(), file)
            }
            other => vec![Diagnostic::new(other.to_string())],
        }
    }
}

/// One finding for all that say the same, with their number and the first node.
fn grouped(findings: Vec<(Diagnostic, &Finding)>, file: &Path) -> Vec<Diagnostic> {
    let mut groups: Vec<(Diagnostic, &Finding, usize)> = Vec::new();
    for (diagnostic, finding) in findings {
        // Without an operator each finding is about a value of its own.
        let alike = |(known, _, _): &&mut (Diagnostic, &Finding, usize)| known.message == diagnostic.message;
        match groups.iter_mut().find(alike).filter(|_| finding.operator.is_some()) {
            Some((_, _, count)) => *count = count.saturating_add(1),
            None => groups.push((diagnostic, finding, 1)),
        }
    }
    let told = |(diagnostic, finding, count): (Diagnostic, &Finding, usize)| {
        let place = format!("{} of {}", finding.node, file.display());
        if count == 1 {
            return diagnostic.at(place);
        }
        let name = finding.operator.as_ref().map(|operator| operator.name.as_str()).unwrap_or_default();
        let message = format!("{name} ×{count}: {}", diagnostic.message);
        Diagnostic { message, ..diagnostic }.at(format!("{place}, the first"))
    };
    groups.into_iter().map(told).collect()
}

fn model_status(reason: &crate::onnx::ModelErrorReason) -> Status {
    use crate::onnx::ModelErrorReason as Reason;
    match reason {
        Reason::TooComplex { .. } => Status::Limit,
        _ => Status::Rejected,
    }
}

/// The gravest of the findings decides; what has no rule is told from what is wrong.
fn findings_status(findings: &Diagnostics) -> Status {
    let any = |kind| findings.0.iter().any(|finding| finding.kind == kind);
    if any(DiagnosticKind::Bug) {
        Status::Bug
    } else if any(DiagnosticKind::Model) {
        Status::Rejected
    } else if any(DiagnosticKind::Request) {
        Status::Usage
    } else {
        Status::Unsupported
    }
}

fn data_status(error: &DataError) -> Status {
    match error {
        DataError::Write { source, .. } => write_status(source),
        DataError::UnknownFormat { .. } | DataError::Preprocess { .. } => Status::Usage,
        DataError::Limit { .. } => Status::Limit,
        DataError::Read { .. } | DataError::Malformed { .. } => Status::Rejected,
    }
}

fn write_status(error: &io::Error) -> Status {
    use io::ErrorKind;
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Status::Limit,
        _ => Status::Usage,
    }
}

fn run_status(kind: &RunErrorKind) -> Status {
    match kind {
        RunErrorKind::Input { .. } | RunErrorKind::Weight { .. } | RunErrorKind::Index { .. } => Status::Rejected,
        RunErrorKind::Numeric { .. } | RunErrorKind::NotFinite { .. } => Status::Numeric,
        RunErrorKind::Memory { .. } | RunErrorKind::OutOfMemory { .. } | RunErrorKind::Threads { .. } => Status::Limit,
        RunErrorKind::Unsupported { .. } => Status::Unsupported,
        RunErrorKind::Plan(_) => Status::Bug,
    }
}
