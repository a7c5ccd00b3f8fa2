//! Nested graphs: loops, counting and choice.
//!
//! A body is a [`Graph`] of its own. Its inputs are operands of the node, all of them explicit: nothing is captured by
//! name. How often a loop runs and which branch is taken are dimensions, numbers once a plan is made; where they depend
//! on data, a measured dimension stands for them.

use super::Class;
use crate::attribute::{AttributeReader, Attributes};
use crate::dim::{Dim, DimError};
use crate::graph::Graph;
use crate::types::{DType, TensorType};

/// A node that holds graphs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Control {
    /// Runs its body for each position from 0 on.
    ///
    /// Operands: the first values of what is carried, the scanned tensors (`[trips, …]` each), captured values. Body
    /// inputs: the position (`i64[]`), the carried values, one slice of each scanned tensor, the captured values. Body
    /// results: the carried values, then what is stacked. Results: the last carried values, then the stacks
    /// (`[trips, …]` each, at the positions of the body runs that gave them).
    Loop {
        /// Number of positions.
        trips: Dim,
        /// Whether the positions are walked from the last to the first.
        reverse: bool,
        /// Number of carried values.
        carried: usize,
        /// Number of scanned tensors.
        scanned: usize,
        /// The body.
        body: Box<Graph>,
    },
    /// How many times the body runs until it says so. Operands: the most times (`i64[]`), the first values of what is
    /// carried, captured values. Body inputs: how often it has run (`i64[]`), the carried values, the captured ones. Body
    /// results: whether to go on (`bool[]`), the carried values. Result: the number of runs (`i64[]`), the last one among
    /// them; zero where the most is negative.
    While {
        /// Number of carried values.
        carried: usize,
        /// The body.
        body: Box<Graph>,
    },
    /// One of two graphs. Operands: captured values, which are the inputs of both branches.
    Cond {
        /// 1 takes the first branch, 0 the other.
        choice: Dim,
        /// Taken at 1.
        then_branch: Box<Graph>,
        /// Taken at 0.
        else_branch: Box<Graph>,
    },
}

impl Control {
    /// The word in the text format.
    pub fn mnemonic(&self) -> &'static str {
        match self {
            Control::Loop { .. } => "loop",
            Control::While { .. } => "while",
            Control::Cond { .. } => "cond",
        }
    }

    /// Whether `word` names an operation with nested graphs.
    pub fn is_control(word: &str) -> bool {
        matches!(word, "loop" | "while" | "cond")
    }

    /// The nested graphs with their names in the text format.
    pub fn bodies(&self) -> Vec<(&'static str, &Graph)> {
        match self {
            Control::Loop { body, .. } | Control::While { body, .. } => vec![("body", body)],
            Control::Cond { then_branch, else_branch, .. } => vec![("then", then_branch), ("else", else_branch)],
        }
    }

    /// The nested graphs, to be changed. Their inputs and results stay what they are.
    pub fn bodies_mut(&mut self) -> Vec<&mut Graph> {
        match self {
            Control::Loop { body, .. } | Control::While { body, .. } => vec![body],
            Control::Cond { then_branch, else_branch, .. } => vec![then_branch, else_branch],
        }
    }

    /// The node called `word` over parsed bodies.
    ///
    /// # Errors
    /// Attributes that are missing or ill-typed, and bodies that are missing or too many.
    pub fn read(word: &str, attributes: Attributes, mut bodies: Vec<(String, Graph)>) -> Result<Control, String> {
        let mut reader = AttributeReader::new(attributes);
        let mut take = |name: &str| {
            let at = bodies.iter().position(|(candidate, _)| candidate == name);
            at.map(|at| Box::new(bodies.remove(at).1)).ok_or_else(|| format!("`{word}` needs a nested `{name}`"))
        };
        let control = match word {
            "loop" => {
                let (trips, reverse) = (reader.dim("trips")?, reader.flag("reverse")?);
                let (carried, scanned) = (count(&mut reader, "carried")?, count(&mut reader, "scanned")?);
                Control::Loop { trips, reverse, carried, scanned, body: take("body")? }
            }
            "while" => Control::While { carried: count(&mut reader, "carried")?, body: take("body")? },
            _ => {
                let choice = reader.dim("choice")?;
                Control::Cond { choice, then_branch: take("then")?, else_branch: take("else")? }
            }
        };
        reader.finish()?;
        if bodies.is_empty() { Ok(control) } else { Err(format!("`{word}` has a nested graph too many")) }
    }

    pub(super) fn write_attributes(&self, attributes: &mut Attributes) {
        match self {
            Control::Loop { trips, reverse, carried, scanned, .. } => {
                attributes.dim("trips", trips);
                attributes.flag("reverse", *reverse);
                attributes.integer_unless("carried", *carried as i64, 0);
                attributes.integer_unless("scanned", *scanned as i64, 0);
            }
            Control::While { carried, .. } => attributes.integer_unless("carried", *carried as i64, 0),
            Control::Cond { choice, .. } => attributes.dim("choice", choice),
        }
    }

    pub(super) fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, String> {
        match self {
            Control::Loop { trips, carried, scanned, body, .. } => {
                infer_loop(trips, [*carried, *scanned], body, operands)
            }
            Control::While { carried, body } => infer_while(*carried, body, operands),
            Control::Cond { then_branch, else_branch, .. } => {
                for branch in [then_branch, else_branch] {
                    check_inputs(branch, operands.iter().copied().cloned())?;
                }
                let (then_types, else_types) = (then_branch.result_types(), else_branch.result_types());
                if then_types == else_types { Ok(then_types) } else { Err("the branches' results differ".into()) }
            }
        }
    }

    pub(super) fn class(&self) -> Class {
        match self {
            Control::While { .. } => Class::Opaque("a number of runs carries nothing"),
            Control::Loop { .. } | Control::Cond { .. } => Class::Named(self.mnemonic()),
        }
    }

    /// Maps the node's own dimensions; those of nested graphs stay.
    pub(super) fn map_dims(&self, map: &mut dyn FnMut(&Dim) -> Result<Dim, DimError>) -> Result<Control, DimError> {
        let mut mapped = self.clone();
        match &mut mapped {
            Control::Loop { trips: dim, .. } | Control::Cond { choice: dim, .. } => *dim = map(dim)?,
            Control::While { .. } => {}
        }
        Ok(mapped)
    }
}

/// The attribute `key`, which counts something; zero where it is left out.
fn count(reader: &mut AttributeReader, key: &str) -> Result<usize, String> {
    usize::try_from(reader.integer_or(key, Some(0))?).map_err(|_| format!("`{key}` is negative"))
}

fn counter() -> TensorType {
    TensorType::new(DType::I64, Vec::new())
}

fn infer_loop(
    trips: &Dim,
    [carried, scanned]: [usize; 2],
    body: &Graph,
    operands: &[&TensorType],
) -> Result<Vec<TensorType>, String> {
    let first = operands.split_at_checked(carried);
    let Some((initial, (sequences, captured))) =
        first.and_then(|(initial, rest)| Some((initial, rest.split_at_checked(scanned)?)))
    else {
        return Err(format!("{} operands are fewer than {carried} carried and {scanned} scanned ones", operands.len()));
    };
    let slice = |ty: &&TensorType| match ty.shape.split_first() {
        Some((length, rest)) if length == trips => Ok(ty.with_shape(rest.to_vec())),
        _ => Err(format!("{ty} is scanned, but its first axis is not {trips}")),
    };
    let slices = sequences.iter().map(slice).collect::<Result<Vec<_>, _>>()?;
    let outer = |types: &[&TensorType]| types.iter().copied().cloned().collect::<Vec<_>>();
    check_inputs(body, std::iter::once(counter()).chain(outer(initial)).chain(slices).chain(outer(captured)))?;
    let results = body.result_types();
    let Some((last, stacked)) = results.split_at_checked(carried) else {
        return Err("the body does not give the carried values".into());
    };
    if initial.iter().zip(last).any(|(before, after)| *before != after) {
        return Err("the carried values change their types".into());
    }
    let stack = |ty: &TensorType| ty.with_shape(std::iter::once(trips).chain(&ty.shape).cloned().collect());
    Ok(last.iter().cloned().chain(stacked.iter().map(stack)).collect())
}

fn infer_while(carried: usize, body: &Graph, operands: &[&TensorType]) -> Result<Vec<TensorType>, String> {
    let (limit, values) = operands.split_first().ok_or("takes the most times")?;
    if **limit != counter() {
        return Err(format!("the most times is {limit}, expected {}", counter()));
    }
    check_inputs(body, std::iter::once(counter()).chain(values.iter().copied().cloned()))?;
    let results = body.result_types();
    let (go_on, last) = results.split_first().ok_or("the body has no results")?;
    if *go_on != TensorType::new(DType::Bool, Vec::new()) || last.len() != carried {
        return Err("the body must give bool[] and the carried values".into());
    }
    match values.get(..carried) {
        Some(initial) if initial.iter().zip(last).all(|(before, after)| *before == after) => Ok(vec![counter()]),
        _ => Err("the carried values change their types".into()),
    }
}

fn check_inputs(body: &Graph, operands: impl Iterator<Item = TensorType>) -> Result<(), String> {
    let (inputs, operands) = (body.input_types(), operands.collect::<Vec<_>>());
    if inputs == operands {
        return Ok(());
    }
    let list = |types: &[TensorType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(format!("the nested graph takes ({}), not ({})", list(&inputs), list(&operands)))
}
