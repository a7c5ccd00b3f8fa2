//! What is looked for: the activations that the intermediate representation has, each in one spelling.

use std::sync::OnceLock;

use egg::{EGraph, Id, Pattern, SearchMatches, Searcher, Var};
use lrpc_ir::ops::{Function, Unary};
use lrpc_ir::{Diagnostic, DiagnosticKind};

use super::language::{Constants, GELU_CUBIC, SQRT_2_OVER_PI, Term};

/// An activation to look for.
#[derive(Debug, Clone, Copy)]
pub(super) struct TargetDef {
    /// What it is called in messages.
    pub name: &'static str,
    /// Its spelling; the variables are constants.
    pub pattern: &'static str,
    /// The constants that it has, in this order.
    pub constants: &'static [Constant],
    /// The function, given these constants; `None` where they make none.
    pub function: fn(&[f64]) -> Option<Unary>,
}

/// A constant of a target.
#[derive(Debug, Clone, Copy)]
pub(super) struct Constant {
    /// The variable.
    pub name: &'static str,
    /// What it has to be; `None` for a parameter.
    pub value: Option<f64>,
}

const fn parameter(name: &'static str) -> Constant {
    Constant { name, value: None }
}

const fn fixed(name: &'static str, value: f64) -> Constant {
    Constant { name, value: Some(value) }
}

/// Every target. The first that fits counts.
pub(super) const TARGETS: &[TargetDef] = &[
    TargetDef {
        name: "GELU",
        pattern: "(* ?half (* x (+ ?one (erf (* ?inner x)))))",
        constants: &[fixed("?half", 0.5), fixed("?one", 1.0), fixed("?inner", std::f64::consts::FRAC_1_SQRT_2)],
        function: |_| Some(Unary::plain(Function::Gelu)),
    },
    TargetDef {
        name: "the tanh approximation of GELU",
        pattern: "(* x (sigmoid (* ?inner (* x (+ 1 (* ?cubic (* x x)))))))",
        constants: &[fixed("?inner", 2.0 * SQRT_2_OVER_PI), fixed("?cubic", GELU_CUBIC)],
        function: |_| Some(Unary::plain(Function::GeluTanh)),
    },
    TargetDef {
        name: "swish",
        pattern: "(* x (sigmoid (* ?beta x)))",
        constants: &[parameter("?beta")],
        function: |found| match found {
            [beta] => Some(Unary::with(Function::Swish, *beta)),
            _ => None,
        },
    },
    TargetDef {
        name: "mish",
        pattern: "(* x (tanh (softplus x)))",
        constants: &[],
        function: |_| Some(Unary::plain(Function::Mish)),
    },
    TargetDef {
        name: "hard-swish",
        pattern: "(* ?sixth (* x (clamp 0 ?high (+ ?half x))))",
        constants: &[fixed("?sixth", 1.0 / 6.0), fixed("?high", 6.0), fixed("?half", 3.0)],
        function: |_| Some(Unary::plain(Function::HardSwish)),
    },
    TargetDef {
        name: "hard-sigmoid",
        pattern: "(* ?slope (clamp 0 ?high (+ ?shift x)))",
        constants: &[parameter("?slope"), parameter("?high"), parameter("?shift")],
        function: |found| match *found {
            // What is cut at 0 and 1 alone; a clip from 0 to 1 remains a clip.
            [slope, high, shift] if slope > 0.0 && (slope * high - 1.0).abs() < 1e-6 => {
                Some(Unary::with2(Function::HardSigmoid, slope, slope * shift))
            }
            _ => None,
        },
    },
    TargetDef {
        name: "softplus",
        pattern: "(softplus x)",
        constants: &[],
        function: |_| Some(Unary::plain(Function::Softplus)),
    },
    TargetDef {
        name: "sigmoid",
        pattern: "(sigmoid x)",
        constants: &[],
        function: |_| Some(Unary::plain(Function::Sigmoid)),
    },
    TargetDef {
        name: "an exponential linear unit",
        pattern: "(elu ?alpha ?beta x)",
        constants: &[parameter("?alpha"), parameter("?beta")],
        function: |found| match *found {
            [alpha, 1.0] => Some(Unary::with(Function::Elu, alpha)),
            [alpha, beta] if (alpha * beta - 1.0).abs() < 1e-6 => Some(Unary::with(Function::Celu, alpha)),
            _ => None,
        },
    },
    TargetDef {
        name: "a scaled exponential linear unit",
        pattern: "(* ?gamma (elu ?alpha 1 x))",
        constants: &[parameter("?alpha"), parameter("?gamma")],
        function: |found| match *found {
            [alpha, gamma] => Some(Unary::with2(Function::Selu, alpha, gamma)),
            _ => None,
        },
    },
];

/// A target as egg searches it.
pub(super) struct Compiled {
    def: &'static TargetDef,
    pattern: Pattern<Term>,
    constants: Vec<(Var, Option<f64>)>,
}

/// What a term was found to be.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found {
    /// An activation.
    Function(Unary),
    /// One but for a constant; why not.
    Near(String),
}

/// Every target, ready to be searched.
///
/// # Errors
/// A pattern that cannot be read, which is a bug.
pub(super) fn compiled() -> Result<&'static [Compiled], Diagnostic> {
    static COMPILED: OnceLock<Result<Vec<Compiled>, String>> = OnceLock::new();
    let compiled = COMPILED.get_or_init(|| TARGETS.iter().map(compile).collect());
    compiled.as_deref().map_err(|error| Diagnostic::new(error.as_str()).of_kind(DiagnosticKind::Bug))
}

fn compile(def: &'static TargetDef) -> Result<Compiled, String> {
    let broken = |error: &dyn std::fmt::Display| format!("target {}: {error}", def.name);
    let variable =
        |constant: &Constant| Ok((constant.name.parse::<Var>().map_err(|error| broken(&error))?, constant.value));
    Ok(Compiled {
        def,
        pattern: def.pattern.parse().map_err(|error| broken(&error))?,
        constants: def.constants.iter().map(variable).collect::<Result<_, String>>()?,
    })
}

/// What the class `root` is, if it is anything that is looked for.
pub(super) fn find(targets: &[Compiled], graph: &EGraph<Term, Constants>, root: Id) -> Option<Found> {
    let mut near = None;
    for target in targets {
        let Some(matches) = target.pattern.search_eclass(graph, root) else { continue };
        match target.read(graph, &matches) {
            Some(Found::Function(function)) => return Some(Found::Function(function)),
            other => near = near.or(other),
        }
    }
    near
}

impl Compiled {
    fn read(&self, graph: &EGraph<Term, Constants>, matches: &SearchMatches<Term>) -> Option<Found> {
        let mut near = None;
        for found in &matches.substs {
            let value = |&(var, _): &(Var, Option<f64>)| graph[found[var]].data.map(|number| number.0);
            let Some(values) = self.constants.iter().map(value).collect::<Option<Vec<f64>>>() else { continue };
            let expected = self.constants.iter().map(|(_, value)| *value);
            let wrong = values.iter().zip(expected).position(|(found, expected)| {
                expected.is_some_and(|expected| (found - expected).abs() > 1e-9 * expected.abs())
            });
            match wrong {
                None => match (self.def.function)(&values) {
                    Some(function) => return Some(Found::Function(function)),
                    None => continue,
                },
                Some(at) => near = near.or_else(|| self.explain(&values, at)),
            }
        }
        near
    }

    /// Why a term that has the target's spelling is not the target.
    fn explain(&self, values: &[f64], at: usize) -> Option<Found> {
        let constant = self.def.constants.get(at)?;
        let (name, found, expected) = (constant.name.trim_start_matches('?'), values.get(at)?, constant.value?);
        let reason =
            format!("it has the form of {}, but its factor `{name}` is {found}, not {expected}", self.def.name);
        Some(Found::Near(reason))
    }
}
