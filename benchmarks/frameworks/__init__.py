"""The seminar's variational autoencoder, written for each framework as its users would write it.

Some modules also have three classifiers: ``MLP``, ``CNN`` and ``LSTM``. The MLP and the CNN are
those of Lasagne's tutorial on MNIST. All frameworks start from the same weights.

Each module has a class ``VAE`` with four methods:

``restart(seed)``
    starts a new training, from weights that depend only on the seed;
``train(images)``
    takes a step of Adam, and returns the ELBO before the step, in nats, as a scalar of the
    framework; the images are a minibatch of binary images, ``(batch, 1, 28, 28)`` bool;
``test(images)``
    returns the ELBO without a step;
``finish()``
    waits until all computations have ended.

The encoder has layers of 784, width and width/2 units, and two heads for the mean and the standard
deviation of the code. The decoder has layers of 2, width/2, width and 784 units. If width is 128,
it is the seminar's decoder.

The ``train`` and ``test`` of a classifier take images, float32, and digits, ``(batch,)`` int32.
They return the cross-entropy in nats. The networks compute equal losses from equal weights, but
dropout draws other numbers in each framework, and Lasagne's Adam adds its epsilon before the bias
correction, so that the losses of the LSTM differ in the third digit after a hundred steps.
"""

import numpy as np

CODE_DIM = 2
N_PIXELS = 28 ** 2
LEARNING_RATE = 1e-3


def glorot_uniform(shapes, seed):
    """Draw weights in the way that Lasagne's layers do by default.

    Parameters
    ----------
    shapes : list of tuple of int
        Shapes of parameters. Matrices and filters of convolutions are drawn from a uniform
        distribution with variance 2 / (fan-in + fan-out). Biases are 0.
    seed : int
        Seed of the generator.

    Returns
    -------
    list of numpy.ndarray
        An array of dtype float32 for each shape.
    """
    rng = np.random.RandomState(seed)
    weights = []
    for shape in shapes:
        bound = np.sqrt(6 / (sum(shape[:2]) * np.prod(shape[2:]))) if len(shape) > 1 else 0
        weights.append(rng.uniform(-bound, bound, size=shape).astype(np.float32))
    return weights


def lstm_weights(n_units, seed):
    """Draw the weights of the class ``LSTM``.

    Parameters
    ----------
    n_units : int
        Number of units.
    seed : int
        Seed of the generator.

    Returns
    -------
    list of numpy.ndarray
        The weights of the inputs, ``(28, 4 * n_units)``, those of the previous output,
        ``(n_units, 4 * n_units)``, and biases, ``(4 * n_units,)``, for the gates in the order
        input, forget, cell, output; then the matrix and the biases of the output layer.
    """
    gate = [(28, n_units), (n_units, n_units), (n_units,)]
    weights = glorot_uniform([*gate * 4, (n_units, 10), (10,)], seed)
    return [np.concatenate(weights[part:12:3], axis=-1) for part in range(3)] + weights[12:]
