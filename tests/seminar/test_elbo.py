"""The ELBO, built from the package's classes, against closed forms."""

import numpy as np
import pytest
import scipy.stats
import theano
import theano.tensor as T
from lasagne.layers import get_all_layers, get_all_params, get_output
from scipy.special import log_expit, logsumexp

from vae import BinaryVector, MultivariateNormalDiag, vae_decoder_mlp, vae_encoder_mlp


@pytest.fixture(scope="module")
def model():
    """The networks, compiled functions of them, and the gradients of the ELBO."""
    np.random.seed(0)
    x = T.tensor4()
    heads = vae_encoder_mlp(x)
    qz_x = MultivariateNormalDiag(*get_output(heads))
    z = qz_x.sample()
    l_logits = vae_decoder_mlp(z)
    px_z = BinaryVector(get_output(l_logits))
    pz = MultivariateNormalDiag(T.zeros_like(z), T.ones_like(z))
    elbo = px_z.log_prob(x) + pz.log_prob(z) - qz_x.log_prob(z)
    codes = T.matrix()
    return dict(
        elbo=theano.function([x], [elbo, qz_x.loc, qz_x.scale]),
        logits=theano.function([codes], get_output(l_logits, codes)),
        heads=heads, output=get_all_layers(l_logits)[-2],
        gradients=T.grad(T.mean(elbo), get_all_params([*heads, l_logits], trainable=True)))


@pytest.fixture
def images():
    random = np.random.RandomState(1)
    return (random.uniform(size=(10, 1, 28, 28)) < 0.2).astype("float32")


def with_values(shared, value):
    shared.set_value(np.broadcast_to(value, shared.get_value().shape).astype("float32"))


def test_closed_form_when_the_decoder_ignores_the_code(model, images):
    """Then E[ELBO] = log p(x) - KL(q || N(0, 1)), and both terms are known."""
    logits = np.random.RandomState(2).normal(size=784).astype("float32")
    with_values(model["output"].W, 0)
    with_values(model["output"].b, logits)
    for head, (w, b) in zip(model["heads"], [(0.05, 0.5), (0.02, 0.3)]):
        with_values(head.W, w)
        with_values(head.b, b)
    n = 1000
    elbo, loc, scale = model["elbo"](np.repeat(images, n, axis=0))
    x = images.reshape(10, 784)
    log_px = (x * log_expit(logits) + (1 - x) * log_expit(-logits)).sum(axis=1)
    loc, scale = loc[::n].astype(float), scale[::n].astype(float)
    kl = (-np.log(scale) + (scale ** 2 + loc ** 2) / 2 - 0.5).sum(axis=1)
    assert kl.min() > 0.1
    elbo = elbo.astype(float).reshape(10, n)
    error = elbo.std(axis=1) / np.sqrt(n)
    assert (np.abs(elbo.mean(axis=1) - (log_px - kl)) < 5 * error + 1e-3).all()


def test_exact_when_the_posterior_is_the_prior(model, images):
    """With q(z|x) = p(z) = p(z|x), the ELBO of each sample is log p(x), without noise."""
    logits = np.full(784, -1.5)
    with_values(model["output"].W, 0)
    with_values(model["output"].b, logits)
    for head, b in zip(model["heads"], [0, np.log(np.e - 1)]):  # softplus of it is 1
        with_values(head.W, 0)
        with_values(head.b, b)
    x = images.reshape(10, 784)
    log_px = (x * log_expit(logits) + (1 - x) * log_expit(-logits)).sum(axis=1)
    np.testing.assert_allclose(model["elbo"](images)[0], log_px, rtol=1e-5)


@pytest.mark.slow
def test_below_the_likelihood_found_on_a_grid(model, images):
    """E[ELBO] <= log p(x), where log p(x) is integrated over z numerically."""
    random = np.random.RandomState(3)
    with_values(model["output"].W, random.normal(0, 0.3, (128, 784)))
    with_values(model["output"].b, -1)
    for head, b in zip(model["heads"], [0.2, 0]):
        with_values(head.b, b)
    quantiles = scipy.stats.norm.ppf((np.arange(100) + 0.5) / 100)
    grid = np.stack(np.meshgrid(quantiles, quantiles), axis=-1).reshape(-1, 2).astype("float32")
    logits = model["logits"](grid).reshape(-1, 1, 784).astype(float)
    x = images.reshape(1, 10, 784)
    log_px_z = (x * log_expit(logits) + (1 - x) * log_expit(-logits)).sum(axis=2)
    log_px = logsumexp(log_px_z, axis=0) - np.log(len(grid))
    n = 1000
    elbo = model["elbo"](np.repeat(images, n, axis=0))[0].astype(float).reshape(10, n)
    assert (elbo.mean(axis=1) < log_px).all()
    assert elbo.std() > 0


def test_every_parameter_has_a_gradient(model):
    assert len(model["gradients"]) == 14
