"""Operators that are several steps for relevance: written out as graphs of steps that have a rule each."""

import numpy as np

from model import Graph, Node

EXPANSIONS = {}


def expansion(*ops):
    def add(function):
        for op in ops:
            EXPANSIONS[op] = function
        return function

    return add


class Maker:
    """Collects the steps of one node; values get names from the node's output."""

    def __init__(self, node, graph, opset, shapes):
        self.node, self.graph, self.opset, self.shapes = node, graph, opset, shapes
        self.nodes, self.count = [], 0

    def constant(self, array):
        self.count += 1
        name = f"{self.node.name}.c{self.count}"
        self.graph.constants[name] = np.asarray(array)
        return name

    def step(self, op, *inputs, out=None, role=None, signal=None, **attributes):
        self.count += 1
        output = out or f"{self.node.name}.{self.count}"
        self.nodes.append(Node(op, list(inputs), [output], role=role, signal=signal, **attributes))
        return output


def expand(graph, opset):
    """The graph with every node written out that has an expansion."""
    found = Graph([], graph.inputs, graph.constants, graph.outputs)
    for node in graph.nodes:
        maker = Maker(node, found, opset, None)
        done = EXPANSIONS.get(node.op, lambda *_: False)(maker, node, graph)
        if done is False:
            found.nodes.append(node)
            continue
        inner = Graph(maker.nodes, graph.inputs, found.constants, graph.outputs)
        if any(step.op in EXPANSIONS and step.op != node.op for step in maker.nodes):
            inner = expand(inner, opset)
            found.constants = inner.constants
        found.nodes.extend(inner.nodes)
    return found


def reduced_axes(node, graph, rank):
    """The axes of a reduction, from its attribute or its constant operand."""
    axes = node.attributes.get("axes")
    if len(node.inputs) > 1 and node.inputs[1]:
        axes = graph.constants[node.inputs[1]].tolist()
    return axes


@expansion("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")
def reduction(make, node, graph):
    """A function of each element, a sum, a function of the sum."""
    x = node.inputs[0]
    inner = {"ReduceL1": "Abs", "ReduceLogSumExp": "Exp"}.get(node.op)
    if node.op in ("ReduceL2", "ReduceSumSquare"):
        x = make.step("Pow", x, make.constant(np.float32(2.0)))
    elif inner:
        x = make.step(inner, x)
    outer = {"ReduceL2": "Sqrt", "ReduceLogSum": "Log", "ReduceLogSumExp": "Log"}.get(node.op)
    axes, keep = reduced_axes(node, graph, None), node.attributes.get("keepdims", 1)
    operands, attributes = [x], {}
    if axes is not None and make.opset >= 13:
        operands.append(make.constant(np.array(axes, np.int64)))
    elif axes is not None:
        attributes["axes"] = axes
    total = make.step("ReduceSum", *operands, keepdims=keep, out=None if outer else node.outputs[0], **attributes)
    if outer:
        make.step(outer, total, out=node.outputs[0])


@expansion("Gemm")
def gemm(make, node, graph):
    """With a constant factor and a constant addend it is one linear map; else its steps."""
    constant = [name in graph.constants for name in node.inputs]
    if len(constant) > 2 and not constant[2] or not any(constant[:2]):
        a, b = node.inputs[:2]
        assert not any(node.attributes.get(name) for name in ("transA", "transB", "alpha", "beta"))
        product = make.step("MatMul", a, b, out=None if len(node.inputs) > 2 else node.outputs[0])
        if len(node.inputs) > 2:
            make.step("Add", product, node.inputs[2], out=node.outputs[0])
        return None
    return False


@expansion("BatchNormalization")
def batch_norm(make, node, graph):
    """The product and the sum that it is, unless it stands behind a convolution."""
    makers = {output: other for other in graph.nodes for output in other.outputs}
    if makers.get(node.inputs[0]) is not None and makers[node.inputs[0]].op == "Conv":
        return False
    rank = graph.inputs[node.inputs[0]].ndim
    column = (1, -1) + (1,) * (rank - 2)
    scale, bias, mean, var = (graph.constants[name].astype(np.float64) for name in node.inputs[1:5])
    factor = scale / np.sqrt(var + float(np.float32(node.attributes.get("epsilon", 1e-5))))
    product = make.step("Mul", node.inputs[0], make.constant(factor.reshape(column)))
    make.step("Add", product, make.constant((bias - mean * factor).reshape(column)), out=node.outputs[0])
    return None


@expansion("Sum", "Mean")
def sum_of_several(make, node, graph):
    """Additions from the left, of a mean's parts of the operands; one operand alone is itself."""
    if len(node.inputs) == 1:
        make.step("Identity", node.inputs[0], out=node.outputs[0])
        return None
    parts = list(node.inputs)
    if node.op == "Mean":
        part = make.constant(np.float64(1.0 / len(parts)))
        parts = [make.step("Mul", name, part) for name in parts]
    total = parts[0]
    for at, name in enumerate(parts[1:], 2):
        total = make.step("Add", total, name, out=node.outputs[0] if at == len(parts) else None)
    return None


