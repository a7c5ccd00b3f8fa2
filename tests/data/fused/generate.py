"""Writes small models of operators that only ONNX Runtime defines, of functions that a model defines itself, and of
roundings, each with inputs and with what onnxruntime computes of them. Deterministic.

    python generate.py

Needs numpy, onnx and onnxruntime. Per case NAME: NAME.onnx, and NAME.npz with `input/…` and `output/…`.
"""

import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
MS = "com.microsoft"


def save(name, nodes, inputs, weights, outputs, functions=(), opset=18):
    """`inputs` and `weights` are arrays by name; `outputs` names with ranks, or with (rank, element type)."""
    shapes = [helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in inputs.items()]
    made = []
    for key, rank in outputs.items():
        rank, kind = rank if isinstance(rank, tuple) else (rank, TensorProto.FLOAT)
        made.append(helper.make_tensor_value_info(key, kind, [None] * rank))
    constants = [numpy_helper.from_array(v, k) for k, v in weights.items()]
    graph = helper.make_graph(nodes, name, shapes, made, constants)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MS, 1)]
    opsets += [helper.make_opsetid("local", 1)] if functions else []
    model = helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=9)
    path = HERE / f"{name}.onnx"
    onnx.save(model, path)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found = dict(zip(outputs, session.run(list(outputs), inputs)))
    arrays = {f"input/{k}": v for k, v in inputs.items()} | {f"output/{k}": v for k, v in found.items()}
    np.savez(HERE / f"{name}.npz", **arrays)


def main():
    random = np.random.default_rng(7)
    draw = lambda *shape: random.normal(size=shape).astype(np.float32)
    node = lambda kind, inputs, outputs, domain=MS, **attributes: helper.make_node(
        kind, inputs.split(), outputs.split(), domain=domain, name=f"/{kind}", **attributes
    )
    x, vector = draw(2, 3, 8), lambda: draw(8)

    save("fast_gelu", [node("FastGelu", "x b", "y")], {"x": x}, {"b": vector()}, {"y": 3})
    save("bias_gelu", [node("BiasGelu", "x b", "y")], {"x": x}, {"b": vector()}, {"y": 3})
    save("quick_gelu", [node("QuickGelu", "x", "y", alpha=1.3)], {"x": x}, {}, {"y": 3})
    save("fused_mat_mul", [node("FusedMatMul", "x w", "y", transA=1, transB=1, alpha=0.5)],
         {"x": x}, {"w": draw(2, 5, 3)}, {"y": 3})
    save("fused_mat_mul_batch", [node("FusedMatMul", "x w", "y", transBatchA=1)],
         {"x": draw(4, 2, 3)}, {"w": draw(2, 3, 5)}, {"y": 3})
    save("fused_gemm", [node("FusedGemm", "x w b", "y", transB=1, activation="LeakyRelu", activation_alpha=0.2)],
         {"x": draw(3, 4)}, {"w": draw(5, 4), "b": draw(5)}, {"y": 2})
    save("fused_conv_sum", [node("FusedConv", "x w b z", "y", activation="Relu", pads=[1, 1, 1, 1])],
         {"x": draw(1, 2, 4, 4), "z": draw(1, 3, 4, 4)}, {"w": draw(3, 2, 3, 3), "b": draw(3)}, {"y": 4})
    save("fused_conv_clip", [node("FusedConv", "x w b", "y", activation="Clip", activation_params=[-0.5, 0.75])],
         {"x": draw(1, 2, 4, 4)}, {"w": draw(3, 2, 3, 3), "b": draw(3)}, {"y": 4})
    save("skip_layer_norm",
         [helper.make_node("SkipLayerNormalization", ["x", "s", "g", "c", "b"], ["y", "", "", "sum"], domain=MS, epsilon=1e-3)],
         {"x": x, "s": draw(2, 3, 8)}, {"g": vector(), "c": vector(), "b": vector()}, {"y": 3, "sum": 3})
    save("skip_rms_norm",
         [helper.make_node("SkipSimplifiedLayerNormalization", ["x", "s", "g"], ["y", "", "", "sum"], domain=MS)],
         {"x": x, "s": draw(2, 3, 8)}, {"g": vector()}, {"y": 3, "sum": 3})
    save("rms_norm", [node("SimplifiedLayerNormalization", "x g", "y", domain="", axis=-1, epsilon=1e-3)],
         {"x": x}, {"g": vector()}, {"y": 3})
    ids = random.integers(0, 9, (2, 3)).astype(np.int32)
    save("embed_layer_norm",
         [helper.make_node("EmbedLayerNormalization", ["ids", "kinds", "words", "places", "table", "g", "c"], ["y", "m"], domain=MS)],
         {"ids": ids, "kinds": ids % 2}, {"words": draw(9, 8), "places": draw(5, 8), "table": draw(2, 8), "g": vector(), "c": vector()},
         {"y": 3})
    save("rotary_embedding", [node("RotaryEmbedding", "x p cos sin", "y", num_heads=2)],
         {"x": x, "p": np.array([2], np.int64)}, {"cos": draw(6, 2), "sin": draw(6, 2)}, {"y": 3})

    twice = helper.make_function("local", "Sloped", ["a", "b"], ["c"], [
        helper.make_node("Add", ["a", "b"], ["t"]),
        with_reference(helper.make_node("LeakyRelu", ["t"], ["c"]), "alpha", "slope", TensorProto.FLOAT),
    ], [helper.make_opsetid("", 18)], attribute_protos=[helper.make_attribute("slope", 0.5)])
    branch = lambda name, kind: helper.make_graph(
        [helper.make_node(kind, ["t"], ["r"])], name, [], [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)])
    outer = helper.make_function("local", "Outer", ["a", "w"], ["y", "t"], [
        helper.make_node("Sloped", ["a", "w"], ["t"], domain="local", slope=0.25),
        helper.make_node("Sloped", ["t", "w"], ["u"], domain="local"),
        helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True))),
        helper.make_node("If", ["yes"], ["v"], then_branch=branch("then", "Exp"), else_branch=branch("else", "Neg")),
        helper.make_node("Mul", ["u", "v"], ["y"]),
    ], [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)])
    save("functions", [
        helper.make_node("Outer", ["x", "w"], ["h", "t"], domain="local", name="first"),
        helper.make_node("Outer", ["h", "w"], ["y", "s"], domain="local", name="second"),
    ], {"x": x * 0.3}, {"w": vector()}, {"y": 3, "t": 3}, [twice, outer])

    half = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["h"], ["a"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["x"], ["g"], to=TensorProto.BFLOAT16),
        helper.make_node("Cast", ["g"], ["b"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["i"], ["k"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["k"], ["c"], to=TensorProto.FLOAT),
    ]
    save("roundings", half, {"x": draw(40) * np.float32(3e3), "i": np.array([2049, 2051, 4097, -70001], np.int32)}, {},
         {"h": (1, TensorProto.FLOAT16), "a": 1, "b": 1, "c": 1})


def with_reference(node, name, outer, kind):
    attribute = onnx.AttributeProto(name=name, ref_attr_name=outer, type=onnx.AttributeProto.FLOAT)
    node.attribute.append(attribute)
    return node


if __name__ == "__main__":
    main()
