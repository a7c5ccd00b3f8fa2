"""Activations, max pooling, instance norm."""

import numpy as np

from .averages import Average
from .linear import window_slices


class Activation:
    """A function of one tensor with its derivative; relevance passes unchanged."""

    def __init__(self, function, derivative):
        self.run, self.derivative = function, derivative

    def lrp(self, x, relevance, *_):
        return relevance

    def vjp(self, x, g):
        return g * self.derivative(x)


def logistic(x):
    return 1 / (1 + np.exp(-x))


def activation(node, attributes, values):
    kind = node.op_type
    between = lambda low, high: lambda x: ((x > low) & (x < high)) * 1.0
    if kind == "Relu":
        return Activation(lambda x: np.maximum(x, 0), between(0, np.inf))
    if kind == "LeakyRelu":
        a = attributes.get("alpha", 0.01)
        return Activation(lambda x: np.where(x >= 0, x, a * x), lambda x: np.where(x >= 0, 1.0, a))
    if kind == "PRelu":
        slope = values[node.input[1]]
        return Activation(lambda x: np.where(x >= 0, x, slope * x), lambda x: np.where(x >= 0, 1.0, slope))
    if kind == "Clip":
        bounds = [values[n] if n else None for n in list(node.input[1:]) + [""] * (3 - len(node.input))]
        low = attributes.get("min", -np.inf) if bounds[0] is None else bounds[0]
        high = attributes.get("max", np.inf) if bounds[1] is None else bounds[1]
        return Activation(lambda x: np.clip(x, low, high), between(low, high))
    if kind == "Sigmoid":
        return Activation(logistic, lambda x: logistic(x) * (1 - logistic(x)))
    if kind == "Tanh":
        return Activation(np.tanh, lambda x: 1 - np.tanh(x) ** 2)
    if kind == "HardSigmoid":
        a, b = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
        return Activation(lambda x: np.clip(a * x + b, 0, 1), lambda x: a * between(0, 1)(a * x + b))
    if kind == "HardSwish":
        gate = lambda x: np.clip(x / 6 + 0.5, 0, 1)
        return Activation(lambda x: x * gate(x), lambda x: gate(x) + x / 6 * between(-3, 3)(x))
    if kind == "Elu":
        a = attributes.get("alpha", 1.0)
        return Activation(lambda x: np.where(x >= 0, x, a * np.expm1(x)), lambda x: np.where(x >= 0, 1, a * np.exp(x)))
    if kind == "Softplus":
        return Activation(lambda x: np.logaddexp(0, x), logistic)
    return None


class MaxPool:
    def __init__(self, attributes):
        self.average = Average(attributes)

    def winners(self, x):
        """The largest value per window, and the flat spatial index of its first occurrence."""
        kernel, strides, dilations, begin, end, hang, output = self.average.layout(x.shape)
        pads = [(0, 0), (0, 0)] + [(p, q + h) for p, q, h in zip(begin, end, hang)]
        padded = np.pad(x, pads, constant_values=-np.inf)
        index = np.arange(np.prod(x.shape[2:])).reshape(x.shape[2:])
        index = np.pad(index, pads[2:], constant_values=-1)
        best, where = None, None
        for k in np.ndindex(*kernel):
            cut = window_slices(k, output, strides, dilations)
            value, at = padded[(Ellipsis,) + cut], index[cut]
            if best is None:
                best, where = value.copy(), np.broadcast_to(at, value.shape).copy()
            else:
                better = value > best
                best, where = np.where(better, value, best), np.where(better, at, where)
        return best, where

    def run(self, x):
        return self.winners(x)[0]

    def vjp(self, x, g):
        where = self.winners(x)[1]
        n, c = x.shape[:2]
        flat = np.zeros((n, c, int(np.prod(x.shape[2:]))))
        rows, columns = np.ogrid[:n, :c]
        np.add.at(flat, (rows[..., None], columns[..., None], where.reshape(n, c, -1)), g.reshape(n, c, -1))
        return flat.reshape(x.shape)

    def lrp(self, x, relevance, *_):
        return self.vjp(x, relevance)


class InstanceNorm:
    def __init__(self, gain, bias, epsilon):
        self.gain, self.bias, self.epsilon = gain, bias, epsilon

    def statistics(self, x):
        axes = tuple(range(2, x.ndim))
        per_channel = (1, -1) + (1,) * len(axes)
        inverse = 1 / np.sqrt(x.var(axis=axes, keepdims=True) + self.epsilon)
        return axes, x.mean(axis=axes, keepdims=True), inverse, self.gain.reshape(per_channel), self.bias.reshape(per_channel)

    def run(self, x):
        _, mean, inverse, gain, bias = self.statistics(x)
        return (x - mean) * inverse * gain + bias

    def lrp(self, x, relevance, rule, ledger):
        axes, _, inverse, gain, bias = self.statistics(x)
        q = ledger.shared(relevance, self.run(x), rule[1], bias)
        u = q * gain * inverse
        return x * (u - u.mean(axis=axes, keepdims=True))

    def vjp(self, x, g):
        axes, mean, inverse, gain, _ = self.statistics(x)
        u, h = g * gain, (x - mean) * inverse
        project = u - u.mean(axis=axes, keepdims=True) - h * (u * h).mean(axis=axes, keepdims=True)
        return project * inverse
