//! Winner takes all: max pooling, maxima and minima over axes and of two, where.

use lrpc_passes::relevance::site::Carrier;
use lrpc_twins::pool::max_pool_relevance;
use lrpc_twins::window::Window;
use ndarray::{Array1, ArrayD, Dimension};

use crate::check::{Count, Expected, Site};
use crate::funnel::Tensors;
use crate::numbers::{Random, Style};

const CASES: u64 = 40;

fn site(header: String, op: String, shape: &[usize], explained: Vec<&'static str>, tensors: Tensors) -> Site {
    Site {
        rule: "Winner",
        with: String::new(),
        header,
        forward: format!("{op} : f32{shape:?} from \"/site\""),
        shape: shape.to_vec(),
        explained,
        tensors,
    }
}

fn all_of(relevance: Vec<ArrayD<f64>>, bias: f64) -> Expected {
    Expected { relevance, bias, stabiliser: 0.0 }
}

#[test]
pub fn winner() {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        pooling(random, &mut count);
        reduction(random, &mut count);
        two_operands(random, &mut count);
        branches(random, &mut count);
    }
    count.suffices(4 * CASES as usize);
}

/// Coarse numbers give ties: the first wins.
fn pooling(random: &mut Random, count: &mut Count) {
    let rank = random.within(1, 2);
    let mut draw = |low: usize, high: usize| -> Vec<usize> { (0..rank).map(|_| random.within(low, high)).collect() };
    let window = Window {
        kernel: draw(2, 3),
        strides: draw(1, 2),
        pads: [draw(0, 1), draw(0, 1)].concat(),
        dilations: draw(1, 2),
        ceil_mode: false,
    };
    let spatial = draw(5, 6);
    let sample = [vec![2], spatial.clone()].concat();
    let x = random.tensor(&[vec![2], sample.clone()].concat(), Style::Coarse);
    let shape = [vec![2, 2], window.output_size(&spatial)].concat();
    let op = format!(
        "%y = pool %x {{kind=max, window={:?}, stride={:?}, pad={:?}, dilation={:?}}}",
        window.kernel,
        window.strides,
        &window.pads[..rank],
        window.dilations
    );
    let tensors = Tensors::from([("x".to_string(), x.clone())]);
    let site = site(format!("input %x : f32{:?}", x.shape()), op, &shape, vec!["x"], tensors);
    let twin = |r: &ArrayD<f64>| {
        let flat = |array: &ArrayD<f64>, at: usize| -> Array1<f64> {
            array.index_axis(ndarray::Axis(0), at).iter().copied().collect()
        };
        let rows = (0..2).flat_map(|at| max_pool_relevance(&flat(&x, at), &sample, &window, &flat(r, at)));
        all_of(vec![ArrayD::from_shape_vec(x.raw_dim(), rows.collect()).unwrap()], 0.0)
    };
    site.check(random, count, twin);
    site.check_carried(random, count, Carrier::Coefficient, twin);
}

fn reduction(random: &mut Random, count: &mut Count) {
    let kind = random.pick(&["max", "min"]);
    let axes = random.pick(&[&[0][..], &[1], &[0, 2], &[1, 2], &[0, 1, 2]]);
    let full = [random.within(1, 3), random.within(1, 3), random.within(1, 4)];
    let x = random.tensor(&full, Style::Coarse);
    let shape: Vec<usize> = (0..3).map(|axis| if axes.contains(&axis) { 1 } else { full[axis] }).collect();
    let op = format!("%y = reduce_{kind} %x {{axes={axes:?}, keep=true}}");
    let tensors = Tensors::from([("x".to_string(), x.clone())]);
    let site = site(format!("input %x : f32{full:?}"), op, &shape, vec!["x"], tensors);
    site.check(random, count, |r| {
        let mut to_x = ArrayD::zeros(x.raw_dim());
        for (to, r) in r.indexed_iter() {
            let seen =
                x.indexed_iter().filter(|(at, _)| (0..3).all(|axis| axes.contains(&axis) || at[axis] == to[axis]));
            let better = |value: f64, best: f64| if kind == "max" { value > best } else { value < best };
            let mut best: Option<(ndarray::IxDyn, f64)> = None;
            for (at, &value) in seen {
                if best.as_ref().is_none_or(|(_, best)| better(value, *best)) {
                    best = Some((at, value));
                }
            }
            to_x[best.unwrap().0.slice()] += r;
        }
        all_of(vec![to_x], 0.0)
    });
}

fn two_operands(random: &mut Random, count: &mut Count) {
    let kind = random.pick(&["max", "min"]);
    let shape = [2, random.within(1, 6)];
    let (a, b) = (random.tensor(&shape, Style::Coarse), random.tensor(&shape, Style::Coarse));
    let constant = random.one_in(3);
    let (header, operand) = if constant { ("weight @b", "@b") } else { ("input %b", "%b") };
    let explained = if constant { vec!["a"] } else { vec!["a", "b"] };
    let tensors = Tensors::from([("a".to_string(), a.clone()), ("b".to_string(), b.clone())]);
    let header = format!("input %a : f32{shape:?}\n{header} : f32{shape:?}");
    let site = site(header, format!("%y = {kind} %a, {operand}"), &shape, explained, tensors);
    let twin = |r: &ArrayD<f64>| {
        let first_wins = |a: f64, b: f64| if kind == "max" { a >= b } else { a <= b };
        let side = |first: bool| {
            let mut part = r.clone();
            ndarray::Zip::from(&mut part).and(&a).and(&b).for_each(|r, &a, &b| {
                if first_wins(a, b) != first {
                    *r = 0.0;
                }
            });
            part
        };
        if constant { all_of(vec![side(true)], side(false).sum()) } else { all_of(vec![side(true), side(false)], 0.0) }
    };
    site.check(random, count, twin);
    site.check_carried(random, count, Carrier::Coefficient, twin);
}

fn branches(random: &mut Random, count: &mut Count) {
    let shape = [2, random.within(1, 6)];
    let draw = |random: &mut Random| random.tensor(&shape, Style::Coarse);
    let (a, b, c) = (draw(random), draw(random), draw(random));
    let tensors = Tensors::from([("a".to_string(), a), ("b".into(), b), ("c".into(), c.clone())]);
    let header = format!("input %a : f32{shape:?}\ninput %b : f32{shape:?}\ninput %c : f32{shape:?}");
    let op = format!(
        "%zero = const 0 : f32{shape:?}\n%condition = greater %c, %zero : bool{shape:?}\n%y = where %condition, %a, %b"
    );
    let site = site(header, op, &shape, vec!["a", "b"], tensors);
    let twin = |r: &ArrayD<f64>| {
        let side = |chosen: bool| {
            let mut part = r.clone();
            part.zip_mut_with(&c, |r, &c| {
                if (c > 0.0) != chosen {
                    *r = 0.0;
                }
            });
            part
        };
        all_of(vec![side(true), side(false)], 0.0)
    };
    site.check(random, count, twin);
    site.check_carried(random, count, Carrier::Coefficient, twin);
}
