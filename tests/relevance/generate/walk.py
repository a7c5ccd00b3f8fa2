"""Relevance of a small graph: forward values, then every node's rule against the order, summed and accounted for."""

import numpy as np

import rules
from composites import Composite
import expand_control, expand_quantized, expand_recurrent  # noqa: E401, F401  (they register what they write out)
from expand import expand
from forward import GroupNorm, attributes_of, jacobian, norm_of, run_graph, run_node, softmax, softmax_axes
from functions import FUNCTIONS

LINEAR = ("Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum")
CONVOLUTIONS = ("Conv", "ConvTranspose")
SUMS = (
    "Add Sub Sum Mean ReduceSum ReduceMean AveragePool GlobalAveragePool CumSum Resize Upsample ScatterAdd GridSample"
    " AffineGrid Col2Im DFT RoiAlign"
).split()
# Integers that stand for numbers carry relevance as these do.
KEEPS_INTEGERS = ("QuantizeLinear", "Reshape", "Transpose")
# What else is added or chosen may be infinite: a mask.
ADDITIONS = ("Add", "Sub", "Where", "Concat")
NORMS = ("LayerNormalization", "RMSNormalization", "InstanceNormalization", "GroupNormalization", "MeanVarianceNormalization", "LpNormalization")
CHOICES = ("Max", "Min", "MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin", "Where", "MaxRoiPool")
OPAQUE = (
    "Sign Round Floor Ceil Not And Or Xor Equal Greater Less GreaterOrEqual LessOrEqual ArgMax ArgMin IsNaN IsInf Shape Size"
    " Hardmax NonZero"
).split()
MOVING = (
    "Reshape Transpose Flatten Squeeze Unsqueeze Slice Pad Concat Split Expand Tile Gather GatherElements GatherND DepthToSpace"
    " SpaceToDepth Trilu ReverseSequence Compress ScatterElements ScatterND Scatter CenterCropPad TopK MaxUnpool TensorScatter"
    " Unsqueeze13"
).split()


class Ledger(dict):
    """What was absorbed, by kind."""

    def __init__(self):
        super().__init__(bias=0.0, stabiliser=0.0, rule=0.0)


def undo_broadcast(array, shape):
    """Copies along broadcast axes are added up."""
    while array.ndim > len(shape):
        array = array.sum(axis=0)
    for axis, size in enumerate(shape):
        if size == 1 and array.shape[axis] != 1:
            array = array.sum(axis=axis, keepdims=True)
    return array


class Walk:
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

    def function(self, group, slot):
        """The output of a group as a function of one operand of its first node, all others fixed."""
        first = group[0]

        def run(x):
            operands = [self.values[name] if name else None for name in first.inputs]
            operands[slot] = x
            z = run_node(first, operands, self.opset)[0]
            for node in group[1:]:
                operands = [self.values[name] if name else None for name in node.inputs]
                operands[self.actives(node)[0]] = z
                z = run_node(node, operands, self.opset)[0]
            return z

        return run

    def back_linear(self, group, arrivals, rule, p, taken):
        first, output = group[0], group[-1].outputs[0]
        (slot,) = self.actives(first)
        x, y = self.values[first.inputs[slot]], self.values[output]
        matrix, bias = jacobian(self.function(group, slot), x)
        name, carried = first.inputs[slot], arrivals[output]
        if rule == "Gradient":
            return [(name, ("g", (matrix @ carried[1].ravel()).reshape(x.shape)))]
        include = p.get("bias", "include") == "include"
        if carried[0] == "g" and rule == "Epsilon" and p["eps"] == 0 and include and not p.get("stabiliser"):
            taken["bias"] += float(bias @ carried[1].ravel())
            return [(name, ("g", (matrix @ carried[1].ravel()).reshape(x.shape)))]
        site = rules.Linear(x.ravel(), matrix, self.structure(first, slot, y), bias, y.shape, channels_of(x))
        site.shape_x = x.shape
        r = self.as_relevance(output, carried).ravel()
        return [(name, ("R", rules.LINEAR[rule](site, r, p, taken).reshape(x.shape)))]

    def structure(self, node, slot, y):
        """Which inputs an output sees: the map with weights 1 and without bias."""
        operands = [np.ones_like(self.values[name]) if name else None for name in node.inputs]
        if node.op in CONVOLUTIONS + ("Gemm",):
            operands = [operand if at < 2 else None for at, operand in enumerate(operands[:2])]
        bare = type(node)(node.op, node.inputs[: len(operands)], node.outputs, **{**node.attributes, **({"alpha": None} if node.op == "Gemm" else {})})
        self.keep = getattr(self, "keep", []) + [bare]

        def run(x):
            given = list(operands)
            given[slot] = x
            return run_node(bare, given, self.opset)[0]

        return (jacobian(run, self.values[node.inputs[slot]])[0] != 0).astype(np.float64)

    def parts(self, node):
        """The matrices of an affine operation, one for each active operand (an operand given twice counts twice), and the
        rest of each output."""
        if node.op == "TopK":
            return self.parts_of_top_k(node)
        found, constants = [], {}
        for output in node.outputs:
            if output:
                constants[output] = self.values[output].ravel().copy()
        for slot in self.actives(node):
            x = self.values[node.inputs[slot]]
            matrices = {}
            for at, output in enumerate(node.outputs):
                if not output or self.values[output].dtype.kind != "f":
                    continue

                def run(x, slot=slot, at=at):
                    operands = [self.values[name] if name else None for name in node.inputs]
                    if node.op in ADDITIONS:
                        operands = [np.zeros_like(a) if a.dtype.kind == "f" else a for a in operands]
                    operands[slot] = x
                    return run_node(node, operands, self.opset)[at]

                matrices[output], _ = jacobian(run, x)
                constants[output] -= x.ravel() @ matrices[output]
            found.append((slot, x, matrices))
        return found, constants

    def parts_of_top_k(self, node):
        """Which elements were taken, as the second output says."""
        x, y, places = (self.values[name] for name in (node.inputs[0], *node.outputs))
        matrix, axis = np.zeros((x.size, y.size)), node.attributes.get("axis", -1)
        taken = np.take_along_axis(np.arange(x.size).reshape(x.shape), places, axis)
        matrix[taken.ravel(), np.arange(y.size)] = 1.0
        return [(0, x, {node.outputs[0]: matrix})], {}

    def back_additive(self, group, arrivals, rule, p, taken):
        node, output = group[0], group[0].outputs[0]
        found, constants = self.parts(node)
        y, carried, constant = self.values[output], arrivals[output], constants[output]
        finite = np.abs(y[np.isfinite(y)])
        constant = np.where(np.abs(constant) <= 1e-14 * finite.max(initial=0.0), 0.0, constant)
        matrices = [(x.ravel(), matrices[output]) for _, x, matrices in found]
        linear = rule == "SignedRatio" and p.get("eps") == 0 and p.get("bias", "include") == "include"
        if carried[0] == "g" and (linear or rule == "Gradient"):
            taken["bias"] += float(rules.weighed(constant, carried[1].ravel()).sum())
            shares, carrier = [matrix @ carried[1].ravel() for _, matrix in matrices], "g"
        else:
            adds_constant = node.op in ("Add", "Sub") and len(matrices) == 1
            p = {**p, "adds_constant": adds_constant}
            r = self.as_relevance(output, carried).ravel()
            shares, carrier = rules.SUMS[rule](matrices, constant, r, p, taken, y.shape), "R"
        return [(node.inputs[slot], (carrier, share.reshape(x.shape))) for (slot, x, _), share in zip(found, shares)]

    def back_movement(self, group, arrivals, rule, p, taken):
        """Every element takes its way back; what lands on constants is absorbed."""
        node = group[0]
        found, _ = self.parts(node)
        return self.taken_from(node, [(slot, x, matrices) for slot, x, matrices in found], arrivals, taken)

    def taken_from(self, node, found, arrivals, taken):
        sent = []
        for output, carried in arrivals.items():
            owned = sum(matrices[output].sum(axis=0) for _, _, matrices in found)
            taken["bias"] += float(((1.0 - owned) * self.as_relevance(output, carried).ravel()).sum())
            for slot, x, matrices in found:
                array = (matrices[output] @ carried[1].ravel()).reshape(x.shape)
                sent.append((node.inputs[slot], (carried[0], array)))
        return sent

    def back_select(self, group, arrivals, rule, p, taken):
        node, output = group[0], group[0].outputs[0]
        if rule == "ProportionalPool":
            x, y = self.values[node.inputs[0]], self.values[output]
            r = self.as_relevance(output, arrivals[output]).ravel()
            windows = self.windows(node, x, y)
            (share,) = rules.signed_ratio([(x.ravel(), windows)], np.zeros(y.size), r, p, taken, y.shape)
            return [(node.inputs[0], ("R", share.reshape(x.shape)))]
        winners = self.winners(node, output)
        found = [(slot, self.values[node.inputs[slot]], {output: matrix}) for slot, matrix in winners]
        return self.taken_from(node, found, arrivals, taken)

    def winners(self, node, output):
        """For each active operand the 0/1 matrix of what was taken: the first of equals."""
        y = self.values[output]
        if node.op == "Where":
            return [(slot, matrices[output]) for slot, _, matrices in self.parts(node)[0]]
        if node.op in ("Max", "Min"):
            operands = [np.broadcast_to(self.values[name], y.shape) for name in node.inputs]
            taken = np.argmax(operands, axis=0) if node.op == "Max" else np.argmin(operands, axis=0)
            found = []
            for slot in self.actives(node):
                shape = self.values[node.inputs[slot]].shape
                places = np.broadcast_to(np.arange(int(np.prod(shape))).reshape(shape), y.shape)
                matrix = np.zeros((int(np.prod(shape)), y.size))
                for j in np.flatnonzero(taken.ravel() == slot):
                    matrix[places.ravel()[j], j] = 1.0
                found.append((slot, matrix))
            return found
        x = self.values[node.inputs[0]]
        windows = self.windows(node, x, y)
        matrix = np.zeros_like(windows)
        flat = -x.ravel() if node.op == "ReduceMin" else x.ravel()
        for j in range(y.size):
            seen = np.flatnonzero(windows[:, j])
            matrix[seen[np.argmax(flat[seen])], j] = 1.0
        return [(0, matrix)]

    def windows(self, node, x, y):
        """Which elements each output of a maximum sees: an element is in a window if making it largest changes the output."""
        found = np.zeros((x.size, y.size))
        other = [self.values[name] if name else None for name in node.inputs]
        sign = -1.0 if node.op == "ReduceMin" else 1.0
        for at in range(x.size):
            probe = np.zeros(x.size)
            probe[at] = sign
            operands = [probe.reshape(x.shape), *other[1:]]
            out = run_node(node, operands, self.opset)[0].ravel()
            found[at] = out == sign
        return found

    def back_elementwise(self, group, arrivals, rule, p, taken):
        node, output = group[0], group[0].outputs[0]
        slot = self.actives(node)[0]
        operands = [self.values[name] if name else None for name in node.inputs]
        x, name, carried = operands[slot], node.inputs[slot], arrivals[output]
        if carried[0] == "R":
            return [(name, ("R", undo_broadcast(carried[1], x.shape)))]
        secant, slope = slopes(node, operands, slot, self.values[output])
        if rule == "Gradient":
            return [(name, ("g", undo_broadcast(carried[1] * slope, x.shape)))]
        if secant is None:
            r = self.as_relevance(output, carried)
            return [(name, ("R", undo_broadcast(r, x.shape)))]
        return [(name, ("g", undo_broadcast(carried[1] * secant, x.shape)))]

    def back_normalize(self, group, arrivals, rule, p, taken):
        node, output = group[0], group[0].outputs[0]
        operands = [self.values[name] if name else None for name in node.inputs]
        name, carried, y = node.inputs[0], arrivals[output], self.values[output]
        if node.op == "LpNormalization":
            return [(name, self.of_lp_norm(node, operands[0], y, carried, rule))]
        if node.op == "GroupNormalization":
            whole = GroupNorm(node, operands, self.opset)
            norm, shape = whole.norm, whole.split
        else:
            norm, shape = norm_of(node, operands, self.opset), y.shape
        u = (carried[1]).reshape(shape)
        if rule == "Gradient":
            u, unit = u * norm.scale, (norm.x - norm.mean) * norm.r
            back = u - unit * (u * unit).mean(axis=norm.axes, keepdims=True)
            back = back - u.mean(axis=norm.axes, keepdims=True) if norm.centred else back
            return [(name, ("g", (norm.r * back).reshape(y.shape)))]
        if rule == "NormIdentity":
            return [(name, ("R", self.as_relevance(output, carried)))]
        if not norm.centred:
            if carried[0] == "R":
                return [(name, carried)]
            return [(name, ("g", (u * norm.scale * norm.r).reshape(y.shape)))]
        if carried[0] == "g" and p["eps"] == 0:
            q = u
        else:
            r = self.as_relevance(output, carried).reshape(shape)
            q, lost = rules.signal(r.ravel(), norm.forward().ravel(), p, y.shape)
            q, taken["stabiliser"] = q.reshape(shape), taken["stabiliser"] + lost
        taken["bias"] += float((norm.bias * q).sum())
        w = q * norm.scale * norm.r
        t = w - w.mean(axis=norm.axes, keepdims=True)
        return [(name, ("g", t.reshape(y.shape)))]

    def of_lp_norm(self, node, x, y, carried, rule):
        p, axis = node.attributes.get("p", 2), node.attributes.get("axis", -1)
        size = np.abs(x).sum(axis, keepdims=True) if p == 1 else np.sqrt((x * x).sum(axis, keepdims=True))
        g = carried[1]
        if rule == "Gradient":
            direction = np.sign(x) if p == 1 else y
            return "g", (g - direction * (g * y).sum(axis, keepdims=True)) / size
        return carried if carried[0] == "R" else ("g", g / size)

    def back_softmax(self, group, arrivals, rule, p, taken):
        node, output = group[0], group[0].outputs[0]
        x, name, carried = self.values[node.inputs[0]], node.inputs[0], arrivals[output]
        axes = softmax_axes(node, x.ndim, self.opset)
        s = softmax(x, axes)
        masked = x < -(2.0**24)
        held = np.where(masked, 0.0, x)
        if rule == "Gradient":
            g = carried[1] if node.op == "Softmax" else carried[1] / s
            g = np.where(s == 0, 0.0, g)
            return [(name, ("g", s * (g - (s * g).sum(axis=axes, keepdims=True))))]
        r = self.as_relevance(output, carried)
        if rule == "Stop":
            taken["rule"] += float(r.sum())
            return [(name, ("R", np.zeros_like(x)))]
        if rule == "Identity":
            taken["rule"] += float(r[masked].sum())
            return [(name, ("R", np.where(masked, 0.0, r)))]
        total = r.sum(axis=axes, keepdims=True)
        t = np.where(masked, 0.0, r - s * total)
        if rule == "BiasRedistributed":
            rest = total - (held * t).sum(axis=axes, keepdims=True)
            seen = s > 0
            return [(name, ("R", held * t + seen * rest / seen.sum(axis=axes, keepdims=True)))]
        # R·(1 − (x − x̄)) with x̄ = Σ s·x.
        expected = (s * held).sum(axis=axes, keepdims=True)
        taken["rule"] += float((r * (1.0 - (held - expected))).sum())
        if carried[0] == "g" and node.op == "Softmax":
            g = np.where(s == 0, 0.0, carried[1])
            return [(name, ("g", np.where(masked, 0.0, s * (g - (s * g).sum(axis=axes, keepdims=True)))))]
        return [(name, ("g", t))]

    def back_bilinear(self, group, arrivals, rule, p, taken):
        node, output = group[0], group[0].outputs[0]
        operands = [self.values[name] for name in node.inputs]
        y, carried, actives = self.values[output], arrivals[output], self.actives(node)
        if node.op in ("Mul", "Div"):
            return self.product(node, operands, y, carried, rule, p, taken)
        k = len(actives)
        if rule == "Half" and carried[0] == "R" and node.op == "Einsum" and not sums_over_an_index(node):
            # Nothing is contracted: a product of elements, of which each factor takes half.
            share = carried[1] / k
            return [
                (node.inputs[slot], ("R", operands[slot] * 0.0 + self.copies(node, slot, operands[slot], share)))
                for slot in actives
            ]
        keeps = {"Half": list(range(k)), "Gradient": list(range(k))}.get(rule) or [actives.index(value_slot(node))]
        if rule == "Gradient" or (carried[0] == "g" and p.get("eps") == 0):
            s = carried[1].ravel() / (1 if rule != "Half" else k)
        else:
            r = self.as_relevance(output, carried).ravel()
            s, lost = rules.signal(r, (k if rule == "Half" else 1) * y.ravel(), p, y.shape)
            taken["stabiliser"] += lost
        sent = []
        for at in keeps:
            slot = actives[at]
            x = operands[slot]
            matrix, _ = jacobian(self.function([node], slot), x)
            sent.append((node.inputs[slot], ("g", (matrix @ s).reshape(x.shape))))
        return sent

    def copies(self, node, slot, x, r):
        """What an operand's elements receive of r, each as often as it was copied."""
        matrix, _ = jacobian(self.function([node], slot), x)
        return ((matrix != 0).astype(np.float64) @ r.ravel()).reshape(x.shape)

    def product(self, node, operands, y, carried, rule, p, taken):
        a, b = operands
        divides = node.op == "Div"
        g = carried[1]
        names = node.inputs
        if rule == "Gradient":
            back = [g / b, -g * a / (b * b)] if divides else [g * b, g * a]
            return [(name, ("g", undo_broadcast(part, x.shape))) for name, part, x in zip(names, back, operands)]
        if rule in ("BoundedGate", "Gate", "ValuePath", "Selective"):
            slot = 0 if divides else value_slot(node)
            if carried[0] == "R":
                return [(names[slot], ("R", undo_broadcast(g, operands[slot].shape)))]
            part = g / b if divides else g * operands[1 - slot]
            return [(names[slot], ("g", undo_broadcast(part, operands[slot].shape)))]
        if rule == "AbsRatio":
            sizes = [np.abs(a), 1.0 / np.abs(b) if divides else np.abs(b)]
            sizes = [np.broadcast_to(size, y.shape) for size in sizes]
            r = self.as_relevance(output_of(node), carried)
            s, lost = rules.signal(r.ravel(), (sizes[0] + sizes[1]).ravel(), p, y.shape)
            taken["stabiliser"] += lost
            s = s.reshape(y.shape)
            return [(n, ("R", undo_broadcast(size * s, x.shape))) for n, size, x in zip(names, sizes, operands)]
        if carried[0] == "R":
            return [(name, ("R", undo_broadcast(g / 2, x.shape))) for name, x in zip(names, operands)]
        back = [g / b / 2, g * a / (b * b) / 2] if divides else [g * b / 2, g * a / 2]
        return [(name, ("g", undo_broadcast(part, x.shape))) for name, part, x in zip(names, back, operands)]

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


def output_of(node):
    return node.outputs[0]


def sums_over_an_index(node):
    """Whether an einsum contracts anything."""
    inputs, output = node.attributes["equation"].replace(" ", "").split("->")
    return any(letter not in output for letter in inputs if letter not in ",.")


def value_slot(node):
    """Which operand of a product takes everything, as the case says: `signal=0` or `signal=1` behind the role."""
    return node.signal


def channels_of(x):
    """The channel of each element: its place along axis 1."""
    if x.ndim < 2:
        return np.zeros(x.size, dtype=int)
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return np.broadcast_to(np.arange(x.shape[1]).reshape(shape), x.shape).ravel()


def described(p):
    """Parameters as text."""
    parts = [f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in sorted(p.items())]
    return "(" + ", ".join(parts) + ")" if parts else ""


def slopes(node, operands, slot, y):
    """f(x)/x (its limit f'(0) at 0; `None` where f(0) is not 0) and f'(x) of an element-wise operation."""
    x = operands[slot]
    if node.op in ("QuantizeLinear", "DequantizeLinear"):
        return None, None
    if node.op == "Mul":
        other = operands[1 - slot] * np.ones_like(y)
        return other, other
    if node.op == "Div":
        if slot == 0:
            return np.ones_like(y) / operands[1], np.ones_like(y) / operands[1]
        return None, -operands[0] / (x * x)
    if node.op == "PRelu":
        slope = np.where(x >= 0, 1.0, operands[1] * np.ones_like(y))
        return slope, slope
    if node.op == "Pow":
        exponent = operands[1]
        with np.errstate(all="ignore"):
            slope = exponent * x ** (exponent - 1.0)
            secant = np.where(x == 0, slope, y / np.where(x == 0, 1.0, x))
        return (secant if np.all(exponent > 0) else None), slope
    f, derivative, vanishes = FUNCTIONS[node.op]
    attributes = attributes_of(node, operands)
    with np.errstate(all="ignore"):
        slope = derivative(x, attributes)
        if vanishes is None:
            vanishes = float(f(np.zeros(1), attributes)[0]) == 0.0
        secant = np.where(x == 0, derivative(np.zeros_like(x), attributes), y / np.where(x == 0, 1.0, x))
    return (secant if vanishes else None), slope
