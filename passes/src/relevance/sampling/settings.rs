//! The parameters of composites that sample.

use lrpc_ir::Diagnostic;

use crate::relevance::builder::Built;
use crate::relevance::composite::{Composite, Parameter};

/// The most samples, steps, and positions of a window.
const MAX_COUNT: f64 = 1e6;

/// What stands for the absence of a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Baseline {
    /// A tensor that holds this number everywhere.
    Number(f64),
    /// A tensor that is given when running.
    Given,
}

pub(super) struct Settings<'a>(&'a Composite);

impl Settings<'_> {
    pub(super) fn of(composite: &Composite) -> Settings<'_> {
        Settings(composite)
    }

    fn wrong(&self, name: &str, what: &str) -> Diagnostic {
        let found = self.0.parameters.get(name).map_or_else(String::new, |value| format!(", not {value}"));
        Diagnostic::request(format!("`{name}` of composite `{}` is {what}{found}", self.0.name))
    }

    /// A finite number.
    pub(super) fn number(&self, name: &str, default: f64) -> Built<f64> {
        match self.0.parameters.get(name) {
            None => Ok(default),
            Some(Parameter::Number(value)) if value.is_finite() => Ok(*value),
            Some(_) => Err(self.wrong(name, "a number")),
        }
    }

    /// A number from 0 on.
    pub(super) fn share(&self, name: &str, default: f64) -> Built<f64> {
        self.number(name, default)
            .ok()
            .filter(|value| *value >= 0.0)
            .ok_or_else(|| self.wrong(name, "a number from 0 on"))
    }

    /// A whole number from 1 on.
    pub(super) fn count(&self, name: &str, default: i64) -> Built<i64> {
        let value = self.number(name, default as f64).ok().and_then(whole);
        value.ok_or_else(|| self.wrong(name, "a whole number from 1 to 1000000"))
    }

    /// What chooses the numbers that are drawn.
    pub(super) fn seed(&self) -> Built<i64> {
        let exact = (1u64 << 53) as f64;
        let value = self.number("seed", 0.0).ok().filter(|value| value.fract() == 0.0 && value.abs() <= exact);
        value.map(|value| value as i64).ok_or_else(|| self.wrong("seed", "a whole number"))
    }

    /// One whole number for each of `axes` axes: a single one stands for all; nothing where the word is `auto`.
    pub(super) fn counts(&self, name: &str, axes: usize) -> Built<Option<Vec<i64>>> {
        let numbers = match self.0.parameters.get(name) {
            None => return Ok(None),
            Some(Parameter::Word(word)) if word == "auto" => return Ok(None),
            Some(Parameter::Number(value)) => vec![*value; axes],
            Some(Parameter::Numbers(values)) => values.clone(),
            Some(Parameter::Word(_)) => Vec::new(),
        };
        let numbers: Option<Vec<i64>> = numbers.into_iter().map(whole).collect();
        let what = format!("auto, or a whole number from 1 on for each of the {axes} axes of a window");
        numbers.filter(|numbers| numbers.len() == axes).map(Some).ok_or_else(|| self.wrong(name, &what))
    }

    /// Axes from `first` on of a tensor of this rank, ascending; nothing where the word is `auto`.
    pub(super) fn axes(&self, first: usize, rank: usize) -> Built<Option<Vec<usize>>> {
        let numbers = match self.0.parameters.get("axes") {
            None => return Ok(None),
            Some(Parameter::Word(word)) if word == "auto" => return Ok(None),
            Some(Parameter::Number(value)) => vec![*value],
            Some(Parameter::Numbers(values)) => values.clone(),
            Some(Parameter::Word(_)) => Vec::new(),
        };
        let as_axis = |value: &f64| (first..rank).find(|&axis| axis as f64 == *value);
        let axes: Option<Vec<usize>> = numbers.iter().map(as_axis).collect();
        let ascending = |axes: &Vec<usize>| !axes.is_empty() && axes.windows(2).all(|pair| pair[0] < pair[1]);
        let what = format!("auto, or ascending axes from {first} on and below {rank}");
        axes.filter(ascending).map(Some).ok_or_else(|| self.wrong("axes", &what))
    }

    pub(super) fn baseline(&self) -> Built<Baseline> {
        match self.0.parameters.get("baseline") {
            Some(Parameter::Word(word)) if word == "given" => Ok(Baseline::Given),
            _ => self
                .number("baseline", 0.0)
                .map(Baseline::Number)
                .map_err(|_| self.wrong("baseline", "a number, or `given`")),
        }
    }

    /// Where in each of the path's pieces its point lies.
    pub(super) fn points(&self) -> Built<f64> {
        match self.0.parameters.get("points") {
            None => Ok(0.5),
            Some(Parameter::Word(word)) if word == "midpoint" => Ok(0.5),
            Some(Parameter::Word(word)) if word == "right" => Ok(1.0),
            Some(Parameter::Word(word)) if word == "left" => Ok(0.0),
            Some(_) => Err(self.wrong("points", "midpoint, left or right")),
        }
    }
}

fn whole(value: f64) -> Option<i64> {
    (value.fract() == 0.0 && (1.0..=MAX_COUNT).contains(&value)).then_some(value as i64)
}
