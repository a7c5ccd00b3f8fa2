//! A conditional is the branch that is taken.

use std::collections::BTreeMap;

use lrpc_ir::{Bindings, Graph};
use lrpc_passes::bind;

use crate::funnel::Tensors;
use crate::network::{closes, composites, difference, explain, run};
use crate::numbers::{Random, Style};

const WEIGHTS: [&str; 2] = ["weight @w : f32[3, 4]\nweight @b : f32[4]\n", "weight @v : f32[3, 4]\n"];
const BEFORE: &str = "weight @o : f32[4, 2]\ninput %x : f32[2, 3]\n";
const FIRST: &str = "forward\n%h = swish %x : f32[2, 3] from \"/h\"\n";
const INPUTS: &str = "input %h : f32[2, 3]\ninput %w : f32[3, 4]\ninput %b : f32[4]\ninput %v : f32[3, 4]\nforward\n";
const THEN: &str =
    "%a = dot %h, %w, %b {contract=1x0} : f32[2, 4] from \"/then/fc\"\n%r = relu %a : f32[2, 4] from \"/then/relu\"\n";
const ELSE: &str = "%a = dot %h, %v {contract=1x0} : f32[2, 4] from \"/else/fc\"\n%c = tanh %a : f32[2, 4] from \"/else/tanh\"\n\
                    %g = sigmoid %a : f32[2, 4]\n%r = mul %c, %g : f32[2, 4] from \"/else/gate\"\n";
const AFTER: &str = "%z = dot %r, @o {contract=1x0} : f32[2, 2] from \"/out\"\n%y = add %z, %z : f32[2, 2] from \"/y\"\nresult \"output/y\" = %y\n";

fn conditional() -> String {
    let branch = |word: &str, nodes: &str| format!("{word}\n{INPUTS}{nodes}result \"r\" = %r\nend\n");
    format!(
        "{}{BEFORE}input %k : f32[C]\n{FIRST}%r = cond %h, @w, @b, @v {{choice=C}} : f32[2, 4] from \"/if\"\n{}{}{AFTER}",
        WEIGHTS.concat(),
        branch("then", THEN),
        branch("else", ELSE)
    )
}

fn taken(branch: &str) -> String {
    let weights = WEIGHTS[usize::from(branch == ELSE)];
    format!("{weights}{BEFORE}{FIRST}{branch}{AFTER}")
}

fn tensors(choice: usize) -> Tensors {
    let mut random = Random::new(11);
    let mut of = |shape: &[usize]| random.tensor(shape, Style::Fine);
    let shapes: [(&str, Vec<usize>); 6] = [
        ("x", vec![2, 3]),
        ("w", vec![3, 4]),
        ("b", vec![4]),
        ("v", vec![3, 4]),
        ("o", vec![4, 2]),
        ("k", vec![choice]),
    ];
    shapes.into_iter().map(|(name, shape)| (name.to_string(), of(&shape))).collect()
}

#[test]
fn the_branch_that_is_taken_is_explained() {
    for (choice, branch) in [(1, THEN), (0, ELSE)] {
        for rules in composites() {
            let (chosen, plain) = (explain(&conditional(), &rules, &["x"]), explain(&taken(branch), &rules, &["x"]));
            let dims = [("C", choice as i64)];
            let (one, other) = (run(&chosen, &tensors(choice), &dims), run(&plain, &tensors(choice), &[]));
            let difference = difference(&one, &other);
            assert!(difference <= 1e-13, "{rules}, choice {choice}: {difference:e}");
            closes(&one, 1e-12);
        }
    }
}

/// What a branch of the relevance region computes again is what the forward region has.
#[test]
fn a_branch_computes_nothing_twice() {
    let steps = |graph: &Graph, dims: Bindings| {
        bind::bind(graph, &bind::Request { dims, ..bind::Request::default() }).unwrap().steps.len()
    };
    for (choice, branch) in [(1, THEN), (0, ELSE)] {
        for rules in ["epsilon", "attnlrp", "gradient"] {
            let (chosen, plain) = (explain(&conditional(), rules, &["x"]), explain(&taken(branch), rules, &["x"]));
            let dims = BTreeMap::from([("C".to_string(), choice)]);
            assert_eq!(steps(&chosen, dims), steps(&plain, Bindings::default()), "{rules}, choice {choice}");
        }
    }
}
