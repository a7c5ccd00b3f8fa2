"""A graph evaluated once, and walked in reverse for relevance or gradients."""

import copy

import numpy as np
import onnx
from onnx import numpy_helper

from .averages import Average, Mean, Resize, resize_matrix
from .linear import Affine, Conv, ConvTranspose, Dense, Linear
from .nonlinear import InstanceNorm, MaxPool, activation
from .shares import Ledger, unbroadcast


def attributes_of(node):
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


class Network:
    """A graph, evaluated once on given inputs, ready to be explained."""

    def __init__(self, model, inputs):
        self.graph = model.graph
        self.opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        self.constants = {i.name: numpy_helper.to_array(i) for i in self.graph.initializer}
        self.values = {"": None}
        for name, array in self.constants.items():
            self.values[name] = array.astype(np.float64) if array.dtype.kind == "f" else array
        self.inputs = [i.name for i in self.graph.input if i.name not in self.constants]
        for name in self.inputs:
            array = np.asarray(inputs[name])
            self.values[name] = array.astype(np.float64) if array.dtype.kind == "f" else array
        self.active = {name for name in self.inputs if self.values[name].dtype.kind == "f"}
        self.consumers = {}
        for node in self.graph.node:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)
        self.producer = {name: node for node in self.graph.node for name in node.output}
        self.operators, self.folded = {}, {}
        for node in self.graph.node:
            self.evaluate(node)

    # ----- forward

    def evaluate(self, node):
        args = [self.values[name] for name in node.input]
        if not any(name in self.active for name in node.input):
            self.values[node.output[0]] = self.constant(node, args)
            return
        self.active.add(node.output[0])
        operator = self.operator(node, args)
        if operator is not None:
            self.operators[node.output[0]] = operator
            self.values[node.output[0]] = operator.run(args[0])
        else:
            self.values[node.output[0]] = self.movement_or_pair(node, args)[0]

    def constant(self, node, args):
        kind, attributes = node.op_type, attributes_of(node)
        if kind == "Constant":
            array = numpy_helper.to_array(attributes["value"]) if "value" in attributes else np.array(
                next(iter(attributes.values()))
            )
            return array.astype(np.float64) if array.dtype.kind == "f" else array
        if kind == "Identity":
            return args[0]
        raise NotImplementedError(f"constant {kind}")

    def operator(self, node, args):
        kind, attributes = node.op_type, attributes_of(node)
        simple = activation(node, attributes, self.values)
        if simple is not None:
            return simple
        if kind in ("Conv", "ConvTranspose"):
            made = Conv if kind == "Conv" else ConvTranspose
            return made(args[1], args[2] if len(args) > 2 else None, attributes)
        if kind == "Gemm":
            weight = args[1].T if attributes.get("transB", 0) else args[1]
            bias = args[2] * attributes.get("beta", 1.0) if len(args) > 2 and args[2] is not None else 0.0
            assert not attributes.get("transA", 0)
            return Dense(weight * attributes.get("alpha", 1.0), bias)
        if kind == "MatMul" and node.input[1] not in self.active:
            return Dense(args[1], 0.0)
        if kind == "BatchNormalization":
            return self.batch_norm(args, attributes)
        if kind == "InstanceNormalization":
            return InstanceNorm(args[1], args[2], attributes.get("epsilon", 1e-5))
        if kind in ("AveragePool", "MaxPool"):
            return (Average if kind == "AveragePool" else MaxPool)(attributes)
        if kind == "GlobalAveragePool":
            return Mean(range(2, args[0].ndim), 1)
        if kind in ("ReduceMean", "ReduceSum"):
            axes = attributes.get("axes", args[1] if len(args) > 1 else None)
            if axes is None and attributes.get("noop_with_empty_axes", 0):
                axes = ()
            return Mean(axes, attributes.get("keepdims", 1), total=kind == "ReduceSum")
        if kind in ("Resize", "Upsample"):
            return self.resize(node, args, attributes)
        return None

    @staticmethod
    def batch_norm(args, attributes):
        x, gain, bias, mean, variance = args[:5]
        scale = gain / np.sqrt(variance + attributes.get("epsilon", 1e-5))
        shape = (-1,) + (1,) * (x.ndim - 2)
        return Affine(scale.reshape(shape), (bias - mean * scale).reshape(shape))

    def resize(self, node, args, attributes):
        x = args[0]
        if node.op_type == "Upsample":
            attributes = dict(attributes, coordinate_transformation_mode=b"asymmetric", nearest_mode=b"floor")
        scales, sizes = attributes.get("scales", args[-1] if len(args) < 4 else args[2]), None
        if len(args) == 4 and args[3] is not None and args[3].size:
            sizes = args[3]
            scales = [o / n for o, n in zip(sizes, x.shape)]
        else:
            sizes = [int(np.floor(n * s)) for n, s in zip(x.shape, scales)]
        unchanged = lambda k: sizes[k] == x.shape[k] and scales[k] == 1
        return Resize([
            None if unchanged(k) else resize_matrix(x.shape[k], int(sizes[k]), float(scales[k]), attributes)
            for k in range(x.ndim)
        ])

    def movement_or_pair(self, node, args):
        """Value, and for movement the function that takes relevance or gradient back to every active operand."""
        kind, attributes = node.op_type, attributes_of(node)
        x = args[0]
        if kind in ("Identity", "Dropout", "Cast"):
            return x, lambda r: [r]
        if kind == "Flatten":
            axis = attributes.get("axis", 1)
            return x.reshape(int(np.prod(x.shape[:axis])), -1), lambda r: [r.reshape(x.shape)]
        if kind == "Reshape":
            target = attributes["shape"] if "shape" in attributes else args[1]
            shape = [x.shape[k] if d == 0 else int(d) for k, d in enumerate(target)]
            return x.reshape(shape), lambda r: [r.reshape(x.shape)]
        if kind in ("Squeeze", "Unsqueeze"):
            axes = tuple(int(a) for a in attributes.get("axes", args[1] if len(args) > 1 else ()))
            y = np.squeeze(x, axes or None) if kind == "Squeeze" else np.expand_dims(x, axes)
            return y, lambda r: [r.reshape(x.shape)]
        if kind == "Transpose":
            permutation = attributes.get("perm", list(range(x.ndim))[::-1])
            return x.transpose(permutation), lambda r: [r.transpose(np.argsort(permutation))]
        if kind == "Concat":
            axis = attributes["axis"]
            cuts = np.cumsum([a.shape[axis] for a in args])[:-1]
            return np.concatenate(args, axis=axis), lambda r: np.split(r, cuts, axis=axis)
        if kind in ("Add", "Sub", "Mul"):
            return {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}[kind](*args), None
        if kind == "Sum":
            return sum(args), None
        raise NotImplementedError(kind)

    # ----- what belongs together

    def gates(self, node):
        """Which factors of a product are the outputs of a bounded gate, seen through movement."""

        def bounded(name):
            while True:
                producer = self.producer.get(name)
                if producer is None:
                    return False
                if producer.op_type in ("Sigmoid", "HardSigmoid"):
                    return True
                if producer.op_type not in ("Reshape", "Unsqueeze", "Squeeze", "Identity", "Transpose"):
                    return False
                name = producer.input[0]

        return [bounded(name) for name in node.input]

    def is_first(self, name):
        """Whether a tensor is a graph input, seen through movement."""
        while name in self.producer:
            node = self.producer[name]
            if node.op_type not in ("Identity", "Reshape", "Flatten", "Transpose", "Cast", "Dropout", "Squeeze", "Unsqueeze"):
                return False
            name = node.input[0]
        return name in self.inputs

    def merge(self):
        """Folds batch norms and constant additions into the linear map before them."""
        for node in self.graph.node:
            first = node.input[0] if node.input else ""
            before = self.operators.get(first)
            if not isinstance(before, (Conv, ConvTranspose, Dense)) or len(self.consumers.get(first, [])) != 1:
                continue
            if any(output.name == first for output in self.graph.output):
                continue
            if node.op_type == "BatchNormalization":
                norm = self.operators[node.output[0]]
                scale = norm.weight.reshape(-1)
                if isinstance(before, Conv):
                    before.weight = before.weight * scale.reshape((-1,) + (1,) * (before.weight.ndim - 1))
                elif isinstance(before, ConvTranspose):
                    groups = before.attributes.get("group", 1)
                    w = before.weight.reshape((groups, -1) + before.weight.shape[1:])
                    w = w * scale.reshape((groups, 1, -1) + (1,) * (w.ndim - 3))
                    before.weight = w.reshape(before.weight.shape)
                else:
                    before.weight = before.weight * scale
                    norm = Affine(scale, norm.bias.reshape(-1))
                before.bias = before.bias * norm.weight + norm.bias
            elif node.op_type == "Add" and node.input[1] not in self.active and isinstance(before, Dense):
                before.bias = before.bias + self.values[node.input[1]]
            else:
                continue
            self.values[first] = self.values[node.output[0]]
            self.folded[node.output[0]] = first

    # ----- backward

    def backward(self, output, seed, step):
        """Walks the graph once in reverse; `step(node, arrived)` gives what each operand receives."""
        arrived = {output: seed}
        for node in reversed(self.graph.node):
            here = arrived.get(node.output[0])
            if here is None:
                continue
            for name, part in zip(node.input, step(node, here)):
                if part is not None and name in self.active:
                    arrived[name] = arrived[name] + part if name in arrived else part
        return arrived

    def explain(self, settings, output, seed):
        """Relevance of every active tensor under a composite's settings, and the ledger."""
        ledger = Ledger()
        self.merge()

        def linear_rule(node, operator):
            if operator.kind in ("conv", "dense") and "first" in settings and self.is_first(node.input[0]):
                return settings["first"]
            return settings.get(operator.kind, ("epsilon", settings["epsilon"]))

        def step(node, relevance):
            name, args = node.output[0], [self.values[n] for n in node.input]
            if name in self.folded:
                return [relevance]
            operator = self.operators.get(name)
            if operator is not None:
                linear = isinstance(operator, Linear)
                if linear and settings.get("bias") == "exclude":
                    if operator.kind == "affine":
                        # A product with a constant and an excluded addition are identities, at zero too.
                        return [unbroadcast(relevance, args[0].shape)]
                    operator = copy.copy(operator)
                    operator.bias = operator.bias * 0.0
                rule = linear_rule(node, operator) if linear else ("epsilon", settings["epsilon"])
                return [operator.lrp(args[0], relevance, rule, ledger)]
            if node.op_type in ("Add", "Sub", "Sum"):
                return self.sum_step(node, args, relevance, settings["epsilon"], ledger)
            if node.op_type == "Mul":
                return self.product_step(node, args, relevance)
            return self.movement_or_pair(node, args)[1](relevance)

        return self.backward(output, seed, step), ledger

    def sum_step(self, node, args, relevance, epsilon, ledger):
        parts = [-a if node.op_type == "Sub" and k else a for k, a in enumerate(args)]
        constant = sum(p for p, n in zip(parts, node.input) if n not in self.active)
        s = ledger.shared(relevance, self.values[node.output[0]], epsilon, constant)
        return [unbroadcast(p * s, a.shape) for p, a in zip(parts, args)]

    def product_step(self, node, args, relevance):
        active = [name in self.active for name in node.input]
        if sum(active) == 1:
            return [unbroadcast(relevance, a.shape) if on else None for a, on in zip(args, active)]
        gates = self.gates(node)
        if sum(gates) == 1:
            return [None if gate else unbroadcast(relevance, a.shape) for a, gate in zip(args, gates)]
        return [unbroadcast(relevance / 2, a.shape) for a in args]

    def gradient(self, output, seed, relu=None):
        """The gradient; `relu` is what goes through a ReLU instead of it."""
        def step(node, g):
            name, args = node.output[0], [self.values[n] for n in node.input]
            if relu and node.op_type == "Relu":
                return [relu(args[0], g)]
            operator = self.operators.get(name)
            if operator is not None:
                return [operator.vjp(args[0], g)]
            if node.op_type in ("Add", "Sub", "Sum"):
                signs = [-1.0 if node.op_type == "Sub" and k else 1.0 for k in range(len(args))]
                return [unbroadcast(g * sg, a.shape) for sg, a in zip(signs, args)]
            if node.op_type == "Mul":
                return [unbroadcast(g * args[1], args[0].shape), unbroadcast(g * args[0], args[1].shape)]
            return self.movement_or_pair(node, args)[1](g)

        return self.backward(output, seed, step)
