//! Relevance of weights: against the contributions of the rules' twins, summed by weight, and against differences.

use lrpc_ir::Absorbed;
use lrpc_ir::plan::Precision;
use lrpc_passes::relevance::composite::Composite;
use lrpc_twins::linear::{Dense, Geometry, dense_of_conv, dense_of_conv_transpose};
use lrpc_twins::rules::{self, BiasPolicy};
use lrpc_twins::share::Shared;
use ndarray::{Array1, Array2, ArrayD, Axis, IxDyn};

use crate::check::{absorbed, assert_close, largest, line_of};
use crate::funnel::{Explanation, Tensors, explain, read, run};
use crate::numbers::{Random, Style};

/// The kernel, the input and the output of a linear map `%y` of `%x`, and the matrix that a kernel makes of it.
struct Map {
    line: String,
    kernel: Vec<usize>,
    input: Vec<usize>,
    output: Vec<usize>,
    matrix: Matrix,
}

/// Makes the matrix of one sample from a kernel.
type Matrix = Box<dyn Fn(&ArrayD<f64>) -> Dense>;

fn conv(line: &str, kernel: &[usize], input: &[usize], geometry: Geometry) -> Map {
    let sample = input[1..].to_vec();
    let matrix = move |kernel: &ArrayD<f64>| dense_of_conv(kernel, &sample, &geometry);
    map(line, kernel, input, Box::new(matrix))
}

fn map(line: &str, kernel: &[usize], input: &[usize], matrix: Matrix) -> Map {
    let shape = matrix(&ArrayD::zeros(IxDyn(kernel))).output_shape;
    let output = [&input[..1], &shape].concat();
    Map { line: line.into(), kernel: kernel.to_vec(), input: input.to_vec(), output, matrix }
}

/// Convolutions of one to three axes with stride, padding, dilation and groups, their adjoints, and matrices.
fn maps() -> Vec<Map> {
    let plain = Geometry::plain;
    let strided = Geometry { strides: vec![2, 1], pads: vec![1, 0, 1, 2], dilations: vec![1, 2], groups: 2 };
    let back = Geometry { strides: vec![2], pads: vec![1, 1], dilations: vec![2], groups: 2 };
    let channels = |dense: Dense| dense.with_channel_bias(&Array1::zeros(4));
    let dot = |kernel: &ArrayD<f64>| {
        let matrix: Array2<f64> = kernel.clone().into_dimensionality().unwrap();
        lrpc_twins::linear::dense_of_dot(&matrix)
    };
    let turned = |kernel: &ArrayD<f64>| {
        let matrix: Array2<f64> = kernel.clone().into_dimensionality().unwrap();
        lrpc_twins::linear::dense_of_dot(&matrix.reversed_axes())
    };
    vec![
        conv("conv %x, @w, @b", &[3, 2, 3], &[2, 2, 6], plain(1)),
        conv(
            "conv %x, @w, @b {stride=[2, 1], pad=[1, 0], dilation=[1, 2], groups=2}",
            &[4, 2, 3, 2],
            &[3, 4, 5, 6],
            strided,
        ),
        conv("conv %x, @w, @b", &[2, 1, 2, 1, 2], &[2, 1, 3, 2, 3], plain(3)),
        // Enough contributions for sums over |w| in place of clamps.
        conv("conv %x, @w, @b", &[2, 5, 3, 3], &[1, 5, 4, 4], plain(2)),
        map(
            "conv_transpose %x, @w, @b {stride=2, pad=1, dilation=2, groups=2}",
            &[4, 2, 3],
            &[2, 4, 4],
            Box::new(move |kernel| channels(dense_of_conv_transpose(kernel, &[4, 4], &back, &[1]))),
        ),
        map("dot %x, @w, @b {contract=1x0}", &[5, 3], &[4, 5], Box::new(dot)),
        map("dot %x, @w, @b {contract=1x1}", &[3, 35], &[2, 35], Box::new(turned)),
    ]
}

type Twin = fn(&Dense, &Array1<f64>, &Array1<f64>) -> Shared;

const RULES: &[(&str, &str, Twin)] = &[
    ("Epsilon", "eps = 0.01", |map, x, r| rules::epsilon(map, x, r, 0.01, BiasPolicy::Include)),
    ("Epsilon", "eps = 0.01, bias = 'exclude'", |map, x, r| rules::epsilon(map, x, r, 0.01, BiasPolicy::Exclude)),
    ("ZPlus", "eps = 0.01", |map, x, r| rules::z_plus(map, x, r, 0.01)),
    ("Gamma", "eps = 0.01, gamma = 0.5", |map, x, r| rules::gamma(map, x, r, 0.5, 0.01)),
    ("AlphaBeta", "eps = 0.01, alpha = 2.0, beta = 1.0", |map, x, r| rules::alpha_beta(map, x, r, (2.0, 1.0), 0.01)),
    ("WSquare", "eps = 0.01", |map, _, r| rules::w_square(map, r, 0.01)),
    ("ZBox", "eps = 0.01, low = -1.0, high = 1.5", |map, x, r| {
        let bounds = [-1.0, 1.5].map(|bound| Array1::from_elem(x.len(), bound));
        rules::z_box(map, x, r, (&bounds[0], &bounds[1]), 0.01)
    }),
];

/// `(input, output)` pairs of the matrix, each with the kernel's element that connects them.
fn elements(map: &Map) -> Vec<(usize, usize, usize)> {
    let count = map.kernel.iter().product::<usize>();
    let numbered = ArrayD::from_shape_vec(IxDyn(&map.kernel), (1..=count).map(|at| at as f64).collect()).unwrap();
    let matrix = (map.matrix)(&numbered);
    let connected = matrix.connected.indexed_iter().filter(|(_, connected)| **connected);
    connected.map(|((i, j), _)| (i, j, matrix.weight[[i, j]] as usize - 1)).collect()
}

/// Relevance of kernel and bias: each output's relevance alone gives its contributions, which are added by the kernel's
/// element.
fn expected(map: &Map, tensors: &Tensors, relevance: &ArrayD<f64>, twin: Twin) -> (ArrayD<f64>, ArrayD<f64>) {
    let bias: Array1<f64> = tensors["b"].iter().copied().collect();
    let mut dense = (map.matrix)(&tensors["w"]);
    let places = dense.bias.len() / bias.len();
    dense.bias = Array1::from_shape_fn(dense.bias.len(), |j| bias[j / places]);
    let elements = elements(map);
    let mut kernel = vec![0.0; map.kernel.iter().product()];
    let mut biases = vec![0.0; bias.len()];
    for (x, r) in tensors["x"].axis_iter(Axis(0)).zip(relevance.axis_iter(Axis(0))) {
        let x: Array1<f64> = x.iter().copied().collect();
        let columns: Vec<Shared> = (r.iter().enumerate())
            .map(|(j, &r)| {
                let mut alone = Array1::zeros(dense.bias.len());
                alone[j] = r;
                twin(&dense, &x, &alone)
            })
            .collect();
        for &(i, j, element) in &elements {
            kernel[element] += columns[j].input[i];
        }
        columns.iter().enumerate().for_each(|(j, column)| biases[j / places] += column.bias);
    }
    (ArrayD::from_shape_vec(IxDyn(&map.kernel), kernel).unwrap(), Array1::from(biases).into_dyn())
}

fn body(map: &Map, channels: usize) -> String {
    let Map { line, kernel, input, output, .. } = map;
    let size: usize = output.iter().product();
    format!(
        "weight @w : f32{kernel:?}\nweight @b : f32[{channels}]\nweight @head : f32[{size}, 2]\ninput %x : f32{input:?}\nforward\n\
         %y = {line} : f32{output:?} from \"/site\"\n%row = reshape %y : f32[1, {size}] from \"/row\"\n\
         %scores = dot %row, @head {{contract=1x0}} : f32[1, 2] from \"/head\"\nresult \"output/scores\" = %scores\n"
    )
}

fn numbers(map: &Map, channels: usize, random: &mut Random) -> Tensors {
    let size = map.output.iter().product();
    Tensors::from([
        ("x".to_string(), random.tensor(&map.input, Style::Fine)),
        ("w".to_string(), random.tensor(&map.kernel, Style::Fine)),
        ("b".to_string(), random.tensor(&[channels], Style::Fine)),
        ("head".to_string(), random.tensor(&[size, 2], Style::Fine)),
    ])
}

#[test]
fn relevance_of_weights_is_the_same_contributions_summed_the_other_way() {
    let random = &mut Random::new(3);
    let mut cases = 0;
    for map in maps() {
        let channels = map.output[1];
        for (rule, with, twin) in RULES {
            let tensors = numbers(&map, channels, random);
            let toml = format!(
                "name = 'test'\ndoc = ''\nextends = 'epsilon'\n[[rule]]\nname = '/site'\nuse = '{rule}'\nwith = {{ {with} }}\n\
                 [[rule]]\nname = '/head'\nuse = 'WSquare'\n"
            );
            let mut explanation = Explanation::of(Composite::from_toml(&toml).unwrap(), &["x", "y"]);
            explanation.weights = vec!["w".into(), "b".into()];
            explanation.targets = vec!["scores[:,0]-scores[:,1]".into()];
            explanation.unit_seed = true;
            let graph = explain(&body(&map, channels), &explanation);
            let outcome = run(&graph, &tensors, Precision::F64);
            let (kernel, bias) = expected(&map, &tensors, outcome.relevance("y"), *twin);
            let what = format!("{rule} {with}: {}", map.line);
            let scale = largest(&kernel).max(largest(outcome.relevance("y")));
            assert_close(outcome.relevance("w"), &kernel, 1e-10 * scale, &what);
            assert_close(outcome.relevance("b"), &bias, 1e-10 * scale, &what);
            // The same relevance twice: the sums agree with that of the input and with the ledger.
            let sums = ["x", "w", "b"].map(|name| outcome.relevance(name).sum());
            let total: f64 = outcome.relevance("x").iter().map(|value| value.abs()).sum();
            assert!((sums[0] - sums[1]).abs() <= 1e-10 * total, "{sums:?} {what}");
            let share = absorbed(line_of(&outcome.ledger, "/site"), Absorbed::Bias);
            assert!((sums[2] - share).abs() <= 1e-10 * total.max(1.0), "{sums:?} {share} {what}");
            cases += 1;
        }
    }
    assert_eq!(cases, 49);
}

#[test]
fn gradients_of_weights_agree_with_differences() {
    let random = &mut Random::new(5);
    for map in maps() {
        let channels = map.output[1];
        let body = body(&map, channels)
            .replace("%row = reshape %y", &format!("%t = tanh %y : f32{:?}\n%row = reshape %t", map.output));
        let mut tensors = numbers(&map, channels, random);
        // Weights are f32: eighths, and steps that they hold exactly.
        for name in ["w", "b"] {
            tensors.get_mut(name).unwrap().mapv_inplace(|value| (value * 8.0).round() / 8.0);
        }
        let step = 1.0 / 1024.0;
        for (composite, is_product) in [("gradient", false), ("input-x-gradient", true)] {
            let mut explanation = Explanation::of(Composite::named(composite).unwrap(), &["x"]);
            explanation.weights = vec!["w".into(), "b".into()];
            explanation.targets = vec!["scores[:,0]-scores[:,1]".into()];
            let outcome = run(&explain(&body, &explanation), &tensors, Precision::F64);
            for name in ["w", "b"] {
                let score = |tensors: &Tensors| {
                    let scores = &run(&read(&body), tensors, Precision::F64).results["output/scores"];
                    scores[[0, 0]] - scores[[0, 1]]
                };
                let mut gradient = ArrayD::zeros(tensors[name].raw_dim());
                for (at, &value) in tensors[name].indexed_iter() {
                    let moved = |by: f64| {
                        let mut tensors = tensors.clone();
                        tensors.get_mut(name).unwrap()[&at] = value + by;
                        score(&tensors)
                    };
                    gradient[&at] = (moved(step) - moved(-step)) / (2.0 * step);
                }
                let expected = if is_product { &gradient * &tensors[name] } else { gradient };
                let tolerance = 1e-5 * largest(&expected).max(1.0);
                assert_close(
                    outcome.relevance(name),
                    &expected,
                    tolerance,
                    &format!("{composite} {name} {}", map.line),
                );
            }
        }
    }
}

#[test]
fn a_weight_of_several_layers_gets_the_sum_of_them() {
    let random = &mut Random::new(7);
    let tensors = Tensors::from([
        ("x".to_string(), random.tensor(&[2, 4], Style::Fine)),
        ("w".to_string(), random.tensor(&[4, 4], Style::Fine)),
        ("v".to_string(), random.tensor(&[4, 4], Style::Fine)),
        ("scale".to_string(), random.away_from_zero(&[4, 4])),
    ]);
    // `w` is used as it is, and turned and scaled; `v` is another name for what it is in the second place.
    let body = |second: &str, header: &str| {
        format!(
            "weight @w : f32[4, 4]\nweight @scale : f32[4, 4]\n{header}input %x : f32[2, 4]\nprepare\n\
             %turned = transpose {second} {{perm=[1, 0]}} : f32[4, 4]\n%scaled = mul %turned, @scale : f32[4, 4]\nforward\n\
             %h = dot %x, @w {{contract=1x0}} : f32[2, 4] from \"/first\"\n%a = tanh %h : f32[2, 4] from \"/tanh\"\n\
             %y = dot %a, %scaled {{contract=1x0}} : f32[2, 4] from \"/second\"\nresult \"output/y\" = %y\n"
        )
    };
    for composite in ["epsilon", "gradient", "attnlrp"] {
        let relevance = |body: &str, tensors: &Tensors, weights: &[&str]| {
            let mut explanation = Explanation::of(Composite::named(composite).unwrap(), &["x"]);
            explanation.weights = weights.iter().map(ToString::to_string).collect();
            run(&explain(body, &explanation), tensors, Precision::F64)
        };
        let both = relevance(&body("@w", ""), &tensors, &["w"]);
        let mut split = tensors.clone();
        split.insert("v".into(), tensors["w"].clone());
        let apart = relevance(&body("@v", "weight @v : f32[4, 4]\n"), &split, &["w", "v"]);
        let sum = apart.relevance("w") + apart.relevance("v");
        assert_close(both.relevance("w"), &sum, 1e-12 * largest(&sum), composite);
        assert!(largest(apart.relevance("v")) > 0.0 && both.relevance("x") == apart.relevance("x"));
    }
}

#[test]
fn rules_without_weights_and_other_parameters_are_refused() {
    let refused = |composite: &str, body: &str, weight: &str| {
        let mut graph = read(body);
        let request = lrpc_passes::relevance::Request {
            composites: vec![Composite::named(composite).unwrap()],
            targets: vec![lrpc_passes::relevance::target::Target::default_of("y")],
            wrt: vec![graph.find("x").unwrap()],
            weights: vec![graph.find(weight).unwrap()],
            ..Default::default()
        };
        lrpc_passes::relevance::generate(&mut graph, &request).unwrap_err().to_string()
    };
    let norm = "weight @g : f32[4]\nweight @o : f32[4]\ninput %x : f32[2, 4]\nforward\n\
                %y = layer_norm %x, @g, @o {axis=1, eps=1e-5} : f32[2, 4] from \"/norm\"\nresult \"output/y\" = %y\n";
    let error = refused("epsilon", norm, "g");
    assert!(error.contains("no relevance of weights is defined") && error.contains("/norm"), "{error}");
    let conv = "weight @w : f32[3, 2, 3, 3]\ninput %x : f32[N, 2, 5, 5]\nforward\n\
                %y = conv %x, @w : f32[N, 3, 3, 3] from \"/conv\"\nresult \"output/y\" = %y\n";
    let error = refused("epsilon-plus-flat", conv, "w");
    assert!(error.contains("Flat") && error.contains("no weight carries") && error.contains("/conv"), "{error}");
    let sum = "weight @w : f32[4, 4]\nweight @v : f32[4, 4]\ninput %x : f32[2, 4]\nprepare\n%u = add @w, @v : f32[4, 4]\nforward\n\
               %y = dot %x, %u {contract=1x0} : f32[2, 4] from \"/fc\"\nresult \"output/y\" = %y\n";
    assert!(refused("epsilon", sum, "v").contains("merged with other constants"));
}

#[test]
fn a_kernel_may_be_an_activation() {
    let body = "input %x : f32[2, 4, 6]\ninput %k : f32[6, 2, 3]\nweight @head : f32[72, 2]\nforward\n\
                %y = conv %x, %k {pad=1, groups=2} : f32[2, 6, 6] from \"/conv\"\n%f = reshape %y : f32[1, 72] from \"/flat\"\n\
                %scores = dot %f, @head {contract=1x0} : f32[1, 2] from \"/head\"\nresult \"output/scores\" = %scores\n";
    let random = &mut Random::new(29);
    let shapes: [(&str, &[usize]); 3] = [("x", &[2, 4, 6]), ("k", &[6, 2, 3]), ("head", &[72, 2])];
    let tensors: Tensors =
        shapes.iter().map(|(name, shape)| (name.to_string(), random.away_from_zero(shape))).collect();
    let explained = |composite: &str| {
        let mut explanation = Explanation::of(Composite::named(composite).unwrap(), &["x", "k"]);
        explanation.targets = vec!["scores[:,0]".into()];
        run(&explain(body, &explanation), &tensors, Precision::F64)
    };
    // The map is linear in each operand, so that differences are exact up to rounding.
    let gradient = explained("gradient");
    for name in ["x", "k"] {
        let score = |by: f64, at: &ndarray::Dim<ndarray::IxDynImpl>| {
            let mut tensors = tensors.clone();
            tensors.get_mut(name).unwrap()[at] += by;
            run(&read(body), &tensors, Precision::F64).results["output/scores"][[0, 0]]
        };
        let mut expected = ArrayD::zeros(tensors[name].raw_dim());
        for (at, _) in tensors[name].indexed_iter() {
            expected[&at] = (score(0.5, &at) - score(-0.5, &at)) / 1.0;
        }
        assert_close(gradient.relevance(name), &expected, 1e-10 * largest(&expected), name);
    }
    // Each factor of the product gets half of what arrives.
    let half = explained("epsilon");
    let line = line_of(&half.ledger, "/conv");
    let sums = ["x", "k"].map(|name| half.relevance(name).sum());
    let lost: f64 = line.absorbed.iter().map(|(_, sum)| sum).sum();
    assert!(
        (sums[0] - sums[1]).abs() < 1e-9 * line.scale && (2.0 * sums[0] + lost - line.input).abs() < 1e-9 * line.scale
    );
}
