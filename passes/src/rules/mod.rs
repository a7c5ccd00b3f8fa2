//! The rule book. A rule is data: name, documentation, parameters, the classes that it serves, and a plain function.
//!
//! One file per rule; the list below is the only registry. Composites choose among the rules; nothing else does.

mod absolute_ratio;
mod alpha_beta;
mod attn_softmax;
mod beta_smooth;
mod bias_redistributed;
mod bounded_gate;
mod deconv_net;
mod epsilon;
mod flat;
mod gamma;
mod gate;
mod gradient;
mod guided_backprop;
mod half;
mod identity;
mod identity_skip;
mod movement;
mod norm_epsilon;
mod norm_identity;
mod proportional_pool;
mod selective;
pub(crate) mod shares;
mod signed_ratio;
#[cfg(test)]
#[path = "../../../docs/writing-a-rule/size_ratio.rs"]
mod size_ratio;
#[cfg(test)]
#[path = "../../../docs/writing-a-rule/square_ratio.rs"]
mod square_ratio;
mod stop;
mod symmetric;
mod taylor;
mod uniform;
mod uniform_pool;
mod unit_map;
mod value_path;
mod w_square;
mod winner;
mod z_box;
mod z_plus;

use std::collections::BTreeMap;

use lrpc_ir::Diagnostic;

use crate::relevance::builder::RelevanceBuilder;
use crate::relevance::composite::Parameter;
use crate::relevance::site::{Flow, Site};

/// A parameter of a rule.
#[derive(Debug, Clone)]
pub struct ParameterDef {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// Its value where a composite gives none.
    pub default: fn() -> Parameter,
}

/// A relevance rule.
#[derive(Debug, Clone)]
pub struct RuleDef {
    /// The paper's term.
    pub name: &'static str,
    /// Documentation under six headings: Formula, Conserves?, Use when, Parameters, Reference, Example graph.
    pub doc: &'static str,
    /// Its parameters.
    pub parameters: &'static [ParameterDef],
    /// The relevance classes that it serves, by [`lrpc_ir::Class::name`].
    pub classes: &'static [&'static str],
    /// Makes the nodes for one site and says what flows to each operand.
    pub emit: fn(&mut RelevanceBuilder, &Site) -> Result<Vec<Flow>, Diagnostic>,
}

impl RuleDef {
    /// The headings that every rule is documented under.
    pub const HEADINGS: [&'static str; 6] =
        ["Formula", "Conserves?", "Use when", "Parameters", "Reference", "Example graph"];

    /// The documentation under one of [`RuleDef::HEADINGS`]; empty where it is missing.
    pub fn section(&self, heading: &str) -> &'static str {
        let after = self.doc.split("\n# ").find_map(|section| section.strip_prefix(heading)?.strip_prefix('\n'));
        after.unwrap_or_default().trim()
    }

    /// The documentation by heading, in order.
    pub fn sections(&self) -> Vec<(&'static str, &'static str)> {
        Self::HEADINGS.into_iter().map(|heading| (heading, self.section(heading))).collect()
    }

    /// Whether a constant that is added takes what a linear map's bias would: a sum behind such a map is then a part of it.
    pub fn treats_constant_as_bias(&self) -> bool {
        self.name == signed_ratio::RULE.name
    }

    /// Whether the rule gives every factor of a product the same share, so that nested products are one product of many.
    /// `is_gate` says whether one factor is a bounded gate, `parameters` are the rule's own.
    pub fn shares_evenly(&self, parameters: &BTreeMap<String, Parameter>, is_gate: impl Fn() -> bool) -> bool {
        let all = || parameters.get("half") == Some(&Parameter::Word("all".into()));
        self.name == half::RULE.name || (self.name == bounded_gate::RULE.name && all() && is_gate())
    }

    /// Whether every element of R goes back as it is to elements that the output's was made from: one of which it is a
    /// copy, or the argument of a function.
    pub fn gives_back_unchanged(&self) -> bool {
        [identity::RULE.name, movement::RULE.name, winner::RULE.name].contains(&self.name)
    }
}

/// Every rule, by name.
pub const RULES: &[RuleDef] = &[
    absolute_ratio::RULE,
    alpha_beta::RULE,
    attn_softmax::RULE,
    beta_smooth::RULE,
    bias_redistributed::RULE,
    bounded_gate::RULE,
    deconv_net::RULE,
    epsilon::RULE,
    flat::RULE,
    gamma::RULE,
    gate::RULE,
    gradient::RULE,
    guided_backprop::RULE,
    half::RULE,
    identity::RULE,
    identity_skip::RULE,
    movement::RULE,
    norm_epsilon::RULE,
    norm_identity::RULE,
    proportional_pool::RULE,
    selective::RULE,
    signed_ratio::RULE,
    #[cfg(test)]
    size_ratio::RULE,
    #[cfg(test)]
    square_ratio::RULE,
    stop::RULE,
    symmetric::RULE,
    taylor::RULE,
    uniform::RULE,
    uniform_pool::RULE,
    value_path::RULE,
    w_square::RULE,
    winner::RULE,
    z_box::RULE,
    z_plus::RULE,
];

/// The rule called `name`.
pub fn find(name: &str) -> Option<&'static RuleDef> {
    RULES.iter().find(|rule| rule.name == name)
}

/// ε as the stabiliser of a denominator.
const EPS: ParameterDef =
    ParameterDef { name: "eps", doc: "ε of the stabiliser S(z) = z + ε·sg(z)", default: || Parameter::Number(1e-6) };

/// How ε enters the denominator. Every rule that has [`EPS`] has it too.
const STABILISER: ParameterDef = ParameterDef {
    name: "stabiliser",
    doc: "`absolute`: S(z) = z + ε·sg(z); `relative`: ε times the root mean square of the sample's z in place of ε; \
          `clip`: S(z) = sg(z)·max(|z|, ε)",
    default: || Parameter::Word("absolute".into()),
};

/// What happens to a bias.
const BIAS: ParameterDef = ParameterDef {
    name: "bias",
    doc: "`include`: the bias stays in the denominator and absorbs its share; `exclude`: it is left out of it; \
          `operand`: its addition shares by absolute ratio first",
    default: || Parameter::Word("include".into()),
};

/// What happens to a bias, where contributions have no sum that its addition could be told apart from.
const BIAS_IN_OR_OUT: ParameterDef = ParameterDef {
    name: "bias",
    doc: "`include`: the bias counts in the denominator and absorbs its share; `exclude`: it is left out of it",
    default: || Parameter::Word("include".into()),
};

/// What happens to a bias or an added constant, where its share can also be given back.
const BIAS_OR_REDISTRIBUTE: ParameterDef = ParameterDef {
    name: "bias",
    doc: "`include`: the bias stays in the denominator and absorbs its share; `exclude`: it is left out of it; \
          `redistribute`: it stays there, and its share goes back to the inputs in equal parts; `operand`: its addition \
          shares by absolute ratio first",
    default: || Parameter::Word("include".into()),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_all_six_headings() {
        for rule in RULES {
            for (heading, text) in rule.sections() {
                assert!(!text.is_empty(), "the documentation of {} says nothing under `# {heading}`", rule.name);
            }
            let order: Vec<&str> = rule.doc.lines().filter_map(|line| line.strip_prefix("# ")).collect();
            assert_eq!(order, RuleDef::HEADINGS, "{}", rule.name);
            for parameter in rule.parameters {
                let name = format!("`{}`", parameter.name);
                assert!(rule.doc.contains(&name), "{} is silent on {name}", rule.name);
            }
        }
    }

    #[test]
    fn every_rule_that_divides_has_all_modes_of_the_stabiliser() {
        for rule in RULES {
            let has = |name| rule.parameters.iter().any(|parameter| parameter.name == name);
            assert_eq!(has("eps"), has("stabiliser"), "{}", rule.name);
        }
    }

    #[test]
    fn rules_are_listed_alphabetically_and_once() {
        for pair in RULES.windows(2) {
            let (first, second) = (pair[0].name, pair[1].name);
            assert!(first < second, "RULES has {first} before {second}: names go up, and each stands there once");
        }
    }
}
