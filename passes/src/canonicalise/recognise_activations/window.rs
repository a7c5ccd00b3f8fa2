//! Cuts the window around an anchor out of the graph: one tensor, the leaf, and what pointwise operations make of it with
//! scalar constants.
//!
//! Every candidate for the activation is one value, the root, whose operands are all inside of the window: a tree over
//! the leaf, in which the same number may be used twice. Nothing is ever chosen between two spellings of a value that
//! others use as well, which is what makes extraction from residual graphs wrong.

use std::collections::{BTreeSet, HashMap};

use lrpc_ir::ops::source::LiteralValues;
use lrpc_ir::ops::{Binary, Elementwise, Function, Movement, Op, Source};
use lrpc_ir::types::DType;
use lrpc_ir::{Graph, NodeId, Value};

use super::language::named;

/// The most nodes of a window: a bound on work. The longest spelling of an activation has about twenty.
pub(super) const MOST_NODES: usize = 100;
/// The most leaves that are tried for one anchor: each is one step further from it.
const MOST_LEAVES: usize = 8;

/// Where every node stands in the order of the graph.
pub(super) type Places = HashMap<NodeId, usize>;

/// A leaf and the functions of it that an anchor has part in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Window {
    /// The tensor that all depends on.
    pub leaf: Value,
    /// What is computed from it, operands before users; the leaf is not among them.
    pub nodes: Vec<Value>,
    /// Which of these are computed from the anchor, innermost first.
    pub roots: Vec<Value>,
}

/// The windows around `anchor`, from the nearest leaf to the farthest.
pub(super) fn around(graph: &Graph, places: &Places, anchor: Value) -> Vec<Window> {
    leaves(graph, places, anchor).into_iter().filter_map(|leaf| window(graph, places, anchor, leaf)).collect()
}

/// Whether `other` is a function of a tensor that `anchor` is a function of.
pub(super) fn share_leaf(graph: &Graph, places: &Places, anchor: Value, other: Value) -> bool {
    leaves(graph, places, anchor).into_iter().any(|leaf| cone(graph, leaf, other, &BTreeSet::new()).is_some())
}

/// The values that `anchor` is a function of alone, nearest first.
fn leaves(graph: &Graph, places: &Places, anchor: Value) -> Vec<Value> {
    let place = |value: Value| places.get(&value.node).copied().unwrap_or_default();
    let mut leaves = Vec::new();
    let mut open: BTreeSet<(usize, Value)> = BTreeSet::new();
    let mut next = Some(anchor);
    let mut steps = 0;
    while let Some(value) = next {
        let Some(operands) = operands(graph, value) else { break };
        open.extend(operands.into_iter().map(|operand| (place(operand), operand)));
        steps += 1;
        if steps > MOST_NODES || leaves.len() >= MOST_LEAVES {
            break;
        }
        // The latest of what is open: everything else may still be an ancestor of it.
        next = open.pop_last().map(|(_, value)| value);
        if let (Some(value), true) = (next, open.is_empty()) {
            leaves.push(value);
        }
    }
    leaves
}

/// What `anchor` takes part in computing from `leaf`; `None` where that is a single operation or nothing.
fn window(graph: &Graph, places: &Places, anchor: Value, leaf: Value) -> Option<Window> {
    let place = |value: Value| (places.get(&value.node).copied().unwrap_or_default(), value);
    let mut inside = cone(graph, leaf, anchor, &BTreeSet::new())?;
    let mut roots = Vec::new();
    let mut open = BTreeSet::from([place(anchor)]);
    while let Some((_, root)) = open.pop_first() {
        let Some(made) = cone(graph, leaf, root, &inside) else { continue };
        if inside.len() + made.len() > MOST_NODES {
            break;
        }
        inside.extend(made);
        roots.push(root);
        open.extend(graph.users(root).into_iter().map(|(user, _)| place(user.into())));
    }
    let mut nodes: Vec<Value> = inside.into_iter().collect();
    nodes.sort_by_key(|&value| place(value));
    (nodes.len() > 1).then_some(Window { leaf, nodes, roots })
}

/// `root` and what lies between it and `leaf`, besides what is `known` to; `None` if `root` depends on anything else.
pub(super) fn cone(graph: &Graph, leaf: Value, root: Value, known: &BTreeSet<Value>) -> Option<BTreeSet<Value>> {
    let mut found = BTreeSet::new();
    let mut open = vec![root];
    while let Some(value) = open.pop() {
        if value == leaf || known.contains(&value) || !found.insert(value) {
            continue;
        }
        open.extend(operands(graph, value)?);
        if found.len() > MOST_NODES {
            return None;
        }
    }
    Some(found)
}

/// The operands that are no scalar constants, if `value` is made by a pointwise operation whose meaning is known here.
pub(super) fn operands(graph: &Graph, value: Value) -> Option<Vec<Value>> {
    let Op::Elementwise(op) = &graph.node(value.node).op else { return None };
    let understood = match op {
        Elementwise::Unary(unary) => match unary.function {
            Function::Pow => [-1.0, 2.0, 3.0].contains(&unary.parameters[0].0),
            other => FUNCTIONS.contains(&other),
        },
        Elementwise::Binary(binary) => BINARIES.contains(binary),
        Elementwise::Compare(_) | Elementwise::Where => true,
        Elementwise::Cast(dtype) => dtype.is_float(),
        Elementwise::Narrow(_) | Elementwise::BitCast { .. } => false,
        Elementwise::Derivative(_) | Elementwise::Secant(_) => false,
        Elementwise::Quantize | Elementwise::Dequantize => false,
    };
    let mut operands = graph.operands(value.node);
    operands.retain(|&operand| scalar(graph, operand).is_none());
    (understood && !operands.is_empty()).then_some(operands)
}

const FUNCTIONS: [Function; 17] = [
    Function::Relu,
    Function::Positive,
    Function::Negative,
    Function::HardSigmoid,
    Function::Clip,
    Function::Scale,
    Function::Shift,
    Function::Neg,
    Function::Reciprocal,
    Function::Abs,
    Function::Exp,
    Function::Log,
    Function::Erf,
    Function::Tanh,
    Function::Sigmoid,
    Function::Softplus,
    Function::Not,
];

const BINARIES: [Binary; 6] = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Min, Binary::Max];

/// The number that every element of `value` is, if it is a constant. Numbers that activations are made of come without
/// the rounding of their element type.
pub(super) fn scalar(graph: &Graph, mut value: Value) -> Option<f64> {
    let mut epsilon = 0f64;
    loop {
        let dtype = graph.ty(value).dtype;
        epsilon = epsilon.max(spacing(dtype)?);
        match &graph.node(value.node).op {
            Op::Source(Source::Constant(literal)) => {
                return match &literal.values {
                    LiteralValues::Floats(values) => match values.as_slice() {
                        [single] => Some(named(single.0, epsilon)),
                        _ => None,
                    },
                    LiteralValues::Integers(_) => None,
                };
            }
            Op::Movement(Movement::Broadcast { .. } | Movement::Reshape { .. })
            | Op::Elementwise(Elementwise::Cast(_)) => {
                value = graph.operand(value.node, 0)?;
            }
            _ => return None,
        }
    }
}

/// The relative spacing of a floating-point type's numbers.
pub(super) fn spacing(dtype: DType) -> Option<f64> {
    match dtype {
        DType::F64 => Some(f64::EPSILON),
        DType::F32 => Some(f64::from(f32::EPSILON)),
        DType::F16 => Some(1.0 / 1024.0),
        DType::Bf16 => Some(1.0 / 128.0),
        _ => None,
    }
}
