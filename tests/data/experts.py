"""Writes the tests' mixtures of experts: rows are routed to two of four experts, with what comes out and its relevance.

    python experts.py                  writes experts/ beside this file

The files are those of quantised.py. The weights of the experts that a row is routed to are gathered by an index that
depends on the row; they are constants all the same, and all relevance goes to the row and to the shares.
"""

import numpy as np

import quantised
from quantised import Model, linear, numbers, seed, stable

ROWS, WIDTH, HIDDEN, EXPERTS, CHOSEN = 5, 6, 7, 4, 2
X = numbers(20, ROWS, WIDTH)
ROUTER, HEAD = numbers(21, WIDTH, EXPERTS), numbers(22, WIDTH, 3)
UP, DOWN = numbers(23, EXPERTS, WIDTH, HIDDEN) / 2, numbers(24, EXPERTS, HIDDEN, WIDTH) / 2


def route(m):
    scores = m.node("MatMul", "x", ROUTER)
    best, chosen = m.node("TopK", scores, np.int64([CHOSEN]), outputs=2, axis=-1)
    return m.node("Softmax", best, axis=-1), chosen


def relevance(y):
    """Products share half and half, the softmax as AttnSoftmax does, additions by ratio."""
    x = X.astype(np.float64)
    scores = x @ ROUTER
    chosen = np.argsort(-scores, axis=1, kind="stable")[:, :CHOSEN]
    best = np.take_along_axis(scores, chosen, 1)
    share = np.exp(best - best.max(1, keepdims=True))
    share /= share.sum(1, keepdims=True)
    up = np.maximum(np.einsum("nd,nkdh->nkh", x, UP[chosen]), 0)
    out = np.einsum("nkh,nkhd->nkd", up, DOWN[chosen])
    weighed = out * share[..., None]
    mixed = weighed.sum(1)
    r = linear(mixed + x, HEAD, (mixed + x) @ HEAD, seed((mixed + x) @ HEAD))
    r_mixed, result = mixed * r / stable(mixed + x), x * r / stable(mixed + x)
    half = weighed * (r_mixed / stable(mixed))[:, None] / 2
    for row in range(ROWS):
        for place, expert in enumerate(chosen[row]):
            down = linear(up[row, place], DOWN[expert], out[row, place], half[row, place])
            result[row] += linear(x[row], UP[expert], x[row] @ UP[expert], down)
    of_share = half.sum(2)
    of_best = best * (of_share - share * of_share.sum(1, keepdims=True))
    of_scores = np.zeros_like(scores)
    np.put_along_axis(of_scores, chosen, of_best, 1)
    return result + linear(x, ROUTER, scores, of_scores)


def gathered():
    """Every row meets its own experts' weights."""
    m = Model("gathered", X)
    share, chosen = route(m)
    row = m.node("Unsqueeze", "x", np.int64([1, 2]))
    up = m.node("Relu", m.node("MatMul", row, m.node("Gather", UP, chosen)))
    out = m.node("Squeeze", m.node("MatMul", up, m.node("Gather", DOWN, chosen)), np.int64([2]))
    weighed = m.node("Mul", out, m.node("Unsqueeze", share, np.int64([2])))
    mixed = m.node("ReduceSum", weighed, np.int64([1]), keepdims=0)
    m.write(m.node("MatMul", m.node("Add", mixed, "x"), HEAD), relevance)


def scattered():
    """Pairs of row and expert are computed one by one and added at their rows, which are named more than once."""
    rows = np.repeat(np.arange(ROWS), CHOSEN)
    for name in ("scattered", "scattered_elements"):
        m = Model(name, X, opset=18)
        share, chosen = route(m)
        experts = m.node("Reshape", chosen, np.int64([-1]))
        row = m.node("Unsqueeze", m.node("Gather", "x", rows), np.int64([1]))
        up = m.node("Relu", m.node("MatMul", row, m.node("Gather", UP, experts)))
        out = m.node("Squeeze", m.node("MatMul", up, m.node("Gather", DOWN, experts)), np.int64([1]))
        weighed = m.node("Mul", out, m.node("Reshape", share, np.int64([-1, 1])))
        nothing = np.zeros((ROWS, WIDTH), np.float32)
        if name == "scattered":
            mixed = m.node("ScatterND", nothing, rows[:, None].copy(), weighed, reduction="add")
        else:
            places = np.broadcast_to(rows[:, None], (ROWS * CHOSEN, WIDTH)).copy()
            mixed = m.node("ScatterElements", nothing, places, weighed, axis=0, reduction="add")
        m.write(m.node("MatMul", m.node("Add", mixed, "x"), HEAD), relevance)


if __name__ == "__main__":
    quantised.FOLDER = "experts"
    for make in (gathered, scattered):
        make()
