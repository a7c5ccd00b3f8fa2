"""Compares the generator's forward values with onnxruntime, in f32 and where it can in f64."""

import numpy as np
import onnxruntime

from model import to_onnx

onnxruntime.set_default_logger_severity(4)
NEWEST = 26


def runtime_outputs(graph, opset):
    """The outputs by onnxruntime, or `None` where it has no kernel or does not know the version."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        model = to_onnx(graph, opset)
        model.ir_version = min(model.ir_version, 11)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(None, {name: np.asarray(array) for name, array in graph.inputs.items()})
    except Exception as error:
        return str(error)


def compare(graph, opset, found, label):
    """Asserts that onnxruntime agrees; returns whether it could tell."""
    outputs = runtime_outputs(graph, opset)
    if isinstance(outputs, str):
        return outputs
    for name, theirs in zip(graph.outputs, outputs):
        ours, theirs = np.asarray(found[name], np.float64), np.asarray(theirs, np.float64)
        assert ours.shape == theirs.shape, f"{label}: {name} is {ours.shape}, onnxruntime has {theirs.shape}"
        scale = max(np.abs(ours[np.isfinite(ours)]).max(initial=0.0), 1e-3)
        with np.errstate(invalid="ignore"):
            miss = np.where(ours == theirs, 0.0, np.abs(ours - theirs)).max(initial=0.0)
        assert miss <= 1e-5 * scale, f"{label}: {name} is off by {miss}\n{ours}\n{theirs}"
    return None
