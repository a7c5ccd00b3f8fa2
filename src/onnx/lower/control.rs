//! Nested graphs.

use super::finding::{Lowered, Refusal, invalid, unsupported};
use super::known::Known;
use super::lowering::{Keep, Slot};
use super::site::Site;
use super::structure;
use super::table::OpDef;
use crate::onnx::proto::GraphProto;

pub(super) const OPERATORS: &[OpDef] = &[OpDef::new("If", 1, conditional)];

/// A condition that is known at import chooses its branch, which takes the node's place.
fn conditional(site: &mut Site) -> Lowered {
    site.input_type(0)?;
    let condition = site.known(0).and_then(Known::numbers);
    let branches = [site.graph_attribute("else_branch")?, site.graph_attribute("then_branch")?];
    let branch = match condition.as_deref() {
        Some([0]) => branches[0],
        Some([_]) => branches[1],
        _ => return unsupported("the condition is computed when the model runs"),
    };
    if !branch.sparse_initializer.is_empty() || branch.output.len() != site.node.output.len() {
        return invalid("the branch does not give the node's outputs, or has sparse initializers");
    }
    let nodes = branch.node.iter().flat_map(|node| &node.output).map(String::as_str);
    let names: Vec<&str> = branch.initializer.iter().map(|tensor| tensor.name()).chain(nodes).collect();
    let outside: Vec<_> = names.iter().map(|name| site.lowering.slot(name).cloned()).collect();
    site.lowering.depth = site.lowering.depth.saturating_add(1);
    let outcome = take_place(site, branch);
    site.lowering.depth = site.lowering.depth.saturating_sub(1);
    // The branch's names end with it.
    for (name, slot) in names.into_iter().zip(outside) {
        site.lowering.restore(name, slot);
    }
    for (index, slot) in outcome?.into_iter().enumerate() {
        match slot {
            Slot::Value(value, _) => site.output(index, value)?,
            Slot::Known(known) => site.output_known(index, known),
            Slot::Tensor(..) | Slot::Refused => return Err(Refusal::Follows),
        }
    }
    Ok(())
}

/// Lowers the branch and returns what its outputs stand for.
fn take_place<'m>(site: &mut Site<'_, 'm>, branch: &'m GraphProto) -> Lowered<Vec<Slot<'m>>> {
    for tensor in &branch.initializer {
        match site.lowering.file.tensor(tensor) {
            Some(data) => site.lowering.define_tensor(tensor.name(), data, Keep::Inline),
            None => return unsupported("an initializer of the branch has an element type that is not supported"),
        }
    }
    let used = structure::used_names(branch);
    for node in &branch.node {
        super::lower_node(site.lowering, node, &used)
            .map_err(|refusal| inside(refusal, &structure::node_name(node)))?;
    }
    let mut slots = Vec::with_capacity(branch.output.len());
    for output in &branch.output {
        slots.push(match site.lowering.slot(output.name()) {
            Some(Slot::Known(known)) => Slot::Known(known.clone()),
            _ => Slot::Value(site.lowering.value(output.name())?, None),
        });
    }
    Ok(slots)
}

/// Findings are about nodes of the main graph; one inside a branch is named in the reason.
fn inside(refusal: Refusal, node: &str) -> Refusal {
    match refusal {
        Refusal::Unsupported(reason) => Refusal::Unsupported(format!("in the branch taken, {node:?}: {reason}")),
        Refusal::Invalid(reason) => Refusal::Invalid(format!("in the branch taken, {node:?}: {reason}")),
        Refusal::Follows => Refusal::Follows,
    }
}
