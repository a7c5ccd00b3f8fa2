//! Folds the scale of a product of integers into its factors, so that rules see the linear map of the numbers that the
//! integers stand for, and the bias behind it as its own.
//!
//! Before: `%i = dot (dequantize %q, 1, %z), (dequantize @w, 1, @v)`, `%n = quantize %i, 1, 0`, `%f = cast %n`,
//! `%y = mul %f, %s`, `%s` being the product of both scales. After: each `dequantize` has its scale, and
//! `%y = cast (dot …)`. A constant that is added to such a cast is added before it.

use lrpc_ir::graph::{Graph, NodeId, Origin, Region, Value};
use lrpc_ir::ops::{Binary, Elementwise, Linear, Literal, Movement, Op, Source};
use lrpc_ir::{DType, Diagnostic, Diagnostics, Dim, TensorType};

use crate::manager::{Context, PassDef};
use crate::pattern::{binary, either_order, number};

pub(super) const PASS: PassDef =
    PassDef { name: "fold_scales", doc: "folds the scale of a product of integers into its factors", run: fold_scales };

fn fold_scales(graph: &mut Graph, context: &mut Context) -> Result<(), Diagnostics> {
    for node in graph.order() {
        if let Some(found) = find(graph, context, node) {
            fold(graph, node, &found)?;
            context.patched(PASS.name, graph, node.into());
        } else if let Some((map, constant)) = constant_behind_cast(graph, context, node) {
            add_before_cast(graph, node, map, constant)?;
            context.patched(PASS.name, graph, node.into());
        }
    }
    Ok(())
}

/// A scaled product of integers.
struct Scaled {
    map: Linear,
    /// Left and right operand: integers and the integers that stand for 0, of one shape.
    factors: [[Value; 2]; 2],
    /// What each operand is to be scaled by, copied to its shape.
    scales: [Option<Scale>; 2],
}

/// A scale under a shape that broadcasts to its operand's.
struct Scale {
    value: Value,
    shape: Vec<Dim>,
}

fn find(graph: &Graph, context: &Context, node: NodeId) -> Option<Scaled> {
    either_order(graph, node.into(), Binary::Mul).into_iter().find_map(|[integers, scale]| {
        let product = whole_product(graph, context, integers)?;
        let Op::Linear(map) = &graph.node(product.node).op else { return None };
        let operands = [graph.operand(product.node, 0)?, graph.operand(product.node, 1)?];
        if graph.operand(product.node, 2).is_some() {
            return None;
        }
        let factors = [unscaled(graph, operands[0])?, unscaled(graph, operands[1])?];
        let scales = split(graph, map, operands, scale)?;
        Some(Scaled { map: map.clone(), factors, scales })
    })
}

/// The product whose whole numbers `value` holds as floating-point numbers, which nothing else reads.
fn whole_product(graph: &Graph, context: &Context, value: Value) -> Option<Value> {
    let private = |value: Value| context.is_private(graph, value).then_some(value);
    let Op::Elementwise(Elementwise::Cast(dtype)) = graph.node(private(value)?.node).op else { return None };
    let integers = private(graph.operand(value.node, 0).filter(|_| dtype.is_float())?)?;
    if graph.node(integers.node).op != Op::Elementwise(Elementwise::Quantize) {
        return None;
    }
    let plain = number(graph, graph.operand(integers.node, 1)?)? == 1.0
        && number(graph, graph.operand(integers.node, 2)?)? == 0.0;
    private(graph.operand(integers.node, 0).filter(|_| plain)?)
}

/// The integers of which `value` holds the differences to zero points.
fn unscaled(graph: &Graph, value: Value) -> Option<[Value; 2]> {
    let dequantises = graph.node(value.node).op == Op::Elementwise(Elementwise::Dequantize);
    let plain = dequantises && number(graph, graph.operand(value.node, 1)?)? == 1.0;
    if plain { Some([graph.operand(value.node, 0)?, graph.operand(value.node, 2)?]) } else { None }
}

/// Which part of the scale belongs to which operand: the constant part to the constant operand, a number that is
/// computed to the other one.
fn split(graph: &Graph, map: &Linear, operands: [Value; 2], scale: Value) -> Option<[Option<Scale>; 2]> {
    let source = before_copies(graph, scale);
    let parts = match binary(graph, source, Binary::Mul) {
        Some(parts) if parts.iter().all(|&part| before_copies(graph, part) != source) => parts.to_vec(),
        _ => vec![source],
    };
    let weight = operands.iter().position(|&operand| graph.is_constant(operand));
    let mut scales = [None, None];
    for (place, part) in parts.into_iter().enumerate() {
        let part = before_copies(graph, part);
        let slot = match weight {
            Some(weight) if graph.is_constant(part) => weight,
            Some(weight) => 1 - weight,
            None => place,
        };
        let shape = if is_single(graph, part) {
            Vec::new()
        } else {
            let of_weight = weight == Some(slot);
            per_output(graph, map, operands, slot, part).filter(|_| of_weight)?
        };
        if scales[slot].replace(Scale { value: part, shape }).is_some() {
            return None;
        }
    }
    Some(scales)
}

/// The value before reshapes and copies that leave one number, or one per feature, as it is.
fn before_copies(graph: &Graph, mut value: Value) -> Value {
    while let Op::Movement(Movement::Broadcast { .. }) = graph.node(value.node).op {
        match graph.operand(value.node, 0) {
            Some(operand) => value = operand,
            None => break,
        }
    }
    value
}

fn is_single(graph: &Graph, value: Value) -> bool {
    graph.ty(value).shape.iter().all(|size| *size == Dim::Known(1))
}

/// The shape under which one number per output feature broadcasts to the weight, which is the right operand.
fn per_output(graph: &Graph, map: &Linear, operands: [Value; 2], slot: usize, part: Value) -> Option<Vec<Dim>> {
    let (shape, weight) = (&graph.ty(part).shape, &graph.ty(operands[1]).shape);
    if slot != 1 {
        return None;
    }
    let features = |at: usize| {
        let others = shape.iter().enumerate().all(|(axis, size)| axis == at || *size == Dim::Known(1));
        shape.get(at).filter(|_| others).cloned()
    };
    match map {
        Linear::Dot(dot) => {
            let columns = features(shape.len().checked_sub(1)?)?;
            let plain = dot.batch.is_empty() && matches!(dot.contract[..], [(_, 0)]) && weight.len() == 2;
            (plain && weight.get(1) == Some(&columns)).then(|| vec![columns])
        }
        Linear::Conv(geometry) => {
            let axes = geometry.spatial.len();
            let channels = features(shape.len().checked_sub(axes + 1)?)?;
            let mut column = vec![Dim::Known(1); weight.len()];
            *column.first_mut()? = channels.clone();
            (weight.first() == Some(&channels)).then_some(column)
        }
        Linear::ConvTranspose(_) => None,
    }
}

fn fold(graph: &mut Graph, node: NodeId, found: &Scaled) -> Result<(), Diagnostic> {
    let (dtype, region) = (graph.node(node).types()[0].dtype, graph.node(node).region);
    let origin = graph.node(node).origin.made_by(PASS.name);
    let mut operands = Vec::with_capacity(2);
    for ([q, zero], scale) in found.factors.iter().zip(&found.scales) {
        let shape = graph.ty(*q).shape.clone();
        let scale = match scale {
            Some(scale) => add_scale(graph, node, scale, &shape)?,
            None => {
                let one = Literal::filled(TensorType::new(DType::F64, shape), 1.0);
                let one = Op::Source(Source::Constant(one));
                add(graph, Region::Prepare, one, &[], node, "one", &origin)?
            }
        };
        let place = if [*q, scale, *zero].iter().all(|&operand| graph.constant_source(operand).is_some()) {
            Region::Prepare
        } else {
            region
        };
        let op = Op::Elementwise(Elementwise::Dequantize);
        operands.push(add(graph, place, op, &[*q, scale, *zero], node, "dequantize", &origin)?);
    }
    let map = add(graph, region, Op::Linear(found.map.clone()), &operands, node, "product", &origin)?;
    graph.set_op(node, Op::Elementwise(Elementwise::Cast(dtype)), &[map])?;
    graph.set_place(node, region, origin);
    Ok(())
}

/// The scale in `f64`, copied to `shape`.
fn add_scale(graph: &mut Graph, node: NodeId, scale: &Scale, shape: &[Dim]) -> Result<Value, Diagnostic> {
    let origin = graph.node(node).origin.made_by(PASS.name);
    let region = if graph.is_constant(scale.value) { Region::Prepare } else { graph.node(node).region };
    let mut value = scale.value;
    let steps = [
        Op::Elementwise(Elementwise::Cast(DType::F64)),
        Op::Movement(Movement::Reshape { shape: scale.shape.clone() }),
        Op::Movement(Movement::Broadcast { shape: shape.to_vec() }),
    ];
    for step in steps {
        value = add(graph, region, step, &[value], node, "scale", &origin)?;
    }
    Ok(value)
}

fn add(
    graph: &mut Graph,
    region: Region,
    op: Op,
    operands: &[Value],
    node: NodeId,
    what: &str,
    origin: &Origin,
) -> Result<Value, Diagnostic> {
    let name = graph.fresh_name(&format!("{}.{what}", graph.name(node.into())));
    Ok(graph.add(region, op, operands, &name, origin.clone())?)
}

/// The linear map in `f64`, which a cast alone reads, and the constant that `node` adds to that cast.
fn constant_behind_cast(graph: &Graph, context: &Context, node: NodeId) -> Option<(Value, Value)> {
    either_order(graph, node.into(), Binary::Add).into_iter().find_map(|[narrow, constant]| {
        let narrows = matches!(graph.node(narrow.node).op, Op::Elementwise(Elementwise::Cast(DType::F32)));
        let map = graph.operand(narrow.node, 0).filter(|_| narrows && context.is_private(graph, narrow))?;
        let is_map = matches!(graph.node(map.node).op, Op::Linear(_)) && graph.ty(map).dtype == DType::F64;
        let fits = is_map && context.is_private(graph, map) && graph.constant_source(constant).is_some();
        fits.then_some((map, constant))
    })
}

fn add_before_cast(graph: &mut Graph, node: NodeId, map: Value, constant: Value) -> Result<(), Diagnostic> {
    let (region, shape) = (graph.node(node).region, graph.node(node).types()[0].shape.clone());
    let origin = graph.node(node).origin.made_by(PASS.name);
    let Some(source) = graph.constant_source(constant) else { return Ok(()) };
    let cast = |dtype| Op::Elementwise(Elementwise::Cast(dtype));
    let wide = add(graph, Region::Prepare, cast(DType::F64), &[source], node, "constant", &origin)?;
    let copies = Op::Movement(Movement::Broadcast { shape });
    let copies = add(graph, region, copies, &[wide], node, "constant", &origin)?;
    let sum = Op::Elementwise(Elementwise::Binary(Binary::Add));
    let sum = add(graph, region, sum, &[map, copies], node, "sum", &origin)?;
    graph.set_op(node, cast(DType::F32), &[sum])?;
    graph.set_place(node, region, origin);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::check_pass;

    #[test]
    fn fold_scales() {
        check_pass(
            "fold_scales",
            PASS,
            r#"
        input %x : f32[N, 3]
        weight @w : i8[3, 5]
        weight @t : f32[5]
        weight @v : i8[5]
        weight @b : f32[5]
        prepare
        %one = const 1 : f64[3, 5]
        %v.all = broadcast @v : i8[3, 5]
        %w.whole = dequantize @w, %one, %v.all : f64[3, 5]
        forward
        %s = reduce_max %x {axes=[0, 1]} : f32[]
        %s.all = broadcast %s : f32[N, 3]
        %z = const 128 : u8[N, 3]
        %q = quantize %x, %s.all, %z : u8[N, 3] from "/quantize"
        %one.x = const 1 : f64[N, 3]
        %x.whole = dequantize %q, %one.x, %z : f64[N, 3] from "/matmul"
        %p = dot %x.whole, %w.whole {contract=1x0} : f64[N, 5] from "/matmul"
        %one.p = const 1 : f64[N, 5]
        %zero.p = const 0 : i32[N, 5]
        %i = quantize %p, %one.p, %zero.p : i32[N, 5] from "/matmul"
        %f = cast %i : f32[N, 5] from "/cast"
        %s.row = broadcast %s : f32[5]
        %both = mul %s.row, @t : f32[5] from "/scales"
        %both.all = broadcast %both : f32[N, 5]
        %m = mul %f, %both.all : f32[N, 5] from "/mul"
        %b.all = broadcast @b : f32[N, 5]
        %y = add %b.all, %m : f32[N, 5] from "/add"
        result "output/y" = %y
        "#,
            &[],
        );
    }
}
