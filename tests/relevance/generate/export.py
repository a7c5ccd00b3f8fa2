"""Writes the cases as ONNX models: `export.py FOLDER [OPERATOR…]`. Reads nothing but `cases/`; for other tools."""

import json
import sys
from pathlib import Path

import numpy as np

from model import Graph, Node, to_onnx

CASES = Path(__file__).resolve().parent.parent / "cases"


def array(tensor):
    """A tensor of the corpus; without data, as of inner graphs' inputs, zeros."""
    found = np.array([float(item) if isinstance(item, str) else item for item in tensor.get("data", [])], tensor["dtype"])
    return found.reshape(tensor["shape"]) if "data" in tensor else np.zeros(tensor["shape"], tensor["dtype"])


def attribute(value):
    ((kind, value),) = value.items()
    if kind == "graph":
        return graph(value)
    if kind == "tensor":
        return array(value)
    return [float(item) for item in value] if kind == "floats" else float(value) if kind == "float" else value


def graph(entry):
    """A graph of the corpus."""
    nodes = [
        Node(
            node["op"],
            node["inputs"],
            node["outputs"],
            domain=node.get("domain", ""),
            name=node["name"],
            **{key: attribute(value) for key, value in node.get("attributes", {}).items()},
        )
        for node in entry["nodes"]
    ]
    tensors = lambda key: {name: array(tensor) for name, tensor in entry.get(key, {}).items()}
    return Graph(nodes, tensors("inputs"), tensors("initializers"), entry["outputs"])


def main():
    folder, *wanted = sys.argv[1:]
    for path in sorted(CASES.glob("*.json")):
        if wanted and path.stem not in wanted:
            continue
        for model in json.loads(path.read_text())["models"]:
            for opset in model["opsets"]:
                target = Path(folder, path.stem, model["name"], f"opset{opset}")
                target.mkdir(parents=True, exist_ok=True)
                (target / "model.onnx").write_bytes(to_onnx(graph(model["graph"]), opset).SerializeToString())
                (target / "case.json").write_text(json.dumps({**model, "opsets": [opset]}))


if __name__ == "__main__":
    main()
