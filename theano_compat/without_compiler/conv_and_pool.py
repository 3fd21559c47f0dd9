"""Convolution and pooling without a compiler: over windows, which are views of an image.

Theano's Python goes over images, filters and places one by one.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from theano_compat.hooks import around_import, replace

#: Numbers in the windows that are copied for one matrix product.
_AT_ONCE = 2**24


# --- convolution ---

@around_import("theano.tensor.nnet.abstract_conv")
def convolve_by_products(abstract_conv):
    """Convolve by a matrix product of all windows and all filters."""
    yield

    @replace(abstract_conv.BaseAbstractConv)
    def conv(self, img, kern, mode="valid", dilation=1, num_groups=1, unshared=False,
             direction="forward"):
        n_dims = self.convdim
        dilation = (dilation,) * n_dims if isinstance(dilation, int) else tuple(dilation)
        if (img.shape[1] % self.num_groups or kern.shape[0] % self.num_groups
                or img.shape[1] // num_groups != kern.shape[1]):
            raise ValueError(
                f"Got images of shape {img.shape} and filters of shape {kern.shape} in "
                f"{num_groups} groups, expected channels and filters that divide into groups, "
                "and filters with the channels of a group")
        if unshared:
            convolve = {"forward": _unshared, "backprop weights": _unshared_weights,
                        "backprop inputs": _unshared_inputs}[direction]
            assert n_dims == 2 and dilation == (1, 1)
        else:
            convolve = _convolve
            if mode == "full":
                img = _padded(img, [(length - 1) * step for length, step in
                                    zip(kern.shape[-n_dims:], dilation)])
        parts = [convolve(*group, dilation) for group in zip(
            np.split(img, num_groups, axis=1), np.split(kern, num_groups, axis=0))]
        return parts[0] if num_groups == 1 else np.concatenate(parts, axis=1)


@around_import("theano.tensor.nnet.opt")
def keep_abstract_convolutions(opt):
    """Where there is no compiler, leave convolutions as they are: Theano then refuses them."""
    yield

    def only_with_a_compiler(original_transform):
        return lambda node: bool(opt.theano.config.cxx) and original_transform(node)

    for optimizer in (opt.local_conv2d_cpu, opt.local_conv2d_gradweight_cpu,
                      opt.local_conv2d_gradinputs_cpu, opt.local_abstractconv_check):
        optimizer.transform = only_with_a_compiler(optimizer.transform)


@around_import("theano.tensor.nnet.conv")
def convolve_old_ops_by_products(conv):
    """So is Theano's older operation, `theano.tensor.nnet.conv.conv2d`."""
    yield

    @replace(conv.ConvOp)
    def perform(self, node, inputs, outputs):
        images, filters = inputs
        for name, got, expected in [
                ("images", images.shape[1:], self.imshp),
                ("filters", filters.shape[2:], self.kshp),
                ("the number of images", images.shape[:1], (self.bsize,)),
                ("the number of filters", filters.shape[:1], (self.nkern,))]:
            if any(length is not None and length != n for n, length in zip(got, expected)):
                raise ValueError(f"Got {name} of shape {got}, expected {expected}, "
                                 "as was said when the operation was built")
        images = _spread(images, self.imshp_logical[1:], from_the_top=True)
        filters = _spread(filters, self.kshp_logical, self.kshp_logical_top_aligned)
        if self.out_mode == "full":
            images = _padded(images, [length - 1 for length in filters.shape[2:]])
        result = _convolve(images, filters, (1, 1))[:, :, ::self.dx, ::self.dy]
        outputs[0][0] = np.ascontiguousarray(result)


def _spread(images, shape, from_the_top):
    """Images of this shape that have the pixels of others at equal distances, amid zeros."""
    shape = [m if n is None else n for n, m in zip(shape, images.shape[2:])]
    steps = [-(-n // m) for n, m in zip(shape, images.shape[2:])]
    offsets = [0 if from_the_top else (n - m * step - 1 + step) % step
               for n, m, step in zip(shape, images.shape[2:], steps)]
    result = np.zeros((*images.shape[:2], *shape), images.dtype)
    result[(..., *(slice(offset, None, step) for offset, step in zip(offsets, steps)))] = images
    return result


def _padded(images, pad, fill=0):
    """Images with as many more pixels at each side of their last dimensions."""
    widths = [(0, 0)] * (images.ndim - len(pad)) + [(n, n) for n in pad]
    return np.pad(images, widths, constant_values=fill)


def _convolve(images, filters, dilation):
    """Convolve images ``(n, channels, ...)`` with filters ``(filters, channels, ...)``."""
    n_dims = len(dilation)
    axes = tuple(range(2, 2 + n_dims))
    flipped = np.flip(filters, axes)
    reach = [(length - 1) * step + 1 for length, step in zip(filters.shape[2:], dilation)]
    windows = sliding_window_view(images, reach, axes)
    windows = windows[(..., *(slice(None, None, step) for step in dilation))]
    result = np.empty((len(images), len(filters), *windows.shape[2:2 + n_dims]),
                      np.result_type(images, filters))
    inside = tuple(range(2 + n_dims, 2 + 2 * n_dims))
    step = max(1, _AT_ONCE * len(images) // max(1, windows.size))
    for start in range(0, len(images), step):
        part = np.tensordot(windows[start:start + step], flipped, ((1, *inside), (1, *axes)))
        result[start:start + step] = np.moveaxis(part, -1, 1)
    return result


def _unshared(images, filters, _):
    """Each place has filters of its own: ``(filters, channels, rows, columns, ...)``."""
    windows = sliding_window_view(images, filters.shape[4:], (2, 3))
    return np.einsum("ncrsij,fcrsij->nfrs", windows, filters[..., ::-1, ::-1], optimize=True)


def _unshared_weights(images, gradients, _):
    shape = [n - m + 1 for n, m in zip(images.shape[2:], gradients.shape[2:])]
    windows = sliding_window_view(images, shape, (2, 3))
    return np.einsum("ncrsij,fcrs->nfrsij", windows, gradients, optimize=True)


def _unshared_inputs(gradients, filters, _):
    rows, columns, height, width = filters.shape[2:]
    result = np.zeros((len(gradients), len(filters), rows + height - 1, columns + width - 1),
                      gradients.dtype)
    for i, j in np.ndindex(height, width):
        result[:, :, i:i + rows, j:j + columns] += np.einsum(
            "ncrs,fcrs->nfrs", gradients, filters[..., height - 1 - i, width - 1 - j],
            optimize=True)
    return result


# --- pooling ---

class _Pooling:
    """Where the windows of a pooling operation lie.

    Parameters
    ----------
    shape : tuple of int
        Of the images, the last dimensions of which are pooled.
    n_windows : tuple of int
        Along each of these.
    window, stride, pad : sequence of int
        The window's size, the steps from one to the next, the pixels added at each side.
    """

    def __init__(self, shape, n_windows, window, stride, pad):
        self._shape, self._n_windows = shape, n_windows
        self._window, self._stride, self._pad = (
            [int(n) for n in each] for each in (window, stride, pad))

    def _place(self, lengths):
        """Where the images are in arrays that windows fit into."""
        return (..., *(slice(p, p + n) for p, n in zip(self._pad, lengths)))

    def padded(self, images, fill):
        """Images amid as many pixels of this value as the windows touch."""
        n_dims = len(self._pad)
        lengths = images.shape[-n_dims:]
        whole = [max((n - 1) * s + w, length + 2 * p) for n, s, w, length, p in zip(
            self._n_windows, self._stride, self._window, lengths, self._pad)]
        if list(lengths) == whole:
            return images
        result = np.full((*images.shape[:-n_dims], *whole), fill, images.dtype)
        result[self._place(lengths)] = images
        return result

    def unpadded(self, padded):
        return np.ascontiguousarray(padded[self._place(self._shape[-len(self._pad):])])

    def places(self):
        """Generator of slices: each takes from padded images one pixel of every window."""
        for offset in np.ndindex(*self._window):
            yield (..., *(slice(o, o + max(0, (n - 1) * s + 1), s) for o, n, s in zip(
                offset, self._n_windows, self._stride)))

    def sizes(self, with_padding):
        """How many pixels each window has, those outside left out, and padding if not wanted."""
        result = np.ones(self._n_windows)
        for axis, (n, w, s, p, length) in enumerate(zip(
                self._n_windows, self._window, self._stride, self._pad,
                self._shape[-len(self._pad):])):
            start = np.arange(n) * s
            end = np.minimum(start + w, length + 2 * p)
            if not with_padding:
                start, end = np.maximum(start, p), np.minimum(end, length + p)
            lengths = np.ones(len(self._pad), int)
            lengths[axis] = n
            result = result * (end - start).reshape(lengths)
        return result


def _least(dtype):
    return np.iinfo(dtype).min if dtype.kind in "iu" else False if dtype.kind == "b" else -np.inf


def _greatest(windows, y, x):
    """The greatest pixel of each window as C finds it: NaN if it comes first, and else without."""
    inside = windows.padded(np.ones(x.shape, bool), False)
    first, *others = windows.places()
    result, found = y[first].copy(), inside[first].copy()
    for place in others:
        np.copyto(result, y[place], where=(y[place] > result) | (inside[place] & ~found))
        found |= inside[place]
    return result


@around_import("theano.tensor.signal.pool")
def pool_by_strides(pool):
    """Pool over all windows at once: as many steps as a window has pixels."""
    yield

    def windows_of(op, x, window, stride, pad, n_windows=None):
        n_dims = op.ndim
        if not window.shape == stride.shape == pad.shape == (n_dims,) or x.ndim < n_dims:
            raise ValueError(f"Got a window of {window}, a stride of {stride}, padding of {pad} "
                             f"and {x.ndim} dimensions, expected {n_dims} of each, or more")
        if n_windows is None:
            n_windows = pool.Pool.out_shape(x.shape, window, op.ignore_border, stride, pad,
                                            n_dims)[-n_dims:]
        return _Pooling(x.shape, tuple(map(int, n_windows)), window, stride, pad)

    def pool_perform(self, node, inputs, outputs, params):
        x, *parameters = inputs
        windows = windows_of(self, x, *parameters)
        y = windows.padded(x, _least(x.dtype) if self.mode == "max" else 0)
        if self.mode == "max" and np.isnan(x).any():
            outputs[0][0] = _greatest(windows, y, x)
            return
        combine = np.maximum if self.mode == "max" else np.add
        first, *others = windows.places()
        result = y[first].copy()
        for place in others:
            combine(result, y[place], out=result)
        if self.mode.startswith("average"):
            result = result / windows.sizes(self.mode == "average_inc_pad")
        outputs[0][0] = np.asarray(result, x.dtype)

    def max_gradient(self, node, inputs, outputs):
        x, maxima, gradients, *parameters = inputs
        windows = windows_of(self, x, *parameters, n_windows=maxima.shape[-self.ndim:])
        y = windows.padded(x, _least(x.dtype))
        result = np.zeros_like(y)
        for place in windows.places():
            result[place] += np.where(y[place] == maxima, gradients, 0)
        outputs[0][0] = windows.unpadded(result)

    def average_gradient(self, node, inputs, outputs):
        x, gradients, *parameters = inputs
        if self.mode == "average_exc_pad" and np.max(parameters[-1]):
            raise NotImplementedError("Theano has no gradient of average_exc_pad with padding")
        windows = windows_of(self, x, *parameters)
        if self.mode != "sum":
            gradients = np.asarray(gradients / windows.sizes(self.mode == "average_inc_pad"),
                                   x.dtype)
        result = np.zeros_like(windows.padded(x, 0))
        for place in windows.places():
            result[place] += gradients
        outputs[0][0] = windows.unpadded(result)

    def max_second_gradient(self, node, inputs, outputs):
        x, maxima, gradients, *parameters = inputs
        windows = windows_of(self, x, *parameters, n_windows=maxima.shape[-self.ndim:])
        y, gradients = windows.padded(x, _least(x.dtype)), windows.padded(gradients, 0)
        result = np.zeros_like(maxima)
        for place in windows.places():
            result += np.where(y[place] == maxima, gradients[place], 0)
        outputs[0][0] = result

    def max_r_op(self, node, inputs, outputs, params):
        x, points, *parameters = inputs
        windows = windows_of(self, x, *parameters)
        y, points = windows.padded(x, _least(x.dtype)), windows.padded(points, 0)
        first, *others = windows.places()
        maxima, result = y[first].copy(), points[first].copy()
        for place in others:
            greater = y[place] > maxima
            maxima = np.where(greater, y[place], maxima)
            result = np.where(greater, points[place], result)
        outputs[0][0] = result

    pool.Pool.perform = pool_perform
    pool.MaxPoolGrad.perform = max_gradient
    pool.AveragePoolGrad.perform = average_gradient
    pool.DownsampleFactorMaxGradGrad.perform = max_second_gradient
    pool.MaxPoolRop.perform = max_r_op


@around_import("theano.tensor.nnet.neighbours")
def extract_neighbours_by_strides(neighbours):
    """Take all patches of an image at once."""
    yield

    @replace(neighbours.Images2Neibs)
    def perform(self, node, inputs, outputs, params):
        images, shape, step = inputs
        perform.original(self, node, [images[:0], shape, step], outputs, params)  # checks the shapes
        mode, (c, d) = self.mode, shape
        pad = {"half": (c // 2, d // 2), "wrap_centered": (c // 2, d // 2),
               "full": (c - 1, d - 1)}.get(mode, (0, 0))
        images = np.pad(images, [(0, 0), (0, 0), *((p, p) for p in pad)],
                        mode="wrap" if mode == "wrap_centered" else "constant")
        windows = sliding_window_view(images, (c, d), (2, 3))[:, :, ::step[0], ::step[1]]
        outputs[0][0] = windows.reshape(-1, c * d)
