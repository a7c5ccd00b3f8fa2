//! The search for numbers that are not finite.

use lrpc_ir::DType;
use rayon::prelude::*;

use super::real::Real;
use crate::memory::numbers;

/// What a tensor holds beside finite numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Content {
    pub nan: bool,
    pub infinity: bool,
}

impl Content {
    /// What is worst, in words.
    pub fn worst(self) -> Option<&'static str> {
        if self.nan {
            Some("NaN")
        } else if self.infinity {
            Some("infinity")
        } else {
            None
        }
    }

    pub fn join(self, other: Content) -> Content {
        Content { nan: self.nan || other.nan, infinity: self.infinity || other.infinity }
    }
}

/// Looks through a tensor; only floating-point numbers can be other than finite.
pub(super) fn content(dtype: DType, bytes: &[u8]) -> Content {
    match dtype {
        DType::F32 => look::<f32>(numbers(bytes).unwrap_or_default()),
        DType::F64 => look::<f64>(numbers(bytes).unwrap_or_default()),
        _ => Content::default(),
    }
}

fn look<T: Real>(values: &[T]) -> Content {
    let part = |values: &[T]| {
        // The product with 0 is 0 for finite numbers and NaN for all others; a sum of such products is quick to make.
        let suspicious = values.iter().fold(T::ZERO, |sum, value| sum + *value * T::ZERO).is_nan();
        if !suspicious {
            return Content::default();
        }
        let nan = values.iter().any(|value| value.is_nan());
        Content { nan, infinity: values.iter().any(|value| value.abs() == T::INFINITY) }
    };
    values.par_chunks(1 << 14).map(part).reduce(Content::default, Content::join)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_told_apart() {
        assert_eq!(look(&[1.0f32, -0.0]).worst(), None);
        assert_eq!(look(&[1.0f32, f32::NEG_INFINITY]).worst(), Some("infinity"));
        assert_eq!(look(&[f64::INFINITY, f64::NAN]).worst(), Some("NaN"));
        assert_eq!(look::<f64>(&[]).worst(), None);
    }
}
