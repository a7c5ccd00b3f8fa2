"""Checks of the reference itself: `python -m unittest` in this folder."""

import pathlib
import unittest

import numpy as np
import onnx

import reference
from evaluator.linear import Dense
from evaluator.network import Network
from evaluator.shares import Ledger

MODELS = pathlib.Path(__file__).parent / "models"
NETWORKS = sorted(path.parent.name for path in MODELS.glob("*/relevance"))


def load(name):
    return onnx.load(MODELS / name / "model.onnx"), dict(np.load(MODELS / name / "inputs.npz"))


class Reference(unittest.TestCase):
    def test_gamma_by_hand(self):
        # Contributions 6 and -2, bias 1: z = 5 > 0, so 6 and 1 count double: 12 - 2 + 2 = 12.
        ledger = Ledger()
        found = Dense(np.array([[2.0], [-1.0]]), np.array([1.0])).lrp(
            np.array([[3.0, 2.0]]), np.array([[12.0]]), ("gamma", 1.0), ledger
        )
        np.testing.assert_allclose(found, [[12.0, -2.0]], rtol=1e-6)
        self.assertAlmostEqual(ledger.bias, 2.0, places=5)

    def test_every_ledger_closes(self):
        for name in NETWORKS:
            model, inputs = load(name)
            for composite, settings in reference.COMPOSITES.items():
                if settings is None:
                    continue
                _, sums = reference.relevance(model, inputs, composite)
                left = sums["seed"] - sums["arrived"] - sums["bias"] - sums["stabiliser"]
                self.assertLess(abs(left), 1e-12 * (abs(sums["seed"]) + 1), (name, composite))

    def test_gradient_is_the_central_difference(self):
        for name in NETWORKS:
            model, inputs = load(name)
            found, sums = reference.relevance(model, inputs, "gradient")
            random = np.random.default_rng(0)
            for _ in range(3):
                direction, h = random.normal(size=inputs["image"].shape), 1e-7
                value = []
                for step in (h, -h):
                    moved = Network(model, {"image": inputs["image"].astype(np.float64) + step * direction})
                    y = moved.values[model.graph.output[0].name].reshape(len(sums["target"]), -1)
                    value.append(sum(y[row, at] for row, at in enumerate(sums["target"])))
                slope = (value[0] - value[1]) / (2 * h)
                self.assertLess(abs(slope - (found["image"] * direction).sum()), 1e-6 * (abs(slope) + 1), name)

    def test_without_bias_lrp_0_is_input_times_gradient(self):
        model, inputs = load("vgg_nobias")
        first, _ = reference.relevance(model, inputs, "lrp-0")
        second, _ = reference.relevance(model, inputs, "input-x-gradient")
        np.testing.assert_allclose(first["image"], second["image"], rtol=0, atol=1e-13)


if __name__ == "__main__":
    unittest.main()
