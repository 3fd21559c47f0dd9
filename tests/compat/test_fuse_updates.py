"""Fused updates have the same results as separate updates."""

from collections import Counter

import vae  # noqa: F401  before Theano

import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T

pytestmark = pytest.mark.slow

LINKER = "c|py" if theano.config.cxx else "vm"
MODE = theano.Mode(linker=LINKER, optimizer="fast_run")
WITHOUT_FUSION = MODE.excluding("fuse_shared_updates")

#: How many results the fused operation for a parameter has.
OPTIMISERS = {"sgd": 1, "momentum": 2, "nesterov_momentum": 2, "adagrad": 2, "rmsprop": 2,
              "adam": 3, "adadelta": 2}


def results_of_loops(function):
    """Count a function's elementwise operations by their number of results."""
    return Counter(len(node.outputs) for node in function.maker.fgraph.apply_nodes
                   if isinstance(node.op, T.Elemwise))


def trained(optimiser, mode):
    """Return a training step and, after three of them, their losses and all shared variables."""
    rng = np.random.RandomState(0)
    x = T.matrix()
    parameters = [theano.shared(rng.randn(*shape).astype("float32"))
                  for shape in [(6, 5), (5,), (5, 3), (1, 3)]]
    hidden = T.tanh(T.dot(x, parameters[0]) + parameters[1])
    loss = T.sqr(T.dot(hidden, parameters[2]) + T.addbroadcast(parameters[3], 0) - 1).mean()
    updates = getattr(lasagne.updates, optimiser)(loss, parameters, learning_rate=0.1)
    step = theano.function([x], loss, updates=updates, mode=mode)
    losses = [step(rng.randn(4, 6).astype("float32")) for _ in range(3)]
    return step, [*losses, *(state.get_value() for state in updates)]


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_a_parameter_and_its_moments_are_updated_at_once(optimiser):
    step, state = trained(optimiser, MODE)
    if OPTIMISERS[optimiser] > 1:
        assert results_of_loops(step)[OPTIMISERS[optimiser]] == 4
    for node in step.maker.fgraph.apply_nodes:
        if isinstance(node.op, T.Elemwise) and len(node.outputs) > 1:
            assert len(node.op.inplace_pattern) == len(node.outputs), "memory is not used again"
    without, expected = trained(optimiser, WITHOUT_FUSION)
    assert set(results_of_loops(without)) == {1}
    for value, expected_value in zip(state, expected):
        np.testing.assert_allclose(value, expected_value, rtol=1e-5, atol=1e-6)


def random_program(rng):
    """Return shared variables, updates that share intermediate results, and one such result."""
    shared = [theano.shared(rng.randn(3, 3).astype("float32")) for _ in range(4)]
    shared.append(theano.shared(rng.randn(3).astype("float32")))
    known = list(shared)

    def pick():
        return known[rng.randint(len(known))]

    makers = [lambda: pick() + pick(), lambda: pick() * pick(), lambda: T.tanh(pick()),
              lambda: T.dot(T.tanh(shared[rng.randint(4)] + pick()), pick()),
              lambda: pick() - pick().mean(), lambda: T.sqr(pick()) + 0.5 * pick(),
              lambda: T.switch(pick() > 0, pick(), pick()), lambda: pick()[::-1]]
    for _ in range(12):
        known.append(T.clip(makers[rng.randint(len(makers))](), -3, 3))
    updates = []
    for variable in shared:
        new = [x for x in known[len(shared):] if x.ndim == variable.ndim]
        if new:
            updates.append((variable, new[rng.randint(len(new))]))
    return shared, updates, pick()


@pytest.mark.parametrize("seed", range(30))
def test_any_updates(seed):
    """One update may depend on another through operations that are not elementwise."""
    states = []
    for mode in [theano.Mode(linker="py"),
                 theano.Mode(linker="py").excluding("fuse_shared_updates")]:
        shared, updates, result = random_program(np.random.RandomState(seed))
        step = theano.function([], result, updates=updates, mode=mode)
        states.append([step() for _ in range(2)] + [x.get_value() for x in shared])
    for value, expected in zip(*states):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [
    lambda a, b, c, d: [(a, T.tanh(a)), (b, a * T.dot(T.tanh(a), c))],
    lambda a, b, c, d: [(a, T.tanh(a)), (b, a * T.dot(T.tanh(c), d)),
                        (c, c * T.dot(T.tanh(a), d)), (d, T.tanh(c))]],
    ids=["one needs the other", "two pairs need one another"])
def test_updates_that_cannot_be_fused(make):
    states = []
    for mode in [MODE, WITHOUT_FUSION]:
        rng = np.random.RandomState(0)
        shared = [theano.shared(rng.randn(3, 3).astype("float32")) for _ in range(4)]
        theano.function([], updates=make(*shared), mode=mode)()
        states.append([x.get_value() for x in shared])
    for value, expected in zip(*states):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


# --- updates that read variables that others overwrite ---

def as_written(shared, make, n_steps):
    """Compute the updates in NumPy: in each step all new values, then all assignments."""
    values = [x.get_value() for x in shared]
    for _ in range(n_steps):
        values = [np.asarray(new, value.dtype) for value, new in zip(values, make(*values))]
    return values


READ_EACH_OTHER = [
    pytest.param("int64", [0, 0], lambda i, e: [i + 1, i % 3], id="a counter and a ring's index"),
    pytest.param("int64", [5, 3], lambda i, e: [i + 1, (i + e) // 2], id="a mean of integers"),
    pytest.param("int32", [[1, 5], [3, 9]], lambda a, d: [a // 2 + d, (a + d) // 3],
                 id="vectors of integers"),
    pytest.param("int8", [[1, 5], [3, 9]], lambda a, d: [d, a], id="a swap"),
    pytest.param("int64", [[1, 2], [3, 4], [5, 6]], lambda a, b, c: [b + c, c + a, a + b],
                 id="three in a ring"),
    pytest.param("float32", [[1, 5], [3, 9]], lambda a, v: [a + v * .1, v * .9 - a * .1],
                 id="a spring"),
    pytest.param("float64", [[1, 5], [3, 9]], lambda a, v: [a + v * .1, v * .9 - a * .1],
                 id="a spring in doubles"),
    pytest.param("float64", [[1, 5], [3, 9], [2, 4]],
                 lambda a, b, c: [b * c + a, a * c - b, a * b + c * c], id="three products"),
    pytest.param("float32", [[1.5, 5], [3, 9]], lambda a, b: [a // b + b, b % (a + 1) + a],
                 id="division of floats"),
    pytest.param("float64", [1, 2], lambda a, b: [a * b, a + b], id="numbers"),
]

ENVIRONMENTS = {
    "OpenMP": {"THEANO_FLAGS": "openmp=True,openmp_elemwise_minsize=0"},
    "Theano's loops": {"THEANO_COMPAT_OFF": "vectorise_loops"},
    "no fused updates": {"THEANO_COMPAT_OFF": "fuse_updates"},
    "nothing for speed": {"THEANO_COMPAT_OFF": "speed"},
    "no compiler": {"THEANO_FLAGS": "cxx="},
    "no compiler, Theano's Python": {"THEANO_FLAGS": "cxx=", "THEANO_COMPAT_OFF": "without_compiler"},
}


def test_updates_that_read_each_other():
    """All in one function, which compiles in less time than one for each."""
    updates, expected = [], []
    for case in READ_EACH_OTHER:
        dtype, start, make = case.values
        shared = [theano.shared(np.asarray(value, dtype)) for value in start]
        expected += [(case.id, x, value)
                     for x, value in zip(shared, as_written(shared, make, n_steps=3))]
        updates += [(x, T.cast(new, dtype)) for x, new in zip(shared, make(*shared))]
    step = theano.function([], [], updates=updates)
    for _ in range(3):
        step()
    for name, x, value in expected:
        np.testing.assert_allclose(x.get_value(), value, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_updates_that_read_each_other_whatever_is_left_out(environment, warm):
    """Leaving out a patch must not cause a fault."""
    same_test = f"{__file__}::test_updates_that_read_each_other"
    arguments = ["-q", "-n", "0", "-p", "no:cacheprovider", same_test]
    warm.run(f"import pytest, sys; sys.exit(pytest.main({arguments!r}))",
             **ENVIRONMENTS[environment])


class OfItsOwn(theano.scalar.UnaryScalarOp):
    def impl(self, x):
        return 2 * x

    def c_code(self, node, name, inputs, outputs, sub):
        return f"{outputs[0]} = 2 * {inputs[0]};"


own = T.Elemwise(OfItsOwn(theano.scalar.same_out, name="own"))


@pytest.mark.parametrize("dtype, make", [
    pytest.param("int64", lambda a, b, c: [(a, a + b), (b, a - b)], id="whole numbers"),
    pytest.param("float16", lambda a, b, c: [(a, a + b), (b, a - b)], id="half precision"),
    pytest.param("float32", lambda a, b, c: [(a, own(a + b)), (b, own(a - b))],
                 id="an operation of the program's own"),
    pytest.param("float32", lambda a, b, c: [(a, a + b), (c, c * 2)], id="other shapes"),
])
def test_what_is_not_joined(dtype, make):
    a, b = (theano.shared(np.arange(1, 4).astype(dtype)) for _ in range(2))
    c = theano.shared(np.ones((3, 1), "float32"))
    updates = make(a, b, c)
    assert set(results_of_loops(theano.function([], [], updates=updates, mode=MODE))) == {1}


def test_inputs_with_updates_are_not_joined():
    """Nor are the states of a loop in Scan: each must overwrite its own input."""
    a, b = T.fvectors("ab")
    step = theano.function([theano.In(a, value=np.ones(3, "float32"), update=a + b),
                            theano.In(b, value=np.ones(3, "float32"), update=a - b)],
                           [a, b], mode=MODE)
    assert set(results_of_loops(step)) == {1}
    assert [x.tolist() for x in step()] == [[1] * 3, [1] * 3]
    assert [x.tolist() for x in step()] == [[2] * 3, [0] * 3]


@pytest.mark.parametrize("part", [
    pytest.param(lambda base: (base, base), id="one array"),
    pytest.param(lambda base: (base[:3], base[1:]), id="one before the other"),
    pytest.param(lambda base: (base[1:], base[:3]), id="one after the other"),
])
def test_shared_variables_of_one_array(part):
    """Separate updates give NumPy's results, though Theano expects arrays that do not overlap."""
    shared = [theano.shared(x, borrow=True) for x in part(np.arange(1, 5, dtype="float32"))]

    def make(a, b):
        return [a + b, a * b + 1]

    expected = as_written(shared, make, n_steps=3)
    step = theano.function([], [], updates=list(zip(shared, make(*shared))), mode=MODE)
    for _ in range(3):
        step()
    for x, value in zip(shared, expected):
        np.testing.assert_array_equal(x.get_value(), value)


# --- loops of Scan: with several states, their gradients have updates, too ---

def random_step(rng, n_states):
    """Return a step of a loop, for Theano or NumPy: sums of products of random pairs of states."""
    pairs = rng.randint(n_states + 1, size=(n_states, 2, 2))

    def step(x, *states):
        total = sum(states)
        known = [*states, total * x]
        return [0.3 * (known[a] * known[b] + known[c] * known[d]) + 0.1 * total * x
                for (a, b), (c, d) in pairs]

    return step


def gradients_of(step, starts, sequence, unrolled):
    states, x = [T.dvector() for _ in starts], T.dmatrix()
    if unrolled:
        last = list(states)
        for turn in range(len(sequence)):
            last = step(x[turn], *last)
    else:
        results, _ = theano.scan(step, sequences=x, outputs_info=states)
        last = [result[-1] for result in results]
    loss = sum((number + 1) * value.sum() for number, value in enumerate(last))
    mode = theano.Mode("py", None) if unrolled else None
    gradients = theano.function([x, *states], theano.grad(loss, [x, *states]), mode=mode)
    return gradients(sequence, *starts)


@pytest.mark.parametrize("seed, n_states", [(0, 2), *((seed, 3) for seed in range(5))])
def test_gradients_through_scan(seed, n_states):
    rng = np.random.RandomState(seed)
    step = random_step(rng, n_states)
    starts, sequence = rng.uniform(0.3, 1, (n_states, 3)), rng.uniform(0.5, 1.5, (5, 3))
    looped = gradients_of(step, starts, sequence, unrolled=False)
    for value, expected in zip(looped, gradients_of(step, starts, sequence, unrolled=True)):
        np.testing.assert_allclose(value, expected, rtol=1e-9)


def test_three_states_that_read_each_other():
    """Compared with differences of the loop in Python."""
    rng = np.random.RandomState(0)
    start, sequence = rng.uniform(1, 2, (3, 3)), rng.uniform(0, 1, (6, 3))

    def step(x, a, b, c, sigmoid=T.nnet.sigmoid):
        total = a + b + c
        return [b * total + a, sigmoid(b * b + total * x), a * total]

    def loss(start):
        state = start
        for x in sequence:
            state = step(x, *state, sigmoid=lambda x: 1 / (1 + np.exp(-x)))
        return sum(factor * value.sum() for factor, value in zip((1, 2, 3), state))

    _, *gradients = gradients_of(step, start, sequence, unrolled=False)
    for place in np.ndindex(3, 3):
        shift = np.zeros((3, 3))
        shift[place] = 1e-5
        slope = (loss(start + shift) - loss(start - shift)) / 2e-5
        np.testing.assert_allclose(gradients[place[0]][place[1]], slope, rtol=1e-5)


@pytest.mark.parametrize("layer_of", [lasagne.layers.LSTMLayer, lasagne.layers.GRULayer])
def test_gradients_of_three_losses_of_a_recurrent_network(layer_of):
    """One function with three losses' gradients gives those of three functions."""
    lasagne.random.set_rng(np.random.RandomState(0))
    layer = layer_of(lasagne.layers.InputLayer((4, 5, 6)), 4)
    parameters = lasagne.layers.get_all_params(layer)
    x = T.tensor3()
    first, second = (lasagne.layers.get_output(layer, x) for _ in range(2))
    losses = [first.sum(), T.sqr(second).sum(), (second * T.arange(4)).sum()]
    gradients = [theano.grad(loss, parameters) for loss in losses]
    sequences = np.random.RandomState(1).uniform(-1, 1, (4, 5, 6)).astype("float32")
    at_once = theano.function([x], sum(gradients, []))(sequences)
    each = sum((theano.function([x], of_loss)(sequences) for of_loss in gradients), [])
    for value, expected in zip(at_once, each):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
