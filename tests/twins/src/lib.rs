//! Naïve f64 twins of the relevance rules, written from the papers. This crate must not depend on any other of the workspace.
