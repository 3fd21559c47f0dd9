"""Calls of compiled functions: what Theano promises of them, by its own method and without it."""

import pickle
import weakref

import vae  # noqa: F401  before Theano

import numpy as np
import pytest
import theano
import theano.tensor as T

X = np.arange(3, dtype="float32")


@pytest.fixture
def state():
    return theano.shared(np.zeros(3, "float32"))


@pytest.fixture(params=["usual", "trusted", "profiled"])
def way(request):
    """What to do to a function before its first call."""
    def prepare(function):
        function.trust_input = request.param == "trusted"
        function.profile = theano.compile.ProfileStats(False) if request.param == "profiled" \
            else False
        return function
    return prepare


def test_results_and_updates(way, state):
    x, y = T.fvectors(2)
    f = way(theano.function([x, y], [x + y + state, x * y], updates=[(state, state + x)]))
    for step in range(3):
        total, product = f(X, 2 * X)
        np.testing.assert_array_equal(total, 3 * X + step * X)
        np.testing.assert_array_equal(product, 2 * X**2)
        np.testing.assert_array_equal(state.get_value(), (step + 1) * X)
    state.set_value(-X)
    np.testing.assert_array_equal(f(X, 2 * X)[0], 2 * X)


@pytest.mark.parametrize("outputs, expected", [
    (lambda x: x + 1, X + 1), (lambda x: [x + 1], [X + 1]), (lambda x: [x, -x], [X, -X]),
    (lambda x: {"a": x, "b": -x}, {"a": X, "b": -X})])
def test_the_form_of_results(way, outputs, expected):
    x = T.fvector()
    value = way(theano.function([x], outputs(x)))(X)
    assert type(value) is type(expected)
    np.testing.assert_equal(value, expected)


def test_no_results(way, state):
    assert not way(theano.function([], updates=[(state, state + 1)]))()
    np.testing.assert_array_equal(state.get_value(), [1, 1, 1])


def test_arguments_by_name_and_those_that_may_be_left_out():
    x, y = T.fvector("x"), T.fscalar("y")
    f = theano.function([x, theano.In(y, value=2)], x * y)
    for value, factor in [(f(X), 2), (f(X, np.float32(3)), 3), (f(X), 2),
                          (f(x=X, y=np.float32(4)), 4), (f(X), 2)]:
        np.testing.assert_array_equal(value, factor * X)
    g = theano.function([x], [x, 2 * x])
    np.testing.assert_array_equal(g(x=X)[1], 2 * X)
    np.testing.assert_array_equal(g(X, output_subset=[1]), [2 * X])


@pytest.mark.parametrize("arguments, told", [
    ([], "Missing required input: x"), ([X], "Missing required input: y"),
    ([X, "text"], "index 1"), ([X[:, None], X], "index 0"),
    ([X.astype("float64") / 3, X], "index 0"), ([X, None], "expected an ndarray|not None")])
def test_wrong_arguments_are_told_and_harm_nothing(arguments, told, state):
    x, y = T.fvector("x"), T.fvector("y")
    f = theano.function([x, y], x + y, updates=[(state, state + 1)])
    for before in range(2):
        with pytest.raises(Exception, match=told) as error:
            f(*arguments)
        assert error.value.__context__ is None or "None" in told
        np.testing.assert_array_equal(f(X, X), 2 * X)
        np.testing.assert_array_equal(state.get_value(), 3 * [before + 1])


def test_an_operation_that_fails_is_named():
    x, y = T.fvectors("x", "y")
    f = theano.function([x, y], T.exp(x) * y)
    for _ in range(2):
        with pytest.raises(ValueError, match="(?s)mis-match.*Apply node that caused the error"):
            f(X, X[:2])
        np.testing.assert_allclose(f(X, X), np.exp(X) * X, rtol=1e-6)


def test_arguments_that_share_memory(state):
    x, y = T.fvectors(2)
    f = theano.function([theano.In(x, mutable=True), y], [x + 1, y * 2])
    own = X.copy()
    for first, second in [(own, own), (own, own[::-1]), (own[:2], own[1:])]:
        value = [array.copy() for array in (first, second)]
        results = f(first, second)
        np.testing.assert_array_equal(results[0], value[0] + 1)
        np.testing.assert_array_equal(results[1], value[1] * 2)


def test_neither_arguments_nor_results_are_held():
    x = T.fvector()
    f = theano.function([x], T.exp(x))
    argument = X.copy()
    references = [weakref.ref(argument), weakref.ref(f(argument))]
    del argument
    assert [one() for one in references] == [None, None]


def test_copies_are_called_alike(state):
    x = T.fvector()
    f = theano.function([x], x + state, updates=[(state, state + 1)])
    f(X)
    other = pickle.loads(pickle.dumps(f))  # with a state of its own
    for step in (1, 2):
        np.testing.assert_array_equal(other(X), X + step)
        np.testing.assert_array_equal(f(X), X + step)
    without, = f.copy(delete_updates=True)(X)
    swapped, = f.copy(swap={state: theano.shared(10 * X)})(X)
    np.testing.assert_array_equal(without, X + 3)
    np.testing.assert_array_equal(swapped, 11 * X)


def test_time_is_counted():
    x = T.fvector()
    f = theano.function([x], x + 1, mode=theano.Mode())
    before = f.maker.mode.call_time
    f(X)
    assert f.maker.mode.call_time > before and f.maker.mode.fn_time > 0
