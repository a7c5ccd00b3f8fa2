"""Writes the tests' quantised models: integers that stand for numbers, with what they give and the relevance of it.

    python quantised.py                writes quantised/ beside this file

Needs numpy, onnx and onnxruntime (see requirements.txt). Deterministic: running it again changes nothing. Per model, in
quantised/NAME/: model.onnx, whose input is x and whose output is y, both float32; inputs.npz; outputs.npz, as onnxruntime
computes it; relevance.npz, `relevance/x` under the ε rule (ε = 1e-6, largest output of each row) in float64 by the
formulas below, which run on the numbers that the integers stand for.
"""

import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
FOLDER = "quantised"
EPS = 1e-6
MS = "com.microsoft"


def stable(z):
    return z + EPS * np.where(z >= 0, 1, -1)


def quantise(x, scale, zero):
    limits = np.iinfo(np.asarray(zero).dtype)
    steps = np.rint(np.asarray(x, np.float32) / np.float32(scale)).astype(np.float64)
    return np.clip(steps + zero, limits.min, limits.max)


def rounded(x, scale, zero):
    """The numbers that the integers for `x` stand for."""
    return (quantise(x, scale, zero) - np.asarray(zero, np.float64)) * np.float64(scale)


def seed(y):
    """R = y at the largest element of each row."""
    flat = np.asarray(y, np.float64).reshape(len(y), -1)
    r = np.zeros_like(flat)
    rows = np.arange(len(flat))
    r[rows, flat.argmax(1)] = flat[rows, flat.argmax(1)]
    return r.reshape(np.shape(y))


def linear(x, w, z, r):
    """ε on `z = x·w + b`."""
    return x * ((r / stable(z)) @ w.T)


def convolve(x, w, bias, stride, pad, back=None):
    """A convolution of two spatial axes, or what `back` sends to its input."""
    n, c, height, width = x.shape
    m, _, kh, kw = w.shape
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    out = [(height + 2 * pad - kh) // stride + 1, (width + 2 * pad - kw) // stride + 1]
    y, sent = np.zeros((n, m, *out)), np.zeros_like(padded)
    for i in range(out[0]):
        for j in range(out[1]):
            place = np.s_[:, :, i * stride : i * stride + kh, j * stride : j * stride + kw]
            y[:, :, i, j] = np.tensordot(padded[place], w, ((1, 2, 3), (1, 2, 3))) + bias
            if back is not None:
                sent[place] += np.tensordot(back[:, :, i, j], w, (1, 0))
    inner = sent[:, :, pad : pad + height, pad : pad + width]
    return y if back is None else inner


class Model:
    def __init__(self, name, x, opset=17):
        self.name, self.opset = name, opset
        self.x = np.asarray(x, np.float32)
        self.nodes, self.initializers = [], []

    def constant(self, value, name=None):
        name = name or f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind, *inputs, outputs=1, domain="", **attributes):
        names = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        made = [f"{kind.lower()}_{len(self.nodes)}_{place}" for place in range(outputs)]
        self.nodes.append(helper.make_node(kind, names, made, domain=domain, **attributes))
        return made[0] if outputs == 1 else made

    def write(self, result, relevance):
        """`relevance` gets what onnxruntime computes."""
        self.nodes.append(helper.make_node("Identity", [result], ["y"]))
        value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        graph = helper.make_graph(
            self.nodes, self.name, [value("x", self.x.shape)], [value("y", None)], self.initializers
        )
        imports = [helper.make_opsetid("", self.opset), helper.make_opsetid(MS, 1)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8 if self.opset < 19 else 10)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        y = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": self.x})[0]
        del model.graph.output[:]
        model.graph.output.append(value("y", y.shape))
        folder = HERE / FOLDER / self.name
        folder.mkdir(parents=True, exist_ok=True)
        onnx.save(model, folder / "model.onnx")
        np.savez(folder / "inputs.npz", x=self.x)
        np.savez(folder / "outputs.npz", y=y)
        np.savez(folder / "relevance.npz", **{"relevance/x": np.asarray(relevance(y), np.float64)})


def numbers(seed, *shape):
    return np.random.RandomState(seed).randn(*shape).astype(np.float32)


def integers(seed, *shape, dtype=np.int8, low=-120, high=120):
    return np.random.RandomState(seed).randint(low, high, shape).astype(dtype)


S, Z = np.float32(0.037), np.uint8(131)
T, U = np.float32(0.051), np.uint8(117)
WS = np.float32(0.013)


def pairs():
    """What is quantised and back again passes relevance on as it is."""
    x = numbers(0, 2, 3, 4) * 2
    per_axis = np.float32([0.02, 0.05, 0.03])
    grids = {
        "pair_u8": (17, S, Z, {}),
        "pair_i8_per_axis": (17, per_axis, np.int8([3, 0, -7]), {"axis": 1}),
        "pair_u16": (21, np.float32(0.001), np.uint16(30000), {}),
        "pair_i16": (21, np.float32(0.001), np.int16(-12), {}),
        "pair_blocked": (21, np.float32(0.02) + 0.01 * np.arange(12, dtype=np.float32).reshape(2, 3, 2), integers(5, 2, 3, 2, low=-9, high=9), {"axis": 2, "block_size": 2}),
    }
    for name, (opset, scale, zero, attributes) in grids.items():
        m = Model(name, x, opset)
        scale, zero = m.constant(scale), m.constant(zero)
        q = m.node("QuantizeLinear", "x", scale, zero, **attributes)
        m.write(m.node("DequantizeLinear", q, scale, zero, **attributes), seed)


def dynamic():
    """As dynamic quantisation of a model writes linear maps: scales from the data, the bias behind them."""
    x, w, bias = numbers(1, 3, 6), integers(2, 6, 4), numbers(3, 4)
    low, high = min(x.min(), 0), max(x.max(), 0)
    scale = np.float32((np.float32(high) - np.float32(low)) / np.float32(255))
    zero = np.uint8(np.rint(-low / scale))
    held = rounded(x, scale, zero)

    def expected(weight, bias, back=seed):
        return lambda y: linear(held, weight, held @ weight + bias, back(held @ weight + bias))

    per_column = np.float32([0.01, 0.02, 0.015, 0.03])
    zeros = np.int8([0, 5, -3, 1])
    for name, ws, wz in [("dynamic_dot", WS, np.int8(0)), ("dynamic_dot_per_column", per_column, zeros)]:
        weight = (w.astype(np.float64) - wz) * ws.astype(np.float64)
        m = Model(name, x)
        q, s, z = m.node("DynamicQuantizeLinear", "x", outputs=3)
        product = m.node("MatMulInteger", q, w, z, wz)
        both = m.node("Mul", s, ws)
        scaled = m.node("Mul", m.node("Cast", product, to=TensorProto.FLOAT), both)
        m.write(m.node("Add", bias, scaled), expected(weight, bias))
        m = Model(f"{name}_in_one", x)
        m.write(m.node("DynamicQuantizeMatMul", "x", w, ws, wz, bias, domain=MS), expected(weight, bias))
        m = Model(f"{name}_to_float", x)
        q, s, z = m.node("DynamicQuantizeLinear", "x", outputs=3)
        m.write(m.node("MatMulIntegerToFloat", q, w, s, ws, z, wz, bias, domain=MS), expected(weight, bias))
    # The integers themselves, cast: no scale is known, and none is needed.
    m = Model("dynamic_dot_of_integers", x)
    q, s, z = m.node("DynamicQuantizeLinear", "x", outputs=3)
    whole = m.node("Cast", m.node("MatMulInteger", q, w, z), to=TensorProto.FLOAT)
    steps = held / np.float64(scale)
    m.write(whole, lambda y: linear(steps, w.astype(np.float64), steps @ w, seed(y)))

    x, w = numbers(4, 2, 3, 5, 5), integers(5, 4, 3, 3, 3)
    low, high = min(x.min(), 0), max(x.max(), 0)
    scale = np.float32((np.float32(high) - np.float32(low)) / np.float32(255))
    image = rounded(x, scale, np.uint8(np.rint(-low / scale)))
    weight, bias = w * np.float64(WS), numbers(6, 4)
    m = Model("dynamic_conv", x)
    q, s, z = m.node("DynamicQuantizeLinear", "x", outputs=3)
    product = m.node("ConvInteger", q, w, z, pads=[1, 1, 1, 1], strides=[2, 2])
    scaled = m.node("Mul", m.node("Cast", product, to=TensorProto.FLOAT), m.node("Mul", s, WS))
    z = convolve(image, weight, bias, 2, 1)
    m.write(
        m.node("Add", scaled, bias.reshape(1, 4, 1, 1)),
        lambda y: image * convolve(image, weight, 0, 2, 1, seed(z) / stable(z)),
    )


def static():
    """Operators from integers to integers."""
    x, w = numbers(7, 3, 6), integers(8, 6, 4)
    held, weight = rounded(x, S, Z), w * np.float64(WS)
    m = Model("qlinear_dot", x)
    q = m.node("QuantizeLinear", "x", S, Z)
    q = m.node("QLinearMatMul", q, S, Z, w, WS, np.int8(0), T, U)
    m.write(m.node("DequantizeLinear", q, T, U), lambda y: linear(held, weight, held @ weight, seed(y)))

    per_row = np.float32([0.01, 0.02, 0.015, 0.03])
    counted = integers(9, 4, dtype=np.int32, low=-900, high=900)
    rows = w.T.copy()
    weight = rows.T * per_row.astype(np.float64)
    bias = counted * per_row.astype(np.float64) * np.float64(S)
    for name, quantised in [("qgemm", True), ("qgemm_to_float", False)]:
        m = Model(name, x)
        q = m.node("QuantizeLinear", "x", S, Z)
        result = [T, U] if quantised else []
        q = m.node("QGemm", q, S, Z, rows, per_row, np.int8([0] * 4), counted, *result, domain=MS, transB=1)
        y = m.node("DequantizeLinear", q, T, U) if quantised else q
        m.write(y, lambda y: linear(held, weight, held @ weight + bias, seed(y)))

    x, w = numbers(10, 2, 3, 6, 6), integers(11, 4, 3, 3, 3)
    held, weight = rounded(x, S, Z), w * per_row.astype(np.float64).reshape(4, 1, 1, 1)
    z = convolve(held, weight, bias, 2, 1)
    m = Model("qlinear_conv", x)
    q = m.node("QuantizeLinear", "x", S, Z)
    zeros = np.int8([0] * 4)
    q = m.node("QLinearConv", q, S, Z, w, per_row, zeros, T, U, counted, pads=[1, 1, 1, 1], strides=[2, 2])
    m.write(
        m.node("DequantizeLinear", q, T, U),
        lambda y: held * convolve(held, weight, 0, 2, 1, seed(y) / stable(z)),
    )


def pointwise():
    x, other = numbers(12, 3, 8), rounded(numbers(13, 3, 8), T, U)
    held, integer = rounded(x, S, Z), quantise(other, T, U).astype(np.uint8)
    out = (np.float32(0.05), np.uint8(120))

    def one(name, kind, relevance, *operands, x=x, **attributes):
        m = Model(name, x)
        q = m.node("QuantizeLinear", "x", S, Z)
        q = m.node(kind, q, S, Z, *operands, *out, domain=MS, **attributes)
        m.write(m.node("DequantizeLinear", q, *out), relevance)

    share = lambda y: held * seed(y) / stable(held + other)
    one("qlinear_add", "QLinearAdd", share, integer, T, U)
    one("qlinear_mul", "QLinearMul", seed, integer, T, U)
    one("qlinear_sigmoid", "QLinearSigmoid", seed)
    one("qlinear_leaky_relu", "QLinearLeakyRelu", seed, alpha=0.1)

    e = np.exp(held - held.max(1, keepdims=True))
    p = e / e.sum(1, keepdims=True)
    softmax = lambda y: held * (seed(y) - p * seed(y).sum(1, keepdims=True))
    one("qlinear_softmax", "QLinearSoftmax", softmax, axis=1, opset=13)

    image = numbers(14, 2, 3, 4, 4)
    pixels = rounded(image, S, Z)

    def average(y):
        mean = pixels.reshape(2, 3, 2, 2, 2, 2).mean((3, 5))
        s = seed(y) / stable(mean)
        return pixels * s.repeat(2, 2).repeat(2, 3) / 4

    one("qlinear_average_pool", "QLinearAveragePool", average, x=image, kernel_shape=[2, 2], strides=[2, 2])
    whole = lambda y: pixels * seed(y) / stable(pixels.mean((2, 3), keepdims=True)) / 16
    one("qlinear_global_average_pool", "QLinearGlobalAveragePool", whole, x=image)
    last = numbers(15, 2, 4, 4, 3)
    row = rounded(last, S, Z)
    whole = lambda y: row * seed(y) / stable(row.mean((1, 2), keepdims=True)) / 16
    one("qlinear_global_average_pool_last", "QLinearGlobalAveragePool", whole, x=last, channels_last=1)

    m = Model("qlinear_concat", x)
    q = m.node("QuantizeLinear", "x", S, Z)
    q = m.node("QLinearConcat", *out, integer, T, U, q, S, Z, domain=MS, axis=1)
    m.write(m.node("DequantizeLinear", q, *out), lambda y: seed(y)[:, 8:])


def moved():
    """Integers that are moved and compared as they are."""
    x = numbers(16, 2, 3, 4, 4)
    m = Model("moved", x)
    q = m.node("QuantizeLinear", "x", S, Z)
    q = m.node("MaxPool", q, kernel_shape=[2, 2], strides=[2, 2])
    q = m.node("Transpose", q, perm=[0, 2, 3, 1])
    both = m.node("Concat", q, np.full((2, 2, 2, 1), 90, np.uint8), axis=3)
    flat = m.node("Reshape", both, np.int64([2, -1]))
    gathered = m.node("Gather", flat, np.int64([3, 1, 3, 0, 12]), axis=1)

    def expected(y):
        pooled = quantise(x, S, Z).reshape(2, 3, 2, 2, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(2, 3, 2, 2, 4)
        r = seed(y)
        flat = np.zeros((2, 16))
        for place, source in enumerate([3, 1, 3, 0, 12]):
            flat[:, source] += r[:, place]
        sent = flat.reshape(2, 2, 2, 4)[..., :3].transpose(0, 3, 1, 2)
        routed = np.zeros(pooled.shape)
        np.put_along_axis(routed, pooled.argmax(4)[..., None], sent[..., None], 4)
        return routed.reshape(2, 3, 2, 2, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(x.shape)

    m.write(m.node("DequantizeLinear", gathered, S, Z), expected)


if __name__ == "__main__":
    for make in (pairs, dynamic, static, pointwise, moved):
        make()
