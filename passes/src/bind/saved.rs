//! What automatic differentiation saves: the tensors that the vector-Jacobian product of each operation reads.
//!
//! This is what the strategy `recompute` keeps, and what decides which node is an *arg node* of DynamicLRP (Lee & Arias
//! 2025, arXiv 2512.07010, section "The Promise System"). A row follows from the operation's derivative, in the form
//! that frameworks choose: where `f'(x)` is a function of `f(x)`, the result is saved and the operand is not.
//!
//! | operations | saved | derivative |
//! |---|---|---|
//! | contraction, convolution | operands | `∂y/∂x = W`, `∂y/∂W = x` |
//! | `mul`, `div`, `pow`, `min`, `max`, PReLU | operands | each slope is a function of the other operand, or of both |
//! | `relu`, `sigmoid`, `tanh`, `exp`, `sqrt`, `reciprocal`, `elu`, … | result | `f' = g(f)`: `1[f>0]`, `f(1−f)`, `1−f²`, `f`, `½/f`, `−f²`, … |
//! | other functions of one tensor | operand | `f'(x)` |
//! | `softmax`, `log_softmax` | result | `∂y = s ⊙ (g − Σ s·g)` |
//! | layer, RMS, group and batch norm | operands | `x`, whose two statistics come with it, and the scale |
//! | product, largest and smallest element along axes | operand, result | `y/x`; `1[x = y]` |
//! | max and average pooling | operand | the winner; autograd frameworks save the operand of an average too |
//! | `where`, `gather`, `scatter_add` | condition or index | the map itself |
//! | `add`, `sub`, `neg`, scaling, sums, means, movement, cast, cumulative sums, resizing | nothing | a constant map |
//! | step functions, comparisons, sources | nothing | no derivative |
//! | loops, conditionals | operands, results | each iteration starts from its state |
//!
//! Weights count as differentiable, as they do while a model is trained and by default afterwards.

use std::collections::BTreeSet;

use lrpc_ir::ops::{Binary, Elementwise, Function, Normalize, Pool, PoolKind, ReduceKind, Scan, Select, Source};
use lrpc_ir::{Graph, NodeId, Op, Value};

use super::rewrite;

/// What the derivative of one operation reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Saved {
    Nothing,
    /// Every operand.
    Operands,
    /// Of two operands the one whose partner is differentiable.
    Partners,
    /// The operand at this slot.
    Operand(usize),
    Result,
    OperandsAndResult,
}

/// The row of the table that holds for an operation.
fn row(op: &Op) -> Saved {
    match op {
        Op::Source(_) | Op::Promise | Op::Movement(_) | Op::Scan(Scan::CumulativeSum { .. }) => Saved::Nothing,
        Op::Scan(Scan::CumulativeProduct { .. }) => Saved::OperandsAndResult,
        Op::Elementwise(elementwise) => elementwise_row(elementwise),
        Op::Linear(_) => Saved::Operands,
        Op::Reduce(reduce) => match reduce.kind {
            ReduceKind::Sum | ReduceKind::Mean => Saved::Nothing,
            ReduceKind::Max | ReduceKind::Min | ReduceKind::Product => Saved::OperandsAndResult,
        },
        Op::Select(Select::Gather { .. } | Select::ScatterAdd { .. }) => Saved::Operand(1),
        Op::Select(_) => Saved::Nothing,
        Op::Pool(Pool::Window(PoolKind::Sum, _)) => Saved::Nothing,
        Op::Pool(Pool::Window(..) | Pool::WindowTranspose(PoolKind::Max, _)) => Saved::Operand(0),
        Op::Pool(Pool::WindowTranspose(..) | Pool::WindowArgMax(_) | Pool::Resize(_) | Pool::ResizeTranspose(_)) => {
            Saved::Nothing
        }
        Op::Normalize(Normalize::Softmax { .. } | Normalize::LogSoftmax { .. }) => Saved::Result,
        Op::Normalize(_) => Saved::Operands,
        Op::Control(_) => Saved::OperandsAndResult,
    }
}

fn elementwise_row(elementwise: &Elementwise) -> Saved {
    match elementwise {
        Elementwise::Unary(unary) => function_row(unary.function),
        Elementwise::Derivative(_) | Elementwise::Secant(_) => Saved::Operands,
        Elementwise::Binary(binary) => match binary {
            Binary::Mul => Saved::Partners,
            Binary::Div | Binary::Ratio | Binary::Weigh | Binary::Min | Binary::Max => Saved::Operands,
            Binary::Prelu | Binary::PreluSlope => Saved::Operands,
            Binary::Pow => Saved::OperandsAndResult,
            Binary::Add | Binary::Sub | Binary::Mod | Binary::Fmod => Saved::Nothing,
            Binary::And | Binary::Or | Binary::Xor | Binary::ShiftLeft | Binary::ShiftRight => Saved::Nothing,
        },
        Elementwise::Where => Saved::Operand(0),
        Elementwise::Compare(_) | Elementwise::Cast(_) | Elementwise::Narrow(_) | Elementwise::BitCast { .. } => {
            Saved::Nothing
        }
        Elementwise::Quantize | Elementwise::Dequantize => Saved::Nothing,
    }
}

fn function_row(function: Function) -> Saved {
    use Function as F;
    match function {
        F::Relu | F::Elu | F::Selu | F::Celu | F::Sigmoid | F::Tanh => Saved::Result,
        F::Exp | F::Sqrt | F::Reciprocal => Saved::Result,
        F::LeakyRelu | F::ThresholdedRelu | F::HardSigmoid | F::HardSwish | F::Swish | F::Mish => Saved::Operands,
        F::Gelu | F::GeluTanh | F::Softplus | F::Softsign | F::Erf | F::Log | F::Pow => Saved::Operands,
        F::Tan | F::Asin | F::Acos | F::Atan | F::Sinh | F::Cosh | F::Asinh | F::Acosh | F::Atanh => Saved::Operands,
        F::Shrink => Saved::Operands,
        F::Abs | F::Sin | F::Cos | F::Clip | F::Positive | F::Negative => Saved::Operands,
        F::Neg | F::Scale | F::Shift | F::Stabilise => Saved::Nothing,
        F::Sign | F::Floor | F::Ceil | F::Round | F::Stabiliser | F::Not | F::IsNan | F::StopGradient => Saved::Nothing,
    }
}

/// What a graph's automatic differentiation saves.
pub(super) struct Autograd<'a> {
    graph: &'a Graph,
    differentiable: BTreeSet<Value>,
}

impl<'a> Autograd<'a> {
    /// Finds the differentiable values: floating-point numbers that depend on an input or a weight.
    pub(super) fn new(graph: &'a Graph) -> Autograd<'a> {
        let mut differentiable = BTreeSet::new();
        for node in rewrite::topological(graph, &[]) {
            let content = graph.node(node);
            let starts = matches!(content.op, Op::Source(Source::Input(_) | Source::Weight(..)));
            if starts || graph.operands(node).iter().any(|operand| differentiable.contains(operand)) {
                let results = (0..content.types().len() as u32).map(|port| Value { node, port });
                differentiable.extend(results.filter(|&value| graph.ty(value).dtype.is_float()));
            }
        }
        Autograd { graph, differentiable }
    }

    /// Whether a derivative passes the value.
    pub(super) fn is_differentiable(&self, value: Value) -> bool {
        self.differentiable.contains(&value)
    }

    /// The values that `node` saves.
    pub(super) fn saved_by(&self, node: NodeId) -> Vec<Value> {
        let content = self.graph.node(node);
        let results: Vec<Value> = (0..content.types().len() as u32).map(|port| Value { node, port }).collect();
        if !results.iter().any(|&value| self.is_differentiable(value)) {
            return Vec::new();
        }
        let operands = self.graph.operands(node);
        match row(&content.op) {
            Saved::Nothing => Vec::new(),
            Saved::Operands => operands,
            Saved::Partners => {
                let partner = |slot: usize| operands.get(1 - slot.min(1)).is_some_and(|&v| self.is_differentiable(v));
                operands.iter().enumerate().filter(|(slot, _)| partner(*slot)).map(|(_, &value)| value).collect()
            }
            Saved::Operand(slot) => operands.get(slot).copied().into_iter().collect(),
            Saved::Result => results,
            Saved::OperandsAndResult => operands.into_iter().chain(results).collect(),
        }
    }

    /// Whether the node's result follows from what the node itself saves, without a look at other nodes.
    pub(super) fn is_retrievable(&self, node: NodeId) -> bool {
        let saved = self.saved_by(node);
        let operands = self.graph.operands(node);
        let needed = |value: &Value| self.is_differentiable(*value);
        saved.contains(&node.into())
            || operands.is_empty()
            || operands.iter().filter(|value| needed(value)).all(|value| saved.contains(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of what the forward nodes of `body` save, and of the nodes whose result follows from that.
    fn saved(body: &str) -> (Vec<String>, Vec<String>) {
        let header = "lrpc 1\nweight @w : f32[4, 4]\ninput %x : f32[4, 4]\ninput %z : f32[4, 4]\nforward\n";
        let graph = lrpc_ir::text::parse(&format!("{header}{body}result \"y\" = %y\n")).unwrap();
        let autograd = Autograd::new(&graph);
        let name = |value: Value| graph.name(value).to_string();
        let nodes = graph.order().into_iter().filter(|&node| !matches!(graph.node(node).op, Op::Source(_)));
        let nodes: Vec<NodeId> = nodes.collect();
        let mut kept: Vec<String> = nodes.iter().flat_map(|&node| autograd.saved_by(node)).map(name).collect();
        kept.sort();
        kept.dedup();
        let retrievable = nodes.into_iter().filter(|&node| autograd.is_retrievable(node));
        (kept, retrievable.map(|node| name(node.into())).collect())
    }

    fn check(body: &str, kept: &[&str], retrievable: &[&str]) {
        let found = saved(body);
        assert_eq!((found.0, found.1), (to_strings(kept), to_strings(retrievable)), "{body}");
    }

    fn to_strings(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn linear_maps_save_operands_and_sums_nothing() {
        check("  %d = dot %x, @w {contract=1x0} : f32[4, 4]\n  %y = add %d, %z : f32[4, 4]\n", &["w", "x"], &["d"]);
    }

    #[test]
    fn activations_save_their_result_or_their_operand() {
        check("  %a = relu %x : f32[4, 4]\n  %y = gelu %a : f32[4, 4]\n", &["a"], &["a", "y"]);
        check("  %a = neg %x : f32[4, 4]\n  %y = tanh %a : f32[4, 4]\n", &["y"], &["y"]);
        check("  %a = neg %x : f32[4, 4]\n  %y = softmax %a {axis=1} : f32[4, 4]\n", &["y"], &["y"]);
    }

    #[test]
    fn a_product_with_a_literal_saves_the_literal_alone() {
        check("  %c = const 2 : f32[4, 4]\n  %y = mul %x, %c : f32[4, 4]\n", &["c"], &[]);
        check("  %y = mul %x, %z : f32[4, 4]\n", &["x", "z"], &["y"]);
    }
}
