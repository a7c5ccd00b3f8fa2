//! Merges a constant factor and a constant summand into the norm before them, as its scale and bias.
//!
//! Before: `%n = layer_norm %x, 1, 0`, `%s = mul %n, @w`, `%y = add %s, @b`. After: `%y = layer_norm %x, @w, @b`. A cast in
//! between stays behind the norm. A layer norm of whole planes with a constant for each channel is an instance norm.

use lrpc_ir::graph::{Graph, NodeId, Region, Value};
use lrpc_ir::ops::{Binary, Elementwise, Movement, Normalize, Op};
use lrpc_ir::{Diagnostic, Diagnostics, Dim, TensorType};

use crate::manager::{Context, PassDef};
use crate::pattern::{Found, filled, number, uncast};

pub(super) const PASS: PassDef = PassDef {
    name: "merge_affine",
    doc: "merges constants that scale and shift a norm into its scale and bias",
    run: merge_affine,
};

fn merge_affine(graph: &mut Graph, context: &mut Context) -> Result<(), Diagnostics> {
    for node in graph.order() {
        match affine(graph, context, node) {
            Found::Pattern(found) => merge(graph, context, node, found)?,
            Found::NearMiss(reason) => context.refused(PASS.name, graph, node.into(), reason),
            Found::Nothing => {}
        }
    }
    Ok(())
}

/// A norm and the constant that scales or shifts it.
struct Affine {
    norm: Value,
    /// The norm with a parameter for each element that the constant has one for.
    op: Normalize,
    /// The operand of the norm that the constant becomes.
    slot: usize,
    constant: Value,
    /// The constant's axes aligned with the result's, before its copies.
    shape: Vec<Dim>,
    /// The result's axes that parameters run along.
    axes: Vec<usize>,
}

fn affine(graph: &Graph, context: &Context, node: NodeId) -> Found<Affine> {
    let (slot, unless) = match graph.node(node).op {
        Op::Elementwise(Elementwise::Binary(Binary::Mul)) => (1, [Some(1.0), Some(0.0)]),
        Op::Elementwise(Elementwise::Binary(Binary::Add)) => (2, [None, Some(0.0)]),
        _ => return Found::Nothing,
    };
    let operands = graph.operands(node);
    let [a, b] = operands[..] else { return Found::Nothing };
    let found = [(a, b), (b, a)].into_iter().find_map(|(y, constant)| {
        let norm = uncast(graph, y);
        let Op::Normalize(op) = &graph.node(norm.node).op else { return None };
        Some((y, norm, op, graph.constant_source(constant)?))
    });
    let Some((y, norm, op, constant)) = found else { return Found::Nothing };
    let parameters: Vec<Value> = graph.operands(norm.node).into_iter().skip(1).collect();
    if slot > parameters.len() || matches!(op, Normalize::BatchNorm { .. }) {
        return Found::Nothing;
    }
    let taken = |(parameter, wanted): (&Value, Option<f64>)| wanted.is_some() && number(graph, *parameter) != wanted;
    if parameters.iter().zip(unless).any(taken) {
        return Found::NearMiss("the norm has a scale or bias of its own");
    }
    if !path(graph, y, norm).iter().all(|&value| context.is_private(graph, value)) {
        return Found::NearMiss("the norm's result is used elsewhere");
    }
    let result = &graph.node(node).types()[0].shape;
    let Some(missing) = result.len().checked_sub(graph.ty(constant).rank()) else { return Found::Nothing };
    let shape = [vec![Dim::Known(1); missing], graph.ty(constant).shape.clone()].concat();
    let varies: Vec<usize> = (0..shape.len()).filter(|&axis| shape[axis] != Dim::Known(1)).collect();
    let (op, axes) = match op {
        // One number for each channel and none for each place: the channels are normalised one by one.
        Normalize::LayerNorm { axis: 2, eps } if varies == [1] && is_plain(graph, &parameters) => {
            (Normalize::GroupNorm { groups: result[1].clone(), eps: *eps }, vec![1])
        }
        Normalize::LayerNorm { axis, .. } | Normalize::RmsNorm { axis, .. } => {
            (op.clone(), (*axis..result.len()).collect())
        }
        _ => (op.clone(), vec![1]),
    };
    if varies.iter().any(|axis| !axes.contains(axis)) {
        return Found::NearMiss("the constant is not one number for each parameter of the norm");
    }
    Found::Pattern(Affine { norm, op, slot, constant, shape, axes })
}

/// Whether scale and bias are 1 and 0.
fn is_plain(graph: &Graph, parameters: &[Value]) -> bool {
    parameters.iter().zip([1.0, 0.0]).all(|(&parameter, wanted)| number(graph, parameter) == Some(wanted))
}

/// `y`, the norm, and what stands between them.
fn path(graph: &Graph, mut y: Value, norm: Value) -> Vec<Value> {
    let mut path = vec![y];
    while let Some(before) = graph.operand(y.node, 0).filter(|_| y != norm) {
        y = before;
        path.push(y);
    }
    path
}

fn merge(graph: &mut Graph, context: &mut Context, node: NodeId, found: Affine) -> Result<(), Diagnostic> {
    let result = Value::from(node);
    let base = graph.name(result).to_string();
    let (ty, dtype) = (graph.ty(result).clone(), graph.ty(found.norm).dtype);
    let wanted = TensorType::new(dtype, found.axes.iter().map(|&axis| ty.shape[axis].clone()).collect());
    let mut operands = graph.operands(found.norm.node);
    if graph.ty(operands[1]).shape != wanted.shape {
        // The norm changes its kind, and its parameters their shape.
        operands[1] = filled(graph, &format!("{base}.ones"), wanted.clone(), 1.0)?;
        operands[2] = filled(graph, &format!("{base}.zeros"), wanted.clone(), 0.0)?;
    }
    operands[found.slot] = parameter(graph, &base, &found, wanted)?;
    let (region, origin) = (graph.node(node).region, graph.node(found.norm.node).origin.made_by(PASS.name));
    let op = Op::Normalize(found.op);
    if dtype == ty.dtype {
        graph.set_op(node, op, &operands)?;
    } else {
        let name = graph.fresh_name(&format!("{base}.norm"));
        let norm = graph.add(region, op, &operands, &name, origin.clone())?;
        graph.set_op(node, Op::Elementwise(Elementwise::Cast(ty.dtype)), &[norm])?;
    }
    graph.set_place(node, region, origin);
    context.patched(PASS.name, graph, result);
    Ok(())
}

/// The constant in the type of a parameter.
fn parameter(graph: &mut Graph, base: &str, found: &Affine, wanted: TensorType) -> Result<Value, Diagnostic> {
    let mut value = found.constant;
    let own = found.axes.iter().map(|&axis| found.shape[axis].clone()).collect();
    let steps = [
        Op::Movement(Movement::Reshape { shape: own }),
        Op::Movement(Movement::Broadcast { shape: wanted.shape.clone() }),
        Op::Elementwise(Elementwise::Cast(wanted.dtype)),
    ];
    for op in steps {
        let ty = graph.ty(value);
        let is_there = match &op {
            Op::Movement(Movement::Reshape { shape } | Movement::Broadcast { shape }) => &ty.shape == shape,
            _ => ty.dtype == wanted.dtype,
        };
        if !is_there {
            let name = graph.fresh_name(&format!("{base}.parameter"));
            let origin = graph.node(found.norm.node).origin.made_by(PASS.name);
            value = graph.add(Region::Prepare, op, &[value], &name, origin)?;
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::check_pass;

    #[test]
    fn merge_affine() {
        check_pass(
            "merge_affine",
            PASS,
            r#"
        input %x : f32[N, 8]
        weight @w : f32[8]
        weight @b : f32[1, 8]
        prepare
        %one = const 1 : f32[8]
        %zero = const 0 : f32[8]
        forward
        %n = layer_norm %x, %one, %zero {axis=1, eps=1e-5} : f32[N, 8] from "/norm"
        %w.all = broadcast @w : f32[N, 8]
        %s = mul %w.all, %n : f32[N, 8] from "/mul"
        %b.all = broadcast @b : f32[N, 8]
        %y = add %s, %b.all : f32[N, 8] from "/add"
        result "output/y" = %y
        "#,
            &[],
        );
    }

    #[test]
    fn merge_affine_behind_a_cast() {
        check_pass(
            "merge_affine_behind_a_cast",
            PASS,
            r#"
        input %x : f32[N, 8]
        weight @w : f16[8]
        prepare
        %one = const 1 : f32[8]
        forward
        %n = rms_norm %x, %one {axis=1, eps=1e-6} : f32[N, 8] from "/norm"
        %half = cast %n : f16[N, 8] from "/cast"
        %w.all = broadcast @w : f16[N, 8]
        %y = mul %w.all, %half : f16[N, 8] from "/mul"
        result "output/y" = %y
        "#,
            &[],
        );
    }

    #[test]
    fn merge_affine_per_channel() {
        check_pass(
            "merge_affine_per_channel",
            PASS,
            r#"
        input %x : f32[N, 4, H, W]
        weight @w : f32[4, 1, 1]
        prepare
        %one = const 1 : f32[H, W]
        %zero = const 0 : f32[H, W]
        forward
        %n = layer_norm %x, %one, %zero {axis=2, eps=1e-5} : f32[N, 4, H, W] from "/norm"
        %w.all = broadcast @w : f32[N, 4, H, W]
        %y = mul %n, %w.all : f32[N, 4, H, W] from "/mul"
        result "output/y" = %y
        "#,
            &[],
        );
    }

    #[test]
    fn merge_affine_near_misses() {
        check_pass(
            "merge_affine_near_misses",
            PASS,
            r#"
        input %x : f32[4, 8]
        weight @w : f32[8]
        weight @rows : f32[4, 1]
        prepare
        %one = const 1 : f32[8]
        forward
        %n = rms_norm %x, @w {axis=1, eps=1e-5} : f32[4, 8]
        %w.all = broadcast @w : f32[4, 8]
        %a = mul %w.all, %n : f32[4, 8]
        %k = rms_norm %x, %one {axis=1, eps=1e-5} : f32[4, 8]
        %rows.all = broadcast @rows : f32[4, 8]
        %b = mul %k, %rows.all : f32[4, 8]
        %u = rms_norm %a, %one {axis=1, eps=1e-5} : f32[4, 8]
        %c = mul %u, %w.all : f32[4, 8]
        %d = add %c, %u : f32[4, 8]
        result "output/b" = %b
        result "output/d" = %d
        "#,
            &[],
        );
    }
}
