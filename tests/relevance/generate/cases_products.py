"""Products and quotients of two activations, attention."""

import numpy as np

from corpus import Model, single, versions
from model import Graph, Node, values

PRODUCTS = ["epsilon", "attnlrp", "dynamiclrp", "gradient", "input-x-gradient"]
CONTRACTIONS = ["epsilon", "epsilon(eps=0.25)", "epsilon(eps=0.25, stabiliser=clip)", "lrp-0", "attnlrp", "dynamiclrp", "gradient"]


def two(op, a_shape, b_shape, **attributes):
    def build(opset, rng):
        return single(op, {"a": values(rng, a_shape), "b": values(rng, b_shape)}, **attributes)

    return build


for op in ("Mul", "Div"):
    Model(op, "two_active", two(op, (2, 4), (2, 4)), PRODUCTS)
    Model(op, "broadcast", two(op, (2, 1, 3), (4, 1)), PRODUCTS, versions(op)[-1:])
    Model(op, "scalar", two(op, (2, 3), ()), PRODUCTS, versions(op)[-1:])


def chain(opset, rng):
    inputs = {name: values(rng, (2, 3)) for name in "abc"}
    return Graph([Node("Mul", ["a", "b"], ["ab"]), Node("Mul", ["ab", "c"], ["y"])], inputs)


def square(opset, rng):
    """x·x is one function of x."""
    return Graph([Node("Mul", ["x", "x"], ["h"]), Node("MatMul", ["h", "w"], ["y"])], {"x": values(rng, (2, 3))}, {"w": values(rng, (3, 2))})


Model("Mul", "square", square, ["epsilon", "attnlrp", "gradient"], versions("Mul")[-1:])

Model("MatMul", "two_active", two("MatMul", (2, 3), (3, 4)), CONTRACTIONS)
Model("MatMul", "two_active_batched", two("MatMul", (2, 2, 3), (2, 3, 2)), CONTRACTIONS, versions("MatMul")[-1:])
Model("MatMul", "two_active_broadcast", two("MatMul", (2, 1, 2, 3), (2, 3, 2)), CONTRACTIONS, versions("MatMul")[-1:])
Model("MatMul", "two_active_vector", two("MatMul", (2, 2, 3), (3,)), ["epsilon", "attnlrp"], versions("MatMul")[-1:])
Model("MatMul", "two_active_vectors", two("MatMul", (3,), (3,)), ["epsilon", "attnlrp"], versions("MatMul")[-1:])
Model("Einsum", "two_active", two("Einsum", (2, 2, 3), (2, 3, 2), equation="bij,bjk->bik"), CONTRACTIONS)
Model("Einsum", "outer", two("Einsum", (2, 3), (2, 2), equation="bi,bj->bij"), ["epsilon", "attnlrp", "gradient"], [12])
Model("Einsum", "keys", two("Einsum", (1, 3, 2, 2), (1, 3, 2, 2), equation="bshd,bthd->bhst"), ["epsilon", "attnlrp", "gradient"], [12])


def gate(activation, role, **attributes):
    """One factor is activated."""

    def build(opset, rng):
        nodes = [
            Node(activation, ["u"], ["g"], **attributes),
            Node("Mul", ["g", "x"], ["h"], role=role, signal=1),
            Node("MatMul", ["h", "w"], ["y"]),
        ]
        return Graph(nodes, {"u": values(rng, (2, 3)), "x": values(rng, (2, 3))}, {"w": values(rng, (3, 2))})

    return build


GATES = ["epsilon", "epsilon(half=all)", "attnlrp", "cp-lrp", "gradient"]
Model("Sigmoid", "gate", gate("Sigmoid", "gate"), GATES, versions("Sigmoid")[-1:])
Model("HardSigmoid", "gate", gate("HardSigmoid", "gate"), GATES, versions("HardSigmoid")[-1:])
for activation in ("Tanh", "Softplus", "Gelu", "HardSwish", "Mish", "Swish", "Relu"):
    Model(activation, "gated", gate(activation, "gated"), ["epsilon", "attnlrp", "cp-lrp", "relp", "gradient"], versions(activation)[-1:])


def spelled_out(opset, rng):
    """x·sigmoid(x) is one activation."""
    nodes = [Node("Sigmoid", ["x"], ["g"]), Node("Mul", ["x", "g"], ["h"], role="frozen", signal=0), Node("MatMul", ["h", "w"], ["y"])]
    return Graph(nodes, {"x": values(rng, (2, 3))}, {"w": values(rng, (3, 2))})


Model("Sigmoid", "spelled_out_swish", spelled_out, ["epsilon", "attnlrp"], versions("Sigmoid")[-1:])


def attention(masked, scale):
    def build(opset, rng):
        inputs = {"q": values(rng, (1, 3, 2)), "k": values(rng, (1, 3, 2)), "v": values(rng, (1, 3, 2))}
        constants = {"scale": np.float32(scale)}
        nodes = [
            Node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
            Node("MatMul", ["q", "kt"], ["scores"]),
            Node("Mul", ["scores", "scale"], ["scaled"]),
        ]
        last = "scaled"
        if masked:
            constants["mask"] = np.where(np.tri(3) > 0, 0.0, -np.inf).astype(np.float32)
            nodes.append(Node("Add", ["scaled", "mask"], ["masked"]))
            last = "masked"
        nodes += [
            Node("Softmax", [last], ["shares"], role="attention", axis=-1),
            Node("MatMul", ["shares", "v"], ["y"], role="attention", signal=1),
        ]
        return Graph(nodes, inputs, constants)

    return build


ATTENTION = ["lrp-0", "attnlrp", "cp-lrp", "relp", "gradient", "lrp-0(softmax=BiasRedistributed)", "lrp-0(softmax=Identity)", "lrp-0(softmax=Stop)"]
Model("Softmax", "attention", attention(False, 0.5), ATTENTION, versions("Softmax")[-1:])
Model("Softmax", "attention_masked", attention(True, 0.5), ["attnlrp", "cp-lrp", "gradient", "lrp-0"], versions("Softmax")[-1:])
