//! The ledger as a report: what every rule application let in, out and absorbed, whether that adds up, and whether what
//! started is what arrived and was absorbed in all.

use std::collections::BTreeMap;

use lrpc_ir::graph::Absorbed;
use lrpc_ir::plan::Precision;
use lrpc_kernels::{LedgerSums, LedgerTotal};
use serde_json::{Value, json};

use super::run::number;
use crate::manifest::absorbed_totals;
use crate::render::{Align, Table};

/// A line of the ledger, judged.
struct Line<'a> {
    sums: &'a LedgerSums,
    absorbed: BTreeMap<Absorbed, f64>,
    loss: f64,
    error: f64,
}

/// What one composite made of one target, judged.
struct Total<'a> {
    sums: &'a LedgerTotal,
    error: f64,
}

/// The whole ledger, largest loss first.
pub(super) struct Audit<'a> {
    lines: Vec<Line<'a>>,
    totals: Vec<Total<'a>>,
    absorbed: BTreeMap<&'static str, f64>,
    tolerance: f64,
}

impl<'a> Audit<'a> {
    /// Judges `ledger` and its `totals` by what rounding allows in `precision`.
    pub(super) fn of(ledger: &'a [LedgerSums], totals: &'a [LedgerTotal], precision: Precision) -> Audit<'a> {
        let tolerance = match precision {
            Precision::F32 => 1e-5,
            Precision::F64 => 1e-9,
        };
        let mut lines: Vec<Line> = ledger.iter().map(Line::of).collect();
        lines.sort_by(|a, b| b.loss.abs().total_cmp(&a.loss.abs()));
        let totals = totals.iter().map(Total::of).collect();
        Audit { lines, totals, absorbed: absorbed_totals(ledger), tolerance }
    }

    /// Whether every line and every total adds up.
    pub(super) fn closes(&self) -> bool {
        let lines = self.lines.iter().map(|line| line.error);
        lines.chain(self.totals.iter().map(|total| total.error)).all(|error| self.is_small(error))
    }

    fn is_small(&self, error: f64) -> bool {
        // Written so that NaN is not.
        error <= self.tolerance
    }

    fn shown(&self, error: f64) -> String {
        format!("{error:.1e}{}", if self.is_small(error) { "" } else { " !" })
    }

    /// What does not add up, in words.
    pub(super) fn verdict(&self) -> String {
        let open_lines = self.lines.iter().filter(|line| !self.is_small(line.error)).map(|line| &line.sums.site);
        let open_totals = self.totals.iter().filter(|total| !self.is_small(total.error)).map(|total| &total.sums.name);
        let open: Vec<String> = open_lines.chain(open_totals).cloned().collect();
        let some = open.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        let more = if open.len() > 5 { ", …" } else { "" };
        let count = self.lines.len() + self.totals.len();
        format!("audit: {} of {count} lines do not close within {:e}: {some}{more}", open.len(), self.tolerance)
    }

    pub(super) fn table(&self) -> String {
        if self.lines.is_empty() && self.totals.is_empty() {
            return "the composites keep no ledger: what they give is not conserved\n".into();
        }
        let numbers = ["in", "out", "bias", "stabiliser", "rule", "error"];
        let mut columns = vec![("site", Align::Left), ("rule", Align::Left)];
        columns.extend(numbers.map(|name| (name, Align::Right)));
        // The rule's name and what the rule absorbs would share a title.
        columns[6] = ("by rule", Align::Right);
        let mut table = Table::new(&columns);
        let mut row = |site: &str, rule: &str, flows: [f64; 2], absorbed: &BTreeMap<Absorbed, f64>, error: f64| {
            let absorbed = |kind| absorbed.get(&kind).map_or(String::new(), |sum| number(*sum));
            table.row([
                site.to_string(),
                rule.to_string(),
                number(flows[0]),
                number(flows[1]),
                absorbed(Absorbed::Bias),
                absorbed(Absorbed::Stabiliser),
                absorbed(Absorbed::Rule),
                self.shown(error),
            ]);
        };
        for Line { sums, absorbed, error, .. } in &self.lines {
            row(&sums.site, &sums.rule, [sums.input, sums.output], absorbed, *error);
        }
        for Total { sums, error } in &self.totals {
            row(&sums.name, "", [sums.started, sums.arrived], &sums.absorbed, *error);
        }
        let absorbed: Vec<String> =
            self.absorbed.iter().map(|(kind, sum)| format!("{kind} {}", number(*sum))).collect();
        format!(
            "{table}absorbed in all: {}\n",
            if absorbed.is_empty() { "nothing".into() } else { absorbed.join(", ") }
        )
    }

    pub(super) fn json(&self) -> Value {
        let line_of = |line: &Line| {
            let LedgerSums { site, rule, input, output, scale, .. } = line.sums;
            json!({ "site": site, "rule": rule, "in": input, "out": output, "scale": scale,
                    "absorbed": by_name(&line.absorbed), "error": line.error, "closes": self.is_small(line.error) })
        };
        let total_of = |total: &Total| {
            let LedgerTotal { name, started, arrived, absorbed, scale, lines } = total.sums;
            json!({ "name": name, "started": started, "arrived": arrived, "absorbed": by_name(absorbed),
                    "scale": scale, "lines": lines.len(), "error": total.error, "closes": self.is_small(total.error) })
        };
        json!({
            "tolerance": self.tolerance,
            "closes": self.closes(),
            "absorbed": self.absorbed,
            "totals": self.totals.iter().map(total_of).collect::<Vec<_>>(),
            "lines": self.lines.iter().map(line_of).collect::<Vec<_>>(),
        })
    }
}

fn by_name(absorbed: &BTreeMap<Absorbed, f64>) -> BTreeMap<&'static str, f64> {
    absorbed.iter().map(|(kind, sum)| (kind.name(), *sum)).collect()
}

/// Relevance that is next to the smallest number of single precision has lost digits: below this it counts as none.
const NOTHING: f64 = 1e-30;

/// What is left of `loss` when `absorbed` is taken off, as a share of `scale`.
fn error_of(loss: f64, absorbed: &BTreeMap<Absorbed, f64>, scale: f64) -> f64 {
    (loss - absorbed.values().sum::<f64>()).abs() / (scale + NOTHING)
}

impl Total<'_> {
    fn of(sums: &LedgerTotal) -> Total<'_> {
        Total { sums, error: error_of(sums.started - sums.arrived, &sums.absorbed, sums.scale) }
    }
}

impl Line<'_> {
    fn of(sums: &LedgerSums) -> Line<'_> {
        let mut absorbed = BTreeMap::new();
        for (kind, sum) in &sums.absorbed {
            *absorbed.entry(*kind).or_insert(0.0) += sum;
        }
        let loss = sums.input - sums.output;
        let error = error_of(loss, &absorbed, sums.scale);
        Line { sums, absorbed, loss, error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(input: f64, output: f64, bias: f64) -> LedgerSums {
        let absorbed = vec![(Absorbed::Bias, bias)];
        let scale = input.abs() + output.abs();
        LedgerSums { site: format!("s{input}"), rule: "Epsilon".into(), input, output, scale, absorbed }
    }

    #[test]
    fn lines_are_sorted_by_loss_and_judged() {
        let ledger = [line(1.0, 0.9, 0.1), line(2.0, 1.0, 0.5), line(0.0, 0.0, 0.0), line(f64::NAN, 0.0, 0.0)];
        let audit = Audit::of(&ledger[..3], &[], Precision::F32);
        assert!(!audit.closes());
        assert!(audit.verdict().contains("1 of 3 lines do not close within 1e-5: s2"), "{}", audit.verdict());
        assert!(audit.table().lines().nth(2).unwrap().starts_with("s2 "));
        assert_eq!(audit.json()["lines"][0]["closes"], false);
        assert!(Audit::of(&ledger[..1], &[], Precision::F64).closes());
        assert!(!Audit::of(&ledger[3..], &[], Precision::F32).closes());
    }

    #[test]
    fn totals_are_judged_by_the_largest_scale_of_their_lines() {
        let total = |arrived: f64| LedgerTotal {
            name: "total".into(),
            started: 2.0,
            arrived,
            absorbed: BTreeMap::from([(Absorbed::Bias, 0.5)]),
            scale: 100.0,
            lines: 0..1,
        };
        let ledger = [line(2.0, 1.5, 0.5)];
        for (arrived, closes) in [(1.5, true), (1.5005, true), (1.51, false), (f64::NAN, false)] {
            let totals = [total(arrived)];
            let audit = Audit::of(&ledger, &totals, Precision::F32);
            assert_eq!(audit.closes(), closes, "{arrived}");
            assert_eq!(audit.json()["totals"][0]["closes"], closes);
        }
        let totals = [total(1.0)];
        let audit = Audit::of(&ledger, &totals, Precision::F32);
        assert!(audit.verdict().contains("1 of 2 lines do not close within 1e-5: total"), "{}", audit.verdict());
        assert!(audit.table().contains("\ntotal "), "{}", audit.table());
    }
}
