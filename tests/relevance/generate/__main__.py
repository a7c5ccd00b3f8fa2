"""Writes `cases/`: one file for each operator. Run as `python tests/relevance/generate`; the same bytes every time."""

import importlib
import json
import sys
import traceback
from pathlib import Path

import corpus
import expand_control, expand_quantized, expand_recurrent  # noqa: E401, F401
from check import compare
from expand import expand
from forward import EVALUATORS, run_graph
from model import expected_json, graph_json, number, render, rng_of, tensor_json
from walk import Walk

VERSION = 1
HERE = Path(__file__).resolve().parent


def family_files():
    return sorted(path.stem for path in HERE.glob("cases_*.py"))


def entry(model, opset):
    """One model at one opset, with everything that is expected of it."""
    label = f"{model.operator}/{model.name}/opset{opset}"
    graph = model.build(opset, rng_of(f"{model.operator}/{model.name}"))
    found = run_graph(expand(graph, opset), opset)
    untold = compare(graph, opset, found, label)
    seed = corpus.seed_of(model, graph, found)
    explanations = []
    for text in model.rules:
        walk = Walk(graph, opset, text, seed, model.start, model.explained)
        explanation = {"rules": text, "applied": dict(reversed(walk.applied.items()))}
        explanation["gradient" if walk.composite.result == "gradient" else "relevance"] = {
            name: expected_json(array) for name, array in walk.relevance.items()
        }
        if walk.totals:
            explanation["ledger"] = ledger_json(walk.totals)
        explanations.append(explanation)
    made = {"name": model.name, "opsets": [opset], "graph": graph_json(graph)}
    if model.explained:
        made["explained"] = model.explained
    made["seed"] = {name: tensor_json(array) for name, array in seed.items()}
    made["start"] = model.start
    made["output"] = {name: expected_json(found[name]) for name in graph.outputs}
    made["explanations"] = explanations
    EVALUATORS.clear()
    return made, untold


def ledger_json(totals):
    found = {key: number(value) if key != "arrived" else {n: number(v) for n, v in value.items()} for key, value in totals.items()}
    scale = 1e-14 * max(1e-300, abs(totals["started"]), *map(abs, totals["arrived"].values()))
    clean = lambda value: 0 if abs(value) <= scale else value
    return {
        key: clean(value) if key != "arrived" else {name: clean(number) for name, number in value.items()}
        for key, value in found.items()
    }


def merged(entries):
    """Versions of the operator set for which everything is the same stand together."""
    found = {}
    for made in entries:
        key = json.dumps({**made, "opsets": None})
        if key in found:
            found[key]["opsets"] += made["opsets"]
        else:
            found[key] = made
    return list(found.values())


def main():
    wanted = set(sys.argv[1:])
    for name in family_files():
        importlib.import_module(name)
    operators, cases, untold, failed = {}, 0, {}, 0
    for model in corpus.MODELS:
        if wanted and model.operator not in wanted:
            continue
        entries = []
        for opset in model.opsets:
            try:
                made, reason = entry(model, opset)
                entries.append(made)
                if reason:
                    untold.setdefault(reason.splitlines()[0][:150], []).append(f"{model.operator}/{model.name}/{opset}")
            except Exception as error:
                failed += 1
                print(f"{model.operator}/{model.name}/opset{opset}: {type(error).__name__}: {str(error)[:1500]}")
                if failed < 4:
                    traceback.print_exc()
        operators.setdefault(model.operator, []).extend(merged(entries))
        cases += sum(len(made["explanations"]) for made in entries)
    if failed:
        sys.exit(f"{failed} models failed; nothing is written")
    folder = HERE.parent / "cases"
    folder.mkdir(exist_ok=True)
    for operator, models in operators.items():
        text = render({"version": VERSION, "operator": operator, "models": models})
        (folder / f"{operator}.json").write_text(text + "\n")
    for reason, names in untold.items():
        print(f"not compared with onnxruntime ({len(names)}: {names[0]} …): {reason}", file=sys.stderr)
    print(f"{len(operators)} operators, {cases} cases")


if __name__ == "__main__":
    main()
