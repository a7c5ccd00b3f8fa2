//! Writes loops out whose number of positions is known and that stay small: at most [`MAX_NODES`] nodes.
//!
//! | before | after |
//! |---|---|
//! | `%h, %s = loop %h0, %x {trips=2, carried=1, scanned=1}` over `%n = f(%h, %x_t)` | `%n.0 = f(%h0, %x[0])`, `%n.1 = f(%n.0, %x[1])`; `%h` is `%n.1`, `%s = concat %n.0, %n.1` |
//!
//! What a body computes is then seen by every other pass and rule as if it had no loop around it. A loop with a result
//! that somebody asked for stays.

use std::collections::HashMap;

use lrpc_ir::graph::{Graph, NodeId, Value};
use lrpc_ir::ops::{Control, Literal, Movement, Op, Source};
use lrpc_ir::{DType, Diagnostics, Dim, GraphError, Origin, Region, TensorType};

use crate::manager::{Context, PassDef};

pub(super) const PASS: PassDef = PassDef {
    name: "unroll_loops",
    doc: "writes loops out whose number of positions is known and that stay small",
    run: unroll_loops,
};

/// The most nodes that one loop becomes: 64 positions of an LSTM.
const MAX_NODES: usize = 2048;

fn unroll_loops(graph: &mut Graph, context: &mut Context) -> Result<(), Diagnostics> {
    let mut loops: Vec<NodeId> = graph.order().into_iter().filter(|&node| trips(graph, node).is_some()).collect();
    while let Some(node) = loops.pop() {
        let value = Value::from(node);
        let mut results = (0..graph.node(node).types().len() as u32).map(|port| Value { node, port });
        if results.any(|result| context.pinned.contains(&result)) {
            context.refused(PASS.name, graph, value, "somebody asked for a result of the loop");
            continue;
        }
        let added = Unrolling::new(graph, node).and_then(Unrolling::run).map_err(lrpc_ir::Diagnostic::from)?;
        context.patches.push(crate::manager::Patch { pass: PASS.name, value: added.name, op: "loop" });
        loops.extend(added.nodes.into_iter().filter(|&node| trips(graph, node).is_some()));
    }
    Ok(())
}

/// The number of positions of a loop that is to be written out.
fn trips(graph: &Graph, node: NodeId) -> Option<usize> {
    let Op::Control(Control::Loop { trips, body, .. }) = &graph.node(node).op else { return None };
    let trips = usize::try_from(trips.known()?).ok()?;
    let nodes = trips.checked_mul(size(body)?)?;
    (nodes <= MAX_NODES).then_some(trips)
}

/// The nodes of a body, with those of loops in it once for each position.
fn size(body: &Graph) -> Option<usize> {
    let mut nodes = 0usize;
    for node in body.ids() {
        let inner = match &body.node(node).op {
            Op::Control(Control::Loop { trips, body, .. }) => match trips.known() {
                Some(trips) => size(body)?.checked_mul(usize::try_from(trips).ok()?)?,
                None => size(body)?,
            },
            Op::Control(control) => control.bodies().iter().map(|(_, body)| size(body)).sum::<Option<usize>>()?,
            _ => 1,
        };
        nodes = nodes.checked_add(inner)?;
    }
    Some(nodes)
}

/// What took a loop's place.
struct Unrolled {
    /// The name of the loop's first result.
    name: String,
    nodes: Vec<NodeId>,
}

struct Unrolling<'g> {
    graph: &'g mut Graph,
    node: NodeId,
    body: Graph,
    trips: usize,
    reverse: bool,
    carried: usize,
    scanned: usize,
    region: Region,
    origin: Origin,
    added: Vec<NodeId>,
}

impl<'g> Unrolling<'g> {
    fn new(graph: &'g mut Graph, node: NodeId) -> Result<Unrolling<'g>, GraphError> {
        let content = graph.node(node).clone();
        let Op::Control(Control::Loop { trips, reverse, carried, scanned, body }) = content.op else {
            let (name, mnemonic) = (graph.name(node.into()).into(), content.op.mnemonic());
            return Err(GraphError::Type { name, mnemonic, reason: "is no loop".into() });
        };
        let trips = trips.known().and_then(|trips| usize::try_from(trips).ok()).unwrap_or(0);
        let (region, origin) = (content.region, content.origin);
        Ok(Unrolling { graph, node, body: *body, trips, reverse, carried, scanned, region, origin, added: Vec::new() })
    }

    fn run(mut self) -> Result<Unrolled, GraphError> {
        let mut operands = self.graph.operands(self.node);
        let captured = operands.split_off((self.carried + self.scanned).min(operands.len()));
        let sequences = operands.split_off(self.carried.min(operands.len()));
        let mut carried = operands;
        let stacks = self.body.results.len().saturating_sub(self.carried);
        let mut rows: Vec<Vec<(usize, Value)>> = vec![Vec::new(); stacks];
        let positions: Vec<usize> = (0..self.trips).collect();
        for turn in &positions {
            let position = if self.reverse { self.trips - 1 - turn } else { *turn };
            let counter = Literal::filled(TensorType::new(DType::I64, Vec::new()), position as f64);
            let mut inputs = vec![self.add(Op::Source(Source::Constant(counter)), &[], "position", position, None)?];
            inputs.extend(&carried);
            for &sequence in &sequences {
                inputs.push(self.slice(sequence, position)?);
            }
            inputs.extend(&captured);
            let mut results = self.once(&inputs, position)?;
            for (rows, row) in rows.iter_mut().zip(results.split_off(self.carried.min(results.len()))) {
                rows.push((position, row));
            }
            carried = results;
        }
        let mut last = carried;
        for (place, mut rows) in rows.into_iter().enumerate() {
            rows.sort_by_key(|(position, _)| *position);
            last.push(self.stack(place + self.carried, rows)?);
        }
        self.replace(last)
    }

    fn add(
        &mut self,
        op: Op,
        operands: &[Value],
        name: &str,
        position: usize,
        origin: Option<Origin>,
    ) -> Result<Value, GraphError> {
        let name = self.graph.fresh_name(&format!("{name}.{position}"));
        let origin = origin.unwrap_or_else(|| self.origin.made_by(PASS.name));
        let value = self.graph.add(self.region, op, operands, &name, origin)?;
        self.added.push(value.node);
        Ok(value)
    }

    /// One slice of a scanned tensor.
    fn slice(&mut self, sequence: Value, position: usize) -> Result<Value, GraphError> {
        let (ty, name) = (self.graph.ty(sequence).clone(), self.graph.name(sequence).to_string());
        let slice = Movement::slice_axis(&ty, 0, Dim::Known(position as i64), Dim::Known(1));
        let row = self.add(Op::Movement(slice), &[sequence], &name, position, None)?;
        let shape = ty.shape.get(1..).unwrap_or_default().to_vec();
        self.add(Op::Movement(Movement::Reshape { shape }), &[row], &name, position, None)
    }

    /// The body's nodes on these inputs.
    fn once(&mut self, inputs: &[Value], position: usize) -> Result<Vec<Value>, GraphError> {
        let body = std::mem::take(&mut self.body);
        let mut values: HashMap<Value, Value> = body.inputs().into_iter().zip(inputs.iter().copied()).collect();
        for node in body.order() {
            let content = body.node(node);
            if matches!(content.op, Op::Source(Source::Input(_))) {
                continue;
            }
            let operands: Vec<Value> =
                body.operands(node).iter().filter_map(|operand| values.get(operand).copied()).collect();
            let from = content.origin.from.clone().or_else(|| self.origin.from.clone());
            let origin = Origin { from, by: content.origin.by.clone() };
            let names: Vec<String> = content.names().iter().map(|name| format!("{name}.{position}")).collect();
            let names = self.graph.fresh_names(names.iter().map(String::as_str));
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let new = self.graph.add_many(self.region, content.op.clone(), &operands, &names, origin)?;
            self.added.push(new);
            let ports = 0..names.len() as u32;
            values.extend(ports.map(|port| (Value { node, port }, Value { node: new, port })));
        }
        let results = body.results.iter().filter_map(|result| values.get(&result.value).copied()).collect();
        self.body = body;
        Ok(results)
    }

    /// Rows, in order, as one tensor.
    fn stack(&mut self, result: usize, rows: Vec<(usize, Value)>) -> Result<Value, GraphError> {
        let value = Value { node: self.node, port: result as u32 };
        let (ty, name) = (self.graph.ty(value).clone(), self.graph.name(value).to_string());
        let mut parts = Vec::with_capacity(rows.len());
        for (position, row) in rows {
            let shape = [&[Dim::Known(1)], self.graph.ty(row).shape.as_slice()].concat();
            parts.push(self.add(Op::Movement(Movement::Reshape { shape }), &[row], &name, position, None)?);
        }
        match parts.as_slice() {
            [] => self.add(Op::Source(Source::Constant(Literal::filled(ty, 0.0))), &[], &name, 0, None),
            [single] => Ok(*single),
            parts => self.add(Op::Movement(Movement::Concat { axis: 0 }), parts, &name, self.trips, None),
        }
    }

    /// Lets the loop's users use what took its place, under the loop's names as far as they are new.
    fn replace(self, last: Vec<Value>) -> Result<Unrolled, GraphError> {
        let name = self.graph.name(self.node.into()).to_string();
        for (port, new) in last.into_iter().enumerate() {
            let old = Value { node: self.node, port: port as u32 };
            self.graph.replace_uses(old, new);
            if self.added.contains(&new.node) {
                let own = self.graph.name(old).to_string();
                self.graph.rename(new, &own);
            }
        }
        self.graph.remove(self.node);
        Ok(Unrolled { name, nodes: self.added })
    }
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::check_pass;

    const BODY: &str = r#"
          body
            input %t : i64[]
            input %h : f32[N]
            input %x_t : f32[N]
            input %v : f32[N]
            forward
            %p = cast %t : f32[]
            %p.all = broadcast %p : f32[N]
            %a = mul %h, %v : f32[N] from "/a"
            %n = add %a, %x_t : f32[N] from "/n"
            %q = add %n, %p.all : f32[N]
            result "h" = %n
            result "s" = %q
          end
        result "output/y" = %y
        result "output/s" = %s
        "#;

    fn looped(attributes: &str, trips: &str) -> String {
        let header = format!("input %x : f32[{trips}, N]\ninput %h0 : f32[N]\ninput %w : f32[N]\nforward\n");
        let line = format!("%y, %s = loop %h0, %x, %w {{trips={trips}{attributes}, carried=1, scanned=1}}");
        format!("{header}{line} : f32[N], f32[{trips}, N] from \"/loop\"{BODY}")
    }

    #[test]
    fn unroll_loops() {
        check_pass("unroll_loops", PASS, &looped("", "3"), &[]);
    }

    #[test]
    fn unroll_loops_in_reverse() {
        check_pass("unroll_loops_in_reverse", PASS, &looped(", reverse=true", "2"), &[]);
    }

    #[test]
    fn unroll_loops_near_misses() {
        check_pass("unroll_loops_near_misses", PASS, &looped("", "3"), &["s"]);
        check_pass("unroll_loops_near_misses_many", PASS, &looped("", "1024"), &[]);
        check_pass("unroll_loops_near_misses_symbolic", PASS, &looped("", "T"), &[]);
    }

    #[test]
    fn unroll_loops_that_do_not_run() {
        check_pass("unroll_loops_that_do_not_run", PASS, &looped("", "0"), &[]);
    }
}
