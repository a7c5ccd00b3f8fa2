//! What the rules for linear maps cost: products of the size of the layer in the generated graph, the forward one included,
//! and the proofs that the cheapest forms rest on.

use lrpc_ir::graph::Region;
use lrpc_ir::plan::Precision;
use lrpc_ir::{Absorbed, Graph, Op};
use lrpc_passes::relevance::composite::Composite;
use lrpc_twins::linear::Dense;
use lrpc_twins::rules;
use ndarray::Array1;

use crate::check::{absorbed, assert_close, assert_closes, largest, line_of};
use crate::funnel::{self, Explanation, Tensors, explain};
use crate::linear::Map;
use crate::numbers::{Random, Style};

/// Contractions and convolutions at `/site` that run with every input; what depends on weights alone is in `prepare`.
fn products(graph: &Graph) -> usize {
    let at_site = |graph: &Graph, node| {
        let content = graph.node(node);
        let linear = matches!(content.op, Op::Linear(_)) && content.region != Region::Prepare;
        linear && content.origin.from.as_deref() == Some("/site")
    };
    graph.order().into_iter().filter(|&node| at_site(graph, node)).count()
}

/// `epsilon`, but for these entries in TOML.
fn composite(entries: &str) -> Composite {
    Composite::from_toml(&format!("name = 'test'\ndoc = ''\nextends = 'epsilon'\n{entries}")).unwrap()
}

fn rule_at(name: &str, rule: &str, with: &str) -> String {
    format!("[[rule]]\nname = '{name}'\nuse = '{rule}'\nwith = {{ {with} }}\n")
}

const DOT: &str = "%y = dot %h, @w, @b {contract=1x0} : f32[4, 8] from \"/site\"\n";
const CONV: &str = "%y = conv %h, @w, @b {pad=1} : f32[4, 8, 4, 4] from \"/site\"\n";

/// A network around a layer of `inner` inputs per output (9 per channel of a convolution): `before` makes `%h` of `%x`,
/// `after` makes `%a` of `%y`.
fn around(layer: &str, inner: usize, before: &str, after: &str) -> String {
    let conv = layer.contains("conv");
    let (x, w, y) = if conv {
        (format!("4, {inner}, 4, 4"), format!("8, {inner}, 3, 3"), "4, 8, 4, 4")
    } else {
        (format!("4, {inner}"), format!("{inner}, 8"), "4, 8")
    };
    let size = if conv { 128 } else { 8 };
    format!(
        "input %x : f32[{x}]\nweight @w : f32[{w}]\nweight @b : f32[8]\nweight @head : f32[{size}, 3]\nforward\n\
         %h = {before} %x : f32[{x}] from \"/before\"\n{layer}%a = {after} %y : f32[{y}] from \"/after\"\n\
         %row = reshape %a : f32[4, {size}] from \"/row\"\n\
         %scores = dot %row, @head {{contract=1x0}} : f32[4, 3] from \"/head\"\nresult \"output/y\" = %scores\n"
    )
}

fn count(body: &str, entries: &str) -> usize {
    products(&explain(body, &Explanation::of(composite(entries), &["x"])))
}

/// The table of docs/rule-book.md section 3: a rule, its parameters, the products for inputs of any sign, of any sign with few
/// contributions, that are not negative, and that are not negative below an output that only a ReLU reads.
const COSTS: &[(&str, &str, [usize; 4])] = &[
    ("AlphaBeta", "", [4, 9, 5, 5]),
    ("AlphaBeta", "alpha = 1.0, beta = 0.0", [4, 5, 3, 3]),
    ("Epsilon", "", [2, 2, 2, 2]),
    ("Epsilon", "eps = 0.0", [2, 2, 2, 2]),
    ("Epsilon", "bias = 'exclude'", [2, 2, 2, 2]),
    ("Epsilon", "bias = 'redistribute'", [2, 2, 2, 2]),
    ("Flat", "", [1, 1, 1, 1]),
    ("Gamma", "", [4, 4, 4, 3]),
    ("Gamma", "bias = 'exclude'", [4, 4, 4, 4]),
    ("Taylor", "x0 = 0.5", [2, 2, 2, 2]),
    ("Uniform", "", [1, 1, 1, 1]),
    ("WSquare", "", [2, 2, 2, 2]),
    ("ZBox", "low = -1.0, high = 1.0", [3, 5, 3, 3]),
    ("ZBox", "", [5, 5, 5, 5]),
    ("ZPlus", "", [4, 5, 3, 3]),
];

#[test]
fn every_rule_costs_what_the_table_says() {
    for (layer, many, few) in [(DOT, 32, 16), (CONV, 8, 2)] {
        for &(rule, with, expected) in COSTS {
            let entries = rule_at("/site", rule, with);
            let networks = [(many, "neg", "neg"), (few, "neg", "neg"), (many, "relu", "neg"), (many, "relu", "relu")];
            let found = networks.map(|(inner, before, after)| count(&around(layer, inner, before, after), &entries));
            assert_eq!(found, expected, "{rule} {{ {with} }} on {layer}");
        }
        let gradient = Explanation::of(Composite::named("gradient").unwrap(), &["x"]);
        assert_eq!(products(&explain(&around(layer, many, "neg", "neg"), &gradient)), 2);
    }
}

/// One number per channel depends on weights alone too.
#[test]
fn boxes_by_channel_cost_no_more() {
    let entries = rule_at("/site", "ZBox", "low = [-1.0, -2.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0], high = 2.0");
    assert_eq!(count(&around(CONV, 8, "neg", "neg"), &entries), 3);
}

/// The cheap form of γ where the way from the output to the ReLU, and from there on, leaves zeros alone.
#[test]
fn gamma_is_folded_where_zeros_are_proven() {
    let gamma = rule_at("/site", "Gamma", "");
    let plain = around(CONV, 2, "relu", "relu");
    let pooled = plain.replace(
        "%row = reshape %a : f32[4, 128] from \"/row\"\n",
        "%p = pool %a {kind=max, window=[1, 1]} : f32[4, 8, 4, 4] from \"/pool\"\n\
         %row = reshape %p : f32[4, 128] from \"/row\"\n",
    );
    let moved = plain.replace(
        "%a = relu %y : f32[4, 8, 4, 4] from \"/after\"\n%row = reshape %a : f32[4, 128] from \"/row\"\n",
        "%m = reshape %y : f32[4, 128] from \"/move\"\n%row = relu %m : f32[4, 128] from \"/after\"\n",
    );
    let read_twice = plain.replace("%row = reshape %a", "%c = relu %y : f32[4, 8, 4, 4] from \"/other\"\n%s = add %a, %c : f32[4, 8, 4, 4] from \"/sum\"\n%row = reshape %s");
    assert!([&pooled, &moved, &read_twice].into_iter().all(|body| *body != plain));
    for body in [&plain, &pooled, &moved, &read_twice] {
        for head in ["Epsilon", "ZPlus", "Gamma", "AlphaBeta", "Gradient"] {
            let entries = format!("{gamma}{}", rule_at("/head", head, ""));
            assert_eq!(count(body, &entries), 3, "{head}\n{body}");
        }
    }
}

/// Each way in which the proof fails; then γ walks both signs.
#[test]
fn gamma_is_not_folded_without_proof() {
    let gamma = rule_at("/site", "Gamma", "");
    let plain = around(CONV, 2, "relu", "relu");
    let row = "%row = reshape %a";
    let cases = [
        // The input may be negative.
        (around(CONV, 2, "neg", "relu"), gamma.clone()),
        // Something other than a ReLU reads the output.
        (around(CONV, 2, "relu", "neg"), gamma.clone()),
        (around(CONV, 2, "relu", "gelu"), gamma.clone()),
        (around(CONV, 2, "relu", "sigmoid"), gamma.clone()),
        // The ReLU reads a sum.
        (
            plain
                .replace("relu %y", "relu %s")
                .replace("%a = ", "%s = add %y, %y : f32[4, 8, 4, 4] from \"/sum\"\n%a = "),
            gamma.clone(),
        ),
        // Something beside the ReLU reads it.
        (plain.replace(row, "%s = add %a, %y : f32[4, 8, 4, 4] from \"/sum\"\n%row = reshape %s"), gamma.clone()),
        // A rule below puts relevance on zeros.
        (plain.clone(), format!("{gamma}{}", rule_at("/head", "Flat", ""))),
        (plain.clone(), format!("{gamma}{}", rule_at("/head", "WSquare", ""))),
        (plain.clone(), format!("{gamma}{}", rule_at("/head", "Uniform", ""))),
        (plain.clone(), format!("{gamma}{}", rule_at("/head", "ZBox", "low = -1.0, high = 1.0"))),
        (plain.clone(), format!("{gamma}{}", rule_at("/head", "Epsilon", "bias = 'redistribute'"))),
        (
            plain.replace("weight @head", "weight @s : f32[8]\nweight @o : f32[8]\nweight @head").replace(
                row,
                "%n = group_norm %a, @s, @o {groups=2, eps=1e-5} : f32[4, 8, 4, 4] from \"/norm\"\n%row = reshape %n",
            ),
            format!("{gamma}[[rule]]\nclass = 'normalize'\nuse = 'NormIdentity'\n"),
        ),
        // A function that is not 0 at 0 passes relevance of zeros on.
        (plain.replace(row, "%e = exp %a : f32[4, 8, 4, 4] from \"/exp\"\n%row = reshape %e"), gamma.clone()),
        // The ReLU's own rule does not pass relevance as it is.
        (plain.clone(), format!("{gamma}{}", rule_at("/after", "Gradient", ""))),
        // The sign is judged without the bias, which the ReLU sees.
        (plain.clone(), rule_at("/site", "Gamma", "bias = 'exclude'")),
    ];
    for (body, entries) in &cases {
        assert_eq!(count(body, entries), 4, "{entries}{body}");
    }
    // Seeds of 1 lie on outputs of 0 too.
    let head = plain.lines().find(|line| line.starts_with("%scores")).unwrap();
    let direct = plain
        .replace("result \"output/y\" = %scores", "result \"output/y\" = %row")
        .replace(&format!("{head}\n"), "")
        .replace("weight @head : f32[128, 3]\n", "");
    let mut explanation = Explanation::of(composite(&gamma), &["x"]);
    assert_eq!(products(&explain(&direct, &explanation)), 3);
    explanation.unit_seed = true;
    assert_eq!(products(&explain(&direct, &explanation)), 4);
}

/// The folded form is the γ rule.
#[test]
fn folded_gamma_is_gamma() {
    let (mut folded, mut passed) = (0, 0);
    for seed in 0..60 {
        let random = &mut Random::new(seed);
        let map = Map::draw(random);
        let size: usize = map.shape.iter().product();
        let (gamma, eps) = (random.pick(&[0.0, 0.25, 1.0, 100.0]), random.pick(&[0.0, 1e-6, 1e-2]));
        let body = format!(
            "{}weight @head : f32[{size}, 2]\nforward\n{}\n%a = relu %y : f32{:?} from \"/after\"\n\
             %row = reshape %a : f32[1, {size}] from \"/row\"\n\
             %scores = dot %row, @head {{contract=1x0}} : f32[1, 2] from \"/head\"\nresult \"output/scores\" = %scores\n",
            map.header, map.forward, map.shape
        );
        let entries = rule_at("/site", "Gamma", &format!("gamma = {gamma:?}, eps = {eps:?}"));
        let mut explanation = Explanation::of(composite(&entries), &["h", "y"]);
        explanation.targets = vec!["scores[:,0]-scores[:,1]".into()];
        let graph = explain(&body, &explanation);
        let mut tensors: Tensors = map.tensors.clone();
        tensors.insert("head".into(), random.tensor(&[size, 2], Style::Fine));
        let outcome = funnel::run(&graph, &tensors, Precision::F64);
        let twin = |map: &Dense, x: &Array1<f64>, r: &Array1<f64>| rules::gamma(map, x, r, gamma, eps);
        let expected = map.expected(outcome.relevance("y"), &twin);
        let scale = largest(outcome.relevance("y")).max(largest(&expected.relevance[0]));
        assert_close(outcome.relevance("h"), &expected.relevance[0], 1e-10 * scale, &body);
        let line = line_of(&outcome.ledger, "/site");
        assert!((absorbed(line, Absorbed::Bias) - expected.bias).abs() <= 1e-10 * line.scale, "{line:?}");
        assert!((absorbed(line, Absorbed::Stabiliser) - expected.stabiliser).abs() <= 1e-10 * line.scale, "{line:?}");
        assert_closes(line, 1e-12, &body);
        folded += usize::from(products(&graph) == 3);
        passed += usize::from(largest(outcome.relevance("h")) > 0.0);
        let single = funnel::run(&graph, &tensors, Precision::F32);
        if scale <= 8.0 * largest(outcome.relevance("y")) {
            assert_close(single.relevance("h"), &expected.relevance[0], 1e-4 * scale, &body);
        }
    }
    assert!(folded > 15 && passed > 30, "{folded} folded, {passed} with relevance");
}
