//! The composite `mamba` on an unrolled selective scan, against MambaLRP written out.

use lrpc_ir::plan::Precision;
use lrpc_passes::relevance::composite::Composite;
use lrpc_passes::relevance::site::Carrier;
use lrpc_twins::scan::SelectiveScan;
use ndarray::{Array2, ArrayD, Ix2};

use crate::check::{assert_close, assert_closes, largest};
use crate::funnel::{Explanation, Tensors, explain, run};
use crate::numbers::Random;

const STEPS: usize = 4;
const WIDTH: usize = 3;

/// The scan as a graph; `order` says which factors of `Δ·b·u` are multiplied first.
fn body(order: [&str; 3]) -> String {
    let all = format!("f32[{STEPS}, {WIDTH}]");
    let mut text: String =
        ["u", "d", "b", "c", "z"].map(|name| format!("weight @w{name} : f32[{WIDTH}, {WIDTH}]\n")).concat();
    text += &format!("weight @out : f32[{WIDTH}, 2]\nweight @start : f32[1, {WIDTH}]\ninput %x : {all}\nforward\n");
    let mut line = |name: &str, op: &str, ty: &str| text += &format!("%{name} = {op} : {ty} from \"/{name}\"\n");
    line("ub", "dot %x, @wu {contract=1x0}", &all);
    line("u", "swish %ub", &all);
    line("db", "dot %u, @wd {contract=1x0}", &all);
    line("d", "softplus %db", &all);
    line("dn", "neg %d", &all);
    line("a", "exp %dn", &all);
    line("b", "dot %u, @wb {contract=1x0}", &all);
    line("c", "dot %u, @wc {contract=1x0}", &all);
    line("inner", &format!("mul %{}, %{}", order[0], order[1]), &all);
    line("i", &format!("mul %inner, %{}", order[2]), &all);
    let row = format!("f32[1, {WIDTH}]");
    for t in 0..STEPS {
        for of in ["a", "i", "c"] {
            line(&format!("{of}{t}"), &format!("slice %{of} {{start=[{t}, 0]}}"), &row);
        }
        let before = if t == 0 { "@start".to_string() } else { format!("%h{}", t - 1) };
        line(&format!("m{t}"), &format!("mul %a{t}, {before}"), &row);
        line(&format!("h{t}"), &format!("add %m{t}, %i{t}"), &row);
        line(&format!("y{t}"), &format!("mul %h{t}, %c{t}"), &row);
    }
    let rows: Vec<String> = (0..STEPS).map(|t| format!("%y{t}")).collect();
    line("states", &format!("concat {} {{axis=0}}", rows.join(", ")), &all);
    line("skip", "scale %u {by=0.5}", &all);
    line("ys", "add %states, %skip", &all);
    line("zb", "dot %x, @wz {contract=1x0}", &all);
    line("z", "swish %zb", &all);
    line("o", "mul %ys, %z", &all);
    line("y", "dot %o, @out {contract=1x0}", &format!("f32[{STEPS}, 2]"));
    text + "result \"output/y\" = %y\n"
}

#[test]
fn a_scan_is_linear_in_its_input() {
    for seed in 0..12 {
        let random = &mut Random::new(seed);
        let matrix = |random: &mut Random, shape: &[usize]| -> Array2<f64> {
            random.away_from_zero(shape).into_dimensionality::<Ix2>().unwrap()
        };
        let scan = SelectiveScan {
            x: matrix(random, &[STEPS, WIDTH]),
            weights: std::array::from_fn(|_| matrix(random, &[WIDTH, WIDTH])),
            out: matrix(random, &[WIDTH, 2]),
        };
        let names = ["wu", "wd", "wb", "wc", "wz"];
        let mut tensors: Tensors = names
            .iter()
            .zip(&scan.weights)
            .map(|(name, weight)| (name.to_string(), weight.clone().into_dyn()))
            .collect();
        tensors.insert("x".into(), scan.x.clone().into_dyn());
        tensors.insert("out".into(), scan.out.clone().into_dyn());
        tensors.insert("start".into(), ArrayD::zeros(vec![1, WIDTH]));
        for order in [["d", "b", "u"], ["d", "u", "b"], ["u", "b", "d"]] {
            for carrier in [Carrier::Relevance, Carrier::Coefficient] {
                let (step, score) = (random.below(STEPS), random.below(2));
                let mut explanation = Explanation::of(Composite::named("mamba").unwrap(), &["x"]);
                explanation.targets = vec![format!("y[{step}, {score}]")];
                explanation.carrier = Some(carrier);
                let outcome = run(&explain(&body(order), &explanation), &tensors, Precision::F64);
                let expected = scan.relevance(step, score).into_dyn();
                let what = format!("{order:?} {carrier:?} seed {seed}");
                assert_close(outcome.relevance("x"), &expected, 1e-10 * largest(&expected), &what);
                outcome.ledger.iter().for_each(|line| assert_closes(line, 1e-11, &what));
            }
        }
    }
}
