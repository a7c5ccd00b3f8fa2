//! The relevance filter: only the largest part of what arrives at a linear map goes through it.

use lrpc_ir::graph::Value;
use lrpc_ir::ops::{Op, Select};
use lrpc_ir::types::product;
use lrpc_ir::{Absorbed, Diagnostic, Dim};

use super::builder::{Built, RelevanceBuilder};
use super::composite::Parameter;
use super::site::{Arrival, Carrier, Site};

/// Numbers of the fraction are kept to this resolution, so that symbolic sizes can be multiplied by it.
const PARTS: i64 = 1_000_000_000;

/// Which part of the relevance of each sample passes a linear map: the `max(1, ⌊p·n⌋)` largest of its `n` values, signs
/// counted; of equals the first. The first axis counts samples, so that no sample depends on its neighbours in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter {
    numerator: i64,
    denominator: i64,
}

impl Filter {
    /// The filter that a composite's parameter `filter` describes: a fraction, or `top(fraction)`.
    ///
    /// # Errors
    /// A fraction that is not above 0 and at most 1.
    pub fn from_parameter(parameter: &Parameter) -> Result<Filter, Diagnostic> {
        let fraction = match parameter {
            Parameter::Number(fraction) => Some(*fraction),
            Parameter::Word(word) => {
                let inner = word.strip_prefix("top(").and_then(|rest| rest.strip_suffix(')'));
                inner.and_then(|inner| inner.trim().parse().ok())
            }
            Parameter::Numbers(_) => None,
        };
        let wrong = || {
            Diagnostic::request(format!("`filter` is a fraction above 0 and at most 1, not {parameter}"))
                .help("write it as filter=0.1 or filter=top(0.1)")
        };
        let fraction = fraction.filter(|&fraction| fraction > 0.0 && fraction <= 1.0).ok_or_else(wrong)?;
        let numerator = (fraction * PARTS as f64).round() as i64;
        if numerator == 0 {
            return Err(wrong());
        }
        let common = greatest_common_divisor(numerator, PARTS);
        Ok(Filter { numerator: numerator / common, denominator: PARTS / common })
    }

    /// What of the site's arrival passes. What does not is booked as absorbed by the rule.
    ///
    /// # Errors
    /// Sizes that cannot be multiplied.
    pub(super) fn pass(self, b: &mut RelevanceBuilder, site: &Site) -> Built<Arrival> {
        let shape = b.ty(site.arrival.value).shape;
        let Some((samples, elements)) = shape.split_first() else { return Ok(site.arrival) };
        if self.numerator == self.denominator {
            return Ok(site.arrival);
        }
        let length = product(elements)?;
        let part = length.mul(&Dim::Known(self.numerator))?.floor_div(&Dim::Known(self.denominator))?;
        let count = part.maximum(&Dim::Known(1))?;
        let rows = [samples.clone(), length.clone()];

        let relevance = site.relevance(b)?;
        let flat = b.reshape(relevance, &rows, "flat")?;
        let largest = b.op(Op::Select(Select::TopK { axis: 1, count, largest: true }), &[flat], "top")?;
        let arrived = b.reshape(site.arrival.value, &rows, "flat")?;
        let kept = b.op(Op::Select(Select::Gather { axis: 1, batch: 1 }), &[arrived, largest], "kept")?;
        let back = Select::ScatterAdd { axis: 1, batch: 1, size: length, unique_indices: true };
        let kept = b.op(Op::Select(back), &[kept, largest], "kept")?;
        let kept = b.reshape(kept, &shape, "kept")?;
        let dropped = b.sub(site.arrival.value, kept, "dropped")?;
        let dropped = self.relevance_of(b, site, dropped)?;
        b.absorb(Absorbed::Rule, dropped);
        Ok(Arrival { value: kept, ..site.arrival })
    }

    fn relevance_of(self, b: &mut RelevanceBuilder, site: &Site, value: Value) -> Built<Value> {
        match site.arrival.carrier {
            Carrier::Relevance => Ok(value),
            Carrier::Coefficient => {
                let y = b.activation(site.output)?;
                b.weigh(y, value, "dropped")
            }
        }
    }
}

fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a.max(1) } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_read_exactly() {
        let read = |parameter| Filter::from_parameter(&parameter).map(|filter| (filter.numerator, filter.denominator));
        assert_eq!(read(Parameter::Number(0.1)).unwrap(), (1, 10));
        assert_eq!(read(Parameter::Word("top(0.29)".into())).unwrap(), (29, 100));
        assert_eq!(read(Parameter::Number(1.0)).unwrap(), (1, 1));
        for wrong in [Parameter::Number(0.0), Parameter::Number(1.5), Parameter::Number(f64::NAN)] {
            assert!(read(wrong).unwrap_err().to_string().contains("above 0 and at most 1"));
        }
        assert!(read(Parameter::Word("best(0.1)".into())).is_err());
        assert!(read(Parameter::Numbers(vec![0.1])).is_err());
    }
}
