//! Choice between graphs.

use std::collections::HashMap;

use lrpc_ir::graph::GraphResult;
use lrpc_ir::ops::{Control, Elementwise, Movement, Source};
use lrpc_ir::types::TensorType;
use lrpc_ir::{Dim, Graph, Op, Origin, Region, Value};

use super::finding::{Lowered, Refusal, invalid, unsupported};
use super::known::Known;
use super::nested::{values_of, written_out};
use super::site::Site;
use super::table::OpDef;
use crate::onnx::proto::GraphProto;

pub(super) const OPERATORS: &[OpDef] = &[OpDef::new("If", 1, conditional)];

/// A condition that is known at import chooses its branch, which takes the node's place.
fn conditional(site: &mut Site) -> Lowered {
    site.input_type(0)?;
    let condition = site.known(0).and_then(Known::numbers);
    let then_branch = (site.graph_attribute("then_branch")?, "then_branch");
    let else_branch = (site.graph_attribute("else_branch")?, "else_branch");
    let outputs = site.node.output.len();
    if [then_branch, else_branch].iter().any(|(branch, _)| branch.output.len() != outputs || !branch.input.is_empty()) {
        return invalid("a branch does not give the node's outputs, or has inputs");
    }
    match condition.as_deref() {
        Some([0]) => return taken(site, else_branch),
        Some([_]) => return taken(site, then_branch),
        _ => {}
    }
    let of_sizes = site.known(0).and_then(|known| <[Dim; 1]>::try_from(known.elements.clone()).ok());
    match of_sizes {
        Some([choice]) => chosen(site, then_branch, else_branch, Some(choice)),
        None if site.lowering.is_nested() => both(site, then_branch, else_branch),
        None => chosen(site, then_branch, else_branch, None),
    }
}

/// A condition that is an expression over sizes is a number when binding; one that is computed when the model runs is
/// measured.
fn chosen<'m>(
    site: &mut Site<'_, 'm>,
    then_branch: (&'m GraphProto, &str),
    else_branch: (&'m GraphProto, &str),
    choice: Option<Dim>,
) -> Lowered {
    let mut branch = |(graph, attribute): (&'m GraphProto, &str), types: Option<&[TensorType]>| {
        site.nested(|site| {
            let mut values = values_of(&written_out(site, graph, attribute, Vec::new(), 0)?)?;
            let found: Vec<TensorType> = values.iter().map(|value| site.ty(*value)).collect();
            let like = |(a, b): (&TensorType, &TensorType)| a.dtype == b.dtype && a.rank() == b.rank();
            if !found.iter().zip(types.unwrap_or(&found)).all(like) {
                return Ok(Some(found));
            }
            for (value, ty) in values.iter_mut().zip(types.unwrap_or_default()) {
                *value = site.settled(*value, ty)?;
            }
            site.return_from_body("result", &values);
            Ok(None)
        })
    };
    let (taken, _, first) = branch(then_branch, None)?;
    let types = taken.result_types();
    let (other, unlike, second) = branch(else_branch, Some(&types))?;
    if let Some(unlike) = unlike {
        return match choice {
            Some(choice) => assumed(site, then_branch, &choice),
            None => unsupported(format!("its branches give {types:?} and {unlike:?}, and data decides which is taken")),
        };
    }
    let choice = match choice {
        Some(choice) => choice,
        None => {
            let condition = site.input(0)?;
            let condition = site.reshape(condition, Vec::new())?;
            site.lowering.measure(condition)?
        }
    };
    let mut captured = first.clone();
    captured.extend(second.iter().copied().filter(|value| !first.contains(value)));
    let types: Vec<TensorType> = captured.iter().map(|value| site.ty(*value)).collect();
    let shared = |graph: &Graph, own: &[Value]| {
        let place = |value: &Value| captured.iter().position(|other| other == value);
        with_inputs(graph, &own.iter().filter_map(place).collect::<Vec<_>>(), &types)
    };
    let (then_branch, else_branch) = (Box::new(shared(&taken, &first)?), Box::new(shared(&other, &second)?));
    let results = then_branch.results.len();
    let op = Op::Control(Control::Cond { choice, then_branch, else_branch });
    for (index, value) in site.emit_many(op, &captured, results)?.into_iter().enumerate() {
        site.output(index, value)?;
    }
    Ok(())
}

/// The number of axes has to be known at import. Where it differs between the branches, the condition is taken to hold, as
/// where an axis is dropped that should have the length 1; binding checks it with numbers.
fn assumed<'m>(site: &mut Site<'_, 'm>, (branch, attribute): (&'m GraphProto, &str), choice: &Dim) -> Lowered {
    let values = values_of(&written_out(site, branch, attribute, Vec::new(), 0)?)?;
    for (index, value) in values.into_iter().enumerate() {
        // As many copies of the elements as the condition says: one.
        let shape = site.ty(value).shape;
        let copies = site.reshape(value, [&[choice.clone()], shape.as_slice()].concat())?;
        let first = Movement::slice_axis(&site.ty(copies), 0, Dim::Known(0), Dim::Known(1));
        let first = site.emit(Op::Movement(first), &[copies])?;
        let checked = site.reshape(first, shape)?;
        site.output(index, checked)?;
    }
    Ok(())
}

/// The graph over inputs of these types, its own ones at `places` among them.
fn with_inputs(graph: &Graph, places: &[usize], types: &[TensorType]) -> Lowered<Graph> {
    let mut wider = Graph::new();
    let mut values: HashMap<Value, Value> = HashMap::new();
    for (place, ty) in types.iter().enumerate() {
        let own = graph.inputs().into_iter().zip(places).find(|(_, own)| **own == place).map(|(input, _)| input);
        let name = own.map_or_else(|| graph.fresh_name("unread"), |own| graph.name(own).to_string());
        let input = Op::Source(Source::Input(ty.clone()));
        let name = wider.fresh_name(&name);
        let value = wider.add(Region::Header, input, &[], &name, Origin::default())?;
        values.extend(own.map(|own| (own, value)));
    }
    for node in graph.order() {
        let content = graph.node(node);
        if values.contains_key(&node.into()) {
            continue;
        }
        let operands: Vec<Value> = graph.operands(node).iter().filter_map(|value| values.get(value).copied()).collect();
        let names: Vec<&str> = content.names().iter().map(AsRef::as_ref).collect();
        let new = wider.add_many(content.region, content.op.clone(), &operands, &names, content.origin.clone())?;
        let ports = 0..names.len() as u32;
        values.extend(ports.map(|port| (Value { node, port }, Value { node: new, port })));
    }
    for result in &graph.results {
        let value = values.get(&result.value).copied().ok_or(Refusal::Follows)?;
        wider.results.push(GraphResult { name: result.name.clone(), value });
    }
    Ok(wider)
}

fn taken<'m>(site: &mut Site<'_, 'm>, (branch, attribute): (&'m GraphProto, &str)) -> Lowered {
    let slots = written_out(site, branch, attribute, Vec::new(), usize::MAX)?;
    for (index, slot) in slots.into_iter().enumerate() {
        site.output_slot(index, slot)?;
    }
    Ok(())
}

/// Inside a loop the condition may differ from run to run: both branches are computed and chosen between.
fn both<'m>(
    site: &mut Site<'_, 'm>,
    then_branch: (&'m GraphProto, &str),
    else_branch: (&'m GraphProto, &str),
) -> Lowered {
    let condition = site.input(0)?;
    let condition = site.reshape(condition, Vec::new())?;
    let mut branch = |(graph, attribute): (&'m GraphProto, &str)| -> Lowered<Vec<Value>> {
        values_of(&written_out(site, graph, attribute, Vec::new(), 0)?)
    };
    let pairs: Vec<(Value, Value)> = branch(then_branch)?.into_iter().zip(branch(else_branch)?).collect();
    for (index, (a, b)) in pairs.into_iter().enumerate() {
        let (ty, other) = (site.ty(a), site.ty(b));
        if ty != other {
            return unsupported(format!("inside a loop, its branches give {ty} and {other}"));
        }
        let result = site.elementwise(Elementwise::Where, &[condition, a, b])?;
        site.output(index, result)?;
    }
    Ok(())
}
