"""Functions of one number: value, derivative, and whether f(0) = 0. Written from their definitions, in f64."""

import math

import numpy as np

erf = np.vectorize(math.erf, otypes=[np.float64])


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def softplus(x):
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0.0)


def normal_cdf(x):
    return 0.5 * (1.0 + erf(x / math.sqrt(2.0)))


def normal_pdf(x):
    return np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


def tanh_gelu(x, derivative):
    c = math.sqrt(2.0 / math.pi)
    t = np.tanh(c * (x + 0.044715 * x**3))
    if not derivative:
        return 0.5 * x * (1.0 + t)
    return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * c * (1.0 + 3 * 0.044715 * x**2)


def mish(x, derivative):
    t = np.tanh(softplus(x))
    return x * t if not derivative else t + x * (1.0 - t * t) * sigmoid(x)


def step(x):
    return (x > 0).astype(np.float64)


# ONNX stores attributes as f32: the defaults of the specification, rounded so.
F32 = lambda value: float(np.float32(value))
SELU_ALPHA, SELU_GAMMA = F32(1.67326319217681884765625), F32(1.05070102214813232421875)


def elu(x, a):
    return np.where(x > 0, x, a * np.expm1(np.minimum(x, 0.0)))


def elu_slope(x, a):
    return np.where(x > 0, 1.0, a * np.exp(np.minimum(x, 0.0)))


def hard_sigmoid(x, a):
    alpha, beta = F32(a.get("alpha", 0.2)), F32(a.get("beta", 0.5))
    return np.clip(alpha * x + beta, 0.0, 1.0)


def hard_sigmoid_slope(x, a):
    alpha, beta = F32(a.get("alpha", 0.2)), F32(a.get("beta", 0.5))
    inner = alpha * x + beta
    return np.where((inner > 0) & (inner < 1), alpha, 0.0)


def shrink(x, a):
    lambd, bias = F32(a.get("lambd", 0.5)), F32(a.get("bias", 0.0))
    return np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0.0))


def gelu(x, a):
    return tanh_gelu(x, False) if a.get("approximate") == "tanh" else x * normal_cdf(x)


def gelu_slope(x, a):
    return tanh_gelu(x, True) if a.get("approximate") == "tanh" else normal_cdf(x) + x * normal_pdf(x)


def swish(x, a):
    return x * sigmoid(F32(a.get("alpha", 1.0)) * x)


def swish_slope(x, a):
    alpha = F32(a.get("alpha", 1.0))
    s = sigmoid(alpha * x)
    return s + alpha * x * s * (1.0 - s)


def celu(x, a):
    alpha = F32(a.get("alpha", 1.0))
    return np.maximum(x, 0.0) + np.minimum(0.0, alpha * np.expm1(x / alpha))


def celu_slope(x, a):
    return np.where(x > 0, 1.0, np.exp(x / F32(a.get("alpha", 1.0))))


def clip(x, a):
    return np.clip(x, F32(a.get("min", -np.inf)), F32(a.get("max", np.inf)))


def clip_slope(x, a):
    return ((x > F32(a.get("min", -np.inf))) & (x < F32(a.get("max", np.inf)))).astype(np.float64)


# Name: (f, f', f(0) = 0).
FUNCTIONS = {
    "Abs": (lambda x, a: np.abs(x), lambda x, a: np.sign(x), True),
    "Acos": (lambda x, a: np.arccos(x), lambda x, a: -1.0 / np.sqrt(1.0 - x * x), False),
    "Acosh": (lambda x, a: np.arccosh(x), lambda x, a: 1.0 / np.sqrt(x * x - 1.0), False),
    "Asin": (lambda x, a: np.arcsin(x), lambda x, a: 1.0 / np.sqrt(1.0 - x * x), True),
    "Asinh": (lambda x, a: np.arcsinh(x), lambda x, a: 1.0 / np.sqrt(1.0 + x * x), True),
    "Atan": (lambda x, a: np.arctan(x), lambda x, a: 1.0 / (1.0 + x * x), True),
    "Atanh": (lambda x, a: np.arctanh(x), lambda x, a: 1.0 / (1.0 - x * x), True),
    "Celu": (celu, celu_slope, True),
    "Clip": (clip, clip_slope, None),
    "Cos": (lambda x, a: np.cos(x), lambda x, a: -np.sin(x), False),
    "Cosh": (lambda x, a: np.cosh(x), lambda x, a: np.sinh(x), False),
    "Elu": (
        lambda x, a: elu(x, F32(a.get("alpha", 1.0))),
        lambda x, a: elu_slope(x, F32(a.get("alpha", 1.0))),
        True,
    ),
    "Erf": (lambda x, a: erf(x), lambda x, a: 2.0 / math.sqrt(math.pi) * np.exp(-x * x), True),
    "Exp": (lambda x, a: np.exp(x), lambda x, a: np.exp(x), False),
    "Gelu": (gelu, gelu_slope, True),
    "HardSigmoid": (hard_sigmoid, hard_sigmoid_slope, False),
    "HardSwish": (
        lambda x, a: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0),
        lambda x, a: np.where(x <= -3, 0.0, np.where(x >= 3, 1.0, x / 3.0 + 0.5)),
        True,
    ),
    "LeakyRelu": (
        lambda x, a: np.where(x >= 0, x, F32(a.get("alpha", 0.01)) * x),
        lambda x, a: np.where(x >= 0, 1.0, F32(a.get("alpha", 0.01))),
        True,
    ),
    "Log": (lambda x, a: np.log(x), lambda x, a: 1.0 / x, False),
    "Mish": (lambda x, a: mish(x, False), lambda x, a: mish(x, True), True),
    "Neg": (lambda x, a: -x, lambda x, a: -np.ones_like(x), True),
    "Reciprocal": (lambda x, a: 1.0 / x, lambda x, a: -1.0 / (x * x), False),
    "Relu": (lambda x, a: np.maximum(x, 0.0), lambda x, a: step(x), True),
    "Selu": (
        lambda x, a: F32(a.get("gamma", SELU_GAMMA)) * elu(x, F32(a.get("alpha", SELU_ALPHA))),
        lambda x, a: F32(a.get("gamma", SELU_GAMMA)) * elu_slope(x, F32(a.get("alpha", SELU_ALPHA))),
        True,
    ),
    "Shrink": (
        shrink,
        lambda x, a: (np.abs(x) > F32(a.get("lambd", 0.5))).astype(np.float64),
        True,
    ),
    "Sigmoid": (lambda x, a: sigmoid(x), lambda x, a: sigmoid(x) * (1.0 - sigmoid(x)), False),
    "Sin": (lambda x, a: np.sin(x), lambda x, a: np.cos(x), True),
    "Sinh": (lambda x, a: np.sinh(x), lambda x, a: np.cosh(x), True),
    "Softplus": (lambda x, a: softplus(x), lambda x, a: sigmoid(x), False),
    "Softsign": (lambda x, a: x / (1.0 + np.abs(x)), lambda x, a: 1.0 / (1.0 + np.abs(x)) ** 2, True),
    "Sqrt": (lambda x, a: np.sqrt(x), lambda x, a: 0.5 / np.sqrt(x), True),
    "Swish": (swish, swish_slope, True),
    "Tan": (lambda x, a: np.tan(x), lambda x, a: 1.0 + np.tan(x) ** 2, True),
    "Tanh": (lambda x, a: np.tanh(x), lambda x, a: 1.0 - np.tanh(x) ** 2, True),
    "ThresholdedRelu": (
        lambda x, a: np.where(x > F32(a.get("alpha", 1.0)), x, 0.0),
        lambda x, a: (x > F32(a.get("alpha", 1.0))).astype(np.float64),
        True,
    ),
}
# Functions that keep the value, whatever it is called.
for name in ("Identity", "Dropout", "Cast", "CastLike"):
    FUNCTIONS[name] = (lambda x, a: x * 1.0, lambda x, a: np.ones_like(x), True)
