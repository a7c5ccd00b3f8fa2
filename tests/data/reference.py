"""Relevance of small convolutional networks in float64, operator by operator: the truth that the tests compare with.

Plain numpy, no autograd. Every operator of the fixtures' networks has a class in `evaluator/` with three methods: `run`, `lrp`
(relevance of the output to relevance of the input) and `vjp` (gradient). Rules are written with explicit clamps of
weights and inputs, so that nothing is shared with implementations that use the algebraic short cuts.

    python reference.py MODEL.onnx INPUTS.npz COMPOSITE     prints the ledger

Composites (`COMPOSITES`) follow zennit's definitions, with stabiliser 1e-6:

  epsilon                ε on every linear map
  lrp-0                  the same with ε = 0 and 0/0 = 0
  epsilon-plus           z+ on convolutions, ε on dense maps
  epsilon-plus-flat      the same, and flat on the maps that read the input
  epsilon-alpha2-beta1   αβ(2, 1) on convolutions, ε on dense maps
  epsilon-gamma-box      z^B(low, high) on the maps that read the input, γ on the other convolutions, ε on dense maps
  gamma                  γ on convolutions, ε on dense maps
  epsilon-alpha2-beta1-flat   the same as epsilon-alpha2-beta1, and flat on the maps that read the input
  excitation-backprop    z+ on convolutions and dense maps
  gradient, input-x-gradient
  deconvnet, guided-backprop, beta-smooth   gradients of the output times its value, with other ReLUs

Sums of activations, average pooling and resizing share by signed ratio; max pooling gives to the first maximum; activations
pass relevance on; a signal times a sigmoid or hard sigmoid takes everything; instance norm is x * (u - mean(u)).
Batch norm is folded into the convolution before it when it is that one's only consumer, otherwise it is the affine map
that it is, under ε.
"""

import json
import sys

import numpy as np
import onnx

from evaluator.network import Network
from evaluator.nonlinear import logistic
from evaluator.shares import EPSILON

COMPOSITES = {
    "epsilon": {"conv": ("epsilon", EPSILON), "dense": ("epsilon", EPSILON), "epsilon": EPSILON},
    "lrp-0": {"conv": ("epsilon", 0.0), "dense": ("epsilon", 0.0), "epsilon": 0.0},
    "epsilon-plus": {"conv": ("zplus",), "dense": ("epsilon", EPSILON), "epsilon": EPSILON},
    "epsilon-plus-flat": {"first": ("flat",), "conv": ("zplus",), "dense": ("epsilon", EPSILON), "epsilon": EPSILON},
    "epsilon-alpha2-beta1": {"conv": ("alphabeta", 2.0, 1.0), "dense": ("epsilon", EPSILON), "epsilon": EPSILON},
    "epsilon-gamma-box(low=-4,high=4)": {
        "first": ("box", -4.0, 4.0), "conv": ("gamma", 0.25), "dense": ("epsilon", EPSILON), "epsilon": EPSILON,
    },
    "gamma(gamma=0.25)": {"conv": ("gamma", 0.25), "dense": ("epsilon", EPSILON), "epsilon": EPSILON},
    "epsilon-plus(bias=exclude)": {
        "conv": ("zplus",), "dense": ("epsilon", EPSILON), "epsilon": EPSILON, "bias": "exclude",
    },
    "epsilon-alpha2-beta1-flat": {
        "first": ("flat",), "conv": ("alphabeta", 2.0, 1.0), "dense": ("epsilon", EPSILON), "epsilon": EPSILON,
    },
    "excitation-backprop": {"conv": ("zplus",), "dense": ("zplus",), "epsilon": EPSILON},
    "gradient": None,
    "input-x-gradient": None,
    "deconvnet": None,
    "guided-backprop": None,
    "beta-smooth": None,
}

# What goes through a ReLU, from its input and what arrives, where that is not the gradient.
RELUS = {
    "deconvnet": lambda x, g: np.maximum(g, 0),
    "guided-backprop": lambda x, g: np.maximum(g, 0) * (x > 0),
    "beta-smooth": lambda x, g: g * logistic(10 * x),
}


def default_seed(y, unit=False, target=None):
    """y (or 1) at the largest element of every batch row, 0 elsewhere; and the indices chosen."""
    rows = y.reshape(y.shape[0], -1)
    chosen = rows.argmax(1) if target is None else [int(np.ravel_multi_index(target[1:], y.shape[1:]))] * len(rows)
    seed = np.zeros_like(rows)
    for row, column in enumerate(chosen):
        seed[row, column] = 1.0 if unit else rows[row, column]
    return seed.reshape(y.shape), [int(c) for c in chosen]


def first_output(model):
    return model.graph.output[0].name


def relevance(model, inputs, composite, target=None, output=None):
    """Relevance (or gradient) of every float input of a model: ({input name: array}, ledger as a dict).

    `composite` is a name in `COMPOSITES` or settings like those there.
    """
    network = Network(model, inputs)
    output = output or first_output(model)
    settings = COMPOSITES[composite] if isinstance(composite, str) else composite
    gradients = settings is None
    relu = RELUS.get(composite) if isinstance(composite, str) else None
    seed, chosen = default_seed(network.values[output], unit=gradients and relu is None, target=target)
    names = [n for n in network.inputs if n in network.active]
    if gradients:
        arrived = network.gradient(output, seed, relu)
        times = lambda n: network.values[n] if composite == "input-x-gradient" else 1.0
        return {n: arrived[n] * times(n) for n in names}, {"target": chosen}
    arrived, ledger = network.explain(settings, output, seed)
    result = {n: arrived[n] for n in names}
    sums = {
        "target": chosen, "seed": float(seed.sum()), "arrived": float(sum(r.sum() for r in result.values())),
        "bias": ledger.bias, "stabiliser": ledger.stabiliser, "rule": ledger.rule,
    }
    return result, sums


def main():
    model, inputs = onnx.load(sys.argv[1]), np.load(sys.argv[2])
    _, ledger = relevance(model, inputs, sys.argv[3])
    print(json.dumps(ledger, indent=1))


if __name__ == "__main__":
    main()
