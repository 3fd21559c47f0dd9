"""Densities and KL divergences in NumPy, float64, and the comparison with them."""

import numpy as np

LOG_2PI = np.log(2 * np.pi)


def close(value, expected, tolerance=1e-4):
    """Equal up to float32 rounding, relative to the size of what was summed."""
    return (np.shape(value) == np.shape(expected)
            and np.allclose(value, expected, rtol=tolerance, atol=tolerance))


def normal_log_prob(z, loc, scale):
    return np.sum(-0.5 * LOG_2PI - np.log(scale) - 0.5 * ((z - loc) / scale) ** 2, axis=-1)


def bernoulli_log_prob(x, logits):
    logits = np.asarray(logits, dtype=float)
    return np.sum(x * logits - np.logaddexp(0, logits), axis=(-3, -2, -1))


def kl_to_standard_normal(loc, scale):
    """KL(N(loc, scale²) || N(0, 1)), nats: Kingma and Welling (2014), appendix B."""
    return 0.5 * np.sum(loc ** 2 + scale ** 2 - 1 - 2 * np.log(scale), axis=-1)
