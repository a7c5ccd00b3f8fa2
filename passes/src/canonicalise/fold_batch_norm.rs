//! Folds batch norm, which with stored statistics is `a·x + c` per channel, `a = scale/√(variance + eps)`,
//! `c = bias − a·mean`.
//!
//! After a linear map: `%z = conv %x, @w, @b`, `%y = batch_norm %z, …` becomes `%y = conv %x, %w·a, %b·a + c`. Before an
//! unpadded one: `%y = batch_norm %x, …`, `%z = conv %y, @w, @b` becomes `%z = conv %x, %w·a, %b + Σ w·c`. Elsewhere it
//! becomes the affine map that it is.

use lrpc_ir::graph::{Graph, NodeId, Origin, Region, Value};
use lrpc_ir::ops::{Binary, Dot, Elementwise, Function, Linear, Movement, Normalize, Op, Unary};
use lrpc_ir::{Diagnostic, Diagnostics, Dim, TensorType};

use crate::manager::{Context, PassDef};

pub(super) const PASS: PassDef = PassDef {
    name: "fold_batch_norm",
    doc: "folds batch norm into the neighbouring linear map, or makes it the affine map it is",
    run: fold_batch_norm,
};

fn fold_batch_norm(graph: &mut Graph, context: &mut Context) -> Result<(), Diagnostics> {
    for node in graph.order() {
        if let Op::Normalize(Normalize::BatchNorm { eps }) = graph.node(node).op {
            fold(graph, context, node, eps.0)?;
        }
    }
    Ok(())
}

fn fold(graph: &mut Graph, context: &mut Context, node: NodeId, eps: f64) -> Result<(), Diagnostic> {
    let [x, scale, bias, mean, variance] = graph.operands(node)[..] else {
        return Err(Diagnostic::new("batch norm needs five operands"));
    };
    let base = graph.name(node.into()).to_string();
    let constant = |&value: &Value| graph.is_constant(value);
    let region = if [scale, bias, mean, variance].iter().all(constant) { Region::Prepare } else { Region::Forward };
    let forward = graph.node(node).region == Region::Forward;
    let origin = graph.node(node).origin.made_by(PASS.name);
    let mut maker = Maker { graph, base, origin, region };
    let (a, c) = maker.affine([scale, bias, mean, variance], eps)?;
    let patched = region == Region::Prepare
        && forward
        && (fold_into_previous(&mut maker, context, node, x, a, c)?
            || fold_into_next(&mut maker, context, node, x, a, c)?);
    if !patched {
        maker.spell_out(node, x, a, c)?;
    }
    context.patched(PASS.name, graph, node.into());
    Ok(())
}

/// `y = a·(x·W + b) + c = x·(W·a) + (a·b + c)`.
fn fold_into_previous(
    maker: &mut Maker,
    context: &mut Context,
    node: NodeId,
    x: Value,
    a: Value,
    c: Value,
) -> Result<bool, Diagnostic> {
    let graph = &*maker.graph;
    let Op::Linear(op) = graph.node(x.node).op.clone() else { return Ok(false) };
    let operands = graph.operands(x.node);
    if !maker.has_constants(&operands) || !has_channels_at_one(graph, x, &op, operands[1]) {
        context.refused(PASS.name, graph, node.into(), "the linear map before it has no weight per channel");
        return Ok(false);
    }
    if !context.is_private(graph, x) {
        context.kept_apart(PASS.name, graph, node.into(), x);
        return Ok(false);
    }
    let weight = match &op {
        Linear::Dot(dot) => {
            let axis = dot.right_free(graph.ty(operands[1]).rank())[0];
            maker.scale_axis(operands[1], axis, a)?
        }
        Linear::Conv(_) => maker.scale_axis(operands[1], 0, a)?,
        // The weight is [C, O/groups, …]: group by group it is scaled along its second axis.
        Linear::ConvTranspose(geometry) => maker.scale_grouped(operands[1], geometry.groups, a)?,
    };
    let bias = match operands.get(2) {
        Some(&bias) => {
            let scaled = maker.binary(Binary::Mul, bias, a, "bias")?;
            maker.binary(Binary::Add, scaled, c, "bias")?
        }
        None => c,
    };
    let origin = maker.graph.node(x.node).origin.made_by(PASS.name);
    maker.graph.set_op(node, Op::Linear(op), &[operands[0], weight, bias])?;
    maker.graph.set_place(node, Region::Forward, origin);
    Ok(true)
}

/// `z = (a·x + c)·W + b = x·(a·W) + (b + c·W)`, where no padding sees the difference.
fn fold_into_next(
    maker: &mut Maker,
    context: &mut Context,
    node: NodeId,
    x: Value,
    a: Value,
    c: Value,
) -> Result<bool, Diagnostic> {
    let graph = &*maker.graph;
    let value = Value::from(node);
    let [(user, 0)] = graph.users(value)[..] else { return Ok(false) };
    let operands = graph.operands(user);
    let Op::Linear(op) = graph.node(user).op.clone() else { return Ok(false) };
    if !context.is_private(graph, value) || !maker.has_constants(&operands) {
        return Ok(false);
    }
    let ty = graph.ty(operands[1]).clone();
    let (weight, shift) = match &op {
        Linear::Conv(geometry) if is_unpadded(geometry, graph.ty(x), &ty) => {
            let groups = geometry.groups;
            (maker.scale_grouped(operands[1], groups, a)?, maker.response(operands[1], groups, c)?)
        }
        Linear::Dot(dot) if graph.ty(x).rank() == 2 && dot.batch.is_empty() && ty.rank() == 2 => {
            let Some(&(1, axis)) = dot.contract.first().filter(|_| dot.contract.len() == 1) else { return Ok(false) };
            let shift = Op::Linear(Linear::Dot(Dot { batch: vec![], contract: vec![(0, axis)] }));
            (maker.scale_axis(operands[1], axis, a)?, maker.op(shift, &[c, operands[1]], "bias")?)
        }
        _ => {
            context.refused(PASS.name, graph, value, "padding of the linear map behind it would see the difference");
            return Ok(false);
        }
    };
    let bias = match operands.get(2) {
        Some(&bias) => maker.binary(Binary::Add, shift, bias, "bias")?,
        None => shift,
    };
    let origin = maker.graph.node(user).origin.made_by(PASS.name);
    maker.graph.set_op(user, Op::Linear(op), &[x, weight, bias])?;
    maker.graph.set_place(user, Region::Forward, origin);
    Ok(true)
}

/// Whether the output feature of the linear map that makes `y` is the result's axis 1, which batch norm scales.
fn has_channels_at_one(graph: &Graph, y: Value, op: &Linear, weight: Value) -> bool {
    match op {
        Linear::Conv(_) | Linear::ConvTranspose(_) => true,
        Linear::Dot(dot) => graph.ty(y).rank() == 2 && dot.right_free(graph.ty(weight).rank()).len() == 1,
    }
}

/// Whether every window lies inside the input.
fn is_unpadded(geometry: &lrpc_ir::ops::Geometry, x: &TensorType, weight: &TensorType) -> bool {
    (0..geometry.spatial.len()).all(|axis| {
        let reach = || -> Option<bool> {
            let taps = weight.shape[axis + 2].known()?;
            let last = geometry.spatial[axis].known()?.checked_sub(1)?.checked_mul(geometry.strides[axis])?;
            let end = last.checked_add((taps - 1).checked_mul(geometry.dilations[axis])?)?;
            Some(end < x.shape[axis + 2].known()?)
        };
        let pointwise = weight.shape[axis + 2] == Dim::Known(1) && geometry.spatial[axis] == x.shape[axis + 2];
        geometry.pads[axis] == Dim::Known(0) && (pointwise || reach() == Some(true))
    })
}

/// Makes the nodes of a fold.
struct Maker<'a> {
    graph: &'a mut Graph,
    base: String,
    origin: Origin,
    region: Region,
}

impl Maker<'_> {
    fn op(&mut self, op: Op, operands: &[Value], what: &str) -> Result<Value, Diagnostic> {
        let name = self.graph.fresh_name(&format!("{}.{what}", self.base));
        Ok(self.graph.add(self.region, op, operands, &name, self.origin.clone())?)
    }

    fn unary(&mut self, unary: Unary, x: Value, what: &str) -> Result<Value, Diagnostic> {
        self.op(Op::Elementwise(Elementwise::Unary(unary)), &[x], what)
    }

    fn binary(&mut self, binary: Binary, a: Value, b: Value, what: &str) -> Result<Value, Diagnostic> {
        self.op(Op::Elementwise(Elementwise::Binary(binary)), &[a, b], what)
    }

    fn reshape(&mut self, x: Value, shape: Vec<Dim>, what: &str) -> Result<Value, Diagnostic> {
        if self.graph.ty(x).shape == shape {
            return Ok(x);
        }
        self.op(Op::Movement(Movement::Reshape { shape }), &[x], what)
    }

    fn broadcast(&mut self, x: Value, shape: Vec<Dim>, what: &str) -> Result<Value, Diagnostic> {
        self.op(Op::Movement(Movement::Broadcast { shape }), &[x], what)
    }

    /// Whether weight and bias of a linear map are constants.
    fn has_constants(&self, operands: &[Value]) -> bool {
        operands.iter().skip(1).all(|&operand| self.graph.is_constant(operand))
    }

    /// `a` and `c`.
    fn affine(&mut self, parameters: [Value; 4], eps: f64) -> Result<(Value, Value), Diagnostic> {
        let [scale, bias, mean, variance] = parameters;
        let shifted = self.unary(Unary::with(Function::Shift, eps), variance, "deviation")?;
        let deviation = self.unary(Unary::plain(Function::Sqrt), shifted, "deviation")?;
        let a = self.binary(Binary::Div, scale, deviation, "factor")?;
        let moved = self.binary(Binary::Mul, a, mean, "offset")?;
        Ok((a, self.binary(Binary::Sub, bias, moved, "offset")?))
    }

    /// `weight` times `factor` along `axis`.
    fn scale_axis(&mut self, weight: Value, axis: usize, factor: Value) -> Result<Value, Diagnostic> {
        let shape = self.graph.ty(weight).shape.clone();
        let mut column = vec![Dim::Known(1); shape.len()];
        column[axis] = shape[axis].clone();
        let column = self.reshape(factor, column, "factor")?;
        let factors = self.broadcast(column, shape, "factor")?;
        self.binary(Binary::Mul, weight, factors, "weight")
    }

    /// `weight` times `factor` along its second axis, where `factor` runs through the groups; the groups split the
    /// weight's first axis.
    fn scale_grouped(&mut self, weight: Value, groups: i64, factor: Value) -> Result<Value, Diagnostic> {
        let shape = self.graph.ty(weight).shape.clone();
        let (grouped, column) = grouped(&shape, groups)?;
        let column = self.reshape(factor, column, "factor")?;
        let factors = self.broadcast(column, grouped, "factor")?;
        let factors = self.reshape(factors, shape, "factor")?;
        self.binary(Binary::Mul, weight, factors, "weight")
    }

    /// `Σ_c weight·c` per output channel: what the convolution gives for an input that is `c` everywhere.
    fn response(&mut self, weight: Value, groups: i64, c: Value) -> Result<Value, Diagnostic> {
        let shifted = self.scale_grouped(weight, groups, c)?;
        let axes = (1..self.graph.ty(weight).rank()).collect();
        let sum = lrpc_ir::ops::Reduce { kind: lrpc_ir::ops::ReduceKind::Sum, axes, keep: false };
        self.op(Op::Reduce(sum), &[shifted], "bias")
    }

    /// `a·x + c` as two operations.
    fn spell_out(&mut self, node: NodeId, x: Value, a: Value, c: Value) -> Result<(), Diagnostic> {
        let shape = self.graph.ty(x).shape.clone();
        let mut column = vec![Dim::Known(1); shape.len() - 1];
        column[0] = shape[1].clone();
        let (a, c) = (self.reshape(a, column.clone(), "factor")?, self.reshape(c, column, "offset")?);
        let region = self.graph.node(node).region;
        self.region = region;
        let (a, c) = (self.broadcast(a, shape.clone(), "factor")?, self.broadcast(c, shape, "offset")?);
        let scaled = self.binary(Binary::Mul, x, a, "scaled")?;
        let origin = self.origin.clone();
        self.graph.set_op(node, Op::Elementwise(Elementwise::Binary(Binary::Add)), &[scaled, c])?;
        self.graph.set_place(node, region, origin);
        Ok(())
    }
}

/// A weight's shape `[A, B, …]` as `[groups, A/groups, B, …]`, and that of a factor `[groups·B]` beside it.
fn grouped(shape: &[Dim], groups: i64) -> Result<(Vec<Dim>, Vec<Dim>), Diagnostic> {
    let groups = Dim::Known(groups);
    let per_group = shape[0].floor_div(&groups)?;
    let whole = [&[groups.clone(), per_group], &shape[1..]].concat();
    let mut column = vec![Dim::Known(1); whole.len()];
    column[0] = groups;
    column[2] = shape[1].clone();
    Ok((whole, column))
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::check_pass;

    #[test]
    fn fold_batch_norm_after_conv() {
        check_pass(
            "fold_batch_norm_after_conv",
            PASS,
            r#"
        input %x : f32[N, 3, 8]
        weight @w : f32[4, 3, 3]
        weight @c : f32[4]
        weight @s : f32[4]
        weight @b : f32[4]
        weight @m : f32[4]
        weight @v : f32[4]
        forward
        %z = conv %x, @w, @c {pad=1} : f32[N, 4, 8] from "/conv"
        %y = batch_norm %z, @s, @b, @m, @v {eps=1e-5} : f32[N, 4, 8] from "/bn"
        result "output/y" = %y
        "#,
            &[],
        );
    }

    #[test]
    fn fold_batch_norm_after_transposed_conv() {
        check_pass(
            "fold_batch_norm_after_transposed_conv",
            PASS,
            r#"
        input %x : f32[N, 6, 8]
        weight @w : f32[6, 2, 2]
        weight @s : f32[4]
        weight @b : f32[4]
        weight @m : f32[4]
        weight @v : f32[4]
        forward
        %z = conv_transpose %x, @w {stride=2, groups=2} : f32[N, 4, 16] from "/conv"
        %y = batch_norm %z, @s, @b, @m, @v {eps=1e-5} : f32[N, 4, 16] from "/bn"
        result "output/y" = %y
        "#,
            &[],
        );
    }

    #[test]
    fn fold_batch_norm_before_conv() {
        check_pass(
            "fold_batch_norm_before_conv",
            PASS,
            r#"
        input %x : f32[N, 4, 8]
        weight @w : f32[6, 4, 1]
        weight @c : f32[6]
        weight @s : f32[4]
        weight @b : f32[4]
        weight @m : f32[4]
        weight @v : f32[4]
        forward
        %z = batch_norm %x, @s, @b, @m, @v {eps=1e-5} : f32[N, 4, 8] from "/bn"
        %y = conv %z, @w, @c : f32[N, 6, 8] from "/conv"
        result "output/y" = %y
        "#,
            &[],
        );
    }

    #[test]
    fn fold_batch_norm_alone() {
        check_pass(
            "fold_batch_norm_alone",
            PASS,
            r#"
        input %x : f32[N, 4, 8]
        weight @w : f32[6, 4, 3]
        weight @s : f32[4]
        weight @b : f32[4]
        weight @m : f32[4]
        weight @v : f32[4]
        forward
        %z = batch_norm %x, @s, @b, @m, @v {eps=1e-5} : f32[N, 4, 8] from "/bn"
        %y = conv %z, @w {pad=1} : f32[N, 6, 8] from "/conv"
        result "output/y" = %y
        "#,
            &[],
        );
    }

    #[test]
    fn fold_batch_norm_around_dot() {
        check_pass(
            "fold_batch_norm_around_dot",
            PASS,
            r#"
        input %x : f32[N, 4]
        weight @w : f32[4, 4]
        weight @s : f32[4]
        weight @b : f32[4]
        weight @m : f32[4]
        weight @v : f32[4]
        forward
        %z = batch_norm %x, @s, @b, @m, @v {eps=1e-5} : f32[N, 4] from "/bn"
        %h = dot %z, @w {contract=1x1} : f32[N, 4] from "/fc"
        %y = batch_norm %h, @s, @b, @m, @v {eps=1e-5} : f32[N, 4] from "/bn2"
        result "output/y" = %y
        "#,
            &[],
        );
    }
}
