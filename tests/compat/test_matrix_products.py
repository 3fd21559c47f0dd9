"""Matrix products with a factor that is mostly zeros, compared with NumPy's products in float64."""

import itertools

import vae  # noqa: F401  before Theano

import numpy as np
import pytest
import theano
import theano.tensor as T

#: Shares of elements that are not zero.
DENSITIES = {"dense": 1., "half": 0.5, "sparse": 0.1, "one": 0.001, "zero": 0.}


def factor(shape, density, seed=0):
    rng = np.random.RandomState(seed)
    return (rng.randn(*shape) * (rng.rand(*shape) < density)).astype("float32")


def assert_product(value, x, y, rest=0.):
    with np.errstate(invalid="ignore"):
        expected = x.astype("float64") @ y.astype("float64") + rest
        size = np.abs(x).astype("float64") @ np.abs(y).astype("float64") + np.abs(rest)
    np.testing.assert_array_equal(np.isnan(value), np.isnan(expected))
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(value[~finite & ~np.isnan(expected)],
                                  expected[~finite & ~np.isnan(expected)])
    assert (np.abs(value - expected)[finite] <= 1e-5 * size[finite]).all()


@pytest.fixture(scope="module")
def dot():
    x, y = T.fmatrices(2)
    return theano.function([x, y], T.dot(x, y))


@pytest.mark.parametrize("density", DENSITIES)
def test_any_shape_and_order(dot, density):
    for rows, columns, width in itertools.product([1, 20, 129], [1, 100, 784], [1, 63, 64, 211]):
        for order, skip in itertools.product("CF", [1, 2]):
            x = factor((rows * skip, columns * skip), DENSITIES[density])
            y = factor((columns, width), 1, seed=1)
            x, y = np.asarray(x, order=order)[::skip, ::skip], np.asarray(y, order=order)
            assert_product(dot(x, y), x, y)


def test_what_is_dense_or_sparse_at_its_beginning_only(dot):
    x, y = factor((200, 300), 0.05), factor((300, 128), 1, seed=1)
    for end, part in itertools.product([slice(None, 60), slice(-60, None)], range(2)):
        mixed = x.copy()
        mixed[(end, slice(None))[::1 if part else -1]] = 1
        assert_product(dot(mixed, y), mixed, y)
        assert_product(dot(mixed.T, y[:200]), mixed.T, y[:200])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_zero_times_what_is_not_finite(dot, value):
    """Also in a row that is multiplied only by zeros."""
    x = factor((20, 784), 0.1)
    x[:, 5] = 0
    for row in (5, 100, 783):
        y = factor((784, 128), 1, seed=1)
        y[row, 7] = value
        assert_product(dot(x, y), x, y)
        gradient = factor((20, 128), 1, seed=2)
        gradient[row % 20, 9] = value
        assert_product(dot(x.T, gradient), x.T, gradient)
    x[3, 4] = value
    y = factor((784, 128), 1, seed=1)
    assert_product(dot(x, y), x, y)


def test_zeros_have_no_sign(dot):
    x = np.zeros((20, 784), "float32")
    x[::2] = -x[::2]
    assert not np.signbit(dot(x, -np.ones((784, 128), "float32"))).any()


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("bad", [0., np.nan])
def test_a_product_added_to_a_matrix(density, bad):
    """In place, as in plain gradient descent."""
    x, y = T.fmatrices(2)
    start = factor((784, 128), 1, seed=2)
    z = theano.shared(start)
    step = theano.function([x, y], T.dot(x.T, y) * 0.5, updates=[(z, z - 0.25 * T.dot(x.T, y))])
    images, gradient = factor((20, 784), DENSITIES[density]), factor((20, 128), 1, seed=1)
    gradient[0, 0] += bad
    assert_product(step(images, gradient), images.T * np.float32(0.5), gradient)
    assert_product(z.get_value(), images.T * np.float32(-0.25), gradient, start)
