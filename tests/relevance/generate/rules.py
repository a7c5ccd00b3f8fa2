"""Every rule, in dense f64 matrices: `M[i, j]` is what element i of an operand counts in element j of the output.

A rule returns what each operand receives and what was absorbed; each absorbed term comes from its own formula, and
`walk.py` asserts that all of them together are what arrived. Formulas and their sources: the README beside this folder.
"""

import numpy as np


def sign(z):
    """sg(z): +1 where z ≥ 0, else −1."""
    return np.where(z >= 0, 1.0, -1.0)


def stabilised(z, p, shape=None):
    """S(z) by the parameters `eps` and `stabiliser`; `shape` is that of the tensor whose elements z lists."""
    eps, mode = p.get("eps", 1e-6), p.get("stabiliser", "absolute")
    if mode == "clip":
        return sign(z) * np.maximum(np.abs(z), eps)
    if mode == "relative":
        rows = z.reshape(shape[0], -1)
        rms = np.sqrt((rows * rows).mean(axis=1, keepdims=True))
        return z + (eps * rms * sign(rows)).reshape(z.shape)
    return z + eps * sign(z)


def divided(r, denominator):
    """r / denominator with 0 where the denominator is 0."""
    return np.where(denominator == 0, 0.0, r / np.where(denominator == 0, 1.0, denominator))


def weighed(a, s):
    """a ⊙ s; where s is 0 nothing is carried, even if a is infinite."""
    with np.errstate(invalid="ignore"):
        return np.where(s == 0, 0.0, a * s)


def signal(r, z, p, shape=None):
    """s = R/S(z), and what the stabiliser takes of it: (S(z) − z)·s, and all of R where S(z) is 0."""
    s_of_z = stabilised(z, p, shape)
    s = divided(r, s_of_z)
    with np.errstate(invalid="ignore"):
        return s, float(weighed(s_of_z - z, s).sum() + r[s_of_z == 0].sum())


class Linear:
    """A linear map with weights, laid out flat: x (n), M (n, m), structure T (n, m) of 0 and 1, bias b (m)."""

    def __init__(self, x, matrix, structure, bias, shape, channels):
        self.x, self.m, self.t, self.b, self.shape = x, matrix, structure, bias, shape
        self.c = x[:, None] * matrix
        # The channel of each input element, for bounds that are given per channel.
        self.channels = channels

    def bias(self, p):
        return self.b if p.get("bias", "include") == "include" else np.zeros_like(self.b)


def behind_bias(site, r, p, taken):
    """`bias=operand`: first an addition of z₀ and b by their sizes; what z₀ gets goes on without a bias."""
    if p.get("bias") != "operand":
        return r, p
    z = site.c.sum(axis=0)
    if site.b.any():
        s, lost = signal(r, np.abs(z) + np.abs(site.b), p, site.shape)
        taken["bias"] += float((np.abs(site.b) * s).sum())
        taken["stabiliser"] += lost
        r = np.abs(z) * s
    return r, {**p, "bias": "exclude"}


def epsilon(site, r, p, taken):
    r, p = behind_bias(site, r, p, taken)
    if p.get("bias") == "redistribute":
        z = site.c.sum(axis=0) + site.b
        s_of_z = stabilised(z, p, site.shape)
        s, n = divided(r, s_of_z), site.t.sum(axis=0)
        taken["stabiliser"] += float(r[s_of_z == 0].sum())
        return site.c @ s + site.t @ ((site.b + s_of_z - z) / n * s)
    b = site.bias(p)
    s, lost = signal(r, site.c.sum(axis=0) + b, p, site.shape)
    taken["stabiliser"] += lost
    taken["bias"] += float((b * s).sum())
    return site.c @ s


def z_plus(site, r, p, taken):
    r, p = behind_bias(site, r, p, taken)
    positive, b = np.maximum(site.c, 0.0), np.maximum(site.bias(p), 0.0)
    s, lost = signal(r, positive.sum(axis=0) + b, p, site.shape)
    taken["stabiliser"] += lost
    taken["bias"] += float((b * s).sum())
    return positive @ s


def alpha_beta(site, r, p, taken):
    r, p = behind_bias(site, r, p, taken)
    found = 0.0
    for factor, part in ((p.get("alpha", 2.0), lambda a: np.maximum(a, 0.0)), (-p.get("beta", 1.0), lambda a: np.minimum(a, 0.0))):
        c, b = part(site.c), part(site.bias(p))
        s, lost = signal(r, c.sum(axis=0) + b, p, site.shape)
        taken["stabiliser"] += factor * lost
        taken["bias"] += factor * float((b * s).sum())
        found = found + factor * (c @ s)
    return found


def gamma(site, r, p, taken):
    r, p = behind_bias(site, r, p, taken)
    g, b = p.get("gamma", 0.25), site.bias(p)
    z = site.c.sum(axis=0) + b
    side = np.sign(z)
    agreeing = np.where(side * site.c > 0, site.c, 0.0)
    b_agreeing = np.where(side * b > 0, b, 0.0)
    d = np.where(side == 0, 0.0, z + g * (agreeing.sum(axis=0) + b_agreeing))
    s_of_d = stabilised(d, p, site.shape)
    s = np.where(side == 0, 0.0, divided(r, s_of_d))
    taken["stabiliser"] += float(((s_of_d - d) * s).sum() + r[side == 0].sum())
    taken["bias"] += float(((b + g * b_agreeing) * s).sum())
    return (site.c + g * agreeing) @ s


def w_square(site, r, p, taken):
    squares = site.m**2
    s, lost = signal(r, squares.sum(axis=0) + site.bias(p) ** 2, p, site.shape)
    taken["stabiliser"] += lost
    taken["bias"] += float((site.bias(p) ** 2 * s).sum())
    return squares @ s


def flat(site, r, p, taken):
    s, lost = signal(r, site.t.sum(axis=0), p, site.shape)
    taken["stabiliser"] += lost
    return site.t @ s


def uniform(site, r, p, taken):
    n = site.t.sum(axis=0)
    taken["stabiliser"] += float(r[n == 0].sum())
    return site.t @ divided(r, n)


def z_box(site, r, p, taken):
    def bound(name, least):
        given = p.get(name, "auto")
        if isinstance(given, str):
            rows = site.x.reshape(site.shape_x[0], -1)
            return np.repeat(rows.min(axis=1) if least else rows.max(axis=1), rows.shape[1])
        return np.asarray(given, dtype=np.float64)[site.channels] if isinstance(given, list) else np.full(site.x.size, given)

    low, high = bound("low", True), bound("high", False)
    up, down = np.maximum(site.m, 0.0), np.minimum(site.m, 0.0)
    c = site.c - low[:, None] * up - high[:, None] * down
    s, lost = signal(r, c.sum(axis=0), p, site.shape)
    taken["stabiliser"] += lost
    return c @ s


LINEAR = {
    "Epsilon": epsilon,
    "ZPlus": z_plus,
    "AlphaBeta": alpha_beta,
    "Gamma": gamma,
    "WSquare": w_square,
    "Flat": flat,
    "Uniform": uniform,
    "ZBox": z_box,
}


# --- sums without weights: operands x (each with its matrix M), a constant part c ------------------------------------


def signed_ratio(parts, constant, r, p, taken, shape):
    """`parts` are (x, M); y = Σ x M + constant."""
    if p.get("bias") in ("exclude", "redistribute") and p.get("adds_constant"):
        return [np.abs(matrix) @ r for _, matrix in parts]
    if p.get("bias") == "operand" and p.get("adds_constant"):
        return abs_ratio(parts, constant, r, p, taken, shape)
    y = sum(x @ matrix for x, matrix in parts) + constant
    s, lost = signal(r, y, p, shape)
    taken["stabiliser"] += lost
    taken["bias"] += float(weighed(constant, s).sum())
    return [x * (matrix @ s) for x, matrix in parts]


def abs_ratio(parts, constant, r, p, taken, shape):
    # A difference counts the size of both operands, so the sign of M does not matter.
    sizes = [(np.abs(x), np.abs(matrix)) for x, matrix in parts]
    s, lost = signal(r, sum(x @ matrix for x, matrix in sizes) + np.abs(constant), p, shape)
    taken["stabiliser"] += lost
    taken["bias"] += float((np.abs(constant) * s).sum())
    return [x * (matrix @ s) for x, matrix in sizes]


def equal_parts(parts, constant, r, p, taken, shape):
    """Symmetric: R/2 to each of two summands; UniformPool: R/k to each of the k elements under a window."""
    structures = [(matrix != 0).astype(np.float64) for _, matrix in parts]
    k = sum(structure.sum(axis=0) for structure in structures) + (1.0 if p.get("adds_constant") else 0.0)
    if p.get("adds_constant"):
        taken["bias"] += float(divided(r, k).sum())
    taken["stabiliser"] += float(r[k == 0].sum())
    return [structure @ divided(r, k) for structure in structures]


SUMS = {"SignedRatio": signed_ratio, "AbsRatio": abs_ratio, "Symmetric": equal_parts, "UniformPool": equal_parts}
