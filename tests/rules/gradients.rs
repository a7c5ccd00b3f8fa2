//! The gradient of every differentiable operation against central differences of the forward results.

use lrpc_ir::ops::Function;
use lrpc_ir::plan::Precision;
use lrpc_passes::relevance::composite::Composite;
use ndarray::ArrayD;

use crate::check::{assert_close, largest};
use crate::funnel::{Explanation, Tensors, explain, read, run};
use crate::numbers::Random;

/// Runs only the forward part, `y[:, k]` summed with the weights of the seed.
fn explained(body: &str, tensors: &Tensors) -> f64 {
    let forward = read(body);
    let y = run(&forward, tensors, Precision::F64).results["output/y"].clone();
    y.rows().into_iter().map(|row| row[1] - row[0]).sum()
}

/// Gradients of `y[:, 1] − y[:, 0]` towards inputs, against central differences.
fn check(body: &str, tensors: &Tensors, inputs: &[&str]) {
    let mut explanation = Explanation::of(Composite::named("gradient").unwrap(), inputs);
    explanation.targets = vec!["y[:,1]-y[:,0]".into()];
    let graph = explain(body, &explanation);
    let outcome = run(&graph, tensors, Precision::F64);
    for &name in inputs {
        let x = &tensors[name];
        let mut expected = ArrayD::zeros(x.raw_dim());
        for (at, &value) in x.indexed_iter() {
            let step = 1e-5;
            let moved = |by: f64| {
                let mut tensors = tensors.clone();
                tensors.get_mut(name).unwrap()[&at] = value + by;
                explained(body, &tensors)
            };
            expected[&at] = (moved(step) - moved(-step)) / (2.0 * step);
        }
        let found = outcome.relevance(name);
        assert_close(found, &expected, 1e-7 * largest(&expected).max(1e-2), &format!("{name} of\n{body}"));
    }
}

/// A graph from `%x [2, 4, 6]` through `forward`, which ends in `%z` of `size` elements per row, to `%y [2, 2]`.
fn chain(header: &str, forward: &str, size: usize) -> String {
    format!(
        "input %x : f32[2, 4, 6]\nweight @head : f32[{size}, 2]\n{header}\nforward\n{forward}\n\
         %flat = reshape %z : f32[2, {size}]\n%y = dot %flat, @head {{contract=1x0}} : f32[2, 2]\nresult \"output/y\" = %y\n"
    )
}

fn numbers(seed: u64, size: usize, others: &[(&str, &[usize])]) -> Tensors {
    let random = &mut Random::new(seed);
    // Away from zero, where functions have their kinks.
    let mut tensors = Tensors::from([
        ("x".to_string(), random.away_from_zero(&[2, 4, 6])),
        ("head".to_string(), random.away_from_zero(&[size, 2])),
    ]);
    for (name, shape) in others {
        tensors.insert(name.to_string(), random.away_from_zero(shape));
    }
    tensors
}

#[test]
fn of_products_over_axes() {
    for (axes, size) in [("[2]", 4), ("[1, 2]", 1)] {
        let mut tensors = numbers(3, size, &[]);
        // One factor that is 0 leaves that one alone a slope, two leave none.
        for at in [[0, 0, 1], [1, 2, 3], [1, 2, 4]] {
            tensors.get_mut("x").unwrap()[&at[..]] = 0.0;
        }
        let shape = if size == 4 { "2, 4" } else { "2" };
        let forward = format!("%z = reduce_product %x {{axes={axes}}} : f32[{shape}]");
        check(&chain("", &forward, size), &tensors, &["x"]);
    }
}

#[test]
fn of_a_remainder() {
    let header = "weight @c : f32[2, 4, 6]";
    for name in ["mod", "fmod"] {
        let forward = format!("%z = {name} %x, @c : f32[2, 4, 6]");
        check(&chain(header, &forward, 24), &numbers(5, 24, &[("c", &[2, 4, 6])]), &["x"]);
    }
}

#[test]
fn of_every_function() {
    let with_parameters = [
        ("leaky_relu", "{alpha=0.1}"),
        ("selu", "{alpha=1.67, gamma=1.05}"),
        ("hard_sigmoid", "{alpha=0.2, beta=0.5}"),
        ("pow_by", "{exponent=3}"),
        ("thresholded_relu", "{alpha=0.1}"),
        ("clip", "{low=-0.9, high=0.2}"),
        ("scale", "{by=-1.5}"),
        ("shift", "{by=0.5}"),
        ("stabilise", "{eps=0.01}"),
        ("stabilise_clip", "{eps=0.01}"),
        ("stabiliser", "{eps=0.01}"),
        ("swish", "{beta=1.3}"),
        ("shrink", "{limit=0.1, by=0.3}"),
    ];
    // What is held constant is so for the gradient alone.
    let has_slope = |function: &Function| !function.is_step() && *function != Function::StopGradient;
    for (seed, function) in Function::all().filter(has_slope).enumerate() {
        let name = function.name();
        let attributes = with_parameters.iter().find(|(has, _)| *has == name).map_or("", |(_, attributes)| attributes);
        // Logarithm, root and the like are asked about positive numbers, which `abs` makes; inverses of functions about
        // their values, and the tangent about numbers between its poles.
        let before = match name {
            "acosh" => "%m = abs %x : f32[2, 4, 6]\n%a = shift %m {by=1.1} : f32[2, 4, 6]",
            "asin" | "acos" | "atanh" | "tan" => "%m = tanh %x : f32[2, 4, 6]\n%a = scale %m {by=0.9} : f32[2, 4, 6]",
            _ => "%a = abs %x : f32[2, 4, 6]",
        };
        let forward = format!("{before}\n%p = {name} %a {attributes} : f32[2, 4, 6]\n%z = add %p, %x : f32[2, 4, 6]");
        check(&chain("", &forward, 24), &numbers(seed as u64, 24, &[]), &["x"]);
        if matches!(name, "log" | "sqrt" | "acosh" | "asin" | "acos" | "atanh" | "tan") {
            continue;
        }
        let forward = format!("%f = {name} %x {attributes} : f32[2, 4, 6]\n%z = add %f, %x : f32[2, 4, 6]");
        check(&chain("", &forward, 24), &numbers(seed as u64, 24, &[]), &["x"]);
    }
}

/// Text behind `%z =` by operation, with its header, shapes of what the header names, and the size of `%z` per row.
type Case = (&'static str, &'static str, &'static [(&'static str, &'static [usize])], usize);

const CASES: &[Case] = &[
    (
        "weight @w : f32[6, 5]\nweight @b : f32[5]",
        "%z = dot %x, @w, @b {contract=2x0} : f32[2, 4, 5]",
        &[("w", &[6, 5]), ("b", &[5])],
        20,
    ),
    (
        "weight @w : f32[5, 4]",
        "%t = dot @w, %x {contract=1x1} : f32[5, 2, 6]\n%z = transpose %t {perm=[1, 0, 2]} : f32[2, 5, 6]",
        &[("w", &[5, 4])],
        30,
    ),
    (
        "",
        "%t = transpose %x {perm=[0, 2, 1]} : f32[2, 6, 4]\n%z = dot %x, %t {batch=0x0, contract=2x1} : f32[2, 4, 4]",
        &[],
        16,
    ),
    (
        "weight @w : f32[6, 2, 3]\nweight @b : f32[6]",
        "%z = conv %x, @w, @b {stride=2, pad=1, groups=2} : f32[2, 6, 3]",
        &[("w", &[6, 2, 3]), ("b", &[6])],
        18,
    ),
    ("weight @w : f32[3, 4, 2]", "%z = conv %x, @w {dilation=2} : f32[2, 3, 4]", &[("w", &[3, 4, 2])], 12),
    (
        "weight @w : f32[4, 3, 3]\nweight @b : f32[3]",
        "%z = conv_transpose %x, @w, @b {stride=2, pad=1} : f32[2, 3, 12]",
        &[("w", &[4, 3, 3]), ("b", &[3])],
        36,
    ),
    ("", "%z = pool %x {kind=max, window=[3], stride=2, pad=1} : f32[2, 4, 3]", &[], 12),
    ("", "%z = pool %x {kind=average, window=[3], stride=2, pad=1} : f32[2, 4, 3]", &[], 12),
    ("", "%z = pool %x {kind=average_with_padding, window=[3], stride=2, pad=1, pad_after=1} : f32[2, 4, 3]", &[], 12),
    ("", "%z = pool %x {kind=sum, window=[2], stride=2} : f32[2, 4, 3]", &[], 12),
    ("", "%z = resize %x {mode=linear, coordinates=half_pixel} : f32[2, 4, 9]", &[], 36),
    ("", "%z = resize %x {mode=cubic, coordinates=align_corners} : f32[2, 4, 4]", &[], 16),
    ("", "%z = resize %x {mode=nearest, coordinates=asymmetric} : f32[2, 4, 8]", &[], 32),
    ("", "%z = resize %x {mode=cubic, coordinates=half_pixel, antialias=true} : f32[2, 4, 3]", &[], 12),
    ("", "%z = resize %x {mode=linear, coordinates=crop_and_resize, region=[0.2, 1.3]} : f32[2, 4, 5]", &[], 20),
    ("", "%z = reduce_sum %x {axes=[2]} : f32[2, 4]", &[], 4),
    ("", "%z = reduce_mean %x {axes=[1]} : f32[2, 6]", &[], 6),
    ("", "%z = reduce_max %x {axes=[1]} : f32[2, 6]", &[], 6),
    ("", "%z = reduce_min %x {axes=[2]} : f32[2, 4]", &[], 4),
    (
        "weight @w : f32[6]\nweight @b : f32[6]",
        "%z = layer_norm %x, @w, @b {axis=2, eps=0.001} : f32[2, 4, 6]",
        &[("w", &[6]), ("b", &[6])],
        24,
    ),
    (
        "weight @w : f32[4, 6]\nweight @b : f32[4, 6]",
        "%z = layer_norm %x, @w, @b {axis=1, eps=0.001} : f32[2, 4, 6]",
        &[("w", &[4, 6]), ("b", &[4, 6])],
        24,
    ),
    ("weight @w : f32[6]", "%z = rms_norm %x, @w {axis=2, eps=0.001} : f32[2, 4, 6]", &[("w", &[6])], 24),
    (
        "weight @w : f32[4]\nweight @b : f32[4]",
        "%z = group_norm %x, @w, @b {groups=2, eps=0.001} : f32[2, 4, 6]",
        &[("w", &[4]), ("b", &[4])],
        24,
    ),
    ("", "%z = softmax %x {axis=2} : f32[2, 4, 6]", &[], 24),
    ("", "%z = softmax %x {axis=1} : f32[2, 4, 6]", &[], 24),
    ("", "%z = log_softmax %x {axis=2} : f32[2, 4, 6]", &[], 24),
    ("", "%s = sin %x : f32[2, 4, 6]\n%z = concat %x, %s {axis=1} : f32[2, 8, 6]", &[], 48),
    ("", "%z = slice %x {start=[0, 1, 5], step=[1, 2, -2]} : f32[2, 2, 3]", &[], 6),
    ("", "%z = pad %x {before=[0, 0, 1], value=0.5} : f32[2, 4, 9]", &[], 36),
    ("", "%z = pad %x {before=[0, 0, -1]} : f32[2, 4, 5]", &[], 20),
    ("", "%z = transpose %x {perm=[0, 2, 1]} : f32[2, 6, 4]", &[], 24),
    ("", "%z = cumulative_sum %x {axis=2, exclusive=true, reverse=true} : f32[2, 4, 6]", &[], 24),
    ("", "%z = cumulative_sum %x {axis=1} : f32[2, 4, 6]", &[], 24),
    ("", "%i = const [0, 3, 3, -1] : i64[4]\n%z = gather %x, %i {axis=2} : f32[2, 4, 4]", &[], 16),
    ("", "%i = const [0, 1, 1, 2, 0, 2] : i64[6]\n%z = scatter_add %x, %i {axis=2} : f32[2, 4, 3]", &[], 12),
    ("weight @c : f32[2, 4, 6]", "%z = prelu %x, @c : f32[2, 4, 6]", &[("c", &[2, 4, 6])], 24),
    (
        "weight @c : f32[2, 4, 6]",
        "%a = abs %x : f32[2, 4, 6]\n%z = pow %a, @c : f32[2, 4, 6]",
        &[("c", &[2, 4, 6])],
        24,
    ),
    ("weight @c : f32[2, 4, 6]", "%z = div @c, %x : f32[2, 4, 6]", &[("c", &[2, 4, 6])], 24),
];

#[test]
fn of_every_operation() {
    for (seed, (header, forward, others, size)) in CASES.iter().enumerate() {
        check(&chain(header, forward, *size), &numbers(seed as u64, *size, others), &["x"]);
    }
}

#[test]
fn of_two_operands() {
    let where_above = "%zero = const 0 : f32[2, 4, 6]\n%on = greater %a, %zero : bool[2, 4, 6]\n%z = where %on, %x, %a";
    let ops = [
        "%z = mul %x, %a",
        "%z = div %x, %a",
        "%z = add %x, %a",
        "%z = sub %x, %a",
        "%z = min %x, %a",
        "%z = max %x, %a",
        where_above,
    ];
    for (seed, op) in ops.iter().enumerate() {
        let body = chain("input %a : f32[2, 4, 6]", &format!("{op} : f32[2, 4, 6]"), 24);
        check(&body, &numbers(seed as u64, 24, &[("a", &[2, 4, 6])]), &["x", "a"]);
    }
}
