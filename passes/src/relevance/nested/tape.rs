//! Tapes: what a loop carries into every run of its body, stacked, so that the body can be run again.
//!
//! Every loop gets one for each carried value before rules are applied. Those that nothing reads are dropped with the
//! other unused results afterwards.

use lrpc_ir::graph::{Graph, GraphError, GraphResult, NodeId};
use lrpc_ir::ops::{Control, Op};

use crate::nested::holders;

/// Lets every loop of `graph`, nested ones too, stack what it carries.
pub(in crate::relevance) fn add_tapes(graph: &mut Graph) -> Result<(), GraphError> {
    holders(graph).into_iter().try_for_each(|node| add_tapes_to(graph, node))
}

fn add_tapes_to(graph: &mut Graph, node: NodeId) -> Result<(), GraphError> {
    let Op::Control(mut control) = graph.node(node).op.clone() else { return Ok(()) };
    let mut names: Vec<String> = graph.node(node).names().iter().map(ToString::to_string).collect();
    for body in control.bodies_mut() {
        add_tapes(body)?;
    }
    if let Control::Loop { carried, body, .. } = &mut control {
        let inputs = body.inputs();
        for &input in inputs.iter().skip(1).take(*carried) {
            if body.results.iter().skip(*carried).any(|result| result.value == input) {
                continue;
            }
            let name = graph.fresh_name(&format!("tape.{}", body.name(input)));
            let taken = names.contains(&name);
            names.push(if taken { graph.fresh_name(&format!("{name}.{}", names.len())) } else { name });
            let mut result = format!("tape.{}", body.results.len());
            while body.results.iter().any(|other| other.name == result) {
                result.push('.');
            }
            body.results.push(GraphResult { name: result, value: input });
        }
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let operands = graph.operands(node);
    graph.set_results(node, Op::Control(control), &operands, &names)
}
