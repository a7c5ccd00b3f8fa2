"""LSTM, GRU and RNN written out: one linear map on [x, h] for each gate, gates take nothing."""

import numpy as np

from expand import expansion
from functions import FUNCTIONS  # noqa: F401  (activations are steps with names of operators)


class Direction:
    """The weights of one direction, split by gate."""

    def __init__(self, node, graph, at, gates):
        weights = [graph.constants.get(name) if name else None for name in node.inputs]
        self.hidden = weights[2].shape[2]
        split = lambda array: np.split(array[at].astype(np.float64), gates)
        self.w, self.r = split(weights[1]), split(weights[2])
        bias = weights[3][at].astype(np.float64) if len(weights) > 3 and weights[3] is not None else np.zeros(2 * gates * self.hidden)
        self.wb, self.rb = np.split(bias[: gates * self.hidden], gates), np.split(bias[gates * self.hidden :], gates)


class Steps:
    """Steps of one node, with what they share."""

    def __init__(self, make, node, graph):
        self.make, self.node, self.graph = make, node, graph
        self.length = graph.inputs[node.inputs[0]].shape[0]
        self.backwards = node.attributes.get("direction", "forward")
        self.directions = 2 if self.backwards == "bidirectional" else 1
        default = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}[node.op]
        self.activations = node.attributes.get("activations", default * self.directions)
        self.per_direction = len(default)

    def linear(self, x, h, w, r, bias):
        """[x, h] times the two weights, and a bias."""
        make = self.make
        both = make.step("Concat", x, h, axis=1)
        product = make.step("MatMul", both, make.constant(np.concatenate([w.T, r.T])))
        return make.step("Add", product, make.constant(bias))

    def state(self, slot, at):
        """The initial state of a direction, zero where it is not given."""
        name = self.node.inputs[slot] if len(self.node.inputs) > slot else ""
        if name:
            return self.make.step("Gather", name, self.make.constant(np.int64(at)), axis=0)
        batch = self.graph.inputs[self.node.inputs[0]].shape[1]
        hidden = self.graph.constants[self.node.inputs[2]].shape[2]
        return self.make.constant(np.zeros((batch, hidden)))

    def run(self, gates, cell):
        """All directions; `cell(direction, activations, x, state) → state`. State 0 is the output."""
        make, tracks, last = self.make, [], []
        for at in range(self.directions):
            weights = Direction(self.node, self.graph, at, gates)
            names = self.activations[at * self.per_direction : (at + 1) * self.per_direction]
            state = [self.state(5, at)] + ([self.state(6, at)] if self.node.op == "LSTM" else [])
            order = list(range(self.length))
            if at == 1 or self.backwards == "reverse":
                order.reverse()
            track = {}
            for place in order:
                x = make.step("Gather", self.node.inputs[0], make.constant(np.int64(place)), axis=0)
                state = cell(weights, names, x, state)
                track[place] = state[0]
            tracks.append(track)
            last.append(state)
        self.results(tracks, last)

    def results(self, tracks, last):
        make, outputs = self.make, self.node.outputs
        rank_4, rank_3 = make.constant(np.array([0, 1], np.int64)), make.constant(np.array([0], np.int64))
        if outputs[0]:
            rows = []
            for place in range(self.length):
                each = [make.step("Unsqueeze13", track[place], rank_4) for track in tracks]
                rows.append(make.step("Concat", *each, axis=1))
            make.step("Concat", *rows, axis=0, out=outputs[0])
        for at, output in enumerate(outputs[1:]):
            if output:
                each = [make.step("Unsqueeze13", state[at], rank_3) for state in last]
                make.step("Concat", *each, axis=0, out=output)


@expansion("RNN")
def rnn(make, node, graph):
    steps = Steps(make, node, graph)

    def cell(weights, names, x, state):
        z = steps.linear(x, state[0], weights.w[0], weights.r[0], weights.wb[0] + weights.rb[0])
        return [make.step(names[0], z)]

    steps.run(1, cell)


@expansion("LSTM")
def lstm(make, node, graph):
    """Gates in the order i, o, f, c."""
    steps = Steps(make, node, graph)

    def cell(weights, names, x, state):
        h, c = state
        gate = lambda at: make.step(names[0], steps.linear(x, h, weights.w[at], weights.r[at], weights.wb[at] + weights.rb[at]))
        i, o, f = gate(0), gate(1), gate(2)
        z = steps.linear(x, h, weights.w[3], weights.r[3], weights.wb[3] + weights.rb[3])
        kept = make.step("Mul", f, c, role="gate", signal=1)
        new = make.step("Mul", i, make.step(names[1], z), role="gate", signal=1)
        c = make.step("Add", kept, new)
        return [make.step("Mul", o, make.step(names[2], c), role="gate", signal=1), c]

    steps.run(4, cell)


@expansion("GRU")
def gru(make, node, graph):
    """Gates in the order z, r, h."""
    steps = Steps(make, node, graph)
    before_reset = node.attributes.get("linear_before_reset", 0)

    def cell(weights, names, x, state):
        (h,) = state
        gate = lambda at: make.step(names[0], steps.linear(x, h, weights.w[at], weights.r[at], weights.wb[at] + weights.rb[at]))
        z, r = gate(0), gate(1)
        if before_reset:
            product = make.step("MatMul", h, make.constant(weights.r[2].T))
            product = make.step("Add", product, make.constant(weights.rb[2]))
            reset = make.step("Mul", r, product, role="gate", signal=1)
            own = make.step("MatMul", x, make.constant(weights.w[2].T))
            own = make.step("Add", own, make.constant(weights.wb[2]))
            inner = make.step("Add", own, reset)
        else:
            reset = make.step("Mul", r, h, role="gate", signal=1)
            inner = steps.linear(x, reset, weights.w[2], weights.r[2], weights.wb[2] + weights.rb[2])
        rest = make.step("Sub", make.constant(np.float64(1.0)), z)
        new = make.step("Mul", rest, make.step(names[1], inner), role="gate", signal=1)
        kept = make.step("Mul", z, h, role="gate", signal=1)
        return [make.step("Add", new, kept)]

    steps.run(3, cell)
