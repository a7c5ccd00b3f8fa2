"""What the case files register: models, each with the versions of the operator set and the rules that it is for."""

import numpy as np
from onnx import defs

from model import Graph, Node, rng_of, values

OLDEST = 7
MODELS = []

GRADIENTS = ["gradient", "input-x-gradient"]
# Where no rule divides and nothing is weighed, these tell all there is to tell.
PASSING = ["epsilon", "attnlrp", "gradient", "input-x-gradient"]
SUMMING = ["epsilon", "epsilon(eps=0.25)", "epsilon(eps=0.25, stabiliser=clip)", "lrp-0", "dynamiclrp", "attnlrp", "gradient"]


class Model:
    """`build(opset, rng)` returns the graph; it is called for each opset with the same random numbers."""

    def __init__(self, operator, name, build, rules, opsets=None, start="coefficient", explained=None, seed=None, dense=False):
        self.operator, self.name, self.build, self.rules = operator, name, build, list(rules)
        self.opsets = sorted(opsets or versions(operator))
        self.start, self.explained, self.seed, self.dense = start, explained, seed, dense
        assert not any(other.operator == operator and other.name == name for other in MODELS), (operator, name)
        MODELS.append(self)


def versions(operator, since=OLDEST, until=10**6, domain=""):
    """The operator set versions from 7 on at which the operator's definition changed; what held before stands at 7."""
    found = {
        max(schema.since_version, OLDEST)
        for schema in defs.get_all_schemas_with_history()
        if schema.name == operator and schema.domain == domain
    }
    return sorted(version for version in found if since <= version <= until)


def seed_of(model, graph, found):
    """Coefficients of the output's elements: about half are 0, and samples have different ones."""
    rng = rng_of(f"{model.operator}/{model.name}/seed")
    seeds = {}
    output = graph.outputs[0]
    shape = found[output].shape
    coefficients = rng.integers(-4, 5, size=shape) / 4.0
    if not model.dense:
        coefficients = np.where(rng.random(shape) < 0.4, 0.0, coefficients)
    coefficients = np.asarray(coefficients, dtype=np.float32)
    if not coefficients.any():
        coefficients = np.ones(shape, np.float32)
    seeds[output] = coefficients
    return seeds


def single(op, inputs, constants=None, node_inputs=None, **attributes):
    """A graph of one node `y`."""
    constants = constants or {}
    names = node_inputs if node_inputs is not None else [*inputs, *constants]
    return Graph([Node(op, names, ["y"], **attributes)], inputs, constants)


def before_dense(nodes, inputs, constants, rng, width, out=3, last="h"):
    """The nodes, whose last value `h` has `width` elements on its last axis, with a dense layer behind, so that what
    arrives at `h` is not proportional to it."""
    weights = {**constants, "dense_w": values(rng, (width, out)), "dense_b": values(rng, (out,))}
    dense = [Node("MatMul", [last, "dense_w"], ["dense"]), Node("Add", ["dense", "dense_b"], ["y"])]
    return Graph([*nodes, *dense], inputs, weights)
