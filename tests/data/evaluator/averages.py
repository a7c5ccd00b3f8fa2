"""Linear maps without parameters: average pooling, means, sums, resizing."""

import numpy as np

from .linear import Linear, spatial_pads, window_slices


class Average(Linear):
    """Average pooling as the sum over offsets that it is; also the global mean."""

    kind = "sum"

    def __init__(self, attributes):
        super().__init__(None, 0.0)
        self.attributes = attributes

    def layout(self, shape):
        a, spatial = self.attributes, shape[2:]
        kernel = a["kernel_shape"]
        strides, dilations = a.get("strides", [1] * len(kernel)), a.get("dilations", [1] * len(kernel))
        begin, end = spatial_pads(a, spatial, kernel, strides, dilations)
        output = []
        for n, p, q, k, s, d in zip(spatial, begin, end, kernel, strides, dilations):
            room = n + p + q - ((k - 1) * d + 1)
            size = (-(-room // s) if a.get("ceil_mode", 0) else room // s) + 1
            output.append(size - int(a.get("ceil_mode", 0) and (size - 1) * s >= n + p))
        reach = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in zip(output, strides, kernel, dilations)]
        hang = [max(r - n - p - q, 0) for r, n, p, q in zip(reach, spatial, begin, end)]
        return kernel, strides, dilations, begin, end, hang, output

    def divisor(self, shape):
        kernel, strides, dilations, begin, end, hang, output = self.layout(shape)
        inside = 1.0 if self.attributes.get("count_include_pad", 0) else 0.0
        cells = np.pad(np.ones(shape[2:]), list(zip(begin, end)), constant_values=inside)
        cells = np.pad(cells, [(0, h) for h in hang])
        return sum(cells[window_slices(k, output, strides, dilations)] for k in np.ndindex(*kernel))

    def apply(self, x, weight):
        kernel, strides, dilations, begin, end, hang, output = self.layout(x.shape)
        pads = [(0, 0), (0, 0)] + [(p, q + h) for p, q, h in zip(begin, end, hang)]
        padded = np.pad(x, pads)
        at = lambda k: (Ellipsis,) + window_slices(k, output, strides, dilations)
        return sum(padded[at(k)] for k in np.ndindex(*kernel)) / self.divisor(x.shape)

    def transpose(self, g_out, weight, shape):
        kernel, strides, dilations, begin, end, hang, output = self.layout(shape)
        sizes = tuple(n + p + q + h for n, p, q, h in zip(shape[2:], begin, end, hang))
        padded, share = np.zeros(shape[:2] + sizes), g_out / self.divisor(shape)
        for k in np.ndindex(*kernel):
            padded[(Ellipsis,) + window_slices(k, output, strides, dilations)] += share
        return padded[(Ellipsis,) + tuple(slice(p, p + n) for p, n in zip(begin, shape[2:]))]


class Mean(Linear):
    kind = "sum"

    def __init__(self, axes, keepdims, total=False):
        super().__init__(None, 0.0)
        self.axes, self.keepdims, self.total = axes, keepdims, total

    def apply(self, x, weight):
        axes = tuple(self.axes) if self.axes is not None else tuple(range(x.ndim))
        return (x.sum if self.total else x.mean)(axis=axes, keepdims=bool(self.keepdims))

    def transpose(self, g_out, weight, shape):
        axes = [a % len(shape) for a in (self.axes if self.axes is not None else range(len(shape)))]
        kept = tuple(1 if k in axes else n for k, n in enumerate(shape))
        count = 1 if self.total else np.prod([shape[a] for a in axes])
        return np.broadcast_to(g_out.reshape(kept) / count, shape).copy()


class Resize(Linear):
    kind = "sum"

    def __init__(self, matrices):
        super().__init__(None, 0.0)
        self.matrices = matrices

    def mix(self, x, flipped):
        for axis, matrix in enumerate(self.matrices):
            if matrix is not None:
                matrix = matrix.T if flipped else matrix
                x = np.moveaxis(np.tensordot(x, matrix, axes=([axis], [0])), -1, axis)
        return x

    def apply(self, x, weight):
        return self.mix(x, False)

    def transpose(self, g_out, weight, shape):
        return self.mix(g_out, True)


def resize_coordinate(mode, x, scale, size_in, size_out):
    half_pixel = (x + 0.5) / scale - 0.5
    if mode == "half_pixel":
        return half_pixel
    if mode == "half_pixel_symmetric":
        return size_in / 2 * (1 - size_out / (size_in * scale)) + half_pixel
    if mode == "pytorch_half_pixel":
        return half_pixel if size_out > 1 else 0.0
    if mode == "align_corners":
        return x * (size_in - 1) / (size_out - 1) if size_out > 1 else 0.0
    if mode == "asymmetric":
        return x / scale
    raise NotImplementedError(mode)


def resize_matrix(size_in, size_out, scale, attributes):
    """The matrix [size_in, size_out] of one axis, from the ONNX specification of Resize."""
    text = lambda key, default: attributes.get(key, default.encode()).decode()
    kind = text("mode", "nearest")
    coordinates = text("coordinate_transformation_mode", "half_pixel")
    matrix, last = np.zeros((size_in, size_out)), size_in - 1
    for x in range(size_out):
        at = resize_coordinate(coordinates, x, scale, size_in, size_out)
        base = int(np.floor(at))
        if kind == "nearest":
            pick = {
                "round_prefer_floor": lambda: int(np.ceil(at - 0.5)), "round_prefer_ceil": lambda: int(np.floor(at + 0.5)),
                "floor": lambda: base, "ceil": lambda: int(np.ceil(at)),
            }
            taps = [(pick[text("nearest_mode", "round_prefer_floor")](), 1.0)]
        elif kind == "linear":
            taps = [(base, 1 - (at - base)), (base + 1, at - base)]
        else:
            a = attributes.get("cubic_coeff_a", -0.75)
            near = lambda d: (a + 2) * d**3 - (a + 3) * d**2 + 1
            far = lambda d: a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
            taps = [(base + k, (near if abs(at - base - k) <= 1 else far)(abs(at - base - k))) for k in (-1, 0, 1, 2)]
            if attributes.get("exclude_outside", 0):
                taps = [(cell, w) for cell, w in taps if 0 <= cell <= last]
                total = sum(w for _, w in taps)
                taps = [(cell, w / total) for cell, w in taps]
        for cell, weight in taps:
            matrix[min(max(cell, 0), last), x] += weight
    return matrix
