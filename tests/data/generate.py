"""Writes the tests' models, inputs, outputs and expected relevance. Deterministic: running it again changes nothing.

    python generate.py                 writes models/ and broken/ beside this file
    python generate.py --only NAME…    only these models
    python generate.py --big PATH      writes a network of about 700 nodes instead

Needs numpy, onnx and onnxruntime (see requirements.txt). Per model, in models/NAME/:

  model.onnx
  inputs.npz        by input name, float32
  outputs.npz       by output name: onnxruntime without optimisations, float32
  outputs_f64.npz   the same in float64, from evaluator/, a formula or onnx's reference evaluator: see meta.json
  relevance/*.npz   networks only: `relevance/<input name>` in float64, from reference.py
  meta.json         opset, where float64 comes from, how far float32 is from it, targets and ledger per composite
"""

import argparse
import json
import pathlib
import shutil

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import reference
from evaluator.network import Network
from fixtures import broken
from fixtures.activations import activations
from fixtures.choices import choices
from fixtures.dynamic import DYNAMIC, write_dynamic
from fixtures.explained import explained
from fixtures.families import FAMILIES, big
from fixtures.operators import operators
from fixtures.patterns import patterns
from fixtures.spatial import spatial

HERE = pathlib.Path(__file__).parent

# Largest deviation of float32 relevance that a network may show under rounding of its weights and inputs: the seed is
# raised until a network keeps it, so that tests compare rules and not cancellation.
SENSITIVITY = 2e-5
OLD_COMPOSITES = ("epsilon", "epsilon-plus-flat")


def run_onnxruntime(model, inputs):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs)))


def widened(model):
    """A copy of the model in float64."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    wide = lambda t: numpy_helper.from_array(numpy_helper.to_array(t).astype(np.float64), t.name)
    for tensor in copy.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(wide(tensor))
    for info in list(copy.graph.input) + list(copy.graph.output):
        if info.type.tensor_type.elem_type == TensorProto.FLOAT:
            info.type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in copy.graph.node:
        for attribute in list(node.attribute):
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
            if node.op_type == "Constant" and attribute.name == "value_float":
                node.attribute.remove(attribute)
                node.attribute.append(
                    helper.make_attribute("value", numpy_helper.from_array(np.float64(attribute.f)))
                )
    return copy


def deviation(a, b):
    return float(np.abs(a - b).max(initial=0.0) / max(np.abs(b).max(initial=0.0), 1e-30))


def run_f64(model, inputs, outputs, by_hand):
    """Float64 outputs, their source, how far float32 is from them, and what the other evaluators say.

    The first that runs and agrees with float32 to 1e-5 counts. onnx's own comes last: some of its operators are wrong or
    compute in float32 (erf, cubic resizing, the 1/6 of hard-swish).
    """
    wide = {n: a.astype(np.float64) if a.dtype == np.float32 else a for n, a in inputs.items()}

    def by_onnx():
        return dict(zip(outputs, ReferenceEvaluator(widened(model)).run(list(outputs), wide)))

    def by_evaluator():
        network = Network(model, inputs)
        return {name: network.values[name] for name in outputs}

    def by_formula():
        return {name: by_hand(*wide.values()) for name in outputs}

    found, others = None, {}
    first = ("formula", by_formula) if by_hand else ("evaluator", by_evaluator)
    for source, evaluate in (first, ("onnx.reference", by_onnx)):
        try:
            values = {n: np.asarray(a) for n, a in evaluate().items()}
        except Exception as error:  # An evaluator that lacks an operator says so in many ways.
            others[source] = f"fails with {type(error).__name__}"
            continue
        fits = all(values[n].shape == a.shape and values[n].dtype == np.float64 for n, a in outputs.items())
        worst = max(deviation(values[n], a) for n, a in outputs.items()) if fits else np.inf
        if found is not None:
            difference = max(deviation(values[n], a) for n, a in found[0].items()) if fits else np.inf
            others[source] = f"differs by {difference:.1e}" if fits else "has another shape or type"
        elif worst < 1e-5:
            found = (values, source, worst)
        else:
            others[source] = f"differs from onnxruntime by {worst:.1e}"
    if found is None:
        raise ValueError(f"{model.graph.name}: {others}")
    return *found, others


def rounded(model, inputs, random):
    """The model and its inputs with every number off by up to half a unit in the last place of float32."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    noise = lambda a: a.astype(np.float64) * (1 + random.uniform(-6e-8, 6e-8, size=a.shape))
    for tensor in copy.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and not tensor.name.startswith(("scales", "roi")):
            tensor.CopyFrom(numpy_helper.from_array(noise(array), tensor.name))
    return copy, {n: noise(a) for n, a in inputs.items()}


def relevances(model, inputs, composites):
    """{composite: (arrays, ledger)}, and the largest relative change of any under rounding."""
    found, worst = {}, 0.0
    for composite in composites:
        found[composite] = reference.relevance(model, inputs, composite)
        for trial in range(2):
            moved, _ = reference.relevance(*rounded(model, inputs, np.random.default_rng(trial)), composite)
            worst = max([worst] + [deviation(moved[n], a) for n, a in found[composite][0].items()])
    return found, worst


def save(path, arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)


def write_model(folder, b, model, meta):
    """Model, inputs and both kinds of outputs."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    outputs = run_onnxruntime(model, b.arrays)
    exact, source, worst, others = run_f64(model, b.arrays, outputs, b.exact)
    save(folder / "inputs.npz", b.arrays)
    save(folder / "outputs.npz", outputs)
    save(folder / "outputs_f64.npz", exact)
    meta |= {"opset": b.opset, "ir_version": model.ir_version, "nodes": len(model.graph.node), "dynamic": b.dynamic}
    meta |= {"f64_source": source, "f32_deviation": float(f"{worst:.1e}")}
    meta["f64_others"] = others


def write_operator(folder, b):
    meta = {"kind": "operator"}
    write_model(folder, b, b.model(), meta)
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def write_family(folder, name):
    """A network with relevance under every composite (two of them for old opsets)."""
    make, options = FAMILIES[name]
    old = options.get("opset", 18) != 18
    composites = OLD_COMPOSITES if old else tuple(reference.COMPOSITES)
    for seed in range(200):
        b = make(name, seed=seed, **options)
        model = b.model()
        found, sensitivity = relevances(model, b.arrays, composites)
        if sensitivity <= SENSITIVITY:
            break
    else:
        raise ValueError(f"{name}: no seed keeps float32 relevance within {SENSITIVITY}")
    meta = {"kind": "network", "seed": seed, "f32_relevance_sensitivity": float(f"{sensitivity:.1e}")}
    meta |= {"explained": b.outputs[0], "relevance": {}}
    write_model(folder, b, model, meta)
    for composite, (arrays, ledger) in found.items():
        file = composite.replace("(bias=exclude)", "-without-bias").split("(")[0] + ".npz"
        save(folder / "relevance" / file, {f"relevance/{n}": a for n, a in arrays.items()})
        meta["relevance"][file] = {"rules": composite, **ledger}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    print(f"{name}: seed {seed}, sensitivity {sensitivity:.1e}, float32 {meta['f32_deviation']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--big", metavar="PATH", type=pathlib.Path)
    parser.add_argument("--only", metavar="NAME", nargs="*")
    arguments = parser.parse_args()
    if arguments.big:
        arguments.big.write_bytes(big().model().SerializeToString(deterministic=True))
        return
    for name in FAMILIES:
        if not arguments.only or name in arguments.only:
            write_family(HERE / "models" / name, name)
    single = {f"op_{name}": b for name, b in (operators() | choices() | spatial()).items()} | activations() | patterns() | explained()
    for name, b in single.items():
        if not arguments.only or name in arguments.only:
            write_operator(HERE / "models" / name, b)
    for name, make in DYNAMIC.items():
        if not arguments.only or name in arguments.only:
            write_dynamic(HERE / "dynamic" / name, make(name), run_onnxruntime)
    if not arguments.only:
        shutil.rmtree(HERE / "broken", ignore_errors=True)
        broken.write(HERE / "broken")


if __name__ == "__main__":
    main()
