//! Which composites made a graph, and which rule each operation got from which entry.

/// A composite that the graph was generated with, as the file states it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CompositeUse {
    /// Name and parameters: `epsilon(eps=1e-6)`.
    pub rules: String,
    /// `relevance` or `coefficient`.
    pub carrier: String,
    /// Why the compiler chose it, where nobody named it.
    pub because: Option<String>,
}

/// An entry of a composite that chose rules in this graph.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntryUse {
    /// The composite whose file holds it, and its place there, from 1: `epsilon-plus 1`.
    pub name: String,
    /// What it says: `op=conv class=linear → ZPlus`.
    pub text: String,
}

/// Which rule serves an operation, and why.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RuleChoice {
    /// The ONNX name of the operation, behind composite and target as in the ledger.
    pub site: String,
    /// The operation's word.
    pub op: String,
    /// What was chosen.
    pub chosen: Chosen,
}

/// What an operation got.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Chosen {
    /// A rule, by the entry of that name.
    Rule {
        /// The rule.
        rule: String,
        /// The name of the entry among [`crate::Graph::entries`].
        entry: String,
    },
    /// Nothing flows through it, for this reason.
    Nothing(String),
}
