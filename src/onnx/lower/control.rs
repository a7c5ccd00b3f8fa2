//! Choice between graphs.

use lrpc_ir::Value;
use lrpc_ir::ops::Elementwise;

use super::finding::{Lowered, invalid, unsupported};
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
        Some([0]) => taken(site, else_branch),
        Some([_]) => taken(site, then_branch),
        _ if site.lowering.is_nested() => both(site, then_branch, else_branch),
        _ => unsupported("the condition is computed when the model runs"),
    }
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
