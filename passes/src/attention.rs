//! Finds attention in a canonical graph, as structure: nothing is fused, so that rules and costs see each operation.
//!
//! Attention is a softmax whose shares weigh other activations, by a contraction or, in routing, by a product. What lies
//! between is looked through: movement, casts, constant factors, selection by a mask, and division by the shares' own sum.

use lrpc_ir::graph::{Graph, NodeId, Value};
use lrpc_ir::ops::{Binary, Elementwise, Function, Linear, Movement, Normalize, Op, Select};
use lrpc_ir::{Dim, types::product};

use crate::pattern::{binary, either_order, number, scaled, unary, uncast};

/// What is done to scores so that some places take no share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// The value is added to the scores; position biases are added alike.
    Added(Value),
    /// Scores are replaced by a constant where the condition says so.
    Selected(Value),
}

/// The product of queries and keys that scores are.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// The contraction of queries and keys, one of which may be a constant.
    pub product: NodeId,
    /// What is done to its result, from the softmax back.
    pub masks: Vec<Mask>,
    /// The product of all constant factors of the product and of its operands; `None` if one is no single number.
    pub scale: Option<f64>,
    /// The number of heads: the lengths of the axes that are walked together, but for the first of several.
    pub heads: Dim,
    /// How many heads share one head of keys.
    pub shared_by: Dim,
    /// Whether queries and keys are turned by their positions: `x·cos + turned(x)·sin`.
    pub rotary: bool,
}

/// One attention.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// The softmax.
    pub softmax: NodeId,
    /// Its scores, where they are a product of queries and keys.
    pub scores: Option<Scores>,
    /// The contraction or product by which its shares weigh other activations.
    pub weighing: NodeId,
    /// The operand of `weighing` that the shares are.
    pub slot: usize,
}

/// Every attention of the forward region, in order.
pub fn attentions(graph: &Graph) -> Vec<Attention> {
    let softmaxes = graph.order().into_iter().filter(|&node| is_softmax(graph, node));
    softmaxes
        .filter_map(|softmax| {
            let (weighing, slot) = weighing(graph, softmax)?;
            Some(Attention { softmax, scores: scores(graph, softmax), weighing, slot })
        })
        .collect()
}

fn is_softmax(graph: &Graph, node: NodeId) -> bool {
    matches!(graph.node(node).op, Op::Normalize(Normalize::Softmax { .. }))
}

/// How far patterns look, in nodes: a bound on work, not on meaning.
const WINDOW: usize = 64;

/// The operation by which what a softmax gives weighs other activations, and its operand that the shares are. `None` for
/// a softmax whose shares are a result, as at a classifier's head.
pub fn weighing(graph: &Graph, softmax: NodeId) -> Option<(NodeId, usize)> {
    let shares = Value::from(softmax);
    let mut open = vec![shares];
    let mut seen = Vec::new();
    while let Some(value) = open.pop() {
        if seen.contains(&value) || seen.len() > WINDOW {
            continue;
        }
        seen.push(value);
        for (user, slot) in graph.users(value) {
            match use_of(graph, user, slot, shares) {
                Use::Weighs => return Some((user, slot)),
                Use::Passes => open.push(user.into()),
                Use::Ends => {}
            }
        }
    }
    None
}

/// The operand of a product that a softmax's shares are: the counterpart of [`weighing`], from the product back. `None` where
/// neither operand, or each, is such.
pub fn shares_slot(graph: &Graph, product: NodeId) -> Option<usize> {
    let from_softmax = |slot: usize| {
        let mut open: Vec<Value> = graph.operand(product, slot).into_iter().collect();
        let mut seen = Vec::new();
        while let Some(value) = open.pop() {
            if is_softmax(graph, value.node) {
                // One softmax may weigh in several places, of which `weighing` names one.
                return true;
            }
            if seen.contains(&value) || seen.len() > WINDOW {
                continue;
            }
            seen.push(value);
            open.extend(shares_before(graph, value));
        }
        false
    };
    match [from_softmax(0), from_softmax(1)] {
        [true, false] => Some(0),
        [false, true] => Some(1),
        _ => None,
    }
}

/// The operands that `value` has its shares from, if it only passes shares on.
fn shares_before(graph: &Graph, value: Value) -> Vec<Value> {
    let operands = graph.operands(value.node);
    let passes = |slot: usize| {
        let shares = operands[slot];
        matches!(use_of(graph, value.node, slot, shares), Use::Passes)
    };
    (0..operands.len()).filter(|&slot| passes(slot)).map(|slot| operands[slot]).collect()
}

/// What an operation makes of shares.
enum Use {
    /// It weighs other activations by them.
    Weighs,
    /// It gives shares: moved, chosen, masked, or scaled by a number or their own sum.
    Passes,
    /// Something else.
    Ends,
}

fn use_of(graph: &Graph, user: NodeId, slot: usize, shares: Value) -> Use {
    let Some(other) = graph.operand(user, usize::from(slot == 0)) else { return movement(graph, user) };
    let constant = graph.constant_source(other).is_some();
    match &graph.node(user).op {
        Op::Linear(Linear::Dot(_)) if slot < 2 && !constant && !descends(graph, other, shares) => Use::Weighs,
        Op::Elementwise(Elementwise::Binary(Binary::Div)) if slot == 1 => Use::Ends,
        Op::Elementwise(Elementwise::Binary(Binary::Mul | Binary::Div)) if constant => Use::Passes,
        Op::Elementwise(Elementwise::Binary(Binary::Mul | Binary::Div)) if descends(graph, other, shares) => {
            Use::Passes
        }
        Op::Elementwise(Elementwise::Binary(Binary::Mul)) => Use::Weighs,
        Op::Elementwise(Elementwise::Where) if slot > 0 => {
            let beside = graph.operand(user, 3 - slot);
            let constant = beside.is_some_and(|beside| graph.constant_source(beside).is_some());
            if constant { Use::Passes } else { Use::Ends }
        }
        Op::Select(Select::Gather { .. } | Select::ScatterAdd { .. }) if slot == 0 => Use::Passes,
        _ => movement(graph, user),
    }
}

fn movement(graph: &Graph, user: NodeId) -> Use {
    match &graph.node(user).op {
        // What stands beside shares need not be shares.
        Op::Movement(Movement::Concat { .. }) => Use::Ends,
        Op::Movement(_) => Use::Passes,
        Op::Elementwise(Elementwise::Cast(dtype)) if dtype.is_float() => Use::Passes,
        Op::Elementwise(Elementwise::Quantize | Elementwise::Dequantize) => Use::Passes,
        Op::Elementwise(Elementwise::Unary(unary)) if unary.function == Function::Scale => Use::Passes,
        _ => Use::Ends,
    }
}

/// Whether `value` is made from `from` by element-wise operations, reductions and movement.
fn descends(graph: &Graph, value: Value, from: Value) -> bool {
    let mut open = vec![value];
    let mut seen = Vec::new();
    while let Some(next) = open.pop() {
        if next == from {
            return true;
        }
        if seen.contains(&next) || seen.len() > WINDOW {
            continue;
        }
        seen.push(next);
        if matches!(graph.node(next.node).op, Op::Elementwise(_) | Op::Reduce(_) | Op::Movement(_) | Op::Select(_)) {
            open.extend(graph.operands(next.node));
        }
    }
    false
}

/// The scores of a softmax, if they are a product of queries and keys.
pub fn scores(graph: &Graph, softmax: NodeId) -> Option<Scores> {
    let mut masks = Vec::new();
    let (product, outer) = score_product(graph, graph.operand(softmax, 0)?, &mut masks, WINDOW)?;
    let (queries, keys) = (graph.operand(product, 0)?, graph.operand(product, 1)?);
    let (queries, keys) = (Factor::of(graph, queries), Factor::of(graph, keys));
    let Op::Linear(Linear::Dot(dot)) = &graph.node(product).op else { return None };
    let walked = &graph.ty(product.into()).shape[..dot.batch.len()];
    let heads = lrpc_ir::types::product(walked.get(1..).filter(|rest| !rest.is_empty()).unwrap_or(walked)).ok()?;
    let scale = outer.and_then(|outer| Some(outer * queries.scale? * keys.scale?));
    Some(Scores { product, masks, scale, heads, shared_by: keys.copies, rotary: queries.rotary && keys.rotary })
}

/// The contraction that scores come from, and the constant factor behind it.
fn score_product(graph: &Graph, value: Value, masks: &mut Vec<Mask>, budget: usize) -> Option<(NodeId, Option<f64>)> {
    let budget = budget.checked_sub(1)?;
    let value = uncast(graph, value);
    let node = value.node;
    if let Some((x, by)) = scaled(graph, value) {
        let (product, scale) = score_product(graph, x, masks, budget)?;
        return Some((product, scale.map(|scale| scale * by)));
    }
    match &graph.node(node).op {
        Op::Linear(Linear::Dot(dot)) => {
            // A learned query is a constant; without heads, a product with a constant is a layer.
            let activations = graph.operands(node).into_iter().take(2).filter(|&x| graph.constant_source(x).is_none());
            let needed = if dot.batch.is_empty() { 2 } else { 1 };
            (activations.count() >= needed).then_some((node, Some(1.0)))
        }
        Op::Elementwise(Elementwise::Binary(Binary::Add)) => {
            either_order(graph, value, Binary::Add).into_iter().find_map(|[x, mask]| {
                let before = masks.len();
                masks.push(Mask::Added(mask));
                let found = score_product(graph, x, masks, budget / 2);
                if found.is_none() {
                    masks.truncate(before);
                }
                found
            })
        }
        Op::Elementwise(Elementwise::Where) => {
            masks.push(Mask::Selected(graph.operand(node, 0)?));
            let branches = [graph.operand(node, 1)?, graph.operand(node, 2)?];
            let x = branches.into_iter().find(|&branch| number(graph, branch).is_none())?;
            score_product(graph, x, masks, budget)
        }
        // A factor per element, and a bound on scores as in `c·tanh(x/c)`: no one number scales them.
        Op::Elementwise(Elementwise::Binary(Binary::Mul | Binary::Div)) => {
            let x = graph.operands(node).into_iter().find(|&x| graph.constant_source(x).is_none())?;
            Some((score_product(graph, x, masks, budget)?.0, None))
        }
        Op::Elementwise(Elementwise::Unary(_)) => {
            Some((score_product(graph, graph.operand(node, 0)?, masks, budget)?.0, None))
        }
        Op::Movement(Movement::Reshape { .. } | Movement::Transpose { .. } | Movement::Broadcast { .. }) => {
            score_product(graph, graph.operand(node, 0)?, masks, budget)
        }
        _ => None,
    }
}

/// Queries or keys, followed back from their product.
struct Factor {
    scale: Option<f64>,
    copies: Dim,
    rotary: bool,
}

impl Factor {
    fn of(graph: &Graph, mut value: Value) -> Factor {
        let mut factor = Factor { scale: Some(1.0), copies: Dim::Known(1), rotary: false };
        for _ in 0..WINDOW {
            value = uncast(graph, value);
            if let Some((x, by)) = scaled(graph, value) {
                factor.scale = factor.scale.map(|scale| scale * by);
                value = x;
                continue;
            }
            if is_rotary(graph, value) {
                factor.rotary = true;
                break;
            }
            let Some(operand) = graph.operand(value.node, 0) else { break };
            match &graph.node(value.node).op {
                Op::Movement(Movement::Broadcast { shape }) => {
                    let axes = Movement::broadcast_axes(&graph.ty(operand).shape, shape);
                    let grown: Vec<Dim> = axes.iter().map(|&axis| shape[axis].clone()).collect();
                    if let Ok(copies) = product(&grown).and_then(|grown| grown.mul(&factor.copies)) {
                        factor.copies = copies;
                    }
                }
                Op::Movement(Movement::Reshape { .. } | Movement::Transpose { .. } | Movement::Slice { .. }) => {}
                _ => break,
            }
            value = operand;
        }
        factor
    }
}

/// `x·c + turned(x)·s`, where one half of what is turned is negated and the halves are put together again; elements that
/// do not turn may stand beside it.
fn is_rotary(graph: &Graph, value: Value) -> bool {
    if let Op::Movement(Movement::Concat { .. }) = graph.node(value.node).op {
        return graph.operands(value.node).into_iter().any(|part| is_turned_sum(graph, uncast(graph, part)));
    }
    is_turned_sum(graph, value)
}

fn is_turned_sum(graph: &Graph, value: Value) -> bool {
    let turned = |value: Value| {
        let Op::Movement(Movement::Concat { .. }) = graph.node(value.node).op else { return false };
        graph.operands(value.node).into_iter().any(|part| unary(graph, part, Function::Neg).is_some())
    };
    let has_turned = |value: Value| {
        let factors = binary(graph, uncast(graph, value), Binary::Mul).map_or(Vec::new(), Vec::from);
        factors.into_iter().any(|factor| turned(uncast(graph, factor)))
    };
    let is_product = |value: Value| binary(graph, uncast(graph, value), Binary::Mul).is_some();
    let sums = either_order(graph, value, Binary::Add);
    sums.into_iter().any(|[a, b]| is_product(a) && has_turned(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: &str, forward: &str) -> Graph {
        let text = format!("lrpc 1\n{header}\nforward\n{forward}\nresult \"output/y\" = %y\n");
        lrpc_ir::text::parse(&text).unwrap_or_else(|error| panic!("{error}"))
    }

    const HEADER: &str = "input %q : f32[N, 4, S, 8]\ninput %k : f32[N, 2, S, 8]\ninput %v : f32[N, 4, S, 8]\ninput %m : bool[N, 4, S, S]\ninput %a : f32[N, 4, S, S]";

    #[test]
    fn grouped_heads_a_scale_on_both_sides_and_an_added_mask() {
        let graph = read(
            HEADER,
            "%q.s = scale %q {by=0.5} : f32[N, 4, S, 8]
             %k.wide = reshape %k : f32[N, 2, 1, S, 8]
             %k.copies = broadcast %k.wide : f32[N, 2, 2, S, 8]
             %k.all = reshape %k.copies : f32[N, 4, S, 8]
             %k.t = transpose %k.all {perm=[0, 1, 3, 2]} : f32[N, 4, 8, S]
             %k.s = scale %k.t {by=0.25} : f32[N, 4, 8, S]
             %scores = dot %q.s, %k.s {batch=[0x0, 1x1], contract=3x2} : f32[N, 4, S, S]
             %masked = add %a, %scores : f32[N, 4, S, S]
             %p = softmax %masked {axis=3, safe=true} : f32[N, 4, S, S]
             %half = cast %p : f16[N, 4, S, S]
             %wide = cast %half : f32[N, 4, S, S]
             %y = dot %wide, %v {batch=[0x0, 1x1], contract=3x2} : f32[N, 4, S, 8]",
        );
        let found = attentions(&graph);
        let [attention] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((graph.name(attention.weighing.into()), attention.slot), ("y", 0));
        let scores = attention.scores.clone().unwrap();
        assert_eq!(graph.name(scores.product.into()), "scores");
        assert_eq!(scores.masks, [Mask::Added(graph.find("a").unwrap())]);
        assert_eq!((scores.scale, scores.heads, scores.shared_by), (Some(0.125), Dim::Known(4), Dim::Known(2)));
        assert!(!scores.rotary);
    }

    #[test]
    fn a_selected_mask_and_rotary_positions() {
        let rotary = |x: &str| {
            format!(
                "%{x}.1 = slice %{x} {{start=[0, 0, 0, 0]}} : f32[N, 4, S, 4]
                 %{x}.2 = slice %{x} {{start=[0, 0, 0, 4]}} : f32[N, 4, S, 4]
                 %{x}.n = neg %{x}.2 : f32[N, 4, S, 4]
                 %{x}.t = concat %{x}.n, %{x}.1 {{axis=3}} : f32[N, 4, S, 8]
                 %{x}.s = mul %{x}.t, %sin : f32[N, 4, S, 8]
                 %{x}.c = mul %{x}, %cos : f32[N, 4, S, 8]
                 %{x}.r = add %{x}.c, %{x}.s : f32[N, 4, S, 8]\n"
            )
        };
        let header = "input %q : f32[N, 4, S, 8]\ninput %k : f32[N, 4, S, 8]\ninput %v : f32[N, 4, S, 8]\ninput %m : bool[N, 4, S, S]\ninput %sin : f32[N, 4, S, 8]\ninput %cos : f32[N, 4, S, 8]";
        let forward = rotary("q")
            + &rotary("k")
            + "%scores = dot %q.r, %k.r {batch=[0x0, 1x1], contract=3x3} : f32[N, 4, S, S]
               %scaled = scale %scores {by=0.125} : f32[N, 4, S, S]
               %low = const -3.4e38 : f32[N, 4, S, S]
               %masked = where %m, %low, %scaled : f32[N, 4, S, S]
               %p = softmax %masked {axis=3} : f32[N, 4, S, S]
               %y = dot %p, %v {batch=[0x0, 1x1], contract=3x2} : f32[N, 4, S, 8]";
        let graph = read(header, &forward);
        let scores = attentions(&graph).remove(0).scores.unwrap();
        assert_eq!(scores.masks, [Mask::Selected(graph.find("m").unwrap())]);
        assert!(scores.rotary);
        assert_eq!((scores.scale, scores.shared_by), (Some(0.125), Dim::Known(1)));
    }

    #[test]
    fn a_router_attends_and_a_classifier_does_not() {
        let forward = "%p = softmax %q {axis=3} : f32[N, 4, S, 8]
            %t = reduce_sum %p {axes=[3], keep=true} : f32[N, 4, S, 1]
            %t.all = broadcast %t : f32[N, 4, S, 8]
            %shares = div %p, %t.all : f32[N, 4, S, 8]\n";
        let routed = read(HEADER, &format!("{forward}%y = mul %v, %shares : f32[N, 4, S, 8]"));
        let found = attentions(&routed);
        assert_eq!((found.len(), found[0].slot, found[0].scores.clone()), (1, 1, None));
        let head = read(HEADER, &format!("{forward}%y = log %shares : f32[N, 4, S, 8]"));
        assert_eq!(attentions(&head), []);
    }
}
