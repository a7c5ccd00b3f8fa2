//! Canonicalisation of the forward region: what rules shall see as one thing becomes one thing.

mod absorb_transposes;
mod fold_batch_norm;
mod fold_scales;
mod hoist_prepare;
mod merge_affine;
mod merge_bias;
mod merge_equal;
mod merge_safe_softmax;
mod recognise_activations;
mod recognise_group_norm;
mod recognise_norm;
mod recognise_softmax;
mod remove_identities;
mod slice_seed;
mod split_bias;
mod unroll_loops;

use crate::manager::PassDef;

/// The passes over the forward region, in order.
pub const PIPELINE: &[PassDef] = &[
    unroll_loops::PASS,
    remove_identities::PASS,
    hoist_prepare::PASS,
    merge_equal::PASS,
    recognise_softmax::PASS,
    merge_safe_softmax::PASS,
    recognise_norm::PASS,
    recognise_group_norm::PASS,
    merge_affine::PASS,
    recognise_activations::PASS,
    fold_scales::PASS,
    absorb_transposes::PASS,
    split_bias::PASS,
    merge_bias::PASS,
    fold_batch_norm::PASS,
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
