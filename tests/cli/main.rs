//! The program as a user meets it: commands, files, messages and exit statuses, through the real binary.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod baselines;
mod commands;
mod compile;
mod conditions;
mod dynamic;
mod explain;
mod inputs;
mod outputs;
mod refused;
mod run;
mod support;
mod tokens;
