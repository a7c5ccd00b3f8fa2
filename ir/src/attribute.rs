//! Attributes of operations, as the text format prints and reads them.

use std::fmt;

use crate::dim::Dim;
use crate::types::Float;

/// The value of one attribute.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Attribute {
    /// A number or a symbolic dimension.
    Dim(Dim),
    /// A floating-point number.
    Float(Float),
    /// A word from a closed set.
    Word(String),
    /// Two axes that belong together, printed `1x0`.
    Pair(usize, usize),
    /// Several values.
    List(Vec<Attribute>),
}

impl Attribute {
    /// The value as a floating-point number, however it is spelled.
    pub fn number(&self) -> Option<Float> {
        match self {
            Attribute::Float(value) => Some(*value),
            Attribute::Dim(Dim::Known(value)) => Some(Float(*value as f64)),
            Attribute::Word(word) if word == "inf" => Some(Float(f64::INFINITY)),
            Attribute::Word(word) if word == "nan" => Some(Float(f64::NAN)),
            _ => None,
        }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attribute::Dim(dim) => write!(f, "{dim}"),
            Attribute::Float(value) => write!(f, "{value}"),
            Attribute::Word(word) => f.write_str(word),
            Attribute::Pair(a, b) => write!(f, "{a}x{b}"),
            Attribute::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if index > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
        }
    }
}

/// The attributes of one operation in the order in which they are printed; those with default values are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes(pub Vec<(String, Attribute)>);

impl Attributes {
    /// Adds a word.
    pub fn word(&mut self, key: &str, value: &str) {
        self.0.push((key.into(), Attribute::Word(value.into())));
    }

    /// Adds a number.
    pub fn float(&mut self, key: &str, value: Float) {
        self.0.push((key.into(), Attribute::Float(value)));
    }

    /// Adds an integer.
    pub fn integer(&mut self, key: &str, value: i64) {
        self.0.push((key.into(), Attribute::Dim(Dim::Known(value))));
    }

    /// Adds a dimension.
    pub fn dim(&mut self, key: &str, value: &Dim) {
        self.0.push((key.into(), Attribute::Dim(value.clone())));
    }

    /// Adds an integer unless it has its default value.
    pub fn integer_unless(&mut self, key: &str, value: i64, default: i64) {
        if value != default {
            self.integer(key, value);
        }
    }

    /// Adds `key=true` if `value` holds.
    pub fn flag(&mut self, key: &str, value: bool) {
        if value {
            self.word(key, "true");
        }
    }

    /// Adds a list of integers.
    pub fn integers<'a>(&mut self, key: &str, values: impl IntoIterator<Item = &'a i64>) {
        let items = values.into_iter().map(|&value| Attribute::Dim(Dim::Known(value))).collect();
        self.0.push((key.into(), Attribute::List(items)));
    }

    /// Adds a list of axes.
    pub fn axes(&mut self, key: &str, values: &[usize]) {
        let items = values.iter().map(|&value| Attribute::Dim(Dim::Known(value as i64))).collect();
        self.0.push((key.into(), Attribute::List(items)));
    }

    /// Adds one value per axis: a single number where all are equal, nothing where all equal `default`.
    pub fn per_axis(&mut self, key: &str, values: &[Dim], default: i64) {
        match values {
            [] => {}
            [first, rest @ ..] if rest.iter().any(|value| value != first) => self.dims(key, values),
            [first, ..] if *first == Dim::Known(default) => {}
            [first, ..] => self.0.push((key.into(), Attribute::Dim(first.clone()))),
        }
    }

    /// Adds a list of dimensions.
    pub fn dims(&mut self, key: &str, values: &[Dim]) {
        self.0.push((key.into(), Attribute::List(values.iter().cloned().map(Attribute::Dim).collect())));
    }

    /// Adds pairs of axes: one bare pair, or a list; nothing where there is none.
    pub fn pairs(&mut self, key: &str, pairs: &[(usize, usize)]) {
        let mut items: Vec<_> = pairs.iter().map(|&(a, b)| Attribute::Pair(a, b)).collect();
        match items.len() {
            0 => {}
            1 => self.0.push((key.into(), items.remove(0))),
            _ => self.0.push((key.into(), Attribute::List(items))),
        }
    }
}

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, (key, value)) in self.0.iter().enumerate() {
            write!(f, "{}{key}={value}", if index > 0 { ", " } else { "" })?;
        }
        f.write_str("}")
    }
}

/// Takes attributes out of a parsed list; what is left at the end is unknown to the operation.
#[derive(Debug)]
pub struct AttributeReader {
    left: Vec<(String, Attribute)>,
}

impl AttributeReader {
    /// A reader over parsed attributes.
    pub fn new(attributes: Attributes) -> AttributeReader {
        AttributeReader { left: attributes.0 }
    }

    fn take(&mut self, key: &str) -> Option<Attribute> {
        let at = self.left.iter().position(|(candidate, _)| candidate == key)?;
        Some(self.left.remove(at).1)
    }

    fn required<T>(value: Option<T>, key: &str) -> Result<T, String> {
        value.ok_or_else(|| format!("attribute `{key}` is missing"))
    }

    /// The word at `key`.
    pub fn word(&mut self, key: &str) -> Result<String, String> {
        match Self::required(self.take(key), key)? {
            Attribute::Word(word) => Ok(word),
            other => Err(format!("attribute `{key}` must be a word, not {other}")),
        }
    }

    /// The word at `key`, or `default`.
    pub fn word_or(&mut self, key: &str, default: &str) -> Result<String, String> {
        if self.left.iter().any(|(candidate, _)| candidate == key) { self.word(key) } else { Ok(default.into()) }
    }

    /// Whether `key=true` is there.
    pub fn flag(&mut self, key: &str) -> Result<bool, String> {
        match self.word_or(key, "false")?.as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            other => Err(format!("attribute `{key}` must be true or false, not {other}")),
        }
    }

    /// The floating-point number at `key`, or `default`.
    pub fn float_or(&mut self, key: &str, default: Option<f64>) -> Result<Float, String> {
        match self.take(key) {
            None => Self::required(default, key).map(Float),
            Some(given) => given.number().ok_or_else(|| format!("attribute `{key}` must be a number, not {given}")),
        }
    }

    /// The integer at `key`, or `default`.
    pub fn integer_or(&mut self, key: &str, default: Option<i64>) -> Result<i64, String> {
        match self.take(key) {
            None => Self::required(default, key),
            Some(Attribute::Dim(Dim::Known(value))) => Ok(value),
            Some(other) => Err(format!("attribute `{key}` must be an integer, not {other}")),
        }
    }

    /// The axis at `key`.
    pub fn axis(&mut self, key: &str) -> Result<usize, String> {
        let value = self.integer_or(key, None)?;
        usize::try_from(value).map_err(|_| format!("attribute `{key}` must not be negative"))
    }

    /// The list of axes at `key`.
    pub fn axes(&mut self, key: &str) -> Result<Vec<usize>, String> {
        let values = self.dims(key)?;
        values.iter().map(|dim| axis_of(key, dim)).collect()
    }

    /// The dimension at `key`.
    pub fn dim(&mut self, key: &str) -> Result<Dim, String> {
        dim_of(key, Self::required(self.take(key), key)?)
    }

    /// The list of dimensions at `key`.
    pub fn dims(&mut self, key: &str) -> Result<Vec<Dim>, String> {
        match Self::required(self.take(key), key)? {
            Attribute::List(items) => items.into_iter().map(|item| dim_of(key, item)).collect(),
            other => Err(format!("attribute `{key}` must be a list, not {other}")),
        }
    }

    /// The list of integers at `key`.
    pub fn integers(&mut self, key: &str) -> Result<Vec<i64>, String> {
        self.dims(key)?.iter().map(|dim| integer_of(key, dim)).collect()
    }

    /// The list of floating-point numbers at `key`; empty where it is absent.
    pub fn floats_or_empty(&mut self, key: &str) -> Result<Vec<Float>, String> {
        let Some(attribute) = self.take(key) else { return Ok(Vec::new()) };
        let Attribute::List(items) = attribute else { return Err(format!("attribute `{key}` must be a list")) };
        let number =
            |item: &Attribute| item.number().ok_or_else(|| format!("attribute `{key}` must hold numbers, not {item}"));
        items.iter().map(number).collect()
    }

    /// One value per axis, as [`Attributes::per_axis`] writes them.
    pub fn per_axis(&mut self, key: &str, axes: usize, default: i64) -> Result<Vec<Dim>, String> {
        match self.take(key) {
            None => Ok(vec![Dim::Known(default); axes]),
            Some(Attribute::List(items)) => items.into_iter().map(|item| dim_of(key, item)).collect(),
            Some(single) => Ok(vec![dim_of(key, single)?; axes]),
        }
    }

    /// One integer per axis, as [`Attributes::per_axis`] writes them.
    pub fn integer_per_axis(&mut self, key: &str, axes: usize, default: i64) -> Result<Vec<i64>, String> {
        self.per_axis(key, axes, default)?.iter().map(|dim| integer_of(key, dim)).collect()
    }

    /// Pairs of axes, as [`Attributes::pairs`] writes them.
    pub fn pairs(&mut self, key: &str) -> Result<Vec<(usize, usize)>, String> {
        match self.take(key) {
            None => Ok(Vec::new()),
            Some(Attribute::List(items)) => items.into_iter().map(|item| pair_of(key, item)).collect(),
            Some(single) => Ok(vec![pair_of(key, single)?]),
        }
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// The first attribute that the operation does not know.
    pub fn finish(self) -> Result<(), String> {
        match self.left.first() {
            None => Ok(()),
            Some((key, _)) => Err(format!("unknown attribute `{key}`")),
        }
    }
}

fn dim_of(key: &str, attribute: Attribute) -> Result<Dim, String> {
    match attribute {
        Attribute::Dim(dim) => Ok(dim),
        // A bare symbol reads as a word.
        Attribute::Word(name) => Ok(Dim::symbol(&name)),
        other => Err(format!("attribute `{key}` must hold dimensions, not {other}")),
    }
}

fn integer_of(key: &str, dim: &Dim) -> Result<i64, String> {
    dim.known().ok_or_else(|| format!("attribute `{key}` must hold integers, not {dim}"))
}

fn axis_of(key: &str, dim: &Dim) -> Result<usize, String> {
    usize::try_from(integer_of(key, dim)?).map_err(|_| format!("attribute `{key}` must not be negative"))
}

fn pair_of(key: &str, attribute: Attribute) -> Result<(usize, usize), String> {
    match attribute {
        Attribute::Pair(a, b) => Ok((a, b)),
        other => Err(format!("attribute `{key}` must hold pairs such as 1x0, not {other}")),
    }
}
