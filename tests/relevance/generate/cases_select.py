"""Choices: what was taken takes everything, the first of equals."""

import numpy as np

from corpus import Model, single, versions
from model import Graph, Node, values

CHOOSING = ["epsilon", "attnlrp", "gradient"]


def two(op, a_shape, b_shape, constant=False):
    def build(opset, rng):
        a, b = values(rng, a_shape), values(rng, b_shape)
        if a_shape == b_shape:
            b.flat[0], b.flat[-1] = a.flat[0], a.flat[-1]
        if constant:
            return single(op, {"a": a}, {"b": b})
        return single(op, {"a": a, "b": b})

    return build


TIES = ["epsilon", "attnlrp"]
for op in ("Max", "Min"):
    Model(op, "two_with_ties", two(op, (2, 4), (2, 4)), TIES)
    Model(op, "broadcast", two(op, (2, 3), (3,)), TIES, versions(op, 8))
    Model(op, "constant", two(op, (2, 4), (4,), True), CHOOSING, versions(op, 8))
    Model(op, "three", lambda opset, rng, op=op: single(op, {name: values(rng, (2, 3)) for name in "abc"}), CHOOSING)


def largest(op, shape, axes, keep):
    def build(opset, rng):
        x = values(rng, shape)
        if x.ndim > 1:
            # A tie: the first wins.
            rows = x.reshape(-1, x.shape[-1])
            rows[0] = np.sort(rows[0])[:: 1 if op == "ReduceMax" else -1]
            rows[0, 0] = rows[0, -1]
        if opset < 18:
            return single(op, {"x": x}, axes=axes, keepdims=keep)
        return single(op, {"x": x}, {"axes": np.array(axes, np.int64)}, keepdims=keep)

    return build


for op in ("ReduceMax", "ReduceMin"):
    Model(op, "last_axis_with_tie", largest(op, (2, 4), [1], 1), TIES)
    Model(op, "axes", largest(op, (2, 2, 3), [0, 2], 0), TIES, versions(op)[-1:])


def pooling(op, shape, tie=True, **attributes):
    def build(opset, rng):
        x = values(rng, shape)
        if tie:
            x.reshape(-1)[:2] = 1.9375
        return single(op, {"x": x}, **attributes)

    return build


POOLING = ["epsilon", "resnet-symmetric", "attnlrp"]
Model("MaxPool", "2d", pooling("MaxPool", (2, 1, 4, 4), kernel_shape=[2, 2], strides=[2, 2]), POOLING)
Model("MaxPool", "2d_overlapping", pooling("MaxPool", (1, 1, 4, 4), kernel_shape=[3, 2]), POOLING)
Model("MaxPool", "padded", pooling("MaxPool", (1, 2, 4), kernel_shape=[3], pads=[1, 1], strides=[2]), ["epsilon", "attnlrp"])
Model("MaxPool", "without_ties", pooling("MaxPool", (1, 1, 6), False, kernel_shape=[2]), ["gradient"], versions("MaxPool")[-1:])
Model("MaxPool", "dilated", pooling("MaxPool", (1, 1, 6), kernel_shape=[2], dilations=[3]), ["epsilon", "attnlrp"], versions("MaxPool", 10))
Model("MaxPool", "ceil", pooling("MaxPool", (1, 1, 5), kernel_shape=[2], strides=[2], ceil_mode=1), ["epsilon", "attnlrp"], versions("MaxPool", 10))
Model("MaxPool", "same_upper", pooling("MaxPool", (1, 1, 5), kernel_shape=[2], strides=[2], auto_pad="SAME_UPPER"), ["epsilon"], versions("MaxPool")[-1:])
Model("MaxPool", "3d", pooling("MaxPool", (1, 1, 2, 3, 2), kernel_shape=[2, 2, 1]), ["epsilon", "attnlrp"], versions("MaxPool")[-1:])
Model("GlobalMaxPool", "2d", pooling("GlobalMaxPool", (2, 2, 2, 2)), ["epsilon", "attnlrp"])

CONDITION = np.array([[True, False, True], [False, False, True]])


def where(a_shape, b_shape, constant=None):
    def build(opset, rng):
        arrays = {"a": values(rng, a_shape), "b": values(rng, b_shape)}
        constants = {"condition": CONDITION}
        if constant:
            constants[constant] = arrays.pop(constant)
        return single("Where", arrays, constants, ["condition", "a", "b"])

    return build


for name, arguments in {
    "two": ((2, 3), (2, 3)),
    "broadcast": ((3,), (2, 1)),
    "constant_else": ((2, 3), (2, 3), "b"),
    "constant_then": ((1, 3), (2, 3), "a"),
}.items():
    Model("Where", name, where(*arguments), ["epsilon"], start="relevance", dense=True)
    Model("Where", name + "_coefficients", where(*arguments), ["attnlrp", "gradient"], versions("Where")[-1:])


def where_of_data(opset, rng):
    """The condition is computed from what is explained: it takes nothing."""
    nodes = [Node("Greater", ["a", "b"], ["larger"]), Node("Where", ["larger", "a", "b"], ["y"])]
    return Graph(nodes, {"a": values(rng, (2, 3)), "b": values(rng, (2, 3))})


Model("Where", "condition_of_data", where_of_data, CHOOSING, versions("Where")[-1:])


def masked(opset, rng):
    """−∞ where the condition does not hold, below a softmax."""
    nodes = [
        Node("Where", ["condition", "x", "never"], ["m"]),
        Node("Softmax", ["m"], ["s"], axis=-1),
        Node("MatMul", ["s", "w"], ["y"]),
    ]
    constants = {"condition": CONDITION, "never": np.float32(-np.inf), "w": values(rng, (3, 2))}
    return Graph(nodes, {"x": values(rng, (2, 3))}, constants)


Model("Where", "mask_below_softmax", masked, ["epsilon", "attnlrp", "gradient"], versions("Where")[-1:])


def top_k(largest, axis, of_values=True):
    def build(opset, rng):
        x = values(rng, (2, 5) if axis == 1 else (4, 2))
        attributes = {"axis": axis}
        if opset >= 11:
            attributes["largest"] = largest
        if opset < 10:
            return Graph([Node("TopK", ["x"], ["y", "places"], k=2, **attributes)], {"x": x})
        return Graph([Node("TopK", ["x", "k"], ["y", "places"], **attributes)], {"x": x}, {"k": np.array([2], np.int64)})

    return build


Model("TopK", "largest", top_k(1, 1), CHOOSING)
Model("TopK", "first_axis", top_k(1, 0), CHOOSING, versions("TopK")[-1:])
Model("TopK", "smallest", top_k(0, 1), CHOOSING, versions("TopK", 11))
