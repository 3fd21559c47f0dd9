"""Kept graphs: a graph from the disk is the same as the result of the optimiser."""

import functools
import io
import os
import time
from collections import OrderedDict

import vae

import lasagne
import numpy as np
import pytest
import theano
import theano.sparse
import theano.tensor as T
from programs import PRELUDE, TRAINING_STEP
from theano.gof import Apply, Op, local_optimizer
from theano.ifelse import ifelse
from theano.sandbox.rng_mrg import MRG_RandomStreams
from theano.tensor.signal import pool

from theano_compat.originals import as_imported
from theano_compat.speed import keep_graphs

pytestmark = pytest.mark.process

LINKER = "cvm" if theano.config.cxx else "vm"
MODE = theano.Mode(linker=LINKER, optimizer="fast_run")
N_ROWS = 6


class Folder:
    """A folder for graphs, and how many have been restored from it."""

    def __init__(self, path):
        self.path, self.n_restored = path, 0

    def files(self):
        return sorted(self.path.glob("*"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folder = Folder(tmp_path / "graphs")
    load = keep_graphs._load

    def counted(*args):
        loaded = load(*args)
        folder.n_restored += loaded
        return loaded

    monkeypatch.setattr(keep_graphs, "_MIN_OPERATIONS", 0)
    monkeypatch.setattr(keep_graphs, "_folder", lambda: folder.path)
    monkeypatch.setattr(keep_graphs, "_load", counted)
    return folder


# --- programs: each gives a function's arguments, outputs and updates ---

def shared(*shape, seed=0, dtype="float32"):
    return theano.shared(np.random.RandomState(seed).randn(*shape).astype(dtype))


def seminar(x):
    np.random.seed(1)
    images = x[:, :4].reshape((-1, 1, 2, 2))
    network = lasagne.layers.DenseLayer(
        lasagne.layers.InputLayer((None, 1, 2, 2), images), 5)
    loc = lasagne.layers.DenseLayer(network, 3, nonlinearity=None)
    scale = lasagne.layers.DenseLayer(network, 3, nonlinearity=T.nnet.softplus)
    q = vae.MultivariateNormalDiag(*lasagne.layers.get_output([loc, scale]))
    decoder = lasagne.layers.DenseLayer(
        lasagne.layers.InputLayer((None, 3), q.loc + q.scale * T.ones_like(q.loc)), 4,
        nonlinearity=None)
    p = vae.BinaryVector(lasagne.layers.get_output(decoder).reshape((-1, 1, 2, 2)))
    loss = -T.mean(p.log_prob(T.gt(images, 0)) - q.log_prob(q.loc))
    parameters = lasagne.layers.get_all_params([loc, scale, decoder], trainable=True)
    return [loss], lasagne.updates.adam(loss, parameters)


def classifier(x):
    W, b = shared(7, 3), shared(3)
    answers = T.arange(x.shape[0]) % 3
    loss = T.nnet.categorical_crossentropy(T.nnet.softmax(T.dot(x, W) + b), answers).mean()
    return [loss], lasagne.updates.nesterov_momentum(loss, [W, b], 0.1)


def convolutions(x):
    filters = shared(2, 1, 2, 2)
    images = T.nnet.conv2d(x.reshape((-1, 1, 1, 7)).repeat(4, axis=2), filters)
    loss = pool.pool_2d(T.nnet.relu(images), (2, 2), ignore_border=True).sum()
    return [loss, images], [(filters, filters - 0.01 * T.grad(loss, filters))]


def recurrent(x):
    W = shared(7, 7)
    states, _ = theano.scan(lambda row, state: T.tanh(T.dot(state, W) + row), x,
                            outputs_info=T.zeros(7))
    loss = T.sqr(states[-1]).sum()
    return [loss, states], [(W, W - 0.1 * T.grad(loss, W))]


def two_scans(x):
    total, _ = theano.scan(lambda row, before: before + row.sum(), x, outputs_info=T.zeros(()))
    back, _ = theano.scan(lambda row: row * 2, x, go_backwards=True)
    return [total, back], []


def random_numbers(x):
    stream = MRG_RandomStreams(5)
    return [x + stream.normal(x.shape), stream.uniform((3,))], []


def old_random_numbers(x):
    stream = T.shared_randomstreams.RandomStreams(5)
    return [x * stream.binomial(x.shape, p=0.5, dtype="float32")], []


def choices(x):
    return [ifelse(T.gt(x.sum(), 0), x * 2, x / 2), T.switch(x > 0, x, -x)], []


def sparse(x):
    matrix = theano.sparse.csr_from_dense(T.switch(x > 0, x, 0))
    return [theano.sparse.dot(matrix, shared(7, 2)), theano.sparse.sp_sum(matrix, axis=0)], []


def graphs_as_operations(x):
    a, b = T.matrices("ab")
    op = theano.OpFromGraph([a, b], [T.exp(a) + b, a * b])
    return [*op(x, x + 1), T.grad(sum(y.sum() for y in op(x, x)), x)], []


def indices(x):
    return [x[::-1, 1:3], T.set_subtensor(x[2], 0), T.inc_subtensor(x[[0, 0, 1]], 1),
            x[x > 0], x[T.arange(3), T.arange(3)]], []


def reductions(x):
    return [x.sum(0), x.max(1), T.argmax(x, 1), x.mean(), x.std(1, keepdims=True), T.prod(x),
            T.any(x > 1), T.cumsum(x, 0), T.sort(x, 1), T.argsort(x, 0)], []


def shapes(x):
    return [T.concatenate([x, x.T.reshape(x.shape)], 1), x.flatten(), x.dimshuffle(1, "x", 0),
            T.stack([x[0], x[1]]), T.alloc(x[0], 2, 7), T.tile(x, (2, 1)), x.shape], []


def the_same_twice(x):
    y = T.exp(x)
    return [y, y, x, T.constant(3.)], []


def overwritten(x):
    a, b = shared(3, 3), shared(3, 3, seed=1)
    return [a.sum()], OrderedDict([(a, b * 2), (b, a + 1), (shared(2), T.ones(2, "float32"))])


def of_other_types(x):
    return [T.cast(x, "int8") // 2, T.cast(x, "float64") * 1e300, T.cast(x, "complex64") * 1j,
            T.bitwise_and(T.cast(x, "int16"), 3)], []


def linear_algebra(x):
    square = T.dot(x.T, x) + 10 * T.eye(7)
    return [T.nlinalg.matrix_inverse(square), T.nlinalg.det(square), T.batched_dot(
        x.dimshuffle(0, "x", 1), x.dimshuffle(0, 1, "x")), T.tensordot(x, x, [[0], [0]])], []


PROGRAMS = [seminar, classifier, convolutions, recurrent, two_scans, random_numbers,
            old_random_numbers, choices, sparse, graphs_as_operations, indices, reductions, shapes,
            the_same_twice, overwritten, of_other_types, linear_algebra]


def compiled(program, mode):
    x = T.matrix("x")
    outputs, updates = program(x)
    return theano.function([x], outputs, updates=updates, mode=mode, on_unused_input="ignore",
                           allow_input_downcast=True)


def printed(function):
    text = io.StringIO()
    theano.printing.debugprint(function, file=text, print_type=True)
    return text.getvalue()


def results(function):
    """Return the results of three calls, and the shared variables after them."""
    rng = np.random.RandomState(3)
    values = []
    for _ in range(3):
        values += function(rng.randn(N_ROWS, 7).astype("float32"))
    return values + [x.get_value() for x in function.get_shared()
                     if isinstance(x.get_value(), np.ndarray)]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["fast_run", "fast_compile"])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_kept_graph_is_the_same_graph(folder, program, optimizer):
    mode = theano.Mode(linker=LINKER, optimizer=optimizer)
    new = compiled(program, mode)
    folder.n_restored = 0
    kept = compiled(program, mode)
    assert folder.n_restored >= 1
    assert printed(kept) == printed(new)
    for value, expected in zip(results(kept), results(new), strict=True):
        np.testing.assert_array_equal(value, expected)


# --- any difference leads to another file ---

def of_x(make, dtype="float32", broadcastable=(False, False), mode=MODE, name="x", value=2.0,
         **options):
    """Compile `make(x, value)`, a function of one matrix."""
    x = T.TensorType(dtype, broadcastable)(name)
    return theano.function([theano.In(x, **options)], make(x, value), mode=mode)


def product(x, value):
    return x * value


def scanned(x, value, **options):
    return theano.scan(lambda row, before: before * value + row.sum(), x,
                       outputs_info=T.zeros(()), **options)[0]


def updated(which, new=lambda a, b: a + b):
    a, b = shared(2), shared(2, seed=1)
    return theano.function([], a * b, updates=[((a, b)[which], new(a, b))], mode=MODE)


VARIANTS = [
    lambda: of_x(product),
    lambda: of_x(product, dtype="float64"),
    lambda: of_x(product, dtype="int8"),
    lambda: of_x(product, broadcastable=(True, False)),
    lambda: of_x(product, name="y"),
    lambda: of_x(product, name=None),
    lambda: of_x(product, mutable=True),
    lambda: of_x(product, mode=MODE.excluding("fusion")),
    lambda: of_x(product, mode=MODE.excluding("inplace", "local_add_canonizer")),
    lambda: of_x(product, mode=theano.Mode(linker=LINKER, optimizer="fast_compile")),
    lambda: of_x(product, mode=theano.Mode(linker=LINKER, optimizer=None)),
    lambda: of_x(product, value=3.0),
    lambda: of_x(product, value=2),
    lambda: of_x(product, value=np.float64(2.0)),
    lambda: of_x(product, value=0.0),
    lambda: of_x(product, value=np.nan),
    lambda: of_x(product, value=np.ones((2, 2), "float32")),
    lambda: of_x(product, value=np.array([[1, 1], [1, 2]], "float32")),
    lambda: of_x(product, value=np.ones((1, 2), "float32")),
    lambda: of_x(lambda x, value: value * x),
    lambda: of_x(lambda x, value: [x * value, x]),
    lambda: of_x(lambda x, value: [x, x * value]),
    lambda: of_x(lambda x, value: [x * value, x * value]),
    lambda: of_x(lambda x, value: (lambda y: [y, y])(x * value)),
    lambda: of_x(lambda x, value: x + value),
    lambda: of_x(lambda x, value: x.sum(0)),
    lambda: of_x(lambda x, value: x.sum(1)),
    lambda: of_x(lambda x, value: x.sum(0, keepdims=True)),
    lambda: of_x(lambda x, value: x.sum(0, acc_dtype="float32")),
    lambda: of_x(lambda x, value: x.max(0)),
    lambda: of_x(lambda x, value: x[1:]),
    lambda: of_x(lambda x, value: x[2:]),
    lambda: of_x(lambda x, value: x[:, 1:]),
    lambda: of_x(lambda x, value: x[::2]),
    lambda: of_x(scanned),
    lambda: of_x(scanned, value=3.0),
    lambda: of_x(lambda x, value: scanned(x, value, go_backwards=True)),
    lambda: of_x(lambda x, value: scanned(x, value, truncate_gradient=2)),
    lambda: of_x(lambda x, value: theano.OpFromGraph([x], [x * 2])(x)),
    lambda: of_x(lambda x, value: theano.OpFromGraph([x], [x * 3])(x)),
    lambda: updated(0),
    lambda: updated(1),
    lambda: updated(0, lambda a, b: a - b),
    lambda: updated(0, lambda a, b: b - a),
]


@pytest.mark.slow
def test_any_difference_makes_another_graph(folder, monkeypatch):
    """With all of them kept, each is the same as where nothing is kept."""
    import theano.gpuarray
    for make in VARIANTS:
        make()
    folder.n_restored = 0
    kept = [make() for make in VARIANTS]
    assert folder.n_restored >= len(VARIANTS)
    monkeypatch.setattr(theano.config, "cache_optimizations", False)
    new = [make() for make in VARIANTS]
    assert list(map(printed, kept)) == list(map(printed, new))
    assert len(set(map(printed, new))) > 0.8 * len(VARIANTS), "some differ in what is not printed"


@pytest.mark.parametrize("setting, value", [
    ("floatX", "float64"), ("cast_policy", "numpy+floatX"), ("int_division", "floatX"),
    ("warn_float64", "warn"), ("tensor.local_elemwise_fusion", False), ("openmp", True),
    ("allow_gc", False)])
def test_any_setting_makes_another_graph(folder, monkeypatch, setting, value):
    of_x(product)
    *sections, name = setting.split(".")
    config = theano.config
    for section in sections:
        config = getattr(config, section)
    monkeypatch.setattr(config, name, value)
    of_x(product)
    assert folder.n_restored == 0 and len(folder.files()) == 2


# --- graphs that are optimised each time ---

class Scaled(Op):
    """An operation of the program's own, which may be different in the next program."""
    __props__ = ()

    def make_node(self, x):
        return Apply(self, [x], [x.type()])

    def perform(self, node, inputs, outputs):
        outputs[0][0] = inputs[0] * 2


@local_optimizer([T.mul])
def of_its_own(node):
    if node.op == T.mul and len(node.inputs) == 2:
        return [node.inputs[0]]
    return None


def test_a_programs_own_operations_and_optimisations_are_not_kept(folder):
    times_two = theano.compile.ops.as_op([T.fmatrix], [T.fmatrix])(lambda x: x * 2)
    for make in [lambda x, _: Scaled()(x), lambda x, _: times_two(x),
                 lambda x, _: theano.scan(lambda row: Scaled()(row), x)[0]]:
        for _ in range(2):
            assert of_x(make, mode=theano.Mode(linker="py"))([[3]]) == 6
    ours = theano.gof.TopoOptimizer(of_its_own)
    for mode in [MODE.register((ours, 0.5)), theano.Mode(LINKER, ours)]:
        for _ in range(2):
            assert of_x(product, mode=mode)([[3]]) == 3
    assert of_x(product)([[3]]) == 6 and of_x(product)([[3]]) == 6
    assert folder.n_restored == 1


def program_is_optimised_each_time(folder):
    """Whether two runs restore nothing, and keep nothing that an unchanged Theano would use."""
    n_files = len(folder.files())
    for _ in range(2):
        of_x(lambda x, _: T.nnet.softmax(x).sum(0))
    return folder.n_restored == 0 and len(folder.files()) == n_files


def shape_of_its_own(self, node, shapes):
    return shapes


def wrapped(owner, name):
    """Return a function of the program that calls one of Theano's."""
    original = getattr(owner, name)
    return lambda *args, **options: original(*args, **options)


@pytest.mark.parametrize("owner, name, value", [
    pytest.param(T.nnet.Softmax, "infer_shape", lambda self, node, shapes: shapes,
                 id="a method"),
    pytest.param(T.nnet.Softmax, "of_its_own", shape_of_its_own, id="a new method"),
    pytest.param(theano.Op, "infer_shape", functools.wraps(theano.Op.make_thunk)(shape_of_its_own),
                 id="a method of a base class, under a name of Theano's"),
    pytest.param(T.nnet.softmax_op, "infer_shape", functools.partial(shape_of_its_own, None),
                 id="a method of one object"),
    pytest.param(T.add, "infer_shape", lambda node, shapes: shapes, id="of another object"),
    pytest.param(T.opt, "get_scalar_constant_value", lambda x, **options: 1, id="a function"),
    pytest.param(T.TensorType, "filter_variable", wrapped(T.TensorType, "filter_variable"),
                 id="a method of a type"),
    pytest.param(theano.gof.MergeOptimizer, "apply", wrapped(theano.gof.MergeOptimizer, "apply"),
                 id="a method of an optimiser"),
])
def test_what_a_program_has_put_in_theanos_place(folder, monkeypatch, owner, name, value):
    monkeypatch.setattr(owner, name, value, raising=False)
    assert program_is_optimised_each_time(folder)


def test_one_of_theanos_functions_in_place_of_another(folder, monkeypatch):
    of_x(lambda x, _: T.nnet.softmax(x).sum(0))
    monkeypatch.setattr(T.nnet.Softmax, "infer_shape", theano.Op.__dict__.get(
        "infer_shape", T.nnet.SoftmaxGrad.infer_shape))
    of_x(lambda x, _: T.nnet.softmax(x).sum(0))
    assert folder.n_restored == 0 and len(folder.files()) == 2


def test_what_any_program_does_is_no_change_of_theano(warm):
    """Settings, imports, loops, random numbers, pickles, DebugMode, errors and profiles."""
    warm.quietly(PRELUDE + """
import io, pickle, warnings
warnings.simplefilter("ignore")
import theano.sparse, theano.tensor.slinalg
from theano.sandbox.rng_mrg import MRG_RandomStreams
from theano.tensor.shared_randomstreams import RandomStreams
from theano_compat.originals import as_imported
x, v, s = T.matrix(), T.vector(), T.scalar()
for operation in T.exp, T.nnet.softsign, T.nnet.softmax, T.nnet.relu, T.erf:
    y = operation(x)
    theano.function([x], [y, theano.grad(y.sum(), x)])(np.ones((200, 300), "float32"))
    hash(operation)
products, _ = theano.scan(lambda x, y: x * y, sequences=v, outputs_info=s)
f = theano.function([v, s], theano.grad(products[-1], [v, s]))
f([1, 2], 3)
pickle.loads(pickle.dumps(f))([1, 2], 3)
theano.printing.debugprint(f, file=io.StringIO())
for streams in MRG_RandomStreams(1), RandomStreams(1):
    theano.function([], streams.normal((3,)))()
theano.function([v], v * 2, mode="DebugMode")([1])
try:
    theano.function([], v * 2)
except theano.gof.fg.MissingInputError:
    pass
assert theano.gof.graph.is_same_graph(x + 1, x + 1)
f = theano.function([v], v * 2, profile=True)
f([1])
f.profile.summary(file=io.StringIO())
theano.config.floatX = "float64"
T.dmatrix().dot(T.dmatrix())
assert as_imported.changes() == [], as_imported.changes()
T.nnet.nnet.softmax_grad = None
assert len(as_imported.changes()) == 1
""", THEANO_FLAGS="cxx=")


def test_a_function_with_other_code(folder):
    function, code = T.opt.register_canonicalize, T.opt.register_canonicalize.__code__
    try:
        function.__code__ = (lambda lopt, *tags, **kwargs: lopt).__code__
        assert program_is_optimised_each_time(folder)
    finally:
        function.__code__ = code
    assert as_imported.changes() == []


def test_edited_theano(folder, monkeypatch):
    of_x(product)
    monkeypatch.setattr(as_imported, "is_mixed", True)
    assert program_is_optimised_each_time(folder)


def test_who_watches_the_optimiser_sees_it_work(folder, monkeypatch, capsys):
    of_x(product)
    monkeypatch.setattr(theano.config, "optimizer_verbose", True)
    of_x(product)
    assert folder.n_restored == 0 and "inplace" in capsys.readouterr().out
    monkeypatch.setattr(theano.config, "optimizer_verbose", False)
    monkeypatch.setattr(theano.config, "compute_test_value_opt", "ignore")
    of_x(product)
    assert folder.n_restored == 0 and len(folder.files()) == 1


def test_what_is_large_is_not_kept(folder):
    for _ in range(2):
        of_x(lambda x, _: x * np.ones((3000, 2000), "float32"))
    assert folder.n_restored == 0 and not folder.files()


# --- files ---

@pytest.mark.parametrize("damage", [
    lambda content: b"", lambda content: content[:40], lambda content: content[:-1],
    lambda content: content[:-1] + b"?", lambda content: b"no graph" * 100,
    lambda content: keep_graphs.hashlib.sha256(b"N.").digest() + b"N."])
def test_a_damaged_file_is_replaced(folder, damage):
    of_x(product)
    file, = folder.files()
    content = file.read_bytes()
    file.write_bytes(damage(content))
    assert of_x(product)([[3]]) == 6
    assert folder.n_restored == 0 and len(file.read_bytes()) == len(content)
    assert of_x(product)([[3]]) == 6
    assert folder.n_restored == 1


def test_a_folder_that_can_not_be_written(folder):
    folder.path.write_text("a file where the folder should be")
    for _ in range(2):
        assert of_x(product)([[3]]) == 6


def test_what_nobody_has_used_for_long_is_removed(folder):
    of_x(product)
    of_x(product, value=3.)
    old, used = folder.files()
    for file in [old, used]:
        os.utime(file, (time.time() - 1e7,) * 2)
    of_x(product)
    of_x(product, value=3.)
    os.utime(old, (time.time() - 1e7,) * 2)
    of_x(product, value=4.)
    assert old not in folder.files() and used in folder.files() and len(folder.files()) == 2


# --- what the user sees ---

def test_an_error_tells_the_lines_of_this_program(folder):
    mode = theano.Mode(LINKER, "fast_compile")  # errors in fused operations have no lines

    def error_of(line):
        x, y = T.vectors("xy")
        program = compile("\n" * line + "result = T.exp(x + y)", "notebook.py", "exec")
        names = {"T": T, "x": x, "y": y}
        exec(program, names)
        with pytest.raises(ValueError) as raised:
            theano.function([x, y], names["result"], mode=mode)([1, 2], [1, 2, 3])
        return str(raised.value)

    assert 'File "notebook.py", line 4' in error_of(3)
    assert folder.n_restored == 0
    error = error_of(7)
    assert folder.n_restored == 1
    assert 'File "notebook.py", line 8' in error and '"notebook.py", line 4' not in error


def test_the_next_process_optimises_nothing(warm):
    counting = TRAINING_STEP.replace("x = T.tensor4()", """
from theano_compat.speed import keep_graphs
load = keep_graphs._load
loaded, keep_graphs._MIN_OPERATIONS = [], 0
keep_graphs._load = lambda *args: loaded.append(load(*args)) or loaded[-1]
x = T.tensor4()
""") + "print(loaded)"
    flags = {"THEANO_FLAGS": "cxx="}
    first, _ = warm.run(counting, **flags)
    second, _ = warm.run(counting, **flags)
    assert "True" not in first and "False" not in second
    assert first.splitlines()[0] == second.splitlines()[0]
    without, _ = warm.run(counting, THEANO_FLAGS="cxx=,cache_optimizations=False")
    assert without.splitlines() == [first.splitlines()[0], "[]"]


#: A program imports nothing between Theano and its own change of Theano.
AT_ONCE = """
import theano_compat, numpy as np, theano, theano.tensor as T
"""


def test_a_method_replaced_just_after_theanos_import(session):
    """A graph optimised with the program's method, and one with Theano's, stay apart."""
    replaced = "T.nnet.Softmax.infer_shape = lambda self, node, shapes: [(2 * shapes[0][0], 4)]\n"
    use = """
y = x = T.matrix()
for factor in range(1, 9):
    y = T.tanh(y * factor + y.sum(axis=1, keepdims=True))
print(theano.function([x], T.nnet.softmax(y).shape)(np.zeros((3, 4), "float32")).tolist())
"""
    for change, shape in [("", [3, 4]), (replaced, [6, 4]), ("", [3, 4]), (replaced, [6, 4])]:
        assert session.quietly(AT_ONCE + change + use, THEANO_FLAGS="cxx=") == str(shape)


def test_a_gradient_replaced_just_after_theanos_import(session):
    """One that clips: it is not linear, so that equal products must be derived one by one."""
    assert session.quietly(AT_ONCE + """
original = T.Dot.grad
T.Dot.grad = lambda self, inputs, gradients: original(
    self, inputs, [T.clip(gradients[0], -1, 1)])
x, w = T.dmatrices(2)
loss = (T.dot(x, w) * 5 + T.dot(x, w) * 7).sum()
print(theano.function([x, w], T.grad(loss, x))(np.ones((1, 2)), np.ones((2, 1))).tolist())
""", THEANO_FLAGS="cxx=") == str([[2., 2.]])
