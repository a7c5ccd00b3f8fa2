"""Sampling of images, pooling by norms, local normalisation, rotary embeddings, attention as one operator."""

import numpy as np

from corpus import Model, single, versions
from model import Graph, Node, values

LINEAR = ["lrp-0", "attnlrp", "gradient"]


def grid_sample(mode, padding):
    def build(opset, rng):
        if opset < 20:
            name = {"linear": "bilinear", "nearest": "nearest"}[mode]
        else:
            name = mode
        grid = {"grid": values(rng, (1, 2, 3, 2), -1.125, 1.125)}
        return single("GridSample", {"x": values(rng, (1, 2, 3, 3))}, grid, mode=name, padding_mode=padding)

    return build


Model("GridSample", "linear", grid_sample("linear", "zeros"), LINEAR + ["epsilon(eps=0.25)"])
Model("GridSample", "linear_border", grid_sample("linear", "border"), LINEAR, versions("GridSample")[-1:])
Model("GridSample", "nearest", grid_sample("nearest", "zeros"), LINEAR, versions("GridSample")[-1:])


def roi_align(opset, rng):
    constants = {
        "rois": np.array([[0.25, 0.5, 3.0, 2.75], [1.0, 0.0, 3.75, 3.5]], np.float32),
        "batch": np.array([0, 0], np.int64),
    }
    attributes = {"output_height": 2, "output_width": 2, "sampling_ratio": 2, "spatial_scale": 1.0}
    return single("RoiAlign", {"x": values(rng, (1, 1, 4, 4))}, constants, **attributes)


Model("RoiAlign", "average", roi_align, LINEAR)


def col2im(opset, rng):
    constants = {"image": np.array([4, 3], np.int64), "block": np.array([2, 2], np.int64)}
    return single("Col2Im", {"x": values(rng, (1, 4, 6))}, constants, strides=[1, 1])


Model("Col2Im", "overlapping", col2im, LINEAR)


def max_unpool(opset, rng):
    constants = {"places": np.array([[[[1, 2], [8, 15]]]], np.int64)}
    return single("MaxUnpool", {"x": values(rng, (1, 1, 2, 2))}, constants, kernel_shape=[2, 2], strides=[2, 2])


Model("MaxUnpool", "places_known", max_unpool, ["epsilon", "attnlrp", "gradient"])


def lp_pool(p, **attributes):
    return lambda opset, rng: single("LpPool", {"x": values(rng, (1, 2, 3, 3))}, kernel_shape=[2, 2], p=p, **attributes)


for p in (1, 2, 3):
    Model("LpPool", f"p{p}", lp_pool(p), LINEAR, versions("LpPool") if p == 2 else versions("LpPool")[-1:])
Model("GlobalLpPool", "p2", lambda opset, rng: single("GlobalLpPool", {"x": values(rng, (2, 2, 2, 2))}, p=2), LINEAR)

Model(
    "LRN",
    "three_channels",
    lambda opset, rng: single("LRN", {"x": values(rng, (1, 4, 2, 2))}, size=3, alpha=0.5, beta=0.75, bias=1.0),
    ["epsilon", "attnlrp"],
)


def rotary(interleaved):
    def build(opset, rng):
        angles = values(rng, (1, 3, 2))
        constants = {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}
        return single("RotaryEmbedding", {"x": values(rng, (1, 2, 3, 4))}, constants, interleaved=interleaved)

    return build


Model("RotaryEmbedding", "halves", rotary(0), LINEAR)
Model("RotaryEmbedding", "interleaved", rotary(1), LINEAR)


def attention(causal, heads_kv=2, mask=False):
    def build(opset, rng):
        inputs = {
            "q": values(rng, (1, 2, 3, 2)),
            "k": values(rng, (1, heads_kv, 3, 2)),
            "v": values(rng, (1, heads_kv, 3, 2)),
        }
        constants = {"mask": values(rng, (3, 3), -1.0, 1.0)} if mask else {}
        return single("Attention", inputs, constants, is_causal=causal)

    return build


ATTENTION = ["lrp-0", "attnlrp", "cp-lrp", "gradient"]
Model("Attention", "plain", attention(0), ATTENTION)
Model("Attention", "causal", attention(1), ATTENTION, versions("Attention")[-1:])
