"""Equal operations share a gradient, and the results are the same as with separate gradients."""

import functools
from collections import Counter, OrderedDict

import vae

import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from theano.gradient import disconnected_grad, grad_clip, grad_scale, zero_grad
from theano.sandbox.rng_mrg import MRG_RandomStreams

pytestmark = pytest.mark.slow

VALUE = np.random.RandomState(0).uniform(0.2, 0.9, size=(3, 3))
EXP = np.exp(VALUE)


@pytest.fixture
def x():
    return theano.shared(VALUE, "x")


@pytest.fixture
def twins(x):
    """Two equal graphs, three operations each."""
    return [T.log(1 + T.exp(x)) for _ in range(2)]


def assert_gradient(expected, *arguments, **options):
    gradient = theano.grad(*arguments, **options)
    np.testing.assert_allclose(gradient.eval(), expected, rtol=1e-10, atol=1e-12)


#: log(1 + exp(x)) and its derivative.
Y, SLOPE = np.log1p(EXP), EXP / (1 + EXP)


def operations(function):
    return Counter(str(node.op) for node in function.maker.fgraph.apply_nodes)


def test_a_network_that_is_written_twice_costs_as_much_as_one_written_once():
    images = T.tensor4()
    heads = vae.vae_encoder_mlp(images)
    parameters = lasagne.layers.get_all_params(heads, trainable=True)

    def step(loc, scale):
        lasagne.random.set_rng(np.random.RandomState(1))
        q = vae.MultivariateNormalDiag(loc, scale)
        z = q.sample()
        loss = T.mean(q.log_prob(z) + T.sum(T.sqr(z), axis=1))
        return theano.function([images], theano.grad(loss, parameters))

    once = step(*lasagne.layers.get_output(heads))
    twice = step(*map(lasagne.layers.get_output, heads))
    assert operations(twice) == operations(once)
    batch = np.random.RandomState(0).uniform(size=(5, 1, 28, 28)).astype("float32")
    for value, expected in zip(twice(batch), once(batch)):
        assert np.abs(value - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("loss, expected", [
    (lambda a, b: a * b, 2 * Y * SLOPE),
    (lambda a, b: b ** a, Y ** Y * (np.log(Y) + 1) * SLOPE),
    (lambda a, b: a - b, 0 * Y),
    (lambda a, b: a / b + b, SLOPE),
    (lambda a, b: T.sqr(T.tanh(a)) * T.tanh(b), 3 * np.tanh(Y)**2 * (1 - np.tanh(Y)**2) * SLOPE),
    (lambda a, b: T.tanh(a) * T.tanh(b) * a, (2 * np.tanh(Y) * (1 - np.tanh(Y)**2) * Y
                                              + np.tanh(Y)**2) * SLOPE),
    (lambda a, b: 2 * a + 3 * b, 5 * SLOPE),
    (lambda a, b: disconnected_grad(a) * b, Y * SLOPE),
    (lambda a, b: a * disconnected_grad(b), Y * SLOPE),
    (lambda a, b: disconnected_grad(T.exp(a)) * T.exp(b), np.exp(2 * Y) * SLOPE),
    (lambda a, b: T.grad(T.sum(a * b), a) * b, 2 * Y * SLOPE),
])
def test_what_comes_back_to_each_is_added_up(x, twins, loss, expected):
    assert_gradient(expected, T.sum(loss(*twins)), x)
    assert_gradient(expected, T.sum(loss(*twins[::-1])), x)


def test_the_gradient_with_respect_to_one_of_them_is_of_that_one(x, twins):
    a, b = twins
    loss = T.sum(a * T.sqr(b))
    assert_gradient(Y**2, loss, a)
    assert_gradient(2 * Y**2, loss, b)
    expected = [Y**2, 2 * Y**2, 3 * Y**2 * SLOPE]
    for gradient, expected in zip(theano.grad(loss, [a, b, x]), expected):
        np.testing.assert_allclose(gradient.eval(), expected)
    inner = a.owner.inputs[0]
    assert_gradient(Y**2 / (1 + EXP), loss, inner)


def test_what_is_taken_for_a_constant_or_known_is_not_the_other(x, twins):
    a, b = twins
    loss = T.sum(a * T.sqr(b))
    assert_gradient(2 * Y**2 * SLOPE, loss, x, consider_constant=[a])
    assert_gradient(Y**2 * SLOPE, loss, x, consider_constant=[b])
    assert_gradient(Y**2 * SLOPE, loss, x, consider_constant=[b, b.owner.inputs[0]])
    known = {a: T.constant(2 * VALUE), b: T.constant(5 * VALUE)}
    for part, factor in [([a, b], 7), ([a], 2), ([b], 5)]:
        assert_gradient(factor * VALUE * SLOPE, None, x,
                        known_grads=OrderedDict((one, known[one]) for one in part))


def test_constants():
    x = theano.shared(VALUE)
    assert_gradient(2 * np.exp(2 * VALUE) + 3 * np.exp(3 * VALUE),
                    T.sum(T.exp(2 * x) + T.exp(3 * x)), x)
    first, equal = T.constant(VALUE), T.constant(VALUE.copy())
    assert first is not equal
    loss = T.sum(T.exp(first) * T.sqr(T.exp(equal)))
    assert_gradient(EXP**3, loss, first)
    assert_gradient(2 * EXP**3, loss, equal)


def test_operations_of_several_results(x):
    first, second = (T.split(x, [1, 2], 2, axis=0) for _ in range(2))
    loss = T.sum(T.exp(first[0])) + T.sum(T.sqr(second[0])) + T.sum(second[1] * T.sum(first[0]))
    top, rest = VALUE[:1], VALUE[1:]
    assert_gradient(np.concatenate([np.exp(top) + 2 * top + rest.sum(), 0 * rest + top.sum()]),
                    loss, x)


def test_each_draw_is_its_own(x):
    stream = MRG_RandomStreams(1)
    draws = [stream.normal((3, 3), dtype="float64") for _ in range(2)]
    loss = T.sum(draws[0] * T.exp(x) - draws[1] * T.exp(x))
    value, *noise = theano.function([], [theano.grad(loss, x), *draws])()
    np.testing.assert_allclose(value, (noise[0] - noise[1]) * EXP)
    assert np.abs(value).max() > 0.1


def test_loops_and_higher_derivatives(x):
    def powers():
        return theano.scan(lambda power, x: power * x, outputs_info=T.ones_like(x),
                           non_sequences=x, n_steps=3)[0][-1]

    assert_gradient(6 * VALUE**5, T.sum(powers() * powers()), x)
    slope = theano.grad(T.sum(T.exp(x) * T.exp(x)), x)
    assert_gradient(4 * EXP**2, T.sum(slope), x)
    v = theano.shared(VALUE[0])
    loss = T.sum(T.exp(v) * T.exp(v))
    np.testing.assert_allclose(theano.gradient.hessian(loss, v).eval(),
                               np.diag(4 * np.exp(2 * VALUE[0])))
    np.testing.assert_allclose(theano.gradient.jacobian(T.exp(v) * T.exp(v), v).eval(),
                               np.diag(2 * np.exp(2 * VALUE[0])))
    np.testing.assert_allclose(T.Lop(T.exp(v) * T.exp(v), v, v).eval(),
                               2 * np.exp(2 * VALUE[0]) * VALUE[0])


def test_whole_numbers_and_what_is_not_there(x):
    places = [T.argmax(T.exp(x), axis=1) for _ in range(2)]
    loss = T.sum(T.exp(x)[T.arange(3), places[0]] * T.exp(x)[T.arange(3), places[1]])
    largest = VALUE == VALUE.max(axis=1, keepdims=True)
    assert_gradient(2 * EXP**2 * largest, loss, x)
    with pytest.raises(theano.gradient.DisconnectedInputError):
        theano.grad(loss, theano.shared(1.))
    assert_gradient(0, loss, theano.shared(1.), disconnected_inputs="ignore")


def test_names(x):
    loss = T.sum(T.exp(x) * T.exp(x))
    loss.name = "loss"
    assert theano.grad(loss, x).name == "(dloss/dx)"


# --- operations that must not be merged ---

class OfItsOwn(theano.Op):
    """The identity, with a gradient that its ``__eq__`` does not compare."""

    __props__ = ()

    def __init__(self, slope):
        self.slope = slope

    def make_node(self, x):
        return theano.Apply(self, [x], [x.type()])

    def perform(self, node, inputs, outputs):
        outputs[0][0] = inputs[0].copy()

    def grad(self, inputs, gradients):
        return [self.slope(gradients[0])]


class ScalarOfItsOwn(theano.scalar.UnaryScalarOp):
    """The same as a scalar operation."""

    def __init__(self, slope):
        super().__init__(theano.scalar.same_out, name="of_its_own")
        self.slope = slope

    def impl(self, x):
        return x

    def grad(self, inputs, gradients):
        return [self.slope * gradients[0]]


def elementwise_with(slope):
    return T.Elemwise(ScalarOfItsOwn(slope))


def with_its_own_gradient(slope):
    """Theano's exp, with another gradient in this one object."""
    operation = T.Elemwise(theano.scalar.Exp(theano.scalar.upgrade_to_float))
    operation.L_op = lambda inputs, outputs, gradients: [slope * gradients[0]]
    return operation


def clipped(x):
    return grad_clip(x, -1, 1)


@pytest.mark.parametrize("make, expected", [
    pytest.param(lambda x: 5 * grad_scale(x, 1.) + 7 * grad_scale(x, -.5), 5 - 3.5,
                 id="factors"),
    pytest.param(lambda x: grad_clip(x, -1, 1)**2 + grad_clip(x, -100, 100)**2,
                 np.minimum(2 * VALUE, 1) + 2 * VALUE, id="other limits"),
    pytest.param(lambda x: 5 * clipped(x) + 7 * clipped(x), 2, id="equal limits"),
    pytest.param(lambda x: 5 * clipped(T.exp(x)) + 7 * clipped(T.exp(x)), 2 * EXP,
                 id="clipped below another operation"),
    pytest.param(lambda x: 5 * T.exp(clipped(x)) + 7 * T.exp(clipped(x)), 2,
                 id="clipped above another operation"),
    pytest.param(lambda x: T.exp(zero_grad(x)) + T.exp(disconnected_grad(x)) + T.exp(x), EXP,
                 id="zero and disconnected"),
    pytest.param(lambda x: 5 * OfItsOwn(lambda g: 2 * g)(x) + 7 * OfItsOwn(lambda g: 3 * g)(x), 31,
                 id="an operation of the program's own"),
    pytest.param(lambda x: 5 * OfItsOwn(T.sqr)(x) + 7 * OfItsOwn(T.sqr)(x), 25 + 49,
                 id="not linear in what comes back"),
    pytest.param(lambda x: 5 * elementwise_with(2.)(x) + 7 * elementwise_with(3.)(x), 31,
                 id="elementwise, of the program's own"),
    pytest.param(lambda x: with_its_own_gradient(2)(x) + with_its_own_gradient(3)(x), 5,
                 id="a gradient that one object has been given"),
])
def test_what_is_derived_as_it_is_written(x, make, expected):
    """Operations that compare as equal but have different gradients."""
    assert_gradient(expected * np.ones((3, 3)), T.sum(make(x)), x)


def clipping(function):
    """Return a function of the program that calls one of Theano's and has its name."""
    return functools.wraps(function)(lambda self, inputs, *others: [
        T.clip(gradient, -1, 1) for gradient in function(self, inputs, *others)])


@pytest.mark.parametrize("owner, name", [
    pytest.param(T.Elemwise, "L_op", id="the gradient of a class"),
    pytest.param(T.Elemwise, "_bgrad", id="what that calls"),
])
def test_a_gradient_of_theanos_that_the_program_has_replaced(x, monkeypatch, owner, name):
    monkeypatch.setattr(owner, name, clipping(getattr(owner, name)))
    both = theano.grad(T.sum(T.exp(x)) * 5 + T.sum(T.exp(x)) * 7, x)
    each = theano.grad(T.sum(T.exp(x)) * 5, x) + theano.grad(T.sum(T.exp(x)) * 7, x)
    np.testing.assert_allclose(both.eval(), each.eval())
    np.testing.assert_allclose(both.eval(), 2)


def test_rows_taken_with_sparse_and_with_dense_gradients(x):
    """AdvancedSubtensor1 does not compare `sparse_grad`, nor Prod `no_zeros_in_input`."""
    with_zero = theano.shared(np.array([0., 2, 3]))
    loss = T.prod(with_zero) + T.prod(T.exp(with_zero), no_zeros_in_input=True)
    assert_gradient(np.array([6, 0, 0]) + np.exp(5), loss, with_zero)
    rows = theano.sparse_grad(x[[0, 1]])
    both = T.sum(rows * x[[0, 1]])
    assert_gradient(2 * VALUE * [[1], [1], [0]], both, x)


@pytest.mark.parametrize("structured", [(True, False), (False, True)])
def test_gradients_of_what_is_stored(structured):
    """`DenseFromSparse` does not compare the attribute that its gradient uses."""
    import scipy.sparse
    import theano.sparse
    from theano.sparse.basic import DenseFromSparse
    s = theano.sparse.csc_matrix(dtype="float64")
    factors = dict(zip(structured, (2, 5)))
    loss = sum(factor * DenseFromSparse(how)(s).sum() for how, factor in factors.items())
    gradient = theano.grad(loss, s)
    if hasattr(gradient.type, "format"):
        gradient = theano.sparse.dense_from_sparse(gradient)
    stored = scipy.sparse.csc_matrix(np.diag([1., 2, 3]))
    expected = np.full((3, 3), float(factors[False])) + factors[True] * np.eye(3)
    np.testing.assert_allclose(gradient.eval({s: stored}), expected)


def test_gradient_clipping_of_a_recurrent_network_that_is_written_twice():
    """The gradient is clipped separately for each call of `get_output`."""
    rng = np.random.RandomState(0)
    lasagne.random.set_rng(np.random.RandomState(1))
    layer = lasagne.layers.RecurrentLayer(lasagne.layers.InputLayer((2, 3, 4)), 3,
                                          grad_clipping=0.1)
    x = T.tensor3()
    first, second = (lasagne.layers.get_output(layer, x) for _ in range(2))
    parameter = layer.hidden_to_hidden.W
    both = theano.grad(T.sum(5 * first + 7 * second), parameter)
    each = theano.grad(T.sum(5 * first), parameter) + theano.grad(T.sum(7 * second), parameter)
    value, expected = theano.function([x], [both, each])(rng.randn(2, 3, 4).astype("float32"))
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
