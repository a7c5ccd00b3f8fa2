//! Element-wise operations over slices of equal length; fused regions call the same code block by block.

use lrpc_ir::DType;
use lrpc_ir::ops::{Binary, Compare, Elementwise, Function, Unary};
use rayon::prelude::*;

use super::functions::{derivative, map, secant, value};
use super::real::Real;
use super::view::{View, ViewMut, ensure, for_number, for_real, operands};
use crate::error::RunErrorKind;
use crate::memory::Plain;

/// Elements that one task computes.
const TASK: usize = 1 << 14;

/// One operation over whole tensors, cut into tasks.
pub(super) fn run(op: &Elementwise, inputs: &[View<'_>], output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    let (dtype, shape, size) = (output.dtype, output.shape, output.dtype.size());
    let elements = output.bytes.len() / size;
    ensure(inputs.iter().all(|input| input.len() == elements), "element-wise operands of one shape")?;
    output.bytes.par_chunks_mut(TASK * size).enumerate().try_for_each(|(task, bytes)| {
        let start = task * TASK;
        let end = start + bytes.len() / size;
        let parts = inputs.iter().map(|input| {
            let size = input.dtype.size();
            View { bytes: &input.bytes[start * size..end * size], ..*input }
        });
        let parts: Vec<View<'_>> = parts.collect();
        evaluate(op, &parts, &mut ViewMut { dtype, shape, bytes })
    })
}

/// One operation over operands that are as long as the result; shapes do not matter here.
pub(super) fn evaluate(op: &Elementwise, inputs: &[View<'_>], output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    match op {
        Elementwise::Unary(unary) => {
            let [x] = operands(inputs)?;
            run_unary(unary, x, output)
        }
        Elementwise::Derivative(unary) => {
            let [x] = operands(inputs)?;
            for_real!(x.dtype, "derivative", T => derivative::<T>(unary, x.values()?, output.values()?))
        }
        Elementwise::Secant(unary) => {
            let [x] = operands(inputs)?;
            for_real!(x.dtype, "secant", T => secant::<T>(unary, x.values()?, output.values()?))
        }
        Elementwise::Binary(binary) => {
            let [a, b] = operands(inputs)?;
            ensure(a.dtype == b.dtype && a.dtype == output.dtype, "operands of one element type")?;
            run_binary(*binary, a, b, output)
        }
        Elementwise::Compare(compare) => {
            let [a, b] = operands(inputs)?;
            ensure(a.dtype == b.dtype, "operands of one element type")?;
            for_number!(a.dtype, "comparison", T => {
                run_compare::<T>(*compare, a.values()?, b.values()?, output.values()?);
                Ok(())
            })
        }
        Elementwise::Where => {
            let [condition, a, b] = operands(inputs)?;
            let condition: &[u8] = condition.values()?;
            for_number!(output.dtype, "where", T => {
                let (a, b): (&[T], &[T]) = (a.values()?, b.values()?);
                for (((y, condition), a), b) in output.values::<T>()?.iter_mut().zip(condition).zip(a).zip(b) {
                    *y = if *condition != 0 { *a } else { *b };
                }
                Ok(())
            })
        }
        Elementwise::Cast(_) => {
            let [x] = operands(inputs)?;
            cast(x, output)
        }
        Elementwise::Narrow(dtype) => {
            let [x] = operands(inputs)?;
            for_real!(x.dtype, "narrow", T => narrow::<T>(*dtype, x.values()?, output.values()?))
        }
        Elementwise::BitCast { from, to } => {
            let [x] = operands(inputs)?;
            bit_cast(x, *from, *to, output)
        }
        Elementwise::Quantize => {
            let [x, scale, zero] = operands(inputs)?;
            quantize(x, scale, zero, output)
        }
        Elementwise::Dequantize => {
            let [q, scale, zero] = operands(inputs)?;
            dequantize(q, scale, zero, output)
        }
    }
}

/// `round(x / scale) + zero`, ties to even, saturated; the quotient is rounded to the type of `x`, the sum to none.
fn quantize(x: &View<'_>, scale: &View<'_>, zero: &View<'_>, output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    ensure(x.dtype == scale.dtype && zero.dtype == output.dtype, "operands of quantize of their types")?;
    for_real!(x.dtype, "quantize", T => for_number!(output.dtype, "quantize", U => {
        let operands = x.values::<T>()?.iter().zip(scale.values::<T>()?).zip(zero.values::<U>()?);
        for (y, ((x, scale), zero)) in output.values::<U>()?.iter_mut().zip(operands) {
            let steps = (*x / *scale).round_ties_even();
            *y = Arithmetic::from_f64(Real::wide(steps) + Arithmetic::to_f64(*zero));
        }
        Ok(())
    }))
}

/// `(q − zero)·scale`; the difference is exact up to 53 bits and rounded to the type of the scale.
fn dequantize(q: &View<'_>, scale: &View<'_>, zero: &View<'_>, output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    ensure(q.dtype == zero.dtype && scale.dtype == output.dtype, "operands of dequantize of their types")?;
    for_real!(output.dtype, "dequantize", T => for_number!(q.dtype, "dequantize", U => {
        let operands = q.values::<U>()?.iter().zip(scale.values::<T>()?).zip(zero.values::<U>()?);
        for (y, ((q, scale), zero)) in output.values::<T>()?.iter_mut().zip(operands) {
            *y = <T as Real>::of(Arithmetic::to_f64(*q) - Arithmetic::to_f64(*zero)) * *scale;
        }
        Ok(())
    }))
}

fn run_unary(unary: &Unary, x: &View<'_>, output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    match (unary.function, x.dtype) {
        (Function::Not, DType::Bool) => {
            map(x.values::<u8>()?, output.values::<u8>()?, |x| u8::from(x == 0));
            Ok(())
        }
        (Function::Not, _) => {
            map(x.bytes, output.bytes, |byte| !byte);
            Ok(())
        }
        (Function::IsNan, dtype) if !dtype.is_float() => {
            output.bytes.fill(0);
            Ok(())
        }
        (Function::IsNan, dtype) => for_real!(dtype, "is_nan", T => {
            map(x.values::<T>()?, output.values::<u8>()?, |x| u8::from(x.is_nan()));
            Ok(())
        }),
        (_, DType::F32) => value::<f32>(unary, x.values()?, output.values()?),
        (_, DType::F64) => value::<f64>(unary, x.values()?, output.values()?),
        (_, dtype) => integers(dtype, unary, x, output),
    }
}

/// Numbers with the arithmetic of binary operations; integers wrap, and division by zero gives 0.
trait Arithmetic: Plain {
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    fn ratio(self, other: Self) -> Self;
    fn pow(self, other: Self) -> Self;
    fn modulo(self, other: Self) -> Self;
    fn remainder(self, other: Self) -> Self;
    fn shift_left(self, places: Self) -> Self;
    fn shift_right(self, places: Self) -> Self;
    fn is_nan(self) -> bool;
    fn to_f64(self) -> f64;
    fn from_f64(value: f64) -> Self;
}

macro_rules! floats {
    ($($number:ty)*) => {$(
        impl Arithmetic for $number {
            #[inline(always)]
            fn add(self, other: $number) -> $number { self + other }
            #[inline(always)]
            fn sub(self, other: $number) -> $number { self - other }
            #[inline(always)]
            fn mul(self, other: $number) -> $number { self * other }
            #[inline(always)]
            fn div(self, other: $number) -> $number { self / other }
            #[inline(always)]
            fn ratio(self, other: $number) -> $number {
                // What meets an infinite divisor is unknown, not nothing.
                if other.is_infinite() && self != 0.0 { return <$number>::NAN; }
                let quotient = self / other;
                let overflows = !quotient.is_finite() && self.is_finite() && !<$number>::is_nan(other);
                let denormal = other.abs() < <$number>::MIN_POSITIVE && self.is_finite();
                if other == 0.0 || overflows || denormal { 0.0 } else { quotient }
            }
            #[inline(always)]
            fn pow(self, other: $number) -> $number { Real::powf(self, other) }
            #[inline(always)]
            fn modulo(self, other: $number) -> $number {
                let rest = self % other;
                if rest == 0.0 { return <$number>::copysign(0.0, other); }
                if (rest < 0.0) != (other < 0.0) { rest + other } else { rest }
            }
            #[inline(always)]
            fn remainder(self, other: $number) -> $number { self % other }
            // Type inference lets no floating-point number be shifted.
            fn shift_left(self, _: $number) -> $number { self }
            fn shift_right(self, _: $number) -> $number { self }
            #[inline(always)]
            fn is_nan(self) -> bool { Real::is_nan(self) }
            #[inline(always)]
            fn to_f64(self) -> f64 { self.into() }
            #[inline(always)]
            fn from_f64(value: f64) -> $number { value as $number }
        }
    )*};
}

macro_rules! integers {
    ($($number:ty)*) => {$(
        impl Arithmetic for $number {
            #[inline(always)]
            fn add(self, other: $number) -> $number { self.wrapping_add(other) }
            #[inline(always)]
            fn sub(self, other: $number) -> $number { self.wrapping_sub(other) }
            #[inline(always)]
            fn mul(self, other: $number) -> $number { self.wrapping_mul(other) }
            #[inline(always)]
            fn div(self, other: $number) -> $number {
                if other == 0 { 0 } else { self.wrapping_div(other) }
            }
            #[inline(always)]
            fn ratio(self, other: $number) -> $number { Arithmetic::div(self, other) }
            fn pow(self, other: $number) -> $number {
                u32::try_from(other).map_or(0, |exponent| self.wrapping_pow(exponent))
            }
            #[inline(always)]
            #[allow(unused_comparisons, reason = "one definition for signed and unsigned integers")]
            fn modulo(self, other: $number) -> $number {
                let rest = self.remainder(other);
                if rest != 0 && (rest < 0) != (other < 0) { rest.wrapping_add(other) } else { rest }
            }
            #[inline(always)]
            fn remainder(self, other: $number) -> $number {
                if other == 0 { 0 } else { self.wrapping_rem(other) }
            }
            #[inline(always)]
            fn shift_left(self, places: $number) -> $number {
                u32::try_from(places).ok().and_then(|places| self.checked_shl(places)).unwrap_or(0)
            }
            #[inline(always)]
            fn shift_right(self, places: $number) -> $number {
                // Moved by half the width twice, only copies of the sign are left.
                let half = <$number>::BITS / 2;
                u32::try_from(places).ok().and_then(|places| self.checked_shr(places)).unwrap_or((self >> half) >> half)
            }
            #[inline(always)]
            fn is_nan(self) -> bool { false }
            #[inline(always)]
            fn to_f64(self) -> f64 { self as f64 }
            #[inline(always)]
            fn from_f64(value: f64) -> $number { value as $number }
        }
    )*};
}

floats!(f32 f64);
integers!(i8 i16 i32 i64 u8 u16 u32 u64);

/// Functions of integers: those that stay integers are exact, the others are computed in f64 and truncated.
fn integers(dtype: DType, unary: &Unary, x: &View<'_>, output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    ensure(x.dtype == output.dtype, "a function of integers gives integers")?;
    for_number!(dtype, unary.function.name(), T => {
        let (x, y): (&[T], &mut [T]) = (x.values()?, output.values()?);
        let zero = T::default();
        match unary.function {
            Function::Neg => map(x, y, |x| Arithmetic::sub(zero, x)),
            Function::Abs => map(x, y, |x| if x < zero { Arithmetic::sub(zero, x) } else { x }),
            Function::Relu | Function::Positive => map(x, y, |x| if x < zero { zero } else { x }),
            Function::Negative => map(x, y, |x| if x > zero { zero } else { x }),
            Function::Floor | Function::Ceil | Function::Round | Function::StopGradient => y.copy_from_slice(x),
            _ => {
                for (y, x) in y.iter_mut().zip(x) {
                    let mut wide = [0.0];
                    value::<f64>(unary, &[Arithmetic::to_f64(*x)], &mut wide)?;
                    *y = Arithmetic::from_f64(wide[0]);
                }
            }
        }
        Ok(())
    })
}

#[inline(always)]
fn zip<T: Copy, U>(a: &[T], b: &[T], y: &mut [U], f: impl Fn(T, T) -> U) {
    for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
        *y = f(*a, *b);
    }
}

fn run_binary(binary: Binary, a: &View<'_>, b: &View<'_>, output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    if matches!(binary, Binary::And | Binary::Or | Binary::Xor) {
        if output.dtype != DType::Bool {
            ensure(output.dtype.is_integer(), "truth values or integers as operands")?;
            match binary {
                Binary::And => zip(a.bytes, b.bytes, output.bytes, |a, b| a & b),
                Binary::Or => zip(a.bytes, b.bytes, output.bytes, |a, b| a | b),
                _ => zip(a.bytes, b.bytes, output.bytes, |a, b| a ^ b),
            }
            return Ok(());
        }
        let (a, b, y): (&[u8], &[u8], &mut [u8]) = (a.values()?, b.values()?, output.values()?);
        match binary {
            Binary::And => zip(a, b, y, |a, b| u8::from(a != 0 && b != 0)),
            Binary::Or => zip(a, b, y, |a, b| u8::from(a != 0 || b != 0)),
            _ => zip(a, b, y, |a, b| u8::from((a != 0) != (b != 0))),
        }
        return Ok(());
    }
    for_number!(output.dtype, "arithmetic", T => {
        arithmetic::<T>(binary, a.values()?, b.values()?, output.values()?);
        Ok(())
    })
}

fn arithmetic<T: Arithmetic>(binary: Binary, a: &[T], b: &[T], y: &mut [T]) {
    let zero = T::default();
    let one = T::from_f64(1.0);
    match binary {
        Binary::Add => zip(a, b, y, T::add),
        Binary::Sub => zip(a, b, y, T::sub),
        Binary::Mul => zip(a, b, y, T::mul),
        Binary::Div => zip(a, b, y, T::div),
        Binary::Ratio => zip(a, b, y, T::ratio),
        Binary::Weigh => zip(a, b, y, |a, b| if b == zero { zero } else { a.mul(b) }),
        Binary::Pow => zip(a, b, y, T::pow),
        Binary::Min => zip(a, b, y, |a, b| if a < b || a.is_nan() { a } else { b }),
        Binary::Max => zip(a, b, y, |a, b| if a > b || a.is_nan() { a } else { b }),
        Binary::Mod => zip(a, b, y, T::modulo),
        Binary::Fmod => zip(a, b, y, T::remainder),
        Binary::Prelu => zip(a, b, y, |a, b| if a < zero { b.mul(a) } else { a }),
        Binary::PreluSlope => zip(a, b, y, |a, b| if a < zero { b } else { one }),
        Binary::ShiftLeft => zip(a, b, y, T::shift_left),
        Binary::ShiftRight => zip(a, b, y, T::shift_right),
        // Truth values and bits have been served before.
        Binary::And | Binary::Or | Binary::Xor => {}
    }
}

fn run_compare<T: Plain>(compare: Compare, a: &[T], b: &[T], y: &mut [u8]) {
    match compare {
        Compare::Equal => zip(a, b, y, |a, b| u8::from(a == b)),
        Compare::Less => zip(a, b, y, |a, b| u8::from(a < b)),
        Compare::LessOrEqual => zip(a, b, y, |a, b| u8::from(a <= b)),
        Compare::Greater => zip(a, b, y, |a, b| u8::from(a > b)),
        Compare::GreaterOrEqual => zip(a, b, y, |a, b| u8::from(a >= b)),
    }
}

/// The same numbers in another element type; floating-point numbers truncate to integers and saturate.
pub(super) fn cast(x: &View<'_>, output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    if x.dtype == output.dtype {
        ensure(x.bytes.len() == output.bytes.len(), "a cast of one size")?;
        output.bytes.copy_from_slice(x.bytes);
        return Ok(());
    }
    match (x.dtype, output.dtype) {
        (DType::F32, DType::F64) => map(x.values::<f32>()?, output.values::<f64>()?, f64::from),
        (DType::F64, DType::F32) => map(x.values::<f64>()?, output.values::<f32>()?, |x| x as f32),
        (_, DType::Bool) => for_number!(x.dtype, "cast", T => {
            map(x.values::<T>()?, output.values::<u8>()?, |x| u8::from(x != T::default()));
            Ok(())
        })?,
        (from, to) if !from.is_float() => for_number!(from, "cast", T => for_number!(to, "cast", U => {
            // Integers pass through 64 bits; the sign of an unsigned 64-bit number beyond 2⁶³ is lost only among types
            // that cannot hold it.
            map(x.values::<T>()?, output.values::<U>()?, |x| x as i128 as U);
            Ok(())
        }))?,
        (from, to) => for_real!(from, "cast", T => for_number!(to, "cast", U => {
            map(x.values::<T>()?, output.values::<U>()?, |x| x as U);
            Ok(())
        }))?,
    }
    Ok(())
}

/// The bits of `from` as `to`; both are stored as their storage types, which may be wider.
fn bit_cast(x: &View<'_>, from: DType, to: DType, output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    let mut bits = Vec::with_capacity(x.len() * from.size());
    for (element, value) in x.bytes.chunks_exact(x.dtype.size()).zip(to_f64(x.dtype, x.bytes)) {
        match from {
            DType::F16 => bits.extend(half::f16::from_f64(value).to_le_bytes()),
            DType::Bf16 => bits.extend(half::bf16::from_f64(value).to_le_bytes()),
            DType::F32 if x.dtype != from => bits.extend((value as f32).to_le_bytes()),
            _ => bits.extend(element),
        }
    }
    for (slot, element) in output.bytes.chunks_exact_mut(output.dtype.size()).zip(bits.chunks_exact(to.size())) {
        let wide = match (to, element) {
            (DType::F16, &[a, b]) => Some(half::f16::from_le_bytes([a, b]).to_f64()),
            (DType::Bf16, &[a, b]) => Some(half::bf16::from_le_bytes([a, b]).to_f64()),
            (DType::F32, &[a, b, c, d]) if output.dtype != to => Some(f32::from_le_bytes([a, b, c, d]).into()),
            _ => None,
        };
        match (wide, output.dtype) {
            (Some(wide), DType::F32) => slot.copy_from_slice(&(wide as f32).to_le_bytes()),
            (Some(wide), _) => slot.copy_from_slice(&wide.to_le_bytes()),
            (None, DType::Bool) => slot.fill(u8::from(element != [0])),
            (None, _) => slot.copy_from_slice(element),
        }
    }
    Ok(())
}

/// Every number rounded to the nearest of the type `dtype`, ties to even.
fn narrow<T: Real>(dtype: DType, x: &[T], y: &mut [T]) -> Result<(), RunErrorKind> {
    match dtype {
        DType::F16 => map(x, y, |x| T::of(half::f16::from_f64(x.wide()).to_f64())),
        DType::Bf16 => map(x, y, |x| T::of(half::bf16::from_f64(x.wide()).to_f64())),
        DType::F32 => map(x, y, |x| T::of(f64::from(x.wide() as f32))),
        _ => y.copy_from_slice(x),
    }
    Ok(())
}

/// The elements as `f64`, whatever their type.
pub(crate) fn to_f64(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    let view = View { dtype, shape: &[], bytes };
    let wide: Result<Vec<f64>, RunErrorKind> = for_number!(dtype, "cast", T => {
        view.values::<T>().map(|values| values.iter().map(|&x| Arithmetic::to_f64(x)).collect())
    });
    wide.unwrap_or_default()
}
