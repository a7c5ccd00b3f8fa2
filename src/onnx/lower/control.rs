//! Nested graphs.

use super::finding::{Lowered, Refusal, invalid, unsupported};
use super::known::Known;
use super::lowering::{Keep, Slot};
use super::site::Site;
use super::structure;
use super::table::OpDef;

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
    for (index, output) in branch.output.iter().enumerate() {
        match site.lowering.slot(output.name()) {
            Some(Slot::Known(known)) => {
                let known = known.clone();
                site.output_known(index, known);
            }
            _ => {
                let value = site.lowering.value(output.name())?;
                site.output(index, value)?;
            }
        }
    }
    Ok(())
}

/// Findings are about nodes of the main graph; one inside a branch is named in the reason.
fn inside(refusal: Refusal, node: &str) -> Refusal {
    match refusal {
        Refusal::Unsupported(reason) => Refusal::Unsupported(format!("in the branch taken, {node:?}: {reason}")),
        Refusal::Invalid(reason) => Refusal::Invalid(format!("in the branch taken, {node:?}: {reason}")),
        Refusal::Follows => Refusal::Follows,
    }
}
