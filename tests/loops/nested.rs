//! A loop in a loop, and what is refused.

use crate::funnel::{self, Explanation, Tensors};
use crate::network::{closes, composites, difference, explain, run};
use crate::numbers::{Random, Style};
use lrpc_passes::relevance::composite::Composite;

const HEADER: &str = "input %h : f32[2, 3]\nweight @w : f32[3, 3]\nweight @b : f32[3]\n";

/// Rows of a text, each of which changes a state that goes on from row to row; every row's end is read.
fn looped() -> String {
    format!(
        "input %x : f32[T, S, 2, 3]\n{HEADER}forward\n\
         %end, %rows = loop %h, %x, @w, @b {{trips=T, carried=1, scanned=1}} : f32[2, 3], f32[T, 2, 3] from \"/rows\"\n\
         body\ninput %i : i64[]\ninput %h : f32[2, 3]\ninput %x : f32[S, 2, 3]\ninput %w : f32[3, 3]\ninput %b : f32[3]\nforward\n\
         %d = tanh %h : f32[2, 3] from \"/begin\"\n\
         %k = loop %d, %x, %w, %b, %h {{trips=S, carried=1, scanned=1}} : f32[2, 3] from \"/row\"\n\
         body\ninput %j : i64[]\ninput %d : f32[2, 3]\ninput %z : f32[2, 3]\ninput %w : f32[3, 3]\ninput %b : f32[3]\n\
         input %h : f32[2, 3]\nforward\n\
         %a = dot %d, %w, %b {{contract=1x0}} : f32[2, 3] from \"/fc\"\n%s = add %a, %z : f32[2, 3] from \"/sum\"\n\
         %g = gelu %s : f32[2, 3] from \"/gelu\"\n%p = mul %g, %h : f32[2, 3] from \"/product\"\n\
         %n = add %p, %g : f32[2, 3] from \"/next\"\nresult \"d\" = %n\nend\n\
         %o = relu %k : f32[2, 3] from \"/end\"\nresult \"h\" = %k\nresult \"rows\" = %o\nend\n\
         %m = reduce_mean %rows {{axes=[0]}} : f32[2, 3] from \"/mean\"\n%y = add %m, %end : f32[2, 3] from \"/y\"\nresult \"output/y\" = %y\n"
    )
}

fn written_out(rows: usize, columns: usize) -> String {
    let mut text = format!("input %x : f32[{rows}, {columns}, 2, 3]\n{HEADER}forward\n");
    let mut h = "h".to_string();
    for row in 0..rows {
        let mut d = format!("d{row}");
        text.push_str(&format!("%{d} = tanh %{h} : f32[2, 3] from \"/begin\"\n"));
        for column in 0..columns {
            let at = format!("{row}.{column}");
            text.push_str(&format!(
                "%z1.{at} = slice %x {{start=[{row}, {column}, 0, 0]}} : f32[1, 1, 2, 3]\n%z.{at} = reshape %z1.{at} : f32[2, 3]\n\
                 %a.{at} = dot %{d}, @w, @b {{contract=1x0}} : f32[2, 3] from \"/fc\"\n%s.{at} = add %a.{at}, %z.{at} : f32[2, 3] from \"/sum\"\n\
                 %g.{at} = gelu %s.{at} : f32[2, 3] from \"/gelu\"\n%p.{at} = mul %g.{at}, %{h} : f32[2, 3] from \"/product\"\n\
                 %n.{at} = add %p.{at}, %g.{at} : f32[2, 3] from \"/next\"\n"
            ));
            d = format!("n.{at}");
        }
        h = d;
        text.push_str(&format!(
            "%o{row} = relu %{h} : f32[2, 3] from \"/end\"\n%o1.{row} = reshape %o{row} : f32[1, 2, 3]\n"
        ));
    }
    let all: Vec<String> = (0..rows).map(|row| format!("%o1.{row}")).collect();
    text.push_str(&format!(
        "%rows = concat {} {{axis=0}} : f32[{rows}, 2, 3]\n%m = reduce_mean %rows {{axes=[0]}} : f32[2, 3] from \"/mean\"\n\
         %y = add %m, %{h} : f32[2, 3] from \"/y\"\nresult \"output/y\" = %y\n",
        all.join(", ")
    ));
    text
}

#[test]
fn a_loop_in_a_loop() {
    let mut failed = Vec::new();
    for rules in composites() {
        let looped = explain(&looped(), &rules, &["x", "h"]);
        for (rows, columns) in [(1, 1), (3, 2), (2, 4)] {
            let mut random = Random::new(5);
            let shapes = [("x", vec![rows, columns, 2, 3]), ("h", vec![2, 3]), ("w", vec![3, 3]), ("b", vec![3])];
            let tensors: Tensors =
                shapes.iter().map(|(name, shape)| (name.to_string(), random.tensor(shape, Style::Fine))).collect();
            let dims = [("T", rows as i64), ("S", columns as i64)];
            let plain = explain(&written_out(rows, columns), &rules, &["x", "h"]);
            let (one, other) = (run(&looped, &tensors, &dims), run(&plain, &tensors, &[]));
            closes(&one, 1e-10);
            let difference = difference(&one, &other);
            if difference.is_nan() || difference > 1e-12 {
                failed.push(format!("{rules}, {rows} rows of {columns}: {difference:e}"));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn an_operation_without_a_rule_is_named() {
    let bare = "name = 'bare'\ndoc = ''\ncarrier = 'relevance'\n[[rule]]\nclass = ['linear', 'additive', 'movement']\nuse = 'Gradient'\n";
    let composite = Composite::from_toml(bare).unwrap();
    let error = funnel::try_explain(&looped(), &Explanation::of(composite, &["x"])).unwrap_err().to_string();
    assert!(error.contains("`gelu`") && error.contains("/gelu") && error.contains("`mul`"), "{error}");
}
