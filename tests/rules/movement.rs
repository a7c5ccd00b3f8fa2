//! Movement: the inverse of every index map, what constants in between receive.

use lrpc_passes::relevance::site::Carrier;
use lrpc_twins::window::ravel;
use ndarray::{ArrayD, Axis, Dimension, IxDyn, Slice, concatenate};

use crate::check::{Count, Expected, Site};
use crate::funnel::Tensors;
use crate::numbers::{Random, Style};

const CASES: u64 = 80;

/// Where an element of the result comes from.
#[derive(Debug, Clone, Copy)]
enum Source {
    Input(usize),
    Constant,
}

/// A movement of `%x`: its text, and its header beyond `%x`.
struct Move {
    op: String,
    header: String,
    tensors: Tensors,
    x: ArrayD<f64>,
    /// The source of every element of the result.
    sources: ArrayD<Source>,
}

/// Every element's own place.
fn places(shape: &[usize]) -> ArrayD<Source> {
    ArrayD::from_shape_fn(IxDyn(shape), |at| Source::Input(ravel(at.slice(), shape)))
}

fn draw(random: &mut Random) -> Move {
    let shape = [2, random.within(2, 3), random.within(2, 4)];
    let x = random.tensor(&shape, Style::Coarse);
    let plain = |op: &str, sources: ArrayD<Source>| Move {
        op: op.into(),
        header: String::new(),
        tensors: Tensors::new(),
        x: x.clone(),
        sources,
    };
    let places = places(&shape);
    match random.below(9) {
        0 => plain("reshape %x", places.into_shape_with_order(vec![shape[0], shape[1] * shape[2]]).unwrap()),
        1 => {
            let perm = random.pick(&[[2, 0, 1], [0, 2, 1], [1, 0, 2], [2, 1, 0]]);
            plain(&format!("transpose %x {{perm={perm:?}}}"), places.permuted_axes(IxDyn(&perm)))
        }
        2 => slice(random, &shape, &plain),
        3 => pad(random, &shape, &plain),
        4 => concat(random, &x),
        5 => {
            let narrow = x.slice_axis(Axis(1), Slice::new(0, Some(1), 1)).to_owned();
            let wide = self::places(narrow.shape()).broadcast(IxDyn(&[3, 2, 4, shape[2]])).unwrap().to_owned();
            Move { x: narrow, ..plain("broadcast %x", wide) }
        }
        6 => gather(random, &x),
        7 => batched_gather(random, &x),
        _ => scatter(random, &x),
    }
}

type Plain<'a> = &'a dyn Fn(&str, ArrayD<Source>) -> Move;

fn slice(random: &mut Random, shape: &[usize; 3], plain: Plain) -> Move {
    let start = random.below(shape[1]);
    if random.one_in(2) {
        let sources = places(shape).slice_axis(Axis(1), Slice::new(start as isize, None, 1)).to_owned();
        return plain(&format!("slice %x {{start=[0, {start}, 0]}}"), sources);
    }
    // Backwards, every second one.
    let picked: Vec<usize> = (0..shape[2]).rev().step_by(2).collect();
    let sources = places(shape).select(Axis(2), &picked);
    plain(&format!("slice %x {{start=[0, 0, {}], step=[1, 1, -2]}}", shape[2] - 1), sources)
}

fn pad(random: &mut Random, shape: &[usize; 3], plain: Plain) -> Move {
    let (before, after, step) =
        (random.within(0, 3) as isize - 1, random.below(3) as isize, random.within(1, 2) as isize);
    let step = if before < 0 { 1 } else { step };
    let length = (before + (shape[2] as isize - 1) * step + 1 + after) as usize;
    let value = random.pick(&[0.0, 0.5]);
    let mut result = ArrayD::from_elem(vec![shape[0], shape[1], length], Source::Constant);
    for (at, source) in places(shape).indexed_iter() {
        let to = before + at[2] as isize * step;
        if to >= 0 && to < length as isize {
            result[[at[0], at[1], to as usize]] = *source;
        }
    }
    plain(&format!("pad %x {{before=[0, 0, {before}], step=[1, 1, {step}], value={value:?}}}"), result)
}

fn concat(random: &mut Random, x: &ArrayD<f64>) -> Move {
    let axis = random.below(3);
    let constant = random.tensor(x.shape(), Style::Coarse);
    let own = places(x.shape());
    let others = own.mapv(|_| Source::Constant);
    let first = random.one_in(2);
    let parts = if first { [others.view(), own.view()] } else { [own.view(), others.view()] };
    Move {
        op: format!("concat {} {{axis={axis}}}", if first { "@c, %x" } else { "%x, @c" }),
        header: format!("weight @c : f32{:?}", x.shape()),
        tensors: Tensors::from([("c".to_string(), constant)]),
        x: x.clone(),
        sources: concatenate(Axis(axis), &parts).unwrap(),
    }
}

fn gather(random: &mut Random, x: &ArrayD<f64>) -> Move {
    let axis = random.below(3);
    let size = x.shape()[axis];
    let picked: Vec<usize> = (0..random.within(1, 5)).map(|_| random.below(size)).collect();
    let negative = random.one_in(2);
    let index = picked.iter().map(|&at| if negative { at as f64 - size as f64 } else { at as f64 }).collect();
    Move {
        op: format!("gather %x, %i {{axis={axis}}}"),
        header: format!("input %i : i64[{}]", picked.len()),
        tensors: Tensors::from([("i".to_string(), ArrayD::from_shape_vec(vec![picked.len()], index).unwrap())]),
        x: x.clone(),
        sources: places(x.shape()).select(Axis(axis), &picked),
    }
}

/// Every block along the first axis has indices of its own, some of them twice.
fn batched_gather(random: &mut Random, x: &ArrayD<f64>) -> Move {
    let axis = random.within(1, 2);
    let (size, count) = (x.shape()[axis], random.within(1, 5));
    let picked: Vec<Vec<usize>> = (0..2).map(|_| (0..count).map(|_| random.below(size)).collect()).collect();
    let index = picked.iter().flatten().map(|&at| at as f64).collect();
    let places = places(x.shape());
    let blocks: Vec<_> =
        (0..2).map(|block| places.index_axis(Axis(0), block).select(Axis(axis - 1), &picked[block])).collect();
    let blocks: Vec<_> = blocks.iter().map(|block| block.view()).collect();
    Move {
        op: format!("gather %x, %i {{axis={axis}, batch=1}}"),
        header: format!("input %i : i64[2, {count}]"),
        tensors: Tensors::from([("i".to_string(), ArrayD::from_shape_vec(vec![2, count], index).unwrap())]),
        x: x.clone(),
        sources: ndarray::stack(Axis(0), &blocks).unwrap(),
    }
}

/// A scatter that moves: no two elements to one place, and every place reached.
fn scatter(random: &mut Random, x: &ArrayD<f64>) -> Move {
    let axis = random.below(3);
    let size = x.shape()[axis];
    let turn = random.below(size);
    let targets: Vec<usize> = (0..size).map(|at| (at + turn) % size).collect();
    let from: Vec<usize> = (0..size).map(|to| (to + size - turn) % size).collect();
    let index = targets.iter().map(|&target| target as f64).collect();
    Move {
        op: format!("scatter_add %x, %i {{axis={axis}, unique_indices=true}}"),
        header: format!("input %i : i64[{size}]"),
        tensors: Tensors::from([("i".to_string(), ArrayD::from_shape_vec(vec![size], index).unwrap())]),
        x: x.clone(),
        sources: places(x.shape()).select(Axis(axis), &from),
    }
}

impl Move {
    fn site(&self) -> Site {
        let shape = self.sources.shape();
        let mut tensors = self.tensors.clone();
        tensors.insert("x".into(), self.x.clone());
        Site {
            rule: "Movement",
            with: String::new(),
            header: format!("input %x : f32{:?}\n{}", self.x.shape(), self.header),
            forward: format!("%y = {} : f32{shape:?} from \"/site\"", self.op),
            shape: shape.to_vec(),
            explained: vec!["x"],
            tensors,
        }
    }

    fn expected(&self, relevance: &ArrayD<f64>) -> Expected {
        let mut to_x = vec![0.0; self.x.len()];
        let mut bias = 0.0;
        for (source, r) in self.sources.iter().zip(relevance) {
            match source {
                Source::Input(at) => to_x[*at] += r,
                Source::Constant => bias += r,
            }
        }
        let to_x = ArrayD::from_shape_vec(self.x.raw_dim(), to_x).unwrap();
        Expected { relevance: vec![to_x], bias, stabiliser: 0.0 }
    }
}

#[test]
pub fn movement() {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let moved = draw(random);
        moved.site().check(random, &mut count, |r| moved.expected(r));
        moved.site().check_carried(random, &mut count, Carrier::Coefficient, |r| moved.expected(r));
    }
    count.suffices(CASES as usize);
}
