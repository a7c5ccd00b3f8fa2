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
        found.nodes.extend([node] if done is False else maker.nodes)
    return found
