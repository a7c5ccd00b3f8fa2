//! What a graph tells of its conservation.

use crate::graph::Value;

/// Why relevance does not reach an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Absorbed {
    /// Taken by a bias or another added constant.
    Bias,
    /// Taken by the stabiliser in a denominator, or lost where a denominator is 0.
    Stabiliser,
    /// Kept or made by the rule itself, by its definition.
    Rule,
}

impl Absorbed {
    /// The word in the text format.
    pub fn name(self) -> &'static str {
        match self {
            Absorbed::Bias => "bias",
            Absorbed::Stabiliser => "stabiliser",
            Absorbed::Rule => "rule",
        }
    }
}

/// One application of a rule: `Σ input = Σ outputs + Σ absorbed`, each sum over all elements of the named values. Behind
/// the lines of one composite and target stands one under the name of [`LedgerLine::TOTAL`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LedgerLine {
    /// The ONNX name of the operation.
    pub site: String,
    /// The rule.
    pub rule: String,
    /// Relevance that came in.
    pub input: Vec<Value>,
    /// Relevance that went to the active operands.
    pub output: Vec<Value>,
    /// What was absorbed, each term from the rule's formula.
    pub absorbed: Vec<(Absorbed, Value)>,
}

impl LedgerLine {
    /// What stands in the rule's place on a line that closes the ones before it, back to the last of its kind: `input` is
    /// what started at the explained outputs, `output` what arrived at requested tensors and went no further. What is
    /// between the two is what those lines absorbed.
    pub const TOTAL: &str = "Total";

    /// Whether the line closes others.
    pub fn is_total(&self) -> bool {
        self.rule == LedgerLine::TOTAL
    }
}
