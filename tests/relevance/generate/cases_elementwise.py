"""Functions of one tensor, and products with constants: relevance passes unchanged, coefficients by f(x)/x."""

import numpy as np

from corpus import GRADIENTS, PASSING, Model, before_dense, single, versions
from model import Graph, Node, values

WHOLE, POSITIVE, UNIT, ABOVE_ONE = (-2.5, 2.5), (0.25, 4.0), (-0.9375, 0.9375), (1.25, 4.0)
# Operator: the variants (name, attributes, range of inputs, whether 0 may stand there).
FUNCTIONS = {
    "Abs": [("plain", {}, WHOLE, True)],
    "Acos": [("plain", {}, UNIT, True)],
    "Acosh": [("plain", {}, ABOVE_ONE, False)],
    "Asin": [("plain", {}, UNIT, True)],
    "Asinh": [("plain", {}, WHOLE, True)],
    "Atan": [("plain", {}, WHOLE, True)],
    "Atanh": [("plain", {}, UNIT, True)],
    "Celu": [("plain", {}, WHOLE, True), ("alpha", {"alpha": 0.5}, WHOLE, True)],
    "Cos": [("plain", {}, WHOLE, True)],
    "Cosh": [("plain", {}, WHOLE, True)],
    "Dropout": [("plain", {}, WHOLE, True)],
    "Elu": [("plain", {}, WHOLE, True), ("alpha", {"alpha": 0.5}, WHOLE, True)],
    "Erf": [("plain", {}, WHOLE, True)],
    "Exp": [("plain", {}, WHOLE, True)],
    "Gelu": [("plain", {}, WHOLE, True), ("tanh", {"approximate": "tanh"}, WHOLE, True)],
    "HardSigmoid": [("plain", {}, WHOLE, True), ("slope", {"alpha": 0.5, "beta": 0.25}, WHOLE, True)],
    "HardSwish": [("plain", {}, (-4.0, 4.0), True)],
    "Identity": [("plain", {}, WHOLE, True)],
    "LeakyRelu": [("plain", {}, WHOLE, True), ("alpha", {"alpha": 0.25}, WHOLE, True)],
    "Log": [("plain", {}, POSITIVE, False)],
    "Mish": [("plain", {}, WHOLE, True)],
    "Neg": [("plain", {}, WHOLE, True)],
    "Reciprocal": [("plain", {}, POSITIVE, False)],
    "Relu": [("plain", {}, WHOLE, True)],
    "Selu": [("plain", {}, WHOLE, True), ("parameters", {"alpha": 1.5, "gamma": 1.25}, WHOLE, True)],
    "Shrink": [("plain", {}, WHOLE, True), ("soft", {"lambd": 0.75, "bias": 0.5}, WHOLE, True)],
    "Sigmoid": [("plain", {}, WHOLE, True)],
    "Sin": [("plain", {}, WHOLE, True)],
    "Sinh": [("plain", {}, WHOLE, True)],
    "Softplus": [("plain", {}, WHOLE, True)],
    "Softsign": [("plain", {}, WHOLE, True)],
    "Sqrt": [("plain", {}, POSITIVE, False)],
    "Swish": [("plain", {}, WHOLE, True), ("alpha", {"alpha": 1.75}, WHOLE, True)],
    "Tan": [("plain", {}, (-1.25, 1.25), True)],
    "Tanh": [("plain", {}, WHOLE, True)],
    "ThresholdedRelu": [("plain", {}, WHOLE, True), ("alpha", {"alpha": 0.5}, WHOLE, True)],
}


def function(op, attributes, bounds, zeros):
    def build(opset, rng):
        x = values(rng, (2, 5), *bounds, zeros=0.25 if zeros else 0.0)
        return before_dense([Node(op, ["x"], ["h"], **attributes)], {"x": x}, {}, rng, 5)

    return build


for op, variants in FUNCTIONS.items():
    for name, attributes, bounds, zeros in variants:
        rules = ["epsilon", "attnlrp"] if zeros else ["epsilon", "attnlrp", "gradient"]
        Model(op, name, function(op, attributes, bounds, zeros), rules)
        if zeros:
            Model(op, name + "_without_zeros", function(op, attributes, bounds, False), GRADIENTS, opsets=versions(op)[-1:])

# Attributes that are left out, or relevance that is given where the function's value is 0.
Model(
    "Relu",
    "relevance_at_zeros",
    lambda opset, rng: single("Relu", {"x": values(rng, (2, 6), zeros=0.3)}),
    ["epsilon", "lrp-0"],
    start="relevance",
    dense=True,
)


def clip(low, high):
    def build(opset, rng):
        x = values(rng, (2, 6))
        if opset < 11:
            bounds = {"min": low, "max": high}
            return before_dense([Node("Clip", ["x"], ["h"], **bounds)], {"x": x}, {}, rng, 6)
        constants, names = {}, ["x"]
        for name, bound in (("low", low), ("high", high)):
            if bound is not None:
                constants[name] = np.float32(bound)
            names.append(name if bound is not None else "")
        return before_dense([Node("Clip", names, ["h"])], {"x": x}, constants, rng, 6)

    return build


Model("Clip", "both", clip(-0.75, 1.25), PASSING)
Model("Clip", "six", clip(0.0, 1.5), PASSING)
Model("Clip", "low_alone", clip(0.5, None), PASSING)
Model("Clip", "high_alone", clip(None, 0.5), ["epsilon", "attnlrp"])


def prelu(slope):
    def build(opset, rng):
        constants = {"slope": values(rng, slope, 0.125, 0.875)}
        return before_dense([Node("PRelu", ["x", "slope"], ["h"])], {"x": values(rng, (2, 3, 4), zeros=0.1)}, constants, rng, 4)

    return build


Model("PRelu", "scalar", prelu((1,)), ["epsilon", "attnlrp"])
Model("PRelu", "per_row", prelu((3, 1)), PASSING)
Model("PRelu", "full", prelu((3, 4)), ["epsilon", "attnlrp"])


def power(exponent, bounds):
    def build(opset, rng):
        constants = {"exponent": np.asarray(exponent, np.float32)}
        return before_dense([Node("Pow", ["x", "exponent"], ["h"])], {"x": values(rng, (2, 4), *bounds)}, constants, rng, 4)

    return build


Model("Pow", "square", power(2.0, WHOLE), PASSING)
Model("Pow", "cube", power(3.0, WHOLE), ["epsilon", "attnlrp"])
Model("Pow", "root", power(0.5, POSITIVE), ["epsilon", "attnlrp", "gradient"])
Model("Pow", "reciprocal", power(-1.0, POSITIVE), ["epsilon", "attnlrp"])
Model("Pow", "per_element", power([1.5, 2.0, 0.5, 3.0], POSITIVE), ["epsilon", "attnlrp"])


def cast(through):
    def build(opset, rng):
        nodes = [Node("Cast", ["x"], ["wide"], to=through), Node("Cast", ["wide"], ["h"], to=1)]
        return before_dense(nodes, {"x": values(rng, (2, 4))}, {}, rng, 4)

    return build


# Numbers are multiples of 1/16, which float16 holds exactly.
Model("Cast", "through_float16", cast(10), ["epsilon", "attnlrp"])
Model("Cast", "through_float64", cast(11), ["epsilon", "attnlrp"])
Model(
    "CastLike",
    "to_float16",
    lambda opset, rng: before_dense(
        [Node("CastLike", ["x", "like"], ["half"]), Node("Cast", ["half"], ["h"], to=1)],
        {"x": values(rng, (2, 4))},
        {"like": np.zeros(1, np.float16)},
        rng,
        4,
    ),
    ["epsilon", "attnlrp"],
)


def scaled(op, x_shape, c_shape, constant_first=False):
    def build(opset, rng):
        x, c = values(rng, x_shape), values(rng, c_shape, 0.25, 2.0)
        c = c * np.where(rng.random(c_shape) < 0.5, -1, 1).astype(np.float32)
        names = ["c", "x"] if constant_first else ["x", "c"]
        return before_dense([Node(op, names, ["h"])], {"x": x}, {"c": c}, rng, 4)

    return build


for op in ("Mul", "Div"):
    Model(op, "constant", scaled(op, (2, 4), (4,)), PASSING)
    Model(op, "scalar_constant", scaled(op, (2, 4), ()), ["epsilon", "attnlrp"])
    Model(op, "constant_first", scaled(op, (2, 4), (2, 4), True), ["epsilon", "attnlrp", "gradient"])
    Model(op, "constant_broadcasts_x", scaled(op, (2, 1), (4,)), PASSING)
    Model(op, "constant_adds_axes", scaled(op, (3, 4), (2, 1, 4)), ["epsilon", "attnlrp"])
