"""Relevance of a small graph: forward values, then every node's rule against the order, summed and accounted for."""

import numpy as np

import expand_control, expand_quantized, expand_recurrent  # noqa: E401, F401  (they register what they write out)
from backward import Backward
from composites import Composite
from expand import expand
from forward import run_graph
from functions import FUNCTIONS
from kinds import CHOICES, CONVOLUTIONS, KEEPS_INTEGERS, LINEAR, MOVING, NORMS, OPAQUE, SUMS


class Ledger(dict):
    """What was absorbed, by kind."""

    def __init__(self):
        super().__init__(bias=0.0, stabiliser=0.0, rule=0.0)


class Walk(Backward):
    """One explanation of one graph."""

    def __init__(self, graph, opset, text, seed, start, explained=None):
        self.opset, self.composite = opset, Composite(text)
        self.graph = expand(graph, opset)
        self.values = run_graph(self.graph, opset)
        self.explained = explained or [name for name, a in graph.inputs.items() if np.asarray(a).dtype.kind == "f"]
        self.active = self.active_values()
        self.ledger, self.applied, self.arrived = Ledger(), {}, {}
        self.started = 0.0
        for output, coefficient in seed.items():
            y = self.values[output]
            coefficient = np.asarray(coefficient, dtype=np.float64)
            if self.composite.gradient:
                self.send(output, ("g", coefficient))
                continue
            r = coefficient if start == "relevance" else np.where(coefficient == 0, 0.0, y * coefficient)
            self.started += float(r.sum())
            carried = ("g", coefficient) if self.composite.carrier == "g" and start != "relevance" else ("R", r)
            self.send(output, carried)
        for group in reversed(self.groups()):
            self.back(group)
        self.close()

    # --- structure ---------------------------------------------------------------------------------------------------

    def active_values(self):
        active = set(self.explained)
        for node in self.graph.nodes:
            if node.op not in OPAQUE and any(name in active for name in node.inputs):
                active.update(output for output in node.outputs if output and (self.values[output].dtype.kind == "f" or node.op in KEEPS_INTEGERS))
        return active

    def users(self, name):
        return sum(node.inputs.count(name) for node in self.graph.nodes) + self.graph.outputs.count(name)

    def actives(self, node):
        return [slot for slot, name in enumerate(node.inputs) if name in self.active]

    def groups(self):
        """The nodes, with the addition of a constant (or batch norm) behind a linear map as one with it."""
        groups = []
        for node in self.graph.nodes:
            if not any(output in self.active for output in node.outputs):
                continue
            actives = self.actives(node)
            last = groups[-1][-1] if groups else None
            joins = node.op == "Add" or (node.op == "BatchNormalization" and groups and groups[-1][0].op in CONVOLUTIONS)
            joins = joins and not (self.composite.gradient and node.op == "Add")
            same = joins and len(actives) == 1 and last and node.inputs[actives[0]] == last.outputs[0]
            if same and self.kind(groups[-1][0])[0] == "linear" and self.users(last.outputs[0]) == 1:
                if self.values[last.outputs[0]].shape == self.values[node.outputs[0]].shape:
                    groups[-1].append(node)
                    continue
            groups.append([node])
        return groups

    def kind(self, node):
        """What a node is, and words that say more about it."""
        actives, words = self.actives(node), [node.role] if node.role else []
        op = node.op
        if op in LINEAR and len(actives) == 1:
            words += ["conv"] if op in CONVOLUTIONS else []
            words += ["first"] if self.reads_input(node.inputs[actives[0]]) else []
            return "linear", words
        if op in LINEAR:
            return "bilinear", words
        if op in ("Mul", "Div") and len(set(actives)) > 1:
            return "bilinear", words + ["pointwise"]
        if op in SUMS or node.attributes.get("reduction") == "add":
            if op in ("Add", "Sub"):
                words.append("residual" if len(actives) > 1 else "bias")
            if op in ("AveragePool", "GlobalAveragePool") or self.pools(node):
                words.append("pooling")
            return "additive", words
        if op in NORMS:
            return "normalize", words
        if op in ("Softmax", "LogSoftmax"):
            return "softmax", words
        if op in CHOICES:
            return "select", words + (["maxpool"] if op in ("MaxPool", "GlobalMaxPool") else [])
        if op in MOVING:
            return "movement", words
        if op in FUNCTIONS or op in ("Mul", "Div", "Pow", "PRelu", "QuantizeLinear", "DequantizeLinear"):
            return "elementwise", words + (["relu"] if op == "Relu" else [])
        raise KeyError(op)

    def pools(self, node):
        """Whether a mean is over all axes behind the channels."""
        if node.op != "ReduceMean":
            return False
        x, y = self.values[node.inputs[0]], self.values[node.outputs[0]]
        return x.ndim > 2 and y.shape[:2] == x.shape[:2] and y.size == x.shape[0] * x.shape[1]

    def reads_input(self, name):
        makers = {output: node for node in self.graph.nodes for output in node.outputs}
        while name in makers and makers[name].op in MOVING and makers[name].op != "Concat":
            name = makers[name].inputs[0]
        return name in self.graph.inputs

    # --- relevance ---------------------------------------------------------------------------------------------------

    def send(self, name, carried):
        """Adds what arrives at a value; coefficients stay coefficients only among themselves."""
        carrier, array = carried
        if self.composite.carrier == "R" and carrier == "g":
            carrier, array = "R", self.as_relevance(name, carried)
        if name in self.arrived:
            before = self.arrived[name]
            if before[0] == carrier:
                array = before[1] + array
            else:
                array = self.as_relevance(name, before) + self.as_relevance(name, (carrier, array))
                carrier = "R"
        self.arrived[name] = (carrier, array)

    def as_relevance(self, name, carried):
        carrier, array = carried
        if carrier == "R":
            return array
        with np.errstate(invalid="ignore"):
            return np.where(array == 0, 0.0, self.values[name] * array)

    def back(self, group):
        """One application of a rule: from what arrived at the outputs to what the operands receive."""
        first, last = group[0], group[-1]
        arrivals = {output: self.arrived[output] for output in last.outputs if output in self.arrived}
        if not arrivals or not self.actives(first):
            return
        kind, words = self.kind(first)
        rule, p = self.composite.choose(kind, words)
        self.applied["+".join(node.name for node in group)] = rule + described(p)
        taken = Ledger()
        sent = getattr(self, "back_" + kind)(group, arrivals, rule, p, taken)
        if not self.composite.gradient:
            came = sum(self.as_relevance(name, carried).sum() for name, carried in arrivals.items())
            went = sum(self.as_relevance(name, carried).sum() for name, carried in sent)
            scale = sum(np.abs(self.as_relevance(name, carried)).sum() for name, carried in [*arrivals.items(), *sent])
            miss = abs(came - went - sum(taken.values()))
            scale = max(scale, sum(abs(value) for value in taken.values()))
            assert miss <= 1e-12 * max(scale, 1e-300), f"{last.name} {rule}: {came} in, {went} out, {taken}"
        for key, value in taken.items():
            self.ledger[key] += value
        for name, carried in sent:
            self.send(name, carried)

    # --- results -----------------------------------------------------------------------------------------------------

    def close(self):
        """The relevance of the explained tensors; what started is what arrived and what was absorbed."""
        self.relevance = {}
        for name in self.explained:
            shape = self.values[name].shape
            carried = self.arrived.get(name, ("R", np.zeros(shape)))
            gradient = self.composite.result == "gradient"
            self.relevance[name] = carried[1] if gradient else self.as_relevance(name, carried)
        if self.composite.gradient:
            self.totals = None
            return
        out = {name: float(array.sum()) for name, array in self.relevance.items()}
        miss = abs(self.started - sum(out.values()) - sum(self.ledger.values()))
        scale = sum(np.abs(array).sum() for array in self.relevance.values()) + abs(self.started)
        scale += sum(abs(value) for value in self.ledger.values())
        assert miss <= 1e-12 * max(scale, 1e-300), f"ledger does not close: {miss}"
        self.totals = {"started": self.started, "arrived": out, **self.ledger}


def described(p):
    """Parameters as text."""
    parts = [f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in sorted(p.items())]
    return "(" + ", ".join(parts) + ")" if parts else ""
