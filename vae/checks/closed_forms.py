"""Densities and KL divergences in NumPy, in float64, and a comparison up to rounding.

All logarithms are natural, so log-densities and KL divergences are in nats.
"""

import numpy as np

LOG_2PI = np.log(2 * np.pi)


def close(value, expected, tolerance=1e-4):
    """Return whether two arrays have the same shape and are equal up to float32 rounding.

    Parameters
    ----------
    value, expected : array_like
    tolerance : float
        Both the absolute and the relative tolerance.

    Returns
    -------
    bool
    """
    return (np.shape(value) == np.shape(expected)
            and np.allclose(value, expected, rtol=tolerance, atol=tolerance))


def normal_log_prob(z, loc, scale):
    """Return log N(z; loc, diag(scale²)) in nats, summed over the last axis.

    Parameters
    ----------
    z, loc, scale : array_like, shapes that broadcast to (..., dim)

    Returns
    -------
    numpy.ndarray, shape (...,)
    """
    return np.sum(-0.5 * LOG_2PI - np.log(scale) - 0.5 * ((z - loc) / scale) ** 2, axis=-1)


def bernoulli_log_prob(x, logits):
    """Return log p(x) of independent Bernoulli pixels in nats, summed over an image.

    Parameters
    ----------
    x, logits : array_like, shape (..., 1, 28, 28)

    Returns
    -------
    numpy.ndarray, shape (...,)
    """
    logits = np.asarray(logits, dtype=float)
    return np.sum(x * logits - np.logaddexp(0, logits), axis=(-3, -2, -1))


def kl_to_standard_normal(loc, scale):
    """Return KL(N(loc, diag(scale²)) || N(0, I)) in nats: Kingma and Welling (2014), appendix B.

    Parameters
    ----------
    loc, scale : numpy.ndarray, shape (..., dim)

    Returns
    -------
    numpy.ndarray, shape (...,)
    """
    return 0.5 * np.sum(loc ** 2 + scale ** 2 - 1 - 2 * np.log(scale), axis=-1)
