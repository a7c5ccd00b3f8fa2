//! Sizes that depend on data: computed from the inputs before a run is bound.
//!
//! Sizes that need no other such size are computed first, by a plan of their own slice of the graph; then those that need
//! the first ones, and so on.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lrpc_ir::graph::{GraphResult, Measure, NodeId};
use lrpc_ir::{Bindings, DType, Diagnostic, Graph};
use lrpc_kernels::Tensor;
use lrpc_passes::bind::Wanted;
use lrpc_passes::names::matches;

use crate::error::Error;
use crate::graph_file::ModelWeights;
use crate::runner::Runner;
use crate::session::RunOptions;

/// The largest size: no tensor has such an axis, and no loop ends that runs so often.
const LARGEST: i64 = 1 << 40;

/// The sizes of a graph that depend on data, with the runs that compute them.
pub(crate) struct Measuring<'w> {
    rounds: Vec<Round<'w>>,
}

/// Sizes that are computed at once.
struct Round<'w> {
    runner: Runner<'w>,
    /// Those that its part of the graph has.
    symbols: BTreeSet<String>,
    measured: Vec<Measured>,
}

/// A size.
struct Measured {
    symbol: String,
    /// What messages call it: the ONNX node that it is for, or the value.
    label: String,
}

impl<'w> Measuring<'w> {
    /// The sizes that the wanted results of `graph` depend on, and its ledger where that is audited.
    pub(crate) fn new(graph: &Graph, weights: &'w ModelWeights, options: &RunOptions) -> Measuring<'w> {
        if graph.measures.is_empty() {
            return Measuring { rounds: Vec::new() };
        }
        let mut sliced = graph.clone();
        if let Wanted::Matching(patterns) = &options.wanted {
            sliced.results.retain(|result| patterns.iter().any(|pattern| matches(pattern, &result.name)));
        }
        if !options.audit {
            sliced.ledger.clear();
        }
        sliced.remove_unused_measures();
        let of_round = by_round(&sliced);
        sliced.ledger.clear();
        sliced.repeats.clear();
        let options = RunOptions { audit: false, wanted: Wanted::All, ..options.clone() };
        let round = |measures: &Vec<Measure>| {
            let mut graph = sliced.clone();
            let result = |measure: &Measure| GraphResult { name: measure.symbol.clone(), value: measure.value };
            graph.results = measures.iter().map(result).collect();
            let label = |measure: &Measure| {
                let from = graph.node(measure.value.node).origin.from.as_deref();
                from.unwrap_or_else(|| graph.name(measure.value)).to_string()
            };
            let measured = |measure: &Measure| Measured { symbol: measure.symbol.clone(), label: label(measure) };
            let measured = measures.iter().map(measured).collect();
            // What earlier rounds have measured is given to this one.
            graph.measures.clear();
            graph.remove_dead();
            let symbols = graph.symbols();
            Round { runner: Runner::new(graph, weights, options.clone()), symbols, measured }
        };
        Measuring { rounds: of_round.iter().map(round).collect() }
    }

    /// Whether there is any.
    pub(crate) fn is_empty(&self) -> bool {
        self.rounds.is_empty()
    }

    /// `dims` with all sizes that `inputs` decide.
    ///
    /// # Errors
    /// As for any run; numbers that are no sizes, and those that differ from what `dims` has.
    pub(crate) fn measure(&mut self, inputs: &BTreeMap<String, Tensor>, dims: &Bindings) -> Result<Bindings, Error> {
        let mut known = dims.clone();
        for Round { runner, symbols, measured } in &mut self.rounds {
            let sizes = known.iter().filter(|(name, _)| symbols.contains(*name));
            let sizes = sizes.map(|(name, size)| (name.clone(), *size)).collect();
            let found = runner.run_bound(inputs, &sizes, None)?.results;
            runner.release();
            for size in measured {
                let number = found.get(&size.symbol).and_then(number).ok_or_else(|| {
                    Diagnostic::new(format!("internal error: {} has no number", size.symbol))
                        .of_kind(lrpc_ir::DiagnosticKind::Bug)
                })?;
                size.check(number, dims)?;
                known.insert(size.symbol.clone(), number);
            }
        }
        Ok(known)
    }

    /// How many plans were made.
    pub(crate) fn plans_made(&self) -> usize {
        self.rounds.iter().map(|round| round.runner.plans_made()).sum()
    }
}

impl Measured {
    fn check(&self, number: i64, given: &Bindings) -> Result<(), Diagnostic> {
        let Measured { symbol, label } = self;
        if !(0..=LARGEST).contains(&number) {
            let message = format!("the inputs make the size `{symbol}` {number}");
            return Err(Diagnostic::new(message)
                .at(label.clone())
                .help(format!("a size lies between 0 and {LARGEST}; give other inputs")));
        }
        match given.get(symbol) {
            Some(other) if *other != number => {
                let message = format!("--dim {symbol}={other}, but the inputs make it {number}");
                Err(Diagnostic::request(message).at(label.clone()).help("leave this --dim out: a run computes it"))
            }
            _ => Ok(()),
        }
    }
}

/// The lines of `graph`: first those whose values need no other, then those that need the first ones, and so on.
fn by_round(graph: &Graph) -> Vec<Vec<Measure>> {
    let mut of_symbol: BTreeMap<&str, usize> = BTreeMap::new();
    let mut of_node: HashMap<NodeId, usize> = HashMap::new();
    let mut rounds: Vec<Vec<Measure>> = Vec::new();
    // Operands come before users, and a line behind those that its value depends on.
    let mut order = graph.post_order(graph.measures.iter().map(|measure| measure.value)).into_iter();
    for measure in &graph.measures {
        while !of_node.contains_key(&measure.value.node) {
            let Some(node) = order.next() else { break };
            let mut symbols = BTreeSet::new();
            graph.symbols_of(node, &mut symbols);
            let sizes = symbols.iter().filter_map(|name| of_symbol.get(name.as_str()).map(|round| round + 1));
            let operands = graph.operands(node).into_iter().filter_map(|value| of_node.get(&value.node).copied());
            of_node.insert(node, sizes.chain(operands).max().unwrap_or(0));
        }
        let round = of_node.get(&measure.value.node).copied().unwrap_or(0);
        of_symbol.insert(&measure.symbol, round);
        rounds.resize_with(rounds.len().max(round + 1), Vec::new);
        if let Some(lines) = rounds.get_mut(round) {
            lines.push(measure.clone());
        }
    }
    rounds
}

/// The number that a scalar holds.
fn number(tensor: &Tensor) -> Option<i64> {
    match (tensor.dtype(), tensor.bytes()) {
        (DType::I64, bytes) => Some(i64::from_ne_bytes(bytes.try_into().ok()?)),
        (DType::Bool, [byte]) => Some((*byte).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_need_others_come_later() {
        let graph = lrpc_ir::text::parse(
            "lrpc 1\ndim K = %k\ndim M = %b\ndim L = %k\ninput %k : i64[]\nforward\n  %a = iota {axis=0} : i64[K]\n  \
             %b = reduce_sum %a {axes=[0]} : i64[]\n  %c = iota {axis=0} : i64[M]\n  %d = iota {axis=0} : i64[L]\n\
             result \"c\" = %c\nresult \"d\" = %d\n",
        );
        let rounds = by_round(&graph.unwrap());
        let names: Vec<Vec<&str>> =
            rounds.iter().map(|round| round.iter().map(|line| line.symbol.as_str()).collect()).collect();
        assert_eq!(names, [vec!["K", "L"], vec!["M"]]);
    }

    #[test]
    fn numbers_that_are_no_sizes_are_refused() {
        let size = Measured { symbol: "K".into(), label: "/NonZero".into() };
        assert!(size.check(0, &Bindings::new()).is_ok());
        let check = |number, given: i64| size.check(number, &Bindings::from([("K".into(), given)]));
        assert!(check(3, 3).is_ok());
        assert_eq!(check(3, 4).unwrap_err().message, "--dim K=4, but the inputs make it 3");
        for wrong in [-1, i64::MIN, i64::MAX] {
            let error = check(wrong, wrong).unwrap_err();
            assert_eq!(error.message, format!("the inputs make the size `K` {wrong}"));
            assert_eq!(error.node.as_deref(), Some("/NonZero"));
        }
    }
}
