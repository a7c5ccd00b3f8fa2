"""Quantised operators written out: dequantise, the ordinary linear map, quantise. Scales are constants, also those that are
computed from data."""

import numpy as np

from expand import expansion
from expand_control import value_of


def dequantised(make, name, scale, zero):
    """A quantised constant as the numbers that it stands for."""
    array, scale, zero = (make.graph.constants.get(part, 0 if part == "" else None) for part in (name, scale, zero))
    assert array is not None
    scale, zero = np.asarray(scale, np.float64), np.asarray(zero, np.float64)
    return make.constant((array.astype(np.float64) - zero) * scale)


@expansion("DynamicQuantizeLinear")
def dynamic(make, node, graph):
    """Scale and zero point, computed in single precision as the specification does, and then held."""
    x = np.asarray(value_of(make, node.inputs[0], graph), np.float32)
    low, high = np.minimum(x.min(), np.float32(0)), np.maximum(x.max(), np.float32(0))
    scale = (high.astype(np.float64) - low.astype(np.float64)) / 255.0
    zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
    make.graph.constants[node.outputs[1]], make.graph.constants[node.outputs[2]] = np.float64(scale), zero
    make.step("QuantizeLinear", node.inputs[0], node.outputs[1], node.outputs[2], out=node.outputs[0])


def zero_point(make, node, slot):
    return node.inputs[slot] if len(node.inputs) > slot and node.inputs[slot] else ""


@expansion("MatMulInteger", "ConvInteger")
def of_integers(make, node, graph):
    zeros = [zero_point(make, node, 2), zero_point(make, node, 3)]
    one = make.constant(np.float64(1.0))
    a = make.step("DequantizeLinear", node.inputs[0], one, *([zeros[0]] if zeros[0] else []))
    b = dequantised(make, node.inputs[1], one, zeros[1])
    op = "MatMul" if node.op == "MatMulInteger" else "Conv"
    make.step(op, a, b, out=node.outputs[0], **node.attributes)


@expansion("QLinearMatMul")
def q_linear_matmul(make, node, graph):
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = node.inputs
    product = make.step("MatMul", make.step("DequantizeLinear", a, a_scale, a_zero), dequantised(make, b, b_scale, b_zero))
    make.step("QuantizeLinear", product, y_scale, y_zero, out=node.outputs[0])


@expansion("QLinearConv")
def q_linear_conv(make, node, graph):
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, *bias = node.inputs
    operands = [make.step("DequantizeLinear", x, x_scale, x_zero), dequantised(make, w, w_scale, w_zero)]
    if bias:
        c = make.graph.constants
        operands.append(make.constant(c[bias[0]].astype(np.float64) * c[x_scale].astype(np.float64) * c[w_scale].astype(np.float64)))
    make.step("QuantizeLinear", make.step("Conv", *operands, **node.attributes), y_scale, y_zero, out=node.outputs[0])
