//! Passes over the intermediate representation: canonicalisation, relevance rules, binding.
//!
//! # Reading order
//! [`manager`] runs named passes; [`canonicalise`] holds those over the forward region; [`embedding`]
//! finds where integers become vectors; [`relevance`] is the pass that
//! makes the relevance region, with one file per rule in [`rules`] and the transposes they share in [`adjoint`];
//! [`bind`] turns a graph and the sizes of its symbols into a plan. [`commute`] says which rows of operands a row of a
//! result needs.
//!
//! # Invariants of the crate, absences included
//! `passes` do no I/O, print nothing, know no ONNX and no device. No model, exporter or layer is recognised by name:
//! patterns are algebra. Only composites choose rules. An operation without a rule is an error, never an identity.

pub mod adjoint;
pub mod attention;
pub mod bind;
pub mod canonicalise;
pub mod commute;
pub mod compile;
pub mod embedding;
pub mod manager;
pub mod names;
mod nested;
mod pattern;
pub mod relevance;
pub mod rules;
#[cfg(test)]
mod testing;
