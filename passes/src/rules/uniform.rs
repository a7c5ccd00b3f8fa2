//! Uniform rule for linear maps, sums, average pooling and products over axes.

use lrpc_ir::ops::{Binary, Elementwise, Op, Pool, PoolKind, ReduceKind, Scan, Select};
use lrpc_ir::{Absorbed, Diagnostic, DiagnosticKind};

use super::RuleDef;
use super::uniform_pool::alike;
use super::unit_map::UnitMap;
use crate::adjoint;
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Flow, Site};

const DOC: &str = "
# Formula
Each of the k inputs that an output sees receives R/k, whatever weights and values are: R_x = VJP_1(R / k). Padding is no
input. Of an addition both operands receive R/2, of a product over an axis each of its k factors R/k.

# Conserves?
Exactly, but for half of an addition's R where one operand is a constant, which is in the ledger as bias, and for outputs
that see no input at all, which are in the ledger with the stabiliser. It puts relevance where x = 0.

# Use when
Average pooling, where every place is to count alike; linear maps whose weights are to be ignored without a stabiliser;
products of many factors, of which Half is the case of two.

# Parameters
None.

# Reference
Bach et al. 2015, section on linear maps without weights; pooling: Lee & Arias 2025.

# Example graph
%D.y = pool %const.y {kind=sum, window=[3, 3], pad=1}; %s.y = ratio %R.y, %D.y; %t.y = pool_transpose %sum.y {kind=sum,
window=[3, 3], pad=1}
";

pub(super) const RULE: RuleDef = RuleDef {
    name: "Uniform",
    doc: DOC,
    parameters: &[],
    classes: &["linear", "additive", "reduce_product", "cumulative_product"],
    emit,
};

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let relevance = site.relevance(b)?;
    let result = match &site.op {
        Op::Linear(_) => {
            let linear = site.linear(b)?;
            let map = UnitMap::of(b, &linear)?;
            let count = map.count(b)?;
            let each = b.quotient(relevance, count, 0.0, "s")?;
            map.transpose(b, each)?
        }
        Op::Elementwise(Elementwise::Binary(Binary::Add | Binary::Sub)) => {
            let half = b.scale(relevance, 0.5, "part")?;
            if site.active.contains(&false) {
                b.absorb(Absorbed::Bias, half);
            }
            half
        }
        Op::Pool(Pool::Window(..)) | Op::Reduce(_) => {
            let mean = alike(&site.op, PoolKind::Average, ReduceKind::Mean)?;
            adjoint::vjp(b, &Site { op: mean, ..site.clone() }, 0, relevance)?
        }
        Op::Scan(_) | Op::Select(Select::ScatterAdd { .. }) => {
            // What an element of a running product depends on is what a running sum adds up.
            let site = &Site { op: as_sum(&site.op), ..site.clone() };
            let ty = b.ty(site.operands[0]);
            let ones = b.filled(1.0, ty.dtype, &ty.shape)?;
            let mut operands = vec![ones];
            for &index in site.operands.iter().skip(1) {
                operands.push(b.activation(index)?);
            }
            let count = b.op(site.op.clone(), &operands, "D")?;
            let each = b.quotient(relevance, count, 0.0, "s")?;
            adjoint::vjp(b, site, 0, each)?
        }
        other => {
            let message = format!("the inputs of `{}` are not alike", other.mnemonic());
            return Err(Diagnostic::new(message).of_kind(DiagnosticKind::NoRule).help("use SignedRatio for it"));
        }
    };
    site.flows(b, |_, _| Ok(Flow::Relevance(result)))
}

fn as_sum(op: &Op) -> Op {
    match *op {
        Op::Scan(Scan::CumulativeProduct { axis, exclusive, reverse }) => {
            Op::Scan(Scan::CumulativeSum { axis, exclusive, reverse })
        }
        ref other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{apply_rule, check_rule};

    #[test]
    fn uniform_products() {
        check_rule(
            "uniform_products",
            "Uniform",
            "",
            r#"
        input %x : f32[N, 4]
        forward
          %h = cumulative_product %x {axis=1} : f32[N, 4] from "/cumprod"
          %y = reduce_product %h {axes=[1]} : f32[N] from "/prod"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn uniform_conv() {
        check_rule(
            "uniform_conv",
            "Uniform",
            "",
            r#"
        input %x : f32[N, 2, 4, 4]
        weight @w : f32[8, 2, 3, 3]
        forward
          %y = conv %x, @w {pad=1} : f32[N, 8, 4, 4] from "/conv"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn resizing_is_refused() {
        let body = r#"
        input %x : f32[N, 2, 4]
        forward
          %y = resize %x {mode=linear, coordinates=half_pixel} : f32[N, 2, 6] from "/resize"
        result "output/y" = %y
        "#;
        let error = apply_rule("Uniform", "", body).unwrap_err().to_string();
        assert_eq!(error, "the inputs of `resize` are not alike (at /resize); use SignedRatio for it");
    }
}
