//! One funnel per boundary: a test is a graph as text, and a snapshot of what comes out.

use lrpc_ir::{Diagnostics, Graph, text, verify};

use crate::manager::{self, Context, PassDef};
use crate::relevance::composite::Composite;
use crate::relevance::condition::Condition;
use crate::relevance::target::Target;
use crate::relevance::{self, Request};

fn snapshot(area: &str, case: &str, body: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(format!("{}/../snapshots/{area}", env!("CARGO_MANIFEST_DIR")));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(case, body));
}

/// A verified graph whose text reads back as itself.
fn read(body: &str) -> Graph {
    let graph = text::parse(&format!("lrpc 1\n{body}")).unwrap();
    verify::verify(&graph).unwrap_or_else(|error| panic!("{error}"));
    graph
}

fn printed(graph: &Graph) -> String {
    verify::verify(graph).unwrap_or_else(|error| panic!("{error}\n{}", text::print(graph)));
    let printed = text::print(graph);
    assert_eq!(&text::parse(&printed).unwrap(), graph);
    printed
}

/// Explains the output `y` of a graph towards its input `x` under one rule (with TOML parameters), and whatever
/// `epsilon` uses for the rest.
pub(crate) fn apply_rule(rule: &str, with: &str, body: &str) -> Result<Graph, Diagnostics> {
    let listed = crate::rules::find(rule);
    let classes = listed.unwrap_or_else(|| panic!("`{rule}` is not in RULES, in passes/src/rules/mod.rs")).classes;
    let base = if rule == "Gradient" { "gradient" } else { "epsilon" };
    let toml = format!(
        "name = 'test'\ndoc = ''\nextends = '{base}'\n[[rule]]\nclass = {classes:?}\nuse = '{rule}'\nwith = {{ {with} }}\n"
    );
    let composite = Composite::from_toml(&toml)?;
    let mut graph = read(body);
    let wrt = graph.inputs().into_iter().filter(|&input| graph.ty(input).dtype.is_float()).collect();
    let request =
        Request { composites: vec![composite], targets: vec![Target::default_of("y")], wrt, ..Request::default() };
    relevance::generate(&mut graph, &request)?;
    Ok(graph)
}

/// Snapshots the graph that a rule generates, canonicalised as the compiler does it.
pub(crate) fn check_rule(case: &str, rule: &str, with: &str, body: &str) {
    let mut graph = apply_rule(rule, with, body).unwrap_or_else(|error| panic!("{error}"));
    let mut context = Context::default();
    manager::run(&mut graph, crate::canonicalise::AFTER_RULES, &mut context, true, &mut |_, _| ()).unwrap();
    snapshot("rules", case, &printed(&graph));
}

/// Snapshots the graph that a composite generates from the output `y` to the input `x` under conditions.
pub(crate) fn check_condition(case: &str, composite: &str, conditions: &[&str], body: &str) {
    let mut graph = read(body);
    let known = graph.clone();
    let mut find = |name: &str| Ok(known.find(name).unwrap());
    let conditions = conditions.iter().map(|text| Condition::parse(text, &mut find).unwrap()).collect();
    let request = Request {
        composites: vec![Composite::named(composite).unwrap()],
        targets: vec![Target::default_of("y")],
        conditions,
        wrt: graph.find("x").into_iter().collect(),
        ..Request::default()
    };
    check_request("rules", case, &mut graph, &request);
}

/// Snapshots the graph that a rule generates where relevance is asked for weights.
pub(crate) fn check_weights(case: &str, composite: &str, weights: &[&str], body: &str) {
    let mut graph = read(body);
    let request = Request {
        composites: vec![Composite::named(composite).unwrap()],
        targets: vec![Target::default_of("y")],
        wrt: graph.find("x").into_iter().collect(),
        weights: weights.iter().map(|name| graph.find(name).unwrap()).collect(),
        ..Request::default()
    };
    check_request("rules", case, &mut graph, &request);
}

/// Snapshots the graph that composites which run the model several times generate, beside others or alone.
pub(crate) fn check_sampling(case: &str, rules: &[&str], body: &str) {
    let mut graph = read(body);
    let request = Request {
        composites: rules.iter().map(|rules| Composite::named(rules).unwrap()).collect(),
        targets: vec![Target::default_of("y")],
        wrt: vec![graph.find("x").unwrap()],
        ..Request::default()
    };
    check_request("sampling", case, &mut graph, &request);
}

fn check_request(area: &str, case: &str, graph: &mut Graph, request: &Request) {
    relevance::generate(graph, request).unwrap_or_else(|error| panic!("{error}"));
    let mut context = Context::default();
    manager::run(graph, crate::canonicalise::AFTER_RULES, &mut context, true, &mut |_, _| ()).unwrap();
    snapshot(area, case, &printed(graph));
}

/// Snapshots a graph before and after a pass. The values called `pinned` are asked for.
pub(crate) fn check_pass(case: &str, pass: PassDef, body: &str, pinned: &[&str]) {
    check_pass_in("passes", case, pass, body, pinned);
}

/// As [`check_pass`], in a folder of its own.
pub(crate) fn check_pass_in(folder: &str, case: &str, pass: PassDef, body: &str, pinned: &[&str]) {
    let mut graph = read(body);
    let pinned = pinned.iter().map(|name| graph.find(name).unwrap()).collect();
    let mut context = Context { pinned, ..Context::default() };
    let before = printed(&graph);
    manager::run(&mut graph, &[pass], &mut context, true, &mut |_, _| ()).unwrap();
    let refusals: String =
        context.refusals.iter().map(|refusal| format!("refused %{}: {}\n", refusal.value, refusal.reason)).collect();
    snapshot(folder, case, &format!("before\n{before}\nafter\n{}{refusals}", printed(&graph)));
}

/// Snapshots the graph that a composite generates from the output `y` to the floating-point inputs.
pub(crate) fn check_nested(case: &str, composite: &str, body: &str) {
    let mut graph = read(body);
    let wrt = graph.inputs().into_iter().filter(|&input| graph.ty(input).dtype.is_float()).collect();
    let request = Request {
        composites: vec![Composite::named(composite).unwrap()],
        targets: vec![Target::default_of("y")],
        wrt,
        ..Request::default()
    };
    check_request("nested", case, &mut graph, &request);
}
