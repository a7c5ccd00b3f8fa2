//! Transposes of pooling and resizing.

use lrpc_ir::Diagnostic;
use lrpc_ir::graph::Value;
use lrpc_ir::ops::{Op, Pool, PoolKind, Resize, Window};

use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::Site;

/// The transpose; for max pooling the routing to each window's winner.
pub(super) fn adjoint(b: &mut RelevanceBuilder, site: &Site, op: &Pool, cotangent: Value) -> Built<Value> {
    let spatial = b.ty(site.operands[0]).shape.get(2..).unwrap_or_default().to_vec();
    match op {
        Pool::Window(PoolKind::Max, window) => {
            let x = b.activation(site.operands[0])?;
            // Integers have the order of the numbers that they stand for.
            let dtype = b.ty(cotangent).dtype;
            let x = b.cast(x, dtype, "x")?;
            let op = Pool::WindowTranspose(PoolKind::Max, Window { spatial, ..window.clone() });
            b.op(Op::Pool(op), &[x, cotangent], "t")
        }
        Pool::Window(kind, window) => {
            let op = Pool::WindowTranspose(*kind, Window { spatial, ..window.clone() });
            b.op(Op::Pool(op), &[cotangent], "t")
        }
        Pool::Resize(resize) => {
            let op = Pool::ResizeTranspose(Resize { spatial, ..resize.clone() });
            b.op(Op::Pool(op), &[cotangent], "t")
        }
        Pool::WindowArgMax(_) | Pool::WindowTranspose(..) | Pool::ResizeTranspose(_) => {
            Err(Diagnostic::new(format!("`{}` has no derivative", op.mnemonic())))
        }
    }
}
