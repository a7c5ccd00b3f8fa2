//! Small random networks as text, with every relevance class that image networks have.

use crate::funnel::Tensors;
use crate::numbers::{Random, Style};

/// A network from `%x` to `%y` `[2, 3]`.
pub struct Network {
    /// The graph behind its first line.
    pub body: String,
    /// Weights and the input.
    pub tensors: Tensors,
}

/// What a network may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Convolutions, contractions, ReLU, pooling, additions, concatenations and gates.
    Any,
    /// Without biases, and of ReLU, convolution, max pooling and concatenation alone: homogeneous.
    Homogeneous,
}

struct Draft {
    kind: Kind,
    random: Random,
    header: String,
    forward: String,
    tensors: Tensors,
    count: usize,
}

/// A value of shape `[2, channels, size, size]`.
#[derive(Debug, Clone)]
struct Image {
    name: String,
    channels: usize,
    size: usize,
}

impl Image {
    fn shape(&self) -> Vec<usize> {
        vec![2, self.channels, self.size, self.size]
    }
}

impl Draft {
    fn weight(&mut self, shape: &[usize]) -> String {
        self.count += 1;
        let name = format!("w{}", self.count);
        self.header += &format!("weight @{name} : f32{shape:?}\n");
        let tensor = self.random.tensor(shape, Style::Fine);
        self.tensors.insert(name.clone(), tensor);
        format!("@{name}")
    }

    fn node(&mut self, op: &str, channels: usize, size: usize) -> Image {
        self.count += 1;
        let image = Image { name: format!("v{}", self.count), channels, size };
        self.forward += &format!("%{} = {op} : f32{:?} from \"/{}\"\n", image.name, image.shape(), image.name);
        image
    }

    fn bias(&mut self, shape: &[usize]) -> String {
        if self.kind == Kind::Homogeneous || self.random.one_in(3) {
            return String::new();
        }
        format!(", {}", self.weight(shape))
    }

    fn conv(&mut self, x: &Image) -> Image {
        let channels = self.random.within(2, 5);
        let (weight, bias) = (self.weight(&[channels, x.channels, 3, 3]), self.bias(&[channels]));
        let conv = self.node(&format!("conv %{}, {weight}{bias} {{pad=1}}", x.name), channels, x.size);
        self.unary("relu", &conv)
    }

    fn unary(&mut self, function: &str, x: &Image) -> Image {
        self.node(&format!("{function} %{}", x.name), x.channels, x.size)
    }

    fn pool(&mut self, x: &Image) -> Image {
        if x.size < 2 {
            return x.clone();
        }
        let kind = if self.kind == Kind::Homogeneous { "max" } else { self.random.pick(&["max", "average"]) };
        self.node(&format!("pool %{} {{kind={kind}, window=[2, 2], stride=2}}", x.name), x.channels, x.size / 2)
    }

    fn residual(&mut self, x: &Image) -> Image {
        let (weight, bias) = (self.weight(&[x.channels, x.channels, 3, 3]), self.bias(&[x.channels]));
        let branch = self.node(&format!("conv %{}, {weight}{bias} {{pad=1}}", x.name), x.channels, x.size);
        let sum = self.node(&format!("add %{}, %{}", branch.name, x.name), x.channels, x.size);
        self.unary("relu", &sum)
    }

    fn concat(&mut self, x: &Image) -> Image {
        let other = self.conv(x);
        self.node(&format!("concat %{}, %{} {{axis=1}}", x.name, other.name), x.channels + other.channels, x.size)
    }

    /// Squeeze and excite.
    fn gate(&mut self, x: &Image) -> Image {
        let (c, size) = (x.channels, x.size);
        let mean = self.node(&format!("reduce_mean %{} {{axes=[2, 3], keep=true}}", x.name), c, 1);
        let weight = self.weight(&[c, c, 1, 1]);
        let inner = self.node(&format!("conv %{}, {weight}", mean.name), c, 1);
        let open = self.unary("sigmoid", &inner);
        let wide = self.node(&format!("broadcast %{}", open.name), c, size);
        self.node(&format!("mul %{}, %{}", x.name, wide.name), c, size)
    }

    /// A product of two signals.
    fn product(&mut self, x: &Image) -> Image {
        let weight = self.weight(&[x.channels, x.channels, 1, 1]);
        let other = self.node(&format!("conv %{}, {weight}", x.name), x.channels, x.size);
        self.node(&format!("mul %{}, %{}", other.name, x.name), x.channels, x.size)
    }

    fn block(&mut self, x: &Image) -> Image {
        let blocks = if self.kind == Kind::Homogeneous { 3 } else { 6 };
        match self.random.below(blocks) {
            0 => self.conv(x),
            1 => self.pool(x),
            2 => self.concat(x),
            3 => self.residual(x),
            4 => self.gate(x),
            _ => self.product(x),
        }
    }

    fn head(&mut self, x: &Image) {
        let features = x.channels * x.size * x.size;
        let (weight, bias) = (self.weight(&[features, 3]), self.bias(&[3]));
        self.forward += &format!(
            "%flat = reshape %{} : f32[2, {features}] from \"/flat\"\n\
             %y = dot %flat, {weight}{bias} {{contract=1x0}} : f32[2, 3] from \"/head\"\n",
            x.name
        );
    }
}

/// The network of this seed.
pub fn network(kind: Kind, seed: u64) -> Network {
    let (random, tensors) = (Random::new(seed), Tensors::new());
    let mut draft = Draft { kind, random, header: String::new(), forward: String::new(), tensors, count: 0 };
    let x = Image { name: "x".into(), channels: 2, size: draft.random.within(4, 6) };
    let input = draft.random.tensor(&x.shape(), Style::Fine);
    draft.tensors.insert("x".into(), input);
    let mut image = draft.conv(&x);
    for _ in 0..draft.random.within(2, 4) {
        image = draft.block(&image);
    }
    draft.head(&image);
    let body =
        format!("input %x : f32{:?}\n{}forward\n{}result \"output/y\" = %y\n", x.shape(), draft.header, draft.forward);
    Network { body, tensors: draft.tensors }
}
