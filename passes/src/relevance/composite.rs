//! Composites: which rule serves which operation. They are TOML; the first entry that matches wins, and nothing else
//! chooses rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use lrpc_ir::{Diagnostic, DiagnosticKind, Diagnostics};
use serde::Deserialize;

use super::filter::Filter;
use super::roles::Role;
use super::sampling::Sampling;
use super::site::Carrier;
use crate::rules::{self, RuleDef};

/// The value of a parameter of a rule or a composite.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Parameter {
    /// A number.
    Number(f64),
    /// A list of numbers, such as one per channel.
    Numbers(Vec<f64>),
    /// A word.
    Word(String),
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: &f64| lrpc_ir::Float(*value).to_string();
        match self {
            Parameter::Number(value) => f.write_str(&number(value)),
            Parameter::Word(word) => f.write_str(word),
            Parameter::Numbers(values) => {
                write!(f, "[{}]", values.iter().map(number).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// One word or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Words {
    One(String),
    Many(Vec<String>),
}

impl Words {
    fn list(&self) -> &[String] {
        match self {
            Words::One(one) => std::slice::from_ref(one),
            Words::Many(many) => many,
        }
    }

    fn contains(&self, word: &str) -> bool {
        self.list().iter().any(|candidate| candidate == word)
    }
}

/// One entry of a composite. All predicates that are given must hold.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// The operation's word in the text format.
    op: Option<Words>,
    /// The operation's family.
    family: Option<Words>,
    /// The relevance class.
    class: Option<Words>,
    /// The site's role.
    role: Option<String>,
    /// The ONNX name, with `*` for any text.
    name: Option<String>,
    /// How many operands are active.
    active: Option<usize>,
    /// The rule; `$name` stands for the composite's own parameter of that name, whose value names one.
    r#use: String,
    /// Its parameters; `$name` stands for the composite's own.
    #[serde(default)]
    with: BTreeMap<String, Parameter>,
}

/// What a composite's results are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantity {
    /// Relevance.
    Relevance,
    /// The coefficient itself, which is a gradient for gradient composites.
    Coefficient,
}

/// What a composite's seed is, beside the usual one: the coefficient 1, that is `R = y`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeedKind {
    /// The coefficient 1.
    One,
    /// What travels starts as the output's value even where it is a coefficient.
    Value,
    /// Without a target the reconstruction error is explained (docs/targets.md).
    Reconstruction,
}

/// A composite as its file states it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct CompositeFile {
    name: String,
    /// One line on what it is.
    doc: String,
    /// A built-in composite whose entries follow this one's, and whose other settings hold where this one is silent.
    extends: Option<String>,
    carrier: Option<Quantity>,
    result: Option<Quantity>,
    /// Whether applications of rules are written to the ledger; gradients are no relevance and have none.
    ledger: Option<bool>,
    seed: Option<SeedKind>,
    /// What it does several times; nothing for composites that need one run.
    sampling: Option<Sampling>,
    #[serde(default)]
    parameters: BTreeMap<String, Parameter>,
    /// Parameters that choose a rule or a policy; a signature names them where they are not at this default.
    #[serde(default)]
    choices: BTreeMap<String, Parameter>,
    #[serde(default)]
    rule: Vec<Entry>,
}

/// A composite with its parameters filled in.
#[derive(Debug, Clone)]
pub struct Composite {
    /// Its name.
    pub name: String,
    /// One line on what it is.
    pub doc: String,
    /// How relevance travels where rules allow it.
    pub carrier: Carrier,
    /// What the results are.
    pub result: Quantity,
    /// Whether applications of rules are written to the ledger.
    pub ledger: bool,
    /// What relevance starts as.
    pub seed: SeedKind,
    /// What it does several times, if it needs more than one run.
    pub sampling: Option<Sampling>,
    /// Its parameters.
    pub parameters: BTreeMap<String, Parameter>,
    choices: BTreeMap<String, Parameter>,
    given: Vec<String>,
    entries: Vec<Entry>,
}

/// A rule that a composite chose, parameters filled in.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The rule.
    pub rule: &'static RuleDef,
    /// Its parameters.
    pub parameters: BTreeMap<String, Parameter>,
}

/// What predicates look at.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    /// The operation's word.
    pub op: &'a str,
    /// Its family.
    pub family: &'a str,
    /// Its relevance class.
    pub class: &'static str,
    /// Its ONNX name.
    pub name: &'a str,
    /// The roles that it has.
    pub roles: &'a [Role],
    /// How many of its operands are active.
    pub active: usize,
}

/// Parameters that every composite has beside its own: `filter`, the part of relevance that passes a linear map, and
/// `stabiliser`, the mode of the stabiliser of every rule that divides.
const OPTIONS: [&str; 2] = ["filter", "stabiliser"];

/// The composites that come with the program, as (name, TOML).
pub const COMPOSITES: &[(&str, &str)] = &[
    ("attnlrp", include_str!("../../composites/attnlrp.toml")),
    ("autoencoder", include_str!("../../composites/autoencoder.toml")),
    ("beta-smooth", include_str!("../../composites/beta-smooth.toml")),
    ("cp-lrp", include_str!("../../composites/cp-lrp.toml")),
    ("deconvnet", include_str!("../../composites/deconvnet.toml")),
    ("dynamiclrp", include_str!("../../composites/dynamiclrp.toml")),
    ("epsilon", include_str!("../../composites/epsilon.toml")),
    ("epsilon-alpha2-beta1", include_str!("../../composites/epsilon-alpha2-beta1.toml")),
    ("epsilon-alpha2-beta1-flat", include_str!("../../composites/epsilon-alpha2-beta1-flat.toml")),
    ("epsilon-gamma-box", include_str!("../../composites/epsilon-gamma-box.toml")),
    ("epsilon-plus", include_str!("../../composites/epsilon-plus.toml")),
    ("epsilon-plus-flat", include_str!("../../composites/epsilon-plus-flat.toml")),
    ("excitation-backprop", include_str!("../../composites/excitation-backprop.toml")),
    ("gamma", include_str!("../../composites/gamma.toml")),
    ("gradient", include_str!("../../composites/gradient.toml")),
    ("guided-backprop", include_str!("../../composites/guided-backprop.toml")),
    ("input-x-gradient", include_str!("../../composites/input-x-gradient.toml")),
    ("integrated-gradients", include_str!("../../composites/integrated-gradients.toml")),
    ("lrp-0", include_str!("../../composites/lrp-0.toml")),
    ("mamba", include_str!("../../composites/mamba.toml")),
    ("occlusion", include_str!("../../composites/occlusion.toml")),
    ("random", include_str!("../../composites/random.toml")),
    ("relp", include_str!("../../composites/relp.toml")),
    ("resnet-ratio", include_str!("../../composites/resnet-ratio.toml")),
    ("resnet-symmetric", include_str!("../../composites/resnet-symmetric.toml")),
    ("smoothgrad", include_str!("../../composites/smoothgrad.toml")),
    ("vit", include_str!("../../composites/vit.toml")),
];

impl Composite {
    /// The composite that `text` names, such as `epsilon` or `epsilon-gamma-box(low=-4, high=4)`.
    ///
    /// # Errors
    /// An unknown name or parameter, and text that is not in this form.
    pub fn named(text: &str) -> Result<Composite, Diagnostics> {
        let (name, given) = split_parameters(text)?;
        let toml = COMPOSITES.iter().find(|(candidate, _)| *candidate == name).map(|(_, toml)| *toml);
        let toml = toml.ok_or_else(|| {
            let known: Vec<&str> = COMPOSITES.iter().map(|(name, _)| *name).collect();
            Diagnostic::new(format!("there is no composite `{name}`"))
                .help(format!("known are {}; a path ending in .toml names a file", known.join(", ")))
        })?;
        Composite::from_toml(toml)?.with_parameters(given)
    }

    /// A composite from the text of a TOML file.
    ///
    /// # Errors
    /// Text that is not TOML of this form, unknown rules, roles and bases.
    pub fn from_toml(text: &str) -> Result<Composite, Diagnostics> {
        Composite::from_toml_at(text, 0)
    }

    fn from_toml_at(text: &str, depth: usize) -> Result<Composite, Diagnostics> {
        let file: CompositeFile =
            toml::from_str(text).map_err(|error| Diagnostic::new(format!("not a composite: {error}")))?;
        let base = match &file.extends {
            None => None,
            Some(_) if depth > 8 => return Err(Diagnostic::new("composites extend each other in a circle").into()),
            Some(name) => {
                let toml = COMPOSITES.iter().find(|(candidate, _)| candidate == name).map(|(_, toml)| *toml);
                let toml = toml.ok_or_else(|| Diagnostic::new(format!("`extends` names no composite: `{name}`")))?;
                Some(Composite::from_toml_at(toml, depth + 1)?)
            }
        };
        let carrier = match file.carrier {
            Some(Quantity::Relevance) => Carrier::Relevance,
            Some(Quantity::Coefficient) => Carrier::Coefficient,
            None => base.as_ref().map_or(Carrier::Relevance, |base| base.carrier),
        };
        let result = file.result.or(base.as_ref().map(|base| base.result)).unwrap_or(Quantity::Relevance);
        let ledger = file.ledger.or(base.as_ref().map(|base| base.ledger)).unwrap_or(true);
        let seed = file.seed.or(base.as_ref().map(|base| base.seed)).unwrap_or(SeedKind::One);
        let sampling = file.sampling.or(base.as_ref().and_then(|base| base.sampling));
        let (mut parameters, mut choices, inherited) = match base {
            Some(base) => (base.parameters, base.choices, base.entries),
            None => Default::default(),
        };
        choices.extend(file.choices);
        parameters.extend(file.parameters.into_iter().chain(choices.clone()));
        let entries: Vec<Entry> = file.rule.into_iter().chain(inherited).collect();
        let composite = Composite {
            name: file.name,
            doc: file.doc,
            carrier,
            result,
            ledger,
            seed,
            sampling,
            parameters,
            choices,
            given: Vec::new(),
            entries,
        };
        composite.check()?;
        composite.filter()?;
        Ok(composite)
    }

    /// Every rule, role and parameter that an entry names must exist.
    fn check(&self) -> Result<(), Diagnostics> {
        let mut found = Vec::new();
        for entry in &self.entries {
            let rule = match self.rule_of(entry) {
                Ok(rule) => rule,
                Err(finding) => {
                    found.push(finding);
                    continue;
                }
            };
            if let Some(role) = entry.role.as_deref().filter(|role| Role::from_name(role).is_none()) {
                let known: Vec<&str> = Role::ALL.iter().map(|role| role.name()).collect();
                let help = format!("known are {}", known.join(", "));
                found.push(
                    Diagnostic::new(format!("composite `{}` names the unknown role `{role}`", self.name)).help(help),
                );
            }
            for (what, words, known) in entry.words() {
                for word in words.iter().filter(|word| !known.contains(&word.as_str())) {
                    let near =
                        known.iter().min_by_key(|candidate| distance(candidate, word)).copied().unwrap_or_default();
                    let message = format!("composite `{}` names the unknown {what} `{word}`", self.name);
                    found.push(Diagnostic::request(message).help(format!("did you mean `{near}`?")));
                }
            }
            for (key, value) in &entry.with {
                // An entry that leaves its rule to a parameter may give what only some of the rules have.
                let candidates = if entry.r#use.starts_with('$') { rules::RULES } else { std::slice::from_ref(rule) };
                if !candidates.iter().flat_map(|rule| rule.parameters).any(|parameter| parameter.name == key) {
                    found.push(Diagnostic::new(format!("rule `{}` has no parameter `{key}`", rule.name)));
                }
                let reference = match value {
                    Parameter::Word(word) => word.strip_prefix('$'),
                    _ => None,
                };
                if let Some(name) = reference.filter(|name| !self.parameters.contains_key(*name)) {
                    found.push(Diagnostic::new(format!("composite `{}` has no parameter `{name}`", self.name)));
                }
            }
        }
        if found.is_empty() { Ok(()) } else { Err(Diagnostics(found)) }
    }

    /// The rule that an entry uses.
    fn rule_of(&self, entry: &Entry) -> Result<&'static RuleDef, Diagnostic> {
        let name = match entry.r#use.strip_prefix('$') {
            None => entry.r#use.clone(),
            Some(parameter) => match self.parameters.get(parameter) {
                Some(value) => value.to_string(),
                None => {
                    return Err(Diagnostic::new(format!("composite `{}` has no parameter `{parameter}`", self.name)));
                }
            },
        };
        rules::find(&name).ok_or_else(|| {
            let near = rules::RULES.iter().min_by_key(|rule| distance(rule.name, &name));
            let given = if name == entry.r#use { String::new() } else { format!(" as `{}`", &entry.r#use[1..]) };
            Diagnostic::request(format!("composite `{}` uses the unknown rule `{name}`{given}", self.name))
                .help(format!("did you mean `{}`?", near.map_or("", |rule| rule.name)))
        })
    }

    /// The composite with some parameters replaced.
    ///
    /// # Errors
    /// A parameter that it does not have, and one that shall name a rule and does not.
    pub fn with_parameters(mut self, given: Vec<(String, Parameter)>) -> Result<Composite, Diagnostics> {
        for (key, value) in given {
            if !self.parameters.contains_key(&key) && !self.has_option(&key) {
                let own = self.parameters.keys().map(String::as_str);
                let options = OPTIONS.into_iter().filter(|option| self.has_option(option));
                let known: BTreeSet<&str> = own.chain(options).collect();
                let help = format!("it has {}", Vec::from_iter(known).join(", "));
                return Err(Diagnostic::new(format!("composite `{}` has no parameter `{key}`", self.name))
                    .help(help)
                    .into());
            }
            self.parameters.insert(key.clone(), value);
            self.given.push(key);
        }
        self.check()?;
        self.filter()?;
        Ok(self)
    }

    /// Whether the option means something to the composite.
    fn has_option(&self, option: &str) -> bool {
        let divides = |entry: &Entry| {
            let rule = self.rule_of(entry);
            rule.is_ok_and(|rule| rule.parameters.iter().any(|parameter| parameter.name == option))
        };
        OPTIONS.contains(&option) && (option == "filter" || self.entries.iter().any(divides))
    }

    /// What passes a linear map, where that is not everything.
    ///
    /// # Errors
    /// A parameter `filter` that is no fraction.
    pub fn filter(&self) -> Result<Option<Filter>, Diagnostic> {
        self.parameters.get("filter").map(Filter::from_parameter).transpose()
    }

    /// Whether its rules are applied: not by composites that only look at what comes out.
    pub fn applies_rules(&self) -> bool {
        self.sampling.is_none_or(Sampling::applies_rules)
    }

    /// The composite as the graph's header states it: its name, all its parameters, and the choices that are not at their
    /// default.
    pub fn signature(&self) -> String {
        let told = self.parameters.iter().filter(|(key, value)| self.choices.get(*key) != Some(*value));
        let parameters: Vec<String> = told.map(|(key, value)| format!("{key}={value}")).collect();
        if parameters.is_empty() {
            return self.name.clone();
        }
        format!("{}({})", self.name, parameters.join(", "))
    }

    /// The rule for `subject`, if an entry matches: the first that does.
    ///
    /// # Errors
    /// A rule that does not serve the subject's class.
    pub fn choose(&self, subject: &Subject) -> Result<Option<Choice>, Diagnostic> {
        let Some(entry) = self.entries.iter().find(|entry| entry.matches(subject)) else { return Ok(None) };
        let rule = self.rule_of(entry)?;
        if !rule.classes.contains(&subject.class) {
            let message =
                format!("rule `{}` does not serve the class `{}` of `{}`", rule.name, subject.class, subject.op);
            return Err(Diagnostic::new(message)
                .of_kind(DiagnosticKind::NoRule)
                .at(subject.name)
                .help(format!("it serves {}", rule.classes.join(", "))));
        }
        let mut parameters = BTreeMap::new();
        for definition in rule.parameters {
            let value = match entry.with.get(definition.name) {
                Some(Parameter::Word(word)) if word.starts_with('$') => self.parameters.get(&word[1..]).cloned(),
                given => given.cloned(),
            };
            let option = OPTIONS.contains(&definition.name).then(|| self.parameters.get(definition.name)).flatten();
            let value = value.or_else(|| option.cloned()).unwrap_or_else(|| (definition.default)());
            parameters.insert(definition.name.to_string(), value);
        }
        Ok(Some(Choice { rule, parameters }))
    }
}

/// How many single letters differ between two words (Levenshtein), to name what was probably meant.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = corner + usize::from(from != *to);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

impl Entry {
    /// The predicates that name words of a closed set: what they are, the words, and the set.
    fn words(&self) -> [(&'static str, &[String], Vec<&'static str>); 3] {
        [
            ("operation", self.op.as_ref().map_or(&[], Words::list), lrpc_ir::Op::mnemonics().collect()),
            ("family", self.family.as_ref().map_or(&[], Words::list), lrpc_ir::Op::FAMILIES.to_vec()),
            ("class", self.class.as_ref().map_or(&[], Words::list), lrpc_ir::Class::NAMES.to_vec()),
        ]
    }

    fn matches(&self, subject: &Subject) -> bool {
        let words = |words: &Option<Words>, word: &str| words.as_ref().is_none_or(|words| words.contains(word));
        words(&self.op, subject.op)
            && words(&self.family, subject.family)
            && words(&self.class, subject.class)
            && self.role.as_deref().is_none_or(|role| subject.roles.iter().any(|has| has.name() == role))
            && self.name.as_deref().is_none_or(|pattern| glob(pattern, subject.name))
            && self.active.is_none_or(|count| count == subject.active)
    }
}

/// Whether `text` matches `pattern`, in which `*` stands for any text.
pub fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut open = false;
    for part in parts {
        open = part.is_empty();
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    let last = pattern.rsplit('*').next().unwrap_or_default();
    open || rest.is_empty() || (pattern.contains('*') && text.ends_with(last) && text.len() >= pattern.len() - 1)
}

/// Parameters that a user gave, in order.
type Given = Vec<(String, Parameter)>;

/// `name` or `name(key=value, …)`.
fn split_parameters(text: &str) -> Result<(&str, Given), Diagnostic> {
    let text = text.trim();
    let Some((name, rest)) = text.split_once('(') else { return Ok((text, Vec::new())) };
    let wrong = || {
        Diagnostic::new(format!("`{text}` is not a composite with parameters"))
            .help("write it as name(key=value, key=value)")
    };
    let inner = rest.strip_suffix(')').ok_or_else(wrong)?;
    let mut parameters = Vec::new();
    let mut depth = 0usize;
    let pieces = inner.split(|c: char| {
        depth = match c {
            '[' => depth + 1,
            ']' => depth.saturating_sub(1),
            _ => depth,
        };
        c == ',' && depth == 0
    });
    for piece in pieces.filter(|piece| !piece.trim().is_empty()) {
        let (key, value) = piece.split_once('=').ok_or_else(wrong)?;
        parameters.push((key.trim().to_string(), parse_parameter(value.trim()).ok_or_else(wrong)?));
    }
    Ok((name.trim(), parameters))
}

fn parse_parameter(text: &str) -> Option<Parameter> {
    if let Some(inner) = text.strip_prefix('[') {
        let numbers = inner.strip_suffix(']')?.split(',').map(|item| item.trim().parse());
        return numbers.collect::<Result<Vec<f64>, _>>().ok().map(Parameter::Numbers);
    }
    if text.is_empty() {
        return None;
    }
    Some(text.parse().map_or_else(|_| Parameter::Word(text.into()), Parameter::Number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_composite_reads_and_has_its_file_name() {
        for (name, toml) in COMPOSITES {
            assert_eq!(Composite::from_toml(toml).unwrap().name, *name);
        }
    }

    #[test]
    fn parameters_are_read_and_checked() {
        let composite = Composite::named("epsilon-gamma-box(low=-4, high=[1, 2, 3])").unwrap();
        assert_eq!(composite.parameters["low"], Parameter::Number(-4.0));
        assert_eq!(composite.parameters["high"], Parameter::Numbers(vec![1.0, 2.0, 3.0]));
        let error = Composite::named("epsilon(gama=1)").unwrap_err().to_string();
        assert!(error.contains("no parameter `gama`") && error.contains("eps"), "{error}");
        let composite = Composite::named("epsilon-plus(stabiliser=clip, filter=top(0.1))").unwrap();
        assert_eq!(composite.signature(), "epsilon-plus(bias=include, eps=1e-6, filter=top(0.1), stabiliser=clip)");
        assert!(composite.filter().unwrap().is_some());
        assert!(Composite::named("epsilon(filter=0)").is_err());
        let error = Composite::named("gradient(stabiliser=clip)").unwrap_err().to_string();
        assert!(error.contains("it has filter"), "{error}");
        assert!(Composite::named("epsilonn").unwrap_err().to_string().contains("known are"));
        assert!(Composite::named("epsilon(eps=1").is_err());
    }

    #[test]
    fn the_documented_example_reads() {
        let document = include_str!("../../../docs/composites.md");
        let example = document.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        assert_eq!(Composite::from_toml(example).unwrap().name, "mine");
    }

    #[test]
    fn unknown_rules_roles_and_keys_are_all_reported() {
        let toml = "name='a'\ndoc='b'\n[[rule]]\nuse='Nope'\n[[rule]]\nrole='nose'\nuse='Epsilon'\nwith={x=1}\n";
        assert_eq!(Composite::from_toml(toml).unwrap_err().0.len(), 3);
        assert!(Composite::from_toml("name='a'\ndoc=''\nrules=[]").is_err());
        let toml = "name='a'\ndoc='b'\n[[rule]]\nop=['konv']\nclass='linaer'\nuse='Epsilon'\n";
        let error = Composite::from_toml(toml).unwrap_err().to_string();
        assert!(error.contains("did you mean `conv`?") && error.contains("did you mean `linear`?"), "{error}");
    }

    #[test]
    fn a_parameter_may_name_a_rule() {
        let composite = Composite::named("epsilon(add=AbsRatio, softmax=Stop)").unwrap();
        let subject = |op, class, roles| Subject { op, family: "", class, name: "", roles, active: 2 };
        let chosen = |op, class, roles| composite.choose(&subject(op, class, roles)).unwrap().unwrap().rule.name;
        assert_eq!(chosen("add", "additive", &[Role::Residual]), "AbsRatio");
        assert_eq!(chosen("softmax", "softmax", &[]), "Stop");
        assert_eq!(chosen("layer_norm", "normalize", &[]), "NormEpsilon");
        let error = Composite::named("epsilon(add=AbsRatoi)").unwrap_err().to_string();
        assert!(error.contains("`AbsRatoi` as `add`") && error.contains("did you mean `AbsRatio`?"), "{error}");
        let toml = "name='a'\ndoc='b'\n[[rule]]\nuse='$add'\n";
        assert!(Composite::from_toml(toml).unwrap_err().to_string().contains("no parameter `add`"));
    }

    #[test]
    fn globs_match_whole_names() {
        assert!(glob("features.*.conv", "features.3.conv") && glob("*", "x") && glob("a*", "ab") && glob("*b", "abb"));
        assert!(!glob("features", "features.3") && !glob("*c", "ab") && !glob("a*b", "ba") && !glob("ab*b", "ab"));
    }
}
