//! Recognises norms that are written out: layer norm, `d = x − mean(x)` divided by `√(mean(d²) + ε)`, and RMS norm, `x`
//! divided by `√(mean(x²) + ε)`.
//!
//! Before: `%m = reduce_mean %x`, `%d = sub %x, %m`, `%v = reduce_mean %d²`, `%s = sqrt (%v + ε)`, `%y = div %d, %s`.
//! After: `%y = layer_norm %x, 1, 0 {eps=ε}`; `merge_affine` gives it the scale and bias that follow. The square may be a
//! product or a power, the mean a scaled sum, the variance a difference of moments, the division a product with a
//! reciprocal or a power. RMS norm is the same without `%m`. Unrecognised, the product rule would split relevance between
//! the signal and its deviation, and most of it would be lost through the mean of squares (docs/rule-book.md section 5).

use lrpc_ir::Diagnostics;
use lrpc_ir::graph::Graph;

use crate::manager::{Context, PassDef};
use crate::pattern::Found;
use crate::pattern::norm::{replace, standardised};

pub(super) const PASS: PassDef = PassDef {
    name: "recognise_norm",
    doc: "raises x/√(mean(x²) + ε), with or without the mean taken off, to layer norm or RMS norm",
    run: recognise_norm,
};

fn recognise_norm(graph: &mut Graph, context: &mut Context) -> Result<(), Diagnostics> {
    for node in graph.order() {
        match standardised(graph, node) {
            Found::Pattern(found) => replace(graph, context, PASS.name, node, found)?,
            Found::NearMiss(reason) => context.refused(PASS.name, graph, node.into(), reason),
            Found::Nothing => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::check_pass;

    #[test]
    fn recognise_layer_norm() {
        check_pass(
            "recognise_layer_norm",
            PASS,
            r#"
        input %x : f32[N, S, 8]
        prepare
        %eps = const 1e-5 : f32[]
        forward
        %m = reduce_mean %x {axes=[2], keep=true} : f32[N, S, 1] from "/mean"
        %m.all = broadcast %m : f32[N, S, 8]
        %d = sub %x, %m.all : f32[N, S, 8] from "/sub"
        %q = pow_by %d {exponent=2} : f32[N, S, 8] from "/pow"
        %v = reduce_mean %q {axes=[2], keep=true} : f32[N, S, 1] from "/var"
        %e = broadcast %eps : f32[N, S, 1]
        %r = add %v, %e : f32[N, S, 1] from "/add"
        %s = sqrt %r : f32[N, S, 1] from "/sqrt"
        %s.all = broadcast %s : f32[N, S, 8]
        %y = div %d, %s.all : f32[N, S, 8] from "/div"
        result "output/y" = %y
        "#,
            &[],
        );
    }

    #[test]
    fn recognise_layer_norm_of_moments() {
        check_pass(
            "recognise_layer_norm_of_moments",
            PASS,
            r#"
        input %x : f32[N, 8]
        weight @w : f32[8]
        forward
        %m = reduce_mean %x {axes=[1]} : f32[N]
        %q = mul %x, %x : f32[N, 8]
        %k = reduce_mean %q {axes=[1]} : f32[N]
        %n = mul %m, %m : f32[N]
        %v = sub %k, %n : f32[N]
        %p = relu %v : f32[N]
        %e = shift %p {by=1e-5} : f32[N]
        %i = pow_by %e {exponent=-0.5} : f32[N]
        %i.column = reshape %i : f32[N, 1]
        %i.all = broadcast %i.column : f32[N, 8]
        %w.all = broadcast @w : f32[N, 8]
        %f = mul %i.all, %w.all : f32[N, 8]
        %m.column = reshape %m : f32[N, 1]
        %m.all = broadcast %m.column : f32[N, 8]
        %d = sub %x, %m.all : f32[N, 8]
        %y = mul %f, %d : f32[N, 8] from "/mul"
        result "output/y" = %y
        "#,
            &[],
        );
    }

    #[test]
    fn recognise_layer_norm_scaled_and_moved() {
        check_pass(
            "recognise_layer_norm_scaled_and_moved",
            PASS,
            r#"
        input %x : f32[N, 8]
        weight @w : f32[8]
        weight @b : f32[8]
        forward
        %m = reduce_mean %x {axes=[1], keep=true} : f32[N, 1]
        %m.all = broadcast %m : f32[N, 8]
        %d = sub %x, %m.all : f32[N, 8]
        %q = mul %d, %d : f32[N, 8]
        %v = reduce_mean %q {axes=[1], keep=true} : f32[N, 1]
        %e = shift %v {by=0.001} : f32[N, 1]
        %s = sqrt %e : f32[N, 1]
        %i = reciprocal %s : f32[N, 1]
        %i.all = broadcast %i : f32[N, 8]
        %w.all = broadcast @w : f32[N, 8]
        %f = mul %i.all, %w.all : f32[N, 8]
        %scaled = mul %x, %f : f32[N, 8] from "/mul"
        %moved = mul %m.all, %f : f32[N, 8] from "/mul2"
        %b.all = broadcast @b : f32[N, 8]
        %offset = sub %b.all, %moved : f32[N, 8] from "/sub"
        %y = add %scaled, %offset : f32[N, 8] from "/add"
        result "output/y" = %y
        "#,
            &[],
        );
    }

    #[test]
    fn recognise_layer_norm_over_channels() {
        check_pass(
            "recognise_layer_norm_over_channels",
            PASS,
            r#"
        input %x : f32[N, 4, 6]
        forward
        %m = reduce_mean %x {axes=[1], keep=true} : f32[N, 1, 6]
        %m.all = broadcast %m : f32[N, 4, 6]
        %d = sub %x, %m.all : f32[N, 4, 6]
        %q = mul %d, %d : f32[N, 4, 6]
        %t = reduce_sum %q {axes=[1], keep=true} : f32[N, 1, 6]
        %v = scale %t {by=0.25} : f32[N, 1, 6]
        %e = shift %v {by=1e-6} : f32[N, 1, 6]
        %s = sqrt %e : f32[N, 1, 6]
        %i = reciprocal %s : f32[N, 1, 6]
        %i.all = broadcast %i : f32[N, 4, 6]
        %y = mul %d, %i.all : f32[N, 4, 6] from "/mul"
        result "output/y" = %y
        "#,
            &[],
        );
    }

    #[test]
    fn recognise_layer_norm_near_misses() {
        check_pass(
            "recognise_layer_norm_near_misses",
            PASS,
            r#"
        input %x : f32[N, 8]
        forward
        %m = reduce_mean %x {axes=[1], keep=true} : f32[N, 1]
        %m.all = broadcast %m : f32[N, 8]
        %d = sub %x, %m.all : f32[N, 8]
        %q = mul %d, %d : f32[N, 8]
        %v = reduce_mean %q {axes=[1], keep=true} : f32[N, 1]
        %s = sqrt %v : f32[N, 1]
        %outside = shift %s {by=1e-6} : f32[N, 1]
        %outside.all = broadcast %outside : f32[N, 8]
        %a = div %d, %outside.all : f32[N, 8] from "/outside"
        %t = reduce_sum %q {axes=[1], keep=true} : f32[N, 1]
        %unbiased = scale %t {by=0.142857142857} : f32[N, 1]
        %deviation = sqrt %unbiased : f32[N, 1]
        %deviation.all = broadcast %deviation : f32[N, 8]
        %b = div %d, %deviation.all : f32[N, 8] from "/unbiased"
        %e = shift %v {by=1e-5} : f32[N, 1]
        %asked = sqrt %e : f32[N, 1]
        %asked.all = broadcast %asked : f32[N, 8]
        %c = div %d, %asked.all : f32[N, 8] from "/asked"
        %ab = add %a, %b : f32[N, 8]
        %y = add %ab, %c : f32[N, 8]
        result "output/y" = %y
        "#,
            &["asked"],
        );
    }

    #[test]
    fn recognise_rms_norm() {
        check_pass(
            "recognise_rms_norm",
            PASS,
            r#"
        input %x : f32[N, S, 8]
        prepare
        %eps = const 1e-6 : f32[]
        %one = const 1 : f32[]
        forward
        %q = pow_by %x {exponent=2} : f32[N, S, 8] from "/pow"
        %v = reduce_mean %q {axes=[2], keep=true} : f32[N, S, 1] from "/mean"
        %e = broadcast %eps : f32[N, S, 1]
        %r = add %v, %e : f32[N, S, 1] from "/add"
        %s = sqrt %r : f32[N, S, 1] from "/sqrt"
        %one.all = broadcast %one : f32[N, S, 1]
        %i = div %one.all, %s : f32[N, S, 1] from "/div"
        %i.all = broadcast %i : f32[N, S, 8]
        %y = mul %x, %i.all : f32[N, S, 8] from "/mul"
        result "output/y" = %y
        "#,
            &[],
        );
    }

    #[test]
    fn recognise_rms_norm_in_half_precision() {
        check_pass(
            "recognise_rms_norm_in_half_precision",
            PASS,
            r#"
        input %x : f16[N, 8]
        weight @w : f16[8]
        forward
        %wide = cast %x : f32[N, 8]
        %q = mul %wide, %wide : f32[N, 8]
        %v = reduce_mean %q {axes=[1], keep=true} : f32[N, 1]
        %e = shift %v {by=1e-5} : f32[N, 1]
        %i = pow_by %e {exponent=-0.5} : f32[N, 1]
        %i.half = cast %i : f16[N, 1]
        %i.all = broadcast %i.half : f16[N, 8]
        %w.all = broadcast @w : f16[N, 8]
        %scaled = mul %w.all, %x : f16[N, 8]
        %y = mul %i.all, %scaled : f16[N, 8] from "/mul"
        result "output/y" = %y
        "#,
            &[],
        );
    }

    #[test]
    fn recognise_rms_norm_near_misses() {
        check_pass(
            "recognise_rms_norm_near_misses",
            PASS,
            r#"
        input %x : f32[4, 4]
        input %z : f32[4, 4]
        forward
        %q = mul %x, %x : f32[4, 4]
        %v = reduce_mean %q {axes=[1]} : f32[4]
        %e = shift %v {by=1e-5} : f32[4]
        %i = pow_by %e {exponent=-0.5} : f32[4]
        %turned = broadcast %i : f32[4, 4]
        %a = mul %x, %turned : f32[4, 4] from "/other_rows"
        %i.column = reshape %i : f32[4, 1]
        %i.all = broadcast %i.column : f32[4, 4]
        %b = mul %z, %i.all : f32[4, 4] from "/other_tensor"
        %y = add %a, %b : f32[4, 4]
        result "output/y" = %y
        "#,
            &[],
        );
    }

    #[test]
    fn recognise_norm_of_other_rows_and_bounded_variance() {
        check_pass(
            "recognise_norm_of_other_rows_and_bounded_variance",
            PASS,
            r#"
        input %x : f32[4, 4]
        forward
        %q = mul %x, %x : f32[4, 4]
        %s = reduce_sum %q {axes=[1]} : f32[4]
        %turned = broadcast %s : f32[4, 4]
        %v = scale %turned {by=0.25} : f32[4, 4]
        %e = shift %v {by=1e-5} : f32[4, 4]
        %r = sqrt %e : f32[4, 4]
        %a = div %x, %r : f32[4, 4] from "/other_rows"
        %m = reduce_mean %x {axes=[1], keep=true} : f32[4, 1]
        %mm = mul %m, %m : f32[4, 1]
        %qm = reduce_mean %q {axes=[1], keep=true} : f32[4, 1]
        %var = sub %qm, %mm : f32[4, 1]
        %bounded = clip %var {low=0, high=0.5} : f32[4, 1]
        %d = sqrt %bounded : f32[4, 1]
        %d.all = broadcast %d : f32[4, 4]
        %m.all = broadcast %m : f32[4, 4]
        %c = sub %x, %m.all : f32[4, 4]
        %b = div %c, %d.all : f32[4, 4] from "/bounded"
        %y = add %a, %b : f32[4, 4]
        result "output/y" = %y
        "#,
            &[],
        );
    }
}
