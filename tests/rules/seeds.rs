//! Targets of whole graphs: slices change no number and leave one row of work, several targets, ranks, given seeds.

use std::collections::BTreeMap;

use lrpc_ir::graph::{Graph, Region};
use lrpc_ir::ops::{Linear, Op};
use lrpc_ir::plan::Precision;
use lrpc_ir::{Bindings, NodeId, text};
use lrpc_passes::compile::{Options, compile};
use lrpc_passes::relevance::composite::Composite;
use ndarray::{ArrayD, Axis, IxDyn, array};

use crate::check::{assert_close, largest};
use crate::funnel::{Explanation, Outcome, Tensors, explain, read, run_sized};
use crate::numbers::{Random, Style};

/// Samples, tokens, and elements of a row of `y`.
const SIZES: (usize, usize, usize) = (2, 5, 6);

/// Two blocks of a decoder, `y : f32[N, S, 6]` at their end, and beside it `u : f32[N, 3]` of the mean token, `v : f32[N]`
/// and `w : f32[N, S]`.
fn decoder(seed: u64) -> (String, Tensors) {
    let mut random = Random::new(seed);
    let (mut header, mut tensors) = (String::new(), Tensors::new());
    let mut weight = |name: &str, shape: &[usize]| {
        header += &format!("weight @{name} : f32{shape:?}\n");
        tensors.insert(name.into(), random.tensor(shape, Style::Fine));
    };
    for block in 0..2 {
        ["q", "k", "v", "o"].iter().for_each(|name| weight(&format!("w{name}{block}"), &[8, 8]));
        weight(&format!("wup{block}"), &[8, 12]);
        weight(&format!("wdown{block}"), &[12, 8]);
        ["gain", "offset"].iter().for_each(|name| weight(&format!("{name}{block}"), &[8]));
    }
    weight("head", &[8, 6]);
    weight("pool", &[8, 3]);
    tensors.insert("x".into(), random.tensor(&[SIZES.0, SIZES.1, 8], Style::Fine));
    let mask = ArrayD::from_shape_fn(IxDyn(&[SIZES.1, SIZES.1]), |at| if at[1] > at[0] { -1e30 } else { 0.0 });
    tensors.insert("mask".into(), mask);
    let blocks = block(0, "x") + &block(1, "z0");
    let body = format!(
        "{header}input %x : f32[N, S, 8]\ninput %mask : f32[S, S]\nforward\n{blocks}\
         %y = dot %z1, @head {{contract=2x0}} : f32[N, S, 6] from \"/head\"\n\
         %mean = reduce_mean %z1 {{axes=[1]}} : f32[N, 8] from \"/mean\"\n\
         %u = dot %mean, @pool {{contract=1x0}} : f32[N, 3] from \"/pool\"\n\
         %v = reduce_sum %u {{axes=[1]}} : f32[N] from \"/sum\"\n\
         %w = reduce_sum %y {{axes=[2]}} : f32[N, S] from \"/starts\"\n\
         result \"output/y\" = %y\nresult \"output/u\" = %u\nresult \"output/v\" = %v\nresult \"output/w\" = %w\n"
    );
    (body, tensors)
}

fn block(b: usize, x: &str) -> String {
    let dot = |name: &str, from: &str, size: usize| {
        format!("%{name}{b} = dot %{from}, @w{name}{b} {{contract=2x0}} : f32[N, S, {size}] from \"/{b}/{name}\"\n")
    };
    let heads = |name: &str| format!("%{name}h{b} = reshape %{name}{b} : f32[N, S, 2, 4] from \"/{b}/{name}\"\n");
    let norm = format!("layer_norm %{x}, @gain{b}, @offset{b} {{axis=2, eps=1e-5}}");
    let attention = format!(
        "%qt{b} = transpose %qh{b} {{perm=[0, 2, 1, 3]}} : f32[N, 2, S, 4] from \"/{b}/q\"\n\
         %s{b} = dot %qt{b}, %kh{b} {{batch=[0x0, 1x2], contract=3x3}} : f32[N, 2, S, S] from \"/{b}/qk\"\n\
         %m{b} = broadcast %mask : f32[N, 2, S, S] from \"/{b}/mask\"\n\
         %a{b} = add %s{b}, %m{b} : f32[N, 2, S, S] from \"/{b}/mask\"\n\
         %p{b} = softmax %a{b} {{axis=3}} : f32[N, 2, S, S] from \"/{b}/softmax\"\n\
         %c{b} = dot %p{b}, %vh{b} {{batch=[0x0, 1x2], contract=3x1}} : f32[N, 2, S, 4] from \"/{b}/av\"\n\
         %t{b} = transpose %c{b} {{perm=[0, 2, 1, 3]}} : f32[N, S, 2, 4] from \"/{b}/o\"\n\
         %f{b} = reshape %t{b} : f32[N*S, 8] from \"/{b}/o\"\n\
         %of{b} = dot %f{b}, @wo{b} {{contract=1x0}} : f32[N*S, 8] from \"/{b}/o\"\n\
         %o{b} = reshape %of{b} : f32[N, S, 8] from \"/{b}/o\"\n\
         %h{b} = add %{x}, %o{b} : f32[N, S, 8] from \"/{b}/add\"\n"
    );
    let gelu = format!("%g{b} = gelu %up{b} : f32[N, S, 12] from \"/{b}/gelu\"\n");
    let sum = format!("%z{b} = add %h{b}, %down{b} : f32[N, S, 8] from \"/{b}/out\"\n");
    let projections = ["q", "k", "v"].map(|name| dot(name, &format!("n{b}"), 8) + &heads(name)).concat();
    format!("%n{b} = {norm} : f32[N, S, 8] from \"/{b}/norm\"\n{projections}{attention}")
        + &dot("up", &format!("h{b}"), 12)
        + &gelu
        + &dot("down", &format!("g{b}"), 8)
        + &sum
}

/// The whole compiler on a graph, and its text and back.
fn compiled(body: &str, composites: &[&str], targets: &[&str], change: impl Fn(&mut Options)) -> Graph {
    let mut graph = read(body);
    let mut options = Options {
        composites: composites.iter().map(|name| Composite::named(name).unwrap()).collect(),
        targets: targets.iter().map(ToString::to_string).collect(),
        wrt: vec![graph.find("x").unwrap()],
        ..Options::default()
    };
    change(&mut options);
    compile(&mut graph, &options, &mut |_, _| ()).unwrap_or_else(|error| panic!("{targets:?}: {error}"));
    let parsed = text::parse(&text::print(&graph)).unwrap();
    assert_eq!(parsed, graph);
    parsed
}

fn sizes() -> Bindings {
    [("N".to_string(), SIZES.0 as i64), ("S".to_string(), SIZES.1 as i64)].into()
}

fn run(graph: &Graph, tensors: &Tensors) -> Outcome {
    run_sized(graph, tensors, Precision::F64, &sizes())
}

fn relevance(body: &str, tensors: &Tensors, composite: &str, target: &str) -> ArrayD<f64> {
    run(&compiled(body, &[composite], &[target], |_| ()), tensors).relevance("x").clone()
}

#[test]
fn slices_change_no_relevance() {
    let targets = [
        "y[:, -1, :]:argmax",
        "y[:, 2, 3]",
        "y[1, -2, 4]",
        "y[0, :, :]:argmax",
        "y[:, -1, 3]-y[:, 1, 2]",
        "y[:, 0, :]:argmax+u:argmax",
        "y[:, :, 2]:argmax",
        "u[1, :]:argmax",
        "w[:, 3]",
    ];
    for seed in 0..2 {
        let (body, tensors) = decoder(seed);
        for composite in ["epsilon", "gradient", "epsilon-plus-flat"] {
            for target in targets {
                let what = format!("{composite} {target}, seed {seed}");
                let sliced = relevance(&body, &tensors, composite, target);
                let all =
                    run(&compiled(&body, &[composite], &[target], |options| options.all_outputs = true), &tensors);
                // Rules alone, without any pass over the forward region: the slice stands at the output.
                let mut explanation = Explanation::of(Composite::named(composite).unwrap(), &["x"]);
                explanation.targets = vec![target.into()];
                let whole = run(&explain(&body, &explanation), &tensors);
                let tolerance = 1e-12 * largest(whole.relevance("x"));
                assert!(tolerance > 0.0, "{what}");
                assert_close(&sliced, whole.relevance("x"), tolerance, &what);
                assert_close(all.relevance("x"), whole.relevance("x"), tolerance, &what);
                for name in ["y", "u", "v", "w"].map(|output| format!("output/{output}")) {
                    assert_eq!(all.results[&name], whole.results[&name], "{what}");
                }
            }
        }
    }
}

/// Without any slice in the graph: the same element by its index, flat over tokens and classes.
#[test]
fn a_sliced_row_is_the_row_of_the_whole_output() {
    let (body, tensors) = decoder(3);
    let whole = compiled(&body, &["epsilon"], &["y"], |_| ());
    let y = run(&whole, &tensors).results["output/y"].clone();
    for token in 0..SIZES.1 {
        for class in [0, 4] {
            let mut given = tensors.clone();
            let index = (token * SIZES.2 + class) as f64;
            given.insert("target".into(), array![index, index].into_dyn());
            let expected = run(&whole, &given);
            let expected = expected.relevance("x");
            for place in [token as i64, token as i64 - SIZES.1 as i64] {
                let sliced = compiled(&body, &["epsilon"], &[&format!("y[:, {place}, {class}]")], |_| ());
                let found = run(&sliced, &tensors);
                assert_close(found.relevance("x"), expected, 1e-12 * largest(expected), &format!("{place} {class}"));
                let row = &found.results[&format!("output/y[:, {place}, :]")];
                assert_close(row, &y.index_axis(Axis(1), token).to_owned(), 1e-12, "the row");
                // The class may be given again.
                let again = compiled(&body, &["epsilon"], &[&format!("y[:, {place}, :]:argmax")], |_| ());
                let mut other = tensors.clone();
                other.insert("target".into(), array![class as f64, class as f64].into_dyn());
                assert_eq!(run(&again, &other).relevance("x"), found.relevance("x"));
            }
        }
    }
}

/// How many rows a contraction with a weight computes, by region, where `N = 1` and `S = 7`.
fn rows_of_contractions(graph: &Graph) -> BTreeMap<(&'static str, String), Vec<i64>> {
    let dims: Bindings = [("N".to_string(), 1), ("S".to_string(), 7)].into();
    let mut rows: BTreeMap<_, Vec<i64>> = BTreeMap::new();
    let is_product = |node: &NodeId| matches!(graph.node(*node).op, Op::Linear(Linear::Dot(_)));
    for node in graph.order().into_iter().filter(is_product) {
        let content = graph.node(node);
        let ty = &content.types()[0];
        if !graph.operands(node).iter().any(|&operand| graph.is_constant(operand)) {
            continue;
        }
        let (_, before) = ty.shape.split_last().unwrap();
        let count = lrpc_ir::types::product(before).unwrap().eval(&dims).unwrap();
        let site = content.origin.from.as_deref().unwrap_or_default().to_string();
        rows.entry((content.region.name(), site)).or_default().push(count);
    }
    rows
}

#[test]
fn head_and_last_block_compute_one_row_forward_and_back() {
    let (body, _) = decoder(1);
    for composite in ["epsilon", "gradient"] {
        for all_outputs in [false, true] {
            let targets = ["y[:, -1, :]:argmax"];
            let graph = compiled(&body, &[composite], &targets, |options| options.all_outputs = all_outputs);
            let rows = rows_of_contractions(&graph);
            for region in [Region::Forward, Region::Relevance].map(Region::name) {
                let of = |site: &str| rows[&(region, site.to_string())].clone();
                for site in ["/head", "/1/q", "/1/o", "/1/up", "/1/down"] {
                    let whole_beside = if all_outputs && region == "forward" { vec![7, 1] } else { vec![1] };
                    assert_eq!(of(site), whole_beside, "{composite} {region} {site}\n{}", text::print(&graph));
                }
                for site in ["/1/k", "/1/v", "/0/q", "/0/k", "/0/v", "/0/o", "/0/up", "/0/down"] {
                    assert_eq!(of(site), [7], "{composite} {region} {site}");
                }
            }
            // Nor does anything else of the last block, but for keys and values, hold all tokens on the way back.
            let long = |node: &NodeId| {
                let content = graph.node(*node);
                let site = content.origin.from.as_deref().unwrap_or_default();
                let beside = ["/1/softmax", "/1/qk", "/1/av", "/1/mask", "/1/norm", "/1/k", "/1/v"];
                let last = site == "/head" || (site.starts_with("/1/") && !beside.contains(&site));
                let by_shape = content.types()[0].shape.iter().any(|dim| dim.to_string().contains('S'));
                content.region == Region::Relevance && last && by_shape
            };
            let found: Vec<&str> = graph.order().into_iter().filter(long).map(|node| graph.name(node.into())).collect();
            assert!(found.is_empty(), "{composite}: {found:?}\n{}", text::print(&graph));
        }
    }
}

#[test]
fn targets_share_one_forward_region() {
    let (body, _) = decoder(1);
    let count = |targets: &[&str]| {
        let graph = compiled(&body, &["epsilon"], targets, |_| ());
        let forward = |node: &NodeId| graph.node(*node).region == Region::Forward;
        graph.order().into_iter().filter(forward).filter(|&node| matches!(graph.node(node).op, Op::Linear(_))).count()
    };
    let alone = count(&["y[:, -1, 1]"]);
    assert_eq!(count(&["y[:, -1, 1]", "y[:, -1, 2]", "y[:, -1, 1]-y[:, -1, 2]"]), alone);
    // A second place adds its own row of the head, q, o, up, down and both products of the last block.
    assert_eq!(count(&["y[:, -1, 1]", "y[:, 0, 1]"]), alone + 7);
    // One sample of either output: one trunk.
    assert_eq!(count(&["y[0, :, :]:argmax", "u[0, 1]"]), count(&["y[0, :, :]:argmax"]) + 1);
}

#[test]
fn several_targets_and_composites_are_as_each_alone() {
    let (body, tensors) = decoder(4);
    let targets = ["y[:, -1, :]:argmax", "y[:, 0, 2]", "u:argmax", "y[:, -1, 1]-y[:, 1, 1]", "y:argmax"];
    let composites = ["epsilon", "gradient"];
    let together = run(&compiled(&body, &composites, &targets, |_| ()), &tensors);
    for composite in composites {
        for (number, target) in targets.iter().enumerate() {
            let alone = relevance(&body, &tensors, composite, target);
            let found = &together.results[&format!("{composite}/t{number}/relevance/x")];
            assert_close(found, &alone, 1e-12 * largest(&alone), &format!("{composite} {target}"));
        }
    }
    let outputs: Vec<&String> = together.results.keys().filter(|name| name.starts_with("output/")).collect();
    assert_eq!(outputs, ["output/u", "output/y", "output/y[:, -1, :]", "output/y[:, 0, :]", "output/y[:, 1, :]"]);
}

#[test]
fn sums_over_outputs_of_different_shapes_are_sums_of_gradients() {
    let (body, tensors) = decoder(5);
    let of = |target: &str| relevance(&body, &tensors, "gradient", target);
    let sum = of("y[:, -1, :]:argmax") + of("u:argmax") - of("w[:, 1]") + of("v");
    let found = of("y[:, -1, :]:argmax+u:argmax-w[:, 1]+v");
    assert_close(&found, &sum, 1e-12 * largest(&sum), "the sum");
}

#[test]
fn ranks_are_the_elements_in_descending_order() {
    let (body, tensors) = decoder(6);
    let graph = compiled(&body, &["epsilon"], &["y[:, -1, :]:top-k(4)", "w:top-k(2)"], |_| ());
    let found = run(&graph, &tensors);
    let row = found.results["output/y[:, -1, :]"].clone();
    let starts = found.results["output/w"].clone();
    let descending = |scores: ndarray::ArrayViewD<f64>| {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        order
    };
    for sample in 0..SIZES.0 {
        let classes = descending(row.index_axis(Axis(0), sample));
        let tokens = descending(starts.index_axis(Axis(0), sample));
        let expected = |target: String| relevance(&body, &tensors, "epsilon", &target);
        let ranks = (0..4).map(|rank| format!("y[{sample}, -1, {}]", classes[rank]));
        let ranks = ranks.chain((0..2).map(|rank| format!("w[{sample}, {}]", tokens[rank])));
        for (number, target) in ranks.enumerate() {
            let all = &found.results[&format!("t{number}/relevance/x")];
            let expected = expected(target.clone()).index_axis(Axis(0), sample).to_owned();
            assert_close(&all.index_axis(Axis(0), sample).to_owned(), &expected, 1e-12 * largest(&expected), &target);
        }
    }
}

#[test]
fn a_given_seed_weighs_the_output() {
    let (body, mut tensors) = decoder(7);
    let (samples, _, classes) = SIZES;
    let index = |at: &[usize]| relevance(&body, &tensors, "epsilon", &format!("y[{}, -1, {}]", at[0], at[1]));
    let expected = index(&[0, 2]) - 0.5 * index(&[1, 3]);
    let mut seed = ArrayD::zeros(IxDyn(&[samples, classes]));
    seed[[0, 2].as_slice()] = 1.0;
    seed[[1, 3].as_slice()] = -0.5;
    tensors.insert("target".into(), seed.clone());
    let found = run(&compiled(&body, &["epsilon"], &["y[:, -1, :]:given"], |_| ()), &tensors);
    assert_close(found.relevance("x"), &expected, 1e-12 * largest(&expected), "weights of y");
    // With a seed of 1 what is given is the relevance itself.
    let row = found.results["output/y[:, -1, :]"].clone();
    tensors.insert("target".into(), &seed * &row);
    let unit = compiled(&body, &["epsilon"], &["y[:, -1, :]:given"], |options| options.unit_seed = true);
    assert_close(run(&unit, &tensors).relevance("x"), &expected, 1e-12 * largest(&expected), "relevance of y");
}

#[test]
fn outputs_of_every_rank_are_explained() {
    let (body, tensors) = decoder(8);
    // One number per sample: each sample is a row.
    let parts = (0..SIZES.0).map(|sample| relevance(&body, &tensors, "epsilon", &format!("v[{sample}]")));
    let sum = parts.reduce(|sum, part| sum + part).unwrap();
    assert_close(&relevance(&body, &tensors, "epsilon", "v"), &sum, 1e-12 * largest(&sum), "f32[N]");
    let body = body.replace(
        "result \"output/y\"",
        "%total = reduce_sum %v {axes=[0]} : f32[] from \"/total\"\nresult \"output/total\" = %total\nresult \"output/y\"",
    );
    let whole = relevance(&body, &tensors, "gradient", "total");
    let parts = relevance(&body, &tensors, "gradient", "v");
    assert_close(&whole, &parts, 1e-12 * largest(&parts), "f32[]");
    let plain = "weight @w : f32[4, 3]\ninput %x : f32[4]\nforward\n\
                 %y = dot %x, @w {contract=0x0} : f32[3] from \"/w\"\nresult \"output/y\" = %y\n";
    let mut random = Random::new(1);
    let tensors = Tensors::from([
        ("w".into(), random.tensor(&[4, 3], Style::Fine)),
        ("x".into(), random.tensor(&[4], Style::Fine)),
    ]);
    let expected = &tensors["x"] * &tensors["w"].index_axis(Axis(1), 1);
    let graph = compiled(plain, &["input-x-gradient"], &["y[1]"], |_| ());
    let found = run_sized(&graph, &tensors, Precision::F64, &Bindings::new());
    assert_close(found.relevance("x"), &expected, 1e-12, "f32[3]");
}

#[test]
fn a_sample_does_not_depend_on_its_neighbours() {
    let (body, tensors) = decoder(9);
    let mut other = tensors.clone();
    let x = other.get_mut("x").unwrap();
    x.index_axis_mut(Axis(0), 1).mapv_inplace(|value| 3.0 * value + 0.25);
    let targets =
        ["y", "y[:, -1, :]:argmax", "y[:, -1, :]:top-k(2)", "u:argmax", "v", "w:argmax", "y[:, 1, 2]-u[:, 0]"];
    let graph = compiled(&body, &["epsilon", "gradient"], &targets, |_| ());
    for precision in [Precision::F32, Precision::F64] {
        let run = |tensors: &Tensors| run_sized(&graph, tensors, precision, &sizes());
        let (one, two) = (run(&tensors), run(&other));
        for (name, found) in one.results.iter().filter(|(name, _)| name.contains("relevance/")) {
            let of = |outcome: &ArrayD<f64>, sample| outcome.index_axis(Axis(0), sample).to_owned();
            assert_eq!(of(found, 0), of(&two.results[name], 0), "{name} {precision:?}");
            assert_ne!(of(found, 1), of(&two.results[name], 1), "{name} {precision:?}");
        }
    }
}

#[test]
fn places_outside_are_refused_when_sizes_are_known_and_name_the_target() {
    let (body, _) = decoder(0);
    let target = |target: &str| {
        let graph = compiled(&body, &["epsilon"], &[target], |_| ());
        let request = lrpc_passes::bind::Request { dims: sizes(), ..Default::default() };
        lrpc_passes::bind::bind(&graph, &request).map_err(|error| error.to_string())
    };
    for (outside, words) in [
        ("y[:, 5, :]:argmax", "target y[:, 5, :]"),
        ("y[:, -6, 1]", "target y[:, -6, :]"),
        ("y[2, 1, 1]", "target y[2, 1, :]"),
        ("w[:, 5]", "target w[:, 5]"),
        ("w:top-k(6)", "target w:top-k(6)"),
    ] {
        let error = target(outside).err().unwrap_or_else(|| panic!("{outside} is taken"));
        assert!(error.contains(words), "{outside}: {error}");
    }
    for inside in ["y[:, 4, :]:argmax", "y[:, -5, 1]", "y[1, 1, 1]", "w[:, 4]", "w:top-k(5)"] {
        assert!(target(inside).is_ok(), "{inside}");
    }
}
