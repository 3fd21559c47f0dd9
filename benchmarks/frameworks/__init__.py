"""The seminar's variational autoencoder, written for each framework as its users would write it.

Each module here has a class ``VAE`` with the same four methods:

``restart(seed)``
    start a training anew, from weights that depend on the seed only;
``train(images)``, ``test(images)``
    the ELBO of a minibatch of binary images, ``(batch, 1, 28, 28)`` bool, as a
    scalar of the framework, before a step of Adam or without one;
``finish()``
    wait until all that was asked for is done.

The networks are 784-width-width/2 with two heads for the code's mean and
standard deviation, and 2-width/2-width-784 back; with the seminar's width of
128, its decoder.
"""

import numpy as np

CODE_DIM = 2
N_PIXELS = 28 ** 2
LEARNING_RATE = 1e-3


def glorot_uniform(shapes, seed):
    """Draw the weights that Lasagne's layers have by default.

    Parameters
    ----------
    shapes : list of tuple of int
        Shapes of parameters: matrices and filters of convolutions, which are
        uniform with variance 2 / (fan-in + fan-out), and biases, which are 0.
    seed : int
        Seed.

    Returns
    -------
    list of numpy.ndarray
        One array of float32 for each shape.
    """
    rng = np.random.RandomState(seed)
    weights = []
    for shape in shapes:
        bound = np.sqrt(6 / (sum(shape[:2]) * np.prod(shape[2:]))) if len(shape) > 1 else 0
        weights.append(rng.uniform(-bound, bound, size=shape).astype(np.float32))
    return weights
