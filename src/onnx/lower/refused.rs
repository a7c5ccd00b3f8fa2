//! Operators that are known and refused, each with its reason.

use super::finding::unsupported;
use super::table::OpDef;

/// Two tools never draw the same numbers, not even from one seed.
const RANDOM: &str = "it draws random numbers: export the model for inference, or make the numbers an input";

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("ImageDecoder", 20, |_| unsupported("it reads compressed image files; give the model the pixels")),
    OpDef::new("Bernoulli", 15, |_| unsupported(RANDOM)),
    OpDef::new("Multinomial", 7, |_| unsupported(RANDOM)),
    OpDef::new("RandomNormal", 1, |_| unsupported(RANDOM)),
    OpDef::new("RandomNormalLike", 1, |_| unsupported(RANDOM)),
    OpDef::new("RandomUniform", 1, |_| unsupported(RANDOM)),
    OpDef::new("RandomUniformLike", 1, |_| unsupported(RANDOM)),
];
