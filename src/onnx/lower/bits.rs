//! Integers as rows of bits.

use lrpc_ir::Op;
use lrpc_ir::ops::{Binary, Elementwise, Function};

use super::finding::{Lowered, invalid, unsupported};
use super::site::Site;
use super::table::OpDef;
use crate::onnx::tensor::element_type;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::new("BitShift", 11, shift),
    OpDef::new("BitwiseAnd", 18, |site| both(site, Binary::And)),
    OpDef::new("BitwiseOr", 18, |site| both(site, Binary::Or)),
    OpDef::new("BitwiseXor", 18, |site| both(site, Binary::Xor)),
    OpDef::new("BitwiseNot", 18, negate),
    OpDef::new("BitCast", 26, reinterpret),
];

fn both(site: &mut Site, op: Binary) -> Lowered {
    let (a, b) = (site.input(0)?, site.input(1)?);
    let result = site.binary(op, a, b)?;
    site.output(0, result)
}

fn shift(site: &mut Site) -> Lowered {
    match site.word_or("direction", "")?.as_str() {
        "LEFT" => both(site, Binary::ShiftLeft),
        "RIGHT" => both(site, Binary::ShiftRight),
        other => invalid(format!("direction is {other:?}")),
    }
}

fn negate(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let result = site.unary(Function::Not, [0.0; 2], x)?;
    site.output(0, result)
}

/// The bits of an element type as those of another of the same width.
fn reinterpret(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let number = site.int("to")?.and_then(|number| i32::try_from(number).ok());
    let Some(to) = number.and_then(element_type) else {
        return unsupported(format!("bits as element type number {}", number.unwrap_or_default()));
    };
    let from = site.ty(x).dtype;
    if from == to {
        return site.output(0, x);
    }
    let result = site.emit(Op::Elementwise(Elementwise::BitCast { from, to }), &[x])?;
    site.output(0, result)
}
