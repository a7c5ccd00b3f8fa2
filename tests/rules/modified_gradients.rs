//! ReLUs of modified gradients: DeconvNet, guided backpropagation, smoothed slopes.

use lrpc_ir::plan::Precision;
use lrpc_passes::relevance::composite::Composite;
use lrpc_twins::elementwise::{beta_smooth as smooth, deconv_net as deconv, guided_backprop as guided, relu};
use ndarray::{Array2, ArrayD, Ix2, s};

use crate::check::{Count, Expected, Site, assert_close, largest};
use crate::funnel::{Explanation, Tensors, explain, run};
use crate::numbers::{Random, Style};

const CASES: u64 = 40;

/// What a rule sends, given the input and what arrives, whichever way it travels.
fn check(rule: &'static str, with: &str, twin: impl Fn(&ArrayD<f64>, &ArrayD<f64>) -> ArrayD<f64>) {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let shape = [random.within(1, 3), random.within(1, 5)];
        let x = random.tensor(&shape, Style::Coarse);
        let site = Site {
            rule,
            with: with.into(),
            header: format!("input %x : f32{shape:?}"),
            forward: format!("%y = relu %x : f32{shape:?} from \"/site\""),
            shape: shape.to_vec(),
            explained: vec!["x"],
            tensors: Tensors::from([("x".to_string(), x.clone())]),
        };
        site.check(random, &mut count, |r| Expected { relevance: vec![twin(&x, r)], bias: 0.0, stabiliser: 0.0 });
        let (double, _) = site.coefficients(random);
        let g = double.relevance("y");
        assert_close(double.relevance("x"), &twin(&x, g), 1e-12 * largest(g), rule);
    }
    count.suffices(CASES as usize);
}

#[test]
pub fn deconv_net() {
    check("DeconvNet", "", |_, r| deconv(r));
}

#[test]
pub fn guided_backprop() {
    check("GuidedBackprop", "", guided);
}

#[test]
pub fn beta_smooth() {
    check("BetaSmooth", "", |x, r| smooth(x, r, 10.0));
    check("BetaSmooth", "beta = 2.5", |x, r| smooth(x, r, 2.5));
}

/// `scores = relu(x·W)·V`: what comes out of the composites, from the value of the explained score or from 1.
#[test]
fn composites_start_at_the_value_of_the_output() {
    let body = "input %x : f32[2, 5]\nweight @w : f32[5, 6]\nweight @v : f32[6, 3]\nforward\n\
                %h = dot %x, @w {contract=1x0} : f32[2, 6] from \"/w\"\n%a = relu %h : f32[2, 6] from \"/relu\"\n\
                %y = dot %a, @v {contract=1x0} : f32[2, 3] from \"/v\"\nresult \"output/y\" = %y\n";
    for seed in 0..20 {
        let random = &mut Random::new(seed);
        let draw = |random: &mut Random, shape| random.tensor(shape, Style::Fine);
        let (x, w, v) = (draw(random, &[2, 5]), draw(random, &[5, 6]), draw(random, &[6, 3]));
        let matrix = |array: &ArrayD<f64>| -> Array2<f64> { array.clone().into_dimensionality::<Ix2>().unwrap() };
        let (mx, mw, mv) = (matrix(&x), matrix(&w), matrix(&v));
        let h = mx.dot(&mw);
        let scores = h.mapv(relu).dot(&mv);
        let tensors = Tensors::from([("x".into(), x), ("w".into(), w), ("v".into(), v)]);
        for unit in [false, true] {
            let mut seeds = Array2::<f64>::zeros((2, 3));
            seeds.slice_mut(s![.., 1]).assign(&if unit {
                scores.column(1).mapv(|_| 1.0)
            } else {
                scores.column(1).to_owned()
            });
            let arriving = seeds.dot(&mv.t()).into_dyn();
            let h = h.clone().into_dyn();
            let sent = [
                ("deconvnet", deconv(&arriving)),
                ("guided-backprop", guided(&h, &arriving)),
                ("beta-smooth", smooth(&h, &arriving, 10.0)),
                ("beta-smooth(beta=1)", smooth(&h, &arriving, 1.0)),
            ];
            for (name, sent) in sent {
                let expected = matrix(&sent).dot(&mw.t()).into_dyn();
                let mut explanation = Explanation::of(Composite::named(name).unwrap(), &["x"]);
                (explanation.targets, explanation.unit_seed) = (vec!["y[:,1]".into()], unit);
                let outcome = run(&explain(body, &explanation), &tensors, Precision::F64);
                assert_close(outcome.relevance("x"), &expected, 1e-12 * largest(&expected).max(1e-9), name);
            }
        }
    }
}
