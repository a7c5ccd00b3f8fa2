//! Attention whose scores and weights are changed by graphs of the node's own.

use lrpc_ir::ops::{Dot, Function, Linear, Normalize};
use lrpc_ir::types::DType;
use lrpc_ir::{Op, Value};

use super::attention::repeat_heads;
use super::finding::{Lowered, invalid, unsupported};
use super::lowering::Slot;
use super::nested::{values_of, written_out};
use super::site::Site;
use super::table::OpDef;
use crate::onnx::tensor::element_type;

pub(super) const OPERATORS: &[OpDef] =
    &[OpDef { domain: "ai.onnx.preview", ..OpDef::new("FlexAttention", 1, flex_attention) }];

/// `prob_mod(softmax(score_mod(scale·Q·Kᵀ)))·V` (ONNX, `FlexAttention`).
fn flex_attention(site: &mut Site) -> Lowered {
    let (queries, keys, values) = (site.input(0)?, site.input(1)?, site.input(2)?);
    let ty = site.ty(queries);
    let [_, heads, _, size] = ty.shape.as_slice() else { return invalid(format!("{ty} has not four axes")) };
    let scale = match (site.float("scale")?, size.known()) {
        (Some(scale), _) => scale,
        (None, Some(size)) => 1.0 / (size as f64).sqrt(),
        (None, None) => return unsupported("heads of symbolic size without a scale"),
    };
    let precision = precision(site, ty.dtype)?;
    let (keys, values) = (repeat_heads(site, keys, heads)?, repeat_heads(site, values, heads)?);
    let product = Dot { batch: vec![(0, 0), (1, 1)], contract: vec![(3, 3)] };
    let scores = site.emit(Op::Linear(Linear::Dot(product)), &[queries, keys])?;
    let scores = site.unary(Function::Scale, [scale, 0.0], scores)?;
    let scores = site.cast(scores, precision)?;
    let scores = modified(site, "score_mod", scores)?;
    let weights = site.emit(Op::Normalize(Normalize::Softmax { axis: 3, safe: false }), &[scores])?;
    let weights = modified(site, "prob_mod", weights)?;
    let values = site.cast(values, precision)?;
    let product = Dot { batch: vec![(0, 0), (1, 1)], contract: vec![(3, 2)] };
    let result = site.emit(Op::Linear(Linear::Dot(product)), &[weights, values])?;
    let result = site.cast(result, ty.dtype)?;
    site.output(0, result)
}

/// The element type of the scores: single precision, and double precision for numbers that have it.
fn precision(site: &mut Site, dtype: DType) -> Lowered<DType> {
    let Some(number) = site.int("softmax_precision")? else {
        return Ok(if dtype == DType::F64 { DType::F64 } else { DType::F32 });
    };
    match i32::try_from(number).ok().and_then(element_type).filter(|dtype| dtype.is_float()) {
        Some(dtype) => Ok(dtype),
        None => unsupported(format!("softmax_precision is {number}")),
    }
}

/// What the graph in `attribute`, if there is one, makes of `x`; it has the type of `x`.
fn modified(site: &mut Site, attribute: &'static str, x: Value) -> Lowered<Value> {
    if !site.node.attribute.iter().any(|found| found.name() == attribute) {
        return Ok(x);
    }
    let graph = site.graph_attribute(attribute)?;
    let [input] = graph.input.as_slice() else { return invalid(format!("its {attribute} has not one input")) };
    let slots = written_out(site, graph, attribute, vec![(input.name(), Slot::Value(x, None))], 0)?;
    match values_of(&slots)?.as_slice() {
        [result] => {
            let ty = site.ty(x);
            site.settled(*result, &ty)
        }
        results => invalid(format!("its {attribute} has {} outputs, expected one", results.len())),
    }
}
