//! Choice of elements.

use lrpc_ir::ops::{Movement, Select};
use lrpc_ir::{Dim, Op};

use super::finding::{Lowered, unsupported};
use super::known::Known;
use super::site::{Site, axis};
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("Gather", 1, gather).folding(fold_gather),
    OpDef::new("ArgMax", 1, |site| extreme(site, |axis| Select::ArgMax { axis })),
    OpDef::new("ArgMin", 1, |site| extreme(site, |axis| Select::ArgMin { axis })),
];

/// One known index is a slice; others stay a gather.
fn gather(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let ty = site.ty(x);
    let along = axis(site.int_or("axis", 0)?, ty.rank())?;
    let single = site.known(1).filter(|known| known.shape.is_empty()).and_then(|known| known.elements.first());
    let size = ty.shape.get(along).cloned().unwrap_or(Dim::Known(0));
    let result = match single.and_then(Dim::known) {
        Some(index) => {
            let start = if index < 0 { size.add(&Dim::Known(index))? } else { Dim::Known(index) };
            let slice = Movement::slice_axis(&ty, along, start, Dim::Known(1));
            let part = site.emit(Op::Movement(slice), &[x])?;
            let shape = ty.shape.iter().enumerate().filter(|(axis, _)| *axis != along).map(|(_, size)| size.clone());
            site.reshape(part, shape.collect())?
        }
        None => {
            let index = site.input(1)?;
            site.emit(Op::Select(Select::Gather { axis: along }), &[x, index])?
        }
    };
    site.output(0, result)
}

fn fold_gather(site: &mut Site) -> Lowered<Option<Known>> {
    let (Some(known), Some(index)) = (site.known(0).cloned(), site.known(1).cloned()) else { return Ok(None) };
    let along = axis(site.int_or("axis", 0)?, known.shape.len())?;
    let (Some(&size), Some(indices)) = (known.shape.get(along), index.numbers()) else { return Ok(None) };
    let place = |index: i64| {
        let counted = if index < 0 { index.checked_add(i64::try_from(size).ok()?)? } else { index };
        usize::try_from(counted).ok()
    };
    let Some(places) = indices.into_iter().map(place).collect::<Option<Vec<usize>>>() else { return Ok(None) };
    let mut shape = known.shape.clone();
    shape.splice(along..=along, index.shape);
    Ok(known.take(along, &places).and_then(|taken| taken.reshaped(shape)))
}

fn extreme(site: &mut Site, op: fn(usize) -> Select) -> Lowered {
    if site.flag("select_last_index", false)? {
        return unsupported("select_last_index, the last of equals");
    }
    let x = site.input(0)?;
    let mut shape = site.ty(x).shape;
    let along = axis(site.int_or("axis", 0)?, shape.len())?;
    let mut result = site.emit(Op::Select(op(along)), &[x])?;
    if site.flag("keepdims", true)? {
        if let Some(size) = shape.get_mut(along) {
            *size = Dim::Known(1);
        }
        result = site.reshape(result, shape)?;
    }
    site.output(0, result)
}
