//! What is asked for: sizes, results, inputs, precision, strategy.

use std::collections::BTreeSet;

use lrpc_ir::DType;
use lrpc_ir::plan::{KernelCall, Place, Plan, Precision};

use super::{TINY, check_diagnostic, parsed, sizes, tiny_request};
use crate::bind::{Request, Strategy, Wanted, bind};

fn wanted(patterns: &[&str]) -> Wanted {
    Wanted::Matching(patterns.iter().map(|pattern| pattern.to_string()).collect())
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.steps.iter().flat_map(|step| &step.outputs).map(|&id| plan.buffer(id).name.as_str()).collect()
}

#[test]
fn unwanted_results_cost_nothing() {
    let plan = bind(&parsed(TINY), &Request { wanted: wanted(&["output/*"]), ..tiny_request() }).unwrap();
    assert_eq!(names(&plan), ["conv", "relu", "mean", "logits"]);
    assert!(plan.prepare.is_empty());
    assert_eq!(plan.inputs.len(), 1);
}

#[test]
fn a_given_input_replaces_its_default() {
    let given = BTreeSet::from(["target".to_string()]);
    let plan = bind(&parsed(TINY), &Request { given, ..tiny_request() }).unwrap();
    let inputs: Vec<&str> = plan.inputs.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(inputs, ["x", "target"]);
    assert!(!names(&plan).contains(&"argmax"));
}

#[test]
fn double_precision_widens_every_float() {
    let plan = bind(&parsed(TINY), &Request { precision: Precision::F64, ..tiny_request() }).unwrap();
    assert!(plan.buffers.iter().all(|buffer| buffer.dtype == DType::F64 || buffer.dtype == DType::I64));
    assert!(plan.inputs.iter().all(|input| input.dtype == DType::F32));
}

#[test]
fn half_precision_weights_are_widened_once() {
    let graph = parsed(
        "lrpc 1\nweight @w : f16[3, 2]\ninput %x : f32[4, 3]\nprepare\n  %v = cast @w : f32[3, 2]\nforward\n  %y = dot %x, %v {contract=1x0} : f32[4, 2]\nresult \"y\" = %y\n",
    );
    let plan = bind(&graph, &Request::default()).unwrap();
    assert!(plan.prepare.is_empty());
    let weight = plan.buffer(plan.weights[0].buffer);
    assert_eq!((weight.dtype, plan.weights[0].dtype), (DType::F32, DType::F16));
    assert_eq!(plan.buffer(plan.steps[0].inputs[1]).place, Place::Alias(plan.weights[0].buffer));
}

#[test]
fn missing_sizes_are_named_together() {
    check_diagnostic(TINY, &Request::default(), "no size is known for: H, N; give --dim H=SIZE --dim N=SIZE");
}

#[test]
fn slips_of_the_pen_are_found() {
    let dims = sizes(&[("N", 2), ("H", 4), ("W", 4)]);
    check_diagnostic(
        TINY,
        &Request { dims, ..Request::default() },
        "the graph has no dimension `W`; its symbolic dimensions: H, N",
    );
    check_diagnostic(
        TINY,
        &Request { wanted: wanted(&["relevance/y"]), ..tiny_request() },
        "the graph has no result `relevance/y`; its results are output/logits, relevance/x",
    );
    check_diagnostic(
        TINY,
        &Request { given: BTreeSet::from(["y".to_string()]), ..tiny_request() },
        "the graph has no input `y`; its inputs are x, target",
    );
    check_diagnostic(
        TINY,
        &Request { strategy: Strategy::Balanced, ..tiny_request() },
        "promises cannot be kept by `balanced`; keep them with --keep store or --keep recompute",
    );
}

#[test]
fn sizes_without_a_meaning_are_refused() {
    let at = |size| Request { dims: sizes(&[("S", size)]), ..Request::default() };
    let graph =
        |line: &str| format!("lrpc 1\ninput %x : f32[1, 1, S]\nforward\n  {line} from \"/n\"\nresult \"y\" = %y\n");
    let pool = graph("%y = pool %x {kind=max, window=[3]} : f32[1, 1, S-2]");
    check_diagnostic(
        &pool,
        &at(2),
        "nothing is left along spatial axis 0: the input is smaller than the window (at /n); the sizes are S=2 (axis 2 of input `x`); give inputs of other sizes, or other --dim",
    );
    check_diagnostic(
        &pool,
        &at(1),
        "axis 2 of f32[1, 1, -1] would have a negative length (at /n); the sizes are S=1 (axis 2 of input `x`); give inputs of other sizes, or other --dim",
    );
    check_diagnostic(
        &pool,
        &at(-3),
        "axis 2 of f32[1, 1, -3] would have a negative length (at x); the sizes are S=-3 (axis 2 of input `x`); give inputs of other sizes, or other --dim",
    );
    check_diagnostic(
        &graph("%y = slice %x {start=[0, 0, 2]} : f32[1, 1, 3]"),
        &at(4),
        "%y = slice: takes 3 elements from 2 of axis 2 of f32[1, 1, 4] (at /n); the sizes are S=4 (axis 2 of input `x`); give inputs of other sizes, or other --dim",
    );
    let table = "lrpc 1\ninput %x : f32[1, 1, S]\nweight @t : f32[48]\nforward\n  %y = slice @t {start=[1]} : f32[S] from \"/n\"\nresult \"y\" = %y\n";
    check_diagnostic(
        table,
        &at(49),
        "%y = slice: takes 49 elements from 1 of axis 0 of f32[48] (at /n); the sizes are S=49 (axis 2 of input `x`); S is at most 47; give inputs of other sizes, or other --dim",
    );
    check_diagnostic(
        &graph("%y = argmax %x {axis=2} : i64[1, 1]"),
        &at(0),
        "axis 2 of f32[1, 1, 0] has no element to choose (at /n); the sizes are S=0 (axis 2 of input `x`); give inputs of other sizes, or other --dim",
    );
    check_diagnostic(
        &graph("%y = relu %x : f32[1, 1, S]"),
        &at(i64::MAX / 4),
        "f32[1, 1, 2305843009213693951] has more elements than can be addressed (at x); the sizes are S=2305843009213693951 (axis 2 of input `x`); give inputs of other sizes, or other --dim",
    );
}

#[test]
fn floors_that_part_at_some_sizes_are_found() {
    let graph = "lrpc 1\ninput %x : f32[S]\ninput %z : f32[2*floor(S/2)]\nforward\n  %y = slice %x {start=[0]} : f32[2*floor(S/2)]\n  %s = add %y, %z : f32[2*floor(S/2)]\n  %r = reshape %s : f32[2, floor(S/2)]\nresult \"r\" = %r\n";
    let plan = bind(&parsed(graph), &Request { dims: sizes(&[("S", 7)]), ..Request::default() }).unwrap();
    assert_eq!(plan.buffer(plan.results[0].1).shape, [2, 3]);
}

#[test]
fn memory_beyond_addresses_is_refused() {
    let graph = "lrpc 1\ninput %x : f32[S]\nforward\n  %a = cumulative_sum %x {axis=0} : f32[S]\n  %b = cumulative_sum %a {axis=0} : f32[S]\n  %c = cumulative_sum %b {axis=0} : f32[S]\nresult \"a\" = %a\nresult \"b\" = %b\nresult \"c\" = %c\n";
    check_diagnostic(
        graph,
        &Request { dims: sizes(&[("S", i64::MAX / 10)]), ..Request::default() },
        "the plan needs more memory than can be addressed; give smaller sizes with --dim",
    );
}

const LOOP: &str = "lrpc 1
input %x : f32[S]
input %s : f32[T, S]
forward
  %y, %t = loop %x, %s {trips=T, reverse=true, carried=1, scanned=1} : f32[S], f32[T, S] from \"/loop\"
    body
      input %i : i64[]
      input %v : f32[S]
      input %w : f32[S]
      forward
        %u = add %v, %w : f32[S]
        %r = relu %u : f32[S]
      result \"u\" = %u
      result \"r\" = %r
    end
result \"y\" = %y
result \"t\" = %t
";

#[test]
fn loops_hold_plans_of_their_own() {
    let plan = bind(&parsed(LOOP), &Request { dims: sizes(&[("S", 5), ("T", 3)]), ..Request::default() }).unwrap();
    let KernelCall::Loop { trips: 3, reverse: true, carried: 1, scanned: 1, body } = &plan.steps[0].call else {
        panic!("no loop")
    };
    assert_eq!((body.inputs.len(), body.steps.len()), (3, 1));
    assert_eq!(plan.buffer(plan.results[1].1).shape, [3, 5]);
}

#[test]
fn a_branch_takes_the_place_of_its_conditional() {
    let graph = "lrpc 1
input %x : f32[S]
input %c : f32[C]
forward
  %y = cond %x {choice=C} : f32[S]
    then
      input %a : f32[S]
      forward
        %p = cond %a {choice=1-C} : f32[S]
          then
            input %a : f32[S]
            result \"a\" = %a
          end
          else
            input %a : f32[S]
            forward
              %x = relu %a : f32[S]
            result \"x\" = %x
          end
      result \"p\" = %p
    end
    else
      input %b : f32[S]
      result \"b\" = %b
    end
result \"y\" = %y
";
    let graph = parsed(graph);
    let bound = |choice: i64| bind(&graph, &Request { dims: sizes(&[("S", 5), ("C", choice)]), ..Request::default() });
    assert_eq!(bound(1).unwrap().steps.len(), 1, "the relu");
    assert_eq!(bound(0).unwrap().steps.len(), 0);
    assert_eq!(bound(2).unwrap_err().message, "its choice C is 2, neither 0 nor 1");
}
