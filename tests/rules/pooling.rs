//! Equal and proportional shares of windows and reductions.

use lrpc_twins::pool::{proportional_relevance, uniform_relevance};
use lrpc_twins::window::Window;
use ndarray::{Array1, ArrayD};

use crate::check::{Count, Expected, Site};
use crate::funnel::Tensors;
use crate::numbers::{Random, Style};

const CASES: u64 = 40;

/// A pooling or a reduction over all spatial axes, as one window.
struct Pooled {
    op: String,
    window: Window,
    x: ArrayD<f64>,
    shape: Vec<usize>,
}

impl Pooled {
    fn draw(random: &mut Random) -> Pooled {
        let rank = random.within(1, 2);
        let spatial: Vec<usize> = (0..rank).map(|_| random.within(4, 5)).collect();
        let reduced = random.one_in(3);
        let mut draw =
            |low: usize, high: usize| -> Vec<usize> { (0..rank).map(|_| random.within(low, high)).collect() };
        let (window, op) = if reduced {
            (Window::new(&spatial), String::new())
        } else {
            let window = Window {
                kernel: draw(2, 3),
                strides: draw(1, 2),
                pads: [draw(0, 1), draw(0, 1)].concat(),
                dilations: vec![1; rank],
                ceil_mode: false,
            };
            let (before, after) = window.pads.split_at(rank);
            let numbers =
                format!("window={:?}, stride={:?}, pad={before:?}, pad_after={after:?}", window.kernel, window.strides);
            (window, numbers)
        };
        let op = if reduced {
            let kind = random.pick(&["max", "min", "mean", "sum"]);
            format!("reduce_{kind} %x {{axes={:?}, keep=true}}", (2..rank + 2).collect::<Vec<_>>())
        } else {
            // Places behind the last element count only where padding is averaged too.
            let kind = random.pick(&["max", "average", "average_with_padding"]);
            let op = if kind == "average_with_padding" { op } else { op.split(", pad_after").next().unwrap().into() };
            format!("pool %x {{kind={kind}, {op}}}")
        };
        let shape = [vec![2, 2], window.output_size(&spatial)].concat();
        let x = random.tensor(&[vec![2, 2], spatial].concat(), Style::Coarse);
        Pooled { op, window, x, shape }
    }

    fn site(&self, rule: &'static str, with: &str) -> Site {
        Site {
            rule,
            with: with.into(),
            header: format!("input %x : f32{:?}", self.x.shape()),
            forward: format!("%y = {} : f32{:?} from \"/site\"", self.op, self.shape),
            shape: self.shape.clone(),
            explained: vec!["x"],
            tensors: Tensors::from([("x".to_string(), self.x.clone())]),
        }
    }

    fn expected(
        &self,
        relevance: &ArrayD<f64>,
        twin: impl Fn(&Array1<f64>, &[usize], &Array1<f64>) -> (Array1<f64>, f64),
    ) -> Expected {
        let (mut to_x, mut stabiliser) = (Vec::new(), 0.0);
        for (x, r) in self.x.outer_iter().zip(relevance.outer_iter()) {
            let (shares, lost) = twin(&x.iter().copied().collect(), &self.x.shape()[1..], &r.iter().copied().collect());
            to_x.extend(shares);
            stabiliser += lost;
        }
        let relevance = vec![ArrayD::from_shape_vec(self.x.raw_dim(), to_x).unwrap()];
        Expected { relevance, bias: 0.0, stabiliser }
    }
}

#[test]
pub fn uniform_pool() {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let pooled = Pooled::draw(random);
        pooled.site("UniformPool", "").check(random, &mut count, |r| {
            pooled.expected(r, |_, shape, r| (uniform_relevance(shape, &pooled.window, r), 0.0))
        });
    }
    count.suffices(CASES as usize);
}

#[test]
pub fn proportional_pool() {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let eps = random.pick(&[0.0, 1e-6, 1e-2]);
        let pooled = Pooled::draw(random);
        pooled.site("ProportionalPool", &format!("eps = {eps:?}")).check(random, &mut count, |r| {
            pooled.expected(r, |x, shape, r| proportional_relevance(x, shape, &pooled.window, r, eps))
        });
    }
    count.suffices(CASES as usize);
}
