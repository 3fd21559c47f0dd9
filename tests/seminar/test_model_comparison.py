"""The pictures that compare models, and the numbers of the notebook's optional sections."""

import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from scipy.special import logsumexp

import utils
from tools import build
from vae import BinaryVector, MultivariateNormalDiag, vae_decoder_mlp, vae_encoder_mlp


def tagged(notebook, tag):
    cell, = (cell for cell in notebook.cells if tag in cell.metadata.get("tags", []))
    return cell


@pytest.fixture
def names():
    """What the optional sections define without training."""
    names = dict(np=np, theano=theano, T=T, lasagne=lasagne, BinaryVector=BinaryVector,
                 MultivariateNormalDiag=MultivariateNormalDiag, vae_encoder_mlp=vae_encoder_mlp,
                 vae_decoder_mlp=vae_decoder_mlp, input_x=T.tensor4(), input_z=T.matrix())
    for tag in ("autoencoder", "other-bounds"):
        exec(tagged(build.student(), tag).source, names)
    return names


def test_students_skip_the_optional_sections():
    source = tagged(build.student(), "autoencoder").source
    assert source.startswith("train_more = False")
    assert tagged(build.solution(), "autoencoder").source.startswith("train_more = True")
    assert "\nif train_more:\n" in source
    assert "\nif train_more:\n" in tagged(build.student(), "other-bounds").source


def test_log_mean_exp(names):
    rows = T.matrix()
    values = np.array([[-600., -601, -599], [3, 3, 3]], theano.config.floatX)
    result = names["log_mean_exp"](rows)
    np.testing.assert_allclose(result.eval({rows: values}),
                               logsumexp(values, axis=1) - np.log(3), rtol=1e-5)
    gradient = T.grad(T.sum(result), rows).eval({rows: values})
    np.testing.assert_allclose(gradient, np.exp(values - logsumexp(values, axis=1, keepdims=True)),
                               rtol=1e-4)


def test_log_terms(names):
    """The KL divergence agrees with the closed form, and each image keeps its own samples."""
    model = [*vae_encoder_mlp(names["input_x"]), vae_decoder_mlp(names["input_z"])]
    images = (np.random.RandomState(0).rand(3, 1, 28, 28) < 0.5).astype(theano.config.floatX)
    images[1] = 0
    mean, scale = lasagne.layers.get_output(model[:2])
    kl = 0.5 * T.sum(mean ** 2 + scale ** 2 - 1 - 2 * T.log(scale), axis=1)
    log_p, minus_kl, kl = theano.function(
        [names["input_x"]], [*names["log_terms"](model, 2000), kl])(images)
    assert log_p.shape == minus_kl.shape == (3, 2000)
    np.testing.assert_allclose(-minus_kl.mean(axis=1), kl, atol=0.1)
    assert np.ptp(kl) > 0.001 and np.all(np.ptp(log_p, axis=1) > 0)
    assert np.all(log_p < 0)


def test_samples_of_several_decoders():
    seen = []

    def decode(z):
        seen.append(z)
        return np.full((len(z), 1, 28, 28), len(seen) / 2)

    np.random.seed(1)
    figure = utils.plot_samples({"A": decode, "B": decode}, n_images=5)
    expected = np.random.RandomState(1).standard_normal((5, 2)).astype(np.float32)
    np.testing.assert_array_equal(seen, [expected, expected])
    ax, = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["A", "B"]
    shown = ax.images[0].get_array()
    assert shown.shape == (56, 140) and np.all(shown[:28] == 0.5) and np.all(shown[28:] == 1)
    assert figure.alt.endswith("A, B")


def test_a_decoder_of_another_shape_is_named():
    with pytest.raises(ValueError, match=r"Got decoders\['B'\]\(z\) of shape \(14, 784\), expected"):
        utils.plot_samples({"A": lambda z: np.zeros((14, 1, 28, 28)),
                            "B": lambda z: np.zeros((14, 784))})


def test_the_hidden_space_of_a_named_model():
    images = np.random.RandomState(0).rand(3, 1, 28, 28)
    figure = utils.plot_hidden_space(images, lambda x: x[:, 0, 0, :2], name="IWAE")
    assert figure.axes[0].get_title().startswith("IWAE\n") and figure.alt.startswith("IWAE\n")
