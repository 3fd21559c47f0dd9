"""The encoder and the decoder: multilayer perceptrons of Lasagne layers."""

import lasagne
import theano.tensor as T

__all__ = ["HIDDEN_DIM", "vae_encoder_mlp", "vae_decoder_mlp"]

#: Dimension of the code z; two, so that codes can be drawn.
HIDDEN_DIM = 2


def vae_encoder_mlp(input_x, hidden_dim=HIDDEN_DIM):
    """Build the network of q(z | x): 784-256-128 and two heads.

    Parameters
    ----------
    input_x : Theano tensor, shape (batch, 1, 28, 28)
        Images.
    hidden_dim : int, optional
        Dimension of the code.

    Returns
    -------
    l_out_loc : lasagne.layers.Layer, output shape (batch, hidden_dim)
        Means: any numbers, hence no nonlinearity.
    l_out_scale : lasagne.layers.Layer, output shape (batch, hidden_dim)
        Standard deviations: positive, hence softplus.
    """
    l_in = lasagne.layers.InputLayer(shape=(None, 1, 28, 28),
                                     input_var=input_x)
    ### BEGIN SOLUTION
    l_hid1 = lasagne.layers.DenseLayer(
            l_in, num_units=256,
            nonlinearity=lasagne.nonlinearities.rectify,
            name='e_hid1')
    l_hid2 = lasagne.layers.DenseLayer(
            l_hid1, num_units=128,
            nonlinearity=lasagne.nonlinearities.rectify,
            name='e_hid2')
    # среднее — любое число, стандартное отклонение — положительное
    l_out_loc = lasagne.layers.DenseLayer(
            l_hid2, num_units=hidden_dim,
            nonlinearity=None,
            name='e_loc')
    l_out_scale = lasagne.layers.DenseLayer(
            l_hid2, num_units=hidden_dim,
            nonlinearity=T.nnet.softplus,
            name='e_scale')
    ### END SOLUTION
    return l_out_loc, l_out_scale


def vae_decoder_mlp(input_z, hidden_dim=HIDDEN_DIM):
    """Build the network of p(x | z): 64-128-784.

    Parameters
    ----------
    input_z : Theano tensor, shape (batch, hidden_dim)
        Codes.
    hidden_dim : int, optional
        Dimension of the code.

    Returns
    -------
    lasagne.layers.Layer, output shape (batch, 1, 28, 28)
        Logits of the pixels.
    """
    l_in = lasagne.layers.InputLayer(shape=(None, hidden_dim),
                                     input_var=input_z)
    l_hid1 = lasagne.layers.DenseLayer(
            l_in, num_units=64,
            nonlinearity=lasagne.nonlinearities.rectify,
            W=lasagne.init.GlorotUniform(),
            name='d_hid1')
    l_hid2 = lasagne.layers.DenseLayer(
            l_hid1, num_units=128,
            nonlinearity=lasagne.nonlinearities.rectify,
            name='d_hid2')
    l_out = lasagne.layers.DenseLayer(
            l_hid2, num_units=28 ** 2,
            nonlinearity=None,
            name='d_out')
    l_out = lasagne.layers.ReshapeLayer(l_out, shape=(-1, 1, 28, 28))
    return l_out
