//! What can go wrong while a plan is prepared or run.

use lrpc_ir::DType;
use thiserror::Error;

/// A failure with the place where it happened.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("{kind}{}", self.place())]
pub struct RunError {
    /// What went wrong.
    pub kind: RunErrorKind,
    /// ONNX name of the operation, where one step is to blame.
    pub step: Option<String>,
    /// Type and shape of the step's operands: `f32[1, 3, 8, 8]`.
    pub operands: Vec<String>,
}

/// The kinds of failure.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum RunErrorKind {
    /// An input is missing, unknown, of the wrong type or shape, or holds NaN.
    #[error("input `{name}`: {reason}")]
    Input {
        /// The ONNX input's name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A weight cannot be read.
    #[error("weight `{name}`: {reason}")]
    Weight {
        /// The initializer's name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A number that is not finite came up.
    #[error("{what} in `{value}`")]
    Numeric {
        /// `NaN` or `infinity`.
        what: &'static str,
        /// The value of the graph that holds it.
        value: String,
    },
    /// What the caller or the model gives is not finite, and so is what was made of it.
    #[error("{given} `{name}` holds {what}")]
    NotFinite {
        /// `input`, `weight` or `constant`.
        given: &'static str,
        /// Its name.
        name: String,
        /// `NaN` or `infinity`.
        what: &'static str,
    },
    /// An index outside of the axis it points into.
    #[error("index {index} is outside of an axis of length {size}")]
    Index {
        /// The index.
        index: i64,
        /// The axis length.
        size: usize,
    },
    /// More memory than the limit allows, found before anything was allocated.
    #[error("needs {needed} bytes of memory, {limit} are allowed; raise the limit or make the batch smaller")]
    Memory {
        /// Bytes of arena, prepared memory and weights.
        needed: u64,
        /// The limit.
        limit: u64,
    },
    /// The machine has no more memory.
    #[error("needs {needed} bytes of memory, which the machine does not have; make the batch smaller")]
    OutOfMemory {
        /// Bytes of arena, prepared memory and weights.
        needed: u64,
    },
    /// No kernel for the call.
    #[error("the cpu backend has no kernel for {call}")]
    Unsupported {
        /// The operation and its types.
        call: String,
    },
    /// The plan contradicts itself: a bug of the compiler.
    #[error("the plan is inconsistent: {0}")]
    Plan(String),
    /// The thread pool could not be started.
    #[error("cannot start {threads} threads: {reason}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the system says.
        reason: String,
    },
}

impl RunError {
    fn place(&self) -> String {
        match &self.step {
            None => String::new(),
            Some(step) if self.operands.is_empty() => format!(", at `{step}`"),
            Some(step) => format!(", at `{step}` ({})", self.operands.join(", ")),
        }
    }
}

impl From<RunErrorKind> for RunError {
    fn from(kind: RunErrorKind) -> RunError {
        RunError { kind, step: None, operands: Vec::new() }
    }
}

impl RunErrorKind {
    /// A plan that contradicts itself.
    pub(crate) fn plan(reason: impl Into<String>) -> RunErrorKind {
        RunErrorKind::Plan(reason.into())
    }

    /// An operation that no kernel serves for this element type.
    pub(crate) fn dtype(call: &str, dtype: DType) -> RunErrorKind {
        RunErrorKind::Unsupported { call: format!("{call} of {dtype}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_place() {
        let error = RunError {
            kind: RunErrorKind::Index { index: 9, size: 4 },
            step: Some("/emb/Gather".into()),
            operands: vec!["f32[4, 2]".into(), "i64[1]".into()],
        };
        let text = "index 9 is outside of an axis of length 4, at `/emb/Gather` (f32[4, 2], i64[1])";
        assert_eq!(error.to_string(), text);
    }
}
