//! The rewrites: equalities between functions of one number, from the spelling on the left to that on the right.
//!
//! Every one holds for all numbers of its constants' kind (a test evaluates both sides), and every one is needed: a test
//! takes each away in turn and finds a spelling that is no longer recognised.

use std::sync::OnceLock;

use egg::{EGraph, Id, Pattern, Rewrite, Subst, Var};
use lrpc_ir::{Diagnostic, DiagnosticKind};

use super::language::{Constants, Term};

/// A rewrite, as data.
#[derive(Debug, Clone, Copy)]
pub(super) struct RuleDef {
    /// What it does.
    pub name: &'static str,
    /// What is found.
    pub from: &'static str,
    /// What is equal to it.
    pub to: &'static str,
    /// The variables that stand for constants.
    pub constants: &'static [(&'static str, Given)],
}

/// What a constant has to satisfy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Given {
    /// It is not 0.
    NonZero,
    /// It is neither 0 nor 1.
    Factor,
    /// It is less than 0.
    Negative,
    /// It is at least so large.
    AtLeast(f64),
}

impl Given {
    pub(super) fn holds(self, value: f64) -> bool {
        match self {
            Given::NonZero => value != 0.0,
            Given::Factor => value != 0.0 && value != 1.0,
            Given::Negative => value < 0.0,
            Given::AtLeast(bound) => value >= bound,
        }
    }
}

const fn rule(name: &'static str, from: &'static str, to: &'static str) -> RuleDef {
    RuleDef { name, from, to, constants: &[] }
}

impl RuleDef {
    const fn given(self, constants: &'static [(&'static str, Given)]) -> RuleDef {
        RuleDef { constants, ..self }
    }
}

/// From where on `softplus(u)` may be replaced by `u`: they differ by `e⁻ᵘ`, here 3·10⁻⁷, which is below half of the
/// spacing of f32 at 15.
const GUARD: Given = Given::AtLeast(15.0);

/// Every rewrite.
pub(super) const RULES: &[RuleDef] = &[
    // Arithmetic.
    rule("commute_sum", "(+ ?a ?b)", "(+ ?b ?a)"),
    rule("commute_product", "(* ?a ?b)", "(* ?b ?a)"),
    rule("associate_product", "(* ?a (* ?b ?c))", "(* (* ?a ?b) ?c)"),
    // Of constants only: 1 + (u − 1) = u would otherwise give every sum endless summands.
    rule("gather_summands", "(+ ?c (+ ?d ?a))", "(+ (+ ?c ?d) ?a)")
        .given(&[("?c", Given::NonZero), ("?d", Given::NonZero)]),
    rule("drop_zero", "(+ 0 ?a)", "?a"),
    rule("drop_one", "(* 1 ?a)", "?a"),
    rule("factor_common", "(+ (* ?a ?b) (* ?a ?c))", "(* ?a (+ ?b ?c))"),
    rule("factor_constant", "(+ ?c (* ?d ?a))", "(* ?c (+ 1 (* (* ?d (reciprocal ?c)) ?a)))")
        .given(&[("?c", Given::Factor), ("?d", Given::Factor)]),
    rule("expand_square", "(* (+ 1 ?a) (+ 1 ?a))", "(+ 1 (* ?a (+ 2 ?a)))"),
    // Error function and sigmoid.
    rule("erf_is_odd", "(erf (* ?c ?u))", "(* -1 (erf (* (* -1 ?c) ?u)))").given(&[("?c", Given::Negative)]),
    rule("sigmoid_of_exp", "(reciprocal (+ 1 (exp ?u)))", "(sigmoid (* -1 ?u))"),
    rule("sigmoid_of_ratio", "(* (exp ?u) (reciprocal (+ 1 (exp ?u))))", "(sigmoid ?u)"),
    rule("sigmoid_of_tanh", "(* 0.5 (+ 1 (tanh (* ?c ?u))))", "(sigmoid (* (* 2 ?c) ?u))")
        .given(&[("?c", Given::Factor)]),
    // Softplus.
    rule("softplus_of_exp", "(log (+ 1 (exp ?u)))", "(softplus ?u)"),
    rule("softplus_of_sigmoid", "(log (sigmoid ?u))", "(* -1 (softplus (* -1 ?u)))"),
    rule("softplus_of_parts", "(+ (clamp 0 inf ?u) (softplus (* -1 (abs ?u))))", "(softplus ?u)"),
    rule("softplus_guarded", "(select ?u ?t ?u (softplus ?u))", "(softplus ?u)").given(&[("?t", GUARD)]),
    rule(
        "tanh_of_softplus",
        "(* (* (exp ?u) (+ 2 (exp ?u))) (reciprocal (+ 2 (* (exp ?u) (+ 2 (exp ?u))))))",
        "(tanh (softplus ?u))",
    ),
    // Exponential linear units.
    rule(
        "elu_of_select",
        "(select ?u 0 (* ?g ?u) (* ?a (+ -1 (exp (* ?b ?u)))))",
        "(* ?g (elu (* ?a (reciprocal ?g)) ?b ?u))",
    )
    .given(&[("?g", Given::NonZero), ("?a", Given::NonZero), ("?b", Given::NonZero)]),
    rule("elu_of_parts", "(+ (clamp 0 inf ?u) (* ?a (+ -1 (exp (* ?b (clamp -inf 0 ?u))))))", "(elu ?a ?b ?u)")
        .given(&[("?a", Given::NonZero), ("?b", Given::NonZero)]),
    rule("elu_of_minimum", "(+ (clamp 0 inf ?u) (* ?a (clamp -inf 0 (+ -1 (exp (* ?b ?u))))))", "(elu ?a ?b ?u)")
        .given(&[("?a", Given::AtLeast(0.0)), ("?b", Given::AtLeast(0.0))]),
];

/// A rewrite as egg runs it.
pub(super) type Compiled = Rewrite<Term, Constants>;

/// Every rewrite, ready to run.
///
/// # Errors
/// A rewrite that cannot be read, which is a bug.
pub(super) fn compiled() -> Result<&'static [Compiled], Diagnostic> {
    static COMPILED: OnceLock<Result<Vec<Compiled>, String>> = OnceLock::new();
    let compiled = COMPILED.get_or_init(|| RULES.iter().map(compile).collect());
    compiled.as_deref().map_err(|error| Diagnostic::new(error.as_str()).of_kind(DiagnosticKind::Bug))
}

/// A rewrite as egg runs it.
///
/// # Errors
/// What of it cannot be read.
pub(super) fn compile(rule: &RuleDef) -> Result<Compiled, String> {
    let pattern = |text: &str| text.parse::<Pattern<Term>>().map_err(|error| format!("rewrite {}: {error}", rule.name));
    let variable = |&(name, given): &(&'static str, Given)| {
        name.parse::<Var>().map(|var| (var, given)).map_err(|error| format!("rewrite {}: {error}", rule.name))
    };
    let constants = rule.constants.iter().map(variable).collect::<Result<Vec<_>, _>>()?;
    let is_given = move |graph: &mut EGraph<Term, Constants>, _: Id, found: &Subst| {
        constants.iter().all(|&(var, given)| graph[found[var]].data.is_some_and(|number| given.holds(number.0)))
    };
    let to = egg::ConditionalApplier { condition: is_given, applier: pattern(rule.to)? };
    Rewrite::new(rule.name, pattern(rule.from)?, to).map_err(|error| format!("rewrite {}: {error}", rule.name))
}
