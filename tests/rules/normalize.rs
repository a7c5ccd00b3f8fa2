//! Normalisations with the deviation frozen.

use lrpc_passes::relevance::site::Carrier;
use lrpc_twins::normalize::{Affine, Norm, attention_softmax, norm_epsilon as twin, softmax_with_bias};
use ndarray::{Array1, ArrayD, Ix1};

use crate::check::{Count, Expected, Site};
use crate::funnel::Tensors;
use crate::numbers::{Random, Style};

const CASES: u64 = 60;

fn site(op: &str, x: &ArrayD<f64>, affine: &Affine, gain_shape: &[usize], eps: f64) -> Site {
    let gain = affine.gain.clone().into_shape_with_order(gain_shape).unwrap();
    let bias = affine.bias.clone().into_shape_with_order(gain_shape).unwrap();
    let shape = x.shape();
    Site {
        rule: "NormEpsilon",
        with: format!("eps = {eps:?}"),
        header: format!("input %x : f32{shape:?}\nweight @w : f32{gain_shape:?}\nweight @b : f32{gain_shape:?}"),
        forward: format!("%y = {op}, eps={:?}}} : f32{shape:?} from \"/site\"", affine.epsilon),
        shape: shape.to_vec(),
        explained: vec!["x"],
        tensors: Tensors::from([("x".to_string(), x.clone()), ("w".into(), gain), ("b".into(), bias)]),
    }
}

#[test]
pub fn norm_epsilon() {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let (channels, length) = (2 * random.within(1, 3), random.within(2, 4));
        let shape = [2, channels, length];
        let (op, norm, gain_shape) = match random.below(4) {
            0 => ("layer_norm %x, @w, @b {axis=2".to_string(), Norm::Layer { axis: 2 }, vec![length]),
            1 => ("layer_norm %x, @w, @b {axis=1".to_string(), Norm::Layer { axis: 1 }, vec![channels, length]),
            2 => (format!("group_norm %x, @w, @b {{groups={channels}"), Norm::Instance, vec![channels]),
            _ => ("group_norm %x, @w, @b {groups=2".to_string(), Norm::Group { groups: 2 }, vec![channels]),
        };
        let size = gain_shape.iter().product();
        let mut parameter = || random.tensor(&[size], Style::Fine).into_dimensionality::<Ix1>().unwrap();
        let affine = Affine { gain: parameter(), bias: parameter(), epsilon: 1e-3 };
        let x = random.tensor(&shape, Style::Fine);
        let eps = random.pick(&[0.0, 1e-6, 1e-2]);
        site(&op, &x, &affine, &gain_shape, eps).check(random, &mut count, |r| {
            let shared = twin(&x, &norm, &affine, r, eps);
            let relevance = ArrayD::from_shape_vec(x.raw_dim(), shared.input.to_vec()).unwrap();
            Expected { relevance: vec![relevance], bias: shared.bias, stabiliser: shared.stabiliser }
        });
    }
    count.suffices(CASES as usize);
}

/// `y = x/σ·w`: with 1/σ held every element keeps its own relevance.
#[test]
fn norm_epsilon_without_mean() {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let site = root_mean_square("NormEpsilon", random);
        let twin = |r: &ArrayD<f64>| Expected { relevance: vec![r.clone()], bias: 0.0, stabiliser: 0.0 };
        site.check(random, &mut count, twin);
        site.check_carried(random, &mut count, Carrier::Coefficient, twin);
    }
    count.suffices(2 * CASES as usize);
}

fn root_mean_square(rule: &'static str, random: &mut Random) -> Site {
    let (rows, length) = (random.within(1, 3), random.within(1, 5));
    let x = random.tensor(&[rows, length], Style::Fine);
    let gain: Array1<f64> = random.tensor(&[length], Style::Fine).into_dimensionality().unwrap();
    let affine = Affine { gain, bias: Array1::zeros(length), epsilon: 1e-3 };
    let mut site = site("rms_norm %x, @w {axis=1", &x, &affine, &[length], 0.0);
    site.header = site.header.split("\nweight @b").next().unwrap().into();
    (site.rule, site.with) = (rule, String::new());
    site
}

#[test]
pub fn norm_identity() {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let site = if seed % 2 == 0 {
            root_mean_square("NormIdentity", random)
        } else {
            let x = random.tensor(&[2, 4], Style::Fine);
            let mut parameter = || random.tensor(&[4], Style::Fine).into_dimensionality::<Ix1>().unwrap();
            let affine = Affine { gain: parameter(), bias: parameter(), epsilon: 1e-3 };
            let site = site("layer_norm %x, @w, @b {axis=1", &x, &affine, &[4], 0.0);
            Site { rule: "NormIdentity", with: String::new(), ..site }
        };
        let twin = |r: &ArrayD<f64>| Expected {
            relevance: vec![lrpc_twins::normalize::norm_identity(r)],
            bias: 0.0,
            stabiliser: 0.0,
        };
        site.check(random, &mut count, twin);
    }
    count.suffices(CASES as usize);
}

#[test]
pub fn stop() {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let shape = vec![random.within(1, 3), random.within(2, 5)];
        let x = random.tensor(&shape, Style::Fine);
        let op = random.pick(&["softmax %x {axis=1}", "tanh %x"]);
        let site = Site {
            rule: "Stop",
            with: String::new(),
            header: format!("input %x : f32{shape:?}"),
            forward: format!("%y = {op} : f32{shape:?} from \"/site\""),
            shape: shape.clone(),
            explained: vec!["x"],
            tensors: Tensors::from([("x".to_string(), x.clone())]),
        };
        for carrier in [Carrier::Relevance, Carrier::Coefficient] {
            site.check_carried(random, &mut count, carrier, |r| Expected {
                relevance: vec![lrpc_twins::share::stop(r)],
                bias: 0.0,
                stabiliser: 0.0,
            });
        }
    }
    count.suffices(2 * CASES as usize);
}

#[test]
pub fn attn_softmax() {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let shape = vec![random.within(1, 3), random.within(2, 5), random.within(1, 3)];
        let axis = random.below(3);
        let is_log = random.below(2) == 0;
        let x = random.tensor(&shape, Style::Fine);
        let op = if is_log { "log_softmax" } else { "softmax" };
        let site = Site {
            rule: "AttnSoftmax",
            with: String::new(),
            header: format!("input %x : f32{shape:?}"),
            forward: format!("%y = {op} %x {{axis={axis}}} : f32{shape:?} from \"/site\""),
            shape: shape.clone(),
            explained: vec!["x"],
            tensors: Tensors::from([("x".to_string(), x.clone())]),
        };
        for carrier in [Carrier::Relevance, Carrier::Coefficient] {
            site.check_carried(random, &mut count, carrier, |r| Expected {
                relevance: vec![attention_softmax(&x, axis, r)],
                bias: 0.0,
                stabiliser: 0.0,
            });
        }
    }
    count.suffices(CASES as usize);
}

/// As [`attn_softmax`], with scores that a mask takes out.
#[test]
pub fn bias_redistributed() {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let shape = vec![random.within(1, 3), random.within(2, 5), random.within(1, 3)];
        let axis = random.below(3);
        let is_log = random.one_in(2);
        let x = random.tensor(&shape, Style::Fine);
        let op = if is_log { "log_softmax" } else { "softmax" };
        let site = softmax_site("BiasRedistributed", &format!("%y = {op} %x {{axis={axis}}}"), &x);
        for carrier in [Carrier::Relevance, Carrier::Coefficient] {
            site.check_carried(random, &mut count, carrier, |r| Expected {
                relevance: vec![softmax_with_bias(&x, axis, r)],
                bias: 0.0,
                stabiliser: 0.0,
            });
        }
    }
    count.suffices(CASES as usize);
}

/// A temperature is a factor of the scores, which takes nothing: the rule sees what the softmax sees.
#[test]
fn a_temperature_scales_the_scores() {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let shape = vec![random.within(1, 3), random.within(2, 5)];
        let x = random.tensor(&shape, Style::Fine);
        let forward =
            format!("%t = scale %x {{by=0.25}} : f32{shape:?} from \"/temperature\"\n%y = softmax %t {{axis=1}}");
        for (rule, twin) in
            [("AttnSoftmax", attention_softmax as fn(&_, _, &_) -> _), ("BiasRedistributed", softmax_with_bias)]
        {
            softmax_site(rule, &forward, &x).check(random, &mut count, |r| Expected {
                relevance: vec![twin(&x.mapv(|x| 0.25 * x), 1, r)],
                bias: 0.0,
                stabiliser: 0.0,
            });
        }
    }
    count.suffices(CASES as usize);
}

#[test]
fn a_softmax_may_be_an_identity() {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let length = random.within(2, 5);
        let x = random.tensor(&[2, length], Style::Fine);
        let op = random.pick(&["softmax", "log_softmax"]);
        let site = softmax_site("Identity", &format!("%y = {op} %x {{axis=1}}"), &x);
        for carrier in [Carrier::Relevance, Carrier::Coefficient] {
            site.check_carried(random, &mut count, carrier, |r| Expected {
                relevance: vec![lrpc_twins::elementwise::identity(r)],
                bias: 0.0,
                stabiliser: 0.0,
            });
        }
    }
    count.suffices(CASES as usize);
}

fn softmax_site(rule: &'static str, forward: &str, x: &ArrayD<f64>) -> Site {
    let shape = x.shape();
    Site {
        rule,
        with: String::new(),
        header: format!("input %x : f32{shape:?}"),
        forward: format!("{forward} : f32{shape:?} from \"/site\""),
        shape: shape.to_vec(),
        explained: vec!["x"],
        tensors: Tensors::from([("x".to_string(), x.clone())]),
    }
}
