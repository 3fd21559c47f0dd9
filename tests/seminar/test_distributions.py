"""Densities against SciPy, samples against distributions, gradients against differences."""

import os
import subprocess
import sys

import lasagne
import numpy as np
import pytest
import scipy.stats
import theano
import theano.tensor as T
from scipy.special import expit, log_expit
from theano.sandbox.rng_mrg import MRG_RandomStreams

from vae import BinaryVector, MultivariateNormalDiag, vae_encoder_mlp


@pytest.fixture(scope="module")
def normal():
    """A compiled function: log_prob(z) and its gradients in z, loc and scale, in float32."""
    z, loc, scale = T.matrices("z", "loc", "scale")
    log_prob = MultivariateNormalDiag(loc, scale).log_prob(z)
    return theano.function([z, loc, scale],
                           [log_prob, *T.grad(T.sum(log_prob), [z, loc, scale])])


@pytest.fixture(scope="module")
def binary():
    """A compiled function: log_prob(x) and its gradient in the logits, in float32."""
    x, logits = T.tensor4s("x", "logits")
    log_prob = BinaryVector(logits).log_prob(x)
    return theano.function([x, logits], [log_prob, T.grad(T.sum(log_prob), logits)])


def test_float32_goes_in_and_comes_out(normal, binary):
    point, image = np.ones((3, 2), "float32"), np.ones((3, 1, 4, 4), "float32")
    for result in [*normal(point, point, point), *binary(image, image)]:
        assert result.dtype == "float32"


@pytest.mark.parametrize("dim", [1, 2, 50])
def test_normal_density(normal, dim):
    random = np.random.RandomState(dim)
    z, loc = random.normal(0, 3, (2, 100, dim)).astype("float32")
    scale = random.uniform(0.1, 5, (100, dim)).astype("float32")
    expected = [scipy.stats.multivariate_normal.logpdf(
        z[i].astype(float), loc[i].astype(float), np.diag(scale[i].astype(float) ** 2))
        for i in range(100)]
    log_prob = normal(z, loc, scale)[0]
    assert log_prob.shape == (100,)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1., 1e3, 1e6])
def test_normal_density_and_gradients_at_extreme_scales(normal, scale):
    random = np.random.RandomState(0)
    scale = np.full((50, 2), scale, "float32")
    loc = random.normal(size=(50, 2)).astype("float32")
    z = (loc + random.normal(size=(50, 2)) * scale).astype("float32")
    log_prob, d_z, d_loc, d_scale = normal(z, loc, scale)
    z, loc, scale = (value.astype(float) for value in (z, loc, scale))
    eps = (z - loc) / scale
    np.testing.assert_allclose(log_prob, scipy.stats.norm.logpdf(z, loc, scale).sum(axis=1),
                               rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(d_z, -eps / scale, rtol=1e-5)
    np.testing.assert_allclose(d_loc, eps / scale, rtol=1e-5)
    np.testing.assert_allclose(d_scale, (eps ** 2 - 1) / scale, rtol=1e-4, atol=1e-5 / scale.min())


def test_normal_density_far_from_the_mean_is_finite(normal):
    z, loc, scale = (np.array([[a, b]], "float32") for a, b in [(1e3, -1e3), (0, 0), (1e-6, 1e6)])
    results = normal(z, loc, scale)
    assert all(np.isfinite(result).all() for result in results)
    np.testing.assert_allclose(
        results[0], scipy.stats.norm.logpdf(z.astype(float), 0, scale.astype(float)).sum(axis=1),
        rtol=1e-5)


def test_binary_density(binary):
    random = np.random.RandomState(0)
    logits = random.normal(0, 4, (100, 1, 28, 28)).astype("float32")
    x = (random.uniform(size=logits.shape) < 0.5).astype("float32")
    expected = scipy.stats.bernoulli.logpmf(x, expit(logits.astype(float))).sum(axis=(1, 2, 3))
    log_prob, gradient = binary(x, logits)
    assert log_prob.shape == (100,)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, x - expit(logits), atol=1e-5)


@pytest.mark.parametrize("logit", [0., 1e-6, 5., 15., 20., 90., 110., 1e3, 1e4])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("x", [0., 1.])
def test_binary_density_at_extreme_logits(binary, logit, sign, x):
    logits = np.full((1, 1, 2, 2), sign * logit, "float32")
    log_prob, gradient = binary(np.full_like(logits, x), logits)
    expected = 4 * log_expit((2 * x - 1) * sign * float(np.float32(logit)))
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5, atol=4e-6)
    np.testing.assert_allclose(gradient, x - expit(sign * logit), atol=1e-6)


def test_binary_images_of_any_size_and_channels(binary):
    logits = np.zeros((2, 3, 5, 4), "float32")
    np.testing.assert_allclose(binary(logits, logits)[0], -60 * np.log(2), rtol=1e-6)


def numerical_gradient(function, value, step=1e-2):
    gradient = np.zeros_like(value, dtype=float)
    for index in np.ndindex(value.shape):
        shift = np.zeros_like(value)
        shift[index] = step
        gradient[index] = (function(value + shift) - function(value - shift)) / (2 * step)
    return gradient


def test_gradients_of_the_densities_numerically(normal, binary):
    random = np.random.RandomState(1)
    z, loc = random.normal(size=(2, 3, 2)).astype("float32")
    scale = random.uniform(0.5, 2, (3, 2)).astype("float32")
    arguments = [z, loc, scale]
    for i, gradient in enumerate(normal(*arguments)[1:]):
        def total(value):
            return normal(*arguments[:i], value, *arguments[i + 1:])[0].astype(float).sum()
        np.testing.assert_allclose(gradient, numerical_gradient(total, arguments[i]),
                                   rtol=2e-2, atol=2e-3)
    x = np.array([0, 1, 1, 0], "float32").reshape(1, 1, 2, 2)
    logits = random.normal(size=x.shape).astype("float32")
    np.testing.assert_allclose(
        binary(x, logits)[1],
        numerical_gradient(lambda value: binary(x, value)[0].astype(float).sum(), logits),
        rtol=2e-2, atol=2e-3)


def test_normal_sample_has_the_distribution():
    n = 50000
    loc = np.tile(np.array([[-3., 0., 100.]], "float32"), (n, 1))
    scale = np.tile(np.array([[0.5, 2., 1e-2]], "float32"), (n, 1))
    a, b = T.matrices("loc", "scale")
    sample = theano.function([a, b], MultivariateNormalDiag(a, b, MRG_RandomStreams(1)).sample())
    z = sample(loc, scale)
    assert z.shape == (n, 3) and z.dtype == "float32"
    eps = (z.astype(float) - loc) / scale
    np.testing.assert_allclose(eps.mean(axis=0), 0, atol=5 / np.sqrt(n))
    np.testing.assert_allclose(eps.std(axis=0), 1, atol=5 / np.sqrt(2 * n))
    np.testing.assert_allclose(np.corrcoef(eps.T), np.eye(3), atol=5 / np.sqrt(n))
    np.testing.assert_allclose(np.corrcoef(eps[:-1, 0], eps[1:, 0])[0, 1], 0, atol=5 / np.sqrt(n))
    for column in eps.T[:2]:  # the third is rounded: 100 + 0.01 eps in float32
        assert scipy.stats.kstest(column, "norm").pvalue > 1e-4
    assert not np.allclose(z, sample(loc, scale))


def test_gradient_reaches_loc_and_scale_through_the_sample():
    loc, scale = T.matrices("loc", "scale")
    z = MultivariateNormalDiag(loc, scale, MRG_RandomStreams(1)).sample()
    total = T.sum(T.sin(z))
    compute = theano.function([loc, scale], [total, *T.grad(total, [loc, scale])],
                              no_default_updates=True)  # the same noise at each call
    values = [np.array([[0.3, -1.], [2., 0.1]], "float32"),
              np.array([[0.5, 1.], [0.2, 2.]], "float32")]
    for i, gradient in enumerate(compute(*values)[1:]):
        def function(value):
            return float(compute(*values[:i], value, *values[i + 1:])[0])
        assert np.abs(gradient).min() > 1e-3
        np.testing.assert_allclose(gradient, numerical_gradient(function, values[i]),
                                   rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("shared", ["loc", "scale"])
def test_each_row_has_its_own_noise_if_the_batch_shares_a_parameter(shared):
    parameters = dict(loc=T.zeros((1000, 2)), scale=T.ones((1000, 2)))
    parameters[shared] = np.ones((1, 2))
    z = MultivariateNormalDiag(**parameters, rng=MRG_RandomStreams(1)).sample().eval()
    assert z.shape == (1000, 2)
    assert len(np.unique(z)) > 1900


def test_binary_sample_has_the_distribution():
    n = 20000
    logits = np.array([-1e4, -2., 0., 1., 1e4], "float32")
    variable = T.tensor4()
    sample = theano.function([variable], BinaryVector(variable, MRG_RandomStreams(1)).sample())
    batch = np.tile(logits.reshape(1, 1, 1, 5), (n, 1, 1, 1))
    x = sample(batch)
    assert x.shape == batch.shape and x.dtype == "float32"
    assert set(np.unique(x)) == {0., 1.}
    p = expit(logits.astype(float))
    np.testing.assert_allclose(x.mean(axis=0).ravel(), p, atol=5 * 0.5 / np.sqrt(n))
    assert (x[..., 0] == 0).all() and (x[..., 4] == 1).all()
    assert not np.array_equal(x, sample(batch))


def a_layer():
    return vae_encoder_mlp(T.tensor4())[0]


@pytest.mark.parametrize("loc, scale, error, words", [
    (None, T.matrix(), TypeError, "loc: ничего не передано, нужен тензор с числом измерений 2"),
    (T.matrix(), None, TypeError, "scale: ничего не передано"),
    (T.vector(), T.matrix(), ValueError, "loc: .* измерений 1, .* 2"),
    (T.matrix(), T.tensor3(), ValueError, "scale: .* измерений 3, .* 2"),
    (0., 1., ValueError, "loc: .* измерений 0"),
    (T.matrix(), a_layer(), TypeError, "scale: передан слой Lasagne.*get_output"),
    ("abc", T.matrix(), TypeError, "loc: передано 'abc', а нужен тензор"),
])
def test_wrong_parameters_of_the_normal(loc, scale, error, words):
    with pytest.raises(error, match=words):
        MultivariateNormalDiag(loc, scale)


@pytest.mark.parametrize("logits, error, words", [
    (None, TypeError, "logits: ничего не передано, нужен тензор с числом измерений 4"),
    (T.matrix(), ValueError, "logits: .* измерений 2, .* 4"),
    (a_layer(), TypeError, "logits: передан слой Lasagne"),
])
def test_wrong_logits(logits, error, words):
    with pytest.raises(error, match=words):
        BinaryVector(logits)


def test_wrong_values():
    with pytest.raises(ValueError, match="x: .* измерений 2, .* 4"):
        BinaryVector(T.tensor4()).log_prob(T.matrix())
    with pytest.raises(ValueError, match="z: .* измерений 1, .* 2"):
        MultivariateNormalDiag(T.matrix(), T.matrix()).log_prob(T.vector())


def samples():
    normal = MultivariateNormalDiag(np.zeros((3, 2)), np.ones((3, 2))).sample()
    binary = BinaryVector(np.zeros((2, 1, 4, 4))).sample()
    return np.concatenate([normal.eval().ravel(), binary.eval().ravel()])


@pytest.mark.parametrize("seed", [np.random.seed, lambda seed: lasagne.random.set_rng(
    np.random.RandomState(seed))], ids=["numpy", "lasagne"])
def test_one_seed_gives_equal_samples(seed):
    seed(1)
    first = samples()
    seed(1)
    np.testing.assert_array_equal(first, samples())
    assert not np.array_equal(first, samples())


@pytest.mark.process
def test_two_processes_with_one_seed_agree():
    program = ("import vae, numpy as np; np.random.seed(3); print(repr(vae.MultivariateNormalDiag("
               "np.zeros((3, 2)), np.ones((3, 2))).sample().eval().tolist()))")
    first, second = (subprocess.run([sys.executable, "-c", program], check=True,
                                    stdout=subprocess.PIPE).stdout for _ in range(2))
    assert first == second and b"[[" in first


@pytest.mark.process
def test_float64_on_request():
    program = """
import vae, numpy as np, scipy.stats, theano, theano.tensor as T
z, loc, scale = T.matrices("z", "loc", "scale")
density = theano.function([z, loc, scale], vae.MultivariateNormalDiag(loc, scale).log_prob(z))
random = np.random.RandomState(0)
(z, loc), scale = random.normal(size=(2, 100, 2)), random.gamma(1, size=(100, 2))
result = density(z, loc, scale)
assert result.dtype == "float64"
np.testing.assert_allclose(result, scipy.stats.norm.logpdf(z, loc, scale).sum(axis=1), rtol=1e-12)
"""
    subprocess.run([sys.executable, "-c", program], check=True,
                   env={**os.environ, "THEANO_FLAGS": "floatX=float64"})
