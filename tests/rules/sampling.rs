//! Composites that run the model several times, against closed forms and loops written from their definitions.

use std::collections::BTreeMap;

use lrpc::data::Tensor;
use lrpc::{ModelWeights, RunOptions, RunOutcome, Session};
use lrpc_ir::plan::Precision;
use lrpc_ir::{Bindings, Graph};
use lrpc_passes::bind::Wanted;
use lrpc_passes::relevance::composite::Composite;
use ndarray::{Array2, ArrayD, Dimension as _, IxDyn};

use crate::funnel::{Explanation, explain, read};
use crate::numbers::Random;

fn compiled(body: &str, rules: &[&str], tensors: &[&str]) -> Graph {
    let composites = rules.iter().map(|rules| Composite::named(rules).unwrap()).collect();
    explain(body, &Explanation { composites, ..Explanation::of(Composite::named("gradient").unwrap(), tensors) })
}

fn run(graph: &Graph, inputs: &[(&str, Tensor)], options: RunOptions) -> RunOutcome {
    let inputs: BTreeMap<String, Tensor> =
        inputs.iter().map(|(name, tensor)| (name.to_string(), tensor.clone())).collect();
    let weights = ModelWeights::default();
    Session::new(graph, &weights, options).run(&inputs, &[], &Bindings::new(), None).unwrap()
}

fn in_f64() -> RunOptions {
    RunOptions { precision: Precision::F64, ..RunOptions::default() }
}

fn tensor(shape: &[usize], values: &[f64]) -> Tensor {
    Tensor::from_slice(shape, values).unwrap()
}

/// Numbers from −1 to 1.
fn draw(seed: u64, count: usize) -> Vec<f64> {
    let mut random = Random::new(seed);
    (0..count).map(|_| random.unit()).collect()
}

fn result(outcome: &RunOutcome, name: &str) -> ArrayD<f64> {
    let tensor = outcome.results.get(name).unwrap_or_else(|| panic!("{name} of {:?}", outcome.results.keys()));
    ArrayD::from_shape_vec(IxDyn(tensor.shape()), tensor.to_f64()).unwrap()
}

#[track_caller]
fn assert_near(found: &ArrayD<f64>, expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= tolerance, "{found} {expected}");
    }
}

/// `y_j = Σ_i a_ij·x_i^power` for `x [batch, 4]`; the weights `a [4, 2]`.
fn powers(batch: &str, power: &str) -> (String, Array2<f64>) {
    let a: Vec<f64> = draw(99, 8).iter().map(|value| (value * 8.0).round() / 8.0).collect();
    let body = format!(
        "input %x : f32[{batch}, 4]\nprepare\n%a = const {a:?} : f32[4, 2]\nforward\n\
         %p = pow_by %x {{exponent={power}}} : f32[{batch}, 4]\n%y = dot %p, %a {{contract=1x0}} : f32[{batch}, 2]\n\
         result \"output/y\" = %y\n"
    );
    (body, Array2::from_shape_vec((4, 2), a).unwrap())
}

/// The weights of the class that a row of [`powers`] has.
fn weights_of(a: &Array2<f64>, x: &[f64], power: i32) -> Vec<f64> {
    let score = |class: usize| -> f64 { x.iter().zip(a.column(class)).map(|(x, a)| a * x.powi(power)).sum() };
    a.column(usize::from(score(1) > score(0))).to_vec()
}

#[test]
fn integrated_gradients_of_powers_are_those_of_the_closed_form() {
    let x = draw(1, 12);
    for (power, points, steps) in [
        (1, "midpoint", 3),
        (2, "midpoint", 1),
        (2, "midpoint", 5),
        (3, "midpoint", 4),
        (3, "right", 7),
        (3, "left", 7),
    ] {
        let (body, a) = powers("N", &power.to_string());
        let rules = format!("integrated-gradients(steps={steps}, points={points})");
        let outcome = run(&compiled(&body, &[&rules], &["x"]), &[("x", tensor(&[3, 4], &x))], in_f64());
        let n = f64::from(steps);
        // ∫ p·αᵖ⁻¹ dα by the rule of the points.
        let share = match (power, points) {
            (1 | 2, _) => 1.0,
            (_, "midpoint") => 1.0 - 1.0 / (4.0 * n * n),
            (_, "right") => (n + 1.0) * (2.0 * n + 1.0) / (2.0 * n * n),
            (_, _) => (n - 1.0) * (2.0 * n - 1.0) / (2.0 * n * n),
        };
        let mut misses = Vec::new();
        let expected: Vec<f64> = x
            .chunks(4)
            .flat_map(|x| {
                let terms = weights_of(&a, x, power).into_iter().zip(x).map(|(a, x)| a * x.powi(power));
                misses.push(terms.clone().sum::<f64>() * (share - 1.0));
                terms.map(|term| term * share).collect::<Vec<f64>>()
            })
            .collect();
        assert_near(&result(&outcome, "relevance/x"), &expected, 1e-12);
        assert_near(&result(&outcome, "completeness"), &misses, 1e-12);
    }
}

#[test]
fn a_baseline_is_a_number_or_given() {
    let (body, a) = powers("N", "2");
    let (x, from) = (draw(2, 4), draw(3, 4));
    let expect = |from: &[f64]| -> Vec<f64> {
        weights_of(&a, &x, 2).iter().zip(&x).zip(from).map(|((a, x), from)| a * (x * x - from * from)).collect()
    };
    let given = compiled(&body, &["integrated-gradients(baseline=given, steps=2)"], &["x"]);
    let inputs = [("x", tensor(&[1, 4], &x)), ("baseline.x", tensor(&[1, 4], &from))];
    let outcome = run(&given, &inputs, in_f64());
    assert_near(&result(&outcome, "relevance/x"), &expect(&from), 1e-12);
    assert!(outcome.completeness["completeness"] < 1e-12);
    let number = compiled(&body, &["integrated-gradients(baseline=0.5, steps=2)"], &["x"]);
    assert_near(&result(&run(&number, &inputs[..1], in_f64()), "relevance/x"), &expect(&[0.5; 4]), 1e-12);
}

#[test]
fn smoothgrad_is_the_gradient_but_for_noise_of_the_stated_size() {
    let (body, _) = powers("N", "2");
    let x = draw(4, 4);
    let inputs = [("x", tensor(&[1, 4], &x))];
    let of = |rules: &str| result(&run(&compiled(&body, &[rules], &["x"]), &inputs, in_f64()), "relevance/x");
    let gradient = of("gradient");
    assert_near(&of("smoothgrad(noise=0, samples=7)"), gradient.as_slice().unwrap(), 1e-12);
    // The gradient 2a(x + ση) misses 2ax by 2aσ times a normal number, and by less in the mean.
    let range = x.iter().fold(f64::MIN, |a, &b| a.max(b)) - x.iter().fold(f64::MAX, |a, &b| a.min(b));
    let weights: Vec<f64> = gradient.iter().zip(&x).map(|(g, x)| g / (2.0 * x)).collect();
    let deviation = |samples: usize| {
        let mut sum = 0.0;
        for seed in 0..40 {
            let found = of(&format!("smoothgrad(noise=0.2, samples={samples}, seed={seed})"));
            for ((found, exact), weight) in found.iter().zip(&gradient).zip(&weights) {
                sum += ((found - exact) / (2.0 * weight * 0.2 * range)).powi(2);
            }
        }
        (sum / 160.0_f64).sqrt()
    };
    for samples in [1, 4, 16] {
        let (found, expected) = (deviation(samples), 1.0 / (samples as f64).sqrt());
        assert!((found / expected - 1.0).abs() < 0.25, "{samples} samples: {found}, expected {expected}");
    }
}

#[test]
fn noise_does_not_depend_on_neighbours() {
    let (body, _) = powers("N", "3");
    let graph = compiled(&body, &["smoothgrad(samples=5)", "integrated-gradients", "occlusion"], &["x"]);
    let x = draw(5, 12);
    let all = run(&graph, &[("x", tensor(&[3, 4], &x))], RunOptions::default());
    let last = run(&graph, &[("x", tensor(&[1, 4], &x[8..]))], RunOptions::default());
    for name in ["smoothgrad", "integrated-gradients", "occlusion"] {
        let name = format!("{name}/relevance/x");
        assert_near(&result(&last, &name), &result(&all, &name).as_slice().unwrap()[8..], 1e-6);
    }
}

/// `Σ w·(x − baseline)` over each window, shared by the windows over a place, for a linear model of one output.
fn occluded(x: &ArrayD<f64>, w: &ArrayD<f64>, baseline: f64, windows: [(usize, usize, usize); 2]) -> ArrayD<f64> {
    let mut sum = ArrayD::<f64>::zeros(x.raw_dim());
    let mut cover = sum.clone();
    let starts = |(axis, window, stride): (usize, usize, usize)| {
        let more = x.shape()[axis].saturating_sub(window).div_ceil(stride);
        (0..=more).map(move |at| at * stride).collect::<Vec<_>>()
    };
    for first in starts(windows[0]) {
        for second in starts(windows[1]) {
            let inside = |at: &IxDyn| {
                let place = |(axis, window, _): (usize, usize, usize), start: usize| {
                    (start..start + window).contains(&at[axis])
                };
                place(windows[0], first) && place(windows[1], second)
            };
            for row in 0..x.shape()[0] {
                let drop: f64 = x
                    .indexed_iter()
                    .filter(|(at, _)| at[0] == row && inside(at))
                    .map(|(at, x)| w[&IxDyn(&[&[0], &at.slice()[1..]].concat())] * (x - baseline))
                    .sum();
                let places: Vec<IxDyn> =
                    x.indexed_iter().map(|(at, _)| at).filter(|at| at[0] == row && inside(at)).collect();
                for at in places {
                    sum[&at] += drop;
                    cover[&at] += 1.0;
                }
            }
        }
    }
    sum / cover
}

#[test]
fn occlusion_of_a_linear_model_is_what_the_window_held() {
    let w = draw(6, 40);
    let body = format!(
        "input %x : f32[N, 2, 5, 4]\nprepare\n%w = const {w:?} : f32[40, 1]\nforward\n\
         %f = reshape %x : f32[N, 40]\n%y = dot %f, %w {{contract=1x0}} : f32[N, 1]\nresult \"output/y\" = %y\n"
    );
    let w = ArrayD::from_shape_vec(IxDyn(&[1, 2, 5, 4]), w).unwrap();
    let x = ArrayD::from_shape_vec(IxDyn(&[2, 2, 5, 4]), draw(7, 80)).unwrap();
    let given = [("x", tensor(x.shape(), x.as_slice().unwrap()))];
    for (rules, baseline, windows) in [
        ("occlusion(window=2)", 0.0, [(2, 2, 2), (3, 2, 2)]),
        ("occlusion(window=[2, 3], stride=[2, 1], baseline=0.25)", 0.25, [(2, 2, 2), (3, 3, 1)]),
        ("occlusion(window=9)", 0.0, [(2, 9, 9), (3, 9, 9)]),
        ("occlusion", 0.0, [(2, 1, 1), (3, 1, 1)]),
    ] {
        let outcome = run(&compiled(&body, &[rules], &["x"]), &given, in_f64());
        // Both channels of a place are taken at once, and share what is lost.
        let expected = occluded(&x, &w, baseline, windows) / 2.0;
        assert_near(&result(&outcome, "relevance/x"), expected.as_slice().unwrap(), 1e-6);
    }
    let columns = run(&compiled(&body, &["occlusion(axes=3, window=2, stride=1)"], &["x"]), &given, in_f64());
    let expected = occluded(&x, &w, 0.0, [(3, 2, 1), (0, 9, 9)]) / 10.0;
    assert_near(&result(&columns, "relevance/x"), expected.as_slice().unwrap(), 1e-6);
}

#[test]
fn every_step_explains_the_class_of_the_whole_sample() {
    let body = "input %x : f32[N, 2]\nforward\n%y = relu %x : f32[N, 2]\nresult \"output/y\" = %y\n";
    let graph = compiled(body, &["occlusion"], &["x"]);
    let outcome = run(&graph, &[("x", tensor(&[2, 2], &[2.0, 1.0, 0.5, 3.0]))], in_f64());
    // Without its first element the first sample's largest would be the second.
    assert_near(&result(&outcome, "relevance/x"), &[2.0, 0.0, 0.0, 3.0], 0.0);
}

#[test]
fn windows_of_embeddings_are_positions() {
    let table = draw(8, 10);
    let w = draw(9, 2);
    let body = format!(
        "input %ids : i64[N, S]\nprepare\n%table = const {table:?} : f32[5, 2]\n%w = const {w:?} : f32[2, 1]\nforward\n\
         %x = gather %table, %ids {{axis=0}} : f32[N, S, 2]\n%h = dot %x, %w {{contract=2x0}} : f32[N, S, 1]\n\
         %y = reduce_sum %h {{axes=[1]}} : f32[N, 1]\nresult \"output/y\" = %y\n"
    );
    let ids = [3i64, 0, 4, 1, 1, 2];
    let given = [("ids", Tensor::from_slice(&[2, 3], &ids).unwrap())];
    let rules = ["occlusion", "integrated-gradients(steps=2)", "smoothgrad(samples=3)"];
    let outcome = run(&compiled(&body, &rules, &["x"]), &given, in_f64());
    let held: Vec<f64> =
        ids.iter().map(|&id| table[2 * id as usize] * w[0] + table[2 * id as usize + 1] * w[1]).collect();
    let summed = |name: &str| result(&outcome, &format!("{name}/relevance/x")).sum_axis(ndarray::Axis(2));
    assert_near(&summed("occlusion"), &held, 1e-6);
    assert_near(&summed("integrated-gradients"), &held, 1e-6);
    let gradients: Vec<f64> = (0..12).map(|at| w[at % 2]).collect();
    assert_near(&result(&outcome, "smoothgrad/relevance/x"), &gradients, 1e-6);
}

#[test]
fn random_relevance_is_that_of_its_seed_alone() {
    let body =
        |op: &str| format!("input %x : f32[N, 40]\nforward\n%y = {op} %x : f32[N, 40]\nresult \"output/y\" = %y\n");
    let of = |op: &str, rules: &str, x: f64| {
        let graph = compiled(&body(op), &[rules], &["x"]);
        result(&run(&graph, &[("x", tensor(&[2, 40], &[x; 80]))], RunOptions::default()), "relevance/x")
    };
    let drawn = of("relu", "random", 1.0);
    assert_eq!(drawn, of("exp", "random", 0.5));
    assert_ne!(drawn, of("relu", "random(seed=1)", 1.0));
    assert_ne!(drawn.row(0), drawn.row(1));
    assert!(drawn.iter().map(|value| value * value).sum::<f64>() / 80.0 > 0.5);
}

trait Row {
    fn row(&self, row: usize) -> Vec<f64>;
}

impl Row for ArrayD<f64> {
    fn row(&self, row: usize) -> Vec<f64> {
        self.index_axis(ndarray::Axis(0), row).iter().copied().collect()
    }
}

/// A small network whose samples attend to themselves alone, for `x [batch, 3, 4]`.
fn attention(batch: &str) -> String {
    format!(
        "input %x : f32[{batch}, 3, 4]\nprepare\n%w = const {:?} : f32[4, 2]\nforward\n\
         %s = dot %x, %x {{batch=0x0, contract=2x2}} : f32[{batch}, 3, 3]\n%p = softmax %s {{axis=2}} : f32[{batch}, 3, 3]\n\
         %a = dot %p, %x {{batch=0x0, contract=2x1}} : f32[{batch}, 3, 4]\n%m = reduce_mean %a {{axes=[1]}} : f32[{batch}, 4]\n\
         %g = gelu %m : f32[{batch}, 4]\n%y = dot %g, %w {{contract=1x0}} : f32[{batch}, 2]\nresult \"output/y\" = %y\n",
        draw(10, 8)
    )
}

const ALL: [&str; 4] = ["gradient", "smoothgrad(samples=5)", "integrated-gradients(steps=6)", "occlusion"];

#[test]
fn steps_at_once_one_by_one_and_in_batches_of_fixed_size_agree() {
    let x = tensor(&[2, 3, 4], &draw(11, 24));
    let graph = compiled(&attention("N"), &ALL, &["x"]);
    let of = |steps_at_once: Option<usize>, threads: usize| {
        let options = RunOptions { steps_at_once, threads, ..RunOptions::default() };
        run(&graph, &[("x", x.clone())], options).results
    };
    let one_by_one = of(Some(1), 1);
    assert_eq!(of(None, 1), of(None, 3));
    let fixed = run(&compiled(&attention("2"), &ALL, &["x"]), &[("x", x.clone())], RunOptions::default()).results;
    for results in [of(None, 1), of(Some(4), 2), of(Some(100), 2), fixed] {
        assert_eq!(results.keys().collect::<Vec<_>>(), one_by_one.keys().collect::<Vec<_>>());
        for (name, tensor) in &results {
            for (found, expected) in tensor.to_f64().iter().zip(one_by_one[name].to_f64()) {
                assert!((found - expected).abs() <= 1e-6, "{name}: {found} {expected}");
            }
        }
    }
}

#[test]
fn composites_of_one_graph_are_what_they_are_alone() {
    let given = [("x", tensor(&[2, 3, 4], &draw(12, 24)))];
    let rules = [&["epsilon", "attnlrp", "random"][..], &ALL].concat();
    let together = run(&compiled(&attention("N"), &rules, &["x"]), &given, RunOptions::default());
    for rules in rules {
        let alone = run(&compiled(&attention("N"), &[rules], &["x"]), &given, RunOptions::default());
        let name = rules.split('(').next().unwrap();
        assert_eq!(alone.results["relevance/x"], together.results[&format!("{name}/relevance/x")], "{name}");
    }
}

#[test]
fn samples_that_see_each_other_take_their_steps_together() {
    let body = "input %x : f32[N, 3]\nforward\n%m = reduce_mean %x {axes=[0], keep=true} : f32[1, 3]\n\
                %all = broadcast %m : f32[N, 3]\n%p = mul %x, %all : f32[N, 3]\n%y = relu %p : f32[N, 3]\n\
                result \"output/y\" = %y\n";
    let graph = compiled(body, &["integrated-gradients(steps=9)"], &["x"]);
    assert_eq!(graph.ty(graph.find("step").unwrap()).rank(), 0);
    let outcome = run(&graph, &[("x", tensor(&[2, 3], &[1.0, 2.0, 3.0, 2.0, 1.0, 0.5]))], in_f64());
    assert!(outcome.completeness["completeness"] < 1e-12, "{:?}", outcome.completeness);
    assert!(outcome.arrived["relevance/x"] > 1.0);
}

#[test]
fn only_what_is_wanted_is_run() {
    let graph = compiled(&attention("N"), &ALL, &["x"]);
    let given = [("x", tensor(&[1, 3, 4], &draw(13, 12)))];
    let of = |patterns: &[&str]| {
        let wanted = Wanted::Matching(patterns.iter().map(ToString::to_string).collect());
        run(&graph, &given, RunOptions { wanted, ..RunOptions::default() }).results
    };
    assert_eq!(of(&["occlusion/*"]).keys().collect::<Vec<_>>(), ["occlusion/relevance/x"]);
    assert_eq!(of(&["output/*"]).keys().collect::<Vec<_>>(), ["output/y"]);
    let two = of(&["smoothgrad/*", "gradient/*"]);
    assert_eq!(two.keys().collect::<Vec<_>>(), ["gradient/relevance/x", "smoothgrad/relevance/x"]);
}

#[test]
fn the_documented_composite_smooths_relevance() {
    let document = include_str!("../../docs/baselines.md");
    let example = document.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let given = [("x", tensor(&[1, 3, 4], &draw(14, 12)))];
    let of = |composite: Composite| {
        let graph = explain(&attention("N"), &Explanation::of(composite, &["x"]));
        result(&run(&graph, &given, in_f64()), "relevance/x")
    };
    let epsilon = of(Composite::named("epsilon").unwrap());
    let still = of(Composite::from_toml(&example.replace("noise = 0.05", "noise = 0")).unwrap());
    assert_near(&still, epsilon.as_slice().unwrap(), 1e-12);
    let smooth = of(Composite::from_toml(example).unwrap());
    let distance = (&smooth - &epsilon).mapv(f64::abs).sum() / epsilon.mapv(f64::abs).sum();
    assert!(distance > 1e-4 && distance < 0.5, "{distance}");
}

#[test]
fn what_has_no_meaning_is_refused() {
    let refused = |rules: &str, tensors: &[&str], words: &str| {
        let mut graph = read(&attention("N"));
        let request = lrpc_passes::relevance::Request {
            composites: vec![Composite::named(rules).unwrap()],
            targets: vec![lrpc_passes::relevance::target::Target::default_of("y")],
            wrt: tensors.iter().map(|name| graph.find(name).unwrap()).collect(),
            ..lrpc_passes::relevance::Request::default()
        };
        let error = lrpc_passes::relevance::generate(&mut graph, &request).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused("smoothgrad(samples=0)", &["x"], "`samples` of composite `smoothgrad` is a whole number from 1");
    refused("smoothgrad(noise=-1)", &["x"], "a number from 0 on");
    refused("smoothgrad(seed=0.5)", &["x"], "`seed`");
    refused("integrated-gradients(steps=1.5)", &["x"], "`steps`");
    refused("integrated-gradients(points=both)", &["x"], "midpoint, left or right");
    refused("integrated-gradients(baseline=none)", &["x"], "a number, or `given`");
    refused("occlusion(window=2, stride=3)", &["x"], "leaves places between windows");
    refused("occlusion(window=[1, 2])", &["x"], "a whole number from 1 on for each of the 1 axes");
    refused("occlusion(axes=0)", &["x"], "ascending axes from 1 on and below 3");
    refused("occlusion", &["x", "g"], "`g` depends on another requested tensor");
    refused("smoothgrad(noise=0.1)", &["x", "a"], "`a` depends on another requested tensor");
}
