//! The closed set of primitives, by family.
//!
//! Each family file holds the operations' definition, their attributes in the text format, their result types and
//! their relevance class. Operands are never broadcast implicitly: shapes match, or a `broadcast` stands in between, so
//! that every rule sees each copy that is made.

pub mod control;
pub mod elementwise;
pub mod linear;
pub mod movement;
pub mod normalize;
pub mod pool;
pub mod reduce;
pub mod scan;
pub mod select;
pub mod source;
pub mod taps;

use std::collections::BTreeSet;

use crate::attribute::{AttributeReader, Attributes};
use crate::dim::{Dim, DimError};
use crate::types::{DType, TensorType};

pub use control::Control;
pub use elementwise::{Binary, Compare, Elementwise, Function, Unary};
pub use linear::{Dot, Geometry, Linear};
pub use movement::Movement;
pub use normalize::Normalize;
pub use pool::{Interpolation, Pool, PoolKind, Resize, Window};
pub use reduce::{Reduce, ReduceKind};
pub use scan::Scan;
pub use select::Select;
pub use source::{Literal, Source, WeightPlace};

/// A primitive operation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Op {
    /// A value that comes from outside: graph input, weight, literal, counter.
    Source(Source),
    /// The value of a forward tensor, delivered to the relevance region.
    Promise,
    /// One element of each operand gives one element of the result.
    Elementwise(Elementwise),
    /// Contraction and convolution.
    Linear(Linear),
    /// Reduction over axes.
    Reduce(Reduce),
    /// Elements change place, are copied, dropped or set among constants.
    Movement(Movement),
    /// Elements are chosen by index or value.
    Select(Select),
    /// Sliding windows and interpolation.
    Pool(Pool),
    /// Softmax and normalisations.
    Normalize(Normalize),
    /// Cumulative operations.
    Scan(Scan),
    /// Nested graphs.
    Control(Control),
}

/// How relevance passes an operation; rules declare which classes they serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Linear in operand `input` with weight `weight`; `bias` is its optional third operand.
    Linear {
        /// The active operand.
        input: usize,
        /// The constant operand.
        weight: usize,
        /// The added constant.
        bias: Option<usize>,
    },
    /// A product or quotient of two activations.
    Bilinear,
    /// Linear without parameters: sums, means, average pooling, resizing, cumulative sums.
    Additive,
    /// A function of one active operand, element by element.
    Elementwise,
    /// An index map with an exact inverse.
    Movement,
    /// A winner or a routing.
    Select,
    /// A normalisation by a statistic of its own input.
    Normalize,
    /// One operation that rules serve by name.
    Named(&'static str),
    /// Nothing flows, and why.
    Opaque(&'static str),
}

impl Class {
    /// Every word that [`Class::name`] can give.
    pub const NAMES: [&'static str; 19] = [
        "linear",
        "bilinear",
        "additive",
        "elementwise",
        "movement",
        "select",
        "normalize",
        "opaque",
        "softmax",
        "log_softmax",
        "batch_norm",
        "reduce_product",
        "cumulative_product",
        "active_bias",
        "active_slope",
        "active_exponent",
        "remainder",
        "loop",
        "cond",
    ];

    /// The class's name as composites and reports spell it.
    pub fn name(self) -> &'static str {
        match self {
            Class::Linear { .. } => "linear",
            Class::Bilinear => "bilinear",
            Class::Additive => "additive",
            Class::Elementwise => "elementwise",
            Class::Movement => "movement",
            Class::Select => "select",
            Class::Normalize => "normalize",
            Class::Named(name) => name,
            Class::Opaque(_) => "opaque",
        }
    }
}

/// Calls one method on whichever family an operation belongs to.
macro_rules! each_family {
    ($op:expr, $family:ident => $call:expr, $promise:expr) => {
        match $op {
            Op::Promise => $promise,
            Op::Source($family) => $call,
            Op::Elementwise($family) => $call,
            Op::Linear($family) => $call,
            Op::Reduce($family) => $call,
            Op::Movement($family) => $call,
            Op::Select($family) => $call,
            Op::Pool($family) => $call,
            Op::Normalize($family) => $call,
            Op::Scan($family) => $call,
            Op::Control($family) => $call,
        }
    };
}

impl Op {
    /// The operation's word in the text format.
    pub fn mnemonic(&self) -> &'static str {
        each_family!(self, family => family.mnemonic(), "promise")
    }

    /// The family's name, as composites select by it.
    pub fn family(&self) -> &'static str {
        match self {
            Op::Source(_) => "source",
            Op::Promise => "promise",
            Op::Elementwise(_) => "elementwise",
            Op::Linear(_) => "linear",
            Op::Reduce(_) => "reduce",
            Op::Movement(_) => "movement",
            Op::Select(_) => "select",
            Op::Pool(_) => "pool",
            Op::Normalize(_) => "normalize",
            Op::Scan(_) => "scan",
            Op::Control(_) => "control",
        }
    }

    /// The attributes that the text format prints; what the result type tells is not among them.
    pub fn attributes(&self) -> Attributes {
        let mut attributes = Attributes::default();
        each_family!(self, family => family.write_attributes(&mut attributes), ());
        attributes
    }

    /// Every word that [`Op::mnemonic`] can give, in no order.
    pub fn mnemonics() -> impl Iterator<Item = &'static str> {
        let others = ["input", "weight", "const", "iota", "size", "noise", "promise", "dot", "conv", "conv_transpose"];
        let others = others.into_iter().chain(["reshape", "transpose", "slice", "pad", "concat", "broadcast"]);
        let others =
            others.chain(["gather", "scatter_add", "argmax", "argmin", "top_k", "one_hot", "non_max_suppression"]);
        let others = others.chain(["non_zero", "lex_sort"]);
        let others = others.chain(["pool", "pool_transpose", "pool_argmax", "resize", "resize_transpose"]);
        let others = others.chain(["cumulative_sum", "cumulative_product"]);
        let others = others.chain(["softmax", "log_softmax", "layer_norm", "rms_norm", "group_norm", "batch_norm"]);
        others.chain(["loop", "while", "cond"]).chain(Elementwise::mnemonics()).chain(Reduce::mnemonics())
    }

    /// Every word that [`Op::family`] can give.
    pub const FAMILIES: [&'static str; 11] = [
        "source",
        "promise",
        "elementwise",
        "linear",
        "reduce",
        "movement",
        "select",
        "pool",
        "normalize",
        "scan",
        "control",
    ];

    /// The operation called `mnemonic`, from its attributes and its declared result types.
    ///
    /// # Errors
    /// An unknown word, and attributes that are missing, ill-typed or unknown.
    pub fn read(mnemonic: &str, attributes: Attributes, results: &[TensorType]) -> Result<Op, String> {
        let mut reader = AttributeReader::new(attributes);
        let op = Op::read_family(mnemonic, &mut reader, results)?;
        reader.finish()?;
        op.ok_or_else(|| format!("unknown operation `{mnemonic}`"))
    }

    fn read_family(word: &str, reader: &mut AttributeReader, results: &[TensorType]) -> Result<Option<Op>, String> {
        if word == "promise" {
            return Ok(Some(Op::Promise));
        }
        let Some(result) = results.first() else { return Err("an operation has at least one result".into()) };
        if let Some(op) = Elementwise::read(word, reader, result)? {
            return Ok(Some(Op::Elementwise(op)));
        }
        if let Some(op) = Linear::read(word, reader, result)? {
            return Ok(Some(Op::Linear(op)));
        }
        if let Some(op) = Reduce::read(word, reader)? {
            return Ok(Some(Op::Reduce(op)));
        }
        if let Some(op) = Movement::read(word, reader, result)? {
            return Ok(Some(Op::Movement(op)));
        }
        if let Some(op) = Select::read(word, reader, result)? {
            return Ok(Some(Op::Select(op)));
        }
        if let Some(op) = Pool::read(word, reader, result)? {
            return Ok(Some(Op::Pool(op)));
        }
        if let Some(op) = Normalize::read(word, reader)? {
            return Ok(Some(Op::Normalize(op)));
        }
        if let Some(op) = Scan::read(word, reader)? {
            return Ok(Some(Op::Scan(op)));
        }
        Ok(Source::read(word, reader, result)?.map(Op::Source))
    }

    /// The result types for the given operand types.
    ///
    /// # Errors
    /// The reason why the operands do not fit, as half a sentence.
    pub fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, String> {
        match self {
            Op::Promise => {
                let [value] = arity(operands)?;
                Ok(vec![value.clone()])
            }
            Op::Source(op) => op.infer(operands).map(|ty| vec![ty]),
            Op::Elementwise(op) => op.infer(operands).map(|ty| vec![ty]),
            Op::Linear(op) => op.infer(operands).map(|ty| vec![ty]),
            Op::Reduce(op) => op.infer(operands).map(|ty| vec![ty]),
            Op::Movement(op) => op.infer(operands).map(|ty| vec![ty]),
            Op::Select(op) => op.infer(operands).map(|ty| vec![ty]),
            Op::Pool(op) => op.infer(operands).map(|ty| vec![ty]),
            Op::Normalize(op) => op.infer(operands).map(|ty| vec![ty]),
            Op::Scan(op) => op.infer(operands).map(|ty| vec![ty]),
            Op::Control(op) => op.infer(operands),
        }
    }

    /// How relevance passes, given which operands are active.
    pub fn class(&self, active: &[bool]) -> Class {
        match self {
            Op::Source(_) => Class::Opaque("a source has no operand to give relevance to"),
            Op::Promise => Class::Opaque("a promise belongs to the relevance region"),
            Op::Elementwise(op) => op.class(active),
            Op::Linear(op) => op.class(active),
            Op::Reduce(op) => op.class(),
            Op::Movement(_) => Class::Movement,
            Op::Select(op) => op.class(),
            Op::Pool(op) => op.class(),
            Op::Normalize(op) => op.class(),
            Op::Scan(op) => op.class(),
            Op::Control(op) => op.class(),
        }
    }

    /// The operation with every dimension in its attributes mapped, as binding and substitution need it; nested graphs
    /// stay as they are.
    ///
    /// # Errors
    /// What `map` returns.
    pub fn map_dims(&self, map: &mut dyn FnMut(&Dim) -> Result<Dim, DimError>) -> Result<Op, DimError> {
        Ok(match self {
            Op::Linear(op) => Op::Linear(op.map_dims(map)?),
            Op::Movement(op) => Op::Movement(op.map_dims(map)?),
            Op::Select(op) => Op::Select(op.map_dims(map)?),
            Op::Pool(op) => Op::Pool(op.map_dims(map)?),
            Op::Source(op) => Op::Source(op.map_dims(map)?),
            Op::Normalize(op) => Op::Normalize(op.map_dims(map)?),
            Op::Control(op) => Op::Control(op.map_dims(map)?),
            Op::Promise | Op::Elementwise(_) | Op::Reduce(_) | Op::Scan(_) => self.clone(),
        })
    }

    /// Adds the names of all symbols in the operation's attributes and nested graphs to `into`.
    pub fn symbols(&self, into: &mut BTreeSet<String>) {
        if let Op::Control(control) = self {
            control.bodies().into_iter().for_each(|(_, body)| into.extend(body.symbols()));
        }
        let mut visit = |dim: &Dim| {
            dim.symbols(into);
            Ok(dim.clone())
        };
        // The visit changes nothing and cannot fail.
        let _ = self.map_dims(&mut visit);
    }
}

/// The operands as an array of the expected length.
fn arity<'a, const N: usize>(operands: &[&'a TensorType]) -> Result<[&'a TensorType; N], String> {
    <[&TensorType; N]>::try_from(operands).map_err(|_| format!("takes {N} operands, not {}", operands.len()))
}

/// Checks that the operand has exactly this shape.
fn expect_shape(what: &str, found: &[Dim], wanted: &[Dim]) -> Result<(), String> {
    if found == wanted { Ok(()) } else { Err(format!("{what} has shape {found:?}, expected {wanted:?}")) }
}

/// Checks that elements are numbers, as arithmetic needs them.
fn expect_numbers(x: &TensorType) -> Result<(), String> {
    if x.dtype == DType::Bool { Err("takes numbers, not bool".into()) } else { Ok(()) }
}

/// Checks that elements are floating-point numbers.
fn expect_floats(x: &TensorType) -> Result<(), String> {
    if x.dtype.is_float() { Ok(()) } else { Err(format!("takes floating-point numbers, not {}", x.dtype)) }
}

/// Checks that `axis` exists.
fn expect_axis(axis: usize, rank: usize) -> Result<(), String> {
    if axis < rank { Ok(()) } else { Err(format!("axis {axis} is outside of rank {rank}")) }
}

/// Checks that the axes exist and none is named twice.
fn expect_axes(axes: &[usize], rank: usize) -> Result<(), String> {
    axes.iter().try_for_each(|&axis| expect_axis(axis, rank))?;
    if axes.iter().collect::<BTreeSet<_>>().len() == axes.len() { Ok(()) } else { Err("an axis is named twice".into()) }
}

/// Checks that steps of windows are positive, and that no place they name leaves 31 bits.
fn expect_steps(strides: &[i64], dilations: &[i64], pads: &[Dim]) -> Result<(), String> {
    let far = i64::from(i32::MAX);
    if strides.iter().chain(dilations).any(|&step| !(1..=far).contains(&step)) {
        return Err(format!("stride and dilation must lie between 1 and {far}"));
    }
    match pads.iter().find(|pad| pad.known().is_some_and(|pad| !(-far..=far).contains(&pad))) {
        Some(pad) => Err(format!("a window that spans {pad} places leaves 31 bits")),
        None => Ok(()),
    }
}

/// Maps every dimension of a list.
fn map_all(dims: &[Dim], map: &mut dyn FnMut(&Dim) -> Result<Dim, DimError>) -> Result<Vec<Dim>, DimError> {
    dims.iter().map(map).collect()
}

/// The axes from the third on, which windows slide over.
fn spatial_of(result: &TensorType) -> Vec<Dim> {
    result.shape.get(2..).unwrap_or_default().to_vec()
}
