//! Numbers for tests: random with a seed, exact in f32, with exact zeros of both signs.

use ndarray::{ArrayD, IxDyn};

/// A generator of random numbers (xorshift64*).
pub struct Random(u64);

/// How numbers are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Multiples of ⅛ from −1 to 1: zeros, ties and sums that cancel exactly, in f32 too.
    Coarse,
    /// Any f32 from −1 to 1, one in ten an exact zero of either sign.
    Fine,
    /// Either of these, among numbers that are next to zero and such that f32 holds with few digits only.
    Hard,
}

impl Random {
    /// The generator of this seed.
    pub fn new(seed: u64) -> Random {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        (0..4).for_each(|_| {
            random.next();
        });
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    /// A number from 0 to below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A number from `low` to `high`, both included.
    pub fn within(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// Whether something happens that does once in `times`.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// Either style.
    pub fn style(&mut self) -> Style {
        self.pick(&[Style::Coarse, Style::Fine])
    }

    /// A number from −1 to 1 that f32 holds.
    pub fn unit(&mut self) -> f64 {
        f64::from((self.below(1 << 24) as f64 / f64::from(1 << 23) - 1.0) as f32)
    }

    /// A number in the given style.
    pub fn value(&mut self, style: Style) -> f64 {
        match style {
            Style::Coarse => {
                let value = (self.below(17) as f64 - 8.0) / 8.0;
                if value == 0.0 && self.one_in(2) { -0.0 } else { value }
            }
            Style::Hard if self.one_in(6) => {
                f64::from(self.pick(&[1e-40f32, -3e-42, f32::from_bits(1), 3e-21, -7e-20]))
            }
            Style::Hard => {
                let style = self.style();
                self.value(style)
            }
            Style::Fine if self.one_in(10) => self.pick(&[0.0, -0.0]),
            Style::Fine => self.unit(),
        }
    }

    /// A tensor in the given style.
    pub fn tensor(&mut self, shape: &[usize], style: Style) -> ArrayD<f64> {
        ArrayD::from_shape_simple_fn(IxDyn(shape), || self.value(style))
    }

    /// A tensor without zeros: absolute values from ¼ to 1¼.
    pub fn away_from_zero(&mut self, shape: &[usize]) -> ArrayD<f64> {
        ArrayD::from_shape_simple_fn(IxDyn(shape), || {
            let value = self.unit();
            f64::from((value + 0.25f64.copysign(value)) as f32)
        })
    }
}
