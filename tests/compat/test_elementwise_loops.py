"""Results of elementwise operations and reductions in C, compared with NumPy and unpatched Theano.

If NumPy and Theano define different results, Theano's result is expected, and a comment says so.
Denormal numbers, and results computed from them, may become zero.
"""

import itertools
import os
import platform
import shutil
import subprocess
import sys
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Callable, NamedTuple

import vae  # noqa: F401  before Theano

import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from scipy import special
from theano import In, Out, scalar

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::RuntimeWarning")]  # NumPy's warnings of nan and inf

#: All nodes of a graph are in one C++ module, so that the compiler is started once; without a
#: compiler NumPy computes.
LINKER = "c" if theano.config.cxx else "vm"
#: NumPy's own functions of float32, such as exp and log, are less exact than the C library's.
NUMPYS_ULPS = 0 if theano.config.cxx else 2
#: With one node for each operation, and optimised (fused, in place, ...) as by default.
SEPARATE = theano.Mode(linker=LINKER, optimizer=None)
TOGETHER = theano.Mode(linker=LINKER, optimizer="fast_run")


def disagreement(value, expected, tolerance, near=0., lost=0.):
    """Return a mask of where a value is not the expected one, up to rounding.

    `expected` may be of a wider type: it is rounded, or overflows, as `value` does.  The largest
    allowed error is `tolerance` * (|expected| + near) + `lost` * (the smallest normal number).
    """
    if value.dtype.kind != "f":
        return value != expected
    info = np.finfo(value.dtype)
    expected = np.asarray(expected, "float64")
    same = (value == expected.astype(value.dtype)) | (np.isnan(value) & np.isnan(expected))
    # Infinity counts as the largest number: it is near to that one and to no other.
    error = np.abs(np.clip(value, -info.max, info.max).astype("float64") - expected)
    size = np.clip(np.abs(expected), 0, info.max) + near
    denormal = (np.abs(expected) < info.tiny) & (np.abs(value) <= info.tiny)
    return ~(same | denormal | (error <= tolerance * size + lost * info.tiny))


def assert_close(value, expected, tolerance=1e-6, near=10.):
    value, expected = np.asarray(value), np.asarray(expected)
    assert value.shape == expected.shape
    wrong = disagreement(value, expected, tolerance, near)
    assert not wrong.any(), (value[wrong], expected[wrong])


# --- the operations one by one ---

class Operation(NamedTuple):
    """An operation of Theano and its expected results."""

    name: str
    #: The function of NumPy that it is compared with, on float64 or on integers of its own type.
    expected: Callable
    #: Relative error in float32, in units of its epsilon.
    ulps: float = 1
    #: Added to the size of the result, for functions that have zeros elsewhere than at zero.
    near: float = 0
    #: Relative error in float64.
    double: float = 1e-13
    #: Error in units of the smallest normal number: denormal parts may become zero.
    lost: float = 0
    #: A mask of the arguments for which this holds; if None, all, nan and infinities included.
    domain: Callable = None
    #: Builds the operation; if None, the function of that name in ``theano.tensor``.
    build: Callable = None

    def __call__(self, *variables):
        return (self.build or getattr(T, self.name))(*variables)

    def precision(self):
        return self.ulps + NUMPYS_ULPS if self.ulps > 1 else self.ulps

    def failure(self, value, expected, arguments):
        """Return what is wrong with the value, in a line, or None."""
        single = self.precision() * np.finfo("float32").eps
        tolerance = {"float32": single}.get(value.dtype.name, self.double)
        wrong = disagreement(value, expected, tolerance, self.near, self.lost)
        if self.domain:
            wrong &= self.domain(*arguments)
        if wrong.any():
            return (f"{self.name}{tuple(a[wrong][0] for a in arguments)} = {value[wrong][0]}, not "
                    f"{expected[wrong][0]}, and {wrong.sum() - 1} more")


def exact(name, expected, **kwargs):
    return Operation(name, expected, ulps=0, double=0, **kwargs)


def not_huge(x):
    """Where 2 * x does not overflow."""
    return ~(np.isfinite(x) & (np.abs(x) > np.finfo(x.dtype).max / 2))


def small_whole(*arguments):
    """Where all arguments are small integers, infinite or nan."""
    return np.all([~np.isfinite(a) | (np.abs(a) < 1000) & (a % 1 == 0) for a in arguments], axis=0)


def not_least(*arguments):
    """Where -x is defined in C, which it is not for the smallest number of a signed type."""
    return np.all([(a != np.iinfo(a.dtype).min) | (a == 0) for a in arguments], axis=0)


def exact_in_float64(*arguments):
    return np.all([(a <= 2**53) & (a >= -2**53) for a in arguments], axis=0)


def of_divisible(function, where):
    """Avoid division by 0, an error, and of the smallest number by -1, which ends the process."""
    def divide(x, y):
        least, one = (np.array(n, x.dtype) for n in (np.iinfo(x.dtype).min, 1))
        return function(where(x > least, x, one), where(abs(y) > 0, y, one))
    return divide


def sigmoid(x):
    return np.where(x > 19, 1, special.expit(x))  # Theano rounds: an error of 6e-9 in float64


def softplus(x):
    return np.where(x > 16, x, np.logaddexp(0, x))  # Theano rounds, too


def gamma(x):
    """SciPy's gamma, with NaN at the poles and at minus infinity, as in C and in SciPy 1.15."""
    return np.where((x < 0) & (x == np.floor(x)), np.nan, special.gamma(x))


def gammaln(x):
    """SciPy's gammaln, with the values of C for the smallest numbers and minus infinity."""
    finite = np.where(x == -np.inf, np.inf, x)
    return np.where(np.abs(x) < 1e-300, -np.log(np.abs(x)), special.gammaln(finite))


def ultra_fast_sigmoid(x):
    x, sign = np.abs(x / 2), np.where(x >= 0, 1, -1)
    z = np.select([x < 1.7, x < 3], [1.5 * x / (1 + x),
                                     0.935409070603099 + 0.0458812946797165 * (x - 1.7)],
                  0.99505475368673)  # also the value for nan
    return (sign * z + 1) / 2


def round_half_away(x):
    return np.copysign(np.where(np.abs(x) % 1 == 0.5, np.ceil(np.abs(x)), np.rint(np.abs(x))), x)


def floor_divide(x, y):
    return np.where(np.isinf(x), np.floor(x / y), np.floor_divide(x, y))  # infinity does not give nan


#: Operations by the number of their arguments.
OPERATIONS_ON_FLOATS = {
    1: [
        exact("neg", np.negative),
        exact("abs_", np.abs),
        exact("sgn", np.sign),
        exact("ceil", np.ceil),
        exact("floor", np.floor),
        exact("trunc", np.trunc),
        exact("round_half_to_even", np.rint),
        exact("round_half_away_from_zero", round_half_away),
        exact("isnan", np.isnan),
        exact("isinf", np.isinf),
        exact("tensor_copy", np.positive),
        Operation("inv", lambda x: 1 / x),
        Operation("sqr", np.square),
        Operation("sqrt", np.sqrt),
        Operation("exp", np.exp, 2),
        Operation("exp2", np.exp2, 2),
        Operation("expm1", np.expm1, 2),
        Operation("log", np.log, 2),
        Operation("log2", np.log2, 2),
        Operation("log10", np.log10, 2),
        Operation("log1p", np.log1p, 2),
        Operation("deg2rad", np.deg2rad),
        Operation("rad2deg", np.rad2deg),
        Operation("sin", np.sin, 2),
        Operation("cos", np.cos, 2),
        Operation("tan", np.tan, 2),
        Operation("arcsin", np.arcsin, 2),
        Operation("arccos", np.arccos, 2),
        Operation("arctan", np.arctan, 2),
        Operation("sinh", np.sinh, 3),
        Operation("cosh", np.cosh, 3),
        Operation("tanh", np.tanh, 3),
        Operation("arcsinh", np.arcsinh, 3),
        Operation("arccosh", np.arccosh, 3),
        Operation("arctanh", np.arctanh, 3),
        Operation("erf", special.erf, 2),
        Operation("erfc", special.erfc, 4, double=1e-12),
        Operation("gamma", gamma, 8),
        Operation("gammaln", gammaln, 4, near=1),
        # Zero where Theano does not define it, and to less than float64's precision.
        Operation("psi", lambda x: np.where(x <= 0, 0, special.psi(x)), 4, near=1, double=1e-8),
        Operation("tri_gamma", lambda x: np.where(x <= 0, 0, special.polygamma(1, np.abs(x))), 4,
                  double=1e-8),
        Operation("j0", special.j0, 4, near=1, domain=lambda x: np.abs(x) < 1e6),
        Operation("j1", special.j1, 4, near=1, domain=lambda x: np.abs(x) < 1e6),
        Operation("sigmoid", sigmoid, 3, build=T.nnet.sigmoid),
        Operation("softplus", softplus, 2, build=T.nnet.softplus),
        Operation("softsign", lambda x: x / (1 + np.abs(x)), build=T.nnet.nnet.softsign),
        Operation("ultra_fast_sigmoid", ultra_fast_sigmoid, 2, near=1,
                  build=T.nnet.ultra_fast_sigmoid),
        Operation("hard_sigmoid", lambda x: np.clip(0.2 * x + 0.5, 0, 1), near=1,
                  build=T.nnet.hard_sigmoid),
        # (x + |x|) / 2, which is nan for minus infinity.
        Operation("relu", lambda x: (x + np.abs(x)) / 2, domain=not_huge, build=T.nnet.relu),
        Operation("xlogx", lambda x: special.xlogy(x, x), 2, build=T.xlogx.xlogx),
    ],
    2: [
        Operation("add", np.add),
        Operation("sub", np.subtract),
        Operation("mul", np.multiply),
        Operation("true_div", np.true_divide),
        Operation("int_div", floor_divide, domain=small_whole),
        Operation("mod", np.mod),
        Operation("pow", np.power, 2),
        Operation("arctan2", np.arctan2, 2),
        exact("maximum", np.maximum),  # nan, if either is
        exact("minimum", np.minimum),
        exact("lt", np.less),
        exact("le", np.less_equal),
        exact("gt", np.greater),
        exact("ge", np.greater_equal),
        exact("eq", np.equal),
        exact("neq", np.not_equal),
        exact("second", lambda x, y: y),
        Operation("xlogy0", lambda x, y: np.where(x == 0, 0, x * np.log(y)), 2,
                  build=T.xlogx.xlogy0),
    ],
    3: [
        exact("switch", lambda x, y, z: np.where(x.astype(bool), y, z)),
        exact("clip", lambda x, y, z: np.where(x < y, y, np.where(x > z, z, x))),
        exact("inclosedrange", lambda x, y, z: (y <= x) & (x <= z),
              build=T.Elemwise(scalar.inclosedrange)),
        exact("inopenrange", lambda x, y, z: (y < x) & (x < z),
              build=T.Elemwise(scalar.inopenrange)),
    ],
}


def floats(dtype):
    """Return three arrays: all pairs of special values, and random numbers of all magnitudes."""
    info = np.finfo(dtype)
    extremes = [
        0, info.smallest_subnormal, info.tiny / 3, info.tiny, info.eps, 0.5, 1 - info.eps / 2, 1,
        1 + info.eps, 1.5, 2, 2.5, 3, 14, 15, 16, 19, 88, 103, 709, 745, 1000, 2.**31, 1.1 * 2.**40,
        info.max / 3, info.max, np.inf, np.nan]
    extremes += [-x for x in extremes]
    pairs = np.array([*itertools.product(extremes, repeat=2)])
    random = np.random.RandomState(0)
    smallest, largest = np.log(float(info.smallest_subnormal)), np.log(float(info.max))

    def some():
        sign = random.choice([-1., 1.], 2000)
        return np.concatenate([
            sign * np.exp(random.uniform(smallest, largest, 2000)),
            1 + sign * np.exp(random.uniform(np.log(info.eps), 0, 2000)),
            random.uniform(-1000, 1000, 2000), random.uniform(-20, 20, 4000),
            random.normal(size=4000), random.randint(-50, 50, 2000) / 2.])

    columns = [np.concatenate([special, some()])
               for special in (*pairs.T, random.permutation(pairs.T[0]))]
    order = random.permutation(len(columns[0]))
    return [column[order].astype(dtype) for column in columns]



def bounded(x):
    """Limit x to 1/2 ... 50, where ``gammainc`` and similar functions do not abort."""
    return T.switch(x > 0.5, T.minimum(x, 50), 0.5)


def of_bounded(function):
    return lambda *arguments: function(*(np.where(x > 0.5, np.minimum(x, 50), 0.5)
                                         for x in arguments))


def moderate(*arguments):
    return np.all([np.abs(a) < 20 for a in arguments], axis=0)


#: Expressions of several operations that Theano fuses.
GRAPHS_OF_FLOATS = {
    1: [
        exact("isnan of log", lambda x: np.isnan(np.log(x)), build=lambda x: T.isnan(T.log(x))),
        exact("isinf of exp", lambda x: x > 800, domain=lambda x: (x < 80) | (x > 800),
              build=lambda x: T.isinf(T.exp(x))),
        Operation("log, or -1", lambda x: np.where(x >= 0, np.log(x), -1), 2,
                  build=lambda x: T.switch(T.isnan(T.log(x)), -1, T.log(x))),
        Operation("1 / -x", lambda x: 1 / -x, build=lambda x: 1 / -x),
        Operation("elu", lambda x: np.where(x > 0, x, np.expm1(x)), 2, build=T.nnet.elu),
        Operation("leaky relu", lambda x: 0.625 * x + 0.375 * np.abs(x), 3, lost=2,
                  build=lambda x: T.nnet.relu(x, 0.25)),
        Operation("log of 1 + exp", softplus, 2, build=lambda x: T.log(1 + T.exp(x))),
        Operation("log of sigmoid", lambda x: -softplus(-x), 2,
                  build=lambda x: T.log(T.nnet.sigmoid(x))),
    ],
    2: [
        exact("isnan of -", lambda x, y: np.isnan(x - y), build=lambda x, y: T.isnan(x - y)),
        exact("isnan of /", lambda x, y: np.isnan(x / y), build=lambda x, y: T.isnan(x / y)),
        exact("isnan of *", lambda x, y: np.isnan(x * y), build=lambda x, y: T.isnan(x * y)),
        Operation("x / y, or 0", lambda x, y: np.where(y == 0, 0, x / y),
                  build=lambda x, y: T.switch(T.eq(y, 0), 0, x / y)),
        Operation("relu of -", lambda x, y: np.maximum(x - y, 0),
                  build=lambda x, y: T.maximum(x - y, 0)),
        Operation("Bernoulli", lambda x, y: y * softplus(-x) + (1 - y) * softplus(x), 4, lost=2,
                  domain=lambda x, y: (0 <= y) & (y <= 1) & np.isfinite(x),
                  build=lambda x, y: y * T.nnet.softplus(-x) + (1 - y) * T.nnet.softplus(x)),
        Operation("gammainc", of_bounded(special.gammainc), 4,
                  build=lambda x, y: T.gammainc(bounded(x), bounded(y))),
        Operation("gammaincc", of_bounded(special.gammaincc), 4,
                  build=lambda x, y: T.gammaincc(bounded(x), bounded(y))),
        Operation("gammal", of_bounded(lambda x, y: special.gammainc(x, y) * special.gamma(x)), 4,
                  build=lambda x, y: T.gammal(bounded(x), bounded(y))),
        # Its complement gammau has no C.
        Operation("chi2sf", of_bounded(lambda x, y: special.gammaincc(y / 2, x / 2)), near=1,
                  build=lambda x, y: T.chi2sf(bounded(x), bounded(y))),
    ],
    3: [
        exact("finite, or else", lambda x, y, z: np.where(np.isfinite(x), y, z),
              build=lambda x, y, z: T.switch(T.isnan(x) | T.isinf(x), z, y)),
        Operation("clip of exp", lambda x, y, z: np.clip(np.exp(x), y, z), 2,
                  domain=lambda x, y, z: y <= z, build=lambda x, y, z: T.clip(T.exp(x), y, z)),
        Operation("normal density", lambda x, y, z: -((x - y) / np.exp(z))**2 / 2 - z, 8, near=20,
                  domain=moderate, build=lambda x, y, z: -T.sqr((x - y) / T.exp(z)) / 2 - z),
        Operation("gates", lambda x, y, z: np.tanh(x) * sigmoid(y) + z / 2, 4, near=1,
                  domain=moderate, build=lambda x, y, z: T.tanh(x) * T.nnet.sigmoid(y) + z / 2),
    ],
}


#: Results of integers are exact, modulo the type's range, as in NumPy.
OPERATIONS_ON_INTEGERS = {
    1: [
        exact("neg", np.negative),
        exact("abs_", np.abs, domain=not_least),
        exact("sqr", np.square),
        exact("sgn", np.sign),
        exact("invert", np.invert),
        Operation("exp", lambda x: np.exp(x.astype("float64")), 2),
    ],
    2: [
        exact("add", np.add),
        exact("sub", np.subtract),
        exact("mul", np.multiply),
        exact("and_", np.bitwise_and),
        exact("or_", np.bitwise_or),
        exact("xor", np.bitwise_xor),
        exact("lt", np.less),
        exact("ge", np.greater_equal),
        exact("eq", np.equal),
        # Computed in float64.
        exact("maximum", np.maximum, domain=exact_in_float64),
        exact("minimum", np.minimum, domain=exact_in_float64),
        exact("pow", lambda x, y: x ** np.clip(y, 0, 3),
              domain=lambda x, y: (x < 4) & (-4. < x) & (0 <= y) & (y < 4)),
        Operation("true_div", lambda x, y: x.astype("float64") / y),
        exact("int_div", of_divisible(np.floor_divide, np.where), domain=not_least,
              build=of_divisible(T.int_div, T.switch)),
        exact("mod", of_divisible(np.mod, np.where), domain=not_least,
              build=of_divisible(T.mod, T.switch)),
    ],
    3: [
        exact("switch", lambda x, y, z: np.where(x, y, z)),
        exact("clip", lambda x, y, z: np.where(x < y, y, np.where(x > z, z, x))),
    ],
}


def integers(dtype):
    """Return three arrays: all triples of some small and extreme values, and random bits."""
    info = np.iinfo(dtype)
    extremes = np.array(sorted({0, 1, 2, 3, 7, 10, 100, info.max - 1, info.max, info.min,
                                *([-1, -2, -3, -7, -100, info.min + 1] if info.min else [])}),
                        dtype)
    random = np.random.RandomState(0)
    triples = np.array([*itertools.product(extremes, repeat=3)]).T
    bits = random.bytes(3 * 1000 * info.dtype.itemsize)
    return [np.concatenate(columns) for columns in
            zip(triples, np.frombuffer(bits, dtype).reshape(3, -1))]


#: Lengths of vectors, and their places in memory.
LAYOUTS = {
    "whole": lambda a: a,
    **{f"the first {n}": lambda a, n=n: a[:n] for n in (0, 1, 3, 7, 8, 9, 17, 1000, 1003)},
    "not aligned to a vector": lambda a: a[1:],
    "backwards": lambda a: a[::-1],
    "every third": lambda a: a[1::3],
    "every third backwards": lambda a: a[:-301:-3],
    "one element repeated": lambda a: np.broadcast_to(a[:1], 1003),
}


class Table:
    """All operations on arguments of one type, with their results and the expected ones."""

    def __init__(self, operations, arguments, mode=SEPARATE):
        self.operations = [(operation, n) for n in operations for operation in operations[n]]
        self.arguments = arguments
        dtype = arguments[0].dtype.name
        variables = [T.vector(dtype=dtype) for _ in arguments]
        self.function = theano.function(
            variables, [operation(*variables[:n]) for operation, n in self.operations],
            mode=mode)

    @cached_property
    def expected(self):
        arguments = [a.astype("float64") if a.dtype.kind == "f" else a for a in self.arguments]
        return [operation.expected(*arguments[:n]) for operation, n in self.operations]

    def failures(self, layout):
        """Yield what is wrong if all arguments, or all but the first, have this layout."""
        views = [layout(a) for a in self.arguments]
        for arguments in (views, [views[0].copy(), *views[1:]]):
            for (operation, n), value, expected in zip(
                    self.operations, self.function(*arguments), self.expected):
                assert value.shape == views[0].shape
                yield operation.failure(value, layout(expected), arguments[:n])


@lru_cache(maxsize=None)
def table_of_floats(dtype):
    return Table(OPERATIONS_ON_FLOATS, floats(dtype))


@lru_cache(maxsize=None)
def table_of_integers(dtype):
    operations = OPERATIONS_ON_INTEGERS
    if dtype.startswith("u"):  # Theano's sgn is for signed types
        operations = {n: [operation for operation in operations[n] if operation.name != "sgn"]
                      for n in operations}
    return Table(operations, integers(dtype))


@lru_cache(maxsize=None)
def table_of_graphs(dtype):
    return Table(GRAPHS_OF_FLOATS, floats(dtype), mode=TOGETHER)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("table, dtype", [
    *itertools.product([table_of_floats, table_of_graphs], ["float32", "float64"]),
    *itertools.product([table_of_integers], ["int8", "int32", "int64", "uint8"])])
def test_operations(table, dtype, layout):
    assert not [*filter(None, table(dtype).failures(LAYOUTS[layout]))]


@pytest.mark.parametrize("mode", [SEPARATE, TOGETHER], ids=["separate", "together"])
@pytest.mark.parametrize("dtype, low, high", [("float32", -88, 15), ("float64", -709, 19)])
def test_sigmoid_is_exactly_0_or_1_where_theanos_c_code_says_so(dtype, low, high, mode):
    """Programs add a small number in log(1 - sigmoid(x) + 1e-8): this decides the result."""
    x = T.vector(dtype=dtype)
    function = theano.function([x], T.nnet.sigmoid(x), mode=mode)
    low, high = np.array([low, high], dtype)
    numbers = [high, np.nextafter(high, np.inf, dtype=dtype), high + 1, np.inf,
               low + 10, np.nextafter(low, -np.inf, dtype=dtype), low - 1, -np.inf, np.nan]
    results = function(np.tile(np.array(numbers, dtype), 100)).reshape(100, 9)
    assert (results == 1).tolist() == [[False, True, True, True] + [False] * 5] * 100
    assert (results == 0).tolist() == [[False] * 5 + [True, True, True, False]] * 100
    assert np.isnan(results[:, 8]).all()


@pytest.fixture(scope="module")
def unpatched(tmp_path_factory):
    """The results of Theano's own loops, by type and operation, from this file run as a program."""
    if not (theano.config.cxx or shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("there is no compiler for Theano's own loops")
    path = tmp_path_factory.mktemp("unpatched") / "results.npz"
    # Without optimisation g++ takes a tenth of the time, and keeps strictly to IEEE's rules.
    of_the_user = os.environ.get("THEANO_FLAGS", "").split(",")
    flags = [*(flag for flag in of_the_user if flag != "cxx="), "gcc.cxxflags=-O0",
             f"base_compiledir={Path(theano.config.base_compiledir) / 'without_loops'}"]
    environment = {**os.environ, "THEANO_COMPAT_OFF": "elementwise_loops",
                   "THEANO_FLAGS": ",".join(filter(None, flags)),
                   "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, __file__, str(path)], env=environment, check=True)
    with np.load(path) as results:
        return dict(results)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_agreement_with_unpatched_theano(unpatched, dtype):
    table = table_of_floats(dtype)
    for (operation, n), value in zip(table.operations, table.function(*table.arguments)):
        own = unpatched[f"{dtype} {operation.name}"]
        assert value.dtype == own.dtype
        tolerance = {"float32": 2 * operation.precision() * np.finfo("float32").eps,
                     "float64": max(1e-10, 2 * operation.double)}[dtype]
        wrong = disagreement(value, own, tolerance, operation.near, operation.lost + 1)
        if operation.domain and not theano.config.cxx:
            wrong &= operation.domain(*table.arguments[:n])
        assert not wrong.any(), (
            operation.name, [a[wrong] for a in table.arguments[:n]], value[wrong], own[wrong])


# --- types ---

#: A vector of each type.
VECTORS = {dtype: T.vector(dtype=dtype) for dtype in (
    "bool", "int8", "uint8", "int16", "int32", "int64", "float32", "float64")}


@lru_cache(maxsize=None)
def values(dtype):
    array = {"b": lambda: np.array([False, True, True]), "f": lambda: floats(dtype)[0]}.get(
        np.dtype(dtype).kind, lambda: integers(dtype)[0])()
    return np.resize(array, 19136)


def fits(array, dtype):
    """Where a conversion to this type is defined: C truncates floats that fit."""
    if array.dtype.kind != "f" or np.dtype(dtype).kind not in "iu":
        return np.full(array.shape, True)
    info = np.iinfo(dtype)
    return (array > float(info.min) - 1) & (array < float(info.max))


def conversions():
    """Yield tuples: a name, Theano's result, NumPy's, and a mask of where these must agree."""
    for source, target in itertools.permutations(VECTORS, 2):
        array = values(source)
        yield (f"{target}({source})", T.cast(VECTORS[source], target), array.astype(target),
               fits(array, target))
    for dtype in ("float32", "float64"):
        array = values(dtype)
        yield (f"iround({dtype})", T.iround(VECTORS[dtype], "half_to_even"),
               np.rint(array).astype("int64"), np.abs(array) < 2**62)
    for left, right in [("bool", "float32"), ("int8", "float32"), ("uint8", "int8"),
                        ("int32", "float32"), ("int64", "float64"), ("float32", "float64")]:
        # C computes with an int32 and a float32 in float32, though the result is a float64.
        is_exact = (np.abs(values(left) * 1.) < 2**24) & (np.abs(values(right) * 1.) < 2**24)
        wide = np.result_type(left, right, "int32")
        for name, ufunc in [("add", np.add), ("mul", np.multiply), ("lt", np.less)]:
            yield (f"{name}({left}, {right})", getattr(T, name)(VECTORS[left], VECTORS[right]),
                   ufunc(values(left).astype(wide), values(right).astype(wide)), is_exact)
    variables = VECTORS["bool"], T.lt(VECTORS["float32"], 1)
    arrays = values("bool"), values("float32") < 1
    for name, ufunc in [("add", np.logical_or), ("mul", np.logical_and), ("eq", np.equal),
                        ("and_", np.logical_and), ("or_", np.logical_or),
                        ("xor", np.logical_xor), ("invert", np.logical_not)]:
        yield (f"{name} of bools", getattr(T, name)(*variables[:ufunc.nin]),
               ufunc(*arrays[:ufunc.nin]), True)


@pytest.fixture(scope="module")
def converted():
    names, variables, *expected = zip(*conversions())
    function = theano.function([*VECTORS.values()], [*variables], mode=SEPARATE)
    return function, [*zip(names, *expected)]


@pytest.mark.parametrize("layout", ["whole", "the first 17", "backwards", "every third"])
def test_types(converted, layout):
    function, cases = converted
    layout = LAYOUTS[layout]
    failed = []
    for (name, expected, where), value in zip(cases, function(*map(layout, map(values, VECTORS)))):
        wrong = disagreement(value, layout(expected), np.finfo("float32").eps)
        if (wrong & layout(np.broadcast_to(where, expected.shape))).any():
            failed.append(name)
    assert not failed


@pytest.mark.parametrize("operation", [T.int_div, T.mod])
def test_division_of_integers_by_zero(operation):
    """It raises an exception, wherever the zero is, and the next call is right."""
    x, y = T.lvectors(2)
    function = theano.function([x, y], operation(x, y))
    dividend, divisor = np.arange(100), np.arange(1, 101)
    right = function(dividend, divisor)
    for place in (0, 1, 8, 99):
        with pytest.raises(ZeroDivisionError):
            function(dividend, np.where(np.arange(100) == place, 0, divisor))
        np.testing.assert_array_equal(function(dividend, divisor), right)


# --- operations with kernels, and those that are left to Theano's loops ---

def has_kernel(op, *dtypes, ndim=1):
    """Whether the C of an elementwise operation is a kernel."""
    variables = [T.TensorType(dtype, (False,) * ndim)() for dtype in dtypes]
    node = T.Elemwise(op)(*variables, return_list=True)[0].owner
    names = [f"x{i}" for i in range(len(dtypes))], [f"z{i}" for i in range(len(node.outputs))]
    return "elementwise::run" in node.op.c_code(
        node, "name", *names, {"fail": "goto failed;", "id": 1})


def fused(dtype, build):
    x = scalar.get_scalar_type(dtype)()
    return scalar.Composite([x], [build(x)])


class Odd(scalar.UnaryScalarOp):
    """An operation of the program, whose C has ``continue`` and the names of a kernel's variables."""

    def impl(self, x):
        return x * 2 if x > 0 else 0

    def c_code(self, node, name, inputs, outputs, sub):
        (x,), (z,) = inputs, outputs
        return f"""
            {z} = 0;
            if (!({x} > 0)) continue;
            npy_float32 in0 = {x}, data = 1, n = 1, element = 0, out0 = 0, kernel = 1, input0 = 1;
            {z} = (in0 * data + out0) * ODD * (n + element) * kernel * input0;
        """

    def c_support_code(self):
        return "#define ODD 2"


odd = Odd(scalar.same_out, name="odd")


@pytest.mark.skipif(not theano.config.cxx, reason="there is no compiler")
def test_what_has_a_kernel():
    for dtype in ("bool", "int8", "uint16", "int32", "uint64", "float32", "float64"):
        assert has_kernel(scalar.add, dtype, dtype, ndim=4)
        assert has_kernel(fused(dtype, lambda x: scalar.exp(x) * 2), dtype)
    for op in (scalar.int_div, scalar.mod):
        assert has_kernel(op, "float32", "float32") and not has_kernel(op, "int64", "int64")
        assert not has_kernel(op, "uint64", "int64")
    assert not has_kernel(scalar.add, "complex64", "complex64")
    assert not has_kernel(odd, "float32")
    assert not has_kernel(fused("float32", lambda x: scalar.exp(odd(x))), "float32")
    assert has_kernel(scalar.add, "float32", "float32", ndim=32)


@pytest.mark.skipif(not theano.config.cxx, reason="there is no compiler")
def test_there_is_no_c_of_half_precision_within():
    """In Theano's C the bits of such a number would be those of an integer."""
    half = fused("float32", lambda x: scalar.cast(scalar.cast(x, "float16"), "float32") * 2)
    x = scalar.float32()
    nested = scalar.Composite([x], [half(x), scalar.exp(x)])
    for op in (half, nested):
        with pytest.raises(theano.gof.utils.MethodNotDefined):
            has_kernel(op, "float32")


def test_half_precision_inside():
    x = T.fvector()
    rounded = T.cast(T.cast(x * 1.5, "float16"), "float32") * 2 + 1
    result = theano.function([x], rounded)([1, 2, -3, 2049 / 1.5])
    np.testing.assert_array_equal(result, [4, 7, -8, 4097])


def test_an_operation_of_the_programs_own():
    x = T.fvector()
    function = theano.function([x], T.Elemwise(odd)(x))
    for layout in (LAYOUTS[name] for name in ("whole", "every third", "backwards")):
        value = layout(normal(2000))
        assert_close(function(value), 2 * np.maximum(value, 0))



# --- the smallest numbers ---

@lru_cache(maxsize=None)
def functions_near_zero():
    x = T.fvector()
    return theano.function([x], [T.exp(x), T.log1p(x), T.tanh(x), T.nnet.sigmoid(x),
                                 T.nnet.softplus(x), T.expm1(x), T.sin(x), T.arctan(x), T.sgn(x)],
                           mode=SEPARATE)


def test_what_is_not_denormal_does_not_become_zero():
    """From 1.2e-38 on, where intermediate results of a function may be denormal."""
    tiny = np.finfo("float32").tiny
    small = tiny * np.exp(np.linspace(0, 5, 5000))
    x = np.concatenate([small, -small, np.linspace(-87.33, -80, 5000)]).astype("float32")
    wide = x.astype("float64")
    expected = [np.exp(wide), np.log1p(wide), np.tanh(wide), special.expit(wide),
                np.logaddexp(0, wide), np.expm1(wide), np.sin(wide), np.arctan(wide), np.sign(x)]
    for value, right in zip(functions_near_zero()(x), expected):
        assert_close(value, right, 4e-7, near=0)


def test_denormal_arguments_are_what_they_are():
    x = np.array([1e-40, -1e-40, 1e-45], "float32")
    log = theano.function([v := T.fvector()], [T.log(v), T.sgn(v), v > 0], mode=SEPARATE)
    value, sign, positive = log(np.resize(x, 5000))
    assert_close(value[::3], np.full(1667, np.log(x[0].astype("float64"))))
    np.testing.assert_array_equal(sign[:3], [1, -1, 1])
    np.testing.assert_array_equal(positive[:3], [True, False, True])


# --- the compiler's options ---

#: Computes what may be wrong if the compiler does not keep to IEEE's rules, and prints whether it is.
PROGRAM_FOR_OPTIONS = """
import vae, theano, theano.tensor as T, numpy as np
x = T.fvector()
function = theano.function([x], [
    T.exp(x), T.log(x), T.log1p(x), T.tanh(x), T.nnet.sigmoid(x), T.nnet.softplus(x),
    T.exp(x).sum(), T.isnan(x), T.sgn(x)], mode=theano.Mode("c"))
a = np.linspace(-20, 20, 1001, dtype="float32")
e = a.astype("float64")
with np.errstate(all="ignore"):
    right = [np.exp(e), np.log(e), np.log1p(e), np.tanh(e), 1 / (1 + np.exp(-e)),
             np.log1p(np.exp(e)), np.exp(e).sum()]
    error = max(np.max(np.abs(value - x) / np.maximum(np.abs(x), 1e-3), where=np.isfinite(x),
                       initial=0) for value, x in zip(function(a), right))
finds = function(np.array([np.nan, 1, -1], "float32"))
print(error < 4e-7, finds[7].any(), finds[8][1:].tolist() == [1, -1])
"""


@pytest.mark.skipif(not theano.config.cxx, reason="there is no compiler")
@pytest.mark.parametrize("options, finds_nan", [
    ("-O0", True), ("-march=x86-64" if platform.machine() == "x86_64" else "-O1", True),
    ("-funsafe-math-optimizations", True), ("-fno-signed-zeros", True),
    ("-ffinite-math-only", False), ("-ffast-math", False), ("-Ofast -funroll-loops", False)])
def test_options_of_the_user(tmp_path, options, finds_nan):
    """Functions are right with all options; NaN is not found only where Theano does not, either."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                   "THEANO_FLAGS": f"gcc.cxxflags={options},base_compiledir={tmp_path}"}
    printed = subprocess.run([sys.executable, "-c", PROGRAM_FOR_OPTIONS], env=environment,
                             capture_output=True, text=True)
    assert printed.stdout.split() == ["True", str(finds_nan), "True"], printed


# --- shapes and strides ---

#: Layouts of a matrix in memory.
ORDERS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "backwards": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "rows backwards": lambda a: np.ascontiguousarray(a[:, ::-1])[:, ::-1],
    "strided": lambda a: a.repeat(2, 0).repeat(3, 1)[::2, ::3],
    "with gaps": lambda a: np.concatenate([a, a], 1)[:, :a.shape[1]],
}
#: The same, and layouts with repeated elements.
ALL_ORDERS = {
    **ORDERS,
    "one row": lambda a: np.broadcast_to(a[:1], a.shape),
    "one column": lambda a: np.broadcast_to(a[:, :1], a.shape),
}
SHAPES = [(0, 5), (5, 0), (1, 1), (1, 7), (7, 1), (8, 8), (17, 33), (3, 1003), (301, 5)]


def normal(*shape, seed=0):
    return np.random.RandomState(seed).normal(size=shape).astype("float32")


def ways(*shapes, orders=ALL_ORDERS):
    """Yield lists of matrices of these shapes, in all combinations of layouts."""
    arrays = [normal(*shape, seed=i) for i, shape in enumerate(shapes)]
    for combination in itertools.product(orders.values(), repeat=len(shapes)):
        yield [order(array) for order, array in zip(combination, arrays)]


@pytest.fixture(scope="module")
def three_matrices():
    x, y, z = T.fmatrices(3)
    return theano.function([x, y, z], T.tanh(x) * y + T.nnet.sigmoid(z))


@pytest.mark.parametrize("shape", SHAPES)
def test_matrices(three_matrices, shape):
    for x, y, z in ways(shape, shape, shape):
        assert_close(three_matrices(x, y, z), np.tanh(x) * y + special.expit(z))


@pytest.mark.parametrize("shapes", [
    [(3, 5), (4, 5), (3, 5)], [(3, 5), (3, 5), (3, 4)], [(3, 5), (1, 5), (3, 5)],
    [(3, 1), (3, 5), (3, 5)], [(0, 5), (1, 5), (1, 5)]])
def test_shapes_that_differ(three_matrices, shapes):
    """Only dimensions that are declared as broadcastable are broadcast."""
    with pytest.raises(ValueError, match="mis-?match"):
        three_matrices(*(normal(*shape) for shape in shapes))


@pytest.fixture(scope="module")
def matrix_and_vectors():
    x, row, column, vector, number = T.fmatrix(), T.frow(), T.fcol(), T.fvector(), T.fscalar()
    return theano.function(
        [x, row, column, vector, number],
        [T.tanh(x - vector) * row + column * number, row * column], mode=TOGETHER)


@pytest.mark.parametrize("shape", SHAPES)
def test_broadcasting(matrix_and_vectors, shape):
    vector, number = normal(shape[1], seed=4), np.float32(0.7)
    for x, row, column in ways(shape, (1, shape[1]), (shape[0], 1)):
        result, product = matrix_and_vectors(x, row, column, vector[::-1], number)
        assert_close(result, np.tanh(x - vector[::-1]) * row + column * number)
        assert_close(product, row * column)


def test_what_was_not_declared(matrix_and_vectors):
    """Theano rejects memory that is not aligned, and a row argument that has two rows."""
    for row, message in [(np.zeros(5 * 4 + 1, "uint8")[1:].view("float32")[None], "not aligned"),
                         (normal(2, 5), "broadcastable")]:
        with pytest.raises(TypeError, match=message):
            matrix_and_vectors(normal(3, 5), row, normal(3, 1), normal(5), np.float32(1))


@pytest.mark.parametrize("shape", [(0, 1, 1, 1), (1, 1, 1, 1), (2, 3, 5, 7), (5, 4, 16, 3),
                                   (1, 3, 300, 1)])
def test_many_dimensions(shape):
    """A batch of images, and a number for each channel, row and image."""
    x, y, channel, rows, image = T.ftensor4(), T.ftensor4(), T.fvector(), T.fmatrix(), T.fvector()
    function = theano.function([x, y, channel, rows, image], (
        T.maximum(x, 0) * channel.dimshuffle("x", 0, "x", "x") + y * rows.dimshuffle(1, "x", 0, "x")
        - image.dimshuffle(0, "x", "x", "x")), mode=TOGETHER)
    a, b = normal(*shape), normal(*shape, seed=1)
    numbers = normal(shape[1]), normal(shape[2], shape[0]), normal(shape[0])
    expected = (np.maximum(a, 0) * numbers[0][:, None, None] + b * numbers[1].T[:, None, :, None]
                - numbers[2][:, None, None, None])
    for axes, axes_of_b in itertools.product(itertools.permutations(range(4)), repeat=2):
        assert_close(function(a.transpose(axes).copy().transpose(np.argsort(axes)),
                              b.transpose(axes_of_b).copy().transpose(np.argsort(axes_of_b)),
                              *numbers), expected)


def test_no_dimensions():
    x, y, n = T.fscalar(), T.dscalar(), T.iscalar()
    function = theano.function([x, y, n], [T.exp(x) + y * n, T.isnan(x), n // 2], mode=TOGETHER)
    result, is_nan, half = function(0.5, -2., 7)
    assert_close(result, np.exp(0.5) - 14)
    assert (result.shape, is_nan, half) == ((), False, 3)
    assert function(np.nan, 1., 1)[1]


def test_views_inside_a_graph():
    x, y = T.fmatrices(2)
    function = theano.function([x, y], T.exp(x.T) * y - x[::-1].T)
    for a, b in ways((6, 5), (6, 5), orders=ORDERS):  # Theano's .T is wrong for strides of zero
        assert_close(function(a, b.T), np.exp(a.T) * b.T - a[::-1].T)


def test_memory_of_the_last_call():
    """Intermediate results may use memory that held those of another shape and order."""
    x, y = T.fmatrices(2)
    function = theano.function([x, y], T.dot(T.nnet.softplus(x), y),
                               mode=theano.Mode(theano.gof.vm.VM_Linker(allow_gc=False)))
    results = [(function(a, b.T), softplus(a.astype("float64")) @ b.T)
               for shape in SHAPES[2:] * 2 for a, b in ways(shape, shape, orders=ORDERS)]
    for result, expected in results:  # none has been overwritten
        assert_close(result, expected, near=100.)


# --- in place ---

@pytest.fixture(scope="module")
def in_place():
    x, y = T.fmatrices(2)
    return theano.function([In(x, mutable=True, borrow=True), y],
                           Out(T.tanh(x) * y + x, borrow=True))


@pytest.mark.parametrize("shape", SHAPES)
def test_in_place(in_place, shape):
    """An argument that may be overwritten is overwritten, and no memory around it."""
    for order, order_of_b in itertools.product(ORDERS.values(), ALL_ORDERS.values()):
        a, b = order(normal(*shape)), order_of_b(normal(*shape, seed=1))
        whole = a if a.base is None else a.base
        before, around = a.copy(), whole.copy()
        result = in_place(a, b)
        assert np.shares_memory(result, a) or 0 in shape
        assert_close(result, np.tanh(before) * b + before)
        np.testing.assert_array_equal(a, result)
        a[...] = before
        np.testing.assert_array_equal(whole, around)


def both_in_place(*types):
    """Return a function of two vectors, both of which may be overwritten."""
    x, y = (make() for make in types)
    function = theano.function([In(x, mutable=True, borrow=True), In(y, mutable=True, borrow=True)],
                               Out(x + 2 * y, borrow=True))
    return lambda a, b: function(a, b).copy()


@pytest.mark.parametrize("n", [2, 6, 17, 1003])
def test_overlapping_arguments(n):
    """Theano copies one of them if both have the same type object, as here."""
    function = both_in_place(T.fvector, T.fvector)
    for first, second in [(np.s_[1:], np.s_[:-1]), (np.s_[:-1], np.s_[1:]), (np.s_[:], np.s_[:]),
                          (np.s_[:], np.s_[::-1])]:
        a = normal(n)
        expected = a[first] + 2 * a[second]
        assert_close(function(a[first], a[second]), expected)


@pytest.mark.parametrize("n", [2, 6, 17, 1003])
def test_overlapping_arguments_that_theano_does_not_notice(n):
    """The result is right if each number is read before it is overwritten."""
    function = both_in_place(*[lambda: T.vector(dtype="float32")] * 2)
    for first, second in [(np.s_[:-1], np.s_[1:]), (np.s_[:], np.s_[:])]:
        a = normal(n)
        expected = a[first] + 2 * a[second]
        assert_close(function(a[first], a[second]), expected)
    a = normal(n)
    assert function(a[1:], a[:-1]).shape == (n - 1,)  # anything but a crash


def test_views_of_an_overwritten_argument():
    x = T.fmatrix()
    function = theano.function([In(x, mutable=True, borrow=True)],
                               T.exp(x) * x.T + x[::-1])
    for a, in ways((9, 9), orders=ORDERS):
        expected = np.exp(a) * a.T + a[::-1]
        assert_close(function(a), expected)


def test_updates():
    """Each is computed from the old values of all; borrowed memory is updated in place."""
    memory = normal(20, 30)
    a = theano.shared(memory[::2, 1:7], borrow=True)
    b = theano.shared(np.asfortranarray(normal(10, 6, seed=1)), borrow=True)
    total = theano.shared(np.float32(0))
    function = theano.function([], updates=[(a, T.tanh(b)), (b, a + b), (total, total + a.sum())],
                               mode=TOGETHER)
    start = memory.copy()
    x, y, z = memory[::2, 1:7].copy(), normal(10, 6, seed=1), 0
    for _ in range(3):
        function()
        x, y, z = np.tanh(y), x + y, z + x.sum()
    for variable, expected in [(a, x), (b, y), (total, np.float32(z))]:
        assert_close(variable.get_value(), expected)
    memory[::2, 1:7] = start[::2, 1:7]
    np.testing.assert_array_equal(memory, start)


# --- many arguments and results ---

def test_adam():
    """Lasagne's adam, on arrays in several layouts, compared with its formulas in float64."""
    shapes = [(17, 33), (33,), (4, 3, 5, 5), ()]
    gradients = [normal(*shape) for shape in shapes]
    starts = [normal(*shape, seed=1) for shape in shapes]
    starts[0] = np.asfortranarray(starts[0])
    shared = [theano.shared(start.copy(order="K")) for start in starts]
    variables = [T.TensorType("float32", (False,) * len(shape))() for shape in shapes]
    updates = lasagne.updates.adam(variables, shared, learning_rate=0.1)
    function = theano.function(variables, updates=updates, mode=TOGETHER)
    for _ in range(5):
        function(*gradients)
    for parameter, start, g in zip(shared, starts, gradients):
        x, m, v = start.astype("float64"), 0, 0
        for t in range(1, 6):
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g.astype("float64")**2
            x -= 0.1 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-8)
        assert_close(parameter.get_value(), x, 1e-5)


@pytest.mark.parametrize("inplace", [{}, {0: 0, 1: 1, 2: 2}])
def test_several_results(inplace):
    """One loop with twelve arguments and three results: matrices, rows, columns and numbers."""
    scalars = [scalar.float32() for _ in range(12)]
    p, m, v, g, *others = scalars
    moved = m * others[0] + g * others[1]
    square = v * others[2] + scalar.sqr(g) * others[3]
    loop = scalar.Composite(scalars, [
        p - others[4] * moved / (scalar.sqrt(square) + others[5]) + others[6], moved, square])
    variables = [*T.fmatrices(4), *(T.frow() for _ in range(2)), *(T.fcol() for _ in range(2)),
                 *(T.TensorType("float32", (True, True))() for _ in range(4))]
    function = theano.function(
        variables, T.Elemwise(loop, inplace_pattern=inplace)(*variables),
        mode=theano.Mode(optimizer=None), accept_inplace=True)
    for shape in [(1, 1), (17, 33), (0, 3), (600, 3)]:
        arrays = [np.abs(normal(*(1 if is_one else n
                                  for is_one, n in zip(x.broadcastable, shape)), seed=i))
                  for i, x in enumerate(variables)]
        for order in (ORDERS[name] for name in ("C", "Fortran", "backwards", "strided")):
            p, m, v, g, *others = [order(a) for a in arrays]
            moved, square = m * others[0] + g * others[1], v * others[2] + g**2 * others[3]
            expected = (p - others[4] * moved / (np.sqrt(square) + others[5]) + others[6], moved,
                        square)
            for value, right in zip(function(p, m, v, g, *others), expected):
                assert_close(value, right, 1e-5)


def test_forty_arguments():
    vectors, numbers = T.fvectors(20), T.fscalars(20)
    function = theano.function([*vectors, *numbers], sum(map(T.mul, vectors, numbers)))
    arrays, factors = normal(20, 1003), normal(20)
    assert_close(function(*arrays, *factors), factors @ arrays.astype("float64"), 1e-5, near=100.)
    assert_close(function(*arrays[:, ::-2], *factors), factors @ arrays[:, ::-2].astype("float64"),
                 1e-5, near=100.)


def test_results_of_several_types():
    number, count = scalar.float32(), scalar.int64()
    loop = scalar.Composite([number, count], [
        scalar.isnan(number), number * number, scalar.cast(number, "float64") + count,
        count - count * count])
    x, n = T.fvector(), T.lvector()
    function = theano.function([x, n], T.Elemwise(loop)(x, n), mode=theano.Mode(optimizer=None))
    for layout in LAYOUTS.values():
        a, b = layout(normal(2000)), layout(np.arange(2000))
        for value, expected in zip(function(a, b), [np.isnan(a), a * a, a + b, b - b * b]):
            assert_close(value, expected)


# --- reductions ---

AXES = [None, 0, 1]
REDUCTIONS = [*itertools.product(["sum", "prod", "any", "all"], AXES)]
EXTREMES = [*itertools.product(["max", "min", "argmax"], AXES)]


def reductions(pairs):
    """Return a function of a matrix that returns these reductions, in a dictionary."""
    x = T.fmatrix()
    function = theano.function([x], [
        getattr(T, name)(T.neq(x, 0) if name in ("any", "all") else x, axis)
        for name, axis in pairs], mode=TOGETHER)
    return lambda a: dict(zip(pairs, function(a)))


@pytest.fixture(scope="module")
def reduced():
    return reductions(REDUCTIONS)


@pytest.fixture(scope="module")
def extremes():
    return reductions(EXTREMES)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if 0 not in shape])
def test_reductions(reduced, extremes, shape):
    for order in ALL_ORDERS.values():
        a = order(np.where(normal(*shape) > 1, 0, normal(*shape, seed=1)))
        for function in (reduced, extremes):
            for (name, axis), value in function(a).items():
                assert_close(value, getattr(np, name)(a.astype("float64"), axis=axis))


def test_nan_in_reductions(reduced, extremes):
    """At the beginning, in the middle and at the end."""
    for place in itertools.product([0, 5, 8], [0, 7, 32]):
        a = normal(9, 33)
        a[place] = np.nan
        for function in (reduced, extremes):
            for (name, axis), value in function(a).items():
                assert_close(value, getattr(np, name)(a, axis=axis))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_empty_reductions(reduced, extremes, shape):
    a = np.zeros(shape, "float32")
    for (name, axis), value in reduced(a).items():
        np.testing.assert_array_equal(value, getattr(np, name)(a, axis=axis))
    with pytest.raises(ValueError):
        extremes(a)


def test_sums_are_as_exact_as_in_float64(reduced):
    """Theano adds float32 in float64."""
    v = T.fvector()
    mean = theano.function([v], T.mean(v), mode=TOGETHER)
    a = np.random.RandomState(0).uniform(size=(1000, 1003)).astype("float32")
    a[0, 0], a[-1, -1] = 1e9, -1e9
    for b in (a, a.copy("F"), a[::-1, ::-1], a[::2, 1::2]):
        results, wide = reduced(b), b.astype("float64")
        for axis in AXES:
            assert_close(results["sum", axis], wide.sum(axis), 2e-7, near=0)
        assert_close(mean(b.ravel("K")[::-1]), wide.mean(), 2e-7, near=0)


@pytest.mark.skipif(not theano.config.cxx, reason="NumPy has an order of its own")
def test_sums_in_float64_are_in_theanos_order():
    """If floats cancel, the sum depends on the order; also 1e308 - 1e308 + ... must not be NaN."""
    x, single = T.dtensor3(), T.ftensor3()
    function = theano.function([x, single], [
        x.sum(), x.sum((0, 2)), x.sum((0, 1)), x.sum(2), single.sum(dtype="float64")])
    a = np.random.RandomState(0).choice([1e16, -1e16, 1., 3.], (3, 4, 50))
    a[0, 0, :6] = 1e308, 1e308, -1e308, -1e308, 1e308, -1e308
    a[0, 0, 1] = 1

    def in_order(rows):
        return [np.cumsum(row)[-1] for row in rows]

    for order in (lambda a: a, lambda a: a[::-1, :, ::-1], lambda a: a.copy("F")):
        b = order(a)
        c = b.clip(-1e16, 1e16).astype("float32")
        sums = [in_order([b.ravel()])[0], in_order(b.swapaxes(0, 1).reshape(4, -1)),
                in_order(b.reshape(12, -1).T), np.reshape(in_order(b.reshape(12, -1)), (3, 4)),
                in_order([c.astype("float64").ravel()])[0]]
        for value, right in zip(function(b, c), sums):
            np.testing.assert_array_equal(value, right)


def test_the_sum_of_minus_zeros_is_zero():
    x = T.fmatrix()
    function = theano.function([x], [x.sum(), x.sum(0), x.sum(1)])
    for shape in [(1, 1), (1, 5), (5, 1), (3, 40)]:
        for value in function(np.full(shape, -0., "float32")):
            assert not np.signbit(value).any()


def test_reductions_of_other_types():
    n, flags, x = T.bmatrix(), T.bmatrix(), T.tensor3(dtype="float32")
    function = theano.function([n, flags, x], [
        n.sum(), n.prod(1), n.max(0), n.min(1), T.any(flags, 0), T.all(flags), T.eq(n, 3).sum(0),
        x.sum((0, 2)), x.max((0, 1)), T.sqr(x).sum(), T.nnet.softplus(x).sum(1),
        T.exp(x - x.max(2, keepdims=True)).sum(2)], mode=TOGETHER)
    a = np.random.RandomState(0).randint(-128, 128, (40, 9)).astype("int8")
    b, c = (a > 100).astype("int8"), normal(7, 9, 11)
    wide = c.astype("float64")
    expected = [
        a.sum(), a.prod(1, "int64"), a.max(0), a.min(1), b.any(0), b.all(), (a == 3).sum(0),
        wide.sum((0, 2)), wide.max((0, 1)), (wide**2).sum(), softplus(wide).sum(1),
        np.exp(wide - wide.max(2, keepdims=True)).sum(2)]
    for value, right in zip(function(a, b, c), expected):
        assert_close(value, right)


# --- the processor ---

def test_other_code_computes_as_before():
    """The loops may change how the processor treats denormals, and restore that at the end."""
    small = np.full(100, 1e-38, "float32"), np.full(100, 1e-308)

    def denormals():
        return [a / divisor * factor for a in small for divisor in (3, 10) for factor in (1, 3)]

    before = denormals()
    x, n, m = T.fvector(), *T.lvectors(2)
    function = theano.function([x, n, m], [T.exp(x) * x, n // m], mode=TOGETHER)
    whole, two = np.arange(100), np.full(100, 2)
    for layout in LAYOUTS.values():
        function(layout(small[0]), layout(whole), layout(two))
        np.testing.assert_array_equal(denormals(), before)
    for wrong in ((whole, whole), (whole, two[1:])):
        with pytest.raises((ZeroDivisionError, ValueError)):
            function(small[0], *wrong)
        np.testing.assert_array_equal(denormals(), before)
    assert all((a > 0).all() for a in before)


if __name__ == "__main__":
    np.savez(sys.argv[1], **{
        f"{dtype} {operation.name}": value for dtype in ("float32", "float64")
        for table in [table_of_floats(dtype)]
        for (operation, _), value in zip(table.operations, table.function(*table.arguments))})
