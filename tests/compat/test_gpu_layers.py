"""Layers and operations for a GPU in old programs: whether they are imported, and their results."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.process

#: What each program below starts with: reference computations of NumPy and SciPy.
REFERENCES = """
import itertools, numpy as np
import scipy.signal
import theano, theano.tensor as T, lasagne
from lasagne.layers import InputLayer, get_output

random = np.random.RandomState(0)
checked, expected, names = [], [], []

def check(name, expression, value):
    names.append(name), checked.append(T.as_tensor_variable(expression)), expected.append(value)

def finish():
    for name, value, reference in zip(names, theano.function([], checked)(), expected):
        np.testing.assert_allclose(value, reference, rtol=1e-9, atol=1e-9, err_msg=name)
    print(len(names))

def each(side, n):
    return tuple(side) if isinstance(side, (tuple, list)) else (side,) * n

def padded(images, pad, value=0):
    return np.pad(images, [(0, 0), (0, 0)] + [(p, p) for p in pad], constant_values=value)

def strided(stride):
    return (...,) + tuple(slice(None, None, s) for s in stride)

def convolved(images, filters, pad=0, stride=1, flip=False):
    n = images.ndim - 2
    sides = filters.shape[2:]
    pad = {"valid": (0,) * n, "full": [k - 1 for k in sides],
           "same": [(k - 1) // 2 for k in sides]}.get(pad) if isinstance(pad, str) else each(pad, n)
    compute = scipy.signal.convolve if flip else scipy.signal.correlate
    images = padded(images, pad)
    return np.array([[sum(compute(image[c], kernels[c], mode="valid") for c in range(len(image)))
                      for kernels in filters] for image in images])[strided(each(stride, n))]

def pooled(images, sides, stride, pad=0, mode="max"):
    n = images.ndim - 2
    sides, stride, pad = (each(x, n) for x in (sides, stride, pad))
    def windows(images, value):
        windows = np.lib.stride_tricks.sliding_window_view(
            padded(images, pad, value), sides, tuple(range(2, n + 2)))
        return windows[(slice(None),) * 2 + tuple(slice(None, None, s) for s in stride)]
    within = tuple(range(-n, 0))
    if mode == "max":
        return windows(images, -np.inf).max(within)
    total = windows(images, 0).sum(within)
    if mode == "sum":
        return total
    if mode == "average_exc_pad":
        return total / windows(np.ones_like(images), 0).sum(within)
    return total / np.prod(sides)
"""


def run_old(program, folder, warm, *, python2=False):
    """Run a program as ``python -m theano_compat`` does; return its output and its warnings."""
    (folder / "old.py").write_text(program)
    process = subprocess.run(
        [sys.executable, "-m", "theano_compat", *["--python2"] * python2, "old.py"], cwd=folder,
        env={**warm.environment, "THEANO_FLAGS": "cxx="}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True)
    assert process.returncode == 0, process.stderr
    return process.stdout, process.stderr


# --- which imports succeed ---

IMPORTS = ["from lasagne.layers import dnn as found",
           "from lasagne.layers.dnn import Conv2DDNNLayer as found",
           "from lasagne.layers.corrmm import Conv2DMMLayer as found",
           "from lasagne.layers.cuda_convnet import Conv2DCCLayer as found",
           "from theano.sandbox.cuda.dnn import dnn_conv as found",
           "from theano.sandbox.cuda.blas import GpuCorrMM as found"]

#: Modules that import a layer in place of IMPORT, and whether they have something else.
MODULES = {
    "plain": ("IMPORT", False),
    "tried": ("try:\n    IMPORT\nexcept ImportError:\n    found = None", True),
    "tried_in_one_line": ("try: IMPORT\nexcept ImportError: found = None", True),
    "one_of_several": ("try:\n    pass\n# a comment\n    IMPORT\nexcept (KeyError, ImportError) as e:"
                       "\n    found = None", True),
    "anything": ("try:\n    IMPORT\nexcept:\n    found = None", True),
    "missing_module": ("try:\n    IMPORT\nexcept ModuleNotFoundError:\n    found = None", True),
    "named_otherwise": ("errors = Exception\ntry:\n    IMPORT\nexcept errors:\n    found = None", True),
    "outer": ("try:\n    try:\n        IMPORT\n    except ValueError:\n        1 / 0\n    finally:\n"
              "        pass\nexcept ImportError:\n    found = None", True),
    "function": ("def get():\n    try:\n        IMPORT\n        return found\n"
                 "    except ImportError:\n        return None\nfound = get()", True),
    "suppressed": ("import contextlib\nfound = None\n"
                   "with contextlib.suppress(ImportError):\n    IMPORT", True),
    "by_another": ("try:\n    from plain import found\nexcept ImportError:\n    found = None", True),
    "other_error": ("try:\n    IMPORT\nexcept ValueError:\n    found = None", False),
    "in_handler": ("try:\n    import no_such_module\nexcept ImportError:\n    IMPORT", False),
    "in_else": ("try:\n    pass\nexcept ImportError:\n    found = None\nelse:\n    IMPORT", False),
    "other_with": ("import contextlib\nwith contextlib.suppress(KeyError):\n    IMPORT", False),
    "called_outside": ("try:\n    def get():\n        IMPORT\n        return found\n"
                       "except ImportError:\n    found = None\nfound = get()", False),
}

TRY_EACH = """
import importlib, sys, lasagne.layers
for statement in {imports}:
    for name, (text, has_else) in {modules}.items():
        for module in {names}:
            sys.modules.pop(module, None)
        for module in "dnn", "corrmm", "cuda_convnet":
            sys.modules.pop("lasagne.layers." + module, None)
            vars(lasagne.layers).pop(module, None)
        for file, (text, _) in {modules}.items():
            with open(file + ".py", "w") as f:
                f.write(text.replace("IMPORT", statement))
        import linecache; linecache.clearcache(); importlib.invalidate_caches()
        found = importlib.import_module(name).found
        if (found is None) != has_else:
            print(name, statement, found)
"""


def test_a_program_that_has_something_else_goes_on_with_that(warm, tmp_path):
    """Elsewhere, the import succeeds; one line says once that the CPU computes."""
    program = "import sys; sys.dont_write_bytecode = True\n" + TRY_EACH.format(
        imports=IMPORTS, modules=MODULES, names=list(MODULES))
    out, err = run_old(program, tmp_path, warm)
    assert out == ""
    warning, line = err.splitlines()
    assert warning.endswith("plain.py:1: UserWarning: There is no GPU for Theano here: in place of "
                            "lasagne.layers.dnn the CPU computes")
    assert line.strip() == IMPORTS[0]


def test_the_rule_holds_for_python_2(warm, tmp_path):
    out, err = run_old("""
try:
    from lasagne.layers.dnn import Conv2DDNNLayer as Layer
    print "dnn"
except ImportError, error:
    print error
    from lasagne.layers.corrmm import Conv2DMMLayer as Layer
print Layer.__name__
""", tmp_path, warm, python2=True)
    assert out == "lasagne.layers.dnn requires a GPU\nConv2DMMLayer\n"
    assert "old.py:7: UserWarning: There is no GPU for Theano here" in err


def test_the_rule_holds_for_cells(warm):
    out, err = warm.run("""
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell()
for cell in ["%load_ext theano_compat",
             "try:\\n    import lasagne.layers.dnn\\nexcept ImportError:\\n    print('no GPU')",
             "from lasagne.layers.dnn import Conv2DDNNLayer\\nprint(Conv2DDNNLayer.__name__)"]:
    shell.run_cell(cell).raise_error()
""", THEANO_FLAGS="cxx=")
    assert out.splitlines() == ["no GPU", "Conv2DDNNLayer"]
    assert err.count("There is no GPU") == 1


def test_a_program_that_asks_for_a_gpu_is_told_that_there_is_none(warm, tmp_path):
    """So does one that has not been started as an old program."""
    out, err = run_old("""
import theano, theano.sandbox.cuda.dnn
from theano.sandbox import cuda
print(cuda.cuda_available, cuda.cuda_enabled, cuda.dnn.dnn_available(), theano.config.device)
import lasagne.layers.dnn
print(cuda.cuda_available, cuda.cuda_enabled, cuda.dnn.dnn_available(), theano.config.device)
""", tmp_path, warm)
    assert out == "False False False cpu\n" * 2
    warm.quietly("""
import theano_compat, lasagne
for name in "dnn", "corrmm", "cuda_convnet":
    try:
        __import__("lasagne.layers." + name)
    except Exception as error:
        assert "theano.sandbox.cuda" in str(error) or "nose" in str(error), error
    else:
        print(name)
""", THEANO_FLAGS="cxx=")


# --- numbers ---

CONVOLUTIONS = REFERENCES + """
from lasagne.layers.dnn import Conv2DDNNLayer
from lasagne.layers.corrmm import Conv2DMMLayer
from lasagne.layers.cuda_convnet import *

images, filters = random.normal(size=(2, 3, 8, 7)), random.normal(size=(4, 3, 3, 5))
pads = ["valid", "same", "full", 0, 2, (1, 2)]
for Layer, pad, stride in itertools.product(
        [Conv2DDNNLayer, Conv2DMMLayer], pads, [1, (2, 3)]):
    for options in {}, {"flip_filters": True}, {"flip_filters": False}:
        layer = Layer(InputLayer(images.shape), 4, (3, 5), stride, pad, W=filters, b=None,
                      nonlinearity=None, **options)
        value = convolved(images, filters, pad, stride, options.get("flip_filters", False))
        assert layer.output_shape == value.shape
        check(f"{Layer.__name__} {pad} {stride} {options}", get_output(layer, images), value)
    # The same filters mean the same as in Lasagne's layer for the CPU, if they are flipped.
    if pad != "same" or stride == 1:
        layer = lasagne.layers.Conv2DLayer(InputLayer(images.shape), 4, (3, 5), stride, pad,
                                           W=filters, b=None, nonlinearity=None)
        check("Conv2DLayer", get_output(layer, images),
              convolved(images, filters, pad, stride, flip=True))

filters = random.normal(size=(16, 3, 3, 3))
for pad, stride, flip in itertools.product(["valid", "same", "full", 1], [1, 2], [None, True]):
    options = {} if flip is None else {"flip_filters": flip}
    value = convolved(images, filters, pad, stride, bool(flip))
    layer = Conv2DCCLayer(InputLayer(images.shape), 16, 3, stride, pad, W=filters, b=None,
                          nonlinearity=None, **options)
    assert layer.output_shape == value.shape
    check(f"bc01 {pad} {stride} {flip}", get_output(layer, images), value)
    layer = Conv2DCCLayer(ShuffleBC01ToC01BLayer(InputLayer(images.shape)), 16, 3, stride, pad,
                          W=filters.transpose(1, 2, 3, 0), b=None, nonlinearity=None,
                          dimshuffle=False, **options)
    check(f"c01b {pad} {stride} {flip}", get_output(layer, images), value.transpose(1, 2, 3, 0))
    layer = ShuffleC01BToBC01Layer(layer)
    assert layer.output_shape == value.shape
    check(f"there and back {pad} {stride} {flip}", get_output(layer, images), value)

# Biases, and the nonlinearity by default.
value = convolved(images, filters)
for Layer in Conv2DDNNLayer, Conv2DMMLayer, Conv2DCCLayer:
    for shape in (16,), value.shape[1:]:
        b = random.normal(size=shape)
        layer = Layer(InputLayer(images.shape), 16, 3, W=filters, b=b, untie_biases=len(shape) > 1)
        check(f"{Layer.__name__}'s biases", get_output(layer, images),
              np.maximum(value + (b if len(shape) == 3 else b[:, np.newaxis, np.newaxis]), 0))

W, b = random.normal(size=(5, 3)), random.normal(size=(5, 8, 7))
layer = NINLayer_c01b(ShuffleBC01ToC01BLayer(InputLayer(images.shape)), 5, untie_biases=True,
                      W=W, b=b, nonlinearity=None)
check("NINLayer_c01b", get_output(layer, images),
      np.einsum("fc,bcij->fijb", W, images) + b[..., np.newaxis])
finish()
"""

POOLING = REFERENCES + """
from lasagne.layers.dnn import MaxPool2DDNNLayer, Pool2DDNNLayer
from lasagne.layers.cuda_convnet import MaxPool2DCCLayer
from theano.sandbox.cuda.dnn import dnn_pool

images = random.normal(size=(2, 4, 9, 8)) - 1  # padded with zeros, the maxima would be others
for sides, stride, pad in [(2, None, 0), (3, 2, 1), ((3, 2), (1, 2), (2, 0)), (3, 3, 0)]:
    at = InputLayer(images.shape), sides, stride, pad
    value = pooled(images, sides, stride or sides, pad)
    check(f"maxima {at[1:]}", get_output(MaxPool2DDNNLayer(*at), images), value)
    for mode in "max", "average_inc_pad", "average_exc_pad":
        layer = Pool2DDNNLayer(*at, mode=mode)
        value = pooled(images, sides, stride or sides, pad, mode)
        assert layer.output_shape == value.shape
        check(f"{mode} {at[1:]}", get_output(layer, images), value)

square = images[:, :, :8]
for sides, stride in [(3, None), (3, 2), (2, 1)]:
    # Borders are not ignored: the last windows are smaller.
    value = pooled(np.pad(square, [(0, 0), (0, 0), (0, 2), (0, 2)], constant_values=-np.inf),
                   sides, stride or sides)
    layer = MaxPool2DCCLayer(InputLayer(square.shape), sides, stride)
    value = value[:, :, :layer.output_shape[2], :layer.output_shape[3]]
    assert layer.output_shape[2] == -(-(8 - sides) // (stride or sides)) + 1
    check(f"bc01 {sides} {stride}", get_output(layer, square), value)
    c01b = square.transpose(1, 2, 3, 0)
    layer = MaxPool2DCCLayer(InputLayer(c01b.shape), sides, stride, dimshuffle=False)
    assert layer.output_shape == value.transpose(1, 2, 3, 0).shape
    check(f"c01b {sides} {stride}", get_output(layer, c01b), value.transpose(1, 2, 3, 0))

x = T.as_tensor_variable(images)
volumes = random.normal(size=(2, 3, 5, 6, 7))
check("stride 1 by default", dnn_pool(x, (2, 3)), pooled(images, (2, 3), 1))
check("average", dnn_pool(x, (2, 2), (2, 2), "average", (1, 1)),
      pooled(images, 2, 2, 1, "average_inc_pad"))
check("sum", dnn_pool(x, (2, 2), mode="sum"), pooled(images, 2, 1, mode="sum"))
check("volumes", dnn_pool(T.as_tensor_variable(volumes), (2, 3, 2), (1, 2, 1), pad=(0, 1, 1)),
      pooled(volumes, (2, 3, 2), (1, 2, 1), (0, 1, 1)))
check("symbolic windows", dnn_pool(x, (x.shape[2] // 3, 2), (3, x.shape[3] // 4), pad=(0, 0)),
      pooled(images, (3, 2), (3, 2)))
finish()
"""

OPERATIONS = REFERENCES + """
from theano.sandbox.cuda.basic_ops import gpu_alloc_empty, gpu_contiguous
from theano.sandbox.cuda.blas import GpuCorrMM
from theano.sandbox.cuda.dnn import *

images, filters = random.normal(size=(2, 3, 8, 7)), random.normal(size=(4, 3, 3, 2))
x, w = (gpu_contiguous(T.as_tensor_variable(a)) for a in (images, filters))
for pad, stride, (options, flip) in itertools.product(
        ["valid", "full", 1, (2, 1)], [(1, 1), (2, 3)],
        [({}, True), ({"conv_mode": "conv"}, True), ({"conv_mode": "cross"}, False)]):
    value = convolved(images, filters, pad, stride, flip)
    out = dnn_conv(x, w, pad, stride, **options)
    check(f"{pad} {stride} {options}", out, value)
    # Gradients of a linear function: differences, at any distance.
    r, dx, dw = (random.normal(size=a.shape) for a in (value, images, filters))
    differences = [(r * (convolved(images + dx, filters, pad, stride, flip) - value)).sum(),
                   (r * (convolved(images, filters + dw, pad, stride, flip) - value)).sum()]
    def differ(name, of_x, of_w):
        for wrt, gradient, d, difference in zip("xw", (of_x, of_w), (dx, dw), differences):
            check(f"{name} {wrt} {pad} {stride} {options}", (gradient * d).sum(), difference)
    differ("grad", *T.grad((out * r).sum(), [x, w]))
    top = T.as_tensor_variable(r)
    differ("gradinput", dnn_gradinput(w, top, x.shape, pad, stride, **options),
           dnn_gradweight(x, top, w.shape, pad, stride, **options))
    described = GpuDnnConvDesc(pad, stride, **options)(x.shape, w.shape)
    differ("GradI", GpuDnnConvGradI()(w, top, gpu_alloc_empty(*images.shape), described),
           GpuDnnConvGradW()(x, top, gpu_alloc_empty(*filters.shape), described))
    check("GpuDnnConv", GpuDnnConv()(x, w, gpu_alloc_empty(*value.shape), described), value)

check("correlation", GpuCorrMM(subsample=(2, 1))(x, w), convolved(images, filters, 0, (2, 1)))
check("its old pad", GpuCorrMM(pad=(1, 2))(x, w), convolved(images, filters, (1, 2)))
volumes, filters = random.normal(size=(2, 3, 4, 5, 6)), random.normal(size=(2, 3, 2, 3, 2))
check("volumes", dnn_conv3d(T.as_tensor_variable(volumes), T.as_tensor_variable(filters),
                            (1, 0, 1), (1, 2, 1)),
      convolved(volumes, filters, (1, 0, 1), (1, 2, 1), flip=True))

gamma, beta = random.normal(size=(2, 1, 3, 1, 1))
mean, var = (f((0, 2, 3), keepdims=True) for f in (images.mean, images.var))
normal = gamma * (images - mean) / np.sqrt(var + 1e-4) + beta
out, out_mean, out_inv_std = dnn_batch_normalization_train(x, gamma, beta, "spatial")
for name, expression, value in [
        ("normalized", out, normal), ("mean", out_mean, mean),
        ("inverse", out_inv_std, 1 / np.sqrt(var + 1e-4)),
        ("by given ones", dnn_batch_normalization_test(x, gamma, beta, mean, var, mode="spatial"),
         normal)]:
    check(name, expression, value)
finish()
"""


@pytest.mark.parametrize("program, n", [(CONVOLUTIONS, 149), (POOLING, 27), (OPERATIONS, 199)],
                         ids=["convolutions", "pooling", "operations"])
def test_the_cpu_computes_the_same(program, n, warm, tmp_path):
    out, err = run_old(program, tmp_path, warm)
    assert out == f"{n}\n"
    assert err.count("Warning") == 1, err


# --- what means nothing on the CPU ---

REFUSED = """
from lasagne.layers import InputLayer
from lasagne.layers.cuda_convnet import Conv2DCCLayer
import theano.tensor as T
from theano.sandbox.cuda.dnn import *
x = T.tensor4()
for name, call in [
        ("algo", lambda: dnn_conv(x, x, algo="small")),
        ("workmem", lambda: dnn_conv(x, x, workmem="none")),
        ("direction_hint", lambda: dnn_conv(x, x, "valid", (1, 1), "conv", "forward!")),
        ("precision", lambda: dnn_conv3d(x, x, precision="float32")),
        ("algo", lambda: GpuDnnConvGradI(algo="none")),
        ("inplace", lambda: GpuDnnConvGradW(inplace=True)),
        ("precision", lambda: GpuDnnConvDesc("valid", precision="float16")),
        ("partial_sum", lambda: Conv2DCCLayer(InputLayer((1, 3, 8, 8)), 16, 3, partial_sum=4))]:
    try:
        call()
    except ValueError as error:
        assert str(error).startswith(f"Got {name}="), error
        assert f"expected no {name}: it has no meaning on the CPU" in str(error)
    else:
        print(name)
try:
    dnn_conv(x, x, conv_mode="same")
except ValueError as error:
    print(error)
"""


def test_a_parameter_without_meaning_is_named(warm, tmp_path):
    out, _ = run_old(REFUSED, tmp_path, warm)
    assert out == "Got conv_mode='same', expected 'conv' or 'cross'\n"
