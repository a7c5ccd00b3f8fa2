//! The two floating-point types of computation and the functions that kernels need of them.

use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

use crate::memory::Plain;

/// `f32` or `f64`.
pub(crate) trait Real:
    Plain
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + SubAssign
    + Mul<Output = Self>
    + MulAssign
    + Div<Output = Self>
    + Neg<Output = Self>
{
    const ZERO: Self;
    const ONE: Self;
    const NEG_INFINITY: Self;
    const INFINITY: Self;

    fn of(value: f64) -> Self;
    fn wide(self) -> f64;
    fn is_nan(self) -> bool;
    fn abs(self) -> Self;
    fn exp(self) -> Self;
    fn exp_m1(self) -> Self;
    fn ln(self) -> Self;
    fn ln_1p(self) -> Self;
    fn sqrt(self) -> Self;
    fn sin(self) -> Self;
    fn cos(self) -> Self;
    fn tan(self) -> Self;
    fn asin(self) -> Self;
    fn acos(self) -> Self;
    fn atan(self) -> Self;
    fn sinh(self) -> Self;
    fn cosh(self) -> Self;
    fn tanh(self) -> Self;
    fn asinh(self) -> Self;
    fn acosh(self) -> Self;
    fn atanh(self) -> Self;
    fn erf(self) -> Self;
    fn erfc(self) -> Self;
    fn powf(self, exponent: Self) -> Self;
    fn floor(self) -> Self;
    fn ceil(self) -> Self;
    fn round_ties_even(self) -> Self;
}

macro_rules! real {
    ($number:ident, $erf:path, $erfc:path) => {
        impl Real for $number {
            const ZERO: $number = 0.0;
            const ONE: $number = 1.0;
            const NEG_INFINITY: $number = $number::NEG_INFINITY;
            const INFINITY: $number = $number::INFINITY;

            #[inline(always)]
            fn of(value: f64) -> $number {
                value as $number
            }

            #[inline(always)]
            fn wide(self) -> f64 {
                self.into()
            }

            #[inline(always)]
            fn erf(self) -> $number {
                $erf(self)
            }

            #[inline(always)]
            fn erfc(self) -> $number {
                $erfc(self)
            }

            #[inline(always)]
            fn powf(self, exponent: $number) -> $number {
                $number::powf(self, exponent)
            }

            #[inline(always)]
            fn is_nan(self) -> bool {
                $number::is_nan(self)
            }

            real!(@ $number: abs exp exp_m1 ln ln_1p sqrt sin cos tan asin acos atan sinh cosh tanh);
            real!(@ $number: asinh acosh atanh floor ceil round_ties_even);
        }
    };
    (@ $number:ident: $($name:ident)*) => {
        $(#[inline(always)]
        fn $name(self) -> $number {
            $number::$name(self)
        })*
    };
}

real!(f32, libm::erff, libm::erfcf);
real!(f64, libm::erf, libm::erfc);
