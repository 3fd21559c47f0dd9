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

pytestmark = pytest.mark.process


def tagged(notebook, tag):
    cell, = (cell for cell in notebook.cells if tag in cell.metadata.get("tags", []))
    return cell


@pytest.fixture
def names():
    """What the notebook defines up to its optional sections, which train nothing here."""
    x, z_in = T.tensor4(), T.matrix()
    mean, scale = vae_encoder_mlp(x)
    qz_x = MultivariateNormalDiag(*lasagne.layers.get_output([mean, scale]))
    z = qz_x.sample()
    logits = vae_decoder_mlp(z)
    px_z = BinaryVector(lasagne.layers.get_output(logits))
    names = dict(np=np, theano=theano, T=T, lasagne=lasagne, vae_encoder_mlp=vae_encoder_mlp,
                 vae_decoder_mlp=vae_decoder_mlp, MultivariateNormalDiag=MultivariateNormalDiag,
                 iterate_minibatches=utils.iterate_minibatches, HIDDEN_DIM=2, BATCH_SIZE=20,
                 X_train=np.full((100, 1, 28, 28), 0.5), input_x=x, input_z=z_in, qz_x=qz_x, z=z,
                 px_z=px_z, networks=[mean, scale, logits])
    names["params"] = lasagne.layers.get_all_params(names["networks"])
    for tag in ("autoencoder", "other-bounds"):
        exec(tagged(build.student(), tag).source, names)
    return names


def values_of(names):
    return [parameter.get_value() for parameter in names["params"]]


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
    images = np.zeros((3, 1, 28, 28), theano.config.floatX)
    images[1], images[2, :, :14] = 1, 1
    mean, scale = names["qz_x"].loc, names["qz_x"].scale
    kl = 0.5 * T.sum(mean ** 2 + scale ** 2 - 1 - 2 * T.log(scale), axis=1)
    log_p, minus_kl, kl = theano.function(
        [names["input_x"]], [*names["log_terms"](2000), kl])(images)
    assert log_p.shape == minus_kl.shape == (3, 2000)
    standard_errors = minus_kl.std(axis=1) / np.sqrt(2000)
    assert np.all(np.abs(minus_kl.mean(axis=1) + kl) < 5 * standard_errors)
    assert np.ptp(kl) > 5 * standard_errors.max() and np.all(np.ptp(log_p, axis=1) > 0)
    one = theano.function([names["input_x"]], names["px_z"].log_prob(names["input_x"]))(images)
    assert np.all((log_p.min(axis=1) < one) & (one < log_p.max(axis=1)))


def test_training_changes_weights_and_gives_them_back(names):
    before = values_of(names)
    objective = -T.mean(names["px_z"].log_prob(names["input_x"]))
    with names["fresh_weights"]():
        fresh = values_of(names)
        names["fit"](objective, n_images=100)
        trained = values_of(names)
    for new, old in [(fresh, before), (trained, fresh)]:
        assert not any(np.array_equal(*pair) for pair in zip(new[::2], old[::2]))  # not the biases
    with pytest.raises(KeyboardInterrupt), names["fresh_weights"]():
        raise KeyboardInterrupt
    for pair in zip(values_of(names), before):
        np.testing.assert_array_equal(*pair)


def test_an_autoencoder_needs_no_scale(names):
    """Its loss does not depend on some parameters, and they are not trained."""
    before = values_of(names)
    names["fit"](-T.mean(theano.clone(names["px_z"].log_prob(names["input_x"]),
                                      replace={names["z"]: names["qz_x"].loc})), n_images=100)
    changed = [not np.array_equal(*pair) for pair in zip(values_of(names), before)]
    by_name = dict(zip([parameter.name for parameter in names["params"]], changed))
    assert not by_name["e_scale.W"] and by_name["e_loc.W"] and by_name["d_out.W"]


def test_samples_of_several_decoders():
    figure = utils.plot_samples({"A": np.full((5, 1, 28, 28), 0.5), "B": np.ones((5, 1, 28, 28))})
    ax, = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["A", "B"]
    shown = ax.images[0].get_array()
    assert shown.shape == (56, 140) and np.all(shown[:28] == 0.5) and np.all(shown[28:] == 1)
    assert figure.alt.endswith("A, B")


def test_samples_of_another_shape_are_named():
    with pytest.raises(ValueError, match=r"Got samples\['B'\] of shape \(14, 784\), expected"):
        utils.plot_samples({"A": np.zeros((14, 1, 28, 28)), "B": np.zeros((14, 784))})


def test_the_hidden_space_of_a_named_model():
    images = np.random.RandomState(0).rand(3, 1, 28, 28)
    figure = utils.plot_hidden_space(images, lambda x: x[:, 0, 0, :2], name="IWAE")
    assert figure.axes[0].get_title().startswith("IWAE\n") and figure.alt.startswith("IWAE\n")
