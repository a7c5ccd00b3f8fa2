//! The place that an operation has in the network, as composites select by it.

use lrpc_ir::graph::{Graph, NodeId, Value};
use lrpc_ir::ops::{
    Binary, Elementwise, Function, Linear, Movement, Normalize, Op, Pool, PoolKind, Reduce, ReduceKind, Source,
};

use super::sampling;
use crate::attention;
use crate::pattern::scaled;

/// A role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A linear map that reads a graph input, seen through movement.
    First,
    /// A linear map that makes the explained output, seen through movement.
    Head,
    /// An addition of a constant.
    Bias,
    /// An addition of two activations.
    Residual,
    /// A product or quotient in which one operand takes nothing: see [`silent_operand`].
    Gate,
    /// Average pooling: averages of windows, and the mean over all axes behind the channels of `[N, C, …]`.
    Pooling,
    /// A gate that no sigmoid of another signal makes: an activation spelled out, or a normalisation.
    Frozen,
    /// A product in which one operand alone is activated: see [`activated_operand`].
    Gated,
    /// A softmax whose output weighs other activations, and the product in which it does.
    Attention,
    /// A product of a signal and a parameter that is computed from it: see [`super::selective`].
    Selective,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 10] = [
        Role::First,
        Role::Head,
        Role::Bias,
        Role::Residual,
        Role::Gate,
        Role::Pooling,
        Role::Frozen,
        Role::Gated,
        Role::Attention,
        Role::Selective,
    ];

    /// The word in composites.
    pub fn name(self) -> &'static str {
        match self {
            Role::First => "first",
            Role::Head => "head",
            Role::Bias => "bias",
            Role::Residual => "residual",
            Role::Gate => "gate",
            Role::Pooling => "pooling",
            Role::Frozen => "frozen",
            Role::Gated => "gated",
            Role::Attention => "attention",
            Role::Selective => "selective",
        }
    }

    /// The role of that name.
    pub fn from_name(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// Which operand of a product or quotient of two activations is a gate of which kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gates {
    /// The one that takes nothing: see [`silent_operand`].
    pub silent: Option<usize>,
    /// The one that alone is activated: see [`activated_operand`].
    pub activated: Option<usize>,
    /// Whether it is no product of two signals: see [`is_one_signal`].
    pub one_signal: bool,
}

impl Gates {
    /// The gates of `node`, of whose operands `active` are active.
    pub fn of(graph: &Graph, node: NodeId, active: &[bool]) -> Gates {
        let product = matches!(graph.node(node).op, Op::Elementwise(Elementwise::Binary(Binary::Mul | Binary::Div)));
        if !product || active.iter().filter(|&&operand| operand).count() < 2 {
            return Gates::default();
        }
        Gates {
            silent: silent_operand(graph, node),
            activated: activated_operand(graph, node),
            one_signal: is_one_signal(graph, node),
        }
    }
}

/// The roles of `node`, given which operands are active and which value is explained.
pub fn roles_of(graph: &Graph, node: NodeId, active: &[bool], explained: &[Value]) -> Vec<Role> {
    let mut roles = Vec::new();
    let actives = active.iter().filter(|&&operand| operand).count();
    match &graph.node(node).op {
        Op::Linear(_) => {
            let operands = graph.operands(node);
            let reads_input = |(operand, &active): (&Value, &bool)| active && is_graph_input(graph, *operand);
            if operands.iter().zip(active).any(reads_input) {
                roles.push(Role::First);
            }
            if explained.iter().any(|&value| through_movement(graph, value).node == node) {
                roles.push(Role::Head);
            }
        }
        Op::Elementwise(Elementwise::Binary(Binary::Add | Binary::Sub)) => {
            roles.push(if actives > 1 { Role::Residual } else { Role::Bias });
        }
        Op::Elementwise(Elementwise::Binary(Binary::Mul | Binary::Div)) if actives > 1 => {
            let gates = Gates::of(graph, node, active);
            if gates.silent.is_some() {
                roles.push(Role::Gate);
                roles.extend(gates.one_signal.then_some(Role::Frozen));
            } else if gates.activated.is_some() {
                roles.push(Role::Gated);
            }
        }
        Op::Pool(Pool::Window(kind, _)) if *kind != PoolKind::Max => roles.push(Role::Pooling),
        Op::Reduce(Reduce { kind: ReduceKind::Mean, axes, .. }) => {
            let rank = graph.operand(node, 0).map_or(0, |operand| graph.ty(operand).rank());
            roles.extend((rank > 2 && axes.iter().copied().eq(2..rank)).then_some(Role::Pooling));
        }
        Op::Normalize(Normalize::Softmax { .. }) => {
            let weighing = attention::weighing(graph, node);
            // Where both factors come from a softmax neither is the other's weight.
            if weighing.is_some_and(|(product, slot)| attention::shares_slot(graph, product) == Some(slot)) {
                roles.push(Role::Attention);
            }
        }
        _ => {}
    }
    let multiplies =
        matches!(graph.node(node).op, Op::Linear(Linear::Dot(_)) | Op::Elementwise(Elementwise::Binary(Binary::Mul)));
    if multiplies && actives > 1 && attention::shares_slot(graph, node).is_some() {
        roles.push(Role::Attention);
    }
    roles
}

/// Which operand of a product alone is the output of an activation or comes from a softmax, seen through movement and
/// constant factors. If both are, the one that a sigmoid or hard-sigmoid made.
pub fn activated_operand(graph: &Graph, node: NodeId) -> Option<usize> {
    if graph.node(node).op != Op::Elementwise(Elementwise::Binary(Binary::Mul)) {
        return None;
    }
    let operands = [graph.operand(node, 0)?, graph.operand(node, 1)?];
    let one_of = |which: [bool; 2]| match which {
        [true, false] => Some(0),
        [false, true] => Some(1),
        _ => None,
    };
    let activated = operands.map(|operand| is_activated(graph, operand));
    match activated {
        [false, false] => attention::shares_slot(graph, node),
        [true, true] => one_of(operands.map(|operand| is_bounded_gate(graph, operand))),
        _ => one_of(activated),
    }
}

fn is_activated(graph: &Graph, value: Value) -> bool {
    let Op::Elementwise(Elementwise::Unary(unary)) = &graph.node(maker(graph, value)).op else { return false };
    matches!(
        unary.function,
        Function::Relu
            | Function::LeakyRelu
            | Function::Elu
            | Function::Selu
            | Function::Celu
            | Function::ThresholdedRelu
            | Function::Sigmoid
            | Function::HardSigmoid
            | Function::HardSwish
            | Function::Swish
            | Function::Mish
            | Function::Gelu
            | Function::GeluTanh
            | Function::Tanh
            | Function::Softplus
            | Function::Softsign
    )
}

fn is_graph_input(graph: &Graph, value: Value) -> bool {
    let origin = through_movement(graph, sampling::unperturbed(graph, through_movement(graph, value)));
    matches!(graph.node(origin.node).op, Op::Source(Source::Input(_)))
}

/// The value before all movement of a single tensor, casts and quantisation included.
pub(crate) fn through_movement(graph: &Graph, mut value: Value) -> Value {
    loop {
        let moves = match &graph.node(value.node).op {
            Op::Movement(Movement::Concat { .. }) => false,
            Op::Movement(_) => true,
            Op::Elementwise(Elementwise::Cast(_) | Elementwise::Quantize | Elementwise::Dequantize) => true,
            _ => false,
        };
        match graph.operand(value.node, 0) {
            Some(operand) if moves => value = operand,
            _ => return value,
        }
    }
}

/// The node that makes `value`, seen back through movement, casts and constant factors.
pub(super) fn maker(graph: &Graph, value: Value) -> NodeId {
    let mut value = through_movement(graph, value);
    while let Some((x, _)) = scaled(graph, value) {
        value = through_movement(graph, x);
    }
    value.node
}

/// How far patterns look back, in nodes: a bound on work, not on meaning.
const WINDOW: usize = 64;

/// Which operand of a product or quotient takes nothing, so that all relevance goes to the other one:
///
/// * the factor that alone is the output of a sigmoid or hard-sigmoid, seen through movement;
/// * where both operands are pointwise functions of one tensor, the one that is not that tensor: however many nodes it
///   takes, such a product is one activation;
/// * the divisor, or reciprocal factor, that is a statistic (sum, mean) of the other operand: it normalises.
pub fn silent_operand(graph: &Graph, node: NodeId) -> Option<usize> {
    silent_within(graph, node, SCALES)
}

/// How many frozen scales are seen through on the way to what a statistic is of.
const SCALES: usize = 3;

/// Whether a product or quotient is no product of two signals: one activation spelled out, or a normalisation.
pub fn is_one_signal(graph: &Graph, node: NodeId) -> bool {
    modulator_within(graph, node, SCALES).is_some()
}

fn silent_within(graph: &Graph, node: NodeId, scales: usize) -> Option<usize> {
    if graph.node(node).op == Op::Elementwise(Elementwise::Binary(Binary::Mul)) {
        let gates = [graph.operand(node, 0)?, graph.operand(node, 1)?].map(|operand| is_bounded_gate(graph, operand));
        if gates[0] != gates[1] {
            return Some(usize::from(gates[1]));
        }
    }
    modulator_within(graph, node, scales)
}

/// The operand that takes nothing for another reason than being a sigmoid.
fn modulator_within(graph: &Graph, node: NodeId, scales: usize) -> Option<usize> {
    let divides = match graph.node(node).op {
        Op::Elementwise(Elementwise::Binary(Binary::Mul)) => false,
        Op::Elementwise(Elementwise::Binary(Binary::Div)) => true,
        _ => return None,
    };
    let [first, second] = [graph.operand(node, 0)?, graph.operand(node, 1)?];
    let shared = pointwise_ancestors(graph, first)
        .into_iter()
        .find(|&root| is_function_of(graph, first, root) && is_function_of(graph, second, root));
    if let Some(root) = shared {
        return Some(usize::from(second != root || divides));
    }
    let normalises = |by: Value, what: Value| is_statistic(graph, by, what, !divides, scales);
    if normalises(second, first) {
        return Some(1);
    }
    (!divides && normalises(first, second)).then_some(0)
}

/// Whether the node is a softmax written out, `exp / Σ exp`, which has no rule until it is raised to one operation. The
/// exponential is seen through casts and factors, such as a mask's, and the division as product with a reciprocal.
pub fn is_softmax_written_out(graph: &Graph, node: NodeId) -> bool {
    let inverted = match graph.node(node).op {
        Op::Elementwise(Elementwise::Binary(Binary::Div)) => false,
        Op::Elementwise(Elementwise::Binary(Binary::Mul)) => true,
        _ => return false,
    };
    let (Some(first), Some(second)) = (graph.operand(node, 0), graph.operand(node, 1)) else { return false };
    let written =
        |what: Value, by: Value| is_exponential(graph, what, 4) && is_statistic(graph, by, what, inverted, SCALES);
    written(first, second) || (inverted && written(second, first))
}

fn is_exponential(graph: &Graph, value: Value, depth: usize) -> bool {
    let value = through_movement(graph, value);
    let Some(depth) = depth.checked_sub(1) else { return false };
    match &graph.node(value.node).op {
        Op::Elementwise(Elementwise::Unary(unary)) => unary.function == Function::Exp,
        Op::Elementwise(Elementwise::Binary(Binary::Mul)) => {
            graph.operands(value.node).into_iter().any(|operand| is_exponential(graph, operand, depth))
        }
        _ => false,
    }
}

/// Whether the value is a sigmoid, also scaled and shifted by constants, as `1 − σ(a) = σ(−a)` is.
fn is_bounded_gate(graph: &Graph, value: Value) -> bool {
    let mut value = through_movement(graph, value);
    for _ in 0..WINDOW {
        let Op::Elementwise(op) = &graph.node(value.node).op else { return false };
        let operands = graph.operands(value.node);
        let next = match (op, &operands[..]) {
            (Elementwise::Unary(unary), &[operand]) => match unary.function {
                Function::Sigmoid | Function::HardSigmoid => return true,
                Function::Scale | Function::Shift | Function::Neg => operand,
                _ => return false,
            },
            (Elementwise::Binary(Binary::Add | Binary::Sub | Binary::Mul), &[a, b]) => {
                match [graph.constant_source(a).is_some(), graph.constant_source(b).is_some()] {
                    [true, false] => b,
                    [false, true] => a,
                    _ => return false,
                }
            }
            _ => return false,
        };
        value = through_movement(graph, next);
    }
    false
}

/// The operands of a pointwise operation that are no constants; `None` for any other operation.
fn pointwise_operands(graph: &Graph, value: Value) -> Option<Vec<Value>> {
    let pointwise = matches!(graph.node(value.node).op, Op::Elementwise(_));
    pointwise.then(|| {
        let operands = graph.operands(value.node).into_iter();
        operands.filter(|&operand| graph.constant_source(operand).is_none()).collect()
    })
}

/// `value` and what it is made from by pointwise operations, nearest first.
fn pointwise_ancestors(graph: &Graph, value: Value) -> Vec<Value> {
    let mut found = vec![value];
    let mut at = 0;
    while at < found.len() && found.len() < WINDOW {
        for operand in pointwise_operands(graph, found[at]).unwrap_or_default() {
            if !found.contains(&operand) {
                found.push(operand);
            }
        }
        at += 1;
    }
    found
}

/// Whether `value` is computed from `root` and constants alone, by pointwise operations.
fn is_function_of(graph: &Graph, value: Value, root: Value) -> bool {
    let mut open = vec![value];
    let mut seen = Vec::new();
    while let Some(next) = open.pop() {
        if next == root || seen.contains(&next) {
            continue;
        }
        seen.push(next);
        match pointwise_operands(graph, next) {
            Some(operands) if seen.len() < WINDOW && !operands.is_empty() => open.extend(operands),
            _ => return false,
        }
    }
    true
}

/// What a statistic may be of in order to normalise `of`: `of`, what it alone is a pointwise function of, and the same behind
/// frozen scales. The statistic of one summand or factor among several normalises nothing.
fn normalised_roots(graph: &Graph, of: Value, scales: usize) -> Vec<Value> {
    let mut roots = pointwise_ancestors(graph, of);
    roots.retain(|&root| is_function_of(graph, of, root));
    let Some(scales) = scales.checked_sub(1) else { return roots };
    let innermost: Vec<Value> = roots.clone();
    for value in innermost {
        let signal = silent_within(graph, value.node, scales).and_then(|silent| graph.operand(value.node, 1 - silent));
        roots.extend(signal.into_iter().flat_map(|signal| normalised_roots(graph, signal, scales)));
    }
    roots
}

/// Whether `value` is made from a sum or mean of `of`, or of what `of` is a pointwise function of, by pointwise
/// operations and movement; where `inverted` is asked for, with a reciprocal on the way.
fn is_statistic(graph: &Graph, value: Value, of: Value, inverted: bool, scales: usize) -> bool {
    let roots = normalised_roots(graph, of, scales);
    let mut open = vec![(value, false, false)];
    let mut seen = Vec::new();
    while let Some((next, reduced, inverse)) = open.pop() {
        if reduced && (inverse || !inverted) && roots.contains(&next) {
            return true;
        }
        if seen.contains(&(next, reduced, inverse)) || seen.len() > WINDOW {
            continue;
        }
        seen.push((next, reduced, inverse));
        let op = &graph.node(next.node).op;
        let reduces = matches!(op, Op::Reduce(reduce) if matches!(reduce.kind, ReduceKind::Sum | ReduceKind::Mean))
            || matches!(op, Op::Pool(Pool::Window(kind, _)) if *kind != PoolKind::Max);
        let inverts = match op {
            Op::Elementwise(Elementwise::Unary(unary)) => {
                unary.function == Function::Reciprocal
                    || (unary.function == Function::Pow && unary.parameters[0].0 < 0.0)
            }
            _ => false,
        };
        let divides = matches!(op, Op::Elementwise(Elementwise::Binary(Binary::Div)));
        if reduces || matches!(op, Op::Elementwise(_) | Op::Movement(_)) {
            let operands = graph.operands(next.node).into_iter().enumerate();
            open.extend(
                operands
                    .map(|(slot, operand)| (operand, reduced || reduces, inverse || inverts || (divides && slot == 1))),
            );
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The silent operand of the product or quotient `%y`.
    #[track_caller]
    fn check(body: &str, expected: Option<usize>) {
        let graph = lrpc_ir::text::parse(&format!(
            "lrpc 1\ninput %x : f32[N, 4]\ninput %z : f32[N, 4]\n{body}\nresult \"y\" = %y\n"
        ));
        let graph = graph.unwrap_or_else(|error| panic!("{error}"));
        let y = graph.find("y").unwrap();
        assert_eq!(silent_operand(&graph, y.node), expected);
    }

    #[test]
    fn a_function_of_one_tensor_is_one_activation() {
        let gelu =
            "forward\n%s = scale %x {by=0.7} : f32[N, 4]\n%e = erf %s : f32[N, 4]\n%p = shift %e {by=1} : f32[N, 4]\n";
        check(&format!("{gelu}%h = scale %x {{by=0.5}} : f32[N, 4]\n%y = mul %h, %p : f32[N, 4]"), Some(1));
        check(&format!("{gelu}%y = mul %p, %x : f32[N, 4]"), Some(0));
        check("forward\n%e = exp %x : f32[N, 4]\n%s = add %e, %x : f32[N, 4]\n%y = div %x, %s : f32[N, 4]", Some(1));
        check("forward\n%e = exp %x : f32[N, 4]\n%y = mul %e, %z : f32[N, 4]", None);
    }

    #[test]
    fn a_sigmoid_alone_is_a_gate() {
        check("forward\n%g = sigmoid %z : f32[N, 4]\n%y = mul %g, %x : f32[N, 4]", Some(0));
        check("forward\n%g = sigmoid %z : f32[N, 4]\n%h = sigmoid %x : f32[N, 4]\n%y = mul %g, %h : f32[N, 4]", None);
    }

    #[test]
    fn a_statistic_normalises() {
        let mean = "forward\n%q = mul %x, %x : f32[N, 4]\n%m = reduce_mean %q {axes=[1], keep=true} : f32[N, 1]\n%r = sqrt %m : f32[N, 1]\n";
        check(&format!("{mean}%b = broadcast %r : f32[N, 4]\n%y = div %x, %b : f32[N, 4]"), Some(1));
        check(
            &format!(
                "{mean}%i = reciprocal %r : f32[N, 1]\n%b = broadcast %i : f32[N, 4]\n%y = mul %b, %x : f32[N, 4]"
            ),
            Some(0),
        );
        check(&format!("{mean}%b = broadcast %r : f32[N, 4]\n%y = mul %x, %b : f32[N, 4]"), None);
        check(&format!("{mean}%b = broadcast %r : f32[N, 4]\n%y = div %z, %b : f32[N, 4]"), None);
        let scaled = "%i = reciprocal %r : f32[N, 1]\n%b = broadcast %i : f32[N, 4]\n%n = mul %x, %b : f32[N, 4]\n";
        check(&format!("{mean}{scaled}%y = mul %n, %b : f32[N, 4]"), Some(1));
    }

    #[test]
    fn a_statistic_of_a_part_normalises_nothing() {
        let mean = "forward\n%m = reduce_mean %x {axes=[1], keep=true} : f32[N, 1]\n%b = broadcast %m : f32[N, 4]\n";
        check(&format!("{mean}%s = add %x, %z : f32[N, 4]\n%y = div %s, %b : f32[N, 4]"), None);
        check(
            &format!("{mean}%e = exp %z : f32[N, 4]\n%q = div %b, %e : f32[N, 4]\n%y = mul %x, %q : f32[N, 4]"),
            None,
        );
    }

    #[test]
    fn a_softmax_is_seen_behind_casts_masks_and_reciprocals() {
        let written = |body: &str| {
            let graph = lrpc_ir::text::parse(&format!(
                "lrpc 1\ninput %x : f32[N, 4]\ninput %z : f32[N, 4]\nforward\n%e = exp %x : f32[N, 4]\n{body}\nresult \"y\" = %y\n"
            ));
            let graph = graph.unwrap_or_else(|error| panic!("{error}"));
            is_softmax_written_out(&graph, graph.find("y").unwrap().node)
        };
        let sum = |of: &str| {
            format!("%s = reduce_sum {of} {{axes=[1], keep=true}} : f32[N, 1]\n%b = broadcast %s : f32[N, 4]\n")
        };
        assert!(written(&format!("{}%y = div %e, %b : f32[N, 4]", sum("%e"))));
        assert!(written(&format!("%w = mul %e, %z : f32[N, 4]\n{}%y = div %w, %b : f32[N, 4]", sum("%w"))));
        assert!(written(&format!("{}%i = reciprocal %b : f32[N, 4]\n%y = mul %i, %e : f32[N, 4]", sum("%e"))));
        assert!(!written(&format!("{}%y = div %z, %b : f32[N, 4]", sum("%e"))));
    }

    /// The roles of the softmax `%a` where every input is active.
    #[track_caller]
    fn attends(body: &str) -> bool {
        let text = format!(
            "lrpc 1\ninput %x : f32[N, 4]\ninput %v : f32[N, 4]\nforward\n%a = softmax %x {{axis=1}} : f32[N, 4]\n{body}\nresult \"y\" = %y\n"
        );
        let graph = lrpc_ir::text::parse(&text).unwrap_or_else(|error| panic!("{error}"));
        let node = graph.find("a").unwrap().node;
        roles_of(&graph, node, &[true], &[]).contains(&Role::Attention)
    }

    #[test]
    fn only_weights_of_activations_are_attention() {
        assert!(attends("%y = mul %a, %v : f32[N, 4]"));
        assert!(!attends("%y = tanh %a : f32[N, 4]"));
        assert!(!attends("%b = softmax %v {axis=1} : f32[N, 4]\n%y = mul %a, %b : f32[N, 4]"));
        let beside = "%both = concat %a, %v {axis=1} : f32[N, 8]\n%w = concat %v, %v {axis=1} : f32[N, 8]\n";
        assert!(!attends(&format!("{beside}%y = mul %both, %w : f32[N, 8]")));
    }
}
