"""Layers and operations for a GPU that the CPU computes, for programs that expect a GPU.

The program uses Lasagne's own modules ``lasagne.layers.dnn``, ``.corrmm`` and ``.cuda_convnet``.
They call operations of Theano's old GPU back end and of pylearn2. This module defines replacements
for these operations, which return expressions for the CPU.

Some programs try to import GPU layers, and use other layers if there is no GPU. They must continue
to do so. So there is a rule: **inside a** ``try`` **that handles ImportError, these imports raise
ImportError, as they do without a GPU. Everywhere else they succeed, with one warning.** A ``with``
that names ImportError, such as ``suppress(ImportError)``, counts as such a ``try``. The rule also
applies to a module that is itself imported inside one of these. `_is_tried` implements the rule.
"""

import ast
import linecache
import sys
import warnings
from contextlib import contextmanager
from functools import lru_cache

from theano_compat.hooks import around_import
from theano_compat.needed.removed_names import stand_in

__all__ = ["modules_of_old_backend"]


# --- whether a program has an alternative to an import ---

#: Packages with frames between an import statement and the code of the imported module.
_MACHINERY = {"importlib", "contextlib", "theano_compat"}


def _belongs_to(frame, packages):
    name = frame.f_globals.get("__name__", "")
    return (name.partition(".")[0] in packages
            or frame.f_code.co_filename.startswith("<frozen importlib"))


def _importing_frames():
    """Return the frames of import statements, from the program's import outwards.

    The second frame imports the module of the first frame, and so on.
    """
    frames = []
    frame = sys._getframe(1)
    while frame:
        if not _belongs_to(frame, _MACHINERY):
            frames.append(frame)
            if not (frame.f_back and _belongs_to(frame.f_back, {"importlib"})):
                break  # this frame is not a module that is being imported
        frame = frame.f_back
    return frames


@lru_cache(maxsize=None)  # a program may look up an operation for each of its layers
def _tree_of(text, path):
    """Return the syntax tree of a file or cell, or None if it is neither Python 3 nor Python 2."""
    from theano_compat.old_programs import python2

    try:
        return ast.parse(text)
    except SyntaxError:
        pass
    try:
        return python2.tree_of(text, path)
    except (SyntaxError, ModuleNotFoundError):
        return None


def _is_tried(frame):
    """Return whether a ``try`` or ``with`` around a frame's current line handles ImportError."""
    path = frame.f_code.co_filename
    scope = _tree_of("".join(linecache.getlines(path, frame.f_globals)), path)
    if scope is None:
        return False

    def is_in(statements):
        return statements[0].lineno <= frame.f_lineno <= statements[-1].end_lineno

    for node in ast.walk(scope):  # the last function is the innermost one
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and is_in(node.body):
            scope = node
    return any(_handles_missing_module(classes, frame)
               for node in ast.walk(scope)
               if isinstance(node, (ast.Try, ast.With)) and is_in(node.body)
               for classes in _handled_classes(node))


def _handled_classes(node):
    """Yield expressions for the exceptions that ``try`` or ``with`` may handle; None for all."""
    if isinstance(node, ast.Try):
        yield from (handler.type for handler in node.handlers)
        return
    for item in node.items:
        if isinstance(item.context_expr, ast.Call):
            yield from (argument for argument in item.context_expr.args
                        if isinstance(argument, (ast.Name, ast.Attribute, ast.Tuple)))


def _handles_missing_module(classes, frame):
    if classes is None:
        return True
    try:  # the expressions may have any meaning, as in pytest.importorskip
        value = eval(compile(ast.Expression(classes), "an except clause", "eval"),
                     frame.f_globals, frame.f_locals)
        return issubclass(ModuleNotFoundError, value)
    except Exception:
        return False


_is_warned = False


def _require_cpu(name):
    """Raise ImportError if the program has an alternative to an import; otherwise warn once."""
    global _is_warned
    frames = _importing_frames()
    if any(map(_is_tried, frames)):
        raise ModuleNotFoundError(f"{name} requires a GPU")
    if not _is_warned:
        _is_warned = True
        warnings.warn_explicit(f"There is no GPU for Theano here: in place of {name} the CPU "
                               "computes", UserWarning, frames[0].f_code.co_filename,
                               frames[0].f_lineno)


# --- Lasagne's modules ---

@around_import("lasagne.layers.dnn", "lasagne.layers.corrmm", "lasagne.layers.cuda_convnet")
def give_gpu_layers_to_cpu(module):
    """Let old programs import Lasagne's layers for a GPU; the CPU computes them.

    Theano 0.10 has removed the GPU back end for which these layers are written.
    """
    cuda = sys.modules.get("theano.sandbox.cuda")
    if cuda is None:  # only old programs have this module
        yield
        return
    _require_cpu(module.__name__)
    if module.__name__ == "lasagne.layers.cuda_convnet":
        sys.modules.update({name: stand_in(name, **contents)
                            for name, contents in _PYLEARN2.items()})
        module.range = lambda n: list(range(n))  # it adds a list to a range, which Python 2 allows
    with _as_on_gpu(cuda):
        yield


@contextmanager
def _as_on_gpu(cuda):
    """Make Lasagne believe that there is a GPU, inside a ``with`` statement."""
    import theano

    device = type(theano.config).device  # the descriptor; `theano.config.device` cannot be changed
    real = device.val, cuda.cuda_enabled, cuda.dnn.dnn_available
    device.val, cuda.cuda_enabled, cuda.dnn.dnn_available = "gpu", True, lambda: True
    try:
        yield
    finally:
        device.val, cuda.cuda_enabled, cuda.dnn.dnn_available = real


# --- operations ---
#
# Names and parameters are the same as in Theano 0.7 to 0.9. Images have the axes (batch, channels,
# rows, columns), volumes (batch, channels, depth, rows, columns), filters (filters, channels, ...).
# Results have the dtype of the images and filters.

def _refuse(**parameters):
    """Raise ValueError if a parameter is set that has no meaning on the CPU."""
    for name, value in parameters.items():
        if value:
            raise ValueError(f"Got {name}={value!r}, expected no {name}: it has no meaning on the "
                             "CPU, which computes in place of the GPU here")


def _convolution(name, n, conv_mode, border_mode, subsample, **options):
    """Return Theano's function ``conv{n}d{name}``, which convolves n axes, and its options."""
    from theano.tensor.nnet import abstract_conv

    if conv_mode not in ("conv", "cross"):
        raise ValueError(f"Got conv_mode={conv_mode!r}, expected 'conv' or 'cross'")
    return getattr(abstract_conv, f"conv{n}d{name}"), {
        "border_mode": border_mode, "subsample": subsample or (1,) * n,
        "filter_flip": conv_mode == "conv", **options}


def dnn_conv(img, kerns, border_mode="valid", subsample=None, conv_mode="conv",
             direction_hint=None, workmem=None, algo=None, precision=None, num_groups=1):
    """Convolve images with filters.

    Parameters
    ----------
    img, kerns : tensor
        Images, and filters.
    border_mode : {"valid", "full", "half"}, int or tuple of int
    subsample : tuple of int, optional
        The stride; 1 along each axis by default.
    conv_mode : {"conv", "cross"}
        "conv" flips the filters, "cross" does not.
    direction_hint, workmem, algo, precision : None
        Parameters that choose an algorithm of cuDNN.
    num_groups : int, optional

    Returns
    -------
    tensor, (batch, filters, ...)

    Raises
    ------
    ValueError
        If a parameter that must be None is not None, or if `conv_mode` is unknown.
    """
    _refuse(direction_hint=direction_hint, workmem=workmem, algo=algo, precision=precision)
    convolve, options = _convolution("", img.ndim - 2, conv_mode, border_mode, subsample,
                                     num_groups=num_groups)
    return convolve(img, kerns, **options)


def dnn_gradinput(kerns, topgrad, img_shp, border_mode="valid", subsample=None, conv_mode="conv"):
    """Return the gradient of `dnn_conv` with respect to images of shape `img_shp`."""
    n = kerns.ndim - 2
    gradient, options = _convolution("_grad_wrt_inputs", n, conv_mode, border_mode, subsample)
    shape = None, None, *(img_shp[i + 2] for i in range(n))
    return gradient(topgrad, kerns, input_shape=shape, **options)


def dnn_gradweight(img, topgrad, kerns_shp, border_mode="valid", subsample=None,
                   conv_mode="conv"):
    """Return the gradient of `dnn_conv` with respect to filters of shape `kerns_shp`."""
    n = img.ndim - 2
    gradient, options = _convolution("_grad_wrt_weights", n, conv_mode, border_mode, subsample)
    shape = None, None, *(kerns_shp[i + 2] for i in range(n))
    return gradient(img, topgrad, filter_shape=shape, **options)


class GpuDnnConvDesc:
    """The description of a convolution. A call with two shapes returns the same object."""

    def __init__(self, border_mode, subsample=None, conv_mode="conv", precision=None):
        _refuse(precision=precision)
        self.options = {"border_mode": border_mode, "subsample": subsample, "conv_mode": conv_mode}

    def __call__(self, img_shape, kern_shape):
        return self


class _Convolution:
    def __init__(self, workmem=None, inplace=False, algo=None):
        _refuse(workmem=workmem, inplace=inplace, algo=algo)


class GpuDnnConv(_Convolution):
    """`dnn_conv` with the options of a descriptor. The value of `output` does not matter."""

    def __call__(self, img, kerns, output, desc):
        return dnn_conv(img, kerns, **desc.options)


class GpuDnnConvGradI(_Convolution):
    """`dnn_gradinput` with the options of a descriptor. Only the shape of `output` matters."""

    def __call__(self, kerns, topgrad, output, desc):
        return dnn_gradinput(kerns, topgrad, output.shape, **desc.options)


class GpuDnnConvGradW(_Convolution):
    """`dnn_gradweight` with the options of a descriptor. Only the shape of `output` matters."""

    def __call__(self, img, topgrad, output, desc):
        return dnn_gradweight(img, topgrad, output.shape, **desc.options)


def dnn_pool(img, ws, stride=None, mode="max", pad=None):
    """Pool images. Windows that extend beyond the padded border are ignored.

    Parameters
    ----------
    img : tensor
        Images.
    ws : tuple of int or of scalar variables
        Size of a window along each axis.
    stride : tuple of int or of scalar variables, optional
        By default, 1 along each axis, and not `ws`.
    mode : {"max", "average", "average_inc_pad", "average_exc_pad", "sum"}
        "average" means "average_inc_pad".
    pad : tuple of int, optional
        Size of the padding on both sides of each axis. Padding is never the maximum of a window.

    Returns
    -------
    tensor, (batch, channels, ...)
    """
    from theano.tensor.signal import pool

    n = img.ndim - 2
    return getattr(pool, f"pool_{n}d")(
        img, ws=ws, stride=(1,) * n if stride is None else stride,
        # A pad of 0 is left out, because Theano compares a pad with `ws`, which may be variables.
        pad=pad if pad and any(pad) else None,
        ignore_border=True, mode="average_inc_pad" if mode == "average" else mode)


def dnn_batch_normalization_train(inputs, gamma, beta, mode="per-activation", *args, **options):
    """Normalise a batch. `mode` corresponds to `axes` in Theano's function for the CPU."""
    from theano.tensor.nnet import bn

    return bn.batch_normalization_train(inputs, gamma, beta, mode, *args, **options)


def dnn_batch_normalization_test(inputs, gamma, beta, mean, var, mode="per-activation",
                                 *args, **options):
    """Normalise a batch with a given mean and variance."""
    from theano.tensor.nnet import bn

    return bn.batch_normalization_test(inputs, gamma, beta, mean, var, mode, *args, **options)


class GpuCorrMM:
    """Cross-correlates images with filters, which are not flipped."""

    def __init__(self, border_mode="valid", subsample=None, *, pad=None, num_groups=1):
        self.border_mode = pad if pad and any(pad) else border_mode
        self.subsample, self.num_groups = subsample, num_groups

    def __call__(self, img, kern):
        return dnn_conv(img, kern, self.border_mode, self.subsample, conv_mode="cross",
                        num_groups=self.num_groups)


def _to_bc01(images):
    from theano.tensor import as_tensor_variable

    return as_tensor_variable(images).dimshuffle(3, 0, 1, 2)


class FilterActs:
    """Cross-correlates images and filters with the axes c01b: channel, row, column, batch."""

    def __init__(self, pad=0, partial_sum=1, stride=1):
        _refuse(partial_sum=partial_sum != 1 and partial_sum)
        self.pad, self.stride = pad, stride

    def __call__(self, images, filters):
        correlated = dnn_conv(_to_bc01(images), _to_bc01(filters), (self.pad,) * 2,
                              (self.stride,) * 2, conv_mode="cross")
        return correlated.dimshuffle(1, 2, 3, 0)


class MaxPool:
    """Pools images with the axes c01b. Windows at the border are not ignored."""

    def __init__(self, ds, stride):
        self.ds, self.stride = ds, stride

    def __call__(self, images):
        from theano.tensor.signal.pool import pool_2d

        pooled = pool_2d(_to_bc01(images), ws=(self.ds,) * 2, stride=(self.stride,) * 2,
                         ignore_border=False)
        return pooled.dimshuffle(1, 2, 3, 0)


class _Transfer:
    """A copy to or from the memory of a GPU. Here, it returns its argument."""

    def __call__(self, x):
        return x


def _alloc_empty(*shape):
    from theano.tensor import AllocEmpty

    return AllocEmpty("float32")(*shape)


# --- the modules that contained these operations ---

_PYLEARN2 = {
    "pylearn2.sandbox.cuda_convnet.filter_acts": {"FilterActs": FilterActs},
    "pylearn2.sandbox.cuda_convnet.pool": {"MaxPool": MaxPool}}

_OPERATIONS = {
    "dnn": {function.__name__: function for function in (
        dnn_conv, dnn_gradinput, dnn_gradweight, dnn_pool, dnn_batch_normalization_train,
        dnn_batch_normalization_test, GpuDnnConvDesc, GpuDnnConv, GpuDnnConvGradI,
        GpuDnnConvGradW)},
    "blas": {"GpuCorrMM": GpuCorrMM}}
for _name in "dnn_conv", "dnn_gradinput", "dnn_gradweight":
    _OPERATIONS["dnn"][f"{_name}3d"] = _OPERATIONS["dnn"][_name]


def _module_of_operations(name, **contents):
    """Return ``theano.sandbox.cuda.{name}`` with `contents`, and with operations.

    Operations cannot be imported inside a ``try``: see the rule in the docstring of this module.
    """
    operations = _OPERATIONS[name]
    full_name = f"theano.sandbox.cuda.{name}"

    def __getattr__(attribute):
        if attribute not in operations:
            raise AttributeError(f"module {full_name!r} has no attribute {attribute!r}")
        _require_cpu(full_name)
        return operations[attribute]

    return stand_in(full_name, __getattr__=__getattr__, __all__=[*contents, *operations],
                    **contents)


def modules_of_old_backend():
    """Return stand-ins for the modules of ``theano.sandbox.cuda``.

    Returns
    -------
    dict of module
        The keys are the names of the modules in this package.
    """
    return {
        "dnn": _module_of_operations("dnn", dnn_available=lambda: False),
        "blas": _module_of_operations("blas"),
        "basic_ops": stand_in(
            "theano.sandbox.cuda.basic_ops", gpu_alloc_empty=_alloc_empty, GpuFromHost=_Transfer,
            HostFromGpu=_Transfer, **dict.fromkeys(
                ["gpu_contiguous", "gpu_from_host", "host_from_gpu", "as_cuda_ndarray_variable"],
                lambda x: x))}
