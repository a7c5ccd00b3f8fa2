"""Forward values in f64: own functions where the specification is short, else the reference evaluator of onnx.

Everything that is computed here is compared with onnxruntime by `check.py`.
"""

import numpy as np
from onnx.reference import ReferenceEvaluator

from functions import FUNCTIONS, softplus
from model import Graph, to_onnx


def wide(array):
    """Floating-point numbers as f64, others as they are."""
    array = np.asarray(array)
    return array.astype(np.float64) if array.dtype.kind == "f" else array


# --- norms and softmax, by their formulas ----------------------------------------------------------------------------


def layer_norm_parts(x, axes, epsilon):
    """Mean and 1/σ over `axes`."""
    mean = x.mean(axis=axes, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=axes, keepdims=True)
    return mean, 1.0 / np.sqrt(variance + epsilon)


def softmax(x, axes):
    shifted = np.exp(x - x.max(axis=axes, keepdims=True))
    return shifted / shifted.sum(axis=axes, keepdims=True)


def softmax_axes(node, rank, opset):
    """Softmax is over one axis since version 13; before, over all from `axis` on."""
    if opset >= 13:
        return (node.attributes.get("axis", -1) % rank,)
    return tuple(range(node.attributes.get("axis", 1) % rank, rank))


class Norm:
    """A norm as scale·(x − mean)·r + bias: `axes` of the statistics, weights in x's shape."""

    def __init__(self, x, axes, epsilon, scale, bias, centred=True):
        self.x, self.axes, self.centred = x, axes, centred
        self.scale, self.bias = np.broadcast_to(scale, x.shape), np.broadcast_to(bias, x.shape)
        if centred:
            self.mean, self.r = layer_norm_parts(x, axes, epsilon)
        else:
            self.mean, self.r = 0.0, 1.0 / np.sqrt((x * x).mean(axis=axes, keepdims=True) + epsilon)

    def forward(self):
        return self.scale * (self.x - self.mean) * self.r + self.bias


def per_channel(weight, rank):
    """A weight of shape [C] beside [N, C, …]."""
    return weight.reshape((1, -1) + (1,) * (rank - 2))


def norm_of(node, operands, opset):
    """The norm that a node is."""
    x = operands[0]
    rank, attributes = x.ndim, node.attributes
    epsilon = float(np.float32(attributes.get("epsilon", 1e-5)))
    if node.op in ("LayerNormalization", "RMSNormalization"):
        axes = tuple(range(attributes.get("axis", -1) % rank, rank))
        bias = operands[2] if len(operands) > 2 and operands[2] is not None else 0.0
        return Norm(x, axes, epsilon, operands[1], bias, node.op == "LayerNormalization")
    if node.op == "InstanceNormalization":
        axes = tuple(range(2, rank))
        return Norm(x, axes, epsilon, per_channel(operands[1], rank), per_channel(operands[2], rank))
    if node.op == "MeanVarianceNormalization":
        axes = tuple(axis % rank for axis in attributes.get("axes", [0, 2, 3]))
        norm = Norm(x, axes, 0.0, 1.0, 0.0)
        # The specification adds 1e-9 to the deviation.
        norm.r = 1.0 / (1.0 / norm.r + 1e-9)
        return norm
    raise KeyError(node.op)


class GroupNorm:
    """Group norm: the norm of x seen as [N, G, C/G, …], with weights per channel (per group in version 18)."""

    def __init__(self, node, operands, opset):
        x, scale, bias = operands
        groups = node.attributes["num_groups"]
        epsilon = float(np.float32(node.attributes.get("epsilon", 1e-5)))
        self.shape = x.shape
        self.split = (x.shape[0], groups, x.shape[1] // groups) + x.shape[2:]
        if opset < 21:
            scale, bias = np.repeat(scale, self.split[2]), np.repeat(bias, self.split[2])
        scale = np.broadcast_to(per_channel(scale, x.ndim), x.shape).reshape(self.split)
        bias = np.broadcast_to(per_channel(bias, x.ndim), x.shape).reshape(self.split)
        self.norm = Norm(x.reshape(self.split), tuple(range(2, len(self.split))), epsilon, scale, bias)

    def forward(self):
        return self.norm.forward().reshape(self.shape)


# --- maps that the reference evaluator does not have for every attribute ---------------------------------------------


def repeated(x, scales):
    """Nearest neighbours for whole scales: every element so many times along each axis."""
    for axis, scale in enumerate(scales):
        assert scale == int(scale)
        x = np.repeat(x, int(scale), axis=axis)
    return x


def along_axis(node, parameter, x):
    """A scale or zero point beside x: one number, or one for each place along an axis."""
    parameter = np.asarray(parameter)
    if parameter.size == 1:
        return parameter.reshape(())
    axis = node.attributes.get("axis", 1) % x.ndim
    return parameter.reshape([-1 if at == axis else 1 for at in range(x.ndim)])


def quantised(node, x, scale, zero=np.uint8(0)):
    """To the nearest integer, of two the even one."""
    limits = np.iinfo(np.asarray(zero).dtype)
    raw = np.rint(x / along_axis(node, scale, x)) + along_axis(node, zero, x).astype(np.float64)
    return np.clip(raw, limits.min, limits.max).astype(np.asarray(zero).dtype)


def dequantised(node, q, scale, zero=0):
    zero = along_axis(node, zero, q).astype(np.float64)
    return (q.astype(np.float64) - zero) * along_axis(node, scale, q)


def cut_and_padded(x, pads, value):
    """Padding with a constant, where negative sizes cut."""
    before, after = pads[: x.ndim], pads[x.ndim :]
    ends = [size + min(last, 0) for size, last in zip(x.shape, after)]
    x = x[tuple(slice(max(-first, 0), end) for first, end in zip(before, ends))]
    widths = [(max(first, 0), max(last, 0)) for first, last in zip(before, after)]
    return np.pad(x, widths, constant_values=value)


def cubic_half_pixel(x, scales):
    """Cubic resizing (a = −3/4, half pixels, edges repeated), one axis after another."""
    a = -0.75

    def kernel(t):
        t = abs(t)
        if t <= 1:
            return (a + 2) * t**3 - (a + 3) * t**2 + 1
        return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0

    for axis, scale in enumerate(scales):
        size = x.shape[axis]
        matrix = np.zeros((size, int(np.floor(size * scale))))
        for j in range(matrix.shape[1] if scale != 1 else 0):
            place = (j + 0.5) / scale - 0.5
            for i in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
                matrix[min(max(i, 0), size - 1), j] += kernel(place - i)
        if scale != 1:
            x = np.moveaxis(np.tensordot(x, matrix, axes=(axis, 0)), -1, axis)
    return x


def conv_transpose(node, x, w, bias=None):
    """Every input element lays its kernel, times its value, on the output."""
    a, rank = node.attributes, x.ndim - 2
    groups, strides, dilations = a.get("group", 1), a.get("strides", [1] * rank), a.get("dilations", [1] * rank)
    more = a.get("output_padding", [0] * rank)
    spans = [(w.shape[2 + at] - 1) * dilations[at] + 1 for at in range(rank)]
    whole = [(x.shape[2 + at] - 1) * strides[at] + spans[at] + more[at] for at in range(rank)]
    begin, end = a.get("pads", [0] * 2 * rank)[:rank], a.get("pads", [0] * 2 * rank)[rank:]
    sizes = a.get("output_shape")
    if a.get("auto_pad", "NOTSET").startswith("SAME"):
        sizes = [x.shape[2 + at] * strides[at] for at in range(rank)]
    if sizes:
        cut = [whole[at] - sizes[at] for at in range(rank)]
        assert all(size >= 0 for size in cut)
        upper = a.get("auto_pad") == "SAME_UPPER"
        begin = [size // 2 if upper else size - size // 2 for size in cut]
        end = [size - first for size, first in zip(cut, begin)]
    per_in, per_out = x.shape[1] // groups, w.shape[1]
    y = np.zeros((x.shape[0], per_out * groups, *whole))
    for at in np.ndindex(*x.shape):
        first = at[1] // per_in * per_out
        for tap in np.ndindex(*w.shape[2:]):
            place = tuple(at[2 + i] * strides[i] + tap[i] * dilations[i] for i in range(rank))
            y[(at[0], slice(first, first + per_out), *place)] += x[at] * w[(at[1], slice(None), *tap)]
    y = y[(slice(None), slice(None), *(slice(begin[i], whole[i] - end[i]) for i in range(rank)))]
    return y if bias is None else y + per_channel(bias, x.ndim)


# --- evaluation ------------------------------------------------------------------------------------------------------

EVALUATORS, RENAMED = {}, {}


def by_reference(nodes, operands, outputs, opset):
    """Runs nodes with the reference evaluator, in f64."""
    feeds = {name: wide(array) for name, array in operands.items()}
    key = (id(nodes[0]), len(nodes), opset, tuple(outputs), tuple((name, a.shape, str(a.dtype)) for name, a in feeds.items()))
    if key not in EVALUATORS:
        graph = Graph(nodes, {name: np.zeros(a.shape, a.dtype) for name, a in feeds.items()}, {}, outputs)
        EVALUATORS[key] = (ReferenceEvaluator(to_onnx(graph, opset, np.float64)), nodes)
    with np.errstate(all="ignore"):
        return [wide(array) for array in EVALUATORS[key][0].run(None, feeds)]


def attributes_of(node, operands):
    """The attributes of an element-wise function, with what newer versions give as operands."""
    attributes = dict(node.attributes)
    if node.op == "Clip":
        for key, operand in zip(("min", "max"), operands[1:]):
            if operand is not None:
                attributes[key] = float(operand)
    return attributes


def run_node(node, operands, opset):
    """The outputs of one node; `operands` has `None` for those that are left out."""
    own = run_own(node, operands, opset)
    if own is not None:
        return [own]
    if node.op == "Scatter":
        # The former name of ScatterElements.
        renamed = RENAMED.setdefault(id(node), (type(node)("ScatterElements", node.inputs, node.outputs, **node.attributes), node))
        return run_node(renamed[0], operands, opset)
    named = {name: operand for name, operand in zip(node.inputs, operands) if name}
    wanted = [output for output in node.outputs if output]
    found = dict(zip(wanted, by_reference([node], named, wanted, opset)))
    return [found.get(output) for output in node.outputs]


def run_own(node, operands, opset):
    if node.op in FUNCTIONS:
        with np.errstate(all="ignore"):
            return FUNCTIONS[node.op][0](operands[0], attributes_of(node, operands))
    if node.op in ("Softmax", "LogSoftmax"):
        shares = softmax(operands[0], softmax_axes(node, operands[0].ndim, opset))
        with np.errstate(divide="ignore"):
            return shares if node.op == "Softmax" else np.log(shares)
    if node.op == "GroupNormalization":
        return GroupNorm(node, operands, opset).forward()
    if node.op in ("LayerNormalization", "RMSNormalization", "InstanceNormalization", "MeanVarianceNormalization"):
        return norm_of(node, operands, opset).forward()
    if node.op == "LpNormalization":
        p, axis = node.attributes.get("p", 2), node.attributes.get("axis", -1)
        size = np.abs(operands[0]).sum(axis, keepdims=True) if p == 1 else np.sqrt((operands[0] ** 2).sum(axis, keepdims=True))
        return operands[0] / size
    if node.op == "ConvTranspose":
        return conv_transpose(node, *operands)
    if node.op == "Upsample" or (node.op == "Resize" and opset == 10):
        scales = node.attributes["scales"] if "scales" in node.attributes else operands[-1]
        return repeated(operands[0], scales)
    if node.op == "Unsqueeze13":
        # Axes as an operand, whatever the version is: a step of operators that are written out.
        return np.expand_dims(operands[0], tuple(operands[1].tolist()))
    if node.op == "QuantizeLinear":
        return quantised(node, *operands)
    if node.op == "DequantizeLinear":
        return dequantised(node, *operands)
    if node.op == "Pad" and len(operands) > 1 and operands[1].min() < 0:
        return cut_and_padded(operands[0], operands[1], float(operands[2]))
    if node.op == "Resize" and node.attributes.get("mode") == "cubic":
        return cubic_half_pixel(operands[0], operands[2])
    if node.op == "BatchNormalization":
        x, (scale, bias, mean, var) = operands[0], (per_channel(w, operands[0].ndim) for w in operands[1:5])
        epsilon = float(np.float32(node.attributes.get("epsilon", 1e-5)))
        return scale * (x - mean) / np.sqrt(var + epsilon) + bias
    return None


def run_graph(graph, opset):
    """All values of a graph by name, in f64."""
    found = {name: wide(array) for name, array in {**graph.constants, **graph.inputs}.items()}
    for node in graph.nodes:
        operands = [found[name] if name else None for name in node.inputs]
        found.update(zip(node.outputs, run_node(node, operands, opset)))
    return found


def jacobian(function, x):
    """The matrix of an affine function of x, by its columns: `M[i, j] = f_j(e_i) − f_j(0)`, and `f(0)`."""
    zero = function(np.zeros_like(x)).ravel()
    rows = []
    for at in range(x.size):
        unit = np.zeros(x.size)
        unit[at] = 1.0
        rows.append(function(unit.reshape(x.shape)).ravel() - zero)
    return np.array(rows).reshape(x.size, zero.size), zero
