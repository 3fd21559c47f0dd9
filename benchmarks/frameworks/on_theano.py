"""Theano and Lasagne with the patches of this package: the seminar's model and other programs."""

import vae  # must come before Theano

from functools import cached_property

import lasagne
import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import Conv2DLayer, DenseLayer, DropoutLayer, InputLayer, LSTMLayer
from lasagne.layers import MaxPool2DLayer, ReshapeLayer, SliceLayer, get_all_params, get_output

from frameworks import CODE_DIM, LEARNING_RATE, N_PIXELS, glorot_uniform

IMAGES = (None, 1, 28, 28)


class _Model:
    """A network with its compiled functions. A subclass builds the graph.

    Parameters
    ----------
    inputs : list of Theano variable
        The parts of a minibatch.
    trained, tested : Theano variable
        The results of `train` and `test`.
    layers : list of lasagne.layers.Layer
        The output layers of the network.
    updates : callable
        Maps the parameters to the updates of a training step.
    """

    def __init__(self, inputs, trained, tested, layers, updates):
        self._parameters = get_all_params(layers, trainable=True)
        updates = updates(self._parameters)
        self._moments = [shared for shared in updates if shared not in self._parameters]
        self.train = theano.function(inputs, trained, updates=updates)
        self._inputs, self._tested = inputs, tested

    @cached_property
    def test(self):
        return theano.function(self._inputs, self._tested)

    def restart(self, seed):
        shapes = [parameter.get_value().shape for parameter in self._parameters]
        for parameter, value in zip(self._parameters, glorot_uniform(shapes, seed)):
            parameter.set_value(value.astype(parameter.dtype))
        for moment in self._moments:
            moment.set_value(np.zeros_like(moment.get_value()))

    def finish(self):
        """Do nothing: Theano's functions return when they are done."""


class VAE(_Model):
    """The seminar's model, which uses the distributions of the package `vae`."""

    def __init__(self, width):
        images = T.tensor4("images")
        network = DenseLayer(InputLayer(IMAGES, images), width)
        network = DenseLayer(network, width // 2)
        loc = DenseLayer(network, CODE_DIM, nonlinearity=None)
        scale = DenseLayer(network, CODE_DIM, nonlinearity=T.nnet.softplus)
        qz_x = vae.MultivariateNormalDiag(get_output(loc), get_output(scale))

        z = qz_x.sample()
        network = DenseLayer(InputLayer((None, CODE_DIM), z), width // 2)
        network = DenseLayer(network, width)
        logits = DenseLayer(network, N_PIXELS, nonlinearity=None)
        pz = vae.MultivariateNormalDiag(T.zeros_like(z), T.ones_like(z))
        px_z = vae.BinaryVector(get_output(logits).reshape((-1, *IMAGES[1:])))

        elbo = T.mean(px_z.log_prob(images) + pz.log_prob(z) - qz_x.log_prob(z))
        super().__init__(
            [images], elbo, elbo, [loc, scale, logits],
            lambda parameters: lasagne.updates.adam(-elbo, parameters, LEARNING_RATE))


class Functions:
    """Small functions that are compiled one after another, as in the cells of a notebook."""

    def __init__(self, width):
        x = T.fmatrix()
        self._functions = [theano.function([x], result) for result in (
            T.tanh(x) * 2, T.sum(T.exp(x), axis=0), T.dot(x, x.T), T.nnet.softmax(x), x[:, ::2] + 1,
            T.max(abs(x), axis=1))]

    def train(self, images):
        images = images.reshape(len(images), -1).astype("float32")
        return sum(float(np.sum(function(images))) for function in self._functions)

    def finish(self):
        """Do nothing: Theano's functions return when they are done."""


class _Classifier(_Model):
    """A network that returns the probabilities of ten digits, trained with Nesterov momentum."""

    classifies = True

    @staticmethod
    def _updates(loss, parameters):
        return lasagne.updates.nesterov_momentum(loss, parameters, 0.01, 0.9)

    def __init__(self, width):
        images, digits = T.tensor4("images"), T.ivector("digits")
        network = self._hidden_layers(InputLayer(IMAGES, images), width)
        network = DenseLayer(network, 10, nonlinearity=lasagne.nonlinearities.softmax)

        def cross_entropy(deterministic):
            probabilities = get_output(network, deterministic=deterministic)
            return lasagne.objectives.categorical_crossentropy(probabilities, digits).mean()

        loss = cross_entropy(deterministic=False)
        super().__init__(
            [images, digits], loss, cross_entropy(deterministic=True), [network],
            lambda parameters: self._updates(loss, parameters))


class MLP(_Classifier):
    """Layers of 784, width, width and 10 units; dropout of 20 % of pixels, 50 % of each layer."""

    def _hidden_layers(self, network, width):
        for dropped in (0.2, 0.5):
            network = DenseLayer(DropoutLayer(network, dropped), width)
        return DropoutLayer(network, 0.5)


class CNN(_Classifier):
    """Two convolutions of 32 filters (5 x 5) with 2 x 2 pooling; a dense layer with dropout."""

    def _hidden_layers(self, network, width):
        for _ in range(2):
            network = MaxPool2DLayer(Conv2DLayer(network, 32, 5), 2)
        return DropoutLayer(DenseLayer(DropoutLayer(network, 0.5), width), 0.5)


class LSTM(_Classifier):
    """An LSTM without peepholes, whose steps are the rows of an image, trained with Adam."""

    def _hidden_layers(self, network, width):
        rows = ReshapeLayer(network, ([0], 28, 28))
        return SliceLayer(LSTMLayer(rows, width, peepholes=False), -1, axis=1)

    @staticmethod
    def _updates(loss, parameters):
        return lasagne.updates.adam(loss, parameters, LEARNING_RATE)
