//! Spellings of activations, as exporters write them, and near misses.

use std::collections::BTreeMap;

use egg::{ENodeOrVar, Pattern, RecExpr};
use lrpc_ir::ops::{Elementwise, Op};
use lrpc_ir::{Graph, text};

use super::language::Term;
use super::rules::{self, Given, RULES, RuleDef};
use super::{PASS, recognise};
use crate::manager::Context;
use crate::testing::check_pass_in;

/// A spelling of an activation, in the terms of [`graph_of`].
struct Spelling {
    name: &'static str,
    /// The operation that it is, as it is printed.
    activation: &'static str,
    body: &'static str,
}

const fn spelling(name: &'static str, activation: &'static str, body: &'static str) -> Spelling {
    Spelling { name, activation, body }
}

/// Every spelling.
const SPELLINGS: &[Spelling] = &[
    spelling("gelu_half_inside", "gelu", "(mul x (mul 0.5 (add (erf (div x 1.4142135)) 1)))"),
    spelling("gelu_half_after", "gelu", "(mul (mul x (add (erf (div x 1.4142135)) 1)) 0.5)"),
    spelling("gelu_half_before", "gelu", "(mul (mul 0.5 x) (add 1 (erf (mul 0.70710677 x))))"),
    spelling("gelu_sum_of_halves", "gelu", "(add (mul 0.5 x) (mul (mul 0.5 x) (erf (mul x 0.70710677))))"),
    spelling("gelu_complement", "gelu", "(mul (mul x 0.5) (sub 1 (erf (mul (neg x) 0.70710677))))"),
    spelling(
        "gelu_tanh_power",
        "gelu_tanh",
        "(mul (mul x 0.5) (add (tanh (mul (add x (mul (pow x 3) 0.044715)) 0.7978846)) 1))",
    ),
    spelling(
        "gelu_tanh_products",
        "gelu_tanh",
        "(mul 0.5 (mul x (add 1 (tanh (mul 0.7978846 (add x (mul 0.044715 (mul x (mul x x)))))))))",
    ),
    spelling(
        "gelu_tanh_factored",
        "gelu_tanh",
        "(mul (mul x 0.5) (add (tanh (mul (mul x 0.7978846) (add (mul (mul x 0.044715) x) 1))) 1))",
    ),
    spelling(
        "gelu_tanh_expanded",
        "gelu_tanh",
        "(mul (mul x 0.5) (add 1 (tanh (add (mul 0.7978846 x) (mul 0.035677407 (pow x 3))))))",
    ),
    spelling("gelu_tanh_sigmoid", "gelu_tanh", "(mul x (sigmoid (mul 1.5957692 (add x (mul 0.044715 (pow x 3))))))"),
    spelling("quick_gelu", "swish {beta=1.702}", "(mul x (sigmoid (mul x 1.702)))"),
    spelling("swish", "swish", "(mul x (sigmoid x))"),
    spelling("swish_gate_first", "swish", "(mul (sigmoid x) x)"),
    spelling("swish_beta", "swish {beta=0.75}", "(mul x (sigmoid (mul x 0.75)))"),
    spelling("swish_quotient", "swish", "(div x (add 1 (exp (neg x))))"),
    spelling("swish_tanh", "swish", "(mul (mul 0.5 x) (add 1 (tanh (mul 0.5 x))))"),
    spelling("sigmoid_quotient", "sigmoid", "(div 1 (add (exp (neg x)) 1))"),
    spelling("sigmoid_ratio", "sigmoid", "(div (exp x) (add (exp x) 1))"),
    spelling("mish", "mish", "(mul x (tanh (softplus x)))"),
    spelling("mish_log", "mish", "(mul x (tanh (log (add 1 (exp x)))))"),
    spelling(
        "mish_quotient",
        "mish",
        "(mul x (div (mul (exp x) (add (exp x) 2)) (add (mul (exp x) (add (exp x) 2)) 2)))",
    ),
    spelling(
        "mish_sums",
        "mish",
        "(div (mul x (add (mul (exp x) (exp x)) (mul 2 (exp x)))) (add (add (mul (exp x) (exp x)) (mul 2 (exp x))) 2))",
    ),
    spelling("mish_squares", "mish", "(mul x (div (sub (pow (add 1 (exp x)) 2) 1) (add (pow (add 1 (exp x)) 2) 1)))"),
    spelling("hard_swish", "hard_swish", "(mul x (hard_sigmoid x))"),
    spelling("hard_swish_clip", "hard_swish", "(div (mul x (clip (add x 3) 0 6)) 6)"),
    spelling("hard_swish_inside", "hard_swish", "(mul x (div (relu6 (add x 3)) 6))"),
    spelling("hard_sigmoid_clip", "hard_sigmoid {alpha=0.16666666666666666, beta=0.5}", "(div (clip (add x 3) 0 6) 6)"),
    spelling("hard_sigmoid_scaled", "hard_sigmoid {alpha=0.2, beta=0.5}", "(max 0 (min 1 (add (mul x 0.2) 0.5)))"),
    spelling("softplus", "softplus", "(log (add (exp x) 1))"),
    spelling("softplus_guard", "softplus", "(where (greater x 20) x (log (add 1 (exp x))))"),
    spelling("softplus_guard_inverse", "softplus", "(where (less_or_equal x 20) (softplus x) x)"),
    spelling("softplus_stable", "softplus", "(add (relu x) (log (add 1 (exp (neg (abs x))))))"),
    spelling("softplus_log_sigmoid", "softplus", "(neg (log (sigmoid (neg x))))"),
    spelling("elu", "elu", "(where (greater x 0) x (sub (exp x) 1))"),
    spelling("elu_alpha", "elu {alpha=0.5}", "(where (less x 0) (mul 0.5 (sub (exp x) 1)) x)"),
    spelling("elu_parts", "elu {alpha=0.5}", "(add (relu x) (mul 0.5 (sub (exp (min x 0)) 1)))"),
    spelling(
        "selu",
        "selu {alpha=1.6732632, gamma=1.050701}",
        "(mul 1.050701 (where (greater x 0) x (mul 1.6732632 (sub (exp x) 1))))",
    ),
    spelling("selu_inside", "selu {alpha=2, gamma=1.5}", "(where (greater x 0) (mul 1.5 x) (mul 3 (sub (exp x) 1)))"),
    spelling("celu", "celu {alpha=2}", "(add (max x 0) (min 0 (mul 2 (sub (exp (div x 2)) 1))))"),
];

/// The graph that an exporter writes for an expression in `x`: equal subexpressions once, constants as scalars that are
/// broadcast. The expression is `%y`; its parts are `%1`, `%2`, … in order.
fn graph_of(body: &str, dtype: &str) -> String {
    let spaced = body.replace('(', " ( ").replace(')', " ) ");
    let mut tokens = spaced.split_whitespace().peekable();
    let mut writer = Writer { dtype, lines: Vec::new() };
    let last = writer.expression(&mut tokens);
    let lines: String = writer.lines.iter().map(|(name, line)| format!("%{name} = {line}\n")).collect();
    let lines = lines.replace(&format!("%{last} = "), "%y = ");
    format!("input %x : {dtype}[N, 4]\nforward\n{lines}result \"output/y\" = %y\n")
}

struct Writer<'d> {
    dtype: &'d str,
    lines: Vec<(String, String)>,
}

impl Writer<'_> {
    fn line(&mut self, line: String) -> String {
        if let Some((name, _)) = self.lines.iter().find(|(_, known)| *known == line) {
            return name.clone();
        }
        let name = (self.lines.len() + 1).to_string();
        self.lines.push((name.clone(), line));
        name
    }

    fn expression<'t>(&mut self, tokens: &mut std::iter::Peekable<impl Iterator<Item = &'t str>>) -> String {
        let token = tokens.next().unwrap();
        if token == "(" {
            let op = tokens.next().unwrap();
            let mut operands = Vec::new();
            while tokens.peek() != Some(&")") {
                operands.push(match (op, operands.len()) {
                    ("pow" | "clip", 1..) => tokens.next().unwrap().to_string(),
                    _ => self.expression(tokens),
                });
            }
            tokens.next();
            return self.operation(op, &operands);
        }
        if token.parse::<f64>().is_err() {
            return token.to_string();
        }
        let constant = self.line(format!("const {token} : {}[]", self.dtype));
        self.line(format!("broadcast %{constant} : {}[N, 4]", self.dtype))
    }

    fn operation(&mut self, op: &str, operands: &[String]) -> String {
        let (float, truth) = (format!("{}[N, 4]", self.dtype), "bool[N, 4]".to_string());
        let (values, op, ty) = match (op, operands) {
            ("pow", [x, exponent]) => (vec![x], format!("pow_by %{x} {{exponent={exponent}}}"), float),
            ("clip", [x, low, high]) => (vec![x], format!("clip %{x} {{low={low}, high={high}}}"), float),
            ("relu6", [x]) => (vec![x], format!("clip %{x} {{low=0, high=6}}"), float),
            ("hard_sigmoid", [x]) => (vec![x], format!("hard_sigmoid %{x} {{alpha=0.16666667, beta=0.5}}"), float),
            (op, operands) => {
                let list: Vec<String> = operands.iter().map(|operand| format!("%{operand}")).collect();
                let compares = op.starts_with("less") || op.starts_with("greater");
                (operands.iter().collect(), format!("{op} {}", list.join(", ")), if compares { truth } else { float })
            }
        };
        assert!(!values.is_empty());
        self.line(format!("{op} : {ty}"))
    }
}

fn read(body: &str) -> Graph {
    text::parse(&format!("lrpc 1\n{body}")).unwrap_or_else(|error| panic!("{error}\n{body}"))
}

/// What `%y` is once the pass has run with `rules`, as it is printed.
fn recognised(body: &str, rules: &[rules::Compiled]) -> String {
    let mut graph = read(body);
    let y = graph.find("y").unwrap();
    let mut context = Context { pinned: [y].into(), ..Context::default() };
    recognise(&mut graph, &mut context, rules).unwrap();
    let Op::Elementwise(Elementwise::Unary(unary)) = graph.node(y.node).op else { return String::new() };
    let op = Op::Elementwise(Elementwise::Unary(unary));
    let printed = text::print(&graph);
    let line = printed.lines().find(|line| line.trim_start().starts_with("%y = ")).unwrap();
    let attributes = line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(inside, _)| inside);
    attributes.map_or(op.mnemonic().into(), |inside| format!("{} {{{inside}}}", op.mnemonic()))
}

#[test]
fn every_spelling_is_recognised() {
    let rules = rules::compiled().unwrap();
    let wrong: Vec<String> = SPELLINGS
        .iter()
        .map(|spelling| (spelling, recognised(&graph_of(spelling.body, "f32"), rules)))
        .filter(|(spelling, found)| found != spelling.activation)
        .map(|(spelling, found)| format!("{}: {found}", spelling.name))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn spellings_before_and_after() {
    for spelling in SPELLINGS {
        let graph = graph_of(spelling.body, "f32");
        check_pass_in("passes/recognise_activations", spelling.name, PASS, &graph, &["y"]);
    }
}

/// Constants that were rounded to sixteen bits, or are exact, are the same constants.
#[test]
fn constants_are_read_with_the_rounding_of_their_type() {
    let rules = rules::compiled().unwrap();
    let gelu = |root: &str| format!("(mul x (mul 0.5 (add (erf (div x {root})) 1)))");
    let tanh = |inner: &str, cubic: &str| {
        format!("(mul (mul x 0.5) (add (tanh (mul (add x (mul (pow x 3) {cubic})) {inner})) 1))")
    };
    for (dtype, root, inner, cubic) in [
        ("f64", "1.4142135623730951", "0.7978845608028654", "0.044715"),
        ("f32", "1.4142135", "0.7978846", "0.044715"),
        ("f16", "1.4140625", "0.7978515625", "0.044708251953125"),
        ("bf16", "1.4140625", "0.796875", "0.044677734375"),
    ] {
        assert_eq!(recognised(&graph_of(&gelu(root), dtype), rules), "gelu", "{dtype}");
        assert_eq!(recognised(&graph_of(&tanh(inner, cubic), dtype), rules), "gelu_tanh", "{dtype}");
    }
    // What is 1/√2 to sixteen bits is another number to thirty-two.
    assert_eq!(recognised(&graph_of(&gelu("1.4140625"), "f32"), rules), "");
}

/// The rules without one.
fn without(name: &str) -> Vec<rules::Compiled> {
    RULES.iter().filter(|rule| rule.name != name).map(|rule| rules::compile(rule).unwrap()).collect()
}

#[test]
fn no_rewrite_can_be_taken_away() {
    let mut idle = Vec::new();
    for rule in RULES {
        let rules = without(rule.name);
        let needed =
            SPELLINGS.iter().any(|spelling| recognised(&graph_of(spelling.body, "f32"), &rules) != spelling.activation);
        if !needed {
            idle.push(rule.name);
        }
    }
    assert!(idle.is_empty(), "no spelling needs {}", idle.join(", "));
}

/// The number that a side of a rewrite is.
fn value(side: &RecExpr<ENodeOrVar<Term>>, variables: &BTreeMap<String, f64>) -> f64 {
    let mut values: Vec<f64> = Vec::new();
    for node in side {
        let at = |id: &egg::Id| values[usize::from(*id)];
        values.push(match node {
            ENodeOrVar::Var(variable) => variables[&variable.to_string()],
            ENodeOrVar::ENode(term) => match term {
                Term::Constant(number) => number.0,
                Term::Unknown => panic!("rewrites speak of no leaf"),
                Term::Add([a, b]) => at(a) + at(b),
                Term::Mul([a, b]) => at(a) * at(b),
                Term::Reciprocal(a) => 1.0 / at(a),
                Term::Exp(a) => at(a).exp(),
                Term::Log(a) => at(a).ln(),
                Term::Erf(a) => erf(at(a)),
                Term::Tanh(a) => at(a).tanh(),
                Term::Sigmoid(a) => 1.0 / (1.0 + (-at(a)).exp()),
                Term::Softplus(a) => at(a).max(0.0) + (-at(a).abs()).exp().ln_1p(),
                Term::Abs(a) => at(a).abs(),
                Term::Clamp([low, high, a]) => at(a).max(at(low)).min(at(high)),
                // Either branch may count where the two are equal: the other one than elsewhere in this test.
                Term::Select([a, bound, above, below]) => {
                    let either = variables.get("either").copied().unwrap_or_default() > 0.0;
                    if at(a) > at(bound) || (at(a) == at(bound) && either) { at(above) } else { at(below) }
                }
                Term::Elu([a, b, x]) => {
                    if at(x) > 0.0 {
                        at(x)
                    } else {
                        at(a) * (at(b) * at(x)).exp_m1()
                    }
                }
            },
        });
    }
    values.pop().unwrap()
}

/// The error function by its series, which converges everywhere.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

fn check_sound(rule: &RuleDef) -> usize {
    let sides = [rule.from, rule.to].map(|side| side.parse::<Pattern<Term>>().unwrap());
    let names: Vec<String> = sides[0].vars().iter().map(ToString::to_string).collect();
    const NUMBERS: [f64; 11] = [0.0, -0.0, 1.0, -1.0, 0.3, -0.3, 2.5, -2.5, 1e-6, 15.0, 4.25];
    let mut checked = 0;
    for case in 0..NUMBERS.len().pow(names.len() as u32) * 2 {
        let mut variables = BTreeMap::from([("either".to_string(), (case % 2) as f64)]);
        let mut rest = case / 2;
        for name in &names {
            variables.insert(name.clone(), NUMBERS[rest % NUMBERS.len()]);
            rest /= NUMBERS.len();
        }
        let given = |&(name, given): &(&str, Given)| given.holds(variables[name]);
        if !rule.constants.iter().all(given) {
            continue;
        }
        let [from, to] = sides.each_ref().map(|side| value(&side.ast, &variables));
        // Outside of its domain (the logarithm of what has become 0) a side says nothing.
        if from.is_finite() {
            let tolerance = 4e-7 * (1.0 + from.abs());
            assert!((from - to).abs() <= tolerance, "{}: {from} and {to} at {variables:?}", rule.name);
            checked += 1;
        }
    }
    checked
}

#[test]
fn every_rewrite_holds_for_all_numbers() {
    for rule in RULES {
        let checked = check_sound(rule);
        assert!(checked >= 10, "{}: only {checked} cases", rule.name);
    }
}

/// A graph with what looks like an activation and is none, or must not be remade.
fn near_miss(case: &str, body: &str, pinned: &[&str]) {
    check_pass_in("passes/recognise_activations", case, PASS, body, pinned);
}

#[test]
fn near_misses_are_refused_with_a_reason() {
    near_miss("refused_constant", &graph_of("(mul x (mul 0.5 (add (erf (mul x 0.7)) 1)))", "f32"), &["y"]);
    near_miss(
        "refused_cubic",
        &graph_of("(mul (mul x 0.5) (add (tanh (mul (add x (mul (pow x 3) 0.05)) 0.7978846)) 1))", "f32"),
        &["y"],
    );
    near_miss("refused_pinned", &graph_of("(mul x (sigmoid x))", "f32"), &["1", "y"]);
    near_miss(
        "refused_used_elsewhere",
        r#"
        input %x : f32[N, 3]
        forward
        %s = sigmoid %x : f32[N, 3] from "/sigmoid"
        %h = mul %s, %x : f32[N, 3] from "/mul"
        %t = sigmoid %h : f32[N, 3] from "/sigmoid2"
        %u = mul %h, %t : f32[N, 3] from "/mul2"
        %y = add %t, %u : f32[N, 3] from "/add"
        result "output/y" = %y
        "#,
        &["y"],
    );
    near_miss(
        "refused_result",
        r#"
        input %x : f32[N, 3]
        forward
        %s = softplus %x : f32[N, 3] from "/softplus"
        %t = tanh %s : f32[N, 3] from "/tanh"
        %y = mul %x, %t : f32[N, 3] from "/mul"
        result "output/y" = %y
        result "output/t" = %t
        "#,
        &["y", "t"],
    );
    near_miss(
        "refused_other_tensor",
        r#"
        input %x : f32[N, 3]
        input %z : f32[N, 3]
        forward
        %s = sigmoid %x : f32[N, 3] from "/sigmoid"
        %y = mul %z, %s : f32[N, 3] from "/mul"
        result "output/y" = %y
        "#,
        &["y"],
    );
}

/// Activations one after the other, beside residual additions, and with casts inside.
#[test]
fn windows_end_where_the_activation_does() {
    near_miss("residual", &graph_of("(add x (mul (mul x 0.5) (add 1 (erf (div x 1.4142135)))))", "f32"), &["y"]);
    near_miss("twice", &graph_of("(mul (mul x (sigmoid x)) (sigmoid (mul x (sigmoid x))))", "f32"), &["y"]);
    near_miss(
        "casts",
        r#"
        input %x : f16[N, 3]
        forward
        %w = cast %x : f32[N, 3] from "/cast"
        %s = sigmoid %w : f32[N, 3] from "/sigmoid"
        %n = cast %s : f16[N, 3] from "/cast2"
        %y = mul %x, %n : f16[N, 3] from "/mul"
        result "output/y" = %y
        "#,
        &["y"],
    );
    near_miss(
        "casts_outside",
        r#"
        input %x : f16[N, 3]
        forward
        %w = cast %x : f32[N, 3] from "/cast"
        %s = sigmoid %w : f32[N, 3] from "/sigmoid"
        %m = mul %w, %s : f32[N, 3] from "/mul"
        %y = cast %m : f16[N, 3] from "/cast2"
        result "output/y" = %y
        "#,
        &["y"],
    );
}

#[test]
fn the_bounds_on_a_search_are_not_reached() {
    let rules = rules::compiled().unwrap();
    for spelling in SPELLINGS {
        let graph = read(&graph_of(spelling.body, "f32"));
        let places = graph.order().into_iter().enumerate().map(|(place, node)| (node, place)).collect();
        for node in graph.order().into_iter().filter(|&node| super::is_anchor(&graph, node)) {
            for window in super::window::around(&graph, &places, node.into()) {
                let runner = super::saturated(super::term::state(&graph, &window).terms, rules);
                let stopped = runner.stop_reason.as_ref().unwrap();
                assert!(matches!(stopped, egg::StopReason::Saturated), "{}: {stopped:?}", spelling.name);
            }
        }
    }
}
