//! Numbers that are not finite: they end a run, and the operation that made them is named by its ONNX name.

use lrpc_ir::plan::Precision;
use lrpc_kernels::RunErrorKind;
use lrpc_passes::relevance::composite::Composite;
use ndarray::ArrayD;

use crate::check::{assert_close, assert_total_closes};
use crate::funnel::{Explanation, Tensors, explain, run, try_run};

fn array(shape: &[usize], values: &[f64]) -> ArrayD<f64> {
    ArrayD::from_shape_vec(shape, values.to_vec()).unwrap()
}

/// The kind of number and the operation that a run in single precision ends with.
fn blamed(body: &str, composite: &str, tensors: &Tensors) -> (&'static str, String) {
    let graph = explain(body, &Explanation::of(Composite::named(composite).unwrap(), &["x"]));
    assert!(try_run(&graph, tensors, Precision::F64).is_ok(), "f64 holds it");
    let error = try_run(&graph, tensors, Precision::F32).unwrap_err();
    match error.kind {
        RunErrorKind::Numeric { what, .. } => (what, error.step.unwrap()),
        other => panic!("{other}"),
    }
}

/// Large numbers meet in one fused call of three operations, of which the second overflows.
#[test]
fn an_overflow_of_the_forward_is_named() {
    let body = "input %x : f32[1, 2]\nweight @w : f32[2, 2]\nforward\n\
         %a = scale %x {by=1e30} : f32[1, 2] from \"/large\"\n\
         %b = mul %a, %a : f32[1, 2] from \"/square\"\n\
         %c = tanh %b : f32[1, 2] from \"/tanh\"\n\
         %d = sub %b, %c : f32[1, 2] from \"/difference\"\n\
         %y = dot %d, @w {contract=1x0} : f32[1, 2] from \"/head\"\nresult \"output/y\" = %y\n";
    let tensors = Tensors::from([
        ("x".to_string(), array(&[1, 2], &[1.0, 2.0])),
        ("w".into(), array(&[2, 2], &[1.0, 0.5, 0.25, 0.0])),
    ]);
    for composite in ["epsilon", "attnlrp", "gradient"] {
        assert_eq!(blamed(body, composite, &tensors), ("infinity", "/square".into()), "{composite}");
    }
}

/// The forward is harmless; the gradient overflows below it.
#[test]
fn an_overflow_of_relevance_is_named() {
    let body = "input %x : f32[1, 2]\nweight @v : f32[2, 2]\nweight @w : f32[2, 1]\nforward\n\
         %h = dot %x, @v {contract=1x0} : f32[1, 2] from \"/below\"\n\
         %y = dot %h, @w {contract=1x0} : f32[1, 1] from \"/head\"\nresult \"output/y\" = %y\n";
    let tensors = Tensors::from([
        ("x".to_string(), array(&[1, 2], &[1e-20, 1.0])),
        ("v".into(), array(&[2, 2], &[1e20, 0.0, 0.0, 1.0])),
        ("w".into(), array(&[2, 1], &[1e20, 1.0])),
    ]);
    assert_eq!(blamed(body, "input-x-gradient", &tensors), ("infinity", "/below".into()));
}

/// What `where` takes out of the way may be whatever it is.
#[test]
fn a_masked_nan_is_no_alarm() {
    let body = "input %x : f32[1, 3]\nweight @w : f32[3, 2]\nforward\n\
         %zero = const 0 : f32[1, 3]\n\
         %positive = greater %x, %zero : bool[1, 3]\n\
         %log = log %x : f32[1, 3] from \"/log\"\n\
         %safe = where %positive, %log, %x : f32[1, 3] from \"/safe\"\n\
         %y = dot %safe, @w {contract=1x0} : f32[1, 2] from \"/head\"\nresult \"output/y\" = %y\n";
    let tensors = Tensors::from([
        ("x".to_string(), array(&[1, 3], &[2.0, -3.0, 0.0])),
        ("w".into(), array(&[3, 2], &[1.0, 0.5, -0.25, 2.0, 1.0, 1.0])),
    ]);
    for composite in ["epsilon", "lrp-0", "attnlrp", "epsilon-plus"] {
        let graph = explain(body, &Explanation::of(Composite::named(composite).unwrap(), &["x"]));
        for (precision, tolerance) in [(Precision::F64, 1e-12), (Precision::F32, 1e-6)] {
            let outcome = run(&graph, &tensors, precision);
            outcome.totals.iter().for_each(|total| assert_total_closes(total, tolerance, composite));
        }
    }
}

/// A denominator so small that f32 has no quotient counts as zero: what meets it is lost to the stabiliser, in the ledger.
#[test]
fn a_quotient_beyond_the_type_is_booked() {
    let body = "input %x : f32[1, 2]\nweight @v : f32[2, 2]\nweight @w : f32[2, 1]\nforward\n\
         %h = dot %x, @v {contract=1x0} : f32[1, 2] from \"/below\"\n\
         %c = cos %h : f32[1, 2] from \"/cos\"\n\
         %y = dot %c, @w {contract=1x0} : f32[1, 1] from \"/head\"\nresult \"output/y\" = %y\n";
    let tensors = Tensors::from([
        ("x".to_string(), array(&[1, 2], &[f64::from(1e-40f32), 0.5])),
        ("v".into(), array(&[2, 2], &[1.0, 0.0, 0.0, 1.0])),
        ("w".into(), array(&[2, 1], &[1.0, 2.0])),
    ]);
    let graph = explain(body, &Explanation::of(Composite::named("lrp-0").unwrap(), &["x"]));
    let [double, single] = [Precision::F64, Precision::F32].map(|precision| run(&graph, &tensors, precision));
    let expected = 2.0 * 0.5f64.cos();
    assert_close(double.relevance("x"), &array(&[1, 2], &[1.0, expected]), 1e-12, "f64 has a quotient");
    assert_close(single.relevance("x"), &array(&[1, 2], &[0.0, expected]), 1e-6, "f32 has none");
    assert_total_closes(&double.totals[0], 1e-12, "f64");
    assert_total_closes(&single.totals[0], 1e-6, "f32");
    assert!((single.totals[0].absorbed[&lrpc_ir::Absorbed::Stabiliser] - 1.0).abs() < 1e-6, "{:?}", single.totals);
}
