//! States a window in the language of the rewrites.
//!
//! What is piecewise linear is brought into one form on the way, `a · clamp(low, high, u + s)`, without any search: a
//! chain of factors, summands and limits has many spellings and only one such form.

use std::collections::HashMap;

use egg::{EGraph, Id};
use lrpc_ir::ops::{Binary, Compare, Elementwise, Function, Op, Unary};
use lrpc_ir::{Graph, Value};

use super::language::{Constants, Number, Term, named};
use super::window::{Window, scalar, spacing};

/// A window as terms.
pub(super) struct Stated {
    /// The terms.
    pub terms: EGraph<Term, Constants>,
    /// The roots and their terms, innermost first.
    pub roots: Vec<(Value, Id)>,
}

/// `factor · min(max(base + shift, low), high)`.
#[derive(Debug, Clone, Copy)]
struct Piecewise {
    base: Id,
    factor: f64,
    shift: f64,
    low: f64,
    high: f64,
}

impl Piecewise {
    fn of(base: Id) -> Piecewise {
        Piecewise { base, factor: 1.0, shift: 0.0, low: f64::NEG_INFINITY, high: f64::INFINITY }
    }

    fn times(self, by: f64) -> Option<Piecewise> {
        let factor = self.factor * by;
        (factor != 0.0 && factor.is_finite()).then_some(Piecewise { factor, ..self })
    }

    fn plus(self, summand: f64) -> Piecewise {
        let by = summand / self.factor;
        Piecewise { shift: self.shift + by, low: self.low + by, high: self.high + by, ..self }
    }

    fn clip(self, low: f64, high: f64) -> Piecewise {
        let (low, high) = (low / self.factor, high / self.factor);
        let (low, high) = if self.factor < 0.0 { (high, low) } else { (low, high) };
        let within = |value: f64| value.max(low).min(high);
        Piecewise { low: within(self.low), high: within(self.high), ..self }
    }

    fn is_clipped(self) -> bool {
        self.low > f64::NEG_INFINITY || self.high < f64::INFINITY
    }
}

/// What a value of the window is.
#[derive(Debug, Clone, Copy)]
enum Meaning {
    Number(Piecewise),
    /// A comparison of a value with a constant: whether the value exceeds it (or, `false`, whether it is less).
    Exceeds(Value, f64, bool),
}

/// States `window`. Roots that have no term (truth values) are left out.
pub(super) fn state(graph: &Graph, window: &Window) -> Stated {
    let mut writer = Writer { graph, terms: EGraph::default(), meanings: HashMap::new() };
    let leaf = writer.terms.add(Term::Unknown);
    writer.with_factor_of_one(leaf);
    writer.meanings.insert(window.leaf, Meaning::Number(Piecewise::of(leaf)));
    let mut roots = Vec::new();
    for &value in &window.nodes {
        let Some(meaning) = writer.meaning(value) else { continue };
        writer.meanings.insert(value, meaning);
        if let (Meaning::Number(piecewise), true) = (meaning, window.roots.contains(&value)) {
            roots.push((value, writer.emit(piecewise)));
        }
    }
    writer.terms.rebuild();
    Stated { terms: writer.terms, roots }
}

struct Writer<'g> {
    graph: &'g Graph,
    terms: EGraph<Term, Constants>,
    meanings: HashMap<Value, Meaning>,
}

impl Writer<'_> {
    fn number(&self, value: Value) -> Option<Piecewise> {
        match self.meanings.get(&value)? {
            Meaning::Number(piecewise) => Some(*piecewise),
            Meaning::Exceeds(..) => None,
        }
    }

    fn constant(&mut self, value: f64) -> Id {
        let shared = self.terms.analysis.shared(value);
        self.terms.add(Term::Constant(Number(shared)))
    }

    /// Lets rewrites that look for a factor find 1.
    fn with_factor_of_one(&mut self, id: Id) {
        let one = self.constant(1.0);
        let product = self.terms.add(Term::Mul([one, id]));
        self.terms.union(id, product);
    }

    fn emit(&mut self, piecewise: Piecewise) -> Id {
        let mut id = piecewise.base;
        if piecewise.shift != 0.0 {
            let shift = self.constant(piecewise.shift);
            id = self.terms.add(Term::Add([shift, id]));
        }
        if piecewise.is_clipped() {
            let (low, high) = (self.constant(piecewise.low), self.constant(piecewise.high));
            id = self.terms.add(Term::Clamp([low, high, id]));
        }
        if piecewise.factor != 1.0 {
            let factor = self.constant(piecewise.factor);
            return self.terms.add(Term::Mul([factor, id]));
        }
        if id != piecewise.base {
            self.with_factor_of_one(id);
        }
        id
    }

    fn term(&mut self, value: Value) -> Option<Id> {
        self.number(value).map(|piecewise| self.emit(piecewise))
    }

    fn meaning(&mut self, value: Value) -> Option<Meaning> {
        let graph = self.graph;
        let Op::Elementwise(op) = &graph.node(value.node).op else { return None };
        let operands = graph.operands(value.node);
        match (op, operands.as_slice()) {
            (Elementwise::Cast(_), &[x]) => self.number(x).map(Meaning::Number),
            (Elementwise::Unary(unary), &[x]) if unary.function == Function::Not => self.negated(x),
            (Elementwise::Unary(unary), &[x]) => {
                let epsilon = spacing(graph.ty(x).dtype)?.max(f64::from(f32::EPSILON));
                self.unary(unary, epsilon, x).map(Meaning::Number)
            }
            (Elementwise::Binary(binary), &[a, b]) => self.binary(*binary, a, b).map(Meaning::Number),
            (Elementwise::Compare(compare), &[a, b]) => self.compare(*compare, a, b),
            (Elementwise::Where, &[condition, a, b]) => self.select(condition, a, b).map(Meaning::Number),
            _ => None,
        }
    }

    fn unary(&mut self, unary: &Unary, epsilon: f64, x: Value) -> Option<Piecewise> {
        let [p, q] = unary.parameters.map(|parameter| named(parameter.0, epsilon));
        let operand = self.number(x)?;
        match unary.function {
            Function::Relu | Function::Positive => return Some(operand.clip(0.0, f64::INFINITY)),
            Function::Negative => return Some(operand.clip(f64::NEG_INFINITY, 0.0)),
            Function::Clip => return Some(operand.clip(p, q)),
            Function::HardSigmoid => return operand.times(p).map(|scaled| scaled.plus(q).clip(0.0, 1.0)),
            Function::Scale => return operand.times(p),
            Function::Shift => return Some(operand.plus(p)),
            Function::Neg => return operand.times(-1.0),
            _ => {}
        }
        let id = self.emit(operand);
        let term = match unary.function {
            Function::Reciprocal => Term::Reciprocal(id),
            Function::Abs => Term::Abs(id),
            Function::Exp => Term::Exp(id),
            Function::Log => Term::Log(id),
            Function::Erf => Term::Erf(id),
            Function::Tanh => Term::Tanh(id),
            Function::Sigmoid => Term::Sigmoid(id),
            Function::Softplus => Term::Softplus(id),
            Function::Pow => return self.power(p, id),
            _ => return None,
        };
        Some(Piecewise::of(self.terms.add(term)))
    }

    fn power(&mut self, exponent: f64, id: Id) -> Option<Piecewise> {
        let term = match exponent {
            -1.0 => Term::Reciprocal(id),
            2.0 => Term::Mul([id, id]),
            3.0 => {
                let square = self.terms.add(Term::Mul([id, id]));
                Term::Mul([id, square])
            }
            _ => return None,
        };
        Some(Piecewise::of(self.terms.add(term)))
    }

    fn binary(&mut self, op: Binary, a: Value, b: Value) -> Option<Piecewise> {
        let (left, right) = (scalar(self.graph, a), scalar(self.graph, b));
        match (op, left, right) {
            (Binary::Add, Some(c), None) => Some(self.number(b)?.plus(c)),
            (Binary::Add, None, Some(c)) => Some(self.number(a)?.plus(c)),
            (Binary::Sub, Some(c), None) => Some(self.number(b)?.times(-1.0)?.plus(c)),
            (Binary::Sub, None, Some(c)) => Some(self.number(a)?.plus(-c)),
            (Binary::Mul, Some(c), None) => self.number(b)?.times(c),
            (Binary::Mul, None, Some(c)) => self.number(a)?.times(c),
            (Binary::Div, None, Some(c)) => self.number(a)?.times(1.0 / c),
            (Binary::Div, Some(c), None) => {
                let divisor = self.term(b)?;
                Piecewise::of(self.terms.add(Term::Reciprocal(divisor))).times(c)
            }
            (Binary::Min, Some(c), None) => Some(self.number(b)?.clip(f64::NEG_INFINITY, c)),
            (Binary::Min, None, Some(c)) => Some(self.number(a)?.clip(f64::NEG_INFINITY, c)),
            (Binary::Max, Some(c), None) => Some(self.number(b)?.clip(c, f64::INFINITY)),
            (Binary::Max, None, Some(c)) => Some(self.number(a)?.clip(c, f64::INFINITY)),
            (Binary::Add | Binary::Sub | Binary::Mul | Binary::Div, None, None) => self.of_two(op, a, b),
            _ => None,
        }
    }

    fn of_two(&mut self, op: Binary, a: Value, b: Value) -> Option<Piecewise> {
        let left = self.term(a)?;
        let right = match op {
            Binary::Sub => {
                let negative = self.number(b)?.times(-1.0)?;
                self.emit(negative)
            }
            Binary::Div => {
                let divisor = self.term(b)?;
                self.terms.add(Term::Reciprocal(divisor))
            }
            _ => self.term(b)?,
        };
        let operands = [left, right];
        let term = if matches!(op, Binary::Add | Binary::Sub) { Term::Add(operands) } else { Term::Mul(operands) };
        Some(Piecewise::of(self.terms.add(term)))
    }

    fn compare(&self, compare: Compare, a: Value, b: Value) -> Option<Meaning> {
        let exceeds = match compare {
            Compare::Greater | Compare::GreaterOrEqual => true,
            Compare::Less | Compare::LessOrEqual => false,
            Compare::Equal => return None,
        };
        match (scalar(self.graph, a), scalar(self.graph, b)) {
            (None, Some(bound)) => Some(Meaning::Exceeds(a, bound, exceeds)),
            (Some(bound), None) => Some(Meaning::Exceeds(b, bound, !exceeds)),
            _ => None,
        }
    }

    fn negated(&self, condition: Value) -> Option<Meaning> {
        match self.meanings.get(&condition)? {
            Meaning::Exceeds(value, bound, exceeds) => Some(Meaning::Exceeds(*value, *bound, !exceeds)),
            Meaning::Number(_) => None,
        }
    }

    fn select(&mut self, condition: Value, a: Value, b: Value) -> Option<Piecewise> {
        let Meaning::Exceeds(value, bound, exceeds) = *self.meanings.get(&condition)? else { return None };
        let (above, below) = if exceeds { (a, b) } else { (b, a) };
        let (value, bound) = (self.term(value)?, self.constant(bound));
        let branches = [self.branch(above)?, self.branch(below)?];
        Some(Piecewise::of(self.terms.add(Term::Select([value, bound, branches[0], branches[1]]))))
    }

    fn branch(&mut self, value: Value) -> Option<Id> {
        match scalar(self.graph, value) {
            Some(number) => Some(self.constant(number)),
            None => self.term(value),
        }
    }
}
