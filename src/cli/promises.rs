//! The view of a graph's promises: `lrpc inspect GRAPH --promises`.

use lrpc_passes::bind::{Chain, Delivery, PromiseReport, PromiseUse, StrategySummary};
use serde_json::{Value as Json, json};

use super::plan::scaled;
use crate::machine::bytes_in_words;
use crate::render::{Align, Table};

/// The report as tables.
pub(super) fn text(report: &PromiseReport) -> String {
    let numbers = &report.statistics;
    let mut text = promise_table(report).to_string();
    text.push_str(&format!(
        "{} promises; {} of {} operations would have to search for what they need (density ρ = {:.3}), \
         {} interior nodes, depth δ = {}\n",
        numbers.promises,
        numbers.origins,
        numbers.operations,
        numbers.rho(),
        numbers.interior,
        numbers.delta
    ));
    if report.strategies.is_empty() {
        text.push_str("give the sizes of all symbols with --dim to see how they are kept\n");
    } else {
        text.push_str(&format!("\n{}", strategy_table(&report.strategies)));
    }
    text
}

fn promise_table(report: &PromiseReport) -> Table {
    let mut columns = vec![("promised", Align::Left), ("type", Align::Left)];
    let strategies: Vec<&str> = report.strategies.iter().map(|summary| summary.strategy).collect();
    if !strategies.is_empty() {
        columns.push(("bytes", Align::Right));
        columns.extend(strategies.iter().map(|&name| (name, Align::Left)));
        columns.extend([("calls", Align::Right), ("flop", Align::Right), ("starts from", Align::Left)]);
    }
    columns.extend([("read by", Align::Left), ("from", Align::Left)]);
    let mut table = Table::new(&columns);
    for promise in &report.promises {
        let mut row = vec![format!("%{}", promise.value), promise.ty.clone()];
        if let Some(delivery) = &promise.delivery {
            row.push(bytes_in_words(delivery.bytes as u64));
            let how = |name: &&str| delivery.kept.get(name).map_or("", |kept| kept.name()).to_string();
            row.extend(strategies.iter().map(how));
            let Chain { from, calls, cost } = delivery.replay.clone().unwrap_or_default();
            let again = delivery.replay.is_some();
            let shown = |text: String| if again { text } else { String::new() };
            row.extend([shown(calls.to_string()), shown(scaled(cost.flops)), shown(names(&from))]);
        }
        row.extend([promise.rules.iter().cloned().collect::<Vec<_>>().join(", "), promise.from.clone()]);
        table.row(row);
    }
    table
}

fn names(of: &std::collections::BTreeSet<String>) -> String {
    of.iter().map(|name| format!("%{name}")).collect::<Vec<_>>().join(", ")
}

fn strategy_table(strategies: &[StrategySummary]) -> Table {
    let columns = ["kept", "recomputed", "calls again", "flop again", "flop in all", "peak", "arena"];
    let mut all = vec![("strategy", Align::Left)];
    all.extend(columns.map(|name| (name, Align::Right)));
    let mut table = Table::new(&all);
    for summary in strategies {
        let size = |bytes: usize| bytes_in_words(bytes as u64);
        table.row([
            summary.strategy.to_string(),
            size(summary.kept_bytes),
            size(summary.recomputed_bytes),
            summary.replays.to_string(),
            scaled(summary.replay_cost.flops),
            scaled(summary.cost.flops),
            size(summary.peak_bytes),
            size(summary.arena_bytes),
        ]);
    }
    table
}

/// The report for programs.
pub(super) fn json(report: &PromiseReport) -> Json {
    let numbers = &report.statistics;
    json!({
        "statistics": {
            "promises": numbers.promises, "promise_generating": numbers.origins, "interior_nodes": numbers.interior,
            "delta": numbers.delta, "rho": numbers.rho(), "operations": numbers.operations,
        },
        "strategies": report.strategies.iter().map(strategy_json).collect::<Vec<_>>(),
        "promises": report.promises.iter().map(promise_json).collect::<Vec<_>>(),
    })
}

fn strategy_json(summary: &StrategySummary) -> Json {
    json!({
        "strategy": summary.strategy, "kept_bytes": summary.kept_bytes,
        "recomputed_bytes": summary.recomputed_bytes, "replays": summary.replays,
        "replay_flops": summary.replay_cost.flops, "replay_bytes_moved": summary.replay_cost.bytes,
        "flops": summary.cost.flops, "bytes_moved": summary.cost.bytes,
        "peak_bytes": summary.peak_bytes, "arena_bytes": summary.arena_bytes,
    })
}

fn promise_json(promise: &PromiseUse) -> Json {
    let mut entry = json!({
        "value": promise.value, "from": promise.from, "type": promise.ty, "rules": promise.rules,
    });
    if let (Some(entry), Some(Delivery { bytes, kept, replay })) = (entry.as_object_mut(), &promise.delivery) {
        let kept: serde_json::Map<String, Json> =
            kept.iter().map(|(strategy, keeping)| (strategy.to_string(), json!(keeping.name()))).collect();
        entry.insert("bytes".into(), json!(bytes));
        entry.insert("kept".into(), Json::Object(kept));
        if let Some(Chain { from, calls, cost }) = replay {
            let chain = json!({ "from": from, "calls": calls, "flops": cost.flops, "bytes_moved": cost.bytes });
            entry.insert("replay".into(), chain);
        }
    }
    entry
}
