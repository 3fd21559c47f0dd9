"""Without a C++ compiler, Theano computes whole arrays, with the same results as compiled code.

If this file is run as a program, with a name and a path as arguments, it saves
the results of all `graphs`, or of the graphs `on_types`, with the settings in
THEANO_FLAGS.
"""

import itertools
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import vae  # noqa: F401  before Theano

import lasagne
import numpy as np
import pytest
import scipy.sparse
import theano
import theano.sparse
import theano.tensor as T
from programs import PRELUDE, TRAINING_STEP
from scipy import special
from theano import scalar, shared
from theano.sandbox.multinomial import ChoiceFromUniform
from theano.sandbox.rng_mrg import MRG_RandomStreams
from theano.tensor.nnet.blocksparse import sparse_block_dot
from theano.tensor.nnet.neighbours import images2neibs
from theano.tensor.signal.pool import pool_2d, pool_3d

from theano_compat.without_compiler import expressions

pytestmark = pytest.mark.process

HERE = Path(__file__).parent


# --- graphs: operations whose Python in Theano loops over numbers, and others of networks ---

def numbers(*shape, seed=0, low=-1., high=1.):
    values = np.random.RandomState(seed).uniform(low, high, size=shape)
    return shared(values.astype("float32"))


def indices(*shape, high, seed=0):
    return shared(np.random.RandomState(seed).randint(high, size=shape))


def with_gradients(result, *variables):
    """Return a result, and gradients of its sum with unequal weights."""
    weights = T.cos(T.arange(result.size, dtype="float32")).reshape(result.shape, result.ndim)
    return [result, *theano.grad(T.sum(weights * result), variables)]


def convolutions():
    images, filters = numbers(3, 4, 9, 8), numbers(6, 4, 3, 2, seed=1)
    for name, options in {
            "": {}, ", full": {"border_mode": "full"}, ", half": {"border_mode": "half"},
            ", padded": {"border_mode": (2, 1)}, ", strided": {"subsample": (2, 3)},
            ", dilated": {"filter_dilation": (2, 3)}, ", not flipped": {"filter_flip": False},
            ", with all options": {"border_mode": (1, 2), "subsample": (2, 1),
                                   "filter_dilation": (1, 2), "filter_flip": False}}.items():
        yield f"conv2d{name}", with_gradients(
            T.nnet.conv2d(images, filters, **options), images, filters)
    grouped = numbers(6, 2, 3, 2, seed=1)
    yield "conv2d in groups", with_gradients(
        T.nnet.conv2d(images, grouped, num_groups=2), images, grouped)
    unshared = numbers(6, 7, 7, 4, 3, 2, seed=1)
    yield "conv2d, unshared", with_gradients(
        T.nnet.conv2d(images, unshared, unshared=True, filter_shape=(6, 7, 7, 4, 3, 2)),
        images, unshared)
    volumes, cubes = numbers(2, 3, 6, 7, 5), numbers(4, 3, 3, 2, 2, seed=1)
    yield "conv3d", with_gradients(
        T.nnet.conv3d(volumes, cubes, border_mode=(1, 0, 1), subsample=(1, 2, 1)), volumes, cubes)
    for mode in ("valid", "full"):
        yield f"old conv2d, {mode}", with_gradients(theano.tensor.nnet.conv.conv2d(
            images, filters, border_mode=mode), images, filters)
    yield "old conv2d, strided", [theano.tensor.nnet.conv.conv2d(
        images, filters, subsample=(2, 1))]


def poolings():
    images = numbers(2, 3, 9, 10)
    for mode in ("max", "sum", "average_inc_pad", "average_exc_pad"):
        for name, options in {
                "": {"ws": (2, 3), "ignore_border": True},
                ", with its border": {"ws": (2, 3), "ignore_border": False},
                ", strided": {"ws": (3, 2), "stride": (2, 1), "ignore_border": True},
                ", padded": {"ws": (3, 3), "stride": (2, 2), "pad": (1, 2),
                             "ignore_border": True}}.items():
            pooled = pool_2d(images, mode=mode, **options)
            has_gradient = mode != "average_exc_pad" or "pad" not in options
            yield f"{mode}{name}", with_gradients(pooled, images) if has_gradient else [pooled]
    volumes = numbers(2, 6, 7, 5)
    yield "max of volumes", with_gradients(pool_3d(volumes, ws=(2, 3, 2), ignore_border=True),
                                           volumes)
    with_nan = shared(np.where(numbers(2, 3, 9, 10, seed=1).get_value() > 0.5, np.nan,
                               images.get_value()))
    for pad in ((0, 0), (1, 2)):
        yield f"max with NaN, padded by {pad}", with_gradients(pool_2d(
            with_nan, ws=(3, 3), stride=(2, 2), pad=pad, ignore_border=True), with_nan)
    yield "no windows", with_gradients(pool_2d(images, ws=(10, 2), ignore_border=True), images)
    yield "of integers", [
        pool_2d(T.cast(10 * images, "int32"), ws=(2, 2), mode="sum", ignore_border=True),
        pool_2d(images > 0.5, ws=(2, 2), ignore_border=True)]
    gradient = theano.grad(T.sum(pool_2d(images, ws=(2, 2), ignore_border=True) ** 3), images)
    yield "second gradient of max", [theano.grad(T.sum(gradient ** 2), images)]
    yield "directional derivative of max", [theano.tensor.Rop(
        pool_2d(images, ws=(2, 2), ignore_border=True), images, T.cos(images))]


def classifications():
    x, bias, target = numbers(7, 5, low=-20, high=20), numbers(5, seed=1), indices(7, high=5)
    yield "softmax", with_gradients(T.nnet.softmax(x), x)
    yield "softmax with a bias", with_gradients(T.nnet.softmax(x + bias), x, bias)
    yield "log softmax", with_gradients(T.nnet.logsoftmax(x), x)
    probabilities = T.nnet.softmax(x + bias)
    yield "cross-entropy of softmax", with_gradients(
        T.nnet.categorical_crossentropy(probabilities, target), x, bias)
    yield "mean cross-entropy of softmax", [theano.grad(
        T.mean(T.nnet.categorical_crossentropy(probabilities, target)), x)]
    chances = numbers(7, 5, low=0.1, high=1)
    yield "cross-entropy", with_gradients(
        T.nnet.categorical_crossentropy(chances, target), chances)
    yield "most likely", [T.argmax(probabilities, axis=1), T.max(x, axis=0)]


def draws():
    for dtype in ("float32", "float64"):
        stream = MRG_RandomStreams(7)
        yield f"uniform, {dtype}", [stream.uniform((300, 70), dtype=dtype),
                                    stream.uniform((5,), dtype=dtype)]
    stream = MRG_RandomStreams(8)
    size = T.cast(numbers(2, low=3, high=9).get_value().astype(int), "int64")
    few_streams = MRG_RandomStreams(9)
    yield "normal", [stream.normal((41, 3)), stream.normal(size, ndim=2),
                     few_streams.uniform((1000,), nstreams=7)]
    chances = T.nnet.softmax(numbers(6, 4, low=-2, high=2))
    yield "choices", [stream.binomial((20, 9), p=0.3), stream.multinomial(pvals=chances),
                      stream.multinomial(n=5, pvals=chances),
                      stream.choice(size=3, p=chances, replace=False),
                      ChoiceFromUniform("auto", replace=True)(chances, numbers(18, low=0), 3)]
    shared_streams = T.shared_randomstreams.RandomStreams(3)
    yield "shared streams", [shared_streams.uniform((4, 3)), shared_streams.normal((4, 3)),
                             shared_streams.binomial((9,), p=0.4),
                             shared_streams.permutation((2,), 6)]


def products():
    x, y = numbers(6, 5), numbers(5, 7, seed=1)
    u, v, z = numbers(6, seed=2), numbers(5, seed=3), numbers(6, 7, seed=4)
    yield "products", [T.dot(x, y), T.dot(u, x), T.dot(x, v), T.dot(u, u),
                       z + 3 * T.dot(x, y), u + 2 * T.dot(x, v),
                       x - 0.5 * T.outer(u, v), T.tensordot(x, y, 1), 2 * T.dot(y.T, x.T)]
    a, b = numbers(4, 3, 5), numbers(4, 5, 2, seed=1)
    yield "batched products", [*with_gradients(T.batched_dot(a, b), a, b),
                               T.batched_dot(a[:, 0], b), T.batched_dot(a, b[:, :, 0]),
                               T.batched_dot(a[:, 0], b[:, :, 0])]
    zeros = shared(np.where(np.eye(5, 7, 2), 0, 1.5).astype("float32"))
    yield "products of elements", with_gradients(T.prod(zeros, axis=1), zeros)
    W, h, o = numbers(4, 3, 5, 6), numbers(2, 3, 5, seed=1), numbers(2, 2, 6, seed=2)
    rows, columns = indices(2, 3, high=4), indices(2, 2, high=3, seed=1)
    yield "products of blocks", with_gradients(
        sparse_block_dot(W, h, rows, o.sum(1)[:3] * 0 + T.zeros((3, 6)), columns), W, h)


def indexing():
    x, i = numbers(6, 5), indices(9, high=6)
    yield "rows", with_gradients(x[i], x)
    yield "elements", with_gradients(x[i, T.mod(i, 5)], x)
    yield "increments", [T.inc_subtensor(x[i], 1.5), T.set_subtensor(x[1:4], 0), x[::-2, 1],
                         T.inc_subtensor(x[i, T.mod(i, 5)], 2)]
    yield "order", [T.sort(x, axis=0), T.argsort(x, axis=1), T.cumsum(x, axis=0),
                    T.repeat(x, 2, axis=1), T.concatenate([x, 2 * x]), T.extra_ops.diff(x, axis=0)]
    images = numbers(2, 3, 6, 9)
    for mode, shape, step in [("valid", (2, 3), (2, 3)), ("valid", (2, 3), (1, 2)),
                              ("ignore_borders", (4, 2), (4, 2)), ("wrap_centered", (3, 5), (2, 3)),
                              ("half", (3, 3), (1, 2)), ("full", (2, 2), (1, 1))]:
        yield f"patches, {mode} {step}", [images2neibs(images, shape, step, mode=mode)]


def loops():
    x, W = numbers(7, 4), numbers(4, 4, seed=1)
    states, updates = theano.scan(lambda x_t, h: T.tanh(x_t + T.dot(h, W)), x, [T.zeros((4,))])
    yield "scan", with_gradients(states, x, W)
    for layer in (lasagne.layers.RecurrentLayer, lasagne.layers.LSTMLayer, lasagne.layers.GRULayer):
        lasagne.random.set_rng(np.random.RandomState(1))
        network = layer(lasagne.layers.InputLayer((3, 5, 2)), 4)
        value = numbers(3, 5, 2, seed=5)
        yield layer.__name__, with_gradients(
            lasagne.layers.get_output(network, value), *network.get_params(trainable=True)[:3])


def sparse_matrices():
    matrix = scipy.sparse.random(8, 6, 0.4, format="csr", random_state=0, dtype="float32")
    y, row, column = numbers(6, 3), numbers(6, seed=1), numbers(8, seed=2)
    for storage_format in ("csr", "csc"):
        values = matrix.asformat(storage_format)
        x = shared(values)
        yield f"{storage_format}, product", [theano.sparse.dot(x, y)]
        data, indices, pointers, shape = (shared(np.asarray(part)) for part in (
            values.data, values.indices, values.indptr, np.array(matrix.shape, "int32")))
        built = theano.sparse.CSM(storage_format)(data, indices, pointers, shape)
        yield f"{storage_format}, structured product", with_gradients(
            theano.sparse.structured_dot(built, y), data, y)
        dense = numbers(8, 6, seed=3)
        yield f"{storage_format}, elements", [
            theano.sparse.dense_from_sparse(result) for result in (
                theano.sparse.mul(x, dense), theano.sparse.structured_exp(x),
                theano.sparse.col_scale(x, row), theano.sparse.row_scale(x, column),
                theano.sparse.add(x, x), theano.sparse.transpose(x))]
        yield f"{storage_format}, sum", [theano.sparse.sp_sum(x, axis=0), x[:, 2:4].toarray()]


def graphs():
    """Return a dictionary of lists of results, by name."""
    return {name: results for generate in (
        convolutions, poolings, classifications, draws, products, indexing, loops, sparse_matrices)
        for name, results in generate()}


# --- every pair of types ---

#: For each dtype values at its limits and small ones.
EDGES = {
    "bool": [0, 1],
    "int8": [0, 1, -1, 3, -3, 5, 127, -127, 100],
    "uint32": [0, 1, 3, 5, 2**31 - 1, 2**31, 2**32 - 1, 100, 35],
    "int32": [0, 1, -1, 3, -7, 35, 2**31 - 1, 1 - 2**31, 100],
    "int64": [0, 1, -1, 3, -7, 35, 2**53 + 1, 2**63 - 2**10, 1 - 2**63],
    "uint64": [0, 1, 3, 5, 35, 2**53 + 1, 2**62, 2**63, 2**64 - 2**11],
    "float32": [0, -0., 1, -1, 2.5, -3.5, 0.1, np.inf, np.nan],
    "float64": [0, -0., 1, -1, 2.5, -3.5, 0.1, -np.inf, np.nan],
}
#: Operations of two arguments: C computes each in a dtype that its rules choose for the pair.
OF_TWO = ["add", "sub", "mul", "true_div", "pow", "maximum", "minimum", "lt", "gt", "le", "ge",
          "eq", "neq", "and_", "or_", "xor", "int_div", "mod"]
OF_THREE = [scalar.switch, scalar.clip, scalar.inclosedrange]
#: Constants that are the second argument of such operations in fused ones.
CONSTANTS = [np.int8(-1), np.int64(3), np.uint64(2**40), np.float32(0.1), np.float32(0.5)]


def edges(dtype, place, n_places):
    """Return one of `n_places` arguments, which together are all combinations of their values."""
    values = np.resize(np.array(EDGES[dtype], dtype), 9)
    shape = [9 if axis == place else 1 for axis in range(n_places)]
    return np.broadcast_to(values.reshape(shape), [9] * n_places).ravel()


def of_divisors(values):
    return np.where(values == 0, np.ones((), values.dtype), values)


def operations_on_types():
    """Yield tuples of a name, an operation and the dtypes of its arguments without constants."""
    for name in OF_TWO:
        for types in itertools.product(EDGES, repeat=2):
            yield name, getattr(scalar, name), types
        for dtype, constant in itertools.product(EDGES, CONSTANTS):
            yield (f"{name} {constant!r}",
                   lambda x, name=name, constant=constant: getattr(scalar, name)(
                       x, scalar.constant(np.asarray(constant))), (dtype,))
    dtypes = ["uint32", "int32", "int64", "uint64", "float32"]
    for op in OF_THREE:
        for types in itertools.product(dtypes, repeat=3):
            yield str(op), op, types
    for source, target in itertools.product(EDGES, [*EDGES, "uint8", "int16"]):
        yield f"cast to {target}", lambda x, target=target: scalar.cast(x, target), (source,)


def on_types():
    """Return a dictionary of results by name and dtypes; fused operations compute many at once."""
    results = {}
    for n_places, divides in itertools.product([1, 2, 3], [False, True]):
        arguments = {(dtype, place): scalar.get_scalar_type(dtype)()
                     for dtype in EDGES for place in range(n_places)}
        outputs = {}
        for name, op, types in operations_on_types():
            if len(types) != n_places or divides != name.startswith(("int_div", "mod")):
                continue
            if divides and "(-1)" in name:
                continue  # Theano's C code has --1
            try:
                output = op(*(arguments[of] for of in zip(types, range(n_places))))
            except (TypeError, NotImplementedError):
                continue  # Theano lacks the operation
            if output.owner:  # a conversion to its own dtype is not an operation
                outputs[f"{name} {types}"] = output
        if not outputs:
            continue
        vectors = [T.vector(dtype=dtype) for dtype, _ in arguments]
        composite = T.Elemwise(scalar.Composite([*arguments.values()], [*outputs.values()]))
        function = theano.function(vectors, composite(*vectors), on_unused_input="ignore",
                                   mode=theano.Mode(optimizer=None))
        values = [edges(*of, n_places) for of in arguments]
        if divides:
            values = [of_divisors(value) if place else value
                      for value, (_, place) in zip(values, arguments)]
        results.update(zip(outputs, function(*values)))
    return results


def is_defined(name, dtype, arguments):
    """Return where C defines a result: not where an integer dtype cannot hold a converted float."""
    if np.dtype(dtype).kind not in "iu" or not name.startswith(("pow", "cast")):
        return True
    value = np.asarray(arguments[0], "float64")
    if name.startswith("pow"):
        constant = [eval(name.split()[1], {"np": np})] if len(arguments) == 1 else []
        with np.errstate(all="ignore"):
            value = np.power(value, np.asarray([*arguments, *constant][1], "float64"))
    info = np.iinfo(dtype)
    return (value > float(info.min) - 1) & (value < float(info.max))


def save_graphs(path):
    named = graphs()
    function = theano.function([], [x for results in named.values() for x in results])
    values = iter(function())
    np.savez(path, **{f"{name} {k}": np.asarray(next(values)) for name, results in named.items()
                      for k in range(len(results))})


def save_on_types(path):
    np.savez(path, **on_types())


def python(*arguments, flags):
    """Run Python with these THEANO_FLAGS, and return what it prints."""
    process = subprocess.run(
        [sys.executable, *map(str, arguments)], text=True, capture_output=True,
        env={**os.environ, "THEANO_FLAGS": flags,
             "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def results_of_numpy_and_c(name, folder):
    """Return the results that this file saves, by NumPy and by C."""
    # Without optimisation g++ takes a fraction of the time.
    for way, flags in {"numpy": "cxx=", "c": "gcc.cxxflags=-O0"}.items():
        python(__file__, name, folder / f"{way}.npz", flags=flags)
    by_numpy, by_c = (np.load(folder / f"{way}.npz") for way in ("numpy", "c"))
    assert len(by_c.files) > 150 and by_numpy.files == by_c.files
    return by_numpy, by_c


@pytest.mark.slow
@pytest.mark.skipif(not theano.config.cxx, reason="there is no compiler to compare with")
def test_types_are_those_of_compiled_code(tmp_path):
    """Every operation on every pair of types gives what C gives where C defines it."""
    wrong = []
    by_numpy, by_c = results_of_numpy_and_c("types", tmp_path)
    for name in by_c.files:
        value, expected = by_numpy[name], by_c[name]
        assert value.dtype == expected.dtype, name
        operation, types = name.rsplit(" (", 1)
        types = [word.strip("', ") for word in types.rstrip(")").split(",") if word.strip()]
        arguments = [edges(dtype, place, len(types)) for place, dtype in enumerate(types)]
        if operation.startswith(("int_div", "mod")) and len(types) == 2:
            arguments[1] = of_divisors(arguments[1])
        same = (value == expected) | (value != value) & (expected != expected)
        if expected.dtype.kind == "f":
            single = "float32" in (*types, expected.dtype.name)
            with np.errstate(all="ignore"):
                scale = np.abs(expected) + 0.1 * ("float32(0.1)" in operation)  # in C a double
                same |= np.abs(value - expected) <= (3e-7 if single else 1e-15) * scale
        bad = ~same & is_defined(operation, expected.dtype, arguments)
        if bad.any():
            wrong.append((name, [a[bad][0] for a in arguments], value[bad][0], expected[bad][0]))
    assert not wrong, f"{len(wrong)}: {wrong[:20]}"


@pytest.mark.slow
@pytest.mark.skipif(not theano.config.cxx, reason="there is no compiler to compare with")
def test_results_are_those_of_compiled_code(tmp_path):
    by_numpy, by_c = results_of_numpy_and_c("graphs", tmp_path)
    for name in by_c.files:
        value, expected = by_numpy[name], by_c[name]
        assert (value.dtype, value.shape) == (expected.dtype, expected.shape), name
        scale = np.abs(expected).max(initial=0) if expected.dtype.kind == "f" else 0
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=3e-6 * scale, err_msg=name)


def test_uniform_draws_of_float16():
    """The numbers of unpatched Theano 1.0.5 with NumPy 1.19, which has no C code for them, either."""
    draw = theano.function([], MRG_RandomStreams(1).uniform((12,), dtype="float16"))
    expected = [128.75, 2266, 11808, 17184, 19984, 21520, 12256, 31856, 6232, 1164, 8208, 18448]
    assert (draw().astype(float) * 2**15).tolist() == expected


@pytest.mark.slow
def test_loops_without_a_compiler():
    """The tests of compiled loops also pass without a compiler."""
    python("-m", "pytest", "-q", "-p", "no:cacheprovider", HERE / "test_elementwise_loops.py",
           flags="cxx=")


# --- every scalar operation ---

TYPES = ["bool", "uint8", "int8", "int64", "float16", "float32", "float64", "complex64",
         "complex128"]


def scalar_operations():
    """Return the operations that Theano's modules define, by module and name."""
    modules = [scalar.basic, scalar.basic_scipy, T.nnet.sigm, T.nnet.nnet, T.xlogx]
    found = {}
    for module in modules:
        for name, op in vars(module).items():
            if isinstance(op, scalar.ScalarOp) and op not in found.values():
                found[f"{module.__name__.rpartition('.')[2]}.{name}"] = op
    return found


def node_of(op, dtype):
    """Return the node of an operation on vectors of a dtype, or None if Theano refuses it."""
    n_inputs = op.nin if op.nin > 0 else 3
    try:
        return T.Elemwise(op)(*(T.vector(dtype=dtype) for _ in range(n_inputs))).owner
    except (TypeError, NotImplementedError, AssertionError):
        return None


def sample(dtype, seed):
    """Return numbers for which every operation is defined, with a result of moderate size."""
    values = np.random.RandomState(seed).uniform(0.2, 0.9, size=50)
    kind = np.dtype(dtype).kind
    if kind in "iu":
        values = np.ceil(5 * values)
    elif kind == "c":
        values = values + 0.3j * values[::-1]
    elif kind == "b":
        values = values > 0
    return values.astype(dtype)


def test_all_scalar_operations_are_found():
    classes = {type(op) for op in scalar_operations().values()}
    abstract = {"ScalarOp", "UnaryScalarOp", "BinaryScalarOp", "LogicalComparison",
                "FixedLogicalComparison", "UnaryBitOp", "BinaryBitOp", "Composite"}
    defined = {value for module in (scalar.basic, scalar.basic_scipy)
               for value in vars(module).values()
               if isinstance(value, type) and issubclass(value, scalar.ScalarOp)}
    assert {op_class.__name__ for op_class in defined - classes} == abstract


#: What C computes where Theano's Python is wrong: it exchanges the arguments of gammaincc.
AS_IN_C = {"basic_scipy.gammaincc": special.gammaincc}
#: Operations and dtypes for which Theano's Python is wrong and C code is missing.
NONSENSE = {("sigm.ultra_fast_scalar_sigmoid", "complex64"),
            ("sigm.ultra_fast_scalar_sigmoid", "complex128")}


@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
@pytest.mark.parametrize("name", scalar_operations())
def test_a_scalar_operation_takes_whole_arrays(name, monkeypatch):
    """Its results are those of Theano's Python, which is not called."""
    op = scalar_operations()[name]
    n_nodes = 0
    for dtype in TYPES:
        node = node_of(op, dtype)
        if node is None:
            continue
        arrays = [sample(dtype, seed) for seed in range(len(node.inputs))]
        exact = arrays  # NumPy would compute with small integers in half precision
        if np.dtype(node.outputs[0].dtype).kind in "fc":
            exact = [array.astype(np.result_type(dtype, "float64")) for array in arrays]
        try:
            with np.errstate(all="ignore"):
                expected = [AS_IN_C.get(name, op.impl)(*numbers) for numbers in zip(*exact)]
        except (TypeError, NotImplementedError, ValueError):
            continue  # NumPy refuses the dtype
        with monkeypatch.context() as patch:
            patch.setattr(type(op), "impl", lambda self, *args: pytest.fail("number by number"))
            result = [None]
            node.op.perform(node, arrays, [result])
        assert result[0].dtype == node.outputs[0].dtype and result[0].shape == (50,)
        if (name, dtype) not in NONSENSE:
            precision = 3e-3 if "float16" in (dtype, result[0].dtype.name) else 1e-5
            expected = np.asarray(expected).astype(result[0].dtype)
            value, expected = (array.astype("complex128") for array in (result[0], expected))
            np.testing.assert_allclose(value, expected, precision, precision, err_msg=dtype)
        n_nodes += 1
    assert n_nodes


def test_types_that_differ():
    """An int64 and a uint64 have the common dtype float64 in NumPy and Theano, but not in C."""
    signed, unsigned = T.lvector(), T.vector(dtype="uint64")
    small, wide, flag = T.bvector(), T.dvector(), T.vector(dtype="bool")
    results = theano.function([signed, unsigned, small, wide, flag], [
        T.eq(signed, unsigned), T.lt(signed, unsigned), T.and_(signed, unsigned),
        T.or_(small, signed), small + wide, flag * wide, small / signed, T.maximum(small, wide),
        T.switch(flag, small, wide), signed // small], mode=theano.Mode("py"))(
            [2**53 + 1, 6], np.array([2**53, 7], "uint64"), [3, -4], [0.5, 2.5], [True, False])
    expected = [[False, False], [False, True], [2**53, 6], [2**53 + 3, -2], [3.5, -1.5], [0.5, 0],
                [3 / (2**53 + 1), -4 / 6], [3, 2.5], [3, 2.5], [(2**53 + 1) // 3, -2]]
    for value, expected_value in zip(results, expected):
        np.testing.assert_allclose(value, expected_value, rtol=1e-6)


@pytest.mark.parametrize("name, types, x, y, expected", [
    ("int_div", "int64 float64", [12, -8], [-2.5, 3.], [-5, -3]),
    ("int_div", "int8 uint64", [-4], [5], [-1]),
    ("mod", "int32 uint64", [-1], [6], [5]),
    ("pow", "int32 float64", [8], [1.8], [42]),  # 42.2
    ("add", "int8 float32", [3, -3], [2.9, -2.9], [5, -5]),
    ("sub", "bool float64", [True], [0.5], [False]),
    ("add", "bool float64", [False], [0.5], [True]),
])
def test_a_result_of_an_arguments_type(name, types, x, y, expected):
    """An operation in place computes in its default dtype, and then converts the result."""
    x, y = (np.array(value, dtype) for value, dtype in zip((x, y), types.split()))
    operation = T.Elemwise(type(getattr(scalar, name))(scalar.transfer_type(0)))
    arguments = [T.vector(dtype=dtype) for dtype in types.split()]
    for linker in ["py", "cvm"] if theano.config.cxx else ["py"]:
        function = theano.function(arguments, operation(*arguments), mode=theano.Mode(linker, None))
        result = function(x, y)
        assert result.dtype == x.dtype and result.tolist() == expected, linker


def test_a_class_derived_from_theanos_fused_operation():
    """Batch normalisation uses such a class."""
    x, *parameters = T.matrix(), *(T.vector() for _ in range(4))
    rng = np.random.RandomState(0)
    values = rng.rand(4, 3), *rng.rand(4, 3)
    normalised = T.nnet.bn.batch_normalization(x, *parameters, mode="high_mem")
    f = theano.function([x, *parameters], normalised, mode=theano.Mode("py", "fast_run"),
                        allow_input_downcast=True)
    scale, shift, mean, deviation = values[1:]
    np.testing.assert_allclose(f(*values), (values[0] - mean) * scale / deviation + shift, rtol=1e-5)


def test_a_users_operation_is_computed_by_its_own_function():
    calls = []

    class Cube(scalar.UnaryScalarOp):
        def impl(self, x):
            return x ** 3

    class Hypotenuse(scalar.BinaryScalarOp):
        nfunc_spec = ("hypot", 2, 1)

    class Named(scalar.BinaryScalarOp):
        """Its nfunc_spec is given to the operation on arrays."""

    class OneMore(scalar.Add):
        """It inherits an nfunc_spec of a function that computes something else."""
        def impl(self, x, y):
            return x + y + 1

    class QuotientAndRest(scalar.ScalarOp):
        nin, nout = 2, 2

        def impl(self, x, y):
            calls.append(x)
            return divmod(x, y)

    x, y = T.fvectors(2)
    cube, hypotenuse, more = (T.Elemwise(op_class(scalar.upcast_out))
                              for op_class in (Cube, Hypotenuse, OneMore))
    named = T.Elemwise(Named(scalar.upcast_out), nfunc_spec=("hypot", 2, 1))
    both = T.Elemwise(QuotientAndRest(lambda *types: types))
    result = theano.function(
        [x, y], [cube(x), hypotenuse(x, y), named(x, y), more(x, y), *both(y, x)],
        mode=theano.Mode("py"))
    values = result([3] * 5, [4] * 5)
    assert len(calls) == 5
    for value, expected in zip(values, [27, 5, 5, 8, 1, 1]):
        np.testing.assert_array_equal(value, np.full(5, expected, "float32"))


# --- expressions ---

def expression(function, *patterns, in_place=None):
    """Return a fused operation on float32, with the broadcast dimensions of each argument."""
    inputs = [scalar.float32() for _ in patterns]
    composite = scalar.Composite(inputs, [function(*inputs)])
    return expressions.Expression(composite, [("float32", pattern) for pattern in patterns],
                                  ["float32"], in_place or {})


def test_an_expression_of_numbers_is_computed_once():
    source = expression(lambda x, a, y: x - 2 * a * y, (False,), (True,), (False,))._run.source
    before, after = source.split("for i0")
    assert before.count("multiply") == 1 and after.count("multiply") == 1


def test_numbers_have_the_dtypes_that_theano_states():
    """NumPy's own functions give half precision for an int8."""
    x = scalar.int8()
    results = theano.function([x], [scalar.exp(x), scalar.true_div(x, x), x * x],
                              mode=theano.Mode("py"))(3)
    assert [result.dtype.name for result in results] == ["float32", "float32", "int8"]
    np.testing.assert_allclose(results, [np.exp(3), 1, 9], rtol=1e-6)


def test_names_do_not_collide():
    """SciPy's i0 is not the argument i0."""
    compute = expression(lambda x: scalar.basic_scipy.i0(scalar.basic_scipy.i1(x)) + x, (False,))
    result, = compute([np.full(3, 0.5, "float32")])
    np.testing.assert_allclose(result, special.i0(special.i1(0.5)) + 0.5, rtol=1e-6)


def test_registers_of_dead_values_are_reused():
    source = expression(lambda x: scalar.exp(scalar.sin(scalar.cos(x * x))), (False,))._run.source
    assert "r0" in source and "r1" not in source


@pytest.mark.parametrize("n", [1, 100, 5000, 2**14, 2**14 + 1, 100_000])
@pytest.mark.parametrize("layout", [lambda a: a, lambda a: a[::-1], lambda a: a.repeat(2)[::2]])
def test_blocks_cover_the_arrays(n, layout):
    compute = expression(lambda x, y, a: scalar.exp(-scalar.sqr(x)) * y + a * x,
                         (False,), (False,), (True,), in_place={0: 1})
    x, y, a = layout(sample("float32", 0).repeat(n // 50 + 1)[:n]), np.arange(n) % 7, np.ones(1)
    y, a = y.astype("float32"), a.astype("float32")
    expected = np.exp(-x**2) * y + a * x
    result, = compute([x, y, a])
    assert result is y
    np.testing.assert_allclose(result, expected, rtol=1e-5)


@pytest.mark.parametrize("layout", ["C", "F"])
@pytest.mark.parametrize("in_place", [{}, {0: 0}])
@pytest.mark.parametrize("patterns", [
    ["xy", "xy", ".."], ["xy", ".y", "x."], ["x.", ".y", ".."], ["..", "..", ".."],
    ["xy", "x.", "xy"], ["x", ".", "x"], ["", "", ""], ["xyz", ".y.", "x.z"]])
def test_small_and_large_arrays_have_the_same_results(patterns, in_place, layout):
    """Small arrays have a function of their own."""
    broadcast = [tuple(letter == "." for letter in pattern) for pattern in patterns]
    if tuple(map(all, zip(*broadcast))) != broadcast[0]:
        in_place = {}  # the first argument has not the shape of the result
    compute = expression(lambda x, y, a: scalar.exp(-scalar.sqr(x)) * y + a * x, *broadcast,
                         in_place=in_place)
    random = np.random.RandomState(0)
    for lengths in ({"x": 3, "y": 2, "z": 4}, {"x": 1, "y": 5, "z": 1}, {"x": 0, "y": 2, "z": 3},
                    {"x": 90, "y": 80, "z": 2}):
        x, y, a = (np.array(random.rand(*(lengths.get(letter, 1) for letter in pattern)),
                            "float32", order=layout) for pattern in patterns)
        expected = np.exp(-x**2) * y + a * x
        result, = compute([x, y, a])
        assert result.shape == expected.shape and (result is x) == bool(in_place)
        if all(array.flags.fnc for array in (x, y, a) if array.size > 1) and result.size > 1:
            assert result.flags.f_contiguous
        np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_small_arrays_that_share_memory():
    """The first result overwrites what the second would read."""
    x, y = scalar.float32(), scalar.float32()
    compute = expressions.Expression(
        scalar.Composite([x, y], [x * 2, y + 1]), [("float32", (False,))] * 2, ["float32"] * 2,
        {0: 0})
    memory = np.arange(5, dtype="float32")
    doubled, increased = compute([memory[:4], memory[1:]])
    np.testing.assert_array_equal(doubled, [0, 2, 4, 6])
    np.testing.assert_array_equal(increased, [2, 3, 4, 5])


@pytest.mark.parametrize("patterns, shapes, message", [
    (["xx", "xx"], [(3, 2), (2, 2)], r"input\[0\].shape\[0\] = 3, input\[1\].shape\[0\] = 2"),
    (["xx", ".x"], [(3, 2), (1, 3)], r"input\[0\].shape\[1\] = 2, input\[1\].shape\[1\] = 3"),
    ([".xx", "x.x"], [(1, 3, 2), (3, 1, 1)], "shape"), (["x", "x"], [(1,), (2,)], "shape")])
def test_small_arrays_of_other_lengths_are_refused(patterns, shapes, message):
    """NumPy would broadcast a length of 1."""
    compute = expression(lambda x, y: x * y + x,
                         *(tuple(letter == "." for letter in pattern) for pattern in patterns))
    with pytest.raises(ValueError, match=message):
        compute([np.ones(shape, "float32") for shape in shapes])


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64",
                    reason="the processor's mode is set on Linux x86-64 only")
def test_denormal_results_become_zero():
    """As in compiled code.  Denormal arguments, and results of other code, stay as they are."""
    compute = expression(lambda x, y: scalar.log(x) + x * y * 0, (False,), (False,))
    product = expression(lambda x, y: x * y, (False,), (False,))
    x, y = np.full(5000, 1e-40, "float32"), np.full(5000, 1000, "float32")
    np.testing.assert_allclose(compute([x, y])[0], np.log(x), rtol=1e-6)
    assert (product([x, y])[0] > 0).all() and (product([x, 1 / y])[0] == 0).all()
    assert (x / y > 0).all()


def test_an_expression_inside_another():
    """A user's operation may itself call a function of Theano's."""
    x = T.fvector()
    inner = theano.function([x], T.exp(x) - T.sqr(x), mode=theano.Mode("py"))

    class Strange(scalar.UnaryScalarOp):
        def impl(self, number):
            return inner(np.full(5000, number, "float32"))[0]

    outer = theano.function([x], T.exp(T.sin(x)) * T.Elemwise(Strange(scalar.same_out))(x) + x,
                            mode=theano.Mode("py"))
    value = np.linspace(0, 1, 5000, dtype="float32")
    np.testing.assert_allclose(
        outer(value), np.exp(np.sin(value)) * (np.exp(value) - value**2) + value, rtol=1e-5)


# --- results that take the place of arguments ---

def in_places(results, *dtypes, in_place):
    """Return a fused operation of several results, some of them in place, and one without that."""
    inputs = [scalar.get_scalar_type(dtype)() for dtype in dtypes]
    outputs = results(*inputs)
    composite = scalar.Composite(inputs, outputs)
    return [expressions.Expression(composite, [(dtype, (False,)) for dtype in dtypes],
                                   [x.dtype for x in outputs], pattern)
            for pattern in (in_place, {})]


IN_PLACE = {
    "the second reads what the first replaces": (
        lambda a, d: [a // 2 + d, (a + d) // 3], "int64 int64",
        [{0: 0}, {0: 0, 1: 1}, {0: 1, 1: 0}]),
    "three": (lambda a, b, c: [a + b, b * c, a - c], "float32 float32 float32",
              [{0: 0, 1: 1, 2: 2}, {0: 2, 1: 0, 2: 1}, {1: 0, 2: 2}]),
    "shared steps": (
        lambda a, b: [scalar.exp(a * b), scalar.exp(a * b) + a, a * b],
        "float32 float32", [{0: 0, 1: 1}, {2: 0, 0: 1}, {1: 0}]),
    "equal results": (lambda a, b: [a + b, scalar.identity(a), a + b * 2 - b], "float64 float64",
                      [{0: 0, 1: 1}, {1: 0, 2: 1}]),
    "conversions": (
        lambda a, b: [scalar.cast(a * 1.5, "float32"), scalar.cast(a + b, "int64"),
                      scalar.cast(b, "float32") / 2],
        "float32 int64", [{0: 0, 1: 1}, {2: 0, 1: 1}]),
    "exchanged": (lambda a, b: [scalar.identity(b), scalar.identity(a)], "float32 float32",
                  [{0: 0, 1: 1}, {0: 1, 1: 0}]),
}


@pytest.mark.parametrize("n", [5, 2**15])
@pytest.mark.parametrize("name", IN_PLACE)
def test_several_results_in_place(name, n):
    """Each is computed from the arguments' original values."""
    results, dtypes, patterns = IN_PLACE[name]
    random = np.random.RandomState(0)
    for pattern in patterns:
        replacing, plain = in_places(results, *dtypes.split(), in_place=pattern)
        arrays = [random.uniform(-9, 9, n).astype(dtype) for dtype in dtypes.split()]
        expected = plain([array.copy() for array in arrays])
        values = replacing(arrays)
        for k, (value, expected_value) in enumerate(zip(values, expected)):
            np.testing.assert_array_equal(value, expected_value)
            assert k not in pattern or value is arrays[pattern[k]]


@pytest.mark.parametrize("n", [6, 2**15 + 2])
@pytest.mark.parametrize("first, second", [
    (np.s_[:], np.s_[:]), (np.s_[:], np.s_[::-1]), (np.s_[1:], np.s_[:-1]), (np.s_[:-1], np.s_[1:]),
    (np.s_[::2], np.s_[1::2]), (np.s_[:3], np.s_[4:1:-1])])
def test_arguments_that_share_memory(first, second, n):
    replacing, plain = in_places(lambda a, b: [a + 2 * b, a - b], "float32", "float32",
                                 in_place={0: 0})
    memory = np.arange(n, dtype="float32")
    expected = plain([memory[first].copy(), memory[second].copy()])
    for value, right in zip(replacing([memory[first], memory[second]]), expected):
        np.testing.assert_array_equal(value, right)


def test_a_number_in_memory_that_is_overwritten():
    compute = expression(lambda x, a: x + a, (False,), (True,), in_place={0: 0})
    memory = np.ones(2**15, "float32")
    np.testing.assert_array_equal(compute([memory, memory[:1]])[0], np.full(2**15, 2))


# --- whole programs ---

@pytest.mark.slow
def test_training_is_that_of_compiled_code(session):
    compiled = session.quietly(TRAINING_STEP)
    assert session.quietly(TRAINING_STEP, THEANO_FLAGS="cxx=") == compiled


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="a system without timers")
def test_an_interrupt_waits_for_the_end_of_a_function(session):
    """Otherwise, within a few interrupts, a parameter holds what an operation in place has left."""
    session.quietly(TRAINING_STEP + """
import random, signal
train = theano.function([x], loss, updates=lasagne.updates.adam(loss, params))
handler = signal.getsignal(signal.SIGINT)
signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
random.seed(0)
interrupted = 0
for _ in range(400):
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-4, 1e-2))
            train(images)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        interrupted += 1
    assert signal.getsignal(signal.SIGINT) is handler
assert interrupted > 20, interrupted
assert np.isfinite(train(images)), train(images)
""", THEANO_FLAGS="cxx=")


def test_products_take_one_thread(session):
    show = """
        import vae, theano, threadpoolctl
        print(max(pool["num_threads"] for pool in threadpoolctl.threadpool_info()))
    """
    assert session.quietly(show, THEANO_FLAGS="cxx=") == "1"
    several = session.quietly(show, THEANO_FLAGS="cxx=", OPENBLAS_NUM_THREADS="2")
    assert several == str(min(2, os.cpu_count()))


if __name__ == "__main__":
    {"graphs": save_graphs, "types": save_on_types}[sys.argv[1]](sys.argv[2])


@pytest.mark.parametrize("flags", ["", "cxx="])
def test_the_largest_of_64_bit_integers_is_rounded(session, flags):
    """Theano's C computes it in doubles."""
    assert session.quietly(PRELUDE + """
i, u = T.lmatrix(), T.matrix(dtype="uint64")
f = theano.function([i, u], [i.max(), i.min(), i.max(axis=1), u.max(axis=0)])
odd = 2**53 + 1
print(*(value.tolist() for value in f([[odd, 3], [odd + 2, -odd]], [[odd], [1]])))
""", THEANO_FLAGS=flags) == (f"{2**53 + 4} {-2**53} {[2**53, 2**53 + 4]} {[2**53]}")


@pytest.mark.parametrize("flags", ["", "cxx="])
def test_a_fraction_cast_to_an_integer_and_back_has_no_sign(session, flags):
    assert session.quietly(PRELUDE + """
x = T.dvector()
i, j = T.lvectors(2)
results = [factor * T.cast(T.cast(x * 0.5, dtype), "float64")
           for dtype in ["int8", "int32", "int64"] for factor in (1, 1.5)]
results += theano.function([i, j], T.cast(i ** j, "float64"))([-2], [-1]),
zeros = [*theano.function([x], results[:-1])([-0.5, -1.5, 0.5]), results[-1]]
print(np.concatenate(zeros).any(), np.signbit(np.concatenate(zeros)).any())
""", THEANO_FLAGS=flags) == "False False"
