//! Conventions as tests: layering, snapshots that read back and are wanted, sizes of files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed expectation fails the test")]

#[path = "../xtask/src/operators.rs"]
mod operators;
#[path = "../xtask/src/rules.rs"]
mod rule_book;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use lrpc_ir::{text, verify};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder` with this extension.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sources() -> Vec<PathBuf> {
    ["src", "ir", "passes", "kernels", "tests", "docs"].iter().flat_map(|folder| files(folder, "rs")).collect()
}

/// The graphs in a snapshot: from each `lrpc 1` to the next line that is no part of it.
fn graphs(snapshot: &str) -> Vec<String> {
    let mut graphs: Vec<String> = Vec::new();
    let mut open = false;
    for line in snapshot.lines() {
        let starts = line == "lrpc 1";
        open = starts || (open && !line.is_empty() && line != "after" && !line.starts_with("refused "));
        if starts {
            graphs.push(String::new());
        }
        if let (true, Some(graph)) = (open, graphs.last_mut()) {
            graph.push_str(line);
            graph.push('\n');
        }
    }
    graphs
}

#[test]
fn every_graph_in_a_snapshot_reads_back_as_itself() {
    let mut count = 0;
    for path in files("snapshots", "snap") {
        for printed in graphs(&read(&path)) {
            let graph = text::parse(&printed).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            verify::verify(&graph).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(text::print(&graph), printed, "{}", path.display());
            count += 1;
        }
    }
    assert!(count > 30, "only {count} graphs");
}

/// The calls that compare with a snapshot; their first argument is the snapshot's name.
const SNAPSHOT_CALLS: [&str; 10] = [
    "check_rule(",
    "check_nested(",
    "check_condition(",
    "check_weights(",
    "check_sampling(",
    "check_pass(",
    "check_plan(",
    "check_lowering(",
    " spelling(",
    " near_miss(",
];

/// The names of snapshots that a source file's tests compare with. Code before the tests names none.
fn tested_snapshots(source: &Path) -> Vec<String> {
    let text = read(source);
    let of_tests = |part: &OsStr| part == "tests" || part == "tests.rs";
    let is_test = source.strip_prefix(root()).unwrap().iter().any(of_tests);
    let tests = if is_test { Some(text.as_str()) } else { text.split_once("#[cfg(test)]").map(|(_, tests)| tests) };
    let calls = SNAPSHOT_CALLS.iter().flat_map(|call| tests.unwrap_or_default().split(call).skip(1));
    let first_literal =
        |arguments: &str| arguments.trim_start().strip_prefix('"')?.split('"').next().map(str::to_string);
    calls.filter_map(first_literal).collect()
}

fn snapshots() -> Vec<(PathBuf, String)> {
    let named = |path: PathBuf| (path.clone(), path.file_stem().unwrap().to_str().unwrap().to_string());
    files("snapshots", "snap").into_iter().map(named).collect()
}

#[test]
fn every_snapshot_is_named_by_a_test() {
    let tested: Vec<String> = sources().iter().flat_map(|path| tested_snapshots(path)).collect();
    for (path, case) in snapshots() {
        assert!(tested.contains(&case), "no test compares with {}", path.display());
    }
}

#[test]
fn every_rule_and_pass_has_a_snapshot() {
    let snapshots: Vec<String> = snapshots().into_iter().map(|(_, case)| case).collect();
    let tested = |folder: &str, except: &[&str]| {
        for path in files(folder, "rs") {
            let stem = path.file_stem().unwrap().to_str().unwrap();
            // What is a folder of its own has its tests in one file.
            if path.parent() != Some(&root().join(folder)) && stem != "tests" {
                continue;
            }
            let has_one = tested_snapshots(&path).iter().any(|case| snapshots.contains(case));
            assert!(except.contains(&stem) || has_one, "no test of {} compares with a snapshot", path.display());
        }
    };
    tested("passes/src/rules", &["mod", "shares", "unit_map"]);
    tested("passes/src/canonicalise", &["mod"]);
}

#[test]
fn the_crates_depend_in_one_direction() {
    let allowed = [("ir", vec![]), ("passes", vec!["lrpc-ir"]), ("kernels", vec!["lrpc-ir"]), ("tests/twins", vec![])];
    for (folder, allowed) in allowed {
        let manifest = read(&root().join(folder).join("Cargo.toml"));
        let inner = ["lrpc-ir", "lrpc-passes", "lrpc-kernels", "lrpc-twins", "lrpc ="];
        for package in inner.iter().filter(|package| !allowed.contains(*package)) {
            let used = manifest.lines().any(|line| line.starts_with(package) && !line.starts_with("name"));
            assert!(!used, "{folder} depends on {package}");
        }
    }
}

#[test]
fn petgraph_is_visible_in_one_file() {
    for path in sources().iter().filter(|path| !path.ends_with("ir/src/graph.rs") && !path.ends_with("tests/tidy.rs")) {
        let uses = read(path).lines().any(|line| line.contains("petgraph") && !line.trim_start().starts_with("//"));
        assert!(!uses, "{} uses petgraph", path.display());
    }
}

#[test]
fn nothing_below_the_front_door_knows_onnx_files() {
    for folder in ["ir/src", "passes/src", "kernels/src"] {
        for path in files(folder, "rs") {
            let text = read(&path);
            assert!(!text.contains("prost") && !text.contains("NodeProto"), "{}", path.display());
        }
    }
}

#[test]
fn files_stay_readable() {
    for path in sources().iter().filter(|path| !path.ends_with("src/onnx/proto.rs")) {
        let text = read(path);
        let code = text.split("#[cfg(test)]").next().unwrap_or_default().lines().count();
        assert!(code <= 700, "{} has {code} lines", path.display());
    }
}

/// The words of a text that name Markdown files.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    let is_path = |c: char| c.is_alphanumeric() || "-_./".contains(c);
    text.split(move |c| !is_path(c))
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| word.strip_suffix(".md").is_some_and(|stem| !stem.is_empty()))
}

#[test]
fn documents_that_are_mentioned_exist() {
    let (mut count, mut missing) = (0, Vec::new());
    let prose = ["docs", "examples", "tests"].iter().flat_map(|folder| files(folder, "md"));
    for path in sources().into_iter().chain(prose).chain([root().join("README.md")]) {
        for document in documents(&read(&path)) {
            let beside = path.parent().is_some_and(|folder| folder.join(document).exists());
            if !beside && !root().join(document).exists() {
                missing.push(format!("{} mentions {document}", path.display()));
            }
            count += 1;
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    assert!(count > 10, "only {count} mentions");
}

#[test]
fn the_rule_book_in_docs_is_that_of_the_code() {
    is_fresh("docs/rules.md", &rule_book::markdown(root()).unwrap_or_else(|error| panic!("{error}")));
}

#[test]
fn the_operators_in_docs_are_those_of_the_code() {
    is_fresh("docs/operators.md", &operators::markdown());
}

fn is_fresh(name: &str, fresh: &str) {
    let path = root().join(name);
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        std::fs::write(&path, fresh).unwrap();
    }
    let found = read(&path);
    let same = fresh.lines().zip(found.lines()).take_while(|(fresh, found)| fresh == found).count();
    let line = same + 1;
    assert!(fresh == found, "{name} is stale from line {line} on: INSTA_UPDATE=always cargo test --test tidy");
}

/// The code blocks of a document that are copies of files: path and content.
fn copies(document: &str) -> Vec<(&str, &str)> {
    let blocks = document.split("\n```").skip(1).step_by(2);
    blocks
        .filter_map(|block| block.split_once('\n'))
        .filter_map(|(head, body)| Some((head.split_once(" copy=")?.1, body)))
        .collect()
}

#[test]
fn code_in_documents_is_that_of_the_files_it_copies() {
    let document = read(&root().join("docs/writing-a-rule.md"));
    let copies = copies(&document);
    assert!(copies.len() >= 4, "only {} copies", copies.len());
    for (path, shown) in copies {
        let file = read(&root().join("docs").join(path));
        assert!(file.trim_end() == shown.trim_end(), "docs/writing-a-rule.md shows another text than docs/{path}");
    }
}

#[test]
fn the_graph_in_the_readme_is_the_one_that_is_compiled() {
    let options = lrpc::compile::CompileOptions { rules: vec!["epsilon".into()], ..Default::default() };
    let model = root().join("examples/mnist/mnist_cnn.onnx");
    let compiled = lrpc::compile::compile_model(&model, &options).unwrap_or_else(|error| panic!("{error}"));
    let printed = text::print(&compiled.graph);
    let lines: Vec<&str> = printed.lines().collect();
    let readme = read(&root().join("README.md"));
    let shown: Vec<&str> = readme
        .lines()
        .skip_while(|line| *line != "    lrpc 1")
        .take_while(|line| line.starts_with("    "))
        .map(|line| &line[4..])
        .filter(|line| line.trim() != "…")
        .collect();
    assert!(shown.len() > 20);
    for line in shown {
        assert!(lines.contains(&line), "the graph has no line\n{line}");
    }
}
