//! A cursor over one line of text.

use super::is_bare;
use crate::attribute::{Attribute, Attributes};
use crate::dim::Dim;
use crate::types::{DType, Float, TensorType};

/// How deep expressions may nest; deeper ones are refused rather than followed.
const MAX_DEPTH: usize = 64;

/// Reads one line from left to right. Errors are messages; the caller knows the line, [`Cursor::column`] the place.
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

type Read<T> = Result<T, String>;

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Cursor<'a> {
        Cursor { text, at: 0, depth: 0 }
    }

    pub(super) fn column(&self) -> usize {
        self.text[..self.at].chars().count() + 1
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_spaces(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    pub(super) fn peek(&mut self) -> Option<char> {
        self.skip_spaces();
        self.rest().chars().next().filter(|&c| c != '#')
    }

    /// Whether nothing but a comment is left.
    pub(super) fn at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    pub(super) fn end(&mut self) -> Read<()> {
        if self.at_end() { Ok(()) } else { Err(format!("unexpected `{}`", self.rest().trim_end())) }
    }

    /// Takes `token` if it comes next.
    pub(super) fn take(&mut self, token: &str) -> bool {
        self.skip_spaces();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    pub(super) fn expect(&mut self, token: &str) -> Read<()> {
        if self.take(token) { Ok(()) } else { Err(format!("expected `{token}`")) }
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// A word of letters, digits, `_`, `.` and `-`.
    pub(super) fn word(&mut self) -> Read<&'a str> {
        self.skip_spaces();
        match self.take_while(|c| c.is_alphanumeric() || "_.-".contains(c)) {
            "" => Err("expected a word".into()),
            word => Ok(word),
        }
    }

    /// Takes `word` if it comes next as a whole word.
    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let start = self.at;
        if self.word() == Ok(word) {
            return true;
        }
        self.at = start;
        false
    }

    /// A string in quotation marks.
    pub(super) fn string(&mut self) -> Read<String> {
        self.expect("\"")?;
        let mut out = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((place, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += place + 1;
                    return Ok(out);
                }
                '\\' => match chars.next() {
                    Some((_, escaped @ ('"' | '\\'))) => out.push(escaped),
                    Some((_, 'u')) => {
                        let code: String = chars
                            .by_ref()
                            .map(|(_, c)| c)
                            .skip_while(|&c| c == '{')
                            .take_while(|&c| c != '}')
                            .collect();
                        let code = u32::from_str_radix(&code, 16).ok().and_then(char::from_u32);
                        out.push(code.ok_or("a \\u escape needs a code point")?);
                    }
                    _ => return Err("unknown escape".into()),
                },
                c => out.push(c),
            }
        }
        Err("the string does not end".into())
    }

    /// `%name` or `@name`, without the sigil.
    pub(super) fn value(&mut self) -> Read<String> {
        if !(self.take("%") || self.take("@")) {
            return Err("expected a value such as %x".into());
        }
        if self.rest().starts_with('"') {
            return self.string();
        }
        match self.take_while(is_bare) {
            "" => Err("expected a name".into()),
            name => Ok(name.into()),
        }
    }

    /// Values with commas between.
    pub(super) fn values(&mut self) -> Read<Vec<String>> {
        let mut values = vec![self.value()?];
        while self.take(",") {
            values.push(self.value()?);
        }
        Ok(values)
    }

    /// `dtype[dims]`.
    pub(super) fn ty(&mut self) -> Read<TensorType> {
        let word = self.word()?;
        let dtype = DType::from_name(word).ok_or_else(|| format!("unknown element type `{word}`"))?;
        self.expect("[")?;
        let mut shape = Vec::new();
        while !self.take("]") {
            if !shape.is_empty() {
                self.expect(",")?;
            }
            shape.push(self.dim()?);
        }
        Ok(TensorType::new(dtype, shape))
    }

    /// `{key=value, …}`, or nothing.
    pub(super) fn attributes(&mut self) -> Read<Attributes> {
        let mut attributes = Attributes::default();
        if !self.take("{") {
            return Ok(attributes);
        }
        while !self.take("}") {
            if !attributes.0.is_empty() {
                self.expect(",")?;
            }
            let key = self.word()?.to_string();
            self.expect("=")?;
            let value = self.attribute()?;
            attributes.0.push((key, value));
        }
        Ok(attributes)
    }

    fn attribute(&mut self) -> Read<Attribute> {
        if self.take("[") {
            return self.nested(|cursor| {
                let mut items = Vec::new();
                while !cursor.take("]") {
                    if !items.is_empty() {
                        cursor.expect(",")?;
                    }
                    items.push(cursor.attribute()?);
                }
                Ok(Attribute::List(items))
            });
        }
        self.skip_spaces();
        let start = self.at;
        if let Some(number) = self.number() {
            // A number that goes on is a dimension such as `2*S`.
            if !matches!(self.peek(), Some('+' | '-' | '*')) {
                return Ok(number);
            }
            self.at = start;
        } else if self.peek() != Some('"') {
            // A word that goes on is a dimension such as `N-2`.
            let word = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
            if !word.is_empty() && matches!(self.peek(), Some(',' | '}' | ']' | ':') | None) {
                return Ok(Attribute::Word(word.into()));
            }
            self.at = start;
        }
        self.dim().map(Attribute::Dim)
    }

    /// A number or a pair of axes, if one comes next.
    fn number(&mut self) -> Option<Attribute> {
        let start = self.at;
        let negative = self.take("-");
        if negative && self.take_word("inf") {
            return Some(Attribute::Float(Float(f64::NEG_INFINITY)));
        }
        let whole = self.take_while(|c| c.is_ascii_digit());
        if whole.is_empty() {
            self.at = start;
            return None;
        }
        if self.rest().starts_with('x') {
            self.at += 1;
            let second = self.take_while(|c| c.is_ascii_digit());
            return Some(Attribute::Pair(whole.parse().ok()?, second.parse().ok()?));
        }
        if self.rest().starts_with('.') {
            self.at += 1;
            self.take_while(|c| c.is_ascii_digit());
        }
        if self.rest().starts_with(['e', 'E']) {
            self.at += 1;
            self.take("-");
            self.take_while(|c| c.is_ascii_digit());
        }
        let text = self.text[start..self.at].trim();
        match text.parse::<i64>() {
            Ok(value) => Some(Attribute::Dim(Dim::Known(value))),
            Err(_) => text.parse().ok().map(|value| Attribute::Float(Float(value))),
        }
    }

    /// The elements of a literal: one, or a list.
    pub(super) fn literal(&mut self) -> Read<Vec<Attribute>> {
        match self.attribute()? {
            Attribute::List(items) => Ok(items),
            single => Ok(vec![single]),
        }
    }

    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        if self.depth >= MAX_DEPTH {
            return Err(format!("expressions nest deeper than {MAX_DEPTH}"));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// A dimension: sums of products of numbers, symbols, `floor(a/b)`, `max(a, b)`, `min(a, b)`.
    pub(super) fn dim(&mut self) -> Read<Dim> {
        self.nested(|cursor| {
            let mut sum = if cursor.take("-") { cursor.product()?.mul(&Dim::Known(-1)) } else { Ok(cursor.product()?) };
            loop {
                let left = sum.map_err(|error| error.to_string())?;
                sum = if cursor.take("+") {
                    left.add(&cursor.product()?)
                } else if cursor.take("-") {
                    left.sub(&cursor.product()?)
                } else {
                    return Ok(left);
                };
            }
        })
    }

    fn product(&mut self) -> Read<Dim> {
        let mut product = self.factor()?;
        while self.take("*") {
            product = product.mul(&self.factor()?).map_err(|error| error.to_string())?;
        }
        Ok(product)
    }

    fn factor(&mut self) -> Read<Dim> {
        match self.peek() {
            Some('(') => {
                self.expect("(")?;
                let dim = self.dim()?;
                self.expect(")")?;
                Ok(dim)
            }
            Some('"') => self.string().map(|name| Dim::symbol(&name)),
            Some(c) if c.is_ascii_digit() => {
                let digits = self.take_while(|c| c.is_ascii_digit());
                digits.parse().map(Dim::Known).map_err(|_| format!("{digits} does not fit 64 bits"))
            }
            _ => self.named_factor(),
        }
    }

    fn named_factor(&mut self) -> Read<Dim> {
        self.skip_spaces();
        let name = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
        let function = match name {
            "" => return Err("expected a dimension".into()),
            "floor" => Dim::floor_div,
            "max" => Dim::maximum,
            "min" => Dim::minimum,
            symbol => return Ok(Dim::symbol(symbol)),
        };
        self.expect("(")?;
        self.nested(|cursor| {
            let left = if name == "floor" { cursor.product()? } else { cursor.dim()? };
            cursor.expect(if name == "floor" { "/" } else { "," })?;
            let right = if name == "floor" { cursor.product()? } else { cursor.dim()? };
            cursor.expect(")")?;
            function(&left, &right).map_err(|error| error.to_string())
        })
    }
}
