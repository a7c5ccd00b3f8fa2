"""Linear maps of one active input with a constant weight, and the rules for them."""

import numpy as np

from .shares import EPSILON, unbroadcast


class Linear:
    """A linear map of one active input with a constant weight. Subclasses supply forward and transpose."""

    kind = "conv"

    def __init__(self, weight, bias):
        self.weight, self.bias = weight, bias

    def run(self, x):
        return self.apply(x, self.weight) + self.bias

    def vjp(self, x, g):
        return self.transpose(g, self.weight, x.shape)

    def lrp(self, x, relevance, rule, ledger):
        return getattr(self, "rule_" + rule[0])(x, relevance, ledger, *rule[1:])

    def rule_epsilon(self, x, relevance, ledger, epsilon):
        s = ledger.shared(relevance, self.run(x), epsilon, self.bias)
        return x * self.vjp(x, s)

    def parts(self, x):
        """Positive and negative contributions summed per output, and the function that sends shares back to each."""
        xp, xn = np.maximum(x, 0), np.minimum(x, 0)
        wp, wn = np.maximum(self.weight, 0), np.minimum(self.weight, 0)
        positive = self.apply(xp, wp) + self.apply(xn, wn)
        negative = self.apply(xp, wn) + self.apply(xn, wp)
        to_positive = lambda s: xp * self.transpose(s, wp, x.shape) + xn * self.transpose(s, wn, x.shape)
        to_negative = lambda s: xp * self.transpose(s, wn, x.shape) + xn * self.transpose(s, wp, x.shape)
        return positive, negative, to_positive, to_negative

    def rule_zplus(self, x, relevance, ledger):
        positive, _, to_positive, _ = self.parts(x)
        bias = np.maximum(self.bias, 0)
        return to_positive(ledger.shared(relevance, positive + bias, EPSILON, bias))

    def rule_alphabeta(self, x, relevance, ledger, alpha, beta):
        positive, negative, to_positive, to_negative = self.parts(x)
        up, down = np.maximum(self.bias, 0), np.minimum(self.bias, 0)
        first = ledger.shared(alpha * relevance, positive + up, EPSILON, up)
        second = ledger.shared(-beta * relevance, negative + down, EPSILON, down)
        return to_positive(first) + to_negative(second)

    def rule_gamma(self, x, relevance, ledger, gamma):
        positive, negative, to_positive, to_negative = self.parts(x)
        z = self.run(x)
        total = np.zeros_like(x)
        for chosen, part, back, bias in (
            (z > 0, positive, to_positive, np.maximum(self.bias, 0)),
            (z < 0, negative, to_negative, np.minimum(self.bias, 0)),
        ):
            share = self.bias + gamma * bias
            s = ledger.shared(np.where(chosen, relevance, 0), z + gamma * (part + bias), EPSILON, share)
            total += x * self.vjp(x, s) + gamma * back(s)
        ledger.stabiliser += float(relevance[z == 0].sum())
        return total

    def rule_flat(self, x, relevance, ledger):
        ones = np.ones_like(self.weight)
        count = self.apply(np.ones_like(x), ones)
        return self.transpose(ledger.shared(relevance, count, EPSILON), ones, x.shape)

    def rule_box(self, x, relevance, ledger, low, high):
        wp, wn = np.maximum(self.weight, 0), np.minimum(self.weight, 0)
        low, high = np.full_like(x, low), np.full_like(x, high)
        z = self.apply(x, self.weight) - self.apply(low, wp) - self.apply(high, wn)
        s = ledger.shared(relevance, z, EPSILON)
        back = lambda w: self.transpose(s, w, x.shape)
        return x * back(self.weight) - low * back(wp) - high * back(wn)


def spatial_pads(attributes, spatial, kernel, strides, dilations):
    """Explicit pads (beginnings, ends) from `pads` or `auto_pad` of Conv and pooling."""
    rank, mode = len(kernel), attributes.get("auto_pad", b"NOTSET").decode()
    if mode == "NOTSET":
        pads = attributes.get("pads", [0] * 2 * rank)
        return list(pads[:rank]), list(pads[rank:])
    if mode == "VALID":
        return [0] * rank, [0] * rank
    begin, end = [], []
    for size, k, s, d in zip(spatial, kernel, strides, dilations):
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        small, large = total // 2, total - total // 2
        begin.append(large if mode == "SAME_LOWER" else small)
        end.append(small if mode == "SAME_LOWER" else large)
    return begin, end


def window_slices(offset, output, strides, dilations):
    """Where the cells at this kernel offset lie in the padded input, one slice per spatial axis."""
    return tuple(
        slice(k * d, k * d + (o - 1) * s + 1, s) for k, o, s, d in zip(offset, output, strides, dilations)
    )


class Conv(Linear):
    def __init__(self, weight, bias, attributes):
        rank = weight.ndim - 2
        super().__init__(weight, 0.0 if bias is None else bias.reshape((-1,) + (1,) * rank))
        self.attributes, self.groups = attributes, attributes.get("group", 1)
        self.strides = attributes.get("strides", [1] * rank)
        self.dilations = attributes.get("dilations", [1] * rank)

    def layout(self, shape, weight):
        spatial, kernel = shape[2:], weight.shape[2:]
        begin, end = spatial_pads(self.attributes, spatial, kernel, self.strides, self.dilations)
        output = [
            (n + a + b - ((k - 1) * d + 1)) // s + 1
            for n, a, b, k, d, s in zip(spatial, begin, end, kernel, self.dilations, self.strides)
        ]
        return begin, end, output

    def apply(self, x, weight):
        begin, end, output = self.layout(x.shape, weight)
        padded = np.pad(x, [(0, 0), (0, 0)] + list(zip(begin, end)))
        n, g = x.shape[0], self.groups
        w = weight.reshape((g, -1) + weight.shape[1:])
        y = np.zeros((n, g, w.shape[1]) + tuple(output))
        for offset in np.ndindex(*weight.shape[2:]):
            cells = padded[(slice(None), slice(None)) + window_slices(offset, output, self.strides, self.dilations)]
            cells = cells.reshape(n, g, w.shape[2], -1)
            kernel = w[(slice(None), slice(None), slice(None)) + offset]
            y += np.matmul(kernel[None], cells).reshape(y.shape)
        return y.reshape((n, -1) + tuple(output))

    def transpose(self, g_out, weight, shape):
        begin, end, output = self.layout(shape, weight)
        padded = np.zeros(shape[:2] + tuple(n + a + b for n, a, b in zip(shape[2:], begin, end)))
        n, g = shape[0], self.groups
        w = weight.reshape((g, -1) + weight.shape[1:])
        rows = g_out.reshape(n, g, w.shape[1], -1)
        for offset in np.ndindex(*weight.shape[2:]):
            kernel = w[(slice(None), slice(None), slice(None)) + offset]
            part = np.matmul(np.swapaxes(kernel, 1, 2)[None], rows).reshape((n, shape[1]) + tuple(output))
            padded[(slice(None), slice(None)) + window_slices(offset, output, self.strides, self.dilations)] += part
        inner = tuple(slice(a, a + size) for a, size in zip(begin, shape[2:]))
        return padded[(slice(None), slice(None)) + inner]


class ConvTranspose(Linear):
    """The adjoint of a convolution whose weight is the same array."""

    def __init__(self, weight, bias, attributes):
        rank = weight.ndim - 2
        super().__init__(weight, 0.0 if bias is None else bias.reshape((-1,) + (1,) * rank))
        self.attributes = {k: v for k, v in attributes.items() if k not in ("output_padding", "output_shape", "auto_pad")}
        self.extra = attributes.get("output_padding", [0] * rank)
        assert "output_shape" not in attributes and attributes.get("auto_pad", b"NOTSET") == b"NOTSET"

    def adjoint(self, weight):
        return Conv(weight, None, self.attributes)

    def output_shape(self, x, weight):
        conv = self.adjoint(weight)
        rank = weight.ndim - 2
        pads = self.attributes.get("pads", [0] * 2 * rank)
        sizes = tuple(
            (n - 1) * s + (k - 1) * d + 1 + extra - pads[axis] - pads[axis + rank]
            for axis, (n, s, k, d, extra) in enumerate(
                zip(x.shape[2:], conv.strides, weight.shape[2:], conv.dilations, self.extra)
            )
        )
        return (x.shape[0], weight.shape[1] * conv.groups) + sizes

    def apply(self, x, weight):
        return self.adjoint(weight).transpose(x, weight, self.output_shape(x, weight))

    def transpose(self, g_out, weight, shape):
        return self.adjoint(weight).apply(g_out, weight)


class Dense(Linear):
    kind = "dense"

    def apply(self, x, weight):
        return x @ weight

    def transpose(self, g_out, weight, shape):
        return g_out @ weight.T


class Affine(Linear):
    """One scale and one shift per element, broadcast: batch norm, products with constants."""

    kind = "affine"

    def apply(self, x, weight):
        return x * weight

    def transpose(self, g_out, weight, shape):
        return unbroadcast(g_out * weight, shape)
