//! Relevance through loops and conditionals, held against the same network without them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod branches;
mod equality;
#[path = "../rules/funnel.rs"]
#[allow(dead_code, reason = "the tests of rules use more of it")]
mod funnel;
mod nested;
mod network;
#[path = "../rules/numbers.rs"]
#[allow(dead_code, reason = "the tests of rules use more of it")]
mod numbers;
mod twin;
