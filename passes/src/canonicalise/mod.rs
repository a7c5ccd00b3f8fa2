//! Canonicalisation of the forward region: what rules shall see as one thing becomes one thing.

mod fold_batch_norm;
mod hoist_prepare;
mod merge_bias;
mod merge_equal;
mod recognise_swish;
mod remove_identities;
mod slice_seed;
mod split_bias;

use crate::manager::PassDef;

/// The passes over the forward region, in order.
pub const PIPELINE: &[PassDef] = &[
    remove_identities::PASS,
    hoist_prepare::PASS,
    split_bias::PASS,
    merge_bias::PASS,
    fold_batch_norm::PASS,
    recognise_swish::PASS,
    merge_equal::PASS,
];

/// The passes over the forward region once the targets' rows are named, in order. Requested tensors alone are pinned.
pub const FOR_TARGETS: &[PassDef] = &[slice_seed::PASS];

/// The passes over the whole graph once rules have made the relevance region, in order.
pub const AFTER_RULES: &[PassDef] = &[remove_identities::PASS, merge_equal::PASS];

/// The pass called `name`.
pub fn find(name: &str) -> Option<PassDef> {
    PIPELINE.iter().chain(FOR_TARGETS).chain(AFTER_RULES).find(|pass| pass.name == name).copied()
}
