"""Sums without weights: additions, sums and means over axes, average pooling, cumulative sums, resizing."""

import numpy as np

from corpus import SUMMING, Model, single, versions
from model import Graph, Node, values

SPLITS = ["epsilon(add=AbsRatio)", "epsilon(add=Symmetric)"]


def addition(op, a_shape, b_shape):
    def build(opset, rng):
        return single(op, {"a": values(rng, a_shape, zeros=0.1), "b": values(rng, b_shape, zeros=0.1)})

    return build


def constant_addition(op, x_shape, c_shape, constant_first=False):
    def build(opset, rng):
        names = ["c", "x"] if constant_first else ["x", "c"]
        return single(op, {"x": values(rng, x_shape, zeros=0.1)}, {"c": values(rng, c_shape)}, names)

    return build


for op in ("Add", "Sub"):
    Model(op, "two_active", addition(op, (2, 4), (2, 4)), SUMMING + SPLITS)
    Model(op, "broadcast", addition(op, (2, 1, 3), (4, 1)), SUMMING + SPLITS, versions(op)[-1:])
    Model(op, "scalar", addition(op, (2, 3), ()), ["epsilon", "dynamiclrp", "attnlrp"], versions(op)[-1:])
    rules = ["epsilon", "epsilon(bias=exclude)", "epsilon(bias=redistribute)", "dynamiclrp", "attnlrp", "gradient"]
    Model(op, "constant", constant_addition(op, (2, 4), (4,)), rules)
    Model(op, "constant_first", constant_addition(op, (2, 4), (2, 4), True), rules, versions(op)[-1:])
    Model(op, "constant_broadcasts_x", constant_addition(op, (2, 1), (3,)), rules, versions(op)[-1:])
Model("Add", "to_itself", lambda opset, rng: single("Add", {"x": values(rng, (2, 3))}, {}, ["x", "x"]), ["epsilon", "attnlrp", "gradient"])


def cancelling(opset, rng):
    a = values(rng, (2, 4))
    b = values(rng, (2, 4))
    b[0, 1], b[1, 2] = -a[0, 1], -a[1, 2]
    return single("Add", {"a": a, "b": b})


# The sum is 0 at some places: R/S(0) with a given relevance, and coefficients that carry nothing but go on.
Model("Add", "cancels", cancelling, ["epsilon(eps=0.25)", "lrp-0", "dynamiclrp"], versions("Add")[-1:], start="relevance", dense=True)
Model("Add", "cancels_coefficients", cancelling, ["attnlrp", "lrp-0"], versions("Add")[-1:], dense=True)


def residual(opset, rng):
    nodes = [
        Node("MatMul", ["x", "w"], ["m"]),
        Node("Relu", ["m"], ["r"]),
        Node("Add", ["r", "x"], ["h"]),
        Node("MatMul", ["h", "v"], ["y"]),
    ]
    return Graph(nodes, {"x": values(rng, (2, 3))}, {"w": values(rng, (3, 3)), "v": values(rng, (3, 2))})


Model("Add", "residual", residual, ["epsilon", "resnet-symmetric", "resnet-ratio", "attnlrp", "dynamiclrp", "epsilon(add=Symmetric)"], versions("Add")[-1:])


def many(op, shapes):
    def build(opset, rng):
        return single(op, {f"x{at}": values(rng, shape) for at, shape in enumerate(shapes)})

    return build


for op in ("Sum", "Mean"):
    Model(op, "one", many(op, [(2, 3)]), ["epsilon", "attnlrp"], versions(op)[-1:])
    Model(op, "two", many(op, [(2, 3), (2, 3)]), ["epsilon", "epsilon(eps=0.25)", "attnlrp", "dynamiclrp", "gradient"])
    Model(op, "broadcast", many(op, [(2, 3), (1, 3)]), ["epsilon", "attnlrp", "gradient"], versions(op, 8))
    Model(op, "three", many(op, [(2, 3), (2, 3), (2, 3)]), ["epsilon", "lrp-0", "attnlrp", "gradient"], versions(op)[-1:])


def reduction(op, shape, axes, keep, bounds=(-2.0, 2.0)):
    def build(opset, rng):
        since = 13 if op == "ReduceSum" else 18
        inputs, attributes = {"x": values(rng, shape, *bounds)}, {"keepdims": int(keep)}
        if axes is None or opset < since:
            return single(op, inputs, axes=axes, **attributes)
        return single(op, inputs, {"axes": np.array(axes, np.int64)}, **attributes)

    return build


for op in ("ReduceSum", "ReduceMean"):
    Model(op, "last_axis", reduction(op, (2, 3, 4), [2], True), SUMMING)
    Model(op, "axes", reduction(op, (2, 3, 2), [0, -1], False), ["epsilon", "attnlrp", "gradient"])
    Model(op, "behind_channels", reduction(op, (2, 2, 2, 3), [2, 3], False), ["epsilon", "dynamiclrp", "attnlrp"], versions(op)[-1:])
    Model(op, "all", reduction(op, (2, 3), None, True), ["epsilon", "attnlrp"])

REDUCTIONS = ["lrp-0", "attnlrp", "gradient"]
for op in ("ReduceL1", "ReduceL2", "ReduceSumSquare"):
    Model(op, "last_axis", reduction(op, (2, 3, 3), [-1], False), REDUCTIONS)
    Model(op, "axes_kept", reduction(op, (2, 2, 3), [1, 2], True), ["lrp-0", "attnlrp"], versions(op)[-1:])
Model("ReduceLogSum", "last_axis", reduction("ReduceLogSum", (2, 4), [1], False, (0.5, 2.0)), REDUCTIONS)
Model("ReduceLogSumExp", "last_axis", reduction("ReduceLogSumExp", (2, 4), [1], False), REDUCTIONS)


def pooling(op, shape, **attributes):
    return lambda opset, rng: single(op, {"x": values(rng, shape)}, **attributes)


POOLING = ["epsilon", "epsilon(eps=0.25)", "dynamiclrp", "attnlrp", "gradient"]
Model("AveragePool", "2d", pooling("AveragePool", (2, 1, 4, 4), kernel_shape=[2, 2], strides=[2, 2]), POOLING)
Model("AveragePool", "1d_overlapping", pooling("AveragePool", (2, 2, 6), kernel_shape=[3]), POOLING)
Model("AveragePool", "padded", pooling("AveragePool", (1, 1, 4, 3), kernel_shape=[2, 2], pads=[1, 1, 0, 1]), POOLING)
Model("AveragePool", "padding_counts", pooling("AveragePool", (1, 1, 4, 3), kernel_shape=[2, 2], pads=[1, 1, 0, 1], count_include_pad=1), POOLING)
Model("AveragePool", "ceil", pooling("AveragePool", (1, 1, 5), kernel_shape=[2], strides=[2], ceil_mode=1), POOLING, versions("AveragePool", 19))
Model("AveragePool", "dilated", pooling("AveragePool", (1, 1, 6), kernel_shape=[2], dilations=[3]), POOLING, versions("AveragePool", 19))
Model("AveragePool", "same_upper", pooling("AveragePool", (1, 1, 5), kernel_shape=[3], strides=[2], auto_pad="SAME_UPPER"), POOLING, versions("AveragePool")[-1:])
Model("AveragePool", "3d", pooling("AveragePool", (1, 1, 2, 3, 2), kernel_shape=[2, 2, 1]), ["epsilon", "dynamiclrp"], versions("AveragePool")[-1:])
Model("GlobalAveragePool", "2d", pooling("GlobalAveragePool", (2, 2, 2, 3)), POOLING)
Model("GlobalAveragePool", "1d", pooling("GlobalAveragePool", (2, 2, 3)), ["epsilon", "dynamiclrp"], versions("GlobalAveragePool")[-1:])


def cumulative(axis, **attributes):
    return lambda opset, rng: single("CumSum", {"x": values(rng, (2, 4))}, {"axis": np.int64(axis)}, **attributes)


CUMULATIVE = ["epsilon", "epsilon(eps=0.25)", "attnlrp", "dynamiclrp", "gradient"]
Model("CumSum", "plain", cumulative(1), CUMULATIVE)
Model("CumSum", "reverse", cumulative(-1, reverse=1), CUMULATIVE)
Model("CumSum", "exclusive", cumulative(1, exclusive=1), ["attnlrp", "gradient", "lrp-0"], versions("CumSum")[-1:])
Model("CumSum", "first_axis", cumulative(0, exclusive=1, reverse=1), ["attnlrp", "gradient"], versions("CumSum")[-1:])


def resize(shape, scales=None, sizes=None, **attributes):
    def build(opset, rng):
        constants, names = {}, ["x"]
        if opset == 11:
            # The operand `roi` became optional later.
            constants["roi"] = np.zeros(0, np.float32)
        names.append("roi" if opset == 11 else "")
        if scales:
            constants["scales"] = np.array(scales, np.float32)
            names.append("scales")
        else:
            constants["sizes"] = np.array(sizes, np.int64)
            names += ["", "sizes"]
        return single("Resize", {"x": values(rng, shape)}, constants, names, **attributes)

    return build


RESIZING = ["epsilon", "attnlrp", "gradient", "dynamiclrp"]
Model("Resize", "nearest_up", resize((1, 1, 2, 3), [1, 1, 2, 2], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"), RESIZING, versions("Resize", 11))
Model("Resize", "linear_up", resize((2, 1, 3), [1, 1, 2], mode="linear"), RESIZING, versions("Resize", 11))
Model("Resize", "linear_align", resize((1, 1, 3, 3), None, [1, 1, 5, 4], mode="linear", coordinate_transformation_mode="align_corners"), RESIZING, versions("Resize", 11))
Model("Resize", "linear_down", resize((1, 1, 6), [1, 1, 0.5], mode="linear"), RESIZING, versions("Resize")[-1:])
Model("Resize", "cubic", resize((1, 1, 4, 4), [1, 1, 1.5, 1.5], mode="cubic"), ["epsilon", "attnlrp", "gradient"], versions("Resize")[-1:])
Model("Resize", "antialias", resize((1, 1, 6, 4), None, [1, 1, 3, 2], mode="linear", antialias=1), ["epsilon", "attnlrp", "gradient"], versions("Resize", 18)[-1:])
Model("Resize", "nearest_10", lambda opset, rng: single("Resize", {"x": values(rng, (1, 1, 2, 2))}, {"scales": np.array([1, 1, 2, 2], np.float32)}, mode="nearest"), RESIZING, [10])


def upsample(opset, rng):
    x = {"x": values(rng, (1, 1, 2, 3))}
    if opset < 9:
        return single("Upsample", x, mode="nearest", scales=[1.0, 1.0, 2.0, 2.0])
    return single("Upsample", x, {"scales": np.array([1, 1, 2, 2], np.float32)}, mode="nearest")


Model("Upsample", "nearest", upsample, RESIZING, [7, 9])
