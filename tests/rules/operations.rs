//! Random operations of every relevance class, on numbers that are hard: exact zeros of both signs, sums that cancel,
//! numbers next to zero.

use lrpc_passes::relevance::site::Carrier;

use crate::check::Site;
use crate::funnel::Tensors;
use crate::numbers::{Random, Style};

/// The classes that [`operation`] knows. Softmax and its logarithm are rules' by name; nothing flows through opaque ones,
/// and no model that is imported has the others.
pub const CLASSES: [&str; 11] = [
    "linear",
    "bilinear",
    "additive",
    "elementwise",
    "movement",
    "select",
    "normalize",
    "softmax",
    "log_softmax",
    "reduce_product",
    "cumulative_product",
];

/// Both.
pub const CARRIERS: [Carrier; 2] = [Carrier::Relevance, Carrier::Coefficient];

/// An operation `%y`, before a rule is chosen.
struct Draft<'r> {
    random: &'r mut Random,
    header: String,
    before: String,
    explained: Vec<&'static str>,
    tensors: Tensors,
}

/// A random operation of `class`, under a rule.
pub fn operation(class: &str, random: &mut Random, rule: &'static str, with: &str) -> Site {
    let mut draft =
        Draft { random, header: String::new(), before: String::new(), explained: Vec::new(), tensors: Tensors::new() };
    let (op, shape) = match class {
        "linear" => draft.linear(),
        "bilinear" => draft.bilinear(),
        "additive" => draft.additive(),
        "elementwise" => draft.elementwise(),
        "movement" => draft.movement(),
        "select" => draft.select(),
        "normalize" => draft.normalize(),
        "softmax" | "log_softmax" => draft.softmax(class),
        "reduce_product" | "cumulative_product" => draft.product(class),
        other => panic!("no operation of class {other} is known"),
    };
    let forward = format!("{}%y = {op} : f32{shape:?} from \"/site\"", draft.before);
    let Draft { header, explained, tensors, .. } = draft;
    Site { rule, with: with.into(), header, forward, shape, explained, tensors }
}

type Drawn = (String, Vec<usize>);

impl Draft<'_> {
    /// A tensor to be explained, or one of its sign or of none.
    fn input(&mut self, name: &'static str, shape: &[usize]) -> String {
        let value = self.random.tensor(shape, Style::Hard);
        self.header += &format!("input %{name} : f32{shape:?}\n");
        self.tensors.insert(name.into(), value);
        self.explained.push(name);
        if self.random.one_in(2) {
            return format!("%{name}");
        }
        let function = self.random.pick(&["relu", "neg"]);
        self.before += &format!("%{name}.h = {function} %{name} : f32{shape:?} from \"/before\"\n");
        format!("%{name}.h")
    }

    fn weight(&mut self, name: &str, shape: &[usize]) -> String {
        let value = self.random.tensor(shape, Style::Hard);
        self.given(name, shape, value)
    }

    fn given(&mut self, name: &str, shape: &[usize], value: ndarray::ArrayD<f64>) -> String {
        self.header += &format!("weight @{name} : f32{shape:?}\n");
        self.tensors.insert(name.into(), value);
        format!("@{name}")
    }

    /// `, @b` or nothing.
    fn bias(&mut self, size: usize) -> String {
        if self.random.one_in(3) { String::new() } else { format!(", {}", self.weight("b", &[size])) }
    }

    fn shape(&mut self) -> Vec<usize> {
        vec![self.random.within(1, 2), self.random.within(1, 3), self.random.within(1, 4)]
    }

    fn linear(&mut self) -> Drawn {
        if self.random.one_in(2) { self.contraction() } else { self.convolution() }
    }

    fn contraction(&mut self) -> Drawn {
        let inner = if self.random.one_in(2) { self.random.within(1, 9) } else { self.random.within(32, 40) };
        let (rows, columns) = (self.random.within(1, 4), self.random.within(1, 5));
        match self.random.below(4) {
            0 => {
                let (x, w) = (self.input("x", &[rows, inner]), self.weight("w", &[inner, columns]));
                let bias = self.bias(columns);
                (format!("dot {x}, {w}{bias} {{contract=1x0}}"), vec![rows, columns])
            }
            1 => {
                let (x, w) = (self.input("x", &[rows, inner]), self.weight("w", &[columns, inner]));
                (format!("dot {w}, {x} {{contract=1x1}}"), vec![columns, rows])
            }
            2 => {
                let (x, w) = (self.input("x", &[2, rows, inner]), self.weight("w", &[2, inner, columns]));
                (format!("dot {x}, {w} {{batch=0x0, contract=2x1}}"), vec![2, rows, columns])
            }
            _ => {
                let (x, w) = (self.input("x", &[rows, inner, 2]), self.weight("w", &[2, columns, inner]));
                (format!("dot {x}, {w} {{contract=[1x2, 2x0]}}"), vec![rows, columns])
            }
        }
    }

    fn convolution(&mut self) -> Drawn {
        let rank = self.random.within(1, 2);
        let groups = self.random.pick(&[1, 1, 2]);
        let (inner, outer) = (groups * self.random.within(1, 2), groups * self.random.within(1, 2));
        let mut each = |low, high| -> Vec<usize> { (0..rank).map(|_| self.random.within(low, high)).collect() };
        let (kernel, strides, dilations, pads) = (each(1, 3), each(1, 2), each(1, 2), each(0, 1));
        let reach = |axis: usize| (kernel[axis] - 1) * dilations[axis] + 1;
        let transposed = self.random.one_in(3);
        let spatial: Vec<usize> = (0..rank).map(|axis| reach(axis) + self.random.below(3)).collect();
        let length = |axis: usize| match transposed {
            true => ((spatial[axis] - 1) * strides[axis] + reach(axis)).saturating_sub(2 * pads[axis]).max(1),
            false => (spatial[axis] + 2 * pads[axis] - reach(axis)) / strides[axis] + 1,
        };
        let lengths: Vec<usize> = (0..rank).map(length).collect();
        let channels = if transposed { vec![inner, outer / groups] } else { vec![outer, inner / groups] };
        let x = self.input("x", &[vec![2, inner], spatial].concat());
        let w = self.weight("w", &[channels, kernel].concat());
        let bias = self.bias(outer);
        let op = if transposed { "conv_transpose" } else { "conv" };
        let attributes = format!("{{stride={strides:?}, pad={pads:?}, dilation={dilations:?}, groups={groups}}}");
        (format!("{op} {x}, {w}{bias} {attributes}"), [vec![2, outer], lengths].concat())
    }

    /// A tensor and what a linear map makes of it.
    fn with_block(&mut self, shape: &[usize]) -> (String, String) {
        let columns = shape[2];
        let (a, w) = (self.input("a", shape), self.weight("w", &[columns, columns]));
        self.before += &format!("%block = dot {a}, {w} {{contract=2x0}} : f32{shape:?} from \"/block\"\n");
        (a, "%block".to_string())
    }

    fn bilinear(&mut self) -> Drawn {
        let shape = self.shape();
        let (batch, rows, columns) = (shape[0], shape[1], shape[2]);
        let inner = self.random.within(1, 6);
        match self.random.below(8) {
            0 => {
                let (a, b) = (self.input("a", &[batch, rows, inner]), self.input("b", &[batch, inner, columns]));
                (format!("dot {a}, {b} {{batch=0x0, contract=2x1}}"), shape)
            }
            1 => {
                let (a, b) = (self.input("a", &[rows, inner]), self.input("b", &[columns, inner]));
                (format!("dot {a}, {b} {{contract=1x1}}"), vec![rows, columns])
            }
            2 => {
                let (a, b) = (self.input("a", &[batch, rows, inner]), self.input("b", &[batch, inner, columns]));
                self.before +=
                    &format!("%s = softmax {a} {{axis=2}} : f32[{batch}, {rows}, {inner}] from \"/softmax\"\n");
                (format!("dot %s, {b} {{batch=0x0, contract=2x1}}"), shape)
            }
            3 | 5 => {
                let (a, b) = (self.input("a", &shape), self.input("b", &shape));
                let function = self.random.pick(&["sigmoid", "sigmoid", "relu", "gelu"]);
                self.before += &format!("%s = {function} {a} : f32{shape:?} from \"/gate\"\n");
                (format!("mul %s, {b}"), shape)
            }
            4 => {
                // What is divided by is at least one half.
                let (a, b) = (self.input("a", &shape), self.input("b", &shape));
                self.before += &format!("%s = sigmoid {b} : f32{shape:?} from \"/divisor\"\n");
                (format!("div {a}, %s"), shape)
            }
            6 => {
                let (a, block) = self.with_block(&shape);
                (format!("mul {a}, {block}"), shape)
            }
            _ => (format!("mul {}, {}", self.input("a", &shape), self.input("b", &shape)), shape),
        }
    }

    fn product(&mut self, class: &str) -> Drawn {
        let mut shape = self.shape();
        let x = self.input("x", &shape);
        let axis = self.random.below(3);
        if class == "cumulative_product" {
            return (format!("cumulative_product {x} {{axis={axis}}}"), shape);
        }
        shape[axis] = 1;
        (format!("reduce_product {x} {{axes=[{axis}], keep=true}}"), shape)
    }

    fn additive(&mut self) -> Drawn {
        let shape = self.shape();
        let op = self.random.pick(&["add", "sub"]);
        match self.random.below(7) {
            0 => (format!("{op} {}, {}", self.input("a", &shape), self.input("b", &shape)), shape),
            1 => {
                let operands = [self.input("a", &shape), self.weight("c", &shape)];
                let first = self.random.below(2);
                (format!("{op} {}, {}", operands[first], operands[1 - first]), shape)
            }
            2 => {
                let kind = self.random.pick(&["sum", "mean"]);
                let axes = self.random.pick(&[&[0][..], &[1, 2], &[2]]);
                let reduced = (0..3).map(|axis| if axes.contains(&axis) { 1 } else { shape[axis] }).collect();
                (format!("reduce_{kind} {} {{axes={axes:?}, keep=true}}", self.input("x", &shape)), reduced)
            }
            3 => {
                let kind = self.random.pick(&["average", "sum"]);
                let (window, stride) = (self.random.within(1, 3), self.random.within(1, 2));
                let size = self.random.within(3, 6);
                let length = (size - window) / stride + 1;
                let x = self.input("x", &[2, 2, size]);
                (format!("pool {x} {{kind={kind}, window=[{window}], stride={stride}}}"), vec![2, 2, length])
            }
            4 => {
                let (a, block) = self.with_block(&shape);
                (format!("{op} {a}, {block}"), shape)
            }
            5 => {
                let axis = self.random.below(3);
                (format!("cumulative_sum {} {{axis={axis}}}", self.input("x", &shape)), shape)
            }
            _ => {
                let (size, wanted) = (self.random.within(2, 4), self.random.within(1, 6));
                let coordinates = self.random.pick(&["half_pixel", "align_corners", "asymmetric"]);
                let x = self.input("x", &[2, 2, size]);
                (format!("resize {x} {{mode=linear, coordinates={coordinates}}}"), vec![2, 2, wanted])
            }
        }
    }

    fn elementwise(&mut self) -> Drawn {
        let shape = self.shape();
        let x = self.input("x", &shape);
        let functions = ["relu", "gelu", "tanh", "sigmoid", "exp", "abs", "softplus", "mish", "erf", "neg", "scale"];
        match self.random.below(4) {
            0 => (format!("mul {x}, {}", self.weight("c", &shape)), shape),
            1 => {
                let divisor = self.random.away_from_zero(&shape);
                (format!("div {x}, {}", self.given("c", &shape, divisor)), shape)
            }
            _ => match self.random.pick(&functions) {
                "scale" => (format!("scale {x} {{by=-0.5}}"), shape),
                function => (format!("{function} {x}"), shape),
            },
        }
    }

    fn movement(&mut self) -> Drawn {
        let shape = self.shape();
        let x = self.input("x", &shape);
        let [a, b, c] = [shape[0], shape[1], shape[2]];
        match self.random.below(7) {
            0 => (format!("reshape {x}"), vec![a * b, c]),
            1 => (format!("transpose {x} {{perm=[2, 0, 1]}}"), vec![c, a, b]),
            2 => (format!("slice {x} {{start=[0, {}, 0]}}", b - 1), vec![a, 1, c]),
            3 => (
                format!("pad {x} {{before=[0, 1, 2], value={}}}", self.random.pick(&["0", "0.5"])),
                vec![a, b + 2, c + 3],
            ),
            4 => (format!("concat {x}, {} {{axis=1}}", self.weight("c", &shape)), vec![a, 2 * b, c]),
            5 => (format!("broadcast {x}"), vec![3, a, b, c]),
            _ => {
                let picked = (0..3).map(|_| self.random.below(c) as f64).collect();
                self.header += "input %i : i64[3]\n";
                self.tensors.insert("i".into(), ndarray::ArrayD::from_shape_vec(vec![3], picked).unwrap());
                (format!("gather {x}, %i {{axis=2}}"), vec![a, b, 3])
            }
        }
    }

    fn select(&mut self) -> Drawn {
        let shape = self.shape();
        match self.random.below(4) {
            0 => {
                let (window, stride) = (self.random.within(1, 3), self.random.within(1, 2));
                let size = self.random.within(3, 6);
                let length = (size - window) / stride + 1;
                let x = self.input("x", &[2, 2, size, size]);
                let attributes = format!("{{kind=max, window=[{window}, {window}], stride={stride}}}");
                (format!("pool {x} {attributes}"), vec![2, 2, length, length])
            }
            1 => {
                let kind = self.random.pick(&["max", "min"]);
                let x = self.input("x", &shape);
                (format!("reduce_{kind} {x} {{axes=[1], keep=true}}"), vec![shape[0], 1, shape[2]])
            }
            2 => {
                let op = self.random.pick(&["max", "min"]);
                let second = if self.random.one_in(2) { self.input("b", &shape) } else { self.weight("c", &shape) };
                (format!("{op} {}, {second}", self.input("a", &shape)), shape)
            }
            _ => {
                let (a, c) = (self.input("a", &shape), self.weight("c", &shape));
                self.before += &format!("%low = less {a}, {c} : bool{shape:?}\n");
                let second = if self.random.one_in(2) { self.input("b", &shape) } else { c };
                (format!("where %low, {a}, {second}"), shape)
            }
        }
    }

    fn normalize(&mut self) -> Drawn {
        let (channels, length) = (2 * self.random.within(1, 2), self.random.within(1, 5));
        let shape = vec![2, channels, length];
        let x = self.input("x", &shape);
        let by_channel = self.random.one_in(2);
        let w = self.weight("w", &[if by_channel { channels } else { length }]);
        match (by_channel, self.random.one_in(3)) {
            (true, _) => {
                let bias = self.weight("b", &[channels]);
                let groups = self.random.pick(&[1, 2, channels]);
                (format!("group_norm {x}, {w}, {bias} {{groups={groups}, eps=1e-3}}"), shape)
            }
            (false, true) => (format!("rms_norm {x}, {w} {{axis=2, eps=1e-3}}"), shape),
            (false, false) => {
                let bias = self.weight("b", &[length]);
                (format!("layer_norm {x}, {w}, {bias} {{axis=2, eps=1e-3}}"), shape)
            }
        }
    }

    /// Logits as they are, of a size to be peaked, or masked, one row in full.
    fn softmax(&mut self, op: &str) -> Drawn {
        let shape = self.shape();
        let x = self.input("x", &shape);
        let x = match self.random.below(if op == "softmax" { 3 } else { 2 }) {
            0 => x,
            1 => {
                self.before += &format!("%logits = scale {x} {{by=30}} : f32{shape:?} from \"/scale\"\n");
                "%logits".to_string()
            }
            _ => {
                let low = self.random.pick(&[f64::NEG_INFINITY, f64::from(f32::MIN), -1e9]);
                let mut mask = ndarray::ArrayD::zeros(shape.clone());
                mask.iter_mut().for_each(|cell| *cell = if self.random.one_in(3) { low } else { 0.0 });
                if low.is_finite() {
                    mask.index_axis_mut(ndarray::Axis(0), 0).fill(low);
                } else {
                    mask.index_axis_mut(ndarray::Axis(2), 0).fill(0.0);
                }
                let mask = self.given("mask", &shape, mask);
                self.before += &format!("%logits = add {x}, {mask} : f32{shape:?} from \"/mask\"\n");
                "%logits".to_string()
            }
        };
        (format!("{op} {x} {{axis=2}}"), shape)
    }
}
