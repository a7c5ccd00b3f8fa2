//! Seeds: which output elements are explained (docs/rule-book.md section 7).
//!
//! A target's structure (output, sliced rows, sums and contrasts) is fixed when compiling. The index within a row is an
//! `i64` input of the graph whose default is a literal or an argmax, so that one graph serves every class.

use lrpc_ir::graph::{Graph, Origin, Region, Value};
use lrpc_ir::ops::{Binary, Elementwise, Function, Literal, Movement, Op, Select, Source, Unary};
use lrpc_ir::types::product;
use lrpc_ir::{DType, Diagnostic, Dim, Float, TensorType};

/// What a target selects along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Selector {
    All,
    Index(i64),
}

/// One output element per row.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    negative: bool,
    output: String,
    selectors: Vec<Selector>,
    argmax: bool,
}

/// A sum or contrast of output elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    terms: Vec<Term>,
    /// The text that it was read from.
    pub text: String,
}

/// A seed in the graph.
#[derive(Debug, Clone)]
pub struct Seed {
    /// The outputs that relevance starts at, each with the coefficient `g` (±1 at the explained elements, else 0).
    pub starts: Vec<(Value, Value)>,
}

impl Target {
    /// The default: the largest element of each batch row of `output`.
    pub fn default_of(output: &str) -> Target {
        let term = Term { negative: false, output: output.into(), selectors: Vec::new(), argmax: true };
        Target { terms: vec![term], text: format!("{output}:argmax") }
    }

    /// Reads `logits[0,8]`, `logits[:,-1,:]:argmax`, `logits[0,8]-logits[0,3]`, `start+end`.
    ///
    /// # Errors
    /// Text that is not in this form, and outputs that are not among `outputs`.
    pub fn parse(text: &str, outputs: &[&str]) -> Result<Target, Diagnostic> {
        let wrong = |why: String| {
            Diagnostic::request(format!("--target '{text}': {why}"))
                .help("write an output's name with one index or `:` per axis, e.g. 'logits[:, 8]' or 'logits:argmax'")
        };
        let mut rest = text.trim();
        let mut terms = Vec::new();
        let mut negative = false;
        loop {
            // Names may hold any character: the longest output name that fits is meant.
            let fits = outputs.iter().filter(|name| rest.starts_with(**name)).max_by_key(|name| name.len());
            let output =
                fits.ok_or_else(|| wrong(format!("no output is called so; there are {}", outputs.join(", "))))?;
            rest = rest[output.len()..].trim_start();
            let mut selectors = Vec::new();
            if let Some(inner) = rest.strip_prefix('[') {
                let (inside, after) = inner.split_once(']').ok_or_else(|| wrong("`]` is missing".into()))?;
                selectors = inside
                    .split(',')
                    .map(selector)
                    .collect::<Option<_>>()
                    .ok_or_else(|| wrong(format!("`[{inside}]` must hold integers and `:`")))?;
                rest = after.trim_start();
            }
            let argmax = match rest.strip_prefix(":argmax") {
                Some(after) => {
                    rest = after.trim_start();
                    true
                }
                None => selectors.is_empty(),
            };
            terms.push(Term { negative, output: output.to_string(), selectors, argmax });
            match rest.chars().next() {
                None => return Ok(Target { terms, text: text.trim().into() }),
                Some(sign @ ('+' | '-')) => {
                    negative = sign == '-';
                    rest = rest[1..].trim_start();
                }
                Some(_) => return Err(wrong(format!("`{rest}` is too much"))),
            }
        }
    }

    /// The outputs that the target reads.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        self.terms.iter().map(|term| term.output.as_str())
    }

    /// Makes the seed's nodes. `input_name` is the name of the index input; a second term's has a number behind it.
    ///
    /// # Errors
    /// Selectors that do not fit the output.
    pub fn build(&self, graph: &mut Graph, prefix: &str, input_name: &str) -> Result<Seed, Diagnostic> {
        let mut starts: Vec<(Value, Value)> = Vec::new();
        for (place, term) in self.terms.iter().enumerate() {
            let name = if place == 0 { input_name.to_string() } else { format!("{input_name}.{place}") };
            let mut maker = Maker { graph, prefix, target: self };
            let (output, mut g) = maker.term(term, &name)?;
            if term.negative {
                g = maker.add(Op::Elementwise(Elementwise::Unary(Unary::plain(Function::Neg))), &[g], "seed")?;
            }
            match starts.iter().position(|(value, _)| *value == output) {
                Some(at) => {
                    let sum = Op::Elementwise(Elementwise::Binary(Binary::Add));
                    starts[at].1 = maker.add(sum, &[starts[at].1, g], "seed")?;
                }
                None => starts.push((output, g)),
            }
        }
        Ok(Seed { starts })
    }
}

fn selector(text: &str) -> Option<Selector> {
    match text.trim() {
        ":" => Some(Selector::All),
        number => number.parse().ok().map(Selector::Index),
    }
}

struct Maker<'a> {
    graph: &'a mut Graph,
    prefix: &'a str,
    target: &'a Target,
}

impl Maker<'_> {
    fn error(&self, why: impl std::fmt::Display) -> Diagnostic {
        Diagnostic::request(format!("--target '{}': {why}", self.target.text))
    }

    fn add(&mut self, op: Op, operands: &[Value], name: &str) -> Result<Value, Diagnostic> {
        self.place(Region::Relevance, op, operands, &format!("{}{name}", self.prefix))
    }

    fn place(&mut self, region: Region, op: Op, operands: &[Value], name: &str) -> Result<Value, Diagnostic> {
        let name = self.graph.fresh_name(name);
        Ok(self.graph.add(region, op, operands, &name, Origin { from: None, by: Some("seed".into()) })?)
    }

    /// The output and the coefficient at it.
    fn term(&mut self, term: &Term, input_name: &str) -> Result<(Value, Value), Diagnostic> {
        let result = format!("output/{}", term.output);
        let output = self.graph.results.iter().find(|candidate| candidate.name == result).map(|found| found.value);
        let output = output.ok_or_else(|| self.error("the output is gone"))?;
        let ty = self.graph.ty(output).clone();
        if !ty.dtype.is_float() {
            return Err(self.error(format!("`{}` is {}, not floating-point", term.output, ty.dtype)));
        }
        let rows = Rows::of(&ty, &term.selectors, term.argmax).map_err(|why| self.error(why))?;
        let sliced = TensorType::new(ty.dtype, rows.shape.clone());
        let index = self.index(term, output, &rows, input_name)?;
        let depth = product(&rows.shape[rows.batch..])?;
        let picked = self.add(Op::Select(Select::OneHot { depth, dtype: ty.dtype }), &[index], "seed")?;
        let mut g = picked;
        if self.graph.ty(g).shape != sliced.shape {
            g = self.add(Op::Movement(Movement::Reshape { shape: sliced.shape.clone() }), &[g], "seed")?;
        }
        if sliced.shape != ty.shape {
            if let Some(inside) = self.inside(&ty, &rows)? {
                g = self.add(Op::Elementwise(Elementwise::Binary(Binary::Mul)), &[g, inside], "seed")?;
            }
            let pad = Movement::Pad {
                before: rows.starts.clone(),
                steps: vec![1; ty.rank()],
                value: Float(0.0),
                shape: ty.shape.clone(),
            };
            g = self.add(Op::Movement(pad), &[g], "seed")?;
        }
        Ok((output, g))
    }

    /// Ones, sliced where the seed is: a slice whose place is known only with the sizes, and which is refused there if
    /// it lies outside. `None` where all sizes are numbers and have been checked.
    fn inside(&mut self, ty: &TensorType, rows: &Rows) -> Result<Option<Value>, Diagnostic> {
        let symbolic = |axis: usize| rows.shape[axis] != ty.shape[axis] && ty.shape[axis].known().is_none();
        if !(0..ty.rank()).any(symbolic) {
            return Ok(None);
        }
        let ones = self.add(Op::Source(Source::Constant(Literal::filled(ty.clone(), 1.0))), &[], "ones")?;
        let slice =
            Movement::Slice { starts: rows.starts.clone(), steps: vec![1; ty.rank()], shape: rows.shape.clone() };
        self.add(Op::Movement(slice), &[ones], "inside").map(Some)
    }

    /// The index input with its default.
    fn index(&mut self, term: &Term, output: Value, rows: &Rows, input_name: &str) -> Result<Value, Diagnostic> {
        let ty = TensorType::new(DType::I64, rows.shape[..rows.batch].to_vec());
        let default = match rows.flat {
            Some(flat) if !term.argmax => {
                let literal = Literal::filled(ty.clone(), flat as f64);
                self.place(Region::Prepare, Op::Source(Source::Constant(literal)), &[], "index")?
            }
            _ => {
                let mut rows_of = output;
                let forward = |maker: &mut Self, op, operand| {
                    maker.place(Region::Forward, Op::Movement(op), &[operand], "explained")
                };
                if rows.shape != self.graph.ty(output).shape {
                    let slice = Movement::Slice {
                        starts: rows.starts.clone(),
                        steps: vec![1; rows.shape.len()],
                        shape: rows.shape.clone(),
                    };
                    rows_of = forward(self, slice, rows_of)?;
                }
                let flat: Vec<Dim> = ty.shape.iter().cloned().chain([product(&rows.shape[rows.batch..])?]).collect();
                if flat != rows.shape {
                    rows_of = forward(self, Movement::Reshape { shape: flat }, rows_of)?;
                }
                self.place(Region::Forward, Op::Select(Select::ArgMax { axis: rows.batch }), &[rows_of], "argmax")?
            }
        };
        self.place(Region::Header, Op::Source(Source::Input(ty)), &[default], input_name)
    }
}

/// The rows of an output that a term picks from: a slice whose first `batch` axes are rows and whose others are
/// flattened.
struct Rows {
    starts: Vec<Dim>,
    shape: Vec<Dim>,
    batch: usize,
    flat: Option<i64>,
}

impl Rows {
    fn of(ty: &TensorType, selectors: &[Selector], argmax: bool) -> Result<Rows, String> {
        let rank = ty.rank();
        let batch = usize::from(rank > 1);
        if !selectors.is_empty() && selectors.len() != rank {
            return Err(format!("{} indices for {rank} axes of {ty}", selectors.len()));
        }
        let mut rows = Rows { starts: vec![Dim::Known(0); rank], shape: ty.shape.clone(), batch, flat: Some(0) };
        for (axis, selector) in selectors.iter().enumerate() {
            let Selector::Index(index) = *selector else {
                if axis >= batch && !argmax {
                    return Err("`:` behind the batch axis needs `:argmax`".into());
                }
                continue;
            };
            let size = &ty.shape[axis];
            let start =
                if index < 0 { size.add(&index.into()) } else { Ok(index.into()) }.map_err(|e| e.to_string())?;
            let outside = matches!((&start, size), (Dim::Known(at), Dim::Known(size)) if at < &0 || at >= size);
            if outside {
                return Err(format!("index {index} is outside of axis {axis} with {size} elements"));
            }
            // The row, everything beside an argmax, and what no number can say are sliced; the rest is an index that
            // may be given again.
            let known_tail = ty.shape[axis..].iter().all(|dim| dim.known().is_some());
            if axis < batch || argmax || !known_tail {
                rows.starts[axis] = start;
                rows.shape[axis] = Dim::Known(1);
            } else {
                let stride = ty.shape[axis + 1..].iter().filter_map(Dim::known).try_fold(1i64, i64::checked_mul);
                let offset = start.known().zip(stride).and_then(|(start, stride)| start.checked_mul(stride));
                rows.flat = rows.flat.zip(offset).and_then(|(flat, offset)| flat.checked_add(offset));
            }
        }
        Ok(rows)
    }
}
