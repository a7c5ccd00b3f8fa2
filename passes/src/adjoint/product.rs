//! Derivative of a product over axes, without a division: the product of all other factors.

use lrpc_ir::Dim;
use lrpc_ir::graph::Value;
use lrpc_ir::ops::{Op, Reduce, ReduceKind, Scan};

use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::Site;

/// VJP of a product over axes: one axis after the other, every factor gets those before it times those behind it.
pub(super) fn reduce(b: &mut RelevanceBuilder, site: &Site, op: &Reduce, cotangent: Value) -> Built<Value> {
    // The factors along each axis: products over the axes that came before it.
    let mut factors = Vec::with_capacity(op.axes.len());
    let mut product = b.activation(site.operands[0])?;
    let mut kept = b.ty(product).shape;
    for &axis in &op.axes {
        factors.push((axis, product));
        let over = Reduce { kind: ReduceKind::Product, axes: vec![axis], keep: true };
        if factors.len() < op.axes.len() {
            product = b.op(Op::Reduce(over), &[product], "product")?;
        }
        kept[axis] = Dim::Known(1);
    }
    let mut back = b.reshape(cotangent, &kept, "t")?;
    for (axis, factors) in factors.into_iter().rev() {
        let beside = |reverse| Op::Scan(Scan::CumulativeProduct { axis, exclusive: true, reverse });
        let before = b.op(beside(false), &[factors], "before")?;
        let behind = b.op(beside(true), &[factors], "behind")?;
        let others = b.mul(before, behind, "others")?;
        let shape = b.ty(factors).shape;
        let copies = b.broadcast(back, &shape, "t")?;
        back = b.mul(copies, others, "t")?;
    }
    Ok(back)
}

#[cfg(test)]
mod tests {
    use crate::testing::check_rule;

    #[test]
    fn gradient_of_a_product() {
        check_rule(
            "gradient_of_a_product",
            "Gradient",
            "",
            r#"
        input %x : f32[N, 3, 4]
        forward
          %y = reduce_product %x {axes=[1, 2]} : f32[N] from "/prod"
        result "output/y" = %y
        "#,
        );
    }
}
