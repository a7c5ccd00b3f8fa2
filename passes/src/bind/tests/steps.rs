//! What the steps of binding make of small graphs.

use lrpc_ir::plan::{KernelCall, Place, Plan};
use lrpc_ir::text;

use super::parsed;
use crate::bind::simplify::simplify;
use crate::bind::{PlanError, Request, bind, statistics, verify_plan};

/// `body` between a header with two inputs and a result `y`, simplified.
#[track_caller]
fn check_simplified(before: &str, after: &str) {
    let wrap = |body: &str| format!("lrpc 1\ninput %x : f32[2, 3]\ninput %z : f32[2, 3]\nforward\n{body}");
    let simplified = simplify(&lrpc_ir::text::parse(&wrap(before)).unwrap()).unwrap().graph;
    assert_eq!(text::print(&simplified), wrap(after));
}

#[test]
fn equal_computations_are_made_once() {
    check_simplified(
        "  %a = mul %x, %z : f32[2, 3]\n  %b = mul %z, %x : f32[2, 3]\n  %c = sub %a, %b : f32[2, 3]\nresult \"y\" = %c\n",
        "  %a = mul %x, %z : f32[2, 3]\n  %c = sub %a, %a : f32[2, 3]\nresult \"y\" = %c\n",
    );
    // The sign of a difference depends on the order.
    let same = "  %a = sub %x, %z : f32[2, 3]\n  %b = sub %z, %x : f32[2, 3]\n  %c = add %a, %b : f32[2, 3]\nresult \"y\" = %c\n";
    check_simplified(same, same);
}

#[test]
fn what_does_nothing_goes() {
    check_simplified(
        "  %a = scale %x {by=1} : f32[2, 3]\n  %o = const 1 : f32[]\n  %w = broadcast %o : f32[2, 3]\n  %b = weigh %a, %w : f32[2, 3]\n  %c = neg %b : f32[2, 3]\n  %d = neg %c : f32[2, 3]\n  %e = add %d, %z : f32[2, 3]\nresult \"y\" = %e\n",
        "  %e = add %x, %z : f32[2, 3]\nresult \"y\" = %e\n",
    );
    // Adding 0 turns -0 into 0, and weighing one by zeros is 0 even for -0.
    let kept = "  %o = const 1 : f32[2, 3]\n  %a = shift %x {by=0} : f32[2, 3]\n  %b = weigh %o, %a : f32[2, 3]\n  %c = add %b, %z : f32[2, 3]\nresult \"y\" = %c\n";
    check_simplified(kept, kept);
}

#[test]
fn chains_of_movement_become_one() {
    check_simplified(
        "  %a = reshape %x : f32[3, 2]\n  %b = reshape %a : f32[2, 3]\n  %c = transpose %z {perm=[1, 0]} : f32[3, 2]\n  %d = transpose %c {perm=[1, 0]} : f32[2, 3]\n  %e = add %b, %d : f32[2, 3]\nresult \"y\" = %e\n",
        "  %e = add %x, %z : f32[2, 3]\nresult \"y\" = %e\n",
    );
    check_simplified(
        "  %a = broadcast %x : f32[1, 2, 3]\n  %b = transpose %a {perm=[1, 0, 2]} : f32[2, 1, 3]\n  %c = neg %b : f32[2, 1, 3]\nresult \"y\" = %c\nresult \"z\" = %z\n",
        "  %b = reshape %x : f32[2, 1, 3]\n  %c = neg %b : f32[2, 1, 3]\nresult \"y\" = %c\nresult \"z\" = %z\n",
    );
}

fn plan(body: &str) -> Plan {
    bind(&parsed(&format!("lrpc 1\n{body}")), &Request::default()).unwrap()
}

fn fused_sizes(plan: &Plan) -> Vec<usize> {
    let nodes = |call: &KernelCall| match call {
        KernelCall::Fused(graph) => Some(graph.len() - graph.inputs().len()),
        _ => None,
    };
    plan.steps.iter().filter_map(|step| nodes(&step.call)).collect()
}

#[test]
fn paths_that_leave_and_come_back_are_not_fused() {
    // From %a to %c leads a path through the sum, so that both cannot be one call.
    let plan = plan(
        "input %x : f32[2, 3]\nforward\n  %a = relu %x : f32[2, 3]\n  %s = cumulative_sum %a {axis=1} : f32[2, 3]\n  %c = add %a, %s : f32[2, 3]\nresult \"y\" = %c\n",
    );
    assert_eq!(fused_sizes(&plan), [1, 1]);
}

#[test]
fn independent_branches_meet_in_one_call() {
    let plan = plan(
        "input %x : f32[2, 3]\nforward\n  %s = cumulative_sum %x {axis=1} : f32[2, 3]\n  %t = cumulative_sum %s {axis=0} : f32[2, 3]\n  %a = relu %s : f32[2, 3]\n  %b = neg %t : f32[2, 3]\n  %c = add %a, %b : f32[2, 3]\nresult \"y\" = %c\n",
    );
    assert_eq!(fused_sizes(&plan), [3]);
}

#[test]
fn long_chains_are_cut() {
    let mut body = String::from("input %x0 : f32[2, 3]\nforward\n");
    for at in 0..80 {
        body.push_str(&format!("  %x{} = tanh %x{at} : f32[2, 3]\n", at + 1));
    }
    let plan = plan(&format!("{body}result \"y\" = %x80\n"));
    assert_eq!(fused_sizes(&plan), [32, 32, 16]);
    // The chain runs in place.
    assert_eq!(plan.arena_bytes, 64);
}

#[test]
fn wide_sums_are_cut() {
    let mut body = String::new();
    (0..30).for_each(|at| body.push_str(&format!("input %x{at} : f32[4]\n")));
    body.push_str("forward\n  %s0 = neg %x0 : f32[4]\n");
    (1..30).for_each(|at| body.push_str(&format!("  %s{at} = add %s{}, %x{at} : f32[4]\n", at - 1)));
    let plan = plan(&format!("{body}result \"y\" = %s29\n"));
    assert!(plan.steps.iter().all(|step| step.inputs.len() <= 12));
    assert_eq!(fused_sizes(&plan).iter().sum::<usize>(), 30);
}

#[test]
fn two_shapes_of_the_same_bytes_are_not_overwritten() {
    // %a dies in the sum, but the sum also reads its bytes as a row that is copied along the first axis.
    let plan = plan(
        "input %x : f32[1, 4]\nforward\n  %a = cumulative_sum %x {axis=1} : f32[1, 4]\n  %r = reshape %a : f32[4, 1]\n  %b = broadcast %r : f32[4, 4]\n  %c = broadcast %a : f32[4, 4]\n  %d = add %b, %c : f32[4, 4]\nresult \"y\" = %d\n",
    );
    let step = &plan.steps[1];
    assert_eq!(step.inputs.len(), 2);
    assert_ne!(plan.buffer(step.outputs[0]).place, Place::Arena(0));
}

#[test]
fn depth_first_order_needs_less_memory_where_branches_are_wide() {
    // Eight branches that each grow and shrink: one after the other they need one large tensor at a time.
    let mut body = String::from("input %x : f32[8]\nforward\n");
    for at in 0..8 {
        body.push_str(&format!("  %w{at} = broadcast %x : f32[{}, 8]\n", 64 + at));
    }
    for at in 0..8 {
        body.push_str(&format!("  %r{at} = reduce_sum %w{at} {{axes=[0]}} : f32[8]\n"));
    }
    let names: Vec<String> = (0..8).map(|at| format!("%r{at}")).collect();
    body.push_str(&format!("  %y = concat {} {{axis=0}} : f32[64]\nresult \"y\" = %y\n", names.join(", ")));
    let numbers = statistics(&plan(&body));
    assert!(numbers.lower_bound <= 71 * 8 * 4 + 8 * 8 * 4, "{}", numbers.lower_bound);
}

/// `change` breaks exactly this invariant of a plan.
#[track_caller]
fn check_broken(invariant: u8, change: impl Fn(&mut Plan)) {
    let mut plan = plan(
        "input %x : f32[32]\nforward\n  %a = cumulative_sum %x {axis=0} : f32[32]\n  %b = cumulative_sum %a {axis=0} : f32[32]\n  %c = reshape %b : f32[4, 8]\n  %d = neg %c : f32[4, 8]\n  %e = reduce_sum %d {axes=[1]} : f32[4]\nresult \"e\" = %e\n",
    );
    assert_eq!(verify_plan(&plan), Ok(()));
    change(&mut plan);
    let PlanError { invariant: found, message } = verify_plan(&plan).unwrap_err();
    assert_eq!(found, invariant, "{message}");
}

#[test]
fn broken_plans_are_found() {
    let id = |plan: &Plan, name: &str| {
        lrpc_ir::plan::BufferId(plan.buffers.iter().position(|buffer| buffer.name == name).unwrap() as u32)
    };
    let place = |plan: &mut Plan, name: &str, offset: usize| {
        let at = id(plan, name).0 as usize;
        plan.buffers[at].place = Place::Arena(offset);
    };
    check_broken(1, |plan| plan.steps[0].inputs[0].0 = 99);
    check_broken(1, |plan| {
        let (alias, input) = (id(plan, "c").0 as usize, id(plan, "e"));
        plan.buffers[alias].place = Place::Alias(input);
    });
    check_broken(2, |plan| place(plan, "a", 4));
    check_broken(2, |plan| place(plan, "a", 4096));
    check_broken(3, |plan| plan.steps.swap(0, 1));
    check_broken(3, |plan| plan.steps[0].frees = plan.steps[0].outputs.clone());
    check_broken(4, |plan| plan.steps[1].outputs = plan.steps[0].outputs.clone());
    check_broken(4, |plan| plan.prepare = plan.steps.drain(..1).collect());
    check_broken(5, |plan| place(plan, "b", 0));
    check_broken(6, |plan| plan.steps[0].frees = plan.steps[1].outputs.clone());
    check_broken(7, |plan| plan.steps[3].frees = plan.steps[3].outputs.clone());
    check_broken(8, |plan| {
        let at = id(plan, "e").0 as usize;
        plan.buffers[at].shape = vec![2];
    });
}
