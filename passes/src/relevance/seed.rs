//! Seeds: which output elements are explained (docs/targets.md).
//!
//! A target's structure (output, sliced rows, sums and contrasts) is fixed when compiling. The index within a row is an
//! `i64` input of the graph whose default is a literal or an argmax, so that one graph serves every class.
//!
//! What an index on any axis but the last takes out of an output is a slice: [`explain_rows`] makes it a result of its
//! own, so that the pass `slice_seed` can move it through the graph before rules are applied, and [`Target::build`]
//! starts relevance at it.

use lrpc_ir::graph::{Graph, GraphResult, Origin, Region, Value};
use lrpc_ir::ops::source::{Literal, LiteralValues};
use lrpc_ir::ops::{Binary, Compare, Elementwise, Function, Movement, Op, Select, Source, Unary};
use lrpc_ir::types::product;
use lrpc_ir::{DType, Diagnostic, Dim, TensorType};

use super::target::{Pick, Selector, Target, Term};

/// A seed in the graph.
#[derive(Debug, Clone)]
pub struct Seed {
    /// The outputs that relevance starts at.
    pub starts: Vec<Start>,
}

/// Where relevance starts, and as what.
#[derive(Debug, Clone)]
pub struct Start {
    /// The explained output.
    pub output: Value,
    /// The coefficient `g` there: ±1 at the explained elements, else 0; of a reconstruction error its derivative.
    pub coefficient: Value,
    /// `R`, where it is not `y ⊙ g`: a reconstruction error.
    pub relevance: Option<Value>,
}

/// Makes the rows that targets explain: for every term that takes a slice of its output, the slice as a result, such as
/// `output/logits[:, -1, :]`. Slices that are results already are left. Returns the names of those that were made.
///
/// # Errors
/// Selectors that do not fit their output, outputs that are not floating-point.
pub fn explain_rows(graph: &mut Graph, targets: &mut [Target]) -> Result<Vec<String>, Diagnostic> {
    let mut made = Vec::new();
    for target in targets {
        for place in 0..target.terms.len() {
            let Some(term) = target.terms.get(place).filter(|term| term.rows.is_none()) else { continue };
            let rows = Rows::of(graph, target, term)?;
            if find_result(graph, &rows.result).is_none() {
                let result = format!("output/{}", term.output);
                let value = cut(graph, find_output(graph, target, &result)?, &term.output, &rows)?;
                graph.results.push(GraphResult { name: rows.result.clone(), value });
                made.push(rows.result.clone());
            }
            if let Some(term) = target.terms.get_mut(place) {
                term.rows = Some(rows);
            }
        }
    }
    Ok(made)
}

/// Cuts `rows` from an output, one slice for each axis.
fn cut(graph: &mut Graph, output: Value, name: &str, rows: &Rows) -> Result<Value, Diagnostic> {
    // Errors about sizes that are known only later name the target by this origin.
    let label = rows.result.strip_prefix("output/").unwrap_or_default();
    let origin = Origin { from: Some(format!("target {label}").into()), by: Some("seed".into()) };
    let add = |graph: &mut Graph, movement: Movement, operand: Value| -> Result<Value, Diagnostic> {
        let name = graph.fresh_name(&format!("{name}.row"));
        Ok(graph.add(Region::Forward, Op::Movement(movement), &[operand], &name, origin.clone())?)
    };
    let mut value = output;
    for (axis, start) in &rows.slices {
        let slice = Movement::slice_axis(graph.ty(value), *axis, start.clone(), Dim::Known(1));
        value = add(graph, slice, value)?;
    }
    add(graph, Movement::Reshape { shape: rows.shape.clone() }, value)
}

fn find_result(graph: &Graph, name: &str) -> Option<Value> {
    graph.results.iter().find(|result| result.name == name).map(|result| result.value)
}

fn find_output(graph: &Graph, target: &Target, result: &str) -> Result<Value, Diagnostic> {
    find_result(graph, result).ok_or_else(|| target.error(format!("the graph has no result `{result}`")))
}

impl Target {
    /// The names of the results that relevance starts at, once [`explain_rows`] has made them.
    pub fn explained(&self) -> impl Iterator<Item = String> {
        self.terms.iter().map(|term| match &term.rows {
            Some(rows) => rows.result.clone(),
            None => format!("output/{}", term.output),
        })
    }

    /// Makes the seed's nodes, after [`explain_rows`]. `input_name` is the name of the index input; a second term's has a
    /// number behind it.
    ///
    /// # Errors
    /// Results that are gone, and ranks that the output does not have.
    pub fn build(&self, graph: &mut Graph, prefix: &str, input_name: &str) -> Result<Seed, Diagnostic> {
        let mut starts: Vec<Start> = Vec::new();
        for (place, term) in self.terms.iter().enumerate() {
            let name = if place == 0 { input_name.to_string() } else { format!("{input_name}.{place}") };
            let mut maker = Maker { graph, prefix, target: self };
            if let Pick::Error = term.pick {
                starts.push(maker.error(term)?);
                continue;
            }
            let (output, mut g) = maker.term(term, &name)?;
            if term.negative {
                g = maker.add(Op::Elementwise(Elementwise::Unary(Unary::plain(Function::Neg))), &[g], "seed")?;
            }
            match starts.iter().position(|start| start.output == output) {
                Some(at) => {
                    let sum = Op::Elementwise(Elementwise::Binary(Binary::Add));
                    starts[at].coefficient = maker.add(sum, &[starts[at].coefficient, g], "seed")?;
                }
                None => starts.push(Start { output, coefficient: g, relevance: None }),
            }
        }
        Ok(Seed { starts })
    }
}

struct Maker<'a> {
    graph: &'a mut Graph,
    prefix: &'a str,
    target: &'a Target,
}

impl Maker<'_> {
    fn add(&mut self, op: Op, operands: &[Value], name: &str) -> Result<Value, Diagnostic> {
        self.place(Region::Relevance, op, operands, &format!("{}{name}", self.prefix))
    }

    fn place(&mut self, region: Region, op: Op, operands: &[Value], name: &str) -> Result<Value, Diagnostic> {
        let name = self.graph.fresh_name(name);
        Ok(self.graph.add(region, op, operands, &name, Origin { from: None, by: Some("seed".into()) })?)
    }

    /// The explained value and the coefficient at it.
    fn term(&mut self, term: &Term, input_name: &str) -> Result<(Value, Value), Diagnostic> {
        let rows = term.rows.as_ref().ok_or_else(|| self.target.error("its rows have not been made"))?;
        let output = find_output(self.graph, self.target, &rows.result)?;
        let ty = self.graph.ty(output).clone();
        if term.pick == Pick::Given {
            let input = self.place(Region::Header, Op::Source(Source::Input(ty)), &[], input_name)?;
            return Ok((output, self.add(Op::Promise, &[input], "seed")?));
        }
        let index = self.index(term, output, rows, input_name)?;
        let depth = rows.depth()?;
        let mut g = self.add(Op::Select(Select::OneHot { depth, dtype: ty.dtype }), &[index], "seed")?;
        if self.graph.ty(g).shape != ty.shape {
            g = self.add(Op::Movement(Movement::Reshape { shape: ty.shape }), &[g], "seed")?;
        }
        Ok((output, g))
    }

    /// The reconstruction error `(x̂ − x)²` of every element, and its derivative `2(x̂ − x)`.
    fn error(&mut self, term: &Term) -> Result<Start, Diagnostic> {
        let rows = term.rows.as_ref().ok_or_else(|| self.target.error("its rows have not been made"))?;
        let output = find_output(self.graph, self.target, &rows.result)?;
        let name = term.input.as_deref().unwrap_or_default();
        let input = self.graph.inputs().into_iter().find(|&input| self.graph.name(input) == name);
        let input = input.ok_or_else(|| self.target.error(format!("the model has no input `{name}`")))?;
        let (found, wanted) = (self.graph.ty(input).clone(), self.graph.ty(output).clone());
        if found != wanted {
            return Err(self.target.error(format!("`{name}` is {found}, and its reconstruction {wanted}")));
        }
        let of = |binary: Binary| Op::Elementwise(Elementwise::Binary(binary));
        let difference = self.place(Region::Forward, of(Binary::Sub), &[output, input], "difference")?;
        let error = self.place(Region::Forward, of(Binary::Mul), &[difference, difference], "error")?;
        let twice = Op::Elementwise(Elementwise::Unary(Unary::with(Function::Scale, 2.0)));
        let slope = self.place(Region::Forward, twice, &[difference], "slope")?;
        let coefficient = self.add(Op::Promise, &[slope], "seed")?;
        let relevance = Some(self.add(Op::Promise, &[error], "R.seed")?);
        Ok(Start { output, coefficient, relevance })
    }

    /// The index input with its default.
    fn index(&mut self, term: &Term, output: Value, rows: &Rows, input_name: &str) -> Result<Value, Diagnostic> {
        let ty = TensorType::new(DType::I64, rows.batch().to_vec());
        let default = match term.pick {
            Pick::Largest(rank) => self.largest(output, rows, rank)?,
            Pick::Index | Pick::Given | Pick::Error => {
                let values = LiteralValues::Integers(vec![rows.index]);
                let literal = Literal { ty: ty.clone(), values };
                self.place(Region::Prepare, Op::Source(Source::Constant(literal)), &[], "index")?
            }
        };
        self.place(Region::Header, Op::Source(Source::Input(ty)), &[default], input_name)
    }

    /// The index of the element of each row that `rank` others surpass.
    fn largest(&mut self, output: Value, rows: &Rows, rank: usize) -> Result<Value, Diagnostic> {
        let depth = rows.depth()?;
        if let Some(count) = depth.known().filter(|&count| i64::try_from(rank).is_ok_and(|rank| rank >= count)) {
            return Err(self.target.error(format!("each row has {count} elements only")));
        }
        let axis = rows.batch().len();
        let flat: Vec<Dim> = rows.batch().iter().cloned().chain([depth.clone()]).collect();
        let mut scores = output;
        if flat != self.graph.ty(output).shape {
            let reshape = Op::Movement(Movement::Reshape { shape: flat });
            scores = self.place(Region::Forward, reshape, &[output], "explained")?;
        }
        let argmax = Op::Select(Select::ArgMax { axis });
        for surpassing in 1..=rank {
            let best = self.place(Region::Forward, argmax.clone(), &[scores], "argmax")?;
            scores = self.without(scores, best, &depth, surpassing)?;
        }
        self.place(Region::Forward, argmax, &[scores], "argmax")
    }

    /// The scores with −∞ at the index `best` of each row, of which more than `least` are needed.
    fn without(&mut self, scores: Value, best: Value, depth: &Dim, least: usize) -> Result<Value, Diagnostic> {
        let ty = self.graph.ty(scores).clone();
        let one_hot = Select::OneHot { depth: depth.clone(), dtype: ty.dtype };
        let taken = self.place(Region::Forward, Op::Select(one_hot), &[best], "taken")?;
        let one = self.one(&ty, depth, least)?;
        let lowest = Op::Source(Source::Constant(Literal::filled(ty, f64::NEG_INFINITY)));
        let lowest = self.place(Region::Prepare, lowest, &[], "const")?;
        let is_taken = Op::Elementwise(Elementwise::Compare(Compare::Equal));
        let is_taken = self.place(Region::Forward, is_taken, &[taken, one], "is_taken")?;
        self.place(Region::Forward, Op::Elementwise(Elementwise::Where), &[is_taken, lowest, scores], "rest")
    }

    /// Ones of the type `ty`. Where the length of a row is known only when running, they are copied from element `least`
    /// of a row, so that shorter rows are refused there.
    fn one(&mut self, ty: &TensorType, depth: &Dim, least: usize) -> Result<Value, Diagnostic> {
        let ones = |shape| Op::Source(Source::Constant(Literal::filled(TensorType::new(ty.dtype, shape), 1.0)));
        if depth.known().is_some() {
            return self.place(Region::Prepare, ones(ty.shape.clone()), &[], "const");
        }
        let origin = Origin { from: Some(format!("target {}", self.target.text).into()), by: Some("seed".into()) };
        let mut add = |op: Op, operands: &[Value], name: &str| -> Result<Value, Diagnostic> {
            let name = self.graph.fresh_name(name);
            Ok(self.graph.add(Region::Prepare, op, operands, &name, origin.clone())?)
        };
        let row = TensorType::new(ty.dtype, vec![depth.clone()]);
        let all = add(ones(row.shape.clone()), &[], "const")?;
        let start = Dim::Known(i64::try_from(least).unwrap_or(i64::MAX));
        let one = add(Op::Movement(Movement::slice_axis(&row, 0, start, Dim::Known(1))), &[all], "one")?;
        add(Op::Movement(Movement::Broadcast { shape: ty.shape.clone() }), &[one], "ones")
    }
}

/// The rows of an output that a term picks from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rows {
    /// The result that holds them: `output/logits`, or `output/logits[:, -1, :]` for a slice.
    result: String,
    /// The sliced axes, each with the element that stays.
    slices: Vec<(usize, Dim)>,
    /// The shape of what is left, without the sliced axes.
    shape: Vec<Dim>,
    /// How many of its axes, none or the first, are rows; the others are flattened.
    batch: usize,
    /// The index within a row, where it is a number.
    index: i64,
}

impl Rows {
    /// # Errors
    /// An output that is gone or not floating-point, and selectors that do not fit it.
    fn of(graph: &Graph, target: &Target, term: &Term) -> Result<Rows, Diagnostic> {
        let ty = graph.ty(find_output(graph, target, &format!("output/{}", term.output))?);
        if !ty.dtype.is_float() {
            return Err(target.error(format!("`{}` is {}, not floating-point", term.output, ty.dtype)));
        }
        Rows::select(ty, term, has_samples(graph, ty)).map_err(|why| target.error(why))
    }

    /// `has_samples`: whether the first axis counts the samples of a batch.
    fn select(ty: &TensorType, term: &Term, has_samples: bool) -> Result<Rows, String> {
        let rank = ty.rank();
        if !term.selectors.is_empty() && term.selectors.len() != rank {
            return Err(format!("{} indices for {rank} axes of {ty}", term.selectors.len()));
        }
        let mut rows = Rows {
            result: String::new(),
            slices: Vec::new(),
            shape: Vec::new(),
            batch: usize::from(has_samples),
            index: 0,
        };
        let mut label = Vec::new();
        for (axis, size) in ty.shape.iter().enumerate() {
            let is_sample = has_samples && axis == 0;
            let Selector::Index(index) = term.selectors.get(axis).copied().unwrap_or(Selector::All) else {
                if term.pick == Pick::Index && !is_sample {
                    return Err("`:` behind the batch axis needs `:argmax`".into());
                }
                rows.shape.push(size.clone());
                label.push(":".to_string());
                continue;
            };
            let start = place_of(index, axis, size)?;
            // An index on the last axis may be given again, where it is known to lie inside.
            match (start.known(), size.known()) {
                (Some(start), Some(_)) if axis + 1 == rank && term.pick == Pick::Index && !is_sample => {
                    rows.index = start;
                    rows.shape.push(size.clone());
                    label.push(":".to_string());
                }
                _ => {
                    rows.slices.push((axis, start));
                    rows.batch -= usize::from(is_sample);
                    label.push(index.to_string());
                }
            }
        }
        rows.result = match rows.slices.is_empty() {
            true => format!("output/{}", term.output),
            false => format!("output/{}[{}]", term.output, label.join(", ")),
        };
        Ok(rows)
    }

    /// The axes that count rows.
    fn batch(&self) -> &[Dim] {
        self.shape.get(..self.batch).unwrap_or_default()
    }

    /// The number of elements in a row.
    fn depth(&self) -> Result<Dim, Diagnostic> {
        Ok(product(self.shape.get(self.batch..).unwrap_or_default())?)
    }
}

/// The place that `index` names on an axis of length `size`; a negative one counts from the end.
fn place_of(index: i64, axis: usize, size: &Dim) -> Result<Dim, String> {
    let place = if index < 0 { size.add(&index.into()) } else { Ok(index.into()) }.map_err(|e| e.to_string())?;
    match (&place, size) {
        (Dim::Known(place), Dim::Known(size)) if place < &0 || place >= size => {
            Err(format!("index {index} is outside of axis {axis} with {size} elements"))
        }
        _ => Ok(place),
    }
}

/// Whether the first axis of an output counts samples: where it has several axes, and where its one axis has the
/// symbolic length that is the first of an input.
fn has_samples(graph: &Graph, ty: &TensorType) -> bool {
    match ty.shape.as_slice() {
        [] => false,
        [length] => {
            length.known().is_none() && graph.input_types().iter().any(|input| input.shape.first() == Some(length))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lrpc_ir::text;

    fn rows(ty: &str, target: &str) -> Result<String, String> {
        let graph = format!("lrpc 1\ninput %x : {ty}\nforward\n  %y = exp %x : {ty}\nresult \"output/y\" = %y\n");
        let mut graph = text::parse(&graph).unwrap();
        let mut targets = Target::parse(target, &["y"]).map_err(|error| error.to_string())?;
        explain_rows(&mut graph, &mut targets).map_err(|error| error.to_string())?;
        let rows = targets[0].terms[0].rows.clone().unwrap();
        Ok(format!("{} {:?} {} {}", &rows.result[7..], rows.shape, rows.batch, rows.index))
    }

    #[test]
    fn what_is_sliced_and_what_is_an_index() {
        for (ty, target, expected) in [
            ("f32[N, 10]", "y[:, 8]", "y [N, 10] 1 8"),
            ("f32[N, 10]", "y[:, -1]", "y [N, 10] 1 9"),
            ("f32[N, 10]", "y[0, 8]", "y[0, :] [10] 0 8"),
            ("f32[N, S, 10]", "y[:,-1,:]:argmax", "y[:, -1, :] [N, 10] 1 0"),
            ("f32[N, 4, 10]", "y[:, -1, 3]", "y[:, -1, :] [N, 10] 1 3"),
            ("f32[N, S, 10]", "y[1, 2, 3]", "y[1, 2, :] [10] 0 3"),
            ("f32[N, S]", "y[:, 5]", "y[:, 5] [N] 1 0"),
            ("f32[N, S]", "y[:, -5]", "y[:, -5] [N] 1 0"),
            ("f32[N, S, 10]", "y", "y [N, S, 10] 1 0"),
            ("f32[N, 21, 8, 8]", "y[:, :, 3, 4]:argmax", "y[:, :, 3, 4] [N, 21] 1 0"),
            ("f32[7]", "y[3]", "y [7] 0 3"),
            ("f32[N]", "y", "y [N] 1 0"),
            ("f32[N]", "y[3]", "y[3] [] 0 0"),
            ("f32[]", "y", "y [] 0 0"),
        ] {
            assert_eq!(rows(ty, target).unwrap(), expected, "{target} of {ty}");
        }
    }

    #[test]
    fn targets_that_do_not_fit_are_refused() {
        for (ty, target, words) in [
            ("f32[N, 10]", "y[:, 10]", "index 10 is outside of axis 1 with 10 elements"),
            ("f32[N, 10]", "y[:, -11]", "index -11 is outside of axis 1"),
            ("f32[N, 10]", "y[3]", "1 indices for 2 axes"),
            ("f32[N, S, 10]", "y[:, :, 3]", "needs `:argmax`"),
        ] {
            let error = rows(ty, target).unwrap_err();
            assert!(error.contains(words) && error.contains(target), "{error}");
        }
    }
}
