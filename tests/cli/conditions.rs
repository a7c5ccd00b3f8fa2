//! Intermediate tensors by name, conditions and weights, through the program.

use lrpc::data::Tensor;

use crate::support::{Place, digits, mnist};

fn sum(tensor: &Tensor) -> f64 {
    tensor.to_f64().iter().sum()
}

/// The example network under `flags`, run on one digit.
fn explained(flags: &[&str], run: &[&str]) -> Place {
    let place = Place::compiled(flags);
    place.write("x.npz", &[("input", digits(&[3]))]);
    place.run(run).good();
    place
}
