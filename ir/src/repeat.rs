//! What a graph is run for several times.

use crate::dim::Dim;

/// Results that are sums over several runs of the graph.
///
/// The graph is run once with every step at its default, −1, which gives all other results. Then it is run with this step
/// at 0, 1, …, `count − 1`, where inputs with a default keep what they had in the first run, and the results that are
/// named here are summed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Repeat {
    /// The name of the input that holds the step: `i64`, a scalar or one number for each sample.
    pub step: String,
    /// How often the graph is run.
    pub count: Dim,
    /// The names of the results that are summed.
    pub results: Vec<String>,
}
