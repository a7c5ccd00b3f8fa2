"""Compiles a model once, runs it at several lengths of its symbolic axes, and compares its outputs with onnxruntime.

    python bindings.py --lrpc PATH [--sizes 1 5 12] [--rules gradient] MODEL.onnx…

The sizes are given in turn to the symbolic axes, so that no two axes are always equal. Integer inputs are drawn from the
rows of a small table, masks among them keep their first places. Ends with status 1 where an output differs by more
than 1e-5 of the largest.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime


def shapes(model, sizes, turn):
    """The inputs' shapes where the symbols take the sizes from the given turn on."""
    symbols = {}
    found = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        for d in dims:
            if d.dim_param and d.dim_param not in symbols:
                symbols[d.dim_param] = sizes[(turn + len(symbols)) % len(sizes)]
        found[value.name] = [symbols[d.dim_param] if d.dim_param else d.dim_value for d in dims]
    return found, symbols


def draw(name, kind, shape, random):
    if kind == onnx.TensorProto.FLOAT:
        return random.normal(size=shape).astype(np.float32)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    if "mask" in name or dtype == bool:
        kept = random.integers(1, shape[-1] + 1, size=[*shape[:-1], 1])
        return (np.arange(shape[-1]) < kept).astype(dtype)
    return random.integers(0, 16, size=shape).astype(dtype)


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stderr}")


def compare(path, arguments, folder):
    model = onnx.load(path, load_external_data=False)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    graph, found = folder / "model.graph", folder / "found.npz"
    run(arguments.lrpc, "compile", path, "-o", graph, "--rules", arguments.rules, "--outputs", "all")
    worst = 0.0
    for turn in range(len(arguments.sizes)):
        random = np.random.default_rng(turn)
        wanted, symbols = shapes(model, arguments.sizes, turn)
        kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
        inputs = {name: draw(name, kinds[name], shape, random) for name, shape in wanted.items()}
        np.savez(folder / "inputs.npz", **inputs)
        run(arguments.lrpc, "run", graph, "--model", path, "--inputs", folder / "inputs.npz", "-o", found)
        results = np.load(found)
        for output, expected in zip(session.get_outputs(), session.run(None, inputs)):
            got = results[f"output/{output.name}"]
            same = got.shape == expected.shape
            error = np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-30) if same else np.inf
            worst = max(worst, float(error))
            print(f"{path} {symbols} {output.name}: {error:.1e}")
    return worst <= 1e-5


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lrpc", type=pathlib.Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 5, 12])
    parser.add_argument("--rules", default="gradient")
    parser.add_argument("models", type=pathlib.Path, nargs="+")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        good = [compare(path, arguments, pathlib.Path(folder)) for path in arguments.models]
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
