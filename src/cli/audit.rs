//! The ledger as a report: what every rule application let in, out and absorbed, and whether that adds up.

use std::collections::BTreeMap;

use lrpc_ir::graph::Absorbed;
use lrpc_ir::plan::Precision;
use lrpc_kernels::LedgerSums;
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

/// The whole ledger, largest loss first.
pub(super) struct Audit<'a> {
    lines: Vec<Line<'a>>,
    totals: BTreeMap<&'static str, f64>,
    tolerance: f64,
}

impl<'a> Audit<'a> {
    /// Judges `ledger` by what rounding allows in `precision`.
    pub(super) fn of(ledger: &'a [LedgerSums], precision: Precision) -> Audit<'a> {
        let tolerance = match precision {
            Precision::F32 => 1e-5,
            Precision::F64 => 1e-9,
        };
        let mut lines: Vec<Line> = ledger.iter().map(Line::of).collect();
        lines.sort_by(|a, b| b.loss.abs().total_cmp(&a.loss.abs()));
        Audit { lines, totals: absorbed_totals(ledger), tolerance }
    }

    /// Whether every line adds up.
    pub(super) fn closes(&self) -> bool {
        self.lines.iter().all(|line| self.line_closes(line))
    }

    fn line_closes(&self, line: &Line) -> bool {
        // Written so that NaN does not close.
        line.error <= self.tolerance
    }

    /// What does not add up, in words.
    pub(super) fn verdict(&self) -> String {
        let open: Vec<&str> =
            self.lines.iter().filter(|line| !self.line_closes(line)).map(|line| line.sums.site.as_str()).collect();
        let some = open.iter().take(5).copied().collect::<Vec<_>>().join(", ");
        let more = if open.len() > 5 { ", …" } else { "" };
        format!(
            "audit: {} of {} lines do not close within {:e}: {some}{more}",
            open.len(),
            self.lines.len(),
            self.tolerance
        )
    }

    pub(super) fn table(&self) -> String {
        if self.lines.is_empty() {
            return "the composites keep no ledger: what they give is not conserved\n".into();
        }
        let numbers = ["in", "out", "bias", "stabiliser", "rule", "error"];
        let mut columns = vec![("site", Align::Left), ("rule", Align::Left)];
        columns.extend(numbers.map(|name| (name, Align::Right)));
        // The rule's name and what the rule absorbs would share a title.
        columns[6] = ("by rule", Align::Right);
        let mut table = Table::new(&columns);
        for line in &self.lines {
            let absorbed = |kind| line.absorbed.get(&kind).map_or(String::new(), |sum| number(*sum));
            let mark = if self.line_closes(line) { "" } else { " !" };
            table.row([
                line.sums.site.clone(),
                line.sums.rule.clone(),
                number(line.sums.input),
                number(line.sums.output),
                absorbed(Absorbed::Bias),
                absorbed(Absorbed::Stabiliser),
                absorbed(Absorbed::Rule),
                format!("{:.1e}{mark}", line.error),
            ]);
        }
        let totals: Vec<String> = self.totals.iter().map(|(kind, sum)| format!("{kind} {}", number(*sum))).collect();
        format!("{table}absorbed in all: {}\n", if totals.is_empty() { "nothing".into() } else { totals.join(", ") })
    }

    pub(super) fn json(&self) -> Value {
        let line_of = |line: &Line| {
            let absorbed: BTreeMap<&str, f64> = line.absorbed.iter().map(|(kind, sum)| (kind.name(), *sum)).collect();
            let LedgerSums { site, rule, input, output, scale, .. } = line.sums;
            json!({ "site": site, "rule": rule, "in": input, "out": output, "scale": scale, "absorbed": absorbed,
                    "error": line.error, "closes": self.line_closes(line) })
        };
        json!({
            "tolerance": self.tolerance,
            "closes": self.closes(),
            "absorbed": self.totals,
            "lines": self.lines.iter().map(line_of).collect::<Vec<_>>(),
        })
    }
}

impl Line<'_> {
    fn of(sums: &LedgerSums) -> Line<'_> {
        let mut absorbed = BTreeMap::new();
        for (kind, sum) in &sums.absorbed {
            *absorbed.entry(*kind).or_insert(0.0) += sum;
        }
        let loss = sums.input - sums.output;
        let open = (loss - absorbed.values().sum::<f64>()).abs();
        let error = if open == 0.0 { 0.0 } else { open / sums.scale };
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
        let audit = Audit::of(&ledger[..3], Precision::F32);
        assert!(!audit.closes());
        assert!(audit.verdict().contains("1 of 3 lines do not close within 1e-5: s2"), "{}", audit.verdict());
        assert!(audit.table().lines().nth(2).unwrap().starts_with("s2 "));
        assert_eq!(audit.json()["lines"][0]["closes"], false);
        assert!(Audit::of(&ledger[..1], Precision::F64).closes());
        assert!(!Audit::of(&ledger[3..], Precision::F32).closes());
    }
}
