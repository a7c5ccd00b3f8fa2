//! Strategies of keeping promises: the same bits, and nothing that is computed again stays alive; what several
//! composites and targets share.

use std::collections::{BTreeMap, BTreeSet};

use lrpc_ir::graph::Region;
use lrpc_ir::plan::{BufferId, Place, Plan, Precision};
use lrpc_ir::{Graph, Op, Value};
use lrpc_passes::bind::{self, Keeping, PromiseReport, Request, Strategy};
use lrpc_passes::relevance::composite::{COMPOSITES, Composite};
use ndarray::ArrayD;

use crate::funnel::{Explanation, Outcome, explain, run, run_kept};
use crate::generated::{Kind, network};
use crate::transformers::{decoder, forms};

fn bits(values: &ArrayD<f64>) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[track_caller]
fn assert_same_bits(a: &Outcome, b: &Outcome, what: &str) {
    assert_eq!(a.results.keys().collect::<Vec<_>>(), b.results.keys().collect::<Vec<_>>(), "{what}");
    for (name, values) in &a.results {
        assert_eq!(bits(values), bits(&b.results[name]), "{what}: {name}");
    }
    assert_eq!(format!("{:?}", a.ledger), format!("{:?}", b.ledger), "{what}");
}

fn several(body: &str, composites: &[&str], targets: &[&str]) -> Graph {
    let mut explanation = Explanation::of(Composite::named(composites[0]).unwrap(), &["x"]);
    explanation.composites = composites.iter().map(|name| Composite::named(name).unwrap()).collect();
    explanation.targets = targets.iter().map(ToString::to_string).collect();
    explain(body, &explanation)
}

fn request(strategy: Strategy) -> Request {
    Request { strategy, ..Request::default() }
}

/// The number of tensors that the plan computes again; none of their originals lives between its last forward use and
/// its replay.
#[track_caller]
fn check_replays(plan: &Plan) -> usize {
    let root = |id: BufferId| match plan.buffer(id).place {
        Place::Alias(root) => root,
        _ => id,
    };
    let mut written: BTreeMap<&str, (BufferId, usize)> = BTreeMap::new();
    let (mut read, mut dies) = (BTreeMap::new(), BTreeMap::new());
    for (at, step) in plan.steps.iter().enumerate() {
        for &id in &step.inputs {
            read.insert(root(id), at);
            let overwritten =
                step.outputs.iter().any(|&output| plan.buffer(output).place == plan.buffer(root(id)).place);
            if overwritten {
                dies.insert(root(id), at);
            }
        }
        written.extend(step.outputs.iter().map(|&id| (plan.buffer(id).name.as_str(), (id, at))));
        dies.extend(step.frees.iter().map(|&id| (id, at)));
    }
    let mut count = 0;
    for (name, (_, replayed)) in &written {
        let Some(original) = name.strip_prefix("replay.") else { continue };
        count += 1;
        let Some((id, computed)) = written.get(original) else { continue };
        let used = read.get(id).copied().unwrap_or(*computed);
        assert!(used < *replayed, "%{original} is used at {used}, after its replay at {replayed}");
        assert_eq!(dies.get(id), Some(&used), "%{original} lives on after its last forward use");
    }
    count
}

#[test]
fn recomputing_gives_the_bits_of_storing() {
    let mut replays = 0;
    for seed in 0..24 {
        let network = network(Kind::Any, seed);
        for (name, _) in COMPOSITES {
            let graph = explain(&network.body, &Explanation::of(Composite::named(name).unwrap(), &["x"]));
            let stored = run(&graph, &network.tensors, Precision::F32);
            let recomputed = run_kept(&graph, &network.tensors, Precision::F32, Strategy::Recompute);
            assert_same_bits(&stored, &recomputed, &format!("{name}, seed {seed}"));
            replays += check_replays(&bind::bind(&graph, &request(Strategy::Recompute)).unwrap());
            assert_eq!(check_replays(&bind::bind(&graph, &request(Strategy::Store)).unwrap()), 0);
        }
    }
    assert!(replays > 200, "only {replays} tensors were computed again");
}

#[test]
fn recomputing_gives_the_bits_of_storing_in_double_precision() {
    for seed in 100..104 {
        let network = network(Kind::Any, seed);
        let graph = several(&network.body, &["epsilon", "gradient"], &["y", "y[:,1]"]);
        let stored = run(&graph, &network.tensors, Precision::F64);
        let recomputed = run_kept(&graph, &network.tensors, Precision::F64, Strategy::Recompute);
        assert_same_bits(&stored, &recomputed, &format!("seed {seed}"));
    }
}

#[test]
fn recomputing_a_decoder_gives_the_bits_of_storing() {
    let mut replays = 0;
    for (seed, form) in (0..).zip(forms()) {
        for mask in [f64::NEG_INFINITY, f64::from(-3.4e38f32)] {
            let network = decoder(form, mask, seed);
            for name in ["epsilon", "attnlrp", "cp-lrp", "relp", "vit"] {
                let graph = explain(&network.body, &Explanation::of(Composite::named(name).unwrap(), &["x"]));
                let what = format!("{name}, seed {seed}, mask {mask}, {form:?}");
                for precision in [Precision::F64, Precision::F32] {
                    let stored = run(&graph, &network.tensors, precision);
                    assert!(stored.results.values().flatten().all(|value| value.is_finite()), "{what}");
                    assert_same_bits(
                        &stored,
                        &run_kept(&graph, &network.tensors, precision, Strategy::Recompute),
                        &what,
                    );
                }
                replays += check_replays(&bind::bind(&graph, &request(Strategy::Recompute)).unwrap());
            }
        }
    }
    assert!(replays > 400, "only {replays} tensors were computed again");
}

#[test]
fn attnlrp_and_the_gradient_share_one_forward_region() {
    for (seed, form) in (0..).zip(forms()) {
        let network = decoder(form, f64::NEG_INFINITY, seed);
        let together = several(&network.body, &["attnlrp", "gradient"], &["y"]);
        let alone = ["attnlrp", "gradient"].map(|name| several(&network.body, &[name], &["y"]));
        let needed: BTreeSet<String> = alone.iter().flat_map(forward_names).collect();
        assert_eq!(forward_names(&together), needed, "{form:?}");
        let values = promised(&together);
        assert_eq!(values.iter().collect::<BTreeSet<_>>().len(), values.len(), "two promises of one value");
        let outcome = run(&together, &network.tensors, Precision::F32);
        for (name, graph) in ["attnlrp", "gradient"].iter().zip(&alone) {
            let expected = run(graph, &network.tensors, Precision::F32);
            let found = &outcome.results[&format!("{name}/relevance/x")];
            assert_eq!(bits(found), bits(expected.relevance("x")), "{name} {form:?}");
        }
    }
}

/// The forward values that a graph's promises name.
fn promised(graph: &Graph) -> Vec<Value> {
    let promises = graph.order().into_iter().filter(|&node| graph.node(node).op == Op::Promise);
    promises.map(|node| graph.operand(node, 0).unwrap()).collect()
}

fn forward_names(graph: &Graph) -> BTreeSet<String> {
    let forward = graph.order().into_iter().filter(|&node| graph.node(node).region == Region::Forward);
    forward.map(|node| graph.name(node.into()).to_string()).collect()
}

fn report(graph: &Graph) -> PromiseReport {
    bind::promises(graph, &Request::default()).unwrap()
}

#[test]
fn composites_and_targets_share_one_forward_region_and_its_promises() {
    let (composites, targets) = (["epsilon", "gradient", "epsilon-plus"], ["y", "y[:,1]"]);
    for seed in 0..6 {
        let network = network(Kind::Any, seed);
        let together = several(&network.body, &composites, &targets);
        let values = promised(&together);
        assert_eq!(values.iter().collect::<BTreeSet<_>>().len(), values.len(), "two promises of one value");
        let mut needed = BTreeSet::new();
        let mut promises = BTreeSet::new();
        for composite in composites {
            for target in targets {
                let alone = several(&network.body, &[composite], &[target]);
                needed.extend(forward_names(&alone));
                promises.extend(report(&alone).promises.into_iter().map(|promise| promise.value));
            }
        }
        let forward: BTreeSet<String> = forward_names(&together);
        let new: Vec<&String> = forward.difference(&needed).filter(|name| !name.contains("target")).collect();
        assert!(new.is_empty() || new.iter().all(|name| name.starts_with("argmax")), "seed {seed}: {new:?}");
        let found = report(&together);
        assert_eq!(found.statistics.promises, promises.len(), "seed {seed}");
        assert_eq!(found.promises.iter().map(|one| one.value.clone()).collect::<BTreeSet<_>>(), promises);
        let operations = report(&several(&network.body, &["epsilon"], &["y"])).statistics.operations;
        assert_eq!(found.statistics.operations, operations, "the forward region is there once");
    }
}

#[test]
fn forward_calls_run_once_for_several_composites() {
    let network = network(Kind::Any, 3);
    let graph = several(&network.body, &["epsilon", "gradient"], &["y", "y[:,2]"]);
    let forward = forward_names(&graph);
    for strategy in [Strategy::Store, Strategy::Recompute] {
        let plan = bind::bind(&graph, &request(strategy)).unwrap();
        let outputs = plan.steps.iter().flat_map(|step| &step.outputs).map(|&output| plan.buffer(output).name.as_str());
        let computed: Vec<&str> = outputs.filter(|name| forward.contains(*name)).collect();
        assert!(computed.len() > 4, "{computed:?}");
        assert_eq!(computed.iter().collect::<BTreeSet<_>>().len(), computed.len(), "{computed:?}");
    }
}

#[test]
fn a_report_says_how_each_promise_is_kept() {
    // The sum is saved by nobody, its operand `a` by the contraction that follows.
    let body = "input %x : f32[2, 4]\nweight @w : f32[4, 4]\nweight @v : f32[4, 3]\nforward\n\
                %h = dot %x, @w {contract=1x0} : f32[2, 4] from \"/h\"\n%a = relu %h : f32[2, 4] from \"/a\"\n\
                %s = add %a, %x : f32[2, 4] from \"/s\"\n%n = neg %s : f32[2, 4] from \"/n\"\n\
                %e = exp %n : f32[2, 4] from \"/e\"\n\
                %y = dot %e, @v {contract=1x0} : f32[2, 3] from \"/y\"\nresult \"output/y\" = %y\n";
    let graph = explain(body, &Explanation::of(Composite::named("epsilon").unwrap(), &["x"]));
    let found = report(&graph);
    let kept = |name: &str| {
        let promise = found.promises.iter().find(|promise| promise.value == name).unwrap();
        let delivery = promise.delivery.clone().unwrap();
        (delivery.kept["store"], delivery.kept["recompute"], delivery.replay.map(|chain| chain.calls))
    };
    assert_eq!(kept("x"), (Keeping::Given, Keeping::Given, None));
    assert_eq!(kept("a"), (Keeping::Stored, Keeping::Saved, None));
    assert_eq!(kept("y"), (Keeping::Stored, Keeping::Returned, None));
    assert_eq!(kept("h"), (Keeping::Stored, Keeping::Recomputed, Some(1)));
    assert_eq!(kept("s"), (Keeping::Stored, Keeping::Recomputed, Some(1)));
    let [store, recompute] = &found.strategies[..] else { panic!("{:?}", found.strategies) };
    assert_eq!((store.recomputed_bytes, store.replays), (0, 0));
    assert_eq!(store.kept_bytes, recompute.kept_bytes + recompute.recomputed_bytes);
    assert!(recompute.replays == 2 && recompute.cost.flops > store.cost.flops, "{recompute:?}");
}
