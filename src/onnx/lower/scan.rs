//! Cumulative operations.

use lrpc_ir::Op;
use lrpc_ir::ops::Scan;

use super::finding::{Lowered, invalid};
use super::site::{Site, axis};
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] = &[OpDef::new("CumSum", 11, cumulative_sum)];

fn cumulative_sum(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let Some([along]) = site.numbers(1)?.and_then(|values| <[i64; 1]>::try_from(values).ok()) else {
        return invalid("the axis is not one number");
    };
    let op = Scan::CumulativeSum {
        axis: axis(along, site.ty(x).rank())?,
        exclusive: site.flag("exclusive", false)?,
        reverse: site.flag("reverse", false)?,
    };
    let result = site.emit(Op::Scan(op), &[x])?;
    site.output(0, result)
}
