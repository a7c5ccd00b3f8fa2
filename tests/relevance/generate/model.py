"""Small ONNX models as plain data: what a case's graph is made of, its JSON and its ONNX form."""

import json
import zlib

import numpy as np
from onnx import TensorProto, helper, numpy_helper

DTYPES = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "float16": TensorProto.FLOAT16,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
}


class Node:
    """One ONNX node. `role` says what the node is in the network where a rule depends on it (see the README)."""

    def __init__(self, op, inputs, outputs, role=None, signal=None, domain="", name=None, **attributes):
        self.op, self.inputs, self.outputs = op, inputs, outputs
        self.role, self.signal, self.domain = role, signal, domain
        self.attributes = {key: value for key, value in attributes.items() if value is not None}
        self.name = name or next(output for output in outputs if output)


class Graph:
    """Nodes in order, float or integer inputs (name → array), constants (name → array), names of outputs."""

    def __init__(self, nodes, inputs, constants=None, outputs=("y",)):
        self.nodes, self.inputs = list(nodes), dict(inputs)
        self.constants, self.outputs = dict(constants or {}), list(outputs)


def rng_of(name):
    """The random numbers of a case: they depend on its name alone."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def values(rng, shape, low=-2.0, high=2.0, zeros=0.0):
    """Multiples of 1/16, which are short in decimal and exact in every floating-point type; some exact zeros."""
    steps = rng.integers(int(low * 16), int(high * 16) + 1, size=shape)
    steps = np.where(steps == 0, 3 if high > 0 else -3, steps)
    found = np.asarray(steps / 16.0)
    if zeros:
        found = np.where(rng.random(shape) < zeros, 0.0, found)
    return found.astype(np.float32)


# --- JSON ------------------------------------------------------------------------------------------------------------


def number(value):
    """A number in JSON: 15 significant digits; infinities as text."""
    value = float(value)
    if np.isnan(value):
        raise ValueError("NaN in a case")
    if np.isinf(value):
        return "inf" if value > 0 else "-inf"
    rounded = float(f"{value:.15g}")
    return int(rounded) if rounded == int(rounded) and abs(rounded) < 1e15 else rounded


def tensor_json(array):
    """Type, shape, and all elements in row-major order."""
    array = np.asarray(array)
    if array.dtype == np.bool_:
        data = [bool(value) for value in array.ravel()]
    elif array.dtype.kind in "iu":
        data = [int(value) for value in array.ravel()]
    else:
        data = [number(value) for value in array.ravel()]
    return {"dtype": str(array.dtype), "shape": list(array.shape), "data": data}


def expected_json(array):
    """Expected numbers; what is rounding noise beside the largest element is written as 0."""
    array = np.asarray(array, dtype=np.float64)
    finite = np.abs(array[np.isfinite(array)])
    noise = 1e-14 * finite.max() if finite.size else 0.0
    return tensor_json(np.where(np.abs(array) <= noise, 0.0, array))


def attribute_json(value):
    """An attribute with its kind, so that 1 and 1.0 are told apart."""
    if isinstance(value, Graph):
        inner = graph_json(value)
        # Of the inputs of an inner graph only type and shape are known.
        inner["inputs"] = {name: {key: tensor[key] for key in ("dtype", "shape")} for name, tensor in inner["inputs"].items()}
        return {"graph": inner}
    if isinstance(value, np.ndarray):
        return {"tensor": tensor_json(value)}
    if isinstance(value, str):
        return {"string": value}
    if isinstance(value, (int, np.integer)):
        return {"int": int(value)}
    if isinstance(value, float):
        return {"float": value}
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value) and value:
        return {"strings": list(value)}
    if isinstance(value, (list, tuple)) and any(isinstance(item, float) for item in value):
        return {"floats": [float(item) for item in value]}
    return {"ints": [int(item) for item in value]}


def node_json(node):
    """One node; what is empty is left out."""
    found = {"op": node.op, "name": node.name, "inputs": node.inputs, "outputs": node.outputs}
    if node.domain:
        found["domain"] = node.domain
    if node.attributes:
        found["attributes"] = {key: attribute_json(value) for key, value in sorted(node.attributes.items())}
    return found


def graph_json(graph):
    """A graph: inputs with their numbers, constants (initializers), nodes, names of outputs."""
    found = {
        "inputs": {name: tensor_json(array) for name, array in graph.inputs.items()},
        "nodes": [node_json(node) for node in graph.nodes],
        "outputs": graph.outputs,
    }
    if graph.constants:
        found["initializers"] = {name: tensor_json(array) for name, array in graph.constants.items()}
    return found


def render(value, indent=0):
    """JSON with one line for each tensor and each node, so that a change of one number is a small difference."""
    pad = "  " * indent
    flat = json.dumps(value)
    if not isinstance(value, (dict, list)) or not value or is_leaf(value):
        return flat
    if isinstance(value, list) and all(not isinstance(item, (dict, list)) for item in value):
        return flat
    inner = "  " * (indent + 1)
    if isinstance(value, dict):
        lines = [f"{inner}{json.dumps(key)}: {render(item, indent + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{pad}}}"
    lines = [inner + render(item, indent + 1) for item in value]
    return "[\n" + ",\n".join(lines) + f"\n{pad}]"


def is_leaf(value):
    """Whether a dictionary stands in one line: a tensor, a node without graphs, a ledger."""
    if not isinstance(value, dict):
        return False
    if "shape" in value or "data" in value or "op" in value or "started" in value:
        return '"graph"' not in json.dumps(value)
    return all(not isinstance(item, (dict, list)) for item in value.values())


# --- ONNX ------------------------------------------------------------------------------------------------------------


def to_onnx(graph, opset, dtype=None, name="case"):
    """The model with the numbers of its inputs left open. `dtype` replaces all floating-point types."""
    model = helper.make_model(
        onnx_graph(graph, name, dtype),
        opset_imports=[helper.make_opsetid("", opset)]
        + ([helper.make_opsetid("com.microsoft", 1)] if any(node.domain for node in graph.nodes) else []),
    )
    model.ir_version = 8 if opset <= 18 else 10 if opset <= 23 else 13
    return model


def retyped(array, dtype):
    """The array, in `dtype` where it is floating-point."""
    array = np.asarray(array)
    return array.astype(dtype) if dtype is not None and array.dtype.kind == "f" else array


def onnx_attribute(key, value, dtype):
    if isinstance(value, Graph):
        value = onnx_graph(value, key, dtype)
    elif isinstance(value, np.ndarray):
        value = numpy_helper.from_array(retyped(value, dtype), key)
    if isinstance(value, (list, tuple)) and not value:
        return helper.make_attribute(key, [], attr_type=7)
    return helper.make_attribute(key, value)


def onnx_graph(graph, name, dtype):
    nodes = []
    for node in graph.nodes:
        made = helper.make_node(node.op, node.inputs, node.outputs, name=node.name, domain=node.domain)
        made.attribute.extend(onnx_attribute(key, value, dtype) for key, value in sorted(node.attributes.items()))
        nodes.append(made)
    inputs = []
    for key, array in graph.inputs.items():
        array = retyped(array, dtype)
        inputs.append(helper.make_tensor_value_info(key, DTYPES[str(array.dtype)], array.shape))
    # Types of outputs are left to whoever reads the model.
    outputs = [helper.make_empty_tensor_value_info(output) for output in graph.outputs]
    constants = [numpy_helper.from_array(retyped(array, dtype), key) for key, array in graph.constants.items()]
    return helper.make_graph(nodes, name, inputs, outputs, constants)
