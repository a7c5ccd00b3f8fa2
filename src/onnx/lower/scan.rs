//! Cumulative operations.

use lrpc_ir::Op;
use lrpc_ir::ops::Scan;

use super::finding::{Lowered, invalid};
use super::site::{Site, axis};
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("CumSum", 11, |site| {
        cumulative(site, |axis, exclusive, reverse| Scan::CumulativeSum { axis, exclusive, reverse })
    }),
    OpDef::new("CumProd", 26, |site| {
        cumulative(site, |axis, exclusive, reverse| Scan::CumulativeProduct { axis, exclusive, reverse })
    }),
];

fn cumulative(site: &mut Site, op: fn(usize, bool, bool) -> Scan) -> Lowered {
    let x = site.input(0)?;
    let Some([along]) = site.numbers(1)?.and_then(|values| <[i64; 1]>::try_from(values).ok()) else {
        return invalid("the axis is not one number");
    };
    let along = axis(along, site.ty(x).rank())?;
    let op = op(along, site.flag("exclusive", false)?, site.flag("reverse", false)?);
    let result = site.emit(Op::Scan(op), &[x])?;
    site.output(0, result)
}
