//! ONNX's backend tests: what passes, and that the list of misses says what does not.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[allow(dead_code, reason = "some of it is for the command line")]
#[path = "../../xtask/src/conformance/mod.rs"]
mod conformance;

use std::io::Write as _;
use std::path::Path;

#[test]
#[allow(clippy::explicit_write, reason = "the harness would swallow what is printed")]
fn the_list_of_misses_is_true() {
    let Some(folder) = std::env::var_os("LRPC_CONFORMANCE") else {
        let how = "tests/conformance/README.md tells how to write them; name their folder by LRPC_CONFORMANCE";
        writeln!(std::io::stderr(), "SKIPPED: there are no conformance cases; {how}").unwrap();
        return;
    };
    let found = conformance::run(Path::new(&folder), "*").unwrap_or_else(|error| panic!("{error}"));
    let fresh = conformance::report::misses(&found);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/misses.txt");
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        std::fs::write(&path, &fresh).unwrap();
    }
    let listed = std::fs::read_to_string(&path).unwrap();
    let lines = |text: &str| text.lines().map(String::from).collect::<std::collections::BTreeSet<_>>();
    let (is, was) = (lines(&fresh), lines(&listed));
    let (new, gone): (Vec<_>, Vec<_>) = (is.difference(&was).collect(), was.difference(&is).collect());
    assert!(
        fresh == listed,
        "tests/conformance/misses.txt is stale; INSTA_UPDATE=always writes it anew\nnew: {new:#?}\ngone: {gone:#?}"
    );
    let wrong: Vec<&str> =
        fresh.lines().filter(|line| line.contains("  WRONG: ") || line.contains("  PANIC: ")).collect();
    assert_eq!(wrong, [""; 0], "a case is refused or right");
}
