//! Maintenance commands of the workspace. They write files that are checked in, so that building `lrpc` needs
//! neither a protobuf compiler nor these crates.
//!
//! * `cargo run -p lrpc-xtask -- proto PATH/onnx.proto` writes `src/onnx/proto.rs` (the messages, by prost) and
//!   `src/onnx/schema.rs` (the same messages as a table, for the scan that bounds a file before it is decoded).
//!   `onnx.proto` is part of the Python package `onnx`.
//! * `cargo run -p lrpc-xtask -- rules` writes `docs/rules.md` from the rules, the composites and their snapshots.
//! * `cargo run -p lrpc-xtask -- agreement FOLDER` writes the table of `docs/agreement.md` from the cases in the folder.
//! * `cargo run -p lrpc-xtask -- conformance FOLDER [--only PATTERN] [--list] [--json]` runs ONNX's backend tests; see
//!   `tests/conformance/README.md`.
//! * `cargo run -p lrpc-xtask -- coverage --architectures FOLDER --deep FOLDER --trained FOLDER --expected FOLDER --conformance
//!   FOLDER` writes `docs/coverage.md` from models, expected relevance and conformance cases in these folders.
//! * `cargo run -p lrpc-xtask -- operators FOLDER` writes `src/onnx/operators.txt`, the operators of the standard and their
//!   relevance classes, from the conformance cases in the folder; without a folder it writes `docs/operators.md`.
//! * `cargo run -p lrpc-xtask -- ledger FOLDER…` prints how well the ledger closes on the models in these folders, under
//!   every composite that keeps one; it fails where one does not.
//! * `cargo run -p lrpc-xtask -- promises FOLDER…` writes `docs/promises.md` from the models in these folders.

mod agreement;
mod classes;
mod conformance;
mod coverage;
mod ledger;
mod models;
mod operators;
mod promises;
mod proto;
mod rules;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "usage: cargo run -p lrpc-xtask -- rules | proto PATH/onnx.proto | agreement FOLDER | \
    conformance FOLDER [--only PATTERN] [--list] [--json] | operators [FOLDER] | \
    coverage [--architectures|--deep|--trained|--expected|--conformance FOLDER]… | ledger FOLDER… | promises FOLDER…";

#[allow(clippy::print_stderr, reason = "the one place where this command speaks")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = repository_root();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["proto", path] => proto::generate(Path::new(path), &root.join("src/onnx")),
        ["rules"] => write(&root.join("docs/rules.md"), rules::markdown(root)).map_err(Into::into),
        ["agreement", folder] => {
            agreement::generate(Path::new(folder), &root.join("docs/agreement.md")).map_err(Into::into)
        }
        ["conformance", folder, flags @ ..] => run_conformance(Path::new(folder), flags).map_err(Into::into),
        ["coverage", flags @ ..] if !flags.is_empty() => {
            coverage_document(flags, &root.join("docs/coverage.md")).map_err(Into::into)
        }
        ["operators"] => write(&root.join("docs/operators.md"), Ok(operators::markdown())).map_err(Into::into),
        ["operators", folder] => {
            let list = classes::list(Path::new(folder), &root.join("tests/data/models"));
            write(&root.join("src/onnx/operators.txt"), list).map_err(Into::into)
        }
        ["ledger", folders @ ..] if !folders.is_empty() => {
            let folders: Vec<&Path> = folders.iter().map(Path::new).collect();
            ledger::report(&folders).map_err(Into::into)
        }
        ["promises", folders @ ..] if !folders.is_empty() => {
            let folders: Vec<&Path> = folders.iter().map(Path::new).collect();
            promises::generate(&folders, &root.join("docs/promises.md")).map_err(Into::into)
        }
        _ => Err(USAGE.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs ONNX's backend tests and prints what became of them.
#[allow(clippy::print_stdout, reason = "the report")]
fn run_conformance(folder: &Path, flags: &[&str]) -> Result<(), String> {
    let (mut only, mut list, mut as_json) = ("*", false, false);
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        match *flag {
            "--only" => only = flags.next().ok_or("--only needs a pattern, as `reduce_*`")?,
            "--list" => list = true,
            "--json" => as_json = true,
            other => return Err(format!("{other}: {USAGE}")),
        }
    }
    let found = conformance::run(folder, only)?;
    if as_json {
        println!("{}", conformance::report::json(&found));
        return Ok(());
    }
    if list {
        print!("{}", conformance::report::misses(&found));
    } else {
        print!("{}{}", conformance::report::by_operator(&found), conformance::report::summary(&found));
    }
    Ok(())
}

/// Writes `docs/coverage.md`; fails where something in it is not as it should be.
fn coverage_document(flags: &[&str], document: &Path) -> Result<(), String> {
    let mut folders = coverage::Folders::default();
    for pair in flags.chunks(2) {
        match pair {
            ["--expected", folder] => folders.expected = Some(Path::new(*folder)),
            ["--conformance", folder] => folders.conformance = Some(Path::new(*folder)),
            ["--architectures", folder] => folders.models.push((coverage::ARCHITECTURES, Path::new(*folder))),
            ["--deep", folder] => folders.models.push(("At published depth", Path::new(*folder))),
            ["--trained", folder] => folders.models.push(("Trained models", Path::new(*folder))),
            other => return Err(format!("{}: {USAGE}", other.join(" "))),
        }
    }
    let (text, faults) = coverage::markdown(&folders)?;
    write(document, Ok(text))?;
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

fn write(path: &Path, text: Result<String, String>) -> Result<(), String> {
    std::fs::write(path, text?).map_err(|error| format!("{}: {error}", path.display()))
}

fn repository_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}
