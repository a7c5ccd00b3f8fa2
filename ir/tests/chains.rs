//! Depth: no step over a graph recurses along its edges, however long a chain a file holds.
#![allow(clippy::unwrap_used, reason = "a failed expectation fails the test")]

use std::fmt::Write;

use lrpc_ir::{text, verify};

const LENGTH: usize = 20_000;

fn chain() -> String {
    let mut file = "lrpc 1\ninput %x0 : f32[2]\nforward\n".to_string();
    for at in 0..LENGTH {
        writeln!(file, "  %x{} = relu %x{at} : f32[2]", at + 1).unwrap();
    }
    writeln!(file, "result \"y\" = %x{LENGTH}").unwrap();
    file
}

#[test]
fn a_long_chain_is_read_verified_ordered_and_printed() {
    let file = chain();
    let mut graph = text::parse(&file).unwrap();
    verify::verify(&graph).unwrap();
    assert_eq!(graph.order().len(), LENGTH + 1);
    assert!(text::print(&graph) == file);
    assert!(graph.clone() == graph);
    graph.results[0].value = graph.find("x1").unwrap();
    graph.remove_dead();
    assert_eq!(graph.len(), 2);
}

#[test]
fn a_cycle_through_a_long_chain_is_found() {
    let mut graph = text::parse(&chain()).unwrap();
    let (first, last) = (graph.find("x1").unwrap(), graph.results[0].value);
    graph.set_operand(first.node, 0, last);
    assert!(graph.is_cyclic());
    assert_eq!(verify::verify(&graph).unwrap_err().invariant, 7);
}
