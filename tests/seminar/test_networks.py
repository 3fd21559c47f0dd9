"""The layers, shapes and parameters of the encoder and the decoder."""

import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.layers import DenseLayer, get_all_layers, get_all_params, get_output

from vae import HIDDEN_DIM, vae_decoder_mlp, vae_encoder_mlp


def units(layer):
    return [layer.num_units for layer in get_all_layers(layer) if isinstance(layer, DenseLayer)]


def test_encoder_gives_a_mean_and_a_positive_standard_deviation():
    x = T.tensor4()
    l_loc, l_scale = vae_encoder_mlp(x)
    assert l_loc.output_shape == l_scale.output_shape == (None, HIDDEN_DIM)
    assert units(l_loc) == units(l_scale) == [256, 128, 2]
    compute = theano.function([x], get_output([l_loc, l_scale]))
    random = np.random.RandomState(0)
    images = random.uniform(size=(64, 1, 28, 28)).astype("float32")
    for layer in (l_loc, l_scale):
        layer.W.set_value(random.normal(size=(128, 2)).astype("float32"))
    loc, scale = compute(images)
    assert loc.shape == scale.shape == (64, 2)
    assert loc.dtype == scale.dtype == "float32"
    assert (scale > 0).all()
    assert loc.min() < 0 < loc.max() or np.unique(np.sign(loc)).size == 1
    hidden = images.reshape(64, 784)
    for layer in get_all_layers(l_loc)[1:-1]:
        hidden = np.maximum(0, hidden @ layer.W.get_value() + layer.b.get_value())
    np.testing.assert_allclose(loc, hidden @ l_loc.W.get_value(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(scale, np.logaddexp(0, hidden @ l_scale.W.get_value()),
                               rtol=1e-3, atol=1e-4)


def test_encoder_shares_its_hidden_layers():
    heads = vae_encoder_mlp(T.tensor4())
    assert len(get_all_params(heads, trainable=True)) == 8


def test_decoder_is_the_seminars():
    z = T.matrix()
    l_logits = vae_decoder_mlp(z)
    assert units(l_logits) == [64, 128, 784]
    assert [type(layer).__name__ for layer in get_all_layers(l_logits)] == [
        "InputLayer", "DenseLayer", "DenseLayer", "DenseLayer", "ReshapeLayer"]
    assert lasagne.layers.count_params(l_logits) == (2 * 64 + 64) + (64 * 128 + 128) + (
        128 * 784 + 784)
    codes = np.random.RandomState(0).normal(size=(5, 2)).astype("float32")
    logits = theano.function([z], get_output(l_logits))(codes)
    assert logits.shape == (5, 1, 28, 28) and logits.dtype == "float32"
    hidden = codes
    dense = [layer for layer in get_all_layers(l_logits) if isinstance(layer, DenseLayer)]
    for layer in dense[:-1]:
        hidden = np.maximum(0, hidden @ layer.W.get_value() + layer.b.get_value())
    expected = hidden @ dense[-1].W.get_value() + dense[-1].b.get_value()
    np.testing.assert_allclose(logits.reshape(5, 784), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("hidden_dim", [1, 10])
def test_any_dimension_of_the_code(hidden_dim):
    l_loc, l_scale = vae_encoder_mlp(T.tensor4(), hidden_dim=hidden_dim)
    assert l_loc.output_shape == l_scale.output_shape == (None, hidden_dim)
    l_logits = vae_decoder_mlp(get_output(l_loc), hidden_dim=hidden_dim)
    assert get_all_layers(l_logits)[0].shape == (None, hidden_dim)
    assert l_logits.output_shape == (None, 1, 28, 28)


def test_one_seed_gives_equal_weights():
    def weights():
        np.random.seed(5)
        return lasagne.layers.get_all_param_values(vae_encoder_mlp(T.tensor4()))
    for first, second in zip(weights(), weights()):
        np.testing.assert_array_equal(first, second)
