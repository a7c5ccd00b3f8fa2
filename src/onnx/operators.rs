//! Every operator of ONNX to the newest version, and what becomes of it.
//!
//! `operators.txt` beside this file lists the standard's operators with their versions and the relevance classes that
//! they have here; `cargo run -p lrpc-xtask -- operators FOLDER` writes it. What is done with an operator is told by the
//! table of lowerings.

use std::collections::BTreeMap;

use super::lower::{OpDef, operators};

/// A line for each operator: its name, with its domain in front unless that is `ai.onnx`; its versions; its classes.
const LIST: &str = include_str!("operators.txt");

/// The word for an operator that is evaluated at import and leaves no operation.
const FOLDED: &str = "folded";
/// The word for an operator that no relevance passes.
const NONE: &str = "none";
/// What stands for classes that are not known, since no model of one such node was looked at.
const UNKNOWN: &str = "?";

/// An operator and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorEntry {
    /// Its domain; empty for `ai.onnx`.
    pub domain: String,
    /// Its name.
    pub name: String,
    /// The versions of the domain in which its definition changed, the first one included; empty where the standard does
    /// not know it.
    pub versions: Vec<i64>,
    /// What is done with it.
    pub treatment: Treatment,
    /// The relevance classes of the operations that it becomes, over its floating-point inputs one by one and together; `?`
    /// where they are not known.
    pub classes: Vec<String>,
}

/// What is done with an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// It becomes primitive operations, in this version of its domain and later ones.
    Lowered(i64),
    /// It is evaluated at import, in this version of its domain and later ones.
    Evaluated(i64),
    /// It is known and refused: why.
    Refused(&'static str),
    /// It is not in the table of lowerings.
    Unknown,
}

impl Treatment {
    /// The treatment in a word.
    pub fn word(&self) -> &'static str {
        match self {
            Treatment::Lowered(_) => "lowered",
            Treatment::Evaluated(_) => "evaluated at import",
            Treatment::Refused(_) => "refused",
            Treatment::Unknown => "unknown",
        }
    }

    /// The first version of the domain in which the operator is read.
    pub fn since(&self) -> Option<i64> {
        match self {
            Treatment::Lowered(since) | Treatment::Evaluated(since) => Some(*since),
            Treatment::Refused(_) | Treatment::Unknown => None,
        }
    }

    /// Why it is refused.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Treatment::Refused(reason) => Some(reason),
            _ => None,
        }
    }
}

/// A line of the list: versions and classes.
type Listed<'a> = (Vec<i64>, Vec<&'a str>);

/// All operators: those of the standard and those of other domains that have a lowering, in the order of domain and name.
pub fn operator_table() -> Vec<OperatorEntry> {
    let mut listed: BTreeMap<(&str, &str), Listed> = LIST.lines().filter_map(parse).collect();
    for def in operators() {
        listed.entry((def.domain, def.name)).or_default();
    }
    let entry = |((domain, name), (versions, classes)): ((&str, &str), Listed)| {
        let folded = classes == [FOLDED];
        let treatment = treatment(domain, name, folded);
        let classes = match treatment {
            Treatment::Lowered(_) if classes.is_empty() => vec![UNKNOWN.to_string()],
            _ => classes.into_iter().filter(|class| ![FOLDED, NONE].contains(class)).map(String::from).collect(),
        };
        OperatorEntry { domain: domain.into(), name: name.into(), versions, treatment, classes }
    };
    listed.into_iter().map(entry).collect()
}

/// The versions of `ai.onnx` in which the operator's definition changed.
pub(super) fn versions(operator: &str) -> Vec<i64> {
    let found = LIST.lines().filter_map(parse).find(|((domain, name), _)| domain.is_empty() && *name == operator);
    found.map(|(_, (versions, _))| versions).unwrap_or_default()
}

fn parse(line: &str) -> Option<((&str, &str), Listed<'_>)> {
    let mut words = line.split(' ');
    let key = words.next().filter(|word| !word.is_empty() && !word.starts_with('#'))?;
    let key = key.rsplit_once(':').unwrap_or(("", key));
    let mut listed = |word: &'static str| words.next().filter(|found| *found != word).unwrap_or_default().split(',');
    let versions = listed("-").filter_map(|version| version.parse().ok()).collect();
    let classes = listed("-").filter(|class| !class.is_empty()).collect();
    Some((key, (versions, classes)))
}

fn treatment(domain: &str, name: &str, folded: bool) -> Treatment {
    let defs: Vec<&OpDef> = operators().filter(|def| def.domain == domain && def.name == name).collect();
    let since = defs.iter().filter(|def| def.refused.is_none()).map(|def| def.since).min();
    match (since, defs.iter().find_map(|def| def.refused)) {
        (Some(since), _) if folded => Treatment::Evaluated(since),
        (Some(since), _) => Treatment::Lowered(since),
        (None, Some(reason)) => Treatment::Refused(reason),
        (None, None) => Treatment::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::NEWEST_OPSET;

    #[test]
    fn every_operator_of_the_standard_is_classified() {
        let table = operator_table();
        let standard: Vec<&OperatorEntry> =
            table.iter().filter(|one| one.domain.is_empty() && !one.versions.is_empty()).collect();
        assert!(standard.len() >= 203, "{}", standard.len());
        let unknown: Vec<&str> =
            standard.iter().filter(|one| one.treatment == Treatment::Unknown).map(|one| one.name.as_str()).collect();
        assert_eq!(unknown, [""; 0], "neither lowered nor refused");
        let newest = standard.iter().flat_map(|one| &one.versions).max();
        assert_eq!(newest.copied(), Some(NEWEST_OPSET), "the list is of another version than what is read");
    }

    #[test]
    fn lowerings_start_with_versions_of_the_standard() {
        for def in operators().filter(|def| def.domain.is_empty() && def.refused.is_none()) {
            // ONNX Runtime had this one before ONNX, in the domain of ONNX.
            if (def.name, def.since) == ("LayerNormalization", 1) {
                continue;
            }
            let found = operator_table().into_iter().find(|one| one.domain.is_empty() && one.name == def.name);
            let versions = found.map(|one| one.versions).unwrap_or_default();
            assert!(
                versions.is_empty() || versions.contains(&def.since),
                "{} from {}: {versions:?}",
                def.name,
                def.since
            );
        }
    }

    #[test]
    fn lines_are_read() {
        assert_eq!(parse("Add 1,7 additive"), Some((("", "Add"), (vec![1, 7], vec!["additive"]))));
        assert_eq!(parse("com.microsoft:Gelu - -"), Some((("com.microsoft", "Gelu"), (vec![], vec![]))));
        assert_eq!((parse("# Add"), parse("")), (None, None));
    }
}
