//! `parse(print(graph)) == graph` over generated graphs: random operations, shapes, names and origins.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed expectation fails the test")]

use lrpc_ir::graph::{Chosen, CompositeUse, EntryUse, GraphResult, LedgerLine, ModelReference, RuleChoice};
use lrpc_ir::ops::source::LiteralValues;
use lrpc_ir::ops::{
    Binary, Dot, Elementwise, Function, Geometry, Interpolation, Linear, Literal, Movement, Normalize, Op, Pool,
    PoolKind, Reduce, ReduceKind, Resize, Scan, Select, Source, Unary, WeightPlace, Window,
};
use lrpc_ir::{Absorbed, DType, Dim, Float, Graph, Origin, Region, TensorType, Value, text, verify};
use proptest::prelude::*;

/// What one generated node is made from; every number is reduced to what fits.
type Recipe = (usize, usize, usize, f64, String, Option<String>);

fn recipes() -> impl Strategy<Value = Vec<Recipe>> {
    let name = prop_oneof![3 => "[a-z/._:]{1,6}", 1 => any::<String>()];
    let number = prop_oneof![any::<f64>(), Just(0.5), Just(-0.0), Just(f64::INFINITY), Just(3.0)];
    prop::collection::vec(
        (any::<usize>(), any::<usize>(), any::<usize>(), number, name, prop::option::of("[ -~]{0,8}")),
        1..24,
    )
}

fn dims() -> Vec<Dim> {
    let (n, h) = (Dim::symbol("N"), Dim::symbol("H"));
    let half = h.add(&Dim::Known(-1)).unwrap().floor_div(&Dim::Known(2)).unwrap();
    let odd = h.mul(&n).unwrap().sub(&Dim::Known(3)).unwrap().maximum(&Dim::Known(1)).unwrap();
    let less = h.sub(&Dim::Known(2)).unwrap();
    vec![n.clone(), less, half, odd.minimum(&n).unwrap(), Dim::Known(1), Dim::Known(4)]
}

struct Generator {
    graph: Graph,
    values: Vec<Value>,
}

impl Generator {
    fn new() -> Generator {
        let mut graph = Graph::new();
        graph.model = Some(ModelReference { path: "a \"b\".onnx".into(), bytes: 7, structure: "00ff".into() });
        graph.composites.push(CompositeUse {
            rules: "epsilon(eps=1e-6, x=[1, 2])".into(),
            carrier: "relevance".into(),
            because: Some("it says \"so\"".into()),
        });
        graph.entries.push(EntryUse { name: "my own 1".into(), text: "name=a\"b → Epsilon".into() });
        let rule = Chosen::Rule { rule: "Epsilon".into(), entry: "my own 1".into() };
        graph.choices.push(RuleChoice { site: "t0 /a b".into(), op: "dot".into(), chosen: rule });
        let nothing = Chosen::Nothing("no slope".into());
        graph.choices.push(RuleChoice { site: "/c".into(), op: "sign".into(), chosen: nothing });
        let shape = vec![Dim::symbol("N"), Dim::Known(4), Dim::symbol("H"), Dim::symbol("H")];
        let ty = TensorType::new(DType::F32, shape);
        let x = graph.add(Region::Header, Op::Source(Source::Input(ty)), &[], "input", Origin::default()).unwrap();
        Generator { graph, values: vec![x] }
    }

    fn add(&mut self, op: Op, operands: &[Value], recipe: &Recipe) {
        let name = if recipe.4.is_empty() { "unnamed" } else { &recipe.4 };
        let name = self.graph.fresh_name(name);
        let origin =
            Origin { from: recipe.5.as_deref().map(Into::into), by: recipe.5.is_none().then(|| "Rule-2".into()) };
        // An operation that does not accept the operands is left out.
        if let Ok(value) = self.graph.add(Region::Forward, op, operands, &name, origin) {
            self.values.push(value);
        }
    }

    fn step(&mut self, recipe: &Recipe) {
        let (kind, first, second, number, _, _) = recipe;
        let pick = |at: &usize| self.values[at % self.values.len()];
        let (a, b) = (pick(first), pick(second));
        let ty = self.graph.ty(a).clone();
        let axis = second % ty.rank().max(1);
        let dim = dims()[second % 6].clone();
        let functions: Vec<Function> = Function::all().collect();
        let unary = Unary {
            function: functions[first % functions.len()],
            parameters: match functions[first % functions.len()].parameters().len() {
                0 => [Float(0.0); 2],
                1 => [Float(*number), Float(0.0)],
                _ => [Float(*number), Float(2.0)],
            },
        };
        let op = match kind % 20 {
            0 => Op::Elementwise(Elementwise::Unary(unary)),
            1 => Op::Elementwise(Elementwise::Secant(unary)),
            2 => return self.add(Op::Elementwise(Elementwise::Binary(Binary::Weigh)), &[a, b], recipe),
            3 => Op::Elementwise(Elementwise::Cast(DType::F16)),
            4 => Op::Reduce(Reduce { kind: ReduceKind::Mean, axes: vec![axis], keep: first.is_multiple_of(2) }),
            5 => Op::Movement(Movement::Transpose { perm: (0..ty.rank()).rev().collect() }),
            6 => Op::Movement(Movement::Broadcast { shape: [vec![dim], ty.shape.clone()].concat() }),
            7 => return self.add(Op::Movement(Movement::Concat { axis }), &[a, b, a], recipe),
            8 => Op::Movement(Movement::Pad {
                before: vec![dim.clone(); ty.rank()],
                steps: vec![-1; ty.rank()],
                value: Float(*number),
                shape: vec![dim; ty.rank()],
            }),
            9 => Op::Select(Select::ArgMax { axis }),
            10 => Op::Normalize(Normalize::Softmax { axis, safe: axis == 0 }),
            11 => Op::Scan(Scan::CumulativeSum {
                axis,
                exclusive: first.is_multiple_of(2),
                reverse: first.is_multiple_of(3),
            }),
            12 => return self.linear(a, recipe),
            13 => Op::Pool(Pool::Window(PoolKind::AverageWithPadding, window(&ty, dim, *first as i64 % 3 + 1))),
            14 if first.is_multiple_of(2) => Op::Pool(Pool::WindowArgMax(window(&ty, dim, 1))),
            14 => Op::Pool(Pool::Resize(resize(&ty, dim, *number))),
            15 => return self.literal(*number, recipe),
            16 => return self.add(Op::Source(Source::Size(dim)), &[], recipe),
            17 => Op::Select(Select::TopK { axis, count: Dim::Known(2), largest: first.is_multiple_of(2) }),
            18 => return self.gather(a, axis, recipe),
            _ => {
                return self.add(
                    Op::Linear(Linear::Dot(Dot { batch: vec![(0, 0)], contract: vec![(1, 1)] })),
                    &[a, b],
                    recipe,
                );
            }
        };
        self.add(op, &[a], recipe);
    }

    fn linear(&mut self, x: Value, recipe: &Recipe) {
        let ty = self.graph.ty(x).clone();
        if ty.rank() < 3 {
            return;
        }
        let spatial = ty.rank() - 2;
        let taps = vec![Dim::Known(3); spatial];
        let weight = TensorType::new(ty.dtype, [vec![ty.shape[1].clone(), ty.shape[1].clone()], taps].concat());
        let name = self.graph.fresh_name("w");
        let place = if recipe.1.is_multiple_of(2) { WeightPlace::Model } else { WeightPlace::Sidecar };
        let source = Op::Source(Source::Weight(place, weight));
        let weight = self.graph.add(Region::Header, source, &[], &name, Origin::default()).unwrap();
        let mut pads = vec![Dim::Known(1); spatial];
        pads[0] = dims()[recipe.1 % 6].clone();
        let geometry = Geometry {
            strides: vec![recipe.2 as i64 % 3 + 1; spatial],
            pads,
            dilations: (1..).take(spatial).collect(),
            groups: 1,
            spatial: vec![dims()[recipe.2 % 6].clone(); spatial],
        };
        self.add(Op::Linear(Linear::ConvTranspose(geometry)), &[x, weight], recipe);
    }

    /// The best elements along an axis, by their indices, with or without a batch.
    fn gather(&mut self, x: Value, axis: usize, recipe: &Recipe) {
        let batch = if recipe.1.is_multiple_of(2) { axis } else { 0 };
        let ty = self.graph.ty(x).clone();
        let shape = [ty.shape.get(..batch).unwrap_or_default(), &[Dim::Known(1)]].concat();
        let index = Literal { ty: TensorType::new(DType::I64, shape), values: LiteralValues::Integers(vec![-1]) };
        self.add(Op::Source(Source::Constant(index)), &[], recipe);
        let Some(&index) = self.values.last() else { return };
        self.add(Op::Select(Select::Gather { axis, batch }), &[x, index], recipe);
    }

    fn literal(&mut self, number: f64, recipe: &Recipe) {
        let shape = vec![Dim::Known(2), Dim::Known(2)];
        let floats = [number, f64::from(number as f32), -number, 1e-300].map(Float).to_vec();
        let (ty, values) = if recipe.1.is_multiple_of(3) {
            (TensorType::new(DType::F32, vec![Dim::symbol("N")]), LiteralValues::Floats(vec![Float(number)]))
        } else if recipe.1.is_multiple_of(2) {
            (TensorType::new(DType::F64, shape), LiteralValues::Floats(floats))
        } else {
            (TensorType::new(DType::I64, shape), LiteralValues::Integers(vec![-1, 0, i64::MAX, 7]))
        };
        self.add(Op::Source(Source::Constant(Literal { ty, values })), &[], recipe);
    }

    /// Makes every unused value a result, so that nothing is dead, and writes a ledger line.
    fn finish(mut self) -> Graph {
        for (number, &value) in self.values.iter().enumerate() {
            if self.graph.users(value).is_empty() {
                self.graph.results.push(GraphResult { name: format!("r\"{number}\""), value });
            }
        }
        let first = self.values[0];
        let line = LedgerLine {
            site: "a site".into(),
            rule: "Rule".into(),
            input: vec![first],
            output: vec![first],
            absorbed: vec![(Absorbed::Bias, first), (Absorbed::Rule, first)],
        };
        self.graph.ledger.push(line);
        // Weights of operations that were left out.
        self.graph.remove_dead();
        self.graph
    }
}

fn window(ty: &TensorType, dim: Dim, stride: i64) -> Window {
    let axes = ty.rank().saturating_sub(2);
    Window {
        size: vec![Dim::Known(2); axes],
        strides: vec![stride; axes],
        pads: vec![dim.clone(); axes],
        pads_after: vec![Dim::Known(0); axes],
        dilations: vec![1; axes],
        spatial: vec![dim; axes],
    }
}

fn resize(ty: &TensorType, dim: Dim, scale: f64) -> Resize {
    let axes = ty.rank().saturating_sub(2);
    Resize {
        interpolation: Interpolation::Cubic,
        coordinates: lrpc_ir::ops::pool::Coordinates::CropAndResize,
        rounding: lrpc_ir::ops::pool::Rounding::Ceil,
        cubic: Float(-0.5),
        exclude_outside: true,
        antialias: true,
        region: vec![Float(0.25); 2 * axes],
        scales: vec![Float(scale); axes],
        spatial: vec![dim; axes],
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn printed_graphs_read_back_as_themselves(recipes in recipes()) {
        let mut generator = Generator::new();
        recipes.iter().for_each(|recipe| generator.step(recipe));
        let graph = generator.finish();
        verify::verify(&graph).unwrap();
        let printed = text::print(&graph);
        let read = text::parse(&printed).unwrap_or_else(|error| panic!("{error}\n{printed}"));
        prop_assert!(graph.ids().all(|node| Op::mnemonics().any(|word| word == graph.node(node).op.mnemonic())));
        prop_assert_eq!(&read, &graph);
        prop_assert_eq!(text::print(&read), printed);
    }

    #[test]
    fn damaged_files_are_errors_and_never_panics(recipes in recipes(), at in any::<usize>(), with in any::<char>()) {
        let mut generator = Generator::new();
        recipes.iter().for_each(|recipe| generator.step(recipe));
        let mut chars: Vec<char> = text::print(&generator.finish()).chars().collect();
        let length = chars.len();
        chars[at % length] = with;
        if let Ok(graph) = text::parse(&chars.into_iter().collect::<String>()) {
            let _ = verify::verify(&graph);
        }
    }
}
