"""Linear maps with weights: convolutions, transposed convolutions, contractions with a constant operand."""

import numpy as np

from corpus import GRADIENTS, Model, versions
from model import Graph, Node, values

EPSILONS = [
    "epsilon",
    "epsilon(eps=0.25)",
    "epsilon(eps=0.25, stabiliser=clip)",
    "epsilon(eps=0.25, stabiliser=relative)",
    "epsilon(bias=exclude)",
    "epsilon(eps=0.25, bias=redistribute)",
    "lrp-0",
    "attnlrp",
    "dynamiclrp",
]
SIGNS = [
    "epsilon-plus",
    "epsilon-plus(bias=exclude)",
    "epsilon-alpha2-beta1",
    "epsilon-alpha2-beta1(alpha=3, beta=2)",
    "gamma",
    "gamma(gamma=2, eps=0.125)",
    "excitation-backprop",
    "excitation-backprop(eps=0.25, stabiliser=clip)",
    "dynamiclrp(conv_gamma=100, linear_gamma=1)",
    "vit",
]
FIRST = [
    "epsilon-plus-flat",
    "epsilon-alpha2-beta1-flat",
    "epsilon-gamma-box",
    "epsilon-gamma-box(low=-2.5, high=2.5)",
    "resnet-symmetric",
]
ALL = EPSILONS + SIGNS + FIRST + GRADIENTS
SOME = ["epsilon", "epsilon-plus", "epsilon-alpha2-beta1", "gamma", "epsilon-plus-flat", "epsilon-gamma-box", "attnlrp", "gradient"]
FEW = ["epsilon", "epsilon-plus", "attnlrp"]


def convolution(op, x_shape, w_shape, bias=True, low=-2.0, **attributes):
    def build(opset, rng):
        groups = attributes.get("group", 1)
        out = w_shape[0] if op == "Conv" else w_shape[1] * groups
        constants = {"w": values(rng, w_shape, zeros=0.1)}
        if bias:
            constants["b"] = values(rng, (out,))
        x = values(rng, x_shape, low, zeros=0.15)
        return Graph([Node(op, ["x", *constants], ["y"], **attributes)], {"x": x}, constants)

    return build


CONVOLUTIONS = [
    ("1d", (2, 2, 6), (3, 2, 3), {}, True),
    ("1d_strided_padded", (2, 2, 7), (2, 2, 3), {"strides": [2], "pads": [1, 2]}, True),
    ("2d", (2, 2, 4, 3), (2, 2, 3, 2), {}, True),
    ("2d_padded", (2, 1, 3, 3), (2, 1, 3, 3), {"pads": [1, 1, 1, 1]}, True),
    ("2d_pads_differ", (1, 1, 4, 4), (2, 1, 3, 2), {"pads": [0, 1, 2, 0], "strides": [2, 1]}, True),
    ("2d_dilated", (1, 2, 5, 5), (1, 2, 2, 2), {"dilations": [2, 3]}, True),
    ("2d_grouped", (2, 4, 3, 3), (4, 2, 2, 2), {"group": 2}, True),
    ("2d_depthwise", (1, 3, 4, 3), (6, 1, 2, 2), {"group": 3, "strides": [1, 2]}, False),
    ("2d_pointwise", (2, 3, 2, 2), (2, 3, 1, 1), {}, False),
    ("2d_same_upper", (1, 1, 4, 5), (2, 1, 2, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, True),
    ("2d_same_lower", (1, 1, 4, 5), (1, 1, 2, 2), {"auto_pad": "SAME_LOWER"}, True),
    ("3d", (1, 1, 3, 3, 3), (2, 1, 2, 2, 2), {"pads": [0, 1, 0, 0, 0, 1]}, True),
]
for name, x_shape, w_shape, attributes, bias in CONVOLUTIONS:
    rules = ALL if name == "2d" else SOME
    Model("Conv", name, convolution("Conv", x_shape, w_shape, bias, **attributes), rules, versions("Conv")[-1:])
# The same map in every version.
Model("Conv", "2d_every_version", convolution("Conv", (2, 2, 3, 3), (2, 2, 2, 2), strides=[1, 2]), FEW, versions("Conv")[:-1])
# No input is negative: rules need no clamps.
Model("Conv", "inputs_not_negative", convolution("Conv", (2, 2, 4), (2, 2, 3), low=0.0625), SIGNS + FIRST, versions("Conv")[-1:])
Model(
    "Conv",
    "box_per_channel",
    convolution("Conv", (2, 2, 4), (2, 2, 3)),
    ["epsilon-gamma-box(low=[-2.5, -2], high=[2, 2.25])"],
    versions("Conv")[-1:],
)
Model("Conv", "many_inputs", convolution("Conv", (1, 5, 7), (2, 5, 7), pads=[1, 1]), SIGNS + FIRST, versions("Conv")[-1:])

TRANSPOSED = [
    ("1d", (2, 2, 4), (2, 3, 3), {"strides": [2]}, True),
    ("2d", (1, 2, 3, 2), (2, 2, 2, 3), {"strides": [2, 1], "pads": [1, 0, 0, 1]}, True),
    ("2d_output_padding", (1, 1, 3, 3), (1, 2, 3, 3), {"strides": [2, 2], "output_padding": [1, 1], "pads": [1, 1, 1, 1]}, True),
    ("2d_grouped_dilated", (1, 4, 2, 3), (4, 1, 2, 2), {"group": 2, "dilations": [1, 2]}, False),
    ("2d_output_shape", (1, 1, 3, 3), (1, 1, 2, 2), {"strides": [2, 2], "output_shape": [5, 6]}, True),
    ("2d_same_upper", (1, 1, 2, 3), (1, 1, 3, 3), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}, True),
    ("3d", (1, 1, 2, 2, 2), (1, 1, 2, 2, 2), {"strides": [2, 1, 1]}, True),
]
for name, x_shape, w_shape, attributes, bias in TRANSPOSED:
    rules = SOME + ["epsilon(eps=0.25, bias=redistribute)", "dynamiclrp"] if name == "1d" else SOME
    Model("ConvTranspose", name, convolution("ConvTranspose", x_shape, w_shape, bias, **attributes), rules, versions("ConvTranspose")[-1:])
Model("ConvTranspose", "1d_every_version", convolution("ConvTranspose", (2, 2, 3), (2, 2, 2)), FEW, versions("ConvTranspose")[:-1])


# --- contractions ----------------------------------------------------------------------------------------------------


def gemm(x_shape, w_shape, c_shape, active="a", **attributes):
    def build(opset, rng):
        x, w = values(rng, x_shape, zeros=0.15), values(rng, w_shape, zeros=0.1)
        constants, names = {"w": w}, ["x", "w"] if active == "a" else ["w", "x"]
        if c_shape is not None:
            constants["c"] = values(rng, c_shape)
            names.append("c")
        return Graph([Node("Gemm", names, ["y"], **attributes)], {"x": x}, constants)

    return build


NEWEST = versions("Gemm")[-1:]
Model("Gemm", "plain", gemm((2, 4), (4, 3), (3,)), EPSILONS + SIGNS + FIRST + GRADIENTS, NEWEST)
Model("Gemm", "every_version", gemm((2, 4), (4, 3), (3,)), ["epsilon", "excitation-backprop", "attnlrp"], versions("Gemm")[:-1])
Model("Gemm", "weights_transposed", gemm((2, 4), (3, 4), (3,), transB=1), ["epsilon", "excitation-backprop", "dynamiclrp", "attnlrp", "gradient"])
Model("Gemm", "input_transposed", gemm((4, 2), (4, 3), (1, 3), transA=1), ["epsilon", "excitation-backprop", "attnlrp", "gradient"])
Model("Gemm", "scaled", gemm((2, 4), (4, 3), (3,), alpha=0.5, beta=-1.5), ["epsilon", "excitation-backprop", "dynamiclrp", "attnlrp"])
Model("Gemm", "weights_first", gemm((4, 3), (2, 4), (2, 1), active="b"), ["epsilon", "excitation-backprop", "attnlrp", "gradient"])
Model("Gemm", "without_bias", gemm((2, 4), (4, 3), None), ["epsilon", "excitation-backprop", "dynamiclrp"], versions("Gemm", 11))
Model("Gemm", "full_bias", gemm((2, 4), (4, 3), (2, 3)), ["epsilon", "epsilon(bias=exclude)", "dynamiclrp"], NEWEST)
Model("Gemm", "scalar_bias", gemm((2, 4), (4, 3), ()), ["epsilon", "excitation-backprop"], NEWEST)
Model("Gemm", "many_inputs", gemm((2, 36), (36, 2), (2,)), SIGNS + FIRST, NEWEST)


def gemm_of_two(with_c):
    def build(opset, rng):
        inputs = {"a": values(rng, (2, 3)), "b": values(rng, (3, 4))}
        if with_c:
            inputs["c"] = values(rng, (4,))
        return Graph([Node("Gemm", list(inputs), ["y"])], inputs)

    return build


Model("Gemm", "two_active", gemm_of_two(False), ["epsilon", "epsilon(eps=0.25)", "attnlrp", "dynamiclrp", "gradient"], versions("Gemm", 11))
Model("Gemm", "three_active", gemm_of_two(True), ["epsilon", "attnlrp", "gradient"], NEWEST)


def matmul(x_shape, w_shape, b_shape=None, constant_first=False):
    def build(opset, rng):
        constants = {"w": values(rng, w_shape, zeros=0.1)}
        x = values(rng, x_shape, zeros=0.15)
        names = ["w", "x"] if constant_first else ["x", "w"]
        if b_shape is None:
            return Graph([Node("MatMul", names, ["y"])], {"x": x}, constants)
        constants["b"] = values(rng, b_shape)
        return Graph([Node("MatMul", names, ["product"]), Node("Add", ["product", "b"], ["y"])], {"x": x}, constants)

    return build


DENSE = ["epsilon", "excitation-backprop", "dynamiclrp", "attnlrp", "gradient"]
Model("MatMul", "matrix", matmul((2, 4), (4, 3)), DENSE)
Model("MatMul", "with_bias", matmul((2, 4), (4, 3), (3,)), EPSILONS + SIGNS + FIRST, versions("MatMul")[-1:])
Model("MatMul", "batched", matmul((2, 3, 4), (4, 2), (2,)), DENSE)
Model("MatMul", "batched_weights", matmul((2, 2, 3), (2, 3, 2)), DENSE, versions("MatMul")[-1:])
Model("MatMul", "weights_broadcast_x", matmul((2, 3), (2, 3, 2)), DENSE, versions("MatMul")[-1:])
Model("MatMul", "constant_first", matmul((4, 2), (3, 4), None, True), DENSE, versions("MatMul")[-1:])
Model("MatMul", "vector", matmul((4,), (4, 3)), ["epsilon", "excitation-backprop", "attnlrp"], versions("MatMul")[-1:])
Model("MatMul", "vector_weights", matmul((2, 3, 4), (4,)), ["epsilon", "excitation-backprop", "attnlrp"], versions("MatMul")[-1:])
Model("MatMul", "rank_4", matmul((1, 2, 2, 3), (2, 3, 2)), ["epsilon", "attnlrp"], versions("MatMul")[-1:])


def einsum(equation, x_shape, w_shape, names=("x", "w")):
    def build(opset, rng):
        inputs, constants = {"x": values(rng, x_shape)}, {"w": values(rng, w_shape)}
        return Graph([Node("Einsum", list(names), ["y"], equation=equation)], inputs, constants)

    return build


Model("Einsum", "matrix", einsum("ij,jk->ik", (2, 3), (3, 4)), ["epsilon", "excitation-backprop", "attnlrp", "gradient"])
Model("Einsum", "heads", einsum("bshd,hde->bse", (2, 2, 2, 3), (2, 3, 2)), ["epsilon", "excitation-backprop", "attnlrp"], [12])
Model("Einsum", "turned", einsum("jk,ij->ki", (3, 4), (2, 3)), ["epsilon", "attnlrp"], [12])
Model("Einsum", "ellipsis", einsum("...i,ij->...j", (2, 2, 3), (3, 2)), ["epsilon", "attnlrp"], [12])


# --- chains ----------------------------------------------------------------------------------------------------------


def small_network(bias):
    def build(opset, rng):
        constants = {"w1": values(rng, (3, 2, 3)), "w2": values(rng, (2, 3, 2)), "w3": values(rng, (2, 3))}
        if bias:
            constants |= {"b1": values(rng, (3,)), "b2": values(rng, (2,)), "b3": values(rng, (3,))}
        own = lambda at: [f"b{at}"] if bias else []
        nodes = [
            Node("Conv", ["x", "w1", *own(1)], ["c1"], pads=[1, 1]),
            Node("Relu", ["c1"], ["r1"]),
            Node("Conv", ["r1", "w2", *own(2)], ["c2"]),
            Node("Relu", ["c2"], ["r2"]),
            Node("GlobalAveragePool", ["r2"], ["pooled"]),
            Node("Flatten", ["pooled"], ["flat"]),
            Node("Gemm", ["flat", "w3", *own(3)], ["y"]) if bias else Node("MatMul", ["flat", "w3"], ["y"]),
        ]
        return Graph(nodes, {"x": values(rng, (2, 2, 5))}, constants)

    return build


NETWORK = [rule for rule in ALL if "relative" not in rule] + ["resnet-ratio"]
Model("Conv", "network", small_network(True), NETWORK, versions("Conv")[-1:], dense=True)
Model("Conv", "network_without_bias", small_network(False), ["epsilon", "lrp-0", "epsilon-plus", "gamma", "attnlrp", *GRADIENTS], versions("Conv")[-1:], dense=True)


def normalised(first):
    """Batch norm behind a convolution is one linear map with it."""

    def build(opset, rng):
        constants = {"w": values(rng, (2, 2, 2)), "b": values(rng, (2,))}
        constants |= {"scale": values(rng, (2,), 0.25), "shift": values(rng, (2,)), "mean": values(rng, (2,)), "var": values(rng, (2,), 0.25)}
        names = ["scale", "shift", "mean", "var"]
        nodes = [Node("Conv", ["x", "w", "b"], ["c"]), Node("BatchNormalization", ["c", *names], ["y"])]
        return Graph(nodes, {"x": values(rng, (2, 2, 4))}, constants)

    return build


Model(
    "BatchNormalization",
    "behind_convolution",
    normalised(False),
    ["epsilon", "epsilon-plus", "epsilon-alpha2-beta1", "gamma", "epsilon-plus-flat", "attnlrp", "dynamiclrp", "gradient"],
)


def batch_norm(shape):
    def build(opset, rng):
        c = shape[1]
        constants = {"scale": values(rng, (c,)), "shift": values(rng, (c,)), "mean": values(rng, (c,)), "var": values(rng, (c,), 0.25)}
        return Graph([Node("BatchNormalization", ["x", *constants], ["y"])], {"x": values(rng, shape)}, constants)

    return build


Model("BatchNormalization", "alone", batch_norm((2, 3, 2)), ["epsilon", "epsilon(bias=exclude)", "attnlrp", "gradient"])
Model("BatchNormalization", "of_vectors", batch_norm((2, 3)), ["epsilon", "attnlrp"], versions("BatchNormalization")[-1:])
