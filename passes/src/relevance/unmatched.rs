//! Entries of a user's own composite that choose no rule in the graph at hand: a warning each, with what comes near.

use std::collections::BTreeSet;

use lrpc_ir::Diagnostic;

use super::selector::{Entry, Predicate, Subject};
use crate::names;

/// How many names a warning lists.
const SHOWN: usize = 4;
/// The longest pattern that is compared with names, in characters: a bound on work.
const LONGEST: usize = 200;

/// A warning for each of `entries` that chooses a rule for none of `subjects`; the first entry that matches chooses.
pub(super) fn warnings(composite: &str, entries: &[Entry], subjects: &[Subject]) -> Vec<Diagnostic> {
    let mut chosen = vec![false; entries.len()];
    for subject in subjects {
        if let Some(first) = entries.iter().position(|entry| entry.matches(subject)) {
            chosen[first] = true;
        }
    }
    let unused = entries.iter().enumerate().filter(|(place, _)| !chosen[*place]);
    unused.map(|(place, entry)| warning(composite, entry, &entries[..place], subjects)).collect()
}

fn warning(composite: &str, entry: &Entry, earlier: &[Entry], subjects: &[Subject]) -> Diagnostic {
    let what = format!("entry {} of `{composite}` ({} → {})", entry.place.1, entry.selector(), entry.r#use);
    let matched: Vec<&Subject> = subjects.iter().filter(|subject| entry.matches(subject)).collect();
    if matched.is_empty() {
        return Diagnostic::request(format!("{what} matches no operation of this graph"))
            .help(near_misses(entry, subjects));
    }
    let takers: BTreeSet<String> = matched
        .iter()
        .filter_map(|subject| earlier.iter().find(|entry| entry.matches(subject)))
        .map(|taker| format!("{} ({} → {})", taker.place.1, taker.selector(), taker.r#use))
        .collect();
    let takers: Vec<String> = takers.into_iter().collect();
    let message =
        format!("{what} is never used: all {} operations that it matches go to earlier entries", matched.len());
    Diagnostic::request(message)
        .help(format!("put it before entry {}, since the first entry that matches wins", takers.join(" and ")))
}

/// What is in the graph where a predicate holds nowhere; else which predicates exclude what the others select.
fn near_misses(entry: &Entry, subjects: &[Subject]) -> String {
    if subjects.is_empty() {
        return "nothing lies between the explained output and the requested tensors".into();
    }
    let predicates: Vec<Predicate> = entry.predicates().collect();
    let nowhere = |predicate: &&Predicate| !subjects.iter().any(|subject| predicate.holds(subject));
    let absent: Vec<String> = predicates.iter().filter(nowhere).map(|one| instead(one, subjects)).collect();
    if !absent.is_empty() {
        return absent.join("; ");
    }
    let without = predicates.iter().enumerate().filter_map(|(left_out, predicate)| {
        let others = |subject: &&Subject| {
            predicates.iter().enumerate().all(|(place, other)| place == left_out || other.holds(subject))
        };
        let mut names: Vec<&str> = subjects.iter().filter(others).map(|subject| subject.name.as_str()).collect();
        // Several targets share operations.
        names.sort_unstable();
        names.dedup();
        (!names.is_empty()).then(|| format!("without `{predicate}` it would match {}", listed(&names)))
    });
    let without: Vec<String> = without.collect();
    if !without.is_empty() {
        return without.join("; ");
    }
    let counts = predicates.iter().map(|predicate| {
        let count = subjects.iter().filter(|subject| predicate.holds(subject)).count();
        format!("`{predicate}` holds for {count}")
    });
    format!("of {} operations {}, but no operation fulfils all", subjects.len(), counts.collect::<Vec<_>>().join(", "))
}

/// What there is where `predicate` holds for no operation.
fn instead(predicate: &Predicate, subjects: &[Subject]) -> String {
    let there_are = |words: BTreeSet<String>| words.into_iter().collect::<Vec<_>>().join(", ");
    let all = |word: fn(&Subject) -> String| there_are(subjects.iter().map(word).collect());
    match predicate {
        Predicate::Op(_) => format!("`{predicate}`: the operations are {}", all(|one| one.op.into())),
        Predicate::Family(_) => format!("`{predicate}`: the families are {}", all(|one| one.family.into())),
        Predicate::Class(_) => format!("`{predicate}`: the classes are {}", all(|one| one.class.name().into())),
        Predicate::Role(_) => {
            let roles = there_are(subjects.iter().flat_map(|one| &one.roles).map(|role| role.name().into()).collect());
            let roles = if roles.is_empty() { "no operation has a role".into() } else { format!("there are {roles}") };
            format!("`{predicate}`: {roles}")
        }
        Predicate::Active(_) => {
            format!("`{predicate}`: operations have {} active operands", all(|one| one.active.to_string()))
        }
        Predicate::Weight(true) => format!("`{predicate}`: no operation has a weight"),
        Predicate::Weight(false) => format!("`{predicate}`: every operation has a weight"),
        Predicate::Name(patterns) => {
            let near: Vec<String> = patterns.list().iter().map(|one| listed(&nearest_names(one, subjects))).collect();
            format!("`{predicate}`: the nearest names are {}", near.join(", "))
        }
    }
}

fn listed(names: &[&str]) -> String {
    let more = names.len().saturating_sub(SHOWN);
    let shown = names[..names.len() - more].join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// The names that differ least from what a pattern says outside of its wildcards.
fn nearest_names<'a>(pattern: &str, subjects: &'a [Subject]) -> Vec<&'a str> {
    let said: String = pattern.chars().filter(|c| !matches!(c, '*' | '?')).take(LONGEST).collect();
    let length = said.chars().count();
    let mut ranked: Vec<(usize, &str)> = subjects
        .iter()
        .map(|subject| {
            let start: String = subject.name.chars().take(length).collect();
            let end: String = subject.name.chars().rev().take(length).collect::<Vec<_>>().into_iter().rev().collect();
            let whole: String = subject.name.chars().take(LONGEST).collect();
            let nearest = [start, end, whole].iter().map(|part| names::distance(&said, part)).min();
            (nearest.unwrap_or(usize::MAX), subject.name.as_str())
        })
        .collect();
    ranked.sort();
    ranked.dedup();
    ranked.into_iter().take(SHOWN).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use lrpc_ir::Class;

    use super::super::composite::Composite;
    use super::super::roles::Role;
    use super::*;

    fn subject(name: &str, op: &'static str, class: Class, roles: &[Role]) -> Subject {
        let weight = matches!(class, Class::Linear { .. });
        let family = if weight { "linear" } else { "elementwise" };
        Subject { op, family, class, name: name.into(), roles: roles.to_vec(), weight, active: 1 }
    }

    fn subjects() -> Vec<Subject> {
        let linear = Class::Linear { input: 0, weight: 1, bias: None };
        vec![
            subject("features.0.conv", "conv", linear, &[Role::First]),
            subject("features.0.relu", "relu", Class::Elementwise, &[]),
            subject("features.1.conv", "conv", linear, &[]),
            subject("classifier", "dot", linear, &[Role::Head]),
        ]
    }

    /// The warnings about a composite of these entries.
    fn warned(entries: &str) -> Vec<String> {
        let composite = Composite::from_toml(&format!("name='mine'\ndoc=''\nextends='epsilon'\n{entries}")).unwrap();
        composite.unmatched(&subjects()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn entries_that_match_are_silent() {
        let fits = [
            "name='features.?.conv'",
            "op=['conv', 'conv_transpose']",
            "weight=true",
            "weight=false",
            "active=1",
            "role=['head', 'gate']",
        ];
        for predicate in fits {
            assert_eq!(warned(&format!("[[rule]]\n{predicate}\nuse='Gradient'")), [""; 0], "{predicate}");
        }
        assert!(Composite::named("epsilon-plus-flat").unwrap().unmatched(&[]).is_empty());
    }

    #[test]
    fn what_comes_near_is_named() {
        for (predicates, words) in [
            ("name='features.2.*'", "`name=features.2.*`: the nearest names are features.0.conv, features.0.relu, "),
            ("op='conv_transpose'", "`op=conv_transpose`: the operations are conv, dot, relu"),
            ("family='pool'", "`family=pool`: the families are elementwise, linear"),
            ("class='bilinear'", "`class=bilinear`: the classes are elementwise, linear"),
            ("role='gate'", "`role=gate`: there are first, head"),
            ("active=2", "`active=2`: operations have 1 active operands"),
            ("op='conv'\nrole='head'", "without `role=head` it would match features.0.conv, features.1.conv; without"),
            (
                "op='relu'\nrole='head'\nname='*.1.*'",
                "of 4 operations `role=head` holds for 1, `name=*.1.*` holds for 1, ",
            ),
        ] {
            let warnings = warned(&format!("[[rule]]\n{predicates}\nuse='Gradient'"));
            assert_eq!(warnings.len(), 1, "{predicates}");
            let start = "entry 1 of `mine` (";
            assert!(warnings[0].starts_with(start) && warnings[0].contains(words), "{}", warnings[0]);
        }
    }

    #[test]
    fn entries_behind_others_that_take_everything_are_told_apart() {
        let warnings = warned("[[rule]]\nclass='linear'\nuse='Flat'\n[[rule]]\nop='conv'\nuse='ZPlus'");
        let expected = "entry 2 of `mine` (op=conv → ZPlus) is never used: all 2 operations that it matches go to \
                        earlier entries; put it before entry 1 (class=linear → Flat), since the first entry that \
                        matches wins";
        assert_eq!(warnings, [expected]);
    }
}
