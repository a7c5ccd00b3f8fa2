"""Quantised models: relevance passes rounding unchanged, rules see the dequantised numbers."""

import numpy as np

from corpus import Model, versions
from model import Graph, Node, values

RULES = ["epsilon", "lrp-0", "attnlrp"]


def integers(rng, shape, dtype=np.int8):
    found = rng.integers(-20, 21, size=shape)
    return (found if dtype == np.int8 else found + 128).astype(dtype)


X_SCALE, W_SCALE, Y_SCALE = np.float32(0.0171875), np.float32(0.03125), np.float32(0.046875)


def fake(per_axis, signed):
    """Quantised and dequantised again, below a dense layer."""

    def build(opset, rng):
        scale = np.array([0.0171875, 0.03125, 0.015625], np.float32) if per_axis else X_SCALE
        dtype, middle = (np.int8, 3) if signed else (np.uint8, 130)
        zero = np.full(3, middle, dtype) if per_axis else dtype(middle)
        attributes = {"axis": 1} if per_axis else {}
        constants = {"scale": scale, "zero": zero, "w": values(rng, (3, 2)), "b": values(rng, (2,))}
        nodes = [
            Node("QuantizeLinear", ["x", "scale", "zero"], ["q"], **attributes),
            Node("DequantizeLinear", ["q", "scale", "zero"], ["h"], **attributes),
            Node("MatMul", ["h", "w"], ["m"]),
            Node("Add", ["m", "b"], ["y"]),
        ]
        return Graph(nodes, {"x": values(rng, (2, 3), -1.0, 1.0)}, constants)

    return build


def stored_weights(opset, rng):
    """The weights of a dense layer are stored as integers."""
    constants = {"q": integers(rng, (3, 2)), "scale": W_SCALE, "zero": np.int8(1)}
    nodes = [Node("DequantizeLinear", ["q", "scale", "zero"], ["w"]), Node("MatMul", ["x", "w"], ["y"])]
    return Graph(nodes, {"x": values(rng, (2, 3))}, constants)


Model("QuantizeLinear", "int8", fake(False, True), RULES)
Model("QuantizeLinear", "uint8", fake(False, False), RULES, versions("QuantizeLinear")[-1:])
Model("QuantizeLinear", "per_axis", fake(True, True), RULES, versions("QuantizeLinear", 13))




Model("DequantizeLinear", "weights", stored_weights, RULES + ["excitation-backprop"])


def dynamic(op):
    def build(opset, rng):
        convolves = op == "ConvInteger"
        shape, w_shape = ((1, 2, 4), (2, 2, 2)) if convolves else ((2, 3), (3, 2))
        constants = {"w": integers(rng, w_shape, np.uint8), "w_zero": np.uint8(126), "w_scale": W_SCALE}
        nodes = [
            Node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
            Node(op, ["q", "w", "zero", "w_zero"], ["sums"]),
            Node("Cast", ["sums"], ["wide"], to=1),
            Node("Mul", ["scale", "w_scale"], ["factor"]),
            Node("Mul", ["wide", "factor"], ["y"]),
        ]
        return Graph(nodes, {"x": values(rng, shape)}, constants)

    return build


for op in ("MatMulInteger", "ConvInteger"):
    Model(op, "dynamic", dynamic(op), ["lrp-0", "attnlrp"], [11, 13])


def q_linear(op):
    def build(opset, rng):
        convolves = op == "QLinearConv"
        shape, w_shape = ((1, 2, 4), (2, 2, 2)) if convolves else ((2, 3), (3, 2))
        constants = {
            "x_scale": X_SCALE,
            "x_zero": np.uint8(128),
            "w": integers(rng, w_shape, np.uint8),
            "w_scale": W_SCALE,
            "w_zero": np.uint8(127),
            "y_scale": Y_SCALE,
            "y_zero": np.uint8(120),
        }
        names = ["q", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero"]
        if convolves:
            constants["bias"] = rng.integers(-300, 300, size=(2,)).astype(np.int32)
            names.append("bias")
        nodes = [
            Node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["q"]),
            Node(op, names, ["p"]),
            Node("DequantizeLinear", ["p", "y_scale", "y_zero"], ["y"]),
        ]
        return Graph(nodes, {"x": values(rng, shape, -1.5, 1.5)}, constants)

    return build


Model("QLinearMatMul", "dense", q_linear("QLinearMatMul"), ["lrp-0", "epsilon", "attnlrp"])
Model("QLinearConv", "bias", q_linear("QLinearConv"), ["lrp-0", "epsilon", "epsilon-plus", "attnlrp"], [10, 21])
