//! Selectors: the predicates of a composite's entry, and the operations that they look at.

use std::collections::BTreeMap;
use std::fmt;

use lrpc_ir::{Class, Op};
use serde::Deserialize;

use super::composite::Parameter;
use super::roles::Role;
use crate::names;

/// One word or several, of which one must fit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Words {
    /// `op = "conv"`
    One(String),
    /// `op = ["conv", "dot"]`
    Many(Vec<String>),
}

impl Words {
    pub(super) fn list(&self) -> &[String] {
        match self {
            Words::One(one) => std::slice::from_ref(one),
            Words::Many(many) => many,
        }
    }

    fn contains(&self, word: &str) -> bool {
        self.list().iter().any(|candidate| candidate == word)
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.list().join("|"))
    }
}

/// One entry of a composite. All predicates that are given must hold.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// The operation's word in the text format.
    op: Option<Words>,
    /// The operation's family.
    family: Option<Words>,
    /// The relevance class.
    class: Option<Words>,
    /// One of the site's roles.
    role: Option<Words>,
    /// The ONNX name, with `*` for any text and `?` for one character.
    name: Option<Words>,
    /// Whether an operand is a weight, or computed from weights alone.
    weight: Option<bool>,
    /// How many operands are active.
    active: Option<usize>,
    /// The rule; `$name` stands for the composite's own parameter of that name, whose value names one.
    pub(super) r#use: String,
    /// Its parameters; `$name` stands for the composite's own.
    #[serde(default)]
    pub(super) with: BTreeMap<String, Parameter>,
    /// The composite whose file holds it, and its place there, from 1.
    #[serde(skip)]
    pub(super) place: (String, usize),
}

/// What predicates look at: one operation between the explained output and the requested tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    /// The operation's word.
    pub op: &'static str,
    /// Its family.
    pub family: &'static str,
    /// Its relevance class.
    pub class: Class,
    /// Its ONNX name.
    pub name: String,
    /// The roles that it has.
    pub roles: Vec<Role>,
    /// Whether one of its operands is a weight, or computed from weights alone.
    pub weight: bool,
    /// How many of its operands are active.
    pub active: usize,
}

/// One condition of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) enum Predicate<'a> {
    Op(&'a Words),
    Family(&'a Words),
    Class(&'a Words),
    Role(&'a Words),
    Name(&'a Words),
    Weight(bool),
    Active(usize),
}

impl Predicate<'_> {
    pub(super) fn holds(&self, subject: &Subject) -> bool {
        match self {
            Predicate::Op(words) => words.contains(subject.op),
            Predicate::Family(words) => words.contains(subject.family),
            Predicate::Class(words) => words.contains(subject.class.name()),
            Predicate::Role(words) => subject.roles.iter().any(|role| words.contains(role.name())),
            Predicate::Name(patterns) => patterns.list().iter().any(|one| names::matches(one, &subject.name)),
            Predicate::Weight(wanted) => subject.weight == *wanted,
            Predicate::Active(count) => subject.active == *count,
        }
    }

    /// The words of this predicate that are not in the set it takes them from, and that set.
    fn unknown(&self) -> Option<(&'static str, Vec<&str>, Vec<&'static str>)> {
        let (what, words, known) = match self {
            Predicate::Op(words) => ("operation", words, Op::mnemonics().collect()),
            Predicate::Family(words) => ("family", words, Op::FAMILIES.to_vec()),
            Predicate::Class(words) => ("class", words, Class::NAMES.to_vec()),
            Predicate::Role(words) => ("role", words, Role::ALL.iter().map(|role| role.name()).collect::<Vec<_>>()),
            Predicate::Name(_) | Predicate::Weight(_) | Predicate::Active(_) => return None,
        };
        let words = words.list().iter().map(String::as_str);
        Some((what, words.filter(|word| !known.contains(word)).collect(), known))
    }
}

impl fmt::Display for Predicate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Predicate::Op(words) => write!(f, "op={words}"),
            Predicate::Family(words) => write!(f, "family={words}"),
            Predicate::Class(words) => write!(f, "class={words}"),
            Predicate::Role(words) => write!(f, "role={words}"),
            Predicate::Name(patterns) => write!(f, "name={patterns}"),
            Predicate::Weight(wanted) => write!(f, "weight={wanted}"),
            Predicate::Active(count) => write!(f, "active={count}"),
        }
    }
}

impl Entry {
    /// The predicates that are given.
    pub(super) fn predicates(&self) -> impl Iterator<Item = Predicate<'_>> {
        let given = [
            self.role.as_ref().map(Predicate::Role),
            self.name.as_ref().map(Predicate::Name),
            self.op.as_ref().map(Predicate::Op),
            self.family.as_ref().map(Predicate::Family),
            self.class.as_ref().map(Predicate::Class),
            self.weight.map(Predicate::Weight),
            self.active.map(Predicate::Active),
        ];
        given.into_iter().flatten()
    }

    pub(super) fn matches(&self, subject: &Subject) -> bool {
        self.predicates().all(|predicate| predicate.holds(subject))
    }

    /// Words of closed sets that do not exist: what they are meant to be, the word, and what there is.
    pub(super) fn unknown_words(&self) -> Vec<(&'static str, String, Vec<&'static str>)> {
        let unknown = self.predicates().filter_map(|predicate| {
            let (what, words, known) = predicate.unknown()?;
            let words: Vec<String> = words.into_iter().map(str::to_string).collect();
            Some(words.into_iter().map(move |word| (what, word, known.clone())).collect::<Vec<_>>())
        });
        unknown.flatten().collect()
    }

    /// Its composite and its place there: `epsilon-plus 1`.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.place.0, self.place.1)
    }

    /// What it selects: `role=first class=linear`.
    pub(super) fn selector(&self) -> String {
        let predicates: Vec<String> = self.predicates().map(|predicate| predicate.to_string()).collect();
        if predicates.is_empty() { "any operation".into() } else { predicates.join(" ") }
    }

    /// Its parameters as the file gives them: `eps=$eps gamma=0.25`.
    pub(super) fn parameters(&self) -> String {
        self.with.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    }
}
