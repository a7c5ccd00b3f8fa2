"""LSTM, GRU, RNN: all directions, initial states, a dense layer behind."""

import numpy as np

from corpus import Model, versions
from model import Graph, Node, values

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
RULES = ["lrp-0", "attnlrp", "gradient"]


def recurrent(op, direction="forward", bias=True, states=False, output=0, outputs=None, **attributes):
    gates, length, batch, inputs, hidden = GATES[op], 3, 2, 2, 2
    two = 2 if direction == "bidirectional" else 1

    def build(opset, rng):
        given = {"x": values(rng, (length, batch, inputs), zeros=0.1)}
        constants = {
            "w": values(rng, (two, gates * hidden, inputs), -1.25, 1.25),
            "r": values(rng, (two, gates * hidden, hidden), -1.25, 1.25),
        }
        names = ["x", "w", "r"]
        if bias:
            constants["b"] = values(rng, (two, 2 * gates * hidden), -0.75, 0.75)
            names.append("b")
        if states:
            names += [""] * (5 - len(names))
            for state in ("h0", "c0") if op == "LSTM" else ("h0",):
                given[state] = values(rng, (two, batch, hidden))
                names.append(state)
        results = ["", "", ""][: 3 if op == "LSTM" else 2]
        results[output] = "h"
        while not results[-1]:
            results.pop()
        attributes_all = {"hidden_size": hidden, "direction": direction, **attributes}
        constants["dense_w"] = values(rng, (hidden, 3))
        nodes = [Node(op, names, results, **attributes_all), Node("MatMul", ["h", "dense_w"], ["y"])]
        return Graph(nodes, given, constants)

    return build


for op in GATES:
    newest = versions(op)[-1:]
    Model(op, "forward", recurrent(op), RULES + ["epsilon"])
    Model(op, "last_state", recurrent(op, output=1), RULES)
    Model(op, "bidirectional", recurrent(op, "bidirectional"), RULES, newest)
    Model(op, "reverse", recurrent(op, "reverse", bias=False), RULES, newest)
    Model(op, "initial_states", recurrent(op, states=True), RULES, newest)
Model("LSTM", "last_cell", recurrent("LSTM", output=2), RULES, versions("LSTM")[-1:])
Model("GRU", "linear_before_reset", recurrent("GRU", linear_before_reset=1), RULES)
Model("RNN", "relu", recurrent("RNN", activations=["Relu"]), RULES, versions("RNN")[-1:])
Model("LSTM", "activations", recurrent("LSTM", activations=["Sigmoid", "Softsign", "Tanh"]), RULES, versions("LSTM")[-1:])
