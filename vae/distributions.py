"""The two distributions of the seminar, with the interface of ``tensorflow_probability``.

``log_prob`` returns a vector with one natural logarithm (in nats) for each
element of the batch. ``sample`` returns a batch of values.
"""

import lasagne
import numpy as np
import theano
import theano.tensor as T
from theano.sandbox.rng_mrg import MRG_RandomStreams as RandomStreams

from vae.language import _

__all__ = ["BinaryVector", "MultivariateNormalDiag", "as_tensor"]


def as_tensor(name, value, ndim):
    """Return an argument as a symbolic tensor with the right number of dimensions.

    Parameters
    ----------
    name : str
        What the argument is called, for the error message.
    value : Theano variable, numpy.ndarray or number
        The argument. What is not symbolic yet becomes a constant of
        ``theano.config.floatX``.
    ndim : int
        The number of dimensions it must have.

    Returns
    -------
    Theano variable
        `value` with `ndim` dimensions.

    Raises
    ------
    TypeError
        If `value` is missing (None), a Lasagne layer, or not a tensor.
    ValueError
        If `value` has another number of dimensions.
    """
    needed = _("нужен тензор с числом измерений {ndim}").format(ndim=ndim)
    if value is None:
        raise TypeError(_("{name}: ничего не передано, {needed}.").format(name=name, needed=needed))
    if isinstance(value, lasagne.layers.Layer):
        raise TypeError(_("{name}: передан слой Lasagne, а {needed}. Тензор на выходе слоя "
                          "даёт lasagne.layers.get_output(слой).").format(name=name, needed=needed))
    if not isinstance(value, theano.Variable):
        try:
            value = np.asarray(value, dtype=theano.config.floatX)
        except (TypeError, ValueError):
            raise TypeError(_("{name}: передано {value!r}, а {needed}.").format(
                                name=name, value=value, needed=needed)) from None
    tensor = T.as_tensor_variable(value)
    if tensor.ndim != ndim:
        raise ValueError(_("{name}: у переданного тензора измерений {ndim}, а {needed}.").format(
                             name=name, ndim=tensor.ndim, needed=needed))
    return tensor


class BinaryVector():
    """Independent Bernoulli distributions of an image's pixels.

    Parameters
    ----------
    logits : Theano tensor, shape (batch, channels, height, width)
        Log-odds of each pixel being 1; for MNIST (batch, 1, 28, 28).
    rng : MRG_RandomStreams, optional
        The source of randomness. By default one is seeded from
        ``lasagne.random.get_rng()``.

    Raises
    ------
    TypeError, ValueError
        If `logits` is missing or a layer, or does not have 4 dimensions.
    """

    def __init__(self, logits, rng=None):
        self.rng = rng if rng else RandomStreams(lasagne.random.get_rng().randint(1, 2147462579))
        self.logits = as_tensor('logits', logits, ndim=4)

    def log_prob(self, x):
        """Return log p(x), in nats.

        It is x log p + (1 - x) log(1 - p) with p = sigmoid(logits), written
        with softplus, which neither overflows nor takes the logarithm of a
        rounded 0.

        Parameters
        ----------
        x : Theano tensor, shape (batch, channels, height, width)
            Pixels, 0 or 1.

        Returns
        -------
        Theano tensor, shape (batch,)
            The logarithm of a probability for each image.
        """
        x = as_tensor('x', x, ndim=4)
        # возвращает вектор логарифмов вероятностей, по одному для каждого объекта в батче
        pixelwise_log_probs = (
            x * (self.logits - T.nnet.softplus(self.logits))
            - (1 - x) * T.nnet.softplus(self.logits)
        )
        return T.sum(pixelwise_log_probs, axis=(1, 2, 3))

    def sample(self):
        """Return a batch of binary images.

        Returns
        -------
        Theano tensor, shape (batch, channels, height, width)
            Pixels 0. and 1., of the type of the logits.
        """
        shape = self.logits.shape
        ones = T.nnet.sigmoid(self.logits) >= self.rng.uniform(shape)
        return T.cast(ones, self.logits.dtype)


class MultivariateNormalDiag():
    """Normal distribution with a diagonal covariance matrix.

    Parameters
    ----------
    loc : Theano tensor, shape (batch, dim)
        Means.
    scale : Theano tensor, shape (batch, dim)
        Standard deviations, positive.
    rng : MRG_RandomStreams, optional
        The source of randomness. By default one is seeded from
        ``lasagne.random.get_rng()``.

    Raises
    ------
    TypeError, ValueError
        If `loc` or `scale` is missing or a layer, or does not have 2 dimensions.
    """

    def __init__(self, loc=None, scale=None, rng=None):
        self.rng = rng if rng else RandomStreams(lasagne.random.get_rng().randint(1, 2147462579))
        self.loc = as_tensor('loc', loc, ndim=2)
        self.scale = as_tensor('scale', scale, ndim=2)

    def log_prob(self, z):
        """Return the logarithm of the density at z, in nats.

        Parameters
        ----------
        z : Theano tensor, shape (batch, dim)
            Points.

        Returns
        -------
        Theano tensor, shape (batch,)
            The logarithm of a density for each point.
        """
        z = as_tensor('z', z, ndim=2)
        # T.log, а не np.log: число типа np.float64 сделало бы float64 и весь результат
        normalization_constant = (
            - 0.5 * T.log(2 * np.pi)
            - T.log(self.scale)
        )
        square_term = -0.5 * ((z - self.loc) / self.scale) ** 2
        log_prob_vec = normalization_constant + square_term
        return T.sum(log_prob_vec, axis=1)

    def sample(self):
        """Return a sample through which gradients reach `loc` and `scale`.

        The reparameterisation of Kingma and Welling (2014), "Auto-Encoding
        Variational Bayes", section 2.4.

        Returns
        -------
        Theano tensor, shape (batch, dim)
            One point for each row of the parameters.
        """
        ### BEGIN SOLUTION
        # форма суммы: loc или scale могут быть общими для батча, а шум у каждого объекта свой
        eps = self.rng.normal((self.loc + self.scale).shape)
        z = self.loc + self.scale * eps
        ### END SOLUTION
        return z
