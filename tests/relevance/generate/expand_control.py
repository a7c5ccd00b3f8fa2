"""If, Loop and Scan written out: the branch that is taken, the body once for each iteration."""

import numpy as np

from expand import expand, expansion
from forward import run_graph
from model import Graph, Node


def inline(make, body, given, prefix):
    """The body's nodes with values renamed; `given` says what its inputs stand for. Returns the names of its outputs."""
    names = dict(given)
    for name, array in body.constants.items():
        names[name] = make.constant(array)
    for node in body.nodes:
        for output in node.outputs:
            if output:
                names[output] = f"{prefix}.{output}"
        inputs = [names.get(name, name) for name in node.inputs]
        outputs = [names.get(name, name) for name in node.outputs]
        make.nodes.append(Node(node.op, inputs, outputs, node.role, node.signal, node.domain, f"{prefix}.{node.name}", **node.attributes))
    return [names.get(name, name) for name in body.outputs]


def value_of(make, name, graph):
    """A value that decides what is run: computed from the nodes so far."""
    nodes = expand(Graph([*make.graph.nodes, *make.nodes], graph.inputs, make.graph.constants, [name]), make.opset)
    return run_graph(nodes, make.opset)[name]


def stacked(make, parts, output):
    """Slices joined along a new first axis."""
    axes = make.constant(np.array([0], np.int64))
    make.step("Concat", *[make.step("Unsqueeze13", part, axes) for part in parts], axis=0, out=output)


@expansion("If")
def choice(make, node, graph):
    taken = bool(value_of(make, node.inputs[0], graph))
    body = node.attributes["then_branch" if taken else "else_branch"]
    for result, output in zip(inline(make, body, {}, node.name), node.outputs):
        make.step("Identity", result, out=output)


@expansion("Loop")
def loop(make, node, graph):
    body, carried = node.attributes["body"], list(node.inputs[2:])
    limit = int(value_of(make, node.inputs[0], graph)) if node.inputs[0] else 1000
    go_on = not node.inputs[1] or bool(value_of(make, node.inputs[1], graph))
    scans, own = [], list(body.inputs)
    count = 0
    while go_on and count < limit:
        given = {own[0]: make.constant(np.int64(count)), own[1]: make.constant(np.bool_(True))}
        given |= dict(zip(own[2:], carried))
        condition, *results = inline(make, body, given, f"{node.name}.{count}")
        carried, scan = results[: len(carried)], results[len(carried) :]
        scans.append(scan)
        go_on = bool(value_of(make, condition, graph))
        count += 1
    finish(make, node, carried, scans)


def finish(make, node, carried, scans):
    for result, output in zip(carried, node.outputs):
        if output:
            make.step("Identity", result, out=output)
    for at, output in enumerate(node.outputs[len(carried) :]):
        if output:
            stacked(make, [scan[at] for scan in scans], output)


@expansion("Scan")
def scan(make, node, graph):
    body = node.attributes["body"]
    scanned = node.attributes["num_scan_inputs"]
    directions = node.attributes.get("scan_input_directions", [0] * scanned)
    carried, sequences = list(node.inputs[:-scanned]), list(node.inputs[-scanned:])
    trips = {**graph.inputs, **graph.constants}[sequences[0]].shape[0]
    own, scans = list(body.inputs), []
    for count in range(trips):
        slices = []
        for name, reverse in zip(sequences, directions):
            place = make.constant(np.int64(trips - 1 - count if reverse else count))
            slices.append(make.step("Gather", name, place, axis=0))
        results = inline(make, body, dict(zip(own, carried + slices)), f"{node.name}.{count}")
        carried, last = results[: len(carried)], results[len(carried) :]
        scans.append(last)
    if any(node.attributes.get("scan_output_directions", [])):
        scans.reverse()
    finish(make, node, carried, scans)
