//! Binding from text to text: small graphs, generated graphs, broken requests.

mod generated;
mod requests;
mod steps;

use std::collections::BTreeMap;

use lrpc_ir::plan::{BufferId, Place, Plan};
use lrpc_ir::{Bindings, Graph, text, verify::verify};

use super::{Request, bind, print_plan, verify_plan};

const TINY: &str = r#"lrpc 1
weight @conv.b : f32[8]
weight @conv.w : f32[8, 3, 3, 3]
weight @fc.w : f32[8, 10]
input %x : f32[N, 3, H, H]
input %target : i64[N] = %argmax
prepare
  %w.positive = positive @conv.w : f32[8, 3, 3, 3] by Example
forward
  %conv = conv %x, @conv.w, @conv.b {pad=1} : f32[N, 8, H, H] from "/conv"
  %relu = relu %conv : f32[N, 8, H, H] from "/relu"
  %mean = reduce_mean %relu {axes=[2, 3]} : f32[N, 8] from "/mean"
  %logits = dot %mean, @fc.w {contract=1x0} : f32[N, 10] from "/fc"
  %argmax = argmax %logits {axis=1} : i64[N] by seed
relevance
  %p.x = promise %x : f32[N, 3, H, H]
  %p.conv = promise %conv : f32[N, 8, H, H]
  %p.logits = promise %logits : f32[N, 10]
  %seed = one_hot %target : f32[N, 10] by seed
  %R.logits = mul %p.logits, %seed : f32[N, 10] by seed
  %s.logits = stabilise %p.logits {eps=1e-6} : f32[N, 10] from "/fc" by Example
  %q.logits = div %R.logits, %s.logits : f32[N, 10] from "/fc" by Example
  %g.mean = dot %q.logits, @fc.w {contract=1x1} : f32[N, 8] from "/fc" by Example
  %u.mean = reshape %g.mean : f32[N, 8, 1, 1] from "/mean" by Example
  %b.mean = broadcast %u.mean : f32[N, 8, H, H] from "/mean" by Example
  %d.conv = derivative %p.conv {of=relu} : f32[N, 8, H, H] from "/relu" by Example
  %g.conv = mul %b.mean, %d.conv : f32[N, 8, H, H] from "/relu" by Example
  %g.x = conv_transpose %g.conv, %w.positive {pad=1} : f32[N, 3, H, H] from "/conv" by Example
  %R.x = mul %p.x, %g.x : f32[N, 3, H, H] from "/conv" by Example
ledger "/fc" Example in=%R.logits out=%g.mean stabiliser=%q.logits
result "output/logits" = %logits
result "relevance/x" = %R.x
"#;

fn parsed(text: &str) -> Graph {
    let graph = text::parse(text).unwrap();
    verify(&graph).unwrap();
    graph
}

fn sizes(sizes: &[(&str, i64)]) -> Bindings {
    sizes.iter().map(|&(name, size)| (name.into(), size)).collect()
}

fn tiny_request() -> Request {
    Request { dims: sizes(&[("N", 2), ("H", 4)]), ..Request::default() }
}

/// Binds, verifies, and compares the printed plan with its snapshot.
#[track_caller]
fn check_plan(name: &str, graph: &str, request: &Request) -> Plan {
    let plan = bind(&parsed(graph), request).unwrap();
    verify_plan(&plan).unwrap();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../snapshots/bind"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, print_plan(&plan)));
    plan
}

/// Binding fails with this diagnostic.
#[track_caller]
fn check_diagnostic(graph: &str, request: &Request, expected: &str) {
    assert_eq!(bind(&parsed(graph), request).unwrap_err().to_string(), expected);
}

/// No forward tensor that is computed again lives between its last forward use and its replay. The number of tensors
/// that are computed again.
#[track_caller]
fn check_replays(plan: &Plan) -> usize {
    let root = |id: BufferId| match plan.buffer(id).place {
        Place::Alias(root) => root,
        _ => id,
    };
    let written = |id: BufferId| plan.steps.iter().position(|step| step.outputs.contains(&id));
    let last_read = |id: BufferId| plan.steps.iter().rposition(|step| step.inputs.iter().any(|&read| root(read) == id));
    let freed = |id: BufferId| plan.steps.iter().position(|step| step.frees.contains(&id));
    let overwritten = |id: BufferId, at: usize| {
        let place = &plan.buffer(id).place;
        plan.steps[at].outputs.iter().any(|&output| plan.buffer(output).place == *place)
    };
    let by_name: BTreeMap<&str, BufferId> = (0..plan.buffers.len())
        .map(|at| (plan.buffers[at].name.as_str(), BufferId(at as u32)))
        .filter(|(_, id)| written(*id).is_some())
        .collect();
    let mut count = 0;
    for (name, &copy) in &by_name {
        let Some(original) = name.strip_prefix("replay.") else { continue };
        count += 1;
        let Some(&original) = by_name.get(original) else { continue };
        let (written, used) = (written(copy).unwrap(), last_read(original).or(written(original)).unwrap());
        assert!(used < written, "%{name} is computed at step {written}, its original is used at {used}");
        assert!(freed(original) == Some(used) || overwritten(original, used), "%{name}: its original lives on");
    }
    count
}

#[test]
fn a_small_graph_is_bound() {
    check_plan("tiny", TINY, &tiny_request());
}

#[test]
fn what_automatic_differentiation_does_not_save_is_computed_again() {
    let strategy = super::Strategy::Recompute;
    let plan = check_plan("tiny_recompute", TINY, &Request { strategy, ..tiny_request() });
    // The result of the convolution: the activation saves its own result, and the convolution its operand.
    assert_eq!(check_replays(&plan), 1);
}

#[test]
fn the_ledger_is_summed_with_audit() {
    let plan = check_plan("tiny_audit", TINY, &Request { audit: true, ..tiny_request() });
    assert_eq!(plan.ledger.len(), 1);
}
