//! The verifier. A graph that passes it satisfies these invariants:
//!
//! 1. Every operation accepts its operands, and the declared result types are the inferred ones.
//! 2. Axis lengths that are numbers are not negative.
//! 3. An operand stands in the same region as its user or in an earlier one; only a graph input's default reads later.
//! 4. `prepare` depends on weights and literals alone.
//! 5. `relevance` reads values of the forward region through `promise` nodes only; graph inputs that are index
//!    inputs of the seed (integers) and weights are read directly.
//! 6. A promise stands in `relevance` and promises a forward value or a graph input; each value has at most one.
//! 7. The graph has no cycle.
//! 8. Result names are unique.
//! 9. Every node is needed by a result, a size or the ledger; inputs may be unused.
//! 10. Every symbol of a type or an operation is an axis length of some graph input, or a `dim` line's.
//! 11. Ledger lines name floating-point values.
//! 12. Nested graphs satisfy 1, 2, 7 and 8 themselves.
//! 13. A `repeat` line names an `i64` input of at most one axis with a default, which no other line names, a count over
//!     symbols of the inputs, and floating-point results, each of which no other line names. Where the step has a symbol
//!     as its axis, that is the first axis of these results.
//! 14. A `dim` line names a symbol that is no other line's, and an integer scalar outside of `relevance`, which depends on
//!     symbols of inputs and of earlier lines alone. Nested graphs have no such line.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::graph::{Graph, Measure, NodeId, Region, Repeat, Value};
use crate::ops::{Op, Source};
use crate::text;
use crate::types::DType;

/// A broken invariant: a bug of the compiler, or a file edited by hand.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("invariant {invariant}: {message}\n  {line}")]
pub struct VerifyError {
    /// Its number in the module's documentation.
    pub invariant: u8,
    /// What is wrong.
    pub message: String,
    /// The offending line of the printed graph.
    pub line: String,
}

/// Checks all invariants.
///
/// # Errors
/// The first that is broken.
pub fn verify(graph: &Graph) -> Result<(), VerifyError> {
    check_structure(graph)?;
    check_measures(graph)?;
    let mut bound = graph.input_symbols();
    bound.extend(graph.measures.iter().map(|measure| measure.symbol.clone()));
    for node in graph.ids() {
        check_region(graph, node)?;
        check_symbols(graph, node, &bound)?;
    }
    check_promises(graph)?;
    check_dead(graph)?;
    check_ledger(graph)?;
    check_repeats(graph)
}

fn fail(graph: &Graph, node: NodeId, invariant: u8, message: impl Into<String>) -> Result<(), VerifyError> {
    Err(VerifyError { invariant, message: message.into(), line: text::print_node(graph, node) })
}

/// Invariants 1, 2, 7, 8 and 12.
fn check_structure(graph: &Graph) -> Result<(), VerifyError> {
    if graph.is_cyclic() {
        return Err(VerifyError { invariant: 7, message: "the graph has a cycle".into(), line: String::new() });
    }
    for node in graph.ids() {
        let content = graph.node(node);
        let operands = graph.operands(node);
        let types: Vec<_> = operands.iter().map(|&operand| graph.ty(operand)).collect();
        match content.op.infer(&types) {
            Err(reason) => return fail(graph, node, 1, reason),
            Ok(inferred) if inferred != content.types() => {
                let types: Vec<String> = inferred.iter().map(ToString::to_string).collect();
                return fail(graph, node, 1, format!("the result is {}", types.join(", ")));
            }
            Ok(_) => {}
        }
        let negative =
            content.types().iter().flat_map(|ty| &ty.shape).find(|dim| dim.known().is_some_and(|size| size < 0));
        if let Some(size) = negative {
            return fail(graph, node, 2, format!("an axis has length {size}"));
        }
        if let Op::Control(control) = &content.op {
            let bodies = control.bodies();
            if bodies.iter().any(|(_, body)| !body.measures.is_empty()) {
                return fail(graph, node, 14, "a nested graph has sizes of its own");
            }
            bodies.into_iter().try_for_each(|(_, body)| check_structure(body))?;
        }
    }
    let mut names = BTreeSet::new();
    for result in &graph.results {
        if !names.insert(&result.name) {
            return fail(graph, result.value.node, 8, format!("two results are called \"{}\"", result.name));
        }
    }
    Ok(())
}

/// Invariants 3, 4 and 5.
fn check_region(graph: &Graph, node: NodeId) -> Result<(), VerifyError> {
    let content = graph.node(node);
    if matches!(content.op, Op::Source(Source::Input(_))) {
        return Ok(());
    }
    for operand in graph.operands(node) {
        let source = graph.node(operand.node);
        if source.region > content.region {
            return fail(graph, node, 3, format!("reads {} of a later region", text::value(graph, operand)));
        }
        let is_input = matches!(source.op, Op::Source(Source::Input(_)));
        if content.region == Region::Prepare && is_input {
            return fail(graph, node, 4, format!("reads the input {}", text::value(graph, operand)));
        }
        let activation = source.region == Region::Forward || (is_input && graph.ty(operand).dtype.is_float());
        if content.region == Region::Relevance && content.op != Op::Promise && activation {
            return fail(graph, node, 5, format!("reads {} without a promise", text::value(graph, operand)));
        }
    }
    Ok(())
}

/// Invariant 6.
fn check_promises(graph: &Graph) -> Result<(), VerifyError> {
    let mut promised = BTreeSet::new();
    for node in graph.ids().filter(|&node| graph.node(node).op == Op::Promise) {
        if graph.node(node).region != Region::Relevance {
            return fail(graph, node, 6, "a promise belongs to the relevance region");
        }
        for value in graph.operands(node) {
            if !matches!(graph.node(value.node).region, Region::Forward | Region::Header) {
                return fail(graph, node, 6, format!("{} is not a forward value", text::value(graph, value)));
            }
            if !promised.insert(value) {
                return fail(graph, node, 6, format!("{} is promised twice", text::value(graph, value)));
            }
        }
    }
    Ok(())
}

/// Invariant 9.
fn check_dead(graph: &Graph) -> Result<(), VerifyError> {
    let live: BTreeSet<NodeId> = graph.order().into_iter().collect();
    let needed = |node: &NodeId| live.contains(node) || matches!(graph.node(*node).op, Op::Source(Source::Input(_)));
    match graph.ids().find(|node| !needed(node)) {
        Some(node) => fail(graph, node, 9, "nothing needs this node"),
        None => Ok(()),
    }
}

/// Invariant 10.
fn check_symbols(graph: &Graph, node: NodeId, bound: &BTreeSet<String>) -> Result<(), VerifyError> {
    let mut used = BTreeSet::new();
    graph.symbols_of(node, &mut used);
    match used.iter().find(|name| !bound.contains(*name)) {
        Some(name) => fail(graph, node, 10, format!("no input has an axis of length {name}")),
        None => Ok(()),
    }
}

/// Invariant 14, but for nested graphs.
fn check_measures(graph: &Graph) -> Result<(), VerifyError> {
    let broken = |measure: &Measure, message: String| {
        let line = format!("dim {} = {}", measure.symbol, text::value(graph, measure.value));
        Err(VerifyError { invariant: 14, message, line })
    };
    if let Some(late) = graph.measures.iter().find(|one| graph.node(one.value.node).region == Region::Relevance) {
        return broken(late, "a size is known before relevance is".into());
    }
    graph.check_measures().or_else(|(measure, message)| broken(&measure, message))
}

/// Invariant 11.
fn check_ledger(graph: &Graph) -> Result<(), VerifyError> {
    for line in &graph.ledger {
        let absorbed = line.absorbed.iter().map(|(_, value)| value);
        for value in line.input.iter().chain(&line.output).chain(absorbed) {
            if !graph.ty(*value).dtype.is_float() {
                return fail(graph, value.node, 11, format!("the ledger of \"{}\" names it", line.site));
            }
        }
    }
    Ok(())
}

/// Invariant 13.
fn check_repeats(graph: &Graph) -> Result<(), VerifyError> {
    let (mut steps, mut results) = (BTreeSet::new(), BTreeSet::new());
    for Repeat { step: name, count, results: names } in &graph.repeats {
        let broken =
            |message: String| VerifyError { invariant: 13, message, line: format!("repeat %{name} count={count}") };
        let is_input = |value: &Value| matches!(graph.node(value.node).op, Op::Source(Source::Input(_)));
        let Some(step) = graph.find(name).filter(is_input) else {
            return Err(broken(format!("there is no input %{name}")));
        };
        let ty = graph.ty(step);
        if ty.dtype != DType::I64 || ty.rank() > 1 || graph.operand(step.node, 0).is_none() || !steps.insert(name) {
            return fail(graph, step.node, 13, "a step is an i64 scalar or list with a default, of one line alone");
        }
        let mut symbols = BTreeSet::new();
        count.symbols(&mut symbols);
        let bound = graph.input_symbols();
        if let Some(symbol) = symbols.iter().find(|symbol| !bound.contains(*symbol)) {
            return Err(broken(format!("no input has an axis of length {symbol}")));
        }
        for name in names {
            let Some(result) = graph.results.iter().find(|result| result.name == *name) else {
                return Err(broken(format!("there is no result \"{name}\"")));
            };
            let found = graph.ty(result.value);
            let samples = ty.shape.first().filter(|axis| axis.as_symbol().is_some());
            if !found.dtype.is_float() || !results.insert(name) {
                return Err(broken(format!("\"{name}\" is no floating-point result of this line alone")));
            }
            if samples.is_some_and(|axis| found.shape.first() != Some(axis)) {
                return Err(broken(format!("the first axis of \"{name}\" is not that of the step")));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A graph that breaks exactly one invariant, and that invariant.
    #[track_caller]
    fn check_broken(invariant: u8, body: &str) {
        let graph = text::parse(&format!("lrpc 1\n{body}")).unwrap();
        let error = verify(&graph).unwrap_err();
        assert_eq!(error.invariant, invariant, "{error}");
        assert!(invariant == 7 || !error.line.is_empty());
    }

    #[test]
    fn declared_types_are_checked() {
        check_broken(1, "input %x : f32[2]\nforward\n  %y = relu %x : f32[3]\nresult \"y\" = %y\n");
        check_broken(
            1,
            "input %x : f32[2]\ninput %z : f32[3]\nforward\n  %y = add %x, %z : f32[2]\nresult \"y\" = %y\n",
        );
    }

    /// An operation over inputs of types in which `?` stands for an element type: it is valid with `good`, and breaks
    /// the first invariant with `bad`.
    #[track_caller]
    fn check_dtypes(good: &str, bad: &str, types: &[&str], operation: &str, result: &str) {
        let operands: Vec<String> = (0..types.len()).map(|at| format!("%x{at}")).collect();
        let inputs = operands.iter().zip(types).map(|(name, ty)| format!("input {name} : {ty}\n"));
        let (word, attributes) = operation.split_at(operation.find(' ').unwrap_or(operation.len()));
        let body = format!(
            "{}forward\n  %y = {word} {}{attributes} : {result}\nresult \"y\" = %y\n",
            inputs.collect::<String>(),
            operands.join(", ")
        );
        let valid = text::parse(&format!("lrpc 1\n{}", body.replace('?', good))).unwrap();
        verify(&valid).unwrap_or_else(|error| panic!("{error}"));
        check_broken(1, &body.replace('?', bad));
    }

    #[test]
    fn arithmetic_refuses_truth_values() {
        for word in ["add", "sub", "mul", "div", "ratio", "weigh", "pow", "min", "max", "mod", "fmod", "prelu"] {
            check_dtypes("i64", "bool", &["?[2]", "?[2]"], word, "?[2]");
        }
        check_dtypes("f32", "bool", &["?[2]"], "relu", "?[2]");
    }

    #[test]
    fn logic_refuses_numbers() {
        for word in ["and", "or", "xor"] {
            check_dtypes("bool", "f32", &["?[2]", "?[2]"], word, "?[2]");
            check_dtypes("i64", "f32", &["?[2]", "?[2]"], word, "?[2]");
        }
        for word in ["shift_left", "shift_right"] {
            check_dtypes("u8", "f32", &["?[2]", "?[2]"], word, "?[2]");
            check_dtypes("u8", "bool", &["?[2]", "?[2]"], word, "?[2]");
        }
        check_dtypes("bool", "f32", &["?[2]"], "not", "?[2]");
    }

    #[test]
    fn sums_refuse_truth_values() {
        for word in ["reduce_sum", "reduce_mean", "reduce_product"] {
            check_dtypes("f32", "bool", &["?[2, 3]"], &format!("{word} {{axes=[1]}}"), "?[2]");
        }
        check_dtypes("i64", "bool", &["?[2]"], "cumulative_sum {axis=0}", "?[2]");
        check_dtypes("f32", "bool", &["?[2]", "i64[2]"], "scatter_add {axis=0}", "?[4]");
        let line = |op: &str, result: &str| {
            format!("input %x : f32[2, 3]\nforward\n  %y = {op} : {result}\nresult \"y\" = %y\n")
        };
        check_broken(1, &line("top_k %x {axis=1}", "i64[2, 4]"));
        check_dtypes("i64", "bool", &["?[2, 3]", "?[3]"], "dot {contract=1x0}", "?[2]");
        check_dtypes("i64", "bool", &["?[1, 1, 4]", "?[1, 1, 2]"], "conv", "?[1, 1, 3]");
        check_dtypes("i64", "bool", &["?[1, 1, 2]", "?[1, 1, 2]"], "conv_transpose", "?[1, 1, 3]");
    }

    #[test]
    fn a_batch_is_shared_by_operand_and_index() {
        let gather = |index: &str, attributes: &str| {
            let header = format!("input %x : f32[2, 3, 4]\ninput %i : i64{index}");
            format!("{header}\nforward\n  %y = gather %x, %i {attributes} : f32[2, 3, 5]\nresult \"y\" = %y\n")
        };
        verify(&text::parse(&format!("lrpc 1\n{}", gather("[2, 5]", "{axis=2, batch=1}"))).unwrap()).unwrap();
        check_broken(1, &gather("[3, 5]", "{axis=2, batch=1}"));
        check_broken(1, &gather("[2, 3, 4, 5]", "{axis=2, batch=3}"));
    }

    #[test]
    fn windows_refuse_truth_values_and_mixed_types() {
        check_dtypes("f32", "bool", &["?[1, 1, 4]"], "pool {kind=max, window=[2]}", "?[1, 1, 3]");
        check_dtypes("f32", "bool", &["?[1, 1, 3]"], "pool_transpose {kind=sum, window=[2]}", "?[1, 1, 4]");
        let mixed = ["?[1, 1, 4]", "f32[1, 1, 3]"];
        check_dtypes("f32", "f64", &mixed, "pool_transpose {kind=max, window=[2]}", "f32[1, 1, 4]");
        let attributes = "{mode=nearest, coordinates=asymmetric}";
        check_dtypes("f32", "bool", &["?[1, 1, 4]"], &format!("resize {attributes}"), "?[1, 1, 8]");
        check_dtypes("f32", "bool", &["?[1, 1, 8]"], &format!("resize_transpose {attributes}"), "?[1, 1, 4]");
    }

    #[test]
    fn windows_stay_within_31_bits() {
        for attributes in [
            "kind=sum, window=[2], stride=[1099511627776]",
            "kind=sum, window=[2], dilation=[1099511627776]",
            "kind=sum, window=[2], pad=[1099511627776]",
            "kind=average_with_padding, window=[2], pad_after=[1099511627776]",
        ] {
            let line = format!("%y = pool %x {{{attributes}}} : f32[1, 1, 3]");
            check_broken(1, &format!("input %x : f32[1, 1, 4]\nforward\n  {line}\nresult \"y\" = %y\n"));
        }
    }

    #[test]
    fn normalisations_refuse_integers_and_mixed_types() {
        for (operation, parameters) in [
            ("softmax {axis=1}", 0),
            ("log_softmax {axis=1}", 0),
            ("layer_norm {axis=1, eps=1e-5}", 2),
            ("rms_norm {axis=1, eps=1e-5}", 1),
            ("group_norm {groups=2, eps=1e-5}", 2),
            ("batch_norm {eps=1e-5}", 4),
        ] {
            let operands = |x, parameter| [vec![x], vec![parameter; parameters]].concat();
            check_dtypes("f32", "i64", &operands("?[2, 4]", "?[4]"), operation, "?[2, 4]");
            check_dtypes("f32", "bool", &operands("?[2, 4]", "?[4]"), operation, "?[2, 4]");
            if parameters > 0 {
                check_dtypes("f32", "f64", &operands("f32[2, 4]", "?[4]"), operation, "f32[2, 4]");
            }
        }
    }

    #[test]
    fn negative_axes_are_refused() {
        check_broken(2, "input %x : f32[-2]\nresult \"x\" = %x\n");
    }

    #[test]
    fn later_regions_are_out_of_reach() {
        check_broken(
            3,
            "input %x : f32[2]\nforward\n  %y = relu %p : f32[2]\nrelevance\n  %p = promise %x : f32[2]\nresult \"y\" = %y\n",
        );
    }

    #[test]
    fn prepare_depends_on_weights_alone() {
        check_broken(4, "input %x : f32[2]\nprepare\n  %y = relu %x : f32[2]\nresult \"y\" = %y\n");
    }

    #[test]
    fn forward_values_need_promises() {
        check_broken(
            5,
            "input %x : f32[2]\nforward\n  %y = relu %x : f32[2]\nrelevance\n  %z = neg %y : f32[2]\nresult \"z\" = %z\n",
        );
    }

    #[test]
    fn promises_are_unique_and_in_place() {
        check_broken(
            6,
            "input %x : f32[2]\nrelevance\n  %p = promise %x : f32[2]\n  %q = promise %x : f32[2]\n  %s = add %p, %q : f32[2]\nresult \"s\" = %s\n",
        );
        check_broken(6, "input %x : f32[2]\nforward\n  %p = promise %x : f32[2]\nresult \"p\" = %p\n");
    }

    #[test]
    fn cycles_are_found() {
        let mut graph = text::parse(
            "lrpc 1\ninput %x : f32[2]\nforward\n  %y = relu %x : f32[2]\n  %z = relu %y : f32[2]\nresult \"z\" = %z\n",
        )
        .unwrap();
        let (y, z) = (graph.find("y").unwrap(), graph.find("z").unwrap());
        graph.set_operand(y.node, 0, z);
        assert_eq!(verify(&graph).unwrap_err().invariant, 7);
    }

    #[test]
    fn result_names_are_unique() {
        check_broken(8, "input %x : f32[2]\nresult \"x\" = %x\nresult \"x\" = %x\n");
    }

    #[test]
    fn dead_nodes_are_refused() {
        check_broken(9, "input %x : f32[2]\nforward\n  %y = relu %x : f32[2]\nresult \"x\" = %x\n");
    }

    #[test]
    fn symbols_come_from_inputs() {
        check_broken(10, "forward\n  %y = const 1 : f32[N]\nresult \"y\" = %y\n");
        check_broken(10, "forward\n  %y = size {value=N} : i64[]\nresult \"y\" = %y\n");
    }

    #[test]
    fn sizes_follow_from_what_is_known_before() {
        let graph = |lines: &str| {
            format!(
                "{lines}input %x : f32[N]\ninput %k : i64[]\ninput %f : f32[]\nforward\n  %a = iota {{axis=0}} : i64[K]\n  \
                 %b = reduce_sum %a {{axes=[0]}} : i64[]\n  %c = iota {{axis=0}} : i64[M]\n\
                 result \"b\" = %b\nresult \"c\" = %c\n"
            )
        };
        let good = text::parse(&format!("lrpc 1\n{}", graph("dim K = %k\ndim M = %b\n"))).unwrap();
        verify(&good).unwrap();
        assert_eq!(text::parse(&text::print(&good)).unwrap(), good);
        check_broken(10, &graph("dim K = %k\n"));
        for lines in [
            "dim K = %b\ndim M = %k\n",
            "dim M = %b\ndim K = %k\n",
            "dim K = %k\ndim M = %b\ndim M = %k\n",
            "dim K = %k\ndim M = %f\n",
            "dim K = %a\ndim M = %k\n",
        ] {
            check_broken(14, &graph(lines));
        }
        let late = "input %x : f32[N]\ninput %k : i64[]\nrelevance\n  %p = promise %k : i64[]\n  \
                    %a = iota {axis=0} : i64[K]\nresult \"a\" = %a\n";
        check_broken(14, &format!("dim K = %p\n{late}"));
        let nested = "input %n : i64[]\nforward\n  %y = loop %n {trips=1, carried=1} : i64[]\n    body\n      \
                      dim K = %v\n      input %i : i64[]\n      input %v : i64[]\n      result \"w\" = %v\n    end\n\
                      result \"y\" = %y\n";
        check_broken(14, nested);
    }

    #[test]
    fn unused_sizes_go() {
        let mut graph = text::parse(
            "lrpc 1\ndim K = %k\ndim M = %b\ndim L = %b\ninput %k : i64[]\nforward\n  %a = iota {axis=0} : i64[K]\n  \
             %b = reduce_sum %a {axes=[0]} : i64[]\n  %c = iota {axis=0} : i64[M]\nresult \"c\" = %c\n",
        )
        .unwrap();
        graph.remove_dead();
        let left: Vec<&str> = graph.measures.iter().map(|measure| measure.symbol.as_str()).collect();
        assert_eq!(left, ["K", "M"]);
        graph.results[0].value = graph.find("k").unwrap();
        graph.remove_dead();
        assert!(graph.measures.is_empty());
        assert_eq!(graph.len(), 1);
    }

    #[test]
    fn ledgers_hold_floats() {
        check_broken(11, "input %x : i64[2]\nledger \"a\" Rule in=%x\nresult \"x\" = %x\n");
    }

    #[test]
    fn repeats_name_steps_and_results() {
        let header = "input %x : f32[N, 2]\ninput %step : i64[N] = %c\nprepare\n  %c = const -1 : i64[N]\nforward\n  \
                      %e = noise %step : f32[N, 2]\n  %y = add %x, %e : f32[N, 2]\n  %s = reduce_sum %y {axes=[0]} : f32[2]\n\
                      result \"y\" = %y\nresult \"s\" = %s\nresult \"i\" = %step\n";
        let whole = |line: &str| format!("repeat {line}\n{header}");
        let good = text::parse(&format!("lrpc 1\n{}", whole("%step count=3*N \"y\""))).unwrap();
        verify(&good).unwrap();
        for line in [
            "%none count=3 \"y\"",
            "%y count=3 \"y\"",
            "%x count=3 \"y\"",
            "%step count=M \"y\"",
            "%step count=3 \"z\"",
            "%step count=3 \"i\"",
            "%step count=3 \"s\"",
            "%step count=3 \"y\" \"y\"",
            "%step count=3 \"y\"\nrepeat %step count=3 \"y\"",
        ] {
            check_broken(13, &whole(line));
        }
        let batch = good.find("step").unwrap();
        assert_eq!(good.repeats[0].step, good.name(batch));
    }

    #[test]
    fn noise_follows_its_step() {
        let graph =
            |step: &str| format!("input %s : {step}\nforward\n  %y = noise %s : f32[2, 3]\nresult \"y\" = %y\n");
        ["i64[]", "i64[2]", "i64[2, 3]"].iter().for_each(|step| {
            verify(&text::parse(&format!("lrpc 1\n{}", graph(step))).unwrap()).unwrap();
        });
        ["i64[3]", "f32[2]", "i64[2, 3, 1]"].iter().for_each(|step| check_broken(1, &graph(step)));
    }

    #[test]
    fn nested_graphs_are_verified() {
        check_broken(
            1,
            "input %x : f32[2]\nforward\n  %y = loop %x {trips=3, carried=1} : f32[2]\n    body\n      input %i : i64[]\n      input %v : f32[2]\n      forward\n        %w = relu %v : f32[3]\n      result \"w\" = %v\n    end\nresult \"y\" = %y\n",
        );
    }
}
