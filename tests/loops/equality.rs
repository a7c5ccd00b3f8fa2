//! A loop is the network written out: the same relevance under every composite, for any number of steps.

use lrpc_ir::Absorbed;
use lrpc_kernels::LedgerTotal;
use lrpc_passes::relevance::composite::Composite;

use crate::network::{Network, closes, composites, difference, explain, run};
use crate::numbers::Random;

/// A recurrent layer that begins in a given state.
pub const RECURRENT: Network = Network {
    header: "input %x : f32[T, 2, 3]\ninput %first : f32[2, 4]\nweight @w : f32[3, 4]\nweight @u : f32[4, 4]\nweight @b : f32[4]",
    before: "%h = tanh %first : f32[2, 4] from \"/first\"",
    carried: &[("h", "f32[2, 4]", "{.}t")],
    scanned: &[("x", "f32[2, 3]")],
    captured: &[("w", "f32[3, 4]"), ("u", "f32[4, 4]"), ("b", "f32[4]")],
    step: "%{.}a = dot %{x}, %w, %b {contract=1x0} : f32[2, 4] from \"/in\"\n\
           %{.}r = dot %{h}, %u {contract=1x0} : f32[2, 4] from \"/state\"\n\
           %{.}s = add %{.}a, %{.}r : f32[2, 4] from \"/sum\"\n\
           %{.}t = tanh %{.}s : f32[2, 4] from \"/tanh\"",
    stacks: &[],
    after: "%y = relu %{h.last} : f32[2, 4] from \"/y\"",
    explained: &["x", "first"],
};

/// A memory cell with gates, read at every step.
const GATED: Network = Network {
    header: "input %x : f32[T, 2, 3]\ninput %first : f32[2, 4]\ninput %c : f32[2, 4]\nweight @w : f32[3, 16]\nweight @u : f32[4, 16]\n\
             weight @b : f32[16]\nweight @o : f32[4, 3]",
    before: "%h = tanh %first : f32[2, 4] from \"/first\"",
    carried: &[("h", "f32[2, 4]", "{.}hn"), ("c", "f32[2, 4]", "{.}cn")],
    scanned: &[("x", "f32[2, 3]")],
    captured: &[("w", "f32[3, 16]"), ("u", "f32[4, 16]"), ("b", "f32[16]")],
    step: "%{.}a = dot %{x}, %w, %b {contract=1x0} : f32[2, 16] from \"/in\"\n\
           %{.}r = dot %{h}, %u {contract=1x0} : f32[2, 16] from \"/state\"\n\
           %{.}s = add %{.}a, %{.}r : f32[2, 16] from \"/sum\"\n\
           %{.}s0 = slice %{.}s {start=[0, 0]} : f32[2, 4]\n%{.}s1 = slice %{.}s {start=[0, 4]} : f32[2, 4]\n\
           %{.}s2 = slice %{.}s {start=[0, 8]} : f32[2, 4]\n%{.}s3 = slice %{.}s {start=[0, 12]} : f32[2, 4]\n\
           %{.}i = sigmoid %{.}s0 : f32[2, 4]\n%{.}f = sigmoid %{.}s1 : f32[2, 4]\n%{.}g = tanh %{.}s2 : f32[2, 4]\n\
           %{.}o = sigmoid %{.}s3 : f32[2, 4]\n%{.}fc = mul %{.}f, %{c} : f32[2, 4] from \"/forget\"\n\
           %{.}ig = mul %{.}i, %{.}g : f32[2, 4] from \"/input\"\n%{.}cn = add %{.}fc, %{.}ig : f32[2, 4] from \"/cell\"\n\
           %{.}tc = tanh %{.}cn : f32[2, 4]\n%{.}hn = mul %{.}o, %{.}tc : f32[2, 4] from \"/output\"",
    stacks: &[("all", "f32[2, 4]", "{.}hn")],
    after: "%rows = dot %{all.all}, @o {contract=2x0} : f32[T, 2, 3] from \"/read\"\n\
            %mean = reduce_mean %rows {axes=[0]} : f32[2, 3] from \"/mean\"\n\
            %end = slice %{c.last} {start=[0, 1]} : f32[2, 3]\n%y = add %mean, %end : f32[2, 3] from \"/y\"",
    explained: &["x", "first", "c"],
};

/// A selective scan: parameters outside, products with them inside.
const SELECTIVE: Network = Network {
    header: "input %x : f32[T, 2, 3]\ninput %h : f32[2, 3]\nweight @w : f32[3, 3]\nweight @v : f32[3, 3]",
    before: "%u = swish %x : f32[T, 2, 3] from \"/u\"\n%d = dot %u, @w {contract=2x0} : f32[T, 2, 3] from \"/delta\"\n\
             %soft = softplus %d : f32[T, 2, 3]\n%neg = neg %soft : f32[T, 2, 3]\n%a = exp %neg : f32[T, 2, 3] from \"/decay\"\n\
             %p = dot %u, @v {contract=2x0} : f32[T, 2, 3] from \"/p\"\n%i = mul %u, %p : f32[T, 2, 3] from \"/in\"",
    carried: &[("h", "f32[2, 3]", "{.}s")],
    scanned: &[("a", "f32[2, 3]"), ("i", "f32[2, 3]"), ("p", "f32[2, 3]")],
    captured: &[],
    step: "%{.}ah = mul %{a}, %{h} : f32[2, 3] from \"/scan\"\n%{.}s = add %{.}ah, %{i} : f32[2, 3] from \"/sum\"\n\
           %{.}q = mul %{.}s, %{p} : f32[2, 3] from \"/out\"",
    stacks: &[("all", "f32[2, 3]", "{.}q")],
    after: "%g = swish %x : f32[T, 2, 3] from \"/gate\"\n%o = mul %{all.all}, %g : f32[T, 2, 3] from \"/gated\"\n\
            %y = reduce_sum %o {axes=[0]} : f32[2, 3] from \"/y\"",
    explained: &["x", "h"],
};

/// A captured activation, a normalisation, attention over a captured memory, and states that change places.
const MIXED: Network = Network {
    header: "input %x : f32[T, 2, 3]\ninput %first : f32[2, 3]\ninput %second : f32[2, 3]\ninput %m : f32[5, 3]\nweight @w : f32[3, 3]\n\
             weight @s : f32[3]\nweight @b : f32[3]",
    before: "%k = relu %m : f32[5, 3] from \"/memory\"\n%h = swish %first : f32[2, 3] from \"/first\"\n\
             %e = max %second, %h : f32[2, 3] from \"/second\"",
    carried: &[("h", "f32[2, 3]", "{e}"), ("e", "f32[2, 3]", "{.}n")],
    scanned: &[("x", "f32[2, 3]")],
    captured: &[("k", "f32[5, 3]"), ("w", "f32[3, 3]"), ("s", "f32[3]"), ("b", "f32[3]")],
    step: "%{.}q = dot %{h}, %w {contract=1x0} : f32[2, 3] from \"/query\"\n\
           %{.}z = dot %{.}q, %k {contract=1x1} : f32[2, 5] from \"/scores\"\n\
           %{.}a = softmax %{.}z {axis=1} : f32[2, 5] from \"/softmax\"\n\
           %{.}r = dot %{.}a, %k {contract=1x0} : f32[2, 3] from \"/read\"\n\
           %{.}x = add %{.}r, %{x} : f32[2, 3] from \"/residual\"\n\
           %{.}l = layer_norm %{.}x, %s, %b {axis=1, eps=1e-5} : f32[2, 3] from \"/norm\"\n\
           %{.}g = gelu %{.}l : f32[2, 3] from \"/gelu\"\n%{.}p = mul %{.}g, %{e} : f32[2, 3] from \"/product\"\n\
           %{.}n = max %{.}p, %{h} : f32[2, 3] from \"/max\"",
    stacks: &[("all", "f32[2, 3]", "{.}l"), ("before", "f32[2, 3]", "{h}")],
    after: "%f = reduce_sum %{all.all} {axes=[0]} : f32[2, 3] from \"/f\"\n%j = reduce_mean %{before.all} {axes=[0]} : f32[2, 3] from \"/j\"\n\
            %n = add %f, %j : f32[2, 3] from \"/n\"\n%o = add %n, %{e.last} : f32[2, 3] from \"/o\"\n%y = add %o, %{h.last} : f32[2, 3] from \"/y\"",
    explained: &["x", "first", "second", "m"],
};

/// What is added inside depends on an input by a condition outside of the loop: it is no bias, though no relevance passes it.
const MASKED: Network = Network {
    header: "input %x : f32[T, 2, 3]\ninput %first : f32[2, 4]\nweight @w : f32[3, 4]\nweight @u : f32[4, 4]\nweight @b : f32[4]",
    before: "%h = tanh %first : f32[2, 4] from \"/first\"\n%zero = const 0 : f32[2, 4]\n\
             %high = const 0.75 : f32[2, 4]\n%low = const -0.5 : f32[2, 4]\n%p = greater %first, %zero : bool[2, 4]\n\
             %step = where %p, %high, %low : f32[2, 4] from \"/step\"",
    captured: &[("step", "f32[2, 4]"), ("w", "f32[3, 4]"), ("u", "f32[4, 4]"), ("b", "f32[4]")],
    step: "%{.}i = tanh %{x} : f32[2, 3] from \"/hidden\"\n\
           %{.}a = dot %{.}i, %w, %b {contract=1x0} : f32[2, 4] from \"/in\"\n\
           %{.}m = add %{.}a, %step : f32[2, 4] from \"/masked\"\n\
           %{.}r = dot %{h}, %u {contract=1x0} : f32[2, 4] from \"/state\"\n\
           %{.}s = add %{.}m, %{.}r : f32[2, 4] from \"/sum\"\n\
           %{.}t = tanh %{.}s : f32[2, 4] from \"/tanh\"",
    ..RECURRENT
};

/// As [`RECURRENT`], from a state of zeros, which is no tensor to explain.
const FROM_ZERO: Network = Network {
    header: "input %x : f32[T, 2, 3]\nweight @w : f32[3, 4]\nweight @u : f32[4, 4]\nweight @b : f32[4]",
    before: "%h = const 0 : f32[2, 4]",
    explained: &["x"],
    ..RECURRENT
};

fn check(network: &Network, steps: &[usize], rules: &[String], tolerance: f64) {
    compare(network, network, &[], steps, rules, tolerance);
}

/// The loop of `network` against what `written` is without one, in which the inputs `zero` are 0: results that both have,
/// and what is absorbed. All are compared, then those that differ are told.
fn compare(network: &Network, written: &Network, zero: &[&str], steps: &[usize], rules: &[String], tolerance: f64) {
    let looped: Vec<_> = rules.iter().map(|rules| explain(&network.looped(), rules, network.explained)).collect();
    let mut failed = Vec::new();
    for &steps in steps {
        let mut tensors = written.tensors(steps, &mut Random::new(7 + steps as u64));
        zero.iter().for_each(|name| tensors.get_mut(*name).unwrap().fill(0.0));
        for (rules, looped) in rules.iter().zip(&looped) {
            let unrolled = explain(&written.unrolled(steps), rules, written.explained);
            let (one, mut other) = (run(looped, &tensors, &[("T", steps as i64)]), run(&unrolled, &tensors, &[]));
            other.results.retain(|name, _| one.results.contains_key(name));
            let difference = difference(&one, &other);
            if difference.is_nan() || difference > tolerance {
                failed.push(format!("{rules}, {steps} steps: {difference:e}"));
            }
            closes(&one, 1e-10);
            for (one, other) in one.totals.iter().zip(&other.totals) {
                let of = |total: &LedgerTotal, kind| total.absorbed.get(&kind).copied().unwrap_or_default();
                for kind in [Absorbed::Bias, Absorbed::Stabiliser, Absorbed::Rule] {
                    let left = (of(one, kind) - of(other, kind)).abs();
                    if left.is_nan() || left > 1e-10 * other.scale.max(1e-300) {
                        failed.push(format!("{rules}, {steps} steps, {}: {left:e}", kind.name()));
                    }
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_recurrent_layer() {
    check(&RECURRENT, &[0, 1, 5], &composites(), 1e-12);
}

#[test]
fn a_gated_cell() {
    check(&GATED, &[1, 5], &composites(), 1e-12);
}

#[test]
fn a_selective_scan() {
    check(&SELECTIVE, &[1, 5], &composites(), 1e-12);
}

#[test]
fn captured_activations_and_states_that_change_places() {
    check(&MIXED, &[1, 4], &composites(), 1e-11);
}

#[test]
fn a_captured_choice_of_constants() {
    check(&MASKED, &[1, 5], &composites(), 1e-12);
}

/// One rule serves all runs, the one of later runs: there the state is no activation, though it begins as one.
#[test]
fn a_state_that_begins_as_an_activation() {
    let begins = Network {
        before: "%k = relu %m : f32[5, 3] from \"/memory\"\n%h = swish %first : f32[2, 3] from \"/first\"\n\
                 %e = tanh %second : f32[2, 3] from \"/second\"",
        ..MIXED
    };
    // The maximum is always the activation, and hides it.
    let hidden = Network {
        before: "%k = relu %m : f32[5, 3] from \"/memory\"\n%h = swish %first : f32[2, 3] from \"/first\"\n\
                 %t = tanh %second : f32[2, 3] from \"/second\"\n%low = const -2 : f32[2, 3]\n\
                 %e = max %t, %low : f32[2, 3] from \"/hidden\"",
        ..MIXED
    };
    compare(&begins, &hidden, &[], &[1, 4], &composites(), 1e-11);
}

/// The loop adds an activation that happens to be zero.
#[test]
fn a_state_of_zeros() {
    compare(&FROM_ZERO, &RECURRENT, &["first"], &[1, 4], &composites(), 1e-12);
}

/// Written out, the first step adds a constant, which is a bias of the map before: one stabiliser fewer. Where halves are
/// given to both summands whatever they are, it is another network.
#[test]
fn a_state_of_zeros_that_is_a_constant() {
    let mut rules = composites();
    rules.retain(|rules| rules != "resnet-symmetric");
    let rules: Vec<String> = rules.iter().map(|rules| unstabilised(rules)).collect();
    check(&FROM_ZERO, &[1, 4], &rules, 1e-12);
}

/// With ε = 0, where the composite has an ε.
fn unstabilised(rules: &str) -> String {
    let with = match rules.split_once('(') {
        Some((name, rest)) => format!("{name}(eps=0, {rest}"),
        None => format!("{rules}(eps=0)"),
    };
    if Composite::named(&with).is_ok() { with } else { rules.to_string() }
}

#[test]
fn a_thousand_steps() {
    let rules: Vec<String> = ["epsilon", "attnlrp"].map(String::from).into();
    check(&RECURRENT, &[1000], &rules, 1e-12);
}
