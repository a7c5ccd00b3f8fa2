//! The rules for linear maps, on contractions of every layout and convolutions of every geometry.

use lrpc_twins::linear::{Dense, Geometry, dense_of_conv, dense_of_conv_transpose};
use lrpc_twins::rules::{self, BiasPolicy};
use lrpc_twins::share::{Shared, Stabiliser};
use lrpc_twins::window::ravel;
use ndarray::{Array1, Array2, ArrayD, Dimension, IxDyn, indices};

use crate::check::{Count, Expected, Site, assert_close, largest};
use crate::funnel::Tensors;
use crate::numbers::Random;

/// Cases per rule.
const CASES: u64 = 80;

/// A linear map `%y` of `%h`, which is the input, or its positive part.
pub struct Map {
    pub header: String,
    pub forward: String,
    pub tensors: Tensors,
    /// `h`.
    pub x: ArrayD<f64>,
    /// The shape of `y`.
    pub shape: Vec<usize>,
    /// The map of each sample; one for all of `x` where there is no sample axis.
    samples: usize,
    pub dense: Dense,
    /// Whether axis 1 of the input is channels, as lists of bounds need it.
    channels: bool,
}

/// The axes of a contraction.
struct Contraction {
    batch: Vec<(usize, usize)>,
    contract: Vec<(usize, usize)>,
    /// Whether the weight is the left operand.
    weight_left: bool,
    input: Vec<usize>,
    weight: Vec<usize>,
}

fn pairs(pairs: &[(usize, usize)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(left, right)| format!("{left}x{right}")).collect();
    format!("[{}]", pairs.join(", "))
}

impl Contraction {
    fn draw(random: &mut Random, many: bool) -> Contraction {
        let inner = if many { random.within(32, 40) } else { random.within(1, 9) };
        let (rows, columns) = (random.within(1, 4), random.within(1, 5));
        let (batch, contract, weight_left, input, weight) = match random.below(5) {
            0 => (vec![], vec![(1, 0)], false, vec![rows, inner], vec![inner, columns]),
            1 => (vec![], vec![(1, 1)], false, vec![rows, inner], vec![columns, inner]),
            2 => (vec![], vec![(1, 0)], true, vec![inner, rows], vec![columns, inner]),
            3 => (vec![(0, 0)], vec![(2, 1)], false, vec![2, rows, inner], vec![2, inner, columns]),
            _ => (vec![], vec![(1, 2), (2, 0)], false, vec![rows, inner, 2], vec![2, columns, inner]),
        };
        Contraction { batch, contract, weight_left, input, weight }
    }

    /// Axes of the left and of the right operand that are free.
    fn free(&self) -> (Vec<usize>, Vec<usize>) {
        let (left, right) = self.sides();
        let met = || self.batch.iter().chain(&self.contract);
        let left = (0..left.len()).filter(|axis| !met().any(|pair| pair.0 == *axis)).collect();
        let right = (0..right.len()).filter(|axis| !met().any(|pair| pair.1 == *axis)).collect();
        (left, right)
    }

    fn sides(&self) -> (&[usize], &[usize]) {
        if self.weight_left { (&self.weight, &self.input) } else { (&self.input, &self.weight) }
    }

    fn shape(&self) -> Vec<usize> {
        let ((left, right), (left_free, right_free)) = (self.sides(), self.free());
        let batch = self.batch.iter().map(|pair| left[pair.0]);
        batch
            .chain(left_free.iter().map(|&axis| left[axis]))
            .chain(right_free.iter().map(|&axis| right[axis]))
            .collect()
    }

    fn bias_shape(&self) -> Vec<usize> {
        let (right, (_, free)) = (self.sides().1, self.free());
        free.iter().map(|&axis| right[axis]).collect()
    }

    /// The map of the whole input as one matrix.
    fn dense(&self, weight: &ArrayD<f64>, bias: Option<&ArrayD<f64>>) -> Dense {
        let ((left, right), (left_free, right_free)) = (self.sides(), self.free());
        let shape = self.shape();
        let lengths: Vec<usize> = self.contract.iter().map(|pair| left[pair.0]).collect();
        let mut dense = Dense::empty(self.input.iter().product(), &shape);
        for to in indices(IxDyn(&shape)) {
            let to = to.slice().to_vec();
            let (mut at_left, mut at_right) = (vec![0; left.len()], vec![0; right.len()]);
            for (place, pair) in self.batch.iter().enumerate() {
                (at_left[pair.0], at_right[pair.1]) = (to[place], to[place]);
            }
            let first_right = self.batch.len() + left_free.len();
            left_free.iter().enumerate().for_each(|(k, &axis)| at_left[axis] = to[self.batch.len() + k]);
            right_free.iter().enumerate().for_each(|(k, &axis)| at_right[axis] = to[first_right + k]);
            let j = ravel(&to, &shape);
            for step in indices(IxDyn(&lengths)) {
                for (k, pair) in self.contract.iter().enumerate() {
                    (at_left[pair.0], at_right[pair.1]) = (step.slice()[k], step.slice()[k]);
                }
                let (from, tap) = if self.weight_left { (&at_right, &at_left) } else { (&at_left, &at_right) };
                dense.connect(ravel(from, &self.input), j, weight[IxDyn(tap)]);
            }
            if let Some(bias) = bias {
                dense.bias[j] = bias[IxDyn(&to[first_right..])];
            }
        }
        dense
    }
}

/// Draws numbers for a map: weights with a column of zeros now and then, inputs of any sign or not negative.
struct Numbers {
    positive: bool,
    weight: ArrayD<f64>,
    bias: Option<ArrayD<f64>>,
    input: ArrayD<f64>,
}

impl Numbers {
    fn draw(random: &mut Random, input: &[usize], weight: &[usize], bias: &[usize]) -> Numbers {
        let style = random.style();
        let mut numbers = Numbers {
            positive: random.one_in(2),
            weight: random.tensor(weight, style),
            bias: (!random.one_in(3)).then(|| random.tensor(bias, style)),
            input: random.tensor(input, style),
        };
        if random.one_in(4) {
            numbers.weight.index_axis_mut(ndarray::Axis(0), 0).fill(if random.one_in(2) { 0.0 } else { -0.0 });
        }
        numbers
    }

    /// What `%h` holds: the positive part of the input, or its negative, which may have any sign.
    fn seen(&self) -> ArrayD<f64> {
        if self.positive { self.input.mapv(|value| value.max(0.0)) } else { -&self.input }
    }

    /// Header, the node that makes `%h`, and tensors.
    fn text(&self) -> (String, String, Tensors) {
        let shape = self.input.shape();
        let mut header = format!("input %x : f32{shape:?}\nweight @w : f32{:?}\n", self.weight.shape());
        let mut tensors = Tensors::new();
        if let Some(bias) = &self.bias {
            header += &format!("weight @b : f32{:?}\n", bias.shape());
            tensors.insert("b".into(), bias.clone());
        }
        tensors.insert("x".into(), self.input.clone());
        tensors.insert("w".into(), self.weight.clone());
        let makes_h = if self.positive { "relu" } else { "neg" };
        (header, format!("%h = {makes_h} %x : f32{shape:?} from \"/before\"\n"), tensors)
    }
}

fn contraction(random: &mut Random) -> Map {
    let many = random.one_in(2);
    let spec = Contraction::draw(random, many);
    let numbers = Numbers::draw(random, &spec.input, &spec.weight, &spec.bias_shape());
    let (header, before, tensors) = numbers.text();
    let operands = if spec.weight_left { "@w, %h" } else { "%h, @w" };
    let bias = if numbers.bias.is_some() { ", @b" } else { "" };
    let (batch, contract) = (pairs(&spec.batch), pairs(&spec.contract));
    let batch = if spec.batch.is_empty() { String::new() } else { format!("batch={batch}, ") };
    let shape = spec.shape();
    let forward =
        format!("{before}%y = dot {operands}{bias} {{{batch}contract={contract}}} : f32{shape:?} from \"/site\"");
    let dense = spec.dense(&numbers.weight, numbers.bias.as_ref());
    Map { header, forward, tensors, x: numbers.seen(), shape, samples: 1, dense, channels: false }
}

fn convolution(random: &mut Random) -> Map {
    let groups = random.pick(&[1, 1, 2]);
    let many = random.one_in(3);
    let rank = if many { random.within(1, 2) } else { random.within(1, 3) };
    let per_group = if many { random.within(4, 6) } else { random.within(1, 2) };
    let kernel: Vec<usize> = (0..rank).map(|_| if many { 3 + 5 * (2 - rank) } else { random.within(1, 3) }).collect();
    let strides: Vec<usize> = (0..rank).map(|_| random.within(1, 2)).collect();
    let dilations: Vec<usize> = (0..rank).map(|_| if many { 1 } else { random.within(1, 2) }).collect();
    let pads: Vec<usize> = (0..2 * rank).map(|_| random.below(2)).collect();
    let geometry = Geometry { strides, pads, dilations, groups };
    let transposed = random.one_in(3);
    let outer = groups * random.within(1, 3);
    let spatial: Vec<usize> = (0..rank)
        .map(|axis| {
            let reach = (kernel[axis] - 1) * geometry.dilations[axis] + 1;
            if transposed { random.within(3, 4) } else { reach + random.below(3) }
        })
        .collect();
    let (inner, samples) = (groups * per_group, random.within(1, 2));
    let input: Vec<usize> = [samples, inner].into_iter().chain(spatial).collect();
    let channels = if transposed { [inner, outer / groups] } else { [outer, per_group] };
    let weight: Vec<usize> = channels.into_iter().chain(kernel).collect();
    let numbers = Numbers::draw(random, &input, &weight, &[outer]);
    let output_padding: Vec<usize> =
        geometry.strides.iter().map(|&stride| if stride > 1 { random.below(2) } else { 0 }).collect();
    let dense = if transposed {
        dense_of_conv_transpose(&numbers.weight, &input[1..], &geometry, &output_padding)
    } else {
        dense_of_conv(&numbers.weight, &input[1..], &geometry)
    };
    let bias = numbers.bias.as_ref().map(|bias| bias.iter().copied().collect::<Array1<f64>>());
    let dense = bias.iter().fold(dense, |dense, bias| dense.with_channel_bias(bias));
    let shape: Vec<usize> = [samples].into_iter().chain(dense.output_shape.iter().copied()).collect();
    let (header, before, tensors) = numbers.text();
    let operands = if numbers.bias.is_some() { "%h, @w, @b" } else { "%h, @w" };
    let forward = format!(
        "{before}%y = {} {operands} {{stride={:?}, pad={:?}, dilation={:?}, groups={groups}}} : f32{shape:?} from \"/site\"",
        if transposed { "conv_transpose" } else { "conv" },
        geometry.strides,
        &geometry.pads[..rank],
        geometry.dilations,
    );
    Map { header, forward, tensors, x: numbers.seen(), shape, samples, dense, channels: true }
}

/// What a twin makes of a sample: the map, `x`, relevance.
pub type Twin<'a> = &'a dyn Fn(&Dense, &Array1<f64>, &Array1<f64>) -> Shared;

impl Map {
    pub fn draw(random: &mut Random) -> Map {
        if random.one_in(2) { contraction(random) } else { convolution(random) }
    }

    fn site(&self, rule: &'static str, with: &str) -> Site {
        Site {
            rule,
            with: with.into(),
            header: self.header.clone(),
            forward: self.forward.clone(),
            shape: self.shape.clone(),
            explained: vec!["h"],
            tensors: self.tensors.clone(),
        }
    }

    pub fn expected(&self, relevance: &ArrayD<f64>, twin: Twin) -> Expected {
        let rows = |array: &ArrayD<f64>| -> Vec<Array1<f64>> {
            let flat: Vec<f64> = array.iter().copied().collect();
            flat.chunks(flat.len() / self.samples).map(|row| row.iter().copied().collect()).collect()
        };
        let (mut to_x, mut bias, mut stabiliser) = (Vec::new(), 0.0, 0.0);
        for (x, r) in rows(&self.x).iter().zip(&rows(relevance)) {
            let shared = twin(&self.dense, x, r);
            to_x.extend(shared.input);
            bias += shared.bias;
            stabiliser += shared.stabiliser;
        }
        let to_x = ArrayD::from_shape_vec(self.x.raw_dim(), to_x).unwrap();
        Expected { relevance: vec![to_x], bias, stabiliser }
    }
}

/// Parameters in TOML, and the twin that has them.
type Parametrised = (String, Box<dyn Fn(&Dense, &Array1<f64>, &Array1<f64>) -> Shared>);

/// Holds a rule against its twin on random maps.
fn check(rule: &'static str, draw: impl Fn(&mut Random, &Map) -> Parametrised) {
    let mut count = Count::default();
    for seed in 0..CASES {
        let mut random = Random::new(seed);
        let map = Map::draw(&mut random);
        let (with, twin) = draw(&mut random, &map);
        let site = map.site(rule, &with);
        site.check(&mut random, &mut count, |relevance| map.expected(relevance, &*twin));
    }
    count.suffices(CASES as usize);
}

/// A stabiliser, as a twin has it and as parameters in TOML.
fn stabiliser(random: &mut Random, map: &Map) -> (Stabiliser, String) {
    let eps = random.pick(&[0.0, 1e-6, 1e-2]);
    // The first axis counts samples; each sample of a convolution has a twin of its own.
    let samples = if map.channels { 1 } else { map.shape[0] };
    let (mode, stabiliser) = random.pick(&[
        ("absolute", Stabiliser::Absolute(eps)),
        ("relative", Stabiliser::Relative { epsilon: eps, samples }),
        ("clip", Stabiliser::Clip(eps)),
    ]);
    (stabiliser, format!("eps = {eps:?}, stabiliser = '{mode}'"))
}

/// Stabiliser and bias policy.
fn eps_and_bias(random: &mut Random, map: &Map) -> (Stabiliser, bool, String) {
    let ((stabiliser, with), include) = (stabiliser(random, map), random.one_in(2));
    (stabiliser, include, format!("{with}, bias = '{}'", if include { "include" } else { "exclude" }))
}

fn with_policy(map: &Dense, include: bool) -> Dense {
    let bias = if include { map.bias.clone() } else { Array1::zeros(map.bias.len()) };
    Dense { bias, ..map.clone() }
}

#[test]
pub fn epsilon() {
    check("Epsilon", |random, map| {
        let (eps, with) = stabiliser(random, map);
        let (word, policy) = random.pick(&[
            ("include", BiasPolicy::Include),
            ("exclude", BiasPolicy::Exclude),
            ("redistribute", BiasPolicy::Redistribute),
        ]);
        let with = format!("{with}, bias = '{word}'");
        (with, Box::new(move |map, x, r| rules::epsilon(map, x, r, eps, policy)))
    });
}

/// Whatever ε is, nothing stays behind where every output sees an input.
#[test]
fn redistributed_relevance_is_all_there() {
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let map = contraction(random);
        let with = random.pick(&["eps = 0.25", "eps = 0.25, stabiliser = 'clip'", "eps = 1e-6"]);
        let site = map.site("Epsilon", &format!("{with}, bias = 'redistribute'"));
        site.check(random, &mut Count::default(), |r| {
            let zero = |map: &Dense, x: &Array1<f64>, r: &Array1<f64>| {
                let eps = match with {
                    "eps = 0.25" => Stabiliser::Absolute(0.25),
                    "eps = 1e-6" => Stabiliser::Absolute(1e-6),
                    _ => Stabiliser::Clip(0.25),
                };
                rules::epsilon(map, x, r, eps, BiasPolicy::Redistribute)
            };
            let expected = map.expected(r, &zero);
            assert_eq!((expected.bias, expected.stabiliser), (0.0, 0.0));
            expected
        });
    }
}

/// Zeros of both signs, and numbers too small to be normal.
#[test]
fn stabilisers_at_zero() {
    let numbers = [0.0, -0.0, 5e-324, 0.125, -5e-324, 1e-310, -1e-40, -1.0];
    let x = ArrayD::from_shape_vec(IxDyn(&[2, 4]), numbers.to_vec()).unwrap();
    let mut dense = Dense::empty(8, &[8]);
    (0..8).for_each(|at| dense.connect(at, at, 1.0));
    for (mode, eps) in [
        ("absolute", Stabiliser::Absolute(0.25)),
        ("relative", Stabiliser::Relative { epsilon: 0.25, samples: 2 }),
        ("clip", Stabiliser::Clip(0.25)),
    ] {
        let map = Map {
            header: "input %h : f32[2, 4]\nweight @w : f32[4, 4]\n".into(),
            forward: "%y = dot %h, @w {contract=1x0} : f32[2, 4] from \"/site\"".into(),
            tensors: Tensors::from([("h".into(), x.clone()), ("w".into(), Array2::eye(4).into_dyn())]),
            x: x.clone(),
            shape: vec![2, 4],
            samples: 1,
            dense: dense.clone(),
            channels: false,
        };
        let site = map.site("Epsilon", &format!("eps = 0.25, stabiliser = '{mode}'"));
        let mut count = Count::default();
        let twin = |map: &Dense, x: &Array1<f64>, r: &Array1<f64>| rules::epsilon(map, x, r, eps, BiasPolicy::Include);
        site.check(&mut Random::new(3), &mut count, |r| map.expected(r, &twin));
        assert_eq!(count.cases, 1);
    }
}

#[test]
fn a_bias_may_be_an_operand() {
    for rule in ["Epsilon", "Gamma"] {
        check(rule, |random, map| {
            let has_bias = map.forward.contains("@b");
            // Without ε what γ = 0 makes of a zero output is what ε makes of it.
            let eps = if rule == "Gamma" { 0.0 } else { random.pick(&[0.0, 1e-6, 1e-2]) };
            let gamma = if rule == "Gamma" { "gamma = 0.0, " } else { "" };
            let with = format!("{gamma}eps = {eps:?}, bias = 'operand'");
            // A map without bias is no addition.
            (
                with,
                Box::new(move |map, x, r| match has_bias {
                    true => rules::epsilon_of_operand(map, x, r, eps),
                    false => rules::epsilon(map, x, r, eps, BiasPolicy::Exclude),
                }),
            )
        });
    }
}

#[test]
pub fn z_plus() {
    check("ZPlus", |random, map| {
        let (eps, include, with) = eps_and_bias(random, map);
        (with, Box::new(move |map, x, r| rules::z_plus(&with_policy(map, include), x, r, eps)))
    });
}

#[test]
pub fn alpha_beta() {
    check("AlphaBeta", |random, map| {
        let (eps, include, with) = eps_and_bias(random, map);
        let beta = random.pick(&[0.0, 1.0, 0.5]);
        let with = format!("alpha = {:?}, beta = {beta:?}, {with}", beta + 1.0);
        (with, Box::new(move |map, x, r| rules::alpha_beta(&with_policy(map, include), x, r, (beta + 1.0, beta), eps)))
    });
}

#[test]
pub fn gamma() {
    check("Gamma", |random, map| {
        let (mut eps, include, mut with) = eps_and_bias(random, map);
        if let Stabiliser::Relative { epsilon, .. } = eps {
            // Which denominator an output of 0 has in the mean, although nothing flows through it, is a convention.
            (eps, with) = (Stabiliser::Clip(epsilon), with.replace("relative", "clip"));
        }
        let gamma = random.pick(&[0.0, 0.25, 1.0, 100.0]);
        let with = format!("gamma = {gamma:?}, {with}");
        (with, Box::new(move |map, x, r| rules::gamma(&with_policy(map, include), x, r, gamma, eps)))
    });
}

#[test]
pub fn w_square() {
    check("WSquare", |random, map| {
        let (eps, include, with) = eps_and_bias(random, map);
        (with, Box::new(move |map, _, r| rules::w_square(&with_policy(map, include), r, eps)))
    });
}

/// One number for every input, or one per channel.
fn point(random: &mut Random, map: &Map, least: f64) -> (String, Array1<f64>) {
    let (inputs, channels) = (map.dense.weight.nrows(), map.x.shape()[1]);
    if !map.channels || random.one_in(2) {
        let value = least + random.below(4) as f64 / 4.0;
        return (format!("{value:?}"), Array1::from_elem(inputs, value));
    }
    let values: Vec<f64> = (0..channels).map(|_| least + random.below(4) as f64 / 4.0).collect();
    let text = format!("{values:?}");
    (text, Array1::from_shape_fn(inputs, |i| values[i / (inputs / channels)]))
}

#[test]
pub fn taylor() {
    check("Taylor", |random, map| {
        // Differences of 0 sum to what rounding leaves, unless ε is well above it.
        let (eps, form) = (random.pick(&[1e-2, 0.125]), random.pick(&["root", "root", "input", "zero"]));
        let (text, root) = point(random, map, 0.25);
        match form {
            "root" => {
                let with = format!("x0 = {text}, eps = {eps:?}");
                (with, Box::new(move |map, x, r| rules::taylor(map, x, r, &root, eps)))
            }
            form => {
                let with = if form == "zero" { "x0 = 'zero'".into() } else { format!("x0 = {text}, form = 'input'") };
                let with = format!("{with}, eps = {eps:?}");
                (with, Box::new(move |map, x, r| rules::epsilon(map, x, r, eps, BiasPolicy::Exclude)))
            }
        }
    });
}

#[test]
pub fn uniform() {
    check("Uniform", |_, _| (String::new(), Box::new(|map, _, r| rules::flat(map, r, 0.0))));
    crate::additive::uniform();
}

#[test]
pub fn flat() {
    check("Flat", |random, map| {
        let (eps, with) = stabiliser(random, map);
        (with, Box::new(move |map, _, r| rules::flat(map, r, eps)))
    });
}

#[test]
pub fn z_box() {
    check("ZBox", |random, map| {
        let eps = random.pick(&[0.0, 1e-6, 1e-2, 1e-2, 1e-2, 1e-2]);
        let shape = map.x.shape().to_vec();
        let per_sample: usize = map.dense.weight.nrows();
        let kinds = if map.channels { 3 } else { 2 };
        match random.below(kinds) {
            0 => {
                let with = format!("low = -1.5, high = 2.0, eps = {eps:?}");
                let (low, high) = (Array1::from_elem(per_sample, -1.5), Array1::from_elem(per_sample, 2.0));
                (with, Box::new(move |map, x, r| rules::z_box(map, x, r, (&low, &high), eps)))
            }
            1 => {
                // Rows of the first axis are samples, whether or not the map has several.
                let rows = if map.channels { 1 } else { shape[0] };
                let twin = move |map: &Dense, x: &Array1<f64>, r: &Array1<f64>| {
                    let bounds = x.as_slice().unwrap().chunks(x.len() / rows).map(|row| {
                        row.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)))
                    });
                    let bounds: Vec<(f64, f64)> = bounds.collect();
                    let end = |pick: fn(&(f64, f64)) -> f64| {
                        Array1::from_shape_fn(x.len(), |i| pick(&bounds[i * rows / x.len()]))
                    };
                    rules::z_box(map, x, r, (&end(|bound| bound.0), &end(|bound| bound.1)), eps)
                };
                (format!("low = 'auto', high = 'auto', eps = {eps:?}"), Box::new(twin))
            }
            _ => {
                let low: Vec<f64> = (0..shape[1]).map(|_| -1.0 - random.below(4) as f64 / 4.0).collect();
                let high: Vec<f64> = (0..shape[1]).map(|_| 1.0 + random.below(4) as f64 / 4.0).collect();
                let with = format!("low = {low:?}, high = {high:?}, eps = {eps:?}");
                let spatial = per_sample / shape[1];
                let end = move |values: Vec<f64>| Array1::from_shape_fn(per_sample, |i| values[i / spatial]);
                let (low, high) = (end(low), end(high));
                (with, Box::new(move |map, x, r| rules::z_box(map, x, r, (&low, &high), eps)))
            }
        }
    });
}

#[test]
pub fn gradient() {
    for seed in 0..CASES {
        let mut random = Random::new(seed);
        let map = Map::draw(&mut random);
        let (double, single) = map.site("Gradient", "").coefficients(&mut random);
        assert!(double.ledger.iter().all(|line| line.site != "/site"), "gradients are no relevance");
        let twin = |map: &Dense, _: &Array1<f64>, g: &Array1<f64>| Shared {
            input: rules::gradient(map, g),
            bias: 0.0,
            stabiliser: 0.0,
        };
        let expected = map.expected(double.relevance("y"), &twin).relevance.remove(0);
        let scale = largest(&expected);
        assert_close(double.relevance("h"), &expected, 1e-10 * scale, &map.forward);
        assert_close(single.relevance("h"), &expected, 1e-4 * scale, &map.forward);
    }
}
