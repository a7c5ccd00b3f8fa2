//! Signed and absolute ratios: additions, sums, means, pooling, resizing, cumulative sums; absolute ratios of products.

use lrpc_twins::additive::{
    Split, absolute_ratio as absolute_split, signed_ratio as signed_split, symmetric as equal_split,
};
use lrpc_twins::linear::{Dense, dense_of_mean};
use lrpc_twins::pool::dense_of_average_pool;
use lrpc_twins::resize::{Coordinates, Interpolation, Nearest, dense_of_resize};
use lrpc_twins::share::{Shared, share};
use lrpc_twins::window::Window;
use ndarray::{Array1, Array2, ArrayD};

use crate::check::{Count, Expected, Site};
use crate::funnel::Tensors;
use crate::numbers::{Random, Style};

const CASES: u64 = 80;

/// Two operands and what each adds.
struct Pair {
    op: &'static str,
    /// Which operands are weights; at most one.
    constant: Option<usize>,
    operands: [ArrayD<f64>; 2],
}

impl Pair {
    fn draw(random: &mut Random, ops: &[&'static str]) -> Pair {
        let op = random.pick(ops);
        let shape = [random.within(1, 2), random.within(1, 3), random.within(1, 4)];
        let style = random.style();
        let mut operands = [random.tensor(&shape, style), random.tensor(&shape, style)];
        if op == "div" {
            operands[1] = random.away_from_zero(&shape);
        }
        if matches!(op, "add" | "sub") && random.one_in(4) {
            // Sums that are zero everywhere.
            operands[1] = if op == "add" { -&operands[0] } else { operands[0].clone() };
        }
        let constant = if matches!(op, "add" | "sub") { random.pick(&[None, None, Some(0), Some(1)]) } else { None };
        Pair { op, constant, operands }
    }

    fn site(&self, rule: &'static str, with: &str) -> Site {
        let shape = self.operands[0].shape();
        let mut site = Site {
            rule,
            with: with.into(),
            header: String::new(),
            forward: String::new(),
            shape: shape.to_vec(),
            explained: Vec::new(),
            tensors: Tensors::new(),
        };
        let mut names = Vec::new();
        for (slot, name) in ["a", "b"].into_iter().enumerate() {
            site.tensors.insert(name.into(), self.operands[slot].clone());
            let is_constant = self.constant == Some(slot);
            site.header += &format!(
                "{} : f32{shape:?}\n",
                if is_constant { format!("weight @{name}") } else { format!("input %{name}") }
            );
            names.push(if is_constant { format!("@{name}") } else { format!("%{name}") });
            site.explained.extend((!is_constant).then_some(name));
        }
        site.forward = format!("%y = {} {} : f32{shape:?} from \"/site\"", self.op, names.join(", "));
        site
    }

    fn contributions(&self) -> [ArrayD<f64>; 2] {
        let [a, b] = &self.operands;
        match self.op {
            "sub" => [a.clone(), -b],
            "div" => [a.clone(), b.mapv(f64::recip)],
            _ => [a.clone(), b.clone()],
        }
    }

    fn expected(&self, split: Split) -> Expected {
        let (mut relevance, mut bias) = (Vec::new(), 0.0);
        for (slot, part) in split.operands.into_iter().enumerate() {
            if self.constant == Some(slot) { bias += part.sum() } else { relevance.push(part) }
        }
        Expected { relevance, bias, stabiliser: split.stabiliser }
    }
}

/// An operation on one operand that is an explicit matrix for each sample.
struct Single {
    forward: String,
    x: ArrayD<f64>,
    shape: Vec<usize>,
    dense: Dense,
}

impl Single {
    fn draw(random: &mut Random) -> Single {
        match random.below(4) {
            0 => Single::reduce(random),
            1 => Single::pool(random),
            2 => Single::resize(random),
            _ => Single::cumulative_sum(random),
        }
    }

    fn of(random: &mut Random, sample: &[usize], dense: Dense, op: &str) -> Single {
        let samples = random.within(1, 2);
        let with_batch =
            |shape: &[usize]| -> Vec<usize> { [samples].into_iter().chain(shape.iter().copied()).collect() };
        // Sums of multiples of 1/8 cancel to exactly 0 but not when each is divided first, as in a matrix of averages.
        let x = random.tensor(&with_batch(sample), Style::Fine);
        let shape = with_batch(&dense.output_shape);
        Single { forward: format!("%y = {op} : f32{shape:?} from \"/site\""), x, shape, dense }
    }

    fn reduce(random: &mut Random) -> Single {
        let sample = [random.within(1, 3), random.within(1, 3), random.within(1, 4)];
        let axes = random.pick(&[&[0][..], &[1, 2], &[2], &[0, 1, 2]]);
        let mut dense = dense_of_mean(&sample, axes);
        let kind = random.pick(&["sum", "mean"]);
        if kind == "sum" {
            dense.weight = dense.connected.mapv(|connected| f64::from(u8::from(connected)));
        }
        let shifted: Vec<usize> = axes.iter().map(|axis| axis + 1).collect();
        let op = format!("reduce_{kind} %x {{axes={shifted:?}, keep=true}}");
        Single::of(random, &sample, dense, &op)
    }

    fn pool(random: &mut Random) -> Single {
        let rank = random.within(1, 2);
        let mut draw =
            |low: usize, high: usize| -> Vec<usize> { (0..rank).map(|_| random.within(low, high)).collect() };
        let window = Window {
            kernel: draw(2, 3),
            strides: draw(1, 2),
            pads: [draw(0, 1), draw(0, 1)].concat(),
            dilations: draw(1, 1),
            ceil_mode: false,
        };
        let sample = [vec![2], draw(3, 5)].concat();
        let kind = random.pick(&["sum", "average", "average_with_padding"]);
        let mut dense = dense_of_average_pool(&sample, &window, kind == "average_with_padding");
        if kind == "sum" {
            dense.weight = dense.connected.mapv(|connected| f64::from(u8::from(connected)));
        }
        let after = if kind == "average_with_padding" {
            format!("pad_after={:?}, ", &window.pads[rank..])
        } else {
            String::new()
        };
        let op = format!(
            "pool %x {{kind={kind}, window={:?}, stride={:?}, {after}pad={:?}}}",
            window.kernel,
            window.strides,
            &window.pads[..rank]
        );
        Single::of(random, &sample, dense, &op)
    }

    fn resize(random: &mut Random) -> Single {
        let spatial = [random.within(1, 4), random.within(2, 4)];
        let wanted = [random.within(1, 6), random.within(2, 7)];
        let (word, interpolation) = random.pick(&[
            ("mode=linear", Interpolation::Linear),
            ("mode=nearest", Interpolation::Nearest(Nearest::RoundPreferFloor)),
            ("mode=cubic", Interpolation::Cubic { a: -0.75, exclude_outside: false }),
        ]);
        let (coordinates, mode) = random.pick(&[
            ("half_pixel", Coordinates::HalfPixel),
            ("align_corners", Coordinates::AlignCorners),
            ("asymmetric", Coordinates::Asymmetric),
            ("pytorch_half_pixel", Coordinates::PytorchHalfPixel),
        ]);
        let scales = [1.0, wanted[0] as f64 / spatial[0] as f64, wanted[1] as f64 / spatial[1] as f64];
        let (sample, out) = ([2, spatial[0], spatial[1]], [2, wanted[0], wanted[1]]);
        let dense = dense_of_resize(&sample, &out, &scales, mode, interpolation);
        Single::of(random, &sample, dense, &format!("resize %x {{{word}, coordinates={coordinates}}}"))
    }

    fn cumulative_sum(random: &mut Random) -> Single {
        let (rows, length) = (random.within(1, 3), random.within(1, 5));
        let (exclusive, reverse) = (random.one_in(2), random.one_in(2));
        let mut dense = Dense::empty(rows * length, &[rows, length]);
        for row in 0..rows {
            for (from, to) in (0..length * length).map(|at| (at / length, at % length)) {
                let reached = if reverse { from >= to } else { from <= to };
                if reached && !(exclusive && from == to) {
                    dense.connect(row * length + from, row * length + to, 1.0);
                }
            }
        }
        let flags = [(exclusive, ", exclusive=true"), (reverse, ", reverse=true")];
        let flags: String = flags.iter().filter(|(on, _)| *on).map(|(_, text)| *text).collect();
        Single::of(random, &[rows, length], dense, &format!("cumulative_sum %x {{axis=2{flags}}}"))
    }

    fn site(&self, rule: &'static str, with: &str) -> Site {
        Site {
            rule,
            with: with.into(),
            header: format!("input %x : f32{:?}", self.x.shape()),
            forward: self.forward.clone(),
            shape: self.shape.clone(),
            explained: vec!["x"],
            tensors: Tensors::from([("x".to_string(), self.x.clone())]),
        }
    }

    /// Shares among what `value` makes of each input.
    fn expected(&self, relevance: &ArrayD<f64>, eps: f64, value: fn(f64) -> f64) -> Expected {
        let samples = self.x.shape()[0];
        let (x, r): (Vec<f64>, Vec<f64>) = (self.x.iter().copied().collect(), relevance.iter().copied().collect());
        let mut total = Shared { input: Array1::zeros(0), bias: 0.0, stabiliser: 0.0 };
        let mut to_x = Vec::new();
        for (x, r) in x.chunks(x.len() / samples).zip(r.chunks(r.len() / samples)) {
            let contributions =
                Array2::from_shape_fn(self.dense.weight.dim(), |(i, j)| value(x[i]) * self.dense.weight[[i, j]]);
            let shared = share(&contributions, &Array1::zeros(r.len()), &r.iter().copied().collect(), eps);
            to_x.extend(shared.input);
            total.stabiliser += shared.stabiliser;
        }
        let relevance = vec![ArrayD::from_shape_vec(self.x.raw_dim(), to_x).unwrap()];
        Expected { relevance, bias: 0.0, stabiliser: total.stabiliser }
    }
}

#[test]
pub fn signed_ratio() {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let eps = random.pick(&[0.0, 1e-6, 1e-2]);
        let with = format!("eps = {eps:?}");
        let pair = Pair::draw(random, &["add", "sub"]);
        pair.site("SignedRatio", &with)
            .check(random, &mut count, |r| pair.expected(signed_split(&pair.contributions(), r, eps)));
        let single = Single::draw(random);
        single.site("SignedRatio", &with).check(random, &mut count, |r| single.expected(r, eps, |x| x));
    }
    count.suffices(2 * CASES as usize);
}

#[test]
fn an_excluded_constant_takes_nothing() {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let pair = Pair::draw(random, &["add", "sub"]);
        if pair.constant.is_none() {
            continue;
        }
        for rule in ["SignedRatio", "AbsRatio"] {
            for policy in ["exclude", "redistribute"] {
                let site = pair.site(rule, &format!("bias = '{policy}'"));
                site.check(random, &mut count, |r| Expected { relevance: vec![r.clone()], bias: 0.0, stabiliser: 0.0 });
            }
        }
        let split = |r: &ArrayD<f64>| pair.expected(absolute_split(&pair.contributions(), r, 1e-6));
        for rule in ["SignedRatio", "AbsRatio"] {
            pair.site(rule, "bias = 'operand'").check(random, &mut count, split);
        }
    }
    count.suffices(40);
}

/// Equal parts for all operands, and for all places that an output sees.
pub fn uniform() {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let pair = Pair::draw(random, &["add", "sub"]);
        pair.site("Uniform", "")
            .check(random, &mut count, |r| pair.expected(Split { operands: vec![r / 2.0, r / 2.0], stabiliser: 0.0 }));
        let mut single = match random.below(3) {
            0 => Single::reduce(random),
            1 => Single::pool(random),
            _ => Single::cumulative_sum(random),
        };
        let site = single.site("Uniform", "");
        single.dense.weight = single.dense.connected.mapv(|connected| f64::from(u8::from(connected)));
        site.check(random, &mut count, |r| single.expected(r, 0.0, |_| 1.0));
    }
    count.suffices(2 * CASES as usize);
}

#[test]
pub fn absolute_ratio() {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let eps = random.pick(&[0.0, 1e-6, 1e-2]);
        let with = format!("eps = {eps:?}");
        let pair = Pair::draw(random, &["add", "sub", "mul", "div"]);
        pair.site("AbsRatio", &with)
            .check(random, &mut count, |r| pair.expected(absolute_split(&pair.contributions(), r, eps)));
        let single = Single::draw(random);
        single.site("AbsRatio", &with).check(random, &mut count, |r| single.expected(r, eps, f64::abs));
    }
    count.suffices(2 * CASES as usize);
}

#[test]
fn a_value_added_to_itself_takes_both_shares() {
    let random = &mut Random::new(1);
    let x = random.tensor(&[2, 3], Style::Coarse);
    for rule in ["SignedRatio", "AbsRatio"] {
        let site = Site {
            rule,
            with: "eps = 1e-6".into(),
            header: "input %x : f32[2, 3]".into(),
            forward: "%y = add %x, %x : f32[2, 3] from \"/site\"".into(),
            shape: vec![2, 3],
            explained: vec!["x"],
            tensors: Tensors::from([("x".to_string(), x.clone())]),
        };
        site.check(random, &mut Count::default(), |r| {
            let contributions = [x.clone(), x.clone()];
            let split = if rule == "AbsRatio" {
                absolute_split(&contributions, r, 1e-6)
            } else {
                signed_split(&contributions, r, 1e-6)
            };
            Expected {
                relevance: vec![&split.operands[0] + &split.operands[1]],
                bias: 0.0,
                stabiliser: split.stabiliser,
            }
        });
    }
}

#[test]
pub fn symmetric() {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let pair = Pair::draw(random, &["add", "sub"]);
        pair.site("Symmetric", "")
            .check(random, &mut count, |r| pair.expected(Split { operands: equal_split(2, r), stabiliser: 0.0 }));
    }
    count.suffices(CASES as usize);
}

/// Beside an identity all goes to the block, or to the skip; beside a projection both have shares.
#[test]
pub fn identity_skip() {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let shape = [random.within(1, 2), random.within(1, 4)];
        let x = random.tensor(&shape, Style::Fine);
        let (swapped, projected) = (random.one_in(2), random.one_in(2));
        let to = random.pick(&["block", "skip"]);
        let skip = if projected { "%p" } else { "%x" };
        let operands = if swapped { format!("%f, {skip}") } else { format!("{skip}, %f") };
        let projection =
            if projected { format!("%p = erf %x : f32{shape:?} from \"/projection\"\n") } else { String::new() };
        let site = Site {
            rule: "IdentitySkip",
            with: format!("eps = 0.01, to = '{to}'"),
            header: format!("input %x : f32{shape:?}"),
            forward: format!(
                "%f = tanh %x : f32{shape:?} from \"/block\"\n{projection}%y = add {operands} : f32{shape:?} from \"/site\""
            ),
            shape: shape.to_vec(),
            explained: if projected { vec!["f", "p"] } else { vec!["f"] },
            tensors: Tensors::from([("x".to_string(), x.clone())]),
        };
        site.check(random, &mut count, |r| {
            if projected {
                let parts = [x.mapv(f64::tanh), x.mapv(lrpc_twins::elementwise::erf)];
                let split = absolute_split(&parts, r, 0.01);
                return Expected { relevance: split.operands, bias: 0.0, stabiliser: split.stabiliser };
            }
            let to_block = if to == "block" { r.clone() } else { ArrayD::zeros(r.raw_dim()) };
            // Nothing but the block is explained, so that the identity is a constant.
            let bias = if to == "block" { 0.0 } else { r.sum() };
            Expected { relevance: vec![to_block], bias, stabiliser: 0.0 }
        });
    }
    count.suffices(CASES as usize);
}
