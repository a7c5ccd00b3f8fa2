//! Determinants, by expansion along the first row.

use lrpc_ir::ops::{Binary, Movement};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid, unsupported};
use super::site::Site;
use super::table::OpDef;

/// The number of products is the factorial of that of rows.
const MAX_ROWS: i64 = 4;

pub(super) const OPERATORS: &[OpDef] = &[OpDef::new("Det", 11, determinant)];

fn determinant(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let ty = site.ty(x);
    let [outer @ .., rows, columns] = ty.shape.as_slice() else { return invalid(format!("{ty} is no matrix")) };
    let size = match (rows.known(), columns.known()) {
        (Some(rows), Some(columns)) if rows == columns && rows > 0 => rows,
        (Some(_), Some(_)) => return invalid(format!("{ty} holds no square matrices")),
        _ => return unsupported("the determinant of matrices of symbolic size"),
    };
    if size > MAX_ROWS {
        return unsupported(format!("the determinant of matrices of more than {MAX_ROWS} rows"));
    }
    let columns: Vec<i64> = (0..size).collect();
    let result = minor(site, x, 0, &columns)?;
    let result = site.reshape(result, outer.to_vec())?;
    site.output(0, result)
}

/// The determinant of the rows from `row` on and these columns, as `[…, 1, 1]`.
fn minor(site: &mut Site, x: Value, row: i64, columns: &[i64]) -> Lowered<Value> {
    let mut total = None;
    for (place, column) in columns.iter().enumerate() {
        let factor = element(site, x, row, *column)?;
        let others: Vec<i64> = columns.iter().copied().filter(|other| other != column).collect();
        let product = if others.is_empty() {
            factor
        } else {
            let rest = minor(site, x, row.saturating_add(1), &others)?;
            site.binary(Binary::Mul, factor, rest)?
        };
        total = Some(match total {
            None => product,
            Some(total) if place % 2 == 1 => site.binary(Binary::Sub, total, product)?,
            Some(total) => site.binary(Binary::Add, total, product)?,
        });
    }
    total.map_or_else(|| invalid("a matrix without columns"), Ok)
}

fn element(site: &mut Site, x: Value, row: i64, column: i64) -> Lowered<Value> {
    let mut part = x;
    let rank = site.ty(x).rank();
    for (axis, place) in [(rank.saturating_sub(2), row), (rank.saturating_sub(1), column)] {
        let slice = Movement::slice_axis(&site.ty(part), axis, Dim::Known(place), Dim::Known(1));
        part = site.emit(Op::Movement(slice), &[part])?;
    }
    Ok(part)
}
