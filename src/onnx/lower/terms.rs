//! Operators on text and on files of other kinds, and the part of them that numbers express.

use super::finding::unsupported;
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] =
    &[OpDef::new("ImageDecoder", 20, |_| unsupported("it reads compressed image files; give the model the pixels"))];
