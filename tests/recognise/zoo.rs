//! How many patterns the models of the shared zoo have, exported in two ways.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::{canonical, counts, listed};

/// The folder named by `LRPC_SHARED`, else `../shared` beside the repository. `None` is said aloud, past the capture
/// of the test harness.
#[allow(clippy::explicit_write, reason = "the harness would swallow what is printed")]
fn shared() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let folder = std::env::var_os("LRPC_SHARED").map_or(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    let path = folder.display();
    writeln!(std::io::stderr(), "SKIPPED: there are no models at {path}; name their folder by LRPC_SHARED").unwrap();
    None
}

/// Models below the folder, and what each has. Whether softmax is guarded is the exporter's choice, so it is not counted.
const MODELS: &[(&str, &str)] = &[
];

#[test]
fn every_model_has_the_patterns_of_its_architecture() {
    let Some(shared) = shared() else { return };
    let mut wrong = Vec::new();
    for (name, expected) in MODELS {
        let graph = canonical(&shared.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut found = counts(&graph);
        found.remove("safe softmax");
        if found != listed(expected) {
            wrong.push(format!("{name}: {found:?}, expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Prints the table above for every model that imports.
#[test]
#[ignore = "writes no test; run it when models are added"]
fn table() {
    let Some(shared) = shared() else { return };
    for folder in ["zoo/tiny", "cases"] {
        let mut folders: Vec<PathBuf> =
            std::fs::read_dir(shared.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        folders.sort();
        for path in folders.iter().filter(|path| path.is_dir()) {
            let mut files: Vec<PathBuf> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
            files.retain(|file| file.extension().is_some_and(|extension| extension == "onnx"));
            files.sort();
            for file in files {
                let name = file.strip_prefix(&shared).unwrap().display().to_string();
                match canonical(&file) {
                    Ok(graph) => {
                        let mut found = counts(&graph);
                        found.remove("safe softmax");
                        let items: Vec<String> = found.iter().map(|(name, times)| format!("{times} {name}")).collect();
                        writeln!(std::io::stderr(), "    ({name:?}, {:?}),", items.join(", ")).unwrap();
                    }
                    Err(error) => writeln!(std::io::stderr(), "    // {name}: {}", error.lines().next().unwrap()).unwrap(),
                }
            }
        }
    }
}
