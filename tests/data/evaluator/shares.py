"""The stabiliser, quotients with 0/0 = 0, and the ledger of what is absorbed."""

import numpy as np

EPSILON = 1e-6


def sign(z):
    return np.where(z >= 0, 1.0, -1.0)


def quotient(relevance, z, epsilon):
    """R / S(z), with 0 where S(z) is exactly 0."""
    s = z + epsilon * sign(z)
    return np.divide(relevance, s, out=np.zeros_like(s), where=s != 0)


def unbroadcast(array, shape):
    while array.ndim > len(shape):
        array = array.sum(0)
    axes = tuple(k for k, size in enumerate(shape) if size == 1 and array.shape[k] != 1)
    return array.sum(axes, keepdims=True) if axes else array


class Ledger:
    """Sums of what was absorbed, by kind and by operator."""

    def __init__(self):
        self.bias = self.stabiliser = self.rule = 0.0

    def shared(self, relevance, z, epsilon, bias=None):
        """Books what a denominator S(z) with a bias inside took; returns R / S(z)."""
        s = quotient(relevance, z, epsilon)
        nowhere = (z + epsilon * sign(z)) == 0
        self.stabiliser += float((s * epsilon * sign(z)).sum() + relevance[nowhere].sum())
        if bias is not None:
            self.bias += float((s * bias).sum())
        return s
