//! A tensor divided by its own length or root mean square keeps its relevance, however the division is written.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use lrpc_ir::plan::Precision;
use lrpc_ir::text;
use lrpc_kernels::{Executor, Options, Tensor, WeightSource};
use lrpc_passes::relevance::composite::Composite;
use lrpc_passes::{bind, compile};

struct NoWeights;

impl WeightSource for NoWeights {
    fn weight(&self, name: &str, _sidecar: bool) -> Result<Cow<'_, [u8]>, String> {
        Err(format!("there is no {name}"))
    }
}

const X: [f64; 8] = [0.5, -1.0, 2.0, 0.0, 3.0, 1.0, -2.0, 0.25];

/// `%y` of `forward`, whose largest elements per row are 2 and 3 over the row's length or root mean square.
fn check(forward: &str) {
    let body = format!("lrpc 1\ninput %x : f32[2, 4]\nforward\n{forward}\nresult \"output/y\" = %y\n");
    let mut graph = text::parse(&body).unwrap_or_else(|error| panic!("{error}\n{body}"));
    let composites = vec![Composite::named("epsilon").unwrap()];
    let options = compile::Options { composites, verify: true, ..Default::default() };
    compile::compile(&mut graph, &options, &mut |_, _| ()).unwrap_or_else(|error| panic!("{error}\n{body}"));
    let request = bind::Request { precision: Precision::F64, ..Default::default() };
    let plan = bind::bind(&graph, &request).unwrap();
    let mut executor = Executor::new(Arc::new(plan), &NoWeights, Options { threads: 1, ..Default::default() }).unwrap();
    let inputs = BTreeMap::from([("x".to_string(), Tensor::from_values(&[2, 4], &X).unwrap())]);
    let results = executor.run(&inputs, None).unwrap().results;
    let (y, relevance) = (results["output/y"].to_f64(), results["relevance/x"].to_f64());
    for (at, (y, relevance)) in y.iter().zip(&relevance).enumerate() {
        let expected = if at == 2 || at == 4 { *y } else { 0.0 };
        assert!(
            (relevance - expected).abs() < 1e-5,
            "{relevance} at {at}, expected {expected}\n{}",
            text::print(&graph)
        );
    }
}

const SUM: &str = "%q = mul %x, %x : f32[2, 4]\n%s = reduce_sum %q {axes=[1], keep=true} : f32[2, 1]\n";

#[test]
fn division_by_the_length_is_the_identity_on_relevance() {
    let root = "%r = sqrt %s : f32[2, 1]\n";
    check(&format!("{SUM}{root}%b = broadcast %r : f32[2, 4]\n%y = div %x, %b : f32[2, 4]"));
    check(&format!(
        "{SUM}{root}%g = clip %r {{low=1e-12}} : f32[2, 1]\n%b = broadcast %g : f32[2, 4]\n%y = div %x, %b : f32[2, 4]"
    ));
    check(&format!(
        "{SUM}{root}%e = const 1e-12 : f32[2, 1]\n%g = max %r, %e : f32[2, 1]\n%b = broadcast %g : f32[2, 4]\n%y = div %x, %b : f32[2, 4]"
    ));
    check(&format!(
        "{SUM}%e = shift %s {{by=1e-12}} : f32[2, 1]\n%i = pow_by %e {{exponent=-0.5}} : f32[2, 1]\n%b = broadcast %i : f32[2, 4]\n%y = mul %b, %x : f32[2, 4]"
    ));
}

#[test]
fn division_by_the_root_mean_square_is_the_identity_on_relevance() {
    let mean = SUM.replace("reduce_sum", "reduce_mean");
    check(&format!(
        "{mean}%e = shift %s {{by=1e-9}} : f32[2, 1]\n%r = sqrt %e : f32[2, 1]\n%b = broadcast %r : f32[2, 4]\n%y = div %x, %b : f32[2, 4]"
    ));
    // ε outside of the root is no RMS norm, and frozen all the same.
    check(&format!(
        "{mean}%r = sqrt %s : f32[2, 1]\n%e = shift %r {{by=1e-9}} : f32[2, 1]\n%b = broadcast %e : f32[2, 4]\n%y = div %x, %b : f32[2, 4]"
    ));
}
