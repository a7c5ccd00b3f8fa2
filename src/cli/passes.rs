//! What the passes did, for `--explain-passes` of `compile` and `opt`.

use std::collections::BTreeMap;

use lrpc_passes::manager::{Patch, Refusal};
use serde_json::{Value, json};

use super::output;

/// How often a pass fired on what kinds of operations, in the order of the passes.
fn counts(patches: &[Patch]) -> Vec<(&'static str, BTreeMap<&'static str, usize>)> {
    let mut counts: Vec<(&str, BTreeMap<&str, usize>)> = Vec::new();
    for patch in patches {
        let at = counts.iter().position(|(pass, _)| *pass == patch.pass).unwrap_or_else(|| {
            counts.push((patch.pass, BTreeMap::new()));
            counts.len() - 1
        });
        if let Some((_, ops)) = counts.get_mut(at) {
            *ops.entry(patch.op).or_default() += 1;
        }
    }
    counts
}

/// Tells on standard error, pass by pass, how often it fired, on which values, and which near misses it left and why.
pub(super) fn explain(patches: &[Patch], refusals: &[Refusal]) {
    for (pass, ops) in counts(patches) {
        let ops: Vec<String> = ops.iter().map(|(op, count)| format!("{count} {op}")).collect();
        output::message(&format!("{pass}: {}", ops.join(", ")));
        for patch in patches.iter().filter(|patch| patch.pass == pass) {
            output::message(&format!("  {} {}", patch.op, patch.value));
        }
    }
    for refusal in refusals {
        output::message(&format!("{}: {} left as it is: {}", refusal.pass, refusal.value, refusal.reason));
    }
}

/// The same as JSON: `fired` (counts by pass and operation), `patches` and `refusals`.
pub(super) fn json(patches: &[Patch], refusals: &[Refusal]) -> Value {
    let fired: BTreeMap<&str, BTreeMap<&str, usize>> = counts(patches).into_iter().collect();
    let patches = patches.iter().map(|one| json!({ "pass": one.pass, "value": one.value, "op": one.op }));
    let refusals = refusals.iter().map(|one| json!({ "pass": one.pass, "value": one.value, "reason": one.reason }));
    json!({
        "fired": fired,
        "patches": patches.collect::<Vec<_>>(),
        "refusals": refusals.collect::<Vec<_>>(),
    })
}
