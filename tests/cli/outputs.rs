//! Outputs are there whole or not at all.

use std::process::Stdio;

use crate::support::{Place, digits, mnist};

#[test]
fn a_folder_that_is_missing_is_told() {
    let place = Place::compiled(&[]);
    place.write("x.npz", &[("input", digits(&[1]))]);
    place.compile(&mnist(), "no/such/m.graph", &[]).status(2).says(&["no/such/m.graph: cannot be written"]);
    let answer = place.lrpc(&["run", "m.graph", "--inputs", "x.npz", "-o", "no/such.npz"]);
    answer.status(2).says(&["no/such.npz: cannot be written"]);
    let answer = place.lrpc(&["run", "m.graph", "--inputs", "x.npz", "-o", "r.npy"]);
    answer.status(2).says(&["r.npy", ".safetensors"]);
    assert_eq!(place.files(), ["m.graph", "x.npz"]);
}

#[test]
fn what_stood_there_before_stays_when_a_run_fails() {
    let place = Place::compiled(&[]);
    std::fs::write(place.path("r.npz"), "precious").unwrap();
    place.write("x.npz", &[("imput", digits(&[1]))]);
    place.run(&[]).status(2);
    assert_eq!(std::fs::read(place.path("r.npz")).unwrap(), b"precious");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_a_limit() {
    let place = Place::compiled(&[]);
    place.write("x.npz", &[("input", digits(&[1]))]);
    std::os::unix::fs::symlink("/dev/full", place.path("r.npz")).unwrap();
    place.run(&[]).status(6).says(&["r.npz: cannot be written", "No space left"]);
    place.compile(&mnist(), "/dev/full", &[]).status(6).says(&["No space left"]);
    assert_eq!(place.files(), ["m.graph", "r.npz", "x.npz"]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = place.command(&["rules"]).stdout(Stdio::from(full)).status().unwrap();
    assert_eq!(status.code(), Some(6));
}

#[cfg(unix)]
#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    let place = Place::compiled(&[]);
    let mut child =
        place.command(&["inspect", "m.graph"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn results_go_to_standard_output() {
    let place = Place::compiled(&[]);
    place.write("x.npz", &[("input", digits(&[1]))]);
    place.run(&[]).good();
    let answer = place.lrpc(&["run", "m.graph", "--inputs", "x.npz", "-o", "-", "--audit"]).good();
    let mut manifest_less = place.read("r.npz");
    std::fs::write(place.path("s.npz"), &answer.stdout).unwrap();
    let mut streamed = place.read("s.npz");
    (manifest_less.manifest, streamed.manifest) = (None, None);
    assert!(streamed == manifest_less);
    assert!(answer.stderr.contains("absorbed in all"));
}

#[test]
fn more_memory_than_allowed_is_a_limit() {
    let place = Place::compiled(&[]);
    place.write("x.npz", &[("input", digits(&[1]))]);
    place.run(&["--memory-limit", "100KiB"]).status(6).says(&["needs", "bytes of memory", "102400"]);
    place.run(&["--memory-limit", "lots"]).status(2).says(&["lots", "2GiB"]);
    assert_eq!(place.files(), ["m.graph", "x.npz"]);
}

#[test]
fn an_output_that_is_an_input_is_refused() {
    let place = Place::compiled(&[]);
    std::fs::copy(mnist(), place.path("m.onnx")).unwrap();
    place.compile(&place.path("m.onnx"), "n.graph", &[]).good();
    place.write("x.npz", &[("input", digits(&[1]))]);
    let names = ["m.onnx", "n.graph", "x.npz"];
    let before = names.map(|name| std::fs::read(place.path(name)).unwrap());
    place.compile(&place.path("m.onnx"), "./m.onnx", &[]).status(2).says(&["./m.onnx would overwrite the model"]);
    std::fs::copy(mnist(), place.path("m.npz")).unwrap();
    std::fs::copy(place.path("n.graph"), place.path("g.npz")).unwrap();
    let run = |graph: &str, output: &str, flags: &[&str]| {
        place.lrpc(&[&["run", graph, "--inputs", "x.npz", "-o", output], flags].concat()).status(2)
    };
    run("n.graph", "x.npz", &[]).says(&["x.npz would overwrite an input, x.npz"]);
    run("g.npz", "g.npz", &[]).says(&["would overwrite the graph"]);
    run("n.graph", "m.npz", &["--model", "m.npz"]).says(&["would overwrite the model"]);
    place.lrpc(&["opt", "n.graph", "-o", "n.graph"]).status(2).says(&["would overwrite the input"]);
    assert!(names.map(|name| std::fs::read(place.path(name)).unwrap()) == before);
}

#[cfg(unix)]
#[test]
fn an_output_that_cannot_be_made_names_no_temporary_file() {
    let place = Place::compiled(&[]);
    std::fs::write(place.path("file"), "").unwrap();
    let answer = place.compile(&mnist(), "file/m.graph", &[]).status(2);
    assert!(answer.stderr.contains("file/m.graph: cannot be written: there is no folder file"), "{}", answer.stderr);
    assert!(!answer.stderr.contains(".partial"), "{}", answer.stderr);
}
