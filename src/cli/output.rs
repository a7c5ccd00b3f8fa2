//! Standard output for data, standard error for messages.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use lrpc_ir::Diagnostic;
use lrpc_kernels::Progress;
use serde_json::{Value, json};

use crate::data::write_atomically;
use crate::error::Error;

/// How long a run takes before its progress is shown.
const SILENT: Duration = Duration::from_secs(1);

/// Whether `path` stands for standard output.
pub(super) fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

/// Writes data to standard output.
pub(super) fn data(bytes: &[u8]) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(Error::Output)
}

/// Writes a text to the file at `path`, or to standard output where there is none or it is `-`.
pub(super) fn text(path: Option<&Path>, text: &str) -> Result<(), Error> {
    match path {
        Some(path) if !is_stdout(path) => Ok(write_atomically(path, |writer| writer.write_all(text.as_bytes()))?),
        _ => data(text.as_bytes()),
    }
}

/// Writes a report to standard output, or among the messages where standard output is taken.
pub(super) fn report(text: &str, to_stdout: bool) -> Result<(), Error> {
    if to_stdout {
        return data(text.as_bytes());
    }
    message(text.trim_end());
    Ok(())
}

/// Writes one message. Nobody can be told that standard error is gone.
pub(super) fn message(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Shows an error: each finding with its place and the way out.
pub(super) fn error(error: &Error) {
    let findings = error.findings();
    findings.iter().for_each(|one| finding("error", one));
    if findings.len() > 1 {
        message(&format!("{} errors", findings.len()));
    }
}

/// Shows warnings.
pub(super) fn warnings(found: &[Diagnostic]) {
    found.iter().for_each(|one| finding("warning", one));
}

fn finding(kind: &str, finding: &Diagnostic) {
    let mut lines = finding.message.lines();
    message(&format!("{kind}: {}", lines.next().unwrap_or_default()));
    lines.for_each(|line| message(&format!("  {line}")));
    if let Some(node) = &finding.node {
        message(&format!("  at {node}"));
    }
    if let Some(help) = &finding.help {
        message(&format!("  help: {help}"));
    }
}

/// Warnings for programs.
pub(super) fn warnings_json(found: &[Diagnostic]) -> Vec<Value> {
    found.iter().map(|one| json!({ "message": one.message, "node": one.node, "help": one.help })).collect()
}

/// Shows the progress of a run on a terminal, once the run has taken a while.
pub(super) struct ProgressReport {
    started: Instant,
    bar: Option<ProgressBar>,
    on_terminal: bool,
}

impl ProgressReport {
    pub(super) fn new() -> ProgressReport {
        ProgressReport { started: Instant::now(), bar: None, on_terminal: io::stderr().is_terminal() }
    }

    pub(super) fn step(&mut self, progress: Progress<'_>) {
        if !self.on_terminal || self.started.elapsed() < SILENT {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(progress.total as u64);
            match ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {wide_msg}") {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        bar.set_position(progress.done as u64);
        bar.set_message(progress.label.to_string());
    }
}

impl Drop for ProgressReport {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
