//! Passes over the intermediate representation.

pub mod bind;
