"""The seminar's variational autoencoder, written for each framework as its users would write it.

Each module has a class ``VAE`` with four methods:

``restart(seed)``
    starts a new training, from weights that depend on the seed only;
``train(images)``
    returns the ELBO of a minibatch of binary images, ``(batch, 1, 28, 28)`` bool, as a scalar of
    the framework, then takes a step of Adam;
``test(images)``
    returns the ELBO without a step;
``finish()``
    waits until everything is computed.

The encoder is 784-width-width/2 with two heads, for the mean and the standard deviation of the
code. The decoder is 2-width/2-width-784, which is the seminar's decoder if width is 128.
"""

import numpy as np

CODE_DIM = 2
N_PIXELS = 28 ** 2
LEARNING_RATE = 1e-3


def glorot_uniform(shapes, seed):
    """Draw weights as Lasagne's layers do by default.

    Parameters
    ----------
    shapes : list of tuple of int
        Shapes of parameters: matrices and filters of convolutions, which are uniform with variance
        2 / (fan-in + fan-out), and biases, which are 0.
    seed : int
        Seed of the generator.

    Returns
    -------
    list of numpy.ndarray
        An array of float32 for each shape.
    """
    rng = np.random.RandomState(seed)
    weights = []
    for shape in shapes:
        bound = np.sqrt(6 / (sum(shape[:2]) * np.prod(shape[2:]))) if len(shape) > 1 else 0
        weights.append(rng.uniform(-bound, bound, size=shape).astype(np.float32))
    return weights
