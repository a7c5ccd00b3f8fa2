//! Sizes that depend on data.

use std::collections::BTreeSet;

use crate::dim::Dim;
use crate::graph::{Graph, NodeId, Value};
use crate::ops::{Op, Source};

/// A symbol whose size is computed from the inputs: how many elements are not zero, how often a loop runs.
///
/// Before a run is bound, `value` is computed from the inputs by a plan of its own, and its number is the symbol's size.
/// Lines that depend on sizes of others stand behind them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Measure {
    /// The symbol.
    pub symbol: String,
    /// Its size: `i64[]`, or `bool[]` for 0 or 1.
    pub value: Value,
}

impl Graph {
    /// The symbols in the types and the operation of a node, those of nested graphs included.
    pub fn symbols_of(&self, node: NodeId, into: &mut BTreeSet<String>) {
        let content = self.node(node);
        content.types().iter().flat_map(|ty| &ty.shape).for_each(|dim| dim.symbols(into));
        content.op.symbols(into);
    }

    /// All symbols in types and operations.
    pub fn symbols(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        self.ids().for_each(|node| self.symbols_of(node, &mut names));
        self.repeats.iter().for_each(|repeat| repeat.count.symbols(&mut names));
        names
    }

    /// The measured symbols that `roots` depend on, directly or through the sizes of others.
    pub fn measured_by(&self, roots: impl IntoIterator<Item = Value>) -> BTreeSet<String> {
        let mut used = BTreeSet::new();
        let mut needed = BTreeSet::new();
        if self.measures.is_empty() {
            return needed;
        }
        let mut seen = BTreeSet::new();
        self.visit_symbols(roots, &mut seen, &mut used);
        self.repeats.iter().for_each(|repeat| repeat.count.symbols(&mut used));
        // A line depends on earlier lines alone.
        for measure in self.measures.iter().rev() {
            if used.contains(&measure.symbol) {
                needed.insert(measure.symbol.clone());
                self.visit_symbols([measure.value], &mut seen, &mut used);
            }
        }
        needed
    }

    /// Adds the symbols of all nodes that `roots` depend on to `used`, but for nodes of `seen`.
    fn visit_symbols(
        &self,
        roots: impl IntoIterator<Item = Value>,
        seen: &mut BTreeSet<NodeId>,
        used: &mut BTreeSet<String>,
    ) {
        let mut stack: Vec<NodeId> = roots.into_iter().map(|root| root.node).collect();
        while let Some(node) = stack.pop() {
            if seen.insert(node) {
                self.symbols_of(node, used);
                stack.extend(self.operands(node).into_iter().map(|operand| operand.node));
            }
        }
    }

    /// Removes the lines of symbols that neither results nor the ledger depend on.
    pub fn remove_unused_measures(&mut self) {
        if !self.measures.is_empty() {
            let needed = self.measured_by(self.wanted());
            self.measures.retain(|measure| needed.contains(&measure.symbol));
        }
    }

    /// The axis lengths of inputs that are a symbol alone.
    pub fn input_symbols(&self) -> BTreeSet<String> {
        let inputs = self.ids().filter(|&node| matches!(self.node(node).op, Op::Source(Source::Input(_))));
        let shapes = inputs.flat_map(|node| &self.ty(node.into()).shape);
        shapes.filter_map(Dim::as_symbol).map(str::to_string).collect()
    }

    /// What breaks the order of sizes: the place of a line, and why it is wrong.
    ///
    /// # Errors
    /// A symbol that is defined twice, a value that is no integer scalar, and one that depends on
    /// a symbol of its own or a later line.
    pub fn check_measures(&self) -> Result<(), (Measure, String)> {
        let mut known = if self.measures.is_empty() { BTreeSet::new() } else { self.input_symbols() };
        // An input that the compiler made, for a seed, may have an axis whose length is measured.
        self.measures.iter().for_each(|measure| _ = known.remove(&measure.symbol));
        let mut seen = BTreeSet::new();
        for measure in &self.measures {
            let wrong = |reason: String| Err((measure.clone(), reason));
            let ty = self.ty(measure.value);
            if ty.rank() != 0 || ty.dtype.is_float() {
                return wrong(format!("a size is an integer scalar, not {ty}"));
            }
            let mut used = BTreeSet::new();
            self.visit_symbols([measure.value], &mut seen, &mut used);
            if let Some(symbol) = used.iter().find(|symbol| !known.contains(*symbol)) {
                return wrong(format!("its value depends on {symbol}, which no input and no earlier line gives"));
            }
            if !known.insert(measure.symbol.clone()) {
                return wrong(format!("{} has a size already", measure.symbol));
            }
        }
        Ok(())
    }
}
