//! Symbolic dimensions: polynomials with integer coefficients over named symbols, floors, minima and maxima.
//!
//! A [`Dim`] is kept in a canonical form (terms sorted, like terms merged, zero terms dropped, whole multiples taken out
//! of floors), so that two expressions that are equal as polynomials are equal as values. Arithmetic is checked: a
//! dimension that does not fit an `i64` is an error, never a wrapped number.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// The values of symbols, by name.
pub type Bindings = BTreeMap<String, i64>;

/// Why a dimension could not be computed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DimError {
    /// A value left the range of `i64`.
    #[error("the dimension overflows 64 bits")]
    Overflow,
    /// A divisor was zero.
    #[error("the dimension divides by zero")]
    DivisionByZero,
    /// A symbol has no value.
    #[error("dimension `{0}` has no value; give one with --dim {0}=SIZE")]
    Unbound(String),
}

/// One axis length: a number or an expression over symbols.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dim {
    /// A number.
    Known(i64),
    /// An expression that holds at least one symbol; never equal to a number.
    Symbolic(Arc<Polynomial>),
}

/// A sum of terms in canonical order; the term without factors, if any, is the constant.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Polynomial(BTreeMap<Vec<Atom>, i64>);

/// What a term multiplies.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Atom {
    Symbol(Arc<str>),
    Floor(Dim, Dim),
    Max(Dim, Dim),
    Min(Dim, Dim),
}

impl Dim {
    /// The symbol `name`.
    pub fn symbol(name: &str) -> Dim {
        Dim::from_atom(Atom::Symbol(name.into()))
    }

    fn from_atom(atom: Atom) -> Dim {
        Dim::Symbolic(Arc::new(Polynomial(BTreeMap::from([(vec![atom], 1)]))))
    }

    fn from_terms(mut terms: BTreeMap<Vec<Atom>, i64>) -> Dim {
        terms.retain(|_, coefficient| *coefficient != 0);
        match (terms.len(), terms.get(&Vec::new())) {
            (0, _) => Dim::Known(0),
            (1, Some(constant)) => Dim::Known(*constant),
            _ => Dim::Symbolic(Arc::new(Polynomial(terms))),
        }
    }

    fn terms(&self) -> BTreeMap<Vec<Atom>, i64> {
        match self {
            Dim::Known(0) => BTreeMap::new(),
            Dim::Known(value) => BTreeMap::from([(Vec::new(), *value)]),
            Dim::Symbolic(polynomial) => polynomial.0.clone(),
        }
    }

    /// The number, if the dimension is one.
    pub fn known(&self) -> Option<i64> {
        match self {
            Dim::Known(value) => Some(*value),
            Dim::Symbolic(_) => None,
        }
    }

    /// The symbol's name, if the dimension is a symbol alone.
    pub fn as_symbol(&self) -> Option<&str> {
        let Dim::Symbolic(polynomial) = self else { return None };
        match polynomial.0.iter().next() {
            Some((factors, 1)) if polynomial.0.len() == 1 => match factors.as_slice() {
                [Atom::Symbol(name)] => Some(name),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether some sizes of the symbols may make the two equal, as far as their difference tells.
    pub fn may_equal(&self, other: &Dim) -> bool {
        self.sub(other).is_ok_and(|difference| difference.known().is_none_or(|difference| difference == 0))
    }

    /// Whether every term has a negative coefficient, as in `-S` and `-2*S-1`.
    pub fn is_negated(&self) -> bool {
        match self {
            Dim::Known(value) => *value < 0,
            Dim::Symbolic(polynomial) => polynomial.0.values().all(|coefficient| *coefficient < 0),
        }
    }

    /// `self + other`.
    pub fn add(&self, other: &Dim) -> Result<Dim, DimError> {
        if let (Dim::Known(a), Dim::Known(b)) = (self, other) {
            return a.checked_add(*b).map(Dim::Known).ok_or(DimError::Overflow);
        }
        let mut terms = self.terms();
        for (factors, coefficient) in other.terms() {
            let slot = terms.entry(factors).or_insert(0);
            *slot = slot.checked_add(coefficient).ok_or(DimError::Overflow)?;
        }
        Ok(Dim::from_terms(terms))
    }

    /// `self − other`.
    pub fn sub(&self, other: &Dim) -> Result<Dim, DimError> {
        self.add(&other.mul(&Dim::Known(-1))?)
    }

    /// `self · other`.
    pub fn mul(&self, other: &Dim) -> Result<Dim, DimError> {
        if let (Dim::Known(a), Dim::Known(b)) = (self, other) {
            return a.checked_mul(*b).map(Dim::Known).ok_or(DimError::Overflow);
        }
        let mut terms: BTreeMap<Vec<Atom>, i64> = BTreeMap::new();
        for (left, a) in &self.terms() {
            for (right, b) in &other.terms() {
                let mut factors = [left.as_slice(), right.as_slice()].concat();
                factors.sort();
                let product = a.checked_mul(*b).ok_or(DimError::Overflow)?;
                let slot = terms.entry(factors).or_insert(0);
                *slot = slot.checked_add(product).ok_or(DimError::Overflow)?;
            }
        }
        Ok(Dim::from_terms(terms))
    }

    /// `⌊self / divisor⌋`. Whole multiples of a constant divisor are taken out of the floor.
    pub fn floor_div(&self, divisor: &Dim) -> Result<Dim, DimError> {
        match (self, divisor) {
            (_, Dim::Known(0)) => Err(DimError::DivisionByZero),
            (_, Dim::Known(1)) => Ok(self.clone()),
            (Dim::Known(a), Dim::Known(b)) => floor_div(*a, *b).map(Dim::Known),
            (_, Dim::Known(b)) => {
                let (mut whole, mut rest) = (BTreeMap::new(), BTreeMap::new());
                for (factors, coefficient) in self.terms() {
                    let quotient = floor_div(coefficient, *b)?;
                    let inside = coefficient - quotient * b;
                    if inside == 0 || factors.is_empty() {
                        whole.insert(factors.clone(), quotient);
                        rest.insert(factors, inside);
                    } else {
                        rest.insert(factors, coefficient);
                    }
                }
                let inner = match Dim::from_terms(rest) {
                    Dim::Known(value) => Dim::Known(floor_div(value, *b)?),
                    symbolic => Dim::from_atom(Atom::Floor(symbolic, divisor.clone())),
                };
                Dim::from_terms(whole).add(&inner)
            }
            _ if self == divisor => Ok(Dim::Known(1)),
            _ => match self.divide_by_monomial(divisor) {
                Some(quotient) => Ok(quotient),
                None => Ok(Dim::from_atom(Atom::Floor(self.clone(), divisor.clone()))),
            },
        }
    }

    /// The exact quotient where `divisor` is a single term that divides every term of `self`.
    fn divide_by_monomial(&self, divisor: &Dim) -> Option<Dim> {
        let divisor = divisor.terms();
        let (by, scale) = divisor.iter().next().filter(|_| divisor.len() == 1)?;
        let mut quotient = BTreeMap::new();
        for (factors, coefficient) in self.terms() {
            let mut left = factors;
            for factor in by {
                let at = left.iter().position(|candidate| candidate == factor)?;
                left.remove(at);
            }
            if coefficient.checked_rem(*scale)? != 0 {
                return None;
            }
            quotient.insert(left, coefficient.checked_div(*scale)?);
        }
        Some(Dim::from_terms(quotient))
    }

    /// `⌈self / divisor⌉` for a positive divisor.
    pub fn ceil_div(&self, divisor: &Dim) -> Result<Dim, DimError> {
        self.add(divisor)?.sub(&Dim::Known(1))?.floor_div(divisor)
    }

    /// The larger of the two.
    pub fn maximum(&self, other: &Dim) -> Result<Dim, DimError> {
        self.extreme(other, Atom::Max, std::cmp::Ordering::Greater)
    }

    /// The smaller of the two.
    pub fn minimum(&self, other: &Dim) -> Result<Dim, DimError> {
        self.extreme(other, Atom::Min, std::cmp::Ordering::Less)
    }

    fn extreme(&self, other: &Dim, atom: fn(Dim, Dim) -> Atom, wanted: std::cmp::Ordering) -> Result<Dim, DimError> {
        // Operands that differ by a number need no symbol.
        if let Dim::Known(difference) = self.sub(other)? {
            return Ok(if difference.cmp(&0) == wanted { self.clone() } else { other.clone() });
        }
        let (low, high) = if self <= other { (self, other) } else { (other, self) };
        Ok(Dim::from_atom(atom(low.clone(), high.clone())))
    }

    /// The value under `bindings`.
    pub fn eval(&self, bindings: &Bindings) -> Result<i64, DimError> {
        let polynomial = match self {
            Dim::Known(value) => return Ok(*value),
            Dim::Symbolic(polynomial) => polynomial,
        };
        let mut sum = 0i64;
        for (factors, coefficient) in &polynomial.0 {
            let mut product = *coefficient;
            for factor in factors {
                product = product.checked_mul(factor.eval(bindings)?).ok_or(DimError::Overflow)?;
            }
            sum = sum.checked_add(product).ok_or(DimError::Overflow)?;
        }
        Ok(sum)
    }

    /// The dimension with every symbol of `replacements` replaced.
    pub fn substitute(&self, replacements: &BTreeMap<String, Dim>) -> Result<Dim, DimError> {
        let Dim::Symbolic(polynomial) = self else { return Ok(self.clone()) };
        let mut sum = Dim::Known(0);
        for (factors, coefficient) in &polynomial.0 {
            let mut product = Dim::Known(*coefficient);
            for factor in factors {
                product = product.mul(&factor.substitute(replacements)?)?;
            }
            sum = sum.add(&product)?;
        }
        Ok(sum)
    }

    /// Adds the names of all symbols in the dimension to `into`.
    pub fn symbols(&self, into: &mut BTreeSet<String>) {
        let Dim::Symbolic(polynomial) = self else { return };
        for atom in polynomial.0.keys().flatten() {
            match atom {
                Atom::Symbol(name) => {
                    into.insert(name.to_string());
                }
                Atom::Floor(a, b) | Atom::Max(a, b) | Atom::Min(a, b) => {
                    a.symbols(into);
                    b.symbols(into);
                }
            }
        }
    }
}

impl Atom {
    fn eval(&self, bindings: &Bindings) -> Result<i64, DimError> {
        match self {
            Atom::Symbol(name) => {
                bindings.get(name.as_ref()).copied().ok_or_else(|| DimError::Unbound(name.to_string()))
            }
            Atom::Floor(a, b) => floor_div(a.eval(bindings)?, b.eval(bindings)?),
            Atom::Max(a, b) => Ok(a.eval(bindings)?.max(b.eval(bindings)?)),
            Atom::Min(a, b) => Ok(a.eval(bindings)?.min(b.eval(bindings)?)),
        }
    }

    fn substitute(&self, replacements: &BTreeMap<String, Dim>) -> Result<Dim, DimError> {
        match self {
            Atom::Symbol(name) => {
                Ok(replacements.get(name.as_ref()).cloned().unwrap_or_else(|| Dim::from_atom(self.clone())))
            }
            Atom::Floor(a, b) => a.substitute(replacements)?.floor_div(&b.substitute(replacements)?),
            Atom::Max(a, b) => a.substitute(replacements)?.maximum(&b.substitute(replacements)?),
            Atom::Min(a, b) => a.substitute(replacements)?.minimum(&b.substitute(replacements)?),
        }
    }
}

fn floor_div(a: i64, b: i64) -> Result<i64, DimError> {
    if b == 0 {
        return Err(DimError::DivisionByZero);
    }
    let quotient = a.checked_div(b).ok_or(DimError::Overflow)?;
    // Truncation rounds towards zero; a floor lies one lower where the signs differ and something is left.
    Ok(if (a % b != 0) && ((a < 0) != (b < 0)) { quotient - 1 } else { quotient })
}

impl From<i64> for Dim {
    fn from(value: i64) -> Dim {
        Dim::Known(value)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let polynomial = match self {
            Dim::Known(value) => return write!(f, "{value}"),
            Dim::Symbolic(polynomial) => polynomial,
        };
        // The constant term (no factors) sorts first and reads best last.
        let constant = polynomial.0.get(&Vec::new()).map(|value| (&[] as &[Atom], *value));
        let products = polynomial.0.iter().filter(|(factors, _)| !factors.is_empty());
        let terms = products.map(|(factors, value)| (factors.as_slice(), *value)).chain(constant);
        for (place, (factors, coefficient)) in terms.enumerate() {
            match (place, coefficient < 0) {
                (_, true) => f.write_str("-")?,
                (0, false) => {}
                (_, false) => f.write_str("+")?,
            }
            let magnitude = coefficient.unsigned_abs();
            if factors.is_empty() {
                write!(f, "{magnitude}")?;
            } else if magnitude != 1 {
                write!(f, "{magnitude}*")?;
            }
            for (index, factor) in factors.iter().enumerate() {
                write!(f, "{}{factor}", if index > 0 { "*" } else { "" })?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Symbol(name) => write!(f, "{}", crate::text::symbol(name)),
            Atom::Floor(a, b) => write!(f, "floor({}/{})", atomic(a), atomic(b)),
            Atom::Max(a, b) => write!(f, "max({a}, {b})"),
            Atom::Min(a, b) => write!(f, "min({a}, {b})"),
        }
    }
}

/// The dimension, in parentheses unless it is a number or a symbol.
fn atomic(dim: &Dim) -> String {
    let simple = dim.known().is_some_and(|value| value >= 0) || dim.as_symbol().is_some();
    if simple { dim.to_string() } else { format!("({dim})") }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Debug for Polynomial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} terms", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s() -> Dim {
        Dim::symbol("S")
    }

    #[test]
    fn equal_polynomials_are_equal_values() {
        let a = s().add(&1.into()).unwrap().mul(&s().add(&Dim::Known(-1)).unwrap()).unwrap();
        let b = s().mul(&s()).unwrap().sub(&1.into()).unwrap();
        assert_eq!(a, b);
        assert_eq!(a.to_string(), "S*S-1");
        assert_eq!(s().sub(&s()).unwrap(), Dim::Known(0));
    }

    #[test]
    fn what_differs_by_a_number_is_never_equal() {
        let next = s().add(&1.into()).unwrap();
        assert!(s().may_equal(&s()) && s().may_equal(&3.into()) && s().may_equal(&Dim::symbol("T")));
        assert!(!s().may_equal(&next) && !Dim::Known(2).may_equal(&3.into()));
    }

    #[test]
    fn negated_sizes_are_known_by_their_signs() {
        let negated = Dim::Known(-1).sub(&s()).unwrap();
        assert!(negated.is_negated() && !s().is_negated());
        assert!(!negated.add(&2.into()).unwrap().is_negated());
    }

    #[test]
    fn floors_give_up_whole_multiples() {
        let four_s_plus_3 = s().mul(&4.into()).unwrap().add(&3.into()).unwrap();
        assert_eq!(four_s_plus_3.floor_div(&4.into()).unwrap(), s());
        let half = s().add(&Dim::Known(-1)).unwrap().floor_div(&2.into()).unwrap();
        assert_eq!(half.to_string(), "floor((S+1)/2)-1");
        for value in -5..9 {
            let expected = (value as f64 - 1.0) / 2.0;
            assert_eq!(half.eval(&Bindings::from([("S".into(), value)])).unwrap(), expected.floor() as i64);
        }
    }

    #[test]
    fn products_divide_exactly() {
        let area = s().mul(&Dim::symbol("N")).unwrap().mul(&6.into()).unwrap();
        assert_eq!(area.floor_div(&s().mul(&2.into()).unwrap()).unwrap().to_string(), "3*N");
    }

    #[test]
    fn overflow_and_unbound_symbols_are_errors() {
        assert_eq!(Dim::Known(i64::MAX).add(&1.into()), Err(DimError::Overflow));
        assert_eq!(Dim::Known(i64::MIN).floor_div(&Dim::Known(-1)), Err(DimError::Overflow));
        assert_eq!(s().floor_div(&0.into()), Err(DimError::DivisionByZero));
        assert_eq!(s().eval(&Bindings::new()), Err(DimError::Unbound("S".into())));
    }

    #[test]
    fn extremes_of_comparable_dimensions_vanish() {
        assert_eq!(s().maximum(&s().add(&2.into()).unwrap()).unwrap().to_string(), "S+2");
        assert_eq!(s().minimum(&3.into()).unwrap().to_string(), "min(3, S)");
    }
}
