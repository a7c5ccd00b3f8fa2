//! Where relevance is proven to be zero, from the rules that sent it.

use std::collections::HashMap;

use lrpc_ir::graph::Value;
use lrpc_ir::ops::{Binary, Elementwise, Function, Op, Pool, PoolKind, ReduceKind, Select};

use super::site::{Flow, Site};
use crate::rules::RuleDef;

/// Where the relevance of a value `a` may differ from 0, as far as that is proven; each bound implies those above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Support {
    /// Anywhere.
    Anywhere,
    /// Only where `a ≠ 0`.
    Nonzero,
    /// Only where `a > 0`.
    Positive,
}

/// What is proven of every part that was sent to a value.
#[derive(Debug, Default)]
pub(super) struct Supports {
    parts: HashMap<Value, Vec<Support>>,
}

impl Supports {
    /// Notes what is proven of one part sent to `value`.
    pub(super) fn note(&mut self, value: Value, support: Support) {
        self.parts.entry(value).or_default().push(support);
    }

    /// What is proven of the sum of the `count` parts that arrive at `value`. Nothing, if some were sent without a proof.
    pub(super) fn of_sum(&self, value: Value, count: usize) -> Support {
        let Some(parts) = self.parts.get(&value).filter(|parts| parts.len() == count) else { return Support::Anywhere };
        parts.iter().copied().min().unwrap_or(Support::Anywhere)
    }
}

/// What is proven of the relevance that `rule` sends to the operand of `site`: `flow`. `nonnegative` says whether the
/// operand is proven to hold no negative element.
pub(super) fn of_flow(site: &Site, rule: &RuleDef, flow: Flow, nonnegative: bool) -> Support {
    // R = a ⊙ t is 0 where a is.
    let product = if matches!(flow, Flow::Times(_)) { Support::Nonzero } else { Support::Anywhere };
    let carried = if rule.gives_back_unchanged() { carried(&site.op, site.support) } else { Support::Anywhere };
    match product.max(carried) {
        Support::Nonzero if nonnegative => Support::Positive,
        support => support,
    }
}

/// What is left of the output's bound where each element of R goes back, unchanged, to an element that the output's was
/// made from.
fn carried(op: &Op, output: Support) -> Support {
    match op {
        // The output is 0 wherever x ≤ 0.
        Op::Elementwise(Elementwise::Unary(unary))
            if matches!(unary.function, Function::Relu | Function::Positive) && output >= Support::Nonzero =>
        {
            Support::Positive
        }
        // The output is 0 where x is.
        Op::Elementwise(Elementwise::Unary(unary)) if unary.function.vanishes_at_zero(unary.parameters) => {
            output.min(Support::Nonzero)
        }
        _ if copies_elements(op) => output,
        _ => Support::Anywhere,
    }
}

/// Whether every element of the result is an element of an operand, or a constant.
fn copies_elements(op: &Op) -> bool {
    match op {
        Op::Movement(_) => true,
        Op::Elementwise(Elementwise::Where | Elementwise::Binary(Binary::Min | Binary::Max)) => true,
        Op::Pool(Pool::Window(PoolKind::Max, _)) | Op::Select(Select::Gather { .. }) => true,
        Op::Reduce(reduce) => matches!(reduce.kind, ReduceKind::Max | ReduceKind::Min),
        _ => false,
    }
}
