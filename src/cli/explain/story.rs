//! What is told beside a picture: what is explained, by which rules, and where relevance went.

use std::collections::BTreeMap;

use lrpc_ir::Graph;
use serde_json::{Value, json};

use crate::cli::output;
use crate::cli::run::{number, sum_note, totals};
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
    /// What is told of a sum without a ledger.
    note: String,
}

impl Story {
    /// The story of a run that explains `targets`; `ends` are the results that count as its end.
    pub(super) fn of(
        compiled: &Compiled,
        outcome: &RunOutcome,
        ends: &[&str],
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
            arrived: ends.iter().filter_map(|name| outcome.arrived.get(*name)).sum(),
            absorbed: absorbed_totals(&outcome.ledger),
            is_several: [targets.len(), compiled.report.composites.len(), compiled.graph.conditions.len()]
                .iter()
                .any(|count| *count > 1),
            is_gradient: compiled.report.is_gradient,
            has_ledger: !compiled.graph.ledger.is_empty(),
            note: ends.first().map_or(String::new(), |end| sum_note(&compiled.graph, outcome, end)),
        }
    }

    /// What is explained, one line for each fact.
    pub(super) fn caption(&self) -> String {
        format!("Explained: {}\n{}", self.target, self.facts().join("\n"))
    }

    /// What the numbers are.
    pub(super) fn quantity(&self) -> &'static str {
        if self.is_gradient { "gradient" } else { "relevance" }
    }

    /// Rules and totals.
    pub(super) fn facts(&self) -> Vec<String> {
        let Story { rules, seed, arrived, .. } = self;
        let mut facts = vec![format!("Rules: {rules}")];
        facts.extend(self.conditions.iter().map(|condition| format!("Condition: {condition}")));
        match (self.is_gradient, self.is_several) {
            (true, _) => facts.push("Gradient".into()),
            (false, true) => {}
            (false, false) if !self.has_ledger => facts.push(format!("Sum: {arrived:.4}{}", self.note)),
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
        let what = match self.is_more() {
            true => format!("{:.4} more arrived than the {seed:.4} that started", arrived - seed),
            false if lost.abs() > seed.abs() => format!("{arrived:.4} arrived of {seed:.4} that started"),
            false => format!("{lost:.4} of {seed:.4} did not arrive"),
        };
        Some(format!("{what}; absorbed: {absorbed}"))
    }

    /// Whether more arrived than started, which a rule or bias of the other sign brings about.
    fn is_more(&self) -> bool {
        (self.arrived - self.seed) * self.seed >= 0.0
    }

    /// What brings closer what starts and what arrives, by what absorbed most.
    fn way_out(&self) -> Option<&'static str> {
        let most = self.absorbed.iter().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()));
        match most.map(|(kind, _)| *kind) {
            Some("bias") if self.is_more() => Some("the parameter bias=exclude lets biases add nothing"),
            _ if self.is_more() => None,
            Some("rule") => Some("rules that conserve let more of it arrive: in attention --rules cp-lrp"),
            Some("bias") => Some("the parameter bias=exclude, or another composite, may let more of it arrive"),
            _ => Some("a smaller eps, or another composite, may let more of it arrive"),
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
    pub(super) fn tell(&self, graph: &Graph, outcome: &RunOutcome) {
        output::message(&format!("explained: {}", self.target));
        for (class, score) in &self.classes {
            output::message(&format!("  {score:>10.4}  {class}"));
        }
        self.conditions.iter().for_each(|condition| output::message(&format!("condition: {condition}")));
        match self.is_gradient {
            true => output::message(&format!("gradient {:>14}  sum", number(self.arrived))),
            false => totals(graph, outcome),
        }
        if let Some(lost) = self.lost() {
            output::message(&lost);
            self.way_out().into_iter().for_each(|help| output::message(&format!("  help: {help}")));
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
    fn more_than_started_is_not_lost() {
        let told = |seed, arrived| {
            let absorbed = BTreeMap::from([("bias", seed - arrived)]);
            let (text, many) = (String::new, Vec::new());
            let story = Story {
                target: text(),
                rules: text(),
                conditions: many,
                classes: Vec::new(),
                seed,
                arrived,
                absorbed,
                is_several: false,
                is_gradient: false,
                has_ledger: true,
                note: text(),
            };
            format!("{}; {}", story.lost().unwrap_or_default(), story.way_out().unwrap_or_default())
        };
        assert!(
            told(1.1256, 5.4232).starts_with("4.2976 more arrived than the 1.1256 that started; absorbed: by bias")
        );
        assert!(told(1.1256, 5.4232).ends_with("the parameter bias=exclude lets biases add nothing"));
        assert!(told(-1.0, -3.0).starts_with("-2.0000 more arrived than the -1.0000 that started"));
        assert!(told(1.0, -0.5).starts_with("-0.5000 arrived of 1.0000 that started"));
        assert!(told(1.0, 0.25).starts_with("0.7500 of 1.0000 did not arrive"));
        assert!(told(1.0, 0.75).starts_with(';'));
    }

    #[test]
    fn classes_are_read() {
        assert_eq!(class_of("logits[0, 8]"), Some(8));
        assert_eq!(class_of("logits:argmax"), None);
        assert_eq!(class_of("a[0,8]-a[0,3]"), None);
        assert_eq!(class_of("a:argmax-a[:, 1]"), None);
    }
}
