//! The relevance filter: the largest part of each sample's relevance passes a linear map, the rest is booked.

use lrpc_ir::plan::Precision;
use lrpc_ir::{Absorbed, Bindings};
use lrpc_passes::relevance::composite::{COMPOSITES, Composite};
use lrpc_passes::relevance::site::Carrier;
use lrpc_twins::linear::dense_of_dot;
use lrpc_twins::rules::{BiasPolicy, epsilon};
use lrpc_twins::share::filter;
use ndarray::{Array1, Array2, ArrayD, Axis, Ix2};

use crate::check::{absorbed, assert_close, assert_closes, largest, line_of};
use crate::funnel::{Explanation, Outcome, Tensors, explain, run, run_sized};
use crate::numbers::{Random, Style};

/// Two layers; the sizes of the second one are not known when rules are applied.
const BODY: &str = "input %x : f32[N, 5]\nweight @v : f32[5, 6]\nweight @w : f32[6, 4]\nforward\n\
    %h = dot %x, @v {contract=1x0} : f32[N, 6] from \"/one\"\n\
    %y = dot %h, @w {contract=1x0} : f32[N, 4] from \"/two\"\nresult \"output/y\" = %y\n";

fn tensors(random: &mut Random, samples: usize, style: Style) -> Tensors {
    let shapes = [("x", [samples, 5]), ("v", [5, 6]), ("w", [6, 4])];
    shapes.into_iter().map(|(name, shape)| (name.to_string(), random.tensor(&shape, style))).collect()
}

fn bindings(dims: &[(&str, i64)]) -> Bindings {
    dims.iter().map(|(name, size)| ((*name).into(), *size)).collect()
}

fn matrix(array: &ArrayD<f64>) -> Array2<f64> {
    array.clone().into_dimensionality::<Ix2>().unwrap()
}

/// Relevance of a layer's input and what the filter drops, by the ε rule behind the filter.
fn twin(x: &ArrayD<f64>, w: &ArrayD<f64>, relevance: &ArrayD<f64>, fraction: (usize, usize)) -> (ArrayD<f64>, f64) {
    let map = dense_of_dot(&matrix(w));
    let (mut result, mut dropped) = (x.clone(), 0.0);
    for (row, (x, r)) in matrix(x).rows().into_iter().zip(matrix(relevance).rows()).enumerate() {
        let kept: Array1<f64> = filter(&r.to_vec(), fraction).into();
        dropped += r.sum() - kept.sum();
        let shared = epsilon(&map, &x.to_owned(), &kept, 1e-6, BiasPolicy::Include);
        result.index_axis_mut(Axis(0), row).assign(&shared.input.into_dyn());
    }
    (result, dropped)
}

fn filtered(composite: &str, tensors: &Tensors, samples: i64, carrier: Option<Carrier>) -> Outcome {
    let mut explanation = Explanation::of(Composite::named(composite).unwrap(), &["x", "h", "y"]);
    explanation.targets = vec!["y[:,0]+y[:,1]+y[:,2]-y[:,3]".into()];
    explanation.carrier = carrier;
    run_sized(&explain(BODY, &explanation), tensors, Precision::F64, &bindings(&[("N", samples)]))
}

#[test]
fn the_largest_part_of_each_sample_passes() {
    for (seed, (text, fraction)) in
        (0..40).zip([("0.5", (1, 2)), ("top(0.34)", (17, 50)), ("0.1", (1, 10))].into_iter().cycle())
    {
        let random = &mut Random::new(seed);
        let samples = random.within(1, 3);
        let tensors = tensors(random, samples, if seed % 2 == 0 { Style::Coarse } else { Style::Fine });
        let outcome = filtered(&format!("epsilon(filter={text})"), &tensors, samples as i64, None);
        let hidden = matrix(&tensors["x"]).dot(&matrix(&tensors["v"])).into_dyn();
        for (from, to, site, x, w) in [("y", "h", "/two", &hidden, "w"), ("h", "x", "/one", &tensors["x"], "v")] {
            let arriving = outcome.relevance(from);
            let (expected, dropped) = twin(x, &tensors[w], arriving, fraction);
            let scale = largest(arriving).max(largest(&expected));
            assert_close(outcome.relevance(to), &expected, 1e-10 * scale, site);
            let line = line_of(&outcome.ledger, site);
            assert!((absorbed(line, Absorbed::Rule) - dropped).abs() <= 1e-10 * scale, "{line:?}");
            assert_closes(line, 1e-12, site);
        }
    }
}

/// Of equals the first passes, in either carrier.
#[test]
fn ties_go_to_the_first() {
    let mut tensors = Tensors::new();
    tensors.insert("x".into(), ArrayD::ones(vec![1, 5]));
    tensors.insert("v".into(), ArrayD::ones(vec![5, 6]));
    tensors.insert("w".into(), ArrayD::ones(vec![6, 4]));
    for carrier in [Carrier::Relevance, Carrier::Coefficient] {
        let outcome = filtered("lrp-0(filter=0.5)", &tensors, 1, Some(carrier));
        // 30 for each of y; the first two pass, 10 for each of h; the first three pass, 6 for each of x.
        assert_eq!(outcome.relevance("y").iter().copied().collect::<Vec<_>>(), [30.0, 30.0, 30.0, -30.0]);
        assert_close(outcome.relevance("h"), &ArrayD::from_elem(vec![1, 6], 10.0), 1e-12, "h");
        assert_close(outcome.relevance("x"), &ArrayD::from_elem(vec![1, 5], 6.0), 1e-12, "x");
        assert!((absorbed(line_of(&outcome.ledger, "/two"), Absorbed::Rule)).abs() < 1e-12);
        assert!((absorbed(line_of(&outcome.ledger, "/one"), Absorbed::Rule) - 30.0).abs() < 1e-12);
    }
}

/// A coefficient passes where its relevance does.
#[test]
fn carriers_agree() {
    for seed in 0..20 {
        let random = &mut Random::new(seed);
        let tensors = tensors(random, 2, Style::Fine);
        let [a, b] = [Carrier::Relevance, Carrier::Coefficient]
            .map(|carrier| filtered("lrp-0(filter=0.3)", &tensors, 2, Some(carrier)));
        let expected = a.relevance("x");
        assert_close(b.relevance("x"), expected, 1e-10 * largest(expected), &format!("seed {seed}"));
    }
}

/// How many pass is an expression where sizes are symbols.
#[test]
fn sizes_may_be_symbols() {
    let body = "input %x : f32[N, S, 3]\nweight @w : f32[3, 2]\nforward\n\
        %y = dot %x, @w {contract=2x0} : f32[N, S, 2] from \"/one\"\nresult \"output/y\" = %y\n";
    let mut explanation = Explanation::of(Composite::named("epsilon(filter=0.25)").unwrap(), &["x", "y"]);
    explanation.targets = vec!["y:argmax".into()];
    explanation.unit_seed = true;
    let graph = explain(body, &explanation);
    for length in [1, 4, 7] {
        let random = &mut Random::new(length as u64);
        let x = random.tensor(&[2, length, 3], Style::Fine);
        let tensors = Tensors::from([("x".into(), x), ("w".into(), random.tensor(&[3, 2], Style::Fine))]);
        let outcome = run_sized(&graph, &tensors, Precision::F64, &bindings(&[("N", 2), ("S", length as i64)]));
        // One element of each sample is explained, and passes.
        let line = line_of(&outcome.ledger, "/one");
        assert!((line.input - 2.0).abs() < 1e-12 && absorbed(line, Absorbed::Rule) == 0.0, "{line:?}");
        assert_closes(line, 1e-12, "symbols");
    }
}

#[test]
fn every_composite_has_a_filter() {
    let random = &mut Random::new(7);
    let tensors = tensors(random, 2, Style::Fine);
    for (name, _) in COMPOSITES {
        // Those that run the model several times have results of their own.
        if Composite::named(name).unwrap().sampling.is_some() {
            continue;
        }
        let graph = |text: &str| {
            let explanation = Explanation::of(Composite::named(text).unwrap(), &["x"]);
            explain(&BODY.replace('N', "2"), &explanation)
        };
        let whole = run(&graph(name), &tensors, Precision::F64);
        let all = run(&graph(&format!("{name}(filter=1)")), &tensors, Precision::F64);
        assert_eq!(whole.relevance("x"), all.relevance("x"), "{name}");
        let part = run(&graph(&format!("{name}(filter=top(0.2))")), &tensors, Precision::F64);
        assert_ne!(whole.relevance("x"), part.relevance("x"), "{name}");
        part.ledger.iter().for_each(|line| assert_closes(line, 1e-10, name));
    }
}
