//! Element-wise operations: functions of one tensor, their derivatives, arithmetic of two, comparison, selection, cast.

use super::{Class, arity, expect_floats, expect_numbers, expect_shape};
use crate::attribute::{AttributeReader, Attributes};
use crate::types::{DType, Float, TensorType};

/// An element-wise operation. All operands have the shape of the result.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Elementwise {
    /// `f(x)`.
    Unary(Unary),
    /// `f'(x)`; at a kink the slope on the side that autograd frameworks take (0 for ReLU at 0).
    Derivative(Unary),
    /// `f(x)/x`, the factor by which a coefficient passes an activation (docs/rule-book.md section 5); `f'(0)` where
    /// `x = 0`.
    Secant(Unary),
    /// `f(a, b)`.
    Binary(Binary),
    /// `a < b` and its kin; the result is `bool`.
    Compare(Compare),
    /// `a` where the condition (operand 0, `bool`) holds, else `b`.
    Where,
    /// The same numbers in another element type.
    Cast(DType),
    /// The nearest numbers that the named narrower floating-point type holds, in the element type of the operand. Binding
    /// writes it where a program rounds to a type that is stored widened.
    Narrow(DType),
    /// The same bits as another element type of the same width.
    BitCast {
        /// The element type of the operand.
        from: DType,
        /// The element type of the result.
        to: DType,
    },
    /// The integers that stand for numbers: `round(x / scale) + zero`, ties to even, saturated. Operands are `x`, the
    /// scale of its type, and the integer that stands for 0, whose type the result has.
    Quantize,
    /// The numbers that integers stand for: `(q − zero)·scale`. Operands are `q`, the scale, whose type the result has,
    /// and the integer that stands for 0.
    Dequantize,
}

/// A function of one number with up to two parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Unary {
    /// Which function.
    pub function: Function,
    /// Its parameters, in the order of [`Function::parameters`]; unused ones are 0.
    pub parameters: [Float; 2],
}

/// Functions of one number. `p` and `q` stand for the parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Function {
    /// `max(x, 0)`, the activation.
    Relu,
    /// `x` where `x ≥ 0`, else `p·x`.
    LeakyRelu,
    /// `x` where `x ≥ 0`, else `p·(eˣ − 1)`.
    Elu,
    /// `q·x` where `x > 0`, else `q·p·(eˣ − 1)`.
    Selu,
    /// `max(x, 0) + min(0, p·(e^(x/p) − 1))`.
    Celu,
    /// `x` where `x > p`, else 0.
    ThresholdedRelu,
    /// `1 / (1 + e⁻ˣ)`.
    Sigmoid,
    /// `min(max(p·x + q, 0), 1)`.
    HardSigmoid,
    /// `x · min(max(x/6 + ½, 0), 1)`.
    HardSwish,
    /// `x · sigmoid(p·x)`.
    Swish,
    /// `x · tanh(softplus(x))`.
    Mish,
    /// `x/2 · (1 + erf(x/√2))`.
    Gelu,
    /// `x/2 · (1 + tanh(√(2/π)(x + 0.044715x³)))`.
    GeluTanh,
    /// Hyperbolic tangent.
    Tanh,
    /// `ln(1 + eˣ)`.
    Softplus,
    /// `x / (1 + |x|)`.
    Softsign,
    /// Error function.
    Erf,
    /// Exponential.
    Exp,
    /// Natural logarithm.
    Log,
    /// Square root.
    Sqrt,
    /// `1/x`.
    Reciprocal,
    /// `x^p`.
    Pow,
    /// `|x|`.
    Abs,
    /// `−x`.
    Neg,
    /// `−1`, `0` or `1`.
    Sign,
    /// Largest integer not above `x`.
    Floor,
    /// Smallest integer not below `x`.
    Ceil,
    /// Nearest integer, ties to even.
    Round,
    /// Sine.
    Sin,
    /// Cosine.
    Cos,
    /// Tangent.
    Tan,
    /// Inverse sine.
    Asin,
    /// Inverse cosine.
    Acos,
    /// Inverse tangent.
    Atan,
    /// Hyperbolic sine.
    Sinh,
    /// Hyperbolic cosine.
    Cosh,
    /// Inverse hyperbolic sine.
    Asinh,
    /// Inverse hyperbolic cosine.
    Acosh,
    /// Inverse hyperbolic tangent.
    Atanh,
    /// `x + q` where `x < −p`, `x − q` where `x > p`, else 0.
    Shrink,
    /// `min(max(x, p), q)`.
    Clip,
    /// `p·x`.
    Scale,
    /// `x + p`.
    Shift,
    /// `a⁺ = max(a, 0)` (docs/rule-book.md section 1).
    Positive,
    /// `a⁻ = min(a, 0)` (docs/rule-book.md section 1).
    Negative,
    /// `S(z) = z + p·sg(z)`, `sg(0) = +1` (docs/rule-book.md section 1).
    Stabilise,
    /// `p·sg(z)`: what [`Function::Stabilise`] adds.
    Stabiliser,
    /// Truth value negated; of an integer every bit.
    Not,
    /// Whether `x` is not a number; the result is `bool`.
    IsNan,
    /// `x`, held constant: neither relevance nor a gradient passes.
    StopGradient,
}

/// A function's name in the text format and its parameters with their defaults.
type FunctionDef = (Function, &'static str, &'static [(&'static str, Option<f64>)]);

/// Every function; the one place that names them.
const FUNCTIONS: [FunctionDef; 50] = [
    (Function::Relu, "relu", &[]),
    (Function::LeakyRelu, "leaky_relu", &[("alpha", None)]),
    (Function::Elu, "elu", &[("alpha", Some(1.0))]),
    (Function::Selu, "selu", &[("alpha", None), ("gamma", None)]),
    (Function::Celu, "celu", &[("alpha", Some(1.0))]),
    (Function::ThresholdedRelu, "thresholded_relu", &[("alpha", Some(1.0))]),
    (Function::Sigmoid, "sigmoid", &[]),
    (Function::HardSigmoid, "hard_sigmoid", &[("alpha", None), ("beta", None)]),
    (Function::HardSwish, "hard_swish", &[]),
    (Function::Swish, "swish", &[("beta", Some(1.0))]),
    (Function::Mish, "mish", &[]),
    (Function::Gelu, "gelu", &[]),
    (Function::GeluTanh, "gelu_tanh", &[]),
    (Function::Tanh, "tanh", &[]),
    (Function::Softplus, "softplus", &[]),
    (Function::Softsign, "softsign", &[]),
    (Function::Erf, "erf", &[]),
    (Function::Exp, "exp", &[]),
    (Function::Log, "log", &[]),
    (Function::Sqrt, "sqrt", &[]),
    (Function::Reciprocal, "reciprocal", &[]),
    (Function::Pow, "pow_by", &[("exponent", None)]),
    (Function::Abs, "abs", &[]),
    (Function::Neg, "neg", &[]),
    (Function::Sign, "sign", &[]),
    (Function::Floor, "floor", &[]),
    (Function::Ceil, "ceil", &[]),
    (Function::Round, "round", &[]),
    (Function::Sin, "sin", &[]),
    (Function::Cos, "cos", &[]),
    (Function::Tan, "tan", &[]),
    (Function::Asin, "asin", &[]),
    (Function::Acos, "acos", &[]),
    (Function::Atan, "atan", &[]),
    (Function::Sinh, "sinh", &[]),
    (Function::Cosh, "cosh", &[]),
    (Function::Asinh, "asinh", &[]),
    (Function::Acosh, "acosh", &[]),
    (Function::Atanh, "atanh", &[]),
    (Function::Shrink, "shrink", &[("limit", None), ("by", None)]),
    (Function::Clip, "clip", &[("low", Some(f64::NEG_INFINITY)), ("high", Some(f64::INFINITY))]),
    (Function::Scale, "scale", &[("by", None)]),
    (Function::Shift, "shift", &[("by", None)]),
    (Function::Positive, "positive", &[]),
    (Function::Negative, "negative", &[]),
    (Function::Stabilise, "stabilise", &[("eps", None)]),
    (Function::Stabiliser, "stabiliser", &[("eps", None)]),
    (Function::Not, "not", &[]),
    (Function::IsNan, "is_nan", &[]),
    (Function::StopGradient, "stop_gradient", &[]),
];

impl Function {
    /// The function's word in the text format.
    pub fn name(self) -> &'static str {
        self.definition().map_or("", |(_, name, _)| name)
    }

    /// The function of that name.
    pub fn from_name(name: &str) -> Option<Function> {
        FUNCTIONS.iter().find(|(_, candidate, _)| *candidate == name).map(|(function, _, _)| *function)
    }

    /// The parameters' names and defaults.
    pub fn parameters(self) -> &'static [(&'static str, Option<f64>)] {
        self.definition().map_or(&[], |(_, _, parameters)| parameters)
    }

    fn definition(self) -> Option<&'static FunctionDef> {
        FUNCTIONS.iter().find(|(function, _, _)| *function == self)
    }

    /// Every function.
    pub fn all() -> impl Iterator<Item = Function> {
        FUNCTIONS.iter().map(|(function, _, _)| *function)
    }

    /// Whether the function is constant between jumps, so that nothing flows through it.
    pub fn is_step(self) -> bool {
        matches!(
            self,
            Function::Sign | Function::Floor | Function::Ceil | Function::Round | Function::Not | Function::IsNan
        )
    }

    /// Whether `f(0) = 0` for the given parameters, so that `f(x)/x` has a limit at 0.
    pub fn vanishes_at_zero(self, parameters: [Float; 2]) -> bool {
        match self {
            Function::Sigmoid
            | Function::Softplus
            | Function::Exp
            | Function::Log
            | Function::Reciprocal
            | Function::Cos
            | Function::Acos
            | Function::Cosh
            | Function::Acosh
            | Function::Stabilise
            | Function::Stabiliser
            | Function::Not
            | Function::IsNan
            | Function::Sqrt => false,
            Function::HardSigmoid => parameters[1].0 <= 0.0,
            Function::Clip => parameters[0].0 <= 0.0 && parameters[1].0 >= 0.0,
            Function::Pow => parameters[0].0 >= 1.0,
            Function::Shift => parameters[0].0 == 0.0,
            Function::Shrink => parameters[0].0 >= 0.0,
            _ => true,
        }
    }
}

impl Unary {
    /// A function without parameters.
    pub fn plain(function: Function) -> Unary {
        Unary { function, parameters: [Float(0.0); 2] }
    }

    /// A function with one parameter.
    pub fn with(function: Function, parameter: f64) -> Unary {
        Unary { function, parameters: [Float(parameter), Float(0.0)] }
    }

    /// A function with two parameters.
    pub fn with2(function: Function, first: f64, second: f64) -> Unary {
        Unary { function, parameters: [Float(first), Float(second)] }
    }

    fn write(&self, attributes: &mut Attributes) {
        for ((name, default), value) in self.function.parameters().iter().zip(self.parameters) {
            if default.map(Float) != Some(value) {
                attributes.float(name, value);
            }
        }
    }

    fn read(function: Function, reader: &mut AttributeReader) -> Result<Unary, String> {
        let mut parameters = [Float(0.0); 2];
        for ((name, default), slot) in function.parameters().iter().zip(&mut parameters) {
            *slot = reader.float_or(name, *default)?;
        }
        Ok(Unary { function, parameters })
    }
}

/// Functions of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a − b`.
    Sub,
    /// `a · b`.
    Mul,
    /// `a / b`; integers truncate.
    Div,
    /// `a / b`, and 0 where `b` is 0 or next to it: where it is a denormal number, which has lost its digits, or where
    /// the quotient is more than the type holds although `a` is not.
    Ratio,
    /// `a · b`, and 0 where `b = 0`, whatever `a` is: a coefficient of zero carries no relevance (docs/rule-book.md
    /// section 2).
    Weigh,
    /// `a ^ b`.
    Pow,
    /// The smaller.
    Min,
    /// The larger.
    Max,
    /// Remainder with the sign of the divisor.
    Mod,
    /// Remainder with the sign of the dividend.
    Fmod,
    /// `a` where `a ≥ 0`, else `b·a`.
    Prelu,
    /// `f'(a)` of [`Binary::Prelu`] with respect to `a`, which is also `f(a)/a`: 1 where `a ≥ 0`, else `b`.
    PreluSlope,
    /// Both; of integers bit by bit.
    And,
    /// Either; of integers bit by bit.
    Or,
    /// One alone; of integers bit by bit.
    Xor,
    /// The bits of `a` moved by `b` places towards the highest; 0 where `b` is negative, or the width or more.
    ShiftLeft,
    /// The bits of `a` moved by `b` places towards the lowest, behind copies of the sign; where `b` is negative, or the
    /// width or more, only these are left.
    ShiftRight,
}

const BINARIES: [(Binary, &str); 18] = [
    (Binary::Add, "add"),
    (Binary::Sub, "sub"),
    (Binary::Mul, "mul"),
    (Binary::Div, "div"),
    (Binary::Ratio, "ratio"),
    (Binary::Weigh, "weigh"),
    (Binary::Pow, "pow"),
    (Binary::Min, "min"),
    (Binary::Max, "max"),
    (Binary::Mod, "mod"),
    (Binary::Fmod, "fmod"),
    (Binary::Prelu, "prelu"),
    (Binary::PreluSlope, "prelu_slope"),
    (Binary::And, "and"),
    (Binary::Or, "or"),
    (Binary::Xor, "xor"),
    (Binary::ShiftLeft, "shift_left"),
    (Binary::ShiftRight, "shift_right"),
];

/// Comparisons of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compare {
    /// `a = b`.
    Equal,
    /// `a < b`.
    Less,
    /// `a ≤ b`.
    LessOrEqual,
    /// `a > b`.
    Greater,
    /// `a ≥ b`.
    GreaterOrEqual,
}

const COMPARES: [(Compare, &str); 5] = [
    (Compare::Equal, "equal"),
    (Compare::Less, "less"),
    (Compare::LessOrEqual, "less_or_equal"),
    (Compare::Greater, "greater"),
    (Compare::GreaterOrEqual, "greater_or_equal"),
];

impl Elementwise {
    pub(super) fn mnemonics() -> impl Iterator<Item = &'static str> {
        let binaries = BINARIES.iter().map(|(_, name)| *name);
        let compares = COMPARES.iter().map(|(_, name)| *name);
        let others = ["derivative", "secant", "where", "cast", "narrow", "bit_cast", "quantize", "dequantize"];
        Function::all().map(Function::name).chain(binaries).chain(compares).chain(others)
    }

    /// The word in the text format.
    pub fn mnemonic(&self) -> &'static str {
        match self {
            Elementwise::Unary(unary) => unary.function.name(),
            Elementwise::Derivative(_) => "derivative",
            Elementwise::Secant(_) => "secant",
            Elementwise::Binary(binary) => {
                BINARIES.iter().find(|(candidate, _)| candidate == binary).map_or("", |(_, name)| name)
            }
            Elementwise::Compare(compare) => {
                COMPARES.iter().find(|(candidate, _)| candidate == compare).map_or("", |(_, name)| name)
            }
            Elementwise::Where => "where",
            Elementwise::Cast(_) => "cast",
            Elementwise::Narrow(_) => "narrow",
            Elementwise::BitCast { .. } => "bit_cast",
            Elementwise::Quantize => "quantize",
            Elementwise::Dequantize => "dequantize",
        }
    }

    pub(super) fn write_attributes(&self, attributes: &mut Attributes) {
        match self {
            Elementwise::Unary(unary) => unary.write(attributes),
            Elementwise::Derivative(unary) | Elementwise::Secant(unary) => {
                attributes.word("of", unary.function.name());
                unary.write(attributes);
            }
            Elementwise::Narrow(dtype) => attributes.word("to", dtype.name()),
            Elementwise::BitCast { from, .. } => attributes.word("from", from.name()),
            Elementwise::Binary(_)
            | Elementwise::Compare(_)
            | Elementwise::Where
            | Elementwise::Cast(_)
            | Elementwise::Quantize
            | Elementwise::Dequantize => {}
        }
    }

    pub(super) fn read(
        word: &str,
        reader: &mut AttributeReader,
        result: &TensorType,
    ) -> Result<Option<Elementwise>, String> {
        if let Some(function) = Function::from_name(word) {
            return Unary::read(function, reader).map(|unary| Some(Elementwise::Unary(unary)));
        }
        if let Some((binary, _)) = BINARIES.iter().find(|(_, name)| *name == word) {
            return Ok(Some(Elementwise::Binary(*binary)));
        }
        if let Some((compare, _)) = COMPARES.iter().find(|(_, name)| *name == word) {
            return Ok(Some(Elementwise::Compare(*compare)));
        }
        let of = |reader: &mut AttributeReader| {
            let name = reader.word("of")?;
            Unary::read(Function::from_name(&name).ok_or_else(|| format!("unknown function `{name}`"))?, reader)
        };
        Ok(match word {
            "derivative" => Some(Elementwise::Derivative(of(reader)?)),
            "secant" => Some(Elementwise::Secant(of(reader)?)),
            "where" => Some(Elementwise::Where),
            "cast" => Some(Elementwise::Cast(result.dtype)),
            "narrow" => Some(Elementwise::Narrow(named_type(&reader.word("to")?)?)),
            "bit_cast" => Some(Elementwise::BitCast { from: named_type(&reader.word("from")?)?, to: result.dtype }),
            "quantize" => Some(Elementwise::Quantize),
            "dequantize" => Some(Elementwise::Dequantize),
            _ => None,
        })
    }

    pub(super) fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, String> {
        match self {
            Elementwise::Unary(Unary { function: Function::Not, .. }) => {
                let [x] = arity(operands)?;
                if x.dtype.is_float() { Err(format!("takes bool or integers, not {}", x.dtype)) } else { Ok(x.clone()) }
            }
            Elementwise::Unary(Unary { function: Function::IsNan, .. }) => {
                let [x] = arity(operands)?;
                Ok(x.with_dtype(DType::Bool))
            }
            Elementwise::Unary(_) | Elementwise::Derivative(_) | Elementwise::Secant(_) => {
                let [x] = arity(operands)?;
                expect_numbers(x).map(|()| x.clone())
            }
            Elementwise::Binary(binary) => {
                let [a, b] = arity(operands)?;
                same_type(a, b)?;
                match (binary, a.dtype) {
                    (Binary::And | Binary::Or | Binary::Xor, dtype) if dtype.is_float() => {
                        return Err(format!("takes bool or integers, not {dtype}"));
                    }
                    (Binary::ShiftLeft | Binary::ShiftRight, dtype) if !dtype.is_integer() => {
                        return Err(format!("takes integers, not {dtype}"));
                    }
                    (Binary::And | Binary::Or | Binary::Xor, _) => {}
                    _ => expect_numbers(a)?,
                }
                Ok(a.clone())
            }
            Elementwise::Compare(_) => {
                let [a, b] = arity(operands)?;
                same_type(a, b).map(|()| a.with_dtype(DType::Bool))
            }
            Elementwise::Where => {
                let [condition, a, b] = arity(operands)?;
                if condition.dtype != DType::Bool {
                    return Err(format!("condition must be bool, not {}", condition.dtype));
                }
                expect_shape("the condition", &condition.shape, &a.shape)?;
                same_type(a, b).map(|()| a.clone())
            }
            Elementwise::Cast(dtype) => {
                let [x] = arity(operands)?;
                Ok(x.with_dtype(*dtype))
            }
            Elementwise::Narrow(dtype) => {
                let [x] = arity(operands)?;
                expect_floats(x)?;
                if dtype.is_float() { Ok(x.clone()) } else { Err(format!("rounds to {dtype}")) }
            }
            Elementwise::BitCast { from, to } => {
                let [x] = arity(operands)?;
                if x.dtype != *from || from.size() != to.size() {
                    return Err(format!("takes the bits of {} as {to}", x.dtype));
                }
                Ok(x.with_dtype(*to))
            }
            Elementwise::Quantize => {
                let [x, scale, zero] = arity(operands)?;
                expect_floats(x)?;
                same_type(x, scale)?;
                expect_integers(zero)?;
                expect_shape("the zero point", &zero.shape, &x.shape).map(|()| zero.clone())
            }
            Elementwise::Dequantize => {
                let [q, scale, zero] = arity(operands)?;
                expect_integers(q)?;
                same_type(q, zero)?;
                expect_floats(scale)?;
                expect_shape("the scale", &scale.shape, &q.shape).map(|()| scale.clone())
            }
        }
    }

    pub(super) fn class(&self, active: &[bool]) -> Class {
        let both = active.iter().filter(|&&operand| operand).count() > 1;
        match self {
            Elementwise::Unary(unary) if unary.function.is_step() => Class::Opaque("a step function has no slope"),
            Elementwise::Unary(Unary { function: Function::StopGradient, .. }) => Class::Opaque("it is held constant"),
            Elementwise::Unary(_) => Class::Elementwise,
            Elementwise::Derivative(_) | Elementwise::Secant(_) => Class::Opaque("belongs to the relevance region"),
            Elementwise::Binary(Binary::Add | Binary::Sub) => Class::Additive,
            Elementwise::Binary(Binary::Min | Binary::Max) => Class::Select,
            Elementwise::Binary(Binary::And | Binary::Or | Binary::Xor) => Class::Opaque("truth values carry nothing"),
            Elementwise::Binary(Binary::ShiftLeft | Binary::ShiftRight) => Class::Opaque("bits carry nothing"),
            Elementwise::Binary(Binary::Mul | Binary::Div) if both => Class::Bilinear,
            Elementwise::Binary(Binary::Prelu) if active.get(1) == Some(&true) => Class::Named("active_slope"),
            Elementwise::Binary(Binary::Pow) if active.get(1) == Some(&true) => Class::Named("active_exponent"),
            Elementwise::Binary(Binary::Div) if active.get(1) == Some(&true) => Class::Elementwise,
            Elementwise::Binary(Binary::Mod | Binary::Fmod) if active.get(1) == Some(&true) => {
                Class::Named("remainder")
            }
            Elementwise::Binary(_) => Class::Elementwise,
            Elementwise::Compare(_) => Class::Opaque("a comparison is a step"),
            Elementwise::Where => Class::Select,
            Elementwise::BitCast { .. } => Class::Opaque("bits carry nothing"),
            Elementwise::Cast(_) | Elementwise::Narrow(_) => Class::Movement,
            Elementwise::Quantize | Elementwise::Dequantize => Class::Elementwise,
        }
    }
}

fn expect_integers(x: &TensorType) -> Result<(), String> {
    if x.dtype.is_integer() { Ok(()) } else { Err(format!("takes integers, not {}", x.dtype)) }
}

fn named_type(name: &str) -> Result<DType, String> {
    DType::from_name(name).ok_or_else(|| format!("unknown element type `{name}`"))
}

fn same_type(a: &TensorType, b: &TensorType) -> Result<(), String> {
    if a == b { Ok(()) } else { Err(format!("operands differ: {a} and {b}")) }
}
