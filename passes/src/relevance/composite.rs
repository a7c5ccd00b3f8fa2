//! Composites: which rule serves which operation. They are TOML; the first entry that matches wins, and nothing else
//! chooses rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use lrpc_ir::graph::EntryUse;
use lrpc_ir::{Diagnostic, DiagnosticKind, Diagnostics};
use serde::Deserialize;

use super::filter::Filter;
use super::sampling::Sampling;
use super::selector::{Entry, Subject};
use super::site::Carrier;
use super::unmatched;
use crate::names::suggestion;
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
    entries: Vec<Entry>,
    /// How many of the first entries are a user's own.
    own: usize,
    /// Parameters that a user's file declares and nothing reads.
    unread: Vec<String>,
}

/// A rule that a composite chose, parameters filled in.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The rule.
    pub rule: &'static RuleDef,
    /// Its parameters.
    pub parameters: BTreeMap<String, Parameter>,
    /// The entry that chose it.
    pub entry: EntryUse,
}

/// An entry as the rule book shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryText {
    /// The composite whose file holds it.
    pub of: String,
    /// Its place there, from 1.
    pub number: usize,
    /// What it selects: `role=first class=linear`.
    pub selects: String,
    /// The rule.
    pub rule: String,
    /// Its parameters: `eps=$eps`.
    pub with: String,
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
        let toml = shipped(name).ok_or_else(|| {
            let near = suggestion(name, COMPOSITES.iter().map(|(name, _)| *name));
            Diagnostic::new(format!("there is no composite `{name}`"))
                .help(format!("{near}; a path ending in .toml names a file"))
        })?;
        let composite = Composite { own: 0, unread: Vec::new(), ..Composite::from_toml_at(toml, 0)? };
        composite.with_parameters(given)
    }

    /// A composite of a user's own from the text of a TOML file.
    ///
    /// # Errors
    /// Text that is not TOML of this form, unknown rules, roles and bases, and the name of a composite that comes with the
    /// program: results and headers would not tell the two apart.
    pub fn from_toml(text: &str) -> Result<Composite, Diagnostics> {
        let composite = Composite::from_toml_at(text, 0)?;
        if shipped(&composite.name).is_some() {
            let name = &composite.name;
            let message = format!("`name = \"{name}\"` is that of a composite that comes with the program");
            let help = format!("give yours another one, such as `my-{name}`: headers and results are told apart by it");
            return Err(Diagnostic::request(message).help(help).into());
        }
        Ok(composite)
    }

    fn from_toml_at(text: &str, depth: usize) -> Result<Composite, Diagnostics> {
        let mut file: CompositeFile =
            toml::from_str(text).map_err(|error| Diagnostic::new(format!("not a composite: {error}")))?;
        if file.name.is_empty() || file.name.chars().any(|c| c.is_control() || c == '"') {
            return Err(Diagnostic::new("the `name` of a composite is one line of text without quotation marks").into());
        }
        for (before, entry) in file.rule.iter_mut().enumerate() {
            entry.place = (file.name.clone(), before + 1);
        }
        let base = match &file.extends {
            None => None,
            Some(_) if depth > 8 => return Err(Diagnostic::new("composites extend each other in a circle").into()),
            Some(name) => {
                let toml = shipped(name).ok_or_else(|| {
                    let near = suggestion(name, COMPOSITES.iter().map(|(name, _)| *name));
                    Diagnostic::new(format!("`extends` names no composite that comes with the program: `{name}`"))
                        .help(near)
                })?;
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
        let inherited_names: BTreeSet<String> = parameters.keys().cloned().collect();
        choices.extend(file.choices);
        parameters.extend(file.parameters.into_iter().chain(choices.clone()));
        let own = file.rule.len();
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
            entries,
            own,
            unread: Vec::new(),
        };
        composite.check()?;
        composite.filter()?;
        let unread = composite.unread_parameters(&inherited_names);
        Ok(Composite { unread, ..composite })
    }

    /// Parameters that are neither among those of the base, nor options, nor named by an entry. Sampling has parameters of
    /// its own.
    fn unread_parameters(&self, inherited: &BTreeSet<String>) -> Vec<String> {
        if self.sampling.is_some() {
            return Vec::new();
        }
        let reads = |entry: &Entry, name: &str| {
            let is_it = |word: &str| word.strip_prefix('$') == Some(name);
            let in_with = |value: &Parameter| matches!(value, Parameter::Word(word) if is_it(word));
            is_it(&entry.r#use) || entry.with.values().any(in_with)
        };
        let known = |name: &str| inherited.contains(name) || self.has_option(name);
        let is_read = |name: &str| known(name) || self.entries.iter().any(|entry| reads(entry, name));
        self.parameters.keys().filter(|name| !is_read(name)).cloned().collect()
    }

    /// Every rule, word and parameter that an entry names must exist.
    fn check(&self) -> Result<(), Diagnostics> {
        let mut found = Vec::new();
        for entry in &self.entries {
            let by = format!("entry {} of composite `{}`", entry.place.1, entry.place.0);
            for (what, word, known) in entry.unknown_words() {
                let message = format!("{by} names the unknown {what} `{word}`");
                found.push(Diagnostic::request(message).help(suggestion(&word, known)));
            }
            let rule = match self.rule_of(entry) {
                Ok(rule) => rule,
                Err(finding) => {
                    found.push(Diagnostic { message: format!("{by} {}", finding.message), ..finding });
                    continue;
                }
            };
            for (key, value) in &entry.with {
                // An entry that leaves its rule to a parameter may give what only some of the rules have.
                let candidates = if entry.r#use.starts_with('$') { rules::RULES } else { std::slice::from_ref(rule) };
                let names = || candidates.iter().flat_map(|rule| rule.parameters).map(|parameter| parameter.name);
                if !names().any(|name| name == key) {
                    let message = format!("{by}: rule `{}` has no parameter `{key}`", rule.name);
                    found.push(Diagnostic::new(message).help(suggestion(key, BTreeSet::from_iter(names()))));
                }
                let reference = match value {
                    Parameter::Word(word) => word.strip_prefix('$'),
                    _ => None,
                };
                if let Some(name) = reference.filter(|name| !self.parameters.contains_key(*name)) {
                    let message = format!("{by}: composite `{}` has no parameter `{name}`", self.name);
                    let near = suggestion(name, self.parameters.keys().map(String::as_str));
                    found.push(Diagnostic::new(message).help(near));
                }
            }
        }
        if found.is_empty() { Ok(()) } else { Err(Diagnostics(found)) }
    }

    /// The rule that an entry uses.
    fn rule_of(&self, entry: &Entry) -> Result<&'static RuleDef, Diagnostic> {
        let parameter = entry.r#use.strip_prefix('$');
        let name = match parameter {
            None => entry.r#use.clone(),
            Some(parameter) => self.parameters.get(parameter).map(ToString::to_string).ok_or_else(|| {
                let near = suggestion(parameter, self.parameters.keys().map(String::as_str));
                let message =
                    format!("uses `${parameter}`, but composite `{}` has no parameter `{parameter}`", self.name);
                Diagnostic::request(message).help(near)
            })?,
        };
        rules::find(&name).ok_or_else(|| {
            let given = parameter.map_or(String::new(), |parameter| format!(" as `{parameter}`"));
            Diagnostic::request(format!("uses the unknown rule `{name}`{given}"))
                .help(suggestion(&name, rules::RULES.iter().map(|rule| rule.name)))
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
                let near = suggestion(&key, own.chain(options).collect::<BTreeSet<&str>>());
                let error = Diagnostic::new(format!("composite `{}` has no parameter `{key}`", self.name));
                return Err(error.help(near).into());
            }
            self.parameters.insert(key, value);
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

    /// Whether its results are gradients, or other coefficients, which nothing conserves and whose sum over hidden units
    /// means nothing. What is summed along a path is multiplied with the way, and is relevance.
    pub fn gives_gradient(&self) -> bool {
        self.result == Quantity::Coefficient && self.sampling.is_none_or(|sampling| sampling == Sampling::Noise)
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
        let class = subject.class.name();
        if !rule.classes.contains(&class) {
            let message = format!("rule `{}` does not serve the class `{class}` of `{}`", rule.name, subject.op);
            let help = format!(
                "it serves {}; entry {} of `{}` ({}) chose it",
                rule.classes.join(", "),
                entry.place.1,
                entry.place.0,
                entry.selector()
            );
            return Err(Diagnostic::new(message).of_kind(DiagnosticKind::NoRule).at(&subject.name).help(help));
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
        let entry = EntryUse { name: entry.name(), text: format!("{} → {}", entry.selector(), entry.r#use) };
        Ok(Some(Choice { rule, parameters, entry }))
    }

    /// Its entries in the order in which they are tried, inherited ones last.
    pub fn entries(&self) -> Vec<EntryText> {
        let text = |entry: &Entry| EntryText {
            of: entry.place.0.clone(),
            number: entry.place.1,
            selects: entry.selector(),
            rule: entry.r#use.clone(),
            with: entry.parameters(),
        };
        self.entries.iter().map(text).collect()
    }

    /// Whether a user wrote entries of it, about which [`Composite::unmatched`] may have something to say.
    pub fn has_own_entries(&self) -> bool {
        self.own > 0
    }

    /// A warning for each entry of the user's own that chooses a rule for none of `subjects`, and for each parameter that
    /// the user's file declares and nothing reads.
    pub fn unmatched(&self, subjects: &[Subject]) -> Vec<Diagnostic> {
        if !self.applies_rules() {
            return Vec::new();
        }
        let mut warnings = unmatched::warnings(&self.name, &self.entries[..self.own], subjects);
        warnings.extend(self.unread.iter().map(|name| {
            let message = format!("parameter `{name}` of `{}` is declared, but no entry reads it", self.name);
            Diagnostic::request(message).help(format!("name it in an entry, as in with = {{ {name} = \"${name}\" }}"))
        }));
        warnings
    }
}

/// The TOML of the composite called `name` that comes with the program.
fn shipped(name: &str) -> Option<&'static str> {
    COMPOSITES.iter().find(|(candidate, _)| *candidate == name).map(|(_, toml)| *toml)
}

/// Parameters that a user gave, in order.
pub type Given = Vec<(String, Parameter)>;

/// `name` or `name(key=value, …)`: the name, and the parameters.
///
/// # Errors
/// Text that is not in this form, and a parameter that is given twice.
pub fn split_parameters(text: &str) -> Result<(&str, Given), Diagnostic> {
    let text = text.trim();
    let Some((name, rest)) = text.split_once('(') else { return Ok((text, Vec::new())) };
    let wrong = || {
        Diagnostic::new(format!("`{text}` is not a composite with parameters"))
            .help("write it as name(key=value, key=value)")
    };
    let inner = rest.strip_suffix(')').ok_or_else(wrong)?;
    let mut parameters = Given::new();
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
        let key = key.trim();
        if parameters.iter().any(|(earlier, _)| earlier == key) {
            return Err(Diagnostic::request(format!("`{text}` gives `{key}` twice")).help("leave one of them out"));
        }
        parameters.push((key.to_string(), parse_parameter(value.trim()).ok_or_else(wrong)?));
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
    use lrpc_ir::Class;

    use super::super::roles::Role;
    use super::*;

    #[test]
    fn every_shipped_composite_reads_and_has_its_file_name() {
        for (name, toml) in COMPOSITES {
            assert_eq!(Composite::from_toml_at(toml, 0).unwrap().name, *name);
            assert!(Composite::named(name).unwrap().unmatched(&[]).is_empty(), "{name}");
            assert_eq!(Composite::from_toml_at(toml, 0).unwrap().unread, [""; 0], "{name}");
        }
    }

    #[test]
    fn a_name_that_is_taken_is_refused() {
        let error = Composite::from_toml("name='gamma'\ndoc=''\nextends='epsilon'\n").unwrap_err().to_string();
        assert!(error.contains("comes with the program") && error.contains("my-gamma"), "{error}");
    }

    #[test]
    fn a_parameter_that_nothing_reads_is_a_warning() {
        let warned = |parameters: &str, entries: &str| {
            let toml = format!("name='mine'\ndoc=''\nextends='epsilon'\nparameters={{{parameters}}}\n{entries}");
            let warnings = Composite::from_toml(&toml).unwrap().unmatched(&[]);
            warnings.iter().map(ToString::to_string).filter(|one| one.contains("declared")).collect::<Vec<_>>()
        };
        assert!(warned("gamma=1", "")[0].contains("`gamma` of `mine`"));
        assert_eq!(warned("gamma=1", "[[rule]]\nuse='Gamma'\nwith={gamma='$gamma'}"), [""; 0]);
        assert_eq!(warned("gamma='Gamma'", "[[rule]]\nuse='$gamma'"), [""; 0]);
        assert_eq!(warned("eps=0.1, filter=0.1", ""), [""; 0]);
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
        assert!(error.contains("filter"), "{error}");
        assert!(Composite::named("epsilonn").unwrap_err().to_string().contains("did you mean `epsilon`?"));
        assert!(Composite::named("epsilon(eps=1").is_err());
        assert!(Composite::named("gamma(gamma=1, gamma=2)").unwrap_err().to_string().contains("`gamma` twice"));
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
        let subject = |op, class, roles: &[Role]| Subject {
            op,
            family: "",
            class,
            name: "".into(),
            roles: roles.to_vec(),
            weight: false,
            active: 2,
        };
        let chosen = |op, class, roles| composite.choose(&subject(op, class, roles)).unwrap().unwrap().rule.name;
        assert_eq!(chosen("add", Class::Additive, &[Role::Residual]), "AbsRatio");
        assert_eq!(chosen("softmax", Class::Named("softmax"), &[]), "Stop");
        assert_eq!(chosen("layer_norm", Class::Normalize, &[]), "NormEpsilon");
        let error = Composite::named("epsilon(add=AbsRatoi)").unwrap_err().to_string();
        assert!(error.contains("`AbsRatoi` as `add`") && error.contains("did you mean `AbsRatio`?"), "{error}");
        let toml = "name='a'\ndoc='b'\n[[rule]]\nuse='$add'\n";
        assert!(Composite::from_toml(toml).unwrap_err().to_string().contains("no parameter `add`"));
    }
}
