//! Shows how well the ledger closes: every model of some folders under every composite that keeps one.

use std::path::Path;

use lrpc::{CompileOptions, RunOptions, RunOutcome};
use lrpc_passes::relevance::composite::{COMPOSITES, Composite};

use crate::models::{explain, folders, models, name, tensors};

/// How far a line or a total may be open in single precision, as a share of its scale.
const TOLERANCE: f64 = 1e-5;

/// Prints a row for each model and composite: the worst line, the worst total, and the largest scale of a line. A model is
/// an ONNX file in a folder with `inputs.npz`, in one of `roots`.
///
/// # Errors
/// Folders that cannot be read, and ledgers that do not close, after all rows are printed.
#[allow(clippy::print_stdout, reason = "the report")]
pub(crate) fn report(roots: &[&Path]) -> Result<(), String> {
    let (mut open, mut count) = (Vec::new(), 0);
    println!("| model | composite | lines | worst line | worst total | largest scale |\n|---|---|--:|--:|--:|--:|");
    for root in roots {
        for folder in folders(root)? {
            let inputs = tensors(&folder.join("inputs.npz"))?;
            for model in models(&folder)? {
                let label = format!("{}/{}", name(&folder), name(&model));
                for (composite, _) in COMPOSITES.iter().filter(|(composite, _)| keeps_ledger(composite)) {
                    let options = CompileOptions { rules: vec![composite.to_string()], ..CompileOptions::default() };
                    let run = RunOptions { audit: true, ..RunOptions::default() };
                    match explain(&model, &options, &inputs, run) {
                        Ok(outcome) => {
                            let [line, total, scale] = judged(&outcome);
                            let lines = outcome.ledger.len();
                            println!("| {label} | {composite} | {lines} | {line:.1e} | {total:.1e} | {scale:.1e} |");
                            count += 1;
                            // NaN does not close.
                            let closes = line <= TOLERANCE && total <= TOLERANCE;
                            if !closes {
                                open.push(format!("{label} {composite}"));
                            }
                        }
                        Err(reason) => {
                            println!("| {label} | {composite} | {} | | | |", reason.lines().next().unwrap_or_default());
                        }
                    }
                }
            }
        }
    }
    println!("\n{} of {count} ledgers close within {TOLERANCE:e}.", count - open.len());
    if open.is_empty() { Ok(()) } else { Err(format!("these do not close:\n{}", open.join("\n"))) }
}

fn keeps_ledger(composite: &str) -> bool {
    Composite::named(composite).is_ok_and(|composite| composite.ledger)
}

/// The errors of the worst line and the worst total, and the largest scale.
pub(crate) fn judged(outcome: &RunOutcome) -> [f64; 3] {
    // Next to the smallest number that single precision holds, digits are lost.
    let share = |open: f64, scale: f64| open.abs() / (scale + 1e-30);
    let lines = outcome.ledger.iter().map(|line| {
        let absorbed: f64 = line.absorbed.iter().map(|(_, sum)| sum).sum();
        share(line.input - line.output - absorbed, line.scale)
    });
    let totals = outcome
        .totals
        .iter()
        .map(|total| share(total.started - total.arrived - total.absorbed.values().sum::<f64>(), total.scale));
    // NaN counts as the worst.
    let worst = |worst: f64, error: f64| if error <= worst { worst } else { error };
    let scales = outcome.ledger.iter().map(|line| line.scale);
    [lines.fold(0.0, worst), totals.fold(0.0, worst), scales.fold(0.0, worst)]
}
