//! The ledger's sums: every value that a line names is summed in f64, once however many lines name it.
//!
//! Audit sums are steps like others, right behind what they sum, so that an audited tensor dies as early as it can.

use std::collections::HashMap;

use lrpc_ir::graph::Region;
use lrpc_ir::plan::KernelCall;
use lrpc_ir::{DType, Graph, Value};

use super::program::{Beside, Item, Kind, Program, SumLine, Tensor, TensorId};

/// Adds the sums of the graph's ledger to its program.
pub(super) fn add_sums(program: &mut Program, graph: &Graph) {
    let mut ranks = HashMap::new();
    for item in &program.items {
        ranks.extend(item.outputs.iter().map(|&output| (output, (item.rank.0, item.region))));
    }
    let mut sums = Sums { program, ranks, made: HashMap::new() };
    let lines = graph.ledger.iter().map(|line| SumLine {
        site: line.site.clone(),
        rule: line.rule.clone(),
        input: line.input.iter().map(|&value| sums.sum(value, false, &line.site)).collect(),
        output: line.output.iter().map(|&value| sums.sum(value, false, &line.site)).collect(),
        scale: line.input.iter().chain(&line.output).map(|&value| sums.sum(value, true, &line.site)).collect(),
        absorbed: line.absorbed.iter().map(|&(kind, value)| (kind, sums.sum(value, false, &line.site))).collect(),
    });
    let lines: Vec<SumLine> = lines.collect();
    program.ledger = lines;
}

struct Sums<'a> {
    program: &'a mut Program,
    /// Places and regions of the items that write tensors.
    ranks: HashMap<TensorId, (usize, Region)>,
    made: HashMap<(TensorId, bool), TensorId>,
}

impl Sums<'_> {
    fn sum(&mut self, value: Value, absolute: bool, site: &str) -> TensorId {
        // A view has the elements of its root in the same order.
        let summed = self.program.root(self.program.values[&value]);
        if let Some(&made) = self.made.get(&(summed, absolute)) {
            return made;
        }
        let (call, word) = if absolute { (KernelCall::SumOfAbsolutes, "sum_abs") } else { (KernelCall::Sum, "sum") };
        let sum = self.program.tensors.len();
        let name = format!("{word}({})", self.program.tensors[summed].name);
        let dtype = DType::F64;
        // A forward tensor is summed in the forward region, so that an audit lets none live longer.
        let (rank, region) = self.ranks.get(&summed).copied().unwrap_or((0, Region::Forward));
        let region = region.max(Region::Forward);
        self.program.tensors.push(Tensor { name, declared: dtype, dtype, shape: Vec::new(), kind: Kind::Computed });
        self.program.items.push(Item {
            call,
            inputs: vec![summed],
            outputs: vec![sum],
            label: site.into(),
            region,
            rank: (rank, Beside::Sum),
            after: Vec::new(),
        });
        self.made.insert((summed, absolute), sum);
        sum
    }
}
