//! Optional values: a tensor is one that is there, an input that is left out one that is not.

use lrpc_ir::Dim;
use lrpc_ir::types::DType;

use super::elementwise::alias;
use super::finding::Lowered;
use super::known::Known;
use super::site::Site;
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("OptionalGetElement", 15, |site| alias(site, 0)),
    OpDef::new("OptionalHasElement", 15, |_| Ok(())).folding(has_element),
];

fn has_element(site: &mut Site) -> Lowered<Option<Known>> {
    Ok(Some(Known::scalar(DType::Bool, Dim::Known(i64::from(site.has_input(0))))))
}
