//! Computes of the forward region only the rows that a target explains, as far as rows are independent.
//!
//! Before: `%y = dot %x, @w : f32[N, S, V]`, `%row = slice %y {start=[0, S-1, 0]} : f32[N, 1, V] by seed`.
//! After: `%x.row = slice %x {start=[0, S-1, 0]} : f32[N, 1, D]`, `%y = dot %x.row, @w : f32[N, 1, V]`.
//!
//! A slice passes an operation whose rows depend on rows of its operands (`crate::commute`), and stops where a value is
//! needed in full on the way from the explained outputs: keys and values of attention, tensors that somebody asked for.
//! Whoever needs a value in full for another reason, as another result, keeps it: the rows are computed beside it.

use std::collections::{BTreeSet, HashMap, HashSet};

use lrpc_ir::graph::{Graph, NodeId, Origin, Region, Value};
use lrpc_ir::ops::{Movement, Op};
use lrpc_ir::{Diagnostic, Diagnostics, Dim};

use crate::commute::{Need, Row, row_of};
use crate::manager::{Context, PassDef};

/// The pass. It runs once the targets' slices stand at the outputs, before rules are applied.
pub(crate) const PASS: PassDef =
    PassDef { name: "slice_seed", doc: "computes only the rows that the targets explain", run: slice_seed };

/// Who makes the slices that this pass moves.
const MAKER: &str = "seed";

fn slice_seed(graph: &mut Graph, context: &mut Context) -> Result<(), Diagnostics> {
    let cut_axes: BTreeSet<usize> = seed_slices(graph).into_iter().map(|(_, row)| row.axis).collect();
    // One axis after the other, so that all targets share what they need of the batch.
    for axis in cut_axes {
        let slices: Vec<(NodeId, Row)> = seed_slices(graph).into_iter().filter(|(_, row)| row.axis == axis).collect();
        let needs = needed(graph, &slices, &context.pinned)?;
        Sinker { graph, context, needs, rows: HashMap::new(), renamed: Vec::new() }.sink(&slices)?;
    }
    Ok(())
}

/// The slices of targets, each of one axis.
fn seed_slices(graph: &Graph) -> Vec<(NodeId, Row)> {
    let slice = |node: NodeId| {
        let content = graph.node(node);
        let made = content.region == Region::Forward && content.origin.by.as_deref() == Some(MAKER);
        let operand = graph.operand(node, 0).filter(|_| made)?;
        Row::of_slice(&content.op, graph.ty(operand)).map(|row| (node, row))
    };
    graph.order().into_iter().filter_map(slice).collect()
}

/// What is needed of a value in all.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Needs {
    Full,
    Rows(Vec<Row>),
}

impl Needs {
    fn join(&mut self, need: &Need) {
        match (self, need) {
            (Needs::Rows(rows), Need::Row(row)) => {
                if !rows.contains(row) {
                    rows.push(row.clone());
                }
            }
            (full, Need::Full) => *full = Needs::Full,
            (Needs::Full, Need::Row(_)) => {}
        }
    }
}

/// What the slices need of every value that they depend on.
fn needed(
    graph: &Graph,
    slices: &[(NodeId, Row)],
    pinned: &HashSet<Value>,
) -> Result<HashMap<Value, Needs>, Diagnostics> {
    let mut needs: HashMap<Value, Needs> = HashMap::new();
    let require = |value: Value, need: &Need, needs: &mut HashMap<Value, Needs>| {
        needs.entry(value).or_insert(Needs::Rows(Vec::new())).join(need);
    };
    let roots: Vec<(Value, &Row)> =
        slices.iter().filter_map(|(node, row)| graph.operand(*node, 0).map(|operand| (operand, row))).collect();
    for (value, row) in &roots {
        require(*value, &Need::Row((*row).clone()), &mut needs);
    }
    for node in graph.post_order(roots.iter().map(|(value, _)| *value)).into_iter().rev() {
        let value = Value::from(node);
        let operands = graph.operands(node);
        let below = match needs.get(&value) {
            Some(Needs::Rows(rows)) if !pinned.contains(&value) => operand_needs(graph, node, rows)?,
            _ => None,
        };
        match below {
            Some(below) => {
                for (operand, need) in operands.iter().cycle().zip(&below) {
                    require(*operand, need, &mut needs);
                }
            }
            None => {
                needs.insert(value, Needs::Full);
                operands.iter().for_each(|operand| require(*operand, &Need::Full, &mut needs));
            }
        }
    }
    Ok(needs)
}

/// What `rows` of a node's result need of its operands, row after row; `None` where rows cannot be computed alone.
fn operand_needs(graph: &Graph, node: NodeId, rows: &[Row]) -> Result<Option<Vec<Need>>, Diagnostic> {
    let mut all = Vec::new();
    for row in rows {
        match node_row(graph, node, row)? {
            Some((_, needs)) => all.extend(needs),
            None => return Ok(None),
        }
    }
    Ok(Some(all))
}

fn node_row(graph: &Graph, node: NodeId, row: &Row) -> Result<Option<(Op, Vec<Need>)>, Diagnostic> {
    let content = graph.node(node);
    let [result] = content.types() else { return Ok(None) };
    if content.region != Region::Forward {
        return Ok(None);
    }
    let operands = graph.operands(node);
    let types: Vec<_> = operands.iter().map(|&operand| graph.ty(operand)).collect();
    Ok(row_of(&content.op, &types, result, row)?)
}

struct Sinker<'a> {
    graph: &'a mut Graph,
    context: &'a mut Context,
    needs: HashMap<Value, Needs>,
    /// The rows that have been made.
    rows: HashMap<(Value, Row), Value>,
    /// Rows, and the names of the values that they are cut from.
    renamed: Vec<(Value, String)>,
}

impl Sinker<'_> {
    fn sink(mut self, slices: &[(NodeId, Row)]) -> Result<(), Diagnostics> {
        let roots: Vec<Value> = slices.iter().filter_map(|(node, _)| self.graph.operand(*node, 0)).collect();
        let origins: Vec<Origin> = slices.iter().map(|(node, _)| self.graph.node(*node).origin.clone()).collect();
        // A row is cut for the first target that asks for it.
        let origin_of = |row: &Row| {
            let place = slices.iter().position(|(_, own)| own.start == row.start && own.size == row.size);
            place.and_then(|place| origins.get(place)).cloned().unwrap_or_default().made_by(PASS.name)
        };
        for node in self.graph.post_order(roots.iter().copied()) {
            let Some(Needs::Rows(rows)) = self.needs.get(&Value::from(node)).cloned() else { continue };
            for row in rows {
                self.row(node, row, &origin_of)?;
            }
        }
        for ((node, row), root) in slices.iter().zip(roots) {
            let Some(&value) = self.rows.get(&(root, row.clone())) else { continue };
            self.context.patched(PASS.name, self.graph, root);
            self.graph.replace_uses((*node).into(), value);
        }
        self.graph.remove_dead();
        // What only the rows are left of hands its name on.
        for (value, name) in &self.renamed {
            if self.graph.contains(value.node) && self.graph.find(name).is_none() {
                self.graph.rename(*value, name);
            }
        }
        Ok(())
    }

    /// Makes `row` of the result of `node`.
    fn row(&mut self, node: NodeId, row: Row, origin_of: &dyn Fn(&Row) -> Origin) -> Result<(), Diagnostics> {
        let Some((op, needs)) = node_row(self.graph, node, &row)? else { return Ok(()) };
        let mut operands = Vec::with_capacity(needs.len());
        for (operand, need) in self.graph.operands(node).into_iter().zip(needs) {
            operands.push(match need {
                Need::Full => operand,
                Need::Row(row) => match self.rows.get(&(operand, row.clone())) {
                    Some(&made) => made,
                    None => self.cut_copies(operand, row, origin_of)?,
                },
            });
        }
        self.add_row(node.into(), row, op, &operands)?;
        Ok(())
    }

    /// Adds the operation that computes `row` of `value`.
    fn add_row(&mut self, value: Value, row: Row, op: Op, operands: &[Value]) -> Result<Value, Diagnostics> {
        let name = self.graph.name(value).to_string();
        let origin = self.graph.node(value.node).origin.made_by(PASS.name);
        let fresh = self.graph.fresh_name(&name);
        let made = self.graph.add(Region::Forward, op, operands, &fresh, origin).map_err(Diagnostic::from)?;
        self.rows.insert((value, row), made);
        self.renamed.push((made, name));
        Ok(made)
    }

    /// Cuts `row` from a value that is there in full. Of copies fewer are made: they cost nothing, and rules see through
    /// a broadcast that it copies a constant.
    fn cut_copies(&mut self, value: Value, row: Row, origin_of: &dyn Fn(&Row) -> Origin) -> Result<Value, Diagnostics> {
        let copies = matches!(self.graph.node(value.node).op, Op::Movement(Movement::Broadcast { .. }));
        let source = self.graph.operand(value.node, 0).filter(|_| copies && !self.context.pinned.contains(&value));
        let made = match source {
            Some(source) => node_row(self.graph, value.node, &row)?.map(|made| (source, made)),
            None => None,
        };
        let Some((source, (op, needs))) = made else { return self.cut(value, row, origin_of) };
        let operand = match needs.into_iter().next() {
            Some(Need::Row(below)) => self.cut(source, below, origin_of)?,
            _ => source,
        };
        self.add_row(value, row, op, &[operand])
    }

    /// Cuts `row` from a value that is there in full.
    fn cut(&mut self, value: Value, row: Row, origin_of: &dyn Fn(&Row) -> Origin) -> Result<Value, Diagnostics> {
        if let Some(&made) = self.rows.get(&(value, row.clone())) {
            return Ok(made);
        }
        let ty = self.graph.ty(value).clone();
        let origin = origin_of(&row);
        // What is cut from a constant is one.
        let region = if self.graph.is_constant(value) { Region::Prepare } else { Region::Forward };
        let name = format!("{}.row", self.graph.name(value));
        let mut add = |movement: Movement, operand: Value| -> Result<Value, Diagnostic> {
            let name = self.graph.fresh_name(&name);
            Ok(self.graph.add(region, Op::Movement(movement), &[operand], &name, origin.clone())?)
        };
        let one = Dim::Known(1);
        let made = if row.is_whole_axis() {
            add(Movement::slice_axis(&ty, row.axis, row.start.clone(), one), value)?
        } else {
            // The cut factor gets an axis of its own.
            let mut split = ty.shape.clone();
            split.splice(row.axis..=row.axis, [row.outer.clone(), row.size.clone(), row.inner.clone()]);
            let apart = add(Movement::Reshape { shape: split.clone() }, value)?;
            let slice = Movement::slice_axis(&ty.with_shape(split), row.axis + 1, row.start.clone(), one);
            let cut = add(slice, apart)?;
            add(Movement::Reshape { shape: row.cut(&ty.shape).map_err(Diagnostic::from)? }, cut)?
        };
        self.rows.insert((value, row), made);
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::check_pass;

    /// One block of a decoder: the query, the attention's rows, the residual additions, the norm, the MLP and the head
    /// compute one row; keys and values compute all.
    #[test]
    fn slice_seed_decoder() {
        check_pass(
            "slice_seed_decoder",
            PASS,
            r#"
        weight @g : f32[8]
        weight @head : f32[8, 20]
        weight @wk : f32[8, 8]
        weight @wo : f32[8, 8]
        weight @wq : f32[8, 8]
        weight @up : f32[8, 16]
        weight @down : f32[16, 8]
        weight @wv : f32[8, 8]
        input %x : f32[N, S, 8]
        input %mask : f32[S, S]
        forward
          %norm = rms_norm %x, @g {axis=2, eps=1e-6} : f32[N, S, 8] from "/norm"
          %flat = reshape %norm : f32[N*S, 8] from "/q"
          %q.flat = dot %flat, @wq {contract=1x0} : f32[N*S, 8] from "/q"
          %q.heads = reshape %q.flat : f32[N, S, 2, 4] from "/q"
          %q = transpose %q.heads {perm=[0, 2, 1, 3]} : f32[N, 2, S, 4] from "/q"
          %k.all = dot %norm, @wk {contract=2x0} : f32[N, S, 8] from "/k"
          %k = reshape %k.all : f32[N, S, 2, 4] from "/k"
          %v.all = dot %norm, @wv {contract=2x0} : f32[N, S, 8] from "/v"
          %v = reshape %v.all : f32[N, S, 2, 4] from "/v"
          %scores = dot %q, %k {batch=[0x0, 1x2], contract=3x3} : f32[N, 2, S, S] from "/qk"
          %mask.all = broadcast %mask : f32[N, 2, S, S] from "/mask"
          %masked = add %scores, %mask.all : f32[N, 2, S, S] from "/mask"
          %weights = softmax %masked {axis=3} : f32[N, 2, S, S] from "/softmax"
          %mixed = dot %weights, %v {batch=[0x0, 1x2], contract=3x1} : f32[N, 2, S, 4] from "/av"
          %turned = transpose %mixed {perm=[0, 2, 1, 3]} : f32[N, S, 2, 4] from "/o"
          %joined = reshape %turned : f32[N, S, 8] from "/o"
          %o = dot %joined, @wo {contract=2x0} : f32[N, S, 8] from "/o"
          %h = add %x, %o : f32[N, S, 8] from "/add"
          %u = dot %h, @up {contract=2x0} : f32[N, S, 16] from "/up"
          %a = gelu %u : f32[N, S, 16] from "/gelu"
          %d = dot %a, @down {contract=2x0} : f32[N, S, 8] from "/down"
          %z = add %h, %d : f32[N, S, 8] from "/add_1"
          %logits = dot %z, @head {contract=2x0} : f32[N, S, 20] from "/head"
          %last = slice %logits {start=[0, S-1, 0]} : f32[N, 1, 20] from "target logits[:, -1, :]" by seed
          %logits.row = reshape %last : f32[N, 20] from "target logits[:, -1, :]" by seed
        result "output/logits[:, -1, :]" = %logits.row
        "#,
            &["x"],
        );
    }

    /// Values that are asked for stay whole, and so does what another result needs: its row is computed beside it.
    #[test]
    fn slice_seed_beside_others() {
        check_pass(
            "slice_seed_beside_others",
            PASS,
            r#"
        input %x : f32[N, S, 8]
        weight @w : f32[8, 8]
        forward
          %a = relu %x : f32[N, S, 8] from "/relu"
          %h = dot %a, @w {contract=2x0} : f32[N, S, 8] from "/w"
          %t = tanh %h : f32[N, S, 8] from "/tanh"
          %y = exp %t : f32[N, S, 8] from "/exp"
          %first = slice %y {start=[0, 0, 0]} : f32[N, 1, 8] from "target y[:, 0, :]" by seed
          %last = slice %y {start=[0, S-1, 0]} : f32[N, 1, 8] from "target y[:, -1, :]" by seed
          %s = cumulative_sum %t {axis=1} : f32[N, S, 8] from "/sum"
          %sample = slice %s {start=[0, 0, 0]} : f32[1, S, 8] from "target s[0, :, :]" by seed
        result "output/y" = %y
        result "output/y[:, 0, :]" = %first
        result "output/y[:, -1, :]" = %last
        result "output/s[0, :, :]" = %sample
        "#,
            &["h"],
        );
    }
}
