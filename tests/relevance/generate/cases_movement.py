"""Movement: every element takes its way back, copies are added, what lands on constants is absorbed.

Relevance is given here (`start` is "relevance"), so that it differs among copies and where the output is 0; as coefficients
and gradients it is tested once more.
"""

import numpy as np

from corpus import Model, single, versions
from model import Graph, Node, values

WAYS = ["attnlrp", "gradient"]


def ints(*items):
    return np.array(items, np.int64)


def movement(op, name, build, opsets=None, ways=True):
    """The same graph with relevance given, and, in the newest version, as coefficients."""
    opsets = opsets or versions(op)
    Model(op, name, build, ["epsilon"], opsets, start="relevance", dense=True)
    if ways:
        Model(op, name + "_coefficients", build, WAYS, opsets[-1:])


def plain(op, shape, constants=None, **attributes):
    return lambda opset, rng: single(op, {"x": values(rng, shape)}, constants, **attributes)


movement("Reshape", "plain", plain("Reshape", (2, 6), {"shape": ints(2, 3, 2)}))
movement("Reshape", "minus_one", plain("Reshape", (2, 3, 2), {"shape": ints(0, -1)}), versions("Reshape")[-1:])
movement("Reshape", "allowzero", plain("Reshape", (2, 3, 2), {"shape": ints(-1, 2)}, allowzero=1), versions("Reshape", 14)[-1:], False)
movement("Transpose", "perm", plain("Transpose", (2, 3, 2), perm=[1, 2, 0]))
movement("Transpose", "reversed", plain("Transpose", (2, 3)), versions("Transpose")[-1:], False)
movement("Flatten", "axis_1", plain("Flatten", (2, 3, 2), axis=1))
movement("Flatten", "axis_0", plain("Flatten", (2, 3), axis=0), versions("Flatten")[-1:], False)
movement("Flatten", "axis_negative", plain("Flatten", (2, 3, 2), axis=-1), versions("Flatten")[-1:], False)


def with_axes(op, shape, axes):
    def build(opset, rng):
        if opset < 13:
            return single(op, {"x": values(rng, shape)}, axes=axes)
        return single(op, {"x": values(rng, shape)}, {"axes": ints(*axes)})

    return build


movement("Squeeze", "axes", with_axes("Squeeze", (2, 1, 3, 1), [1, 3]))
movement("Squeeze", "all", plain("Squeeze", (2, 1, 3, 1)), versions("Squeeze")[-1:], False)
movement("Unsqueeze", "axes", with_axes("Unsqueeze", (2, 3), [0, 3]))


def slicing(starts, ends, axes=None, steps=None):
    def build(opset, rng):
        x = {"x": values(rng, (3, 5))}
        if opset < 10:
            return single("Slice", x, starts=starts, ends=ends, axes=axes)
        constants = {"starts": ints(*starts), "ends": ints(*ends)}
        names = ["x", "starts", "ends"]
        if axes is not None:
            constants["axes"] = ints(*axes)
            names.append("axes")
        if steps is not None:
            constants["steps"] = ints(*steps)
            names += [] if axes is not None else [""]
            names.append("steps")
        return single("Slice", x, constants, names)

    return build


movement("Slice", "plain", slicing([0, 1], [2, 4]))
movement("Slice", "axes", slicing([1], [1000], [1]))
movement("Slice", "negative", slicing([-3, -2], [-1, 5], [1, 0]))
movement("Slice", "steps", slicing([0, 0], [3, 5], [0, 1], [2, 3]), versions("Slice", 10))
movement("Slice", "backwards", slicing([4, -1], [0, -10], [1, 0], [-2, -1]), versions("Slice", 10))


def padding(pads, value=None, mode=None, axes=None, shape=(2, 3)):
    def build(opset, rng):
        x, attributes = {"x": values(rng, shape)}, {"mode": mode}
        if opset < 11:
            return single("Pad", x, pads=pads, value=value, **attributes)
        constants, names = {"pads": ints(*pads)}, ["x", "pads"]
        if value is not None or axes is not None:
            names.append("value" if value is not None else "")
        if value is not None:
            constants["value"] = np.float32(value)
        if axes is not None:
            constants["axes"] = ints(*axes)
            names.append("axes")
        return single("Pad", x, constants, names, **attributes)

    return build


movement("Pad", "zeros", padding([0, 1, 1, 2]))
movement("Pad", "value", padding([1, 0, 0, 1], 0.75))
movement("Pad", "cuts", padding([0, -1, 0, 2], 0.5), versions("Pad")[-1:], False)
movement("Pad", "reflect", padding([0, 2, 0, 1], mode="reflect", shape=(2, 4)))
movement("Pad", "edge", padding([1, 2, 0, 1], mode="edge"))
movement("Pad", "wrap", padding([0, 1, 0, 2], mode="wrap"), versions("Pad", 19))
movement("Pad", "axes", padding([1, 2], -0.5, axes=[1]), versions("Pad", 18))


def concat(shapes, axis, constant=None):
    def build(opset, rng):
        inputs = {f"x{at}": values(rng, shape) for at, shape in enumerate(shapes)}
        constants, names = {}, list(inputs)
        if constant is not None:
            constants["c"] = values(rng, constant)
            names.insert(1, "c")
        return single("Concat", inputs, constants, names, axis=axis)

    return build


movement("Concat", "two", concat([(2, 2), (2, 3)], 1))
movement("Concat", "three", concat([(1, 2, 2), (2, 2, 2), (1, 2, 2)], 0))
movement("Concat", "negative_axis", concat([(2, 2, 1), (2, 2, 3)], -1), versions("Concat", 11))
movement("Concat", "constant", concat([(2, 2), (2, 1)], 1, (2, 2)))
movement("Concat", "to_itself", lambda opset, rng: single("Concat", {"x": values(rng, (2, 2))}, {}, ["x", "x"], axis=1), versions("Concat")[-1:])


def split(sizes, axis=None, outputs=None):
    """Both parts are used: the first twice as much as the second."""

    def build(opset, rng):
        count = outputs or len(sizes)
        parts = [f"p{at}" for at in range(count)]
        constants, names, attributes = {}, ["x"], {"axis": axis}
        if sizes and opset < 13:
            attributes["split"] = sizes
        elif sizes:
            constants["sizes"] = ints(*sizes)
            names.append("sizes")
        elif opset >= 18:
            attributes["num_outputs"] = count
        turned = list(reversed(parts))
        nodes = [Node("Split", names, parts, **attributes), Node("Concat", turned[:2], ["y"], axis=axis or 0)]
        return Graph(nodes, {"x": values(rng, (4, 5) if sizes else (4, 4))}, constants)

    return build


movement("Split", "sizes", split([2, 3], 1))
movement("Split", "equal", split(None, 0, 2))
movement("Split", "uneven", lambda opset, rng: Graph([Node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2), Node("Concat", ["b", "a"], ["y"], axis=1)], {"x": values(rng, (2, 5))}), versions("Split", 18), False)
movement("Split", "part_unused", split([1, 1, 3], 1), versions("Split")[-1:])

movement("Expand", "broadcast", plain("Expand", (2, 1, 3), {"shape": ints(2, 2, 1)}))
movement("Expand", "new_axes", plain("Expand", (3,), {"shape": ints(2, 2, 3)}))
movement("Tile", "repeats", plain("Tile", (2, 2), {"repeats": ints(2, 3)}))
movement("DepthToSpace", "dcr", plain("DepthToSpace", (1, 4, 2, 2), blocksize=2))
movement("DepthToSpace", "crd", plain("DepthToSpace", (1, 4, 2, 2), blocksize=2, mode="CRD"), versions("DepthToSpace", 11))
movement("SpaceToDepth", "plain", plain("SpaceToDepth", (1, 1, 4, 4), blocksize=2))


def gather(op, shape, indices, **attributes):
    return lambda opset, rng: single(op, {"x": values(rng, shape)}, {"indices": np.array(indices, np.int64)}, **attributes)


movement("Gather", "axis_0", gather("Gather", (3, 2), [2, 0, 2]))
movement("Gather", "axis_1", gather("Gather", (2, 3, 2), [[0, 2], [1, 1]], axis=1))
movement("Gather", "negative_index", gather("Gather", (2, 4), [-1, 0, -4], axis=1), versions("Gather", 11))
movement("Gather", "scalar_index", gather("Gather", (3, 4), 1), versions("Gather")[-1:])
movement("GatherElements", "axis_0", gather("GatherElements", (3, 2), [[0, 2], [2, 2]], axis=0))
movement("GatherElements", "axis_1", gather("GatherElements", (2, 3), [[0, -1, 0, 2], [1, 1, -3, 0]], axis=1))
movement("GatherND", "points", gather("GatherND", (2, 3, 2), [[0, 2, 1], [1, 0, 0], [0, 2, 1]]))
movement("GatherND", "rows", gather("GatherND", (2, 3, 2), [[0, 2], [1, 0], [-1, -1]]))
movement("GatherND", "batch", gather("GatherND", (2, 3, 2), [[1], [0]], batch_dims=1), versions("GatherND", 12))


def indices_at_run_time(op, shape, indices, **attributes):
    """The indices are an input of the model."""
    return lambda opset, rng: single(op, {"x": values(rng, shape), "indices": np.array(indices, np.int64)}, **attributes)


movement("Gather", "run_time_indices", indices_at_run_time("Gather", (2, 4), [3, 0, 3], axis=1), versions("Gather")[-1:])
movement("GatherElements", "run_time_indices", indices_at_run_time("GatherElements", (2, 3), [[0, 2], [1, 1]], axis=1), versions("GatherElements")[-1:])
movement("GatherND", "run_time_indices", indices_at_run_time("GatherND", (2, 3), [[0, 2], [1, 1]]), versions("GatherND")[-1:])


def embedding(opset, rng):
    """A table's rows, gathered by token ids: the rows are what is explained."""
    nodes = [Node("Gather", ["table", "ids"], ["rows"]), Node("MatMul", ["rows", "w"], ["y"])]
    return Graph(nodes, {"ids": ints(3, 0, 3).reshape(1, 3)}, {"table": values(rng, (4, 3)), "w": values(rng, (3, 2))})


Model("Gather", "embedding", embedding, ["epsilon", "attnlrp", "gradient"], versions("Gather")[-1:], explained=["rows"])


def scatter(op, shape, indices, updates_shape, constant_updates=False, constant_data=False, **attributes):
    def build(opset, rng):
        data, updates = values(rng, shape), values(rng, updates_shape)
        inputs, constants = {}, {"indices": np.array(indices, np.int64)}
        (constants if constant_data else inputs)["x"] = data
        (constants if constant_updates else inputs)["updates"] = updates
        return single(op, inputs, constants, ["x", "indices", "updates"], **attributes)

    return build


ELEMENTS = ((3, 3), [[1, 0, 2], [0, 2, 1]], (2, 3))
movement("ScatterElements", "axis_0", scatter("ScatterElements", *ELEMENTS))
movement("Scatter", "axis_0", scatter("Scatter", *ELEMENTS), [9])
movement("ScatterElements", "axis_1", scatter("ScatterElements", (2, 4), [[1, -1], [0, 2]], (2, 2), axis=1))
movement("ScatterElements", "constant_updates", scatter("ScatterElements", *ELEMENTS, constant_updates=True), versions("ScatterElements")[-1:])
movement("ScatterElements", "constant_data", scatter("ScatterElements", *ELEMENTS, constant_data=True), versions("ScatterElements")[-1:])
movement("ScatterND", "rows", scatter("ScatterND", (4, 2), [[2], [0]], (2, 2)))
movement("ScatterND", "points", scatter("ScatterND", (2, 3), [[0, 2], [1, 0]], (2,)))
movement("ScatterND", "constant_data", scatter("ScatterND", (4, 2), [[2], [0]], (2, 2), constant_data=True), versions("ScatterND")[-1:])
ACCUMULATE = ["lrp-0", "attnlrp", "gradient"]


def onto_zeros(op, shape, indices, updates_shape, **attributes):
    def build(opset, rng):
        constants = {"x": np.zeros(shape, np.float32), "indices": np.array(indices, np.int64)}
        names = ["x", "indices", "updates"]
        return single(op, {"updates": values(rng, updates_shape)}, constants, names, reduction="add", **attributes)

    return build


for op, arguments in (
    ("ScatterElements", ((2, 3), [[0, 0, 2], [1, 1, 1]], (2, 3))),
    ("ScatterND", ((3, 2), [[2], [0], [2]], (3, 2))),
):
    attributes = {"axis": 1} if op == "ScatterElements" else {}
    Model(op, "accumulates", scatter(op, *arguments, reduction="add", **attributes), ACCUMULATE, versions(op, 16), dense=True)
    Model(op, "accumulates_onto_zeros", onto_zeros(op, *arguments, **attributes), ACCUMULATE, versions(op, 16)[-1:], dense=True)

for upper in (0, 1):
    movement("Trilu", ("lower", "upper")[upper], plain("Trilu", (2, 3, 3), upper=upper))
movement("Trilu", "diagonal", plain("Trilu", (3, 4), {"k": np.int64(1)}), None)


def reverse_sequence(opset, rng):
    return single("ReverseSequence", {"x": values(rng, (4, 3))}, {"lengths": ints(2, 4, 1)}, time_axis=0, batch_axis=1)


movement("ReverseSequence", "time_first", reverse_sequence)
movement("Compress", "axis", lambda opset, rng: single("Compress", {"x": values(rng, (2, 4))}, {"condition": np.array([True, False, True])}, axis=1))
movement("Compress", "flat", lambda opset, rng: single("Compress", {"x": values(rng, (2, 3))}, {"condition": np.array([False, True, True, False, True])}), versions("Compress")[-1:])
movement("CenterCropPad", "both", plain("CenterCropPad", (4, 2), {"shape": ints(3, 5)}))
