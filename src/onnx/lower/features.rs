//! Operators of `ai.onnx.ml` that are movement and comparison.

use lrpc_ir::ops::{Compare, Elementwise, Select};
use lrpc_ir::types::TensorType;
use lrpc_ir::{Dim, Op};

use super::finding::{Lowered, invalid};
use super::site::Site;
use super::table::OpDef;

const DOMAIN: &str = "ai.onnx.ml";

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef { domain: DOMAIN, ..OpDef::new("ArrayFeatureExtractor", 1, extract) },
    OpDef { domain: DOMAIN, ..OpDef::new("Binarizer", 1, binarize) },
];

/// Elements along the last axis. A vector is one row of features.
fn extract(site: &mut Site) -> Lowered {
    let (mut x, index) = (site.input(0)?, site.input(1)?);
    let count = site.ty(index).elements()?;
    let index = site.reshape(index, vec![count])?;
    if let [size] = site.ty(x).shape.as_slice() {
        x = site.reshape(x, vec![Dim::Known(1), size.clone()])?;
    }
    let Some(last) = site.ty(x).rank().checked_sub(1) else { return invalid("a scalar has no features") };
    let result = site.emit(Op::Select(Select::Gather { axis: last, batch: 0 }), &[x, index])?;
    site.output(0, result)
}

/// 1 above the threshold, else 0.
fn binarize(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let dtype = site.ty(x).dtype;
    let threshold = site.float_or("threshold", 0.0)?;
    let threshold = site.filled(TensorType::new(dtype, Vec::new()), threshold)?;
    let above = site.elementwise(Elementwise::Compare(Compare::Greater), &[x, threshold])?;
    let result = site.cast(above, dtype)?;
    site.output(0, result)
}
