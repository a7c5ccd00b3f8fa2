"""Norms and softmax."""

import numpy as np

from corpus import Model, single, versions
from model import Graph, Node, values

NORMS = ["epsilon", "epsilon(eps=0.25)", "epsilon(norm=NormIdentity)", "attnlrp", "dynamiclrp", "gradient", "input-x-gradient"]


def norm(op, shape, weights, **attributes):
    def build(opset, rng):
        constants = {name: values(rng, size) for name, size in weights.items()}
        return single(op, {"x": values(rng, shape)}, constants, **attributes)

    return build


Model("LayerNormalization", "last_axis", norm("LayerNormalization", (2, 2, 4), {"scale": (4,), "bias": (4,)}), NORMS)
Model("LayerNormalization", "two_axes", norm("LayerNormalization", (2, 2, 3), {"scale": (2, 3), "bias": (2, 3)}, axis=1, epsilon=0.125), NORMS)
Model("LayerNormalization", "without_bias", norm("LayerNormalization", (2, 4), {"scale": (4,)}), NORMS)
Model("RMSNormalization", "last_axis", norm("RMSNormalization", (2, 2, 4), {"scale": (4,)}), NORMS)
Model("RMSNormalization", "two_axes", norm("RMSNormalization", (2, 2, 3), {"scale": (2, 3)}, axis=1, epsilon=0.125), NORMS)
Model("InstanceNormalization", "1d", norm("InstanceNormalization", (2, 2, 4), {"scale": (2,), "bias": (2,)}), NORMS)
Model("InstanceNormalization", "2d", norm("InstanceNormalization", (1, 2, 2, 3), {"scale": (2,), "bias": (2,)}, epsilon=0.125), NORMS, versions("InstanceNormalization")[-1:])


def group_norm(opset, rng):
    size = 2 if opset < 21 else 4
    constants = {"scale": values(rng, (4,))[:size], "bias": values(rng, (4,))[:size]}
    return single("GroupNormalization", {"x": values(rng, (2, 4, 3))}, constants, num_groups=2)


Model("GroupNormalization", "1d", group_norm, NORMS)
Model("MeanVarianceNormalization", "2d", norm("MeanVarianceNormalization", (2, 2, 2, 2), {}), ["lrp-0", "attnlrp", "gradient"])
Model("MeanVarianceNormalization", "axes", norm("MeanVarianceNormalization", (2, 4), {}, axes=[1]), ["lrp-0", "attnlrp", "gradient"])
for p in (1, 2):
    Model("LpNormalization", f"p{p}", norm("LpNormalization", (2, 3, 2), {}, p=p, axis=1), ["epsilon", "attnlrp", "gradient"])


def behind_norm(op, weights, **attributes):
    """A dense layer behind the norm, so that what arrives is not proportional to it."""

    def build(opset, rng):
        constants = {name: values(rng, size) for name, size in weights.items()}
        nodes = [Node(op, ["x", *constants], ["h"], **attributes), Node("MatMul", ["h", "w"], ["y"])]
        return Graph(nodes, {"x": values(rng, (2, 4), zeros=0.2)}, {**constants, "w": values(rng, (4, 3))})

    return build


Model("LayerNormalization", "below_dense", behind_norm("LayerNormalization", {"scale": (4,), "bias": (4,)}), NORMS)
Model("RMSNormalization", "below_dense", behind_norm("RMSNormalization", {"scale": (4,)}), NORMS)

SOFTMAX = ["epsilon", "epsilon(softmax=Identity)", "epsilon(softmax=Stop)", "epsilon(softmax=BiasRedistributed)", "attnlrp", "cp-lrp", "gradient"]
for op in ("Softmax", "LogSoftmax"):
    rules = SOFTMAX if op == "Softmax" else ["epsilon", "attnlrp", "gradient"]
    Model(op, "last_axis", norm(op, (2, 4), {}, axis=-1), rules, versions(op, 11))
    Model(op, "axis_1", norm(op, (2, 3, 2), {}, axis=1), rules, versions(op, 13))
    Model(op, "default_axis", norm(op, (2, 3), {}), ["epsilon", "attnlrp"])
    Model(op, "flattened", norm(op, (2, 3, 2), {}, axis=1), ["epsilon", "attnlrp", "gradient"], [7, 11])
