//! Loops against loops written here.

use std::collections::BTreeMap;

use lrpc_ir::DType;
use lrpc_ir::plan::Precision;
use lrpc_kernels::{CheckFinite, Options, RunErrorKind, Tensor};

use crate::support::*;

/// A linear recurrence `h' = h·w + x_t + position`, whose states are stacked; the second carried value is the state before.
fn recurrence(trips: usize, attributes: &str) -> String {
    format!(
        "input %h : f32[2]
input %x : f32[{trips}, 2]
input %w : f32[2]
forward
  %last, %before, %all = loop %h, %h, %x, %w {{trips={trips}{attributes}, carried=2, scanned=1}} : f32[2], f32[2], f32[{trips}, 2]
    body
      input %t : i64[]
      input %a : f32[2]
      input %b : f32[2]
      input %s : f32[2]
      input %v : f32[2]
      forward
        %p = cast %t : f32[]
        %q = broadcast %p : f32[2]
        %m = mul %a, %v : f32[2]
        %n = add %m, %s : f32[2]
        %o = add %n, %q : f32[2]
      result \"o\" = %o
      result \"a\" = %a
      result \"n\" = %n
    end
  %both = concat %last, %before {{axis=0}} : f32[4]
  %flat = reshape %all : f32[{}]
  %y = concat %both, %flat {{axis=0}} : f32[{}]
result \"y\" = %y
",
        2 * trips,
        4 + 2 * trips
    )
}

fn expected(trips: usize, reverse: bool, inputs: &[Vec<f64>]) -> Vec<f64> {
    let [h, x, w] = inputs else { panic!("three inputs") };
    let (mut now, mut before, mut all) = (h.clone(), h.clone(), vec![0.0; 2 * trips]);
    for turn in 0..trips {
        let at = if reverse { trips - 1 - turn } else { turn };
        let new: Vec<f64> = (0..2).map(|i| now[i] * w[i] + x[2 * at + i]).collect();
        all[2 * at..2 * at + 2].copy_from_slice(&new);
        before = std::mem::replace(&mut now, new.iter().map(|n| n + at as f64).collect());
    }
    [now, before, all].concat()
}

#[test]
fn loops_carry_scan_and_stack() {
    for trips in [0, 1, 2, 5, 8] {
        check(&recurrence(trips, ""), |inputs| expected(trips, false, inputs));
        check(&recurrence(trips, ", reverse=true"), |inputs| expected(trips, true, inputs));
    }
}

#[test]
fn carried_values_may_change_places() {
    let text = |trips: usize| {
        format!(
            "input %x : f32[3]\ninput %z : f32[3]\nforward\n  %a, %b = loop %x, %z {{trips={trips}, carried=2}} : f32[3], f32[3]\n    body\n      \
             input %t : i64[]\n      input %p : f32[3]\n      input %q : f32[3]\n      result \"q\" = %q\n      result \"p\" = %p\n    end\n  \
             %y = concat %a, %b {{axis=0}} : f32[6]\nresult \"y\" = %y\n"
        )
    };
    check(&text(4), |inputs| inputs.concat());
    check(&text(5), |inputs| [inputs[1].clone(), inputs[0].clone()].concat());
}

#[test]
fn loops_lie_in_loops() {
    // Row sums of running products, counted by the outer position.
    let text = "input %x : f32[3, 4]
input %one : f32[]
forward
  %y = loop %x, %one {trips=3, scanned=1} : f32[3]
    body
      input %t : i64[]
      input %row : f32[4]
      input %first : f32[]
      forward
        %p = cast %t : f32[]
        %z = loop %first, %row, %p {trips=4, carried=1, scanned=1} : f32[]
          body
            input %u : i64[]
            input %c : f32[]
            input %e : f32[]
            input %k : f32[]
            forward
              %m = mul %c, %e : f32[]
              %n = add %m, %k : f32[]
            result \"n\" = %n
          end
      result \"z\" = %z
    end
result \"y\" = %y
";
    check(text, |inputs| {
        let row = |t: usize| (0..4).fold(inputs[1][0], |c, u| c * inputs[0][4 * t + u] + t as f64);
        (0..3).map(row).collect()
    });
}

const HALVINGS: &str = "input %most : i64[]
input %x : f32[]
input %limit : f32[]
forward
  %y = while %most, %x, %limit {carried=1} : i64[]
    body
      input %t : i64[]
      input %a : f32[]
      input %b : f32[]
      forward
        %h = scale %a {by=0.5} : f32[]
        %go = greater %h, %b : bool[]
      result \"go\" = %go
      result \"h\" = %h
    end
result \"y\" = %y
";

#[test]
fn runs_are_counted_until_they_end() {
    let graph = parse(HALVINGS);
    let count = |most: i64, x: f64| {
        let scalar = |value: f64| tensor(DType::F32, &[], &[value]);
        let most = Tensor::from_values(&[], &[most]).unwrap();
        let inputs = BTreeMap::from([("most".into(), most), ("x".into(), scalar(x)), ("limit".into(), scalar(1.0))]);
        run_graph(&graph, &inputs, Precision::F32, 1).to_f64()
    };
    assert_eq!(count(100, 40.0), [6.0], "the run that says so is one of them");
    assert_eq!(count(4, 40.0), [4.0]);
    assert_eq!(count(100, 1.0), [1.0]);
    assert_eq!(count(0, 40.0), [0.0]);
    assert_eq!(count(-3, 40.0), [0.0]);
}

#[test]
fn a_step_inside_of_a_loop_is_blamed() {
    let text = "input %x : f32[2]
forward
  %y = loop %x {trips=5, carried=1} : f32[2]
    body
      input %t : i64[]
      input %a : f32[2]
      forward
        %b = shift %a {by=-1} : f32[2]
        %c = log %b : f32[2]
        %d = exp %c : f32[2]
      result \"d\" = %d
    end
result \"y\" = %y
";
    let run = |x: f64, check_finite| {
        let inputs = BTreeMap::from([("x".to_string(), tensor(DType::F32, &[2], &[x, 9.5]))]);
        run_plan(plan_of(&parse(text), Precision::F32), &inputs, Options { check_finite, ..Options::default() })
    };
    close(&run(6.5, CheckFinite::EveryStep).unwrap().results["y"].to_f64(), &[1.5, 4.5], 1e-5);
    for check_finite in [CheckFinite::Results, CheckFinite::EveryStep] {
        let error = run(3.5, check_finite).unwrap_err();
        assert_eq!(error.to_string(), "NaN in `c`, at `c` (f32[2])");
    }
}

#[test]
fn the_memory_of_loops_is_counted() {
    let text = "input %x : f32[1048576]\nforward\n  %y = loop %x {trips=2, carried=1} : f32[1048576]\n    body\n      input %t : i64[]\n      \
                input %a : f32[1048576]\n      forward\n        %b = neg %a : f32[1048576]\n      result \"b\" = %b\n    end\nresult \"y\" = %y\n";
    let plan = plan_of(&parse(text), Precision::F32);
    let inputs = BTreeMap::from([("x".to_string(), tensor(DType::F32, &[1048576], &[1.0; 1048576]))]);
    let run = |limit| run_plan(plan.clone(), &inputs, Options { memory_limit: Some(limit), ..Options::default() });
    // The result, the other place of the carried value, and the arena of the body.
    assert_eq!(run(3 << 22).unwrap().results["y"].to_f64()[7], 1.0);
    let kind = run((3 << 22) - 1).unwrap_err().kind;
    assert_eq!(kind, RunErrorKind::Memory { needed: 3 << 22, limit: (3 << 22) - 1 });
}
