//! Nested graphs: loops and conditionals.
//!
//! A body is a [`Graph`] of its own. Its inputs are the loop-carried values followed by the captured outer values, all
//! of them explicit operands of the node; nothing is captured by name.

use super::Class;
use crate::attribute::Attributes;
use crate::graph::Graph;
use crate::types::{DType, TensorType};

/// A node that holds graphs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Control {
    /// Operands: trip count (`i64[]`), `carried` values, captured values. Body inputs: the iteration (`i64[]`), the
    /// carried values, the captured ones. Body results: whether to go on (`bool[]`), the carried values, then what is
    /// stacked along a new first axis. Results: the carried values, then the stacks.
    Loop {
        /// Number of carried values.
        carried: usize,
        /// The body.
        body: Box<Graph>,
    },
    /// Operands: the condition (`bool[]`), then captured values, which are the inputs of both branches.
    Cond {
        /// Taken where the condition holds.
        then_branch: Box<Graph>,
        /// Taken otherwise.
        else_branch: Box<Graph>,
    },
}

impl Control {
    /// The word in the text format.
    pub fn mnemonic(&self) -> &'static str {
        match self {
            Control::Loop { .. } => "loop",
            Control::Cond { .. } => "cond",
        }
    }

    /// The nested graphs with their names in the text format.
    pub fn bodies(&self) -> Vec<(&'static str, &Graph)> {
        match self {
            Control::Loop { body, .. } => vec![("body", body)],
            Control::Cond { then_branch, else_branch } => vec![("then", then_branch), ("else", else_branch)],
        }
    }

    /// The node called `word` over parsed bodies.
    ///
    /// # Errors
    /// Bodies that are missing or too many.
    pub fn read(word: &str, carried: usize, mut bodies: Vec<(String, Graph)>) -> Result<Control, String> {
        let mut take = |name: &str| {
            let at = bodies.iter().position(|(candidate, _)| candidate == name);
            at.map(|at| Box::new(bodies.remove(at).1)).ok_or_else(|| format!("`{word}` needs a nested `{name}`"))
        };
        let control = match word {
            "loop" => Control::Loop { carried, body: take("body")? },
            _ => Control::Cond { then_branch: take("then")?, else_branch: take("else")? },
        };
        if bodies.is_empty() { Ok(control) } else { Err(format!("`{word}` has a nested graph too many")) }
    }

    pub(super) fn write_attributes(&self, attributes: &mut Attributes) {
        if let Control::Loop { carried, .. } = self {
            attributes.integer("carried", *carried as i64);
        }
    }

    pub(super) fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, String> {
        match self {
            Control::Loop { carried, body } => infer_loop(*carried, body, operands),
            Control::Cond { then_branch, else_branch } => {
                let (condition, captured) = operands.split_first().ok_or("takes a condition")?;
                if **condition != TensorType::new(DType::Bool, Vec::new()) {
                    return Err(format!("the condition is {condition}, expected bool[]"));
                }
                for branch in [then_branch, else_branch] {
                    check_inputs(branch, captured)?;
                }
                let (then_types, else_types) = (then_branch.result_types(), else_branch.result_types());
                if then_types == else_types { Ok(then_types) } else { Err("the branches' results differ".into()) }
            }
        }
    }

    pub(super) fn class(&self) -> Class {
        Class::Named(self.mnemonic())
    }
}

fn infer_loop(carried: usize, body: &Graph, operands: &[&TensorType]) -> Result<Vec<TensorType>, String> {
    let (trips, values) = operands.split_first().ok_or("takes a trip count")?;
    let index = TensorType::new(DType::I64, Vec::new());
    if **trips != index {
        return Err(format!("the trip count is {trips}, expected {index}"));
    }
    let inputs: Vec<&TensorType> = std::iter::once(&index).chain(values.iter().copied()).collect();
    check_inputs(body, &inputs)?;
    let results = body.result_types();
    let (go_on, rest) = results.split_first().ok_or("the body has no results")?;
    if *go_on != TensorType::new(DType::Bool, Vec::new()) || rest.len() < carried {
        return Err("the body must give bool[] and the carried values".into());
    }
    if values.get(..carried).is_none_or(|initial| initial.iter().zip(rest).any(|(a, b)| **a != *b)) {
        return Err("the carried values change their types".into());
    }
    // The number of iterations is not known here: a stack has a symbol of its own as first axis.
    let stacked = rest[carried..].iter().map(|ty| {
        let trips = crate::dim::Dim::symbol("trips");
        ty.with_shape(std::iter::once(trips).chain(ty.shape.iter().cloned()).collect())
    });
    Ok(rest[..carried].iter().cloned().chain(stacked).collect())
}

fn check_inputs(body: &Graph, operands: &[&TensorType]) -> Result<(), String> {
    let inputs = body.input_types();
    if inputs.len() == operands.len() && inputs.iter().zip(operands).all(|(input, operand)| input == *operand) {
        Ok(())
    } else {
        Err("the operands are not the nested graph's inputs".into())
    }
}
