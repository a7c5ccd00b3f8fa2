//! Whole decoders under the composites for transformers, against the gradient of the modified function.

use lrpc_ir::plan::Precision;
use lrpc_passes::relevance::composite::Composite;
use lrpc_passes::relevance::site::Carrier;
use lrpc_twins::transformer::{EPSILON, Form, Held, coefficient, frozen};
use ndarray::{ArrayD, Ix2, IxDyn};

use crate::check::{assert_close, largest};
use crate::funnel::{Explanation, Outcome, Tensors, explain, run};
use crate::generated::Network;
use crate::numbers::{Random, Style};

const ROWS: usize = 4;
const WIDTH: usize = 6;
const INNER: usize = 5;

/// Every form, of one block and of two.
pub fn forms() -> Vec<Form> {
    let of = |bits: usize| Form {
        rms: bits & 1 != 0,
        grouped: bits & 2 != 0,
        gated: bits & 4 != 0,
        blocks: 1 + (bits >> 3),
    };
    (0..16).map(of).collect()
}

fn norm(form: Form, x: &str, name: &str, suffix: &str) -> String {
    let op = if form.rms { "rms_norm" } else { "layer_norm" };
    let offset = if form.rms { String::new() } else { format!(", @offset{suffix}") };
    format!("%{name} = {op} %{x}, @gain{suffix}{offset} {{axis=1, eps={EPSILON:?}}} : f32[4, 6] from \"/{name}\"\n")
}

/// Queries are scaled where keys are shared, scores elsewhere: the function is the same.
fn attention(form: Form, x: &str, b: usize) -> String {
    let mut text = norm(form, x, &format!("n{b}"), &b.to_string());
    for name in ["q", "k", "v"] {
        let shared = form.grouped && name != "q";
        let width = if shared { 3 } else { 6 };
        text += &format!(
            "%{name}{b} = dot %n{b}, @w{name}{b}, @b{name}{b} {{contract=1x0}} : f32[4, {width}] from \"/{b}/{name}\"\n"
        );
        text += &if shared {
            format!(
                "%{name}h{b} = reshape %{name}{b} : f32[1, 4, 3] from \"/{b}/{name}/heads\"\n\
                 %{name}t{b} = broadcast %{name}h{b} : f32[2, 4, 3] from \"/{b}/{name}/copies\"\n"
            )
        } else {
            format!(
                "%{name}h{b} = reshape %{name}{b} : f32[4, 2, 3] from \"/{b}/{name}/heads\"\n\
                 %{name}t{b} = transpose %{name}h{b} {{perm=[1, 0, 2]}} : f32[2, 4, 3] from \"/{b}/{name}/turn\"\n"
            )
        };
    }
    let (scaled, queries, scores) = if form.grouped { ("qt", "scaled", "s") } else { ("s", "qt", "scaled") };
    let scale = |shape: &str| {
        format!(
            "%scale{b} = const {:?} : f32{shape}\n\
             %scaled{b} = mul %{scaled}{b}, %scale{b} : f32{shape} from \"/{b}/scale\"\n",
            3f64.sqrt().recip()
        )
    };
    let product =
        format!("%s{b} = dot %{queries}{b}, %kt{b} {{batch=0x0, contract=2x2}} : f32[2, 4, 4] from \"/{b}/scores\"\n");
    text += &if form.grouped { scale("[2, 4, 3]") + &product } else { product + &scale("[2, 4, 4]") };
    text += &format!(
        "%mask{b} = broadcast @mask : f32[2, 4, 4] from \"/{b}/mask/copies\"\n\
         %a{b} = add %{scores}{b}, %mask{b} : f32[2, 4, 4] from \"/{b}/mask\"\n\
         %p{b} = softmax %a{b} {{axis=2}} : f32[2, 4, 4] from \"/{b}/softmax\"\n\
         %c{b} = dot %p{b}, %vt{b} {{batch=0x0, contract=2x1}} : f32[2, 4, 3] from \"/{b}/values\"\n\
         %ct{b} = transpose %c{b} {{perm=[1, 0, 2]}} : f32[4, 2, 3] from \"/{b}/turn\"\n\
         %cf{b} = reshape %ct{b} : f32[4, 6] from \"/{b}/join\"\n\
         %o{b} = dot %cf{b}, @wo{b}, @bo{b} {{contract=1x0}} : f32[4, 6] from \"/{b}/o\"\n\
         %r{b} = add %{x}, %o{b} : f32[4, 6] from \"/{b}/residual\"\n"
    );
    text
}

fn mlp(form: Form, b: usize) -> String {
    let dot = |name: &str| {
        format!("%{name}{b} = dot %m{b}, @w{name}{b} {{contract=1x0}} : f32[4, {INNER}] from \"/{b}/{name}\"\n")
    };
    let inner = if form.gated {
        dot("gate")
            + &format!(
                "%open{b} = swish %gate{b} : f32[4, {INNER}] from \"/{b}/swish\"\n\
                 %inner{b} = mul %open{b}, %up{b} : f32[4, {INNER}] from \"/{b}/product\"\n"
            )
    } else {
        format!("%inner{b} = gelu %up{b} : f32[4, {INNER}] from \"/{b}/gelu\"\n")
    };
    let end = format!(
        "%down{b} = dot %inner{b}, @wdown{b} {{contract=1x0}} : f32[4, 6] from \"/{b}/down\"\n\
         %z{b} = add %r{b}, %down{b} : f32[4, 6] from \"/{b}/end\"\n"
    );
    norm(form, &format!("r{b}"), &format!("m{b}"), &format!("_mlp{b}")) + &dot("up") + &inner + &end
}

fn weights(form: Form) -> Vec<(String, Vec<usize>)> {
    let mut weights = vec![("mask".to_string(), vec![ROWS, ROWS])];
    let mut add = |name: String, shape: &[usize]| weights.push((name, shape.to_vec()));
    let keys = if form.grouped { WIDTH / 2 } else { WIDTH };
    for b in 0..form.blocks {
        for (name, width) in [("q", WIDTH), ("k", keys), ("v", keys), ("o", WIDTH)] {
            add(format!("w{name}{b}"), &[WIDTH, width]);
            add(format!("b{name}{b}"), &[width]);
        }
        for suffix in [format!("{b}"), format!("_mlp{b}")] {
            add(format!("gain{suffix}"), &[WIDTH]);
            if !form.rms {
                add(format!("offset{suffix}"), &[WIDTH]);
            }
        }
        if form.gated {
            add(format!("wgate{b}"), &[WIDTH, INNER]);
        }
        add(format!("wup{b}"), &[WIDTH, INNER]);
        add(format!("wdown{b}"), &[INNER, WIDTH]);
    }
    add("head".into(), &[WIDTH, 3]);
    add("head_bias".into(), &[3]);
    weights
}

/// A decoder from the embeddings `%x` `[4, 6]` to the scores `%y` `[1, 3]` of the last row; a row's scores of later rows
/// have `mask` added to them.
pub fn decoder(form: Form, mask: f64, seed: u64) -> Network {
    let random = &mut Random::new(seed);
    let mut tensors = Tensors::from([("x".to_string(), random.tensor(&[ROWS, WIDTH], Style::Fine))]);
    let mut body = "input %x : f32[4, 6]\n".to_string();
    for (name, shape) in weights(form) {
        body += &format!("weight @{name} : f32{shape:?}\n");
        let tensor = random.tensor(&shape, Style::Fine);
        tensors.insert(name, tensor);
    }
    let causal = ArrayD::from_shape_fn(IxDyn(&[ROWS, ROWS]), |at| if at[1] > at[0] { mask } else { 0.0 });
    tensors.insert("mask".into(), causal);
    body += "forward\n";
    for b in 0..form.blocks {
        let x = b.checked_sub(1).map_or("x".to_string(), |before| format!("z{before}"));
        body += &attention(form, &x, b);
        body += &mlp(form, b);
    }
    body += &format!(
        "%last = slice %z{} {{start=[3, 0]}} : f32[1, 6] from \"/last\"\n\
         %y = dot %last, @head, @head_bias {{contract=1x0}} : f32[1, 3] from \"/head\"\nresult \"output/y\" = %y\n",
        form.blocks - 1
    );
    Network { body, tensors }
}

fn outcome(network: &Network, composite: &str, carrier: Option<Carrier>) -> Outcome {
    let mut explanation = Explanation::of(Composite::named(composite).unwrap(), &["x"]);
    explanation.carrier = carrier;
    run(&explain(&network.body, &explanation), &network.tensors, Precision::F64)
}

#[test]
fn relevance_is_the_gradient_of_the_modified_function() {
    let composites = [
        ("attnlrp", Held { weights: false, gates: false }),
        ("cp-lrp", Held { weights: true, gates: true }),
        ("relp", Held { weights: true, gates: false }),
    ];
    for seed in 0..4 {
        for form in forms() {
            let network = decoder(form, f64::NEG_INFINITY, seed);
            let x = network.tensors["x"].clone().into_dimensionality::<Ix2>().unwrap();
            for (name, held) in composites {
                let what = format!("{name}, seed {seed}, {form:?}\n{}", network.body);
                let found = outcome(&network, name, None);
                let scores = frozen(&x, &x, form, held, &network.tensors);
                assert_close(&found.results["output/y"], &scores.clone().into_dyn(), 1e-11, &what);
                let class = (0..3).max_by(|&a, &b| scores[[0, a]].total_cmp(&scores[[0, b]])).unwrap();
                let gradient = coefficient(&x, class, form, held, &network.tensors);
                let expected = (&gradient * &x).into_dyn();
                assert!(largest(&expected) > 0.0, "{what}");
                assert_close(found.relevance("x"), &expected, 1e-9 * largest(&expected), &what);
            }
        }
    }
}

#[test]
fn carriers_agree_on_decoders() {
    for seed in 0..4 {
        for form in forms() {
            for mask in [f64::NEG_INFINITY, f64::from(-3.4e38f32)] {
                let network = decoder(form, mask, seed);
                for name in ["attnlrp", "cp-lrp"] {
                    let expected = outcome(&network, name, None);
                    let found = outcome(&network, name, Some(Carrier::Relevance));
                    let expected = expected.relevance("x");
                    let what = format!("{name}, seed {seed}, mask {mask}, {form:?}");
                    assert_close(found.relevance("x"), expected, 1e-12 * largest(expected), &what);
                }
            }
        }
    }
}
