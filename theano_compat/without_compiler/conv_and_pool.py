"""Convolution and pooling without a compiler, by windows, which are views of parts of an image.

Theano's Python code loops over images, filters and positions.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from theano_compat.hooks import around_import, replace

#: The largest number of elements in the windows that are copied for one matrix product.
_MAX_NUMBERS_IN_WINDOWS = 2**24


# --- convolution ---

@around_import("theano.tensor.nnet.abstract_conv")
def convolve_by_products(abstract_conv):
    """Convolve by a matrix product of all windows and all filters.

    Theano's Python code needs a function that SciPy has removed, and it would call this function
    for each pair of an image and a filter.
    """
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
            convolve = {"forward": _convolve_unshared,
                        "backprop weights": _gradient_of_unshared_filters,
                        "backprop inputs": _gradient_of_unshared_images}[direction]
            assert n_dims == 2 and dilation == (1, 1)
        else:
            convolve = _convolve
            if mode == "full":
                img = _padded(img, [(length - 1) * step for length, step in
                                    zip(kern.shape[-n_dims:], dilation)])
        image_groups = np.split(img, num_groups, axis=1)
        filter_groups = np.split(kern, num_groups, axis=0)
        results = [convolve(images, filters, dilation)
                   for images, filters in zip(image_groups, filter_groups)]
        return results[0] if num_groups == 1 else np.concatenate(results, axis=1)


@around_import("theano.tensor.nnet.opt")
def keep_abstract_convolutions(opt):
    """Leave abstract convolutions in the graph if there is no compiler.

    Theano would replace some of them, and reject the others because they have no C code.
    """
    yield

    def only_with_a_compiler(original_transform):
        return lambda node: bool(opt.theano.config.cxx) and original_transform(node)

    for optimizer in (opt.local_conv2d_cpu, opt.local_conv2d_gradweight_cpu,
                      opt.local_conv2d_gradinputs_cpu, opt.local_abstractconv_check):
        optimizer.transform = only_with_a_compiler(optimizer.transform)


@around_import("theano.tensor.nnet.conv")
def convolve_old_ops_by_products(conv):
    """Convolve by matrix products in Theano's older operation, `theano.tensor.nnet.conv.conv2d`.

    Its Python code needs a function that SciPy has removed.
    """
    yield
    conv.ConvOp.perform = _perform_old_convolution


def _perform_old_convolution(self, node, inputs, outputs):
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
    """Return zeros of this shape that contain the pixels of the images at equal distances."""
    shape = [m if n is None else n for n, m in zip(shape, images.shape[2:])]
    steps = [-(-n // m) for n, m in zip(shape, images.shape[2:])]
    offsets = [0 if from_the_top else (n - m * step - 1 + step) % step
               for n, m, step in zip(shape, images.shape[2:], steps)]
    result = np.zeros((*images.shape[:2], *shape), images.dtype)
    result[(..., *(slice(offset, None, step) for offset, step in zip(offsets, steps)))] = images
    return result


def _padded(images, pad):
    """Return the images with zeros around them: `pad` on both sides of each of the last axes."""
    widths = [(0, 0)] * (images.ndim - len(pad)) + [(n, n) for n in pad]
    return np.pad(images, widths)


def _convolve(images, filters, dilation):
    """Convolve images ``(batch, channels, ...)`` with filters ``(filters, channels, ...)``."""
    n_dims = len(dilation)
    axes = tuple(range(2, 2 + n_dims))
    flipped = np.flip(filters, axes)
    extent = [(length - 1) * step + 1 for length, step in zip(filters.shape[2:], dilation)]
    windows = sliding_window_view(images, extent, axes)
    windows = windows[(..., *(slice(None, None, step) for step in dilation))]
    result = np.empty((len(images), len(filters), *windows.shape[2:2 + n_dims]),
                      np.result_type(images, filters))
    window_axes = tuple(range(2 + n_dims, 2 + 2 * n_dims))
    step = max(1, _MAX_NUMBERS_IN_WINDOWS * len(images) // max(1, windows.size))
    for start in range(0, len(images), step):
        part = np.tensordot(windows[start:start + step], flipped, ((1, *window_axes), (1, *axes)))
        result[start:start + step] = np.moveaxis(part, -1, 1)
    return result


# Unshared filters are different at each position. Their shape is
# ``(filters, channels, rows, columns, height, width)``.

def _convolve_unshared(images, filters, _):
    windows = sliding_window_view(images, filters.shape[4:], (2, 3))
    return np.einsum("ncrsij,fcrsij->nfrs", windows, filters[..., ::-1, ::-1], optimize=True)


def _gradient_of_unshared_filters(images, gradients, _):
    shape = [n - m + 1 for n, m in zip(images.shape[2:], gradients.shape[2:])]
    windows = sliding_window_view(images, shape, (2, 3))
    return np.einsum("ncrsij,fcrs->nfrsij", windows, gradients, optimize=True)


def _gradient_of_unshared_images(gradients, filters, _):
    rows, columns, height, width = filters.shape[2:]
    result = np.zeros((len(gradients), len(filters), rows + height - 1, columns + width - 1),
                      gradients.dtype)
    for i, j in np.ndindex(height, width):
        result[:, :, i:i + rows, j:j + columns] += np.einsum(
            "ncrs,fcrs->nfrs", gradients, filters[..., height - 1 - i, width - 1 - j],
            optimize=True)
    return result


# --- pooling ---

@around_import("theano.tensor.signal.pool")
def pool_by_strides(pool):
    """Pool over all windows at once, in as many steps as a window has pixels.

    Theano's Python code loops over all windows, and indexes with lists, which NumPy 1.23 refuses.
    """
    yield
    pool.Pool.perform = _perform_pooling
    pool.MaxPoolGrad.perform = _perform_max_gradient
    pool.AveragePoolGrad.perform = _perform_average_gradient
    pool.DownsampleFactorMaxGradGrad.perform = _perform_max_second_gradient
    pool.MaxPoolRop.perform = _perform_max_r_op


class _Windows:
    """The positions of the windows of a pooling operation.

    Parameters
    ----------
    shape : tuple of int
        The shape of the images. The last dimensions are pooled.
    n_windows : tuple of int
        The number of windows along each pooled dimension.
    window, stride, pad : sequence of int
        The size of a window, the step from one window to the next, and the number of pixels added
        on both sides, along each pooled dimension.
    """

    def __init__(self, shape, n_windows, window, stride, pad):
        self._lengths, self._n_windows = shape[-len(pad):], n_windows
        self._window, self._stride, self._pad = (
            [int(n) for n in numbers] for numbers in (window, stride, pad))

    @classmethod
    def of(cls, op, x, window, stride, pad, n_windows=None):
        """Return the windows of an operation on `x`. By default, `n_windows` is computed."""
        from theano.tensor.signal.pool import Pool

        n_dims = op.ndim
        if not window.shape == stride.shape == pad.shape == (n_dims,) or x.ndim < n_dims:
            raise ValueError(f"Got a window of {window}, a stride of {stride}, padding of {pad} "
                             f"and {x.ndim} dimensions, expected {n_dims} of each, or more")
        if n_windows is None:
            n_windows = Pool.out_shape(x.shape, window, op.ignore_border, stride, pad,
                                       n_dims)[-n_dims:]
        return cls(x.shape, tuple(map(int, n_windows)), window, stride, pad)

    def _place(self, lengths):
        """Return the index of the images in padded images."""
        return (..., *(slice(p, p + n) for p, n in zip(self._pad, lengths)))

    def padded(self, images, fill):
        """Return the images with pixels of value `fill` around them, as far as windows reach."""
        n_dims = len(self._pad)
        lengths = images.shape[-n_dims:]
        padded_lengths = [max((n - 1) * s + w, length + 2 * p) for n, s, w, length, p in zip(
            self._n_windows, self._stride, self._window, lengths, self._pad)]
        if list(lengths) == padded_lengths:
            return images
        result = np.full((*images.shape[:-n_dims], *padded_lengths), fill, images.dtype)
        result[self._place(lengths)] = images
        return result

    def unpadded(self, padded):
        return np.ascontiguousarray(padded[self._place(self._lengths)])

    def pixels(self):
        """For each place in a window, yield the index of its pixels in all windows."""
        for offset in np.ndindex(*self._window):
            yield (..., *(slice(o, o + max(0, (n - 1) * s + 1), s) for o, n, s in zip(
                offset, self._n_windows, self._stride)))

    def sizes(self, with_padding):
        """Return the number of pixels in each window. Padding counts if `with_padding` is true."""
        result = np.ones(self._n_windows)
        for axis, (n, w, s, p, length) in enumerate(zip(
                self._n_windows, self._window, self._stride, self._pad, self._lengths)):
            start = np.arange(n) * s
            end = np.minimum(start + w, length + 2 * p)
            if not with_padding:
                start, end = np.maximum(start, p), np.minimum(end, length + p)
            broadcast_shape = np.ones(len(self._pad), int)
            broadcast_shape[axis] = n
            result = result * (end - start).reshape(broadcast_shape)
        return result


def _least(dtype):
    """Return the smallest value of a dtype."""
    if dtype.kind in "iu":
        return np.iinfo(dtype).min
    return False if dtype.kind == "b" else -np.inf


def _maxima_with_nan(windows, padded, x):
    """Return the same maxima of windows as C: NaN only if it is the first pixel of a window."""
    is_image = windows.padded(np.ones(x.shape, bool), False)
    first, *later_pixels = windows.pixels()
    maxima, is_found = padded[first].copy(), is_image[first].copy()
    for pixel in later_pixels:
        is_better = (padded[pixel] > maxima) | (is_image[pixel] & ~is_found)
        np.copyto(maxima, padded[pixel], where=is_better)
        is_found |= is_image[pixel]
    return maxima


def _perform_pooling(self, node, inputs, outputs, params):
    x, *parameters = inputs
    windows = _Windows.of(self, x, *parameters)
    padded = windows.padded(x, _least(x.dtype) if self.mode == "max" else 0)
    if self.mode == "max" and np.isnan(x).any():
        outputs[0][0] = _maxima_with_nan(windows, padded, x)
        return
    combine = np.maximum if self.mode == "max" else np.add
    first, *later_pixels = windows.pixels()
    result = padded[first].copy()
    for pixel in later_pixels:
        combine(result, padded[pixel], out=result)
    if self.mode.startswith("average"):
        result = result / windows.sizes(self.mode == "average_inc_pad")
    outputs[0][0] = np.asarray(result, x.dtype)


def _perform_max_gradient(self, node, inputs, outputs):
    x, maxima, gradients, *parameters = inputs
    windows = _Windows.of(self, x, *parameters, n_windows=maxima.shape[-self.ndim:])
    padded = windows.padded(x, _least(x.dtype))
    result = np.zeros_like(padded)
    for pixel in windows.pixels():
        result[pixel] += np.where(padded[pixel] == maxima, gradients, 0)
    outputs[0][0] = windows.unpadded(result)


def _perform_average_gradient(self, node, inputs, outputs):
    x, gradients, *parameters = inputs
    if self.mode == "average_exc_pad" and np.max(parameters[-1]):
        raise NotImplementedError("Theano has no gradient of average_exc_pad with padding")
    windows = _Windows.of(self, x, *parameters)
    if self.mode != "sum":
        gradients = np.asarray(gradients / windows.sizes(self.mode == "average_inc_pad"), x.dtype)
    result = np.zeros_like(windows.padded(x, 0))
    for pixel in windows.pixels():
        result[pixel] += gradients
    outputs[0][0] = windows.unpadded(result)


def _perform_max_second_gradient(self, node, inputs, outputs):
    x, maxima, gradients, *parameters = inputs
    windows = _Windows.of(self, x, *parameters, n_windows=maxima.shape[-self.ndim:])
    padded, padded_gradients = windows.padded(x, _least(x.dtype)), windows.padded(gradients, 0)
    result = np.zeros_like(maxima)
    for pixel in windows.pixels():
        result += np.where(padded[pixel] == maxima, padded_gradients[pixel], 0)
    outputs[0][0] = result


def _perform_max_r_op(self, node, inputs, outputs, params):
    x, tangents, *parameters = inputs
    windows = _Windows.of(self, x, *parameters)
    padded, padded_tangents = windows.padded(x, _least(x.dtype)), windows.padded(tangents, 0)
    first, *later_pixels = windows.pixels()
    maxima, result = padded[first].copy(), padded_tangents[first].copy()
    for pixel in later_pixels:
        is_greater = padded[pixel] > maxima
        maxima = np.where(is_greater, padded[pixel], maxima)
        result = np.where(is_greater, padded_tangents[pixel], result)
    outputs[0][0] = result


@around_import("theano.tensor.nnet.neighbours")
def extract_neighbours_by_strides(neighbours):
    """Take all patches of an image at once; Theano's Python code copies them number by number."""
    yield

    @replace(neighbours.Images2Neibs)
    def perform(self, node, inputs, outputs, params):
        images, shape, step = inputs
        perform.original(self, node, [images[:0], shape, step], outputs, params)  # checks shapes
        height, width = shape
        pad_rows, pad_columns = {
            "half": (height // 2, width // 2), "wrap_centered": (height // 2, width // 2),
            "full": (height - 1, width - 1)}.get(self.mode, (0, 0))
        images = np.pad(images, [(0, 0), (0, 0), (pad_rows, pad_rows), (pad_columns, pad_columns)],
                        mode="wrap" if self.mode == "wrap_centered" else "constant")
        windows = sliding_window_view(images, (height, width), (2, 3))[:, :, ::step[0], ::step[1]]
        outputs[0][0] = windows.reshape(-1, height * width)
