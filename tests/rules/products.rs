//! Products of two activations: half, gates, and values weighed by attention.

use lrpc_passes::relevance::site::Carrier;
use lrpc_twins::product;
use lrpc_twins::rules::half_matmul;
use ndarray::{ArrayD, Ix2};

use crate::check::{Count, Expected, Site, assert_close, largest};
use crate::funnel::Tensors;
use crate::numbers::{Random, Style};

const CASES: u64 = 80;

fn two_inputs(rule: &'static str, with: &str, op: &str, a: &ArrayD<f64>, b: &ArrayD<f64>, shape: &[usize]) -> Site {
    Site {
        rule,
        with: with.into(),
        header: format!("input %a : f32{:?}\ninput %b : f32{:?}", a.shape(), b.shape()),
        forward: format!("%y = {op} : f32{shape:?} from \"/site\""),
        shape: shape.to_vec(),
        explained: vec!["a", "b"],
        tensors: Tensors::from([("a".to_string(), a.clone()), ("b".to_string(), b.clone())]),
    }
}

fn elementwise(random: &mut Random) -> (&'static str, ArrayD<f64>, ArrayD<f64>) {
    let (shape, style) = ([2, random.within(1, 3), random.within(1, 4)], random.style());
    let op = random.pick(&["mul", "div"]);
    let b = if op == "mul" { random.tensor(&shape, style) } else { random.away_from_zero(&shape) };
    (op, random.tensor(&shape, style), b)
}

#[test]
pub fn half() {
    half_of_elements();
    half_of_contractions();
}

/// Numerator and divisor of a quotient take half as well, as `a · (1/b)` does.
fn half_of_elements() {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let (op, a, b) = elementwise(random);
        let site = two_inputs("Half", "", &format!("{op} %a, %b"), &a, &b, a.shape());
        let twin = |r: &ArrayD<f64>| Expected { relevance: product::half(2, r), bias: 0.0, stabiliser: 0.0 };
        site.check(random, &mut count, twin);
        // As coefficient nothing reaches a factor of zero; its share is that of a product that is zero.
        site.check_carried(random, &mut count, Carrier::Coefficient, twin);
    }
    count.suffices(2 * CASES as usize);
}

#[test]
fn half_coefficients() {
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let (op, a, b) = elementwise(random);
        let site = two_inputs("Half", "", &format!("{op} %a, %b"), &a, &b, a.shape());
        let (double, _) = site.coefficients(random);
        let g = double.relevance("y");
        let factors = [a.clone(), if op == "mul" { b.clone() } else { b.mapv(f64::recip) }];
        let mut expected = product::half_coefficients(&factors, g);
        if op == "div" {
            // The coefficient of 1/b, with respect to b: R = (1/b)·g = b·(g/b²).
            expected[1] = &expected[1] / &(&b * &b);
        }
        for (name, expected) in ["a", "b"].iter().zip(&expected) {
            assert_close(double.relevance(name), expected, 1e-12 * largest(g).max(largest(expected)), op);
        }
    }
}

fn half_of_contractions() {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let (rows, inner, columns) = (random.within(1, 4), random.within(1, 6), random.within(1, 4));
        let (eps, style, batch) = (random.pick(&[0.0, 1e-6, 1e-2]), random.style(), random.within(1, 2));
        let turned = random.one_in(2);
        let b_shape = if turned { [batch, columns, inner] } else { [batch, inner, columns] };
        let (a, b) = (random.tensor(&[batch, rows, inner], style), random.tensor(&b_shape, style));
        let op = format!("dot %a, %b {{batch=0x0, contract=2x{}}}", if turned { 2 } else { 1 });
        let site = two_inputs("Half", &format!("eps = {eps:?}"), &op, &a, &b, &[batch, rows, columns]);
        let twin = |relevance: &ArrayD<f64>| {
            let (mut to_a, mut to_b, mut stabiliser) = (a.clone(), b.clone(), 0.0);
            for sample in 0..batch {
                let matrix = |array: &ArrayD<f64>| {
                    array.index_axis(ndarray::Axis(0), sample).to_owned().into_dimensionality::<Ix2>().unwrap()
                };
                let right = if turned { matrix(&b).reversed_axes() } else { matrix(&b) };
                let (left_share, right_share, lost) = half_matmul(&matrix(&a), &right, &matrix(relevance), eps);
                let right_share = if turned { right_share.reversed_axes() } else { right_share };
                to_a.index_axis_mut(ndarray::Axis(0), sample).assign(&left_share);
                to_b.index_axis_mut(ndarray::Axis(0), sample).assign(&right_share);
                stabiliser += lost;
            }
            Expected { relevance: vec![to_a, to_b], bias: 0.0, stabiliser }
        };
        site.check(random, &mut count, twin);
        // Where factors cancel to exactly 0, a coefficient goes on although there is no relevance to share.
        if style == Style::Fine {
            site.check_carried(random, &mut count, Carrier::Coefficient, twin);
        }
    }
    count.suffices(CASES as usize);
}

#[test]
pub fn bounded_gate() {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let (rows, columns, style) = (random.within(1, 3), random.within(1, 4), random.style());
        let (signal, gate) = (random.tensor(&[rows, columns], style), random.tensor(&[rows, 1], style));
        let gate_first = random.one_in(2);
        let function = random.pick(&["sigmoid %g", "hard_sigmoid %g {alpha=0.2, beta=0.5}"]);
        let operands = if gate_first { "%wide, %s" } else { "%s, %wide" };
        let site = Site {
            rule: "BoundedGate",
            with: String::new(),
            header: format!("input %s : f32[{rows}, {columns}]\ninput %g : f32[{rows}, 1]"),
            forward: format!(
                "%open = {function} : f32[{rows}, 1] from \"/gate\"\n\
                 %wide = broadcast %open : f32[{rows}, {columns}] from \"/wide\"\n\
                 %y = mul {operands} : f32[{rows}, {columns}] from \"/site\""
            ),
            shape: vec![rows, columns],
            explained: vec!["s", "g"],
            tensors: Tensors::from([("s".to_string(), signal), ("g".to_string(), gate.clone())]),
        };
        let twin = |r: &ArrayD<f64>| {
            let mut parts = product::gate(2, 0, r);
            parts[1] = ArrayD::zeros(gate.raw_dim());
            Expected { relevance: parts, bias: 0.0, stabiliser: 0.0 }
        };
        site.check(random, &mut count, twin);
        site.check_carried(random, &mut count, Carrier::Coefficient, twin);
    }
    count.suffices(2 * CASES as usize);
}

/// Nested products of k factors, however bracketed, give each factor one share of k.
#[test]
fn half_of_chains() {
    let mut count = Count::default();
    let chains: [(&[&str], usize); 4] = [
        (&["%p = mul %a, %b", "%y = mul %p, %c"], 3),
        (&["%p = mul %b, %c", "%y = mul %a, %p"], 3),
        (&["%p = mul %a, %b", "%q = mul %c, %d", "%y = mul %p, %q"], 4),
        (&["%p = mul %a, %b", "%q = mul %p, %c", "%y = mul %q, %d"], 4),
    ];
    let place = |line: &str| if line.starts_with("%y") { "/site" } else { "/inner" };
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let (lines, factors) = random.pick(&chains);
        let names = &["a", "b", "c", "d"][..factors];
        let tensors: Tensors =
            names.iter().map(|name| (name.to_string(), random.tensor(&[2, 3], Style::Fine))).collect();
        let site = Site {
            rule: "Half",
            with: String::new(),
            header: names.iter().map(|name| format!("input %{name} : f32[2, 3]\n")).collect(),
            forward: lines.iter().map(|line| format!("{line} : f32[2, 3] from \"{}\"\n", place(line))).collect(),
            shape: vec![2, 3],
            explained: names.to_vec(),
            tensors,
        };
        for carrier in [Carrier::Relevance, Carrier::Coefficient] {
            site.check_carried(random, &mut count, carrier, |r| Expected {
                relevance: product::half(factors, r),
                bias: 0.0,
                stabiliser: 0.0,
            });
        }
    }
    count.suffices(2 * CASES as usize);
}

#[test]
pub fn gate() {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let shape = [random.within(1, 3), random.within(1, 4)];
        let (u, v) = (random.tensor(&shape, Style::Fine), random.tensor(&shape, Style::Fine));
        let act = random.pick(&["swish %u", "gelu %u", "relu %u", "tanh %u"]);
        let operands = if random.one_in(2) { "%open, %v" } else { "%v, %open" };
        let site = Site {
            rule: "Gate",
            with: String::new(),
            header: format!("input %u : f32{shape:?}\ninput %v : f32{shape:?}"),
            forward: format!(
                "%open = {act} : f32{shape:?} from \"/act\"\n%y = mul {operands} : f32{shape:?} from \"/site\""
            ),
            shape: shape.to_vec(),
            explained: vec!["v", "u"],
            tensors: Tensors::from([("u".to_string(), u), ("v".to_string(), v)]),
        };
        let twin = |r: &ArrayD<f64>| Expected { relevance: product::gate(2, 0, r), bias: 0.0, stabiliser: 0.0 };
        site.check(random, &mut count, twin);
        site.check_carried(random, &mut count, Carrier::Coefficient, twin);
    }
    count.suffices(CASES as usize);
}

/// Attention over one head, its weights constant: the values are the input of a linear map with the weights as matrix.
#[test]
pub fn value_path() {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let (rows, inner, columns) = (random.within(1, 4), random.within(2, 5), random.within(1, 4));
        let (q, v) = (random.tensor(&[rows, inner], Style::Fine), random.tensor(&[inner, columns], Style::Fine));
        let eps = random.pick(&[0.0, 1e-6, 1e-2]);
        let site = Site {
            rule: "ValuePath",
            with: format!("eps = {eps:?}"),
            header: format!("input %q : f32[{rows}, {inner}]\ninput %v : f32[{inner}, {columns}]"),
            forward: format!(
                "%a = softmax %q {{axis=1}} : f32[{rows}, {inner}] from \"/softmax\"\n\
                 %y = dot %a, %v {{contract=1x0}} : f32[{rows}, {columns}] from \"/site\""
            ),
            shape: vec![rows, columns],
            explained: vec!["v", "q"],
            tensors: Tensors::from([("q".to_string(), q.clone()), ("v".to_string(), v.clone())]),
        };
        let weights = lrpc_twins::normalize::softmax(&q, 1).into_dimensionality::<Ix2>().unwrap();
        let values = v.clone().into_dimensionality::<Ix2>().unwrap();
        site.check(random, &mut count, |r| {
            let r = r.clone().into_dimensionality::<Ix2>().unwrap();
            let (to_v, lost) = product::value_path(&weights, &values, &r, eps);
            let relevance = vec![to_v.into_dyn(), ArrayD::zeros(q.raw_dim())];
            Expected { relevance, bias: 0.0, stabiliser: lost }
        });
    }
    count.suffices(CASES as usize);
}

/// With `half=all` the output of a sigmoid takes its half; an activation spelled out stays one.
#[test]
fn half_without_exception() {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let shape = [random.within(1, 3), random.within(1, 4)];
        let (signal, gate) = (random.tensor(&shape, Style::Fine), random.tensor(&shape, Style::Fine));
        let own = random.one_in(2);
        let site = Site {
            rule: "BoundedGate",
            with: "half = 'all'".into(),
            header: format!("input %s : f32{shape:?}\ninput %g : f32{shape:?}"),
            forward: format!(
                "%open = sigmoid %{} : f32{shape:?} from \"/gate\"\n%y = mul %s, %open : f32{shape:?} from \"/site\"",
                if own { "s" } else { "g" }
            ),
            shape: shape.to_vec(),
            explained: vec!["s", "open"],
            tensors: Tensors::from([("s".to_string(), signal), ("g".to_string(), gate)]),
        };
        if own {
            let site = Site { explained: vec!["s"], ..site };
            let twin = |r: &ArrayD<f64>| Expected { relevance: vec![r.clone()], bias: 0.0, stabiliser: 0.0 };
            site.check(random, &mut count, twin);
            continue;
        }
        let twin = |r: &ArrayD<f64>| Expected { relevance: product::half(2, r), bias: 0.0, stabiliser: 0.0 };
        site.check(random, &mut count, twin);
        site.check_carried(random, &mut count, Carrier::Coefficient, twin);
    }
    count.suffices(CASES as usize);
}

/// One step of a selective scan read out, `y = (u·b)·c`, where `b` and `c` are functions of `u`: all goes to the signal.
#[test]
pub fn selective() {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let (rows, inner) = (random.within(1, 3), random.within(2, 5));
        let u = random.tensor(&[rows, inner], Style::Fine);
        let contracted = random.one_in(2);
        let eps = random.pick(&[0.0, 1e-6, 1e-2]);
        let shape = if contracted { vec![rows] } else { vec![rows, inner] };
        let op = if contracted { "dot %b, %u {batch=0x0, contract=1x1}" } else { "mul %b, %u" };
        let site = Site {
            rule: "Selective",
            with: format!("eps = {eps:?}"),
            header: format!("input %u : f32[{rows}, {inner}]\nweight @p : f32[{inner}, {inner}]"),
            forward: format!(
                "%b = dot %u, @p {{contract=1x0}} : f32[{rows}, {inner}] from \"/project\"\n%y = {op} : f32{shape:?} from \"/site\""
            ),
            shape: shape.clone(),
            explained: vec!["u", "b"],
            tensors: Tensors::from([
                ("u".to_string(), u.clone()),
                ("p".into(), random.tensor(&[inner, inner], Style::Fine)),
            ]),
        };
        let weights = site.tensors["p"].clone().into_dimensionality::<Ix2>().unwrap();
        let b = u.clone().into_dimensionality::<Ix2>().unwrap().dot(&weights);
        let twin = |r: &ArrayD<f64>| {
            if !contracted {
                return Expected { relevance: product::gate(2, 0, r), bias: 0.0, stabiliser: 0.0 };
            }
            // One row at a time, with its parameters as attention weights.
            let (mut to_u, mut lost) = (ArrayD::zeros(u.raw_dim()), 0.0);
            for row in 0..rows {
                let values = u.index_axis(ndarray::Axis(0), row).to_owned().into_shape_with_order((inner, 1)).unwrap();
                let held = b.row(row).to_owned().into_shape_with_order((1, inner)).unwrap();
                let (part, absorbed) = product::value_path(&held, &values, &ndarray::arr2(&[[r[[row]]]]), eps);
                to_u.index_axis_mut(ndarray::Axis(0), row).assign(&part.column(0));
                lost += absorbed;
            }
            Expected { relevance: vec![to_u, ArrayD::zeros(u.raw_dim())], bias: 0.0, stabiliser: lost }
        };
        site.check(random, &mut count, twin);
    }
    count.suffices(CASES as usize);
}
