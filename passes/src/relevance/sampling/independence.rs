//! Whether the samples of a batch do not see each other, so that each may have a step of its own and several steps run at
//! once as one larger batch.

use std::collections::{BTreeSet, HashMap, HashSet};

use lrpc_ir::graph::{Graph, Value};
use lrpc_ir::ops::{Op, Source};
use lrpc_ir::{Dim, TensorType};

use crate::commute::{Need, Row, row_of};

/// The axis of samples: the first of every requested tensor and of every explained output, if each of its rows in the
/// outputs is proven to depend on the same row of the inputs alone.
pub(super) fn samples(graph: &Graph, tensors: &[Value], explained: &[Value]) -> Option<Dim> {
    let first = |&value: &Value| graph.ty(value).shape.first();
    let samples = tensors.first().and_then(first)?;
    let all = tensors.iter().chain(explained).all(|value| first(value) == Some(samples));
    // A list of fixed length is no batch.
    let counts = samples.known().is_none() || tensors.iter().all(|&tensor| graph.ty(tensor).rank() > 1);
    let is_length = samples.known().is_some() || samples.as_symbol().is_some();
    let fits = all && counts && is_length;
    (fits && (samples.known() == Some(1) || rows_are_independent(graph, explained, samples))).then(|| samples.clone())
}

fn rows_are_independent(graph: &Graph, explained: &[Value], samples: &Dim) -> bool {
    let varying = varying(graph, samples);
    let row = Row::of_axis(0, samples.clone(), Dim::Known(0));
    let mut needs: HashMap<Value, Row> = HashMap::new();
    let mut open: Vec<(Value, Row)> = explained.iter().map(|&value| (value, row.clone())).collect();
    while let Some((value, need)) = open.pop() {
        if !varying.contains(&value) {
            continue;
        }
        match needs.get(&value) {
            Some(known) if *known == need => continue,
            Some(_) => return false,
            None => {}
        }
        let operands = graph.operands(value.node);
        let node = graph.node(value.node);
        if let Op::Source(Source::Input(ty)) = &node.op {
            let whole = need.axis == 0 && need.is_whole_axis() && is_batch_of(ty, samples);
            if !whole || !operands.is_empty() {
                return false;
            }
        } else {
            let types: Vec<&TensorType> = operands.iter().map(|&operand| graph.ty(operand)).collect();
            let Ok(Some((_, below))) = row_of(&node.op, &types, graph.ty(value), &need) else { return false };
            for (&operand, below) in operands.iter().zip(below) {
                match below {
                    Need::Row(row) => open.push((operand, row)),
                    Need::Full if varying.contains(&operand) => return false,
                    Need::Full => {}
                }
            }
        }
        needs.insert(value, need);
    }
    true
}

/// Whether the first axis of an input counts the samples, and no other does.
fn is_batch_of(ty: &TensorType, samples: &Dim) -> bool {
    let others = ty.shape.get(1..).unwrap_or_default();
    ty.shape.first() == Some(samples) && (samples.known().is_some() || !others.iter().any(|dim| mentions(dim, samples)))
}

fn mentions(dim: &Dim, symbol: &Dim) -> bool {
    let mut used = BTreeSet::new();
    dim.symbols(&mut used);
    symbol.as_symbol().is_some_and(|symbol| used.contains(symbol))
}

/// What depends on how many samples there are, or on what one of them holds.
fn varying(graph: &Graph, samples: &Dim) -> HashSet<Value> {
    let mut varying = HashSet::new();
    for node in graph.order() {
        let content = graph.node(node);
        let starts = match &content.op {
            Op::Source(Source::Input(ty)) => ty.shape.first() == Some(samples),
            Op::Source(Source::Size(size)) => mentions(size, samples),
            _ => false,
        };
        let sized = content.types().iter().flat_map(|ty| &ty.shape).any(|dim| mentions(dim, samples));
        if starts || sized || graph.operands(node).iter().any(|operand| varying.contains(operand)) {
            varying.extend((0..content.types().len() as u32).map(|port| Value { node, port }));
        }
    }
    varying
}

#[cfg(test)]
mod tests {
    use super::*;
    use lrpc_ir::text;

    fn axis(body: &str) -> Option<String> {
        let graph = text::parse(&format!("lrpc 1\n{body}result \"y\" = %y\n")).unwrap();
        let (x, y) = (graph.find("x").unwrap(), graph.find("y").unwrap());
        samples(&graph, &[x], &[y]).map(|dim| dim.to_string())
    }

    #[test]
    fn samples_that_do_not_see_each_other() {
        let dense = |size: &str| {
            format!(
                "input %x : f32[{size}, 4]\nweight @w : f32[4, 3]\nforward\n  %h = dot %x, @w {{contract=1x0}} : f32[{size}, 3]\n  \
                 %y = softmax %h {{axis=1}} : f32[{size}, 3]\n"
            )
        };
        assert_eq!(axis(&dense("N")).unwrap(), "N");
        assert_eq!(axis(&dense("2")).unwrap(), "2");
        let attention = "input %x : f32[N, S, 4]\nforward\n  %s = dot %x, %x {batch=0x0, contract=2x2} : f32[N, S, S]\n  \
                         %y = dot %s, %x {batch=0x0, contract=2x1} : f32[N, S, 4]\n";
        assert_eq!(axis(attention).unwrap(), "N");
        let flat = "input %x : f32[N, S, 4]\nforward\n  %a = reshape %x : f32[N*S, 4]\n  %b = exp %a : f32[N*S, 4]\n  \
                    %y = reshape %b : f32[N, S, 4]\n";
        assert_eq!(axis(flat).unwrap(), "N");
    }

    #[test]
    fn samples_that_do() {
        let attention = "input %x : f32[N, 4]\nforward\n  %s = dot %x, %x {contract=1x1} : f32[N, N]\n  \
                         %y = dot %s, %x {contract=1x0} : f32[N, 4]\n";
        assert_eq!(axis(attention), None);
        let centred = "input %x : f32[N, 4]\nforward\n  %m = reduce_mean %x {axes=[0], keep=true} : f32[1, 4]\n  \
                       %all = broadcast %m : f32[N, 4]\n  %y = sub %x, %all : f32[N, 4]\n";
        assert_eq!(axis(centred), None);
        let counted = "input %x : f32[N, 4]\nforward\n  %n = size {value=N} : i64[]\n  %f = cast %n : f32[]\n  \
                       %all = broadcast %f : f32[N, 4]\n  %y = mul %x, %all : f32[N, 4]\n";
        assert_eq!(axis(counted), None);
        let places = "input %x : f32[N, 4]\nforward\n  %i = iota {axis=0} : f32[N, 4]\n  %y = mul %x, %i : f32[N, 4]\n";
        assert_eq!(axis(places), None);
        assert_eq!(axis("input %x : f32[5]\nforward\n  %y = exp %x : f32[5]\n"), None);
        let summed = "input %x : f32[N, 4]\nforward\n  %y = reduce_sum %x {axes=[0]} : f32[4]\n";
        assert_eq!(axis(summed), None);
    }
}
