//! What a caller gives, against what a graph asks for: names, element types, shapes, sizes of symbols, seed indices.

use std::collections::{BTreeMap, BTreeSet};

use lrpc_ir::graph::Region;
use lrpc_ir::ops::{Op, Select};
use lrpc_ir::{Bindings, DType, Diagnostic, DiagnosticKind, Diagnostics, Graph, Value};
use lrpc_kernels as kernels;

use crate::convert::{first_nan, to_kernel};
use crate::data;
use crate::error::Error;

/// Indices of a seed, given when running: for the index input of that name, or for the only one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedIndex {
    /// The index input's name; `None` where the graph has one only.
    pub name: Option<String>,
    /// One index for all rows, or one for each.
    pub indices: Vec<i64>,
}

/// Inputs that fit a graph.
#[derive(Debug, Clone, Default)]
pub struct BoundInputs {
    /// By name, in the element types that the graph declares (`f64` stays where computation is in `f64`).
    pub tensors: BTreeMap<String, kernels::Tensor>,
    /// The sizes of the graph's symbols.
    pub dims: Bindings,
    /// What was converted, in words.
    pub notes: Vec<String>,
}

/// Binds `given` to the inputs of `graph`. `dims` are sizes that were given by hand; with `keep_f64`, `f64` numbers for
/// an `f32` input are not rounded.
///
/// Accepted in place of the declared type are narrower integers, narrower floating-point numbers, and `f64` for `f32`.
///
/// # Errors
/// All unknown and missing names, wrong types, shapes, conflicting sizes and indices out of range at once; and NaN.
pub fn bind_inputs(
    graph: &Graph,
    given: &BTreeMap<String, data::Tensor>,
    indices: &[SeedIndex],
    dims: &Bindings,
    keep_f64: bool,
) -> Result<BoundInputs, Error> {
    let mut binder = Binder { graph, sizes: Sizes::given(dims), findings: Vec::new(), bound: BoundInputs::default() };
    binder.check_names(given, indices);
    for input in graph.inputs() {
        if let Some(tensor) = given.get(graph.name(input)) {
            binder.shape(input, tensor);
        }
    }
    for input in graph.inputs() {
        if let Some(tensor) = given.get(graph.name(input)) {
            binder.tensor(input, tensor, keep_f64)?;
        }
    }
    for index in indices {
        binder.index(index);
    }
    binder.finish()
}

/// Whether the graph explains anything. In a program alone, numbers that are not finite are the model's own affair.
pub(crate) fn has_relevance(graph: &Graph) -> bool {
    graph.ids().any(|node| graph.node(node).region == Region::Relevance)
}

/// The sizes of symbols, each with where it comes from.
struct Sizes(BTreeMap<String, (i64, String)>);

impl Sizes {
    fn given(dims: &Bindings) -> Sizes {
        Sizes(dims.iter().map(|(name, &size)| (name.clone(), (size, format!("--dim {name}={size}")))).collect())
    }

    fn bindings(&self) -> Bindings {
        self.0.iter().map(|(name, (size, _))| (name.clone(), *size)).collect()
    }
}

struct Binder<'a> {
    graph: &'a Graph,
    sizes: Sizes,
    findings: Vec<Diagnostic>,
    bound: BoundInputs,
}

impl Binder<'_> {
    fn refuse(&mut self, message: String, help: String) {
        self.findings.push(Diagnostic::new(message).help(help));
    }

    /// The caller left an input out or named one that is not there.
    fn refuse_request(&mut self, message: String, help: String) {
        self.findings.push(Diagnostic::request(message).help(help));
    }

    fn check_names(&mut self, given: &BTreeMap<String, data::Tensor>, indices: &[SeedIndex]) {
        let graph = self.graph;
        let described = |input: &Value| format!("{} : {}", graph.name(*input), graph.ty(*input));
        let is_step = |input: &Value| graph.repeats.iter().any(|repeat| repeat.step == graph.name(*input));
        let inputs: Vec<Value> = graph.inputs().into_iter().filter(|input| !is_step(input)).collect();
        let known: BTreeSet<&str> = inputs.iter().map(|input| graph.name(*input)).collect();
        let list = || {
            let (seeds, own): (Vec<Value>, Vec<Value>) = inputs.iter().partition(|&&input| is_seed_index(graph, input));
            let listed = |inputs: &[Value]| inputs.iter().map(described).collect::<Vec<_>>().join(", ");
            let own = format!("its inputs are {}", listed(&own));
            if seeds.is_empty() { own } else { format!("{own}; the graph's own indices are {}", listed(&seeds)) }
        };
        for name in given.keys().filter(|name| !known.contains(name.as_str())) {
            self.refuse_request(format!("the model has no input `{name}`"), list());
        }
        for input in &inputs {
            let name = graph.name(*input);
            let by_index = indices.iter().any(|index| index.name.as_deref() == Some(name));
            if graph.operand(input.node, 0).is_none() && !given.contains_key(name) && !by_index {
                let names: Vec<&str> = given.keys().map(String::as_str).collect();
                let help = if names.is_empty() {
                    format!("give it with --inputs FILE.npz or --input {name}=FILE")
                } else {
                    format!("given are {}; give it with --input {name}=FILE", names.join(", "))
                };
                self.refuse_request(format!("input `{name}` : {} is missing", graph.ty(*input)), help);
            }
        }
    }

    /// Rank and sizes; symbols that stand alone get their size here.
    fn shape(&mut self, input: Value, tensor: &data::Tensor) {
        let (name, ty) = (self.graph.name(input).to_string(), self.graph.ty(input).clone());
        if ty.rank() != tensor.shape().len() {
            let (found, rank) = (tensor.shape(), ty.rank());
            self.refuse(
                format!("input `{name}` has shape {found:?}, which is {} axes; expected are {rank}", found.len()),
                format!("the model declares {ty}"),
            );
            return;
        }
        for (axis, (dim, &size)) in ty.shape.iter().zip(tensor.shape()).enumerate() {
            let size = i64::try_from(size).unwrap_or(i64::MAX);
            let source = format!("axis {axis} of input `{name}` is {size}");
            match dim.as_symbol() {
                Some(symbol) => match self.sizes.0.get(symbol) {
                    Some((other, first)) if *other != size => {
                        let message = format!("dimension `{symbol}` has two sizes: {first}, but {source}");
                        self.refuse(message, format!("the model declares `{name}` as {ty}"));
                    }
                    Some(_) => {}
                    None => {
                        self.sizes.0.insert(symbol.to_string(), (size, source));
                    }
                },
                None => {
                    let expected = dim.eval(&self.sizes.bindings());
                    if let Ok(expected) = expected
                        && expected != size
                    {
                        let message = format!("input `{name}`: axis {axis} has length {size}, expected {expected}");
                        self.refuse(message, format!("the model declares {ty}; given is {:?}", tensor.shape()));
                    }
                }
            }
        }
    }

    fn tensor(&mut self, input: Value, tensor: &data::Tensor, keep_f64: bool) -> Result<(), Error> {
        let (name, ty) = (self.graph.name(input).to_string(), self.graph.ty(input).clone());
        if has_relevance(self.graph)
            && let Some(at) = first_nan(tensor)
        {
            return Err(Error::NotANumber { name, index: tensor.index_of(at) });
        }
        match to_kernel(tensor, ty.dtype, keep_f64) {
            Ok((converted, note)) => {
                self.bound.notes.extend(note.map(|note| format!("input `{name}`: {note}")));
                self.bound.tensors.insert(name.clone(), converted);
            }
            Err(reason) => self.refuse(format!("input `{name}` {reason}"), format!("the model declares {ty}")),
        }
        if let Some(depth) = self.depth(input) {
            let indices = tensor.to_f64();
            if let Some(wrong) = indices.iter().find(|&&index| index < 0.0 || index >= depth as f64) {
                self.refuse(format!("input `{name}`: index {wrong} is outside of 0 to {}", depth - 1), one_per_row());
            }
        }
        Ok(())
    }

    /// How many elements an index input chooses among; `None` for other inputs.
    fn depth(&self, input: Value) -> Option<i64> {
        let mut users = self.graph.users(input).into_iter();
        users.find_map(|(user, _)| match &self.graph.node(user).op {
            Op::Select(Select::OneHot { depth, .. }) if self.graph.operand(input.node, 0).is_some() => {
                depth.eval(&self.sizes.bindings()).ok()
            }
            _ => None,
        })
    }

    fn index(&mut self, index: &SeedIndex) {
        if let Err(finding) = self.try_index(index) {
            self.findings.push(finding.of_kind(DiagnosticKind::Request));
        }
    }

    fn try_index(&mut self, index: &SeedIndex) -> Result<(), Diagnostic> {
        let graph = self.graph;
        let mut seeds: Vec<Value> = graph.inputs().into_iter().filter(|&input| self.is_seed(input)).collect();
        // `c2` before `c10`.
        let order = |name: &str| (name.split('.').next().map(str::to_string), name.len(), name.to_string());
        seeds.sort_by_key(|&seed| order(graph.name(seed)));
        let names = seeds.iter().map(|&seed| graph.name(seed)).collect::<Vec<_>>().join(", ");
        let help = format!("the index inputs of the graph: {}", if names.is_empty() { "none" } else { &names });
        let chosen = match (&index.name, seeds.as_slice()) {
            (None, [only]) => *only,
            (None, _) => return Err(Diagnostic::new("--index needs a name, as in --index target=3").help(help)),
            (Some(name), _) => match seeds.iter().find(|&&seed| graph.name(seed) == name) {
                Some(seed) => *seed,
                None => return Err(Diagnostic::new(format!("--index {name}: no index input has that name")).help(help)),
            },
        };
        let name = graph.name(chosen).to_string();
        let shape = graph.ty(chosen).bound_shape(&self.sizes.bindings())?;
        let rows: usize = shape.iter().product();
        let indices = match index.indices.as_slice() {
            [one] => vec![*one; rows],
            many if many.len() == rows => many.to_vec(),
            // Several places of a condition, the same for all samples.
            many if shape.len() == 2 && shape.last() == Some(&many.len()) => many.repeat(rows / many.len().max(1)),
            many => {
                let message = format!("--index {name}: {} indices for {rows} rows", many.len());
                return Err(Diagnostic::new(message).help(one_per_row()));
            }
        };
        let depth = self.depth(chosen).unwrap_or(i64::MAX);
        if let Some(wrong) = indices.iter().find(|index| !(0..depth).contains(*index)) {
            let message = format!("--index {name}: {wrong} is outside of 0 to {}", depth.saturating_sub(1));
            return Err(Diagnostic::new(message).help(one_per_row()));
        }
        let tensor = kernels::Tensor::from_values(&shape, &indices).map_err(Diagnostic::new)?;
        self.bound.tensors.insert(name, tensor);
        Ok(())
    }

    fn is_seed(&self, input: Value) -> bool {
        is_seed_index(self.graph, input)
    }

    fn finish(mut self) -> Result<BoundInputs, Error> {
        if !self.findings.is_empty() {
            return Err(Diagnostics(self.findings).into());
        }
        self.bound.dims = self.sizes.bindings();
        Ok(self.bound)
    }
}

fn one_per_row() -> String {
    "an index input takes one index for each row, flat over the explained axes".into()
}

/// Whether `input` holds the indices of a seed: an integer input with a default, which the model's own never have, and
/// no step of a run that is repeated.
pub fn is_seed_index(graph: &Graph, input: Value) -> bool {
    let is_step = graph.repeats.iter().any(|repeat| repeat.step == graph.name(input));
    graph.ty(input).dtype == DType::I64 && graph.operand(input.node, 0).is_some() && !is_step
}

#[cfg(test)]
mod tests {
    use super::*;
    use lrpc_ir::text;

    const GRAPH: &str = "lrpc 1\ninput %a : f32[N, S]\ninput %b : f32[N, S+1]\ninput %c : i64[2, N]\nforward\n  \
                         %y = relu %a : f32[N, S]\nresult \"output/y\" = %y\n";

    fn zeros(shape: &[usize]) -> data::Tensor {
        data::Tensor::from_slice(shape, &vec![0f32; shape.iter().product()]).unwrap()
    }

    fn bind(a: &[usize], b: &[usize], c: &[usize]) -> Result<Bindings, String> {
        let indices = data::Tensor::from_slice(c, &vec![0i32; c.iter().product()]).unwrap();
        let given = [("a".into(), zeros(a)), ("b".into(), zeros(b)), ("c".into(), indices)].into();
        let bound = bind_inputs(&text::parse(GRAPH).unwrap(), &given, &[], &Bindings::new(), false);
        bound.map(|bound| bound.dims).map_err(|error| error.to_string())
    }

    #[test]
    fn symbols_get_their_sizes_from_the_inputs() {
        let dims = bind(&[3, 4], &[3, 5], &[2, 3]).unwrap();
        assert_eq!(dims, Bindings::from([("N".into(), 3), ("S".into(), 4)]));
    }

    #[test]
    fn every_conflict_is_named() {
        let error = bind(&[3, 4], &[2, 4], &[3, 3]).unwrap_err();
        for words in [
            "`N` has two sizes: axis 0 of input `a` is 3, but axis 0 of input `b` is 2",
            "input `b`: axis 1 has length 4, expected 5",
            "input `c`: axis 0 has length 3, expected 2",
        ] {
            assert!(error.contains(words), "{error}");
        }
        assert_eq!(error.lines().count(), 3, "{error}");
    }

    #[test]
    fn an_index_needs_an_index_input() {
        let index = SeedIndex { name: None, indices: vec![1] };
        let graph = text::parse(GRAPH).unwrap();
        let error = bind_inputs(&graph, &BTreeMap::new(), &[index], &Bindings::new(), false).unwrap_err().to_string();
        assert!(
            error.contains("input `a` : f32[N, S] is missing") && error.contains("--index needs a name"),
            "{error}"
        );
    }
}
