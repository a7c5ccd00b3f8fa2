"""Writes the backend tests of the Python package onnx as files: python cases.py FOLDER.

Each case is a folder with model.onnx, inputs.safetensors and outputs.safetensors, keyed by the names of the graph's inputs
and outputs. Where the model holds constants, runtime.onnx is the same model with every constant as an input of that
name, and constants.safetensors has their values. cases.json lists the cases with their operators, their tolerances, and
the types of their tensors that are beyond numbers of 8 bits and more; such a case has no tensors. It also lists the operators
of the standard with the versions in which each changed.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from onnx.backend.test.case import model as model_cases
from onnx.backend.test.case import node as node_cases

# Element types by their names in ONNX, and in safetensors.
TYPES = {
    "FLOAT": "F32", "DOUBLE": "F64", "FLOAT16": "F16", "BFLOAT16": "BF16", "BOOL": "BOOL",
    "INT8": "I8", "INT16": "I16", "INT32": "I32", "INT64": "I64",
    "UINT8": "U8", "UINT16": "U16", "UINT32": "U32", "UINT64": "U64",
}  # fmt: skip


def type_name(number):
    return TensorProto.DataType.Name(number)


def value_types(ty):
    """The names of the element types in a TypeProto; sequences and the like by their own name."""
    kind = ty.WhichOneof("value")
    if kind == "tensor_type":
        return {type_name(ty.tensor_type.elem_type)}
    return {kind.removesuffix("_type")} if kind else set()


def graphs(graph):
    """The graph and all graphs in it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from graphs(inner)


def foreign_types(model):
    """The types of tensors anywhere in the model that are beyond numbers of 8 bits and more."""
    try:
        model = onnx.shape_inference.infer_shapes(model)
    except Exception:  # Without inference the declared types are what is known.
        pass
    found = set()
    for graph in graphs(model.graph):
        for info in [*graph.input, *graph.output, *graph.value_info]:
            found |= value_types(info.type)
        found |= {type_name(tensor.data_type) for tensor in graph.initializer}
        for node in graph.node:
            found |= {type_name(attribute.t.data_type) for attribute in node.attribute if attribute.HasField("t")}
            found |= {"STRING" for attribute in node.attribute if node.op_type == "Constant" and "string" in attribute.name}
    return sorted(name.lower() for name in found - set(TYPES) - {"UNDEFINED"})


def tensor(value):
    return value if isinstance(value, TensorProto) else numpy_helper.from_array(np.asarray(value))


def raw(value):
    """Element type, shape and little-endian bytes of a TensorProto."""
    return TYPES[type_name(value.data_type)], list(value.dims), numpy_helper.to_array(value).tobytes()


def write_tensors(path, tensors):
    """Writes the safetensors format: the length of a JSON header, the header, the data."""
    header, data = {}, b""
    # Larger elements first, so that all data are aligned.
    for name, value in sorted(tensors.items(), key=lambda item: -numpy_helper.to_array(item[1]).itemsize):
        dtype, shape, content = raw(value)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def constant(node):
    """The tensor of a Constant node; None where it holds no numbers."""
    (attribute,) = node.attribute
    if attribute.type == AttributeProto.TENSOR:
        return attribute.t
    numbers = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if attribute.name not in numbers:
        return None
    return numpy_helper.from_array(np.array(helper.get_attribute_value(attribute), numbers[attribute.name]))


def with_runtime_constants(model):
    """The model with all constants as inputs, and their values by name. Those of inner graphs are left where they are
    if their name is not unique."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    inputs = {info.name for info in model.graph.input}
    names = [name for graph in graphs(model.graph) for node in graph.node for name in node.output]
    values = {}
    for graph in graphs(model.graph):
        found = {value.name: value for value in graph.initializer}
        made = {node.output[0]: constant(node) for node in graph.node if node.op_type == "Constant"}
        found |= {name: value for name, value in made.items() if value is not None and names.count(name) == 1}
        # A result of an inner graph has to be made there.
        inner = graph is not model.graph
        found = {name: value for name, value in found.items() if not inner or name not in {i.name for i in graph.output}}
        keep = [node for node in graph.node if node.op_type != "Constant" or node.output[0] not in found]
        del graph.node[:], graph.initializer[:]
        graph.node.extend(keep)
        values |= found
    outputs = {info.name for info in model.graph.output}
    for name, value in values.items():
        if name not in inputs:
            model.graph.input.append(helper.make_tensor_value_info(name, value.data_type, list(value.dims)))
    # An output that is a constant itself would be an input handed through.
    return (model, values) if values and not outputs & set(values) else (None, None)


def write(case, folder):
    """Writes the case; its entry in the list."""
    model = case.model
    entry = {
        "name": case.name.removeprefix("test_"),
        "opset": {opset.domain: opset.version for opset in model.opset_import},
        "operators": sorted({node.op_type for graph in graphs(model.graph) for node in graph.node}),
        "rtol": case.rtol,
        "atol": case.atol,
        "foreign": foreign_types(model),
        "runtime": False,
    }
    if entry["foreign"]:
        return entry
    path = folder / entry["name"]
    path.mkdir(parents=True, exist_ok=True)
    (path / "model.onnx").write_bytes(model.SerializeToString())
    ((inputs, outputs),) = case.data_sets
    given = [info.name for info in model.graph.input]
    write_tensors(path / "inputs.safetensors", {name: tensor(v) for name, v in zip(given, inputs)})
    expected = zip((info.name for info in model.graph.output), outputs, strict=True)
    write_tensors(path / "outputs.safetensors", {name: tensor(v) for name, v in expected})
    changed, constants = with_runtime_constants(model)
    if changed:
        (path / "runtime.onnx").write_bytes(changed.SerializeToString())
        write_tensors(path / "constants.safetensors", constants)
        entry["runtime"] = True
    return entry


def main():
    folder = Path(sys.argv[1])
    warnings.simplefilter("ignore")  # Some cases overflow on purpose while they are made.
    cases = node_cases.collect_testcases() + [case for case in model_cases.collect_testcases() if case.model]
    entries = sorted((write(case, folder) for case in cases), key=lambda entry: entry["name"])
    versions = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            versions.setdefault(schema.name, set()).add(schema.since_version)
    operators = {name: sorted(numbers) for name, numbers in sorted(versions.items())}
    content = {"onnx": onnx.__version__, "operators": operators, "cases": entries}
    (folder / "cases.json").write_text(json.dumps(content, indent=1))
    print(f"{len(entries)} cases of onnx {onnx.__version__} in {folder}")


if __name__ == "__main__":
    main()
