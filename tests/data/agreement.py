"""Compares the program with the independent float64 evaluator, model by model and composite by composite.

    python agreement.py PROGRAM FOLDER [FOLDER …]      prints a Markdown table

A folder holds `inputs.npz` and one or more `*.onnx`. Errors are the largest difference as a share of the largest
expected number; `f32` and `f64` are the program's precisions, the expectation is always float64.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx

from evaluator.network import Network
from reference import COMPOSITES, first_output, relevance


def error(found, wanted):
    return np.abs(np.asarray(found, np.float64) - wanted).max() / np.abs(wanted).max()


def run(program, model, inputs, rules, precision, folder):
    graph, out = folder / "r.graph", folder / "r.safetensors.npz"
    subprocess.run([program, "compile", model, "-o", graph, "--rules", rules], check=True, capture_output=True)
    command = [program, "run", graph, "--inputs", inputs, "-o", out, "--precision", precision, "--audit"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{model} {rules}: status {done.returncode}\n{done.stderr}")
    return np.load(out)


def rows(program, folder):
    inputs = folder / "inputs.npz"
    given = {name: array.astype(np.float64) for name, array in np.load(inputs).items()}
    for path in sorted(folder.glob("*.onnx")):
        model = onnx.load(path)
        shapes = {i.name: len(i.type.tensor_type.shape.dim) for i in model.graph.input}
        if any(name not in shapes for name in given):
            continue
        network = Network(model, given)
        with tempfile.TemporaryDirectory() as scratch:
            scratch = Path(scratch)
            for rules in COMPOSITES:
                wanted, _ = relevance(model, given, rules)
                cells = []
                for precision in ("f32", "f64"):
                    found = run(program, path, inputs, rules, precision, scratch)
                    output = first_output(model)
                    cells.append(error(found[f"output/{output}"], network.values[output]))
                    cells.append(max(error(found[f"relevance/{name}"], array) for name, array in wanted.items()))
                yield f"{folder.name}/{path.name}", rules, cells


def main():
    program = Path(sys.argv[1]).resolve()
    print("| model | composite | output f32 | relevance f32 | output f64 | relevance f64 |\n|---|---|---|---|---|---|")
    for folder in sys.argv[2:]:
        for name, rules, cells in rows(program, Path(folder)):
            print(f"| {name} | {rules} | " + " | ".join(f"{cell:.0e}" for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
