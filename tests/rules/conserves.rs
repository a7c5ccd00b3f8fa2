//! Every rule conserves: its line of the ledger closes on every operation that it serves, in both carriers and both
//! precisions, and nothing that it makes is NaN or infinite. Rules are taken from the list; a new one needs no mention here.

use std::panic::catch_unwind;

use lrpc_ir::Class;
use lrpc_passes::relevance::composite::{COMPOSITES, Composite, Parameter};
use lrpc_passes::rules::{RULES, RuleDef};

use crate::check::{assert_closes, line_of};
use crate::numbers::Random;
use crate::operations::{CARRIERS, CLASSES, operation};

/// Operations of each class for each setting of a rule.
const CASES: u64 = 24;

/// A rule that only composites without a ledger use makes gradients, which are not conserved.
fn makes_gradients(rule: &RuleDef) -> bool {
    let uses = format!("use = \"{}\"", rule.name);
    let users = COMPOSITES.iter().filter(|(_, toml)| toml.lines().any(|line| line.trim() == uses));
    let ledgers: Vec<bool> = users.map(|(name, _)| Composite::named(name).unwrap().ledger).collect();
    !ledgers.is_empty() && !ledgers.contains(&true)
}

/// The rule's defaults, and those with one parameter changed: ε to 0 and to something that counts, words to each that the
/// parameter's documentation names.
fn settings(rule: &RuleDef) -> Vec<String> {
    let mut settings = vec![String::new()];
    for parameter in rule.parameters {
        match (parameter.default)() {
            Parameter::Number(_) if parameter.name == "eps" => {
                settings.extend(["eps = 0.0", "eps = 0.01"].map(String::from));
            }
            Parameter::Word(_) => {
                let words = parameter.doc.split('`').skip(1).step_by(2);
                settings.extend(words.map(|word| format!("{} = '{word}'", parameter.name)));
            }
            _ => {}
        }
    }
    settings
}

/// A setting in words.
fn told(with: &str) -> &str {
    if with.is_empty() { "its defaults" } else { with }
}

/// Checks one setting on one class; how many operations the rule served.
fn check(rule: &RuleDef, class: &str, with: &str) -> usize {
    let mut served = 0;
    for seed in 0..CASES {
        for carrier in CARRIERS {
            let random = &mut Random::new(seed);
            let site = operation(class, random, rule.name, with);
            let Ok((double, single)) = site.try_outcomes(random, carrier, "relevance") else { continue };
            served += 1;
            for (outcome, tolerance) in [(&double, 1e-11), (&single, 1e-5)] {
                let what = format!(
                    "{} with {}, seed {seed}, carrier {}, tolerance {tolerance} of the line's scale\n{}",
                    rule.name,
                    told(with),
                    carrier.name(),
                    site.forward
                );
                for (name, values) in &outcome.results {
                    assert!(values.iter().all(|value| value.is_finite()), "{name}: {what}");
                }
                assert_closes(line_of(&outcome.ledger, "/site"), tolerance, &what);
            }
        }
    }
    served
}

#[test]
#[allow(clippy::print_stdout, reason = "`--nocapture` shows that a new rule was found")]
fn every_rule_closes_on_everything_that_it_serves() {
    let (mut checked, mut failed) = (0, Vec::new());
    for rule in RULES.iter().filter(|rule| !makes_gradients(rule)) {
        // Only a rule that serves everything may serve what no operation here belongs to.
        let serves_all = rule.classes == Class::NAMES;
        for class in rule.classes {
            assert!(CLASSES.contains(class) || serves_all, "{} serves {class}: add an operation", rule.name);
        }
        let mut served_by_rule = 0;
        for class in CLASSES.iter().filter(|class| rule.classes.contains(class)) {
            for with in settings(rule) {
                // All that fail are told, not the first alone.
                match catch_unwind(|| check(rule, class, &with)) {
                    Ok(0) if with.is_empty() => failed.push(format!("{} serves no operation of {class}", rule.name)),
                    Ok(served) => served_by_rule += served,
                    Err(_) => failed.push(format!("{} with {} on class {class}", rule.name, told(&with))),
                }
            }
        }
        println!("{}: {served_by_rule} cases", rule.name);
        checked += served_by_rule;
    }
    assert!(failed.is_empty() && checked > 2000, "{checked} are checked, these fail: {failed:#?}");
}

#[test]
fn only_gradients_are_exempt() {
    let exempt: Vec<&str> = RULES.iter().filter(|rule| makes_gradients(rule)).map(|rule| rule.name).collect();
    assert!(
        exempt.contains(&"Gradient") && !exempt.contains(&"Movement") && !exempt.contains(&"Epsilon"),
        "{exempt:?}"
    );
}
