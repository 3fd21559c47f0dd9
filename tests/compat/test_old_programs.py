"""Programs for Theano up to 1.0 and Lasagne 0.1 run unchanged."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from programs import PRELUDE, SMALL, SMALL_ANSWER

from theano_compat.old_programs.error_advice import advice

pytestmark = pytest.mark.process


# --- what Theano and Lasagne need of what NumPy has dropped ---

@pytest.mark.slow
def test_dropped_names_in_gradients(warm):
    """Theano calls np.cast, np.sctype2char, np.product and others."""
    warm.quietly(PRELUDE + """
x = T.vector()
point = np.array([0.3, 0.7], "float32")
functions = [function(x) for function in (
    T.arcsin, T.arccos, T.arctan, T.arcsinh, T.arctanh, T.exp2)]
numerical = theano.function([x], functions)
gradients = theano.function([x], [T.grad(T.sum(function), x) for function in functions])
for gradient, above, below in zip(gradients(point), numerical(point + 1e-2),
                                  numerical(point - 1e-2)):
    np.testing.assert_allclose(gradient, (above - below) / 2e-2, rtol=1e-2)
total, product = theano.function([x], [T.cumsum(T.outer(x, x)), T.prod(x)])(point)
np.testing.assert_allclose(total, np.outer(point, point).cumsum(), rtol=1e-6)
assert product == np.prod(point)
assert (np.float, np.int, np.bool) == (float, int, np.bool_)
""")


def test_dropped_names_mean_what_they_meant(warm):
    warm.quietly(PRELUDE + """
import warnings
warnings.simplefilter("ignore")  # before NumPy 2.4 some are only deprecated
for scalar_type in ("float32", np.float32, np.dtype("float32"), T.fvector()):
    assert np.cast[scalar_type]([1]).dtype == "float32"
for arrays, scalars, common in [  # by the rules of NumPy 1
        (["f4"], ["f8"], "f4"), (["f4"], ["i8", "f8"], "f4"), (["i8"], ["f4"], "f8"),
        (["i1"], ["f2"], "f2"), (["f4"], ["c16"], "c16"), (["i2", "i4"], [], "i4"),
        ([], ["i2"], "i2"), (["?"], ["i8"], "i8")]:
    assert np.find_common_type(arrays, scalars) == common, (arrays, scalars)
assert np.in1d([[1, 2], [3, 4]], [2, 3], True).tolist() == [False, True, True, False]
assert np.asfarray([1], "float32").dtype == "float32" and np.asfarray([1]).dtype == "float64"
assert np.asscalar(np.array([3])) == 3 and np.alltrue([1, 1]) and np.sometrue([0, 1])
assert np.msort([[3, 1], [2, 4]]).tolist() == [[2, 1], [3, 4]] and np.NINF == -np.Inf
assert (np.mat([[2]]) * np.mat([[3]])).item() == 6
""")


def test_constants_have_the_types_they_had(warm):
    """NumPy 2 does not wrap integers, and takes 0.1 and its float32 for equal."""
    warm.quietly(PRELUDE + """
types = [T.as_tensor_variable(value).dtype for value in (1, -128, 128, 1000, 10**5, 2**31, 2**63)]
assert types == ["int8", "int8", "int16", "int16", "int32", "int64", "uint64"], types
assert T.ones((1000, 2)).eval().shape == (1000, 2)
assert T.as_tensor_variable(0.1).dtype == "float32"
""")
    warm.quietly(PRELUDE + """
assert [T.as_tensor_variable(value).dtype for value in (0.1, 0.5)] == ["float64", "float32"]
x = T.dscalar()
assert theano.function([x], x * 0.1)(1.) == 0.1
""", THEANO_FLAGS="floatX=float64")


def test_debug_mode_overwrites_scalars(warm):
    """Theano calls ndarray.itemset, which NumPy 2.0 has dropped."""
    warm.quietly(PRELUDE + """
x = theano.shared(np.asarray(1.))
step = theano.function([], [], updates={x: 2 * x + 1}, mode="DebugMode")
step(), step()
assert x.get_value() == 7
""", THEANO_FLAGS="cxx=")


def test_complex_numbers(warm):
    """With NumPy 2.0, Theano's C code cannot read the parts of one by name."""
    warm.quietly(PRELUDE + """
x, y = T.zvector(), T.cvector()
compute = theano.function([x, y], [x * y, x / y, abs(x), -x + 1, x.sum(), T.outer(x, y)])
a = np.array([1 + 2j, 3 - 4j])
b = np.array([2 - 1j, 0 + 1j], "complex64")
expected = [a * b, a / b, abs(a), 1 - a, a.sum(), np.outer(a, b)]
for value, answer in zip(compute(a, b), expected):
    np.testing.assert_allclose(value, answer, rtol=1e-12)
""")


def test_products_of_empty_arrays(warm):
    """Since NumPy 2.4 their strides are 0.  A minibatch may be empty."""
    warm.quietly(PRELUDE + """
x, y = T.matrices("xy")
z = theano.shared(np.ones((3, 2), "float32"))
products = theano.function([x, y], [T.dot(x, y), T.dot(y.T, x.T)])
add = theano.function([x, y], updates=[(z, 2 * z + T.dot(x, y))])
names = {type(n.op).__name__ for f in (products, add) for n in f.maker.fgraph.apply_nodes}
assert {"Dot22", "Gemm"} <= names, names
def zeros(*shape):
    return np.zeros(shape, "float32")
for m, k, n in [(0, 3, 2), (3, 0, 2), (3, 2, 0), (0, 0, 0), (0, 1, 2), (1, 0, 1)]:
    product, transposed = products(zeros(m, k), zeros(k, n))
    np.testing.assert_array_equal(product, zeros(m, n))
    np.testing.assert_array_equal(transposed, zeros(n, m))
add(zeros(3, 0), zeros(0, 2))
assert (z.get_value() == 2).all()
x, y = T.tensor3s("xy")
batched = theano.function([x, y], T.batched_dot(x, y))
for shape in [(0, 2, 3), (2, 0, 3), (2, 3, 0)]:
    assert batched(zeros(*shape), zeros(shape[0], shape[2], 4)).tolist() == zeros(
        shape[0], shape[1], 4).tolist()
""")


def test_topk(warm):
    warm.quietly(PRELUDE + """
x = T.matrix()
values, indices = theano.function([x], T.topk_and_argtopk(x, 2, axis=1, sorted=False))(
    np.array([[3, 1, 2], [5, 6, 4]], "float32"))
assert sorted(map(sorted, values.tolist())) == [[2, 3], [5, 6]]
assert sorted(map(sorted, indices.tolist())) == [[0, 1], [0, 2]]
""")


def test_convolutions_of_old_theano(warm):
    warm.run(PRELUDE + """
from scipy.signal import convolve2d
from theano.tensor.nnet import conv
x, w = T.tensor4s("xw")
compute = theano.function([x, w], conv.conv2d(x, w, image_shape=(2, 3, 5, 5),
                                              filter_shape=(4, 3, 2, 2)))
assert any(type(node.op).__name__ == "ConvOp" for node in compute.maker.fgraph.apply_nodes)
random = np.random.RandomState(0)
images, filters = (random.normal(size=s).astype("float32") for s in [(2, 3, 5, 5), (4, 3, 2, 2)])
expected = sum(convolve2d(images[1, i], filters[2, i], mode="valid") for i in range(3))
np.testing.assert_allclose(compute(images, filters)[1, 2], expected, rtol=1e-4, atol=1e-5)
""")


@pytest.mark.parametrize("first", ["setuptools", "vae"])
def test_setuptools_beside_lasagne(warm, first):
    second = {"setuptools": "vae", "vae": "setuptools"}[first]
    warm.run(f"import {first}, {second}, lasagne; assert {second}.__name__")


def test_pkg_resources_and_numpy_distutils_are_not_needed(warm):
    """They are missing without setuptools, or with a new one, and on Python 3.12."""
    gone = "import sys; sys.modules.update({'pkg_resources': None, 'numpy.distutils': None})"
    assert warm.quietly(gone + SMALL) == SMALL_ANSWER


def test_lasagnes_layers_that_need_names_of_old_theano(warm):
    warm.quietly(PRELUDE + """
x = T.tensor4()
layer = lasagne.layers.InputLayer((None, 1, 6, 6), x)
layer = lasagne.layers.Conv2DLayer(layer, 2, 3)
pool = lasagne.layers.MaxPool2DLayer(layer, 2)
compute = theano.function([x], lasagne.layers.get_output([layer, pool]))
image = np.random.RandomState(0).normal(size=(3, 1, 6, 6)).astype("float32")
convolved, pooled = compute(image)
np.testing.assert_array_equal(pooled, convolved.reshape(3, 2, 2, 2, 2, 2).max(axis=(3, 5)))
from scipy.signal import convolve2d
w, b = layer.W.get_value(), layer.b.get_value()
expected = np.maximum(0, convolve2d(image[1, 0], w[1, 0], mode="valid") + b[1])
np.testing.assert_allclose(convolved[1, 1], expected, rtol=1e-4, atol=1e-5)
""")


@pytest.mark.slow
def test_recurrent_layers_and_their_gradients(warm):
    warm.quietly(PRELUDE + """
from lasagne.layers import InputLayer, LSTMLayer, get_all_params, get_output
x = T.tensor3()
layer = LSTMLayer(InputLayer((None, 5, 3), x), 4)
total = T.sum(get_output(layer) ** 2)
compute = theano.function([x], [total, T.grad(total, layer.W_hid_to_cell)])
value = np.random.RandomState(0).normal(size=(2, 5, 3)).astype("float32")
_, gradient = compute(value)
before = layer.W_hid_to_cell.get_value()
step = np.zeros_like(before)
step[1, 2] = 1e-2
layer.W_hid_to_cell.set_value(before + step)
above = compute(value)[0]
layer.W_hid_to_cell.set_value(before - step)
np.testing.assert_allclose(gradient[1, 2], (above - compute(value)[0]) / 2e-2, rtol=2e-2)
""")


def test_the_loop_of_scan_is_compiled(warm):
    warm.quietly(PRELUDE + """
x, decay = T.vectors("x", "decay")
averages, updates = theano.scan(lambda x_t, before: decay * before + (1 - decay) * x_t,
                                sequences=x, outputs_info=T.zeros(2))
compute = theano.function([x, decay], [averages, T.grad(averages[-1, 0], decay)])
from theano.scan_module import scan_op, scan_perform_ext
assert type(scan_perform_ext.perform).__name__ == "builtin_function_or_method"
assert any(isinstance(node.op, scan_op.Scan) for node in compute.maker.fgraph.apply_nodes)
values, gradient = compute([1, 2, 4], [0.5, 0])
np.testing.assert_allclose(values, [[0.5, 1], [1.25, 2], [2.625, 4]])
np.testing.assert_allclose(gradient, [-3.75, 0])  # of (1 - d) (d ** 2 + 2 d + 4)
""")


def test_embeddings_and_their_gradients(warm):
    warm.quietly(PRELUDE + """
indices = T.imatrix()
l_in = lasagne.layers.InputLayer((None, 2), indices)
layer = lasagne.layers.EmbeddingLayer(l_in, 5, 3)
gradient = theano.function([indices], T.grad(T.sum(lasagne.layers.get_output(layer)), layer.W))
result = gradient(np.array([[0, 1], [1, 1]], "int32"))
np.testing.assert_array_equal(result, np.outer([1, 3, 0, 0, 0], np.ones(3)))
""")


# --- old programs ---

OLD_PROGRAM = """
import sys
import theano
assert __name__ == "__main__"
print(sys.argv[1:], __file__, sys.path[0], theano.tensor.ones(2).eval().tolist(),
      theano.config.floatX)
"""


def old_program(*arguments, folder, environment):
    (folder / "programs").mkdir(exist_ok=True)
    (folder / "programs" / "old.py").write_text(OLD_PROGRAM)
    return subprocess.run(
        [sys.executable, "-m", "theano_compat", *arguments], cwd=folder, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_an_old_script_as_it_is(warm, tmp_path):
    process = old_program("programs/old.py", "data.pkl", "-n", "3", folder=tmp_path,
                          environment=warm.environment)
    assert process.stdout == (f"['data.pkl', '-n', '3'] programs/old.py {tmp_path}/programs "
                              "[1.0, 1.0] float64\n"), process.stderr


def test_an_old_script_called_vae_beside_others(warm, tmp_path):
    """It imports its own modules, not those of this project that have the same names."""
    for name in "utils", "tools", "vae_grading":
        (tmp_path / f"{name}.py").write_text(f"name = 'mine: {name}'\n")
    (tmp_path / "vae.py").write_text("import theano, utils, tools\n"
                                     "print(utils.name, tools.name, theano.tensor.ones(1).eval())\n")
    (tmp_path / "main.py").write_text("import vae\n")
    for script in "vae.py", "main.py":
        process = subprocess.run([sys.executable, "-m", "theano_compat", script], cwd=tmp_path,
                                 env=warm.environment, capture_output=True, text=True)
        assert process.stdout == "mine: utils mine: tools [1.]\n", process.stderr


def test_an_old_module_as_it_is(warm, tmp_path):
    process = old_program("-m", "programs.old", "-h", folder=tmp_path,
                          environment={**warm.environment, "THEANO_FLAGS": "floatX=float32"})
    assert process.stdout == (f"['-h'] {tmp_path}/programs/old.py {tmp_path} [1.0, 1.0] float32\n"
                              ), process.stderr


@pytest.mark.parametrize("arguments, error", [
    (["new.py"], "there is no file new.py"),
    (["-m", "programs.new"], "there is no module programs.new to run"),
    (["-m", "new.er"], "there is no module new.er to run"),
    (["-m", "programs"], "there is no module programs to run"),
    (["-m"], "argument -m: expected one argument"),
    ([], "there is no script.py, nor -m module"),
    (["--quick", "old.py"], "unrecognized arguments: --quick old.py"),
])
def test_an_old_program_that_is_not_there(warm, tmp_path, arguments, error):
    process = old_program(*arguments, folder=tmp_path, environment=warm.environment)
    assert process.returncode == 2
    assert process.stderr.endswith(f"error: {error}\n")


def test_an_old_programs_arguments_are_its_own(warm, tmp_path):
    process = old_program("programs/old.py", "--", "-m", "--help", folder=tmp_path,
                          environment=warm.environment)
    assert process.stdout.startswith("['--', '-m', '--help'] "), process.stderr


def test_exit_handlers_of_an_old_program(warm, tmp_path):
    """Its classes are in ``__main__`` until all its threads and exit handlers have ended."""
    (tmp_path / "last.py").write_text("""
import atexit, pickle
class Model:
    pass
atexit.register(lambda: print(pickle.loads(pickle.dumps(Model())).__class__ is Model))
""")
    process = old_program("last.py", folder=tmp_path, environment=warm.environment)
    assert process.stdout == "True\n", process.stderr


#: Expressions that were true in programs of Theano's time, and must be true.
OLD_LINES = """
collections.Iterable is collections.abc.Iterable and issubclass(list, collections.MutableSequence)
inspect.getargspec(lambda a, b=1, *c, **d: 0) == (["a", "b"], "c", "d", (1,))
fractions.gcd(4, 6) == 2
time.clock() <= time.clock()
platform.linux_distribution() == platform.dist() == ("", "", "")
os.errno.ENOENT == 2
base64.decodestring(base64.encodestring(b"text")) == b"text"
configparser.SafeConfigParser().sections() == []
locale.format("%d", 3) == "3"
unittest.makeSuite(unittest.TestCase).countTestCases() == 0
cgi.escape('<"') == '&lt;"'
pipes.quote("a b") == "'a b'"
imp.reload(base64) is base64
xml.etree.cElementTree.fromstring("<a/>").tag == "a"
LooseVersion("1.10.dev0") > "1.9" and LooseVersion("1.9") == LooseVersion("1.9")
LooseVersion("0.7") <= LooseVersion(theano.__version__)
Tester().test is not None
np.NAN is np.nan and np.bool8 is np.bool_ and np.int0 is np.intp and np.float is float
np.math.pi == math.pi and np.version.version == np.__version__
np.alen([1, 2]) == np.rank(np.eye(2)) == 2
np.typeDict["f"] is np.float32 and np.float32 in np.sctypes["float"] and np.nbytes[np.float32] == 4
np.MachAr().eps == np.finfo(float).eps and np.longfloat is np.longdouble
np.loads(pickle.dumps([1])) == [1]
np.recfromcsv(io.StringIO("A,b\\n1,2.5\\n3,4"), encoding="utf-8").a.tolist() == [1, 3]
np.fastCopyAndTranspose(np.array([[1, 2]])).tolist() == [[1], [2]]
np.vstack(map(np.ones, [2, 2])).shape == (2, 2)
np.hstack(np.ones(n) for n in (1, 2)).shape == np.concatenate(map(np.ones, [1, 2])).shape == (3,)
np.sum(n for n in range(4)) == 6 and np.sum([1, 2], axis=0) == 3
np.histogram([1, 2], bins=2, range=(0, 2), normed=True)[0].tolist() == [0., 1.]
np.linspace(0, 1, np.sqrt(9.)).tolist() == [0, 0.5, 1]
np.zeros(np.sqrt(9.)).shape == (3,) and np.ones((2, 7 / 2.), "int8").shape == (2, 3)
np.reshape([1, 2], newshape=(2, 1)).shape == (2, 1)
np.percentile([1, 2], 50, interpolation="lower") == 1
np.fromstring(b"ab", np.uint8).tolist() == [97, 98] == np.fromstring("97 98", sep=" ").tolist()
np.array([[1, 2], [3]]).dtype == object and np.asarray([[1], [2]]).dtype != object
np.array([1., 2.], copy=False).tolist() == [1, 2]
repr(np.float64(3)) == "3.0" and str([np.float32(1)]) == "[1.0]"
repr(f([1.5])) == "array([3.])"
float(f([1.5])) == 3 and int(f([1.5])) == 3 and "%.2f" % f([1.5]) == "3.00"
type(f([1, 2])) is np.ndarray and math.exp(f([0])) == 1 and [10, 20][g([0])] == 10
[a.__setitem__(0, f([2.])), a[0]][1] == 4
pickle.loads(pickle.dumps(f([2]))).tolist() == [4]
scipy.ones(2).tolist() == [1, 1] and scipy.sqrt(4) == 2 and scipy.linalg.expm is not None
logsumexp([0, 0]) == np.log(2) and comb(4, 2) == 6 and factorial(3) == 6
[imsave(path, np.array([[0, 255]], "uint8")), imread(path).tolist()][1] == [[0, 255]]
imresize(np.zeros((10, 20)), (5, 8)).shape == (5, 8)
imresize(np.zeros((10, 20), "uint8"), 0.5).shape == (5, 10)
imresize(np.zeros((10, 20)), 50).shape == (5, 10)
scipy.signal.gaussian(3, 1)[1] == 1 and scipy.signal.hamming(3)[1] == 1
scipy.stats.itemfreq([1, 1, 2]).tolist() == [[1, 2], [2, 1]]
scipy.stats.binom_test(1, 2) == 1
scipy.stats.mode(np.array([[1, 2], [1, 2], [0, 3]]), axis=0)[0][0].tolist() == [1, 2]
scipy.linalg.pinv2(np.eye(2)).tolist() == [[1, 0], [0, 1]]
scipy.integrate.simps([1, 1, 1]) == scipy.integrate.trapz([1, 1, 1]) == 2
matplotlib.cm.get_cmap("gray").name == "gray" and matplotlib.style.core.USER_LIBRARY_PATHS
[register_cmap("mine", get_cmap("gray")), get_cmap("mine")][1] is not None
[list(map(len, fold)) for fold in KFold(6, n_folds=3, shuffle=True)] == [[4, 2]] * 3
len(StratifiedKFold([0, 1, 0, 1], 2)) == 2 and ParameterGrid is not KFold
OrderedDict is collections.OrderedDict
not cuda_available and gpu_contiguous(f) is f and not theano.sandbox.cuda.cuda_enabled
np.lib.function_base.average is np.average
DownsampleFactorMax((2, 2))(T.ones((1, 1, 4, 4))).eval().shape == (1, 1, 2, 2)
""".strip().splitlines()
OLD_IMPORTS = """
import base64, cgi, collections, configparser, fractions, imp, inspect, io, locale, math, os, pickle
import pipes, platform, sys, time, unittest, warnings, xml.etree.cElementTree
from distutils.version import LooseVersion
import numpy as np, scipy
import scipy.integrate, scipy.signal, scipy.stats
from numpy.lib.function_base import average
from numpy.testing import Tester
import matplotlib.cm, matplotlib.style
from matplotlib.pyplot import get_cmap, register_cmap
from sklearn.cross_validation import KFold, StratifiedKFold
from sklearn.grid_search import ParameterGrid
from scipy.misc import comb, factorial, imread, imresize, imsave, logsumexp
import theano, theano.tensor as T
from theano.compat.python2x import OrderedDict
from theano.sandbox.cuda import cuda_available
from theano.sandbox.cuda.basic_ops import gpu_contiguous
from theano.tensor.signal.downsample import DownsampleFactorMax
x, n = T.vector(), T.lvector()
f, g, a, path = theano.function([x], 2 * x), theano.function([n], n), np.zeros(2), sys.argv[1]
for line in sys.stdin.read().splitlines():
    try:
        if not eval(line):
            print("false:", line)
    except Exception as error:
        print(repr(error), line)
"""


#: A stand-in for scikit-learn's module: today's names of old classes, with today's parameters.
MODEL_SELECTION = """
class KFold:
    def __init__(self, n_splits=5, *, shuffle=False, random_state=None):
        self.n_splits = n_splits
    def split(self, X, y=None):
        for i in range(self.n_splits):
            test = list(range(i, len(X), self.n_splits))
            yield [j for j in range(len(X)) if j not in test], test
class StratifiedKFold(KFold):
    def split(self, X, y):
        assert list(X) == list(y) == [0, 1, 0, 1]
        return super().split(X)
ParameterGrid = object()
"""


def test_what_an_old_program_finds(warm, tmp_path):
    (tmp_path / "old.py").write_text(OLD_IMPORTS)
    (tmp_path / "sklearn").mkdir()
    (tmp_path / "sklearn" / "__init__.py").touch()
    (tmp_path / "sklearn" / "model_selection.py").write_text(MODEL_SELECTION)
    process = subprocess.run(
        [sys.executable, "-m", "theano_compat", "old.py", str(tmp_path / "x.png")], cwd=tmp_path,
        env=warm.environment, input="\n".join(OLD_LINES), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stdout == ""


@pytest.mark.parametrize("line, instead", [
    ("np.zeros(2)[[slice(0, 1)]]", r"a\[tuple\(slices\)\]"),
    ("np.zeros(2).tostring()", r"a\.tobytes\(\)"),
    ("np.zeros(2).itemset(0, 1)", r"a\[index\] = value"),
    ("np.zeros(2).ptp()", r"np\.ptp\(a\)"),
    ("np.zeros(2).newbyteorder()", r"a\.view\(a\.dtype\.newbyteorder\(order\)\)"),
    ("np.uint8(300)", r"astype"),
    ("-np.array([True])", "~a"),
])
def test_advice_for_what_cannot_be_restored(line, instead):
    if "tostring" in line and hasattr(np.ndarray, "tostring"):
        pytest.skip("this NumPy has tostring")
    with pytest.raises(Exception) as caught:
        eval(line, {"np": np})
    assert re.search(instead, advice(caught.value))


def test_import_alone_restores_nothing_of_that(warm):
    warm.quietly(PRELUDE + """
import collections, scipy, scipy.signal, time
assert not hasattr(collections, "Iterable") and not hasattr(time, "clock")
assert not hasattr(scipy, "ones") and not hasattr(scipy.signal, "gaussian")
assert theano.function([], T.ones(1))().__class__ is np.ndarray
""", THEANO_FLAGS="cxx=")


OLD_TESTS = """
import numpy as np
import theano, theano.tensor as T
from theano.tensor.signal import downsample
def test_floats():
    assert theano.config.floatX == "{}"
def test_loops():
    total, _ = theano.scan(lambda x, sum: sum + x, T.arange(4.), T.zeros(()))
    assert theano.function([], total)().tolist() == [0, 1, 3, 6]
"""


@pytest.mark.parametrize("conftest, floats", [
    ("", "float64"), ("import theano; theano.config.floatX = 'float32'", "float32")])
def test_an_old_projects_tests(warm, tmp_path, conftest, floats):
    """Settings of its conftest.py hold, and nothing warns: a warning would be an error here."""
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_old.py").write_text(OLD_TESTS.format(floats))
    out, _ = warm.run("import pytest; "
                      f"pytest.main(['-p', 'theano_compat', '-W', 'error', {str(tmp_path)!r}])")
    assert "2 passed" in out


# --- other features of Theano and Lasagne that programs use ---

def test_sparse_matrices(warm):
    warm.quietly(PRELUDE + """
import scipy.sparse
from theano import sparse
x, w = sparse.csr_matrix("x"), T.matrix("w")
product = sparse.basic.structured_dot(x, w)
compute = theano.function([x, w], [product, T.grad(T.sum(product ** 2), w),
                                   sparse.dense_from_sparse(x.T * 2), sparse.sp_sum(x, axis=0)])
dense = np.array([[0, 2, 0], [1, 0, -3]], "float32")
weights = np.arange(6, dtype="float32").reshape(3, 2)
values = compute(scipy.sparse.csr_matrix(dense), weights)
for value, expected in zip(values, [dense @ weights, 2 * dense.T @ dense @ weights, 2 * dense.T,
                                    dense.sum(axis=0)]):
    np.testing.assert_allclose(value, expected)
""")


def test_functions_and_shared_variables_are_pickled(warm, tmp_path):
    """Another process loads them."""
    warm.quietly(PRELUDE + f"""
import pickle
w = theano.shared(np.ones((3, 2), "float32"), "w")
x = T.matrix("x")
step = theano.function([x], T.sum(T.dot(x, w)), updates=[(w, w - T.grad(T.sum(T.dot(x, w)), w))])
with open({str(tmp_path / "step.pkl")!r}, "wb") as file:
    pickle.dump((step, w), file, protocol=pickle.HIGHEST_PROTOCOL)
""")
    warm.quietly(PRELUDE + f"""
import pickle
with open({str(tmp_path / "step.pkl")!r}, "rb") as file:
    step, w = pickle.load(file)
assert w.name == "w" and w.get_value().tolist() == [[1, 1]] * 3
ones = np.ones((1, 3), "float32")
assert (step(ones), step(ones)) == (6, 0)
""")


def test_parameters_in_an_npz(warm, tmp_path):
    """As Lasagne's examples save and load them."""
    file = str(tmp_path / "model.npz")
    network = PRELUDE + """
from lasagne.layers import *
network = DenseLayer(dropout(DenseLayer(InputLayer((None, 3)), 4)), 2)
"""
    warm.quietly(network + f"np.savez({file!r}, *get_all_param_values(network))")
    warm.quietly(network + f"""
before = get_all_param_values(network)
with np.load({file!r}) as f:
    values = [f["arr_%d" % i] for i in range(len(f.files))]
set_all_param_values(network, values)
assert len(values) == 4 and not np.array_equal(values[0], before[0])
for value, now in zip(values, get_all_param_values(network)):
    np.testing.assert_array_equal(now, value)
""")


GRAPH = PRELUDE + """
x, w = T.matrix("x"), T.matrix("w")
compute = theano.function([x, w], T.nnet.sigmoid(T.dot(x, w)).sum(axis=0))
"""


def test_graphs_are_printed(warm):
    lines = warm.quietly(GRAPH + "theano.printing.debugprint(compute)").splitlines()
    assert lines[0].startswith("Sum{axis=[0], acc_dtype=float64} [id A]")
    assert lines[2].startswith("   |Dot22 [id C]") and lines[3].startswith("     |x [id D]")
    assert warm.quietly(GRAPH + "print(theano.pp(T.exp(x) * w))") == "(exp(x) * w)"


def test_graphs_are_drawn(warm, tmp_path):
    """By pydot, which only looks whether Graphviz is there: an empty program takes its place."""
    dot = tmp_path / "dot"
    dot.write_text("#!/bin/sh\n")
    dot.chmod(0o755)
    file = tmp_path / "graph.raw"
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    warm.quietly(GRAPH + f"""
theano.printing.pydotprint(compute, {str(file)!r}, format="raw", print_output_file=False)
""", PATH=path)
    text = file.read_text()
    assert text.startswith("digraph") and "Dot22" in text and "TensorType(float32, matrix)" in text


def test_drawing_without_pydot_says_what_to_install(warm):
    process = warm.start(PRELUDE + """
import sys
sys.modules["pydot"] = None
theano.printing.pydotprint(T.exp(T.scalar()))
""", THEANO_FLAGS="cxx=")
    assert "pip install pydot, and install Graphviz" in process.communicate()[1]


def test_functions_are_profiled(warm):
    _, err = warm.run(PRELUDE + """
x = T.matrix("x")
compute = theano.function([x], T.exp(x).sum(), profile=True)
compute(np.ones((2, 2), "float32"))
compute.profile.summary()
""")
    assert "Function profiling" in err and "Time in 1 calls to Function.__call__" in err
    assert "Sum{acc_dtype=float64}" in err


@pytest.mark.slow
def test_debug_mode_finds_what_is_wrong_in_c(warm):
    """It runs each operation in Python and in C, and compares the results."""
    warm.run(PRELUDE + """
x, w = T.matrix("x"), T.matrix("w")
loss = T.nnet.softplus(T.dot(x, w)).sum()
step = theano.function([x, w], [loss, T.grad(loss, w)], mode="DebugMode")
ones = np.ones((2, 2), "float32")
np.testing.assert_allclose(step(ones, ones)[0], 4 * np.log1p(np.exp(2)), rtol=1e-6)
""")
    process = warm.start(PRELUDE + """
class Triple(theano.scalar.UnaryScalarOp):
    def impl(self, x):
        return 3 * x
    def c_code(self, node, name, inputs, outputs, sub):
        return f"{outputs[0]} = 4 * {inputs[0]};"
x = T.matrix("x")
triple = T.Elemwise(Triple(theano.scalar.same_out))(x)
theano.function([x], triple, mode="DebugMode")(np.ones((2, 2), "float32"))
""")
    _, err = process.communicate()
    assert process.returncode == 1 and "BadThunkOutput" in err


def test_nan_guard_mode_stops_at_a_nan(warm):
    process = warm.start(PRELUDE + """
from theano.compile.nanguardmode import NanGuardMode
x = T.vector("x")
guarded = theano.function([x], T.log(x), mode=NanGuardMode(True, True, True))
print(guarded(np.ones(2, "float32")).tolist(), flush=True)
guarded(-np.ones(2, "float32"))
""")
    out, err = process.communicate()
    assert out == "[0.0, 0.0]\n" and process.returncode == 1
    assert "AssertionError: NaN detected\nNanGuardMode found an error in the output of" in err


# --- Python 2 ---

def run_python2(folder, *arguments, environment, **files):
    for name, text in files.items():
        path = folder / f"{name.replace('__in__', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return subprocess.run([sys.executable, "-m", "theano_compat", *arguments], cwd=folder,
                          env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          encoding="utf-8")


#: Each line, or two, tests another difference between Python 2 and 3.
LANGUAGE = r"""
import sys, string, itertools
from StringIO import StringIO
print "a", 7 / 2, -7 / 2, 7 / 2., 7 // 2,
print (1, 2)
n = 9
n /= 2
class Old:
    x = 5 / 2
    def next(self): return self.x
o = Old()
o.x /= 2
print n, o.next(), Old.x, 0777, 10L, `n`, 1 <> 2
d = {'k': [1, 2]}
print d.has_key('k'), d.keys()[0], zip([1], [2])[0], filter(None, [0, 3])[0], map(None, [1])[0]
print sorted([3, 1, 2], cmp=lambda a, b: b - a), cmp(1, 2), string.letters[:3]
print string.join(['x', 'y'], '-')
try:
    raise ValueError, "told"
except ValueError, error:
    print error
for i, (a, b) in enumerate(itertools.izip([1], [2])):
	print i, a, b
exec "m = 3"
print m, isinstance(u"x", basestring), unicode(5), long(3), reduce(lambda x, y: x + y, xrange(4))
print >>sys.stdout, "%s %d" % ("x", 5 / 3)
f = lambda (a, b): a / b
print f((7, 2)), sys.maxint > 2 ** 31 - 2
"""
#: The output of Python 2.7.18.
OUTPUT_OF_PYTHON2 = """\
a 3 -4 3.5 3 (1, 2)
4 1 2 511 10 4 True
True k (1, 2) 3 1
[3, 2, 1] -1 abc
x-y
told
0 1 2
3 True 5 3 6
x 1
3 True
"""


def test_the_language_of_python_2(warm, tmp_path):
    done = run_python2(tmp_path, "old.py", environment=warm.environment, old=LANGUAGE)
    assert done.stdout == OUTPUT_OF_PYTHON2, done.stderr


def test_python_2_with_modules_beside_it(warm, tmp_path):
    """Implicit relative imports in packages; division of arrays and of Theano's variables."""
    done = run_python2(
        tmp_path, "old.py", environment=warm.environment, old="""
import numpy as np, theano, theano.tensor as T
import helper
from package import outer
a, b = np.array([5, 6]), np.array([5., 6.])
a /= 2
b /= 2
print a, b, helper.half(7)
x, i = T.fvector(), T.ivector()
print theano.function([x], x / 2)(np.ones(1, 'float32'))[0], theano.function([i], i / 2)([7, 8])
print theano.function([i], 7 / i)([2, 3])
""", helper="def half(n):\n    return n / 2\n", package__in____init__="",
        package__in__outer="import inner\nprint inner.X\n", package__in__inner="X = 5 / 2\n")
    assert done.stdout == "2\n[2 3] [2.5 3. ] 3\n0.5 [3 4]\n[3 2]\n", done.stderr
    assert not list(tmp_path.rglob("*.pyc"))  # Python 3 would use them without the translation


def test_patches_act_in_python_2(warm, tmp_path):
    """The finder of translated modules leaves patched modules to the finder of patches."""
    done = run_python2(tmp_path, "old.py", environment={
        **warm.environment, "PYTHONWARNINGS": "error::RuntimeWarning"}, old="""
import numpy as np, theano, theano.tensor as T, matplotlib
matplotlib.use("Agg")
from scipy.misc import logsumexp, factorial
from scipy.stats import itemfreq
import matplotlib.cm
x = T.fvector()
sums, updates = theano.scan(lambda x_t, before: before + x_t, x, T.zeros(()))
print theano.function([x], sums)([1, 2]), logsumexp([0, 0]), factorial(3)
print itemfreq([5, 5]), matplotlib.cm.get_cmap("gray").name
""")
    assert done.stdout == f"[1. 3.] {np.log(2)} 6.0\n[[5 2]] gray\n", done.stderr


@pytest.mark.parametrize("folder, halves", [("lib", "2"), ("site-packages", "2.5")])
def test_python_2_from_elsewhere(warm, tmp_path, folder, halves):
    """From PYTHONPATH, and from installed packages that Python 3 cannot parse."""
    library = tmp_path / folder
    library.mkdir()
    (library / "readable.py").write_text("HALVES = 5 / 2\n")
    (library / "unreadable.py").write_text("print 'told'\nHALVES = 5 / 2\n")
    done = run_python2(
        tmp_path, "old.py", old="import readable, unreadable\nprint readable.HALVES, "
        "unreadable.HALVES\n", environment={**warm.environment, "PYTHONPATH": os.pathsep.join(
            filter(None, [str(library), warm.environment.get("PYTHONPATH")]))})
    # An installed module that Python 3 can parse is not translated.
    assert done.stdout == f"told\n{halves} 2\n", done.stderr


@pytest.mark.parametrize("first_line, arguments, output", [
    ("", [], "3.5 1\n"), ("", ["--python2"], "3 1\n"),
    ("from __future__ import division\n", ["--python2"], "3.5 1\n"),
    ("#!/usr/bin/env python2\n", [], "3 1\n")])
def test_what_is_valid_in_both(warm, tmp_path, first_line, arguments, output):
    done = run_python2(tmp_path, *arguments, "old.py", environment=warm.environment,
                       old=f"{first_line}import sys\nsys.stdout.write('%s %d\\n' % (7 / 2, 1))\n")
    assert done.stdout == output, done.stderr


@pytest.mark.parametrize("line, output", [
    ("for i in xrange(1): print(7 / 2)", "3"), ("print({1: 2}.has_key(1), 7 / 2)", "(True, 3)"),
    ("import cPickle; print(7 / 2)", "3"), ("print(7 / 2, reduce(max, [1]))", "(3, 1)"),
    ("from functools import reduce; print(7 / 2)", "3.5"), ("xrange = range; print(7 / 2)", "3.5"),
    ("try:\n    xrange\nexcept NameError:\n    xrange = range\nprint(7 / 2)", "3.5")])
def test_names_tell_python_2(warm, tmp_path, line, output):
    done = run_python2(tmp_path, "old.py", environment=warm.environment, old=line + "\n")
    assert done.stdout == f"{output}\n", done.stderr


def test_pickles_of_python_2(warm, tmp_path):
    (tmp_path / "data.pkl").write_bytes(  # by Python 2.7.18
        b"\x80\x02}q\x01(U\x01uX\x02\x00\x00\x00\xd1\x84U\x04nameq\x02U\x04caf\xe9q\x03"
        b"U\x01nI1099511627776\nu.")
    done = run_python2(tmp_path, "old.py", environment=warm.environment, old="""
import cPickle
data = cPickle.load(open('data.pkl'))
print sorted(data.keys()), data['n'] / 2 ** 40, len(data['name'])
cPickle.dump(data, open('again.pkl', 'w'), -1)
print cPickle.load(open('again.pkl', 'rb')) == data, cPickle.loads(cPickle.dumps(data)) == data
""")
    assert done.stdout == "['n', 'name', 'u'] 1 4\nTrue True\n", done.stderr


def test_tracebacks_of_python_2_show_its_own_lines(warm, tmp_path):
    done = run_python2(tmp_path, "old.py", environment=warm.environment, old="""
print reduce(max, [1])
def fail():
    raise ValueError, "told"
fail()
""")
    assert done.stdout == "1\n" and "line 4, in fail" in done.stderr
    assert 'raise ValueError, "told"' in done.stderr and done.stderr.endswith("ValueError: told\n")


def test_what_is_not_python_2_either(warm, tmp_path):
    done = run_python2(tmp_path, "new.py", environment=warm.environment, new="x = (1\n")
    assert "SyntaxError: '(' was never closed" in done.stderr and "fissix" not in done.stderr


def test_python_2_without_its_translator(warm, tmp_path):
    done = run_python2(tmp_path, "old.py", old="print 1\n", fissix=(
        "raise ModuleNotFoundError(\"No module named 'fissix'\", name='fissix')"),
        environment={**warm.environment, "PYTHONPATH": os.pathsep.join(
            filter(None, [str(tmp_path), warm.environment.get("PYTHONPATH")]))})
    assert done.returncode == 1
    assert done.stderr == ("old.py is Python 2. No module named 'fissix': pip install fissix\n")
