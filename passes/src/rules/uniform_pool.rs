//! Equal shares of a window.

use lrpc_ir::ops::{Op, Pool, PoolKind, Reduce, ReduceKind, Window};
use lrpc_ir::{Diagnostic, Dim};

use super::RuleDef;
use crate::adjoint;
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::site::{Flow, Site};

const DOC: &str = "
# Formula
R_x = R/k for each of the k elements under a window or along the axes of a reduction; padding takes nothing.

# Conserves?
Exactly.

# Use when
Max pooling that shall not follow one element alone; average pooling whatever its input is.

# Parameters
None.

# Reference
Lee & Arias 2025 (adaptive average pooling); docs/rule-book.md section 4.

# Example graph
%R.x = pool_transpose %R.y {kind=average, window=[2, 2], stride=2}
";

pub(super) const RULE: RuleDef =
    RuleDef { name: "UniformPool", doc: DOC, parameters: &[], classes: &["additive", "select"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let mean = Site { op: alike(&site.op, PoolKind::Average, ReduceKind::Mean)?, ..site.clone() };
    let relevance = site.relevance(b)?;
    let shares = adjoint::vjp(b, &mean, 0, relevance)?;
    site.flows(b, |_, _| Ok(Flow::Relevance(shares)))
}

/// The operation over the same windows or axes, of another kind.
pub(super) fn alike(op: &Op, pool: PoolKind, reduce: ReduceKind) -> Built<Op> {
    match op {
        Op::Pool(Pool::Window(_, window)) => {
            // Padding behind the last element counts in averages that count padding alone.
            let pads_after = vec![Dim::Known(0); window.pads_after.len()];
            Ok(Op::Pool(Pool::Window(pool, Window { pads_after, ..window.clone() })))
        }
        Op::Reduce(Reduce { axes, keep, .. }) => {
            Ok(Op::Reduce(Reduce { kind: reduce, axes: axes.clone(), keep: *keep }))
        }
        other => Err(Diagnostic::new(format!("`{}` has no windows", other.mnemonic()))
            .help("UniformPool and ProportionalPool serve pooling and reductions")),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{apply_rule, check_rule};

    #[test]
    fn uniform_pool_max() {
        check_rule(
            "uniform_pool_max",
            "UniformPool",
            "",
            r#"
        input %x : f32[N, 2, 4, 4]
        forward
          %y = pool %x {kind=max, window=[2, 2], stride=2} : f32[N, 2, 2, 2] from "/pool"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn uniform_pool_reduce() {
        check_rule(
            "uniform_pool_reduce",
            "UniformPool",
            "",
            r#"
        input %x : f32[N, 2, S]
        forward
          %y = reduce_max %x {axes=[2]} : f32[N, 2] from "/max"
        result "output/y" = %y
        "#,
        );
    }

    #[test]
    fn two_operands_are_no_window() {
        let body = r#"
        input %x : f32[N, 3]
        input %z : f32[N, 3]
        forward
          %y = max %x, %z : f32[N, 3] from "/max"
        result "output/y" = %y
        "#;
        let error = apply_rule("UniformPool", "", body).unwrap_err().to_string();
        assert!(error.contains("`max` has no windows (at /max)"), "{error}");
    }
}
