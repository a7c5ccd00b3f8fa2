//! What is told beside a picture: what is explained, by which rules, and where relevance went.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cli::output;
use crate::cli::run::{number, totals};
use crate::compile::Compiled;
use crate::explain::{Labels, best_classes};
use crate::manifest::absorbed_totals;
use crate::session::RunOutcome;

/// How many of the best classes are shown.
const SHOWN_CLASSES: usize = 5;

/// What is told beside the picture.
pub(super) struct Story {
    pub(super) target: String,
    rules: String,
    conditions: Vec<String>,
    classes: Vec<(String, f64)>,
    seed: f64,
    arrived: f64,
    absorbed: BTreeMap<&'static str, f64>,
    /// Whether there are several targets, composites or conditions, whose totals are not to be added.
    is_several: bool,
    /// Whether it is a gradient that arrives, of which nothing is conserved.
    is_gradient: bool,
    /// Whether there is a ledger; without one nothing is conserved, and nothing is lost.
    has_ledger: bool,
}

impl Story {
    /// The story of a run that explains `targets`; `arrived` are the results that count as its end.
    pub(super) fn of<'a>(
        compiled: &Compiled,
        outcome: &RunOutcome,
        arrived: impl Iterator<Item = &'a str>,
        labels: &Labels,
        targets: &[String],
    ) -> Story {
        let outputs = compiled.graph.results.iter().filter(|result| result.name.starts_with("output/"));
        let mut scores = outputs.filter_map(|result| best_classes(outcome.results.get(&result.name)?, SHOWN_CLASSES));
        let best = scores.next().unwrap_or_default();
        let target = match (targets.first(), best.first()) {
            _ if targets.len() > 1 => format!("{} targets", targets.len()),
            (Some(target), _) => match class_of(target) {
                Some(class) => format!("class {} ({target})", labels.describe(class)),
                None => target.clone(),
            },
            (None, Some((class, score))) => format!("class {}, score {score:.4}", labels.describe(*class)),
            (None, None) => "the largest element of the output".into(),
        };
        Story {
            target,
            rules: compiled.report.composites.join(", "),
            conditions: compiled.graph.conditions.clone(),
            classes: best.into_iter().map(|(class, score)| (labels.describe(class), score)).collect(),
            seed: outcome.seeds.iter().map(|seed| seed.sum).sum(),
            arrived: arrived.filter_map(|name| outcome.arrived.get(name)).sum(),
            absorbed: absorbed_totals(&outcome.ledger),
            is_several: [targets.len(), compiled.report.composites.len(), compiled.graph.conditions.len()]
                .iter()
                .any(|count| *count > 1),
            is_gradient: outcome.ledger.is_empty()
                && outcome.seeds.iter().all(|seed| seed.is_coefficient)
                && compiled.graph.composites.iter().all(|composite| composite.carrier == "coefficient"),
            has_ledger: !outcome.ledger.is_empty(),
        }
    }

    /// What is explained, one line for each fact.
    pub(super) fn caption(&self) -> String {
        format!("Explained: {}\n{}", self.target, self.facts().join("\n"))
    }

    /// Rules and totals.
    pub(super) fn facts(&self) -> Vec<String> {
        let Story { rules, seed, arrived, .. } = self;
        let mut facts = vec![format!("Rules: {rules}")];
        facts.extend(self.conditions.iter().map(|condition| format!("Condition: {condition}")));
        match (self.is_gradient, self.is_several) {
            (true, _) => facts.push("Gradient".into()),
            (false, true) => {}
            (false, false) => facts.push(format!("Relevance: {seed:.4} started, {arrived:.4} arrived")),
        }
        facts.extend(self.lost());
        facts
    }

    /// Where relevance went, if more than half of it did not arrive.
    fn lost(&self) -> Option<String> {
        let Story { seed, arrived, .. } = self;
        let lost = seed - arrived;
        // What a condition does not let pass is not lost.
        let may_lose = self.has_ledger && !self.is_several && self.conditions.is_empty();
        if !may_lose || lost.abs() <= 0.5 * seed.abs() {
            return None;
        }
        let absorbed: Vec<String> =
            self.absorbed.iter().map(|(kind, sum)| format!("by {kind} {}", number(*sum))).collect();
        let absorbed = if absorbed.is_empty() { "nothing".into() } else { absorbed.join(", ") };
        Some(format!("{lost:.4} of {seed:.4} did not arrive; absorbed: {absorbed}"))
    }

    /// What lets more arrive, by what absorbed most.
    fn way_out(&self) -> &'static str {
        let most = self.absorbed.iter().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()));
        match most.map(|(kind, _)| *kind) {
            Some("rule") => "rules that conserve let more of it arrive: in attention --rules cp-lrp",
            Some("bias") => "the parameter bias=exclude, or another composite, may let more of it arrive",
            _ => "a smaller eps, or another composite, may let more of it arrive",
        }
    }

    /// For programs.
    pub(super) fn json(&self, outcome: &RunOutcome) -> Value {
        let classes: Vec<_> =
            self.classes.iter().map(|(class, score)| json!({ "class": class, "score": score })).collect();
        json!({ "explained": self.target, "rules": self.rules, "conditions": self.conditions, "best": classes, "seed": self.seed,
                "arrived": outcome.arrived, "absorbed": self.absorbed, "gradient": self.is_gradient })
    }

    /// For people, among the messages.
    pub(super) fn tell(&self, outcome: &RunOutcome) {
        output::message(&format!("explained: {}", self.target));
        for (class, score) in &self.classes {
            output::message(&format!("  {score:>10.4}  {class}"));
        }
        self.conditions.iter().for_each(|condition| output::message(&format!("condition: {condition}")));
        match self.is_gradient {
            true => output::message(&format!("gradient {:>14}  sum", number(self.arrived))),
            false => totals(outcome),
        }
        if let Some(lost) = self.lost() {
            output::message(&lost);
            output::message(&format!("  help: {}", self.way_out()));
        }
    }
}

/// The class of a target that names one element, as `logits[0, 8]` or `logits[:, 8]` do.
fn class_of(target: &str) -> Option<usize> {
    // A sum or contrast has several brackets and names several classes.
    let (name, inside) = target.strip_suffix(']')?.split_once('[').filter(|(_, inside)| !inside.contains('['))?;
    if name.contains(['+', '-']) {
        return None;
    }
    inside.rsplit(',').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_read() {
        assert_eq!(class_of("logits[0, 8]"), Some(8));
        assert_eq!(class_of("logits:argmax"), None);
        assert_eq!(class_of("a[0,8]-a[0,3]"), None);
        assert_eq!(class_of("a:argmax-a[:, 1]"), None);
    }
}
