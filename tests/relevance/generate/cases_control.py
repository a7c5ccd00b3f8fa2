"""If, Loop and Scan: relevance equals that of the model written out."""

import numpy as np

from corpus import Model, versions
from model import Graph, Node, values

RULES = ["epsilon", "attnlrp", "gradient"]
CONTROL = [11, 13, 16, 21, 25]


def like(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


def branches(taken, at_run_time):
    def build(opset, rng):
        then = Graph([Node("MatMul", ["x", "w"], ["m"]), Node("Relu", ["m"], ["t"])], {}, {"w": values(rng, (3, 3))}, ["t"])
        other = Graph([Node("Mul", ["x", "c"], ["p"]), Node("Add", ["p", "x"], ["e"])], {}, {"c": values(rng, (3,))}, ["e"])
        inputs, constants = {"x": values(rng, (2, 3))}, {"v": values(rng, (3, 2))}
        (inputs if at_run_time else constants)["condition"] = np.array(taken)
        nodes = [
            Node("If", ["condition"], ["h"], then_branch=then, else_branch=other),
            Node("MatMul", ["h", "v"], ["y"]),
        ]
        return Graph(nodes, inputs, constants)

    return build


def branch_by_data(opset, rng):
    """The condition is computed from what is explained: it takes nothing."""
    then = Graph([Node("Relu", ["x"], ["t"])], {}, {}, ["t"])
    other = Graph([Node("Mul", ["x", "x"], ["e"])], {}, {}, ["e"])
    nodes = [
        Node("ReduceMax", ["x"], ["m"], keepdims=0),
        Node("Greater", ["m", "limit"], ["condition"]),
        Node("If", ["condition"], ["h"], then_branch=then, else_branch=other),
        Node("MatMul", ["h", "v"], ["y"]),
    ]
    return Graph(nodes, {"x": values(rng, (2, 3))}, {"limit": np.float32(0.5), "v": values(rng, (3, 2))})


for taken in (True, False):
    word = "then" if taken else "else"
    Model("If", word + "_known", branches(taken, False), RULES, [11, versions("If")[-1]])
    Model("If", word + "_at_run_time", branches(taken, True), RULES, CONTROL)
Model("If", "condition_of_data", branch_by_data, RULES, [versions("If")[-1]])


def loop(trips, at_run_time=False):
    """h ← tanh(h·w + x), every h also stacked."""

    def build(opset, rng):
        body = Graph(
            [
                Node("MatMul", ["h", "w"], ["m"]),
                Node("Add", ["m", "x"], ["a"]),
                Node("Tanh", ["a"], ["n"]),
                Node("Identity", ["going"], ["go_on"]),
                Node("Identity", ["n"], ["row"]),
            ],
            {"step": like(dtype=np.int64), "going": like(dtype=np.bool_), "h": like(2, 3)},
            {},
            ["go_on", "n", "row"],
        )
        inputs = {"x": values(rng, (2, 3)), "h0": values(rng, (2, 3))}
        constants = {"w": values(rng, (3, 3), -1.0, 1.0), "v": values(rng, (3, 2)), "yes": np.array(True)}
        (inputs if at_run_time else constants)["trips"] = np.int64(trips)
        nodes = [
            Node("Loop", ["trips", "yes", "h0"], ["last", "rows"], body=body),
            Node("MatMul", ["rows", "v"], ["y"]),
        ]
        return Graph(nodes, inputs, constants)

    return build


def loop_until(opset, rng):
    """Runs while the sum of h is below a limit."""
    body = Graph(
        [
            Node("Add", ["h", "x"], ["n"]),
            Node("ReduceSum", ["n"], ["total"], keepdims=0),
            Node("Less", ["total", "limit"], ["go_on"]),
        ],
        {"step": like(dtype=np.int64), "going": like(dtype=np.bool_), "h": like(2, 3)},
        {},
        ["go_on", "n"],
    )
    inputs = {"x": values(rng, (2, 3), 0.25, 1.0), "h0": values(rng, (2, 3), 0.25, 1.0)}
    constants = {"limit": np.float32(20.0), "trips": np.int64(50), "yes": np.array(True), "v": values(rng, (3, 2))}
    nodes = [Node("Loop", ["trips", "yes", "h0"], ["last"], body=body), Node("MatMul", ["last", "v"], ["y"])]
    return Graph(nodes, inputs, constants)


Model("Loop", "trips_known", loop(3), RULES, CONTROL)
Model("Loop", "trips_at_run_time", loop(4, True), RULES, CONTROL)
Model("Loop", "until", loop_until, RULES, [11, versions("Loop")[-1]])


def scan(reverse):
    def build(opset, rng):
        body = Graph(
            [Node("Mul", ["h", "decay"], ["d"]), Node("Add", ["d", "xt"], ["n"]), Node("Tanh", ["n"], ["row"])],
            {"h": like(3), "xt": like(3)},
            {},
            ["n", "row"],
        )
        attributes = {"scan_input_directions": [1], "scan_output_directions": [1]} if reverse else {}
        nodes = [
            Node("Scan", ["h0", "x"], ["last", "rows"], body=body, num_scan_inputs=1, **attributes),
            Node("MatMul", ["rows", "v"], ["y"]),
        ]
        inputs = {"h0": values(rng, (3,)), "x": values(rng, (4, 3))}
        return Graph(nodes, inputs, {"decay": values(rng, (3,), 0.25, 0.875), "v": values(rng, (3, 2))})

    return build


Model("Scan", "forward", scan(False), RULES, CONTROL)
Model("Scan", "reverse", scan(True), RULES, [9, versions("Scan")[-1]])
