//! Models whose batch and sequence are symbols: one graph for every length, and lengths that do not fit together.

use lrpc::data::Tensor;

use crate::support::{Place, repository};

/// A place with the text encoder compiled to `m.graph`.
fn encoder() -> Place {
    let place = Place::new();
    let model = repository("tests/data/dynamic/encoder/model.onnx");
    place.compile(&model, "m.graph", &["--rules", "gradient"]).good();
    place
}

fn tokens(batch: usize, length: usize, token: i64) -> Tensor {
    Tensor::from_slice(&[batch, length], &vec![token; batch * length]).unwrap()
}

fn run(place: &Place, ids: Tensor, mask: Tensor) -> crate::support::Answer {
    place.write("x.npz", &[("input_ids", ids), ("attention_mask", mask)]);
    place.run(&[])
}

#[test]
fn one_graph_serves_every_length() {
    let place = encoder();
    for (batch, length) in [(1, 3), (4, 9), (2, 32)] {
        run(&place, tokens(batch, length, 7), tokens(batch, length, 1)).good();
        let results = place.read("r.npz").tensors;
        assert_eq!(results["output/logits"].shape(), [batch, 3]);
        assert_eq!(results["relevance/gather_1"].shape(), [batch, length, 16]);
    }
}

#[test]
fn lengths_that_do_not_fit_are_named() {
    let place = encoder();
    run(&place, tokens(2, 5, 1), tokens(2, 4, 1)).status(3).says(&["`sequence` has two sizes", "`attention_mask`"]);
    // The table of positions has 32 rows.
    run(&place, tokens(1, 33, 1), tokens(1, 33, 1)).status(3).says(&["takes 33 elements", "sequence=33"]);
    run(&place, tokens(1, 3, 20), tokens(1, 3, 1)).status(3).says(&["index 20", "length 20", "/gather_1"]);
    run(&place, tokens(1, 0, 1), tokens(1, 0, 1)).status(3).says(&["sequence=0"]);
}

#[test]
fn a_row_without_any_key_gives_no_nan() {
    let place = encoder();
    run(&place, tokens(2, 4, 1), tokens(2, 4, 0)).good();
    assert!(place.read("r.npz").tensors.values().all(|tensor| tensor.to_f64().iter().all(|x| x.is_finite())));
}

#[test]
fn a_plan_needs_every_length() {
    let place = encoder();
    place.lrpc(&["plan", "m.graph", "--dim", "batch=2", "--dim", "sequence=7"]).good();
    place.lrpc(&["plan", "m.graph", "--dim", "batch=2"]).status(2).says(&["sequence"]);
}
