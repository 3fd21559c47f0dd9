"""The seminar's variational autoencoder, written for each framework as its users would write it.

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
