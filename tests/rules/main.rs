//! Numeric tests of the relevance rules against their naïve twins, and of what whole graphs must satisfy.
//!
//! A test is a graph as text, numbers, and what a twin makes of them; [`funnel`] takes it through rules, text, binding and
//! execution, as the program does.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod additive;
mod carriers;
mod check;
mod composition;
mod conditions;
mod conservation;
mod conserves;
mod costs;
mod elementwise;
mod filter;
mod funnel;
mod generated;
mod gradients;
mod keeping;
mod linear;
mod modified_gradients;
mod movement;
mod normalize;
mod numbers;
mod numerics;
mod operations;
mod peers;
mod pooling;
mod products;
mod sampling;
mod seeds;
mod selective;
mod transformers;
mod weights;
mod winner;

/// Every rule and the test that holds it against its twin; `every_rule_has_a_twin` compares the list with the rule book.
const TWINS: &[(&str, fn())] = &[
    ("AbsRatio", additive::absolute_ratio),
    ("AlphaBeta", linear::alpha_beta),
    ("AttnSoftmax", normalize::attn_softmax),
    ("BetaSmooth", modified_gradients::beta_smooth),
    ("BiasRedistributed", normalize::bias_redistributed),
    ("BoundedGate", products::bounded_gate),
    ("DeconvNet", modified_gradients::deconv_net),
    ("Epsilon", linear::epsilon),
    ("Flat", linear::flat),
    ("Gamma", linear::gamma),
    ("Gate", products::gate),
    ("Gradient", linear::gradient),
    ("GuidedBackprop", modified_gradients::guided_backprop),
    ("Half", products::half),
    ("Identity", elementwise::identity),
    ("IdentitySkip", additive::identity_skip),
    ("Movement", movement::movement),
    ("NormEpsilon", normalize::norm_epsilon),
    ("NormIdentity", normalize::norm_identity),
    ("ProportionalPool", pooling::proportional_pool),
    ("Selective", products::selective),
    ("SignedRatio", additive::signed_ratio),
    ("Stop", normalize::stop),
    ("Symmetric", additive::symmetric),
    ("Taylor", linear::taylor),
    ("Uniform", linear::uniform),
    ("UniformPool", pooling::uniform_pool),
    ("ValuePath", products::value_path),
    ("WSquare", linear::w_square),
    ("Winner", winner::winner),
    ("ZBox", linear::z_box),
    ("ZPlus", linear::z_plus),
];

#[test]
fn every_rule_has_a_twin() {
    let rules: Vec<&str> = lrpc_passes::rules::RULES.iter().map(|rule| rule.name).collect();
    let twins: Vec<&str> = TWINS.iter().map(|(name, _)| *name).collect();
    let without = rules.iter().find(|rule| !twins.contains(rule));
    if let Some(rule) = without {
        panic!("no test holds {rule} against a twin: add (\"{rule}\", …) to TWINS (docs/writing-a-rule.md, step 4)");
    }
    assert_eq!(rules, twins, "TWINS lists the rules in their order");
}
