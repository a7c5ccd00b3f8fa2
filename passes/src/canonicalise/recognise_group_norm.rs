//! Recognises group norm that is written as a norm of each group's row between two reshapes.
//!
//! Before: `%g = reshape %x` from `[N, C, …]` to `[N, G, …]`, `%n = group_norm %g, 1, 0 {groups=G}` (instance norm, one
//! channel a group) or a layer norm of all axes after the groups', `%y = reshape %n` to `[N, C, …]`. After:
//! `%y = group_norm %x, 1, 0 {groups=G}`; `merge_affine` gives it the scale and bias per channel that follow. A constant
//! scale or bias of each group is copied to the group's channels.

use lrpc_ir::graph::{Graph, NodeId, Origin, Region, Value};
use lrpc_ir::ops::{Movement, Normalize, Op};
use lrpc_ir::types::{Float, TensorType};
use lrpc_ir::{Diagnostic, Diagnostics, Dim};

use crate::manager::{Context, PassDef};
use crate::pattern::{Found, asked_for, filled, number};

pub(super) const PASS: PassDef = PassDef {
    name: "recognise_group_norm",
    doc: "raises a norm of reshaped groups to group norm",
    run: recognise_group_norm,
};

fn recognise_group_norm(graph: &mut Graph, context: &mut Context) -> Result<(), Diagnostics> {
    for node in graph.order() {
        match between_reshapes(graph, node) {
            Found::Pattern(found) => replace(graph, context, node, found)?,
            Found::NearMiss(reason) => context.refused(PASS.name, graph, node.into(), reason),
            Found::Nothing => {}
        }
    }
    Ok(())
}

/// A norm of `groups` rows of each sample of `x`.
struct Grouped {
    x: Value,
    groups: Dim,
    eps: Float,
    /// Scale and bias of each group; 1 and 0 where there are none.
    parameters: [Option<Value>; 2],
}

fn between_reshapes(graph: &Graph, node: NodeId) -> Found<Grouped> {
    let parts = || -> Option<(Value, Value, Value)> {
        let norm = reshaped(graph, node)?;
        let inner = graph.operand(norm.node, 0)?;
        Some((norm, inner, reshaped(graph, inner.node)?))
    };
    let Some((norm, inner, x)) = parts() else { return Found::Nothing };
    let (rows, shape) = (&graph.ty(inner).shape, &graph.ty(x).shape);
    let (groups, eps) = match (&graph.node(norm.node).op, rows.get(1)) {
        (Op::Normalize(Normalize::GroupNorm { groups, eps }), Some(rows)) if groups == rows => (groups, *eps),
        (Op::Normalize(Normalize::LayerNorm { axis: 2, eps }), Some(rows)) => (rows, *eps),
        _ => return Found::Nothing,
    };
    if &graph.node(node).types()[0].shape != shape || shape.len() < 2 || rows.first() != shape.first() {
        return Found::NearMiss("the reshape after it does not undo the one before it");
    }
    let by_group = matches!(graph.node(norm.node).op, Op::Normalize(Normalize::GroupNorm { .. }));
    let mut parameters = [None, None];
    for (slot, neutral) in [1.0, 0.0].into_iter().enumerate() {
        match graph.operand(norm.node, slot + 1) {
            Some(parameter) if number(graph, parameter) == Some(neutral) => {}
            Some(parameter) if by_group && graph.is_constant(parameter) => parameters[slot] = Some(parameter),
            _ => return Found::NearMiss("its scale or bias differs within a group or is computed"),
        }
    }
    match shape[1].floor_div(groups).and_then(|each| each.mul(groups)) {
        Ok(channels) if channels == shape[1] => Found::Pattern(Grouped { x, groups: groups.clone(), eps, parameters }),
        _ => Found::NearMiss("the channels are not known to split into its groups"),
    }
}

/// What `node` reshapes.
fn reshaped(graph: &Graph, node: NodeId) -> Option<Value> {
    matches!(graph.node(node).op, Op::Movement(Movement::Reshape { .. })).then(|| graph.operand(node, 0))?
}

fn replace(graph: &mut Graph, context: &mut Context, node: NodeId, found: Grouped) -> Result<(), Diagnostic> {
    let result = Value::from(node);
    if let Some(inside) = asked_for(graph, context, result, found.x) {
        let reason = format!("%{} inside of it is asked for", graph.name(inside));
        context.refused(PASS.name, graph, result, &reason);
        return Ok(());
    }
    let base = graph.name(result).to_string();
    let ty = graph.ty(result).clone();
    let parameters = ty.with_shape(ty.shape[1..2].to_vec());
    let mut operands = vec![found.x];
    for (given, (word, neutral)) in found.parameters.into_iter().zip([("ones", 1.0), ("zeros", 0.0)]) {
        operands.push(match given {
            Some(parameter) => by_channel(graph, parameter, &parameters)?,
            None => filled(graph, &format!("{base}.{word}"), parameters.clone(), neutral)?,
        });
    }
    let norm = graph.operand(node, 0).unwrap_or(result);
    let (region, origin) = (graph.node(node).region, graph.node(norm.node).origin.made_by(PASS.name));
    let op = Normalize::GroupNorm { groups: found.groups, eps: found.eps };
    graph.set_op(node, Op::Normalize(op), &operands)?;
    graph.set_place(node, region, origin);
    context.patched(PASS.name, graph, result);
    Ok(())
}

/// A number for each group, copied to its channels.
fn by_channel(graph: &mut Graph, parameter: Value, channels: &TensorType) -> Result<Value, Diagnostic> {
    let groups = graph.ty(parameter).shape[0].clone();
    let each = channels.shape[0].floor_div(&groups).map_err(|error| Diagnostic::new(error.to_string()))?;
    let base = graph.name(parameter).to_string();
    let origin = Origin::default().made_by(PASS.name);
    let mut value = parameter;
    for op in [
        Movement::Reshape { shape: vec![groups.clone(), Dim::Known(1)] },
        Movement::Broadcast { shape: vec![groups, each] },
        Movement::Reshape { shape: channels.shape.clone() },
    ] {
        let name = graph.fresh_name(&format!("{base}.channels"));
        value = graph.add(Region::Prepare, Op::Movement(op), &[value], &name, origin.clone())?;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::check_pass;

    #[test]
    fn recognise_group_norm() {
        check_pass(
            "recognise_group_norm",
            PASS,
            r#"
        input %x : f32[N, 6, 4, 4]
        prepare
        %one = const 1 : f32[3]
        %zero = const 0 : f32[3]
        forward
        %g = reshape %x : f32[N, 3, 32] from "/reshape"
        %n = group_norm %g, %one, %zero {groups=3, eps=1e-5} : f32[N, 3, 32] from "/norm"
        %y = reshape %n : f32[N, 6, 4, 4] from "/reshape2"
        result "output/y" = %y
        "#,
            &[],
        );
    }

    #[test]
    fn recognise_group_norm_of_rows() {
        check_pass(
            "recognise_group_norm_of_rows",
            PASS,
            r#"
        input %x : f32[N, 6, H]
        prepare
        %one = const 1 : f32[2, H]
        %zero = const 0 : f32[2, H]
        forward
        %g = reshape %x : f32[N, 3, 2, H] from "/reshape"
        %n = layer_norm %g, %one, %zero {axis=2, eps=1e-5} : f32[N, 3, 2, H] from "/norm"
        %y = reshape %n : f32[N, 6, H] from "/reshape2"
        result "output/y" = %y
        "#,
            &[],
        );
    }

    #[test]
    fn recognise_group_norm_with_scales() {
        check_pass(
            "recognise_group_norm_with_scales",
            PASS,
            r#"
        input %x : f32[N, 6, 4]
        weight @w : f32[3]
        prepare
        %zero = const 0 : f32[3]
        forward
        %g = reshape %x : f32[N, 3, 8] from "/reshape"
        %n = group_norm %g, @w, %zero {groups=3, eps=1e-5} : f32[N, 3, 8] from "/norm"
        %y = reshape %n : f32[N, 6, 4] from "/reshape2"
        result "output/y" = %y
        "#,
            &[],
        );
    }

    #[test]
    fn recognise_group_norm_near_misses() {
        check_pass(
            "recognise_group_norm_near_misses",
            PASS,
            r#"
        input %x : f32[N, 6, 4]
        input %w : f32[3]
        prepare
        %one = const 1 : f32[3]
        %zero = const 0 : f32[3]
        forward
        %g = reshape %x : f32[N, 3, 8]
        %scaled = group_norm %g, %w, %zero {groups=3, eps=1e-5} : f32[N, 3, 8]
        %a = reshape %scaled : f32[N, 6, 4]
        %n = group_norm %g, %one, %zero {groups=3, eps=1e-5} : f32[N, 3, 8]
        %b = reshape %n : f32[N, 4, 6]
        %asked = group_norm %g, %one, %zero {groups=3, eps=1e-3} : f32[N, 3, 8]
        %c = reshape %asked : f32[N, 6, 4]
        result "output/a" = %a
        result "output/b" = %b
        result "output/c" = %c
        "#,
            &["asked"],
        );
    }
}
